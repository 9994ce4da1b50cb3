"""How a SecureStream ends: cleanly, with an error, cut off, stalled; and that nobody is told otherwise. Spec 6."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import (
    MockClock,
    lockstep_stream_pair,
    wait_all_tasks_blocked,
)

from tests.streams import (
    error_body,
    read_all,
    secure_memory_pair,
    secure_stream,
    secure_streams,
    stream_and_peer,
    tcp_pair,
)
from xlattice_trio import limits
from xlattice_trio.errors import (
    ErrorCode,
    PeerReported,
    RecordError,
    SessionEnded,
    Truncated,
    WriteStalled,
)
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.session.transitions import State

DATA, KEEPALIVE, REKEY, BYE, ERROR = 2, 3, 4, 5, 6


# ---- the clean end -----------------------------------------------------------


@pytest.mark.spec("SE-45", "SE-46")
async def test_who_receives_the_second_bye_closes_at_once_and_who_sends_it_waits(autojump_clock: MockClock) -> None:
    a, b = secure_memory_pair()
    began = trio.current_time()
    await a.send_all(b"question")
    await a.send_eof()
    assert await read_all(b) == b"question"
    await b.send_all(b"answer")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.aclose)
        assert await read_all(a) == b"answer"
        assert a._connection.state is State.CLOSED
    assert b._connection.state is State.CLOSED
    assert trio.current_time() == began  # nobody had to wait for a time limit
    await a.aclose()


@pytest.mark.spec("SE-46", "SE-81")
async def test_the_last_to_say_bye_waits_no_longer_than_the_linger_time(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(BYE)
    assert await stream.receive_some() == b""
    began = trio.current_time()
    await stream.aclose()
    assert trio.current_time() - began == limits.BYE_LINGER
    assert peer.received() == [(BYE, b"")]


@pytest.mark.spec("SE-51", "SE-52")
async def test_an_early_close_says_bye_and_waits_for_the_peers(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await wait_all_tasks_blocked()
        assert peer.received() == [(BYE, b"")]
        peer.send(DATA, b"thrown away")
        await wait_all_tasks_blocked()
        assert not peer.is_closed_on
        peer.send(BYE)
    assert peer.is_closed_on
    assert trio.current_time() < limits.BYE_LINGER


@pytest.mark.spec("SE-52")
async def test_an_early_close_does_not_listen_for_ever_to_a_peer_that_goes_on(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    for _ in range(limits.LINGER_BYTES // limits.RECORD_PAYLOAD_MAX):
        peer.send(DATA, bytes(limits.RECORD_PAYLOAD_MAX))
    began = trio.current_time()
    await stream.aclose()
    assert trio.current_time() == began
    assert peer.received() == [(BYE, b"")]
    assert peer.is_closed_on


@pytest.mark.spec("SE-45", "SE-49")
async def test_byes_that_cross_end_cleanly_on_both_sides(autojump_clock: MockClock) -> None:
    a, b = secure_memory_pair()
    await a.send_eof()
    await b.send_eof()
    assert (await read_all(a), await read_all(b)) == (b"", b"")
    assert (a._connection.state, b._connection.state) == (State.CLOSED, State.CLOSED)


@pytest.mark.spec("SE-46")
@pytest.mark.parametrize("attempt", range(5))
async def test_a_transfer_to_a_peer_that_leaves_bytes_unread_is_complete(attempt: int) -> None:
    """TCP resets a connection that is closed with unread bytes, and what was under way is lost with it."""
    server, client = secure_streams(*await tcp_pair())
    data = bytes(range(256)) * 800  # 204,800 bytes

    async def serve() -> None:
        await server.send_all(data)
        await server.aclose()  # the request was never read

    async with trio.open_nursery() as nursery:
        await client.send_all(b"a request that nobody reads" * 1000)
        nursery.start_soon(serve)
        assert await read_all(client) == data
        await client.aclose()


@pytest.mark.spec("SE-49")
@pytest.mark.parametrize("how", ["end", "reset", "time-out"])
async def test_after_both_byes_every_end_is_a_clean_one(how: str, autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(BYE)
    assert await stream.receive_some() == b""
    if how == "end":
        peer.end()
    elif how == "reset":
        peer.reset()
    await stream.send_eof()
    assert stream._connection.state is State.CLOSED
    assert await stream.receive_some() == b""
    assert await stream.wait_closed() is False
    await stream.aclose()
    assert trio.current_time() == (limits.BYE_LINGER if how == "time-out" else 0)


@pytest.mark.spec("SE-46", "SE-47", "SE-81")
@pytest.mark.parametrize("call", ["send_eof", "aclose"])
async def test_the_time_for_draining_begins_when_the_transport_has_the_bye(
    call: str, autojump_clock: MockClock
) -> None:
    stream, peer = stream_and_peer()
    peer.read_slowly(20)
    peer.send(BYE)
    assert await stream.receive_some() == b""
    for _ in range(10):
        peer.send(DATA, b"thrown away")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_eof if call == "send_eof" else stream.aclose)
        await trio.sleep(20 + 0.9 * limits.BYE_LINGER)
        assert peer.received() == [(BYE, b"")]
        assert not peer.is_closed_on
    assert peer.is_closed_on
    assert trio.current_time() == 20 + limits.BYE_LINGER


async def test_who_waits_for_the_peers_failure_is_not_told_of_our_own_bye(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(BYE)
    assert await stream.receive_some() == b""
    found: list[bool] = []

    async def wait() -> None:
        found.append(await stream.wait_closed())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        await stream.send_eof()
    assert found == [False]


@pytest.mark.spec("SE-44")
async def test_tcps_own_half_close_is_never_used(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    await stream.send_all(b"x")
    await stream.send_eof()
    assert peer.received() == [(DATA, b"x"), (BYE, b"")]
    assert not peer.is_closed_on
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await trio.sleep(0.9 * limits.BYE_LINGER)
        assert not peer.is_closed_on
    assert peer.is_closed_on


@pytest.mark.spec("SE-53")
@pytest.mark.parametrize("what", ["data", "Bye", "Error", "violation", "end", "nothing"])
async def test_who_has_closed_is_told_nothing_of_what_comes_then(what: str, autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)  # would raise here
        await wait_all_tasks_blocked()
        match what:
            case "data":
                peer.send(DATA, b"late")
            case "Bye":
                peer.send(BYE)
            case "Error":
                peer.send(ERROR, error_body(5))
            case "violation":
                peer.send(KEEPALIVE)
            case "end":
                peer.end()
    assert stream._pending == b""
    for call in (stream.receive_some, stream.wait_closed, stream.send_eof):
        with pytest.raises(trio.ClosedResourceError):
            await call()


# ---- ends that are not clean -------------------------------------------------


@pytest.mark.spec("SE-65")
async def test_the_end_of_the_connection_before_bye_is_a_truncation() -> None:
    stream, peer = stream_and_peer()
    peer.send(DATA, b"all that there is")
    peer.end()
    assert await stream.receive_some() == b"all that there is"
    for _ in range(2):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, Truncated)


@pytest.mark.spec("SE-65")
async def test_a_reset_before_bye_is_a_truncation() -> None:
    ours, theirs = await tcp_pair()
    stream = secure_stream(ours, Side.RESPONDER)
    theirs.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await theirs.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, Truncated)


@pytest.mark.spec("SE-67")
async def test_after_the_peers_bye_and_the_end_of_the_connection_sending_fails() -> None:
    stream, peer = stream_and_peer()
    peer.send(BYE)
    peer.end()
    peer.stop_reading()
    assert await stream.receive_some() == b""
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"too late")
    assert await stream.receive_some() == b""


@pytest.mark.spec("SE-58", "SE-59")
async def test_the_peers_error_is_reported_with_its_code_and_text() -> None:
    stream, peer = stream_and_peer()
    peer.send(ERROR, error_body(2, "no such service"))
    peer.end()
    for call in (stream.receive_some(), stream.receive_some(), stream.send_all(b"x")):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await call
        cause = caught.value.__cause__
        assert isinstance(cause, PeerReported)
        assert (cause.code, cause.text) == (ErrorCode.UNKNOWN_SERVICE, "no such service")
    assert peer.is_closed_on


@pytest.mark.spec("SE-68")
async def test_a_sender_whose_peer_is_gone_learns_the_peers_error_body() -> None:
    stream, peer = stream_and_peer()
    peer.send(DATA, b"last words")
    peer.send(ERROR, error_body(3))
    peer.stop_reading()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.send_all(b"x")
    assert isinstance(caught.value.__cause__, PeerReported)
    assert await stream.receive_some() == b"last words"


@pytest.mark.spec("SE-68")
async def test_a_sender_whose_peer_is_gone_keeps_what_arrived(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(DATA, b"last words")
    peer.send(BYE)
    peer.stop_reading()
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    assert await read_all(stream) == b"last words"


@pytest.mark.spec("SE-55", "SE-62", "SE-82")
async def test_a_violation_is_answered_with_error_and_the_connection_closed(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(KEEPALIVE)
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, RecordError)
    assert peer.received() == [(ERROR, error_body(1))]
    assert peer.is_closed_on
    assert trio.current_time() - began == limits.ERROR_LINGER


@pytest.mark.spec("SE-68", "SE-83")
async def test_who_waits_for_the_end_waits_for_whoever_reads_behind_a_failed_keepalive(
    autojump_clock: MockClock,
) -> None:
    stream, peer = stream_and_peer(keepalive=1000)
    peer.send(BYE)
    assert await stream.receive_some() == b""
    peer.stop_reading()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.keep_alive)
        await trio.sleep(1.5)  # the KeepAlive has failed, and its task reads
        assert not peer.is_closed_on
        assert await stream.wait_closed()
    assert trio.current_time() == 2.0
    assert peer.is_closed_on


@pytest.mark.spec("SE-57")
async def test_a_malformed_error_ends_without_an_answer() -> None:
    stream, peer = stream_and_peer()
    peer.send(ERROR, b"\0")
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert peer.is_closed_on


async def test_close_with_error_tells_the_peer_and_wakes_whoever_uses_the_stream(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    seen = []

    async def receive() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        seen.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        await stream.close_with_error(ErrorCode.NOT_AUTHORIZED, "not\nyou")
    assert isinstance(seen[0], SessionEnded)
    assert seen[0].code is ErrorCode.NOT_AUTHORIZED
    assert peer.received() == [(ERROR, error_body(3, "not you"))]
    assert peer.is_closed_on
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")
    await stream.close_with_error(ErrorCode.INTERNAL)
    await stream.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await stream.receive_some()


@pytest.mark.spec("SE-62", "SE-63")
async def test_close_with_error_gives_up_on_a_peer_that_reads_nothing(autojump_clock: MockClock) -> None:
    a, b = secure_streams(*lockstep_stream_pair())
    began = trio.current_time()
    await a.close_with_error(ErrorCode.INTERNAL)
    assert trio.current_time() - began == limits.ERROR_LINGER
    with pytest.raises(trio.BrokenResourceError):
        await b.receive_some()


@pytest.mark.spec("SE-62")
async def test_the_error_of_one_task_is_not_cut_short_by_another_that_closes(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()

    async def use() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(use)
        await wait_all_tasks_blocked()
        nursery.start_soon(stream.close_with_error, ErrorCode.NOT_AUTHORIZED)
        await wait_all_tasks_blocked()
        assert peer.received() == [(ERROR, error_body(3))]
        assert not peer.is_closed_on
    assert peer.is_closed_on
    assert trio.current_time() == limits.ERROR_LINGER


async def test_close_with_error_whose_peer_reads_nothing_returns_though_the_stream_is_closed_meanwhile(
    autojump_clock: MockClock,
) -> None:
    a, _ = secure_streams(*lockstep_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.close_with_error, ErrorCode.INTERNAL)
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(a)


async def test_close_with_error_cuts_a_close_short(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await wait_all_tasks_blocked()
        await stream.close_with_error(ErrorCode.NOT_AUTHORIZED)
    assert trio.current_time() == 0
    assert peer.received() == [(BYE, b"")]


@pytest.mark.spec("SE-48")
async def test_close_with_error_leaves_a_session_alone_that_has_ended(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    peer.send(BYE)
    assert await stream.receive_some() == b""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.send_eof)
        await wait_all_tasks_blocked()
        await stream.close_with_error(ErrorCode.INTERNAL)
    assert trio.current_time() == 0
    assert peer.received() == [(BYE, b"")]
    await stream.aclose()


@pytest.mark.spec("SE-62")
async def test_a_violation_while_closing_is_answered_within_a_second(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.aclose)
        await wait_all_tasks_blocked()
        peer.send(KEEPALIVE)
    assert peer.received() == [(BYE, b""), (ERROR, error_body(1))]
    assert trio.current_time() == limits.ERROR_LINGER


@pytest.mark.spec("SE-18")
async def test_a_violation_is_not_answered_behind_a_record_that_was_cut_off(autojump_clock: MockClock) -> None:
    a, b = secure_streams(*lockstep_stream_pair())
    outcomes: list[type | None] = []

    async def receive() -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await a.receive_some()
        outcomes.append(type(caught.value.__cause__))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive)
        with trio.move_on_after(0.5):
            async with trio.open_nursery() as sending:
                sending.start_soon(a.send_all, b"nobody reads this")
                await wait_all_tasks_blocked()
                sending.start_soon(b.transport.send_all, b"\x03\0\0\x11" + bytes(17))
                await trio.sleep_forever()
    assert outcomes == [RecordError]
    assert len(await b.transport.receive_some()) in (0, 4 + 1 + len(b"nobody reads this") + 16)


# ---- cancellation and stalls -------------------------------------------------


@pytest.mark.spec("SE-18", "SE-83")
async def test_a_send_that_was_cancelled_in_a_record_ends_the_session(autojump_clock: MockClock) -> None:
    a, b = secure_streams(*lockstep_stream_pair())
    with trio.move_on_after(1):
        await a.send_all(b"nobody reads this")
    for call in (a.send_all(b"x"), a.send_eof()):
        with pytest.raises(trio.BrokenResourceError):
            await call
    with pytest.raises(trio.BrokenResourceError) as caught:
        await a.receive_some()
    assert isinstance(caught.value.__cause__, Truncated)
    await a.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await read_all(b)
    assert isinstance(caught.value.__cause__, Truncated)


@pytest.mark.spec("SE-84")
@pytest.mark.parametrize("call", ["send_all", "send_eof"])
@pytest.mark.parametrize("before", ["nothing", "our Bye", "the peer's Bye"])
@pytest.mark.parametrize("then", ["nothing", "Bye", "Error", "end"])
async def test_a_write_that_fails_is_told_to_who_asked_for_it_in_every_state(
    call: str, before: str, then: str, autojump_clock: MockClock
) -> None:
    stream, peer = stream_and_peer()
    if before == "our Bye":
        peer.read_slowly(1)
        with trio.move_on_after(0.5):
            await stream.send_eof()  # cut off: what is asked for next cannot be sent
        assert stream._connection.state is State.BYE_SENT
    if before == "the peer's Bye":
        peer.send(BYE)
        assert await stream.receive_some() == b""
    match then:
        case "Bye" if before != "the peer's Bye":
            peer.send(BYE)
        case "Error":
            peer.send(ERROR, error_body(5))
        case "end":
            peer.end()
    peer.stop_reading()
    with pytest.raises(trio.BrokenResourceError):
        await (stream.send_all(b"x") if call == "send_all" else stream.send_eof())
    with pytest.raises(trio.BrokenResourceError):
        await stream.send_all(b"x")


@pytest.mark.spec("SE-63")
async def test_the_second_for_an_error_includes_the_wait_for_a_record_that_is_being_written(
    autojump_clock: MockClock,
) -> None:
    a, _ = secure_streams(*lockstep_stream_pair())

    async def send() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await a.send_all(b"nobody reads this")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(send)
        await wait_all_tasks_blocked()
        await a.close_with_error(ErrorCode.INTERNAL)
        assert trio.current_time() == limits.ERROR_LINGER


@pytest.mark.spec("SE-68", "SE-83")
async def test_after_a_failed_write_a_reader_gets_what_has_arrived_and_then_a_truncation(
    autojump_clock: MockClock,
) -> None:
    stream, peer = stream_and_peer()
    seen: list[object] = []

    async def read() -> None:
        try:
            while data := await stream.receive_some():
                seen.append(bytes(data))
        except trio.BrokenResourceError as exc:
            seen.append(type(exc.__cause__))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await wait_all_tasks_blocked()
        peer.stop_reading()
        peer.send(DATA, b"on its way")
        with pytest.raises(trio.BrokenResourceError):
            await stream.send_all(b"x")
    assert seen == [b"on its way", Truncated]
    assert trio.current_time() == limits.ERROR_LINGER


@pytest.mark.spec("SE-68")
async def test_a_sender_beside_a_reader_learns_the_peers_error_too(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    causes: list[object] = []

    async def expecting(call: Callable[[], Awaitable[object]]) -> None:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await call()
        causes.append(caught.value.__cause__)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expecting, stream.receive_some)
        await wait_all_tasks_blocked()
        peer.stop_reading()
        nursery.start_soon(expecting, lambda: stream.send_all(b"x"))
        await wait_all_tasks_blocked()
        peer.send(ERROR, error_body(3))
    assert [type(cause) for cause in causes] == [PeerReported, PeerReported]


@pytest.mark.spec("SE-80")
async def test_the_peers_bye_waits_until_our_own_is_out(autojump_clock: MockClock) -> None:
    a, b = secure_streams(*lockstep_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_eof)
        nursery.start_soon(b.send_eof)
        await wait_all_tasks_blocked()  # each is blocked in its Bye until the other reads
        ends: list[bytes] = []

        async def read(stream: SecureStream) -> None:
            ends.append(await read_all(stream))

        nursery.start_soon(read, a)
        nursery.start_soon(read, b)
    assert ends == [b"", b""]


async def test_a_send_that_was_cancelled_between_two_records_is_no_clean_end(autojump_clock: MockClock) -> None:
    a, b = secure_memory_pair()

    async def hold_the_lock() -> None:
        async with a._send_lock:
            await trio.sleep(2)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_the_lock)
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await a.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await a.send_all(b"x")
    await a.aclose()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await b.receive_some()
    assert isinstance(caught.value.__cause__, Truncated)


async def test_a_receive_that_was_cancelled_loses_nothing(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer()
    with trio.move_on_after(1):
        await stream.receive_some()
    peer.send(DATA, b"x")
    assert await stream.receive_some() == b"x"


@pytest.mark.spec("SE-70", "SE-71")
async def test_a_write_without_progress_ends_the_session(autojump_clock: MockClock) -> None:
    a, _ = secure_streams(*lockstep_stream_pair())
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await a.send_all(b"nobody reads this")
    assert isinstance(caught.value.__cause__, WriteStalled)
    assert trio.current_time() - began == limits.WRITE_DEADLINE
    with pytest.raises(trio.BrokenResourceError):
        await a.receive_some()
