"""The attacker's end of a connection to a target in memory."""

import math
from typing import TYPE_CHECKING

from xlattice_trio.testing.network import MemoryConnection

if TYPE_CHECKING:
    from xlattice_trio.fuzz.memory import _Guest


class MemoryWire:
    """The attacker's end of a connection."""

    def __init__(self, guest: "_Guest", connection: MemoryConnection) -> None:
        self.guest = guest
        self._to_target, self._from_target = connection.outgoing, connection.incoming

    def send(self, data: bytes) -> None:
        """Bytes for the target. They are lost if it has closed, or the attacker has."""
        self.guest.call(lambda: self._to_target.put(data))

    def received(self) -> bytes:
        """All that came from the target since the last call."""
        return self.guest.call(self._from_target.get) if len(self._from_target) else b""

    @property
    def closed(self) -> bool:
        """Whether the target has closed the connection."""
        return self._to_target.is_unwanted

    def close(self) -> None:
        """The attacker closes: the target reads the end of the bytes, and what it writes is lost."""

        self.guest.call(self._close)

    def _close(self) -> None:
        self._to_target.end()
        self._from_target.unwant(swallow=True)
        self._from_target.capacity = math.inf

    def reset(self) -> None:
        """The connection breaks: the target can neither read nor write."""

        def reset() -> None:
            self._to_target.break_()
            self._from_target.break_()

        self.guest.call(reset)

    def stop_taking(self, room: int) -> None:
        """Of what the target writes, so many bytes are taken, then it waits."""
        self._from_target.capacity = len(self._from_target) + room

    def take_again(self) -> None:
        """Whatever the target writes is taken."""

        def take() -> None:
            self._from_target.capacity = math.inf

        self.guest.call(take)

    @property
    def waiting(self) -> int:
        """Bytes that came and are not received yet."""
        return len(self._from_target)
