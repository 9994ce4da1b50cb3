"""`SecureStream`: a session as a Trio stream.

It drives a `session.connection.Connection` over any Trio stream and adds what a core without I/O cannot have: locks,
time limits, and the end of the transport. It starts no task of its own. What it holds to:

* Lock, then seal, then send. One record is sealed and written under one lock, so that sequence numbers and the order
  on the wire agree; the lock is held for a record, not for a call, so that KeepAlive and Error find their way between
  the records of a long `send_all`.
* A record that was cut off (by cancellation, a time-out or a broken transport) ends the sending direction for good.
  What the peer sent can still be read: an Error or a Bye may be in it.
* A clean end is never lost to a TCP reset: whoever said the last Bye reads until the peer closes. Spec 6.8.
* The errors of a session become those of Trio's streams, as in Trio's own SSLStream: `BrokenResourceError`, raised
  from the PeerError or PeerReported that says what happened. The end of data (b"") is reported only if the peer
  said Bye.

Spec 6.
"""

import math
import operator
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import NoReturn

import trio

from xlattice_trio.errors import ErrorCode, PeerError, PeerReported, SessionEnded, WriteStalled, XLatticeError
from xlattice_trio.handshake.outcome import Established
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.limits import (
    BYE_LINGER,
    ERROR_LINGER,
    HANDSHAKE_DEADLINE,
    LINGER_BYTES,
    RECORD_PAYLOAD_MAX,
    WRITE_DEADLINE,
)
from xlattice_trio.session.connection import Connection, DataReceived, EndOfData, MoreToCome, NeedData
from xlattice_trio.session.transitions import State
from xlattice_trio.wire.framing import HEADER_SIZE, RECORD_LENGTH_MAX

# Bytes asked of the transport at a time: two records of the largest size.
_RECEIVE_SIZE = 2 * (HEADER_SIZE + RECORD_LENGTH_MAX)


class SecureStream(trio.abc.HalfCloseableStream):
    """An established session as a byte stream.

    Not made by hand: `open_secure_stream`, `initiate` and the `serve_...` functions give it. It owns `transport`.

    `send_all` and `receive_some` may be used by one task each; a second caller gets trio.BusyResourceError. If
    `send_all` is cancelled, nobody knows how much was sent, and nothing more can be sent on this stream; to cancel
    `receive_some` is harmless. If `keepalive` is not 0, the owner has to run `keep_alive` beside the stream.

    All times are in seconds: a record that the transport does not take within `write_deadline` breaks the stream.
    """

    def __init__(
        self,
        transport: trio.abc.Stream,
        established: Established,
        *,
        write_deadline: float = WRITE_DEADLINE,
        handshake_deadline: float = HANDSHAKE_DEADLINE,
    ) -> None:
        self.transport = transport
        self.established = established
        self.first_record = trio.Event()  # set when a record other than Error and Bye was opened
        self._connection = Connection(established, trio.current_time(), handshake_deadline=handshake_deadline)
        self._write_deadline = write_deadline
        self._send_lock = trio.StrictFIFOLock()
        self._pending = bytearray()  # data that was opened and not yet asked for
        self._end_of_data = False
        self._eof_sent = False
        self._closed = False  # by the application
        self._ending = False  # a task ends the session: it alone tells the peer and closes the transport
        self._parting: trio.CancelScope | None = None  # ... and does so with Bye
        self._over = trio.Event()  # the transport is closed
        self._failure: XLatticeError | None = None  # why the session ended
        self._cut_off: BaseException | None = None  # why nothing more can be sent
        self._read_until = math.inf  # ... and until when what has arrived is read
        self._sender: trio.CancelScope | None = None
        self._receiver: trio.CancelScope | None = None
        self._receiver_gone = trio.Event()
        self._filling: trio.CancelScope | None = None
        self._explaining = False  # the receiver is a sender whose write has failed

    # ---- who and what ----

    @property
    def initiator(self) -> VerifiedCard | None:
        """The card of the initiator, on both sides; None if it is anonymous."""
        return self.established.initiator

    @property
    def service(self) -> str:
        """The service that the stream is for."""
        return self.established.service

    @property
    def keepalive(self) -> float:
        """Seconds between keepalives; 0 for none."""
        return self._connection.keepalive

    @property
    def exporter(self) -> bytes:
        """32 secret bytes that both sides of this session have and nobody else: for channel binding. Spec 6.13.

        This package makes no other use of it. [SE-73] [SE-74]
        """
        return self.established.exporter

    # ---- sending ----

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`, in records of up to 65,536 bytes.

        Raises trio.BrokenResourceError, trio.ClosedResourceError (also after `send_eof`), trio.BusyResourceError.
        """
        async with self._sending():
            if not self._can_send:
                await self._raise_ended()
            with memoryview(data) as view, view.cast("B") as octets:
                if not octets:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                try:
                    for start in range(0, len(octets), RECORD_PAYLOAD_MAX):  # [SE-11]
                        with octets[start : start + RECORD_PAYLOAD_MAX] as payload:
                            await self._send_record(partial(self._connection.send_data, payload))
                except BaseException as exc:  # nobody knows how much of `data` was sent
                    self._set_cut_off(exc)
                    raise

    async def wait_send_all_might_not_block(self) -> None:
        """As `trio.abc.SendStream` has it."""
        async with self._sending():
            if not self._can_send:
                await self._raise_ended()
            try:
                async with self._send_lock:
                    await self.transport.wait_send_all_might_not_block()
            except trio.ClosedResourceError:  # by the task that ended the session
                await self._raise_ended()

    async def send_eof(self) -> None:
        """Say Bye: the peer reads the end of the data; this side goes on receiving. A second call does nothing.

        Bye is a record; TCP's own half-close is never used. [SE-44] [SV-16] If the peer has said Bye before, that was
        the end of the session: waits until the peer closes, for up to 5 seconds, and closes.
        """
        async with self._sending():
            if self._eof_sent:
                await trio.lowlevel.cancel_shielded_checkpoint()
                return
            await self._send_record(self._connection.send_bye)
            self._eof_sent = True
            if self._connection.state is State.DRAINING:  # [SE-46]
                with trio.CancelScope() as self._parting:
                    await self._end(self._drain)

    async def keep_alive(self) -> None:
        """Send KeepAlive whenever nothing else was sent for `keepalive` seconds; returns when nothing more is sent.

        For a task of the owner's; returns at once if the session has no keepalives. A transport that breaks here is
        reported by the next call that uses the stream; if nobody receives, what has arrived is read here, for up to a
        second, and the session is ended.
        """
        while self._cut_off is None:
            due = self._connection.keepalive_at()
            if due == math.inf:
                return
            with trio.move_on_at(due):
                await self._over.wait()
                return
            async with self._send_lock:
                now = trio.current_time()
                if self._cut_off is None and self._connection.keepalive_at() <= now:
                    with suppress(trio.BrokenResourceError):
                        await self._write(self._connection.send_keepalive(now))
        await self._explain()

    @asynccontextmanager
    async def _sending(self) -> AsyncIterator[None]:
        """One caller at a time, who is woken when the stream is closed under it."""
        if self._sender is not None:
            raise trio.BusyResourceError("another task is sending on this stream")
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope() as scope:
            self._sender = scope
            try:
                yield
            finally:
                self._sender = None
        if scope.cancelled_caught:
            await self._raise_ended()

    @property
    def _can_send(self) -> bool:
        return self._connection.can_send_data and self._cut_off is None and not (self._ending or self._closed)

    async def _send_record(self, seal: Callable[[float], bytearray]) -> None:
        """Lock, seal, send. The lock is given back before anybody waits for the session's end."""
        async with self._send_lock:
            if self._can_send:
                with suppress(trio.BrokenResourceError):
                    await self._write(seal(trio.current_time()))
                    return
        await self._explain()
        await self._raise_ended()  # [SE-67] [SE-84]

    async def _write(self, frame: bytearray) -> None:
        """Write a frame whole. Whatever stops it ends the sending direction. The lock is held. [SE-17] [SE-18]

        Raises trio.BrokenResourceError.
        """
        stalled = trio.move_on_after(self._write_deadline)
        try:
            with stalled:
                await self.transport.send_all(frame)
        except trio.ClosedResourceError as exc:  # by the task that ended the session
            self._set_cut_off(exc)
            raise trio.BrokenResourceError("the session was ended") from exc
        except BaseException as exc:
            self._set_cut_off(exc)
            raise
        if stalled.cancelled_caught:  # [SE-70] [SE-71]
            self._cut_off = self._failure = WriteStalled(self._write_deadline)
            await self._close_transport()
            raise trio.BrokenResourceError(str(self._failure)) from self._failure

    def _set_cut_off(self, exc: BaseException) -> None:
        """Nothing more can be sent, and the session ends: what has arrived is read for a second yet. [SE-68] [SE-83]"""
        if self._cut_off is None:
            self._cut_off = exc
            self._read_until = trio.current_time() + ERROR_LINGER
            if self._filling is not None:
                self._filling.deadline = min(self._filling.deadline, self._read_until)

    async def _explain(self) -> None:
        """A write has failed: read what arrived before that, since the peer's Error may be in it. [SE-68]

        What was found is in `_failure`; data is kept for `receive_some`, which waits meanwhile. If there is a receiver,
        that one finds it.
        """
        if self._ending or self._closed or self._over.is_set():
            return
        if self._receiver is not None:
            with trio.move_on_at(self._read_until):
                await self._over.wait()
            return
        self._explaining = True
        try:
            with suppress(trio.BrokenResourceError):
                await self._receive_while(lambda: not self._connection.is_over and len(self._pending) < LINGER_BYTES)
        finally:
            self._explaining = False

    async def _raise_ended(self) -> NoReturn:
        """Say that the stream is closed, or why the session is over: once the peer was told, if it is told anything."""
        if self._ending and not self._closed:
            await self._over.wait()
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        cause = self._failure or self._cut_off
        if cause is None:
            if self._eof_sent:
                raise trio.ClosedResourceError("send_eof was called on this stream")
            raise trio.BrokenResourceError("the session is over")
        if not isinstance(cause, Exception):
            raise trio.BrokenResourceError("an earlier call was cancelled while it was sending") from None
        raise trio.BrokenResourceError(str(cause) or "the connection broke") from cause

    # ---- receiving ----

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """At least one byte and at most `max_bytes`, or b"" after the peer's Bye.

        Without `max_bytes`, what one record held. Raises trio.BrokenResourceError, from PeerReported for the peer's
        Error, from Truncated if the connection ended before the peer's Bye, or from the PeerError that says what the
        peer did wrong; trio.ClosedResourceError, trio.BusyResourceError.
        """
        if max_bytes is not None and operator.index(max_bytes) < 1:
            raise ValueError(f"max_bytes is {max_bytes}: at least 1 expected")
        while self._explaining:
            await self._receiver_gone.wait()
        if self._receiver is not None:
            raise trio.BusyResourceError("another task is receiving on this stream")
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        await trio.lowlevel.checkpoint_if_cancelled()
        waited = await self._receive_while(lambda: not self._pending and not self._end_of_data)  # [SV-18]
        if not waited:
            await trio.lowlevel.cancel_shielded_checkpoint()
        return self._take(max_bytes)

    async def wait_closed(self) -> bool:
        """After the end of the data: read on, and so learn that the peer has failed or is gone.

        True when the connection has ended and nothing more can be sent; False if we said Bye before that. Raises
        trio.BrokenResourceError from PeerReported for the peer's Error, and as `receive_some` does for all else.
        """
        while self._explaining:
            await self._receiver_gone.wait()
        if self._receiver is not None:
            raise trio.BusyResourceError("another task is receiving on this stream")
        if self._closed:
            raise trio.ClosedResourceError("this stream was closed")
        await trio.lowlevel.checkpoint()
        try:
            await self._receive_while(lambda: not self._connection.is_over)
        except trio.ClosedResourceError:
            if self._closed:
                raise
            # else the session was ended by our own Bye, which another task has said
        if self._failure is not None:  # found by a sender whose write has failed
            await self._raise_ended()
        return not self._eof_sent and self._connection.state is not State.DRAINING

    async def _receive_while(self, condition: Callable[[], bool]) -> bool:
        """Be the one receiver, who is woken when the session is ended; whether we waited for the transport."""
        waited = False
        with trio.CancelScope() as scope:
            self._receiver, self._receiver_gone = scope, trio.Event()
            try:
                while condition():
                    waited = await self._receive_record() or waited
            finally:
                self._receiver = None
                self._receiver_gone.set()
        if scope.cancelled_caught:
            await self._raise_ended()
        return waited

    def _take(self, max_bytes: int | None) -> bytes | bytearray:
        if max_bytes is None or max_bytes >= len(self._pending):
            data, self._pending = self._pending, bytearray()
            return data
        data = self._pending[:max_bytes]
        del self._pending[:max_bytes]
        return data

    async def _receive_record(self) -> bool:
        """Take what the peer sent next into `_pending` or `_end_of_data`; whether we waited."""
        if self._failure is not None or (self._connection.is_over and not self._end_of_data):
            await self._raise_ended()
        try:
            try:
                event = self._connection.next_event(trio.current_time())
            finally:  # behind the first record there may be an Error
                if self._connection.has_heard:
                    self.first_record.set()
            if isinstance(event, NeedData):
                if self._connection.state is State.CLOSED:  # the connection has ended behind the peer's Bye
                    await self._close_transport()
                else:
                    await self._fill()
        except (PeerError, PeerReported) as exc:
            await self._fail(exc)
            raise trio.BrokenResourceError(str(exc)) from exc
        match event:
            case DataReceived(data):
                self._pending += data
                return False
            case EndOfData():
                self._end_of_data = True  # [SE-43] [SV-17]
                if self._connection.state is State.CLOSED:
                    async with self._send_lock:  # what we have sealed, our Bye, goes out first [SE-80]
                        await self._close_transport()  # [SE-45]
                return self._over.is_set()
            case MoreToCome():
                await trio.lowlevel.checkpoint()
        return True

    async def _fill(self) -> None:
        """Wait for bytes from the transport; its end, clean or not, goes into the connection.

        Raises KeepaliveTimeout.
        """
        now = trio.current_time()
        silence_ends = now + self._connection.wait_begins(now)
        data = None
        try:
            with trio.move_on_at(min(silence_ends, self._read_until)) as self._filling:
                data = await self.transport.receive_some(_RECEIVE_SIZE)
        except trio.BrokenResourceError:
            data = b""
        except trio.ClosedResourceError:  # by one of our tasks
            await self._raise_ended()
        finally:
            self._filling = None
            self._connection.wait_ends(trio.current_time())
        if data is None:
            if self._failure is not None:  # another task is about to end the session
                await self._raise_ended()
            if trio.current_time() < self._read_until:
                raise self._connection.silence_passed(trio.current_time())
            data = b""  # [SE-83]
        self._connection.receive_data(bytes(data))

    # ---- the end ----
    #
    # Whoever ends the session does it alone, by `_end`; everybody else waits for it (`_raise_ended`), so that no task's
    # haste closes the transport under the last words of another.

    async def aclose(self) -> None:
        """Say Bye, unless that was done, wait for the peer's, and close.

        Data that still arrives is thrown away. Takes until the transport has accepted the Bye (`write_deadline` at
        most), and then up to 5 seconds where the peer does not answer, or 6 if it breaks a rule: a connection that is
        closed while bytes are unread is reset by TCP, and the Bye and the data before it can be lost. If another task
        is in `send_all`, that is cut off and no Bye is said. Cancelled, it closes at once.
        """
        if self._closed:
            await trio.lowlevel.checkpoint()
            return
        self._closed = True
        try:
            if self._over.is_set():
                await trio.lowlevel.checkpoint()
            elif self._ending:
                await self._over.wait()
            else:
                with trio.CancelScope() as self._parting:
                    await self._end(self._part)
        finally:
            await self._close_transport()

    async def close_with_error(self, code: ErrorCode, text: str = "") -> None:
        """End the session with Error: the peer's calls fail with PeerReported. Takes up to a second.

        Tasks that use this stream get trio.BrokenResourceError, from SessionEnded. Does nothing if the session is over;
        if another task ends it, waits for that, but cuts it short if it is by Bye. `text` is for the peer's logs; 1,024
        bytes of it are sent.
        """
        if self._parting is not None:
            self._parting.cancel()
        if self._ending:
            await self._over.wait()
        if self._over.is_set() or self._connection.is_over:
            await trio.lowlevel.checkpoint()
            return
        self._failure = SessionEnded(code, text)
        await self._end(partial(self._send_error, code, text))

    async def _end(self, last_words: Callable[[], Awaitable[None]]) -> None:
        """Be the task that ends the session: do what is left to do with the peer, then close."""
        self._ending = True
        try:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await last_words()
        finally:
            if self._connection.state in (State.DRAINING, State.FAILING):
                self._connection.linger_passed(trio.current_time())
            else:
                self._connection.given_up(trio.current_time())
            await self._close_transport()

    async def _part(self) -> None:
        """Bye, and what has to be waited for around it. [SE-51] [SE-81]"""
        if self._sender is not None:
            self._sender.cancel()
        await self._stop_receiving()
        async with self._send_lock:
            if self._connection.can_send_data and self._cut_off is None:
                await self._write(self._connection.send_bye(trio.current_time()))
        if self._cut_off is not None:
            return
        if self._connection.state is State.DRAINING:
            await self._drain()
            return
        failed = False
        with trio.move_on_after(BYE_LINGER):  # [SE-52]
            thrown_away = 0
            while self._connection.state is State.BYE_SENT and thrown_away < LINGER_BYTES:
                try:
                    event = self._connection.next_event(trio.current_time())
                    if isinstance(event, NeedData):
                        await self._fill()
                except (PeerError, PeerReported):  # nobody is there to be told [SE-53]
                    failed = True
                    break
                if isinstance(event, DataReceived):
                    thrown_away += len(event.data)
                elif isinstance(event, MoreToCome):
                    await trio.lowlevel.checkpoint()
        if failed:
            await self._send_answer()  # which has a second of its own

    async def _drain(self) -> None:
        """Both Byes are said, ours last, and the transport has just taken it. [SE-46] [SE-47]"""
        with trio.move_on_after(BYE_LINGER):
            await self._stop_receiving()
            await self._discard()

    async def _fail(self, exc: XLatticeError) -> None:
        """The receiver found that the session has failed: tell the peer, if it is told anything, and close."""
        if self._ending:
            await self._over.wait()
            return
        self._failure = exc  # [SE-82]
        await self._end(self._send_answer)

    async def _send_answer(self) -> None:
        """The Error that answers a violation or a silence. [SE-62] [SE-63]"""
        if not self._connection.answer:
            return
        with trio.move_on_after(ERROR_LINGER):
            async with self._send_lock:
                if self._cut_off is None:
                    await self._write(self._connection.answer)
            await self._discard()

    async def _send_error(self, code: ErrorCode, text: str) -> None:
        """An Error of our own, unless the receiver has found another in the meantime. [SE-62] [SE-63]"""
        with trio.move_on_after(ERROR_LINGER):
            async with self._send_lock:
                if not self._connection.is_over and self._cut_off is None:
                    await self._write(self._connection.send_error(code, text, trio.current_time()))
                elif self._connection.answer and self._cut_off is None:
                    await self._write(self._connection.answer)
            await self._stop_receiving()
            await self._discard()

    async def _stop_receiving(self) -> None:
        """Wake the receiver, and wait until the transport is free for us to read."""
        if self._receiver is not None:
            self._receiver.cancel()
            await self._receiver_gone.wait()

    async def _discard(self) -> None:
        """Read, and throw away, until the transport ends. The caller bounds the time. [SE-50] [SV-15]"""
        while await self.transport.receive_some(_RECEIVE_SIZE):
            pass

    async def _close_transport(self) -> None:
        self._over.set()
        await trio.aclose_forcefully(self.transport)
