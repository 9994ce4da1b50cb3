"""What a field on the wire can be.

Every message is an attrs class with one line per field, and each line says, in the words of the specification, how
the field is laid out. This module holds the words and knows nothing of bytes: `str()` of a type and of its bounds is
what stands in the specification's tables, `codec` turns the same objects into bytes and back, and the specification
check and the tests' strategies read them too. Spec 1.2.
"""

import enum
from collections.abc import Callable
from typing import Any

import attrs

from xlattice_trio.limits import RECORD_PAYLOAD_MAX

_METADATA = "xlattice_trio.layout"

# ---- types -------------------------------------------------------------------


@attrs.frozen
class Uint:
    """An unsigned integer of `size` bytes, big-endian."""

    size: int

    def __str__(self) -> str:
        return f"u{8 * self.size}"


@attrs.frozen
class Fixed:
    """Exactly `size` bytes, without a length prefix."""

    size: int

    def __str__(self) -> str:
        return f"opaque[{self.size}]"


@attrs.frozen
class Opaque:
    """A length prefix, and then `least` to `most` bytes."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"opaque<{self.least}..{self.most}>"


@attrs.frozen
class Utf8:
    """A length prefix, and then `least` to `most` bytes of UTF-8 without control characters."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"utf8<{self.least}..{self.most}>"


@attrs.frozen
class Rest:
    """All the bytes that are left, `least` to `most` of them; only as the last field."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"rest<{self.least}..{self.most}>"


@attrs.frozen
class Nested:
    """A message inside a message, without an outer length."""

    message: type[Any]

    def __str__(self) -> str:
        return self.message.__name__


@attrs.frozen
class ListOf:
    """A count, u16, and then `least` to `most` messages."""

    message: type[Any]
    least: int
    most: int

    def __str__(self) -> str:
        return f"list<{self.message.__name__}, {self.least}..{self.most}>"


FieldType = Uint | Fixed | Opaque | Utf8 | Rest | Nested | ListOf


def prefix_size(most: int) -> int:
    """Bytes of the length prefix before at most `most` bytes: the smallest of u8, u16, u24 that holds `most`. [NO-5]"""
    return 1 if most < 1 << 8 else 2 if most < 1 << 16 else 3


# ---- bounds ------------------------------------------------------------------


@attrs.frozen
class Values:
    """The values that an integer may have: inclusive ranges, an open one ending in None."""

    ranges: tuple[tuple[int, int | None], ...]

    def __str__(self) -> str:
        if len(self.ranges) == 1:
            low, high = self.ranges[0]
            if high is None:
                return f">= {low}"
            if low == high:
                return f"= {low}"
        return " or ".join(str(low) if low == high else f"{low}..{high}" for low, high in self.ranges)

    def __contains__(self, value: int) -> bool:
        return any(low <= value and (high is None or value <= high) for low, high in self.ranges)


@attrs.frozen
class Member:
    """The value is one of an enumeration's."""

    enum: type[enum.IntEnum]

    def __str__(self) -> str:
        return f"enum {self.enum.__name__}"


@attrs.frozen
class Lengths:
    """The lengths, in bytes, that are allowed between the type's least and most."""

    allowed: tuple[int, ...]

    def __str__(self) -> str:
        return f"{' or '.join(map(str, self.allowed))} bytes"


@attrs.frozen
class EmptyIff:
    """The field is empty if and only if the other field has that value."""

    field: str
    value: enum.IntEnum

    def __str__(self) -> str:
        return f"empty if and only if {self.field} = {self.value.name.lower()}"


@attrs.frozen
class Zeros:
    """Every byte is zero."""

    def __str__(self) -> str:
        return "zeros"


@attrs.frozen
class MessageSize:
    """The whole message has exactly, or at most, `size` bytes."""

    size: int
    exact: bool = True

    def __str__(self) -> str:
        return f"message is {'' if self.exact else 'at most '}{self.size} bytes"


Bound = Values | Member | Lengths | EmptyIff | Zeros | MessageSize

# ---- fields ------------------------------------------------------------------


@attrs.frozen
class Field:
    """One field of a message as laid out: its name, type and bounds."""

    name: str
    type: FieldType
    bounds: tuple[Bound, ...]

    @property
    def bounds_text(self) -> str:
        return "; ".join(map(str, self.bounds)) or "-"


def fields_of(message: type[Any]) -> tuple[Field, ...]:
    """The layout of a message class, in wire order."""
    layout = _layouts.get(message)
    if layout is None:
        layout = _layouts[message] = tuple(Field(f.name, *f.metadata[_METADATA]) for f in attrs.fields(message))
    return layout


_layouts: dict[type[Any], tuple[Field, ...]] = {}


def _secret_repr(value: object) -> str:  # [NO-30]
    return f"<{len(value)} secret bytes>" if isinstance(value, bytes) else "<secret>"


def _field(type_: FieldType, *bounds: Bound, secret: bool = False) -> Any:
    return attrs.field(metadata={_METADATA: (type_, bounds)}, repr=_secret_repr if secret else True)


_Range = int | tuple[int, int | None]


def _uint(size: int) -> Callable[..., Any]:
    def make(*values: _Range, enum: type[enum.IntEnum] | None = None) -> Any:
        bounds: list[Bound] = []
        if values:
            bounds.append(Values(tuple(v if isinstance(v, tuple) else (v, v) for v in values)))
        if enum is not None:
            bounds.append(Member(enum))
        return _field(Uint(size), *bounds)

    return make


u8, u16, u24, u32, u64 = map(_uint, (1, 2, 3, 4, 8))


def fixed(size: int, *, secret: bool = False) -> Any:
    """opaque[size]"""
    return _field(Fixed(size), secret=secret)


def opaque(least: int, most: int, *bounds: Bound) -> Any:
    """opaque<least..most>"""
    return _field(Opaque(least, most), *bounds)


def utf8(least: int, most: int, *bounds: Bound) -> Any:
    """utf8<least..most>"""
    return _field(Utf8(least, most), *bounds)


def rest(least: int, most: int = RECORD_PAYLOAD_MAX) -> Any:
    """rest<least..most>"""
    return _field(Rest(least, most))


def nested(message: type[Any]) -> Any:
    """A message, without an outer length."""
    return _field(Nested(message))


def list_of(message: type[Any], least: int, most: int) -> Any:
    """list<message, least..most>"""
    return _field(ListOf(message, least, most))
