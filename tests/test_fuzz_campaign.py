"""Campaigns: batches that repeat, workers, databases, reach, and what `xlattice fuzz run` says of them."""

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from tests.nodes import free_ports
from xlattice_trio.cli import main
from xlattice_trio.cli.fuzz_measures import DURATION
from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz import batch, campaign
from xlattice_trio.fuzz.batch import Job, open_database
from xlattice_trio.fuzz.campaign import Campaign, Plan, Worker, WorkerLost, corpus_size, new_worker, seed_of, size_of
from xlattice_trio.fuzz.machines import find_machine, machines

JOB = Job(machine="tests.machines:SILENCE", driver="sansio", seed=1, examples=20, steps=10, seconds=60.0)


def job(machine: str, **changes: Any) -> Job:
    return attrs.evolve(JOB, machine=f"tests.machines:{machine}", **changes)


def fuzz(*args: str) -> Result:
    return CliRunner().invoke(main, ["fuzz", *args])


# ---- a batch -----------------------------------------------------------------


def test_a_batch_counts_examples_steps_and_rows() -> None:
    result = batch.run(JOB)
    assert result.failure is None
    assert result.examples >= 20
    assert result.examples < result.steps <= 10 * result.examples
    assert {row[:3] for row in result.reached} == {("RESPONDER", "AWAIT_HELLO", "ANY")}


@pytest.mark.parametrize("driver", ["sansio", "memory"])
def test_a_failure_is_shrunk_to_a_program(driver: str) -> None:
    failure = batch.run(job("STRICT", driver=driver, examples=100, shrink=10.0)).failure
    assert failure is not None
    assert (failure.kind, failure.error, failure.message.splitlines()[0]) == (
        "invariant",
        "AssertionError",
        "three waits",
    )
    assert failure.program == (
        "state = Strict()",
        "state.start(side=Side.INITIATOR)",
        "state.count(wait=1)",
        "state.count(wait=1)",
        "state.count(wait=1)",
        "state.teardown()",
    )


def test_an_enumeration_of_numbers_is_printed_as_python_has_it() -> None:
    failure = batch.run(job("LOUD", examples=200, steps=30, shrink=10.0)).failure
    assert failure is not None
    assert "state.shout(code=ErrorCode.INTERNAL, data=b'\\x00\\x00\\x00', wire=wires_0)" in failure.program


def test_the_same_seed_fails_in_the_same_example() -> None:
    first, again = (batch.run(job("LOUD", examples=200, seed=5)).failure for _ in range(2))
    assert first is not None
    assert again is not None
    assert first.example == again.example
    assert first.program == again.program


def test_another_seed_makes_other_examples() -> None:
    found = {batch.run(job("LOUD", examples=200, seed=seed)).failure for seed in range(4)}
    assert len({failure and failure.example for failure in found}) > 1


@pytest.mark.parametrize(("machine", "kind"), [("BROKEN", "machine"), ("CRASH", "exception"), ("LOUD", "invariant")])
def test_whose_a_failure_is(machine: str, kind: str) -> None:
    failure = batch.run(job(machine, examples=200, steps=30)).failure
    assert failure is not None
    assert failure.kind == kind
    assert failure.is_finding == (kind != "machine")


def test_a_step_without_an_end_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "STEP_TIME", 0.3)
    failure = batch.run(job("ENDLESS")).failure
    assert failure is not None
    assert failure.is_finding
    assert "processor time" in failure.message


def test_a_batch_ends_when_its_time_is_over() -> None:
    began = time.monotonic()
    result = batch.run(attrs.evolve(JOB, examples=1_000_000, seconds=0.5))
    assert result.time_over
    assert time.monotonic() - began < 10


# ---- workers -----------------------------------------------------------------


def test_a_worker_gives_what_the_batch_gives() -> None:
    here = batch.run(job("LOUD", examples=200, seed=5)).failure
    with new_worker() as worker:
        there = worker.run(job("LOUD", examples=200, seed=5)).failure
    assert here is not None
    assert there is not None
    assert (there.example, there.program, there.where) == (here.example, here.program, here.where)


def test_a_worker_that_is_gone_is_no_finding() -> None:
    with new_worker() as worker:
        worker.close()
        with pytest.raises(WorkerLost):
            worker.run(JOB)


def test_a_job_that_cannot_be_done_is_no_finding() -> None:
    with new_worker() as worker, pytest.raises(WorkerLost, match="NOTHING"):
        worker.run(job("NOTHING"))


def test_a_worker_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with new_worker() as worker:
        monkeypatch.setattr(campaign, "PATIENCE", -JOB.seconds)
        with pytest.raises(WorkerLost, match="did not answer"):
            worker.run(attrs.evolve(JOB, examples=100_000))


# ---- campaigns ---------------------------------------------------------------


def plan(*names: str, **changes: Any) -> Plan:
    given: dict[str, Any] = {
        "machines": [f"tests.machines:{name}" for name in names],
        "seed": 3,
        "seconds": 60.0,
        "steps": 400,
    }
    return Plan(**{**given, **changes})


def test_machines_take_turns_until_each_has_its_steps() -> None:
    report = Campaign(plan("SILENCE", "EXCHANGE")).run()
    assert report.is_good
    assert [done.steps >= 400 for done in report.machines.values()] == [True, True]


def test_one_worker_repeats_a_campaign() -> None:
    first, again = (Campaign(plan("LOUD", "SILENCE")).run() for _ in range(2))
    assert [found.job.seed for found in first.found] == [found.job.seed for found in again.found]
    assert [found.failure.program for found in first.found] == [found.failure.program for found in again.found]
    assert {name: done.steps for name, done in first.machines.items()} == {
        name: done.steps for name, done in again.machines.items()
    }


def test_several_workers_share_the_machines() -> None:
    report = Campaign(plan("SILENCE", "EXCHANGE", workers=2)).run()
    assert report.is_good
    assert all(done.done for done in report.machines.values())


def test_a_machine_that_has_found_something_is_done() -> None:
    report = Campaign(plan("LOUD", steps=100_000, seconds=30.0)).run()
    assert len(report.found) == 1
    assert not report.is_good
    assert report.seconds < 30


def test_a_machine_that_breaks_is_an_error_and_no_finding() -> None:
    report = Campaign(plan("BROKEN")).run()
    assert report.found == []
    assert "LookupError" in report.errors[0]
    assert not report.is_good


def test_a_driver_that_a_machine_cannot_use_is_refused() -> None:
    with pytest.raises(UsageError, match="live"):
        Campaign(plan("EXCHANGE", driver="live"))


def test_seeds_and_sizes_follow_from_the_place() -> None:
    assert seed_of(1, "a", 2) == seed_of(1, "a", 2)
    assert len({seed_of(1, "a", 2), seed_of(1, "a", 3), seed_of(1, "b", 2), seed_of(2, "a", 2)}) == 4
    assert [size_of(number) for number in (0, 1, 4, 5, 100)] == [25, 50, 400, 400, 400]


def test_rows_that_were_not_reached_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "REACH_STEPS", 300)
    monkeypatch.setattr(campaign, "REACH_TIMES", 1)
    report = Campaign(plan("UNREACHED")).run()
    (rows,) = report.unreached().values()
    assert ("RESPONDER", "AWAIT_HELLO", "ANY") not in rows
    assert ("RESPONDER", "AWAIT_HELLO", "HELLO_VERIFIED") in rows
    assert not report.is_good


def test_too_few_steps_demand_no_row() -> None:
    assert Campaign(plan("UNREACHED")).run().is_good


def test_every_machine_of_the_package_is_found_by_its_name() -> None:
    assert all(find_machine(name).name == name for name in machines())


@pytest.mark.parametrize(
    "name",
    ["nothing", "tests.machines:NOTHING", "tests.nothing:SILENCE", "xlattice_trio.fuzz.machines.writes:MACHINES"],
)
def test_a_machine_that_is_not_there_is_a_usage_error(name: str) -> None:
    with pytest.raises(UsageError):
        find_machine(name)


# ---- databases ---------------------------------------------------------------


def test_a_directory_keeps_what_failed(tmp_path: Path) -> None:
    database = str(tmp_path / "examples")
    first = batch.run(job("LOUD", examples=200, steps=30, seed=5, shrink=10.0, database=database)).failure
    assert corpus_size(database) > 0
    again = batch.run(job("LOUD", examples=1, steps=30, seed=99, database=database)).failure
    assert first is not None
    assert again is not None
    assert (again.error, again.where, again.example) == (first.error, first.where, 1)


def test_no_redis_is_a_usage_error() -> None:
    pytest.importorskip("redis")
    with pytest.raises(UsageError, match="redis"):
        open_database("redis://127.0.0.1:1/0")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[str]:
    pytest.importorskip("redis")
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("there is no redis-server")
    port = free_ports()[0]
    command = [server, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        try:
            assert process.stdout is not None
            assert any("Ready to accept connections" in line for line in process.stdout)
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.terminate()


def test_workers_share_a_database_in_redis(redis_server: str) -> None:
    with new_worker() as one:
        first = one.run(job("LOUD", examples=200, steps=30, seed=5, shrink=10.0, database=redis_server)).failure
    with new_worker() as other:
        again = other.run(job("LOUD", examples=1, steps=30, seed=99, database=redis_server)).failure
    assert first is not None
    assert again is not None
    assert (again.error, again.where, again.example) == (first.error, first.where, 1)
    assert corpus_size(redis_server) > 0


# ---- the command -------------------------------------------------------------


def test_a_run_that_finds_nothing_ends_with_0() -> None:
    result = fuzz("run", "--machine", "tests.machines:SILENCE", "--seed", "1", "--steps", "300")
    assert result.exit_code == 0, result.output
    assert "nothing was found" in result.stdout


def test_a_run_that_finds_something_writes_it_and_ends_with_1(tmp_path: Path) -> None:
    result = fuzz("run", "--machine", "tests.machines:LOUD", "--seed", "1", "--time", "30s", "--corpus", str(tmp_path))
    assert result.exit_code == 1, result.output
    assert "FOUND by tests.machines:LOUD" in result.stdout
    assert list(tmp_path.glob("test_*.py"))


def test_a_run_that_does_not_reach_a_row_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(campaign, "REACH_STEPS", 300)
    result = fuzz("run", "--machine", "tests.machines:UNREACHED", "--seed", "1", "--steps", "400")
    assert result.exit_code == 1, result.output
    assert "RESPONDER: ESTABLISHED, ANY: 0 times" in result.stdout


def test_a_campaign_is_read_and_options_come_over_it(tmp_path: Path) -> None:
    file = tmp_path / "two.toml"
    file.write_text(
        '[[run]]\nmachines = ["tests.machines:EXCHANGE"]\ntime = "1m"\nseed = 4\n'
        '[[run]]\nmachines = ["tests.machines:EXCHANGE"]\ndriver = "memory"\nseed = 4\n'
    )
    result = fuzz("run", "--campaign", str(file), "--steps", "200")
    assert result.exit_code == 0, result.output
    assert "sansio, seed 4" in result.stdout
    assert "memory, seed 4" in result.stdout


@pytest.mark.parametrize(
    "args",
    [
        ("--machine", "nothing"),
        ("--time", "soon"),
        ("--time", "0"),
        ("--driver", "live"),
        ("--target", "127.0.0.1:7772"),
        ("--card", "cluster.card"),
        ("--target", "nowhere", "--card", "cluster.card"),
        ("--target", "127.0.0.1:7772", "--card", "cluster.card", "--driver", "memory"),
        ("--campaign", "no-such-file.toml"),
        ("--seed", "1", "--steps", "0"),
    ],
)
def test_a_wrong_argument_ends_with_2(args: tuple[str, ...]) -> None:
    result = fuzz("run", *args)
    assert result.exit_code == 2, result.output


@pytest.mark.parametrize("text", ['[[run]]\nmachine = "x"\n', "[[run]]\ntime = 'soon'\n", "[run", "x = 1\n"])
def test_a_campaign_that_is_none_ends_with_2(text: str, tmp_path: Path) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    assert fuzz("run", "--campaign", str(file)).exit_code == 2


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90.0), ("90s", 90.0), ("10m", 600.0), ("2h", 7200.0), ("0.5m", 30.0)]
)
def test_a_time_is_read(text: str, seconds: float) -> None:
    assert DURATION.convert(text, None, None) == seconds


def test_without_hypothesis_the_command_says_what_to_install() -> None:
    # Hypothesis is hidden from a process of its own
    code = "import sys; sys.modules['hypothesis'] = None; from xlattice_trio.cli import main; main()"
    ran = subprocess.run(
        [sys.executable, "-c", code, "fuzz", "run"], capture_output=True, text=True, check=False, timeout=60
    )
    assert ran.returncode == 2
    assert "pip install 'xlattice-trio[fuzz]'" in ran.stderr


@pytest.mark.parametrize("name", ["ci.toml", "night.toml", "live.toml"])
def test_the_campaigns_of_the_source_tree_are_such(name: str) -> None:
    from xlattice_trio.cli.fuzz import _plans

    live = {"target": "127.0.0.1:7772", "card": Path("cluster.card")} if name == "live.toml" else {}
    found = list(_plans(dict(live), Path(__file__).parents[1] / "fuzz" / name))
    assert found
    for one in found:
        Campaign(one)


def test_a_worker_is_made_with_the_path_of_its_parent() -> None:
    worker = Worker()
    try:
        assert worker.run(JOB).failure is None
    finally:
        worker.close()
