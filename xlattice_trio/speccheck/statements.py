"""The code that a citation is about: the statement on which it stands, or above which; for a docstring, what it is of.

And whether that code was executed, according to the report that `coverage json` writes.
"""

import ast
import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck.tables import Place

_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_WITH_DOCSTRING = ast.Module | ast.ClassDef | _FUNCTIONS


@attrs.frozen
class Cited:
    """Lines of a file, from 1."""

    first: int  # of what can be shown
    last: int
    runs: frozenset[int]  # one of these is executed if the code is


def code_at(place: Place) -> Cited:
    """The code that a citation at `place` is about."""
    _, tree = _read(place.path)
    for node in ast.walk(tree):
        documented = _docstring(node)
        if documented is not None and documented.lineno <= place.line <= _end(documented):
            return Cited(getattr(node, "lineno", documented.lineno), place.line, frozenset(_runs(node)))
    found = _statement_at(place)
    if found is None:
        return Cited(place.line, place.line, frozenset())
    return Cited(min(found.lineno, place.line), max(_head(found)), frozenset(_runs(found)))


def _statement_at(place: Place) -> ast.stmt | None:
    """The innermost statement on the line, or else the one below it."""
    lines, tree = _read(place.path)
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    around = [node for node in statements if node.lineno <= place.line <= _end(node)]
    node = max(around, key=lambda node: node.lineno, default=None)
    alone = lines[place.line - 1].lstrip().startswith("#")
    # In a compound statement, and neither in a statement of its own nor on the first line: an else, an except, a case.
    if node is None or (_inside(node) is not None and (alone or place.line not in _head(node))):
        below = [node for node in statements if node.lineno > place.line]
        node = min(below, key=lambda node: node.lineno, default=node)
    return node


def _docstring(node: ast.AST) -> ast.stmt | None:
    return node.body[0] if isinstance(node, _WITH_DOCSTRING) and ast.get_docstring(node) is not None else None


def _end(node: ast.stmt) -> int:
    return node.end_lineno or node.lineno


def _head(node: ast.stmt) -> range:
    """The lines of a statement without those of the statements in it."""
    inner = _inside(node)
    return range(node.lineno, _end(node) + 1 if inner is None else max(inner, node.lineno + 1))


def _inside(node: ast.stmt) -> int | None:
    """The line on which what is in a compound statement begins."""
    if isinstance(node, ast.Match):
        return node.cases[0].pattern.lineno
    body: list[ast.stmt] = getattr(node, "body", [])
    return body[0].lineno if body else None


def _runs(node: ast.AST) -> Iterator[int]:
    """The lines of which one at least is executed if the code is. What a mere import executes counts only if there
    is nothing else.
    """
    body = [statement for statement in getattr(node, "body", ()) if statement is not _docstring(node)]
    if isinstance(node, _FUNCTIONS):
        for statement in body:
            yield from range(statement.lineno, _end(statement) + 1)
    elif isinstance(node, ast.Module | ast.ClassDef):
        functions = [inner for inner in ast.walk(node) if isinstance(inner, _FUNCTIONS)]
        for inner in functions or body:
            yield from _runs(inner)
    elif isinstance(node, ast.stmt):
        yield from _head(node)


@functools.cache
def _read(path: Path) -> tuple[list[str], ast.Module]:
    source = path.read_text(encoding="utf-8")
    return source.splitlines(), ast.parse(source)


# ---- a run -------------------------------------------------------------------


def read_coverage(report: Path, package: Path) -> Mapping[Path, frozenset[int]]:
    """The executed lines of the package's files, from the JSON report of a run. Raises UsageError."""
    try:
        files = json.loads(report.read_bytes())["files"]
        executed = {tuple(Path(name).parts): frozenset(file["executed_lines"]) for name, file in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as exc:
        raise UsageError(f"{report} is no report of `coverage json`: {exc!r}") from exc
    found = {}
    for parts, lines in executed.items():
        if package.name in parts:  # the run may have had the package elsewhere
            at = len(parts) - 1 - parts[::-1].index(package.name)
            found[package.joinpath(*parts[at + 1 :])] = lines
    if not found:
        raise UsageError(f"{report} knows no file of {package.name}")
    return found


def executed(place: Place, run: Mapping[Path, frozenset[int]]) -> bool:
    """Whether the code that is cited at `place` was executed."""
    return bool(code_at(place).runs & run.get(place.path, frozenset()))
