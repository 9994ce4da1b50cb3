"""Links between members, on Trio: over streams in memory, with a clock that jumps. Spec 7, 3.7 to 3.9."""

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.links import REQUEST, message, offer, offer_of, other_roster_of, roster_of, transfer
from tests.networks import Member, Network, RawMember, do_without_threads, identities, offer_in, raw_link
from tests.nodes import LogWatch, watched_log, with_card, without
from xlattice_trio.cluster import rosters as cluster_rosters
from xlattice_trio.cluster.liveness import Liveness
from xlattice_trio.cluster.rosters import CONFLICTS_REMEMBERED, Conflicts
from xlattice_trio.errors import ErrorCode, StorageError
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keys import local_identity
from xlattice_trio.identity.storage import HeldRoster, load_held_roster, save_held_roster, save_next
from xlattice_trio.limits import BACKOFF_MAX, LINK_AGE_MAX, LINK_BYE_DEADLINE, PEER_PENALTY, TRANSFERS_MAX
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.identities import test_identity

ONE, TWO, THREE = roster_of(1), roster_of(2), roster_of(3)
LOW, MID, HIGH = identities(3)
EVER = 2**64 - 1


@pytest.fixture(autouse=True)
def without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    do_without_threads(monkeypatch)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    return Network(tmp_path)


@pytest.fixture
def log() -> Iterator[LogWatch]:
    with watched_log() as watch:
        yield watch


async def cluster(stack: AsyncExitStack, network: Network, roster: VerifiedRoster, count: int = 3) -> list[Member]:
    """Members that run and are linked, the lowest NodeID first."""
    who = identities(count)
    # the highest first: nobody is dialled in vain
    members = [await stack.enter_async_context(network.member(identity, roster)) for identity in reversed(who)]
    await wait_all_tasks_blocked()
    return members[::-1]


async def until(condition: Callable[[], bool], seconds: float = 1000) -> float:
    """Wait until it holds; how long that took. It is looked at whenever nothing more happens, and every 0.25 s."""
    since = trio.current_time()
    with trio.fail_after(seconds):
        while True:
            await wait_all_tasks_blocked()
            if condition():
                return trio.current_time() - since
            await trio.sleep(0.25)


def have(epoch: int, *members: Member) -> Callable[[], bool]:
    """Whether all of them have adopted that roster."""
    return lambda: {member.epoch for member in members} == {epoch}


def intervals(times: list[float]) -> list[int]:
    """The whole seconds between these times."""
    return [round(b - a) for a, b in itertools.pairwise(times)]


# ---- dialling ----------------------------------------------------------------


@pytest.mark.spec("LK-1", "LK-3", "LK-4", "LK-5", "LK-25", "LK-58", "LK-59")
async def test_every_pair_has_one_link_and_the_lower_node_id_has_dialled_it(
    network: Network, autojump_clock: MockClock
) -> None:
    async with AsyncExitStack() as stack:
        members = await cluster(stack, network, ONE)
        ids = {member.identity.node_id for member in members}
        assert [member.live for member in members] == [ids - {member.identity.node_id} for member in members]
        assert all(member.links.liveness.quorate for member in members)
        assert [len(member.sessions) for member in members] == [2, 2, 2]
        dialled = [sorted(name for _, name in member.dials) for member in members]
        assert dialled == [sorted((MID.name, HIGH.name)), [HIGH.name], []]


@pytest.mark.spec("LK-4", "LK-6", "LK-7")
async def test_a_peer_that_is_not_there_is_dialled_at_growing_intervals(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(MID, ONE) as member:
        await trio.sleep(200)
        times = [when for when, _ in member.dials]
        assert intervals(times) == [1, 2, 4, 8, 16, 32, 60, 60]
        assert {name for _, name in member.dials} == {HIGH.name}


@pytest.mark.spec("LK-4")
async def test_a_dial_that_hangs_is_the_only_one(network: Network, autojump_clock: MockClock) -> None:
    async def hang(transport: trio.abc.Stream) -> None:
        await transport.receive_some()
        await trio.sleep_forever()

    network.listening[HIGH.node_id] = (None, hang)
    async with network.member(MID, ONE) as member:
        await trio.sleep(9)
        assert len(member.dials) == 1


@pytest.mark.spec("LK-6")
async def test_a_peer_that_was_away_is_linked_again(network: Network, autojump_clock: MockClock) -> None:
    async with network.member(LOW, ONE) as low:
        for _ in range(2):
            async with network.member(HIGH, ONE):
                await until(lambda: HIGH.node_id in low.live, 61)
            await until(lambda: not low.live, 61)


@pytest.mark.spec("LK-2", "LK-6")
@pytest.mark.parametrize("with_error", [False, True])
async def test_a_link_that_ends_with_its_first_record_was_a_failed_dial(
    network: Network, autojump_clock: MockClock, with_error: bool
) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        for _ in range(4):
            raw = await peer.accept()
            if with_error:  # [LK-9] is for links that were in force
                await raw.stream.close_with_error(ErrorCode.ROSTER_CONFLICT)
            else:
                await raw.stream.aclose()
        await peer.accept()
        assert intervals([when for when, _ in member.dials]) == [1, 2, 4, 8]


@pytest.mark.spec("LK-2", "LK-9")
@pytest.mark.parametrize("with_error", [False, True])
async def test_a_link_was_in_force_if_a_record_came_together_with_its_end(
    network: Network, autojump_clock: MockClock, with_error: bool
) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        raw = await peer.accept()
        now, connection = trio.current_time(), raw.stream._connection
        first = connection.send_keepalive(now)
        error = ErrorCode.ROSTER_CONFLICT
        last = connection.send_error(error, "", now) if with_error else connection.send_bye(now)
        await raw.stream.transport.send_all(first + last)
        await peer.accept()
        assert intervals([when for when, _ in member.dials]) == [60 if with_error else 1]
        dialler = member.links._peers[HIGH.node_id].dialler
        assert dialler is not None
        assert dialler._aged_at == now + LINK_AGE_MAX  # it was put in force


@pytest.mark.spec("LK-2")
async def test_a_keepalive_puts_a_link_in_force_at_the_initiator(
    network: Network, autojump_clock: MockClock, log: LogWatch
) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member, trio.open_nursery() as nursery:
        raw = await peer.accept()
        await wait_all_tasks_blocked()
        assert member.links._peers[HIGH.node_id].in_force is None
        nursery.start_soon(raw.stream.keep_alive)
        with trio.fail_after(61):  # with the first one
            await log.until(f"link with {HIGH.name}: up")
        assert member.links._peers[HIGH.node_id].in_force is not None
        assert not member.live  # the peer has offered nothing
        nursery.cancel_scope.cancel()


@pytest.mark.spec("LK-3", "LK-11", "LK-14")
async def test_a_link_of_a_day_is_renewed_without_a_gap(network: Network, autojump_clock: MockClock) -> None:
    async with network.member(HIGH, ONE) as high, network.member(MID, ONE) as mid:
        await trio.sleep(LINK_AGE_MAX - 10)
        (first,) = mid.sessions
        gaps = 0
        for _ in range(80):
            await trio.sleep(0.25)
            gaps += (mid.live, high.live) != ({HIGH.node_id}, {MID.node_id})
        assert gaps == 0
        assert first not in mid.sessions
        assert (len(mid.sessions), len(high.sessions), len(mid.dials)) == (1, 1, 2)


@pytest.mark.spec("LK-12", "LK-15")
async def test_the_old_link_stays_in_use_while_the_next_dials_fail(network: Network, autojump_clock: MockClock) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member, trio.open_nursery() as nursery:
        raw = await peer.accept()
        await raw.say(offer(ONE))
        nursery.start_soon(raw.stream.keep_alive)
        nursery.start_soon(_read_on, raw)
        await trio.sleep(1)
        del network.listening[HIGH.node_id]
        await trio.sleep(LINK_AGE_MAX + 20)
        times = [when for when, _ in member.dials]
        assert intervals(times[1:]) == [1, 2, 4, 8]
        assert member.live == {HIGH.node_id}
        again = RawMember(network, HIGH, ONE)
        newer = await again.accept()
        await newer.say(offer(ONE))
        await trio.sleep(5)
        assert len(member.sessions) == 2  # the older one is R's to end
        nursery.cancel_scope.cancel()


async def _read_on(raw: Any) -> None:
    while True:
        await raw.hear()


# ---- accepting and ending ----------------------------------------------------


@pytest.mark.spec("LK-14", "LK-16", "LK-3")
async def test_a_newer_link_takes_the_place_of_the_older_which_ends_with_bye(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(HIGH, ONE) as member:
        older = await raw_link(member, LOW, ONE)
        await older.say(offer(ONE))
        assert (await older.hear())[0] == 1
        newer = await raw_link(member, LOW, ONE)
        assert (await newer.hear())[0] == 1
        assert member.live == {LOW.node_id}  # by the older, which has not ended
        await older.hear_bye()
        await older.stream.aclose()
        await wait_all_tasks_blocked()
        assert member.live == set()
        await newer.say(offer(ONE))
        await wait_all_tasks_blocked()
        assert member.live == {LOW.node_id}


@pytest.mark.spec("LK-19")
async def test_a_link_whose_bye_is_not_answered_is_closed_after_ten_seconds(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(HIGH, ONE) as member:
        older = await raw_link(member, LOW, ONE)
        await older.say(offer(ONE))
        await older.hear()
        since = trio.current_time()
        await raw_link(member, LOW, ONE)
        await older.hear_bye()
        # and what it still says is nothing [LK-20]
        await older.say(message(9), offer_of(EVER))
        assert await older.transport.receive_some() == b""
        assert trio.current_time() - since == pytest.approx(LINK_BYE_DEADLINE, abs=0.1)


@pytest.mark.spec("LK-17", "LK-18", "LK-23")
async def test_bye_is_answered_in_the_middle_of_a_transfer(network: Network, autojump_clock: MockClock) -> None:
    big = roster_of(1, members=90)
    assert len(transfer(big)) > 65_536
    top = identities(90)[-1]
    async with network.member(top, big) as member:
        raw = await raw_link(member, identities(90)[0], big)
        await raw.say(offer(big))
        assert (await raw.hear())[0] == 1
        may_go_on = clog(member, 0)
        await raw.say(REQUEST)
        await wait_all_tasks_blocked()  # the first record of the transfer is being written
        await raw.stream.send_eof()
        await wait_all_tasks_blocked()
        may_go_on.set()
        heard = bytearray()
        while data := await raw.stream.receive_some():
            heard += data
        assert 0 < len(heard) < len(transfer(big))
        assert transfer(big).startswith(bytes(heard))


def clog(member: Member, number: int) -> trio.Event:
    """The session's transport takes the next record only when the event is set."""
    may_go_on = trio.Event()
    transport: Any = member.sessions[number].transport
    pass_on = transport.send_stream.send_all_hook

    async def hook() -> None:
        await may_go_on.wait()
        await pass_on()

    transport.send_stream.send_all_hook = hook
    return may_go_on


@pytest.mark.spec("LK-23")
async def test_a_node_reads_a_link_while_it_cannot_write_to_it(network: Network, autojump_clock: MockClock) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        assert (await raw.hear())[0] == 1
        assert await raw.hear() == (2, b"")
        may_go_on = clog(member, 0)
        await raw.say(REQUEST, transfer(TWO))
        await until(have(2, member))
        may_go_on.set()
        heard = [await raw.hear() for _ in range(2)]
        assert sorted(type_ for type_, _ in heard) == [1, 3]


@pytest.mark.spec("LK-21", "LK-26", "LK-45", "LK-47")
@pytest.mark.parametrize("said", [message(9), REQUEST, offer(ONE) + message(3, length=5)])
async def test_a_violation_is_answered_and_ends_the_link_and_no_other(
    network: Network, autojump_clock: MockClock, said: bytes
) -> None:
    async with network.member(HIGH, ONE) as member:
        good = await raw_link(member, MID, ONE)
        await good.say(offer(ONE))
        bad = await raw_link(member, LOW, ONE)
        await bad.say(said)
        assert await bad.hear_error() is ErrorCode.PROTOCOL_VIOLATION
        await wait_all_tasks_blocked()
        assert member.live == {MID.node_id}


@pytest.mark.spec("SV-23", "LK-17")
async def test_a_node_that_stops_says_bye_on_every_link(network: Network, autojump_clock: MockClock) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        accepted, dialled = await raw_link(member, LOW, ONE), await peer.accept()
        for raw in (accepted, dialled):
            await raw.say(offer(ONE))
            assert (await raw.hear())[0] == 1
        since = trio.current_time()
        await member.links.stop()
        assert trio.current_time() == since
        for raw in (accepted, dialled):
            await raw.hear_bye()
            await raw.stream.aclose()
        await trio.sleep(100)
        assert len(member.dials) == 1
        assert member.sessions == []


# ---- how rosters spread ------------------------------------------------------


@pytest.mark.spec("LK-27", "LK-33", "LK-41", "LK-50", "LK-52", "RO-33", "RO-36")
async def test_a_roster_that_is_loaded_at_one_member_spreads_to_all(
    network: Network, autojump_clock: MockClock
) -> None:
    async with AsyncExitStack() as stack:
        members = await cluster(stack, network, ONE)
        for number, roster in enumerate((TWO, THREE)):
            await members[number].load(roster)
            assert await until(have(roster.epoch, *members), 1) < 1
        assert all(member.rosters.roster.digest == THREE.digest for member in members)
        held = [load_held_roster(member.directory) for member in members]
        assert [each and (each.roster.digest, each.highest) for each in held] == [(THREE.digest, 3)] * 3
        assert [len(member.sessions) for member in members] == [2, 2, 2]


async def test_a_roster_spreads_over_a_member_in_the_middle(network: Network, autojump_clock: MockClock) -> None:
    network.cut.add(frozenset((LOW.node_id, HIGH.node_id)))
    async with AsyncExitStack() as stack:
        low, mid, high = await cluster(stack, network, ONE)
        assert (low.live, high.live) == ({MID.node_id}, {MID.node_id})
        await low.load(TWO)
        await until(have(2, high), 1)
        assert mid.links.liveness == Liveness(frozenset({LOW.node_id, HIGH.node_id}), 3, True)


@pytest.mark.spec("RO-39")
async def test_a_member_that_was_away_gets_the_roster_when_it_is_back(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(LOW, ONE) as low, network.member(MID, ONE):
        async with network.member(HIGH, ONE):
            pass
        await low.load(THREE)
        async with network.member(HIGH, ONE) as high:
            assert high.epoch == 1
            await until(have(3, high))
        async with network.member(HIGH, ONE) as high:
            assert high.epoch == 3


@pytest.mark.spec("LK-30", "RO-40")
async def test_an_offer_alone_proves_nothing(network: Network, autojump_clock: MockClock) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer_of(EVER))
        await trio.sleep(1)
        assert member.rosters.floor == 1
        await member.load(TWO)
        assert member.epoch == 2
        held = load_held_roster(member.directory)
        assert held is not None
        assert held.highest == 2


@pytest.mark.spec("LK-33", "LK-34", "LK-35", "LK-36", "LK-40")
async def test_a_rogue_member_that_offers_the_highest_epoch_does_not_stop_the_others(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(MID, ONE) as mid, network.member(HIGH, ONE) as high:
        await wait_all_tasks_blocked()
        rogue = await raw_link(high, LOW, ONE)
        await rogue.say(offer_of(EVER))
        assert (await rogue.hear())[0] == 1
        assert await rogue.hear() == (2, b"")  # it is asked, and does not answer
        since = trio.current_time()
        for epoch in (2, 3):
            await mid.load(roster_of(epoch))
            await until(have(epoch, high), 16)
        assert trio.current_time() - since < PEER_PENALTY
        assert high.rosters.floor == 3


@pytest.mark.spec("LK-36", "LK-61")
async def test_a_candidate_that_does_not_answer_is_asked_every_fifteen_seconds(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        assert (await raw.hear())[0] == 1
        times = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raw.stream.keep_alive)
            for _ in range(4):
                assert await raw.hear() == (2, b"")
                times.append(trio.current_time())
            nursery.cancel_scope.cancel()
        assert intervals(times) == [15, 15, 15]
        await raw.say(transfer(TWO))  # late, the answer to any of them [LK-63]
        await until(have(2, member), 1)


@pytest.mark.spec("LK-32", "LK-38")
async def test_when_the_link_of_a_request_ends_another_is_asked(network: Network, autojump_clock: MockClock) -> None:
    async with network.member(HIGH, ONE) as member:
        raws = [await raw_link(member, each, ONE) for each in (LOW, MID)]
        for raw in raws:
            await raw.say(offer(TWO))
            assert (await raw.hear())[0] == 1
        first, second = sorted(raws, key=lambda raw: raw.stream.initiator.node_id)  # type: ignore[union-attr]
        assert await first.hear() == (2, b"")
        with trio.move_on_after(5) as waiting:
            await second.hear()
        assert waiting.cancelled_caught
        await first.stream.aclose()
        assert await second.hear() == (2, b"")


@pytest.mark.spec("LK-38")
async def test_when_the_link_of_a_request_is_no_longer_in_force_another_is_asked(
    network: Network, autojump_clock: MockClock
) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member, trio.open_nursery() as nursery:
        older = await peer.accept()
        await older.say(offer(ONE))
        nursery.start_soon(older.stream.keep_alive)
        nursery.start_soon(_read_on, older)
        await trio.sleep(LINK_AGE_MAX - 5)
        await older.say(offer(TWO))  # it is asked for that, and does not answer
        await trio.sleep(4)
        other = await raw_link(member, LOW, ONE)
        await other.say(offer(TWO))
        assert (await other.hear())[0] == 1
        newer = await peer.accept()
        await newer.say(offer(TWO))
        with trio.fail_after(1):
            assert await other.hear() == (2, b"")
        nursery.cancel_scope.cancel()


@pytest.mark.spec("LK-48", "LK-32")
async def test_a_transfer_that_does_not_verify_ends_the_link(network: Network, autojump_clock: MockClock) -> None:
    spoilt = bytearray(transfer(TWO))
    spoilt[-1] ^= 1
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        await raw.say(bytes(spoilt))
        assert await raw.hear_error() is ErrorCode.PROTOCOL_VIOLATION
        assert (member.epoch, member.rosters.floor) == (1, 1)


@pytest.mark.spec("LK-42")
async def test_no_more_than_four_transfers_are_sent_at_a_time(network: Network, autojump_clock: MockClock) -> None:
    roster = roster_of(1, members=8)
    *peers, top = identities(8)
    async with network.member(top, roster) as member:
        raws = [await raw_link(member, each, roster) for each in peers[: TRANSFERS_MAX + 2]]
        for raw in raws:
            await raw.say(offer(roster))
            assert (await raw.hear())[0] == 1
        go_on = [clog(member, number) for number in range(len(raws))]
        for raw in raws:
            await raw.say(REQUEST)
        await wait_all_tasks_blocked()

        def sending() -> int:
            return sum(link.exchange.is_sending_transfer for link in member.links._links)

        assert sending() == TRANSFERS_MAX
        go_on[0].set()
        assert (await raws[0].hear())[0] == 3
        await wait_all_tasks_blocked()
        assert sending() == TRANSFERS_MAX
        for each in go_on[1:]:
            each.set()
        for raw in raws[1:]:
            assert (await raw.hear())[0] == 3
        await wait_all_tasks_blocked()
        assert sending() == 0


@pytest.mark.spec("RO-33", "LK-50")
async def test_a_roster_that_is_verified_after_its_link_has_ended_is_adopted(
    network: Network, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        verified = verification_waits(monkeypatch)
        await raw.say(transfer(TWO))
        await wait_all_tasks_blocked()
        await trio.aclose_forcefully(raw.stream)
        await wait_all_tasks_blocked()
        assert member.epoch == 1
        verified.set()
        await until(have(2, member), 1)


@pytest.mark.spec("LK-64", "LK-39", "LK-49")
async def test_what_was_adopted_during_a_verification_decides_too(
    network: Network, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        verified = verification_waits(monkeypatch)
        await raw.say(transfer(TWO))
        await wait_all_tasks_blocked()
        await member.load(THREE)
        verified.set()
        assert offer_in((await raw.hear())[1]) == 3
        await trio.sleep(30)
        assert member.epoch == 3
        assert member.live == {LOW.node_id}


@pytest.mark.spec("LK-64", "LK-31")
async def test_a_conflict_that_comes_up_during_a_verification_leaves_the_other_roster_unadopted(
    network: Network, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        verified = verification_waits(monkeypatch)
        await raw.say(transfer(TWO))
        await wait_all_tasks_blocked()
        await member.load(other_roster_of(2))
        verified.set()
        assert await raw.hear_error() is ErrorCode.ROSTER_CONFLICT
        await trio.sleep(100)
        assert member.rosters.roster.digest == other_roster_of(2).digest


def verification_waits(monkeypatch: pytest.MonkeyPatch) -> trio.Event:
    """Transfers that arrive from now on are verified when the event is set."""
    event, run_sync = trio.Event(), trio.to_thread.run_sync

    async def wait(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if getattr(function, "__name__", "") == "verify_transfer":
            await event.wait()
        return await run_sync(function, *args, **options)

    monkeypatch.setattr(trio.to_thread, "run_sync", wait)
    return event


# ---- storing -----------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Nothing can be stored as long as this list is there with a first element of 0; when it was tried."""
    tried: list[float] = [0]
    save = save_held_roster

    def fail(directory: Path, roster: VerifiedRoster, highest: int) -> None:
        tried.append(trio.current_time())
        if tried[0] == 0:
            raise StorageError(directory, "no space left")
        save(directory, roster, highest)

    monkeypatch.setattr(cluster_rosters, "save_held_roster", fail)
    return tried


@pytest.mark.spec("RO-37", "RO-38", "LK-52")
async def test_a_roster_that_cannot_be_stored_is_not_adopted_and_tried_again_every_minute(
    network: Network, autojump_clock: MockClock, full_disk: list[float], log: LogWatch
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        await raw.say(transfer(TWO))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(raw.stream.keep_alive)
            await log.until("cannot be stored")
            await trio.sleep(150)
            assert (member.epoch, member.rosters.floor) == (1, 2)
            full_disk[0] = 1
            await until(have(2, member), 61)
            nursery.cancel_scope.cancel()
        times = full_disk[1:]
        assert intervals(times) == [60, 60, 60]
        # nobody was asked again meanwhile: the floor is above what is in force
        assert offer_in((await raw.hear())[1]) == 2


@pytest.mark.spec("LK-53", "RO-38")
async def test_a_roster_that_waits_to_be_stored_gives_way_to_a_higher_epoch(
    network: Network, autojump_clock: MockClock, full_disk: list[float], log: LogWatch
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        await raw.say(transfer(TWO))
        await log.until("epoch 2 cannot be stored")
        full_disk[0] = 1
        await raw.say(offer(THREE))
        assert await raw.hear() == (2, b"")
        await raw.say(transfer(THREE))
        await log.until("epoch 3 is in force")
        await trio.sleep(100)
        held = load_held_roster(member.directory)
        assert held is not None
        assert held.roster.digest == THREE.digest
        assert len(full_disk) == 3


async def test_what_the_operator_has_stored_meanwhile_is_not_overwritten(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(TWO))
        for _ in range(2):
            await raw.hear()
        save_held_roster(member.directory, THREE, 3)  # and the node is not told yet
        await raw.say(transfer(TWO))
        await until(have(3, member), 1)
        held = load_held_roster(member.directory)
        assert held is not None
        assert held.roster.digest == THREE.digest


@pytest.mark.spec("RO-49", "RO-53")
async def test_a_ck_that_was_prepared_meanwhile_is_in_force_with_the_roster_that_names_it(
    network: Network, autojump_clock: MockClock
) -> None:
    spare = test_identity(5)
    card = make_card(name=HIGH.name, sk_priv=HIGH.sk_priv, ck=spare.ck_priv.public_key(), serial=2)
    new = with_card(ONE, card, epoch=2)
    async with network.member(HIGH, ONE) as member:
        raw = await raw_link(member, LOW, ONE)
        await raw.say(offer(new))
        for _ in range(2):
            await raw.hear()
        save_next(member.directory, local_identity(verify_card(card), HIGH.sk_priv, spare.ck_priv))
        await raw.say(transfer(new))
        await until(have(2, member), 1)
        assert [key.spki for key in member.rosters.accepted] == [card.ck, HIGH.card.card.ck]


# ---- conflicts ---------------------------------------------------------------


@pytest.mark.spec("LK-9", "LK-10", "LK-31", "RO-45", "RO-46", "RO-47", "RO-48")
async def test_two_rosters_of_one_epoch_end_the_link_until_a_higher_one_is_there(
    network: Network, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = roster_of(2), other_roster_of(2)
    async with network.member(HIGH, other) as high, network.member(MID, one) as mid:
        await trio.sleep(BACKOFF_MAX * 3.5)
        times = [when for when, _ in mid.dials]
        assert intervals(times) == [60, 60, 60]
        assert (mid.live, high.live) == (set(), set())
        assert (mid.rosters.roster.digest, high.rosters.roster.digest) == (one.digest, other.digest)
        reports = [record for record in caplog.records if "two different rosters" in record.getMessage()]
        assert 1 <= len(reports) <= 2  # each side once, if it has read the other's offer at all
        dials = len(mid.dials)
        await mid.load(THREE)
        assert await until(have(3, high), 1) < 1
        assert len(mid.dials) == dials + 1
        assert mid.live == {HIGH.node_id}


@pytest.mark.spec("LK-31", "RO-47", "LK-9")
async def test_a_conflict_that_an_adoption_makes_ends_the_link(network: Network, autojump_clock: MockClock) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        raw = await peer.accept()
        await raw.say(offer(other_roster_of(2)))
        await wait_all_tasks_blocked()
        assert member.live == {HIGH.node_id}
        await member.load(TWO)
        assert await raw.hear_error() is ErrorCode.ROSTER_CONFLICT
        since = trio.current_time()
        await peer.accept()
        assert trio.current_time() - since == pytest.approx(BACKOFF_MAX, abs=2)
        assert member.epoch == 2


@pytest.mark.spec("LK-9", "RO-48")
async def test_a_conflict_that_the_peer_has_found_counts_too(network: Network, autojump_clock: MockClock) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        raw = await peer.accept()
        await raw.say(offer(ONE))
        await wait_all_tasks_blocked()
        since = trio.current_time()
        await raw.stream.close_with_error(ErrorCode.ROSTER_CONFLICT)
        await peer.accept()
        assert trio.current_time() - since == pytest.approx(BACKOFF_MAX, abs=2)
        assert member.epoch == 1


@pytest.mark.spec("RO-45", "RO-46", "RO-67")
@pytest.mark.parametrize("changes", [{"clients": ()}, {"knock": bytes(32)}], ids=["clients", "knock"])
async def test_a_roster_of_the_same_epoch_from_the_operators_hand_is_a_conflict_too(
    network: Network, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    other = without(ONE, epoch=1, **changes)
    async with network.member(HIGH, ONE) as member:
        for _ in range(2):
            await member.load(other)
        assert member.rosters.roster.digest == ONE.digest
        reports = [record for record in caplog.records if "two different rosters" in record.getMessage()]
        assert len(reports) == 1


@pytest.mark.spec("RO-46", "RO-66")
def test_each_conflict_is_reported_once_and_only_so_many_are_remembered(caplog: pytest.LogCaptureFixture) -> None:
    conflicts = Conflicts()
    for _ in range(2):
        for peer, epoch, digest in (
            (LOW.node_id, 1, b"a"),
            (LOW.node_id, 1, b"b"),
            (LOW.node_id, 2, b"a"),
            (HIGH.node_id, 1, b"a"),
            (None, 1, b"a"),
        ):
            conflicts.report(peer, "it", epoch, digest)
    assert len(caplog.records) == 5
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    for epoch in range(10_000):
        conflicts.report(LOW.node_id, "it", 10 + epoch, b"a")
    assert len(conflicts._reported) == CONFLICTS_REMEMBERED
    count = len(caplog.records)
    conflicts.report(LOW.node_id, "it", 10 + 9_999, b"a")
    assert len(caplog.records) == count
    conflicts.report(LOW.node_id, "it", 1, b"a")  # long forgotten
    assert len(caplog.records) == count + 1


# ---- who is admitted ---------------------------------------------------------


@pytest.mark.spec("LK-52", "RO-55")
async def test_the_links_of_a_removed_member_end_before_the_new_roster_is_offered(
    network: Network, autojump_clock: MockClock
) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        accepted, dialled = await raw_link(member, LOW, ONE), await peer.accept()
        for raw in (accepted, dialled):
            await raw.say(offer(ONE))
            assert offer_in((await raw.hear())[1]) == 1
        await member.load(without(ONE, LOW, epoch=2))
        assert await accepted.hear_error() is ErrorCode.NOT_AUTHORIZED
        assert accepted.unread == b""  # nothing was offered
        assert offer_in((await dialled.hear())[1]) == 2
        await member.load(without(ONE, LOW, HIGH, epoch=3))
        assert await dialled.hear_error() is ErrorCode.NOT_AUTHORIZED
        await trio.sleep(100)
        assert len(member.dials) == 1
        assert member.links.liveness == Liveness(frozenset(), 1, True)
        assert member.links.liveness.quorate


@pytest.mark.spec("LK-5", "LK-52")
async def test_a_member_that_is_added_is_dialled_at_once(network: Network, autojump_clock: MockClock) -> None:
    small = without(ONE, HIGH, epoch=1)
    async with network.member(MID, small) as mid, network.member(HIGH, TWO) as high:
        await trio.sleep(10)
        assert mid.dials == []
        await mid.load(TWO)
        await until(lambda: mid.live == {HIGH.node_id} and high.live == {MID.node_id}, 1)


@pytest.mark.spec("LK-54", "RO-56")
async def test_a_dial_to_a_member_that_is_removed_is_ended_without_a_word(
    network: Network, autojump_clock: MockClock
) -> None:
    heard = []

    async def listen(transport: trio.abc.Stream) -> None:
        heard.append(bytes(await transport.receive_some()))
        heard.append(bytes(await transport.receive_some()))

    network.listening[HIGH.node_id] = (None, listen)
    async with network.member(MID, ONE) as member:
        await wait_all_tasks_blocked()
        await member.load(without(ONE, HIGH, epoch=2))
        await wait_all_tasks_blocked()
        assert [len(each) > 0 for each in heard] == [True, False]
        await trio.sleep(100)
        assert len(member.dials) == 1


@pytest.mark.spec("LK-54")
async def test_a_dial_that_has_not_begun_when_its_peer_is_removed_is_not_made(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(MID, without(ONE, HIGH, epoch=1)) as member:
        for epoch, roster in ((2, TWO), (3, without(ONE, HIGH, epoch=3))):
            member.rosters._put_in_force(HeldRoster(roster, epoch), [])
        await trio.sleep(10)
        assert member.dials == []


@pytest.mark.spec("LK-55", "LK-56", "LK-57", "RO-58", "RO-59")
async def test_a_removed_node_ends_its_links_and_dials_again_when_it_is_back(
    network: Network, autojump_clock: MockClock
) -> None:
    peer = RawMember(network, HIGH, ONE)
    async with network.member(MID, ONE) as member:
        accepted, dialled = await raw_link(member, LOW, ONE), await peer.accept()
        for raw in (accepted, dialled):
            await raw.say(offer(ONE))
            await raw.hear()
        await member.load(without(ONE, MID, epoch=2))
        assert await accepted.hear_error() is ErrorCode.SHUTTING_DOWN
        assert await dialled.hear_error() is ErrorCode.NOT_AUTHORIZED
        await trio.sleep(100)
        assert len(member.dials) == 1
        assert member.links.liveness == Liveness(frozenset(), 2, False)
        assert not member.links.liveness.quorate
        await member.load(THREE)
        back = await peer.accept()
        assert offer_in((await back.hear())[1]) == 3


@pytest.mark.spec("LK-55")
async def test_a_node_whose_node_id_stands_there_with_another_sk_is_no_member(
    network: Network, autojump_clock: MockClock
) -> None:
    async with network.member(HIGH, ONE) as member:
        assert member.rosters.is_member
        held = member.rosters._held
        others = dict(held.roster.members)
        others[HIGH.node_id] = others[LOW.node_id]
        member.rosters._held = attrs.evolve(held, roster=attrs.evolve(held.roster, members=others))
        assert not member.rosters.is_member


# ---- live and quorate --------------------------------------------------------


@pytest.mark.spec("LK-59")
@pytest.mark.parametrize(
    ("live", "members", "is_member", "quorate"),
    [
        (0, 1, True, True),
        (0, 2, True, False),
        (1, 2, True, True),
        (1, 3, True, True),
        (1, 4, True, False),
        (2, 5, True, True),
        (3, 3, False, False),
    ],
)
def test_a_cluster_is_quorate_when_more_than_half_are_there(
    live: int, members: int, is_member: bool, quorate: bool
) -> None:
    peers = frozenset(identity.node_id for identity in identities(live))
    assert Liveness(peers, members, is_member).quorate is quorate
