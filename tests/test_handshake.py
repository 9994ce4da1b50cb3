"""Both sides together: what they agree on, what Confirm proves, and what may change while they speak."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.pairs import (
    NOW,
    SCENES,
    Draws,
    RawPeer,
    Scene,
    anonymous_scene,
    client_scene,
    forge_hello,
    forge_reply,
    link_scene,
    member_stream_scene,
    nodes,
)
from xlattice_trio import crypto
from xlattice_trio.errors import HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.handshake.initiator import Initiator
from xlattice_trio.handshake.outcome import Established, Side
from xlattice_trio.handshake.responder import Responder, Welcome, admits
from xlattice_trio.handshake.transitions import InitiatorState
from xlattice_trio.handshake.transitions import ResponderState as State
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.roster import VerifiedMember, VerifiedRoster
from xlattice_trio.session.connection import Connection, DataReceived
from xlattice_trio.testing.forge import expand, h, mac_of
from xlattice_trio.testing.identities import test_client, test_roster
from xlattice_trio.wire.messages import ClientAccess, Role

Reason = RefusalReason
LOW, MID, HIGH = nodes()


def half_way(scene: Scene) -> tuple[Initiator, Responder, bytes]:
    """Confirm is made and not yet delivered."""
    initiator, responder = scene.new_initiator(), scene.new_responder()
    confirm = initiator.receive_data(responder.receive_data(initiator.hello()), NOW)
    assert (initiator.state, responder.state) == (InitiatorState.ESTABLISHED, State.AWAIT_CONFIRM)
    assert responder.established is None
    return initiator, responder, confirm


def outcome(side: Initiator | Responder) -> Established:
    assert side.established is not None
    return side.established


def refusal(responder: Responder, data: bytes) -> RefusalReason:
    with pytest.raises(HandshakeRefused) as caught:
        responder.receive_data(data)
    assert responder.state is State.IGNORED
    assert responder.established is None
    return caught.value.reason


# ---- what both agree on ------------------------------------------------------


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.spec("HS-5", "HS-45", "HS-54", "SE-73")
def test_both_sides_come_to_the_same_session(make: Callable[..., Scene]) -> None:
    scene = make(keepalive=30_000, link_keepalive=20_000, roster=test_roster(epoch=77))
    initiator, responder = scene.new_initiator(), scene.new_responder()
    hello = initiator.hello()
    assert (initiator.state, responder.state) == (InitiatorState.AWAIT_REPLY, State.AWAIT_HELLO)
    reply = responder.receive_data(hello)
    assert (initiator.state, responder.state) == (InitiatorState.AWAIT_REPLY, State.AWAIT_CONFIRM)
    confirm = initiator.receive_data(reply, NOW)
    assert responder.receive_data(confirm) == b""
    assert (initiator.state, responder.state) == (InitiatorState.ESTABLISHED, State.ESTABLISHED)
    ours, theirs = outcome(initiator), outcome(responder)
    assert (ours.side, theirs.side) == (Side.INITIATOR, Side.RESPONDER)
    assert ours.transcript_hash == h("transcript", hello, reply)
    for name in (
        "role",
        "purpose",
        "service",
        "cluster_id",
        "initiator",
        "recipient",
        "keepalive",
        "epoch",
        "transcript_hash",
        "exporter",
    ):
        assert getattr(ours, name) == getattr(theirs, name)
    assert (ours.role, ours.purpose, ours.service) == (scene.role, scene.purpose, scene.service)
    assert (ours.cluster_id, ours.recipient) == (scene.roster.cluster_id, scene.responder.node_id)
    assert ours.initiator == (scene.identity.card if scene.identity else None)
    assert (ours.keepalive, ours.epoch) == (20_000 if make is link_scene else 30_000, 77)


@pytest.mark.spec("HS-5", "HS-9", "SE-8", "SE-28", "SE-29")
def test_keys_are_those_of_the_formulas() -> None:
    scene = client_scene()
    draws = Draws("initiator")
    key1, seed, mlkem_seed = draws("key1", 32), draws("x25519", 32), draws("mlkem_seed", 64)
    initiator = scene.new_initiator()
    hello = initiator.hello()
    key = crypto.x25519_key(b"\x66" * 32)
    secret, ciphertext = crypto.mlkem_encapsulate(crypto.mlkem_public(crypto.mlkem_ek(crypto.mlkem_key(mlkem_seed))))
    reply = forge_reply(hello, key1, mlkem_seed, mlkem_ciphertext=ciphertext)
    dh = crypto.x25519_secret(key, crypto.x25519_share(crypto.x25519_key(seed)))
    prk = mac_of(h("transcript", hello, reply), b"\x55" * 32 + key1 + dh + secret)
    peer = RawPeer(expand(prk, "r2i"), expand(prk, "i2r"))
    assert peer.open(initiator.receive_data(reply, NOW)) == [(1, b"")]
    assert outcome(initiator).exporter == expand(prk, "exporter")
    session = Connection(outcome(initiator), NOW)
    session.receive_data(peer.record(2, b"hello"))
    assert session.next_event(NOW) == DataReceived(bytearray(b"hello"))


@pytest.mark.spec("HS-5", "HS-9", "HS-11", "HS-42", "HS-43", "HS-45", "SE-30")
def test_a_reply_has_its_parts_at_the_offsets_of_the_tables() -> None:
    scene = link_scene(roster=test_roster(epoch=0x0102), link_keepalive=0x2345)
    responder, draws = scene.new_responder(), Draws("responder")
    key1, x25519, mlkem = b"\x11" * 32, b"\x22" * 32, crypto.mlkem_key(b"\x33" * 64)
    hello = forge_hello(scene, key1=key1)
    reply = responder.receive_data(hello)
    assert len(reply) == 1216
    assert reply[:36] == bytes.fromhex("020004bc") + draws("salt", 32)
    k_reply = expand(mac_of(h("reply-salt", hello, reply[4:36]), key1), "hello-reply")
    body = AESGCM(k_reply).decrypt(bytes(12), reply[36:], reply[:36])
    assert len(body) == 1164
    assert body[:32] == draws("key2", 32)
    assert body[32:64] == crypto.x25519_share(crypto.x25519_key(draws("x25519", 32)))
    assert body[1152:] == bytes.fromhex("00002345") + bytes.fromhex("0000000000000102")
    dh = crypto.x25519_secret(crypto.x25519_key(x25519), body[32:64])
    secrets = body[:32] + key1 + dh + crypto.mlkem_decapsulate(mlkem, body[64:1152])
    prk = mac_of(h("transcript", hello, reply), secrets)
    peer = RawPeer(expand(prk, "i2r"), expand(prk, "r2i"))
    assert responder.receive_data(peer.record(1)) == b""
    session = Connection(outcome(responder), NOW)
    assert peer.open(session.send_data(b"hello", NOW)) == [(2, b"hello")]
    assert outcome(responder).exporter == expand(prk, "exporter")


def test_two_sessions_have_nothing_in_common() -> None:
    scenes = [anonymous_scene(), anonymous_scene(responder_draws=Draws("another"))]
    first, second = (outcome(scene.run()[1]) for scene in scenes)
    assert first.exporter != second.exporter
    assert first.transcript_hash != second.transcript_hash


@pytest.mark.spec("NO-30")
def test_an_outcome_does_not_show_its_keys() -> None:
    established = outcome(link_scene().run()[0])
    assert repr(established.exporter) not in repr(established)
    for name in ("exporter", "sealer", "opener", "reader"):
        assert f"{name}=" not in repr(established)


# ---- arriving in pieces ------------------------------------------------------


@pytest.mark.parametrize("make", [link_scene, anonymous_scene])
@pytest.mark.spec("FR-6", "FR-7", "HS-4", "HS-46", "SE-1", "SE-4")
def test_byte_by_byte_nothing_is_said_before_the_last_one(make: Callable[..., Scene]) -> None:
    scene = make()
    initiator, responder = scene.new_initiator(), scene.new_responder()
    hello = initiator.hello()
    for byte in hello[:-1]:
        assert responder.receive_data(bytes([byte])) == b""
        assert responder.state is State.AWAIT_HELLO
    assert len(scene.replay) == 0
    reply = responder.receive_data(hello[-1:])
    assert len(reply) == 1216
    confirm = initiator.receive_data(reply, NOW)
    for byte in confirm[:-1]:
        assert responder.receive_data(bytes([byte])) == b""
        assert responder.state is State.AWAIT_CONFIRM
    responder.receive_data(confirm[-1:])
    assert responder.state is State.ESTABLISHED


@pytest.mark.spec("FR-8", "HS-55", "SE-2", "SE-3")
def test_records_behind_confirm_are_the_first_of_the_session() -> None:
    scene = client_scene()
    initiator, responder, confirm = half_way(scene)
    session = Connection(outcome(initiator), NOW)
    data = session.send_data(b"first", NOW) + session.send_data(b"second", NOW)
    responder.receive_data(confirm + bytes(data[:-3]))
    theirs = Connection(outcome(responder), NOW)
    assert theirs.next_event(NOW) == DataReceived(bytearray(b"first"))
    theirs.receive_data(bytes(data[-3:]))
    assert theirs.next_event(NOW) == DataReceived(bytearray(b"second"))


@pytest.mark.parametrize("behind", ["03000012", "02000011", "01000011", "03000010"])
@pytest.mark.spec("FR-5", "FR-8", "HS-56", "HS-59")
def test_a_header_behind_hello_is_refused_when_the_reply_is_out_and_without_its_body(behind: str) -> None:
    scene = client_scene()
    responder = scene.new_responder()
    assert len(responder.receive_data(scene.new_initiator().hello() + bytes.fromhex(behind))) == 1216
    assert responder.state is State.AWAIT_CONFIRM
    assert refusal(responder, b"") is Reason.FRAME_HEADER


@pytest.mark.spec("FR-8")
def test_records_behind_the_reply_are_the_first_of_the_session() -> None:
    scene = client_scene()
    initiator, responder = scene.new_initiator(), scene.new_responder()
    reply = responder.receive_data(initiator.hello())
    initiator.receive_data(reply + b"\x03\x00", NOW)
    assert outcome(initiator).reader.unread == 2


@pytest.mark.spec("HS-46")
def test_bytes_behind_a_hello_wait_for_their_turn() -> None:
    scene = client_scene()
    responder = scene.new_responder()
    assert len(responder.receive_data(scene.new_initiator().hello() + b"\x03")) == 1216
    assert responder.state is State.AWAIT_CONFIRM
    assert refusal(responder, b"\x00\x00\x12") is Reason.FRAME_HEADER


# ---- Confirm -----------------------------------------------------------------


def first_record(initiator: Initiator, type_: int, seq: int = 0) -> bytes:
    """A record without payload where Confirm is due, under the keys that the initiator has."""
    sealer = outcome(initiator).sealer
    nonce = (sealer._iv ^ seq).to_bytes(12, "big")
    return b"\x03\0\0\x11" + sealer._aead.encrypt(nonce, bytes([type_]), b"\x03\0\0\x11")


@pytest.mark.parametrize("type_", [0, 2, 3, 4, 5, 6, 7, 255])
@pytest.mark.parametrize("make", SCENES)
@pytest.mark.spec("HS-57", "HS-59")
def test_responder_ignores_a_first_record_that_is_not_confirm(make: Callable[..., Scene], type_: int) -> None:
    initiator, responder, _ = half_way(make())
    assert refusal(responder, first_record(initiator, type_)) is Reason.CONFIRM


@pytest.mark.parametrize("at", [4, 20])
@pytest.mark.spec("HS-57", "HS-59")
def test_responder_ignores_a_confirm_that_does_not_open(at: int) -> None:
    _, responder, confirm = half_way(link_scene())
    damaged = bytearray(confirm)
    damaged[at] ^= 1
    assert refusal(responder, bytes(damaged)) is Reason.CONFIRM


@pytest.mark.spec("HS-57")
def test_responder_ignores_a_confirm_with_another_number_and_one_of_another_session() -> None:
    initiator, responder, _ = half_way(link_scene())
    assert refusal(responder, first_record(initiator, 1, seq=1)) is Reason.CONFIRM
    _, responder, _ = half_way(link_scene(initiator_draws=Draws("other")))
    assert refusal(responder, first_record(initiator, 1)) is Reason.CONFIRM
    _, responder, confirm = half_way(link_scene())
    assert first_record(initiator, 1) != confirm


@pytest.mark.parametrize("header", ["01000011", "02000011", "00000011", "03000010", "03000012", "0300ffff", "03000000"])
@pytest.mark.spec("HS-2", "HS-56", "HS-59")
def test_responder_ignores_any_frame_but_a_record_of_17_bytes_at_its_header(header: str) -> None:
    _, responder, _ = half_way(link_scene())
    assert refusal(responder, bytes.fromhex(header)) is Reason.FRAME_HEADER


def without(roster: VerifiedRoster, node: Any) -> VerifiedRoster:
    return attrs.evolve(
        roster,
        members={i: m for i, m in roster.members.items() if i != node.node_id},
        clients={i: c for i, c in roster.clients.items() if i != node.node_id},
    )


def with_sk_of(roster: VerifiedRoster, node: Any, other: VerifiedCard) -> VerifiedRoster:
    """As if `node`'s NodeID, of 160 bits, were that of another sk too."""
    members = {i: VerifiedMember(other, m.host) if i == node.node_id else m for i, m in roster.members.items()}
    clients = {i: other if i == node.node_id else c for i, c in roster.clients.items()}
    return attrs.evolve(roster, members=members, clients=clients)


def with_access(roster: VerifiedRoster, access: ClientAccess) -> VerifiedRoster:
    return attrs.evolve(roster, roster=attrs.evolve(roster.roster, client_access=access))


OTHER_CK = attrs.evolve(LOW.card, card=attrs.evolve(LOW.card.card, ck=HIGH.card.card.ck, name="renamed"))
CLIENT_0 = test_client(0)


@pytest.mark.parametrize(
    ("make", "change", "admitted"),
    [
        (link_scene, lambda r: without(r, LOW), False),
        (member_stream_scene, lambda r: without(r, LOW), False),
        (link_scene, lambda r: with_sk_of(r, LOW, HIGH.card), False),
        (link_scene, lambda r: with_sk_of(r, LOW, OTHER_CK), True),
        (link_scene, lambda r: without(r, HIGH), True),
        (link_scene, lambda r: without(r, MID), False),
        (anonymous_scene, lambda r: without(r, MID), False),
        (link_scene, lambda r: without(r, CLIENT_0), True),
        (link_scene, lambda r: with_access(r, ClientAccess.LISTED), True),
        (client_scene, lambda r: without(r, CLIENT_0), False),
        (client_scene, lambda r: with_sk_of(r, CLIENT_0, HIGH.card), False),
        (client_scene, lambda r: without(r, LOW), True),
        (client_scene, lambda r: with_access(r, ClientAccess.LISTED), True),
        (anonymous_scene, lambda r: with_access(r, ClientAccess.LISTED), False),
        (anonymous_scene, lambda r: without(r, CLIENT_0), True),
    ],
)
@pytest.mark.spec("HS-58", "RO-56", "RO-58", "SV-12")
def test_the_roster_in_force_at_confirm_decides_whether_the_initiator_is_still_admitted(
    make: Callable[..., Scene], change: Callable[[VerifiedRoster], VerifiedRoster], admitted: bool
) -> None:
    scene = make()
    _, responder, confirm = half_way(scene)
    scene.roster = change(scene.roster)
    if admitted:
        assert responder.receive_data(confirm) == b""
        assert responder.state is State.ESTABLISHED
        listed = {**{i: m.card for i, m in scene.roster.members.items()}, **scene.roster.clients}
        assert outcome(responder).initiator == (listed[scene.identity.node_id] if scene.identity else None)
    else:
        assert refusal(responder, confirm) is Reason.ROSTER_CHANGED


@pytest.mark.spec("HS-57", "HS-58")
def test_what_is_not_confirm_is_refused_for_that_also_when_the_roster_has_changed() -> None:
    scene = link_scene()
    initiator, responder, _ = half_way(scene)
    scene.roster = without(scene.roster, LOW)
    assert refusal(responder, first_record(initiator, 3)) is Reason.CONFIRM


@pytest.mark.spec("HS-58")
def test_a_member_that_became_a_client_is_no_member() -> None:
    roster = test_roster()
    moved = attrs.evolve(without(roster, LOW), clients={**roster.clients, LOW.node_id: LOW.card})
    assert admits(moved, Role.CLIENT, LOW.card)
    assert not admits(moved, Role.MEMBER, LOW.card)


@pytest.mark.spec("HS-22")
def test_one_hello_is_checked_against_one_roster() -> None:
    scene = link_scene()
    responder, initiator = scene.new_responder(), scene.new_initiator()
    hello = initiator.hello()
    responder.receive_data(hello[:1])
    old = scene.roster
    scene.roster = test_roster(1, 0, epoch=9)
    scene.accepted = []
    confirm = initiator.receive_data(responder.receive_data(hello[1:]), NOW)
    assert outcome(initiator).epoch == old.epoch
    scene.roster = old
    responder.receive_data(confirm)
    assert responder.state is State.ESTABLISHED


# ---- the responder in each of its states -------------------------------------


def in_state(state: State) -> Responder:
    scene = client_scene()
    if state is State.AWAIT_HELLO:
        return scene.new_responder()
    _, responder, confirm = half_way(scene)
    if state is State.ESTABLISHED:
        responder.receive_data(confirm)
    elif state is State.IGNORED:
        responder.deadline_passed()
    assert responder.state is state
    return responder


AFTER = {
    State.AWAIT_HELLO: State.IGNORED,
    State.AWAIT_CONFIRM: State.IGNORED,
    State.ESTABLISHED: State.ESTABLISHED,
    State.IGNORED: State.IGNORED,
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.spec("HS-77", "HS-79", "HS-10")
def test_deadline_and_end_of_connection_end_what_is_not_established(state: State) -> None:
    responder = in_state(state)
    assert responder.deadline_passed().reason is Reason.DEADLINE
    assert responder.state is AFTER[state]
    assert responder._pending is None
    responder = in_state(state)
    assert responder.transport_closed().reason is Reason.TRANSPORT_CLOSED
    assert responder.state is AFTER[state]
    assert responder._pending is None


@pytest.mark.parametrize("state", [State.ESTABLISHED, State.IGNORED])
@pytest.mark.spec("SE-3")
def test_bytes_after_the_handshake_are_not_the_responders(state: State) -> None:
    responder = in_state(state)
    with pytest.raises(UsageError):
        responder.receive_data(b"x")
    assert responder._reader.unread == 0
    assert responder.state is state


# ---- keepalive ---------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 1000, 60_001, 3_600_000])
@pytest.mark.spec("HS-44")
def test_a_port_offers_keepalives_that_the_protocol_has(value: int) -> None:
    assert client_scene(keepalive=value).welcome().keepalive == value
    assert link_scene(link_keepalive=max(1000, min(value, 60_000))).welcome()


@pytest.mark.parametrize(
    "wrong",
    [*({"keepalive": v} for v in (-1, 1, 999, 3_600_001)), *({"link_keepalive": v} for v in (-1, 0, 999, 60_001))],
)
@pytest.mark.spec("HS-44")
def test_a_keepalive_that_the_protocol_does_not_have_is_the_callers_fault(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        client_scene(**wrong).welcome()


@pytest.mark.spec("SE-79")
def test_keepalives_unless_told_are_none_on_streams_and_15_seconds_on_links() -> None:
    welcome = link_scene().welcome()
    plain = Welcome(welcome.port, welcome.node_id, welcome.roster, welcome.accepted_keys, welcome.replay)
    assert (plain.keepalive, plain.link_keepalive) == (0, 15_000)
    assert Responder(plain).receive_data(forge_hello(link_scene()))
