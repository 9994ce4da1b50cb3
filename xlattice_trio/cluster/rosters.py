"""The roster in force at a node, and the one way in which another takes its place.

A new roster comes over a link (`receive`) or from the operator's hand, who stores it in the node's directory and says
so (`reload`). Either way it is verified by then, stored before it has any effect, and put in force in one step,
together with the keys that go with it: whoever asks `roster`, `accepted` or `floor` gets the new ones from then on, and
`Rosters.on_adoption` does the rest. One lock lies around storing and putting in force, so that two rosters cannot
overtake each other. Spec 3.7 to 3.10, 7.9.
"""

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import trio

from xlattice_trio.errors import IdentityError, RosterConflict, StorageError
from xlattice_trio.handshake.responder import AcceptedKey
from xlattice_trio.identity.keyring import KeyRing
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.identity.storage import ROSTER_FILE, HeldRoster, load_held_roster, save_held_roster
from xlattice_trio.limits import ROSTER_STORE_RETRY
from xlattice_trio.roster import VerifiedRoster, replaces

log = logging.getLogger(__name__)

DESTROY_RETRY = 60.0  # seconds
CONFLICTS_REMEMBERED = 512


class Conflicts:
    """Which conflicts the operator has been told of: the latest 512 of them. Spec 3.9."""

    def __init__(self) -> None:
        self._reported: dict[tuple[NodeID | None, int, bytes], None] = {}

    def report(self, peer: NodeID | None, name: str, epoch: int, digest: bytes) -> None:
        """Two rosters of one epoch: `peer`, called `name`, has the one of this digest; None: the operator. [RO-46]"""
        conflict = (peer, epoch, digest)
        if conflict in self._reported:
            return
        if len(self._reported) == CONFLICTS_REMEMBERED:  # [RO-66]
            del self._reported[next(iter(self._reported))]
        self._reported[conflict] = None
        log.warning(
            "two different rosters of epoch %d: %s has another (digest %s...) than this node, which keeps its own; the "
            "authority has signed two, or a peer lies; a roster of a higher epoch ends it",
            epoch,
            name,
            digest[:8].hex(),
        )


class Rosters:
    """What is in force: the roster, the highest epoch ever, the keys that are accepted. Made by a thread: it reads
    files. Used by Trio's only.

    `changed` is set, and replaced, whenever a roster is adopted or keys are read. `on_adoption` is called, in Trio's
    thread and at once, when a roster was put in force. Raises StorageError.
    """

    def __init__(self, directory: Path, keys: KeyRing) -> None:
        self.keys = keys
        self.conflicts = Conflicts()
        self.changed = trio.Event()
        self.on_adoption: Callable[[], None] = lambda: None
        self._directory = directory
        self._held = self._load()
        self.accepted = self._follow(self.roster)
        self._waiting: VerifiedRoster | None = None  # verified, and not stored yet
        self._arrived = trio.Event()
        self._adopting = trio.Lock()

    @property
    def roster(self) -> VerifiedRoster:
        """The roster in force."""
        return self._held.roster

    @property
    def floor(self) -> int:
        """The epoch that a roster has to be above to be adopted. What peers offer has no part in it. [LK-30] [RO-40]"""
        return max(self._held.highest, self._waiting.epoch if self._waiting else 0)

    @property
    def is_member(self) -> bool:
        """Whether the roster in force names this node, with its own sk. [LK-55]"""
        own = self.keys.identity
        member = self.roster.members.get(own.node_id)
        return member is not None and member.card.card.sk == own.card.card.sk

    # ---- from a link ----

    def receive(self, roster: VerifiedRoster) -> bool:
        """Adopt a roster that came over a link and passed its checks; False if it is not above the floor any more.

        It is in force as soon as it is stored.
        """
        if roster.epoch <= self.floor or not replaces(self.roster, roster, highest=self.floor):  # [LK-64] [RO-33]
            return False
        self._waiting = roster  # in the place of a lower one [LK-53]
        self._arrived.set()
        return True

    async def run(self) -> None:
        """Store what comes over links, and put it in force. Runs until it is cancelled."""
        while True:
            self._arrived = trio.Event()
            stored = await self._adopt_waiting()
            with trio.move_on_after(math.inf if stored else ROSTER_STORE_RETRY):  # [RO-38]
                await self._arrived.wait()

    async def _adopt_waiting(self) -> bool:
        """Whether nothing is left to be stored."""
        async with self._adopting:
            roster = self._waiting
            if roster is None or roster.epoch <= self._held.highest:  # what the operator loaded came first [LK-64]
                self._waiting = None
                return True
            try:
                held, accepted = await trio.to_thread.run_sync(self._store, roster)
            except StorageError as exc:  # [RO-37]
                log.error(
                    "the roster of epoch %d cannot be stored, and is not adopted; next try in %d s: %s",
                    roster.epoch,
                    ROSTER_STORE_RETRY,
                    exc,
                )
                return False
            self._put_in_force(held, accepted)
            return self._waiting is None

    def _store(self, roster: VerifiedRoster) -> tuple[HeldRoster, list[AcceptedKey]]:
        """Store a roster, unless the operator has stored one meanwhile that is as new: then adopt that. It blocks."""
        self.keys.load()  # the roster may name a ck that was prepared meanwhile
        held = self._loaded_since(roster.epoch)
        if held is None:
            save_held_roster(self._directory, roster, roster.epoch)  # [RO-36]
            held = HeldRoster(roster, roster.epoch)
        return held, self._follow(held.roster)

    def _loaded_since(self, epoch: int) -> HeldRoster | None:
        try:
            stored = load_held_roster(self._directory)
            if stored is not None and stored.roster.epoch >= epoch and replaces(self.roster, stored.roster):
                return stored
        except IdentityError as exc:
            log.error("%s is replaced by the roster of epoch %d: %s", self._directory / ROSTER_FILE, epoch, exc)
        return None

    # ---- from the operator's hand ----

    async def reload(self) -> None:
        """There is something new in the directory; if it is not as it should be, nothing changes."""
        async with self._adopting:
            held = self._held
            try:
                stored = await trio.to_thread.run_sync(self._load)
                # Who stores a roster not above the highest epoch also stores that: the operator's override. [RO-41]
                override = stored.roster.epoch <= held.highest <= stored.highest
                if replaces(held.roster, stored.roster, highest=held.highest, override=override):
                    held = HeldRoster(stored.roster, max(stored.highest, held.highest))  # [RO-43]
                await trio.to_thread.run_sync(self.keys.load)
                accepted = await trio.to_thread.run_sync(self._follow, held.roster)
            except RosterConflict:  # [RO-45] [RO-67]
                self.conflicts.report(None, "the node's directory", stored.roster.epoch, stored.roster.digest)
                log.error("the roster in force, epoch %d, stays", self.roster.epoch)
                return
            except IdentityError as exc:
                log.error("the roster in force, epoch %d, stays: %s", self.roster.epoch, exc)
                return
            if held is not self._held:
                self._put_in_force(held, accepted)
                return
            self._set(held, accepted)
            log.info("the roster in force, epoch %d, stays", held.roster.epoch)

    # ---- both ----

    def _put_in_force(self, held: HeldRoster, accepted: list[AcceptedKey]) -> None:
        """Step 3 of Spec 7.9, and in `on_adoption` those behind it. [LK-52]"""
        self._set(held, accepted)
        if self._waiting is not None and self._waiting.epoch <= held.highest:
            self._waiting = None
        log.info("the roster of epoch %d is in force", held.roster.epoch)
        self.on_adoption()

    def _set(self, held: HeldRoster, accepted: list[AcceptedKey]) -> None:
        self._held, self.accepted = held, accepted
        changed, self.changed = self.changed, trio.Event()
        changed.set()

    def _load(self) -> HeldRoster:
        held = load_held_roster(self._directory)
        if held is None:
            raise IdentityError(
                f"{self._directory / ROSTER_FILE}: there is no roster; load the one that `xlattice cluster create` or "
                "`xlattice cluster add` made, with `xlattice node load`"
            )
        return held

    def _follow(self, roster: VerifiedRoster) -> list[AcceptedKey]:
        """The keys that are accepted when `roster` is in force. Moves files: it blocks."""
        self.keys.follow(roster)
        return self._accepted_keys()

    def _accepted_keys(self) -> list[AcceptedKey]:
        return [AcceptedKey.of(key) for key in self.keys.accepted()]

    async def watch_previous_ck(self) -> None:
        """Destroy the previous ck when its time is over. Runs until it is cancelled. [RO-50]"""
        retry = 0.0
        while True:
            changed = self.changed
            with trio.move_on_after(max(retry, self.keys.previous_ends_at - time.time())):
                await changed.wait()
                retry = 0.0
                continue
            self.accepted = self._accepted_keys()  # it is no longer among them
            try:
                await trio.to_thread.run_sync(self.keys.destroy_previous)
                log.info("the previous encryption key is destroyed: its grace time is over")
            except StorageError as exc:
                log.error("the previous encryption key, whose grace time is over, cannot be destroyed: %s", exc)
                retry = DESTROY_RETRY
