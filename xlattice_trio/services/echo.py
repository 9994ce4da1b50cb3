"""`echo`: everything comes back. For trying out a cluster, and for tests."""

import math

import trio

from xlattice_trio.errors import UsageError
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.services.registry import Service, ServiceContext

# When the node stops, what is on its way to us still comes back: a session ends once it was idle for so many seconds.
IDLE = 0.1


def make(argument: str) -> Service:
    """The service. Raises UsageError if there is an argument."""
    if argument:
        raise UsageError(f"echo takes no argument, {argument!r} was given")
    return echo


async def echo(stream: SecureStream, context: ServiceContext) -> None:
    """Send back what arrives, until the peer says Bye; then say Bye.

    When the node stops, a session that is idle ends with Bye as well. One that is not goes on: to end it here would
    look to the peer as if all of its data had come back.

    Its one task beside the caller's waits for the node to stop.
    """
    session = _Echo(stream)
    broken: trio.BrokenResourceError | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(session.end_when, context.shutting_down)
        try:
            await session.run()
        except trio.BrokenResourceError as exc:
            broken = exc
        nursery.cancel_scope.cancel()
    if broken is not None:
        raise broken


class _Echo:
    """One session. Only receiving is ever cut short: a record cut off in sending would be the stream's end."""

    def __init__(self, stream: SecureStream) -> None:
        self._stream = stream
        self._patience = math.inf
        self._receiving: trio.CancelScope | None = None

    async def run(self) -> None:
        while data := await self._receive():
            await self._stream.send_all(data)
        await self._stream.send_eof()

    async def end_when(self, shutting_down: trio.Event) -> None:
        await shutting_down.wait()
        self._patience = IDLE
        if self._receiving is not None:
            self._receiving.deadline = trio.current_time() + IDLE

    async def _receive(self) -> bytes | bytearray:
        with trio.CancelScope(deadline=trio.current_time() + self._patience) as self._receiving:
            return await self._stream.receive_some()
        return b""
