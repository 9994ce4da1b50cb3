"""Keys that can be broken are found before a roster is signed."""

import math

import pytest

from xlattice_trio.cli import weak_keys
from xlattice_trio.cli.weak_keys import WeakKey, check_keys
from xlattice_trio.crypto import rsa_modulus
from xlattice_trio.identity.card import VerifiedCard, verify_card
from xlattice_trio.testing.identities import test_identity


def sharing_a_prime() -> VerifiedCard:
    """The card of a node with a key that has a prime in common with the sk of node-0."""
    for identity in map(test_identity, range(4, 500)):
        for key in (identity.card.sk, identity.card.ck):
            if math.gcd(rsa_modulus(key), GOOD) > 1:
                return identity.card
    raise AssertionError("no such test identity")


SMALL = math.prod(n for n in range(2, 65_536) if all(n % d for d in range(2, math.isqrt(n) + 1)))
M = math.prod(n for n in range(3, 168, 2) if all(n % d for d in range(3, n, 2)))


def rough(n: int, step: int = 2) -> int:
    """The first of n, n + step, ... without a small factor."""
    while math.gcd(n, SMALL) != 1:
        n += step
    return n


GOOD = rsa_modulus(test_identity(0).card.sk)
P = test_identity(0).sk_priv.private_numbers().p


def roca_like(exponent: int, bits: int = 800) -> int:
    """A number that is a power of 65537 modulo the first primes, as that library's primes were."""
    n = pow(65537, exponent, M) + (M << bits)
    return rough(n if n % 2 else n + M, 2 * M)


@pytest.mark.parametrize(
    ("modulus", "found"),
    [
        (GOOD, None),
        (rsa_modulus(test_identity(1, bits=4096).card.sk), None),
        (65_521 * GOOD, "small factor"),
        (3 * GOOD, "small factor"),
        (65_537 * GOOD, None),  # just above the limit
        (P * P, "too close"),
        (P * rough(P + 2), "too close"),
        (P * rough(P + (1 << 500)), "too close"),
        (P * rough(P + (1 << 1000)), None),
        (roca_like(77) * roca_like(1234, 820), "ROCA"),
        (roca_like(77) * P, None),
    ],
    ids=["good", "good-4096", "65521", "3", "65537", "square", "twins", "close", "apart", "roca", "half-roca"],
)
def test_weak_modulus_is_found(modulus: int, found: str | None) -> None:
    problem = weak_keys._problem(modulus)
    assert problem is None if found is None else found in (problem or "")


def test_test_identities_that_share_nothing_pass() -> None:
    cards = [test_identity(i).card for i in range(4)]
    check_keys(cards[:2], cards[2:])


def test_weak_key_names_its_owner() -> None:
    with pytest.raises(WeakKey) as caught:
        check_keys([sharing_a_prime()], [test_identity(0).card])
    assert caught.value.name == sharing_a_prime().name


def test_a_key_that_stands_twice_is_left_to_the_rosters_rules() -> None:
    card = test_identity(0).card
    check_keys([card], [verify_card(card.card)])
