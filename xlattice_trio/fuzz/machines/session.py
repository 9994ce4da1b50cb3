"""A session, with an attacker as the peer who has the keys and keeps no rule.

The invariants:
- Data arrives complete and in order, or the loss is reported; the end of data is told after Bye, and never else.
- What the target seals opens at the very generation and sequence number that are due, so that no key and nonce seal
  twice; Rekey goes where it is due, and nowhere else.
- Behind its Bye a target sends no Data and no Bye, behind its Error, and behind both Byes, nothing.
- Each violation is answered with one Error(protocol_violation), an Error with nothing.
- State, timers and limits are those of the specification, at each step.
- What is not yet a whole record is held within the size of one; after the end, and after a Rekey, old keys are gone.

What has to happen says `session_model`, which reads the specification's own tables. `SessionMachine` holds a driver's
target against it, with an application and clocks around the core. `TableMachine` holds the core alone against the state
table, every event in every state: also what a driver keeps from the core.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from xlattice_trio.errors import ErrorCode, KeepaliveTimeout, PeerError, PeerReported, UsageError, XLatticeError
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.session_model import (
    BYE,
    CONFIRM,
    DATA,
    ERROR,
    KEEPALIVE,
    REKEY,
    SPEAKING,
    Maker,
    Record,
    SessionModel,
    check_known_answer,
    error_codes,
    held,
    limit,
    row,
    secrets_of,
)
from xlattice_trio.fuzz.target import Application, Can, GotData, GotEnd, GotFailure, Outcome, Wire
from xlattice_trio.handshake.outcome import Established, Side
from xlattice_trio.session.connection import Connection, DataReceived, EndOfData, NeedData, SessionEvent
from xlattice_trio.testing.pairs import I2R, R2I, confirmed, established, place_seal, raw_peer
from xlattice_trio.testing.toolbox import DAMAGE, cut, damage, error_payload, flip, pattern

LAST = 2**20 - 1  # the sequence number of which nothing but a Rekey is sent
_TICK = 0.125  # seconds: the least time that passes; a sum of these is exact
_KEEPALIVES = (0, 1000, 1500, 15_000, 3_600_000)  # milliseconds
_SIZES = (1, 2, 100, 65_535, 65_536)
_STARTS = ("OPEN", "BYE_SENT", "BYE_RECEIVED", "OPEN", "BYE_SENT", "BYE_RECEIVED", "DRAINING")
_AT = (0, 0, 0, LAST - 1, LAST)
_CODES = (*range(1, 9), 0, 9, 255, 256, 65_535)
_TEXTS = (b"", b"text", "\ufeffé\u2028 ".encode(), b"x" * 1024)
_BAD_ERRORS = (
    b"",
    b"\0",
    b"\0\1\0",
    b"\0\1",
    error_payload(1)[:-1],
    error_payload(1, b"text")[:-1],
    error_payload(1, b"text") + b"\0",
    error_payload(1, b"\xff"),
    error_payload(1, b"\xed\xa0\x80"),
    error_payload(1, b"line\n"),
    error_payload(1, b"\xc2\x85"),
    error_payload(1, b"x" * 1025),
    b"\0\1\xff\xff",
)
_OWN_TEXTS = ("", "text", "line\nline\0", "x" * 1024, "x" * 5000, "é" * 600, "\u2028" + "x" * 1023, "\x85\x7f")
_HEADERS = (
    *(b"\3" + length.to_bytes(3, "big") for length in (17, 16, 0, 65_553, 65_554, 2**24 - 1)),
    *(bytes((kind,)) + (17).to_bytes(3, "big") for kind in (0, 1, 2, 4, 255)),
    bytes.fromhex("010008a4"),  # of a Hello
    bytes.fromhex("020004bc"),  # of a HelloReply
)
_WRONG = (
    "aad kind",
    "aad length",
    "aad none",
    "header kind",
    "header longer",
    "header shorter",
    "seq before",
    "seq after",
    "seq far",
    "generation before",
    "generation after",
    "tag zero",
    "tag bit",
    "body bit",
    "no body",
    "reflected",
    "other key",
)

_ERRORS = (*_BAD_ERRORS, *map(error_payload, _CODES))
_TYPES = (*range(8), 128, 255)
_EACH = {"headers": len(_HEADERS), "wrong": len(_WRONG), "errors": len(_ERRORS), "payloads": 2 * len(_TYPES)}

# A valid record of the peer, in a few letters: what `pieces` are made of.
_VALID = {
    "data": (DATA, b"some data"),
    "byte": (DATA, b"x"),
    "keepalive": (KEEPALIVE, b""),
    "rekey": (REKEY, b""),
    "bye": (BYE, b""),
    "error": (ERROR, error_payload(5, b"text")),
}
_INVALID = {
    "empty": (DATA, b""),
    "confirm": (CONFIRM, b""),
    "unknown": (7, b""),
    "bad error": (ERROR, b"\0"),
    "long bye": (BYE, b"x"),
}


# What can happen in a session, in a few words: what `begin_with` is made of. All but the last is right.
_WORDS: dict[str, Callable[[Any], object]] = {
    **{f"{name} comes": functools.partial(lambda name, s: s.send_valid([name], []), name) for name in _VALID},
    "data comes in pieces": lambda s: s.send_valid(["data", "data"], [3, 20]),
    "data goes": lambda s: s.target_sends(100, 0),
    "Bye goes": lambda s: s.target_ends(False),
    "it closes": lambda s: s.target_ends(True),
    "it does not read": lambda s: s.target_reads(False),
    "it reads": lambda s: s.target_reads(True),
    "a little time": lambda s: s.pass_time(0.5),
    "almost silence": lambda s: s.pass_to_the_limit("silence", -1),
    "silence": lambda s: s.pass_to_the_limit("silence", 0),
    "almost a keepalive": lambda s: s.pass_to_the_limit("keepalive", -1),
    "a keepalive": lambda s: s.pass_to_the_limit("keepalive", 0),
    "a linger": lambda s: s.pass_to_the_limit("linger", 0),
    "a part of a record": lambda s: s.pass_with_records(1, "parts"),
    "much data comes": lambda s: s.flood(16, 0, False),
    "a violation comes": lambda s: s.send_type(7, 0),
}


def _goes_on(self: "SessionMachine") -> bool:
    """Whether the session is neither over nor about to be: elsewhere little is worth trying."""
    return self.model.is_speaking and not self.model.cut


class SessionMachine(TargetMachine):
    """A driver's target and its application, held against the model."""

    wire: Wire
    application: Application

    # ---- how it begins ----

    @initialize(
        side=st.sampled_from(list(Side)),
        keepalive=st.sampled_from(_KEEPALIVES),
        start=st.sampled_from(_STARTS),
        at=st.sampled_from(_AT),
    )
    def begin(self, side: Side, keepalive: int, start: str, at: int) -> None:
        """A session, brought into a state; `at` is the number of the records that come next."""
        check_known_answer()
        if hasattr(self, "wire"):  # the session before it is given up
            self.wire.reset()
        self.wire, raw = self.driver.session(side=side, keepalive=keepalive)
        application = self.wire.application
        assert application is not None, "an established session has no application"
        self.application = application
        self.maker = Maker(raw)
        self.model = SessionModel(side, keepalive, self.maker.made, self.driver.now)
        self.secrets = (R2I, I2R) if side is Side.RESPONDER else (I2R, R2I)  # of what the target seals, and opens
        self.erased = (0, 0)  # generations that were looked for
        if at:
            self.place(True, at)
            self.place(False, at)
        if start in ("BYE_RECEIVED", "DRAINING") and self.maker.raw.send_seq != LAST:
            self.send_valid(["bye"], [])
        if start in ("BYE_SENT", "DRAINING"):
            self.target_ends(False)

    @precondition(lambda self: not self.model.is_speaking)
    @rule(keepalive=st.sampled_from(_KEEPALIVES), start=st.sampled_from(_STARTS), at=st.sampled_from(_AT))
    def begin_as_responder(self, keepalive: int, start: str, at: int) -> None:
        """Another session, when the one before it is over, or about to be."""
        self.begin(Side.RESPONDER, keepalive, start, at)

    @precondition(lambda self: not self.model.is_speaking)
    @rule(keepalive=st.sampled_from(_KEEPALIVES), start=st.sampled_from(_STARTS), at=st.sampled_from(_AT))
    def begin_as_initiator(self, keepalive: int, start: str, at: int) -> None:
        """The same, and the target is the initiator."""
        self.begin(Side.INITIATOR, keepalive, start, at)

    # ---- what the peer sends ----

    def _arrives(self, data: bytes, cuts: Sequence[int] = ()) -> None:
        for piece in cut(data, *cuts):
            self.wire.send(piece)
            self.model.arrives(piece)
            self.holds()

    @precondition(_goes_on)
    @rule()
    def exchange(self) -> None:
        """Both sides say something."""
        self._arrives(self.maker.record(DATA, b"there") if self.maker.raw.send_seq < LAST else self.maker.record(REKEY))
        self._outcome(self.application.send_data(b"and back"), self.model.sends(b"and back"))

    @precondition(_goes_on)
    @rule(
        records=st.lists(st.sampled_from(sorted(_VALID)), min_size=1, max_size=4),
        cuts=st.lists(st.integers(1, 60), max_size=4),
    )
    def send_valid(self, records: list[str], cuts: list[int]) -> None:
        """Records that are what they should be, if they may come now, in pieces of these sizes and what is left."""
        self._arrives(b"".join(self.maker.record(*_VALID[name]) for name in records), cuts)

    @precondition(_goes_on)
    @rule(size=st.sampled_from(_SIZES), seed=st.integers(0, 3))
    def send_data(self, size: int, seed: int) -> None:
        """Data of this size."""
        self._arrives(self.maker.record(DATA, pattern(seed, size)))

    @precondition(_goes_on)
    @rule(
        records=st.lists(st.sampled_from(sorted(_VALID | _INVALID)), max_size=3),
        last=st.sampled_from(sorted(_INVALID)),
        behind=st.sampled_from(("", "data", "bye")),
    )
    def send_invalid(self, records: list[str], last: str, behind: str) -> None:
        """Records in one piece, of which one breaks a rule."""
        names = [*records, last, *([behind] if behind else [])]
        self._arrives(b"".join(self.maker.record(*(_VALID | _INVALID)[name]) for name in names))

    @precondition(_goes_on)
    @rule(type_=st.sampled_from(_TYPES), size=st.sampled_from((0, 1, 16, 65_536)))
    def send_type(self, type_: int, size: int) -> None:
        """A record of any type with a payload of any size."""
        self._arrives(self.maker.record(type_, pattern(0, size)))

    @precondition(_goes_on)
    @rule(code=st.sampled_from(_CODES), text=st.sampled_from(_TEXTS))
    def send_error(self, code: int, text: bytes) -> None:
        """A valid Error."""
        self._arrives(self.maker.record(ERROR, error_payload(code, text)))

    @precondition(_goes_on)
    @rule(payload=st.sampled_from(_BAD_ERRORS))
    def send_bad_error(self, payload: bytes) -> None:
        """An Error whose payload is no ErrorBody."""
        self._arrives(self.maker.record(ERROR, payload))

    @precondition(_goes_on)
    @rule(
        count=st.integers(60, 130), name=st.sampled_from(("keepalive", "byte")), behind=st.sampled_from(("data", "bye"))
    )
    def send_many(self, count: int, name: str, behind: str) -> None:
        """Many records that say little, in one piece, and one that says more."""
        self._arrives(b"".join(self.maker.record(*_VALID[one]) for one in (*[name] * count, behind)))

    @precondition(_goes_on)
    @rule(count=st.sampled_from((15, 16)), less=st.sampled_from((0, 1)), closes=st.booleans())
    def flood(self, count: int, less: int, closes: bool) -> None:
        """As much Data as a closing application waits for, or a little less, in one piece; and a little more.

        Records of the largest size are what it is made of, as far as this generation has room for them.
        """
        if closes and not self.model.parting:
            self.target_ends(True)
        room = LAST - self.maker.raw.send_seq
        sizes = ([65_536] * (count - 1) + [65_536 - less, 1])[:room]
        for size in sizes:
            self.model.arrives(frame := self.maker.record(DATA, bytes(size)))
            self.wire.send(frame)
            assert self.wire.closed == self.model.closed, (
                f"after {self.model.thrown_away} bytes the target has {'' if self.wire.closed else 'not '}closed"
            )

    # ---- what the peer sends, with one thing wrong ----

    @precondition(_goes_on)
    @rule(header=st.sampled_from(_HEADERS))
    def send_header(self, header: bytes) -> None:
        """A frame header, and nothing behind it."""
        self._arrives(header)

    @precondition(_goes_on)
    @rule(wrong=st.sampled_from(_WRONG), name=st.sampled_from(("data", "keepalive", "bye", "error", "rekey")))
    def send_wrong(self, wrong: str, name: str) -> None:
        """The next record, made as it should be but for one thing."""
        self._arrives(self._wrong(wrong, *_VALID[name]))

    def _one_of(self, what: str, number: int) -> bytes:
        match what:
            case "headers":
                return _HEADERS[number]
            case "wrong":
                return self._wrong(_WRONG[number], DATA, b"some data")
            case "errors":
                return self.maker.record(ERROR, _ERRORS[number])
        return self.maker.record(_TYPES[number // 2], bytes(number % 2))

    def _wrong(self, wrong: str, type_: int, payload: bytes) -> bytes:
        raw, length = self.maker.raw, len(payload) + 17
        right = b"\3" + length.to_bytes(3, "big")
        frame = raw.forge(type_, payload)
        match wrong:
            case "aad kind":
                return raw.forge(type_, payload, aad=b"\1" + right[1:])
            case "aad length":
                return raw.forge(type_, payload, aad=b"\3" + (length + 1).to_bytes(3, "big"))
            case "aad none":
                return raw.forge(type_, payload, aad=b"")
            case "header kind":
                return raw.forge(type_, payload, header=b"\2" + right[1:])
            case "header longer":
                return raw.forge(type_, payload, header=b"\3" + (length + 1).to_bytes(3, "big")) + b"\0"
            case "header shorter":
                return raw.forge(type_, payload + b"x", header=right, aad=right)[:-1]
            case "seq before":
                return self.maker.ahead(type_, payload, -1, 0) if raw.send_seq else flip(frame, 40)
            case "seq after":
                return self.maker.ahead(type_, payload, 1, 0)
            case "seq far":
                return self.maker.ahead(type_, payload, 256, 0)
            case "generation before":
                return self.maker.ahead(type_, payload, 0, -1)
            case "generation after":
                return self.maker.ahead(type_, payload, 0, 1)
            case "tag zero":
                return frame[:-16] + bytes(16)
            case "tag bit":
                return flip(frame, 8 * len(frame) - 1)
            case "body bit":
                return flip(frame, 8 * 4 + 7)
            case "no body":
                return b"\3" + (16).to_bytes(3, "big") + frame[-16:]
            case "reflected":
                other = type(raw)(self.secrets[0], self.secrets[1], seq=raw.send_seq)
                return other.forge(type_, payload)
        assert wrong == "other key", wrong
        return type(raw)(bytes(32), bytes(32), seq=raw.send_seq).forge(type_, payload)

    @rule(
        what=st.sampled_from(tuple(_EACH)),
        side=st.sampled_from(list(Side)),
        keepalive=st.sampled_from(_KEEPALIVES),
        start=st.sampled_from(_STARTS[:3]),
        first=st.integers(0, 4),
    )
    def send_each(self, what: str, side: Side, keepalive: int, start: str, first: int) -> None:
        """Everything that can be wrong in one way, each in a new session; a fifth of it where sessions cost more."""
        step = 5 if Can.BACK_PRESSURE in self.driver.can else 1
        for number in range(first % step, _EACH[what], step):
            self.begin(side, keepalive, start, 0)
            try:
                self._arrives(self._one_of(what, number))
            except AssertionError as exc:
                exc.add_note(f"number {number} of {what}")
                raise

    @precondition(_goes_on)
    @rule(
        kind=st.sampled_from(sorted(DAMAGE)),
        at=st.integers(0, 400),
        some=st.binary(min_size=1, max_size=5),
        name=st.sampled_from(sorted(_VALID)),
    )
    def send_damaged(self, kind: str, at: int, some: bytes, name: str) -> None:
        """The next record, damaged on its way."""
        self._arrives(damage(self.maker.record(*_VALID[name]), kind, at, some))

    @precondition(_goes_on)
    @rule(
        how=st.sampled_from(("replayed", "reflected", "doubled", "reordered", "lost")),
        first=st.sampled_from(("data", "keepalive", "rekey")),
        second=st.sampled_from(("byte", "bye", "data")),
        number=st.integers(-3, 2),
    )
    def send_misplaced(self, how: str, first: str, second: str, number: int) -> None:
        """Records as they were made, in another order, another time, or the other direction."""
        sources = {"replayed": self.maker.frames, "reflected": self.maker.heard}
        if how in sources:
            frames = sources[how] or [self.maker.record(*_VALID[second])]
            self._arrives(frames[number % len(frames)])
            return
        one, other = self.maker.record(*_VALID[first]), self.maker.record(*_VALID[second])
        self._arrives({"doubled": one + one + other, "reordered": other + one, "lost": other}[how])

    @precondition(_goes_on)
    @rule(name=st.sampled_from(sorted(_VALID)), missing=st.sampled_from((1, 16, 17)), reset=st.booleans())
    def break_off(self, name: str, missing: int, reset: bool) -> None:
        """The connection ends within a record."""
        self._arrives(self.maker.record(*_VALID[name])[:-missing])
        self.end_transport(reset)

    @precondition(_goes_on)
    @rule(records=st.lists(st.sampled_from(("data", "bye", "keepalive")), max_size=2), reset=st.booleans())
    def send_and_end(self, records: list[str], reset: bool) -> None:
        """Records, and the end of the connection behind them."""
        for name in records:
            self._arrives(self.maker.record(*_VALID[name]))
        self.end_transport(reset)

    def end_transport(self, reset: bool) -> None:
        """The attacker closes, or the connection breaks."""
        if reset and (self.model.waits or self.model.closed):
            self.wire.reset()
        else:
            self.wire.close()
        self.model.transport_ends()
        self.holds()

    # ---- the application ----

    @precondition(_goes_on)
    @rule(size=st.sampled_from((*_SIZES, 65_537, 131_073)), seed=st.integers(0, 3))
    def target_sends(self, size: int, seed: int) -> None:
        """The application sends data."""
        data = pattern(seed, size)
        self._outcome(self.application.send_data(data), self.model.sends(data))

    @precondition(_goes_on)
    @rule(closes=st.booleans())
    def target_ends(self, closes: bool) -> None:
        """The application ends its direction, or closes."""
        if closes:
            self.application.close()
            self.model.application_closes()
            self.holds()
        else:
            self._outcome(self.application.send_bye(), self.model.says_bye())

    @precondition(lambda self: _goes_on(self) and not self.model.parting)
    @rule(code=st.integers(1, 8), text=st.sampled_from(_OWN_TEXTS))
    def target_fails(self, code: int, text: str) -> None:
        """The application ends the session with Error."""
        self._outcome(self.application.send_error(ErrorCode(code), text), self.model.says_error(code))

    @precondition(lambda self: _goes_on(self) or not self.model.reading)
    @rule(again=st.booleans())
    def target_reads(self, again: bool) -> None:
        """The application takes nothing more, or takes what has come meanwhile."""
        if again:
            self.application.read_again()
            self.model.reads_again()
        elif _goes_on(self):
            self.application.stop_reading()
            self.model.stops_reading()
        self.holds()

    def _outcome(self, outcome: Outcome, served: bool) -> None:
        expected = Outcome.DONE if served else Outcome.REFUSED
        assert outcome is expected, (
            f"the application was told {outcome.name} in {self.model.state}, not {expected.name}"
        )
        self.holds()

    @precondition(lambda self: not self.model.is_speaking)
    @rule(
        what=st.sampled_from(("data", "bye", "error", "close")),
        records=st.lists(st.sampled_from(sorted(_VALID | _INVALID)), max_size=2),
        ends=st.booleans(),
    )
    def go_on_behind_the_end(self, what: str, records: list[str], ends: bool) -> None:
        """Whoever asks for something now is refused; what arrives is thrown away; then the connection may end."""
        if records and not self.model.cut:
            self._arrives(b"".join(self.maker.record(*(_VALID | _INVALID)[name]) for name in records))
        if what == "close":
            self.application.close()
            self.model.application_closes()
            self.holds()
        elif what == "error" and not self.model.parting:
            self._outcome(self.application.send_error(ErrorCode.INTERNAL), self.model.says_error(5))
        elif what == "bye":
            self._outcome(self.application.send_bye(), self.model.says_bye())
        else:
            self._outcome(self.application.send_data(b"x"), self.model.sends(b"x"))
        if ends:
            self.end_transport(False)

    # ---- back-pressure ----

    @precondition(lambda self: Can.BACK_PRESSURE in self.driver.can)
    @rule(
        size=st.sampled_from((70_000, 200_000)),
        meanwhile=st.lists(st.sampled_from(("data", "bye", "keepalive")), max_size=2),
        takes=st.booleans(),
    )
    def target_writes_to_nobody(self, size: int, meanwhile: list[str], takes: bool) -> None:
        """The attacker takes nothing while the application sends, and sends itself; it takes on, or never."""
        if self.model.keepalive or self.model.cut or not (self.model.reading and self.model.can_send):
            self._abandon()
        data = pattern(1, size)
        self.wire.stop_taking()
        outcome = self.application.send_data(data)
        assert outcome is Outcome.WAITING, f"{size} bytes were written to one who takes nothing: {outcome.name}"
        for name in meanwhile:
            self.wire.send(frame := self.maker.record(*_VALID[name]))
            self.model.arrives(frame)
            self._check_told()
        if not self.model.can_send:  # the attacker has gone too far: what has been written by then is not known
            self._abandon()
        elif takes:
            self.model.sends(data)
            self.wire.take_again()
            self.holds()
        else:
            self.driver.pass_time(limit("WRITE_DEADLINE") - _TICK)
            assert not self.wire.closed, "the target gave up before its time"
            self.driver.pass_time(_TICK)
            assert self.wire.closed, "the target waits for ever for one who takes nothing"
            told = self.application.told()
            assert told == [GotFailure("WriteStalled")], f"the application was told {told}, not that nobody reads"
            self._abandon()

    def _abandon(self) -> None:
        """Go on with another session."""
        self.begin(Side.RESPONDER, 0, "OPEN", 0)

    # ---- time ----

    @precondition(lambda self: not self.model.cut and not self.model.closed)
    @rule(seconds=st.sampled_from((_TICK, 0.5, 1.0, 2.875, 5.0, 10.0, 30.0, 3600.0, 3600.125)))
    def pass_time(self, seconds: float) -> None:
        """So much time."""
        self._pass(seconds)

    @precondition(lambda self: not self.model.cut and not self.model.closed)
    @rule(clock=st.sampled_from(("linger", "silence", "keepalive")), more=st.sampled_from((-1, 0, 1)))
    def pass_to_the_limit(self, clock: str, more: int) -> None:
        """Until a clock runs out, or just before that or behind it."""
        due = {"linger": self.model.linger_at, "silence": self.model.silence_at, "keepalive": self.model.keepalive_at}
        if due[clock] < math.inf:
            self._pass(due[clock] - self.model.now + more * _TICK)

    @precondition(lambda self: _goes_on(self) and self.model.sending.first_sealed_at is not None)
    @rule(more=st.sampled_from((-1, 0, 1)), size=st.sampled_from((1, 65_537)))
    def pass_the_age(self, more: int, size: int) -> None:
        """Until a generation's age is reached, or just before that or behind it; then the application sends."""
        first = self.model.sending.first_sealed_at
        assert first is not None
        self._pass(first + limit("GENERATION_AGE") - self.model.now + more * _TICK)
        self.target_sends(size, 0)

    @precondition(_goes_on)
    @rule(rounds=st.integers(1, 4), name=st.sampled_from(("parts", "keepalive", "data", "rekey")))
    def pass_with_records(self, rounds: int, name: str) -> None:
        """The peer says something just before the silence is too long, each time; or it says a part of it."""
        for _ in range(rounds):
            if self.model.silence_at == math.inf:
                return
            self._pass(self.model.silence_at - self.model.now - _TICK)
            if name == "parts":  # that are no record until the last of them comes
                frame = self.maker.record(*_VALID["data"])
                for start, end in ((0, 2), (2, 9), (9, len(frame))):
                    self._arrives(frame[start:end])
                    self._pass(_TICK / 2)
            else:
                self._arrives(self.maker.record(*_VALID[name]))

    @rule(
        side=st.sampled_from(list(Side)),
        keepalive=st.sampled_from((*_KEEPALIVES, 1000)),
        words=st.lists(st.sampled_from(sorted(_WORDS)), min_size=1, max_size=8),
    )
    def begin_with(self, side: Side, keepalive: int, words: list[str]) -> None:
        """Another session, and what happens in it first."""
        self.begin(side, keepalive, "OPEN", 0)
        for word in words:
            if _goes_on(self):
                _WORDS[word](self)

    def _pass(self, seconds: float) -> None:
        if self.model.is_tied:  # either may be the first: stop before
            seconds = min(seconds, self.model.linger_at - self.model.now - _TICK)
        if self.model.keepalive and self.model.waits:  # not thousands of keepalives
            seconds = min(seconds, 5 * self.model.keepalive + limit("HANDSHAKE_DEADLINE"))
        if seconds > 0:
            self.driver.pass_time(seconds)
            self.model.time_passes(seconds)
        self.holds()

    # ---- sequence numbers ----

    @precondition(lambda self: _goes_on(self) and Can.PLACE in self.driver.can)
    @rule(sending=st.booleans(), seq=st.sampled_from((LAST, LAST - 1, LAST - 2, 255, 2**16)))
    def place(self, sending: bool, seq: int) -> None:
        """So many records have been sent in this generation, by one side or the other."""
        if sending and self.model.sending.seq <= seq:
            self.wire.place_seal(seq)
            self.maker.raw.receive_seq = self.model.sending.seq = seq
            if self.model.sending.first_sealed_at is None:
                self.model.sending.first_sealed_at = self.model.now
        elif not sending and not self.model.buffer and self.model.receiving[1] <= seq:
            self.wire.place_open(seq)
            self.maker.raw.send_seq = self.model.receiving[1] = seq

    # ---- what has to be true ----

    @invariant()
    def holds(self) -> None:
        """The target is, has said and has told what the model has it."""
        self._check_sent()
        self._check_told()
        state = self.wire.state
        assert state == self.model.state, f"the target is in {state}, not in {self.model.state}"
        assert self.wire.closed == self.model.closed, (
            f"the target has {'' if self.wire.closed else 'not '}closed in {self.model.state}"
        )
        found = self.wire.established
        if found is not None:
            if self.model.waits:
                assert found.reader.unread == len(self.model.buffer), (
                    f"the target holds {found.reader.unread} bytes of a record that has {len(self.model.buffer)} yet"
                )
            self._check_erased(found)

    def _check_sent(self) -> None:
        sent = [Record.of(*one) for one in self.maker.open(self.wire.received())]
        assert sent in self.model.sent, f"the target has sent {sent} in {self.model.state}, not " + " or ".join(
            map(str, self.model.sent)
        )
        self.model.sent = [[]]

    def _check_told(self) -> None:
        told = self.application.told()
        failures = [one for one in told if isinstance(one, GotFailure)]
        assert self._told(told) == _joined(self.model.told), (
            f"the application was told {_shown(self._told(told))}, not {_shown(_joined(self.model.told))}"
        )
        self.model.told = []
        due, self_closed = self.model.failure, self.model.parting
        if failures:
            assert due is not None, f"the application was told of {failures[0]}, which did not happen"
            assert told[-1] is failures[0], f"a failure is not the last thing told: {told}"
            assert failures[0].error in due.errors, f"the application was told of {failures[0]}, not of {due}"
            assert failures[0].code == due.code, f"the application was told of {failures[0]}, not of {due}"
            assert failures[0].text == due.text, f"the text of an Error is {failures[0].text!r}, not {due.text!r}"
            self.model.failure = None
        elif self.model.closed and due is not None and not self_closed:
            raise AssertionError(f"the session is over, and the application was not told of {due}")

    def _told(self, told: Sequence[object]) -> list[bytes | None]:
        return _joined(
            [one.data if isinstance(one, GotData) else None for one in told if isinstance(one, GotData | GotEnd)]
        )

    def _check_erased(self, found: Established) -> None:
        """The keys of generations that are over are gone, and all of them when the session has closed."""
        model = self.model
        now = (model.sending.generation, model.receiving[0])
        if model.closed:
            now = (now[0] + 1, now[1] + 1)
        for keys, first, before, generation in zip(
            (found.sealer, found.opener), self.secrets, self.erased, now, strict=True
        ):
            for number in range(before, generation):
                secret, key, iv, next_secret = secrets_of(first, number)
                old = (secret, key, iv, next_secret) if model.closed else (secret, key, iv)
                left = [one for one in held(keys, old) if model.closed or one != "a key"]
                assert not left, f"secrets of generation {number} are still there: {left}"
        self.erased = now


def _joined(told: Sequence[bytes | None]) -> list[bytes | None]:
    joined: list[bytes | None] = []
    for one in told:
        last = joined[-1] if joined else None
        if one is not None and last is not None:
            joined[-1] = last + one
        else:
            joined.append(one)
    return joined


def _shown(told: Sequence[bytes | None]) -> list[str]:
    return ["the end" if one is None else f"{len(one)} bytes {one[:8].hex()}..." for one in told]


# ---- the core against the state table ----------------------------------------

# What can be done to the core, by the event that it is. SEND_REKEY has no call of its own: it is raised where one is
# due. LINGER_PASSED comes late at most: nobody measures that time before.
_EVENTS = (
    "SEND_DATA",
    "SEND_KEEPALIVE",
    "SEND_REKEY",
    "SEND_BYE",
    "SEND_ERROR",
    "DATA_OPENED",
    "KEEPALIVE_OPENED",
    "REKEY_OPENED",
    "BYE_OPENED",
    "ERROR_OPENED",
    "ERROR_MALFORMED",
    "VIOLATION",
    "TRANSPORT_CLOSED",
    "SILENCE_PASSED",
    "LINGER_PASSED",
)
_WAYS: dict[str, tuple[str, ...]] = {  # how a session comes into a state
    "OPEN": (),
    "BYE_SENT": ("SEND_BYE",),
    "BYE_RECEIVED": ("BYE_OPENED",),
    "DRAINING": ("BYE_OPENED", "SEND_BYE"),
    "FAILING": ("SEND_ERROR",),
    "CLOSED": ("SEND_BYE", "BYE_OPENED"),
    "FAILED": ("TRANSPORT_CLOSED",),
}
_OPENED = {
    "DATA_OPENED": "data",
    "KEEPALIVE_OPENED": "keepalive",
    "REKEY_OPENED": "rekey",
    "BYE_OPENED": "bye",
    "ERROR_OPENED": "error",
}


class TableMachine(TargetMachine):
    """The core of a session, and every event in every state."""

    @initialize(side=st.sampled_from(list(Side)), keepalive=st.sampled_from((1000, 15_000)))
    def begin(self, side: Side, keepalive: int) -> None:
        """A core with keepalives, without a driver."""
        check_known_answer()
        self.now = self.driver.now
        self.side, self.keepalive = side, keepalive
        self._new()

    def _new(self) -> None:
        self.established = confirmed(established(self.side, keepalive=self.keepalive), self.now)
        self.core = Connection(self.established, self.now)
        self.maker = Maker(raw_peer(self.side))
        self.model = SessionModel(self.side, self.keepalive, self.maker.made, self.now)
        self.heard = False

    @rule(
        state=st.sampled_from(tuple(_WAYS)),
        events=st.lists(st.sampled_from(_EVENTS), min_size=1, max_size=6),
        seconds=st.sampled_from((0.0, 0.5, 3600.0, 3600.125)),
    )
    def walk(self, state: str, events: list[str], seconds: float) -> None:
        """A new session, brought into a state; then these events, so much time between them."""
        self._new()
        for event in _WAYS[state]:
            self._take(event)
        assert self.core.state == state, f"{_WAYS[state]} leads to {self.core.state}, not to {state}"
        for event in events:
            self.now += seconds
            self._take(event)

    @rule(state=st.sampled_from(tuple(_WAYS)))
    def try_everything(self, state: str) -> None:
        """Every event in this state, each in a new session."""
        for event in _EVENTS:
            self.walk(state, [event], 0.0)

    def _take(self, event: str) -> None:
        """One event, held against its row."""
        before = self.core.state
        actions, state = row("Session", before, event)
        if event == "LINGER_PASSED" and before in SPEAKING:
            return
        self.core.answer.clear()
        if event.startswith("SEND_"):
            self._send(event, actions)
        elif event == "SILENCE_PASSED":
            self.core.wait_begins(self.now)
            self.core.wait_ends(self.now)
            assert isinstance(self.core.silence_passed(self.now), KeepaliveTimeout)
        elif event == "LINGER_PASSED":
            self.core.linger_passed(self.now)
        elif event == "TRANSPORT_CLOSED":
            self._receive(event, b"", actions)
        elif event == "ERROR_MALFORMED":
            self._receive(event, self._made(ERROR, b"\0"), actions)
        elif event == "VIOLATION":
            self._receive(event, self.maker.raw.forge(KEEPALIVE, aad=b""), actions)
        else:
            self._receive(event, self._made(*_VALID[_OPENED[event]]), actions)
        assert self.core.state == state, f"{event} in {before} leads to {self.core.state}, not to {state}"
        self._check_answer(event, before, actions)
        if state in ("CLOSED", "FAILED") and state != before:
            for first, generation, keys in self._generations():
                left = held(keys, secrets_of(first, generation))
                assert not left, f"in {state} keys are still there: {left}"
        self.heard |= before in SPEAKING and event in ("DATA_OPENED", "KEEPALIVE_OPENED", "REKEY_OPENED")
        assert self.core.has_heard == self.heard, f"has_heard is {self.core.has_heard} behind {event} [LK-2]"
        assert self.core.is_over == (state not in SPEAKING), f"is_over is {self.core.is_over} in {state}"
        assert self.core.can_send_data == (state in ("OPEN", "BYE_RECEIVED")), f"can_send_data is wrong in {state}"

    def _generations(self) -> list[tuple[bytes, int, object]]:
        sealing, opening = (R2I, I2R) if self.side is Side.RESPONDER else (I2R, R2I)
        sealer, opener = self.established.sealer, self.established.opener
        return [(sealing, sealer.generation, self.core), (opening, opener.generation, self.core)]

    def _made(self, type_: int, payload: bytes) -> bytes:
        """A record that may come next: Rekey not as the first one."""
        if type_ == REKEY and not self.maker.raw.send_seq:
            self.core.receive_data(self.maker.record(KEEPALIVE))
            assert isinstance(self.core.next_event(self.now), NeedData), "a KeepAlive is no NeedData"
        return self.maker.record(type_, payload)

    # ---- what is sent ----

    def _send(self, event: str, actions: Sequence[str]) -> None:
        if event == "SEND_REKEY":
            if self.model.sending.first_sealed_at is None and "seal" in actions:
                self._seals("SEND_KEEPALIVE", True)
            place_seal(self.established.sealer, LAST, self.now)
            self.maker.raw.receive_seq = self.model.sending.seq = LAST
            if self.model.sending.first_sealed_at is None:
                self.model.sending.first_sealed_at = self.now
            event = "SEND_KEEPALIVE" if "seal" in actions else "SEND_DATA"
        self._seals(event, "seal" in actions)

    def _seals(self, event: str, served: bool) -> None:
        """What the application asks for is sealed, or refused and without a trace."""
        calls: dict[str, tuple[Callable[[], bytearray], Record]] = {
            "SEND_DATA": (lambda: self.core.send_data(b"some data", self.now), Record(DATA, b"some data")),
            "SEND_KEEPALIVE": (lambda: self.core.send_keepalive(self.now), Record(KEEPALIVE)),
            "SEND_BYE": (lambda: self.core.send_bye(self.now), Record(BYE)),
            "SEND_ERROR": (
                lambda: self.core.send_error(ErrorCode.INTERNAL, "text", self.now),
                Record(ERROR, code=error_codes()["internal"]),
            ),
        }
        call, record = calls[event]
        before = self.core.state
        try:
            frame = call()
        except UsageError:
            assert not served, f"{event} in {before} was refused"
            return
        assert served, f"{event} in {before} was not refused"
        self._check_sealed(frame, record)

    def _check_sealed(self, frame: bytes | bytearray, record: Record) -> None:
        sealed = [Record.of(*one) for one in self.maker.open(bytes(frame))]
        expected = self.model.sending.seal(record, self.now)
        assert sealed == expected, f"{sealed} was sealed, not {expected}"

    def _check_answer(self, event: str, before: str, actions: Sequence[str]) -> None:
        """One Error where the table has one, and nothing else where it has not."""
        answers = [action for action in actions if action.startswith("send Error(")]
        if not answers:
            assert not self.core.answer, f"{event} in {before} is answered with {len(self.core.answer)} bytes"
            return
        code = error_codes()[answers[0][len("send Error(") : -1]]
        self._check_sealed(self.core.answer, Record(ERROR, code=code))

    # ---- what arrives ----

    def _receive(self, event: str, data: bytes, actions: Sequence[str]) -> None:
        """Bytes, or their end; what comes out has to be what the row says."""
        before = self.core.state
        self.core.receive_data(data)
        raised: XLatticeError | None = None
        got: SessionEvent | None = None
        try:
            got = self.core.next_event(self.now)
        except (PeerError, PeerReported) as exc:
            raised = exc
        if "deliver" in actions:
            assert isinstance(got, DataReceived), f"{event} in {before} delivers nothing"
            assert bytes(got.data) == _VALID["data"][1], f"{bytes(got.data)!r} was delivered"
        elif "report end of data" in actions:
            assert isinstance(got, EndOfData), f"{event} in {before} does not report the end"
        elif "report the error" in actions:
            assert isinstance(raised, PeerReported), f"{event} in {before} does not report the error"
            assert (raised.code, raised.text) == (5, "text"), f"the error is reported as {raised.code}, {raised.text!r}"
        elif "report truncation" in actions:
            assert type(raised).__name__ == "Truncated", f"{event} in {before} does not report a truncation"
        elif any(action.startswith("send Error(") for action in actions) or event == "ERROR_MALFORMED":
            violation = type(raised).__name__ in ("RecordError", "DecodeError")
            assert violation or before not in SPEAKING, f"{event} in {before} is reported as {raised!r}"
        else:
            assert raised is None, f"{event} in {before} is reported as {raised!r}"
            assert isinstance(got, NeedData), f"{event} in {before} gives {got}"

    # ---- what callers may ask ----

    @rule(size=st.sampled_from((0, 65_537)), state=st.sampled_from(("OPEN", "BYE_RECEIVED")))
    def send_a_wrong_size(self, size: int, state: str) -> None:
        """Data that no record can have is refused, and leaves no trace."""
        self._new()
        for event in _WAYS[state]:
            self._take(event)
        try:
            self.core.send_data(bytes(size), self.now)
        except UsageError:
            self._take("SEND_DATA")
            return
        raise AssertionError(f"Data of {size} bytes was sealed")

    @rule(seconds=st.sampled_from((0.0, 1.0, 3600.0)))
    def without_keepalives(self, seconds: float) -> None:
        """In a session that has none, no timer runs, and to ask for a KeepAlive is refused."""
        now = self.now + seconds
        core = Connection(confirmed(established(self.side), self.now), self.now)
        assert core.keepalive_at() == math.inf == core.wait_begins(now), "a timer runs without keepalives"
        try:
            core.send_keepalive(now)
        except UsageError:
            return
        raise AssertionError("a KeepAlive was sealed in a session without keepalives")


MACHINES = (
    MachineInfo(
        "session",
        "data arrives whole and in order or its loss is reported, and all else is as Spec 6 has it",
        SessionMachine,
        drivers=("sansio", "memory"),
        share=2.0,
    ),
    MachineInfo(
        "session-table",
        "the core of a session takes every row of its state table, and no other",
        TableMachine,
        drivers=("sansio",),
        tables=("SESSION",),
    ),
)
