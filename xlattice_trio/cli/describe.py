"""Cards and rosters for people and for programs. Never the knock, never a private key."""

from collections.abc import Iterable, Mapping
from typing import Any

from xlattice_trio.cli.common import shown
from xlattice_trio.crypto import rsa_size
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.roster import VerifiedClusterCard, VerifiedMember, VerifiedRoster
from xlattice_trio.wire.messages import ClientAccess

# ---- for programs ------------------------------------------------------------


def card_fields(card: VerifiedCard) -> dict[str, Any]:
    return {
        "name": card.name,
        "node_id": str(card.node_id),
        "serial": card.card.serial,
        "sk_bits": 8 * rsa_size(card.sk),
        "ck_bits": 8 * rsa_size(card.ck),
    }


def cluster_fields(document: VerifiedRoster | VerifiedClusterCard) -> dict[str, Any]:
    """Everything but the knock."""
    fields: dict[str, Any] = {
        "kind": "roster" if isinstance(document, VerifiedRoster) else "cluster card",
        "name": document.name,
        "cluster_id": document.cluster_id.hex(),
        "epoch": document.epoch,
    }
    if isinstance(document, VerifiedRoster):
        fields |= {"digest": document.digest.hex(), "cluster_port": document.cluster_port}
    fields |= {
        "client_port": document.client_port,
        "client_access": document.client_access.name.lower(),
        "members": [{**card_fields(member.card), "host": member.host} for member in document.members.values()],
    }
    if isinstance(document, VerifiedRoster):
        fields["clients"] = [card_fields(card) for card in document.clients.values()]
    return fields


# ---- for people --------------------------------------------------------------


def card_text(card: VerifiedCard) -> str:
    return _columns(
        [
            ["name", shown(card.name)],
            ["NodeID", str(card.node_id)],
            ["serial", str(card.card.serial)],
            ["keys", _keys(card)],
        ]
    )


def cluster_text(document: VerifiedRoster | VerifiedClusterCard) -> str:
    roster = document if isinstance(document, VerifiedRoster) else None
    access = "anyone" if document.client_access is ClientAccess.ANYONE else "listed clients only"
    head = [
        ["cluster", shown(document.name)],
        ["kind", "roster" if roster else "cluster card"],
        ["ClusterID", document.cluster_id.hex()],
        ["epoch", str(document.epoch)],
        *([["digest", roster.digest.hex()], ["cluster port", str(roster.cluster_port)]] if roster else []),
        ["client port", str(document.client_port)],
        ["client access", access],
    ]
    parts = [_columns(head), f"\nmembers: {len(document.members)}", _members(document.members)]
    if roster:
        parts.append(f"\nclients: {len(roster.clients)}")
        parts += [_cards(roster.clients.values())] if roster.clients else []
    return "\n".join(parts)


def _members(members: Mapping[Any, VerifiedMember]) -> str:
    rows = [[shown(m.name), m.host, str(m.card.card.serial), _keys(m.card), str(m.node_id)] for m in members.values()]
    return _columns([["NAME", "HOST", "SERIAL", "KEYS", "NODEID"], *rows], indent="  ")


def _cards(cards: Iterable[VerifiedCard]) -> str:
    rows = [[shown(card.name), str(card.card.serial), _keys(card), str(card.node_id)] for card in cards]
    return _columns([["NAME", "SERIAL", "KEYS", "NODEID"], *rows], indent="  ")


def _keys(card: VerifiedCard) -> str:
    return f"{8 * rsa_size(card.sk)}/{8 * rsa_size(card.ck)}"


def _columns(rows: list[list[str]], indent: str = "") -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        indent + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
