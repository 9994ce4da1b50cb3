"""`xlattice forward`, as a process of its own, over the loopback interface."""

import os
import signal
import socket
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.commands import (
    PATIENCE,
    Cluster,
    answer_after_the_end,
    command_line,
    connect_to,
    local_server,
    read_all,
    start_forward,
    start_member,
    xlattice,
)
from xlattice_trio.cli.locally import open_local_listeners
from xlattice_trio.cli.loopback import can_bind
from xlattice_trio.errors import UsageError


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("local", ["127.0.0.1:0", "[::1]:0", "unix"])
async def test_forward_carries_each_connection_to_the_service(local: str, cluster: Cluster) -> None:
    address = f"unix:{cluster.directory / 's'}" if local == "unix" else local
    if "::1" in address and not can_bind("::1"):
        pytest.skip("no IPv6 here")
    async with local_server(answer_after_the_end) as port, cluster.processes() as children:
        await start_member(children, cluster, 0, "--client-service", f"late=forward:127.0.0.1:{port}")
        _, listening = await start_forward(children, cluster, "--member", "node-0", "--listen", address, "late")
        assert listening.startswith(address.removesuffix("0"))

        async def ask(i: int) -> None:
            question = b"%d:" % i + os.urandom(100_000)
            async with await connect_to(listening) as stream:
                await stream.send_all(question)
                await stream.send_eof()
                answers[i] = await read_all(stream) == b"all of it: " + question

        answers: dict[int, bool] = {}
        with trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                for i in range(15):
                    nursery.start_soon(ask, i)
    assert answers == dict.fromkeys(range(15), True)


async def test_forward_works_for_a_member_too(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        await start_member(children, cluster, 1, "--member-service", "echo")
        words = command_line("forward", "--node", cluster.node(0), "--member", "node-1", "echo")
        process = await children.start("forwarding", words)
        line = await process.wait_for("listening on ", seconds=PATIENCE)
        async with await connect_to(line.removeprefix("listening on ")) as stream:
            await stream.send_all(b"hello")
            await stream.send_eof()
            assert await read_all(stream) == b"hello"


async def test_forward_resets_a_connection_whose_session_fails(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        member = await start_member(children, cluster, 0, "--service", "echo")
        process, address = await start_forward(children, cluster, "--member", "node-0", "--wait", "0", "echo")
        with trio.fail_after(PATIENCE):
            async with await connect_to(address) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                member.process.kill()
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await process.wait_for("may be incomplete")
            async with await connect_to(address) as stream:  # nobody is there any more
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await process.wait_for("no member of the cluster")
        assert process.process.poll() is None


async def test_forward_to_a_service_that_is_not_there_resets_and_says_so(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", "echo")
        process, address = await start_forward(children, cluster, "--member", "node-0", "other")
        async with await connect_to(address) as stream:
            with pytest.raises(trio.BrokenResourceError):
                await stream.receive_some()
        await process.wait_for("unknown_service")
        assert len([line for line in process.lines if "a connection ended" in line]) == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_forward_lets_connections_end_when_it_is_told_to_stop(number: signal.Signals, cluster: Cluster) -> None:
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", "echo")
        words = ["-v", "--member", "node-0", "--grace", str(PATIENCE), "echo"]
        process, address = await start_forward(children, cluster, *words)
        with trio.fail_after(PATIENCE):
            async with await connect_to(address) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                process.process.send_signal(number)
                await process.wait_for("stopping")
                await stream.send_all(b"and goodbye")
                await stream.send_eof()
                assert await read_all(stream) == b"and goodbye"
            assert await process.process.wait() == 0


@pytest.mark.parametrize("how", ["grace", "second signal"])
async def test_forward_resets_the_connections_that_do_not_end(how: str, cluster: Cluster) -> None:
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", "echo")
        grace = "0" if how == "grace" else str(10 * PATIENCE)
        words = ["-v", "--member", "node-0", "--grace", grace, "echo"]
        process, address = await start_forward(children, cluster, *words)
        with trio.fail_after(PATIENCE):
            async with await connect_to(address) as stream:
                await stream.send_all(b"hello")
                assert await stream.receive_some() == b"hello"
                process.process.terminate()
                await process.wait_for("stopping")
                if how == "second signal":
                    process.process.terminate()
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            assert await process.process.wait() == 0


async def test_forwards_socket_is_for_its_user_and_goes_with_it(cluster: Cluster) -> None:
    path = cluster.directory / "socket"
    async with cluster.processes() as children:
        process, _ = await start_forward(children, cluster, "--listen", f"unix:{path}", "echo")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert await process.stop() == 0
    assert not path.exists()


async def test_forward_replaces_a_socket_that_was_left_over(cluster: Cluster) -> None:
    path = cluster.directory / "socket"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    async with cluster.processes() as children:
        await start_forward(children, cluster, "--listen", f"unix:{path}", "echo")


def make_file(path: Path) -> Sequence[Any]:
    path.write_text("precious")
    return ()


def make_server(path: Path) -> Sequence[Any]:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    return (server,)


@pytest.mark.parametrize("make", [make_file, make_server])
async def test_forward_takes_no_path_from_anybody(make: Any, cluster: Cluster) -> None:
    path = cluster.directory / "taken"
    kept = make(path)
    with pytest.raises(UsageError, match="in use"):
        await open_local_listeners(f"unix:{path}")
    assert path.exists()
    for each in kept:
        each.close()


@pytest.mark.parametrize("address", ["8080", "127.0.0.1", "127.0.0.1:65536", "unix:relative", "192.0.2.1:0", ":0"])
def test_forward_refuses_where_it_cannot_listen(address: str, cluster: Cluster) -> None:
    words = ["--cluster", cluster.card, "--state", cluster.directory / "state", "--listen", address, "echo"]
    said = xlattice("forward", *words, status=2).stderr
    assert f"cannot listen on {address}" in said or f"'{address}'" in said
