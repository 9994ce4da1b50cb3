"""The requirements as data: `requirements.toml`, in the order of the text.

Level, section and text are the text's; who is bound, how it can be tested, and why it is exempt, people say in the same
file. So the file is made anew from the text and from itself, and held against both. Spec, README.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs

from xlattice_trio.speccheck.tables import Place, Requirement, SpecError, Specification, shown

FILE = "requirements.toml"
WITHDRAWN = "withdrawn"
LEVELS = ("MUST", "SHOULD", "MAY", WITHDRAWN)
BINDS = ("initiator", "responder", "both", "member", "client", "authority", "operator")
TESTABILITY = ("bytes", "behaviour", "inspection", "operation")

_WORDS = {
    "MUST": re.compile(r"\b(MUST|SHALL|REQUIRED)\b"),
    "SHOULD": re.compile(r"\b(SHOULD|RECOMMENDED)\b"),
    "MAY": re.compile(r"\b(MAY|OPTIONAL)\b"),
}
_DERIVED = ("level", "section", "text")
_CLOSED = {"level": LEVELS, "binds": BINDS, "testability": TESTABILITY}
_TABLE = re.compile(r"\[([A-Z]{2}-\d+)\]")
_SYNTAX_LINE = re.compile(r"\(at line (\d+)")
# Whom a sentence binds is in its subject, most of the time.
_SUBJECTS = (
    (re.compile(r"I(?:'s)? |.*\bI (?:MUST|SHOULD|MAY)\b"), "initiator"),
    (re.compile(r"R |.*\bR (?:MUST|SHOULD|MAY)\b"), "responder"),
    (re.compile(r"(?:A|Such a) (?:node|member)\b"), "member"),
    (re.compile(r"A client\b"), "client"),
    (re.compile(r"An authority\b"), "authority"),
    (re.compile(r"An operator\b"), "operator"),
)
_HEAD = """\
# The requirements of the specification as data, in its order. `xlattice spec requirements --write` makes this file from
# the text: level, section and text are the text's. binds, testability and exempt are said here, and kept. What they
# mean stands in README.md under "Requirements as data". An id that is here stays here: what is not needed any more is
# withdrawn, in the text.
"""


@attrs.frozen
class Item:
    """A requirement in `requirements.toml`."""

    id: str
    place: Place  # of its table
    level: str
    binds: str
    section: str
    testability: str
    text: str
    exempt: str = ""  # the reason; empty if it is not


def level_of(text: str) -> str | None:
    """The strongest level that a requirement's text has, or None if it has none."""
    if text.lower().startswith(WITHDRAWN):
        return WITHDRAWN
    return next((level for level, words in _WORDS.items() if words.search(text)), None)


def binds_of(text: str) -> str:
    """Whom a new requirement binds, as far as its subject tells."""
    return next((binds for subject, binds in _SUBJECTS if subject.match(text)), "both")


# ---- reading -----------------------------------------------------------------


def read_items(directory: Path) -> dict[str, Item]:
    """The items of the file in `directory`, by id. Raises SpecError, with file and line."""
    path = directory / FILE
    if not path.is_file():
        raise SpecError(Place(path, 1), "is missing: make it with `xlattice spec requirements --write`")
    source = path.read_text(encoding="utf-8")
    try:
        tables = tomllib.loads(source)
    except tomllib.TOMLDecodeError as exc:
        line = _SYNTAX_LINE.search(str(exc))
        raise SpecError(Place(path, int(line[1]) if line else 1), f"is no TOML: {exc}") from exc
    heads = ((number, _TABLE.fullmatch(line.strip())) for number, line in enumerate(source.splitlines(), 1))
    places = {head[1]: Place(path, number) for number, head in heads if head}
    return {name: _item(name, places.get(name, Place(path, 1)), table) for name, table in tables.items()}


def _item(name: str, place: Place, table: Any) -> Item:
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise SpecError(place, f"[{name}] is no table of strings")
    due = {field.name for field in attrs.fields(Item)} - {"id", "place"}
    unknown, missing = table.keys() - due, due - {"exempt"} - table.keys()
    if unknown or missing:
        raise SpecError(
            place, f"[{name}] has no key {min(missing)}" if missing else f"[{name}]: what is {min(unknown)}?"
        )
    for key, values in _CLOSED.items():
        if table[key] not in values:
            raise SpecError(place, f"[{name}] {key}: {table[key]} is none of {', '.join(values)}")
    if not table.get("exempt", "the reason").strip():
        raise SpecError(place, f"[{name}] exempt: say why, or take it out")
    return Item(id=name, place=place, **table)


# ---- comparing ---------------------------------------------------------------


def differences(spec: Specification, items: Mapping[str, Item]) -> Iterator[str]:
    """What the text has and the file has not, or has otherwise: one line for each requirement.

    Raises SpecError for a requirement of the text that is there twice or demands nothing.
    """
    path = spec.directory / FILE
    fresh = _by_id(spec)
    lost = [item for item in items.values() if item.id not in fresh]
    found = [f"{item.place} {_lost(item)}" for item in lost]
    for requirement in fresh.values():
        if requirement.id not in items:
            found.append(f"{requirement.place} [{requirement.id}] is not in {shown(path)}: {_write(path)}")
        else:
            item = items[requirement.id]
            other = [key for key in _DERIVED if getattr(item, key) != getattr(_made(requirement, item), key)]
            if other:
                found.append(
                    f"{requirement.place} [{item.id}] {', '.join(other)}: not as in {item.place}: {_write(path)}"
                )
    if not found and path.read_text(encoding="utf-8") != _file(spec, items):
        found.append(f"{shown(path)}: not in the order of the text, or not in the form: {_write(path)}")
    yield from found


def _by_id(spec: Specification) -> dict[str, Requirement]:
    found: dict[str, Requirement] = {}
    for requirement in spec.requirements:
        if requirement.id in found:
            raise SpecError(
                requirement.place, f"[{requirement.id}] is there twice, first at {found[requirement.id].place}"
            )
        found[requirement.id] = requirement
    return found


def _lost(item: Item) -> str:
    return f"[{item.id}] is not in the text: ids are permanent: put the item back and mark it withdrawn"


def _write(path: Path) -> str:
    return f"run `xlattice spec requirements --write --spec {shown(path.parent)}`"


def _made(requirement: Requirement, item: Item | None) -> Item:
    """The item that a requirement of the text gives; what people say is kept."""
    level = level_of(requirement.text)
    if level is None:
        raise SpecError(requirement.place, f"[{requirement.id}] has no MUST, SHOULD or MAY, and is not withdrawn")
    return Item(
        id=requirement.id,
        place=item.place if item else requirement.place,
        level=level,
        binds=item.binds if item else binds_of(requirement.text),
        section=requirement.section,
        testability=item.testability if item else "behaviour",
        text=requirement.text,
        exempt=item.exempt if item else "",
    )


# ---- writing -----------------------------------------------------------------


def write_file(spec: Specification) -> list[str]:
    """Make the file anew. Gives one line for each requirement that is new: look at what was guessed.

    Raises SpecError if a requirement of the file is no longer in the text, or if either of them is malformed.
    """
    path = spec.directory / FILE
    items = read_items(spec.directory) if path.exists() else {}
    fresh = _by_id(spec)
    lost = [item for item in items.values() if item.id not in fresh]
    if lost:
        raise SpecError(lost[0].place, _lost(lost[0]))
    path.write_text(_file(spec, items), encoding="utf-8")
    news = [_made(requirement, None) for name, requirement in fresh.items() if name not in items]
    return [f"[{item.id}] is new: binds {item.binds}, testability {item.testability}?" for item in news]


def _file(spec: Specification, items: Mapping[str, Item]) -> str:
    made = (_made(requirement, items.get(requirement.id)) for requirement in spec.requirements)
    return "\n".join([_HEAD, *map(_table, made)])


def _table(item: Item) -> str:
    keys = ["level", "binds", "section", "testability", "text", *(["exempt"] if item.exempt else [])]
    return "".join([f"[{item.id}]\n", *(f"{key} = {_string(getattr(item, key))}\n" for key in keys)])


def _string(text: str) -> str:
    """A TOML basic string."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match[0]):04x}", escaped) + '"'
