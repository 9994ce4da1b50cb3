"""Messages to bytes, and bytes to messages, strictly.

`decode` accepts exactly the bytes that `encode` gives: every value has one encoding, and a value out of its bounds, a
wrong length, an unknown enumeration value or a byte left over is an error that names the class, the field and the
offset. Untrusted bytes cause DecodeError and nothing else; nothing is allocated for a length before the bytes that it
announces are there. Spec 1.2, 1.3.
"""

import re
from typing import Any, TypeVar

from xlattice_trio.errors import DecodeError, EncodeError
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

M = TypeVar("M")

# What utf8 excludes: C0 and C1 controls, and DEL between them. [NO-12]
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def encode(message: object) -> bytes:
    """The one encoding of a message. [NO-9] [NO-21]

    Raises EncodeError, naming class and field, if a value is out of its bounds.
    """
    return _encode(message, type(message).__name__)


def encode_before(message: object, field: str) -> bytes:
    """The encoding of the fields before `field`: what a signature at `field` covers.

    Bounds that speak of a later field or of the whole message are left out.
    Raises EncodeError, as `encode`.
    """
    name = type(message).__name__
    layout = fields_of(type(message))
    names = [f.name for f in layout]
    return b"".join(_encode_field(f, getattr(message, f.name), name) for f in layout[: names.index(field)])


def encode_text(text: str, least: int, most: int, what: str) -> bytes:
    """The bytes behind the prefix of a utf8<least..most>, just as `text` has them. [NO-11] [NO-12] [NO-13]

    Raises EncodeError, which calls the text `what`, if there are none.
    """
    try:
        raw = text.encode()
    except UnicodeEncodeError as exc:
        raise EncodeError(f"{what}: {text!r} is not Unicode text: {exc.reason}") from exc
    if _CONTROL.search(text):
        raise EncodeError(f"{what}: {text!r} holds a control character")
    if not least <= len(raw) <= most:
        raise EncodeError(f"{what}: {text!r} has {len(raw)} bytes, {least} to {most} expected")
    return raw


def decode(cls: type[M], data: bytes | bytearray | memoryview) -> M:
    """The message that `data`, whole, is the encoding of. [NO-20]

    Raises DecodeError.
    """
    cursor = _Cursor(bytes(data))
    message: M = _decode(cls, cursor, cls.__name__)
    if cursor.left:  # [NO-16]
        raise DecodeError(cls.__name__, cursor.offset, f"{cursor.left} bytes left over")
    return message


# ---- encoding ----------------------------------------------------------------


def _encode(message: object, where: str) -> bytes:
    layout = fields_of(type(message))
    data = b"".join(_encode_field(f, getattr(message, f.name), where) for f in layout)
    problem = _cross_check(layout, {f.name: getattr(message, f.name) for f in layout}, len(data))
    if problem:
        field, text = problem
        raise EncodeError(f"{where}.{field.name}: {text}")
    return data


def _encode_field(field: Field, value: Any, where: str) -> bytes:
    where = f"{where}.{field.name}"
    match field.type:
        case Uint(size):
            number = _checked(value, int, where)
            if not 0 <= number < 1 << (8 * size):
                raise EncodeError(f"{where}: {number} is not a {field.type}")
            data = number.to_bytes(size, "big")  # [NO-3]
        case Fixed(size):
            data = _checked(value, bytes, where)
            if len(data) != size:  # [NO-4]
                raise EncodeError(f"{where}: {size} bytes expected, {len(data)} given")
        case Opaque(least, most):
            data = _prefixed(_checked(value, bytes, where), least, most, where)
        case Utf8(least, most):
            raw = encode_text(_checked(value, str, where), least, most, where)
            data = len(raw).to_bytes(prefix_size(most), "big") + raw  # [NO-6]
        case Rest(least, most):
            data = _checked(value, bytes, where)
            _check_length(len(data), least, most, where)
        case Nested(message):
            data = _encode(_checked(value, message, where), where)
        case ListOf(message, least, most):
            _check_length(len(value), least, most, where, "elements")
            data = len(value).to_bytes(2, "big") + b"".join(  # [NO-7] [NO-10]
                _encode(_checked(element, message, where), f"{where}[{i}]") for i, element in enumerate(value)
            )
    problem = _check(field, value)
    if problem:
        raise EncodeError(f"{where}: {problem}")
    return data


def _checked(value: Any, cls: type[M], where: str) -> M:
    if not isinstance(value, cls):
        raise EncodeError(f"{where}: {cls.__name__} expected, {type(value).__name__} given")
    return value


def _prefixed(data: bytes, least: int, most: int, where: str) -> bytes:
    _check_length(len(data), least, most, where)
    return len(data).to_bytes(prefix_size(most), "big") + data  # [NO-5]


def _check_length(length: int, least: int, most: int, where: str, unit: str = "bytes") -> None:
    if not least <= length <= most:
        raise EncodeError(f"{where}: {least} to {most} {unit} expected, {length} given")


# ---- decoding ----------------------------------------------------------------


class _Cursor:
    """Where in the data the decoder stands."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offset = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.offset

    def take(self, size: int, where: str) -> bytes:
        if size > self.left:  # [NO-15] [NO-22]
            raise DecodeError(where, self.offset, f"needs {size} bytes, {self.left} left")
        start = self.offset
        self.offset += size
        return self.data[start : self.offset]

    def take_uint(self, size: int, where: str) -> int:
        return int.from_bytes(self.take(size, where), "big")


def _decode(cls: type[Any], cursor: _Cursor, where: str) -> Any:
    layout = fields_of(cls)
    start = cursor.offset
    starts: dict[str, int] = {}
    values: dict[str, Any] = {}
    for field in layout:
        starts[field.name] = cursor.offset
        values[field.name] = _decode_field(field, cursor, f"{where}.{field.name}")
    problem = _cross_check(layout, values, cursor.offset - start)
    if problem:
        bad, text = problem
        raise DecodeError(f"{where}.{bad.name}", starts[bad.name], text)
    return cls(**values)


def _decode_field(field: Field, cursor: _Cursor, where: str) -> Any:
    start = cursor.offset
    value: Any
    match field.type:
        case Uint(size):
            value = cursor.take_uint(size, where)
        case Fixed(size):
            value = cursor.take(size, where)
        case Opaque(least, most):
            value = _take_prefixed(cursor, least, most, where)
        case Utf8(least, most):
            raw = _take_prefixed(cursor, least, most, where)
            try:
                value = raw.decode()  # [NO-11] [NO-13]
            except UnicodeDecodeError as exc:
                raise DecodeError(where, start, f"not UTF-8 ({exc.reason})") from exc
            if _CONTROL.search(value):
                raise DecodeError(where, start, "a control character")
        case Rest(least, most):
            value = cursor.take(cursor.left, where)  # [NO-8]
            if not least <= len(value) <= most:
                raise DecodeError(where, start, f"{least} to {most} bytes expected, {len(value)} found")
        case Nested(message):
            value = _decode(message, cursor, where)
        case ListOf(message, least, most):
            count = cursor.take_uint(2, where)
            if not least <= count <= most:  # [NO-17]
                raise DecodeError(where, start, f"{least} to {most} elements expected, {count} announced")
            value = tuple(_decode(message, cursor, f"{where}[{i}]") for i in range(count))
    problem = _check(field, value)
    if problem:
        raise DecodeError(where, start, problem)
    for bound in field.bounds:
        if isinstance(bound, Member):
            value = bound.enum(value)
    return value


def _take_prefixed(cursor: _Cursor, least: int, most: int, where: str) -> bytes:
    start = cursor.offset
    length = cursor.take_uint(prefix_size(most), where)
    if not least <= length <= most:  # [NO-17]
        raise DecodeError(where, start, f"{least} to {most} bytes expected, {length} announced")
    return cursor.take(length, where)


# ---- bounds: one reading for both directions ---------------------------------


def _check(field: Field, value: Any) -> str | None:
    """What is wrong with this value by itself, in words. [NO-18] [NO-19]"""
    for bound in field.bounds:
        match bound:
            case Values() if value not in bound:
                return f"{value} found where {bound} is allowed"
            case Member(enum) if value not in {int(member) for member in enum}:
                return f"{value} is no {enum.__name__}"
            case Lengths(allowed) if len(value) not in allowed:
                return f"{len(value)} bytes found where {bound} are allowed"
            case Zeros() if any(value):
                return "a byte that is not zero"
    return None


def _cross_check(layout: tuple[Field, ...], values: dict[str, Any], size: int) -> tuple[Field, str] | None:
    """The first field that does not go with the others or with the message's size, and why. [NO-18]"""
    for field in layout:
        for bound in field.bounds:
            match bound:
                case EmptyIff(other, value) if (not values[field.name]) != (values[other] == value):
                    state = "empty" if not values[field.name] else "not empty"
                    return field, f"{state}, with {other} = {type(value)(values[other]).name.lower()}"
                case MessageSize(limit, exact) if size > limit or (exact and size < limit):
                    return field, f"the message has {size} bytes where {bound}"
    return None
