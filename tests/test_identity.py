"""NodeIDs, node cards and the keys that belong to them. Spec 2."""

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

from xlattice_trio.crypto import Label, RSAPrivateKey, encode_spki, pss_sign, rsa_generate
from xlattice_trio.errors import EncodeError, IdentityError, UsageError
from xlattice_trio.identity.card import check_name, make_card, verify_card
from xlattice_trio.identity.keys import LocalIdentity, generate_identity, local_identity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.testing.identities import test_authority as an_authority
from xlattice_trio.testing.identities import test_client as client
from xlattice_trio.testing.identities import test_identity as identity
from xlattice_trio.testing.identities import test_roster as a_roster
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.messages import NodeCard

# ---- NodeID ------------------------------------------------------------------

SPKI = encode_spki(identity(0).card.sk)


@pytest.mark.spec("ID-18")
def test_node_id_is_the_labelled_hash_of_sk() -> None:
    hashed = hashes.Hash(hashes.SHA256())
    hashed.update(b"xlattice2 node-id\0" + SPKI)
    whole = hashed.finalize()
    assert NodeID.of(SPKI, 32).value == whole
    assert NodeID.of(SPKI, 20).value == whole[:20]


@pytest.mark.parametrize("size", [0, 19, 21, 31, 33])
def test_node_id_has_20_or_32_bytes(size: int) -> None:
    with pytest.raises(IdentityError):
        NodeID.of(SPKI, size)
    with pytest.raises(IdentityError):
        NodeID(bytes(size))


@pytest.mark.spec("ID-19")
@pytest.mark.parametrize("size", [20, 32])
def test_node_id_is_parsed_from_its_text(size: int) -> None:
    node_id = NodeID.of(SPKI, size)
    assert str(node_id) == node_id.value.hex()
    assert NodeID.parse(str(node_id)) == node_id
    assert node_id.short == str(node_id)[:8]
    assert repr(node_id) == f"NodeID(value={node_id})"


@pytest.mark.spec("ID-19")
@pytest.mark.parametrize(
    "text",
    [
        "", "00" * 19, "00" * 21, "00" * 31, "00" * 33, "0" * 39, "0" * 41, "0" * 63, "0" * 65, "AB" * 20, "0g" * 20,
        "ab" * 19 + "A" + "b", " " + "0" * 39, "0" * 39 + "\n", "00" * 20 + "\n", "0x" + "00" * 19, "0 " * 20,
        "\u0661" * 40, ":".join(["00"] * 13) + "00",
    ],
)  # fmt: skip
def test_node_id_is_refused_if_its_text_is_another(text: str) -> None:
    with pytest.raises(IdentityError):
        NodeID.parse(text)


@pytest.mark.spec("NO-1")
def test_node_ids_order_as_unsigned_bytes() -> None:
    values = [bytes(20), bytes(32), bytes(19) + b"\2", b"\1" + bytes(19), b"\1" + bytes(31)]
    values += [b"\x7f" * 20, b"\x80" * 20, b"\x80" * 32, b"\xff" * 20]
    assert sorted(map(NodeID, reversed(values))) == list(map(NodeID, values))
    assert len({NodeID(values[0]), NodeID(bytes(20)), NodeID(values[1])}) == 2


# ---- cards -------------------------------------------------------------------


def sign(card: NodeCard, key: RSAPrivateKey, label: Label = Label.NODE_CARD) -> NodeCard:
    return attrs.evolve(card, signature=pss_sign(key, label, encode_before(card, "signature")))


def evolve(card: NodeCard, changes: dict[str, Any]) -> NodeCard:
    return attrs.evolve(card, **changes)


CARD = identity(0).card.card
SK_PRIV = identity(0).sk_priv
OTHER = identity(1)


@pytest.mark.spec("ID-1", "ID-12")
@pytest.mark.parametrize("id_size", [20, 32])
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_card_of_every_size_is_verified(bits: int, id_size: int) -> None:
    made = identity(0, bits=bits, id_size=id_size)
    card = decode(NodeCard, encode(made.card.card))
    verified = verify_card(card)
    assert verified == made.card
    assert len(card.signature) == bits // 8
    assert verified.name == card.name == made.name == "node-0"
    assert verified.node_id == NodeID.of(card.sk, id_size) == made.node_id
    assert encode_spki(verified.sk) == card.sk
    assert encode_spki(verified.ck) == card.ck


@pytest.mark.spec("ID-1")
def test_sizes_of_sk_and_ck_may_differ() -> None:
    big, small = identity(0, bits=4096), identity(0)
    for sk_priv, ck in [(big.sk_priv, small.card.ck), (small.sk_priv, big.card.ck)]:
        assert encode_spki(verify_card(make_card(name="n", sk_priv=sk_priv, ck=ck)).ck) == encode_spki(ck)


@pytest.mark.spec("ID-23")
@pytest.mark.parametrize(
    "changes",
    [
        {"name": "node-9"},
        {"id_size": 20},
        {"sk": OTHER.card.card.sk},
        {"ck": OTHER.card.card.ck},
        {"serial": 2},
        {"signature": bytes(256)},
        {"signature": OTHER.card.card.signature},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_card_is_refused_when_a_field_was_changed(changes: dict[str, Any]) -> None:
    with pytest.raises(IdentityError):
        verify_card(evolve(CARD, changes))


@pytest.mark.spec("ID-23")
def test_card_is_refused_when_another_key_signed_it() -> None:
    with pytest.raises(IdentityError):
        verify_card(sign(CARD, OTHER.sk_priv))


@pytest.mark.spec("ID-12")
@pytest.mark.parametrize("label", [Label.ROSTER, Label.CLUSTER_CARD, Label.HELLO_SIGNATURE])
def test_card_is_refused_when_signed_under_another_label(label: Label) -> None:
    with pytest.raises(IdentityError):
        verify_card(sign(CARD, SK_PRIV, label))


@pytest.mark.spec("ID-15")
@pytest.mark.parametrize("salt", [0, 20, 31, 33, padding.PSS.MAX_LENGTH])
def test_card_is_refused_when_the_salt_is_not_of_32_bytes(salt: int) -> None:
    message = b"xlattice2 node-card\0" + encode_before(CARD, "signature")
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    with pytest.raises(IdentityError):
        verify_card(attrs.evolve(CARD, signature=SK_PRIV.sign(message, pss, hashes.SHA256())))


@pytest.mark.spec("ID-13")
@pytest.mark.parametrize("size", [0, 255, 257, 384, 512])
def test_card_is_refused_when_the_signature_is_not_as_long_as_the_modulus(size: int) -> None:
    signature = (CARD.signature + bytes(256))[:size] if size <= 256 else bytes(size - 256) + CARD.signature
    with pytest.raises(IdentityError):
        verify_card(attrs.evolve(CARD, signature=signature))


@pytest.mark.spec("ID-14")
def test_card_is_refused_when_the_signature_is_not_below_the_modulus() -> None:
    modulus = SK_PRIV.public_key().public_numbers().n
    # The same signature plus the modulus, where that has room in 256 bytes: it would verify but for the rule.
    for serial in range(64):
        card = sign(attrs.evolve(CARD, serial=serial), SK_PRIV)
        raised = int.from_bytes(card.signature, "big") + modulus
        if raised < 1 << 2048:
            verify_card(card)
            with pytest.raises(IdentityError):
                verify_card(attrs.evolve(card, signature=raised.to_bytes(256, "big")))
            return
    raise AssertionError("no signature was small enough")


def twisted(spki: bytes, twist: Callable[[bytearray], object]) -> bytes:
    data = bytearray(spki)
    twist(data)
    return bytes(data)


def set_byte(i: int, value: int) -> Callable[[bytearray], object]:
    return lambda data: data.__setitem__(i, value)


BAD_KEYS = {
    "even": twisted(SPKI, set_byte(-6, SPKI[-6] ^ 1)),
    "first bit not set": twisted(SPKI, set_byte(33, 0x7F)),
    "exponent 3": twisted(SPKI, set_byte(-1, 3)),
    "one byte less": SPKI[:-1],
    "one byte more": SPKI + b"\0",
    "RSASSA-PSS": twisted(SPKI, set_byte(16, 0x0A)),
    "another tag": twisted(SPKI, set_byte(0, 0x31)),
}


@pytest.mark.spec("ID-9", "ID-21")
@pytest.mark.parametrize("which", ["sk", "ck"])
@pytest.mark.parametrize("bad", BAD_KEYS)
def test_card_is_refused_when_a_key_is_not_in_its_one_encoding(which: str, bad: str) -> None:
    with pytest.raises(IdentityError):
        verify_card(sign(evolve(CARD, {which: BAD_KEYS[bad]}), SK_PRIV))


SK_P = SK_PRIV.private_numbers().p

WEAK_MODULI = {
    "a small factor": 3 * ((1 << 2046) + 1),
    "a square": SK_P * SK_P,
    "a prime of another key": SK_P * OTHER.sk_priv.private_numbers().q,
    "the greatest": (1 << 2048) - 1,
    "the least": (1 << 2047) + 1,
}


@pytest.mark.spec("ID-10")
@pytest.mark.parametrize("weakness", WEAK_MODULI)
def test_card_is_verified_when_its_ck_is_weak(weakness: str) -> None:
    spki = SPKI[:33] + WEAK_MODULI[weakness].to_bytes(256, "big") + SPKI[-5:]
    assert verify_card(sign(attrs.evolve(CARD, ck=spki), SK_PRIV)).card.ck == spki


def next_prime(odd: int) -> int:
    while not all(odd % divisor for divisor in range(3, math.isqrt(odd) + 1, 2)):
        odd += 2
    return odd


@pytest.mark.spec("ID-10")
def test_card_is_verified_when_its_sk_is_weak() -> None:
    """sk is one good prime and many small ones: that makes d easy to compute, and signing has to be done by hand."""
    factors = [SK_P]
    while math.prod(factors).bit_length() < 2030:
        factors.append(next_prime(factors[-1] + 2 if len(factors) > 1 else 3))
    factors.append(next_prime((1 << 2047) // math.prod(factors) | 1))
    n = math.prod(factors)
    assert n.bit_length() == 2048
    card = attrs.evolve(CARD, sk=SPKI[:33] + n.to_bytes(256, "big") + SPKI[-5:])
    by_another_key = int.from_bytes(sign(card, SK_PRIV).signature, "big")
    encoded = pow(by_another_key, 65537, SK_PRIV.public_key().public_numbers().n)
    d = pow(65537, -1, math.prod(factor - 1 for factor in factors))
    verify_card(attrs.evolve(card, signature=pow(encoded, d, n).to_bytes(256, "big")))


@pytest.mark.spec("ID-2", "ID-22")
def test_card_is_refused_when_sk_and_ck_are_one_key() -> None:
    with pytest.raises(IdentityError):
        verify_card(sign(attrs.evolve(CARD, ck=CARD.sk), SK_PRIV))
    with pytest.raises(IdentityError):
        make_card(name="n", sk_priv=SK_PRIV, ck=SK_PRIV.public_key())


@pytest.mark.parametrize("serial", [0, 1, 2**64 - 1])
@pytest.mark.parametrize("name", ["a", "a" * 64, "\u00fc" * 32, "a b/c"])
def test_card_is_made_with_any_name_and_serial(name: str, serial: int) -> None:
    card = make_card(name=name, sk_priv=SK_PRIV, ck=OTHER.card.ck, serial=serial)
    assert (card.name, card.serial) == (name, serial)
    verify_card(card)
    check_name(name)


@pytest.mark.parametrize(
    "changes",
    [
        {"name": ""},
        {"name": "a" * 65},
        {"name": "\u00fc" * 33},
        {"name": "a\n"},
        {"id_size": 21},
        {"serial": -1},
        {"serial": 2**64},
    ],
    ids=repr,
)
def test_card_is_not_made_when_a_value_has_no_encoding(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {"name": "n", "sk_priv": SK_PRIV, "ck": OTHER.card.ck} | changes
    with pytest.raises(EncodeError):
        make_card(**arguments)


@pytest.mark.parametrize("name", ["", "a" * 65, "a\x7f", "\x00"])
def test_name_is_refused_that_no_card_can_carry(name: str) -> None:
    with pytest.raises(EncodeError):
        check_name(name)


def test_verified_cards_are_equal_when_their_cards_are() -> None:
    again = verify_card(decode(NodeCard, encode(CARD)))
    assert again == identity(0).card
    assert hash(again) == hash(identity(0).card)
    assert again != verify_card(make_card(name="node-0", sk_priv=SK_PRIV, ck=identity(0).card.ck))


# ---- local identities --------------------------------------------------------


def test_local_identity_is_made_of_card_and_private_keys() -> None:
    node = identity(0)
    assert local_identity(node.card, node.sk_priv, node.ck_priv) == node


@pytest.mark.spec("ID-29")
@pytest.mark.parametrize(
    ("sk_priv", "ck_priv"),
    [
        (OTHER.sk_priv, identity(0).ck_priv),
        (identity(0).sk_priv, OTHER.ck_priv),
        (identity(0).ck_priv, identity(0).sk_priv),
        (identity(0, bits=3072).sk_priv, identity(0).ck_priv),
    ],
    ids=["another sk", "another ck", "exchanged", "another size"],
)
def test_local_identity_is_refused_when_a_key_is_not_the_cards(sk_priv: RSAPrivateKey, ck_priv: RSAPrivateKey) -> None:
    with pytest.raises(IdentityError):
        local_identity(identity(0).card, sk_priv, ck_priv)


def test_repr_of_a_local_identity_shows_no_private_key() -> None:
    text = repr(identity(0))
    assert "priv" not in text.lower()
    assert str(identity(0).node_id) in text


@pytest.mark.parametrize(("bits", "id_size"), [(2048, 32), (2048, 20), (3072, 32)])
def test_generated_identity_is_new_and_valid(bits: int, id_size: int) -> None:
    node = generate_identity("fresh", bits, id_size)
    assert (node.name, node.card.card.serial, node.card.card.id_size) == ("fresh", 1, id_size)
    assert (node.card.sk.key_size, node.card.ck.key_size) == (bits, bits)
    assert verify_card(node.card.card) == node.card
    assert local_identity(node.card, node.sk_priv, node.ck_priv) == node


def test_generated_identity_has_2048_bits_and_a_long_id_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    keys = iter([identity(0).sk_priv, identity(0).ck_priv])

    def generate(bits: int) -> RSAPrivateKey:
        sizes.append(bits)
        return next(keys)

    monkeypatch.setattr("xlattice_trio.identity.keys.rsa_generate", generate)
    assert generate_identity("n").card.card.id_size == 32
    assert sizes == [2048, 2048]


def test_no_key_is_generated_for_a_name_that_no_card_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xlattice_trio.identity.keys.rsa_generate", lambda _: pytest.fail("a key was generated"))
    with pytest.raises(EncodeError):
        generate_identity("a\n")


@pytest.mark.spec("ID-1")
@pytest.mark.parametrize("bits", [1024, 2047, 8192])
def test_no_key_is_generated_of_another_size(bits: int) -> None:
    with pytest.raises(UsageError):
        rsa_generate(bits)


# ---- the identities for tests ------------------------------------------------


def all_keys(nodes: list[LocalIdentity]) -> list[bytes]:
    return [spki for node in nodes for spki in (node.card.card.sk, node.card.card.ck)]


def test_test_identities_are_the_same_each_time_and_different_from_each_other() -> None:
    nodes = [identity(i) for i in range(40)] + [client(i) for i in range(8)]
    nodes += [identity(i, bits=bits) for i in range(8) for bits in (3072, 4096)]
    keys = all_keys(nodes) + [encode_spki(an_authority(i).public_key()) for i in range(15)]
    assert len(set(keys)) == len(keys)
    assert identity(3) is identity(3)
    assert identity(3, id_size=20).node_id.value == identity(3).node_id.value[:20]
    assert identity(3).name == "node-3"
    assert client(2).name == "client-2"


def test_first_test_identities_have_no_prime_in_common() -> None:
    primes = [
        prime
        for key in [*(identity(i).sk_priv for i in range(16)), *(identity(i).ck_priv for i in range(16))]
        for prime in (key.private_numbers().p, key.private_numbers().q)
    ]
    assert len(set(primes)) == 64


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_last_test_identity_is_there(bits: int) -> None:
    last = 1007 if bits == 2048 else 59
    assert identity(last, bits=bits).card.sk.key_size == bits
    with pytest.raises(IndexError):
        identity(last + 1, bits=bits)


def test_test_roster_is_as_asked_for() -> None:
    roster = a_roster(2, 2, id_size=20, epoch=7, hosts=["b.example", "a.example"], ports=(1, 2))
    assert (roster.epoch, roster.cluster_port, roster.client_port, roster.id_size) == (7, 1, 2, 20)
    assert {member.name: member.host for member in roster.members.values()} == {
        "node-0": "b.example",
        "node-1": "a.example",
    }
    assert {card.name for card in roster.clients.values()} == {"client-0", "client-1"}
