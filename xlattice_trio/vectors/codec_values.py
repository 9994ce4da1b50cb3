"""Messages and values as they stand in vectors, and the types of the notation."""

import functools
import re
from collections.abc import Callable
from typing import Any

import attrs

from xlattice_trio.vectors.model import Json
from xlattice_trio.wire import layout
from xlattice_trio.wire.layout import (
    ListOf,
    Nested,
    Uint,
    Utf8,
    fields_of,
)
from xlattice_trio.wire.messages import (
    MESSAGES,
)

CLASSES = {cls.__name__: cls for cls in MESSAGES}

# ---- JSON --------------------------------------------------------------------


def fields_json(message: Any) -> Json:
    """A message as its fields."""
    return {field.name: _value_json(field.type, getattr(message, field.name)) for field in fields_of(type(message))}


def _value_json(kind: layout.FieldType, found: Any) -> Json:
    match kind:
        case Uint(size):
            return found.to_bytes(size, "big").hex()
        case Utf8():
            return found.encode().hex()
        case Nested():
            return fields_json(found)
        case ListOf():
            return [fields_json(element) for element in found]
    return found.hex()


def message_of(cls: type[Any], fields: Json) -> Any:
    """The message with these fields."""
    return cls(**{field.name: _value_of(field.type, fields[field.name]) for field in fields_of(cls)})


def _value_of(kind: layout.FieldType, given: Json) -> Any:
    match kind:
        case Uint():
            return int(given, 16)
        case Utf8():
            return bytes.fromhex(given).decode()
        case Nested(message):
            return message_of(message, given)
        case ListOf(message):
            return tuple(message_of(message, element) for element in given)
    return bytes.fromhex(given)


_UINTS: dict[str, Callable[..., Any]] = {
    "u8": layout.u8,
    "u16": layout.u16,
    "u24": layout.u24,
    "u32": layout.u32,
    "u64": layout.u64,
}
_VARIABLE: dict[str, Callable[..., Any]] = {"opaque": layout.opaque, "utf8": layout.utf8, "rest": layout.rest}


@functools.cache
def message_of_type(text: str) -> type[Any]:
    """A message with one field, `value`, of the type that the notation says."""
    if text in _UINTS:
        field = _UINTS[text]()
    elif found := re.fullmatch(r"opaque\[(\d+)\]", text):
        field = layout.fixed(int(found[1]))
    elif found := re.fullmatch(r"(opaque|utf8|rest)<(\d+)\.\.(\d+)>", text):
        field = _VARIABLE[found[1]](int(found[2]), int(found[3]))
    elif found := re.fullmatch(r"list<(\w+), (\d+)\.\.(\d+)>", text):
        field = layout.list_of(CLASSES[found[1]], int(found[2]), int(found[3]))
    else:
        field = layout.nested(CLASSES[text])
    return attrs.make_class("Value", {"value": field}, frozen=True)


def prefixed_length(length: int, most: int) -> bytes:
    """The table of 1.2."""
    return length.to_bytes(1 if most <= 255 else 2 if most <= 65535 else 3, "big")
