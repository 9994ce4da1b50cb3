"""Every type and every message, encoded and decoded. Spec 1.2, 1.3.

A second decoder, made from the tables of the specification alone, agrees with each vector of a message.
"""

from collections.abc import Iterator
from typing import Any

from xlattice_trio.errors import DecodeError
from xlattice_trio.speccheck.decoder import Decoder, TableDecodeError
from xlattice_trio.speccheck.tables import find_directory, read_specification
from xlattice_trio.vectors.codec_messages import MessageCases, deep_cases, typical
from xlattice_trio.vectors.codec_types import type_cases
from xlattice_trio.vectors.codec_values import CLASSES, fields_json, message_of, message_of_type
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.schema import data, name, obj, one_of, value
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.messages import (
    MESSAGES,
)

# ---- operations --------------------------------------------------------------


def _message(given: Json, _fixtures: Fixtures) -> Json:
    return _both_ways(CLASSES[given["message"]], given["fields"])


def _type(given: Json, _fixtures: Fixtures) -> Json:
    return _both_ways(message_of_type(given["type"]), {"value": given["value"]})


def _both_ways(cls: type[Any], fields: Json) -> Json:
    encoded = encode(message_of(cls, fields))
    if fields_json(decode(cls, encoded)) != fields:
        raise Refused(FailLayer.DECODE, problem="it does not decode to what was encoded")
    return {"bytes": encoded.hex()}


def _message_decode(given: Json, _fixtures: Fixtures) -> Json:
    return _decoded(CLASSES[given["message"]], given["bytes"])


def _type_decode(given: Json, _fixtures: Fixtures) -> Json:
    return _decoded(message_of_type(given["type"]), given["bytes"])


def _decoded(cls: type[Any], encoded: str) -> Json:
    try:
        return fields_json(decode(cls, bytes.fromhex(encoded)))
    except DecodeError as exc:
        raise Refused(FailLayer.DECODE, where=exc.where, problem=str(exc)) from exc


_NAMES = one_of(*CLASSES)
OPS = {
    "message": Op(_message, obj({"message": _NAMES, "fields": value()}), obj({"bytes": data()})),
    "message_decode": Op(_message_decode, obj({"message": _NAMES, "bytes": data()}), None),
    "type": Op(_type, obj({"type": name(), "value": value()}), obj({"bytes": data()})),
    "type_decode": Op(_type_decode, obj({"type": name(), "bytes": data()}), None),
}

# ---- all cases ---------------------------------------------------------------


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from type_cases()
    second = Decoder(read_specification(find_directory()))
    found = typical(fixtures)
    for cls in MESSAGES:
        for case in MessageCases(cls, found[cls.__name__]).cases():
            _ask_second_decoder(second, case)
            yield case
    for case in deep_cases():
        _ask_second_decoder(second, case)
        yield case


def _ask_second_decoder(second: Decoder, case: Case) -> None:
    """The decoder that is made from the specification's tables has to agree."""
    message = case.input["message"]
    if case.refusal is None:
        encoded = encode(message_of(CLASSES[message], case.input["fields"]))
        assert _same(second.decode(message, encoded), case.input["fields"]), case.name
        return
    try:
        second.decode(message, bytes.fromhex(case.input["bytes"]))
    except TableDecodeError:
        return
    raise AssertionError(f"{case.name}: the second decoder accepts it")


def _same(decoded: Any, given: Json) -> bool:
    """Whether a value of the second decoder is the one given as JSON."""
    if isinstance(decoded, dict):
        return decoded.keys() == given.keys() and all(_same(decoded[key], given[key]) for key in decoded)
    if isinstance(decoded, list):
        return len(decoded) == len(given) and all(map(_same, decoded, given))
    if isinstance(decoded, int):
        return decoded == int(given, 16)
    return (decoded.encode() if isinstance(decoded, str) else bytes(decoded)) == bytes.fromhex(given)


AREA = Area("codec", "Types and messages: encoding, and strict decoding (1.2, 1.3)", OPS, cases)
