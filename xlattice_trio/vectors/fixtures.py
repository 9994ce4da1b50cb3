"""What many vectors refer to by name: keys, nodes, rosters and cluster cards.

`make` puts them together, the same in every run; `Fixtures.read` is what a consumer does with the file. Vectors are
made and run with what was read.
"""

import functools
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from xlattice_trio.crypto import Label, RSAPrivateKey, encode_spki, rsa_of_primes
from xlattice_trio.identity.card import verify_card
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.roster import (
    VerifiedClusterCard,
    VerifiedRoster,
    make_cluster_card,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.schema import Schema, data, map_of, name, obj
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.messages import ClientAccess, ClusterCard, Member, NodeCard, Roster

Json = Any

FILE = "fixtures.json"

SCHEMA: Schema = obj(
    {
        "keys": map_of(obj({"bits": {"enum": [2048, 3072, 4096]}, "p": data(), "q": data(), "spki": data()})),
        "nodes": map_of(obj({"sk": name(), "ck": name(), "node_id": data(), "card": data()})),
        "rosters": map_of(obj({"bytes": data(), "cluster_id": data(32), "digest": data(32), "knock": data(32)})),
        "cluster_cards": map_of(obj({"bytes": data(), "cluster_id": data(32)})),
    }
)


def drawn(name: str, size: int) -> bytes:
    """Bytes that look random and are the same in every run. `name` says what for, and is used once."""
    return hashlib.shake_128(b"xlattice2 vectors: " + name.encode("ascii")).digest(size)


# ---- reading -----------------------------------------------------------------


@attrs.frozen
class Fixtures:
    """The file, read and verified."""

    keys: Mapping[str, RSAPrivateKey]
    nodes: Mapping[str, LocalIdentity]
    rosters: Mapping[str, VerifiedRoster]
    cluster_cards: Mapping[str, VerifiedClusterCard]

    @classmethod
    def read(cls, value: Json) -> "Fixtures":
        """Raises KeyError, ValueError or an XLatticeError if the file is not what it should be."""
        keys = {key: rsa_of_primes(int(parts["p"], 16), int(parts["q"], 16)) for key, parts in value["keys"].items()}
        return cls(
            keys,
            {
                node: local_identity(
                    verify_card(decode(NodeCard, bytes.fromhex(parts["card"]))), keys[parts["sk"]], keys[parts["ck"]]
                )
                for node, parts in value["nodes"].items()
            },
            {
                roster: verify_roster(decode(Roster, bytes.fromhex(parts["bytes"])))
                for roster, parts in value["rosters"].items()
            },
            {
                card: verify_cluster_card(decode(ClusterCard, bytes.fromhex(parts["bytes"])))
                for card, parts in value["cluster_cards"].items()
            },
        )

    def key_name(self, key: RSAPrivateKey) -> str:
        """The name of a key that is one of these."""
        return self.key_name_of(encode_spki(key.public_key()))

    def key_name_of(self, spki: bytes) -> str:
        """The name of the key with this public half."""
        (found,) = (name for name, key in self.keys.items() if encode_spki(key.public_key()) == spki)
        return found


# ---- making ------------------------------------------------------------------


def sign_card(card: NodeCard, key: RSAPrivateKey, salt: bytes) -> NodeCard:
    """The card with a signature over what is in it, whatever that is."""
    content = encode_before(card, "signature")
    return attrs.evolve(card, signature=deterministic.pss_sign(key, Label.NODE_CARD, content, salt))


def sign_roster(roster: Roster, key: RSAPrivateKey, salt: bytes) -> Roster:
    """The roster with a signature over what is in it, whatever that is."""
    content = encode_before(roster, "signature")
    return attrs.evolve(roster, signature=deterministic.pss_sign(key, Label.ROSTER, content, salt))


def sign_cluster_card(card: ClusterCard, key: RSAPrivateKey, salt: bytes) -> ClusterCard:
    """The cluster card with a signature over what is in it, whatever that is."""
    content = encode_before(card, "signature")
    return attrs.evolve(card, signature=deterministic.pss_sign(key, Label.CLUSTER_CARD, content, salt))


def in_order(cards: Iterable[NodeCard]) -> tuple[NodeCard, ...]:
    """Sorted by NodeID."""
    return tuple(sorted(cards, key=lambda card: NodeID.of(card.sk, card.id_size)))


@functools.cache
def make() -> Json:
    """The file."""
    maker = _Maker()
    maker.make_keys()
    maker.make_nodes()
    maker.make_rosters()
    return maker.value


# Of each node the modulus sizes of sk and ck, and the bytes of its NodeID.
_NODES = {
    "alpha": (2048, 2048, 32),
    "beta": (2048, 2048, 32),
    "gamma": (2048, 2048, 32),
    "carol": (2048, 2048, 32),
    "dave": (2048, 2048, 32),
    "outsider": (2048, 2048, 32),
    "short-alpha": (2048, 2048, 20),
    "short-beta": (2048, 2048, 20),
    "short-carol": (2048, 2048, 20),
    "alpha-3072": (3072, 3072, 32),
    "beta-3072": (3072, 3072, 32),
    "carol-3072": (3072, 3072, 32),
    "alpha-4096": (4096, 4096, 32),
    "beta-4096": (4096, 4096, 32),
    "carol-4096": (4096, 4096, 32),
    "short-alpha-3072": (3072, 3072, 20),
    "short-beta-3072": (3072, 3072, 20),
    "short-carol-3072": (3072, 3072, 20),
    "short-alpha-4096": (4096, 4096, 20),
    "short-beta-4096": (4096, 4096, 20),
    "short-carol-4096": (4096, 4096, 20),
    "mixed-alpha": (2048, 4096, 32),
    "mixed-beta": (4096, 3072, 32),
    "mixed-carol": (3072, 2048, 32),
    "other-alpha": (2048, 2048, 32),
    "other-beta": (2048, 2048, 32),
}
_AUTHORITIES = {
    "authority": 2048,
    "short-authority": 2048,
    "authority-3072": 3072,
    "authority-4096": 4096,
    "mixed-authority": 2048,
    "other-authority": 2048,
}
_NEXT_CK = "beta-next-ck"
_LARGE_NEXT_CK = "beta-next-ck-3072"  # in no card: one that beta may have prepared, or had before


@attrs.frozen
class _RosterPlan:
    """What is in a roster, by names. Rosters of one authority are of one cluster."""

    authority: str
    epoch: int
    members: Mapping[str, str]  # node: host
    clients: tuple[str, ...]
    client_access: ClientAccess = ClientAccess.ANYONE


_MAIN = {"alpha": "192.0.2.1", "beta": "2001:db8::2", "gamma": "gamma.example"}
_ROSTERS = {
    "main": _RosterPlan("authority", 1, _MAIN, ("carol", "dave")),
    "next": _RosterPlan("authority", 2, {"alpha": "192.0.2.1", "beta-next": "2001:db8::2"}, ("carol",)),
    "listed": _RosterPlan("authority", 3, _MAIN, ("carol", "dave"), ClientAccess.LISTED),
    "swapped": _RosterPlan(
        "authority",
        0xFEDCBA9876543210,
        {"beta": "2001:db8::2", "gamma": "gamma.example", "carol": "192.0.2.1"},
        ("alpha", "dave"),
    ),
    "short-ids": _RosterPlan(
        "short-authority", 1, {"short-alpha": "192.0.2.1", "short-beta": "192.0.2.2"}, ("short-carol",)
    ),
    "short-ids-3072": _RosterPlan(
        "short-authority", 2, {"short-alpha-3072": "192.0.2.1", "short-beta-3072": "192.0.2.2"}, ("short-carol-3072",)
    ),
    "short-ids-4096": _RosterPlan(
        "short-authority", 3, {"short-alpha-4096": "192.0.2.1", "short-beta-4096": "192.0.2.2"}, ("short-carol-4096",)
    ),
    "bits-3072": _RosterPlan(
        "authority-3072", 1, {"alpha-3072": "192.0.2.1", "beta-3072": "192.0.2.2"}, ("carol-3072",)
    ),
    "bits-4096": _RosterPlan(
        "authority-4096", 1, {"alpha-4096": "192.0.2.1", "beta-4096": "192.0.2.2"}, ("carol-4096",)
    ),
    "mixed": _RosterPlan(
        "mixed-authority", 1, {"mixed-alpha": "192.0.2.1", "mixed-beta": "192.0.2.2"}, ("mixed-carol",)
    ),
    "other-cluster": _RosterPlan("other-authority", 1, {"other-alpha": "192.0.2.1", "other-beta": "192.0.2.2"}, ()),
}
_PORTS = (7771, 7772)  # cluster port, client port


class _Maker:
    """Makes one thing after the other, with what was made before."""

    def __init__(self) -> None:
        self.keys: dict[str, RSAPrivateKey] = {}
        self.cards: dict[str, NodeCard] = {}
        self.value: dict[str, dict[str, Json]] = {"keys": {}, "nodes": {}, "rosters": {}, "cluster_cards": {}}

    def make_keys(self) -> None:
        unused = {bits: _unused_keys(bits) for bits in (2048, 3072, 4096)}
        for authority, bits in _AUTHORITIES.items():
            self._add_key(authority, next(unused[bits]))
        for node, (sk_bits, ck_bits, _) in _NODES.items():
            self._add_key(f"{node}-sk", next(unused[sk_bits]))
            self._add_key(f"{node}-ck", next(unused[ck_bits]))
        self._add_key(_NEXT_CK, next(unused[2048]))
        self._add_key(_LARGE_NEXT_CK, next(unused[3072]))

    def _add_key(self, key_name: str, key: RSAPrivateKey) -> None:
        primes = key.private_numbers()
        self.keys[key_name] = key
        self.value["keys"][key_name] = {
            "bits": key.key_size,
            "p": f"{primes.p:0{key.key_size // 8}x}",
            "q": f"{primes.q:0{key.key_size // 8}x}",
            "spki": encode_spki(key.public_key()).hex(),
        }

    def make_nodes(self) -> None:
        for node, (_, _, id_size) in _NODES.items():
            self._add_node(node, node, f"{node}-sk", f"{node}-ck", id_size, 1)
        self._add_node("beta-next", "beta", "beta-sk", _NEXT_CK, 32, 2)

    def _add_node(self, node: str, node_name: str, sk: str, ck: str, id_size: int, serial: int) -> None:
        spkis = [encode_spki(self.keys[key].public_key()) for key in (sk, ck)]
        unsigned = NodeCard(node_name, id_size, spkis[0], spkis[1], serial, b"")
        card = sign_card(unsigned, self.keys[sk], drawn(f"fixtures/nodes/{node}", 32))
        self.cards[node] = card
        node_id = verify_card(card).node_id
        self.value["nodes"][node] = {"sk": sk, "ck": ck, "node_id": str(node_id), "card": encode(card).hex()}

    def make_rosters(self) -> None:
        for roster_name, plan in _ROSTERS.items():
            hosts = {self.cards[node]: host for node, host in plan.members.items()}
            authority = self.keys[plan.authority]
            unsigned = Roster(
                encode_spki(authority.public_key()),
                f"cluster of {plan.authority}",
                plan.epoch,
                *_PORTS,
                drawn(f"fixtures/knock/{plan.authority}", 32),
                plan.client_access,
                tuple(Member(card, hosts[card]) for card in in_order(hosts)),
                in_order(self.cards[client] for client in plan.clients),
                b"",
            )
            signed = sign_roster(unsigned, authority, drawn(f"fixtures/rosters/{roster_name}", 32))
            roster = verify_roster(signed)
            self.value["rosters"][roster_name] = {
                "bytes": encode(signed).hex(),
                "cluster_id": roster.cluster_id.hex(),
                "digest": roster.digest.hex(),
                "knock": roster.knock.hex(),
            }
            card = cluster_card_of(roster, authority, drawn(f"fixtures/cluster-cards/{roster_name}", 32))
            self.value["cluster_cards"][roster_name] = {
                "bytes": encode(card).hex(),
                "cluster_id": roster.cluster_id.hex(),
            }


def cluster_card_of(roster: VerifiedRoster, authority: RSAPrivateKey, salt: bytes) -> ClusterCard:
    """The cluster card, signed with this salt."""
    return sign_cluster_card(make_cluster_card(authority, roster), authority, salt)


def _unused_keys(bits: int) -> Iterator[RSAPrivateKey]:
    """The keys of the test identities, which have no prime in common."""
    for i in itertools.count():
        node = test_identity(i, bits=bits)
        yield from (node.sk_priv, node.ck_priv)
