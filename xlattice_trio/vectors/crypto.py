"""The primitives as this protocol uses them: hashes, keys and ciphers. Spec 1.4 to 1.6, 2.2, 2.3, 5.4.

Whatever can be had in a second way is: known answers of the standards, formulas written down once more, arithmetic of
our own where the library is what is tested.
"""

import hashlib
import hmac
from collections.abc import Iterator

from xlattice_trio import crypto
from xlattice_trio.crypto import Label, NoSecret, NotOpened, RSAPrivateKey
from xlattice_trio.errors import IdentityError
from xlattice_trio.testing import forge
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.crypto_case import LABELS, case, flipped, labels_for, refused
from xlattice_trio.vectors.crypto_rsa import oaep_cases, pss_cases, public_key_cases
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.schema import data, integer, name, obj, one_of

# ---- operations --------------------------------------------------------------


def _hash(given: Json, _fixtures: Fixtures) -> Json:
    return {"hash": crypto.digest(LABELS[given["label"]], bytes.fromhex(given["content"])).hex()}


def _extract(given: Json, _fixtures: Fixtures) -> Json:
    return {"prk": crypto.hkdf_extract(bytes.fromhex(given["salt"]), bytes.fromhex(given["ikm"])).hex()}


def _expand(given: Json, _fixtures: Fixtures) -> Json:
    return {"bytes": crypto.hkdf_expand(bytes.fromhex(given["prk"]), LABELS[given["label"]], given["size"]).hex()}


def _sealing(given: Json) -> tuple[crypto.AEADKey, bytes, bytes]:
    key, nonce, aad = (bytes.fromhex(given[part]) for part in ("key", "nonce", "aad"))
    return crypto.aead_key(key), nonce, aad


def _seal(given: Json, _fixtures: Fixtures) -> Json:
    key, nonce, aad = _sealing(given)
    plaintext = bytes.fromhex(given["plaintext"])
    sealed = crypto.seal(key, nonce, aad, plaintext)
    if crypto.open_sealed(key, nonce, aad, sealed) != plaintext:
        raise Refused(FailLayer.RECORD, problem="it does not open to what was sealed")
    return {"sealed": sealed.hex()}


def _open(given: Json, _fixtures: Fixtures) -> Json:
    key, nonce, aad = _sealing(given)
    try:
        return {"plaintext": crypto.open_sealed(key, nonce, aad, bytes.fromhex(given["sealed"])).hex()}
    except NotOpened:
        raise Refused(FailLayer.RECORD, "NO-26", "NO-27") from None


def _x25519(given: Json, _fixtures: Fixtures) -> Json:
    key = crypto.x25519_key(bytes.fromhex(given["private"]))
    try:
        secret = crypto.x25519_secret(key, bytes.fromhex(given["public"]))
    except NoSecret:
        raise Refused(FailLayer.DECODE, "HS-7", "HS-8") from None
    return {"share": crypto.x25519_share(key).hex(), "secret": secret.hex()}


def _mlkem(given: Json, _fixtures: Fixtures) -> Json:
    key = crypto.mlkem_key(bytes.fromhex(given["seed"]))
    ek = crypto.mlkem_ek(key)
    secret, ciphertext = deterministic.mlkem_encapsulate(ek, bytes.fromhex(given["m"]))
    if crypto.mlkem_decapsulate(key, ciphertext) != secret:
        raise Refused(FailLayer.DECODE, problem="it does not decapsulate to what was encapsulated")
    return {"ek": ek.hex(), "ciphertext": ciphertext.hex(), "secret": secret.hex()}


def _mlkem_decapsulate(given: Json, _fixtures: Fixtures) -> Json:
    key = crypto.mlkem_key(bytes.fromhex(given["seed"]))
    return {"secret": crypto.mlkem_decapsulate(key, bytes.fromhex(given["ciphertext"])).hex()}


def _mlkem_ek(given: Json, _fixtures: Fixtures) -> Json:
    try:
        crypto.mlkem_public(bytes.fromhex(given["ek"]))
    except NoSecret:
        raise Refused(FailLayer.DECODE, "HS-30") from None
    return {}


def _public_key(given: Json, _fixtures: Fixtures) -> Json:
    try:
        key = crypto.decode_spki(bytes.fromhex(given["spki"]))
    except IdentityError as exc:
        raise Refused(FailLayer.DECODE, "ID-9", problem=str(exc)) from exc
    return {"bits": key.key_size, "modulus": crypto.rsa_modulus(key).to_bytes(key.key_size // 8, "big").hex()}


def _oaep(given: Json, fixtures: Fixtures) -> Json:
    key, plaintext = fixtures.keys[given["key"]], bytes.fromhex(given["plaintext"])
    ciphertext = deterministic.oaep_encrypt(key.public_key(), plaintext, bytes.fromhex(given["seed"]))
    if crypto.oaep_decrypt(key, ciphertext, bytes(32)) != plaintext:
        raise Refused(FailLayer.OAEP, problem="it does not decrypt to what was encrypted")
    return {"ciphertext": ciphertext.hex()}


def _oaep_decrypt(given: Json, fixtures: Fixtures) -> Json:
    key, ciphertext = fixtures.keys[given["key"]], bytes.fromhex(given["ciphertext"])
    fallbacks = [bytes(32), b"\xff" * 32]
    found = [crypto.oaep_decrypt(key, ciphertext, fallback) for fallback in fallbacks]
    if found == fallbacks:
        raise Refused(FailLayer.OAEP, "ID-17")
    return {"plaintext": found[0].hex()}


def _pss(given: Json, fixtures: Fixtures) -> Json:
    key, label, content = fixtures.keys[given["key"]], LABELS[given["label"]], bytes.fromhex(given["content"])
    signature = deterministic.pss_sign(key, label, content, bytes.fromhex(given["salt"]))
    _verify(key, label, content, signature)
    return {"signature": signature.hex()}


def _pss_verify(given: Json, fixtures: Fixtures) -> Json:
    key, label, content = fixtures.keys[given["key"]], LABELS[given["label"]], bytes.fromhex(given["content"])
    _verify(key, label, content, bytes.fromhex(given["signature"]))
    return {}


def _verify(key: RSAPrivateKey, label: Label, content: bytes, signature: bytes) -> None:
    try:
        crypto.pss_verify(key.public_key(), label, content, signature)
    except IdentityError as exc:
        raise Refused(FailLayer.SIGNATURE, problem=str(exc)) from exc


_AEAD = {"key": data(32), "nonce": data(12), "aad": data()}
_SIGNED = {"key": name(), "label": one_of(*labels_for("signed")), "content": data()}
OPS = {
    "hash": Op(_hash, obj({"label": one_of(*labels_for("hashed")), "content": data()}), obj({"hash": data(32)})),
    "extract": Op(_extract, obj({"salt": data(), "ikm": data()}), obj({"prk": data(32)})),
    "expand": Op(
        _expand,
        obj({"prk": data(32), "label": one_of(*labels_for("expanded")), "size": integer(1, 32)}),
        obj({"bytes": data()}),
    ),
    "seal": Op(_seal, obj(_AEAD | {"plaintext": data()}), obj({"sealed": data()})),
    "open": Op(_open, obj(_AEAD | {"sealed": data()}), None),
    "x25519": Op(_x25519, obj({"private": data(32), "public": data(32)}), obj({"share": data(32), "secret": data(32)})),
    "mlkem": Op(
        _mlkem,
        obj({"seed": data(64), "m": data(32)}),
        obj({"ek": data(1184), "ciphertext": data(1088), "secret": data(32)}),
    ),
    "mlkem_decapsulate": Op(
        _mlkem_decapsulate, obj({"seed": data(64), "ciphertext": data(1088)}), obj({"secret": data(32)})
    ),
    "mlkem_ek": Op(_mlkem_ek, obj({"ek": data(1184)}), None),
    "public_key": Op(_public_key, obj({"spki": data()}), obj({"bits": integer(), "modulus": data()})),
    "oaep": Op(_oaep, obj({"key": name(), "seed": data(32), "plaintext": data(32)}), obj({"ciphertext": data()})),
    "oaep_decrypt": Op(_oaep_decrypt, obj({"key": name(), "ciphertext": data()}), None),
    "pss": Op(_pss, obj(_SIGNED | {"salt": data(32)}), obj({"signature": data()})),
    "pss_verify": Op(_pss_verify, obj(_SIGNED | {"signature": data()}), None),
}

# ---- cases: hash and HKDF ----------------------------------------------------


_KNOWN_HASH = "de40357b9175fba09b600b111cc6f4586dda38ac407680c97eaf7de8dda17fa4"  # 1.5
# RFC 5869, appendix A: salt, ikm, prk.
_RFC_5869 = {
    "1": ("000102030405060708090a0b0c", "0b" * 22, "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5"),
    "2": (
        bytes(range(0x60, 0xB0)).hex(),
        bytes(range(0x50)).hex(),
        "06a6b88c5853361a06104c9ceb35b45cef760014904671014a193f40c15fc244",
    ),
    "3": ("", "0b" * 22, "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04"),
}


def _hash_cases() -> Iterator[Case]:
    requirements = ("NO-23", "NO-25")
    for label in labels_for("hashed"):
        for what, content in (("empty", b""), ("three", b"\x01\x02\x03")):
            expected = {"hash": forge.h(label, content).hex()}
            given = {"label": label, "content": content.hex()}
            assert label != "node-id" or content or expected["hash"] == _KNOWN_HASH
            yield case(f"hash/{label}/{what}", "hash", requirements, f"H({label}, x).", given, expected)
    for size in (36, 37, 46, 47, 110, 1000):  # 18 bytes of label(node-id) and 0x00 stand before them
        content = drawn(f"crypto/hash/{size}", size)
        comment = f"H(node-id, x), x of {size} bytes: about the ends of a block of SHA-256."
        given = {"label": "node-id", "content": content.hex()}
        expected = {"hash": forge.h("node-id", content).hex()}
        yield case(f"hash/node-id/{size}-bytes", "hash", requirements, comment, given, expected)


def _hkdf_cases() -> Iterator[Case]:
    for number, (salt, ikm, prk) in _RFC_5869.items():
        comment = f"RFC 5869, appendix A.{number}."
        given = {"salt": salt, "ikm": ikm}
        yield case(f"extract/rfc-5869-{number}", "extract", ("NO-25",), comment, given, {"prk": prk})
    for what, salt_size, ikm_size, comment in (
        ("zero-salt", 32, 32, "A salt of 32 zeros gives what an empty one does."),
        ("no-salt", 0, 32, "No salt: HMAC with 32 zeros."),
        ("long-salt", 65, 32, "A salt longer than a block of SHA-256: HMAC hashes it first."),
        ("block-salt", 64, 128, "A salt as long as a block of SHA-256."),
        ("no-ikm", 32, 0, "No input."),
    ):
        salt_ = bytes(32) if what == "zero-salt" else drawn(f"crypto/extract/{what}/salt", salt_size)
        ikm_ = bytes(range(32)) if what in {"zero-salt", "no-salt"} else drawn(f"crypto/extract/{what}", ikm_size)
        expected = {"prk": hmac.new(salt_, ikm_, hashlib.sha256).hexdigest()}
        given = {"salt": salt_.hex(), "ikm": ikm_.hex()}
        yield case(f"extract/{what}", "extract", ("NO-25",), comment, given, expected)
    prk_ = drawn("crypto/expand/prk", 32)
    for label, size in (
        *((label, 32) for label in labels_for("expanded")),
        ("iv", 12),
        ("iv", 1),
        ("key", 16),
        ("key", 31),
    ):
        parts = {"prk": prk_.hex(), "label": label, "size": size}
        expected = {"bytes": forge.expand(prk_, label, size).hex()}
        comment = f"Expand(prk, {label}, {size})."
        yield case(f"expand/{label}/{size}", "expand", ("NO-23", "NO-25"), comment, parts, expected)


# ---- cases: AES-256-GCM ------------------------------------------------------

# The GCM specification (McGrew and Viega), appendix B, test cases 13 to 16.
_GCM_KEY = "feffe9928665731c6d6a8f9467308308" * 2
_GCM_NONCE = "cafebabefacedbaddecaf888"
_GCM_PLAINTEXT = (
    "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
    "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255"
)
_GCM_CIPHERTEXT = (
    "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
    "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
)
_GCM_AAD = "feedfacedeadbeeffeedfacedeadbeefabaddad2"
_GCM = {
    "13": ("00" * 32, "00" * 12, "", "", "530f8afbc74536b9a963b4f1c4cb738b"),
    "14": ("00" * 32, "00" * 12, "", "00" * 16, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
    "15": (_GCM_KEY, _GCM_NONCE, "", _GCM_PLAINTEXT, _GCM_CIPHERTEXT + "b094dac5d93471bdec1a502270e3cc6c"),
    "16": (
        _GCM_KEY,
        _GCM_NONCE,
        _GCM_AAD,
        _GCM_PLAINTEXT[:120],
        _GCM_CIPHERTEXT[:120] + "76fc6ece0f4e1768cddf8853bb2d551b",
    ),
}


def _aead_cases() -> Iterator[Case]:
    for number, (key, nonce, aad, plaintext, sealed) in _GCM.items():
        given = {"key": key, "nonce": nonce, "aad": aad, "plaintext": plaintext}
        comment = f"The specification of GCM, test case {number}."
        yield case(f"seal/gcm-{number}", "seal", ("NO-26",), comment, given, {"sealed": sealed})
    for size in (1, 15, 17, 65537):
        given = _aead_input(f"{size}-bytes", 4) | {"plaintext": drawn(f"crypto/seal/{size}", size).hex()}
        comment = f"{size} bytes, with a frame header as associated data."
        yield case(f"seal/{size}-bytes", "seal", ("NO-26",), comment, given)
    for size in (17, 2216):
        given = _aead_input(f"aad-{size}", size) | {"plaintext": b"plaintext".hex()}
        yield case(f"seal/aad-{size}", "seal", ("NO-26",), f"Associated data of {size} bytes.", given)

    yield from _not_opened(*(bytes.fromhex(part) for part in _GCM["16"]))


def _not_opened(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes, sealed: bytes) -> Iterator[Case]:
    assert len(plaintext) + 16 == len(sealed)
    changed: dict[str, bytes]
    for what, by, change, changed in (
        ("tag-first-bit", "NO-27", "the first bit of the tag", {"sealed": flipped(sealed, -16, 0x80)}),
        ("tag-last-bit", "NO-27", "the last bit of the tag", {"sealed": flipped(sealed, -1, 0x01)}),
        ("ciphertext-first-bit", "NO-27", "the first bit of the ciphertext", {"sealed": flipped(sealed, 0, 0x80)}),
        ("ciphertext-last-bit", "NO-27", "the last bit of the ciphertext", {"sealed": flipped(sealed, -17, 0x01)}),
        ("aad-bit", "NO-27", "one bit of the associated data", {"aad": flipped(aad, -1, 0x01)}),
        ("no-aad", "NO-27", "there is no associated data", {"aad": b""}),
        ("aad-longer", "NO-27", "a zero stands behind the associated data", {"aad": aad + b"\0"}),
        ("nonce-bit", "NO-27", "one bit of the nonce", {"nonce": flipped(nonce, -1, 0x01)}),
        ("key-bit", "NO-27", "one bit of the key", {"key": flipped(key, 0, 0x80)}),
        ("tag-first", "NO-26", "the tag stands before the ciphertext", {"sealed": sealed[-16:] + sealed[:-16]}),
        ("short-tag", "NO-26", "the tag is cut to 12 bytes", {"sealed": sealed[:-4]}),
        ("cut", "NO-27", "the last byte is missing", {"sealed": sealed[:-1]}),
        ("longer", "NO-27", "a zero stands behind the tag", {"sealed": sealed + b"\0"}),
        ("no-tag", "NO-26", "there are 15 bytes in all", {"sealed": sealed[-15:]}),
        ("empty", "NO-26", "there are no bytes", {"sealed": b""}),
        (
            "another-plaintext",
            "NO-27",
            "the tag is one of no plaintext",
            {"sealed": _tag_of_nothing(key, nonce, aad, sealed)},
        ),
    ):
        parts = {"key": key, "nonce": nonce, "aad": aad, "sealed": sealed} | changed
        given = {part: value.hex() for part, value in parts.items()}
        yield refused(f"open/{what}", "open", FailLayer.RECORD, by, "seal/gcm-16", change, given, "NO-26")


def _aead_input(what: str, aad_size: int) -> Json:
    sizes = {"key": 32, "nonce": 12, "aad": aad_size}
    return {part: drawn(f"crypto/seal/{what}/{part}", size).hex() for part, size in sizes.items()}


def _tag_of_nothing(key: bytes, nonce: bytes, aad: bytes, sealed: bytes) -> bytes:
    return sealed[:-16] + forge.sealed_under(key, nonce, aad, b"")


# ---- cases: X25519 -----------------------------------------------------------

_P = (1 << 255) - 19
_BASE_POINT = 9
# RFC 7748: private, public, secret. 5.2, the two of X25519, and 6.1.
_RFC_7748 = {
    "5-2-first": (
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ),
    "5-2-second": (
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ),
    "6-1-bob": (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
        "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    ),
}
_SMALL_ORDER = {
    "zero": (0, "0"),
    "one": (1, "1"),
    "order-8-first": (
        int.from_bytes(bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"), "little"),
        "a point of order 8",
    ),
    "order-8-second": (
        int.from_bytes(bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"), "little"),
        "the other point of order 8",
    ),
    "p-minus-1": (_P - 1, "p - 1"),
    "p": (_P, "p, which is 0"),
    "p-plus-1": (_P + 1, "p + 1, which is 1"),
    "zero-top-bit": (1 << 255, "0 with the top bit set, which is not looked at"),
    "one-top-bit": (1 | 1 << 255, "1 with the top bit set, which is not looked at"),
}


def _x25519_cases() -> Iterator[Case]:
    requirements = ("HS-7", "HS-8")
    for what, (private, public, secret) in _RFC_7748.items():
        comment = f"RFC 7748, {what[:3].replace('-', '.')}."
        yield _x25519_case(f"rfc-7748-{what}", bytes.fromhex(private), bytes.fromhex(public), comment, secret)
    private_ = drawn("crypto/x25519/private", 32)
    public_ = _little(_ladder(drawn("crypto/x25519/other", 32), _BASE_POINT))
    for what, one, other, comment in (
        ("base-point", private_, _little(9), "The public key is the base point, so the secret is the share."),
        ("random", private_, public_, "Both keys look random."),
        (
            "top-bit",
            private_,
            flipped(public_, 31, 0x80),
            "The top bit of the public key is set, and not looked at: the secret of random.",
        ),
        ("not-clamped", b"\xff" * 32, public_, "A private key that clamping changes at both ends."),
        (
            "clamped-alike",
            bytes([0xF8]) + b"\xff" * 30 + bytes([0x7F]),
            public_,
            "The one that it is clamped to: the same secret.",
        ),
        ("zero-private", bytes(32), public_, "A private key of zeros, before clamping."),
        ("not-reduced", private_, _little(_P + 9), "p + 9, which is 9: not reduced, and taken."),
        ("most-not-reduced", private_, _little((1 << 255) - 1), "2^255 - 1, which is 18."),
        ("p-minus-2", private_, _little(_P - 2), "p - 2."),
        ("twist", private_, _little(2), "2, which is on the twist: taken as any other."),
    ):
        yield _x25519_case(what, one, other, comment)
    for what, (u, text) in _SMALL_ORDER.items():
        given = {"private": private_.hex(), "public": _little(u).hex()}
        change = f"the public key is {text}: the secret is zero"
        yield refused(
            f"x25519/{what}", "x25519", FailLayer.DECODE, "HS-8", "x25519/random", change, given, *requirements
        )


def _x25519_case(what: str, private: bytes, public: bytes, comment: str, secret: str = "") -> Case:
    expected = {
        "share": _little(_ladder(private, _BASE_POINT)).hex(),
        "secret": _little(_ladder(private, int.from_bytes(public, "little"))).hex(),
    }
    assert secret in {"", expected["secret"]}
    given = {"private": private.hex(), "public": public.hex()}
    return case(f"x25519/{what}", "x25519", ("HS-7", "HS-8"), comment, given, expected)


def _little(number: int) -> bytes:
    return number.to_bytes(32, "little")


def _ladder(scalar: bytes, u: int) -> int:
    """X25519, as RFC 7748, section 5, writes it."""
    k = int.from_bytes(scalar, "little") & ~7 & ~(1 << 255) | 1 << 254
    x_1 = u & ~(1 << 255)
    x_2, z_2, x_3, z_3, swap = 1, 0, x_1, 1, 0
    for t in reversed(range(255)):
        k_t = k >> t & 1
        if swap != k_t:
            x_2, x_3, z_2, z_3 = x_3, x_2, z_3, z_2
        swap = k_t
        a, b, c, d = x_2 + z_2, x_2 - z_2, x_3 + z_3, x_3 - z_3
        aa, bb, da, cb = a * a % _P, b * b % _P, d * a % _P, c * b % _P
        e = aa - bb
        x_3, z_3 = (da + cb) ** 2 % _P, x_1 * (da - cb) ** 2 % _P
        x_2, z_2 = aa * bb % _P, e * (aa + 121665 * e) % _P
    if swap:
        x_2, z_2 = x_3, z_3
    return x_2 * pow(z_2, _P - 2, _P) % _P


# ---- cases: ML-KEM-768 -------------------------------------------------------


def _mlkem_cases() -> Iterator[Case]:
    for what, seed, m, comment in (
        ("random", drawn("crypto/mlkem/seed", 64), drawn("crypto/mlkem/m", 32), "Seed and m look random."),
        ("second", drawn("crypto/mlkem/seed 2", 64), drawn("crypto/mlkem/m 2", 32), "The same with others."),
        ("zeros", bytes(64), bytes(32), "Seed and m are zeros."),
        ("ones", b"\xff" * 64, b"\xff" * 32, "Seed and m are bytes ff."),
    ):
        yield case(f"mlkem/{what}", "mlkem", ("HS-9",), comment, {"seed": seed.hex(), "m": m.hex()})

    seed = drawn("crypto/mlkem/seed", 64)
    ek = crypto.mlkem_ek(crypto.mlkem_key(seed))
    secret, ciphertext = deterministic.mlkem_encapsulate(ek, drawn("crypto/mlkem/m", 32))
    another = crypto.mlkem_ek(crypto.mlkem_key(drawn("crypto/mlkem/seed 2", 64)))
    yield _decapsulate("right", seed, ciphertext, secret, "The ciphertext of random, decapsulated alone.")
    for what, wrong, comment in (
        ("first-bit", flipped(ciphertext, 0, 0x01), "One bit of the first byte is turned."),
        ("last-bit", flipped(ciphertext, -1, 0x80), "One bit of the last byte is turned."),
        ("zeros", bytes(1088), "A ciphertext of zeros."),
        ("ones", b"\xff" * 1088, "A ciphertext of bytes ff."),
        ("another-key", deterministic.mlkem_encapsulate(another, drawn("crypto/mlkem/m", 32))[1], "For another key."),
    ):
        rejected = hashlib.shake_256(seed[32:] + wrong).digest(32)
        comment += " No error: the secret is a hash of z and the ciphertext."
        yield _decapsulate(what, seed, wrong, rejected, comment)

    for what, at, value, change in (
        ("first", 0, 3329, "the first coefficient is 3329, which is q"),
        ("second", 1, 3329, "the second coefficient is 3329"),
        ("last", 767, 3329, "the last coefficient is 3329"),
        ("most", 400, 4095, "a coefficient is 4095, the most that 12 bits hold"),
        ("least-over", 300, 3330, "a coefficient is 3330"),
    ):
        given = {"ek": _with_coefficient(ek, at, value).hex()}
        yield refused(f"mlkem-ek/{what}", "mlkem_ek", FailLayer.DECODE, "HS-30", "mlkem/random", change, given)
    given = {"ek": (b"\xff" * 1152 + ek[1152:]).hex()}
    change = "every coefficient is 4095"
    yield refused("mlkem-ek/all", "mlkem_ek", FailLayer.DECODE, "HS-30", "mlkem/random", change, given)


def _decapsulate(what: str, seed: bytes, ciphertext: bytes, secret: bytes, comment: str) -> Case:
    given = {"seed": seed.hex(), "ciphertext": ciphertext.hex()}
    return case(f"mlkem-decapsulate/{what}", "mlkem_decapsulate", ("HS-9",), comment, given, {"secret": secret.hex()})


def _with_coefficient(ek: bytes, at: int, value: int) -> bytes:
    """The encapsulation key with another value in the place of one of its 768 coefficients."""
    packed = int.from_bytes(ek[:1152], "little")
    packed = packed & ~(0xFFF << (12 * at)) | value << (12 * at)
    return packed.to_bytes(1152, "little") + ek[1152:]


# ---- all cases ---------------------------------------------------------------


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from _hash_cases()
    yield from _hkdf_cases()
    yield from _aead_cases()
    yield from _x25519_cases()
    yield from _mlkem_cases()
    yield from public_key_cases(fixtures)
    yield from oaep_cases(fixtures)
    yield from pss_cases(fixtures)


AREA = Area("crypto", "Hashes, keys and ciphers as this protocol uses them (1.4 to 1.6, 2.2, 2.3)", OPS, cases)
