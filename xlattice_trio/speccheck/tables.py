"""The specification, as far as a program can read it: tables, requirements, section numbers.

A table that a program reads is the first one under a heading of a fixed form (`Message HelloBody`, `Enum Role`, `State
table Session`, `Labels`, `Limits Sizes`), with fixed columns. A requirement is a list item that begins with its id
in brackets. Everything is kept with its file and line, and what is malformed is an error that says where.
What a table means is not known here. Spec, README.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from xlattice_trio.errors import UsageError, XLatticeError

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "Message": ("field", "type", "meaning", "bounds"),
    "Enum": ("value", "name", "meaning"),
    "State table": ("state", "event", "action", "next"),
    "Labels": ("name", "use", "meaning"),
    "Limits": ("name", "value", "unit", "meaning"),
}
# What may stand in a table only once: the names of its rows.
KEYS: Mapping[str, tuple[str, ...]] = {
    "Message": ("field",),
    "Enum": ("name",),
    "State table": ("state", "event"),
    "Labels": ("name",),
    "Limits": ("name",),
}

_HEADING = re.compile(r"#{1,6} +(?:(?P<number>\d+(?:\.\d+)*)\.? +)?(?P<title>.*?) *#*")
_TABLE_TITLE = re.compile(r"(?P<kind>Message|Enum|State table|Labels|Limits)(?:(?<!Labels) (?P<name>[A-Z]\w*))?")
_FENCE = re.compile(r" {0,3}(```+|~~~+)")
_DELIMITER = re.compile(r":?-+:?")
_BAR = re.compile(r"(?<!\\)\|")
_CODE_SPAN = re.compile(r"`[^`]*`")
_ITEM = re.compile(r"\s*(?:[-*+]|\d+[.)])\s+")
_REQUIREMENT = re.compile(_ITEM.pattern + r"\[([A-Z]{2}-\d+)\] ")
_REFERENCE = re.compile(r"\[([A-Z]{2}-\d+)\]")


def shown(path: Path) -> str:
    """The path as a person wants it: relative to the working directory if it is inside."""
    inside = path.is_absolute() and path.is_relative_to(Path.cwd())
    return str(path.relative_to(Path.cwd()) if inside else path)


@attrs.frozen
class Place:
    """A line of a file."""

    path: Path
    line: int  # from 1

    def __str__(self) -> str:
        return f"{shown(self.path)}:{self.line}"


class SpecError(XLatticeError):
    """The specification has something that no program can read: `place` says where."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(f"{place} {problem}")
        self.place = place


@attrs.frozen
class Row:
    """A row of a table: its cells by column, as plain text. All of them stand on one line."""

    place: Place
    cells: Mapping[str, str]

    def __getitem__(self, column: str) -> str:
        return self.cells[column]


@attrs.frozen
class Table:
    """A table that a program reads. `name` is empty for `Labels`."""

    kind: str
    name: str
    place: Place  # of the heading
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.kind} {self.name}".rstrip()


@attrs.frozen
class Requirement:
    """A normative sentence: id and the whole list item, without the id."""

    id: str
    place: Place
    section: str  # the number of the heading above it: "5.3"
    text: str  # on one line, markup kept


@attrs.frozen
class Specification:
    """All that was read in a directory."""

    directory: Path
    tables: Mapping[str, Table]  # by title
    requirements: tuple[Requirement, ...]  # also those whose id is there twice
    references: tuple[tuple[str, Place], ...]  # an id in brackets elsewhere than at the beginning of its item
    sections: Mapping[str, str]  # the titles of headings by number: "5", "5.3"

    def of_kind(self, kind: str) -> tuple[Table, ...]:
        """The tables of a kind, in the order of the files."""
        return tuple(table for table in self.tables.values() if table.kind == kind)


# ---- finding and reading -----------------------------------------------------


def find_directory() -> Path:
    """Where the specification is: inside the installed package, or beside the package's sources.

    Raises UsageError if it is in neither place.
    """
    package = Path(__file__).resolve().parent.parent
    places = (package / "_spec", package.parent / "spec")
    for place in places:
        if place.is_dir():
            return place
    raise UsageError(f"the specification is missing: neither {places[0]} nor {places[1]} is there")


def read_specification(directory: Path) -> Specification:
    """All tables, requirements and references of the markdown files in `directory`.

    Raises SpecError, with file and line, for a table that is malformed or there twice, and UsageError if there is no
    markdown file at all.
    """
    files = sorted(directory.glob("*.md"))
    if not files:
        raise UsageError(f"{directory} holds no specification: there are no .md files")
    tables: dict[str, Table] = {}
    requirements: list[Requirement] = []
    references: list[tuple[str, Place]] = []
    sections: dict[str, str] = {}
    for path in files:
        lines = _without_fences(path.read_text(encoding="utf-8").splitlines())
        sections |= _sections(lines)
        for table in _tables(path, lines):
            if table.title in tables:
                raise SpecError(table.place, f"{table.title}: the table is at {tables[table.title].place} already")
            tables[table.title] = table
        requirements += _requirements(path, lines)
        references += _references(path, lines)
    return Specification(directory, tables, tuple(requirements), tuple(references), sections)


def _without_fences(lines: list[str]) -> list[str]:
    """The lines, those of fenced code blocks empty: line numbers stay."""
    kept, fence = [], ""
    for line in lines:
        mark = _FENCE.match(line)
        if fence:
            kept.append("")
            if mark and mark[1].startswith(fence) and not line[mark.end() :].strip():
                fence = ""
        elif mark:
            kept.append("")
            fence = mark[1]
        else:
            kept.append(line)
    return kept


def _sections(lines: list[str]) -> dict[str, str]:
    headings = (_HEADING.fullmatch(line) for line in lines)
    return {heading["number"]: heading["title"] for heading in headings if heading and heading["number"]}


# ---- tables ------------------------------------------------------------------


def _tables(path: Path, lines: list[str]) -> Iterator[Table]:
    for index, line in enumerate(lines):
        heading = _HEADING.fullmatch(line)
        title = heading and _TABLE_TITLE.fullmatch(heading["title"].replace("`", ""))
        if title and (title["name"] or title["kind"] == "Labels"):
            yield _table(path, lines, index, title["kind"], title["name"] or "")


def _table(path: Path, lines: list[str], heading: int, kind: str, name: str) -> Table:
    table = Table(kind, name, Place(path, heading + 1), ())
    start = next((i for i in range(heading + 1, len(lines)) if lines[i].startswith(("|", "#"))), None)
    if start is None or lines[start].startswith("#"):
        raise SpecError(table.place, f"{table.title}: no table under the heading")
    columns = COLUMNS[kind]
    found = _cells(path, lines, start)
    if tuple(found) != columns:
        raise SpecError(
            Place(path, start + 1), f"{table.title}: columns {' | '.join(found)} where {' | '.join(columns)} are due"
        )
    ruler = _cells(path, lines, start + 1) if start + 1 < len(lines) and lines[start + 1].startswith("|") else []
    if len(ruler) != len(columns) or not all(map(_DELIMITER.fullmatch, ruler)):
        raise SpecError(Place(path, start + 2), f"{table.title}: no delimiter row of {len(columns)} columns")
    rows: list[Row] = []
    seen: dict[tuple[str, ...], Place] = {}
    for index in range(start + 2, len(lines)):
        if not lines[index].strip():
            break
        place = Place(path, index + 1)
        row = Row(place, dict(zip(columns, _row(path, lines, index, table), strict=True)))
        key = tuple(row[column] for column in KEYS[kind])
        if key in seen:
            raise SpecError(place, f"{table.title}: {', '.join(key)} is there twice, first at {seen[key]}")
        seen[key] = place
        rows.append(row)
    if not rows and kind != "Message":
        raise SpecError(table.place, f"{table.title}: the table has no rows")
    return attrs.evolve(table, rows=tuple(rows))


def _row(path: Path, lines: list[str], index: int, table: Table) -> list[str]:
    """The cells of a row, as many as there are columns, none but the meaning empty."""
    place, columns = Place(path, index + 1), COLUMNS[table.kind]
    if not lines[index].startswith("|"):
        raise SpecError(place, f"{table.title}: neither a row nor an empty line after the table")
    cells = _cells(path, lines, index)
    if len(cells) != len(columns):
        raise SpecError(place, f"{table.title}: {len(cells)} cells in a row of {len(columns)} columns")
    for column, cell in zip(columns, cells, strict=True):
        if not cell and column != "meaning":
            raise SpecError(place, f"{table.title}: the cell {column} is empty")
    return cells


def _cells(path: Path, lines: list[str], index: int) -> list[str]:
    parts = _BAR.split(lines[index].strip())
    if len(parts) < 3 or parts[0] or parts[-1]:
        raise SpecError(Place(path, index + 1), "a table's line that does not begin and end with |")
    return [" ".join(part.replace("`", "").replace("\\|", "|").split()) for part in parts[1:-1]]


# ---- requirements ------------------------------------------------------------


def _requirements(path: Path, lines: list[str]) -> Iterator[Requirement]:
    section = ""
    for index, line in enumerate(lines):
        heading = _HEADING.fullmatch(line)
        if heading and heading["number"]:
            section = heading["number"]
        mark = _REQUIREMENT.match(line)
        if mark:
            text = [line[mark.end() :].strip()]
            for more in lines[index + 1 :]:
                if not more.strip() or more.startswith(("#", "|")) or _ITEM.match(more):
                    break
                text.append(more.strip())
            yield Requirement(mark[1], Place(path, index + 1), section, " ".join(" ".join(text).split()))


def _references(path: Path, lines: list[str]) -> Iterator[tuple[str, Place]]:
    for index, line in enumerate(lines):
        mark = _REQUIREMENT.match(line)
        for reference in _REFERENCE.findall(_CODE_SPAN.sub("", line[mark.end() :] if mark else line)):
            yield reference, Place(path, index + 1)
