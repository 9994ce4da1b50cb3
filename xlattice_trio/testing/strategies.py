"""Hypothesis strategies for messages, made from their layouts: valid ones, and their encodings damaged.

Values at the edges of what is allowed come often: the least and greatest integer, the shortest and longest text, lists
that are nearly empty. Long byte strings are a few bytes of choice stretched, so that an example stays small.
"""

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

import attrs
from hypothesis import strategies as st

from xlattice_trio.testing.edges import NO_TEXT, around, pad_of
from xlattice_trio.testing.toolbox import DAMAGE, field_edges, field_names
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.layout import (
    EmptyIff,
    Field,
    Fixed,
    Lengths,
    ListOf,
    Member,
    Nested,
    Opaque,
    Rest,
    Uint,
    Utf8,
    Values,
    Zeros,
    fields_of,
    prefix_size,
)

M = TypeVar("M")

LIST_ELEMENTS = 2  # more than the least number of a list, at most
_LONG = 48  # bytes; longer strings are stretched


# ---- values ------------------------------------------------------------------


def near(least: int, most: int) -> st.SearchStrategy[int]:
    """Integers from `least` to `most`, often one at or next to an end."""
    edges = sorted({least, min(least + 1, most), max(most - 1, least), most})
    return st.sampled_from(edges) | st.integers(least, most)


def byte_strings(size: int) -> st.SearchStrategy[bytes]:
    """Exactly `size` bytes."""
    if size <= _LONG:
        return st.binary(min_size=size, max_size=size)
    stretched = st.binary(max_size=4).map(lambda seed: hashlib.shake_128(seed).digest(size))
    return st.sampled_from((bytes(size), b"\xff" * size)) | stretched


def texts(least: int, most: int) -> st.SearchStrategy[str]:
    """Text of `least` to `most` bytes that the type utf8 allows."""
    return near(least, most).flatmap(_text_of)


def _text_of(size: int) -> st.SearchStrategy[str]:
    """Text of exactly `size` bytes: characters of all lengths, filled up with one-byte ones."""
    characters = st.characters(codec="utf-8", exclude_categories=["Cc"])
    return st.text(characters, max_size=min(size, _LONG)).map(lambda text: _fit(text, size))


def _fit(text: str, size: int) -> str:
    while len(text.encode()) > size:
        text = text[:-1]
    return text + "x" * (size - len(text.encode()))


@st.composite
def messages(draw: st.DrawFn, cls: type[M], elements: int = LIST_ELEMENTS) -> M:
    """A message that `encode` takes. Its lists have at most `elements` more than they need."""
    layout = fields_of(cls)
    values: dict[str, Any] = {}
    # whether a field is empty may hang on a field that comes later in the message
    for field in sorted(layout, key=lambda field: any(isinstance(bound, EmptyIff) for bound in field.bounds)):
        values[field.name] = draw(_values(field, values, elements))
    message = cls(**values)
    pad = pad_of(cls)
    if pad is not None:
        message = cls(**values | {pad.name: bytes(pad.zeros(len(encode_before(message, pad.name))))})
    return message


def _values(field: Field, values: dict[str, Any], elements: int) -> st.SearchStrategy[Any]:
    """What the field may be, given the values of the others that it hangs on."""
    match field.type:
        case Uint(size):
            return _integers(field, size)
        case Fixed(size):
            return byte_strings(size)
        case Nested(message):
            return messages(message, elements)
        case ListOf(message, least, most):
            most = min(least + elements, most)
            return st.lists(messages(message, elements), min_size=least, max_size=most).map(tuple)
        case Utf8(least, most):
            least, most = _emptiness(field, values, least, most)
            return texts(least, most)
        case Opaque(least, most) | Rest(least, most):
            least, most = _emptiness(field, values, least, most)
            if any(isinstance(bound, Zeros) for bound in field.bounds):
                return near(least, most).map(bytes)
            for bound in field.bounds:
                if isinstance(bound, Lengths):
                    sizes = [size for size in bound.allowed if least <= size <= most]
                    return st.sampled_from(sizes).flatmap(byte_strings)
            return near(least, most).flatmap(byte_strings)


def _integers(field: Field, size: int) -> st.SearchStrategy[Any]:
    most = (1 << (8 * size)) - 1
    for bound in field.bounds:
        if isinstance(bound, Member):
            return st.sampled_from(bound.enum)
        if isinstance(bound, Values):
            return st.one_of([near(low, most if high is None else high) for low, high in bound.ranges])
    return near(0, most)


def _emptiness(field: Field, values: dict[str, Any], least: int, most: int) -> tuple[int, int]:
    for bound in field.bounds:
        if isinstance(bound, EmptyIff):
            return (0, 0) if values[bound.field] == bound.value else (max(least, 1), most)
    return least, most


# ---- damage ------------------------------------------------------------------


@attrs.frozen
class Number:
    """A number in an encoded message: an integer field, a length prefix or a count."""

    offset: int
    size: int
    edges: tuple[int, ...]  # values at, and one beyond, the ends of what is allowed
    body: int | None = None  # of a length prefix: the length of the string that follows


def numbers(message: Any) -> list[Number]:
    """All numbers in the encoding of `message`, in their order."""
    found: list[Number] = []
    _walk(message, 0, found)
    return found


def _walk(message: Any, at: int, found: list[Number]) -> int:
    """Collect the numbers of a message that begins at `at`; where it ends."""
    for field in fields_of(type(message)):
        value = getattr(message, field.name)
        match field.type:
            case Uint(size):
                found.append(Number(at, size, around(field)))
                at += size
            case Opaque(_, most) | Utf8(_, most):
                size, body = prefix_size(most), len(value.encode() if isinstance(value, str) else value)
                found.append(Number(at, size, around(field), body))
                at += size + body
            case ListOf():
                found.append(Number(at, 2, around(field)))
                at += 2
                for element in value:
                    at = _walk(element, at, found)
            case Nested():
                at = _walk(value, at, found)
            case Fixed() | Rest():
                at += len(value)
    return at


@st.composite
def damaged(draw: st.DrawFn, cls: type[Any], elements: int = LIST_ELEMENTS) -> bytes:
    """The encoding of a message of `cls` after one to three changes. It may still be the encoding of one."""
    message = draw(messages(cls, elements))
    data = bytearray(encode(message))
    everywhere = numbers(message)
    strings = [number for number in everywhere if number.body is not None]
    kinds = ["flip", "overwrite", "insert", "delete", "truncate", "extend"]
    kinds += ["number"] * bool(everywhere) + ["resize", "text"] * bool(strings)
    for _ in range(draw(st.sampled_from((1, 1, 2, 3)))):
        kind = draw(st.sampled_from(kinds))
        _change(draw, data, kind, everywhere if kind == "number" else strings)
    pad = pad_of(cls)
    if pad is not None and draw(st.booleans()):  # or the size alone would be reason enough to refuse it
        return pad.again(bytes(data), strings[-1].offset + len(data) - pad.size)
    return bytes(data)


def _change(draw: st.DrawFn, data: bytearray, kind: str, among: Sequence[Number]) -> None:
    at = draw(near(0, max(len(data) - 1, 0)))
    match kind:
        case "flip" if data:
            data[at] ^= 1 << draw(st.integers(0, 7))
        case "overwrite":
            some = draw(st.binary(min_size=1, max_size=4))
            data[at : at + len(some)] = some
        case "insert":
            data[at:at] = draw(st.binary(min_size=1, max_size=4))
        case "delete":
            del data[at : at + draw(st.integers(1, 4))]
        case "truncate":
            del data[at:]
        case "extend":
            data += draw(st.binary(min_size=1, max_size=4))
        case "number" | "resize":
            number = draw(st.sampled_from(among))
            value = draw(st.sampled_from(number.edges)) & ((1 << (8 * number.size)) - 1)
            body = number.offset + number.size
            data[number.offset : body] = value.to_bytes(number.size, "big")
            if number.body is not None and kind == "resize":  # the string gets the length that its prefix says
                end = body + number.body
                data[body:end] = data[body:end].ljust(value, b"x")[:value]
        case "text":
            number, some = draw(st.sampled_from(among)), draw(st.sampled_from(NO_TEXT))
            body = number.offset + number.size
            data[body : body + len(some)] = some


# ---- what an attacker may do -------------------------------------------------


def damages(size: int = 4096) -> st.SearchStrategy[tuple[str, int, bytes]]:
    """Arguments of `toolbox.damage`: kind, place, and some bytes. `size` (bytes) is about that of what is damaged."""
    return st.tuples(st.sampled_from(sorted(DAMAGE)), near(0, 8 * size), st.binary(min_size=1, max_size=4))


def field_changes(*classes: type[Any]) -> st.SearchStrategy[tuple[str, bytes]]:
    """A field of one of these messages and an encoding for its place, at one of its bounds or just beyond."""
    return st.sampled_from(field_names(*classes)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(field_edges(name)))
    )
