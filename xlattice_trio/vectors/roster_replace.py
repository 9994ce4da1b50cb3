"""Which roster and which cluster card replaces which, and whom a roster admits. Spec 3.5 to 3.9, 3.11."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from xlattice_trio.vectors.fixtures import (
    drawn,
    in_order,
    sign_cluster_card,
    sign_roster,
)
from xlattice_trio.vectors.model import Case, FailLayer, Json, Refusal
from xlattice_trio.vectors.roster_maker import Maker, digits, one_bit, sorted_members
from xlattice_trio.wire.codec import encode
from xlattice_trio.wire.messages import ClientAccess, ClusterCard, Member, Roster

# ---- cases: which replaces which ---------------------------------------------


@attrs.frozen
class _Story:
    """A vector of `replace`: what is in force, and then the steps."""

    what: str
    comment: str
    requirements: tuple[str, ...]
    in_force: Roster
    steps: Sequence[tuple[str, Roster | bytes]]
    verdicts: Sequence[tuple[str, int, int]]  # verdict, epoch in force, highest
    layer: FailLayer | None = None
    base: str = "higher-from-peer"
    change: str = ""

    def case(self) -> Case:
        refusal = None
        if self.layer is not None:
            base = f"roster/replace/{self.base}"
            refusal = Refusal(layer=self.layer, by=self.requirements[0], base=base, change=self.change)
        return Case(
            name=f"roster/replace/{self.what}",
            op="replace",
            requirements=self.requirements,
            comment=self.comment,
            role="member",
            input={
                "in_force": encode(self.in_force).hex(),
                "steps": [{"from": who, "roster": _encoded(roster).hex()} for who, roster in self.steps],
            },
            expected={"steps": _expected_steps(self.verdicts)},
            refusal=refusal,
        )


def _encoded(message: Roster | ClusterCard | bytes) -> bytes:
    return message if isinstance(message, bytes) else encode(message)


def _expected_steps(verdicts: Sequence[tuple[str, int, int]]) -> Json:
    return [
        {"verdict": verdict, "epoch": digits(in_force), "highest": digits(highest)}
        for verdict, in_force, highest in verdicts
    ]


def replace_cases(maker: Maker) -> Iterator[Case]:
    small = maker.small

    def at(number: int, what: str = "", **changes: Any) -> Roster:
        return maker.roster(f"replace/{number}/{what}", **small | {"epoch": number} | changes)

    one, two, three, four, five = map(at, range(1, 6))
    for story in (*_plain_stories(maker, at, one, two, three), *_override_stories(at, two, three, four, five)):
        yield story.case()
    for story in _refused_stories(maker, at, two, three):
        yield story.case()


_At = Callable[..., Roster]


def _plain_stories(maker: Maker, at: _At, one: Roster, two: Roster, three: Roster) -> Iterator[_Story]:
    for who in ("peer", "operator"):
        yield _Story(
            f"higher-from-{who}", f"A higher epoch, from {who}.", ("RO-33",), one, [(who, two)], [("adopted", 2, 2)]
        )
        yield _Story(f"same-from-{who}", "What is in force.", ("RO-34",), two, [(who, two)], [("kept", 2, 2)])
        yield _Story(f"lower-from-{who}", "A lower epoch.", ("RO-34",), two, [(who, one)], [("kept", 2, 2)])
    most = at((1 << 64) - 1)
    yield _Story(
        "far-higher",
        "Epochs may be left out.",
        ("RO-33",),
        one,
        [("peer", most)],
        [("adopted", most.epoch, most.epoch)],
    )
    beyond = at(1 << 32), at((1 << 32) + 1), at(1 << 63)
    yield _Story(
        "beyond-32-bits",
        "Epochs are compared as unsigned numbers of 64 bits.",
        ("RO-33", "NO-3"),
        beyond[0],
        [("peer", beyond[1]), ("peer", beyond[2]), ("peer", beyond[1])],
        [("adopted", e, e) for e in ((1 << 32) + 1, 1 << 63)] + [("kept", 1 << 63, 1 << 63)],
    )
    again = sign_roster(two, maker.fixtures.keys["authority"], drawn("roster/replace/signed anew", 32))
    yield _Story(
        "signed-anew",
        "What is in force, with another signature: the same roster.",
        ("RO-31", "RO-34"),
        two,
        [("peer", again), ("operator", again)],
        [("kept", 2, 2)] * 2,
    )
    yield _Story(
        "one-after-the-other",
        "Three higher ones, then the first of them again.",
        ("RO-33", "RO-34"),
        one,
        [("peer", two), ("peer", three), ("operator", at(7)), ("peer", two)],
        [("adopted", 2, 2), ("adopted", 3, 3), ("adopted", 7, 7), ("kept", 7, 7)],
    )
    main = maker.main
    for what, changes in (
        ("name", {"name": "another name"}),
        ("client-port", {"client_port": 7799}),
        ("client-access", {"client_access": ClientAccess.LISTED}),
        ("members", {"members": main.members[1:]}),
        ("clients", {"clients": main.clients[:1]}),
        ("host", {"members": maker.member_with("alpha", host="192.0.2.77")}),
        ("ck", {"members": maker.member_with("beta", maker.fixtures.nodes["beta-next"].card.card)}),
    ):
        changed = at(2, what, **changes)
        comment = f"What may change from roster to roster: {what.replace('-', '_')}."
        yield _Story(f"changed-{what}", comment, ("RO-33",), one, [("peer", changed)], [("adopted", 2, 2)])


def _override_stories(at: _At, two: Roster, three: Roster, four: Roster, five: Roster) -> Iterator[_Story]:
    yield _Story(
        "override",
        "The operator goes back: the highest epoch stays.",
        ("RO-42", "RO-43"),
        three,
        [("override", two)],
        [("adopted", 2, 3)],
        base="",
    )
    yield _Story(
        "override-holds",
        "What peers and operator offer up to the highest epoch is not adopted, what is above it is.",
        ("RO-43", "RO-34", "RO-33"),
        three,
        [("override", two), ("peer", three), ("operator", three), ("peer", at(1)), ("peer", four), ("peer", three)],
        [("adopted", 2, 3), ("kept", 2, 3), ("kept", 2, 3), ("kept", 2, 3), ("adopted", 4, 4), ("kept", 4, 4)],
    )
    yield _Story(
        "override-twice",
        "Back, further back, and forward to the highest epoch again.",
        ("RO-42", "RO-43"),
        three,
        [("override", two), ("override", at(1)), ("override", three), ("peer", four)],
        [("adopted", 2, 3), ("adopted", 1, 3), ("adopted", 3, 3), ("adopted", 4, 4)],
    )
    yield _Story(
        "override-same",
        "The override of what is in force changes nothing.",
        ("RO-42",),
        three,
        [("override", three)],
        [("kept", 3, 3)],
    )
    yield _Story(
        "override-other-of-the-highest",
        "Below the highest epoch, another roster of that epoch is no conflict: it is not that of the one in force.",
        ("RO-34", "RO-43"),
        three,
        [("override", two), ("peer", at(3, "other", name="other")), ("override", at(3, "other", name="other"))],
        [("adopted", 2, 3), ("kept", 2, 3), ("adopted", 3, 3)],
    )
    yield _Story(
        "override-then-higher",
        "A roster above the highest epoch ends the override.",
        ("RO-33", "RO-43"),
        four,
        [("override", two), ("peer", three), ("peer", five), ("operator", four)],
        [("adopted", 2, 4), ("kept", 2, 4), ("adopted", 5, 5), ("kept", 5, 5)],
    )


def _refused_stories(maker: Maker, at: _At, two: Roster, three: Roster) -> Iterator[_Story]:
    fixtures = maker.fixtures
    other_name = at(2, "other", name="other")
    other_knock = drawn("roster/another knock", 32)
    member, signature = FailLayer.MEMBERSHIP, FailLayer.SIGNATURE
    for who in ("peer", "operator", "override"):
        base = "override" if who == "override" else f"higher-from-{who}"
        yield _Story(
            f"conflict-from-{who}",
            "Another roster of the epoch in force: the one in force stays.",
            ("RO-45",),
            two,
            [(who, other_name)],
            [("conflict", 2, 2)],
            member,
            base,
            "it has the epoch of the one in force, and another name",
        )
        for what, changes in (("knock", {"knock": other_knock}), ("cluster-port", {"cluster_port": 7773})):
            number = 1 if who == "override" else 3
            changed = at(number, what, **changes)
            yield _Story(
                f"{what}-from-{who}",
                f"Another {what.replace('-', '_')}, which never changes.",
                ("RO-35",),
                two,
                [(who, changed)],
                [("refused", 2, 2)],
                member,
                base,
                f"{what.replace('-', '_')} is another",
            )
    yield _Story(
        "conflict-of-knock",
        "Another roster of the epoch in force whose knock is another too: a conflict all the same.",
        ("RO-67", "RO-45"),
        two,
        [("operator", at(2, "knock", knock=other_knock))],
        [("conflict", 2, 2)],
        member,
        "higher-from-operator",
        "it has the epoch of the one in force, and another knock",
    )
    yield _Story(
        "conflict-after-override",
        "After an override, another roster of the epoch that is now in force.",
        ("RO-45", "RO-43"),
        three,
        [("override", two), ("peer", other_name)],
        [("adopted", 2, 3), ("conflict", 2, 3)],
        member,
        "override-holds",
        "the second has the epoch of the one in force, and another name",
    )
    yield _Story(
        "conflict-then-higher",
        "A higher epoch ends a conflict; the last step is one again.",
        ("RO-45", "RO-33"),
        two,
        [("peer", other_name), ("peer", three), ("peer", at(3, "other", name="other"))],
        [("conflict", 2, 2), ("adopted", 3, 3), ("conflict", 3, 3)],
        member,
        "one-after-the-other",
        "the last has the epoch of the one in force, and another name",
    )
    short = _short_ids(maker)
    yield _Story(
        "id-size",
        "NodeIDs of another size, which never changes.",
        ("RO-35",),
        two,
        [("peer", at(3, "short", **short))],
        [("refused", 2, 2)],
        member,
        "higher-from-peer",
        "NodeIDs have 20 bytes",
    )
    foreign = attrs.evolve(fixtures.rosters["other-cluster"].roster, epoch=9)
    salt = drawn("roster/replace/foreign", 32)
    foreign = sign_roster(foreign, fixtures.keys["other-authority"], salt)
    same_epoch = sign_roster(attrs.evolve(foreign, epoch=2), fixtures.keys["other-authority"], salt)
    lower = sign_roster(attrs.evolve(foreign, epoch=1), fixtures.keys["other-authority"], salt)
    for what, who, roster, comment in (
        ("another-cluster", "peer", foreign, "A roster of another cluster, of a higher epoch."),
        (
            "another-cluster-same-epoch",
            "operator",
            same_epoch,
            "Of another cluster and the epoch in force: no conflict.",
        ),
        ("another-cluster-lower", "operator", lower, "Of another cluster and a lower epoch: refused, not kept."),
        ("another-cluster-override", "override", lower, "Of another cluster, by the override."),
    ):
        base = "override" if who == "override" else f"higher-from-{who}"
        yield _Story(
            what,
            comment,
            ("RO-11",),
            two,
            [(who, roster)],
            [("refused", 2, 2)],
            member,
            base,
            "another authority made it",
        )
    forged = attrs.evolve(three, signature=one_bit(three.signature))
    forged_one = at(1)
    forged_one = attrs.evolve(forged_one, signature=one_bit(forged_one.signature))
    swapped = at(3, "swapped", members=maker.small["members"][::-1])
    for what, who, encoded, layer, by, change in (
        ("forged", "peer", encode(forged), signature, "RO-12", "a bit of its signature is turned"),
        ("forged-override", "override", encode(forged_one), signature, "RO-12", "a bit of its signature is turned"),
        ("unsorted", "peer", encode(swapped), FailLayer.DECODE, "RO-18", "its members stand in descending order"),
        ("cut", "operator", encode(three)[:-1], FailLayer.DECODE, "RO-9", "its last byte is missing"),
    ):
        base = "override" if who == "override" else f"higher-from-{who}"
        comment = f"It does not verify: {change}."
        yield _Story(what, comment, (by, "RO-32"), two, [(who, encoded)], [("refused", 2, 2)], layer, base, change)
    yield _Story(
        "refused-leaves-no-trace",
        "A forged roster of a high epoch, then a real one of a lower one, then another forged one.",
        ("RO-12", "RO-40"),
        two,
        [("peer", _forged(at(9))), ("peer", three), ("peer", _forged(at(8)))],
        [("refused", 2, 2), ("adopted", 3, 3), ("refused", 3, 3)],
        signature,
        "one-after-the-other",
        "the first and the last are forged",
    )


def _forged(roster: Roster) -> Roster:
    return attrs.evolve(roster, signature=one_bit(roster.signature))


def _short_ids(maker: Maker) -> dict[str, Any]:
    """The two members with NodeIDs of 20 bytes."""
    nodes = {"alpha": "192.0.2.1", "beta": "2001:db8::2"}
    members = [Member(maker.node_card(node, "short", id_size=20), host) for node, host in nodes.items()]
    return {"members": sorted_members(members)}


# ---- cases: which cluster card replaces which --------------------------------


def replace_card_cases(maker: Maker) -> Iterator[Case]:
    members = maker.small["members"]

    def at(number: int, what: str = "", **changes: Any) -> ClusterCard:
        return maker.cluster_card(f"replace/{number}/{what}", epoch=number, members=members, **changes)

    def case(
        what: str,
        comment: str,
        requirements: tuple[str, ...],
        held: ClusterCard,
        steps: Sequence[tuple[str, ClusterCard | bytes]],
        verdicts: Sequence[tuple[str, int, int]],
        refusal: tuple[FailLayer, str, str] | None = None,
    ) -> Case:
        found = None
        if refusal is not None:
            layer, base, change = refusal
            base = f"roster/replace-card/{base}"
            found = Refusal(layer=layer, by=requirements[0], base=base, change=change)
        return Case(
            name=f"roster/replace-card/{what}",
            op="replace_card",
            requirements=requirements,
            comment=comment,
            role="client",
            input={
                "held": encode(held).hex(),
                "steps": [{"from": who, "cluster_card": _encoded(card).hex()} for who, card in steps],
            },
            expected={"steps": _expected_steps(verdicts)},
            refusal=found,
        )

    one, two, three, four = map(at, range(1, 5))
    again = sign_cluster_card(two, maker.fixtures.keys["authority"], drawn("roster/replace-card/again", 32))
    other = at(2, "other", name="other")
    access = at(2, "access", client_access=ClientAccess.LISTED)
    member, signature = FailLayer.MEMBERSHIP, FailLayer.SIGNATURE
    yield case("higher", "A higher epoch.", ("RO-28",), one, [("user", two)], [("taken", 2, 2)])
    yield case("same", "The one that is held.", ("RO-30",), two, [("user", two)], [("kept", 2, 2)])
    comment = "The one that is held, with another signature."
    yield case("signed-anew", comment, ("RO-30",), two, [("user", again)], [("kept", 2, 2)])
    comment = "Explicitly back: the highest epoch stays."
    yield case("override", comment, ("RO-29", "RO-63"), two, [("override", one)], [("taken", 1, 2)])
    yield case(
        "override-and-higher",
        "Back, then one above the highest epoch.",
        ("RO-63", "RO-64"),
        two,
        [("override", one), ("user", one), ("user", three), ("user", three)],
        [("taken", 1, 2), ("kept", 1, 2), ("taken", 3, 3), ("kept", 3, 3)],
    )
    yield case(
        "override-and-back",
        "Back, and forward by another override.",
        ("RO-63", "RO-64"),
        two,
        [("override", one), ("override", two), ("user", four)],
        [("taken", 1, 2), ("taken", 2, 2), ("taken", 4, 4)],
    )
    comment = "An override that none was needed for: the card is taken as it would be without."
    steps = [("override", three), ("user", three)]
    yield case("override-higher", comment, ("RO-28", "RO-63"), two, steps, [("taken", 3, 3), ("kept", 3, 3)])

    for what, step, change, requirements in (
        ("lower", ("user", one), "its epoch is lower", ("RO-29",)),
        ("other-of-the-epoch", ("user", other), "it has the epoch of the one held, and another name", ("RO-30",)),
        ("other-access", ("user", access), "it has the epoch of the one held, and another client_access", ("RO-30",)),
        ("other-by-override", ("override", other), "it has the epoch of the one held, and another name", ("RO-30",)),
    ):
        base = "override" if step[0] == "override" else "higher"
        comment = f"Refused: {change}."
        yield case(what, comment, requirements, two, [step], [("refused", 2, 2)], (member, base, change))
    yield case(
        "after-override",
        "After an override, what is not above the highest epoch is refused: also the one that was held before.",
        ("RO-64", "RO-63"),
        three,
        [("override", one), ("user", two), ("user", three)],
        [("taken", 1, 3), ("refused", 1, 3), ("refused", 1, 3)],
        (member, "override-and-higher", "the last has the highest epoch, and is not above it"),
    )
    foreign = maker.fixtures.cluster_cards["other-cluster"].card
    key = maker.fixtures.keys["other-authority"]
    foreign = sign_cluster_card(attrs.evolve(foreign, epoch=9), key, drawn("roster/replace-card/foreign", 32))
    for who in ("user", "override"):
        base = "override" if who == "override" else "higher"
        comment = "A card of another cluster is none for this one."
        change = "it is of another cluster"
        refusal = (member, base, change)
        yield case(f"foreign-by-{who}", comment, ("RO-27",), two, [(who, foreign)], [("refused", 2, 2)], refusal)
    forged = attrs.evolve(three, signature=one_bit(three.signature))
    refusal = (signature, "higher", "a bit of its signature is turned")
    yield case("forged", "It does not verify.", ("RO-26",), two, [("user", forged)], [("refused", 2, 2)], refusal)
    refusal = (FailLayer.DECODE, "higher", "its last byte is missing")
    cut = encode(three)[:-1]
    yield case("cut", "It does not decode.", ("RO-26",), two, [("user", cut)], [("refused", 2, 2)], refusal)


# ---- cases: whom a roster admits ---------------------------------------------


def admits_cases(maker: Maker) -> Iterator[Case]:
    fixtures = maker.fixtures
    rosters = {roster: fixtures.rosters[roster].roster for roster in ("main", "next", "listed", "other-cluster")}
    main = maker.main
    alpha = fixtures.nodes["alpha"].card.card
    as_client = attrs.evolve(main, members=main.members[1:], clients=in_order([*main.clients, main.members[0].card]))
    rosters["first-as-client"] = maker.roster(
        "first-as-client", **{field: getattr(as_client, field) for field in ("members", "clients")}
    )
    renamed = maker.node_card("alpha", "renamed", name="renamed", serial=5)
    rosters["renamed"] = maker.roster("renamed", members=maker.member_with("alpha", renamed, "192.0.2.99"))
    first = next(node for node in ("alpha", "beta", "gamma") if fixtures.nodes[node].card.card == main.members[0].card)
    other = next(node for node in ("alpha", "beta") if node != first)
    for what, roster, at, role, initiator, recipient, admitted, comment in (
        ("member", "main", "R", "member", "alpha", "beta", True, "A member."),
        ("member-removed", "next", "R", "member", "gamma", "beta", False, "A member that is out."),
        (
            "member-renamed",
            "renamed",
            "R",
            "member",
            "alpha",
            "beta",
            True,
            "Another name, host and serial, the same sk.",
        ),
        ("member-new-ck", "next", "R", "member", "beta", "alpha", True, "Another ck, the same sk."),
        (
            "member-is-client",
            "first-as-client",
            "R",
            "member",
            first,
            other,
            False,
            "Who came as member is now client.",
        ),
        ("client", "main", "R", "client", "carol", "beta", True, "A client."),
        ("client-listed", "listed", "R", "client", "carol", "beta", True, "A client, where others are not admitted."),
        ("client-removed", "next", "R", "client", "dave", "beta", False, "A client that is out."),
        ("client-is-member", "main", "R", "client", "alpha", "beta", False, "A member is no client."),
        ("client-unknown", "main", "R", "client", "outsider", "beta", False, "Who never was in."),
        ("client-as-member", "main", "R", "member", "carol", "beta", False, "A client is no member."),
        ("anonymous", "main", "R", "anonymous", None, "beta", True, "client_access is anyone."),
        ("anonymous-listed", "listed", "R", "anonymous", None, "beta", False, "client_access is listed."),
        ("dialler", "main", "I", "member", "alpha", "beta", True, "At I: both are in."),
        ("dialler-peer-removed", "next", "I", "member", "alpha", "gamma", False, "At I: R is out."),
        ("dialler-removed", "next", "I", "member", "gamma", "alpha", False, "At I: I is out."),
        ("dialler-peer-is-client", "first-as-client", "I", "member", other, first, False, "At I: R is now client."),
        ("dialler-new-ck", "next", "I", "member", "alpha", "beta", True, "At I: R has another ck."),
    ):
        card = None if initiator is None else fixtures.nodes[initiator].card.card
        yield Case(
            name=f"roster/admits/{what}",
            op="admits",
            requirements=("RO-55", "RO-56") if not admitted else ("RO-57",),
            comment=comment,
            role="member",
            input={
                "roster": encode(rosters[roster]).hex(),
                "at": at,
                "role": role,
                "initiator": None if card is None else encode(card).hex(),
                "recipient": str(fixtures.nodes[recipient].node_id),
            },
            expected={"admits": admitted},
        )
    assert alpha in [member.card for member in main.members]
