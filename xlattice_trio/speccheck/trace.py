"""For every requirement: where the code cites it, which tests and vectors exercise it, or why it is exempt.

The bar: every MUST is cited by code that fulfils it and by a test or vector that exercises it, or is exempt with a
reason. SHOULD and MAY are shown alike and never fail. What is wrong in itself (an id that does not exist, a file that
is not as the text gives it) comes first: no state says anything as long as it is.
"""

import enum
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck import citations, statements
from xlattice_trio.speccheck.check import PACKAGE, requirement_faults
from xlattice_trio.speccheck.requirements import WITHDRAWN, Item, read_items
from xlattice_trio.speccheck.tables import Place, Requirement, SpecError, Specification, read_specification

T = TypeVar("T", citations.Citation, citations.Exercise)


class State(enum.Enum):
    """How far a requirement is covered."""

    TESTED = "tested"  # cited by code, and by a test or vector
    UNTESTED = "untested"  # by code only
    UNIMPLEMENTED = "unimplemented"  # by a test or vector only
    MISSING = "missing"  # by nothing
    EXEMPT = "exempt"
    WITHDRAWN = "withdrawn"


SHORT = {State.UNTESTED, State.UNIMPLEMENTED, State.MISSING}


@attrs.frozen
class Traced:
    """A requirement, and what was found of it."""

    requirement: Requirement
    item: Item
    code: tuple[Place, ...]
    tests: tuple[citations.Exercise, ...]
    vectors: tuple[citations.Exercise, ...]
    executed: bool | None  # in the run that was reported; None if none was, or there is no code

    @property
    def id(self) -> str:
        return self.item.id

    @property
    def state(self) -> State:
        if self.item.level == WITHDRAWN:
            return State.WITHDRAWN
        if self.item.exempt:
            return State.EXEMPT
        if self.code:
            return State.TESTED if self.tests or self.vectors else State.UNTESTED
        return State.UNIMPLEMENTED if self.tests or self.vectors else State.MISSING

    @property
    def fails(self) -> bool:
        return self.item.level == "MUST" and self.state in SHORT


@attrs.frozen
class Trace:
    """All of it. If there are `faults`, one line each, the rest says nothing."""

    spec: Specification
    root: Path  # the source tree
    faults: tuple[str, ...]
    requirements: tuple[Traced, ...]

    def counts(self) -> Counter[tuple[str, State]]:
        return Counter((traced.item.level, traced.state) for traced in self.requirements)


def source_root() -> Path:
    """The source tree that this program runs from. Raises UsageError if it was installed without one."""
    root = PACKAGE.parent
    if not citations.is_source_tree(root):
        raise UsageError("the tests are not installed: name a source tree with --sources")
    return root


def trace(directory: Path, root: Path, coverage: Path | None = None) -> Trace:
    """Trace the specification in `directory` through the source tree `root`: its package and its tests.

    `coverage` is a report of `coverage json`. Raises UsageError.
    """
    package = root / PACKAGE.name
    if not (citations.is_source_tree(root) and package.is_dir()):
        raise UsageError(f"{root} is no source tree: it has no pyproject.toml or no {package.name}/")
    run = statements.read_coverage(coverage, package) if coverage else None
    try:
        spec = read_specification(directory)
        items = read_items(directory)
        faults = list(requirement_faults(spec, items, citations.source_files(package)))
        vectors = _by_id(citations.vectors(directory))
    except SpecError as exc:
        return Trace(Specification(directory, {}, (), (), {}), root, (str(exc),), ())
    if faults:
        return Trace(spec, root, tuple(faults), ())
    code = _by_id(cited for path in citations.implementation_files(package) for cited in citations.bracketed(path))
    tests = _by_id(mark for path in citations.test_files(root / "tests") for mark in citations.tests_marked(path))
    traced = []
    for requirement in spec.requirements:
        name = requirement.id
        places = tuple(dict.fromkeys(citation.place for citation in code.get(name, ())))
        ran = any(statements.executed(place, run) for place in places) if run is not None and places else None
        traced.append(
            Traced(requirement, items[name], places, tuple(tests.get(name, ())), tuple(vectors.get(name, ())), ran)
        )
    return Trace(spec, root, tuple(_needless(traced)), tuple(traced))


def _needless(traced: Iterable[Traced]) -> Iterator[str]:
    """An exemption from what is done and tested all the same hides nothing but its own age."""
    for found in traced:
        if found.state is State.EXEMPT and found.code and (found.tests or found.vectors):
            yield f"{found.item.place} [{found.id}] is exempt, and has code and tests all the same: take exempt out"


def _by_id(found: Iterable[T]) -> dict[str, list[T]]:
    by_id: dict[str, list[T]] = {}
    for citation in found:
        by_id.setdefault(citation.what, []).append(citation)
    return by_id
