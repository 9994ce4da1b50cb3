"""Identities, authorities and rosters that are the same in every run, without waiting for keys to be generated.

The keys are in every copy of this package: nothing that matters may ever use them. `keys.json` holds primes, of which
any two of a list make an RSA key; the first keys of a list have no prime in common, those after them do.
"""

# ruff: noqa: PT028 - no test stands in this file

import functools
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from xlattice_trio.crypto import RSAPrivateKey, rsa_of_primes
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.limits import KNOCK_SIZE, NODE_ID_LONG
from xlattice_trio.roster import VerifiedRoster, make_roster, verify_roster
from xlattice_trio.wire.messages import ClientAccess, Member

KNOCK = bytes(range(KNOCK_SIZE))
CLUSTER_NAME = "test-cluster"
PORTS = (7711, 7712)  # cluster port, client port

F = TypeVar("F", bound=Callable[..., Any])


def _not_a_test(function: F) -> F:
    """Keeps pytest from collecting a function for its name."""
    vars(function)["__test__"] = False
    return function


@_not_a_test
def test_identity(i: int, *, bits: int = 2048, id_size: int = NODE_ID_LONG) -> LocalIdentity:
    """The node `node-<i>`. Of 2048 bits there are 1,008, of 3072 and of 4096 bits 60 each."""
    return _identity("node", i, bits, id_size)


@_not_a_test
def test_client(i: int, *, id_size: int = NODE_ID_LONG) -> LocalIdentity:
    """The node `client-<i>`, another than every test_identity. There are 60."""
    return _identity("client", i, 2048, id_size)


@_not_a_test
def test_authority(i: int = 0) -> RSAPrivateKey:
    """The key of an authority. There are 15."""
    return _key("authority-2048", i)


@_not_a_test
def test_roster(
    members: int = 3,
    clients: int = 1,
    *,
    id_size: int = NODE_ID_LONG,
    bits: int = 2048,
    epoch: int = 1,
    client_access: ClientAccess = ClientAccess.ANYONE,
    hosts: Sequence[str] | None = None,
    ports: tuple[int, int] = PORTS,
) -> VerifiedRoster:
    """The roster of test_identity(0) up and test_client(0) up, signed by test_authority().

    Hosts are 127.0.0.1 and up, in the order of the nodes' numbers, unless given; `ports` are cluster and client port.
    """
    if hosts is None:
        hosts = [f"127.0.{i // 250}.{i % 250 + 1}" for i in range(members)]
    nodes = [test_identity(i, bits=bits, id_size=id_size) for i in range(members)]
    return verify_roster(
        make_roster(
            test_authority(),
            name=CLUSTER_NAME,
            epoch=epoch,
            cluster_port=ports[0],
            client_port=ports[1],
            knock=KNOCK,
            client_access=client_access,
            members=[Member(node.card.card, host) for node, host in zip(nodes, hosts, strict=True)],
            clients=[test_client(i, id_size=id_size).card.card for i in range(clients)],
        )
    )


@functools.cache
def _identity(kind: str, i: int, bits: int, id_size: int) -> LocalIdentity:
    sk_priv, ck_priv = _key(f"{kind}-{bits}", 2 * i), _key(f"{kind}-{bits}", 2 * i + 1)
    card = make_card(name=f"{kind}-{i}", sk_priv=sk_priv, ck=ck_priv.public_key(), id_size=id_size)
    return local_identity(verify_card(card), sk_priv, ck_priv)


@functools.cache
def _pools() -> dict[str, list[str]]:
    pools: dict[str, list[str]] = json.loads(Path(__file__).with_name("keys.json").read_text("ascii"))
    return pools


@functools.cache
def _pairs(pool: str) -> tuple[tuple[int, int], ...]:
    """Which primes make which key: first those pairs that have none in common."""
    count = len(_pools()[pool])
    first = list(itertools.pairwise(range(count)))[::2]
    return (*first, *(pair for pair in itertools.combinations(range(count), 2) if pair not in first))


@functools.cache
def _key(pool: str, number: int) -> RSAPrivateKey:
    p, q = (int(_pools()[pool][i], 16) for i in _pairs(pool)[number])
    return rsa_of_primes(p, q)
