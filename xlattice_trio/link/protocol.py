"""What two members say to each other on a link, without I/O: bytes of the Data stream in, events and bytes out.

`LinkExchange` is one side of one link, from its own ESTABLISHED to its end. It owns the buffer of incoming bytes, the
offers of both sides, what is still to be written, and the state, which changes through the table in `transitions`
only. It refuses to know the session below it, other links, files, tasks and clocks: time is an argument (`now`,
seconds of any clock that does not go back), and what concerns all links of a node (which peer to ask, how many
transfers to send, which roster to adopt) is its driver's. The driver

* carries what the session delivers to `receive_data`, takes `next_event` until it says NEED_DATA, and says `bye_opened`
  behind the last byte before the peer's Bye, or `session_ended`;
* writes what `next_piece` gives, in order; it may be asked for the next piece when the one before is written, and has
  to be asked after every call of another method, and after every piece;
* looks at `ending` just as often: once it is set, the session is ended in that way, whatever is being written;
* calls `time_passed` at `deadline`.

What may take long is not done here: a transfer comes out as an event, the driver has it judged by `verify_transfer`,
in a thread if it likes, and says `transfer_verified`, `transfer_dropped` or `transfer_refused`. Until then it takes no
further event. The invariant: nothing that the peer says has an effect beyond its own link before it was verified.
Spec 7.4 to 7.8.
"""

import math
from collections import deque
from collections.abc import Container

import attrs

from xlattice_trio.crypto import Label, digest
from xlattice_trio.errors import DecodeError, ErrorCode, IdentityError, LinkError, UsageError
from xlattice_trio.limits import (
    LINK_BYE_DEADLINE,
    RECORD_PAYLOAD_MAX,
    ROSTER_MAX,
    ROSTER_OFFER_SIZE,
    TRANSFER_DEADLINE,
)
from xlattice_trio.link.transitions import LINK_MESSAGES
from xlattice_trio.link.transitions import MessagesAction as Action
from xlattice_trio.link.transitions import MessagesEvent as Event
from xlattice_trio.link.transitions import MessagesState as State
from xlattice_trio.machine import next_state
from xlattice_trio.roster import AnotherCluster, VerifiedRoster, replaces, verify_roster
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.messages import LinkHeader, LinkType, RosterOffer, RosterRequest, RosterTransfer

HEADER_SIZE = 4
# What a header may announce, by type. [LK-21]
_LENGTHS: dict[LinkType, Container[int]] = {
    LinkType.ROSTER_OFFER: (ROSTER_OFFER_SIZE,),
    LinkType.ROSTER_REQUEST: (0,),
    LinkType.ROSTER_TRANSFER: range(1, ROSTER_MAX + 1),
}
_SPEAKING = (State.AWAIT_OFFER, State.EXCHANGED)


class Holding:
    """The roster in force, in the form in which links speak of it. One for all links of a node."""

    def __init__(self, roster: VerifiedRoster) -> None:
        self.roster = roster
        self.offer = RosterOffer(roster.epoch, roster.digest)
        self._transfer: bytes | None = None

    @property
    def transfer(self) -> bytes:
        """The RosterTransfer, header included: up to 4 MiB, encoded when it is asked for first."""
        if self._transfer is None:
            self._transfer = encode_message(RosterTransfer(self.roster.roster))
        return self._transfer

    def conflicts_with(self, offer: RosterOffer) -> bool:
        """Whether it is of the same epoch and another roster. Spec 7.6."""
        return offer.epoch == self.offer.epoch and offer.digest != self.offer.digest


def encode_message(message: RosterOffer | RosterRequest | RosterTransfer) -> bytes:
    """A link message, header and body."""
    match message:
        case RosterOffer():
            type_ = LinkType.ROSTER_OFFER
        case RosterRequest():
            type_ = LinkType.ROSTER_REQUEST
        case RosterTransfer():
            type_ = LinkType.ROSTER_TRANSFER
    body = encode(message)
    return encode(LinkHeader(type_, len(body))) + body


# ---- events: what the peer has said -------------------------------------------


@attrs.frozen
class NeedData:
    """Nothing more until bytes arrive."""


@attrs.frozen
class OfferReceived:
    """The peer's last offer, which is no conflict."""

    offer: RosterOffer


@attrs.frozen
class ConflictFound:
    """The peer's last offer has the epoch of our roster and another digest: the link ends."""

    offer: RosterOffer


@attrs.frozen
class RequestReceived:
    """The peer wants our roster: `send_transfer`, now, later or never. [LK-43]"""


@attrs.frozen
class TransferReceived:
    """A whole RosterTransfer, to be judged; `offer` is the peer's last offer when it arrived."""

    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    offer: RosterOffer


NEED_DATA = NeedData()
REQUEST_RECEIVED = RequestReceived()

LinkEvent = NeedData | OfferReceived | ConflictFound | RequestReceived | TransferReceived


# ---- what is to be done with the session --------------------------------------


@attrs.frozen
class SendData:
    """Bytes for the Data stream, up to as many as were asked for."""

    data: bytes = attrs.field(repr=lambda data: f"<{len(data)} bytes>")


@attrs.frozen
class SendBye:
    """Say Bye. What was cut off by it stays so. [LK-24]"""


@attrs.frozen
class SendError:
    """End the session with this Error. `text` is for logs."""

    code: ErrorCode
    text: str


@attrs.frozen
class Close:
    """Close the connection: the peer's Bye did not come."""


SEND_BYE = SendBye()
CLOSE = Close()


# ---- one link -----------------------------------------------------------------


class LinkExchange:
    """One side of one link, at its own ESTABLISHED. `holding` is the roster in force there."""

    def __init__(self, holding: Holding) -> None:
        self.state = State.AWAIT_OFFER
        self.ending: SendError | Close | None = None  # how the session has to be ended, at once
        self.peer_offer: RosterOffer | None = None  # the peer's last offer [LK-29]
        self.transfer_wanted = False  # the peer's last request is not answered yet
        self.transfer_byte_at = -math.inf  # when the last byte of a transfer arrived
        self._holding = holding
        self._buffer = bytearray()
        self._header: LinkHeader | None = None  # of the message whose body is arriving
        self._received_at = -math.inf
        self._requests_sent = 0
        self._transfers_arrived = 0
        self._offers = deque([encode_message(holding.offer)])  # not yet begun to be written [LK-25]
        self._has_offered = False
        self._request_due = False
        self._transfer_due = False
        self._writing = memoryview(b"")  # what is left of the message that is being written
        self._transfer_since: float | None = None  # since when it is a transfer
        self._bye_due = False
        self._bye_at: float | None = None

    @property
    def is_exchanged(self) -> bool:
        """Whether both sides have offered, and the link has neither ended nor found a conflict. [LK-58]"""
        return self.peer_offer is not None and self._has_offered and self.state is not State.ENDED

    @property
    def is_ending(self) -> bool:
        """Whether the link has ended, or has begun to."""
        return self.state not in _SPEAKING

    @property
    def is_sending_transfer(self) -> bool:
        """Whether a transfer is being written, or will be next."""
        return not self.is_ending and (self._transfer_due or self._transfer_since is not None)

    # ---- what arrives ----

    def receive_data(self, data: bytes | bytearray, now: float) -> None:
        """Store bytes of the peer's Data stream. After the end, or our Bye, they are thrown away. [LK-20]"""
        if self.is_ending:
            return
        self._received_at = now
        if self._header is not None and self._header.type is LinkType.ROSTER_TRANSFER and data:
            self.transfer_byte_at = now
        self._buffer += data

    def next_event(self) -> LinkEvent:
        """What the peer has said next, as far as the bytes reach.

        Raises LinkError for a violation, and then `ending` is the answer.
        """
        if self.is_ending:
            return NEED_DATA
        try:
            return self._next_message()
        except (LinkError, DecodeError) as exc:
            self._happens(Event.MESSAGE_REFUSED, str(exc))
            raise LinkError(str(exc)) from exc

    def _next_message(self) -> LinkEvent:
        if self._header is None:
            if len(self._buffer) < HEADER_SIZE:
                return NEED_DATA
            header = decode(LinkHeader, self._buffer[:HEADER_SIZE])
            self._check_header(header)
            del self._buffer[:HEADER_SIZE]
            self._header = header
        if len(self._buffer) < self._header.length:
            return NEED_DATA
        type_, body = self._header.type, bytes(self._buffer[: self._header.length])
        del self._buffer[: self._header.length]
        self._header = None
        match type_:
            case LinkType.ROSTER_OFFER:
                return self._offer_read(decode(RosterOffer, body))  # [LK-22]
            case LinkType.ROSTER_REQUEST:
                self._happens(Event.REQUEST_READ)
                self.transfer_wanted = True
                return REQUEST_RECEIVED
            case LinkType.ROSTER_TRANSFER:
                assert self.peer_offer is not None
                return TransferReceived(body, self.peer_offer)

    def _check_header(self, header: LinkHeader) -> None:
        """Whether this message may come, before its body is read. Raises LinkError."""
        name = header.type.name
        if header.length not in _LENGTHS[header.type]:  # [LK-21]
            raise LinkError(f"a {name} of {header.length} bytes")
        if self.state is State.AWAIT_OFFER and header.type is not LinkType.ROSTER_OFFER:  # [LK-26]
            raise LinkError(f"a {name} as the first message")
        if header.type is LinkType.ROSTER_REQUEST and not self._has_offered:  # [LK-45]
            raise LinkError(f"a {name} before our offer")
        if header.type is LinkType.ROSTER_TRANSFER:
            if self._requests_sent <= self._transfers_arrived:  # [LK-47]
                raise LinkError(f"a {name} that nobody has asked for")
            self._transfers_arrived += 1
            self.transfer_byte_at = self._received_at

    def _offer_read(self, offer: RosterOffer) -> OfferReceived | ConflictFound:
        self.peer_offer = offer  # whatever was offered before [LK-29]
        if self._holding.conflicts_with(offer):
            self._happens(Event.CONFLICT_FOUND)  # [LK-31] [RO-47]
            return ConflictFound(offer)
        self._happens(Event.OFFER_READ)
        return OfferReceived(offer)

    def bye_opened(self) -> None:
        """The peer has said Bye: we say it too. A message that it cut off is nothing. [LK-17] [LK-18]"""
        self._happens(Event.BYE_OPENED)

    def session_ended(self) -> None:
        """The session has ended in any other way."""
        self._happens(Event.SESSION_ENDED)

    # ---- what became of a transfer ----

    def transfer_verified(self) -> None:
        """It passed all checks, and the node adopts it, whatever has become of the link. [LK-50]"""
        self._happens(Event.TRANSFER_VERIFIED)

    def transfer_dropped(self) -> None:
        """It is not above the floor: the link goes on. [LK-49]"""
        self._happens(Event.TRANSFER_DROPPED)

    def transfer_refused(self, text: str) -> None:
        """It is a violation."""
        self._happens(Event.MESSAGE_REFUSED, text)

    # ---- what the node does ----

    def adopted(self, holding: Holding) -> ConflictFound | None:
        """The node has adopted a roster that admits this link: offer it, unless the peer's last offer conflicts."""
        if self.is_ending:
            return None
        self._holding = holding
        if self.peer_offer is not None and holding.conflicts_with(self.peer_offer):
            self._happens(Event.CONFLICT_FOUND)  # [LK-31] [RO-47]
            return ConflictFound(self.peer_offer)
        self._happens(Event.ROSTER_ADOPTED)
        return None

    def refused(self) -> None:
        """The node has adopted a roster that does not admit this link. [RO-55]"""
        self._happens(Event.LINK_REFUSED)

    def replaced(self) -> None:
        """R: a newer link with this peer is ESTABLISHED. [LK-14]"""
        self._happens(Event.REPLACED)

    def stopping(self) -> None:
        """The node stops. [SV-23]"""
        self._happens(Event.NODE_STOPPING)

    def end(self, code: ErrorCode, text: str) -> None:
        """The node ends the session with an Error that no table has."""
        if self.state is not State.ENDED:
            self._happens(Event.SESSION_ENDED)
            self.ending = SendError(code, text)

    def request(self) -> None:
        """Ask the peer for its roster. A request that is not written yet is not made twice. Raises UsageError."""
        if self.state is not State.EXCHANGED:
            raise UsageError(f"no RosterRequest in state {self.state}")
        self._request_due = True

    def send_transfer(self) -> None:
        """Answer the peer's request: with the roster that is in force when the writing begins. [LK-41]

        Raises UsageError if there is no request, or a transfer under way.
        """
        if not self.transfer_wanted or self.is_sending_transfer:  # [LK-44]
            raise UsageError("no RosterTransfer without a RosterRequest, and one at a time")
        self.transfer_wanted = False
        self._transfer_due = True

    # ---- what is sent ----

    def next_piece(self, now: float, size: int = RECORD_PAYLOAD_MAX) -> SendData | SendBye | None:
        """What to write now, Data of up to `size` bytes; None if there is nothing."""
        if not self._writing:
            self._transfer_since = None
        if self._bye_due and self.ending is None:
            self._bye_due, self._bye_at = False, now
            return SEND_BYE
        if self.is_ending:
            return None
        if not self._writing:
            self._begin_message(now)
        if not self._writing:
            return None
        piece, self._writing = bytes(self._writing[:size]), self._writing[size:]
        return SendData(piece)

    def _begin_message(self, now: float) -> None:
        """The next message, whole behind the one before it [LK-24]: offers first [LK-28], then what costs the most."""
        message = b""
        if self._offers:
            message, self._has_offered = self._offers.popleft(), True
        elif self._request_due:
            message, self._request_due = encode_message(RosterRequest()), False
            self._requests_sent += 1
        elif self._transfer_due:
            message, self._transfer_due = self._holding.transfer, False
            self._transfer_since = now
        self._writing = memoryview(message)

    # ---- clocks ----

    def deadline(self) -> float:
        """When to call `time_passed`; infinity if there is nothing to wait for."""
        if self.state is State.LEAVING and self._bye_at is not None:
            return self._bye_at + LINK_BYE_DEADLINE
        if not self.is_ending and self._transfer_since is not None:
            return self._transfer_since + TRANSFER_DEADLINE
        return math.inf

    def time_passed(self, now: float) -> None:
        """The time is `now`; does nothing before `deadline`."""
        if now < self.deadline():
            return
        if self.state is State.LEAVING:
            self._happens(Event.BYE_DEADLINE_PASSED)  # [LK-19]
        else:
            self.end(ErrorCode.OVER_CAPACITY, "the transfer took too long")  # [LK-46]

    # ---- the machine ----

    def _happens(self, event: Event, text: str = "") -> None:
        action, self.state = next_state(LINK_MESSAGES, self.state, event)
        match action:
            case Action.SEND_OFFER:  # [LK-27]
                self._offers.append(encode_message(self._holding.offer))
            case Action.SEND_BYE:
                self._bye_due = True
            case Action.SEND_CONFLICT:
                text = f"another roster of epoch {self._holding.offer.epoch}"
                self.ending = SendError(ErrorCode.ROSTER_CONFLICT, text)
            case Action.SEND_REFUSAL:
                self.ending = SendError(ErrorCode.NOT_AUTHORIZED, "the new roster does not admit this link")
            case Action.SEND_VIOLATION:
                self.ending = SendError(ErrorCode.PROTOCOL_VIOLATION, text)
            case Action.CLOSE:
                self.ending = CLOSE


# ---- transfers ----------------------------------------------------------------


def verify_transfer(body: bytes, offer: RosterOffer, held: VerifiedRoster, floor: int) -> VerifiedRoster | None:
    """The roster in a RosterTransfer if it passes all checks of Spec 7.8, in their order; None if it is dropped.

    `offer` is the peer's last, `held` the roster in force, `floor` the epoch that it has to be above. Takes seconds
    for a large roster. Raises LinkError for a violation. [LK-48]
    """
    try:
        roster = decode(RosterTransfer, body).roster  # 1
        found = digest(Label.ROSTER_DIGEST, encode_before(roster, "signature"))
        if roster.epoch < offer.epoch or (roster.epoch == offer.epoch and found != offer.digest):  # 2
            raise LinkError(f"a roster of epoch {roster.epoch} where one of epoch {offer.epoch} was offered")
        if roster.epoch <= floor:  # 3
            return None
        if roster.authority != held.roster.authority:  # 4
            raise AnotherCluster("authority", f"{roster.name!r}, epoch {roster.epoch}, is of another cluster")
        verified = verify_roster(roster, cluster_id=held.cluster_id)  # 5, 6 [RO-32]
        replaces(held, verified, highest=floor)  # its epoch is above the floor; raises AnotherCluster
        return verified
    except (DecodeError, IdentityError) as exc:
        raise LinkError(str(exc)) from exc
