"""Whom to ask for a roster, and when to give up: one `Requests` for each node, without I/O.

It knows the one request that is active and which peers have failed one. Who is a candidate is an argument, as are time
(`now`, seconds) and chance (`choose`). A peer whose offer was a lie costs the node one time-out now and then, and stops
nobody: that is all that the random choice, the time-outs and the penalty are for. Spec 7.7.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Generic, TypeVar

import attrs

from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import PEER_PENALTY, TRANSFER_DEADLINE, TRANSFER_IDLE_DEADLINE
from xlattice_trio.link.transitions import LINK_REQUEST
from xlattice_trio.link.transitions import RequestAction as Action
from xlattice_trio.link.transitions import RequestEvent as Event
from xlattice_trio.link.transitions import RequestState as State
from xlattice_trio.machine import next_state

Link = TypeVar("Link")

# One of them, all equally likely: `random.Random.choice`.
Choose = Callable[[Sequence[NodeID]], NodeID]


@attrs.define
class _Active(Generic[Link]):
    """The request that is active: REQUESTS_MAX is one. [LK-32]"""

    peer: NodeID
    link: Link
    floor: int  # the node's, when it was made
    chosen_at: float
    byte_at: float  # of its transfer the last one, or chosen_at
    is_complete: bool = False


@attrs.frozen
class _Failure:
    """A peer's last failed request."""

    chosen_at: float
    failed_at: float


class Requests(Generic[Link]):
    """The request machine of a node. `Link` is whatever stands for a link with the driver."""

    def __init__(self, choose: Choose) -> None:
        self.state = State.QUIET
        self._choose = choose
        self._active: _Active[Link] | None = None
        self._failures: dict[NodeID, _Failure] = {}
        self._may_ask_at = math.inf  # when [LK-61] lets the next candidate be asked

    # ---- asking ----

    def ask(self, candidates: Mapping[NodeID, Link], floor: int, now: float) -> Link | None:
        """Choose one of the candidates, whose links in force these are: that link, which is to be asked on.

        None if there is none that may be asked now, or if a request is active. `floor` is the node's.
        """
        self._failures = {peer: f for peer, f in self._failures.items() if now < f.failed_at + PEER_PENALTY}
        if self.state is not State.QUIET:
            return None
        waits = {peer: self._waits_until(peer) for peer in candidates}
        askable = [peer for peer, until in waits.items() if until <= now]
        self._may_ask_at = min((until for until in waits.values() if until > now), default=math.inf)
        if not askable:
            return None
        innocent = [peer for peer in askable if peer not in self._failures]  # [LK-35]
        peer = self._choose(innocent or askable)  # [LK-33] [LK-34]
        self._active = _Active(peer, candidates[peer], floor, now, now)  # [LK-62]
        self._happens(Event.CANDIDATE_FOUND, now)
        return candidates[peer]

    def _waits_until(self, peer: NodeID) -> float:
        failure = self._failures.get(peer)
        return -math.inf if failure is None else failure.chosen_at + TRANSFER_IDLE_DEADLINE  # [LK-61]

    # ---- what comes of it ----

    def transfer_arrives(self, link: Link, byte_at: float) -> None:
        """The last byte of a transfer on `link` came at that time."""
        active = self._active
        if active is not None and active.link is link:  # [LK-63]
            active.byte_at = max(active.byte_at, byte_at)

    def transfer_complete(self, link: Link) -> None:
        """A transfer on `link` has arrived whole, and is being verified."""
        if self._active is not None and self._active.link is link:  # [LK-63]
            self._active.is_complete = True

    def transfer_processed(self, link: Link, *, dropped: bool, floor: int, now: float) -> None:
        """A transfer on `link` was adopted or dropped; `floor` is the node's, after it."""
        active = self._active
        if active is None or active.link is not link:
            return
        failed = dropped and floor <= active.floor  # [LK-39]
        self._happens(Event.REQUEST_FAILED if failed else Event.REQUEST_ENDED, now)

    def link_over(self, link: Link, now: float) -> None:
        """`link` has ended, begins to end, or is no longer in force. [LK-38]"""
        if self._active is not None and self._active.link is link:
            self._happens(Event.REQUEST_FAILED, now)

    # ---- clocks ----

    def deadline(self) -> float:
        """When to call `time_passed`, or, in QUIET, to `ask` again."""
        active = self._active
        if active is None:
            return self._may_ask_at
        if active.is_complete:
            return math.inf
        return min(active.byte_at + TRANSFER_IDLE_DEADLINE, active.chosen_at + TRANSFER_DEADLINE)  # [LK-36] [LK-37]

    def time_passed(self, now: float) -> None:
        """The time is `now`; does nothing before `deadline`."""
        if self._active is not None and now >= self.deadline():
            self._happens(Event.REQUEST_FAILED, now)

    # ---- the machine ----

    def _happens(self, event: Event, now: float) -> None:
        action, self.state = next_state(LINK_REQUEST, self.state, event)
        if action is Action.REMEMBER_FAILURE:
            assert self._active is not None
            self._failures[self._active.peer] = _Failure(self._active.chosen_at, now)  # [LK-40]
        if self.state is State.QUIET:
            self._active = None
