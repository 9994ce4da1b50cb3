"""The command line as a whole: help, exit status, errors, logging."""

import errno
import logging
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import trio

import xlattice_trio
from tests.commands import PROGRAM, SOURCES, command_line, environment, save_cards, xlattice
from xlattice_trio.cli import main
from xlattice_trio.cli.common import CheckFailed, ExitCode, ReportingGroup, exit_code_of, shown
from xlattice_trio.client import NoMemberReachable
from xlattice_trio.errors import (
    ErrorCode,
    HandshakeRefused,
    IdentityError,
    PeerReported,
    RefusalReason,
    Truncated,
    UsageError,
)
from xlattice_trio.identity.storage import save_cluster_card
from xlattice_trio.roster import make_cluster_card
from xlattice_trio.testing.identities import test_authority, test_roster


def commands(command: click.Command, *names: str) -> Iterator[tuple[str, ...]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *names, name)
    else:
        yield names


# ---- help, version, exit status ----------------------------------------------


@pytest.mark.parametrize("names", list(commands(main)), ids=" ".join)
def test_help_of_every_command_has_an_example(names: tuple[str, ...]) -> None:
    text = xlattice(*names, "--help").stdout
    assert "Example" in text
    assert f"xlattice {' '.join(names)}" in text


def test_help_lists_the_exit_statuses() -> None:
    text = xlattice("--help").stdout
    statuses = text.partition("Exit status:")[2].partition("Options:")[0]
    assert [int(line.split()[0]) for line in statuses.splitlines() if line.strip()] == list(ExitCode)


def test_version_is_the_packages() -> None:
    assert xlattice("--version").stdout == f"xlattice, version {xlattice_trio.__version__}\n"
    project = SOURCES / "pyproject.toml"
    if project.exists():
        assert tomllib.loads(project.read_text())["project"]["version"] == xlattice_trio.__version__


def test_every_public_name_is_there() -> None:
    assert [name for name in xlattice_trio.__all__ if not hasattr(xlattice_trio, name)] == []


def test_package_runs_as_a_module() -> None:
    ended = subprocess.run([*PROGRAM, "--version"], capture_output=True, env={"PYTHONPATH": str(SOURCES)}, check=True)
    assert ended.stdout.startswith(b"xlattice, version ")


@pytest.mark.parametrize(
    ("exc", "code"),
    [
        (UsageError("x"), ExitCode.USAGE),
        (IdentityError("x"), ExitCode.FILES),
        (CheckFailed("x"), ExitCode.FAILED),
        (NoMemberReachable("demo", []), ExitCode.UNREACHED),
        (HandshakeRefused(RefusalReason.DEADLINE), ExitCode.UNREACHED),
        (Truncated(), ExitCode.SESSION),
        (PeerReported(ErrorCode.INTERNAL, "x"), ExitCode.SESSION),
        (trio.BrokenResourceError("x"), ExitCode.SESSION),
        (ZeroDivisionError(), None),
        (OSError(), None),
    ],
    ids=repr,
)
def test_exit_status_says_whose_fault_it_was(exc: Exception, code: ExitCode | None) -> None:
    assert exit_code_of(exc) is code


@pytest.mark.parametrize(
    ("exc", "status", "text"),
    [
        (IdentityError("one"), 3, "Error: one\n"),
        (ExceptionGroup("", [ExceptionGroup("", [IdentityError("one")])]), 3, "Error: one\n"),
        (ExceptionGroup("", [Truncated(), Truncated(), UsageError("two")]), 5, f"Error: {Truncated()}; two\n"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (click.Abort(), 130, "interrupted\n"),
        (BaseExceptionGroup("", [KeyboardInterrupt(), UsageError("two")]), 130, "interrupted\n"),
    ],
    ids=repr,
)
def test_error_is_one_line(exc: BaseException, status: int, text: str) -> None:
    result = click.testing.CliRunner().invoke(failing_with(exc), ["fail"])
    assert (result.exit_code, result.stderr) == (status, text)


@pytest.mark.parametrize("exc", [ZeroDivisionError(), ExceptionGroup("", [UsageError("two"), ZeroDivisionError()])])
def test_a_bug_is_not_hidden(exc: Exception) -> None:
    assert click.testing.CliRunner().invoke(failing_with(exc), ["fail"]).exception is exc


def failing_with(exc: BaseException) -> click.Group:
    @click.group(cls=ReportingGroup)
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise exc

    return group


def test_output_that_nobody_reads_ends_a_command_quietly(tmp_path: Path) -> None:
    save_cards(tmp_path, members=1)
    read_end, write_end = os.pipe()
    os.close(read_end)
    words = command_line("node", "--help")
    ended = subprocess.run(words, stdout=write_end, stderr=subprocess.PIPE, env=environment(tmp_path), check=False)
    os.close(write_end)
    assert (ended.returncode, ended.stderr) == (1, b"")


def test_demo_whose_output_nobody_reads_any_more_ends_quietly(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        command_line("demo"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)
    )
    assert demo.stdout is not None
    assert demo.stderr is not None
    assert demo.stdout.readline()
    demo.stdout.close()
    assert demo.stderr.read() == b""
    assert demo.wait() == 1
    demo.stderr.close()


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize(
    "words", [["--help"], ["node", "--help"], ["cluster", "show", "node-0.card"], ["demo"]], ids=str
)
def test_output_that_there_is_no_room_for_is_one_line_and_status_1(words: list[str], tmp_path: Path) -> None:
    save_cluster_card(tmp_path / "node-0.card", make_cluster_card(test_authority(), test_roster()))
    with FULL.open("wb") as full:
        ended = subprocess.run(
            command_line(*words),
            stdout=full,
            stderr=subprocess.PIPE,
            env=environment(tmp_path),
            cwd=tmp_path,
            text=True,
            check=False,
        )
    assert (ended.returncode, ended.stderr) == (
        1,
        f"Error: standard output cannot be written to: {os.strerror(errno.ENOSPC)}\n",
    )


def started_with(closed: str, words: list[str], directory: Path) -> subprocess.CompletedProcess[str]:
    """A command that a shell starts with this descriptor closed."""
    return subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command_line(*words)],
        capture_output=True,
        env=environment(directory),
        text=True,
        check=False,
    )


def test_closed_output_is_an_error(tmp_path: Path) -> None:
    ended = started_with(">&-", ["--help"], tmp_path)
    assert (ended.returncode, ended.stderr) == (1, "Error: standard output cannot be written to: it is closed\n")


def test_no_file_or_connection_gets_the_number_of_what_is_closed(tmp_path: Path) -> None:
    code = (
        "import os; from xlattice_trio.cli.common import hold_standard_descriptors as hold; hold(); "
        "file = os.open(os.devnull, os.O_RDONLY); os.write(1, b'%d' % file)"
    )
    for closed in ("<&-", "2>&-", "<&- 2>&-"):
        ended = subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            env=environment(tmp_path),
            check=True,
        )
        assert int(ended.stdout) > 2


@pytest.mark.parametrize(
    ("flags", "level"),
    [
        ([], logging.WARNING),
        (["-v"], logging.INFO),
        (["-vv"], logging.DEBUG),
        (["-vvvv"], logging.DEBUG),
        (["-q"], logging.ERROR),
        (["-qqq"], logging.ERROR),
        (["-v", "-q"], logging.WARNING),
    ],
)
def test_verbosity_sets_the_level(flags: list[str], level: int, tmp_path: Path) -> None:
    xlattice(*flags, "cluster", "show", tmp_path / "none", status=3)
    assert logging.getLogger("xlattice_trio").level == level


def test_texts_of_others_do_not_move_the_cursor() -> None:
    assert shown("a\u202eb\u200bé") == "a\\u202eb\\u200bé"
