"""The formulas, against the specification's known answers and against each other."""

import hashlib
import hmac
from collections.abc import Callable

import pytest

from xlattice_trio.crypto import Label, digest, hkdf_expand, hkdf_extract
from xlattice_trio.handshake import key_schedule as ks
from xlattice_trio.handshake.outcome import SessionSecrets
from xlattice_trio.session.records import Sealer
from xlattice_trio.testing.forge import expand, h, label, mac_of
from xlattice_trio.wire.messages import RecordType

KEY1, KEY2, SALT = bytes(range(0x20)), bytes(range(0x20, 0x40)), bytes(range(0x40, 0x60))
SPKI, KNOCK, HELLO, REPLY = bytes(294), bytes(32), bytes(2216), bytes(1216)


def th() -> bytes:
    return ks.th(HELLO, REPLY)


def prk() -> bytes:
    return ks.prk(th(), KEY2, KEY1, b"\xaa" * 32, b"\xbb" * 32)


def i2r() -> bytes:
    return ks.direction_secret(prk(), Label.I2R)


def confirm() -> bytes:
    return bytes(Sealer(i2r()).seal(RecordType.CONFIRM, b"", 0.0))


# Spec 5.17, in its order
KNOWN: list[tuple[Callable[[], bytes], str]] = [
    (lambda: ks.k_mac(SPKI, KNOCK), "d9be065e03cb417ef9a5a24feef1142667146fe7f5fe9b5a0b3b90d3c016950f"),
    (lambda: ks.k_mac(SPKI, b""), "5216c121d35a9a984927b91fabc8801893a07d7b2ad137ff49107234e4900258"),
    (lambda: ks.k_hello(KEY1), "5c1e06d2539e844626b8f02c06a6f101ecc02dbd93c70874ddd597979f4d977f"),
    (
        lambda: digest(Label.REPLY_SALT, HELLO, SALT),
        "5041e22d659823ad9de24f22462f2991ae9f4f0f9a3f7af3b19a071e16204510",
    ),
    (lambda: ks.k_reply(HELLO, SALT, KEY1), "608ceb4b8e177eb27fccff3c856b195114ac2f78271f33b2bb20b30cb309a9e1"),
    (th, "7c515e27f720bbd3ca85731f80ce253d96ecc173d3c40759e2ff8bcab2d2444f"),
    (prk, "91f70b1a21fbc5bc1c55d4634a748a2356c7f262cefa7458ed571a8c951380a7"),
    (i2r, "aeacbc2ec1eddf8c2a5f479be89e3747a2bc334dc106ae6a26a7dcce22d64960"),
    (
        lambda: ks.direction_secret(prk(), Label.R2I),
        "074d4732771c67f6a8df4f3c5536f4dd9503b9ab5f866723fdb8e8f13e02c1c1",
    ),
    (lambda: ks.exporter(prk()), "deb9f7f45f39431ddb6b5481db7d98f08e9271e8e65eb8f92305f680e70356f2"),
    (lambda: ks.generation(i2r()).key, "9eab60a4029be6759555c848d04842468bd11551e1fdc9483a9e0428fb0c6bbe"),
    (lambda: ks.generation(i2r()).iv, "afbf2a83e93f0d3170cddb89"),
    (lambda: ks.generation(i2r()).next_secret, "45b057fbb66ed1177b78ab0b7c2cd8b3722f4868ffb62ffc8e25c2ac15814e4d"),
    (confirm, "0300001106dcd06db54bf4c8bd95a50519461f7711"),
    # Spec 1.5
    (lambda: Label.NODE_ID.before(b""), "786c61747469636532206e6f64652d696400"),
    (lambda: digest(Label.NODE_ID), "de40357b9175fba09b600b111cc6f4586dda38ac407680c97eaf7de8dda17fa4"),
    (
        lambda: hkdf_expand(hkdf_extract(b"", KEY1), Label.HELLO, 32),
        "5c1e06d2539e844626b8f02c06a6f101ecc02dbd93c70874ddd597979f4d977f",
    ),
]


@pytest.mark.parametrize(("formula", "value"), KNOWN)
@pytest.mark.spec("HS-5", "NO-23", "NO-25", "SE-15")
def test_formula_gives_the_known_answer(formula: Callable[[], bytes], value: str) -> None:
    assert formula().hex() == value


@pytest.mark.spec("HS-5")
def test_formulas_agree_with_a_second_reading_on_inputs_that_all_differ() -> None:
    spki, knock, hello, reply, salt = b"p" * 294, b"k" * 32, b"h" * 2216, b"r" * 1216, b"s" * 32
    key1, key2, dh, kem = b"1" * 32, b"2" * 32, b"x" * 32, b"m" * 32
    assert ks.k_mac(spki, knock) == h("hello-mac", spki + knock)
    assert ks.k_reply(hello, salt, key1) == expand(mac_of(h("reply-salt", hello + salt), key1), "hello-reply")
    assert ks.hello_digest(hello) == h("hello-digest", hello)
    assert ks.th(hello, reply) == h("transcript", hello + reply)
    root = mac_of(h("transcript", hello + reply), key2 + key1 + dh + kem)
    assert ks.prk(ks.th(hello, reply), key2, key1, dh, kem) == root
    secrets = SessionSecrets.of(root)
    assert (secrets.i2r, secrets.r2i, secrets.exporter) == tuple(expand(root, n) for n in ("i2r", "r2i", "exporter"))
    generation = ks.generation(secrets.r2i)
    assert generation.key == expand(secrets.r2i, "key")
    assert generation.iv == expand(secrets.r2i, "iv", 12)
    assert generation.next_secret == expand(secrets.r2i, "rekey")


@pytest.mark.spec("NO-30")
def test_keys_do_not_show() -> None:
    secrets = SessionSecrets(b"secret-i", b"secret-r", b"secret-e")
    generation = ks.generation(bytes(32))
    assert "secret-" not in repr(secrets)
    assert repr(generation.key) not in repr(generation)


# Spec 1.4, in its order
LABELS = {
    "signed": ["hello-signature", "node-card", "roster", "cluster-card"],
    "hashed": ["node-id", "cluster-id", "hello-mac", "hello-digest", "reply-salt", "transcript", "roster-digest"],
    "expanded": ["hello", "hello-reply", "i2r", "r2i", "exporter", "key", "iv", "rekey"],
}


@pytest.mark.spec("NO-24")
def test_labels_are_a_closed_table() -> None:
    assert [(x.spelling, x.use) for x in Label] == [(name, use) for use, names in LABELS.items() for name in names]
    for x in Label:
        assert x.bytes == label(x.spelling) == b"xlattice2 " + x.spelling.encode()
        assert x.name == x.spelling.upper().replace("-", "_")


@pytest.mark.spec("NO-23", "NO-25")
def test_what_is_hashed_has_a_zero_byte_behind_its_label_and_what_is_expanded_has_none() -> None:
    assert digest(Label.ROSTER_DIGEST, b"ab", b"c") == hashlib.sha256(b"xlattice2 roster-digest\0abc").digest()
    assert hkdf_expand(b"p" * 32, Label.IV, 12) == hmac.digest(b"p" * 32, b"xlattice2 iv\x01", "sha256")[:12]
    assert hkdf_extract(b"", b"ikm") == hmac.digest(bytes(32), b"ikm", "sha256")
