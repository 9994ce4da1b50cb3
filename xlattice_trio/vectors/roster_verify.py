"""Rosters that are valid, and rosters that break one rule each. Spec 3.1 to 3.4."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from xlattice_trio.crypto import rsa_modulus
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.testing import forge
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.fixtures import (
    drawn,
    in_order,
    sign_card,
)
from xlattice_trio.vectors.model import Case, FailLayer
from xlattice_trio.vectors.roster_maker import Maker, bad_roster, good_roster, one_bit, sorted_members
from xlattice_trio.wire.codec import encode, encode_before
from xlattice_trio.wire.messages import ClientAccess, Member, NodeCard, Roster

# ---- cases: valid rosters ----------------------------------------------------


def valid_rosters(maker: Maker) -> Iterator[Case]:
    main = maker.main
    for roster_name, comment in (
        ("main", "Three members with hosts of each kind, two clients; the ClusterID is known."),
        ("next", "A member less, another ck, a client less."),
        ("listed", "Anonymous initiators are not admitted."),
        ("short-ids", "NodeIDs of 20 bytes."),
        ("bits-3072", "All keys of 3072 bits, the authority's too."),
        ("bits-4096", "All keys of 4096 bits, the authority's too."),
        ("mixed", "Keys of all sizes side by side."),
        ("other-cluster", "No clients."),
    ):
        known = maker.fixtures.rosters[roster_name]
        yield good_roster(roster_name, known.roster, comment, "RO-1", "RO-11", "RO-31", cluster_id=known.cluster_id)
    yield good_roster("unknown-cluster", main, "main, with nothing known of the cluster: a node's first roster.")
    yield good_roster("signed-anew", maker.roster("signed-anew"), "Signed once more: the digest is that of main.")
    fixtures = maker.fixtures
    alpha, beta = fixtures.nodes["alpha"].card.card, fixtures.nodes["beta"].card.card
    weak = alpha.ck[:33] + ((1 << 2047) + 1).to_bytes(256, "big") + alpha.ck[-5:]
    e_acute, e_decomposed = "\u00e9", "e\u0301"
    for what, changes, comment, requirements in (
        ("epoch-most", {"epoch": (1 << 64) - 1}, "The greatest epoch.", ["RO-31"]),
        ("ports-ends", {"cluster_port": 65535, "client_port": 1}, "The greatest and the least port.", ["RO-13"]),
        ("name-of-a-node", {"name": "alpha"}, "The cluster has the name of a node.", ["RO-21"]),
        ("name-64", {"name": "\u20ac" * 21 + "x"}, "A name of 64 bytes.", ["RO-9"]),
        ("zero-knock", {"knock": bytes(32)}, "A knock of zeros: bad luck is no reason to refuse.", ["RO-31"]),
        ("no-clients", {"clients": ()}, "No clients.", ["RO-19"]),
        ("one-member", {"members": maker.main.members[:1]}, "One member.", ["RO-18"]),
        (
            "names-differ-in-case",
            {"members": maker.member_with("beta", maker.node_card("beta", "case", name="Alpha"))},
            "Two names that differ in case: they are different.",
            ["RO-21", "NO-14"],
        ),
        (
            "names-differ-in-form",
            {
                "members": maker.member_with("beta", maker.node_card("beta", "nfc", name=e_acute)),
                "clients": maker.client_with("carol", maker.node_card("carol", "nfd", name=e_decomposed)),
            },
            "Two names that look the same, composed and decomposed: they are different.",
            ["RO-21", "NO-14"],
        ),
        (
            "names-differ-in-space",
            {"members": maker.member_with("beta", maker.node_card("beta", "space", name="alpha "))},
            "Two names of which one has a space at its end: they are different.",
            ["RO-21", "NO-14"],
        ),
        (
            "weak-ck",
            {"members": maker.member_with("alpha", maker.node_card("alpha", "weak", ck=weak))},
            "A ck that is no good key: no verifier looks.",
            ["ID-10"],
        ),
        (
            "hosts-in-any-order",
            {"members": tuple(attrs.evolve(m, host=f"192.0.2.{9 - i}") for i, m in enumerate(main.members))},
            "Hosts need not be in order.",
            ["RO-14"],
        ),
        (
            "hosts-of-one-address",
            {"members": maker.member_with("alpha", host="::ffff:0:102:304")},
            "A host that only looks like an IPv4-mapped one.",
            ["RO-14", "RO-8"],
        ),
        (
            "hosts-differ",
            {
                "members": tuple(
                    attrs.evolve(m, host=h) for m, h in zip(main.members, ("a.x", "a.xx", "aa.x"), strict=True)
                )
            },
            "Hosts of which one begins as another does.",
            ["RO-15"],
        ),
    ):
        yield good_roster(what, maker.roster(what, **changes), comment, *requirements)
    many = in_order(_cards_of_others(12))
    assert alpha not in many
    assert beta not in many
    members = tuple(Member(card, f"node{i}.example") for i, card in enumerate(many[:8]))
    ids = [NodeID.of(card.sk, card.id_size) for card in many[:8]]
    assert ids == sorted(ids)
    roster = maker.roster("many", members=members, clients=many[8:])
    yield good_roster("many", roster, "Eight members, four clients.", "RO-18", "RO-19")


def _cards_of_others(count: int) -> list[NodeCard]:
    """Cards of nodes that are in no fixture."""
    cards = []
    for i in range(count):
        node = test_identity(200 + i)
        card = attrs.evolve(node.card.card, name=f"node {i}")
        cards.append(sign_card(card, node.sk_priv, drawn(f"roster/others/{i}", 32)))
    return cards


# ---- cases: rosters to be refused --------------------------------------------


def invalid_rosters(maker: Maker) -> Iterator[Case]:
    yield from _bad_encodings(maker)
    yield from _bad_authorities(maker)
    yield from _bad_signatures(maker)
    yield from _bad_contents(maker)
    yield from _bad_cards(maker)


def _bad_encodings(maker: Maker) -> Iterator[Case]:
    main = maker.main
    whole, content = encode(main), encode_before(main, "signature")
    to_epoch = len(encode_before(main, "epoch"))
    to_access = len(encode_before(main, "client_access"))
    to_members = len(encode_before(main, "members"))
    to_clients = len(encode_before(main, "clients"))
    for what, changed, change in (
        ("epoch-0", content[:to_epoch] + bytes(8) + content[to_epoch + 8 :], "the epoch is 0"),
        ("cluster-port-0", content[: to_epoch + 8] + bytes(2) + content[to_epoch + 10 :], "cluster_port is 0"),
        ("client-access-3", content[:to_access] + b"\3" + content[to_access + 1 :], "client_access is 3"),
        ("no-members", content[:to_members] + b"\0\0" + content[to_clients:], "there are no members"),
        ("control-in-name", content.replace(b"\5alpha", b"\5alph\n"), "a line feed stands in a node's name"),
        ("id-size-16", content.replace(b"alpha\x20", b"alpha\x10"), "the id_size of a card is 16"),
    ):
        yield bad_roster(what, FailLayer.DECODE, "RO-9", maker.signed_content("roster", changed, what), change)
    for what, changed, change in (
        ("cut", whole[:-1], "the last byte is missing"),
        ("longer", whole + b"\0", "one byte more follows"),
        ("empty", b"", "there are no bytes"),
        ("armoured", b"-----BEGIN XLATTICE ROSTER-----\n", "it is the first line of an armoured file"),
    ):
        yield bad_roster(what, FailLayer.DECODE, "RO-9", changed, change)


def _bad_authorities(maker: Maker) -> Iterator[Case]:
    authority = maker.main.authority
    n = int.from_bytes(authority[33:-5], "big")
    for what, changed, change in (
        ("e-3", authority[:-3] + b"\0\0\3", "has the exponent 3, in three bytes"),
        ("even", authority[:33] + (n - 1).to_bytes(256, "big") + authority[-5:], "has an even modulus"),
        ("2047-bits", authority[:33] + (n >> 1 | 1).to_bytes(256, "big") + authority[-5:], "has 2047 bits"),
        ("longer", authority + b"\0", "has one byte more"),
        ("pss", authority.replace(b"\1\1\1\5\0\3", b"\1\1\x0a\5\0\3"), "has the algorithm id-RSASSA-PSS"),
        ("one-byte", b"\x30", "is one byte"),
    ):
        roster = maker.roster(f"authority-{what}", authority=changed)
        change = f"the authority's key {change}"
        yield bad_roster(f"authority-{what}", FailLayer.DECODE, "RO-10", encode(roster), change)
    other = maker.fixtures.rosters["other-cluster"]
    for what, roster, known in (
        ("cluster-is-another", maker.main, other.cluster_id),
        ("cluster-of-one-bit", maker.main, one_bit(maker.fixtures.rosters["main"].cluster_id)),
    ):
        change = "the ClusterID that is known is another"
        yield bad_roster(what, FailLayer.MEMBERSHIP, "RO-11", encode(roster), change, cluster_id=known)


def _bad_signatures(maker: Maker) -> Iterator[Case]:
    main = maker.main
    fixtures = maker.fixtures
    content = encode_before(main, "signature")
    salt = drawn("roster/bad-signatures", 33)
    n = rsa_modulus(fixtures.keys["authority"].public_key())
    small = signed_until(maker, lambda signature: int.from_bytes(signature, "big") + n < 1 << 2048)
    yield good_roster("small-signature", small, "A signature to which n can be added.", "RO-12")

    def signed(key: str, message: bytes, size: int = 32) -> bytes:
        return deterministic.pss_sign_message(fixtures.keys[key], message, salt[:size])

    label = forge.label("roster") + b"\0"
    wrapped = (int.from_bytes(small.signature, "big") + n).to_bytes(256, "big")
    for what, base, signature, change in (
        ("signed-by-another", "main", signed("other-authority", label + content), "another authority signed it"),
        ("signed-by-a-member", "main", signed("alpha-sk", label + content), "a member signed it"),
        (
            "signed-as-cluster-card",
            "main",
            signed("authority", forge.label("cluster-card") + b"\0" + content),
            "it was signed under the label cluster-card",
        ),
        (
            "signed-as-node-card",
            "main",
            signed("authority", forge.label("node-card") + b"\0" + content),
            "it was signed under the label node-card",
        ),
        (
            "signed-as-digest",
            "main",
            signed("authority", forge.label("roster-digest") + b"\0" + content),
            "it was signed under the label roster-digest",
        ),
        ("signed-without-label", "main", signed("authority", content), "it was signed without a label"),
        (
            "signed-digest",
            "main",
            signed("authority", label + forge.h("roster-digest", content)),
            "its digest was signed",
        ),
        (
            "signed-with-prefix",
            "main",
            signed("authority", label + content + b"\1\0"),
            "the length of the signature was signed too",
        ),
        ("salt-31", "main", signed("authority", label + content, 31), "the salt has 31 bytes"),
        ("salt-33", "main", signed("authority", label + content, 33), "the salt has 33 bytes"),
        ("signature-bit", "main", one_bit(main.signature), "a bit of the signature is turned"),
        ("signature-384", "main", main.signature + bytes(128), "128 zeros stand behind the signature"),
        ("not-below-n", "small-signature", wrapped, "n is added to the signature"),
    ):
        roster = attrs.evolve(main, signature=signature)
        yield bad_roster(what, FailLayer.SIGNATURE, "RO-12", encode(roster), change, base=base)
    changes: dict[str, Any] = {
        "name": "another",
        "epoch": 2,
        "cluster_port": 7773,
        "client_port": 7773,
        "knock": bytes(32),
        "client_access": ClientAccess.LISTED,
        "members": main.members[:2],
        "clients": main.clients[:1],
    }
    for field, value in changes.items():
        change = f"{field} is another than was signed"
        roster = attrs.evolve(main, **{field: value})
        yield bad_roster(f"changed-{field.replace('_', '-')}", FailLayer.SIGNATURE, "RO-12", encode(roster), change)
    roster = attrs.evolve(main, authority=maker.spki("other-authority"))
    change = "the authority is another than signed it"
    yield bad_roster("changed-authority", FailLayer.SIGNATURE, "RO-12", encode(roster), change)


def signed_until(maker: Maker, fits: Callable[[bytes], bool]) -> Roster:
    for i in range(1 << 16):
        roster = maker.roster(f"search {i}")
        if fits(roster.signature):
            return roster
    raise AssertionError


def _bad_contents(maker: Maker) -> Iterator[Case]:
    main = maker.main
    layer = FailLayer.DECODE
    alpha, beta, gamma = (maker.fixtures.nodes[node].card.card for node in ("alpha", "beta", "gamma"))
    carol, dave = (maker.fixtures.nodes[node].card.card for node in ("carol", "dave"))

    def case(what: str, by: str, change: str, *requirements: str, key: str = "authority", **changes: Any) -> Case:
        return bad_roster(what, layer, by, encode(maker.roster(what, key=key, **changes)), change, *requirements)

    yield case("ports-equal", "RO-13", "both ports are 7771", client_port=7771)
    for what, host, rule in (
        ("host-leading-zero", "192.0.2.01", "RO-4"),
        ("host-upper-case-6", "2001:DB8::2", "RO-5"),
        ("host-mapped", "::ffff:c000:201", "RO-6"),
        ("host-upper-case", "Alpha.example", "RO-7"),
        ("host-final-dot", "alpha.example.", "RO-7"),
        ("host-port", "192.0.2.1:7771", "RO-5"),
    ):
        yield case(what, "RO-14", f"a host is {host}", rule, members=maker.member_with("alpha", host=host))
    for what, node, host in (
        ("hosts-equal-4", "beta", "192.0.2.1"),
        ("hosts-equal-6", "alpha", "2001:db8::2"),
        ("hosts-equal-name", "alpha", "gamma.example"),
    ):
        yield case(what, "RO-15", f"two hosts are {host}", members=maker.member_with(node, host=host))
    for node in ("alpha", "gamma"):
        card = maker.node_card(node, "20 bytes", id_size=20)
        change = f"the NodeID of {node} has 20 bytes, all others have 32"
        yield case(f"id-size-of-{node}", "RO-16", change, members=maker.member_with(node, card))
    card = maker.node_card("dave", "20 bytes", id_size=20)
    change = "the NodeID of a client has 20 bytes, all others have 32"
    yield case("id-size-of-a-client", "RO-16", change, clients=maker.client_with("dave", card))

    for what, node, ck, change in (
        ("ck-twice", "alpha", beta.ck, "two members have one ck"),
        ("ck-is-sk", "alpha", beta.sk, "the ck of a member is the sk of another"),
        ("ck-is-own-sk", "alpha", alpha.sk, "the ck of a member is its sk"),
        ("ck-is-authority", "gamma", main.authority, "the ck of a member is the authority's key"),
        ("ck-of-a-client", "beta", carol.ck, "the ck of a member is that of a client"),
    ):
        card = maker.node_card(node, what, ck=ck)
        yield case(f"key-{what}", "RO-17", change, "ID-2", "ID-3", members=maker.member_with(node, card))
    card = maker.node_card("dave", "ck-twice", ck=carol.ck)
    yield case("key-of-two-clients", "RO-17", "two clients have one ck", clients=maker.client_with("dave", card))
    for what, authority_of, change in (
        ("key-authority-is-sk", "alpha-sk", "the authority's key is the sk of a member"),
        ("key-authority-is-ck", "dave-ck", "the authority's key is the ck of a client"),
    ):
        yield case(what, "RO-17", change, "ID-3", key=authority_of, authority=maker.spki(authority_of))

    first, second, third = main.members
    yield case("members-swapped", "RO-18", "the first two members have changed places", members=(second, first, third))
    yield case("members-last-first", "RO-18", "the last member stands first", members=(third, first, second))
    yield case("members-reversed", "RO-18", "the members stand in descending order", members=main.members[::-1])
    by_name = tuple(sorted(main.members, key=lambda member: member.card.name))
    if by_name != main.members:
        yield case("members-by-name", "RO-18", "the members are sorted by name", members=by_name)
    yield case("clients-swapped", "RO-19", "the two clients have changed places", clients=main.clients[::-1])

    twin = maker.node_card("alpha", "twin", name="alpha again", ck=maker.spki("outsider-ck"))
    members = sorted_members([*main.members, Member(twin, "192.0.2.9")])
    change = "two members have one sk, and so one NodeID"
    yield case("node-id-of-two-members", "RO-20", change, "RO-17", members=members)
    clients = in_order([*main.clients, twin])
    change = "a member is a client too, with another name and ck"
    yield case("node-id-of-a-member-and-client", "RO-20", change, "RO-17", clients=clients)
    change = "a client stands there twice"
    yield case("client-twice", "RO-20", change, "RO-17", "RO-21", clients=in_order([*main.clients, dave]))

    card = maker.node_card("beta", "same name", name="alpha")
    yield case("name-of-two-members", "RO-21", "two members are called alpha", members=maker.member_with("beta", card))
    card = maker.node_card("carol", "same name", name="alpha")
    change = "a member and a client are called alpha"
    yield case("name-of-a-member-and-client", "RO-21", change, clients=maker.client_with("carol", card))
    card = maker.node_card("carol", "same name of dave", name="dave")
    yield case("name-of-two-clients", "RO-21", "two clients are called dave", clients=maker.client_with("carol", card))
    assert gamma in [member.card for member in main.members]


def _bad_cards(maker: Maker) -> Iterator[Case]:
    """One card in a roster that is signed as it is."""
    fixtures = maker.fixtures

    def case(what: str, node: str, layer: FailLayer, card: NodeCard, change: str, *requirements: str) -> Case:
        changes: dict[str, Any] = {"members": maker.member_with(node, card), "clients": maker.client_with(node, card)}
        roster = maker.roster(f"card-{what}", **changes)
        return bad_roster(f"card-{what}", layer, "RO-22", encode(roster), change, *requirements)

    for node in ("alpha", "beta", "gamma", "carol", "dave"):
        card = fixtures.nodes[node].card.card
        broken = attrs.evolve(card, signature=one_bit(card.signature))
        change = f"a bit of the signature of {node}'s card is turned"
        yield case(f"signature-of-{node}", node, FailLayer.SIGNATURE, broken, change, "ID-23")
    alpha = fixtures.nodes["alpha"].card.card
    by_authority = maker.node_card("alpha", "authority", key="authority")
    for what, node, card, change in (
        ("by-authority", "alpha", by_authority, "the authority signed a member's card"),
        ("changed-name", "alpha", attrs.evolve(alpha, name="alphb"), "the name in a card is another than was signed"),
        ("changed-serial", "alpha", attrs.evolve(alpha, serial=9), "the serial in a card is another than was signed"),
        (
            "changed-ck",
            "alpha",
            attrs.evolve(alpha, ck=maker.spki("outsider-ck")),
            "the ck in a card is another than was signed",
        ),
    ):
        yield case(what, node, FailLayer.SIGNATURE, card, change, "ID-23")
    n = int.from_bytes(alpha.ck[33:-5], "big")
    for what, ck, change in (
        ("ck-even", alpha.ck[:33] + (n - 1).to_bytes(256, "big") + alpha.ck[-5:], "a member's ck is even"),
        ("ck-longer", alpha.ck + b"\0", "a member's ck has one byte more"),
    ):
        card = maker.node_card("alpha", what, ck=ck)
        yield case(what, "alpha", FailLayer.DECODE, card, change, "ID-21")
    carol = fixtures.nodes["carol"].card.card
    card = maker.node_card("carol", "e-3", ck=carol.ck[:-3] + b"\0\0\3")
    yield case("ck-of-a-client", "carol", FailLayer.DECODE, card, "a client's ck has the exponent 3", "ID-21")
