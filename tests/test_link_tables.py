"""The four state machines of links, every state with every event. What is expected is written out. Spec 7."""

import enum
from collections.abc import Mapping
from typing import Any

import pytest

from xlattice_trio.link.transitions import (
    LINK_ACCEPTER,
    LINK_DIALLER,
    LINK_MESSAGES,
    LINK_REQUEST,
    AccepterEvent,
    AccepterState,
    DiallerEvent,
    DiallerState,
    MessagesEvent,
    MessagesState,
    RequestEvent,
    RequestState,
)
from xlattice_trio.machine import ANY, next_state

Matrix = dict[str, dict[str, tuple[str, str]]]

NOTHING = "nothing"
IN_FORCE = "put the new link in force"
RESET, RESET_AND_DIAL = "reset the back-off", "reset the back-off, dial"

DIALLER: Matrix = {
    "STOPPED": {
        "PEER_ADDED": (RESET_AND_DIAL, "DIALLING"),
        "PEER_REMOVED": (NOTHING, "STOPPED"),
        "BACKOFF_PASSED": (NOTHING, "STOPPED"),
        "FIRST_RECORD_OPENED": (NOTHING, "STOPPED"),
        "DIAL_FAILED": (NOTHING, "STOPPED"),
        "LINK_STEADY": (NOTHING, "STOPPED"),
        "LINK_AGED": (NOTHING, "STOPPED"),
        "LINK_ENDED": (NOTHING, "STOPPED"),
        "LINK_CONFLICTED": (NOTHING, "STOPPED"),
        "CONFLICT_PASSED": (NOTHING, "STOPPED"),
    },
    "WAITING": {
        "PEER_ADDED": (NOTHING, "WAITING"),
        "PEER_REMOVED": (NOTHING, "STOPPED"),
        "BACKOFF_PASSED": ("dial", "DIALLING"),
        "FIRST_RECORD_OPENED": (NOTHING, "WAITING"),
        "DIAL_FAILED": (NOTHING, "WAITING"),
        "LINK_STEADY": (NOTHING, "WAITING"),
        "LINK_AGED": (NOTHING, "WAITING"),
        "LINK_ENDED": (NOTHING, "WAITING"),
        "LINK_CONFLICTED": (NOTHING, "WAITING"),
        "CONFLICT_PASSED": (RESET_AND_DIAL, "DIALLING"),
    },
    "DIALLING": {
        "PEER_ADDED": (NOTHING, "DIALLING"),
        "PEER_REMOVED": ("end the dial", "STOPPED"),
        "BACKOFF_PASSED": (NOTHING, "DIALLING"),
        "FIRST_RECORD_OPENED": (IN_FORCE, "LINKED"),
        "DIAL_FAILED": ("back off", "WAITING"),
        "LINK_STEADY": (NOTHING, "DIALLING"),
        "LINK_AGED": (NOTHING, "DIALLING"),
        "LINK_ENDED": (NOTHING, "DIALLING"),
        "LINK_CONFLICTED": (NOTHING, "DIALLING"),
        "CONFLICT_PASSED": (RESET, "DIALLING"),
    },
    "LINKED": {
        "PEER_ADDED": (NOTHING, "LINKED"),
        "PEER_REMOVED": ("end the link", "STOPPED"),
        "BACKOFF_PASSED": (NOTHING, "LINKED"),
        "FIRST_RECORD_OPENED": (NOTHING, "LINKED"),
        "DIAL_FAILED": (NOTHING, "LINKED"),
        "LINK_STEADY": (RESET, "LINKED"),
        "LINK_AGED": ("dial", "RENEWING"),
        "LINK_ENDED": ("back off", "WAITING"),
        "LINK_CONFLICTED": ("back off longest", "WAITING"),
        "CONFLICT_PASSED": (NOTHING, "LINKED"),
    },
    "RENEWING": {
        "PEER_ADDED": (NOTHING, "RENEWING"),
        "PEER_REMOVED": ("end the link, end the dial", "STOPPED"),
        "BACKOFF_PASSED": (NOTHING, "RENEWING"),
        "FIRST_RECORD_OPENED": (IN_FORCE, "LINKED"),
        "DIAL_FAILED": ("back off", "RENEW_WAITING"),
        "LINK_STEADY": (NOTHING, "RENEWING"),
        "LINK_AGED": (NOTHING, "RENEWING"),
        "LINK_ENDED": (NOTHING, "DIALLING"),
        "LINK_CONFLICTED": ("raise the back-off", "DIALLING"),
        "CONFLICT_PASSED": (NOTHING, "RENEWING"),
    },
    "RENEW_WAITING": {
        "PEER_ADDED": (NOTHING, "RENEW_WAITING"),
        "PEER_REMOVED": ("end the link", "STOPPED"),
        "BACKOFF_PASSED": ("dial", "RENEWING"),
        "FIRST_RECORD_OPENED": (NOTHING, "RENEW_WAITING"),
        "DIAL_FAILED": (NOTHING, "RENEW_WAITING"),
        "LINK_STEADY": (NOTHING, "RENEW_WAITING"),
        "LINK_AGED": (NOTHING, "RENEW_WAITING"),
        "LINK_ENDED": (NOTHING, "WAITING"),
        "LINK_CONFLICTED": ("back off longest", "WAITING"),
        "CONFLICT_PASSED": (NOTHING, "RENEW_WAITING"),
    },
}

ACCEPTER: Matrix = {
    "NONE": {
        "LINK_ESTABLISHED": (IN_FORCE, "LINKED"),
        "LINK_ENDED": (NOTHING, "NONE"),
        "LINK_CONFLICTED": (NOTHING, "NONE"),
        "PEER_REMOVED": (NOTHING, "NONE"),
    },
    "LINKED": {
        "LINK_ESTABLISHED": (IN_FORCE + ", send Bye on the older", "LINKED"),
        "LINK_ENDED": (NOTHING, "NONE"),
        "LINK_CONFLICTED": (NOTHING, "NONE"),
        "PEER_REMOVED": ("end the link", "NONE"),
    },
}

REQUEST: Matrix = {
    "QUIET": {
        "CANDIDATE_FOUND": ("choose a candidate, send RosterRequest", "ASKING"),
        "REQUEST_ENDED": (NOTHING, "QUIET"),
        "REQUEST_FAILED": (NOTHING, "QUIET"),
    },
    "ASKING": {
        "CANDIDATE_FOUND": (NOTHING, "ASKING"),
        "REQUEST_ENDED": (NOTHING, "QUIET"),
        "REQUEST_FAILED": ("remember the peer's failure", "QUIET"),
    },
}

VIOLATION = ("send Error(protocol_violation)", "ENDED")
CONFLICT = ("send Error(roster_conflict)", "ENDED")
REFUSAL = ("send Error(not_authorized)", "ENDED")
STAY_LEAVING, STAY_ENDED = ("discard", "LEAVING"), (NOTHING, "ENDED")

MESSAGES: Matrix = {
    "AWAIT_OFFER": {
        "OFFER_READ": ("keep the offer", "EXCHANGED"),
        "CONFLICT_FOUND": CONFLICT,
        "REQUEST_READ": VIOLATION,
        "TRANSFER_DROPPED": VIOLATION,
        "TRANSFER_VERIFIED": VIOLATION,
        "MESSAGE_REFUSED": VIOLATION,
        "ROSTER_ADOPTED": ("send RosterOffer", "AWAIT_OFFER"),
        "LINK_REFUSED": REFUSAL,
        "REPLACED": ("send Bye", "LEAVING"),
        "NODE_STOPPING": ("send Bye", "LEAVING"),
        "BYE_OPENED": ("send Bye", "ENDED"),
        "SESSION_ENDED": (NOTHING, "ENDED"),
        "BYE_DEADLINE_PASSED": VIOLATION,
    },
    "EXCHANGED": {
        "OFFER_READ": ("keep the offer", "EXCHANGED"),
        "CONFLICT_FOUND": CONFLICT,
        "REQUEST_READ": ("send RosterTransfer or leave it", "EXCHANGED"),
        "TRANSFER_DROPPED": (NOTHING, "EXCHANGED"),
        "TRANSFER_VERIFIED": ("adopt", "EXCHANGED"),
        "MESSAGE_REFUSED": VIOLATION,
        "ROSTER_ADOPTED": ("send RosterOffer", "EXCHANGED"),
        "LINK_REFUSED": REFUSAL,
        "REPLACED": ("send Bye", "LEAVING"),
        "NODE_STOPPING": ("send Bye", "LEAVING"),
        "BYE_OPENED": ("send Bye", "ENDED"),
        "SESSION_ENDED": (NOTHING, "ENDED"),
        "BYE_DEADLINE_PASSED": VIOLATION,
    },
    "LEAVING": {
        "OFFER_READ": STAY_LEAVING,
        "CONFLICT_FOUND": STAY_LEAVING,
        "REQUEST_READ": STAY_LEAVING,
        "TRANSFER_DROPPED": STAY_LEAVING,
        "TRANSFER_VERIFIED": ("adopt", "LEAVING"),
        "MESSAGE_REFUSED": STAY_LEAVING,
        "ROSTER_ADOPTED": STAY_LEAVING,
        "LINK_REFUSED": REFUSAL,
        "REPLACED": STAY_LEAVING,
        "NODE_STOPPING": STAY_LEAVING,
        "BYE_OPENED": (NOTHING, "ENDED"),
        "SESSION_ENDED": (NOTHING, "ENDED"),
        "BYE_DEADLINE_PASSED": ("close", "ENDED"),
    },
    "ENDED": {
        "OFFER_READ": STAY_ENDED,
        "CONFLICT_FOUND": STAY_ENDED,
        "REQUEST_READ": STAY_ENDED,
        "TRANSFER_DROPPED": STAY_ENDED,
        "TRANSFER_VERIFIED": ("adopt", "ENDED"),
        "MESSAGE_REFUSED": STAY_ENDED,
        "ROSTER_ADOPTED": STAY_ENDED,
        "LINK_REFUSED": STAY_ENDED,
        "REPLACED": STAY_ENDED,
        "NODE_STOPPING": STAY_ENDED,
        "BYE_OPENED": STAY_ENDED,
        "SESSION_ENDED": STAY_ENDED,
        "BYE_DEADLINE_PASSED": STAY_ENDED,
    },
}


@pytest.mark.parametrize(
    ("table", "states", "events", "expected"),
    [
        (LINK_DIALLER, DiallerState, DiallerEvent, DIALLER),
        (LINK_ACCEPTER, AccepterState, AccepterEvent, ACCEPTER),
        (LINK_REQUEST, RequestState, RequestEvent, REQUEST),
        (LINK_MESSAGES, MessagesState, MessagesEvent, MESSAGES),
    ],
    ids=["dialler", "accepter", "request", "messages"],
)
@pytest.mark.spec("LK-13", "LK-16", "LK-51")
def test_every_state_with_every_event(
    table: Mapping[Any, Any], states: type[enum.StrEnum], events: type[enum.StrEnum], expected: Matrix
) -> None:
    got = {
        state.value: {event.value: tuple(x.value for x in next_state(table, state, event)) for event in events}
        for state in states
    }
    assert got == expected


@pytest.mark.parametrize("table", [LINK_DIALLER, LINK_ACCEPTER, LINK_REQUEST, LINK_MESSAGES])
def test_every_state_has_a_default_row(table: Mapping[Any, Any]) -> None:
    for state in {state for state, _ in table}:
        assert (state, ANY) in table
