"""`xlattice spec`: the specification that this program implements, held against it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar

import click

from xlattice_trio.cli.common import ExitCode
from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck import check as speccheck
from xlattice_trio.speccheck import requirements as data
from xlattice_trio.speccheck.page import page
from xlattice_trio.speccheck.tables import SpecError, find_directory, read_specification, shown
from xlattice_trio.speccheck.trace import State, Trace, Traced, source_root
from xlattice_trio.speccheck.trace import trace as trace_requirements

F = TypeVar("F", bound=Callable[..., Any])

SOME = 5  # places of one kind that are shown without --verbose


@click.group()
def spec() -> None:
    """The specification that this program implements."""


def spec_option(what: str) -> Callable[[F], F]:
    """--spec: another directory than that of this program."""
    return click.option(
        "--spec",
        "directory",
        type=click.Path(path_type=Path),
        help=f"{what} the specification in this directory, not the one that belongs to this program.",
    )


# ---- check -------------------------------------------------------------------


@spec.command()
@spec_option("Check")
def check(directory: Path | None) -> None:
    """Hold the specification's tables and requirements against the code, both ways.

    Compared are the tables of messages (name, type and bounds of every field), enumerations, state machines, error
    codes, labels and limits; requirements.toml has to be what the text gives; and every requirement that the code, a
    test or a test vector cites has to exist. Each difference is one line that names both places.

    \b
    Exit status: 0 if there are no differences, 1 if there are, 2 if there is no specification to check.

    \b
    Examples:
      xlattice spec check
      xlattice spec check --spec ../draft/spec
    """
    try:
        directory = directory or find_directory()
        report = speccheck.check(directory)
    except UsageError as exc:
        raise click.UsageError(str(exc)) from exc
    _fail_by(directory, report.differences)
    click.echo(f"{shown(directory)}: {report.summary()}: specification and code agree")


def _fail_by(directory: Path, differences: Sequence[str]) -> None:
    """End with exit status 1 if there are differences."""
    for difference in differences:
        click.echo(difference)
    if differences:
        click.echo(f"{shown(directory)}: {len(differences)} difference{'s' * (len(differences) > 1)}", err=True)
        raise click.exceptions.Exit(ExitCode.FAILED)


# ---- requirements ------------------------------------------------------------


@spec.command()
@click.option("--write", is_flag=True, help="Make the file anew.")
@spec_option("Take")
def requirements(directory: Path | None, write: bool) -> None:
    """Say whether requirements.toml is what the specification's text gives.

    Level, section and text of a requirement come from the text; who is bound, how it can be tested and why it is exempt
    are said in the file, and kept. With --write a requirement that is new in the text gets a guess for these: look at
    it. An id that is in the file and no longer in the text is an error: ids are permanent.

    \b
    Exit status: 0 if it is, or was written; 1 with one line for each difference; 2 if there is no specification.

    \b
    Examples:
      xlattice spec requirements
      xlattice spec requirements --write
    """
    try:
        directory = directory or find_directory()
        read = read_specification(directory)
        if write:
            for line in data.write_file(read):
                click.echo(line)
        differences = list(data.differences(read, data.read_items(directory)))
    except UsageError as exc:
        raise click.UsageError(str(exc)) from exc
    except OSError as exc:
        raise click.UsageError(f"{exc.filename} cannot be written: {exc.strerror}") from exc
    except SpecError as exc:
        click.echo(exc)
        raise click.exceptions.Exit(ExitCode.FAILED) from exc
    _fail_by(directory, differences)
    click.echo(f"{shown(directory / data.FILE)}: {len(read.requirements)} requirements, as in the text")


# ---- trace -------------------------------------------------------------------


@spec.command()
@click.argument("only", metavar="[ID|SECTION]...", nargs=-1)
@click.option("--missing", is_flag=True, help="Only what makes the command fail.")
@click.option("--level", type=click.Choice(data.LEVELS, case_sensitive=False), help="Only requirements of this level.")
@click.option("--verbose", is_flag=True, help=f"All places, not the first {SOME} of each kind.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write it as one page into this file.")
@click.option("--source-url", help="Where the page finds the sources, with {path} and {line} in it.")
@click.option(
    "--coverage",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Say whether the cited code was executed in the run that this report of `coverage json` is of.",
)
@click.option(
    "--sources",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The source tree to look at: xlattice_trio/ and tests/. An installed program has no tests and needs this.",
)
@spec_option("Trace")
def trace(
    only: tuple[str, ...],
    missing: bool,
    level: str | None,
    verbose: bool,
    html: Path | None,
    source_url: str | None,
    coverage: Path | None,
    sources: Path | None,
    directory: Path | None,
) -> None:
    """Print, for every requirement, the code that cites it, the tests and vectors that exercise it, or its exemption.

    IDs and sections choose: `xlattice spec trace HS-27 5.7`. A requirement is tested (cited by code, and by a test or
    vector), untested (by code only), unimplemented (by a test or vector only), missing (by nothing), exempt, or
    withdrawn. A MUST has to be tested or exempt; a SHOULD or MAY is shown and never fails. What does not exist and is
    cited all the same comes before everything else.

    \b
    Exit status:
      0    every MUST is tested or exempt
      1    one line for each that is not
      2    there is no specification, no such requirement, or no source tree

    \b
    Examples:
      xlattice spec trace
      xlattice spec trace --missing
      xlattice spec trace --html trace.html --source-url 'https://git.example/tree/{path}#L{line}'
      coverage run -m pytest && coverage json && xlattice spec trace --coverage coverage.json
    """
    try:
        root = sources or source_root()
        beside = root / "spec"
        directory = directory or (beside if sources and beside.is_dir() else find_directory())
        found = trace_requirements(directory, root, coverage)
        _fail_by(directory, found.faults)
        chosen = list(_chosen(found, only, level))
        if html:
            html.write_text(page(found, source_url), encoding="utf-8")
    except UsageError as exc:
        raise click.UsageError(str(exc)) from exc
    except OSError as exc:
        raise click.UsageError(f"{html} cannot be written: {exc.strerror}") from exc
    if not missing:
        _echo_blocks(found, chosen, None if verbose else SOME)
    failing = [traced for traced in chosen if traced.fails]
    for traced in failing:
        click.echo(_failure(traced))
    _echo_summary(chosen)
    if failing:
        raise click.exceptions.Exit(ExitCode.FAILED)


def _chosen(found: Trace, only: Iterable[str], level: str | None) -> Iterator[Traced]:
    wanted = set(only)
    unknown = wanted - {traced.id for traced in found.requirements} - found.spec.sections.keys()
    if unknown:
        raise UsageError(f"{shown(found.spec.directory)} has no requirement and no section {min(unknown)}")
    for traced in found.requirements:
        section = traced.item.section
        if wanted and not wanted & {traced.id, section} and not any(section.startswith(f"{name}.") for name in wanted):
            continue
        if level in {None, traced.item.level}:
            yield traced


def _echo_blocks(found: Trace, chosen: Iterable[Traced], some: int | None) -> None:
    for section, group in groupby(chosen, lambda traced: traced.item.section):
        click.echo(f"{section} {found.spec.sections.get(section, '')}\n")
        for traced in group:
            item = traced.item
            click.echo(
                f"  {traced.id:7} {item.level:9} {traced.state.value:13} {item.binds}, {item.testability}{_run(traced)}"
            )
            _echo_places("code", traced.code, some)
            _echo_places("test", traced.tests, some)
            _echo_places("vector", traced.vectors, some)
            if item.exempt:
                click.echo(f"    exempt   {item.exempt}")
        click.echo()


def _run(traced: Traced) -> str:
    return "" if traced.executed is None else ", executed" if traced.executed else ", NOT executed"


def _echo_places(kind: str, places: Sequence[object], some: int | None) -> None:
    for place in places[:some]:
        click.echo(f"    {kind:8} {place}")
    if some and len(places) > some:
        click.echo(f"    {'':8} and {len(places) - some} more")


def _failure(traced: Traced) -> str:
    why = {
        State.UNTESTED: "cited by code, by no test and no vector",
        State.UNIMPLEMENTED: "tested, and cited by no code",
        State.MISSING: "cited by no code, no test and no vector",
    }
    return f"{traced.requirement.place} [{traced.id}] is {traced.state.value}: {why[traced.state]}"


def _echo_summary(chosen: Sequence[Traced]) -> None:
    """How many of each level and state; and what part of the MUSTs is covered."""
    states = [state for state in State if any(traced.state is state for traced in chosen)]
    click.echo(f"{'':9} {''.join(f'{state.value:>15}' for state in states)}{'all':>8}")
    for level in data.LEVELS:
        of_level = [traced.state for traced in chosen if traced.item.level == level]
        if of_level:
            click.echo(
                f"{level:9} {''.join(f'{of_level.count(state):15}' for state in states)}{len(of_level):8}".rstrip()
            )
    musts = [traced for traced in chosen if traced.item.level == "MUST"]
    covered = sum(not traced.fails for traced in musts)
    if musts:
        click.echo(f"MUSTs tested or exempt: {covered} of {len(musts)}, {_per_cent(covered, len(musts))} %")
    run = [traced.executed for traced in chosen if traced.executed is not None]
    if run:
        click.echo(f"requirements whose code was executed: {sum(run)} of {len(run)}")


def _per_cent(part: int, whole: int) -> str:
    """Rounded down: 100 is all of them."""
    return f"{part * 1000 // whole / 10:g}"
