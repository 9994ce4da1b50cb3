"""The vectors of the handshake: each refused one has one thing wrong, by a reading of the checks that stops at none.

`faults` makes every check of Spec 5.7 that it can, from byte offsets and apart from all others, where the responder
stops at the first that fails. What a vector says of itself, the implementation and this reading agree on.
"""

import functools
from collections.abc import Iterator
from typing import Any

import pytest

from xlattice_trio import crypto
from xlattice_trio.crypto import Label
from xlattice_trio.errors import DecodeError, IdentityError
from xlattice_trio.testing.forge import expand, h, mac_of
from xlattice_trio.vectors import run
from xlattice_trio.vectors.fixtures import Fixtures, make
from xlattice_trio.vectors.model import Vector
from xlattice_trio.wire.codec import decode
from xlattice_trio.wire.messages import HelloBody

TABLE = {("cluster", 1, 1), ("cluster", 1, 2), ("client", 2, 2), ("client", 3, 2)}


@functools.cache
def fixtures() -> Fixtures:
    return Fixtures.read(make())


@functools.cache
def vectors() -> dict[str, Vector]:
    return {vector.name: vector for vector in run.generate_area("handshake")}


def refused_hellos() -> list[Vector]:
    return [
        vector
        for vector in vectors().values()
        if vector.op == "respond" and vector.fail_layer and not any(vector.output["sent"])
    ]


def faults(given: dict[str, Any]) -> Iterator[str]:
    """The requirements that refuse a Hello, as far as one can tell once others do."""
    frame = bytes.fromhex("".join(given["chunks"]))
    roster = fixtures().rosters[given["roster"]]
    keys = [fixtures().keys[name] for name in given["accepted"]]
    k = int.from_bytes(frame[1:4], "big") - 1956
    if frame[0] != 1 or k not in [key.key_size // 8 for key in keys]:
        yield "HS-25"
        return
    if frame[4:8] != b"\0\2" + k.to_bytes(2, "big"):
        yield "HS-26"
        return
    knock = roster.knock if given["port"] == "cluster" else b""
    fitting = [
        key
        for key in keys
        if key.key_size == 8 * k
        and mac_of(h("hello-mac", crypto.encode_spki(key.public_key()), knock), frame[:-16])[:16] == frame[-16:]
    ]
    if not fitting:
        yield "HS-27"
    if h("hello-digest", frame).hex() in given["replay_cache"]:
        yield "HS-28"
    key1 = crypto.oaep_decrypt((fitting or keys)[0], frame[8 : 8 + k], bytes(32))
    key = crypto.aead_key(expand(mac_of(bytes(32), key1), "hello"))
    try:
        plaintext = crypto.open_sealed(key, bytes(12), frame[: 8 + k], frame[8 + k : -16])
    except crypto.NotOpened:
        if fitting:  # a bit that is turned under the mac is turned under the seal as well
            yield "HS-29"
        return
    try:
        body = decode(HelloBody, plaintext)
        crypto.mlkem_public(body.mlkem_ek)
    except (DecodeError, crypto.NoSecret):
        yield "HS-30"
        return
    yield from body_faults(given, body, frame[4 : 8 + k] + plaintext[: 1253 + lengths(body)])


def lengths(body: HelloBody) -> int:
    return len(body.recipient) + len(body.service.encode()) + len(body.initiator)


def body_faults(given: dict[str, Any], body: HelloBody, signed: bytes) -> Iterator[str]:
    own, roster = fixtures().nodes[given["self"]].node_id, fixtures().rosters[given["roster"]]
    if body.recipient != own.value:
        yield "HS-31"
    if body.cluster != roster.cluster_id:
        yield "HS-32"
    anonymous = body.role == 3
    permitted = (given["port"], body.role, body.purpose) in TABLE
    if not permitted or (anonymous and roster.client_access == 2):
        yield "HS-33"
    if body.purpose == 1 and permitted and body.initiator >= own.value:
        yield "HS-34"
    listed = roster.members if body.role == 1 else roster.clients
    if not anonymous and body.initiator not in [node_id.value for node_id in listed]:
        yield "HS-35"
    if body.initiator == own.value:
        yield "HS-36"
    if not anonymous:
        claimed = [node for node in fixtures().nodes.values() if node.node_id.value.startswith(body.initiator)]
        try:
            crypto.pss_verify(claimed[0].card.sk, Label.HELLO_SIGNATURE, signed, body.signature)
        except IdentityError:
            yield "HS-37"
    try:
        crypto.x25519_secret(crypto.x25519_key(bytes.fromhex(given["draws"]["x25519"])), body.x25519)
    except crypto.NoSecret:
        yield "HS-38"


@pytest.mark.spec("HS-19", "HS-20", "HS-21")
def test_every_refused_hello_is_answered_by_the_same_nothing() -> None:
    for vector in refused_hellos():
        assert vector.output == {"sent": [""], "inserted": [], "state": "IGNORED"}, vector.name


def test_every_refused_hello_has_one_thing_wrong() -> None:
    wrong = {vector.name: list(faults(vector.input)) for vector in refused_hellos()}
    # who dials himself is neither lower nor another
    assert wrong.pop("handshake/respond/order/to-itself") == ["HS-34", "HS-36"]
    assert len(wrong) > 200
    assert {name: found for name, found in wrong.items() if found != [vectors()[name].refused_by]} == {}


def test_every_answered_hello_has_nothing_wrong() -> None:
    answered = [vector for vector in vectors().values() if vector.op == "respond" and any(vector.output["sent"])]
    assert len(answered) > 60
    for vector in answered:
        size = 4 + int.from_bytes(bytes.fromhex("".join(vector.input["chunks"]))[1:4], "big")
        hello = "".join(vector.input["chunks"])[: 2 * size]
        known = list(faults(vector.input | {"chunks": [hello]}))
        fallback = "/fallback/" in vector.name  # zeros in the place of key1 here, and a draw there
        assert known == (["HS-29"] if fallback else []), vector.name


def test_refused_vectors_differ_from_their_base_in_what_arrives_or_in_one_thing_of_the_responder() -> None:
    for vector in vectors().values():
        if vector.fail_layer and vector.op == "respond":
            base = vectors()[vector.base or ""]
            changed = {key for key in vector.input if vector.input[key] != base.input.get(key)}
            assert len(changed - {"chunks"}) <= 1, vector.name
            assert base.fail_layer is None


@pytest.mark.spec("HS-19", "HS-59", "HS-52")
def test_nothing_is_sent_at_a_refusal() -> None:
    for vector in vectors().values():
        if vector.fail_layer:
            assert not vector.output["sent"] or vector.output["sent"][-1] == ""


def test_every_check_of_a_hello_is_shown_alone() -> None:
    shown = {vector.refused_by for vector in vectors().values() if vector.fail_layer}
    responder = {f"HS-{number}" for number in range(25, 39)}
    initiator = {f"HS-{number}" for number in (16, 17, 47, 48, 49, 50, 51)}
    assert shown == responder | initiator | {"HS-56", "HS-57", "HS-58", "RO-58"}


def test_the_vectors_of_the_handshake_are_not_too_large() -> None:
    assert sum(len(str(vector.to_json())) for vector in vectors().values()) < 4_000_000
