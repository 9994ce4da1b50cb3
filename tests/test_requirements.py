"""requirements.toml is what the text and the people say, and whatever is not is found and named in one line."""

import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from xlattice_trio.cli.spec import spec as spec_command
from xlattice_trio.speccheck.requirements import FILE, binds_of, level_of, read_items, write_file
from xlattice_trio.speccheck.tables import SpecError, find_directory, read_specification

TEXT = """\
# 5 Things

## 5.1 First

- <XY-1> R MUST refuse
  a `thing`.
- <XY-2> A node SHOULD say "no", or \\n.

## 5.2 Second

Some words.

### Without a number

1. <XY-3> A client MAY ask.
"""


def bracketed(text: str) -> str:
    """`text` with real ids: in brackets here, this file itself would cite them."""
    return text.replace("<", "[").replace(">", "]")


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    """A small specification with its file."""
    (tmp_path / "05-things.md").write_text(bracketed(TEXT), encoding="utf-8")
    write_file(read_specification(tmp_path))
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(bracketed(old)) == 1
    path.write_text(text.replace(bracketed(old), bracketed(new)), encoding="utf-8")


def run(spec: Path, *arguments: str) -> Result:
    return CliRunner().invoke(spec_command, ["requirements", "--spec", str(spec), *arguments])


def the_difference(spec: Path) -> str:
    """The only one, by the command."""
    result = run(spec)
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    return line


# ---- what the text gives -----------------------------------------------------


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("A node MUST NOT do it.", "MUST"),
        ("It SHALL be.", "MUST"),
        ("This is REQUIRED.", "MUST"),
        ("It SHOULD be, and MAY not.", "SHOULD"),
        ("It MAY be, and MUST be said.", "MUST"),
        ("NOT RECOMMENDED.", "SHOULD"),
        ("OPTIONAL.", "MAY"),
        ("Withdrawn: it was a MUST.", "withdrawn"),
        ("It must be MUSTARD.", None),
    ],
)
def test_the_strongest_word_gives_the_level(text: str, level: str | None) -> None:
    assert level_of(text) == level


@pytest.mark.parametrize(
    ("text", "binds"),
    [
        ("I MUST NOT dial.", "initiator"),
        ("When it is late, I MUST give up.", "initiator"),
        ("mac: R MUST refuse a Hello.", "responder"),
        ("A node that adopts a roster MUST end it.", "member"),
        ("A client MAY ask R.", "client"),
        ("An authority MUST NOT sign two.", "authority"),
        ("An operator SHOULD look.", "operator"),
        ("An implementation MUST work.", "both"),
    ],
)
def test_the_subject_gives_a_guess_at_who_is_bound(text: str, binds: str) -> None:
    assert binds_of(text) == binds


def test_the_file_holds_what_the_text_says(spec: Path) -> None:
    items = read_items(spec)
    assert list(items) == ["XY-1", "XY-2", "XY-3"]
    assert [(item.level, item.section, item.binds) for item in items.values()] == [
        ("MUST", "5.1", "responder"),
        ("SHOULD", "5.1", "member"),
        ("MAY", "5.2", "client"),
    ]
    assert items["XY-1"].text == "R MUST refuse a `thing`."
    assert items["XY-2"].text == 'A node SHOULD say "no", or \\n.'
    lines = (spec / FILE).read_text(encoding="utf-8").splitlines()
    assert [lines[item.place.line - 1].strip("[]") for item in items.values()] == list(items)
    assert run(spec).exit_code == 0


def test_the_specification_has_its_file() -> None:
    result = CliRunner().invoke(spec_command, ["requirements"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert read_items(find_directory()).keys() == {r.id for r in read_specification(find_directory()).requirements}


# ---- the text is changed -----------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("R MUST refuse", "R MUST ignore", 5, "XY-1> text: not as in"),
        ("R MUST refuse", "R SHOULD refuse", 5, "XY-1> level, text: not as in"),
        ("## 5.2", "## 5.3", 15, "XY-3> section: not as in"),
        ("- <XY-2> A node", "- <XY-4> A node MUST ask.\n- <XY-2> A node", 7, "XY-4> is not in"),
    ],
)
def test_a_changed_text_is_one_difference(spec: Path, old: str, new: str, line: int, what: str) -> None:
    change(spec / "05-things.md", old, new)
    assert the_difference(spec).startswith(bracketed(f"{spec / '05-things.md'}:{line} <{what}"))
    assert run(spec, "--write").exit_code == 0
    assert run(spec).exit_code == 0


def test_requirements_that_changed_places_are_one_difference(spec: Path) -> None:
    change(spec / "05-things.md", "- <XY-1> R MUST refuse\n  a `thing`.\n", "")
    change(spec / "05-things.md", "or \\n.\n", "or \\n.\n- <XY-1> R MUST refuse a `thing`.\n")
    assert "not in the order of the text" in the_difference(spec)


def test_a_new_requirement_is_written_with_a_guess_that_is_said(spec: Path) -> None:
    change(spec / "05-things.md", "Some words.\n", "- <XY-4> I MUST ask.\n")
    result = run(spec, "--write")
    assert result.stdout.splitlines()[0] == bracketed("<XY-4> is new: binds initiator, testability behaviour?")
    assert list(read_items(spec)) == ["XY-1", "XY-2", "XY-4", "XY-3"]


def test_a_deleted_requirement_is_one_difference_and_is_not_dropped(spec: Path) -> None:
    before = (spec / FILE).read_bytes()
    place = read_items(spec)["XY-2"].place
    change(spec / "05-things.md", '- <XY-2> A node SHOULD say "no", or \\n.\n', "")
    expected = bracketed(f"{place} <XY-2> is not in the text: ids are permanent")
    assert the_difference(spec).startswith(expected)
    result = run(spec, "--write")
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    assert line.startswith(expected)
    assert (spec / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("A client MAY ask.\n2. <XY-1> Twice, it MUST be.", "<XY-1> is there twice"),
        ("A client asks.", "<XY-3> has no MUST"),
    ],
)
def test_a_text_that_is_wrong_in_itself_is_not_written(spec: Path, text: str, problem: str) -> None:
    before = (spec / FILE).read_bytes()
    change(spec / "05-things.md", "A client MAY ask.", text)
    for arguments in ([], ["--write"]):
        result = run(spec, *arguments)
        assert result.exit_code == 1
        (line,) = result.stdout.splitlines()
        assert bracketed(problem) in line
    assert (spec / FILE).read_bytes() == before


def test_a_file_that_cannot_be_written_is_a_usage_error(spec: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "write_text", refuse)
    assert run(spec, "--write").exit_code == 2


def test_a_withdrawn_requirement_stays_and_has_no_level(spec: Path) -> None:
    change(spec / "05-things.md", "A client MAY ask.", "Withdrawn.")
    run(spec, "--write")
    assert read_items(spec)["XY-3"].level == "withdrawn"
    assert run(spec).exit_code == 0


# ---- the file is changed -----------------------------------------------------


def test_what_people_say_is_kept(spec: Path) -> None:
    change(spec / FILE, 'binds = "client"', 'binds = "operator"')
    change(
        spec / FILE,
        'testability = "behaviour"\ntext = "A client',
        'testability = "operation"\nexempt = "a \\"reason\\""\ntext = "A client',
    )
    change(spec / "05-things.md", "A client MAY ask.", "A client MAY ask for more.")
    assert run(spec, "--write").exit_code == 0
    item = read_items(spec)["XY-3"]
    assert (item.binds, item.testability, item.exempt) == ("operator", "operation", 'a "reason"')
    assert item.text == "A client MAY ask for more."
    assert run(spec).exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "line", "problem"),
    [
        ("<XY-2>\n", "<XY-2\n", 13, "is no TOML"),
        ("<XY-2>\n", "<XY-1>\n", 13, "is no TOML"),
        ('binds = "member"', 'binds = "everybody"', 13, "<XY-2> binds: everybody is none of initiator, responder"),
        ('binds = "member"\n', "", 13, "<XY-2> has no key binds"),
        ('binds = "member"', 'binds = "member"\nwhy = "so"', 13, "<XY-2>: what is why?"),
        ('binds = "member"', "binds = 2", 13, "<XY-2> is no table of strings"),
        ('binds = "member"', 'binds = "member"\nexempt = " "', 13, "<XY-2> exempt: say why"),
        ('level = "MAY"', 'level = "CAN"', 20, "<XY-3> level: CAN is none of MUST"),
    ],
)
def test_a_malformed_file_is_one_difference(spec: Path, old: str, new: str, line: int, problem: str) -> None:
    assert read_items(spec)["XY-2"].place.line == 13
    change(spec / FILE, old, new)
    assert the_difference(spec).startswith(f"{spec / FILE}:{line} {bracketed(problem)}")


def test_a_file_in_another_form_is_one_difference(spec: Path) -> None:
    change(spec / FILE, 'binds = "member"\n', "binds = 'member'\n")
    assert "not in the form" in the_difference(spec)


def test_a_missing_file_is_one_difference(spec: Path) -> None:
    (spec / FILE).unlink()
    assert the_difference(spec).startswith(f"{spec / FILE}:1 is missing")
    with pytest.raises(SpecError):
        read_items(spec)


def test_a_directory_without_a_specification_is_a_usage_error(tmp_path: Path) -> None:
    assert run(tmp_path).exit_code == 2


# ---- the check of all of it --------------------------------------------------


def checked(directory: Path) -> str:
    """The one line that `xlattice spec check` has to say."""
    result = CliRunner().invoke(spec_command, ["check", "--spec", str(directory)])
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    return line


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    """A copy of the real specification."""
    return Path(shutil.copytree(find_directory(), tmp_path / "spec"))


def test_check_names_a_deleted_requirement_once_whoever_cites_it(whole: Path) -> None:
    requirement = next(r for r in read_specification(whole).requirements if r.id == "HS-27")
    change(requirement.place.path, "<HS-27> mac: R", "mac: R")
    assert checked(whole).startswith(bracketed(f"{read_items(whole)['HS-27'].place} <HS-27> is not in the text"))


def test_check_names_a_changed_text_once(whole: Path) -> None:
    requirement = next(r for r in read_specification(whole).requirements if r.id == "HS-27")
    change(requirement.place.path, "<HS-27> mac: R MUST", "<HS-27> mac: R SHOULD")
    assert checked(whole).startswith(bracketed(f"{requirement.place} <HS-27> level, text: not as in"))


def test_check_names_a_vector_that_cites_nothing(whole: Path) -> None:
    (whole / "vectors").mkdir(exist_ok=True)
    wrong = whole / "vectors" / "more.json"
    wrong.write_text('{"vectors": [{"name": "more/one", "requirements": ["HS-1", "HS-9999"]}]}')
    assert checked(whole) == f"{whole}: no requirement HS-9999 | {wrong}:1: more/one cites HS-9999"
