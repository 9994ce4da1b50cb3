"""JSON Schema (2020-12) of the files of vectors, from one description of each operation.

A description is a schema itself, put together by the functions below. `problems` checks a value against the few
keywords that they use, so that a program which runs vectors needs no library for it; the tests hold it against one.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
INTEGER_MAX = (1 << 53) - 1

# ---- what a value can be -----------------------------------------------------


def data(size: int | None = None) -> Schema:
    """A byte string: lower-case hexadecimal, of `size` bytes if that is given."""
    return {"type": "string", "pattern": "^([0-9a-f]{2})*$" if size is None else f"^[0-9a-f]{{{2 * size}}}$"}


def epoch() -> Schema:
    """An epoch: 16 hexadecimal digits."""
    return data(8)


def integer(least: int = 0, most: int = INTEGER_MAX) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most}


def name() -> Schema:
    """The name of something: of a fixture, a message, a label, a type."""
    return {"type": "string", "minLength": 1}


def one_of(*values: str) -> Schema:
    """One of these words."""
    return {"enum": list(values)}


def true() -> Schema:
    return {"const": True}


def boolean() -> Schema:
    return {"type": "boolean"}


def array(items: Schema, least: int = 0) -> Schema:
    return {"type": "array", "items": items} | ({"minItems": least} if least else {})


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def any_of(*schemas: Schema) -> Schema:
    return {"anyOf": list(schemas)}


def obj(required: Mapping[str, Schema], optional: Mapping[str, Schema] | None = None) -> Schema:
    """An object with exactly these keys, those of `optional` at will."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def value() -> Schema:
    """A value on the wire: hexadecimal, a list of values, or the fields of a message by name."""
    return {"$ref": "#/$defs/value"}


DEFS: dict[str, Schema] = {
    "value": {"anyOf": [data(), array(value()), {"type": "object", "additionalProperties": value()}]}
}


def map_of(values: Schema) -> Schema:
    """An object with any keys."""
    return {"type": "object", "additionalProperties": values}


# ---- checking ----------------------------------------------------------------

_TYPES: dict[str, type | tuple[type, ...]] = {
    "string": str,
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def problems(schema: Schema, value: Any, where: str = "") -> Iterator[str]:
    """What is wrong with a value, in words, each with its place: nothing if the schema fits."""
    at = where or "the value"
    if "$ref" in schema:
        schema = DEFS[schema["$ref"].rpartition("/")[2]]
    if "anyOf" in schema:
        if all(any(problems(option, value)) for option in schema["anyOf"]):
            yield f"{at} is none of the forms that it may have"
        return
    if "const" in schema and (value != schema["const"] or type(value) is not type(schema["const"])):
        yield f"{at} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at} is none of {', '.join(schema['enum'])}"
    if "type" in schema:
        if not isinstance(value, _TYPES[schema["type"]]) or (isinstance(value, bool) and schema["type"] == "integer"):
            yield f"{at} is no {schema['type']}"
            return
        if schema["type"] in _CHECKS:
            yield from _CHECKS[schema["type"]](schema, value, where)


def _string(schema: Schema, value: str, where: str) -> Iterator[str]:
    if "pattern" in schema and (re.search(schema["pattern"], value) is None or value.endswith("\n")):
        yield f"{where} does not match {schema['pattern']}"
    if len(value) < schema.get("minLength", 0):
        yield f"{where} is empty"


def _integer(schema: Schema, value: int, where: str) -> Iterator[str]:
    if not schema.get("minimum", value) <= value <= schema.get("maximum", value):
        yield f"{where} is not between {schema['minimum']} and {schema['maximum']}"


def _array(schema: Schema, value: list[Any], where: str) -> Iterator[str]:
    if len(value) < schema.get("minItems", 0):
        yield f"{where} has less than {schema['minItems']} elements"
    for i, element in enumerate(value):
        yield from problems(schema.get("items", {}), element, f"{where}[{i}]")


def _object(schema: Schema, value: dict[str, Any], where: str) -> Iterator[str]:
    known = schema.get("properties", {})
    others = schema.get("additionalProperties", {})
    for key in schema.get("required", ()):
        if key not in value:
            yield f"{where or 'it'} has no key {key!r}"
    for key, inner in value.items():
        if key not in known and others is False:
            yield f"{where or 'it'} has an unknown key {key!r}"
        else:
            yield from problems(known.get(key, others), inner, f"{where}.{key}" if where else key)


_CHECKS: dict[str, Callable[[Schema, Any, str], Iterator[str]]] = {
    "string": _string,
    "integer": _integer,
    "array": _array,
    "object": _object,
}
