"""The initiator: the Hello that it makes, byte by byte, and its checks of what comes back."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.pairs import (
    NOW,
    SCENES,
    Draws,
    Scene,
    anonymous_scene,
    client_scene,
    forge_reply,
    link_scene,
    member_stream_scene,
    nodes,
)
from xlattice_trio import crypto
from xlattice_trio.errors import EncodeError, HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.transitions import InitiatorState as State
from xlattice_trio.testing.forge import expand, h, label, mac_of
from xlattice_trio.testing.identities import KNOCK, test_client, test_roster
from xlattice_trio.wire.messages import Purpose, Role

LOW, MID, HIGH = nodes()
Reason = RefusalReason
RSA = [(b, s) for b in (2048, 3072, 4096) for s in (20, 32)]

# ---- Hello -------------------------------------------------------------------


def scene_of(make: Callable[..., Scene], bits: int, id_size: int) -> Scene:
    low, high = nodes(2, bits=bits, id_size=id_size)
    roster = test_roster(2, 1, bits=bits, id_size=id_size)
    identity = {client_scene: test_client(0, id_size=id_size), anonymous_scene: None}.get(make, low)
    return make(roster=roster, identity=identity, responder=high)


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.parametrize(("bits", "id_size"), RSA)
@pytest.mark.spec("HS-11", "HS-12", "HS-13", "HS-14", "HS-15", "FR-3")
def test_a_hello_has_its_parts_at_the_offsets_of_the_tables(
    make: Callable[..., Scene], bits: int, id_size: int
) -> None:
    scene = scene_of(make, bits, id_size)
    frame = scene.new_initiator().hello()
    k = bits // 8
    assert len(frame) == 1960 + k
    assert frame[:8].hex() == {256: "010008a400020100", 384: "0100092400020180", 512: "010009a400020200"}[k]
    mac_key = h("hello-mac", scene.responder.card.card.ck, scene.knock)
    assert frame[1944 + k :] == mac_of(mac_key, frame[: 1944 + k])[:16]
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    key1 = scene.responder.ck_priv.decrypt(frame[8 : 8 + k], oaep)
    body = AESGCM(expand(mac_of(bytes(32), key1), "hello")).decrypt(bytes(12), frame[8 + k : 1944 + k], frame[: 8 + k])
    r, s, i = id_size, len(scene.service), id_size if scene.identity else 0
    g = scene.identity.sk_priv.key_size // 8 if scene.identity else 0
    p = 663 - r - s - i - g
    own = scene.identity.node_id.value if scene.identity else b""
    draws = Draws("initiator")
    assert key1 == draws("key1", 32)
    assert len(body) == 1920
    assert body[:2] == bytes([scene.role, scene.purpose])
    assert body[2 : 3 + r] == bytes([r]) + scene.responder.node_id.value
    assert body[3 + r : 35 + r] == scene.roster.cluster_id
    assert body[35 + r : 67 + r] == crypto.x25519_share(crypto.x25519_key(draws("x25519", 32)))
    assert body[67 + r : 1251 + r] == crypto.mlkem_ek(crypto.mlkem_key(draws("mlkem_seed", 64)))
    assert body[1251 + r : 1252 + r + s] == bytes([s]) + scene.service.encode()
    assert body[1252 + r + s : 1253 + r + s + i] == bytes([i]) + own
    assert body[1253 + r + s + i : 1255 + r + s + i] == g.to_bytes(2, "big")
    assert body[1255 + r + s + i + g :] == p.to_bytes(2, "big") + bytes(p)
    if scene.identity:
        signature = body[1255 + r + s + i : 1255 + r + s + i + g]
        message = label("hello-signature") + b"\0" + frame[4 : 8 + k] + body[: 1253 + r + s + i]
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        scene.identity.card.sk.verify(signature, message, pss, hashes.SHA256())


@pytest.mark.spec("HS-6")
def test_initiator_draws_these_random_numbers() -> None:
    scene = link_scene()
    scene.new_initiator().hello()
    assert scene.initiator_draws.drawn == [("key1", 32), ("x25519", 32), ("mlkem_seed", 64)]


@pytest.mark.spec("HS-6")
def test_without_a_draw_every_hello_has_secrets_of_its_own() -> None:
    intent = anonymous_scene().intent()
    first, second = Initiator(intent), Initiator(intent)
    assert first._key1 != second._key1
    assert first.hello() != second.hello()


# ---- whom to dial, as whom, what for -----------------------------------------


def intent(**changes: Any) -> Intent:
    fields: dict[str, Any] = {
        "peer": MID.card,
        "cluster_id": bytes(32),
        "role": Role.MEMBER,
        "purpose": Purpose.LINK,
        "identity": LOW,
        "knock": KNOCK,
    }
    return Intent(**fields | changes)


STREAM = {"purpose": Purpose.STREAM, "service": "echo"}
CLIENT = STREAM | {"role": Role.CLIENT, "knock": b""}
ANONYMOUS = STREAM | {"role": Role.ANONYMOUS, "knock": b"", "identity": None}


@pytest.mark.parametrize(
    "good",
    [
        {},
        STREAM,
        STREAM | {"identity": HIGH},
        CLIENT,
        CLIENT | {"identity": HIGH},
        ANONYMOUS,
        STREAM | {"service": "é" * 32},
    ],
)
def test_what_the_protocol_has_can_be_asked_for(good: dict[str, Any]) -> None:
    assert Initiator(intent(**good)).hello()


def test_unless_told_otherwise_an_anonymous_stream_on_the_client_port_is_meant() -> None:
    plain = Intent(peer=MID.card, cluster_id=bytes(32), role=Role.ANONYMOUS, service="echo")
    assert (plain.purpose, plain.identity, plain.knock) == (Purpose.STREAM, None, b"")


@pytest.mark.parametrize(
    "wrong",
    [
        {"knock": b""},
        STREAM | {"knock": b""},
        CLIENT | {"knock": KNOCK},
        CLIENT | {"purpose": Purpose.LINK, "service": ""},
        ANONYMOUS | {"knock": KNOCK},
        ANONYMOUS | {"purpose": Purpose.LINK, "service": ""},
        {"identity": None},
        CLIENT | {"identity": None},
        ANONYMOUS | {"identity": LOW},
        {"service": "echo"},
        STREAM | {"service": ""},
        STREAM | {"service": "x" * 65},
        STREAM | {"service": "é" * 33},
        {"identity": HIGH},
        {"identity": MID},
        STREAM | {"identity": MID},
        CLIENT | {"identity": MID},
    ],
)
@pytest.mark.spec("HS-16", "HS-17")
def test_what_the_protocol_does_not_have_is_the_callers_fault(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        intent(**wrong)


@pytest.mark.parametrize("service", ["\n", "a\x7f", "\x9f", "\ud800", "x" * 65, "é" * 33])
@pytest.mark.spec("NO-12", "NO-21")
def test_a_service_name_that_no_hello_can_carry_is_refused_before_anything_is_made(service: str) -> None:
    with pytest.raises(EncodeError):
        intent(**ANONYMOUS | {"service": service})


@pytest.mark.spec("NO-30")
def test_an_intent_does_not_show_the_knock() -> None:
    shown = repr(intent(knock=b"knock-knock!" * 2 + bytes(8)))
    assert "knock-knock" not in shown


# ---- HelloReply --------------------------------------------------------------


def waiting(make: Callable[..., Scene] = link_scene) -> tuple[Initiator, bytes]:
    initiator = make().new_initiator()
    return initiator, initiator.hello()


def reply_to(hello: bytes, **changes: Any) -> bytes:
    draws = Draws("initiator")
    return forge_reply(hello, draws("key1", 32), draws("mlkem_seed", 64), **changes)


def refusal(initiator: Initiator, data: bytes) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        initiator.receive_data(data, NOW)
    assert initiator.state is State.FAILED
    assert initiator.established is None
    with pytest.raises(UsageError):
        initiator.receive_data(b"", NOW)
    return caught.value


BODY = bytes(32) + crypto.x25519_share(crypto.x25519_key(b"\x66" * 32)) + bytes(1088)
FAULTS: list[tuple[RefusalReason, dict[str, Any]]] = [
    *((Reason.FRAME_HEADER, {"header": bytes([kind]) + b"\x00\x04\xbc"}) for kind in (0, 1, 3)),
    *((Reason.FRAME_HEADER, {"header": b"\x02" + n.to_bytes(3, "big")}) for n in (0, 17, 1211, 1213, 2212)),
    (Reason.REPLY_NOT_OPENED, {"nonce": b"\1" + bytes(11)}),
    (Reason.REPLY_NOT_OPENED, {"aad": b"\x02\x00\x04\xbc"}),
    (Reason.REPLY_NOT_OPENED, {"aad": b""}),
    *((Reason.REPLY_MALFORMED, {"keepalive": ms}) for ms in (1, 999, 3_600_001, 0xFFFFFFFF)),
    (Reason.KEY_SHARE, {"x25519": bytes(32)}),
    (Reason.KEY_SHARE, {"x25519": b"\1" + bytes(31)}),
]


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.parametrize(("reason", "fault"), FAULTS)
@pytest.mark.spec("HS-47", "HS-48", "HS-49", "HS-51", "HS-52", "HS-8")
def test_initiator_fails_when_one_thing_is_wrong(
    make: Callable[..., Scene], reason: RefusalReason, fault: dict[str, Any]
) -> None:
    initiator, hello = waiting(make)
    assert refusal(initiator, reply_to(hello, **fault)).reason is reason


@pytest.mark.parametrize("make", SCENES)
def test_a_reply_with_nothing_wrong_is_answered_with_confirm(make: Callable[..., Scene]) -> None:
    initiator, hello = waiting(make)
    assert len(initiator.receive_data(reply_to(hello), NOW)) == 21
    assert initiator.state is State.ESTABLISHED


@pytest.mark.parametrize(
    ("first", "faults"),
    [
        (Reason.REPLY_NOT_OPENED, {"nonce": b"\1" * 12, "keepalive": 1, "x25519": bytes(32)}),
        (Reason.REPLY_MALFORMED, {"keepalive": 1, "x25519": bytes(32)}),
        (Reason.KEEPALIVE, {"keepalive": 0, "x25519": bytes(32)}),
    ],
)
@pytest.mark.spec("HS-52")
def test_of_two_faults_the_earlier_one_is_the_reason(first: RefusalReason, faults: dict[str, Any]) -> None:
    initiator, hello = waiting()
    assert refusal(initiator, reply_to(hello, **faults)).reason is first


@pytest.mark.parametrize("at", [4, 35, 36, 1199, 1200, 1215])
@pytest.mark.spec("HS-48")
def test_no_bit_of_a_reply_can_be_turned(at: int) -> None:
    initiator, hello = waiting()
    reply = bytearray(reply_to(hello))
    reply[at] ^= 1
    assert refusal(initiator, bytes(reply)).reason is Reason.REPLY_NOT_OPENED


@pytest.mark.spec("HS-48")
def test_a_reply_to_another_hello_or_under_another_key1_does_not_open() -> None:
    initiator, hello = waiting()
    other = hello[:-1] + bytes([hello[-1] ^ 1])
    assert refusal(initiator, reply_to(other)).reason is Reason.REPLY_NOT_OPENED
    initiator, hello = waiting()
    assert refusal(initiator, forge_reply(hello, b"x" * 32, bytes(64))).reason is Reason.REPLY_NOT_OPENED


KEEPALIVES = (0, 1000, 1001, 15_000, 59_999, 60_000, 60_001, 3_600_000)


@pytest.mark.parametrize("keepalive", KEEPALIVES)
@pytest.mark.spec("HS-50")
def test_a_link_has_a_keepalive_of_a_second_to_a_minute_and_a_stream_any(keepalive: int) -> None:
    for make in SCENES:
        initiator, hello = waiting(make)
        reply = reply_to(hello, keepalive=keepalive)
        if make is link_scene and not 1000 <= keepalive <= 60_000:
            assert refusal(initiator, reply).reason is Reason.KEEPALIVE
        else:
            assert initiator.receive_data(reply, NOW)
            assert initiator.established is not None
            assert initiator.established.keepalive == keepalive


@pytest.mark.parametrize("epoch", [0, 1, 2**64 - 1])
@pytest.mark.spec("HS-53")
def test_the_epoch_decides_nothing(epoch: int) -> None:
    initiator, hello = waiting(member_stream_scene)
    assert initiator.receive_data(reply_to(hello, epoch=epoch), NOW)
    assert initiator.established is not None
    assert initiator.established.epoch == epoch


# ---- a handshake that ends otherwise -----------------------------------------


def in_state(state: State) -> Initiator:
    initiator = link_scene().new_initiator()
    if state is not State.START:
        hello = initiator.hello()
        if state is State.ESTABLISHED:
            initiator.receive_data(reply_to(hello), NOW)
        elif state is State.FAILED:
            initiator.deadline_passed()
    assert initiator.state is state
    return initiator


AFTER = {
    State.START: State.FAILED,
    State.AWAIT_REPLY: State.FAILED,
    State.ESTABLISHED: State.ESTABLISHED,
    State.FAILED: State.FAILED,
}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.spec("HS-3", "HS-76", "HS-78")
def test_deadline_and_end_of_connection_fail_what_is_not_established(state: State) -> None:
    initiator = in_state(state)
    assert initiator.deadline_passed().reason is Reason.DEADLINE
    assert initiator.state is AFTER[state]
    initiator = in_state(state)
    assert initiator.transport_closed().reason is Reason.TRANSPORT_CLOSED
    assert initiator.state is AFTER[state]


@pytest.mark.parametrize("state", [State.AWAIT_REPLY, State.ESTABLISHED, State.FAILED])
@pytest.mark.spec("HS-2")
def test_a_handshake_has_one_hello(state: State) -> None:
    with pytest.raises(UsageError):
        in_state(state).hello()


@pytest.mark.parametrize("state", [State.START, State.ESTABLISHED, State.FAILED])
def test_bytes_are_taken_only_while_a_reply_is_awaited(state: State) -> None:
    initiator = in_state(state)
    with pytest.raises(UsageError):
        initiator.receive_data(b"x", NOW)
    assert initiator._reader.unread == 0
    assert initiator.state is state


@pytest.mark.parametrize("state", [State.ESTABLISHED, State.FAILED])
@pytest.mark.spec("HS-10")
def test_secrets_are_gone_when_the_handshake_is_over(state: State) -> None:
    before, after = in_state(State.AWAIT_REPLY), in_state(state)
    assert before._key1 == Draws("initiator")("key1", 32)
    assert after._key1 == b""
    assert not hasattr(after, "_x25519")
    assert not hasattr(after, "_mlkem")


@pytest.mark.spec("FR-7")
def test_every_part_of_a_reply_is_waited_for() -> None:
    initiator, hello = waiting()
    reply = reply_to(hello)
    for at in range(len(reply) - 1):
        assert initiator.receive_data(reply[at : at + 1], NOW) == b""
        assert initiator.state is State.AWAIT_REPLY
    assert initiator.receive_data(reply[-1:], NOW)
