"""The primitives as the protocol wants them: strict keys, strict signatures, and failures that do not show."""

import base64
import hashlib
import hmac
import os
from functools import cache

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from xlattice_trio import crypto
from xlattice_trio.crypto import Label, NoSecret, NotOpened, PassphraseNeeded, RSAPrivateKey
from xlattice_trio.errors import IdentityError, UsageError
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.vectors import pkcs8

ALL_BITS = pytest.mark.parametrize("bits", [2048, 3072, 4096])


@cache
def key_of(bits: int, number: int = 0) -> RSAPrivateKey:
    return test_identity(number, bits=bits).sk_priv


def spki_of(bits: int = 2048) -> bytes:
    return crypto.encode_spki(key_of(bits).public_key())


# ---- AES-256-GCM -------------------------------------------------------------


@pytest.mark.spec("NO-26", "NO-27")
def test_a_sealed_text_opens_only_with_all_that_it_was_sealed_with() -> None:
    key, other, nonce = crypto.aead_key(b"k" * 32), crypto.aead_key(b"l" * 32), b"n" * 12
    sealed = crypto.seal(key, nonce, b"aad", b"text")
    assert len(sealed) == len(b"text") + 16
    assert crypto.open_sealed(key, nonce, b"aad", sealed) == b"text"
    out = bytearray(len(sealed))
    crypto.seal_into(key, nonce, b"aad", bytearray(b"text"), memoryview(out))
    assert out == sealed
    plain = bytearray(4)
    crypto.open_into(key, nonce, b"aad", memoryview(sealed), plain)
    assert plain == b"text"
    damaged = [bytes([sealed[0] ^ 1]) + sealed[1:], sealed[:-1] + bytes([sealed[-1] ^ 1])]
    for k, n, a, s in [
        (other, nonce, b"aad", sealed),
        (key, b"m" * 12, b"aad", sealed),
        (key, nonce, b"aaD", sealed),
        (key, nonce, b"aad", damaged[0]),
        (key, nonce, b"aad", damaged[1]),
    ]:
        with pytest.raises(NotOpened):
            crypto.open_sealed(k, n, a, s)
        with pytest.raises(NotOpened):
            crypto.open_into(k, n, a, memoryview(s), plain)
    assert bytes(12) == crypto.ZERO_NONCE


@pytest.mark.spec("NO-29")
def test_equal_is_equality_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real = hmac.compare_digest

    def compare_digest(a: bytes, b: bytes) -> bool:
        compared.append((a, b))
        return real(a, b)

    monkeypatch.setattr(hmac, "compare_digest", compare_digest)
    pairs = [(b"abc", b"abc"), (b"abc", b"abd"), (b"abc", b"ab")]
    assert [crypto.equal(*pair) for pair in pairs] == [True, False, False]
    assert compared == pairs


@pytest.mark.spec("NO-28")
def test_random_bytes_are_the_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    assert crypto.system_draw("key1", 32) != crypto.system_draw("key1", 32)
    monkeypatch.setattr(os, "urandom", lambda size: b"u" * size)
    assert crypto.system_draw("key1", 32) == b"u" * 32


# ---- key agreement -----------------------------------------------------------

P = 2**255 - 19
LOW_ORDER = [
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    P - 1,
    P,
    P + 1,
]


@pytest.mark.parametrize("u", LOW_ORDER)
@pytest.mark.parametrize("top_bit", [0, 1 << 255])
@pytest.mark.spec("HS-7", "HS-8")
def test_a_share_that_gives_zero_bytes_is_no_key_share(u: int, top_bit: int) -> None:
    with pytest.raises(NoSecret):
        crypto.x25519_secret(crypto.x25519_key(b"a" * 32), (u | top_bit).to_bytes(32, "little"))


@pytest.mark.spec("HS-7")
def test_x25519_is_that_of_rfc_7748() -> None:
    # RFC 7748, section 6.1
    bob = crypto.x25519_key(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    assert crypto.x25519_share(bob).hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    share = bytes.fromhex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a")
    secret = crypto.x25519_secret(bob, share)
    assert secret.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert crypto.x25519_secret(bob, share[:-1] + bytes([share[-1] | 0x80])) == secret
    # not below p, not of low order: taken
    assert len(crypto.x25519_secret(bob, (P + 9).to_bytes(32, "little"))) == 32


@pytest.mark.spec("HS-9")
def test_ml_kem_gives_both_sides_one_secret_and_a_stranger_another() -> None:
    key = crypto.mlkem_key(bytes(range(64)))
    ek = crypto.mlkem_ek(key)
    assert ek == crypto.mlkem_ek(crypto.mlkem_key(bytes(range(64))))
    secret, ciphertext = crypto.mlkem_encapsulate(crypto.mlkem_public(ek))
    assert (len(ek), len(ciphertext), len(secret)) == (1184, 1088, 32)
    assert crypto.mlkem_decapsulate(key, ciphertext) == secret
    assert crypto.mlkem_decapsulate(crypto.mlkem_key(bytes(64)), ciphertext) != secret
    assert len(crypto.mlkem_decapsulate(key, bytes(1088))) == 32


def ek_with(position: int, coefficient: int) -> bytes:
    """An encapsulation key, one of its 768 coefficients replaced."""
    ek = bytearray(crypto.mlkem_ek(crypto.mlkem_key(bytes(64))))
    at = position // 2 * 3
    pair = int.from_bytes(ek[at : at + 3], "little")
    shift = 12 * (position % 2)
    pair = pair & ~(0xFFF << shift) | coefficient << shift
    ek[at : at + 3] = pair.to_bytes(3, "little")
    return bytes(ek)


@pytest.mark.parametrize("position", [0, 1, 255, 256, 766, 767])
@pytest.mark.spec("HS-30")
def test_an_encapsulation_key_with_a_coefficient_not_below_3329_is_none(position: int) -> None:
    crypto.mlkem_encapsulate(crypto.mlkem_public(ek_with(position, 3328)))
    for coefficient in (3329, 4095):
        with pytest.raises(NoSecret):
            crypto.mlkem_public(ek_with(position, coefficient))


# ---- public keys -------------------------------------------------------------


@ALL_BITS
@pytest.mark.spec("ID-1", "ID-9")
def test_a_public_key_has_one_encoding(bits: int) -> None:
    key = key_of(bits).public_key()
    der = crypto.encode_spki(key)
    assert der == key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert len(der) == {2048: 294, 3072: 422, 4096: 550}[bits]
    assert crypto.decode_spki(der) == key
    assert crypto.rsa_size(key) == bits // 8
    assert crypto.rsa_modulus(key) == key.public_numbers().n


@pytest.mark.spec("ID-1")
def test_a_key_of_another_size_or_exponent_has_no_encoding() -> None:
    for key in (rsa.generate_private_key(65537, 1024), rsa.generate_private_key(3, 2048)):
        with pytest.raises(IdentityError):
            crypto.encode_spki(key.public_key())


@ALL_BITS
@pytest.mark.spec("ID-9")
def test_a_public_key_encoded_otherwise_is_refused(bits: int) -> None:
    der = spki_of(bits)
    for at in [*range(33), *range(len(der) - 5, len(der))]:  # prefix and suffix
        with pytest.raises(IdentityError):
            crypto.decode_spki(der[:at] + bytes([der[at] ^ 1]) + der[at + 1 :])
    for wrong in (b"", der[:-1], der + b"\0", b"\0" + der):
        with pytest.raises(IdentityError):
            crypto.decode_spki(wrong)


@ALL_BITS
@pytest.mark.spec("ID-9")
def test_a_modulus_that_is_even_or_too_short_is_refused(bits: int) -> None:
    der = spki_of(bits)
    with pytest.raises(IdentityError):
        crypto.decode_spki(der[:33] + bytes([der[33] & 0x7F]) + der[34:])
    with pytest.raises(IdentityError):
        crypto.decode_spki(der[:-6] + bytes([der[-6] & 0xFE]) + der[-5:])


@ALL_BITS
@pytest.mark.spec("ID-10")
def test_a_modulus_with_small_factors_is_taken(bits: int) -> None:
    der = spki_of(bits)
    smallest = (1 << (bits - 1)) + 1  # 3 divides it
    weak = der[:33] + smallest.to_bytes(bits // 8, "big") + der[-5:]
    assert crypto.rsa_modulus(crypto.decode_spki(weak)) == smallest


def test_a_key_of_another_size_is_not_generated() -> None:
    for bits in (0, 1024, 2047, 2049, 8192):
        with pytest.raises(UsageError):
            crypto.rsa_generate(bits)
    assert crypto.rsa_generate(2048).key_size == 2048


# ---- signatures --------------------------------------------------------------


def pss(salt: int, mgf: hashes.HashAlgorithm | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(mgf or hashes.SHA256()), salt)


@ALL_BITS
@pytest.mark.spec("ID-12")
def test_a_signature_is_pss_over_label_zero_and_content(bits: int) -> None:
    key = key_of(bits)
    signature = crypto.pss_sign(key, Label.ROSTER, b"content")
    assert len(signature) == bits // 8
    key.public_key().verify(signature, b"xlattice2 roster\0content", pss(32), hashes.SHA256())
    crypto.pss_verify(key.public_key(), Label.ROSTER, b"content", signature)


@pytest.mark.spec("ID-12", "ID-13", "ID-14", "ID-15")
def test_a_signature_of_anything_else_or_made_otherwise_is_refused() -> None:
    key, other = key_of(2048), key_of(2048, 1)
    public = key.public_key()
    message = b"xlattice2 roster\0content"
    good = key.sign(message, pss(32), hashes.SHA256())
    crypto.pss_verify(public, Label.ROSTER, b"content", good)
    while int.from_bytes(good, "big") + crypto.rsa_modulus(public) >= 1 << 2048:
        good = key.sign(message, pss(32), hashes.SHA256())
    not_below = (int.from_bytes(good, "big") + crypto.rsa_modulus(public)).to_bytes(256, "big")
    for signature in (
        not_below,
        crypto.rsa_modulus(public).to_bytes(256, "big"),
        b"",
        good[:-1],
        b"\0" + good,
        good + b"\0",
        bytes([good[0] ^ 1]) + good[1:],
        other.sign(message, pss(32), hashes.SHA256()),
        key.sign(message, pss(0), hashes.SHA256()),
        key.sign(message, pss(31), hashes.SHA256()),
        key.sign(message, pss(33), hashes.SHA256()),
        key.sign(message, pss(256 - 32 - 2), hashes.SHA256()),
        key.sign(message, pss(32, hashes.SHA384()), hashes.SHA256()),
        key.sign(message, pss(32), hashes.SHA384()),
        key.sign(message, padding.PKCS1v15(), hashes.SHA256()),
        key.sign(hashlib.sha256(message).digest(), pss(32), hashes.SHA256()),
    ):
        with pytest.raises(IdentityError):
            crypto.pss_verify(public, Label.ROSTER, b"content", signature)
    for label, content in [(Label.NODE_CARD, b"content"), (Label.ROSTER, b"Content"), (Label.ROSTER, b"")]:
        with pytest.raises(IdentityError):
            crypto.pss_verify(public, label, content, good)


# ---- OAEP --------------------------------------------------------------------


def oaep(
    hash_: hashes.HashAlgorithm | None = None, mgf: hashes.HashAlgorithm | None = None, label: bytes | None = None
) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(mgf or hashes.SHA256()), hash_ or hashes.SHA256(), label)


@ALL_BITS
@pytest.mark.spec("ID-16")
def test_oaep_carries_a_secret_in_a_modulus(bits: int) -> None:
    key = key_of(bits)
    ciphertext = crypto.oaep_encrypt(key.public_key(), b"s" * 32)
    assert len(ciphertext) == bits // 8
    assert key.decrypt(ciphertext, oaep()) == b"s" * 32
    assert crypto.oaep_decrypt(key, ciphertext, bytes(32)) == b"s" * 32


@pytest.mark.spec("ID-17", "HS-40")
def test_what_does_not_decrypt_to_32_bytes_gives_the_fallback() -> None:
    key, fallback = key_of(2048), b"f" * 32
    public, secret = key.public_key(), b"s" * 32
    below = crypto.oaep_encrypt(public, secret)
    while int.from_bytes(below, "big") + crypto.rsa_modulus(public) >= 1 << 2048:
        below = crypto.oaep_encrypt(public, secret)
    for ciphertext in (
        b"",
        bytes(256),
        b"\xff" * 256,
        below[:-1],
        b"\0" + below,
        (int.from_bytes(below, "big") + crypto.rsa_modulus(public)).to_bytes(256, "big"),
        crypto.oaep_encrypt(public, b""),
        crypto.oaep_encrypt(public, secret[:-1]),
        crypto.oaep_encrypt(public, secret + b"s"),
        crypto.oaep_encrypt(key_of(2048, 1).public_key(), secret),
        public.encrypt(secret, oaep(hashes.SHA1())),
        public.encrypt(secret, oaep(mgf=hashes.SHA1())),
        public.encrypt(secret, oaep(label=b"label")),
        public.encrypt(secret, padding.PKCS1v15()),
    ):
        assert crypto.oaep_decrypt(key, ciphertext, fallback) == fallback


# ---- private keys in files ---------------------------------------------------


@pytest.mark.spec("ID-26")
def test_a_private_key_without_a_passphrase_comes_back() -> None:
    pem = crypto.private_key_pem(key_of(2048), None)
    assert pem.startswith(b"-----BEGIN PRIVATE KEY-----\n")
    assert pem.endswith(b"\n-----END PRIVATE KEY-----\n")
    for passphrase in (None, b"not needed"):
        assert crypto.load_private_key_pem(pem, passphrase).private_numbers() == key_of(2048).private_numbers()


@pytest.mark.spec("ID-26", "ID-28")
def test_a_private_key_with_a_passphrase_comes_back_with_that_one_only() -> None:
    pem = crypto.private_key_pem(key_of(2048), b"open sesame")
    lines = pem.decode("ascii").split("\n")
    assert lines[0] == "-----BEGIN ENCRYPTED PRIVATE KEY-----"
    assert lines[-2:] == ["-----END ENCRYPTED PRIVATE KEY-----", ""]
    assert {len(line) for line in lines[1:-3]} == {64}
    assert crypto.load_private_key_pem(pem, b"open sesame").private_numbers() == key_of(2048).private_numbers()
    assert pem != crypto.private_key_pem(key_of(2048), b"open sesame")
    for passphrase in (None, b"", b"open sesam"):
        with pytest.raises(PassphraseNeeded):
            crypto.load_private_key_pem(pem, passphrase)
    with pytest.raises(PassphraseNeeded):
        crypto.load_private_key_pem(pem.replace(pem[200:204], b"AAAA"), b"open sesame")


def pem_of(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey, form: PrivateFormat = PrivateFormat.PKCS8) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


@pytest.mark.spec("ID-1", "ID-26")
def test_a_private_key_of_another_kind_is_refused() -> None:
    good = pem_of(key_of(2048))
    public = key_of(2048).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for pem in (
        b"",
        b"\n" + good,
        public,
        pem_of(key_of(2048), PrivateFormat.TraditionalOpenSSL),
        good[:200],
        good.replace(good[100:108], b"AAAAAAAA"),
        pem_of(ec.generate_private_key(ec.SECP256R1())),
        pem_of(rsa.generate_private_key(65537, 1024)),
        pem_of(rsa.generate_private_key(3, 2048)),
    ):
        with pytest.raises(IdentityError) as caught:
            crypto.load_private_key_pem(pem, None)
        assert not isinstance(caught.value, PassphraseNeeded)


@pytest.mark.spec("ID-28")
def test_an_encrypted_key_says_pbes2_with_600000_rounds_and_aes_256_cbc() -> None:
    pem = crypto.private_key_pem(key_of(3072), b"p")
    der = serialization.load_pem_private_key(pem, b"p")
    assert isinstance(der, rsa.RSAPrivateKey)
    raw = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
    for part in ("06092a864886f70d01050d", "06092a864886f70d01050c", "0203" + f"{600_000:06x}"):
        assert bytes.fromhex(part) in raw[:80]
    for part in ("06082a864886f70d02090500", "060960864801650304012a"):
        assert bytes.fromhex(part) in raw[:140]


def encryption(pem: bytes) -> tuple[bytes, bytes]:
    """Salt and iv of an encrypted key of ours: the octet strings behind PBKDF2's and AES-256-CBC's names."""
    raw = base64.b64decode(b"".join(pem.split(b"\n")[1:-2]))
    behind_pbkdf2 = raw.partition(bytes.fromhex("06092a864886f70d01050c"))[2]
    behind_aes = raw.partition(bytes.fromhex("060960864801650304012a"))[2]
    assert (behind_pbkdf2[0], behind_pbkdf2[2], behind_aes[0]) == (0x30, 4, 4)
    return behind_pbkdf2[4 : 4 + behind_pbkdf2[3]], behind_aes[2 : 2 + behind_aes[1]]


@pytest.mark.spec("ID-37")
def test_an_encrypted_key_has_a_salt_and_an_iv_of_its_own_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "PBKDF2_ROUNDS_MIN", 65_536)
    found = [encryption(crypto.private_key_pem(key_of(2048), b"p")) for _ in range(3)]
    assert {(len(salt), len(iv)) for salt, iv in found} == {(16, 16)}
    assert len({part for pair in found for part in pair}) == 6


def encrypted_elsewhere(
    passphrase: bytes = b"open sesame", rounds: int = 1, salt: bytes = bytes(16), key_length: bool = False
) -> bytes:
    """The key as a second implementation encrypts it."""
    how = pkcs8.Encryption(passphrase=passphrase, salt=salt, iv=bytes(16), rounds=rounds, key_length=key_length)
    return pkcs8.pem(pkcs8.ENCRYPTED, pkcs8.encrypted_info(pkcs8.info_of(key_of(2048)), how)).encode()


def opens(pem: bytes, passphrase: bytes = b"open sesame") -> bool:
    found, key = crypto.load_private_key_pem(pem, passphrase).private_numbers(), key_of(2048).private_numbers()
    return (found.p, found.q) == (key.p, key.q)


@pytest.mark.spec("ID-38")
@pytest.mark.parametrize("rounds", [1, 2, 127, 128, 1000, 2048, 65_536, 599_999, 600_000, 600_001, 1_000_000])
def test_a_key_is_read_whatever_its_rounds(rounds: int) -> None:
    assert opens(encrypted_elsewhere(rounds=rounds))


@pytest.mark.spec("ID-39")
@pytest.mark.parametrize("key_length", [False, True])
@pytest.mark.parametrize("salt", [1, 2, 7, 8, 15, 17, 20, 64, 127, 128, 255, 256, 1000])
def test_a_key_is_read_whatever_the_length_of_its_salt_and_with_a_keylength_or_none(
    salt: int, key_length: bool
) -> None:
    assert opens(encrypted_elsewhere(salt=bytes(range(salt % 251)) + bytes(salt - salt % 251), key_length=key_length))


@pytest.mark.spec("ID-36")
def test_the_password_is_the_passphrase_as_it_is() -> None:
    composed, decomposed = "p\u00e4ss w\u00f6rd ".encode(), "pa\u0308ss wo\u0308rd ".encode()
    for passphrase, another in ((composed, decomposed), (decomposed, composed), (b"x" * 200, b"x" * 199)):
        assert opens(encrypted_elsewhere(passphrase), passphrase)
        assert opens(crypto.private_key_pem(key_of(2048), passphrase), passphrase)
        for wrong in (another, passphrase + b"\n", passphrase[:-1]):
            with pytest.raises(PassphraseNeeded):
                crypto.load_private_key_pem(encrypted_elsewhere(passphrase), wrong)
