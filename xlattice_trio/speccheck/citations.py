"""Which requirements and which sections of the specification the sources cite.

A requirement is cited by its id in brackets on the line that fulfils it, or by a test's marker
`@pytest.mark.spec("...")`; a section as in "Spec 5.3, 5.4". The package's own files are always there; tests and fuzz
targets only in a source tree.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

from xlattice_trio.speccheck.tables import Place

# A question mark for the number is a citation too: one that its author has still to fill in.
_ID = re.compile(r"\[([A-Z]{2}-(?:\d+|\?))\]")
_SECTIONS = re.compile(r"\bSpec (\d+(?:\.\d+)*(?:,? (?:and |to )?\d+(?:\.\d+)*)*)")
_NUMBER = re.compile(r"\d+(?:\.\d+)*")


@attrs.frozen
class Citation:
    """A requirement's id or a section's number, and where it is cited."""

    what: str
    place: Place


def source_files(package: Path) -> list[Path]:
    """The Python files of the package, and those of tests/ and fuzz/ if this is a source tree."""
    directories = [package]
    if (package.parent / "pyproject.toml").is_file():
        directories += [package.parent / "tests", package.parent / "fuzz"]
    return [path for directory in directories for path in sorted(directory.rglob("*.py"))]


def requirements_cited(path: Path) -> Iterator[Citation]:
    """Every requirement that a Python file cites, in brackets or in a marker."""
    source = path.read_text(encoding="utf-8")
    for number, line in enumerate(source.splitlines(), 1):
        for identifier in _ID.findall(line):
            yield Citation(identifier, Place(path, number))
    if ".spec(" in source:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.spec":
                for argument in node.args:
                    text = argument.value if isinstance(argument, ast.Constant) else ast.unparse(argument)
                    yield Citation(str(text), Place(path, argument.lineno))


def sections_cited(path: Path) -> Iterator[Citation]:
    """Every section that a Python file names as "Spec 5.3"."""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for group in _SECTIONS.findall(line):
            for section in _NUMBER.findall(group):
                yield Citation(section, Place(path, number))
