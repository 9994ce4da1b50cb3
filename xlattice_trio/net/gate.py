"""The source address check of the cluster port: whom it is worth listening to. Spec 5.12.

The gate saves work and authenticates nothing. It answers from what it knows, at once; names are resolved by a task of
its owner's (`run`), never while a connection waits.
"""

import logging
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

import attrs
import trio

from xlattice_trio.identity.host import DNSName, parse_host
from xlattice_trio.limits import CK_GRACE
from xlattice_trio.roster import VerifiedRoster

log = logging.getLogger(__name__)

Address = IPv4Address | IPv6Address

RESOLVE_INTERVAL = 60  # seconds [HS-70]


def normalize(address: str) -> Address:
    """The address that a socket's peer has: without its zone, and IPv4 if it is IPv4-mapped. [HS-66]

    Raises ValueError if it is none.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


@attrs.frozen
class _Earlier:
    """The roster that was replaced, and until when its hosts still count (seconds of Trio's clock)."""

    roster: VerifiedRoster
    until: float


class SourceGate:
    """Which remote addresses may talk to the cluster port: those of the members' hosts.

    `grace` (seconds) is how long the hosts of the roster before still count, less the members that are gone.
    """

    def __init__(self, roster: VerifiedRoster, *, grace: float = CK_GRACE) -> None:
        self._roster = roster
        self._grace = grace
        self._earlier: _Earlier | None = None  # [HS-82]
        self._resolved: dict[str, frozenset[Address]] = {}
        self._admitted: frozenset[Address] | None = None  # None: to be put together anew
        self._changed = trio.Event()

    def adopt(self, roster: VerifiedRoster) -> None:
        """A new roster is in force."""
        self._earlier = _Earlier(self._roster, trio.current_time() + self._grace)
        self._roster = roster
        self._admitted = None
        self._changed.set()

    def admits(self, address: Address) -> bool:
        """Whether a connection from `address` (as `normalize` gives it) is looked at. [HS-67]"""
        self._forget_earlier()
        if self._admitted is None:
            self._admitted = frozenset(self._addresses())
        return address in self._admitted

    async def run(self) -> None:
        """Resolve the names among the hosts, again and again. Runs until it is cancelled. [HS-69] [HS-70]"""
        while True:
            self._changed = trio.Event()
            self._forget_earlier()
            names = {host.name for host in self._hosts() if isinstance(host, DNSName)}
            for name in self._resolved.keys() - names:
                del self._resolved[name]
            async with trio.open_nursery() as nursery:
                for name in names:
                    nursery.start_soon(self._resolve, name)
            with trio.move_on_after(RESOLVE_INTERVAL):
                await self._changed.wait()

    def _forget_earlier(self) -> None:
        if self._earlier is not None and trio.current_time() >= self._earlier.until:
            self._earlier = self._admitted = None

    def _hosts(self) -> Iterator[Address | DNSName]:
        for member in self._roster.members.values():
            yield parse_host(member.host)
        if self._earlier is not None:
            for member in self._earlier.roster.members.values():
                if member.node_id in self._roster.members:
                    yield parse_host(member.host)

    def _addresses(self) -> Iterator[Address]:
        for host in self._hosts():
            if isinstance(host, DNSName):
                yield from self._resolved.get(host.name, ())  # [HS-68]
            else:
                yield host

    async def _resolve(self, name: str) -> None:
        try:
            found = await trio.socket.getaddrinfo(name, None, type=trio.socket.SOCK_STREAM)
        except OSError as exc:
            log.warning("the host %s cannot be resolved (%s); its last known addresses stay", name, exc)
            return
        addresses = frozenset(normalize(str(sockaddr[0])) for *_, sockaddr in found)
        if addresses != self._resolved.get(name):
            log.info("the host %s is at %s", name, ", ".join(map(str, sorted(addresses, key=str))))
        self._resolved[name] = addresses
        self._admitted = None
