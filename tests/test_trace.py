"""Every requirement is led to its code, tests and vectors; what is not covered, and what leads nowhere, is one line."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from xlattice_trio.cli.spec import spec as spec_command
from xlattice_trio.speccheck import trace as trace_module
from xlattice_trio.speccheck.citations import tests_marked as marked_tests
from xlattice_trio.speccheck.page import page as page_of
from xlattice_trio.speccheck.requirements import FILE, write_file
from xlattice_trio.speccheck.statements import code_at
from xlattice_trio.speccheck.tables import Place, find_directory, read_specification
from xlattice_trio.speccheck.trace import source_root, trace

TEXT = """\
# 5 Things

Words about <XY-1>, `<XY-1>`, section 5.2 (5.2, 5.9) and RFC 8017,
section 5.2.

## 5.1 First

- <XY-1> A node MUST do *one* & <b>more</b>.
- <XY-2> A node MUST do two.

## 5.2 Second

1. <XY-3> A node SHOULD do three.
2. <XY-4> A node MUST do four.

| a | b |
| --- | --- |
| x | y |
"""
CODE = """\
def one() -> str:
    return "<script>"  # <XY-1>


def two() -> int:
    \"\"\"Two. <XY-2>\"\"\"
    return 2


# <XY-4>
FOUR = 4
"""
TESTS = """\
import pytest


@pytest.mark.spec("XY-1", "XY-2", "XY-4")
def test_it() -> None: ...
"""


def bracketed(text: str) -> str:
    """`text` with real ids: in brackets here, this file itself would cite them."""
    return re.sub(r"<(XY-\d+)>", r"[\1]", text)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(bracketed(text), encoding="utf-8")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree with a small specification; all its MUSTs are tested."""
    write(tmp_path / "pyproject.toml", "")
    write(tmp_path / "spec" / "05-things.md", TEXT)
    write(tmp_path / "xlattice_trio" / "things.py", CODE)
    write(tmp_path / "tests" / "test_things.py", TESTS)
    write_file(read_specification(tmp_path / "spec"))
    return tmp_path


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count(bracketed(old)) == 1
    path.write_text(text.replace(bracketed(old), bracketed(new)), encoding="utf-8")


def run(tree: Path, *arguments: str) -> Result:
    return CliRunner().invoke(spec_command, ["trace", "--sources", str(tree), *arguments])


def states(tree: Path) -> dict[str, str]:
    found = trace(tree / "spec", tree)
    assert found.faults == ()
    return {traced.id: traced.state.value for traced in found.requirements}


def the_fault(tree: Path) -> str:
    """The only line that the command has to say."""
    result = run(tree)
    assert result.exit_code == 1
    (line,) = result.stdout.splitlines()
    return line


# ---- states ------------------------------------------------------------------


def test_what_is_cited_and_exercised_is_tested(tree: Path) -> None:
    assert states(tree) == {"XY-1": "tested", "XY-2": "tested", "XY-3": "missing", "XY-4": "tested"}
    result = run(tree)
    assert result.exit_code == 0  # a SHOULD that is missing does not matter
    assert "MUSTs tested or exempt: 3 of 3, 100 %" in result.stdout
    assert f"    code     {tree / 'xlattice_trio' / 'things.py'}:2\n" in result.stdout
    assert f"    test     {tree / 'tests' / 'test_things.py'}::test_it\n" in result.stdout


def test_a_vector_exercises_like_a_test(tree: Path) -> None:
    change(tree / "tests" / "test_things.py", '"XY-1", ', "")
    assert states(tree)["XY-1"] == "untested"
    write(tree / "spec" / "vectors" / "things.json", '{"vectors": [{"name": "things/1", "requirements": ["XY-1"]}]}')
    write(tree / "spec" / "vectors" / "manifest.json", "{}")
    write(tree / "spec" / "vectors" / "fixtures.json", "[]")
    assert states(tree)["XY-1"] == "tested"
    assert "    vector   things/1\n" in run(tree).stdout


@pytest.mark.parametrize(
    ("file", "old", "state"),
    [("tests/test_things.py", ', "XY-4"', "untested"), ("xlattice_trio/things.py", "# <XY-4>\n", "unimplemented")],
)
def test_a_must_that_is_not_covered_fails_with_one_line(tree: Path, file: str, old: str, state: str) -> None:
    change(tree / file, old, "")
    assert states(tree)["XY-4"] == state
    result = run(tree, "--missing")
    assert result.exit_code == 1
    line, *summary = result.stdout.splitlines()
    assert line.startswith(bracketed(f"{tree / 'spec' / '05-things.md'}:14 <XY-4> is {state}: "))
    assert not any("XY-" in other for other in summary)
    assert summary[-1] == "MUSTs tested or exempt: 2 of 3, 66.6 %"
    assert [text for text in run(tree).stdout.splitlines() if text.startswith(str(tree))] == [line]


def test_a_must_that_nothing_knows_is_missing(tree: Path) -> None:
    change(tree / "tests" / "test_things.py", ', "XY-4"', "")
    change(tree / "xlattice_trio" / "things.py", "# <XY-4>\n", "")
    assert states(tree)["XY-4"] == "missing"
    assert run(tree).exit_code == 1


def test_a_withdrawn_requirement_is_no_must(tree: Path) -> None:
    change(tree / "spec" / "05-things.md", "A node MUST do four.", "Withdrawn.")
    write_file(read_specification(tree / "spec"))
    assert states(tree)["XY-4"] == "withdrawn"
    assert "2 of 2, 100 %" in run(tree).stdout


def exempt(tree: Path, number: int) -> None:
    text = f'text = "A node MUST do {number}'
    change(tree / "spec" / FILE, text, text)
    path = tree / "spec" / FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    at = next(index for index, line in enumerate(lines) if line.startswith(text))
    path.write_text("".join([*lines[: at + 1], 'exempt = "nobody can see it"\n', *lines[at + 1 :]]), encoding="utf-8")


def test_an_exempt_must_needs_no_test_and_is_shown_with_its_reason(tree: Path) -> None:
    change(tree / "spec" / "05-things.md", "do four", "do 4")
    write_file(read_specification(tree / "spec"))
    change(tree / "tests" / "test_things.py", ', "XY-4"', "")
    exempt(tree, 4)
    assert states(tree)["XY-4"] == "exempt"
    result = run(tree, "XY-4")
    assert result.exit_code == 0
    assert "    exempt   nobody can see it\n" in result.stdout
    assert "Exempt: nobody can see it" in parsed(tree).words
    assert "    code     " in result.stdout


def test_an_exemption_that_is_not_needed_is_a_fault(tree: Path) -> None:
    change(tree / "spec" / "05-things.md", "do four", "do 4")
    write_file(read_specification(tree / "spec"))
    exempt(tree, 4)
    assert bracketed("<XY-4> is exempt, and has code and tests all the same") in the_fault(tree)


@pytest.mark.parametrize("about", ["conformance", "speccheck", "testing", "vectors"])
def test_what_is_about_requirements_does_not_fulfil_them(tree: Path, about: str) -> None:
    (tree / "xlattice_trio" / about).mkdir()
    (tree / "xlattice_trio" / "things.py").rename(tree / "xlattice_trio" / about / "things.py")
    assert states(tree)["XY-1"] == "unimplemented"


def test_the_percentage_is_rounded_down(tree: Path) -> None:
    items = "".join(f"- <XY-{number}> A node MUST do it.\n" for number in range(1, 1002))
    write(tree / "spec" / "05-things.md", f"# 5 Things\n\n{items}")
    (tree / "spec" / FILE).unlink()
    write_file(read_specification(tree / "spec"))
    write(tree / "xlattice_trio" / "things.py", "".join(f"# <XY-{number}>\n" for number in range(1, 1002)))
    marks = ", ".join(f'"XY-{number}"' for number in range(1, 1001))
    write(tree / "tests" / "test_things.py", f"import pytest\n\n@pytest.mark.spec({marks})\ndef test_it(): ...\n")
    assert "1000 of 1001, 99.9 %" in run(tree).stdout


# ---- markers -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "tests"),
    [
        ('@pytest.mark.spec("XY-1")\nasync def test_a(): ...', {"test_a"}),
        ('@pytest.mark.spec("XY-1")\nclass TestA:\n    def test_b(self): ...', {"TestA::test_b"}),
        ('class TestA:\n    @pytest.mark.spec("XY-1")\n    def test_b(self): ...', {"TestA::test_b"}),
        ('class TestA:\n    pytestmark = pytest.mark.spec("XY-1")\n    def test_b(self): ...', {"TestA::test_b"}),
        ('pytestmark = [pytest.mark.spec("XY-1")]\ndef test_a(): ...\ndef test_b(): ...', {"test_a", "test_b"}),
        ('@cases("x", [param(1, marks=pytest.mark.spec("XY-1"))])\ndef test_a(x): ...', {"test_a"}),
        ('C = [param(1, marks=pytest.mark.spec("XY-1"))]\n@cases("x", C)\ndef test_a(x): ...', {"test_a"}),
        ('TestA = pytest.mark.spec("XY-1")(Machine.TestCase)', {"TestA"}),
        ('@pytest.mark.spec("XY-1")\ndef helper(): ...\ndef test_a(): ...', set()),
        ('C = [pytest.mark.spec("XY-1")]\ndef test_a(): ...', set()),
        ("def test_a():\n    '@pytest.mark.spec(\"XY-1\")'", set()),
    ],
)
def test_a_marker_is_on_the_tests_that_pytest_gives_it_to(tmp_path: Path, source: str, tests: set[str]) -> None:
    write(tmp_path / "test_things.py", source)
    found = list(marked_tests(tmp_path / "test_things.py"))
    assert {exercise.name for exercise in found} == tests
    assert {exercise.what for exercise in found} == ({"XY-1"} if tests else set())


def test_a_marker_on_no_test_is_a_fault(tree: Path) -> None:
    change(tree / "tests" / "test_things.py", "def test_it", "def it")
    path = tree / "tests" / "test_things.py"
    result = run(tree)
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [f"{path}:4: the marker XY-{n} is on no test" for n in (1, 2, 4)]


# ---- what leads nowhere ------------------------------------------------------


def test_a_misspelt_citation_in_the_code_is_one_line(tree: Path) -> None:
    change(tree / "xlattice_trio" / "things.py", "<XY-4>", "<XY-44>")
    place = f"{tree / 'xlattice_trio' / 'things.py'}:10"
    assert the_fault(tree) == f"{tree / 'spec'}: no requirement XY-44 | {place}: cites XY-44"


def test_a_misspelt_marker_is_one_line(tree: Path) -> None:
    change(tree / "tests" / "test_things.py", '"XY-4"', '"XZ-4"')
    place = f"{tree / 'tests' / 'test_things.py'}:4"
    assert the_fault(tree) == f"{tree / 'spec'}: no requirement XZ-4 | {place}: cites XZ-4"


def test_a_vector_that_cites_nothing_is_one_line(tree: Path) -> None:
    path = tree / "spec" / "vectors" / "things.json"
    write(path, '{"vectors": [{"name": "things/1", "requirements": ["XY-1", "XY-5"]}]}')
    assert the_fault(tree) == f"{tree / 'spec'}: no requirement XY-5 | {path}:1: things/1 cites XY-5"


@pytest.mark.parametrize("text", ["{", "[]", '{"vectors": [{"name": "things/1"}]}', '{"vectors": 1}'])
def test_a_file_that_holds_no_vectors_is_one_line(tree: Path, text: str) -> None:
    path = tree / "spec" / "vectors" / "things.json"
    write(path, text)
    assert the_fault(tree).startswith(f"{path}:1 is no file of vectors: ")


def test_a_deleted_requirement_is_one_line_whoever_cites_it(tree: Path) -> None:
    change(tree / "spec" / "05-things.md", "<XY-4> ", "")
    assert bracketed("<XY-4> is not in the text") in the_fault(tree)


def test_a_text_that_is_not_in_the_file_is_one_line(tree: Path) -> None:
    change(tree / "spec" / "05-things.md", "do four", "do five")
    assert bracketed("<XY-4> text: not as in") in the_fault(tree)


# ---- what is shown -----------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["XY-2"], [2]),
        (["5.2"], [3, 4]),
        (["5"], [1, 2, 3, 4]),
        (["5.1", "XY-3"], [1, 2, 3]),
        (["--level", "SHOULD"], [3]),
        (["5.2", "--level", "must"], [4]),
    ],
)
def test_ids_sections_and_level_choose(tree: Path, arguments: list[str], shown: list[int]) -> None:
    assert [int(number) for number in re.findall(r"^  XY-(\d)", run(tree, *arguments).stdout, re.M)] == shown


@pytest.mark.parametrize("unknown", ["XY-5", "5.3", "things"])
def test_what_is_not_there_cannot_be_chosen(tree: Path, unknown: str) -> None:
    result = run(tree, unknown)
    assert result.exit_code == 2
    assert unknown in result.stderr


def test_many_places_are_counted_unless_all_are_asked_for(tree: Path) -> None:
    more = "\n\n".join(f'@pytest.mark.spec("XY-3")\ndef test_{number}() -> None: ...' for number in range(7))
    write(tree / "tests" / "test_more.py", f"import pytest\n\n{more}\n")
    assert re.findall(r"::test_\d|and 2 more", run(tree, "XY-3").stdout)[-2:] == ["::test_4", "and 2 more"]
    assert run(tree, "XY-3", "--verbose").stdout.count("::test_") == 7


def test_an_installed_program_asks_for_a_source_tree(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_module, "PACKAGE", tree / "site-packages" / "xlattice_trio")
    result = CliRunner().invoke(spec_command, ["trace"])
    assert result.exit_code == 2
    assert "--sources" in result.stderr
    assert run(tree).exit_code == 0
    (tree / "pyproject.toml").unlink()
    assert run(tree).exit_code == 2


def test_the_specification_of_the_source_tree_is_taken_unless_another_is_named(tree: Path, tmp_path: Path) -> None:
    write(tmp_path / "other" / "05-things.md", TEXT.replace("do four", "do five"))
    write_file(read_specification(tmp_path / "other"))
    assert "5.2 Second" in run(tree).stdout
    assert run(tree, "--spec", str(tmp_path / "other")).exit_code == 0
    assert run(tree, "--spec", str(tmp_path)).exit_code == 2


def test_nothing_leads_nowhere_in_the_real_one() -> None:
    assert trace(find_directory(), source_root()).faults == ()


# ---- what was executed -------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "runs"),
    [
        ("x = 1  # <XY-1>", {1}),
        ("# <XY-1>\n\nx = 1", {3}),
        ("x = [\n    1,\n    # <XY-1>\n    2,\n]", {1, 2, 3, 4, 5}),
        ('def f():\n    """F.\n    <XY-1>\n    """\n    a\n    b', {5, 6}),
        ("def f():  # <XY-1>\n    a", {2}),
        ("# <XY-1>\n@d\nasync def f():\n    a", {4}),
        ("if a:  # <XY-1>\n    b", {1}),
        ("if a:\n    # <XY-1>\n    b", {3}),
        ("if a:\n    b\nelse:  # <XY-1>\n    c", {4}),
        ("if (\n    a  # <XY-1>\n):\n    b", {1, 2, 3}),
        ("try:\n    a\nexcept E:  # <XY-1>\n    b", {4}),
        ("match a:\n    case 1:  # <XY-1>\n        b", {3}),
        ('class A:\n    """A. <XY-1>"""\n    x = 1\n    def f(self):\n        a', {5}),
        ('class A:\n    """A. <XY-1>"""\n    x = 1', {3}),
        ("class A:\n    x = 1  # <XY-1>\n    def f(self):\n        a", {2}),
        ('"""M. <XY-1>"""\nx = 1\ndef f():\n    a', {4}),
        ("x = 1\n# <XY-1>", set()),
    ],
)
def test_code_of_a_citation_is_the_statement_on_or_under_it(tmp_path: Path, source: str, runs: set[int]) -> None:
    write(tmp_path / "cited.py", source)
    line = next(number for number, text in enumerate(source.splitlines(), 1) if "<XY-1>" in text)
    assert code_at(Place(tmp_path / "cited.py", line)).runs == runs


@pytest.mark.parametrize("name", ["xlattice_trio/things.py", "/elsewhere/xlattice_trio/things.py"])
def test_a_run_tells_which_code_was_executed(tree: Path, name: str) -> None:
    report = tree / "coverage.json"
    report.write_text(
        json.dumps({"files": {name: {"executed_lines": [1, 2, 5, 11]}, "other.py": {"executed_lines": [7]}}})
    )
    lines = run(tree, "--coverage", str(report)).stdout.splitlines()
    said = {line.split()[0]: line.rpartition(", ")[2] for line in lines if line.startswith("  XY")}
    assert said == {"XY-1": "executed", "XY-2": "NOT executed", "XY-3": "behaviour", "XY-4": "executed"}
    assert lines[-1] == "requirements whose code was executed: 2 of 3"
    words = parsed(tree, "--coverage", str(report)).words
    assert "XY-1 tested MUST, member, behaviour, executed" in words
    assert "XY-2 tested MUST, member, behaviour, not executed" in words


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"files": {"other.py": {"executed_lines": []}}}', '{"files": {"a": 1}}']
)
def test_what_is_no_report_of_a_run_is_a_usage_error(tree: Path, text: str) -> None:
    (tree / "coverage.json").write_text(text)
    result = run(tree, "--coverage", str(tree / "coverage.json"))
    assert result.exit_code == 2
    assert "coverage.json" in result.stderr


# ---- the page ----------------------------------------------------------------

VOID = {"meta", "input", "br", "hr"}


class Parsed(HTMLParser):
    """A page's elements with their attributes; that each is closed where it has to be is held on the way."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def all(self, attribute: str) -> list[str]:
        return [str(attributes[attribute]) for _, attributes in self.elements if attribute in attributes]

    def of(self, name: str) -> dict[str, str | None]:
        """The attributes of the element with that id."""
        return next(attributes for _, attributes in self.elements if attributes.get("id") == name)


def parsed(tree: Path, *arguments: str) -> Parsed:
    path = tree / "trace.html"
    assert run(tree, "--html", str(path), *arguments).exit_code in {0, 1}
    return Parsed(path.read_text(encoding="utf-8"))


def test_page_shows_every_requirement_with_its_state(tree: Path) -> None:
    page = parsed(tree)
    assert page.of("XY-1")["class"] == "req must tested"
    assert page.of("XY-3")["class"] == "req should missing"
    for words in (
        "XY-1 tested MUST",
        "tests/test_things.py::test_it",
        "xlattice_trio/things.py:2",
        "do one & <b>more</b>",
    ):
        assert words in page.words
    assert [tag for tag, attributes in page.elements if attributes.get("class") == "reqs"] == ["ul", "ol"]


def test_page_shows_the_cited_code_and_trusts_no_text(tree: Path) -> None:
    page = parsed(tree)
    assert bracketed('return "<script>"  # <XY-1>') in page.words
    assert not {"script", "b"} & {tag for tag, _ in page.elements}


def test_page_needs_nothing_else(tree: Path) -> None:
    page = parsed(tree)
    assert all(target.startswith("#") for target in page.all("href"))
    assert not page.all("src")
    assert "url(" not in page.words
    assert "@import" not in page.words


def test_page_leads_from_references_to_where_they_are(tree: Path) -> None:
    page = parsed(tree)
    ids = Counter(page.all("id"))
    assert set(ids.values()) == {1}
    targets = Counter(target.removeprefix("#") for target in page.all("href"))
    assert targets.keys() <= ids.keys()
    assert targets["XY-1"] == 2  # its own, and the one in the text; not the one in code
    assert targets["s-5.2"] == 3  # contents, "section 5.2", "(5.2"; not that of another document


def test_links_between_files_lead_into_the_page(tree: Path) -> None:
    links = "[a](05-things.md) [b](README.md) [c](vectors/FORMAT.md) [d](https://example.org/)"
    write(tree / "spec" / "README.md", f"# Read me\n\n## How\n\n{links}\n")
    write(tree / "spec" / "vectors" / "FORMAT.md", "# Format\n")
    page = parsed(tree)
    assert {"#s-5", "#c-README", "https://example.org/"} <= set(page.all("href"))
    assert not any("FORMAT" in target for target in page.all("href"))
    page = parsed(tree, "--source-url", "https://example.org/{path}?a&b#L{line}")
    assert "https://example.org/spec/vectors/FORMAT.md?a&b#L1" in page.all("href")


def test_source_url_leads_to_code_tests_and_vectors(tree: Path) -> None:
    write(tree / "spec" / "vectors" / "things.json", '{"vectors": [{"name": "things/1", "requirements": ["XY-1"]}]}')
    page = parsed(tree, "--source-url", "https://example.org/{path}#L{line}")
    places = ("xlattice_trio/things.py#L2", "tests/test_things.py#L5", "spec/vectors/things.json#L1")
    assert {f"https://example.org/{place}" for place in places} <= set(page.all("href"))


def test_a_source_url_without_a_path_is_a_usage_error(tree: Path) -> None:
    result = run(tree, "--html", str(tree / "trace.html"), "--source-url", "https://example.org/")
    assert result.exit_code == 2
    assert not (tree / "trace.html").exists()


def test_a_page_that_cannot_be_written_is_a_usage_error(tree: Path) -> None:
    result = run(tree, "--html", str(tree / "none" / "trace.html"))
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_page_of_the_real_one_is_whole() -> None:
    """Every requirement of the text is on it once, and every link inside it leads somewhere."""
    found = trace(find_directory(), source_root())
    page = Parsed(page_of(found, None))
    ids = Counter(page.all("id"))
    assert set(ids.values()) == {1}
    assert {requirement.id for requirement in found.spec.requirements} <= ids.keys()
    assert {target.removeprefix("#") for target in page.all("href") if target.startswith("#")} <= ids.keys()
