"""`xlattice vectors`: the test vectors of the specification, made and checked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console

from xlattice_trio.cli.common import CheckFailed, ExitCode
from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck.citations import VECTORS
from xlattice_trio.speccheck.tables import find_directory, shown
from xlattice_trio.vectors import check as vectorcheck
from xlattice_trio.vectors import files, run
from xlattice_trio.vectors.model import Area


@click.group()
def vectors() -> None:
    """The test vectors of the specification: known answers for other implementations."""


@contextmanager
def _progress() -> Iterator[Callable[[Area], None]]:
    """Says on a terminal which file is at hand."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("Beginning") as status:
            yield lambda area: status.update(area.file)
    else:
        yield lambda _area: None


# ---- generate ----------------------------------------------------------------


@vectors.command()
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False))
def generate(directory: Path) -> None:
    """Make all vectors, with fixtures, schemas and manifest, in a new or empty DIRECTORY.

    Two runs give the same bytes. The accumulated vectors of a million cases take a minute or two.

    \b
    Exit status: 0 if they were made, 1 if this program does not do what a vector says, 2 if DIRECTORY is not empty.

    \b
    Examples:
      xlattice vectors generate /tmp/vectors
    """
    try:
        files.prepare(directory)
        with _progress() as begin:
            made = list(run.generate(run.new_runner(), run.levels_of(find_directory()), begin))
            files.write(directory, files.all_files(made))
    except UsageError as exc:
        raise click.UsageError(str(exc)) from exc
    except run.Mismatch as exc:
        raise CheckFailed(str(exc)) from exc
    click.echo(f"{shown(directory)}: {sum(len(found) for _, found in made)} vectors in {len(made)} files")


# ---- check -------------------------------------------------------------------


@vectors.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--fast", is_flag=True, help=f"Leave out accumulated vectors of more than {run.FAST_CASES:,} cases.")
def check(directory: Path | None, fast: bool) -> None:
    """Check the vectors that belong to this program, or those in DIRECTORY, in every way that they can be wrong.

    Every file has to have the digest in the manifest and the form that its schema says; no two vectors may ask the
    same, nor cite a requirement that does not exist; this program has to answer each as it says; and making them all
    anew has to give the same. Each problem is one line that names file and vector.

    \b
    Exit status: 0 if there is no problem, 1 if there is one, 2 if there are no vectors.

    \b
    Examples:
      xlattice vectors check
      xlattice vectors check --fast
      xlattice vectors check ../draft/spec/vectors
    """
    try:
        spec = find_directory()
        directory = directory or spec / VECTORS
        with _progress() as begin:
            report = vectorcheck.check(directory, spec, fast=fast, begin=begin)
    except UsageError as exc:
        raise click.UsageError(str(exc)) from exc
    for problem in report.problems:
        click.echo(problem)
    if report.problems:
        count = len(report.problems)
        click.echo(f"{shown(directory)}: {count} problem{'s' * (count > 1)}", err=True)
        raise click.exceptions.Exit(ExitCode.FAILED)
    left_out = f", {report.left_out} that take long left out" if report.left_out else ""
    click.echo(f"{shown(directory)}: {report.checked} vectors hold{left_out}")
