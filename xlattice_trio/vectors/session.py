"""Sessions: one side, stepped by what its application wants, by what arrives and by time. Spec 6.

The operation drives a `session.connection.Connection` as `net.stream` does, with a transport that takes everything at
once and a clock that is moved by hand. The cases are in `session_scripts`, and say beforehand what comes out of every
step.
"""

import math
from collections.abc import Callable

from xlattice_trio.errors import DecodeError, ErrorCode, PeerReported, RecordError, Truncated, UsageError
from xlattice_trio.handshake.outcome import Established, Side
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import BYE_LINGER, CLUSTER_ID_SIZE, ERROR_LINGER, KEY_SIZE, NODE_ID_LONG
from xlattice_trio.session.connection import Connection, DataReceived, EndOfData, NeedData
from xlattice_trio.session.transitions import State
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Area, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.records import LAST, opener_at, refused, sealer_at
from xlattice_trio.vectors.schema import Schema, any_of, array, data, integer, obj, one_of, true
from xlattice_trio.vectors.session_scripts import cases
from xlattice_trio.wire.framing import FrameReader
from xlattice_trio.wire.messages import Purpose, Role

_LINGER = {State.DRAINING: BYE_LINGER * 1000, State.FAILING: ERROR_LINGER * 1000}  # milliseconds


# ---- one side ----------------------------------------------------------------


class _Session:
    """One side of a session. Times are milliseconds since its own ESTABLISHED."""

    def __init__(self, given: Json) -> None:
        side = Side(given["side"])
        i2r, r2i = ((bytes.fromhex(given[name]), given.get(f"{name}_seq", seq)) for name, seq in _FIRST_SEQ.items())
        own, peer = (i2r, r2i) if side is Side.INITIATOR else (r2i, i2r)
        established = Established(
            side=side,
            role=Role.ANONYMOUS,
            purpose=Purpose.STREAM,
            service="",
            cluster_id=bytes(CLUSTER_ID_SIZE),
            initiator=None,
            recipient=NodeID(bytes(NODE_ID_LONG)),
            keepalive=given["keepalive"],
            epoch=1,
            transcript_hash=bytes(KEY_SIZE),
            exporter=bytes(KEY_SIZE),
            sealer=sealer_at(*own, 0.0),
            opener=opener_at(*peer),
            reader=FrameReader(),
        )
        deadline = given["handshake_deadline"] / 1000
        self._connection = Connection(established, 0.0, handshake_deadline=deadline)
        self._now = 0
        self._lingers_until = math.inf
        self._sent = bytearray()
        self._events: list[Json] = []
        self.refused: Refused | None = None

    @property
    def _seconds(self) -> float:
        return self._now / 1000

    def step(self, step: Json) -> Json:
        """Does one step, and says what came of it."""
        self._sent, self._events = bytearray(), []
        connection = self._connection
        match step["do"]:
            case "send_data":
                self._send(lambda now: connection.send_data(bytes.fromhex(step["payload"]), now))
            case "send_keepalive":
                self._send(connection.send_keepalive)
            case "send_bye":
                self._send(connection.send_bye)
            case "send_error":
                code, text = ErrorCode[step["code"].upper()], bytes.fromhex(step["text"]).decode()
                self._send(lambda now: connection.send_error(code, text, now))
            case "receive":
                connection.receive_data(bytes.fromhex(step["bytes"]))
                self._take_events()
            case "transport_closed":
                connection.receive_data(b"")
                self._take_events()
            case "wait":
                self._pass(step["ms"], is_waiting=True)
            case "hold":
                self._pass(step["ms"], is_waiting=False)
        return {"sent": self._sent.hex(), "events": self._events, "state": self._connection.state.value}

    # ---- what is sent, what arrives ----

    def _send(self, seal: Callable[[float], bytearray]) -> None:
        try:
            self._sent += seal(self._seconds)
        except UsageError:
            self._events.append({"refused": True})
        self._look_at_state()

    def _take_events(self) -> None:
        delivered = bytearray()
        try:
            while not isinstance(event := self._connection.next_event(self._seconds), NeedData):
                if isinstance(event, DataReceived):
                    delivered += event.data
                elif isinstance(event, EndOfData):
                    self._report_data(delivered)
                    delivered = bytearray()
                    self._events.append({"end_of_data": True})
            self._report_data(delivered)
        except PeerReported as exc:
            self._report_data(delivered)
            self._events.append({"error": exc.code.name.lower(), "text": exc.text.encode().hex()})
        except Truncated as exc:
            self._report_data(delivered)
            self._events.append({"truncation": True})
            self.refused = Refused(FailLayer.SESSION, "SE-65", problem=str(exc))
        except (RecordError, DecodeError) as exc:
            self._report_data(delivered)
            self._events.append({"violation": True})
            self._sent += self._connection.answer
            self.refused = refused(exc)
        self._look_at_state()

    def _report_data(self, delivered: bytearray) -> None:
        if delivered:
            self._events.append({"data": delivered.hex()})

    def _look_at_state(self) -> None:
        if self._lingers_until == math.inf:
            self._lingers_until = self._now + _LINGER.get(self._connection.state, math.inf)

    # ---- time ----

    def _pass(self, ms: int, *, is_waiting: bool) -> None:
        """Let time pass; what becomes due in it happens. Of two at one moment, the end of patience comes first."""
        end = self._now + ms
        while True:
            silent_at = self._now + (self._ms(self._connection.wait_begins(self._seconds)) if is_waiting else math.inf)
            keepalive_at = self._ms(self._connection.keepalive_at())
            due = min(silent_at, self._lingers_until, keepalive_at)
            self._now = int(min(due, end))
            if is_waiting:
                self._connection.wait_ends(self._seconds)
            if due > end:
                return
            if due == silent_at:
                self._connection.silence_passed(self._seconds)
                self._sent += self._connection.answer
                self._events.append({"keepalive_timeout": True})
            elif due == self._lingers_until:
                self._connection.linger_passed(self._seconds)
                self._lingers_until = math.inf
            else:
                self._sent += self._connection.send_keepalive(self._seconds)
            self._look_at_state()

    @staticmethod
    def _ms(seconds: float) -> float:
        return seconds if seconds == math.inf else round(seconds * 1000)


_FIRST_SEQ = {"i2r": 1, "r2i": 0}  # Confirm was sent or opened


# ---- the operation -----------------------------------------------------------


def _session(given: Json, _fixtures: Fixtures) -> Json:
    session = _Session(given)
    output = {"steps": [session.step(step) for step in given["steps"]]}
    if session.refused is not None:
        session.refused.output = output
        raise session.refused
    return output


def _action(do: str, **keys: Schema) -> Schema:
    return obj({"do": one_of(do), **keys})


_CODE = one_of(*(code.name.lower() for code in ErrorCode))
_ACTION = any_of(
    _action("send_data", payload=data()),
    _action("send_keepalive"),
    _action("send_bye"),
    _action("send_error", code=_CODE, text=data()),
    _action("receive", bytes=data()),
    _action("transport_closed"),
    _action("wait", ms=integer(1)),
    _action("hold", ms=integer(1)),
)
_EVENT = any_of(
    obj({"data": data()}),
    obj({"error": _CODE, "text": data()}),
    *(obj({what: true()}) for what in ("end_of_data", "truncation", "violation", "keepalive_timeout", "refused")),
)
_OUTPUT = obj(
    {"steps": array(obj({"sent": data(), "events": array(_EVENT), "state": one_of(*(state.value for state in State))}))}
)
OPS = {
    "session": Op(
        _session,
        obj(
            {
                "side": one_of(*(side.value for side in Side)),
                "keepalive": integer(),
                "handshake_deadline": integer(),
                "i2r": data(KEY_SIZE),
                "r2i": data(KEY_SIZE),
                "steps": array(_ACTION, 1),
            },
            {"i2r_seq": integer(1, LAST), "r2i_seq": integer(1, LAST)},
        ),
        _OUTPUT,
        refused_output=_OUTPUT,
    )
}

AREA = Area("session", "One side of a session, stepped (6)", OPS, cases)
