"""What a program reads of the specification: where it looks, what it takes, and what it refuses, with file and line."""

from pathlib import Path

import pytest

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck import check as speccheck
from xlattice_trio.speccheck import tables
from xlattice_trio.speccheck.decoder import Decoder, TableDecodeError
from xlattice_trio.speccheck.tables import SpecError, Specification, find_directory, read_specification

MESSAGE = """\
## 5.2 Message Thing

Some words.

| field | type | meaning | bounds |
| --- | --- | --- | --- |
| `kind` | `u8` | what \\| it is | `enum Kind` |
| `name` | utf8<0..3> | | `empty if and only if kind = none` |

### Enum Kind
| value | name | meaning |
|---|:---:|--:|
| 1 | `none` | nothing |
| 2 | `some` | something |
"""


def written(directory: Path, text: str) -> Specification:
    (directory / "01-one.md").write_text(text, encoding="utf-8")
    return read_specification(directory)


# ---- what is taken -----------------------------------------------------------


def test_every_row_keeps_its_line(tmp_path: Path) -> None:
    spec = written(tmp_path, MESSAGE)
    assert list(spec.tables) == ["Message Thing", "Enum Kind"]
    kind, name = spec.tables["Message Thing"].rows
    assert dict(kind.cells) == {"field": "kind", "type": "u8", "meaning": "what | it is", "bounds": "enum Kind"}
    assert str(name.place) == f"{tmp_path / '01-one.md'}:8"
    assert name["meaning"] == ""
    assert spec.sections == {"5.2": "Message Thing"}


def test_places_inside_the_working_directory_are_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(written(tmp_path, MESSAGE).tables["Enum Kind"].place) == "01-one.md:10"


@pytest.mark.parametrize("fence", ["```", "~~~~", "```markdown"])
def test_fenced_blocks_are_no_tables(tmp_path: Path, fence: str) -> None:
    close = fence.removesuffix("markdown")
    assert not written(tmp_path, f"{fence}\n{MESSAGE}- [{'XY'}-1] MUST\n{close[:2]}\n{close}\n").tables
    spec = written(tmp_path, f"{fence}\n{close}\n{MESSAGE}")
    assert spec.tables["Message Thing"].place.line == 3


@pytest.mark.parametrize(
    "heading", ["## Messages", "## Message things", "## 9.2 Limits", "## Limits, said aloud", "Enum X"]
)
def test_other_headings_need_no_table(tmp_path: Path, heading: str) -> None:
    assert not written(tmp_path, f"{heading}\n\nWords.\n").tables


def test_a_message_without_fields_has_a_table_without_rows(tmp_path: Path) -> None:
    spec = written(tmp_path, "# Message Empty\n\n| field | type | meaning | bounds |\n| --- | --- | --- | --- |\n")
    assert spec.tables["Message Empty"].rows == ()


def test_requirements_and_references_are_told_apart(tmp_path: Path) -> None:
    one, two, three, four, five = (f"[{'HS'}-{number}]" for number in range(1, 6))
    text = (
        f"- {one} A node MUST do\n  this, see {two}.\n- {two} It MAY.\n"
        f"3. {three} It MAY.\n\n{four} is only named, `{five}` not even that.\n"
    )
    spec = written(tmp_path, text)
    assert [(r.id, r.place.line, r.text) for r in spec.requirements] == [
        ("HS-1", 1, f"A node MUST do this, see {two}."),
        ("HS-2", 3, "It MAY."),
        ("HS-3", 4, "It MAY."),
    ]
    assert [(name, place.line) for name, place in spec.references] == [("HS-2", 2), ("HS-4", 6)]


# ---- what is refused ---------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("| field |", "| name |", 5),
        ("| meaning | bounds |", "| bounds |", 5),
        ("| --- | --- | --- | --- |", "| --- | --- | --- |", 6),
        ("| --- | --- | --- | --- |\n", "", 6),
        ("| --- | --- | --- | --- |", "| --- | --- | --- | =-= |", 6),
        ("| `u8` | what", "| what", 7),
        ("| `u8` |", "| `u8` | more |", 7),
        ("| `u8` |", "| |", 7),
        ("| `enum Kind` |", "| `enum Kind`", 7),
        ("| `name` |", "`name` |", 8),
        ("| `name` |", "| `kind` |", 8),
        ("\n\n### Enum", "\nmore\n\n### Enum", 9),
        ("### Enum Kind\n", "### Enum Kind\n### More\n", 10),
        ("### Enum Kind\n", "### Enum Other\n\n### Enum Kind\n", 10),
        ("| 1 | `none` | nothing |\n| 2 | `some` | something |\n", "", 10),
        ("| 2 | `some`", "| 2 | `none`", 14),
        ("| 2 | `some` | something |\n", "\n" + MESSAGE, 15),
    ],
)
def test_a_malformed_table_is_an_error_at_its_line(tmp_path: Path, old: str, new: str, line: int) -> None:
    assert MESSAGE.count(old) == 1
    with pytest.raises(SpecError) as caught:
        written(tmp_path, MESSAGE.replace(old, new))
    assert caught.value.place.line == line
    assert str(caught.value).startswith(f"{tmp_path / '01-one.md'}:{line} ")
    (difference,) = speccheck.check(tmp_path).differences  # and the check reports it as one
    assert difference == str(caught.value)


def test_a_limit_in_two_tables_is_an_error_at_the_second(tmp_path: Path) -> None:
    table = "## Limits {}\n\n| name | value | unit | meaning |\n| --- | --- | --- | --- |\n| `A` | 1 | bytes | a |\n\n"
    written(tmp_path, table.format("One") + table.format("Two"))
    (difference,) = speccheck.check(tmp_path).differences
    assert difference.startswith(f"{tmp_path / '01-one.md'}:11 limit A is there twice")


# ---- what the second decoder refuses to be made from --------------------------


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("`u8`", "`u9`", 7),
        ("`u8`", "`rest<0..9>`", 7),
        ("`u8`", "`Other`", 7),
        ("`u8`", "`list<Other, 1..2>`", 7),
        ("`u8`", "`list<Thing>`", 7),
        ("`enum Kind`", "`enum Other`", 7),
        ("`enum Kind`", "`1 to 2`", 7),
        ("`enum Kind`", "`3..2`", 7),
        ("`enum Kind`", "`zeros`", 7),
        ("`enum Kind`", "`20 bytes`", 7),
        ("`enum Kind`", "`empty if and only if kind = none`", 7),
        ("utf8<0..3>", "utf8<4..3>", 8),
        ("utf8<0..3>", "utf8[3]", 8),
        ("kind = none", "kind = other", 8),
        ("kind = none", "other = none", 8),
        ("kind = none", "name = none", 8),
        ("| 1 |", "| one |", 13),
    ],
)
def test_a_word_that_the_notation_has_not_is_an_error_at_its_line(
    tmp_path: Path, old: str, new: str, line: int
) -> None:
    assert MESSAGE.count(old) == 1
    with pytest.raises(SpecError) as caught:
        Decoder(written(tmp_path, MESSAGE.replace(old, new)))
    assert caught.value.place.line == line


def test_a_table_that_no_decoder_can_be_made_from_is_a_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path, MESSAGE.replace("`u8`", "`u9`"))
    for name in ("compare", "read_items", "requirement_faults", "_sections"):
        monkeypatch.setattr(speccheck, name, lambda *_: [])
    (difference,) = speccheck.check(tmp_path).differences
    assert difference.startswith(f"{tmp_path / '01-one.md'}:7 ")


def test_second_decoder_says_where_it_refuses(tmp_path: Path) -> None:
    decoder = Decoder(written(tmp_path, MESSAGE))
    assert decoder.decode("Thing", b"\2\1x") == {"kind": 2, "name": "x"}
    with pytest.raises(TableDecodeError) as caught:
        decoder.decode("Thing", b"\2\4xxxx")
    assert (caught.value.where, caught.value.offset) == ("Thing.name", 1)


# ---- where it looks ----------------------------------------------------------


def test_the_installed_package_has_its_own_specification(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "xlattice_trio"
    monkeypatch.setattr(tables, "__file__", str(package / "speccheck" / "tables.py"))
    with pytest.raises(UsageError):
        find_directory()
    (tmp_path / "spec").mkdir()
    assert find_directory() == tmp_path / "spec"
    (package / "_spec").mkdir(parents=True)
    assert find_directory() == package / "_spec"


def test_a_directory_without_specification_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_specification(tmp_path)
    with pytest.raises(UsageError):
        read_specification(tmp_path / "nowhere")
