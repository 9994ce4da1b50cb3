"""The attacker's toolbox: it can do everything that knowledge allows, and nothing that it forbids."""

import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pairs import NOW, Scene, anonymous_scene, client_scene, link_scene, member_stream_scene, nodes
from xlattice_trio import crypto
from xlattice_trio.crypto import NotOpened
from xlattice_trio.errors import DecodeError, HandshakeRefused, RefusalReason
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.handshake.transitions import InitiatorState, ResponderState
from xlattice_trio.session.records import Opener
from xlattice_trio.testing.edges import examples
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.testing.strategies import damages, field_changes, messages
from xlattice_trio.testing.toolbox import (
    DAMAGE,
    Attacker,
    Destination,
    RawPeer,
    cut,
    damage,
    delete,
    extend,
    field_edge,
    field_edges,
    field_names,
    flip,
    frame_spans,
    insert,
    pattern,
    put,
    spans,
    splice,
    truncate,
    with_field,
)
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.layout import fields_of
from xlattice_trio.wire.messages import (
    MESSAGES,
    FrameHeader,
    Hello,
    HelloBody,
    HelloReply,
    NodeCard,
    Purpose,
    RecordPlaintext,
    ReplyBody,
    Role,
)

SCENES = (link_scene, member_stream_scene, client_scene, anonymous_scene)


def destination(scene: Scene) -> Destination:
    card = scene.responder.card
    return Destination(ck=card.ck, recipient=card.node_id.value, cluster=scene.roster.cluster_id, knock=scene.knock)


def say(attacker: Attacker, scene: Scene, **parts: Any) -> bytes:
    values: dict[str, Any] = {
        "role": scene.role,
        "purpose": scene.purpose,
        "service": scene.service.encode(),
        "as_": scene.identity,
    }
    return attacker.hello(destination(scene), **values | parts).frame


def refusal(scene: Scene, hello: bytes) -> RefusalReason:
    with pytest.raises(HandshakeRefused) as caught:
        scene.new_responder().receive_data(hello)
    return caught.value.reason


# ---- bytes -------------------------------------------------------------------


def test_damage_does_what_its_name_says() -> None:
    data = b"abcdef"
    assert flip(data, 0) == b"`bcdef"
    assert flip(data, 8 * 7 + 1) == b"a`cdef"
    assert put(data, 4, b"XYZ") == b"abcdXY"
    assert insert(data, 6, b"X") == b"abcdefX"
    assert delete(data, 1, 2) == b"adef"
    assert truncate(data, 8) == b"ab"
    assert extend(data, b"X") == b"abcdefX"
    assert splice(data, b"ABCDEF", 2) == b"abCDEF"


@given(st.binary(max_size=20), st.sampled_from(sorted(DAMAGE)), st.integers(0, 10_000), st.binary(max_size=4))
def test_every_number_means_something(data: bytes, kind: str, at: int, some: bytes) -> None:
    changed = damage(data, kind, at, some)
    sizes = {"flip": 0, "put": 0, "insert": len(some), "extend": len(some)}
    if kind in sizes:
        assert len(changed) == len(data) + sizes[kind]
    else:
        assert len(changed) <= len(data)
    if kind == "truncate" and data:
        assert len(changed) < len(data)


@given(damages(), field_changes(HelloBody, ReplyBody))
def test_what_hypothesis_chooses_are_arguments(how: tuple[str, int, bytes], change: tuple[str, bytes]) -> None:
    assert isinstance(damage(bytes(100), *how), bytes)
    name, encoded = change
    assert encoded in field_edges(name)


@given(st.binary(max_size=50), st.lists(st.integers(0, 60), max_size=5))
def test_pieces_are_whole_again_when_they_are_joined(data: bytes, sizes: list[int]) -> None:
    pieces = cut(data, *sizes)
    assert b"".join(pieces) == data
    assert all(pieces)


# ---- fields ------------------------------------------------------------------


@given(st.data())
@settings(max_examples=50)
def test_every_field_of_a_message_is_where_the_codec_has_it(data: st.DataObject) -> None:
    cls = data.draw(st.sampled_from(MESSAGES))
    encoded = encode(data.draw(messages(cls)))
    found = spans(cls, encoded)
    assert list(found) == [field.name for field in fields_of(cls)]
    edges = [end for span in found.values() for end in span]
    assert edges == sorted(edges)
    assert edges[-1:] == ([len(encoded)] if found else [])
    for size in range(0, len(encoded), max(1, len(encoded) // 20)):
        whole = spans(cls, encoded[:size])
        assert whole.items() <= found.items() or "payload" in whole  # which has no end of its own


def test_a_field_is_replaced_and_the_rest_stays() -> None:
    body = examples(HelloBody)
    encoded = encode(next(body))
    changed = with_field(HelloBody, encoded, "service", b"\x04name")
    assert len(changed) == len(encoded)  # padded anew
    assert spans(HelloBody, changed)["service"][1] - spans(HelloBody, changed)["service"][0] == 5
    card = encode(next(examples(NodeCard)))
    assert with_field(NodeCard, card, "serial", b"12345678") == card.replace(bytes(8) + b"\1\0", b"12345678\1\0", 1)
    assert with_field(NodeCard, card[:1], "serial", b"12345678") == card[:1]


def test_edges_of_a_field_are_on_both_sides_of_its_bounds() -> None:
    names = field_names(*MESSAGES)
    assert {"HelloBody.role", "ReplyBody.keepalive", "RosterOffer.epoch"} < set(names)
    assert field_edge("ReplyBody.keepalive", 0) == bytes(4)
    assert {int.from_bytes(edge, "big") for edge in field_edges("HelloBody.role")} >= {0, 1, 2, 3, 4, 255}
    keepalives = [int.from_bytes(edge, "big") for edge in field_edges("ReplyBody.keepalive")]
    assert {0, 1, 999, 1000, 1001, 3_599_999, 3_600_000, 3_600_001} <= set(keepalives)
    for name in names:
        assert field_edge(name, len(field_edges(name))) == field_edge(name, 0)


def test_the_fields_of_frames_are_named() -> None:
    scene = client_scene()
    hello = scene.new_initiator().hello()
    assert list(frame_spans(hello)) == [
        "FrameHeader.kind",
        "FrameHeader.length",
        "Hello.version",
        "Hello.kem_ciphertext",
        "Hello.sealed",
        "Hello.mac",
    ]
    assert frame_spans(hello)["Hello.mac"] == (len(hello) - 16, len(hello))
    assert list(frame_spans(b"\x03\0\0\x11" + bytes(17))) == ["FrameHeader.kind", "FrameHeader.length", "Record"]
    assert frame_spans(b"") == {}


# ---- Hello ---------------------------------------------------------------------


@pytest.mark.parametrize("make", SCENES)
def test_a_hello_with_nothing_wrong_is_answered_and_the_session_is_the_attackers(make: Any) -> None:
    scene, attacker = make(), Attacker()
    responder, hello = scene.new_responder(), say(attacker, scene)
    reply = responder.receive_data(hello)
    peer = attacker.peer(Side.INITIATOR, hello, reply)
    assert peer is not None
    responder.receive_data(peer.record(1))
    assert responder.state is ResponderState.ESTABLISHED
    assert responder.established is not None
    secrets = attacker.secrets(hello, reply)
    assert secrets is not None
    assert responder.established.exporter == secrets.exporter
    assert responder.established.transcript_hash == secrets.th


def test_the_same_seed_makes_the_same_hello_in_a_process() -> None:
    assert say(Attacker("a"), client_scene()) == say(Attacker("a"), client_scene())
    assert say(Attacker("a"), client_scene()) != say(Attacker("b"), client_scene())


def test_a_hello_is_opened_with_the_key_alone() -> None:
    scene, attacker = client_scene(), Attacker()
    initiator = scene.new_initiator()
    hello = initiator.hello()
    assert attacker.open_hello(hello) is None
    assert attacker.change_hello(hello, "HelloBody.role", b"\x01") is None
    assert attacker.redirect_hello(hello, destination(scene)) is None
    assert attacker.reply(hello) is None
    attacker.own(test_identity(7))
    assert attacker.open_hello(hello) is None
    attacker.own(scene.responder)  # later is not too late
    opened = attacker.open_hello(hello)
    assert opened is not None
    assert decode(HelloBody, opened.body).recipient == scene.responder.node_id.value
    assert opened.field("service") == b"\x04echo"
    assert opened.field("nothing") == b""


@pytest.mark.parametrize("frame", [b"", b"\x01", b"\x01\x00\x08\xa4" + bytes(2212), b"\x02\x00\x04\xbc" + bytes(1212)])
def test_what_is_no_hello_is_not_opened(frame: bytes) -> None:
    attacker = Attacker()
    attacker.own(test_identity(0))
    assert attacker.open_hello(frame) is None
    assert attacker.open_reply(frame, frame) is None
    assert attacker.peer(Side.INITIATOR, frame, frame) is None


CHANGES = {
    "HelloBody.role": (b"\x01", RefusalReason.ROLE),
    "HelloBody.purpose": (b"\x03", RefusalReason.HELLO_MALFORMED),
    "HelloBody.recipient": (b"\x20" + bytes(32), RefusalReason.RECIPIENT),
    "HelloBody.cluster": (bytes(32), RefusalReason.CLUSTER),
    "HelloBody.x25519": (bytes(32), RefusalReason.SIGNATURE),
    "HelloBody.service": (b"\x05other", RefusalReason.SIGNATURE),
    "HelloBody.signature": (b"\x01\x00" + bytes(256), RefusalReason.SIGNATURE),
    "HelloBody.pad": (b"\x00\x01\x01", RefusalReason.FRAME_HEADER),
    "Hello.version": (b"\x00\x03", RefusalReason.VERSION),
    "Hello.kem_ciphertext": (b"\x01\x00" + bytes(256), RefusalReason.HELLO_NOT_OPENED),
    "Hello.sealed": (bytes(1936), RefusalReason.HELLO_NOT_OPENED),
    "Hello.mac": (bytes(16), RefusalReason.MAC),
    "FrameHeader.kind": (b"\x02", RefusalReason.FRAME_HEADER),
    "FrameHeader.length": (b"\x00\x08\xa5", RefusalReason.FRAME_HEADER),
}


@pytest.mark.parametrize("field", CHANGES)
def test_one_field_of_a_hello_is_changed_and_everything_else_made_right_for_it(field: str) -> None:
    scene, attacker = client_scene(), Attacker()
    attacker.own(scene.responder)
    encoded, reason = CHANGES[field]
    changed = attacker.change_hello(scene.new_initiator().hello(), field, encoded)
    assert changed is not None
    assert refusal(scene, changed) is reason


def test_who_has_the_initiators_key_as_well_signs_anew() -> None:
    scene, attacker = client_scene(), Attacker()
    attacker.own(scene.responder)
    assert scene.identity is not None
    hello = attacker.change_hello(
        scene.new_initiator().hello(), "HelloBody.service", b"\x05other", signer=scene.identity.sk_priv
    )
    assert hello is not None
    responder = scene.new_responder()
    responder.receive_data(hello)
    assert responder.state is ResponderState.AWAIT_CONFIRM


def test_a_hello_with_the_attackers_own_shares_is_a_session_of_its_own() -> None:
    scene, attacker = anonymous_scene(), Attacker()
    attacker.own(scene.responder)
    hello: bytes | None = scene.new_initiator().hello()
    for field, encoded in (("x25519", attacker.x25519_share()), ("mlkem_ek", attacker.mlkem_ek())):
        assert hello is not None
        hello = attacker.change_hello(hello, f"HelloBody.{field}", encoded)
    assert hello is not None
    responder = scene.new_responder()
    peer = attacker.peer(Side.INITIATOR, hello, responder.receive_data(hello))
    assert peer is not None
    responder.receive_data(peer.record(1))
    assert responder.state is ResponderState.ESTABLISHED


def test_a_hello_for_one_node_is_sealed_for_another_and_refused_there() -> None:
    scene, other = client_scene(), client_scene(responder=nodes()[0])
    attacker = Attacker()
    attacker.own(scene.responder)
    hello = scene.new_initiator().hello()
    redirected = attacker.redirect_hello(hello, destination(other))
    assert redirected is not None
    assert refusal(other, redirected) is RefusalReason.RECIPIENT
    assert scene.identity is not None
    recipient = b"\x20" + other.responder.node_id.value
    changed = attacker.change_hello(redirected, "HelloBody.recipient", recipient, signer=scene.identity.sk_priv)
    assert changed is not None
    other.new_responder().receive_data(changed)  # which is what whoever has his key may do


def test_the_knock_is_found_among_those_that_are_known() -> None:
    scene, attacker = link_scene(), Attacker()
    attacker.own(scene.responder)
    hello = scene.new_initiator().hello()
    changed = attacker.change_hello(hello, "HelloBody.cluster", bytes(32))
    assert changed is not None
    assert refusal(scene, changed) is RefusalReason.MAC
    attacker = Attacker()
    attacker.own(scene.responder)
    attacker.learn_knock(scene.knock)
    changed = attacker.change_hello(hello, "HelloBody.cluster", bytes(32))
    assert changed is not None
    assert refusal(scene, changed) is RefusalReason.CLUSTER


# ---- HelloReply ------------------------------------------------------------------


@pytest.mark.parametrize("make", SCENES)
def test_who_has_the_key_answers_in_the_place_of_the_node(make: Any) -> None:
    scene, attacker = make(), Attacker()
    attacker.own(scene.responder)
    initiator = scene.new_initiator()
    hello = initiator.hello()
    reply = attacker.reply(hello)
    assert reply is not None
    confirm = initiator.receive_data(reply.frame, NOW)
    assert initiator.state is InitiatorState.ESTABLISHED
    peer = attacker.peer(Side.RESPONDER, hello, reply.frame)
    assert peer is not None
    assert peer.open(confirm) == [(1, b"")]


def test_who_watches_and_has_the_key_later_gets_nothing_of_the_session() -> None:
    scene, attacker = client_scene(), Attacker()
    initiator, responder = scene.new_initiator(), scene.new_responder()
    hello = initiator.hello()
    reply = responder.receive_data(hello)
    attacker.own(scene.responder)
    opened = attacker.open_reply(hello, reply)
    assert opened is not None
    assert opened.field("epoch") == (1).to_bytes(8, "big")
    assert opened.field("nothing") == b""
    assert attacker.secrets(hello, reply) is None
    assert attacker.peer(Side.INITIATOR, hello, reply) is None


REPLY_CHANGES = {
    "ReplyBody.keepalive": (bytes.fromhex("00000001"), RefusalReason.REPLY_MALFORMED),
    "ReplyBody.x25519": (bytes(32), RefusalReason.KEY_SHARE),
    "ReplyBody.epoch": (bytes(9), RefusalReason.FRAME_HEADER),
    "HelloReply.sealed": (bytes(1180), RefusalReason.REPLY_NOT_OPENED),
    "FrameHeader.kind": (b"\x01", RefusalReason.FRAME_HEADER),
    "FrameHeader.length": (bytes(3), RefusalReason.FRAME_HEADER),
}


@pytest.mark.parametrize("field", REPLY_CHANGES)
def test_one_field_of_a_reply_is_changed_and_sealed_again(field: str) -> None:
    scene, attacker = client_scene(), Attacker()
    attacker.own(scene.responder)
    initiator, responder = scene.new_initiator(), scene.new_responder()
    hello = initiator.hello()
    encoded, reason = REPLY_CHANGES[field]
    changed = attacker.change_reply(hello, responder.receive_data(hello), field, encoded)
    assert changed is not None
    if field == "ReplyBody.epoch":  # a byte too many, which the header does not announce
        changed = changed[:1] + (len(changed) - 4).to_bytes(3, "big") + changed[4:]
    with pytest.raises(HandshakeRefused) as caught:
        initiator.receive_data(changed, NOW)
    assert caught.value.reason is reason


def test_a_reply_with_another_salt_opens_and_is_another_transcript() -> None:
    scene, attacker = client_scene(), Attacker()
    attacker.own(scene.responder)
    initiator, responder = scene.new_initiator(), scene.new_responder()
    hello = initiator.hello()
    changed = attacker.change_reply(hello, responder.receive_data(hello), "HelloReply.salt", bytes(32))
    assert changed is not None
    confirm = initiator.receive_data(changed, NOW)
    assert initiator.state is InitiatorState.ESTABLISHED
    with pytest.raises(HandshakeRefused):
        responder.receive_data(confirm)


# ---- records ---------------------------------------------------------------------


def test_a_raw_peer_goes_on_over_generations_and_remembers_the_old_ones() -> None:
    a, b = RawPeer(b"\x01" * 32, b"\x02" * 32), RawPeer(b"\x02" * 32, b"\x01" * 32)
    assert b.open(a.record(2, b"x") + a.record(4) + a.record(2, b"y")) == [(2, b"x"), (4, b""), (2, b"y")]
    assert a.earlier_secrets == [b"\x01" * 32]
    old = a.forge(2, b"old", generation=-1)
    opener = Opener(b"\x01" * 32)
    with memoryview(old) as view:
        opener.seq = 1  # where `a` stands in its new generation
        assert opener.open(view)[1] == b"old"
    with pytest.raises(NotOpened):
        b.open(old)


def test_a_raw_peer_forges_without_going_on() -> None:
    a, b = RawPeer(b"\x01" * 32, b"\x02" * 32), RawPeer(b"\x02" * 32, b"\x01" * 32)
    ahead = a.forge(2, b"second", ahead=1)
    assert b.open(a.record(2, b"first") + ahead) == [(2, b"first"), (2, b"second")]
    c = RawPeer(bytes(32), b"\x01" * 32)
    c.receive_secret = crypto.hkdf_expand(b"\x01" * 32, crypto.Label.REKEY, 32)
    c.receive_seq = 1
    assert c.open(a.forge(2, b"next", generation=1)) == [(2, b"next")]
    assert a.forge(2, b"x", header=b"\x03\0\0\x00")[:4] == b"\x03\0\0\x00"
    with pytest.raises(NotOpened):
        b.open(a.forge(2, b"x", ahead=1, aad=b"else"))


def test_a_raw_peer_waits_for_the_rest_of_a_record() -> None:
    a, b = RawPeer(b"\x01" * 32, b"\x02" * 32), RawPeer(b"\x02" * 32, b"\x01" * 32)
    frame = a.record(2, b"hello")
    assert [b.feed(frame[i : i + 1]) for i in range(len(frame))][-1] == [(2, b"hello")]
    assert b.unread == 0
    b.feed(b"\x03")
    assert b.unread == 1
    with pytest.raises(AssertionError):
        b.open(b"\0")


def test_data_tells_its_place() -> None:
    assert pattern(1, 100) == pattern(1, 200)[:100]
    assert pattern(1, 100) != pattern(2, 100)
    assert pattern(-1, 3) != pattern(1, 3)


# ---- casts -------------------------------------------------------------------------


@pytest.mark.parametrize("cast", [make_cast(), make_cast(4, 2, id_size=20), make_cast(bits=3072)])
def test_a_cast_has_somebody_on_each_side(cast: Cast) -> None:
    assert cast.roster is not None
    assert cast.responder is not None
    own = cast.responder.node_id
    assert cast.members[0].node_id < own < cast.members[-1].node_id
    listed = {*cast.roster.members, *cast.roster.clients}
    assert own in listed
    assert {identity.node_id for identity in (*cast.members, *cast.clients)} == listed - {own}
    assert not {identity.node_id for identity in cast.strangers} & listed
    assert cast.destination(Port.CLIENT).knock == b""
    assert cast.destination(Port.CLUSTER).knock == cast.knock
    assert make_cast() is make_cast()


@pytest.mark.parametrize("cls", [Hello, HelloReply, HelloBody, ReplyBody, FrameHeader, RecordPlaintext])
def test_every_edge_in_its_place_is_decoded_or_refused(cls: type[Any]) -> None:
    whole = encode(next(examples(cls)))
    for name in field_names(cls):
        for edge in field_edges(name):
            data = with_field(cls, whole, name.partition(".")[2], edge)
            with contextlib.suppress(DecodeError):
                assert encode(decode(cls, data)) == data, name


def test_purposes_and_roles_are_plain_numbers() -> None:
    cast, attacker = make_cast(), Attacker()
    hello = attacker.hello(cast.destination(Port.CLIENT), role=200, purpose=0)
    assert hello.body[:2] == b"\xc8\x00"
    assert (int(Role.MEMBER), int(Purpose.LINK)) == (1, 1)
