"""A session carried on to another connection: ends as ends, failures as failures. Spec 8.4."""

import errno
import hashlib
import math
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, memory_stream_pair, wait_all_tasks_blocked

from tests.streams import secure_memory_pair, secure_streams, stream_and_peer, tcp_pair
from xlattice_trio import limits
from xlattice_trio.errors import (
    ErrorCode,
    KeepaliveTimeout,
    PeerClosed,
    PeerReported,
    RecordError,
    SessionEnded,
    Truncated,
    WriteStalled,
    XLatticeError,
)
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.net.reasons import reason
from xlattice_trio.net.relay import LocalSideBroken, relay
from xlattice_trio.net.stream import SecureStream

DATA, KEEPALIVE, BYE, ERROR = 2, 3, 5, 6
INTERNAL = b"\x00\x05\x00\x03why"


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    while chunk := await stream.receive_some():
        data += chunk
    return bytes(data)


@attrs.define
class Running:
    """A relay at work, and how it ended: None if it returned."""

    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    failure: BaseException | None = None
    ended: trio.Event = attrs.Factory(trio.Event)
    at: float = math.nan

    async def run(self, secure: SecureStream, local: trio.abc.HalfCloseableStream) -> None:
        try:
            with self.scope:
                await relay(secure, local)
        except Exception as exc:
            self.failure = exc
        self.at = trio.current_time()
        self.ended.set()


@asynccontextmanager
async def relaying(secure: SecureStream, local: trio.abc.HalfCloseableStream) -> AsyncIterator[Running]:
    """Runs a relay beside the block, and waits for its end behind it."""
    running = Running()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run, secure, local)
        yield running


class BrokenStream(trio.abc.HalfCloseableStream):
    """A local side on which one call fails, as a socket's does; the others wait for ever."""

    def __init__(self, call: str) -> None:
        self.call = call
        self.closed = False

    async def _do(self, call: str) -> None:
        await trio.lowlevel.checkpoint()
        if call == self.call:
            raise trio.BrokenResourceError("broken") from ConnectionResetError(104, "Connection reset by peer")

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._do("send_all")

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def send_eof(self) -> None:
        await self._do("send_eof")

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self.call == "send_eof after the end":
            return b""
        await self._do("receive_some")
        await trio.sleep_forever()
        raise AssertionError

    async def aclose(self) -> None:
        self.closed = True
        await trio.lowlevel.checkpoint()


# ---- clean ends --------------------------------------------------------------


@pytest.mark.spec("SV-20", "SV-16")
async def test_the_local_end_becomes_bye_and_the_other_direction_goes_on(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await app.send_all(b"question")
        await app.send_eof()
        assert await read_all(far) == b"question"
        await wait_all_tasks_blocked()
        assert not running.ended.is_set()
        await far.send_all(b"answer")
        await far.send_eof()
        assert await read_all(app) == b"answer"
    assert running.failure is None


@pytest.mark.spec("SV-20", "SV-16")
async def test_the_peers_bye_becomes_the_local_end_and_the_other_direction_goes_on(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await far.send_all(b"question")
        await far.send_eof()
        assert await read_all(app) == b"question"
        await wait_all_tasks_blocked()
        assert not running.ended.is_set()
        await app.send_all(b"answer")
        await app.send_eof()
        assert await read_all(far) == b"answer"
    assert running.failure is None


async def test_after_the_end_the_local_side_is_closed_and_the_session_is_the_callers(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    app, local = memory_stream_pair()
    async with relaying(near, local):
        await app.send_eof()
        await far.send_eof()
    with pytest.raises(trio.ClosedResourceError):
        await local.receive_some()
    await near.aclose()
    assert await far.receive_some() == b""
    assert await app.receive_some() == b""


async def test_it_takes_one_task_beside_its_callers(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    app, local = memory_stream_pair()
    before = trio.lowlevel.current_statistics().tasks_living
    async with relaying(near, local) as running:
        for _ in range(10):
            await app.send_all(b"x")
            await far.send_all(b"y")
            await wait_all_tasks_blocked()
            assert trio.lowlevel.current_statistics().tasks_living == before + 2
        running.scope.cancel()


async def test_much_data_both_ways_at_once_arrives_whole() -> None:
    near, far = secure_streams(*await tcp_pair())
    app, local = await tcp_pair()
    sent = os.urandom(4 << 20)
    digests: dict[str, str] = {}

    async def send(stream: trio.abc.HalfCloseableStream) -> None:
        await stream.send_all(sent)
        await stream.send_eof()

    async def receive(name: str, stream: trio.abc.ReceiveStream) -> None:
        digests[name] = hashlib.sha256(await read_all(stream)).hexdigest()

    async with relaying(near, local) as running, trio.open_nursery() as nursery:
        for name, stream in (("far", far), ("app", app)):
            nursery.start_soon(send, stream)
            nursery.start_soon(receive, name, stream)
    assert running.failure is None
    assert digests == dict.fromkeys(("far", "app"), hashlib.sha256(sent).hexdigest())
    for stream in (app, near, far):
        await trio.aclose_forcefully(stream)


# ---- failures of the session -------------------------------------------------


@pytest.mark.spec("SV-17")
@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([(ERROR, INTERNAL)], PeerReported),
        ([], Truncated),
        ([(KEEPALIVE, b"")], RecordError),
    ],
)
async def test_a_failed_session_raises_what_the_stream_reports(
    records: list[tuple[int, bytes]], expected: type[XLatticeError], autojump_clock: MockClock
) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        peer.send(DATA, b"first")
        assert await app.receive_some() == b"first"
        for record in records:
            peer.send(*record)
        peer.end()
        await running.ended.wait()
    assert type(running.failure) is expected
    with pytest.raises(trio.ClosedResourceError):
        await local.receive_some()


async def test_a_peer_that_falls_silent_is_reported_as_such(autojump_clock: MockClock) -> None:
    near, _ = stream_and_peer(keepalive=1000)
    _, local = memory_stream_pair()
    async with relaying(near, local) as running:
        pass
    assert type(running.failure) is KeepaliveTimeout


async def test_a_peer_that_stops_reading_is_reported_as_such(autojump_clock: MockClock) -> None:
    near, _ = secure_streams(*trio.testing.lockstep_stream_pair(), write_deadline=30)
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await app.send_all(b"x")
    assert type(running.failure) is WriteStalled


async def test_the_peers_error_wins_over_the_broken_write_that_it_causes(autojump_clock: MockClock) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    peer.stop_reading()
    async with relaying(near, local) as running:
        await app.send_all(b"x")
        await trio.sleep(0.9 * limits.ERROR_LINGER)
        peer.send(DATA, b"before it")
        peer.send(ERROR, INTERNAL)
    assert type(running.failure) is PeerReported
    assert running.failure.code is ErrorCode.INTERNAL
    assert running.at == pytest.approx(0.9 * limits.ERROR_LINGER)
    assert await app.receive_some() == b"before it"


async def test_a_broken_write_that_nothing_explains_is_reported_after_a_second(autojump_clock: MockClock) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    peer.stop_reading()
    async with relaying(near, local) as running:
        await app.send_all(b"x")
    assert type(running.failure) is Truncated
    assert running.at == pytest.approx(limits.ERROR_LINGER)


async def test_a_broken_write_before_the_end_of_the_connection_is_a_truncation(autojump_clock: MockClock) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    peer.stop_reading()
    async with relaying(near, local) as running:
        await app.send_all(b"x")
        await wait_all_tasks_blocked()
        peer.end()
    assert type(running.failure) is Truncated
    assert running.at == 0


@pytest.mark.spec("SE-67")
async def test_a_connection_that_breaks_behind_the_peers_bye_is_a_failure(autojump_clock: MockClock) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        peer.send(BYE)
        assert await app.receive_some() == b""
        peer.stop_reading()
        peer.end()
        await app.send_all(b"too late")
    assert type(running.failure) is PeerClosed


async def test_a_peer_that_is_gone_after_its_bye_is_noticed_while_there_is_nothing_to_say(
    autojump_clock: MockClock,
) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        peer.send(BYE)
        assert await app.receive_some() == b""
        await wait_all_tasks_blocked()
        peer.end()
    assert type(running.failure) is PeerClosed


async def test_an_error_behind_the_peers_bye_is_reported(autojump_clock: MockClock) -> None:
    near, peer = stream_and_peer()
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        peer.send(BYE)
        assert await app.receive_some() == b""
        peer.stop_reading()
        peer.send(ERROR, INTERNAL)
        await app.send_all(b"too late")
    assert type(running.failure) is PeerReported


async def test_a_session_that_another_task_ends_with_error_is_reported_as_such(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    _, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await wait_all_tasks_blocked()
        await near.close_with_error(ErrorCode.SHUTTING_DOWN)
    assert type(running.failure) is SessionEnded
    with pytest.raises(trio.BrokenResourceError) as caught:
        await far.receive_some()
    assert isinstance(caught.value.__cause__, PeerReported)


async def test_a_session_that_another_task_closes_is_reported_as_such(autojump_clock: MockClock) -> None:
    near, _ = secure_memory_pair()
    _, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await wait_all_tasks_blocked()
        await near.aclose()
    assert type(running.failure) is trio.ClosedResourceError


async def test_cancelled_it_closes_the_local_side_and_leaves_the_session(autojump_clock: MockClock) -> None:
    near, peer = stream_and_peer()
    _, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await wait_all_tasks_blocked()
        running.scope.cancel()
    assert running.failure is None
    with pytest.raises(trio.ClosedResourceError):
        await local.receive_some()
    assert peer.received() == []
    await near.send_all(b"still there")
    assert peer.received() == [(DATA, b"still there")]


# ---- failures of the local side ----------------------------------------------


@pytest.mark.spec("SV-19", "SV-20")
@pytest.mark.parametrize("call", ["receive_some", "send_all", "send_eof"])
async def test_a_local_side_that_breaks_ends_the_session_with_error(call: str, autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    local = BrokenStream(call)
    async with relaying(near, local) as running:
        await far.send_all(b"x")
        await far.send_eof()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await read_all(far)
    assert isinstance(caught.value.__cause__, PeerReported)
    assert caught.value.__cause__.code is ErrorCode.INTERNAL
    assert type(running.failure) is LocalSideBroken
    assert "Connection reset by peer" in str(running.failure)
    assert "reset" not in caught.value.__cause__.text
    assert local.closed


@pytest.mark.spec("SV-19")
async def test_the_error_comes_behind_a_record_that_is_being_written(autojump_clock: MockClock) -> None:
    near, far = secure_streams(*trio.testing.lockstep_stream_pair())
    app, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await app.send_all(b"a record")
        await wait_all_tasks_blocked()  # until somebody reads it
        local.send_stream.close()
        await far.send_all(b"x")
        await wait_all_tasks_blocked()
        assert await far.receive_some() == b"a record"
        with pytest.raises(trio.BrokenResourceError) as caught:
            await far.receive_some()
    assert isinstance(caught.value.__cause__, PeerReported)
    assert type(running.failure) is LocalSideBroken


async def test_a_local_side_that_is_done_with_both_directions_need_not_hear_of_the_end(
    autojump_clock: MockClock,
) -> None:
    near, far = secure_memory_pair()
    local = BrokenStream("send_eof after the end")
    local._do = _fail_at_send_eof  # type: ignore[method-assign]
    async with relaying(near, local) as running:
        assert await read_all(far) == b""
        await far.send_eof()
    assert running.failure is None


async def _fail_at_send_eof(call: str) -> None:
    await trio.lowlevel.checkpoint()
    if call == "send_eof":
        raise trio.BrokenResourceError


async def test_a_local_side_that_somebody_else_closed_counts_as_broken(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    _, local = memory_stream_pair()
    async with relaying(near, local) as running:
        await wait_all_tasks_blocked()
        await local.aclose()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
    assert type(running.failure) is LocalSideBroken


# ---- what a TCP connection on the local side sees ----------------------------


@pytest.mark.spec("SV-17", "SV-20")
@pytest.mark.parametrize("how", ["truncated", "error", "cancelled"])
async def test_what_the_peer_did_not_finish_ends_with_a_reset(how: str) -> None:
    near, far = secure_memory_pair()
    app, local = await tcp_pair()
    async with relaying(near, local) as running:
        await far.send_all(b"half an upload")
        assert await app.receive_some() == b"half an upload"
        match how:
            case "truncated":
                await trio.aclose_forcefully(far.transport)
            case "error":
                await far.close_with_error(ErrorCode.INTERNAL)
            case "cancelled":
                running.scope.cancel()
        with pytest.raises(trio.BrokenResourceError) as caught:
            await app.receive_some()
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    await app.aclose()


async def test_what_the_local_side_has_not_read_yet_outlives_the_relay() -> None:
    near, far = secure_memory_pair()
    app, local = await tcp_pair()
    app.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    async with relaying(near, local) as running:
        await app.send_eof()
        await far.send_all(bytes(60_000))
        await far.aclose()
    assert running.failure is None
    assert len(await read_all(app)) == 60_000
    await app.aclose()


async def test_what_the_peer_did_finish_ends_cleanly_even_if_the_session_fails_then() -> None:
    near, far = secure_memory_pair()
    app, local = await tcp_pair()
    async with relaying(near, local) as running:
        await far.send_all(b"a whole download")
        await far.send_eof()
        assert await read_all(app) == b"a whole download"
        await near.close_with_error(ErrorCode.SHUTTING_DOWN)
        await app.send_all(b"too late")
    assert type(running.failure) is SessionEnded
    await app.aclose()


# ---- words -------------------------------------------------------------------

REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")
UNREACHABLE = OSError(errno.ENETUNREACH, "Error connecting to ('192.0.2.1', 80): Network is unreachable")


def caused(exc: Exception, cause: BaseException) -> Exception:
    exc.__cause__ = cause
    return exc


@pytest.mark.parametrize(
    ("exc", "text"),
    [
        (REFUSED, "Connection refused"),
        (OSError("all attempts failed"), "all attempts failed"),
        (UNREACHABLE, "Network is unreachable"),
        (TimeoutError(None, "no answer within 10 s"), "no answer within 10 s"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError(), "OSError"),
        (ValueError("what"), "what"),
        (caused(OSError("all"), ExceptionGroup("all", [REFUSED, REFUSED])), "Connection refused"),
        (
            caused(OSError("all"), ExceptionGroup("all", [REFUSED, UNREACHABLE])),
            "Connection refused, Network is unreachable",
        ),
        (caused(OSError("all"), ExceptionGroup("all", [OSError("another family"), REFUSED])), "Connection refused"),
        (caused(OSError("all"), ExceptionGroup("all", [OSError("another family")])), "another family"),
        (caused(OSError("one"), REFUSED), "Connection refused"),
        (caused(OSError(5, "Input/output error"), ValueError("inner")), "Input/output error"),
    ],
)
def test_a_failed_connection_is_explained_in_few_words(exc: Exception, text: str) -> None:
    assert reason(exc) == text


# ---- what it leans on in SecureStream ----------------------------------------


async def test_who_receives_while_a_failed_write_is_explained_waits_for_it(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.stop_reading()

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        peer.send(DATA, b"data")
        assert await stream.receive_some() == b"data"


@pytest.mark.spec("SE-68")
@pytest.mark.parametrize(("call", "bye_before"), [("send_all", False), ("send_all", True), ("send_eof", False)])
async def test_a_write_that_fails_finds_the_peers_error(call: str, bye_before: bool, autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(Side.INITIATOR)
    if bye_before:
        peer.send(BYE)
        assert await stream.receive_some() == b""
    peer.send(ERROR, INTERNAL)
    peer.stop_reading()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await (stream.send_eof() if call == "send_eof" else stream.send_all(b"x"))
    assert isinstance(caught.value.__cause__, PeerReported)


async def test_a_write_that_fails_behind_both_ends_is_not_explained_for_ever(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(BYE)
    assert await stream.receive_some() == b""
    peer.end()
    peer.stop_reading()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    assert trio.current_time() == 0
