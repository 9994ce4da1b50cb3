"""The second maker of messages: it agrees with the package, and does what a forger says and nothing else."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.pairs import NOW, SCENES, Draws, Scene, anonymous_scene, client_scene, hello_parts, link_scene, nodes
from xlattice_trio import crypto
from xlattice_trio.handshake import key_schedule
from xlattice_trio.handshake.initiator import Initiator
from xlattice_trio.handshake.outcome import Established
from xlattice_trio.handshake.responder import Responder
from xlattice_trio.session.records import Sealer
from xlattice_trio.testing.forge import (
    ForgedHello,
    Overwrite,
    Point,
    ReplyParts,
    expand,
    forge_hello,
    forge_record,
    forge_reply,
    h,
    label,
    mac_of,
    open_reply,
    secrets_of,
)
from xlattice_trio.testing.identities import test_client, test_roster
from xlattice_trio.vectors.deterministic import randomised
from xlattice_trio.wire.messages import RecordType

RSA = [(bits, id_size) for bits in (2048, 3072, 4096) for id_size in (20, 32)]


def scene_of(make: Callable[..., Scene], bits: int, id_size: int) -> Scene:
    low, high = nodes(2, bits=bits, id_size=id_size)
    identity = {client_scene: test_client(0, id_size=id_size), anonymous_scene: None}.get(make, low)
    return make(roster=test_roster(2, 1, bits=bits, id_size=id_size), identity=identity, responder=high)


def initiator_of(scene: Scene) -> Initiator:
    draws = Draws("initiator")
    return Initiator(scene.intent(), draw=draws, randomised=randomised(draws))


def responder_of(scene: Scene) -> Responder:
    draws = Draws("responder")
    return Responder(scene.welcome(), draw=draws, randomised=randomised(draws))


def hello_for(scene: Scene, **changes: Any) -> ForgedHello:
    return forge_hello(hello_parts(scene, **changes), Draws("initiator"))


def outcome(side: Initiator | Responder) -> Established:
    assert side.established is not None
    return side.established


# ---- the same bytes ----------------------------------------------------------


@pytest.mark.parametrize("make", SCENES)
@pytest.mark.parametrize(("bits", "id_size"), RSA)
@pytest.mark.spec("HS-11", "HS-12", "HS-13", "HS-14", "HS-15", "HS-42", "HS-54", "HS-5", "HS-7", "HS-9")
def test_both_makers_make_the_same_bytes_from_the_same_draws(
    make: Callable[..., Scene], bits: int, id_size: int
) -> None:
    scene = scene_of(make, bits, id_size)
    initiator, responder = initiator_of(scene), responder_of(scene)
    forged = hello_for(scene)
    hello = initiator.hello()
    assert forged.frame == hello
    reply = responder.receive_data(hello)
    parts = ReplyParts(
        hello=hello,
        key1=forged.key1,
        mlkem_ek=crypto.mlkem_ek(crypto.mlkem_key(forged.mlkem_seed)),
        keepalive=15_000 if make is link_scene else 0,
        epoch=1,
    )
    answer = forge_reply(parts, Draws("responder"))
    assert answer.frame == reply
    secrets = open_reply(forged, reply)
    confirm = initiator.receive_data(reply, NOW)
    assert confirm == forge_record(secrets.i2r, 0, 1)
    responder.receive_data(confirm)
    for side in (initiator, responder):
        assert outcome(side).transcript_hash == secrets.th
        assert outcome(side).exporter == secrets.exporter
    share = crypto.x25519_share(crypto.x25519_key(forged.x25519_private))
    x25519 = crypto.x25519_secret(crypto.x25519_key(answer.x25519_private), share)
    assert secrets_of(hello, reply, answer.key2, forged.key1, x25519, answer.mlkem_secret) == secrets


@pytest.mark.spec("SE-6", "SE-7", "SE-8", "SE-16")
def test_both_makers_make_the_same_records() -> None:
    sealer = Sealer(b"s" * 32)
    for seq, payload in enumerate((b"", b"x", b"y" * 65_536)):
        assert forge_record(b"s" * 32, seq, 2, payload) == sealer.seal(RecordType.DATA, payload, NOW)


def test_formulas_are_those_of_the_package() -> None:
    assert h("node-id", b"x", b"y") == crypto.digest(crypto.Label.NODE_ID, b"xy")
    assert mac_of(b"k", b"m") == crypto.hmac_sha256(b"k", b"m")
    assert expand(b"p" * 32, "iv", 12) == key_schedule.generation(b"p" * 32).iv


# ---- what the forger says ----------------------------------------------------


def differences(a: bytes, b: bytes) -> set[int]:
    assert len(a) == len(b)
    return {at for at, (x, y) in enumerate(zip(a, b, strict=True)) if x != y}


def test_bytes_overwritten_before_signing_are_signed_sealed_and_maced() -> None:
    scene = link_scene()
    cluster = 260 + 3 + 32  # in the content: behind version, kem_ciphertext, role, purpose and recipient
    forged = hello_for(scene, overwrites=[Overwrite(Point.SIGNING, cluster, b"\xff\xfe")])
    right = hello_for(scene)
    at = cluster - 260
    assert {at, at + 1} < differences(forged.body, right.body)
    assert forged.body[at : at + 2] == b"\xff\xfe"
    assert forged.signed[26 + cluster : 28 + cluster] == b"\xff\xfe"
    assert scene.identity is not None
    signature = forged.body[-343 - 2 - 256 : -343 - 2]
    crypto.pss_verify(scene.identity.card.sk, crypto.Label.HELLO_SIGNATURE, forged.signed[26:], signature)
    assert forged.frame[-16:] == mac_of(forged.k_mac, forged.frame[:-16])[:16]


def test_bytes_overwritten_before_sealing_are_not_signed() -> None:
    scene = link_scene()
    forged, right = hello_for(scene, overwrites=[Overwrite(Point.SEALING, 264, b"\x03")]), hello_for(scene)
    assert differences(forged.body, right.body) == {0}
    assert forged.signed == right.signed
    plaintext = crypto.open_sealed(
        crypto.aead_key(forged.k_hello), bytes(12), forged.frame[:264], forged.frame[264:-16]
    )
    assert plaintext == forged.body
    version = hello_for(scene, overwrites=[Overwrite(Point.SEALING, 5, b"\x03")])
    assert version.frame[:6] == right.frame[:5] + b"\x03"
    assert version.frame[264:-16] != right.frame[264:-16]  # the head is the aad


def test_bytes_overwritten_before_macing_are_maced_and_those_before_sending_are_not() -> None:
    scene = link_scene()
    right = hello_for(scene).frame
    maced = hello_for(scene, overwrites=[Overwrite(Point.MACING, 264, b"\0")]).frame
    assert differences(maced, right) >= {264}
    assert differences(maced[:-16], right[:-16]) == {264}
    assert maced[-16:] != right[-16:]
    sent = hello_for(scene, overwrites=[Overwrite(Point.SENDING, 264, b"\0")]).frame
    assert differences(sent, right) == {264}


def test_a_signature_over_another_value_leaves_the_value() -> None:
    scene = link_scene()
    forged, right = hello_for(scene, sign_as={"purpose": 2}), hello_for(scene)
    assert differences(forged.signed, right.signed) == {26 + 261}
    start = 1255 + 64  # of the signature, r = i = 32, s = 0
    assert min(differences(forged.body, right.body)) >= start
    assert max(differences(forged.body, right.body)) < start + 256


def test_every_part_of_a_hello_can_be_said() -> None:
    scene = link_scene()
    right = hello_for(scene)
    said: dict[str, Any] = {
        "kind": 9,
        "length": 5,
        "version": 0x0304,
        "key1": b"K" * 32,
        "kem_secret": b"k" * 31,
        "kem_label": b"l",
        "kem_ciphertext": b"\1" * 257,
        "role": 255,
        "purpose": 254,
        "recipient": b"",
        "cluster": b"c" * 32,
        "x25519": b"x" * 32,
        "mlkem_ek": b"e" * 1184,
        "service": b"\xff",
        "initiator": b"i" * 5,
        "signer": None,
        "sign_as": {"version": 3},
        "signed_label": "roster",
        "signed": b"",
        "pss_salt": b"",
        "signature": b"g",
        "pad": b"p" * 343,
        "plaintext": b"t" * 1920,
        "sealing_key": bytes(32),
        "nonce": b"\1" * 12,
        "aad": b"",
        "sealed": b"",
        "mac_ck": b"",
        "knock": b"",
        "mac": b"m" * 16,
        "overwrites": [Overwrite(Point.SENDING, 4, b"\xff")],
    }
    assert {*said, "ck"} == {field.name for field in attrs.fields(type(hello_parts(scene)))}
    frames = {hello_for(scene, **{name: value}).frame for name, value in said.items()}
    assert len(frames) == len(said)
    assert right.frame not in frames


def test_every_part_of_a_reply_can_be_said() -> None:
    right: dict[str, Any] = {
        "hello": b"h" * 2216,
        "key1": b"k" * 32,
        "mlkem_ek": crypto.mlkem_ek(crypto.mlkem_key(bytes(64))),
        "keepalive": 0,
        "epoch": 1,
    }
    said: dict[str, Any] = {
        "hello": b"H" * 2216,
        "key1": b"K" * 32,
        "mlkem_ek": crypto.mlkem_ek(crypto.mlkem_key(b"\1" * 64)),
        "header": b"\x03\x00\x00\x11",
        "salt": b"s" * 32,
        "key2": b"2" * 32,
        "x25519": b"x" * 32,
        "mlkem_ciphertext": b"c" * 1088,
        "keepalive": 1,
        "epoch": 2,
        "plaintext": b"t" * 1164,
        "sealing_key": bytes(32),
        "sealed_salt": b"S" * 32,
        "nonce": b"\1" * 12,
        "aad": b"",
        "sealed": b"",
        "overwrites": [Overwrite(Point.SENDING, 36, b"\xff\xff")],
    }
    assert set(said) == {field.name for field in attrs.fields(ReplyParts)}
    frames = {forge_reply(ReplyParts(**right | {name: value}), Draws("r")).frame for name, value in said.items()}
    assert len(frames) == len(said)
    assert forge_reply(ReplyParts(**right), Draws("r")).frame not in frames


def test_the_signature_of_a_forged_hello_has_the_label_that_was_said() -> None:
    assert hello_for(link_scene(), signed_label="node-card").signed.startswith(label("node-card") + b"\0")


def test_a_record_can_have_another_header_and_aad() -> None:
    plain = forge_record(b"s" * 32, 0, 2, b"x")
    assert forge_record(b"s" * 32, 0, 2, b"x", header=b"\3\0\0\x13")[4:] != plain[4:]
    assert forge_record(b"s" * 32, 0, 2, b"x", header=b"\3\0\0\x13", aad=plain[:4])[4:] == plain[4:]
