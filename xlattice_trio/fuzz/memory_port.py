"""A member's ports from accept on, for the memory driver: `net.listen.serve_secure_listeners` over a network in memory.

`Ports` is what `node` makes of a member's two ports: two listeners each, as of a machine with IPv4 and IPv6, slots that
both share, the gate before the cluster port, and handshakes that are looked through when a roster is adopted. Whoever
is established finds a service that echoes, and that does what LEAVE and FAIL say.
"""

import errno
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from xlattice_trio.fuzz.memory_wire import MemoryWire
from xlattice_trio.fuzz.sansio import Member
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.net.gate import SourceGate
from xlattice_trio.net.listen import Handshakes, PortLimits, Slots, serve_secure_listeners
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.network import Address, MemoryConnection, Network

if TYPE_CHECKING:
    from xlattice_trio.fuzz.memory import _Guest

LEAVE, FAIL = b"leave", b"fail"  # data on which the service returns, or fails in a way that it may
_INTERFACES = ("0.0.0.0", "::")  # noqa: S104 - of no machine
_NUMBERS = {Port.CLUSTER: 1, Port.CLIENT: 2}


class PortWire(MemoryWire):
    """One connection to a port. `streams` are those that the service was called with."""

    def __init__(self, guest: "_Guest", connection: MemoryConnection) -> None:
        super().__init__(guest, connection)
        self.streams: list[SecureStream] = []


@attrs.frozen
class _Gone:
    """A socket whose peer is gone before anybody has asked for it."""

    def getpeername(self) -> Address:
        raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")


class _Names(trio.abc.HostnameResolver):
    """Knows what a machine tells it."""

    def __init__(self, addresses: Mapping[str, Sequence[str]]) -> None:
        self._addresses = addresses

    async def getaddrinfo(self, host: bytes | None, *_args: Any, **_options: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        found = self._addresses.get((host or b"").decode("ascii"), ())
        if not found:
            raise trio.socket.gaierror("nobody knows")
        return [(0, 0, 0, "", (address, 0)) for address in found]

    async def getnameinfo(self, *_args: Any, **_options: Any) -> tuple[str, str]:
        raise NotImplementedError


class Ports:
    """Both ports of a member. `Memory.ports` makes them. What is None is not given: `net` has defaults of its own.

    `names` are the addresses of hosts by name, and may be changed; a name without any cannot be resolved. Sessions that
    a roster does not admit go on: to end them is `node`'s affair.
    """

    def __init__(
        self,
        guest: "_Guest",
        member: Member,
        *,
        limits: PortLimits | None,
        deadline: float | None,
        check_source: bool,
        grace: float | None,
    ) -> None:
        self.names: dict[str, Sequence[str]] = {}
        self._guest = guest
        self._member = member
        self._deadline: dict[str, Any] = {} if deadline is None else {"deadline": deadline}
        patience: dict[str, Any] = {} if grace is None else {"grace": grace}
        self._gate = SourceGate(member.roster, **patience) if check_source else None
        self._slots = {port: None if limits is None else Slots(limits) for port in Port}
        self._handshakes = {port: Handshakes() for port in Port}
        self._accepting: dict[Port, trio.CancelScope] = {}
        self._network = Network()
        self._wires: dict[Address, PortWire] = {}
        guest.call(partial(guest.start_soon, self._run))

    # ---- what a machine does ----

    def connect(self, port: Port, source: str, *, gone: bool = False) -> PortWire:
        """A new connection from an address. `gone`: it has broken when the target comes to look at it, and nobody can
        say whence it was."""
        return self._guest.call_async(partial(self._connect, port, source, gone))

    def connect_all(self, port: Port, sources: Sequence[str]) -> list[PortWire]:
        """New connections, one after the other, in one call: faster."""

        async def connect() -> list[PortWire]:
            return [await self._connect(port, source, gone=False) for source in sources]

        return self._guest.call_async(connect)

    def adopt(self, roster: VerifiedRoster) -> bool:
        """Another roster is offered: whether it is in force now. As `_adopted` in `node` has it."""
        if not self._member.adopt(roster, None):
            return False
        self._guest.call(self._adopted)
        return True

    def listen_anew(self, port: Port) -> None:
        """The port is closed, and opened again, as when it moves to another place. With limits of its own only."""
        self._guest.call(self._accepting[port].cancel)

    def resolve_names(self) -> None:
        """The gate's task begins, and goes on from then."""
        assert self._gate is not None

        def begin() -> None:
            trio.socket.set_custom_hostname_resolver(_Names(self.names))
            assert self._gate is not None
            self._guest.start_soon(self._gate.run)

        self._guest.call(begin)

    # ---- the target's tasks ----

    async def _run(self) -> None:
        async with trio.open_nursery() as connections:
            for port in Port:
                connections.start_soon(self._listen, port, connections)

    async def _listen(self, port: Port, connections: trio.Nursery) -> None:
        gate = self._gate if port is Port.CLUSTER else None
        while True:
            listeners: Any = [self._network.listen(host, _NUMBERS[port]) for host in _INTERFACES]
            with trio.CancelScope() as self._accepting[port]:
                await serve_secure_listeners(
                    self._serve,
                    listeners,
                    self._member.welcome(port, 0, 60_000),
                    gate=gate,
                    slots=self._slots[port],
                    **self._deadline,
                    handshakes=self._handshakes[port],
                    handler_nursery=connections,
                )

    async def _serve(self, stream: SecureStream) -> None:
        assert isinstance(stream.transport, MemoryConnection)
        self._wires[stream.transport.socket.peer].streams.append(stream)
        while data := await stream.receive_some():
            if data == LEAVE:
                return
            if data == FAIL:
                raise OSError(errno.EIO, "the service has failed")
            await stream.send_all(data)

    async def _connect(self, port: Port, source: str, gone: bool) -> PortWire:
        ours = await self._network.dial(_INTERFACES[":" in source], _NUMBERS[port], source=source)
        if gone:  # nothing has run since it came
            _, theirs = self._network._connections[-1]
            theirs.socket = _Gone()  # type: ignore[assignment]
            ours.reset()
        wire = self._wires[ours.socket.own] = PortWire(self._guest, ours)
        return wire

    def _adopted(self) -> None:
        if self._gate is not None:
            self._gate.adopt(self._member.roster)
        for handshakes in self._handshakes.values():
            handshakes.recheck()
