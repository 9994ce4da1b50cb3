"""Pairs that are stepped one message at a time, and what is said of where two transcripts part."""

import pytest

from tests.pairs import Scene, anonymous_scene, link_scene
from xlattice_trio.errors import ErrorCode, PeerReported, RecordError, RefusalReason, UsageError
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.handshake.transitions import InitiatorState, ResponderState
from xlattice_trio.session.connection import DataReceived, EndOfData
from xlattice_trio.session.transitions import State
from xlattice_trio.testing.draws import REMEMBERED
from xlattice_trio.testing.pairs import Flow, HandshakePair, SessionPair, first_difference, frames, raw_peer
from xlattice_trio.testing.toolbox import flip
from xlattice_trio.wire.messages import RecordType

A, B = Side.INITIATOR, Side.RESPONDER


def pair_of(scene: Scene) -> HandshakePair:
    return HandshakePair(scene.intent(), scene.welcome(), randomised=REMEMBERED)


# ---- flows -------------------------------------------------------------------


def frame(number: int, size: int = 3) -> bytes:
    return b"\x03" + size.to_bytes(3, "big") + bytes((number,)) * size


def flow_of(*numbers: int) -> Flow:
    flow = Flow()
    flow.put(b"".join(frame(number) for number in numbers))
    return flow


def test_frames_in_flight_are_dropped_replaced_doubled_and_swapped() -> None:
    flow = flow_of(1, 2, 3)
    flow.drop(1)
    assert flow.frames == [frame(1), frame(3)]
    flow.swap(0, 1)
    assert flow.frames == [frame(3), frame(1)]
    flow.double()
    assert flow.frames == [frame(3), frame(3), frame(1)]
    flow.replace(2, b"\x03")
    assert flow.take_frame() == frame(3)
    assert flow.take(2) == frame(3)[:2]
    assert flow.take() == frame(3)[2:] + b"\x03"
    assert flow.take_frame() == b""
    assert flow.sent == frame(1) + frame(2) + frame(3)
    assert flow.delivered == frame(3) + frame(3) + b"\x03"


def test_bytes_are_cut_into_frames_by_their_headers() -> None:
    assert frames(frame(1) + frame(2)[:5]) == [frame(1), frame(2)[:5]]
    assert frames(b"") == []
    assert frames(b"\x03\0") == [b"\x03\0"]


# ---- handshakes ----------------------------------------------------------------


def test_a_handshake_is_stepped_message_by_message() -> None:
    pair = pair_of(link_scene())
    states = []
    for side in (B, A, B):
        pair.deliver_frame(side)
        states.append((pair.initiator.state, pair.responder.state))
    assert states == [
        (InitiatorState.AWAIT_REPLY, ResponderState.AWAIT_CONFIRM),
        (InitiatorState.ESTABLISHED, ResponderState.AWAIT_CONFIRM),
        (InitiatorState.ESTABLISHED, ResponderState.ESTABLISHED),
    ]
    ours, theirs = pair.established(A), pair.established(B)
    assert ours is not None
    assert theirs is not None
    assert ours.transcript_hash == theirs.transcript_hash
    assert pair.difference() == ""


def test_a_handshake_arrives_byte_by_byte() -> None:
    pair = pair_of(anonymous_scene())
    while any(flow.in_flight for flow in pair.flows.values()):
        for side in Side:
            pair.deliver(side, 1)
    assert pair.established(B) is not None


def test_the_same_seed_makes_the_same_handshake() -> None:
    scene = link_scene()
    pairs = [
        HandshakePair(scene.intent(), scene.welcome(), seed=seed, randomised=REMEMBERED) for seed in ("a", "a", "b")
    ]
    first, again, another = (pair.flows[A].sent for pair in pairs)
    assert first == again != another


def test_what_happened_on_the_way_is_told() -> None:
    pair = pair_of(anonymous_scene())
    pair.deliver(B)
    (reply,) = pair.flows[B].frames
    pair.flows[B].replace(0, flip(reply, 8 * 50))
    pair.deliver(A)
    assert pair.refused[A].reason is RefusalReason.REPLY_NOT_OPENED
    assert pair.initiator.state is InitiatorState.FAILED
    told = pair.difference()
    assert told.startswith("responder, sent (a) and delivered (b): the same for 50 bytes")
    assert "frame 0 (HELLO_REPLY), offset 50, HelloReply.sealed" in told


def test_a_side_that_loses_the_connection_gives_up() -> None:
    pair = pair_of(anonymous_scene())
    for side in Side:
        pair.close(side)
        assert pair.refused[side].reason is RefusalReason.TRANSPORT_CLOSED
    with pytest.raises(UsageError):
        pair.session()


def test_what_arrives_behind_the_handshake_belongs_to_the_session() -> None:
    pair = pair_of(anonymous_scene())
    pair.deliver(B)
    pair.deliver(A)
    established = pair.established(A)
    assert established is not None
    pair.flows[A].put(established.sealer.seal(RecordType.DATA, b"early", 0.0))
    pair.deliver(B)
    session = pair.session()
    assert session.events[B] == [DataReceived(bytearray(b"early"))]


# ---- sessions --------------------------------------------------------------------


def test_a_session_is_stepped_record_by_record() -> None:
    pair = SessionPair.of_fixed_secrets()
    pair.send_data(A, b"one")
    pair.send_data(A, b"two")
    pair.send_bye(A)
    pair.deliver_frame(B)
    assert pair.events[B] == [DataReceived(bytearray(b"one"))]
    pair.deliver(B)
    assert pair.events[B][1:] == [DataReceived(bytearray(b"two")), EndOfData()]
    pair.send_bye(B)
    pair.run()
    assert (pair.sides[A].state, pair.sides[B].state) == (State.CLOSED, State.DRAINING)
    assert pair.difference() == ""


def test_records_in_another_order_are_a_violation_that_is_answered() -> None:
    pair = SessionPair.of_fixed_secrets()
    pair.send_data(A, b"one")
    pair.send_data(A, b"two")
    pair.flows[A].swap(0, 1)
    pair.deliver(B)
    assert isinstance(pair.failures[B], RecordError)
    pair.deliver(A)
    failure = pair.failures[A]
    assert isinstance(failure, PeerReported)
    assert failure.code is ErrorCode.PROTOCOL_VIOLATION


def test_an_error_and_keepalives_pass() -> None:
    pair = SessionPair.of_fixed_secrets(keepalive=1000)
    pair.now = 1.0
    pair.send_keepalive(A)
    pair.send_error(A, ErrorCode.INTERNAL, "sorry")
    pair.run()
    assert isinstance(pair.failures[B], PeerReported)
    pair.close(A)
    assert pair.sides[A].state is State.FAILED


def test_a_session_of_a_handshake_goes_on_with_its_keys() -> None:
    pair = pair_of(link_scene())
    pair.run()
    session = pair.session()
    session.send_data(B, b"hello")
    session.run()
    assert session.events[A] == [DataReceived(bytearray(b"hello"))]


@pytest.mark.parametrize("side", Side)
def test_a_raw_peer_fits_the_fixed_secrets(side: Side) -> None:
    pair, peer = SessionPair.of_fixed_secrets(), raw_peer(side)
    pair.send_data(side, b"hello")
    assert peer.open(pair.flows[side].take()) == [(2, b"hello")]
    other = B if side is A else A
    pair.flows[other].put(peer.record(2, b"back"))
    pair.deliver(side)
    assert pair.events[side] == [DataReceived(bytearray(b"back"))]


# ---- differences -------------------------------------------------------------------


def test_no_difference_is_nothing_to_say() -> None:
    assert first_difference(b"", b"") == ""
    assert first_difference(frame(1), frame(1)) == ""


def test_a_difference_is_placed_in_frame_field_and_offset() -> None:
    scene = anonymous_scene()
    hello = scene.new_initiator().hello()
    told = first_difference(hello, flip(hello, 8 * (len(hello) - 1))).splitlines()
    assert told[0] == (
        f"the same for {len(hello) - 1} bytes, then another byte in frame 0 (HELLO), offset {len(hello) - 1}, Hello.mac"
    )
    a, b = hello[-1], hello[-1] ^ 1
    assert told[1].endswith(f"> {a:02x}  [{len(hello)} bytes]")
    assert told[2].endswith(f"> {b:02x}  [{len(hello)} bytes]")


def test_a_transcript_that_ends_is_told_as_one() -> None:
    whole = frame(1) + frame(2)
    told = first_difference(whole, whole[:9]).splitlines()
    assert told[0] == "the same for 9 bytes, where b ends: frame 1 (RECORD), offset 2, FrameHeader.length"
    assert told[2].endswith("> (nothing)  [9 bytes]")
    assert first_difference(whole[:7], whole).startswith("the same for 7 bytes, where a ends: frame 1 (RECORD)")


def test_a_frame_of_no_kind_is_named_by_its_number() -> None:
    assert "frame 0 (of kind 9), offset 4" in first_difference(b"\x09\0\0\1a", b"\x09\0\0\1b")
