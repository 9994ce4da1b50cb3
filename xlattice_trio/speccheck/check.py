"""The comparison of specification and code, both ways: what one has and the other has not, or has otherwise.

Both sides are brought into the same form (`code.Group`), and one function compares them, whatever the table is of. A
difference is one line that names both places.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

from xlattice_trio.speccheck import code
from xlattice_trio.speccheck.citations import Citation, requirements_cited, sections_cited, source_files
from xlattice_trio.speccheck.code import Entry, Group, enum_key
from xlattice_trio.speccheck.decoder import Decoder
from xlattice_trio.speccheck.tables import (
    COLUMNS,
    KEYS,
    Place,
    Row,
    SpecError,
    Specification,
    Table,
    read_specification,
    shown,
)

# Links between members are specified and not yet built: these tables have no counterpart in the code.
NOT_BUILT = (
    "State table LinkDialler",
    "State table LinkAccepter",
    "State table LinkRequest",
    "State table LinkMessages",
    "Limits Links",
)

PACKAGE = Path(__file__).resolve().parent.parent
# How a row is called, by kind of table.
_LABELS = {"Message": "{}.", "Enum": "{}.", "State table": "{} ", "Labels": "label ", "Limits": "limit "}
_DEFAULT = "any other"
_DEMAND = re.compile(r"\b(MUST|SHALL|SHOULD|MAY|REQUIRED|RECOMMENDED|OPTIONAL|[Ww]ithdrawn)\b")


@attrs.frozen
class Difference:
    """What the two sides say, each with its place."""

    spec: str
    code: str

    def __str__(self) -> str:
        return f"{self.spec} | {self.code}"


@attrs.frozen
class Report:
    """What was found, and how much was compared."""

    differences: tuple[str, ...]
    counts: dict[str, int]

    def summary(self) -> str:
        return ", ".join(f"{count} {what}" for what, count in self.counts.items())


def check(directory: Path) -> Report:
    """Hold the specification in `directory` against this package.

    What is malformed in it is a difference like any other. Raises UsageError if there is no specification there.
    """
    try:
        spec = read_specification(directory)
        theirs = _groups(spec)
    except SpecError as exc:
        return Report((str(exc),), {})
    sources = source_files(PACKAGE)
    citations = [citation for path in sources for citation in requirements_cited(path)]
    sections = [citation for path in sources for citation in sections_cited(path)]
    found = [
        *compare(theirs, code.groups(), directory),
        *_not_built(spec),
        *_states(spec),
        *_requirements(spec),
        *_citations(spec, citations, sections),
    ]
    if not found:
        try:
            Decoder(spec)
        except SpecError as exc:
            return Report((str(exc),), {})
    return Report(tuple(map(str, found)), _counts(spec, theirs, citations))


def _counts(spec: Specification, groups: dict[str, Group], citations: list[Citation]) -> dict[str, int]:
    def rows(kind: str) -> int:
        return sum(len(group.entries) for title, group in groups.items() if title.startswith(kind))

    return {
        "messages": len(spec.of_kind("Message")),
        "fields": rows("Message"),
        "enumeration values": rows("Enum"),
        "state rows": rows("State table"),
        "labels": rows("Labels"),
        "limits": rows("Limits"),
        "requirements": len(spec.requirements),
        "citations": len(citations),
    }


# ---- tables ------------------------------------------------------------------


def compare(spec: dict[str, Group], ours: dict[str, Group], directory: Path) -> Iterator[Difference]:
    """The differences between two sets of tables."""
    for title, group in spec.items():
        if title not in ours:
            yield Difference(f"{group.place} {title}", f"{shown(PACKAGE)}: nothing of that name")
        else:
            yield from _compare_group(group, ours[title])
    for title, group in ours.items():
        if title not in spec:
            yield Difference(f"{shown(directory)}: no table {title}", f"{group.place}: {title}")


def _compare_group(spec: Group, ours: Group) -> Iterator[Difference]:
    theirs, mine = {e.key: e for e in spec.entries}, {e.key: e for e in ours.entries}
    only_theirs = [entry for entry in spec.entries if entry.key not in mine]
    only_mine = [entry for entry in ours.entries if entry.key not in theirs]
    pairs = [(entry, mine[entry.key]) for entry in spec.entries if entry.key in mine]
    if len(only_theirs) == len(only_mine):  # renamed, most likely: one line each says more than two
        for a, b in zip(only_theirs, only_mine, strict=True):
            yield Difference(f"{a.place} {a.label}: {_text(a)}", f"{b.place}: {b.label}: {_text(b)}")
    else:
        for entry in only_theirs:
            yield Difference(f"{entry.place} {entry.label}: {_text(entry)}", f"{ours.place}: nothing of that name")
        for entry in only_mine:
            yield Difference(f"{spec.place} {spec.title}: no {entry.label}", f"{entry.place}: {_text(entry)}")
    for a, b in pairs:
        for column, cell in a.cells.items():
            if cell != b.cells[column]:
                yield Difference(f"{a.place} {a.label}: {column} {cell}", f"{b.place}: {b.cells[column]}")
    if spec.ordered:
        in_code = [entry for entry in ours.entries if entry.key in theirs]
        for (a, _), b in zip(pairs, in_code, strict=True):
            if a.key != b.key:
                yield Difference(f"{a.place} {a.label}: not where the code has it", f"{b.place}: {b.label} is there")
                break


def _text(entry: Entry) -> str:
    return ", ".join(f"{column} {cell}" for column, cell in entry.cells.items())


def _groups(spec: Specification) -> dict[str, Group]:
    """The specification's tables in the form in which the code's are, the tables of limits as one."""
    found = [_group(table) for table in spec.tables.values() if table.kind != "Limits" and table.title not in NOT_BUILT]
    limits = [table for table in spec.of_kind("Limits") if table.title not in NOT_BUILT]
    if limits:
        entries = tuple(_entry(table, row) for table in limits for row in table.rows)
        places: dict[tuple[str, ...], Place] = {}
        for entry in entries:
            if entry.key in places:
                raise SpecError(entry.place, f"{entry.label} is there twice, first at {places[entry.key]}")
            places[entry.key] = entry.place
        found.append(Group("Limits", limits[0].place, entries))
    return {group.title: group for group in found}


def _group(table: Table) -> Group:
    entries = tuple(_entry(table, row) for row in table.rows)
    return Group(table.title, table.place, entries, ordered=table.kind == "Message")


def _entry(table: Table, row: Row) -> Entry:
    key = tuple(row[column] for column in KEYS[table.kind])
    columns = [column for column in COLUMNS[table.kind] if column not in (*KEYS[table.kind], "meaning")]
    return Entry(
        key=enum_key(row["name"]) if table.kind == "Enum" else key,
        label=_LABELS[table.kind].format(table.name) + ", ".join(key),
        cells={column: row[column] for column in columns},
        place=row.place,
    )


# ---- what only the specification has -----------------------------------------


def _not_built(spec: Specification) -> Iterator[Difference]:
    for title in NOT_BUILT:
        if title not in spec.tables:
            yield Difference(f"{shown(spec.directory)}: no table {title}", f"{shown(Path(__file__))}: in NOT_BUILT")


def _states(spec: Specification) -> Iterator[str]:
    """In tables without a counterpart: every state has its default row, and no row leads to a state without rows."""
    for table in (table for table in spec.of_kind("State table") if table.title in NOT_BUILT):
        states = {row["state"]: row.place for row in reversed(table.rows)}
        defaults = {row["state"] for row in table.rows if row["event"] == _DEFAULT}
        for state in states.keys() - defaults:
            yield f"{states[state]} {table.name}: state {state} has no row for {_DEFAULT}"
        for row in table.rows:
            if row["next"] not in states:
                yield f"{row.place} {table.name} {row['state']}, {row['event']}: {row['next']} is no state here"


def _requirements(spec: Specification) -> Iterator[str]:
    """Every id is there once, and says something; every id that the specification refers to is there."""
    places: dict[str, Place] = {}
    for requirement in spec.requirements:
        if requirement.id in places:
            yield f"{requirement.place} [{requirement.id}] is there twice, first at {places[requirement.id]}"
        places.setdefault(requirement.id, requirement.place)
        if not _DEMAND.search(requirement.text):
            yield f"{requirement.place} [{requirement.id}] has no MUST, SHOULD or MAY, and is not withdrawn"
    for reference, place in spec.references:
        if reference not in places:
            yield f"{place} [{reference}] is referred to, and there is no such requirement"


def _citations(
    spec: Specification, citations: Iterable[Citation], sections: Iterable[Citation]
) -> Iterator[Difference]:
    known = {requirement.id for requirement in spec.requirements}
    for citation in citations:
        if citation.what not in known:
            yield Difference(
                f"{shown(spec.directory)}: no requirement {citation.what}", f"{citation.place}: cites {citation.what}"
            )
    for citation in sections:
        if citation.what not in spec.sections:
            yield Difference(
                f"{shown(spec.directory)}: no section {citation.what}", f"{citation.place}: cites Spec {citation.what}"
            )
