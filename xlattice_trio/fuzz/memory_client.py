"""What dials a cluster's members, for the memory driver: `client.ClusterClient` and `client.open_member_stream`.

Only the network is another, and every address is one of this machine: `trio.open_tcp_stream` goes by a script, in which
each connection that is asked for finds what comes next, and is on record.
"""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import attrs
import trio

from xlattice_trio import client
from xlattice_trio.fuzz.memory_wire import MemoryWire
from xlattice_trio.fuzz.standins import StandIns
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.testing.network import MemoryConnection, connection_pair

# After how many seconds there is a connection; at once, if it is none of these.
CONNECTS: Mapping[str, float] = {"hangs": math.inf, "slow": 3.0}


@attrs.define(eq=False)
class Attempt:
    """A connection that was asked for: where to, from where (None: from anywhere), when, and what was to come of it.
    `wire` is the attacker's end, once there is one; `is_over` that the caller has got it, or has given up."""

    host: str
    port: int
    source: str | None
    at: float
    way: str
    wire: MemoryWire | None = None
    is_over: bool = False


@attrs.define(eq=False)
class Call:
    """What was called for a stream; `stream` or `exception` is what came of it."""

    stream: SecureStream | None = None
    exception: Exception | None = None

    @property
    def is_done(self) -> bool:
        """Whether it has returned."""
        return self.stream is not None or self.exception is not None


class MemoryClient:
    """The dialling side, and the script of what it meets. `Memory.client` makes it; to be closed behind the driver.

    Connections beyond the script find nobody.
    """

    def __init__(self, guest: Any) -> None:
        self.script: list[str] = []
        self.attempts: list[Attempt] = []
        self._guest = guest
        self._stand_ins = StandIns()
        self._stand_ins.replace(client, "_is_local", lambda _: True)
        self._stand_ins.replace(trio, "open_tcp_stream", self._open)

    def call(self, script: Sequence[str], function: Callable[[trio.Nursery], Awaitable[SecureStream]]) -> Call:
        """Call for a stream, in which what is read is sent back. The nursery, for keepalives, ends with it."""
        self.script, self.attempts = list(script), []
        call = Call()

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                try:
                    call.stream = await function(nursery)
                    async with call.stream:
                        while data := await call.stream.receive_some():
                            await call.stream.send_all(data)
                except Exception as exc:  # the machine looks at what it is
                    call.exception = exc
                nursery.cancel_scope.cancel()

        self._guest.call(lambda: self._guest.start_soon(run))
        return call

    def close(self) -> None:
        """The network is the machine's again."""
        self._stand_ins.close()

    async def _open(self, host: str, port: int, *, local_address: str | None = None, **_: Any) -> MemoryConnection:
        way = self.script[len(self.attempts)] if len(self.attempts) < len(self.script) else "nobody"
        attempt = Attempt(host, port, local_address, trio.current_time(), way)
        self.attempts.append(attempt)
        try:
            await trio.sleep(CONNECTS.get(way, 0.0))
            if way == "nobody":
                raise ConnectionRefusedError("nobody listens there")
            theirs, ours = connection_pair()
            attempt.wire = MemoryWire(self._guest, ours)
            return theirs
        finally:
            attempt.is_over = True
