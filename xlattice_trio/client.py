"""From a cluster card to a stream: `ClusterClient`, and `open_member_stream` for a member that needs another.

A client tries members until one answers, and stops trying as soon as one has: from then on bytes may have reached a
service, and only the application knows whether they may be sent twice. Spec 8.6, 5.12.
"""

import logging
import random
import socket
from collections.abc import Sequence

import attrs
import trio

from xlattice_trio.errors import HandshakeRefused, RefusalReason, UsageError, XLatticeError
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.identity.host import DNSName, parse_host
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.link.backoff import Backoff
from xlattice_trio.net.dial import open_secure_stream
from xlattice_trio.net.gate import Address, normalize
from xlattice_trio.net.reasons import reason
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedClusterCard, VerifiedMember, VerifiedRoster
from xlattice_trio.wire.messages import ClientAccess, Role

log = logging.getLogger(__name__)


# ---- clients -----------------------------------------------------------------


@attrs.frozen
class Failure:
    """A member that was not reached, and why: HandshakeRefused or OSError."""

    member: str
    host: str
    exception: HandshakeRefused | OSError

    def __str__(self) -> str:
        return f"{self.member} at {self.host}: {reason(self.exception)}"


class NoMemberReachable(XLatticeError):
    """No member gave a session. `failures` has every member that was tried in the last round, in the order of trying.

    A member that ignored us is among them as well as one that is down: from outside the two differ in little.
    """

    def __init__(self, cluster: str, failures: Sequence[Failure]) -> None:
        super().__init__(f"no member of the cluster {cluster!r} was reached: " + "; ".join(map(str, failures)))
        self.failures = list(failures)


class ClusterClient:
    """A client of the cluster that `card` describes: as `identity`, or anonymous without one. [SV-27] [SV-28]

    `deadline` (seconds) is for each member's handshake, connecting included. `rounds` is how often each member is
    tried, None for ever. `rng` decides orders and waits. Raises UsageError if the card does not admit anonymous
    clients and there is no identity, or if the identity is that of a member.
    """

    def __init__(
        self,
        card: VerifiedClusterCard,
        identity: LocalIdentity | None = None,
        *,
        deadline: float = HANDSHAKE_DEADLINE,
        rounds: int | None = 1,
        rng: random.Random | None = None,
    ) -> None:
        if identity is None and card.client_access is not ClientAccess.ANYONE:  # [SV-29]
            raise UsageError(
                f"the cluster {card.name!r} serves only clients that its roster lists: an identity is needed"
            )
        if identity is not None and identity.node_id in card.members:
            raise UsageError(f"{identity.name!r} is a member of the cluster {card.name!r}, not a client")
        if rounds is not None and rounds < 1:
            raise UsageError(f"{rounds} rounds: at least 1 expected, or None for as many as it takes")
        self.card = card
        self.identity = identity
        self.deadline = deadline
        self.rounds = rounds
        self._rng = rng or random.SystemRandom()

    async def open_stream(self, service: str, *, nursery: trio.Nursery, member: NodeID | None = None) -> SecureStream:
        """A stream to `service`, from the first member that answers, or from `member` and no other.

        Members are tried in random order, each once a round, with a back-off between rounds. A task in `nursery` sends
        the session's keepalives. That the stream is there does not mean that the service is: a member that does not
        have it, or is full, says so with an Error, which the stream's calls report, and no other member is asked.

        Raises NoMemberReachable after the last round, UsageError for a service name that no service can have and for
        a member that the card does not list.
        """
        if member is not None and member not in self.card.members:
            raise UsageError(f"no member of the cluster {self.card.name!r} has the NodeID {member}")
        candidates = [self.card.members[member]] if member is not None else list(self.card.members.values())
        backoff = Backoff(self._rng.uniform)
        rounds = 0
        while True:
            failures = []
            self._rng.shuffle(candidates)  # [SV-30] [SV-31]
            for candidate in candidates:
                try:
                    return await self._dial(candidate, service, nursery)  # [SV-35]
                except (HandshakeRefused, OSError) as exc:  # [SV-34]
                    failures.append(Failure(candidate.name, candidate.host, exc))
                    log.info("not reached: %s", failures[-1])
            rounds += 1
            if rounds == self.rounds:  # [SV-33]
                raise NoMemberReachable(self.card.name, failures)
            delay = backoff.next_delay()  # [SV-32]
            log.info("no member was reached; next round in %.1f s", delay)
            await trio.sleep(delay)

    async def _dial(self, member: VerifiedMember, service: str, nursery: trio.Nursery) -> SecureStream:
        intent = Intent(
            peer=member.card,  # [HS-1]
            cluster_id=self.card.cluster_id,
            role=Role.ANONYMOUS if self.identity is None else Role.CLIENT,
            service=service,
            identity=self.identity,
        )
        stream = await open_secure_stream(
            member.host, self.card.client_port, intent, deadline=self.deadline, keepalive_nursery=nursery
        )  # [SV-1] [SV-36]
        log.debug("%s at %s answered", member.name, member.host)
        if stream.established.epoch > self.card.epoch:  # [SV-37] [SV-38]
            log.warning(
                "the cluster card of %r is old: it has epoch %d, %s is at %d; ask for a new one",
                self.card.name,
                self.card.epoch,
                member.name,
                stream.established.epoch,
            )
        return stream


# ---- members -----------------------------------------------------------------


async def open_member_stream(
    identity: LocalIdentity,
    roster: VerifiedRoster,
    member: NodeID,
    service: str,
    *,
    nursery: trio.Nursery,
    deadline: float = HANDSHAKE_DEADLINE,
) -> SecureStream:
    """A stream from one member to `service` of another, over the cluster port: one try, within `deadline` seconds.

    A task in `nursery` sends the session's keepalives. Raises HandshakeRefused; OSError if there is no connection;
    UsageError if one of the two is not in `roster`, if they are the same, or for a service name that no service can
    have.
    """
    for node_id in (identity.node_id, member):
        if node_id not in roster.members:
            raise UsageError(
                f"no member of the cluster {roster.name!r}, epoch {roster.epoch}, has the NodeID {node_id}"
            )
    peer = roster.members[member]
    intent = Intent(
        peer=peer.card,  # [HS-1]
        cluster_id=roster.cluster_id,
        role=Role.MEMBER,
        service=service,
        identity=identity,
        knock=roster.knock,
    )
    with trio.move_on_after(deadline):
        return await open_secure_stream(
            peer.host,
            roster.cluster_port,
            intent,
            local_address=await source_address(roster.members[identity.node_id].host, peer.host),
            deadline=deadline,
            keepalive_nursery=nursery,
        )
    raise HandshakeRefused(RefusalReason.DEADLINE)


async def source_address(own_host: str, peer_host: str) -> str | None:
    """The address to dial a member from, so that its source address check knows us; None if the system may choose.

    It is an address of our own host, of this machine, and of the family of the peer's. A loopback address is used
    towards loopback addresses only: some systems have their own name at one. Raises OSError if the peer's host is a
    name that cannot be resolved.
    """
    try:
        own = await _addresses(own_host)
    except OSError as exc:
        log.debug("our own host %s cannot be resolved: %s", own_host, reason(exc))
        own = []
    for peer in await _addresses(peer_host):
        for address in own:
            fits = address.version == peer.version and (peer.is_loopback or not address.is_loopback)
            if fits and _is_local(address):  # [HS-71]
                return str(address)
    return None


async def _addresses(host: str) -> list[Address]:
    parsed = parse_host(host)
    if not isinstance(parsed, DNSName):
        return [parsed]
    found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [normalize(str(sockaddr[0])) for *_, sockaddr in found]


def _is_local(address: Address) -> bool:
    """Whether it is an address of this machine: only such a one can be bound."""
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((str(address), 0))
    except OSError:
        return False
    return True
