"""Frames: cut from a stream however it arrives, refused at their four bytes of header."""

import contextlib
from collections.abc import Callable, Container

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock, memory_stream_pair

from tests.pairs import Scene, client_scene, member_stream_scene
from xlattice_trio.errors import DecodeError, ErrorCode
from xlattice_trio.net.dial import initiate
from xlattice_trio.net.listen import respond
from xlattice_trio.wire import framing
from xlattice_trio.wire.framing import (
    DUE_CONFIRM,
    DUE_RECORD,
    DUE_REPLY,
    Due,
    FrameReader,
    encode_frame,
    frame_header,
    hello_length,
)
from xlattice_trio.wire.messages import FrameKind

DUE_HELLO = Due(FrameKind.HELLO, {2212, 2468})


def record(size: int, fill: bytes = b"r") -> bytes:
    return b"\x03" + size.to_bytes(3, "big") + fill * size


@pytest.mark.parametrize(("modulus", "length"), [(256, 2212), (384, 2340), (512, 2468)])
@pytest.mark.spec("FR-3")
def test_a_hello_is_1956_bytes_and_a_modulus_long(modulus: int, length: int) -> None:
    assert hello_length(modulus) == length


@pytest.mark.spec("FR-3")
def test_frames_have_the_sizes_of_the_table() -> None:
    assert framing.HEADER_SIZE == 4
    assert framing.REPLY_LENGTH == 1212
    assert (framing.RECORD_LENGTH_MIN, framing.RECORD_LENGTH_MAX) == (17, 65_553)


@pytest.mark.parametrize(
    ("kind", "body", "frame"),
    [
        (FrameKind.HELLO, b"", b"\x01\0\0\0"),
        (FrameKind.HELLO_REPLY, b"ab", b"\x02\0\0\x02ab"),
        (FrameKind.RECORD, b"c" * 65_553, b"\x03\x01\x00\x11" + b"c" * 65_553),
    ],
)
@pytest.mark.spec("FR-1")
def test_a_frame_is_kind_length_and_body(kind: FrameKind, body: bytes, frame: bytes) -> None:
    assert encode_frame(kind, body) == frame
    assert frame_header(kind, len(body)) == frame[:4]


@pytest.mark.parametrize(
    ("due", "kind", "allowed"),
    [
        (DUE_HELLO, 1, {2212, 2468}),
        (DUE_REPLY, 2, {1212}),
        (DUE_CONFIRM, 3, {17}),
        (DUE_RECORD, 3, range(17, 65_554)),
    ],
)
@pytest.mark.spec("FR-4", "FR-5")
def test_what_is_not_due_is_refused_at_its_header(due: Due, kind: int, allowed: Container[int]) -> None:
    lengths = (0, 16, 17, 18, 1211, 1212, 1213, 2211, 2212, 2213, 2340, 2468, 65_552, 65_553, 65_554, 0xFFFFFF)
    for k in (0, 1, 2, 3, 4, 255):
        for length in lengths:
            reader = FrameReader()
            reader.feed(bytes([k]) + length.to_bytes(3, "big"))
            if k == kind and length in allowed:
                assert reader.next_frame(due) is None
                continue
            with pytest.raises(DecodeError) as caught:
                reader.next_frame(due)
            assert (caught.value.where, caught.value.offset) == (
                ("FrameHeader.kind", 0) if k != kind else ("FrameHeader.length", 1)
            )


@pytest.mark.parametrize("size", range(4))
@pytest.mark.spec("FR-6")
def test_a_header_is_judged_when_it_is_whole(size: int) -> None:
    reader = FrameReader()
    reader.feed(b"\xff\xff\xff\xff"[:size])
    assert reader.next_frame(DUE_RECORD) is None


@pytest.mark.spec("FR-6", "FR-7")
def test_nothing_of_a_frame_is_given_before_its_last_byte() -> None:
    reader = FrameReader()
    frame = record(20)
    for byte in frame[:-1]:
        reader.feed(bytes([byte]))
        assert reader.next_frame(DUE_RECORD) is None
    reader.feed(frame[-1:])
    given = reader.next_frame(DUE_RECORD)
    assert given is not None
    assert bytes(given) == frame


@pytest.mark.spec("FR-8")
def test_bytes_behind_a_frame_are_kept_for_the_next_also_of_another_kind() -> None:
    reader = FrameReader()
    hello, confirm = b"\x01\x00\x08\xa4" + b"h" * 2212, record(17)
    reader.feed(hello + confirm + b"\x03\x00")
    first = reader.next_frame(DUE_HELLO)
    assert first is not None
    assert bytes(first) == hello
    assert reader.unread == len(confirm) + 2
    second = reader.next_frame(DUE_CONFIRM)
    assert second is not None
    assert bytes(second) == confirm
    assert reader.unread == 2
    assert reader.next_frame(DUE_RECORD) is None
    assert reader.unread == 2


def test_a_frame_is_valid_until_the_next_call() -> None:
    calls: list[Callable[[FrameReader], object]] = [lambda r: r.feed(b"x"), lambda r: r.next_frame(DUE_RECORD)]
    for call in calls:
        reader = FrameReader()
        reader.feed(record(17) + record(18))
        frame = reader.next_frame(DUE_RECORD)
        assert frame is not None
        call(reader)
        with pytest.raises(ValueError):  # released
            frame[0]


def test_a_refused_header_stays_refused() -> None:
    reader = FrameReader()
    reader.feed(record(17) + b"\x02\0\0\x11")
    assert reader.next_frame(DUE_RECORD) is not None
    for _ in range(2):
        with pytest.raises(DecodeError):
            reader.next_frame(DUE_RECORD)


@given(st.lists(st.integers(17, 60), max_size=5), st.lists(st.integers(0, 300), max_size=8))
@pytest.mark.spec("FR-7", "FR-8", "FR-9")
def test_frames_are_the_same_however_the_stream_is_cut(sizes: list[int], cuts: list[int]) -> None:
    frames = [record(size, bytes([i])) for i, size in enumerate(sizes)]
    stream = b"".join(frames)
    ends = [*sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    reader, found = FrameReader(), []
    start = 0
    for end in ends:
        reader.feed(stream[start:end])
        start = end
        while (frame := reader.next_frame(DUE_RECORD)) is not None:
            found.append(bytes(frame))
        assert reader.unread == end - sum(map(len, found))
    assert found == frames


# ---- whole connections -------------------------------------------------------


class Recorded(trio.abc.Stream):
    """A transport, and all that was sent on it."""

    def __init__(self, transport: trio.abc.Stream) -> None:
        self.transport = transport
        self.sent = b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data
        await self.transport.send_all(data)

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.transport.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        await self.transport.wait_send_all_might_not_block()

    async def aclose(self) -> None:
        await self.transport.aclose()


def kinds_and_lengths(sent: bytes) -> list[tuple[int, int]]:
    """Of the frames that a side has sent, of which nothing may be left over."""
    found = []
    while sent:
        kind, length = sent[0], int.from_bytes(sent[1:4], "big")
        assert len(sent) >= 4 + length
        found.append((kind, length))
        sent = sent[4 + length :]
    return found


@pytest.mark.spec("FR-1", "FR-3")
@pytest.mark.parametrize("end", ["Bye", "Error"])
@pytest.mark.parametrize("make", [client_scene, member_stream_scene])
async def test_every_byte_of_a_connection_belongs_to_a_frame(
    make: Callable[..., Scene], end: str, autojump_clock: MockClock
) -> None:
    scene = make(keepalive=1000)
    a, b = map(Recorded, memory_stream_pair())

    async def answer() -> None:
        async with await respond(b, scene.welcome()) as stream:
            nursery.start_soon(stream.keep_alive)
            await stream.send_all(bytes(100_000))
            while await stream.receive_some():
                pass
            if end == "Error":
                await stream.close_with_error(ErrorCode.INTERNAL, "no")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(answer)
        stream = await initiate(a, scene.intent())
        nursery.start_soon(stream.keep_alive)
        await stream.send_all(b"x")
        await trio.sleep(2.5)
        await stream.send_eof()
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some():
                pass
        await stream.aclose()
        nursery.cancel_scope.cancel()
    keepalives = [(3, 17)] * 2
    assert kinds_and_lengths(a.sent) == [(1, 2212), (3, 17), (3, 18), *keepalives, (3, 17)]
    last = (3, 23) if end == "Error" else (3, 17)
    assert kinds_and_lengths(b.sent) == [(2, 1212), (3, 65_553), (3, 34_481), *keepalives, last]
