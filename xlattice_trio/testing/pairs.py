"""Both ends of a handshake and of a session, stepped one message at a time over a wire that the caller holds.

Nothing arrives by itself. What a side has sent is in flight, in a `Flow`, until the caller delivers it: all of it, a
frame, or a byte; and until then it can be dropped, replaced, doubled or put in another order. Each flow keeps both
transcripts, what was sent and what was delivered, and `first_difference` says to people where two of them part.
"""

from collections.abc import Callable

from xlattice_trio.crypto import SYSTEM_RANDOMISED, Randomised
from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerError, PeerReported, UsageError
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Established, Side
from xlattice_trio.handshake.responder import Responder, Welcome
from xlattice_trio.handshake.transitions import InitiatorState, ResponderState
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.session.connection import Connection, NeedData, SessionEvent
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.testing.draws import Draws
from xlattice_trio.testing.toolbox import RawPeer, frame_spans
from xlattice_trio.wire.framing import FrameReader
from xlattice_trio.wire.messages import FrameKind, Purpose, Role

_HEADER = 4
_WINDOW = 16  # bytes shown on each side of a difference

# ---- wires -------------------------------------------------------------------


def frames(data: bytes) -> list[bytes]:
    """The frames in some bytes, by their headers; the last one may be incomplete."""
    found = []
    while data:
        end = _HEADER + int.from_bytes(data[1:_HEADER], "big")
        found.append(data[:end])
        data = data[end:]
    return found


class Flow:
    """One direction of a wire. `sent` and `delivered` are everything since the beginning."""

    def __init__(self) -> None:
        self.sent = b""
        self.delivered = b""
        self.in_flight = b""

    def put(self, data: bytes | bytearray) -> None:
        """A side has sent something."""
        self.sent += data
        self.in_flight += data

    def take(self, count: int | None = None) -> bytes:
        """What arrives next: so many bytes, all if None."""
        data = self.in_flight if count is None else self.in_flight[:count]
        self.in_flight = self.in_flight[len(data) :]
        self.delivered += data
        return data

    def take_frame(self) -> bytes:
        """The next frame arrives; nothing if none is in flight."""
        first = frames(self.in_flight)[:1]
        return self.take(len(first[0])) if first else b""

    @property
    def frames(self) -> list[bytes]:
        """What is in flight, frame by frame."""
        return frames(self.in_flight)

    def drop(self, number: int = 0) -> None:
        """A frame in flight is lost."""
        self.put_in_flight([frame for i, frame in enumerate(self.frames) if i != number])

    def replace(self, number: int, data: bytes) -> None:
        """Other bytes in the place of a frame in flight."""
        self.put_in_flight([data if i == number else frame for i, frame in enumerate(self.frames)])

    def double(self, number: int = 0) -> None:
        """A frame in flight is there twice."""
        self.put_in_flight([frame for i, one in enumerate(self.frames) for frame in (one,) * (1 + (i == number))])

    def swap(self, a: int, b: int) -> None:
        """Two frames in flight change places."""
        order = self.frames
        order[a], order[b] = order[b], order[a]
        self.put_in_flight(order)

    def put_in_flight(self, order: list[bytes]) -> None:
        """These bytes are in flight, and nothing else."""
        self.in_flight = b"".join(order)


class _Wired:
    """Two sides, and a flow for what each of them sends."""

    def __init__(self) -> None:
        self.flows = {side: Flow() for side in Side}

    def difference(self) -> str:
        """Where what was delivered parts from what was sent, in each direction; empty if it does not."""
        found = []
        for side, flow in self.flows.items():
            expected = flow.sent[: len(flow.sent) - len(flow.in_flight)] if not flow.in_flight else flow.sent
            if not expected.startswith(flow.delivered) or len(flow.delivered) + len(flow.in_flight) != len(flow.sent):
                found.append(f"{side.value}, sent (a) and delivered (b): {first_difference(expected, flow.delivered)}")
        return "\n".join(found)


def other(side: Side) -> Side:
    """The other end."""
    return Side.RESPONDER if side is Side.INITIATOR else Side.INITIATOR


# ---- handshake ---------------------------------------------------------------


class HandshakePair(_Wired):
    """A handshake, its Hello made and in flight.

    `refused` is why a side has given up. Randomness is the same for the same `seed`.
    """

    def __init__(
        self, intent: Intent, welcome: Welcome, *, seed: str = "", randomised: Randomised = SYSTEM_RANDOMISED
    ) -> None:
        super().__init__()
        self.initiator = Initiator(intent, draw=Draws(f"initiator{seed}"), randomised=randomised)
        self.responder = Responder(welcome, draw=Draws(f"responder{seed}"), randomised=randomised)
        self.refused: dict[Side, HandshakeRefused] = {}
        self.flows[Side.INITIATOR].put(self.initiator.hello())

    def deliver(self, to: Side, count: int | None = None) -> None:
        """So many bytes arrive at a side, all that are in flight if None; what it answers is in flight then."""
        self._receive(to, self.flows[other(to)].take(count))

    def deliver_frame(self, to: Side) -> None:
        """The next frame arrives at a side."""
        self._receive(to, self.flows[other(to)].take_frame())

    def _receive(self, to: Side, data: bytes) -> None:
        try:
            if not data:
                return
            if to is Side.INITIATOR and self.initiator.state is InitiatorState.AWAIT_REPLY:
                self.flows[to].put(self.initiator.receive_data(data, 0.0))
            elif to is Side.INITIATOR and self.initiator.established is not None:
                self.initiator.established.reader.feed(data)
            elif to is Side.RESPONDER and self.responder.state in (
                ResponderState.AWAIT_HELLO,
                ResponderState.AWAIT_CONFIRM,
            ):
                self.flows[to].put(self.responder.receive_data(data))
            elif to is Side.RESPONDER and self.responder.established is not None:
                self.responder.established.reader.feed(data)
        except HandshakeRefused as exc:
            self.refused[to] = exc

    def close(self, to: Side) -> None:
        """A side sees the end of the connection."""
        core = self.initiator if to is Side.INITIATOR else self.responder
        if core.established is None and to not in self.refused:
            self.refused[to] = core.transport_closed()

    def run(self) -> None:
        """Deliver everything, until nothing is in flight."""
        while any(flow.in_flight for flow in self.flows.values()):
            for side in Side:
                self.deliver(side)

    def established(self, side: Side) -> Established | None:
        """What the handshake ended with, on this side."""
        return (self.initiator if side is Side.INITIATOR else self.responder).established

    def session(self, now: float = 0.0) -> "SessionPair":
        """The session behind it. Raises UsageError unless both sides are established."""
        a, b = self.established(Side.INITIATOR), self.established(Side.RESPONDER)
        if a is None or b is None:
            raise UsageError("no session without a handshake: a side is not established")
        return SessionPair(Connection(a, now), Connection(b, now), self.flows)


# ---- session -----------------------------------------------------------------

# What both sides have instead of a handshake: the secret of each direction.
I2R, R2I = b"\x01" * 32, b"\x02" * 32


def established(
    side: Side, *, keepalive: int = 0, purpose: Purpose = Purpose.STREAM, recipient: NodeID | None = None
) -> Established:
    """A handshake's outcome from the fixed secrets I2R and R2I. The responder has opened Confirm."""
    sealer, opener = (Sealer(I2R), Opener(R2I)) if side is Side.INITIATOR else (Sealer(R2I), Opener(I2R))
    if side is Side.RESPONDER:
        opener.seq = 1  # Confirm
    return Established(
        side=side,
        role=Role.ANONYMOUS,
        purpose=purpose,
        service="echo" if purpose is Purpose.STREAM else "",
        cluster_id=bytes(32),
        initiator=None,
        recipient=NodeID(bytes(32)) if recipient is None else recipient,
        keepalive=keepalive,
        epoch=1,
        transcript_hash=bytes(32),
        exporter=bytes(32),
        sealer=sealer,
        opener=opener,
        reader=FrameReader(),
    )


def confirmed(outcome: Established, now: float) -> Established:
    """An initiator's outcome, its Confirm sent at `now`; a responder's as it is."""
    if outcome.side is Side.INITIATOR:
        place_seal(outcome.sealer, 1, now)
    return outcome


def place_seal(sealer: Sealer, seq: int, now: float) -> None:
    """Go on sealing at `seq`, as if as many records had been sent in this generation, the first at `now`."""
    sealer.seq = seq
    if sealer._first_sealed_at is None:
        sealer._first_sealed_at = now


def raw_peer(side: Side) -> RawPeer:
    """The attacker's record layer for a session with the fixed secrets; `side` is that of its peer, the target."""
    if side is Side.RESPONDER:
        return RawPeer(I2R, R2I, seq=1)
    peer = RawPeer(R2I, I2R)
    peer.receive_seq = 1
    return peer


class SessionPair(_Wired):
    """A session with a clock that the caller moves: `now`, in seconds.

    `events` are what each side's application was told, `failures` how its session has failed.
    """

    def __init__(self, initiator: Connection, responder: Connection, flows: dict[Side, Flow] | None = None) -> None:
        super().__init__()
        self.sides = {Side.INITIATOR: initiator, Side.RESPONDER: responder}
        self.events: dict[Side, list[SessionEvent]] = {side: [] for side in Side}
        self.failures: dict[Side, PeerError | PeerReported] = {}
        self.now = 0.0
        if flows is not None:
            self.flows = flows
        for side in Side:
            self._take_events(side)  # what arrived behind the handshake

    @classmethod
    def of_fixed_secrets(cls, keepalive: int = 0, purpose: Purpose = Purpose.STREAM) -> "SessionPair":
        """A new session, Confirm behind it."""
        a, b = (confirmed(established(side, keepalive=keepalive, purpose=purpose), 0.0) for side in Side)
        return cls(Connection(a, 0.0), Connection(b, 0.0))

    def send(self, side: Side, make: Callable[[Connection, float], bytes | bytearray]) -> None:
        """A side sends what `make` gives. Raises what that raises, and then nothing is sent."""
        self.flows[side].put(make(self.sides[side], self.now))

    def send_data(self, side: Side, data: bytes) -> None:
        """Data. Raises UsageError, as the three below."""
        self.send(side, lambda connection, now: connection.send_data(data, now))

    def send_bye(self, side: Side) -> None:
        """Bye."""
        self.send(side, lambda connection, now: connection.send_bye(now))

    def send_keepalive(self, side: Side) -> None:
        """KeepAlive."""
        self.send(side, lambda connection, now: connection.send_keepalive(now))

    def send_error(self, side: Side, code: ErrorCode, text: str = "") -> None:
        """Error."""
        self.send(side, lambda connection, now: connection.send_error(code, text, now))

    def deliver(self, to: Side, count: int | None = None) -> None:
        """So many bytes arrive at a side, all that are in flight if None."""
        data = self.flows[other(to)].take(count)
        if data:
            self.sides[to].receive_data(data)
            self._take_events(to)

    def deliver_frame(self, to: Side) -> None:
        """The next frame arrives at a side."""
        self.deliver(to, len((*self.flows[other(to)].frames, b"")[0]))

    def close(self, to: Side) -> None:
        """A side sees the end of the connection."""
        self.sides[to].receive_data(b"")
        self._take_events(to)

    def run(self) -> None:
        """Deliver everything, until nothing is in flight."""
        while any(flow.in_flight for flow in self.flows.values()):
            for side in Side:
                self.deliver(side)

    def _take_events(self, side: Side) -> None:
        connection = self.sides[side]
        try:
            while not isinstance(event := connection.next_event(self.now), NeedData):
                self.events[side].append(event)
        except (PeerError, PeerReported) as exc:
            self.failures[side] = exc
            self.flows[side].put(connection.answer)


# ---- for people --------------------------------------------------------------


def first_difference(a: bytes, b: bytes) -> str:
    """Where two transcripts of one direction part: frame, offset, field, and both sides of it in hexadecimal.

    Empty if they are the same. Frames are told by the headers of `a`, or of `b` if `a` ends before.
    """
    if a == b:
        return ""
    at = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    lines = [f"the same for {at} bytes, then another byte in {_place(a if at < len(a) else b, at)}"]
    for ended, name in ((at == len(a), "a"), (at == len(b), "b")):
        if ended:
            lines = [f"the same for {at} bytes, where {name} ends: {_place(a if at < len(a) else b, at)}"]
    start = max(at - _WINDOW, 0)
    for name, data in (("a", a), ("b", b)):
        before, behind = data[start:at].hex(" "), data[at : at + _WINDOW].hex(" ")
        lines.append(f"  {name}: {before} > {behind or '(nothing)'}  [{len(data)} bytes]")
    return "\n".join(lines)


def _place(data: bytes, at: int) -> str:
    """Which frame a byte is in, at which offset of it, and in which field."""
    start = 0
    for number, frame in enumerate(frames(data)):
        if at < start + len(frame):
            kind = next((kind.name for kind in FrameKind if kind == frame[0]), f"of kind {frame[0]}")
            fields = [name for name, (begin, end) in frame_spans(frame).items() if begin <= at - start < end]
            return f"frame {number} ({kind}), offset {at - start}" + "".join(f", {name}" for name in fields)
        start += len(frame)
    return f"frame {len(frames(data))}, offset 0"
