"""Rosters to follow one another: the cast's, with something in it changed."""

from collections.abc import Sequence

import attrs

from xlattice_trio.crypto import RSAPrivateKey
from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz.cast import Cast
from xlattice_trio.fuzz.oracle import Admission
from xlattice_trio.identity.card import make_card
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.roster import VerifiedRoster, make_roster, verify_roster
from xlattice_trio.testing.identities import test_authority, test_identity
from xlattice_trio.wire.messages import ClientAccess, Member, NodeCard

_KEYS_APART = 20  # identities from here on lend their encryption keys
LAST_KEY = 19  # the number of the last one


@attrs.frozen
class Listing:
    """What a roster of the cast says: who of them is in, and who may come without being in.

    `absent` are NodeIDs. `ck` is the number of the responder's encryption key: 0 is the one that it began with.
    `names` is a number that is in every name and host.
    """

    epoch: int = 1
    absent: frozenset[bytes] = frozenset()
    anyone: bool = True
    ck: int = 0
    names: int = 0

    def admission(self, cast: Cast) -> Admission:
        """What it says to who comes."""
        listed = [one.node_id.value for one in (*cast.members, *_responder(cast))]
        clients = [one.node_id.value for one in cast.clients]
        return Admission(
            self.epoch,
            frozenset(listed) - self.absent,
            frozenset(clients) - self.absent,
            self.anyone,
        )


def first_listing(cast: Cast) -> Listing:
    """What the roster of the cast says. Of a live target, whose roster is not known, it is that anyone may come."""
    if cast.roster is None:
        return Listing()
    return Listing(cast.roster.epoch, anyone=cast.roster.client_access is ClientAccess.ANYONE)


def encryption_key(cast: Cast, number: int) -> RSAPrivateKey:
    """An encryption key of the responder's, by number, up to LAST_KEY; no other member has it.

    Even ones are as large as the first one, number 0; odd ones have another size.
    """
    if cast.responder is None:
        raise UsageError("the keys of a live target are not known")
    first = cast.responder.ck_priv
    if number == 0:
        return first
    bits = first.key_size if number % 2 == 0 else 3072 if first.key_size == 2048 else 2048
    below = sum(one.node_id < cast.responder.node_id for one in cast.members)
    return test_identity(_KEYS_APART + below + 4 * (number // 2), bits=bits).ck_priv


_made: dict[tuple[bytes, bytes, Listing], VerifiedRoster] = {}


def roster_of(cast: Cast, listing: Listing) -> VerifiedRoster:
    """The roster that says this, signed by the cast's authority."""
    if cast.roster is None or cast.responder is None:
        raise UsageError("the roster of a live target is not known")
    by = (cast.roster.digest, cast.responder.node_id.value, listing)
    if by not in _made:
        _made[by] = _make(cast, cast.roster, listing)
    return _made[by]


def _make(cast: Cast, held: VerifiedRoster, listing: Listing) -> VerifiedRoster:
    members = [one for one in (*cast.members, *_responder(cast)) if one.node_id.value not in listing.absent]
    clients = [one for one in cast.clients if one.node_id.value not in listing.absent]
    hosts = {member.node_id: member.host for member in held.members.values()}
    return verify_roster(
        make_roster(
            test_authority(),
            name=held.name,
            epoch=listing.epoch,
            cluster_port=held.cluster_port,
            client_port=held.client_port,
            knock=held.knock,
            client_access=ClientAccess.ANYONE if listing.anyone else ClientAccess.LISTED,
            members=[Member(_card(cast, one, listing), hosts[one.node_id]) for one in members],
            clients=[_card(cast, one, listing) for one in clients],
        )
    )


def _card(cast: Cast, identity: LocalIdentity, listing: Listing) -> NodeCard:
    is_responder = identity in _responder(cast)
    if not listing.names and not (is_responder and listing.ck):
        return identity.card.card
    ck = encryption_key(cast, listing.ck) if is_responder else identity.ck_priv
    return make_card(
        name=identity.card.name + ("" if not listing.names else f"-{listing.names}"),
        sk_priv=identity.sk_priv,
        ck=ck.public_key(),
        id_size=len(identity.node_id.value),
    )


def _responder(cast: Cast) -> Sequence[LocalIdentity]:
    return () if cast.responder is None else (cast.responder,)
