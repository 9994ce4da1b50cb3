"""Roster and ClusterCard: who is in a cluster, as its authority has signed it. Spec 3.

The rules are a closed list, `RosterRule`, and every node must come to the same verdict: one invalid card makes the
whole roster invalid, and nothing is checked beyond the list. The authority's signature comes before those of the
cards, so that a stranger's bytes cost one verification and not hundreds.

Nothing here reads a file, knows a clock or holds a roster: what is held and what is offered are arguments.
"""

import enum
import itertools
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import attrs

from xlattice_trio.crypto import (
    Label,
    RSAPrivateKey,
    decode_spki,
    digest,
    encode_spki,
    equal,
    pss_sign,
    pss_verify,
)
from xlattice_trio.errors import IdentityError, RosterConflict
from xlattice_trio.identity.card import VerifiedCard, verify_card
from xlattice_trio.identity.host import parse_host
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.wire.codec import encode_before
from xlattice_trio.wire.messages import ClientAccess, ClusterCard, Member, NodeCard, Roster

# ---- what can be wrong -------------------------------------------------------


class RosterRule(enum.Enum):
    """What a roster or a cluster card has to fulfil, in the order in which it is checked. Spec 3.4."""

    AUTHORITY = "the authority is a public key in its one encoding"
    CLUSTER = "the authority is that of the cluster"
    SIGNATURE = "the signature is the authority's"
    PORTS = "cluster port and client port are different"
    HOST = "every host is the one spelling of an address or name"
    HOST_TWICE = "no host stands in it twice"
    ID_SIZE = "all NodeIDs have the same size"
    MODULUS = "no RSA key stands in it twice, be it as sk, as ck or as the authority's"
    MEMBER_ORDER = "members are sorted by NodeID"
    CLIENT_ORDER = "clients are sorted by NodeID"
    NODE_ID = "no NodeID stands in it twice"
    NAME = "no node name stands in it twice"
    CARD = "every card is valid"


class InvalidRoster(IdentityError):
    """A roster or cluster card breaks a rule.

    `rule` is the first one that it breaks, `problem` says how.
    """

    def __init__(self, rule: RosterRule, document: Roster | ClusterCard, problem: str) -> None:
        kind = "roster" if isinstance(document, Roster) else "cluster card"
        super().__init__(
            f"the {kind} of {document.name!r}, epoch {document.epoch}, is invalid: {problem} (the rule: {rule.value})"
        )
        self.rule = rule
        self.problem = problem


class AnotherCluster(IdentityError):
    """A roster or cluster card differs from the one held in what stays the same for a cluster's whole life.

    `field` is `authority`, `knock`, `id_size` or `cluster_port`.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{problem}: {field} is the same for a cluster's whole life, so the one held stays")
        self.field = field


# ---- what has been checked ---------------------------------------------------


@attrs.frozen
class VerifiedMember:
    """A member of a verified roster or cluster card, and the host at which it listens."""

    card: VerifiedCard
    host: str

    @property
    def node_id(self) -> NodeID:
        return self.card.node_id

    @property
    def name(self) -> str:
        return self.card.name


@attrs.frozen
class VerifiedRoster:
    """A roster that `verify_roster` has checked. Members and clients are in the order of their NodeIDs.

    `digest` (32 bytes) is over everything but the signature. Equal if the rosters are, signatures included.
    """

    roster: Roster = attrs.field(repr=False)
    cluster_id: bytes = attrs.field(eq=False, repr=bytes.hex)
    digest: bytes = attrs.field(eq=False, repr=bytes.hex)
    members: Mapping[NodeID, VerifiedMember] = attrs.field(eq=False, repr=False)
    clients: Mapping[NodeID, VerifiedCard] = attrs.field(eq=False, repr=False)

    @property
    def name(self) -> str:
        return self.roster.name

    @property
    def epoch(self) -> int:
        return self.roster.epoch

    @property
    def cluster_port(self) -> int:
        return self.roster.cluster_port

    @property
    def client_port(self) -> int:
        return self.roster.client_port

    @property
    def knock(self) -> bytes:
        return self.roster.knock

    @property
    def client_access(self) -> ClientAccess:
        return self.roster.client_access

    @property
    def id_size(self) -> int:
        """Bytes of every NodeID in it."""
        return self.roster.members[0].card.id_size


@attrs.frozen
class VerifiedClusterCard:
    """A cluster card that `verify_cluster_card` has checked. Members are in the order of their NodeIDs."""

    card: ClusterCard = attrs.field(repr=False)
    cluster_id: bytes = attrs.field(eq=False, repr=bytes.hex)
    members: Mapping[NodeID, VerifiedMember] = attrs.field(eq=False, repr=False)

    @property
    def name(self) -> str:
        return self.card.name

    @property
    def epoch(self) -> int:
        return self.card.epoch

    @property
    def client_port(self) -> int:
        return self.card.client_port

    @property
    def client_access(self) -> ClientAccess:
        return self.card.client_access


def cluster_id_of(authority_spki: bytes) -> bytes:
    """The ClusterID, 32 bytes: a hash of the authority's DER SubjectPublicKeyInfo. Spec 3.2."""
    return digest(Label.CLUSTER_ID, authority_spki)  # [RO-1]


# ---- the authority makes -----------------------------------------------------


def make_roster(
    authority_key: RSAPrivateKey,
    *,
    name: str,
    epoch: int,
    cluster_port: int,
    client_port: int,
    knock: bytes,
    client_access: ClientAccess,
    members: Iterable[Member],
    clients: Iterable[NodeCard] = (),
) -> Roster:
    """A roster, sorted and signed. Nothing is signed that breaks a rule. Spec 3.4.

    Raises EncodeError if a value is out of its bounds, InvalidRoster if a rule is broken.
    """
    unsigned = Roster(
        encode_spki(authority_key.public_key()),
        name,
        epoch,
        cluster_port,
        client_port,
        knock,
        client_access,
        tuple(sorted(members, key=lambda member: _node_id(member.card))),
        tuple(sorted(clients, key=_node_id)),
        b"",
    )
    content = encode_before(unsigned, "signature")
    _check_ports(unsigned)
    _check_nodes(unsigned, unsigned.members, unsigned.clients)
    return attrs.evolve(unsigned, signature=pss_sign(authority_key, Label.ROSTER, content))  # [ID-7]


def make_cluster_card(authority_key: RSAPrivateKey, roster: VerifiedRoster) -> ClusterCard:
    """The public extract of a roster, signed: for clients. [RO-25]

    Raises IdentityError if `authority_key` is not the roster's authority.
    """
    authority = encode_spki(authority_key.public_key())
    if authority != roster.roster.authority:
        raise IdentityError(
            f"the key given is not the authority of the roster {roster.name!r}: only that one signs its cluster card"
        )
    unsigned = ClusterCard(
        authority,
        roster.name,
        roster.epoch,
        roster.client_port,
        roster.client_access,
        roster.roster.members,
        b"",
    )
    content = encode_before(unsigned, "signature")
    return attrs.evolve(unsigned, signature=pss_sign(authority_key, Label.CLUSTER_CARD, content))  # [ID-7]


def _node_id(card: NodeCard) -> NodeID:
    return NodeID.of(card.sk, card.id_size)


# ---- everybody checks --------------------------------------------------------


def verify_roster(roster: Roster, *, cluster_id: bytes | None = None) -> VerifiedRoster:
    """Checks a roster against every rule. Spec 3.4.

    `cluster_id` (32 bytes) is that of the cluster that the roster has to be of, if it is known.
    Raises InvalidRoster with the first rule that is broken, EncodeError if the roster was not decoded but made by
    hand and has no encoding.
    """
    content = encode_before(roster, "signature")
    found = _check_authority(roster, Label.ROSTER, content, cluster_id)
    _check_ports(roster)
    members, clients = _check_nodes(roster, roster.members, roster.clients)
    return VerifiedRoster(
        roster,
        found,
        digest(Label.ROSTER_DIGEST, content),
        MappingProxyType(members),
        MappingProxyType(clients),
    )


def verify_cluster_card(card: ClusterCard, *, cluster_id: bytes | None = None) -> VerifiedClusterCard:
    """As `verify_roster`: a roster's rules, but for what a cluster card does not have. Spec 3.5."""  # [RO-26]
    content = encode_before(card, "signature")
    found = _check_authority(card, Label.CLUSTER_CARD, content, cluster_id)
    members, _ = _check_nodes(card, card.members, ())
    return VerifiedClusterCard(card, found, MappingProxyType(members))


def _check_authority(document: Roster | ClusterCard, label: Label, content: bytes, cluster_id: bytes | None) -> bytes:
    """The ClusterID of a document that its authority has signed, which is `cluster_id` unless that is None."""
    try:
        authority = decode_spki(document.authority)  # [RO-10]
    except IdentityError as exc:
        raise InvalidRoster(RosterRule.AUTHORITY, document, f"its authority is {exc}") from exc
    found = cluster_id_of(document.authority)
    if cluster_id is not None and found != cluster_id:  # [RO-11]
        raise InvalidRoster(
            RosterRule.CLUSTER, document, f"it is of the cluster {found.hex()}, {cluster_id.hex()} is expected"
        )
    try:
        pss_verify(authority, label, content, document.signature)  # [RO-12]
    except IdentityError as exc:
        raise InvalidRoster(RosterRule.SIGNATURE, document, f"it has {exc}") from exc
    return found


def _check_ports(roster: Roster) -> None:
    if roster.cluster_port == roster.client_port:  # [RO-13]
        raise InvalidRoster(RosterRule.PORTS, roster, f"both ports are {roster.client_port}")


def _check_nodes(
    document: Roster | ClusterCard, members: tuple[Member, ...], clients: tuple[NodeCard, ...]
) -> tuple[dict[NodeID, VerifiedMember], dict[NodeID, VerifiedCard]]:
    """The rules about members and clients, those that cost a signature last. [RO-23] [RO-24]"""
    _check_hosts(document, members)
    cards = (*(member.card for member in members), *clients)
    _check_keys(document, cards)
    ids = [_node_id(card) for card in cards]
    _check_order(document, RosterRule.MEMBER_ORDER, ids[: len(members)])  # [RO-18]
    _check_order(document, RosterRule.CLIENT_ORDER, ids[len(members) :])  # [RO-19]
    _check_distinct(document, RosterRule.NODE_ID, ids)  # [RO-20]
    _check_distinct(document, RosterRule.NAME, [card.name for card in cards])  # [RO-21]
    try:
        verified = [verify_card(card) for card in cards]  # [RO-22]
    except IdentityError as exc:
        raise InvalidRoster(RosterRule.CARD, document, str(exc)) from exc
    return (
        {card.node_id: VerifiedMember(card, member.host) for card, member in zip(verified, members, strict=False)},
        {card.node_id: card for card in verified[len(members) :]},
    )


def _check_hosts(document: Roster | ClusterCard, members: tuple[Member, ...]) -> None:
    for member in members:
        try:
            parse_host(member.host)  # [RO-14]
        except IdentityError as exc:
            raise InvalidRoster(RosterRule.HOST, document, f"the host of {member.card.name!r}: {exc}") from exc
    _check_distinct(document, RosterRule.HOST_TWICE, [member.host for member in members])  # [RO-15]


def _check_keys(document: Roster | ClusterCard, cards: tuple[NodeCard, ...]) -> None:
    """Sizes of NodeIDs, and that no key is used twice.

    A key is compared by its SPKI: of two that are valid, the moduli are equal if and only if the SPKIs are.
    """
    for card in cards:
        if card.id_size != cards[0].id_size:  # [RO-16]
            raise InvalidRoster(
                RosterRule.ID_SIZE,
                document,
                f"the NodeID of {card.name!r} has {card.id_size} bytes, "
                f"that of {cards[0].name!r} has {cards[0].id_size}",
            )
    owners = {document.authority: "the authority's"}
    for card in cards:
        for which, spki in (("sk", card.sk), ("ck", card.ck)):
            if spki in owners:  # [RO-17] [ID-3]
                raise InvalidRoster(
                    RosterRule.MODULUS, document, f"the {which} of {card.name!r} is also {owners[spki]}"
                )
            owners[spki] = f"the {which} of {card.name!r}"


def _check_order(document: Roster | ClusterCard, rule: RosterRule, ids: list[NodeID]) -> None:
    for before, after in itertools.pairwise(ids):
        if after < before:
            raise InvalidRoster(rule, document, f"{after.short}... stands after {before.short}...")


def _check_distinct(document: Roster | ClusterCard, rule: RosterRule, values: Sequence[NodeID] | Sequence[str]) -> None:
    seen: set[NodeID | str] = set()
    for value in values:
        if value in seen:  # byte by byte: two texts of Python are equal if and only if their UTF-8 is [NO-14]
            raise InvalidRoster(rule, document, f"{str(value)!r} stands in it twice")
        seen.add(value)


# ---- what is held, and what is offered ---------------------------------------


def replaces(
    held: VerifiedRoster, offered: VerifiedRoster, *, highest: int | None = None, override: bool = False
) -> bool:
    """Whether to adopt the roster that is offered in place of the one held. Spec 3.7, 3.8, 3.9.

    It is if its epoch is above `highest`, the highest epoch ever adopted (None: that of the one held); with
    `override`, an explicit act of the operator, if it is any other than that of the one held. Nothing else is left out
    for an override. [RO-42] After it `highest` stays what it was, and the caller keeps it.

    False if the two are the same, or the one offered is too old. Raises AnotherCluster if it changes what never
    changes, RosterConflict if it is of the epoch of the one held and says something else, override or not.
    """
    _check_unchanged("authority", held.cluster_id == offered.cluster_id, offered)  # [RO-35]
    if held.epoch == offered.epoch:
        if held.digest != offered.digest:  # [RO-31] [RO-45]
            raise RosterConflict(held.epoch)
        return False
    _check_unchanged("knock", equal(held.knock, offered.knock), offered)  # [RO-35]
    _check_unchanged("id_size", held.id_size == offered.id_size, offered)  # [RO-35]
    _check_unchanged("cluster_port", held.cluster_port == offered.cluster_port, offered)  # [RO-35]
    return override or _newer(held.epoch, offered.epoch, highest)


def cluster_card_replaces(
    held: VerifiedClusterCard, offered: VerifiedClusterCard, *, highest: int | None = None, override: bool = False
) -> bool:
    """As `replaces`, for a client and its cluster card. Of what never changes, only the authority is asked for."""
    _check_unchanged("authority", held.cluster_id == offered.cluster_id, offered)  # [RO-27]
    if held.epoch == offered.epoch:
        if encode_before(held.card, "signature") != encode_before(offered.card, "signature"):  # [RO-30]
            raise RosterConflict(held.epoch)
        return False
    return override or _newer(held.epoch, offered.epoch, highest)  # [RO-29]


def _newer(held: int, offered: int, highest: int | None) -> bool:
    return offered > max(held, highest or 0)  # [RO-33] [RO-34]


def _check_unchanged(field: str, unchanged: bool, offered: VerifiedRoster | VerifiedClusterCard) -> None:
    if not unchanged:
        raise AnotherCluster(field, f"{offered.name!r}, epoch {offered.epoch}, differs from what is held")
