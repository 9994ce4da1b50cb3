"""The initiator, against an attacker who answers: who has the key that the Hello is for, or has not.

The invariants:
- A Hello is exactly what Spec 5.5 says, for the node that is meant and by nobody else, and nothing in it comes twice.
- Confirm comes for a right HelloReply, at once, and both sides then have the same keys and see the same.
- Anything else is refused: not a byte is sent after it, and the connection is closed at once.
- Who does not have the ckPriv of the node that is meant never gets a Confirm.
- The state is that of the state table Initiator after every input, and every exception is a documented one.

What has to happen follows from what was changed: the tables REPLIES and BLIND say of each thing that can be wrong which
check of Spec 5.9 has to find it; of bytes that are changed anywhere it is said by where they are.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from xlattice_trio.crypto import Label, pss_verify
from xlattice_trio.errors import EncodeError, HandshakeRefused, IdentityError, RefusalReason, UsageError
from xlattice_trio.fuzz.confirms import OTHERS
from xlattice_trio.fuzz.hellos import CASTS, SERVICES, following, pick
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.oracle import (
    CONFIRM_SIZE,
    DEADLINES,
    LOW_ORDER,
    Fresh,
    Meant,
    View,
    check_confirm,
    check_established,
    check_forgotten,
    check_hello,
    check_not_established,
    check_refusal_forgets,
    check_refused,
    check_session,
    check_silence,
    opened,
    pieces,
    reply_values,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.target import Can, GotData, Wire
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.testing.draws import REMEMBERED, Draws
from xlattice_trio.testing.forge import ForgedReply, expand, forge_record, h, mac_of, sealed_under
from xlattice_trio.testing.toolbox import (
    DAMAGE,
    Attacker,
    damage,
    field_edge,
    field_names,
    flip,
    k_reply,
    put,
    with_field,
)
from xlattice_trio.wire.messages import Purpose, RecordType, ReplyBody, Role

R = RefusalReason

KINDS = ("link", "member", "client", "anonymous")
_HEAD = 36  # of a HelloReply: header and salt

# ---- what can be wrong with a HelloReply -------------------------------------


@attrs.define
class Call:
    """One connection that the target has opened, and what the model knows of it."""

    wire: Wire
    opened_at: float
    intent: Intent
    attacker: Attacker
    frame: bytes  # the Hello
    owned: bool  # the attacker has the ckPriv that it is for
    keepalive: int
    kept: ForgedReply | None = None
    state: str = "AWAIT_REPLY"

    @property
    def whole(self) -> ForgedReply:
        """A HelloReply with nothing wrong, which is never sent as it is."""
        if self.kept is None:
            self.kept = self.forged()
        return self.kept

    @property
    def reply(self) -> bytes:
        """The frame of it."""
        return self.whole.frame

    def forged(self, **parts: Any) -> ForgedReply:
        """A HelloReply with everything right but what `parts` say. Only for one that is owned."""
        found = self.attacker.reply(self.frame, **{"keepalive": self.keepalive} | parts)
        assert found is not None, "the attacker cannot open a Hello for a key that it has [HS-12]"
        return found

    @property
    def key1(self) -> bytes:
        """key1 of the Hello. Only for one that is owned."""
        opened = self.attacker.open_hello(self.frame)
        assert opened is not None
        return opened.key1

    def sealed(self, body: bytes, **wrong: Any) -> bytes:
        """The whole HelloReply with another body, sealed again. `wrong` is another `key`, `nonce` or `aad`."""
        head = self.reply[:_HEAD]
        seal = {"key": self.whole.k_reply, "nonce": bytes(12), "aad": head} | wrong
        return head + sealed_under(seal["key"], seal["nonce"], seal["aad"], body)

    def field(self, name: str, encoded: bytes) -> bytes:
        """The whole HelloReply with another encoding of a field of ReplyBody."""
        return self.sealed(with_field(ReplyBody, self.whole.body, name, encoded))


@attrs.frozen
class Wrong:
    """One thing that is wrong with a HelloReply: the requirement that it tries, the check that finds it, its making."""

    requirement: str
    reason: RefusalReason
    make: Callable[[Call, int], bytes]
    link: bool = False  # only links are refused for it


def _milliseconds(*values: int) -> Callable[[Call, int], bytes]:
    return lambda call, number: call.field("keepalive", pick(number, *values).to_bytes(4, "big"))


def _another_key(call: Call, number: int) -> bytes:
    """Under a key that is derived in another way."""
    key1, salt, hello = call.key1, call.reply[4:_HEAD], call.frame
    key = pick(
        number,
        k_reply(hello[:-16], salt, key1),
        k_reply(hello[4:], salt, key1),
        k_reply(b"", salt, key1),
        k_reply(hello, b"", key1),
        k_reply(hello, bytes(32), key1),
        k_reply(hello, salt, bytes(32)),
        expand(mac_of(bytes(32), key1), "hello"),
        expand(mac_of(h("transcript", hello, salt), key1), "hello-reply"),
        key1,
        bytes(32),
    )
    return call.sealed(call.whole.body, key=key)


def _as_for_another_hello(call: Call, number: int) -> bytes:
    """The answer to a Hello that differs in one bit."""
    return call.forged(
        sealing_key=k_reply(flip(call.frame, number), call.reply[4:_HEAD], call.key1), salt=call.reply[4:_HEAD]
    ).frame


def _lengths(number: int) -> bytes:
    return bytes(pick(number, 0, 1, 1211, 1213, 1212 + 65536, 0xFFFFFF, 2212, 17).to_bytes(3, "big"))


REPLIES: Mapping[str, Wrong] = {
    "kind": Wrong("HS-47", R.FRAME_HEADER, lambda c, n: put(c.reply, 0, pick(n, b"\0", b"\1", b"\3", b"\4", b"\x82"))),
    "length": Wrong("HS-47", R.FRAME_HEADER, lambda c, n: put(c.reply, 1, _lengths(n))),
    "the Hello itself": Wrong("HS-47", R.FRAME_HEADER, lambda c, _: c.frame),
    "a record first": Wrong("HS-47", R.FRAME_HEADER, lambda _c, n: forge_record(bytes(32), 0, pick(n, 1, 2, 5, 6))),
    "bit of the salt": Wrong("HS-48", R.REPLY_NOT_OPENED, lambda c, n: flip(c.reply, 32 + n % 256)),
    "bit of sealed": Wrong("HS-48", R.REPLY_NOT_OPENED, lambda c, n: flip(c.reply, 8 * _HEAD + n % (8 * 1180))),
    "bit of the tag": Wrong("HS-48", R.REPLY_NOT_OPENED, lambda c, n: flip(c.reply, 8 * 1200 + n % 128)),
    "another key": Wrong("HS-5", R.REPLY_NOT_OPENED, _another_key),
    "for another Hello": Wrong("HS-5", R.REPLY_NOT_OPENED, _as_for_another_hello),
    "nonce": Wrong(
        "HS-11", R.REPLY_NOT_OPENED, lambda c, n: c.sealed(c.whole.body, nonce=(1 << n % 96).to_bytes(12, "big"))
    ),
    "aad": Wrong(
        "HS-48",
        R.REPLY_NOT_OPENED,
        lambda c, n: c.sealed(c.whole.body, aad=pick(n, b"", c.reply[:4], c.reply[4:_HEAD], c.reply[: _HEAD - 1])),
    ),
    "keepalive that nobody may ask for": Wrong(
        "HS-49", R.REPLY_MALFORMED, _milliseconds(1, 999, 3_600_001, (1 << 32) - 1, 500)
    ),
    "keepalive that no link has": Wrong("HS-50", R.KEEPALIVE, _milliseconds(0, 60_001, 3_600_000), link=True),
    "share of low order": Wrong("HS-51", R.KEY_SHARE, lambda c, n: c.field("x25519", pick(n, *LOW_ORDER))),
}

# What one can do who does not have the key that the Hello is for. All of it is refused as REPLY_NOT_OPENED.
BLIND: Mapping[str, Callable[[Call, int], bytes]] = {
    "key1 of zeros": lambda c, _: _blind(c, bytes(32)),
    "key1 of nothing": lambda c, _: _blind(c, b""),
    "key1 that is the ciphertext": lambda c, n: _blind(c, c.frame[8 + n % 200 :][:32]),
    "key that is public": lambda c, n: _blind(
        c,
        b"",
        key=pick(n, bytes(32), c.frame[-16:] * 2, c.intent.cluster_id, c.intent.peer.node_id.value[:20] + bytes(12)),
    ),
    "nothing sealed": lambda _, n: b"\2\0\4\xbc" + pick(n, bytes(1212), b"\xff" * 1212),
}


def _blind(call: Call, key1: bytes, *, key: bytes | None = None) -> bytes:
    head = b"\2\0\4\xbc" + bytes(32)
    body = bytes(32) + call.attacker.x25519_share() + bytes(1088) + (15_000).to_bytes(4, "big") + bytes(8)
    return head + sealed_under(k_reply(call.frame, head[4:], key1) if key is None else key, bytes(12), head, body)


_NUMBER = st.integers(0, 1 << 16)
_SIZE = st.integers(0, 1300)
_SIZES = st.lists(_SIZE, max_size=3)
# A kind of DAMAGE, where, and the bytes for it; where a bit is flipped the number counts bits.
_CHANGE = st.tuples(st.sampled_from(sorted(DAMAGE)), st.integers(0, 8 * 1216), st.binary(min_size=1, max_size=8))
_KIND = st.sampled_from(KINDS)
_CASTS = (*("usual",) * 6, *("short ids",) * 2, "3072 bits", "4096 bits")  # the larger, the slower
_MOST_CALLS = 6


# ---- the machine -------------------------------------------------------------


class InitiatorMachine(TargetMachine):
    """A node that dials, against whoever answers."""

    @initialize(
        cast=st.sampled_from(_CASTS),
        keepalive=st.sampled_from((0, 1000, 15_000, 3_600_000)),
        link_keepalive=st.sampled_from((1000, 15_000, 60_000)),
        deadline=st.sampled_from(DEADLINES),
    )
    def start(self, cast: str, keepalive: int, link_keepalive: int, deadline: float = HANDSHAKE_DEADLINE) -> None:
        """Nobody has dialled. The attacker has the keys of all nodes but one."""
        self.cast = self.meet(CASTS[cast]())
        self.target = self.driver.initiator(deadline=deadline)
        self.deadline = deadline
        self.keepalives = {Purpose.STREAM: keepalive, Purpose.LINK: link_keepalive}
        self.calls: list[Call] = []
        self.clock = 0.0
        self.fresh = Fresh()

    # ---- what the rules are made of ----

    def can(self, *needed: Can) -> bool:
        """Whether the driver has all of this."""
        return self.driver.can.issuperset(needed)

    def intent(self, kind: str, owned: bool, number: int) -> Intent:
        """Whom to dial: a node whose keys the attacker has, or the one whose keys it has not."""
        peer = self.cast.members[-1].card if owned else self.cast.card
        assert self.cast.knock is not None
        identity: LocalIdentity | None = self.cast.members[0]
        role, purpose, knock = Role.MEMBER, Purpose.STREAM, self.cast.knock
        match kind:
            case "link":
                purpose = Purpose.LINK
            case "client":
                identity, role, knock = self.cast.clients[0], Role.CLIENT, b""
            case "anonymous":
                identity, role, knock = None, Role.ANONYMOUS, b""
        service = "" if purpose is Purpose.LINK else pick(number, *SERVICES)
        return Intent(peer, self.cast.cluster_id, role, purpose, service, identity, knock)

    def dial(self, kind: str, owned: bool = True, number: int = 0) -> Call:
        """The target dials, and its Hello is what it has to be."""
        if len(self.calls) == _MOST_CALLS:
            self.leave(self.calls[0])
        intent = self.intent(kind, owned, number)
        wire = self.target.dial(intent)
        frame = wire.received()
        check_hello(self.attacker, frame, meant_by(intent), self.fresh)
        assert (self.attacker.open_hello(frame) is not None) is owned, "a Hello for the key of another node [HS-12]"
        check_silence(wire, closed=False)
        check_not_established(wire, "AWAIT_REPLY")
        call = Call(wire, self.clock, intent, self.attacker, frame, owned, self.keepalives[intent.purpose])
        self.calls.append(call)
        return call

    def waiting(self, number: int, kind: str) -> Call:
        """One that waits for the attacker's HelloReply, and can get it; a new one, if there is none."""
        found = [call for call in self.calls if call.owned and call.state == "AWAIT_REPLY"]
        return pick(number, *found) if found and number % 3 else self.dial(kind)

    def refused(self, call: Call, reason: RefusalReason | None) -> None:
        """The target has refused what came, or has given up: it says nothing more, whatever comes."""
        self.calls.remove(call)
        call.state = "FAILED"
        check_refused(call.wire, reason, "FAILED")
        call.wire.send(b"\2\0\4\xbc" + bytes(1212))
        check_silence(call.wire, closed=True)

    def leave(self, call: Call, *, reset: bool = False) -> None:
        """The attacker goes."""
        if reset:
            call.wire.reset()
        else:
            call.wire.close()
        if call.state == "AWAIT_REPLY":
            self.refused(call, R.TRANSPORT_CLOSED)
            return
        self.calls.remove(call)

    def send(self, call: Call, data: bytes, sizes: Sequence[int] = (), behind: bytes = b"") -> None:
        """Bytes that are to be judged when the last one is there, and not before; what is `behind` comes with it."""
        *first, last = pieces(data, sizes)
        for part in first:
            call.wire.send(part)
            check_silence(call.wire, closed=False)
            check_not_established(call.wire, "AWAIT_REPLY")
        call.wire.send(last + behind)

    def answer(self, call: Call, reply: bytes, sizes: Sequence[int] = (), behind: bytes = b"") -> None:
        """A HelloReply with nothing wrong: Confirm comes, and the session is the attacker's too."""
        peer = self.attacker.peer(Side.RESPONDER, call.frame, reply)
        secrets = self.attacker.secrets(call.frame, reply)
        opened = self.attacker.open_reply(call.frame, reply)
        assert peer is not None
        assert secrets is not None
        assert opened is not None
        keepalive = int.from_bytes(opened.field("keepalive"), "big")
        self.send(call, reply, sizes, peer.record(RecordType.DATA, behind) if behind else b"")
        check_confirm(peer, call.wire.received())
        intent = call.intent
        call.state = "OPEN"
        check_established(
            call.wire,
            View(
                side=Side.INITIATOR,
                role=intent.role,
                purpose=intent.purpose,
                service=intent.service.encode(),
                cluster=intent.cluster_id,
                initiator=None if intent.identity is None else intent.identity.node_id.value,
                recipient=intent.peer.node_id.value,
                keepalive=keepalive,
                epoch=int.from_bytes(opened.field("epoch"), "big"),
                transcript_hash=secrets.th,
                exporter=secrets.exporter,
            ),
        )
        if behind:
            assert call.wire.application is not None
            told = call.wire.application.told()
            assert told == [GotData(behind)], f"the application was told {told}, not what came behind HelloReply"
        check_session(call.wire, peer, seed=len(self.calls))
        if keepalive:  # or its clocks would have to be told of here
            self.leave(call)

    # ---- Hellos, and control ----

    @rule(kind=_KIND, owned=st.booleans(), number=_NUMBER)
    def dial_one(self, kind: str, owned: bool, number: int) -> None:
        """A Hello; the answer may come later."""
        self.dial(kind, owned, number)

    @rule(
        kind=_KIND,
        number=_NUMBER,
        epoch=st.sampled_from((0, 1, 2, (1 << 64) - 1)),
        keepalive=st.sampled_from((None, None, 0, 1000, 60_000, 60_001, 3_600_000)),
        sizes=_SIZES,
        behind=st.booleans(),
    )
    def answer_right(
        self, kind: str, number: int, epoch: int, keepalive: int | None, sizes: list[int], behind: bool
    ) -> None:
        """Everything is right, in whatever pieces it comes. The epoch decides nothing. [HS-53]"""
        call = self.waiting(number, kind)
        is_link = call.intent.purpose is Purpose.LINK
        if keepalive is not None and not (is_link and not 1000 <= keepalive <= 60_000):
            call.keepalive = keepalive
        data = b"behind HelloReply" if behind and not is_link else b""
        self.answer(call, call.forged(epoch=epoch).frame, sizes, data)

    def intend_wrongly(self, kind: str, number: int) -> None:
        """Nobody can be dialled in a way that Spec 5.6 does not have. [HS-16] [HS-17]"""
        right = self.intent(kind, True, number)
        low, high = self.cast.members[0], self.cast.members[-1]
        knock = self.cast.knock or b""
        wrong: dict[str, dict[str, Any]] = {
            "port": {"knock": b"" if right.knock else knock},
            "link by the higher": {
                "role": Role.MEMBER,
                "purpose": Purpose.LINK,
                "service": "",
                "knock": knock,
                "identity": high,
                "peer": low.card,
            },
            "link of a client": {"role": Role.CLIENT, "purpose": Purpose.LINK, "service": "", "identity": low},
            "anonymous with a name": {
                "role": Role.ANONYMOUS,
                "identity": low,
                "purpose": Purpose.STREAM,
                "service": "x",
            },
            "nobody": {"role": pick(number, Role.MEMBER, Role.CLIENT), "identity": None},
            "oneself": {"role": Role.MEMBER, "identity": high, "peer": high.card, "knock": knock},
            "service": {"service": "echo" if right.purpose is Purpose.LINK else ""},
            "long service": {"service": "s" * 65 if right.purpose is Purpose.STREAM else "s"},
            "service of too many bytes": {"service": "ü" * 33 if right.purpose is Purpose.STREAM else "ü"},
            "service that is no text": {"service": "a\x00b"},
        }
        for what, changes in wrong.items():
            try:
                attrs.evolve(right, **changes)
            except (UsageError, EncodeError):
                continue
            raise AssertionError(f"an intent with a wrong {what} is taken [HS-16] [HS-17]")

    # ---- HelloReplies with something wrong ----

    @rule(what=st.sampled_from(sorted(REPLIES)), more=st.integers(0, 4), kind=_KIND, number=_NUMBER, size=_SIZE)
    def answer_wrongly(self, what: str, more: int, kind: str, number: int, size: int) -> None:
        """A HelloReply with one thing wrong, then one with the next thing in the table, and so on."""
        for name in following(sorted(REPLIES), what, more):
            self.say_wrongly(name, kind, number, size)

    def say_wrongly(self, what: str, kind: str, number: int, size: int) -> None:
        """One of REPLIES: it is refused, and nothing is sent."""
        wrong = REPLIES[what]
        call = self.dial("link", number=number) if wrong.link else self.waiting(number, kind)
        data = wrong.make(call, number)
        if wrong.reason is R.FRAME_HEADER:
            call.wire.send(data[:3])
            check_silence(call.wire, closed=False)
            call.wire.send(data[3:4])  # the body is not waited for [FR-5]
        else:
            self.send(call, data, [size])
        self.refused(call, wrong.reason)

    def body_of(self, call: Call, reply: bytes) -> bytes:
        """What is sealed in a HelloReply."""
        opened = self.attacker.open_reply(call.frame, reply)
        return b"" if opened is None else opened.body

    @rule(what=st.sampled_from(sorted(BLIND)), kind=_KIND, number=_NUMBER)
    def answer_blindly(self, what: str, kind: str, number: int) -> None:
        """Who does not have the key that the Hello is for gets no Confirm."""
        call = self.dial(kind, False, number)
        call.wire.send(BLIND[what](call, number))
        self.refused(call, R.REPLY_NOT_OPENED)

    @rule(kind=_KIND, other=_KIND, owned=st.booleans(), number=_NUMBER)
    def answer_another(self, kind: str, other: str, owned: bool, number: int) -> None:
        """The right HelloReply to a Hello goes to another one, which the attacker can open or not."""
        first, second = self.dial(kind), self.dial(other, owned, number)
        reply = first.forged().frame
        second.wire.send(reply)
        self.refused(second, R.REPLY_NOT_OPENED)
        if first in self.calls:
            self.answer(first, reply)

    @rule(
        name=st.sampled_from(field_names(ReplyBody)), edge=_NUMBER, more=st.integers(0, 3), kind=_KIND, number=_NUMBER
    )
    def change_field(self, name: str, edge: int, more: int, kind: str, number: int) -> None:
        """A field of ReplyBody at a bound or beyond it, then at the next; sealed again."""
        for one in range(edge, edge + more + 1):
            call = self.waiting(number, kind)
            data = call.field(name[10:], field_edge(name, one))
            if len(data) == len(call.reply):
                self.judge(call, data)

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=3), kind=_KIND, number=_NUMBER)
    def change_body(self, changes: list[tuple[str, int, bytes]], kind: str, number: int) -> None:
        """Some bytes of ReplyBody are others, or moved, and sealed again."""
        for what, at, some in changes:
            call = self.waiting(number, kind)
            whole = call.whole.body
            self.judge(call, call.sealed((damage(whole, what, at, some) + bytes(len(whole)))[: len(whole)]))

    def judge(self, call: Call, data: bytes) -> None:
        """A HelloReply that opens meets with what the specification says of it."""
        body = self.body_of(call, data)
        values = reply_values(body)
        keepalive = 0 if values is None else values["keepalive"]
        if values is None:
            reason: RefusalReason | None = R.REPLY_MALFORMED
        elif call.intent.purpose is Purpose.LINK and not 1000 <= keepalive <= 60_000:
            reason = R.KEEPALIVE
        else:
            reason = R.KEY_SHARE if values["x25519"] in LOW_ORDER else None
        self.send(call, data)
        if reason is not None:
            self.refused(call, reason)
            return
        peer = self.attacker.peer(Side.RESPONDER, call.frame, data)
        check_confirm(peer, call.wire.received())
        call.state = "OPEN"
        self.leave(call)

    @rule(kind=_KIND, number=_NUMBER, bit=st.integers(0, 8 * 1088))
    def change_ciphertext(self, kind: str, number: int, bit: int) -> None:
        """ML-KEM has no failure: Confirm comes, under keys that nobody has. [HS-9]"""
        call = self.waiting(number, kind)
        right = self.attacker.secrets(call.frame, call.reply)
        start = 64 * 8
        data = call.sealed(flip(call.whole.body, start + bit % (8 * 1088)))
        self.send(call, data)
        confirm = call.wire.received()
        check_confirm(None, confirm)
        assert right is not None
        assert confirm != forge_record(right.i2r, 0, RecordType.CONFIRM), "another ciphertext, and the same keys [HS-9]"
        call.state = "OPEN"
        self.leave(call)

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=3), kind=_KIND, number=_NUMBER)
    def change_frame(self, changes: list[tuple[str, int, bytes]], kind: str, number: int) -> None:
        """Some bytes of the frame are others, missing or too many."""
        for what, at, some in changes:
            call = self.waiting(number, kind)
            data = damage(call.reply, what, at, some)
            if len(data) < 4 or data[: len(call.reply)] == call.reply:
                continue
            call.wire.send(data)
            if data[:4] != call.reply[:4]:
                self.refused(call, R.FRAME_HEADER)
            elif len(data) < len(call.reply):
                check_silence(call.wire, closed=False)
                self.leave(call)
            else:
                self.refused(call, R.REPLY_NOT_OPENED)

    @rule(kind=_KIND, name=st.sampled_from(sorted(OTHERS)), owned=st.booleans(), reset=st.booleans())
    def answer_something_else(self, kind: str, name: str, owned: bool, reset: bool) -> None:
        """Another protocol, or a frame that is not due, or the end of the connection."""
        call = self.dial(kind, owned)
        data = OTHERS[name]
        call.wire.send(data)
        if not data:
            self.leave(call, reset=reset)
        elif data[:4] == b"\2\0\4\xbc":
            self.refused(call, R.REPLY_NOT_OPENED)
        else:
            self.refused(call, R.FRAME_HEADER)

    # ---- time, and ends ----

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(seconds=st.sampled_from((0.4, 3.3, 9.7, 10.1, 60.0)))
    def wait(self, seconds: float) -> None:
        """Time passes: a handshake ends when its deadline has passed, and nothing else happens."""
        self.driver.pass_time(seconds)
        self.clock += seconds
        for call in list(self.calls):
            age = self.clock - call.opened_at
            if call.state == "OPEN" or age < self.deadline - 0.01:
                check_silence(call.wire, closed=False)
            elif age > self.deadline + 0.01 or call.wire.closed:
                self.refused(call, R.DEADLINE)

    @precondition(lambda self: self.can(Can.CLOCK, Can.STATE))
    @rule(kind=_KIND, number=_NUMBER, keepalive=st.sampled_from((1000, 5000, 15_000)), heard=st.booleans())
    def fall_silent(self, kind: str, number: int, keepalive: int, heard: bool) -> None:
        """The responder says nothing more behind its HelloReply, or one record: the first silence may be as long as a
        handshake, if that is longer, and each further one three intervals. [SE-37] [SE-38]"""
        call = self.waiting(number, kind)
        reply = call.forged(keepalive=keepalive).frame
        peer = self.attacker.peer(Side.RESPONDER, call.frame, reply)
        assert peer is not None
        self.send(call, reply)
        check_confirm(peer, call.wire.received())
        self.calls.remove(call)
        limit = 3 * keepalive / 1000
        if heard:
            call.wire.send(peer.record(RecordType.KEEPALIVE))
        else:
            limit = max(limit, self.deadline)
        self.wait(limit - 0.125)
        types = {type_ for type_, _ in opened(peer, call.wire.received())}
        assert types <= {RecordType.KEEPALIVE}, f"{types}, and the silence is not yet too long [SE-37] [SE-38]"
        self.wait(0.125)
        last = [type_ for type_, _ in opened(peer, call.wire.received())][-1:]
        assert last == [RecordType.ERROR], f"no Error after {limit:g} s of silence [SE-37] [SE-38]"
        call.wire.reset()

    @precondition(lambda self: self.can(Can.BACK_PRESSURE))
    @rule(kind=_KIND, number=_NUMBER, room=st.integers(0, CONFIRM_SIZE - 1), fails=st.booleans())
    def take_no_confirm(self, kind: str, number: int, room: int, fails: bool) -> None:
        """Confirm cannot be written, or not until the deadline: nobody is established. [HS-83]"""
        call = self.waiting(number, kind)
        if fails:
            call.wire.fail_writes()
        else:
            call.wire.stop_taking(room)
        call.wire.send(call.forged().frame)
        if not fails:
            check_not_established(call.wire, "AWAIT_REPLY")
            self.calls.remove(call)
            self.wait(self.deadline)
            self.calls.append(call)
            call.wire.received()
        self.refused(call, None)

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(kind=_KIND, size=st.integers(0, 1200))
    def dawdle(self, kind: str, size: int) -> None:
        """Bytes of a HelloReply come all the time, and it is not whole: they do not extend the deadline. [HS-76]"""
        call = self.dial(kind)
        data = call.reply
        at = 1 + size % (len(data) - 4)
        for part in (data[:at], data[at : at + 1], data[at + 1 : at + 2]):
            call.wire.send(part)
            self.wait(self.deadline * 0.4)
        assert call.state == "FAILED", "the deadline has passed, and the handshake goes on [HS-76]"

    @rule(number=_NUMBER, reset=st.booleans())
    def leave_one(self, number: int, reset: bool) -> None:
        """The attacker ends a connection, whatever its state."""
        if self.calls:
            self.leave(pick(number, *self.calls), reset=reset)

    @precondition(lambda self: self.can(Can.STATE))
    @rule(what=st.sampled_from(sorted(REPLIES)), more=st.integers(0, 5), kind=_KIND, number=_NUMBER)
    def refuse_in_the_core(self, what: str, more: int, kind: str, number: int) -> None:
        """A refusal holds no secret, nor does the core that has raised it. [HS-10]"""
        wire = self.waiting(number, kind).wire  # not used for it
        for name in following(sorted(REPLIES), what, more):
            intent = self.intent("link" if REPLIES[name].link else kind, True, number)
            core = Initiator(intent, draw=Draws("core"), randomised=REMEMBERED)
            keepalive = self.keepalives[intent.purpose]
            call = Call(wire, 0.0, intent, self.attacker, core.hello(), True, keepalive)
            try:
                core.receive_data(REPLIES[name].make(call, number), self.driver.now)
            except HandshakeRefused as exc:
                check_refusal_forgets(exc)
            check_forgotten(core, call.key1)

    # ---- the state table ----

    @precondition(lambda self: self.can(Can.STATE))
    @rule(kind=_KIND, closed=st.booleans())
    def tell_the_core(self, kind: str, closed: bool) -> None:
        """Every event that is no message, in every state: the row of the table, and nothing else."""
        self.intend_wrongly(kind, int(closed))
        for state in ("START", "AWAIT_REPLY", "ESTABLISHED", "FAILED"):
            self.tell_in(state, kind, closed)

    def tell_in(self, state: str, kind: str, closed: bool) -> None:
        """Both events in one state, that of the deadline first or last."""
        core = Initiator(self.intent(kind, True, 0), draw=Draws("core"), randomised=REMEMBERED)
        self.bring(core, state)
        assert core.state == state, f"{core.state}, {state} expected [HS-78]"
        expected = "ESTABLISHED" if state == "ESTABLISHED" else "FAILED"
        events = [Initiator.deadline_passed, Initiator.transport_closed]
        for event in reversed(events) if closed else events:
            event(core)
            assert core.state == expected, f"{core.state} after {event.__name__} in {state}, not {expected} [HS-78]"
        check_forgotten(core, Draws("core")("key1", 32))
        for call in (core.hello, lambda: core.receive_data(b"\2\0\4\xbc" + bytes(1212), 0.0)):
            try:
                said = call()
            except UsageError:
                continue
            raise AssertionError(f"{len(said)} bytes in {core.state}, where there is nothing to say [HS-2] [HS-78]")

    def bring(self, core: Initiator, state: str) -> None:
        """A core of its own, in this state."""
        if state == "START":
            return
        hello = core.hello()
        if state == "ESTABLISHED":
            link = core.intent.purpose is Purpose.LINK
            reply = self.attacker.reply(hello, keepalive=15_000 if link else 0)
            assert reply is not None
            check_confirm(self.attacker.peer(Side.RESPONDER, hello, reply.frame), core.receive_data(reply.frame, 0.0))
        if state == "FAILED":
            try:
                core.receive_data(bytes(4), 0.0)
            except HandshakeRefused:
                return
            raise AssertionError("four zeros are no HelloReply, and were not refused [HS-47]")


def meant_by(intent: Intent) -> Meant:
    """What the Hello of an intent has to say."""
    identity = intent.identity
    return Meant(
        ck=intent.peer.ck,
        recipient=intent.peer.node_id.value,
        cluster=intent.cluster_id,
        knock=intent.knock,
        role=intent.role,
        purpose=intent.purpose,
        service=intent.service.encode(),
        initiator=None if identity is None else identity.node_id.value,
        verify=None if identity is None else _verifier(identity.card),
    )


def _verifier(card: VerifiedCard) -> Callable[[bytes, bytes], None]:
    def verify(content: bytes, signature: bytes) -> None:
        try:
            pss_verify(card.sk, Label.HELLO_SIGNATURE, content, signature)
        except IdentityError as exc:
            raise AssertionError("the signature is not that of the initiator over what Spec 5.5 says [HS-14]") from exc

    return verify


MACHINES = (
    MachineInfo(
        "initiator",
        "an initiator says Confirm to whom it means, and to nobody else",
        InitiatorMachine,
        drivers=("sansio", "memory"),
        tables=("INITIATOR",),
    ),
)
