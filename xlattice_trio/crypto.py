"""Everything cryptographic, behind a few functions: the one module that imports `cryptography`.

The labels are a closed table, and no hash, signature or derivation is made without one. RSA public keys are read by
ourselves: a library accepts more and less than the one encoding that the protocol allows, and nodes must not disagree
about a roster. What does not verify raises, and no argument or setting turns that off [SC-2]. Private operations are
OpenSSL's, which takes care that their time does not depend on secrets [SC-1]. Nothing here knows a message or a state.
Spec 1.4 to 1.7, 2.1 to 2.3, 2.6.
"""

import base64
import enum
import hashlib
import hmac
import os
import re
import textwrap
from collections.abc import Callable

import attrs
from cryptography.exceptions import InvalidSignature, InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives import padding as block_padding
from cryptography.hazmat.primitives.asymmetric import mlkem, padding, rsa
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from xlattice_trio.errors import IdentityError, UsageError
from xlattice_trio.limits import IV_SIZE, PBKDF2_ROUNDS_MIN, PSS_SALT_SIZE

RSAPrivateKey = rsa.RSAPrivateKey
RSAPublicKey = rsa.RSAPublicKey
X25519Key = X25519PrivateKey
MLKEMKey = mlkem.MLKEM768PrivateKey
MLKEMPublicKey = mlkem.MLKEM768PublicKey
AEADKey = AESGCM

RSA_BITS = (2048, 3072, 4096)  # [ID-1]

# Where random bytes come from: the name of the draw (key1, salt, key2, ...) and its size in bytes.
Draw = Callable[[str, int], bytes]


def system_draw(_name: str, size: int) -> bytes:
    """Random bytes from the operating system, whatever they are for. [NO-28]"""
    return os.urandom(size)


# ---- labels (Spec 1.4) -------------------------------------------------------

_LABEL_PREFIX = b"xlattice2 "


class Label(enum.Enum):
    """Every label there is, and what is done with it: signed, hashed, or expanded (HKDF). [NO-24]"""

    HELLO_SIGNATURE = ("hello-signature", "signed")
    NODE_CARD = ("node-card", "signed")
    ROSTER = ("roster", "signed")
    CLUSTER_CARD = ("cluster-card", "signed")

    NODE_ID = ("node-id", "hashed")
    CLUSTER_ID = ("cluster-id", "hashed")
    HELLO_MAC = ("hello-mac", "hashed")
    HELLO_DIGEST = ("hello-digest", "hashed")
    REPLY_SALT = ("reply-salt", "hashed")
    TRANSCRIPT = ("transcript", "hashed")
    ROSTER_DIGEST = ("roster-digest", "hashed")

    HELLO = ("hello", "expanded")
    HELLO_REPLY = ("hello-reply", "expanded")
    I2R = ("i2r", "expanded")
    R2I = ("r2i", "expanded")
    EXPORTER = ("exporter", "expanded")
    KEY = ("key", "expanded")
    IV = ("iv", "expanded")
    REKEY = ("rekey", "expanded")

    def __init__(self, spelling: str, use: str) -> None:
        self.spelling = spelling
        self.use = use
        self.bytes = _LABEL_PREFIX + spelling.encode("ascii")

    def before(self, content: bytes) -> bytes:
        """label, 0x00, content: what is signed or hashed. [NO-23]"""
        return self.bytes + b"\0" + content


# ---- hash, mac, derivation ---------------------------------------------------


def digest(label: Label, *content: bytes | memoryview) -> bytes:
    """H(label, content): 32 bytes. The pieces of content are hashed as one. [NO-25]"""
    state = hashlib.sha256(label.before(b""))
    for piece in content:
        state.update(piece)
    return state.digest()


def hmac_sha256(key: bytes, content: bytes | memoryview) -> bytes:
    """HMAC-SHA-256, 32 bytes."""
    return hmac.digest(key, content, "sha256")


def equal(a: bytes, b: bytes) -> bool:
    """Whether two byte strings are the same, in a time that depends on their lengths only. [NO-29]"""
    return hmac.compare_digest(a, b)


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract with SHA-256: 32 bytes. An empty salt is 32 zero bytes. [NO-25]"""
    return HKDF.extract(hashes.SHA256(), salt, ikm)


def hkdf_expand(prk: bytes, label: Label, size: int) -> bytes:
    """Expand(prk, label, size): HKDF-Expand with SHA-256, the label alone as info. [NO-23] [NO-25]"""
    return HKDFExpand(hashes.SHA256(), size, label.bytes).derive(prk)


# ---- AES-256-GCM -------------------------------------------------------------

ZERO_NONCE = bytes(IV_SIZE)


class NotOpened(Exception):
    """A ciphertext does not open. Callers turn it into the error of their layer."""


def aead_key(key: bytes) -> AEADKey:
    """A 32-byte key, ready for use with the functions below."""
    return AESGCM(key)


def seal(key: AEADKey, nonce: bytes, aad: bytes, plaintext: bytes | bytearray) -> bytes:
    """Ciphertext and its 16-byte tag. `nonce` is 12 bytes, used with this key once. [NO-26]"""
    return key.encrypt(nonce, plaintext, aad)


def seal_into(key: AEADKey, nonce: bytes, aad: bytes, plaintext: bytearray, out: memoryview) -> None:
    """As `seal`, into `out`, which is 16 bytes longer than `plaintext`."""
    key.encrypt_into(nonce, plaintext, aad, out)


def open_sealed(key: AEADKey, nonce: bytes, aad: bytes, ciphertext: bytes | memoryview) -> bytes:
    """The plaintext. Raises NotOpened. [NO-27]"""
    try:
        return key.decrypt(nonce, ciphertext, aad)
    except InvalidTag:
        raise NotOpened from None


def open_into(key: AEADKey, nonce: bytes, aad: bytes, ciphertext: memoryview, out: bytearray) -> None:
    """As `open_sealed`, into `out`, which is 16 bytes shorter than `ciphertext`. Raises NotOpened."""
    try:
        key.decrypt_into(nonce, ciphertext, aad, out)
    except InvalidTag:
        raise NotOpened from None


# ---- key agreement -----------------------------------------------------------


class NoSecret(Exception):
    """A key share gives no secret: all zero, or not a key. Callers turn it into the error of their layer."""


def x25519_key(seed: bytes) -> X25519Key:
    """The private key of 32 random bytes."""
    return X25519PrivateKey.from_private_bytes(seed)


def x25519_share(key: X25519Key) -> bytes:
    """The 32 bytes that the other side gets."""
    return key.public_key().public_bytes_raw()


def x25519_secret(key: X25519Key, share: bytes) -> bytes:
    """The shared secret, 32 bytes. Raises NoSecret if it would be all zero. [HS-7] [HS-8]"""
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        raise NoSecret from None


def mlkem_key(seed: bytes) -> MLKEMKey:
    """The ML-KEM-768 private key of a 64-byte seed (d, z)."""
    return mlkem.MLKEM768PrivateKey.from_seed_bytes(seed)


def mlkem_ek(key: MLKEMKey) -> bytes:
    """The encapsulation key, 1,184 bytes."""
    return key.public_key().public_bytes_raw()


def mlkem_public(ek: bytes) -> MLKEMPublicKey:
    """The public key of an encapsulation key of 1,184 bytes.

    Raises NoSecret if `ek` fails the check of FIPS 203, section 7.2. [HS-30]
    """
    try:
        return mlkem.MLKEM768PublicKey.from_public_bytes(ek)
    except ValueError:
        raise NoSecret from None


def mlkem_encapsulate(key: MLKEMPublicKey) -> tuple[bytes, bytes]:
    """A shared secret (32 bytes) and the ciphertext (1,088 bytes) that carries it. [HS-9]"""
    return key.encapsulate()


def mlkem_decapsulate(key: MLKEMKey, ciphertext: bytes) -> bytes:
    """The shared secret, 32 bytes; for a ciphertext that is not for this key, pseudorandom ones. [HS-9]"""
    return key.decapsulate(ciphertext)


# ---- RSA ---------------------------------------------------------------------

_PSS = padding.PSS(padding.MGF1(hashes.SHA256()), PSS_SALT_SIZE)
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

# The DER of a SubjectPublicKeyInfo for (n, 65537) is a prefix that depends on the size of n alone, n, and a suffix.
_SPKI_PREFIX = {
    256: bytes.fromhex("30820122300d06092a864886f70d01010105000382010f003082010a0282010100"),
    384: bytes.fromhex("308201a2300d06092a864886f70d01010105000382018f003082018a0282018100"),
    512: bytes.fromhex("30820222300d06092a864886f70d01010105000382020f003082020a0282020100"),
}
_SPKI_SUFFIX = bytes.fromhex("0203010001")
_SPKI_SIZES = {len(prefix) + size + len(_SPKI_SUFFIX): size for size, prefix in _SPKI_PREFIX.items()}


def rsa_generate(bits: int) -> RSAPrivateKey:
    """A new key of 2048, 3072 or 4096 bits; takes from a tenth of a second to several. Raises UsageError."""
    if bits not in RSA_BITS:
        raise UsageError(f"an RSA key of {bits} bits: 2048, 3072 or 4096 expected")
    return rsa.generate_private_key(65537, bits)


def rsa_of_primes(p: int, q: int) -> RSAPrivateKey:
    """The key with the primes p and q, taken on trust: for keys that are kept as numbers, as in tests and vectors."""
    d = rsa.rsa_recover_private_exponent(65537, p, q)
    numbers = rsa.RSAPrivateNumbers(
        p,
        q,
        d,
        rsa.rsa_crt_dmp1(d, p),
        rsa.rsa_crt_dmq1(d, q),
        rsa.rsa_crt_iqmp(p, q),
        rsa.RSAPublicNumbers(65537, p * q),
    )
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def rsa_modulus(key: RSAPublicKey) -> int:
    """n."""
    return key.public_numbers().n


def rsa_size(key: RSAPublicKey) -> int:
    """The length of the modulus, and so of a signature and an OAEP ciphertext, in bytes."""
    return key.key_size // 8


def encode_spki(key: RSAPublicKey) -> bytes:
    """The public key as DER SubjectPublicKeyInfo: the one encoding of (n, 65537). Spec 2.2.

    Raises IdentityError if the key is none of 2048, 3072 or 4096 bits with the exponent 65537.
    """
    numbers = key.public_numbers()
    if key.key_size not in RSA_BITS or numbers.e != 65537:
        raise IdentityError(
            f"an RSA key of {key.key_size} bits with the exponent {numbers.e}: "
            "2048, 3072 or 4096 bits and the exponent 65537 expected"
        )
    size = rsa_size(key)
    return _SPKI_PREFIX[size] + numbers.n.to_bytes(size, "big") + _SPKI_SUFFIX


def decode_spki(der: bytes) -> RSAPublicKey:
    """The public key of a DER SubjectPublicKeyInfo. [ID-9] [ID-10]

    Raises IdentityError if `der` is not the one encoding of (n, 65537) with n odd and of 2048, 3072 or 4096 bits.
    """
    size = _SPKI_SIZES.get(len(der))
    if size is None:
        raise IdentityError(
            f"a public key of {len(der)} bytes: an RSA key of 2048, 3072 or 4096 bits has "
            + ", ".join(map(str, _SPKI_SIZES))
        )
    prefix = _SPKI_PREFIX[size]
    modulus = der[len(prefix) : len(prefix) + size]
    if der != prefix + modulus + _SPKI_SUFFIX:
        raise IdentityError("a public key that is not the one DER encoding of an RSA key with exponent 65537")
    if not modulus[0] & 0x80:
        raise IdentityError(f"an RSA modulus of less than {8 * size} bits in {size} bytes")
    if not modulus[-1] & 1:
        raise IdentityError("an RSA modulus that is even")
    return rsa.RSAPublicNumbers(65537, int.from_bytes(modulus, "big")).public_key()


def pss_sign(key: RSAPrivateKey, label: Label, content: bytes) -> bytes:
    """An RSA-PSS signature over label, 0x00, content; as long as the modulus. [ID-12]"""
    return key.sign(label.before(content), _PSS, hashes.SHA256())


def pss_verify(key: RSAPublicKey, label: Label, content: bytes, signature: bytes) -> None:
    """Raises IdentityError unless `signature` is one by `key` over label, 0x00, content."""
    size = rsa_size(key)
    if len(signature) != size:  # [ID-13]
        raise IdentityError(f"a signature of {len(signature)} bytes by a key whose signatures have {size}")
    if int.from_bytes(signature, "big") >= rsa_modulus(key):  # [ID-14]
        raise IdentityError("a signature that is not below the modulus")
    try:
        key.verify(signature, label.before(content), _PSS, hashes.SHA256())  # [ID-15]
    except InvalidSignature:
        raise IdentityError(f"a {label.spelling} signature that does not verify") from None


def oaep_encrypt(key: RSAPublicKey, secret: bytes) -> bytes:
    """RSA-OAEP of `secret`; as long as the modulus. [ID-16]"""
    return key.encrypt(secret, _OAEP)


def oaep_decrypt(key: RSAPrivateKey, ciphertext: bytes, fallback: bytes) -> bytes:
    """What `ciphertext` holds if that is as long as `fallback`, and otherwise `fallback`. [ID-17] [HS-40]

    A failure looks like a success with a random key: nothing tells the two apart from here on.
    """
    try:
        secret = key.decrypt(ciphertext, _OAEP)
    except ValueError:
        return fallback
    return secret if len(secret) == len(fallback) else fallback


# ---- what draws inside the library -------------------------------------------


@attrs.frozen
class Randomised:
    """The operations whose random bytes no `Draw` gives, because the library takes them from the system itself.

    Test vectors put their own in the place of these, to get the same bytes every time.
    """

    oaep_encrypt: Callable[[RSAPublicKey, bytes], bytes] = oaep_encrypt
    pss_sign: Callable[[RSAPrivateKey, Label, bytes], bytes] = pss_sign
    mlkem_encapsulate: Callable[[MLKEMPublicKey], tuple[bytes, bytes]] = mlkem_encapsulate


SYSTEM_RANDOMISED = Randomised()


# ---- private keys as PEM (Spec 2.6) ------------------------------------------


def private_key_pem(key: RSAPrivateKey, passphrase: bytes | None) -> bytes:
    """PKCS#8 PEM; with a passphrase PBES2: PBKDF2-HMAC-SHA-256 of 600,000 rounds, AES-256-CBC. [ID-26] [ID-28]"""
    plain = serialization.NoEncryption()
    if passphrase is None:
        return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    info = key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, plain)
    der = _encrypted_key_info(info, passphrase)
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join([_PEM_ENCRYPTED, *lines, _PEM_ENCRYPTED.replace("BEGIN", "END"), ""]).encode("ascii")


def _encrypted_key_info(info: bytes, passphrase: bytes) -> bytes:
    """RFC 8018's EncryptedPrivateKeyInfo. The library writes one too, but with 2,048 rounds that nobody can change."""
    salt, iv = os.urandom(16), os.urandom(16)  # [ID-37]
    key = hashlib.pbkdf2_hmac("sha256", passphrase, salt, PBKDF2_ROUNDS_MIN, 32)
    padder = block_padding.PKCS7(128).padder()
    encryptor = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
    ciphertext = encryptor.update(padder.update(info) + padder.finalize()) + encryptor.finalize()
    rounds = PBKDF2_ROUNDS_MIN.to_bytes(3, "big")
    kdf = _sequence(_OID_PBKDF2, _sequence(_der(4, salt), _der(2, rounds), _sequence(_OID_HMAC_SHA256, _der(5, b""))))
    scheme = _sequence(_OID_AES256_CBC, _der(4, iv))
    return _sequence(_sequence(_OID_PBES2, _sequence(kdf, scheme)), _der(4, ciphertext))


_PEM_ENCRYPTED = "-----BEGIN ENCRYPTED PRIVATE KEY-----"
_OID_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_OID_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_OID_HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
_OID_AES256_CBC = bytes.fromhex("060960864801650304012a")


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    length = bytes((size,)) if size < 0x80 else b"\x82" + size.to_bytes(2, "big")
    return bytes((tag,)) + length + content


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, b"".join(parts))


# One key, and nothing before or after it. [ID-35]
_PEM = re.compile(
    rb"-----BEGIN (ENCRYPTED |)PRIVATE KEY-----\r?\n[A-Za-z0-9+/=\r\n]+-----END \1PRIVATE KEY-----(?:\r?\n)?"
)


class PassphraseNeeded(IdentityError):
    """The private key is encrypted and no passphrase was given, or a wrong one."""


def load_private_key_pem(pem: bytes, passphrase: bytes | None) -> RSAPrivateKey:
    """The RSA private key of a PKCS#8 PEM, however it is encrypted. [ID-38] [ID-39] Raises PassphraseNeeded,
    IdentityError.
    """
    found = _PEM.fullmatch(pem)
    if found is None:
        raise IdentityError("not one PKCS#8 PEM private key with nothing before and nothing after it")
    encrypted = bool(found[1])
    if encrypted and not passphrase:
        raise PassphraseNeeded("the private key is encrypted: a passphrase is needed")
    try:
        key = serialization.load_pem_private_key(pem, passphrase if encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        if encrypted:
            raise PassphraseNeeded("the passphrase is wrong, or the private key damaged") from exc
        raise IdentityError("a damaged private key") from exc
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size not in RSA_BITS:
        raise IdentityError("not an RSA private key of 2048, 3072 or 4096 bits")
    if key.public_key().public_numbers().e != 65537:
        raise IdentityError("an RSA private key whose public exponent is not 65537")
    return key
