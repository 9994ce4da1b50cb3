"""`relay`: a session carried on to another connection, and back, until both directions have ended.

The one copy loop of everything that stands between a session and something that knows nothing of it: the service
`forward`, and the commands that join a session to a local port or to standard input and output. What it holds to:

* The end of each direction is carried on as such: the peer's Bye becomes the end of what the local side reads, the
  local side's end becomes Bye, and the other direction goes on. [SV-20]
* A failure is carried on as a failure. What the peer did not finish is never ended cleanly on the local side: its TCP
  connection is reset, so that half an upload is not taken for a whole one. If the local side breaks, the peer gets
  Error(internal), never Bye.
* Who was told why a session ended hears it: a connection that breaks while we write is usually the consequence of an
  Error on its way to us, and that Error is what is reported.

Two tasks, the caller's and one more; neither holds more than what one read gave it. Spec 8.4.
"""

import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

import attrs
import trio

from xlattice_trio.errors import ErrorCode, PeerClosed, PeerError, PeerReported, XLatticeError
from xlattice_trio.limits import ERROR_LINGER, RECORD_PAYLOAD_MAX
from xlattice_trio.net.reasons import reason
from xlattice_trio.net.stream import SecureStream

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


class LocalSideBroken(XLatticeError):
    """The connection that a session was carried on to broke; the session itself did not."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the local side broke: {detail}")


async def relay(secure: SecureStream, local: trio.abc.HalfCloseableStream) -> None:
    """Copy both directions between `secure` and `local` until both have ended, or one has failed.

    `local` belongs to the relay from now on, and is closed when it returns or raises: cleanly if the peer's data came
    to its end and was all passed on, else by a TCP reset (what is no TCP connection is just closed). `secure` stays
    the caller's, who closes it; after LocalSideBroken it has been ended with Error(internal). Cancelled, it leaves
    `secure` without Bye or Error.

    Raises, as themselves and never in an ExceptionGroup:

    * PeerReported: the peer ended the session with an Error. It wins over every failure that it may have caused; after
      a write that failed, it is waited for up to a second.
    * PeerError, among them Truncated and PeerClosed; WriteStalled; SessionEnded (by another of our tasks): the session
      failed.
    * trio.BrokenResourceError: the connection to the peer broke while we wrote, and the peer does not say why; after
      its Bye it need not.
    * LocalSideBroken, from what happened: the local side failed, for reading or for writing.
    * trio.ClosedResourceError: another task closed `secure`.
    """
    copying = _Relay(secure, local)
    try:
        await copying.run()
    finally:
        await _close(local, cleanly=copying.local_has_all)
    failure = copying.failure()
    if failure is not None:
        raise failure


@attrs.define
class _Relay:
    """Both directions, and how far they are."""

    secure: SecureStream
    local: trio.abc.HalfCloseableStream
    local_has_all: bool = False  # the local side has the peer's data and knows that this is all
    peer_has_all: bool = False
    failures: list[Exception] = attrs.Factory(list)  # of the two directions, in the order in which they failed

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, self._to_peer, nursery.cancel_scope)
            await self._copy(self._to_local, nursery.cancel_scope)

    def failure(self) -> Exception | None:
        """What to report: the first failure, unless the second is the peer's word, or says why the first was one."""
        if not self.failures:
            return None
        first, second = self.failures[0], self.failures[-1]
        unexplained = isinstance(first, trio.BrokenResourceError) and isinstance(second, PeerError)
        return second if isinstance(second, PeerReported) or unexplained else first

    async def _copy(self, direction: Callable[[], Awaitable[None]], both: trio.CancelScope) -> None:
        try:
            await direction()
            if self.local_has_all and self.peer_has_all:
                both.cancel()  # the one that watches the peer after its Bye
        except (LocalSideBroken, PeerClosed, trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            failure = exc.__cause__ if _is_of_session(exc) else exc
            assert isinstance(failure, Exception)
            self.failures.append(failure)
            if len(self.failures) == 1:
                await self._end_the_other(failure, both)

    async def _end_the_other(self, failure: Exception, both: trio.CancelScope) -> None:
        """One direction has failed, the first to do so: end the other."""
        if isinstance(failure, trio.BrokenResourceError):
            # We could not write. Why, only the other direction can read.
            both.deadline = trio.current_time() + ERROR_LINGER
            return
        if isinstance(failure, LocalSideBroken):  # [SV-19]
            # Behind the record that the other direction is writing: cancelled, it would cut that off, and no Error
            # could follow.
            await self.secure.close_with_error(ErrorCode.INTERNAL, "the connection behind this stream broke")
        both.cancel()

    async def _to_local(self) -> None:
        while data := await self.secure.receive_some():
            with _local_side():
                await self.local.send_all(data)
        try:
            with _local_side():
                await self.local.send_eof()
        except LocalSideBroken:
            if not self.peer_has_all:  # else the local side has closed both directions, and wants no more
                raise
        self.local_has_all = True
        if not self.peer_has_all and await self.secure.wait_closed():
            raise PeerClosed

    async def _to_peer(self) -> None:
        while data := await self._receive_locally():
            await self.secure.send_all(data)
        await self.secure.send_eof()
        self.peer_has_all = True

    async def _receive_locally(self) -> bytes | bytearray:
        with _local_side():
            return await self.local.receive_some(RECORD_PAYLOAD_MAX)


@contextmanager
def _local_side() -> Iterator[None]:
    try:
        yield
    except (trio.BrokenResourceError, trio.ClosedResourceError, OSError) as exc:
        raise LocalSideBroken(reason(exc.__cause__ or exc)) from exc


def _is_of_session(exc: Exception) -> bool:
    return isinstance(exc, trio.BrokenResourceError) and isinstance(exc.__cause__, XLatticeError)


async def _close(local: trio.abc.HalfCloseableStream, *, cleanly: bool) -> None:
    if cleanly:
        await local.aclose()
        return
    if isinstance(local, trio.SocketStream):
        with suppress(OSError):  # closed already, or gone
            local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    await trio.aclose_forcefully(local)
