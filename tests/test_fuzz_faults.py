"""Seeded faults: each can be planted, is planted where it should be, and only a machine's finding counts as found."""

import json
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from click.testing import CliRunner, Result

from xlattice_trio.cli import main
from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz import worker
from xlattice_trio.fuzz.batch import Job
from xlattice_trio.fuzz.campaign import WorkerLost, new_worker
from xlattice_trio.fuzz.faults import FILE, PACKAGE, Fault, problems, read_faults, without_requirement
from xlattice_trio.fuzz.score import BASELINE, Hunt, Score, Turn, hunt, summary, table, turns
from xlattice_trio.speccheck.tables import find_directory

ROOT = Path(__file__).parents[1]
FAULTS = [*read_faults(ROOT / FILE), *read_faults(ROOT / "fuzz" / "faults-of-others.toml")]

EXCHANGE = Turn("tests.machines:EXCHANGE", "sansio")
SILENCE = Turn("tests.machines:SILENCE", "sansio")
QUICK = "tests.machines:QUICK"


def fault(name: str) -> Fault:
    """A fault of the list."""
    (found,) = (one for one in FAULTS if one.id == name)
    return found


FOUND = fault("nonce-reused-after-rekey")  # by nobody who does not rekey
OPENLY = Fault("nonce-fixed", "the nonce is iv", "SE-7", "session/records.py", "self._iv ^ self.seq", "self._iv")


def fuzz_score(*args: str) -> Result:
    return CliRunner().invoke(main, ["fuzz", "score", "--seed", "1", *args])


def list_of(path: Path, *faults: Fault) -> Path:
    """A list of faults, as a file."""
    texts = []
    for one in faults:
        texts += ["[[fault]]", *(f"{key} = {json.dumps(value)}" for key, value in attrs.asdict(one).items())]
    path.write_text("\n".join(texts), encoding="utf-8")
    return path


# ---- the list ----------------------------------------------------------------


def test_there_are_as_many_faults_as_promised() -> None:
    assert len(FAULTS) >= 70


def test_every_fault_can_be_planted_and_names_a_requirement() -> None:
    assert list(problems(FAULTS)) == []
    assert without_requirement(FAULTS, find_directory()) == []


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: one.id)
def test_a_changed_module_is_another_program(one: Fault) -> None:
    path = PACKAGE / one.file
    source = path.read_text(encoding="utf-8")
    changed = compile(source.replace(one.old, one.new), str(path), "exec")
    assert changed != compile(source, str(path), "exec")


def test_two_faults_are_two_changes() -> None:
    assert len({(one.file, one.old, one.new) for one in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"old": "no such text"}, "0 times"),
        ({"old": "self"}, "times, not once"),
        ({"file": "session/nothing.py"}, "there is no"),
    ],
)
def test_a_fault_that_cannot_be_planted_is_named(changes: dict[str, str], problem: str) -> None:
    (found,) = problems([attrs.evolve(FOUND, **changes)])
    assert found.startswith(FOUND.id)
    assert problem in found


def test_two_faults_of_one_id_are_named() -> None:
    (found,) = problems([FOUND, FOUND])
    assert "two of this id" in found


@pytest.mark.parametrize("text", ["[[fault]]\nid = 'x'\n", "x = 1\n", "[[fault]", "[[fault]]\nhint = 'x'\n"])
def test_a_list_that_is_none_is_a_usage_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.toml"
    path.write_text(text)
    with pytest.raises(UsageError):
        read_faults(path)


# ---- planting ----------------------------------------------------------------


def test_every_changed_module_is_imported_in_a_process_that_plants_it() -> None:
    # the function that a worker calls, and nothing else of the package: all faults, a fresh interpreter for each file
    code = (
        "import importlib, json, sys\n"
        f"sys.path.insert(0, {str(PACKAGE.parent)!r})\n"
        "import importlib.util as util\n"
        f"spec = util.spec_from_file_location('worker', {worker.__file__!r})\n"
        "worker = util.module_from_spec(spec); spec.loader.exec_module(worker)\n"
        "for fault in json.load(sys.stdin):\n"
        "    for name in [name for name in sys.modules if name.startswith('xlattice_trio')]: del sys.modules[name]\n"
        "    sys.meta_path[:] = [one for one in sys.meta_path if type(one).__name__ != '_FaultyFinder']\n"
        "    worker.plant(**fault)\n"
        "    name = 'xlattice_trio.' + fault['file'][:-3].replace('/', '.')\n"
        "    module = importlib.import_module(name)\n"
        "    assert type(module.__loader__).__name__ == '_FaultyLoader', name\n"
    )
    few = list({one.file: one for one in FAULTS}.values())
    given = json.dumps([one.plant() for one in few])
    ran = subprocess.run(
        [sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False, timeout=300
    )
    assert ran.returncode == 0, ran.stderr


def test_a_worker_lives_with_the_fault_and_the_next_one_without() -> None:
    job = Job(machine=EXCHANGE.machine, driver="sansio", seed=1, examples=25, seconds=60.0)
    with new_worker(OPENLY.plant()) as faulty:
        failure = faulty.run(job).failure
    assert failure is not None
    with new_worker() as sound:
        assert sound.run(job).failure is None


def test_nothing_on_disk_is_changed() -> None:
    before = (PACKAGE / OPENLY.file).read_bytes()
    with new_worker(OPENLY.plant()):
        assert (PACKAGE / OPENLY.file).read_bytes() == before


def test_a_fault_that_is_not_there_is_an_error_of_the_worker() -> None:
    with pytest.raises(WorkerLost, match="0 times"):
        hunting = new_worker({"file": "session/records.py", "old": "no such text", "new": ""})
        with hunting:
            pass


def test_planting_comes_before_the_package() -> None:
    with pytest.raises(RuntimeError, match="imported already"):
        worker.plant(**OPENLY.plant())


# ---- hunting -----------------------------------------------------------------


def test_a_fault_is_found_by_the_machine_that_sees_it() -> None:
    found = hunt(OPENLY, [SILENCE, EXCHANGE], seconds=30.0, seed=1)
    assert found.machine == "exchange"
    assert found.failure is not None
    assert found.failure.kind == "invariant"
    assert found.examples > 5  # silence had its turn


def test_a_fault_that_nobody_sees_is_not_found() -> None:
    found = hunt(FOUND, [EXCHANGE], seconds=60.0, seed=1, rounds=1)
    assert not found.found
    assert found.error is None


def test_a_sound_node_is_found_by_nobody() -> None:
    for turn in (EXCHANGE, SILENCE, Turn(EXCHANGE.machine, "memory"), Turn(BASELINE, "sansio")):
        found = hunt(None, [turn], seconds=60.0, seed=1, rounds=1)
        assert (found.found, found.error) == (False, None)


def test_a_machine_that_breaks_has_found_nothing() -> None:
    found = hunt(OPENLY, [Turn("tests.machines:BROKEN", "sansio")], seconds=60.0, seed=1)
    assert not found.found
    assert "LookupError" in str(found.error)


def test_a_machine_that_breaks_leaves_it_to_the_others() -> None:
    found = hunt(OPENLY, [Turn("tests.machines:BROKEN", "sansio"), EXCHANGE], seconds=60.0, seed=1)
    assert found.machine == "exchange"


def test_a_node_that_cannot_be_imported_is_an_error_and_not_found() -> None:
    broken = attrs.evolve(OPENLY, new="self._iv ^^ self.seq")
    found = hunt(broken, [EXCHANGE], seconds=60.0, seed=1)
    assert not found.found
    assert "SyntaxError" in str(found.error)


def test_all_machines_take_turns_first_without_io_then_in_memory() -> None:
    order = turns(["tests.machines:SILENCE", "tests.machines:EXCHANGE"])
    assert order == [SILENCE, EXCHANGE, Turn(SILENCE.machine, "memory"), Turn(EXCHANGE.machine, "memory")]


def test_the_baseline_finds_what_random_bytes_can_find() -> None:
    accepted = attrs.evolve(
        OPENLY, file="handshake/key_schedule.py", old="key2 + key1 + x25519_secret + mlkem_secret", new="key2 + key1"
    )
    assert hunt(accepted, [Turn(BASELINE, "sansio")], seconds=60.0, seed=1).found


def test_the_table_has_a_row_for_each_fault() -> None:
    some = [
        Score(OPENLY, Hunt("exchange", "sansio", 1234, 1.5), Hunt()),
        Score(FOUND, Hunt(None, None, 99, 60.0), Hunt("bytes", "sansio", 7, 2.0)),
        Score(FOUND, Hunt(error="it broke"), Hunt()),
    ]
    assert table(some)[2:] == [
        "| `nonce-fixed` | SE-7 | exchange, sansio | 1,234 | 1.5 | - |",
        "| `nonce-reused-after-rekey` | SE-19 | **not found** | 99 | 60.0 | 2.0 s |",
        "| `nonce-reused-after-rekey` | SE-19 | error | 0 | 0.0 | - |",
    ]
    assert summary(some, seconds=60.0, baseline_seconds=10.0).startswith("1 of 3 faults found in 60 s each")


# ---- the command -------------------------------------------------------------


def test_a_score_of_100_per_cent_ends_with_0_and_is_written_between_the_marks(tmp_path: Path) -> None:
    faults = list_of(tmp_path / "faults.toml", OPENLY)
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- score -->\nold\n<!-- end of score -->\nafter\n")
    options = ("--machine", QUICK, "--baseline-time", "1s", "--write", str(readme))
    result = fuzz_score("--faults", str(faults), *options)
    assert result.exit_code == 0, result.output
    row = "| `nonce-fixed` | SE-7 | quick, sansio |"
    assert row in result.stdout
    text = readme.read_text()
    assert text.startswith("before\n<!-- score -->\n")
    assert text.endswith("<!-- end of score -->\nafter\n")
    assert row in text
    assert "old" not in text


def test_a_fault_that_was_not_found_ends_with_1(tmp_path: Path) -> None:
    faults = list_of(tmp_path / "faults.toml", FOUND)
    options = ("--machine", "tests.machines:QUIET", "--time", "2s", "--baseline-time", "1s")
    result = fuzz_score("--faults", str(faults), *options)
    assert result.exit_code == 1, result.output
    assert "**not found**" in result.stdout


def test_a_machine_that_fails_with_the_sound_node_ends_with_1(tmp_path: Path) -> None:
    faults = list_of(tmp_path / "faults.toml", FOUND)
    result = fuzz_score("--faults", str(faults), "--machine", "tests.machines:STRICT")
    assert result.exit_code == 1, result.output
    assert "fails with the sound node" in result.stderr


@pytest.mark.parametrize(
    "args", [("--fault", "nothing"), ("--faults", "nothing.toml"), ("--machine", "nothing"), ("--write", "nothing.md")]
)
def test_a_wrong_argument_ends_with_2(args: tuple[str, ...]) -> None:
    result = fuzz_score(*args)
    assert result.exit_code == 2, result.output


def test_a_fault_without_its_requirement_ends_with_2(tmp_path: Path) -> None:
    faults = list_of(tmp_path / "faults.toml", attrs.evolve(OPENLY, requirement="SE-9999"))
    assert fuzz_score("--faults", str(faults)).exit_code == 2
