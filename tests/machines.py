"""State machines that do what a test needs: hold, fail, crash, or break themselves; and a short run of any machine."""

import time

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, rule, run_state_machine_as_test

from xlattice_trio.errors import ErrorCode
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.target import Wire
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.wire.messages import RecordType


def run_briefly(machine: type[TargetMachine], examples: int, *, steps: int = 50) -> None:
    """A run of so many examples, the same each time, which shrinks nothing. Raises what the machine raises."""
    run_state_machine_as_test(
        type(machine.__name__, (machine,), {}),
        settings=settings(
            max_examples=examples,
            derandomize=True,
            database=None,
            deadline=None,
            stateful_step_count=steps,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
            print_blob=False,
        ),
    )


class Silence(TargetMachine):
    """Noise is met with silence, which holds."""

    wires: Bundle[Wire] = Bundle("wires")

    @initialize(port=st.sampled_from(list(Port)))
    def start(self, port: Port) -> None:
        self.target = self.driver.responder(port, cast=self.meet())

    @rule(target=wires)
    def connect(self) -> Wire:
        return self.target.connect()

    @rule(wire=wires, data=st.binary(min_size=1, max_size=32))
    def noise(self, wire: Wire, data: bytes) -> None:
        wire.send(data)
        assert wire.received() == b""

    @invariant()
    def holds(self) -> None:
        assert True


class Loud(Silence):
    """Three bytes are too many, it says."""

    @rule(wire=Silence.wires, data=st.binary(min_size=1, max_size=32), code=st.sampled_from(list(ErrorCode)))
    def shout(self, wire: Wire, data: bytes, code: ErrorCode) -> None:
        wire.send(data)
        assert len(data) < 3 or code is not ErrorCode.INTERNAL, "three bytes"


class Mended(Silence):
    """What is said is met with silence."""

    @rule(wire=Silence.wires, data=st.binary(min_size=1, max_size=32), code=st.sampled_from(list(ErrorCode)))
    def shout(self, wire: Wire, data: bytes, code: ErrorCode) -> None:
        wire.send(data)
        assert code in ErrorCode


class Exchange(TargetMachine):
    """Data is delivered, which holds; and a sound session says nothing by itself."""

    @initialize(side=st.sampled_from(list(Side)))
    def start(self, side: Side) -> None:
        self.wire, self.peer = self.driver.session(side=side)

    @rule(data=st.binary(min_size=1, max_size=64))
    def deliver(self, data: bytes) -> None:
        self.wire.send(self.peer.record(RecordType.DATA, data))
        assert self.wire.application is not None
        told = self.wire.application.told()
        assert b"".join(one.data for one in told) == data, "data was lost"  # type: ignore[union-attr]
        self.wire.application.send_data(data)
        assert self.peer.feed(self.wire.received()) == [(RecordType.DATA, data)], "what was sent does not open"


class Strict(Exchange):
    """It takes more than three records for a finding."""

    taken = 0

    @rule(wait=st.integers(1, 3))
    def count(self, wait: int) -> None:
        self.driver.pass_time(wait)
        self.taken += 1
        assert self.taken < 3, "three waits"


class Broken(Silence):
    """The machine itself has a bug."""

    @rule()
    def fall(self) -> None:
        raise LookupError("a bug of the machine's own")


class Crash(Silence):
    """The target lets out what no target should."""

    @rule()
    def crash(self) -> None:
        self.driver.responder(Port.CLIENT, keepalive=-1)  # the node raises UsageError for it


class Endless(Silence):
    """A step that does not end."""

    @rule()
    def loop(self) -> None:
        while True:
            time.monotonic()


SILENCE = MachineInfo("silence", "noise is met with silence", Silence)
UNREACHED = MachineInfo("unreached", "noise is met with silence", Silence, tables=("RESPONDER",))
LOUD = MachineInfo("loud", "three bytes are too many", Loud)
MENDED = MachineInfo("mended", "what is said is met with silence", Mended)
EXCHANGE = MachineInfo("exchange", "data is delivered", Exchange, drivers=("sansio", "memory"))
STRICT = MachineInfo("strict", "three waits are too many", Strict, drivers=("sansio", "memory"))
BROKEN = MachineInfo("broken", "nothing", Broken)
CRASH = MachineInfo("crash", "nothing", Crash)
ENDLESS = MachineInfo("endless", "every step ends", Endless)
QUIET = MachineInfo("quiet", "noise is met with silence", Silence, drivers=("sansio",))
QUICK = MachineInfo("quick", "data is delivered", Exchange, drivers=("sansio",))
