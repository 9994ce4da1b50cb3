"""A second decoder, made from the specification's tables alone.

It reads the words of the columns `type` and `bounds` themselves, and decodes bytes to plain dicts and lists. It shares
no line with `xlattice_trio.wire`, so where the two disagree, one of them, or the specification, is wrong. It is for
comparison and not for speed, and knows nothing of a table's meaning beyond the notation. Spec 1.2, 1.3, README.

A table is compiled when the decoder is made: a word that the notation does not have is a SpecError that names its line.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from xlattice_trio.speccheck.tables import Row, SpecError, Specification


class TableDecodeError(Exception):
    """The bytes are not a message: `where` is the field, `offset` the byte at which it begins."""

    def __init__(self, where: str, offset: int, why: str) -> None:
        super().__init__(f"{where} at offset {offset}: {why}")
        self.where = where
        self.offset = offset


# Data and the offset where a value begins; the value, and the offset where it ends. ValueError: there is none.
_Read = Callable[[bytes, int], tuple[Any, int]]
# The value of a field, the values of the whole message, and the bytes of the whole message: whether the clause holds.
_Clause = Callable[[Any, Mapping[str, Any], int], bool]


@attrs.frozen
class _Field:
    name: str
    read: _Read
    clauses: tuple[tuple[str, _Clause], ...]


class Decoder:
    """Decodes every message that the specification has a table for."""

    def __init__(self, spec: Specification) -> None:
        """Raises SpecError for a type, bound or name that the notation does not have."""
        self._enums: dict[str, dict[str, int]] = {}
        for table in spec.of_kind("Enum"):
            self._enums[table.name] = {row["name"]: _integer(row, row["value"]) for row in table.rows}
        self._rows = {table.name: table.rows for table in spec.of_kind("Message")}
        self._messages = {name: self._compile(rows) for name, rows in self._rows.items()}

    @property
    def messages(self) -> tuple[str, ...]:
        """The names of the messages, in the specification's order."""
        return tuple(self._messages)

    def decode(self, name: str, data: bytes) -> dict[str, Any]:
        """The fields of the message `name`, whose encoding is `data`, whole.

        Integers are ints, also those of enumerations. Raises TableDecodeError.
        """
        values, end = self._read_message(name, data, 0)
        if end != len(data):
            raise TableDecodeError(name, end, f"{len(data) - end} bytes follow the message")
        return values

    def _read_message(self, name: str, data: bytes, start: int) -> tuple[dict[str, Any], int]:
        values: dict[str, Any] = {}
        at = start
        for field in self._messages[name]:
            try:
                values[field.name], after = field.read(data, at)
            except ValueError as exc:
                raise TableDecodeError(f"{name}.{field.name}", at, str(exc)) from exc
            at = after
        for field in self._messages[name]:
            for text, clause in field.clauses:
                if not clause(values[field.name], values, at - start):
                    raise TableDecodeError(f"{name}.{field.name}", start, f"not {text}")
        return values, at

    # ---- from text to functions ----------------------------------------------

    def _compile(self, rows: tuple[Row, ...]) -> tuple[_Field, ...]:
        fields = []
        for row in rows:
            read = self._type(row)
            if row["type"].startswith("rest") and row is not rows[-1]:
                raise SpecError(row.place, f"{row['field']}: rest<> is not the last field")
            bounds = [] if row["bounds"] == "-" else row["bounds"].split("; ")
            clauses = tuple((text, self._clause(text, row, rows)) for text in bounds)
            fields.append(_Field(row["field"], read, clauses))
        return tuple(fields)

    def _type(self, row: Row) -> _Read:
        text = row["type"]
        if found := re.fullmatch(r"u(8|16|24|32|64)", text):
            return _read_integer(int(found[1]) // 8)
        if found := re.fullmatch(r"opaque\[(\d+)\]", text):
            return _read_exactly(int(found[1]))
        if found := re.fullmatch(r"(opaque|utf8|rest)<(\d+)\.\.(\d+)>", text):
            a, b = _range(row, found[2], found[3])
            if found[1] == "rest":
                return _read_rest(a, b)
            return _read_text(a, b) if found[1] == "utf8" else _read_prefixed(a, b)
        if found := re.fullmatch(r"list<(\w+), (\d+)\.\.(\d+)>", text):
            return self._read_list(self._known(row, found[1]), *_range(row, found[2], found[3]))
        if re.fullmatch(r"[A-Z]\w*", text):
            name = self._known(row, text)
            return lambda data, at: self._read_message(name, data, at)
        raise SpecError(row.place, f"{row['field']}: {text} is no type")

    def _known(self, row: Row, name: str) -> str:
        if name not in self._rows:
            raise SpecError(row.place, f"{row['field']}: there is no table Message {name}")
        return name

    def _read_list(self, name: str, a: int, b: int) -> _Read:
        def read(data: bytes, at: int) -> tuple[list[Any], int]:
            count, at = _number(data, at, 2)
            if not a <= count <= b:
                raise ValueError(f"{count} elements")
            values = []
            for _ in range(count):
                value, at = self._read_message(name, data, at)
                values.append(value)
            return values, at

        return read

    def _clause(self, text: str, row: Row, rows: tuple[Row, ...]) -> _Clause:
        """A clause of the bounds column, and whether it goes with the type of its field."""
        type_ = row["type"]
        if found := re.fullmatch(r"message is (at most )?(\d+) bytes", text):
            size, at_most = int(found[2]), bool(found[1])
            return lambda _value, _all, total: total <= size if at_most else total == size
        if re.fullmatch(r"u\d+", type_):
            if found := re.fullmatch(r"enum (\w+)", text):
                allowed = frozenset(self._enum(row, found[1]).values())
                return lambda value, _all, _total: value in allowed
            if found := re.fullmatch(r"(=|>=) (\d+)", text):
                bound, exact = int(found[2]), found[1] == "="
                return lambda value, _all, _total: value == bound if exact else value >= bound
            if re.fullmatch(r"\d+(\.\.\d+)?( or \d+(\.\.\d+)?)*", text):
                ends = [part.partition("..") for part in text.split(" or ")]
                ranges = [_range(row, low, high or low) for low, _, high in ends]
                return lambda value, _all, _total: any(low <= value <= high for low, high in ranges)
        if type_.startswith("opaque"):
            if text == "zeros":
                return lambda value, _all, _total: value == bytes(len(value))
            if re.fullmatch(r"\d+( or \d+)* bytes", text):
                lengths = frozenset(map(int, re.findall(r"\d+", text)))
                return lambda value, _all, _total: len(value) in lengths
        if type_.startswith(("opaque<", "utf8<")) and (
            found := re.fullmatch(r"empty if and only if (\w+) = (\w+)", text)
        ):
            other, trigger = found[1], self._value_of(row, rows, found[1], found[2])
            return lambda value, values, _total: (len(value) == 0) is (values[other] == trigger)
        raise SpecError(row.place, f"{row['field']}: {text} is no bound of a {type_}")

    def _value_of(self, row: Row, rows: tuple[Row, ...], field: str, name: str) -> int:
        """The number that `name` stands for in the enumeration of another field."""
        bounds = next((other["bounds"] for other in rows if other["field"] == field), None)
        found = re.search(r"enum (\w+)", bounds or "")
        if not found:
            raise SpecError(row.place, f"{row['field']}: {field} is no field with an enumeration")
        values = self._enum(row, found[1])
        if name not in values:
            raise SpecError(row.place, f"{row['field']}: {name} is not in Enum {found[1]}")
        return values[name]

    def _enum(self, row: Row, name: str) -> dict[str, int]:
        if name not in self._enums:
            raise SpecError(row.place, f"{row['field']}: there is no table Enum {name}")
        return self._enums[name]


def _integer(row: Row, text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise SpecError(row.place, f"{text} is no number")
    return int(text)


def _range(row: Row, low: str, high: str) -> tuple[int, int]:
    a, b = int(low), int(high)
    if a > b:
        raise SpecError(row.place, f"{row['field']}: {low}..{high} is no range")
    return a, b


# ---- reading -----------------------------------------------------------------


def _bytes(data: bytes, at: int, size: int) -> tuple[bytes, int]:
    found = data[at : at + size]
    if len(found) != size:
        raise ValueError(f"{size} bytes needed, {len(found)} left")
    return found, at + size


def _number(data: bytes, at: int, size: int) -> tuple[int, int]:
    found, at = _bytes(data, at, size)
    value = 0
    for byte in found:
        value = value * 256 + byte
    return value, at


def _read_integer(size: int) -> _Read:
    return lambda data, at: _number(data, at, size)


def _read_exactly(size: int) -> _Read:
    return lambda data, at: _bytes(data, at, size)


def _read_rest(a: int, b: int) -> _Read:
    def read(data: bytes, at: int) -> tuple[bytes, int]:
        if not a <= len(data) - at <= b:
            raise ValueError(f"{len(data) - at} bytes left")
        return data[at:], len(data)

    return read


def _read_prefixed(a: int, b: int) -> _Read:
    prefix = next(size for size in (1, 2, 3) if b < 256**size)

    def read(data: bytes, at: int) -> tuple[bytes, int]:
        length, at = _number(data, at, prefix)
        if not a <= length <= b:
            raise ValueError(f"length {length}")
        return _bytes(data, at, length)

    return read


def _read_text(a: int, b: int) -> _Read:
    read_bytes = _read_prefixed(a, b)

    def read(data: bytes, at: int) -> tuple[str, int]:
        raw, at = read_bytes(data, at)
        text = str(raw, "utf-8", "strict")
        for character in text:
            if character <= "\u001f" or "\u007f" <= character <= "\u009f":
                raise ValueError(f"U+{ord(character):04X}")
        return text, at

    return read
