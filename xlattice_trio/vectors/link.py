"""Links: one side, stepped by what arrives, by what its node does and by time. Spec 7.4 to 7.9.

The operation is a node with this one link. It drives a `link.protocol.LinkExchange` and a `link.requests.Requests` as
`cluster.links` does, writes whatever is to be written at once, and moves its clock by hand. The cases are in
`link_scripts`, and say beforehand what comes out of every step.
"""

import math
from collections.abc import Mapping

from xlattice_trio.errors import DecodeError, ErrorCode, LinkError
from xlattice_trio.identity.node_id import NodeID
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
from xlattice_trio.link.transitions import MessagesState, RequestState
from xlattice_trio.roster import AnotherCluster, VerifiedRoster, replaces
from xlattice_trio.vectors import roster as rosters
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.link_scripts import cases
from xlattice_trio.vectors.model import Area, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.schema import Schema, any_of, array, data, epoch, integer, name, obj, one_of, true

_TICKS = 125  # milliseconds: eighths of a second are exact in binary, so that sums of them are

# ---- why a message is refused ------------------------------------------------


def _refused(exc: LinkError, body: bytes, held: VerifiedRoster, fixtures: Fixtures) -> Refused:
    """What a violation is; `body` is that of the transfer, if it is in one."""
    cause = exc.__cause__
    match cause:
        case AnotherCluster():
            return Refused(FailLayer.MEMBERSHIP, "RO-11", "RO-35", problem=str(exc))
        case DecodeError() if cause.where.startswith("LinkHeader"):
            return Refused(FailLayer.LINK, "LK-21", problem=str(exc))
        case DecodeError() if not body:
            return Refused(FailLayer.LINK, "LK-22", problem=str(exc))
        case LinkError():
            return Refused(FailLayer.LINK, "LK-21", "LK-26", "LK-47", problem=str(exc))
        case None:
            return Refused(FailLayer.LINK, "LK-48", problem=str(exc))
    try:
        rosters.OPS["roster"].run({"bytes": body.hex(), "cluster_id": held.cluster_id.hex()}, fixtures)
    except Refused as found:
        return found
    raise AssertionError(f"the roster alone is valid, and was refused: {exc}")


# ---- one link ----------------------------------------------------------------


class _Judging:
    """A transfer that is being verified: what will come of it, and when."""

    def __init__(self, outcome: VerifiedRoster | Refused | None, done_at: int) -> None:
        self.outcome = outcome
        self.done_at = done_at


class _Node:
    """A node with one link. Times are milliseconds since the link's own ESTABLISHED."""

    def __init__(self, given: Json, fixtures: Fixtures) -> None:
        self._fixtures = fixtures
        self._own, self._peer = (fixtures.nodes[given[which]].card for which in ("self", "peer"))
        self._is_dialled = self._own.node_id < self._peer.node_id
        assert given["side"] == ("initiator" if self._is_dialled else "responder")
        self._roster = fixtures.rosters[given["roster"]]
        self._floor = max(self._roster.epoch, int(given.get("highest", "0"), 16))
        self._verification: int = given.get("verification", 0)
        self._now = 0
        self._exchange = LinkExchange(Holding(self._roster))
        self._requests: Requests[_Node] = Requests(lambda peers: peers[0])
        self._judging: _Judging | None = None
        self._ended_session = False
        self._sent = bytearray()
        self._acts: list[Json] = []
        self._events: list[Json] = []
        self.refused: Refused | None = None

    @property
    def _seconds(self) -> float:
        return self._now / 1000

    def begin(self) -> str:
        """What is sent at ESTABLISHED."""
        self._settle()
        return self._sent.hex()

    def step(self, step: Json) -> Json:
        """Does one step, and says what came of it."""
        self._sent, self._acts, self._events = bytearray(), [], []
        exchange = self._exchange
        match step["do"]:
            case "receive":
                exchange.receive_data(bytes.fromhex(step["bytes"]), self._seconds)
                self._take_events()
                self._requests.transfer_arrives(self, exchange.transfer_byte_at)
            case "receive_bye":
                exchange.bye_opened()
            case "session_ended":
                self._ended_session = True
                exchange.session_ended()
            case "adopt":
                roster = self._fixtures.rosters[step["roster"]]
                assert replaces(self._roster, roster, highest=self._floor)
                self._adopt(roster)
            case "replaced":
                assert not self._is_dialled
                exchange.replaced()
            case "stop":
                exchange.stopping()
            case "wait":
                self._pass(step["ms"])
        self._settle()
        return {
            "sent": self._sent.hex(),
            "acts": self._acts,
            "events": self._events,
            "state": exchange.state.value,
            "request": self._requests.state.value,
        }

    # ---- what arrives ----

    def _take_events(self) -> None:
        while self._judging is None:
            try:
                event = self._exchange.next_event()
            except LinkError as exc:
                self._violated(_refused(exc, b"", self._roster, self._fixtures))
                return
            match event:
                case NeedData():
                    return
                case ConflictFound(offer):
                    self._events.append({"conflict": _digits(offer.epoch)})
                case RequestReceived():
                    self._exchange.send_transfer()
                case TransferReceived():
                    self._requests.transfer_complete(self)
                    self._judging = _Judging(self._judged(event), self._now + self._verification)
                    if not self._verification:
                        self._judge()
            self._settle()

    def _violated(self, refused: Refused) -> None:
        self._events.append({"violation": True})
        self.refused = refused

    def _judged(self, transfer: TransferReceived) -> VerifiedRoster | Refused | None:
        try:
            return verify_transfer(transfer.body, transfer.offer, self._roster, self._floor)
        except LinkError as exc:
            return _refused(exc, transfer.body, self._roster, self._fixtures)

    def _judge(self) -> None:
        """The transfer is verified: do what comes of it."""
        assert self._judging is not None
        outcome, self._judging = self._judging.outcome, None
        if isinstance(outcome, Refused):
            self._exchange.transfer_refused(str(outcome))
            self._violated(outcome)
            return
        dropped = outcome is None or not (outcome.epoch > self._floor and replaces(self._roster, outcome))
        if outcome is None or dropped:
            self._events.append({"dropped": True})
            self._exchange.transfer_dropped()
        else:
            self._adopt(outcome)
            self._exchange.transfer_verified()
        self._requests.transfer_processed(self, dropped=dropped, floor=self._floor, now=self._seconds)

    # ---- adoption ----

    def _adopt(self, roster: VerifiedRoster) -> None:
        """Steps 3 to 6 of Spec 7.9."""
        self._roster, self._floor = roster, roster.epoch
        self._events.append({"adopted": roster.digest.hex()})
        own, peer = (self._is_member(card.node_id, card.card.sk) for card in (self._own, self._peer))
        if own and peer:
            conflict = self._exchange.adopted(Holding(roster))
            if conflict is not None:
                self._events.append({"conflict": _digits(conflict.offer.epoch)})
        elif peer and not self._is_dialled:  # [LK-56]
            self._exchange.end(ErrorCode.SHUTTING_DOWN, "")
        else:
            self._exchange.refused()

    def _is_member(self, node_id: NodeID, sk: bytes) -> bool:
        member = self._roster.members.get(node_id)
        return member is not None and member.card.card.sk == sk

    # ---- what comes of it ----

    def _settle(self) -> None:
        """Ask, if there is somebody to be asked; write what is to be written; end the session if it is to be ended."""
        exchange = self._exchange
        if exchange.is_ending:
            self._requests.link_over(self, self._seconds)
        if self._requests.ask(self._candidates, self._floor, self._seconds) is not None:
            exchange.request()
        while (piece := exchange.next_piece(self._seconds)) is not None:
            match piece:
                case SendData(written):
                    self._sent += written
                case SendBye():
                    self._acts.append({"bye": True})
        if exchange.ending is not None and not self._ended_session:
            self._ended_session = True
            ending = exchange.ending
            self._acts.append({"error": ending.code.name.lower()} if isinstance(ending, SendError) else {"close": True})

    @property
    def _candidates(self) -> Mapping[NodeID, "_Node"]:
        offer = self._exchange.peer_offer
        is_candidate = self._exchange.state is MessagesState.EXCHANGED and offer is not None
        return {self._peer.node_id: self} if is_candidate and offer is not None and offer.epoch > self._floor else {}

    # ---- time ----

    def _pass(self, ms: int) -> None:
        assert ms % _TICKS == 0
        end = self._now + ms
        while True:
            judged_at = self._judging.done_at if self._judging is not None else math.inf
            due = min(
                judged_at, *(deadline() * 1000 for deadline in (self._exchange.deadline, self._requests.deadline))
            )
            self._now = int(min(due, end))
            if due > end:
                return
            if due == judged_at:
                self._judge()
                self._take_events()
            self._exchange.time_passed(self._seconds)
            self._requests.time_passed(self._seconds)
            self._settle()


def _digits(number: int) -> str:
    return f"{number:016x}"


# ---- the operation -----------------------------------------------------------


def _link(given: Json, fixtures: Fixtures) -> Json:
    node = _Node(given, fixtures)
    output = {"first": node.begin(), "steps": [node.step(step) for step in given["steps"]]}
    if node.refused is not None:
        node.refused.output = output
        raise node.refused
    return output


def _action(do: str, **keys: Schema) -> Schema:
    return obj({"do": one_of(do), **keys})


_ACTION = any_of(
    _action("receive", bytes=data()),
    _action("receive_bye"),
    _action("session_ended"),
    _action("adopt", roster=name()),
    _action("replaced"),
    _action("stop"),
    _action("wait", ms=integer(1)),
)
_ACT = any_of(
    obj({"bye": true()}),
    obj({"error": one_of(*(code.name.lower() for code in ErrorCode))}),
    obj({"close": true()}),
)
_EVENT = any_of(
    obj({"adopted": data(32)}),
    obj({"dropped": true()}),
    obj({"conflict": epoch()}),
    obj({"violation": true()}),
)
_OUTPUT = obj(
    {
        "first": data(),
        "steps": array(
            obj(
                {
                    "sent": data(),
                    "acts": array(_ACT),
                    "events": array(_EVENT),
                    "state": one_of(*(state.value for state in MessagesState)),
                    "request": one_of(*(state.value for state in RequestState)),
                }
            )
        ),
    }
)
OPS = {
    "link": Op(
        _link,
        obj(
            {
                "side": one_of("initiator", "responder"),
                "self": name(),
                "peer": name(),
                "roster": name(),
                "steps": array(_ACTION, 1),
            },
            {"highest": epoch(), "verification": integer(1)},
        ),
        _OUTPUT,
        refused_output=_OUTPUT,
    )
}

AREA = Area("link", "One side of a link, stepped (7)", OPS, cases)
