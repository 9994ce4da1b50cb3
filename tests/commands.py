"""The command line in tests: commands in this process, and as processes of their own."""

import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from click.testing import CliRunner, Result

import xlattice_trio
from xlattice_trio.cli import main
from xlattice_trio.cli.children import Child, Children, open_children
from xlattice_trio.cli.loopback import find_hosts, find_ports
from xlattice_trio.identity.storage import save_card, save_cluster_card, save_held_roster, save_identity
from xlattice_trio.roster import VerifiedRoster, make_cluster_card
from xlattice_trio.testing.identities import test_authority, test_client, test_identity, test_roster
from xlattice_trio.wire.messages import ClientAccess

SOURCES = Path(xlattice_trio.__file__).parents[1]
# Nothing waits that long unless something is wrong.
PATIENCE = 30  # seconds

PROGRAM = (sys.executable, "-m", "xlattice_trio")


def xlattice(*words: object, status: int = 0) -> Result:
    """Run a command in this process. Asserts its exit status, and that an error is one line without a traceback."""
    result = CliRunner().invoke(main, [str(word) for word in words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == status, result.output
    if status not in (0, 2):
        assert result.stderr.count("\n") == 1
    return result


def environment(state: Path) -> dict[str, str]:
    """For processes: they find this package, and keep what they keep in `state`."""
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(SOURCES),
        "PYTHONUNBUFFERED": "1",
        "XLATTICE_STATE": str(state),
        "HOME": str(state),
    }


class Cluster:
    """A cluster's files in a directory: node-0, node-1, client-0, client-1, cluster.card; and its processes.

    The roster does not list client-1. Both members have addresses of this machine.
    """

    def __init__(self, directory: Path, *, access: ClientAccess = ClientAccess.ANYONE) -> None:
        self.directory = directory
        self.hosts = find_hosts()[:2]
        cluster_port, client_port = find_ports(self.hosts, 2)
        self.roster = test_roster(2, hosts=self.hosts, ports=(cluster_port, client_port), client_access=access)
        for i in range(2):
            save_identity(directory / f"node-{i}", test_identity(i))
        save_identity(directory / "client-0", test_client(0))
        save_identity(directory / "client-1", test_client(1))
        self.adopt(self.roster)
        self.card = directory / "cluster.card"

    def node(self, i: int) -> Path:
        return self.directory / f"node-{i}"

    def adopt(self, roster: VerifiedRoster) -> None:
        """The files of all nodes and clients."""
        self.roster = roster
        for i in range(len(roster.members)):
            save_held_roster(self.node(i), roster, roster.epoch)
        save_cluster_card(self.directory / "cluster.card", make_cluster_card(test_authority(), roster))

    @asynccontextmanager
    async def processes(self) -> AsyncIterator[Children]:
        async with open_children(self.directory, environment(self.directory)) as children:
            yield children

    async def run(self, words: Sequence[object], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        """A command as a process, from its beginning to its end."""
        return await trio.run_process(
            [*PROGRAM, *map(str, words)],
            stdin=stdin,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment(self.directory),
        )


def command_line(*words: object) -> list[str]:
    return [*PROGRAM, *map(str, words)]


def save_cards(directory: Path, *, members: int = 0, clients: int = 0) -> None:
    """node-0.card and up, client-0.card and up."""
    for i in range(members):
        save_card(directory / f"node-{i}.card", test_identity(i).card.card)
    for i in range(clients):
        save_card(directory / f"client-{i}.card", test_client(i).card.card)


def with_epoch(roster: VerifiedRoster, epoch: int) -> VerifiedRoster:
    """The same test roster, of another epoch."""
    hosts = {member.name: member.host for member in roster.members.values()}
    return test_roster(
        len(hosts),
        epoch=epoch,
        hosts=[hosts[f"node-{i}"] for i in range(len(hosts))],
        ports=(roster.cluster_port, roster.client_port),
        client_access=roster.client_access,
    )


# ---- processes ---------------------------------------------------------------


async def start_member(children: Children, cluster: Cluster, i: int, *options: str) -> Child:
    member = await children.start(f"member-{i}", command_line("node", "run", cluster.node(i), *options))
    await member.wait_for("ready: ", seconds=PATIENCE)
    return member


async def start_forward(children: Children, cluster: Cluster, *options: str | Path) -> tuple[Child, str]:
    """The process, and where it listens."""
    process = await children.start("forwarding", command_line("forward", "--cluster", cluster.card, *options))
    line = await process.wait_for("listening on ", seconds=PATIENCE)
    return process, line.removeprefix("listening on ")


async def connect_to(address: str) -> trio.SocketStream:
    if address.startswith("unix:"):
        return await trio.open_unix_socket(address.removeprefix("unix:"))
    host, _, port = address.rpartition(":")
    return await trio.open_tcp_stream(host.strip("[]"), int(port))


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(data) async for data in stream])


@asynccontextmanager
async def local_server(handler: Any) -> AsyncIterator[int]:
    """A TCP server in this process; its port."""
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, handler, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def answer_after_the_end(stream: trio.SocketStream) -> None:
    """Says what it got, once it has got all."""
    request = await read_all(stream)
    await stream.send_all(b"all of it: " + request)
    await stream.send_eof()
