"""The machine for a whole member: it finds nothing in this package, and finds what is put into it."""

import logging
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from tests.machines import run_briefly
from xlattice_trio import client
from xlattice_trio.cluster import links, rosters
from xlattice_trio.cluster.rosters import Rosters
from xlattice_trio.errors import ErrorCode
from xlattice_trio.fuzz.batch import Job
from xlattice_trio.fuzz.batch import run as run_batch
from xlattice_trio.fuzz.machines.base import with_driver
from xlattice_trio.fuzz.machines.node import THEN, NodeMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.target import TargetCrashed
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity import keyring, storage
from xlattice_trio.identity.keyring import KeyRing
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.node import _Node

NAME = "xlattice_trio.fuzz.machines.node:NODE"
Patch = pytest.MonkeyPatch


def run(examples: int) -> None:
    """A short run, the same each time."""
    run_briefly(with_driver(NodeMachine, Memory), examples, steps=15)


@contextmanager
def began(check_source: bool = True) -> Iterator[NodeMachine]:
    """A machine that has begun."""
    state = with_driver(NodeMachine, Memory)()
    try:
        state.start(keepalive=60_000, deadline=10.0, write_deadline=20.0, grace=5.0, check_source=check_source)
        yield state
    finally:
        state.teardown()


# ---- nothing is wrong --------------------------------------------------------


def test_nothing_is_found() -> None:
    run(6)


@pytest.mark.parametrize("by_link", [False, True])
@pytest.mark.parametrize("change", ["access", "client", "member", "node", "place", "client port", "names", "both"])
def test_each_roster_has_its_effect(change: str, by_link: bool) -> None:
    with began() as state:
        state.link(numbers=[0, 3])
        state.bring_out_some(changes=[change, change], number=1, by_link=by_link, waits=True)
        assert state.node._node._rosters.roster.epoch == state.highest > 2


@pytest.mark.parametrize("check_source", [False, True])
def test_a_member_lives_through_everything(check_source: bool) -> None:
    with began(check_source) as state:
        state.ask(port=Port.CLUSTER, number=0, asked=[("both", "Bye"), ("clients", "stay"), ("few", "it fails")])
        state.ask(port=Port.CLIENT, number=0, asked=[("members", "stay"), ("few", "stay"), ("polite", "stay")])
        for until in ("nothing", "a Hello", "a HelloReply"):
            state.hold_still(port=Port.CLIENT, number=0, until=until, behind=until == "a HelloReply")
        state.stall(port=Port.CLUSTER, number=0)
        state.say_again(port=Port.CLUSTER, number=0)
        state.fill(port=Port.CLIENT)
        state.come_from_elsewhere()
        state.ask_for_rosters(asks=2, first=[0, 3])
        for number, then in enumerate(THEN):
            state.be_dialled(number=number, then=then)
        state.move_a_member(number=4, by_link=True)
        state.contradict(number=2)
        state.override(number=0, by_link=True, again=True)
        state.find_a_file_damaged(number=0, what=b"")
        state.find_a_place_taken(port=Port.CLUSTER, number=0, waits=True)
        state.rotate_ck(number=0, by_link=True, third=True, again=True)
        state.stop(number=1, asked=["both", "polite"], hurry=False)
        state.pass_time(seconds=70)


def test_a_batch_can_be_had_again() -> None:
    results = [
        run_batch(Job(machine=NAME, driver="memory", seed=5, examples=2, seconds=60.0, processor_time=True))
        for _ in range(2)
    ]
    assert [(result.failure, result.reached) for result in results] == [(None, results[0].reached)] * 2
    assert results[0].steps == results[1].steps


def test_everything_is_as_it_was_again() -> None:
    places = [(vars(trio.to_thread), "run_sync"), (vars(trio), "open_tcp_stream"), (vars(trio), "open_tcp_listeners")]
    places += [(vars(keyring), "time"), (vars(rosters), "time"), (vars(storage), "load_private_key_pem")]
    places += [(vars(random), "SystemRandom"), (vars(client), "_is_local")]
    before = [owner[name] for owner, name in places]
    with began() as state:
        assert not any(owner[name] is was for (owner, name), was in zip(places, before, strict=True))
        directory = state.node.directory
    assert [owner[name] for owner, name in places] == before
    assert logging.getLogger("xlattice_trio").propagate
    assert not directory.parent.exists()


def test_everything_is_as_it_was_when_a_node_does_not_start(monkeypatch: Patch) -> None:
    def fails(*_: object) -> None:
        raise ValueError

    before = trio.to_thread.run_sync, trio.open_tcp_listeners, random.SystemRandom
    monkeypatch.setattr(KeyRing, "load", fails)
    with pytest.raises(TargetCrashed), began():
        pass
    assert (trio.to_thread.run_sync, trio.open_tcp_listeners, random.SystemRandom) == before
    assert logging.getLogger("xlattice_trio").propagate


# ---- something is ------------------------------------------------------------


def any_port(patch: Patch) -> None:
    serve = _Node._serve_session

    async def serve_session(self: Any, port: Port, stream: SecureStream) -> None:
        known = {other for other, name in self._config.services if name == stream.established.service}
        await serve(self, port if port in known or not known else known.pop(), stream)

    patch.setattr(_Node, "_serve_session", serve_session)


def keys_of_the_start(patch: Patch) -> None:
    welcome = _Node._welcome

    def made(self: Any, port: Port) -> Any:
        accepted = self._rosters.accepted
        found = welcome(self, port)
        object.__setattr__(found, "accepted_keys", lambda: accepted)
        return found

    patch.setattr(_Node, "_welcome", made)


def no_recheck(patch: Patch) -> None:
    patch.setattr(_Node, "_end_unless_admitted", lambda self, stream, nursery: None)


def no_moving(patch: Patch) -> None:
    async def other_listeners(self: Any, port: Port, now: Any) -> None:
        await trio.sleep_forever()

    patch.setattr(_Node, "_other_listeners", other_listeners)


def no_grace(patch: Patch) -> None:
    end_sessions = _Node._end_sessions

    async def end(self: Any) -> None:
        object.__setattr__(self._config, "grace", 0)
        await end_sessions(self)

    patch.setattr(_Node, "_end_sessions", end)


def grace_for_ever(patch: Patch) -> None:
    patch.setattr(KeyRing, "previous_ends_at", property(lambda self: float("inf")))


def transfers_without_end(patch: Patch) -> None:
    patch.setattr(links, "TRANSFERS_MAX", 6)


def no_new_reading(patch: Patch) -> None:
    async def reload(self: Rosters) -> None:
        await trio.lowlevel.checkpoint()

    patch.setattr(Rosters, "reload", reload)


def another_code(patch: Patch) -> None:
    close = SecureStream.close_with_error

    async def close_with_error(self: Any, code: ErrorCode, text: str = "") -> None:
        await close(self, ErrorCode.NOT_AUTHORIZED if code is ErrorCode.SHUTTING_DOWN else code, text)

    patch.setattr(SecureStream, "close_with_error", close_with_error)


def short_dials(patch: Patch) -> None:
    def dial(*args: Any, deadline: float, **rest: Any) -> Any:
        return links.dial_link(*args, deadline=2.0, **rest)

    patch.setattr("xlattice_trio.node.dial_link", dial)


@pytest.mark.parametrize(
    "fault",
    [
        any_port,
        keys_of_the_start,
        no_recheck,
        no_moving,
        no_grace,
        grace_for_ever,
        transfers_without_end,
        no_new_reading,
        another_code,
        short_dials,
    ],
)
def test_fault_is_found(fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        run(20)
