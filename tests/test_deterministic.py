"""What the makers of vectors compute themselves, against the library and against the specification's example."""

import hashlib
import random
import re

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from tests.pairs import NOW, Draws, Scene, link_scene, member_stream_scene
from xlattice_trio import crypto
from xlattice_trio.crypto import Label
from xlattice_trio.handshake import key_schedule
from xlattice_trio.handshake.initiator import Initiator
from xlattice_trio.handshake.responder import Responder
from xlattice_trio.speccheck.tables import find_directory
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.vectors.deterministic import (
    eme_oaep,
    emsa_pss,
    mlkem_encapsulate,
    oaep_encrypt,
    pss_sign,
    pss_sign_message,
    randomised,
    rsa_private,
    rsa_public,
)

BITS = (2048, 3072, 4096)
HASHES: dict[str, hashes.HashAlgorithm] = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256()}
EXAMPLE = (find_directory() / "12-example.md").read_text(encoding="utf-8")


def drawn(name: str, size: int) -> bytes:
    return hashlib.shake_128(name.encode()).digest(size)


# ---- RSA ---------------------------------------------------------------------


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [0, 1, 32, 190])
def test_the_library_decrypts_what_was_encrypted_with_a_given_seed(bits: int, size: int) -> None:
    node = test_identity(0, bits=bits)
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
    secret = drawn("secret", size)
    ciphertext = oaep_encrypt(node.card.ck, secret, drawn("seed", 32))
    assert len(ciphertext) == bits // 8
    assert node.ck_priv.decrypt(ciphertext, oaep) == secret
    assert oaep_encrypt(node.card.ck, secret, drawn("seed", 32)) == ciphertext
    assert oaep_encrypt(node.card.ck, secret, drawn("another seed", 32)) != ciphertext


def test_a_label_of_oaep_is_the_one_that_was_given() -> None:
    node = test_identity(0)
    ciphertext = oaep_encrypt(node.card.ck, b"secret", bytes(32), b"label")
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"label")
    assert node.ck_priv.decrypt(ciphertext, oaep) == b"secret"
    assert crypto.oaep_decrypt(node.ck_priv, ciphertext, b"failed") == b"failed"


@pytest.mark.parametrize(("hash_name", "mgf_hash"), [("sha256", "sha1"), ("sha1", "sha256"), ("sha1", "sha1")])
def test_hashes_of_oaep_are_those_that_were_given(hash_name: str, mgf_hash: str) -> None:
    node = test_identity(0)
    block = eme_oaep(b"secret", bytes(HASHES[hash_name].digest_size), b"", 256, hash_name=hash_name, mgf_hash=mgf_hash)
    oaep = padding.OAEP(padding.MGF1(HASHES[mgf_hash]), HASHES[hash_name], None)
    ciphertext = rsa_public(node.card.ck, block)
    assert node.ck_priv.decrypt(ciphertext, oaep) == b"secret"
    assert crypto.oaep_decrypt(node.ck_priv, ciphertext, b"failed") == b"failed"


@pytest.mark.parametrize("bits", BITS)
def test_the_library_verifies_what_was_signed_with_a_given_salt(bits: int) -> None:
    node = test_identity(0, bits=bits)
    for i in range(8):
        content, salt = drawn(f"content {i}", 100 * i), drawn(f"salt {i}", 32)
        signature = pss_sign(node.sk_priv, Label.NODE_CARD, content, salt)
        crypto.pss_verify(node.card.sk, Label.NODE_CARD, content, signature)
        assert pss_sign(node.sk_priv, Label.NODE_CARD, content, salt) == signature
        assert pss_sign(node.sk_priv, Label.NODE_CARD, content, drawn(f"another salt {i}", 32)) != signature


def test_the_hash_of_mgf1_in_pss_is_the_one_that_was_given() -> None:
    node = test_identity(0)
    signature = rsa_private(node.sk_priv, emsa_pss(b"message", bytes(32), 256, mgf_hash="sha1"))
    node.card.sk.verify(signature, b"message", padding.PSS(padding.MGF1(hashes.SHA1()), 32), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        node.card.sk.verify(signature, b"message", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


@pytest.mark.parametrize("size", [0, 20, 31, 33, 222])
@pytest.mark.spec("ID-15")
def test_a_salt_of_another_length_makes_another_signature_scheme(size: int) -> None:
    node = test_identity(0)
    signature = pss_sign_message(node.sk_priv, b"message", bytes(size))
    node.card.sk.verify(signature, b"message", padding.PSS(padding.MGF1(hashes.SHA256()), size), hashes.SHA256())
    with pytest.raises(InvalidSignature):
        node.card.sk.verify(signature, b"message", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())


@pytest.mark.parametrize("bits", BITS)
def test_the_private_operation_is_that_of_the_whole_exponent(bits: int) -> None:
    key = test_identity(0, bits=bits).sk_priv
    numbers = key.private_numbers()
    for m in (0, 1, numbers.p, numbers.q, numbers.public_numbers.n - 1, int.from_bytes(drawn("m", bits // 8 - 1))):
        expected = pow(m, numbers.d, numbers.public_numbers.n)
        assert int.from_bytes(rsa_private(key, m.to_bytes(bits // 8))) == expected


# ---- ML-KEM ------------------------------------------------------------------


def test_the_library_decapsulates_what_was_encapsulated_with_a_given_m() -> None:
    for i in range(20):
        key = crypto.mlkem_key(drawn(f"key {i}", 64))
        secret, ciphertext = mlkem_encapsulate(crypto.mlkem_ek(key), drawn(f"m {i}", 32))
        assert (len(secret), len(ciphertext)) == (32, 1088)
        assert crypto.mlkem_decapsulate(key, ciphertext) == secret


def test_encapsulation_decodes_coefficients_at_both_ends() -> None:
    """A key of whatever coefficients below q has a ciphertext; nobody can decapsulate it, and nothing overflows."""
    rng = random.Random(0)
    numbers = [rng.choice((0, 1, 3328)) for _ in range(768)]
    packed = sum(number << (12 * i) for i, number in enumerate(numbers)).to_bytes(1152, "little")
    crypto.mlkem_public(packed + bytes(32))
    secret, ciphertext = mlkem_encapsulate(packed + bytes(32), bytes(32))
    assert (len(secret), len(ciphertext)) == (32, 1088)


# ---- in place of the library's -----------------------------------------------


def test_a_handshake_with_given_draws_is_the_same_every_time() -> None:
    def run() -> tuple[bytes, bytes, bytes]:
        scene = link_scene()
        initiator = Initiator(scene.intent(), draw=scene.initiator_draws, randomised=randomised(scene.initiator_draws))
        responder = Responder(scene.welcome(), draw=scene.responder_draws, randomised=randomised(scene.responder_draws))
        hello = initiator.hello()
        reply = responder.receive_data(hello)
        return hello, reply, initiator.receive_data(reply, NOW)

    assert run() == run()


def test_draws_of_the_randomised_operations_have_their_names_and_sizes() -> None:
    scene = link_scene()
    initiator = Initiator(scene.intent(), randomised=randomised(scene.initiator_draws))
    responder = Responder(scene.welcome(), randomised=randomised(scene.responder_draws))
    responder.receive_data(initiator.hello())
    assert scene.initiator_draws.drawn == [("oaep_seed", 32), ("pss_salt", 32)]
    assert scene.responder_draws.drawn == [("mlkem_m", 32)]


# ---- the specification's example (Spec 12.4 to 12.6) -------------------------


def run_of(start: int, end: int) -> bytes:
    """The bytes from `start` to `end`, both included, as the example writes them."""
    return bytes(range(start, end + 1))


def value(name: str) -> bytes:
    (digits,) = re.findall(rf"^{re.escape(name)}  +([0-9a-f]+)$", EXAMPLE, re.MULTILINE)
    return bytes.fromhex(digits)


def block(name: str) -> bytes:
    (lines,) = re.findall(rf"^{re.escape(name)}:\n((?:[0-9a-f]+\n)+)", EXAMPLE, re.MULTILINE)
    return bytes.fromhex(lines)


def records() -> list[bytes]:
    return [bytes.fromhex(digits) for digits in re.findall(r"^[IR] \d \d \w+ +([0-9a-f]+)$", EXAMPLE, re.MULTILINE)]


def example() -> Scene:
    initiator = Draws(
        "",
        key1=run_of(0x30, 0x4F),
        oaep_seed=run_of(0x40, 0x5F),
        x25519=run_of(0x50, 0x6F),
        mlkem_seed=run_of(0x60, 0x9F),
        pss_salt=run_of(0x24, 0x43),
    )
    responder = Draws(
        "",
        x25519=run_of(0xA0, 0xBF),
        mlkem_m=run_of(0xB0, 0xCF),
        key2=run_of(0xC0, 0xDF),
        salt=run_of(0xD0, 0xEF),
    )
    return member_stream_scene(
        identity=test_identity(0),
        responder=test_identity(1),
        keepalive=60_000,
        initiator_draws=initiator,
        responder_draws=responder,
    )


@pytest.mark.spec("HS-5", "HS-11", "HS-12", "HS-13", "HS-14", "HS-15", "HS-42", "HS-45", "HS-54", "ID-12", "ID-16")
def test_the_handshake_of_the_example_has_the_bytes_of_the_example() -> None:
    scene = example()
    initiator = Initiator(scene.intent(), draw=scene.initiator_draws, randomised=randomised(scene.initiator_draws))
    responder = Responder(scene.welcome(), draw=scene.responder_draws, randomised=randomised(scene.responder_draws))
    hello = initiator.hello()
    assert hello == block("Hello frame")
    assert hello[-16:] == value("mac")
    assert key_schedule.hello_digest(hello) == value("hello-digest")
    reply = responder.receive_data(hello)
    assert reply == block("HelloReply frame")
    confirm = initiator.receive_data(reply, NOW)
    assert confirm == records()[0]
    responder.receive_data(confirm)
    for side in (initiator, responder):
        assert side.established is not None
        assert side.established.transcript_hash == value("th")
        assert side.established.exporter == value("exporter")


@pytest.mark.spec("HS-9")
def test_encapsulation_gives_the_secret_of_the_example() -> None:
    ek = crypto.mlkem_ek(crypto.mlkem_key(run_of(0x60, 0x9F)))
    assert hashlib.sha256(ek).digest() == value("SHA-256 of mlkem_ek")
    secret, ciphertext = mlkem_encapsulate(ek, run_of(0xB0, 0xCF))
    assert hashlib.sha256(ciphertext).digest() == value("SHA-256 of mlkem_ciphertext")
    assert secret == value("ML-KEM secret")
