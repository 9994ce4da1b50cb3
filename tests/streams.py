"""Established SecureStreams over any pair of transports, without a handshake, and one against a `RawPeer`."""

from collections.abc import Awaitable, Callable
from typing import Any

import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from tests.pairs import I2R, R2I, RawPeer, established
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.net.stream import SecureStream

MemoryStream = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


def secure_stream(transport: trio.abc.Stream, side: Side, *, keepalive: int = 0, **options: Any) -> SecureStream:
    """One side of a session with the fixed secrets of `tests.pairs`, Confirm behind it."""
    outcome = established(side, keepalive=keepalive)
    if side is Side.INITIATOR:
        outcome.sealer.seq, outcome.sealer._first_sealed_at = 1, trio.current_time()
    return SecureStream(transport, outcome, **options)


def secure_streams(
    a: trio.abc.Stream, b: trio.abc.Stream, *, keepalive: int = 0, **options: Any
) -> tuple[SecureStream, SecureStream]:
    """Both sides of one session, initiator first."""
    return (
        secure_stream(a, Side.INITIATOR, keepalive=keepalive, **options),
        secure_stream(b, Side.RESPONDER, keepalive=keepalive, **options),
    )


def secure_memory_pair(*, keepalive: int = 0, **options: Any) -> tuple[SecureStream, SecureStream]:
    """Both sides of one session, in memory."""
    return secure_streams(*memory_stream_pair(), keepalive=keepalive, **options)


async def tcp_pair() -> tuple[trio.SocketStream, trio.SocketStream]:
    """Both ends of a TCP connection on the loopback interface."""
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        client = await trio.open_tcp_stream("127.0.0.1", listener.socket.getsockname()[1])
        return client, await listener.accept()


class Peer:
    """What is on the other end of a stream's transport: sends and reads whatever records a test likes."""

    def __init__(self, transport: MemoryStream, raw: RawPeer) -> None:
        self._transport = transport
        self.raw = raw

    def send(self, type_: int, payload: bytes = b"") -> None:
        self._transport.receive_stream.put_data(self.raw.record(type_, payload))

    def end(self) -> None:
        """The connection ends, as seen by whoever reads."""
        self._transport.receive_stream.put_eof()

    def read_slowly(self, seconds: float) -> None:
        """Each write takes so long, as seen by whoever writes."""

        async def slow() -> None:
            await trio.sleep(seconds)

        self._transport.send_stream.send_all_hook = slow

    def reset(self) -> None:
        """The connection breaks, as seen by whoever reads."""

        def broken() -> None:
            raise trio.BrokenResourceError

        self._transport.receive_stream.receive_some_hook = _as_async(broken)
        self._transport.receive_stream.put_data(b"never seen")

    def stop_reading(self) -> None:
        """The connection breaks, as seen by whoever writes."""

        def broken() -> None:
            raise trio.BrokenResourceError

        self._transport.send_stream.send_all_hook = _as_async(broken)

    def received(self) -> list[tuple[int, bytes]]:
        """Type and payload of every record that the stream has sent since the last call."""
        try:
            return self.raw.open(self._transport.send_stream.get_data_nowait())
        except trio.WouldBlock:
            return []

    def sent_to(self) -> bytes:
        """The bytes that the stream has sent since the last call."""
        return bytes(self._transport.send_stream.get_data_nowait())

    @property
    def is_closed_on(self) -> bool:
        """Whether the stream has closed the connection. Whatever it sent has to be read before."""
        try:
            return self._transport.send_stream.get_data_nowait() == b""
        except trio.WouldBlock:
            return False


def _as_async(function: Callable[[], None]) -> Callable[[], Awaitable[object]]:
    async def run() -> None:
        function()

    return run


def stream_and_peer(side: Side = Side.RESPONDER, *, keepalive: int = 0, **options: Any) -> tuple[SecureStream, Peer]:
    """One side of a session in memory, and the other end of its transport."""
    transport = trio.StapledStream(MemorySendStream(), MemoryReceiveStream())
    stream = secure_stream(transport, side, keepalive=keepalive, **options)
    raw = RawPeer(I2R, R2I, seq=1) if side is Side.RESPONDER else RawPeer(R2I, I2R)
    raw.receive_seq = 1 if side is Side.INITIATOR else 0
    return stream, Peer(transport, raw)


def error_body(code: int, text: str = "") -> bytes:
    """The payload of an Error record."""
    raw = text.encode()
    return code.to_bytes(2, "big") + len(raw).to_bytes(2, "big") + raw


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    """All that a stream has to give."""
    data = bytearray()
    while chunk := await stream.receive_some():
        data += chunk
    return bytes(data)
