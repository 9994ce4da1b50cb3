"""What has to come of members, their links and a rogue: the oracle of `machines.members`, and what it knows.

Nothing here asks a node what is right. Which rosters there are is known from signing them; who has to be linked, live
and up to date follows from those in force; times are computed from the limits of the specification, for the worst that
can happen.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis.stateful import invariant

from xlattice_trio.fuzz.cluster import Cluster, Node
from xlattice_trio.fuzz.cluster_cast import COUNT, KEEPALIVE, digest, first_roster, identities, number_of, peer_of, sign
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.rogue import HARMLESS, OFFER, RogueLink
from xlattice_trio.fuzz.session_model import limit
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.wire.codec import encode

Pair = tuple[int, int]

REST = 100.0  # seconds in which nothing happens any more: longer than any wait
_SLACK = 5.0  # seconds for what takes time in this world: the way
_WORK = 6  # at most so many threads between a roster's loading and its being in force elsewhere
_SILENCE = KEEPALIVE / 1000 * limit("KEEPALIVE_INTERVALS")
_EARLIEST, _LATEST = 0.5, 1.5  # of the seconds of a wait
# From the moment at which both would have a link: a dial that hangs, then the back-off.
LINK_TIME = limit("HANDSHAKE_DEADLINE") + _LATEST * limit("BACKOFF_MAX") + _SLACK
_CHOICES = 4  # requests until one is the honest candidate's, if all have failed one: `Luck` sees to that


def paired(a: int, b: int) -> Pair:
    """The two, the lower one first."""
    return (a, b) if a < b else (b, a)


def is_named(number: int, roster: VerifiedRoster) -> bool:
    """Whether a roster names a member."""
    node_id = identities()[number].node_id.value
    return any(node_id == member.node_id.value for member in roster.members.values())


class MembersModel(TargetMachine):
    """The cluster, and what is known of it without asking its nodes."""

    def make(self, rogue: int, anchor: int, way: str, work: float, luck: int) -> None:
        """Everybody starts."""
        self.world: Any = self.driver
        self.cluster = Cluster(self.driver, rogue=rogue, way=way, work=work, luck=luck)
        self.nodes, self.rogue, self.work = self.cluster.nodes, self.cluster.rogue, work
        self.honest = [number for number in range(COUNT) if number != rogue]
        self.anchor = self.honest[anchor]
        self.signed: dict[int, VerifiedRoster] = {1: first_roster()}
        self.present, self.names = frozenset(range(COUNT)), (0,) * COUNT
        self.dialled: dict[int, Pair] = {}  # by node: its run, and how many dials have been looked at
        self.waits: dict[Pair, int] = {}  # n of [LK-7], by pair, as low as it can be
        self.lines: dict[Pair, str] = {}  # what was done to a pair last
        self.is_calm = True  # every pair is linked, and nothing has happened since
        self.disturbed_at = self.vanished_at = self.trickled_at = self.settled_at = -math.inf
        self.harmless_since = -math.inf if way in HARMLESS else math.inf

    def sign(self, change: str, one: int) -> VerifiedRoster:
        """The authority signs another roster; the rogue has it at once."""
        names, before = list(self.names), self.present
        match change:
            case "name":
                names[one] += 1
            case "remove":
                self.present -= {one}
            case "add":
                self.present |= {one}
            case "rogue":
                self.present ^= {self.rogue.number}
        if before - self.present:
            self.disturbed_at = self.now
        if self.present - before - {self.rogue.number}:
            self.is_calm = False
        self.names = tuple(names)
        roster = sign(max(self.signed) + 1, self.present, self.names)
        self.signed[roster.epoch] = self.rogue.newest = roster
        return roster

    # ---- what is what ----

    @property
    def now(self) -> float:
        """The time."""
        return self.driver.now

    def roster_of(self, number: int) -> VerifiedRoster:
        """What a member has in force, as it was signed."""
        return self.signed[self.nodes[number].epoch]

    def is_member(self, number: int) -> bool:
        """Whether the roster that a member has in force names it."""
        return is_named(number, self.roster_of(number))

    def names_both(self, number: int, peer: int) -> bool:
        """Whether the roster that a member has in force names it and another one."""
        return self.is_member(number) and is_named(peer, self.roster_of(number))

    def group(self) -> list[int]:
        """Those that have the newest roster in force and are in it: what there is a cluster of."""
        members = [number for number in self.honest if self.is_member(number)]
        top = max(self.nodes[number].epoch for number in members)
        return [number for number in members if self.nodes[number].epoch == top]

    def links_of_rogue(self, number: int) -> list[RogueLink]:
        """Those that it has with a member, and that are not of a run which has ended without a word."""
        return [link for link in self.rogue.links_with(number) if link.since >= self.nodes[number].since]

    def is_far(self, number: int) -> bool:
        """Whether what a member says does not come to the rogue at once."""
        return self.lines.get(paired(number, self.rogue.number), "heal") != "heal"

    @property
    def is_harmless(self) -> bool:
        """Whether the rogue has for long not offered what it does not have."""
        return self.now - self.harmless_since > limit("TRANSFER_DEADLINE") + 20

    def links_between(self) -> list[tuple[int, int, int]]:
        """Who has which links, in the cluster that there is."""
        pairs = itertools.permutations(self.group(), 2)
        return [(a, b, id(one)) for a, b in pairs for one in self.nodes[a].session_with(b)]

    # ---- how long it takes ----

    @property
    def work_time(self) -> float:
        """Seconds from a roster's loading until it is in force at those that are linked, if nothing is in the way."""
        return _WORK * self.work + 2

    @property
    def request_time(self) -> float:
        """Seconds until an honest candidate has been asked, once there is one: the rogue may be asked before. If the
        honest one has failed lately, too, it is chosen by chance."""
        if self.rogue.way == "trickles" or any(link.is_spoilt and not link.ended for link in self.rogue.links):
            self.trickled_at = self.now
        trickles = self.now - self.trickled_at < limit("TRANSFER_DEADLINE") + 20
        longest = limit("TRANSFER_DEADLINE" if trickles else "TRANSFER_IDLE_DEADLINE")
        has_failed = self.now - self.disturbed_at < limit("PEER_PENALTY") + 20
        return longest * (_CHOICES if has_failed else 1) + self.work_time

    @property
    def silence_time(self) -> float:
        """Seconds until nobody has a link any more with somebody who has vanished."""
        return max(0.0, self.vanished_at + _SILENCE - self.now)

    @property
    def settle_time(self) -> float:
        """Seconds until all is as it has to be: a link with the anchor, over the anchor to the others, and links of
        those that did not know of each other; and the rogue may bring something newer in the midst of it."""
        return self.silence_time + 2 * LINK_TIME + (3 if self.rogue.way == "honest" else 2) * self.request_time

    def pass_until(self, why_not: Callable[[], str], most: float) -> None:
        """Until nothing is said any more about why not; it has to come in so many seconds."""
        passed, step = 0.0, 1.0
        while why := why_not():
            assert passed < most, f"after {passed:g} s in which nothing was in the way, {why}"
            step = min(step, most - passed)
            self.driver.pass_time(step)
            passed, step = passed + step, step * 2

    # ---- at rest ----

    def why_not_settled(self) -> str:
        """What is not yet as it has to be at last; nothing if all is."""
        top = max(self.nodes[number].epoch for number in self.honest if self.is_member(number))
        for number in self.honest:
            epoch = self.nodes[number].epoch
            if epoch < top and is_named(number, self.signed[top]):
                return f"{number} has epoch {epoch} in force, and {top} is in force elsewhere [LK-27] [LK-33]"
        group = self.group()
        for number in group:
            for node_id in self.nodes[number].links.liveness.live:
                if number_of(node_id) not in (*group, self.rogue.number):
                    return f"{number_of(node_id)} is live at {number}, to which it has no link [LK-58] [SE-36]"
        for number, peer in itertools.permutations(group, 2):
            count = len(self.nodes[number].session_with(peer))
            if count != 1:
                return f"{number} has {count} links with {peer} [LK-3] [LK-5] [LK-6]"
            if identities()[peer].node_id not in self.nodes[number].links.liveness.live:
                return f"{peer} is not live at {number} [LK-58]"
        return ""

    def check_rest(self) -> None:
        """All has come to rest: for a while nothing happens."""
        for _ in range(len(self.signed)):
            self.pass_until(self.why_not_settled, self.settle_time)
            group, before, epochs = self.group(), self.links_between(), [node.epoch for node in self.nodes.values()]
            dials = {number: len(self.nodes[number].dials) for number in group}
            self.driver.pass_time(REST)
            if epochs == [node.epoch for node in self.nodes.values()]:  # else the rogue has brought something
                break
        self.holds()
        for number in group:
            for dial in self.nodes[number].dials[dials[number] :]:
                assert dial.peer not in group, f"{number} has dialled {dial.peer}, to which it has a link [LK-6]"
        assert before == self.links_between(), "links between members have come and gone, for no reason"
        for number in group:
            self._check_live(number, group)

    def _check_live(self, number: int, group: Sequence[int]) -> None:
        """Who is live at a member, and what it told the rogue."""
        node = self.nodes[number]
        live, expected = {number_of(node_id) for node_id in node.links.liveness.live}, {*group} - {number}
        links = self.links_of_rogue(number)
        certain = [link for link in links if not link.is_deaf]
        if any(link.has_offered for link in certain):
            expected.add(self.rogue.number)
        elif len(certain) < len(links):
            live.discard(self.rogue.number)
        assert live == expected, f"{sorted(live)} are live at {number}, and {sorted(expected)} should be [LK-58]"
        held = self.signed[node.epoch]
        own = held.epoch.to_bytes(8, "big") + digest(held.roster)
        for link in certain:
            assert link.theirs == own, f"{number} has another roster in force than it has offered last [LK-25] [LK-27]"

    # ---- at any time ----

    @invariant()
    def holds(self) -> None:
        """What holds in every moment."""
        if hasattr(self, "cluster"):
            for number, node in self.nodes.items():
                self._check_roster(number, node)
                self._check_liveness(number, node)
                self._check_dials(number, node)
                self._check_sessions(number, node)
            for link in self.rogue.links:
                self._check_rogue_link(link)

    def _check_roster(self, number: int, node: Node) -> None:
        held = node.rosters.roster
        signed = self.signed.get(held.epoch)
        assert signed is not None, f"{number} has epoch {held.epoch} in force, which nobody has signed [RO-32]"
        assert held.roster == signed.roster, f"{number} has a roster in force that nobody has signed [RO-32]"
        epochs = [1, *(epoch for _, epoch in node.adoptions)]
        assert epochs == sorted(set(epochs)), f"{number} has adopted epochs {epochs}, in this order [RO-34]"
        assert held.epoch == epochs[-1], f"{number} goes on with epoch {held.epoch} after {epochs[-1]} [RO-39]"

    def _check_liveness(self, number: int, node: Node) -> None:
        found, members = node.links.liveness, len(self.roster_of(number).members)
        is_quorate = self.is_member(number) and 2 * (len(found.live) + 1) > members
        assert (found.members, found.quorate) == (members, is_quorate), (
            f"{number}, with {len(found.live)} live peers of {members} members: {found} [LK-59]"
        )
        for peer in map(number_of, found.live):
            assert self.names_both(number, peer), f"{peer} is live at {number}, and not in its roster [LK-58]"
            has_offered = any(link.has_offered for link in self.rogue.links if link.peer == number)
            assert peer != self.rogue.number or has_offered, f"{peer} is live at {number}, and never offered [LK-58]"

    def _check_dials(self, number: int, node: Node) -> None:
        run, seen = self.dialled.get(number, (0, 0))
        if run != node.runs:
            seen = 0
            self.waits = {pair: n for pair, n in self.waits.items() if pair[0] != number}
        for at, dial in enumerate(node.dials[seen:], seen):
            peer, roster = dial.peer, self.signed[dial.epoch]
            assert number < peer, f"{number} has dialled {peer}, whose NodeID is the lower one [LK-1]"
            assert not dial.is_double, f"{number} has dialled {peer} twice at a time [LK-4]"
            names_both = is_named(number, roster) and is_named(peer, roster)
            assert names_both, f"{number} has dialled {peer} at epoch {dial.epoch}, which is without one [LK-5] [RO-58]"
            if peer == self.rogue.number:
                self._check_after_conflict(number, node, dial.at)
            for before in [earlier for earlier in node.dials[:at] if earlier.peer == peer][-1:]:
                self._check_wait((number, peer), dial.at - before.at, dial.epoch != before.epoch)
        self.dialled[number] = (node.runs, len(node.dials))

    def _check_wait(self, pair: Pair, waited: float, is_new: bool) -> None:
        """Time from dial to dial; `is_new`: a roster was adopted meanwhile, and may have begun anew."""
        n = self.waits.get(pair, 0)
        if is_new or waited >= limit("LINK_STEADY"):
            self.waits[pair] = 0 if is_new else 1
            return
        least = _EARLIEST * min(limit("BACKOFF_MIN") * 2**n, limit("BACKOFF_MAX"))
        assert waited > least - 0.01, f"{pair[0]} has dialled {pair[1]} after {waited:g} s, not {least:g} [LK-7]"
        self.waits[pair] = n + 1

    def _check_after_conflict(self, number: int, node: Node, at: float) -> None:
        """A dial to the rogue: not soon after a conflict with it."""
        ends = [link.ended_at for link in self.rogue.links if link.peer == number and link.is_conflict]
        since = max((end for end in ends if end < at), default=-math.inf)
        if self.disturbed_at + _SLACK > since or self.is_far(number):
            return  # the rogue may have learnt of it late
        if since >= node.since and not any(when >= since for when, _ in node.adoptions):
            least = _EARLIEST * limit("BACKOFF_MAX")
            assert at - since > least - 0.1, f"{number} has dialled {at - since:g} s after a conflict [LK-9]"

    def _check_sessions(self, number: int, node: Node) -> None:
        since = self.now - max((at for at, _ in node.adoptions), default=0.0)
        for stream in node.sessions:
            peer = peer_of(stream)
            dialled = stream.established.side is Side.INITIATOR
            assert dialled == (number < peer), f"of {number} and {peer} the wrong one has dialled [LK-1]"
            if since > limit("ERROR_LINGER") + 1 and not self.names_both(number, peer):
                assert stream._over.is_set(), (
                    f"{number} has a session with {peer}, {since:g} s after it adopted epoch {node.epoch}, which is "
                    "without one of them [RO-55] [RO-58]"
                )

    def _check_rogue_link(self, link: RogueLink) -> None:
        assert link.first_heard in (0, OFFER), f"the first that {link.peer} says is no offer [LK-25]"
        count = len(link.answers)
        assert count <= link.asked, f"{link.peer} has sent {count} rosters for {link.asked} requests [LK-44]"
        for answer in link.answers:
            is_signed = any(encode(roster.roster) == answer for roster in self.signed.values())
            assert is_signed, f"{link.peer} has sent what nobody has signed [LK-41]"

    def teardown(self) -> None:
        """The cluster ends before its driver does."""
        try:
            if hasattr(self, "cluster"):
                self.cluster.close()
        finally:
            super().teardown()
