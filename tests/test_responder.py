"""The responder's checks: each fails alone, in its order, in silence, and leaves nothing behind."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from tests.pairs import (
    SCENES,
    Draws,
    Scene,
    anonymous_scene,
    client_scene,
    forge_hello,
    link_scene,
    member_stream_scene,
    nodes,
)
from xlattice_trio import crypto
from xlattice_trio.errors import HandshakeRefused, PeerError, RefusalReason, UsageError
from xlattice_trio.handshake.key_schedule import hello_digest
from xlattice_trio.handshake.responder import AcceptedKey, Responder
from xlattice_trio.handshake.transitions import ResponderState as State
from xlattice_trio.testing.identities import test_client, test_identity, test_roster
from xlattice_trio.wire.messages import ClientAccess, Purpose, Role

Reason = RefusalReason
LOW, MID, HIGH = nodes()
STRANGERS = sorted((test_identity(i) for i in range(3, 7)), key=lambda node: node.node_id)
LOW_STRANGER = STRANGERS[0]
MEMBER, CLIENT, ANONYMOUS = Role.MEMBER, Role.CLIENT, Role.ANONYMOUS
LINK, STREAM = Purpose.LINK, Purpose.STREAM
NOBODY = {"initiator": b"", "signer": None}
BAD_EK = b"\xff\xff\xff" + crypto.mlkem_ek(crypto.mlkem_key(bytes(64)))[3:]


def as_node(node: Any) -> dict[str, Any]:
    return {"initiator": node.node_id.value, "signer": node.sk_priv}


def refusal(responder: Responder, hello: bytes) -> HandshakeRefused:
    """What `hello` is refused with; nothing was sent and nothing is kept."""
    with pytest.raises(HandshakeRefused) as caught:
        responder.receive_data(hello)
    assert responder.state is State.IGNORED
    assert responder.established is None
    with pytest.raises(UsageError):
        responder.receive_data(b"")
    return caught.value


def assert_refused(scene: Scene, hello: bytes, reason: RefusalReason) -> None:
    refused = refusal(scene.new_responder(), hello)
    assert refused.reason is reason
    assert isinstance(refused, PeerError)
    assert len(scene.replay) == 0


@pytest.mark.parametrize("make", SCENES)
def test_a_hello_with_nothing_wrong_is_answered(make: Callable[..., Scene]) -> None:
    scene = make()
    responder = scene.new_responder()
    assert len(responder.receive_data(forge_hello(scene))) == 1216
    assert responder.state is State.AWAIT_CONFIRM


# ---- each check alone --------------------------------------------------------

LENGTHS = (0, 17, 1212, 2211, 2213, 2340, 2468, 0xFFFFFF)
AT_ALL_SCENES: list[tuple[RefusalReason, str, dict[str, Any]]] = [
    *((Reason.FRAME_HEADER, f"kind {kind}", {"kind": kind}) for kind in (0, 2, 3, 255)),
    *((Reason.FRAME_HEADER, f"length {length}", {"length": length}) for length in LENGTHS),
    *((Reason.VERSION, f"version {version}", {"version": version}) for version in (0, 1, 3, 0x0200)),
    (Reason.MAC, "zeros for a mac", {"mac": b"\0" * 16}),
    (Reason.MAC, "mac for another ck", {"mac_ck": crypto.encode_spki(HIGH.card.ck)}),
    (Reason.MAC, "mac for sk", {"mac_ck": crypto.encode_spki(MID.card.sk)}),
    (Reason.MAC, "another knock", {"knock": b"x" * 32}),
    (Reason.HELLO_NOT_OPENED, "another key1", {"kem_secret": b"x" * 32}),
    (Reason.HELLO_NOT_OPENED, "key1 too short", {"kem_secret": b"\x11" * 31}),
    (Reason.HELLO_NOT_OPENED, "no key1", {"kem_secret": b""}),
    (Reason.HELLO_NOT_OPENED, "no OAEP", {"kem_ciphertext": b"\x01" * 256}),
    (Reason.HELLO_NOT_OPENED, "another aad", {"aad": b""}),
    (Reason.HELLO_NOT_OPENED, "another nonce", {"nonce": bytes(11) + b"\1"}),
    (Reason.HELLO_NOT_OPENED, "sealed are zeros", {"sealed": bytes(1936)}),
    (Reason.HELLO_MALFORMED, "zeros", {"plaintext": bytes(1920)}),
    (Reason.HELLO_MALFORMED, "role 4", {"role": 4}),
    (Reason.HELLO_MALFORMED, "purpose 3", {"purpose": 3}),
    (Reason.HELLO_MALFORMED, "mlkem_ek", {"mlkem_ek": BAD_EK}),
    (Reason.RECIPIENT, "another member", {"recipient": HIGH.node_id.value}),
    (Reason.RECIPIENT, "160 bits of it", {"recipient": MID.node_id.value[:20]}),
    (Reason.CLUSTER, "another cluster", {"cluster": bytes(32)}),
    (Reason.KEY_SHARE, "zero", {"x25519": bytes(32)}),
    (Reason.KEY_SHARE, "one", {"x25519": b"\1" + bytes(31)}),
]
SIGNED: list[tuple[RefusalReason, str, dict[str, Any]]] = [
    (Reason.MEMBERSHIP, "a stranger", as_node(LOW_STRANGER)),
    (Reason.SIGNATURE, "by another node", {"signer": HIGH.sk_priv}),
    (Reason.SIGNATURE, "under another label", {"signed_label": "node-card"}),
    (Reason.SIGNATURE, "with another salt", {"pss_salt": bytes(31)}),
    (Reason.SIGNATURE, "over nothing", {"signed": b""}),
    (Reason.SIGNATURE, "zeros", {"signature": bytes(256)}),
    (Reason.SIGNATURE, "longer than the key", {"signature": bytes(384)}),
]


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.parametrize(("reason", "what", "fault"), AT_ALL_SCENES)
@pytest.mark.spec("HS-19", "HS-20", "HS-21", "HS-25", "HS-26", "HS-27", "HS-29", "HS-30", "HS-31", "HS-32", "HS-38")
def test_responder_is_silent_when_one_thing_is_wrong(
    make: Callable[..., Scene], reason: RefusalReason, what: str, fault: dict[str, Any]
) -> None:
    scene = make()
    assert_refused(scene, forge_hello(scene, **fault), reason)


@pytest.mark.parametrize("make", [link_scene, member_stream_scene, client_scene])
@pytest.mark.parametrize(("reason", "what", "fault"), SIGNED)
@pytest.mark.spec("HS-14", "HS-35", "HS-37")
def test_responder_is_silent_when_the_signer_is_wrong(
    make: Callable[..., Scene], reason: RefusalReason, what: str, fault: dict[str, Any]
) -> None:
    scene = make(responder=HIGH if make is link_scene else MID)
    if what == "by another node":
        fault = {"signer": MID.sk_priv}
    assert_refused(scene, forge_hello(scene, **fault), reason)


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 5, 6, 7, 8, 263, 264, 265, 2198, 2199, 2200, 2201, 2214, 2215])
@pytest.mark.parametrize("make", [link_scene, anonymous_scene])
@pytest.mark.spec("HS-15", "HS-26", "HS-27")
def test_no_bit_of_a_hello_can_be_turned(make: Callable[..., Scene], at: int) -> None:
    scene = make()
    hello = bytearray(scene.new_initiator().hello())
    hello[at] ^= 1
    reason = Reason.FRAME_HEADER if at < 4 else Reason.VERSION if at < 8 else Reason.MAC
    assert_refused(scene, bytes(hello), reason)


@pytest.mark.spec("HS-26")
def test_a_ciphertext_shorter_or_longer_than_the_frame_says_is_a_bad_form() -> None:
    both = [AcceptedKey.of(MID.ck_priv), AcceptedKey.of(test_identity(0, bits=3072).ck_priv)]
    scene = link_scene(accepted=both)
    for size in (255, 257, 384, 512, 0):
        hello = bytearray(forge_hello(scene))
        hello[6:8] = size.to_bytes(2, "big")
        assert_refused(scene, bytes(hello), Reason.VERSION)


# ---- port, role, purpose -----------------------------------------------------

ALLOWED = {
    ("cluster", MEMBER, LINK),
    ("cluster", MEMBER, STREAM),
    ("client", CLIENT, STREAM),
    ("client", ANONYMOUS, STREAM),
}


@pytest.mark.parametrize("make", [link_scene, client_scene])
@pytest.mark.parametrize(("role", "purpose"), list(itertools.product(Role, Purpose)))
@pytest.mark.spec("HS-33", "RO-3")
def test_only_what_the_table_allows_on_a_port_is_served(
    make: Callable[..., Scene], role: Role, purpose: Purpose
) -> None:
    scene = make()
    who = NOBODY if role is ANONYMOUS else as_node(test_client(0) if role is CLIENT else LOW)
    service = b"" if purpose is LINK else b"echo"
    hello = forge_hello(scene, role=role, purpose=purpose, service=service, **who)
    if (scene.port.value, role, purpose) in ALLOWED:
        assert scene.new_responder().receive_data(hello)
    else:
        assert_refused(scene, hello, Reason.ROLE)


@pytest.mark.spec("HS-33")
def test_listed_access_refuses_the_anonymous_and_nobody_else() -> None:
    listed = test_roster(client_access=ClientAccess.LISTED)
    scene = anonymous_scene(roster=listed)
    assert_refused(scene, forge_hello(scene), Reason.ROLE)
    for make in (link_scene, member_stream_scene, client_scene):
        scene = make(roster=listed)
        assert scene.new_responder().receive_data(forge_hello(scene))


@pytest.mark.spec("HS-27")
def test_a_hello_for_one_port_does_not_fit_the_other() -> None:
    for ours, theirs in [(link_scene, client_scene), (client_scene, link_scene), (anonymous_scene, link_scene)]:
        assert_refused(theirs(), forge_hello(ours()), Reason.MAC)


@pytest.mark.spec("HS-34", "HS-36")
def test_the_member_with_the_lower_node_id_dials_a_link_and_any_member_a_stream() -> None:
    for dialler, listener in itertools.product((LOW, MID, HIGH), repeat=2):
        scene = link_scene(identity=dialler, responder=listener)
        if dialler.node_id < listener.node_id:
            assert scene.new_responder().receive_data(forge_hello(scene))
        else:
            assert_refused(scene, forge_hello(scene), Reason.LINK_ORDER)
        scene = member_stream_scene(identity=dialler, responder=listener)
        if dialler is not listener:
            assert scene.new_responder().receive_data(forge_hello(scene))
        else:
            assert_refused(scene, forge_hello(scene), Reason.SELF)


@pytest.mark.spec("HS-35")
def test_members_and_clients_are_looked_up_each_in_their_own_list() -> None:
    scene = client_scene()
    assert_refused(scene, forge_hello(scene, **as_node(LOW)), Reason.MEMBERSHIP)
    scene = member_stream_scene()
    assert_refused(scene, forge_hello(scene, **as_node(test_client(0))), Reason.MEMBERSHIP)
    scene = client_scene(roster=test_roster(clients=0))
    assert_refused(scene, forge_hello(scene), Reason.MEMBERSHIP)


@pytest.mark.parametrize("id_size", [20, 32])
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.spec("ID-16", "HS-25", "HS-37")
def test_members_of_every_size_of_key_and_node_id_are_served(bits: int, id_size: int) -> None:
    low, high = nodes(2, bits=bits, id_size=id_size)
    scene = link_scene(roster=test_roster(2, 0, bits=bits, id_size=id_size), identity=low, responder=high)
    for hello in (forge_hello(scene), scene.new_initiator().hello()):
        assert len(hello) == 1960 + bits // 8
        assert scene.new_responder().receive_data(hello)


@pytest.mark.spec("HS-41")
def test_a_service_that_does_not_exist_is_no_matter_of_the_handshake() -> None:
    for service in ("x", "é" * 32, "x" * 64, "no such service"):
        scene = client_scene(service=service)
        _, responder = scene.run()
        assert responder.established is not None
        assert responder.established.service == service


# ---- the order ---------------------------------------------------------------

# one fault for each check, for a link from LOW to MID; what is behind may be merged into what is before
FAULTS: list[tuple[RefusalReason, dict[str, Any]]] = [
    (Reason.FRAME_HEADER, {"kind": 2}),
    (Reason.VERSION, {"version": 3}),
    (Reason.MAC, {"mac": bytes(16)}),
    (Reason.REPLAY_SEEN, {"seen": True}),
    (Reason.HELLO_NOT_OPENED, {"kem_secret": bytes(32)}),
    (Reason.HELLO_MALFORMED, {"mlkem_ek": BAD_EK}),
    (Reason.RECIPIENT, {"recipient": HIGH.node_id.value}),
    (Reason.CLUSTER, {"cluster": bytes(32)}),
    (Reason.ROLE, {"role": CLIENT}),
    (Reason.LINK_ORDER, as_node(HIGH)),
    (Reason.MEMBERSHIP, as_node(LOW_STRANGER) | {"purpose": STREAM, "service": b"x"}),
    (Reason.SELF, as_node(MID) | {"purpose": STREAM, "service": b"x"}),
    (Reason.SIGNATURE, {"signature": bytes(256)}),
    (Reason.KEY_SHARE, {"x25519": bytes(32)}),
    (Reason.REPLAY_RACED, {"raced": True}),
]
# two faults of who the initiator is cannot be merged: one that has both
BOTH: dict[tuple[RefusalReason, RefusalReason], dict[str, Any]] = {
    (Reason.LINK_ORDER, Reason.MEMBERSHIP): as_node(STRANGERS[-1]),
    (Reason.LINK_ORDER, Reason.SELF): as_node(MID),
    (Reason.MEMBERSHIP, Reason.SELF): as_node(LOW_STRANGER)
    | {"purpose": STREAM, "service": b"x", "responder": LOW_STRANGER},
}
PAIRS = [
    pytest.param(first, BOTH.get((first, second), fault_1 | fault_2 | fault_1), id=f"{first.name}-{second.name}")
    for (first, fault_1), (second, fault_2) in itertools.combinations(FAULTS, 2)
] + [pytest.param(reason, fault, id=reason.name) for reason, fault in FAULTS]


class Overtaken(Draws):
    """Puts a digest into the replay cache while the Hello is being checked."""

    def __init__(self, scene: Scene, digest: bytes) -> None:
        super().__init__("responder")
        self.scene, self.digest = scene, digest

    def __call__(self, name: str, size: int) -> bytes:
        self.scene.replay.insert(self.digest)
        return super().__call__(name, size)


def faulty(fault: dict[str, Any]) -> tuple[Scene, bytes]:
    """A scene, and a Hello for it that has this fault."""
    assert STRANGERS[-1].node_id > MID.node_id > LOW_STRANGER.node_id
    fault = dict(fault)
    seen, raced = fault.pop("seen", False), fault.pop("raced", False)
    scene = link_scene(responder=fault.pop("responder", MID))
    hello = forge_hello(scene, **fault)
    if raced:
        scene.responder_draws = Overtaken(scene, hello_digest(hello))
    if seen:
        scene.replay.insert(hello_digest(hello))
    return scene, hello


@pytest.mark.parametrize(("reason", "fault"), PAIRS)
@pytest.mark.spec("HS-18", "HS-39")
def test_of_two_faults_the_earlier_one_is_the_reason(reason: RefusalReason, fault: dict[str, Any]) -> None:
    scene, hello = faulty(fault)
    assert refusal(scene.new_responder(), hello).reason is reason
