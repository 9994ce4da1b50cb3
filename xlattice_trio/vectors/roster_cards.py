"""Cluster cards: extracts of rosters, and cards that break one rule each. Spec 3.5."""

from collections.abc import Iterator

import attrs

from xlattice_trio.testing import forge
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.fixtures import (
    Fixtures,
    drawn,
)
from xlattice_trio.vectors.model import Case, FailLayer, Refusal
from xlattice_trio.vectors.roster_maker import Maker, one_bit, sorted_members
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.messages import ClientAccess, ClusterCard, Member

# ---- cases: cluster cards ----------------------------------------------------


def cluster_card_cases(maker: Maker) -> Iterator[Case]:
    fixtures = maker.fixtures
    for card_name in ("main", "next", "listed", "short-ids", "bits-3072", "bits-4096", "mixed", "other-cluster"):
        known = fixtures.cluster_cards[card_name]
        yield good_card(card_name, known.card, f"The cluster card of {card_name}.", known.cluster_id)
        key = fixtures.key_name_of(known.card.authority)
        salt = drawn(f"fixtures/cluster-cards/{card_name}", 32)
        yield Case(
            name=f"roster/cluster-card-of/{card_name}",
            op="cluster_card_of",
            requirements=("RO-25",),
            comment=f"What the authority makes of the roster {card_name} for clients.",
            role="authority",
            input={"roster": card_name, "key": key, "salt": salt.hex()},
            expected={"bytes": _extract(fixtures, card_name, salt).hex()},
        )
    yield good_card("unknown-cluster", maker.card, "The same as main, with nothing known of the cluster.")
    changed = maker.cluster_card("port-of-cluster", client_port=7771)
    yield good_card("any-port", changed, "There is no other port that this one could be equal to.")
    yield from _bad_cluster_cards(maker)


def _extract(fixtures: Fixtures, roster_name: str, salt: bytes) -> bytes:
    """The cluster card, cut out of the roster's bytes."""
    roster = fixtures.rosters[roster_name].roster

    def field(before: str, after: str) -> bytes:
        return encode_before(roster, after)[len(encode_before(roster, before)) :]

    content = encode_before(roster, "cluster_port") + field("client_port", "knock") + field("client_access", "clients")
    key = fixtures.keys[fixtures.key_name_of(roster.authority)]
    signature = deterministic.pss_sign_message(key, forge.label("cluster-card") + b"\0" + content, salt)
    return content + len(signature).to_bytes(2, "big") + signature


def good_card(what: str, card: ClusterCard, comment: str, cluster_id: bytes | None = None) -> Case:
    cards = [member.card for member in card.members]
    return Case(
        name=f"roster/cluster-card/{what}",
        op="cluster_card",
        requirements=("RO-1", "RO-26"),
        comment=comment,
        role="client",
        input={"bytes": encode(card).hex(), "cluster_id": cluster_id.hex() if cluster_id else None},
        expected={
            "cluster_id": forge.h("cluster-id", card.authority).hex(),
            "members": [forge.h("node-id", one.sk)[: one.id_size].hex() for one in cards],
        },
    )


def _bad_cluster_cards(maker: Maker) -> Iterator[Case]:
    main = maker.card
    whole, content = encode(main), encode_before(main, "signature")
    to_epoch = len(encode_before(main, "epoch"))

    def case(
        what: str, layer: FailLayer, also: str, encoded: bytes, change: str, cluster_id: bytes | None = None
    ) -> Case:
        return Case(
            name=f"roster/cluster-card/{what}",
            op="cluster_card",
            requirements=(also,),
            comment=f"Refused: {change}.",
            role="client",
            input={"bytes": encoded.hex(), "cluster_id": cluster_id.hex() if cluster_id else None},
            refusal=Refusal(layer=layer, by="RO-26", base="roster/cluster-card/main", change=change),
        )

    decode_, signature = FailLayer.DECODE, FailLayer.SIGNATURE
    yield case("cut", decode_, "NO-15", whole[:-1], "the last byte is missing")
    yield case("longer", decode_, "NO-16", whole + b"\0", "one byte more follows")
    zero = content[:to_epoch] + bytes(8) + content[to_epoch + 8 :]
    encoded = maker.signed_content("cluster-card", zero, "cluster-card/epoch-0")
    yield case("epoch-0", decode_, "NO-18", encoded, "the epoch is 0")
    yield case("roster", decode_, "NO-20", encode(maker.main), "it is a roster")
    card = maker.cluster_card("authority-longer", authority=main.authority + b"\0")
    yield case("authority-longer", decode_, "RO-10", encode(card), "the authority's key has one byte more")
    other = maker.fixtures.cluster_cards["other-cluster"].cluster_id
    change = "the ClusterID that is known is another"
    yield case("cluster-is-another", FailLayer.MEMBERSHIP, "RO-11", whole, change, other)

    def signed(key: str, label: str) -> bytes:
        message = forge.label(label) + b"\0" + content
        salt = drawn("roster/cluster-card/bad-signatures", 32)
        return encode(
            attrs.evolve(main, signature=deterministic.pss_sign_message(maker.fixtures.keys[key], message, salt))
        )

    for what, encoded, change in (
        ("signed-as-roster", signed("authority", "roster"), "it was signed under the label roster"),
        ("signed-by-another", signed("other-authority", "cluster-card"), "another authority signed it"),
        (
            "signature-bit",
            encode(attrs.evolve(main, signature=one_bit(main.signature))),
            "a bit of the signature is turned",
        ),
        ("changed-epoch", encode(attrs.evolve(main, epoch=2)), "epoch is another than was signed"),
        (
            "changed-client-access",
            encode(attrs.evolve(main, client_access=ClientAccess.LISTED)),
            "client_access is another than was signed",
        ),
        (
            "changed-members",
            encode(attrs.evolve(main, members=main.members[:2])),
            "a member that was signed is missing",
        ),
        (
            "signature-of-the-roster",
            encode(attrs.evolve(main, signature=maker.main.signature)),
            "it has the signature of the roster",
        ),
    ):
        yield case(what, signature, "RO-12", encoded, change)

    alpha, beta = (maker.fixtures.nodes[node].card.card for node in ("alpha", "beta"))
    broken = attrs.evolve(alpha, signature=one_bit(alpha.signature))
    twin = maker.node_card("alpha", "twin", name="alpha again", ck=maker.spki("outsider-ck"))
    short = maker.node_card("alpha", "20 bytes", id_size=20)
    same_name = maker.node_card("beta", "same name", name="alpha")
    same_ck = maker.node_card("alpha", "ck-twice", ck=beta.ck)
    bad_host = maker.member_with("alpha", host="192.0.2.01")
    same_host = maker.member_with("beta", host="192.0.2.1")
    twice = sorted_members([*main.members, Member(twin, "192.0.2.9")])
    for what, layer, also, members, change in (
        ("host", decode_, "RO-14", bad_host, "a host is 192.0.2.01"),
        ("hosts-equal", decode_, "RO-15", same_host, "two hosts are 192.0.2.1"),
        ("id-size", decode_, "RO-16", maker.member_with("alpha", short), "one NodeID has 20 bytes"),
        ("key-twice", decode_, "RO-17", maker.member_with("alpha", same_ck), "two members have one ck"),
        ("members-swapped", decode_, "RO-18", main.members[::-1], "the members stand in descending order"),
        ("node-id-twice", decode_, "RO-20", twice, "two members have one sk, and so one NodeID"),
        ("name-twice", decode_, "RO-21", maker.member_with("beta", same_name), "two members are called alpha"),
        ("card", signature, "RO-22", maker.member_with("alpha", broken), "a bit of the signature of a card is turned"),
    ):
        yield case(what, layer, also, encode(maker.cluster_card(what, members=members)), change)
