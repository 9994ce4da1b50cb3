"""What the machines are compared with: random changes to the bytes of a valid conversation.

The attacker makes a valid Hello or HelloReply, goes on with Confirm, data and Bye, and some of these messages have a
few bytes changed, cut off or added on their way, at random places and with random values. What has to come of it is
judged by the machines' own oracles, as far as these know the conversation: a Hello that was changed is met with
silence, a valid one with the right answer, keys and outcome agree, data arrives or its loss is told. All randomness is
one number, so that Hypothesis knows nothing to be clever with.
"""

import random

from hypothesis import strategies as st
from hypothesis.stateful import rule

from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.oracle import (
    Fresh,
    View,
    check_established,
    check_not_established,
    check_refused,
    check_reply,
    check_session,
    check_silence,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.target import GotData, GotFailure, Wire
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.testing.toolbox import RawPeer, pattern
from xlattice_trio.wire.messages import Purpose, RecordType, Role

_CHANGED = 0.5  # how likely a message is changed
_CONFIRM_SIZE = 21


class Bytes(TargetMachine):
    """Whatever bytes are changed on their way, nothing comes of it but refusals."""

    @rule(seed=st.integers(0, 2**64 - 1))
    def converse(self, seed: int) -> None:
        """One conversation, a side of which is the attacker's."""
        chance = random.Random(seed)  # noqa: S311 - not for secrets
        chance.choice((self._call, self._call, self._be_called, self._go_on))(chance)

    # ---- conversations ----

    def _call(self, chance: random.Random) -> None:
        """The target is the responder."""
        cast = self.meet()
        port = chance.choice(list(Port))
        target = self.driver.responder(port, cast=cast)
        wire = target.connect()
        role, purpose, as_ = chance.choice(
            [
                (Role.MEMBER, Purpose.LINK, cast.members[0]),
                (Role.MEMBER, Purpose.STREAM, cast.members[-1]),
            ]
            if port is Port.CLUSTER
            else [(Role.CLIENT, Purpose.STREAM, cast.clients[0]), (Role.ANONYMOUS, Purpose.STREAM, None)]
        )
        service = b"" if purpose is Purpose.LINK else b"echo"
        hello = self.attacker.hello(cast.destination(port), role=role, purpose=purpose, service=service, as_=as_).frame
        sent = changed(hello, chance)
        wire.send(sent)
        if not sent.startswith(hello):
            self._check_ignored(wire)
            return
        keepalive = 15_000 if purpose is Purpose.LINK else 0
        reply = wire.received()
        secrets = check_reply(self.attacker, hello, reply, keepalive=keepalive, epochs=[1], fresh=Fresh())
        assert secrets is not None
        if sent != hello:  # what comes behind it is no Confirm
            self._check_ignored(wire)
            return
        peer = RawPeer(secrets.i2r, secrets.r2i)
        confirm = peer.record(RecordType.CONFIRM)
        sent = changed(confirm, chance)
        wire.send(sent)
        if not sent.startswith(confirm):
            self._check_ignored(wire)
            return
        if sent != confirm:
            return
        view = View(
            side=Side.RESPONDER,
            role=role,
            purpose=purpose,
            service=service,
            cluster=cast.cluster_id,
            initiator=None if as_ is None else as_.node_id.value,
            recipient=cast.card.node_id.value,
            keepalive=keepalive,
            epoch=1,
            transcript_hash=secrets.th,
            exporter=secrets.exporter,
        )
        check_established(wire, view)
        check_session(wire, peer)
        self._talk(wire, peer, chance)

    def _be_called(self, chance: random.Random) -> None:
        """The target is the initiator."""
        cast = self.meet()
        callee, caller = cast.members[-1], cast.members[0]
        purpose = chance.choice(list(Purpose))
        intent = Intent(
            callee.card,
            cast.cluster_id,
            Role.MEMBER,
            purpose,
            "" if purpose is Purpose.LINK else "echo",
            caller,
            cast.knock or b"",
        )
        wire = self.driver.initiator().dial(intent)
        hello = wire.received()
        reply = self.attacker.reply(hello, keepalive=15_000, epoch=1)
        assert reply is not None, "the target's Hello does not open with the key of whom it dialled"
        sent = changed(reply.frame, chance)
        wire.send(sent)
        if not sent.startswith(reply.frame):
            check_not_established(wire, "FAILED" if wire.closed else "AWAIT_REPLY")
            check_silence(wire, closed=wire.closed)
            return
        confirm = wire.received()
        peer = self.attacker.peer(Side.RESPONDER, hello, reply.frame)
        assert peer is not None
        opened = peer.open(confirm[:_CONFIRM_SIZE])
        assert opened == [(RecordType.CONFIRM, b"")], f"{opened} where Confirm is due"
        if sent == reply.frame:
            self._talk(wire, peer, chance)

    def _go_on(self, chance: random.Random) -> None:
        """A session, without a handshake."""
        side = chance.choice(list(Side))
        wire, peer = self.driver.session(side=side, keepalive=chance.choice([0, 10_000]))
        self._talk(wire, peer, chance)

    def _talk(self, wire: Wire, peer: RawPeer, chance: random.Random) -> None:
        """Data, and the end of it; what is delivered is what was sent, in front of the first change."""
        expected, is_whole = b"", True
        assert wire.application is not None
        for number in range(chance.randrange(1, 5)):
            data = pattern(number, chance.randrange(1, 200))
            frame = peer.record(RecordType.DATA, data)
            sent = changed(frame, chance)
            wire.send(sent)
            if is_whole and sent.startswith(frame):
                expected += data
            is_whole = is_whole and sent == frame
        if is_whole and chance.random() < _CHANGED:
            wire.send(peer.record(RecordType.BYE))
        else:
            is_whole = False
        wire.close()
        told = wire.application.told()
        delivered = b"".join(one.data for one in told if isinstance(one, GotData))
        assert delivered == expected, "what is delivered is not what was sent"
        failed = any(isinstance(one, GotFailure) for one in told)
        assert failed != is_whole, f"{told[-1:]} of a session that {'was whole' if is_whole else 'was cut'}"

    def _check_ignored(self, wire: Wire) -> None:
        """Silence, and in the end the connection is closed."""
        if not wire.closed:
            check_silence(wire, closed=False)
            self.driver.pass_time(11.0)
        check_refused(wire, None)


def changed(message: bytes, chance: random.Random) -> bytes:
    """The message, or as often another: bytes changed, taken out, put in, or cut off at the end."""
    if chance.random() >= _CHANGED:
        return message
    data = bytearray(message)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0 if at < len(data):
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randrange(1, 5)]
            case 2:
                data[at:at] = chance.randbytes(chance.randrange(1, 5))
            case _:
                del data[at:]
        if not data:
            break
    return bytes(data)


BASELINE = MachineInfo("bytes", "whatever bytes are changed on their way, nothing comes of it", Bytes)
