"""When to dial a peer with a higher NodeID, and how long to wait: one `Dialler` for each, without I/O.

And `Accepter`, its counterpart for a peer with a lower NodeID, which only counts. Both say what is to be done (the
actions of their tables), and their driver does it. Time is an argument (`now`, seconds). Spec 7.2, 7.3.
"""

import math

from xlattice_trio.limits import LINK_AGE_MAX, LINK_STEADY
from xlattice_trio.link.backoff import Backoff, Uniform
from xlattice_trio.link.transitions import (
    LINK_ACCEPTER,
    LINK_DIALLER,
    AccepterAction,
    AccepterEvent,
    AccepterState,
    DiallerAction,
    DiallerEvent,
    DiallerState,
)
from xlattice_trio.machine import next_state

_A, _E, _S = DiallerAction, DiallerEvent, DiallerState

_WAITING = (_S.WAITING, _S.RENEW_WAITING)


class Dialler:
    """The machine of one peer: events in, actions out; it keeps the back-off and the clocks. [LK-13]

    What is about the back-off has been done when an action is returned; dials and links are the driver's to begin and
    to end. The driver calls `time_passed` at `deadline`.
    """

    def __init__(self, uniform: Uniform) -> None:
        self.state = _S.STOPPED
        self._backoff = Backoff(uniform)
        self._wait_until = math.inf
        self._steady_at = math.inf  # what the link in force reaches yet
        self._aged_at = math.inf
        self._conflict_epoch: int | None = None  # of the conflict that ended the last link

    def happens(self, event: DiallerEvent, now: float) -> DiallerAction:
        """Something happened at `now`: what is to be done."""
        action, self.state = next_state(LINK_DIALLER, self.state, event)
        if self.state is _S.STOPPED:
            self._conflict_epoch = None
        match action:
            case _A.PUT_IN_FORCE:
                self._steady_at, self._aged_at = now + LINK_STEADY, now + LINK_AGE_MAX
                self._conflict_epoch = None
            case _A.RESET | _A.RESET_AND_DIAL:
                self._backoff.reset()
                self._conflict_epoch = None
            case _A.RAISE:  # [LK-60]
                self._backoff.raise_to_longest()
            case _A.BACK_OFF_LONGEST:  # [LK-9] [LK-60] [RO-48]
                self._backoff.raise_to_longest()
                self._wait_until = now + self._backoff.next_delay()
            case _A.BACK_OFF:  # [LK-6] [LK-12]
                self._wait_until = now + self._backoff.next_delay()
        return action

    def conflicted(self, epoch: int, now: float) -> DiallerAction:
        """Error(roster_conflict) was sent or received on the link in force; `epoch` is that of the conflict."""
        self._conflict_epoch = epoch
        return self.happens(_E.LINK_CONFLICTED, now)

    def adopted(self, epoch: int, now: float) -> DiallerAction:
        """The node has adopted a roster of this epoch that has the peer, and the node itself."""
        if self._conflict_epoch is not None and epoch > self._conflict_epoch:  # [LK-10]
            return self.happens(_E.CONFLICT_PASSED, now)
        return self.happens(_E.PEER_ADDED, now)

    def deadline(self) -> float:
        """When to call `time_passed`; infinity if there is nothing to wait for."""
        if self.state in _WAITING:
            return self._wait_until
        if self.state is _S.LINKED:
            return min(self._steady_at, self._aged_at)
        return math.inf

    def time_passed(self, now: float) -> DiallerAction:
        """The time is `now`: what is to be done; nothing before `deadline`."""
        if now < self.deadline():
            return _A.NOTHING
        if self.state in _WAITING:
            return self.happens(_E.BACKOFF_PASSED, now)
        if self._steady_at <= now:
            self._steady_at = math.inf
            return self.happens(_E.LINK_STEADY, now)  # [LK-8]
        self._aged_at = math.inf
        return self.happens(_E.LINK_AGED, now)  # [LK-11]


class Accepter:
    """The machine of one peer with a lower NodeID. [LK-16]"""

    def __init__(self) -> None:
        self.state = AccepterState.NONE

    def happens(self, event: AccepterEvent) -> AccepterAction:
        """Something happened: what is to be done."""
        action, self.state = next_state(LINK_ACCEPTER, self.state, event)
        return action
