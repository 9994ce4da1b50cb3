"""A second maker of the handshake's messages, and of records: for tests, and for whoever attacks an implementation.

Made from the byte offsets of Spec 5.5, 5.8 and 6.2, it shares no code with the package but the primitives: what both
makers agree on, two readings of the specification agree on. A forger says what is wrong, as another value of a part or
as bytes to be overwritten at a point of the making, and everything else is made right for it: signature, seal and mac
are made anew over what he changed. With the same draws and nothing wrong the bytes are those of the package.

It keeps no rule: it knows no table of roles, no bounds and no state.
"""

import enum
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import Draw, RSAPrivateKey, RSAPublicKey
from xlattice_trio.vectors import deterministic

# ---- formulas (Spec 1.4, 1.5, 5.4) -------------------------------------------


def label(name: str) -> bytes:
    """label(name)."""
    return b"xlattice2 " + name.encode()


def h(name: str, *content: bytes) -> bytes:
    """H(name, content): 32 bytes."""
    return hashlib.sha256(label(name) + b"\0" + b"".join(content)).digest()


def mac_of(key: bytes, message: bytes) -> bytes:
    """HMAC-SHA-256, which is also Extract: 32 bytes."""
    return hmac.new(key, message, hashlib.sha256).digest()


def expand(prk: bytes, name: str, size: int = 32) -> bytes:
    """Expand(prk, name, size)."""
    return mac_of(prk, label(name) + b"\x01")[:size]


def prefixed(data: bytes, size: int) -> bytes:
    """The bytes behind their length in `size` bytes."""
    return len(data).to_bytes(size, "big") + data


def sealed_under(key: bytes, nonce: bytes, aad: bytes, plaintext: bytes) -> bytes:
    """AES-256-GCM: ciphertext and tag."""
    return crypto.seal(crypto.aead_key(key), nonce, aad, plaintext)


# ---- what can be done to a message -------------------------------------------


class Point(enum.Enum):
    """When bytes are overwritten, and in what: offsets count from the beginning of these byte strings."""

    SIGNING = "the content that is signed: Hello frame from version through kem_ciphertext, then HelloBody"
    SEALING = "aad and plaintext, one behind the other"
    MACING = "the Hello frame without its mac"
    SENDING = "the whole frame"


@attrs.frozen
class Overwrite:
    """`data` in the place of as many bytes at offset `at`. What is made later, is made over it."""

    point: Point
    at: int
    data: bytes


def _overwritten(message: bytes, point: Point, overwrites: Sequence[Overwrite]) -> bytes:
    changed = bytearray(message)
    for one in overwrites:
        if one.point is point:
            assert one.at + len(one.data) <= len(message)
            changed[one.at : one.at + len(one.data)] = one.data
    return bytes(changed)


# ---- Hello (Spec 5.5) --------------------------------------------------------


@attrs.frozen(kw_only=True)
class HelloParts:
    """What a Hello is made of. None: what is right for the rest, or drawn.

    Integers take the place of enumerations and texts are bytes, so that there is nothing that cannot be said. `sign_as`
    are parts by name which the signature takes to be others than they are.
    """

    kind: int = 1
    length: int | None = None
    version: int = 2
    ck: RSAPublicKey
    key1: bytes | None = None
    kem_secret: bytes | None = None  # what OAEP carries, if not key1
    kem_label: bytes = b""
    kem_ciphertext: bytes | None = None
    role: int
    purpose: int
    recipient: bytes
    cluster: bytes
    x25519: bytes | None = None
    mlkem_ek: bytes | None = None
    service: bytes
    initiator: bytes
    signer: RSAPrivateKey | None
    sign_as: Mapping[str, Any] = attrs.Factory(dict)
    signed_label: str = "hello-signature"
    signed: bytes | None = None  # the content, if not the right one
    pss_salt: bytes | None = None
    signature: bytes | None = None
    pad: bytes | None = None
    plaintext: bytes | None = None
    sealing_key: bytes | None = None
    nonce: bytes = bytes(12)
    aad: bytes | None = None
    sealed: bytes | None = None
    mac_ck: bytes | None = None  # the SPKI that K_mac is made of, if not that of ck
    knock: bytes
    mac: bytes | None = None
    overwrites: Sequence[Overwrite] = ()


@attrs.frozen(repr=False)
class ForgedHello:
    """A Hello and everything that went into it. `signed` is the message that PSS hashes, empty if nobody signed."""

    frame: bytes
    key1: bytes
    x25519_private: bytes
    mlkem_seed: bytes
    kem_ciphertext: bytes
    body: bytes
    signed: bytes
    signature: bytes
    k_hello: bytes
    k_mac: bytes


def forge_hello(parts: HelloParts, draw: Draw = crypto.system_draw) -> ForgedHello:
    """A Hello with these parts. Draws key1, oaep_seed, x25519, mlkem_seed and pss_salt."""
    key1 = draw("key1", 32) if parts.key1 is None else parts.key1
    private, seed = draw("x25519", 32), draw("mlkem_seed", 64)
    p = attrs.evolve(
        parts,
        x25519=crypto.x25519_share(crypto.x25519_key(private)) if parts.x25519 is None else parts.x25519,
        mlkem_ek=crypto.mlkem_ek(crypto.mlkem_key(seed)) if parts.mlkem_ek is None else parts.mlkem_ek,
    )
    ciphertext = p.kem_ciphertext
    if ciphertext is None:
        secret = key1 if p.kem_secret is None else p.kem_secret
        ciphertext = deterministic.oaep_encrypt(p.ck, secret, draw("oaep_seed", 32), p.kem_label)
        p = attrs.evolve(p, kem_ciphertext=ciphertext)
    k = len(ciphertext)

    content = _overwritten(signed_content(p), Point.SIGNING, p.overwrites)
    signed, signature = _signed(p, content, draw)
    header = bytes([p.kind]) + (1956 + k if p.length is None else p.length).to_bytes(3, "big")
    head, fields = header + content[: 4 + k], content[4 + k :]
    body = p.plaintext
    if body is None:
        fields += prefixed(signature, 2)
        body = fields + prefixed(bytes(max(1920 - 2 - len(fields), 0)) if p.pad is None else p.pad, 2)

    both = _overwritten(head + body, Point.SEALING, p.overwrites)
    head, body = both[: 8 + k], both[8 + k :]
    k_hello = expand(mac_of(bytes(32), key1), "hello") if p.sealing_key is None else p.sealing_key
    sealed = p.sealed
    if sealed is None:
        sealed = sealed_under(k_hello, p.nonce, head if p.aad is None else p.aad, body)

    unmaced = _overwritten(head + sealed, Point.MACING, p.overwrites)
    k_mac = h("hello-mac", crypto.encode_spki(p.ck) if p.mac_ck is None else p.mac_ck, p.knock)
    frame = unmaced + (mac_of(k_mac, unmaced)[:16] if p.mac is None else p.mac)
    frame = _overwritten(frame, Point.SENDING, p.overwrites)
    return ForgedHello(frame, key1, private, seed, ciphertext, body, signed, signature, k_hello, k_mac)


def signed_content(p: HelloParts) -> bytes:
    """What the initiator signs: the frame from version through kem_ciphertext, the body from role through initiator."""
    assert p.kem_ciphertext is not None
    assert p.x25519 is not None
    assert p.mlkem_ek is not None
    return (
        p.version.to_bytes(2, "big")
        + prefixed(p.kem_ciphertext, 2)
        + bytes([p.role, p.purpose])
        + prefixed(p.recipient, 1)
        + p.cluster
        + p.x25519
        + p.mlkem_ek
        + prefixed(p.service, 1)
        + prefixed(p.initiator, 1)
    )


def _signed(p: HelloParts, content: bytes, draw: Draw) -> tuple[bytes, bytes]:
    """What PSS hashes, and the signature."""
    if p.signature is not None or p.signer is None:
        return b"", p.signature or b""
    if p.sign_as:
        content = _overwritten(signed_content(attrs.evolve(p, **p.sign_as)), Point.SIGNING, p.overwrites)
    message = label(p.signed_label) + b"\0" + (content if p.signed is None else p.signed)
    salt = draw("pss_salt", 32) if p.pss_salt is None else p.pss_salt
    return message, deterministic.pss_sign_message(p.signer, message, salt)


# ---- HelloReply (Spec 5.8) ---------------------------------------------------


@attrs.frozen(kw_only=True)
class ReplyParts:
    """What a HelloReply is made of: an answer to a Hello whose key1 and mlkem_ek are known.

    None: what is right for the rest, or drawn.
    """

    hello: bytes
    key1: bytes
    mlkem_ek: bytes
    header: bytes = bytes.fromhex("020004bc")
    salt: bytes | None = None
    key2: bytes | None = None
    x25519: bytes | None = None
    mlkem_ciphertext: bytes | None = None
    keepalive: int
    epoch: int
    plaintext: bytes | None = None
    sealing_key: bytes | None = None
    sealed_salt: bytes | None = None  # the salt that K_reply is made of, if not the one that is sent
    nonce: bytes = bytes(12)
    aad: bytes | None = None
    sealed: bytes | None = None
    overwrites: Sequence[Overwrite] = ()


@attrs.frozen(repr=False)
class ForgedReply:
    """A HelloReply and everything that went into it."""

    frame: bytes
    key2: bytes
    x25519_private: bytes
    mlkem_ciphertext: bytes
    mlkem_secret: bytes
    body: bytes
    k_reply: bytes


def forge_reply(parts: ReplyParts, draw: Draw = crypto.system_draw) -> ForgedReply:
    """A HelloReply with these parts. Draws x25519, key2, salt and mlkem_m."""
    p = parts
    private = draw("x25519", 32)
    share = crypto.x25519_share(crypto.x25519_key(private)) if p.x25519 is None else p.x25519
    secret, ciphertext = deterministic.mlkem_encapsulate(p.mlkem_ek, draw("mlkem_m", 32))
    ciphertext = ciphertext if p.mlkem_ciphertext is None else p.mlkem_ciphertext
    key2 = draw("key2", 32) if p.key2 is None else p.key2
    salt = draw("salt", 32) if p.salt is None else p.salt
    body = p.plaintext
    if body is None:
        body = key2 + share + ciphertext + p.keepalive.to_bytes(4, "big") + p.epoch.to_bytes(8, "big")
    head = p.header + salt
    both = _overwritten(head + body, Point.SEALING, p.overwrites)
    head, body = both[: len(head)], both[len(head) :]
    k_reply = p.sealing_key
    if k_reply is None:
        hashed = h("reply-salt", p.hello, salt if p.sealed_salt is None else p.sealed_salt)
        k_reply = expand(mac_of(hashed, p.key1), "hello-reply")
    sealed = sealed_under(k_reply, p.nonce, head if p.aad is None else p.aad, body) if p.sealed is None else p.sealed
    frame = _overwritten(head + sealed, Point.SENDING, p.overwrites)
    return ForgedReply(frame, key2, private, ciphertext, secret, body, k_reply)


# ---- the session's keys, and records (Spec 5.4, 6.2) -------------------------


@attrs.frozen(repr=False)
class Secrets:
    """What a handshake ends with: th, prk, the exporter and secret_0 of each direction."""

    th: bytes
    prk: bytes
    exporter: bytes
    i2r: bytes
    r2i: bytes


def secrets_of(hello: bytes, reply: bytes, key2: bytes, key1: bytes, x25519: bytes, mlkem: bytes) -> Secrets:
    """From the two frames, the two keys and the two shared secrets."""
    th = h("transcript", hello, reply)
    prk = mac_of(th, key2 + key1 + x25519 + mlkem)
    return Secrets(th, prk, expand(prk, "exporter"), expand(prk, "i2r"), expand(prk, "r2i"))


def open_reply(hello: ForgedHello, reply: bytes) -> Secrets:
    """What the maker of a Hello gets out of the HelloReply to it. Raises NotOpened, NoSecret."""
    k_reply = expand(mac_of(h("reply-salt", hello.frame, reply[4:36]), hello.key1), "hello-reply")
    body = crypto.open_sealed(crypto.aead_key(k_reply), bytes(12), reply[:36], reply[36:])
    x25519 = crypto.x25519_secret(crypto.x25519_key(hello.x25519_private), body[32:64])
    mlkem = crypto.mlkem_decapsulate(crypto.mlkem_key(hello.mlkem_seed), body[64:1152])
    return secrets_of(hello.frame, reply, body[:32], hello.key1, x25519, mlkem)


def key_and_nonce(secret: bytes, seq: int) -> tuple[bytes, bytes]:
    """Key and nonce of a record of a generation."""
    iv = expand(secret, "iv", 12)
    return expand(secret, "key"), bytes(a ^ b for a, b in zip(iv, seq.to_bytes(12, "big"), strict=True))


def forge_record(
    secret: bytes, seq: int, type_: int, payload: bytes = b"", *, header: bytes | None = None, aad: bytes | None = None
) -> bytes:
    """The frame of record `seq` of the generation with this secret; `aad` is its header unless it is given."""
    plaintext = bytes([type_]) + payload
    header = b"\x03" + (len(plaintext) + 16).to_bytes(3, "big") if header is None else header
    key, nonce = key_and_nonce(secret, seq)
    return header + sealed_under(key, nonce, header if aad is None else aad, plaintext)
