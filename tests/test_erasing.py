"""What is erased: a secret whose time is over is no longer reachable from what lives on. Spec 1.7, 5.4, 6.13.

`reachable` follows every reference that Python has, so that a copy under another name would be found as well.
"""

import gc
import types
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.pairs import (
    NOW,
    SCENES,
    Scene,
    anonymous_scene,
    connection_pair,
    forge_hello,
    forge_reply,
    link_scene,
    place_open,
    place_seal,
)
from xlattice_trio import crypto
from xlattice_trio.errors import HandshakeRefused, RefusalReason
from xlattice_trio.handshake import key_schedule
from xlattice_trio.session.connection import NEED_DATA
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.testing.forge import expand
from xlattice_trio.wire.messages import RecordType

SECRET = b"\x07" * 32
LAST_SEQ = 2**20 - 1

# Code is not followed: it leads to every module.
_CODE = (type, types.ModuleType, types.FunctionType, types.CodeType)


def reachable(*roots: object) -> list[object]:
    """Everything that the roots hold, however deep; an exception holds the variables of the calls it came through."""
    seen: dict[int, object] = {}
    waiting = list(roots)
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, _CODE):
            continue
        seen[id(item)] = item
        if isinstance(item, types.FrameType):
            if item.f_globals["__name__"].startswith("xlattice_trio."):  # a test's own variables are its own affair
                waiting += item.f_locals.values()
        else:
            waiting += gc.get_referents(item)
    return list(seen.values())


def octets(items: list[object]) -> set[bytes]:
    return {bytes(item) for item in items if isinstance(item, bytes | bytearray)}


class Secrets:
    """The secrets of a handshake, as they come into being."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: dict[str, bytes] = {}
        for module, name in (
            (key_schedule, "k_hello"),
            (key_schedule, "k_reply"),
            (key_schedule, "prk"),
            (crypto, "x25519_secret"),
            (crypto, "mlkem_decapsulate"),
        ):
            monkeypatch.setattr(module, name, self._recorded(name, getattr(module, name)))

    def _recorded(self, name: str, function: Callable[..., bytes]) -> Callable[..., bytes]:
        def recorded(*args: Any) -> bytes:
            result = function(*args)
            self.seen[name] = bytes(bytearray(result))  # a copy: what is recorded here must not be what is found there
            if name == "prk":
                self.seen |= dict(zip(("key2", "key1", "dh", "mlkem"), map(bytes, args[1:]), strict=True))
            return result

        return recorded


def assert_nothing_is_left(secrets: dict[str, bytes], *roots: object) -> None:
    items = reachable(*roots)
    held = octets(items)
    assert [name for name, secret in secrets.items() if secret in held] == []
    assert [item for item in items if isinstance(item, X25519PrivateKey | MLKEM768PrivateKey)] == []


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.spec("HS-10", "SE-75")
def test_an_established_session_holds_its_own_keys_and_no_secret_of_the_handshake(
    make: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = Secrets(monkeypatch)
    initiator, responder = make().run()
    assert set(secrets.seen) == {"k_hello", "k_reply", "prk", "x25519_secret", "mlkem_decapsulate"} | {
        "key1",
        "key2",
        "dh",
        "mlkem",
    }
    for side in (initiator, responder):
        assert side.established is not None
        assert side.established.exporter in octets(reachable(side))
        assert_nothing_is_left(secrets.seen, side)
        keys = [item for item in reachable(side) if isinstance(item, AESGCM)]
        assert len(keys) == 2
        assert {id(key) for key in keys} == {id(side.established.sealer._aead), id(side.established.opener._aead)}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"nonce": b"\1" * 12}, RefusalReason.REPLY_NOT_OPENED),
        ({"keepalive": 1}, RefusalReason.REPLY_MALFORMED),
        ({"keepalive": 0}, RefusalReason.KEEPALIVE),
        ({"x25519": bytes(32)}, RefusalReason.KEY_SHARE),
        ({"header": b"\1\0\0\0"}, RefusalReason.FRAME_HEADER),
    ],
)
@pytest.mark.spec("HS-10")
def test_a_failed_handshake_leaves_the_initiator_no_secret_nor_what_it_raises(
    fault: dict[str, Any], reason: RefusalReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = link_scene()
    key1, mlkem_seed = (link_scene().initiator_draws(name, size) for name, size in (("key1", 32), ("mlkem_seed", 64)))
    secrets = Secrets(monkeypatch)
    initiator = scene.new_initiator()
    reply = forge_reply(initiator.hello(), key1, mlkem_seed, key2=b"\x55" * 32, **fault)
    with pytest.raises(HandshakeRefused) as caught:
        initiator.receive_data(reply, NOW)
    assert caught.value.reason is reason
    assert_nothing_is_left(secrets.seen | {"key1": key1, "key2": b"\x55" * 32}, initiator, caught.value)
    assert not any(isinstance(item, AESGCM) for item in reachable(initiator, caught.value))


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"nonce": b"\1" * 12}, RefusalReason.HELLO_NOT_OPENED),
        ({"role": 4}, RefusalReason.HELLO_MALFORMED),
        ({"cluster": bytes(32)}, RefusalReason.CLUSTER),
        ({"signature": bytes(256)}, RefusalReason.SIGNATURE),
        ({"x25519": bytes(32)}, RefusalReason.KEY_SHARE),
    ],
)
@pytest.mark.spec("HS-10")
def test_a_refused_hello_leaves_the_responder_no_secret_nor_what_it_raises(
    fault: dict[str, Any], reason: RefusalReason, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene, key1 = link_scene(), b"key1 of this Hello and no other."
    hello = forge_hello(scene, key1=key1, **fault)
    secrets = Secrets(monkeypatch)
    responder = scene.new_responder()
    with pytest.raises(HandshakeRefused) as caught:
        responder.receive_data(hello)
    assert caught.value.reason is reason
    assert_nothing_is_left(secrets.seen | {"key1": key1}, responder, caught.value)
    assert not any(isinstance(item, AESGCM) for item in reachable(responder, caught.value))


@pytest.mark.parametrize("end", ["deadline", "connection", "wrong Confirm"])
@pytest.mark.spec("HS-10")
def test_a_handshake_that_ends_before_confirm_leaves_the_responder_no_key(
    end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = anonymous_scene()
    secrets = Secrets(monkeypatch)
    responder = scene.new_responder()
    responder.receive_data(scene.new_initiator().hello())
    raised: HandshakeRefused
    match end:
        case "deadline":
            raised = responder.deadline_passed()
        case "connection":
            raised = responder.transport_closed()
        case _:
            with pytest.raises(HandshakeRefused) as caught:
                responder.receive_data(b"\3\0\0\x11" + bytes(17))
            raised = caught.value
    prk = secrets.seen["prk"]
    assert_nothing_is_left(secrets.seen | {"exporter": expand(prk, "exporter")}, responder, raised)
    assert not any(isinstance(item, AESGCM | Sealer | Opener) for item in reachable(responder, raised))


# ---- generations -------------------------------------------------------------


def of_generation(secret: bytes) -> dict[str, bytes]:
    return {"secret": secret, "key": expand(secret, "key"), "iv": expand(secret, "iv", 12)}


def holds(keys: Sealer | Opener, secret: bytes, aead: object) -> list[str]:
    """What of a generation is still there."""
    items = reachable(keys)
    iv = int.from_bytes(expand(secret, "iv", 12), "big")
    left = [name for name, value in of_generation(secret).items() if value in octets(items)]
    left += ["iv"] * any(isinstance(item, int) and item == iv for item in items)
    left += ["key"] * any(item is aead for item in items)
    return left


@pytest.mark.parametrize("which", ["sealer", "opener"])
@pytest.mark.spec("SE-76", "SE-77")
def test_a_rekey_leaves_nothing_of_the_generation_that_it_ends(which: str) -> None:
    sealer, opener = Sealer(SECRET), Opener(SECRET)
    keys: Sealer | Opener = sealer if which == "sealer" else opener
    frame = sealer.seal(RecordType.DATA, b"x", NOW)
    opener.open(memoryview(frame))
    aead = keys._aead
    assert holds(keys, SECRET, aead) == ["iv", "key"]
    sealer.seq = opener.seq = LAST_SEQ
    frames = sealer.seal(RecordType.DATA, b"y", NOW)
    opener.open(memoryview(frames[:21]))
    assert (sealer.generation, opener.generation) == (1, 1)
    assert holds(keys, SECRET, aead) == []


@pytest.mark.parametrize("how", ["clean", "error", "truncation", "given up"])
@pytest.mark.spec("SE-78")
def test_a_session_that_is_closed_holds_no_key(how: str) -> None:
    one, other = connection_pair()
    for connection in (one, other):
        place_seal(connection, 2)
        place_open(connection, 2)
    match how:
        case "clean":
            frame = other.send_bye(NOW)
            one.send_bye(NOW)
            one.receive_data(bytes(frame))
            one.next_event(NOW)
        case "error":
            frame = other.send_error(5, "", NOW)  # type: ignore[arg-type]
            one.receive_data(bytes(frame))
            with pytest.raises(Exception, match="internal"):
                one.next_event(NOW)
        case "truncation":
            one.receive_data(b"")
            with pytest.raises(Exception, match="before the peer said Bye"):
                one.next_event(NOW)
        case _:
            one.given_up(NOW)
    assert one.next_event(NOW) == NEED_DATA
    assert not any(isinstance(item, AESGCM) for item in reachable(one))
    for keys in (one._sealer, one._opener):
        assert not {"_aead", "_iv", "_next_secret"} & set(vars(keys))
