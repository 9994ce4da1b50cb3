"""How long to wait before the next attempt: 1, 2, 4 ... 60 seconds, each times 0.5 to 1.5. Spec 7.2, 8.6."""

from collections.abc import Callable

from xlattice_trio.limits import BACKOFF_JITTER, BACKOFF_MAX, BACKOFF_MIN

# A number between the first and the second, all equally likely: `random.Random.uniform`.
Uniform = Callable[[float, float], float]


class Backoff:
    """The waits between attempts at one thing. It does not wait itself, and has no randomness but `uniform`'s."""

    def __init__(self, uniform: Uniform) -> None:
        self._uniform = uniform
        self._next: float = BACKOFF_MIN

    def next_delay(self) -> float:
        """The seconds to wait now. [LK-7]"""
        delay, self._next = self._next, min(2 * self._next, BACKOFF_MAX)
        jitter = BACKOFF_JITTER / 100
        return delay * self._uniform(1 - jitter, 1 + jitter)

    def raise_to_longest(self) -> None:
        """An early attempt is of no use: from now on every wait is the longest. [LK-60]"""
        self._next = BACKOFF_MAX

    def reset(self) -> None:
        """It went well: begin with the shortest wait again."""
        self._next = BACKOFF_MIN
