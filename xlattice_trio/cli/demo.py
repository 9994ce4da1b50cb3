"""`xlattice demo`: a whole cluster on this machine, at work, in seconds.

Members, the HTTP server and `xlattice forward` are processes; the client, the member that asks another, and the
strangers are this one. Every step checks what it shows, and the first that is not as it should be ends the demo.
"""

import hashlib
import http.client
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import attrs
import click
import trio

from xlattice_trio.cli.authority import Authority, as_message
from xlattice_trio.cli.children import Child, Children, open_children
from xlattice_trio.cli.common import CheckFailed, command, is_output_lost, own_program, say
from xlattice_trio.cli.locally import end_on_signals
from xlattice_trio.cli.loopback import HOSTS, find_hosts, find_ports
from xlattice_trio.client import ClusterClient, open_member_stream
from xlattice_trio.crypto import rsa_generate, system_draw
from xlattice_trio.errors import UsageError
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.identity.keys import LocalIdentity, generate_identity
from xlattice_trio.identity.storage import (
    CLUSTER_CARD_FILE,
    ROSTER_FILE,
    load_cluster_card,
    save_authority,
    save_held_roster,
    save_identity,
    save_roster,
)
from xlattice_trio.limits import KNOCK_SIZE
from xlattice_trio.net.reasons import reason
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedMember, VerifiedRoster, make_roster, verify_roster
from xlattice_trio.wire.messages import ClientAccess, Role

DEADLINE = 120  # seconds, for all of it
AUTHORITY = "authority"
MEMBERS = ("alpha", "beta", "gamma")
FORMER = "delta"
CLIENT = "carol"
FORMER_HOST = "127.0.0.4"  # nothing listens there
PAGE = "<h1>Hello from an ordinary HTTP server</h1>\n"
DATA_SIZE = 1_048_576
EXCHANGE_SIZE = 100_000


class DemoFailed(CheckFailed):
    """A step did not show what it should have shown."""


@click.command()
@click.option(
    "--keep",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Make everything in this new directory, leave it there, and say how to go on with it.",
)
def demo(keep: Path | None) -> None:
    """Show a cluster at work: three members on this machine, for some seconds.

    Makes identities and a roster, starts the members as processes of their own, has a client talk to each and one
    member to another, fetches a page of an ordinary HTTP server through the cluster, and shows what strangers get at
    the cluster port: nothing. It needs no network but this machine's own addresses, and leaves nothing behind.

    \b
    Examples:
      xlattice demo
      xlattice demo --keep my-cluster

    Exit status: 0 if everything was as it should be.
    """
    with _directory(keep) as directory:
        show = Show(directory)
        trio.run(show.run)
        if keep is not None:
            show.how_to_go_on()


@contextmanager
def _directory(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="xlattice-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageError(f"{keep}: there is something in this directory: --keep takes a new one")
    except OSError as exc:
        raise UsageError(f"{keep}: this directory cannot be made: {exc.strerror}") from exc
    try:
        yield keep.resolve()
    except BaseException:
        say(f"{keep} is half made, and stays for its logs: remove it before you use its name again")
        raise


@attrs.define
class Show:
    """The demo, step by step; each step leaves what the next ones need."""

    directory: Path
    began: float = attrs.Factory(time.monotonic)
    hosts: Sequence[str] = ()
    cluster_port: int = 0
    client_port: int = 0
    http_port: int = 0
    forward_port: int = 0
    identities: dict[str, LocalIdentity] = attrs.Factory(dict)
    members: dict[str, Child] = attrs.Factory(dict)

    def tell(self, text: str) -> None:
        click.echo(f"{time.monotonic() - self.began:6.2f} s  {text}")

    def title(self, text: str) -> None:
        click.echo(f"\n{text}")

    async def run(self) -> None:
        click.echo(f"A cluster on this machine, in {self.directory}")
        (self.directory / "logs").mkdir()
        environment = os.environ | {"PYTHONUNBUFFERED": "1", "XLATTICE_STATE": str(self.directory / "state")}
        with trio.move_on_after(DEADLINE) as scope:
            async with trio.open_nursery() as nursery:
                await nursery.start(end_on_signals, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C does it already
                async with open_children(self.directory / "logs", environment) as children:
                    try:
                        await self._steps(children)
                    except Exception as exc:
                        if not is_output_lost(exc):
                            children.show_last_words()
                        raise
                nursery.cancel_scope.cancel()
        if scope.cancelled_caught:
            raise DemoFailed(f"it took more than {DEADLINE} s")

    async def _steps(self, children: Children) -> None:
        self.find_addresses()
        await self.make_identities()
        authority = await self.make_cluster()
        await self.start_members(children)
        await self.client_asks_each_member()
        await self.member_asks_another(authority.roster)
        await self.fetch_through_the_cluster(children)
        await self.strangers_knock(authority)
        await self.stop(children)

    # ---- making it ----

    def find_addresses(self) -> None:
        self.hosts = find_hosts()
        self.cluster_port, self.client_port, self.http_port, self.forward_port = find_ports(self.hosts, 4)
        if len(self.hosts) < len(HOSTS):
            self.tell(
                f"this system has not all of the loopback addresses {', '.join(HOSTS)} (on macOS, `sudo ifconfig lo0 "
                f"alias 127.0.0.2` adds one): members on {' and '.join(self.hosts)} only"
            )

    async def make_identities(self) -> None:
        names = [*self.started, FORMER, CLIENT]

        async def make(name: str) -> None:
            self.identities[name] = await trio.to_thread.run_sync(generate_identity, name)
            await trio.to_thread.run_sync(save_identity, self.directory / name, self.identities[name])

        async with trio.open_nursery() as nursery:
            for name in names:
                nursery.start_soon(make, name)
        self.tell(f"identities made, each of two RSA keys of 2048 bits: {', '.join(names)}")

    @property
    def started(self) -> Sequence[str]:
        """The members that are started."""
        return MEMBERS[: len(self.hosts)]

    async def make_cluster(self) -> Authority:
        key = await trio.to_thread.run_sync(rsa_generate, 3072)
        hosts = {**dict(zip(self.started, self.hosts, strict=True)), FORMER: FORMER_HOST}
        roster = verify_roster(
            make_roster(
                key,
                name="demo",
                epoch=1,
                cluster_port=self.cluster_port,
                client_port=self.client_port,
                knock=system_draw("knock", KNOCK_SIZE),
                client_access=ClientAccess.ANYONE,
                members=[as_message(VerifiedMember(self.identities[name].card, host)) for name, host in hosts.items()],
                clients=[self.identities[CLIENT].card.card],
            )
        )
        authority = Authority(self.directory / AUTHORITY, key, roster)
        save_authority(authority.directory, key)
        save_roster(authority.directory / ROSTER_FILE, roster.roster)
        authority.write_card(roster)
        for name in hosts:
            save_held_roster(self.directory / name, roster, roster.epoch)
        self.tell(
            f"the authority has signed the roster of epoch 1: members {', '.join(hosts)}; client {CLIENT}; "
            f"cluster port {self.cluster_port}, client port {self.client_port} on each"
        )
        return authority

    def node_command(self, name: str) -> list[str]:
        web = f"web=forward:127.0.0.1:{self.http_port}"
        return ["node", "run", str(self.directory / name), "--service", "echo", "--client-service", web]

    async def start_members(self, children: Children) -> None:
        self.title("Members")
        for name in self.started:
            self.members[name] = await children.start(name, [*own_program(), *self.node_command(name)])
        for name, child in self.members.items():
            line = await child.wait_for("ready: ")
            self.tell(f"{name} is a process, {child.pid}: {line.removeprefix('ready: ')}")

    # ---- using it ----

    async def client_asks_each_member(self) -> None:
        self.title(f"A client: {CLIENT}, who is in the roster, knows the cluster card and nothing else")
        card = load_cluster_card(self.directory / AUTHORITY / CLUSTER_CARD_FILE)
        client = ClusterClient(card, self.identities[CLIENT])
        for name in self.started:
            async with trio.open_nursery() as nursery:
                began = time.monotonic()
                member = self.identities[name].node_id
                stream = await client.open_stream("echo", nursery=nursery, member=member)
                await self._exchange(stream, f"{CLIENT} and {name}", began)
                nursery.cancel_scope.cancel()

    async def member_asks_another(self, roster: VerifiedRoster) -> None:
        if len(self.started) < 2:
            self.tell("with one member alone there is no other to ask")
            return
        asking, asked = self.started[:2]
        self.title(f"A member: {asking} asks {asked}, over the cluster port")
        await self._ask_as_member(asking, asked, roster)

    async def _ask_as_member(self, asking: str, asked: str, roster: VerifiedRoster) -> None:
        async with trio.open_nursery() as nursery:
            began = time.monotonic()
            member = self.identities[asked].node_id
            stream = await open_member_stream(self.identities[asking], roster, member, "echo", nursery=nursery)
            await self._exchange(stream, f"{asking} and {asked}", began)
            nursery.cancel_scope.cancel()

    async def _exchange(self, stream: SecureStream, who: str, began: float) -> None:
        """Send random bytes to `echo`, and read until the end of the answer."""
        sent, received = os.urandom(EXCHANGE_SIZE), bytearray()

        async def send() -> None:
            await stream.send_all(sent)
            await stream.send_eof()

        async with stream, trio.open_nursery() as nursery:
            nursery.start_soon(send)
            async for data in stream:
                received += data
        if received != sent:
            raise DemoFailed(f"{who}: {len(sent)} bytes went out, {len(received)} others came back")
        seconds = time.monotonic() - began
        self.tell(f"{who}: {len(sent):,} bytes there and back, the same, ended by both; {seconds:.3f} s in all")

    async def fetch_through_the_cluster(self, children: Children) -> None:
        self.title("An ordinary HTTP server, which knows nothing of all this, as the cluster's service `web`")
        site = self.directory / "site"
        site.mkdir()
        data = os.urandom(DATA_SIZE)
        (site / "index.html").write_text(PAGE)
        (site / "data").write_bytes(data)
        server = await children.start("http", self.http_command())
        await server.wait_for("Serving HTTP")
        self.tell(f"python -m http.server is a process, {server.pid}, on 127.0.0.1:{self.http_port}")
        forward = await children.start("forward", [*own_program(), *self.forward_command()])
        await forward.wait_for("listening on ")
        self.tell(f"xlattice forward is a process, {forward.pid}: it listens on 127.0.0.1:{self.forward_port}")
        page = await trio.to_thread.run_sync(_get, self.forward_port, "/")
        if page != PAGE.encode():
            raise DemoFailed(f"the page that came through the cluster is another one: {page[:80]!r}")
        self.tell(f"http://127.0.0.1:{self.forward_port}/ says: {PAGE.strip()}")
        began = time.monotonic()
        fetched = await trio.to_thread.run_sync(_get, self.forward_port, "/data")
        seconds = time.monotonic() - began
        if fetched != data:
            raise DemoFailed(f"{len(data)} bytes should have come through the cluster, {len(fetched)} others came")
        digest = hashlib.sha256(fetched).hexdigest()[:16]
        self.tell(f"{len(fetched):,} bytes fetched in {seconds:.2f} s, SHA-256 {digest}... as in the file")

    def http_command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--directory", str(self.directory / "site")]
        return [sys.executable, "-P", "-m", "http.server", *where, str(self.http_port)]

    def forward_command(self) -> list[str]:
        card = str(self.directory / AUTHORITY / CLUSTER_CARD_FILE)
        return ["forward", "--cluster", card, "--listen", f"127.0.0.1:{self.forward_port}", "web"]

    # ---- strangers ----

    async def strangers_knock(self, authority: Authority) -> None:
        asked = self.started[0]
        self.title(f"Strangers, at the cluster port of {asked}, from an address that is a member's")
        before = authority.roster
        await self._ask_as_member(FORMER, asked, before)
        await self._remove(FORMER, authority)
        asked_id = self.identities[asked].node_id
        intent = partial(Intent, before.members[asked_id].card, before.cluster_id, service="echo")
        as_client = intent(Role.CLIENT, identity=self.identities[CLIENT])
        as_member = intent(Role.MEMBER, identity=self.identities[FORMER], knock=before.knock)
        await self._knock(asked, "a port scanner", b"GET / HTTP/1.1\r\n\r\n" + os.urandom(4078))
        await self._knock(asked, f"{CLIENT}, with a genuine card", Initiator(as_client).hello())
        await self._knock(asked, f"{FORMER}, who knows the knock", Initiator(as_member).hello())

    async def _remove(self, name: str, authority: Authority) -> None:
        """As `xlattice cluster remove` does it, and `xlattice node load` and SIGHUP at one member."""
        members = {node_id: member for node_id, member in authority.roster.members.items() if member.name != name}
        roster = authority.sign_next(members, authority.roster.clients)
        first = self.started[-1]
        save_held_roster(self.directory / first, roster, roster.epoch)
        self.members[first].process.send_signal(signal.SIGHUP)
        for child in self.members.values():
            await child.wait_for(f"epoch {roster.epoch} is in force")
        self.tell(f"the authority removes {name}: {first} gets the roster of epoch {roster.epoch}; it spreads to all")

    async def _knock(self, asked: str, who: str, data: bytes) -> None:
        """Send what a stranger sends, and count what comes back before the connection is closed."""
        child = self.members[asked]
        seen = len(child.lines)
        began = time.monotonic()
        received = bytearray()
        async with await trio.open_tcp_stream(self.hosts[0], self.cluster_port) as stream:
            try:
                await stream.send_all(data)
                while answer := await stream.receive_some():
                    received += answer
            except trio.BrokenResourceError:
                pass  # a reset is an end too
        seconds = time.monotonic() - began
        if received:
            raise DemoFailed(f"{who} got {len(received)} bytes at the cluster port, and should have got none")
        log = (await child.wait_for("cluster port: ignored", after=seen)).partition(": ignored ")[2]
        self.tell(f"{who}: {len(data):,} bytes sent, 0 received, closed after {seconds:.3f} s")
        click.echo(f"{'':10}{asked}'s own log: ignored {log}")

    # ---- the end ----

    async def stop(self, children: Children) -> None:
        self.title("The end")
        statuses = await children.stop_all()
        wrong = {name: status for name, status in statuses.items() if status and name != "http"}
        if wrong:
            raise DemoFailed(f"processes that did not end with exit status 0 on SIGTERM: {wrong}")
        self.tell("SIGTERM: the members and forward have ended, with exit status 0; that was all")

    def how_to_go_on(self) -> None:
        card = self.directory / AUTHORITY / CLUSTER_CARD_FILE
        connect = partial(command, "connect", "--wait", "30")
        lines = [
            f"export XLATTICE_STATE={shlex.quote(str(self.directory / 'state'))}",
            *(f"{command(*self.node_command(name))} &" for name in self.started),
            f"{shlex.join(self.http_command())} &",
            f"echo hello | {connect('--cluster', card, 'echo')}",
            f"echo hello | {connect('--cluster', card, '--identity', self.directory / CLIENT, 'echo')}",
        ]
        if len(self.started) > 1:
            asking, asked = self.directory / self.started[0], self.started[1]
            lines.append(f"echo hello | {connect('--node', asking, '--member', asked, 'echo')}")
        lines += [
            f"{command(*self.forward_command())} &",
            f"curl -sS --retry 9 --retry-connrefused http://127.0.0.1:{self.forward_port}/",
            command("cluster", "show", self.directory / AUTHORITY),
            "kill " + " ".join(f"%{job}" for job in range(1, len(self.started) + 3)),
        ]
        click.echo(f"\nEverything is still in {self.directory}. To go on, paste this into a new shell:\n")
        for line in lines:
            click.echo(line)


def _get(port: int, path: str) -> bytes:
    """An HTTP GET, without proxies."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    try:
        connection.request("GET", path)
        return connection.getresponse().read()
    except (OSError, http.client.HTTPException) as exc:
        raise DemoFailed(f"GET {path} through the cluster: {reason(exc)}") from exc
    finally:
        connection.close()
