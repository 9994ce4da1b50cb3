"""Records: sealed and opened, one direction at a time. Spec 6.2 to 6.4.

What is sealed is held against the second maker of records, `testing.forge`, which also makes those to be refused.
"""

from collections.abc import Iterator, Mapping, Sequence

from xlattice_trio.errors import DecodeError, RecordError
from xlattice_trio.handshake.key_schedule import generation
from xlattice_trio.limits import GENERATION_RECORDS
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.testing import forge
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refusal, Refused
from xlattice_trio.vectors.schema import array, data, integer, obj, one_of
from xlattice_trio.wire.framing import DUE_RECORD, HEADER_SIZE, FrameReader
from xlattice_trio.wire.messages import RecordType

LAST = GENERATION_RECORDS - 1  # the seq at which nothing but Rekey is sent
TYPES = {"Confirm": 1, "Data": 2, "KeepAlive": 3, "Rekey": 4, "Bye": 5, "Error": 6}
_BY_NUMBER = {int(type_): type_ for type_ in RecordType}
_NOW = 0.0

# What refuses a record, by the number of the check in Spec 6.2. The first one is FrameReader's.
CHECKS: Mapping[int, tuple[FailLayer, tuple[str, ...]]] = {
    1: (FailLayer.FRAME, ("FR-4", "FR-5")),
    2: (FailLayer.RECORD, ("SE-6", "SE-7", "SE-8", "SE-12", "SE-15", "SE-16", "SE-19", "SE-20")),
    3: (FailLayer.RECORD, ("SE-13",)),
    4: (FailLayer.SESSION, ("SE-21", "SE-22")),
    5: (FailLayer.SESSION, ("SE-29", "SE-30")),
    6: (FailLayer.SESSION, ("SE-34",)),
    7: (FailLayer.SESSION, ("SE-9", "SE-10")),
    8: (FailLayer.SESSION, ("SE-40",)),
}


def refused(exc: RecordError | DecodeError, output: Json = None) -> Refused:
    """A record that is a violation; `output` is what can be seen of that."""
    if isinstance(exc, RecordError):
        layer, by = CHECKS[exc.check]
        return Refused(layer, *by, output=output, problem=str(exc))
    if exc.where.startswith("ErrorBody"):
        return Refused(FailLayer.SESSION, "SE-57", where=exc.where, output=output, problem=str(exc))
    layer, by = CHECKS[1]
    return Refused(layer, *by, where=exc.where, output=output, problem=str(exc))


# ---- operations --------------------------------------------------------------


def sealer_at(secret: bytes, seq: int, now: float = _NOW) -> Sealer:
    """One whose next record has this seq; the generation's first, if there was one, was sealed at `now`."""
    sealer = Sealer(secret)
    if seq:
        sealer.seal(RecordType.KEEPALIVE, b"", now)
        sealer.seq = seq
    return sealer


def opener_at(secret: bytes, seq: int) -> Opener:
    """One that opens the record with this seq next."""
    opener = Opener(secret)
    opener.seq = seq
    return opener


def _records(given: Json, _fixtures: Fixtures) -> Json:
    secret = bytes.fromhex(given["secret"])
    sealer, opener, reader = sealer_at(secret, given["seq"]), opener_at(secret, given["seq"]), FrameReader()
    frames = []
    for record in given["records"]:
        type_, payload = _BY_NUMBER[TYPES[record["type"]]], bytearray.fromhex(record["payload"])
        frame = sealer.seal(type_, payload, _NOW)
        reader.feed(frame)
        whole = reader.next_frame(DUE_RECORD)
        assert whole is not None
        assert opener.open(whole) == (type_, payload)
        assert not reader.unread
        frames.append(frame.hex())
        if type_ is RecordType.REKEY:
            secret = generation(secret).next_secret
    assert opener.seq == sealer.seq
    return {"frames": frames, "secret": secret.hex(), "seq": sealer.seq}


def _records_open(given: Json, _fixtures: Fixtures) -> Json:
    opener, reader = opener_at(bytes.fromhex(given["secret"]), given["seq"]), FrameReader()
    *good, last = (bytes.fromhex(frame) for frame in given["frames"])
    for frame in good:
        reader.feed(frame)
        whole = reader.next_frame(DUE_RECORD)
        assert whole is not None
        opener.open(whole)
    reader.feed(last)
    try:
        whole = reader.next_frame(DUE_RECORD)
        assert whole is not None
        opener.open(whole)
    except (RecordError, DecodeError) as exc:
        raise refused(exc) from exc
    return None


_RECORD = obj({"type": one_of(*TYPES), "payload": data()})
_POSITION = {"secret": data(32), "seq": integer(0, LAST)}
OPS = {
    "records": Op(
        _records,
        obj(_POSITION | {"records": array(_RECORD, 1)}),
        obj({"frames": array(data()), **_POSITION}),
    ),
    "records_open": Op(_records_open, obj(_POSITION | {"frames": array(data(), 1)}), None),
}

# ---- one direction, by the second maker --------------------------------------


class Direction:
    """Seals the records of one direction with the second maker. It keeps no rule."""

    def __init__(self, secret: bytes, seq: int = 0) -> None:
        self.secret = secret
        self.seq = seq

    def record(self, type_: int, payload: bytes = b"", **wrong: bytes) -> bytes:
        """The next record; behind a Rekey the generation is the next one."""
        frame = forge.forge_record(self.secret, self.seq, type_, payload, **wrong)
        self.seq += 1
        if type_ == TYPES["Rekey"]:
            self.secret, self.seq = forge.expand(self.secret, "rekey"), 0
        return frame

    def confirm(self) -> bytes:
        return self.record(TYPES["Confirm"])

    def data(self, payload: bytes) -> bytes:
        return self.record(TYPES["Data"], payload)

    def keepalive(self) -> bytes:
        return self.record(TYPES["KeepAlive"])

    def rekey(self) -> bytes:
        return self.record(TYPES["Rekey"])

    def bye(self) -> bytes:
        return self.record(TYPES["Bye"])

    def error(self, code: int, text: bytes = b"") -> bytes:
        return self.record(TYPES["Error"], error_body(code, text))


def error_body(code: int, text: bytes = b"") -> bytes:
    """An encoded ErrorBody, whatever it says."""
    return code.to_bytes(2, "big") + len(text).to_bytes(2, "big") + text


def turned(frame: bytes, at: int, bit: int = 0) -> bytes:
    """The bytes with one bit turned; `at` may count from the end."""
    changed = bytearray(frame)
    changed[at] ^= 1 << bit
    return bytes(changed)


# ---- cases: what is sealed ---------------------------------------------------

_I2R, _R2I = drawn("records/i2r", 32), drawn("records/r2i", 32)
_SEALED = ("SE-6", "SE-7", "SE-8")
_NUMBERED = ("SE-7", "SE-15", "SE-16")
_REKEYED = ("SE-15", "SE-19", "SE-20")

Records = Sequence[tuple[str, bytes]]


def _sealed(
    name: str, comment: str, requirements: tuple[str, ...], records: Records, secret: bytes = _I2R, seq: int = 1
) -> Case:
    made = Direction(secret, seq)
    frames = [made.record(TYPES[type_], payload).hex() for type_, payload in records]
    return Case(
        name=f"records/{name}",
        op="records",
        requirements=requirements,
        comment=comment,
        input={
            "secret": secret.hex(),
            "seq": seq,
            "records": [{"type": type_, "payload": payload.hex()} for type_, payload in records],
        },
        expected={"frames": frames, "secret": made.secret.hex(), "seq": made.seq},
    )


def _of_each_type() -> Iterator[Case]:
    yield _sealed("types/confirm", "The first record of I.", (*_SEALED, "SE-28", "SE-9"), [("Confirm", b"")], seq=0)
    yield _sealed("types/data", "One byte of data.", (*_SEALED, "SE-10"), [("Data", b"x")])
    yield _sealed("types/keepalive", "A KeepAlive.", (*_SEALED, "SE-9"), [("KeepAlive", b"")])
    yield _sealed("types/rekey", "A Rekey, behind one record.", (*_SEALED, "SE-9", "SE-19"), [("Rekey", b"")])
    yield _sealed("types/bye", "A Bye.", (*_SEALED, "SE-9"), [("Bye", b"")])
    error = error_body(5, b"no room")
    yield _sealed("types/error", "An Error(internal) with a text.", (*_SEALED, "SE-54"), [("Error", error)])
    yield _sealed("types/error-without-text", "Error(over_capacity).", (*_SEALED, "SE-54"), [("Error", error_body(8))])
    longest = error_body(1, b"t" * 1024)
    yield _sealed("types/error-longest", "The longest text.", (*_SEALED, "SE-54"), [("Error", longest)])
    for type_, payload in (("Data", b"first"), ("KeepAlive", b""), ("Bye", b""), ("Error", error)):
        comment = f"The first record of R is its {type_}: R has no Confirm."
        what = f"first-of-r/{type_.lower()}"
        yield _sealed(what, comment, ("SE-7", "SE-15", "SE-30"), [(type_, payload)], _R2I, 0)


def _of_each_length() -> Iterator[Case]:
    for size in (2, 14, 15, 16, 17, 31, 32, 33, 255, 256, 1000):
        comment = f"{size} bytes of data."
        payload = drawn(f"records/data/{size}", size)
        yield _sealed(f"lengths/{size}", comment, (*_SEALED, "SE-10", "FR-3"), [("Data", payload)])
    comment = "One byte less than the most: the length of the frame is 65,552."
    payload = drawn("records/data/65535", 65535)
    yield _sealed("lengths/65535", comment, (*_SEALED, "SE-10", "FR-3"), [("Data", payload)])
    comment = "The most bytes of data: the length of the frame is 65,553, and needs all three bytes."
    payload = bytes(65536)
    yield _sealed("lengths/65536", comment, (*_SEALED, "SE-10", "FR-3"), [("Data", payload)])


def _of_each_seq() -> Iterator[Case]:
    for seq in (1, 2, 127, 128, 255, 256, 65535, 65536, (1 << 16) + 1, 1 << 19, LAST - 1):
        records = [("Data", b"here"), ("KeepAlive", b"")][: LAST - seq]
        yield _sealed(f"seq/{seq}", f"From seq {seq} on.", _NUMBERED, records, seq=seq)
    comment = "From seq 0 on, as R begins."
    yield _sealed("seq/0", comment, _NUMBERED, [("Data", b"here"), ("KeepAlive", b""), ("Data", b"there")], _R2I, 0)
    for name, secret in (("zeros", bytes(32)), ("ones", b"\xff" * 32)):
        records = [("Data", b"edge"), ("Rekey", b""), ("Data", b"edge")]
        yield _sealed(f"secrets/{name}", "A secret like any other.", (*_SEALED, *_REKEYED), records, secret)


def _of_each_generation() -> Iterator[Case]:
    comment = "At seq 2^20 - 1 stands a Rekey; what follows is seq 0 of the next generation."
    records = [("Data", b"before"), ("Rekey", b""), ("Data", b"behind")]
    yield _sealed("rekey/last-of-a-generation", comment, (*_REKEYED, "SE-21", "SE-23"), records, seq=LAST - 1)
    for type_, payload in (("KeepAlive", b""), ("Bye", b""), ("Error", error_body(4))):
        what = f"rekey/then-{type_.lower()}"
        comment = f"The Rekey that is due goes before a {type_} too."
        records = [("Rekey", b""), (type_, payload)]
        yield _sealed(what, comment, (*_REKEYED, "SE-21", "SE-23"), records, seq=LAST)
    comment = "A Rekey of the sender's own will, and data in the new generation."
    yield _sealed("rekey/at-will", comment, (*_REKEYED, "SE-26"), [("Data", b"one"), ("Rekey", b""), ("Data", b"two")])
    comment = "Generations 0 to 3, one record in each before its Rekey."
    records = [
        ("Confirm", b""), ("Rekey", b""), ("Data", b"of 1"), ("Rekey", b""), ("Data", b"of 2"), ("Rekey", b""),
        ("Data", b"of 3"),
    ]  # fmt: skip
    yield _sealed("rekey/four-generations", comment, _REKEYED, records, seq=0)
    comment = "The Rekey as the second record: the generation has had one."
    yield _sealed("rekey/second-record", comment, (*_REKEYED, "SE-22"), [("KeepAlive", b""), ("Rekey", b"")], _R2I, 0)
    comment = "The same two records in two generations: other keys, other bytes."
    records = [("KeepAlive", b""), ("Data", b"same"), ("Rekey", b""), ("KeepAlive", b""), ("Data", b"same")]
    yield _sealed("rekey/same-again", comment, _REKEYED, records, _R2I, 0)


def _of_whole_directions() -> Iterator[Case]:
    comment = "All that I says in a short session."
    records = [("Confirm", b""), ("Data", b"Hello, "), ("Data", b"world"), ("KeepAlive", b""), ("Bye", b"")]
    yield _sealed("whole/i2r", comment, (*_NUMBERED, "SE-28", "SE-29"), records, seq=0)
    comment = "All that R says in a short session."
    yield _sealed("whole/r2i", comment, (*_NUMBERED, "SE-30"), [("Data", b"Hello, world"), ("Bye", b"")], _R2I, 0)
    comment = "A Rekey and an Error behind a Bye: both are allowed there."
    records = [("Bye", b""), ("Rekey", b""), ("Error", error_body(4, b"in a hurry"))]
    yield _sealed("whole/behind-bye", comment, (*_REKEYED, "SE-41"), records)


# ---- cases: what is refused --------------------------------------------------


def _refused(
    name: str,
    by: str,
    change: str,
    frames: Sequence[bytes],
    *,
    base: str,
    layer: FailLayer = FailLayer.RECORD,
    secret: bytes = _I2R,
    seq: int = 1,
    comment: str = "",
) -> Case:
    return Case(
        name=f"records/{name}",
        op="records_open",
        requirements=(by,) if by in {"SE-21", "SE-22", "FR-4"} else (by, "SE-12"),
        comment=comment or f"Refused: {change}.",
        input={"secret": secret.hex(), "seq": seq, "frames": [frame.hex() for frame in frames]},
        refusal=Refusal(layer=layer, by=by, base=f"records/{base}", change=change),
    )


_TEN = b"ten bytes."


def _damaged() -> Iterator[Case]:
    good = Direction(_I2R, 1).data(_TEN)
    for what, at, bit, where in [
        ("type", HEADER_SIZE, 0, "of the sealed type"),
        ("first-of-payload", HEADER_SIZE + 1, 7, "of the payload's first byte"),
        ("last-of-payload", -17, 0, "of the payload's last byte"),
        ("first-of-tag", -16, 7, "of the tag's first byte"),
        ("middle-of-tag", -8, 3, "of the tag's ninth byte"),
        ("last-of-tag", -1, 0, "of the tag's last byte"),
    ]:
        change = f"one bit {where} is turned"
        yield _refused(f"damaged/{what}", "SE-12", change, [turned(good, at, bit)], base="refusals/base")
    shorter = b"\x03" + (len(good) - HEADER_SIZE - 1).to_bytes(3, "big") + good[HEADER_SIZE:-1]
    yield _refused("damaged/shorter", "SE-8", "the last byte is missing, and the length says so", [shorter], base=_BASE)
    longer = b"\x03" + (len(good) - HEADER_SIZE + 1).to_bytes(3, "big") + good[HEADER_SIZE:] + b"\0"
    yield _refused("damaged/longer", "SE-8", "a byte is added, and the length says so", [longer], base=_BASE)
    zeros = b"\x03\x00\x00\x11" + bytes(17)
    yield _refused("damaged/zeros", "SE-12", "type and tag are zeros", [zeros], base="types/keepalive")


_BASE = "refusals/base"


def _wrong_header() -> Iterator[Case]:
    for what, aad, change in [
        ("none", b"", "it is sealed without associated data"),
        ("kind", b"\x02\x00\x00\x1b", "the header that it is sealed under has the kind 2"),
        ("plaintext-length", b"\x03\x00\x00\x0b", "the length that it is sealed under is that of the plaintext"),
        ("length-alone", b"\x00\x00\x1b", "it is sealed under the length alone"),
    ]:
        frame = Direction(_I2R, 1).record(2, _TEN, aad=aad)
        yield _refused(f"aad/{what}", "SE-8", change, [frame], base=_BASE)
    body = Direction(_I2R, 1).data(_TEN)[HEADER_SIZE:]
    for kind in (0, 1, 2, 4):
        header = bytes([kind]) + len(body).to_bytes(3, "big")
        key, nonce = forge.key_and_nonce(_I2R, 1)
        frame = header + forge.sealed_under(key, nonce, header, b"\x02" + _TEN)
        change = f"the kind is {kind}; it is sealed under that"
        yield _refused(f"header/kind-{kind}", "FR-4", change, [frame], base=_BASE, layer=FailLayer.FRAME)
    key, nonce = forge.key_and_nonce(_I2R, 1)
    empty = b"\x03\x00\x00\x10" + forge.sealed_under(key, nonce, b"\x03\x00\x00\x10", b"")
    yield _refused(
        "header/no-plaintext", "FR-4", "it seals nothing, not even a type", [empty], base=_BASE, layer=FailLayer.FRAME
    )


def _wrong_number() -> Iterator[Case]:
    first, second, third = (Direction(_I2R, seq).data(_TEN) for seq in (1, 2, 3))
    yield _refused("number/swapped", "SE-16", "the second record comes first", [second], base="refusals/two")
    before = Direction(_I2R, 0).data(_TEN)
    yield _refused("number/one-before", "SE-16", "it has the number before", [before], base=_BASE)
    yield _refused("number/again", "SE-16", "the first record comes again", [first, first], base="refusals/two")
    yield _refused("number/left-out", "SE-16", "the second record is left out", [first, third], base="refusals/two")
    far = Direction(_I2R, (1 << 16) + 1).data(_TEN)
    yield _refused("number/65536-further", "SE-16", "its number is higher by 65,536", [far], base=_BASE)
    key, iv = forge.expand(_I2R, "key"), forge.expand(_I2R, "iv", 12)
    header = b"\x03\x00\x00\x1b"

    def under(nonce: bytes) -> bytes:
        return header + forge.sealed_under(key, nonce, header, b"\x02" + _TEN)

    def mixed(mask: bytes) -> bytes:
        return bytes(a ^ b for a, b in zip(iv, mask, strict=True))

    for what, nonce, change in [
        ("first-bytes", mixed((1).to_bytes(12, "little")), "the number stands in the first bytes of the nonce"),
        ("without-iv", (1).to_bytes(12, "big"), "the nonce is the number alone"),
    ]:
        yield _refused(f"nonce/{what}", "SE-7", change, [under(nonce)], base=_BASE)
    added = under((int.from_bytes(iv, "big") + 255).to_bytes(12, "big"))
    assert added != Direction(_I2R, 255).data(_TEN)
    yield _refused("nonce/added", "SE-7", "the number is added to the iv", [added], base="seq/255", seq=255)


def _wrong_key() -> Iterator[Case]:
    def case(what: str, by: str, change: str, *frames: bytes, base: str = _BASE) -> Case:
        return _refused(f"key/{what}", by, change, frames, base=base)

    yield case("reflected", "SE-6", "it is sealed with the key of the other direction", Direction(_R2I, 1).data(_TEN))
    change = "it is sealed with the secret itself"
    header, nonce = b"\x03\x00\x00\x1b", forge.key_and_nonce(_I2R, 1)[1]
    yield case("secret", "SE-6", change, header + forge.sealed_under(_I2R, nonce, header, b"\x02" + _TEN))
    upcoming = forge.expand(_I2R, "rekey")
    change = "it is the first of the next generation, and there was no Rekey"
    yield case("next-without-rekey", "SE-19", change, Direction(upcoming, 0).data(_TEN))
    change = "it has the key of the next generation, and there was no Rekey"
    yield case("next-same-number", "SE-19", change, Direction(upcoming, 1).data(_TEN))
    rekey = Direction(_I2R, 1).rekey()
    change = "behind the Rekey comes a record of the generation before"
    yield case("old-behind-rekey", "SE-20", change, rekey, Direction(_I2R, 2).data(_TEN), base="refusals/rekeyed")
    change = "behind the Rekey comes seq 0 of the generation before"
    yield case("old-from-0", "SE-20", change, rekey, Direction(_I2R, 0).data(_TEN), base="refusals/rekeyed")
    change = "behind the Rekey the number goes on from the generation before"
    yield case("number-goes-on", "SE-15", change, rekey, Direction(upcoming, 2).data(_TEN), base="refusals/rekeyed")
    change = "behind the Rekey comes the generation after the next"
    after = Direction(forge.expand(upcoming, "rekey"), 0).data(_TEN)
    yield case("generation-left-out", "SE-20", change, rekey, after, base="refusals/rekeyed")


def _wrong_type() -> Iterator[Case]:
    for type_ in (0, 7, 8, 255):
        change = f"the type is {type_}"
        frame = Direction(_I2R, 1).record(type_, _TEN)
        yield _refused(f"unknown-type/{type_}", "SE-13", change, [frame], base=_BASE)
    bare = Direction(_I2R, 1).record(0)
    yield _refused("unknown-type/bare-0", "SE-13", "the type is 0", [bare], base="types/keepalive")
    comment = "Check 3 comes before check 4: a type that nobody knows, in the place of the Rekey."
    last = Direction(_I2R, LAST).record(7)
    yield _refused(
        "unknown-type/last-of-a-generation",
        "SE-13",
        "the type is 7",
        [last],
        base="rekey/then-bye",
        seq=LAST,
        comment=comment,
    )


def _wrong_place_of_rekey() -> Iterator[Case]:
    for type_, payload in (("Data", _TEN), ("KeepAlive", b""), ("Bye", b""), ("Error", error_body(4))):
        yield _refused(
            f"rekey/missing-{type_.lower()}",
            "SE-21",
            f"a {type_} has seq 2^20 - 1",
            [Direction(_I2R, LAST).record(TYPES[type_], payload)],
            base="rekey/last-of-a-generation" if type_ == "Data" else f"rekey/then-{type_.lower()}",
            layer=FailLayer.SESSION,
            seq=LAST,
        )
    made = Direction(_R2I, 0)
    yield _refused(
        "rekey/as-first",
        "SE-22",
        "the Rekey has seq 0",
        [made.rekey()],
        base="rekey/second-record",
        layer=FailLayer.SESSION,
        secret=_R2I,
        seq=0,
    )
    made = Direction(_I2R, 1)
    yield _refused(
        "rekey/twice",
        "SE-22",
        "the second Rekey has seq 0",
        [made.rekey(), made.rekey()],
        base="refusals/rekeyed",
        layer=FailLayer.SESSION,
    )


def cases(_fixtures: Fixtures) -> Iterator[Case]:
    yield from _of_each_type()
    yield from _of_each_length()
    yield from _of_each_seq()
    yield from _of_each_generation()
    yield from _of_whole_directions()
    yield _sealed("refusals/base", "Ten bytes: what most refused records were made from.", _SEALED, [("Data", _TEN)])
    yield _sealed("refusals/two", "Two records.", _NUMBERED, [("Data", _TEN), ("Data", _TEN)])
    comment = "A Rekey, and a record behind it."
    yield _sealed("refusals/rekeyed", comment, _REKEYED, [("Rekey", b""), ("Data", _TEN)])
    yield from _damaged()
    yield from _wrong_header()
    yield from _wrong_number()
    yield from _wrong_key()
    yield from _wrong_type()
    yield from _wrong_place_of_rekey()


AREA = Area("records", "Records of one direction, sealed and opened (6.2 to 6.4)", OPS, cases)
