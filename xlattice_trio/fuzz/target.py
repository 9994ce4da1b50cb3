"""What a machine drives, and never sees behind: one rule set for three drivers.

A `Driver` is a world with one clock. It gives targets: a responder that a machine connects to, an initiator that dials
the machine, or one side of a session that is established already. Each connection is a `Wire`, of which the machine
holds the attacker's end; behind a wire there is an `Application`, which the machine commands, or an echo.

    sansio   the cores without I/O, driven as `net` drives them; the fastest, and the one that shrinks best
    memory   `net.listen`, `net.dial` and `net.stream` over streams in memory, time under MockClock
    live     a node over TCP, which shows its bytes and nothing else

Every call returns when the target has done all that it does without more bytes or more time. What a driver cannot do
or does not know is missing from its `can`; a property that needs it is None there. Any exception that the target lets
out which is none of its documented ones is a finding: it leaves the call as it is, or as the cause of TargetCrashed.
"""

import enum
from collections.abc import Sequence
from typing import Protocol

import attrs

from xlattice_trio.crypto import RSAPrivateKey
from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerReported, RefusalReason, XLatticeError
from xlattice_trio.fuzz.cast import Cast
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Established, Port, Side
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.toolbox import RawPeer
from xlattice_trio.wire.messages import Purpose


class Can(enum.StrEnum):
    """What a driver can do, or knows, beyond bytes and the end of a connection."""

    STATE = "states, what was established and why a handshake was refused are known"
    APPLICATION = "the application behind a wire is the machine's to command; elsewhere it echoes"
    CLOCK = "time passes when the machine says so, at no cost; elsewhere it is the time on the wall"
    ROSTER = "the roster in force can be replaced, and the target's memory looked at"
    INITIATOR = "the target dials"
    CLUSTER_PORT = "the cluster port is reached, with the knock"
    PLACE = "a session can be placed at a sequence number"
    BACK_PRESSURE = "writes wait for the one who reads, and can fail or be cut off while reads go on"


class TargetCrashed(Exception):
    """The target let an exception out that is none of the documented ones: the cause."""


# ---- what an application is told ---------------------------------------------


@attrs.frozen
class GotData:
    """Bytes of the peer's stream. How they were cut into records is not to be told from it."""

    data: bytes


@attrs.frozen
class GotEnd:
    """The peer's stream is complete."""


@attrs.frozen
class GotFailure:
    """The session is over, or never came to be. `error` is the class of errors.py; `code` and `text`, which is not
    compared, are those of PeerReported."""

    error: str
    code: ErrorCode | None = None
    reason: RefusalReason | None = None
    text: str = attrs.field(default="", eq=False)

    @classmethod
    def of(cls, exc: XLatticeError) -> "GotFailure":
        """What an exception tells."""
        return cls(
            type(exc).__name__,
            exc.code if isinstance(exc, PeerReported) else None,
            exc.reason if isinstance(exc, HandshakeRefused) else None,
            exc.text if isinstance(exc, PeerReported) else "",
        )


Told = GotData | GotEnd | GotFailure


class Outcome(enum.StrEnum):
    """What became of a command to the application."""

    DONE = "done"
    REFUSED = "refused: the session, or this direction of it, is over"
    WAITING = "not written yet: nobody reads"


class Application(Protocol):
    """The application at the target's end of a wire, commanded by the machine. It reads unless told not to."""

    def told(self) -> list[Told]:
        """What it was told since the last call. Pieces of data that touch are one."""

    def send_data(self, data: bytes) -> Outcome:
        """Send one or more bytes."""

    def send_bye(self) -> Outcome:
        """End its direction."""

    def send_error(self, code: ErrorCode, text: str = "") -> Outcome:
        """End the session with Error."""

    def close(self) -> Outcome:
        """Say Bye, if it has not, and close when the peer has answered or time is up. Data that comes is thrown away.

        It is told nothing more.
        """

    def cancel(self) -> None:
        """Cancel what is being written, if anything is. Can.BACK_PRESSURE"""

    @property
    def refused_for(self) -> GotFailure | None:
        """What the last command that was refused has failed of, if the target says so. Can.BACK_PRESSURE"""

    def stop_reading(self, last: int = 0) -> None:
        """Take so many bytes, and then nothing from the session until `read_again`. `last` other than 0:
        Can.BACK_PRESSURE"""

    def read_again(self) -> None:
        """Take what has come meanwhile, and go on reading."""


# ---- connections -------------------------------------------------------------


class Wire(Protocol):
    """One connection, the attacker's end of it."""

    def send(self, data: bytes) -> None:
        """Bytes for the target. They are lost if it has closed, or the attacker has."""

    def received(self) -> bytes:
        """All that came from the target since the last call."""

    @property
    def closed(self) -> bool:
        """Whether the target has closed the connection. What it sent before is in `received`."""

    def close(self) -> None:
        """The attacker closes: the target reads the end of the bytes, and what it writes is lost."""

    def reset(self) -> None:
        """The connection breaks: the target can neither read nor write."""

    @property
    def state(self) -> str | None:
        """The state of the target's machine: of the handshake's, and from ESTABLISHED on of the session's.

        Can.STATE
        """

    @property
    def established(self) -> Established | None:
        """What the handshake ended with; None before that. Its sealer, opener and reader are in use. Can.STATE"""

    @property
    def refusal(self) -> RefusalReason | None:
        """Why the target refused the handshake; None if it did not. Can.STATE"""

    @property
    def application(self) -> Application | None:
        """Who is behind the wire; None before ESTABLISHED, and where the target echoes. Can.APPLICATION"""

    def place_seal(self, seq: int) -> None:
        """The target goes on sealing at `seq`, as if as many records had been sent in this generation. Can.PLACE"""

    def place_open(self, seq: int) -> None:
        """The target goes on opening at `seq`. Can.PLACE"""

    def stop_taking(self, room: int = 1024) -> None:
        """Read nothing more: of what the target writes `room` bytes are taken, then it waits. Can.BACK_PRESSURE"""

    def take_again(self) -> None:
        """Read on."""

    def fail_writes(self) -> None:
        """What the target writes from now on fails; it can read what it likes. Can.BACK_PRESSURE"""


# ---- targets -----------------------------------------------------------------


@attrs.frozen
class Remembered:
    """What a target keeps beside its connections: compare before and after, for "a refused input leaves no trace"."""

    epoch: int
    roster_digest: bytes
    replay_entries: int
    replay_digest: bytes
    handshakes: int  # in progress
    sessions: int  # established and not over


class ResponderTarget(Protocol):
    """A member's port."""

    @property
    def port(self) -> Port:
        """Which of its ports."""

    @property
    def cast(self) -> Cast:
        """Who is there; `cast.roster` is the one that the target began with."""

    def connect(self) -> Wire:
        """A new connection to it."""

    @property
    def roster(self) -> VerifiedRoster | None:
        """The roster in force. Can.ROSTER"""

    def adopt(self, roster: VerifiedRoster, accepted: Sequence[RSAPrivateKey] | None = None) -> bool:
        """Another roster is offered: whether it is in force now, as `roster.replaces` decides. Can.ROSTER

        `accepted` are the encryption keys that are accepted from then on, the newest first, if they change. Raises what
        `roster.replaces` raises, and then nothing changes.
        """

    def remembered(self) -> Remembered | None:
        """What it keeps beside its connections. Can.ROSTER"""


class InitiatorTarget(Protocol):
    """A node that dials whatever it is told to, and gets the attacker."""

    def dial(self, intent: Intent) -> Wire:
        """The target opens a connection. Its Hello is in `received`."""


class Driver(Protocol):
    """A world with one clock. Not to be used after `close`."""

    @property
    def name(self) -> str:
        """sansio, memory or live."""

    @property
    def can(self) -> frozenset[Can]:
        """What it can do and knows."""

    def responder(
        self,
        port: Port,
        *,
        cast: Cast | None = None,
        keepalive: int = 0,
        link_keepalive: int = 15_000,
        deadline: float = HANDSHAKE_DEADLINE,
    ) -> ResponderTarget:
        """The port of a member, which serves every service with a commanded application. `deadline` is in seconds.

        Several calls with one `cast` are ports of one member, with one roster in force and one replay cache. None: the
        default cast, `make_cast()`. A live driver ignores all but `port`.
        """

    def initiator(self, *, deadline: float = HANDSHAKE_DEADLINE) -> InitiatorTarget:
        """A node that dials, and gives its peer so many seconds for the handshake. Can.INITIATOR"""

    def session(
        self, *, side: Side = Side.RESPONDER, purpose: Purpose = Purpose.STREAM, keepalive: int = 0
    ) -> tuple[Wire, RawPeer]:
        """A session, Confirm behind it, in which the target is on `side`; and the attacker's record layer for it.

        A live driver makes a handshake, and the target is always the responder.
        """

    def pass_time(self, seconds: float) -> None:
        """So much time passes. Without Can.CLOCK the call takes as long."""

    @property
    def now(self) -> float:
        """Seconds since the driver was made."""

    def close(self) -> None:
        """End everything. Raises TargetCrashed if something had gone wrong unseen."""
