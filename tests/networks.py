"""Links of several members over streams in memory, handshakes included, so that time may jump.

A `Network` holds what listens where: whole members (`Member`: their links and rosters, as a node has them) and peers
that a test plays itself, by hand. `do_without_threads` has to be in force: the clock would jump while one runs.
"""

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MemoryReceiveStream, MemorySendStream, memory_stream_pair

from tests.links import messages_in
from tests.nodes import make_directory
from xlattice_trio.cluster.links import Links
from xlattice_trio.cluster.rosters import Rosters
from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerReported
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Welcome
from xlattice_trio.identity.keyring import KeyRing
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.identity.storage import save_held_roster
from xlattice_trio.net.dial import initiate
from xlattice_trio.net.listen import respond
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedMember, VerifiedRoster
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.wire.messages import Purpose, Role

KEEPALIVE = 60_000  # milliseconds, on links
Transport = trio.StapledStream[MemorySendStream, MemoryReceiveStream]


def do_without_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What would run in a thread runs at once."""

    async def run_sync(function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return function(*args)

    monkeypatch.setattr(trio.to_thread, "run_sync", run_sync)


class Middle(random.Random):
    """Waits are never jittered, and the first is always chosen."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2

    def choice(self, seq: Any) -> Any:
        return seq[0]


def identities(count: int) -> list[LocalIdentity]:
    """Of the test roster's members, the lowest NodeID first."""
    return sorted((test_identity(i) for i in range(count)), key=lambda identity: identity.node_id)


@attrs.define(eq=False)
class Member:
    """A member without its ports: links, rosters, and the sessions that it knows."""

    network: "Network"
    identity: LocalIdentity
    directory: Path
    rosters: Rosters
    links: Links
    nursery: trio.Nursery
    sessions: list[SecureStream] = attrs.Factory(list)
    dials: list[tuple[float, str]] = attrs.Factory(list)  # when, and to whom
    replay: ReplayCache = attrs.Factory(ReplayCache)

    @property
    def live(self) -> set[NodeID]:
        return set(self.links.liveness.live)

    @property
    def epoch(self) -> int:
        return self.rosters.roster.epoch

    async def load(self, roster: VerifiedRoster, highest: int | None = None) -> None:
        """What an operator does: store a roster, then tell the node."""
        save_held_roster(self.directory, roster, highest or roster.epoch)
        await self.rosters.reload()

    async def answer(self, transport: trio.abc.Stream) -> None:
        """A connection to the cluster port, as `net.listen` has it."""
        welcome = Welcome(
            port=Port.CLUSTER,
            node_id=self.identity.node_id,
            roster=lambda: self.rosters.roster,
            accepted_keys=lambda: self.rosters.accepted,
            replay=self.replay,
            link_keepalive=KEEPALIVE,
        )
        try:
            stream = await respond(transport, welcome)
        except HandshakeRefused:
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.keep_alive)
            with self.tracked(stream):
                await self.links.accept(stream)
            await stream.aclose()
            nursery.cancel_scope.cancel()

    @contextmanager
    def tracked(self, stream: SecureStream) -> Iterator[None]:
        self.sessions.append(stream)
        try:
            yield
        finally:
            self.sessions.remove(stream)


Answer = Callable[[trio.abc.Stream], Awaitable[None]]


@attrs.define(eq=False)
class Network:
    """Who listens, by NodeID, and in which nursery (None: the dialler's). `cut` are pairs that cannot connect."""

    tmp_path: Path
    listening: dict[NodeID, tuple[trio.Nursery | None, Answer]] = attrs.Factory(dict)
    cut: set[frozenset[NodeID]] = attrs.Factory(set)

    @asynccontextmanager
    async def member(self, identity: LocalIdentity, roster: VerifiedRoster) -> AsyncIterator[Member]:
        """A member that runs until the block is left, or its nursery cancelled. It goes on with what it has stored."""
        directory = self.tmp_path / identity.name
        if not directory.exists():
            make_directory(directory, identity, roster)
        async with trio.open_nursery() as nursery:
            rosters = Rosters(directory, KeyRing(directory))
            member = Member(self, identity, directory, rosters, None, nursery)  # type: ignore[arg-type]
            member.links = Links(
                identity.node_id, rosters, lambda held, peer: self.dial(member, held, peer), member.tracked, Middle()
            )
            rosters.on_adoption = member.links.adopted
            self.listening[identity.node_id] = (nursery, member.answer)
            nursery.start_soon(rosters.run)
            await nursery.start(member.links.run)
            yield member
            del self.listening[identity.node_id]
            nursery.cancel_scope.cancel()

    async def dial(self, member: Member, roster: VerifiedRoster, peer: VerifiedMember) -> SecureStream:
        member.dials.append((trio.current_time(), peer.name))
        await trio.lowlevel.checkpoint()
        pair = frozenset((member.identity.node_id, peer.node_id))
        if peer.node_id not in self.listening or pair in self.cut:
            raise ConnectionRefusedError(111, "Connection refused")
        ours, theirs = memory_stream_pair()
        nursery, answer = self.listening[peer.node_id]
        (nursery or member.nursery).start_soon(answer, theirs)
        return await initiate(ours, intent(member.identity, roster, peer.node_id))


def intent(identity: LocalIdentity, roster: VerifiedRoster, peer: NodeID) -> Intent:
    return Intent(
        peer=roster.members[peer].card,
        cluster_id=roster.cluster_id,
        role=Role.MEMBER,
        purpose=Purpose.LINK,
        identity=identity,
        knock=roster.knock,
    )


# ---- a peer that a test plays itself ------------------------------------------


@attrs.define(eq=False)
class Raw:
    """A test's end of a link: it says what it likes, and reads message by message."""

    stream: SecureStream
    transport: Transport
    unread: bytes = b""

    async def say(self, *messages: bytes) -> None:
        await self.stream.send_all(b"".join(messages))

    async def hear(self) -> tuple[int, bytes]:
        """Type and body of the next message."""
        while len(self.unread) < 4 or len(self.unread) < 4 + int.from_bytes(self.unread[1:4], "big"):
            data = await self.stream.receive_some()
            assert data, "the node said Bye"
            self.unread += data
        end = 4 + int.from_bytes(self.unread[1:4], "big")
        (heard,) = messages_in(self.unread[:end])
        self.unread = self.unread[end:]
        return heard

    async def hear_bye(self) -> None:
        assert await self.stream.receive_some() == b""
        assert self.unread == b""

    async def hear_error(self) -> ErrorCode:
        """The code of the Error that ends the link; what was said before it is in `unread`."""
        with pytest.raises(trio.BrokenResourceError) as caught:
            while data := await self.stream.receive_some():
                self.unread += data
        cause = caught.value.__cause__
        assert isinstance(cause, PeerReported), cause
        return cause.code


async def raw_link(member: Member, identity: LocalIdentity, roster: VerifiedRoster) -> Raw:
    """A link to `member`, dialled by a test as `identity`, whose NodeID is the lower one."""
    ours, theirs = memory_stream_pair()
    member.nursery.start_soon(member.answer, theirs)
    return Raw(await initiate(ours, intent(identity, roster, member.identity.node_id)), ours)


class RawMember:
    """A member that a test plays: links that others dial come out of `accept`."""

    def __init__(self, network: Network, identity: LocalIdentity, roster: VerifiedRoster) -> None:
        self.roster = roster
        self.identity = identity
        self._replay = ReplayCache()
        self._send, self._receive = trio.open_memory_channel[Raw](100)
        network.listening[identity.node_id] = (None, self._answer)

    async def _answer(self, transport: Any) -> None:
        welcome = Welcome(
            port=Port.CLUSTER,
            node_id=self.identity.node_id,
            roster=lambda: self.roster,
            accepted_keys=lambda: [AcceptedKey.of(self.identity.ck_priv)],
            replay=self._replay,
            link_keepalive=KEEPALIVE,
        )
        await self._send.send(Raw(await respond(transport, welcome), transport))

    async def accept(self) -> Raw:
        return await self._receive.receive()


def offer_in(body: bytes) -> int:
    """The epoch in the body of a RosterOffer."""
    return int.from_bytes(body[:8], "big")
