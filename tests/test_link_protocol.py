"""One side of a link, without I/O: what it makes of a peer's messages, and what it sends. Spec 7.4 to 7.8."""

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.links import (
    NOW,
    REQUEST,
    exchanged,
    message,
    messages_in,
    offer,
    offer_of,
    other_roster_of,
    roster_of,
    sent,
    take,
    transfer,
)
from tests.test_link_tables import MESSAGES
from xlattice_trio.crypto import Label, digest, pss_sign
from xlattice_trio.errors import DecodeError, ErrorCode, LinkError, UsageError
from xlattice_trio.limits import LINK_BYE_DEADLINE, ROSTER_MAX, TRANSFER_DEADLINE
from xlattice_trio.link.protocol import (
    CLOSE,
    NEED_DATA,
    REQUEST_RECEIVED,
    SEND_BYE,
    ConflictFound,
    Holding,
    LinkExchange,
    OfferReceived,
    SendData,
    SendError,
    TransferReceived,
    verify_transfer,
)
from xlattice_trio.link.transitions import MessagesEvent as Event
from xlattice_trio.link.transitions import MessagesState as State
from xlattice_trio.roster import VerifiedRoster, make_roster, verify_roster
from xlattice_trio.testing.identities import KNOCK, test_authority, test_roster
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.messages import NodeCard, Roster, RosterOffer

ONE, TWO, THREE = roster_of(1), roster_of(2), roster_of(3)
OTHER_TWO = other_roster_of(2)


def offered(roster: VerifiedRoster) -> RosterOffer:
    return RosterOffer(roster.epoch, roster.digest)


def code(exchange: LinkExchange) -> ErrorCode | None:
    return exchange.ending.code if isinstance(exchange.ending, SendError) else None


def violated(exchange: LinkExchange, data: bytes) -> bool:
    """Whether these bytes are a violation, and answered as one."""
    exchange.receive_data(data, NOW)
    try:
        while exchange.next_event() is not NEED_DATA:
            pass
    except LinkError:
        assert exchange.state is State.ENDED
        assert code(exchange) is ErrorCode.PROTOCOL_VIOLATION
        assert exchange.next_piece(NOW) is None
        return True
    assert exchange.ending is None
    return False


def asked(own: VerifiedRoster, peer: VerifiedRoster | bytes) -> LinkExchange:
    """A link on which a roster was asked for, and the request is written."""
    exchange = exchanged(own, peer)
    exchange.request()
    assert messages_in(sent(exchange)) == [(2, b"")]
    return exchange


# ---- the table, driven -------------------------------------------------------


def in_state(state: str) -> LinkExchange:
    """A link that was brought into this state, with one request sent and a message of its own under way."""
    exchange = LinkExchange(Holding(TWO))
    sent(exchange)
    if state != "AWAIT_OFFER":
        take(exchange, offer(THREE))
        exchange.request()
        sent(exchange)
    if state == "LEAVING":
        exchange.stopping()
        assert exchange.next_piece(NOW) == SEND_BYE
    if state == "ENDED":
        exchange.session_ended()
    assert exchange.state.value == state
    return exchange


def arriving(data: bytes) -> Callable[[LinkExchange], None]:
    def arrive(exchange: LinkExchange) -> None:
        try:
            take(exchange, data)
        except LinkError:
            assert code(exchange) is ErrorCode.PROTOCOL_VIOLATION

    return arrive


HAPPEN: dict[str, Callable[[LinkExchange], Any]] = {
    "OFFER_READ": arriving(offer(THREE)),
    "CONFLICT_FOUND": arriving(offer(OTHER_TWO)),
    "REQUEST_READ": arriving(REQUEST),
    "TRANSFER_DROPPED": LinkExchange.transfer_dropped,
    "TRANSFER_VERIFIED": LinkExchange.transfer_verified,
    "MESSAGE_REFUSED": arriving(message(9)),
    "ROSTER_ADOPTED": lambda exchange: exchange.adopted(Holding(THREE)),
    "LINK_REFUSED": LinkExchange.refused,
    "REPLACED": LinkExchange.replaced,
    "NODE_STOPPING": LinkExchange.stopping,
    "BYE_OPENED": LinkExchange.bye_opened,
    "SESSION_ENDED": LinkExchange.session_ended,
    "BYE_DEADLINE_PASSED": lambda exchange: exchange.time_passed(NOW + LINK_BYE_DEADLINE),
}
ENDINGS = {
    "send Error(protocol_violation)": ErrorCode.PROTOCOL_VIOLATION,
    "send Error(roster_conflict)": ErrorCode.ROSTER_CONFLICT,
    "send Error(not_authorized)": ErrorCode.NOT_AUTHORIZED,
}
# Facts that cannot be in these states: a transfer follows an offer, and the time runs from our Bye.
IMPOSSIBLE = {
    ("AWAIT_OFFER", "TRANSFER_DROPPED"),
    ("AWAIT_OFFER", "TRANSFER_VERIFIED"),
    ("AWAIT_OFFER", "BYE_DEADLINE_PASSED"),
    ("EXCHANGED", "BYE_DEADLINE_PASSED"),
}
CASES = [(s.value, e.value) for s in State for e in Event if (s.value, e.value) not in IMPOSSIBLE]


@pytest.mark.parametrize(("state", "event"), [pytest.param(s, e, id=f"{s}-{e}") for s, e in CASES])
@pytest.mark.spec("LK-17", "LK-19", "LK-20", "LK-26", "LK-27", "LK-31", "LK-49", "LK-51")
def test_a_link_does_what_the_table_says(state: str, event: str) -> None:
    exchange = in_state(state)
    action, after = MESSAGES[state][event]
    HAPPEN[event](exchange)
    assert exchange.state.value == after
    assert code(exchange) is ENDINGS.get(action)
    assert (exchange.ending == CLOSE) is (action == "close")
    assert exchange.transfer_wanted is (action == "send RosterTransfer or leave it")
    first = exchange.next_piece(NOW)
    match action:
        case "send Bye":
            assert first == SEND_BYE
        case "send RosterOffer":
            assert first == SendData(offer(THREE))
        case _:
            assert first is None
    assert exchange.next_piece(NOW) is None


def test_the_clock_says_nothing_before_our_bye() -> None:
    for state in ("AWAIT_OFFER", "EXCHANGED", "ENDED"):
        exchange = in_state(state)
        assert exchange.deadline() == math.inf
        exchange.time_passed(NOW + 10**6)
        assert exchange.state.value == state


# ---- messages (7.5) ----------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_messages_may_be_cut_anywhere(size: int) -> None:
    exchange = exchanged(ONE, TWO)
    exchange.request()
    sent(exchange)
    data = offer(TWO) + REQUEST + transfer(TWO) + offer(THREE)
    events = []
    for start in range(0, len(data), size):
        exchange.receive_data(data[start : start + size], NOW)
        while (event := exchange.next_event()) is not NEED_DATA:
            events.append(event)
    body = encode(TWO.roster)
    assert events == [
        OfferReceived(offered(TWO)),
        REQUEST_RECEIVED,
        TransferReceived(body, offered(TWO)),
        OfferReceived(offered(THREE)),
    ]


@pytest.mark.parametrize(
    ("type_", "length"),
    [(0, 0), (4, 0), (255, 40), (1, 0), (1, 39), (1, 41), (2, 1), (2, 40), (3, 0), (3, ROSTER_MAX + 1), (3, 2**24 - 1)],
)
@pytest.mark.spec("LK-21")
def test_an_unknown_type_and_a_wrong_length_are_refused_at_the_header(type_: int, length: int) -> None:
    header = message(type_, length=length)
    assert violated(asked(ONE, TWO), header)
    assert not violated(asked(ONE, TWO), header[:3])


@pytest.mark.spec("LK-21")
def test_the_longest_roster_may_be_announced() -> None:
    assert not violated(asked(ONE, TWO), message(3, length=ROSTER_MAX))


@pytest.mark.spec("LK-22")
def test_a_body_that_does_not_decode_is_a_violation() -> None:
    assert violated(exchanged(ONE, TWO), offer_of(0))
    with pytest.raises(LinkError) as caught:
        verify_transfer(encode(TWO.roster)[:-1], offered(TWO), ONE, 1)
    assert isinstance(caught.value.__cause__, DecodeError)


@pytest.mark.spec("LK-24", "LK-28")
def test_messages_are_written_whole_and_offers_before_a_transfer_that_has_not_begun() -> None:
    exchange = exchanged(ONE, ONE)
    take(exchange, REQUEST)
    exchange.send_transfer()
    exchange.adopted(Holding(TWO))
    data = sent(exchange, size=100)
    assert data == offer(TWO) + transfer(TWO)


@pytest.mark.spec("LK-24", "LK-27")
def test_an_adoption_in_the_middle_of_a_transfer_is_offered_behind_it() -> None:
    exchange = exchanged(ONE, ONE)
    take(exchange, REQUEST)
    exchange.send_transfer()
    first = exchange.next_piece(NOW, 100)
    assert isinstance(first, SendData)
    exchange.adopted(Holding(TWO))
    exchange.adopted(Holding(THREE))
    assert first.data + sent(exchange) == transfer(ONE) + offer(TWO) + offer(THREE)


@pytest.mark.spec("LK-17", "LK-18")
def test_bye_is_answered_in_the_middle_of_a_message_and_what_it_cut_off_is_nothing() -> None:
    exchange = exchanged(ONE, TWO)
    take(exchange, REQUEST)
    exchange.send_transfer()
    assert isinstance(exchange.next_piece(NOW, 100), SendData)
    assert take(exchange, offer(THREE)[:20]) is NEED_DATA
    exchange.bye_opened()
    assert exchange.next_piece(NOW) == SEND_BYE
    assert exchange.next_piece(NOW) is None
    assert exchange.ending is None
    assert exchange.peer_offer == offered(TWO)


@pytest.mark.spec("LK-19")
def test_the_link_is_closed_ten_seconds_after_our_bye() -> None:
    exchange = exchanged(ONE, TWO)
    exchange.replaced()
    assert exchange.deadline() == math.inf
    assert exchange.next_piece(NOW + 5) == SEND_BYE
    assert exchange.deadline() == NOW + 15
    exchange.time_passed(NOW + 14.9)
    assert exchange.ending is None
    exchange.time_passed(NOW + 15)
    assert exchange.ending == CLOSE


@pytest.mark.spec("LK-20")
def test_after_our_bye_nothing_that_arrives_counts() -> None:
    exchange = exchanged(TWO, TWO)
    exchange.receive_data(offer(THREE), NOW)
    exchange.stopping()
    for data in (b"", offer(OTHER_TWO), message(9), transfer(THREE)):
        assert take(exchange, data) is NEED_DATA
    assert exchange.state is State.LEAVING
    assert exchange.peer_offer == offered(TWO)
    assert exchange.ending is None


# ---- offers (7.6) ------------------------------------------------------------


@pytest.mark.spec("LK-25")
def test_the_first_message_is_an_offer_of_the_roster_in_force() -> None:
    exchange = LinkExchange(Holding(TWO))
    assert exchange.next_piece(NOW) == SendData(b"\x01\0\0\x28" + (2).to_bytes(8, "big") + TWO.digest)
    assert exchange.next_piece(NOW) is None


@pytest.mark.spec("LK-26")
@pytest.mark.parametrize("first", [REQUEST, message(3, length=1), transfer(TWO)], ids=["request", "header", "transfer"])
def test_any_other_first_message_is_a_violation(first: bytes) -> None:
    exchange = LinkExchange(Holding(ONE))
    sent(exchange)
    assert violated(exchange, first)


@pytest.mark.spec("LK-29")
def test_each_offer_takes_the_place_of_the_one_before_a_lower_epoch_too() -> None:
    exchange = exchanged(ONE, THREE)
    for roster in (TWO, ONE, THREE):
        assert take(exchange, offer(roster)) == OfferReceived(offered(roster))
        assert exchange.peer_offer == offered(roster)


@pytest.mark.spec("LK-31", "RO-47", "EL-2")
def test_an_offer_of_another_roster_of_our_epoch_is_a_conflict() -> None:
    for exchange in (LinkExchange(Holding(TWO)), exchanged(TWO, ONE)):
        assert take(exchange, offer(OTHER_TWO)) == ConflictFound(offered(OTHER_TWO))
        assert code(exchange) is ErrorCode.ROSTER_CONFLICT
        assert not exchange.is_exchanged
    assert take(exchanged(TWO, ONE), offer(TWO)) == OfferReceived(offered(TWO))


@pytest.mark.spec("LK-31", "RO-47")
def test_a_conflict_is_looked_for_at_adoption_too() -> None:
    exchange = exchanged(ONE, OTHER_TWO)
    assert exchange.adopted(Holding(TWO)) == ConflictFound(offered(OTHER_TWO))
    assert code(exchange) is ErrorCode.ROSTER_CONFLICT
    agreeing = exchanged(ONE, TWO)
    assert agreeing.adopted(Holding(TWO)) is None
    assert sent(agreeing) == offer(TWO)


@pytest.mark.spec("RO-31", "LK-31")
def test_a_roster_that_was_signed_twice_is_no_conflict() -> None:
    again = test_roster(epoch=2)
    assert again.roster.signature != TWO.roster.signature
    assert take(exchanged(TWO, ONE), offer(again)) == OfferReceived(offered(TWO))


def test_a_conflict_of_earlier_rosters_is_none() -> None:
    assert take(exchanged(THREE, ONE), offer(OTHER_TWO)) == OfferReceived(offered(OTHER_TWO))


@pytest.mark.spec("LK-58")
def test_both_sides_have_offered_when_ours_is_written_and_theirs_is_read() -> None:
    exchange = LinkExchange(Holding(ONE))
    assert not exchange.is_exchanged
    take(exchange, offer(ONE))
    assert not exchange.is_exchanged
    sent(exchange)
    assert exchange.is_exchanged
    exchange.replaced()
    assert exchange.is_exchanged
    exchange.bye_opened()
    assert not exchange.is_exchanged


# ---- requests (7.7) ----------------------------------------------------------


@pytest.mark.spec("LK-45")
def test_a_request_before_our_offer_is_written_is_a_violation() -> None:
    exchange = LinkExchange(Holding(ONE))
    take(exchange, offer(TWO))
    assert violated(exchange, REQUEST)


@pytest.mark.spec("LK-41")
def test_a_request_is_answered_with_the_roster_in_force() -> None:
    exchange = exchanged(TWO, ONE)
    assert take(exchange, REQUEST) == REQUEST_RECEIVED
    assert sent(exchange) == b""  # until the driver says so [LK-43]
    exchange.send_transfer()
    assert exchange.is_sending_transfer
    assert messages_in(sent(exchange)) == [(3, encode(TWO.roster))]
    assert not exchange.is_sending_transfer


@pytest.mark.spec("LK-44")
def test_there_are_no_more_transfers_than_requests() -> None:
    exchange = exchanged(TWO, ONE)
    with pytest.raises(UsageError):
        exchange.send_transfer()
    take(exchange, REQUEST)
    exchange.send_transfer()
    with pytest.raises(UsageError):
        exchange.send_transfer()
    sent(exchange)
    with pytest.raises(UsageError):
        exchange.send_transfer()
    exchange.receive_data(2 * REQUEST, NOW)
    assert [exchange.next_event() for _ in range(3)] == [REQUEST_RECEIVED, REQUEST_RECEIVED, NEED_DATA]
    exchange.send_transfer()
    assert len(messages_in(sent(exchange))) == 1
    with pytest.raises(UsageError):  # one transfer answers both
        exchange.send_transfer()


def test_a_request_that_is_not_written_yet_is_not_made_twice() -> None:
    exchange = exchanged(ONE, TWO)
    exchange.request()
    exchange.request()
    assert messages_in(sent(exchange)) == [(2, b"")]


def test_nothing_is_requested_before_the_peers_offer_and_after_the_end() -> None:
    for state in ("AWAIT_OFFER", "LEAVING", "ENDED"):
        with pytest.raises(UsageError):
            in_state(state).request()


@pytest.mark.spec("LK-46")
def test_a_transfer_that_the_peer_takes_too_slowly_ends_the_link() -> None:
    exchange = exchanged(TWO, ONE)
    take(exchange, REQUEST)
    exchange.send_transfer()
    assert exchange.deadline() == math.inf
    assert isinstance(exchange.next_piece(NOW, 100), SendData)
    assert isinstance(exchange.next_piece(NOW + 100, 100), SendData)
    assert exchange.deadline() == NOW + TRANSFER_DEADLINE
    exchange.time_passed(NOW + 119)
    assert exchange.ending is None
    exchange.time_passed(NOW + 120)
    assert code(exchange) is ErrorCode.OVER_CAPACITY
    assert exchange.state is State.ENDED


def test_a_transfer_that_is_written_has_no_deadline() -> None:
    exchange = exchanged(TWO, ONE)
    take(exchange, REQUEST)
    exchange.send_transfer()
    sent(exchange)
    assert exchange.deadline() == math.inf


# ---- transfers (7.8) ---------------------------------------------------------


@pytest.mark.spec("LK-47")
def test_a_transfer_that_nobody_has_asked_for_is_refused_at_its_header() -> None:
    header = message(3, length=1000)
    assert violated(exchanged(ONE, TWO), header)
    exchange = exchanged(ONE, TWO)
    exchange.request()  # and not written yet
    assert violated(exchange, header)
    exchange = asked(ONE, TWO)
    assert isinstance(take(exchange, transfer(TWO)), TransferReceived)
    exchange.transfer_dropped()
    assert violated(exchange, header)


@pytest.mark.spec("LK-63")
def test_as_many_transfers_may_arrive_as_were_asked_for_however_late() -> None:
    exchange = asked(ONE, TWO)
    exchange.request()
    sent(exchange)
    exchange.receive_data(2 * transfer(TWO), NOW + 500)
    for _ in range(2):
        assert isinstance(exchange.next_event(), TransferReceived)


def test_the_time_of_a_transfers_last_byte_is_known() -> None:
    exchange = asked(ONE, TWO)
    data = transfer(TWO)
    take(exchange, offer(TWO) + data[:3], NOW + 1)
    assert exchange.transfer_byte_at == -math.inf
    take(exchange, data[3:5], NOW + 2)
    assert exchange.transfer_byte_at == NOW + 2
    take(exchange, data[5:], NOW + 3)
    assert exchange.transfer_byte_at == NOW + 3
    take(exchange, offer(TWO), NOW + 4)
    assert exchange.transfer_byte_at == NOW + 3


@pytest.mark.spec("LK-29", "LK-48")
def test_a_transfer_is_judged_by_the_offer_before_it() -> None:
    exchange = asked(ONE, TWO)
    exchange.receive_data(transfer(TWO) + offer(THREE), NOW)
    event = exchange.next_event()
    assert isinstance(event, TransferReceived)
    assert event.offer == offered(TWO)


@pytest.mark.spec("LK-50")
def test_a_transfer_that_was_verified_leaves_the_link_as_it_is() -> None:
    for state in ("EXCHANGED", "LEAVING", "ENDED"):
        exchange = in_state(state)
        exchange.transfer_verified()
        assert (exchange.state.value, exchange.ending) == (state, None)


# ---- the six checks ----------------------------------------------------------


def signed(**changes: Any) -> VerifiedRoster:
    """The roster of epoch 2 with changes, signed by the authority."""
    fields: dict[str, Any] = {
        "name": TWO.name,
        "epoch": 2,
        "cluster_port": TWO.cluster_port,
        "client_port": TWO.client_port,
        "knock": KNOCK,
        "client_access": TWO.client_access,
        "members": TWO.roster.members,
        "clients": TWO.roster.clients,
    }
    return verify_roster(make_roster(changes.pop("authority", test_authority()), **fields | changes))


def judged(roster: Roster, offer: RosterOffer, *, held: VerifiedRoster = ONE, floor: int = 1) -> VerifiedRoster | None:
    return verify_transfer(encode(roster), offer, held, floor)


@pytest.mark.spec("LK-48")
def test_a_roster_that_passes_every_check_is_verified() -> None:
    assert judged(TWO.roster, offered(TWO)) == TWO
    assert judged(THREE.roster, offered(TWO)) == THREE  # adopted while it was asked for


@pytest.mark.spec("LK-48")
def test_a_roster_that_is_not_what_was_offered_is_a_violation() -> None:
    for roster, last in ((TWO, offered(THREE)), (TWO, offered(OTHER_TWO)), (ONE, offered(TWO))):
        with pytest.raises(LinkError):
            judged(roster.roster, last)


@pytest.mark.spec("LK-48", "LK-49")
def test_a_roster_that_is_not_above_the_floor_is_dropped() -> None:
    assert judged(TWO.roster, offered(TWO), floor=2) is None
    assert judged(TWO.roster, offered(TWO), floor=9) is None
    assert judged(TWO.roster, offered(TWO), floor=1) is not None
    # before anything else is looked at, the authority too: check 3 comes before 4
    assert judged(signed(authority=test_authority(1)).roster, RosterOffer(1, bytes(32)), floor=2) is None


@pytest.mark.spec("LK-48", "RO-11")
def test_a_roster_of_another_cluster_is_a_violation() -> None:
    another = signed(authority=test_authority(1))
    with pytest.raises(LinkError):
        judged(another.roster, offered(another))


@pytest.mark.spec("LK-48", "RO-12", "RO-23", "RO-32")
def test_the_authoritys_signature_is_checked_before_any_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    forged = attrs.evolve(TWO.roster, signature=bytes(256))
    cards: list[NodeCard] = []
    monkeypatch.setattr("xlattice_trio.roster.verify_card", cards.append)
    with pytest.raises(LinkError):
        judged(forged, offered(TWO))
    assert cards == []


@pytest.mark.spec("LK-48", "RO-35")
@pytest.mark.parametrize("changes", [{"knock": bytes(32)}, {"cluster_port": 9}])
def test_a_roster_that_changes_what_never_changes_is_a_violation(changes: dict[str, Any]) -> None:
    changed = signed(**changes)
    with pytest.raises(LinkError):
        judged(changed.roster, offered(changed))


@pytest.mark.spec("LK-48")
def test_a_roster_with_an_invalid_card_is_a_violation() -> None:
    member = TWO.roster.members[0]
    spoilt = attrs.evolve(member, card=attrs.evolve(member.card, name="another"))
    unsigned = attrs.evolve(TWO.roster, members=(spoilt, *TWO.roster.members[1:]))
    content = encode_before(unsigned, "signature")
    roster = attrs.evolve(unsigned, signature=pss_sign(test_authority(), Label.ROSTER, content))
    with pytest.raises(LinkError):
        judged(roster, RosterOffer(2, digest(Label.ROSTER_DIGEST, content)))
