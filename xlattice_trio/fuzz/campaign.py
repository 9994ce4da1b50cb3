"""Runs machines: for a time or for so many steps, in worker processes, and says what was reached and found.

The machines take turns, batch by batch. Which batch comes at which place of which machine, of what size and with what
seed, follows from the campaign's seed alone: one worker without a database repeats a campaign exactly, as far as the
time lets it come. A machine that has found something is done, since every further batch would find the same again.
"""

import contextlib
import hashlib
import json
import math
import os
import queue
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import attrs

from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz import reach, worker
from xlattice_trio.fuzz.batch import Failure, Job, Result, result_of
from xlattice_trio.fuzz.machines import find_machine

SIZES = (25, 50, 100, 200, 400)  # examples of a machine's first batches; then the last again and again
REACH_STEPS = 10_000  # of a machine, after which every row of its tables has to have been taken ...
REACH_TIMES = 100  # ... so often
PATIENCE = 600.0  # seconds, beyond what a batch may take, until its worker is given up


def seed_of(seed: int, *what: object) -> int:
    """The seed of a part of a run."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, (seed, *what))).encode()).digest()[:8], "big")


def size_of(number: int, share: float = 1.0) -> int:
    """Examples of the batch of this number, from 0, of a machine with this share."""
    return math.ceil(SIZES[min(number, len(SIZES) - 1)] * share)


# ---- one worker --------------------------------------------------------------


class WorkerLost(Exception):
    """A worker crashed, hung, or could not do its job: an error of this program, and no finding."""


class Worker:
    """A process that runs batches. `plant` is the fault that it lives with: file, old and new.

    Raises WorkerLost.
    """

    def __init__(self, plant: Mapping[str, str] | None = None) -> None:
        path = os.pathsep.join([str(Path(worker.__file__).parents[2]), *filter(None, sys.path)])
        self._process = subprocess.Popen(  # noqa: S603 - ourselves
            # as a file and without its directory in the path: no module of the package is imported before the planting
            [sys.executable, "-P", worker.__file__, *([json.dumps(plant)] if plant else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0", "HYPOTHESIS_STORAGE_DIRECTORY": os.devnull},
        )
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()
        try:
            self._answer(PATIENCE)
        except WorkerLost:
            self.close()
            raise

    def run(self, job: Job, tell: Callable[[Result], None] = lambda _: None) -> Result:
        """Do a job; `tell` hears of it meanwhile."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(attrs.asdict(job)) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):  # it is gone, or was closed
            raise WorkerLost(self._epitaph()) from None
        while True:
            kind, value = self._answer(PATIENCE + job.seconds + job.shrink)
            match kind:
                case "progress":
                    tell(result_of(value))
                case "result":
                    return result_of(value)
                case _:
                    raise WorkerLost(value["text"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert pipe is not None
            with contextlib.suppress(BrokenPipeError):
                pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors = [*self._errors[-50:], line]

    def _answer(self, seconds: float) -> tuple[str, dict[str, object]]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise WorkerLost(f"a worker did not answer for {seconds:.0f} s") from None
        if line is None:
            raise WorkerLost(self._epitaph())
        ((kind, value),) = json.loads(line).items()
        return kind, value

    def _epitaph(self) -> str:
        status = self._process.wait()
        for reader in self._readers:
            reader.join()
        return f"a worker ended with status {status}:\n{''.join(self._errors)}"


@contextlib.contextmanager
def new_worker(plant: Mapping[str, str] | None = None) -> Iterator[Worker]:
    """A worker, and its end."""
    one = Worker(plant)
    try:
        yield one
    finally:
        one.close()


# ---- a campaign --------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Plan:
    """What is to be run. It ends after `seconds`, or when every machine has done `steps`, whichever is first.

    `live` is the live driver's target, `database` as of `batch.open_database`, `shrink` the seconds that a finding may
    take to become simple.
    """

    machines: Sequence[str]
    driver: str = "sansio"
    seconds: float = 600.0
    steps: int | None = None
    seed: int
    workers: int = 1
    shrink: float = 30.0
    database: str | None = None
    live: Mapping[str, str] | None = None


@attrs.frozen
class Found:
    """What a machine has found, and the batch that did. The job has it again, but for the database."""

    job: Job
    failure: Failure


@attrs.define
class Progress:
    """What one machine has done."""

    name: str
    batches: int = 0
    examples: int = 0
    steps: int = 0
    seconds: float = 0.0  # of its batches
    reached: Counter[reach.Row] = attrs.Factory(Counter)
    running: dict[int, Result] = attrs.Factory(dict)  # batches that are not finished
    done: bool = False

    def so_far(self) -> "Progress":
        """Unfinished batches included."""
        whole = attrs.evolve(self, reached=self.reached.copy(), running={})
        for result in list(self.running.values()):
            whole.add(result)
        return whole

    def add(self, result: Result) -> None:
        self.examples += result.examples
        self.steps += result.steps
        self.seconds += result.seconds
        for *row, times in result.reached:
            table, state, event = row
            self.reached[str(table), str(state), str(event)] += int(times)


@attrs.define
class Report:
    """What a campaign has done. `errors` are of this program."""

    plan: Plan
    machines: dict[str, Progress]
    found: list[Found] = attrs.Factory(list)
    errors: list[str] = attrs.Factory(list)
    seconds: float = 0.0

    def unreached(self) -> dict[str, list[reach.Row]]:
        """Rows that a machine had the steps for, and has not taken often enough."""
        demanded = {
            name: reach.missing(done.reached, find_machine(name).tables, REACH_TIMES)
            for name, done in self.machines.items()
            if done.steps >= REACH_STEPS and self.plan.driver != "live"  # whose states nobody knows
        }
        return {name: rows for name, rows in demanded.items() if rows}

    @property
    def is_good(self) -> bool:
        """Nothing was found, and everything was reached that there were steps for."""
        return not (self.found or self.errors or self.unreached())


class Campaign:
    """One run of a plan. `report` grows while it runs, and is to be read by others. Raises UsageError."""

    def __init__(self, plan: Plan) -> None:
        for name in plan.machines:
            info = find_machine(name)
            if plan.driver not in info.drivers:
                raise UsageError(f"the machine {name} does not run with the driver {plan.driver}")
        self.report = Report(plan, {name: Progress(name) for name in plan.machines})
        self._lock = threading.Lock()
        self._next = 0
        self._ends = 0.0

    def run(self, show: Callable[[Report], None] = lambda _: None) -> Report:
        """Run it; `show` is called about twice a second."""
        began = time.monotonic()
        self._ends = began + self.report.plan.seconds
        threads = [threading.Thread(target=self._work, args=(number,)) for number in range(self.report.plan.workers)]
        for thread in threads:
            thread.start()
        try:
            while alive := [thread for thread in threads if thread.is_alive()]:
                alive[0].join(0.5)
                self.report.seconds = time.monotonic() - began
                show(self.report)
        except BaseException:
            self._ends = 0.0  # no further batch
            raise
        return self.report

    def _work(self, number: int) -> None:
        try:
            with new_worker() as one:
                while (job := self._next_job()) is not None:
                    done = self.report.machines[job.machine]

                    def tell(result: Result, done: Progress = done) -> None:
                        done.running[number] = result

                    result = one.run(job, tell)
                    self._finished(number, job, result)
        except WorkerLost as exc:
            self.report.errors.append(str(exc))

    def _next_job(self) -> Job | None:
        plan = self.report.plan
        with self._lock:
            left = self._ends - time.monotonic()
            names = [name for name, done in self.report.machines.items() if not done.done]
            if left <= 0 or not names:
                return None
            # the machine that has had the fewest batches, the first one of these
            name = min(names, key=lambda name: self.report.machines[name].batches)
            done = self.report.machines[name]
            done.batches += 1
            return Job(
                machine=name,
                driver=plan.driver,
                seed=seed_of(plan.seed, name, plan.driver, done.batches),
                examples=size_of(done.batches - 1, find_machine(name).share),
                seconds=left,
                shrink=plan.shrink,
                database=plan.database,
                live=plan.live,
            )

    def _finished(self, number: int, job: Job, result: Result) -> None:
        plan = self.report.plan
        with self._lock:
            done = self.report.machines[job.machine]
            done.running.pop(number, None)
            done.add(result)
            done.done |= plan.steps is not None and done.steps >= plan.steps
            if result.failure is not None and not done.done:
                done.done = True
                if result.failure.is_finding:
                    self.report.found.append(Found(job, result.failure))
                else:
                    self.report.errors.append(f"the machine {job.machine} has failed:\n{result.failure.traceback}")
            elif result.failure is not None:
                self.report.found.append(Found(job, result.failure))


def corpus_size(database: str | None) -> int:
    """Examples that a database holds; 0 without one."""
    if database is None:
        return 0
    if "://" not in database:
        return sum(path.is_file() for path in Path(database).rglob("*"))
    from redis import Redis

    with Redis.from_url(database) as server:
        return sum(server.scard(key) for key in server.scan_iter("hypothesis-example:*"))
