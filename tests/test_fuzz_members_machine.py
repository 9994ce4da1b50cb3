"""The machine for members: it finds nothing in this package, and finds what is put into it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import trio

from tests.machines import run_briefly
from xlattice_trio import roster
from xlattice_trio.cluster.links import Links
from xlattice_trio.cluster.liveness import Liveness
from xlattice_trio.cluster.rosters import Rosters
from xlattice_trio.fuzz.batch import Job
from xlattice_trio.fuzz.batch import run as run_batch
from xlattice_trio.fuzz.cluster import STOPS
from xlattice_trio.fuzz.machines.base import with_driver
from xlattice_trio.fuzz.machines.members import MembersMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.rogue import WAYS
from xlattice_trio.link.backoff import Backoff
from xlattice_trio.link.dialling import Accepter
from xlattice_trio.link.protocol import Holding, LinkExchange
from xlattice_trio.link.requests import Requests
from xlattice_trio.link.transitions import AccepterAction, AccepterEvent, MessagesState

NAME = "xlattice_trio.fuzz.machines.members:MEMBERS"
Patch = pytest.MonkeyPatch


def run(examples: int) -> None:
    """A short run, the same each time."""
    run_briefly(with_driver(MembersMachine, Memory), examples, steps=20)


@contextmanager
def began(way: str, rogue: int = 0) -> Iterator[MembersMachine]:
    """A machine that has begun."""
    state = with_driver(MembersMachine, Memory)()
    try:
        state.begin(rogue=rogue, anchor=0, way=way, twice=False, work=0.0, luck=0)
        yield state
    finally:
        state.teardown()


# ---- nothing is wrong --------------------------------------------------------


def test_nothing_is_found() -> None:
    run(10)


@pytest.mark.parametrize("way", sorted(WAYS))
def test_members_converge_in_spite_of_a_rogue(way: str) -> None:
    with began(way, rogue=1) as state:
        state.adopt(change="name", whom=0, where=0, then="settle")
        state.adopt(change="remove", whom=1, where=0, then="wait")
        state.settle()
        assert {node.epoch for node in state.nodes.values()} == {1 + 2, state.nodes[state.honest[2]].epoch}
        assert len(state.group()) == 2


@pytest.mark.parametrize("how", STOPS)
def test_a_member_that_was_away_is_linked_again(how: str) -> None:
    with began("silent") as state:
        state.restart(whom=1, how=how, away=2)
        state.adopt(change="nothing", whom=0, where=0, then="settle")
        assert [node.epoch for node in state.nodes.values()] == [2, 2, 2]
        assert all(len(node.sessions) >= 2 for node in state.nodes.values())


def test_a_batch_can_be_had_again() -> None:
    results = [
        run_batch(Job(machine=NAME, driver="memory", seed=5, examples=4, seconds=60.0, processor_time=True))
        for _ in range(2)
    ]
    assert [(result.failure, result.reached) for result in results] == [(None, results[0].reached)] * 2
    assert results[0].steps == results[1].steps


def test_threads_are_threads_again() -> None:
    before = trio.to_thread.run_sync
    with began("honest"):
        assert trio.to_thread.run_sync is not before
    assert trio.to_thread.run_sync is before


# ---- something is ------------------------------------------------------------


def no_offer(patch: Patch) -> None:
    def adopted(self: Any, holding: Holding) -> None:
        self._holding = holding

    patch.setattr(LinkExchange, "adopted", adopted)


def no_second_request(patch: Patch) -> None:
    waits_until = Requests._waits_until
    patch.setattr(
        Requests,
        "_waits_until",
        lambda self, peer: float("inf") if waits_until(self, peer) > 0 else waits_until(self, peer),
    )


def endless_request(patch: Patch) -> None:
    def deadline(self: Any) -> float:
        return self._may_ask_at if self._active is None else float("inf")

    patch.setattr(Requests, "deadline", deadline)


def no_replacing(patch: Patch) -> None:
    happens = Accepter.happens

    def replaced(self: Accepter, event: AccepterEvent) -> AccepterAction | None:
        action = happens(self, event)
        return None if action is AccepterAction.REPLACE else action

    patch.setattr(Accepter, "happens", replaced)


def no_back_off(patch: Patch) -> None:
    patch.setattr(Backoff, "next_delay", lambda self: 0.05)


def no_refusal(patch: Patch) -> None:
    patch.setattr(Links, "_refuse", lambda self, link: None)


def floor_of_offers(patch: Patch) -> None:
    choose, floor = Links._choose, vars(Rosters)["floor"].fget
    seen: dict[Rosters, int] = {}

    def choose_after_looking(self: Links) -> None:
        offers = [link.exchange.peer_offer for link in self._links]
        seen[self._rosters] = max([seen.get(self._rosters, 0), *(offer.epoch for offer in offers if offer)])
        choose(self)

    patch.setattr(Links, "_choose", choose_after_looking)
    patch.setattr(Rosters, "floor", property(lambda self: max(floor(self), seen.get(self, 0))))


def no_signature_check(patch: Patch) -> None:
    patch.setattr(roster, "pss_verify", lambda *args: None)


def live_too_early(patch: Patch) -> None:
    patch.setattr(LinkExchange, "is_exchanged", property(lambda self: self.state is not MessagesState.ENDED))


def quorate_with_half(patch: Patch) -> None:
    patch.setattr(Liveness, "quorate", property(lambda self: 2 * (len(self.live) + 1) >= self.members))


@pytest.mark.parametrize(
    "fault",
    [
        no_offer,
        no_second_request,
        endless_request,
        no_replacing,
        no_back_off,
        no_refusal,
        floor_of_offers,
        no_signature_check,
        live_too_early,
        quorate_with_half,
    ],
)
def test_fault_is_found(fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        run(30)
