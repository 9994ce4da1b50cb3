"""The formal model keeps to what is said of it: its files, its queries and answers, the lines that mutations name."""

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from xlattice_trio.speccheck.tables import find_directory, read_specification

SPEC = find_directory()
FORMAL = SPEC / "formal"
README, MUTATIONS, CHECK = FORMAL / "README.md", FORMAL / "mutations.md", FORMAL / "check.sh"
MODELS = sorted(path.stem for path in FORMAL.glob("*.pv"))

TRUE, FALSE, UNPROVED = "true", "false", "cannot be proved"


# ---- helpers -----------------------------------------------------------------


@attrs.frozen
class Query:
    """A query as its model's comment announces it."""

    model: str
    tag: str
    answer: str

    @property
    def name(self) -> str:
        return f"{self.model} {self.tag}"


def code_of(model: str) -> list[str]:
    """The lines of a model without comments, which nest, and without indentation."""
    kept, depth = [], 0
    for part in re.split(r"(\(\*|\*\)|\n)", (FORMAL / f"{model}.pv").read_text(encoding="ascii")):
        depth += {"(*": 1, "*)": -1}.get(part, 0)
        assert depth >= 0, f"{model}: a comment ends that did not begin"
        if part == "\n" or (not depth and part != "*)"):
            kept.append(part)
    assert depth == 0, f"{model}: a comment does not end"
    return [line.strip() for line in "".join(kept).splitlines()]


def queries_of(model: str) -> list[Query]:
    """The announced queries, in the order of the file: a comment with tag and expected answer, then the query."""
    text = (FORMAL / f"{model}.pv").read_text(encoding="ascii")
    announced = re.compile(
        r"^\(\* ([A-Z]\d+)  (?:(?!\*\)).)*?"
        rf"\(\* expected: ({TRUE}|{FALSE}|{UNPROVED})\b[^*]*\*\) \*\)\n(?:query |process\n)",
        re.MULTILINE | re.DOTALL,
    )
    return [Query(model, tag, answer) for tag, answer in announced.findall(text)]


QUERIES = {query.name: query for model in MODELS for query in queries_of(model)}


def rows(path: Path, header: str) -> Iterator[list[str]]:
    """The cells of all rows under each table whose header begins so."""
    inside = False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(f"| {header} |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| --- |"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def spans(cell: str) -> list[str]:
    return re.findall(r"`([^`]*)`", cell)


# ---- files -------------------------------------------------------------------


def test_readme_names_every_file_and_no_other() -> None:
    named = {name for name in spans(README.read_text(encoding="utf-8")) if re.fullmatch(r"\w+\.(pv|md|sh)", name)}
    assert named | {"README.md"} == {path.name for path in FORMAL.iterdir()}


def test_every_cited_requirement_exists() -> None:
    known = {requirement.id for requirement in read_specification(SPEC).requirements}
    for path in FORMAL.iterdir():
        cited = set(re.findall(r"\[([A-Z]{2}-\d+)\]", path.read_text(encoding="utf-8")))
        assert cited <= known, path.name


# ---- queries and answers -----------------------------------------------------


def test_the_code_is_what_the_prover_answered_for() -> None:
    digests = {spans(row[0])[0]: spans(row[-1])[0] for row in rows(README, "file")}
    for model in MODELS:
        code = " ".join("\n".join(code_of(model)).split())
        assert hashlib.sha256(code.encode("ascii")).hexdigest()[:16] == digests[f"{model}.pv"], model


@pytest.mark.parametrize("model", MODELS)
def test_every_query_has_a_tag_and_an_expected_answer(model: str) -> None:
    asked = sum(line.startswith("query ") for line in code_of(model))
    if any("choice[" in line for line in code_of(model)):
        asked += 1  # equivalence: the process itself is the query
    queries = queries_of(model)
    assert len(queries) == asked > 0
    assert len({query.tag for query in queries}) == asked


def test_readme_has_the_queries_of_each_file_with_their_answers() -> None:
    assert {row[0]: row[-1] for row in rows(README, "query")} == {q.name: q.answer for q in QUERIES.values()}
    counts = {spans(row[0])[0]: int(row[2]) for row in rows(README, "file")}
    assert counts == {f"{model}.pv": len(queries_of(model)) for model in MODELS}


def is_sanity(row: list[str]) -> bool:
    return row[1].startswith("sanity: ")


def is_limit(row: list[str]) -> bool:
    return row[1].startswith("limit: ")


def test_what_does_not_hold_is_marked_as_sanity_or_limit() -> None:
    for row in rows(README, "query"):
        assert (row[-1] == TRUE) != (is_sanity(row) or is_limit(row)), row[0]


def test_section_10_says_of_each_query_what_was_answered() -> None:
    said = {}
    for names, _, holds in rows(SPEC / "10-security.md", "queries"):
        model, tags = names.split(" ", 1)
        for tag in tags.split(", "):
            assert f"{model} {tag}" not in said
            said[f"{model} {tag}"] = holds
    sanity = {row[0] for row in rows(README, "query") if is_sanity(row)}
    assert said == {name: "yes" if q.answer == TRUE else "no" for name, q in QUERIES.items() if name not in sanity}


@pytest.mark.parametrize("path", [README, SPEC / "10-security.md"], ids=lambda path: path.name)
def test_the_numbers_of_answers_are_as_said(path: Path) -> None:
    table = list(rows(README, "query"))
    text = " ".join(path.read_text(encoding="utf-8").split())
    (said,) = re.findall(
        r"Of (\d+) queries (\d+) \w+ answered true. Of the others (\d+) are sanity.*? (\d+) are lim", text
    )
    true = sum(row[-1] == TRUE for row in table)
    assert tuple(map(int, said)) == (len(table), true, sum(map(is_sanity, table)), sum(map(is_limit, table)))


# ---- mutations ---------------------------------------------------------------


# Ingredient, files, lines, what they become, and what the prover said of it.
ROWS = list(rows(MUTATIONS, "ingredient"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_mutation_can_be_applied_as_written(row: list[str]) -> None:
    _, files, old, new, *_ = row
    lines, replacements = spans(old), spans(new) or [""]
    assert spans(new) or new == "nothing"
    for file in spans(files):
        code = code_of(file.removesuffix(".pv"))
        for line, replacement in zip(lines, replacements, strict=True):
            assert code.count(line) == 1
            assert line != replacement
            code[code.index(line)] = replacement
        text = "\n".join(code)
        assert text.count("(") == text.count(")")
        declared = re.findall(r"\b(?:let)?fun (\w+)\(", text)
        assert len(set(declared)) == len(declared)
        assert {line.split("(")[0].removeprefix("fun ") for line in lines if line.startswith("fun ")} <= set(declared)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_mutation_speaks_of_queries_that_are_there(row: list[str]) -> None:
    first, *others = spans(row[1])
    said = row[4]
    here, _, there = said.partition("so do")
    tags = re.findall(r"\b[A-Z]\d\b", here)
    assert tags
    assert {f"{first.removesuffix('.pv')} {tag}" for tag in tags} <= QUERIES.keys()
    assert bool(there) == bool(others)
    for file in others:
        assert f"`{file}`" in there
        tags = re.findall(r"\b[A-Z]\d\b", there)
        assert {f"{file.removesuffix('.pv')} {tag}" for tag in tags} <= QUERIES.keys()


# ---- check.sh ----------------------------------------------------------------

# Stands in for the prover, so that check.sh can be tried without one: it repeats the expected answers of the file, with
# lines between them that the real one prints too, but for one query if WRONG says file and number.
STAND_IN = r"""#!/bin/sh
echo "Process 0 (that is, the initial process):"
sed -n 's/.*(\* expected: \(true\|false\|cannot be proved\).*/RESULT the query is \1./p' "$1" |
    awk -v wrong="$WRONG" -v file="$1" '
        (file " " NR) == wrong { sub(/is .*/, "is " ($0 ~ /true/ ? "false." : "true.")) }
        { sub(/the query is cannot/, "the query cannot"); sub(/the query/, "query " NR); print }'
"""

needs_sh = pytest.mark.skipif(shutil.which("sh") is None, reason="there is no sh")


def run_check(prover: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", CHECK],
        env={**os.environ, "PROVERIF": str(prover), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def stand_in(tmp_path: Path) -> Path:
    path = tmp_path / "prover"
    path.write_text(STAND_IN, encoding="ascii")
    path.chmod(0o700)
    return path


@needs_sh
def test_check_sh_says_that_the_prover_is_missing(tmp_path: Path) -> None:
    done = run_check(tmp_path / "nothing")
    assert (done.returncode, done.stdout) == (1, "no ProVerif: set PROVERIF or PATH\n")


@needs_sh
def test_check_sh_is_content_with_the_expected_answers(stand_in: Path) -> None:
    done = run_check(stand_in, WRONG="")
    assert done.returncode == 0, done.stdout
    said = dict(re.findall(r"^ok   (\w+): (.*) \(\d+ s\)$", done.stdout, re.MULTILINE))
    assert said == {m: ", ".join(f"{query.tag} {query.answer}" for query in queries_of(m)) for m in MODELS}


@needs_sh
@pytest.mark.parametrize("model", MODELS)
def test_check_sh_finds_an_answer_that_is_not_the_expected_one(model: str, stand_in: Path) -> None:
    done = run_check(stand_in, WRONG=f"{model}.pv {len(queries_of(model))}")
    assert done.returncode == 1
    assert re.findall(r"^FAIL (\w+)", done.stdout, re.MULTILINE) == [model]


@needs_sh
@pytest.mark.skipif(shutil.which("proverif") is None, reason="ProVerif is not on PATH")
def test_the_prover_gives_the_expected_answers() -> None:
    done = run_check("proverif")
    assert done.returncode == 0, done.stdout
