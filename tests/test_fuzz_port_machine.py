"""The machine for a member's ports: it finds nothing in this package, and finds what is put into it.

Faults are put in by exchanging a few letters in a function while the machine runs, or a limit.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs
import pytest

from tests.machines import run_briefly
from xlattice_trio.fuzz import memory_port
from xlattice_trio.fuzz.machines import ports as port_machine
from xlattice_trio.fuzz.machines.base import with_driver
from xlattice_trio.fuzz.machines.ports import PORT, PortMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.port_model import (
    HOSTS,
    NAME,
    NAMED,
    SOURCES,
    Listing,
    address_of,
    is_loopback,
    roster_of,
    source_of,
)
from xlattice_trio.fuzz.target import TargetCrashed
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.net import listen
from xlattice_trio.net.gate import SourceGate
from xlattice_trio.net.listen import Handshakes, PortLimits, Slot, Slots


def run(examples: int) -> None:
    """A short run, the same each time."""
    run_briefly(with_driver(PortMachine, Memory), examples, steps=25)


def found(examples: int = 120) -> bool:
    """Whether something is found."""
    for cached in (port_machine.check_what_is_kept, port_machine.check_defaults):
        cached.cache_clear()
    try:
        run(examples)
    except (AssertionError, TargetCrashed, ExceptionGroup):
        return True
    finally:
        for cached in (port_machine.check_what_is_kept, port_machine.check_defaults):
            cached.cache_clear()
    return False


@contextmanager
def started(limits: str = "usual", *, loopback: bool = False, grace: float | None = None) -> Iterator[PortMachine]:
    """A machine that has begun."""
    machine = with_driver(PortMachine, Memory)()
    try:
        machine.start(limits, loopback, None, True, grace)
        yield machine
    finally:
        machine.teardown()


# ---- nothing is wrong --------------------------------------------------------


def test_nothing_is_found() -> None:
    run(15)


def test_every_way_to_end_a_session_gives_its_place_back() -> None:
    with started() as machine:
        for port in Port:
            machine.meet_and_part(port, 0, list(port_machine._ENDS))
        machine.pass_time(60)
        assert [line for line in machine.lines if line.state == "LEAVING"] == []


def test_the_machine_is_for_the_driver_that_has_ports() -> None:
    assert PORT.drivers == ("memory",)
    assert port_machine.MACHINES == (PORT,)


# ---- what the model says -----------------------------------------------------


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("192.0.2.2", "::ffff:192.0.2.2", True),
        ("192.0.2.2", "192.0.2.3", False),
        ("2001:db8:0:1::2", "2001:db8:0:1:ffff::9", True),
        ("2001:db8:0:1::2", "2001:db8:0:2::2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("::192.0.2.2", "192.0.2.2", False),
    ],
)
def test_sources_are_told_apart_as_the_specification_has_it(a: str, b: str, same: bool) -> None:
    assert (source_of(address_of(a)) == source_of(address_of(b))) is same


def test_loopback_is_what_the_specification_says() -> None:
    found = {text for text in SOURCES if is_loopback(address_of(text))}
    assert found == {"127.0.0.9", "127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_roster_says_what_its_listing_says() -> None:
    roster = roster_of(Listing(3, (1, None, 1, 0), (True, False), anyone=False))
    assert {member.host for member in roster.members.values()} == {HOSTS[0][1], NAME, HOSTS[3][0]}
    assert (roster.epoch, len(roster.clients)) == (3, 1)


# ---- what is put in is found -------------------------------------------------


@attrs.frozen
class Fault:
    """Some letters of a function are others."""

    what: str
    owner: Any
    name: str
    old: str
    new: str

    def planted(self) -> Any:
        """The function with the fault."""
        original = inspect.getattr_static(self.owner, self.name)
        function = original if inspect.isfunction(original) else original.__wrapped__
        source = textwrap.dedent(inspect.getsource(function))
        assert source.count(self.old) == 1, (
            f"{self.what}: {self.old!r} is in {self.name} {source.count(self.old)} times"
        )
        space: dict[str, Any] = {}
        exec(
            compile(source.replace(self.old, self.new), "planted", "exec"),
            vars(sys.modules[function.__module__]),
            space,
        )
        return space[self.name]


FAULTS = (
    Fault("a part of a token is enough", Slots, "refusal", "now) < 1", "now) <= 0"),
    Fault("tokens never come back", Slots, "_tokens", "(now - bucket.at)", "0"),
    Fault("a bucket has no bottom", Slots, "_tokens", "min(self._limits.burst, ", "max(0, "),
    Fault(
        "what is refused costs a token",
        Slots,
        "refusal",
        "    if self._tokens",
        "    self._buckets[source] = _Bucket(self._tokens(source, now) - 0.5, now)\n    if self._tokens",
    ),
    Fault(
        "one handshake too many of a source",
        Slots,
        "refusal",
        ">= self._limits.handshakes_per",
        "> self._limits.handshakes_per",
    ),
    Fault("one handshake too many", Slots, "refusal", ">= self._limits.handshakes:", "> self._limits.handshakes:"),
    Fault("one connection too many", Slots, "refusal", ">= self._limits.connections", "> self._limits.connections"),
    Fault("IPv6 by whole addresses", Slots, "source_of", "(int(address) >> 64 << 64, 64)", "int(address)"),
    Fault("IPv6 by its first 48 bits", Slots, "source_of", ">> 64 << 64, 64", ">> 80 << 80, 48"),
    Fault("loopback is always exempt", Slots, "source_of", "and not self._limits.limit_loopback", ""),
    Fault("loopback is never exempt", Slots, "source_of", "address.is_loopback and", "False and"),
    Fault("sources are never forgotten", Slots, "enter", "if self._admitted % _FORGET_EVERY == 0", "if False"),
    Fault("sources are forgotten too soon", Slots, "_forget", ">= self._limits.burst", ">= 0"),
    Fault(
        "a source stays when its handshakes are over",
        Slots,
        "handshake_over",
        "del self._handshakes_of[source]",
        "pass",
    ),
    Fault("a handshake's place is kept by the session", listen._Server, "handle", "slot.established()", "pass"),
    Fault("a connection's place is never given back", Slot, "leave", "self._slots.connection_over()", "pass"),
    Fault(
        "a connection's place is given back at ESTABLISHED",
        Slot,
        "established",
        "self._slots.handshake_over(",
        "self._slots._connections -= 1\n        self._slots.handshake_over(",
    ),
    Fault(
        "only the first handshake is ended",
        Handshakes,
        "recheck",
        "scope.cancel()",
        "scope.cancel()\n            break",
    ),
    Fault("all handshakes are ended", Handshakes, "recheck", "not responder.is_admitted", "True"),
    Fault("no handshake is ended", Handshakes, "recheck", "scope.cancel()", "pass"),
    Fault("handshakes are not known", listen._Server, "handle", "handshakes=self.handshakes,", ""),
    Fault("the deadline is always the same", listen._Server, "handle", "deadline=self.deadline,", ""),
    Fault(
        "the deadline begins with the last byte",
        listen,
        "_shake_hands",
        "            if not data:",
        "            trio.lowlevel.current_task()._cancel_status._scope.deadline = trio.current_time() + 10\n"
        "            if not data:",
    ),
    Fault("the gate is not asked", listen._Server, "_admitted", "not self.gate.admits(address)", "False"),
    Fault(
        "a stranger gets a byte",
        listen._Server,
        "handle",
        "await trio.aclose_forcefully(transport)",
        "await transport.send_all(b'busy')",
    ),
    Fault(
        "a refused handshake ends the port",
        listen._Server,
        "handle",
        "            return\n        slot",
        "            raise\n        slot",
    ),
    Fault(
        "a connection that is gone ends the port",
        listen,
        "_peer_address",
        "not in (errno.ENOTCONN, errno.EINVAL)",
        "!= 0",
    ),
    Fault(
        "connections end with their place",
        memory_port,
        "serve_secure_listeners",
        "handler_nursery=handler_nursery, ",
        "",
    ),
    Fault(
        "the cluster port has the limits of the other",
        memory_port,
        "serve_secure_listeners",
        "None if gate is None else CLUSTER_PORT_LIMITS",
        "None",
    ),
    Fault("a mapped address is another", listen, "normalize", "ip.ipv4_mapped is not None", "False"),
    Fault("a zone is a part of an address", listen, "normalize", 'address.partition("%")[0]', "address"),
    Fault("the grace has no end", SourceGate, "_forget_earlier", "trio.current_time() >= self._earlier.until", "False"),
    Fault("the grace ends a moment late", SourceGate, "_forget_earlier", ">=", ">"),
    Fault("there is no grace", SourceGate, "adopt", "self._earlier = _", "_ = _"),
    Fault(
        "the grace is for those who are gone, too",
        SourceGate,
        "_hosts",
        "if member.node_id in self._roster.members",
        "if True",
    ),
    Fault("a new roster is not looked at", SourceGate, "adopt", "self._admitted = None", "pass"),
    Fault(
        "the end of the grace is not looked at",
        SourceGate,
        "_forget_earlier",
        "self._earlier = self._admitted = None",
        "self._earlier = None",
    ),
    Fault("what cannot be resolved is forgotten", SourceGate, "_resolve", "        return", "        found = []"),
    Fault("names are resolved once", SourceGate, "run", "trio.move_on_after(RESOLVE_INTERVAL)", "trio.CancelScope()"),
    Fault("names of a new roster wait", SourceGate, "adopt", "self._changed.set()", "pass"),
)


def come_and_move(machine: PortMachine) -> None:
    """A port is closed and opened again, with a connection."""
    machine.come(Port.CLIENT, "192.0.2.2", 1, 0)
    machine.listen_anew(Port.CLIENT)


# Those that take longer to find: where they are.
STEPS: Mapping[str, tuple[Mapping[str, Any], Callable[[PortMachine], None]]] = {
    "one handshake too many": ({}, lambda m: m.come_from_everywhere(Port.CLIENT, "all", True)),
    "one connection too many": ({}, lambda m: m.shake_hands(Port.CLIENT, [0] * 7, "Confirm", 0)),
    "a handshake's place is kept by the session": ({}, lambda m: m.shake_hands(Port.CLIENT, [0] * 3, "Confirm", 0)),
    "connections end with their place": ({}, come_and_move),
    "the end of the grace is not looked at": ({}, lambda m: m.outlive_a_host("move", 0, 0)),
    "loopback is always exempt": ({"loopback": True}, lambda m: m.come(Port.CLIENT, "::1", 5, 0)),
    "loopback is never exempt": ({}, lambda m: m.come(Port.CLIENT, "::1", 4, 0)),
    "the cluster port has the limits of the other": (
        {"limits": "of the specification"},
        lambda m: m.spend(Port.CLUSTER, SOURCES.index("192.0.2.2")),
    ),
    "names of a new roster wait": ({"grace": 16.0}, lambda m: m.outlive_a_host("name", 1, 0)),
    "names are resolved once": ({"grace": 16.0}, lambda m: m.move_a_name([NAMED[1:]], 1)),
    "what cannot be resolved is forgotten": ({"grace": 16.0}, lambda m: m.move_a_name([()], 1)),
}


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.what not in STEPS], ids=lambda fault: fault.what)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fault.owner, fault.name, fault.planted())
    assert found()


@pytest.mark.parametrize("what", STEPS)
def test_a_fault_is_found_where_it_is(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options, step = STEPS[what]
    with started(**options) as machine:
        step(machine)
    (fault,) = (fault for fault in FAULTS if fault.what == what)
    monkeypatch.setattr(fault.owner, fault.name, fault.planted())
    with started(**options) as machine, pytest.raises(AssertionError, match="port, "):
        step(machine)


def test_a_wrong_limit_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(port_machine, "CLUSTER_PORT_LIMITS", PortLimits(rate=100, burst=100))
    assert found(5)


def test_a_handler_that_fails_as_it_may_ends_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listen, "_EXPECTED", ())
    assert found()
