"""`forward`: an existing server becomes the cluster's service, unchanged and whatever its protocol.

Each stream is carried on to a connection of its own to the target, a TCP address or a UNIX socket. The target sees
connections from this member and nothing of the cluster; who may come is decided by the ports that the service is on.
What happens at the end of a stream, clean or not, is `net.relay`'s: half-close both ways, and a failure on one side is
a failure on the other. Spec 8.4.
"""

import logging
import re
from ipaddress import AddressValueError, IPv6Address

import attrs
import trio

from xlattice_trio.errors import ErrorCode, SessionEnded, UsageError, WriteStalled
from xlattice_trio.net.reasons import reason
from xlattice_trio.net.relay import LocalSideBroken, relay
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.services.registry import Service, ServiceContext

log = logging.getLogger(__name__)

CONNECT_DEADLINE = 10  # seconds

_UNIX = "unix:"
_PORT = re.compile("[0-9]{1,5}")
_NOT_IN_A_HOST = re.compile(r"[\s/@:\[\]]")


@attrs.frozen
class TCPTarget:
    """A TCP address; `host` is an address or a name, which is looked up for each connection."""

    host: str
    port: int

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@attrs.frozen
class UnixTarget:
    """A UNIX socket."""

    path: str

    async def connect(self) -> trio.SocketStream:
        return await trio.open_unix_socket(self.path)

    def __str__(self) -> str:
        return f"{_UNIX}{self.path}"


Target = TCPTarget | UnixTarget


def parse_target(text: str, *, lowest_port: int = 1) -> Target:
    """Reads `HOST:PORT`, `[IPV6]:PORT` or `unix:/path`. Raises UsageError."""
    if text.startswith(_UNIX):
        path = text.removeprefix(_UNIX)
        if not path.startswith("/") or "\0" in path:
            raise UsageError(f"{text!r}: the path of a UNIX socket begins with a slash, as in unix:/run/server.sock")
        return UnixTarget(path)
    host, _, port = text.rpartition(":")
    if not _PORT.fullmatch(port) or not lowest_port <= int(port) <= 65535:
        raise UsageError(f"{text!r} names no port: HOST:PORT, [IPV6]:PORT or unix:/path expected")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        _check_ipv6(text, host)
    else:
        _check_host(text, host)
    return TCPTarget(host, int(port))


def _check_ipv6(text: str, host: str) -> None:
    try:
        IPv6Address(host)
    except AddressValueError as exc:
        raise UsageError(f"{text!r}: no IPv6 address stands between the brackets: {exc}") from None


def _check_host(text: str, host: str) -> None:
    if ":" in host:
        raise UsageError(f"{text!r}: write an IPv6 address in brackets, as in [::1]:80")
    try:
        host.encode("idna")
    except UnicodeError as exc:
        raise UsageError(f"{text!r} names no host: {exc}") from None
    if not host or _NOT_IN_A_HOST.search(host):
        raise UsageError(f"{text!r} names no host: HOST:PORT, [IPV6]:PORT or unix:/path expected")


def make(argument: str) -> Service:
    """The service that carries its streams on to the target that `argument` names. Raises UsageError."""
    target = parse_target(argument)

    async def forward(stream: SecureStream, context: ServiceContext) -> None:
        try:
            local = await _connect(target)
        except OSError as exc:
            log.warning("service %s: no connection to %s: %s", context.service, target, reason(exc))
            text = "the server behind this service does not answer"
            await stream.close_with_error(ErrorCode.INTERNAL, text)  # [SV-19] [EL-4]
            return
        try:
            await relay(stream, local)
        except LocalSideBroken as exc:
            log.warning("service %s: %s: %s", context.service, target, exc)
        except (WriteStalled, SessionEnded) as exc:
            raise trio.BrokenResourceError(str(exc)) from exc

    return forward


async def _connect(target: Target) -> trio.SocketStream:
    with trio.move_on_after(CONNECT_DEADLINE):
        return await target.connect()
    raise TimeoutError(None, f"no answer within {CONNECT_DEADLINE} s")
