"""`xlattice connect`, as a process of its own, over the loopback interface."""

import os
import pty
import signal
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.commands import (
    PATIENCE,
    Cluster,
    answer_after_the_end,
    command_line,
    environment,
    local_server,
    read_all,
    start_member,
    with_epoch,
    xlattice,
)
from xlattice_trio.identity.storage import save_cluster_card
from xlattice_trio.roster import make_cluster_card
from xlattice_trio.testing.identities import test_authority, test_roster
from xlattice_trio.wire.messages import ClientAccess


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


async def test_connect_carries_bytes_both_ways(cluster: Cluster) -> None:
    data = os.urandom(3_000_000)
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", "echo")
        ended = await cluster.run(["connect", "--cluster", cluster.card, "--member", "node-0", "echo"], data)
    assert (ended.returncode, ended.stdout == data, ended.stderr) == (0, True, b"")


async def test_connect_finds_the_member_that_is_up(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        await start_member(children, cluster, 1, "--service", "echo")
        for _ in range(3):
            ended = await cluster.run(["connect", "--cluster", cluster.card, "echo"], b"hello")
            assert (ended.returncode, ended.stdout) == (0, b"hello")


async def test_connect_tells_the_service_the_end_of_its_input(cluster: Cluster) -> None:
    async with local_server(answer_after_the_end) as port, cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", f"late=forward:127.0.0.1:{port}")
        ended = await cluster.run(["connect", "--cluster", cluster.card, "--member", "node-0", "late"], b"question")
    assert (ended.returncode, ended.stdout) == (0, b"all of it: question")


async def test_connect_ends_its_output_while_its_input_goes_on(cluster: Cluster) -> None:
    """What reads the output sees its end at once."""

    async def say_goodbye_and_listen(stream: trio.SocketStream) -> None:
        await stream.send_all(b"goodbye")
        await stream.send_eof()
        heard.append(await read_all(stream))

    heard: list[bytes] = []
    words = command_line("connect", "--cluster", cluster.card, "--member", "node-0", "first")
    async with local_server(say_goodbye_and_listen) as port, cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", f"first=forward:127.0.0.1:{port}")
        process = await trio.lowlevel.open_process(words, stdin=-1, stdout=-1, env=environment(cluster.directory))
        assert process.stdin is not None
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            assert await read_all(process.stdout) == b"goodbye"
            await process.stdin.send_all(b"and still here")
            await process.stdin.aclose()
            assert await process.wait() == 0
    assert heard == [b"and still here"]


async def test_connect_at_a_terminal_ends_with_the_answer(cluster: Cluster) -> None:
    async def say_goodbye(stream: trio.SocketStream) -> None:
        await stream.send_all(b"goodbye")

    async with local_server(say_goodbye) as port, cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", f"short=forward:127.0.0.1:{port}")
        ours, theirs = pty.openpty()
        try:
            with trio.fail_after(PATIENCE):
                ended = await trio.run_process(
                    command_line("connect", "--cluster", cluster.card, "--member", "node-0", "short"),
                    stdin=theirs,
                    capture_stdout=True,
                    capture_stderr=True,
                    check=False,
                    env=environment(cluster.directory),
                )
        finally:
            os.close(ours)
            os.close(theirs)
    assert (ended.returncode, ended.stdout) == (0, b"goodbye"), ended.stderr


async def test_connect_reads_from_a_file_and_writes_to_one(cluster: Cluster) -> None:
    (cluster.directory / "in").write_bytes(os.urandom(500_000))
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", "echo")
        with (cluster.directory / "in").open("rb") as source, (cluster.directory / "out").open("wb") as sink:
            await trio.run_process(
                command_line("connect", "--cluster", cluster.card, "--member", "node-0", "echo"),
                stdin=source.fileno(),
                stdout=sink.fileno(),
                env=environment(cluster.directory),
            )
    assert (cluster.directory / "out").read_bytes() == (cluster.directory / "in").read_bytes()


async def test_listed_client_comes_with_its_identity(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, access=ClientAccess.LISTED)
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", "echo")
        words: list[str | Path] = ["connect", "--cluster", cluster.card, "--member", "node-0", "echo"]
        ended = await cluster.run([*words, "--identity", tmp_path / "client-0"], b"hello")
        assert (ended.returncode, ended.stdout) == (0, b"hello")
        assert (await cluster.run(words)).returncode == 2  # refused here: the card says so
        assert (await cluster.run([*words, "--identity", tmp_path / "client-1"])).returncode == 4


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "--cluster"),
        (["--cluster", "cluster.card", "--node", "node-0", "--member", "node-1"], "--cluster"),
        (["--node", "node-0"], "--member"),
        (["--node", "node-0", "--member", "node-1", "--identity", "client-0"], "--identity"),
        (["--cluster", "cluster.card", "--member", "nobody"], "node-0, node-1"),
        (["--node", "node-0", "--member", "nobody"], "node-0, node-1"),
        (["--node", "node-0", "--member", "node-0"], "dial itself"),
        (["--cluster", "cluster.card", "--identity", "node-0"], "not a client"),
        (["--cluster", "cluster.card", "--deadline", "0"], "--deadline"),
    ],
    ids=str,
)
def test_connect_refuses_what_cannot_be(
    words: list[str], text: str, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(cluster.directory)
    assert text in xlattice("connect", *words, "--state", "state", "echo", status=2).stderr


@pytest.mark.parametrize("service", ["", "x" * 65, "a\nb"])
def test_connect_refuses_a_name_that_no_service_has(service: str, cluster: Cluster) -> None:
    state = cluster.directory / "state"
    xlattice("connect", "--cluster", cluster.card, "--state", state, "--", service, status=2)


@pytest.mark.parametrize("command", ["connect", "forward"])
def test_files_that_are_not_as_they_should_be_are_named(command: str, cluster: Cluster) -> None:
    words = [command, "--state", cluster.directory / "state", "echo"]
    for more in (
        ["--cluster", cluster.node(0) / "node.card"],
        ["--cluster", cluster.directory / "missing"],
        ["--cluster", cluster.card, "--identity", cluster.directory / "missing"],
        ["--node", cluster.directory / "missing", "--member", "node-1"],
    ):
        assert str(cluster.directory) in xlattice(*words, *more, status=3).stderr


async def test_no_member_reached_is_status_4_and_names_each(cluster: Cluster) -> None:
    for words in (
        ["--cluster", cluster.card],
        ["--node", cluster.node(0), "--member", "node-1"],
    ):
        ended = await cluster.run(["connect", *words, "echo"])
        assert (ended.returncode, ended.stderr.count(b"\n")) == (4, 1)
        assert f"node-1 at {cluster.hosts[1]}".encode() in ended.stderr


@pytest.mark.parametrize("as_member", [False, True], ids=["client", "member"])
async def test_wait_goes_on_until_a_member_is_up(as_member: bool, cluster: Cluster) -> None:
    if as_member:
        words: list[str | Path] = ["--node", cluster.node(0), "--member", "node-1"]
    else:
        words = ["--cluster", cluster.card]
    async with cluster.processes() as children:
        waiting = await children.start("waiting", command_line("connect", "-v", "--wait", "60", *words, "echo"))
        await waiting.wait_for("; next try", seconds=PATIENCE)
        await start_member(children, cluster, 1, "--service", "echo")
        with trio.fail_after(PATIENCE):
            assert await waiting.process.wait() == 0


async def test_a_member_that_dies_is_a_truncation_and_status_5(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        member = await start_member(children, cluster, 0, "--service", "echo")
        process = await trio.lowlevel.open_process(
            command_line("connect", "--cluster", cluster.card, "--member", "node-0", "echo"),
            stdin=-1,
            stdout=-1,
            stderr=-1,
            env=environment(cluster.directory),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(PATIENCE):
            await process.stdin.send_all(b"hello")
            assert await process.stdout.receive_some() == b"hello"
            member.process.kill()
            assert await process.wait() == 5
            assert b"may be incomplete" in await read_all(process.stderr)


async def test_output_that_nobody_reads_any_more_ends_connect(cluster: Cluster) -> None:
    async def talk_for_ever(stream: trio.SocketStream) -> None:
        try:
            while True:
                await stream.send_all(bytes(65_536))
        except trio.BrokenResourceError:
            pass

    async with local_server(talk_for_ever) as port, cluster.processes() as children:
        await start_member(children, cluster, 0, "--service", f"talk=forward:127.0.0.1:{port}")
        process = await trio.lowlevel.open_process(
            command_line("connect", "--cluster", cluster.card, "--member", "node-0", "talk"),
            stdin=-1,
            stdout=-1,
            env=environment(cluster.directory),
        )
        assert process.stdout is not None
        with trio.fail_after(PATIENCE):
            assert await process.stdout.receive_some()
            await process.stdout.aclose()
            assert await process.wait() == 5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_connect_that_is_told_to_stop_ends_its_session_with_an_error(
    number: signal.Signals, cluster: Cluster
) -> None:
    async def upload(stream: trio.SocketStream) -> None:
        try:
            await stream.receive_some()
            await stream.send_all(b"go on")
            ends.append(await stream.receive_some())
        except trio.BrokenResourceError:
            ends.append("broken")

    ends: list[object] = []
    async with local_server(upload) as port, cluster.processes() as children:
        member = await start_member(children, cluster, 0, "--service", f"upload=forward:127.0.0.1:{port}", "-v")
        process = await trio.lowlevel.open_process(
            command_line("connect", "--cluster", cluster.card, "--member", "node-0", "upload"),
            stdin=-1,
            stdout=-1,
            stderr=-1,
            env=environment(cluster.directory),
        )
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with trio.fail_after(PATIENCE):
            await process.stdin.send_all(b"half an upload")
            assert await process.stdout.receive_some() == b"go on"
            process.send_signal(number)
            assert await process.wait() == 130
            assert await read_all(process.stderr) == b"interrupted\n"
            await member.wait_for("shutting_down")
    assert ends == ["broken"]  # half an upload is not taken for a whole one


async def test_interrupted_connect_is_status_130(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        waiting = await children.start(
            "waiting", command_line("connect", "-v", "--wait", "60", "--cluster", cluster.card, "echo")
        )
        await waiting.wait_for("next try", seconds=PATIENCE)
        waiting.process.send_signal(signal.SIGINT)
        with trio.fail_after(PATIENCE):
            assert await waiting.process.wait() == 130
        await waiting.wait_for("interrupted")
        assert not [line for line in waiting.lines if "Traceback" in line]


# ---- the cluster cards that were used ----------------------------------------


@pytest.mark.spec("SV-27")
@pytest.mark.parametrize("command", ["connect", "forward"])
def test_client_does_not_use_a_card_that_does_not_verify(command: str, cluster: Cluster, monkeypatch: Any) -> None:
    def dial(*_args: object, **_options: object) -> None:
        raise AssertionError("it was used")

    monkeypatch.setattr("xlattice_trio.client.open_secure_stream", dial)
    good = make_cluster_card(test_authority(), cluster.roster)
    for wrong in (
        attrs.evolve(good, client_port=good.client_port ^ 1),
        attrs.evolve(good, members=good.members[:1]),
        attrs.evolve(good, signature=good.signature[::-1]),
        attrs.evolve(good, signature=bytes(len(good.signature))),
    ):
        save_cluster_card(cluster.card, wrong)
        state = cluster.directory / "state"
        xlattice(command, "--cluster", cluster.card, "--state", state, "echo", status=3)
        assert not state.exists() or list(state.iterdir()) == []


def tried(cluster: Cluster, *options: str, status: int) -> str:
    """What a client says that finds no member, or does not even look for one."""
    state = cluster.directory / "state"
    return xlattice("connect", "--cluster", cluster.card, "--state", state, *options, "echo", status=status).stderr


@pytest.mark.spec("RO-28", "RO-29")
def test_client_refuses_a_card_older_than_one_that_it_used(cluster: Cluster) -> None:
    first = cluster.roster
    tried(cluster, status=4)
    cluster.adopt(with_epoch(first, 3))
    tried(cluster, status=4)
    cluster.adopt(with_epoch(first, 2))
    assert "epoch 3 was used before" in tried(cluster, status=3)
    tried(cluster, "--override", status=4)
    tried(cluster, status=4)  # an override holds ...
    cluster.adopt(with_epoch(first, 3))
    tried(cluster, status=3)  # ... and what was highest is not forgotten
    cluster.adopt(with_epoch(first, 4))
    tried(cluster, status=4)


@pytest.mark.spec("RO-30")
def test_client_refuses_another_card_of_the_same_epoch(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    tried(cluster, status=4)
    other = test_roster(2, ports=(cluster.roster.cluster_port, cluster.roster.client_port + 1))
    save_cluster_card(cluster.card, make_cluster_card(test_authority(), other))
    assert "two different" in tried(cluster, "--override", status=3)


def test_state_that_cannot_be_kept_is_an_error(cluster: Cluster) -> None:
    (cluster.directory / "file").touch()
    state = cluster.directory / "file" / "state"
    said = xlattice("connect", "--cluster", cluster.card, "--state", state, "echo", status=3).stderr
    assert "--state" in said
