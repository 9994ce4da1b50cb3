"""The local side of `xlattice connect` and `xlattice forward`: standard input and output, local sockets, signals."""

import errno
import logging
import os
import signal
import socket
import stat
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import attrs
import click
import trio

from xlattice_trio.errors import UsageError, XLatticeError
from xlattice_trio.net.reasons import reason
from xlattice_trio.services.forward import TCPTarget, UnixTarget, parse_target

log = logging.getLogger(__name__)

_RECEIVE_SIZE = 65_536

# ---- standard input and output -----------------------------------------------


class StandardStreams(trio.abc.HalfCloseableStream):
    """Standard input and output as one stream.

    Threads read and write, so that files work as well as pipes, and whoever shares the terminal does not find it
    non-blocking. A thread that still waits when the command ends is left behind.
    """

    def __init__(self) -> None:
        self._input, self._output = 0, 1
        self._reading: trio.CancelScope | None = None
        self._input_ended = False

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if self._input_ended:
            return b""
        with trio.CancelScope() as self._reading:
            return await trio.to_thread.run_sync(
                os.read, self._input, max_bytes or _RECEIVE_SIZE, abandon_on_cancel=True
            )
        return b""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.to_thread.run_sync(_write_all, self._output, bytes(data), abandon_on_cancel=True)

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def send_eof(self) -> None:
        """The answer is complete: whoever reads it sees its end. At a terminal, nothing more is typed."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self._output)  # the descriptor stays taken, and Python's sys.stdout can be flushed
        os.close(nothing)
        if os.isatty(self._input):
            self._input_ended = True
            if self._reading is not None:
                self._reading.cancel()
        await trio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


# ---- local sockets -----------------------------------------------------------


@attrs.frozen
class LocalListeners:
    """Sockets that accept, and how to call them: addresses for TCP, a path for a UNIX socket."""

    listeners: list[trio.SocketListener]
    names: list[str]
    path: Path | None = None

    def forget(self) -> None:
        """Remove the UNIX socket's file; the listeners are closed."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()


async def open_local_listeners(address: str) -> LocalListeners:
    """Listen on HOST:PORT, [IPV6]:PORT (port 0 is any that is free) or unix:/path. Raises UsageError."""
    target = parse_target(address, lowest_port=0)
    try:
        if isinstance(target, UnixTarget):
            return LocalListeners([_listen_on_path(target.path)], [str(target)], Path(target.path))
        listeners = await trio.open_tcp_listeners(target.port, host=target.host)
    except OSError as exc:
        raise UsageError(f"cannot listen on {address}: {reason(exc)}") from exc
    return LocalListeners(listeners, [str(TCPTarget(*listener.socket.getsockname()[:2])) for listener in listeners])


def _listen_on_path(path: str) -> trio.SocketListener:
    """For this user only. A socket that nobody listens on any more is replaced."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if _is_left_over(path):
            Path(path).unlink()
        before = os.umask(0o177)
        try:
            listening.bind(path)
        finally:
            os.umask(before)
        listening.listen()
    except BaseException:
        listening.close()
        raise
    return trio.SocketListener(trio.socket.from_stdlib_socket(listening))


def _is_left_over(path: str) -> bool:
    with suppress(FileNotFoundError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        return stat.S_ISSOCK(Path(path).stat().st_mode) and probe.connect_ex(path) == errno.ECONNREFUSED
    return False


async def reset(local: trio.abc.AsyncResource) -> None:
    """Close a connection so that its other end reads an error and not the end of the data."""
    if isinstance(local, trio.SocketStream):
        with suppress(OSError):
            local.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(local)


# ---- signals -----------------------------------------------------------------


async def end_on_signals(
    *numbers: signal.Signals, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """For a task of its own: these signals end the command as an interrupted one, after what has to be done yet."""
    with trio.open_signal_receiver(*numbers) as signals:
        task_status.started()
        async for _ in signals:
            raise click.Abort


# ---- serving -----------------------------------------------------------------


async def serve_until_signal(
    handler: Callable[[trio.SocketStream], Awaitable[None]],
    open_listeners: Callable[[], Awaitable[LocalListeners]],
    grace: float,
) -> None:
    """Run `handler` for each connection, in a task of its own, until SIGINT or SIGTERM arrives.

    Connections then have `grace` seconds to end by themselves; a second signal ends them at once. An error of the
    package's ends one connection, with one line in the log.
    """
    local = await open_listeners()
    stop = trio.Event()

    async def handle(stream: trio.SocketStream) -> None:
        try:
            await handler(stream)
        except (XLatticeError, trio.BrokenResourceError) as exc:
            log.warning("a connection ended: %s", exc)

    async def watch(scope: trio.CancelScope, task_status: trio.TaskStatus[None]) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                if stop.is_set():
                    scope.cancel()
                else:
                    log.info("%s: stopping, within %g s", signal.Signals(number).name, grace)
                    scope.deadline = trio.current_time() + grace
                    stop.set()

    try:
        async with trio.open_nursery() as background:
            async with trio.open_nursery() as connections:
                await background.start(watch, connections.cancel_scope)
                async with trio.open_nursery() as accepting:
                    await accepting.start(
                        partial(trio.serve_listeners, handle, local.listeners, handler_nursery=connections)
                    )
                    for name in local.names:
                        click.echo(f"listening on {name}")
                    await stop.wait()
                    accepting.cancel_scope.cancel()
            background.cancel_scope.cancel()
    finally:
        local.forget()
