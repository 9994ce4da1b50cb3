"""A file imports from its own layer and those before it, and nothing but what its layer may use.

L0 errors, limits, machine   standard library only
L1 wire                      + attrs
L2 crypto                    + cryptography: the one module that imports it
L3 identity, roster
L4 handshake, session, link  sans-IO: time and randomness are arguments
L5 net                       + trio
L6 node, cluster, client, services
L7 cli, conformance, testing, fuzz, speccheck, vectors
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import xlattice_trio.limits

PACKAGE = Path(xlattice_trio.limits.__file__).parent
LAYERS = (
    {"errors", "limits", "machine"},
    {"wire"},
    {"crypto"},
    {"identity", "roster"},
    {"handshake", "session", "link"},
    {"net"},
    {"node", "cluster", "client", "services"},
    {"cli", "conformance", "testing", "speccheck", "vectors", "fuzz", "__init__", "__version__", "__main__"},
)
LIBRARIES: tuple[set[str], ...] = (set(), {"attrs"}, {"attrs"}, {"attrs"}, {"attrs"}, {"attrs", "trio"})
FOR_PEOPLE = {"attrs", "trio", "click", "rich", "markdown_it", "hypothesis", "pytest", "redis"}  # L6, L7
# What brings time, chance or the network. L3 is free to: files have dates.
PURE = {0, 1, 2, 4}
IMPURE = {"asyncio", "datetime", "random", "secrets", "select", "socket", "ssl", "subprocess", "threading", "time"}
# The conformance suite tests implementations in other languages: it must not lean on this one's node.
CONFORMANCE = {*LAYERS[0], "wire", "crypto", "handshake.key_schedule", "session.records", "net.stream", "conformance"}

FILES = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}


def layer(module: str) -> int:
    """The layer of a module of the package, named without the package."""
    (found,) = (number for number, names in enumerate(LAYERS) if module.split(".")[0] in names)
    return found


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            for alias in node.names:  # `from xlattice_trio import limits` imports a module
                yield f"{node.module}.{alias.name}" if node.module == "xlattice_trio" else node.module or ""


def faults(module: str, source: str) -> Iterator[str]:
    """The imports that the file `module` must not have."""
    here = layer(module)
    allowed = LIBRARIES[here] if here < len(LIBRARIES) else FOR_PEOPLE
    for name in imports(ast.parse(source)):
        top, _, ours = name.partition(".")
        if top == "xlattice_trio":
            wrong = layer(ours) > here
            if module.startswith("conformance."):
                wrong |= not any(f"{ours}.".startswith(f"{fine}.") for fine in CONFORMANCE)
        elif top in sys.stdlib_module_names:
            wrong = here in PURE and top in IMPURE
        else:
            wrong = top not in allowed and (top, module) != ("cryptography", "crypto")
        if wrong:
            yield name


@pytest.mark.parametrize("module", sorted(FILES))
def test_file_imports_what_its_layer_may(module: str) -> None:
    assert list(faults(module, FILES[module].read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("errors", "import attrs"),
        ("wire.codec", "from xlattice_trio.crypto import Label"),
        ("wire.codec", "from xlattice_trio import crypto"),
        ("session.records", "def f():\n    from xlattice_trio.net.stream import SecureStream"),
        ("session.records", "import trio"),
        ("handshake.responder", "from time import monotonic"),
        ("identity.keys", "from cryptography.hazmat.primitives import hashes"),
        ("conformance.peer", "from xlattice_trio.net.listen import serve"),
        ("conformance.peer", "from xlattice_trio.node import run_node"),
        ("net.stream", "import click"),
    ],
)
def test_an_import_from_below_is_found(module: str, source: str) -> None:
    assert list(faults(module, source))
