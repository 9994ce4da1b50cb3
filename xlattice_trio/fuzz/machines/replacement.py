"""Rosters and cluster cards: what an authority, a rogue authority and one that equivocates offer, by peer, operator and
override, in any order.

The invariants:
- A document with one thing wrong is refused, whatever else is right, and has no effect; a right one is verified as what
  it says.
- The roster in force, and the card in use, is the one that the rules of Spec 3.5 to 3.9 lead to; the highest epoch
  never falls; of two rosters of one epoch the one in force stays, and the conflict is reported once.
- What changes for no roster does not change.
- A roster admits those that it lists, in their roles, and nobody else.
- A restart changes nothing.

`RosterMachine` holds the functions of `roster` against these rules, `CardMachine` a client's store, and
`AdoptionMachine` a node's: `cluster.rosters`, fed as a link feeds it and by `xlattice node load`. What they are held
against is `Rules`, which is written from the specification and knows plans, not documents.
"""

import contextlib
import functools
import io
import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule

from xlattice_trio.cli.held import load_card_to_use
from xlattice_trio.cli.node import load as load_command
from xlattice_trio.cluster.rosters import Conflicts, Rosters
from xlattice_trio.errors import DecodeError, IdentityError, LinkError, RosterConflict, XLatticeError
from xlattice_trio.fuzz.documents import (
    CLUSTER_CARD,
    LASTING,
    MEMBERS,
    ROSTER,
    VARIANTS,
    Plan,
    rule_of,
    wrongs,
)
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.standins import KeysWithoutFiles
from xlattice_trio.handshake.responder import admits
from xlattice_trio.identity.storage import save_identity
from xlattice_trio.link.protocol import verify_transfer
from xlattice_trio.roster import (
    AnotherCluster,
    InvalidRoster,
    VerifiedClusterCard,
    VerifiedRoster,
    cluster_card_replaces,
    replaces,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.testing.identities import test_client, test_identity
from xlattice_trio.wire.codec import decode
from xlattice_trio.wire.messages import ClusterCard, Role, Roster, RosterOffer

_MOST = 2**64 - 1
_BASES = ("in force", "highest")
_STEPS = (-2, -1, 0, 1, 1, 2)
_BEGIN = (2, 5, 2**32, _MOST - 2)
_BY = ("peer", "operator", "override")
_ROSTER_CHANGES = tuple(variant for variant in VARIANTS if variant not in ("", "signature"))
_CARD_CHANGES = tuple(variant for variant in _ROSTER_CHANGES if not variant.startswith("client") or "port" in variant)

# ---- the rules ---------------------------------------------------------------


@attrs.define
class Rules:
    """What is in force, or in use, and the highest epoch: Spec 3.7 to 3.9 for rosters, 3.5 for cluster cards."""

    held: Plan
    highest: int

    def verdict(self, offered: Plan, override: bool) -> str:
        """What becomes of a document whose own checks have been made: adopted, nothing, conflict or refused."""
        if offered.wrong:
            return "refused"
        if offered.authority != self.held.authority:
            return "refused"
        if offered.epoch == self.held.epoch:
            return "nothing" if offered.digest == self.held.digest else "conflict"
        if offered.kind == ROSTER and offered.lasting != self.held.lasting:
            return "refused"
        return "adopted" if override or offered.epoch > self.highest else "nothing"

    def offer(self, offered: Plan, override: bool) -> str:
        """The verdict, and what follows from it."""
        verdict = self.verdict(offered, override)
        if verdict == "adopted":
            self.held = offered
            self.highest = max(self.highest, offered.epoch)
        return verdict

    def epoch(self, base: str, step: int) -> int:
        """An epoch near to the one in force, or to the highest."""
        return min(max((self.held.epoch if base == "in force" else self.highest) + step, 1), _MOST)


# ---- the functions -----------------------------------------------------------


class _Documents(TargetMachine):
    """What the machines for rosters and for cluster cards have in common: what is offered."""

    kind = ROSTER
    model: Rules

    def offer(self, plan: Plan, by: str) -> None:
        """A document is offered."""
        raise NotImplementedError

    @rule(
        by=st.sampled_from(_BY),
        base=st.sampled_from(_BASES),
        step=st.sampled_from(_STEPS),
        variant=st.sampled_from(VARIANTS),
    )
    def offer_right(self, by: str, base: str, step: int, variant: str) -> None:
        """A valid document of the cluster."""
        self.offer(Plan(self.kind, self.model.epoch(base, step), 0, variant, self.model.held.lasting), by)

    @rule(by=st.sampled_from(_BY), number=st.integers(0, 200))
    def offer_other(self, by: str, number: int) -> None:
        """The authority equivocates: another document of the epoch in force, one field changed."""
        changes = _ROSTER_CHANGES if self.kind == ROSTER else _CARD_CHANGES
        held = self.model.held
        variant = changes[number % len(changes)]
        self.offer(attrs.evolve(held, variant="" if variant == held.variant else variant), by)

    @rule(by=st.sampled_from(_BY))
    def offer_signed_again(self, by: str) -> None:
        """What is in force, with another signature."""
        held = self.model.held
        self.offer(attrs.evolve(held, variant="signature") if not held.variant else held, by)

    @rule(by=st.sampled_from(_BY), number=st.integers(0, 200), more=st.integers(0, 3), base=st.sampled_from(_BASES))
    def offer_wrong(self, by: str, number: int, more: int, base: str) -> None:
        """A new document with one thing wrong, then with the next, and so on."""
        names = wrongs(self.kind)
        for one in range(number, number + more + 1):
            self.offer(Plan(self.kind, self.model.epoch(base, 1), wrong=names[one % len(names)]), by)

    @rule(
        by=st.sampled_from(_BY),
        lasting=st.sampled_from(LASTING),
        base=st.sampled_from(_BASES),
        step=st.sampled_from(_STEPS),
    )
    def offer_changed(self, by: str, lasting: str, base: str, step: int) -> None:
        """A valid document that changes what no roster may."""
        self.offer(Plan(self.kind, self.model.epoch(base, step), 0, "", lasting), by)

    @rule(
        by=st.sampled_from(_BY),
        base=st.sampled_from(_BASES),
        step=st.sampled_from(_STEPS),
        variant=st.sampled_from(VARIANTS),
    )
    def offer_rogue(self, by: str, base: str, step: int, variant: str) -> None:
        """A valid document of another authority."""
        self.offer(Plan(self.kind, self.model.epoch(base, step), 1, variant, self.model.held.lasting), by)


def _check_refusal(plan: Plan, found: XLatticeError, *, is_known: bool = False) -> None:
    """It was refused for the first thing that is wrong with it; `is_known`: the verifier knew the cluster."""
    expected = rule_of(plan.wrong) if plan.wrong else ""
    if plan.authority and is_known and not plan.wrong:
        expected = "CLUSTER"
    if isinstance(found, InvalidRoster):
        assert plan.wrong or expected, f"a valid document was refused: {found}"
        assert not expected or found.rule.name == expected, f"refused for {found.rule.name}, not for {expected}: {plan}"
    else:
        assert not expected, f"{plan} was refused as {type(found).__name__}, not for {expected}"


def _check_verified(plan: Plan, found: VerifiedRoster | VerifiedClusterCard) -> None:
    """It was verified as what it says."""
    assert not plan.wrong, f"a document with this wrong was verified: {plan.wrong}"
    assert found.cluster_id == plan.cluster_id, "another ClusterID than the authority gives"
    assert found.epoch == plan.epoch, f"epoch {found.epoch} was read, {plan.epoch} was written"
    assert [one.value for one in found.members] == plan.ids("members"), "other members than were written"
    if isinstance(found, VerifiedRoster):
        assert found.digest == plan.digest, "another digest than that of everything but the signature"
        assert [one.value for one in found.clients] == plan.ids("clients"), "other clients than were written"


class RosterMachine(_Documents):
    """`verify_roster`, `replaces` and `admits`."""

    held: VerifiedRoster

    @initialize(epoch=st.sampled_from(_BEGIN), variant=st.sampled_from(VARIANTS))
    def begin(self, epoch: int, variant: str) -> None:
        """A first roster, on the operator's word."""
        plan = Plan(ROSTER, epoch, 0, variant)
        self.model = Rules(plan, epoch)
        self.held = self.verified(plan, None)
        self.highest = epoch

    def verified(self, plan: Plan, cluster_id: bytes | None) -> VerifiedRoster:
        """The roster of a plan. Raises DecodeError, IdentityError."""
        found = verify_roster(decode(Roster, plan.encoded), cluster_id=cluster_id)
        _check_verified(plan, found)
        return found

    def offer(self, plan: Plan, by: str) -> None:
        """A roster is offered: by a peer, to one who knows the cluster; by the operator, who says which it is."""
        expected = self.model.offer(plan, by == "override")
        offered, refusal = None, None
        try:
            offered = self.verified(plan, self.held.cluster_id if by == "peer" else None)
            adopted = replaces(self.held, offered, highest=self.highest, override=by == "override")
        except RosterConflict:
            verdict = "conflict"
        except (DecodeError, IdentityError) as exc:
            verdict, refusal = "refused", exc
        else:
            verdict = "adopted" if adopted else "nothing"
        assert verdict == expected, f"{plan} by {by}: {verdict}, not {expected}"
        if refusal is not None:
            _check_refusal(plan, refusal, is_known=by == "peer")
        if verdict == "adopted":
            assert offered is not None
            self.held, self.highest = offered, max(self.highest, offered.epoch)

    @invariant()
    def it_admits_whom_it_lists(self) -> None:
        """Spec 3.11."""
        plan = self.model.held
        short = plan.lasting == "id_size"
        nodes = [test_identity(i, id_size=20 if short else 32) for i in range(MEMBERS + 1)]
        clients = [test_client(i, id_size=20 if short else 32) for i in range(3)]
        members, listed = plan.ids("members"), plan.ids("clients")
        for node in (*nodes, *clients):
            for role, ids in ((Role.MEMBER, members), (Role.CLIENT, listed)):
                expected = node.node_id.value in ids
                assert admits(self.held, role, node.card) == expected, (
                    f"{node.name} as {role.name} is {'not ' if expected else ''}admitted by {plan}"
                )
        assert admits(self.held, Role.ANONYMOUS, None) == plan.anyone, f"anonymous initiators and {plan}"


class CardMachine(_Documents):
    """A client's cluster cards: the functions, and the store of the command line, over restarts."""

    kind = CLUSTER_CARD

    @initialize(epoch=st.sampled_from(_BEGIN), variant=st.sampled_from(VARIANTS))
    def begin(self, epoch: int, variant: str) -> None:
        """The first card."""
        self.directory = _directory()
        plan = Plan(CLUSTER_CARD, epoch, 0, variant)
        self.model = Rules(plan, epoch)
        self.held = self.verified(plan)
        assert self._load(plan, override=False) == self.held

    def verified(self, plan: Plan, cluster_id: bytes | None = None) -> VerifiedClusterCard:
        """The card of a plan. Raises DecodeError, IdentityError."""
        found = verify_cluster_card(decode(ClusterCard, plan.encoded), cluster_id=cluster_id)
        _check_verified(plan, found)
        return found

    def _load(self, plan: Plan, override: bool) -> VerifiedClusterCard:
        file = self.directory / "offered.card"
        file.write_bytes(plan.armoured)
        return load_card_to_use(file, self.directory / "state", override=override)

    def offer(self, plan: Plan, by: str) -> None:
        """A card is given to the client: as `peer` to the functions alone, else to its store, by the operator."""
        highest = self.model.highest
        if by == "peer":
            expected, verdict = self.model.verdict(plan, False), "nothing"
            known = plan.epoch % 2 == 0  # whether the verifier knows which cluster it has to be
            with self._judged(plan, is_known=known) as judged:
                offered = self.verified(plan, self.held.cluster_id if known else None)
                assert not (known and plan.authority), "a card of another cluster was verified [RO-26]"
                if cluster_card_replaces(self.held, offered, highest=highest):
                    verdict = "adopted"
            verdict = judged[0] if judged else verdict
        elif plan.authority != self.model.held.authority:
            return  # a card of another cluster has a store of its own
        else:
            expected = self.model.offer(plan, by == "override")
            same = plan.epoch == (held := self.held).epoch
            verdict = "nothing"
            with self._judged(plan) as judged:
                self.held = self._load(plan, by == "override")
                verdict = "nothing" if same else "adopted"
            verdict = judged[0] if judged else verdict
            if verdict != "adopted":
                self.held = held
            if verdict == "refused" and expected == "nothing":
                verdict = expected  # the store refuses what is too old
        assert verdict == expected, f"{plan} by {by}: {verdict}, not {expected}"

    @contextlib.contextmanager
    def _judged(self, plan: Plan, *, is_known: bool = False) -> Iterator[list[str]]:
        """What an exception says of a card."""
        judged: list[str] = []
        try:
            yield judged
        except RosterConflict:
            judged.append("conflict")
        except (DecodeError, IdentityError) as exc:
            judged.append("refused")
            if isinstance(exc, InvalidRoster):
                _check_refusal(plan, exc, is_known=is_known)

    @invariant()
    def the_store_has_it(self) -> None:
        """After a restart the client goes on with the card that it used, and knows the highest epoch."""
        plan, highest = self.model.held, self.model.highest
        assert self.held.epoch == plan.epoch, f"the card of epoch {self.held.epoch} is in use, not {plan.epoch}"
        assert self._load(plan, override=False).epoch == plan.epoch
        if plan.epoch < highest:  # RO-63, RO-64
            for epoch in {plan.epoch + 1, highest} - {plan.epoch}:
                with self._judged(Plan()) as judged:
                    self._load(attrs.evolve(plan, epoch=epoch, variant=""), override=False)
                assert judged == ["refused"], f"epoch {epoch} was taken, though {highest} was seen"

    def teardown(self) -> None:
        """The store is removed."""
        shutil.rmtree(getattr(self, "directory", ""), ignore_errors=True)
        super().teardown()


# ---- a node's store ----------------------------------------------------------


class _Reports(logging.Handler):
    """Counts what the operator is told of conflicts."""

    def __init__(self) -> None:
        super().__init__()
        self.conflicts = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.conflicts += record.levelno == logging.WARNING and "two different rosters" in str(record.msg)


class AdoptionMachine(_Documents):
    """A node's roster in force, as it comes over links and from its operator, is stored, and survives."""

    @initialize(epoch=st.sampled_from(_BEGIN), variant=st.sampled_from(VARIANTS))
    def begin(self, epoch: int, variant: str) -> None:
        """A node's directory with its first roster."""
        self.directory = _directory()
        self.log = logging.getLogger("xlattice_trio.cluster.rosters")
        self.reports = _Reports()
        self.log.addHandler(self.reports)
        self.log.propagate = False
        self.reported: set[tuple[int, int, bytes]] = set()
        self.identity = test_identity(1)
        save_identity(self.directory, self.identity)
        plan = Plan(ROSTER, epoch, 0, variant)
        self.model = Rules(plan, epoch)
        self._command(plan, override=False)
        self.restart()

    @rule()
    def restart(self) -> None:
        """The node starts, with what it has stored."""
        self.rosters = Rosters(self.directory, KeysWithoutFiles(self.directory, self.identity))
        self.adoptions = 0
        self.rosters.on_adoption = self._adopted
        self.reported.clear()

    def _adopted(self) -> None:
        self.adoptions += 1

    def offer(self, plan: Plan, by: str) -> None:
        """A roster comes over a link, or the operator loads it and tells the node."""
        before, adoptions = self.model.held, self.adoptions
        expected = self.model.offer(plan, by == "override")
        verdict = self._by_link(plan) if by == "peer" else self._by_operator(plan, by == "override")
        assert verdict == expected, f"{plan} by {by}, in force {before}: {verdict}, not {expected}"
        adopted = self.adoptions - adoptions
        assert adopted == (expected == "adopted"), f"{plan} by {by} was put in force {adopted} times"
        if adopted:
            self._check(Rosters(self.directory, KeysWithoutFiles(self.directory, self.identity)), "stored")

    def _by_link(self, plan: Plan) -> str:
        """What the offer and the transfer of a peer come to."""
        offer = RosterOffer(plan.epoch, plan.digest)
        held = self.rosters.roster
        if plan.epoch == held.epoch and offer.digest != held.digest and not plan.wrong and not plan.authority:
            return "conflict"  # found at the offer, before any transfer
        try:
            verified = verify_transfer(plan.encoded, offer, held, self.rosters.floor)
        except LinkError:
            return "refused"
        if verified is None:
            return "refused" if self.model.verdict(plan, False) == "refused" else "nothing"
        _check_verified(plan, verified)
        assert plan.epoch > self.rosters.floor, f"a transfer of epoch {plan.epoch} was not dropped"
        if not self.rosters.receive(verified):
            return "nothing"
        trio.run(self.rosters._adopt_waiting)
        return "adopted"

    def _by_operator(self, plan: Plan, override: bool) -> str:
        """What `xlattice node load` says, and what the node does when it is told."""
        before = self.rosters.roster
        try:
            self._command(plan, override)
        except RosterConflict:
            verdict = "conflict"
        except IdentityError as exc:
            verdict = "refused"
            if not plan.wrong and not isinstance(exc, AnotherCluster):
                verdict = "nothing"  # too old
        else:
            verdict = "nothing" if self.model.held.epoch == before.epoch else "adopted"
        trio.run(self.rosters.reload)
        return verdict

    def _command(self, plan: Plan, override: bool) -> None:
        file = self.directory / "offered.roster"
        file.write_bytes(plan.armoured)
        file.chmod(0o600)
        assert load_command.callback is not None
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            load_command.callback(directory=self.directory, roster=file, override=override)

    @rule(step=st.sampled_from((1, 2)), variant=st.sampled_from(VARIANTS))
    def offer_while_nothing_can_be_stored(self, step: int, variant: str) -> None:
        """What cannot be stored is not in force, and is as soon as it can."""
        plan = Plan(ROSTER, self.model.epoch("highest", step), 0, variant, self.model.held.lasting)
        if self.model.verdict(plan, override=False) != "adopted":
            return
        away = self.directory.with_suffix(".away")
        self.directory.rename(away)
        log_level = self.log.level
        self.log.setLevel(logging.CRITICAL)
        try:
            assert self._by_link(plan) == "adopted", "a roster that can only not be stored was refused"
            epoch, floor = self.rosters.roster.epoch, self.rosters.floor
        finally:
            away.rename(self.directory)
            self.log.setLevel(log_level)
        assert epoch == self.model.held.epoch, f"the roster of epoch {epoch} is in force, and was not stored"
        assert floor == plan.epoch, f"a roster of epoch {plan.epoch} waits to be stored, and the floor is {floor}"
        trio.run(self.rosters._adopt_waiting)
        self.model.offer(plan, override=False)
        self._check(Rosters(self.directory, KeysWithoutFiles(self.directory, self.identity)), "stored")

    @rule(peer=st.integers(0, 2), number=st.integers(0, 3))
    def meet_conflict(self, peer: int, number: int) -> None:
        """A peer has another roster of the epoch in force: the operator is told once."""
        conflict = (peer, self.model.held.epoch, bytes((number,)) * 32)
        before = self.reports.conflicts
        self._report(*conflict)
        expected = conflict not in self.reported
        assert self.reports.conflicts - before == expected, f"a conflict was {'not ' if expected else ''}reported"
        self.reported.add(conflict)

    @rule()
    def meet_many_conflicts(self) -> None:
        """A peer makes as many conflicts as it likes: they are not all remembered."""
        check_many_conflicts()

    def _report(self, peer: int, epoch: int, digest: bytes) -> None:
        node = test_identity(peer)
        self.rosters.conflicts.report(node.node_id, node.name, epoch, digest)

    @invariant()
    def it_is_in_force(self) -> None:
        """What the rules lead to."""
        if hasattr(self, "rosters"):
            self._check(self.rosters, "in force")

    def _check(self, rosters: Rosters, where: str) -> None:
        plan, highest = self.model.held, self.model.highest
        assert rosters.roster.epoch == plan.epoch, f"epoch {rosters.roster.epoch} is {where}, not {plan.epoch}"
        assert rosters.roster.digest == plan.digest, f"another roster of epoch {plan.epoch} is {where}"
        assert rosters.floor == highest, f"the highest epoch {where} is {rosters.floor}, not {highest}"
        expected = self.identity.node_id.value in plan.ids("members")
        assert rosters.is_member == expected, f"the node is {'' if expected else 'no '}member of {plan}"

    def teardown(self) -> None:
        """The directory is removed."""
        shutil.rmtree(getattr(self, "directory", ""), ignore_errors=True)
        if hasattr(self, "log"):
            self.log.removeHandler(self.reports)
            self.log.propagate = True
        super().teardown()


@functools.cache  # once in a process is enough
def check_many_conflicts() -> None:
    """What is kept of conflicts is bounded."""
    conflicts, node = Conflicts(), test_identity(0)
    logging.disable()
    try:
        for number in range(1000):
            conflicts.report(node.node_id, node.name, 1, number.to_bytes(32, "big"))
    finally:
        logging.disable(logging.NOTSET)
    left = len(conflicts._reported)
    assert left < 1000, f"{left} conflicts are remembered"


def _directory() -> Path:
    """For files that are written durably, and not to be kept: in memory, where there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the directory in it
    path = Path(tempfile.mkdtemp(prefix="xlattice-fuzz-", dir=memory if memory.is_dir() else None))
    path.chmod(0o700)
    return path


MACHINES: Sequence[MachineInfo] = (
    MachineInfo(
        "replacement",
        "a roster with anything wrong has no effect, and one above the highest epoch takes the other's place",
        RosterMachine,
        drivers=("sansio",),
    ),
    MachineInfo(
        "cards",
        "a client goes by the newest cluster card that it has seen, over restarts",
        CardMachine,
        drivers=("sansio",),
        share=0.5,
    ),
    MachineInfo(
        "adoption",
        "what a node has in force, and stored, is what links and operator have brought",
        AdoptionMachine,
        drivers=("sansio",),
        share=0.5,
    ),
)
