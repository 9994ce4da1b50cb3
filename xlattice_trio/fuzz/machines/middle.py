"""Honest nodes on both sides, and the attacker in the middle: every frame goes through its hands.

It has the keys of a member and of a client of its own, knows the knock, and steals keys of the others as it likes.

The invariants:
- Two sides that are both established see the same: who they are, role, purpose, service, cluster, keys, transcript; and
  no two sessions share any of it.
- Nobody is established with somebody whom they did not mean, unless that one's keys are stolen: for the initiator the
  responder's ckPriv, for the responder the initiator's skPriv, and no other key helps.
- Who is not in the roster in force when Confirm arrives is not let in.
- What the attacker leaves alone succeeds, whatever it does to others beside it.

What an honest node says is never taken apart but with a key that the attacker has; what becomes of it when it is
changed, misdirected, held back, doubled or crossed with another follows from the promises of Spec 10.2.
"""

from collections.abc import Mapping, Sequence

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from xlattice_trio.errors import RefusalReason
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.hellos import pick
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.machines.initiator import meant_by
from xlattice_trio.fuzz.oracle import (
    DEADLINE,
    REPLY_SIZE,
    Fresh,
    check_agreement,
    check_confirm,
    check_hello,
    check_meant,
    check_not_established,
    check_refused,
    check_silence,
    pieces,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.rosters import Listing, encryption_key, first_listing, roster_of
from xlattice_trio.fuzz.target import Can, GotData, Outcome, ResponderTarget, Wire
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.testing.forge import sealed_under
from xlattice_trio.testing.toolbox import DAMAGE, Destination, damage, flip, k_reply, pattern
from xlattice_trio.wire.messages import Purpose, RecordType, Role

R = RefusalReason

# Who dials, as whom, and for what.
KINDS: Mapping[str, tuple[str, Role, Purpose]] = {
    "link": ("low", Role.MEMBER, Purpose.LINK),
    "low": ("low", Role.MEMBER, Purpose.STREAM),
    "top": ("top", Role.MEMBER, Purpose.STREAM),
    "client": ("client", Role.CLIENT, Purpose.STREAM),
    "anonymous": ("", Role.ANONYMOUS, Purpose.STREAM),
}
ANSWERING = ("mid", "high")

_NUMBER = st.integers(0, 1 << 16)
_SIZES = st.lists(st.integers(0, 2400), max_size=3)
_KIND = st.sampled_from(sorted(KINDS))
_NODE = st.sampled_from(ANSWERING)
_SOME = st.binary(min_size=1, max_size=4)
_THEFTS = ("pose", "pass off", "key1", "x25519", "mlkem_ek")
_MOST = 8


@attrs.define
class Dialled:
    """A connection that an honest node has opened. `to` is whom it means, and `ck` the number of the key it knows."""

    wire: Wire
    who: str
    to: str
    port: Port
    intent: Intent
    hello: bytes
    opened_at: float
    ck: int = 0
    state: str = "AWAIT_REPLY"
    brought: bool = False  # the node that it is for has got the Hello
    confirm: bytes = b""
    answered_by: "Answering | None" = None


@attrs.define
class Answering:
    """A connection to an honest node, which has answered a Hello. `dialled` is who made that; None: the attacker."""

    wire: Wire
    node: str
    port: Port
    dialled: Dialled | None
    role: Role
    initiator: bytes | None
    reply: bytes
    opened_at: float
    state: str = "AWAIT_CONFIRM"


@attrs.define
class Node:
    """An honest node that answers: its ports, and what is in force at it."""

    cast: Cast
    ports: dict[Port, ResponderTarget]
    listing: Listing
    accepted: tuple[int, ...] = (0,)


class MiddleMachine(TargetMachine):
    """Several handshakes of honest nodes, all of them through the attacker."""

    @initialize(id_size=st.sampled_from((32, 20)), keepalive=st.sampled_from((0, 0, 1000)))
    def start(self, id_size: int, keepalive: int) -> None:
        """Five members, of which one is the attacker's, and two clients, of which one is."""
        cast = make_cast(members=5, clients=2, id_size=id_size)
        low, rogue, high, top = cast.members
        assert cast.responder is not None
        self.cast = cast
        self.nodes = {"low": low, "mid": cast.responder, "high": high, "top": top, "client": cast.clients[0]}
        self.rogue, self.rogue_client = rogue, cast.clients[1]
        for identity in (rogue, self.rogue_client, *cast.strangers):
            self.attacker.own(identity)
        assert cast.knock is not None
        self.attacker.learn_knock(cast.knock)
        self.answering: dict[str, Node] = {}
        for name in ANSWERING:
            own = self.nodes[name]
            others = sorted(
                (one for one in (*cast.members, cast.responder) if one is not own), key=lambda one: one.node_id
            )
            seen = attrs.evolve(cast, card=own.card, responder=own, members=others)
            ports = {port: self.driver.responder(port, cast=seen, keepalive=keepalive) for port in Port}
            self.answering[name] = Node(seen, ports, first_listing(seen))
        self.target = self.driver.initiator()
        self.keepalive = keepalive
        self.stolen: set[tuple[str, str]] = set()  # ("sk", "low"), ...
        self.dialled: list[Dialled] = []
        self.answers: list[Answering] = []
        self.clock = 0.0
        self.fresh = Fresh()
        self.exporters: dict[bytes, set[Side]] = {}

    def can(self, *needed: Can) -> bool:
        """Whether the driver has all of this."""
        return self.driver.can.issuperset(needed)

    # ---- what the rules are made of: a frame at a time ----

    def dial(self, kind: str, to: str, number: int = 0) -> Dialled:
        """An honest node dials: the Hello is in the attacker's hands."""
        if len(self.dialled) >= _MOST:
            self.end(self.dialled[0])
        who, role, purpose = KINDS[kind]
        ck = 0
        if to == "rogue":
            card = self.rogue.card
        else:
            ck = pick(number, *range(self.answering[to].listing.ck + 1))
            card = card_of(self.answering[to].cast, ck)
        knock = self.cast.knock if role is Role.MEMBER else b""
        assert knock is not None
        service = "" if purpose is Purpose.LINK else pick(number, "echo", "x" * 64)
        intent = Intent(card, self.cast.cluster_id, role, purpose, service, self.nodes.get(who), knock)
        wire = self.target.dial(intent)
        hello = wire.received()
        check_hello(self.attacker, hello, meant_by(intent), self.fresh)
        found = Dialled(wire, who, to, Port.CLUSTER if knock else Port.CLIENT, intent, hello, self.clock, ck)
        self.dialled.append(found)
        return found

    def connect(self, node: str, port: Port) -> Wire:
        """The attacker's connection to an honest node."""
        if len(self.answers) >= _MOST:
            self.end(self.answers[0])
        return self.answering[node].ports[port].connect()

    def admits(self, node: str, role: Role, initiator: bytes | None) -> bool:
        """Whether the roster in force at a node lets somebody in."""
        found = self.answering[node]
        return found.listing.admission(found.cast).admits(role, initiator)

    def bring_hello_of(self, dialled: Dialled, sizes: Sequence[int] = ()) -> Answering | None:
        """A Hello reaches whom it is for, untouched: it is answered, unless its maker is not admitted any more."""
        wire = self.connect(dialled.to, dialled.port)
        dialled.brought = True
        *first, last = pieces(dialled.hello, sizes)
        for part in first:
            wire.send(part)
            check_silence(wire, closed=False)
        wire.send(last)
        node = self.answering[dialled.to]
        initiator = initiator_of(dialled)
        if dialled.ck not in node.accepted:
            check_refused(wire, R.MAC)  # the two that are accepted have both of the sizes there are
            return None
        if not self.admits(dialled.to, dialled.intent.role, initiator):
            check_refused(wire, R.ROLE if initiator is None else R.MEMBERSHIP)
            return None
        return self.answered(wire, dialled.to, dialled.port, dialled, dialled.intent.role, initiator)

    def answered(
        self, wire: Wire, node: str, port: Port, dialled: Dialled | None, role: Role, initiator: bytes | None
    ) -> Answering:
        """A HelloReply has come, and nobody is established."""
        reply = wire.received()
        assert len(reply) == REPLY_SIZE, f"{len(reply)} bytes in answer to an honest Hello: {wire.refusal} [HS-46]"
        self.fresh.add("the salt of HelloReply [HS-43]", reply[4:36])
        check_silence(wire, closed=False)
        check_not_established(wire, "AWAIT_CONFIRM")
        found = Answering(wire, node, port, dialled, role, initiator, reply, self.clock)
        self.answers.append(found)
        return found

    def bring_reply_of(self, answering: Answering, sizes: Sequence[int] = ()) -> None:
        """A HelloReply reaches the maker of the Hello, untouched: Confirm is in the attacker's hands."""
        dialled = answering.dialled
        assert dialled is not None
        *first, last = pieces(answering.reply, sizes)
        for part in first:
            dialled.wire.send(part)
            check_silence(dialled.wire, closed=False)
        dialled.wire.send(last)
        dialled.confirm = dialled.wire.received()
        check_confirm(None, dialled.confirm)
        dialled.state, dialled.answered_by = "OPEN", answering
        self.established(dialled.wire)

    def bring_confirm_of(self, answering: Answering, sizes: Sequence[int] = ()) -> None:
        """A Confirm reaches whom it is for, untouched: both are established, and agree."""
        dialled = answering.dialled
        assert dialled is not None
        *first, last = pieces(dialled.confirm, sizes)
        for part in first:
            answering.wire.send(part)
            check_silence(answering.wire, closed=False)
            check_not_established(answering.wire, "AWAIT_CONFIRM")
        answering.wire.send(last)
        answering.state = "OPEN"
        self.established(answering.wire)
        self.agree(dialled, answering)

    def established(self, wire: Wire) -> None:
        """A side is established; its exporter is its own and, of another, only that of the other side."""
        check_silence(wire, closed=False)
        found = wire.established
        assert found is not None, f"nobody is established where one has to be: {wire.state}, {wire.refusal}"
        sides = self.exporters.setdefault(found.exporter, set())
        assert found.side not in sides, f"two sessions of a side have one exporter: {found.exporter.hex()}"
        sides.add(found.side)

    def agree(self, dialled: Dialled, answering: Answering) -> None:
        """Both sides are established: they see the same, and their session carries data both ways."""
        a, b = dialled.wire.established, answering.wire.established
        assert a is not None
        assert b is not None
        check_agreement(a, b)
        intent = dialled.intent
        check_meant(a, intent)
        check_meant(b, intent)
        data = pattern(len(self.exporters), 5)
        for source, sink in ((dialled.wire, answering.wire), (answering.wire, dialled.wire)):
            assert source.application is not None
            assert sink.application is not None
            assert source.application.send_data(data) is Outcome.DONE
            sink.send(source.received())
            told = sink.application.told()
            assert told == [GotData(data)], f"the application was told {told}, not what the other one has sent"
        if a.keepalive:  # or their clocks would have to be told of here
            self.end(dialled)
            self.end(answering)

    def end(self, line: Dialled | Answering) -> None:
        """The attacker cuts a connection."""
        line.wire.reset()
        if isinstance(line, Dialled):
            self.dialled.remove(line)
            if line.state == "AWAIT_REPLY":
                check_refused(line.wire, R.TRANSPORT_CLOSED, "FAILED")
        else:
            self.answers.remove(line)
            if line.state == "AWAIT_CONFIRM":
                check_refused(line.wire, R.TRANSPORT_CLOSED)
        line.state = "over"

    def refused(self, line: Dialled | Answering, reason: RefusalReason | None) -> None:
        """A side has refused what came, or has given up."""
        if isinstance(line, Dialled):
            self.dialled.remove(line)
            check_refused(line.wire, reason, "FAILED")
        else:
            self.answers.remove(line)
            check_refused(line.wire, reason)
        line.state = "over"

    def offer(self, node: str, port: Port, frame: bytes, reason: RefusalReason | None) -> None:
        """A Hello that must be refused, on a connection of its own."""
        wire = self.connect(node, port)
        wire.send(frame)
        check_refused(wire, reason)

    def half(self, kind: str, to: str, number: int = 0) -> Answering | None:
        """A handshake until HelloReply, which is in the attacker's hands; None if the node does not answer it."""
        dialled = self.dial(kind, to, number)
        return self.bring_hello_of(dialled)

    @invariant()
    def nobody_is_deceived(self) -> None:
        """Who is established at a node is there, and means it: same transcript, or the attacker has its skPriv."""
        if not hasattr(self, "exporters"):
            return
        for dialled in self.dialled:
            silent = dialled.wire.established is None
            assert silent or dialled.state == "OPEN", f"established where the model says {dialled.state}"
        for answering in self.answers:
            found = answering.wire.established
            if found is None:
                continue
            assert answering.state == "OPEN", f"established where the model says {answering.state}"
            if answering.dialled is not None:
                other = answering.dialled.wire.established
                assert other is not None, "established with somebody who is not"
                check_agreement(other, found)

    # ---- what is left alone succeeds ----

    @rule(kind=_KIND, to=_NODE, number=_NUMBER, sizes=_SIZES)
    def leave_alone(self, kind: str, to: str, number: int, sizes: list[int]) -> None:
        """A whole handshake, in whatever pieces."""
        answering = self.half(kind, to, number)
        if answering is not None:
            self.bring_reply_of(answering, sizes)
            self.bring_confirm_of(answering, sizes)

    @rule(kind=_KIND, to=_NODE, number=_NUMBER)
    def dial_one(self, kind: str, to: str, number: int) -> None:
        """A Hello, to be held back."""
        self.dial(kind, to, number)

    @rule(what=st.sampled_from(("Hello", "HelloReply", "Confirm")), number=_NUMBER, sizes=_SIZES)
    def bring(self, what: str, number: int, sizes: list[int]) -> None:
        """A frame that was held back goes on."""
        hellos = [one for one in self.dialled if one.state == "AWAIT_REPLY" and one.to != "rogue" and not one.brought]
        replies = [one for one in self.answers if one.dialled is not None and one.dialled.state == "AWAIT_REPLY"]
        confirms = [one for one in self.answers if one.state == "AWAIT_CONFIRM" and self.is_open(one.dialled, one)]
        if what == "Hello" and hellos:
            self.bring_hello_of(pick(number, *hellos), sizes)
        elif what == "HelloReply" and replies:
            self.bring_reply_of(pick(number, *replies), sizes)
        elif what == "Confirm" and confirms:
            self.bring_confirm_of(pick(number, *confirms), sizes)

    def is_open(self, dialled: Dialled | None, answering: Answering) -> bool:
        """Whether this initiator is established by this HelloReply."""
        return dialled is not None and dialled.state == "OPEN" and dialled.answered_by is answering

    # ---- one frame is changed, or goes to somebody else ----

    @rule(kind=_KIND, to=_NODE, node=_NODE, port=st.sampled_from(list(Port)), number=_NUMBER)
    def misdirect_hello(self, kind: str, to: str, node: str, port: Port, number: int) -> None:
        """A Hello reaches another member, or another port: silence. Then the right one, who answers it."""
        dialled = self.dial(kind, to, number)
        if (node, port) != (to, dialled.port):
            found = self.answering[node]
            sizes = {encryption_key(found.cast, ck).key_size for ck in found.accepted}
            due = dialled.intent.peer.ck.key_size in sizes
            self.offer(node, port, dialled.hello, R.MAC if due else R.FRAME_HEADER)
        self.bring_hello_of(dialled)

    @rule(
        step=st.sampled_from(("Hello", "HelloReply", "Confirm")),
        kind=_KIND,
        to=_NODE,
        what=st.sampled_from(sorted(DAMAGE)),
        at=st.integers(0, 8 * 2300),
        some=_SOME,
    )
    def change(self, step: str, kind: str, to: str, what: str, at: int, some: bytes) -> None:
        """A frame is damaged, and the side that gets it refuses it. A Hello is answered when the right one comes."""
        dialled = self.dial(kind, to)
        if step == "Hello":
            changed = damage(dialled.hello, what, at, some)
            if changed[: len(dialled.hello)] != dialled.hello and len(changed) >= len(dialled.hello):
                self.offer(to, dialled.port, changed, None)
        answering = self.bring_hello_of(dialled)
        if answering is None or step == "Hello":
            return
        if step == "HelloReply":
            changed = damage(answering.reply, what, at, some)
            if changed[:REPLY_SIZE] != answering.reply and len(changed) >= REPLY_SIZE:
                dialled.wire.send(changed)
                self.refused(dialled, None)
            return
        self.bring_reply_of(answering)
        bit = at % (8 * len(dialled.confirm))
        answering.wire.send(flip(dialled.confirm, bit))
        self.refused(answering, R.FRAME_HEADER if bit < 32 else R.CONFIRM)

    @rule(kind=_KIND, to=_NODE, first=st.booleans())
    def say_hello_twice(self, kind: str, to: str, first: bool) -> None:
        """A Hello comes on two connections. A signed one is answered once; of an anonymous one each answer has keys of
        its own, and the Confirm of one does not fit the other."""
        answering = self.half(kind, to)
        if answering is None or answering.dialled is None:
            return
        dialled = answering.dialled
        if answering.initiator is not None:
            self.offer(to, dialled.port, dialled.hello, R.REPLAY_SEEN)
            return
        wire = self.connect(to, dialled.port)
        wire.send(dialled.hello)
        again = self.answered(wire, to, dialled.port, dialled, answering.role, None)
        right, wrong = (answering, again) if first else (again, answering)
        self.bring_reply_of(right)
        wrong.wire.send(dialled.confirm)
        self.refused(wrong, R.CONFIRM)
        self.bring_confirm_of(right)

    @rule(kind=_KIND, other=_KIND, to=_NODE, others=_NODE, step=st.sampled_from(("replies", "confirms")))
    def cross(self, kind: str, other: str, to: str, others: str, step: str) -> None:
        """Two handshakes, and the HelloReply or Confirm of each goes to the other one."""
        one, two = self.half(kind, to), self.half(other, others)
        if one is None or two is None or one.dialled is None or two.dialled is None or one not in self.answers:
            return
        if step == "replies":
            two.dialled.wire.send(one.reply)
            self.refused(two.dialled, R.REPLY_NOT_OPENED)
            self.bring_reply_of(one)
            self.bring_confirm_of(one)
            return
        self.bring_reply_of(one)
        self.bring_reply_of(two)
        for answering, dialled in ((one, two.dialled), (two, one.dialled)):
            answering.wire.send(dialled.confirm)
            self.refused(answering, R.CONFIRM)

    # ---- what a rogue member can do with what is meant for it ----

    @rule(kind=_KIND, node=_NODE, how=st.sampled_from(("as it is", "for another", "signed by itself")), number=_NUMBER)
    def redirect(self, kind: str, node: str, how: str, number: int) -> None:
        """A Hello for the rogue is wrapped for another: the recipient stands in what was signed."""
        dialled = self.dial(kind, "rogue", number)
        to = self.destination(node, dialled.port)
        frame = self.attacker.redirect_hello(dialled.hello, to)
        reason: RefusalReason | None = R.RECIPIENT
        if how != "as it is" and frame is not None:
            recipient = bytes((len(to.recipient),)) + to.recipient
            signer = self.rogue.sk_priv if how == "signed by itself" else None
            signer = None if dialled.who == "" else signer
            frame = self.attacker.change_hello(frame, "HelloBody.recipient", recipient, signer=signer)
            reason = R.SIGNATURE
        assert frame is not None, "what is meant for the rogue does not open with its key [HS-12]"
        initiator = initiator_of(dialled)
        if reason is R.SIGNATURE and not self.admits(node, dialled.intent.role, initiator):
            reason = R.ROLE if initiator is None else R.MEMBERSHIP
        elif reason is R.SIGNATURE and initiator is None:  # what an anonymous one says anybody can say
            wire = self.connect(node, dialled.port)
            wire.send(frame)
            self.answered(wire, node, dialled.port, None, Role.ANONYMOUS, None)
            return
        self.offer(node, dialled.port, frame, reason)

    @rule(kind=_KIND, node=_NODE, number=_NUMBER)
    def relay(self, kind: str, node: str, number: int) -> None:
        """The rogue, who is dialled, dials on as itself with the shares and key1 of the other: both get all secrets of
        one handshake, and yet no common keys, for the frames are in them."""
        dialled = self.dial(kind, "rogue", number)
        opened = self.attacker.open_hello(dialled.hello)
        assert opened is not None
        intent = dialled.intent
        as_ = {Role.MEMBER: self.rogue, Role.CLIENT: self.rogue_client, Role.ANONYMOUS: None}[intent.role]
        initiator = None if as_ is None else as_.node_id.value
        if not self.admits(node, intent.role, initiator):
            return
        hello = self.attacker.hello(
            self.destination(node, dialled.port),
            role=intent.role,
            purpose=intent.purpose,
            service=intent.service.encode(),
            as_=as_,
            key1=opened.key1,
            x25519=opened.field("x25519"),
            mlkem_ek=opened.field("mlkem_ek"),
        ).frame
        wire = self.connect(node, dialled.port)
        wire.send(hello)
        answering = self.answered(wire, node, dialled.port, None, intent.role, initiator)
        self.pass_off(dialled, hello, answering)

    def pass_off(self, dialled: Dialled, hello: bytes, answering: Answering) -> None:
        """What a node said to the Hello of somebody else, sealed again for this one: the keys are not the same."""
        opened, own = self.attacker.open_reply(hello, answering.reply), self.attacker.open_hello(dialled.hello)
        assert opened is not None, "the attacker cannot open the answer to its own Hello [HS-5]"
        assert own is not None
        head = answering.reply[:36]
        reply = head + sealed_under(k_reply(dialled.hello, head[4:], own.key1), bytes(12), head, opened.body)
        dialled.wire.send(reply)
        dialled.confirm = dialled.wire.received()
        check_confirm(None, dialled.confirm)
        dialled.state = "OPEN"
        self.established(dialled.wire)
        answering.wire.send(dialled.confirm)
        self.refused(answering, R.CONFIRM)

    # ---- stolen keys ----

    def steal(self, what: str, who: str) -> None:
        """A key of an honest node is stolen: all encryption keys that it has had, or its signature key."""
        self.stolen.add((what, who))
        if what == "ck" and who in ANSWERING:
            for number in range(self.answering[who].listing.ck + 1):
                self.attacker.steal(encryption_key(self.answering[who].cast, number))
        elif what == "ck":
            self.attacker.own(self.nodes[who])

    @rule(
        kind=_KIND,
        node=_NODE,
        number=_NUMBER,
        theft=st.sampled_from(("", "", "sk low", "sk client", "ck mid", "sk mid")),
    )
    def pose_as_initiator(self, kind: str, node: str, number: int, theft: str) -> None:
        """The attacker dials as somebody honest: who has that one's skPriv is let in, and no other key is enough."""
        if theft:
            self.steal(*theft.split())
        who, role, purpose = KINDS[kind]
        if not who:
            return
        identity = self.nodes[who]
        if not self.admits(node, role, identity.node_id.value):
            return
        port = Port.CLUSTER if role is Role.MEMBER else Port.CLIENT
        stolen = ("sk", who) in self.stolen
        keys = [self.rogue.sk_priv, self.rogue_client.sk_priv]
        keys += [self.nodes[other].sk_priv for what, other in sorted(self.stolen) if what == "sk" and other != who]
        keys += [self.nodes[other].ck_priv for what, other in sorted(self.stolen) if what == "ck"]
        hello = self.attacker.hello(
            self.destination(node, port),
            role=role,
            purpose=purpose,
            service=b"" if purpose is Purpose.LINK else b"echo",
            as_=identity,
            signer=identity.sk_priv if stolen else pick(number, *keys),
        ).frame
        if not stolen:
            self.offer(node, port, hello, R.SIGNATURE)
            return
        wire = self.connect(node, port)
        wire.send(hello)
        answering = self.answered(wire, node, port, None, role, identity.node_id.value)
        peer = self.attacker.peer(Side.INITIATOR, hello, answering.reply)
        assert peer is not None
        wire.send(peer.record(RecordType.CONFIRM))
        answering.state = "OPEN"
        self.established(wire)
        if answering.wire.established is not None and answering.wire.established.keepalive:
            self.end(answering)

    @rule(kind=_KIND, node=_NODE, how=st.sampled_from(_THEFTS), number=_NUMBER)
    def use_stolen_ck(self, kind: str, node: str, how: str, number: int) -> None:
        """With the ckPriv of a node the attacker poses as that node to who dials it. To the node itself it poses as
        nobody: what it changes is not signed, and of what is signed it does not have the secrets."""
        self.steal("ck", node)
        dialled = self.dial(kind, node, number)
        assert self.attacker.open_hello(dialled.hello) is not None, (
            "a Hello does not open with the key it is for [HS-12]"
        )
        initiator = initiator_of(dialled)
        if how == "pose":
            forged = self.attacker.reply(dialled.hello, keepalive=15_000)
            assert forged is not None
            dialled.wire.send(forged.frame)
            check_confirm(self.attacker.peer(Side.RESPONDER, dialled.hello, forged.frame), dialled.wire.received())
            dialled.state = "OPEN"
            self.established(dialled.wire)
            self.end(dialled)
            return
        if dialled.ck not in self.answering[node].accepted or not self.admits(node, dialled.intent.role, initiator):
            return
        if how == "pass off":
            answering = self.bring_hello_of(dialled)
            assert answering is not None
            answer = self.attacker.open_reply(dialled.hello, answering.reply)
            assert answer is not None
            forged = self.attacker.reply(
                dialled.hello, keepalive=15_000, key2=answer.field("key2"), salt=answering.reply[4:36]
            )
            assert forged is not None
            dialled.wire.send(forged.frame)
            dialled.confirm = dialled.wire.received()
            check_confirm(self.attacker.peer(Side.RESPONDER, dialled.hello, forged.frame), dialled.confirm)
            dialled.state = "OPEN"
            self.established(dialled.wire)
            answering.wire.send(dialled.confirm)
            self.refused(answering, R.CONFIRM)
            self.end(dialled)
            return
        if initiator is None:
            return
        if how == "key1":
            frame = self.attacker.redirect_hello(dialled.hello, self.destination(node, dialled.port, dialled.ck))
        elif how == "x25519":
            share = self.attacker.x25519_share()
            frame = self.attacker.change_hello(dialled.hello, "HelloBody.x25519", share)
        else:
            frame = self.attacker.change_hello(dialled.hello, "HelloBody.mlkem_ek", self.attacker.mlkem_ek())
        assert frame is not None
        if frame != dialled.hello:
            self.offer(node, dialled.port, frame, R.SIGNATURE)

    # ---- rosters, time, ends ----

    @rule(node=_NODE, change=st.sampled_from(("low", "top", "client", "rogue", "access", "ck")))
    def adopt(self, node: str, change: str) -> None:
        """A node adopts another roster: whom it does not admit is gone at once, and nobody else notices."""
        found = self.answering[node]
        held = found.listing
        listing = attrs.evolve(held, epoch=held.epoch + 1)
        keys = None
        if change == "access":
            listing = attrs.evolve(listing, anyone=not held.anyone)
        elif change == "ck":
            listing = attrs.evolve(listing, ck=held.ck + 1)
            found.accepted = (listing.ck, held.ck)
            keys = [encryption_key(found.cast, number) for number in found.accepted]
        else:
            identity = self.rogue if change == "rogue" else self.nodes[change]
            listing = attrs.evolve(listing, absent=held.absent ^ {identity.node_id.value})
        target = found.ports[Port.CLUSTER]
        assert target.adopt(roster_of(found.cast, listing), keys), "a roster of a higher epoch is not taken [RO-33]"
        found.listing = listing
        for answering in list(self.answers):
            if answering.node != node or self.admits(node, answering.role, answering.initiator):
                check_silence(answering.wire, closed=False)
            elif answering.state == "OPEN":
                said = answering.wire.received()
                assert said, "a session that the new roster does not admit goes on [RO-55]"
                self.end(answering)
            else:
                self.refused(answering, R.ROSTER_CHANGED)

    @rule(kind=_KIND, to=_NODE, step=st.sampled_from(("HelloReply", "Confirm")))
    def remove_in_between(self, kind: str, to: str, step: str) -> None:
        """The initiator is removed while its handshake goes on, and put back afterwards: it is not let in. [RO-56]"""
        answering = self.half(kind, to)
        if answering is None or answering.dialled is None:
            return
        if step == "Confirm":
            self.bring_reply_of(answering)
        change = KINDS[kind][0] or "access"
        self.adopt(to, change)
        assert answering not in self.answers, "who is not in the new roster is still there [RO-56]"
        self.adopt(to, change)
        if step == "Confirm":
            answering.wire.send(answering.dialled.confirm)
            check_refused(answering.wire, R.ROSTER_CHANGED)

    @rule(kind=_KIND, to=_NODE, size=st.integers(0, 2400))
    def remove_within_hello(self, kind: str, to: str, size: int) -> None:
        """The initiator is removed when half of its Hello is there. The former roster may still answer it, and does not
        let it in. [HS-22] [HS-58]"""
        dialled = self.dial(kind, to)
        initiator, role = initiator_of(dialled), dialled.intent.role
        if dialled.ck not in self.answering[to].accepted or not self.admits(to, role, initiator):
            return
        wire = self.connect(to, dialled.port)
        dialled.brought = True
        first, last = pieces(dialled.hello, [size])
        wire.send(first)
        self.adopt(to, KINDS[kind][0] or "access")
        wire.send(last)
        if wire.closed:
            check_refused(wire, R.ROLE if initiator is None else R.MEMBERSHIP)
        else:
            answering = self.answered(wire, to, dialled.port, dialled, role, initiator)
            self.bring_reply_of(answering)
            wire.send(dialled.confirm)
            self.refused(answering, R.ROSTER_CHANGED)
        self.adopt(to, KINDS[kind][0] or "access")

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(seconds=st.sampled_from((0.4, 3.3, 9.7, 10.1)))
    def wait(self, seconds: float) -> None:
        """Frames are held back: each side gives up by its own deadline, in silence."""
        for line in self.lines():
            if line.wire.established is not None and line.wire.established.keepalive:
                self.end(line)  # or its clocks would have to be told of here
        self.driver.pass_time(seconds)
        self.clock += seconds
        for line in self.lines():
            age = self.clock - line.opened_at
            if line.state == "OPEN" or age < DEADLINE - 0.01:
                check_silence(line.wire, closed=False)
            elif age > DEADLINE + 0.01 or line.wire.closed:
                self.refused(line, R.DEADLINE)

    def lines(self) -> list[Dialled | Answering]:
        """All connections."""
        return [*self.dialled, *self.answers]

    @rule(number=_NUMBER, side=st.sampled_from(list(Side)))
    def cut(self, number: int, side: Side) -> None:
        """The attacker cuts a connection of one side; the other side goes on without it."""
        lines: Sequence[Dialled | Answering] = self.dialled if side is Side.INITIATOR else self.answers
        if lines:
            self.end(pick(number, *lines))

    # ---- names ----

    def destination(self, node: str, port: Port, ck: int | None = None) -> Destination:
        """What the attacker has to know of a node."""
        found = self.answering[node]
        number = found.listing.ck if ck is None else ck
        return attrs.evolve(found.cast.destination(port), ck=encryption_key(found.cast, number).public_key())


def initiator_of(dialled: Dialled) -> bytes | None:
    """Its NodeID; None if it is anonymous."""
    identity = dialled.intent.identity
    return None if identity is None else identity.node_id.value


def card_of(cast: Cast, ck: int) -> VerifiedCard:
    """The responder's card with an encryption key of this number."""
    if ck == 0:
        return cast.card
    return roster_of(cast, attrs.evolve(first_listing(cast), ck=ck)).members[cast.card.node_id].card


MACHINES = (
    MachineInfo(
        "middle",
        "two honest sides agree on everything, or are not both established, whatever is done between them",
        MiddleMachine,
        drivers=("sansio", "memory"),
    ),
)
