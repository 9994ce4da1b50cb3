"""`xlattice spec`: the specification that this program implements, held against it."""

from pathlib import Path

import click

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck import check as speccheck
from xlattice_trio.speccheck.tables import find_directory, shown


@click.group()
def spec() -> None:
    """The specification that this program implements."""


@spec.command()
@click.option(
    "--spec",
    "directory",
    type=click.Path(path_type=Path),
    help="Check the specification in this directory, not the one that belongs to this program.",
)
def check(directory: Path | None) -> None:
    """Hold the specification's tables against the code, both ways.

    Compared are the tables of messages (name, type and bounds of every field), enumerations, state machines, error
    codes, labels and limits; and every requirement that the code cites has to exist. Each difference is one line that
    names both places.

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
    for difference in report.differences:
        click.echo(difference)
    if report.differences:
        click.echo(
            f"{shown(directory)}: {len(report.differences)} difference{'s' * (len(report.differences) > 1)}", err=True
        )
        raise click.exceptions.Exit(1)
    click.echo(f"{shown(directory)}: {report.summary()}: specification and code agree")
