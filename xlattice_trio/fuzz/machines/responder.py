"""The responder, on its client port and on its cluster port, against an attacker who has everybody's keys but its own.

The invariants:
- Not a byte leaves a responder before a genuine Hello for it, by an initiator whom its roster in force admits.
- Such a Hello is answered, with one HelloReply that opens, whose salt, keys and shares never came before.
- Who is established is who signed the Hello, after the Confirm that only the maker of the Hello can make, and not
  before; both sides then have the same keys and see the same.
- A refused input leaves no trace; the one trace of an accepted Hello is one digest, if it was signed.
- Every refusal looks the same from outside: no byte, and the connection closed at once.
- The state is that of the state table Responder after every input, and every exception is a documented one.

What has to happen follows from what was changed. The tables HELLOS and CONFIRMS say of each thing that can be wrong
which check of Spec 5.7 or 5.10 has to find it; of bytes that are changed anywhere it is said by where they are; and a
HelloBody that is changed and sealed again is judged by `oracle.body_refusal`.
"""

import functools
from collections.abc import Sequence

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from xlattice_trio.errors import HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.fuzz.cast import make_cast
from xlattice_trio.fuzz.confirms import BEHIND, CONFIRMS, OTHERS, right_confirm
from xlattice_trio.fuzz.hellos import HELLOS, INITIATORS, Comer, Scene, comer, following, pick
from xlattice_trio.fuzz.oracle import (
    REPLY_SIZE,
    body_refusal,
    body_values,
    check_forgotten,
    check_not_established,
    check_refusal_forgets,
    check_silence,
    first_refusal,
    pieces,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.responder_model import Line, ResponderModel, Stand
from xlattice_trio.fuzz.rosters import LAST_KEY, encryption_key, first_listing, roster_of
from xlattice_trio.fuzz.target import Can
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Responder, Welcome
from xlattice_trio.limits import REPLAY_CACHE_MIN
from xlattice_trio.testing.draws import REMEMBERED, Draws
from xlattice_trio.testing.toolbox import DAMAGE, damage, field_edge, field_names, splice, with_field
from xlattice_trio.wire.messages import HelloBody, Purpose, RecordType, Role

R = RefusalReason

_NUMBER = st.integers(0, 1 << 16)
_EITHER = st.booleans()
_SIZE = st.integers(0, 4000)
_SIZES = st.lists(_SIZE, max_size=3)
_SIZE_OR_ALL = st.one_of(st.none(), _SIZE)
# A kind of DAMAGE, where, and the bytes for it; where a bit is flipped the number counts bits.
_CHANGE = st.tuples(st.sampled_from(sorted(DAMAGE)), st.integers(0, 8 * 2500), st.binary(min_size=1, max_size=8))
_WHO = st.sampled_from(("link", "lower", "higher", "client", "anonymous", "stranger"))


# ---- the machine -------------------------------------------------------------


class ResponderMachine(ResponderModel):
    """What an attacker does to a responder's port."""

    # ---- control: what is right is answered ----

    @rule(who=_WHO, number=_NUMBER, sizes=_SIZES, confirm_sizes=_SIZES, behind=_EITHER)
    def shake_hands(self, who: str, number: int, sizes: list[int], confirm_sizes: list[int], behind: bool) -> None:
        """Everything is right, in whatever pieces it comes."""
        scene = self.scene(who, number)
        line = self.offer(scene.hello(), scene, sizes=sizes)
        if line is not None:
            self.confirm(line, confirm_sizes, behind=behind)

    @rule(number=_NUMBER, sizes=_SIZES, behind=_EITHER)
    def confirm_one(self, number: int, sizes: list[int], behind: bool) -> None:
        """The Confirm of one that waits for it."""
        line = self.awaiting(number)
        if line is not None:
            self.confirm(line, sizes, behind=behind)

    @rule(who=_WHO, number=_NUMBER, size=_SIZE_OR_ALL)
    def say_hello(self, who: str, number: int, size: int | None) -> None:
        """A Hello with nothing wrong, or the beginning of one; the rest, or Confirm, may come later."""
        scene = self.scene(who, number)
        if size is None:
            self.offer(scene.hello(), scene)
            return
        line = self.come(scene)
        first, line.unsent = pieces(line.frame, [size])
        line.wire.send(first)
        check_silence(line.wire, closed=False)
        check_not_established(line.wire, "AWAIT_HELLO")

    @rule(number=_NUMBER, size=_SIZE_OR_ALL)
    def go_on_with_hello(self, number: int, size: int | None) -> None:
        """More of a Hello that was begun, or all of it."""
        begun = [line for line in self.lines if line.unsent]
        if not begun:
            return
        line = pick(number, *begun)
        first, *rest = pieces(line.unsent, [] if size is None else [size])
        if rest:
            line.unsent = b"".join(rest)
            line.wire.send(first)
            check_silence(line.wire, closed=False)
            check_not_established(line.wire, "AWAIT_HELLO")
        else:
            self.finish_hello(line)

    def finish_hello(self, line: Line) -> None:
        """The rest of a Hello that was begun, perhaps under another roster."""
        before = self.trace()
        line.wire.send(line.unsent)
        line.unsent = b""
        reasons = {self.standing(line, stand) for stand in line.stands}  # one of these rosters decides [HS-22]
        if None in reasons and not (len(reasons) > 1 and line.wire.closed):
            line.stands = [stand for stand in line.stands if self.standing(line, stand) is None]
            self.answered(line)
            return
        self.refused(line, None)
        assert line.wire.refusal in (None, *reasons), f"refused as {line.wire.refusal}, {reasons} expected [HS-22]"
        assert self.trace() == before, "a refused Hello has left a trace [HS-21]"

    # ---- Hellos with something wrong ----

    @rule(what=st.sampled_from(sorted(HELLOS)), more=st.integers(0, 9), who=_WHO, number=_NUMBER, size=_SIZE)
    def say_hello_wrongly(self, what: str, more: int, who: str, number: int, size: int) -> None:
        """A Hello with one thing wrong, then one with the next thing in the table, and so on: the check that is there
        for it finds each of them."""
        for name in following(sorted(HELLOS), what, more):
            self.say_wrongly(name, who, number, size)

    @rule(what=st.sampled_from(INITIATORS), more=st.integers(0, 7), who=_WHO, number=_NUMBER, size=_SIZE)
    def say_who_wrongly(self, what: str, more: int, who: str, number: int, size: int) -> None:
        """The same of what is wrong in whom it is for, who says it, and how that is proved."""
        for name in following(INITIATORS, what, more):
            self.say_wrongly(name, who, number, size)

    def say_wrongly(self, what: str, who: str, number: int, size: int) -> None:
        """One of HELLOS."""
        wrong = HELLOS[what]
        if wrong.port not in (None, self.port):
            return
        if self.cast.knock is None and self.port is Port.CLUSTER and wrong.another:
            return
        scene = self.scene(who, number, signed=wrong.signed)
        self.offer(wrong.make(scene, number), scene, wrong.reason, sizes=[size], another=wrong.another)

    @rule(
        field=st.sampled_from(field_names(HelloBody)), number=_NUMBER, more=st.integers(0, 5), who=_WHO, resign=_EITHER
    )
    def change_field(self, field: str, number: int, more: int, who: str, resign: bool) -> None:
        """A field of HelloBody at a bound or beyond it, then at the next: signed again or not, and sealed again."""
        scene = self.scene(who)
        for edge in range(number, number + more + 1):
            self.judge(scene, with_field(HelloBody, scene.whole.body, field[10:], field_edge(field, edge)), resign)

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=4), who=_WHO, resign=_EITHER)
    def change_body(self, changes: list[tuple[str, int, bytes]], who: str, resign: bool) -> None:
        """Some bytes of HelloBody are others, missing, or too many, and its end makes up for that; signed again or not,
        sealed and maced again. Then the next change, of the right body."""
        scene = self.scene(who)
        whole = scene.whole.body
        for kind, at, some in changes:
            changed = damage(whole, kind, at, some)
            self.judge(scene, (changed + bytes(len(whole)))[: len(whole)], resign)

    def judge(self, scene: Scene, body: bytes, resign: bool) -> None:
        """A Hello with this body meets with what the specification says of it."""
        whole = scene.whole.body
        frame = scene.sealed(body, resign=resign)
        resealed = self.attacker.open_hello(frame)
        assert resealed is not None
        body = resealed.body
        if len(body) != len(whole):  # `sealed` has another size, and the frame another length
            return
        values = body_values(body)
        end = scene.span("signature")[1]
        signed = resign and values is not None and values["initiator"] == scene.comer.node_id
        signed |= body[:end] == whole[:end]
        reason = body_refusal(
            body,
            port=self.port,
            node_id=self.cast.card.node_id.value,
            cluster=self.cast.cluster_id,
            admission=self.stand.listing.admission(self.cast),
            signed=signed,
        )
        if self.port is Port.CLUSTER and self.cast.knock is None:
            reason = R.MAC
        said = [line.comer for line in self.accepted if line.frame == frame]
        if any(someone is not None and someone.role != Role.ANONYMOUS for someone in said):
            reason = first_refusal(reason, R.REPLAY_SEEN)
        if reason is None:
            assert values is not None
            changed = Comer(Role(values["role"]), Purpose(values["purpose"]), scene.comer.as_)
            scene = attrs.evolve(scene, comer=changed, service=values["service"].encode())
        line = self.offer(frame, scene, reason, another=True)
        if line is not None and line.peer is not None:
            self.confirm(line)

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=4), who=_WHO, mac=_EITHER)
    def change_frame(self, changes: list[tuple[str, int, bytes]], who: str, mac: bool) -> None:
        """Some bytes of the frame are others, missing or too many; with the right mac behind them or not. Then the next
        change, of the right frame."""
        scene = self.scene(who)
        for kind, at, some in changes:
            frame = damage(scene.frame, kind, at, some)
            self.offer_changed(scene, scene.maced(frame[:-16]) if mac else frame, maced=mac)

    @rule(who=_WHO, other=_WHO, at=st.integers(0, 2400), mac=_EITHER)
    def splice_frames(self, who: str, other: str, at: int, mac: bool) -> None:
        """The beginning of one Hello and the end of another."""
        scene, second = self.scene(who), self.scene(other, 2)
        end = second.frame if second.frame != scene.frame else second.hello()
        frame = splice(scene.frame, end, at)
        if frame != end:
            self.offer_changed(scene, scene.maced(frame[:-16]) if mac else frame, maced=mac)

    def offer_changed(self, scene: Scene, frame: bytes, *, maced: bool) -> None:
        """What has to become of a frame that is not what it was, by where it was changed."""
        right = scene.frame
        if frame[: len(right)] == right or len(frame) < 4:
            return
        length = int.from_bytes(frame[1:4], "big")
        if frame[0] != 1 or length not in self.lengths(self.stand):
            reason = R.FRAME_HEADER
        elif len(frame) < 4 + length:
            line = self.open()
            line.wire.send(frame)
            check_silence(line.wire, closed=False)
            self.leave(line)
            return
        elif frame[:8] != right[:8]:
            reason = R.VERSION
        elif maced and len(frame) == len(right) and frame[:-16] != right[:-16]:
            reason = R.HELLO_NOT_OPENED
        else:
            reason = R.MAC
        self.offer(frame, scene, reason)

    @rule(what=st.sampled_from((*sorted(OTHERS), *sorted(BEHIND))), more=st.integers(0, 3), who=_WHO, number=_NUMBER)
    def say_something_else(self, what: str, more: int, who: str, number: int) -> None:
        """Another protocol or a frame that is not due, alone, or in one piece behind a Hello."""
        for name in following((*sorted(OTHERS), *sorted(BEHIND)), what, more):
            if name in OTHERS:
                self.say_only(name, leave=number % 2 == 0)
            else:
                self.say_behind(who, number, name)

    def say_only(self, name: str, *, leave: bool) -> None:
        """One of OTHERS is refused at its header."""
        line = self.open()
        data = OTHERS[name]
        line.wire.send(data)
        if data:
            self.refused(line, R.FRAME_HEADER)
        elif leave:
            self.leave(line)

    def say_behind(self, who: str, number: int, name: str) -> None:
        """One of BEHIND: nobody can make Confirm yet, so it is refused behind the answer."""
        scene = self.scene(who, number)
        line = self.come(scene)
        behind = BEHIND[name](scene)
        line.wire.send(line.frame + behind)
        reason = self.standing(line, self.stand)
        if reason is not None:
            self.refused(line, reason)
            return
        self.answered(line, behind)
        if len(behind) < 4 or behind == b"\3\0\0\x11":
            check_silence(line.wire, closed=False)
            line.peer = None  # its Confirm cannot be right any more
        else:
            self.refused(line, R.CONFIRM if behind[:4] == b"\3\0\0\x11" else R.FRAME_HEADER)

    # ---- replays ----

    @rule(number=_NUMBER, sizes=_SIZES, where=st.sampled_from(("here", "here", "other port", "turned away")))
    def replay(self, number: int, sizes: list[int], where: str) -> None:
        """A Hello that was said before. One that was accepted is refused if it was signed, answered anew if it was
        anonymous, and does not fit the other port; one of somebody who was not admitted was not remembered, and is
        judged as if it were new."""
        said = self.turned_away if where == "turned away" else self.accepted
        if not said:
            return
        line = pick(number, *said)
        if where == "other port" and self.can(Can.ROSTER):
            other = Port.CLUSTER if line.port is Port.CLIENT else Port.CLIENT
            scene = attrs.evolve(self.scene("stranger", port=other), comer=line.comer, service=line.service)
            is_due = len(line.frame) - 4 in self.lengths(self.stand)
            self.offer(line.frame, scene, R.MAC if is_due else R.FRAME_HEADER, another=True)
        else:
            self.say_again(line, sizes)

    def say_again(self, said: Line, sizes: Sequence[int]) -> None:
        assert said.comer is not None
        scene = attrs.evolve(self.scene("stranger", port=said.port), comer=said.comer, service=said.service)
        signed = said.comer.role != Role.ANONYMOUS
        seen = R.REPLAY_SEEN if signed and said.frame in [line.frame for line in self.accepted] else None
        reason = first_refusal(self.standing(said, self.stand), seen)
        line = self.offer(said.frame, scene, reason, sizes=sizes, another=True, ck=said.ck)
        if line is not None and line.peer is not None and self.can(Can.STATE):
            self.confirm(line)

    @rule(who=_WHO, number=_NUMBER, size=_SIZE)
    def race(self, who: str, number: int, size: int) -> None:
        """The same Hello on two connections at once: the first one that is whole is the one that counts."""
        scene = self.scene(who, number)
        frame = scene.hello()
        first, last = pieces(frame, [size])
        lines = [self.come(scene, frame), self.come(scene, frame)]
        for line in lines:
            line.wire.send(first)
            check_silence(line.wire, closed=False)
        reason = self.standing(lines[0], self.stand)
        lines[0].wire.send(last)
        if reason is None:
            self.answered(lines[0])
            reason = R.REPLAY_SEEN if scene.comer.role != Role.ANONYMOUS else None
        else:
            self.refused(lines[0], reason)
        lines[1].wire.send(last)
        if reason is None:
            self.answered(lines[1])
            self.cross(lines)
        else:
            self.refused(lines[1], reason)

    def cross(self, lines: Sequence[Line]) -> None:
        """The Confirm of each goes to the other: it was not made for that HelloReply."""
        records = [right_confirm(line) for line in lines]
        for line, record in zip(lines, reversed(records), strict=True):
            line.wire.send(record)
            self.refused(line, R.CONFIRM)

    @rule(who=_WHO, other=_WHO, number=_NUMBER)
    def cross_confirms(self, who: str, other: str, number: int) -> None:
        """Two handshakes, and the Confirm of each for the other."""
        lines = []
        for scene in (self.scene(who, number), self.scene(other, number)):
            line = self.offer(scene.hello(), scene)
            if line is not None and line.peer is not None:
                lines.append(line)
        if len(lines) == 2:
            self.cross(lines)

    # ---- Confirms with something wrong ----

    @rule(what=st.sampled_from(sorted(CONFIRMS)), more=st.integers(0, 3), who=_WHO, number=_NUMBER, size=_SIZE)
    def confirm_wrongly(self, what: str, more: int, who: str, number: int, size: int) -> None:
        """A first record with one thing wrong, then another with the next thing in the table."""
        for name in following(sorted(CONFIRMS), what, more):
            self.say_confirm_wrongly(name, who, number, size)

    def say_confirm_wrongly(self, what: str, who: str, number: int, size: int) -> None:
        """One of CONFIRMS: it is refused in silence, and nobody is established."""
        line = self.awaiting(number)
        if line is None:
            scene = self.scene(who, number)
            line = self.offer(scene.hello(), scene)
        if line is None or line.peer is None:
            return
        wrong = CONFIRMS[what]
        data = wrong.make(line, number)
        if wrong.reason is R.FRAME_HEADER:
            line.wire.send(data[:4])
        else:
            *first, last = pieces(data, [size])
            for part in first:
                line.wire.send(part)
                check_silence(line.wire, closed=False)
            line.wire.send(last)
        self.refused(line, wrong.reason)

    # ---- time, and ends ----

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(seconds=st.sampled_from((0.4, 3.3, 9.7, 10.1, 60.0)))
    def wait(self, seconds: float) -> None:
        """Time passes: a handshake ends in silence when its deadline has passed, and nothing else happens."""
        self.driver.pass_time(seconds)
        self.clock += seconds
        for line in list(self.lines):
            age = self.clock - line.opened_at
            if line.state == "OPEN" or age < self.deadline - 0.01:
                check_silence(line.wire, closed=False)
            elif age > self.deadline + 0.01 or line.wire.closed:
                is_let_in = line.comer is None or self.standing(attrs.evolve(line, ck=None), self.stand) is None
                self.refused(line, R.DEADLINE if is_let_in else None)  # who is not may be refused for that, too

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(who=_WHO, number=_NUMBER, size=_SIZE, step=st.sampled_from(("Hello", "Confirm")))
    def dawdle(self, who: str, number: int, size: int, step: str) -> None:
        """Bytes come all the time, and the handshake is not done: they do not extend the deadline. [HS-77]"""
        scene = self.scene(who, number)
        line = self.come(scene)
        reason = self.standing(line, self.stand)
        data = line.frame
        if step == "Confirm" and reason is None:
            line.wire.send(data)
            self.answered(line)
            data = b"\3\0\0\x11" + bytes(17)
        at = 1 + size % (len(data) - 4)
        for part in (data[:at], data[at : at + 1], data[at + 1 : at + 2]):
            line.wire.send(part)
            self.wait(self.deadline * 0.4)
        assert line.state == "IGNORED", "the deadline has passed, and the handshake goes on [HS-77]"

    @precondition(lambda self: self.can(Can.BACK_PRESSURE))
    @rule(who=_WHO, number=_NUMBER, room=st.integers(0, REPLY_SIZE - 1), fails=_EITHER)
    def take_no_reply(self, who: str, number: int, room: int, fails: bool) -> None:
        """HelloReply cannot be written, or not until the deadline: the handshake has failed, in silence. [HS-83]"""
        scene = self.scene(who, number)
        line = self.come(scene)
        reason = self.standing(line, self.stand)
        if fails:
            line.wire.fail_writes()
        else:
            line.wire.stop_taking(room)
        line.wire.send(line.frame)
        if reason is None:
            self.digests += scene.comer.role != Role.ANONYMOUS
            line.state = "AWAIT_CONFIRM"
            if not fails:
                self.lines.remove(line)
                self.wait(self.deadline)
                self.lines.append(line)
                line.wire.received()
            reason = R.TRANSPORT_CLOSED if fails else R.DEADLINE
        self.refused(line, reason)

    @rule(number=_NUMBER, reset=_EITHER)
    def leave_one(self, number: int, reset: bool) -> None:
        """The attacker ends a connection, whatever its state."""
        if self.lines:
            self.leave(pick(number, *self.lines), reset=reset)

    # ---- rosters ----

    @precondition(lambda self: self.can(Can.ROSTER))
    @rule(
        change=st.sampled_from(("who", "who", "access", "ck", "names", "nothing", "old", "responder")), number=_NUMBER
    )
    def adopt(self, change: str, number: int) -> None:
        """Another roster: whom it does not admit is gone at once, and nobody else notices. [RO-55] [RO-56] [RO-57]"""
        held, accepted = self.stand.listing, self.stand.accepted
        listing = attrs.evolve(held, epoch=held.epoch + 1)
        keys = None
        match change:
            case "who":
                somebody = pick(number, *(one.node_id.value for one in (*self.cast.members, *self.cast.clients)))
                listing = attrs.evolve(listing, absent=held.absent ^ {somebody})
            case "access":
                listing = attrs.evolve(listing, anyone=not held.anyone)
            case "ck" if held.ck < LAST_KEY:
                listing = attrs.evolve(listing, ck=held.ck + 1)
                accepted = (listing.ck, held.ck)
                keys = [encryption_key(self.cast, key) for key in accepted]
            case "names":
                listing = attrs.evolve(listing, names=held.names + 1)
            case "old":
                listing = attrs.evolve(held, epoch=max(held.epoch - 1, 1))
                if listing != held or held == first_listing(self.cast):
                    offered = roster_of(self.cast, listing) if listing != held else self.targets[self.port].roster
                    assert offered is not None
                    assert not self.targets[self.port].adopt(offered), "a roster of no higher epoch is in force [RO-34]"
                return
            case "responder":
                assert self.cast.responder is not None
                own = self.cast.responder.node_id.value
                if all(member.node_id.value in held.absent for member in self.cast.members):
                    return  # a roster has a member
                self.put_in_force(Stand(attrs.evolve(listing, absent=held.absent | {own}), accepted), None)
                listing = attrs.evolve(listing, epoch=listing.epoch + 1)
        self.put_in_force(Stand(listing, accepted), keys)

    @precondition(lambda self: self.can(Can.ROSTER))
    @rule(
        who=_WHO,
        number=_NUMBER,
        size=_SIZE_OR_ALL,
        change=st.sampled_from(("who", "names", "ck")),
        back=_EITHER,
    )
    def change_in_between(self, who: str, number: int, size: int | None, change: str, back: bool) -> None:
        """The initiator is removed when its Hello is half there, or answered: it is not let in, but may get the answer
        of the former roster. Or its name is another then, or the keys that are accepted. [HS-22] [HS-58] [RO-56]"""
        scene = self.scene(who, number)
        line = self.come(scene)
        reason = self.standing(line, self.stand)
        first, *rest = pieces(line.frame, [] if size is None else [size])
        line.unsent = b"".join(rest)
        line.wire.send(first)
        if size is None:
            if reason is not None:
                self.refused(line, reason)
                return
            self.answered(line)
        someone = scene.comer.as_
        for _ in range(1 + back):
            if change != "who":
                self.adopt(change, number)
                continue
            listing = self.stand.listing
            if someone is None:
                listing = attrs.evolve(listing, anyone=not listing.anyone)
            elif someone in (*self.cast.members, *self.cast.clients):
                listing = attrs.evolve(listing, absent=listing.absent ^ {someone.node_id.value})
            self.put_in_force(Stand(attrs.evolve(listing, epoch=listing.epoch + 1), self.stand.accepted), None)
        if line.unsent:
            self.finish_hello(line)
        if line.state == "AWAIT_CONFIRM" and line.peer is not None:
            self.confirm(line)

    @precondition(lambda self: self.can(Can.ROSTER))
    @rule(who=_WHO, number=_NUMBER, size=_SIZE)
    def mix_rosters(self, who: str, number: int, size: int) -> None:
        """A Hello is begun for a key that will be accepted, by somebody who will not be admitted then: neither the
        roster before nor the one behind lets it in. [HS-22]"""
        held = self.stand.listing
        key = held.ck + 2 - held.ck % 2  # as large as the first one
        if key > LAST_KEY:
            return
        scene = self.scene(who, number)
        scene = attrs.evolve(scene, to=attrs.evolve(scene.to, ck=encryption_key(self.cast, key).public_key()))
        line = self.come(scene)
        first, line.unsent = pieces(line.frame, [size])
        line.wire.send(first)
        check_silence(line.wire, closed=False)
        listing = attrs.evolve(held, epoch=held.epoch + 1, ck=key)
        if scene.comer.node_id is None:
            listing = attrs.evolve(listing, anyone=False)
        else:
            listing = attrs.evolve(listing, absent=held.absent | {scene.comer.node_id})
        accepted = (key, held.ck)
        self.put_in_force(Stand(listing, accepted), [encryption_key(self.cast, one) for one in accepted])
        self.finish_hello(line)

    # ---- the state table ----

    @precondition(lambda self: self.can(Can.STATE))
    @rule(first=st.integers(0, 2), later=_EITHER)
    def tell_the_core(self, first: int, later: bool) -> None:
        """Every event that is no message, in every state: the row of the table, and nothing else."""
        check_a_full_cache()
        check_intervals()
        for state in ("AWAIT_CONFIRM", "IGNORED") if later else ("AWAIT_HELLO", "ESTABLISHED"):
            self.tell_in(state, first)

    def tell_in(self, state: str, first: int) -> None:
        """All events in one state, this one first."""
        if self.cast.roster is None or self.cast.responder is None:
            return
        roster, key = self.cast.roster, AcceptedKey.of(self.cast.responder.ck_priv)
        welcome = Welcome(self.port, self.cast.card.node_id, lambda: roster, lambda: [key], ReplayCache())
        core = Responder(welcome, draw=Draws("core"), randomised=REMEMBERED)
        self.bring(core, state)
        assert core.state == state, f"{core.state}, {state} expected [HS-79]"
        expected = "ESTABLISHED" if state == "ESTABLISHED" else "IGNORED"
        events = [Responder.deadline_passed, Responder.transport_closed, Responder.given_up]
        for event in (*events[first:], *events[:first]):
            event(core)
            assert core.state == expected, f"{core.state} after {event.__name__} in {state}, not {expected} [HS-79]"
        check_forgotten(core)
        try:
            said = core.receive_data(b"\3\0\0\x11" + bytes(17))
        except UsageError:
            return
        raise AssertionError(f"bytes are taken in {core.state}, and answered with {len(said)}")

    @precondition(lambda self: self.can(Can.STATE))
    @rule(change=st.sampled_from(("responder", "initiator", "access", "names", "ck")))
    def confirm_to_the_core(self, change: str) -> None:
        """Another roster is in force when Confirm arrives, and nobody has told the handshake of it. [HS-58] [RO-58]"""
        if self.cast.roster is None or self.cast.responder is None:
            return
        rosters = [self.cast.roster]
        key = AcceptedKey.of(self.cast.responder.ck_priv)
        welcome = Welcome(self.port, self.cast.card.node_id, lambda: rosters[-1], lambda: [key], ReplayCache())
        core = Responder(welcome, draw=Draws("core"), randomised=REMEMBERED)
        confirm = self.confirm_for(core)
        listing = first_listing(self.cast)
        who = comer(self.port, "lower" if self.port is Port.CLUSTER else "client", self.cast)
        absent = {"responder": self.cast.card.node_id.value, "initiator": who.node_id or b""}.get(change)
        listing = attrs.evolve(
            listing,
            epoch=listing.epoch + 1,
            absent=frozenset() if absent is None else frozenset({absent}),
            anyone=listing.anyone ^ (change == "access"),
            ck=int(change == "ck"),
            names=int(change == "names"),
        )
        rosters.append(roster_of(self.cast, listing))
        refusal = None
        try:
            core.receive_data(confirm)
        except HandshakeRefused as exc:
            refusal = exc.reason
        due = None if absent is None else R.ROSTER_CHANGED
        assert refusal is due, f"{refusal} under a roster with another {change}, {due} expected [HS-58] [RO-58]"
        assert core.state == ("ESTABLISHED" if due is None else "IGNORED"), f"{core.state} behind Confirm [HS-79]"
        if due is not None:
            check_forgotten(core)
        elif change == "names" and who.as_ is not None:
            assert core.established is not None
            assert core.established.initiator is not None
            name = core.established.initiator.name
            assert name == f"{who.as_.card.name}-1", f"{name} is established, whose card is another one now [SV-12]"

    @precondition(lambda self: self.can(Can.STATE))
    @rule(what=st.sampled_from(sorted(HELLOS)), more=st.integers(0, 5), number=_NUMBER)
    def refuse_in_the_core(self, what: str, more: int, number: int) -> None:
        """A refusal holds no secret, nor does the core that has raised it. [HS-10]"""
        if self.cast.roster is None or self.cast.responder is None:
            return
        roster, key = self.cast.roster, AcceptedKey.of(self.cast.responder.ck_priv)
        who = "lower" if self.port is Port.CLUSTER else "client"
        scene = attrs.evolve(self.scene(who), to=self.cast.destination(self.port))
        for name in following(sorted(HELLOS), what, more):
            wrong = HELLOS[name]
            if wrong.port not in (None, self.port) or wrong.reason is None:
                continue
            welcome = Welcome(self.port, self.cast.card.node_id, lambda: roster, lambda: [key], ReplayCache())
            core = Responder(welcome, draw=Draws("core"), randomised=REMEMBERED)
            try:
                core.receive_data(wrong.make(scene, number))
            except HandshakeRefused as exc:
                check_refusal_forgets(exc)
            if core.state == "IGNORED":
                check_forgotten(core, scene.whole.key1)

    def bring(self, core: Responder, state: str) -> None:
        """A core of its own, in this state."""
        if state == "AWAIT_HELLO":
            return
        if state == "IGNORED":
            try:
                core.receive_data(bytes(4))
            except HandshakeRefused:
                return
            raise AssertionError("four zeros are no Hello, and were not refused [HS-25]")
        confirm = self.confirm_for(core)
        if state == "ESTABLISHED":
            said = core.receive_data(confirm)
            assert not said, "Confirm is answered [HS-46]"
            assert core.established is not None, "Confirm was not accepted"

    def confirm_for(self, core: Responder) -> bytes:
        """A core of its own gets a Hello; the Confirm for its HelloReply."""
        who = "lower" if self.port is Port.CLUSTER else "client"
        scene = attrs.evolve(self.scene(who), to=self.cast.destination(self.port))
        reply = core.receive_data(scene.frame)
        assert reply, "a genuine Hello is not answered [HS-79]"
        peer = self.attacker.peer(Side.INITIATOR, scene.frame, reply)
        assert peer is not None
        return peer.record(RecordType.CONFIRM)


@functools.cache
def check_intervals() -> None:
    """No port is opened with a keepalive interval that the protocol does not allow. [HS-44]

    Once in a process is enough, for this and for the next one, if nothing is wrong.
    """
    roster = make_cast().roster
    assert roster is not None
    node_id = next(iter(roster.members))
    for value in (0, 1, 999, 1000, 60_000, 60_001, 3_600_000, 3_600_001):
        for which, least, most in (("keepalive", 1000, 3_600_000), ("link_keepalive", 1000, 60_000)):
            allowed = least <= value <= most or (which == "keepalive" and value == 0)
            intervals = {which: value}
            try:
                Welcome(Port.CLUSTER, node_id, lambda: roster, tuple, ReplayCache(), **intervals)
            except UsageError:
                assert not allowed, f"{which} of {value} ms is refused [HS-44]"
            else:
                assert allowed, f"{which} of {value} ms is taken [HS-44]"


@functools.cache
def check_a_full_cache() -> None:
    """A full replay cache drops what came first, and nothing else. [HS-60] [HS-61]"""
    cache = ReplayCache()
    digests = [number.to_bytes(32, "big") for number in range(REPLAY_CACHE_MIN)]
    assert all(map(cache.insert, digests)), "a digest is taken for another"
    assert not any(map(cache.insert, digests[::1000])), "a digest is taken in twice [HS-39]"
    assert len(cache) == REPLAY_CACHE_MIN, "the cache has no room for what it has to hold [HS-60]"
    assert cache.insert(b"\xff" * 32)
    assert len(cache) == REPLAY_CACHE_MIN, "the cache grows [HS-61]"
    held = [digest for digest in digests if digest in cache]
    assert held == digests[1:], "a full cache does not drop what came first, and that alone [HS-61]"
    assert b"\xff" * 32 in cache


class ResponderClientMachine(ResponderMachine):
    """The client port."""

    port = Port.CLIENT


class ResponderClusterMachine(ResponderMachine):
    """The cluster port."""

    port = Port.CLUSTER


MACHINES = (
    MachineInfo(
        "responder-client",
        "the client port answers genuine Hellos for it, of whom its roster admits, and nothing else",
        ResponderClientMachine,
        tables=("RESPONDER",),
    ),
    MachineInfo(
        "responder-cluster",
        "the cluster port is silent to strangers, and lets nobody in who is not a member",
        ResponderClusterMachine,
        tables=("RESPONDER",),
    ),
)
