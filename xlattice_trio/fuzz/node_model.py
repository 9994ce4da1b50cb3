"""What a whole member has to do at its two ports, as the machine for it knows it.

`NodeModel` connects, says Hello, lets time pass and brings rosters out, and holds what comes of it against what is due;
the rules are in `machines.node`. Who is in the roster, where the node listens, which cks it accepts and what its
services say, it works out for itself.
"""

import math
from typing import Any

import attrs

from xlattice_trio.fuzz.cluster_cast import digest
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.memory_node import MemoryNode
from xlattice_trio.fuzz.memory_wire import MemoryWire
from xlattice_trio.fuzz.node_cast import HOSTS, Listing, cast, node_identity, roster_of
from xlattice_trio.fuzz.oracle import REPLY_SIZE
from xlattice_trio.fuzz.rogue import OFFER, REQUEST, TRANSFER, message, offer
from xlattice_trio.fuzz.session_model import BYE, CONFIRM, DATA, ERROR, KEEPALIVE, REKEY, error_codes, limit
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.net.listen import PortLimits
from xlattice_trio.testing.toolbox import Destination, RawPeer
from xlattice_trio.wire.codec import encode
from xlattice_trio.wire.messages import Purpose, Role

FEW = frozenset({0, 1, 2})  # members for whom the service `few` is, and the first client
TICK = 0.125  # seconds
STEP = 30.0  # seconds: the attacker says KeepAlive as often, in time for links
TAKES = {Port.CLUSTER: 20, Port.CLIENT: 9}  # connections
# Services by port; the name that is there on one port only is unknown on the other.
OFFERED = {Port.CLUSTER: ("both", "members", "polite", "few"), Port.CLIENT: ("both", "clients", "polite", "few")}
ELSEWHERE = "198.51.100.7"

# ---- connections -------------------------------------------------------------


@attrs.define(eq=False)
class Line:
    """A connection to the node. `peer` is the attacker's record layer, once it was answered; `service` is empty for a
    link. `state` is HELLO, CONFIRM (which the node waits for), OPEN, PARTED (the node has said Bye on a link) or
    LEAVING. Of a link, `heard` are the messages that came, by type and body."""

    wire: MemoryWire
    port: Port
    ends_at: float
    who: str = ""
    service: str = ""
    state: str = "HELLO"
    peer: RawPeer | None = None
    keepalive: int = 0
    heard: list[tuple[int, bytes]] = attrs.Factory(list)
    has_offered: bool = False
    is_dialled: bool = False  # by the node
    is_stalled: bool = False
    _unread: bytes = b""

    @property
    def is_link(self) -> bool:
        return not self.service

    def say(self, *records: tuple[int, bytes]) -> None:
        """The attacker's records."""
        assert self.peer is not None
        self.wire.send(b"".join(self.peer.record(*record) for record in records))

    def hear(self) -> list[tuple[int, bytes]]:
        """The records that came, without keepalives and rekeys; of an Error its code. A link's data goes to `heard`."""
        assert self.peer is not None
        found = []
        for type_, payload in self.peer.feed(self.wire.received()):
            if type_ == DATA and self.is_link:
                self._unread += payload
            elif type_ not in (KEEPALIVE, REKEY):
                found.append((type_, payload[:2] if type_ == ERROR else payload))
        while len(self._unread) >= 4:
            end = 4 + int.from_bytes(self._unread[1:4], "big")
            if len(self._unread) < end:
                break
            self.heard.append((self._unread[0], self._unread[4:end]))
            self._unread = self._unread[end:]
        return found

    def said(self) -> list[tuple[int, bytes]]:
        """The messages of a link since the last call."""
        heard, self.heard = self.heard, []
        return heard


_ENDS = {"HELLO": "[HS-77]", "CONFIRM": "[HS-77]", "LEAVING": "[SE-46] [SE-47]", "PARTED": "[LK-19]"}


def error(name: str) -> tuple[int, bytes]:
    """An Error as `Line.hear` has it."""
    return ERROR, error_codes()[name].to_bytes(2, "big")


# ---- the model ---------------------------------------------------------------


class NodeModel(TargetMachine):
    """A member, all connections to it, and its operator."""

    def make(self, keepalive: int, deadline: float, write_deadline: float, grace: float, check_source: bool) -> None:
        """The node starts. Times are in seconds, but `keepalive` in milliseconds."""
        self.meet(cast())
        self.listing, self.clock = Listing(), 0.0
        self.highest = self.listing.epoch
        self.keepalive, self.deadline, self.write_deadline = keepalive, deadline, write_deadline
        self.grace, self.ck_grace, self.check_source = grace, 200.0, check_source
        self.lines: list[Line] = []
        self.unasked: set[str] = set()  # who has not answered a request, and may not be asked for a while
        self.at = {port: self.listing.where(port) for port in Port}  # where it listens
        self.prepared: int | None = None  # a ck, by number
        self.previous: int | None = None
        self.previous_until = -math.inf
        world: Any = self.driver
        limits = {
            f"{port.value}_limits": PortLimits(TAKES[port], TAKES[port], TAKES[port], 1024, 4096) for port in Port
        }
        everybody = cast()
        few = {everybody.members[number].card.name for number in FEW} | {everybody.clients[0].card.name}
        self.node: MemoryNode = world.node(
            node_identity(0),
            roster_of(self.listing),
            host=lambda: HOSTS[self.listing.place],
            few=frozenset(few),
            config={
                "keepalive": keepalive,
                "handshake_deadline": deadline,
                "write_deadline": write_deadline,
                "grace": grace,
                "ck_grace": self.ck_grace,
                "check_source": check_source,
                **limits,
            },
        )

    def teardown(self) -> None:
        """Threads and the network are what they were."""
        try:
            super().teardown()
        finally:
            if hasattr(self, "node"):
                self.node.close()

    # ---- who comes, and how ----

    def identity_of(self, who: str) -> LocalIdentity | None:
        kind, _, number = who.partition(" ")
        everybody = {"member": cast().members, "client": cast().clients}
        return everybody[kind][int(number)] if number else None

    def connect(self, port: Port, who: str = "", source: str | None = None) -> Line:
        """A connection that is let in; the oldest one goes if the port is full."""
        while len(there := self.accepted_by(port)) >= TAKES[port]:
            self.leave(there[0])
        wire = self.node.connect(*self.at[port], source or self.source(port, who))
        assert wire is not None, f"nobody listens on the {port.value} port, {self.at[port]} [HS-81] [RO-68] [LK-57]"
        assert not wire.closed, f"{source or who} is closed on the {port.value} port at once [HS-67] [HS-72]"
        line = Line(wire, port, self.clock + self.deadline, who)
        self.lines.append(line)
        return line

    def accepted_by(self, port: Port) -> list[Line]:
        """The connections that count for a port: those that the node has dialled do not."""
        return [line for line in self.lines if line.port is port and not line.is_dialled]

    def source(self, port: Port, who: str) -> str:
        """From where somebody comes."""
        return self.listing.host(int(who.partition(" ")[2])) if port is Port.CLUSTER and who else ELSEWHERE

    def say_hello(self, line: Line, service: str, ck: int, **parts: Any) -> bytes:
        """A Hello for one of the node's cks; a link, if there is no service."""
        role = {"member": Role.MEMBER, "client": Role.CLIENT, "anonymous": Role.ANONYMOUS}[line.who.partition(" ")[0]]
        everybody = cast()
        assert everybody.roster is not None
        to = Destination(
            ck=node_identity(ck).ck_priv.public_key(),
            recipient=everybody.card.node_id.value,
            cluster=everybody.cluster_id,
            knock=everybody.roster.knock if line.port is Port.CLUSTER else b"",
        )
        purpose = Purpose.STREAM if service else Purpose.LINK
        made = self.attacker.hello(
            to, role=role, purpose=purpose, service=service.encode(), as_=self.identity_of(line.who), **parts
        )
        line.service = service
        line.wire.send(made.frame)
        return made.frame

    def shake(self, port: Port, who: str, service: str, ck: int | None = None) -> Line:
        """A handshake up to the HelloReply, which has to come."""
        line = self.connect(port, who)
        frame = self.say_hello(line, service, self.listing.ck if ck is None else ck)
        assert not line.wire.closed, f"the Hello of {who} for ck {ck} is refused [HS-22] [HS-27] [RO-53]"
        reply = line.wire.received()
        assert len(reply) == REPLY_SIZE, f"{len(reply)} bytes in answer to the Hello of {who} [HS-42]"
        line.peer = self.attacker.peer(Side.INITIATOR, frame, reply)
        opened = self.attacker.open_reply(frame, reply)
        assert line.peer is not None, "the HelloReply does not open [HS-42]"
        assert opened is not None, "the HelloReply does not open [HS-42]"
        line.keepalive = 15_000 if line.is_link else self.keepalive
        keepalive, epoch = (int.from_bytes(opened.field(name), "big") for name in ("keepalive", "epoch"))
        assert keepalive == line.keepalive, f"keepalive is {keepalive}, and {line.keepalive} is right [HS-44] [SE-79]"
        assert epoch == self.listing.epoch, f"the epoch is {epoch}, and {self.listing.epoch} in force [HS-45]"
        line.state = "CONFIRM"
        return line

    def establish(self, port: Port, who: str, service: str, ck: int | None = None) -> Line | None:
        """A session, and what comes of it at once; None if it was refused, as it had to be."""
        line = self.shake(port, who, service, ck)
        return line if self.confirm(line) else None

    def confirm(self, line: Line) -> bool:
        """The right Confirm: the service begins, or refuses. Whether the session goes on."""
        line.say((CONFIRM, b""))
        line.state, line.ends_at = "OPEN", math.inf
        if line.is_link:
            assert line.hear() == [], "a link does not begin with an offer [LK-25]"
            self.check_offer(line)
            return True
        refusal = self.refusal(line)
        if refusal:
            self.refused(line, refusal)
            return False
        self.check_heard(line, (DATA, self.greeting(line).encode()))
        return True

    def refusal(self, line: Line) -> str:
        """Why the service has not got it; nothing if it has. [SV-11]"""
        if line.service not in OFFERED[line.port]:
            return "unknown_service"
        if line.service != "few":
            return ""
        kind, _, number = line.who.partition(" ")
        if not (line.who == "client 0" or (kind == "member" and int(number) in FEW and not self.listing.names)):
            return "not_authorized"  # by name, and another card has another name
        others = sum(one.service == "few" and one.port is line.port and one.state != "CONFIRM" for one in self.lines)
        return "over_capacity" if others > 2 else ""

    def greeting(self, line: Line) -> str:
        """What a service has to say first."""
        identity, everybody = self.identity_of(line.who), cast()
        role = line.who.partition(" ")[0].upper()
        live = {one.who for one in self.lines if one.is_link and one.has_offered and one.state != "LEAVING"}
        members = len(self.listing.present) + self.listing.is_in
        return "; ".join(
            (
                f"{line.port.value} {line.service}",
                line.service,
                f"{role} {identity.node_id if identity else 'nobody'}",
                f"to {everybody.card.node_id} of {everybody.cluster_id.hex()[:8]}, {line.port.value} port",
                f"{len(live)} of {members} live, {'' if 2 * (len(live) + 1) > members else 'not '}quorate",
            )
        )

    # ---- what comes of it ----

    def check_heard(self, line: Line, *expected: tuple[int, bytes]) -> None:
        """What the node has said on a session."""
        found = line.hear()
        assert found == list(expected), f"{line.who} on {line.service or 'a link'}: {found} where {expected} is due"

    def check_offer(self, line: Line) -> None:
        """The node has offered its roster on a link, once, and has said nothing else. [LK-25] [LK-27]"""
        roster = roster_of(self.listing)
        due = [(OFFER, self.listing.epoch.to_bytes(8, "big") + digest(roster.roster))]
        found = line.said()
        assert found == due, f"{found} on the link of {line.who}, where an offer of {self.listing.epoch} is due [LK-27]"

    def refused(self, line: Line, name: str, requirement: str = "[SV-8] [SV-9] [SV-10]") -> None:
        """A session ends with this Error, and nothing else."""
        found = line.hear()
        assert found == [error(name)], f"{found} to {line.who}, where Error({name}) is due {requirement}"
        self.leave(line)

    def leave(self, line: Line) -> None:
        """The attacker goes."""
        line.wire.close()
        self.gone(line, "the attacker has gone, and the connection is not closed [HS-79]")

    def gone(self, line: Line, why: str) -> None:
        """The node has closed it; in a handshake without a word."""
        assert line.wire.closed, f"on the {line.port.value} port, {line.who} in {line.state}: {why}"
        if line.state in ("HELLO", "CONFIRM"):
            assert not line.wire.received(), "bytes where silence is due [HS-19] [HS-46] [HS-59]"
        self.lines.remove(line)

    def check_idle(self) -> None:
        """Nothing happens where nothing has to."""
        for line in self.lines:
            if line.is_stalled:
                continue
            assert not line.wire.closed, (
                f"the connection of {line.who} for {line.service or 'a link'} is closed in {line.state} on the "
                f"{line.port.value} port, {line.ends_at - self.clock:g} s too early [HS-77] [SE-36] [RO-57]"
            )
            if line.state in ("OPEN", "PARTED"):
                self.check_heard(line)
                assert not line.said(), f"messages on the idle link of {line.who} [LK-51]"
            elif line.state != "LEAVING":
                assert not line.wire.received(), f"bytes in {line.state} [HS-19]"

    def wait(self, seconds: float) -> None:
        """So much time passes, and the attacker says that it is there; what has to end by then has ended."""
        until = self.clock + math.ceil(seconds / TICK) * TICK
        while self.clock < until:
            step = min(STEP, until - self.clock)
            self.driver.pass_time(step)
            self.clock += step
            for line in list(self.lines):
                if line.ends_at <= self.clock:
                    self.gone(line, f"{self.clock - line.ends_at:g} s too long {_ENDS[line.state]}")
                elif line.state in ("OPEN", "PARTED") and line.keepalive and not line.is_stalled:
                    line.say((KEEPALIVE, b""))
            self.check_idle()
            if self.previous is not None and self.clock >= self.previous_until:
                self.previous = None

    # ---- rosters ----

    def links(self) -> list[Line]:
        """The links that are."""
        return [line for line in self.lines if line.is_link and line.state == "OPEN"]

    def offer_same(self, link: Line) -> None:
        """A peer offers what the node has."""
        answers = self.offer(link, self.listing.epoch, digest(roster_of(self.listing).roster))
        assert not answers, "an answer to an offer of what the node has [LK-33]"

    def offer(self, link: Line, epoch: int, of: bytes) -> list[tuple[int, bytes]]:
        """A peer offers a roster of this digest: the messages that come at once."""
        link.say((DATA, offer(epoch, of)))
        link.has_offered = True
        self.check_heard(link)
        return link.said()

    def bring_out(self, listing: Listing, by_link: bool, stays: Port | None = None) -> None:
        """Another roster comes into force: by its operator's hand, or over a link if there is one. A port `stays` where
        it is, if the new place is taken."""
        self.highest += 1
        listing = attrs.evolve(listing, epoch=self.highest)
        roster = roster_of(listing)
        links = [line for line in self.links() if by_link and line.who not in self.unasked]
        if links:
            link = links[0]
            found = self.offer(link, listing.epoch, digest(roster.roster))
            assert found == [(REQUEST, b"")], f"{found} in answer to the offer of a newer roster [LK-33]"
            link.say((DATA, message(TRANSFER, encode(roster.roster))))
        else:
            self.node.load(roster)
        self.in_force(listing, stays)

    def in_force(self, listing: Listing, stays: Port | None = None) -> None:
        """It is in force: what it does not admit ends, everything else goes on, and links hear of it. Spec 7.9."""
        before, self.listing = self.listing, listing
        if listing.is_in and listing.ck != before.ck and listing.ck == self.prepared:
            self.previous, self.previous_until = before.ck, self.clock + self.ck_grace
            self.prepared = None
        for line in list(self.lines):
            # Of a Hello that is not whole nobody knows whose it is; who is dialled is admitted by a member only.
            admitted = line.state == "HELLO" or listing.admits(line.who)
            admitted = admitted and (listing.is_in or not line.is_dialled)
            if line.state in ("HELLO", "CONFIRM"):
                if not (listing.is_in and admitted):
                    self.gone(line, f"{line.who} is not admitted any more [RO-56] [RO-58]")
            elif line.state == "LEAVING" and not (listing.is_in and admitted):
                assert line.wire.closed, f"{line.who} is not admitted any more, and its session goes on [RO-55] [RO-58]"
                self.lines.remove(line)  # with an Error or without one: it may have said all that it had to
            elif line.state in ("OPEN", "PARTED") and not admitted:
                self.refused(line, "not_authorized", "[RO-55]")
            elif line.state in ("OPEN", "PARTED") and not listing.is_in:
                self.refused(line, "shutting_down", "[RO-58] [LK-56]")
            elif line.state == "OPEN" and line.is_link:
                self.check_heard(line)
                self.check_offer(line)
        self.check_places(stays)
        self.check_idle()

    def check_places(self, stays: Port | None = None) -> None:
        """It listens where it has to, and nowhere else. [HS-81] [RO-58] [RO-68]"""
        for port in Port:
            if port is stays:
                continue
            left, self.at[port] = self.at[port], self.listing.where(port)
            for place in dict.fromkeys((left, self.at[port])):
                wire = self.node.connect(*place, self.source(port, f"member {min(self.listing.present)}"))
                due = self.listing.is_in and place == self.at[port]
                assert (wire is not None) == due, (
                    f"the {port.value} port at {place} is {'open' if wire else 'closed'}, epoch {self.listing.epoch} "
                    "[HS-81] [RO-58] [RO-68]"
                )
                if wire is not None:
                    wire.close()

    def bye(self, line: Line, said: tuple[int, bytes] = (BYE, b"")) -> None:
        """The attacker says Bye, or what makes the service leave, and hears one."""
        line.say(said)
        self.check_heard(line, (BYE, b""))
        line.state, line.ends_at = "LEAVING", self.clock + limit("BYE_LINGER")
