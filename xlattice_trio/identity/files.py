"""Files with what must not be lost, or not be seen by others: the bytes, and every refusal. Spec 2.6, 3.7.

What is replaced is replaced whole: new file, flush, rename, flush the directory. A private file is made with mode 0600,
and refused if it is not ours or if others have any access. So is a directory of private files where everybody can
replace them. What is in the files is `storage`'s.
"""

import contextlib
import enum
import functools
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from xlattice_trio.errors import StorageError

T = TypeVar("T")

log = logging.getLogger(__name__)

PRIVATE = 0o600
PUBLIC = 0o644
_DIRECTORY = 0o700
_OTHERS = 0o077  # every access of group and others
_HAS_MODES = os.name == "posix"


class FileProblem(enum.Enum):
    """What is wrong with a file."""

    MISSING = "it is not there"
    EXISTS = "it is there already"
    NOT_A_FILE = "it is no regular file"
    NOT_OURS = "it belongs to another user"
    OPEN_TO_OTHERS = "other users have access to it"
    UNREADABLE = "the system does not let it be read"
    UNWRITABLE = "the system does not let it be written"
    WRONG_KIND = "it holds something else"
    DAMAGED = "it is damaged"
    INVALID = "it is whole, and what it holds is not valid"
    MISMATCH = "it does not belong to the other files"
    PASSPHRASE_NEEDED = "it is encrypted and no passphrase was given"  # noqa: S105
    PASSPHRASE_WRONG = "it does not open with this passphrase"  # noqa: S105


class FileRefused(StorageError):
    """A file cannot be used or written: `path`, `problem`, and `found`, the label of its first line if that matters."""

    def __init__(self, path: Path, problem: FileProblem, message: str, found: str | None = None) -> None:
        super().__init__(path, message)
        self.problem = problem
        self.found = found


def read_file(path: Path, limit: int, *, private: bool) -> bytes:
    """All of a regular file, of at most `limit` bytes. A private one has to be ours alone."""
    with reading(path):
        # Non-blocking, so that a FIFO is refused and not waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise FileRefused(path, FileProblem.NOT_A_FILE, "a regular file is expected")
            if private:
                _check_ours_alone(path, status)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    if len(data) > limit:
        raise FileRefused(path, FileProblem.DAMAGED, f"it has more than the {limit} bytes that it can have")
    return data


def if_there(load: Callable[[], T]) -> T | None:
    """What `load` gives, or None if its file is missing."""
    try:
        return load()
    except FileRefused as exc:
        if exc.problem is FileProblem.MISSING:
            return None
        raise


def _check_ours_alone(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        raise FileRefused(
            path,
            FileProblem.NOT_OURS,
            f"it holds a secret and belongs to user {status.st_uid}, this program runs as user {os.geteuid()}: "
            f"run it as the owner, or change the owner",
        )
    if status.st_mode & _OTHERS:  # [ID-30]
        raise FileRefused(
            path,
            FileProblem.OPEN_TO_OTHERS,
            f"it holds a secret and its mode {stat.S_IMODE(status.st_mode):04o} lets other users in: "
            f"if they have not read it, chmod 600 {path}",
        )


def make_directory(directory: Path) -> None:
    with writing(directory):
        directory.mkdir(_DIRECTORY, parents=True, exist_ok=True)
        flush_directory(directory.parent)
    check_directory(directory)


def check_directory(directory: Path) -> None:
    """Refuses a directory of private files where everybody can put others in their place, and warns if a group can.

    Who can write in a directory can remove and rename what is in it, unless it is sticky. A group is often its user's
    own, or made for the purpose, so that it is only warned of.
    """
    try:
        mode = stat.S_IMODE(directory.stat().st_mode)
    except OSError:
        return  # whoever looks into it says what is wrong
    if mode & stat.S_ISVTX or not _HAS_MODES:
        return
    if mode & stat.S_IWOTH:
        raise FileRefused(
            directory,
            FileProblem.OPEN_TO_OTHERS,
            f"its mode {mode:04o} lets every user replace the private files in it: if nobody has, "
            f"chmod go-w {directory}",
        )
    if mode & stat.S_IWGRP:
        _warn_of_group(directory, mode)


@functools.cache
def _warn_of_group(directory: Path, mode: int) -> None:
    """Once for each directory."""
    log.warning("%s: its mode %04o lets its group replace the private files in it: chmod g-w it", directory, mode)


def create_file(path: Path, data: bytes) -> None:
    """Writes a private file that is not there yet."""
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)  # [ID-27]
        try:
            _fill(descriptor, data, PRIVATE)
        except BaseException:
            path.unlink()
            raise
        flush_directory(path.parent)


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Writes a file, or replaces it whole."""
    with writing(path):
        descriptor, name = tempfile.mkstemp(".tmp", f".{path.name}.", path.parent)  # of mode 0600 [ID-27]
        try:
            _fill(descriptor, data, mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
        flush_directory(path.parent)


def _fill(descriptor: int, data: bytes, mode: int) -> None:
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def remove_file(path: Path) -> None:
    with writing(path):
        path.unlink(missing_ok=True)
        flush_directory(path.parent)


def flush_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Gives the system's error its file."""
    try:
        yield
    except FileNotFoundError as exc:
        raise FileRefused(path, FileProblem.MISSING, "there is no such file") from exc
    except OSError as exc:
        raise FileRefused(path, FileProblem.UNREADABLE, f"cannot be read: {exc.strerror}") from exc


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Gives the system's error its file."""
    try:
        yield
    except FileExistsError as exc:
        raise already_there(path) from exc
    except OSError as exc:
        raise FileRefused(path, FileProblem.UNWRITABLE, f"cannot be written: {exc.strerror}") from exc


def already_there(path: Path) -> FileRefused:
    return FileRefused(
        path,
        FileProblem.EXISTS,
        "it is there already and is never overwritten: take another directory, or move it away (if something was "
        "interrupted that made it, remove it)",
    )
