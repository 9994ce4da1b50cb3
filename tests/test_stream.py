"""SecureStream: a Trio stream that keeps its promises at the end of a session. Spec 6."""

import math

import pytest
import trio
from trio.testing import (
    MockClock,
    check_half_closeable_stream,
    lockstep_stream_pair,
    memory_stream_pair,
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
    KeepaliveTimeout,
)
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.session.transitions import State

DATA, KEEPALIVE, REKEY, BYE, ERROR = 2, 3, 4, 5, 6


# ---- Trio's own contract -----------------------------------------------------


async def test_keeps_trios_contract_in_memory(autojump_clock: MockClock) -> None:
    async def make() -> tuple[SecureStream, SecureStream]:
        return secure_memory_pair()

    await check_half_closeable_stream(make, None)


async def test_keeps_trios_contract_on_a_clogged_transport(autojump_clock: MockClock) -> None:
    async def make() -> tuple[SecureStream, SecureStream]:
        return secure_streams(*lockstep_stream_pair())

    await check_half_closeable_stream(make, make)


async def test_keeps_trios_contract_on_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlattice_trio.net.stream.BYE_LINGER", 0.1)

    async def make() -> tuple[SecureStream, SecureStream]:
        return secure_streams(*await tcp_pair())

    await check_half_closeable_stream(make, None)


# ---- data --------------------------------------------------------------------


@pytest.mark.spec("SE-10", "SE-11")
async def test_data_is_cut_into_records_of_the_largest_size() -> None:
    stream, peer = stream_and_peer()
    await stream.send_all(bytes(150_000))
    assert [len(payload) for _, payload in peer.received()] == [65_536, 65_536, 150_000 - 2 * 65_536]


async def test_a_buffer_of_wider_elements_is_sent_as_its_bytes() -> None:
    stream, peer = stream_and_peer()
    await stream.send_all(memoryview(b"12345678").cast("I"))
    assert peer.received() == [(DATA, b"12345678")]


async def test_a_record_can_be_read_in_pieces() -> None:
    stream, peer = stream_and_peer()
    peer.send(DATA, b"abcdef")
    assert [await stream.receive_some(n) for n in (1, 2, 10)] == [b"a", b"bc", b"def"]


@pytest.mark.spec("SE-5")
async def test_whatever_an_established_side_says_is_a_record(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(keepalive=1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.keep_alive)
        await stream.send_all(b"x")
        await trio.sleep(1.5)
        await trio.sleep(limits.GENERATION_AGE)
        nursery.cancel_scope.cancel()
    await stream.send_eof()
    await stream.close_with_error(ErrorCode.INTERNAL)
    said = peer.sent_to()
    kinds = []
    while said:
        kinds.append(said[0])
        said = said[4 + int.from_bytes(said[1:4], "big") :]
    assert len(kinds) > limits.GENERATION_AGE
    assert set(kinds) == {3}


@pytest.mark.spec("SE-17")
async def test_records_of_several_tasks_are_written_whole_and_in_the_order_of_their_numbers(
    autojump_clock: MockClock,
) -> None:
    stream, peer = stream_and_peer(keepalive=1000)
    peer.read_slowly(5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.keep_alive)
        await stream.send_all(bytes(3 * limits.RECORD_PAYLOAD_MAX))
        nursery.start_soon(stream.send_eof)
        await wait_all_tasks_blocked()
        await trio.sleep(3)
        nursery.cancel_scope.cancel()
    assert [type_ for type_, _ in peer.received()] == [DATA, KEEPALIVE, DATA, KEEPALIVE, DATA, KEEPALIVE]


@pytest.mark.spec("SV-18")
async def test_no_more_is_read_than_the_application_takes_but_for_one_read(autojump_clock: MockClock) -> None:
    a, b = secure_streams(*lockstep_stream_pair())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, bytes(100 * limits.RECORD_PAYLOAD_MAX))
        for taken in range(1, 6):
            assert len(await b.receive_some()) == limits.RECORD_PAYLOAD_MAX
            await wait_all_tasks_blocked()
            assert a._connection._sealer.seq <= 1 + taken + 3  # Confirm; two that one read holds; one being written
        nursery.cancel_scope.cancel()


async def test_bytes_behind_the_handshake_are_read_first() -> None:
    stream, peer = stream_and_peer()
    stream.established.reader.feed(peer.raw.record(DATA, b"early"))
    assert await stream.receive_some() == b"early"


# ---- keepalive ---------------------------------------------------------------


@pytest.mark.spec("SE-31")
async def test_an_idle_session_is_kept_alive_by_both_sides(autojump_clock: MockClock) -> None:
    a, b = secure_memory_pair(keepalive=1000)
    async with trio.open_nursery() as nursery:
        for stream in (a, b):
            nursery.start_soon(stream.keep_alive)
            nursery.start_soon(read_all, stream)
        await trio.sleep(300)
        await a.send_eof()
        await wait_all_tasks_blocked()
        await b.aclose()
    assert (a._connection.state, b._connection.state) == (State.CLOSED, State.CLOSED)


@pytest.mark.spec("SE-31", "SE-33")
async def test_keepalive_is_sent_only_when_nothing_else_was(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(keepalive=10_000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.keep_alive)
        await trio.sleep(9)
        await stream.send_all(b"x")
        await trio.sleep(9)
        assert peer.received() == [(DATA, b"x")]
        await trio.sleep(2)
        assert peer.received() == [(KEEPALIVE, b"")]
        nursery.cancel_scope.cancel()


async def test_keep_alive_returns_when_there_is_nothing_to_keep() -> None:
    stream, _ = stream_and_peer()
    await stream.keep_alive()


@pytest.mark.spec("SE-37", "SE-82")
async def test_three_silent_intervals_end_the_session_with_error_body(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(keepalive=2000)
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, KeepaliveTimeout)
    assert peer.received() == [(ERROR, error_body(6))]
    assert trio.current_time() - began == 6 + limits.ERROR_LINGER


@pytest.mark.spec("SE-36")
async def test_the_silence_clock_stands_still_while_nobody_reads(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(keepalive=1000)
    for _ in range(2):
        with trio.move_on_after(1.4):
            await stream.receive_some()
        await trio.sleep(1000)  # our own doing
    peer.send(KEEPALIVE)
    with trio.move_on_after(2.9) as scope:
        await stream.receive_some()
    assert scope.cancelled_caught
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()


@pytest.mark.spec("SE-38")
async def test_the_initiator_gives_the_first_record_as_long_as_the_handshake(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(Side.INITIATOR, keepalive=1000)
    with trio.move_on_after(9.9) as scope:
        await stream.receive_some()
    assert scope.cancelled_caught
    peer.send(DATA, b"x")
    assert await stream.receive_some() == b"x"
    began = trio.current_time()
    with pytest.raises(trio.BrokenResourceError):
        await stream.receive_some()
    assert trio.current_time() - began == pytest.approx(3 + limits.ERROR_LINGER)


async def test_keep_alive_returns_when_the_session_ends_while_it_writes(autojump_clock: MockClock) -> None:
    a, _ = secure_streams(*lockstep_stream_pair(), keepalive=1000)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.keep_alive)
        await trio.sleep(1.5)
        await trio.aclose_forcefully(a)


async def test_a_flood_of_empty_records_lets_other_tasks_run(autojump_clock: MockClock) -> None:
    stream, peer = stream_and_peer(keepalive=60_000)
    for _ in range(1000):
        peer.send(KEEPALIVE)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(count_turns)
        peer.send(DATA, b"x")
        assert await stream.receive_some() == b"x"
        nursery.cancel_scope.cancel()
    assert turns > 10


# ---- rekeying ----------------------------------------------------------------


@pytest.mark.spec("SE-24", "SE-25")
async def test_an_idle_hour_and_then_a_write_rekeys_only_a_generation_that_has_a_record(
    autojump_clock: MockClock,
) -> None:
    stream, peer = stream_and_peer()
    await trio.sleep(limits.GENERATION_AGE + 1)
    await stream.send_all(b"first")  # a Rekey here would be the first record of its generation
    await trio.sleep(limits.GENERATION_AGE + 1)
    await stream.send_all(b"second")
    await trio.sleep(limits.GENERATION_AGE + 1)
    await stream.send_eof()
    assert peer.received() == [(DATA, b"first"), (REKEY, b""), (DATA, b"second"), (REKEY, b""), (BYE, b"")]


@pytest.mark.spec("SE-25")
async def test_both_sides_survive_idle_hours(autojump_clock: MockClock) -> None:
    a, b = secure_memory_pair()
    for _ in range(3):
        await trio.sleep(2 * limits.GENERATION_AGE)
        await a.send_all(b"x")
        await b.send_all(b"y")
        assert (await a.receive_some(), await b.receive_some()) == (b"y", b"x")


# ---- callers -----------------------------------------------------------------


async def test_max_bytes_below_one_is_the_callers_error_body() -> None:
    stream, _ = stream_and_peer()
    with pytest.raises(ValueError, match="max_bytes"):
        await stream.receive_some(0)


@pytest.mark.spec("SE-73")
async def test_what_the_session_is_about_can_be_asked() -> None:
    stream, _ = stream_and_peer(keepalive=1500)
    assert (stream.service, stream.initiator, stream.keepalive, len(stream.exporter)) == ("echo", None, 1.5, 32)
    assert math.isfinite(stream.keepalive)


async def test_a_second_close_does_nothing(autojump_clock: MockClock) -> None:
    a, _ = memory_stream_pair()
    stream = secure_stream(a, Side.RESPONDER)
    await stream.aclose()
    await stream.aclose()
    await stream.close_with_error(ErrorCode.INTERNAL)
