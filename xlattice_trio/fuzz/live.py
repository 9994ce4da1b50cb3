"""The driver for a node that runs somewhere: bytes over TCP, and the time on the wall.

Nothing is known of the target but what it sends and whether it has closed. Silence is decided by waiting: what has not
come within `patience` seconds does not come. That is measured when the driver is made, by a handshake as it should be,
so that a slow target is not taken for a silent one.
"""

# ruff: noqa: ARG002 - a driver takes what `target` says, whether it has use for it or not

import contextlib
import ipaddress
import select
import socket
import struct
import time

from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz.cast import Cast
from xlattice_trio.fuzz.target import Can
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import HANDSHAKE_DEADLINE, SOURCE_BURST, SOURCE_RATE
from xlattice_trio.roster import VerifiedClusterCard, VerifiedRoster
from xlattice_trio.testing.forge import ForgedHello
from xlattice_trio.testing.toolbox import Attacker, RawPeer
from xlattice_trio.wire.framing import HEADER_SIZE, REPLY_LENGTH
from xlattice_trio.wire.messages import Purpose, RecordType, Role

_PATIENCE_MIN = 0.25  # seconds
_PATIENCE_MAX = 10.0  # seconds; also for connecting, and for a write
_SLOWER = 10  # how much slower than a good handshake an answer may be
_QUIET = 0.02  # seconds without a byte, after which an answer is complete
_RECEIVE_SIZE = 1 << 18
_REPLY_SIZE = HEADER_SIZE + REPLY_LENGTH


class Unreachable(UsageError):
    """The target does not answer as a node does: there is nothing to be tried."""


def cast_of_card(card: VerifiedClusterCard, member: str | None = None, identity: LocalIdentity | None = None) -> Cast:
    """What is known of a member from a cluster card: the one of that name, or the only one.

    `identity` is that of a client which the roster lists. Raises UsageError if there is no such member.
    """
    found = [one for one in card.members.values() if member in (None, one.name)]
    if len(found) != 1:
        names = ", ".join(one.name for one in card.members.values())
        raise UsageError(f"which member of {card.name!r} is the target? Its members are {names}")
    return Cast(
        card=found[0].card, cluster_id=card.cluster_id, knock=None, clients=[] if identity is None else [identity]
    )


# ---- one connection ----------------------------------------------------------


class _Wire:
    """The attacker's end."""

    state = None
    established = None
    refusal = None
    application = None

    def __init__(self, connection: socket.socket, patience: float) -> None:
        self._socket = connection
        self._patience = patience
        self._received = bytearray()
        self._closed = False  # by the target
        self._gone = False  # we are
        self._settled = True  # nothing was done since the target was found to be silent
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, data: bytes) -> None:
        """Raises Unreachable if the target takes nothing for too long."""
        left = memoryview(data)
        while left and not (self._closed or self._gone):
            readable, writable, _ = select.select([self._socket], [self._socket], [], _PATIENCE_MAX)
            if not (readable or writable):
                raise Unreachable(f"the target took no byte for {_PATIENCE_MAX:g} s")
            if readable:
                self._receive()
            if writable and not self._closed:
                try:
                    left = left[self._socket.send(left) :]
                except (BrokenPipeError, ConnectionResetError):
                    self._drain()
                    self._closed = True
        self._settled = False

    def received(self) -> bytes:
        self._settle()
        data = bytes(self._received)
        self._received.clear()
        return b"" if self._gone else data

    @property
    def closed(self) -> bool:
        self._settle()
        return self._closed

    def close(self) -> None:
        """Only our direction ends: how the target ends the other one can be seen."""
        if not (self._gone or self._closed):
            self._settle()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_WR)
            self._settled = False
        self._gone = True

    def reset(self) -> None:
        if not self._closed:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.release()
        self._gone = self._closed = True

    def release(self) -> None:
        """Give the socket back."""
        self._socket.close()
        self._gone = self._settled = True

    def time_passed(self) -> None:
        """Something may have happened meanwhile."""
        self._settled = self._settled and self._closed

    def place_seal(self, seq: int) -> None:
        raise UsageError("a live target cannot be placed at a sequence number")

    def place_open(self, seq: int) -> None:
        raise UsageError("a live target cannot be placed at a sequence number")

    def stop_taking(self, room: int = 1024) -> None:
        raise UsageError("how much a live target's connection holds is not known")

    def fail_writes(self) -> None:
        raise UsageError("a live target's connection ends in both directions")

    def take_again(self) -> None:
        """Nothing was held back."""

    def _settle(self) -> None:
        """Read until the target is silent."""
        if self._settled:
            return
        wait = self._patience
        while not self._closed and select.select([self._socket], [], [], wait)[0]:
            self._receive()
            wait = min(wait, max(_QUIET, self._patience / _SLOWER))
        self._settled = True

    def wait_for(self, size: int) -> bytes:
        """What has come once it is `size` bytes, or the target has closed, or was waited for long enough."""
        until = time.monotonic() + self._patience
        while len(self._received) < size and not self._closed:
            left = until - time.monotonic()
            if left <= 0 or not select.select([self._socket], [], [], left)[0]:
                break
            self._receive()
        data = bytes(self._received)
        self._received.clear()
        return data

    def _receive(self) -> None:
        try:
            data = self._socket.recv(_RECEIVE_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        self._received += data
        self._closed = self._closed or not data

    def _drain(self) -> None:
        while not self._closed and select.select([self._socket], [], [], 0)[0]:
            self._receive()


# ---- targets -----------------------------------------------------------------


class _Responder:
    """The target's port."""

    roster: VerifiedRoster | None = None

    def __init__(self, world: "Live", port: Port) -> None:
        self.port = port
        self._world = world

    @property
    def cast(self) -> Cast:
        return self._world.cast

    def connect(self) -> _Wire:
        return self._world.connect(self.port)

    def adopt(self, roster: VerifiedRoster, accepted: object = None) -> bool:
        raise UsageError("the roster of a live target is not ours to replace")

    def remembered(self) -> None:
        return None


class Live:
    """The driver. `addresses` are host and port of the target's ports, those that may be attacked.

    `cast` is what is known of it; `service` is one that echoes, and that everybody may use. Raises Unreachable if the
    target does not answer a Hello as it should be within 10 seconds, OSError if it cannot be connected to.
    """

    name = "live"

    def __init__(self, addresses: dict[Port, tuple[str, int]], cast: Cast, *, service: str = "echo") -> None:
        self.cast = cast
        self.can = frozenset({Can.CLUSTER_PORT} if Port.CLUSTER in addresses and cast.knock else ())
        self._addresses = addresses
        self._service = service.encode()
        self._wires: list[_Wire] = []
        self._hellos = 0
        self._began = time.monotonic()
        self._connected_at: list[float] = []
        self._patience = _PATIENCE_MAX
        self._patience = self._measure()

    def responder(
        self,
        port: Port,
        *,
        cast: Cast | None = None,
        keepalive: int = 0,
        link_keepalive: int = 15_000,
        deadline: float = HANDSHAKE_DEADLINE,
    ) -> _Responder:
        if port not in self._addresses:
            raise UsageError(f"the address of the {port.value} port is not known")
        return _Responder(self, port)

    def initiator(self, *, deadline: float = HANDSHAKE_DEADLINE) -> "_Never":
        raise UsageError("a live target does not dial when it is told to")

    def session(
        self, *, side: Side = Side.RESPONDER, purpose: Purpose = Purpose.STREAM, keepalive: int = 0
    ) -> tuple[_Wire, RawPeer]:
        if side is not Side.RESPONDER or purpose is not Purpose.STREAM:
            raise UsageError("a live target is the responder of a stream")
        return self._session(Port.CLIENT if Port.CLIENT in self._addresses else Port.CLUSTER)

    def pass_time(self, seconds: float) -> None:
        time.sleep(seconds)
        for wire in self._wires:
            wire.time_passed()

    @property
    def now(self) -> float:
        return time.monotonic() - self._began

    def close(self) -> None:
        for wire in self._wires:
            wire.release()

    # ---- for its parts ----

    def connect(self, port: Port) -> _Wire:
        """A connection, not sooner than the limits per source allow. Raises OSError."""
        host, number = self._addresses[port]
        self._wait_for_a_token(host)
        wire = _Wire(socket.create_connection((host, number), timeout=_PATIENCE_MAX), self._patience)
        self._wires.append(wire)
        return wire

    def _wait_for_a_token(self, host: str) -> None:
        """The limits of Spec 5.13, so that the target does not close what it should look at."""
        with contextlib.suppress(ValueError):
            if ipaddress.ip_address(host).is_loopback:
                return
        recent = self._connected_at[-(SOURCE_BURST - 1) :]
        if len(recent) == SOURCE_BURST - 1:
            time.sleep(max(0.0, recent[0] + (SOURCE_BURST - 1) / SOURCE_RATE - time.monotonic()))
        self._connected_at = [*recent, time.monotonic()]

    def _measure(self) -> float:
        """How long to wait for a target that says nothing."""
        port = Port.CLIENT if Port.CLIENT in self._addresses else Port.CLUSTER
        began = time.monotonic()
        wire, attacker, hello = self._say_hello(port)
        reply = wire.wait_for(_REPLY_SIZE)
        took = time.monotonic() - began
        wire.release()
        if attacker.open_reply(hello.frame, reply) is None:
            raise Unreachable(f"the target does not answer a Hello on its {port.value} port: {len(reply)} bytes came")
        return min(max(_SLOWER * took, _PATIENCE_MIN), _PATIENCE_MAX)

    def _session(self, port: Port) -> tuple[_Wire, RawPeer]:
        wire, attacker, hello = self._say_hello(port)
        peer = attacker.peer(Side.INITIATOR, hello.frame, wire.wait_for(_REPLY_SIZE))
        if peer is None:
            raise Unreachable("the target does not answer a Hello any more")
        wire.send(peer.record(RecordType.CONFIRM))
        return wire, peer

    def _say_hello(self, port: Port) -> tuple[_Wire, Attacker, ForgedHello]:
        """A Hello as it should be, another one each time."""
        self._hellos += 1
        attacker = Attacker(f"live {time.time_ns()} {self._hellos}")
        listed = self.cast.members if port is Port.CLUSTER else self.cast.clients
        as_ = listed[0] if listed else None
        stranger = Role.ANONYMOUS if as_ is None else Role.CLIENT
        role = Role.MEMBER if port is Port.CLUSTER else stranger
        hello = attacker.hello(
            self.cast.destination(port), role=role, purpose=Purpose.STREAM, service=self._service, as_=as_
        )
        wire = self.connect(port)
        wire.send(hello.frame)
        return wire, attacker, hello


class _Never:
    """There is none."""

    def dial(self, intent: object) -> _Wire:
        raise UsageError("a live target does not dial when it is told to")
