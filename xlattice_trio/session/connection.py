"""The session without I/O: records in, events out; what to send, sealed.

`Connection` is one side of one session from ESTABLISHED to its end. It owns the keys, the buffer of incoming bytes and
the state, and changes the state through the table in `transitions` only. It refuses to know sockets, tasks and clocks:
time is an argument (`now`, seconds of any clock that does not go back [NO-2]), and whoever drives it carries bytes, in
order, both ways, and closes the transport when `state` says that this is due:

    OPEN, BYE_SENT, BYE_RECEIVED   go on
    DRAINING, FAILING              read and discard, until the transport ends or `linger_passed`; then close
    CLOSED, FAILED                 close at once

What arrives goes through `receive_data` and comes out of `next_event`, one record at a time, or as an exception, after
which the session is over: `answer` then holds the Error to send, if the protocol has one for it. What is to be sent
comes out of the `send_...` methods, and has to be written whole and in the order in which it was asked for: a record
that was sealed and is not written makes all behind it unreadable. The invariant: a byte that was delivered was sent by
the peer, in this place of its stream, and the end of data is never reported unless the peer said so. Spec 6.
"""

import math
from typing import assert_never

import attrs

from xlattice_trio.errors import (
    DecodeError,
    ErrorCode,
    KeepaliveTimeout,
    PeerError,
    PeerReported,
    RecordError,
    Truncated,
    UsageError,
)
from xlattice_trio.handshake.outcome import Established, Side
from xlattice_trio.limits import ERROR_TEXT_MAX, HANDSHAKE_DEADLINE, KEEPALIVE_INTERVALS, RECORD_PAYLOAD_MAX
from xlattice_trio.machine import next_state
from xlattice_trio.session.transitions import SESSION, Action, Event, State
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.framing import DUE_RECORD
from xlattice_trio.wire.messages import ErrorBody, RecordType

_CODES = {int(code): code for code in ErrorCode}
_SENDING = {  # Confirm is the handshake's [SE-29] [SE-30]
    RecordType.DATA: Event.SEND_DATA,
    RecordType.KEEPALIVE: Event.SEND_KEEPALIVE,
    RecordType.BYE: Event.SEND_BYE,
    RecordType.ERROR: Event.SEND_ERROR,
}
_ENDING = (State.DRAINING, State.FAILING, State.CLOSED, State.FAILED)


# ---- events ------------------------------------------------------------------


@attrs.frozen
class NeedData:
    """Nothing more until bytes arrive."""


@attrs.frozen
class DataReceived:
    """The next piece of the peer's byte stream, 1 to 65,536 bytes; the buffer is the caller's."""

    data: bytearray = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class EndOfData:
    """The peer said Bye: its byte stream is complete."""


@attrs.frozen
class MoreToCome:
    """Many records that carry nothing were taken, and there are more: the driver may let others run first."""


NEED_DATA = NeedData()
END_OF_DATA = EndOfData()
MORE_TO_COME = MoreToCome()

SessionEvent = NeedData | DataReceived | EndOfData | MoreToCome

# KeepAlive and Rekey records that `next_event` takes at a time.
_EMPTY_RECORDS = 64


class Connection:
    """One side of a session.

    `now` is the time of its own ESTABLISHED; `handshake_deadline` (seconds) is what the initiator gives its peer at
    least before it calls the first silence too long.
    """

    def __init__(self, established: Established, now: float, *, handshake_deadline: float = HANDSHAKE_DEADLINE) -> None:
        self.state = State.OPEN
        self.answer = bytearray()
        self.has_heard = False  # a record other than Error and Bye was opened
        self.keepalive = established.keepalive / 1000  # seconds
        self._sealer = established.sealer
        self._opener = established.opener
        self._reader = established.reader  # [SE-3]
        self._transport_closed = False
        self._sent_at = now
        self._silence = 0.0
        self._waiting_since: float | None = None
        limit = self.keepalive * KEEPALIVE_INTERVALS
        self._silence_limit_later = limit
        self._silence_limit = max(limit, handshake_deadline) if established.side is Side.INITIATOR else limit  # [SE-38]

    # ---- what arrives ----

    def receive_data(self, data: bytes) -> None:
        """Store bytes that arrived; none mean that the transport has ended. [SE-50] [SE-69]"""
        if not data:
            self._transport_closed = True
        elif self.state not in _ENDING:
            self._reader.feed(data)

    def next_event(self, now: float) -> SessionEvent:
        """The next thing that happened, as far as the bytes reach.

        Raises PeerReported for the peer's Error; Truncated; RecordError and DecodeError for a violation. All of these
        end the session.
        """
        empty = 0
        while self.state not in _ENDING:
            if empty == _EMPTY_RECORDS:
                return MORE_TO_COME
            try:
                frame = self._reader.next_frame(DUE_RECORD)
                if frame is None:
                    break
                type_, payload = self._opener.open(frame)
                self._silence, self._silence_limit = 0.0, self._silence_limit_later  # [SE-38]
                event = self._check(type_, payload)
                self.has_heard |= event not in (Event.ERROR_OPENED, Event.BYE_OPENED)
            except (RecordError, DecodeError):  # [SE-14]
                self._arrived(Event.VIOLATION, now)
                raise
            if event is Event.ERROR_OPENED:
                self._report_error(payload, now)
            action = self._arrived(event, now)
            match action:
                case Action.DELIVER:
                    return DataReceived(payload)
                case Action.REPORT_END | Action.REPORT_END_CLOSE:  # [SE-42] [SE-45]
                    return END_OF_DATA
                case Action.SEND_VIOLATION:
                    raise RecordError(8, f"{type_.name} after Bye")
            empty += 1
        # [SE-49] [SE-59]: whether the end is a truncation hangs on the state alone
        if self._transport_closed and self._arrived(Event.TRANSPORT_CLOSED, now) is Action.REPORT_TRUNCATION_CLOSE:
            raise Truncated  # [SE-65] [SE-66]
        return NEED_DATA

    def _check(self, type_: RecordType, payload: bytearray) -> Event:
        """Checks 5 to 7 of a record that opened: which event it is. Raises RecordError. [SE-13]"""
        match type_:
            case RecordType.CONFIRM:
                raise RecordError(5, "a second Confirm")
            case RecordType.KEEPALIVE:
                if not self.keepalive:
                    raise RecordError(6, "KeepAlive in a session without keepalives")
                event = Event.KEEPALIVE_OPENED  # [SE-35]
            case RecordType.DATA:
                if not payload:
                    raise RecordError(7, "Data without a byte")
                return Event.DATA_OPENED
            case RecordType.REKEY:
                event = Event.REKEY_OPENED
            case RecordType.BYE:
                event = Event.BYE_OPENED
            case RecordType.ERROR:
                return Event.ERROR_OPENED
            case _:
                assert_never(type_)
        if payload:
            raise RecordError(7, f"{type_.name} with a payload of {len(payload)} bytes")
        return event

    def _report_error(self, payload: bytearray, now: float) -> None:
        try:
            body = decode(ErrorBody, payload)
        except DecodeError:
            self._arrived(Event.ERROR_MALFORMED, now)  # [SE-56] [SE-57]
            raise
        self._arrived(Event.ERROR_OPENED, now)
        raise PeerReported(_CODES.get(body.code, ErrorCode.INTERNAL), body.text)  # [SE-58] [SE-60] [EL-3]

    def _arrived(self, event: Event, now: float) -> Action:
        """Change the state for something that we did not ask for, and make the Error to answer it with, if any."""
        before, (action, self.state) = self.state, next_state(SESSION, self.state, event)
        match action:
            case Action.SEND_VIOLATION:  # [SE-55] [EL-2]
                self.answer = self._seal_error(ErrorCode.PROTOCOL_VIOLATION, "", now)
            case Action.SEND_TIMEOUT:  # [SE-37] [EL-2]
                self.answer = self._seal_error(ErrorCode.KEEPALIVE_TIMEOUT, "", now)
        if self.state is not before and self.state in (State.CLOSED, State.FAILED):  # [SE-78]
            self._sealer.erase()
            self._opener.erase()
        return action

    # ---- what is sent ----

    @property
    def can_send_data(self) -> bool:
        """Whether `send_data` and `send_bye` are allowed: in our own direction, the peer's Bye ends nothing. [SE-43]"""
        return self.state in (State.OPEN, State.BYE_RECEIVED)

    @property
    def is_over(self) -> bool:
        """Whether nothing more is sent, and nothing more delivered."""
        return self.state in _ENDING

    def send_data(self, data: bytes | bytearray | memoryview, now: float) -> bytearray:
        """Data of 1 to 65,536 bytes. Raises UsageError after Bye, after an Error, and at the end."""
        if not 1 <= len(data) <= RECORD_PAYLOAD_MAX:  # [SE-10]
            raise UsageError(f"a Data record of {len(data)} bytes: 1 to {RECORD_PAYLOAD_MAX} expected")
        return self._send(RecordType.DATA, data, now)

    def send_keepalive(self, now: float) -> bytearray:
        """KeepAlive. Raises UsageError if the session has no keepalives, and at the end."""
        if not self.keepalive:  # [SE-34]
            raise UsageError("KeepAlive in a session without keepalives")
        return self._send(RecordType.KEEPALIVE, b"", now)  # [SE-9]

    def send_bye(self, now: float) -> bytearray:
        """Bye: no more Data from us. Raises UsageError if it was sent before, and at the end."""
        return self._send(RecordType.BYE, b"", now)  # [SE-9]

    def send_error(self, code: ErrorCode, text: str, now: float) -> bytearray:
        """Error: the end, from our side. `text` is cut to 1,024 bytes, control characters replaced. [SE-41]"""
        self._transition_to_send(Event.SEND_ERROR)
        return self._seal_error(code, text, now)

    def _send(self, type_: RecordType, payload: bytes | bytearray | memoryview, now: float) -> bytearray:
        if self._sealer.rekey_due(now):
            self._transition_to_send(Event.SEND_REKEY)
        self._transition_to_send(_SENDING[type_])
        self._sent_at = now  # a little early, since it has still to be written [SE-33]
        return self._sealer.seal(type_, payload, now)

    def _transition_to_send(self, event: Event) -> None:
        action, state = next_state(SESSION, self.state, event)
        if action is not Action.SEAL:
            raise UsageError(f"{event} in state {self.state}")  # [SE-40] [SE-48] [SE-61] [SE-67]
        self.state = state

    def _seal_error(self, code: ErrorCode, text: str, now: float) -> bytearray:
        printable = "".join(c if c.isprintable() else " " for c in text)
        cut = printable.encode()[:ERROR_TEXT_MAX].decode(errors="ignore")
        return self._sealer.seal(RecordType.ERROR, encode(ErrorBody(code, cut)), now)  # [SE-54]

    # ---- clocks ----

    def keepalive_at(self) -> float:
        """When KeepAlive is due, if nothing else is sent before; infinity if it never is. [SE-31] [SE-32]"""
        return self._sent_at + self.keepalive if self.keepalive and not self.is_over else math.inf

    def wait_begins(self, now: float) -> float:
        """We wait for bytes from now on: how many seconds may pass until `silence_passed`. [SE-36]"""
        self._waiting_since = now
        if not self.keepalive or self.is_over:  # [SE-39]
            return math.inf
        return max(0.0, self._silence_limit - self._silence)

    def wait_ends(self, now: float) -> None:
        """We no longer wait for bytes: the clock of the peer's silence stands still."""
        if self._waiting_since is not None:
            self._silence += now - self._waiting_since
            self._waiting_since = None

    def silence_passed(self, now: float) -> PeerError:
        """The peer was silent too long: the error to raise; `answer` tells the peer."""
        self._arrived(Event.SILENCE_PASSED, now)
        return KeepaliveTimeout(self._silence_limit)

    def linger_passed(self, now: float) -> None:
        """The time for reading and discarding is over."""
        self._arrived(Event.LINGER_PASSED, now)

    def given_up(self, now: float) -> None:
        """We end the session without a word: a record was cut off, or could not be written. [SE-18] [SE-70]"""
        self._arrived(Event.TRANSPORT_CLOSED, now)
