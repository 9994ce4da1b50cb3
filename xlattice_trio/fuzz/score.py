"""Whether the machines find the faults that were planted, how fast, and whether random bytes would have, too.

Nothing is told to the machines. All of them, on every driver, take turns in one order that is the same for every fault;
a turn is one batch, whose size is by the machine's share and grows from turn to turn. Time is the processor time of all
turns, which are made in one process: that of one core, whatever else the computer does. Only a failed invariant counts,
or an exception that the node lets out and that is none of the documented ones; a machine that breaks has found nothing.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import attrs

from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz.batch import Failure, Job
from xlattice_trio.fuzz.campaign import WorkerLost, new_worker, seed_of
from xlattice_trio.fuzz.faults import Fault
from xlattice_trio.fuzz.machines import find_machine, machines

BASELINE = "xlattice_trio.fuzz.baseline:BASELINE"
DRIVERS = ("sansio", "memory")
SIZES = (5, 10, 20, 40, 80, 160)  # examples of a machine's first turns: all have one before any has much time
SOUND_TURNS = 4  # of each machine with the sound package


@attrs.frozen
class Hunt:
    """What came of looking for one fault with some machines: who found it, and after how much."""

    machine: str | None = None  # None: nobody
    driver: str | None = None
    examples: int = 0
    seconds: float = 0.0
    failure: Failure | None = None
    error: str | None = None  # of this program

    @property
    def found(self) -> bool:
        return self.machine is not None


@attrs.frozen
class Score:
    """One fault, the machines, and the baseline."""

    fault: Fault
    hunt: Hunt
    baseline: Hunt


@attrs.frozen
class Turn:
    """A machine on a driver."""

    machine: str
    driver: str


def turns(names: Sequence[str] | None = None) -> list[Turn]:
    """Who takes turns, in order: by driver, then as the machines are listed. Raises UsageError."""
    chosen = [find_machine(name) for name in names] if names else list(machines().values())
    spelled = dict(zip((info.name for info in chosen), names or machines(), strict=True))
    found = [Turn(spelled[info.name], driver) for driver in DRIVERS for info in chosen if driver in info.drivers]
    if not found:
        raise UsageError("there are no machines that could find anything")
    return found


def hunt(fault: Fault | None, order: Sequence[Turn], *, seconds: float, seed: int, rounds: int | None = None) -> Hunt:
    """Look for a fault, None for the sound package, for a time or so many rounds."""
    examples, spent = 0, 0.0
    broken: dict[Turn, Failure] = {}  # bugs of machines' own: they are out, and the others go on
    try:
        with new_worker(fault.plant() if fault else None) as worker:
            for number, turn in _in_turn(order, rounds):
                if spent >= seconds or len(broken) == len(order):
                    break
                if turn in broken:
                    continue
                job = Job(
                    machine=turn.machine,
                    driver=turn.driver,
                    seed=seed_of(seed, turn.machine, turn.driver, number),
                    examples=math.ceil(SIZES[min(number, len(SIZES) - 1)] * find_machine(turn.machine).share),
                    seconds=seconds - spent,
                    processor_time=True,
                )
                result = worker.run(job)
                failure = result.failure
                if failure is None:
                    examples, spent = examples + result.examples, spent + result.seconds
                    continue
                examples, spent = examples + failure.example, spent + failure.seconds
                if failure.is_finding:
                    return Hunt(find_machine(turn.machine).name, turn.driver, examples, spent, failure)
                broken[turn] = failure
    except WorkerLost as exc:
        return Hunt(examples=examples, seconds=spent, error=str(exc))
    error = next((failure.traceback for failure in broken.values()), None)
    return Hunt(examples=examples, seconds=spent, error=error)


def _in_turn(order: Sequence[Turn], rounds: int | None) -> Iterator[tuple[int, Turn]]:
    number = 0
    while rounds is None or number < rounds:
        for turn in order:
            yield number, turn
        number += 1


def score(
    faults: Sequence[Fault],
    order: Sequence[Turn],
    *,
    seconds: float,
    baseline_seconds: float,
    seed: int,
    workers: int = 1,
    tell: Callable[[Score], None] = lambda _: None,
) -> list[Score]:
    """Look for each fault, in its order; `tell` hears of each when it is done, from any thread but one at a time."""
    done: dict[str, Score] = {}
    waiting = list(faults)
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                if not waiting:
                    return
                fault = waiting.pop(0)
            found = hunt(fault, order, seconds=seconds, seed=seed)
            simple = hunt(fault, [Turn(BASELINE, "sansio")], seconds=baseline_seconds, seed=seed)
            with lock:
                done[fault.id] = Score(fault, found, simple)
                tell(done[fault.id])

    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [done[fault.id] for fault in faults]


def false_alarms(order: Sequence[Turn], *, seconds: float, seed: int, workers: int = 1) -> Iterator[tuple[Turn, str]]:
    """Who fails with the sound package, and how: each of them, and the baseline, has its first turns."""

    def look(turn: Turn) -> str | None:
        rounds = 1 if turn.machine == BASELINE else SOUND_TURNS
        sound = hunt(None, [turn], seconds=seconds, seed=seed, rounds=rounds)
        if sound.failure is not None:
            return f"{sound.failure.message}\n{sound.failure.traceback}"
        return sound.error

    every = [*order, Turn(BASELINE, "sansio")]
    with ThreadPoolExecutor(workers) as pool:
        for turn, problem in zip(every, pool.map(look, every), strict=True):
            if problem is not None:
                yield turn, problem


# ---- for people --------------------------------------------------------------


def table(scores: Sequence[Score]) -> list[str]:
    """A row for each fault, as Markdown."""
    lines = [
        "| fault | requirement | found by | examples | seconds | random bytes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for one in scores:
        found = one.hunt
        by = f"{found.machine}, {found.driver}" if found.found else "error" if found.error else "**not found**"
        simple = f"{one.baseline.seconds:.1f} s" if one.baseline.found else "-"
        cells = (f"`{one.fault.id}`", one.fault.requirement, by, f"{found.examples:,}", f"{found.seconds:.1f}", simple)
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def summary(scores: Sequence[Score], *, seconds: float, baseline_seconds: float) -> str:
    """How many were found, and how fast."""
    found = sorted(one.hunt.seconds for one in scores if one.hunt.found)
    simple = sum(one.baseline.found for one in scores)
    half = f"half of them within {found[len(found) // 2]:.1f} s, all within {found[-1]:.1f} s" if found else "none"
    return (
        f"{len(found)} of {len(scores)} faults found in {seconds:g} s each: {half}. Random changes of bytes found "
        f"{simple} of them in {baseline_seconds:g} s each."
    )
