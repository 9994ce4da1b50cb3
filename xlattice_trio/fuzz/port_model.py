"""What a member's two ports have to do, as the machine for them knows it: who is let in, what counts, and until when.

`PortModel` makes connections, lets time pass and rosters come, and holds what comes of it against what is due; the
rules are in `machines.ports`. It counts its own connections and tokens, and asks the node nothing. Times are multiples
of an eighth of a second and rates are powers of two, so that all of it is exact.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.hellos import pick
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.memory_port import Ports, PortWire
from xlattice_trio.fuzz.oracle import REPLY_SIZE
from xlattice_trio.fuzz.session_model import limit
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.net.listen import PortLimits
from xlattice_trio.roster import VerifiedRoster, make_roster, verify_roster
from xlattice_trio.testing.identities import test_authority
from xlattice_trio.testing.toolbox import Attacker, RawPeer
from xlattice_trio.wire.messages import ClientAccess, Member, Purpose, Role

TICK = 0.125  # seconds
NAME = "node.example"
# Two hosts of each member, of which its place in a roster is one; the responder is the last.
HOSTS = (
    ("192.0.2.2", "192.0.2.12"),
    ("2001:db8:0:1::2", "2001:db8:0:2::12"),
    ("127.0.0.9", NAME),
    ("192.0.2.1", "fe80::1"),
)
NAMED = ("192.0.2.77", "2001:db8:0:7::7")  # what the name may mean
OF_MEMBERS = ("::ffff:192.0.2.2", "fe80::1%eth0", *(host for both in HOSTS for host in both if host != NAME), *NAMED)
SOURCES = (
    *OF_MEMBERS,
    *("2001:db8:0:1::3", "2001:db8:0:1:8000::2", "2001:db8:0:2:ffff:ffff:ffff:ffff", "2001:db8:0:8001::2"),
    *("198.51.100.7", "::ffff:198.51.100.7", "198.51.100.8", "fe80::1%25", "fe80::2"),
    *("127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1", "128.0.0.1", "::7f00:1"),
)
LIMITS: Mapping[str, PortLimits | None] = {
    "usual": PortLimits(4, 2, 6, 2, 3),  # handshakes, per source, connections, rate, burst
    "few tokens": PortLimits(6, 4, 8, 0.5, 2),
    "few handshakes": PortLimits(3, 2, 6, 64, 64),
    "few connections": PortLimits(5, 4, 3, 8, 8),
    "of the specification": None,
}
COMERS = {Port.CLUSTER: ("member 0", "member 1", "member 2"), Port.CLIENT: ("anonymous", "anonymous", "client 0")}
Address = tuple[int, int]  # version, and the number
Source = tuple[int, int]  # version, and the number or its first 64 bits


@functools.cache
def address_of(text: str) -> Address:
    """The remote address as it is compared. [HS-66]"""
    ip = ip_address(text.partition("%")[0])
    number = int(ip)
    if ip.version == 6 and number >> 32 == 0xFFFF:
        return 4, number & 0xFFFF_FFFF
    return ip.version, number


def source_of(address: Address) -> Source:
    """What counts as one source. Spec 5.13."""
    version, number = address
    return (version, number) if version == 4 else (version, number >> 64)


def is_loopback(address: Address) -> bool:
    """Spec 5.13. [HS-80]"""
    version, number = address
    return number >> 24 == 127 if version == 4 else number == 1


# ---- rosters, and who comes --------------------------------------------------


@attrs.frozen
class Listing:
    """What a roster says. `places` are the numbers of the members' hosts; None: is not in it."""

    epoch: int = 1
    places: tuple[int | None, ...] = (0, 0, 0, 0)
    clients: tuple[bool, ...] = (True, True)
    anyone: bool = True

    def admits(self, who: str) -> bool:
        """Whether it admits a handshake of one of COMERS."""
        kind, _, number = who.partition(" ")
        if kind == "anonymous":
            return self.anyone
        return self.places[int(number)] is not None if kind == "member" else self.clients[int(number)]

    def hosts(self) -> dict[int, str]:
        """The hosts of those who are in it."""
        return {i: HOSTS[i][place] for i, place in enumerate(self.places) if place is not None}


@functools.lru_cache(512)
def roster_of(listing: Listing) -> VerifiedRoster:
    """The roster that says this."""
    cast = make_cast(4, 2)
    assert cast.roster is not None
    assert cast.responder is not None
    members = (*cast.members, cast.responder)
    return verify_roster(
        make_roster(
            test_authority(),
            name=cast.roster.name,
            epoch=listing.epoch,
            cluster_port=cast.roster.cluster_port,
            client_port=cast.roster.client_port,
            knock=cast.roster.knock,
            client_access=ClientAccess.ANYONE if listing.anyone else ClientAccess.LISTED,
            members=[Member(members[i].card.card, host) for i, host in listing.hosts().items()],
            clients=[one.card.card for one, listed in zip(cast.clients, listing.clients, strict=True) if listed],
        )
    )


@functools.cache
def _cast() -> Cast:
    return attrs.evolve(make_cast(4, 2), roster=roster_of(Listing()))


@functools.cache
def hello_of(port: Port, who: str, number: int) -> tuple[Attacker, bytes]:
    """The Hello of that number of one of COMERS, and the attacker who has made it: the same in every example."""
    cast, attacker = _cast(), Attacker(f"{port} {who} {number}")
    kind, _, index = who.partition(" ")
    role = {"member": Role.MEMBER, "client": Role.CLIENT, "anonymous": Role.ANONYMOUS}[kind]
    as_ = {"member": cast.members, "client": cast.clients}[kind][int(index)] if index else None
    made = attacker.hello(cast.destination(port), role=role, purpose=Purpose.STREAM, service=b"echo", as_=as_)
    return attacker, made.frame


@attrs.define(eq=False)
class Line:
    """One connection that was let in. `ends_at` is when the target closes it, if nothing happens before.

    `state` is AWAIT_HELLO, AWAIT_CONFIRM, OPEN, or LEAVING when the session is over and the connection not yet.
    """

    wire: PortWire
    port: Port
    address: Address
    ends_at: float
    listings: list[Listing]  # those in force since it was accepted, until its Hello was whole
    state: str = "AWAIT_HELLO"
    who: str = ""
    hello: tuple[Attacker, bytes] | None = None
    unsent: bytes = b""
    is_stuck: bool = False  # its HelloReply is not taken
    peer: RawPeer | None = None

    @property
    def in_handshake(self) -> bool:
        return self.state.startswith("AWAIT")


@functools.cache
def specified(prefix: str) -> PortLimits:
    """The limits of the specification; the prefix says of which rate and burst."""
    names = ("HANDSHAKES_MAX", "HANDSHAKES_PER_SOURCE", "CONNECTIONS_MAX")
    handshakes, per_source, connections = map(limit, names)
    rate, burst = limit(f"{prefix}SOURCE_RATE"), limit(f"{prefix}SOURCE_BURST")
    return PortLimits(handshakes, per_source, connections, rate, burst)


# ---- the model ---------------------------------------------------------------


class PortModel(TargetMachine):
    """Both ports of a member, and all connections to them."""

    @initialize(
        limits=st.sampled_from(tuple(LIMITS)),
        loopback=st.booleans(),
        deadline=st.sampled_from((None, None, 3.0, 30.0)),
        check_source=st.sampled_from((True, True, True, False)),
        grace=st.sampled_from((16.0, None, 16.0)),
    )
    def start(
        self, limits: str, loopback: bool, deadline: float | None, check_source: bool, grace: float | None
    ) -> None:
        """A member opens its ports. With a short time of grace, its gate resolves names as well."""
        world: Any = self.driver
        given, self.check_source = LIMITS[limits], check_source
        given = None if given is None else attrs.evolve(given, limit_loopback=loopback)
        self.ports: Ports = world.ports(
            _cast(), limits=given, deadline=deadline, check_source=check_source, grace=grace
        )
        self.limits = {port: given or specified("") for port in Port}
        if given is None and check_source:
            self.limits[Port.CLUSTER] = specified("CLUSTER_")
        self.configured = given is not None
        self.deadline = limit("HANDSHAKE_DEADLINE") if deadline is None else deadline
        self.grace = limit("CK_GRACE") if grace is None else grace
        self.resolves = check_source and grace is not None
        if self.resolves:
            self.ports.resolve_names()
        self.named: tuple[str, ...] = ()  # by the last resolution that succeeded
        self.clock = 0.0
        self.listing, self.before, self.before_until = Listing(), Listing(), 0.0
        self.lines: list[Line] = []
        self.buckets: dict[tuple[Port, Source], tuple[float, float, str]] = {}  # tokens, when, and who
        self.said: dict[tuple[Port, str], int] = {}  # Hellos

    # ---- what is due ----

    def at(self, port: Port, *, handshakes: bool = False, source: Source | None = None) -> int:
        """How many connections a port has; only those in the handshake, or of one source, for which limits hold."""
        return sum(
            line.port is port
            and (line.in_handshake or not handshakes)
            and (source is None or (source_of(line.address) == source and self.is_limited(port, line.address)))
            for line in self.lines
        )

    def tokens(self, port: Port, source: Source) -> float:
        """What is in a bucket now. [HS-73]"""
        limits = self.limits[port]
        tokens, since, _ = self.buckets.get((port, source), (limits.burst, self.clock, ""))
        return min(limits.burst, tokens + (self.clock - since) * limits.rate)

    def is_limited(self, port: Port, address: Address) -> bool:
        """Whether the limits per source hold. [HS-80]"""
        return self.limits[port].limit_loopback or not is_loopback(address)

    def hosts(self) -> set[str]:
        """The hosts that count: of the roster in force, and for a time of the one before. [HS-67]"""
        now, before = self.listing.hosts(), self.before.hosts() if self.clock < self.before_until else {}
        return {*now.values(), *(host for i, host in before.items() if i in now)}

    def members(self) -> set[Address]:
        """Whom the gate admits. [HS-67] [HS-68]"""
        return {address_of(text) for host in self.hosts() for text in (self.named if host == NAME else (host,))}

    def is_full(self, port: Port) -> str | None:
        """Why a port takes no connection at all. [HS-72]"""
        limits = self.limits[port]
        if self.at(port) >= limits.connections:
            return f"the port has {limits.connections} connections [HS-24] [HS-72]"
        if self.at(port, handshakes=True) >= limits.handshakes:
            return f"{limits.handshakes} handshakes are in progress [HS-24] [HS-72]"
        return None

    def is_unwanted(self, port: Port, address: Address) -> str | None:
        """Why it takes none from there. [HS-65]"""
        if port is Port.CLUSTER and self.check_source and address not in self.members():
            return "it is from no member's host [HS-23] [HS-64] [HS-66] [HS-67]"
        if not self.is_limited(port, address):
            return None
        limits, source = self.limits[port], source_of(address)
        if self.at(port, handshakes=True, source=source) >= limits.handshakes_per_source:
            return f"{limits.handshakes_per_source} handshakes of its source are in progress [HS-72]"
        if self.tokens(port, source) < 1:
            return f"its source has {self.tokens(port, source):g} tokens [HS-72] [HS-73]"
        return None

    # ---- connections ----

    def open(self, port: Port, text: str) -> Line | None:
        """A new connection; None if it had to be closed."""
        address = address_of(text)
        why = self.is_unwanted(port, address) or self.is_full(port)
        wire = self.ports.connect(port, text)
        if why is not None:
            self.turned_away(wire, port, text, why)
            return None
        assert not wire.closed, f"{text} is closed on the {port.value} port, and is above no limit [HS-72] [HS-74]"
        if self.is_limited(port, address):
            source = source_of(address)
            self.buckets[port, source] = (self.tokens(port, source) - 1, self.clock, text)
        line = Line(wire, port, address, self.clock + self.deadline, [self.listing])
        self.lines.append(line)
        return line

    def turned_away(self, wire: PortWire, port: Port, text: str, why: str) -> None:
        """A new connection that is closed at once. [HS-23] [HS-72]"""
        assert wire.closed, f"{text} is let in on the {port.value} port, though {why}"
        said = wire.received()
        assert not said, f"{len(said)} bytes to {text}, whom nobody wants [HS-4] [HS-72]"

    def turn_away(self, port: Port, sources: Sequence[str]) -> list[str]:
        """A new connection from each of them that is unwanted; those that are not."""
        unwanted = {text: why for text in sources if (why := self.is_unwanted(port, address_of(text))) is not None}
        for text, wire in zip(unwanted, self.ports.connect_all(port, [*unwanted]), strict=True):
            self.turned_away(wire, port, text, unwanted[text])
        return [text for text in sources if text not in unwanted]

    def somewhere(self, port: Port, number: int) -> str | None:
        """A source from where a connection may come, if the port is not full."""
        sources = (pick(number + i, *SOURCES) for i in range(len(SOURCES)))
        return next((text for text in sources if self.is_unwanted(port, address_of(text)) is None), None)

    def make_room(self, port: Port, number: int = 0) -> None:
        """The oldest connections to a port go, if it takes no more, whoever comes."""
        limits = self.limits[port]
        if self.is_full(port) is not None and (text := self.somewhere(port, number)) is not None:
            self.open(port, text)
        while self.at(port, handshakes=True) >= limits.handshakes:
            self.leave(next(line for line in self.lines if line.port is port and line.in_handshake))
        while self.at(port) >= limits.connections:
            self.leave(next(line for line in self.lines if line.port is port))

    def leave(self, line: Line, *, reset: bool = False) -> None:
        """The attacker goes."""
        (line.wire.reset if reset else line.wire.close)()
        self.gone(line, "the attacker has gone, and the connection is not closed [HS-79]")

    def gone(self, line: Line, why: str) -> None:
        """The target has closed it, and has said nothing if it was in the handshake."""
        assert line.wire.closed, f"on the {line.port.value} port, in {line.state}: {why}"
        said = line.wire.received()
        assert not said or not line.in_handshake or line.is_stuck, f"{len(said)} bytes where silence is due [HS-19]"
        assert len(line.wire.streams) == (not line.in_handshake), "the service was called in the handshake [SV-2]"
        self.lines.remove(line)

    @invariant()
    def others_go_on(self) -> None:
        """Nothing happens on a connection on which nothing has to."""
        for line in getattr(self, "lines", ()):
            assert not line.wire.closed, (
                f"closed on the {line.port.value} port, in {line.state}, {line.ends_at - self.clock:g} s too early "
                "[HS-77] [RO-56] [RO-57]"
            )
            assert line.is_stuck or line.state == "LEAVING" or not line.wire.received(), f"bytes in {line.state}"

    # ---- the handshake ----

    def begin_hello(self, line: Line, who: str, size: int | None = None) -> None:
        """So many bytes of a Hello, or all of it."""
        number = self.said.get((line.port, who), 0)
        self.said[line.port, who] = number + (who != "anonymous")  # whose Hello may come twice
        line.who, line.hello = who, hello_of(line.port, who, number)
        _, frame = line.hello
        at = len(frame) if size is None else 1 + size % (len(frame) - 1)
        line.wire.send(frame[:at])
        line.unsent = frame[at:]
        if not line.unsent:
            self.hello_is_whole(line)

    def hello_is_whole(self, line: Line) -> None:
        """One of the rosters since accept decides: it is answered, or refused. [HS-22]"""
        verdicts = {listing.admits(line.who) for listing in line.listings}
        if verdicts == {False} or (len(verdicts) == 2 and line.wire.closed):
            self.gone(line, f"{line.who} is in no roster, and not refused [HS-35]")
            return
        assert not line.wire.closed, f"the Hello of {line.who} is refused, whom each roster admits [HS-22] [RO-56]"
        line.state = "AWAIT_CONFIRM"
        if line.is_stuck:
            return
        reply = line.wire.received()
        assert len(reply) == REPLY_SIZE, f"{len(reply)} bytes in answer to a Hello [HS-42]"
        assert line.hello is not None
        attacker, frame = line.hello
        line.peer = attacker.peer(Side.INITIATOR, frame, reply)
        assert line.peer is not None, "a HelloReply that does not open [HS-42]"

    # ---- time, and rosters ----

    def wait(self, seconds: float) -> None:
        """So much time passes, rounded up to ticks: what has to end by then has ended."""
        seconds = math.ceil(seconds / TICK) * TICK
        self.driver.pass_time(seconds)
        self.clock += seconds
        for line in list(self.lines):
            if line.ends_at <= self.clock:
                requirement = "[HS-77] [HS-83]" if line.in_handshake else "[SE-47] [SE-52]"
                self.gone(line, f"{self.clock - line.ends_at:g} s after its time is up it goes on {requirement}")
        self.others_go_on()

    def put_in_force(self, listing: Listing) -> None:
        """Another roster: all handshakes that it does not admit are gone at once, and nothing else. [RO-56]"""
        self.before, self.before_until = self.listing, self.clock + self.grace
        self.listing = listing
        assert self.ports.adopt(roster_of(listing)), "a roster of a higher epoch is not taken [RO-33]"
        self.resolved()
        for line in list(self.lines):
            if not line.in_handshake:
                continue
            if line.state == "AWAIT_HELLO":
                line.listings.append(listing)
            if listing.places[-1] is None or (line.state == "AWAIT_CONFIRM" and not listing.admits(line.who)):
                self.gone(line, "the new roster does not admit this handshake, which goes on [RO-56]")
        self.others_go_on()

    def resolved(self) -> None:
        """The names of the hosts that count were resolved, if they can be. [HS-68] [HS-70]"""
        if self.resolves and NAME in self.hosts() and self.ports.names.get(NAME):
            self.named = tuple(self.ports.names[NAME])
