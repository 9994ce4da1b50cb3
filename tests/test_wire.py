"""Messages and bytes: what each message is encoded as, and what a decoder and an encoder refuse."""

from typing import Any

import pytest

from xlattice_trio.errors import DecodeError
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.layout import fields_of
from xlattice_trio.wire.messages import (
    MESSAGES,
    ClientAccess,
    ClusterCard,
    ErrorBody,
    FrameHeader,
    FrameKind,
    Hello,
    HelloBody,
    HelloReply,
    LinkHeader,
    LinkType,
    Member,
    NodeCard,
    Purpose,
    RecordPlaintext,
    RecordType,
    ReplyBody,
    Role,
    Roster,
    RosterOffer,
    RosterRequest,
    RosterTransfer,
)

# ---- one of each, and its bytes, field by field ------------------------------

SIGNATURE = b"\x01\x00" + b"\xaa" * 256
CARD = NodeCard("né", 32, b"\x01", b"\x02\x03", 0x0102030405060708, b"\xaa" * 256)
CARD_BYTES = {
    "name": b"\x03n\xc3\xa9",
    "id_size": b"\x20",
    "sk": b"\x00\x01\x01",
    "ck": b"\x00\x02\x02\x03",
    "serial": b"\x01\x02\x03\x04\x05\x06\x07\x08",
    "signature": SIGNATURE,
}
CARD_WHOLE = b"".join(CARD_BYTES.values())
MEMBER = Member(CARD, "a.b")
MEMBER_BYTES = {"card": CARD_WHOLE, "host": b"\x03a.b"}
MEMBER_WHOLE = b"".join(MEMBER_BYTES.values())
KNOCK = bytes(range(32))
ROSTER = Roster(b"\x05", "c", 9, 258, 65535, KNOCK, ClientAccess.LISTED, (MEMBER, MEMBER), (CARD,), b"\xaa" * 256)
ROSTER_BYTES = {
    "authority": b"\x00\x01\x05",
    "name": b"\x01c",
    "epoch": b"\0\0\0\0\0\0\0\x09",
    "cluster_port": b"\x01\x02",
    "client_port": b"\xff\xff",
    "knock": KNOCK,
    "client_access": b"\x02",
    "members": b"\x00\x02" + MEMBER_WHOLE * 2,
    "clients": b"\x00\x01" + CARD_WHOLE,
    "signature": SIGNATURE,
}
ROSTER_WHOLE = b"".join(ROSTER_BYTES.values())
EK = b"\x0e" * 1184
HELLO_BODY = HelloBody(
    Role.MEMBER,
    Purpose.STREAM,
    b"\x11" * 32,
    b"\x12" * 32,
    b"\x13" * 32,
    EK,
    "echo",
    b"\x14" * 20,
    b"\x15" * 256,
    bytes(351),
)
HELLO_BODY_BYTES = {
    "role": b"\x01",
    "purpose": b"\x02",
    "recipient": b"\x20" + b"\x11" * 32,
    "cluster": b"\x12" * 32,
    "x25519": b"\x13" * 32,
    "mlkem_ek": EK,
    "service": b"\x04echo",
    "initiator": b"\x14" + b"\x14" * 20,
    "signature": b"\x01\x00" + b"\x15" * 256,
    "pad": b"\x01\x5f" + bytes(351),
}

SAMPLES: dict[type, tuple[Any, dict[str, bytes]]] = {
    NodeCard: (CARD, CARD_BYTES),
    Member: (MEMBER, MEMBER_BYTES),
    Roster: (ROSTER, ROSTER_BYTES),
    ClusterCard: (
        ClusterCard(b"\x05", "c", 9, 258, ClientAccess.ANYONE, (MEMBER,), b"\xaa" * 256),
        {
            "authority": b"\x00\x01\x05",
            "name": b"\x01c",
            "epoch": b"\0\0\0\0\0\0\0\x09",
            "client_port": b"\x01\x02",
            "client_access": b"\x01",
            "members": b"\x00\x01" + MEMBER_WHOLE,
            "signature": SIGNATURE,
        },
    ),
    FrameHeader: (FrameHeader(FrameKind.RECORD, 0x010203), {"kind": b"\x03", "length": b"\x01\x02\x03"}),
    Hello: (
        Hello(2, b"\x01" * 256, b"\x02" * 1936, b"\x03" * 16),
        {
            "version": b"\x00\x02",
            "kem_ciphertext": b"\x01\x00" + b"\x01" * 256,
            "sealed": b"\x02" * 1936,
            "mac": b"\x03" * 16,
        },
    ),
    HelloBody: (HELLO_BODY, HELLO_BODY_BYTES),
    HelloReply: (HelloReply(b"\x01" * 32, b"\x02" * 1180), {"salt": b"\x01" * 32, "sealed": b"\x02" * 1180}),
    ReplyBody: (
        ReplyBody(b"\x01" * 32, b"\x02" * 32, b"\x03" * 1088, 60_000, 7),
        {
            "key2": b"\x01" * 32,
            "x25519": b"\x02" * 32,
            "mlkem_ciphertext": b"\x03" * 1088,
            "keepalive": b"\x00\x00\xea\x60",
            "epoch": b"\0\0\0\0\0\0\0\x07",
        },
    ),
    RecordPlaintext: (RecordPlaintext(RecordType.DATA, b"abc"), {"type": b"\x02", "payload": b"abc"}),
    ErrorBody: (ErrorBody(0x0102, "no"), {"code": b"\x01\x02", "text": b"\x00\x02no"}),
    LinkHeader: (LinkHeader(LinkType.ROSTER_TRANSFER, 0x400000), {"type": b"\x03", "length": b"\x40\x00\x00"}),
    RosterOffer: (RosterOffer(1, b"\x09" * 32), {"epoch": b"\0\0\0\0\0\0\0\x01", "digest": b"\x09" * 32}),
    RosterRequest: (RosterRequest(), {}),
    RosterTransfer: (RosterTransfer(ROSTER), {"roster": ROSTER_WHOLE}),
}

every_message = pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)


def whole(cls: type, **changes: bytes) -> bytes:
    """The sample's bytes, some fields replaced."""
    return b"".join((SAMPLES[cls][1] | changes).values())


@every_message
@pytest.mark.spec("NO-3", "NO-4", "NO-5", "NO-6", "NO-7", "NO-8", "NO-9", "NO-10")
def test_message_has_exactly_its_one_encoding(cls: type) -> None:
    message, pieces = SAMPLES[cls]
    assert [field.name for field in fields_of(cls)] == list(pieces)
    assert encode(message) == whole(cls)
    decoded: Any = decode(cls, whole(cls))
    assert decoded == message
    assert type(decoded) is cls
    assert decode(cls, memoryview(bytearray(whole(cls)))) == message


@every_message
@pytest.mark.spec("NO-15", "NO-20")
def test_every_truncation_is_refused_in_the_field_that_it_cuts(cls: type) -> None:
    data = whole(cls)
    if cls is RecordPlaintext:  # its payload is whatever is left
        data = data[:1]
    for size in range(len(data)) if len(data) < 2500 else range(0, len(data), 7):
        with pytest.raises(DecodeError) as caught:
            decode(cls, data[:size])
        assert caught.value.where.startswith(f"{cls.__name__}.")
        assert caught.value.offset <= size


@every_message
@pytest.mark.spec("NO-16", "NO-20")
def test_a_byte_left_over_is_refused(cls: type) -> None:
    if cls is RecordPlaintext:
        assert decode(RecordPlaintext, whole(cls) + b"\0").payload == b"abc\0"
        return
    with pytest.raises(DecodeError) as caught:
        decode(cls, whole(cls) + b"\0")
    assert (caught.value.where, caught.value.offset) == (cls.__name__, len(whole(cls)))


@pytest.mark.parametrize(
    ("cls", "size", "where", "offset"),
    [
        (ReplyBody, 40, "ReplyBody.x25519", 32),
        (ErrorBody, 1, "ErrorBody.code", 0),
        (ErrorBody, 3, "ErrorBody.text", 2),
        (ErrorBody, 5, "ErrorBody.text", 4),
        (Member, 3, "Member.card.name", 1),
        (Roster, 48 + 4 + len(MEMBER_WHOLE), "Roster.members[1].card.name", 52 + len(MEMBER_WHOLE)),
    ],
)
def test_a_refusal_names_field_and_offset(cls: type, size: int, where: str, offset: int) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(cls, whole(cls)[:size])
    assert (caught.value.where, caught.value.offset) == (where, offset)


# ---- bounds ------------------------------------------------------------------


def short(size: int) -> bytes:
    return bytes([size]) + b"x" * size


def long(size: int) -> bytes:
    return size.to_bytes(2, "big") + b"x" * size


BAD_TEXTS = [
    b"\x00",
    b"a\x1f",
    b"\x7f",
    b"\xc2\x80",
    b"\xc2\x9f",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc3",
]
GOOD_TEXTS = ["\x20", "~", "\xa0", "\u2028", "\ufeffa", "\ufffe", "\U0010ffff", "e\u0301", " a "]
SIGNATURE_SIZES = (256, 384, 512)
BAD_SIGNATURES = [long(n) for n in (0, 20, 255, 257, 383, 385, 511, 513)]
GOOD_SIGNATURES = [long(n) for n in SIGNATURE_SIZES]
ALL_BITS = b"\xff" * 8

REFUSED: dict[tuple[type, str], list[bytes]] = {
    (NodeCard, "name"): [short(0), short(65), *(bytes([len(t)]) + t for t in BAD_TEXTS)],
    (NodeCard, "id_size"): [bytes([n]) for n in (0, 19, 21, 31, 33, 255)],
    (NodeCard, "sk"): [long(0), long(1025)],
    (NodeCard, "ck"): [long(0), long(1025)],
    (NodeCard, "signature"): BAD_SIGNATURES,
    (Member, "host"): [short(0), short(254)],
    (Roster, "authority"): [long(0), long(1025)],
    (Roster, "name"): [short(0), short(65)],
    (Roster, "epoch"): [bytes(8)],
    (Roster, "cluster_port"): [bytes(2)],
    (Roster, "client_port"): [bytes(2)],
    (Roster, "client_access"): [b"\x00", b"\x03"],
    (Roster, "members"): [b"\x00\x00", b"\x01\x01" + MEMBER_WHOLE * 257],
    (Roster, "clients"): [b"\x08\x01" + CARD_WHOLE * 2049],
    (Roster, "signature"): BAD_SIGNATURES,
    (ClusterCard, "authority"): [long(0), long(1025)],
    (ClusterCard, "name"): [short(0), short(65)],
    (ClusterCard, "epoch"): [bytes(8)],
    (ClusterCard, "client_port"): [bytes(2)],
    (ClusterCard, "client_access"): [b"\x00", b"\x03"],
    (ClusterCard, "members"): [b"\x00\x00", b"\x01\x01" + MEMBER_WHOLE * 257],
    (ClusterCard, "signature"): BAD_SIGNATURES,
    (FrameHeader, "kind"): [b"\x00", b"\x04", b"\xff"],
    (Hello, "version"): [b"\x00\x00", b"\x00\x01", b"\x00\x03", b"\x02\x00"],
    (Hello, "kem_ciphertext"): BAD_SIGNATURES,
    (HelloBody, "role"): [b"\x00", b"\x04"],
    (HelloBody, "purpose"): [b"\x00", b"\x03"],
    (HelloBody, "recipient"): [short(n) for n in (0, 19, 21, 31, 33)],
    (HelloBody, "service"): [short(0), short(65)],
    (HelloBody, "initiator"): [short(n) for n in (0, 19, 21, 31, 33)],
    (HelloBody, "signature"): BAD_SIGNATURES,
    (ReplyBody, "keepalive"): [n.to_bytes(4, "big") for n in (1, 999, 3_600_001)],
    (RecordPlaintext, "type"): [b"\x00", b"\x07"],
    (RecordPlaintext, "payload"): [b"x" * 65_537],
    (ErrorBody, "text"): [long(1025), b"\x00\x01\n"],
    (LinkHeader, "type"): [b"\x00", b"\x04"],
    (RosterOffer, "epoch"): [bytes(8)],
}

ACCEPTED: dict[tuple[type, str], list[bytes]] = {
    (NodeCard, "name"): [short(1), short(64), *(bytes([len(t.encode())]) + t.encode() for t in GOOD_TEXTS)],
    (NodeCard, "id_size"): [b"\x14", b"\x20"],
    (NodeCard, "sk"): [long(1), long(1024)],
    (NodeCard, "ck"): [long(1), long(1024)],
    (NodeCard, "serial"): [bytes(8), ALL_BITS],
    (NodeCard, "signature"): GOOD_SIGNATURES,
    (Member, "host"): [short(1), short(253)],
    (Roster, "authority"): [long(1), long(1024)],
    (Roster, "epoch"): [bytes(7) + b"\x01", ALL_BITS],
    (Roster, "cluster_port"): [b"\x00\x01", b"\xff\xff"],
    (Roster, "client_port"): [b"\x00\x01", b"\xff\xff"],
    (Roster, "client_access"): [b"\x01", b"\x02"],
    (Roster, "members"): [b"\x00\x01" + MEMBER_WHOLE, b"\x01\x00" + MEMBER_WHOLE * 256],
    (Roster, "clients"): [b"\x00\x00", b"\x08\x00" + CARD_WHOLE * 2048],
    (Roster, "signature"): GOOD_SIGNATURES,
    (ClusterCard, "members"): [b"\x00\x01" + MEMBER_WHOLE, b"\x01\x00" + MEMBER_WHOLE * 256],
    (ClusterCard, "client_port"): [b"\x00\x01", b"\xff\xff"],
    (ClusterCard, "client_access"): [b"\x01", b"\x02"],
    (ClusterCard, "epoch"): [bytes(7) + b"\x01", ALL_BITS],
    (ClusterCard, "signature"): GOOD_SIGNATURES,
    (FrameHeader, "kind"): [b"\x01", b"\x02", b"\x03"],
    (FrameHeader, "length"): [bytes(3), b"\xff\xff\xff"],
    (Hello, "kem_ciphertext"): GOOD_SIGNATURES,
    (ReplyBody, "keepalive"): [n.to_bytes(4, "big") for n in (0, 1000, 1001, 3_599_999, 3_600_000)],
    (ReplyBody, "epoch"): [bytes(8), ALL_BITS],
    (RecordPlaintext, "type"): [bytes([n]) for n in range(1, 7)],
    (RecordPlaintext, "payload"): [b"", b"x", b"x" * 65_536],
    (ErrorBody, "code"): [b"\x00\x00", b"\xff\xff"],
    (ErrorBody, "text"): [long(0), long(1024)],
    (LinkHeader, "type"): [b"\x01", b"\x02", b"\x03"],
    (RosterOffer, "epoch"): [bytes(7) + b"\x01", ALL_BITS],
}


def cases(table: dict[tuple[type, str], list[bytes]]) -> list[Any]:
    return [
        pytest.param(cls, field, piece, id=f"{cls.__name__}.{field}-{i}")
        for (cls, field), pieces in table.items()
        for i, piece in enumerate(pieces)
    ]


@pytest.mark.parametrize(("cls", "field", "piece"), cases(REFUSED))
@pytest.mark.spec("NO-11", "NO-12", "NO-17", "NO-18", "NO-19")
def test_a_value_out_of_bounds_is_refused_at_its_offset(cls: type, field: str, piece: bytes) -> None:
    pieces = SAMPLES[cls][1]
    start = sum(len(pieces[name]) for name in list(pieces)[: list(pieces).index(field)])
    with pytest.raises(DecodeError) as caught:
        decode(cls, whole(cls, **{field: piece}))
    assert (caught.value.where, caught.value.offset) == (f"{cls.__name__}.{field}", start)


@pytest.mark.parametrize(("cls", "field", "piece"), cases(ACCEPTED))
@pytest.mark.spec("NO-13")
def test_a_value_at_its_bounds_is_taken(cls: type, field: str, piece: bytes) -> None:
    data = whole(cls, **{field: piece})
    assert encode(decode(cls, data)) == data


@pytest.mark.parametrize(("cls", "field"), [(HelloBody, "recipient"), (HelloBody, "service"), (Roster, "members")])
@pytest.mark.spec("NO-17")
def test_a_length_out_of_bounds_is_refused_before_what_it_announces(cls: type, field: str) -> None:
    pieces = SAMPLES[cls][1]
    before = b"".join(list(pieces.values())[: list(pieces).index(field)])
    with pytest.raises(DecodeError) as caught:
        decode(cls, before + b"\xff\xff")
    assert caught.value.offset == len(before)


# ---- bounds that join fields -------------------------------------------------


def hello_body(pad_size: int | None = None, **changes: bytes) -> bytes:
    """HELLO_BODY's bytes with changes, padded to 1,920 bytes unless told."""
    pieces = HELLO_BODY_BYTES | changes
    if "pad" not in changes:
        size = (
            1920 - 2 - sum(len(piece) for name, piece in pieces.items() if name != "pad")
            if pad_size is None
            else pad_size
        )
        pieces["pad"] = size.to_bytes(2, "big") + bytes(size)
    return b"".join(pieces.values())


EMPTY_SIGNATURE = b"\x00\x00"


@pytest.mark.parametrize(
    ("field", "data"),
    [
        ("service", hello_body(service=b"\x00")),
        ("service", hello_body(purpose=b"\x01")),
        ("initiator", hello_body(initiator=b"\x00")),
        ("initiator", hello_body(role=b"\x03", signature=EMPTY_SIGNATURE)),
        ("initiator", hello_body(role=b"\x02", initiator=b"\x00", signature=EMPTY_SIGNATURE)),
        ("signature", hello_body(signature=EMPTY_SIGNATURE)),
        ("signature", hello_body(role=b"\x03", initiator=b"\x00")),
        ("pad", hello_body(pad_size=350)),
        ("pad", hello_body(pad_size=352)),
        ("pad", hello_body(pad_size=22)),
        ("pad", hello_body(pad_size=644)),
        ("pad", hello_body(pad=b"\x01\x5f\x01" + bytes(350))),
        ("pad", hello_body(pad=b"\x01\x5f" + bytes(350) + b"\x01")),
    ],
)
@pytest.mark.spec("NO-18", "HS-13")
def test_hello_body_whose_fields_do_not_go_together_is_refused(field: str, data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(HelloBody, data)
    assert caught.value.where == f"HelloBody.{field}"


@pytest.mark.parametrize(
    ("pad", "data"),
    [
        (23, hello_body(service=short(64), initiator=short(32), signature=long(512))),
        (627, hello_body(role=b"\x03", initiator=b"\x00", signature=EMPTY_SIGNATURE)),
        (
            643,
            hello_body(
                role=b"\x03",
                purpose=b"\x01",
                recipient=short(20),
                service=b"\x00",
                initiator=b"\x00",
                signature=EMPTY_SIGNATURE,
            ),
        ),
        (
            367,
            hello_body(purpose=b"\x01", recipient=short(20), service=b"\x00", initiator=short(20)),
        ),
        (211, hello_body(role=b"\x02", initiator=short(32), signature=long(384))),
    ],
)
@pytest.mark.spec("HS-13")
def test_hello_bodies_of_all_shapes_have_1920_bytes(pad: int, data: bytes) -> None:
    body = decode(HelloBody, data)
    assert (len(data), len(body.pad)) == (1920, pad)
    assert encode(body) == data
