"""What stands in for threads and for key files while the node's own tasks run in memory.

Threads do not run the same way twice, and the clock of `memory` does not wait for them. So `trio.to_thread.run_sync` is
another one meanwhile: what was to be done in a thread takes `work` seconds of the clock here, and is then done at once.
The node's code is as it is.
"""

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import trio

from xlattice_trio.identity.keyring import KeyRing
from xlattice_trio.identity.keys import LocalIdentity

_LOG = logging.getLogger("xlattice_trio")


class KeysWithoutFiles(KeyRing):
    """A node's keys, of which none is in a file."""

    def __init__(self, directory: Path, identity: LocalIdentity) -> None:
        self._own = identity
        super().__init__(directory)

    def load(self) -> None:
        self.identity, self._next, self._previous = self._own, None, None


class StandIns:
    """Other functions in the places of some, a directory for a node's files, and a log that says nothing, until
    `close`. `hurry` ends the work of threads at once."""

    def __init__(self, work: float = 0.0) -> None:
        self.directory = _directory()
        self.hurry = trio.Event()
        self._work = work
        self._replaced: list[tuple[Any, str, Any]] = []
        self._log = logging.NullHandler()
        _LOG.addHandler(self._log)
        self._propagates, _LOG.propagate = _LOG.propagate, False
        self.replace(trio.to_thread, "run_sync", self._run_here)

    def replace(self, owner: Any, name: str, by: Any) -> None:
        """Until `close`."""
        self._replaced.append((owner, name, getattr(owner, name)))
        setattr(owner, name, by)

    async def _run_here(
        self, function: Callable[..., Any], *args: Any, abandon_on_cancel: bool = False, **_: Any
    ) -> Any:
        with trio.CancelScope(shield=not abandon_on_cancel):
            await trio.lowlevel.checkpoint()
            with trio.move_on_after(self._work):
                await self.hurry.wait()
        return function(*args)

    def close(self) -> None:
        """Everything is as it was, and the files are gone."""
        for owner, name, before in reversed(self._replaced):
            setattr(owner, name, before)
        _LOG.removeHandler(self._log)
        _LOG.propagate = self._propagates
        shutil.rmtree(self.directory, ignore_errors=True)


def _directory() -> Path:
    """For files that are written durably, and not to be kept: in memory, where there is such a place."""
    memory = Path("/dev/shm")  # noqa: S108 - mkdtemp makes the directory in it
    return Path(tempfile.mkdtemp(prefix="xlattice-fuzz-", dir=memory if memory.is_dir() else None))
