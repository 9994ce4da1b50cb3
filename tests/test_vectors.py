"""The test vectors: they are what is made anew, they hold, and whatever is wrong with one of them is said in a line."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from jsonschema import Draft202012Validator

from tests.commands import xlattice
from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck.tables import find_directory
from xlattice_trio.vectors import files, frames, key_schedule, pkcs8, run, schema
from xlattice_trio.vectors.check import check
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refusal, Refused, Vector, canonical
from xlattice_trio.vectors.schema import data, integer, obj

SPEC = find_directory()
VECTORS = SPEC / "vectors"
FILES = sorted(path.relative_to(VECTORS).as_posix() for path in VECTORS.glob("*.json"))
AREAS = {area.file: area for area in run.AREAS}


def read(path: Path) -> Json:
    return json.loads(path.read_bytes())


# ---- those that are committed ------------------------------------------------


def test_committed_vectors_hold_and_are_what_is_made_anew() -> None:
    result = xlattice("vectors", "check", "--fast")
    assert re.search(r"vectors: [\d]+ vectors hold, 2 that take long left out\n$", result.output)


def test_every_file_is_one_of_an_area_and_there_are_more_than_a_thousand_vectors() -> None:
    assert set(FILES) == {*AREAS, "fixtures.json", "manifest.json"}
    assert read(VECTORS / files.MANIFEST)["vectors"] > 1000


@pytest.mark.parametrize("file", FILES)
def test_file_has_the_form_that_its_schema_says(file: str) -> None:
    written = read(VECTORS / files.SCHEMAS / file)
    Draft202012Validator.check_schema(written)
    assert written["$schema"] == schema.DIALECT
    assert list(Draft202012Validator(written).iter_errors(read(VECTORS / file))) == []


@pytest.mark.parametrize("file", AREAS)
def test_names_of_vectors_stand_in_one_file_each(file: str) -> None:
    for vector in read(VECTORS / file)["vectors"]:
        assert vector["name"].startswith(AREAS[file].prefix)


def test_every_refused_vector_has_a_valid_base() -> None:
    vectors = [vector for file in AREAS for vector in read(VECTORS / file)["vectors"]]
    valid = {vector["name"] for vector in vectors if "fail_layer" not in vector}
    refused = [vector for vector in vectors if "fail_layer" in vector]
    assert {vector["base"] for vector in refused} <= valid
    assert {vector["fail_layer"] for vector in refused} == {layer.value for layer in FailLayer}


# ---- what can be wrong -------------------------------------------------------

SMALL = (frames.AREA, key_schedule.AREA)
VALID = "frames/header/await-confirm/record-17"
REFUSED = "frames/header/await-confirm/record-18"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with two files of vectors, as if there were no others."""
    directory = tmp_path_factory.mktemp("original")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(run, "AREAS", SMALL)
        output = xlattice("vectors", "generate", directory).output
    assert output == f"{directory}: {len(list(names(directory)))} vectors in 2 files\n"
    return directory


@pytest.fixture
def small(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, to be changed."""
    monkeypatch.setattr(run, "AREAS", SMALL)
    return Path(shutil.copytree(original, tmp_path / "vectors"))


def names(directory: Path) -> Iterator[str]:
    for area in SMALL:
        yield from (vector["name"] for vector in read(directory / area.file)["vectors"])


def test_what_was_made_is_as_it_should_be(small: Path) -> None:
    assert xlattice("vectors", "check", small).output == f"{small}: {len(list(names(small)))} vectors hold\n"


def test_two_runs_make_the_same_bytes(small: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    xlattice("vectors", "generate", again)
    found = {path.relative_to(small): path.read_bytes() for path in small.rglob("*.json")}
    assert found == {path.relative_to(again): path.read_bytes() for path in again.rglob("*.json")}
    for file in (area.file for area in SMALL):
        assert found[Path(file)] == (VECTORS / file).read_bytes()


@pytest.mark.parametrize("name", ["there", ".hidden"])
def test_nothing_is_made_in_a_directory_that_is_not_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    result = xlattice("vectors", "generate", tmp_path, status=2)
    assert f"is not empty: {name} is there" in result.output
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_directory_without_vectors_is_a_wrong_argument(tmp_path: Path) -> None:
    assert "holds no vectors" in xlattice("vectors", "check", tmp_path, status=2).output
    with pytest.raises(UsageError):
        check(tmp_path / "missing", SPEC)


def rewrite(directory: Path, file: str, change: Callable[[Json], None], *, indent: int = 1) -> None:
    path = directory / file
    value = read(path)
    change(value)
    path.write_text(json.dumps(value, indent=indent) + "\n", encoding="ascii")


def change_vector(name: str, change: Callable[[Json], None]) -> Callable[[Path], None]:
    """Changes one vector of frames.json."""

    def changed(directory: Path) -> None:
        def each(value: Json) -> None:
            change(next(vector for vector in value["vectors"] if vector["name"] == name))

        rewrite(directory, "frames.json", each)

    return changed


def renew_manifest(directory: Path) -> None:
    """Makes the manifest one of what is there."""
    contents = {file: (directory / file).read_bytes() for file in (area.file for area in SMALL)}
    vectors = {
        file: (content, [Vector.of_json(vector) for vector in json.loads(content)["vectors"]])
        for file, content in contents.items()
    }
    others = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*.json")
        if path.name not in vectors or path.parent != directory
    }
    others.pop(files.MANIFEST)
    (directory / files.MANIFEST).write_bytes(files.rendered(files.manifest_of(vectors, others)))


def edited(value: Json, **changes: Any) -> None:
    value.update(changes)


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        (VALID, lambda v: edited(v["output"], length=18), r"output\.length: not what comes out"),
        (VALID, lambda v: edited(v["input"], header="03000013"), "is refused: .*, and should not be"),
        (REFUSED, lambda v: edited(v["input"], header="03000011"), "asks the same as .*"),
        (REFUSED, lambda v: edited(v, fail_layer="record"), "refused by frame.*; fail_layer is record"),
        (REFUSED, lambda v: edited(v, refused_by="FR-3"), "refused by FR-4 or FR-5; refused_by is FR-3"),
        (REFUSED, lambda v: edited(v, refused_by="FR-6"), "FR-6 refuses it, and is not among its requirements"),
        (REFUSED, lambda v: edited(v, base=REFUSED), "its base .* is no valid vector"),
        (REFUSED, lambda v: edited(v, base="frames/none"), "its base frames/none is no valid vector"),
        (REFUSED, lambda v: v.pop("base"), "it has no key 'base'"),
        (REFUSED, lambda v: edited(v, output={"length": 17}), "it has an unknown key 'output'"),
        (REFUSED, lambda v: edited(v, fail_layer="luck"), "fail_layer is none of .*"),
        (VALID, lambda v: edited(v, colour="red"), "it has an unknown key 'colour'"),
        (VALID, lambda v: edited(v["input"], colour="red"), "input has an unknown key 'colour'"),
        (VALID, lambda v: edited(v["input"], header="0300001"), r"input\.header does not match .*"),
        (VALID, lambda v: edited(v["input"], header="0300001G"), r"input\.header does not match .*"),
        (VALID, lambda v: edited(v["output"], length=True), r"output\.length is no integer"),
        (VALID, lambda v: v["input"].pop("state"), "input has no key 'state'"),
        (VALID, lambda v: edited(v, op="frame_footer"), "op: 'frame_footer' is none of frames.json"),
        (VALID, lambda v: v["requirements"].append("FR-99"), "there is no requirement FR-99, or it is withdrawn"),
        (VALID, lambda v: edited(v, requirements=[]), "requirements has less than 1 elements"),
        (VALID, lambda v: edited(v, level="MAY"), "level is MAY, its requirements are MUST"),
        (VALID, lambda v: edited(v, role="bystander"), "role is none of .*"),
        (VALID, lambda v: edited(v, comment="Another."), "comment: not what is made"),
        (VALID, lambda v: edited(v, comment=""), "comment is empty"),
        (REFUSED, lambda v: edited(v, change="nothing"), "change: not what is made"),
    ],
)
@pytest.mark.parametrize("manifest_too", [False, True])
def test_a_wrong_vector_is_named_in_one_line(
    small: Path, name: str, change: Callable[[Json], None], problem: str, manifest_too: bool
) -> None:
    change_vector(name, change)(small)
    if manifest_too and re.search("key|none of|no integer|match|than|empty", problem) is None:
        renew_manifest(small)
    result = xlattice("vectors", "check", small, status=1)
    assert re.fullmatch(f"{small}/frames.json: {name}: {problem}\n", result.stdout)
    assert result.stderr == f"{small}: 1 problem\n"


def remove_vector(directory: Path) -> None:
    rewrite(directory, "frames.json", lambda value: value["vectors"].pop())


def repeat_vector(directory: Path) -> None:
    rewrite(directory, "frames.json", lambda value: value["vectors"].append(value["vectors"][0]))


def add_vector(directory: Path) -> None:
    def add(value: Json) -> None:
        vector = json.loads(json.dumps(value["vectors"][0]))
        vector["name"] = "frames/of-yesterday"
        vector["input"]["accepted_bits"] = [2048, 2048]
        value["vectors"].append(vector)

    rewrite(directory, "frames.json", add)


def ask_again(directory: Path) -> None:
    def add(value: Json) -> None:
        value["vectors"].append(value["vectors"][0] | {"name": "frames/again"})

    rewrite(directory, "frames.json", add)


def swap_vectors(directory: Path) -> None:
    rewrite(directory, "frames.json", lambda value: value["vectors"].reverse())


def break_json(directory: Path) -> None:
    (directory / "frames.json").write_text("{")


def double_key(directory: Path) -> None:
    path = directory / "frames.json"
    path.write_text(path.read_text().replace('"title":', '"title": "x", "title":', 1))


def fixture_bit(directory: Path) -> None:
    rewrite(directory, "fixtures.json", lambda value: edited(value["keys"]["alpha-sk"], p="00"))


def change_manifest(change: Callable[[Json], None]) -> Callable[[Path], None]:
    return lambda directory: rewrite(directory, files.MANIFEST, change)


@pytest.mark.parametrize(
    ("change", "place", "problem"),
    [
        (remove_vector, "frames.json: frames/pieces/.*", "is made, and not there"),
        (add_vector, "frames.json: frames/of-yesterday", "is not made any more: names are permanent"),
        (repeat_vector, "frames.json: frames/.*", "stands in it twice"),
        (ask_again, "frames.json: frames/again", "asks the same as frames/header/.*"),
        (swap_vectors, "frames.json", "has its vectors in another order than what is made"),
        (break_json, "frames.json", "is no JSON: .*"),
        (double_key, "frames.json", "is no JSON: a key that stands twice in an object"),
        (lambda d: rewrite(d, "frames.json", lambda _: None, indent=2), "frames.json", "is not written as it is made"),
        (lambda d: rewrite(d, "frames.json", lambda v: edited(v, title="x")), "frames.json", "has another title.*"),
        (lambda d: rewrite(d, "frames.json", lambda v: edited(v, more=1)), "frames.json", "has another title.*"),
        (lambda d: rewrite(d, "frames.json", lambda v: edited(v, vectors=0)), "frames.json", "is no file of vectors"),
        (lambda d: (d / "frames.json").unlink(), "frames.json", "is missing"),
        (fixture_bit, "fixtures.json", "is not what is made"),
        (lambda d: (d / "fixtures.json").unlink(), "fixtures.json", "is missing"),
        (lambda d: (d / "schema/frames.json").write_text("{}"), "schema/frames.json", "is not what is made"),
        (lambda d: (d / "schema/more.json").write_text("{}"), "schema/more.json", "is not in manifest.json"),
        (lambda d: (d / "more.json").write_text("{}"), "more.json", "is not in manifest.json"),
        (
            change_manifest(lambda m: edited(m["files"]["frames.json"], sha256="00" * 32)),
            "frames.json",
            "its SHA-256 is not that in manifest.json",
        ),
        (
            change_manifest(lambda m: edited(m["files"]["frames.json"]["vectors"], **{VALID: "00" * 32})),
            "manifest.json",
            rf"files\.frames\.json\.vectors\.{VALID}: not as in the files",
        ),
        (change_manifest(lambda m: edited(m, vectors=1)), "manifest.json", "vectors: not as in the files"),
        (change_manifest(lambda m: edited(m, more=1)), "manifest.json", "it has an unknown key 'more'"),
        (
            change_manifest(lambda m: edited(m["others"], **{"gone.json": "00" * 32})),
            "gone.json",
            "is in manifest.json, and not there",
        ),
        (
            change_manifest(lambda m: edited(m["others"], **{"fixtures.json": "00" * 32})),
            "fixtures.json",
            "its SHA-256 is not that in manifest.json",
        ),
    ],
)
def test_a_wrong_file_is_named_in_one_line(
    small: Path, change: Callable[[Path], object], place: str, problem: str
) -> None:
    change(small)
    result = xlattice("vectors", "check", small, status=1)
    assert re.search(f"^{small}/{place}: {problem}$", result.stdout, re.MULTILINE)
    # A file that cannot be read is no reason to say of each vector in it that it is missing.
    assert result.stdout.count("\n") == 1


def test_a_vanished_name_is_found_when_the_manifest_was_made_for_it(small: Path) -> None:
    remove_vector(small)
    renew_manifest(small)
    result = xlattice("vectors", "check", small, status=1)
    assert re.fullmatch(r".*/frames\.json: frames/.*: is made, and not there\n", result.stdout)


# ---- making them -------------------------------------------------------------

LEVELS = {"AA-1": "MUST", "AA-2": "SHOULD", "AA-3": "MAY", "AA-4": "withdrawn"}


def small_number(given: Json, _fixtures: Fixtures) -> Json:
    if given["number"] > 9:
        raise Refused(FailLayer.DECODE, "AA-1", "AA-2", where="number")
    return {"twice": 2 * given["number"]}


AREA = Area(
    "area",
    "An area",
    {"op": Op(small_number, obj({"number": integer()}), obj({"twice": integer()}))},
    lambda _: iter(()),
)
GOOD = Case(name="area/good", op="op", requirements=("AA-2", "AA-3"), comment="c", input={"number": 3})
BAD = Case(
    name="area/bad",
    op="op",
    requirements=("AA-3",),
    comment="c",
    input={"number": 10},
    refusal=Refusal(layer=FailLayer.DECODE, by="AA-1", base="area/good", change="more", where="number"),
)


def made(case: Case) -> Vector:
    return run.Runner(Fixtures({}, {}, {}, {})).make(AREA, case, LEVELS)


def test_output_and_level_of_a_vector_are_computed() -> None:
    vector = made(attrs.evolve(GOOD, expected={"twice": 6}))
    assert (vector.output, vector.level, vector.fail_layer) == ({"twice": 6}, "SHOULD", None)


def test_what_refuses_a_vector_is_the_first_of_its_requirements() -> None:
    vector = made(BAD)
    assert vector.requirements == ("AA-1", "AA-3")
    assert (vector.output, vector.level, vector.fail_layer, vector.refused_by) == (None, "MUST", "decode", "AA-1")


REFUSAL = BAD.refusal
assert REFUSAL is not None


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        (attrs.evolve(GOOD, name="other/good"), "is no name for a vector of area.json"),
        (attrs.evolve(GOOD, name="area/Good"), "is no name for a vector of area.json"),
        (attrs.evolve(GOOD, name="area/"), "is no name for a vector of area.json"),
        (attrs.evolve(GOOD, role="somebody"), "no role somebody"),
        (attrs.evolve(GOOD, input={"number": "3"}), "input.number is no integer"),
        (attrs.evolve(GOOD, requirements=()), "shows no requirement"),
        (attrs.evolve(GOOD, requirements=("AA-4",)), "there is no requirement AA-4, or it is withdrawn"),
        (attrs.evolve(GOOD, requirements=("AA-9",)), "there is no requirement AA-9, or it is withdrawn"),
        (attrs.evolve(GOOD, expected={"twice": 7}), "output.twice: expected"),
        (attrs.evolve(BAD, refusal=None), "is refused: refused by decode, and should not be"),
        (attrs.evolve(GOOD, refusal=REFUSAL), "is accepted, and should not be"),
        (
            attrs.evolve(BAD, refusal=attrs.evolve(REFUSAL, layer=FailLayer.MAC)),
            "refused by decode; fail_layer is mac",
        ),
        (
            attrs.evolve(BAD, refusal=attrs.evolve(REFUSAL, by="AA-3")),
            "refused by AA-1 or AA-2; refused_by is AA-3",
        ),
        (attrs.evolve(BAD, refusal=attrs.evolve(REFUSAL, where="name")), "name is to be refused, and number is"),
    ],
)
def test_a_case_that_is_not_as_its_author_says_makes_no_vector(case: Case, problem: str) -> None:
    with pytest.raises(run.Mismatch) as caught:
        made(case)
    assert caught.value.problem == problem


def test_what_is_given_once_is_computed_once() -> None:
    calls = []

    def count(given: Json, _fixtures: Fixtures) -> Json:
        calls.append(given)
        return {}

    runner = run.Runner(Fixtures({}, {}, {}, {}))
    op = Op(count, {}, {})
    assert runner.result("op", op, {"a": 1, "b": 2}) == runner.result("op", op, {"b": 2, "a": 1})
    assert len(calls) == 1


@pytest.mark.parametrize("again", [GOOD, attrs.evolve(GOOD, name="area/again")])
def test_a_name_or_a_question_that_is_made_twice_is_an_error(again: Case) -> None:
    area = attrs.evolve(AREA, cases=lambda _: iter([GOOD, again]))
    with pytest.raises(run.Mismatch) as caught:
        run.make_area(run.Runner(Fixtures({}, {}, {}, {})), area, LEVELS)
    assert caught.value.name == again.name


# ---- schemas and PEM ---------------------------------------------------------

KINDS: dict[str, schema.Schema] = {
    "data": data(),
    "data of 2 bytes": data(2),
    "integer": integer(1, 9),
    "name": schema.name(),
    "word": schema.one_of("a", "b"),
    "true": schema.true(),
    "boolean": schema.boolean(),
    "array": schema.array(integer(), 1),
    "object": obj({"a": integer()}, {"b": data()}),
    "map": schema.map_of(integer()),
    "or null": schema.or_null(data()),
    "any of": schema.any_of(integer(), schema.array(data())),
    "value": schema.value(),
}
VALUES: list[Json] = [
    None, True, False, 0, 1, 9, 10, -1, 1.5, "", "a", "b", "0", "00", "0A", "0a", "0000", "000000", "zz", "00\n", [],
    [0], [1, 2], ["00"], ["x"], [[]], {}, {"a": 1}, {"a": "1"}, {"a": 1, "b": "00"}, {"a": 1, "b": 0}, {"a": 1, "c": 2},
    {"b": "00"}, {"a": {"b": ["00"]}}, {"a": None},
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_our_reading_of_a_schema_is_that_of_a_library(kind: str) -> None:
    described = KINDS[kind]
    library = Draft202012Validator(described | {"$defs": schema.DEFS})
    for value in VALUES:
        if value != "00\n":  # what `$` is before a line end, the library leaves to Python
            assert any(schema.problems(described, value)) != library.is_valid(value), value


def test_a_line_end_behind_hexadecimal_is_refused() -> None:
    assert list(schema.problems(data(), "00\n", "it")) == ["it does not match ^([0-9a-f]{2})*$"]


def test_canonical_json_does_not_depend_on_the_order_of_keys() -> None:
    assert canonical({"b": [1, "\u00e9"], "a": None}) == b'{"a":null,"b":[1,"\\u00e9"]}'


def test_the_aes_that_makes_encrypted_keys_gives_the_known_answer() -> None:
    """FIPS 197, C.3."""
    key, block = bytes(range(32)), bytes.fromhex("00112233445566778899aabbccddeeff")
    assert pkcs8.cbc(key, bytes(16), block).hex() == "8ea2b7ca516745bfeafc49904b496089"
