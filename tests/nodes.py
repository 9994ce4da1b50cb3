"""Whole members on the loopback interface, in this process."""

import logging
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from xlattice_trio.client import ClusterClient
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.storage import save_held_roster, save_identity
from xlattice_trio.node import NodeAddresses, NodeConfig, run_node
from xlattice_trio.roster import (
    VerifiedClusterCard,
    VerifiedRoster,
    make_cluster_card,
    make_roster,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.services.echo import echo
from xlattice_trio.services.registry import Service
from xlattice_trio.testing.identities import test_authority, test_identity, test_roster
from xlattice_trio.wire.messages import Member, NodeCard

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def free_ports(count: int = 2) -> tuple[int, ...]:
    """Ports that nobody listens on, on any loopback address."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("0.0.0.0", 0))
        return tuple(each.getsockname()[1] for each in sockets)
    finally:
        for each in sockets:
            each.close()


def loopback_roster(ports: tuple[int, ...], **changes: Any) -> VerifiedRoster:
    """The test roster with its members on loopback addresses."""
    return test_roster(**{"hosts": HOSTS[: changes.get("members", 3)], "ports": ports} | changes)


def cluster_card(roster: VerifiedRoster) -> VerifiedClusterCard:
    return verify_cluster_card(make_cluster_card(test_authority(), roster))


def with_card(roster: VerifiedRoster, card: NodeCard, *, epoch: int) -> VerifiedRoster:
    """The roster with another card for the node of that name."""
    members = [
        Member(card if member.card.name == card.name else member.card, member.host) for member in roster.roster.members
    ]
    return verify_roster(
        make_roster(
            test_authority(),
            name=roster.name,
            epoch=epoch,
            cluster_port=roster.cluster_port,
            client_port=roster.client_port,
            knock=roster.knock,
            client_access=roster.client_access,
            members=members,
            clients=roster.roster.clients,
        )
    )


def without(roster: VerifiedRoster, *gone: LocalIdentity, epoch: int, **changes: Any) -> VerifiedRoster:
    """The roster of that epoch without these members."""
    ids = {identity.card.card.name for identity in gone}
    fields: dict[str, Any] = {
        "name": roster.name,
        "epoch": epoch,
        "cluster_port": roster.cluster_port,
        "client_port": roster.client_port,
        "knock": roster.knock,
        "client_access": roster.client_access,
        "members": [member for member in roster.roster.members if member.card.name not in ids],
        "clients": roster.roster.clients,
    }
    return verify_roster(make_roster(test_authority(), **fields | changes))


def on_both_ports(**services: Service) -> dict[tuple[Port, str], Service]:
    return {(port, name): service for port in Port for name, service in services.items()}


def make_directory(path: Path, identity: LocalIdentity, roster: VerifiedRoster) -> Path:
    """A node's directory."""
    save_identity(path, identity)
    save_held_roster(path, roster, roster.epoch)
    return path


@attrs.define
class RunningNode:
    """A member that runs: in a test of its own process, so that it stops when `stop` is set."""

    identity: LocalIdentity
    directory: Path
    stop: trio.Event
    stopped: trio.Event
    addresses: NodeAddresses


@asynccontextmanager
async def running_node(
    directory: Path,
    roster: VerifiedRoster,
    *,
    number: int = 0,
    services: dict[tuple[Port, str], Service] | None = None,
    handle_signals: bool = False,
    **options: Any,
) -> AsyncIterator[RunningNode]:
    """Member `number` of the test roster; it has stopped when the block is left."""
    identity = test_identity(number)
    if not directory.exists():
        make_directory(directory, identity, roster)
    config = NodeConfig(directory, services if services is not None else on_both_ports(echo=echo), **options)
    stop, stopped = trio.Event(), trio.Event()

    async def run(task_status: trio.TaskStatus[NodeAddresses]) -> None:
        await run_node(config, stop=stop, handle_signals=handle_signals, task_status=task_status)
        stopped.set()

    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(run)
        yield RunningNode(identity, directory, stop, stopped, addresses)
        stop.set()


async def ask(client: ClusterClient, nursery: trio.Nursery, question: bytes = b"question", **options: Any) -> bytes:
    """Ask the echo service of any member."""
    async with await client.open_stream("echo", nursery=nursery, **options) as stream:
        await stream.send_all(question)
        await stream.send_eof()
        answer = bytearray()
        while data := await stream.receive_some():
            answer += data
        return bytes(answer)


class LogWatch(logging.Handler):
    """What the package logs, and a way to wait for it: a test of a running node needs no sleep."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: list[str] = []
        self._arrived = trio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(record.getMessage())
        self._arrived.set()

    async def until(self, text: str) -> None:
        """Wait for a line that holds `text`, behind the one that the last call found; not for ever."""
        with trio.fail_after(100):
            while True:
                for number, line in enumerate(self._lines):
                    if text in line:
                        del self._lines[: number + 1]
                        return
                self._arrived = trio.Event()
                await self._arrived.wait()


@contextmanager
def watched_log() -> Iterator[LogWatch]:
    """The log of the node's own modules."""
    loggers = [logging.getLogger(f"xlattice_trio.{name}") for name in ("node", "cluster")]
    watch = LogWatch()
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(watch)
        logger.setLevel(logging.INFO)
    try:
        yield watch
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(watch)
            logger.setLevel(level)
