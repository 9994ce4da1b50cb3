"""Encodings on both sides of every bound of a message: what is just allowed, and what is just not.

Made from the layouts, and always the same. One field at a time leaves what is allowed, all others stay valid, and a
message of fixed size is padded anew, so that a decoder which forgets one bound accepts something here that it must not.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import attrs

from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.layout import (
    EmptyIff,
    Field,
    Fixed,
    Lengths,
    ListOf,
    Member,
    MessageSize,
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


@attrs.frozen
class Pad:
    """The last field of a message of fixed size: as many zeros as are missing."""

    name: str
    prefix: int  # bytes of its length prefix
    size: int  # of the message

    def zeros(self, start: int) -> int:
        """How many there have to be if the field begins at `start`."""
        return self.size - start - self.prefix

    def again(self, data: bytes, start: int) -> bytes:
        """The message padded anew, its last field beginning at `start`; as it is if no padding makes up its size."""
        zeros = self.zeros(start)
        if start < 0 or not 0 <= zeros < 1 << (8 * self.prefix):
            return data
        return data[:start] + zeros.to_bytes(self.prefix, "big") + bytes(zeros)


def pad_of(cls: type[Any]) -> Pad | None:
    """The padding of a message of fixed size; None for all others."""
    for field in fields_of(cls)[-1:]:
        for bound in field.bounds:
            if isinstance(bound, MessageSize) and bound.exact and isinstance(field.type, Opaque):
                return Pad(field.name, prefix_size(field.type.most), bound.size)
    return None


# Text that is just no text: controls, an overlong form, surrogates, U+110000, half a character, a byte of none.
_CONTROLS = ("00", "1f", "7f", "c280", "c285", "c29f")
_NO_UTF8 = ("c080", "c0af", "e080af", "eda080", "edbfbf", "f08080af", "f4908080", "f5808080", "c3", "e282", "80", "ff")
NO_TEXT = tuple(map(bytes.fromhex, (*_CONTROLS, *_NO_UTF8)))
# Text that just is: the characters next to those, and some that a careless check refuses.
TEXT = tuple(character.encode() for character in " ~\u00a0\u2028\ud7ff\ue000\ufeff\ufffe\uffff\U00010000\U0010ffff")


def edges(cls: type[Any]) -> Iterator[tuple[str, bytes]]:
    """The field that was changed, and the encoding that came of it: some are messages, some must be refused."""
    layout = fields_of(cls)
    pad = pad_of(cls)
    for base in examples(cls):
        whole = encode(base)
        yield from ((cls.__name__, whole), (cls.__name__, whole[:-1]), (cls.__name__, whole + b"\0"))
        starts = [len(encode_before(base, field.name)) for field in layout] + [len(whole)]
        for field, (start, end) in zip(layout, itertools.pairwise(starts), strict=True):
            for changed in changes(field):
                data = whole[:start] + changed + whole[end:]
                if pad is not None and field.name != layout[-1].name:
                    data = pad.again(data, starts[-2] + len(changed) - (end - start))
                yield f"{cls.__name__}.{field.name}", data


def examples(cls: type[Any]) -> Iterator[Any]:
    """Valid messages: the shortest and the longest of each kind, lists as short as they may be."""
    layout = fields_of(cls)
    deciding = {bound.field for field in layout for bound in field.bounds if isinstance(bound, EmptyIff)}
    enums = [bound.enum for f in layout if f.name in deciding for bound in f.bounds if isinstance(bound, Member)]
    names = [field.name for field in layout if field.name in deciding]
    pad = pad_of(cls)
    for longest in (False, True):
        for chosen in itertools.product(*enums):
            values: dict[str, Any] = dict(zip(names, chosen, strict=True))
            for field in layout:
                values.setdefault(field.name, None)
                if field.name not in deciding:
                    values[field.name] = _value(field, values, longest)
            message = cls(**values)
            if pad is not None:
                message = cls(**values | {pad.name: bytes(pad.zeros(len(encode_before(message, pad.name))))})
            yield message


def _value(field: Field, values: dict[str, Any], longest: bool) -> Any:
    match field.type:
        case Uint(size):
            for bound in field.bounds:
                if isinstance(bound, Member):
                    return min(bound.enum)
                if isinstance(bound, Values):
                    return bound.ranges[-1][1 if longest else 0] or bound.ranges[-1][0]
            return (1 << (8 * size)) - 1 if longest else 0
        case Fixed(size):
            return bytes(size)
        case Nested(message):
            return list(examples(message))[longest]
        case ListOf(message, least, _):
            return tuple(list(examples(message))[longest] for _ in range(least))
        case Opaque(least, most) | Utf8(least, most) | Rest(least, most):
            size = most if longest else least
            for bound in field.bounds:
                if isinstance(bound, EmptyIff):
                    size = 0 if values[bound.field] == bound.value else max(size, 1)
            for bound in field.bounds:
                if isinstance(bound, Lengths):
                    size = min(allowed for allowed in bound.allowed if allowed >= size)
            return "x" * size if isinstance(field.type, Utf8) else bytes(size)


def changes(field: Field) -> Iterator[bytes]:
    """Encodings for the place of the field."""
    ends = around(field)
    match field.type:
        case Uint(size):
            yield from (value.to_bytes(size, "big") for value in ends if value < 1 << (8 * size))
        case Fixed(size):
            yield from (bytes(size - 1), bytes(size + 1), b"\xff" * size)
        case Rest():
            yield from map(bytes, ends)
        case ListOf(message):
            element = encode(next(examples(message)))
            yield from (value.to_bytes(2, "big") + value * element for value in ends)
        case Opaque(_, most):
            yield from (_prefixed(bytes(value), most) for value in ends)
            if any(isinstance(bound, Zeros) for bound in field.bounds):
                yield from (_prefixed(b"\1" + bytes(most - 1), most), _prefixed(bytes(most - 1) + b"\1", most))
        case Utf8(_, most):
            yield from (_prefixed(b"x" * value, most) for value in ends)
            yield from (_prefixed(text, most) for text in (*NO_TEXT, *TEXT))
            yield from (_prefixed(b"x" * (most - len(text)) + text, most) for text in (*NO_TEXT, *TEXT))


def _prefixed(body: bytes, most: int) -> bytes:
    size = prefix_size(most)
    return (len(body) & ((1 << (8 * size)) - 1)).to_bytes(size, "big") + body


def around(field: Field) -> tuple[int, ...]:
    """The ends of what is allowed as the field's value, length or count, and their neighbours."""
    match field.type:
        case Uint(size):
            ends = {0, (1 << (8 * size)) - 1}
        case Opaque(least, most) | Utf8(least, most) | Rest(least, most) | ListOf(_, least, most):
            ends = {least, most}
        case _:
            ends = set()
    for bound in field.bounds:
        match bound:
            case Values(ranges):
                ends |= {end for range_ in ranges for end in range_ if end is not None}
            case Member(enum):
                ends |= set(enum)
            case Lengths(allowed):
                ends |= set(allowed)
    return tuple(sorted({value for end in ends for value in (end - 1, end, end + 1) if value >= 0}))
