"""The four state machines of links: enumerations and tables, nothing else. Spec 7.2, 7.3, 7.7, 7.8.

[LK-13] [LK-16] [LK-51]
"""

import enum

from xlattice_trio.machine import ANY, Table

# ---- dialling: one machine for each peer with a higher NodeID (Spec 7.2) ------


class DiallerAction(enum.StrEnum):
    NOTHING = "nothing"
    RESET_AND_DIAL = "reset the back-off, dial"
    DIAL = "dial"
    PUT_IN_FORCE = "put the new link in force"
    BACK_OFF = "back off"
    BACK_OFF_LONGEST = "back off longest"
    RESET = "reset the back-off"
    RAISE = "raise the back-off"
    END_DIAL = "end the dial"
    END_LINK = "end the link"
    END_BOTH = "end the link, end the dial"


class DiallerState(enum.StrEnum):
    STOPPED = "STOPPED"
    WAITING = "WAITING"
    DIALLING = "DIALLING"
    LINKED = "LINKED"
    RENEWING = "RENEWING"  # in force, and dialling the next one
    RENEW_WAITING = "RENEW_WAITING"  # in force, and waiting for the next dial


class DiallerEvent(enum.StrEnum):
    # the node's
    PEER_ADDED = "PEER_ADDED"
    PEER_REMOVED = "PEER_REMOVED"
    CONFLICT_PASSED = "CONFLICT_PASSED"
    # the dial's and the link's
    FIRST_RECORD_OPENED = "FIRST_RECORD_OPENED"
    DIAL_FAILED = "DIAL_FAILED"
    LINK_ENDED = "LINK_ENDED"
    LINK_CONFLICTED = "LINK_CONFLICTED"
    # the clock's
    BACKOFF_PASSED = "BACKOFF_PASSED"
    LINK_STEADY = "LINK_STEADY"
    LINK_AGED = "LINK_AGED"


_D, _DE, _DA = DiallerState, DiallerEvent, DiallerAction

LINK_DIALLER: Table[DiallerState, DiallerEvent, DiallerAction] = {
    (_D.STOPPED, _DE.PEER_ADDED): (_DA.RESET_AND_DIAL, _D.DIALLING),
    (_D.STOPPED, ANY): (_DA.NOTHING, _D.STOPPED),
    (_D.WAITING, _DE.BACKOFF_PASSED): (_DA.DIAL, _D.DIALLING),
    (_D.WAITING, _DE.CONFLICT_PASSED): (_DA.RESET_AND_DIAL, _D.DIALLING),
    (_D.WAITING, _DE.PEER_REMOVED): (_DA.NOTHING, _D.STOPPED),
    (_D.WAITING, ANY): (_DA.NOTHING, _D.WAITING),
    (_D.DIALLING, _DE.FIRST_RECORD_OPENED): (_DA.PUT_IN_FORCE, _D.LINKED),
    (_D.DIALLING, _DE.DIAL_FAILED): (_DA.BACK_OFF, _D.WAITING),
    (_D.DIALLING, _DE.CONFLICT_PASSED): (_DA.RESET, _D.DIALLING),
    (_D.DIALLING, _DE.PEER_REMOVED): (_DA.END_DIAL, _D.STOPPED),
    (_D.DIALLING, ANY): (_DA.NOTHING, _D.DIALLING),
    (_D.LINKED, _DE.LINK_STEADY): (_DA.RESET, _D.LINKED),
    (_D.LINKED, _DE.LINK_AGED): (_DA.DIAL, _D.RENEWING),
    (_D.LINKED, _DE.LINK_ENDED): (_DA.BACK_OFF, _D.WAITING),
    (_D.LINKED, _DE.LINK_CONFLICTED): (_DA.BACK_OFF_LONGEST, _D.WAITING),
    (_D.LINKED, _DE.PEER_REMOVED): (_DA.END_LINK, _D.STOPPED),
    (_D.LINKED, ANY): (_DA.NOTHING, _D.LINKED),
    (_D.RENEWING, _DE.FIRST_RECORD_OPENED): (_DA.PUT_IN_FORCE, _D.LINKED),
    (_D.RENEWING, _DE.DIAL_FAILED): (_DA.BACK_OFF, _D.RENEW_WAITING),
    (_D.RENEWING, _DE.LINK_ENDED): (_DA.NOTHING, _D.DIALLING),
    (_D.RENEWING, _DE.LINK_CONFLICTED): (_DA.RAISE, _D.DIALLING),
    (_D.RENEWING, _DE.PEER_REMOVED): (_DA.END_BOTH, _D.STOPPED),
    (_D.RENEWING, ANY): (_DA.NOTHING, _D.RENEWING),
    (_D.RENEW_WAITING, _DE.BACKOFF_PASSED): (_DA.DIAL, _D.RENEWING),
    (_D.RENEW_WAITING, _DE.LINK_ENDED): (_DA.NOTHING, _D.WAITING),
    (_D.RENEW_WAITING, _DE.LINK_CONFLICTED): (_DA.BACK_OFF_LONGEST, _D.WAITING),
    (_D.RENEW_WAITING, _DE.PEER_REMOVED): (_DA.END_LINK, _D.STOPPED),
    (_D.RENEW_WAITING, ANY): (_DA.NOTHING, _D.RENEW_WAITING),
}

# ---- accepting: one machine for each peer with a lower NodeID (Spec 7.3) ------


class AccepterAction(enum.StrEnum):
    NOTHING = "nothing"
    PUT_IN_FORCE = "put the new link in force"
    REPLACE = "put the new link in force, send Bye on the older"
    END_LINK = "end the link"


class AccepterState(enum.StrEnum):
    NONE = "NONE"
    LINKED = "LINKED"


class AccepterEvent(enum.StrEnum):
    LINK_ESTABLISHED = "LINK_ESTABLISHED"
    LINK_ENDED = "LINK_ENDED"
    LINK_CONFLICTED = "LINK_CONFLICTED"
    PEER_REMOVED = "PEER_REMOVED"


_C, _CE, _CA = AccepterState, AccepterEvent, AccepterAction

LINK_ACCEPTER: Table[AccepterState, AccepterEvent, AccepterAction] = {
    (_C.NONE, _CE.LINK_ESTABLISHED): (_CA.PUT_IN_FORCE, _C.LINKED),
    (_C.NONE, ANY): (_CA.NOTHING, _C.NONE),
    (_C.LINKED, _CE.LINK_ESTABLISHED): (_CA.REPLACE, _C.LINKED),
    (_C.LINKED, _CE.LINK_ENDED): (_CA.NOTHING, _C.NONE),
    (_C.LINKED, _CE.LINK_CONFLICTED): (_CA.NOTHING, _C.NONE),
    (_C.LINKED, _CE.PEER_REMOVED): (_CA.END_LINK, _C.NONE),
    (_C.LINKED, ANY): (_CA.NOTHING, _C.LINKED),
}

# ---- requests: one machine for each node (Spec 7.7) ---------------------------


class RequestAction(enum.StrEnum):
    NOTHING = "nothing"
    ASK = "choose a candidate, send RosterRequest"
    REMEMBER_FAILURE = "remember the peer's failure"


class RequestState(enum.StrEnum):
    QUIET = "QUIET"
    ASKING = "ASKING"


class RequestEvent(enum.StrEnum):
    CANDIDATE_FOUND = "CANDIDATE_FOUND"
    REQUEST_ENDED = "REQUEST_ENDED"
    REQUEST_FAILED = "REQUEST_FAILED"


_Q, _QE, _QA = RequestState, RequestEvent, RequestAction

LINK_REQUEST: Table[RequestState, RequestEvent, RequestAction] = {
    (_Q.QUIET, _QE.CANDIDATE_FOUND): (_QA.ASK, _Q.ASKING),
    (_Q.QUIET, ANY): (_QA.NOTHING, _Q.QUIET),
    (_Q.ASKING, _QE.REQUEST_ENDED): (_QA.NOTHING, _Q.QUIET),
    (_Q.ASKING, _QE.REQUEST_FAILED): (_QA.REMEMBER_FAILURE, _Q.QUIET),
    (_Q.ASKING, ANY): (_QA.NOTHING, _Q.ASKING),
}

# ---- messages: one machine for each link and side (Spec 7.8) ------------------


class MessagesAction(enum.StrEnum):
    NOTHING = "nothing"
    KEEP_OFFER = "keep the offer"
    SEND_OFFER = "send RosterOffer"
    ANSWER_REQUEST = "send RosterTransfer or leave it"
    ADOPT = "adopt"
    SEND_CONFLICT = "send Error(roster_conflict)"
    SEND_REFUSAL = "send Error(not_authorized)"
    SEND_VIOLATION = "send Error(protocol_violation)"
    SEND_BYE = "send Bye"
    DISCARD = "discard"
    CLOSE = "close"


class MessagesState(enum.StrEnum):
    AWAIT_OFFER = "AWAIT_OFFER"
    EXCHANGED = "EXCHANGED"
    LEAVING = "LEAVING"  # our Bye is out
    ENDED = "ENDED"


class MessagesEvent(enum.StrEnum):
    # the peer's messages
    OFFER_READ = "OFFER_READ"
    CONFLICT_FOUND = "CONFLICT_FOUND"
    REQUEST_READ = "REQUEST_READ"
    TRANSFER_DROPPED = "TRANSFER_DROPPED"
    TRANSFER_VERIFIED = "TRANSFER_VERIFIED"
    MESSAGE_REFUSED = "MESSAGE_REFUSED"
    # the node's
    ROSTER_ADOPTED = "ROSTER_ADOPTED"
    LINK_REFUSED = "LINK_REFUSED"
    REPLACED = "REPLACED"
    NODE_STOPPING = "NODE_STOPPING"
    # the session's and the clock's
    BYE_OPENED = "BYE_OPENED"
    SESSION_ENDED = "SESSION_ENDED"
    BYE_DEADLINE_PASSED = "BYE_DEADLINE_PASSED"


_M, _ME, _MA = MessagesState, MessagesEvent, MessagesAction

LINK_MESSAGES: Table[MessagesState, MessagesEvent, MessagesAction] = {
    (_M.AWAIT_OFFER, _ME.OFFER_READ): (_MA.KEEP_OFFER, _M.EXCHANGED),
    (_M.AWAIT_OFFER, _ME.CONFLICT_FOUND): (_MA.SEND_CONFLICT, _M.ENDED),
    (_M.AWAIT_OFFER, _ME.ROSTER_ADOPTED): (_MA.SEND_OFFER, _M.AWAIT_OFFER),
    (_M.AWAIT_OFFER, _ME.LINK_REFUSED): (_MA.SEND_REFUSAL, _M.ENDED),
    (_M.AWAIT_OFFER, _ME.REPLACED): (_MA.SEND_BYE, _M.LEAVING),
    (_M.AWAIT_OFFER, _ME.NODE_STOPPING): (_MA.SEND_BYE, _M.LEAVING),
    (_M.AWAIT_OFFER, _ME.BYE_OPENED): (_MA.SEND_BYE, _M.ENDED),
    (_M.AWAIT_OFFER, _ME.SESSION_ENDED): (_MA.NOTHING, _M.ENDED),
    (_M.AWAIT_OFFER, ANY): (_MA.SEND_VIOLATION, _M.ENDED),
    (_M.EXCHANGED, _ME.OFFER_READ): (_MA.KEEP_OFFER, _M.EXCHANGED),
    (_M.EXCHANGED, _ME.CONFLICT_FOUND): (_MA.SEND_CONFLICT, _M.ENDED),
    (_M.EXCHANGED, _ME.REQUEST_READ): (_MA.ANSWER_REQUEST, _M.EXCHANGED),
    (_M.EXCHANGED, _ME.TRANSFER_DROPPED): (_MA.NOTHING, _M.EXCHANGED),
    (_M.EXCHANGED, _ME.TRANSFER_VERIFIED): (_MA.ADOPT, _M.EXCHANGED),
    (_M.EXCHANGED, _ME.ROSTER_ADOPTED): (_MA.SEND_OFFER, _M.EXCHANGED),
    (_M.EXCHANGED, _ME.LINK_REFUSED): (_MA.SEND_REFUSAL, _M.ENDED),
    (_M.EXCHANGED, _ME.REPLACED): (_MA.SEND_BYE, _M.LEAVING),
    (_M.EXCHANGED, _ME.NODE_STOPPING): (_MA.SEND_BYE, _M.LEAVING),
    (_M.EXCHANGED, _ME.BYE_OPENED): (_MA.SEND_BYE, _M.ENDED),
    (_M.EXCHANGED, _ME.SESSION_ENDED): (_MA.NOTHING, _M.ENDED),
    (_M.EXCHANGED, ANY): (_MA.SEND_VIOLATION, _M.ENDED),
    (_M.LEAVING, _ME.BYE_OPENED): (_MA.NOTHING, _M.ENDED),
    (_M.LEAVING, _ME.LINK_REFUSED): (_MA.SEND_REFUSAL, _M.ENDED),
    (_M.LEAVING, _ME.TRANSFER_VERIFIED): (_MA.ADOPT, _M.LEAVING),
    (_M.LEAVING, _ME.SESSION_ENDED): (_MA.NOTHING, _M.ENDED),
    (_M.LEAVING, _ME.BYE_DEADLINE_PASSED): (_MA.CLOSE, _M.ENDED),
    (_M.LEAVING, ANY): (_MA.DISCARD, _M.LEAVING),
    (_M.ENDED, _ME.TRANSFER_VERIFIED): (_MA.ADOPT, _M.ENDED),
    (_M.ENDED, ANY): (_MA.NOTHING, _M.ENDED),
}
