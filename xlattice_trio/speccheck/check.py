"""The comparison of specification and code, both ways: what one has and the other has not, or has otherwise.

Both sides are brought into the same form (`code.Group`), and one function compares them, whatever the table is of. A
difference is one line that names both places.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs

from xlattice_trio.speccheck import code
from xlattice_trio.speccheck.citations import (
    is_test_file,
    marked,
    requirements_cited,
    sections_cited,
    source_files,
    tests_marked,
    vectors,
)
from xlattice_trio.speccheck.code import Entry, Group, enum_key
from xlattice_trio.speccheck.decoder import Decoder
from xlattice_trio.speccheck.requirements import Item, differences, level_of, read_items
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

PACKAGE = Path(__file__).resolve().parent.parent
# How a row is called, by kind of table.
_LABELS = {"Message": "{}.", "Enum": "{}.", "State table": "{} ", "Labels": "label ", "Limits": "limit "}


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
        sources = source_files(PACKAGE)
        found = [
            *compare(theirs, code.groups(), directory),
            *requirement_faults(spec, read_items(directory), sources),
            *_sections(spec, sources),
        ]
    except SpecError as exc:
        return Report((str(exc),), {})
    if not found:
        try:
            Decoder(spec)
        except SpecError as exc:
            return Report((str(exc),), {})
    return Report(tuple(map(str, found)), _counts(spec, theirs, sources))


def _counts(spec: Specification, groups: dict[str, Group], sources: Iterable[Path]) -> dict[str, int]:
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
        "citations": sum(len(list(requirements_cited(path))) for path in sources),
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
    found = [_group(table) for table in spec.tables.values() if table.kind != "Limits"]
    limits = spec.of_kind("Limits")
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


def requirement_faults(spec: Specification, items: Mapping[str, Item], sources: Iterable[Path]) -> Iterator[str]:
    """What is wrong with the requirements, with `requirements.toml`, and with what cites them. One line each.

    A requirement that is gone from the text, and not from the file, is one fault, whoever cites it. Raises SpecError.
    """
    known = {requirement.id for requirement in spec.requirements} | items.keys()
    wrong = list(_requirements(spec, known))
    yield from wrong or differences(spec, items)
    nothing = f"{shown(spec.directory)}: no requirement"
    for path in sources:
        for citation in requirements_cited(path):
            if citation.what not in known:
                yield str(Difference(f"{nothing} {citation.what}", f"{citation.place}: cites {citation.what}"))
        if is_test_file(path):
            exercised = {exercise.what for exercise in tests_marked(path)}
            for citation in marked(path):
                if citation.what in known - exercised:
                    yield f"{citation.place}: the marker {citation.what} is on no test"
    for vector in vectors(spec.directory):
        if vector.what not in known:
            yield str(Difference(f"{nothing} {vector.what}", f"{vector.place}: {vector.name} cites {vector.what}"))


def _requirements(spec: Specification, known: set[str]) -> Iterator[str]:
    """Every id is there once, and says something; every id that the specification refers to is there."""
    places: dict[str, Place] = {}
    for requirement in spec.requirements:
        if requirement.id in places:
            yield f"{requirement.place} [{requirement.id}] is there twice, first at {places[requirement.id]}"
        places.setdefault(requirement.id, requirement.place)
        if not level_of(requirement.text):
            yield f"{requirement.place} [{requirement.id}] has no MUST, SHOULD or MAY, and is not withdrawn"
    for reference, place in spec.references:
        if reference not in known:
            yield f"{place} [{reference}] is referred to, and there is no such requirement"


def _sections(spec: Specification, sources: Iterable[Path]) -> Iterator[Difference]:
    for path in sources:
        for citation in sections_cited(path):
            if citation.what not in spec.sections:
                yield Difference(
                    f"{shown(spec.directory)}: no section {citation.what}",
                    f"{citation.place}: cites Spec {citation.what}",
                )
