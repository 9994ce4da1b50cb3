"""Links between members: the messages of one, and the machines that dial, accept and ask. The peer is a rogue member.

The invariants:
- Every state table of Spec 7 is what the machine does, in every state with every event.
- Offers come first and are of the roster in force; no transfer without a request, and none is taken that was not asked
  for; a conflict ends the link, and so does every violation, at the header where it can be seen there.
- A transfer is judged in the order of the checks of Spec 7.8: what is old is dropped, what is wrong is a violation.
- A rogue that offers what it does not have is asked again only after its time, and no more than one peer is asked.
- Back-off, penalty and deadlines are those of the specification.

What has to happen is interpreted from the specification's tables, as in `session_model`.
"""

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from xlattice_trio.cluster.liveness import Liveness
from xlattice_trio.errors import LinkError, UsageError
from xlattice_trio.fuzz.documents import Plan, rule_of, wrongs
from xlattice_trio.fuzz.hellos import pick
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.session_model import error_codes, limit, row, state_table, states_of
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.link.dialling import Accepter, Dialler
from xlattice_trio.link.protocol import (
    Close,
    ConflictFound,
    Holding,
    LinkExchange,
    NeedData,
    OfferReceived,
    RequestReceived,
    SendBye,
    SendData,
    SendError,
    TransferReceived,
    verify_transfer,
)
from xlattice_trio.link.requests import Requests
from xlattice_trio.link.transitions import AccepterEvent, DiallerEvent, RequestEvent
from xlattice_trio.roster import VerifiedRoster, verify_roster
from xlattice_trio.testing.toolbox import flip
from xlattice_trio.wire.codec import decode
from xlattice_trio.wire.messages import Roster

OFFER, REQUEST, TRANSFER = 1, 2, 3
_FACTORS = (0.5, 1.0, 1.5)
_TICK = 0.125
_PLANS = tuple(Plan(epoch=epoch, variant=variant) for epoch in (1, 2, 3, 4) for variant in ("", "name"))
# What a transfer can have wrong: what says its epoch is left alone, since that decides what is looked at.
_WRONG = tuple(wrong for wrong in wrongs("roster") if "epoch" not in wrong)


def message(type_: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A link message by its bytes."""
    return bytes((type_,)) + (len(body) if length is None else length).to_bytes(3, "big") + body


def offer_of(plan: Plan) -> bytes:
    """The body of an offer."""
    return plan.epoch.to_bytes(8, "big") + plan.digest


@functools.lru_cache(64)
def _verified(plan: Plan) -> VerifiedRoster:
    return verify_roster(decode(Roster, plan.encoded))


# ---- the messages of a link --------------------------------------------------

_BAD = (
    message(0),
    message(4),
    message(255, bytes(40)),
    message(OFFER, length=39),
    message(OFFER, length=41),
    message(OFFER, bytes(40)),  # epoch 0
    message(REQUEST, b"x"),
    message(TRANSFER, length=0),
    message(TRANSFER, length=4_194_305),
)


_DIRECT = (
    "BYE_OPENED",
    "SESSION_ENDED",
    "LINK_REFUSED",
    "REPLACED",
    "NODE_STOPPING",
    "TRANSFER_VERIFIED",
    "TRANSFER_DROPPED",
    "MESSAGE_REFUSED",
    "ROSTER_ADOPTED",
)


@attrs.define
class LinkModel:
    """One side of a link: Spec 7.4 to 7.8."""

    holding: Plan
    state: str = "AWAIT_OFFER"
    ending: str | None = None  # "close", or the name of the code
    peer_offer: bytes | None = None
    buffer: bytes = b""
    offers: list[bytes] = attrs.Factory(list)
    has_offered: bool = False
    request_due: bool = False
    transfer_due: bool = False
    transfer_wanted: bool = False
    transfer_since: float | None = None
    requests: int = 0
    transfers: int = 0
    announced: bool = False  # the header of the message in `buffer` was judged
    writing: bytes = b""
    bye_due: bool = False
    bye_at: float | None = None

    @property
    def is_ending(self) -> bool:
        """Whether the link has ended, or has begun to."""
        return self.state in ("LEAVING", "ENDED")

    def conflicts(self) -> bool:
        """Whether the peer's last offer is another roster of the epoch in force."""
        own = offer_of(self.holding)
        return self.peer_offer is not None and self.peer_offer[:8] == own[:8] and self.peer_offer != own

    def happens(self, event: str) -> None:
        """An event of the table."""
        actions, self.state = row("LinkMessages", self.state, event)
        for action in actions:
            if action == "send RosterOffer":
                self.offers.append(message(OFFER, offer_of(self.holding)))
            elif action == "send Bye":
                self.bye_due = True
            elif action == "close":
                self.ending = "close"
            elif action.startswith("send Error("):
                self.ending = action[len("send Error(") : -1]

    def takes(self) -> tuple[str, bytes]:
        """What the peer has said next: the event of the table, or nothing or a transfer; and the body."""
        if self.is_ending or len(self.buffer) < 4:
            return "", b""
        type_, length = self.buffer[0], int.from_bytes(self.buffer[1:4], "big")
        if not self.announced:
            if not self._may_come(type_, length):
                self.happens("MESSAGE_REFUSED")
                return "MESSAGE_REFUSED", b""
            self.announced = True
            self.transfers += type_ == TRANSFER
        if len(self.buffer) < 4 + length:
            return "", b""
        body, self.buffer = self.buffer[4 : 4 + length], self.buffer[4 + length :]
        self.announced = False
        if type_ == TRANSFER:
            return "TRANSFER", body
        event = "REQUEST_READ"
        if type_ == OFFER:
            event = "OFFER_READ"
            if body[:8] == bytes(8):
                event = "MESSAGE_REFUSED"
            else:
                self.peer_offer = body
                event = "CONFLICT_FOUND" if self.conflicts() else "OFFER_READ"
        self.transfer_wanted |= event == "REQUEST_READ"
        self.happens(event)
        return event, body

    def _may_come(self, type_: int, length: int) -> bool:
        if type_ not in (OFFER, REQUEST, TRANSFER):
            return False
        if not {OFFER: length == 40, REQUEST: length == 0, TRANSFER: 1 <= length <= 4_194_304}[type_]:
            return False
        if self.state == "AWAIT_OFFER":
            return type_ == OFFER
        if type_ == REQUEST:
            return self.has_offered
        return type_ == OFFER or self.requests >= self.transfers + 1

    def writes(self, now: float, size: int) -> bytes | None:
        """The next piece; b"" for Bye, None for nothing."""
        if not self.writing:
            self.transfer_since = None
        if self.bye_due and self.ending is None:
            self.bye_due, self.bye_at = False, now
            return b""
        if self.is_ending:
            return None
        if not self.writing:
            if self.offers:
                self.writing, self.has_offered = self.offers.pop(0), True
            elif self.request_due:
                self.writing, self.request_due = message(REQUEST), False
                self.requests += 1
            elif self.transfer_due:
                self.writing, self.transfer_due = message(TRANSFER, self.holding.encoded), False
                self.transfer_since = now
        piece, self.writing = self.writing[:size], self.writing[size:]
        return piece or None

    @property
    def deadline(self) -> float:
        """When time is up."""
        if self.state == "LEAVING" and self.bye_at is not None:
            return self.bye_at + limit("LINK_BYE_DEADLINE")
        if not self.is_ending and self.transfer_since is not None:
            return self.transfer_since + limit("TRANSFER_DEADLINE")
        return math.inf


# What can be said and done on a link, in a few words: what `begin_with` is made of.
_WORDS: dict[str, Callable[[Any], object]] = {
    "its offer is written": lambda link: link.write(65_536),
    "a part of it": lambda link: link.write(10),
    "an offer comes": lambda link: link._arrives(message(OFFER, offer_of(link.model.holding))),
    "a higher offer comes": lambda link: link.peer_lies(2**63, 1),
    "what it will adopt is offered, and is another": lambda link: link.peer_lies(link.model.holding.epoch % 4 + 1, 1),
    "a conflict comes": lambda link: link.peer_lies(1, 3),
    "a request comes": lambda link: link.peer_requests(1),
    "a transfer comes": lambda link: link.peer_transfers(0, 0, "", "", False),
    "it asks": lambda link: link.node_requests(),
    "it answers": lambda link: link.node_answers(),
    "it answers, and adopts": lambda link: (link.peer_requests(1), link.node_answers(), link.node_adopts(1, "")),
    "it adopts": lambda link: link.node_adopts(1, ""),
    "it leaves": lambda link: link.node_ends("REPLACED"),
    "Bye comes": lambda link: link.peer_says_bye(),
}
# Every order of three of what a link can begin with.
_ORDERS = tuple(
    itertools.permutations(
        ("its offer is written", "an offer comes", "a request comes", "a transfer comes", "it asks", "it adopts"), 3
    )
)


class LinkMachine(TargetMachine):
    """One side of a link, with a rogue peer and a node that does whatever nodes do."""

    @initialize(number=st.integers(0, len(_PLANS) - 1), exchanged=st.booleans())
    def begin(self, number: int, exchanged: bool) -> None:
        """A link at its ESTABLISHED, or both sides have offered."""
        plan = _PLANS[number]
        self.now = 1000.0
        self.floor = plan.epoch
        self.exchange = LinkExchange(Holding(_verified(plan)))
        self.model = LinkModel(plan, offers=[message(OFFER, offer_of(plan))])
        if exchanged:
            self.write(65_536)
            self._arrives(message(OFFER, offer_of(plan)))

    @precondition(lambda self: self.model.is_ending)
    @rule(number=st.integers(0, len(_PLANS) - 1), exchanged=st.booleans())
    def begin_another(self, number: int, exchanged: bool) -> None:
        """Another link."""
        self.begin(number, exchanged)

    @rule()
    def every_event_in_every_state(self) -> None:
        """Each in a new link, which is brought into the state."""
        number = self.model.holding.epoch % len(_PLANS)
        for state in states_of("LinkMessages"):
            for event in (*_DIRECT, "OFFER_READ", "CONFLICT_FOUND", "REQUEST_READ", "BYE_DEADLINE_PASSED"):
                self.begin(number, state != "AWAIT_OFFER")
                if state == "LEAVING":
                    self.node_ends("NODE_STOPPING")
                elif state == "ENDED":
                    self.session_ends("SESSION_ENDED")
                self._take(event)
                self.holds()
        self.begin(number, True)

    def _take(self, event: str) -> None:
        if event in ("BYE_OPENED", "SESSION_ENDED"):
            self.session_ends(event)
        elif event in ("LINK_REFUSED", "REPLACED", "NODE_STOPPING"):
            self.node_ends(event)
        elif event in ("TRANSFER_VERIFIED", "TRANSFER_DROPPED", "MESSAGE_REFUSED"):
            self.late_verdict(event)
        elif event == "ROSTER_ADOPTED":
            self.node_adopts(1, "")
        elif event == "OFFER_READ":
            self._arrives(message(OFFER, offer_of(self.model.holding)))
        elif event == "CONFLICT_FOUND":
            self.peer_lies(self.model.holding.epoch, 1)
        elif event == "REQUEST_READ":
            self.write(65_536)
            self.peer_requests(1)
        else:
            self.write(65_536)
            self.pass_to_the_deadline(0)

    # ---- the peer ----

    def _arrives(self, data: bytes) -> None:
        """Bytes, and all that they say."""
        self.exchange.receive_data(data, self.now)
        if not self.model.is_ending:
            self.model.buffer += data
        while True:
            offer = self.model.peer_offer
            expected, body = self.model.takes()
            try:
                got = self.exchange.next_event()
            except LinkError:
                assert expected == "MESSAGE_REFUSED", f"a violation was found, where {expected or 'nothing'} is due"
                return
            kinds = {
                "": NeedData,
                "OFFER_READ": OfferReceived,
                "CONFLICT_FOUND": ConflictFound,
                "REQUEST_READ": RequestReceived,
                "TRANSFER": TransferReceived,
            }
            assert expected in kinds, f"{got} was taken, which is a violation"
            assert isinstance(got, kinds[expected]), f"{got}, where {expected or 'nothing'} is due"
            if not expected:
                return
            if isinstance(got, OfferReceived | ConflictFound):
                assert got.offer.epoch.to_bytes(8, "big") + got.offer.digest == body, f"{got} is not what was offered"
            elif isinstance(got, TransferReceived):
                assert got.body == body, "the transfer is not what was sent"
                assert got.offer.epoch.to_bytes(8, "big") + got.offer.digest == offer, "not the peer's last offer"
                self._judge(got)

    @rule(number=st.integers(0, len(_PLANS) - 1), size=st.sampled_from((44, 1, 3, 4, 43)))
    def peer_offers(self, number: int, size: int) -> None:
        """A roster that there is, in two pieces."""
        data = message(OFFER, offer_of(_PLANS[number]))
        self._arrives(data[:size])
        self.holds()
        self._arrives(data[size:])

    @rule(epoch=st.sampled_from((1, 2, 3, 4, 2**64 - 1)), digest=st.integers(0, 3))
    def peer_lies(self, epoch: int, digest: int) -> None:
        """An offer of a roster that nobody has seen, or one that is almost that in force."""
        held = self.model.holding
        lie = epoch.to_bytes(8, "big") + bytes((digest,)) * 32
        if digest == 3:
            lie = held.epoch.to_bytes(8, "big") + flip(held.digest, pick(epoch, 0, 7, 128, 255))
        self._arrives(message(OFFER, lie))

    @rule(
        number=st.integers(0, len(_PLANS) - 1),
        words=st.lists(st.sampled_from(sorted(_WORDS)), min_size=1, max_size=8),
        exchanged=st.booleans(),
    )
    def begin_with(self, number: int, words: list[str], exchanged: bool) -> None:
        """Another link, and what is said on it first, by either side."""
        self.begin(number, exchanged)
        for word in words:
            _WORDS[word](self)
            self.holds()

    @rule(number=st.integers(0, len(_PLANS) - 1), first=st.integers(0, len(_ORDERS) - 1))
    def begin_in_other_orders(self, number: int, first: int) -> None:
        """Links that begin with the same words in one order, the next, and so on: what is right in one is not in the
        other."""
        for words in itertools.islice(itertools.cycle(_ORDERS), first, first + 20):
            self.begin_with(number, list(words), False)

    @rule(number=st.integers(0, len(_PLANS) - 1), asked=st.booleans())
    def err_in_each_way(self, number: int, asked: bool) -> None:
        """Each message that no link has, on a link of its own."""
        for wrong in range(len(_BAD)):
            self.begin(number, True)
            self.peer_errs(wrong, asked)
            self.holds()

    @rule(
        lies=st.sampled_from(("", "", "digest", "epoch")),
        held=st.integers(0, len(_PLANS) - 1),
        number=st.integers(0, len(_PLANS) - 1),
        wrong=st.sampled_from(("", "", *_WRONG)),
    )
    def offer_and_transfer(self, lies: str, held: int, number: int, wrong: str) -> None:
        """On another link a roster is offered, asked for and transferred; it is not what was offered, or is."""
        self.begin(held, True)
        plan = _PLANS[number]
        offer = offer_of(plan)
        self._arrives(message(OFFER, flip(offer, 8 * 40 - 1 if lies == "digest" else 62) if lies else offer))
        self.holds()
        self.peer_transfers(number, 0, wrong, "", True)

    @rule(count=st.integers(1, 2))
    def peer_requests(self, count: int) -> None:
        """It asks for the roster."""
        self._arrives(message(REQUEST) * count)

    @rule(number=st.integers(0, len(_BAD) - 1), asked=st.booleans())
    def peer_errs(self, number: int, asked: bool) -> None:
        """A message that no link has, whether a transfer is due or not."""
        if asked:
            self._ask()
        self._arrives(_BAD[number])

    def _ask(self) -> None:
        """The node asks, and has written that."""
        if self.model.state == "EXCHANGED":
            self.node_requests()
            for _ in range(4):
                self.write(65_536)

    @rule(
        number=st.integers(0, len(_PLANS) - 1),
        authority=st.sampled_from((0, 0, 0, 1)),
        wrong=st.sampled_from(("", "", "", *_WRONG)),
        lasting=st.sampled_from(("", "", "knock", "cluster_port")),
        asked=st.booleans(),
    )
    def peer_transfers(self, number: int, authority: int, wrong: str, lasting: str, asked: bool) -> None:
        """A roster, of one authority or the other, and with something wrong in it or not; asked for or not."""
        if asked:
            self._ask()
        self.transferred = attrs.evolve(_PLANS[number], authority=authority, wrong=wrong, lasting=lasting)
        if lasting:
            self.transferred = attrs.evolve(self.transferred, variant="")
        self._arrives(message(TRANSFER, self.transferred.encoded))

    @rule(size=st.integers(1, 300))
    def peer_begins_a_transfer(self, size: int) -> None:
        """The header, and nothing behind it; then Bye. What was cut off is no violation."""
        self._arrives(message(TRANSFER, length=size))
        self.peer_says_bye()

    def peer_says_bye(self) -> None:
        """Bye."""
        self.exchange.bye_opened()
        self.model.happens("BYE_OPENED")

    @rule(event=st.sampled_from(("BYE_OPENED", "SESSION_ENDED", "BYE_OPENED")))
    def session_ends(self, event: str) -> None:
        """The peer's Bye, or another end of the session."""
        if event == "BYE_OPENED":
            self.peer_says_bye()
        else:
            self.exchange.session_ended()
            self.model.happens(event)

    # ---- what becomes of a transfer ----

    def _judge(self, got: TransferReceived) -> None:
        """Spec 7.8, the table of checks; then the node says what it found."""
        plan, held = self.transferred, self.exchange._holding.roster
        last = got.offer.epoch.to_bytes(8, "big") + got.offer.digest
        if plan.wrong and not rule_of(plan.wrong) and "twice" not in plan.wrong:
            expected = "refused"  # check 1
        elif plan.epoch < got.offer.epoch or (plan.epoch == got.offer.epoch and offer_of(plan) != last):
            expected = "refused"
        elif plan.epoch <= self.floor:
            expected = "dropped"
        elif plan.wrong or plan.authority or plan.lasting:
            expected = "refused"
        else:
            expected = "verified"
        try:
            verified = verify_transfer(got.body, got.offer, held, self.floor)
            verdict = "dropped" if verified is None else "verified"
        except LinkError:
            verdict = "refused"
        assert verdict == expected, f"the transfer of {plan} was {verdict}, not {expected}; the floor is {self.floor}"
        if verdict == "verified":
            self.exchange.transfer_verified()
            self.model.happens("TRANSFER_VERIFIED")
            self._adopt(plan)
        elif verdict == "dropped":
            self.exchange.transfer_dropped()
            self.model.happens("TRANSFER_DROPPED")
        else:
            self.exchange.transfer_refused("as it is")
            self.model.happens("MESSAGE_REFUSED")

    @rule(event=st.sampled_from(("TRANSFER_VERIFIED", "TRANSFER_DROPPED", "MESSAGE_REFUSED")))
    def late_verdict(self, event: str) -> None:
        """A transfer that was looked at meanwhile, whatever has become of the link."""
        match event:
            case "TRANSFER_VERIFIED":
                self.exchange.transfer_verified()
            case "TRANSFER_DROPPED":
                self.exchange.transfer_dropped()
            case _:
                self.exchange.transfer_refused("as it is")
        self.model.happens(event)

    # ---- the node ----

    @rule(more=st.integers(1, 2), variant=st.sampled_from(("", "name")))
    def node_adopts(self, more: int, variant: str) -> None:
        """The node adopts a roster of a higher epoch."""
        self._adopt(Plan(epoch=self.model.holding.epoch % 4 + more, variant=variant))

    def _adopt(self, plan: Plan) -> None:
        self.floor = plan.epoch
        found = self.exchange.adopted(Holding(_verified(plan)))
        if self.model.is_ending:
            assert found is None, "a conflict was found on a link that is ending"
            return
        self.model.holding = plan
        conflict = self.model.conflicts()
        assert (found is not None) == conflict, f"a conflict was {'not ' if conflict else ''}found at the adoption"
        self.model.happens("CONFLICT_FOUND" if conflict else "ROSTER_ADOPTED")

    @rule(event=st.sampled_from(("LINK_REFUSED", "REPLACED", "NODE_STOPPING")))
    def node_ends(self, event: str) -> None:
        """The node ends the link."""
        {
            "LINK_REFUSED": self.exchange.refused,
            "REPLACED": self.exchange.replaced,
            "NODE_STOPPING": self.exchange.stopping,
        }[event]()
        self.model.happens(event)

    @rule()
    def node_requests(self) -> None:
        """The node asks for the peer's roster."""
        may = self.model.state == "EXCHANGED"
        try:
            self.exchange.request()
        except UsageError:
            assert not may, "a request was refused"
            return
        assert may, f"a request in {self.model.state}"
        self.model.request_due = True

    @rule()
    def node_answers(self) -> None:
        """The node answers the peer's request, if there is one."""
        model = self.model
        under_way = not model.is_ending and (model.transfer_due or model.transfer_since is not None)
        may = model.transfer_wanted and not under_way
        try:
            self.exchange.send_transfer()
        except UsageError:
            assert not may, "an answer was refused"
            return
        assert may, "a transfer that nobody has asked for"
        model.transfer_wanted, model.transfer_due = False, True

    @rule(size=st.sampled_from((65_536, 10, 1)))
    def write(self, size: int) -> None:
        """The next piece is written."""
        expected = self.model.writes(self.now, size)
        piece = self.exchange.next_piece(self.now, size)
        if expected is None:
            assert piece is None, f"{piece} was written in {self.model.state}"
        elif not expected:
            assert isinstance(piece, SendBye), f"{piece} was written in the place of Bye"
        else:
            assert isinstance(piece, SendData), f"{piece} was written in the place of {len(expected)} bytes"
            assert piece.data == expected, f"{piece.data[:8].hex()}... was written, not {expected[:8].hex()}..."

    @rule(more=st.sampled_from((-1, 0, 1)))
    def pass_to_the_deadline(self, more: int) -> None:
        """Until time is up, or just before that or behind it."""
        due = self.model.deadline
        if due == math.inf:
            self.now += 1.0
        else:
            self.now = max(self.now, due + more * _TICK)
        is_up = self.now >= due
        self.exchange.time_passed(self.now)
        if is_up and self.model.state == "LEAVING":
            self.model.happens("BYE_DEADLINE_PASSED")
        elif is_up:
            self.model.happens("SESSION_ENDED")
            self.model.ending = "over_capacity"

    @invariant()
    def holds(self) -> None:
        """The link is what the model has it."""
        model, exchange = self.model, self.exchange
        assert exchange.state == model.state, f"the link is in {exchange.state}, not in {model.state}"
        found = exchange.ending
        if isinstance(found, SendError):
            code = model.ending is not None and error_codes().get(model.ending)
            assert found.code == code, f"the link ends with {found.code.name}, not with {model.ending}"
        else:
            expected = "close" if isinstance(found, Close) else None
            assert model.ending == expected, f"the link ends with {found}, not with {model.ending}"
        assert exchange.deadline() == model.deadline, f"the deadline is {exchange.deadline()}, not {model.deadline}"
        assert exchange.is_ending == model.is_ending, f"is_ending is {exchange.is_ending} in {model.state}"
        live = model.peer_offer is not None and model.has_offered and model.state != "ENDED"
        assert exchange.is_exchanged == live, f"is_exchanged is {exchange.is_exchanged} in {model.state}"
        assert len(exchange._buffer) <= len(model.buffer), "more bytes are held than have come"


# ---- dialling, accepting -----------------------------------------------------


_WAYS: dict[str, tuple[str, ...]] = {  # how a dialler comes into a state
    "STOPPED": (),
    "WAITING": ("PEER_ADDED", "DIAL_FAILED"),
    "DIALLING": ("PEER_ADDED",),
    "LINKED": ("PEER_ADDED", "FIRST_RECORD_OPENED"),
    "RENEWING": ("PEER_ADDED", "FIRST_RECORD_OPENED", "LINK_AGED"),
    "RENEW_WAITING": ("PEER_ADDED", "FIRST_RECORD_OPENED", "LINK_AGED", "DIAL_FAILED"),
}


class DialMachine(TargetMachine):
    """The machines of a peer with a higher NodeID, and of one with a lower."""

    @initialize(factor=st.sampled_from(_FACTORS))
    def begin(self, factor: float) -> None:
        """Two machines, and their clocks."""
        self.now, self.factor = 1000.0, factor
        self.dialler, self.accepter = Dialler(self._uniform), Accepter()
        self.state, self.accepted = "STOPPED", "NONE"
        self.waits = 0  # since the last reset
        self.wait_until = self.steady_at = self.aged_at = math.inf
        self.conflict: int | None = None

    def _uniform(self, least: float, most: float) -> float:
        jitter = limit("BACKOFF_JITTER") / 100
        assert (least, most) == (1 - jitter, 1 + jitter), f"the jitter is from {least} to {most}"
        return self.factor

    @property
    def due(self) -> float:
        """When the next clock runs out."""
        if self.state in ("WAITING", "RENEW_WAITING"):
            return self.wait_until
        return min(self.steady_at, self.aged_at) if self.state == "LINKED" else math.inf

    def _happened(self, event: str, action: str) -> None:
        actions, state = row("LinkDialler", self.state, event)
        assert action == ", ".join(actions), f"{event} in {self.state}: {action}, not {', '.join(actions)}"
        before, self.state = self.state, state
        if state == "STOPPED":
            self.conflict = None
        for one in actions:
            if one == "put the new link in force":
                self.steady_at, self.aged_at = self.now + limit("LINK_STEADY"), self.now + limit("LINK_AGE_MAX")
                self.conflict = None
            elif one == "reset the back-off":
                self.waits, self.conflict = 0, None
            elif one in ("raise the back-off", "back off longest"):
                self.waits = max(self.waits, 6)
            if one.startswith("back off"):
                self.wait_until = self.now + min(2**self.waits, limit("BACKOFF_MAX")) * self.factor
                self.waits += 1
        assert self.dialler.state == self.state, f"{event} in {before} leads to {self.dialler.state}, not {self.state}"

    @rule(events=st.lists(st.sampled_from([one.value for one in DiallerEvent]), min_size=1, max_size=6))
    def happen(self, events: list[str]) -> None:
        """These events."""
        for event in events:
            self._happened(event, self.dialler.happens(DiallerEvent(event), self.now))

    @rule()
    def every_event_in_every_state(self) -> None:
        """Each with a new machine, which is brought into the state."""
        for ways in _WAYS.values():
            for event in DiallerEvent:
                self.begin(self.factor)
                self.happen([*ways, event.value])
        self.begin(self.factor)
        for accepted in AccepterEvent:
            self.accept([accepted.value, AccepterEvent.LINK_ESTABLISHED.value, accepted.value])

    @rule(fails=st.integers(0, 8), steady=st.booleans(), factor=st.sampled_from(_FACTORS))
    def fail_and_link(self, fails: int, steady: bool, factor: float) -> None:
        """Some dials fail, and then there is a link, which ends before it is steady or behind that."""
        self.begin(factor)
        self.happen(["PEER_ADDED", *["DIAL_FAILED", "BACKOFF_PASSED"] * fails, "FIRST_RECORD_OPENED"])
        self._pass(self.now + limit("LINK_STEADY") - (0 if steady else _TICK))
        self.happen(["LINK_ENDED"])
        self.it_wakes_in_time()

    @rule(epoch=st.integers(1, 4), higher=st.integers(-1, 1), factor=st.sampled_from(_FACTORS))
    def conflict_and_adopt(self, epoch: int, higher: int, factor: float) -> None:
        """A conflict on the link in force, and the adoption of an epoch below it, of it, or above it."""
        self.factor = factor
        if self.state in ("LINKED", "RENEWING", "RENEW_WAITING"):
            action = self.dialler.conflicted(epoch, self.now)
            self.conflict = epoch
            self._happened("LINK_CONFLICTED", action)
        self.adopt(epoch + higher)

    @rule(members=st.integers(1, 9), is_member=st.booleans())
    def count_the_live(self, members: int, is_member: bool) -> None:
        """As many peers are live as there can be, and fewer: more than half, oneself counted, are a quorum. [LK-59]"""
        for live in range(members):
            peers = frozenset(NodeID(bytes((peer,)) * 32) for peer in range(live))
            due = is_member and live + 1 > members - (live + 1)
            found = Liveness(peers, members, is_member).quorate
            assert found == due, f"with {live} of {members - 1} peers live it is {'' if found else 'not '}quorate"

    @rule(epoch=st.integers(1, 5))
    def adopt(self, epoch: int) -> None:
        """The node adopts a roster with the peer in it."""
        event = "CONFLICT_PASSED" if self.conflict is not None and epoch > self.conflict else "PEER_ADDED"
        self._happened(event, self.dialler.adopted(epoch, self.now))

    @rule(seconds=st.sampled_from((0.5, 1.0, 15.0, 59.0)), factor=st.sampled_from(_FACTORS))
    def pass_time(self, seconds: float, factor: float) -> None:
        """Less than it takes, maybe."""
        self.factor = factor
        self._pass(self.now + seconds)

    @rule(more=st.sampled_from((-1, 0, 1)), factor=st.sampled_from(_FACTORS), times=st.integers(1, 4))
    def pass_to_the_deadline(self, more: int, factor: float, times: int) -> None:
        """Until a clock runs out, or just before that or behind it; dials that follow fail."""
        self.factor = factor
        for _ in range(times):
            if self.due < math.inf:
                self._pass(max(self.now, self.due + more * _TICK))
            if self.state in ("DIALLING", "RENEWING"):
                self._happened("DIAL_FAILED", self.dialler.happens(DiallerEvent.DIAL_FAILED, self.now))

    def _pass(self, until: float) -> None:
        self.now = until
        action = self.dialler.time_passed(self.now)
        if self.now < self.due:
            assert action == "nothing", f"{action} in {self.state}, before it is time"
        elif self.state != "LINKED":
            self._happened("BACKOFF_PASSED", action)
        elif self.steady_at <= self.now:
            self.steady_at = math.inf
            self._happened("LINK_STEADY", action)
        else:
            self.aged_at = math.inf
            self._happened("LINK_AGED", action)

    @rule(events=st.lists(st.sampled_from([one.value for one in AccepterEvent]), min_size=1, max_size=6))
    def accept(self, events: list[str]) -> None:
        """What happens at the other machine."""
        for event in events:
            actions, state = row("LinkAccepter", self.accepted, event)
            action = self.accepter.happens(AccepterEvent(event))
            assert action == ", ".join(actions), f"{event} in {self.accepted}: {action}, not {', '.join(actions)}"
            assert self.accepter.state == state, f"{event} in {self.accepted} leads to {self.accepter.state}"
            self.accepted = state

    @invariant()
    def it_wakes_in_time(self) -> None:
        """Its deadline is that of the clocks."""
        found = self.dialler.deadline()
        assert found == self.due, f"the deadline in {self.state} is {found}, not {self.due}"


# ---- asking ------------------------------------------------------------------


@attrs.define
class _Asked:
    peer: int
    link: str
    floor: int
    at: float
    byte_at: float
    complete: bool = False


class RequestMachine(TargetMachine):
    """Whom to ask, and when to give up."""

    @initialize(pick=st.integers(0, 3))
    def begin(self, pick: int) -> None:
        """A node without a request."""
        self.now, self.pick, self.floor = 1000.0, pick, 1
        self.requests: Requests[str] = Requests(self._choose)
        self.active: _Asked | None = None
        self.failures: dict[int, tuple[float, float]] = {}  # when it was chosen, when it failed
        self.candidates: Sequence[int] = ()
        self.chosen: int | None = None
        self.may_ask_at = math.inf

    @staticmethod
    def _node(peer: int) -> NodeID:
        return NodeID(bytes((peer,)) * 32)

    def _choose(self, among: Sequence[NodeID]) -> NodeID:
        expected = sorted(self._node(peer) for peer in self._choice())
        assert sorted(among) == expected, f"the choice is among {sorted(among)}, not {expected}"
        self.chosen = among[self.pick % len(among)].value[0]
        return among[self.pick % len(among)]

    def _askable_at(self, peer: int) -> float:
        return self.failures[peer][0] + limit("TRANSFER_IDLE_DEADLINE") if peer in self.failures else -math.inf

    def _choice(self) -> list[int]:
        askable = [peer for peer in self.candidates if self._askable_at(peer) <= self.now]
        innocent = [
            peer
            for peer in askable
            if peer not in self.failures or self.failures[peer][1] + limit("PEER_PENALTY") <= self.now
        ]
        return innocent or askable

    @rule(candidates=st.lists(st.integers(0, 3), unique=True, max_size=4), pick=st.integers(0, 3))
    def ask(self, candidates: list[int], pick: int) -> None:
        """These peers have more to offer."""
        self.candidates, self.pick, self.chosen = candidates, pick, None
        links = {self._node(peer): f"link {peer}" for peer in candidates}
        link = self.requests.ask(links, self.floor, self.now)
        if self.active is not None:
            assert link is None, "a second request while one is active"
            return
        choice = self._choice()
        assert (link is None) == (not choice), f"{link} was asked, where one of {choice} is to be asked"
        waits = [at for at in map(self._askable_at, candidates) if at > self.now]
        self.may_ask_at = min(waits, default=math.inf)
        if link is not None:
            assert self.chosen is not None
            assert self.chosen in choice, f"{self.chosen} was asked, who is none of {choice}"
            assert link == f"link {self.chosen}", f"{self.chosen} is asked on {link}"
            self.active = _Asked(self.chosen, link, self.floor, self.now, self.now)
            row("LinkRequest", "QUIET", "CANDIDATE_FOUND")

    @rule(dropped=st.booleans(), risen=st.booleans())
    def ask_and_get(self, dropped: bool, risen: bool) -> None:
        """One is asked, and what it sends is adopted, or dropped; then somebody is asked again."""
        self.begin(self.pick)
        self.try_illegal("REQUEST_ENDED")
        self.ask([0, 1, 2], self.pick)
        self.try_illegal("CANDIDATE_FOUND")
        self.byte_comes(True, 0.0)
        self.transfer_is_complete(True)
        self.transfer_is_processed(True, dropped, risen)
        self.ask([0, 1, 2], self.pick)

    @rule(rounds=st.integers(1, 12))
    def trickle(self, rounds: int) -> None:
        """A byte now and then, just before it is given up for lost."""
        self.ask([0, 1], self.pick)
        for _ in range(rounds):
            if self.active is not None:
                self._pass(min(self.now + limit("TRANSFER_IDLE_DEADLINE") - 1, max(self.due, self.now)), comes=True)
                self.it_is_as_it_should_be()

    def _over(self, failed: bool) -> None:
        assert self.active is not None
        if failed:
            self.failures[self.active.peer] = (self.active.at, self.now)
        self.active = None

    def _link(self, right: bool) -> str:
        return self.active.link if self.active is not None and right else "another link"

    @rule(right=st.booleans(), before=st.sampled_from((0.0, 1.0)))
    def byte_comes(self, right: bool, before: float) -> None:
        """Of a transfer, on this link or another."""
        at = self.now - before
        self.requests.transfer_arrives(self._link(right), at)
        if self.active is not None and right:
            self.active.byte_at = max(self.active.byte_at, at)

    @rule(right=st.booleans())
    def transfer_is_complete(self, right: bool) -> None:
        """It is being verified."""
        self.requests.transfer_complete(self._link(right))
        if self.active is not None and right:
            self.active.complete = True

    @rule(right=st.booleans(), dropped=st.booleans(), risen=st.booleans())
    def transfer_is_processed(self, right: bool, dropped: bool, risen: bool) -> None:
        """It was adopted, or dropped, and the floor has risen or not."""
        self.floor += risen
        link = self._link(right)
        self.requests.transfer_processed(link, dropped=dropped, floor=self.floor, now=self.now)
        if self.active is not None and right:
            self._over(dropped and self.floor <= self.active.floor)

    @rule(right=st.booleans())
    def link_is_over(self, right: bool) -> None:
        """This one or another."""
        self.requests.link_over(self._link(right), self.now)
        if self.active is not None and right:
            self._over(True)

    @rule(event=st.sampled_from([one.value for one in RequestEvent]))
    def try_illegal(self, event: str) -> None:
        """An event that has no row of its own changes nothing."""
        state = "QUIET" if self.active is None else "ASKING"
        if (state, event) not in state_table("LinkRequest"):
            self.requests._happens(RequestEvent(event), self.now)

    @property
    def due(self) -> float:
        """When the next clock runs out."""
        if self.active is None:
            return self.may_ask_at
        if self.active.complete:
            return math.inf
        return min(self.active.byte_at + limit("TRANSFER_IDLE_DEADLINE"), self.active.at + limit("TRANSFER_DEADLINE"))

    @rule(
        more=st.sampled_from((-1, 0, 1)),
        clock=st.sampled_from(("deadline", "penalty", "a little")),
        comes=st.booleans(),
    )
    def pass_time(self, more: int, clock: str, comes: bool) -> None:
        """Until a clock runs out, or just before that or behind it; a byte may come before."""
        until = self.now + 7.0
        if clock == "deadline" and self.due < math.inf:
            until = self.due + more * _TICK
        elif clock == "penalty" and self.failures:
            until = max(failed for _, failed in self.failures.values()) + limit("PEER_PENALTY") + more * _TICK
        self._pass(until, comes)

    def _pass(self, until: float, comes: bool) -> None:
        self.now = max(until, self.now)
        if comes and self.now < self.due:
            self.byte_comes(True, 0.0)
        self.requests.time_passed(self.now)
        if self.active is not None and self.now >= self.due:
            self._over(True)

    @invariant()
    def it_is_as_it_should_be(self) -> None:
        """State and deadline."""
        state = "QUIET" if self.active is None else "ASKING"
        assert self.requests.state == state, f"the node is in {self.requests.state}, not in {state}"
        found = self.requests.deadline()
        assert found == self.due, f"the deadline in {state} is {found}, not {self.due}"


MACHINES = (
    MachineInfo(
        "link",
        "a link says and takes what Spec 7 has, and a rogue member gets no further than that",
        LinkMachine,
        drivers=("sansio",),
        tables=("LINK_MESSAGES",),
        share=2.0,
    ),
    MachineInfo(
        "dialling",
        "links are dialled, renewed and given up when Spec 7 says so",
        DialMachine,
        drivers=("sansio",),
        tables=("LINK_DIALLER", "LINK_ACCEPTER"),
        share=4.0,
    ),
    MachineInfo(
        "requests",
        "one peer is asked at a time, and one that lies is left alone for a while",
        RequestMachine,
        drivers=("sansio",),
        tables=("LINK_REQUEST",),
        share=4.0,
    ),
)
