"""Which ck a Hello may be for, and what a responder does with one that does not decrypt."""

import itertools

import attrs
import pytest

from tests.pairs import Draws, Scene, client_scene, forge_hello, link_scene
from xlattice_trio.errors import HandshakeRefused, RefusalReason
from xlattice_trio.handshake import key_schedule, responder
from xlattice_trio.handshake.responder import AcceptedKey
from xlattice_trio.testing.identities import test_identity

Reason = RefusalReason


def refusal(scene: Scene, hello: bytes) -> HandshakeRefused:
    with pytest.raises(HandshakeRefused) as caught:
        scene.new_responder().receive_data(hello)
    return caught.value


# ---- RSA ---------------------------------------------------------------------


@pytest.mark.spec("HS-29", "HS-40", "ID-17")
def test_a_failed_decryption_and_a_wrong_key1_cannot_be_told_apart() -> None:
    wrong = [
        {"kem_secret": b"x" * 32},
        {"kem_secret": b"x" * 31},
        {"kem_ciphertext": bytes(256)},
        {"sealed": bytes(1936)},
    ]
    seen = []
    for fault in wrong:
        scene = link_scene()
        refused = refusal(scene, forge_hello(scene, **fault))
        context = refused.__context__
        assert scene.responder_draws.drawn == [("oaep_fallback", 32)]
        assert context is not None
        seen.append((refused.reason, refused.args, refused.__cause__, type(context), type(context.__context__)))
    assert all(one == seen[0] for one in seen)
    assert seen[0][0] is Reason.HELLO_NOT_OPENED


@pytest.mark.spec("HS-40")
def test_the_key_that_takes_the_place_of_a_failed_decryption_is_the_one_that_was_drawn() -> None:
    # nobody else can seal under it; with the drawn key known, it opens and the checks go on
    scene = link_scene(responder_draws=Draws("responder", oaep_fallback=b"f" * 32))
    hello = forge_hello(scene, kem_ciphertext=b"\x01" * 256, key1=b"f" * 32, cluster=bytes(32))
    assert refusal(scene, hello).reason is Reason.CLUSTER


@pytest.mark.spec("HS-6", "HS-43")
def test_responder_draws_these_random_numbers() -> None:
    scene = link_scene()
    scene.new_responder().receive_data(forge_hello(scene))
    assert scene.responder_draws.drawn == [("oaep_fallback", 32), ("x25519", 32), ("key2", 32), ("salt", 32)]


# ---- accepted cks ------------------------------------------------------------


def accepted(*bits: int) -> list[AcceptedKey]:
    """Other nodes' cks of these sizes, in the place of one's own of several times."""
    return [AcceptedKey.of(test_identity(i, bits=size).ck_priv) for i, size in enumerate(bits)]


@pytest.mark.parametrize("bits", list(itertools.product((2048, 3072, 4096), repeat=3)))
@pytest.mark.spec("HS-25", "HS-27", "RO-49", "RO-53")
def test_every_accepted_ck_is_taken_whatever_its_place_and_size(bits: tuple[int, ...]) -> None:
    keys = accepted(*bits)
    scene = client_scene(accepted=keys)
    for key in keys:
        hello = forge_hello(scene, ck=key.ck_priv.public_key())
        assert scene.new_responder().receive_data(hello)
    for size in (2048, 3072, 4096):
        stranger = test_identity(9, bits=size).ck_priv.public_key()
        reason = Reason.MAC if size in bits else Reason.FRAME_HEADER
        assert refusal(scene, forge_hello(scene, ck=stranger)).reason is reason


@pytest.mark.spec("HS-27")
def test_mac_is_tried_under_the_cks_of_its_size_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = accepted(2048, 3072, 2048, 2048)
    scene = client_scene(accepted=keys)
    tried: list[bytes] = []
    k_mac = key_schedule.k_mac

    def recorded(spki: bytes, knock: bytes) -> bytes:
        tried.append(spki)
        return k_mac(spki, knock)

    monkeypatch.setattr(key_schedule, "k_mac", recorded)
    scene.new_responder().receive_data(forge_hello(scene, ck=keys[2].ck_priv.public_key()))
    assert tried == [keys[0].spki, keys[2].spki]


@pytest.mark.spec("HS-27", "HS-29")
def test_the_ck_of_the_mac_is_the_only_one_that_decrypts() -> None:
    keys = accepted(2048, 3072, 2048)
    scene = client_scene(accepted=keys)
    for mac_of, kem_of, reason in [
        (0, 2, Reason.HELLO_NOT_OPENED),
        (2, 0, Reason.HELLO_NOT_OPENED),
        (0, 1, Reason.MAC),
        (1, 0, Reason.MAC),
    ]:
        hello = forge_hello(scene, ck=keys[kem_of].ck_priv.public_key(), mac_ck=keys[mac_of].spki)
        assert refusal(scene, hello).reason is reason


@pytest.mark.spec("HS-25")
def test_without_an_accepted_ck_no_length_is_due() -> None:
    scene = client_scene(accepted=[])
    for length in (2212, 2340, 2468):
        header = b"\x01" + length.to_bytes(3, "big")
        assert refusal(scene, header).reason is Reason.FRAME_HEADER


@pytest.mark.spec("NO-30")
def test_keys_do_not_show() -> None:
    assert repr(accepted(2048)[0]) == "AcceptedKey()"
    shown = {field.name for field in attrs.fields(responder._VerifiedHello) if field.repr}
    assert shown == {"frame", "body", "initiator", "mlkem", "x25519_share"}


@pytest.mark.parametrize("size", [2048, 3072, 4096])
@pytest.mark.spec("HS-25")
def test_the_header_alone_is_refused_and_the_body_not_waited_for(size: int) -> None:
    scene = client_scene(accepted=accepted(size))
    due = 1956 + size // 8
    for length in (2211, 2212, 2213, 2339, 2340, 2341, 2467, 2468, 2469):
        header = b"\x01" + length.to_bytes(3, "big")
        if length == due:
            assert scene.new_responder().receive_data(header) == b""
        else:
            assert refusal(scene, header).reason is Reason.FRAME_HEADER
