"""The driver without I/O: the cores of handshake and session, driven as `net` drives them, in virtual time.

`_End` is the target's end of a wire. It does for one connection what `net.listen`, `net.dial` and `net.stream` do with
tasks: it carries bytes, holds the deadline of the handshake, sends keepalives, measures silence, lingers, and closes
when the state says so. What it decides by itself is as little as possible, and is tried against the other drivers.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial

from xlattice_trio.crypto import RSAPrivateKey
from xlattice_trio.errors import (
    ErrorCode,
    HandshakeRefused,
    PeerError,
    PeerReported,
    RefusalReason,
    SessionEnded,
    UsageError,
    XLatticeError,
)
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.target import Can, GotData, GotEnd, GotFailure, Outcome, Remembered, TargetCrashed, Told
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Established, Port, Side
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Responder, Welcome, admits
from xlattice_trio.limits import (
    BYE_LINGER,
    ERROR_LINGER,
    HANDSHAKE_DEADLINE,
    LINGER_BYTES,
    RECORD_PAYLOAD_MAX,
)
from xlattice_trio.roster import VerifiedRoster, replaces
from xlattice_trio.session.connection import Connection, DataReceived, EndOfData, MoreToCome, NeedData
from xlattice_trio.session.transitions import State
from xlattice_trio.testing.draws import REMEMBERED, Draws
from xlattice_trio.testing.pairs import confirmed, established, place_seal, raw_peer
from xlattice_trio.testing.toolbox import RawPeer
from xlattice_trio.wire.messages import Purpose

_AT_ONCE = 10_000  # clocks that run out at one instant, before somebody is stuck


class Book:
    """What the application was told and has not been asked for. Data that touches is one piece."""

    def __init__(self) -> None:
        self._told: list[Told] = []

    def add(self, told: Told) -> None:
        """It is told something."""
        last = self._told[-1] if self._told else None
        if isinstance(told, GotData) and isinstance(last, GotData):
            self._told[-1] = GotData(last.data + told.data)
        else:
            self._told.append(told)

    def take(self) -> list[Told]:
        """All of it; the book is empty then."""
        told, self._told = self._told, []
        return told


class Member:
    """What the ports of one member share: the roster in force, the accepted keys, the replay cache. Drivers use it."""

    def __init__(self, cast: Cast) -> None:
        if cast.roster is None or cast.responder is None:
            raise UsageError("a member needs a roster and its own keys")
        self.cast = cast
        self.node_id = cast.responder.node_id
        self.roster = cast.roster
        self.accepted = [AcceptedKey.of(cast.responder.ck_priv)]
        self.replay = ReplayCache()

    def welcome(self, port: Port, keepalive: int, link_keepalive: int) -> Welcome:
        """What a port of it answers with."""
        return Welcome(
            port=port,
            node_id=self.node_id,
            roster=lambda: self.roster,
            accepted_keys=lambda: self.accepted,
            replay=self.replay,
            keepalive=keepalive,
            link_keepalive=link_keepalive,
        )

    def adopt(self, roster: VerifiedRoster, accepted: Sequence[RSAPrivateKey] | None) -> bool:
        """Whether the roster is in force now. Raises what `roster.replaces` raises."""
        if not replaces(self.roster, roster):
            return False
        self.roster = roster
        if accepted is not None:
            self.accepted = [AcceptedKey.of(key) for key in accepted]
        return True

    def farewell(self, session: Established) -> tuple[ErrorCode, str] | None:
        """The Error that ends a session under the roster in force, as `node` has it; None if it goes on."""
        if not admits(self.roster, session.role, session.initiator):  # [RO-55]
            return ErrorCode.NOT_AUTHORIZED, "the new roster does not admit this session"
        if self.node_id not in self.roster.members:  # [RO-58]
            return ErrorCode.SHUTTING_DOWN, "this node is no longer a member"
        return None

    def remembered(self, handshakes: int, sessions: int) -> Remembered:
        """What it keeps beside its connections."""
        digests = hashlib.sha256(b"".join(self.replay._digests)).digest()
        return Remembered(self.roster.epoch, self.roster.digest, len(self.replay), digests, handshakes, sessions)


# ---- one connection ----------------------------------------------------------


class _End:
    """The target's end of a wire, and the attacker's: a `Wire`."""

    def __init__(self, world: "SansIO") -> None:
        self._world = world
        self._core: Initiator | Responder | None = None
        self._session: Connection | None = None
        self._established: Established | None = None
        self._refusal: RefusalReason | None = None
        self._out = bytearray()  # for the attacker
        self._unread = bytearray()  # by the target
        self._closed = False  # by the target
        self._cut = False  # by the attacker
        self._deadline = math.inf  # of the handshake
        self._patience: float = HANDSHAKE_DEADLINE  # ... in seconds
        self._silence_at = math.inf
        self._linger_at = math.inf
        self._reading = True
        self._parting = False  # the application has closed: data is thrown away
        self._thrown_away = 0
        self._broken = False  # by the attacker, both ways
        self._failure: GotFailure | None = None  # told when the session is closed
        self.book = Book()

    # ---- how it begins ----

    def dial(self, intent: Intent, draw: Draws, deadline: float) -> None:
        initiator = Initiator(intent, draw=draw, randomised=REMEMBERED)
        self._core, self._deadline = initiator, self._world.now + deadline
        self._patience = deadline
        self._write(initiator.hello())

    def answer(self, welcome: Welcome, draw: Draws, deadline: float) -> None:
        self._core = Responder(welcome, draw=draw, randomised=REMEMBERED)
        self._deadline = self._world.now + deadline
        self._patience = deadline

    def begin(self, outcome: Established) -> None:
        """ESTABLISHED: the session, from the same bytes on."""
        self._established, self._deadline = outcome, math.inf
        self._session = Connection(outcome, self._world.now, handshake_deadline=self._patience)
        self._pump()

    # ---- the attacker's end ----

    def send(self, data: bytes) -> None:
        if self._closed or self._cut or not data:
            return
        if self._session is not None:
            self._unread += data
            self._pump()
        else:
            self._handshake(data)

    def received(self) -> bytes:
        data = bytes(self._out)
        self._out.clear()
        return data

    @property
    def closed(self) -> bool:
        return self._closed

    def close(self) -> None:
        if self._closed or self._cut:
            return
        self._cut = True
        if self._session is None:
            assert self._core is not None
            self._refused(self._core.transport_closed())
        else:
            self._pump()

    def reset(self) -> None:
        self._broken = True
        self._out.clear()
        self._unread.clear()
        self.close()

    @property
    def state(self) -> str:
        if self._session is not None:
            return self._session.state
        assert self._core is not None
        return self._core.state

    @property
    def established(self) -> Established | None:
        return self._established

    @property
    def refusal(self) -> RefusalReason | None:
        return self._refusal

    @property
    def application(self) -> "_Application | None":
        return None if self._session is None else _Application(self)

    def place_seal(self, seq: int) -> None:
        if self._established is not None:
            place_seal(self._established.sealer, seq, self._world.now)

    def place_open(self, seq: int) -> None:
        if self._established is not None:
            self._established.opener.seq = seq

    def stop_taking(self, room: int = 1024) -> None:  # noqa: ARG002
        raise UsageError("a core without I/O has no writes that could wait")

    def fail_writes(self) -> None:
        raise UsageError("a core without I/O has no writes that could fail")

    def take_again(self) -> None:
        """Nothing was held back."""

    # ---- the handshake ----

    def _handshake(self, data: bytes) -> None:
        core = self._core
        try:
            if isinstance(core, Initiator):
                self._write(core.receive_data(data, self._world.now))
            else:
                assert core is not None
                reply = core.receive_data(data)
                self._write(reply)
                if reply:
                    core.receive_data(b"")  # a header that came behind the Hello waits for nothing [FR-5]
        except HandshakeRefused as exc:
            self._refused(exc)
            return
        if core.established is not None:
            self.begin(core.established)

    def _refused(self, exc: HandshakeRefused) -> None:
        self._refusal, self._deadline = exc.reason, math.inf
        self._close()

    # ---- the session ----

    def _pump(self) -> None:
        """Take what has arrived, as far as somebody reads."""
        session = self._session
        assert session is not None
        if session.state in (State.DRAINING, State.FAILING):
            if self._cut:
                self._finish()
            return
        now = self._world.now
        if not (self._reading or self._parting):
            return
        self._silence_at = math.inf
        session.wait_ends(now)
        if self._unread:
            session.receive_data(bytes(self._unread))
            self._unread.clear()
        if self._cut:
            session.receive_data(b"")
        while not self._closed:
            try:
                event = session.next_event(now)
            except (PeerError, PeerReported) as exc:
                self._failed(exc)
                return
            match event:
                case DataReceived(data):
                    self._got_data(bytes(data))
                case EndOfData():
                    self._tell(GotEnd())
                case MoreToCome():
                    pass
                case NeedData():
                    break
            if session.state is State.CLOSED:
                self._close()
        if not self._closed and session.state in (State.CLOSED, State.FAILED):
            self._close()
        elif not self._closed and not session.is_over and (self._reading or self._parting):
            self._silence_at = now + session.wait_begins(now)

    def _got_data(self, data: bytes) -> None:
        if not self._parting:
            self.book.add(GotData(data))
            return
        self._thrown_away += len(data)
        if self._thrown_away >= LINGER_BYTES:
            self._finish()

    def _tell(self, told: Told) -> None:
        if not self._parting:
            self.book.add(told)

    def _failed(self, exc: XLatticeError) -> None:
        """The session has failed: the application is told, and the peer, if it is told anything."""
        session = self._session
        assert session is not None
        self._failure, self._silence_at = GotFailure.of(exc), math.inf
        if session.answer and not self._cut:
            self._write(session.answer)
            self._linger_at = self._world.now + ERROR_LINGER
        else:
            self._finish()

    def _finish(self) -> None:
        """The end of lingering, or of the session without any."""
        session, now = self._session, self._world.now
        assert session is not None
        if session.state in (State.DRAINING, State.FAILING):
            session.linger_passed(now)
        else:
            session.given_up(now)
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._deadline = self._silence_at = self._linger_at = math.inf
        if self._failure is not None:
            self._tell(self._failure)

    def _write(self, data: bytes | bytearray) -> None:
        if not self._cut:
            self._out += data

    # ---- the application ----

    def _do(self, seal: Callable[[Connection], bytes | bytearray]) -> Outcome:
        session = self._session
        if session is None or self._closed or self._parting or not session.can_send_data:
            return Outcome.REFUSED
        if self._broken:
            self._fail_write()
            return Outcome.REFUSED
        self._write(seal(session))
        return Outcome.DONE

    def _fail_write(self) -> None:
        """A write fails, and what has arrived before that is read."""
        self._reading = True
        self._pump()

    def send_data(self, data: bytes) -> Outcome:
        for start in range(0, len(data), RECORD_PAYLOAD_MAX):
            piece = data[start : start + RECORD_PAYLOAD_MAX]
            if self._do(partial(Connection.send_data, data=piece, now=self._world.now)) is not Outcome.DONE:
                return Outcome.REFUSED
        return Outcome.DONE

    def send_bye(self) -> Outcome:
        outcome = self._do(lambda session: session.send_bye(self._world.now))
        self._begin_to_drain()
        return outcome

    def _begin_to_drain(self) -> None:
        if self._session is not None and self._session.state is State.DRAINING and self._linger_at == math.inf:
            self._silence_at, self._linger_at = math.inf, self._world.now + BYE_LINGER
            self._pump()

    def send_error(self, code: ErrorCode, text: str = "") -> Outcome:
        session = self._session
        if session is None or self._closed:
            return Outcome.REFUSED
        if self._parting or session.state is State.DRAINING:  # an end by Bye is cut short
            self._finish()
            return Outcome.REFUSED
        if session.is_over:
            return Outcome.REFUSED
        self._write(session.send_error(code, text, self._world.now))
        self._silence_at, self._linger_at = math.inf, self._world.now + ERROR_LINGER
        self._pump()
        return Outcome.DONE

    def close_application(self) -> Outcome:
        session, now = self._session, self._world.now
        if session is None or self._closed or self._parting or session.is_over:
            return Outcome.REFUSED
        if session.can_send_data:
            self._write(session.send_bye(now))
        self._parting = True
        self._begin_to_drain()
        if not session.is_over:
            self._linger_at = now + BYE_LINGER
            session.wait_ends(now)
            self._pump()
        return Outcome.DONE

    def stop_reading(self) -> None:
        self._reading = False
        if self._session is not None and not self._parting:  # who parts reads by himself
            self._silence_at = math.inf
            self._session.wait_ends(self._world.now)

    def read_again(self) -> None:
        self._reading = True
        if self._session is not None and not self._closed:
            self._session.wait_ends(self._world.now)
            self._pump()

    # ---- the node ----

    def recheck(self, member: Member) -> None:
        """Another roster is in force."""
        if self._closed:
            return
        if self._established is not None:
            farewell = member.farewell(self._established)
            if farewell is not None:
                before, self._failure = self._failure, GotFailure.of(SessionEnded(*farewell))
                if self.send_error(*farewell) is Outcome.REFUSED:
                    self._failure = before
        elif isinstance(self._core, Responder) and not self._core.is_admitted:
            self._refused(self._core.given_up())

    @property
    def in_handshake(self) -> bool:
        return not self._closed and self._established is None

    @property
    def in_session(self) -> bool:
        return not self._closed and self._established is not None

    # ---- clocks ----

    def due(self) -> float:
        keepalive = self._session.keepalive_at() if self._session is not None and not self._closed else math.inf
        return min(self._deadline, self._silence_at, self._linger_at, keepalive)

    def fire(self) -> None:
        """Something is due now."""
        now, session = self._world.now, self._session
        if self._deadline <= now:
            assert self._core is not None
            self._refused(self._core.deadline_passed())
        elif self._linger_at <= now:
            self._finish()
        elif self._silence_at <= now:
            assert session is not None
            session.wait_ends(now)
            self._failed(session.silence_passed(now))
        elif session is not None and session.keepalive_at() <= now:
            self._write(session.send_keepalive(now))
            if self._broken:
                self._fail_write()


class _Application:
    """The application's side of it."""

    def __init__(self, end: _End) -> None:
        self._end = end

    def told(self) -> list[Told]:
        return self._end.book.take()

    def send_data(self, data: bytes) -> Outcome:
        return self._end.send_data(data)

    def send_bye(self) -> Outcome:
        return self._end.send_bye()

    def send_error(self, code: ErrorCode, text: str = "") -> Outcome:
        return self._end.send_error(code, text)

    def close(self) -> Outcome:
        return self._end.close_application()

    def cancel(self) -> None:
        """Nothing is ever being written."""

    refused_for = None

    def stop_reading(self, last: int = 0) -> None:  # noqa: ARG002
        self._end.stop_reading()

    def read_again(self) -> None:
        self._end.read_again()


# ---- targets -----------------------------------------------------------------


class _Responder:
    """A port of a member."""

    def __init__(
        self, world: "SansIO", member: Member, port: Port, keepalive: int, link_keepalive: int, deadline: float
    ) -> None:
        self.port = port
        self._deadline = deadline
        self._world = world
        self._member = member
        self._welcome = member.welcome(port, keepalive, link_keepalive)

    @property
    def cast(self) -> Cast:
        return self._member.cast

    @property
    def roster(self) -> VerifiedRoster:
        return self._member.roster

    def connect(self) -> _End:
        end = self._world.new_end(self._member)
        end.answer(self._welcome, self._world.draws("responder"), self._deadline)
        return end

    def adopt(self, roster: VerifiedRoster, accepted: Sequence[RSAPrivateKey] | None = None) -> bool:
        if not self._member.adopt(roster, accepted):
            return False
        for end in self._world.ends_of(self._member):
            end.recheck(self._member)
        return True

    def remembered(self) -> Remembered:
        ends = self._world.ends_of(self._member)
        return self._member.remembered(sum(end.in_handshake for end in ends), sum(end.in_session for end in ends))


class _Initiator:
    """A node that dials."""

    def __init__(self, world: "SansIO", deadline: float) -> None:
        self._world = world
        self._deadline = deadline

    def dial(self, intent: Intent) -> _End:
        end = self._world.new_end(None)
        end.dial(intent, self._world.draws("initiator"), self._deadline)
        return end


class SansIO:
    """The driver. `now` is the time that its machine has let pass."""

    name = "sansio"
    can = frozenset(Can) - {Can.BACK_PRESSURE}

    def __init__(self) -> None:
        self.now = 0.0
        self._members: list[Member] = []
        self._ends: list[tuple[Member | None, _End]] = []
        self._drawn = 0

    def responder(
        self,
        port: Port,
        *,
        cast: Cast | None = None,
        keepalive: int = 0,
        link_keepalive: int = 15_000,
        deadline: float = HANDSHAKE_DEADLINE,
    ) -> _Responder:
        return _Responder(self, self.member(cast), port, keepalive, link_keepalive, deadline)

    def initiator(self, *, deadline: float = HANDSHAKE_DEADLINE) -> _Initiator:
        return _Initiator(self, deadline)

    def session(
        self, *, side: Side = Side.RESPONDER, purpose: Purpose = Purpose.STREAM, keepalive: int = 0
    ) -> tuple[_End, RawPeer]:
        end = self.new_end(None)
        end.begin(confirmed(established(side, keepalive=keepalive, purpose=purpose), self.now))
        return end, raw_peer(side)

    def pass_time(self, seconds: float) -> None:
        until, fired = self.now + seconds, 0
        while True:
            due, end = min(((end.due(), i) for i, (_, end) in enumerate(self._ends)), default=(math.inf, 0))
            if due > until:
                break
            fired = fired + 1 if due <= self.now else 0
            if fired > _AT_ONCE:
                raise TargetCrashed(f"the target does not come to rest: {fired} times at one instant a clock runs out")
            self.now = max(due, self.now)
            self._ends[end][1].fire()
        self.now = until

    def close(self) -> None:
        """There is nothing to be ended."""

    # ---- for its parts ----

    def member(self, cast: Cast | None) -> Member:
        """The member of a cast, made once."""
        cast = make_cast() if cast is None else cast
        for member in self._members:
            if member.cast is cast:
                return member
        self._members.append(Member(cast))
        return self._members[-1]

    def new_end(self, member: Member | None) -> _End:
        """A connection."""
        end = _End(self)
        self._ends.append((member, end))
        return end

    def ends_of(self, member: Member) -> list[_End]:
        """The connections of a member."""
        return [end for whose, end in self._ends if whose is member]

    def draws(self, who: str) -> Draws:
        """Randomness for the next connection."""
        self._drawn += 1
        return Draws(f"{who} {self._drawn}")
