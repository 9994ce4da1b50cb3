"""Which frame is due in which state, refused at its header; and frames out of pieces. Spec 4."""

from collections.abc import Iterator, Sequence

from xlattice_trio.errors import DecodeError
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refusal, Refused
from xlattice_trio.vectors.schema import array, data, integer, obj, one_of
from xlattice_trio.wire.framing import (
    DUE_CONFIRM,
    DUE_RECORD,
    DUE_REPLY,
    HEADER_SIZE,
    Due,
    FrameReader,
    hello_length,
)
from xlattice_trio.wire.messages import FrameKind

_DUE = {"AWAIT_REPLY": DUE_REPLY, "AWAIT_CONFIRM": DUE_CONFIRM, "ESTABLISHED": DUE_RECORD}

# ---- operations --------------------------------------------------------------


def _due(given: Json) -> Due:
    if given["state"] == "AWAIT_HELLO":
        return Due(FrameKind.HELLO, {hello_length(bits // 8) for bits in given["accepted_bits"]})
    return _DUE[given["state"]]


def _next_frame(reader: FrameReader, due: Due) -> memoryview | None:
    try:
        return reader.next_frame(due)
    except DecodeError as exc:
        raise Refused(FailLayer.FRAME, "FR-4", "FR-5", where=exc.where, problem=str(exc)) from exc


def _frame_header(given: Json, _fixtures: Fixtures) -> Json:
    header = bytes.fromhex(given["header"])
    reader = FrameReader()
    reader.feed(header)
    assert _next_frame(reader, _due(given)) is None, "no frame is empty"
    return {"length": int.from_bytes(header[1:], "big")}


def _frames(given: Json, _fixtures: Fixtures) -> Json:
    reader, due = FrameReader(), _due(given)
    frames = []
    received = b""
    for chunk in given["chunks"]:
        received += bytes.fromhex(chunk)
        reader.feed(bytes.fromhex(chunk))
        completed = []
        while (frame := _next_frame(reader, due)) is not None:
            completed.append(frame.hex())
        frames.append(completed)
    return {"frames": frames, "rest": received[len(received) - reader.unread :].hex()}


_STATE = {"state": one_of("AWAIT_HELLO", *_DUE)}
_ACCEPTED = {"accepted_bits": array({"enum": [2048, 3072, 4096]}, 1)}
OPS = {
    "frame_header": Op(
        _frame_header,
        obj(_STATE | {"header": data(HEADER_SIZE)}, _ACCEPTED),
        obj({"length": integer()}),
    ),
    "frames": Op(
        _frames,
        obj(_STATE | {"chunks": array(data(), 1)}, _ACCEPTED),
        obj({"frames": array(array(data())), "rest": data()}),
    ),
}

# ---- cases: headers ----------------------------------------------------------

_KINDS = {"hello": 1, "hello-reply": 2, "record": 3}


def _header(kind: int, length: int) -> bytes:
    return bytes([kind]) + length.to_bytes(3, "big")


def _input(state: str, accepted: Sequence[int]) -> Json:
    return {"state": state} | ({"accepted_bits": list(accepted)} if accepted else {})


def _slug(state: str, accepted: Sequence[int]) -> str:
    return "-".join([state.lower().replace("_", "-"), *map(str, accepted)])


_ROLES = {"AWAIT_HELLO": "responder", "AWAIT_REPLY": "initiator", "AWAIT_CONFIRM": "responder", "ESTABLISHED": "both"}


def _headers(
    state: str, accepted: Sequence[int], kind: str, due: Sequence[int], not_due: Sequence[int]
) -> Iterator[Case]:
    """One state: `kind` is due, with the lengths `due`; and what is refused."""
    slug = f"frames/header/{_slug(state, accepted)}"

    def case(what: str, header: bytes, comment: str, change: str = "") -> Case:
        base = f"{slug}/{kind}-{due[0]}"
        return Case(
            name=f"{slug}/{what}",
            op="frame_header",
            requirements=("FR-3", "FR-4", "FR-5"),
            comment=comment,
            role=_ROLES[state],
            input=_input(state, accepted) | {"header": header.hex()},
            expected={} if change else {"length": int.from_bytes(header[1:], "big")},
            refusal=Refusal(layer=FailLayer.FRAME, by="FR-4", base=base, change=change) if change else None,
        )

    for length in due:
        yield case(f"{kind}-{length}", _header(_KINDS[kind], length), f"Due in {state}.")
    for length in not_due:
        change = f"the length is {length}"
        yield case(f"{kind}-{length}", _header(_KINDS[kind], length), f"Not due in {state}: {change}.", change)
    for number in (0, *(other for other in (1, 2, 3) if other != _KINDS[kind]), 4, 255):
        change = f"the kind is {number}"
        yield case(f"kind-{number}", _header(number, due[0]), f"Not due in {state}: {change}.", change)


def _header_cases() -> Iterator[Case]:
    most = (1 << 24) - 1
    yield from _headers("AWAIT_HELLO", [2048], "hello", [2212], [0, 2211, 2213, 2340, 2468, most])
    yield from _headers("AWAIT_HELLO", [3072], "hello", [2340], [2212, 2339, 2341])
    yield from _headers("AWAIT_HELLO", [4096], "hello", [2468], [2340, 2467, 2469])
    yield from _headers("AWAIT_HELLO", [2048, 4096], "hello", [2212, 2468], [2340])
    yield from _headers("AWAIT_REPLY", [], "hello-reply", [1212], [0, 1211, 1213, most])
    yield from _headers("AWAIT_CONFIRM", [], "record", [17], [0, 16, 18, 65553])
    yield from _headers("ESTABLISHED", [], "record", [17, 18, 65553], [0, 16, 65554, most])
    for what, state, typical, found in (
        ("hello-of-the-other-protocol", "AWAIT_REPLY", "hello-reply-1212", b"HTTP"),
        ("tls-client-hello", "AWAIT_CONFIRM", "record-17", bytes.fromhex("16030102")),
    ):
        yield Case(
            name=f"frames/header/{_slug(state, ())}/{what}",
            op="frame_header",
            requirements=("FR-2", "FR-5"),
            comment="Another protocol.",
            role=_ROLES[state],
            input=_input(state, ()) | {"header": found.hex()},
            refusal=Refusal(
                layer=FailLayer.FRAME,
                by="FR-4",
                base=f"frames/header/{_slug(state, ())}/{typical}",
                change="another protocol begins",
            ),
        )


# ---- cases: pieces -----------------------------------------------------------


def _frame(kind: str, length: int, what: str) -> bytes:
    return _header(_KINDS[kind], length) + drawn(f"frames/{what}", length)


def _cut(message: bytes, size: int) -> list[bytes]:
    return [message[i : i + size] for i in range(0, len(message), size)]


def _piece_cases() -> Iterator[Case]:
    one, two, three = (_frame("record", 17 + i, f"record {i}") for i in range(3))
    hello = _frame("hello", 2212, "hello")
    reply = _frame("hello-reply", 1212, "reply")
    confirm = _frame("record", 17, "confirm")
    most = _frame("record", 65553, "most")

    def case(
        what: str,
        chunks: Sequence[bytes],
        frames: Sequence[Sequence[bytes]],
        rest: bytes,
        comment: str,
        state: str = "ESTABLISHED",
        accepted: Sequence[int] = (),
    ) -> Case:
        return Case(
            name=f"frames/pieces/{what}",
            op="frames",
            requirements=("FR-6", "FR-7", "FR-8"),
            comment=comment,
            role=_ROLES[state],
            input=_input(state, accepted) | {"chunks": [chunk.hex() for chunk in chunks]},
            expected={
                "frames": [[frame.hex() for frame in completed] for completed in frames],
                "rest": rest.hex(),
            },
        )

    yield case("whole", [one], [[one]], b"", "A frame in one piece.")
    yield case("two-at-once", [one + two], [[one, two]], b"", "Two frames in one piece.")
    yield case("three-at-once", [one + two + three], [[one, two, three]], b"", "Three frames in one piece.")
    bytewise = _cut(one, 1)
    yield case("byte-by-byte", bytewise, [*([[]] * (len(one) - 1)), [one]], b"", "A frame, byte by byte.")
    yield case("header-alone", [one[:4], one[4:]], [[], [one]], b"", "The header, then the body.")
    yield case("half-header", [one[:2], one[2:]], [[], [one]], b"", "The cut is within the header.")
    yield case("last-byte", [one[:-1], one[-1:]], [[], [one]], b"", "All but the last byte, then that.")
    yield case("frame-and-half", [one + two[:9], two[9:]], [[one], [two]], b"", "The cut is within the second.")
    yield case("across", [one[:9], one[9:] + two], [[], [one, two]], b"", "The cut is within the first.")
    yield case("rest-header", [one + two[:3]], [[one]], two[:3], "What is left is a part of a header.")
    yield case("rest-body", [one + two[:-1]], [[one]], two[:-1], "What is left is all but the last byte of a frame.")
    yield case("nothing", [b"", one], [[], [one]], b"", "An empty piece changes nothing.")
    yield case("sevens", _cut(one + two + three, 7), _by_sevens(one, two, three), b"", "Cut every seven bytes.")
    yield case("most", [most[:1000], most[1000:]], [[], [most]], b"", "The largest frame that there is.")
    yield case("hello", _cut(hello, 1000), [[], [], [hello]], b"", "A Hello.", "AWAIT_HELLO", [2048])
    yield case("reply", [reply[:100], reply[100:]], [[], [reply]], b"", "A HelloReply.", "AWAIT_REPLY")
    yield case("confirm", _cut(confirm, 20), [[], [confirm]], b"", "A Confirm.", "AWAIT_CONFIRM")

    def bad(what: str, chunks: Sequence[bytes], base: str, change: str, comment: str) -> Case:
        return Case(
            name=f"frames/pieces/{what}",
            op="frames",
            requirements=("FR-5",),
            comment=comment,
            input=_input("ESTABLISHED", ()) | {"chunks": [chunk.hex() for chunk in chunks]},
            refusal=Refusal(layer=FailLayer.FRAME, by="FR-4", base=f"frames/pieces/{base}", change=change),
        )

    not_due = b"\x02" + two[1:4]
    change = "the second has the kind 2"
    yield bad("second-not-due", [one + not_due], "two-at-once", change, "Refused at its header.")
    split = [one[:1], b"\xff\xff\xff"]
    yield bad(
        "bad-length-in-pieces", split, "byte-by-byte", "the length is 16777215", "The header comes in two pieces."
    )


def _by_sevens(*frames: bytes) -> list[list[bytes]]:
    """Which frames are complete after each seven bytes."""
    found: list[list[bytes]] = [[] for _ in _cut(b"".join(frames), 7)]
    end = 0
    for frame in frames:
        end += len(frame)
        found[(end - 1) // 7].append(frame)
    return found


def cases(_fixtures: Fixtures) -> Iterator[Case]:
    yield from _header_cases()
    yield from _piece_cases()


AREA = Area("frames", "Frames: what is due, and how it is read (4)", OPS, cases)
