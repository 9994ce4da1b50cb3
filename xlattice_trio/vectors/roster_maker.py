"""Rosters, cluster cards and node cards that differ from the fixtures in what one wants, and are signed as they are."""

from collections.abc import Sequence
from typing import Any

import attrs

from xlattice_trio.crypto import encode_spki
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.testing import forge
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.fixtures import (
    Fixtures,
    drawn,
    sign_card,
    sign_cluster_card,
    sign_roster,
)
from xlattice_trio.vectors.model import Case, FailLayer, Refusal
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.messages import ClusterCard, Member, NodeCard, Roster


@attrs.frozen
class Maker:
    """Rosters and cluster cards that are `main` but for what is changed, signed anew."""

    fixtures: Fixtures

    @property
    def main(self) -> Roster:
        return self.fixtures.rosters["main"].roster

    @property
    def card(self) -> ClusterCard:
        return self.fixtures.cluster_cards["main"].card

    def roster(self, what: str, *, key: str = "authority", **changes: Any) -> Roster:
        unsigned = attrs.evolve(self.main, **changes)
        return sign_roster(unsigned, self.fixtures.keys[key], drawn(f"roster/{what}", 32))

    def cluster_card(self, what: str, *, key: str = "authority", **changes: Any) -> ClusterCard:
        unsigned = attrs.evolve(self.card, **changes)
        return sign_cluster_card(unsigned, self.fixtures.keys[key], drawn(f"roster/cluster-card/{what}", 32))

    def spki(self, key: str) -> bytes:
        return encode_spki(self.fixtures.keys[key].public_key())

    @property
    def small(self) -> dict[str, Any]:
        """What makes of main a roster of two members and no clients."""
        pair = [self.fixtures.nodes[node].card.card for node in ("alpha", "beta")]
        return {"members": tuple(member for member in self.main.members if member.card in pair), "clients": ()}

    def node_card(self, node: str, what: str, *, key: str | None = None, **changes: Any) -> NodeCard:
        """The card of a node, changed and signed anew, by its own sk unless `key` says another."""
        card = attrs.evolve(self.fixtures.nodes[node].card.card, **changes)
        return sign_card(card, self.fixtures.keys[key or f"{node}-sk"], drawn(f"roster/{node}/{what}", 32))

    def member_with(self, node: str, card: NodeCard | None = None, host: str | None = None) -> tuple[Member, ...]:
        """The members of main, one of them with another card or host. The order stays."""
        old = self.fixtures.nodes[node].card.card
        changes: dict[str, Any] = ({} if card is None else {"card": card}) | ({} if host is None else {"host": host})
        return tuple(attrs.evolve(member, **changes) if member.card == old else member for member in self.main.members)

    def client_with(self, node: str, card: NodeCard) -> tuple[NodeCard, ...]:
        old = self.fixtures.nodes[node].card.card
        return tuple(card if client == old else client for client in self.main.clients)

    def signed_content(self, label: str, content: bytes, what: str) -> bytes:
        """Content of any kind with the authority's signature."""
        message = forge.label(label) + b"\0" + content
        salt = drawn(f"roster/{what}", 32)
        return content + b"\1\0" + deterministic.pss_sign_message(self.fixtures.keys["authority"], message, salt)


def good_roster(what: str, roster: Roster, comment: str, *requirements: str, cluster_id: bytes | None = None) -> Case:
    content = encode_before(roster, "signature")
    members = [member.card for member in roster.members]
    return Case(
        name=f"roster/verify/{what}",
        op="roster",
        requirements=requirements or ("RO-1", "RO-31"),
        comment=comment,
        role="member",
        input={"bytes": encode(roster).hex(), "cluster_id": cluster_id.hex() if cluster_id else None},
        expected={
            "cluster_id": forge.h("cluster-id", roster.authority).hex(),
            "digest": forge.h("roster-digest", content).hex(),
            "members": [forge.h("node-id", card.sk)[: card.id_size].hex() for card in members],
            "clients": [forge.h("node-id", card.sk)[: card.id_size].hex() for card in roster.clients],
        },
    )


def bad_roster(
    what: str,
    layer: FailLayer,
    by: str,
    encoded: bytes,
    change: str,
    *requirements: str,
    base: str = "main",
    cluster_id: bytes | None = None,
) -> Case:
    return Case(
        name=f"roster/verify/{what}",
        op="roster",
        requirements=requirements,
        comment=f"Refused: {change}.",
        role="member",
        input={"bytes": encoded.hex(), "cluster_id": cluster_id.hex() if cluster_id else None},
        refusal=Refusal(layer=layer, by=by, base=f"roster/verify/{base}", change=change),
    )


def one_bit(value: bytes) -> bytes:
    return value[:-1] + bytes([value[-1] ^ 1])


def sorted_members(members: Sequence[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: NodeID.of(member.card.sk, member.card.id_size)))


def digits(number: int) -> str:
    return f"{number:016x}"
