"""The three state machines, every state with every event: the tables, and a connection driven through its own.

What is expected is written out, default rows included. Spec 5.15, 6.12.
"""

import enum
from collections.abc import Mapping
from typing import Any

import pytest

from tests.pairs import NOW, RawPeer, established
from xlattice_trio.errors import (
    DecodeError,
    ErrorCode,
    KeepaliveTimeout,
    PeerReported,
    RecordError,
    Truncated,
    UsageError,
)
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.handshake.transitions import (
    INITIATOR,
    RESPONDER,
    InitiatorEvent,
    InitiatorState,
    ResponderEvent,
    ResponderState,
)
from xlattice_trio.limits import GENERATION_AGE
from xlattice_trio.machine import ANY, next_state
from xlattice_trio.session.connection import Connection, DataReceived, EndOfData
from xlattice_trio.session.transitions import SESSION, Event, State

EXPECTED_INITIATOR = {
    ("START", "HELLO_MADE"): ("send Hello", "AWAIT_REPLY"),
    ("START", "REPLY_VERIFIED"): ("close", "FAILED"),
    ("START", "REPLY_REFUSED"): ("close", "FAILED"),
    ("START", "DEADLINE_PASSED"): ("close", "FAILED"),
    ("START", "TRANSPORT_CLOSED"): ("close", "FAILED"),
    ("AWAIT_REPLY", "HELLO_MADE"): ("close", "FAILED"),
    ("AWAIT_REPLY", "REPLY_VERIFIED"): ("send Confirm", "ESTABLISHED"),
    ("AWAIT_REPLY", "REPLY_REFUSED"): ("close", "FAILED"),
    ("AWAIT_REPLY", "DEADLINE_PASSED"): ("close", "FAILED"),
    ("AWAIT_REPLY", "TRANSPORT_CLOSED"): ("close", "FAILED"),
    ("ESTABLISHED", "HELLO_MADE"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "REPLY_VERIFIED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "REPLY_REFUSED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "DEADLINE_PASSED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "TRANSPORT_CLOSED"): ("nothing", "ESTABLISHED"),
    ("FAILED", "HELLO_MADE"): ("nothing", "FAILED"),
    ("FAILED", "REPLY_VERIFIED"): ("nothing", "FAILED"),
    ("FAILED", "REPLY_REFUSED"): ("nothing", "FAILED"),
    ("FAILED", "DEADLINE_PASSED"): ("nothing", "FAILED"),
    ("FAILED", "TRANSPORT_CLOSED"): ("nothing", "FAILED"),
}

EXPECTED_RESPONDER = {
    ("AWAIT_HELLO", "HELLO_VERIFIED"): ("send HelloReply", "AWAIT_CONFIRM"),
    ("AWAIT_HELLO", "HELLO_REFUSED"): ("close", "IGNORED"),
    ("AWAIT_HELLO", "CONFIRM_OPENED"): ("close", "IGNORED"),
    ("AWAIT_HELLO", "CONFIRM_REFUSED"): ("close", "IGNORED"),
    ("AWAIT_HELLO", "DEADLINE_PASSED"): ("close", "IGNORED"),
    ("AWAIT_HELLO", "TRANSPORT_CLOSED"): ("close", "IGNORED"),
    ("AWAIT_CONFIRM", "HELLO_VERIFIED"): ("close", "IGNORED"),
    ("AWAIT_CONFIRM", "HELLO_REFUSED"): ("close", "IGNORED"),
    ("AWAIT_CONFIRM", "CONFIRM_OPENED"): ("nothing", "ESTABLISHED"),
    ("AWAIT_CONFIRM", "CONFIRM_REFUSED"): ("close", "IGNORED"),
    ("AWAIT_CONFIRM", "DEADLINE_PASSED"): ("close", "IGNORED"),
    ("AWAIT_CONFIRM", "TRANSPORT_CLOSED"): ("close", "IGNORED"),
    ("ESTABLISHED", "HELLO_VERIFIED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "HELLO_REFUSED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "CONFIRM_OPENED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "CONFIRM_REFUSED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "DEADLINE_PASSED"): ("nothing", "ESTABLISHED"),
    ("ESTABLISHED", "TRANSPORT_CLOSED"): ("nothing", "ESTABLISHED"),
    ("IGNORED", "HELLO_VERIFIED"): ("nothing", "IGNORED"),
    ("IGNORED", "HELLO_REFUSED"): ("nothing", "IGNORED"),
    ("IGNORED", "CONFIRM_OPENED"): ("nothing", "IGNORED"),
    ("IGNORED", "CONFIRM_REFUSED"): ("nothing", "IGNORED"),
    ("IGNORED", "DEADLINE_PASSED"): ("nothing", "IGNORED"),
    ("IGNORED", "TRANSPORT_CLOSED"): ("nothing", "IGNORED"),
}

SEAL, REFUSE, DISCARD = "seal", "refuse the caller", "discard"
VIOLATION, TIMEOUT = "send Error(protocol_violation)", "send Error(keepalive_timeout)"
ERROR, TRUNCATION = "report the error, close", "report truncation, close"

# the columns of the matrix below
EVENTS = [
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
]
ROWS: dict[str, list[tuple[str, str]]] = {
    "OPEN": [
        (SEAL, "OPEN"),
        (SEAL, "OPEN"),
        (SEAL, "OPEN"),
        (SEAL, "BYE_SENT"),
        (SEAL, "FAILING"),
        ("deliver", "OPEN"),
        ("nothing", "OPEN"),
        ("nothing", "OPEN"),
        ("report end of data", "BYE_RECEIVED"),
        (ERROR, "FAILED"),
        ("close", "FAILED"),
        (VIOLATION, "FAILING"),
        (TRUNCATION, "FAILED"),
        (TIMEOUT, "FAILING"),
        (VIOLATION, "FAILING"),
    ],
    "BYE_SENT": [
        (REFUSE, "BYE_SENT"),
        (SEAL, "BYE_SENT"),
        (SEAL, "BYE_SENT"),
        (REFUSE, "BYE_SENT"),
        (SEAL, "FAILING"),
        ("deliver", "BYE_SENT"),
        ("nothing", "BYE_SENT"),
        ("nothing", "BYE_SENT"),
        ("report end of data, close", "CLOSED"),
        (ERROR, "FAILED"),
        ("close", "FAILED"),
        (VIOLATION, "FAILING"),
        (TRUNCATION, "FAILED"),
        (TIMEOUT, "FAILING"),
        (VIOLATION, "FAILING"),
    ],
    "BYE_RECEIVED": [
        (SEAL, "BYE_RECEIVED"),
        (SEAL, "BYE_RECEIVED"),
        (SEAL, "BYE_RECEIVED"),
        (SEAL, "DRAINING"),
        (SEAL, "FAILING"),
        (VIOLATION, "FAILING"),
        ("nothing", "BYE_RECEIVED"),
        ("nothing", "BYE_RECEIVED"),
        (VIOLATION, "FAILING"),
        (ERROR, "FAILED"),
        ("close", "FAILED"),
        (VIOLATION, "FAILING"),
        ("close", "CLOSED"),
        (TIMEOUT, "FAILING"),
        (VIOLATION, "FAILING"),
    ],
    "DRAINING": [
        *[(REFUSE, "DRAINING")] * 5,
        *[(DISCARD, "DRAINING")] * 7,
        ("close", "CLOSED"),
        (DISCARD, "DRAINING"),
        ("close", "CLOSED"),
    ],
    "FAILING": [
        *[(REFUSE, "FAILING")] * 5,
        *[(DISCARD, "FAILING")] * 7,
        ("close", "FAILED"),
        (DISCARD, "FAILING"),
        ("close", "FAILED"),
    ],
    "CLOSED": [(REFUSE, "CLOSED")] * 15,
    "FAILED": [(REFUSE, "FAILED")] * 15,
}
EXPECTED_SESSION = {
    (state, event): row for state, rows in ROWS.items() for event, row in zip(EVENTS, rows, strict=True)
}


@pytest.mark.parametrize(
    ("table", "states", "events", "expected"),
    [
        (INITIATOR, InitiatorState, InitiatorEvent, EXPECTED_INITIATOR),
        (RESPONDER, ResponderState, ResponderEvent, EXPECTED_RESPONDER),
        (SESSION, State, Event, EXPECTED_SESSION),
    ],
    ids=["initiator", "responder", "session"],
)
@pytest.mark.spec("HS-78", "HS-79", "SE-72")
def test_every_state_with_every_event(
    table: Mapping[Any, Any],
    states: type[enum.StrEnum],
    events: type[enum.StrEnum],
    expected: Mapping[tuple[str, str], tuple[str, str]],
) -> None:
    got = {(s.value, e.value): tuple(x.value for x in next_state(table, s, e)) for s in states for e in events}
    assert got == expected


@pytest.mark.parametrize("table", [INITIATOR, RESPONDER, SESSION], ids=["initiator", "responder", "session"])
def test_every_state_has_a_default_row(table: Mapping[Any, Any]) -> None:
    assert ANY.value == "any other"
    for state in {state for state, _ in table}:
        assert (state, ANY) in table


# ---- a connection, driven ----------------------------------------------------


def in_state(name: str) -> tuple[Connection, RawPeer]:
    """A connection that was brought into this state by what is sent and what arrives."""
    connection = Connection(established(Side.RESPONDER, keepalive=60_000), NOW)
    peer = RawPeer.of(connection, Side.RESPONDER)
    peer.open(connection.send_data(b"first", NOW))
    connection.receive_data(peer.record(2, b"first"))
    connection.next_event(NOW)
    if name in ("BYE_RECEIVED", "DRAINING"):
        connection.receive_data(peer.record(5))
        assert connection.next_event(NOW) == EndOfData()
    if name in ("BYE_SENT", "DRAINING", "CLOSED"):
        peer.open(connection.send_bye(NOW))
    if name == "CLOSED":
        connection.receive_data(peer.record(5))
        assert connection.next_event(NOW) == EndOfData()
    if name == "FAILING":
        peer.open(connection.send_error(ErrorCode.INTERNAL, "", NOW))
    if name == "FAILED":
        connection.receive_data(b"")
        with pytest.raises(Truncated):
            connection.next_event(NOW)
    assert connection.state.value == name
    return connection, peer


def send(connection: Connection, peer: RawPeer, event: str) -> str:
    """Ask for a record; what became of it."""
    later = NOW + GENERATION_AGE + 1
    try:
        match event:
            case "SEND_DATA":
                frames, sent = connection.send_data(b"x", NOW), [(2, b"x")]
            case "SEND_KEEPALIVE":
                frames, sent = connection.send_keepalive(NOW), [(3, b"")]
            case "SEND_REKEY":  # comes before whatever else is sent
                frames, sent = connection.send_keepalive(later), [(4, b""), (3, b"")]
            case "SEND_BYE":
                frames, sent = connection.send_bye(NOW), [(5, b"")]
            case _:
                frames, sent = connection.send_error(ErrorCode.INTERNAL, "no", NOW), [(6, b"\0\x05\0\x02no")]
    except UsageError:
        return REFUSE
    assert peer.open(frames) == sent
    return SEAL


ARRIVING = {
    "DATA_OPENED": (2, b"x"),
    "KEEPALIVE_OPENED": (3, b""),
    "REKEY_OPENED": (4, b""),
    "BYE_OPENED": (5, b""),
    "ERROR_OPENED": (6, b"\0\x02\0\x01t"),
    "ERROR_MALFORMED": (6, b"\0\x02"),
    "VIOLATION": (1, b""),
    "TRANSPORT_CLOSED": None,
}


def arrive(connection: Connection, peer: RawPeer, event: str) -> str:
    """Let something arrive; what the connection says of it."""
    record = ARRIVING[event]
    connection.receive_data(b"" if record is None else peer.record(*record))
    before = connection.state
    try:
        happened = connection.next_event(NOW)
    except PeerReported as exc:
        return ERROR if (exc.code, exc.text) == (ErrorCode.UNKNOWN_SERVICE, "t") else repr(exc)
    except Truncated:
        return TRUNCATION
    except (RecordError, DecodeError):
        return "violation"
    if isinstance(happened, DataReceived):
        assert happened.data == b"x"
        return "deliver"
    if isinstance(happened, EndOfData):
        return "report end of data" + (", close" if connection.state is State.CLOSED else "")
    return "nothing" if connection.state is before else "close"


def clock(connection: Connection, event: str) -> str:
    if event == "SILENCE_PASSED":
        assert isinstance(connection.silence_passed(NOW), KeepaliveTimeout)
        return "nothing"
    before = connection.state
    connection.linger_passed(NOW)
    return "nothing" if connection.state is before else "close"


@pytest.mark.parametrize(
    ("state", "event"), [pytest.param(s.value, e.value, id=f"{s}-{e}") for s in State for e in Event]
)
@pytest.mark.spec("SE-72", "SE-40", "SE-45", "SE-48", "SE-55", "SE-57", "SE-58", "SE-61", "SE-65", "SE-66", "SE-78")
def test_a_connection_does_what_the_table_says(state: str, event: str) -> None:
    connection, peer = in_state(state)
    if event.startswith("SEND_"):
        seen = send(connection, peer, event)
    else:
        seen = arrive(connection, peer, event) if event in ARRIVING else clock(connection, event)
    action, after = EXPECTED_SESSION[state, event]
    answer = peer.open(connection.answer)
    assert connection.state.value == after
    assert answer == {VIOLATION: [(6, b"\0\x01\0\0")], TIMEOUT: [(6, b"\0\x06\0\0")]}.get(action, [])
    if action in (VIOLATION, TIMEOUT):
        assert seen in ("violation", "nothing", "close")
    elif action == "close" and event == "ERROR_MALFORMED":
        assert seen == "violation"
    elif action in (DISCARD, REFUSE) and not event.startswith("SEND_"):
        assert seen == "nothing"
    else:
        assert seen == action
    erased = after in ("CLOSED", "FAILED")
    assert hasattr(connection._sealer, "_aead") is not erased
    assert hasattr(connection._opener, "_aead") is not erased
