"""The specification agrees with the code, and what is changed on either side is found and named with both places."""

import enum
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from xlattice_trio import crypto, errors, limits
from xlattice_trio.cli.spec import spec as spec_command
from xlattice_trio.session import transitions as session
from xlattice_trio.speccheck import check as speccheck
from xlattice_trio.speccheck import tables
from xlattice_trio.speccheck.requirements import read_items, write_file
from xlattice_trio.speccheck.tables import KEYS, Place, Row, find_directory, read_specification
from xlattice_trio.wire import layout, messages

SOURCES = Path(limits.__file__).parent


# ---- helpers -----------------------------------------------------------------


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the specification, to be changed. What the sources cite is left out."""
    monkeypatch.setattr(speccheck, "source_files", lambda _: [])
    return Path(shutil.copytree(find_directory(), tmp_path / "spec"))


def row_of(directory: Path, title: str, *key: str) -> Row:
    table = read_specification(directory).tables[title]
    return next(row for row in table.rows if key == tuple(row[column] for column in KEYS[table.kind]))


def edit(place: Place, change: Callable[[list[str], int], None]) -> None:
    lines = place.path.read_text(encoding="utf-8").splitlines()
    change(lines, place.line - 1)
    place.path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def set_cell(row: Row, column: str, text: str) -> None:
    def change(lines: list[str], index: int) -> None:
        cells = lines[index].split(" | ")
        at = list(row.cells).index(column)
        left, right = "| " if at == 0 else "", " |" if at == len(row.cells) - 1 else ""
        cells[at] = left + text + right
        lines[index] = " | ".join(cells)

    edit(row.place, change)


def the_difference(directory: Path) -> str:
    """The only one there is."""
    (difference,) = speccheck.check(directory).differences
    return difference


def assert_names(difference: str, spec_place: Place, code_file: str, code_text: str) -> None:
    """The line names the place in the specification and a line of the code on which `code_text` stands."""
    left, _, right = difference.partition(" | ")
    assert left.startswith(f"{spec_place} ")
    found = re.match(r"(.+?):(\d+):", right)
    assert found is not None, right
    path = Path.cwd() / found[1]
    assert str(path).endswith(code_file)
    assert code_text in path.read_text(encoding="utf-8").splitlines()[int(found[2]) - 1]


# ---- the real one ------------------------------------------------------------


def test_specification_and_code_agree() -> None:
    report = speccheck.check(find_directory())
    assert report.differences == ()
    assert report.counts["messages"] == len(messages.MESSAGES)
    assert all(report.counts.values())


# ---- one cell of the specification is changed --------------------------------

WIRE, SESSION, HANDSHAKE = "wire/messages.py", "session/transitions.py", "handshake/transitions.py"

CELLS = [
    ("Message HelloBody", ("service",), "type", "utf8<0..32>", WIRE, "service: str"),
    ("Message HelloBody", ("role",), "field", "rank", WIRE, "role: Role"),
    ("Message HelloBody", ("pad",), "bounds", "zeros; message is 1921 bytes", WIRE, "pad: bytes"),
    ("Message Roster", ("epoch",), "bounds", "-", WIRE, "epoch: int"),
    ("Message ReplyBody", ("keepalive",), "bounds", "0 or 1000..3600001", WIRE, "keepalive: int"),
    ("Enum Role", ("client",), "value", "4", WIRE, "CLIENT = 2"),
    ("Enum FrameKind", ("HelloReply",), "name", "HelloAnswer", WIRE, "HELLO_REPLY = 2"),
    ("Enum ErrorCode", ("over_capacity",), "value", "9", "errors.py", "OVER_CAPACITY = 8"),
    ("State table Session", ("OPEN", "BYE_OPENED"), "next", "BYE_SENT", SESSION, "(_S.OPEN, _E.BYE_OPENED)"),
    ("State table Session", ("DRAINING", "any other"), "action", "nothing", SESSION, "(_S.DRAINING, ANY)"),
    ("State table Session", ("OPEN", "SEND_BYE"), "event", "SEND_FIN", SESSION, "(_S.OPEN, _E.SEND_BYE)"),
    ("State table Initiator", ("START", "any other"), "next", "START", HANDSHAKE, "(_I.START, ANY)"),
    ("State table Responder", ("IGNORED", "any other"), "action", "close", HANDSHAKE, "(_R.IGNORED, ANY)"),
    ("Labels", ("hello-mac",), "name", "hello-tag", "crypto.py", "HELLO_MAC ="),
    ("Labels", ("hello-mac",), "use", "signed", "crypto.py", "HELLO_MAC ="),
    ("Limits Session", ("BYE_LINGER",), "value", "6", "limits.py", "BYE_LINGER = 5"),
    ("Limits Session", ("BYE_LINGER",), "name", "LINGER", "limits.py", "BYE_LINGER = 5"),
    ("Limits Handshake", ("SOURCE_RATE",), "unit", "connections", "limits.py", "SOURCE_RATE = 10"),
    ("Limits Sizes", ("KEY_SIZE",), "unit", "seconds", "limits.py", "KEY_SIZE = 32"),
    ("Limits Handshake", ("CK_GRACE",), "unit", "bytes", "limits.py", "CK_GRACE = 604_800"),
]


@pytest.mark.parametrize(("title", "key", "column", "text", "file", "code"), CELLS, ids=lambda value: str(value)[:30])
def test_a_changed_cell_is_one_difference(
    spec: Path, title: str, key: tuple[str, ...], column: str, text: str, file: str, code: str
) -> None:
    row = row_of(spec, title, *key)
    set_cell(row, column, text)
    difference = the_difference(spec)
    assert_names(difference, row.place, file, code)
    assert text in difference or text == "-"


ROWS = [
    ("Message Hello", ("mac",), WIRE, "mac: bytes"),
    ("Enum Purpose", ("stream",), WIRE, "STREAM = 2"),
    ("State table Session", ("OPEN", "any other"), SESSION, "(_S.OPEN, ANY)"),
    ("Labels", ("exporter",), "crypto.py", "EXPORTER ="),
    ("Limits Sizes", ("NODE_ID_LONG",), "limits.py", "NODE_ID_LONG ="),
]


@pytest.mark.parametrize(("title", "key", "file", "code"), ROWS, ids=lambda value: str(value)[:30])
def test_a_deleted_row_is_one_difference(spec: Path, title: str, key: tuple[str, ...], file: str, code: str) -> None:
    read = read_specification(spec)
    heading = next(table for table in read.tables.values() if table.title == title)
    if heading.kind == "Limits":  # one list over all tables: the first stands for it
        heading = read.of_kind("Limits")[0]
    edit(row_of(spec, title, *key).place, lambda lines, index: lines.__delitem__(index))
    assert_names(the_difference(spec), heading.place, file, code)


NEW_ROWS = [
    ("Message Hello", ("mac",), "| `extra` | `u8` | more | `-` |", WIRE, "class Hello:"),
    ("Enum Purpose", ("stream",), "| 3 | `third` | more |", WIRE, "class Purpose("),
    ("State table Session", ("OPEN", "SEND_BYE"), "| OPEN | MORE | seal | OPEN |", SESSION, "SESSION:"),
    ("Labels", ("exporter",), "| `more` | signed | more |", "crypto.py", "class Label("),
    ("Limits Sizes", ("NODE_ID_LONG",), "| `MORE` | 1 | bytes | more |", "limits.py", '"""Every number'),
]


@pytest.mark.parametrize(("title", "key", "new", "file", "code"), NEW_ROWS, ids=lambda value: str(value)[:30])
def test_an_added_row_is_one_difference(
    spec: Path, title: str, key: tuple[str, ...], new: str, file: str, code: str
) -> None:
    place = row_of(spec, title, *key).place
    edit(place, lambda lines, index: lines.insert(index + 1, new))
    assert_names(the_difference(spec), attrs.evolve(place, line=place.line + 1), file, code)


def test_two_fields_that_changed_places_are_one_difference(spec: Path) -> None:
    place = row_of(spec, "Message HelloReply", "salt").place

    def swap(lines: list[str], index: int) -> None:
        lines[index], lines[index + 1] = lines[index + 1], lines[index]

    edit(place, swap)
    assert_names(the_difference(spec), place, WIRE, "salt: bytes")


def test_rows_of_a_state_table_may_change_places(spec: Path) -> None:
    def swap(lines: list[str], index: int) -> None:
        lines[index], lines[index + 1] = lines[index + 1], lines[index]

    edit(row_of(spec, "State table Session", "OPEN", "SEND_DATA").place, swap)
    assert speccheck.check(spec).differences == ()


@pytest.mark.parametrize("title", ["Message Hello", "Enum Role", "State table LinkRequest", "Labels"])
def test_a_table_that_is_gone_is_one_difference(spec: Path, title: str) -> None:
    edit(read_specification(spec).tables[title].place, lambda lines, index: lines.__setitem__(index, "### Nothing"))
    difference = the_difference(spec)
    assert difference.startswith(f"{spec}: no table {title} | ")
    assert ".py:" in difference


def test_a_table_that_the_code_has_not_is_one_difference(spec: Path) -> None:
    place = read_specification(spec).tables["Enum Role"].place
    table = ["### Enum More", "", "| value | name | meaning |", "| --- | --- | --- |", "| 1 | `one` | one |", ""]
    edit(place, lambda lines, index: lines.__setitem__(slice(index, index), table))
    assert the_difference(spec).startswith(f"{place} Enum More | ")


# ---- requirements and citations ----------------------------------------------


def citing(monkeypatch: pytest.MonkeyPatch, path: Path, source: str) -> None:
    path.write_text(source)
    monkeypatch.setattr(speccheck, "source_files", lambda _: [path])


@pytest.mark.parametrize(
    ("source", "line", "what"),
    [
        ("x = 1  # [{HS}-9999]\n", 1, "HS-9999"),
        ("x = 1  # [{HS}-?]\n", 1, "HS-?"),
        ("import pytest\n\n@pytest.mark.spec('HS-1', 'XY-1')\ndef test_it() -> None: ...\n", 3, "XY-1"),
        ("import pytest\n\npytestmark = [pytest.mark.spec(\n    NAME)]\n", 4, "NAME"),
        ('"""It is {Spec} 5.99."""\n', 1, "5.99"),
        ('"""It is {Spec} 5.1, 5.2 and 99."""\n', 1, "99"),
    ],
)
def test_a_citation_of_nothing_is_one_difference(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, line: int, what: str
) -> None:
    cited = tmp_path / "cited.py"
    citing(monkeypatch, cited, source.format(HS="HS", Spec="Spec"))  # apart, or this file itself would cite them
    assert f"{cited}:{line}: cites" in the_difference(spec)
    assert what in the_difference(spec)


def test_a_requirement_that_is_gone_is_one_difference_whoever_cites_it(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    citing(monkeypatch, tmp_path / "cited.py", "# [HS-1]\n")
    assert speccheck.check(spec).differences == ()
    place = next(r.place for r in read_specification(spec).requirements if r.id == "HS-1")
    edit(place, lambda lines, index: lines.__setitem__(index, lines[index].replace("[HS-1] ", "")))
    assert the_difference(spec).startswith(f"{read_items(spec)['HS-1'].place} [HS-1] is not in the text")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- [{}-1] A node MUST be there twice.", "[{}-1] is there twice, first at "),
        ("- [{}-9999] A node is nice.", "[{}-9999] has no MUST"),
        ("As [{}-9999] says.", "[{}-9999] is referred to"),
        ("- [{0}-9999] A node MUST do [{0}-9998].", "[{}-9998] is referred to"),
    ],
)
def test_a_requirement_that_is_wrong_in_itself_is_one_difference(spec: Path, text: str, problem: str) -> None:
    path = spec / "12-more.md"
    path.write_text(f"# 12. More\n\n{text.format('HS')}\n")
    assert the_difference(spec).startswith(f"{path}:3 {problem.format('HS')}")


def test_a_withdrawn_requirement_may_demand_nothing(spec: Path) -> None:
    (spec / "12-more.md").write_text(f"# 12. More\n\n- [{'HS'}-9999] Withdrawn.\n")
    write_file(read_specification(spec))
    assert speccheck.check(spec).differences == ()


# ---- the code is changed -----------------------------------------------------


@attrs.frozen
class Member:
    card: messages.NodeCard = layout.nested(messages.NodeCard)  # noqa: RUF009
    host: str = layout.utf8(1, 200)  # the changed field


@attrs.frozen
class RosterRequest:
    more: int = layout.u8()  # the added field


@attrs.frozen
class Unknown:
    """A message that has no table."""


class Purpose(enum.IntEnum):
    LINK = 1
    STREAM = 3  # the changed value


class Label(enum.Enum):
    MORE = ("more", "hashed")  # the added label

    def __init__(self, spelling: str, use: str) -> None:
        self.spelling = spelling
        self.use = use


def with_message(cls: type) -> tuple[type, ...]:
    kept = tuple(message for message in messages.MESSAGES if message.__name__ != cls.__name__)
    return (*kept, cls)


def changed_code() -> Iterator[Any]:
    bye = (session.State.OPEN, session.Event.BYE_OPENED)
    rows = {**session.SESSION, bye: (session.Action.DISCARD, session.State.BYE_RECEIVED)}
    fewer = {key: row for key, row in session.SESSION.items() if key != bye}
    here = "tests/test_speccheck.py"
    offer = next(message for message in messages.MESSAGES if message.__name__ == "RosterOffer")
    without = tuple(message for message in messages.MESSAGES if message is not offer)
    yield "field", messages, "MESSAGES", with_message(Member), "Member.host: type utf8<1..253>", here, "changed field"
    yield "more", messages, "MESSAGES", with_message(RosterRequest), "no RosterRequest.more", here, "added field"
    yield "message", messages, "MESSAGES", with_message(Unknown), "no table Message Unknown", here, "class Unknown"
    yield "gone", messages, "MESSAGES", without, "Message RosterOffer", "xlattice_trio", ""
    yield "enum", messages, "Purpose", Purpose, "Purpose.stream: value 2", here, "changed value"
    yield "limit", limits, "BYE_LINGER", 7, "limit BYE_LINGER: value 5", "limits.py", "BYE_LINGER ="
    yield "new limit", limits, "MORE", 7, "no limit MORE", "limits.py", '"""Every'
    yield "row", session, "SESSION", rows, "Session OPEN, BYE_OPENED: action report", SESSION, "_E.BYE_OPENED)"
    yield "no row", session, "SESSION", fewer, "Session OPEN, BYE_OPENED: action report", SESSION, "SESSION:"


@pytest.mark.parametrize(
    ("module", "name", "value", "spec_says", "file", "code"),
    [pytest.param(*case[1:], id=case[0]) for case in changed_code()],
)
def test_changed_code_is_one_difference(
    spec: Path,
    monkeypatch: pytest.MonkeyPatch,
    module: Any,
    name: str,
    value: Any,
    spec_says: str,
    file: str,
    code: str,
) -> None:
    monkeypatch.setattr(module, name, value, raising=False)
    left, _, right = the_difference(spec).partition(" | ")
    assert spec_says in left
    if code:
        path, line, _ = right.split(":", 2)
        assert path.endswith(file)
        assert code in Path(path).read_text(encoding="utf-8").splitlines()[int(line) - 1]


def test_other_labels_and_error_codes_in_the_code_are_differences(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crypto, "Label", Label)
    monkeypatch.setattr(errors, "ErrorCode", enum.IntEnum("ErrorCode", {"INTERNAL": 6}, module=__name__))
    found = "\n".join(speccheck.check(find_directory()).differences)
    assert "no label more" in found
    assert "label hello-mac: use hashed | " in found
    assert "ErrorCode.internal: value 5 | " in found


@pytest.mark.parametrize(
    ("file", "old", "new", "spec_says"),
    [
        ("wire/messages.py", "utf8(0, limits.SERVICE_MAX,", "utf8(0, 32,", "HelloBody.service: type utf8<0..64>"),
        ("limits.py", "GENERATION_AGE = 3600  # seconds", "GENERATION_AGE = 3600  # records", "unit seconds"),
    ],
)
def test_a_changed_source_file_is_one_difference(tmp_path: Path, file: str, old: str, new: str, spec_says: str) -> None:
    package = shutil.copytree(SOURCES, tmp_path / "xlattice_trio", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(find_directory(), tmp_path / "spec")
    path = package / file
    source = path.read_text(encoding="utf-8")
    assert source.count(old) == 1
    path.write_text(source.replace(old, new), encoding="utf-8")
    line = source[: source.index(old)].count("\n") + 1
    program = "from xlattice_trio.cli.spec import spec; spec(['check'])"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (difference,) = done.stdout.splitlines()
    assert difference.startswith("spec/")
    assert spec_says in difference
    assert f" | xlattice_trio/{file}:{line}: " in difference


# ---- the command -------------------------------------------------------------


def test_command_prints_what_was_compared() -> None:
    result = CliRunner().invoke(spec_command, ["check"])
    assert result.exit_code == 0
    assert re.search(
        r"15 messages, \d+ fields, .* requirements, \d+ citations: specification and code agree", result.output
    )


def test_command_fails_on_a_difference(spec: Path) -> None:
    set_cell(row_of(spec, "Enum Role", "client"), "value", "4")
    result = CliRunner().invoke(spec_command, ["check", "--spec", str(spec)])
    assert result.exit_code == 1
    assert "Role.client: value 4 | " in result.output


def test_command_says_that_there_is_no_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = CliRunner().invoke(spec_command, ["check", "--spec", str(tmp_path)])
    assert result.exit_code == 2
    assert str(tmp_path) in result.output
    monkeypatch.setattr(tables, "__file__", str(tmp_path / "package" / "speccheck" / "tables.py"))
    result = CliRunner().invoke(spec_command, ["check"])
    assert result.exit_code == 2
    assert "the specification is missing" in result.output
