"""Which requirements and which sections of the specification the sources, the tests and the vectors cite.

A requirement is cited by its id in brackets on the line that fulfils it, or by a test's marker
`@pytest.mark.spec("...")`, or in the list `requirements` of a test vector; a section as in "Spec 5.3, 5.4". The
package's own files are always there; tests and fuzz targets only in a source tree.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from xlattice_trio.speccheck.tables import Place, SpecError, shown

# A question mark for the number is a citation too: one that its author has still to fill in.
_ID = re.compile(r"\[([A-Z]{2}-(?:\d+|\?))\]")
_SECTIONS = re.compile(r"\bSpec (\d+(?:\.\d+)*(?:,? (?:and |to )?\d+(?:\.\d+)*)*)")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")

VECTORS = "vectors"  # the directory, in that of the specification
_NO_VECTORS = {"manifest.json", "fixtures.json"}
# What says which requirements it is about without fulfilling them.
_ABOUT = ("conformance", "speccheck", "testing", "vectors")
_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


@attrs.frozen
class Citation:
    """A requirement's id or a section's number, and where it is cited."""

    what: str
    place: Place


@attrs.frozen
class Exercise:
    """A requirement's id, and the test or vector that exercises it."""

    what: str
    place: Place  # of a vector, its file
    name: str

    def __str__(self) -> str:
        return self.name if self.place.path.suffix == ".json" else f"{shown(self.place.path)}::{self.name}"


def source_files(package: Path) -> list[Path]:
    """The Python files of the package, and those of tests/ and fuzz/ if this is a source tree."""
    directories = [package]
    if is_source_tree(package.parent):
        directories += [package.parent / "tests", package.parent / "fuzz"]
    return [path for directory in directories for path in _python_files(directory)]


def is_source_tree(root: Path) -> bool:
    return (root / "pyproject.toml").is_file()


def implementation_files(package: Path) -> list[Path]:
    """The files of the package whose citations say that they fulfil a requirement."""
    return [path for path in _python_files(package) if path.relative_to(package).parts[0] not in _ABOUT]


def test_files(directory: Path) -> list[Path]:
    """The files of tests/ that pytest collects."""
    return [path for path in _python_files(directory) if is_test_file(path)]


def is_test_file(path: Path) -> bool:
    return path.name.startswith("test_")


def _python_files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.py"))


# ---- in brackets -------------------------------------------------------------


def bracketed(path: Path) -> Iterator[Citation]:
    """Every requirement that a Python file cites in brackets."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for identifier in _ID.findall(line):
            yield Citation(identifier, Place(path, number))


def requirements_cited(path: Path) -> Iterator[Citation]:
    """Every requirement that a Python file cites, in brackets or in a marker."""
    yield from bracketed(path)
    yield from marked(path)


def sections_cited(path: Path) -> Iterator[Citation]:
    """Every section that a Python file names as "Spec 5.3"."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for group in _SECTIONS.findall(line):
            for section in _NUMBER.findall(group):
                yield Citation(section, Place(path, number))


# ---- by tests ----------------------------------------------------------------


def marked(path: Path) -> Iterator[Citation]:
    """Every requirement that stands in a marker."""
    for mark in _marks(_tree(path)):
        for argument in mark.args:
            yield Citation(_said(argument), Place(path, argument.lineno))


def tests_marked(path: Path) -> Iterator[Exercise]:
    """What the tests of a file exercise, by a marker on the test, on one of its parameters, its class or the file.

    A marker that stands with anything else is on no test, and exercises nothing.
    """
    body = _tree(path).body
    elsewhere = {name: node for node in body for name in _bound(node)}
    yield from _tests(path, body, "", _assigned(body), elsewhere)


def _tests(
    path: Path, body: list[ast.stmt], prefix: str, inherited: list[str], elsewhere: dict[str, ast.stmt]
) -> Iterator[Exercise]:
    for node in body:
        for bound in _bound(node):
            if isinstance(node, ast.ClassDef) and bound.startswith("Test"):
                own = [*_decorated(node, elsewhere), *_assigned(node.body), *inherited]
                yield from _tests(path, node.body, f"{prefix}{bound}::", own, elsewhere)
            elif bound.startswith(("test", "Test")):
                own = _decorated(node, elsewhere) if isinstance(node, _FUNCTIONS) else _names(node)
                for name in dict.fromkeys([*own, *inherited]):
                    yield Exercise(name, Place(path, node.lineno), prefix + bound)


def _bound(node: ast.stmt) -> list[str]:
    """The names that a statement defines."""
    if isinstance(node, ast.ClassDef | _FUNCTIONS):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _decorated(
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, elsewhere: dict[str, ast.stmt]
) -> list[str]:
    """What the decorators of a test say, and the lists of parameters that they name."""
    found = []
    for decorator in node.decorator_list:
        found += _names(decorator)
        for inner in ast.walk(decorator):
            if isinstance(inner, ast.Name) and inner.id in elsewhere:
                found += _names(elsewhere[inner.id])
    return found


def _assigned(body: list[ast.stmt]) -> list[str]:
    """What a `pytestmark` says, of a file or a class."""
    return [name for node in body if "pytestmark" in _bound(node) for name in _names(node)]


def _names(node: ast.AST) -> list[str]:
    return [_said(argument) for mark in _marks(node) for argument in mark.args]


def _marks(node: ast.AST) -> Iterator[ast.Call]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Call) and ast.unparse(inner.func) == "pytest.mark.spec":
            yield inner


def _said(argument: ast.expr) -> str:
    return str(argument.value) if isinstance(argument, ast.Constant) else ast.unparse(argument)


def _tree(path: Path) -> ast.Module:
    source = path.read_text(encoding="utf-8")
    return ast.parse(source if ".spec(" in source else "")


# ---- by vectors --------------------------------------------------------------


def vectors(directory: Path) -> Iterator[Exercise]:
    """What the test vectors of the specification in `directory` exercise. Raises SpecError for a malformed file."""
    for path in sorted((directory / VECTORS).glob("*.json")):
        if path.name not in _NO_VECTORS:
            yield from _vectors(path)


def _vectors(path: Path) -> Iterator[Exercise]:
    try:
        found = [(vector["name"], vector["requirements"]) for vector in json.loads(path.read_bytes())["vectors"]]
    except (ValueError, KeyError, TypeError) as exc:
        raise SpecError(Place(path, 1), f"is no file of vectors: {exc!r}") from exc
    for name, identifiers in found:
        for identifier in identifiers:
            yield Exercise(identifier, Place(path, 1), name)
