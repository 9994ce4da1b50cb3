"""Who is in the cluster of `memory_node`'s member, where they are, and what the authority signs about them."""

import functools

import attrs

from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.roster import VerifiedRoster, make_roster, verify_roster
from xlattice_trio.testing.identities import test_authority, test_identity
from xlattice_trio.wire.messages import ClientAccess, Member, NodeCard

MEMBERS = 11  # beside the node, which is in their middle: six dial it, and it dials five
LOWER = 6
HOSTS = ("192.0.2.1", "192.0.2.2")  # of the node, in turn
PORT_NUMBERS = {Port.CLUSTER: 7000, Port.CLIENT: 8000}


@functools.cache
def cast() -> Cast:
    """Everybody."""
    return make_cast(MEMBERS + 1, 2)


@functools.cache
def node_identity(ck: int) -> LocalIdentity:
    """The node with another ck, by number."""
    node = cast().responder
    assert node is not None
    if not ck:
        return node
    ck_priv = test_identity(MEMBERS + 3 + ck % 4).ck_priv
    card = make_card(name=node.card.name, sk_priv=node.sk_priv, ck=ck_priv.public_key(), id_size=32)
    return local_identity(verify_card(card), node.sk_priv, ck_priv)


# ---- rosters -----------------------------------------------------------------


@attrs.frozen
class Listing:
    """What a roster says. `present` are members by number; `place` is which of HOSTS the node's is; `client_port` is
    added to its PORT_NUMBERS; `ck` is the node's; `names` is a number in the members' names; `moved` are
    those members that are at their other hosts."""

    epoch: int = 1
    present: frozenset[int] = frozenset(range(MEMBERS))
    is_in: bool = True
    clients: tuple[bool, bool] = (True, True)
    anyone: bool = True
    place: int = 0
    client_port: int = 0
    ck: int = 0
    names: int = 0
    moved: frozenset[int] = frozenset()

    def admits(self, who: str) -> bool:
        """Whether it admits a session of `member 1`, `client 0` or `anonymous`. Spec 3.11."""
        kind, _, number = who.partition(" ")
        if kind == "anonymous":
            return self.anyone
        return int(number) in self.present if kind == "member" else self.clients[int(number)]

    def where(self, port: Port) -> tuple[str, int]:
        """Where the node is to listen. [HS-81]"""
        return HOSTS[self.place], PORT_NUMBERS[port] + (self.client_port if port is Port.CLIENT else 0)

    def host(self, number: int) -> str:
        """Where a member is, whether it is present or not."""
        return f"192.0.2.{number + (110 if number in self.moved else 10)}"


@functools.lru_cache(256)
def roster_of(listing: Listing) -> VerifiedRoster:
    """The roster that says this."""
    everybody = cast()
    assert everybody.roster is not None
    members = [Member(_card(number, listing.names), listing.host(number)) for number in sorted(listing.present)]
    if listing.is_in:
        members.append(Member(node_identity(listing.ck).card.card, HOSTS[listing.place]))
    return verify_roster(
        make_roster(
            test_authority(),
            name=everybody.roster.name,
            epoch=listing.epoch,
            cluster_port=PORT_NUMBERS[Port.CLUSTER],
            client_port=PORT_NUMBERS[Port.CLIENT] + listing.client_port,
            knock=everybody.roster.knock,
            client_access=ClientAccess.ANYONE if listing.anyone else ClientAccess.LISTED,
            members=members,
            clients=[one.card.card for one, is_in in zip(everybody.clients, listing.clients, strict=True) if is_in],
        )
    )


@functools.cache
def _card(number: int, names: int) -> NodeCard:
    identity = cast().members[number]
    if not names:
        return identity.card.card
    ck = cast().members[(number + names) % MEMBERS].ck_priv.public_key()  # whose it is makes no difference
    return make_card(name=f"{identity.card.name}-{names}", sk_priv=identity.sk_priv, ck=ck, id_size=32)
