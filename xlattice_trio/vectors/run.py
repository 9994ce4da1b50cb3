"""Brings cases and this implementation together: makes vectors, and runs those that were made.

What an operation gives for an input is computed once and remembered, so that running committed vectors and making them
anew costs hardly more than one of the two.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from xlattice_trio.errors import XLatticeError
from xlattice_trio.speccheck.requirements import level_of
from xlattice_trio.speccheck.tables import find_directory, read_specification
from xlattice_trio.vectors import (
    accumulated,
    codec,
    crypto,
    frames,
    handshake,
    identity,
    key_schedule,
    link,
    records,
    roster,
    session,
    tables,
)
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.fixtures import make as make_fixtures
from xlattice_trio.vectors.model import LEVELS, ROLES, Area, Case, Json, Op, Refused, Vector, canonical, is_name
from xlattice_trio.vectors.schema import problems

AREAS: tuple[Area, ...] = (
    codec.AREA,
    frames.AREA,
    crypto.AREA,
    identity.AREA,
    roster.AREA,
    key_schedule.AREA,
    handshake.AREA,
    records.AREA,
    session.AREA,
    link.AREA,
    tables.AREA,
    accumulated.AREA,
)
FAST_CASES = 10_000  # an accumulated vector of more is not fast


class Mismatch(XLatticeError):
    """A vector does not hold, or cannot be made: the message begins with its name."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


# ---- doing an operation ------------------------------------------------------


@attrs.frozen
class Result:
    """What an operation gives: an output or a refusal."""

    output: Json
    refused: Refused | None = None


class Runner:
    """Does operations with this implementation, each once for the same input."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.fixtures = fixtures
        self._known: dict[bytes, Result] = {}

    def result(self, name: str, op: Op, given: Json) -> Result:
        question = canonical([name, given])
        if question not in self._known:
            try:
                self._known[question] = Result(op.run(given, self.fixtures))
            except Refused as exc:
                self._known[question] = Result(exc.output, exc)
        return self._known[question]

    # ---- running -------------------------------------------------------------

    def run(self, area: Area, vector: Vector) -> None:
        """Raises Mismatch unless this implementation gives what the vector says."""
        result = self.result(vector.op, area.ops[vector.op], vector.input)
        refused = result.refused
        if (refused is not None) != (vector.fail_layer is not None):
            was = f"is refused: {refused}" if refused else "is accepted"
            raise Mismatch(vector.name, f"{was}, and should not be")
        if refused is not None and refused.layer.value != vector.fail_layer:
            raise Mismatch(vector.name, f"{refused}; fail_layer is {vector.fail_layer}")
        if refused is not None and refused.by and vector.refused_by not in refused.by:
            raise Mismatch(vector.name, f"refused by {' or '.join(refused.by)}; refused_by is {vector.refused_by}")
        if result.output != vector.output:
            raise Mismatch(vector.name, f"{difference('output', vector.output, result.output)}: not what comes out")

    # ---- making --------------------------------------------------------------

    def make(self, area: Area, case: Case, levels: Mapping[str, str]) -> Vector:
        """The vector of a case. Raises Mismatch if the case is not what it says."""
        if not is_name(case.name) or not case.name.startswith(area.prefix):
            raise Mismatch(case.name, f"is no name for a vector of {area.file}")
        if case.role not in ROLES:
            raise Mismatch(case.name, f"no role {case.role}")
        op = area.ops[case.op]
        for problem in problems(op.input, case.input, "input"):
            raise Mismatch(case.name, problem)
        result = self.result(case.op, op, case.input)
        requirements = _requirements(case)
        refusal = case.refusal
        vector = Vector(
            name=case.name,
            op=case.op,
            requirements=requirements,
            level=level(case.name, requirements, levels),
            role=case.role,
            comment=case.comment,
            input=case.input,
            output=result.output,
            fail_layer=refusal.layer.value if refusal else None,
            refused_by=refusal.by if refusal else None,
            base=refusal.base if refusal else None,
            change=refusal.change if refusal else None,
        )
        self.run(area, vector)
        schema = op.output if result.refused is None else op.refused_output
        if schema is None and result.output is not None:
            raise Mismatch(case.name, "has an output where there can be none")
        for problem in problems(schema, result.output, "output") if schema is not None else ():
            raise Mismatch(case.name, problem)
        for key, expected in case.expected.items():
            if result.output[key] != expected:
                raise Mismatch(case.name, f"{difference(f'output.{key}', result.output[key], expected)}: expected")
        where = result.refused.where if result.refused else None
        if refusal is not None and refusal.where not in {None, where}:
            raise Mismatch(case.name, f"{refusal.where} is to be refused, and {where} is")
        return vector


def _requirements(case: Case) -> tuple[str, ...]:
    first = (case.refusal.by,) if case.refusal else ()
    return tuple(dict.fromkeys((*first, *case.requirements)))


def level(name: str, requirements: Sequence[str], levels: Mapping[str, str]) -> str:
    """The strongest level of these requirements. Raises Mismatch if one is unknown or withdrawn, or there is none."""
    for requirement in requirements:
        if levels.get(requirement) not in LEVELS:
            raise Mismatch(name, f"there is no requirement {requirement}, or it is withdrawn")
    if not requirements:
        raise Mismatch(name, "shows no requirement")
    return min((levels[requirement] for requirement in requirements), key=LEVELS.index)


def levels_of(spec: Path) -> dict[str, str]:
    """The level of each requirement of the specification in `spec`."""
    return {item.id: level_of(item.text) or "" for item in read_specification(spec).requirements}


def difference(where: str, left: Json, right: Json) -> str:
    """The first place at which two values differ, as a path."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in (*left, *right):
            if left.get(key) != right.get(key):
                return difference(f"{where}.{key}", left.get(key), right.get(key))
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for i, (one, other) in enumerate(zip(left, right, strict=True)):
            if one != other:
                return difference(f"{where}[{i}]", one, other)
    return where


# ---- making all --------------------------------------------------------------


def is_fast(given: Json) -> bool:
    """Whether running a vector with this input takes no more than a moment."""
    return isinstance(given, dict) and given.get("cases", 0) <= FAST_CASES


def generate(
    runner: Runner, levels: Mapping[str, str], begin: Callable[[Area], None]
) -> Iterator[tuple[Area, list[Vector]]]:
    """All vectors, area by area; `begin` hears of each. Raises Mismatch."""
    for area in AREAS:
        begin(area)
        yield area, make_area(runner, area, levels)


def make_area(runner: Runner, area: Area, levels: Mapping[str, str], *, fast: bool = False) -> list[Vector]:
    """The vectors of one area; with `fast`, without those that take long. Raises Mismatch."""
    cases = (case for case in area.cases(runner.fixtures) if not fast or is_fast(case.input))
    made = [runner.make(area, case, levels) for case in cases]
    _check_distinct(made)
    return made


def _check_distinct(made: Sequence[Vector]) -> None:
    """Of one file: names in two files differ, and so do operations."""
    names: set[str] = set()
    asked: dict[bytes, str] = {}
    for vector in made:
        if vector.name in names:
            raise Mismatch(vector.name, "is made twice")
        names.add(vector.name)
        other = asked.setdefault(vector.question, vector.name)
        if other != vector.name:
            raise Mismatch(vector.name, f"asks the same as {other}")


def new_runner() -> Runner:
    """One with the fixtures as they are made."""
    return Runner(Fixtures.read(make_fixtures()))


def generate_area(name: str) -> list[Vector]:
    """The vectors of one area, made from nothing. Raises Mismatch."""
    (area,) = (area for area in AREAS if area.name == name)
    return make_area(new_runner(), area, levels_of(find_directory()))
