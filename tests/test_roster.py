"""Rosters and cluster cards: every rule broken one at a time, and what replaces what. Spec 3."""

import time
from collections.abc import Callable, Iterable
from types import MappingProxyType
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives import hashes

from xlattice_trio import roster as roster_module
from xlattice_trio.crypto import Label, RSAPrivateKey, encode_spki, pss_sign
from xlattice_trio.errors import DecodeError, EncodeError, IdentityError, RosterConflict
from xlattice_trio.identity.card import VerifiedCard, make_card
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.roster import (
    AnotherCluster,
    InvalidRoster,
    RosterRule,
    cluster_card_replaces,
    cluster_id_of,
    make_cluster_card,
    make_roster,
    replaces,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.testing.identities import KNOCK
from xlattice_trio.testing.identities import test_authority as authority
from xlattice_trio.testing.identities import test_client as client
from xlattice_trio.testing.identities import test_identity as identity
from xlattice_trio.testing.identities import test_roster as a_roster
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.messages import ClientAccess, ClusterCard, Member, NodeCard, Roster

ROSTER = a_roster(3, 2).roster
CLUSTER_CARD = make_cluster_card(authority(), a_roster(3, 2))


def sign_roster(roster: Roster, key: RSAPrivateKey | None = None, label: Label = Label.ROSTER) -> Roster:
    content = encode_before(roster, "signature")
    return attrs.evolve(roster, signature=pss_sign(key or authority(), label, content))


def sign_cluster_card(card: ClusterCard, key: RSAPrivateKey | None = None) -> ClusterCard:
    content = encode_before(card, "signature")
    return attrs.evolve(card, signature=pss_sign(key or authority(), Label.CLUSTER_CARD, content))


def sign_card(card: NodeCard, key: RSAPrivateKey) -> NodeCard:
    return attrs.evolve(card, signature=pss_sign(key, Label.NODE_CARD, encode_before(card, "signature")))


def by_id(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: NodeID.of(member.card.sk, member.card.id_size)))


def card_by_id(cards: Iterable[NodeCard]) -> tuple[NodeCard, ...]:
    return tuple(sorted(cards, key=lambda card: NodeID.of(card.sk, card.id_size)))


def card_of(node: LocalIdentity, **changes: Any) -> NodeCard:
    """A card of a node, with changes, correctly signed."""
    arguments: dict[str, Any] = {"name": node.name, "sk_priv": node.sk_priv, "ck": node.card.ck} | changes
    return make_card(**arguments)


def member(i: int, host: str | None = None) -> Member:
    return Member(identity(i).card.card, host or f"127.0.0.{i + 1}")


# ---- what is valid -----------------------------------------------------------


@pytest.mark.spec("RO-1")
def test_cluster_id_is_the_labelled_hash_of_the_authority() -> None:
    spki = encode_spki(authority().public_key())
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(b"xlattice2 cluster-id\0" + spki)
    assert cluster_id_of(spki) == a_roster().cluster_id == hashed.finalize()


@pytest.mark.spec("RO-31")
def test_roster_digest_is_the_labelled_hash_of_all_but_the_signature() -> None:
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(b"xlattice2 roster-digest\0" + encode(ROSTER)[: -2 - 256])
    again = verify_roster(sign_roster(ROSTER))
    assert verify_roster(ROSTER).digest == again.digest == hashed.finalize()
    assert again.roster.signature != ROSTER.signature


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
@pytest.mark.parametrize("id_size", [20, 32])
@pytest.mark.parametrize(("members", "clients"), [(1, 0), (2, 1), (4, 3)])
def test_roster_of_every_size_is_verified(members: int, clients: int, id_size: int, bits: int) -> None:
    made = a_roster(members, clients, id_size=id_size, bits=bits, epoch=5, client_access=ClientAccess.LISTED)
    verified = verify_roster(decode(Roster, encode(made.roster)), cluster_id=made.cluster_id)
    assert verified == made
    assert verified.name == "test-cluster"
    assert (verified.epoch, verified.cluster_port, verified.client_port) == (5, 7711, 7712)
    assert (verified.knock, verified.client_access, verified.id_size) == (KNOCK, ClientAccess.LISTED, id_size)
    assert list(verified.members) == sorted(identity(i, bits=bits, id_size=id_size).node_id for i in range(members))
    assert list(verified.clients) == sorted(client(i, id_size=id_size).node_id for i in range(clients))
    for i in range(members):
        node = identity(i, bits=bits, id_size=id_size)
        found = verified.members[node.node_id]
        assert (found.card, found.host) == (node.card, f"127.0.0.{i + 1}")
        assert (found.node_id, found.name) == (node.node_id, f"node-{i}")
    assert all(verified.clients[client(i, id_size=id_size).node_id] for i in range(clients))


def test_keys_of_all_sizes_go_together() -> None:
    members = [Member(card_of(identity(0, bits=bits), name=f"n{bits}"), f"h{bits}") for bits in (2048, 3072, 4096)]
    assert len(verify_roster(make(members=members, clients=[])).members) == 3


def make(**changes: Any) -> Roster:
    arguments: dict[str, Any] = {
        "name": "test-cluster",
        "epoch": 1,
        "cluster_port": 7711,
        "client_port": 7712,
        "knock": KNOCK,
        "client_access": ClientAccess.ANYONE,
        "members": [member(0), member(1), member(2)],
        "clients": [client(0).card.card, client(1).card.card],
    }
    return make_roster(authority(), **(arguments | changes))


def test_made_roster_is_sorted_whatever_the_order_given() -> None:
    members, clients = [member(i) for i in range(5)], [client(i).card.card for i in range(5)]
    made = make(members=members[::-1], clients=clients[::-1])
    assert made.members == by_id(members)
    assert made.clients == card_by_id(clients)
    assert encode_before(made, "signature") == encode_before(make(members=members, clients=clients), "signature")
    verify_roster(made)


def test_made_roster_has_no_clients_unless_given() -> None:
    roster = make_roster(
        authority(),
        name="n",
        epoch=1,
        cluster_port=1,
        client_port=2,
        knock=KNOCK,
        client_access=ClientAccess.LISTED,
        members=[member(0)],
    )
    assert roster.clients == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"epoch": 2**64},
        {"name": ""},
        {"name": "a\n"},
        {"cluster_port": 0},
        {"client_port": 65536},
        {"knock": bytes(31)},
        {"members": []},
    ],
    ids=repr,
)
def test_roster_is_not_made_when_a_value_has_no_encoding(changes: dict[str, Any]) -> None:
    with pytest.raises(EncodeError):
        make(**changes)


def test_verified_documents_are_short_in_logs_and_can_be_keys() -> None:
    for document in (a_roster(), verify_cluster_card(CLUSTER_CARD), identity(0).card):
        assert len(repr(document)) < 250
        assert document in {document}


def test_repr_of_a_roster_shows_no_knock() -> None:
    assert KNOCK.hex() not in repr(a_roster())
    assert repr(KNOCK) not in repr(a_roster())
    assert a_roster().cluster_id.hex() in repr(a_roster())


def test_members_and_clients_of_a_verified_roster_cannot_be_changed() -> None:
    verified = a_roster()
    assert isinstance(verified.members, MappingProxyType)
    assert isinstance(verified.clients, MappingProxyType)
    assert isinstance(verify_cluster_card(CLUSTER_CARD).members, MappingProxyType)


# ---- each rule, broken alone -------------------------------------------------

Break = Callable[[Roster], Roster]


def edit(**changes: Any) -> Break:
    """Changes fields and signs again."""
    return lambda roster: sign_roster(attrs.evolve(roster, **changes))


def replace_member(name: str, **changes: Any) -> Break:
    """Puts another card, or another host, in the place of a member's, sorts and signs again."""

    def change(roster: Roster) -> Roster:
        members = [attrs.evolve(m, **changes) if m.card.name == name else m for m in roster.members]
        return sign_roster(attrs.evolve(roster, members=by_id(members)))

    return change


def replace_client(name: str, card: NodeCard) -> Break:
    def change(roster: Roster) -> Roster:
        clients = card_by_id([card if c.name == name else c for c in roster.clients])
        return sign_roster(attrs.evolve(roster, clients=clients))

    return change


def bad_signature(node: LocalIdentity) -> NodeCard:
    return attrs.evolve(node.card.card, signature=bytes(256))


def bad_key(which: str) -> NodeCard:
    """A card of node-0 with a key that is even, correctly signed."""
    node = identity(0)
    spki = bytearray(getattr(node.card.card, which))
    spki[-6] ^= 1
    changes: dict[str, Any] = {which: bytes(spki)}
    return sign_card(attrs.evolve(node.card.card, **changes), node.sk_priv)


def even_authority(roster: Roster) -> Roster:
    spki = bytearray(roster.authority)
    spki[-6] ^= 1
    return sign_roster(attrs.evolve(roster, authority=bytes(spki)))


def same_sk(name: str, ck_of: LocalIdentity) -> NodeCard:
    """Another card of node-0: the same sk, another ck and name."""
    return make_card(name=name, sk_priv=identity(0).sk_priv, ck=ck_of.card.ck)


AUTHORITY_NODE = make_card(name="node-0", sk_priv=authority(), ck=identity(0).card.ck)

BROKEN: dict[str, tuple[RosterRule, Break]] = {
    "authority is no key": (RosterRule.AUTHORITY, even_authority),
    "authority is another": (RosterRule.SIGNATURE, edit(authority=encode_spki(authority(1).public_key()))),
    "signed by another": (RosterRule.SIGNATURE, lambda roster: sign_roster(roster, authority(1))),
    "signed by a member": (RosterRule.SIGNATURE, lambda roster: sign_roster(roster, identity(0).sk_priv)),
    "signed under another label": (
        RosterRule.SIGNATURE,
        lambda roster: sign_roster(roster, label=Label.CLUSTER_CARD),
    ),
    "signature of another length": (RosterRule.SIGNATURE, lambda roster: attrs.evolve(roster, signature=bytes(384))),
    "not signed again": (RosterRule.SIGNATURE, lambda roster: attrs.evolve(roster, epoch=roster.epoch + 1)),
    "ports are the same": (RosterRule.PORTS, edit(client_port=ROSTER.cluster_port)),
    "a host is none": (RosterRule.HOST, replace_member("node-1", host="127.0.0.01")),
    "the last host is none": (RosterRule.HOST, replace_member(ROSTER.members[-1].card.name, host="A.example")),
    "two hosts are the same": (RosterRule.HOST_TWICE, replace_member("node-1", host="127.0.0.1")),
    "a member's NodeID is short": (
        RosterRule.ID_SIZE,
        replace_member("node-2", card=identity(2, id_size=20).card.card),
    ),
    "a client's NodeID is short": (RosterRule.ID_SIZE, replace_client("client-1", client(1, id_size=20).card.card)),
    "the first member's NodeID is short": (
        RosterRule.ID_SIZE,
        replace_member(
            ROSTER.members[0].card.name,
            card=identity(int(ROSTER.members[0].card.name[-1]), id_size=20).card.card,
        ),
    ),
    "two members have the same sk": (
        RosterRule.MODULUS,
        replace_member("node-1", card=same_sk("node-1", identity(1))),
    ),
    "two members have the same ck": (
        RosterRule.MODULUS,
        replace_member("node-1", card=card_of(identity(1), ck=identity(0).card.ck)),
    ),
    "a member's ck is another's sk": (
        RosterRule.MODULUS,
        replace_member("node-1", card=card_of(identity(1), ck=identity(0).card.sk)),
    ),
    "a client's ck is a member's sk": (
        RosterRule.MODULUS,
        replace_client("client-0", card_of(client(0), ck=identity(0).card.sk)),
    ),
    "a client's ck is another client's": (
        RosterRule.MODULUS,
        replace_client("client-0", card_of(client(0), ck=client(1).card.ck)),
    ),
    "a client's sk is a member's ck": (
        RosterRule.MODULUS,
        replace_client("client-0", card_of(client(0), sk_priv=identity(0).ck_priv)),
    ),
    "a client is a member": (RosterRule.MODULUS, replace_client("client-0", same_sk("client-0", client(0)))),
    "the authority is a member's sk": (RosterRule.MODULUS, replace_member("node-0", card=AUTHORITY_NODE)),
    "the authority is a member's ck": (
        RosterRule.MODULUS,
        replace_member("node-0", card=card_of(identity(0), ck=authority().public_key())),
    ),
    "the authority is a client's ck": (
        RosterRule.MODULUS,
        replace_client("client-0", card_of(client(0), ck=authority().public_key())),
    ),
    "members are not sorted": (RosterRule.MEMBER_ORDER, edit(members=ROSTER.members[::-1])),
    "the last two members are exchanged": (
        RosterRule.MEMBER_ORDER,
        edit(members=(ROSTER.members[0], ROSTER.members[2], ROSTER.members[1])),
    ),
    "clients are not sorted": (RosterRule.CLIENT_ORDER, edit(clients=ROSTER.clients[::-1])),
    "two members have the same name": (
        RosterRule.NAME,
        replace_member("node-1", card=card_of(identity(1), name="node-0")),
    ),
    "a client has a member's name": (
        RosterRule.NAME,
        replace_client("client-1", card_of(client(1), name="node-0")),
    ),
    "two clients have the same name": (
        RosterRule.NAME,
        replace_client("client-1", card_of(client(1), name="client-0")),
    ),
    "a member's card is not signed": (RosterRule.CARD, replace_member("node-0", card=bad_signature(identity(0)))),
    "the last member's card is not signed": (
        RosterRule.CARD,
        replace_member(
            ROSTER.members[-1].card.name, card=bad_signature(identity(int(ROSTER.members[-1].card.name[-1])))
        ),
    ),
    "a client's card is not signed": (RosterRule.CARD, replace_client("client-0", bad_signature(client(0)))),
    "a member's sk is no key": (RosterRule.CARD, replace_member("node-0", card=bad_key("sk"))),
    "a member's ck is no key": (RosterRule.CARD, replace_member("node-0", card=bad_key("ck"))),
}

REQUIREMENTS = {
    RosterRule.AUTHORITY: "RO-10",
    RosterRule.CLUSTER: "RO-11",
    RosterRule.SIGNATURE: "RO-12",
    RosterRule.PORTS: "RO-13",
    RosterRule.HOST: "RO-14",
    RosterRule.HOST_TWICE: "RO-15",
    RosterRule.ID_SIZE: "RO-16",
    RosterRule.MODULUS: "RO-17",
    RosterRule.MEMBER_ORDER: "RO-18",
    RosterRule.CLIENT_ORDER: "RO-19",
    RosterRule.NODE_ID: "RO-20",
    RosterRule.NAME: "RO-21",
    RosterRule.CARD: "RO-22",
}


def test_every_rule_has_its_requirement() -> None:
    assert list(REQUIREMENTS) == list(RosterRule)


@pytest.mark.spec(
    "ID-3", "RO-10", "RO-12", "RO-13", "RO-14", "RO-15", "RO-16", "RO-17", "RO-18", "RO-19", "RO-21", "RO-22", "RO-24"
)
@pytest.mark.parametrize("case", BROKEN)
def test_roster_is_refused_when(case: str) -> None:
    rule, change = BROKEN[case]
    verify_roster(ROSTER)
    with pytest.raises(InvalidRoster) as caught:
        verify_roster(change(ROSTER))
    assert caught.value.rule is rule


@pytest.mark.spec("RO-20")
@pytest.mark.parametrize(("one", "other"), [("node-0", "node-1"), ("node-0", "client-0"), ("client-0", "client-1")])
def test_roster_is_refused_when_two_nodeids_are_the_same(one: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody can make two keys with one NodeID, so the hash is made to collide."""

    def collide(card: NodeCard) -> NodeID:
        return nodes[one if card.name == other else card.name].node_id

    nodes = {node.name: node for node in (*map(identity, range(3)), *map(client, range(2)))}
    monkeypatch.setattr(roster_module, "_node_id", collide)
    roster = attrs.evolve(
        ROSTER,
        members=tuple(sorted(ROSTER.members, key=lambda m: collide(m.card))),
        clients=tuple(sorted(ROSTER.clients, key=collide)),
    )
    with pytest.raises(InvalidRoster) as caught:
        verify_roster(sign_roster(roster))
    assert caught.value.rule is RosterRule.NODE_ID


@pytest.mark.spec("RO-11")
def test_roster_is_refused_when_it_is_of_another_cluster() -> None:
    other = cluster_id_of(encode_spki(authority(1).public_key()))
    with pytest.raises(InvalidRoster) as caught:
        verify_roster(ROSTER, cluster_id=other)
    assert caught.value.rule is RosterRule.CLUSTER
    with pytest.raises(InvalidRoster) as caught:
        verify_cluster_card(CLUSTER_CARD, cluster_id=other)
    assert caught.value.rule is RosterRule.CLUSTER


@pytest.mark.spec("NO-13", "NO-14")
@pytest.mark.parametrize(
    "names",
    [
        ("\u00e9", "e\u0301"),
        ("node", "Node"),
        ("node", "node "),
        ("node", "no\u00adde"),
        ("node", "\ufeffnode"),
        ("\ufb01", "fi"),
        ("\u212b", "\u00c5"),
        ("\u00df", "ss"),
    ],
    ids=ascii,
)
def test_names_are_the_same_only_byte_by_byte(names: tuple[str, str]) -> None:
    members = [Member(card_of(identity(i), name=name), f"h{i}") for i, name in enumerate(names)]
    verified = verify_roster(decode(Roster, encode(make(members=members, clients=[]))))
    assert {member.name for member in verified.members.values()} == set(names)
    for name in names:
        twice = [Member(card_of(identity(i), name=name), f"h{i}") for i in range(2)]
        with pytest.raises(InvalidRoster) as caught:
            make(members=twice, clients=[])
        assert caught.value.rule is RosterRule.NAME


@pytest.mark.spec("RO-23")
@pytest.mark.parametrize(
    "rule", [rule for rule in RosterRule if rule not in {RosterRule.CLUSTER, RosterRule.CARD, RosterRule.NODE_ID}]
)
def test_no_card_is_verified_when_anything_else_is_wrong(rule: RosterRule, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(change for broken, change in BROKEN.values() if broken is rule)

    def verify(card: NodeCard) -> VerifiedCard:
        pytest.fail("a card was verified")

    roster = case(ROSTER)
    monkeypatch.setattr(roster_module, "verify_card", verify)
    with pytest.raises(InvalidRoster):
        verify_roster(roster)


@pytest.mark.spec("RO-23")
def test_an_unsigned_roster_is_refused_for_its_signature_whatever_else_is_wrong() -> None:
    for rule, change in BROKEN.values():
        if rule is not RosterRule.AUTHORITY:
            with pytest.raises(InvalidRoster) as caught:
                verify_roster(attrs.evolve(change(ROSTER), signature=bytes(256)))
            assert caught.value.rule is RosterRule.SIGNATURE


@pytest.mark.parametrize(
    "case",
    [case for case, (rule, _) in BROKEN.items() if rule not in {RosterRule.AUTHORITY, RosterRule.SIGNATURE}],
)
def test_no_roster_is_made_when(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rule, change = BROKEN[case]
    broken = change(ROSTER)
    if rule in {RosterRule.MEMBER_ORDER, RosterRule.CLIENT_ORDER}:
        return  # make_roster sorts
    monkeypatch.setattr(roster_module, "pss_sign", lambda *_: pytest.fail("something invalid was signed"))
    with pytest.raises(InvalidRoster) as caught:
        make(
            cluster_port=broken.cluster_port,
            client_port=broken.client_port,
            members=broken.members,
            clients=broken.clients,
        )
    assert caught.value.rule is rule


@pytest.mark.spec("RO-12")
@pytest.mark.parametrize("document", [ROSTER, CLUSTER_CARD], ids=["roster", "cluster card"])
def test_document_is_refused_when_any_byte_was_changed(document: Roster | ClusterCard) -> None:
    data = encode(document)
    for i in range(0, len(data), 61):
        changed = bytearray(data)
        changed[i] ^= 0x01
        try:
            found = decode(type(document), changed)
        except DecodeError:
            continue
        with pytest.raises(InvalidRoster):
            verify_roster(found) if isinstance(found, Roster) else verify_cluster_card(found)


def test_roster_of_256_members_is_verified_in_well_under_a_second() -> None:
    roster = a_roster(256, 0).roster
    start = time.perf_counter()
    verify_roster(roster)
    assert time.perf_counter() - start < 1


# ---- cluster cards -----------------------------------------------------------


@pytest.mark.spec("RO-25")
@pytest.mark.parametrize("id_size", [20, 32])
def test_cluster_card_is_the_public_extract_of_the_roster(id_size: int) -> None:
    roster = a_roster(3, 2, epoch=9, id_size=id_size, client_access=ClientAccess.LISTED)
    card = make_cluster_card(authority(), roster)
    for field in attrs.fields(ClusterCard):
        if field.name != "signature":
            assert getattr(card, field.name) == getattr(roster.roster, field.name)
    assert KNOCK not in encode(card)
    assert client(0).card.card.sk not in encode(card)
    verified = verify_cluster_card(decode(ClusterCard, encode(card)), cluster_id=roster.cluster_id)
    assert verified == verify_cluster_card(card)
    assert (verified.name, verified.epoch, verified.client_port) == ("test-cluster", 9, 7712)
    assert (verified.client_access, verified.cluster_id) == (ClientAccess.LISTED, roster.cluster_id)
    assert {len(node_id.value) for node_id in verified.members} == {id_size}
    assert dict(verified.members) == dict(roster.members)


def test_cluster_card_is_made_by_the_rosters_authority_only() -> None:
    with pytest.raises(IdentityError):
        make_cluster_card(authority(1), a_roster())


def as_cluster_card(roster: Roster) -> ClusterCard:
    """A cluster card with the members of a roster, signed."""
    return sign_cluster_card(attrs.evolve(CLUSTER_CARD, members=roster.members))


MEMBER_CASES = [
    case
    for case, (rule, change) in BROKEN.items()
    if rule is not RosterRule.SIGNATURE and change(ROSTER).members != ROSTER.members
]


@pytest.mark.spec("RO-26")
@pytest.mark.parametrize("case", MEMBER_CASES)
def test_cluster_card_is_refused_when(case: str) -> None:
    rule, change = BROKEN[case]
    with pytest.raises(InvalidRoster) as caught:
        verify_cluster_card(as_cluster_card(change(ROSTER)))
    assert caught.value.rule is rule


def test_cluster_card_cases_cover_every_rule_about_members() -> None:
    assert {BROKEN[case][0] for case in MEMBER_CASES} == {
        RosterRule.HOST,
        RosterRule.HOST_TWICE,
        RosterRule.ID_SIZE,
        RosterRule.MODULUS,
        RosterRule.MEMBER_ORDER,
        RosterRule.NAME,
        RosterRule.CARD,
    }


@pytest.mark.spec("RO-26")
def test_cluster_card_is_refused_when_the_authority_did_not_sign_it() -> None:
    bad = {
        "another key": sign_cluster_card(CLUSTER_CARD, authority(1)),
        "a roster's signature": attrs.evolve(CLUSTER_CARD, signature=ROSTER.signature),
        "another length": attrs.evolve(CLUSTER_CARD, signature=bytes(512)),
        "not signed again": attrs.evolve(CLUSTER_CARD, epoch=2),
    }
    for card in bad.values():
        with pytest.raises(InvalidRoster) as caught:
            verify_cluster_card(card)
        assert caught.value.rule is RosterRule.SIGNATURE


@pytest.mark.spec("RO-26")
def test_cluster_card_is_refused_when_the_authority_is_no_key() -> None:
    spki = bytearray(CLUSTER_CARD.authority)
    spki[-6] ^= 1
    with pytest.raises(InvalidRoster) as caught:
        verify_cluster_card(sign_cluster_card(attrs.evolve(CLUSTER_CARD, authority=bytes(spki))))
    assert caught.value.rule is RosterRule.AUTHORITY


# ---- what replaces what ------------------------------------------------------


@pytest.mark.spec("RO-33", "RO-34", "RO-42", "RO-64")
@pytest.mark.parametrize(
    ("held", "highest", "offered", "override", "adopted"),
    [
        (5, None, 6, False, True),
        (5, None, 5, False, False),
        (5, None, 4, False, False),
        (5, None, 2**64 - 1, False, True),
        (5, 5, 6, False, True),
        (5, 8, 6, False, False),
        (5, 8, 8, False, False),
        (5, 8, 9, False, True),
        (5, 3, 5, False, False),
        (5, 3, 4, False, False),
        (5, 3, 6, False, True),
        (5, None, 4, True, True),
        (5, None, 6, True, True),
        (5, None, 5, True, False),
        (5, 8, 4, True, True),
        (5, 8, 7, True, True),
        (5, 8, 8, True, True),
        (5, 8, 5, True, False),
    ],
)
def test_roster_is_adopted_by_its_epoch(
    held: int, highest: int | None, offered: int, override: bool, adopted: bool
) -> None:
    mine, other = a_roster(epoch=held), a_roster(epoch=offered)
    assert replaces(mine, other, highest=highest, override=override) is adopted
    my_card, other_card = (verify_cluster_card(make_cluster_card(authority(), roster)) for roster in (mine, other))
    assert cluster_card_replaces(my_card, other_card, highest=highest, override=override) is adopted


@pytest.mark.spec("RO-34", "RO-29")
def test_older_document_is_not_adopted_unless_the_operator_says_so() -> None:
    held, older = a_roster(epoch=2), a_roster(epoch=1)
    assert not replaces(held, older)
    cards = [verify_cluster_card(make_cluster_card(authority(), roster)) for roster in (held, older)]
    assert not cluster_card_replaces(cards[0], cards[1])


@pytest.mark.spec("RO-31")
def test_roster_signed_twice_is_the_same_roster() -> None:
    again = verify_roster(sign_roster(ROSTER))
    assert again != verify_roster(ROSTER)
    assert replaces(verify_roster(ROSTER), again) is False


@pytest.mark.spec("RO-30")
def test_cluster_card_signed_twice_is_the_same_card() -> None:
    again = verify_cluster_card(sign_cluster_card(CLUSTER_CARD))
    assert again != verify_cluster_card(CLUSTER_CARD)
    assert cluster_card_replaces(verify_cluster_card(CLUSTER_CARD), again) is False


@pytest.mark.spec("RO-30", "RO-42", "RO-45")
@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize(
    "changes", [{"name": "other"}, {"client_port": 99}, {"client_access": ClientAccess.LISTED}], ids=repr
)
def test_two_documents_of_one_epoch_are_a_conflict(changes: dict[str, Any], override: bool) -> None:
    held, offered = verify_roster(make(epoch=3)), verify_roster(make(epoch=3, **changes))
    with pytest.raises(RosterConflict) as caught:
        replaces(held, offered, override=override)
    assert caught.value.epoch == 3
    cards = [verify_cluster_card(make_cluster_card(authority(), roster)) for roster in (held, offered)]
    with pytest.raises(RosterConflict) as caught:
        cluster_card_replaces(cards[0], cards[1], override=override)
    assert caught.value.epoch == 3


def other_authority(epoch: int) -> Roster:
    roster = attrs.evolve(make(epoch=epoch), authority=encode_spki(authority(1).public_key()))
    return sign_roster(roster, authority(1))


UNCHANGING: dict[str, Callable[[int], Roster]] = {
    "authority": other_authority,
    "knock": lambda epoch: make(epoch=epoch, knock=bytes(32)),
    "id_size": lambda epoch: a_roster(epoch=epoch, id_size=20).roster,
    "cluster_port": lambda epoch: make(epoch=epoch, cluster_port=99),
}


@pytest.mark.spec("RO-35", "RO-42")
@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("field", UNCHANGING)
def test_roster_is_refused_when_what_never_changes_has_changed(field: str, epoch: int, override: bool) -> None:
    held, offered = verify_roster(make(epoch=2)), verify_roster(UNCHANGING[field](epoch))
    with pytest.raises(AnotherCluster) as caught:
        replaces(held, offered, override=override)
    assert caught.value.field == field


@pytest.mark.spec("RO-27")
@pytest.mark.parametrize("override", [False, True])
@pytest.mark.parametrize("epoch", [1, 3])
def test_cluster_card_of_another_cluster_is_refused(epoch: int, override: bool) -> None:
    held = verify_cluster_card(make_cluster_card(authority(), verify_roster(make(epoch=2))))
    offered = verify_cluster_card(make_cluster_card(authority(1), verify_roster(other_authority(epoch))))
    with pytest.raises(AnotherCluster) as caught:
        cluster_card_replaces(held, offered, override=override)
    assert caught.value.field == "authority"


def test_a_roster_of_another_cluster_and_the_same_epoch_is_no_conflict() -> None:
    with pytest.raises(AnotherCluster):
        replaces(verify_roster(make(epoch=2)), verify_roster(other_authority(2)))


@pytest.mark.spec("RO-45")
@pytest.mark.parametrize("field", ["knock", "id_size", "cluster_port"])
def test_a_roster_of_the_same_epoch_is_a_conflict_even_if_it_changes_what_never_changes(field: str) -> None:
    with pytest.raises(RosterConflict):
        replaces(verify_roster(make(epoch=2)), verify_roster(UNCHANGING[field](2)))


@pytest.mark.spec("RO-33", "ID-24")
@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"client_port": 99},
        {"client_access": ClientAccess.LISTED},
        {"members": [member(0), member(5)]},
        {"members": [member(0, "moved.example"), member(1), member(2)]},
        {"members": [Member(card_of(identity(0), serial=0), "127.0.0.1"), member(1), member(2)]},
        {"clients": []},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_roster_is_adopted_when_only_what_may_change_has_changed(changes: dict[str, Any]) -> None:
    assert replaces(verify_roster(make(epoch=2)), verify_roster(make(epoch=3, **changes)))
