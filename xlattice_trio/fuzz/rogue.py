"""A rogue member on a network in memory: it has its keys, makes links as a member does, and says on them what it likes.

What it says is its *way*, one of WAYS, which may change at any time. It knows every roster that the authority has
signed, and makes others.
"""

from collections.abc import Mapping
from typing import Any

import attrs
import trio

from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerReported
from xlattice_trio.fuzz.cluster_cast import (
    COUNT,
    KEEPALIVE,
    PORT,
    digest,
    first_roster,
    host,
    identities,
    link_intent,
    peer_of,
    sign,
)
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Welcome
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.net.dial import initiate
from xlattice_trio.net.listen import respond
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.testing.network import Network
from xlattice_trio.wire.codec import encode
from xlattice_trio.wire.messages import Roster

OFFER, REQUEST, TRANSFER = 1, 2, 3
MOST = 2**64 - 1
# What it does on its links.
WAYS: Mapping[str, str] = {
    "honest": "offers the newest roster, and sends it when it is asked",
    "silent": "never offers",
    "most": "offers the highest epoch that there is, and never answers",
    "trickles": "offers the same, and answers with a byte now and then",
    "forges": "offers a roster that was signed for another epoch, and sends it",
    "strange": "offers a roster of another authority, and sends it",
    "other": "offers a roster that there is not, and sends one that there is",
    "conflicts": "offers another roster of the epoch in force",
    "deaf": "asks and asks, and reads nothing",
}
HARMLESS = ("honest", "silent")  # where it offers nothing that it does not have
_TRICKLE = 10.0  # seconds from one byte to the next
_ASKS = 50


def message(type_: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A link message by its bytes."""
    return bytes((type_,)) + (len(body) if length is None else length).to_bytes(3, "big") + body


def offer(epoch: int, of: bytes) -> bytes:
    """An offer, whatever it is worth."""
    return message(OFFER, epoch.to_bytes(8, "big") + of)


@attrs.define(eq=False)
class RogueLink:
    """One link of the rogue's. `theirs` is the node's last offer; `ended` how it has ended, once it has."""

    peer: int
    stream: SecureStream
    is_dialled: bool  # by the rogue
    since: float = attrs.Factory(trio.current_time)
    has_offered: bool = False
    theirs: bytes = b""
    is_spoilt: bool = False  # what is said on it now is in the middle of a message that never ends
    is_deaf: bool = False
    is_parting: bool = False
    first_heard: int = 0  # the type of the first message
    asked: int = 0
    answers: list[bytes] = attrs.Factory(list)  # the bodies of the transfers that came
    ended: str = ""  # Bye, Error or broken
    code: ErrorCode | None = None
    ended_at: float = 0.0
    to_say: trio.MemorySendChannel[bytes] = attrs.field(init=False)
    _told: trio.MemoryReceiveChannel[bytes] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.to_say, self._told = trio.open_memory_channel[bytes](10_000)

    @property
    def is_conflict(self) -> bool:
        """Whether the node has ended it for that."""
        return self.code is ErrorCode.ROSTER_CONFLICT

    def say(self, *messages: bytes) -> None:
        """Write them, when there is room."""
        for one in () if self.is_parting else messages:
            self.to_say.send_nowait(one)

    def hang_up(self) -> None:
        """Say Bye behind it."""
        self.is_parting = True
        self.to_say.close()

    async def speak(self) -> None:
        """Its writer."""
        try:
            async for data in self._told:
                self.has_offered |= data[0] == OFFER and not self.is_spoilt
                await self.stream.send_all(data)
            await self.stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


class Rogue:
    """The member of that number. `newest` is the newest roster that was signed."""

    def __init__(self, network: Network, number: int, way: str) -> None:
        self.number = number
        self.newest = first_roster()
        self.way = way
        self.links: list[RogueLink] = []
        self._network = network
        self._replay = ReplayCache()
        self._hears = trio.Event()

    def links_with(self, peer: int) -> list[RogueLink]:
        """Those that have not ended."""
        return [link for link in self.links if link.peer == peer and not link.ended]

    # ---- connections ----

    async def run(self) -> None:
        """Accept links, until it is cancelled."""
        listener = self._network.listen(host(self.number), PORT)
        async with trio.open_nursery() as nursery:
            await trio.serve_listeners(self._accept, [listener], handler_nursery=nursery)

    async def dial(self, peer: int) -> None:
        """A link to a node, if that accepts it."""
        stream = None
        with trio.move_on_after(HANDSHAKE_DEADLINE):
            try:
                transport = await self._network.dial(host(peer), PORT, source=host(self.number))
                stream = await initiate(transport, link_intent(self.number, first_roster(), peer))
            except (OSError, HandshakeRefused):
                return
        if stream is not None:
            await self._serve(RogueLink(peer, stream, is_dialled=True))

    async def _accept(self, transport: Any) -> None:
        identity = identities()[self.number]
        welcome = Welcome(
            port=Port.CLUSTER,
            node_id=identity.node_id,
            roster=first_roster,
            accepted_keys=lambda: [AcceptedKey.of(identity.ck_priv)],
            replay=self._replay,
            link_keepalive=KEEPALIVE,
        )
        try:
            stream = await respond(transport, welcome)
        except HandshakeRefused:
            return
        await self._serve(RogueLink(peer_of(stream), stream, is_dialled=False))

    # ---- links ----

    def turn(self, way: str) -> None:
        """Go on in another way, at once and on every link."""
        self.way = way
        hears, self._hears = self._hears, trio.Event()
        hears.set()
        for link in self.links:
            if not link.ended:
                self._begin(link)

    def hang_up(self, peer: int) -> None:
        """Say Bye on every link with a node, behind what is still to be said."""
        for link in self.links_with(peer):
            link.hang_up()

    async def _serve(self, link: RogueLink) -> None:
        self.links.append(link)
        self._begin(link)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(link.stream.keep_alive)
                nursery.start_soon(link.speak)
                await self._hear(link, nursery)
                nursery.cancel_scope.cancel()
        finally:
            link.ended, link.ended_at = link.ended or "cancelled", trio.current_time()
            await trio.aclose_forcefully(link.stream)

    async def _hear(self, link: RogueLink, nursery: trio.Nursery) -> None:
        unread = b""
        try:
            while data := await link.stream.receive_some():
                unread += data
                while len(unread) >= 4 and len(unread) >= (end := 4 + int.from_bytes(unread[1:4], "big")):
                    self._heard(link, unread[0], unread[4:end], nursery)
                    unread = unread[end:]
                link.is_deaf = self.way == "deaf" and bool(link.theirs)
                while self.way == "deaf" and link.is_deaf:
                    await self._hears.wait()
            link.ended = "Bye"
            await link.stream.aclose()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            cause = exc.__cause__
            link.ended = "Error" if isinstance(cause, PeerReported) else "broken"
            link.code = cause.code if isinstance(cause, PeerReported) else None

    def _heard(self, link: RogueLink, type_: int, body: bytes, nursery: trio.Nursery) -> None:
        link.first_heard = link.first_heard or type_
        if type_ == TRANSFER:
            link.answers.append(body)
        elif type_ == REQUEST:
            self._answer(link, nursery)
        else:
            link.theirs = body

    # ---- what it says ----

    def _begin(self, link: RogueLink) -> None:
        newest, way = self.newest, self.way
        match way:
            case "honest" | "deaf":
                link.say(offer(newest.epoch, digest(newest.roster)))
            case "most" | "trickles":
                link.say(offer(MOST, bytes(32)))
            case "other":
                link.say(offer(newest.epoch + 1, bytes(32)))
            case "forges" | "strange":
                made = self._made()
                link.say(offer(made.epoch, digest(made)))
            case "conflicts":
                epoch = int.from_bytes(link.theirs[:8], "big") if link.theirs else newest.epoch
                link.say(offer(epoch, b"\1" * 32))
        if way == "deaf":
            link.asked += _ASKS
            link.say(*[message(REQUEST)] * _ASKS)

    def _answer(self, link: RogueLink, nursery: trio.Nursery) -> None:
        match self.way:
            case "honest" | "deaf" | "other":
                link.say(message(TRANSFER, encode(self.newest.roster)))
            case "forges" | "strange":
                link.say(message(TRANSFER, encode(self._made())))
            case "trickles":
                if not link.is_spoilt:
                    link.say(message(TRANSFER, length=4_194_304))
                    link.is_spoilt = True
                    nursery.start_soon(self._trickle, link)

    async def _trickle(self, link: RogueLink) -> None:
        while True:
            await trio.sleep(_TRICKLE)
            link.say(b"\0")

    def _made(self) -> Roster:
        """A roster of the next epoch that the authority has not signed."""
        newest = self.newest.roster
        if self.way == "strange":
            return sign(newest.epoch + 1, frozenset(range(COUNT)), (0,) * COUNT, authority=1).roster
        return attrs.evolve(newest, epoch=newest.epoch + 1)
