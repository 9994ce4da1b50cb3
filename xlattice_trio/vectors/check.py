"""Everything that can be wrong with a directory of vectors, one line for each vector or file that is.

Of a vector only the first thing is said, in the order: form, duplicates, requirements, base, what this implementation
gives, what is made anew, manifest. A file as a whole is spoken of where no vector in it explains what is wrong.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck.tables import shown
from xlattice_trio.vectors import files, fixtures, run
from xlattice_trio.vectors.model import Area, Json, Vector, is_name
from xlattice_trio.vectors.run import Mismatch, Runner, difference, is_fast, level, levels_of, new_runner
from xlattice_trio.vectors.schema import problems


@attrs.frozen
class Report:
    """`checked` vectors were run, `left_out` were not."""

    problems: tuple[str, ...]
    checked: int
    left_out: int


def check(
    directory: Path, spec: Path, *, fast: bool = False, begin: Callable[[Area], None] = lambda _area: None
) -> Report:
    """Holds the vectors in `directory` against manifest and schema, the specification, and this implementation.

    With `fast` those that take long are not run. `begin` hears of each area. Raises UsageError if there are no vectors.
    """
    found = _Directory(directory)
    found.read()
    checker = _Checker(found, levels_of(spec), new_runner(), fast)
    checker.check_vectors(begin)
    checker.check_made()
    checker.check_files()
    checker.check_manifest()
    return Report(tuple(found.lines()), checker.checked, checker.left_out)


class _Directory:
    """The files as they are, and what was found to be wrong, by file and vector."""

    def __init__(self, directory: Path) -> None:
        self.path = directory
        self.content: dict[str, bytes] = {}
        self.json: dict[str, Json] = {}
        self._problems: dict[tuple[str, str], str] = {}  # file, vector: the problem

    def read(self) -> None:
        try:
            names = sorted(str(path.relative_to(self.path)) for path in self.path.glob("**/*.json"))
            for file in names:
                self.content[file] = (self.path / file).read_bytes()
        except OSError as exc:
            raise UsageError(f"{self.path} cannot be read: {exc.strerror}") from exc
        if files.MANIFEST not in self.content:
            raise UsageError(f"{self.path} holds no vectors: there is no {files.MANIFEST}")
        for file, content in self.content.items():
            try:
                self.json[file] = json.loads(content, object_pairs_hook=_object)
            except ValueError as exc:
                self.add(file, "", f"is no JSON: {exc}")

    def add(self, file: str, vector: str, problem: str) -> None:
        """Remember what is wrong with a vector, or with a file if `vector` is empty: the first thing only."""
        self._problems.setdefault((file, vector), problem)

    def is_wrong(self, file: str) -> bool:
        """Whether something is wrong with this file, or with a vector in it."""
        return any(file == other for other, _ in self._problems)

    @property
    def is_right(self) -> bool:
        return not self._problems

    def lines(self) -> Iterator[str]:
        for (file, vector), problem in self._problems.items():
            yield f"{shown(self.path / file)}: {vector}{': ' if vector else ''}{problem}"


def _object(pairs: list[tuple[str, Json]]) -> Json:
    """Raises ValueError if a key stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key that stands twice in an object")
    return found


class _Checker:
    def __init__(self, directory: _Directory, levels: Mapping[str, str], runner: Runner, fast: bool) -> None:
        self._directory = directory
        self._levels = levels
        self._runner = runner
        self._fast = fast
        self._areas = {area.file: area for area in run.AREAS}
        self._vectors: dict[str, list[Vector]] = {}  # by file, those that have the form
        self._formless: set[str] = set()  # names of those that do not
        self._unreadable: set[str] = set()  # files
        self.checked = 0
        self.left_out = 0

    # ---- vectors -------------------------------------------------------------

    def check_vectors(self, begin: Callable[[Area], None]) -> None:
        for file in self._areas:
            self._vectors[file] = list(self._formed(file))
        names = {vector.name: vector for found in self._vectors.values() for vector in found}
        asked: dict[bytes, str] = {}
        for file, area in self._areas.items():
            begin(area)
            for vector in self._vectors[file]:
                other = asked.setdefault(vector.question, vector.name)
                try:
                    if other != vector.name:
                        raise Mismatch(vector.name, f"asks the same as {other}")
                    self._check_claims(vector, names)
                    self._run(area, vector)
                except Mismatch as exc:
                    self._directory.add(file, vector.name, exc.problem)

    def _formed(self, file: str) -> Iterator[Vector]:
        """The vectors in a file that have the form."""
        area, value = self._areas[file], self._directory.json.get(file)
        if file not in self._directory.content:
            self._directory.add(file, "", "is missing")
        if not isinstance(value, dict) or not isinstance(value.get("vectors"), list):
            self._directory.add(file, "", "is no file of vectors")  # unless more is known
            self._unreadable.add(file)
            return
        if list(value) != ["title", "vectors"] or value["title"] != area.title:
            self._directory.add(file, "", "has another title, or other keys, than what is made")
        seen: set[str] = set()
        for i, vector in enumerate(value["vectors"]):
            name = vector.get("name") if isinstance(vector, dict) else None
            if not isinstance(name, str) or not is_name(name) or not name.startswith(area.prefix):
                self._directory.add(file, f"vector {i}", "has no name, or not one of this file")
                continue
            if name in seen:
                self._directory.add(file, name, "stands in it twice")
            seen.add(name)
            problem = _form(area, vector)
            if problem:
                self._directory.add(file, name, problem)
                self._formless.add(name)
            else:
                yield Vector.of_json(vector)

    def _check_claims(self, vector: Vector, names: Mapping[str, Vector]) -> None:
        strongest = level(vector.name, vector.requirements, self._levels)
        if vector.level != strongest:
            raise Mismatch(vector.name, f"level is {vector.level}, its requirements are {strongest}")
        if vector.fail_layer is None:
            return
        if vector.refused_by not in vector.requirements:
            raise Mismatch(vector.name, f"{vector.refused_by} refuses it, and is not among its requirements")
        base = names.get(vector.base or "")
        if (base is None and vector.base not in self._formless) or (base and base.fail_layer is not None):
            raise Mismatch(vector.name, f"its base {vector.base} is no valid vector")

    def _run(self, area: Area, vector: Vector) -> None:
        if self._fast and not is_fast(vector.input):
            self.left_out += 1
            return
        self._runner.run(area, vector)
        self.checked += 1

    # ---- made anew -----------------------------------------------------------

    def check_made(self) -> None:
        """Holds what was read against what is made."""
        for area in self._areas.values():
            if area.file not in self._unreadable:
                try:
                    self._compare_all(area, run.make_area(self._runner, area, self._levels, fast=self._fast))
                except Mismatch as exc:
                    self._directory.add(area.file, exc.name, f"cannot be made: {exc.problem}")

    def _compare_all(self, area: Area, made: Sequence[Vector]) -> None:
        there = {vector.name: vector for vector in self._vectors[area.file]}
        expected = {vector.name: vector for vector in made}
        for name, vector in expected.items():
            if name in there:
                self._compare(area.file, there[name], vector)
            else:
                self._directory.add(area.file, name, "is made, and not there")
        for name, vector in there.items():
            if name not in expected and not (self._fast and not is_fast(vector.input)):
                self._directory.add(area.file, name, "is not made any more: names are permanent")
        if not self._directory.is_wrong(area.file) and [name for name in there if name in expected] != list(expected):
            self._directory.add(area.file, "", "has its vectors in another order than what is made")

    def _compare(self, file: str, there: Vector, made: Vector) -> None:
        if there != made:
            where = difference("", there.to_json(), made.to_json()).removeprefix(".")
            self._directory.add(file, there.name, f"{where}: not what is made")

    # ---- files and manifest --------------------------------------------------

    def check_files(self) -> None:
        """Those without vectors are what is made; those with vectors are written as they are made."""
        directory = self._directory
        expected = {fixtures.FILE: files.rendered(fixtures.make()), **files.schemas(self._areas.values())}
        for file, content in expected.items():
            if file not in directory.content:
                directory.add(file, "", "is missing")
            elif directory.content[file] != content:
                directory.add(file, "", "is not what is made")
        for file, area in self._areas.items():
            if not directory.is_wrong(file):
                content = files.rendered(files.area_file(area, self._vectors[file]))
                if directory.content[file] != content:
                    directory.add(file, "", "is not written as it is made")

    def check_manifest(self) -> None:
        """Holds it against the files. Of a file with something wrong in it, nothing is said."""
        directory, file = self._directory, files.MANIFEST
        manifest = directory.json.get(file)
        if manifest is None:
            return
        for problem in problems(files.MANIFEST_SCHEMA, manifest):
            directory.add(file, "", problem)
            return
        listed = {name: entry["sha256"] for name, entry in manifest["files"].items()} | manifest["others"]
        for name in (*listed, *directory.content):
            if name not in directory.content:
                directory.add(name, "", f"is in {file}, and not there")
            elif name not in listed and name != file:
                directory.add(name, "", f"is not in {file}")
            elif (
                name in listed
                and listed[name] != files.sha256(directory.content[name])
                and not directory.is_wrong(name)
            ):
                directory.add(name, "", f"its SHA-256 is not that in {file}")
        if directory.is_right and directory.content[file] != self._manifest():
            where = difference("", manifest, json.loads(self._manifest())).removeprefix(".")
            directory.add(file, "", f"{where or 'it'}: not as in the files")

    def _manifest(self) -> bytes:
        """The manifest of what is there."""
        content = self._directory.content
        vectors = {file: (content[file], found) for file, found in self._vectors.items()}
        others = {file: content[file] for file in content if file not in vectors and file != files.MANIFEST}
        return files.rendered(files.manifest_of(vectors, others))


def _form(area: Area, vector: Json) -> str | None:
    """What is wrong with the form of a vector."""
    op_name = vector.get("op")
    if not isinstance(op_name, str) or op_name not in area.ops:
        return f"op: {op_name!r} is none of {area.file}"
    refused = "fail_layer" in vector
    schema = files.vector_schema(op_name, area.ops[op_name], refused)
    if schema is None:
        return "fail_layer: missing, this operation is always refused"
    return next(problems(schema, vector), None)
