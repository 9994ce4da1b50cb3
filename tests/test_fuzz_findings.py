"""Findings: written as tests that are red while the fault is there, told as stories, asked as vectors."""

import json
import re
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from xlattice_trio.cli import main
from xlattice_trio.fuzz import batch, finding
from xlattice_trio.fuzz.batch import Job
from xlattice_trio.fuzz.campaign import Found
from xlattice_trio.fuzz.recording import Recording
from xlattice_trio.fuzz.sansio import SansIO
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.testing.pairs import HandshakePair
from xlattice_trio.testing.toolbox import flip
from xlattice_trio.wire.messages import Role

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"


def found(machine: str, **changes: Any) -> Found:
    """What that machine of `tests.machines` finds."""
    job = Job(machine=f"tests.machines:{machine}", driver="sansio", seed=5, examples=200, seconds=60.0, shrink=10.0)
    job = attrs.evolve(job, **changes)
    failure = batch.run(job).failure
    assert failure is not None
    return Found(job, failure)


def replay(path: Path) -> Result:
    return CliRunner().invoke(main, ["fuzz", "replay", str(path)])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Findings of both kinds, as they were written."""
    directory = tmp_path_factory.mktemp("findings")
    paths = {}
    for name in ("LOUD", "STRICT"):
        paths[f"{name}.py"], paths[f"{name}.json"] = finding.keep(found(name), directory)
    return paths


# ---- as a test ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["LOUD.py", "STRICT.py"])
def test_a_finding_is_a_test_that_fails(kept: dict[str, Path], name: str) -> None:
    test = runpy.run_path(str(kept[name]))["test_finding"]
    with pytest.raises(AssertionError, match="three"):
        test()


def test_a_finding_is_green_when_the_fault_is_mended(kept: dict[str, Path], tmp_path: Path) -> None:
    mended = tmp_path / "test_mended.py"
    mended.write_text(kept["LOUD.py"].read_text().replace("tests.machines:LOUD", "tests.machines:MENDED"))
    result = replay(mended)
    assert result.exit_code == 0, result.output
    assert "does not fail any more" in result.stdout


def test_a_finding_says_what_failed_and_what_was_said(kept: dict[str, Path]) -> None:
    text = kept["STRICT.py"].read_text()
    assert "AssertionError, at machines.py" in text
    assert "three waits" in text
    assert "1 s pass" in text
    assert "attacker -> responder: no frame, 3 bytes: 00 00 00" in kept["LOUD.py"].read_text()


def test_a_finding_imports_what_it_names(kept: dict[str, Path]) -> None:
    text = kept["LOUD.py"].read_text()
    assert "from xlattice_trio.errors import ErrorCode\n" in text
    assert "from xlattice_trio.handshake.outcome import Port\n" in text


def test_the_same_program_has_the_same_name(tmp_path: Path) -> None:
    first, again = (finding.keep(found("LOUD", seed=seed), tmp_path)[0] for seed in (5, 5))
    assert first == again


def test_a_failure_that_cannot_be_had_again_is_its_whole_batch(tmp_path: Path) -> None:
    one = found("LOUD")
    path, *_ = finding.keep(attrs.evolve(one, failure=attrs.evolve(one.failure, program=())), tmp_path)
    test = runpy.run_path(str(path))["test_finding"]
    with pytest.raises(AssertionError, match="three bytes"):
        test()


def test_a_program_that_python_cannot_read_is_its_whole_batch() -> None:
    one = found("LOUD")
    source = finding.test_of(attrs.evolve(one, failure=attrs.evolve(one.failure, program=("state = <Loud>",))))
    assert "run(Job(" in source


# ---- replay ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["LOUD.py", "STRICT.py", "LOUD.json", "STRICT.json"])
def test_a_finding_that_still_fails_ends_with_1(kept: dict[str, Path], name: str) -> None:
    assert replay(kept[name]).exit_code == 1


def test_a_replay_tells_the_story_and_the_failure(kept: dict[str, Path]) -> None:
    result = replay(kept["LOUD.py"])
    assert "attacker -> responder: no frame, 3 bytes: 00 00 00" in result.stdout
    assert "AssertionError: three bytes" in result.stdout


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.py", "def"), ("a.txt", "x"), ("a.vector.json", "{}"), ("a.vector.json", "x"), ("nothing.py", None)],
)
def test_what_is_no_finding_ends_with_2(tmp_path: Path, name: str, text: str | None) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    assert replay(path).exit_code == 2


# ---- as a vector -------------------------------------------------------------


def test_a_session_is_asked_for_by_its_operation(kept: dict[str, Path]) -> None:
    content = json.loads(kept["STRICT.json"].read_text())
    given = content["vector"]["input"]
    assert content["vector"]["op"] == "session"
    assert given["side"] == "initiator"
    assert given["steps"] == [{"do": "wait", "ms": 1000}] * 3
    assert len(content["observed"]["output"]["steps"]) == 3


def test_a_handshake_is_asked_for_by_its_operation(kept: dict[str, Path]) -> None:
    content = json.loads(kept["LOUD.json"].read_text())
    given = content["vector"]["input"]
    assert content["vector"]["op"] == "respond"
    assert given["chunks"] == ["000000"]
    assert content["fixtures"]["nodes"]["responder"]["ck"] == given["accepted"][0]
    # three bytes are no header yet
    assert content["observed"] == {"output": {"sent": [""], "inserted": [], "state": "AWAIT_HELLO"}}


def test_a_candidate_that_gives_something_else_now_ends_with_0(kept: dict[str, Path], tmp_path: Path) -> None:
    content = json.loads(kept["LOUD.json"].read_text())
    content["observed"]["output"]["state"] = "ESTABLISHED"
    path = tmp_path / "changed.vector.json"
    path.write_text(json.dumps(content))
    result = replay(path)
    assert result.exit_code == 0, result.output
    assert "observed.output.state" in result.stdout


def test_a_valid_hello_as_a_candidate_is_answered() -> None:
    recording = Recording(SansIO())
    target = recording.responder(Port.CLIENT)
    state = finding.machine("tests.machines:SILENCE", "sansio")
    cast = state.meet(target.cast)
    hello = state.attacker.hello(cast.destination(Port.CLIENT), role=3, purpose=2, service=b"echo", as_=None)
    wire = target.connect()
    wire.send(hello.frame)
    assert wire.received()
    candidate = finding.candidate_of(recording)
    state.teardown()
    assert candidate is not None
    observed = candidate["observed"]["output"]
    assert (observed["state"], len(observed["sent"][0])) == ("AWAIT_CONFIRM", 2 * 1216)


def test_a_conversation_that_no_operation_asks_for_is_no_candidate() -> None:
    recording = Recording(SansIO())
    assert finding.candidate_of(recording) is None
    wire = recording.responder(Port.CLIENT).connect()
    wire.send(b"\1")
    recording.pass_time(11.0)  # `respond` has no time
    assert finding.candidate_of(recording) is None


# ---- in the middle -----------------------------------------------------------


def test_what_was_changed_on_its_way_is_shown_at_the_first_difference() -> None:
    recording = Recording(SansIO())
    target = recording.responder(Port.CLUSTER)
    cast = target.cast
    one = cast.members[0]
    dialled = recording.initiator().dial(
        Intent(cast.card, cast.cluster_id, Role.MEMBER, service="echo", identity=one, knock=cast.knock)
    )
    answering = target.connect()
    answering.send(flip(dialled.received(), 8 * 100))
    state = finding.machine("tests.machines:SILENCE", "sansio")
    lines = list(finding._transcripts(state, recording))
    state.teardown()
    assert any("connections 0 and 1, initiator: what it sent (a), and what arrived (b)" in line for line in lines)
    assert any("frame 0 (HELLO), offset 100" in line for line in lines)


def test_a_pair_that_a_machine_steps_is_shown_too() -> None:
    recording = Recording(SansIO())
    target = recording.responder(Port.CLIENT)
    cast = target.cast
    pair = HandshakePair(
        Intent(cast.card, cast.cluster_id, Role.ANONYMOUS, service="echo"),
        recording.member(cast).welcome(Port.CLIENT, 0, 15_000),
    )
    pair.run()
    state = finding.machine("tests.machines:SILENCE", "sansio")
    state.pair = pair  # type: ignore[attr-defined]
    lines = list(finding._transcripts(state, recording))
    state.teardown()
    assert any("pair, initiator" in line and "the same bytes" in line for line in lines)


# ---- the README ----


def test_the_machine_of_the_readme_runs_and_finds_that_there_is_no_note(monkeypatch: pytest.MonkeyPatch) -> None:
    readme = (CORPUS.parent / "README.md").read_text(encoding="utf-8")
    (code,) = (code for code in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "class Note" in code)
    module = types.ModuleType("readme_note")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, "readme_note", module)
    job = Job(machine="readme_note:INFO", driver="sansio", seed=1, examples=50, seconds=60.0, shrink=10.0)
    failure = batch.run(job).failure
    assert failure is not None
    assert failure.message.splitlines()[0] == "a NOTE was answered"
    assert failure.program[2:] == ("state.note(payload=b'\\x00')", "state.teardown()")


# ---- the corpus --------------------------------------------------------------


def test_the_corpus_holds_findings() -> None:
    for path in CORPUS.glob("*.py"):
        assert path.name.startswith("test_"), path
        assert "Found by" in path.read_text(encoding="utf-8")
