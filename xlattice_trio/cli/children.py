"""Processes that a command starts, watches and ends: by their own handles, whatever happens to the command."""

import subprocess
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from xlattice_trio.cli.common import CheckFailed, say

_STOP_TIME = 5  # seconds from SIGTERM to SIGKILL


class ChildFailed(CheckFailed):
    """A process ended, or did not say what it should have said."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name


class Child:
    """A process whose output, both kinds, is read line by line, kept in `lines` and written to a file."""

    def __init__(self, name: str, process: trio.Process) -> None:
        self.name = name
        self.process = process
        self.lines: list[str] = []
        self._ended = False
        self._news = trio.Event()

    @property
    def pid(self) -> int:
        return self.process.pid

    async def read(self, log_file: Path) -> None:
        """Runs until the process closes its output."""
        assert self.process.stdout is not None
        rest = b""
        with log_file.open("ab") as file:
            async for data in self.process.stdout:
                file.write(data)
                file.flush()
                *lines, rest = (rest + data).split(b"\n")
                self.lines += [line.decode(errors="replace") for line in lines]
                self._wake()
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        news, self._news = self._news, trio.Event()
        news.set()

    async def wait_for(self, text: str, *, after: int = 0, seconds: float = 15) -> str:
        """The first line that holds `text`, of those from number `after` on. Raises ChildFailed."""
        with trio.move_on_after(seconds):
            while True:
                for line in self.lines[after:]:
                    if text in line:
                        return line
                if self._ended:
                    raise ChildFailed(self.name, f"ended before it said {text!r}")
                await self._news.wait()
        raise ChildFailed(self.name, f"has not said {text!r} within {seconds:g} s")

    async def stop(self) -> int:
        """SIGTERM, and SIGKILL if that is of no use; the exit status, negative for a signal."""
        with trio.CancelScope(shield=True):
            self.process.terminate()  # does nothing if it has ended, and kill neither
            with trio.move_on_after(_STOP_TIME):
                await self.process.wait()
            self.process.kill()
            await self.process.wait()
        assert self.process.returncode is not None
        return self.process.returncode


class Children:
    """All of them. The nursery is for the tasks that read what they say."""

    def __init__(self, nursery: trio.Nursery, logs: Path, environment: Mapping[str, str]) -> None:
        self.all: list[Child] = []
        self._nursery = nursery
        self._logs = logs
        self._environment = environment

    async def start(self, name: str, command: Sequence[str]) -> Child:
        process = await trio.lowlevel.open_process(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._environment,
        )
        child = Child(name, process)
        self.all.append(child)
        self._nursery.start_soon(child.read, self._logs / f"{name}.log")
        return child

    def show_last_words(self) -> None:
        """The end of what each has said, to standard error."""
        for child in self.all:
            for line in child.lines[-3:]:
                say(f"{child.name}: {line}")

    async def stop_all(self) -> dict[str, int]:
        """The exit status of each, those that had ended before included."""
        statuses: dict[str, int] = {}

        async def stop(child: Child) -> None:
            statuses[child.name] = await child.stop()

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                for child in self.all:
                    nursery.start_soon(stop, child)
        self.all.clear()
        return statuses


@asynccontextmanager
async def open_children(logs: Path, environment: Mapping[str, str]) -> AsyncIterator[Children]:
    """Processes of the block: at its end, however it comes, those that are left are stopped."""
    async with trio.open_nursery() as nursery:
        children = Children(nursery, logs, environment)
        try:
            yield children
        finally:
            await children.stop_all()
            nursery.cancel_scope.cancel()
