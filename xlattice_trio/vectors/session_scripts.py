"""The cases of `session`: what happens to a side step by step, and what its author expects of each step.

The records of both sides are the second maker's. The names say which rule a script is about; `table/` has a script for
every event that can be raised from outside in every state of Spec 6.12.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Case, FailLayer, Json, Refusal
from xlattice_trio.vectors.records import LAST, Direction, error_body, turned

I2R, R2I = drawn("session/i2r", 32), drawn("session/r2i", 32)
SIDES = ("initiator", "responder")
CODES = {
    "protocol_violation": 1,
    "unknown_service": 2,
    "not_authorized": 3,
    "shutting_down": 4,
    "internal": 5,
    "keepalive_timeout": 6,
    "roster_conflict": 7,
    "over_capacity": 8,
}
HOUR = 3_600_000  # milliseconds

# ---- what the application is told --------------------------------------------

END: Json = {"end_of_data": True}
TRUNCATION: Json = {"truncation": True}
VIOLATION: Json = {"violation": True}
TIMEOUT: Json = {"keepalive_timeout": True}
REFUSED: Json = {"refused": True}


def delivered(data: bytes) -> Json:
    return {"data": data.hex()}


def reported(code: str, text: bytes = b"") -> Json:
    return {"error": code, "text": text.hex()}


# ---- scripts -----------------------------------------------------------------


class Script:
    """The steps of a vector, and what comes of each: nothing, and no change of state, unless it is said.

    `own` and `peer` are what this side seals and what it opens: each record is taken from them in its order.
    """

    def __init__(
        self,
        side: str,
        *,
        keepalive: int = 0,
        handshake_deadline: int = 10_000,
        own_seq: int | None = None,
        peer_seq: int | None = None,
    ) -> None:
        self.side = side
        self.state = "OPEN"
        own, peer = ("i2r", "r2i") if side == "initiator" else ("r2i", "i2r")
        seqs = {own: own_seq, peer: peer_seq}
        i2r = Direction(I2R, 1 if seqs["i2r"] is None else seqs["i2r"])
        r2i = Direction(R2I, seqs["r2i"] or 0)
        self.own, self.peer = (i2r, r2i) if side == "initiator" else (r2i, i2r)
        self.given: Json = {
            "side": side,
            "keepalive": keepalive,
            "handshake_deadline": handshake_deadline,
            "i2r": I2R.hex(),
            "r2i": R2I.hex(),
            **{f"{name}_seq": seq for name, seq in seqs.items() if seq is not None},
        }
        self.steps: list[Json] = []
        self.expected: list[Json] = []

    def step(self, do: str, sent: bytes = b"", events: Sequence[Json] = (), state: str = "", **keys: Any) -> None:
        self.state = state or self.state
        self.steps.append({"do": do, **keys})
        self.expected.append({"sent": sent.hex(), "events": list(events), "state": self.state})

    # ---- what the application wants ----

    def send_data(self, payload: bytes, *, rekey: bool = False) -> None:
        sent = self._rekeyed(rekey) + self.own.data(payload)
        self.step("send_data", sent, payload=payload.hex())

    def send_keepalive(self, *, rekey: bool = False) -> None:
        self.step("send_keepalive", self._rekeyed(rekey) + self.own.keepalive())

    def send_bye(self, state: str, *, rekey: bool = False) -> None:
        self.step("send_bye", self._rekeyed(rekey) + self.own.bye(), state=state)

    def send_error(self, code: str, text: bytes = b"", *, rekey: bool = False) -> None:
        sent = self._rekeyed(rekey) + self.own.error(CODES[code], text)
        self.step("send_error", sent, state="FAILING", code=code, text=text.hex())

    def _rekeyed(self, rekey: bool) -> bytes:
        return self.own.rekey() if rekey else b""

    def refuses(self, do: str) -> None:
        """The application wants this, and is refused."""
        keys: Json = {"send_data": {"payload": b"no".hex()}, "send_error": {"code": "internal", "text": ""}}
        self.step(do, events=[REFUSED], **keys.get(do, {}))

    # ---- what arrives ----

    def receive(self, *frames: bytes, sent: bytes = b"", events: Sequence[Json] = (), state: str = "") -> None:
        self.step("receive", sent, events, state, bytes=b"".join(frames).hex())

    def receive_data(self, payload: bytes) -> None:
        self.receive(self.peer.data(payload), events=[delivered(payload)])

    def receive_bye(self, state: str) -> None:
        self.receive(self.peer.bye(), events=[END], state=state)

    def violated(self, *frames: bytes, before: Sequence[Json] = (), rekey: bool = False) -> None:
        """These bytes are a violation, which is answered."""
        sent = self._rekeyed(rekey) + self.own.error(CODES["protocol_violation"])
        self.receive(*frames, sent=sent, events=[*before, VIOLATION], state="FAILING")

    def closed(self, *, state: str = "", truncated: bool = False) -> None:
        self.step("transport_closed", events=[TRUNCATION] if truncated else [], state=state)

    # ---- time ----

    def wait(self, ms: int, *, sent: bytes = b"", events: Sequence[Json] = (), state: str = "") -> None:
        self.step("wait", sent, events, state, ms=ms)

    def hold(self, ms: int, *, sent: bytes = b"", events: Sequence[Json] = (), state: str = "") -> None:
        self.step("hold", sent, events, state, ms=ms)

    def timed_out(self, ms: int, *, sent: bytes = b"", rekey: bool = False) -> None:
        """In this time the peer is found to be silent, behind what is sent in it."""
        error = self._rekeyed(rekey) + self.own.error(CODES["keepalive_timeout"])
        self.wait(ms, sent=sent + error, events=[TIMEOUT], state="FAILING")

    # ---- the case ----

    def case(self, name: str, comment: str, *requirements: str, refusal: Refusal | None = None) -> Case:
        return Case(
            name=f"session/{name}",
            op="session",
            requirements=requirements,
            comment=comment,
            role=self.side,
            input=self.given | {"steps": self.steps},
            expected={"steps": self.expected},
            refusal=refusal,
        )

    def bad(self, name: str, comment: str, layer: FailLayer, by: str, base: str, change: str, *others: str) -> Case:
        """The case of a script in which the peer breaks a rule."""
        refusal = Refusal(layer=layer, by=by, base=f"session/{base}", change=change)
        return self.case(name, comment, *others, refusal=refusal)


# ---- every event in every state (6.12) ---------------------------------------

_LIVE = ("OPEN", "BYE_SENT", "BYE_RECEIVED")
_STATES = (*_LIVE, "DRAINING", "FAILING", "CLOSED", "FAILED")


def _reach(state: str, side: str) -> Script:
    """A session brought into this state. Keepalive is a second, and the initiator's first limit is no other."""
    script = Script(side, keepalive=1000, handshake_deadline=3000)
    match state:
        case "BYE_SENT":
            script.send_bye("BYE_SENT")
        case "BYE_RECEIVED":
            script.receive_bye("BYE_RECEIVED")
        case "DRAINING":
            script.receive_bye("BYE_RECEIVED")
            script.send_bye("DRAINING")
        case "FAILING":
            script.send_error("internal")
        case "CLOSED":
            script.send_bye("BYE_SENT")
            script.receive_bye("CLOSED")
        case "FAILED":
            script.receive(script.peer.error(5), events=[reported("internal")], state="FAILED")
    return script


def _table(state: str, side: str) -> Iterator[Case]:
    slug = state.lower().replace("_", "-")

    def name(event: str) -> str:
        return f"table/{slug}/{event}/{side}"

    # What this side wants
    s = _reach(state, side)
    may_send = state in {"OPEN", "BYE_RECEIVED"}
    if may_send:
        s.send_data(b"mine")
        yield s.case(name("send-data"), f"Data is sent in {state}.", "SE-72", "SE-6")
    else:
        s.refuses("send_data")
        yield s.case(name("send-data"), f"Data is refused in {state}.", "SE-72", *_SILENT[state])
    s = _reach(state, side)
    if state in _LIVE:
        s.send_keepalive()
        yield s.case(name("send-keepalive"), f"A KeepAlive is sent in {state}, early.", "SE-72", "SE-33")
    else:
        s.refuses("send_keepalive")
        yield s.case(name("send-keepalive"), f"A KeepAlive is refused in {state}.", "SE-72", *_SILENT[state])
    s = _reach(state, side)
    if may_send:
        s.send_bye("BYE_SENT" if state == "OPEN" else "DRAINING")
        yield s.case(name("send-bye"), f"Bye is sent in {state}.", "SE-72", "SE-9")
    else:
        s.refuses("send_bye")
        yield s.case(name("send-bye"), f"Bye is refused in {state}.", "SE-72", *_SILENT[state])
    s = _reach(state, side)
    if state in _LIVE:
        s.send_error("shutting_down", b"good night")
        yield s.case(name("send-error"), f"An Error is sent in {state}.", "SE-72", "SE-54", *_ERROR_IN[state])
    else:
        s.refuses("send_error")
        yield s.case(name("send-error"), f"An Error is refused in {state}.", "SE-72", *_SILENT[state])

    # What the peer sends
    s = _reach(state, side)
    data = s.peer.data(b"theirs")
    match state:
        case "OPEN" | "BYE_SENT":
            s.receive(data, events=[delivered(b"theirs")])
            yield s.case(name("data"), f"Data arrives in {state}.", "SE-72", "SE-11")
        case "BYE_RECEIVED":
            s.violated(data)
            change = "Data comes behind the Bye"
            base = f"table/{slug}/keepalive/{side}"
            yield s.bad(name("data"), f"{change}.", FailLayer.SESSION, "SE-40", base, change, "SE-55", "SE-72")
        case _:
            s.receive(data)
            yield s.case(name("data"), f"Data is discarded in {state}.", "SE-72", *_DISCARD[state])
    s = _reach(state, side)
    s.receive(s.peer.keepalive())
    comment = f"A KeepAlive arrives in {state}" + ("." if state in _LIVE else ", and is discarded.")
    yield s.case(name("keepalive"), comment, "SE-72", *_DISCARD.get(state, ("SE-35",)))
    s = _reach(state, side)
    s.receive(s.peer.keepalive(), s.peer.rekey())
    comment = f"A Rekey arrives in {state}" + ("." if state in _LIVE else ", and is discarded.")
    if state in {"OPEN", "BYE_SENT"}:
        s.receive_data(b"theirs")
        comment = f"A Rekey arrives in {state}, and Data of the next generation."
    yield s.case(name("rekey"), comment, "SE-72", *_DISCARD.get(state, ("SE-20",)))
    s = _reach(state, side)
    match state:
        case "OPEN":
            s.receive_bye("BYE_RECEIVED")
            yield s.case(name("bye"), "Bye arrives: the end of the data, and nothing more.", "SE-72", "SE-42", "SE-43")
        case "BYE_SENT":
            s.receive_bye("CLOSED")
            yield s.case(name("bye"), "The second Bye arrives: this side closes.", "SE-72", "SE-42", "SE-45")
        case "BYE_RECEIVED":
            s.violated(s.peer.bye())
            change = "a second Bye comes"
            base = f"table/{slug}/keepalive/{side}"
            yield s.bad(name("bye"), "A second Bye.", FailLayer.SESSION, "SE-40", base, change, "SE-55", "SE-72")
        case _:
            s.receive(s.peer.bye())
            yield s.case(name("bye"), f"Bye is discarded in {state}.", "SE-72", *_DISCARD[state])
    s = _reach(state, side)
    error = s.peer.error(3, b"not you")
    if state in _LIVE:
        s.receive(error, events=[reported("not_authorized", b"not you")], state="FAILED")
        yield s.case(name("error"), f"An Error arrives in {state}.", "SE-72", "SE-58", "SE-56")
    else:
        s.receive(error)
        yield s.case(name("error"), f"An Error is discarded in {state}.", "SE-72", *_DISCARD[state])
    s = _reach(state, side)
    malformed = s.peer.record(6, b"\x00")
    if state in _LIVE:
        s.receive(malformed, events=[VIOLATION], state="FAILED")
        change = "the ErrorBody has one byte"
        base = f"table/{slug}/error/{side}"
        comment = f"A malformed Error in {state}: this side closes without an answer."
        yield s.bad(name("malformed-error"), comment, FailLayer.SESSION, "SE-57", base, change, "SE-56", "SE-72")
    else:
        s.receive(malformed)
        comment = f"A malformed Error is discarded in {state}."
        yield s.case(name("malformed-error"), comment, "SE-72", *_DISCARD[state])
    s = _reach(state, side)
    damaged = turned(s.peer.keepalive(), -1)
    if state in _LIVE:
        s.violated(damaged)
        change = "one bit of the last record is turned"
        base = f"table/{slug}/keepalive/{side}"
        comment = f"A record that does not open in {state}."
        yield s.bad(name("violation"), comment, FailLayer.RECORD, "SE-12", base, change, "SE-14", "SE-55", "SE-72")
    else:
        s.receive(damaged)
        comment = f"A record that would not open is discarded in {state}."
        yield s.case(name("violation"), comment, "SE-72", *_DISCARD[state])

    # What the connection and the clock bring
    s = _reach(state, side)
    match state:
        case "OPEN" | "BYE_SENT":
            s.closed(state="FAILED", truncated=True)
            change = "the connection ends in the place of the Bye"
            comment = f"The connection ends in {state}."
            base = f"table/{slug}/bye/{side}"
            yield s.bad(name("transport-closed"), comment, FailLayer.SESSION, "SE-65", base, change, "SE-72")
        case "BYE_RECEIVED":
            s.closed(state="CLOSED")
            s.refuses("send_data")
            comment = "The connection ends behind the peer's Bye: no truncation, but what is still to be sent fails."
            yield s.case(name("transport-closed"), comment, "SE-72", "SE-66", "SE-67")
        case "DRAINING":
            s.closed(state="CLOSED")
            yield s.case(name("transport-closed"), "The connection ends: a clean end.", "SE-72", "SE-46", "SE-49")
        case "FAILING":
            s.closed(state="FAILED")
            comment = "The connection ends behind own Error: no truncation is reported."
            yield s.case(name("transport-closed"), comment, "SE-72", "SE-62")
        case _:
            s.closed()
            yield s.case(name("transport-closed"), f"The end of the connection in {state} is nothing new.", "SE-72")
    s = _reach(state, side)
    match state:
        case "DRAINING":
            s.wait(4999)
            s.wait(1, state="CLOSED")
            yield s.case(name("time"), "Nothing arrives for 5 seconds.", "SE-72", "SE-46", "SE-49")
        case "FAILING":
            s.wait(999)
            s.wait(1, state="FAILED")
            yield s.case(name("time"), "Nothing arrives for a second.", "SE-72", "SE-62")
        case "CLOSED" | "FAILED":
            s.wait(600_000)
            yield s.case(name("time"), f"In {state} no clock runs.", "SE-72")
        case _:
            s.timed_out(3000, sent=s.own.keepalive() + s.own.keepalive())
            comment = f"The peer is silent in {state} for three intervals; two KeepAlives are sent meanwhile."
            yield s.case(name("time"), comment, "SE-72", "SE-31", "SE-37")


# Why nothing is sent, why an Error may be, and why what arrives is thrown away.
_SILENT = {
    "BYE_SENT": ("SE-40",),
    "DRAINING": ("SE-48",),
    "FAILING": ("SE-61",),
    "CLOSED": ("SE-48",),
    "FAILED": ("SE-58",),
}
_ERROR_IN = {"OPEN": (), "BYE_SENT": ("SE-41",), "BYE_RECEIVED": ()}
_DISCARD = {"DRAINING": ("SE-46",), "FAILING": ("SE-62",), "CLOSED": (), "FAILED": ()}


def _tables() -> Iterator[Case]:
    for side in SIDES:
        for state in _LIVE:
            yield from _table(state, side)
    yield from _table("DRAINING", "initiator")
    yield from _table("FAILING", "responder")
    yield from _table("CLOSED", "responder")
    yield from _table("FAILED", "initiator")


# ---- KeepAlive (6.6) ---------------------------------------------------------


def _keepalives() -> Iterator[Case]:
    for side in SIDES:
        s = Script(side, keepalive=60_000)
        s.wait(59_999)
        s.wait(1, sent=s.own.keepalive())
        s.wait(59_999)
        s.wait(1, sent=s.own.keepalive())
        comment = "Exactly when the send timer has reached keepalive, and not before."
        yield s.case(f"keepalive/send-timer/{side}", comment, "SE-31")

        s = Script(side)
        s.wait(10 * HOUR)
        s.refuses("send_keepalive")
        comment = "Without keepalives nobody sends any, and no silence is too long."
        yield s.case(f"keepalive/none/{side}", comment, "SE-34", "SE-39")

    s = Script("initiator", keepalive=1000)
    s.receive(s.peer.keepalive())
    for what in (b"a", b"b", b"c"):
        s.wait(999)
        s.send_data(what)
    s.receive(s.peer.keepalive())
    s.wait(999)
    s.wait(1, sent=s.own.keepalive())
    yield s.case("keepalive/begins-anew-with-data", "Whoever sends Data in time owes no KeepAlive.", "SE-31")

    s = Script("responder", keepalive=1000)
    s.wait(600)
    s.send_keepalive()
    s.wait(999)
    s.wait(1, sent=s.own.keepalive())
    yield s.case("keepalive/begins-anew-with-keepalive", "An early KeepAlive starts the timer too.", "SE-31", "SE-33")

    s = Script("responder", keepalive=1000)
    s.wait(600)
    s.send_bye("BYE_SENT")
    s.wait(999)
    s.wait(1, sent=s.own.keepalive())
    s.receive(s.peer.keepalive())
    s.wait(1000, sent=s.own.keepalive())
    comment = "The Bye starts the timer, and KeepAlives go on behind it."
    yield s.case("keepalive/behind-own-bye", comment, "SE-31", "SE-32")

    s = Script("responder", keepalive=1000)
    s.receive_bye("BYE_RECEIVED")
    s.wait(1000, sent=s.own.keepalive())
    s.receive(s.peer.keepalive())
    s.wait(1000, sent=s.own.keepalive())
    s.send_bye("DRAINING")
    s.wait(1000)
    s.wait(4000, state="CLOSED")
    comment = "KeepAlives go on behind the peer's Bye, and end with own Bye."
    yield s.case("keepalive/behind-peers-bye", comment, "SE-31", "SE-32", "SE-48")

    s = Script("initiator", keepalive=500)
    s.send_error("internal")
    s.wait(999)
    yield s.case("keepalive/none-behind-error", "Behind own Error no KeepAlive is sent.", "SE-61")

    s = Script("initiator", keepalive=1000)
    s.receive(*(s.peer.keepalive() for _ in range(100)), s.peer.data(b"behind 100"), events=[delivered(b"behind 100")])
    yield s.case("keepalive/early-ones", "A hundred KeepAlives at once are no violation.", "SE-35")

    s = Script("responder", keepalive=1000)
    for _ in range(4):
        s.wait(1000, sent=s.own.keepalive())
        s.receive(s.peer.keepalive())
    yield s.case("keepalive/idle-session", "An idle session, kept alive by both sides.", "SE-31", "SE-37")

    s = Script("responder", keepalive=1000)
    s.hold(2500, sent=s.own.keepalive() + s.own.keepalive())
    yield s.case("keepalive/while-reading-is-held-back", "Who does not read sends KeepAlives all the same.", "SE-31")

    s = Script("responder", keepalive=HOUR)
    s.send_data(b"first")
    s.wait(HOUR, sent=s.own.keepalive())
    s.wait(HOUR, sent=s.own.rekey() + s.own.keepalive())
    comment = "The longest keepalive. At one hour the generation is not too old yet, at two it is."
    yield s.case("keepalive/longest", comment, "SE-24", "SE-31")

    s = Script("initiator")
    s.violated(s.peer.keepalive())
    change = "keepalive is 0"
    comment = "A KeepAlive in a session without keepalives."
    yield s.bad(
        "keepalive/refused", comment, FailLayer.SESSION, "SE-34", "table/open/keepalive/initiator", change, "SE-55"
    )


# ---- silence (6.6) -----------------------------------------------------------


def _silences() -> Iterator[Case]:
    s = Script("responder", keepalive=1000)
    two = s.own.keepalive() + s.own.keepalive()
    s.wait(2999, sent=two)
    s.timed_out(1)
    comment = "Exactly at three intervals. The KeepAlive that is due at the same moment is not sent."
    yield s.case("silence/limit", comment, "SE-37", "SE-31")

    s = Script("responder", keepalive=1000)
    sent = s.own.keepalive() + s.own.keepalive() + s.own.error(CODES["keepalive_timeout"])
    s.wait(4000, sent=sent, events=[TIMEOUT], state="FAILED")
    comment = "In one wait the limit is reached, and the second of the Error is over."
    yield s.case("silence/error-and-its-second", comment, "SE-37", "SE-62", "SE-63")

    s = Script("responder", keepalive=1000)
    s.wait(2999, sent=s.own.keepalive() + s.own.keepalive())
    s.receive(s.peer.keepalive())
    s.wait(1, sent=s.own.keepalive())
    s.wait(2998, sent=s.own.keepalive() + s.own.keepalive())
    s.timed_out(1)
    comment = "A KeepAlive at the last moment sets the clock back."
    yield s.case("silence/set-back", comment, "SE-37")

    for what, payload in (("data", b"x"), ("rekey", b""), ("bye", b"")):
        s = Script("responder", keepalive=1000)
        s.wait(2500, sent=s.own.keepalive() + s.own.keepalive())
        match what:
            case "data":
                s.receive_data(payload)
            case "rekey":
                s.receive(s.peer.rekey())
            case "bye":
                s.receive_bye("BYE_RECEIVED")
        s.wait(2999, sent=b"".join(s.own.keepalive() for _ in range(3)))
        s.timed_out(1)
        yield s.case(f"silence/set-back-by-{what}", f"A {what.capitalize()} sets the clock back too.", "SE-37")

    s = Script("responder", keepalive=1000)
    s.wait(1000, sent=s.own.keepalive())
    s.receive(s.peer.data(b"never whole")[:-1])
    s.timed_out(2000, sent=s.own.keepalive())
    comment = "The bytes of a record that is not whole do not set the clock back."
    yield s.case("silence/part-of-a-record", comment, "SE-37")

    s = Script("responder", keepalive=1000)
    s.wait(2000, sent=s.own.keepalive() + s.own.keepalive())
    s.hold(60_000, sent=b"".join(s.own.keepalive() for _ in range(60)))
    s.wait(999)
    s.timed_out(1)
    comment = "While this side holds back its reading, the clock stands; then it goes on from where it stood."
    yield s.case("silence/held-back", comment, "SE-36", "SE-37")

    s = Script("responder", keepalive=1000)
    s.wait(1500, sent=s.own.keepalive())
    s.hold(400)
    s.wait(1499, sent=s.own.keepalive() + s.own.keepalive())
    s.timed_out(1)
    comment = "Held back between two KeepAlives."
    yield s.case("silence/held-back-a-little", comment, "SE-36", "SE-37")

    s = Script("responder", keepalive=1000)
    s.send_bye("BYE_SENT")
    s.timed_out(3000, sent=s.own.keepalive() + s.own.keepalive())
    s.wait(1000, state="FAILED")
    yield s.case("silence/behind-own-bye", "The peer is silent behind own Bye.", "SE-37", "SE-62")

    s = Script("initiator", keepalive=1000, handshake_deadline=10_000)
    nine = b"".join(s.own.keepalive() for _ in range(9))
    s.wait(9999, sent=nine)
    s.timed_out(1)
    comment = "Until it has opened a record, the initiator waits for the whole of its handshake deadline."
    yield s.case("silence/first-limit-of-the-initiator", comment, "SE-38")

    s = Script("responder", keepalive=1000, handshake_deadline=10_000)
    s.timed_out(3000, sent=s.own.keepalive() + s.own.keepalive())
    comment = "The responder's limit is three intervals from the beginning: Confirm has shown that the peer is there."
    yield s.case("silence/first-limit-of-the-responder", comment, "SE-37", "SE-38")

    s = Script("initiator", keepalive=1000, handshake_deadline=10_000)
    s.wait(5000, sent=b"".join(s.own.keepalive() for _ in range(5)))
    s.receive(s.peer.keepalive())
    s.wait(2999, sent=s.own.keepalive() + s.own.keepalive())
    s.timed_out(1)
    comment = "With its first record the initiator's limit becomes three intervals."
    yield s.case("silence/limit-behind-the-first-record", comment, "SE-37", "SE-38")

    s = Script("initiator", keepalive=60_000, handshake_deadline=10_000)
    s.wait(179_999, sent=s.own.keepalive() + s.own.keepalive())
    s.timed_out(1)
    comment = "Three intervals are longer than the handshake deadline."
    yield s.case("silence/first-limit-is-three-intervals", comment, "SE-37", "SE-38")

    s = Script("initiator", keepalive=1000, handshake_deadline=10_000)
    s.wait(4000, sent=b"".join(s.own.keepalive() for _ in range(4)))
    s.hold(4000, sent=b"".join(s.own.keepalive() for _ in range(4)))
    s.wait(5999, sent=b"".join(s.own.keepalive() for _ in range(5)))
    s.timed_out(1)
    comment = "The first limit too is measured by the silence clock, which stood for four seconds."
    yield s.case("silence/first-limit-held-back", comment, "SE-36", "SE-38")

    s = Script("initiator", keepalive=1000, handshake_deadline=10_000)
    s.receive(s.peer.data(b"x")[:-1])
    s.timed_out(10_000, sent=b"".join(s.own.keepalive() for _ in range(9)))
    comment = "A part of a record is no first record."
    yield s.case("silence/first-limit-and-part-of-a-record", comment, "SE-38")


# ---- Bye (6.7, 6.8) ----------------------------------------------------------


def _half_closes() -> Iterator[Case]:
    for side in SIDES:
        s = Script(side)
        s.send_data(b"all of it")
        s.send_bye("BYE_SENT")
        s.receive_data(b"answer, ")
        s.receive_data(b"long")
        s.receive_bye("CLOSED")
        comment = "This side ends first, goes on receiving, and closes at the peer's Bye."
        yield s.case(f"bye/own-first/{side}", comment, "SE-40", "SE-42", "SE-45")

        s = Script(side)
        s.receive_data(b"all of it")
        s.receive_bye("BYE_RECEIVED")
        s.send_data(b"answer, ")
        s.send_data(b"long")
        s.send_bye("DRAINING")
        s.closed(state="CLOSED")
        comment = "The peer ends first; this side sends on, then says Bye and waits for the peer to close."
        yield s.case(f"bye/peer-first/{side}", comment, "SE-42", "SE-43", "SE-46", "SE-49")

        s = Script(side)
        s.send_bye("BYE_SENT")
        s.receive(s.peer.data(b"last"), s.peer.bye(), events=[delivered(b"last"), END], state="CLOSED")
        s.closed()
        comment = "The Byes cross: each side closes when the other's arrives."
        yield s.case(f"bye/crossing/{side}", comment, "SE-42", "SE-45")

    s = Script("responder")
    s.receive(s.peer.data(b"one"), s.peer.data(b"two"), s.peer.bye(), events=[delivered(b"onetwo"), END],
              state="BYE_RECEIVED")  # fmt: skip
    s.send_bye("DRAINING")
    s.receive(s.peer.data(b"too late"))
    s.receive(b"\xff" * 100)
    s.wait(4999)
    s.receive(s.peer.keepalive())
    s.wait(1, state="CLOSED")
    comment = "In DRAINING everything is thrown away, and nothing makes the five seconds longer."
    yield s.case("bye/draining", comment, "SE-46", "SE-47", "SE-50")

    s = Script("initiator", keepalive=1000)
    s.receive_bye("BYE_RECEIVED")
    s.send_bye("DRAINING")
    s.hold(5000, state="CLOSED")
    comment = "The five seconds are no silence: they pass while reading is held back, and end without an Error."
    yield s.case("bye/draining-held-back", comment, "SE-46", "SE-49")

    s = Script("initiator", keepalive=1000, handshake_deadline=3000)
    s.receive_bye("BYE_RECEIVED")
    s.send_bye("DRAINING")
    s.wait(4000)
    comment = "In DRAINING no silence is too long, and no KeepAlive is due."
    yield s.case("bye/draining-has-no-silence", comment, "SE-48", "SE-49")

    s = Script("responder")
    s.send_bye("BYE_SENT")
    s.receive(s.peer.bye(), s.peer.data(b"not looked at"), events=[END], state="CLOSED")
    comment = "Behind the second Bye nothing is looked at."
    yield s.case("bye/bytes-behind-the-second", comment, "SE-45")

    s = Script("responder")
    s.receive(s.peer.bye(), s.peer.keepalive()[:-5], events=[END], state="BYE_RECEIVED")
    s.closed(state="CLOSED")
    comment = "The end behind the peer's Bye is no truncation, whatever stands in the last bytes."
    yield s.case("bye/part-of-a-record-behind-it", comment, "SE-66")

    s = Script("responder")
    s.receive_bye("BYE_RECEIVED")
    s.receive(s.peer.rekey())
    s.receive(s.peer.error(4, b"stopping"), events=[reported("shutting_down", b"stopping")], state="FAILED")
    comment = "A Rekey and an Error behind the peer's Bye are allowed."
    yield s.case("bye/rekey-and-error-behind-it", comment, "SE-41", "SE-58")

    s = Script("initiator")
    s.send_bye("BYE_SENT")
    s.refuses("send_data")
    s.refuses("send_bye")
    s.receive_data(b"still open")
    comment = "Who is refused has changed nothing."
    yield s.case("bye/refused-behind-own", comment, "SE-40")

    s = Script("initiator")
    s.send_bye("BYE_SENT")
    s.receive(s.peer.error(5, b"failed"), events=[reported("internal", b"failed")], state="FAILED")
    comment = "An Error in the place of the second Bye: no end of data is reported."
    yield s.case("bye/error-in-its-place", comment, "SE-58", "SE-59")


# ---- own Error (6.9) ---------------------------------------------------------


def _own_errors() -> Iterator[Case]:
    for code in CODES:
        s = Script("responder")
        s.send_error(code, b"why: " + code.encode())
        comment = f"Error({code}), of this side's own will."
        yield s.case(f"own-error/{code.replace('_', '-')}", comment, "SE-54", "EL-1", "SE-61")

    s = Script("initiator")
    s.send_error("internal", "\u00e9\u20ac\U0001f600".encode())
    s.receive(s.peer.data(b"x"), s.peer.error(5), b"\xff" * 30)
    for do in ("send_data", "send_bye", "send_error"):
        s.refuses(do)
    s.wait(999)
    s.receive(b"\0" * 30)
    s.wait(1, state="FAILED")
    comment = "Behind own Error nothing is sent or delivered; after a second this side closes."
    yield s.case("own-error/then-nothing", comment, "SE-56", "SE-61", "SE-62", "SE-63")

    s = Script("initiator")
    s.send_error("over_capacity", b"t" * 1024)
    s.hold(1000, state="FAILED")
    comment = "The longest text; the second passes while reading is held back."
    yield s.case("own-error/longest-text", comment, "SE-54", "SE-62")

    s = Script("responder", keepalive=500)
    s.receive_bye("BYE_RECEIVED")
    s.send_error("internal")
    s.closed(state="FAILED")
    comment = "The end behind own Error is no clean one, though the peer has said Bye."
    yield s.case("own-error/behind-the-peers-bye", comment, "SE-62", "SE-72")

    s = Script("initiator", keepalive=1000, handshake_deadline=3000)
    s.timed_out(3999, sent=s.own.keepalive() + s.own.keepalive())
    s.receive(s.peer.keepalive())
    s.wait(1, state="FAILED")
    comment = "The Error of a silence has its second too, and what arrives then changes nothing."
    yield s.case("own-error/of-a-silence", comment, "SE-37", "SE-62")


# ---- the peer's Error (6.9) --------------------------------------------------


def _peers_errors() -> Iterator[Case]:
    for code, number in CODES.items():
        s = Script("initiator")
        s.receive(s.peer.error(number, b"why"), events=[reported(code, b"why")], state="FAILED")
        comment = f"Error({code}) is reported as what it says."
        yield s.case(f"peers-error/{code.replace('_', '-')}", comment, "SE-58", "EL-3")
    for number in (0, 9, 256, 65535):
        s = Script("responder")
        s.receive(s.peer.error(number, b"from the future"), events=[reported("internal", b"from the future")],
                  state="FAILED")  # fmt: skip
        comment = f"The code {number} is not listed, and counts as internal."
        yield s.case(f"peers-error/unlisted-{number}", comment, "SE-58", "SE-60")

    s = Script("initiator")
    text = "\u00fcber".encode() * 170 + "\U0001f600".encode()
    s.receive(s.peer.error(2, text), events=[reported("unknown_service", text)], state="FAILED")
    yield s.case("peers-error/text", "A text of characters of one, two and four bytes.", "SE-58")
    s = Script("initiator")
    s.receive(s.peer.error(2, b"t" * 1024), events=[reported("unknown_service", b"t" * 1024)], state="FAILED")
    yield s.case("peers-error/longest-text", "A text of 1,024 bytes.", "SE-58")
    s = Script("initiator")
    s.receive(s.peer.error(2), events=[reported("unknown_service")], state="FAILED")
    s.closed()
    comment = "An Error without a text. The end of the connection behind it is no truncation."
    yield s.case("peers-error/then-closed", comment, "SE-58", "SE-59")
    s = Script("initiator")
    s.receive(s.peer.data(b"good"), s.peer.error(5), s.peer.data(b"bad"),
              events=[delivered(b"good"), reported("internal")], state="FAILED")  # fmt: skip
    comment = "Data before the Error is delivered first, what comes behind it is not looked at."
    yield s.case("peers-error/behind-data", comment, "SE-58")

    base = "peers-error/no-room"
    s = Script("initiator")
    s.receive(s.peer.error(8, b"no room"), events=[reported("over_capacity", b"no room")], state="FAILED")
    yield s.case(base, "An Error with a text: what malformed ones were made from.", "SE-58")
    for what, body, change in [
        ("empty", b"", "the payload is empty"),
        ("half-a-code", b"\x00", "the payload ends within the code"),
        ("code-alone", b"\x00\x08", "the payload ends behind the code"),
        ("half-a-length", b"\x00\x08\x00", "the payload ends within the length of the text"),
        ("short-text", error_body(8, b"no room")[:-1], "the text's last byte is missing"),
        ("byte-behind-it", error_body(8, b"no room") + b"\0", "a byte stands behind the text"),
        ("not-utf-8", error_body(8, b"no r\xff\xffm"), "the text is not UTF-8"),
        ("surrogate", error_body(8, b"no r\xed\xa0\x80"), "the text has a surrogate"),
        ("text-too-long", error_body(8, b"t" * 1025), "the text has 1,025 bytes"),
    ]:
        s = Script("initiator")
        s.receive(s.peer.record(6, body), events=[VIOLATION], state="FAILED")
        s.closed()
        comment = f"A malformed Error: {change}. It ends without an answer, and no truncation besides."
        name = f"malformed-error/{what}"
        yield s.bad(name, comment, FailLayer.SESSION, "SE-57", base, change, "SE-56", "SE-82")
    s = Script("responder")
    s.receive(s.peer.record(6, error_body(99, b"a\0b")), events=[VIOLATION], state="FAILED")
    comment = "An Error of an unlisted code whose text has a control character."
    change = "the text has a control character"
    yield s.bad(
        "malformed-error/unlisted-code", comment, FailLayer.SESSION, "SE-57", "peers-error/unlisted-9", change, "SE-60"
    )


# ---- truncation (6.10) -------------------------------------------------------


def _truncations() -> Iterator[Case]:
    def bad(s: Script, what: str, comment: str, base: str, change: str, *others: str) -> Case:
        return s.bad(f"truncation/{what}", comment, FailLayer.SESSION, "SE-65", base, change, *others)

    ends = "the connection ends before the Bye"
    s = Script("initiator")
    s.closed(state="FAILED", truncated=True)
    comment = "The connection ends without a byte: so it looks if the responder has refused Confirm."
    yield bad(s, "at-once", comment, "table/open/bye/initiator", ends)
    for side in SIDES:
        s = Script(side)
        s.receive_data(b"delivered ")
        s.receive_data(b"stays delivered")
        s.closed(state="FAILED", truncated=True)
        s.refuses("send_data")
        comment = "The connection ends behind whole records."
        yield bad(s, f"behind-data/{side}", comment, f"bye/peer-first/{side}", ends)
    for what, size in (("header", 3), ("body", 10), ("last-byte", -1)):
        s = Script("responder")
        s.receive(s.peer.data(b"whole"), s.peer.data(b"cut off")[:size], events=[delivered(b"whole")])
        s.closed(state="FAILED", truncated=True)
        comment = "The connection ends within a record."
        yield bad(s, f"within-a-record/{what}", comment, "bye/peer-first/responder", ends)
    s = Script("responder")
    s.send_data(b"all of it")
    s.send_bye("BYE_SENT")
    s.receive_data(b"answer, ")
    s.closed(state="FAILED", truncated=True)
    comment = "The connection ends behind own Bye and before the peer's."
    yield bad(s, "behind-own-bye", comment, "bye/own-first/responder", ends)
    s = Script("responder")
    s.send_bye("BYE_SENT")
    s.receive(s.peer.bye()[:-1])
    s.closed(state="FAILED", truncated=True)
    comment = "The last byte of the Bye is missing."
    yield bad(s, "within-the-bye", comment, "bye/crossing/responder", "the Bye's last byte is missing")

    s = Script("responder")
    s.violated(turned(s.peer.data(b"x"), -1))
    s.closed(state="FAILED")
    change = "one bit of the tag is turned"
    comment = "The end behind a violation: it was reported, and takes the place of a truncation."
    yield s.bad(
        "truncation/none-behind-a-violation", comment, FailLayer.RECORD, "SE-12", "pieces/one", change, "SE-82", "SE-55"
    )
    s = Script("responder", keepalive=1000)
    s.timed_out(3000, sent=s.own.keepalive() + s.own.keepalive())
    s.closed(state="FAILED")
    comment = "The end behind a silence: it was reported, and takes the place of a truncation."
    yield s.case("truncation/none-behind-a-silence", comment, "SE-37", "SE-82")


# ---- violations (6.2) --------------------------------------------------------


def _violations() -> Iterator[Case]:
    record, session, frame = FailLayer.RECORD, FailLayer.SESSION, FailLayer.FRAME
    one = "pieces/one"  # a Data record of "x", at a responder

    for what, header, change in [
        ("kind-0", b"\x00\x00\x00\x12", "the kind is 0"),
        ("kind-1", b"\x01\x00\x00\x12", "the kind is 1"),
        ("kind-2", b"\x02\x00\x00\x12", "the kind is 2"),
        ("kind-4", b"\x04\x00\x00\x12", "the kind is 4"),
        ("length-16", b"\x03\x00\x00\x10", "the length is 16"),
        ("length-0", b"\x03\x00\x00\x00", "the length is 0"),
        ("length-65554", b"\x03\x01\x00\x12", "the length is 65,554"),
        ("length-most", b"\x03\xff\xff\xff", "the length is 16,777,215"),
    ]:
        s = Script("responder")
        s.violated(header)
        comment = f"Check 1, before a byte of the body is there: {change}."
        yield s.bad(f"violation/header/{what}", comment, frame, "FR-4", one, change, "SE-13", "SE-55", "FR-5")
    s = Script("responder")
    s.receive(b"\x03\x00")
    s.violated(b"\x00\x10")
    comment = "Check 1, of a header that comes in two pieces."
    yield s.bad("violation/header/in-pieces", comment, frame, "FR-4", one, "the length is 16", "FR-5", "FR-7", "SE-55")

    for what, at, change in [
        ("type", 4, "one bit of the sealed type is turned"),
        ("payload", 5, "one bit of the sealed payload is turned"),
        ("tag", 6, "one bit of the tag is turned"),
    ]:
        s = Script("responder")
        s.violated(turned(s.peer.data(b"x"), at))
        yield s.bad(f"violation/damaged/{what}", f"Check 2: {change}.", record, "SE-12", one, change, "SE-13", "SE-55")
    s = Script("responder")
    s.violated(Direction(R2I, 1).data(b"x"))
    comment = "Check 2: a record that the other direction could carry."
    change = "it is sealed with the key of the other direction"
    yield s.bad("violation/reflected", comment, record, "SE-6", one, change, "SE-55")
    s = Script("responder")
    first = s.peer.data(b"x")
    s.receive(first, events=[delivered(b"x")])
    s.violated(first)
    comment = "Check 2: a record that comes twice."
    yield s.bad("violation/replayed", comment, record, "SE-16", "pieces/two-at-once", "the first comes again", "SE-55")
    s = Script("responder")
    s.peer.data(b"lost")
    s.violated(s.peer.data(b"x"))
    comment = "Check 2: a record is missing before it."
    yield s.bad("violation/left-out", comment, record, "SE-16", one, "its number is the next but one", "SE-55")

    for type_ in (0, 7, 255):
        s = Script("responder")
        s.violated(s.peer.record(type_, b"x"))
        change = f"the type is {type_}"
        yield s.bad(f"violation/type-{type_}", f"Check 3: {change}.", record, "SE-13", one, change, "SE-55")

    for what, type_, payload in (
        ("data", 2, b"x"), ("keepalive", 3, b""), ("bye", 5, b""), ("error", 6, error_body(5)), ("confirm", 1, b""),
    ):  # fmt: skip
        s = Script("responder", keepalive=60_000, peer_seq=LAST)
        s.violated(s.peer.record(type_, payload))
        comment = f"Check 4: a {what.capitalize()} in the place of the Rekey."
        if what == "error":
            comment += " It does not count as an Error that was received, and is answered."
        change = f"a {what.capitalize()} has seq 2^20 - 1"
        base = "rekey/peers-last-of-a-generation"
        yield s.bad(f"violation/no-rekey/{what}", comment, session, "SE-21", base, change, "SE-13", "SE-55")
    s = Script("initiator")
    s.violated(s.peer.rekey())
    comment = "Check 4: the responder's first record is a Rekey."
    change = "the Rekey has seq 0"
    yield s.bad("violation/rekey-first", comment, session, "SE-22", "rekey/peers-at-will", change, "SE-13", "SE-55")
    s = Script("responder")
    s.violated(s.peer.rekey(), s.peer.rekey())
    comment = "Check 4: a Rekey behind a Rekey."
    change = "another Rekey comes at once"
    yield s.bad("violation/rekey-twice", comment, session, "SE-22", "rekey/peers-four", change, "SE-13", "SE-55")

    for what, side, by, why in (
        ("second", "responder", "SE-29", "Confirm comes a second time"),
        ("of-the-responder", "initiator", "SE-30", "the responder sends Confirm"),
    ):
        s = Script(side)
        s.violated(s.peer.confirm())
        base = f"table/open/data/{side}"
        yield s.bad(f"violation/confirm/{what}", f"Check 5: {why}.", session, by, base, why, "SE-13", "SE-55")
    s = Script("responder")
    s.receive_bye("BYE_RECEIVED")
    s.violated(s.peer.confirm())
    base = "bye/peer-first/responder"
    change = "Confirm comes behind the Bye"
    yield s.bad("violation/confirm/behind-bye", f"Check 5: {change}.", session, "SE-29", base, change, "SE-55")

    s = Script("responder")
    s.violated(s.peer.data(b""))
    change = "the payload is empty"
    yield s.bad("violation/payload/data", "Check 7: Data without a byte.", session, "SE-10", one, change, "SE-13")
    for what, type_ in (("keepalive", 3), ("rekey", 4), ("bye", 5)):
        s = Script("responder", keepalive=60_000)
        s.violated(s.peer.record(type_, b"\0"))
        comment = f"Check 7: a {what.capitalize()} with a byte of payload."
        change = "the payload is a byte"
        base = f"table/open/{what}/responder"
        yield s.bad(f"violation/payload/{what}", comment, session, "SE-9", base, change, "SE-13", "SE-55")

    s = Script("responder")
    s.violated(s.peer.data(b"good, "), s.peer.data(b"and good"), turned(s.peer.data(b"bad"), -1),
               before=[delivered(b"good, and good")])  # fmt: skip
    comment = "Good data before a violation is delivered first, though all comes at once."
    change = "one bit of the third record's tag is turned"
    yield s.bad("violation/behind-data", comment, record, "SE-12", "pieces/two-at-once", change, "SE-55", "SE-82")
    s = Script("responder")
    s.violated(s.peer.bye(), s.peer.data(b"more"), before=[END])
    comment = "The end of the data is reported, and then the violation behind it."
    change = "Data comes behind the Bye"
    yield s.bad("violation/data-behind-bye", comment, session, "SE-40", "bye/peer-first/responder", change, "SE-55")
    s = Script("initiator")
    s.send_bye("BYE_SENT")
    s.violated(turned(s.peer.data(b"answer, "), 5))
    s.wait(1000, state="FAILED")
    comment = "A violation behind own Bye is answered too: an Error may follow the Bye."
    change = "one bit of the payload is turned"
    yield s.bad(
        "violation/behind-own-bye", comment, record, "SE-12", "bye/own-first/initiator", change, "SE-41", "SE-62"
    )
    s = Script("initiator")
    s.violated(b"\x03\x00\x00\x10")
    s.receive(s.peer.data(b"late"))
    for do in ("send_data", "send_keepalive", "send_bye", "send_error"):
        s.refuses(do)
    s.wait(1000, state="FAILED")
    comment = "After a violation nothing is sent but the Error that answers it, and nothing is delivered."
    base = "table/open/data/initiator"
    yield s.bad("violation/then-nothing", comment, frame, "FR-4", base, "the length is 16", "SE-61", "SE-62")


# ---- generations (6.4) -------------------------------------------------------


def _rekeys() -> Iterator[Case]:
    counted = ("SE-19", "SE-21", "SE-23")
    for side in SIDES:
        s = Script(side, own_seq=LAST - 1)
        s.send_data(b"last of its generation")
        s.send_data(b"first of the next", rekey=True)
        s.send_data(b"and on")
        comment = "At seq 2^20 - 1 the Rekey goes before the Data."
        yield s.case(f"rekey/before-data/{side}", comment, *counted)
    s = Script("responder", keepalive=60_000, own_seq=LAST)
    s.send_keepalive(rekey=True)
    yield s.case("rekey/before-keepalive", "The Rekey goes before a KeepAlive too.", *counted)
    s = Script("responder", keepalive=60_000, own_seq=LAST)
    s.wait(60_000, sent=s.own.rekey() + s.own.keepalive())
    yield s.case("rekey/before-keepalive-of-the-timer", "The timer's KeepAlive is no exception.", *counted, "SE-31")
    s = Script("initiator", own_seq=LAST)
    s.send_bye("BYE_SENT", rekey=True)
    yield s.case("rekey/before-bye", "The Rekey goes before a Bye too.", *counted)
    s = Script("initiator", own_seq=LAST)
    s.send_error("internal", b"at last", rekey=True)
    yield s.case("rekey/before-error", "The Rekey goes before an Error too.", *counted)
    s = Script("responder", own_seq=LAST)
    s.violated(turned(s.peer.data(b"x"), -1), rekey=True)
    comment = "The Rekey goes before the Error that answers a violation."
    change = "one bit of the tag is turned"
    yield s.bad("rekey/before-the-answer", comment, FailLayer.RECORD, "SE-12", "pieces/one", change, "SE-23", "SE-55")
    s = Script("responder", keepalive=60_000, own_seq=LAST - 2)
    error = s.own.keepalive() + s.own.keepalive()
    s.timed_out(180_000, sent=error, rekey=True)
    yield s.case("rekey/before-keepalive-timeout", "The Rekey goes before the Error of a silence.", *counted, "SE-37")
    s = Script("initiator", own_seq=LAST - 1)
    s.send_bye("BYE_SENT")
    s.refuses("send_data")
    s.send_error("internal", rekey=True)
    comment = "For Data that is refused no Rekey is sent; behind own Bye it goes before the Error."
    yield s.case("rekey/behind-own-bye", comment, *counted, "SE-40", "SE-41")
    s = Script("responder", own_seq=LAST)
    s.receive_bye("BYE_RECEIVED")
    s.send_bye("DRAINING", rekey=True)
    yield s.case("rekey/before-the-second-bye", "The Rekey goes before the Bye that ends the session.", *counted)

    for side in SIDES:
        s = Script(side, own_seq=1)
        s.wait(HOUR)
        s.send_data(b"an hour old")
        s.wait(1)
        s.send_data(b"more than an hour old", rekey=True)
        comment = "At exactly 3,600 seconds the generation may go on, a millisecond later it may not."
        yield s.case(f"rekey/age/{side}", comment, "SE-19", "SE-24")
    s = Script("initiator")
    s.wait(HOUR + 1)
    s.send_bye("BYE_SENT", rekey=True)
    comment = "The initiator's first generation began with Confirm. The Rekey goes before a Bye too."
    yield s.case("rekey/age-since-confirm", comment, "SE-19", "SE-24")
    s = Script("initiator")
    s.wait(2 * HOUR)
    s.send_error("shutting_down", rekey=True)
    yield s.case("rekey/age-before-error", "The Rekey of age goes before an Error.", "SE-19", "SE-24")
    s = Script("responder", own_seq=5)
    s.wait(2 * HOUR)
    s.violated(turned(s.peer.data(b"x"), -1), rekey=True)
    comment = "The Rekey of age goes before the Error that answers a violation."
    change = "one bit of the tag is turned"
    yield s.bad("rekey/age-before-the-answer", comment, FailLayer.RECORD, "SE-12", "pieces/one", change, "SE-24")
    s = Script("responder")
    s.wait(2 * HOUR)
    s.send_data(b"first of all")
    s.wait(HOUR)
    s.send_data(b"not yet")
    s.wait(1)
    s.send_data(b"now", rekey=True)
    comment = "The responder's generation has no record yet: nothing to rekey, and its age begins with the first one."
    yield s.case("rekey/age-of-an-empty-generation", comment, "SE-22", "SE-24", "SE-25")
    s = Script("initiator", own_seq=LAST)
    s.send_data(b"first of the next", rekey=True)
    s.wait(HOUR)
    s.send_data(b"not yet")
    s.wait(1)
    s.send_data(b"now", rekey=True)
    comment = "The age of the next generation begins with its first record, too."
    yield s.case("rekey/age-of-the-next", comment, "SE-19", "SE-23", "SE-24")
    s = Script("initiator")
    s.wait(10 * HOUR)
    yield s.case("rekey/none-while-idle", "Nothing is to be sent: no Rekey either, however old the keys are.", "SE-24")
    s = Script("initiator")
    s.send_bye("BYE_SENT")
    s.wait(HOUR + 1)
    s.refuses("send_data")
    comment = "For Data that is refused no Rekey is sent, though its age calls for one."
    yield s.case("rekey/none-for-the-refused", comment, "SE-24", "SE-40")

    opened = ("SE-20", "SE-15")
    for side in SIDES:
        s = Script(side)
        s.receive_data(b"old")
        s.receive(s.peer.rekey())
        s.receive_data(b"new")
        s.send_data(b"still generation 0")
        comment = "The directions change generation by themselves."
        yield s.case(f"rekey/one-direction/{side}", comment, *opened)
    s = Script("initiator")
    s.receive_data(b"a")
    s.receive(s.peer.rekey(), s.peer.data(b"b"), events=[delivered(b"b")])
    comment = "The peer may rekey when it likes, if the generation has a record."
    yield s.case("rekey/peers-at-will", comment, *opened)
    s = Script("responder")
    frames = []
    for what in (b"1", b"2", b"3", b"4"):
        frames += [s.peer.rekey(), s.peer.data(what)]
    s.receive(*frames, events=[delivered(b"1234")])
    yield s.case("rekey/peers-four", "Four generations in one piece; the data is joined.", *opened)
    s = Script("responder", keepalive=60_000, peer_seq=LAST)
    s.receive(s.peer.rekey(), s.peer.data(b"next"), events=[delivered(b"next")])
    yield s.case("rekey/peers-last-of-a-generation", "The peer's Rekey at seq 2^20 - 1.", *opened)
    s = Script("responder")
    s.receive_data(b"young")
    s.wait(5 * HOUR)
    s.receive_data(b"old")
    comment = "The age of the peer's generation is its own affair."
    yield s.case("rekey/peers-age-is-not-checked", comment, "SE-27")

    s = Script("initiator")
    old = Direction(R2I, 2)
    s.receive_data(b"a")
    s.violated(s.peer.rekey(), old.data(b"b"))
    comment = "A record of the old generation behind the Rekey."
    change = "what is behind the Rekey has the old key"
    yield s.bad("rekey/old-key-behind-it", comment, FailLayer.RECORD, "SE-20", "rekey/peers-at-will", change, "SE-55")
    s = Script("initiator")
    s.receive_data(b"a")
    s.peer.rekey()
    s.violated(s.peer.data(b"b"))
    comment = "A record of the next generation without a Rekey."
    change = "the Rekey is left out"
    yield s.bad("rekey/new-key-without-it", comment, FailLayer.RECORD, "SE-19", "rekey/peers-at-will", change, "SE-55")


# ---- pieces (4, 6.2) ---------------------------------------------------------


def _pieces() -> Iterator[Case]:
    s = Script("responder")
    s.receive_data(b"x")
    yield s.case("pieces/one", "One record, in one piece.", "SE-12")
    s = Script("responder")
    s.receive(s.peer.data(b"one"), s.peer.data(b"two"), events=[delivered(b"onetwo")])
    comment = "Two records in one piece: their boundary means nothing."
    yield s.case("pieces/two-at-once", comment, "SE-11", "FR-8")
    s = Script("initiator", keepalive=60_000)
    frames = [s.peer.data(b"one"), s.peer.keepalive(), s.peer.data(b"two"), s.peer.rekey(), s.peer.data(b"three")]
    s.receive(*frames, events=[delivered(b"onetwothree")])
    comment = "What carries no data stands between what does."
    yield s.case("pieces/five-at-once", comment, "SE-11", "SE-20", "FR-8")
    s = Script("responder")
    frame = s.peer.data(b"byte by byte")
    for at in range(len(frame) - 1):
        s.receive(frame[at : at + 1])
    s.receive(frame[-1:], events=[delivered(b"byte by byte")])
    yield s.case("pieces/byte-by-byte", "Nothing is delivered before the last byte of the tag.", "SE-12", "FR-6")
    s = Script("initiator")
    whole = s.peer.data(b"seven") + s.peer.bye() + b"\x03\x00"
    end_of_first = 4 + 1 + 5 + 16
    for start in range(0, len(whole), 7):
        piece, first = whole[start : start + 7], start < end_of_first <= start + 7
        second = start < end_of_first + 21 <= start + 7
        if first:
            s.receive(piece, events=[delivered(b"seven")])
        elif second:
            s.receive(piece, events=[END], state="BYE_RECEIVED")
        else:
            s.receive(piece)
    s.closed(state="CLOSED")
    yield s.case("pieces/seven-bytes", "Data and Bye, cut every seven bytes.", "SE-66", "FR-6", "FR-8")
    for cut in (1, 4, 5, 20):
        s = Script("initiator")
        frame, bye = s.peer.data(b"data"), s.peer.bye()
        s.receive(frame[:cut])
        s.receive(frame[cut:], bye[:cut], events=[delivered(b"data")])
        s.receive(bye[cut:], events=[END], state="BYE_RECEIVED")
        yield s.case(f"pieces/cut-at-{cut}", f"Each record is cut behind {cut} bytes.", "SE-42", "FR-6", "FR-8")
    s = Script("responder")
    s.receive(s.peer.data(b"d" * 1000), s.peer.bye(), events=[delivered(b"d" * 1000), END], state="BYE_RECEIVED")
    comment = "The end of the data is reported behind all data, though both come at once."
    yield s.case("pieces/data-and-bye", comment, "SE-42")
    s = Script("initiator", keepalive=60_000)
    frames = [s.peer.keepalive() for _ in range(200)]
    s.receive(*frames, s.peer.bye(), events=[END], state="BYE_RECEIVED")
    yield s.case("pieces/200-keepalives", "All of them are taken, and then the Bye.", "SE-35", "SE-42")


def cases(_fixtures: Fixtures) -> Iterator[Case]:
    yield from _tables()
    yield from _keepalives()
    yield from _silences()
    yield from _half_closes()
    yield from _own_errors()
    yield from _peers_errors()
    yield from _truncations()
    yield from _violations()
    yield from _rekeys()
    yield from _pieces()
