"""A whole member, as `node.run_node` runs it, for the memory driver: ports, links, keys and rosters in their files.

`node.run_node` makes a `_Node` and runs it; so does this, and keeps it, for what a signal would do. Only what is
outside of the node is another: the network (`open_tcp_listeners`, `open_tcp_stream`, which addresses are local),
threads, the time of day, the chance of waits, and that a key file is parsed once in a process. Its services
say who came to them.
"""

import functools
import random
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import trio

from xlattice_trio import client, crypto
from xlattice_trio.cluster import rosters
from xlattice_trio.crypto import RSAPrivateKey
from xlattice_trio.fuzz.memory_port import FAIL, LEAVE
from xlattice_trio.fuzz.memory_wire import MemoryWire
from xlattice_trio.fuzz.standins import StandIns
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity import keyring, storage
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.storage import save_held_roster, save_identity, save_next
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.node import NodeConfig, _Node
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.services.registry import Restricted, Service, ServiceContext
from xlattice_trio.testing.network import Address, MemoryConnection, MemoryListener, Network

if TYPE_CHECKING:
    from xlattice_trio.fuzz.memory import _Guest

_BEGIN = 1_750_000_000.0  # the time of day at which every example begins


@functools.lru_cache(64)
def _parsed(pem: bytes, passphrase: bytes | None) -> RSAPrivateKey:
    return _load_private_key_pem(pem, passphrase)


_load_private_key_pem = crypto.load_private_key_pem


class _TimeOfDay:
    """In the place of the module `time`."""

    @staticmethod
    def time() -> float:
        return _BEGIN + trio.current_time()


@attrs.frozen
class _Place:
    """What a node does with the socket of a listener."""

    network: Network
    listener: MemoryListener

    def getsockname(self) -> Address:
        return self.listener.address

    def close(self) -> None:
        self.network._stop_listening(self.listener)


def greeting(tag: str, context: ServiceContext) -> str:
    """What a service says first: which one it is, and what it was told."""
    live = context.liveness()
    return "; ".join(
        (
            tag,
            context.service,
            f"{context.role.name} {context.peer.node_id if context.peer else 'nobody'}",
            f"to {context.node_id} of {context.cluster_id.hex()[:8]}, {context.port.value} port",
            f"{len(live.live)} of {live.members} live, {'' if live.quorate else 'not '}quorate",
        )
    )


async def _echo(tag: str, stream: SecureStream, context: ServiceContext) -> None:
    await stream.send_all(greeting(tag, context).encode())
    while data := await stream.receive_some():
        if data == LEAVE:
            return
        if data == FAIL:
            raise OSError("the service has failed")
        await stream.send_all(data)


async def _polite(tag: str, stream: SecureStream, context: ServiceContext) -> None:
    failures = []

    async def read() -> None:
        try:
            while await stream.receive_some():
                pass
        except trio.BrokenResourceError as exc:
            failures.append(exc)
        nursery.cancel_scope.cancel()

    await stream.send_all(greeting(tag, context).encode())
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read)
        await context.shutting_down.wait()
        nursery.cancel_scope.cancel()
    for failure in failures:
        raise failure


def _services(members: frozenset[str]) -> Mapping[tuple[Port, str], Service]:
    """By port and name. `few` are for those members, two streams at a time."""
    found: dict[tuple[Port, str], Service] = {
        (port, name): partial(_echo, f"{port.value} {name}")
        for port, name in (
            (Port.CLUSTER, "both"),
            (Port.CLIENT, "both"),
            (Port.CLUSTER, "members"),
            (Port.CLIENT, "clients"),
        )
    }
    for port in Port:
        found[port, "polite"] = partial(_polite, f"{port.value} polite")
        found[port, "few"] = Restricted(partial(_echo, f"{port.value} few"), members, 2)
    return found


class MemoryNode:
    """A member. `Memory.node` makes it; to be closed behind the driver.

    `host` is where it is, which is the only address of its machine. `few` are the names of those whom the service `few`
    is for; `config` are values of NodeConfig.
    """

    def __init__(
        self,
        guest: "_Guest",
        identity: LocalIdentity,
        roster: VerifiedRoster,
        *,
        host: Callable[[], str],
        few: frozenset[str],
        config: Mapping[str, Any],
    ) -> None:
        self.network = Network()
        self.is_running = False
        self._guest = guest
        self._host = host
        self._stand_ins = StandIns()
        try:
            self._begin(identity, roster, few, config)
        except BaseException:
            self.close()
            raise

    def _begin(
        self, identity: LocalIdentity, roster: VerifiedRoster, few: frozenset[str], config: Mapping[str, Any]
    ) -> None:
        self._stand_ins.replace(client, "_is_local", lambda address: str(address) == self._host())
        self._stand_ins.replace(storage, "load_private_key_pem", _parsed)
        for module in (keyring, rosters):
            self._stand_ins.replace(module, "time", _TimeOfDay)
        self._stand_ins.replace(random, "SystemRandom", partial(random.Random, 0))
        self._stand_ins.replace(trio, "open_tcp_listeners", self._open_listeners)
        self._stand_ins.replace(trio, "open_tcp_stream", self._open_stream)
        self.directory: Path = self._stand_ins.directory / "node"
        self._config = NodeConfig(self.directory, _services(few), **config)
        save_identity(self.directory, identity)
        save_held_roster(self.directory, roster, roster.epoch)
        self.start()

    # ---- what its operator does ----

    def start(self) -> None:
        """The node begins to run, with what is in its directory."""
        self._stop = trio.Event()
        self.is_running = True
        self._guest.call(partial(self._guest.start_soon, self._run))

    def stop(self) -> None:
        """It is told to stop, as by SIGTERM."""
        self._guest.call(self._stop.set)

    def load(self, roster: VerifiedRoster, highest: int | None = None) -> None:
        """Another roster is stored in its directory, and the node is told, as by SIGHUP."""
        save_held_roster(self.directory, roster, roster.epoch if highest is None else highest)
        self.reload()

    def prepare_ck(self, following: LocalIdentity) -> None:
        """A ck is prepared, and the node is told."""
        save_next(self.directory, following)
        self.reload()

    def reload(self) -> None:
        """As SIGHUP."""
        self._guest.call(lambda: self._guest.start_soon(self._node._rosters.reload))

    # ---- what the attacker does ----

    def connect(self, host: str, port: int, source: str) -> MemoryWire | None:
        """A new connection; None if nobody listens there."""

        async def connect() -> MemoryWire | None:
            try:
                return MemoryWire(self._guest, await self.network.dial(host, port, source=source))
            except ConnectionRefusedError:
                return None

        return self._guest.call_async(connect)

    def occupy(self, host: str, port: int) -> MemoryListener:
        """Listen there in the node's place."""
        return self._guest.call(partial(self.network.listen, host, port))

    def accepted(self, listener: MemoryListener) -> list[tuple[str, MemoryWire]]:
        """The connections that have come to a listener, and from where."""

        async def accept() -> list[tuple[str, MemoryWire]]:
            there = listener._accepted.statistics().current_buffer_used
            connections = [await listener.accept() for _ in range(there)]
            return [(one.socket.peer[0], MemoryWire(self._guest, one)) for one in connections]

        return self._guest.call_async(accept)

    def leave(self, listener: MemoryListener) -> None:
        """Listen there no more."""
        self._guest.call_async(listener.aclose)

    def close(self) -> None:
        """Threads are threads again, and so on."""
        self._stand_ins.close()

    # ---- the node ----

    async def _run(self) -> None:
        self._node = _Node(self._config)
        await self._node.run(self._stop, False, trio.TASK_STATUS_IGNORED)
        self.is_running = False

    async def _open_listeners(self, port: int, *, host: str | None = None, **_: Any) -> list[MemoryListener]:
        await trio.lowlevel.checkpoint()
        listener: Any = self.network.listen(host or "0.0.0.0", port)  # noqa: S104 - of no machine
        listener.socket = _Place(self.network, listener)
        return [listener]

    async def _open_stream(
        self, host: str, port: int, *, local_address: str | None = None, **_: Any
    ) -> MemoryConnection:
        return await self.network.dial(host, port, source=local_address or "0.0.0.0")  # noqa: S104 - of no machine
