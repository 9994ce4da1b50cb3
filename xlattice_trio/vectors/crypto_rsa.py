"""RSA: public keys in their one encoding, OAEP, PSS, and everything that is not quite that. Spec 2.2, 2.3."""

import hashlib
import itertools
from collections.abc import Callable, Iterator

from xlattice_trio import crypto
from xlattice_trio.testing import forge
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.crypto_case import LABELS, case, flipped, labels_for, refused
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Case, FailLayer, Json

# ---- cases: public keys ------------------------------------------------------


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


_RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d010101")
_RSA_PSS = bytes.fromhex("06092a864886f70d01010a")
_EC = bytes.fromhex("06072a8648ce3d0201")
_NULL = b"\5\0"


def _integer(number: int) -> bytes:
    """INTEGER, positive."""
    return _der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _spki(body: bytes, algorithm: bytes = _RSA_ENCRYPTION + _NULL, unused: int = 0) -> bytes:
    """SubjectPublicKeyInfo of an encoded RSAPublicKey."""
    return _der(0x30, _der(0x30, algorithm) + _der(3, bytes([unused]) + body))


def _rsa_public(n: int, e: int = 65537) -> bytes:
    return _der(0x30, _integer(n) + _integer(e))


def public_key_cases(fixtures: Fixtures) -> Iterator[Case]:
    keys = {2048: "alpha-sk", 3072: "alpha-3072-sk", 4096: "alpha-4096-sk"}
    for bits, key_name in keys.items():
        n = crypto.rsa_modulus(fixtures.keys[key_name].public_key())
        top = 1 << (bits - 1)
        for what, number, comment in (
            ("key", n, f"A key of {bits} bits."),
            ("least", top + 1, "The least n that the rules allow. That it is no good key is no reason to refuse it."),
            ("most", (top << 1) - 1, "The greatest n that the rules allow; 3 divides it."),
        ):
            expected = {"bits": bits, "modulus": number.to_bytes(bits // 8, "big").hex()}
            given = {"spki": _spki(_rsa_public(number)).hex()}
            yield case(f"public-key/{bits}/{what}", "public_key", ("ID-9", "ID-10", "ID-1"), comment, given, expected)
        for what, number, change in (
            ("even", n - 1, "n is even"),
            ("one-bit-less", top - 1, f"n has {bits - 1} bits"),
            ("one-bit-more", (top << 1) + 1, f"n has {bits + 1} bits"),
        ):
            yield _bad_public_key(f"{bits}/{what}", bits, change, _spki(_rsa_public(number)))

    n = crypto.rsa_modulus(fixtures.keys["alpha-sk"].public_key())
    good = _spki(_rsa_public(n))
    raw = n.to_bytes(256, "big")
    key = _rsa_public(n)
    for what, changed, change in (
        ("e-3", _spki(_rsa_public(n, 3)), "e is 3"),
        ("e-65539", _spki(_rsa_public(n, 65539)), "e is 65539"),
        ("e-1", _spki(_rsa_public(n, 1)), "e is 1"),
        ("e-leading-zero", _spki(_der(0x30, _integer(n) + bytes.fromhex("020400010001"))), "e has a leading zero"),
        ("n-leading-zero", _spki(_der(0x30, _der(2, b"\0\0" + raw) + _integer(65537))), "n has a further leading zero"),
        ("n-negative", _spki(_der(0x30, _der(2, raw) + _integer(65537))), "n has no leading zero, so it is negative"),
        ("n-1024", _spki(_rsa_public(n >> 1024 | 1)), "n has 1024 bits"),
        ("n-2056", _spki(_rsa_public(n << 8 | 1)), "n has 2056 bits"),
        ("n-zero-top", _spki(_der(0x30, _der(2, b"\0\0" + raw[1:]) + _integer(65537))), "the first byte of n is zero"),
        ("n-7f", _spki(_der(0x30, _der(2, b"\0\x7f" + raw[1:]) + _integer(65537))), "the first byte of n is 7f"),
        ("no-parameters", _spki(key, _RSA_ENCRYPTION), "the algorithm has no parameters"),
        ("pss", _spki(key, _RSA_PSS), "the algorithm is id-RSASSA-PSS"),
        ("pss-null", _spki(key, _RSA_PSS + _NULL), "the algorithm is id-RSASSA-PSS, with NULL"),
        (
            "oid-last-byte",
            good.replace(_RSA_ENCRYPTION, _RSA_ENCRYPTION[:-1] + b"\7"),
            "the algorithm is id-RSAES-OAEP",
        ),
        ("ec", _spki(key, _EC + _NULL), "the algorithm is that of elliptic curves"),
        ("unused-bits", _spki(key, unused=1), "the bit string has an unused bit"),
        ("long-length", b"\x30\x83" + b"\0" + good[2:], "the outer length has three bytes"),
        ("indefinite", b"\x30\x80" + good[4:] + b"\0\0", "the outer length is indefinite"),
        ("null-long-length", _spki(key, _RSA_ENCRYPTION + b"\5\x81\0"), "the length of NULL is in the long form"),
        ("trailing", good + b"\0", "one byte more follows"),
        ("trailing-inside", _der(0x30, good[4:] + _NULL), "NULL follows inside the outer sequence"),
        ("short", good[:-1], "the last byte is missing"),
        ("empty", b"", "there are no bytes"),
        ("pkcs-1", key, "it is an RSAPublicKey alone, as PKCS#1 has it"),
        ("swapped", _spki(_der(0x30, _integer(65537) + _integer(n))), "n and e have changed places"),
        ("tag-set", b"\x31" + good[1:], "the outer tag is that of a set"),
        ("pem", b"-----BEGIN PUBLIC KEY-----", "it is the first line of a PEM file"),
    ):
        yield _bad_public_key(f"2048/{what}", 2048, change, changed)


def _bad_public_key(what: str, bits: int, change: str, spki: bytes) -> Case:
    base = f"public-key/{bits}/key"
    return refused(f"public-key/{what}", "public_key", FailLayer.DECODE, "ID-9", base, change, {"spki": spki.hex()})


# ---- cases: OAEP -------------------------------------------------------------


def oaep_cases(fixtures: Fixtures) -> Iterator[Case]:
    requirements = ("ID-16", "ID-17")
    for bits, key_name in {2048: "alpha-ck", 3072: "alpha-3072-ck", 4096: "alpha-4096-ck"}.items():
        given = _oaep_input(key_name, f"{bits}")
        yield case(f"oaep/{bits}", "oaep", requirements, f"A ck of {bits} bits.", given)
    given = {"key": "alpha-ck", "seed": bytes(32).hex(), "plaintext": bytes(32).hex()}
    yield case("oaep/zeros", "oaep", requirements, "Seed and plaintext are zeros.", given)
    given = {"key": "alpha-ck", "seed": "ff" * 32, "plaintext": "ff" * 32}
    yield case("oaep/ones", "oaep", requirements, "Seed and plaintext are bytes ff.", given)
    given, short = _oaep_with(fixtures, lambda ciphertext, _: ciphertext[0] == 0)
    comment = "The first byte of the ciphertext is zero, and is sent."
    yield case("oaep/leading-zero", "oaep", requirements, comment, given)
    wrapping, small = _oaep_with(fixtures, lambda ciphertext, n: int.from_bytes(ciphertext, "big") + n < 1 << 2048)
    yield case("oaep/small", "oaep", requirements, "A ciphertext which, with n added, still has 256 bytes.", wrapping)
    yield from _oaep_refused(fixtures, short, small)


def _oaep_input(key_name: str, what: str) -> Json:
    return {
        "key": key_name,
        "seed": drawn(f"crypto/oaep/seed/{what}", 32).hex(),
        "plaintext": drawn(f"crypto/oaep/plaintext/{what}", 32).hex(),
    }


def _oaep_with(fixtures: Fixtures, fits: Callable[[bytes, int], bool]) -> tuple[Json, bytes]:
    """An encryption for alpha whose ciphertext is of some kind."""
    key = fixtures.keys["alpha-ck"].public_key()
    for i in itertools.count():
        given = _oaep_input("alpha-ck", f"search {i}")
        seed, plaintext = bytes.fromhex(given["seed"]), bytes.fromhex(given["plaintext"])
        ciphertext = deterministic.oaep_encrypt(key, plaintext, seed)
        if fits(ciphertext, crypto.rsa_modulus(key)):
            return given, ciphertext
    raise AssertionError


def _oaep_refused(fixtures: Fixtures, short: bytes, small: bytes) -> Iterator[Case]:
    key = fixtures.keys["alpha-ck"].public_key()
    n = crypto.rsa_modulus(key)
    plaintext, seed = drawn("crypto/oaep/plaintext/2048", 32), drawn("crypto/oaep/seed/2048", 32)
    good = deterministic.oaep_encrypt(key, plaintext, seed)
    block = deterministic.eme_oaep(plaintext, seed, b"", 256)
    other = fixtures.keys["beta-ck"].public_key()

    def raised(changed: bytes) -> bytes:
        return deterministic.rsa_public(key, changed)

    def masked(data_block: bytes) -> bytes:
        """Encrypts a data block of any content, masked as it has to be."""
        hidden = _xor(data_block, _mgf1(seed, len(data_block)))
        return raised(b"\0" + _xor(seed, _mgf1(hidden, 32)) + hidden)

    def encrypt(message: bytes, label: bytes = b"") -> bytes:
        return deterministic.oaep_encrypt(key, message, seed, label)

    empty = hashlib.sha256(b"").digest()
    zeros = bytes(256 - 2 * 32 - 2 - 32)
    assert masked(empty + zeros + b"\1" + plaintext) == good
    for what, ciphertext, base, change in (
        (
            "not-below-n",
            (int.from_bytes(small, "big") + n).to_bytes(256, "big"),
            "small",
            "n is added to the ciphertext",
        ),
        ("equal-n", n.to_bytes(256, "big"), "2048", "the ciphertext is n"),
        ("ciphertext-ones", b"\xff" * 256, "2048", "every bit of the ciphertext is 1"),
        ("zero", bytes(256), "2048", "the ciphertext is 0"),
        ("one", bytes(255) + b"\1", "2048", "the ciphertext is 1"),
        ("plaintext-31", encrypt(plaintext[:31]), "2048", "the plaintext has 31 bytes"),
        ("plaintext-33", encrypt(plaintext + b"\0"), "2048", "the plaintext has 33 bytes"),
        ("plaintext-empty", encrypt(b""), "2048", "the plaintext has no bytes"),
        ("plaintext-most", encrypt(bytes(190)), "2048", "the plaintext has 190 bytes, as many as there is room for"),
        ("label", encrypt(plaintext, b"xlattice2"), "2048", "the label of OAEP is not empty"),
        ("first-byte", raised(b"\1" + block[1:]), "2048", "the first byte of the padded block is 1"),
        (
            "no-separator",
            masked(empty + zeros + b"\0" + plaintext[:0] + bytes(32)),
            "2048",
            "there is no 01 before the plaintext",
        ),
        ("separator-02", masked(empty + zeros + b"\2" + plaintext), "2048", "a 02 stands before the plaintext"),
        ("padding-bit", masked(empty + b"\x80" + zeros[1:] + b"\1" + plaintext), "2048", "a byte of the padding is 80"),
        (
            "label-hash-bit",
            masked(flipped(empty, 31, 1) + zeros + b"\1" + plaintext),
            "2048",
            "the hash of the label is off by a bit",
        ),
        ("seed-bit", raised(flipped(block, 1, 1)), "2048", "a bit of the masked seed is turned"),
        ("block-bit", raised(flipped(block, -1, 1)), "2048", "a bit of the masked data block is turned"),
        ("ciphertext-bit", flipped(good, -1, 1), "2048", "a bit of the ciphertext is turned"),
        ("another-key", deterministic.oaep_encrypt(other, plaintext, seed), "2048", "it is encrypted for another key"),
        ("pkcs-1", raised(b"\0\2" + b"\x55" * 221 + b"\0" + plaintext), "2048", "the padding is that of PKCS#1 v1.5"),
        (
            "sha-1",
            raised(deterministic.eme_oaep(plaintext, seed[:20], b"", 256, hash_name="sha1", mgf_hash="sha1")),
            "2048",
            "both hashes are SHA-1, the default of many libraries",
        ),
        (
            "mgf1-sha-1",
            raised(deterministic.eme_oaep(plaintext, seed, b"", 256, mgf_hash="sha1")),
            "2048",
            "the hash of MGF1 is SHA-1",
        ),
        ("short", good[:-1], "2048", "the last byte is missing"),
        ("stripped", short[1:], "leading-zero", "the leading zero is left out"),
        ("longer", b"\0" + good, "2048", "a zero stands before it"),
        ("empty", b"", "2048", "there are no bytes"),
    ):
        given = {"key": "alpha-ck", "ciphertext": ciphertext.hex()}
        yield refused(f"oaep/{what}", "oaep_decrypt", FailLayer.OAEP, "ID-17", f"oaep/{base}", change, given, "ID-16")


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


def _mgf1(seed: bytes, size: int, algorithm: str = "sha256") -> bytes:
    blocks = (hashlib.new(algorithm, seed + i.to_bytes(4, "big")).digest() for i in itertools.count())
    found = b""
    while len(found) < size:
        found += next(blocks)
    return found[:size]


# ---- cases: PSS --------------------------------------------------------------

_CONTENT = b"what is signed"


def pss_cases(fixtures: Fixtures) -> Iterator[Case]:
    requirements = ("ID-12", "ID-13", "ID-14", "ID-15")
    for bits, key_name in {2048: "alpha-sk", 3072: "alpha-3072-sk", 4096: "alpha-4096-sk"}.items():
        given = _pss_input(key_name, "node-card", _CONTENT, f"{bits}")
        yield case(f"pss/{bits}", "pss", requirements, f"A key of {bits} bits.", given)
    for label in labels_for("signed"):
        if label != "node-card":
            given = _pss_input("alpha-sk", label, _CONTENT, label)
            yield case(f"pss/{label}", "pss", requirements, f"Under the label {label}.", given)
    for what, content, comment in (
        ("empty-content", b"", "The content is empty."),
        ("long-content", drawn("crypto/pss/content", 5000), "A content of 5,000 bytes: PSS hashes it once."),
    ):
        yield case(f"pss/{what}", "pss", requirements, comment, _pss_input("alpha-sk", "roster", content, what))
    for what, salt in (("zero-salt", bytes(32)), ("ones-salt", b"\xff" * 32)):
        given = _pss_input("alpha-sk", "node-card", _CONTENT, what) | {"salt": salt.hex()}
        yield case(f"pss/{what}", "pss", requirements, "A salt that does not look random.", given)
    leading = _pss_with(fixtures, lambda signature, _: signature[0] == 0)
    comment = "The first byte of the signature is zero, and is sent."
    yield case("pss/leading-zero", "pss", requirements, comment, leading)
    wrapping = _pss_with(fixtures, lambda signature, n: int.from_bytes(signature, "big") + n < 1 << 2048)
    yield case("pss/small", "pss", requirements, "A signature which, with n added, still has 256 bytes.", wrapping)
    yield from _pss_refused(fixtures, _signature(fixtures, leading), _signature(fixtures, wrapping))


def _pss_input(key_name: str, label: str, content: bytes, what: str) -> Json:
    salt = drawn(f"crypto/pss/salt/{what}", 32)
    return {"key": key_name, "label": label, "content": content.hex(), "salt": salt.hex()}


def _signature(fixtures: Fixtures, given: Json) -> bytes:
    content, salt = bytes.fromhex(given["content"]), bytes.fromhex(given["salt"])
    return deterministic.pss_sign(fixtures.keys[given["key"]], LABELS[given["label"]], content, salt)


def _pss_with(fixtures: Fixtures, fits: Callable[[bytes, int], bool]) -> Json:
    """A signature of alpha's that is of some kind."""
    n = crypto.rsa_modulus(fixtures.keys["alpha-sk"].public_key())
    for i in itertools.count():
        given = _pss_input("alpha-sk", "node-card", _CONTENT, f"search {i}")
        if fits(_signature(fixtures, given), n):
            return given
    raise AssertionError


def _pss_refused(fixtures: Fixtures, leading: bytes, small: bytes) -> Iterator[Case]:
    key = fixtures.keys["alpha-sk"]
    n = crypto.rsa_modulus(key.public_key())
    salt = drawn("crypto/pss/salt/2048", 32)
    message = forge.label("node-card") + b"\0" + _CONTENT
    hashed = hashlib.sha256(message).digest()
    block = deterministic.emsa_pss(message, salt, 256)
    good = deterministic.rsa_private(key, block)
    assert good == _signature(fixtures, _pss_input("alpha-sk", "node-card", _CONTENT, "2048"))

    def sign(what: bytes, with_salt: bytes = salt) -> bytes:
        return deterministic.pss_sign_message(key, what, with_salt)

    def raised(changed: bytes) -> bytes:
        return deterministic.rsa_private(key, changed)

    long_salt = drawn("crypto/pss/salt/long", 222)
    v15 = bytes.fromhex("3031300d060960864801650304020105000420") + hashed
    for what, signature, by, base, change in (
        (
            "not-below-n",
            (int.from_bytes(small, "big") + n).to_bytes(256, "big"),
            "ID-14",
            "small",
            "n is added to the signature",
        ),
        ("ones", b"\xff" * 256, "ID-14", "2048", "every bit of the signature is 1"),
        ("equal-n", n.to_bytes(256, "big"), "ID-14", "2048", "the signature is n"),
        ("short", good[:-1], "ID-13", "2048", "the last byte is missing"),
        ("stripped", leading[1:], "ID-13", "leading-zero", "the leading zero is left out"),
        ("longer", b"\0" + good, "ID-13", "2048", "a zero stands before it"),
        ("trailing", good + b"\0", "ID-13", "2048", "a zero stands behind it"),
        ("empty", b"", "ID-13", "2048", "there are no bytes"),
        ("salt-31", sign(message, salt[:31]), "ID-15", "2048", "the salt has 31 bytes"),
        ("salt-33", sign(message, salt + b"\0"), "ID-15", "2048", "the salt has 33 bytes"),
        ("salt-0", sign(message, b""), "ID-15", "2048", "there is no salt"),
        ("salt-20", sign(message, salt[:20]), "ID-15", "2048", "the salt has 20 bytes, the default of many libraries"),
        (
            "salt-222",
            sign(message, long_salt),
            "ID-15",
            "2048",
            "the salt has 222 bytes, the most that there is room for",
        ),
        (
            "another-label",
            sign(forge.label("roster") + b"\0" + _CONTENT),
            "ID-12",
            "2048",
            "it was signed under the label roster",
        ),
        ("no-label", sign(_CONTENT), "ID-12", "2048", "the content was signed without a label"),
        ("no-zero", sign(forge.label("node-card") + _CONTENT), "ID-12", "2048", "the 00 behind the label is missing"),
        ("name-only", sign(b"node-card\0" + _CONTENT), "ID-12", "2048", "the label lacks its first ten bytes"),
        ("hash-signed", sign(hashed), "ID-12", "2048", "a hash of the message was signed, so it was hashed twice"),
        (
            "content-hashed",
            sign(forge.label("node-card") + b"\0" + hashlib.sha256(_CONTENT).digest()),
            "ID-12",
            "2048",
            "a hash of the content was signed",
        ),
        ("another-content", sign(message + b"\0"), "ID-12", "2048", "a content that is one byte longer was signed"),
        ("sha-1", raised(_emsa(message, salt, "sha1")), "ID-12", "2048", "both hashes are SHA-1"),
        ("sha-512", raised(_emsa(message, salt, "sha512")), "ID-12", "2048", "both hashes are SHA-512"),
        (
            "mgf1-sha-1",
            raised(deterministic.emsa_pss(message, salt, 256, mgf_hash="sha1")),
            "ID-12",
            "2048",
            "the hash of MGF1 is SHA-1",
        ),
        ("trailer", raised(block[:-1] + b"\xcc"), "ID-12", "2048", "the trailer is cc"),
        (
            "separator",
            raised(_emsa(message, salt, "sha256", separator=b"\2")),
            "ID-12",
            "2048",
            "a 02 stands before the salt",
        ),
        (
            "padding-bit",
            raised(_emsa(message, salt, "sha256", first=1)),
            "ID-12",
            "2048",
            "the padding has a bit that is 1",
        ),
        (
            "pkcs-1",
            raised(b"\0\1" + b"\xff" * (253 - len(v15)) + b"\0" + v15),
            "ID-12",
            "2048",
            "it is a signature of PKCS#1 v1.5",
        ),
        (
            "another-key",
            _foreign_signature(fixtures.keys["beta-sk"], message, n),
            "ID-12",
            "2048",
            "another key signed",
        ),
        ("signature-bit", flipped(good, -1, 1), "ID-12", "2048", "a bit of the signature is turned"),
        ("zero", bytes(256), "ID-12", "2048", "the signature is 0"),
        ("one", bytes(255) + b"\1", "ID-12", "2048", "the signature is 1"),
        ("not-raised", block, "ID-12", "2048", "it is the padded block, without the RSA operation"),
    ):
        given = {"key": "alpha-sk", "label": "node-card", "content": _CONTENT.hex(), "signature": signature.hex()}
        yield refused(f"pss/{what}", "pss_verify", FailLayer.SIGNATURE, by, f"pss/{base}", change, given, "ID-12")
    given = {"key": "alpha-3072-sk", "label": "node-card", "content": _CONTENT.hex(), "signature": good.hex()}
    change = "a signature of 256 bytes where the key's have 384"
    yield refused("pss/256-for-384", "pss_verify", FailLayer.SIGNATURE, "ID-13", "pss/3072", change, given)


def _foreign_signature(key: crypto.RSAPrivateKey, message: bytes, below: int) -> bytes:
    """A signature by a key that is not the verifier's, below the verifier's modulus: [ID-14] has nothing against it."""
    for i in itertools.count():
        signature = deterministic.pss_sign_message(key, message, drawn(f"crypto/pss/another-key/{i}", 32))
        if int.from_bytes(signature, "big") < below:
            return signature
    raise AssertionError


def _emsa(message: bytes, salt: bytes, algorithm: str, *, separator: bytes = b"\1", first: int = 0) -> bytes:
    """EMSA-PSS with another hash, or something wrong before the salt."""
    digest = hashlib.new(algorithm, bytes(8) + hashlib.new(algorithm, message).digest() + salt).digest()
    zeros = bytearray(256 - len(salt) - len(digest) - 2)
    zeros[10] = first
    block = bytes(zeros) + separator + salt
    masked = _xor(block, _mgf1(digest, len(block), algorithm))
    return bytes([masked[0] & 0x7F]) + masked[1:] + digest + b"\xbc"
