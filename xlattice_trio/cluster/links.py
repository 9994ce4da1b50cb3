"""A node's links, on Trio: dialling, accepting, running and ending them, and what they share.

    Links.run
    ├─ the clock: back-offs, ages of links, the time-outs of the active request
    ├─ one task a dial; it goes on as the task of its link
    └─ one task a transfer that is being verified, in a thread beside it

A link has a task of its own, the dial's or, for a link that was accepted, the port's, and two more below it: one reads,
one writes, and the first waits for the end. What happens is told at once to the machines of package `link` that it
concerns (the link's own, the peer's, the node's requests), and what they say is done at once; only what takes time is
left to tasks. Whichever task it is that tells them, nothing is between an event and its effects on the others.
Spec 7.
"""

import logging
import math
import random
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager

import attrs
import trio

from xlattice_trio.client import source_address
from xlattice_trio.cluster.liveness import Liveness
from xlattice_trio.cluster.rosters import Rosters
from xlattice_trio.errors import ErrorCode, HandshakeRefused, LinkError, PeerReported, RefusalReason
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import ERROR_LINGER, HANDSHAKE_DEADLINE, TRANSFERS_MAX, WRITE_DEADLINE
from xlattice_trio.link.dialling import Accepter, Dialler
from xlattice_trio.link.protocol import (
    ConflictFound,
    Holding,
    LinkExchange,
    NeedData,
    RequestReceived,
    SendBye,
    SendData,
    SendError,
    TransferReceived,
    verify_transfer,
)
from xlattice_trio.link.requests import Requests
from xlattice_trio.link.transitions import AccepterAction, AccepterEvent, DiallerAction, DiallerEvent, MessagesState
from xlattice_trio.net.dial import open_secure_stream
from xlattice_trio.net.reasons import reason
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedMember, VerifiedRoster
from xlattice_trio.wire.messages import Purpose, Role

log = logging.getLogger(__name__)

# Opens a session of purpose link with a member of the roster. Raises HandshakeRefused, and OSError.
Dial = Callable[[VerifiedRoster, VerifiedMember], Awaitable[SecureStream]]


async def dial_link(
    identity: LocalIdentity,
    roster: VerifiedRoster,
    peer: VerifiedMember,
    *,
    deadline: float = HANDSHAKE_DEADLINE,
    write_deadline: float = WRITE_DEADLINE,
) -> SecureStream:
    """Connect to a member's cluster port and make the handshake of a link, within `deadline` seconds.

    Raises HandshakeRefused, and OSError if there is no connection.
    """
    intent = Intent(
        peer=peer.card,
        cluster_id=roster.cluster_id,
        role=Role.MEMBER,
        purpose=Purpose.LINK,
        identity=identity,
        knock=roster.knock,
    )
    with trio.move_on_after(deadline):
        return await open_secure_stream(
            peer.host,
            roster.cluster_port,
            intent,
            local_address=await source_address(roster.members[identity.node_id].host, peer.host),
            deadline=deadline,
            write_deadline=write_deadline,
        )
    raise HandshakeRefused(RefusalReason.DEADLINE)


# ---- what is known of each ----------------------------------------------------


class _Signal:
    """Wakes whoever waits: take `event` first, then look, then wait for it."""

    def __init__(self) -> None:
        self.event = trio.Event()

    def set(self) -> None:
        event, self.event = self.event, trio.Event()
        event.set()


@attrs.define(eq=False)
class _Link:
    """A link from ESTABLISHED to its end."""

    peer: "_Peer"
    stream: SecureStream
    exchange: LinkExchange
    to_write: _Signal = attrs.Factory(_Signal)  # for the writer: there may be something
    to_end: _Signal = attrs.Factory(_Signal)  # for the first task: the link may have ended, or its deadline changed
    has_parted: trio.Event = attrs.Factory(trio.Event)  # its Bye is written, or nothing more is
    refusal: SendError | None = None  # the Error that ends a session whose link has ended with the peer's Bye
    is_over: bool = False  # the machines know that it ends
    conflicted: bool = False
    cause: BaseException | str = "the peer said Bye"  # of its end, for the log

    @property
    def is_dialled(self) -> bool:
        return self.stream.established.side is Side.INITIATOR


@attrs.define(eq=False)
class _Dial:
    """A dial that is under way: in its handshake, or ESTABLISHED and not in force."""

    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    link: _Link | None = None


@attrs.define(eq=False)
class _Peer:
    """Another member of the roster in force, or one that was until now."""

    member: VerifiedMember
    dialler: Dialler | None  # if its NodeID is the higher one
    accepter: Accepter = attrs.Factory(Accepter)  # if it is the lower one
    in_force: _Link | None = None  # [LK-3]
    dial: _Dial | None = None
    failure: str = ""  # why the last dial failed, as it was logged

    @property
    def node_id(self) -> NodeID:
        return self.member.node_id

    @property
    def name(self) -> str:
        return self.member.name


# ---- all of them --------------------------------------------------------------


class Links:
    """All links of the node `node_id`, and who is alive.

    `dial` opens a session, `tracked` gives a context in which the node knows a session that was dialled, `rng` decides
    waits and whom to ask.
    """

    def __init__(
        self,
        node_id: NodeID,
        rosters: Rosters,
        dial: Dial,
        tracked: Callable[[SecureStream], AbstractContextManager[None]],
        rng: random.Random | None = None,
    ) -> None:
        self._node_id = node_id
        self._rosters = rosters
        self._dial_member = dial
        self._tracked = tracked
        self._rng = rng or random.SystemRandom()
        self._holding = Holding(rosters.roster)
        self._peers: dict[NodeID, _Peer] = {}
        self._links: dict[_Link, None] = {}  # those that have not ended, the oldest first
        self._requests: Requests[_Link] = Requests(self._rng.choice)
        self._wanting: dict[_Link, None] = {}  # who waits for a transfer, the longest first
        self._wake = _Signal()  # the clock
        self._nursery: trio.Nursery | None = None
        self._is_stopping = False
        self._liveness = self.liveness

    @property
    def liveness(self) -> Liveness:
        """Who is alive now. [LK-58]"""
        live = frozenset(link.peer.node_id for link in self._links if link.exchange.is_exchanged)
        return Liveness(live, len(self._rosters.roster.members), self._rosters.is_member)

    # ---- tasks ----

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the links that this node dials, until it is cancelled. To run before a link is accepted."""
        async with trio.open_nursery() as self._nursery:
            try:
                self._follow()
                task_status.started()
                await self._run_clock()
            finally:
                self._nursery = None

    async def _run_clock(self) -> None:
        while True:
            woken = self._wake.event
            with trio.move_on_at(self._deadline()):
                await woken.wait()
            now = trio.current_time()
            for peer in list(self._peers.values()):
                if peer.dialler is not None:
                    self._do(peer, peer.dialler.time_passed(now))
            self._requests.time_passed(now)
            self._choose()

    def _deadline(self) -> float:
        diallers = (peer.dialler.deadline() for peer in self._peers.values() if peer.dialler is not None)
        return min(self._requests.deadline(), *diallers, math.inf)

    async def accept(self, stream: SecureStream) -> None:
        """Run a link that a peer with a lower NodeID has dialled, from ESTABLISHED to its end."""
        initiator = stream.initiator
        assert initiator is not None
        link = self._new_link(self._peers[initiator.node_id], stream)
        action = link.peer.accepter.happens(AccepterEvent.LINK_ESTABLISHED)
        older = self._put_in_force(link)
        if action is AccepterAction.REPLACE:
            assert older is not None
            older.cause = "a newer one takes its place"
            older.exchange.replaced()  # [LK-14]
            self._noticed(older)
        await self._run_link(link)

    async def _dial(self, peer: _Peer, dial: _Dial) -> None:
        """One dial, and the link that comes of it."""
        if peer.dial is not dial:  # ended before it began
            return
        stream = None
        with dial.scope:
            try:
                stream = await self._dial_member(self._rosters.roster, peer.member)
            except (HandshakeRefused, OSError) as exc:
                self._dial_failed(peer, dial, reason(exc))
        if stream is None:
            return
        if peer.dial is not dial:  # ended in the moment in which it was ESTABLISHED
            code = ErrorCode.SHUTTING_DOWN if self._is_stopping else ErrorCode.NOT_AUTHORIZED
            await stream.close_with_error(code, "this link is no longer wanted")
            return
        dial.link = self._new_link(peer, stream)
        with self._tracked(stream):
            await self._run_link(dial.link)

    def _new_link(self, peer: _Peer, stream: SecureStream) -> _Link:
        link = _Link(peer, stream, LinkExchange(self._holding))  # [LK-25]
        self._links[link] = None
        return link

    # ---- one link ----

    async def _run_link(self, link: _Link) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._write, link)
                nursery.start_soon(self._read, link)
                if link.is_dialled:
                    nursery.start_soon(link.stream.keep_alive)
                    nursery.start_soon(self._await_first_record, link)
                await self._see_out(link)
                nursery.cancel_scope.cancel()
        finally:
            link.exchange.session_ended()
            self._noticed(link)
            del self._links[link]
            self._report()
            await trio.aclose_forcefully(link.stream)

    async def _see_out(self, link: _Link) -> None:
        """Wait until the link has ended, and end its session as it is to be ended."""
        exchange = link.exchange
        while exchange.state is not MessagesState.ENDED:
            changed = link.to_end.event
            with trio.move_on_at(exchange.deadline()):
                await changed.wait()
                continue
            exchange.time_passed(trio.current_time())
            self._noticed(link)
        if isinstance(exchange.ending, SendError):
            await link.stream.close_with_error(exchange.ending.code, exchange.ending.text)
        elif exchange.ending is None:
            await link.has_parted.wait()
            if link.refusal is not None:  # [RO-55]
                await link.stream.close_with_error(link.refusal.code, link.refusal.text)
            await link.stream.aclose()

    async def _write(self, link: _Link) -> None:
        """Write what there is to write, for as long as there can be more. The reader finds out what breaks it."""
        exchange = link.exchange
        try:
            while True:
                changed = link.to_write.event
                piece = exchange.next_piece(trio.current_time())
                link.to_end.set()
                self._grant()
                self._report()
                match piece:
                    case SendData(data):
                        await link.stream.send_all(data)  # [LK-24]
                    case SendBye():  # [LK-17]
                        await link.stream.send_eof()
                        link.has_parted.set()
                    case None if exchange.state is MessagesState.ENDED:
                        return
                    case None:
                        await changed.wait()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return
        finally:
            link.has_parted.set()

    async def _read(self, link: _Link) -> None:
        """Read until the peer's Bye, a violation or the end of the session, whatever is being written. [LK-23]"""
        exchange = link.exchange
        try:
            while data := await link.stream.receive_some():
                self._first_record_opened(link)
                exchange.receive_data(data, trio.current_time())
                await self._take_events(link)
                self._requests.transfer_arrives(link, exchange.transfer_byte_at)
                self._noticed(link)
            self._heard(link)
            exchange.bye_opened()
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            self._heard(link)
            link.cause = exc.__cause__ or exc
            link.conflicted = isinstance(link.cause, PeerReported) and link.cause.code is ErrorCode.ROSTER_CONFLICT
            exchange.session_ended()
        except LinkError as exc:
            link.cause = exc
        self._noticed(link)

    async def _take_events(self, link: _Link) -> None:
        """All that the peer has said so far. Raises LinkError."""
        while not isinstance(event := link.exchange.next_event(), NeedData):
            match event:
                case ConflictFound():
                    self._conflict_found(link, event)
                case RequestReceived():
                    self._wanting.setdefault(link)
                case TransferReceived():
                    self._requests.transfer_complete(link)
                    await self._judge(link, event)
            self._noticed(link)

    async def _judge(self, link: _Link, transfer: TransferReceived) -> None:
        """Have a transfer verified: by a task that lives on if the link ends meanwhile. [RO-33]"""
        done = trio.Event()
        if self._nursery is not None:  # else the node is being cancelled, and we are too
            self._nursery.start_soon(self._process, link, transfer, done)
        await done.wait()

    async def _process(self, link: _Link, transfer: TransferReceived, done: trio.Event) -> None:
        rosters, exchange = self._rosters, link.exchange
        try:
            roster = await trio.to_thread.run_sync(
                verify_transfer, transfer.body, transfer.offer, rosters.roster, rosters.floor, abandon_on_cancel=True
            )
        except LinkError as exc:
            link.cause = exc
            exchange.transfer_refused(str(exc))
        else:
            adopted = roster is not None and rosters.receive(roster)  # [LK-50]
            if roster is not None and adopted:
                log.info("%s has sent the roster of epoch %d", link.peer.name, roster.epoch)
                exchange.transfer_verified()
            else:
                exchange.transfer_dropped()
            now = trio.current_time()
            self._requests.transfer_processed(link, dropped=not adopted, floor=rosters.floor, now=now)
        done.set()
        self._noticed(link)

    async def _await_first_record(self, link: _Link) -> None:
        await link.stream.first_record.wait()
        self._first_record_opened(link)

    def _heard(self, link: _Link) -> None:
        """The session is over, and a first record may have come with its end: that comes first."""
        if link.stream.first_record.is_set():
            self._first_record_opened(link)

    # ---- what happens to a link ----

    def _first_record_opened(self, link: _Link) -> None:
        """I: a record other than Error and Bye was opened, for the first time or not. [LK-2]"""
        peer = link.peer
        if peer.dial is None or peer.dial.link is not link or peer.dialler is None:
            return
        peer.dial = None
        peer.dialler.happens(DiallerEvent.FIRST_RECORD_OPENED, trio.current_time())
        self._put_in_force(link)  # the older one is R's to end [LK-15]
        self._noticed(link)

    def _put_in_force(self, link: _Link) -> _Link | None:
        """Use this link from now on; the one before, if there is one."""
        peer = link.peer
        older, peer.in_force = peer.in_force, link
        peer.failure = ""
        log.info("link with %s: %s", peer.name, "up" if older is None else "a newer one is in use")
        if older is not None:
            self._requests.link_over(older, trio.current_time())  # [LK-38]
        return older

    def _conflict_found(self, link: _Link, conflict: ConflictFound) -> None:
        link.conflicted = True
        link.cause = "both sides hold a roster of the same epoch, and the two differ"
        offer = conflict.offer
        self._rosters.conflicts.report(link.peer.node_id, link.peer.name, offer.epoch, offer.digest)

    def _noticed(self, link: _Link) -> None:
        """Something has happened on a link: tell whom it concerns."""
        if link.exchange.is_ending and not link.is_over:
            link.is_over = True
            self._link_over(link)
        link.to_write.set()
        link.to_end.set()
        self._grant()
        self._ask()
        self._report()

    def _link_over(self, link: _Link) -> None:
        """A link has ended, or begins to."""
        peer, now = link.peer, trio.current_time()
        self._wanting.pop(link, None)
        self._requests.link_over(link, now)
        if peer.in_force is link:
            peer.in_force = None
            log.info("link with %s: over: %s", peer.name, link.cause)
            if peer.dialler is None:
                event = AccepterEvent.LINK_CONFLICTED if link.conflicted else AccepterEvent.LINK_ENDED
                peer.accepter.happens(event)
            elif link.conflicted:
                self._do(peer, peer.dialler.conflicted(self._rosters.roster.epoch, now))
            else:
                self._do(peer, peer.dialler.happens(DiallerEvent.LINK_ENDED, now))
        elif peer.dial is not None and peer.dial.link is link:
            self._dial_failed(peer, peer.dial, str(link.cause))

    # ---- dialling ----

    def _dial_failed(self, peer: _Peer, dial: _Dial, why: str) -> None:
        if peer.dial is not dial or peer.dialler is None:
            return
        peer.dial = None
        log.log(logging.DEBUG if why == peer.failure else logging.INFO, "link with %s: not reached: %s", peer.name, why)
        peer.failure = why
        self._do(peer, peer.dialler.happens(DiallerEvent.DIAL_FAILED, trio.current_time()))

    def _do(self, peer: _Peer, action: DiallerAction) -> None:
        """What the machine of a peer says is to be done, but for putting in force and for ending."""
        if action in (DiallerAction.DIAL, DiallerAction.RESET_AND_DIAL):
            assert peer.dial is None  # [LK-4]
            peer.dial = _Dial()
            if self._nursery is not None:  # else the node is being cancelled
                self._nursery.start_soon(self._dial, peer, peer.dial)
        self._wake.set()

    # ---- requests and transfers ----

    def _choose(self) -> None:
        """Ask for a newer roster, if there is one and nobody is being asked."""
        now, floor = trio.current_time(), self._rosters.floor
        candidates = {
            peer.node_id: peer.in_force
            for peer in self._peers.values()
            if peer.in_force is not None
            and peer.in_force.exchange.state is MessagesState.EXCHANGED
            and peer.in_force.exchange.peer_offer is not None
            and peer.in_force.exchange.peer_offer.epoch > floor
        }
        link = self._requests.ask(candidates, floor, now)
        if link is not None:
            link.exchange.request()
            link.to_write.set()

    def _ask(self) -> None:
        self._choose()
        self._wake.set()

    def _grant(self) -> None:
        """Answer requests, as many as may be answered at a time. [LK-42]"""
        room = TRANSFERS_MAX - sum(link.exchange.is_sending_transfer for link in self._links)
        for link in list(self._wanting):
            if room <= 0:
                return
            if link.exchange.is_sending_transfer:
                continue
            del self._wanting[link]
            link.exchange.send_transfer()
            link.to_write.set()
            room -= 1

    # ---- the node's roster, and the node's end ----

    def adopted(self) -> None:
        """A roster was put in force: steps 4 (for links), 6 and 7 of Spec 7.9, in this order. [LK-52]"""
        self._holding = Holding(self._rosters.roster)
        for peer in [peer for peer in self._peers.values() if not self._has(peer)]:
            self._remove(peer)
        for link in list(self._links):
            if not self._has(link.peer):
                self._refuse(link)
        for link in list(self._links):
            conflict = link.exchange.adopted(self._holding)  # [LK-27]
            if conflict is not None:
                self._conflict_found(link, conflict)
            self._noticed(link)
        self._follow()
        self._ask()
        self._report()

    def _has(self, peer: _Peer) -> bool:
        """Whether the roster in force has both this node and the peer, with the sk that it proved."""
        member = self._rosters.roster.members.get(peer.node_id)
        return self._rosters.is_member and member is not None and member.card.card.sk == peer.member.card.card.sk

    def _remove(self, peer: _Peer) -> None:
        """The peer is gone, or this node is: no more dials; the links are ended by the caller."""
        del self._peers[peer.node_id]
        if peer.dialler is None:
            peer.accepter.happens(AccepterEvent.PEER_REMOVED)
        else:
            peer.dialler.happens(DiallerEvent.PEER_REMOVED, trio.current_time())
        dial, peer.dial = peer.dial, None
        if dial is not None and dial.link is None:
            dial.scope.cancel()  # [LK-54] [RO-56]
        self._wake.set()

    def _refuse(self, link: _Link) -> None:
        """The roster in force does not admit the link, or this node no longer belongs to it. [RO-55]"""
        member = self._rosters.roster.members.get(link.peer.node_id)
        admitted = member is not None and member.card.card.sk == link.peer.member.card.card.sk
        is_gone = admitted and not link.is_dialled  # R is the one that is gone [LK-56]
        text = "this node is no longer a member" if is_gone else "the new roster does not admit it"
        if link.exchange.state is MessagesState.ENDED:  # the peer has said Bye, and our own may have to wait
            code = ErrorCode.SHUTTING_DOWN if is_gone else ErrorCode.NOT_AUTHORIZED
            link.refusal = SendError(code, text)
            link.has_parted.set()
            return
        link.cause = text
        if is_gone:
            link.exchange.end(ErrorCode.SHUTTING_DOWN, text)
        else:
            link.exchange.refused()
        self._noticed(link)

    def _follow(self) -> None:
        """Know the members of the roster in force, and dial those that are to be dialled. [LK-5] [LK-57]"""
        roster, now = self._rosters.roster, trio.current_time()
        if not self._rosters.is_member or self._is_stopping:  # [RO-58]
            return
        for member in roster.members.values():
            if member.node_id == self._node_id:
                continue
            peer = self._peers.get(member.node_id)
            if peer is None:
                dialler = Dialler(self._rng.uniform) if self._node_id < member.node_id else None  # [LK-1]
                peer = self._peers[member.node_id] = _Peer(member, dialler)
            peer.member = member
            if peer.dialler is not None:
                self._do(peer, peer.dialler.adopted(roster.epoch, now))

    async def stop(self) -> None:
        """Dial no more, and say Bye on every link; returns when that is written, or after a second. [SV-22] [SV-23]"""
        self._is_stopping = True
        for peer in list(self._peers.values()):
            self._remove(peer)
        links = list(self._links)
        for link in links:
            link.cause = "this node stops"
            link.exchange.stopping()
            self._noticed(link)
        with trio.move_on_after(ERROR_LINGER):
            for link in links:
                await link.has_parted.wait()

    def _report(self) -> None:
        """Tell the operator when something has changed in who is alive."""
        before, self._liveness = self._liveness, self.liveness
        if self._liveness != before:
            log.info("%s", self._liveness)
