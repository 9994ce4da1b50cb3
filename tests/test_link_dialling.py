"""When a peer is dialled, and what is waited for. Spec 7.2, 7.3."""

import math

import pytest

from xlattice_trio.limits import LINK_AGE_MAX, LINK_STEADY
from xlattice_trio.link.dialling import Accepter, Dialler
from xlattice_trio.link.transitions import AccepterAction, AccepterEvent, AccepterState
from xlattice_trio.link.transitions import DiallerAction as Action
from xlattice_trio.link.transitions import DiallerEvent as Event
from xlattice_trio.link.transitions import DiallerState as State

NOW = 1000.0


def middle(low: float, high: float) -> float:
    return (low + high) / 2


def dialling() -> Dialler:
    """A dialler of a new peer."""
    dialler = Dialler(middle)
    assert dialler.deadline() == math.inf
    assert dialler.adopted(1, NOW) is Action.RESET_AND_DIAL
    return dialler


def linked(now: float = NOW) -> Dialler:
    dialler = dialling()
    assert dialler.happens(Event.FIRST_RECORD_OPENED, now) is Action.PUT_IN_FORCE
    return dialler


def wait(dialler: Dialler, now: float) -> float:
    """How long the dialler waits from `now` on; and nothing happens earlier."""
    assert dialler.state in (State.WAITING, State.RENEW_WAITING)
    until = dialler.deadline()
    assert dialler.time_passed(until - 0.001) is Action.NOTHING
    return until - now


def fail(dialler: Dialler, now: float) -> float:
    """The dial fails: the wait before the next, which is then made."""
    assert dialler.happens(Event.DIAL_FAILED, now) is Action.BACK_OFF
    seconds = wait(dialler, now)
    assert dialler.time_passed(now + seconds) is Action.DIAL
    return seconds


@pytest.mark.spec("LK-5")
def test_a_peer_is_dialled_as_soon_as_it_is_there() -> None:
    assert dialling().state is State.DIALLING


@pytest.mark.spec("LK-6", "LK-7")
def test_after_failed_dials_the_waits_double() -> None:
    dialler = dialling()
    assert [fail(dialler, NOW) for _ in range(8)] == [1, 2, 4, 8, 16, 32, 60, 60]


@pytest.mark.spec("LK-6", "LK-7")
def test_after_the_end_of_a_link_there_is_a_wait() -> None:
    dialler = linked()
    assert dialler.happens(Event.LINK_ENDED, NOW + 10) is Action.BACK_OFF
    assert wait(dialler, NOW + 10) == 1


@pytest.mark.spec("LK-8")
def test_a_link_resets_the_backoff_when_it_was_in_force_for_a_minute_and_not_before() -> None:
    for age, expected in ((59.9, 8), (60, 1)):
        dialler = dialling()
        for _ in range(3):
            fail(dialler, NOW)
        dialler.happens(Event.FIRST_RECORD_OPENED, NOW)
        assert dialler.deadline() == NOW + LINK_STEADY
        dialler.time_passed(NOW + age)
        dialler.happens(Event.LINK_ENDED, NOW + 70)
        assert wait(dialler, NOW + 70) == expected


@pytest.mark.spec("LK-9", "LK-60", "RO-48")
def test_after_a_conflict_every_wait_is_the_longest() -> None:
    dialler = linked()
    assert dialler.conflicted(5, NOW) is Action.BACK_OFF_LONGEST
    assert wait(dialler, NOW) == 60
    assert dialler.time_passed(NOW + 60) is Action.DIAL
    assert [fail(dialler, NOW) for _ in range(2)] == [60, 60]
    dialler.happens(Event.FIRST_RECORD_OPENED, NOW)
    dialler.time_passed(NOW + LINK_STEADY)
    dialler.happens(Event.LINK_ENDED, NOW + 100)
    assert wait(dialler, NOW + 100) == 1


@pytest.mark.spec("LK-10")
def test_a_higher_epoch_ends_the_wait_after_a_conflict() -> None:
    dialler = linked()
    dialler.conflicted(5, NOW)
    assert dialler.adopted(5, NOW) is Action.NOTHING
    assert dialler.adopted(4, NOW) is Action.NOTHING
    assert dialler.state is State.WAITING
    assert dialler.adopted(6, NOW) is Action.RESET_AND_DIAL
    assert fail(dialler, NOW) == 1


@pytest.mark.spec("LK-10")
def test_a_higher_epoch_during_the_dial_after_a_conflict_resets_the_backoff() -> None:
    dialler = linked()
    dialler.conflicted(5, NOW)
    dialler.time_passed(NOW + 60)
    assert dialler.adopted(6, NOW) is Action.RESET
    assert fail(dialler, NOW) == 1


@pytest.mark.spec("LK-10")
def test_a_conflict_is_past_when_another_link_was_in_force() -> None:
    dialler = linked()
    dialler.conflicted(5, NOW)
    dialler.time_passed(NOW + 60)
    dialler.happens(Event.FIRST_RECORD_OPENED, NOW)
    dialler.happens(Event.LINK_ENDED, NOW)
    assert dialler.adopted(6, NOW) is Action.NOTHING


@pytest.mark.spec("LK-11", "LK-12")
def test_a_link_of_a_day_is_renewed_beside_the_old_one() -> None:
    dialler = linked()
    dialler.time_passed(NOW + LINK_STEADY)
    day = NOW + LINK_AGE_MAX
    assert dialler.deadline() == day
    assert dialler.time_passed(day - 1) is Action.NOTHING
    assert dialler.time_passed(day) is Action.DIAL
    assert dialler.state is State.RENEWING
    assert [fail(dialler, day) for _ in range(3)] == [1, 2, 4]
    assert dialler.state is State.RENEWING
    assert dialler.happens(Event.FIRST_RECORD_OPENED, day + 50) is Action.PUT_IN_FORCE
    dialler.time_passed(day + 50 + LINK_STEADY)
    assert dialler.deadline() == day + 50 + LINK_AGE_MAX


@pytest.mark.spec("LK-6", "LK-60")
def test_a_link_that_ends_while_it_is_renewed_leaves_the_dial_and_the_wait_alone() -> None:
    renewing = linked()
    renewing.time_passed(NOW + LINK_STEADY)
    renewing.time_passed(NOW + LINK_AGE_MAX)
    renewing.conflicted(1, NOW)
    assert renewing.state is State.DIALLING
    assert fail(renewing, NOW) == 60
    waiting = linked()
    waiting.time_passed(NOW + LINK_STEADY)
    waiting.time_passed(NOW + LINK_AGE_MAX)
    waiting.happens(Event.DIAL_FAILED, NOW)
    until = waiting.deadline()
    assert waiting.happens(Event.LINK_ENDED, NOW) is Action.NOTHING
    assert (waiting.state, waiting.deadline()) == (State.WAITING, until)


def test_a_peer_that_is_gone_is_not_dialled_and_begins_anew_when_it_is_back() -> None:
    dialler = linked()
    dialler.conflicted(5, NOW)
    dialler.happens(Event.PEER_REMOVED, NOW)
    assert dialler.deadline() == math.inf
    assert dialler.time_passed(NOW + 10**9) is Action.NOTHING
    assert dialler.adopted(6, NOW) is Action.RESET_AND_DIAL
    assert fail(dialler, NOW) == 1


@pytest.mark.spec("LK-14", "LK-16")
def test_an_accepter_replaces_a_link_by_a_newer_one() -> None:
    accepter = Accepter()
    assert accepter.happens(AccepterEvent.LINK_ESTABLISHED) is AccepterAction.PUT_IN_FORCE
    assert accepter.happens(AccepterEvent.LINK_ESTABLISHED) is AccepterAction.REPLACE
    accepter.happens(AccepterEvent.LINK_ENDED)
    assert accepter.state is AccepterState.NONE
