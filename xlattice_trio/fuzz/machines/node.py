"""A whole member, with its ports, its links, its keys and its operator: what only comes of all of them together.

The invariants:
- A stream finds the service of its name on its port, which is told who came, or the refusal that is due. [SV-4] [SV-7]
  to [SV-13] [SV-19]
- Each port has its own limits; both have the node's deadlines and its keepalive. [HS-72] [HS-77] [SE-70] [SE-79]
- It listens where its roster says, and moves as that does; a place that is taken is tried again. [HS-81] [RO-68]
  to [RO-70]
- A roster in force ends what it does not admit, on both ports and on links, and nothing else, whether its operator
  brought it or a peer. [RO-55] to [RO-59] [LK-27] [LK-56]
- It accepts the ck of the roster, the one that is prepared, and for the time of grace the one before, and no other.
  [RO-49] to [RO-53] [HS-27]
- At most four transfers are written at a time, whoever asks. [LK-42]
- A node that stops accepts nothing, lets its sessions end in the time of grace, and ends the rest. [SV-22] to [SV-26]

What has to happen says `node_model`; `memory_node` is the world around `node.run_node`'s tasks.
"""

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from xlattice_trio.fuzz.cluster_cast import digest
from xlattice_trio.fuzz.hellos import pick
from xlattice_trio.fuzz.memory_port import FAIL, LEAVE
from xlattice_trio.fuzz.node_cast import HOSTS, LOWER, MEMBERS, PORT_NUMBERS, Listing, node_identity, roster_of
from xlattice_trio.fuzz.node_model import (
    ELSEWHERE,
    TAKES,
    TICK,
    Line,
    NodeModel,
    error,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.rogue import REQUEST, TRANSFER, message
from xlattice_trio.fuzz.session_model import BYE, CONFIRM, DATA, ERROR, KEEPALIVE, error_codes, limit
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.identity.storage import ROSTER_FILE
from xlattice_trio.testing.toolbox import error_payload
from xlattice_trio.wire.codec import encode

_NUMBER = st.integers(0, 1 << 16)
_PORT = st.sampled_from((Port.CLIENT, Port.CLUSTER))
_SERVICES = ("both", "members", "clients", "polite", "few", "Both", "both ", "none")
_COMERS = {
    Port.CLUSTER: tuple(f"member {number}" for number in (0, 5, 10, 1, 2, 7)),
    Port.CLIENT: ("anonymous", "client 0", "client 1"),
}
_ENDS = ("stay", "stay", "Bye", "it leaves", "it fails", "close")
_CHANGES = ("access", "client", "member", "node", "node", "place", "client port", "names", "both")
_WAITS = ("nothing", "a Hello", "a HelloReply")
THEN = ("nothing", "removal", "an offer", "removal on the link", "conflict", "conflict at once")


class NodeMachine(NodeModel):
    """What an attacker with everybody's keys, and an operator, do to a member."""

    @initialize(
        keepalive=st.sampled_from((60_000, 0, 3_600_000)),
        deadline=st.sampled_from((10.0, 4.0, 30.0)),
        write_deadline=st.sampled_from((300.0, 20.0, 7.0)),
        grace=st.sampled_from((5.0, 2.0, 12.0)),
        check_source=st.booleans(),
    )
    def start(self, keepalive: int, deadline: float, write_deadline: float, grace: float, check_source: bool) -> None:
        """The node starts."""
        self.make(keepalive, deadline, write_deadline, grace, check_source)

    def comer(self, port: Port, number: int) -> str:
        """Somebody whom the roster admits."""
        comers = [who for who in _COMERS[port] if self.listing.admits(who)]
        return pick(number, *comers) if comers else self.member(number)

    def member(self, number: int, most: int = MEMBERS) -> str:
        """A member that is in the roster, of those that come first."""
        present = sorted(one for one in self.listing.present if one < most)
        return f"member {pick(number, *present)}"

    def somebody(self, port: Port, number: int) -> tuple[Port, str]:
        """Who may come there, and where: at the cluster port, if nobody may come to the other."""
        who = self.comer(port, number)
        return (Port.CLUSTER if who.startswith("member") else port), who

    # ---- streams ----

    @rule(
        port=_PORT,
        number=_NUMBER,
        asked=st.lists(st.tuples(st.sampled_from(_SERVICES), st.sampled_from(_ENDS)), min_size=1, max_size=6),
    )
    def ask(self, port: Port, number: int, asked: list[tuple[str, str]]) -> None:
        """Streams for these services, which end in these ways."""
        for i, (service, end) in enumerate(asked):
            line = self.establish(*self.somebody(port, number + i), service)
            if line is None:
                continue
            if service != "polite":
                line.say((DATA, b"some data"))
                self.check_heard(line, (DATA, b"some data"))
            self.part(line, end)
        self.check_idle()

    def part(self, line: Line, end: str) -> None:
        """A session ends, or stays."""
        match end:
            case "close":
                self.leave(line)
            case "it leaves" | "it fails" if line.service == "polite":  # which does not look at what it reads
                return
            case "Bye":
                self.bye(line)
            case "it leaves":
                self.bye(line, (DATA, LEAVE))
            case "it fails":
                line.say((DATA, FAIL))
                self.refused(line, "internal", "[SV-19]")

    @rule(port=_PORT, number=_NUMBER, until=st.sampled_from(_WAITS), behind=st.booleans())
    def hold_still(self, port: Port, number: int, until: str, behind: bool) -> None:
        """A handshake in which nothing happens any more ends at its deadline, and not before."""
        port, who = self.somebody(port, number)
        line = self.shake(port, who, "both") if until == "a HelloReply" else self.connect(port, who)
        if until == "a Hello":
            line.wire.send(b"\1\0\x08")
        self.wait(self.deadline - TICK)
        if line.state == "CONFIRM" and behind:
            self.confirm(line)
            self.wait(1)
            return
        self.wait(TICK)

    @rule(port=_PORT, number=_NUMBER)
    def stall(self, port: Port, number: int) -> None:
        """What the service writes is not taken: the session goes on until the deadline of a write, and not for long
        behind it. [SE-68] [SE-70]"""
        line = self.establish(*self.somebody(port, number), "both")
        assert line is not None
        line.is_stalled = True
        line.wire.stop_taking(100)
        line.say(*[(DATA, bytes(50_000))] * 4)
        self.wait(self.write_deadline - TICK)
        assert not line.wire.closed, "a write that waits is given up too early [SE-70]"
        self.wait(TICK + limit("ERROR_LINGER") + 1)
        assert line.wire.closed, f"a write that waits is not given up behind {self.write_deadline} s [SE-70]"
        line.wire.close()
        self.lines.remove(line)

    @rule(port=_PORT, number=_NUMBER)
    def say_again(self, port: Port, number: int) -> None:
        """The same Hello on another connection. [HS-60]"""
        port, who = self.somebody(port, number)
        line = self.connect(port, who)
        frame = self.say_hello(line, "both", self.listing.ck)
        assert line.wire.received(), f"the Hello of {who} is refused [HS-22]"
        self.leave(line)
        again = self.connect(port, who)
        again.wire.send(frame)
        if who == "anonymous":
            assert again.wire.received(), "an anonymous Hello is in the replay cache [HS-62]"
            self.leave(again)
        else:
            self.gone(again, "a Hello is answered a second time [HS-60]")

    # ---- limits, and from where ----

    @rule(port=_PORT)
    def fill(self, port: Port) -> None:
        """A port is full, and the other one is not. [HS-72]"""
        who = self.member(0) if port is Port.CLUSTER else ""
        while len(self.accepted_by(port)) < TAKES[port]:
            self.connect(port, who)
        self.turned_away(port, self.source(port, who), f"there are {TAKES[port]} connections [HS-24] [HS-72]")
        other = Port.CLIENT if port is Port.CLUSTER else Port.CLUSTER
        self.leave(self.connect(other, self.member(0) if other is Port.CLUSTER else ""))
        for line in self.accepted_by(port):
            if line.state == "HELLO":
                self.leave(line)

    def turned_away(self, port: Port, source: str, why: str) -> None:
        """A connection that is closed at once."""
        wire = self.node.connect(*self.at[port], source)
        assert wire is not None, f"nobody listens on the {port.value} port [HS-81]"
        assert wire.closed, f"{source} is let in on the {port.value} port, though {why}"
        assert not wire.received(), f"{source} has got bytes on the {port.value} port, though {why}"

    @rule()
    def come_from_elsewhere(self) -> None:
        """Connections from no member's host: the cluster port has a gate, unless it was told to have none."""
        if self.check_source:
            for number in sorted({*range(MEMBERS)} - self.listing.present)[:1]:
                self.turned_away(Port.CLUSTER, self.listing.host(number), "it was removed [HS-67]")
            self.turned_away(Port.CLUSTER, ELSEWHERE, "it is from no member's host [HS-23] [HS-64]")
        else:
            self.leave(self.connect(Port.CLUSTER, source=ELSEWHERE))
        self.leave(self.connect(Port.CLIENT, source=ELSEWHERE))

    # ---- links ----

    def linked(self, number: int) -> Line:
        """A link with a member of a lower NodeID, that is or is made."""
        who = self.member(number, LOWER)
        for line in self.links():
            if line.who == who:
                return line
        made = self.establish(Port.CLUSTER, who, "")
        assert made is not None
        return made

    @rule(numbers=st.lists(st.integers(0, LOWER - 1), min_size=1, max_size=LOWER, unique=True))
    def link(self, numbers: list[int]) -> None:
        """Members with lower NodeIDs make links, and offer what the node has."""
        for number in numbers:
            self.offer_same(self.linked(number))

    def renew(self, line: Line) -> None:
        """Its peer makes another link: the node says Bye on this one, which goes on to its deadline. [LK-14] [LK-19]"""
        newer = self.establish(Port.CLUSTER, line.who, "")
        assert newer is not None
        if line not in self.lines:  # it has made room
            return
        self.check_heard(line, (BYE, b""))
        line.state, line.ends_at = "PARTED", self.clock + limit("LINK_BYE_DEADLINE")

    @rule(asks=st.integers(1, 2), first=st.lists(st.integers(0, LOWER - 1), min_size=1, max_size=3))
    def ask_for_rosters(self, asks: int, first: list[int]) -> None:
        """Everybody asks, and takes nothing for a while; then those who have got something take it, one after the
        other: no more than four transfers are on their way at any time. [LK-42] [LK-44]"""
        links = [self.linked(number) for number in sorted(one for one in self.listing.present if one < LOWER)]
        links = [line for line in links if line in self.lines]  # or it has made room
        for line in links:
            self.offer_same(line)
            line.wire.stop_taking(40)
            line.say(*[(DATA, message(REQUEST))] * asks)
        taking: list[Line] = []
        for number in (*first, *range(LOWER)):
            begun = [line for line in links if line not in taking and line.wire.waiting]
            assert len(begun) <= limit("TRANSFERS_MAX"), f"{len(begun)} transfers at a time [LK-42]"
            if not begun:
                break
            taking.append(pick(number, *begun))
            taking[-1].wire.take_again()
        for line in links:
            line.wire.take_again()
            self.check_heard(line)
            found = line.said()
            assert len(found) <= asks, f"{len(found)} transfers for {asks} requests [LK-44]"
            due = (TRANSFER, encode(roster_of(self.listing).roster))
            assert all(one == due for one in found), "a transfer is not one of the roster in force [LK-41]"
        assert taking, "nobody who has asked gets anything"  # it may be so [LK-43], but then this rule is in vain

    @rule(number=_NUMBER, then=st.sampled_from(THEN))
    def be_dialled(self, number: int, then: str) -> None:
        """The node dials a member of a higher NodeID, who says nothing, or answers and ends the link for a conflict;
        or it is removed, before it has answered or before it has said anything on the link. [LK-1] [LK-9] [HS-76]"""
        higher = sorted(one for one in self.listing.present if one >= LOWER)
        if not higher:
            return
        one = pick(number, *higher)
        who = f"member {one}"
        if any(line.who == who for line in self.links()):
            return
        listener = self.node.occupy(*self.place_of(who))
        latest = 1.5 * limit("BACKOFF_MAX") + self.deadline
        since = self.clock
        while not (came := self.node.accepted(listener)):
            assert self.clock < since + latest, f"{who} is not dialled within {latest} s [LK-1] [LK-7]"
            self.wait(1)
        assert len(came) == 1, f"{len(came)} dials to {who} are under way [LK-4]"
        source, wire = came[0]
        assert source == HOSTS[self.listing.place], f"the node dials from {source}, which is not its host [HS-71]"
        self.node.leave(listener)
        self.wait(self.deadline - 1 - TICK)  # it began in the second before it was seen
        assert not wire.closed, f"a dial is given up before its deadline of {self.deadline} s [HS-76]"
        if then == "nothing":
            self.wait(1 + TICK)
            assert wire.closed, f"a dial goes on behind its deadline of {self.deadline} s [HS-76]"
            return
        without = attrs.evolve(self.listing, present=self.listing.present - {one})
        if then == "removal":
            self.bring_out(without, False)
            assert wire.closed, "a dial goes on, and the roster in force does not name its peer [LK-54] [RO-56]"
            return
        frame = wire.received()
        made = self.attacker.reply(frame, epoch=self.listing.epoch)
        assert made is not None, f"{who} cannot open the Hello of the node that dials it [HS-1]"
        wire.send(made.frame)
        line = Line(wire, Port.CLUSTER, float("inf"), who, "", "OPEN", keepalive=15_000, is_dialled=True)
        line.peer = self.attacker.peer(Side.RESPONDER, frame, made.frame)
        self.check_heard(line, (CONFIRM, b""))
        self.lines.append(line)
        self.check_offer(line)
        if then == "an offer":
            self.offer_same(line)
        elif then == "removal on the link":
            self.bring_out(without, False)
        else:
            self.end_for_conflict(line, then == "conflict at once")

    def end_for_conflict(self, line: Line, at_once: bool) -> None:
        """Error(roster_conflict) on a link that is in force, or comes to be so in the same segment: the node waits long
        before it dials again. [LK-2] [LK-9]"""
        assert line.peer is not None
        if not at_once:
            line.say((KEEPALIVE, b""))
        first = line.peer.record(KEEPALIVE)
        line.wire.send(first + line.peer.record(ERROR, error_payload(error_codes()["roster_conflict"])))
        self.gone(line, "an Error has come, and the connection is not closed [SE-58]")
        listener = self.node.occupy(*self.place_of(line.who))
        self.wait(limit("BACKOFF_MAX") / 2 - TICK)
        assert not self.node.accepted(listener), f"{line.who} is dialled too soon behind a conflict [LK-9]"
        self.node.leave(listener)

    def place_of(self, who: str) -> tuple[str, int]:
        """Where a member's cluster port is."""
        return self.listing.host(int(who.partition(" ")[2])), PORT_NUMBERS[Port.CLUSTER]

    # ---- rosters and keys ----

    def everything(self, number: int, waits: bool) -> None:
        """Some of each kind of connection."""
        for port in Port:
            for i in range(2):
                at, who = self.somebody(port, number + i)
                if waits and i:
                    self.shake(at, who, "both")
                else:
                    self.establish(at, who, "both")
        line = self.linked(number)
        if waits:
            self.renew(line)

    @rule(
        changes=st.lists(st.sampled_from(_CHANGES), min_size=1, max_size=3),
        number=_NUMBER,
        by_link=st.booleans(),
        waits=st.booleans(),
    )
    def bring_out_some(self, changes: list[str], number: int, by_link: bool, waits: bool) -> None:
        """Other rosters, while there is some of everything."""
        for i, change in enumerate(changes):
            self.everything(number + i, waits)
            self.bring_out(self.changed(change, number), by_link)
            if not self.listing.is_in:
                self.wait(1)
                self.bring_out(self.changed("node", number), by_link)
            at, who = self.somebody(pick(number, *Port), number)
            self.establish(at, who, "both")

    def changed(self, change: str, number: int) -> Listing:
        """The roster in force with something else in it."""
        held = self.listing
        match change:
            case "access":
                return attrs.evolve(held, anyone=not held.anyone)
            case "client":
                first, second = held.clients
                return attrs.evolve(held, clients=(not first, second) if number % 2 else (first, not second))
            case "member":
                present = held.present ^ {pick(number, 0, 5, 10, 7)}
                return attrs.evolve(held, present=present)
            case "node":
                return attrs.evolve(held, is_in=not held.is_in)
            case "place":
                return attrs.evolve(held, place=1 - held.place)
            case "client port":
                return attrs.evolve(held, client_port=(held.client_port + 1) % 3)
            case "both":
                return attrs.evolve(held, client_port=(held.client_port + 1) % 3, place=1 - held.place)
        return attrs.evolve(held, names=(held.names + 1) % 3)

    @rule(number=_NUMBER, by_link=st.booleans())
    def move_a_member(self, number: int, by_link: bool) -> None:
        """The host that a member had counts for the time of grace, and not a moment longer. [HS-67]"""
        one, held = pick(number, *sorted(self.listing.present)), self.listing
        self.bring_out(attrs.evolve(held, moved=held.moved ^ {one}), by_link)
        if not self.check_source:
            return
        for source in (held.host(one), self.listing.host(one)):
            self.leave(self.connect(Port.CLUSTER, source=source))
        self.wait(self.ck_grace - TICK)
        self.leave(self.connect(Port.CLUSTER, source=held.host(one)))
        self.wait(TICK)
        self.turned_away(Port.CLUSTER, held.host(one), "its time of grace is over [HS-67]")
        self.leave(self.connect(Port.CLUSTER, f"member {one}"))

    @rule(number=_NUMBER, by_link=st.booleans(), again=st.booleans())
    def override(self, number: int, by_link: bool, again: bool) -> None:
        """The operator goes back to a lower epoch: what was overridden is not asked for again, and a higher one is.
        [RO-41] [RO-43]"""
        held = self.listing
        self.bring_out(self.changed("names", number), by_link)
        overridden = self.listing
        self.node.load(roster_of(held), self.highest)
        self.in_force(held)
        if again:
            self.restart(0)
        link = self.linked(number)
        answers = self.offer(link, overridden.epoch, digest(roster_of(overridden).roster))
        assert not answers, "a roster that was overridden is asked for again [RO-43]"
        self.bring_out(self.changed("client", number), by_link)

    @rule(number=_NUMBER)
    def contradict(self, number: int) -> None:
        """A peer offers a roster, and the operator brings out another one of that epoch. [LK-31] [RO-47]"""
        self.everything(number, False)
        link = self.linked(number + 1)
        self.offer(link, self.highest + 1, bytes(32))  # it may be asked for it
        self.unasked.add(link.who)
        self.highest += 1
        listing = attrs.evolve(self.changed("client", number), epoch=self.highest)
        self.node.load(roster_of(listing))
        self.refused(link, "roster_conflict", "[LK-31] [RO-47]")
        self.in_force(listing)

    @rule(number=_NUMBER, what=st.sampled_from((b"", b"no roster", b"-----BEGIN XLATTICE ROSTER-----\n")))
    def find_a_file_damaged(self, number: int, what: bytes) -> None:
        """What the operator has stored is no roster: nothing changes."""
        self.everything(number, False)
        path = self.node.directory / ROSTER_FILE
        kept = path.read_bytes()
        path.write_bytes(what)
        self.node.reload()
        self.check_idle()
        self.check_places()
        path.write_bytes(kept)
        self.node.reload()
        self.check_idle()

    @rule(port=_PORT, number=_NUMBER, waits=st.booleans())
    def find_a_place_taken(self, port: Port, number: int, waits: bool) -> None:
        """The node cannot listen where its roster says: it stays where it is, and moves when it can. [RO-69] [RO-70]"""
        listing = self.changed("client port" if port is Port.CLIENT else "both", number)
        taken = self.node.occupy(*listing.where(port))
        self.bring_out(listing, False, stays=port)
        if waits:
            self.wait(130)
        self.establish(*self.somebody(port, number), "both")
        self.node.leave(taken)
        self.wait(65)
        self.check_places()

    @rule(number=_NUMBER, by_link=st.booleans(), third=st.booleans(), again=st.booleans())
    def rotate_ck(self, number: int, by_link: bool, third: bool, again: bool) -> None:
        """The node's ck is replaced: what is prepared is accepted at once, and what was before for a time."""
        self.prepare()
        self.check_cks(number)
        assert self.prepared is not None
        self.bring_out(attrs.evolve(self.listing, ck=self.prepared), by_link)
        self.check_cks(number)
        if third:
            self.prepare()
            self.check_cks(number + 1)
        if again:
            self.wait(1)
            self.restart(1)
            self.check_cks(number)
        self.wait(self.previous_until - TICK - self.clock)
        self.check_cks(number + 2)
        self.wait(TICK)
        self.check_cks(number + 3)

    def prepare(self) -> None:
        """A new ck, if none is prepared."""
        if self.prepared is None:
            self.prepared = self.listing.ck + 1
            self.node.prepare_ck(node_identity(self.prepared))

    def check_cks(self, number: int) -> None:
        """A Hello for each ck that is accepted, and for one that is not. [HS-27] [RO-49] [RO-50] [RO-53]"""
        accepted = [ck for ck in (self.prepared, self.listing.ck, self.previous) if ck is not None]
        for ck in range(max(0, self.listing.ck - 2), self.listing.ck + 3):
            if any(other % 4 == ck % 4 and other and ck and other != ck for other in accepted):
                continue  # the test keys are few
            port, who = self.somebody(pick(number + ck, *Port), number)
            if ck in accepted:
                self.leave(self.shake(port, who, "both", ck))
            else:
                line = self.connect(port, who)
                self.say_hello(line, "both", ck)
                self.gone(line, f"a Hello for ck {ck} is not refused, and {accepted} are accepted [HS-27] [RO-50]")

    # ---- the end, and another beginning ----

    @rule(number=_NUMBER, asked=st.lists(st.sampled_from(_SERVICES[:4]), max_size=3), hurry=st.booleans())
    def stop(self, number: int, asked: list[str], hurry: bool) -> None:
        """The node stops: what is polite ends at once, what goes on at the end of the grace time, and so does whatever
        is in its handshake; then the node is started anew."""
        self.everything(number, not hurry)
        for i, service in enumerate(asked):
            self.establish(*self.somebody(pick(i, *Port), number + i), service)
        self.restart(number)

    def restart(self, number: int) -> None:
        """It stops, and starts again; with an odd number a handshake ends meanwhile, if the node still runs then."""
        for line in [line for line in self.lines if line.state == "LEAVING"]:
            self.leave(line)
        self.node.stop()
        for line in list(self.lines):
            if line.state == "PARTED" and line.is_link:
                line.say((BYE, b""))
                self.gone(line, "a link on which both have said Bye goes on [SE-45]")
            elif line.state == "OPEN" and (line.is_link or line.service == "polite"):
                found = line.hear()
                assert found == [(BYE, b"")], f"{found} where Bye is due when the node stops [SV-23] [SE-51]"
                line.say((BYE, b""))
                self.gone(line, "a session in which both have said Bye goes on [SE-45]")
        for port in Port:
            wire = self.node.connect(*self.at[port], self.source(port, self.member(0)))
            assert wire is None, f"a node that stops listens on the {port.value} port [SV-22]"
        left = [line for line in self.lines if line.state == "OPEN"]
        for line in [line for line in self.lines if line.state == "CONFIRM"][: number % 2 if left else 0]:
            line.say((CONFIRM, b""))
            line.state = "OPEN"
            self.refused(line, "shutting_down", "[SV-25]")
        if left:
            self.wait(self.grace - TICK)  # its handshakes go on, until their deadlines
            for line in left:
                line.say((DATA, b"go on"))
                self.check_heard(line, (DATA, b"go on"))
            self.driver.pass_time(TICK)
            self.clock += TICK
        for line in left:
            assert line.hear() == [error("shutting_down")], f"the stream of {line.who} does not end [SV-25]"
            line.wire.close()
            self.lines.remove(line)
        self.driver.pass_time(0)
        for line in list(self.lines):
            self.gone(line, "a handshake goes on when its node has stopped [SV-26]")
        assert not self.node.is_running, "a node that was told to stop, and has no session, runs"
        self.node.start()
        self.check_places()

    @rule(seconds=st.sampled_from((1, 7, 70)))
    def pass_time(self, seconds: int) -> None:
        """Some time."""
        self.wait(seconds)


NODE = MachineInfo(
    "node",
    "a whole member serves whom its roster admits, where and with which keys that says, and stops in good order",
    NodeMachine,
    drivers=("memory",),
    share=0.6,
)
MACHINES = (NODE,)
