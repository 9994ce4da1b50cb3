"""A member's two ports before and behind the handshake: who is let in at all, what counts, and what is given back.

The invariants:
- A new connection goes on if and only if it is from where the gate admits, and within every limit of its port; any
  other is closed at once, without a byte, and counts for nothing. [HS-23] [HS-24] [HS-64] to [HS-75] [HS-80]
- A place among the handshakes is given back at ESTABLISHED, and with the connection; one among the connections with the
  connection; a token never, but in time.
- A handshake that is not ESTABLISHED ends in silence its deadline after accept, whatever came meanwhile. [HS-77]
- Another roster ends, in silence and at once, every handshake that it does not admit, on both ports, and no other; the
  gate goes by it, and for a time by the one before. [RO-56] [HS-67]
- Nothing that comes over a connection ends the port.

What has to happen says `port_model`.
"""

import functools
import math
from collections.abc import Sized
from ipaddress import IPv4Address

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from xlattice_trio.fuzz.hellos import pick
from xlattice_trio.fuzz.memory_port import FAIL, LEAVE
from xlattice_trio.fuzz.port_model import (
    COMERS,
    HOSTS,
    NAME,
    NAMED,
    OF_MEMBERS,
    SOURCES,
    TICK,
    Line,
    Listing,
    PortModel,
    address_of,
    source_of,
    specified,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.session_model import BYE, CONFIRM, DATA, ERROR, REKEY, error_codes, limit
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.net.listen import CLUSTER_PORT_LIMITS, PortLimits, Slots
from xlattice_trio.testing.toolbox import error_payload

_NUMBER = st.integers(0, 1 << 16)
_PORT = st.sampled_from((Port.CLIENT, Port.CLUSTER))
_SOURCE = st.sampled_from((*SOURCES, *OF_MEMBERS[:3], *(first for first, _ in HOSTS), "127.0.0.1", "::1"))
_COUNT = st.sampled_from((1, 2, 3, 5))  # enough for any limit per source, but those of the specification
_OF_HOSTS = ("member", "move", "name")
_CHANGES = ("access", "access", "client", *_OF_HOSTS, "responder", "responder", "nothing")
# What a connection begins with, beside a Hello.
_BAD = ("no Hello", "another protocol", "the header of a record", "the end", "a break")
_ENDS = ("close", "break", "Bye", "Bye, and stay", "Error", "it leaves", "it fails", "a violation")
_UNTIL = ("a part", "Hello", "Hello, and no room", "Confirm")


class PortMachine(PortModel):
    """What an attacker does to a member's two ports, from many addresses."""

    # ---- connections ----

    def one_source(self, text: str, count: int) -> list[str]:
        """So many addresses that are one source, this one first."""
        same = [other for other in SOURCES if source_of(address_of(other)) == source_of(address_of(text))]
        at = same.index(text)
        return [pick(at + i, *same) for i in range(count if self.configured else 21)]

    @rule(port=_PORT, source=_SOURCE, count=_COUNT, said=st.integers(0, 7))
    def come(self, port: Port, source: str, count: int, said: int) -> None:
        """Connections from one source, which say nothing, or begin with something that may become a Hello."""
        for text in self.one_source(source, count):
            line = self.open(port, text)
            if line is not None and said:
                line.wire.send(b"\1\0\x08\xa4\0\2\1"[:said])
        self.others_go_on()

    @rule(port=_PORT, source=_SOURCE, count=_COUNT, what=st.sampled_from(_BAD))
    def come_wrongly(self, port: Port, source: str, count: int, what: str) -> None:
        """Connections that end at once: each gives its place back, and not its token."""
        for text in self.one_source(source, count):
            line = self.open(port, text)
            if line is None:
                continue
            if what in ("the end", "a break"):
                self.leave(line, reset=what == "a break")
                continue
            line.wire.send(pick(_BAD.index(what), bytes(4), b"GET / HTTP/1.1\r\n\r\n", b"\3\0\0\x11" + bytes(17)))
            self.gone(line, f"{what} is not refused at once [HS-19] [HS-25]")

    @rule(port=_PORT, source=_SOURCE, count=_COUNT)
    def come_and_be_gone(self, port: Port, source: str, count: int) -> None:
        """Connections that have broken when they are looked at, so that nobody knows from where they were."""
        for _ in range(count):
            wire = self.ports.connect(port, source, gone=True)
            assert wire.closed, "a connection that has broken is kept [HS-79]"

    @rule(port=_PORT, number=_NUMBER)
    def spend(self, port: Port, number: int) -> None:
        """All tokens of a source, by connections that go again; the next one is one too many. [HS-73]"""
        source = self.somewhere(port, number)
        for _ in range(0 if source is None else 9 if self.configured else 22):
            self.make_room(port)
            if (line := self.open(port, source or "")) is None:
                return
            self.leave(line)

    @rule(port=_PORT, which=st.sampled_from(("all", "members")), stay=st.booleans())
    def come_from_everywhere(self, port: Port, which: str, stay: bool) -> None:
        """One connection from each source; those that are let in go again, or stay, and the port is full then."""
        check_defaults()
        check_what_is_kept()
        for source in self.turn_away(port, SOURCES if which == "all" else OF_MEMBERS):
            if not stay:
                self.make_room(port)
            line = self.open(port, source)
            if line is not None and not stay:
                self.leave(line)

    @rule(number=_NUMBER, count=st.sampled_from((1, 2, 8)), reset=st.booleans())
    def go(self, number: int, count: int, reset: bool) -> None:
        """The attacker ends connections, whatever their states."""
        for _ in range(min(count, len(self.lines))):
            self.leave(pick(number, *self.lines), reset=reset)

    # ---- handshakes and sessions ----

    def open_somewhere(self, port: Port, number: int) -> Line | None:
        """A new connection from wherever it may come; room is made for it if there is none."""
        self.make_room(port, number)
        for _ in range(3):
            text = self.somewhere(port, number)
            if text is not None:
                return self.open(port, text)
            self.wait(1 / self.limits[port].rate)
        return None

    def confirm(self, line: Line) -> None:
        """The right Confirm: it is established, unless it is not admitted any more."""
        assert line.peer is not None
        line.wire.send(line.peer.record(CONFIRM))
        if not self.listing.admits(line.who):
            self.gone(line, "established, and the roster in force does not admit it [HS-58]")
            return
        assert len(line.wire.streams) == 1, f"the service was called {len(line.wire.streams)} times [SV-2]"
        line.state, line.ends_at = "OPEN", math.inf
        line.wire.send(line.peer.record(DATA, b"some data"))
        self.check_said(line, (DATA, b"some data"))

    def check_said(self, line: Line, *expected: tuple[int, bytes]) -> None:
        """What the target has said on a session; of an Error its code counts."""
        assert line.peer is not None
        found = [one for one in line.peer.feed(line.wire.received()) if one[0] != REKEY]  # its key may be an hour old
        records = [(type_, said[:2] if type_ == ERROR else said) for type_, said in found]
        assert records == list(expected), f"{records} where {expected} is due"

    def shake(self, port: Port, who: int, until: str, number: int) -> Line | None:
        """Another handshake, from wherever it may come."""
        line = self.open_somewhere(port, number)
        if line is None:
            return None
        if until == "Hello, and no room":
            line.wire.stop_taking(number % 1000)
            line.is_stuck = True
        self.begin_hello(line, pick(who, *COMERS[port]), number if until == "a part" else None)
        if until == "Confirm" and line in self.lines:
            self.confirm(line)
        return line

    @rule(
        port=_PORT,
        who=st.lists(st.integers(0, 2), min_size=1, max_size=5),
        until=st.sampled_from(_UNTIL),
        number=_NUMBER,
    )
    def shake_hands(self, port: Port, who: list[int], until: str, number: int) -> None:
        """Handshakes, side by side."""
        for one in who:
            self.shake(port, one, until, number)
        self.others_go_on()

    @rule(number=_NUMBER, count=st.sampled_from((1, 2, 8)))
    def go_on(self, number: int, count: int) -> None:
        """Handshakes go on with what comes next in them."""
        for _ in range(count):
            lines = [line for line in self.lines if line.unsent or (line.state == "AWAIT_CONFIRM" and line.peer)]
            if not lines:
                return
            line = pick(number, *lines)
            if line.unsent:
                line.wire.send(line.unsent)
                line.unsent = b""
                self.hello_is_whole(line)
            else:
                self.confirm(line)
            self.others_go_on()

    @rule(port=_PORT, who=st.integers(0, 2), ends=st.lists(st.sampled_from(_ENDS), min_size=1, max_size=4))
    def meet_and_part(self, port: Port, who: int, ends: list[str]) -> None:
        """Sessions, which end in this way and in that: each has its place until the connection is closed."""
        for number, end in enumerate(ends):
            line = self.shake(port, who, "Confirm", number)
            if line is not None and line in self.lines:
                self.part(line, end)

    @rule(number=_NUMBER, end=st.sampled_from(_ENDS))
    def part_with_one(self, number: int, end: str) -> None:
        """One of the sessions ends."""
        lines = [line for line in self.lines if line.state == "OPEN"]
        if lines:
            self.part(pick(number, *lines), end)

    def part(self, line: Line, end: str) -> None:
        """A session ends."""
        assert line.peer is not None
        records = {
            "Bye": (BYE, b""),
            "Bye, and stay": (BYE, b""),
            "Error": (ERROR, error_payload(5)),
            "it leaves": (DATA, LEAVE),
            "it fails": (DATA, FAIL),
            "a violation": (7, b""),
        }
        if end not in records:
            self.leave(line, reset=end == "break")
            return
        line.wire.send(line.peer.record(*records[end]))
        if end == "Error":
            self.gone(line, "an Error has come, and the connection is not closed [SE-58]")
            return
        codes = {"it fails": "internal", "a violation": "protocol_violation"}
        if end in codes:
            self.check_said(line, (ERROR, error_codes()[codes[end]].to_bytes(2, "big")))
        else:
            self.check_said(line, (BYE, b""))
        line.state = "LEAVING"
        line.ends_at = self.clock + limit("ERROR_LINGER" if end in codes else "BYE_LINGER")
        if end == "Bye":
            self.leave(line)

    # ---- time ----

    @rule(ticks=st.sampled_from((1, 2, 4, 8, 20, 60)))
    def pass_time(self, ticks: int) -> None:
        """A little time."""
        self.wait(ticks * TICK)

    @rule(what=st.sampled_from(("deadline", "token")), before=st.booleans(), number=_NUMBER)
    def pass_to(self, what: str, before: bool, number: int) -> None:
        """Until the very moment at which something is to happen, or just before it; and a look at what it is about."""
        port, source = pick(number, *Port), ""
        times = [line.ends_at for line in self.lines if line.ends_at < self.clock + 60]
        if what == "token":
            times = []
            for (at, key), (tokens, since, text) in self.buckets.items():
                if self.tokens(at, key) < 1:
                    times.append(since + (1 - tokens) / self.limits[at].rate)
                    port, source = at, text
        if not times:
            return
        until = times[-1] if what == "token" else min(times)
        left = until - self.clock - (TICK if before else 0)
        if left > 0:
            self.wait(left)
        if source:
            self.make_room(port)
            self.open(port, source)

    @rule(port=_PORT, who=st.integers(0, 2), number=_NUMBER)
    def dawdle(self, port: Port, who: int, number: int) -> None:
        """Bytes come all the time, and the handshake is not done: they do not extend the deadline. [HS-77]"""
        line = self.shake(port, who, "a part", number % 2000)
        if line is None:
            return
        for size in (1, 2, 3):
            self.wait((self.deadline - 1) / 3)
            line.wire.send(line.unsent[:size])
            line.unsent = line.unsent[size:]
        self.wait(line.ends_at - self.clock)

    # ---- rosters, and where the port is ----

    @rule(
        change=st.sampled_from(_CHANGES),
        number=_NUMBER,
        port=_PORT,
        first=st.lists(st.sampled_from(_UNTIL[:3]), min_size=2, max_size=5),
        back=st.booleans(),
    )
    def adopt(self, change: str, number: int, port: Port, first: list[str], back: bool) -> None:
        """Another roster, while handshakes are in progress; perhaps the former one again, under a higher epoch."""
        for who, until in enumerate(first):
            self.shake(port, number + who, until, number + who)
        held = self.listing
        for listing in (self.changed(change, number), *([held] if back else [])):
            self.put_in_force(attrs.evolve(listing, epoch=self.listing.epoch + 1))
        if self.listing.places[-1] is None:
            self.put_in_force(attrs.evolve(held, epoch=self.listing.epoch + 1))

    @precondition(lambda self: self.check_source)
    @rule(change=st.sampled_from(_OF_HOSTS), number=_NUMBER, after=st.sampled_from((0, 8, 80)))
    def outlive_a_host(self, change: str, number: int, after: int) -> None:
        """The hosts of the roster before count for a time, and not a moment longer. [HS-67]"""
        self.adopt(change, number, Port.CLUSTER, [], False)
        if after:
            self.adopt(change, number + 1, Port.CLUSTER, [], False)
            self.wait(after * TICK)
        for until in (self.clock, self.before_until - TICK, self.before_until):
            self.wait(until - self.clock)
            self.come_from_everywhere(Port.CLUSTER, "members", False)

    def changed(self, change: str, number: int) -> Listing:
        """The roster in force with something else in it."""
        held, places = self.listing, list(self.listing.places)
        one = number % 3
        match change:
            case "access":
                return attrs.evolve(held, anyone=not held.anyone)
            case "client":
                return attrs.evolve(held, clients=tuple(x ^ (i == number % 2) for i, x in enumerate(held.clients)))
            case "member":
                places[one] = number // 3 % 2 if places[one] is None else None
            case "move":
                one = number % len(places)
                places[one] = 1 - (places[one] or 0)
            case "name":
                if NAME not in (*held.hosts().values(), *self.before.hosts().values()) and number % 4:
                    self.ports.names[NAME] = pick(number % 4, NAMED, NAMED[:1], NAMED[1:], NAMED)
                places[HOSTS.index(("127.0.0.9", NAME))] = 1
            case "responder":
                places[-1] = None
        if not any(place is not None for place in places):
            places[0] = 0  # a roster has a member
        return attrs.evolve(held, places=tuple(places))

    @precondition(lambda self: self.resolves)
    @rule(to=st.lists(st.sampled_from((NAMED[:1], NAMED[1:], NAMED, ())), min_size=1, max_size=3), number=_NUMBER)
    def move_a_name(self, to: list[tuple[str, ...]], number: int) -> None:
        """A name has other addresses, or cannot be resolved: nobody asks while connections come, and about every minute
        somebody does. [HS-68] [HS-69] [HS-70]"""
        self.adopt("name", number, Port.CLUSTER, [], False)
        for addresses in to:
            self.ports.names[NAME] = addresses
            self.turn_away(Port.CLUSTER, NAMED)
            self.wait(75)
            self.resolved()
            self.come_from_everywhere(Port.CLUSTER, "members", False)
        self.ports.names[NAME] = self.named  # or it may be forgotten with its host, of which nothing is said

    @precondition(lambda self: self.configured)
    @rule(port=_PORT)
    def listen_anew(self, port: Port) -> None:
        """The port is closed and opened again, in another place: its connections go on, and count. [RO-57]"""
        self.ports.listen_anew(port)
        self.others_go_on()


# ---- once per process --------------------------------------------------------


@functools.cache
def check_what_is_kept() -> None:
    """What is kept about sources is bounded, and what still says something is kept. [HS-73] [HS-75]"""
    slots = Slots(PortLimits(rate=8, burst=4))
    spent, most, now = (4, 1), 0, 1000.0

    def come(number: int) -> bool:
        source = slots.source_of(IPv4Address(number))
        if slots.refusal(source, now) is not None:
            return False
        slots.enter(source, now).leave()
        return True

    for number in range(6000):
        now += TICK
        assert come(2**31 + number), "a source that never came before is refused [HS-72]"
        most = max(most, sum(len(value) for value in vars(slots).values() if isinstance(value, Sized)))
    assert most < 3000, f"{most} things are kept about sources of which all but one say nothing [HS-75]"
    assert [come(spent[1]) for _ in range(5)] == [True] * 4 + [False], "a burst of 4 is not one of 4 [HS-73]"
    for number in range(3000):
        come(2**30 + number)
    assert not come(spent[1]), "the tokens of a source come back when others come [HS-73]"


@functools.cache
def check_defaults() -> None:
    """The limits are those of the specification, if nothing else was configured. [HS-72]"""
    for given, prefix in ((PortLimits(), ""), (CLUSTER_PORT_LIMITS, "CLUSTER_")):
        assert given == specified(prefix), f"{given}, {specified(prefix)} by Spec 5.13 [HS-72]"


PORT = MachineInfo(
    "port",
    "a port lets in whom its gate and its limits let in, gives back every place, and outlives whatever comes",
    PortMachine,
    drivers=("memory",),
)
MACHINES = (PORT,)
