"""`xlattice fuzz score` and `rate`: what the machines find, and how fast it goes. Options that all of `fuzz` share."""

import re
import secrets
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xlattice_trio.cli.common import CheckFailed, ExitCode
from xlattice_trio.errors import UsageError

if TYPE_CHECKING:
    from xlattice_trio.fuzz.score import Score

_BEGIN, _END = "<!-- score -->", "<!-- end of score -->"
_TIMES = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

# ---- options -----------------------------------------------------------------


class Duration(click.ParamType):  # type: ignore[type-arg] # not generic in the oldest click
    """Seconds, or a number with s, m or h behind it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if found is None or not float(found[1]):
            self.fail(f"{value!r} is no time: 90, 90s, 10m or 2h are", param, ctx)
        return float(found[1]) * _TIMES[found[2]]


DURATION = Duration()
seed_option = click.option("--seed", type=click.IntRange(min=0), help="Begin from this number; else from a random one.")
workers_option = click.option(
    "--workers", type=click.IntRange(1, 256), help="Processes that work side by side.  [default: 1]"
)


# ---- score -------------------------------------------------------------------


@click.command()
@click.option("--fault", "chosen", multiple=True, metavar="ID", help="Only this fault. Without it, all.")
@click.option("--faults", type=click.Path(path_type=Path, dir_okay=False), help="Another list of faults.")
@click.option("--machine", "names", multiple=True, metavar="NAME", help="Only with this machine. Without it, all.")
@click.option("--time", "seconds", type=DURATION, default="60s", show_default=True, help="For each fault.")
@click.option("--baseline-time", type=DURATION, default="10s", show_default=True, help="Random bytes, for each fault.")
@seed_option
@workers_option
@click.option("--write", type=click.Path(path_type=Path, dir_okay=False), help="Put the table into this file.")
def score(
    chosen: tuple[str, ...],
    faults: Path | None,
    names: tuple[str, ...],
    seconds: float,
    baseline_time: float,
    seed: int | None,
    workers: int | None,
    write: Path | None,
) -> None:
    """Plant faults, one at a time, and see whether the machines find them: each in a process of its own, on one core.

    A fault is a small change to one file of the node, from fuzz/faults.toml; nothing on disk changes. All machines take
    turns, first without I/O and then over streams in memory, in one order for every fault; no machine is told what it
    looks for. Only a broken invariant counts, or an exception that the node lets out and that is none of the documented
    ones. First each machine has its turns with the sound node, where nothing may fail. Beside it stands what random
    changes of a valid conversation's bytes find, judged by the same invariants, in --baseline-time.

    --write FILE puts the table between the lines `<!-- score -->` and `<!-- end of score -->` of FILE.

    \b
    Exit status: 0 all were found, 1 one was not, 2 a wrong argument, or a fault that cannot be planted.

    \b
    Examples:
      xlattice fuzz score
      xlattice fuzz score --fault mac-compared-short --fault salt-reused --time 20s
      xlattice fuzz score --workers 4 --seed 1 --write fuzz/README.md
    """
    from xlattice_trio.fuzz import score as scoring
    from xlattice_trio.fuzz.faults import FILE, PACKAGE, read_faults, without_requirement
    from xlattice_trio.speccheck.tables import find_directory

    all_faults = read_faults(faults or PACKAGE.parent / FILE)
    if lost := without_requirement(all_faults, find_directory()):
        raise UsageError(f"{lost[0].id}: there is no requirement {lost[0].requirement}")
    if unknown := set(chosen) - {fault.id for fault in all_faults}:
        raise UsageError(f"there is no fault {', '.join(sorted(unknown))}")
    planted = [fault for fault in all_faults if not chosen or fault.id in chosen]
    text = _marked(write) if write else None
    seed = secrets.randbits(32) if seed is None else seed
    order = scoring.turns(names)

    began = time.monotonic()
    for turn, problem in scoring.false_alarms(order, seconds=seconds, seed=seed, workers=workers or 1):
        raise CheckFailed(f"{turn.machine} on {turn.driver} fails with the sound node: {problem}")
    click.echo(f"seed {seed}; no machine fails with the sound node, in {scoring.SOUND_TURNS} turns each", err=True)
    done: list[Score] = []

    def tell(one: "Score") -> None:
        done.append(one)
        click.echo(f"{len(done)} of {len(planted)}: {_score_line(one)}", err=not sys.stdout.isatty())

    scores = scoring.score(
        planted, order, seconds=seconds, baseline_seconds=baseline_time, seed=seed, workers=workers or 1, tell=tell
    )
    summary = scoring.summary(scores, seconds=seconds, baseline_seconds=baseline_time)
    lines = [*scoring.table(scores), "", summary]
    for line in lines:
        click.echo(line)
    for one in scores:
        if one.hunt.error:
            click.echo(f"{one.fault.id}: error: {one.hunt.error}", err=True)
    click.echo(f"{time.monotonic() - began:.0f} s in all", err=True)
    if write is not None and text is not None:
        before, after = text
        about = f"Made by `xlattice fuzz score --seed {seed} --workers {workers or 1} --write {write}`. {summary}"
        content = "\n".join([about, "", *scoring.table(scores)])
        write.write_text(f"{before}{_BEGIN}\n\n{content}\n\n{_END}{after}", encoding="utf-8")
    if not all(one.hunt.found for one in scores):
        raise click.exceptions.Exit(ExitCode.FAILED)


def _score_line(one: "Score") -> str:
    found = one.hunt
    if found.found:
        by = f"{found.machine} ({found.driver})"
        return f"{one.fault.id}: found by {by}, {found.examples:,} examples, {found.seconds:.1f} s"
    return f"{one.fault.id}: {'error' if found.error else 'NOT FOUND'} after {found.seconds:.0f} s"


def _marked(path: Path) -> tuple[str, str]:
    """What is before and behind the marked part of a file. Raises UsageError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}") from exc
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise UsageError(f"{path} does not have the lines {_BEGIN} and {_END}")
    return before, after


# ---- rate --------------------------------------------------------------------


@click.command()
@click.option("--driver", type=click.Choice(["sansio", "memory"]), default="sansio", show_default=True)
@click.option(
    "--bits", type=click.Choice(["2048", "3072", "4096"]), default="2048", show_default=True, help="Of the keys."
)
@click.option("--time", "seconds", type=DURATION, default="5s", show_default=True, help="For each role.")
def rate(driver: str, bits: str, seconds: float) -> None:
    """Count handshakes in a second of one core, both sides, and the RSA operations that bound them, in turn.

    Every value is new in each handshake. The time is processor time.

    \b
    Examples:
      xlattice fuzz rate
      xlattice fuzz rate --driver memory --bits 4096
    """
    from xlattice_trio.fuzz import rate as rates

    for line in rates.table(list(rates.measure(driver, bits=int(bits), seconds=seconds))):
        click.echo(line)
