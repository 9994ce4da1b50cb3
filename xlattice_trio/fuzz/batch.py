"""One batch: so many examples of one machine, from one seed; what happened, and the first failure as a program.

Runs in a worker process. A batch depends on its job alone, and on the examples that its database holds. What fails is
one of three: an invariant (AssertionError, or NotOpened for what the target has sealed), an exception that the target
let out through its driver, or a bug of the machine's own, which is an error and no finding. A step that takes too much
time is a failure of an invariant: every input ends.
"""

import contextlib
import re
import signal
import sys
import time
import traceback
import types
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import hypothesis
from hypothesis.database import DirectoryBasedExampleDatabase, ExampleDatabase
from hypothesis.errors import HypothesisException
from hypothesis.internal.conjecture import engine
from hypothesis.reporting import with_reporter
from hypothesis.stateful import INITIALIZE_RULE_MARKER, run_state_machine_as_test

from xlattice_trio.crypto import NotOpened
from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz import reach
from xlattice_trio.fuzz.drivers import make_driver
from xlattice_trio.fuzz.machines import find_machine
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.target import TargetCrashed

_PACKAGE = Path(__file__).parents[1]
_HARNESS = ("fuzz/", "testing/", "vectors/")  # what is no part of a node
_DRIVERS = (
    "fuzz/sansio.py",
    "fuzz/memory.py",
    "fuzz/memory_port.py",
    "fuzz/live.py",
    "testing/network.py",
    "testing/pairs.py",
)
STEP_TIME = 20.0  # seconds of processor time, for one step
_TELL_EVERY = 0.5  # seconds
_ENUM = re.compile(r"<([A-Z]\w*\.[A-Z]\w*): (?:\d+|'[^']*')>")  # how a program cannot have it


@attrs.frozen(kw_only=True)
class Job:
    """What a batch does. `live` is the target of the live driver, as `drivers` has it.

    `seconds` bound the batch, on the clock on the wall or in processor time, but not the shrinking of what has failed:
    that is `shrink`, 0 for none.
    """

    machine: str
    driver: str
    seed: int
    examples: int
    steps: int = 30  # in an example, at most
    seconds: float
    processor_time: bool = False
    shrink: float = 0.0
    database: str | None = None
    live: Mapping[str, str] | None = None


@attrs.frozen(kw_only=True)
class Failure:
    """What failed first, and as simple as it became. `kind` is invariant, exception or machine."""

    kind: str
    error: str  # the exception's class
    message: str
    where: str  # the innermost line of this package, or of all
    example: int  # which one of the batch it was, from 1
    seconds: float  # from the beginning of the batch
    program: tuple[str, ...] = ()  # as Hypothesis prints it; empty if it could not be had again
    traceback: str = ""

    @property
    def is_finding(self) -> bool:
        return self.kind != "machine"


@attrs.frozen(kw_only=True)
class Result:
    """What a batch did. `reached` counts the rows of the state tables that were taken: (table, state, event, times)."""

    examples: int
    steps: int
    seconds: float
    reached: tuple[tuple[str, str, str, int], ...] = ()
    failure: Failure | None = None
    time_over: bool = False


Answer = Callable[[str, dict[str, Any]], None]


def do_job(job: dict[str, Any], answer: Answer) -> None:
    """A job as it comes to a worker. Answers `progress` now and then, and then `result`, or `error`."""
    try:
        result = run(Job(**job), lambda so_far: answer("progress", attrs.asdict(so_far)))
    except Exception:
        answer("error", {"text": traceback.format_exc()})
    else:
        answer("result", attrs.asdict(result))


def result_of(value: Mapping[str, Any]) -> Result:
    """The result that came as JSON."""
    failure = value["failure"]
    return Result(
        **{
            **value,
            "reached": tuple(map(tuple, value["reached"])),
            "failure": Failure(**{**failure, "program": tuple(failure["program"])}) if failure else None,
        }
    )


def open_database(where: str | None) -> ExampleDatabase | None:
    """A directory, or `redis://host:port/db`, which needs the package redis. Raises UsageError."""
    if where is None:
        return None
    if not where.startswith("redis://"):
        return DirectoryBasedExampleDatabase(where)
    try:
        from hypothesis.extra.redis import RedisExampleDatabase
        from redis import Redis
        from redis.exceptions import RedisError
    except ImportError as exc:
        raise UsageError("a database in Redis needs the package redis: pip install 'xlattice-trio[fuzz]'") from exc
    try:
        server = Redis.from_url(where)
        server.ping()
    except (RedisError, ValueError) as exc:
        raise UsageError(f"{where}: {exc}") from exc
    return RedisExampleDatabase(server)


# ---- running -----------------------------------------------------------------


class _TimeOver(BaseException):
    """The batch ends in the middle of an example. Not an Exception: Hypothesis lets it through."""


class _Watch:
    """What is counted while a batch runs, and when it has to end."""

    def __init__(self, job: Job, reached: Counter[tuple[str, str, str]], tell: Callable[[Result], None]) -> None:
        self._clock = time.process_time if job.processor_time else time.monotonic
        self._began = self._clock()
        self._ends = self._began + job.seconds
        self._tell = tell
        self._told = self._began
        self._reached = reached
        self.examples = 0
        self.steps = 0
        self.failure: Failure | None = None
        self.time_over = False

    def begin(self) -> None:
        """An example begins."""
        self.examples += 1
        self.steps -= 1  # its beginning is none

    def step(self) -> None:
        """An example has begun, or has done a step."""
        now = self._clock()
        signal.setitimer(signal.ITIMER_PROF, STEP_TIME)
        self.steps += 1
        if self.failure is None and now >= self._ends:
            self.time_over = True
            raise _TimeOver
        if now >= self._told + _TELL_EVERY:
            self._told = now
            self._tell(self.result())

    def end(self, exc: BaseException | None) -> None:
        """An example has ended; `exc` is what ended it, if anything did."""
        if self.failure is None and isinstance(exc, Exception) and not isinstance(exc, HypothesisException):
            self.failure = _failure(exc, self.examples, self._clock() - self._began)

    def result(self) -> Result:
        return Result(
            examples=self.examples,
            steps=self.steps,
            seconds=self._clock() - self._began,
            reached=tuple((*row, times) for row, times in sorted(self._reached.items())),
            failure=self.failure,
            time_over=self.time_over,
        )


def run(job: Job, tell: Callable[[Result], None] = lambda _: None) -> Result:
    """Run a batch. `tell` hears of it about twice a second. Raises UsageError."""
    info = find_machine(job.machine)
    database = open_database(job.database)
    with reach.observe() as observed, _no_endless_step():
        watch = _Watch(job, observed.counts, tell)
        machine = _watched(info.make(lambda: make_driver(job.driver, job.live)), watch)
        failed = None
        try:
            with with_reporter(lambda _: None), _shrinking(job.shrink):
                run_state_machine_as_test(hypothesis.seed(job.seed)(machine), settings=_settings(job, database))
        except _TimeOver:
            pass
        except Exception as exc:
            failed = exc
        if failed is None or watch.time_over:  # Hypothesis may call it flaky that an example has ended early
            return watch.result()
        first = watch.failure or _failure(failed, watch.examples, 0.0)  # it may be wrong before its first example
        shrunk = _shrunk(first, failed)
        if job.shrink:
            shrunk = _shortened(shrunk, info.machine, info.make(lambda: make_driver(job.driver, job.live)), job.shrink)
        watch.failure = shrunk
        return watch.result()


def _settings(job: Job, database: ExampleDatabase | None) -> hypothesis.settings:
    phases = [hypothesis.Phase.generate]
    if database is not None:
        phases.append(hypothesis.Phase.reuse)
    if job.shrink:
        phases.append(hypothesis.Phase.shrink)
    return hypothesis.settings(
        max_examples=job.examples,
        stateful_step_count=job.steps,
        phases=phases,
        database=database,
        deadline=None,  # `_no_endless_step` has it, in processor time: the machine may be busy with others
        suppress_health_check=list(hypothesis.HealthCheck),  # machines filter, and examples are large, on purpose
        report_multiple_bugs=False,
        print_blob=False,
    )


def _watched(machine: type[TargetMachine], watch: _Watch) -> type[TargetMachine]:
    """The machine, which counts. It is called as before, so that its printed steps are a program."""

    def __init__(self: Any) -> None:  # noqa: N807 - a method, of a class that is made below
        watch.begin()
        super(watched, self).__init__()

    def check_invariants(self: Any, *args: Any, **kwargs: Any) -> None:
        watch.step()
        super(watched, self).check_invariants(*args, **kwargs)

    def teardown(self: Any) -> None:
        watch.end(sys.exc_info()[1])
        super(watched, self).teardown()

    methods = {"__init__": __init__, "check_invariants": check_invariants, "teardown": teardown}
    watched: Any = type(machine.__name__, (machine,), {**methods, "__doc__": machine.__doc__})
    made: type[TargetMachine] = watched
    return made


@contextlib.contextmanager
def _no_endless_step() -> Iterator[None]:
    def too_long(_signal: int, _frame: types.FrameType | None) -> None:
        raise AssertionError(f"a step took more than {STEP_TIME:g} s of processor time")

    before = signal.signal(signal.SIGPROF, too_long)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def _shrinking(seconds: float) -> Iterator[None]:
    """Hypothesis gives shrinking five minutes, which is a constant and no setting."""
    before, engine.MAX_SHRINKING_SECONDS = engine.MAX_SHRINKING_SECONDS, max(1, round(seconds))
    try:
        yield
    finally:
        engine.MAX_SHRINKING_SECONDS = before


# ---- what failed -------------------------------------------------------------


def _failure(exc: BaseException, example: int, seconds: float) -> Failure:
    crash = exc.__cause__ if isinstance(exc, TargetCrashed) and exc.__cause__ is not None else exc
    frames = traceback.extract_tb(crash.__traceback__)
    ours = [frame for frame in frames if _is_ours(frame.filename)]
    inner = (ours or frames)[-1]
    path = Path(inner.filename).relative_to(_PACKAGE) if ours else Path(Path(inner.filename).name)
    if isinstance(exc, AssertionError | NotOpened):
        kind = "invariant"
    elif isinstance(exc, TargetCrashed) or _comes_from_target(frames):
        kind = "exception"
    else:
        kind = "machine"
    return Failure(
        kind=kind,
        error=type(crash).__name__,
        message=str(crash),
        where=f"{path}:{inner.lineno}",
        example=example,
        seconds=seconds,
        traceback="".join(traceback.format_exception(exc)),
    )


def _comes_from_target(frames: traceback.StackSummary) -> bool:
    """Whether the last call out of the harness, if any, was a driver's into the node."""
    paths = [Path(frame.filename) for frame in frames]
    inside = [path.relative_to(_PACKAGE).as_posix() if path.is_relative_to(_PACKAGE) else "" for path in paths]
    for at, path in reversed(list(enumerate(inside))):
        if path in _DRIVERS:
            return any(inside[at + 1 :])
        if path.startswith(_HARNESS):
            return False
    return False


def _is_ours(filename: str) -> bool:
    return Path(filename).is_relative_to(_PACKAGE) and Path(filename) != Path(__file__)


def _shrunk(first: Failure, last: BaseException) -> Failure:
    """The failure with its simplest program; what Hypothesis could not have again keeps its first report."""
    if isinstance(last, BaseExceptionGroup | HypothesisException):
        return first
    simplest = _failure(last, first.example, first.seconds)
    return attrs.evolve(simplest, program=_steps_of(last))


def _shortened(
    failure: Failure, found: type[TargetMachine], machine: Callable[[], TargetMachine], seconds: float
) -> Failure:
    """The failure without the steps that it can do without: Hypothesis leaves some, where its patience ends.

    `found` is the machine as its module has it, whose names the steps use. How it begins is left alone.
    """
    names, until = vars(sys.modules[found.__module__]), time.monotonic() + seconds
    initial = [name for name in dir(found) if hasattr(getattr(found, name), INITIALIZE_RULE_MARKER)]
    beginnings = tuple(f"state.{name}(" for name in initial)
    first = 1 + sum(line.startswith(beginnings) for line in failure.program)

    def fails(program: Sequence[str]) -> Failure | None:
        state = machine()
        try:
            exec("\n".join(program[1:-1]), {**names, "state": state})  # noqa: S102 - the machine's own steps
        except Exception as exc:
            return _failure(exc, failure.example, failure.seconds)
        finally:
            with contextlib.suppress(Exception):  # what was going wrong has been said
                state.teardown()
        return None

    size = len(failure.program) - 1 - first
    while size >= 1:
        before, start = failure, len(failure.program) - 1 - size
        while start >= first and time.monotonic() < until:
            program = failure.program[:start] + failure.program[start + size :]
            again = fails(program)
            if again is not None and (again.error, again.where) == (failure.error, failure.where):
                failure = attrs.evolve(again, program=program)
            start = min(start - 1, len(failure.program) - 1 - size)
        if size > 1 or failure is before:
            size //= 2
    return failure


def _steps_of(exc: BaseException) -> tuple[str, ...]:
    """The program that Hypothesis has left in an exception's notes."""
    lines = [line.strip() for text in getattr(exc, "__notes__", ()) for line in text.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("state = ")]
    if not starts:
        return ()
    steps = lines[starts[-1] :]
    end = next((number for number, line in enumerate(steps) if line.startswith("state.teardown()")), len(steps) - 1)
    return tuple(_ENUM.sub(r"\1", line) for line in steps[: end + 1])
