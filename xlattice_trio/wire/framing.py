"""Bytes in, frames out, each held against what is due before its body is read.

`FrameReader` owns the only buffer of incoming bytes. It never holds more than it was fed [FR-9], and it refuses a frame
at its four bytes of header: a stranger cannot make it wait for a body that nobody wants. Spec 4.
"""

from collections.abc import Container

import attrs

from xlattice_trio.errors import DecodeError
from xlattice_trio.limits import (
    HELLO_BODY_SIZE,
    MAC_SIZE,
    RECORD_PAYLOAD_MAX,
    REPLY_BODY_SIZE,
    SALT_SIZE,
    TAG_SIZE,
)
from xlattice_trio.wire.messages import FrameKind

HEADER_SIZE = 4
# A Hello is a version, a ciphertext as long as the modulus behind a u16, the sealed HelloBody and the mac.
_HELLO_FIXED = 2 + 2 + HELLO_BODY_SIZE + TAG_SIZE + MAC_SIZE
REPLY_LENGTH = SALT_SIZE + REPLY_BODY_SIZE + TAG_SIZE
RECORD_LENGTH_MIN = 1 + TAG_SIZE
RECORD_LENGTH_MAX = 1 + RECORD_PAYLOAD_MAX + TAG_SIZE


def hello_length(modulus_size: int) -> int:
    """Bytes of a Hello body under a ck whose modulus has `modulus_size` bytes: 2,212, 2,340 or 2,468. [FR-3]"""
    return _HELLO_FIXED + modulus_size


@attrs.frozen
class Due:
    """The one kind of frame that may come next, and the body lengths that it may have. [FR-4]"""

    kind: FrameKind
    lengths: Container[int]


DUE_REPLY = Due(FrameKind.HELLO_REPLY, (REPLY_LENGTH,))
DUE_CONFIRM = Due(FrameKind.RECORD, (RECORD_LENGTH_MIN,))
DUE_RECORD = Due(FrameKind.RECORD, range(RECORD_LENGTH_MIN, RECORD_LENGTH_MAX + 1))


def encode_frame(kind: FrameKind, body: bytes) -> bytes:
    """A frame, header and body as on the wire. What is sent is this, or a record, which has the same header. [FR-1]"""
    return frame_header(kind, len(body)) + body


def frame_header(kind: FrameKind, length: int) -> bytes:
    """The four bytes before a body of `length` bytes."""
    return bytes((kind,)) + length.to_bytes(3, "big")


class FrameReader:
    """Cuts a stream of bytes into frames.

    A frame that `next_frame` gives is a view into the buffer, header included: it is valid until the next call of
    either method, which release it. Whoever keeps bytes of it copies them.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._frame: memoryview | None = None

    def feed(self, data: bytes | bytearray | memoryview) -> None:
        """Store bytes that arrived. [FR-7]"""
        self._release()
        self._buffer += data

    def next_frame(self, due: Due) -> memoryview | None:
        """The next frame, or None until all of it has arrived.

        Raises DecodeError as soon as a header is there that is not due.
        """
        self._release()
        if len(self._buffer) < HEADER_SIZE:
            return None
        kind, length = self._buffer[0], int.from_bytes(self._buffer[1:HEADER_SIZE], "big")
        if kind != due.kind:  # [FR-2] [FR-4] [FR-5]
            raise DecodeError("FrameHeader.kind", 0, f"{kind} found where {due.kind.value} ({due.kind.name}) is due")
        if length not in due.lengths:  # [FR-4] [FR-5]
            raise DecodeError("FrameHeader.length", 1, f"{length} is no length for the {due.kind.name} that is due")
        if len(self._buffer) < HEADER_SIZE + length:  # [FR-6]
            return None
        self._frame = memoryview(self._buffer)[: HEADER_SIZE + length]
        return self._frame

    @property
    def unread(self) -> int:
        """Bytes that arrived and are not in a frame that was given out."""
        return len(self._buffer) - (len(self._frame) if self._frame is not None else 0)

    def _release(self) -> None:
        if self._frame is not None:
            size = len(self._frame)
            self._frame.release()
            self._frame = None
            del self._buffer[:size]  # [FR-8]
