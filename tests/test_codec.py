"""What the encoder refuses, what stands before a signature, and how the layout is spelled."""

import enum
import tracemalloc
from typing import Any

import attrs
import pytest

from xlattice_trio.errors import DecodeError, EncodeError, UsageError
from xlattice_trio.wire import layout
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.layout import fields_of
from xlattice_trio.wire.messages import (
    ClientAccess,
    ClusterCard,
    ErrorBody,
    FrameHeader,
    FrameKind,
    Hello,
    HelloBody,
    HelloReply,
    Member,
    NodeCard,
    Purpose,
    RecordPlaintext,
    RecordType,
    ReplyBody,
    Role,
    Roster,
    RosterOffer,
    RosterTransfer,
)

CARD = NodeCard("n", 20, b"\x01", b"\x02", 0, bytes(256))
CARD_SIZE = 2 + 1 + 3 + 3 + 8 + 258
MEMBER = Member(CARD, "h")
ROSTER = Roster(b"\x01", "c", 1, 1, 2, bytes(32), ClientAccess.ANYONE, (MEMBER,), (), bytes(256))
BODY = HelloBody(
    Role.MEMBER, Purpose.LINK, bytes(20), bytes(32), bytes(32), bytes(1184), "", bytes(20), bytes(256), bytes(367)
)
ANONYMOUS_BODY = attrs.evolve(
    BODY, role=Role.ANONYMOUS, purpose=Purpose.STREAM, service="x", initiator=b"", signature=b"", pad=bytes(642)
)
REPLY = ReplyBody(bytes(32), bytes(32), bytes(1088), 0, 0)
MESSAGES = (
    CARD,
    MEMBER,
    ROSTER,
    ClusterCard(b"\x01", "c", 1, 1, ClientAccess.ANYONE, (MEMBER,), bytes(256)),
    FrameHeader(FrameKind.HELLO, 0),
    Hello(2, bytes(256), bytes(1936), bytes(16)),
    BODY,
    ANONYMOUS_BODY,
    HelloReply(bytes(32), bytes(1180)),
    REPLY,
    RecordPlaintext(RecordType.DATA, b""),
    ErrorBody(0, ""),
    RosterOffer(1, bytes(32)),
    RosterTransfer(ROSTER),
)

REFUSED: list[tuple[Any, str, list[Any]]] = [
    (CARD, "name", ["", "x" * 65, "é" * 33, "\0", "a\x1f", "\x7f", "\x80", "\x9f", "\ud800", b"n", None]),
    (CARD, "id_size", [0, 19, 21, 31, 33, 256, -1, "20"]),
    (CARD, "sk", [b"", bytes(1025), "x"]),
    (CARD, "serial", [-1, 1 << 64, 1.0]),
    (CARD, "signature", [b"", bytes(255), bytes(257), bytes(383), bytes(511), bytes(513)]),
    (MEMBER, "card", [None, MEMBER, attrs.evolve(CARD, name="")]),
    (MEMBER, "host", ["", "x" * 254]),
    (ROSTER, "epoch", [0, 1 << 64]),
    (ROSTER, "cluster_port", [0, 65_536, -1]),
    (ROSTER, "client_port", [0, 65_536]),
    (ROSTER, "knock", [bytes(31), bytes(33), "x" * 32]),
    (ROSTER, "client_access", [0, 3]),
    (ROSTER, "members", [(), (MEMBER,) * 257, (CARD,), (attrs.evolve(MEMBER, host=""),)]),
    (ROSTER, "clients", [(CARD,) * 2049, (MEMBER,)]),
    (FrameHeader(FrameKind.HELLO, 0), "kind", [0, 4, 256]),
    (FrameHeader(FrameKind.HELLO, 0), "length", [-1, 1 << 24]),
    (Hello(2, bytes(256), bytes(1936), bytes(16)), "version", [1, 3]),
    (Hello(2, bytes(256), bytes(1936), bytes(16)), "sealed", [bytes(1935), bytes(1937)]),
    (BODY, "recipient", [b"", bytes(19), bytes(21), bytes(31), bytes(33)]),
    (BODY, "service", ["x"]),
    (BODY, "initiator", [b"", bytes(19), bytes(32)]),
    (BODY, "signature", [b"", bytes(257), bytes(384)]),
    (BODY, "pad", [bytes(366), bytes(368), b"\x01" + bytes(366), bytes(22), bytes(644)]),
    (BODY, "role", [0, 4, Role.ANONYMOUS, 3]),
    (BODY, "purpose", [0, 3, Purpose.STREAM, 2]),
    (ANONYMOUS_BODY, "role", [Role.MEMBER, 1]),
    (REPLY, "keepalive", [1, 999, 3_600_001, 1 << 32]),
    (RecordPlaintext(RecordType.DATA, b""), "type", [0, 7]),
    (RecordPlaintext(RecordType.DATA, b""), "payload", [bytes(65_537), "x"]),
    (ErrorBody(0, ""), "code", [-1, 65_536]),
    (ErrorBody(0, ""), "text", ["x" * 1025, "\n"]),
    (RosterOffer(1, bytes(32)), "epoch", [0]),
    (RosterTransfer(ROSTER), "roster", [None, attrs.evolve(ROSTER, epoch=0)]),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_what_the_encoder_takes_the_decoder_gives_back(message: Any) -> None:
    assert decode(type(message), encode(message)) == message


@pytest.mark.parametrize(
    ("message", "field", "value"),
    [
        pytest.param(message, field, value, id=f"{type(message).__name__}.{field}-{i}")
        for message, field, values in REFUSED
        for i, value in enumerate(values)
    ],
)
@pytest.mark.spec("NO-21")
def test_a_message_without_an_encoding_is_the_callers_fault(message: Any, field: str, value: Any) -> None:
    with pytest.raises(EncodeError) as caught:
        encode(attrs.evolve(message, **{field: value}))
    assert isinstance(caught.value, UsageError)


def _roster_of(size: int) -> Roster:
    """A roster with an encoding of `size` bytes."""
    client = attrs.evolve(CARD, sk=bytes(1024), ck=bytes(1024))
    room = size - len(encode(ROSTER))
    count, room = divmod(room, len(encode(client)))
    if room < 300:
        count, room = count - 1, room + len(encode(client))
    sk = min(room - CARD_SIZE + 1, 1024)
    ck = room - CARD_SIZE + 2 - sk
    last = attrs.evolve(CARD, sk=bytes(sk), ck=bytes(ck))
    return attrs.evolve(ROSTER, clients=(client,) * count + (last,))


@pytest.mark.spec("NO-18")
def test_a_roster_has_at_most_4194304_bytes() -> None:
    data = encode(_roster_of(4_194_304))
    assert len(data) == 4_194_304
    assert decode(Roster, data) == _roster_of(4_194_304)
    with pytest.raises(EncodeError):
        encode(_roster_of(4_194_305))
    # one byte more, in the name of the cluster
    longer = data[:3] + b"\x02cc" + data[5:]
    with pytest.raises(DecodeError) as caught:
        decode(Roster, longer)
    assert caught.value.where == "Roster.signature"
    assert caught.value.offset == len(longer) - 258


# ---- before a field ----------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "field", "left_out"),
    [
        (CARD, "signature", 258),
        (CARD, "id_size", CARD_SIZE - 2),
        (CARD, "name", CARD_SIZE),
        (ROSTER, "signature", 258),
        (BODY, "signature", 258 + 369),
        (BODY, "pad", 369),
    ],
)
def test_what_stands_before_a_field_is_the_start_of_the_encoding(message: Any, field: str, left_out: int) -> None:
    data = encode(message)
    assert encode_before(message, field) == data[: len(data) - left_out]


def test_what_stands_before_a_field_does_not_hang_on_what_stands_behind() -> None:
    unsigned = attrs.evolve(BODY, signature=b"", pad=b"")
    assert encode_before(unsigned, "signature") == encode_before(BODY, "signature")
    with pytest.raises(EncodeError):
        encode_before(attrs.evolve(BODY, recipient=b""), "signature")


# ---- the layout's own words --------------------------------------------------


class Colour(enum.IntEnum):
    RED = 1


@pytest.mark.parametrize(
    ("word", "text"),
    [
        (layout.Uint(1), "u8"),
        (layout.Uint(3), "u24"),
        (layout.Fixed(32), "opaque[32]"),
        (layout.Opaque(1, 1024), "opaque<1..1024>"),
        (layout.Utf8(0, 64), "utf8<0..64>"),
        (layout.Rest(0, 9), "rest<0..9>"),
        (layout.Nested(NodeCard), "NodeCard"),
        (layout.ListOf(Member, 1, 256), "list<Member, 1..256>"),
        (layout.Values(((1, None),)), ">= 1"),
        (layout.Values(((2, 2),)), "= 2"),
        (layout.Values(((1, 65_535),)), "1..65535"),
        (layout.Values(((0, 0), (1000, 3_600_000))), "0 or 1000..3600000"),
        (layout.Member(Colour), "enum Colour"),
        (layout.Lengths((20, 32)), "20 or 32 bytes"),
        (layout.EmptyIff("role", Role.ANONYMOUS), "empty if and only if role = anonymous"),
        (layout.Zeros(), "zeros"),
        (layout.MessageSize(1920), "message is 1920 bytes"),
        (layout.MessageSize(9, exact=False), "message is at most 9 bytes"),
    ],
)
def test_layout_is_spelled_as_in_the_specification(word: object, text: str) -> None:
    assert str(word) == text


@pytest.mark.parametrize(
    ("most", "size"), [(0, 1), (64, 1), (255, 1), (256, 2), (65_535, 2), (65_536, 3), (16_777_215, 3)]
)
@pytest.mark.spec("NO-5")
def test_the_length_prefix_is_the_smallest_that_holds_the_longest(most: int, size: int) -> None:
    assert layout.prefix_size(most) == size


def test_a_field_shows_its_bounds() -> None:
    fields = {field.name: field for field in fields_of(HelloBody)}
    assert fields["cluster"].bounds_text == "-"
    assert fields["pad"].bounds_text == "zeros; message is 1920 bytes"


@pytest.mark.parametrize(
    ("ranges", "inside", "outside"),
    [
        (((2, None),), (2, 3, 1 << 64), (0, 1)),
        (((5, 5),), (5,), (4, 6)),
        (((0, 0), (10, 12)), (0, 10, 11, 12), (1, 9, 13)),
    ],
)
def test_a_set_of_values_holds_its_ends(
    ranges: tuple[tuple[int, int | None], ...], inside: tuple[int, ...], outside: tuple[int, ...]
) -> None:
    values = layout.Values(ranges)
    assert all(value in values for value in inside)
    assert not any(value in values for value in outside)


@attrs.frozen
class Odd:
    """What no message of the protocol has: a prefix of three bytes, and a text that is secret."""

    long: bytes = layout.opaque(0, 65_536)
    word: str = attrs.field(
        metadata={"xlattice_trio.layout": (layout.Utf8(0, 9), ())}, repr=layout._secret_repr, default=""
    )


def test_a_prefix_of_three_bytes_is_written_and_read() -> None:
    assert encode(Odd(b"abc", "d")) == b"\0\0\x03abc\x01d"
    assert decode(Odd, b"\0\0\x03abc\x01d") == Odd(b"abc", "d")


@pytest.mark.spec("NO-15", "NO-22")
@pytest.mark.parametrize("data", [b"\xff\xff\xff", b"\xff\xff\xff" + bytes(1000)], ids=len)
def test_no_memory_is_taken_for_bytes_that_are_only_announced(data: bytes) -> None:
    large = attrs.make_class("Large", {"first": layout.opaque(0, 16_777_215)})
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(large, data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.spec("NO-22")
def test_no_memory_is_taken_for_elements_that_are_only_announced() -> None:
    many = attrs.make_class("Many", {"elements": layout.list_of(Sized, 0, 65_535)})
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            decode(many, b"\xff\xff\x03abc")
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@attrs.frozen
class Sized:
    """A message of four bytes."""

    word: bytes = layout.opaque(0, 9, layout.MessageSize(4))


@attrs.frozen
class Holder:
    """One message inside another, not at its start."""

    first: int = layout.u8()
    sized: Sized = layout.nested(Sized)  # noqa: RUF009


@pytest.mark.spec("NO-10", "NO-18")
def test_the_size_of_a_message_inside_another_is_its_own() -> None:
    holder = Holder(7, Sized(b"abc"))
    assert encode(holder) == b"\x07\x03abc"
    assert decode(Holder, b"\x07\x03abc") == holder
    for wrong in (b"\x07\x02ab", b"\x07\x04abcd"):
        with pytest.raises(DecodeError) as caught:
            decode(Holder, wrong)
        assert (caught.value.where, caught.value.offset) == ("Holder.sized.word", 1)


@pytest.mark.spec("NO-30")
def test_secrets_do_not_show() -> None:
    knock = b"knockknockknock!" * 2
    for shown in (repr(attrs.evolve(ROSTER, knock=knock)), repr(attrs.evolve(REPLY, key2=knock))):
        assert "knock!" not in shown
        assert "32 secret bytes" in shown
    assert repr(Odd(b"", "hidden")) == "Odd(long=b'', word=<secret>)"
    assert repr(ErrorBody(7, "text")) == "ErrorBody(code=7, text='text')"
    assert repr(RosterOffer(1, bytes(1))) == "RosterOffer(epoch=1, digest=b'\\x00')"
    assert "secret" not in repr(CARD)
