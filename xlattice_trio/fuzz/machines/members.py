"""Members whose links cross a network that is cut, slow and broken, with a rogue among them: what comes of it at last.

The invariants:
- The member with the lower NodeID dials, one dial at a time, never sooner than its back-off lets it, and nobody whom
  its roster does not name. [LK-1] [LK-4] [LK-7] [LK-9]
- What is in force was signed by the authority, and no member goes back. [RO-32] [RO-34] [RO-39]
- A member ends what it has with everybody whom its roster does not name; one that is not named itself has nothing and
  dials nobody. [RO-55] [RO-58]
- When the network is whole again, whatever was before: a roster that is in force at one member is in force at all that
  it names, each pair of them has one link, and they rest. The rogue, in any of its ways, only delays that, by the
  time-outs of requests. [LK-3] [LK-27] [LK-33] [LK-36]
- Who is live at rest is who has a link on which both have offered; quorate is more than half. [LK-58] [LK-59]

The tasks are those of `cluster.links`, `cluster.rosters` and `net`, which `fuzz.cluster` holds; `fuzz.rogue` is the
attacker, and `fuzz.members_model` says what has to come of it.

So that what must be reached can be reached at all, the authority heeds [RO-61]: one member, the anchor, is in every
roster, and whoever is named anew has the roster loaded by hand, as has the anchor.
"""

import itertools
import math

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from xlattice_trio.fuzz.cluster import STOPS
from xlattice_trio.fuzz.cluster_cast import COUNT
from xlattice_trio.fuzz.members_model import LINK_TIME, MembersModel, Pair, paired
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.rogue import HARMLESS, WAYS

_PAIRS = tuple(itertools.combinations(range(COUNT), 2))
_CHANGES = ("nothing", "name", "remove", "add", "rogue")
_STEPS = 10  # much happens in each: behind so many an example settles, and is done


class MembersMachine(MembersModel):
    """Three members and a rogue one."""

    @initialize(
        rogue=st.sampled_from((1, 0, 3)),
        anchor=st.integers(0, 2),
        way=st.sampled_from(("silent", *WAYS)),
        twice=st.booleans(),
        work=st.sampled_from((0.0, 0.3)),
        luck=st.integers(0, 3),
    )
    def begin(self, rogue: int, anchor: int, way: str, twice: bool, work: float, luck: int) -> None:
        """Everybody starts, and the rogue has its links, or makes them anew at once."""
        self.make(rogue, anchor, way, work, luck)
        self.steps = 0
        for number in self.honest:
            if rogue < number:
                self._rogue_dials(number, 2 if twice else 1)

    def _is_done(self) -> bool:
        """Whether this example has had its steps: then it settles."""
        self.steps += 1
        if self.steps > _STEPS:
            self.settle()
            return True
        self.settled_at = -math.inf
        return False

    # ---- rosters ----

    @rule(
        change=st.sampled_from(_CHANGES),
        whom=st.integers(0, 1),
        where=st.integers(0, 3),
        then=st.sampled_from(("settle", "wait", "go on")),
    )
    def adopt(self, change: str, whom: int, where: int, then: str) -> None:
        """The authority signs another roster, and it is loaded at a member, or nobody but the rogue has it."""
        if self._is_done():
            return
        newest, before = self.signed[max(self.signed)], self.present
        linked = [number for number in self.honest if self.roster_of(number) is newest]
        roster = self.sign(change, [number for number in self.honest if number != self.anchor][whom])
        places = {number for number in self.present - before if number != self.rogue.number}
        places |= {self.anchor} if places else set()
        places |= set(self.honest[where : where + 1])
        for number in sorted(places):
            self.cluster.load(number, roster)
        if then == "settle":
            self.settle()
        elif then == "wait":
            spreads = self.is_calm and any(number in linked for number in places & self.present)
            self.driver.pass_time(self.work_time if self.is_harmless else self.work_time + self.request_time)
            for number in {*places, *(linked if spreads else ())} & self.present:
                epoch = self.nodes[number].epoch
                assert epoch >= roster.epoch, (
                    f"{number} has epoch {epoch} in force, though {roster.epoch} was loaded at {sorted(places)}, and "
                    "all are linked [LK-27] [LK-33] [LK-35]"
                )

    @rule(
        whom=st.integers(0, 2),
        way=st.integers(0, 1),
        after=st.sampled_from((0.6, 1.1, 1.6, 2.6)),
        how=st.sampled_from(("reset", "cut", "too slow")),
    )
    def interrupt(self, whom: int, way: int, after: float, how: str) -> None:
        """A member gets a roster from one other alone, over a slow line, and somewhere in the midst that breaks."""
        number, giver, third = self.honest[whom], self.honest[whom - 1 - way], self.honest[whom - 2 + way]
        both = self.names_both(number, giver) and self.names_both(giver, number)
        if self._is_done() or not both or not {number, giver} <= self.present:
            return
        line = paired(number, giver)
        self._disturb(paired(number, third), "cut")
        self._disturb(line, "slow")
        self.driver.pass_time(1)
        newest = self.sign("nothing", number)
        self.cluster.load(giver, newest)
        self.driver.pass_time(after)
        self._disturb(line, how)
        self.driver.pass_time(20 if how == "cut" else 0)
        self._disturb(line, "heal")
        most = self.silence_time + LINK_TIME + self.request_time
        has_it = self.nodes[number]
        self.pass_until(
            lambda: "" if has_it.epoch == newest.epoch else f"{number} has not got {newest.epoch} [LK-33] [LK-61]", most
        )

    # ---- the network and its nodes ----

    def _disturb(self, pair: Pair, how: str) -> None:
        self.is_calm, self.disturbed_at = False, self.now
        self.cluster.disturb(pair, how)
        if how != "reset":
            self.lines[pair] = how

    @rule(
        pair=st.sampled_from(_PAIRS),
        how=st.sampled_from(("cut", "cut", "heal", "slow", "too slow", "reset")),
        seconds=st.sampled_from((0, 1, 20, 200)),
    )
    def disturb(self, pair: Pair, how: str, seconds: int) -> None:
        """Something happens between two of them."""
        if not self._is_done():
            self._disturb(pair, how)
            self.driver.pass_time(seconds if how == "cut" else min(seconds, 20))

    @rule(whom=st.integers(0, 2), how=st.sampled_from(STOPS), away=st.sampled_from((2, 30)))
    def restart(self, whom: int, how: str, away: int) -> None:
        """A member stops, and begins again with what it has stored."""
        number = self.honest[whom]
        if self._is_done() or not self.is_member(number):  # it would not start [RO-60]
            return
        self.is_calm, self.disturbed_at = False, self.now
        if how == "vanishes":
            self.vanished_at = self.now
        self.cluster.stop(number, how, away)
        self.cluster.start(number)

    @rule(seconds=st.sampled_from((1, 20, 150)))
    def wait(self, seconds: int) -> None:
        """Some time passes."""
        if not self._is_done():
            self.driver.pass_time(seconds)

    @rule()
    def settle(self) -> None:
        """The network is whole again: all that is to happen happens in its time, and then nothing does."""
        if self.settled_at == self.now:
            return
        for pair in self.lines:
            self.disturbed_at = self.now
            self.cluster.disturb(pair, "heal")
        self.lines.clear()
        self.check_rest()
        self.is_calm, self.settled_at = True, self.now

    # ---- the rogue ----

    @rule(way=st.sampled_from(tuple(WAYS)), seconds=st.sampled_from((0, 1, 20)))
    def rogue_turns(self, way: str, seconds: int) -> None:
        """The rogue goes on in another way."""
        if self._is_done():
            return
        if way not in HARMLESS:
            self.harmless_since = math.inf
        elif self.rogue.way not in HARMLESS:
            self.harmless_since = self.now
        if "trickles" in (way, self.rogue.way):
            self.trickled_at = self.now
        self.cluster.rogue_does(lambda: self.rogue.turn(way))
        self.driver.pass_time(seconds)

    @rule(whom=st.integers(0, 2))
    def rogue_dials(self, whom: int) -> None:
        """The rogue opens a link, and then an older one ends; where its NodeID is the higher one, it ends its links."""
        number = self.honest[whom]
        if self._is_done():
            return
        if self.rogue.number > number:
            self.cluster.rogue_does(lambda: self.rogue.hang_up(number))
            self.driver.pass_time(1)
            return
        self._rogue_dials(number, 1 if self.links_of_rogue(number) else 2)

    def _rogue_dials(self, number: int, times: int) -> None:
        for _ in range(times):
            older = self.links_of_rogue(number)
            self.world.start(self.rogue.dial, number)
            self.driver.pass_time(1)
            newer = [link for link in self.rogue.links_with(number) if link not in older]
            if newer and not self.is_far(number):
                left = [link for link in older if not link.ended and not link.is_deaf]
                assert not left, f"{number} has a newer link, and says no Bye on the older one [LK-14]"


MEMBERS = MachineInfo(
    "members",
    "a roster that is in force at one member comes to be so at all, whatever is in the way, and in spite of a rogue",
    MembersMachine,
    drivers=("memory",),
    share=0.3,
)
MACHINES = (MEMBERS,)
