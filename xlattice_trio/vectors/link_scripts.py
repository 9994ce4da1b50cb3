"""The cases of `link`: what happens to a side step by step, and what its author expects of each step.

Link messages are made from the byte layouts of Spec 7.5. In NodeID order the members are alpha, gamma, beta: alpha
dials both, gamma dials beta.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import attrs

from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing import forge
from xlattice_trio.vectors.fixtures import Fixtures, drawn, in_order, sign_card, sign_roster
from xlattice_trio.vectors.model import Case, FailLayer, Json, Refusal
from xlattice_trio.vectors.records import turned
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.messages import Member, NodeCard, Roster

_ORDER = ("alpha", "gamma", "beta")

BYE: Json = {"bye": True}
CLOSE: Json = {"close": True}
DROPPED: Json = {"dropped": True}
VIOLATION: Json = {"violation": True}
REQUEST = b"\x02\x00\x00\x00"


def error(code: str) -> Json:
    return {"error": code}


def conflict(epoch: int) -> Json:
    return {"conflict": f"{epoch:016x}"}


def adopted(roster: VerifiedRoster) -> Json:
    return {"adopted": roster.digest.hex()}


# ---- link messages -----------------------------------------------------------


def message(type_: int, body: bytes = b"", length: int | None = None) -> bytes:
    """Header and body, whatever they mean."""
    return bytes([type_]) + (len(body) if length is None else length).to_bytes(3, "big") + body


def offer_of(epoch: int, digest: bytes) -> bytes:
    return message(1, epoch.to_bytes(8, "big") + digest)


def offer(roster: VerifiedRoster) -> bytes:
    return offer_of(roster.epoch, roster.digest)


def transfer(roster: VerifiedRoster) -> bytes:
    return message(3, encode(roster.roster))


UNSEEN = drawn("link/digest of a roster that nobody has", 32)


# ---- scripts -----------------------------------------------------------------


class Script:
    """The steps of a vector, and what comes of each: nothing, and no change of state, unless it is said."""

    def __init__(
        self,
        fixtures: Fixtures,
        own: str = "alpha",
        peer: str = "beta",
        *,
        highest: int | None = None,
        verification: int | None = None,
    ) -> None:
        self.main, self.next, self.listed = (fixtures.rosters[name] for name in ("main", "next", "listed"))
        self.state, self.request = "AWAIT_OFFER", "QUIET"
        self.side = "initiator" if _ORDER.index(own) < _ORDER.index(peer) else "responder"
        self.given: Json = {"side": self.side, "self": own, "peer": peer, "roster": "main"}
        if highest is not None:
            self.given["highest"] = f"{highest:016x}"
        if verification is not None:
            self.given["verification"] = verification
        self.steps: list[Json] = []
        self.expected: list[Json] = []

    def step(
        self,
        do: str,
        sent: bytes = b"",
        acts: Sequence[Json] = (),
        events: Sequence[Json] = (),
        state: str = "",
        request: str = "",
        **keys: Any,
    ) -> None:
        self.state, self.request = state or self.state, request or self.request
        self.steps.append({"do": do, **keys})
        self.expected.append(
            {
                "sent": sent.hex(),
                "acts": list(acts),
                "events": list(events),
                "state": self.state,
                "request": self.request,
            }
        )

    # ---- what arrives ----

    def receive(self, *messages: bytes, **expected: Any) -> None:
        self.step("receive", bytes=b"".join(messages).hex(), **expected)

    def exchanged(self) -> None:
        """The peer has the same roster."""
        self.receive(offer(self.main), state="EXCHANGED")

    def asking(self, offered: bytes | None = None) -> None:
        """The peer has a newer roster, and is asked for it."""
        self.receive(
            offer(self.next) if offered is None else offered, sent=REQUEST, state="EXCHANGED", request="ASKING"
        )

    def violated(self, *messages: bytes, before: Sequence[Json] = (), sent: bytes = b"") -> None:
        events = [*before, VIOLATION]
        acts = [error("protocol_violation")]
        self.receive(*messages, sent=sent, acts=acts, events=events, state="ENDED", request="QUIET")

    def bye(self) -> None:
        self.step("receive_bye", acts=[BYE], state="ENDED", request="QUIET")

    def session_ended(self) -> None:
        self.step("session_ended", state="ENDED", request="QUIET")

    # ---- what the node does, and time ----

    def adopt(self, roster: VerifiedRoster, name: str, **expected: Any) -> None:
        events = [adopted(roster), *expected.pop("events", [])]
        self.step("adopt", events=events, roster=name, **expected)

    def stop(self) -> None:
        self.step("stop", acts=[BYE], state="LEAVING", request="QUIET")

    def replaced(self) -> None:
        self.step("replaced", acts=[BYE], state="LEAVING", request="QUIET")

    def wait(self, ms: int, **expected: Any) -> None:
        self.step("wait", ms=ms, **expected)

    # ---- the case ----

    def case(self, name: str, comment: str, *requirements: str, refusal: Refusal | None = None) -> Case:
        return Case(
            name=f"link/{name}",
            op="link",
            requirements=requirements,
            comment=comment,
            role="member",
            input=self.given | {"steps": self.steps},
            expected={"first": offer(self.main).hex(), "steps": self.expected},
            refusal=refusal,
        )

    def bad(self, name: str, comment: str, layer: FailLayer, by: str, base: str, change: str, *others: str) -> Case:
        """The case of a script in which the peer breaks a rule."""
        refusal = Refusal(layer=layer, by=by, base=f"link/{base}", change=change)
        return self.case(name, comment, *others, refusal=refusal)


# ---- every event in every state (7.8) ----------------------------------------

_STATES = ("AWAIT_OFFER", "EXCHANGED", "LEAVING", "ENDED")


def _reach(fixtures: Fixtures, state: str, own: str = "beta", peer: str = "alpha") -> Script:
    s = Script(fixtures, own, peer)
    if state != "AWAIT_OFFER":
        s.exchanged()
    if state == "LEAVING":
        s.stop()
    if state == "ENDED":
        s.session_ended()
    return s


def _table(fixtures: Fixtures, state: str) -> Iterator[Case]:
    slug = state.lower().replace("_", "-")
    speaks = state in {"AWAIT_OFFER", "EXCHANGED"}
    discarded = ("LK-20", "LK-51") if state == "LEAVING" else ("LK-51",)

    def name(event: str) -> str:
        return f"table/{slug}/{event}"

    s = _reach(fixtures, state)
    if speaks:
        s.receive(offer(s.main), state="EXCHANGED")
        yield s.case(name("offer"), f"An offer in {state}.", "LK-51", "LK-25")
    else:
        s.receive(offer(s.next))
        yield s.case(name("offer"), f"An offer in {state} is not looked at.", *discarded)
    s = _reach(fixtures, state)
    other = offer_of(1, UNSEEN)
    if speaks:
        s.receive(other, acts=[error("roster_conflict")], events=[conflict(1)], state="ENDED")
        comment = f"An offer of this epoch with another digest in {state}."
        yield s.case(name("conflict"), comment, "LK-31", "LK-51", "RO-45")
    else:
        s.receive(other)
        yield s.case(name("conflict"), f"A conflict in {state} is not acted on.", *discarded)
    s = _reach(fixtures, state)
    match state:
        case "AWAIT_OFFER":
            s.violated(REQUEST)
            change = "a request comes in the place of the offer"
            base = "table/await-offer/offer"
            yield s.bad(name("request"), "A request first.", FailLayer.LINK, "LK-26", base, change, "LK-51")
        case "EXCHANGED":
            s.receive(REQUEST, sent=transfer(s.main))
            yield s.case(name("request"), "A request is answered.", "LK-41", "LK-51")
        case _:
            s.receive(REQUEST)
            yield s.case(name("request"), f"A request in {state} is not answered.", *discarded)
    s = _reach(fixtures, state)
    if speaks:
        s.violated(message(9))
        change = "a message of type 9 comes"
        base = "table/await-offer/offer"
        comment = f"A message that nobody knows in {state}."
        yield s.bad(name("refused"), comment, FailLayer.LINK, "LK-21", base, change, "LK-51")
    else:
        s.receive(message(9))
        yield s.case(name("refused"), f"What would be refused is not looked at in {state}.", *discarded)

    s = _reach(fixtures, state)
    if speaks:
        s.adopt(s.next, "next", sent=offer(s.next))
        yield s.case(name("adopted"), f"A roster is adopted in {state}, and offered.", "LK-27", "LK-51", "RO-57")
    else:
        s.adopt(s.next, "next")
        yield s.case(name("adopted"), f"A roster is adopted in {state}, and not offered any more.", "LK-51")
    s = _reach(fixtures, state, "beta", "gamma")
    if state == "ENDED":
        s.adopt(s.next, "next")
        yield s.case(name("not-admitted"), "The link has ended already.", "LK-51")
    else:
        s.adopt(s.next, "next", acts=[error("not_authorized")], state="ENDED")
        comment = f"A roster is adopted in {state} that has not the peer any more."
        others = ("SE-41",) if state == "LEAVING" else ()
        yield s.case(name("not-admitted"), comment, "RO-55", "LK-51", *others)
    s = _reach(fixtures, state)
    if speaks:
        s.replaced()
        yield s.case(name("replaced"), f"A newer link takes the place of this one in {state}.", "LK-14", "LK-51")
    else:
        s.step("replaced")
        yield s.case(name("replaced"), f"A newer link, in {state}: nothing more is to be said here.", "LK-51")
    s = _reach(fixtures, state)
    if speaks:
        s.stop()
        yield s.case(name("stopping"), f"The node stops in {state}.", "SV-23", "LK-51")
    else:
        s.step("stop")
        yield s.case(name("stopping"), f"The node stops in {state}: nothing more is to be said here.", "LK-51")

    s = _reach(fixtures, state)
    match state:
        case "LEAVING":
            s.step("receive_bye", state="ENDED")
            yield s.case(name("bye"), "The peer's Bye behind own one: the end.", "LK-51", "SE-48")
        case "ENDED":
            s.step("receive_bye")
            yield s.case(name("bye"), "A Bye behind the end.", "LK-51")
        case _:
            s.bye()
            yield s.case(name("bye"), f"The peer's Bye in {state} is answered at once.", "LK-17", "LK-51")
    s = _reach(fixtures, state)
    s.session_ended()
    yield s.case(name("session-ended"), f"The session ends in {state}.", "LK-51")
    s = _reach(fixtures, state)
    if state == "LEAVING":
        s.wait(9875)
        s.wait(125, acts=[CLOSE], state="ENDED")
        yield s.case(name("time"), "The peer's Bye has not come for 10 seconds.", "LK-19", "LK-51")
    else:
        s.wait(3_600_000)
        yield s.case(name("time"), f"In {state} no clock of the link runs.", "LK-51")


# ---- messages (7.5) ----------------------------------------------------------


def _messages(fixtures: Fixtures) -> Iterator[Case]:
    for own, peer in (("alpha", "beta"), ("gamma", "alpha")):
        s = Script(fixtures, own, peer)
        s.exchanged()
        s.wait(60_000)
        comment = "Both sides have the same roster: one offer each, and nothing more."
        yield s.case(f"messages/offers/{s.side}", comment, "LK-25", "LK-33")

    s = Script(fixtures)
    whole = offer(s.main)
    for at in range(len(whole) - 1):
        s.receive(whole[at : at + 1])
    s.receive(whole[-1:], state="EXCHANGED")
    yield s.case("messages/byte-by-byte", "An offer, byte by byte.", "LK-25", "LK-21")
    s = Script(fixtures)
    both = offer(s.main) + REQUEST
    s.receive(both, sent=transfer(s.main), state="EXCHANGED")
    yield s.case("messages/two-at-once", "An offer and a request in one piece.", "LK-41", "LK-26")
    for cut in (1, 2, 3):
        s = Script(fixtures)
        s.receive(offer(s.main), REQUEST[:cut], state="EXCHANGED")
        s.receive(REQUEST[cut:], sent=transfer(s.main))
        comment = f"The request's header is cut behind {cut} byte{'s' if cut > 1 else ''}."
        yield s.case(f"messages/header-cut-at-{cut}", comment, "LK-41", "LK-21")
    s = Script(fixtures)
    s.asking()
    whole = transfer(s.next)
    *pieces, last = (whole[start : start + 1000] for start in range(0, len(whole), 1000))
    for piece in pieces:
        s.receive(piece)
    s.receive(last, sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    yield s.case("messages/transfer-in-pieces", "A transfer, cut every 1,000 bytes.", "LK-50", "LK-27")

    base = "messages/offers/initiator"
    for type_ in (0, 4, 255):
        for length in (0, 40):
            s = Script(fixtures)
            s.exchanged()
            s.violated(message(type_, length=length))
            change = f"a header has the type {type_}"
            comment = f"A header of type {type_} that announces {length} bytes, of which none has come."
            yield s.bad(f"messages/type-{type_}/{length}", comment, FailLayer.LINK, "LK-21", base, change)
    for what, header, change in [
        ("offer-of-0", message(1, length=0), "the offer has no body"),
        ("offer-of-39", message(1, length=39), "the offer has 39 bytes"),
        ("offer-of-41", message(1, length=41), "the offer has 41 bytes"),
        ("offer-of-most", message(1, length=0xFFFFFF), "the offer has 16,777,215 bytes"),
        ("request-of-1", message(2, length=1), "the request has a body of one byte"),
        ("request-of-40", message(2, length=40), "the request has a body of 40 bytes"),
    ]:
        s = Script(fixtures)
        s.exchanged()
        s.violated(header)
        comment = f"Refused at the header: {change}."
        yield s.bad(f"messages/length/{what}", comment, FailLayer.LINK, "LK-21", base, change)
    for what, length in (("0", 0), ("4194305", 4_194_305), ("most", 0xFFFFFF)):
        s = Script(fixtures)
        s.asking()
        s.violated(message(3, length=length))
        change = f"the transfer has {length:,} bytes"
        comment = f"Refused at the header: {change}."
        name = f"messages/length/transfer-of-{what}"
        yield s.bad(name, comment, FailLayer.LINK, "LK-21", "transfers/adopted", change)
    s = Script(fixtures)
    s.asking()
    s.receive(message(3, length=4_194_304))
    yield s.case("messages/length/transfer-of-4194304", "The longest transfer is due: its body is awaited.", "LK-21")
    s = Script(fixtures)
    s.receive(b"\x01")
    s.receive(b"\x00")
    s.receive(b"\x00")
    s.violated(b"\x29")
    change = "the offer has 41 bytes"
    comment = "Refused at the header's last byte."
    yield s.bad("messages/length/in-pieces", comment, FailLayer.LINK, "LK-21", "messages/byte-by-byte", change)

    s = Script(fixtures)
    s.violated(offer_of(0, UNSEEN))
    yield s.bad("messages/offer-of-epoch-0", "An offer that does not decode.", FailLayer.LINK, "LK-22", base,
                "the epoch is 0")  # fmt: skip
    s = Script(fixtures)
    s.violated(transfer(s.main)[:4])
    change = "a transfer comes in the place of the offer"
    comment = "A transfer first: refused at its header."
    yield s.bad("messages/transfer-first", comment, FailLayer.LINK, "LK-26", base, change)
    s = Script(fixtures)
    s.receive(offer(s.main), REQUEST, sent=transfer(s.main), state="EXCHANGED")
    s.violated(REQUEST, message(7), sent=transfer(s.main))
    change = "a message of type 7 comes behind the request"
    comment = "What is good before a violation is still done."
    yield s.bad("messages/behind-good-ones", comment, FailLayer.LINK, "LK-21", "messages/two-at-once", change)
    s = Script(fixtures)
    s.exchanged()
    s.violated(message(7))
    s.receive(offer(s.next), REQUEST)
    s.wait(60_000)
    comment = "After a violation nothing is read and nothing is sent."
    yield s.bad("messages/then-nothing", comment, FailLayer.LINK, "LK-21", base, "a message of type 7 comes", "LK-51")


# ---- offers and conflicts (7.6) ----------------------------------------------


def _offers(fixtures: Fixtures) -> Iterator[Case]:
    s = Script(fixtures)
    s.adopt(s.next, "next", sent=offer(s.next))
    s.receive(offer(s.main), state="EXCHANGED")
    s.receive(REQUEST, sent=transfer(s.next))
    comment = "The peer has a lower epoch. What it asks for is the roster in force now."
    yield s.case("offers/lower", comment, "LK-27", "LK-41", "LK-33")
    s = Script(fixtures)
    s.asking()
    s.receive(offer(s.listed))
    comment = "A higher offer while a request is active: no second request."
    yield s.case("offers/higher-while-asking", comment, "LK-32", "LK-29")
    s = Script(fixtures)
    s.asking(offer_of((1 << 64) - 1, UNSEEN))
    s.adopt(s.next, "next", sent=offer(s.next))
    comment = "An offer proves nothing: the highest epoch of all does not keep the node from adopting epoch 2."
    yield s.case("offers/highest-of-all", comment, "LK-30", "LK-27", "LK-33")
    s = Script(fixtures)
    s.asking(offer_of(9, UNSEEN))
    s.receive(offer(s.main))
    s.wait(15_000, request="QUIET")
    s.wait(60_000)
    comment = "The later offer counts, though it is lower: after the time-out there is nobody to be asked."
    yield s.case("offers/lower-again", comment, "LK-29", "LK-36")
    s = Script(fixtures)
    s.exchanged()
    s.receive(offer(s.next), offer(s.listed), sent=REQUEST, request="ASKING")
    comment = "Two offers in one piece."
    yield s.case("offers/two-at-once", comment, "LK-32", "LK-33")
    s = Script(fixtures, highest=3)
    s.receive(offer_of(3, UNSEEN), state="EXCHANGED")
    s.receive(offer_of(4, UNSEEN), sent=REQUEST, request="ASKING")
    comment = "After an override the floor is above the roster in force: epoch 3 is not asked for, and no conflict."
    yield s.case("offers/floor-of-an-override", comment, "LK-33", "LK-31")

    s = Script(fixtures)
    s.asking(offer_of(2, UNSEEN))
    s.adopt(s.next, "next", acts=[error("roster_conflict")], events=[conflict(2)], state="ENDED", request="QUIET")
    comment = "The adopted roster conflicts with the peer's last offer: the Error takes the place of the offer."
    yield s.case("offers/conflict-by-adoption", comment, "LK-31", "RO-45")
    s = Script(fixtures)
    s.asking(offer_of(2, UNSEEN))
    s.receive(offer(s.main))
    s.adopt(s.next, "next", sent=offer(s.next))
    comment = "What was offered before the last offer is no conflict."
    yield s.case("offers/no-conflict-with-an-earlier-one", comment, "LK-29", "LK-31")
    s = Script(fixtures)
    s.receive(offer_of(1, UNSEEN), REQUEST, offer(s.next), acts=[error("roster_conflict")], events=[conflict(1)],
              state="ENDED")  # fmt: skip
    s.wait(60_000)
    comment = "Behind a conflict nothing is read."
    yield s.case("offers/behind-a-conflict", comment, "LK-31", "LK-51")
    s = Script(fixtures)
    s.exchanged()
    s.receive(offer(s.main))
    s.receive(offer(s.main))
    yield s.case("offers/the-same-again", "An offer may be said again.", "LK-29", "LK-51")


# ---- requests (7.7) ----------------------------------------------------------


def _requests(fixtures: Fixtures) -> Iterator[Case]:
    s = Script(fixtures)
    s.asking()
    s.wait(14_875)
    s.wait(125, sent=REQUEST)
    s.wait(30_000, sent=REQUEST + REQUEST)
    comment = "Nothing comes for 15 seconds: the request has failed, and the only candidate is asked again."
    yield s.case("requests/no-byte", comment, "LK-36", "LK-61", "LK-33", "LK-35")
    s = Script(fixtures)
    s.asking()
    whole = transfer(s.next)
    s.wait(10_000)
    s.receive(whole[:3])
    s.wait(4_875)
    s.wait(125, sent=REQUEST)
    comment = "A transfer begins with its whole header: three bytes of it are none of its bytes."
    yield s.case("requests/part-of-a-header", comment, "LK-36")
    s = Script(fixtures)
    s.asking()
    s.wait(10_000)
    s.receive(whole[:4])
    s.wait(14_875)
    s.wait(125, sent=REQUEST)
    yield s.case("requests/header", "With its header's last byte the time begins anew.", "LK-36")
    s = Script(fixtures)
    s.asking()
    s.wait(14_875)
    s.receive(whole[:10])
    s.wait(14_875)
    s.receive(whole[10:11])
    s.wait(14_875)
    s.receive(whole[11:], sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    s.wait(60_000)
    yield s.case("requests/bytes-in-time", "Each byte comes at the last moment.", "LK-36", "LK-50")
    s = Script(fixtures)
    s.asking()
    for i in range(11):
        s.wait(10_000)
        s.receive(whole[4 * i : 4 * i + 4])
    s.wait(9_875)
    s.wait(125, sent=REQUEST)
    comment = "The transfer goes on and on: after 120 seconds the request has failed all the same."
    yield s.case("requests/120-seconds", comment, "LK-37", "LK-61")
    s = Script(fixtures)
    s.asking()
    s.wait(15_000, sent=REQUEST)
    s.receive(whole, sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    comment = "The answer comes after its time, and is taken for that of the second request."
    yield s.case("requests/late-answer", comment, "LK-63", "LK-50")
    s = Script(fixtures)
    s.asking()
    s.receive(whole[:1000])
    s.wait(15_000, sent=REQUEST)
    s.receive(whole[1000:], sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    s.asking(offer(s.listed))
    comment = "The rest of a transfer comes after its time; the next roster may be asked for at once."
    yield s.case("requests/late-rest", comment, "LK-63", "LK-50")
    s = Script(fixtures)
    s.asking()
    s.receive(offer(s.main))
    s.wait(2_000)
    s.receive(transfer(s.main), events=[DROPPED], request="QUIET")
    s.receive(offer(s.next))
    s.wait(12_875)
    s.wait(125, sent=REQUEST, request="ASKING")
    comment = "The peer takes its offer back and sends an old roster: a failure, for which it waits out 15 seconds."
    yield s.case("requests/dropped", comment, "LK-39", "LK-49", "LK-61", "LK-48")
    s = Script(fixtures)
    s.asking()
    s.adopt(s.listed, "listed", sent=offer(s.listed))
    s.wait(1_000)
    s.receive(transfer(s.next), events=[DROPPED], request="QUIET")
    s.asking(offer_of(4, UNSEEN))
    comment = "The operator was faster. The transfer is dropped, which is no failure: the peer may be asked at once."
    yield s.case("requests/overtaken", comment, "LK-39", "LK-49", "LK-61")
    s = Script(fixtures)
    s.asking()
    s.stop()
    s.receive(transfer(s.next))
    comment = "With own Bye the request has failed, and its answer is not read."
    yield s.case("requests/own-bye", comment, "LK-38", "LK-20")
    s = Script(fixtures)
    s.asking()
    s.bye()
    yield s.case("requests/peers-bye", "With the peer's Bye the request has failed.", "LK-38", "LK-17")
    s = Script(fixtures)
    s.asking()
    s.session_ended()
    s.wait(60_000)
    yield s.case("requests/session-ended", "With its link the request has failed.", "LK-38")
    s = Script(fixtures)
    s.exchanged()
    s.receive(REQUEST, sent=transfer(s.main))
    s.receive(REQUEST, REQUEST, sent=transfer(s.main) + transfer(s.main))
    yield s.case("requests/of-the-peer", "Each of the peer's requests has its answer.", "LK-41", "LK-44")
    s = Script(fixtures)
    s.asking()
    s.receive(REQUEST, sent=transfer(s.main))
    comment = "Both ask each other: the requests have nothing to do with one another."
    yield s.case("requests/of-both", comment, "LK-41", "LK-32")


# ---- transfers (7.8) ---------------------------------------------------------


@attrs.frozen
class _Maker:
    """Rosters that have something wrong with them, signed anew."""

    fixtures: Fixtures
    next: Roster

    def signed(self, what: str, authority: str = "authority", **changes: Any) -> Roster:
        changed = attrs.evolve(self.next, **changes)
        return sign_roster(changed, self.fixtures.keys[authority], drawn(f"link/rosters/{what}", 32))

    def member_with(self, node: str, **changes: Any) -> tuple[Member, ...]:
        """The members, one card changed and signed anew."""
        members = []
        for member in self.next.members:
            if member.card.name == node:
                card = attrs.evolve(member.card, **changes)
                card = sign_card(card, self.fixtures.keys[f"{node}-sk"], drawn(f"link/cards/{node}", 32))
                members.append(attrs.evolve(member, card=card))
            else:
                members.append(member)
        return tuple(members)


def _offered(roster: Roster) -> bytes:
    """The offer of a roster that need not be valid."""
    return offer_of(roster.epoch, forge.h("roster-digest", encode_before(roster, "signature")))


def _transfers(fixtures: Fixtures) -> Iterator[Case]:
    for own, peer in (("alpha", "beta"), ("beta", "alpha")):
        s = Script(fixtures, own, peer)
        s.asking()
        s.receive(transfer(s.next), sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
        s.wait(60_000)
        name = "transfers/adopted" if own == "alpha" else "transfers/adopted-by-the-responder"
        comment = "A newer roster is offered, asked for, sent and adopted; and offered in turn."
        yield s.case(name, comment, "LK-33", "LK-50", "LK-27", "RO-33")
    s = Script(fixtures)
    s.asking()
    s.receive(transfer(s.listed), sent=offer(s.listed), events=[adopted(s.listed)], request="QUIET")
    comment = "The roster is newer than the one that was offered."
    yield s.case("transfers/newer-than-offered", comment, "LK-48", "LK-50")
    s = Script(fixtures)
    s.asking()
    s.receive(transfer(s.next), offer(s.listed), sent=offer(s.next) + REQUEST, events=[adopted(s.next)])
    s.receive(transfer(s.listed), sent=offer(s.listed), events=[adopted(s.listed)], request="QUIET")
    comment = "Two rosters, one after the other; the second offer comes with the first transfer."
    yield s.case("transfers/two", comment, "LK-33", "LK-50", "LK-47")
    s = Script(fixtures, "beta", "gamma")
    s.asking()
    s.receive(transfer(s.next), acts=[error("not_authorized")], events=[adopted(s.next)], state="ENDED",
              request="QUIET")  # fmt: skip
    comment = "The peer sends the roster in which it is missing itself: adopted, and the link ends."
    yield s.case("transfers/without-the-peer", comment, "LK-50", "LK-52", "RO-55")
    for own, peer, code in (("gamma", "beta", "not_authorized"), ("gamma", "alpha", "shutting_down")):
        s = Script(fixtures, own, peer)
        s.asking()
        s.receive(transfer(s.next), acts=[error(code)], events=[adopted(s.next)], state="ENDED", request="QUIET")
        comment = "The node adopts the roster in which it is missing itself. The link that "
        comment += "it dialled is not admitted." if own + peer == "gammabeta" else "the peer dialled would be admitted."
        by = "RO-55" if code == "not_authorized" else "LK-56"
        yield s.case(f"transfers/own-removal/{s.side}", comment, by, "LK-50", "RO-58")
    s = Script(fixtures)
    s.asking()
    s.receive(offer(s.main), transfer(s.main), events=[DROPPED], request="QUIET")
    s.receive(REQUEST, sent=transfer(s.main))
    comment = "Check 3: not above the floor. The link goes on."
    yield s.case("transfers/dropped", comment, "LK-48", "LK-49", "RO-34")

    link = FailLayer.LINK
    s = Script(fixtures)
    s.exchanged()
    s.violated(transfer(s.next)[:4])
    change = "nothing was asked for"
    comment = "A transfer without a request: refused at its header."
    yield s.bad("transfers/unasked", comment, link, "LK-47", "transfers/adopted", change)
    s = Script(fixtures)
    s.asking()
    s.receive(transfer(s.next), sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    s.violated(transfer(s.listed)[:4])
    change = "a second one comes"
    comment = "One request, two transfers."
    yield s.bad("transfers/second-unasked", comment, link, "LK-47", "transfers/adopted", change)
    s = Script(fixtures)
    s.asking()
    s.receive(offer(s.main), transfer(s.main), events=[DROPPED], request="QUIET")
    s.violated(transfer(s.main)[:4])
    change = "a second one comes"
    comment = "A transfer that was dropped counts too."
    yield s.bad("transfers/second-behind-a-dropped", comment, link, "LK-47", "transfers/dropped", change)


def _refused_transfers(fixtures: Fixtures) -> Iterator[Case]:
    main, following = fixtures.rosters["main"], fixtures.rosters["next"]
    maker = _Maker(fixtures, following.roster)
    decode, signature, membership = FailLayer.DECODE, FailLayer.SIGNATURE, FailLayer.MEMBERSHIP

    def bad(what: str, layer: FailLayer, by: str, body: bytes, change: str, offered: bytes | None = None) -> Case:
        s = Script(fixtures)
        s.asking(offered)
        s.violated(message(3, body))
        check = what.split("/")[0].removeprefix("check-")
        comment = f"Check {check}: {change}."
        return s.bad(f"transfers/{what}", comment, layer, by, "transfers/adopted", change, "LK-48")

    good = encode(following.roster)
    yield bad("check-1/one-byte", decode, "RO-9", b"\x00", "the body is one byte")
    yield bad("check-1/cut", decode, "RO-9", good[:-1], "the last byte is missing")
    yield bad("check-1/byte-behind", decode, "RO-9", good + b"\x00", "a byte stands behind the roster")
    yield bad("check-1/epoch-0", decode, "RO-9", _with_epoch_0(following.roster), "the epoch is 0")
    change = "its epoch is below that of the offer"
    yield bad("check-2/lower-epoch", FailLayer.LINK, "LK-48", encode(main.roster), change)
    change = "its digest is not that of the offer"
    yield bad("check-2/other-digest", FailLayer.LINK, "LK-48", good, change, offer_of(2, UNSEEN))
    other = fixtures.rosters["other-cluster"].roster
    low = sign_roster(attrs.evolve(other, epoch=2), fixtures.keys["other-authority"], drawn("link/rosters/low", 32))
    change = "it is of another cluster, and not the one offered: check 2 comes first"
    yield bad("check-2/of-another-cluster", FailLayer.LINK, "LK-48", encode(low), change)
    change = "it is of another cluster"
    yield bad("check-4/authority", membership, "RO-11", encode(low), change, _offered(low))
    high = sign_roster(attrs.evolve(other, epoch=9), fixtures.keys["authority"], drawn("link/rosters/high", 32))
    change = "it names another authority; it is signed by ours: check 4 comes first"
    yield bad("check-4/signed-by-ours", membership, "RO-11", encode(high), change, _offered(high))
    yield bad("check-5/signature", signature, "RO-12", turned(good, -1), "one bit of the signature is turned")
    stranger = maker.signed("stranger", "other-authority")
    yield bad("check-5/stranger", signature, "RO-12", encode(stranger), "another authority has signed it")
    spoilt = attrs.evolve(following.roster, name="renamed")
    change = "its name was changed after it was signed; it is offered as it is"
    yield bad("check-5/changed", signature, "RO-12", encode(spoilt), change, _offered(spoilt))
    bad_ones: list[tuple[str, FailLayer, str, dict[str, Any], str]] = [
        ("ports", decode, "RO-13", {"client_port": 7771}, "both ports are 7771"),
        ("order", decode, "RO-18", {"members": following.roster.members[::-1]}, "the members stand in reverse order"),
        ("name", decode, "RO-21", {"members": maker.member_with("beta", name="alpha")}, "two members are called alpha"),
        ("card", signature, "RO-22", {"members": _with_bad_card(following.roster)}, "a bit of a card is turned"),
        ("knock", membership, "RO-35", {"knock": bytes(32)}, "the knock is another"),
        ("cluster-port", membership, "RO-35", {"cluster_port": 7773}, "the cluster port is another"),
        ("id-size", membership, "RO-35", _short(fixtures), "the NodeIDs have 20 bytes"),
    ]
    for what, layer, by, changes, change in bad_ones:
        roster = maker.signed(what, **changes)
        change = f"{change}; the authority has signed it, and it is offered"
        yield bad(f"check-6/{what}", layer, by, encode(roster), change, _offered(roster))

    s = Script(fixtures, highest=5)
    s.asking(offer_of(7, UNSEEN))
    s.receive(_offered(low), message(3, encode(low)), events=[DROPPED], request="QUIET")
    s.receive(REQUEST, sent=transfer(s.main))
    comment = "Check 3 comes before check 4: a roster of another cluster that is not above the floor is dropped."
    yield s.case("transfers/check-3/of-another-cluster", comment, "LK-48", "LK-49")
    s = Script(fixtures, highest=5)
    s.asking(offer_of(7, UNSEEN))
    s.receive(offer(s.next), message(3, turned(good, -1)), events=[DROPPED], request="QUIET")
    comment = "Check 3 comes before check 5: a bad signature on what is not above the floor is not looked at."
    yield s.case("transfers/check-3/bad-signature", comment, "LK-48", "LK-49")
    s = Script(fixtures, highest=5)
    s.asking(offer_of(7, UNSEEN))
    s.receive(offer(s.next), transfer(s.next), events=[DROPPED], request="QUIET")
    comment = "Above the roster in force is not enough: the floor of an override is higher."
    yield s.case("transfers/check-3/floor-of-an-override", comment, "LK-48", "LK-49", "RO-34")
    s = Script(fixtures, highest=5)
    s.asking(offer_of(7, UNSEEN))
    s.receive(offer_of(5, UNSEEN))
    roster = maker.signed("epoch 6", epoch=6)
    s.receive(message(3, encode(roster)), sent=_offered(roster), request="QUIET",
              events=[{"adopted": _offered(roster)[12:].hex()}])  # fmt: skip
    comment = "Above the floor of an override, and above the offer."
    yield s.case("transfers/above-an-override", comment, "LK-48", "LK-50")


def _with_epoch_0(roster: Roster) -> bytes:
    """The roster's bytes with an epoch that no roster has."""
    good = encode(roster)
    at = good.index(roster.epoch.to_bytes(8, "big"))
    return good[:at] + bytes(8) + good[at + 8 :]


def _with_bad_card(roster: Roster) -> tuple[Member, ...]:
    first, *others = roster.members
    card = attrs.evolve(first.card, signature=turned(first.card.signature, 100))
    return (attrs.evolve(first, card=card), *others)


def _short(fixtures: Fixtures) -> dict[str, Any]:
    """Members and clients with NodeIDs of 20 bytes."""
    cards: list[NodeCard] = [fixtures.nodes[f"short-{node}"].card.card for node in ("alpha", "beta")]
    hosts = {cards[0]: "192.0.2.1", cards[1]: "192.0.2.2"}
    return {"members": tuple(Member(card, hosts[card]) for card in in_order(cards)), "clients": ()}


# ---- adoption by hand, and the time that verifying takes ---------------------


def _adoptions(fixtures: Fixtures) -> Iterator[Case]:
    s = Script(fixtures)
    s.adopt(s.next, "next", sent=offer(s.next))
    s.adopt(s.listed, "listed", sent=offer(s.listed))
    s.receive(offer(s.main), state="EXCHANGED")
    comment = "Each roster that is adopted is offered, also before the peer has offered anything."
    yield s.case("adoption/twice", comment, "LK-27", "LK-51")
    s = Script(fixtures)
    s.asking(offer(s.listed))
    s.adopt(s.next, "next", sent=offer(s.next))
    s.receive(transfer(s.listed), sent=offer(s.listed), events=[adopted(s.listed)], request="QUIET")
    comment = "The operator's roster is lower than the one that was asked for: that is adopted, too."
    yield s.case("adoption/while-asking", comment, "LK-27", "LK-32", "LK-50")
    for own, peer, code in (("gamma", "beta", "not_authorized"), ("gamma", "alpha", "shutting_down")):
        for state in ("EXCHANGED", "LEAVING"):
            s = _reach(fixtures, state, own, peer)
            s.adopt(s.next, "next", acts=[error(code)], state="ENDED")
            comment = f"Own removal in {state}: "
            comment += "the link that this node dialled." if peer == "beta" else "a link that the peer dialled."
            by = "RO-55" if peer == "beta" else "LK-56"
            yield s.case(f"adoption/own-removal/{s.side}/{state.lower()}", comment, by, "RO-58")
    s = Script(fixtures)
    swapped = fixtures.rosters["swapped"]
    s.exchanged()
    s.adopt(swapped, "swapped", acts=[error("not_authorized")], state="ENDED")
    comment = "The node becomes a client: it is no member any more."
    yield s.case("adoption/becomes-a-client", comment, "RO-55", "LK-55")
    s = Script(fixtures, "beta", "alpha")
    s.exchanged()
    s.adopt(swapped, "swapped", acts=[error("not_authorized")], state="ENDED")
    comment = "The peer becomes a client: it is no member any more."
    yield s.case("adoption/peer-becomes-a-client", comment, "RO-55")


def _verifications(fixtures: Fixtures) -> Iterator[Case]:
    def verifying(ms: int = 2_000) -> Script:
        s = Script(fixtures, "beta", "alpha", verification=ms)
        s.asking()
        s.receive(transfer(s.next))
        return s

    s = verifying()
    s.wait(1_875)
    s.wait(125, sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    yield s.case("verifying/adopted", "To verify takes two seconds.", "LK-50", "LK-27")
    s = verifying(150_000)
    s.wait(149_875)
    s.wait(125, sent=offer(s.next), events=[adopted(s.next)], request="QUIET")
    comment = "To verify takes longer than a request may: its transfer is complete, and it does not fail."
    yield s.case("verifying/longer-than-a-request", comment, "LK-36", "LK-37", "LK-50")
    s = verifying()
    s.stop()
    s.wait(2_000, events=[adopted(s.next)])
    s.wait(8_000, acts=[CLOSE], state="ENDED")
    comment = "The node says Bye meanwhile: what arrived whole before is adopted all the same."
    yield s.case("verifying/own-bye", comment, "LK-50", "LK-51", "LK-19")
    s = verifying()
    s.replaced()
    s.wait(2_000, events=[adopted(s.next)])
    comment = "A newer link takes the place of this one meanwhile."
    yield s.case("verifying/replaced", comment, "LK-50", "LK-51")
    s = verifying()
    s.session_ended()
    s.wait(2_000, events=[adopted(s.next)])
    yield s.case("verifying/session-ended", "The session ends meanwhile.", "LK-50", "LK-51", "RO-33")
    s = verifying()
    s.adopt(s.listed, "listed", sent=offer(s.listed))
    s.wait(2_000, events=[DROPPED], request="QUIET")
    comment = "The operator's roster is in force meanwhile, and is newer: check 3 is made once more."
    yield s.case("verifying/overtaken", comment, "LK-64", "LK-49", "LK-39")
    s = verifying()
    s.adopt(s.next, "next", sent=offer(s.next))
    s.wait(2_000, events=[DROPPED], request="QUIET")
    s.asking(offer(s.listed))
    comment = "The operator has brought the same roster meanwhile."
    yield s.case("verifying/overtaken-by-the-same", comment, "LK-64", "LK-49", "LK-39")


# ---- Bye (7.4) ---------------------------------------------------------------


def _byes(fixtures: Fixtures) -> Iterator[Case]:
    s = Script(fixtures)
    s.exchanged()
    s.receive(offer(s.next)[:20])
    s.bye()
    yield s.case("bye/within-an-offer", "The Bye cuts off an offer: that is discarded.", "LK-17", "LK-18")
    s = Script(fixtures)
    s.receive(offer(s.main)[:2])
    s.bye()
    yield s.case("bye/within-a-header", "The Bye cuts off a header.", "LK-17", "LK-18")
    s = Script(fixtures)
    s.asking()
    s.receive(transfer(s.next)[:1000])
    s.bye()
    yield s.case("bye/within-a-transfer", "The Bye cuts off a transfer.", "LK-17", "LK-18", "LK-38")
    s = Script(fixtures)
    s.exchanged()
    s.stop()
    s.receive(offer_of(1, UNSEEN), REQUEST, message(9), transfer(s.main)[:100])
    s.adopt(s.next, "next")
    s.wait(1_000)
    s.step("receive_bye", state="ENDED")
    comment = "After own Bye everything is discarded: conflicts, requests, violations."
    yield s.case("bye/then-discards", comment, "LK-20", "LK-51")
    s = Script(fixtures)
    s.receive(offer(s.main)[:10])
    s.stop()
    s.receive(offer(s.main)[10:])
    s.wait(9_875)
    s.step("receive_bye", state="ENDED")
    s.wait(60_000)
    comment = "The peer's Bye comes in the last moment of the ten seconds."
    yield s.case("bye/in-time", comment, "LK-19", "LK-20")
    s = Script(fixtures, "beta", "alpha")
    s.exchanged()
    s.replaced()
    s.step("stop")
    s.wait(5_000)
    s.step("replaced")
    s.wait(5_000, acts=[CLOSE], state="ENDED")
    s.step("receive_bye")
    comment = "The ten seconds are counted from the Bye, whatever comes later."
    yield s.case("bye/deadline", comment, "LK-19", "LK-14")
    s = Script(fixtures)
    s.stop()
    s.session_ended()
    s.wait(60_000)
    comment = "The connection ends behind own Bye: nothing more is closed."
    yield s.case("bye/then-session-ended", comment, "LK-51")
    s = Script(fixtures)
    s.exchanged()
    s.bye()
    s.receive(offer(s.next))
    s.adopt(s.next, "next")
    s.wait(60_000)
    yield s.case("bye/the-peers-then-nothing", "After both Byes the link is over.", "LK-17", "LK-51")


def cases(fixtures: Fixtures) -> Iterator[Case]:
    assert sorted(_ORDER, key=lambda node: NodeID.of(fixtures.nodes[node].card.card.sk, 32)) == list(_ORDER)
    for state in _STATES:
        yield from _table(fixtures, state)
    yield from _messages(fixtures)
    yield from _offers(fixtures)
    yield from _requests(fixtures)
    yield from _transfers(fixtures)
    yield from _refused_transfers(fixtures)
    yield from _adoptions(fixtures)
    yield from _verifications(fixtures)
    yield from _byes(fixtures)
