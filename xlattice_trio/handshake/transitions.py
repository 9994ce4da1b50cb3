"""The handshake's two state machines: enumerations and tables, nothing else. Spec 5.15. [HS-78] [HS-79]"""

import enum

from xlattice_trio.machine import ANY, Table


class Action(enum.StrEnum):
    SEND_HELLO = "send Hello"
    SEND_REPLY = "send HelloReply"
    SEND_CONFIRM = "send Confirm"
    CLOSE = "close"
    NOTHING = "nothing"


class InitiatorState(enum.StrEnum):
    START = "START"
    AWAIT_REPLY = "AWAIT_REPLY"
    ESTABLISHED = "ESTABLISHED"
    FAILED = "FAILED"


class InitiatorEvent(enum.StrEnum):
    HELLO_MADE = "HELLO_MADE"
    REPLY_VERIFIED = "REPLY_VERIFIED"
    REPLY_REFUSED = "REPLY_REFUSED"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    TRANSPORT_CLOSED = "TRANSPORT_CLOSED"


class ResponderState(enum.StrEnum):
    AWAIT_HELLO = "AWAIT_HELLO"
    AWAIT_CONFIRM = "AWAIT_CONFIRM"
    ESTABLISHED = "ESTABLISHED"
    IGNORED = "IGNORED"


class ResponderEvent(enum.StrEnum):
    HELLO_VERIFIED = "HELLO_VERIFIED"
    HELLO_REFUSED = "HELLO_REFUSED"
    CONFIRM_OPENED = "CONFIRM_OPENED"
    CONFIRM_REFUSED = "CONFIRM_REFUSED"
    DEADLINE_PASSED = "DEADLINE_PASSED"
    TRANSPORT_CLOSED = "TRANSPORT_CLOSED"


_I, _IE, _R, _RE, _A = InitiatorState, InitiatorEvent, ResponderState, ResponderEvent, Action

INITIATOR: Table[InitiatorState, InitiatorEvent, Action] = {
    (_I.START, _IE.HELLO_MADE): (_A.SEND_HELLO, _I.AWAIT_REPLY),
    (_I.START, ANY): (_A.CLOSE, _I.FAILED),
    (_I.AWAIT_REPLY, _IE.REPLY_VERIFIED): (_A.SEND_CONFIRM, _I.ESTABLISHED),
    (_I.AWAIT_REPLY, ANY): (_A.CLOSE, _I.FAILED),
    (_I.ESTABLISHED, ANY): (_A.NOTHING, _I.ESTABLISHED),
    (_I.FAILED, ANY): (_A.NOTHING, _I.FAILED),
}

RESPONDER: Table[ResponderState, ResponderEvent, Action] = {
    (_R.AWAIT_HELLO, _RE.HELLO_VERIFIED): (_A.SEND_REPLY, _R.AWAIT_CONFIRM),
    (_R.AWAIT_HELLO, ANY): (_A.CLOSE, _R.IGNORED),
    (_R.AWAIT_CONFIRM, _RE.CONFIRM_OPENED): (_A.NOTHING, _R.ESTABLISHED),
    (_R.AWAIT_CONFIRM, ANY): (_A.CLOSE, _R.IGNORED),
    (_R.ESTABLISHED, ANY): (_A.NOTHING, _R.ESTABLISHED),
    (_R.IGNORED, ANY): (_A.NOTHING, _R.IGNORED),
}
