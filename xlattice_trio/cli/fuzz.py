"""`xlattice fuzz`: Hypothesis against the handshake and the session, and whether it finds what it should.

Hypothesis comes with the extra `fuzz`, and what needs it is imported when a command runs.
"""

import importlib.util
import secrets
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from xlattice_trio.cli.common import ExitCode, file_argument
from xlattice_trio.cli.fuzz_measures import DURATION, rate, score, seed_option, workers_option
from xlattice_trio.errors import UsageError

if TYPE_CHECKING:
    from xlattice_trio.fuzz.campaign import Plan, Report

_LINE_EVERY = 10.0  # seconds, where there is no terminal
_DATABASE = Path(".hypothesis", "fuzz")
_FINDINGS = Path("fuzz-findings")


@click.group()
def fuzz() -> None:
    """Let an attacker who knows the protocol loose on it, and see what breaks.

    State machines (Hypothesis' RuleBasedStateMachine) build, open, change, replay, reflect and splice messages, and
    check after each step what the specification promises. How to write one, and how to read what was found, stands in
    fuzz/README.md.
    """
    if importlib.util.find_spec("hypothesis") is None:
        raise UsageError("this needs Hypothesis: pip install 'xlattice-trio[fuzz]'")


fuzz.add_command(score)
fuzz.add_command(rate)


# ---- run ---------------------------------------------------------------------


@fuzz.command()
@click.option("--target", metavar="HOST:PORT", help="Attack the client port of this node, over TCP.")
@click.option("--card", type=click.Path(path_type=Path, dir_okay=False), help="The cluster card of the target.")
@click.option("--member", help="The name of the target in that card, if it has several members.")
@click.option("--identity", type=click.Path(path_type=Path), help="Come as this node too, a client of the roster.")
@click.option(
    "--machine",
    "machines",
    multiple=True,
    metavar="NAME",
    help="Run this machine (a wrong name lists them all). Without it, all.",
)
@click.option("--driver", type=click.Choice(["sansio", "memory"]), help="What the target is.  [default: sansio]")
@click.option("--time", "seconds", type=DURATION, help="Stop after so long.  [default: 10m]")
@click.option("--steps", type=click.IntRange(min=1), help="Stop when every machine has done so many steps.")
@seed_option
@workers_option
@click.option("--database", metavar="WHERE", help="Hypothesis' examples: a directory, or redis://HOST:PORT/DB.")
@click.option("--corpus", type=click.Path(path_type=Path, file_okay=False), help="Where findings are written.")
@click.option("--campaign", type=click.Path(path_type=Path, dir_okay=False), help="Take what is not given from FILE.")
def run(corpus: Path | None, campaign: Path | None, **options: Any) -> None:
    """Run machines until the time is over, and report what they reached and found.

    Each finding is written as a test for pytest and, where one of the operations of the test vectors can ask for it, as
    a candidate for a vector. The target of a machine is the cores without I/O (`--driver sansio`), the whole node over
    streams in memory (`memory`), or a node that runs somewhere (`--target`). With `--seed`, one worker and no database
    the same happens again, as far as the time reaches. A database keeps what has failed, and tries it first the next
    time; several machines can share one in Redis. Without --seed it is a directory, .hypothesis/fuzz.

    A machine that has done 10,000 steps and has not taken every row of its state tables 100 times is reported, and is
    a failure.

    \b
    Exit status: 0 nothing was found, 1 something was or was not reached, 2 a wrong argument or setting.

    \b
    Examples:
      xlattice fuzz run
      xlattice fuzz run --machine responder-client --time 1h --workers 4
      xlattice fuzz run --driver memory --seed 7 --steps 10000
      xlattice fuzz run --campaign fuzz/night.toml --database redis://127.0.0.1:6379/0
      xlattice fuzz run --target 127.0.0.1:7772 --card cluster.card --time 2m
    """
    from xlattice_trio.fuzz.campaign import Campaign
    from xlattice_trio.fuzz.finding import keep

    given = {key: value for key, value in options.items() if value not in (None, ())}
    failed = False
    for plan in _plans(given, campaign):
        report = _with_progress(Campaign(plan).run)
        for line in _report(report):
            click.echo(line)
        for found in report.found:
            for path in keep(found, corpus or _FINDINGS):
                click.echo(f"  written: {path}")
        failed |= not report.is_good
    if failed:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _plans(given: dict[str, Any], campaign: Path | None) -> Iterator["Plan"]:
    """The plan that the options are, or those of the campaign with the options over them."""
    if campaign is None:
        yield _plan(given)
        return
    try:
        with campaign.open("rb") as file:
            runs = tomllib.load(file)["run"]
        for one in runs:
            known = {"machines", "driver", "time", "steps", "seed", "workers", "database"}
            if unknown := one.keys() - known:
                raise UsageError(f"{campaign}: there is no key {', '.join(sorted(unknown))}")
            if "time" in one:
                one["seconds"] = DURATION.convert(one.pop("time"), None, None)
            yield _plan({**one, **given})
    except (tomllib.TOMLDecodeError, KeyError, TypeError, click.BadParameter, OSError) as exc:
        raise UsageError(f"{campaign}: {exc}") from exc


def _plan(given: dict[str, Any]) -> "Plan":
    from xlattice_trio.fuzz.campaign import Plan
    from xlattice_trio.fuzz.drivers import address_of
    from xlattice_trio.fuzz.machines import find_machine, machines

    live: dict[str, str] = {key: str(given[key]) for key in ("target", "card", "member", "identity") if key in given}
    if live and not {"target", "card"} <= live.keys():
        raise UsageError("a target needs --target and --card; --member and --identity go with these")
    if live and "driver" in given:
        raise UsageError("--target and --driver are two kinds of targets: give one")
    if live:
        address_of(live["target"])
    driver = "live" if live else given.get("driver", "sansio")
    chosen = list(dict.fromkeys(given.get("machines", ())))
    if not chosen:
        chosen = [name for name, info in machines().items() if driver in info.drivers]
    for name in chosen:
        find_machine(name)
    database = given.get("database")
    if database is None and "seed" not in given:
        database = str(_DATABASE)
    return Plan(
        machines=chosen,
        driver=driver,
        seconds=given.get("seconds", 600.0),
        steps=given.get("steps"),
        seed=given.get("seed", secrets.randbits(32)),
        workers=given.get("workers", 1),
        database=database,
        live=live or None,
    )


def _with_progress(run: Callable[[Callable[["Report"], None]], "Report"]) -> "Report":
    console = Console(stderr=True)
    if console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            return run(lambda report: live.update(_progress_table(report), refresh=True))
    said = 0.0

    def say(report: "Report") -> None:
        nonlocal said
        if report.seconds >= said + _LINE_EVERY:
            said = report.seconds
            click.echo(_progress_line(report), err=True)

    return run(say)


def _progress_table(report: "Report") -> Table:
    from xlattice_trio.fuzz.campaign import corpus_size

    left = max(0.0, report.plan.seconds - report.seconds)
    table = Table(title=f"{report.plan.driver}, seed {report.plan.seed}, {left:.0f} s left", title_justify="left")
    for name in ("machine", "examples", "steps", "states", "transitions", "found"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for name, done in report.machines.items():
        so_far = done.so_far()
        states, transitions = _reach(name, so_far.reached)
        found = sum(one.job.machine == name for one in report.found)
        table.add_row(name, f"{so_far.examples:,}", f"{so_far.steps:,}", states, transitions, str(found))
    table.caption = f"{corpus_size(report.plan.database)} examples kept in the database"
    return table


def _progress_line(report: "Report") -> str:
    from xlattice_trio.fuzz.campaign import corpus_size

    so_far = [done.so_far() for done in report.machines.values()]
    examples, steps = sum(one.examples for one in so_far), sum(one.steps for one in so_far)
    rows = sum(len(one.reached) for one in so_far)
    return (
        f"{report.seconds:.0f} s: {examples:,} examples, {steps:,} steps, {rows} transitions, "
        f"{corpus_size(report.plan.database)} examples kept, {len(report.found)} found"
    )


def _reach(name: str, reached: Any) -> tuple[str, str]:
    """States and transitions: taken, of those that are demanded of the machine."""
    from xlattice_trio.fuzz import reach
    from xlattice_trio.fuzz.machines import find_machine

    demanded = reach.demanded(find_machine(name).tables)
    if not reached:
        return "-", "-"  # nothing is known of a live target
    if not demanded:
        return "-", str(len(reached))
    taken = demanded & reached.keys()
    states = [len({row[:2] for row in rows}) for rows in (taken, demanded)]
    return f"{states[0]} of {states[1]}", f"{len(taken)} of {len(demanded)}"


def _report(report: "Report") -> Iterator[str]:
    from xlattice_trio.fuzz.campaign import REACH_STEPS, REACH_TIMES

    plan = report.plan
    yield f"{plan.driver}, seed {plan.seed}, {plan.workers} workers, {report.seconds:.0f} s"
    for name, done in report.machines.items():
        states, transitions = _reach(name, done.reached)
        rate = f"{done.steps / done.seconds:,.0f} a second" if done.seconds else "no time was left for it"
        few = "" if done.steps >= REACH_STEPS or plan.driver == "live" else "; too few steps to judge its reach"
        yield (
            f"  {name}: {done.examples:,} examples, {done.steps:,} steps ({rate}), states {states}, "
            f"transitions {transitions}{few}"
        )
    for name, rows in report.unreached().items():
        yield f"{name}: not taken {REACH_TIMES} times in {report.machines[name].steps:,} steps:"
        for row in rows:
            yield f"  {row[0]}: {row[1]}, {row[2]}: {report.machines[name].reached[row]} times"
    for error in report.errors:
        yield f"error: {error}"
    for found in report.found:
        failure = found.failure
        yield f"FOUND by {found.job.machine}: {failure.error}, at {failure.where}: {failure.message}"
        yield from (f"    {line}" for line in failure.program)
        if not failure.program:
            yield "    (it could not be had again: see the batch's seed in the file)"
    yield "nothing was found" if not report.found else f"{len(report.found)} found"


# ---- replay ------------------------------------------------------------------


@fuzz.command()
@file_argument("file")
def replay(file: Path) -> None:
    """Run a finding again and tell its story: what was said on each connection, and what fails.

    FILE is a finding as `xlattice fuzz run` writes it, a Python file, or a candidate for a vector. It is a program: run
    only what you would run. A candidate "fails" as long as this program gives for it what it gave when it was found.

    \b
    Exit status: 0 it does not fail any more, 1 it does, 2 FILE is no finding.

    \b
    Examples:
      xlattice fuzz replay fuzz-findings/test_responder_0a1b2c3d4e.py
      xlattice fuzz replay fuzz-findings/test_responder_0a1b2c3d4e.vector.json
    """
    from xlattice_trio.fuzz import finding

    try:
        failed = finding.replay(file, click.echo)
    except OSError as exc:
        raise UsageError(f"{file} cannot be read: {exc.strerror}") from exc
    if failed:
        raise click.exceptions.Exit(ExitCode.FAILED)
