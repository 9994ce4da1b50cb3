"""A session, both sides without I/O: its stream, its violations, its generations of keys."""

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pairs import LAST_SEQ, NOW, RawPeer, connection_pair, established, place_open, place_seal
from xlattice_trio import crypto
from xlattice_trio.errors import (
    DecodeError,
    ErrorCode,
    PeerError,
    PeerReported,
    RecordError,
    Truncated,
    UsageError,
)
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.session import records
from xlattice_trio.session.connection import (
    END_OF_DATA,
    MORE_TO_COME,
    NEED_DATA,
    Connection,
    DataReceived,
    SessionEvent,
)
from xlattice_trio.session.transitions import State

HOUR = 3600
BYE, REKEY, ERROR = 5, 4, 6


def alone(side: Side = Side.RESPONDER, *, keepalive: int = 0) -> tuple[Connection, RawPeer]:
    """One connection, and a raw peer."""
    connection = Connection(established(side, keepalive=keepalive), NOW)
    return connection, RawPeer.of(connection, side)


def after_bye(which: str, *, keepalive: int = 0) -> tuple[Connection, RawPeer]:
    """A connection behind one Bye: "ours" or "theirs"."""
    connection, peer = alone(keepalive=keepalive)
    if which == "ours":
        assert peer.open(connection.send_bye(NOW)) == [(BYE, b"")]
        assert connection.state is State.BYE_SENT
    else:
        connection.receive_data(peer.record(BYE))
        assert connection.next_event(NOW) == END_OF_DATA
        assert connection.state is State.BYE_RECEIVED
    return connection, peer


def deliver(connection: Connection, data: bytes | bytearray) -> list[SessionEvent]:
    """All that happens when these bytes arrive."""
    connection.receive_data(bytes(data))
    events = []
    while (event := connection.next_event(NOW)) != NEED_DATA:
        events.append(event)
    return events


def data(*pieces: bytes) -> list[SessionEvent]:
    return [DataReceived(bytearray(piece)) for piece in pieces]


def assert_violation(connection: Connection, peer: RawPeer, frames: bytes) -> None:
    connection.receive_data(frames)
    with pytest.raises(PeerError) as caught:
        connection.next_event(NOW)
    assert isinstance(caught.value, RecordError | DecodeError)
    assert caught.value.code is ErrorCode.PROTOCOL_VIOLATION
    assert connection.state is State.FAILING
    assert peer.open(connection.answer)[-1] == (ERROR, b"\x00\x01\x00\x00")
    assert connection.next_event(NOW) == NEED_DATA


# ---- the stream --------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(1,), (65_536,), (1, 65_536, 2), (17,) * 30])
@pytest.mark.spec("SE-10", "SE-11")
def test_what_one_side_sends_the_other_gets(sizes: tuple[int, ...]) -> None:
    for one, other in (connection_pair(), connection_pair()[::-1]):
        sent = [bytes([i + 1]) * size for i, size in enumerate(sizes)]
        frames = b"".join(one.send_data(memoryview(piece), NOW) for piece in sent)
        assert deliver(other, frames) == data(*sent)
        assert (one.state, other.state) == (State.OPEN, State.OPEN)
        assert not one.answer


@pytest.mark.parametrize("size", [0, 65_537])
@pytest.mark.spec("SE-10")
def test_data_of_no_byte_or_too_many_is_the_callers_fault(size: int) -> None:
    one, _ = connection_pair()
    with pytest.raises(UsageError):
        one.send_data(bytes(size), NOW)
    assert one.state is State.OPEN


def test_what_was_delivered_belongs_to_the_caller() -> None:
    one, other = connection_pair()
    (event,) = deliver(other, one.send_data(b"abc", NOW))
    assert isinstance(event, DataReceived)
    buffer = event.data
    buffer += b"d"
    assert event.data == b"abcd"
    assert "abc" not in repr(event)


def scripts() -> st.SearchStrategy[list[tuple[int, bytes]]]:
    """Records that a peer may send, to a side with keepalives; the end may be an Error, or wrong."""
    record = st.one_of(
        st.tuples(st.just(2), st.binary(min_size=1, max_size=40)), st.sampled_from([(3, b""), (4, b""), (2, b"x")])
    )
    end = st.sampled_from(
        [[], [(5, b"")], [(6, b"\0\3\0\1t")], [(6, b"")], [(5, b""), (2, b"y")], [(1, b"")], [(9, b"")]]
    )
    return st.tuples(st.lists(record, max_size=12), end).map(lambda parts: parts[0] + parts[1])


def everything(frames: bytes, cuts: list[int], ends: bool) -> tuple[list[SessionEvent | str], State, bytes]:
    """What happens when the frames arrive in these pieces."""
    connection, _ = alone(keepalive=1000)
    happened: list[SessionEvent | str] = []
    edges = [0, *sorted(min(cut, len(frames)) for cut in cuts), len(frames)]
    for start, end in itertools.pairwise(edges):
        if start < end:
            connection.receive_data(frames[start:end])
        try:
            while (event := connection.next_event(NOW)) != NEED_DATA:
                happened.append(event)
        except (PeerError, PeerReported) as exc:
            happened.append(repr(exc))
    if ends:
        connection.receive_data(b"")
        try:
            happened.append(connection.next_event(NOW))
        except Truncated as exc:
            happened.append(repr(exc))
    return happened, connection.state, bytes(connection.answer)


@given(scripts(), st.lists(st.integers(0, 600), max_size=10), st.booleans(), st.integers(0, 5))
@pytest.mark.spec("FR-7", "FR-8")
def test_the_same_happens_however_the_stream_is_cut(
    script: list[tuple[int, bytes]], cuts: list[int], ends: bool, lost: int
) -> None:
    _, peer = alone(keepalive=1000)
    frames = b"".join(peer.record(*record) for record in script)
    frames = frames[: max(0, len(frames) - lost)] if lost else frames
    assert everything(frames, cuts, ends) == everything(frames, [], ends)


def test_many_records_that_carry_nothing_are_not_all_taken_at_once() -> None:
    connection, peer = alone(keepalive=1000)
    frames = b"".join(peer.record(3) for _ in range(128)) + peer.record(2, b"x")
    assert deliver(connection, frames) == [MORE_TO_COME, MORE_TO_COME, *data(b"x")]
    assert deliver(connection, b"".join(peer.record(3) for _ in range(63))) == []


# ---- violations --------------------------------------------------------------


@pytest.mark.parametrize(
    "header", ["01000011", "02000011", "00000011", "04000011", "03000010", "03010012", "03ffffff", "03000000"]
)
@pytest.mark.parametrize("which", [None, "ours", "theirs"])
@pytest.mark.spec("FR-5", "SE-13", "SE-14", "SE-55", "EL-2")
def test_a_frame_that_is_not_due_is_a_violation_at_its_header(header: str, which: str | None) -> None:
    connection, peer = after_bye(which) if which else alone()
    assert_violation(connection, peer, bytes.fromhex(header))


@pytest.mark.parametrize(
    ("type_", "payload"),
    [(1, b""), (1, b"x"), (2, b""), (3, b""), (3, b"x"), (4, b"x"), (5, b"x"), (0, b""), (7, b""), (255, b"x")],
)
@pytest.mark.parametrize("which", [None, "ours", "theirs"])
@pytest.mark.spec("SE-13", "SE-14", "SE-55")
def test_a_record_that_is_not_due_is_a_violation(type_: int, payload: bytes, which: str | None) -> None:
    connection, peer = after_bye(which) if which else alone()
    if which != "theirs":
        deliver(connection, peer.record(2, b"x"))
    assert_violation(connection, peer, peer.record(type_, payload))


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.spec("SE-13", "SE-14")
def test_a_second_confirm_is_a_violation_on_either_side(side: Side) -> None:
    connection, peer = alone(side)
    assert_violation(connection, peer, peer.record(1))


@pytest.mark.parametrize("type_", [3, 4, 5])
@pytest.mark.spec("SE-13", "SE-14")
def test_a_payload_where_none_belongs_is_a_violation(type_: int) -> None:
    connection, peer = alone(keepalive=1000)
    deliver(connection, peer.record(2, b"x"))
    assert_violation(connection, peer, peer.record(type_, b"x"))


@pytest.mark.parametrize("type_", [2, 5])
@pytest.mark.spec("SE-13", "SE-14", "SE-55")
def test_data_or_a_second_bye_after_bye_is_a_violation(type_: int) -> None:
    connection, peer = after_bye("theirs")
    assert_violation(connection, peer, peer.record(type_, b"x" if type_ == 2 else b""))


@pytest.mark.spec("SE-12", "SE-14")
def test_what_does_not_open_is_a_violation_and_what_came_before_stays() -> None:
    connection, peer = alone()
    good, bad = peer.record(2, b"good"), bytearray(peer.record(2, b"bad"))
    bad[-1] ^= 1
    connection.receive_data(good + bytes(bad))
    assert connection.next_event(NOW) == data(b"good")[0]
    assert_violation(connection, peer, b"")


@pytest.mark.spec("SE-50", "FR-9")
def test_what_arrives_when_the_session_is_over_is_not_kept() -> None:
    for bring in (after_bye("theirs"), after_bye("ours")):
        connection, peer = bring
        connection.send_error(ErrorCode.INTERNAL, "", NOW)
        connection.receive_data(peer.record(2, b"x"))
        assert connection.next_event(NOW) == NEED_DATA
        assert connection._reader.unread == 0


# ---- generations -------------------------------------------------------------


@pytest.mark.spec("SE-19", "SE-20", "SE-21", "SE-23")
def test_both_directions_go_on_over_generations_each_by_itself() -> None:
    one, other = connection_pair()
    for sender, receiver in ((one, other), (other, one)):
        for generation in (1, 2):
            place_seal(sender, LAST_SEQ - 2)
            place_open(receiver, LAST_SEQ - 2)
            pieces = [bytes([i]) for i in range(5)]
            frames = [sender.send_data(piece, NOW) for piece in pieces]
            assert [len(frame) for frame in frames] == [22, 22, 21 + 22, 22, 22]
            assert deliver(receiver, b"".join(frames)) == data(*pieces)
            assert sender._sealer.generation == receiver._opener.generation == generation
    assert one._opener.generation == other._sealer.generation == 2


def send_each(connection: Connection, now: float) -> dict[int, bytearray]:
    """One record of each type that a side can ask for."""
    return {
        2: connection.send_data(b"x", now),
        3: connection.send_keepalive(now),
        5: connection.send_bye(now),
        6: connection.send_error(ErrorCode.INTERNAL, "", now),
    }


PAYLOADS = {2: b"x", 3: b"", 5: b"", 6: b"\x00\x05\x00\x00"}


@pytest.mark.parametrize("reason", ["number", "age"])
@pytest.mark.parametrize("type_", [2, 3, 5, 6])
@pytest.mark.spec("SE-9", "SE-21", "SE-23", "SE-24", "SE-41")
def test_a_rekey_that_is_due_goes_before_whatever_is_sent(type_: int, reason: str) -> None:
    connection, peer = alone(keepalive=60_000)
    peer.open(connection.send_data(b"first", NOW))
    if reason == "number":
        place_seal(connection, LAST_SEQ)
        peer.receive_seq = LAST_SEQ
    now = NOW + HOUR + (1 if reason == "age" else 0)
    sent = {
        2: lambda: connection.send_data(b"x", now),
        3: lambda: connection.send_keepalive(now),
        5: lambda: connection.send_bye(now),
        6: lambda: connection.send_error(ErrorCode.INTERNAL, "", now),
    }[type_]()
    assert peer.open(sent) == [(REKEY, b""), (type_, PAYLOADS[type_])]


@pytest.mark.spec("SE-24")
def test_an_hour_is_not_more_than_an_hour() -> None:
    connection, peer = alone(keepalive=60_000)
    peer.open(connection.send_data(b"first", NOW))
    for type_, frame in send_each(connection, NOW + HOUR).items():
        assert peer.open(frame) == [(type_, PAYLOADS[type_])]


@pytest.mark.spec("SE-22", "SE-25")
def test_a_direction_that_has_sent_nothing_is_not_rekeyed_after_an_idle_hour() -> None:
    later = NOW + 2 * HOUR
    connection, peer = alone()
    assert peer.open(connection.send_data(b"x", later)) == [(2, b"x")]
    connection, peer = alone()
    assert peer.open(connection.send_bye(later)) == [(5, b"")]
    connection, peer = alone()
    assert peer.open(connection.send_error(ErrorCode.INTERNAL, "", later)) == [(6, PAYLOADS[6])]
    connection, peer = alone()
    connection.receive_data(b"\0\0\0\0")
    with pytest.raises(DecodeError):
        connection.next_event(later)
    assert peer.open(connection.answer) == [(6, b"\0\1\0\0")]


@pytest.mark.parametrize("due", ["number", "age"])
@pytest.mark.spec("SE-23", "SE-24")
def test_an_answer_to_a_violation_and_to_silence_rekeys_too(due: str) -> None:
    for code in (ErrorCode.PROTOCOL_VIOLATION, ErrorCode.KEEPALIVE_TIMEOUT):
        connection, peer = alone(keepalive=1000)
        peer.open(connection.send_data(b"first", NOW))
        now = NOW + HOUR + 1
        if due == "number":
            place_seal(connection, LAST_SEQ)
            peer.receive_seq, now = LAST_SEQ, NOW
        if code is ErrorCode.KEEPALIVE_TIMEOUT:
            connection.silence_passed(now)
        else:
            connection.receive_data(b"\0\0\0\0")
            with pytest.raises(DecodeError):
                connection.next_event(now)
        assert peer.open(connection.answer) == [(REKEY, b""), (ERROR, bytes([0, code, 0, 0]))]


@pytest.mark.parametrize("type_", [1, 2, 3, 5, 6])
@pytest.mark.spec("SE-13", "SE-14")
def test_where_a_rekey_is_due_anything_else_is_a_violation_an_error_too(type_: int) -> None:
    connection, peer = alone(keepalive=1000)
    place_open(connection, LAST_SEQ)
    peer.send_seq = LAST_SEQ
    assert_violation(connection, peer, peer.record(type_, {2: b"x", 6: b"\0\1\0\0"}.get(type_, b"")))


@pytest.mark.spec("SE-13", "SE-20", "SE-26", "SE-27")
def test_a_rekey_is_taken_behind_any_record_and_at_any_age_but_not_twice() -> None:
    connection, peer = alone()
    frames = peer.record(REKEY) + peer.record(2, b"a") + peer.record(REKEY) + peer.record(2, b"b")
    assert deliver(connection, frames) == data(b"a", b"b")
    connection.receive_data(peer.record(2, b"late"))
    assert connection.next_event(NOW + 100 * HOUR) == data(b"late")[0]
    assert deliver(connection, peer.record(REKEY)) == []
    assert_violation(connection, peer, peer.record(REKEY))


@pytest.mark.spec("SE-7", "SE-16", "SE-19")
def test_no_nonce_is_used_twice_under_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(7)
    used: list[tuple[bytes, bytes]] = []
    keys: dict[int, bytes] = {}
    keep = []
    make, seal = crypto.aead_key, crypto.seal_into

    def recorded_key(key: bytes) -> crypto.AEADKey:
        aead = make(key)
        keys[id(aead)] = key
        keep.append(aead)
        return aead

    def recorded_seal(key: crypto.AEADKey, nonce: bytes, *rest: Any) -> None:
        used.append((keys[id(key)], nonce))
        seal(key, nonce, *rest)

    monkeypatch.setattr(records, "aead_key", recorded_key)
    monkeypatch.setattr(records, "seal_into", recorded_seal)
    monkeypatch.setattr(records, "_LAST", 40)
    one, other = connection_pair(keepalive=1000)
    now = NOW
    for step in range(3000):
        sender, receiver = dice.choice([(one, other), (other, one)])
        now += dice.choice([0, 0, 1, 100, 4000])
        piece = step.to_bytes(2, "big")
        if dice.random() < 0.2:
            assert deliver(receiver, sender.send_keepalive(now)) == []
        else:
            assert deliver(receiver, sender.send_data(piece, now)) == data(piece)
    assert deliver(other, one.send_bye(now)) == [END_OF_DATA]
    other.send_error(ErrorCode.INTERNAL, "", now)
    assert len(used) > 3000
    assert len(set(used)) == len(used)
    assert len({key for key, _ in used}) > 100
