"""The driver on Trio: `respond`, `initiate` and `SecureStream` over streams in memory, in the machine's own thread.

`_Guest` runs Trio as a guest of the thread, under MockClock, and advances it by hand: a call of the machine is done in
the run's main task, and returns when all tasks are blocked. There is no other thread, no waiting on the wall's clock,
and, since the order of tasks is the same in every run, nothing that Hypothesis could not have again. Trio has one run
in a thread at a time: one `Memory` is used after the other, and none inside of `trio.run`.
"""

import itertools
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xlattice_trio.crypto import RSAPrivateKey
from xlattice_trio.errors import ErrorCode, HandshakeRefused, RefusalReason, UsageError, XLatticeError
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.memory_client import MemoryClient
from xlattice_trio.fuzz.memory_node import MemoryNode
from xlattice_trio.fuzz.memory_port import Ports
from xlattice_trio.fuzz.memory_wire import MemoryWire
from xlattice_trio.fuzz.sansio import Book, Member
from xlattice_trio.fuzz.target import Can, GotData, GotEnd, GotFailure, Outcome, Remembered, TargetCrashed, Told
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Established, Port, Side
from xlattice_trio.handshake.responder import Responder, Welcome
from xlattice_trio.handshake.transitions import InitiatorState
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.net.dial import initiate
from xlattice_trio.net.listen import Handshakes, PortLimits, respond
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.session.transitions import State
from xlattice_trio.testing.draws import Draws
from xlattice_trio.testing.network import connection_pair, pass_time
from xlattice_trio.testing.pairs import confirmed, established, place_seal, raw_peer
from xlattice_trio.testing.toolbox import RawPeer
from xlattice_trio.wire.messages import Purpose

T = TypeVar("T")

_TICKS = 1_000_000  # of Trio's loop, within one call
_READ_SIZES = (None, 1, 40_000, 7)  # bytes that the application asks for, in turn

# ---- Trio, by hand -----------------------------------------------------------


class _Guest:
    """A run of Trio in this thread that goes on only within `call` and `close`.

    Its main task is never blocked but in `wait_all_tasks_blocked`, and so the run never waits for anything outside.
    """

    def __init__(self) -> None:
        trio._core._run._r.seed(0)  # the order of tasks, which Trio shuffles
        self.clock = MockClock()
        self._ticks: deque[Callable[[], object]] = deque()
        self._command: Callable[[], Awaitable[object]] | None = None
        self._result: Any = None
        self._idle = False
        self._scope = trio.CancelScope()  # of everything
        self._outcome: Any = None  # of the run
        self._nursery: trio.Nursery | None = None
        trio.lowlevel.start_guest_run(
            self._main,
            run_sync_soon_threadsafe=self._ticks.append,
            done_callback=self._done,
            host_uses_signal_set_wakeup_fd=True,
            restrict_keyboard_interrupt_to_checkpoints=True,
            clock=self.clock,
        )
        self._go_on()

    def call(self, function: Callable[[], T]) -> T:
        """Do it in the run, and let every task go as far as it can. Raises TargetCrashed if one of them fails."""

        async def run() -> T:
            return function()

        return self.call_async(run)

    def call_async(self, function: Callable[[], Awaitable[T]]) -> T:
        """As `call`."""
        if self._outcome is not None:
            raise UsageError("the driver was closed, or its target has crashed")
        self._command = function
        self._go_on()
        result: T = self._result
        return result

    def start_soon(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """A task of the run. To be called in it."""
        assert self._nursery is not None
        self._nursery.start_soon(function, *args)

    def close(self) -> None:
        """Cancel everything, and end the run. Raises TargetCrashed if a task has failed since the last call."""
        if self._outcome is not None:
            return
        self._scope.cancel()
        for _ in range(_TICKS):
            self._tick()
            if self._outcome is not None:
                self._report()
                return
        raise TargetCrashed(f"the target does not end: a task goes on for {_TICKS} steps behind its cancellation")

    async def _main(self) -> None:
        with self._scope:
            await self._serve_commands()

    async def _serve_commands(self) -> None:
        async with trio.open_nursery() as self._nursery:
            while True:
                if self._command is not None:
                    command, self._command = self._command, None
                    self._result = await command()
                await wait_all_tasks_blocked()
                self._idle = True
                await trio.lowlevel.checkpoint()

    def _done(self, outcome: Any) -> None:
        self._outcome = outcome

    def _go_on(self) -> None:
        self._idle = False
        for _ in range(_TICKS):
            if self._idle:
                return
            if self._outcome is not None:
                self._report()
                return
            self._tick()
        raise TargetCrashed(f"the target does not come to rest: a task is busy after {_TICKS} steps")

    def _tick(self) -> None:
        self._ticks.popleft()()

    def _report(self) -> None:
        try:
            self._outcome.unwrap()
        except BaseException as exc:
            raise TargetCrashed(f"{type(exc).__name__}: {exc}") from exc


# ---- one connection ----------------------------------------------------------


class _Handshakes(Handshakes):
    """Those of one connection: there is one at most, and it is known here."""

    def __init__(self) -> None:
        super().__init__()
        self.responder: Responder | None = None

    @contextmanager
    def watched(self, responder: Responder, scope: trio.CancelScope) -> Iterator[None]:
        self.responder = responder
        with super().watched(responder, scope):
            yield


class _Wire(MemoryWire):
    """The attacker's end, and the task that is the target's."""

    def __init__(self, guest: _Guest) -> None:
        self._transport, ours = connection_pair(capacity=math.inf)
        super().__init__(guest, ours)
        self.handshakes = _Handshakes()
        self.stream: SecureStream | None = None
        self.refusal: RefusalReason | None = None
        self._application: _Application | None = None
        self._left: bytes = b""  # what was read before the attacker closed

    # ---- the target's tasks ----

    async def answer(self, welcome: Welcome, draw: Draws, deadline: float) -> None:
        """A connection to a port."""
        shake_hands = partial(respond, self._transport, welcome, deadline=deadline, draw=draw)
        await self._serve(partial(shake_hands, handshakes=self.handshakes))

    async def dial(self, intent: Intent, draw: Draws, deadline: float) -> None:
        """A connection from a node that dials."""
        await self._serve(partial(initiate, self._transport, intent, deadline=deadline, draw=draw))

    async def begin(self, outcome: Callable[[float], Established]) -> None:
        """A session without a handshake."""

        async def stream() -> SecureStream:
            return SecureStream(self._transport, outcome(trio.current_time()))

        await self._serve(stream)

    async def _serve(self, shake_hands: Callable[[], Awaitable[SecureStream]]) -> None:
        """The handshake, the application, and keepalives beside it, as `net.listen` has it."""
        try:
            stream = await shake_hands()
        except HandshakeRefused as exc:
            self.refusal = exc.reason
            return
        self.stream = stream
        try:
            async with trio.open_nursery() as nursery:
                self._application = _Application(self.guest, stream, nursery)
                nursery.start_soon(stream.keep_alive)
                await self._application.run()
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(stream)

    # ---- the attacker's end ----

    def received(self) -> bytes:
        left, self._left = self._left, b""
        return left + super().received()

    def _close(self) -> None:
        self._left += self._from_target.get()
        self._to_target.end()
        self._from_target.unwant(swallow=True)

    def stop_taking(self, room: int = 1024) -> None:
        super().stop_taking(room)

    def fail_writes(self) -> None:
        def fail() -> None:
            self._left += self._from_target.get()
            self._from_target.break_()

        self.guest.call(fail)

    # ---- what is known ----

    @property
    def state(self) -> str:
        if self.stream is not None:
            return self.stream._connection.state
        if self.handshakes.responder is not None:
            return self.handshakes.responder.state
        return InitiatorState.AWAIT_REPLY if self.refusal is None else InitiatorState.FAILED

    @property
    def established(self) -> Established | None:
        return None if self.stream is None else self.stream.established

    @property
    def application(self) -> "_Application | None":
        return self._application

    def place_seal(self, seq: int) -> None:
        if self.stream is not None:
            place_seal(self.stream.established.sealer, seq, self.guest.clock.current_time())

    def place_open(self, seq: int) -> None:
        if self.stream is not None:
            self.stream.established.opener.seq = seq

    @property
    def in_handshake(self) -> bool:
        return self.stream is None and self.refusal is None

    @property
    def in_session(self) -> bool:
        return self.stream is not None and not self.stream._over.is_set()

    async def end_session(self, code: ErrorCode, text: str) -> None:
        """The node ends it."""
        assert self.stream is not None
        await self.stream.close_with_error(code, text)


class _Command:
    """Something to be written, and what has become of it."""

    def __init__(self, write: Callable[[], Awaitable[None]]) -> None:
        self.write = write
        self.scope = trio.CancelScope()
        self.is_done = self.is_refused = False


class _Application:
    """What is behind a stream: a task that reads, and one that writes what it is told to, in this order."""

    def __init__(self, guest: _Guest, stream: SecureStream, nursery: trio.Nursery) -> None:
        self._guest = guest
        self._stream = stream
        self._nursery = nursery
        self._book = Book()
        self._reading = trio.Event()
        self._reading.set()
        self._receiving: trio.CancelScope | None = None
        self._sizes = itertools.cycle(_READ_SIZES)
        self._last: int | None = None  # so many bytes are read, and no more
        self._commands: deque[_Command] = deque()
        self._commanded = trio.Event()
        self._writing: _Command | None = None
        self._ended_itself = False
        self.refused_for: GotFailure | None = None

    # ---- tasks ----

    async def run(self) -> None:
        """Read until the session has ended: behind the end of the data, too, where its failure may be found."""
        self._nursery.start_soon(self._write)
        self._nursery.start_soon(self._read_at_the_end)
        try:
            while await self._read(self._receive):
                if self._last is not None:
                    self._reading, self._last = trio.Event(), None
            await self._read(self._stream.wait_closed)
            await self._stream.aclose()
        except trio.BrokenResourceError as exc:
            if not self._ended_itself:
                self._book.add(_failure_of(exc))
        except trio.ClosedResourceError:
            assert self._ended_itself or self._stream._eof_sent
        await self._stream._over.wait()

    async def _read(self, receive: Callable[[], Awaitable[bytes | bytearray | bool]]) -> bytes | bytearray | bool:
        """What `receive` gives, if it is let."""
        while True:
            await self._reading.wait()
            with trio.CancelScope() as self._receiving:
                got = await receive()
                if not (isinstance(got, bool) or self._ended_itself):
                    self._book.add(GotData(bytes(got)) if got else GotEnd())
                return got

    async def _receive(self) -> bytes | bytearray:
        return await self._stream.receive_some(next(self._sizes) if self._last is None else self._last)

    async def _read_at_the_end(self) -> None:
        await self._stream._over.wait()
        self._reading.set()

    async def _write(self) -> None:
        while True:
            while self._commands:
                self._writing = command = self._commands.popleft()
                with command.scope:
                    command.is_refused = await self._fails(command.write)
                self._writing, command.is_done = None, True
            self._commanded = trio.Event()
            await self._commanded.wait()

    # ---- commands ----

    def told(self) -> list[Told]:
        return self._book.take()

    def send_data(self, data: bytes) -> Outcome:
        return self._queue(partial(self._stream.send_all, data))

    def send_bye(self) -> Outcome:
        return self._queue(self._stream.send_eof)

    def _queue(self, write: Callable[[], Awaitable[None]]) -> Outcome:
        command, is_too_late = _Command(write), not self._stream._can_send

        def queue() -> None:
            self._commands.append(command)
            self._commanded.set()

        self._guest.call(queue)
        if is_too_late or command.is_refused:
            return Outcome.REFUSED
        said = command.is_done or self._stream._connection.state is State.DRAINING  # where Bye waits for the peer
        return Outcome.DONE if said else Outcome.WAITING

    def send_error(self, code: ErrorCode, text: str = "") -> Outcome:
        return self._end(partial(self._stream.close_with_error, code, text))

    def close(self) -> Outcome:
        return self._end(self._stream.aclose)

    def _end(self, end: Callable[[], Awaitable[None]]) -> Outcome:
        is_too_late = self._stream._ending or self._stream._over.is_set() or self._stream._connection.is_over
        if not is_too_late:
            self._ended_itself = True
        self._guest.call(lambda: self._guest.start_soon(self._fails, end))
        return Outcome.REFUSED if is_too_late else Outcome.DONE

    async def _fails(self, function: Callable[[], Awaitable[None]]) -> bool:
        """Whether a call of the stream fails in one of the ways that Trio's streams have."""
        try:
            await function()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            cause = exc.__cause__
            self.refused_for = GotFailure.of(cause) if isinstance(cause, XLatticeError) else None
            return True
        return False

    def cancel(self) -> None:
        def cancel() -> None:
            if self._writing is not None:
                self._writing.scope.cancel()

        self._guest.call(cancel)

    def stop_reading(self, last: int = 0) -> None:
        def stop() -> None:
            if self._reading.is_set():
                self._last = last or None
                if not last:
                    self._reading = trio.Event()
                if self._receiving is not None and not self._stream._connection.is_over:
                    self._receiving.cancel()

        self._guest.call(stop)

    def read_again(self) -> None:
        self._guest.call(lambda: self._reading.set())


def _failure_of(exc: trio.BrokenResourceError) -> GotFailure:
    """What a stream has failed of. That it says so is part of its contract."""
    cause = exc.__cause__
    if not isinstance(cause, XLatticeError):
        raise exc
    return GotFailure.of(cause)


# ---- targets -----------------------------------------------------------------


class _Responder:
    """A port of a member."""

    def __init__(
        self, world: "Memory", member: Member, port: Port, keepalive: int, link_keepalive: int, deadline: float
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

    def connect(self) -> _Wire:
        wire = self._world.new_wire(self._member)
        self._world.start(wire.answer, self._welcome, self._world.draws("responder"), self._deadline)
        return wire

    def adopt(self, roster: VerifiedRoster, accepted: Sequence[RSAPrivateKey] | None = None) -> bool:
        return self._world.adopt(self._member, roster, accepted)

    def remembered(self) -> Remembered:
        wires = self._world.wires_of(self._member)
        return self._member.remembered(sum(wire.in_handshake for wire in wires), sum(wire.in_session for wire in wires))


class _Initiator:
    """A node that dials."""

    def __init__(self, world: "Memory", deadline: float) -> None:
        self._world = world
        self._deadline = deadline

    def dial(self, intent: Intent) -> _Wire:
        wire = self._world.new_wire(None)
        self._world.start(wire.dial, intent, self._world.draws("initiator"), self._deadline)
        return wire


class Memory:
    """The driver."""

    name = "memory"
    can = frozenset(Can)

    def __init__(self) -> None:
        self._guest = _Guest()
        self._members: list[Member] = []
        self._wires: list[tuple[Member | None, _Wire]] = []
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
        member = self._member(make_cast() if cast is None else cast)
        return _Responder(self, member, port, keepalive, link_keepalive, deadline)

    def initiator(self, *, deadline: float = HANDSHAKE_DEADLINE) -> _Initiator:
        return _Initiator(self, deadline)

    def session(
        self, *, side: Side = Side.RESPONDER, purpose: Purpose = Purpose.STREAM, keepalive: int = 0
    ) -> tuple[_Wire, RawPeer]:
        wire = self.new_wire(None)
        outcome = established(side, keepalive=keepalive, purpose=purpose)
        self.start(wire.begin, partial(confirmed, outcome))
        return wire, raw_peer(side)

    def ports(
        self,
        cast: Cast | None = None,
        *,
        limits: PortLimits | None = None,
        deadline: float | None = None,
        check_source: bool = True,
        grace: float | None = None,
    ) -> Ports:
        """Both ports of a member from accept on, with limits and the source address check: no other driver has them.

        None are the node's defaults; `limits` are those of either port, `deadline` and `grace` are in seconds.
        """
        member = self._member(make_cast() if cast is None else cast)
        return Ports(self._guest, member, limits=limits, deadline=deadline, check_source=check_source, grace=grace)

    def node(
        self,
        identity: LocalIdentity,
        roster: VerifiedRoster,
        *,
        host: Callable[[], str],
        few: frozenset[str],
        config: Mapping[str, Any],
    ) -> MemoryNode:
        """A whole member, which no other driver has. See there."""
        return MemoryNode(self._guest, identity, roster, host=host, few=few, config=config)

    def client(self) -> MemoryClient:
        """What dials a cluster's members, which no other driver has."""
        return MemoryClient(self._guest)

    def pass_time(self, seconds: float) -> None:
        self._guest.call_async(partial(pass_time, self._guest.clock, seconds))

    @property
    def now(self) -> float:
        return self._guest.clock.current_time()

    def close(self) -> None:
        self._guest.close()

    # ---- for its parts ----

    def new_wire(self, member: Member | None) -> _Wire:
        """A connection."""
        wire = _Wire(self._guest)
        self._wires.append((member, wire))
        return wire

    def wires_of(self, member: Member) -> list[_Wire]:
        """The connections of a member."""
        return [wire for whose, wire in self._wires if whose is member]

    def start(self, function: Callable[..., Awaitable[object]], *args: Any) -> None:
        """A task of the target's."""
        self._guest.call(lambda: self._guest.start_soon(function, *args))

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Do it in the run of Trio, and let every task go as far as it can; it may wait for nothing but them."""
        return self._guest.call_async(partial(function, *args))

    def draws(self, who: str) -> Draws:
        """Randomness for the next connection."""
        self._drawn += 1
        return Draws(f"{who} {self._drawn}")

    def adopt(self, member: Member, roster: VerifiedRoster, accepted: Sequence[RSAPrivateKey] | None) -> bool:
        """As `_Node` in `node` does it. Raises what `roster.replaces` raises."""
        if not member.adopt(roster, accepted):
            return False
        self._guest.call(partial(self._recheck, member))
        return True

    def _recheck(self, member: Member) -> None:
        for wire in self.wires_of(member):
            wire.handshakes.recheck()
            farewell = member.farewell(wire.stream.established) if wire.stream and wire.in_session else None
            if farewell is not None:
                self._guest.start_soon(wire.end_session, *farewell)

    def _member(self, cast: Cast) -> Member:
        for member in self._members:
            if member.cast is cast:
                return member
        self._members.append(Member(cast))
        return self._members[-1]
