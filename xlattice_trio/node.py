"""A member at work: `run_node` and what it is made of.

    run_node
    ├─ cluster port: accepts, one task a connection (gate, limits, handshake, then a link or the service)
    ├─ client port: the same, without the gate and without links
    ├─ links: one task for each dial, which goes on as the link's, and a clock for all of them
    ├─ rosters: stores what comes over links, and puts it in force
    ├─ the gate's task, which resolves the names among the members' hosts
    ├─ the ck grace: destroys the previous ck when its time is over
    └─ signals: SIGHUP reads the roster again; SIGINT and SIGTERM end the node, a second one ends it at once

This is the composition root: it alone opens the big nurseries, and it alone joins what the connections share: the
roster in force and the keys that are accepted (`cluster.rosters`), the links (`cluster.links`), the replay cache, the
sessions. An exception that nobody expected, in a service too, ends the node; what peers do does not.
Spec 3.7 to 3.11, 7.9, 7.10, 8.
"""

import errno
import itertools
import logging
import math
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from xlattice_trio import limits
from xlattice_trio.cluster.links import Links, dial_link
from xlattice_trio.cluster.rosters import Rosters
from xlattice_trio.errors import ErrorCode, IdentityError, UsageError
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import Welcome, admits
from xlattice_trio.identity.host import DNSName, parse_host
from xlattice_trio.identity.keyring import KeyRing
from xlattice_trio.net.gate import SourceGate
from xlattice_trio.net.listen import CLUSTER_PORT_LIMITS, Handshakes, PortLimits, Slots, serve_secure_listeners
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedMember, VerifiedRoster
from xlattice_trio.services.registry import Service, ServiceContext
from xlattice_trio.wire.messages import Purpose

log = logging.getLogger(__name__)

DEFAULT_KEEPALIVE = 60_000  # milliseconds [SE-79]
DEFAULT_GRACE = 5.0  # seconds

# There is no SIGHUP on Windows.
_SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
LISTEN_RETRY = 60  # seconds [RO-70]

_Listeners = list[trio.SocketListener]
_Where = list[tuple[str | None, int]]  # addresses (None: every interface) and port


@attrs.frozen
class NodeConfig:
    """How a node runs.

    `directory` is the node's, with its keys, its card and `cluster.roster`. `services` are by port and name. `listen`
    are the addresses to listen on; none: the node's host in the roster if that is an address, else every interface.
    `keepalive` is in milliseconds, 0 or 1,000 to 3,600,000; all else is in seconds. `grace` is what sessions get to
    end by themselves when the node stops; `ck_grace` is for how long a replaced ck is still accepted. Limits that are
    None are the specification's. [EL-6] [EL-9]
    """

    directory: Path
    services: Mapping[tuple[Port, str], Service]
    passphrase: bytes | None = attrs.field(default=None, repr=False)
    listen: Sequence[str] = ()
    check_source: bool = True
    keepalive: int = DEFAULT_KEEPALIVE
    grace: float = DEFAULT_GRACE
    handshake_deadline: float = limits.HANDSHAKE_DEADLINE
    write_deadline: float = limits.WRITE_DEADLINE
    ck_grace: float = limits.CK_GRACE
    cluster_limits: PortLimits | None = None
    client_limits: PortLimits | None = None


@attrs.frozen
class NodeAddresses:
    """Where a node accepts connections: (address, port) of every socket."""

    cluster: tuple[tuple[str, int], ...]
    client: tuple[tuple[str, int], ...]


async def run_node(
    config: NodeConfig,
    *,
    stop: trio.Event | None = None,
    handle_signals: bool = True,
    task_status: trio.TaskStatus[NodeAddresses] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a member until `stop` is set, or SIGINT or SIGTERM arrives if `handle_signals`.

    It then accepts nothing more, gives its sessions the grace time to end, and ends those that are left with
    Error(shutting_down). Cancelled, it ends at once and its peers see a truncation. `task_status.started` once both
    ports accept. Raises StorageError if a file is not as it should be, IdentityError if the roster does not name
    this node, UsageError if it cannot listen. Signals are for the main thread only.
    """
    node = await trio.to_thread.run_sync(_Node, config)
    await node.run(trio.Event() if stop is None else stop, handle_signals, task_status)


# ---- the node ----------------------------------------------------------------


class _Node:
    """What a node's tasks share. Made by a thread (it reads files); used by Trio's only."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self._keys = KeyRing(config.directory, config.passphrase, config.ck_grace)
        self._rosters = Rosters(config.directory, self._keys)
        self._rosters.on_adoption = self._adopted
        self._links = Links(self._keys.identity.node_id, self._rosters, self._dial_link, self._session)
        self._gate = SourceGate(self._rosters.roster, grace=config.ck_grace)
        self._replay = ReplayCache()
        self._welcomes = {port: self._welcome(port) for port in Port}
        self._slots = {
            Port.CLUSTER: Slots(config.cluster_limits or (CLUSTER_PORT_LIMITS if config.check_source else None)),
            Port.CLIENT: Slots(config.client_limits),
        }
        self._handshakes = {port: Handshakes() for port in Port}
        self._sessions: set[SecureStream] = set()
        self._no_sessions = trio.Event()
        self._stopping = trio.Event()
        self._background: trio.Nursery | None = None
        if not self._rosters.is_member:  # [RO-60]
            raise IdentityError(
                f"node {self._name} ({self._keys.identity.node_id}) is not a member in the roster in "
                f"{config.directory}, epoch {self._rosters.roster.epoch}: "
                "load one that the authority made with `xlattice cluster add`"
            )

    @property
    def _name(self) -> str:
        return self._keys.identity.card.name

    # ---- tasks ----

    async def run(self, stop: trio.Event, handle_signals: bool, task_status: trio.TaskStatus[NodeAddresses]) -> None:
        listeners: dict[Port, _Listeners] = {}
        try:
            for port in Port:
                listeners[port] = await _open(self._where(port))
            await self._run(listeners, stop, handle_signals, task_status)
        finally:
            for listener in itertools.chain.from_iterable(listeners.values()):
                await trio.aclose_forcefully(listener)
        log.info("%s has stopped", self._name)

    async def _run(
        self,
        listeners: Mapping[Port, _Listeners],
        stop: trio.Event,
        handle_signals: bool,
        task_status: trio.TaskStatus[NodeAddresses],
    ) -> None:
        async with trio.open_nursery() as background, trio.open_nursery() as connections:
            self._background = background
            if handle_signals:
                await background.start(self._receive_signals, stop, background)
            background.start_soon(self._gate.run)
            background.start_soon(self._rosters.run)
            background.start_soon(self._rosters.watch_previous_ck)
            await background.start(self._links.run)
            async with trio.open_nursery() as accepting:
                for port in Port:
                    await accepting.start(self._listen, port, listeners[port], connections)
                addresses = NodeAddresses(_names(listeners[Port.CLUSTER]), _names(listeners[Port.CLIENT]))
                log.info(
                    "%s serves cluster %s, epoch %d: cluster port on %s, client port on %s",
                    self._name,
                    self._rosters.roster.name,
                    self._rosters.roster.epoch,
                    _text(addresses.cluster),
                    _text(addresses.client),
                )
                task_status.started(addresses)
                await stop.wait()
                self._stopping.set()
                accepting.cancel_scope.cancel()  # [SV-22]
            await self._links.stop()
            await self._end_sessions()
            connections.cancel_scope.cancel()  # those that are still in their handshake [SV-26]
            background.cancel_scope.cancel()

    # ---- ports ----

    async def _listen(
        self,
        port: Port,
        listeners: _Listeners,
        connections: trio.Nursery,
        task_status: trio.TaskStatus[object] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept on one port for as long as the node runs, wherever the roster in force says that this is."""
        config = self._config
        while True:
            where = self._where(port)
            async with trio.open_nursery() as accepting:
                await accepting.start(
                    partial(
                        serve_secure_listeners,
                        partial(self._serve, port),
                        listeners,
                        self._welcomes[port],
                        gate=self._gate if port is Port.CLUSTER and config.check_source else None,  # [HS-64] [HS-65]
                        slots=self._slots[port],
                        deadline=config.handshake_deadline,
                        write_deadline=config.write_deadline,
                        handshakes=self._handshakes[port],
                        handler_nursery=connections,
                    )
                )
                task_status.started()
                listeners = await self._other_listeners(port, where)
                accepting.cancel_scope.cancel()
            if not listeners:  # [RO-58] [RO-59] [LK-57]
                log.warning("%s is no longer a member: its %s port is closed", self._name, port.value)
                listeners = await self._other_listeners(port, [])
            log.info("%s listens anew: %s port on %s", self._name, port.value, _text(_names(listeners)))
            task_status = trio.TASK_STATUS_IGNORED

    async def _other_listeners(self, port: Port, now: _Where) -> _Listeners:
        """Wait until a port is to be somewhere else than `now`, and listen there; none if it is to be nowhere.

        If that cannot be done, the port stays where it is, and it is tried again.
        """
        retry = math.inf
        while True:
            changed = self._rosters.changed
            with trio.move_on_after(retry):
                await changed.wait()
            retry = math.inf
            where = self._where(port)
            if where == now:
                continue
            try:
                return await _open(where)  # before the old place is left [RO-68]
            except UsageError as exc:
                log.error("the %s port stays where it is: %s", port.value, exc)  # [RO-69]
                retry = LISTEN_RETRY

    def _where(self, port: Port) -> _Where:
        """Where a port is to be, by configuration and roster: nowhere if this node is no member. [HS-81]"""
        roster = self._rosters.roster
        if not self._rosters.is_member:
            return []
        number = roster.cluster_port if port is Port.CLUSTER else roster.client_port
        if self._config.listen:
            return [(address, number) for address in self._config.listen]
        host = parse_host(roster.members[self._keys.identity.node_id].host)
        return [(None if isinstance(host, DNSName) else str(host), number)]

    # ---- beside the ports ----

    async def _receive_signals(
        self, stop: trio.Event, everything: trio.Nursery, task_status: trio.TaskStatus[None]
    ) -> None:
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            task_status.started()
            async for number in signals:
                if number not in (signal.SIGINT, signal.SIGTERM):
                    everything.start_soon(self._rosters.reload)
                elif stop.is_set():
                    log.warning("%s again: ending at once", signal.Signals(number).name)
                    everything.cancel_scope.cancel()
                else:
                    log.info("%s: stopping, within %g s", signal.Signals(number).name, self._config.grace)
                    stop.set()

    # ---- connections ----

    def _welcome(self, port: Port) -> Welcome:
        return Welcome(
            port=port,
            node_id=self._keys.identity.node_id,
            roster=lambda: self._rosters.roster,
            accepted_keys=lambda: self._rosters.accepted,
            replay=self._replay,
            keepalive=self._config.keepalive,
        )

    async def _dial_link(self, roster: VerifiedRoster, peer: VerifiedMember) -> SecureStream:
        config = self._config
        return await dial_link(
            self._keys.identity,
            roster,
            peer,
            deadline=config.handshake_deadline,
            write_deadline=config.write_deadline,
        )

    @contextmanager
    def _session(self, stream: SecureStream) -> Iterator[None]:
        self._sessions.add(stream)
        try:
            yield
        finally:
            self._sessions.remove(stream)
            if not self._sessions:
                self._no_sessions.set()

    async def _serve(self, port: Port, stream: SecureStream) -> None:
        with self._session(stream):
            await self._serve_session(port, stream)

    async def _serve_session(self, port: Port, stream: SecureStream) -> None:
        established = stream.established
        service = self._config.services.get((port, established.service))  # [SV-4] [SV-7]
        if self._stopping.is_set():
            await stream.close_with_error(ErrorCode.SHUTTING_DOWN, "this member is stopping")  # [SV-25]
        elif established.purpose is Purpose.LINK:
            await self._links.accept(stream)
        elif service is None:  # [SV-8]
            text = f"no service {established.service!r} on the {port.value} port"
            await stream.close_with_error(ErrorCode.UNKNOWN_SERVICE, text)
        else:
            await service(
                stream,
                ServiceContext(
                    node_id=self._keys.identity.node_id,
                    cluster_id=established.cluster_id,
                    port=port,
                    role=established.role,
                    peer=established.initiator,
                    service=established.service,
                    shutting_down=self._stopping,
                    liveness=lambda: self._links.liveness,
                ),
            )
            await stream.aclose()

    async def _end_sessions(self) -> None:
        """Let the sessions end by themselves for the grace time, and end the rest. [SV-24] [SV-25]"""
        with trio.move_on_after(self._config.grace):
            while self._sessions:
                self._no_sessions = trio.Event()
                await self._no_sessions.wait()
        async with trio.open_nursery() as nursery:
            for stream in self._sessions:
                nursery.start_soon(stream.close_with_error, ErrorCode.SHUTTING_DOWN, "this member is stopping")

    # ---- a new roster (Spec 7.9) ----

    def _adopted(self) -> None:
        """A roster was put in force: the rest of step 3, and the steps behind it. [LK-52]"""
        assert self._background is not None
        self._gate.adopt(self._rosters.roster)
        for handshakes in self._handshakes.values():
            handshakes.recheck()
        for stream in self._sessions:
            if stream.established.purpose is not Purpose.LINK:
                self._end_unless_admitted(stream, self._background)
        self._links.adopted()

    def _end_unless_admitted(self, stream: SecureStream, nursery: trio.Nursery) -> None:
        """End a stream that the roster in force does not admit, or any if this node is in it no longer. [RO-55]"""
        if not admits(self._rosters.roster, stream.established.role, stream.established.initiator):
            text = "the new roster does not admit this session"
            nursery.start_soon(stream.close_with_error, ErrorCode.NOT_AUTHORIZED, text)
        elif not self._rosters.is_member:  # [RO-58] [LK-56]
            text = "this node is no longer a member"
            nursery.start_soon(stream.close_with_error, ErrorCode.SHUTTING_DOWN, text)


async def _open(where: _Where) -> _Listeners:
    """Listen there. Raises UsageError, and then nothing is open."""
    listeners: _Listeners = []
    try:
        for host, port in where:
            listeners += await trio.open_tcp_listeners(port, host=host)
    except BaseException as exc:
        for listener in listeners:
            listener.socket.close()
        if not isinstance(exc, OSError):
            raise
        hint = "; say with --listen where to listen" if exc.errno == errno.EADDRNOTAVAIL else ""
        raise UsageError(
            f"cannot listen on {host or 'any interface'}, port {port}: {exc.strerror or exc}{hint}"
        ) from exc
    return listeners


def _names(listeners: Sequence[trio.SocketListener]) -> tuple[tuple[str, int], ...]:
    return tuple(listener.socket.getsockname()[:2] for listener in listeners)


def _text(addresses: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)
