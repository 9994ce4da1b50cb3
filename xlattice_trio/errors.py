"""The whole tree of exceptions, and the two lists of reasons that they carry.

One root, then whose fault it is:

    XLatticeError
    ├── UsageError              our caller's: a wrong argument, a call out of turn
    │   └── EncodeError         a message that has no encoding
    ├── IdentityError           a key, card, roster or file that is not what it should be
    │   ├── StorageError        ... as a file: .path
    │   └── RosterConflict      two rosters of one epoch: .epoch
    ├── PeerError               the other side's: .code is what it is told, if it is told anything
    │   ├── DecodeError         bytes that are no message: .where, .offset
    │   ├── RecordError         a record that breaks the session's rules: .check
    │   ├── HandshakeRefused    .reason
    │   ├── Truncated           the connection ended before the peer's Bye
    │   ├── PeerClosed          the connection ended after the peer's Bye and before ours
    │   └── KeepaliveTimeout    the peer fell silent
    ├── PeerReported            what the other side said of us: .code, .text (untrusted)
    ├── SessionEnded            we ended the session with an Error: .code, .text
    └── WriteStalled            the peer has stopped reading: .deadline

Bytes from the network cause PeerError and PeerReported, and nothing else.
"""

import enum
from pathlib import Path


class ErrorCode(enum.IntEnum):
    """The code of an Error record, u16: what is sent is one of these. Spec 9.1. [EL-1]"""

    PROTOCOL_VIOLATION = 1
    UNKNOWN_SERVICE = 2
    NOT_AUTHORIZED = 3
    SHUTTING_DOWN = 4
    INTERNAL = 5
    KEEPALIVE_TIMEOUT = 6
    ROSTER_CONFLICT = 7
    OVER_CAPACITY = 8


class RefusalReason(enum.Enum):
    """Why a handshake ended without a session. For logs and tests: none of it is ever sent. Spec 5.7, 5.9, 5.10.

    A failed OAEP decryption has no reason of its own: it ends as HELLO_NOT_OPENED, like any wrong key.
    """

    # the responder's checks, in their order
    FRAME_HEADER = "a frame that is not due"
    VERSION = "a body that is no Hello of version 2"
    MAC = "a Hello whose mac fits none of the accepted encryption keys"
    REPLAY_SEEN = "a Hello that was seen before"
    HELLO_NOT_OPENED = "a Hello that does not open"
    HELLO_MALFORMED = "a HelloBody that does not decode"
    RECIPIENT = "a Hello for another node"
    CLUSTER = "a Hello for another cluster"
    ROLE = "a role or purpose that this port does not serve"
    LINK_ORDER = "a link dialled by the member with the higher NodeID"
    MEMBERSHIP = "an initiator that the roster in force does not list"
    SELF = "an initiator that is the recipient"
    SIGNATURE = "a signature that does not verify"
    REPLAY_RACED = "a Hello that was seen while it was checked"
    CONFIRM = "a first record that is not Confirm"
    ROSTER_CHANGED = "a roster that changed during the handshake, and no longer admits it"
    # the initiator's
    REPLY_NOT_OPENED = "a HelloReply that does not open"
    REPLY_MALFORMED = "a ReplyBody that does not decode"
    KEEPALIVE = "a keepalive interval that a link does not allow"
    # both sides'
    KEY_SHARE = "a key share that gives no secret"
    DEADLINE = "the handshake took too long"
    TRANSPORT_CLOSED = "the connection ended during the handshake"


class XLatticeError(Exception):
    """The root of everything that this package raises on purpose."""


class UsageError(XLatticeError):
    """The caller asked for something that cannot be done: a wrong argument, or a call out of turn."""


class EncodeError(UsageError):
    """A message holds a value that has no encoding."""


class IdentityError(XLatticeError):
    """A key, card, roster or cluster card is not what it has to be. Spec 2, 3."""


class StorageError(IdentityError):
    """A file is missing, damaged, of the wrong kind, not ours, or open to others.

    `path` is the file.
    """

    def __init__(self, path: Path, message: str) -> None:
        super().__init__(f"{path}: {message}")
        self.path = path


class RosterConflict(IdentityError):
    """Two different rosters of one epoch: the authority has equivocated, or the peer lies. Spec 3.

    `epoch` is theirs.
    """

    def __init__(self, epoch: int) -> None:
        super().__init__(
            f"two different rosters of epoch {epoch}: the one held stays; a roster of a higher epoch ends the conflict"
        )
        self.epoch = epoch


class PeerError(XLatticeError):
    """The other side broke the protocol.

    `code` is what it is told, where anything is said at all: before ESTABLISHED nothing is.
    """

    code = ErrorCode.PROTOCOL_VIOLATION


class DecodeError(PeerError):
    """Bytes that are not the one encoding of a message.

    `where` names class and field, `offset` is the byte, counted from the start of the outermost message.
    """

    def __init__(self, where: str, offset: int, problem: str) -> None:
        super().__init__(f"{where}: {problem}, at offset {offset}")
        self.where = where
        self.offset = offset


class RecordError(PeerError):
    """A record that does not open, or is not due. Spec 6.

    `check` is the number of the check in Spec 6.2 that it fails, 2 to 8.
    """

    def __init__(self, check: int, problem: str) -> None:
        super().__init__(problem)
        self.check = check


class LinkError(PeerError):
    """A link message, or a roster in one, that breaks a rule. Spec 7."""


class HandshakeRefused(PeerError):
    """A handshake ended without a session: `reason` says why, to us alone. Spec 5."""

    def __init__(self, reason: RefusalReason, detail: str = "") -> None:
        super().__init__(f"{reason.value} ({detail})" if detail else reason.value)
        self.reason = reason


class Truncated(PeerError):
    """The connection ended before the peer's Bye: what arrived may not be all that was sent. Spec 6."""

    def __init__(self) -> None:
        super().__init__("the connection ended before the peer said Bye: the data may be incomplete")


class PeerClosed(PeerError):
    """The connection ended after the peer's Bye and before ours: it has everything from us that arrived. Spec 6.10."""

    def __init__(self) -> None:
        super().__init__("the peer closed the connection before this side had said everything")


class KeepaliveTimeout(PeerError):
    """Nothing arrived for three keepalive intervals. Spec 6."""

    code = ErrorCode.KEEPALIVE_TIMEOUT

    def __init__(self, silence: float) -> None:
        super().__init__(f"nothing arrived for {silence:g} s, three keepalive intervals")
        self.silence = silence  # seconds


class PeerReported(XLatticeError):
    """The other side ended the session with an Error record.

    `code` is an ErrorCode (a code that is not listed counts as INTERNAL); `text` is the peer's own and untrusted: for
    logs, never for decisions [SE-64], free of control characters, at most 1,024 bytes.
    """

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"the peer ended the session: {code.name.lower()}" + (f": {text}" if text else ""))
        self.code = code
        self.text = text


class SessionEnded(XLatticeError):
    """We ended the session with an Error record, of this `code` and `text`."""

    def __init__(self, code: ErrorCode, text: str) -> None:
        super().__init__(f"this side ended the session: {code.name.lower()}" + (f": {text}" if text else ""))
        self.code = code
        self.text = text


class WriteStalled(XLatticeError):
    """The connection did not take a record within `deadline` seconds: the peer has stopped reading. Spec 6.11."""

    def __init__(self, deadline: float) -> None:
        super().__init__(f"the peer took nothing for {deadline:g} s: it has stopped reading")
        self.deadline = deadline
