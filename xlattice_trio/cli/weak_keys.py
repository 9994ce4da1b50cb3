"""Weak RSA keys, found before a roster with them is signed. Spec 2.2, 3.4.

Nodes do not look: they must not disagree about a roster, and the authority has signed it. So the tool that makes
rosters looks, with the cheap tests that found real keys broken: small factors, a factor that two keys share, primes
that are close together, and the fingerprint of a library whose primes could be told (ROCA, CVE-2017-15361).
"""

import functools
import math
from collections.abc import Iterable, Iterator

import attrs

from xlattice_trio.crypto import rsa_modulus
from xlattice_trio.errors import IdentityError
from xlattice_trio.identity.card import VerifiedCard

_SMALL_PRIMES_BELOW = 65_536
_FERMAT_STEPS = 100
_ROCA_PRIMES_BELOW = 168


class WeakKey(IdentityError):
    """A public key that can be broken. `name` is the node's, `which` is `sk` or `ck`."""

    def __init__(self, name: str, which: str, problem: str) -> None:
        super().__init__(
            f"the {which} of {name!r} is weak: {problem}; nothing was signed, the node needs a new identity"
        )
        self.name = name
        self.which = which


def check_keys(new: Iterable[VerifiedCard], others: Iterable[VerifiedCard]) -> None:
    """Looks at the keys of the cards that are `new` in a roster, alone and against all the rest. [ID-11]

    Raises WeakKey. Two equal moduli are not found here: the roster's own rules forbid them.
    """
    known = list(_keys(others))
    for key in _keys(new):
        problem = _problem(key.modulus)
        if problem is not None:
            raise WeakKey(key.owner, key.which, problem)
        product = functools.reduce(lambda product, other: product * other.modulus % key.modulus, known, 1)
        if math.gcd(product, key.modulus) != 1:
            _name_the_other(key, known)
        known.append(key)


@attrs.frozen
class _Key:
    owner: str
    which: str
    modulus: int


def _keys(cards: Iterable[VerifiedCard]) -> Iterator[_Key]:
    for card in cards:
        yield _Key(card.name, "sk", rsa_modulus(card.sk))
        yield _Key(card.name, "ck", rsa_modulus(card.ck))


def _name_the_other(key: _Key, known: Iterable[_Key]) -> None:
    for other in known:
        if 1 < math.gcd(key.modulus, other.modulus) < key.modulus:
            raise WeakKey(key.owner, key.which, f"it has a prime in common with the {other.which} of {other.owner!r}")


def _problem(modulus: int) -> str | None:
    if math.gcd(modulus, _product_of_small_primes()) != 1:
        return "it has a small factor"
    if _primes_are_close(modulus):
        return "its primes are too close to each other"
    if _has_roca_fingerprint(modulus):
        return "it was made by a library whose keys can be factored (ROCA, CVE-2017-15361)"
    return None


def _primes_are_close(modulus: int) -> bool:
    """Fermat's method, a few steps of it: n = a² - b². [ID-11]"""
    a = math.isqrt(modulus - 1) + 1
    for step in range(_FERMAT_STEPS):
        b_squared = (a + step) ** 2 - modulus
        if math.isqrt(b_squared) ** 2 == b_squared:
            return True
    return False


def _has_roca_fingerprint(modulus: int) -> bool:
    """Whether n is a power of 65537 modulo each of the first primes: by chance, one in 2^27 or so."""
    return all(modulus % prime in powers for prime, powers in _powers_of_65537().items())


@functools.cache
def _powers_of_65537() -> dict[int, frozenset[int]]:
    return {
        prime: frozenset(pow(65537, exponent, prime) for exponent in range(prime))
        for prime in _primes(_ROCA_PRIMES_BELOW)
    }


@functools.cache
def _product_of_small_primes() -> int:
    return math.prod(_primes(_SMALL_PRIMES_BELOW))


def _primes(limit: int) -> list[int]:
    """The primes below `limit`."""
    sieve = bytearray([1]) * limit
    sieve[:2] = b"\0\0"
    for i in range(2, math.isqrt(limit) + 1):
        if sieve[i]:
            sieve[i * i :: i] = bytes(len(range(i * i, limit, i)))
    return [i for i, is_prime in enumerate(sieve) if is_prime]
