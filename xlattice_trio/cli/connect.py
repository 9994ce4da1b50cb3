"""`xlattice connect` and `xlattice forward`: from a program that knows nothing of sessions to a cluster's service."""

import logging
import random
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import click
import trio

from xlattice_trio.cli import common
from xlattice_trio.cli.common import F, logging_options, passphrase_option
from xlattice_trio.cli.held import default_state, load_card_to_use
from xlattice_trio.cli.locally import (
    StandardStreams,
    end_on_signals,
    open_local_listeners,
    reset,
    serve_until_signal,
)
from xlattice_trio.client import ClusterClient, Failure, NoMemberReachable, open_member_stream
from xlattice_trio.errors import ErrorCode, HandshakeRefused, UsageError, XLatticeError
from xlattice_trio.identity.storage import ROSTER_FILE, load_identity, load_roster
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.link.backoff import Backoff
from xlattice_trio.net.relay import relay
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.services.registry import ServiceSpec

log = logging.getLogger(__name__)

# Opens a stream to the service; keepalives are sent by a task in the nursery.
Opener = Callable[[trio.Nursery], Awaitable[SecureStream]]


# ---- as whom, to whom --------------------------------------------------------


def dialling_options(wait: float) -> Callable[[F], F]:
    """What decides who dials whom; `opener_for` takes them. `wait` is a default, in seconds."""
    options = (
        click.option(
            "--cluster",
            "card_file",
            metavar="FILE",
            type=click.Path(path_type=Path, dir_okay=False),
            help="Come as a client of the cluster with this cluster card.",
        ),
        click.option(
            "--identity",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            help="Come as the node in DIR, which the cluster has listed as a client. Without it, anonymously.",
        ),
        click.option(
            "--node",
            "node_directory",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            help="Come as the member in DIR to another member, over the cluster port; needs --member.",
        ),
        click.option("--member", metavar="NAME|NODEID", help="Ask this member and no other."),
        click.option(
            "--wait",
            metavar="SECONDS",
            type=common.Seconds(0),
            default=wait,
            show_default=True,
            help="How long to go on trying if no member answers.",
        ),
        click.option(
            "--deadline",
            metavar="SECONDS",
            type=common.Seconds(0, min_open=True),
            default=HANDSHAKE_DEADLINE,
            show_default=True,
            help="How long to try one member.",
        ),
        click.option("--override", is_flag=True, help="Take this cluster card although a newer one was used before."),
        click.option(
            "--state",
            metavar="DIR",
            type=click.Path(path_type=Path, file_okay=False),
            envvar="XLATTICE_STATE",
            show_envvar=True,
            default=default_state,
            help="Where to keep which cluster cards were used. [default: ~/.local/state/xlattice]",
        ),
        passphrase_option,
        logging_options,
        click.argument("service"),
    )

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def opener_for(
    *,
    card_file: Path | None,
    identity: Path | None,
    node_directory: Path | None,
    member: str | None,
    wait: float,
    deadline: float,
    override: bool,
    state: Path,
    passphrase_file: Path | None,
    service: str,
) -> Opener:
    """Reads the files that the options name."""
    ServiceSpec(service, kind="any")  # a name that no service can have is refused before anybody is dialled
    if (card_file is None) == (node_directory is None):
        raise UsageError("one of --cluster, to come as a client, and --node, to come as a member, is needed, not both")
    if node_directory is not None:
        if member is None or identity is not None:
            raise UsageError("--node needs --member, and no --identity: the member comes as itself")
        return partial(_persistently, _member_opener(node_directory, member, service, deadline, passphrase_file), wait)
    assert card_file is not None
    card = load_card_to_use(card_file, state, override=override)
    own = common.with_passphrase(partial(load_identity, identity), passphrase_file) if identity else None
    client = ClusterClient(card, own, deadline=deadline)
    node_id = common.find(member, card.members, "member") if member is not None else None

    async def open_stream(nursery: trio.Nursery) -> SecureStream:
        return await client.open_stream(service, nursery=nursery, member=node_id)

    return partial(_persistently, open_stream, wait)


def _member_opener(directory: Path, member: str, service: str, deadline: float, passphrase_file: Path | None) -> Opener:
    identity = common.with_passphrase(partial(load_identity, directory), passphrase_file)
    roster = load_roster(directory / ROSTER_FILE)
    peer = roster.members[common.find(member, roster.members, "member")]

    async def open_stream(nursery: trio.Nursery) -> SecureStream:
        try:
            return await open_member_stream(identity, roster, peer.node_id, service, nursery=nursery, deadline=deadline)
        except (HandshakeRefused, OSError) as exc:
            raise NoMemberReachable(roster.name, [Failure(peer.name, peer.host, exc)]) from exc

    return open_stream


async def _persistently(open_stream: Opener, wait: float, nursery: trio.Nursery) -> SecureStream:
    """Go on trying for `wait` seconds, with the back-off between rounds. [SV-32] [SV-33]"""
    until = trio.current_time() + wait
    backoff = Backoff(random.uniform)
    while True:
        try:
            return await open_stream(nursery)
        except NoMemberReachable as exc:
            delay = backoff.next_delay()
            if trio.current_time() + delay > until:
                raise
            log.info("%s; next try in %.1f s", exc, delay)
        await trio.sleep(delay)


# ---- carrying ----------------------------------------------------------------


async def carry(open_stream: Opener, local: trio.abc.HalfCloseableStream) -> None:
    """Open a stream and carry `local` on it until both have ended; `local` is closed, or reset if something failed.

    Cancelled, it tells the peer by Error, never by Bye: what was not read of `local` has not been sent.
    Raises NoMemberReachable, UsageError, and what `relay` raises.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as keepalives:
        try:
            try:
                stream = await open_stream(keepalives)
            except BaseException:
                await reset(local)
                raise
            try:
                await relay(stream, local)
                await stream.aclose()
            except trio.Cancelled:
                with trio.CancelScope(shield=True):  # takes up to a second
                    await stream.close_with_error(ErrorCode.SHUTTING_DOWN, "the other side of this stream was stopped")
                raise
            finally:
                await trio.aclose_forcefully(stream)
        except (XLatticeError, trio.BrokenResourceError) as exc:
            failure = exc
        keepalives.cancel_scope.cancel()
    if failure is not None:
        raise failure


@click.command()
@dialling_options(wait=0.0)
def connect(**options: Any) -> None:
    """Connect standard input and output to SERVICE.

    What comes in on standard input goes to the service, its answer to standard output. The end of standard input is
    told to the service, which can still answer; at a terminal, the end of the answer ends the command.

    \b
    Examples:
      echo hello | xlattice connect --cluster cluster.card echo
      xlattice connect --cluster cluster.card --identity carol.node --member beta shell
      echo hello | xlattice connect --node alpha.node --member beta echo

    \b
    Exit status: 0 if the service ended its answer; 4 if no member was reached, 5 if the session ended wrongly: then
    the answer may not be all of it; 130 if SIGINT or SIGTERM came first: then the service is told by an Error.
    """
    trio.run(_connect, opener_for(**options))


async def _connect(open_stream: Opener) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(end_on_signals, signal.SIGINT, signal.SIGTERM)
        await carry(open_stream, StandardStreams())
        nursery.cancel_scope.cancel()


@click.command()
@dialling_options(wait=30.0)
@click.option(
    "--listen",
    "address",
    metavar="ADDRESS",
    default="127.0.0.1:0",
    show_default=True,
    help="HOST:PORT, [IPV6]:PORT or unix:/path; port 0 is a free one.",
)
@click.option(
    "--grace",
    metavar="SECONDS",
    type=common.Seconds(0),
    default=5.0,
    show_default=True,
    help="How long connections have to end by themselves, on SIGINT or SIGTERM.",
)
def forward(address: str, grace: float, **options: Any) -> None:
    """Listen on a local TCP port or UNIX socket, and carry each connection to SERVICE.

    So any program that speaks the service's protocol over TCP can use it unchanged. Each connection is a session of
    its own. If a session fails, its connection is reset, so that what was cut off does not look complete, and one
    line is logged. A UNIX socket is made for this user only; a TCP port is open to everybody on this machine.

    The first line of standard output says where it listens. SIGINT and SIGTERM end it.

    \b
    Examples:
      xlattice forward --cluster cluster.card --listen 127.0.0.1:8080 web
      xlattice forward --cluster cluster.card --identity carol.node --listen unix:/run/user/1000/redis redis
    """
    open_stream = opener_for(**options)
    trio.run(serve_until_signal, partial(carry, open_stream), partial(open_local_listeners, address), grace)
