"""Private keys as PEM, with every choice made by the caller: salt, iv, rounds, and what may be left out.

Written from RFC 5958 and RFC 8018, with AES of its own, so that the reader that it is for shares nothing with it. It is
slow, and for keys that everybody knows.
"""

import base64
import hashlib
import textwrap
from collections.abc import Sequence

import attrs

from xlattice_trio.crypto import RSAPrivateKey

PLAIN = "PRIVATE KEY"
ENCRYPTED = "ENCRYPTED PRIVATE KEY"

_NULL = b"\5\0"
_RSA_ENCRYPTION = bytes.fromhex("06092a864886f70d010101")
_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_PBKDF2 = bytes.fromhex("06092a864886f70d01050c")
_HMAC_SHA256 = bytes.fromhex("06082a864886f70d0209")
_AES256_CBC = bytes.fromhex("060960864801650304012a")


def pem(label: str, der: bytes) -> str:
    lines = textwrap.wrap(base64.b64encode(der).decode("ascii"), 64)
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""])


def der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def sequence(*parts: bytes) -> bytes:
    return der(0x30, b"".join(parts))


def integer(number: int) -> bytes:
    return der(2, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def rsa_private_key(p: int, q: int, e: int = 65537) -> bytes:
    """PKCS#1's RSAPrivateKey."""
    d = pow(e, -1, (p - 1) * (q - 1))
    numbers = (0, p * q, e, d, p, q, d % (p - 1), d % (q - 1), pow(q, -1, p))
    return sequence(*map(integer, numbers))


def private_key_info(inner: bytes, algorithm: bytes = _RSA_ENCRYPTION + _NULL) -> bytes:
    """PKCS#8's PrivateKeyInfo."""
    return sequence(integer(0), sequence(algorithm), der(4, inner))


def info_of(key: RSAPrivateKey) -> bytes:
    numbers = key.private_numbers()
    return private_key_info(rsa_private_key(numbers.p, numbers.q))


@attrs.frozen(kw_only=True)
class Encryption:
    """PBES2 with PBKDF2-HMAC-SHA-256 and AES-256-CBC."""

    passphrase: bytes
    salt: bytes
    iv: bytes
    rounds: int
    key_length: bool = False  # whether PBKDF2's parameters have keyLength


def encrypted_info(info: bytes, how: Encryption) -> bytes:
    """PKCS#8's EncryptedPrivateKeyInfo."""
    key = hashlib.pbkdf2_hmac("sha256", how.passphrase, how.salt, how.rounds, 32)
    padding = 16 - len(info) % 16
    length = integer(32) if how.key_length else b""
    parameters = sequence(der(4, how.salt), integer(how.rounds), length, sequence(_HMAC_SHA256, _NULL))
    scheme = sequence(sequence(_PBKDF2, parameters), sequence(_AES256_CBC, der(4, how.iv)))
    return sequence(sequence(_PBES2, scheme), der(4, cbc(key, how.iv, info + bytes([padding]) * padding)))


# ---- AES-256 in CBC (FIPS 197) -----------------------------------------------


def _times_2(a: int) -> int:
    return a << 1 ^ (0x11B if a & 0x80 else 0)


def _s_box() -> list[int]:
    """From the powers of 3 and their inverses."""
    powers = [1]
    for _ in range(254):
        powers.append(powers[-1] ^ _times_2(powers[-1]))
    inverse = {power: powers[-i % 255] for i, power in enumerate(powers)} | {0: 0}
    found = []
    for a in range(256):
        b = inverse[a]
        turned = [(b << i | b >> (8 - i)) & 0xFF for i in range(5)]
        found.append(turned[0] ^ turned[1] ^ turned[2] ^ turned[3] ^ turned[4] ^ 0x63)
    return found


_S = _s_box()


def _round_keys(key: bytes) -> list[bytes]:
    words = [key[i : i + 4] for i in range(0, 32, 4)]
    constant = 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = bytes(_S[b] for b in word[1:] + word[:1])
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = _times_2(constant)
        elif i % 8 == 4:
            word = bytes(_S[b] for b in word)
        words.append(_xor(words[-8], word))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


def _encrypt_block(keys: Sequence[bytes], block: bytes) -> bytes:
    state = _xor(block, keys[0])
    for key in keys[1:]:
        state = bytes(_S[state[(5 * i) % 16]] for i in range(16))  # SubBytes, ShiftRows
        if key is not keys[-1]:
            state = b"".join(_mix(state[i : i + 4]) for i in range(0, 16, 4))
        state = _xor(state, key)
    return state


def _mix(column: bytes) -> bytes:
    every = column[0] ^ column[1] ^ column[2] ^ column[3]
    return bytes(column[i] ^ every ^ _times_2(column[i] ^ column[(i + 1) % 4]) for i in range(4))


def cbc(key: bytes, iv: bytes, plaintext: bytes) -> bytes:
    """The ciphertext of whole blocks."""
    keys, blocks = _round_keys(key), [iv]
    for i in range(0, len(plaintext), 16):
        blocks.append(_encrypt_block(keys, _xor(plaintext[i : i + 16], blocks[-1])))
    return b"".join(blocks[1:])


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))
