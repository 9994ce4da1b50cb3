"""Who is there: a responder, and everybody whose keys the attacker has."""

import functools
from collections.abc import Sequence

import attrs

from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import NODE_ID_LONG
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.identities import test_client, test_identity, test_roster
from xlattice_trio.testing.toolbox import Destination
from xlattice_trio.wire.messages import ClientAccess

_STRANGERS = 2


@attrs.frozen(eq=False)
class Cast:
    """The attacker has the keys of all but `responder`; what those are good for is the roster's affair.

    `members` are in the roster, the lowest NodeID first, without the responder; so are `clients`. `strangers` are in no
    roster. Of a live target only its card is known, and the identity that the attacker was given, if any.
    """

    card: VerifiedCard  # the responder's
    cluster_id: bytes
    knock: bytes | None  # None: not known
    roster: VerifiedRoster | None = None
    responder: LocalIdentity | None = None
    members: Sequence[LocalIdentity] = ()
    clients: Sequence[LocalIdentity] = ()
    strangers: Sequence[LocalIdentity] = ()

    def destination(self, port: Port) -> Destination:
        """What one has to know to say Hello to the responder's port; without the knock if that is not known."""
        knock = (self.knock or b"") if port is Port.CLUSTER else b""
        return Destination(ck=self.card.ck, recipient=self.card.node_id.value, cluster=self.cluster_id, knock=knock)

    def everybody(self) -> Sequence[LocalIdentity]:
        """All whose keys the attacker has."""
        return (*self.members, *self.clients, *self.strangers)


@functools.cache
def make_cast(
    members: int = 3,
    clients: int = 1,
    *,
    id_size: int = NODE_ID_LONG,
    bits: int = 2048,
    epoch: int = 1,
    client_access: ClientAccess = ClientAccess.ANYONE,
) -> Cast:
    """The test roster of so many members and clients. The responder is in the middle, by NodeID: those before it dial
    links to it, and those behind it do not. The same arguments give the same object."""
    roster = test_roster(members, clients, id_size=id_size, bits=bits, epoch=epoch, client_access=client_access)
    nodes = [test_identity(i, bits=bits, id_size=id_size) for i in range(members + _STRANGERS)]
    listed = sorted(nodes[:members], key=lambda node: node.node_id)
    responder = listed.pop(members // 2)
    return Cast(
        card=responder.card,
        cluster_id=roster.cluster_id,
        knock=roster.knock,
        roster=roster,
        responder=responder,
        members=listed,
        clients=[test_client(i, id_size=id_size) for i in range(clients)],
        strangers=[*nodes[members:], test_client(clients, id_size=id_size)],
    )
