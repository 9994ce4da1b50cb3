"""How a session ends, and its clocks: Byes, errors, truncation, keepalives, silence."""

import math

import pytest

from tests.pairs import NOW, RawPeer, connection_pair, established
from xlattice_trio.errors import (
    DecodeError,
    ErrorCode,
    KeepaliveTimeout,
    PeerReported,
    Truncated,
    UsageError,
)
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.session.connection import END_OF_DATA, NEED_DATA, Connection, DataReceived
from xlattice_trio.session.transitions import State

BYE, REKEY, ERROR = 5, 4, 6


def alone(side: Side = Side.RESPONDER, *, keepalive: int = 0) -> tuple[Connection, RawPeer]:
    """One connection, and a raw peer."""
    connection = Connection(established(side, keepalive=keepalive), NOW)
    return connection, RawPeer.of(connection, side)


def next_of(connection: Connection, frames: bytes | bytearray) -> object:
    connection.receive_data(bytes(frames))
    return connection.next_event(NOW)


# ---- Bye ---------------------------------------------------------------------


@pytest.mark.spec("SE-42", "SE-43", "SE-45", "SE-46", "SE-48")
def test_each_side_ends_its_own_direction() -> None:
    one, other = connection_pair()
    frames = one.send_data(b"last", NOW) + one.send_bye(NOW)
    assert next_of(other, frames) == DataReceived(bytearray(b"last"))
    assert other.next_event(NOW) == END_OF_DATA
    assert (one.state, other.state) == (State.BYE_SENT, State.BYE_RECEIVED)
    assert (one.can_send_data, other.can_send_data) == (False, True)
    assert next_of(one, other.send_data(b"still", NOW)) == DataReceived(bytearray(b"still"))
    assert next_of(one, other.send_bye(NOW)) == END_OF_DATA
    assert (one.state, other.state) == (State.CLOSED, State.DRAINING)
    assert (one.is_over, other.is_over) == (True, True)
    for connection in (one, other):
        with pytest.raises(UsageError):
            connection.send_error(ErrorCode.INTERNAL, "", NOW)
    other.receive_data(b"")
    assert other.next_event(NOW) == NEED_DATA
    assert other.state is State.CLOSED


@pytest.mark.spec("SE-45")
def test_byes_that_cross_close_both_sides() -> None:
    one, other = connection_pair()
    first, second = one.send_bye(NOW), other.send_bye(NOW)
    assert next_of(one, second) == next_of(other, first) == END_OF_DATA
    assert one.state is other.state is State.CLOSED


@pytest.mark.spec("SE-40")
def test_after_bye_there_is_no_data_and_no_bye() -> None:
    one, _ = connection_pair()
    one.send_bye(NOW)
    seq = one._sealer.seq
    with pytest.raises(UsageError):
        one.send_data(b"x", NOW)
    with pytest.raises(UsageError):
        one.send_bye(NOW)
    assert (one.state, one._sealer.seq) == (State.BYE_SENT, seq)


@pytest.mark.spec("SE-49")
def test_draining_ends_with_the_connection_or_the_clock() -> None:
    for end in ("closed", "linger", "given up"):
        one, other = connection_pair()
        next_of(other, one.send_bye(NOW))
        other.send_bye(NOW)
        assert other.state is State.DRAINING
        if end == "closed":
            assert next_of(other, b"") == NEED_DATA
        elif end == "linger":
            other.linger_passed(NOW)
        else:
            other.given_up(NOW)
        assert str(other.state) == "CLOSED"
        assert not other.answer


# ---- the end of the connection -----------------------------------------------


@pytest.mark.parametrize("cut", [0, 1, 4, 20])
@pytest.mark.parametrize("bye_sent", [False, True])
@pytest.mark.spec("SE-65", "SE-69")
def test_the_end_before_the_peers_bye_is_a_truncation_behind_all_that_arrived(cut: int, bye_sent: bool) -> None:
    connection, peer = alone()
    if bye_sent:
        connection.send_bye(NOW)
    connection.receive_data(peer.record(2, b"data") + peer.record(BYE)[:cut])
    connection.receive_data(b"")
    assert connection.next_event(NOW) == DataReceived(bytearray(b"data"))
    with pytest.raises(Truncated):
        connection.next_event(NOW)
    assert connection.state is State.FAILED
    assert not connection.answer
    assert connection.next_event(NOW) == NEED_DATA


@pytest.mark.parametrize("cut", [0, 1, 4, 20])
@pytest.mark.spec("SE-66", "SE-67")
def test_the_end_after_the_peers_bye_is_none_and_nothing_more_is_sent(cut: int) -> None:
    connection, peer = alone(keepalive=1000)
    connection.receive_data(peer.record(BYE) + peer.record(3)[:cut])
    connection.receive_data(b"")
    assert connection.next_event(NOW) == END_OF_DATA
    assert connection.next_event(NOW) == NEED_DATA
    assert connection.state is State.CLOSED
    with pytest.raises(UsageError):
        connection.send_data(b"x", NOW)


@pytest.mark.parametrize(("bye", "after"), [(None, State.FAILED), ("ours", State.FAILED), ("theirs", State.CLOSED)])
@pytest.mark.spec("SE-18")
def test_a_session_that_is_given_up_ends_without_a_word(bye: str | None, after: State) -> None:
    connection, peer = alone()
    if bye == "ours":
        connection.send_bye(NOW)
    if bye == "theirs":
        next_of(connection, peer.record(BYE))
    connection.given_up(NOW)
    assert connection.state is after
    assert not connection.answer
    connection.given_up(NOW)
    assert connection.state is after


# ---- Error -------------------------------------------------------------------


@pytest.mark.parametrize("number", [*range(11), 0x0100, 0xFFFF])
@pytest.mark.spec("SE-58", "SE-59", "SE-60", "SE-56", "EL-3")
def test_an_error_is_reported_with_its_code_and_an_unlisted_one_as_internal(number: int) -> None:
    connection, peer = alone()
    connection.receive_data(peer.record(2, b"x") + peer.record(ERROR, number.to_bytes(2, "big") + b"\0\x02no"))
    connection.receive_data(b"")
    assert connection.next_event(NOW) == DataReceived(bytearray(b"x"))
    with pytest.raises(PeerReported) as caught:
        connection.next_event(NOW)
    assert caught.value.code is (ErrorCode(number) if 1 <= number <= 8 else ErrorCode.INTERNAL)
    assert caught.value.text == "no"
    assert connection.state is State.FAILED
    assert not connection.answer
    assert connection.next_event(NOW) == NEED_DATA


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0",
        b"\0\1",
        b"\0\1\0",
        b"\0\1\0\1",
        b"\0\1\0\0x",
        b"\0\1\0\1\n",
        b"\0\1\0\1\xff",
        b"\0\1\4\1" + b"x" * 1025,
    ],
)
@pytest.mark.spec("SE-56", "SE-57")
def test_an_error_that_does_not_decode_ends_without_an_answer(payload: bytes) -> None:
    connection, peer = alone()
    connection.receive_data(peer.record(ERROR, payload))
    with pytest.raises(DecodeError):
        connection.next_event(NOW)
    assert connection.state is State.FAILED
    assert not connection.answer


@pytest.mark.parametrize("code", list(ErrorCode))
@pytest.mark.spec("SE-54", "SE-61", "EL-1")
def test_an_error_that_is_sent_ends_this_side(code: ErrorCode) -> None:
    one, other = connection_pair(keepalive=1000)
    frame = one.send_error(code, "why", NOW)
    assert one.state is State.FAILING
    assert one.is_over
    for call in (one.send_keepalive, one.send_bye, lambda now: one.send_data(b"x", now)):
        with pytest.raises(UsageError):
            call(NOW)
    with pytest.raises(UsageError):
        one.send_error(code, "", NOW)
    with pytest.raises(PeerReported) as caught:
        next_of(other, frame)
    assert (caught.value.code, caught.value.text) == (code, "why")


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("x" * 1024, "x" * 1024),
        ("x" * 1025, "x" * 1024),
        ("é" * 512, "é" * 512),
        ("x" + "é" * 512, "x" + "é" * 511),
        ("xx" + "\U0001f600" * 256, "xx" + "\U0001f600" * 255),
        ("a\nb\x00\x7f\x9f\tc", "a b    c"),
        ("\ud800", " "),
        ("\u2028", " "),
        ("é ü", "é ü"),
    ],
)
@pytest.mark.spec("SE-54")
def test_the_text_of_an_error_is_cut_and_cleaned(text: str, sent: str) -> None:
    connection, peer = alone()
    ((type_, payload),) = peer.open(connection.send_error(ErrorCode.INTERNAL, text, NOW))
    assert (type_, payload) == (ERROR, b"\0\5" + len(sent.encode()).to_bytes(2, "big") + sent.encode())


@pytest.mark.parametrize("end", ["closed", "linger", "given up"])
@pytest.mark.spec("SE-61", "SE-62")
def test_failing_ends_with_the_connection_or_the_clock(end: str) -> None:
    connection, _ = alone()
    connection.send_error(ErrorCode.INTERNAL, "", NOW)
    if end == "closed":
        assert next_of(connection, b"") == NEED_DATA
    elif end == "linger":
        connection.linger_passed(NOW)
    else:
        connection.given_up(NOW)
    assert connection.state is State.FAILED


# ---- keepalive ---------------------------------------------------------------


@pytest.mark.spec("SE-31")
def test_a_keepalive_is_due_an_interval_after_the_last_record_that_was_sent() -> None:
    connection, peer = alone(keepalive=30_000)
    assert connection.keepalive == 30
    assert connection.keepalive_at() == NOW + 30
    connection.send_data(b"x", NOW + 10)
    assert connection.keepalive_at() == NOW + 40
    connection.send_keepalive(NOW + 40)
    assert connection.keepalive_at() == NOW + 70
    next_of(connection, peer.record(2, b"x"))
    assert connection.keepalive_at() == NOW + 70
    connection.send_bye(NOW + 50)
    assert connection.keepalive_at() == NOW + 80


@pytest.mark.parametrize("bye", ["ours", "theirs"])
@pytest.mark.spec("SE-32")
def test_keepalives_go_on_after_one_bye_and_end_with_the_second(bye: str) -> None:
    one, other = connection_pair(keepalive=1000)
    ours, theirs = (one, other) if bye == "ours" else (other, one)
    next_of(theirs, ours.send_bye(NOW))
    assert one.keepalive_at() == other.keepalive_at() == NOW + 1
    for _ in range(2):
        assert next_of(other, one.send_keepalive(NOW)) == NEED_DATA
        assert next_of(one, other.send_keepalive(NOW)) == NEED_DATA
    next_of(ours, theirs.send_bye(NOW))
    assert one.keepalive_at() == other.keepalive_at() == math.inf


@pytest.mark.spec("SE-34", "SE-39")
def test_without_keepalives_none_is_due_sent_or_taken() -> None:
    one, other = connection_pair(keepalive=0)
    assert one.keepalive_at() == math.inf
    with pytest.raises(UsageError):
        one.send_keepalive(NOW)
    assert one.wait_begins(NOW) == other.wait_begins(NOW) == math.inf


@pytest.mark.spec("SE-33", "SE-35")
def test_an_early_keepalive_is_no_violation() -> None:
    one, other = connection_pair(keepalive=3_600_000)
    for _ in range(3):
        assert next_of(other, one.send_keepalive(NOW)) == NEED_DATA
    assert other.state is State.OPEN


# ---- silence -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "keepalive", "deadline", "first"),
    [
        (Side.RESPONDER, 1000, 10, 3),
        (Side.RESPONDER, 15_000, 10, 45),
        (Side.INITIATOR, 1000, 10, 10),
        (Side.INITIATOR, 1000, 2, 3),
        (Side.INITIATOR, 15_000, 10, 45),
        (Side.INITIATOR, 15_000, 60, 60),
    ],
)
@pytest.mark.spec("SE-37", "SE-38")
def test_silence_may_last_three_intervals_and_the_initiators_first_a_handshake(
    side: Side, keepalive: int, deadline: float, first: float
) -> None:
    connection = Connection(established(side, keepalive=keepalive), NOW, handshake_deadline=deadline)
    peer = RawPeer.of(connection, side)
    assert connection.wait_begins(NOW) == first
    connection.wait_ends(NOW + 1)
    assert connection.wait_begins(NOW + 1) == first - 1
    connection.wait_ends(NOW + 2)
    next_of(connection, peer.record(3))
    assert connection.wait_begins(NOW + 2) == 3 * keepalive / 1000


def test_the_initiators_deadline_is_10_seconds_unless_told() -> None:
    assert alone(Side.INITIATOR, keepalive=1000)[0].wait_begins(NOW) == 10


@pytest.mark.spec("SE-36")
def test_the_clock_of_silence_stands_still_while_nobody_waits() -> None:
    connection, peer = alone(keepalive=10_000)
    connection.wait_ends(NOW)  # not begun
    assert connection.wait_begins(NOW) == 30
    connection.wait_ends(NOW + 4)
    connection.wait_ends(NOW + 20)  # not waiting: nothing is counted
    assert connection.wait_begins(NOW + 100) == 26
    connection.wait_ends(NOW + 120)
    assert connection.wait_begins(NOW + 500) == 6
    connection.wait_ends(NOW + 510)
    assert connection.wait_begins(NOW + 510) == 0
    connection.wait_ends(NOW + 510)
    frame = peer.record(2, b"x")
    next_of(connection, frame[:-1])  # not yet a record
    assert connection.wait_begins(NOW + 600) == 0
    connection.wait_ends(NOW + 600)
    next_of(connection, frame[-1:])
    assert connection.wait_begins(NOW + 600) == 30


@pytest.mark.spec("SE-37", "SE-82", "EL-2")
def test_silence_ends_the_session_and_the_peer_is_told() -> None:
    for side, silence in ((Side.RESPONDER, 3), (Side.INITIATOR, 10)):
        connection, peer = alone(side, keepalive=1000)
        error = connection.silence_passed(NOW + silence)
        assert isinstance(error, KeepaliveTimeout)
        assert error.code is ErrorCode.KEEPALIVE_TIMEOUT
        assert error.silence == silence
        assert connection.state is State.FAILING
        assert peer.open(connection.answer) == [(ERROR, b"\0\6\0\0")]


def test_no_silence_is_counted_when_the_session_is_over() -> None:
    connection, _ = alone(keepalive=1000)
    connection.send_error(ErrorCode.INTERNAL, "", NOW)
    assert connection.wait_begins(NOW) == math.inf
