"""Writes that wait, fail, or are cut off, under a session of the node's own; the peer takes what it likes, and when.

The invariants:
- What is written is written whole and in order, and nothing behind a record that was cut off. [SE-17] [SE-18]
- Who has said Bye closes when the peer has too, but not before all that was sealed is written. [SE-45] [SE-80]
- The clocks of the end begin where the specification has it: at the decision for Error, at the written Bye for the five
  seconds. They run out at their moment, neither before nor later. [SE-47] [SE-52] [SE-62] [SE-63] [SE-70]
- A write that fails is told to whoever asked for it, in every state, and what the peer had said before it still counts:
  data, its end, and its Error, which is what the session has failed of. [SE-58] [SE-59] [SE-68] [SE-83] [SE-84]

Each rule is one story in a session of its own, with what is said in it drawn.
"""

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from xlattice_trio.errors import ErrorCode
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.session_model import BYE, DATA, ERROR, KEEPALIVE, error_body, error_codes, limit
from xlattice_trio.fuzz.target import Application, GotData, GotEnd, GotFailure, Outcome, Told, Wire
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.testing.toolbox import RawPeer, error_payload, pattern

_TICK = 0.125  # seconds: a sum of these is exact
_SIDES = st.sampled_from(list(Side))
_ROOM = st.integers(0, 20)  # bytes: less than a record
_SIZE = st.sampled_from((1, 70_000, 200_000))
_TRUNCATED = GotFailure("Truncated")
_REPORTED = GotFailure("PeerReported", ErrorCode.OVER_CAPACITY)
_HEADER = 4

# What the peer says while nothing gets through to it.
_SAID = {
    "": (),
    "data": ((DATA, b"some data"),),
    "data, Bye": ((DATA, b"some data"), (BYE, b"")),
    "Bye": ((BYE, b""),),
    "Error": ((ERROR, error_payload(8, b"text")),),
    "data, Error": ((DATA, b"some data"), (ERROR, error_payload(8))),
    "Bye, Error": ((BYE, b""), (ERROR, error_payload(8))),
}


class WritesMachine(TargetMachine):
    """A session under which the writes do not go as they should."""

    wire: Wire
    peer: RawPeer
    application: Application

    @initialize()
    def start(self) -> None:
        """Each rule begins its own session."""

    # ---- what the rules are made of ----

    def begin(self, side: Side, keepalive: int = 0) -> None:
        """Another session."""
        if hasattr(self, "wire"):
            self.wire.reset()
        self.wire, self.peer = self.driver.session(side=side, keepalive=keepalive)
        application = self.wire.application
        assert application is not None, "an established session has no application"
        self.application = application
        self.got = b""  # of the target's bytes

    def say(self, what: str) -> None:
        """The peer says some of _SAID."""
        for type_, payload in _SAID[what]:
            self.wire.send(self.peer.record(type_, payload))

    def wait(self, seconds: float) -> None:
        """So much time passes."""
        self.driver.pass_time(seconds)

    def closes_after(self, seconds: float, why: str) -> None:
        """The target closes when so many seconds have passed, and not before."""
        assert not self.wire.closed, f"closed at once, {seconds:g} s before it is due {why}"
        self.wait(seconds - _TICK)
        assert not self.wire.closed, f"closed before its {seconds:g} s were over {why}"
        self.wait(_TICK)
        assert self.wire.closed, f"not closed after {seconds:g} s {why}"

    def stall(self, size: int, room: int) -> bytes:
        """The application sends data, of which not all is taken."""
        data = pattern(size % 7, size)
        self.wire.stop_taking(room)
        outcome = self.application.send_data(data)
        assert outcome is Outcome.WAITING, f"{size} bytes were written where {room} were taken: {outcome.name}"
        return data

    def take(self) -> list[tuple[int, bytes]]:
        """The records that have come until now, from the first one on; what is left is a part of one."""
        self.got += self.wire.received()
        return self.peer.feed(b"") if not self.got else self._opened()

    def _opened(self) -> list[tuple[int, bytes]]:
        found, self.got = self.got, b""
        return self.peer.feed(found)

    def data_of(self, records: Sequence[tuple[int, bytes]]) -> bytes:
        """The data in some records."""
        return b"".join(payload for type_, payload in records if type_ == DATA)

    def told(self, *expected: Told) -> None:
        """The application was told this since it was asked last."""
        told = self.application.told()
        assert told == list(expected), f"the application was told {told}, not {list(expected)}"

    def asks_in_vain(self, why: str) -> None:
        """Whatever the application wants to send is refused."""
        outcome = self.application.send_data(b"x")
        assert outcome is Outcome.REFUSED, f"data was {outcome.name} {why}"
        outcome = self.application.send_bye()
        assert outcome is Outcome.REFUSED, f"Bye was {outcome.name} {why}"

    # ---- writes that wait ----

    @rule(side=_SIDES, room=_ROOM, said=st.sampled_from(("Bye", "data, Bye")), takes=st.booleans())
    def cross_byes(self, side: Side, room: int, said: str, takes: bool) -> None:
        """Its Bye is still being written when the peer's comes: it closes when that is done. [SE-45] [SE-80]"""
        self.begin(side)
        self.wire.stop_taking(room)
        assert self.application.send_bye() is Outcome.WAITING, f"a Bye was written in {room} bytes"
        self.say(said)
        assert not self.wire.closed, "the peer's Bye has cut off its own [SE-80]"
        self.wait(limit("WRITE_DEADLINE") - _TICK)
        assert not self.wire.closed, "closed while its Bye was still being written [SE-80]"
        if not takes:
            self.wait(_TICK)
            assert self.wire.closed, "a write waits for ever [SE-70]"
            return
        self.wire.take_again()
        assert self.take() == [(BYE, b"")], "its Bye was not written whole [SE-80]"
        assert self.wire.closed, "not closed behind both Byes [SE-45]"
        self.told(*([GotData(b"some data")] if said != "Bye" else []), GotEnd())

    @rule(side=_SIDES, size=_SIZE, room=_ROOM, said=st.sampled_from(("", "data", "Bye")))
    def say_bye_behind_data(self, side: Side, size: int, room: int, said: str) -> None:
        """Data and Bye wait behind one another, and both arrive whole; in DRAINING the 5 seconds begin then. [SE-47]"""
        self.begin(side)
        data = self.stall(size, room)
        self.application.send_bye()
        self.say(said)
        self.wait(30.0)
        assert not self.wire.closed, "closed while data was being written"
        self.wire.take_again()
        records = self.take()
        assert self.data_of(records) == data, "the data did not arrive"
        assert records[-1] == (BYE, b""), f"{records[-1]} where Bye is due"
        due: dict[str, tuple[Told, ...]] = {"": (), "data": (GotData(b"some data"),), "Bye": (GotEnd(),)}
        self.told(*due[said])
        if said == "Bye":
            self.closes_after(limit("BYE_LINGER"), "behind both Byes [SE-46] [SE-47]")
        else:
            assert not self.wire.closed, "closed behind its own Bye"
            self.say("Bye")
            assert self.wire.closed, "not closed at the peer's Bye [SE-45]"

    @rule(side=_SIDES, size=_SIZE, room=_ROOM, how=st.sampled_from(("own", "violation", "empty")), takes=st.booleans())
    def fail_while_writing(self, side: Side, size: int, room: int, how: str, takes: bool) -> None:
        """An Error that has to wait for the record before it, or is itself not taken: one second in all. [SE-63]"""
        self.begin(side)
        data = b""
        if how != "empty":
            data = self.stall(size, room)
        else:
            self.wire.stop_taking(room)
        if how == "violation":
            self.wire.send(self.peer.record(7, b""))
        else:
            self.application.send_error(ErrorCode.INTERNAL, "text")
        assert not self.wire.closed, "closed at once, and its Error is lost [SE-62]"
        if not takes:
            self.closes_after(limit("ERROR_LINGER"), "at which it has decided for Error [SE-63]")
            return
        self.wait(0.5)
        self.wire.take_again()
        records = self.take()
        assert records, "nothing is written where Error is due [SE-62]"
        assert data.startswith(self.data_of(records)), "what was written is not what was sent"
        assert records[-1][0] == ERROR, f"a record of type {records[-1][0]} where Error is due [SE-55]"
        body = error_body(records[-1][1])
        code = error_codes()["protocol_violation" if how == "violation" else "internal"]
        assert body is not None
        assert body[0] == code, f"Error with the code {body[0]}, not {code}"
        self.closes_after(0.5, "at which it has decided for Error [SE-63]")

    @rule(side=_SIDES, room=_ROOM, early=st.booleans(), seconds=st.sampled_from((0.0, 4.0, 30.0)))
    def close_while_nothing_is_taken(self, side: Side, room: int, early: bool, seconds: float) -> None:
        """The application closes, before the peer's Bye or behind it: the 5 seconds begin with the written Bye."""
        self.begin(side)
        if not early:
            self.say("Bye")
        self.wire.stop_taking(room)
        self.application.close()
        self.wait(seconds)
        assert not self.wire.closed, "closed before its Bye was written [SE-47] [SE-52]"
        self.wire.take_again()
        assert self.take() == [(BYE, b"")], "no Bye where the application has closed [SE-51] [SE-81]"
        self.closes_after(limit("BYE_LINGER"), "behind its Bye [SE-47] [SE-52]")

    @rule(side=_SIDES, size=_SIZE, room=_ROOM)
    def close_while_writing(self, side: Side, size: int, room: int) -> None:
        """The application closes under a write: that is cut off, and nothing comes behind it. [SE-18] [SE-51]"""
        self.begin(side)
        data = self.stall(size, room)
        self.application.close()
        self.wait(limit("ERROR_LINGER"))
        assert self.wire.closed, "not closed behind a record that was cut off [SE-18]"
        self.wire.take_again()
        records = self.take()
        assert all(type_ == DATA for type_, _ in records), "a record behind one that was cut off [SE-18]"
        assert data.startswith(self.data_of(records)), "what was written is not what was sent"

    @rule(side=_SIDES, size=st.sampled_from((2, 65_536)))
    def close_with_data_that_was_not_taken(self, side: Side, size: int) -> None:
        """What was opened before the application closed, and not taken, does not count as thrown away. [SE-52]"""
        self.begin(side)
        self.application.stop_reading(1)
        self.wire.send(self.peer.record(DATA, pattern(0, size)))
        self.told(GotData(pattern(0, size)[:1]))
        self.application.close()
        left = limit("LINGER_BYTES")
        while left:
            assert not self.wire.closed, f"closed {left} bytes before it is due [SE-52]"
            much = 1 if left == 1 else min(left, 65_536) - (left == 65_536)  # the last byte comes alone
            self.wire.send(self.peer.record(DATA, bytes(much)))
            left -= much
        assert self.wire.closed, "not closed behind all that an application that has closed waits for [SE-52]"

    # ---- writes that are cut off ----

    @rule(
        side=_SIDES,
        what=st.sampled_from(("data", "Bye")),
        size=_SIZE,
        room=_ROOM,
        said=st.sampled_from(sorted(_SAID)),
        then=st.sampled_from(("", "data", "error", "close")),
    )
    def cancel_a_write(self, side: Side, what: str, size: int, room: int, said: str, then: str) -> None:
        """The application cancels what it sends: nothing is written behind that, and the session ends. [SE-18]"""
        self.begin(side)
        if what == "data":
            self.stall(size, room)
        else:
            self.wire.stop_taking(room)
            self.application.send_bye()
        self.application.cancel()
        self.wire.take_again()
        if then == "data":
            self.asks_in_vain("behind a record that was cut off [SE-18]")
        elif then == "error":
            self.application.send_error(ErrorCode.INTERNAL)
        elif then == "close":
            self.application.close()
        else:
            self.say(said)
        self.wait(limit("ERROR_LINGER"))
        records = self.take()
        assert all(type_ == DATA for type_, _ in records), "a record behind one that was cut off [SE-18]"
        assert self.wire.closed, "not closed a second after a write was cut off [SE-18] [SE-83]"
        if not then:
            self._check_what_was_read(said, has_said_bye=what == "Bye")

    # ---- writes that fail ----

    @rule(
        side=_SIDES,
        said=st.sampled_from(sorted(_SAID)),
        what=st.sampled_from(("data", "Bye")),
        reads=st.booleans(),
        ends=st.booleans(),
    )
    def fail_a_write(self, side: Side, said: str, what: str, reads: bool, ends: bool) -> None:
        """A write fails, and what has arrived by then, and arrives in the second behind, is read. [SE-68] [SE-83]"""
        self.begin(side)
        if not reads:
            self.application.stop_reading()
        if not reads:
            self.say(said)
        self.wire.fail_writes()
        outcome = self.application.send_data(b"x") if what == "data" else self.application.send_bye()
        if reads:
            self.say(said)
        if ends:
            self.wire.close()
        self.wait(limit("ERROR_LINGER"))
        assert self.wire.closed, "not closed a second after a write has failed [SE-83]"
        assert outcome is not Outcome.DONE, f"{what} is said to be written, and was not [SE-84]"
        self.asks_in_vain("behind a write that has failed [SE-84]")
        if not reads and "Error" in said and not (what == "Bye" and "Bye" in said):  # or it has ended before
            assert self.application.refused_for == _REPORTED, (
                f"who sends is told of {self.application.refused_for}, not of the peer's Error [SE-58] [SE-68]"
            )
        self.application.read_again()
        self._check_what_was_read(said, has_said_bye=what == "Bye")

    def _check_what_was_read(self, said: str, *, has_said_bye: bool) -> None:
        """What the application is told when no more can be sent, and the peer has said this."""
        expected: list[Told] = []
        if "data" in said:
            expected.append(GotData(b"some data"))
        if "Bye" in said:
            expected.append(GotEnd())
        if "Error" in said and not ("Bye" in said and has_said_bye):
            expected.append(_REPORTED)
        elif "Bye" not in said:
            expected.append(_TRUNCATED)
        told = self.application.told()
        assert told == expected, f"the application was told {told}, not {expected} [SE-59] [SE-65] [SE-66] [SE-68]"

    @rule(side=_SIDES, room=_ROOM, breaks=st.booleans(), reads=st.booleans())
    def fail_a_keepalive(self, side: Side, room: int, breaks: bool, reads: bool) -> None:
        """A KeepAlive is not written whole: that ends the session as any other write does, whether anybody reads or
        not. [SE-70] [SE-83]"""
        keepalive = 3_600_000 if not breaks else 1000
        self.begin(side, keepalive)
        if not reads:
            self.application.stop_reading()
        if breaks:
            self.wire.fail_writes()
            self.wait(keepalive / 1000)
            self.wait(limit("ERROR_LINGER"))
            assert self.wire.closed, "not closed a second after a KeepAlive has failed [SE-83]"
            self.told(_TRUNCATED)
            return
        self.wire.stop_taking(room)
        self.wait(keepalive / 1000)
        self.closes_after(limit("WRITE_DEADLINE"), "for a KeepAlive that nobody takes [SE-70]")
        self.told(GotFailure("WriteStalled"))

    @rule(
        side=_SIDES,
        keepalive=st.sampled_from((1000, 15_000)),
        waited=st.sampled_from((0.0, 1.0, 2.5)),
        held=st.sampled_from((1.0, 100.0)),
        said=st.booleans(),
    )
    def hold_back_reading(self, side: Side, keepalive: int, waited: float, held: float, said: bool) -> None:
        """While the application does not read, the peer's silence does not count. [SE-36] [SE-37]"""
        self.begin(side, keepalive)
        self.say("data")
        self.told(GotData(b"some data"))
        silence = keepalive / 1000 * limit("KEEPALIVE_INTERVALS")
        self.wait(waited)
        self.application.stop_reading()
        self.wait(held)
        assert not self.wire.closed, "the peer's silence counts while the application does not read [SE-36]"
        if said:
            self.say("data")
            waited = 0.0
        self.application.read_again()
        self.told(*([GotData(b"some data")] if said else []))
        self.wait(silence - waited - _TICK)
        assert not any(type_ == ERROR for type_, _ in self.take()), "silence ends the session too early [SE-36]"
        self.wait(_TICK)
        records = self.take()
        assert records, "the peer's silence does not end the session [SE-37]"
        assert records[-1][0] == ERROR, f"a record of type {records[-1][0]} where silence was too long [SE-37]"

    @rule(side=_SIDES, size=_SIZE, room=_ROOM)
    def keep_alive_behind_a_write(self, side: Side, size: int, room: int) -> None:
        """A KeepAlive waits for the record before it, and is not sent twice. [SE-17]"""
        self.begin(side, 15_000)
        data = self.stall(size, room)
        self.wire.send(self.peer.record(KEEPALIVE))
        self.wait(31.0)
        self.wire.take_again()
        records = self.take()
        assert self.data_of(records) == data, "the data did not arrive"
        others = [type_ for type_, _ in records if type_ != DATA]
        assert others in ([], [KEEPALIVE]), f"records of the types {others} behind data that was held up"
        self.wire.send(self.peer.record(DATA, b"some data"))
        self.told(GotData(b"some data"))


MACHINES = (
    MachineInfo(
        "writes",
        "what is written is written whole or ends the session, and what has arrived by then still counts",
        WritesMachine,
        drivers=("memory",),
        share=2.0,
    ),
)
