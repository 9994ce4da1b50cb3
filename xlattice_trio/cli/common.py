"""What all commands share: exit codes, errors as one line, logging, passphrases, texts from others.

Data goes to standard output. Everything that is said about it goes to standard error.
"""

import enum
import errno
import getpass
import json
import logging
import math
import os
import shlex
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click
import trio
from rich.console import Console

from xlattice_trio.client import NoMemberReachable
from xlattice_trio.crypto import RSA_BITS
from xlattice_trio.errors import HandshakeRefused, IdentityError, UsageError, XLatticeError
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.roster import VerifiedMember

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
N = TypeVar("N", VerifiedMember, VerifiedCard)

log = logging.getLogger(__name__)

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}

# ---- exit codes and errors ---------------------------------------------------


class ExitCode(enum.IntEnum):
    """How a command ends; the texts stand in `xlattice --help`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    FILES = 3
    UNREACHED = 4
    SESSION = 5
    INTERRUPTED = 130


class CheckFailed(XLatticeError):
    """A command that checks something has found that it is not as it should be."""


class ReportingGroup(click.Group):
    """Turns what a command raises into one line and the documented exit code. A bug keeps its traceback."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the command. If its output is lost, that is said, unless nobody reads it: click ends it quietly then."""
        hold_standard_descriptors()
        if sys.stdout is None:
            _end_without_output("it is closed")
        try:
            return super().main(*args, **kwargs)
        except OSError as exc:
            if not is_output_lost(exc):
                raise
            _end_without_output(str(exc.strerror))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except (KeyboardInterrupt, click.Abort, XLatticeError, trio.BrokenResourceError, BaseExceptionGroup) as exc:
            causes = list(leaves(exc))
            if any(isinstance(cause, KeyboardInterrupt | click.Abort) for cause in causes):
                say("interrupted")
                raise click.exceptions.Exit(ExitCode.INTERRUPTED) from None
            if is_output_lost(causes[0]):
                raise causes[0] from None
            codes = [exit_code_of(cause) for cause in causes]
            if codes[0] is None or None in codes:
                raise
            say("Error: " + "; ".join(dict.fromkeys(map(str, causes))))
            raise click.exceptions.Exit(codes[0]) from None


def is_output_lost(exc: BaseException) -> bool:
    """Whether this is what writing to standard output raises, where nobody reads it or there is no room."""
    lost = (errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
    return isinstance(exc, OSError) and exc.errno in lost and exc.filename is None


def _end_without_output(problem: str) -> NoReturn:
    say(f"Error: standard output cannot be written to: {problem}")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # for what is still in Python's buffer
    sys.exit(ExitCode.FAILED)


def hold_standard_descriptors() -> None:
    """What was closed of 0, 1 and 2 is the null device from now on: no file or connection gets such a number."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def leaves(exc: BaseException) -> Iterator[BaseException]:
    """What an exception group is about, however deep; of any other exception, itself."""
    if isinstance(exc, BaseExceptionGroup):
        for inner in exc.exceptions:
            yield from leaves(inner)
    else:
        yield exc


def exit_code_of(exc: BaseException) -> ExitCode | None:
    """The exit code for an error that is not a bug of ours; None for anything else."""
    match exc:
        case CheckFailed():
            return ExitCode.FAILED
        case IdentityError():
            return ExitCode.FILES
        case UsageError():
            return ExitCode.USAGE
        case NoMemberReachable() | HandshakeRefused():
            return ExitCode.UNREACHED
        case XLatticeError() | trio.BrokenResourceError():
            return ExitCode.SESSION
    return None


# ---- arguments ---------------------------------------------------------------


class Seconds(click.FloatRange):
    """A time that one can wait for: click takes nan for a number in every range."""

    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


def directory_argument(metavar: str = "DIR") -> Callable[[F], F]:
    """An argument `directory`."""
    return click.argument("directory", metavar=metavar, type=click.Path(path_type=Path, file_okay=False))


def file_argument(name: str) -> Callable[[F], F]:
    return click.argument(name, metavar=name.upper(), type=click.Path(path_type=Path, dir_okay=False))


def bits_option(default: str, text: str) -> Callable[[F], F]:
    """--bits, a text: click before 8.2 has no choices of numbers."""
    sizes = [str(bits) for bits in RSA_BITS]
    return click.option("--bits", type=click.Choice(sizes), default=default, show_default=True, help=text)


def refuse_existing(directory: Path, names: Iterable[str], what: str) -> None:
    """Before anything takes its time: raises FileRefused if one of these files is there."""
    for name in names:
        if os.path.lexists(directory / name):
            raise FileRefused(
                directory / name,
                FileProblem.EXISTS,
                f"there is {what} in this directory already, and none is ever overwritten: take another directory",
            )


passphrase_option = click.option(
    "--passphrase-file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Read the passphrase of the private keys from the first line of FILE. Without it, it is asked for.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


# ---- logging -----------------------------------------------------------------

_VERBOSITY = "xlattice_trio.verbosity"
_LEVELS = (logging.ERROR, logging.WARNING, logging.INFO, logging.DEBUG)


class _StandardError(logging.Handler):
    """Writes to the standard error of the moment."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


def logging_options(function: F) -> F:
    """-v and -q, which add up over the command line, before and after the command's name."""

    def count(ctx: click.Context, parameter: click.Parameter, value: int) -> None:
        sign = 1 if parameter.name == "verbose" else -1
        ctx.meta[_VERBOSITY] = ctx.meta.get(_VERBOSITY, 0) + sign * value
        set_up_logging(ctx)

    quiet = click.option(
        "-q", "--quiet", count=True, expose_value=False, callback=count, help="Log less to standard error."
    )
    verbose = click.option(
        "-v", "--verbose", count=True, expose_value=False, callback=count, help="Log more; -vv logs everything."
    )
    return verbose(quiet(function))


def set_up_logging(ctx: click.Context, usual: int = logging.WARNING) -> None:
    """Log to standard error, from the level `usual` up, moved by -v and -q."""
    level = _LEVELS[max(0, min(len(_LEVELS) - 1, _LEVELS.index(usual) + ctx.meta.get(_VERBOSITY, 0)))]
    handler = _StandardError()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("xlattice_trio")
    logger.handlers[:] = [handler]
    logger.setLevel(level)


# ---- passphrases -------------------------------------------------------------


def read_passphrase(path: Path) -> bytes:
    """The first line of a file, without its end: UTF-8, as it is. [ID-36] Raises FileRefused; UsageError if it is empty
    or not UTF-8.

    A file that others can read is only warned of: it opens nothing without the key file, which is refused then, and
    where containers get their secrets from it is usual.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            line = file.readline(65_536)
    except OSError as exc:
        problem = FileProblem.MISSING if isinstance(exc, FileNotFoundError) else FileProblem.UNREADABLE
        raise FileRefused(path, problem, f"the passphrase cannot be read: {exc.strerror}") from exc
    if stat.S_ISREG(mode) and mode & 0o077:
        log.warning("%s: it holds a passphrase and other users have access to it: chmod 600 %s", path, path)
    passphrase = line.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise UsageError(f"{path}: its first line is empty; a passphrase is expected there")
    try:
        passphrase.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{path}: its first line is not UTF-8; a passphrase is text in UTF-8") from None
    return passphrase


def with_passphrase(load: Callable[[bytes | None], T], passphrase_file: Path | None) -> T:
    """What `load` gives with the passphrase that its files need: none, that of the file, or one that is asked for."""
    if passphrase_file is not None:
        return load(read_passphrase(passphrase_file))
    try:
        return load(None)
    except FileRefused as exc:
        if exc.problem is not FileProblem.PASSPHRASE_NEEDED:
            raise
        return load(_ask(f"Passphrase of {exc.path}: ", exc))


def new_passphrase(passphrase_file: Path | None, *, none: bool) -> bytes | None:
    """The passphrase for new private keys: asked for on a terminal unless a file, or `none`, says it."""
    if passphrase_file is not None:
        return read_passphrase(passphrase_file)
    if none or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    first = _typed("Passphrase for the private keys (empty for none): ")
    if first and _typed("The same again: ") != first:
        raise UsageError("the two passphrases differ: nothing was written")
    return first or None


def _ask(prompt: str, needed: FileRefused) -> bytes:
    """Asks on the terminal, wherever standard input comes from."""
    try:
        Path("/dev/tty").open("rb").close()
    except OSError:
        raise FileRefused(
            needed.path, needed.problem, "it is encrypted and there is no terminal to ask on: give --passphrase-file"
        ) from needed
    return _typed(prompt)


def _typed(prompt: str) -> bytes:
    """A line from the terminal, in UTF-8 whatever the terminal's encoding is. [ID-36] Raises UsageError."""
    try:
        return getpass.getpass(prompt).encode()
    except UnicodeError:
        raise UsageError("what was typed is not text in the terminal's encoding; a passphrase is text") from None


# ---- output ------------------------------------------------------------------


def print_json(value: object) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    click.echo(_escaped(text, lambda c: json.dumps(c)[1:-1]))  # [SC-3]


def say(text: str = "") -> None:
    """To the person at the keyboard, not to the program behind the pipe."""
    click.echo(_escaped(text, _backslashed), err=True)  # [SC-3]


def command(*words: str | Path) -> str:
    """A command of ours, to be pasted into a shell."""
    return shlex.join([*program(), *map(str, words)])


def program() -> Sequence[str]:
    """How a shell calls this program, wherever it is installed."""
    own = own_program()
    return ["xlattice"] if [shutil.which("xlattice")] == own else own


def own_program() -> list[str]:
    """This program, to be started as a process."""
    beside = Path(sys.executable).with_name("xlattice")
    return [str(beside)] if beside.exists() else [sys.executable, "-m", "xlattice_trio"]


def shown(text: str) -> str:
    """A text of somebody else's, such as a node's name, without what could confuse a terminal. [SC-3]"""
    return "".join(c if c.isprintable() else _backslashed(c) for c in text)


def _escaped(lines: str, escape: Callable[[str], str]) -> str:
    return "".join(c if c.isprintable() or c == "\n" else escape(c) for c in lines)


def _backslashed(character: str) -> str:
    return character.encode("unicode_escape").decode()


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Something to look at, on a terminal, while it takes its time."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        yield


# ---- nodes -------------------------------------------------------------------


def find(text: str, nodes: Mapping[NodeID, N], kind: str) -> NodeID:
    """The node that has this NodeID or, if none has, this name. Raises UsageError."""
    for spelling in (lambda node: str(node.node_id), lambda node: node.name):
        for node_id, node in nodes.items():
            if spelling(node) == text:
                return node_id
    known = ", ".join(shown(node.name) for node in nodes.values()) or "none"
    raise UsageError(f"no {kind} has the name or NodeID {text!r}; there are: {known}")


def who(node: VerifiedCard | VerifiedMember) -> str:
    return f"{shown(node.name)} ({node.node_id})"
