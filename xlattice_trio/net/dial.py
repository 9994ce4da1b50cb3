"""Opening a session: `initiate` over any stream, `open_secure_stream` over TCP. Spec 5.9, 5.14."""

import trio

from xlattice_trio.crypto import Draw, system_draw
from xlattice_trio.errors import HandshakeRefused, RefusalReason
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Established
from xlattice_trio.limits import HANDSHAKE_DEADLINE, WRITE_DEADLINE
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.wire.framing import HEADER_SIZE, REPLY_LENGTH


async def initiate(
    transport: trio.abc.Stream,
    intent: Intent,
    *,
    deadline: float = HANDSHAKE_DEADLINE,
    write_deadline: float = WRITE_DEADLINE,
    draw: Draw = system_draw,
) -> SecureStream:
    """Make the handshake over `transport`, as initiator, within `deadline` seconds.

    `transport` belongs to the stream from now on; it is closed if the handshake fails or is cancelled.
    Raises HandshakeRefused.
    """
    initiator = Initiator(intent, draw=draw)
    try:
        with trio.move_on_after(deadline):
            established = await _shake_hands(transport, initiator)
            # the stream can be written to at once [HS-55] [SE-2] [SV-14]
            return SecureStream(transport, established, write_deadline=write_deadline, handshake_deadline=deadline)
        raise initiator.deadline_passed()  # [HS-76] [HS-83]
    except BaseException:
        await trio.aclose_forcefully(transport)
        raise


async def open_secure_stream(
    host: str,
    port: int,
    intent: Intent,
    *,
    deadline: float = HANDSHAKE_DEADLINE,
    write_deadline: float = WRITE_DEADLINE,
    local_address: str | None = None,
    keepalive_nursery: trio.Nursery | None = None,
) -> SecureStream:
    """Connect to a member at `host`:`port` and make the handshake; `deadline` (seconds) covers both.

    `host` is an address or a name, `local_address` the address to connect from. If the session has keepalives they
    are sent by a task in `keepalive_nursery`; without one, the caller runs `SecureStream.keep_alive` itself.
    Raises HandshakeRefused, and OSError if there is no connection.
    """
    with trio.move_on_after(deadline):
        transport = await trio.open_tcp_stream(host, port, local_address=local_address)
        stream = await initiate(transport, intent, deadline=deadline, write_deadline=write_deadline)
        if keepalive_nursery is not None:
            keepalive_nursery.start_soon(stream.keep_alive)
        return stream
    raise HandshakeRefused(RefusalReason.DEADLINE)


async def _shake_hands(transport: trio.abc.Stream, initiator: Initiator) -> Established:
    try:
        await transport.send_all(initiator.hello())
        while initiator.established is None:
            data = await transport.receive_some(HEADER_SIZE + REPLY_LENGTH)
            if not data:
                raise initiator.transport_closed()
            await transport.send_all(initiator.receive_data(bytes(data), trio.current_time()))
    except trio.BrokenResourceError as exc:  # [HS-83]
        raise initiator.transport_closed() from exc
    return initiator.established
