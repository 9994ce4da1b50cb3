"""The three drivers of machines: one conversation has one outcome, and nothing is left behind."""

import gc
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.nodes import free_ports, loopback_roster, running_node
from xlattice_trio.errors import ErrorCode, RefusalReason, RosterConflict, UsageError
from xlattice_trio.fuzz.cast import make_cast
from xlattice_trio.fuzz.live import Live, Unreachable
from xlattice_trio.fuzz.machines.base import TargetMachine, with_driver
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.sansio import SansIO
from xlattice_trio.fuzz.target import (
    Application,
    Can,
    Driver,
    GotData,
    GotEnd,
    GotFailure,
    Outcome,
    TargetCrashed,
    Wire,
)
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.testing.identities import test_roster
from xlattice_trio.testing.strategies import damages
from xlattice_trio.testing.toolbox import Attacker, RawPeer, damage, error_payload
from xlattice_trio.wire.messages import ClientAccess, Purpose, RecordType, Role

KEEPALIVE = 1000  # milliseconds, of the live node
R = RecordType

# ---- drivers -----------------------------------------------------------------


@pytest.fixture(scope="module")
def live_addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Port, tuple[str, int]]]:
    """A node in a thread of its own: the responder of the cast, with `echo`."""
    cast, ports = make_cast(), free_ports()
    assert cast.responder is not None
    number = int(cast.responder.name.removeprefix("node-"))
    ready, ended = threading.Event(), threading.Event()
    known: list[Any] = []

    async def run(directory: Path) -> None:
        async with running_node(
            directory, loopback_roster(ports), number=number, check_source=False, keepalive=KEEPALIVE
        ) as node:
            known.extend((node.addresses, trio.lowlevel.current_trio_token(), stop := trio.Event()))
            ready.set()
            await stop.wait()

    def run_in_thread() -> None:
        try:
            trio.run(run, tmp_path_factory.mktemp("node") / "directory")
        finally:
            ended.set()
            ready.set()

    thread = threading.Thread(target=run_in_thread)
    thread.start()
    assert ready.wait(30)
    addresses, token, stop = known
    yield {Port.CLUSTER: addresses.cluster[0], Port.CLIENT: addresses.client[0]}
    trio.from_thread.run_sync(stop.set, trio_token=token)
    assert ended.wait(30)
    thread.join()


@pytest.fixture(params=["sansio", "memory", "live"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    made: Driver
    if request.param == "live":
        cast = attrs.evolve(make_cast(), roster=None, responder=None)
        made = Live(request.getfixturevalue("live_addresses"), cast)
    else:
        made = SansIO() if request.param == "sansio" else Memory()
    yield made
    made.close()


@pytest.fixture(params=[SansIO, Memory])
def local(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """The drivers that know everything."""
    made = request.param()
    yield made
    made.close()


@pytest.fixture
def memory() -> Iterator[Memory]:
    made = Memory()
    yield made
    made.close()


# ---- what a conversation begins with -------------------------------------------


@attrs.define
class Talk:
    """An attacker who is about to shake hands as somebody."""

    driver: Driver
    port: Port = Port.CLIENT
    who: str = "anonymous"
    purpose: Purpose = Purpose.STREAM

    def hello(self, attacker: Attacker, **parts: Any) -> bytes:
        cast = make_cast()
        role, as_ = {
            "anonymous": (Role.ANONYMOUS, None),
            "client": (Role.CLIENT, cast.clients[0]),
            "lower": (Role.MEMBER, cast.members[0]),
            "higher": (Role.MEMBER, cast.members[-1]),
            "stranger": (Role.MEMBER, cast.strangers[0]),
            "strange client": (Role.CLIENT, cast.strangers[-1]),
        }[self.who]
        service = b"echo" if self.purpose is Purpose.STREAM else b""
        values: dict[str, Any] = {"role": role, "purpose": self.purpose, "service": service, "as_": as_}
        return attacker.hello(cast.destination(self.port), **values | parts).frame

    def target(self, keepalive: int = KEEPALIVE) -> Any:
        return self.driver.responder(self.port, keepalive=keepalive)

    def session(self, keepalive: int = KEEPALIVE) -> tuple[Wire, RawPeer]:
        attacker = Attacker(f"{self.who} {self.driver.now}")
        wire, hello = self.target(keepalive).connect(), self.hello(attacker)
        wire.send(hello)
        reply = wire.received()
        peer = attacker.peer(Side.INITIATOR, hello, reply)
        assert peer is not None
        wire.send(peer.record(R.CONFIRM))
        return wire, peer


def heard(wire: Wire, peer: RawPeer) -> list[tuple[int, bytes]]:
    """What came, KeepAlive left out: it hangs on how fast the machine is."""
    return [record for record in peer.feed(wire.received()) if record[0] != R.KEEPALIVE]


def echo(wire: Wire) -> None:
    """What the live node's service does, done by hand where there is none."""
    if wire.application is not None:
        for told in wire.application.told():
            if isinstance(told, GotData):
                wire.application.send_data(told.data)
            elif isinstance(told, GotEnd):
                wire.application.send_bye()


# ---- conversations on which all three agree ------------------------------------


@pytest.mark.parametrize(
    ("port", "who", "purpose"),
    [
        (Port.CLIENT, "anonymous", Purpose.STREAM),
        (Port.CLIENT, "client", Purpose.STREAM),
        (Port.CLUSTER, "lower", Purpose.STREAM),
        (Port.CLUSTER, "higher", Purpose.STREAM),
    ],
)
def test_a_session_that_is_as_it_should_be(driver: Driver, port: Port, who: str, purpose: Purpose) -> None:
    wire, peer = Talk(driver, port, who, purpose).session()
    wire.send(peer.record(R.DATA, b"hello"))
    echo(wire)
    assert heard(wire, peer) == [(R.DATA, b"hello")]
    wire.send(peer.record(R.BYE))
    echo(wire)
    assert heard(wire, peer) == [(R.BYE, b"")]
    assert not wire.closed
    wire.close()
    assert wire.closed


REFUSED: dict[str, tuple[Talk, dict[str, Any], RefusalReason]] = {
    "kind": (Talk(SansIO()), {"kind": 2}, RefusalReason.FRAME_HEADER),
    "length": (Talk(SansIO()), {"length": 3000}, RefusalReason.FRAME_HEADER),
    "version": (Talk(SansIO()), {"version": 3}, RefusalReason.VERSION),
    "mac": (Talk(SansIO()), {"mac": bytes(16)}, RefusalReason.MAC),
    "knock": (Talk(SansIO(), Port.CLUSTER, "lower"), {"knock": b""}, RefusalReason.MAC),
    "key": (Talk(SansIO()), {"kem_secret": bytes(32)}, RefusalReason.HELLO_NOT_OPENED),
    "padding": (Talk(SansIO()), {"pad": bytes(700)}, RefusalReason.MAC),
    "body": (Talk(SansIO()), {"role": 4}, RefusalReason.HELLO_MALFORMED),
    "recipient": (Talk(SansIO()), {"recipient": bytes(32)}, RefusalReason.RECIPIENT),
    "cluster": (Talk(SansIO()), {"cluster": bytes(32)}, RefusalReason.CLUSTER),
    "port": (Talk(SansIO(), Port.CLIENT, "lower"), {}, RefusalReason.ROLE),
    "link order": (Talk(SansIO(), Port.CLUSTER, "higher", Purpose.LINK), {}, RefusalReason.LINK_ORDER),
    "stranger": (Talk(SansIO(), Port.CLUSTER, "stranger"), {}, RefusalReason.MEMBERSHIP),
    "strange client": (Talk(SansIO(), Port.CLIENT, "strange client"), {}, RefusalReason.MEMBERSHIP),
    "signature": (Talk(SansIO(), Port.CLIENT, "client"), {"signature": bytes(256)}, RefusalReason.SIGNATURE),
    "key share": (Talk(SansIO()), {"x25519": bytes(32)}, RefusalReason.KEY_SHARE),
}


@pytest.mark.parametrize("what", REFUSED)
def test_a_hello_that_is_refused_is_followed_by_silence_and_the_end(driver: Driver, what: str) -> None:
    talk, parts, reason = REFUSED[what]
    talk = attrs.evolve(talk, driver=driver)
    target = talk.target()
    before = target.remembered()
    wire = target.connect()
    wire.send(talk.hello(Attacker(what), **parts))
    assert (wire.received(), wire.closed) == (b"", True)
    assert target.remembered() == before
    if Can.STATE in driver.can:
        assert (wire.state, wire.refusal, wire.application, wire.established) == ("IGNORED", reason, None, None)


def test_a_hello_is_answered_once(driver: Driver) -> None:
    talk = Talk(driver, Port.CLIENT, "client")
    target = talk.target()
    hello = talk.hello(Attacker("twice"))
    for expected in (True, False):
        wire = target.connect()
        wire.send(hello)
        assert bool(wire.received()) is expected
        assert wire.closed is not expected


@pytest.mark.parametrize("kind", ["another type", "damaged", "no record"])
def test_what_is_not_confirm_ends_the_handshake(driver: Driver, kind: str) -> None:
    talk, attacker = Talk(driver), Attacker(kind)
    wire, hello = talk.target().connect(), talk.hello(attacker)
    wire.send(hello)
    peer = attacker.peer(Side.INITIATOR, hello, wire.received())
    assert peer is not None
    frame = {
        "another type": peer.record(R.KEEPALIVE),
        "damaged": damage(peer.forge(R.CONFIRM), "flip", 100, b""),
        "no record": b"\x01" + bytes(3),
    }[kind]
    wire.send(frame)
    assert (wire.received(), wire.closed) == (b"", True)
    if Can.STATE in driver.can:
        assert wire.state == "IGNORED"


def test_a_handshake_in_pieces_is_one(driver: Driver) -> None:
    talk, attacker = Talk(driver), Attacker("pieces")
    wire, hello = talk.target().connect(), talk.hello(attacker)
    wire.send(hello[:1])
    assert (wire.received(), wire.closed) == (b"", False)
    wire.send(hello[1:])
    peer = attacker.peer(Side.INITIATOR, hello, wire.received())
    assert peer is not None
    both = peer.record(R.CONFIRM) + peer.record(R.DATA, b"at once")
    wire.send(both)
    echo(wire)
    assert heard(wire, peer) == [(R.DATA, b"at once")]


def test_the_end_of_the_connection_in_the_handshake_ends_it(driver: Driver) -> None:
    talk = Talk(driver)
    wire = talk.target().connect()
    wire.send(talk.hello(Attacker("half"))[:1000])
    wire.close()
    assert (wire.received(), wire.closed) == (b"", True)
    if Can.STATE in driver.can:
        assert wire.refusal is RefusalReason.TRANSPORT_CLOSED


def test_a_truncation_is_not_taken_for_the_end(driver: Driver) -> None:
    wire, peer = Talk(driver).session()
    wire.send(peer.record(R.DATA, b"hello") + peer.record(R.DATA, b"world")[:-1])
    wire.close()
    assert wire.closed
    if wire.application is not None:
        assert wire.application.told() == [GotData(b"hello"), GotFailure("Truncated")]
        assert wire.state == "FAILED"


VIOLATIONS: dict[str, Callable[[RawPeer], bytes]] = {
    "damaged": lambda peer: damage(peer.forge(R.DATA, b"x"), "flip", 50, b""),
    "unknown type": lambda peer: peer.record(9),
    "second confirm": lambda peer: peer.record(R.CONFIRM),
    "empty data": lambda peer: peer.record(R.DATA),
    "out of order": lambda peer: peer.forge(R.DATA, b"x", ahead=1),
    "again": lambda peer: peer.forge(R.DATA, b"x", ahead=-1),
    "rekey not done": lambda peer: peer.record(R.REKEY) + peer.forge(R.DATA, b"x", generation=-1, ahead=2),
    "no record": lambda peer: b"\x02" + bytes(3),
    "data after bye": lambda peer: peer.record(R.BYE) + peer.record(R.DATA, b"x"),
}


@pytest.mark.parametrize("what", VIOLATIONS)
def test_a_violation_is_answered_with_an_error(driver: Driver, what: str) -> None:
    wire, peer = Talk(driver).session()
    wire.send(VIOLATIONS[what](peer))
    if what == "data after bye" and wire.application is None:
        # echo has said Bye before it saw the violation, and discards
        assert heard(wire, peer) in ([(R.BYE, b"")], [(R.ERROR, error_payload(1))])
        return
    assert heard(wire, peer) == [(R.ERROR, error_payload(1))]
    wire.close()  # the target has waited for that, for a second at most
    assert wire.closed
    if wire.application is not None:
        assert wire.application.told()[-1] == GotFailure("RecordError" if what != "no record" else "DecodeError")
        assert wire.state == "FAILED"


def test_the_peers_error_ends_the_session_at_once(driver: Driver) -> None:
    wire, peer = Talk(driver).session()
    wire.send(peer.record(R.ERROR, error_payload(5, b"sorry")))
    assert (heard(wire, peer), wire.closed) == ([], True)
    if wire.application is not None:
        assert wire.application.told() == [GotFailure("PeerReported", ErrorCode.INTERNAL)]


def test_silence_for_three_keepalives_ends_the_session(driver: Driver) -> None:
    wire, peer = Talk(driver).session()
    wire.received()
    driver.pass_time(2.5)
    wire.send(peer.record(R.KEEPALIVE))
    assert (heard(wire, peer), wire.closed) == ([], False)
    driver.pass_time(3.1)
    assert heard(wire, peer) == [(R.ERROR, error_payload(6))]
    driver.pass_time(1.1)
    assert wire.closed
    if wire.application is not None:
        assert wire.application.told() == [GotFailure("KeepaliveTimeout")]


def test_a_session_without_a_handshake_is_like_one_with(driver: Driver) -> None:
    wire, peer = driver.session()
    wire.send(peer.record(R.DATA, b"hello"))
    echo(wire)
    assert heard(wire, peer) == [(R.DATA, b"hello")]


def test_a_connection_that_is_reset_is_over(driver: Driver) -> None:
    wire, _ = Talk(driver).session()
    wire.reset()
    assert wire.closed
    if wire.application is not None:
        assert wire.application.send_data(b"x") is Outcome.REFUSED
        assert wire.application.told() == [GotFailure("Truncated")]


# ---- what the two that know everything agree on --------------------------------


def test_the_responders_deadline_passes(local: Driver) -> None:
    talk = Talk(local)
    wire = talk.target().connect()
    wire.send(talk.hello(Attacker())[:100])
    local.pass_time(9.9)
    assert (wire.state, wire.closed) == ("AWAIT_HELLO", False)
    local.pass_time(0.1)
    assert (wire.state, wire.closed, wire.refusal) == ("IGNORED", True, RefusalReason.DEADLINE)
    assert local.now == pytest.approx(10)


def test_half_close_ends_one_direction(local: Driver) -> None:
    wire, peer = Talk(local).session()
    wire.send(peer.record(R.DATA, b"question") + peer.record(R.BYE))
    application = wire.application
    assert application is not None
    assert application.told() == [GotData(b"question"), GotEnd()]
    assert wire.state == "BYE_RECEIVED"
    assert application.send_data(b"answer") is Outcome.DONE
    assert application.send_bye() is Outcome.DONE
    assert heard(wire, peer) == [(R.DATA, b"answer"), (R.BYE, b"")]
    assert (wire.state, wire.closed) == ("DRAINING", False)
    assert application.send_data(b"more") is Outcome.REFUSED
    assert application.send_bye() is Outcome.REFUSED
    local.pass_time(5)
    assert (wire.state, wire.closed) == ("CLOSED", True)


def test_who_says_bye_first_goes_on_receiving(local: Driver) -> None:
    wire, peer = Talk(local).session()
    application = wire.application
    assert application is not None
    assert application.send_bye() is Outcome.DONE
    assert wire.state == "BYE_SENT"
    wire.send(peer.record(R.DATA, b"late") + peer.record(R.BYE))
    assert application.told() == [GotData(b"late"), GotEnd()]
    assert (wire.state, wire.closed) == ("CLOSED", True)


def test_an_application_that_closes_says_bye_and_waits_for_the_peers(local: Driver) -> None:
    wire, peer = Talk(local).session()
    application = wire.application
    assert application is not None
    assert application.close() is Outcome.DONE
    assert heard(wire, peer) == [(R.BYE, b"")]
    wire.send(peer.record(R.DATA, b"thrown away"))
    assert not wire.closed
    wire.send(peer.record(R.BYE))
    assert (wire.state, wire.closed, application.told()) == ("CLOSED", True, [])
    assert application.close() is Outcome.REFUSED


def test_an_application_that_closes_waits_no_longer_than_it_should(local: Driver) -> None:
    wire, _ = Talk(local).session(keepalive=0)
    application = wire.application
    assert application is not None
    application.close()
    local.pass_time(4.9)
    assert not wire.closed
    local.pass_time(0.1)
    assert (wire.closed, wire.state, application.told()) == (True, "FAILED", [])


def test_an_application_that_ends_the_session_with_an_error(local: Driver) -> None:
    wire, peer = Talk(local).session()
    application = wire.application
    assert application is not None
    assert application.send_error(ErrorCode.OVER_CAPACITY, "full") is Outcome.DONE
    assert heard(wire, peer) == [(R.ERROR, error_payload(8, b"full"))]
    assert (wire.state, wire.closed) == ("FAILING", False)
    wire.send(peer.record(R.DATA, b"too late"))
    local.pass_time(1)
    assert (wire.state, wire.closed, application.told()) == ("FAILED", True, [])
    assert application.send_error(ErrorCode.INTERNAL) is Outcome.REFUSED


def test_a_bye_that_is_waited_for_is_cut_short_by_an_error(local: Driver) -> None:
    wire, peer = Talk(local).session()
    application = wire.application
    assert application is not None
    application.close()
    assert application.send_error(ErrorCode.INTERNAL) is Outcome.REFUSED
    assert wire.closed
    assert heard(wire, peer) == [(R.BYE, b"")]


def test_an_application_that_does_not_read_is_told_nothing(local: Driver) -> None:
    wire, peer = Talk(local).session()
    application = wire.application
    assert application is not None
    application.stop_reading()
    wire.send(peer.record(R.DATA, b"a") + peer.record(R.DATA, b"b"))
    local.pass_time(100)  # nobody waits, and so nobody is silent
    assert (application.told(), wire.closed) == ([], False)
    application.read_again()
    assert application.told() == [GotData(b"ab")]


def test_keepalives_are_sent_while_nothing_else_is(local: Driver) -> None:
    wire, peer = Talk(local).session()
    peer.feed(wire.received())
    local.pass_time(0.9)
    assert wire.received() == b""
    local.pass_time(0.1)
    assert peer.feed(wire.received()) == [(R.KEEPALIVE, b"")]


def test_a_generation_is_followed_by_the_next(local: Driver) -> None:
    wire, peer = local.session()
    application = wire.application
    assert application is not None
    wire.place_seal(2**20 - 1)
    peer.receive_seq = 2**20 - 1
    application.send_data(b"new")
    assert peer.feed(wire.received()) == [(R.REKEY, b""), (R.DATA, b"new")]
    wire.place_open(2**20 - 1)
    peer.send_seq = 2**20 - 1
    wire.send(peer.record(R.REKEY) + peer.record(R.DATA, b"news"))
    assert application.told() == [GotData(b"news")]


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("side", Side)
def test_a_session_is_on_the_side_that_was_asked_for(local: Driver, side: Side, purpose: Purpose) -> None:
    wire, peer = local.session(side=side, purpose=purpose, keepalive=1000)
    assert wire.established is not None
    assert (wire.established.side, wire.established.purpose, wire.state) == (side, purpose, "OPEN")
    local.pass_time(1)
    assert peer.feed(wire.received()) == [(R.KEEPALIVE, b"")]


def intent(**changes: Any) -> Intent:
    cast = make_cast()
    values: dict[str, Any] = {
        "peer": cast.card,
        "cluster_id": cast.cluster_id,
        "role": Role.ANONYMOUS,
        "service": "echo",
    }
    return Intent(**values | changes)


def test_an_initiator_gets_an_answer_from_the_attacker(local: Driver) -> None:
    responder, attacker = make_cast().responder, Attacker()
    assert responder is not None
    attacker.own(responder)
    wire = local.initiator().dial(intent())
    hello = wire.received()
    assert (wire.state, wire.established) == ("AWAIT_REPLY", None)
    reply = attacker.reply(hello)
    assert reply is not None
    wire.send(reply.frame)
    peer = attacker.peer(Side.RESPONDER, hello, reply.frame)
    assert peer is not None
    assert peer.feed(wire.received()) == [(R.CONFIRM, b"")]
    assert wire.state == "OPEN"
    assert wire.application is not None
    wire.application.send_data(b"hello")
    assert peer.feed(wire.received()) == [(R.DATA, b"hello")]


def test_an_initiator_refuses_a_wrong_answer(local: Driver) -> None:
    wire = local.initiator().dial(intent())
    wire.received()
    wire.send(bytes.fromhex("020004bc") + bytes(0x4BC))
    assert (wire.received(), wire.closed, wire.state) == (b"", True, "FAILED")
    assert wire.refusal is RefusalReason.REPLY_NOT_OPENED


def test_an_initiator_gives_up_at_its_deadline(local: Driver) -> None:
    wire = local.initiator().dial(intent())
    local.pass_time(10)
    assert (wire.closed, wire.state, wire.refusal) == (True, "FAILED", RefusalReason.DEADLINE)


def test_both_ends_can_be_targets_with_the_attacker_between(local: Driver) -> None:
    a, b = local.initiator().dial(intent()), local.responder(Port.CLIENT).connect()
    b.send(a.received())
    a.send(b.received())
    b.send(a.received())
    ours, theirs = a.established, b.established
    assert ours is not None
    assert theirs is not None
    assert ours.transcript_hash == theirs.transcript_hash
    assert a.application is not None
    assert b.application is not None
    a.application.send_data(b"between us")
    b.send(a.received())
    assert b.application.told() == [GotData(b"between us")]


def test_two_ports_of_a_member_share_its_memory(local: Driver) -> None:
    cluster, client = (local.responder(port) for port in Port)
    Talk(local, Port.CLIENT, "client").session()
    assert cluster.remembered() == client.remembered()
    remembered = client.remembered()
    assert remembered is not None
    assert (remembered.replay_entries, remembered.handshakes, remembered.sessions) == (1, 0, 1)


def test_a_roster_in_force_ends_what_it_does_not_admit(local: Driver) -> None:
    target = local.responder(Port.CLIENT)
    wire, peer = Talk(local).session()
    client, _ = Talk(local, Port.CLIENT, "client").session()
    pending = target.connect()
    talk = Talk(local)
    pending.send(talk.hello(Attacker("pending")))
    assert pending.state == "AWAIT_CONFIRM"
    new = test_roster(3, 1, epoch=2, client_access=ClientAccess.LISTED)
    assert target.adopt(new)
    assert heard(wire, peer) == [(R.ERROR, error_payload(3, b"the new roster does not admit this session"))]
    assert (pending.closed, pending.refusal) == (True, RefusalReason.ROSTER_CHANGED)
    assert client.state == "OPEN"
    local.pass_time(1)
    assert wire.closed
    assert wire.application is not None
    assert wire.application.told() == [GotFailure("SessionEnded")]
    assert target.roster is new


def test_a_roster_that_does_not_replace_the_one_in_force_is_not_adopted(local: Driver) -> None:
    target = local.responder(Port.CLIENT)
    assert target.adopt(test_roster(3, 1, epoch=3))
    assert not target.adopt(test_roster(3, 1, epoch=2))
    before = target.remembered()
    with pytest.raises(RosterConflict):
        target.adopt(test_roster(3, 1, epoch=3, client_access=ClientAccess.LISTED))
    assert target.remembered() == before
    assert target.roster is not None
    assert target.roster.epoch == 3


# ---- back-pressure ---------------------------------------------------------------


def test_a_write_waits_for_who_reads(memory: Memory) -> None:
    wire, peer = memory.session()
    application = wire.application
    assert application is not None
    wire.stop_taking()
    assert application.send_data(bytes(100_000)) is Outcome.WAITING
    assert application.send_data(b"behind it") is Outcome.WAITING
    wire.send(peer.record(R.DATA, b"the other way"))
    assert application.told() == [GotData(b"the other way")]
    wire.take_again()
    assert [len(data) for _, data in peer.feed(wire.received())] == [65_536, 100_000 - 65_536, 9]


def test_a_write_that_waits_too_long_breaks_the_stream(memory: Memory) -> None:
    wire, _ = memory.session()
    application = wire.application
    assert application is not None
    wire.stop_taking()
    application.send_data(bytes(100_000))
    memory.pass_time(300)
    assert wire.closed
    assert application.told() == [GotFailure("WriteStalled")]


def test_there_is_no_back_pressure_without_io() -> None:
    driver = SansIO()
    assert Can.BACK_PRESSURE not in driver.can
    with pytest.raises(UsageError):
        driver.session()[0].stop_taking()


# ---- the run of Trio ---------------------------------------------------------------


def test_nothing_is_left_behind() -> None:
    threads = threading.active_count()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        driver = Memory()
        try:
            tasks = driver._guest.call(lambda: trio.lowlevel.current_statistics().tasks_living)
            wire, peer = Talk(driver).session()
            assert wire.application is not None
            wire.stop_taking()
            wire.application.send_data(bytes(100_000))  # a task that waits
            wire.send(peer.record(R.DATA, b"x"))
            Talk(driver).target().connect()  # another
            assert driver._guest.call(lambda: trio.lowlevel.current_statistics().tasks_living) > tasks + 3
        finally:
            driver.close()
        driver.close()  # does nothing
        del driver, wire
        gc.collect()
    assert threading.active_count() == threads
    assert not trio.lowlevel.in_trio_run()
    with pytest.raises(RuntimeError):
        trio.lowlevel.current_statistics()


def test_a_bug_in_the_target_comes_out_of_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object) -> None:
        raise IndexError("a bug")

    for make, expected in ((SansIO, IndexError), (Memory, TargetCrashed)):
        driver: Driver = make()
        try:
            wire, peer = driver.session()
            with monkeypatch.context() as patch:
                patch.setattr("xlattice_trio.session.connection.Connection._check", broken)
                with pytest.raises(expected):
                    wire.send(peer.record(R.DATA, b"x"))
        finally:
            driver.close()
        assert not trio.lowlevel.in_trio_run()


def test_a_bug_that_nobody_waited_for_comes_out_of_close() -> None:
    driver = Memory()

    async def crash() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise IndexError("a bug")

    driver.start(crash)
    with pytest.raises(TargetCrashed):
        driver.close()
    assert not trio.lowlevel.in_trio_run()


def test_a_target_that_never_rests_is_found(memory: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlattice_trio.fuzz.memory._TICKS", 1000)

    async def spin() -> None:
        while True:
            await trio.lowlevel.checkpoint()

    with pytest.raises(TargetCrashed):
        memory.start(spin)


def test_a_driver_is_not_used_after_its_end() -> None:
    driver = Memory()
    wire, _ = driver.session()
    driver.close()
    with pytest.raises(UsageError):
        wire.send(b"x")


# ---- machines ------------------------------------------------------------------------


class Silence(TargetMachine):
    """Nothing leaves a responder before a genuine Hello."""

    steps = 0

    @initialize(port=st.sampled_from(Port))
    def start(self, port: Port) -> None:
        self.target = self.driver.responder(port)
        self.meet(self.target.cast)
        self.wire = self.target.connect()

    @rule(data=st.binary(min_size=1, max_size=64))
    def send_noise(self, data: bytes) -> None:
        Silence.steps += 1
        self.wire.send(data)
        assert self.wire.received() == b""

    @rule(seconds=st.sampled_from([0.1, 5.0, 11.0]))
    def wait(self, seconds: float) -> None:
        self.driver.pass_time(seconds)
        assert self.wire.received() == b""


@pytest.mark.parametrize("make", [SansIO, Memory])
def test_a_machine_runs_with_either_driver(make: Callable[[], Driver]) -> None:
    Silence.steps = 0
    machine = with_driver(Silence, make)
    run_state_machine_as_test(machine, settings=settings(max_examples=20, stateful_step_count=10, database=None))
    assert Silence.steps > 20
    assert not trio.lowlevel.in_trio_run()


@pytest.mark.parametrize("make", [SansIO, Memory])
def test_a_machine_that_fails_shrinks_to_a_program_and_leaves_nothing_behind(make: Callable[[], Driver]) -> None:
    class Wrong(TargetMachine):
        @initialize()
        def start(self) -> None:
            self.wire, self.peer = self.driver.session()

        @rule(size=st.integers(1, 1000))
        def send(self, size: int) -> None:
            self.wire.send(self.peer.record(R.DATA, bytes(size)))
            assert self.wire.application is not None
            (told,) = self.wire.application.told()
            assert isinstance(told, GotData)
            assert len(told.data) < 100

    with pytest.raises(AssertionError) as caught:
        run_state_machine_as_test(with_driver(Wrong, make), settings=settings(max_examples=200, database=None))
    assert "state.send(size=100)" in "\n".join(caught.value.__notes__)
    assert not trio.lowlevel.in_trio_run()


class Both(RuleBasedStateMachine):
    """The driver without I/O does what the tasks of the other do: one session on both, step by step."""

    @initialize(side=st.sampled_from(Side), keepalive=st.sampled_from([0, 1000, 60_000]))
    def start(self, side: Side, keepalive: int) -> None:
        self.drivers: list[Driver] = [SansIO(), Memory()]
        self.keepalive = keepalive
        self.wires, self.peers = zip(
            *(one.session(side=side, keepalive=keepalive) for one in self.drivers), strict=True
        )

    @rule(type_=st.sampled_from([*RecordType, 9]), size=st.sampled_from([0, 0, 1, 4, 65_536]))
    def send(self, type_: int, size: int) -> None:
        self.do(lambda wire, peer: wire.send(peer.record(type_, bytes(size))))

    @rule(data=st.binary(min_size=1, max_size=30))
    def send_noise(self, data: bytes) -> None:
        self.do(lambda wire, _: wire.send(data))

    @rule(how=damages(50))
    def send_damaged(self, how: tuple[str, int, bytes]) -> None:
        self.do(lambda wire, peer: wire.send(damage(peer.record(R.DATA, b"hello"), *how)))

    @rule(size=st.sampled_from([1, 65_537, 200_000]))
    def app_sends(self, size: int) -> None:
        self.command(lambda application: application.send_data(bytes(size)))

    @rule()
    def app_says_bye(self) -> None:
        self.command(lambda application: application.send_bye())

    @rule()
    def app_fails(self) -> None:
        self.command(lambda application: application.send_error(ErrorCode.INTERNAL, "sorry"))

    @rule()
    def app_closes(self) -> None:
        self.command(lambda application: application.close())

    @rule()
    def app_stops_reading(self) -> None:
        self.command(lambda application: application.stop_reading())

    @rule()
    def app_reads_again(self) -> None:
        self.command(lambda application: application.read_again())

    @rule(seconds=st.sampled_from([0.3, 1.0, 2.7, 5.0, 61.3, 4000.0]))
    def wait(self, seconds: float) -> None:
        for driver in self.drivers:
            driver.pass_time(seconds)
        self.compare()

    @rule()
    def close(self) -> None:
        self.do(lambda wire, _: wire.close())

    @rule()
    def reset(self) -> None:
        self.do(lambda wire, _: wire.reset())

    def do(self, step: Callable[[Wire, RawPeer], None]) -> None:
        for wire, peer in zip(self.wires, self.peers, strict=True):
            step(wire, peer)
        self.compare()

    def command(self, step: Callable[[Application], object]) -> None:
        outcomes = []
        for wire in self.wires:
            assert wire.application is not None
            outcomes.append(step(wire.application))
        assert outcomes[0] == outcomes[1]
        self.compare()

    def compare(self) -> None:
        seen = []
        for wire, peer in zip(self.wires, self.peers, strict=True):
            assert wire.application is not None
            seen.append((peer.feed(wire.received()), wire.state, wire.closed, wire.application.told()))
        assert seen[0] == seen[1]

    def teardown(self) -> None:
        for driver in getattr(self, "drivers", ()):
            driver.close()


def test_the_driver_without_io_does_what_tasks_do() -> None:
    run_state_machine_as_test(
        Both, settings=settings(max_examples=100, stateful_step_count=15, database=None, deadline=None)
    )


# ---- live targets ------------------------------------------------------------------------


def test_a_target_that_is_no_node_is_not_tried() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(10_000)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(Unreachable):
            Live({Port.CLIENT: address}, make_cast())
        thread.join()


def test_a_live_driver_says_what_it_cannot_do(live_addresses: dict[Port, tuple[str, int]]) -> None:
    driver = Live(live_addresses, attrs.evolve(make_cast(), knock=None))
    assert driver.can == frozenset()
    for impossible in (
        driver.initiator,
        partial(driver.session, side=Side.INITIATOR),
        lambda: driver.responder(Port.CLIENT).adopt(test_roster(epoch=2)),
        lambda: driver.session()[0].stop_taking(),
        lambda: driver.session()[0].place_seal(1),
    ):
        with pytest.raises(UsageError):
            impossible()
    driver.close()
