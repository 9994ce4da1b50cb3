"""The waits between attempts. Spec 7.2, 8.6."""

import random

import pytest

from xlattice_trio import limits
from xlattice_trio.link.backoff import Backoff


def middle(low: float, high: float) -> float:
    return (low + high) / 2


@pytest.mark.spec("LK-7")
def test_waits_double_up_to_the_longest() -> None:
    backoff = Backoff(middle)
    assert [backoff.next_delay() for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]


@pytest.mark.spec("LK-7")
def test_each_wait_is_jittered_anew_by_half_up_and_down() -> None:
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return (low, high)[len(asked) % 2]

    backoff = Backoff(uniform)
    assert [backoff.next_delay() for _ in range(4)] == [1.5, 1, 6, 4]
    assert asked == [(0.5, 1.5)] * 4


@pytest.mark.spec("LK-7")
def test_waits_lie_within_their_bounds_and_differ() -> None:
    backoff = Backoff(random.Random(2).uniform)
    delays = [backoff.next_delay() for _ in range(200)]
    assert all(
        0.5 * base <= delay <= 1.5 * base for base, delay in zip([1, 2, 4, 8, 16, 32] + [60] * 194, delays, strict=True)
    )
    assert min(delays[6:]) < 35
    assert max(delays[6:]) > 85


@pytest.mark.spec("LK-8")
def test_after_a_reset_the_shortest_wait_comes_first() -> None:
    backoff = Backoff(middle)
    for _ in range(5):
        backoff.next_delay()
    backoff.reset()
    assert [backoff.next_delay() for _ in range(3)] == [1, 2, 4]


@pytest.mark.spec("LK-60")
def test_raised_to_the_longest_the_waits_stay_there_until_a_reset() -> None:
    backoff = Backoff(lambda _, high: high)
    assert backoff.next_delay() == 1.5
    backoff.raise_to_longest()
    assert [backoff.next_delay() for _ in range(3)] == [1.5 * limits.BACKOFF_MAX] * 3
    backoff.reset()
    assert backoff.next_delay() == 1.5
