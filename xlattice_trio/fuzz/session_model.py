"""The session as the specification has it: what a target has to do about all that is done to it. Spec 6.

`SessionModel` is one side of a session, driven as a driver drives its target: bytes arrive, time passes, an application
asks for something. What the target has to send, to tell and to be is in `sent`, `told`, `state` and `closed`. Its state
table, its limits and its error codes are read from the specification itself, so that a row or a number that is wrong
in the code is seen. It knows no cryptography: a record opens if and only if it is, byte by byte, one that the attacker
has made for this place (`Maker`). Where the specification leaves two things open at one instant, there are two
alternatives in `sent`.
"""

import functools
import gc
import math
import types
from collections.abc import Mapping, Sequence

import attrs

from xlattice_trio.crypto import AEADKey, NotOpened
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.speccheck.tables import Specification, find_directory, read_specification
from xlattice_trio.testing.forge import expand, forge_record
from xlattice_trio.testing.pairs import frames
from xlattice_trio.testing.toolbox import RawPeer

CONFIRM, DATA, KEEPALIVE, REKEY, BYE, ERROR = range(1, 7)
HEADER = 4
SPEAKING = ("OPEN", "BYE_SENT", "BYE_RECEIVED")

# ---- what is read from the specification -------------------------------------


@functools.cache
def specification() -> Specification:
    """All of its tables."""
    return read_specification(find_directory())


@functools.cache
def state_table(name: str) -> Mapping[tuple[str, str], tuple[tuple[str, ...], str]]:
    """Actions and next state by state and event; the event of a default row is `any other`."""
    return {
        (row["state"], row["event"]): (tuple(row["action"].split(", ")), row["next"])
        for row in specification().tables[f"State table {name}"].rows
    }


@functools.cache
def states_of(name: str) -> tuple[str, ...]:
    """The states of a table, in its order."""
    return tuple(dict.fromkeys(state for state, _ in state_table(name)))


@functools.cache
def limit(name: str) -> int:
    """A number of the tables of limits."""
    for table in specification().of_kind("Limits"):
        for row in table.rows:
            if row["name"] == name:
                return int(row["value"])
    raise KeyError(name)


@functools.cache
def error_codes() -> Mapping[str, int]:
    """The codes of an Error by name."""
    return {row["name"]: int(row["value"]) for row in specification().tables["Enum ErrorCode"].rows}


def row(table: str, state: str, event: str) -> tuple[tuple[str, ...], str]:
    """What the table says of an event in a state."""
    content = state_table(table)
    return content[state, event] if (state, event) in content else content[state, "any other"]


# ---- records that the attacker makes -----------------------------------------


@attrs.frozen
class Place:
    """Where a record belongs, and what it says."""

    generation: int
    seq: int
    type: int
    payload: bytes


class Maker:
    """The attacker's record layer, and a list of what opens where: all that it has made as it has to be made."""

    def __init__(self, raw: RawPeer) -> None:
        self.raw = raw
        self.made: dict[bytes, Place] = {}
        self.frames: list[bytes] = []  # that were made to be sent, in their order
        self.heard: list[bytes] = []  # frames of the target

    def record(self, type_: int, payload: bytes = b"") -> bytes:
        """The next record."""
        place = Place(len(self.raw.earlier_secrets), self.raw.send_seq, type_, payload)
        frame = self.raw.record(type_, payload)
        self.made[frame] = place
        self.frames.append(frame)
        return frame

    def ahead(self, type_: int, payload: bytes, ahead: int, generation: int) -> bytes:
        """A record of another place than the next, made as it has to be made there."""
        frame = self.raw.forge(type_, payload, ahead=ahead, generation=generation)
        at = len(self.raw.earlier_secrets) + generation
        if at >= 0:
            self.made[frame] = Place(at, max(self.raw.send_seq + ahead, 0), type_, payload)
        return frame

    def open(self, data: bytes) -> list[tuple[int, bytes]]:
        """What the target has sealed, which has to open at the very place that is due."""
        self.heard += frames(data)
        try:
            records = self.raw.feed(data)
        except NotOpened:
            raise AssertionError(
                f"what the target has sealed does not open as record {self.raw.receive_seq} of its generation"
            ) from None
        assert not self.raw.unread, f"the target has sent {self.raw.unread} bytes that are no whole record"
        return records


_KNOWN_ANSWER = "03000016014203ae405f33a014f01173f0f6b60b88dc32f97feb"


def check_known_answer() -> None:
    """The primitives are those that they were: attacker and target do not just have the same wrong ones."""
    made = forge_record(bytes(range(32)), 1, DATA, b"known").hex()
    assert made == _KNOWN_ANSWER, f"record 1 of the secret 00 01 02 ... 1f is {made}, {_KNOWN_ANSWER} is right"


def error_body(payload: bytes) -> tuple[int, bytes] | None:
    """Code and text of an Error, if its payload is exactly one valid ErrorBody."""
    if len(payload) < 4:
        return None
    code, size, text = int.from_bytes(payload[:2], "big"), int.from_bytes(payload[2:4], "big"), payload[4:]
    if size != len(text) or size > 1024:
        return None
    try:
        decoded = text.decode("utf-8")
    except UnicodeDecodeError:
        return None
    if any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F for c in decoded):
        return None
    return code, text


# ---- what is expected --------------------------------------------------------


@attrs.frozen
class Record:
    """A record that the target has to send. Of an Error the code counts, and the text is its own."""

    type: int
    payload: bytes = attrs.field(default=b"", repr=lambda payload: f"<{len(payload)} bytes>")
    code: int | None = None

    @classmethod
    def of(cls, type_: int, payload: bytes) -> "Record":
        """What was sent."""
        if type_ != ERROR:
            return cls(type_, payload)
        body = error_body(payload)
        assert body is not None, f"the target has sent an Error whose payload is no ErrorBody: {payload!r}"
        return cls(ERROR, code=body[0])


@attrs.frozen
class Failure:
    """How the session has to fail, for the application: one of some classes of errors.py, code and text it carries."""

    errors: tuple[str, ...]
    code: int | None = None
    text: str = ""


VIOLATION = Failure(("RecordError", "DecodeError"))
TRUNCATION = Failure(("Truncated",))
SILENCE = Failure(("KeepaliveTimeout",))


@attrs.define
class Sending:
    """The sending direction: which records a side has to seal for one that it wants to send. Spec 6.3, 6.4."""

    seq: int
    first_sealed_at: float | None
    generation: int = 0

    def rekey_is_due(self, now: float) -> bool:
        """Whether a Rekey has to go first."""
        if self.first_sealed_at is None:
            return False
        return self.seq == limit("GENERATION_RECORDS") - 1 or now - self.first_sealed_at > limit("GENERATION_AGE")

    def seal(self, record: Record, now: float) -> list[Record]:
        """The record, behind a Rekey if one is due."""
        if not self.rekey_is_due(now):
            self.seq += 1
            if self.first_sealed_at is None:
                self.first_sealed_at = now
            return [record]
        self.seq, self.first_sealed_at = 0, None
        self.generation += 1
        return [Record(REKEY), *self.seal(record, now)]


# ---- the session -------------------------------------------------------------


class SessionModel:
    """One side, the target's, on `side`; `keepalive` is in milliseconds. Confirm is behind it.

    `made` is what the attacker has made, and will make.
    """

    def __init__(self, side: Side, keepalive: int, made: Mapping[bytes, Place], now: float) -> None:
        initiator = side is Side.INITIATOR
        self.now = now
        self.state = "OPEN"
        self.closed = False  # the target has closed
        self.cut = False  # the attacker has
        self.sent: list[list[Record]] = [[]]  # one list for each alternative
        self.told: list[bytes | None] = []  # data, and None for its end
        self.failure: Failure | None = None
        self.reading = True
        self.parting = False  # the application has closed
        self.thrown_away = 0
        self.sending = Sending(1 if initiator else 0, now if initiator else None)
        self.receiving = [0, 0 if initiator else 1]  # generation and sequence number
        self.buffer = b""
        self.keepalive = keepalive / 1000
        self.sent_at = now
        self.silence = 0.0
        self.silence_limit = self.keepalive * limit("KEEPALIVE_INTERVALS")
        self.first_limit = max(self.silence_limit, limit("HANDSHAKE_DEADLINE")) if initiator else self.silence_limit
        self.has_opened = False
        self.linger_at = math.inf
        self._made = made

    # ---- what is true ----

    @property
    def is_speaking(self) -> bool:
        """Whether the session goes on."""
        return self.state in SPEAKING and not self.closed

    @property
    def can_send(self) -> bool:
        """Whether the application may send data, or end it."""
        return self.is_speaking and self.state != "BYE_SENT" and not self.parting

    @property
    def waits(self) -> bool:
        """Whether the target waits for bytes: the silence clock runs."""
        return self.is_speaking and (self.reading or self.parting)

    @property
    def keepalive_at(self) -> float:
        """When KeepAlive is due."""
        return self.sent_at + self.keepalive if self.keepalive and self.is_speaking else math.inf

    @property
    def silence_at(self) -> float:
        """When the silence is too long."""
        if not self.keepalive or not self.waits:
            return math.inf
        return self.now + (self.silence_limit if self.has_opened else self.first_limit) - self.silence

    # ---- bytes ----

    def arrives(self, data: bytes) -> None:
        """The attacker sends bytes."""
        if self.closed or self.cut or self.state not in SPEAKING:
            return
        self.buffer += data
        self._take()

    def transport_ends(self) -> None:
        """The attacker closes, or the connection breaks."""
        if self.closed or self.cut:
            return
        self.cut = True
        if self.state not in SPEAKING:
            self.happens("TRANSPORT_CLOSED")
        else:
            self._take()

    def _take(self) -> None:
        while self.waits:
            before = len(self.buffer)
            self._take_record()
            if len(self.buffer) == before:
                break
        if self.waits and self.cut:
            self.happens("TRANSPORT_CLOSED")

    def _take_record(self) -> None:
        if len(self.buffer) < HEADER:
            return
        kind, length = self.buffer[0], int.from_bytes(self.buffer[1:HEADER], "big")
        if kind != 3 or not 17 <= length <= 65_553:  # check 1
            self.happens("VIOLATION")
            return
        if len(self.buffer) < HEADER + length:
            return
        frame, self.buffer = self.buffer[: HEADER + length], self.buffer[HEADER + length :]
        place = self._made.get(frame)
        if place is None or [place.generation, place.seq] != self.receiving:  # check 2
            self.happens("VIOLATION")
            return
        self.silence, self.has_opened = 0.0, True
        event = self._event(place)
        if event == "REKEY_OPENED":
            self.receiving = [self.receiving[0] + 1, 0]
        else:
            self.receiving[1] += 1
        self.happens(event, place.payload)

    def _event(self, place: Place) -> str:
        """Checks 3 to 7."""
        if not CONFIRM <= place.type <= ERROR:
            return "VIOLATION"
        if place.type == REKEY and place.seq == 0:
            return "VIOLATION"
        if place.type != REKEY and place.seq == limit("GENERATION_RECORDS") - 1:
            return "VIOLATION"
        if place.type == CONFIRM or (place.type == KEEPALIVE and not self.keepalive):
            return "VIOLATION"
        if place.type == ERROR:
            return "ERROR_MALFORMED" if error_body(place.payload) is None else "ERROR_OPENED"
        if (place.type == DATA) != bool(place.payload):
            return "VIOLATION"
        return {DATA: "DATA_OPENED", KEEPALIVE: "KEEPALIVE_OPENED", REKEY: "REKEY_OPENED", BYE: "BYE_OPENED"}[
            place.type
        ]

    # ---- events ----

    def happens(self, event: str, payload: bytes = b"", code: int | None = None) -> bool:
        """An event of the table, and what it says: whether whoever asked for it is served."""
        before, (actions, self.state) = self.state, row("Session", self.state, event)
        found = {
            "VIOLATION": VIOLATION,
            "DATA_OPENED": VIOLATION,  # where it is not delivered
            "BYE_OPENED": VIOLATION,  # the second one
            "SILENCE_PASSED": SILENCE,
            "ERROR_MALFORMED": VIOLATION,
        }.get(event)
        for action in actions:
            if action == "seal":
                self._seal(event, payload, code)
            elif action == "deliver":
                self._deliver(payload)
            elif action == "report end of data":
                if not self.parting:
                    self.told.append(None)
            elif action == "report the error":
                self._fails(self._reported(payload))
            elif action == "report truncation":
                self._fails(TRUNCATION)
            elif action.startswith("send Error("):
                assert found is not None, event
                self._fails(found)
                self._send(Record(ERROR, code=error_codes()[action[len("send Error(") : -1]]))
            elif action == "close":
                if event == "ERROR_MALFORMED":
                    self._fails(VIOLATION)
                self.closed = True
        if self.state != before and self.state in ("DRAINING", "FAILING"):
            self.linger_at = self.now + limit("ERROR_LINGER" if self.state == "FAILING" else "BYE_LINGER")
            if self.cut:
                self.happens("TRANSPORT_CLOSED")
        return "refuse the caller" not in actions

    def _reported(self, payload: bytes) -> Failure:
        body = error_body(payload)
        assert body is not None
        code = body[0] if body[0] in error_codes().values() else error_codes()["internal"]
        return Failure(("PeerReported",), code, body[1].decode())

    def _fails(self, failure: Failure) -> None:
        if not self.parting:
            self.failure = failure

    def _deliver(self, payload: bytes) -> None:
        if not self.parting:
            self.told.append(payload)
            return
        self.thrown_away += len(payload)
        if self.thrown_away >= limit("LINGER_BYTES"):
            self.happens("TRANSPORT_CLOSED")

    def _seal(self, event: str, payload: bytes, code: int | None) -> None:
        type_ = {"SEND_DATA": DATA, "SEND_KEEPALIVE": KEEPALIVE, "SEND_BYE": BYE, "SEND_ERROR": ERROR}[event]
        self._send(Record(type_, payload, code))

    def _send(self, record: Record) -> None:
        records = self.sending.seal(record, self.now)
        self.sent_at = self.now
        if not self.cut:  # else nobody sees it
            self.sent = [[*before, *records] for before in self.sent]

    # ---- the application ----

    def sends(self, data: bytes) -> bool:
        """Data, cut as late as can be. Whether it is sent."""
        if not self.can_send:
            return False
        most = limit("RECORD_PAYLOAD_MAX")
        for start in range(0, len(data), most):
            self.happens("SEND_DATA", data[start : start + most])
        return True

    def says_bye(self) -> bool:
        """Bye. Whether it is said."""
        return self.can_send and self.happens("SEND_BYE")

    def says_error(self, code: int) -> bool:
        """Error. Whether it is said. Behind both Byes it is not, and there is nothing more to wait for."""
        if self.state == "DRAINING" and not self.closed:
            self.happens("LINGER_PASSED")
        return self.is_speaking and self.happens("SEND_ERROR", code=code)

    def application_closes(self) -> None:
        """Spec 6.8: Bye, unless it was said; then what comes is thrown away for a while."""
        if self.closed or self.parting:
            return
        if self.can_send:
            self.happens("SEND_BYE")
        self.parting = True
        if self.state == "BYE_SENT":
            self.linger_at = self.now + limit("BYE_LINGER")
            self._take()

    def stops_reading(self) -> None:
        """The application takes nothing."""
        self.reading = False

    def reads_again(self) -> None:
        """It takes what has come meanwhile."""
        self.reading = True
        self._take()

    # ---- time ----

    @property
    def is_tied(self) -> bool:
        """Whether two clocks of which either can be the first run out at one instant."""
        return self.linger_at == self.silence_at < math.inf

    def time_passes(self, seconds: float) -> None:
        """So much time passes."""
        until = self.now + seconds
        while not self.closed:
            due = min(self.linger_at, self.silence_at, self.keepalive_at)
            if due > until:
                break
            self._advance(due)
            self._fire(due)
        self._advance(until)

    def _advance(self, now: float) -> None:
        if self.waits:
            self.silence += now - self.now
        self.now = now

    def _fire(self, due: float) -> None:
        ending = min(self.linger_at, self.silence_at) == due
        if not ending:
            self.happens("SEND_KEEPALIVE")
            return
        # A KeepAlive that is due at the same instant may go first, or not at all.
        alternatives = [(attrs.evolve(self.sending), list(before)) for before in self.sent]
        if self.keepalive_at == due:
            for sending, before in list(alternatives):
                other = attrs.evolve(sending)
                alternatives.append((other, [*before, *other.seal(Record(KEEPALIVE), due)]))
        if self.linger_at == due:
            self.sent = [before for _, before in alternatives]
            self.happens("TRANSPORT_CLOSED" if self.state in SPEAKING else "LINGER_PASSED")
            return
        error = Record(ERROR, code=error_codes()["keepalive_timeout"])
        self.happens("SILENCE_PASSED")
        self.sent = [[*before, *sending.seal(error, due)] for sending, before in alternatives]


# ---- secrets that have to be gone --------------------------------------------


def secrets_of(first: bytes, generation: int) -> tuple[bytes, ...]:
    """Secret, key and iv of a generation of the direction with this first secret, and its next secret."""
    secret = first
    for _ in range(generation):
        secret = expand(secret, "rekey")
    return secret, expand(secret, "key"), expand(secret, "iv", 12), expand(secret, "rekey")


_CODE = (type, types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.CodeType)


def held(root: object, secrets: Sequence[bytes]) -> list[str]:
    """Which of the secrets can still be reached from an object, as bytes or as a number; and "a key" if any is."""
    numbers = {int.from_bytes(secret, "big") for secret in secrets}
    found = []
    seen: set[int] = set()
    waiting: list[object] = [root]
    while waiting:
        item = waiting.pop()
        if id(item) in seen or isinstance(item, _CODE):
            continue
        seen.add(id(item))
        if isinstance(item, AEADKey):
            found.append("a key")
        elif isinstance(item, bytes | bytearray):
            found += [bytes(item).hex()] if bytes(item) in secrets else []
        elif isinstance(item, int):
            found += [hex(item)] if item in numbers else []
        else:
            waiting += gc.get_referents(item)
    return found
