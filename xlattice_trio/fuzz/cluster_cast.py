"""Who is in the cluster of `cluster`, where they are, and what the authority signs about them."""

import functools

from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.identity.card import make_card
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedRoster, make_roster, verify_roster
from xlattice_trio.testing.forge import h
from xlattice_trio.testing.identities import KNOCK, PORTS, test_authority, test_identity
from xlattice_trio.wire.codec import encode
from xlattice_trio.wire.messages import ClientAccess, Member, NodeCard, Purpose, Role, Roster

COUNT = 4  # members
PORT = PORTS[0]  # for links
KEEPALIVE = 60_000  # milliseconds, on links


@functools.cache
def identities() -> tuple[LocalIdentity, ...]:
    """Everybody, the lowest NodeID first. Elsewhere they are numbers: places in here."""
    return tuple(sorted((test_identity(i) for i in range(COUNT)), key=lambda identity: identity.node_id))


@functools.cache
def number_of(node_id: NodeID) -> int:
    """Which of them it is."""
    return [identity.node_id for identity in identities()].index(node_id)


def host(number: int) -> str:
    """Where it is."""
    return f"127.0.0.{number + 1}"


@functools.lru_cache(1024)
def sign(epoch: int, present: frozenset[int], names: tuple[int, ...], authority: int = 0) -> VerifiedRoster:
    """The roster that says who is there; `names` are numbers in the names of all. The same object each time."""
    return verify_roster(
        make_roster(
            test_authority(authority),
            name="members",
            epoch=epoch,
            cluster_port=PORT,
            client_port=PORTS[1],
            knock=KNOCK,
            client_access=ClientAccess.LISTED,
            members=[Member(_card(number, names[number]), host(number)) for number in sorted(present)],
            clients=[],
        )
    )


def first_roster() -> VerifiedRoster:
    """Epoch 1, with everybody."""
    return sign(1, frozenset(range(COUNT)), (0,) * COUNT)


@functools.cache
def _card(number: int, name: int) -> NodeCard:
    identity = identities()[number]
    if not name:
        return identity.card.card
    return make_card(
        name=f"{identity.card.name}-{name}", sk_priv=identity.sk_priv, ck=identity.ck_priv.public_key(), id_size=32
    )


def digest(roster: Roster) -> bytes:
    """What tells rosters of one epoch apart: everything but the signature. Spec 3.6"""
    return h("roster-digest", encode(roster)[: -2 - len(roster.signature)])


def link_intent(number: int, roster: VerifiedRoster, peer: int) -> Intent:
    """For a link with a member of the roster."""
    return Intent(
        peer=roster.members[identities()[peer].node_id].card,
        cluster_id=roster.cluster_id,
        role=Role.MEMBER,
        purpose=Purpose.LINK,
        identity=identities()[number],
        knock=roster.knock,
    )


def peer_of(stream: SecureStream) -> int:
    """Who is at the other end of a link."""
    established = stream.established
    if established.side is Side.INITIATOR:
        return number_of(established.recipient)
    assert established.initiator is not None
    return number_of(established.initiator.node_id)
