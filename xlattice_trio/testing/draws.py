"""Randomness that is the same in every run, so that a run can be had again.

`Draws` takes the place of the system's random bytes, by name. What the library draws inside, for RSA and ML-KEM, cannot
be had from outside at its speed: `REMEMBERED` are the library's operations, which give the same result for the same
arguments within a process. For the same bytes in every process there is `vectors.deterministic`, which is slow.
"""

import functools
import hashlib

from xlattice_trio import crypto
from xlattice_trio.crypto import Label, Randomised, RSAPrivateKey, RSAPublicKey

_REMEMBERED = 4096  # results of each operation


class Draws:
    """Random numbers that are the same in every run, and a list of what was drawn; `fixed` gives some by name."""

    def __init__(self, seed: str, **fixed: bytes) -> None:
        self.seed, self.fixed = seed, fixed
        self.drawn: list[tuple[str, int]] = []
        self._counts: dict[tuple[str, int], int] = {}

    def __call__(self, name: str, size: int) -> bytes:
        self.drawn.append((name, size))
        count = self._counts[name, size] = self._counts.get((name, size), 0) + 1
        seed = f"{self.seed} {name} {count}"
        return self.fixed.get(name, hashlib.shake_128(seed.encode()).digest(size))


# Keys are compared by their numbers, and the library's objects are not hashed by them: hence what is remembered by.


def _oaep_encrypt(key: RSAPublicKey, secret: bytes) -> bytes:
    return _oaep(crypto.encode_spki(key), secret)


@functools.lru_cache(_REMEMBERED)
def _oaep(spki: bytes, secret: bytes) -> bytes:
    return crypto.oaep_encrypt(crypto.decode_spki(spki), secret)


_signatures: dict[tuple[int, Label, bytes], bytes] = {}


def _pss_sign(key: RSAPrivateKey, label: Label, content: bytes) -> bytes:
    by = (crypto.rsa_modulus(key.public_key()), label, content)
    if by not in _signatures:
        if len(_signatures) == _REMEMBERED:
            del _signatures[next(iter(_signatures))]
        _signatures[by] = crypto.pss_sign(key, label, content)
    return _signatures[by]


@functools.lru_cache(_REMEMBERED)
def _encapsulate(ek: bytes) -> tuple[bytes, bytes]:
    return crypto.mlkem_encapsulate(crypto.mlkem_public(ek))


REMEMBERED = Randomised(
    oaep_encrypt=_oaep_encrypt,
    pss_sign=_pss_sign,
    mlkem_encapsulate=lambda key: _encapsulate(key.public_bytes_raw()),
)
