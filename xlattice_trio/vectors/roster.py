"""Rosters and cluster cards: what makes one valid, which replaces which, and whom it admits. Spec 3."""

from collections.abc import Iterator
from typing import Any, TypeVar

import attrs

from xlattice_trio.errors import DecodeError, IdentityError, RosterConflict
from xlattice_trio.handshake.responder import admits
from xlattice_trio.identity.card import verify_card
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.roster import (
    AnotherCluster,
    InvalidRoster,
    RosterRule,
    VerifiedClusterCard,
    VerifiedRoster,
    cluster_card_replaces,
    replaces,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.vectors.fixtures import (
    Fixtures,
    cluster_card_of,
)
from xlattice_trio.vectors.identity import fault_of
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.roster_cards import cluster_card_cases
from xlattice_trio.vectors.roster_maker import Maker, digits
from xlattice_trio.vectors.roster_replace import admits_cases, replace_card_cases, replace_cases
from xlattice_trio.vectors.roster_verify import invalid_rosters, valid_rosters
from xlattice_trio.vectors.schema import array, boolean, data, epoch, name, obj, one_of, or_null
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.messages import ClusterCard, NodeCard, Role, Roster

D = TypeVar("D", Roster, ClusterCard)

# ---- operations --------------------------------------------------------------

_RULES = {
    RosterRule.AUTHORITY: (FailLayer.DECODE, "RO-10"),
    RosterRule.CLUSTER: (FailLayer.MEMBERSHIP, "RO-11"),
    RosterRule.SIGNATURE: (FailLayer.SIGNATURE, "RO-12"),
    RosterRule.PORTS: (FailLayer.DECODE, "RO-13"),
    RosterRule.HOST: (FailLayer.DECODE, "RO-14"),
    RosterRule.HOST_TWICE: (FailLayer.DECODE, "RO-15"),
    RosterRule.ID_SIZE: (FailLayer.DECODE, "RO-16"),
    RosterRule.MODULUS: (FailLayer.DECODE, "RO-17"),
    RosterRule.MEMBER_ORDER: (FailLayer.DECODE, "RO-18"),
    RosterRule.CLIENT_ORDER: (FailLayer.DECODE, "RO-19"),
    RosterRule.NODE_ID: (FailLayer.DECODE, "RO-20"),
    RosterRule.NAME: (FailLayer.DECODE, "RO-21"),
}


def _decoded(cls: type[D], encoded: str) -> D:
    try:
        return decode(cls, bytes.fromhex(encoded))
    except DecodeError as exc:
        by = "RO-9" if cls is Roster else "RO-26"
        raise Refused(FailLayer.DECODE, by, where=exc.where, problem=str(exc)) from exc


def _refused(document: Roster | ClusterCard, exc: InvalidRoster) -> Refused:
    """What the rule that is broken says."""
    cards = [member.card for member in document.members]
    if isinstance(document, Roster):
        cards += document.clients
    if exc.rule is RosterRule.CARD:
        layer, by = next(fault_of(card) for card in cards if not _verifies(card))[0], ["RO-22"]
    else:
        layer, one = _RULES[exc.rule]
        by = [one]
    if exc.rule is RosterRule.MODULUS and len({card.sk for card in cards}) < len(cards):
        by.append("RO-20")  # who has the same sk has the same NodeID
    if isinstance(document, ClusterCard):
        by = ["RO-26"]
    return Refused(layer, *by, problem=str(exc))


def _verifies(card: NodeCard) -> bool:
    try:
        verify_card(card)
    except IdentityError:
        return False
    return True


def _verified_roster(encoded: str, cluster_id: bytes | None) -> VerifiedRoster:
    document = _decoded(Roster, encoded)
    try:
        return verify_roster(document, cluster_id=cluster_id)
    except InvalidRoster as exc:
        raise _refused(document, exc) from exc


def _verified_card(encoded: str, cluster_id: bytes | None) -> VerifiedClusterCard:
    document = _decoded(ClusterCard, encoded)
    try:
        return verify_cluster_card(document, cluster_id=cluster_id)
    except InvalidRoster as exc:
        raise _refused(document, exc) from exc


def _known(given: Json) -> bytes | None:
    return None if given["cluster_id"] is None else bytes.fromhex(given["cluster_id"])


def _roster(given: Json, _fixtures: Fixtures) -> Json:
    roster = _verified_roster(given["bytes"], _known(given))
    return {
        "cluster_id": roster.cluster_id.hex(),
        "digest": roster.digest.hex(),
        "epoch": digits(roster.epoch),
        "members": [str(node_id) for node_id in roster.members],
        "clients": [str(node_id) for node_id in roster.clients],
    }


def _cluster_card(given: Json, _fixtures: Fixtures) -> Json:
    card = _verified_card(given["bytes"], _known(given))
    return {
        "cluster_id": card.cluster_id.hex(),
        "epoch": digits(card.epoch),
        "members": [str(node_id) for node_id in card.members],
    }


def _cluster_card_of(given: Json, fixtures: Fixtures) -> Json:
    key, salt = fixtures.keys[given["key"]], bytes.fromhex(given["salt"])
    return {"bytes": encode(cluster_card_of(fixtures.rosters[given["roster"]], key, salt)).hex()}


@attrs.define
class _Holder:
    """What is held, and the highest epoch; `refusal` is why the last step was refused, if it was."""

    held: Any
    highest: int
    steps: list[Json] = attrs.Factory(list)
    refusal: Refused | None = None

    def step(self, verdict: str, refusal: Refused | None = None) -> None:
        self.refusal = refusal
        self.steps.append({"verdict": verdict, "epoch": digits(self.held.epoch), "highest": digits(self.highest)})

    def take(self, offered: Any) -> None:
        self.held = offered
        self.highest = max(self.highest, offered.epoch)

    def result(self) -> Json:
        output = {"steps": self.steps}
        if self.refusal is not None:
            raise Refused(self.refusal.layer, *self.refusal.by, output=output, problem=str(self.refusal))
        return output


def _replace(given: Json, _fixtures: Fixtures) -> Json:
    held = _verified_roster(given["in_force"], None)
    node = _Holder(held, held.epoch)
    for step in given["steps"]:
        try:
            offered = _verified_roster(step["roster"], node.held.cluster_id)
            override = step["from"] == "override"
            if replaces(node.held, offered, highest=node.highest, override=override):
                node.take(offered)
                node.step("adopted")
            else:
                node.step("kept")
        except Refused as exc:
            node.step("refused", exc)
        except AnotherCluster as exc:
            node.step("refused", Refused(FailLayer.MEMBERSHIP, "RO-35", problem=str(exc)))
        except RosterConflict as exc:
            node.step("conflict", Refused(FailLayer.MEMBERSHIP, "RO-45", "RO-67", problem=str(exc)))
    return node.result()


def _replace_card(given: Json, _fixtures: Fixtures) -> Json:
    held = _verified_card(given["held"], None)
    client = _Holder(held, held.epoch)
    for step in given["steps"]:
        try:
            offered = _verified_card(step["cluster_card"], None)
            override = step["from"] == "override"
            if cluster_card_replaces(client.held, offered, highest=client.highest, override=override):
                client.take(offered)
                client.step("taken")
            elif offered.epoch == client.held.epoch:
                client.step("kept")
            else:
                client.step("refused", Refused(FailLayer.MEMBERSHIP, "RO-29", "RO-64"))
        except Refused as exc:
            client.step("refused", exc)
        except AnotherCluster as exc:
            client.step("refused", Refused(FailLayer.MEMBERSHIP, "RO-27", problem=str(exc)))
        except RosterConflict as exc:
            client.step("refused", Refused(FailLayer.MEMBERSHIP, "RO-30", problem=str(exc)))
    return client.result()


def _admits(given: Json, _fixtures: Fixtures) -> Json:
    roster = _verified_roster(given["roster"], None)
    role = Role[given["role"].upper()]
    card = None
    if given["initiator"] is not None:
        card = verify_card(decode(NodeCard, bytes.fromhex(given["initiator"])))
    admitted = admits(roster, role, card)
    if given["at"] == "I":
        admitted = admitted and NodeID(bytes.fromhex(given["recipient"])) in roster.members
    return {"admits": admitted}


_CHECKED = {"bytes": data(), "cluster_id": or_null(data(32))}


def _steps(*verdicts: str) -> Json:
    step = obj({"verdict": one_of(*verdicts), "epoch": epoch(), "highest": epoch()})
    return obj({"steps": array(step, 1)})


_ROSTER_STEP = obj({"from": one_of("peer", "operator", "override"), "roster": data()})
_CARD_STEP = obj({"from": one_of("user", "override"), "cluster_card": data()})
_ROSTER_STEPS = _steps("adopted", "kept", "conflict", "refused")
_CARD_STEPS = _steps("taken", "kept", "refused")
OPS = {
    "roster": Op(
        _roster,
        obj(_CHECKED),
        obj(
            {
                "cluster_id": data(32),
                "digest": data(32),
                "epoch": epoch(),
                "members": array(data(), 1),
                "clients": array(data()),
            }
        ),
    ),
    "cluster_card": Op(
        _cluster_card, obj(_CHECKED), obj({"cluster_id": data(32), "epoch": epoch(), "members": array(data(), 1)})
    ),
    "cluster_card_of": Op(
        _cluster_card_of, obj({"roster": name(), "key": name(), "salt": data(32)}), obj({"bytes": data()})
    ),
    "replace": Op(_replace, obj({"in_force": data(), "steps": array(_ROSTER_STEP, 1)}), _ROSTER_STEPS, _ROSTER_STEPS),
    "replace_card": Op(_replace_card, obj({"held": data(), "steps": array(_CARD_STEP, 1)}), _CARD_STEPS, _CARD_STEPS),
    "admits": Op(
        _admits,
        obj(
            {
                "roster": data(),
                "at": one_of("R", "I"),
                "role": one_of("member", "client", "anonymous"),
                "initiator": or_null(data()),
                "recipient": data(),
            }
        ),
        obj({"admits": boolean()}),
    ),
}

# ---- cases -------------------------------------------------------------------


def cases(fixtures: Fixtures) -> Iterator[Case]:
    maker = Maker(fixtures)
    yield from valid_rosters(maker)
    yield from invalid_rosters(maker)
    yield from cluster_card_cases(maker)
    yield from replace_cases(maker)
    yield from replace_card_cases(maker)
    yield from admits_cases(maker)


AREA = Area("roster", "Rosters and cluster cards: verifying, replacing, admitting (3)", OPS, cases)
