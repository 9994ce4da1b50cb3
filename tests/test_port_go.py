"""The port in Go, written from the specification's text alone, gives the answer of every vector."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from xlattice_trio.speccheck.tables import find_directory

PORT = Path(__file__).parent / "ports" / "go"
VECTORS = find_directory() / "vectors"

pytestmark = pytest.mark.skipif(shutil.which("go") is None, reason="the port needs Go 1.26, which is not on PATH")


def go(*arguments: str, cwd: Path = PORT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["go", *arguments], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("port") / "port"
    built = go("build", "-o", str(program), ".")
    assert built.returncode == 0, built.stderr
    return program


def run(port: Path, vectors: Path) -> tuple[int, list[str]]:
    done = subprocess.run(
        [port, "-vectors", vectors], cwd=PORT, capture_output=True, text=True, timeout=300, check=False
    )
    assert not done.stderr
    return done.returncode, done.stdout.splitlines()


def test_the_port_runs_every_vector_of_the_manifest_and_agrees(port: Path) -> None:
    code, lines = run(port, VECTORS)
    manifest = json.loads((VECTORS / "manifest.json").read_text("utf-8"))
    names = {name for file in manifest["files"].values() for name in file["vectors"]}
    assert [line for line in lines if not line.startswith("ok ")] == []
    assert sorted(line.removeprefix("ok ") for line in lines) == sorted(names)
    assert code == 0


def test_the_port_knows_its_own_tables_by_heart() -> None:
    done = go("test", "./...")
    assert done.returncode == 0, done.stdout + done.stderr


def changed_vectors(directory: Path, tmp_path: Path, *, manifest_too: bool) -> Path:
    """A copy of the vectors in which one digit of one answer is another."""
    copy = tmp_path / "vectors"
    shutil.copytree(directory, copy)
    path = copy / "key_schedule.json"
    before = path.read_bytes()
    th = json.loads(before)["vectors"][0]["output"]["th"].encode()
    after = before.replace(th, (b"0" if th[:1] != b"0" else b"1") + th[1:], 1)
    path.write_bytes(after)
    if manifest_too:
        manifest = copy / "manifest.json"
        old, new = (hashlib.sha256(data).hexdigest() for data in (before, after))
        manifest.write_text(manifest.read_text("utf-8").replace(old, new), "utf-8")
    return copy


def test_the_port_notices_a_wrong_answer(port: Path, tmp_path: Path) -> None:
    """Whoever reads `ok` has to know that it is not said to everything."""
    code, lines = run(port, changed_vectors(VECTORS, tmp_path, manifest_too=True))
    assert code == 1
    assert len([line for line in lines if line.startswith("FAIL ")]) == 1


def test_the_port_refuses_files_that_are_not_those_of_the_manifest(port: Path, tmp_path: Path) -> None:
    vectors = changed_vectors(VECTORS, tmp_path, manifest_too=False)
    done = subprocess.run(
        [port, "-vectors", vectors], cwd=PORT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 2
    assert "key_schedule.json" in done.stderr
