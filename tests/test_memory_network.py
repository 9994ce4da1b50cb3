"""The network in memory: streams as Trio has them, delays, cuts, resets, and writers that wait."""

import math

import pytest
import trio
from trio.testing import MockClock, check_half_closeable_stream, wait_all_tasks_blocked

from tests.pairs import client_scene
from xlattice_trio.net.dial import initiate
from xlattice_trio.net.listen import respond, serve_secure_listeners
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.testing.network import MemoryConnection, Network, Pipe, connection_pair, pass_time


async def _pair() -> tuple[MemoryConnection, MemoryConnection]:
    return connection_pair()


async def _clogged() -> tuple[MemoryConnection, MemoryConnection]:
    a, b = connection_pair(capacity=8)
    a.outgoing.put(bytes(8))
    b.outgoing.put(bytes(8))
    return a, b


async def test_a_connection_is_a_stream_as_trio_has_them() -> None:
    await check_half_closeable_stream(_pair, _clogged)


async def test_bytes_take_their_time(autojump_clock: MockClock) -> None:
    a, b = connection_pair(delay=2.0)
    began = trio.current_time()
    await a.send_all(b"hello")
    assert trio.current_time() == began
    assert await b.receive_some() == b"hello"
    assert trio.current_time() == began + 2
    await a.send_eof()
    assert await b.receive_some() == b""
    assert trio.current_time() == began + 4


async def test_a_writer_waits_for_its_reader() -> None:
    a, b = connection_pair(capacity=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"123456")
        await wait_all_tasks_blocked()
        assert len(b.incoming) == 4
        assert await b.receive_some() == b"1234"
        await wait_all_tasks_blocked()
        assert await b.receive_some(1) == b"5"
        assert await b.receive_some() == b"6"


async def test_a_buffer_that_grows_lets_its_writer_go_on() -> None:
    a, b = connection_pair(capacity=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"123456")
        await wait_all_tasks_blocked()
        b.incoming.capacity = math.inf
        await wait_all_tasks_blocked()
        assert len(b.incoming) == 6
    assert b.incoming.capacity == math.inf


async def test_who_closes_with_bytes_unread_resets_the_connection() -> None:
    a, b = connection_pair()
    await a.send_all(b"never read")
    await b.send_all(b"arrived before")
    await b.aclose()
    assert await a.receive_some() == b"arrived before"
    with pytest.raises(trio.BrokenResourceError):
        await a.receive_some()
    with pytest.raises(trio.BrokenResourceError):
        await a.send_all(b"x")
    with pytest.raises(trio.BrokenResourceError):
        await a.send_eof()


async def test_a_reset_loses_what_is_on_its_way(autojump_clock: MockClock) -> None:
    a, b = connection_pair(delay=1.0)
    await a.send_all(b"unread")
    await trio.sleep(1)
    await b.send_all(b"the last words")
    await b.aclose()
    with pytest.raises(trio.BrokenResourceError):
        await a.receive_some()


async def test_who_closes_with_nothing_unread_ends_it_cleanly() -> None:
    a, b = connection_pair()
    await b.send_all(b"bye")
    await b.aclose()
    assert await a.receive_some() == b"bye"
    assert await a.receive_some() == b""


async def test_what_is_swallowed_does_not_break_its_writer() -> None:
    pipe = Pipe(capacity=4)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pipe.send_all, b"12345678")
        await wait_all_tasks_blocked()
        pipe.unwant(swallow=True)
    await pipe.send_all(b"lost")
    assert len(pipe) == 0
    assert pipe.is_unwanted


async def test_dialling_where_nobody_listens_is_refused() -> None:
    network = Network()
    with pytest.raises(ConnectionRefusedError):
        await network.dial("192.0.2.1", 7712)
    listener = network.listen("192.0.2.1", 7712)
    with pytest.raises(OSError):
        network.listen("192.0.2.1", 7712)
    await listener.aclose()
    with pytest.raises(ConnectionRefusedError):
        await network.dial("192.0.2.1", 7712)


async def test_both_ends_know_both_addresses() -> None:
    network = Network()
    listener = network.listen("192.0.2.1", 7712)
    ours = await network.dial("192.0.2.1", 7712, source="192.0.2.2")
    theirs = await listener.accept()
    assert theirs.socket.getpeername() == ours.socket.getsockname()
    assert ours.socket.getpeername() == theirs.socket.getsockname() == ("192.0.2.1", 7712)
    assert theirs.socket.getpeername()[0] == "192.0.2.2"


async def test_a_connection_takes_the_way_there_and_back(autojump_clock: MockClock) -> None:
    network = Network(delay=1.5)
    network.listen("192.0.2.1", 7712)
    began = trio.current_time()
    await network.dial("192.0.2.1", 7712)
    assert trio.current_time() == began + 3


async def test_a_cut_holds_what_is_written_until_it_is_healed(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen("b", 1)
    ours = await network.dial("b", 1, source="a")
    theirs = await listener.accept()
    network.cut("a", "b")
    await ours.send_all(b"held")
    with trio.move_on_after(1000):
        await theirs.receive_some()
        pytest.fail("it came through")
    with trio.move_on_after(1000):
        await network.dial("b", 1, source="a")
        pytest.fail("a connection")
    elsewhere = await network.dial("b", 1, source="c")
    await elsewhere.send_all(b"x")
    network.heal("b", "a")
    assert await theirs.receive_some() == b"held"
    await network.dial("b", 1, source="a")


async def test_a_reset_breaks_every_connection_between_two_hosts() -> None:
    network = Network()
    listener = network.listen("b", 1)
    ours, other = await network.dial("b", 1, source="a"), await network.dial("b", 1, source="c")
    theirs, another = await listener.accept(), await listener.accept()
    network.reset("a", "b")
    for end in (ours, theirs):
        with pytest.raises(trio.BrokenResourceError):
            await end.receive_some()
    await other.send_all(b"x")
    assert await another.receive_some() == b"x"


async def test_a_delay_is_set_on_the_way(autojump_clock: MockClock) -> None:
    network = Network()
    listener = network.listen("b", 1)
    ours = await network.dial("b", 1, source="a")
    theirs = await listener.accept()
    network.set_delay("a", "b", 5.0)
    await ours.send_all(b"slow")
    began = trio.current_time()
    assert await theirs.receive_some() == b"slow"
    assert trio.current_time() == began + 5


async def test_a_port_serves_on_it(autojump_clock: MockClock) -> None:
    network, scene = Network(delay=0.1), client_scene()

    async def shout(stream: SecureStream) -> None:
        while data := await stream.receive_some():
            await stream.send_all(bytes(data).upper())

    async with trio.open_nursery() as nursery:
        listeners = [network.listen("192.0.2.1", 7712)]
        await nursery.start(serve_secure_listeners, shout, listeners, scene.welcome())
        async with await initiate(await network.dial("192.0.2.1", 7712), scene.intent()) as stream:
            await stream.send_all(b"hello")
            assert await stream.receive_some() == b"HELLO"
        nursery.cancel_scope.cancel()


async def test_the_last_bye_is_not_lost_to_a_reset(autojump_clock: MockClock) -> None:
    a, b = connection_pair(delay=0.5)
    scene = client_scene()
    told: list[bytes] = []

    async def answer() -> None:
        stream = await respond(b, scene.welcome())
        await stream.send_all(b"all of it")
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        stream = await initiate(a, scene.intent())
        await stream.send_all(b"unread")
        while data := await stream.receive_some():
            told.append(bytes(data))
        await stream.aclose()
    assert told == [b"all of it"]


async def test_time_passes_from_one_deadline_to_the_next(mock_clock: MockClock) -> None:
    seen: list[float] = []

    async def wake(seconds: float) -> None:
        await trio.sleep(seconds)
        seen.append(trio.current_time() - began)

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for seconds in (3.0, 0.1, 7.7, 0.0):
            nursery.start_soon(wake, seconds)
        await pass_time(mock_clock, 3.0)
        assert seen == [0.0, 0.1, 3.0]
        await pass_time(mock_clock, 0.0)
        await pass_time(mock_clock, 10.0)
    assert seen == [0.0, 0.1, 3.0, pytest.approx(7.7)]
    assert trio.current_time() == began + 13
