"""Whole members under load, through everything that a user has: client, node, `forward`. Loopback only."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.nodes import ask, cluster_card, free_ports, loopback_roster, on_both_ports, running_node
from xlattice_trio.client import ClusterClient
from xlattice_trio.errors import PeerReported
from xlattice_trio.services.echo import echo
from xlattice_trio.services.forward import make


@asynccontextmanager
async def tcp_server(handler: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """An ordinary server that knows nothing of the cluster: where `forward` finds it."""
    async with trio.open_nursery() as nursery:

        async def serve(task_status: trio.TaskStatus[list[trio.SocketListener]]) -> None:
            await trio.serve_tcp(handler, 0, host="127.0.0.1", task_status=task_status)

        listeners = await nursery.start(serve)
        yield f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_two_hundred_clients_at_once_are_all_served(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1)
    client = ClusterClient(cluster_card(roster))
    answers = []

    async def ask_once(number: int) -> None:
        answers.append(await ask(client, nursery, b"%d" % number))

    async with running_node(tmp_path / "node", roster), trio.open_nursery() as asking:
        for number in range(200):
            asking.start_soon(ask_once, number)
    assert sorted(map(int, answers)) == list(range(200))


async def test_a_large_answer_arrives_whole_with_half_close_both_ways(tmp_path: Path, nursery: trio.Nursery) -> None:
    answer = bytes(range(256)) * 4 * 1024 * 16  # 16 MiB

    async def answer_when_asked(stream: trio.SocketStream) -> None:
        question = bytearray()
        async for data in stream:  # until the client's half-close
            question += data
        assert question == b"question" * 1000
        await stream.send_all(answer)

    roster = loopback_roster(free_ports(), members=1)
    async with tcp_server(answer_when_asked) as target:
        services = on_both_ports(big=make(target))
        async with running_node(tmp_path / "node", roster, services=services):
            stream = await ClusterClient(cluster_card(roster)).open_stream("big", nursery=nursery)
            async with stream:
                await stream.send_all(b"question" * 1000)
                await stream.send_eof()
                digest = hashlib.sha256()
                async for data in stream:
                    digest.update(data)
    assert digest.digest() == hashlib.sha256(answer).digest()


async def test_a_server_that_dies_is_not_taken_for_the_end_of_its_answer(tmp_path: Path, nursery: trio.Nursery) -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.send_all(b"half of the ans")
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")

    roster = loopback_roster(free_ports(), members=1)
    async with tcp_server(reset) as target:
        services = on_both_ports(dying=make(target))
        async with running_node(tmp_path / "node", roster, services=services):
            stream = await ClusterClient(cluster_card(roster)).open_stream("dying", nursery=nursery)
            with pytest.raises(trio.BrokenResourceError) as caught:
                async for _ in stream:
                    pass
            assert isinstance(caught.value.__cause__, PeerReported)
            await stream.aclose()


async def test_a_slow_session_does_not_hold_up_the_others(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1)
    client = ClusterClient(cluster_card(roster))
    async with running_node(tmp_path / "node", roster, services=on_both_ports(echo=echo), grace=0):
        slow = await client.open_stream("echo", nursery=nursery)
        async with trio.open_nursery() as sending:
            sending.start_soon(slow.send_all, bytes(64 * 1024 * 1024))  # far more than fits on its way
            for _ in range(10):
                assert await ask(client, nursery) == b"question"
            sending.cancel_scope.cancel()
        await trio.aclose_forcefully(slow)
