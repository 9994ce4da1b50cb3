"""What a handshake is about, and what it ends with: values that both sides share. Spec 5.4 to 5.6."""

import enum
import traceback
from typing import NoReturn

import attrs

from xlattice_trio.crypto import Label
from xlattice_trio.errors import DecodeError, HandshakeRefused, RefusalReason
from xlattice_trio.handshake import key_schedule
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.wire.framing import HEADER_SIZE, FrameReader
from xlattice_trio.wire.messages import Purpose, Role


class Port(enum.Enum):
    """Which of a member's two ports a connection is on."""

    CLUSTER = "cluster"
    CLIENT = "client"


# Who may do what on which port; rosters go over links. [HS-16] [HS-33] [RO-3]
PERMITTED: frozenset[tuple[Port, Role, Purpose]] = frozenset(
    {
        (Port.CLUSTER, Role.MEMBER, Purpose.LINK),
        (Port.CLUSTER, Role.MEMBER, Purpose.STREAM),
        (Port.CLIENT, Role.CLIENT, Purpose.STREAM),
        (Port.CLIENT, Role.ANONYMOUS, Purpose.STREAM),
    }
)


class Side(enum.Enum):
    """Which end of a session one is."""

    INITIATOR = "initiator"
    RESPONDER = "responder"


@attrs.frozen
class Established:
    """A handshake that succeeded: who, what for, and the keys. The session is made of it, once.

    `initiator` is None if anonymous. `keepalive` is in milliseconds, 0 for none. `epoch` is that of the responder's
    roster, for information. `transcript_hash` and `exporter` are 32 bytes. `reader` holds the bytes that arrived
    behind the handshake.
    """

    side: Side
    role: Role
    purpose: Purpose
    service: str
    cluster_id: bytes
    initiator: VerifiedCard | None
    recipient: NodeID
    keepalive: int
    epoch: int
    transcript_hash: bytes
    exporter: bytes = attrs.field(repr=False)
    sealer: Sealer = attrs.field(repr=False)
    opener: Opener = attrs.field(repr=False)
    reader: FrameReader = attrs.field(repr=False)


@attrs.frozen(repr=False)
class SessionSecrets:
    """What prk gives: the first secret of each direction, and the exporter."""

    i2r: bytes
    r2i: bytes
    exporter: bytes

    @classmethod
    def of(cls, prk: bytes) -> "SessionSecrets":
        return cls(
            key_schedule.direction_secret(prk, Label.I2R),
            key_schedule.direction_secret(prk, Label.R2I),
            key_schedule.exporter(prk),
        )


def signed_content(hello_until_sealed: bytes, body_until_signature: bytes) -> bytes:
    """What the initiator's sk signs: the Hello from version through kem_ciphertext, HelloBody from role through
    initiator. [HS-14]

    The first argument begins with the frame header, which is not signed.
    """
    return hello_until_sealed[HEADER_SIZE:] + body_until_signature


def refuse(exc: DecodeError | HandshakeRefused) -> NoReturn:
    """Raise HandshakeRefused for what was found wrong with a message; a DecodeError is a frame that is not due.

    An exception keeps the variables of the calls that it came through, keys among them: they are cleared. [HS-10]
    """
    found: BaseException | None = exc
    while found is not None:
        traceback.clear_frames(found.__traceback__)
        found = found.__cause__ or found.__context__
    if isinstance(exc, DecodeError):
        raise HandshakeRefused(RefusalReason.FRAME_HEADER, str(exc)) from exc
    raise exc
