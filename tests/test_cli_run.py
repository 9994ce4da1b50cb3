"""`xlattice node run`, as a process of its own."""

import signal
from itertools import product
from pathlib import Path

import attrs
import pytest
import trio

from tests.commands import PATIENCE, Cluster, command_line, environment, start_member, with_epoch, xlattice
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.storage import save_identity
from xlattice_trio.net.listen import PortLimits
from xlattice_trio.node import NodeConfig
from xlattice_trio.services.registry import Restricted
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.wire.messages import Role


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_member_says_that_it_is_ready_and_ends_cleanly_on_a_signal(
    number: signal.Signals, cluster: Cluster
) -> None:
    async with cluster.processes() as children:
        member = await start_member(children, cluster, 0, "--service", "echo")
        ports = (cluster.roster.cluster_port, cluster.roster.client_port)
        assert member.lines[-1] == f"ready: cluster port 127.0.0.1:{ports[0]}, client port 127.0.0.1:{ports[1]}"
        for port in ports:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        member.process.send_signal(number)
        with trio.fail_after(PATIENCE):
            assert await member.process.wait() == 0


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--service", "nonsense"], 2, b"no kind 'nonsense'"),
        (["--service", "forward:1"], 2, b"HOST:PORT"),
        (["--service", "echo", "--client-service", "echo"], 2, b"two services named 'echo'"),
        (["--service", "echo", "--allow", "other=member"], 2, b"no service 'other'"),
        (["--service", "echo", "--allow", "echo="], 2, b"nobody is named"),
        (["--service", "echo", "--max-streams", "echo=0"], 2, b"NAME=N expected"),
        (["--keepalive", "0.5"], 2, b"0, or 1 to 3600"),
        (["--keepalive", "3601"], 2, b"3600"),
        (["--grace", "-1"], 2, b"--grace"),
        (["--listen", "192.0.2.1"], 2, b"cannot listen on 192.0.2.1"),
        (["--passphrase-file", "/nonexistent"], 3, b"/nonexistent"),
    ],
    ids=str,
)
async def test_member_does_not_start_with_wrong_options(
    options: list[str], status: int, text: bytes, cluster: Cluster
) -> None:
    ended = await cluster.run(["node", "run", cluster.node(0), *options])
    assert (ended.returncode, ended.stdout) == (status, b"")
    assert text in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_options_of_run_become_the_nodes_configuration(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    configs = []
    monkeypatch.setattr(trio, "run", lambda _main, config: configs.append(config))
    xlattice("node", "run", cluster.node(0))
    words = ["--service", "echo", "--client-service", "c=echo", "--member-service", "m=echo", "--grace", "0.5"]
    words += ["--listen", "127.0.0.1", "--listen", "::1", "--no-source-check", "--keepalive", "1.5"]
    words += ["--allow", "c=client", "--allow", "c=carol", "--max-streams", "c=7", "--max-streams", "m=1"]
    words += ["--source-rate", "100", "--source-burst", "200", "--source-handshakes", "300"]
    xlattice("node", "run", cluster.node(0), *words)
    usual, chosen = configs
    assert attrs.evolve(usual, client_limits=None) == NodeConfig(cluster.node(0), {})
    assert usual.client_limits == PortLimits()
    assert set(chosen.services) == {*product(Port, ["echo"]), (Port.CLIENT, "c"), (Port.CLUSTER, "m")}
    restricted = {key: service for key, service in chosen.services.items() if isinstance(service, Restricted)}
    assert {key: (service.allowed, service.max_streams) for key, service in restricted.items()} == {
        (Port.CLIENT, "c"): ({Role.CLIENT, "carol"}, 7),
        (Port.CLUSTER, "m"): (None, 1),
    }
    assert (chosen.listen, chosen.check_source) == (("127.0.0.1", "::1"), False)
    assert (chosen.keepalive, chosen.grace) == (1500, 0.5)
    assert chosen.client_limits == PortLimits(handshakes_per_source=300, rate=100, burst=200)


async def test_member_needs_a_roster_with_itself(cluster: Cluster) -> None:
    save_identity(cluster.directory / "other", test_identity(7))
    ended = await cluster.run(["node", "run", cluster.directory / "other"])
    assert (ended.returncode, ended.stderr.count(b"Error")) == (3, 1)
    (cluster.node(0) / "cluster.roster").rename(cluster.directory / "other" / "cluster.roster")
    ended = await cluster.run(["node", "run", cluster.directory / "other"])
    assert (ended.returncode, b"is not a member" in ended.stderr) == (3, True)


async def test_member_without_a_service_is_told_so(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        member = await start_member(children, cluster, 0)
        await member.wait_for("offers no service")


async def test_member_with_encrypted_keys_takes_a_passphrase_file(cluster: Cluster) -> None:
    for name in ("sk.pem", "ck.pem", "node.card"):
        (cluster.node(0) / name).unlink()
    save_identity(cluster.node(0), test_identity(0), b"secret")
    ended = await cluster.run(["node", "run", cluster.node(0)])
    assert (ended.returncode, b"--passphrase-file" in ended.stderr) == (3, True)
    (cluster.directory / "secret").write_text("secret")
    (cluster.directory / "secret").chmod(0o600)
    async with cluster.processes() as children:
        await start_member(children, cluster, 0, "--passphrase-file", str(cluster.directory / "secret"))


async def test_services_are_on_the_ports_that_they_are_offered_on(cluster: Cluster) -> None:
    options = ["--client-service", "for-clients=echo", "--member-service", "for-members=echo", "--service", "echo"]
    async with cluster.processes() as children:
        await start_member(children, cluster, 1, *options)
        as_client = ["connect", "--cluster", cluster.card, "--member", "node-1"]
        as_member = ["connect", "--node", cluster.node(0), "--member", "node-1"]
        for words, service, status in [
            (as_client, "echo", 0),
            (as_client, "for-clients", 0),
            (as_client, "for-members", 5),
            (as_member, "echo", 0),
            (as_member, "for-members", 0),
            (as_member, "for-clients", 5),
        ]:
            ended = await cluster.run([*words, service], b"hello")
            assert ended.returncode == status, (service, ended.stderr)
            assert ended.stdout == (b"" if status else b"hello")
            assert (b"unknown_service" in ended.stderr) == (status == 5)


@pytest.mark.spec("HS-41", "SV-9", "SV-10")
async def test_services_are_for_those_whom_the_options_let_in(cluster: Cluster) -> None:
    options = ["--service", "a=echo", "--allow", "a=client-0", "--allow", f"a={test_identity(0).node_id}"]
    options += ["--service", "b=echo", "--max-streams", "b=1"]
    as_client = ["connect", "--cluster", cluster.card, "--member", "node-1"]
    as_member = ["connect", "--node", cluster.node(0), "--member", "node-1"]
    async with cluster.processes() as children:
        await start_member(children, cluster, 1, *options)
        for words, answer in (
            ([*as_client, "--identity", cluster.directory / "client-0", "a"], b""),
            ([*as_member, "a"], b""),
            ([*as_client, "a"], b"not_authorized"),
            ([*as_client, "b"], b""),
        ):
            ended = await cluster.run(words, b"hello")
            assert (ended.returncode, ended.stdout) == ((5, b"") if answer else (0, b"hello")), ended.stderr
            assert answer in ended.stderr
        first = await trio.lowlevel.open_process(
            command_line(*as_client, "b"), stdin=-1, stdout=-1, env=environment(cluster.directory)
        )
        assert first.stdin is not None
        assert first.stdout is not None
        with trio.fail_after(PATIENCE):
            await first.stdin.send_all(b"x")
            assert await first.stdout.receive_some() == b"x"
            ended = await cluster.run([*as_client, "b"], b"hello")
            assert (ended.returncode, b"over_capacity" in ended.stderr) == (5, True)
            await first.stdin.aclose()
            assert await first.wait() == 0


async def test_member_takes_over_a_new_roster_on_sighup(cluster: Cluster) -> None:
    async with cluster.processes() as children:
        member = await start_member(children, cluster, 0, "--service", "echo")
        cluster.adopt(with_epoch(cluster.roster, 2))
        member.process.send_signal(signal.SIGHUP)
        await member.wait_for("epoch 2 is in force")


@pytest.mark.parametrize(
    "words",
    [
        ("node", "run", "x", "--grace", "nan"),
        ("node", "run", "x", "--keepalive", "nan"),
        ("connect", "--deadline", "inf", "echo"),
        ("connect", "--wait", "nan", "echo"),
        ("forward", "--grace", "nan", "echo"),
    ],
)
def test_a_time_has_to_be_a_number(words: tuple[str, ...]) -> None:
    assert "number of seconds" in xlattice(*words, status=2).stderr
