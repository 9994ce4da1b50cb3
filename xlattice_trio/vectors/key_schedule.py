"""The formulas of Spec 5.4, from their inputs to the keys of three generations.

What comes out is held against the second maker's formulas and against the known answers of Spec 5.17.
"""

from collections.abc import Iterator

from xlattice_trio.crypto import Label, digest, encode_spki
from xlattice_trio.handshake import key_schedule as ks
from xlattice_trio.testing import forge
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Area, Case, Json, Op
from xlattice_trio.vectors.schema import array, data, obj

_GENERATIONS = 3
_REPLY_SIZE = 1216
_SALT = slice(4, 36)  # of a HelloReply frame


def _hex(values: dict[str, bytes]) -> Json:
    return {name: value.hex() for name, value in values.items()}


# ---- the operation -----------------------------------------------------------


def key_schedule(given: Json, _fixtures: Fixtures) -> Json:
    """Every key, and every value on the way to it."""
    value = {name: bytes.fromhex(digits) for name, digits in given.items()}
    hello, reply, key1 = value["hello_frame"], value["reply_frame"], value["key1"]
    th = ks.th(hello, reply)
    prk = ks.prk(th, value["key2"], key1, value["x25519_secret"], value["mlkem_secret"])
    return {
        **_hex(
            {
                "k_mac": ks.k_mac(value["ck_spki"], value["knock"]),
                "k_hello": ks.k_hello(key1),
                "hello_digest": ks.hello_digest(hello),
                "reply_salt": digest(Label.REPLY_SALT, hello, reply[_SALT]),
                "k_reply": ks.k_reply(hello, reply[_SALT], key1),
                "th": th,
                "prk": prk,
                "exporter": ks.exporter(prk),
            }
        ),
        "i2r": _generations(ks.direction_secret(prk, Label.I2R)),
        "r2i": _generations(ks.direction_secret(prk, Label.R2I)),
    }


def _generations(secret: bytes) -> list[dict[str, str]]:
    found = []
    for _ in range(_GENERATIONS):
        generation = ks.generation(secret)
        found.append(_hex({"secret": secret, "key": generation.key, "iv": generation.iv}))
        secret = generation.next_secret
    return found


_GENERATION = obj({"secret": data(32), "key": data(32), "iv": data(12)})
OPS = {
    "key_schedule": Op(
        key_schedule,
        input=obj(
            {
                "ck_spki": data(),
                "knock": data(),
                "hello_frame": data(),
                "reply_frame": data(),
                "key1": data(32),
                "key2": data(32),
                "x25519_secret": data(32),
                "mlkem_secret": data(32),
            }
        ),
        output=obj(
            {
                "k_mac": data(32),
                "k_hello": data(32),
                "hello_digest": data(32),
                "reply_salt": data(32),
                "k_reply": data(32),
                "th": data(32),
                "prk": data(32),
                "exporter": data(32),
                "i2r": array(_GENERATION),
                "r2i": array(_GENERATION),
            }
        ),
    )
}


def second_reading(given: Json) -> Json:
    """The same from the second maker's formulas."""
    value = {name: bytes.fromhex(digits) for name, digits in given.items()}
    hello, reply, key1 = value["hello_frame"], value["reply_frame"], value["key1"]
    salted = forge.h("reply-salt", hello, reply[_SALT])
    secrets = forge.secrets_of(hello, reply, value["key2"], key1, value["x25519_secret"], value["mlkem_secret"])
    directions: dict[str, Json] = {}
    for name, secret in (("i2r", secrets.i2r), ("r2i", secrets.r2i)):
        directions[name] = []
        for _ in range(_GENERATIONS):
            keys = {"secret": secret, "key": forge.expand(secret, "key"), "iv": forge.expand(secret, "iv", 12)}
            directions[name].append(_hex(keys))
            secret = forge.expand(secret, "rekey")
    return {
        **_hex(
            {
                "k_mac": forge.h("hello-mac", value["ck_spki"], value["knock"]),
                "k_hello": forge.expand(forge.mac_of(bytes(32), key1), "hello"),
                "hello_digest": forge.h("hello-digest", hello),
                "reply_salt": salted,
                "k_reply": forge.expand(forge.mac_of(salted, key1), "hello-reply"),
                "th": secrets.th,
                "prk": secrets.prk,
                "exporter": secrets.exporter,
            }
        ),
        **directions,
    }


# ---- cases -------------------------------------------------------------------

_SALT_OF_5_17 = bytes(range(0x40, 0x60))
_KNOWN: dict[str, dict[tuple[str | int, ...], str]] = {
    "cluster-port": {
        ("k_mac",): "d9be065e03cb417ef9a5a24feef1142667146fe7f5fe9b5a0b3b90d3c016950f",
        ("k_hello",): "5c1e06d2539e844626b8f02c06a6f101ecc02dbd93c70874ddd597979f4d977f",
        ("th",): "7c515e27f720bbd3ca85731f80ce253d96ecc173d3c40759e2ff8bcab2d2444f",
        ("prk",): "91f70b1a21fbc5bc1c55d4634a748a2356c7f262cefa7458ed571a8c951380a7",
        ("i2r", 0, "secret"): "aeacbc2ec1eddf8c2a5f479be89e3747a2bc334dc106ae6a26a7dcce22d64960",
        ("r2i", 0, "secret"): "074d4732771c67f6a8df4f3c5536f4dd9503b9ab5f866723fdb8e8f13e02c1c1",
        ("exporter",): "deb9f7f45f39431ddb6b5481db7d98f08e9271e8e65eb8f92305f680e70356f2",
        ("i2r", 0, "key"): "9eab60a4029be6759555c848d04842468bd11551e1fdc9483a9e0428fb0c6bbe",
        ("i2r", 0, "iv"): "afbf2a83e93f0d3170cddb89",
        ("i2r", 1, "secret"): "45b057fbb66ed1177b78ab0b7c2cd8b3722f4868ffb62ffc8e25c2ac15814e4d",
    },
    "client-port": {
        ("k_mac",): "5216c121d35a9a984927b91fabc8801893a07d7b2ad137ff49107234e4900258",
        ("reply_salt",): "5041e22d659823ad9de24f22462f2991ae9f4f0f9a3f7af3b19a071e16204510",
        ("k_reply",): "608ceb4b8e177eb27fccff3c856b195114ac2f78271f33b2bb20b30cb309a9e1",
    },
}
_CKS = {
    2048: ("alpha-ck", "beta-ck"),
    3072: ("alpha-3072-ck", "beta-3072-ck"),
    4096: ("alpha-4096-ck", "beta-4096-ck"),
}
_HELLO_WITHOUT_CK = 1960 - 38  # and the SPKI has 38 bytes more than the modulus
_REQUIREMENTS = ("HS-5", "NO-23", "NO-25", "SE-15", "SE-19", "SE-20")


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield _known_answers("cluster-port", "All values of section 5.17 but those of K_reply.", bytes(32), bytes(32))
    yield _known_answers("client-port", "Those of K_reply: the HelloReply frame has its salt.", b"", _SALT_OF_5_17)
    for bits, cks in _CKS.items():
        for port, knock_size in (("cluster-port", 32), ("client-port", 0)):
            for ck in cks:
                name = f"{bits}/{port}/{ck}"
                spki = encode_spki(fixtures.keys[ck].public_key())
                comment = f"A ck of {bits} bits; everything else looks random."
                yield _case(name, comment, _inputs(name, spki, knock_size))
    for name, comment, changes in _EDGES:
        given = _inputs("edge", encode_spki(fixtures.keys["alpha-ck"].public_key()), 32)
        yield _case(f"edge/{name}", comment, given | _hex(changes))


_EDGES: list[tuple[str, str, dict[str, bytes]]] = [
    ("zero-secrets", "Both keys and both secrets are zeros: the formulas refuse nothing.", {
        "key1": bytes(32), "key2": bytes(32), "x25519_secret": bytes(32), "mlkem_secret": bytes(32),
    }),
    ("ones", "Both keys and both secrets are bytes ff.", {
        "key1": b"\xff" * 32, "key2": b"\xff" * 32, "x25519_secret": b"\xff" * 32, "mlkem_secret": b"\xff" * 32,
    }),
    ("equal-keys", "key1 and key2 are equal, and the two secrets are.", {
        "key1": b"\x01" * 32, "key2": b"\x01" * 32, "x25519_secret": b"\x02" * 32, "mlkem_secret": b"\x02" * 32,
    }),
]  # fmt: skip


def _case(name: str, comment: str, given: Json) -> Case:
    return Case(
        name=f"key-schedule/{name}",
        op="key_schedule",
        requirements=_REQUIREMENTS,
        comment=comment,
        input=given,
        expected=second_reading(given),
    )


def _known_answers(port: str, comment: str, knock: bytes, salt: bytes) -> Case:
    given = _hex(
        {
            "ck_spki": bytes(294),
            "knock": knock,
            "hello_frame": bytes(2216),
            "reply_frame": bytes(4) + salt + bytes(1180),
            "key1": bytes(range(0x20)),
            "key2": bytes(range(0x20, 0x40)),
            "x25519_secret": b"\xaa" * 32,
            "mlkem_secret": b"\xbb" * 32,
        }
    )
    case = _case(f"known-answers/{port}", comment, given)
    for path, digits in _KNOWN[port].items():
        value: Json = case.expected
        for step in path:
            value = value[step]
        assert value == digits, path
    return case


def _inputs(name: str, spki: bytes, knock_size: int) -> Json:
    sizes = {
        "knock": knock_size,
        "hello_frame": _HELLO_WITHOUT_CK + len(spki),
        "reply_frame": _REPLY_SIZE,
        "key1": 32,
        "key2": 32,
        "x25519_secret": 32,
        "mlkem_secret": 32,
    }
    return {"ck_spki": spki.hex()} | _hex({key: drawn(f"key-schedule/{name}/{key}", n) for key, n in sizes.items()})


AREA = Area("key_schedule", "The formulas of section 5.4, with every value on the way", OPS, cases)
