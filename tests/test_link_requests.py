"""Whom a node asks for a roster, and when it gives up. Spec 7.7."""

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest

from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import PEER_PENALTY, TRANSFER_DEADLINE, TRANSFER_IDLE_DEADLINE
from xlattice_trio.link.requests import Requests

NOW = 1000.0
A, B, C, ROGUE = (NodeID(bytes([i]) * 32) for i in range(4))


class Chooser:
    """Takes the first, and remembers among whom it could choose."""

    def __init__(self) -> None:
        self.offered: list[set[NodeID]] = []

    def __call__(self, peers: Sequence[NodeID]) -> NodeID:
        self.offered.append(set(peers))
        return min(peers)


NAMES = {peer: f"the link with {peer.short}" for peer in (A, B, C, ROGUE)}


def of(*peers: NodeID) -> dict[NodeID, str]:
    return {peer: NAMES[peer] for peer in peers}


def state_of(requests: Requests[str]) -> str:
    return requests.state.value


@pytest.fixture
def chooser() -> Chooser:
    return Chooser()


@pytest.fixture
def requests(chooser: Chooser) -> Requests[str]:
    return Requests(chooser)


# ---- asking ------------------------------------------------------------------


@pytest.mark.spec("LK-32", "LK-33")
def test_one_candidate_is_asked_at_a_time(requests: Requests[str]) -> None:
    assert requests.ask(of(A, B), 1, NOW) == NAMES[A]
    assert state_of(requests) == "ASKING"
    assert requests.ask(of(A, B), 1, NOW) is None
    requests.transfer_processed(NAMES[A], dropped=False, floor=2, now=NOW)
    assert state_of(requests) == "QUIET"
    assert requests.ask(of(B), 2, NOW) == NAMES[B]


def test_nobody_is_asked_without_a_candidate(requests: Requests[str], chooser: Chooser) -> None:
    assert requests.ask({}, 1, NOW) is None
    assert state_of(requests) == "QUIET"
    assert requests.deadline() == math.inf
    assert chooser.offered == []


@pytest.mark.spec("LK-34")
def test_all_candidates_are_equally_likely() -> None:
    rng = random.Random(7)
    found: Counter[str] = Counter()
    for _ in range(3000):
        asked = Requests[str](rng.choice).ask(of(A, B, C), 1, NOW)
        assert asked is not None
        found[asked] += 1
    assert set(found) == {NAMES[A], NAMES[B], NAMES[C]}
    assert all(900 < count < 1100 for count in found.values())


@pytest.mark.spec("LK-61")
def test_a_peer_that_failed_is_not_asked_for_fifteen_seconds_after_it_was_chosen(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    requests.link_over(NAMES[A], NOW + 1)
    assert requests.ask(of(A), 1, NOW + 1) is None
    assert requests.deadline() == NOW + TRANSFER_IDLE_DEADLINE
    assert requests.ask(of(A), 1, NOW + 14.9) is None
    assert requests.ask(of(A), 1, NOW + 15) == NAMES[A]


@pytest.mark.spec("LK-61")
def test_a_peer_whose_last_request_went_well_may_be_asked_at_once(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    requests.transfer_processed(NAMES[A], dropped=False, floor=2, now=NOW + 1)
    assert requests.ask(of(A), 2, NOW + 1) == NAMES[A]


@pytest.mark.spec("LK-35", "LK-40")
def test_a_peer_that_failed_is_left_out_for_ten_minutes(requests: Requests[str], chooser: Chooser) -> None:
    requests.ask(of(A), 1, NOW)
    requests.link_over(NAMES[A], NOW + 1)
    for later in (20, PEER_PENALTY):
        requests.ask(of(A, B, C), 1, NOW + later)
        requests.transfer_processed(NAMES[B], dropped=False, floor=2, now=NOW + later)
    requests.ask(of(A, B, C), 1, NOW + 1 + PEER_PENALTY)
    assert chooser.offered == [{A}, {B, C}, {B, C}, {A, B, C}]


@pytest.mark.spec("LK-35")
def test_if_all_have_failed_all_are_asked(requests: Requests[str], chooser: Chooser) -> None:
    for peer in (A, B):
        requests.ask(of(peer), 1, NOW)
        requests.link_over(NAMES[peer], NOW + 1)
    assert requests.ask(of(A, B), 1, NOW + 60) is not None
    assert chooser.offered[-1] == {A, B}


# ---- what fails --------------------------------------------------------------


@pytest.mark.spec("LK-36", "LK-62")
def test_fifteen_seconds_without_a_byte_are_a_failure(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    assert requests.deadline() == NOW + 15
    requests.transfer_arrives(NAMES[A], NOW + 10)
    requests.transfer_arrives(NAMES[B], NOW + 20)  # late, and on another link
    assert requests.deadline() == NOW + 25
    requests.time_passed(NOW + 24.9)
    assert state_of(requests) == "ASKING"
    requests.time_passed(NOW + 25)
    assert state_of(requests) == "QUIET"
    assert requests.ask(of(A, B), 1, NOW + 25) == NAMES[B]


@pytest.mark.spec("LK-37", "LK-62")
def test_a_transfer_that_takes_two_minutes_is_a_failure(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    for second in range(10, 120, 10):
        requests.transfer_arrives(NAMES[A], NOW + second)
        requests.time_passed(NOW + second)
    assert state_of(requests) == "ASKING"
    assert requests.deadline() == NOW + TRANSFER_DEADLINE
    requests.time_passed(NOW + 120)
    assert state_of(requests) == "QUIET"


@pytest.mark.spec("LK-36", "LK-37")
def test_a_transfer_that_is_there_has_all_the_time_to_be_verified(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    requests.transfer_complete(NAMES[A])
    assert requests.deadline() == math.inf
    requests.time_passed(NOW + 1000)
    assert state_of(requests) == "ASKING"


@pytest.mark.spec("LK-38")
def test_the_end_of_its_link_is_a_failure_and_of_another_is_none(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    requests.link_over(NAMES[B], NOW)
    assert state_of(requests) == "ASKING"
    requests.link_over(NAMES[A], NOW)
    assert state_of(requests) == "QUIET"
    assert requests.ask(of(A, B), 1, NOW) == NAMES[B]


@pytest.mark.spec("LK-39")
@pytest.mark.parametrize(("floor", "failed"), [(1, True), (2, False)])
def test_a_dropped_transfer_is_a_failure_unless_the_floor_has_risen(
    requests: Requests[str], floor: int, failed: bool
) -> None:
    requests.ask(of(A), 1, NOW)
    requests.transfer_processed(NAMES[A], dropped=True, floor=floor, now=NOW)
    assert state_of(requests) == "QUIET"
    assert requests.ask(of(A, B), 1, NOW + 20) == NAMES[B if failed else A]


@pytest.mark.spec("LK-63")
def test_a_transfer_on_another_link_does_not_end_the_request(requests: Requests[str]) -> None:
    requests.ask(of(A), 1, NOW)
    requests.transfer_complete(NAMES[B])
    requests.transfer_processed(NAMES[B], dropped=False, floor=2, now=NOW)
    assert state_of(requests) == "ASKING"
    assert requests.deadline() == NOW + 15


# ---- the rogue member --------------------------------------------------------


@pytest.mark.spec("LK-34", "LK-35", "LK-36", "LK-61")
def test_a_member_that_always_offers_the_most_and_never_delivers_delays_and_does_not_stop() -> None:
    requests = Requests[str](random.Random(3).choice)
    now, asked = NOW, Counter[str]()
    for floor in range(1, 100):  # an honest member offers the next epoch again and again
        while True:
            link = requests.ask(of(A, ROGUE), floor, now)
            assert link is not None
            asked[link] += 1
            if link == NAMES[A]:
                now += 1
                requests.transfer_processed(link, dropped=False, floor=floor + 1, now=now)
                break
            now = requests.deadline()
            requests.time_passed(now)
        now += 30
    assert asked[NAMES[A]] == 99
    assert 1 <= asked[NAMES[ROGUE]] <= 1 + (now - NOW) / PEER_PENALTY
