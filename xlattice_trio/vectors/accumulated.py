"""Many cases and one digest, for the codec and for the record layer. The recipes stand in FORMAT.md."""

import hashlib
from collections.abc import Iterator
from typing import Any

from xlattice_trio.errors import DecodeError
from xlattice_trio.handshake.key_schedule import generation
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.testing.edges import examples
from xlattice_trio.vectors.codec_messages import typical
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.schema import array, data, integer, name, obj
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.messages import MESSAGES, RecordType

_CASES = (100, 10_000, 1_000_000)
_CLASSES: dict[str, type[Any]] = {cls.__name__: cls for cls in MESSAGES}

# ---- operations --------------------------------------------------------------


def _codec(given: Json, _fixtures: Fixtures) -> Json:
    source = hashlib.shake_128(bytes.fromhex(given["seed"]))
    bases = [(_CLASSES[base["message"]], bytes.fromhex(base["bytes"])) for base in given["bases"]]
    digest = hashlib.sha256()
    for i in range(given["cases"]):
        case = source.copy()
        case.update(i.to_bytes(8, "big"))
        x = case.digest(32)
        cls, base = bases[x[0] % len(bases)]
        message = _mutated(base, x)
        try:
            decoded = decode(cls, message)
        except DecodeError:
            digest.update(b"\0")
            continue
        if encode(decoded) != message:
            raise Refused(FailLayer.DECODE, problem=f"case {i} does not encode to what was decoded")
        digest.update(b"\1")
        digest.update(message)
    return {"digest": digest.hexdigest()}


def _mutated(base: bytes, x: bytes) -> bytes:
    """The base after at most three changes, as the random bytes say."""
    changes = x[1] % 4
    if not changes:
        return base
    message = bytearray(base)
    for k in range(changes):
        kind, high, low, new = x[2 + 4 * k : 6 + 4 * k]
        length = len(message)
        at = (256 * high + low) % (length + 1)
        match kind % 4:
            case 0 if at < length:
                message[at] = new
            case 1 if at < length:
                del message[at]
            case 2:
                message.insert(at, new)
            case 3:
                del message[at:]
    return bytes(message)


def _records(given: Json, _fixtures: Fixtures) -> Json:
    source = hashlib.shake_128(bytes.fromhex(given["seed"]))
    secret = bytes.fromhex(given["secret"])
    sealer, opener = Sealer(secret), Opener(secret)
    digest = hashlib.sha256()
    for i in range(given["cases"]):
        case = source.copy()
        case.update(i.to_bytes(8, "big"))
        x = case.digest(258)
        if x[0] < 8 and sealer.seq:
            type_, payload = RecordType.REKEY, b""
            secret = generation(secret).next_secret
        else:
            type_, payload = RecordType.DATA, x[2 : 3 + x[1]]
        frame = sealer.seal(type_, payload, 0.0)
        opened_type, opened = opener.open(memoryview(frame))
        if (opened_type, bytes(opened)) != (type_, payload):
            raise Refused(FailLayer.RECORD, problem=f"record {i} does not open to what was sealed")
        digest.update(frame)
    return {"digest": digest.hexdigest(), "secret": secret.hex(), "seq": sealer.seq}


_MANY = {"seed": data(), "cases": integer(1)}
OPS = {
    "accumulate_codec": Op(
        _codec, obj(_MANY | {"bases": array(obj({"message": name(), "bytes": data()}), 1)}), obj({"digest": data(32)})
    ),
    "accumulate_records": Op(
        _records, obj(_MANY | {"secret": data(32)}), obj({"digest": data(32), "secret": data(32), "seq": integer()})
    ),
}

# ---- cases -------------------------------------------------------------------

# Messages that are long; of these the shortest is enough.
_SHORTEST = ("NodeCard", "Member", "Roster", "ClusterCard", "RosterTransfer")


def cases(fixtures: Fixtures) -> Iterator[Case]:
    common = typical(fixtures)
    bases = [
        {"message": cls, "bytes": encode(next(examples(_CLASSES[cls])) if cls in _SHORTEST else message).hex()}
        for cls, message in common.items()
    ]
    for count in _CASES:
        yield Case(
            name=f"accumulated/codec/{count}",
            op="accumulate_codec",
            requirements=("NO-15", "NO-16", "NO-17", "NO-18", "NO-19", "NO-20"),
            comment=f"{count:,} messages of every kind with up to three changes each.",
            input={"seed": drawn("accumulated/codec", 32).hex(), "cases": count, "bases": bases},
        )
    for count in _CASES:
        yield Case(
            name=f"accumulated/records/{count}",
            op="accumulate_records",
            requirements=("SE-5", "SE-6", "SE-7", "SE-8", "SE-15", "SE-16", "SE-19"),
            comment=f"{count:,} records of one direction, about one in 32 of them a Rekey.",
            input={
                "seed": drawn("accumulated/records", 32).hex(),
                "cases": count,
                "secret": drawn("accumulated/records/secret", 32).hex(),
            },
        )


AREA = Area("accumulated", "Many cases and one digest: codec and record layer", OPS, cases)
