"""Answering sessions: `respond` over any stream, `serve_secure_tcp` and `serve_secure_listeners` on ports.

One task accepts; each connection has a task of its own, in which the source is looked at, the limits are held, the
handshake is made and the handler runs. One bad connection never ends a listener; a bug in a handler is not caught and
does. When the process runs out of file descriptors, Trio's accept loop logs it and pauses. Spec 5.12 to 5.14.
"""

import errno
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Network

import attrs
import trio

from xlattice_trio import limits
from xlattice_trio.crypto import Draw, system_draw
from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerError, PeerReported, SessionEnded, WriteStalled
from xlattice_trio.handshake.outcome import Established
from xlattice_trio.handshake.responder import Responder, Welcome
from xlattice_trio.net.gate import Address, SourceGate, normalize
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.wire.framing import HEADER_SIZE, hello_length

log = logging.getLogger(__name__)

Handler = Callable[[SecureStream], Awaitable[None]]

# How a handler may end that is no bug.
_EXPECTED = (PeerError, PeerReported, SessionEnded, WriteStalled, OSError, trio.BrokenResourceError)

_RECEIVE_SIZE = HEADER_SIZE + hello_length(512)
_FORGET_EVERY = 1024  # admitted connections

# ---- one handshake -----------------------------------------------------------


class Handshakes:
    """The handshakes of a port that are in progress."""

    def __init__(self) -> None:
        self._in_progress: dict[Responder, trio.CancelScope] = {}

    def recheck(self) -> None:
        """Another roster is in force: those that it does not admit end at once, without a word. [RO-56] [LK-54]"""
        for responder, scope in self._in_progress.items():
            if not responder.is_admitted:
                scope.cancel()

    @contextmanager
    def watched(self, responder: Responder, scope: trio.CancelScope) -> Iterator[None]:
        """`responder` is at work in `scope`."""
        self._in_progress[responder] = scope
        try:
            yield
        finally:
            del self._in_progress[responder]


async def respond(
    transport: trio.abc.Stream,
    welcome: Welcome,
    *,
    deadline: float = limits.HANDSHAKE_DEADLINE,
    write_deadline: float = limits.WRITE_DEADLINE,
    draw: Draw = system_draw,
    handshakes: Handshakes | None = None,
) -> SecureStream:
    """Make the handshake over `transport`, as responder, within `deadline` seconds.

    `transport` belongs to the stream from now on; it is closed, without a word, if the handshake fails or is cancelled.
    It is among `handshakes` meanwhile. Raises HandshakeRefused.
    """
    responder = Responder(welcome, draw=draw)
    try:
        with trio.move_on_after(deadline) as scope, (handshakes or Handshakes()).watched(responder, scope):
            established = await _shake_hands(transport, responder)
            return SecureStream(transport, established, write_deadline=write_deadline, handshake_deadline=deadline)
        if not responder.is_admitted:
            raise responder.given_up()
        raise responder.deadline_passed()  # [HS-77] [HS-83]
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def _shake_hands(transport: trio.abc.Stream, responder: Responder) -> Established:
    try:
        while responder.established is None:
            data = await transport.receive_some(_RECEIVE_SIZE)
            if not data:
                raise responder.transport_closed()
            reply = responder.receive_data(bytes(data))
            if reply:
                await transport.send_all(reply)
                responder.receive_data(b"")  # a header that came behind the Hello waits for nothing [FR-5]
    except trio.BrokenResourceError as exc:  # [HS-83]
        raise responder.transport_closed() from exc
    return responder.established


# ---- limits ------------------------------------------------------------------


@attrs.frozen
class PortLimits:
    """What one port takes; the defaults are the specification's. Spec 5.13. [EL-6] [EL-9]"""

    handshakes: int = limits.HANDSHAKES_MAX  # connections that are not ESTABLISHED
    handshakes_per_source: int = limits.HANDSHAKES_PER_SOURCE
    connections: int = limits.CONNECTIONS_MAX  # all of them
    rate: float = limits.SOURCE_RATE  # new connections a second, from one source
    burst: int = limits.SOURCE_BURST  # ... and at once
    limit_loopback: bool = False  # whether the limits per source hold for loopback addresses


CLUSTER_PORT_LIMITS = PortLimits(rate=limits.CLUSTER_SOURCE_RATE, burst=limits.CLUSTER_SOURCE_BURST)

Source = IPv4Address | IPv6Network | None  # None: the limits per source do not hold


@attrs.define
class _Bucket:
    """A source's tokens, at a time in seconds."""

    tokens: float
    at: float


class Slots:
    """How many connections a port has, from where, and how fast they came. Counts; never waits.

    `limits` are None for the specification's.
    """

    def __init__(self, limits: PortLimits | None = None) -> None:
        self._limits = limits or PortLimits()
        self._connections = 0
        self._handshakes = 0
        self._handshakes_of: dict[Source, int] = {}
        self._buckets: dict[Source, _Bucket] = {}
        self._admitted = 0

    def source_of(self, address: Address | None) -> Source:
        """What counts as one source: an IPv4 address, or the first 64 bits of an IPv6 one. Spec 5.13."""
        if address is None or (address.is_loopback and not self._limits.limit_loopback):  # [HS-80]
            return None
        if isinstance(address, IPv4Address):
            return address
        return IPv6Network((int(address) >> 64 << 64, 64))

    def refusal(self, source: Source, now: float) -> str | None:
        """Which limit a new connection from `source` is above; None if it may come in. [HS-72]"""
        if self._connections >= self._limits.connections:
            return f"{self._limits.connections} connections on this port"
        if self._handshakes >= self._limits.handshakes:
            return f"{self._limits.handshakes} handshakes on this port"
        if source is None:
            return None
        if self._handshakes_of.get(source, 0) >= self._limits.handshakes_per_source:
            return f"{self._limits.handshakes_per_source} handshakes from this source"
        if self._tokens(source, now) < 1:
            return f"more than {self._limits.rate:g} connections a second from this source"
        return None

    def enter(self, source: Source, now: float) -> "Slot":
        """Count a new connection in. To be left with `Slot.leave`. [HS-73]"""
        self._admitted += 1
        if self._admitted % _FORGET_EVERY == 0:
            self._forget(now)
        if source is not None:
            self._buckets[source] = _Bucket(self._tokens(source, now) - 1, now)
        self._connections += 1
        self._handshakes += 1
        self._handshakes_of[source] = self._handshakes_of.get(source, 0) + 1
        return Slot(self, source)

    def handshake_over(self, source: Source) -> None:
        """A connection is ESTABLISHED, or gone."""
        self._handshakes -= 1
        self._handshakes_of[source] -= 1
        if not self._handshakes_of[source]:
            del self._handshakes_of[source]

    def connection_over(self) -> None:
        """A connection is gone."""
        self._connections -= 1

    def _tokens(self, source: Source, now: float) -> float:
        bucket = self._buckets.get(source)
        if bucket is None:
            return self._limits.burst
        return min(self._limits.burst, bucket.tokens + (now - bucket.at) * self._limits.rate)

    def _forget(self, now: float) -> None:
        """Drop the buckets that are full again: they say nothing. [HS-75]"""
        full = [source for source in self._buckets if self._tokens(source, now) >= self._limits.burst]
        for source in full:
            del self._buckets[source]


class Slot:
    """One connection's place among the limits."""

    def __init__(self, slots: Slots, source: Source) -> None:
        self._slots = slots
        self._source = source
        self._in_handshake = True

    def established(self) -> None:
        """The handshake is over."""
        if self._in_handshake:
            self._in_handshake = False
            self._slots.handshake_over(self._source)

    def leave(self) -> None:
        """The connection is gone."""
        self.established()
        self._slots.connection_over()


# ---- ports -------------------------------------------------------------------


@attrs.frozen
class _Server:
    """What the connections of one call of `serve_secure_listeners` share."""

    handler: Handler
    welcome: Welcome
    gate: SourceGate | None
    slots: Slots
    deadline: float
    write_deadline: float
    handshakes: Handshakes | None

    async def handle(self, transport: trio.SocketStream) -> None:
        """One connection, from accept to its end."""
        address = _peer_address(transport)
        with self._admitted(address) as slot:
            if slot is None:
                await trio.aclose_forcefully(transport)
                return
            try:
                stream = await respond(
                    transport,
                    self.welcome,
                    deadline=self.deadline,
                    write_deadline=self.write_deadline,
                    handshakes=self.handshakes,
                )
            except HandshakeRefused as exc:
                log.info("%s port: ignored %s: %s", self.welcome.port.value, address, exc)
                return
            slot.established()
            await self._serve(stream, address)

    @contextmanager
    def _admitted(self, address: Address | None) -> Iterator[Slot | None]:
        """Checks 1 and 2 of Spec 5.7, before anything is read."""
        port = self.welcome.port.value
        if self.gate is not None and (address is None or not self.gate.admits(address)):  # [HS-23] [HS-74]
            log.info("%s port: ignored %s: not the address of a member", port, address)
            yield None
            return
        source, now = self.slots.source_of(address), trio.current_time()
        refusal = self.slots.refusal(source, now)
        if refusal is not None:  # [HS-24]
            log.info("%s port: closed %s: %s", port, address, refusal)
            yield None
            return
        slot = self.slots.enter(source, now)
        try:
            yield slot
        finally:
            slot.leave()

    async def _serve(self, stream: SecureStream, address: Address | None) -> None:
        """The handler, and keepalives beside it."""
        who = stream.initiator.name if stream.initiator else "anonymous"
        log.debug("%s port: %s (%s) for %s", self.welcome.port.value, address, who, stream.service or "a link")
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stream.keep_alive)
                await self._handle_stream(stream, address, who)
                nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(stream)

    async def _handle_stream(self, stream: SecureStream, address: Address | None, who: str) -> None:
        try:
            await self.handler(stream)  # once, whatever other streams there are or were [SV-2] [SV-3]
            await stream.aclose()
        except _EXPECTED as exc:
            log.info("%s port: the session of %s (%s) ended: %s", self.welcome.port.value, address, who, exc)
            await stream.close_with_error(ErrorCode.INTERNAL, "the service failed")  # [SV-19] [EL-2]
        except Exception:
            with trio.CancelScope(shield=True):  # takes up to a second
                await stream.close_with_error(ErrorCode.INTERNAL, "the service failed")
            raise


def _peer_address(transport: trio.SocketStream) -> Address | None:
    try:
        name = transport.socket.getpeername()
        return normalize(name[0]) if isinstance(name, tuple) else None
    except OSError as exc:
        if exc.errno not in (errno.ENOTCONN, errno.EINVAL):  # gone already: a port scanner
            raise
        return None


async def serve_secure_listeners(
    handler: Handler,
    listeners: Sequence[trio.SocketListener],
    welcome: Welcome,
    *,
    gate: SourceGate | None = None,
    slots: Slots | None = None,
    deadline: float = limits.HANDSHAKE_DEADLINE,
    write_deadline: float = limits.WRITE_DEADLINE,
    handshakes: Handshakes | None = None,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[Sequence[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept sessions on `listeners`, which it owns and closes, until it is cancelled.

    Each connection runs in a task of its own, in `handler_nursery` if one is given. `handler` gets the established
    stream; when it returns, the stream is closed with Bye; if it raises PeerError, PeerReported, SessionEnded,
    WriteStalled, OSError or trio.BrokenResourceError, that is logged and the session, if there still is one, ended with
    Error(internal). Anything else is a bug, is not caught, and ends the listener. Keepalives are sent beside the
    handler. `task_status.started(listeners)` once they accept.

    With a `gate`, only its addresses are looked at [HS-64]. `slots` are the limits and what counts against them, which
    several calls may share; None are the specification's: those of the cluster port if there is a gate. `deadline` is
    that of the whole handshake, in seconds from accept. `handshakes` are those that the port has in progress.
    """
    if slots is None:
        slots = Slots(None if gate is None else CLUSTER_PORT_LIMITS)
    server = _Server(handler, welcome, gate, slots, deadline, write_deadline, handshakes)
    await trio.serve_listeners(server.handle, list(listeners), handler_nursery=handler_nursery, task_status=task_status)


async def serve_secure_tcp(
    handler: Handler,
    port: int,
    welcome: Welcome,
    *,
    host: str | None = None,
    backlog: int | None = None,
    gate: SourceGate | None = None,
    slots: Slots | None = None,
    deadline: float = limits.HANDSHAKE_DEADLINE,
    write_deadline: float = limits.WRITE_DEADLINE,
    handler_nursery: trio.Nursery | None = None,
    task_status: trio.TaskStatus[Sequence[trio.SocketListener]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Listen on TCP `port` of `host` (all interfaces if None) and go on as `serve_secure_listeners`.

    Raises OSError if it cannot listen there.
    """
    listeners = await trio.open_tcp_listeners(port, host=host, backlog=backlog)
    await serve_secure_listeners(
        handler,
        listeners,
        welcome,
        gate=gate,
        slots=slots,
        deadline=deadline,
        write_deadline=write_deadline,
        handler_nursery=handler_nursery,
        task_status=task_status,
    )
