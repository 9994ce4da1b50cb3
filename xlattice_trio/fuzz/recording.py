"""A driver that keeps what is said on its wires, for stories and for test vectors.

It stands before any other driver and hands everything on. What comes from the target is written down when the machine
asks for it.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from xlattice_trio.fuzz.target import Driver
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.testing.pairs import frames
from xlattice_trio.testing.toolbox import RawPeer
from xlattice_trio.wire.messages import FrameKind

_SHOWN = 24  # bytes of a frame


@attrs.frozen
class Happening:
    """What happened on one wire, or on all: `what` is sent, received, closed, reset, placed, commanded or waited."""

    wire: int | None
    what: str
    data: bytes = b""
    detail: Any = None


@attrs.define
class Connection:
    """One wire: what it is, and all that was needed to make it. `kind` is responder, initiator or session."""

    kind: str
    given: dict[str, Any]
    wire: Any


class Recording:
    """The driver, and what it has kept: `connections` by number, and `happened`, in order."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver
        self.connections: list[Connection] = []
        self.happened: list[Happening] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)

    def responder(self, *args: Any, **kwargs: Any) -> Any:
        return _Responder(self, self._driver.responder(*args, **kwargs), kwargs)

    def initiator(self, **kwargs: Any) -> Any:
        return _Initiator(self, self._driver.initiator(**kwargs))

    def session(self, **kwargs: Any) -> tuple[Any, RawPeer]:
        wire, peer = self._driver.session(**kwargs)
        side = kwargs.get("side", Side.RESPONDER)
        ours, theirs = peer.send_secret, peer.receive_secret
        i2r, r2i = (ours, theirs) if side is Side.RESPONDER else (theirs, ours)
        given = {"side": side, "keepalive": kwargs.get("keepalive", 0), "i2r": i2r, "r2i": r2i}
        return self.wire("session", given, wire), peer

    def pass_time(self, seconds: float) -> None:
        self.happened.append(Happening(None, "waited", detail=seconds))
        self._driver.pass_time(seconds)

    def wire(self, kind: str, given: dict[str, Any], wire: Any) -> "_Wire":
        """A new connection, written down from now on."""
        self.connections.append(Connection(kind, given, wire))
        return _Wire(self, len(self.connections) - 1, wire)

    def said(self, wire: int, what: str) -> bytes:
        """All that was `sent` or `received` on a wire."""
        return b"".join(one.data for one in self.happened if one.wire == wire and one.what == what)

    def story(self) -> list[str]:
        """What was said, for people: a line for each frame and for each thing that was done."""
        return [line for one in self.happened for line in _lines(one, self.connections)]


class _Target:
    def __init__(self, recording: Recording, target: Any) -> None:
        self._recording = recording
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class _Responder(_Target):
    def __init__(self, recording: Recording, target: Any, given: dict[str, Any]) -> None:
        super().__init__(recording, target)
        self._given = given

    def connect(self) -> Any:
        given = {**self._given, "port": self._target.port, "cast": self._target.cast, "roster": self._target.roster}
        return self._recording.wire("responder", given, self._target.connect())


class _Initiator(_Target):
    def dial(self, intent: Any) -> Any:
        return self._recording.wire("initiator", {"intent": intent}, self._target.dial(intent))


class _Wire:
    def __init__(self, recording: Recording, number: int, wire: Any) -> None:
        self._recording = recording
        self._number = number
        self._wire = wire

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)

    def send(self, data: bytes) -> None:
        self._note("sent", data)
        self._wire.send(data)

    def received(self) -> bytes:
        data: bytes = self._wire.received()
        if data:
            self._note("received", data)
        return data

    def close(self) -> None:
        self._note("closed")
        self._wire.close()

    def reset(self) -> None:
        self._note("reset")
        self._wire.reset()

    def stop_taking(self, room: int = 1024) -> None:
        self._note("stops reading from")
        self._wire.stop_taking(room)

    def take_again(self) -> None:
        self._note("reads again from")
        self._wire.take_again()

    def fail_writes(self) -> None:
        self._note("takes nothing more from")
        self._wire.fail_writes()

    def place_seal(self, seq: int) -> None:
        self._note("placed", detail=("seal", seq))
        self._wire.place_seal(seq)

    def place_open(self, seq: int) -> None:
        self._note("placed", detail=("open", seq))
        self._wire.place_open(seq)

    @property
    def application(self) -> Any:
        found = self._wire.application
        return None if found is None else _Application(self._note, found)

    def _note(self, what: str, data: bytes = b"", detail: Any = None) -> None:
        self._recording.happened.append(Happening(self._number, what, data, detail))


class _Application:
    def __init__(self, note: Any, application: Any) -> None:
        self._note = note
        self._application = application

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._application, name)
        if name in ("told", "refused_for"):
            return method

        def commanded(*args: Any, **kwargs: Any) -> Any:
            self._note("commanded", detail=(name, args, kwargs))
            return method(*args, **kwargs)

        return commanded


# ---- for people --------------------------------------------------------------


def _lines(one: Happening, connections: Sequence[Connection]) -> list[str]:
    if one.wire is None:
        return [f"     {one.detail:g} s pass"]
    name = f"{one.wire:3} "
    target = connections[one.wire].kind
    match one.what:
        case "sent":
            return [f"{name} attacker -> {target}: {shown}" for shown in map(_shown, frames(one.data))]
        case "received":
            return [f"{name} attacker <- {target}: {shown}" for shown in map(_shown, frames(one.data))]
        case "commanded":
            method, args, kwargs = one.detail
            given = [*map(_short, args), *(f"{key}={_short(value)}" for key, value in kwargs.items())]
            return [f"{name} the application of the {target}: {method}({', '.join(given)})"]
        case "placed":
            way, seq = one.detail
            return [f"{name} the {target} goes on to {way} at sequence number {seq}"]
    return [f"{name} attacker: {one.what} the connection"]


def _shown(frame: bytes) -> str:
    kind = next((kind.name for kind in FrameKind if frame[:1] == bytes((kind,))), "no frame")
    more = " ..." if len(frame) > _SHOWN else ""
    return f"{kind}, {len(frame)} bytes: {frame[:_SHOWN].hex(' ')}{more}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
