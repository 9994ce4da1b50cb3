"""What can come behind a HelloReply, or in the place of a Hello, and is not what is due there.

CONFIRMS says of each wrong first record which check of Spec 5.10 has to find it. BEHIND comes in one piece with a
Hello, OTHERS on a connection on which nothing was said.
"""

from collections.abc import Callable, Mapping
from typing import Any

import attrs

from xlattice_trio.errors import RefusalReason
from xlattice_trio.fuzz.hellos import Scene, pick
from xlattice_trio.fuzz.responder_model import Line
from xlattice_trio.testing.forge import forge_record
from xlattice_trio.testing.toolbox import RawPeer, error_payload, flip, put
from xlattice_trio.wire.messages import RecordType

R = RefusalReason


def right_confirm(line: Line) -> bytes:
    assert line.peer is not None
    return line.peer.forge(RecordType.CONFIRM)


def _forge(line: Line, type_: int, payload: bytes = b"", **wrong: Any) -> bytes:
    assert line.peer is not None
    return line.peer.forge(type_, payload, **wrong)


def _under(secret: Callable[[RawPeer], bytes]) -> Callable[[Line, int], bytes]:
    """Confirm under another secret."""

    def make(line: Line, _number: int) -> bytes:
        assert line.peer is not None
        return forge_record(secret(line.peer), 0, RecordType.CONFIRM)

    return make


@attrs.frozen
class WrongConfirm:
    """One thing that is wrong with what comes behind the HelloReply."""

    requirement: str
    reason: RefusalReason
    make: Callable[[Line, int], bytes]


CONFIRMS: Mapping[str, WrongConfirm] = {
    "kind": WrongConfirm(
        "HS-56", R.FRAME_HEADER, lambda x, n: put(right_confirm(x), 0, pick(n, b"\0", b"\1", b"\2", b"\4"))
    ),
    "length": WrongConfirm(
        "HS-56",
        R.FRAME_HEADER,
        lambda x, n: put(right_confirm(x), 1, pick(n, 0, 1, 16, 18, 65_553, 0xFFFFFF).to_bytes(3, "big")),
    ),
    "payload": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, n: _forge(x, 1, bytes(1 + n % 40))),
    "Data": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, _: _forge(x, RecordType.DATA, b"data")),
    "Error": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, n: _forge(x, RecordType.ERROR, error_payload(1 + n % 9))),
    "the Hello again": WrongConfirm("HS-2", R.FRAME_HEADER, lambda x, _: x.frame),
    "the HelloReply": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, _: x.reply),
    "another type": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: _forge(x, pick(n, 2, 3, 4, 5, 6, 0, 7, 255))),
    "Bye": WrongConfirm("HS-57", R.CONFIRM, lambda x, _: _forge(x, RecordType.BYE)),
    "sequence number": WrongConfirm("SE-7", R.CONFIRM, lambda x, n: _forge(x, 1, ahead=pick(n, 1, 2, 256, 1 << 20))),
    "generation": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: _forge(x, 1, generation=1 + n % 2)),
    "aad": WrongConfirm(
        "SE-8", R.CONFIRM, lambda x, n: _forge(x, 1, aad=pick(n, b"", b"\3\0\0\x12", b"\2\0\0\x11", bytes(4)))
    ),
    "keys of the other direction": WrongConfirm("HS-5", R.CONFIRM, _under(lambda peer: peer.receive_secret)),
    "keys of zeros": WrongConfirm("HS-57", R.CONFIRM, _under(lambda _: bytes(32))),
    "bit": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: flip(right_confirm(x), 32 + n % 136)),
    "last bit": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: flip(right_confirm(x), 8 * 21 - 1 - n % 8)),
    "nothing but zeros": WrongConfirm("HS-57", R.CONFIRM, lambda _x, _: b"\3\0\0\x11" + bytes(17)),
}

# What may come behind a Hello in one piece, before anybody could know what the HelloReply says.
BEHIND: Mapping[str, Callable[[Scene], bytes]] = {
    "a byte": lambda _: b"\3",
    "a header that is due": lambda _: b"\3\0\0\x11",
    "a record that nobody could seal": lambda _: b"\3\0\0\x11" + bytes(17),
    "a longer record": lambda _: b"\3\0\0\x12" + bytes(18),
    "the header of a longer record": lambda _: b"\3\0\0\x12",
    "a HelloReply behind it": lambda _: b"\2\0\4\xbc" + bytes(1212),
    "a Hello": lambda s: s.frame,
    "zeros behind it": lambda _: bytes(4),
}

# What others say to a port that is open.
OTHERS = {
    "nothing": b"",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a HelloReply": b"\2\0\4\xbc" + bytes(1212),
    "a record": b"\3\0\0\x11" + bytes(17),
    "an endless frame": b"\1\xff\xff\xff" + bytes(4096),
    "zeros": bytes(5000),
}
