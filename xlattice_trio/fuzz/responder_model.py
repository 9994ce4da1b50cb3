"""What a responder has to do, as the machine for it knows it: who is connected, what is in force and remembered.

`ResponderModel` has no rules: it makes connections, says Hello and Confirm, and holds what comes of it against what is
due. The rules are in `machines.responder`.
"""

from collections.abc import Sequence
from secrets import token_hex
from typing import Any, ClassVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant

from xlattice_trio.crypto import RSAPrivateKey, encode_spki
from xlattice_trio.errors import ErrorCode, RefusalReason
from xlattice_trio.fuzz.hellos import CASTS, COMERS, SERVICES, Comer, Scene, comer, pick
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.oracle import (
    DEADLINES,
    Fresh,
    View,
    check_established,
    check_not_established,
    check_refused,
    check_reply,
    check_session,
    check_silence,
    first_refusal,
    opened,
    pieces,
)
from xlattice_trio.fuzz.rosters import Listing, encryption_key, first_listing, roster_of
from xlattice_trio.fuzz.target import Can, GotData, Remembered, Wire
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.testing.forge import ForgedHello
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.testing.toolbox import Attacker, RawPeer
from xlattice_trio.wire.messages import Purpose, RecordType, Role

R = RefusalReason

_MOST_LINES = 8
_CASTS = (*("usual",) * 3, *("listed",) * 3, *("short ids",) * 3, "3072 bits", "4096 bits")  # the larger, the slower


@attrs.define
class Line:
    """One connection, and what the model knows of it. `state` is that of the state table, and of the session's then."""

    wire: Wire
    port: Port
    opened_at: float
    stands: list["Stand"]  # those in force since it was accepted
    state: str = "AWAIT_HELLO"
    comer: Comer | None = None
    ck: bytes | None = None  # that the Hello is for, if it matters
    service: bytes = b""
    frame: bytes = b""  # the Hello
    unsent: bytes = b""  # what the target has not got of it
    reply: bytes = b""
    view: View | None = None
    peer: RawPeer | None = None


@attrs.frozen
class Stand:
    """What is in force at the responder: a listing, and the numbers of the encryption keys that it accepts."""

    listing: Listing
    accepted: tuple[int, ...]


class ResponderModel(TargetMachine):
    """A responder's port against an attacker. `port` says which; the other one of the same member is there too."""

    port: ClassVar[Port]

    @initialize(
        cast=st.sampled_from(_CASTS),
        keepalive=st.sampled_from((0, 0, 1000, 3_600_000)),
        link_keepalive=st.sampled_from((15_000, 1000, 60_000)),
        deadline=st.sampled_from(DEADLINES),
    )
    def start(self, cast: str, keepalive: int, link_keepalive: int, deadline: float = HANDSHAKE_DEADLINE) -> None:
        """A member opens its ports; nobody has come yet."""
        first = CASTS[cast]()
        if not self.can(Can.ROSTER):  # a live target remembers the Hellos of other runs
            self.attacker = Attacker(token_hex(16))
        self.deadline = deadline
        given: dict[str, Any] = {"keepalive": keepalive, "link_keepalive": link_keepalive, "deadline": deadline}
        self.targets = {
            port: self.driver.responder(port, cast=first, **given)
            for port in (Port if self.can(Can.ROSTER) else (self.port,))
        }
        self.cast = self.meet(self.targets[self.port].cast)
        self.keepalives = {Purpose.STREAM: keepalive, Purpose.LINK: link_keepalive}
        self.stand = Stand(first_listing(self.cast), (0,))
        self.lines: list[Line] = []
        self.digests = 0  # that the replay cache has to hold
        self.clock = 0.0
        self.fresh = Fresh()
        self.kept: dict[Any, ForgedHello] = {}
        self.accepted: list[Line] = []  # whose Hellos were
        self.turned_away: list[Line] = []  # whose Hellos were right, but not admitted

    # ---- what the model knows ----

    def can(self, *needed: Can) -> bool:
        """Whether the driver has all of this."""
        return self.driver.can.issuperset(needed)

    def scene(self, who: str, number: int = 0, *, signed: bool = False, port: Port | None = None) -> Scene:
        """What a Hello is made from. The number chooses among services, and among the keys that are accepted."""
        port = self.port if port is None else port
        names = [name for name in COMERS[port] if not signed or name != "anonymous"]
        to = self.cast.destination(port)
        dropped = test_identity(32, bits=self.cast.card.ck.key_size).ck_priv
        if self.cast.responder is not None:
            to = attrs.evolve(to, ck=encryption_key(self.cast, pick(number, *self.stand.accepted)).public_key())
            older = [encryption_key(self.cast, key) for key in range(self.stand.listing.ck)]
            kept = [encryption_key(self.cast, key) for key in self.stand.accepted]
            sizes = {key.key_size for key in kept}  # or its header would be refused
            dropped = next((key for key in reversed(older) if key not in kept and key.key_size in sizes), dropped)
        someone = comer(port, who if who in names else names[0], self.cast)
        service = pick(number // 2, *SERVICES) if self.can(Can.APPLICATION) else "echo"
        said = b"" if someone.purpose == Purpose.LINK else service.encode()
        return Scene(self.attacker, self.cast, port, to, someone, said, dropped, self.kept, self.lengths(self.stand))

    def standing(self, line: Line, stand: Stand) -> RefusalReason | None:
        """Why somebody is not let in who does everything right; None: is let in."""
        if line.port is Port.CLUSTER and self.cast.knock is None:
            return R.MAC
        assert line.comer is not None
        if line.ck is not None and line.ck not in self.accepted_cks(stand):
            return R.MAC if len(line.frame) - 4 in self.lengths(stand) else R.FRAME_HEADER
        if stand.listing.admission(self.cast).admits(line.comer.role, line.comer.node_id):
            return None
        return R.ROLE if line.comer.role == Role.ANONYMOUS else R.MEMBERSHIP

    def accepted_cks(self, stand: Stand) -> Sequence[bytes]:
        """The encryption keys that are accepted, as SPKI."""
        if self.cast.responder is None:
            return (encode_spki(self.cast.card.ck),)
        return [encode_spki(encryption_key(self.cast, number).public_key()) for number in stand.accepted]

    def lengths(self, stand: Stand) -> set[int]:
        """The lengths of a Hello that are due: those of the accepted keys. [HS-25]"""
        if self.cast.responder is None:
            return {1956 + self.cast.card.ck.key_size // 8}
        return {1956 + encryption_key(self.cast, number).key_size // 8 for number in stand.accepted}

    def trace(self) -> Remembered | None:
        """What the target keeps beside its connections, but for the number of these."""
        found = self.targets[self.port].remembered() if self.can(Can.ROSTER) else None
        return None if found is None else attrs.evolve(found, handshakes=0, sessions=0)

    @invariant()
    def keeps_what_it_has_to(self) -> None:
        """The replay cache holds a digest of each signed Hello that was accepted; connections are counted right."""
        if not self.can(Can.ROSTER) or not hasattr(self, "targets"):
            return
        found = self.targets[self.port].remembered()
        assert found is not None
        assert found.replay_entries == self.digests, (
            f"{found.replay_entries} digests in the replay cache, {self.digests} expected [HS-21] [HS-39] [HS-62]"
        )
        assert found.epoch == self.stand.listing.epoch, f"epoch {found.epoch}, {self.stand.listing.epoch} expected"
        handshakes = sum(line.state in ("AWAIT_HELLO", "AWAIT_CONFIRM") for line in self.lines)
        sessions = sum(line.state == "OPEN" for line in self.lines)
        assert (found.handshakes, found.sessions) == (handshakes, sessions), (
            f"{found.handshakes} handshakes and {found.sessions} sessions, {handshakes} and {sessions} expected"
        )

    # ---- what the rules are made of ----

    def open(self, port: Port | None = None) -> Line:
        """A new connection. There are few at a time: the oldest one goes."""
        if len(self.lines) == _MOST_LINES:
            self.leave(self.lines[0])
        port = self.port if port is None else port
        line = Line(self.targets[port].connect(), port, self.clock, [self.stand])
        self.lines.append(line)
        check_silence(line.wire, closed=False)
        check_not_established(line.wire, "AWAIT_HELLO")
        return line

    def come(self, scene: Scene, frame: bytes | None = None, *, ck: bytes | None = None) -> Line:
        """A new connection for a Hello, which is not sent yet: a new one with nothing wrong, if none is given. `ck` is
        the encryption key that it is for, if not that of the scene."""
        line = self.open(scene.port)
        line.comer, line.service = scene.comer, scene.service
        line.frame = scene.hello() if frame is None else frame
        line.ck = encode_spki(scene.to.ck) if ck is None else ck
        return line

    def refused(self, line: Line, reason: RefusalReason | None) -> None:
        """The target has refused what came on a connection, or has given it up."""
        self.lines.remove(line)
        line.state = "IGNORED"
        check_refused(line.wire, reason)
        line.wire.send(b"\3\0\0\x11" + bytes(17))
        check_silence(line.wire, closed=True)

    def leave(self, line: Line, *, reset: bool = False) -> None:
        """The attacker goes."""
        if reset:
            line.wire.reset()
        else:
            line.wire.close()
        if line.state != "OPEN":
            self.refused(line, R.TRANSPORT_CLOSED)
            return
        self.lines.remove(line)

    def offer(
        self,
        frame: bytes,
        scene: Scene,
        reason: RefusalReason | None = None,
        *,
        sizes: Sequence[int] = (),
        another: bool = False,
        ck: bytes | None = None,
    ) -> Line | None:
        """A frame on a connection of its own. `reason` is what is wrong with it; it is refused for that, or for what is
        wrong with the comer, and otherwise answered. `another`: it is not the comer who comes."""
        line = self.come(scene, frame, ck=ck)
        right = reason is None
        if not another:
            reason = first_refusal(reason, self.standing(line, self.stand))
        before = self.trace()
        if reason is R.FRAME_HEADER:
            line.wire.send(frame[:3])
            check_silence(line.wire, closed=False)
            line.wire.send(frame[3:4])  # the body is not waited for [FR-5]
        else:
            *first, last = pieces(frame, sizes)
            for part in first:
                line.wire.send(part)
                check_silence(line.wire, closed=False)
                check_not_established(line.wire, "AWAIT_HELLO")
            line.wire.send(last)
        if reason is None:
            self.answered(line)
            return line
        self.refused(line, reason)
        assert self.trace() == before, "a refused Hello has left a trace [HS-21]"
        if right:
            self.turned_away.append(line)
        return None

    def answered(self, line: Line, behind: bytes = b"") -> None:
        """The target has to have answered a Hello, and everything is as it has to be then."""
        assert line.comer is not None
        self.digests += line.comer.role != Role.ANONYMOUS
        keepalive, epochs = None, None
        if self.can(Can.ROSTER):
            keepalive = self.keepalives[line.comer.purpose]
            epochs = {stand.listing.epoch for stand in line.stands}
        data = line.wire.received()
        secrets = check_reply(self.attacker, line.frame, data, keepalive=keepalive, epochs=epochs, fresh=self.fresh)
        line.state, line.reply = "AWAIT_CONFIRM", data
        self.accepted.append(line)
        if not behind:
            check_silence(line.wire, closed=False)
            check_not_established(line.wire, "AWAIT_CONFIRM")
        if secrets is None:  # of a share whose private half nobody knows
            return
        line.peer = RawPeer(secrets.i2r, secrets.r2i)
        line.view = View(
            side=Side.RESPONDER,
            role=line.comer.role,
            purpose=line.comer.purpose,
            service=line.service,
            cluster=self.cast.cluster_id,
            initiator=line.comer.node_id,
            recipient=self.cast.card.node_id.value,
            keepalive=number_in_reply(self.attacker, line, "keepalive"),
            epoch=number_in_reply(self.attacker, line, "epoch"),
            transcript_hash=secrets.th,
            exporter=secrets.exporter,
        )

    def confirm(self, line: Line, sizes: Sequence[int] = (), *, behind: bool = False) -> None:
        """The right Confirm, and Data behind it in one piece or not: it is established, unless it is not admitted any
        more."""
        assert line.peer is not None
        assert line.view is not None
        *first, last = pieces(line.peer.record(RecordType.CONFIRM), sizes)
        for part in first:
            line.wire.send(part)
            check_silence(line.wire, closed=False)
            check_not_established(line.wire, "AWAIT_CONFIRM")
        data = b"behind Confirm" if behind and self.can(Can.APPLICATION) else b""
        line.wire.send(last + (line.peer.record(RecordType.DATA, data) if data else b""))
        if self.standing(attrs.evolve(line, ck=None), self.stand) is not None:  # [HS-58]
            self.refused(line, R.ROSTER_CHANGED)
            return
        line.state = "OPEN"
        check_established(line.wire, line.view)
        self.check_card(line)
        if data:
            assert line.wire.application is not None
            told = line.wire.application.told()
            assert told == [GotData(data)], f"the application was told {told}, not what came behind Confirm [SE-3]"
        if line.wire.application is not None or line.service:  # a link that nobody commands speaks for itself
            check_session(line.wire, line.peer, seed=len(self.accepted))
        if line.view.keepalive:  # or its clocks would have to be told of here
            self.leave(line)

    def check_card(self, line: Line) -> None:
        """The initiator's card is that of the roster in force now, and no byte that was used is still in a buffer."""
        found = line.wire.established
        if found is None:
            return
        assert line.comer is not None
        if line.comer.as_ is not None and found.initiator is not None:
            names = self.stand.listing.names
            name = line.comer.as_.card.name + (f"-{names}" if names else "")
            assert found.initiator.name == name, f"the card of {found.initiator.name}, not that of {name} in the roster"
        assert found.reader.unread == 0, f"{found.reader.unread} bytes in the buffer that were used [FR-9]"

    def awaiting(self, number: int) -> Line | None:
        """One of the connections that wait for Confirm."""
        waiting = [line for line in self.lines if line.state == "AWAIT_CONFIRM" and line.peer is not None]
        return pick(number, *waiting) if waiting else None

    # ---- rosters ----

    def put_in_force(self, stand: Stand, keys: Sequence[RSAPrivateKey] | None) -> None:
        """The target adopts what the stand says, and every connection goes on or ends as it has to."""
        target = self.targets[self.port]
        assert target.adopt(roster_of(self.cast, stand.listing), keys), (
            "a roster of a higher epoch is not taken [RO-33]"
        )
        self.stand = stand
        admission = stand.listing.admission(self.cast)
        is_member = self.cast.card.node_id.value in admission.members
        for line in list(self.lines):
            line.stands.append(stand)
            someone = line.comer
            listed = line.state == "AWAIT_HELLO" or someone is None or admission.admits(someone.role, someone.node_id)
            if is_member and listed:
                check_silence(line.wire, closed=False)
            elif line.state == "OPEN":
                assert line.peer is not None
                code = ErrorCode.SHUTTING_DOWN if listed else ErrorCode.NOT_AUTHORIZED
                records = opened(line.peer, line.wire.received())
                found = [(type_, int.from_bytes(payload[:2], "big")) for type_, payload in records]
                assert found == [(RecordType.ERROR, code)], f"{found} to whom the new roster does not admit [RO-55]"
                self.leave(line)
            else:
                self.refused(line, R.ROSTER_CHANGED)


def number_in_reply(attacker: Attacker, line: Line, field: str) -> int:
    """A number that a HelloReply says."""
    found = attacker.open_reply(line.frame, line.reply)
    assert found is not None
    return int.from_bytes(found.field(field), "big")
