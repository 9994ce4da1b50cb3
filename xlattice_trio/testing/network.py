"""An in-memory network for Trio: listen, dial, delay, cut. For use under MockClock, with which a day passes in no time.

A connection is a pair of `Pipe`s, one each way. A pipe holds a bounded number of bytes, so that a writer waits for its
reader; it can be slow (`delay`), held (nothing arrives until it is released) and broken (as by a reset). Connections
behave as TCP's do where it matters here: who closes with bytes unread resets the connection, and what was on its way
is lost with it; who dials where nobody listens gets ConnectionRefusedError.
"""

import errno
import itertools
import math
import operator
from collections import deque
from collections.abc import Iterator

import attrs
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

BUFFER = 65_536  # bytes that a direction of a connection holds

Address = tuple[str, int]


# ---- one direction -----------------------------------------------------------


class Pipe:
    """Bytes one way. The async methods are for the two tasks at its ends; the others are for whoever holds the wire.

    `capacity` (bytes) may be changed at any time; math.inf: writers never wait. `delay` is in seconds, for what is
    written from then on.
    """

    def __init__(self, *, capacity: float = BUFFER, delay: float = 0.0) -> None:
        self.delay = delay
        self._capacity = capacity
        self._chunks: deque[tuple[float, bytes]] = deque()  # when it arrives; no bytes: the end
        self._size = 0
        self._ended = False  # by the writer
        self._unwanted = False  # by the reader
        self._swallowing = False
        self._broken = False
        self._aborted = False
        self._held = False
        self._changed = trio.Event()
        self._writing = _Busy("writing to")
        self._reading = _Busy("reading from")

    # ---- the two ends ----

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As trio.abc.SendStream has it."""
        with self._writing, memoryview(data) as view:
            await trio.lowlevel.checkpoint()
            left = bytes(view)
            while True:
                self._check_writable()
                room = 0 if self._size >= self._capacity else min(self._capacity - self._size, len(left))
                self.put(left[: int(room)])
                left = left[int(room) :]
                if not left:
                    return
                await self._changed.wait()

    async def finish(self) -> None:
        """As trio.abc.HalfCloseableStream has `send_eof`."""
        with self._writing:
            await trio.lowlevel.checkpoint()
            if self._broken or self._unwanted:
                raise trio.BrokenResourceError("the connection was reset")
            self.end()

    async def wait_writable(self) -> None:
        """Return when there is room for a byte."""
        with self._writing:
            await trio.lowlevel.checkpoint()
            while self._size >= self._capacity:
                self._check_writable()
                await self._changed.wait()
            self._check_writable()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """As trio.abc.ReceiveStream has it."""
        with self._reading:
            await trio.lowlevel.checkpoint()
            while True:
                if self._unwanted:
                    raise trio.ClosedResourceError("this end was closed")
                if self._broken:
                    raise trio.BrokenResourceError("the connection was reset")
                if self._arrived_at() <= trio.current_time():
                    return self._take(max_bytes)
                if self._aborted and not self._chunks:
                    raise trio.BrokenResourceError("the connection was reset")
                with trio.move_on_at(self._arrived_at()):
                    await self._changed.wait()

    def _check_writable(self) -> None:
        if self._ended:
            raise trio.ClosedResourceError("this end was closed")
        if self._broken or (self._unwanted and not self._swallowing):
            raise trio.BrokenResourceError("the connection was reset")

    def _arrived_at(self) -> float:
        return math.inf if self._held or not self._chunks else self._chunks[0][0]

    def _take(self, max_bytes: int | None) -> bytes:
        found = bytearray()
        most = math.inf if max_bytes is None else max_bytes
        while self._arrived_at() <= trio.current_time() and len(found) < most:
            at, chunk = self._chunks[0]
            if not chunk:  # the end, which stays
                break
            taken = chunk[: int(min(most - len(found), len(chunk)))]
            found += taken
            if len(taken) == len(chunk):
                self._chunks.popleft()
            else:
                self._chunks[0] = (at, chunk[len(taken) :])
        self._size -= len(found)
        self._wake()
        return bytes(found)

    # ---- by hand ----

    def put(self, data: bytes) -> None:
        """Bytes are written, whether there is room or not. They are lost if nobody reads any more."""
        if data and not (self._ended or self._broken or self._unwanted):
            self._chunks.append((trio.current_time() + self.delay, data))
            self._size += len(data)
            self._wake()

    def get(self) -> bytes:
        """All that has arrived; nothing at the end, and when there is nothing."""
        return self._take(None)

    def end(self) -> None:
        """The writer is done: the reader gets the end behind the last byte."""
        if not self._ended:
            self._ended = True
            self._chunks.append((trio.current_time() + self.delay, b""))
            self._wake()

    def unwant(self, *, swallow: bool = False) -> None:
        """The reader is gone: what is written fails, or vanishes if it is swallowed."""
        self._unwanted, self._swallowing = True, swallow
        self._chunks.clear()
        self._size = 0
        self._wake()

    def abort(self) -> None:
        """The writer is gone with a reset: what has arrived can still be read, and what is on its way is lost."""
        self._ended = self._aborted = True
        self._chunks = deque(chunk for chunk in self._chunks if chunk[1] and chunk[0] <= trio.current_time())
        self._size = sum(len(data) for _, data in self._chunks)
        self._wake()

    def break_(self) -> None:
        """The connection is reset: both ends fail, and what was on its way is lost."""
        self._broken = True
        self._chunks.clear()
        self._size = 0
        self._wake()

    def hold(self, held: bool = True) -> None:
        """Nothing arrives while it is held; what is written stays in the buffer."""
        self._held = held
        self._wake()

    @property
    def capacity(self) -> float:
        """Bytes that it holds before a writer waits."""
        return self._capacity

    @capacity.setter
    def capacity(self, capacity: float) -> None:
        self._capacity = capacity
        self._wake()

    @property
    def is_unwanted(self) -> bool:
        """Whether the reader is gone."""
        return self._unwanted

    def __len__(self) -> int:
        """Bytes on their way, or not read yet."""
        return self._size

    def _wake(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class _Busy:
    """One task at a time."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._busy = False

    def __enter__(self) -> None:
        if self._busy:
            raise trio.BusyResourceError(f"another task is {self._what} this stream")
        self._busy = True

    def __exit__(self, *exc: object) -> None:
        self._busy = False


# ---- connections -------------------------------------------------------------


@attrs.frozen
class _Socket:
    """What a connection shows of its ends, as a socket does."""

    own: Address
    peer: Address

    def getsockname(self) -> Address:
        return self.own

    def getpeername(self) -> Address:
        return self.peer


class MemoryConnection(trio.abc.HalfCloseableStream):
    """One end of a connection. `socket` knows both addresses."""

    def __init__(
        self, incoming: Pipe, outgoing: Pipe, *, own: Address = ("127.0.0.1", 1), peer: Address = ("127.0.0.1", 2)
    ) -> None:
        self.incoming = incoming
        self.outgoing = outgoing
        self.socket = _Socket(own, peer)
        self._closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self.outgoing.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self.outgoing.wait_writable()

    async def send_eof(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this end was closed")
        await self.outgoing.finish()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes is {max_bytes}: at least 1 expected")
        return await self.incoming.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close both directions; with bytes unread, the connection is reset."""
        self._closed = True
        if len(self.incoming):
            self.outgoing.abort()
        self.outgoing.end()
        self.incoming.unwant()
        await trio.lowlevel.checkpoint()

    def reset(self) -> None:
        """The connection breaks, for both ends."""
        self.outgoing.break_()
        self.incoming.break_()


def connection_pair(
    a: Address = ("127.0.0.1", 1), b: Address = ("127.0.0.1", 2), *, capacity: float = BUFFER, delay: float = 0.0
) -> tuple[MemoryConnection, MemoryConnection]:
    """Both ends of a connection; `a` is the address of the first one."""
    there, back = Pipe(capacity=capacity, delay=delay), Pipe(capacity=capacity, delay=delay)
    return MemoryConnection(back, there, own=a, peer=b), MemoryConnection(there, back, own=b, peer=a)


# ---- networks ----------------------------------------------------------------


class MemoryListener(trio.abc.Listener[MemoryConnection]):
    """What `Network.listen` gives; fit for `trio.serve_listeners`."""

    def __init__(self, network: "Network", address: Address) -> None:
        self.address = address
        self._network = network
        self._arriving, self._accepted = trio.open_memory_channel[MemoryConnection](math.inf)

    async def accept(self) -> MemoryConnection:
        return await self._accepted.receive()

    async def aclose(self) -> None:
        self._network._stop_listening(self)
        self._arriving.close()
        self._accepted.close()
        await trio.lowlevel.checkpoint()


@attrs.define
class _Line:
    """What lies between two hosts."""

    delay: float = 0.0
    cut: bool = False
    healed: trio.Event = attrs.Factory(trio.Event)


class Network:
    """Hosts by address, and what lies between them.

    `delay` is in seconds, one way, between any two hosts; `buffer` in bytes, for each direction of a connection.
    """

    def __init__(self, *, delay: float = 0.0, buffer: float = BUFFER) -> None:
        self._delay = delay
        self._buffer = buffer
        self._listening: dict[Address, MemoryListener] = {}
        self._lines: dict[frozenset[str], _Line] = {}
        self._connections: list[tuple[MemoryConnection, MemoryConnection]] = []
        self._ports = itertools.count(49_152)

    def listen(self, host: str, port: int) -> MemoryListener:
        """Accept connections there. Raises OSError if somebody does already."""
        if (host, port) in self._listening:
            raise OSError(errno.EADDRINUSE, "Address already in use")
        listener = self._listening[host, port] = MemoryListener(self, (host, port))
        return listener

    async def dial(self, host: str, port: int, *, source: str = "127.0.0.1") -> MemoryConnection:
        """Connect from `source`; it takes the way there and back, and while the two are cut off, no end.

        Raises ConnectionRefusedError if nobody listens there.
        """
        await trio.lowlevel.checkpoint()
        line = self._line(source, host)
        while line.cut:
            await line.healed.wait()
        if line.delay:
            await trio.sleep(2 * line.delay)
        listener = self._listening.get((host, port))
        if listener is None:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
        ours, theirs = connection_pair(
            (source, next(self._ports)), (host, port), capacity=self._buffer, delay=line.delay
        )
        self._connections.append((ours, theirs))
        self._hold(ours, line.cut)
        listener._arriving.send_nowait(theirs)
        return ours

    def cut(self, a: str, b: str) -> None:
        """Nothing passes between two hosts until `heal`; connections stay, and what is written to them waits."""
        line = self._line(a, b)
        line.cut = True
        self._hold_between(a, b, True)

    def heal(self, a: str, b: str) -> None:
        """What was held passes."""
        line = self._line(a, b)
        line.cut = False
        line.healed.set()
        line.healed = trio.Event()
        self._hold_between(a, b, False)

    def reset(self, a: str, b: str) -> None:
        """Every connection between two hosts breaks."""
        for ours, _ in self._between(a, b):
            ours.reset()

    def set_delay(self, a: str, b: str, delay: float) -> None:
        """Seconds one way, for what is written from now on."""
        self._line(a, b).delay = delay
        for ours, theirs in self._between(a, b):
            ours.outgoing.delay = theirs.outgoing.delay = delay

    def _line(self, a: str, b: str) -> _Line:
        return self._lines.setdefault(frozenset((a, b)), _Line(self._delay))

    def _between(self, a: str, b: str) -> Iterator[tuple[MemoryConnection, MemoryConnection]]:
        for ours, theirs in self._connections:
            if {ours.socket.own[0], theirs.socket.own[0]} == {a, b}:
                yield ours, theirs

    def _hold_between(self, a: str, b: str, held: bool) -> None:
        for ours, _ in self._between(a, b):
            self._hold(ours, held)

    def _hold(self, connection: MemoryConnection, held: bool) -> None:
        connection.incoming.hold(held)
        connection.outgoing.hold(held)

    def _stop_listening(self, listener: MemoryListener) -> None:
        if self._listening.get(listener.address) is listener:
            del self._listening[listener.address]


async def pass_time(clock: MockClock, seconds: float) -> None:
    """Let time pass, from one deadline to the next: whatever is due happens in its order, and at its time.

    Returns when all tasks are blocked. For a clock that does not jump by itself.
    """
    until = trio.current_time() + seconds
    await wait_all_tasks_blocked()
    while True:
        left = until - trio.current_time()
        due = max(trio.lowlevel.current_statistics().seconds_to_next_deadline, 0.0)
        if min(left, due) > 0:
            clock.jump(min(left, due))
        elif due > 0:
            return
        await wait_all_tasks_blocked()
