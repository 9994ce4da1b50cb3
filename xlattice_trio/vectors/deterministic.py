"""RSA encryption, RSA signatures and ML-KEM encapsulation with random values that the caller gives.

Libraries draw these inside, which is right for everybody but a maker of test vectors. Everything here is written from
the standards and shares nothing with the library that the package uses, so that each checks the other: RFC 8017,
sections 7.1.1 and 9.1.1, and FIPS 203, algorithms 14 and 17. It is slow and leaks by timing: for keys that everybody
knows, as those of vectors and tests.
"""

import functools
import hashlib
from collections.abc import Sequence

from xlattice_trio.crypto import Draw, Label, MLKEMPublicKey, Randomised, RSAPrivateKey, RSAPublicKey

OAEP_SEED_SIZE = 32
PSS_SALT_SIZE = 32
MLKEM_M_SIZE = 32


def randomised(draw: Draw) -> Randomised:
    """The operations of `Initiator` and `Responder` with the draws oaep_seed, pss_salt and mlkem_m, 32 bytes each."""

    def encapsulate(key: MLKEMPublicKey) -> tuple[bytes, bytes]:
        return mlkem_encapsulate(key.public_bytes_raw(), draw("mlkem_m", MLKEM_M_SIZE))

    return Randomised(
        oaep_encrypt=lambda key, secret: oaep_encrypt(key, secret, draw("oaep_seed", OAEP_SEED_SIZE)),
        pss_sign=lambda key, label, content: pss_sign(key, label, content, draw("pss_salt", PSS_SALT_SIZE)),
        mlkem_encapsulate=encapsulate,
    )


# ---- RSA ---------------------------------------------------------------------


def oaep_encrypt(key: RSAPublicKey, secret: bytes, seed: bytes, label: bytes = b"") -> bytes:
    """RSAES-OAEP of `secret` with SHA-256 and MGF1 with SHA-256; as long as the modulus. `seed` is 32 bytes."""
    return rsa_public(key, eme_oaep(secret, seed, label, key.key_size // 8))


def pss_sign(key: RSAPrivateKey, label: Label, content: bytes, salt: bytes) -> bytes:
    """An RSASSA-PSS signature over label, 0x00, content; as long as the modulus. `salt` is 32 bytes."""
    return pss_sign_message(key, label.before(content), salt)


def pss_sign_message(key: RSAPrivateKey, message: bytes, salt: bytes) -> bytes:
    """An RSASSA-PSS signature over whatever message, with a salt of whatever length."""
    return rsa_private(key, emsa_pss(message, salt, key.key_size // 8))


def eme_oaep(
    secret: bytes,
    seed: bytes,
    label: bytes,
    size: int,
    *,
    hash_name: str = "sha256",
    mgf_hash: str = "sha256",
) -> bytes:
    """What RSA encrypts: RFC 8017, 7.1.1, step 2. `seed` is as long as the hash."""
    hashed = hashlib.new(hash_name, label).digest()
    block = hashed + bytes(size - len(secret) - 2 * len(hashed) - 2) + b"\1" + secret
    masked_block = _xor(block, _mgf1(seed, len(block), mgf_hash))
    return b"\0" + _xor(seed, _mgf1(masked_block, len(hashed), mgf_hash)) + masked_block


def emsa_pss(message: bytes, salt: bytes, size: int, *, mgf_hash: str = "sha256") -> bytes:
    """What RSA signs: RFC 8017, 9.1.1, for a modulus of exactly 8 * `size` bits."""
    digest = hashlib.sha256(bytes(8) + hashlib.sha256(message).digest() + salt).digest()
    block = bytes(size - len(salt) - len(digest) - 2) + b"\1" + salt
    masked = _xor(block, _mgf1(digest, len(block), mgf_hash))
    return bytes((masked[0] & 0x7F,)) + masked[1:] + digest + b"\xbc"


def rsa_public(key: RSAPublicKey, block: bytes) -> bytes:
    """`block` to the power of e, as long as the modulus."""
    numbers = key.public_numbers()
    return pow(int.from_bytes(block, "big"), numbers.e, numbers.n).to_bytes(key.key_size // 8, "big")


def rsa_private(key: RSAPrivateKey, block: bytes) -> bytes:
    """`block` to the power of d, as long as the modulus. What was computed once is remembered."""
    numbers = key.private_numbers()
    return _power(numbers.p, numbers.q, int.from_bytes(block, "big")).to_bytes(key.key_size // 8, "big")


@functools.lru_cache(maxsize=4096)
def _power(p: int, q: int, m: int) -> int:
    d = pow(65537, -1, (p - 1) * (q - 1))
    m_p, m_q = pow(m, d % (p - 1), p), pow(m, d % (q - 1), q)
    return m_q + q * ((m_p - m_q) * pow(q, -1, p) % p)


def _mgf1(seed: bytes, size: int, hash_name: str) -> bytes:
    blocks = (hashlib.new(hash_name, seed + i.to_bytes(4, "big")).digest() for i in range(size // 20 + 1))
    return b"".join(blocks)[:size]


def _xor(a: bytes, b: bytes) -> bytes:
    return bytes(x ^ y for x, y in zip(a, b, strict=True))


# ---- ML-KEM-768 --------------------------------------------------------------

_N, _Q, _K = 256, 3329, 3
_ETA = 2  # both of them, for this parameter set
_DU, _DV = 10, 4

# Of a polynomial or its transform, the 256 coefficients.
_Polynomial = Sequence[int]

_BIT_REVERSED = [int(f"{i:07b}"[::-1], 2) for i in range(128)]
_ZETAS = [pow(17, i, _Q) for i in _BIT_REVERSED]
_GAMMAS = [pow(17, 2 * i + 1, _Q) for i in _BIT_REVERSED]


@functools.lru_cache(maxsize=256)
def mlkem_encapsulate(ek: bytes, m: bytes) -> tuple[bytes, bytes]:
    """The shared secret (32 bytes) and the ciphertext (1,088) for an encapsulation key and 32 bytes m: algorithm 17."""
    both = hashlib.sha3_512(m + hashlib.sha3_256(ek).digest()).digest()
    return both[:32], _encrypt(ek, m, both[32:])


def _encrypt(ek: bytes, m: bytes, r: bytes) -> bytes:
    """K-PKE.Encrypt: algorithm 14."""
    t = [_unpack(ek[384 * i : 384 * (i + 1)], 12) for i in range(_K)]
    rho = ek[384 * _K :]
    y = [_ntt(_noise(r, i)) for i in range(_K)]
    e1 = [_noise(r, _K + i) for i in range(_K)]
    e2 = _noise(r, 2 * _K)
    u = [_add(_inverse_ntt(_dot([_uniform(rho, i, j) for j in range(_K)], y)), e1[i]) for i in range(_K)]
    mu = [_decompress(bit, 1) for bit in _unpack(m, 1)]
    v = _add(_add(_inverse_ntt(_dot(t, y)), e2), mu)
    return b"".join(_pack([_compress(c, _DU) for c in part], _DU) for part in u) + _pack(
        [_compress(c, _DV) for c in v], _DV
    )


def _uniform(rho: bytes, i: int, j: int) -> list[int]:
    """The entry of the matrix that stands in row j and column i, its transposed place: algorithm 7."""
    stream = hashlib.shake_128(rho + bytes((i, j))).digest(3 * 168 * 3)
    found: list[int] = []
    for at in range(0, len(stream), 3):
        low = stream[at] | (stream[at + 1] & 15) << 8
        high = stream[at + 1] >> 4 | stream[at + 2] << 4
        found += [c for c in (low, high) if c < _Q]
    assert len(found) >= _N  # 1,008 candidates, of which four in five are taken
    return found[:_N]


def _noise(r: bytes, n: int) -> list[int]:
    """PRF and SamplePolyCBD: algorithm 8."""
    bits = _unpack(hashlib.shake_256(r + bytes((n,))).digest(64 * _ETA), 1)
    size = 2 * _ETA
    return [(sum(bits[at : at + _ETA]) - sum(bits[at + _ETA : at + size])) % _Q for at in range(0, size * _N, size)]


def _ntt(f: _Polynomial) -> list[int]:
    """Algorithm 9."""
    f = list(f)
    zetas = iter(_ZETAS[1:])
    for length in (128, 64, 32, 16, 8, 4, 2):
        for start in range(0, _N, 2 * length):
            zeta = next(zetas)
            for j in range(start, start + length):
                t = zeta * f[j + length] % _Q
                f[j + length] = (f[j] - t) % _Q
                f[j] = (f[j] + t) % _Q
    return f


def _inverse_ntt(f: _Polynomial) -> list[int]:
    """Algorithm 10."""
    f = list(f)
    zetas = iter(_ZETAS[:0:-1])
    for length in (2, 4, 8, 16, 32, 64, 128):
        for start in range(0, _N, 2 * length):
            zeta = next(zetas)
            for j in range(start, start + length):
                t = f[j]
                f[j] = (t + f[j + length]) % _Q
                f[j + length] = zeta * (f[j + length] - t) % _Q
    return [c * 3303 % _Q for c in f]  # 3303 is the inverse of 128


def _dot(row: Sequence[_Polynomial], column: Sequence[_Polynomial]) -> list[int]:
    """The sum of the products of transforms, pair by pair: algorithms 11 and 12."""
    total = [0] * _N
    for f, g in zip(row, column, strict=True):
        for i, gamma in enumerate(_GAMMAS):
            a, b, c, d = f[2 * i], f[2 * i + 1], g[2 * i], g[2 * i + 1]
            total[2 * i] += a * c + b * d % _Q * gamma
            total[2 * i + 1] += a * d + b * c
    return [c % _Q for c in total]


def _add(f: _Polynomial, g: _Polynomial) -> list[int]:
    return [(a + b) % _Q for a, b in zip(f, g, strict=True)]


def _compress(c: int, bits: int) -> int:
    return ((c << bits) + _Q // 2) // _Q % (1 << bits)


def _decompress(c: int, bits: int) -> int:
    return (c * _Q + (1 << (bits - 1))) >> bits


def _pack(values: Sequence[int], bits: int) -> bytes:
    """ByteEncode: algorithm 5."""
    number = sum(value << (bits * i) for i, value in enumerate(values))
    return number.to_bytes(len(values) * bits // 8, "little")


def _unpack(data: bytes, bits: int) -> list[int]:
    """ByteDecode: algorithm 6. Of what is below q, as everything here is."""
    number = int.from_bytes(data, "little")
    return [number >> (bits * i) & ((1 << bits) - 1) for i in range(8 * len(data) // bits)]
