"""The attacker: what it knows, and what it can do with that.

An `Attacker` has keys of its own, keys that it stole, and every frame that it has seen. It builds any message from any
knowledge, opens what is sealed for a key that it has, changes it and seals it again, and goes on with a session as
either side of it. It keeps no rule of the protocol; what it cannot do is what mathematics forbids: without the key a
method gives None. It is made of `forge`, the second maker of the messages, and shares no code with the implementation
under test but the primitives, the layouts and their edges.

Arguments are plain values wherever Hypothesis chooses them (numbers, bytes, names of fields), so that the steps that it
prints are a program. Numbers that say where in some bytes are taken modulo what there is: every number means something.
"""

import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import Label, NoSecret, NotOpened, RSAPrivateKey, RSAPublicKey
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.testing import forge
from xlattice_trio.testing.draws import REMEMBERED, Draws
from xlattice_trio.testing.edges import changes, pad_of
from xlattice_trio.testing.forge import (
    ForgedHello,
    ForgedReply,
    HelloParts,
    ReplyParts,
    Secrets,
    expand,
    forge_record,
    h,
    key_and_nonce,
    mac_of,
    sealed_under,
)
from xlattice_trio.wire.layout import Fixed, ListOf, Nested, Opaque, Rest, Uint, Utf8, fields_of, prefix_size
from xlattice_trio.wire.messages import MESSAGES, FrameHeader, Hello, HelloBody, HelloReply, RecordType, ReplyBody

_HEADER = 4
_MAC = 16
_BODIES = {1: Hello, 2: HelloReply}  # what is in a frame of that kind, unsealed

# ---- bytes: damage of one message --------------------------------------------


def flip(data: bytes, bit: int) -> bytes:
    """One bit is another."""
    if not data:
        return data
    at, mask = bit // 8 % len(data), 1 << bit % 8
    return data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]


def put(data: bytes, at: int, some: bytes) -> bytes:
    """`some` in the place of as many bytes, as far as there are any."""
    at %= len(data) or 1
    return data[:at] + some[: len(data) - at] + data[at + len(some) :]


def insert(data: bytes, at: int, some: bytes) -> bytes:
    """`some` in between; all behind it moves."""
    at %= len(data) + 1
    return data[:at] + some + data[at:]


def delete(data: bytes, at: int, count: int) -> bytes:
    """`count` bytes are gone."""
    at %= len(data) or 1
    return data[:at] + data[at + count :]


def truncate(data: bytes, size: int) -> bytes:
    """The first `size` bytes, fewer than all."""
    return data[: size % (len(data) or 1)]


def extend(data: bytes, some: bytes) -> bytes:
    """`some` behind it."""
    return data + some


DAMAGE: Mapping[str, Callable[[bytes, int, bytes], bytes]] = {
    "flip": lambda data, at, _: flip(data, at),
    "put": put,
    "insert": insert,
    "delete": lambda data, at, some: delete(data, at, len(some)),
    "truncate": lambda data, at, _: truncate(data, at),
    "extend": lambda data, _, some: extend(data, some),
}


def damage(data: bytes, kind: str, at: int, some: bytes) -> bytes:
    """One of DAMAGE, by name; what it needs of `at` and `some`. The result may be the same bytes."""
    return DAMAGE[kind](data, at, some)


# ---- bytes: boundaries -------------------------------------------------------


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """In pieces of these sizes, the last one being what is left. No piece is empty."""
    pieces = []
    for size in sizes:
        if size > 0 and data:
            pieces.append(data[:size])
            data = data[size:]
    return [*pieces, data] if data else pieces


def splice(a: bytes, b: bytes, at: int) -> bytes:
    """The beginning of `a`, and from `at` on what `b` has there."""
    at %= min(len(a), len(b)) + 1
    return a[:at] + b[at:]


# ---- fields ------------------------------------------------------------------


def spans(cls: type[Any], data: bytes, start: int = 0) -> dict[str, tuple[int, int]]:
    """Where each field of a message of `cls` begins and ends in `data`, prefixes included; fields that are not whole
    are left out, and so are all behind them."""
    found: dict[str, tuple[int, int]] = {}
    at = start
    for field in fields_of(cls):
        end = _end_of(field.type, data, at)
        if end is None or end > len(data):
            break
        found[field.name] = (at, end)
        at = end
    return found


def _end_of(type_: Any, data: bytes, at: int) -> int | None:
    match type_:
        case Uint(size) | Fixed(size):
            return at + size
        case Opaque(_, most) | Utf8(_, most):
            start = at + prefix_size(most)
            return start + int.from_bytes(data[at:start], "big") if start <= len(data) else None
        case Rest():
            return len(data)
        case Nested(message):
            return _end_of_message(message, data, at)
        case ListOf(message):
            if at + 2 > len(data):
                return None
            end: int | None = at + 2
            for _ in range(int.from_bytes(data[at : at + 2], "big")):
                end = None if end is None else _end_of_message(message, data, end)
            return end
    raise AssertionError(type_)


def _end_of_message(cls: type[Any], data: bytes, at: int) -> int | None:
    inner = spans(cls, data, at)
    return inner[fields_of(cls)[-1].name][1] if len(inner) == len(fields_of(cls)) else None


def frame_spans(frame: bytes) -> dict[str, tuple[int, int]]:
    """Where each field of a frame begins and ends, by names such as `Hello.mac`."""
    found = {f"FrameHeader.{name}": span for name, span in spans(FrameHeader, frame).items()}
    body = _BODIES.get(frame[0]) if frame else None
    if body is None:
        return found | ({"Record": (_HEADER, len(frame))} if len(frame) > _HEADER else {})
    return found | {f"{body.__name__}.{name}": span for name, span in spans(body, frame, _HEADER).items()}


def with_field(cls: type[Any], data: bytes, name: str, encoded: bytes) -> bytes:
    """The encoding of a message of `cls` with other bytes in the place of a field, padded anew if its size is fixed."""
    found = spans(cls, data)
    if name not in found:
        return data
    start, end = found[name]
    changed = data[:start] + encoded + data[end:]
    pad = pad_of(cls)
    if pad is None or pad.name == name or pad.name not in found:
        return changed
    return pad.again(changed, found[pad.name][0] + len(encoded) - (end - start))


def field_names(*classes: type[Any]) -> list[str]:
    """`HelloBody.role` and so on: all fields of these messages, in their order, that have edges."""
    names = [f"{cls.__name__}.{field.name}" for cls in classes for field in fields_of(cls)]
    return [name for name in names if field_edges(name)]


@functools.cache
def field_edges(name: str) -> tuple[bytes, ...]:
    """Encodings for the place of a field, named as in `field_names`: its bounds, and what is just beyond them."""
    cls, _, field = name.partition(".")
    message = {message.__name__: message for message in MESSAGES}[cls]
    (found,) = (one for one in fields_of(message) if one.name == field)
    return tuple(dict.fromkeys(changes(found)))


def field_edge(name: str, number: int) -> bytes:
    """One of them, by number."""
    encodings = field_edges(name)
    return encodings[number % len(encodings)]


# ---- what is known -----------------------------------------------------------


@attrs.frozen(kw_only=True)
class Destination:
    """What one has to know of a node to say Hello to it. `recipient` is its NodeID, 20 or 32 bytes."""

    ck: RSAPublicKey
    recipient: bytes
    cluster: bytes
    knock: bytes


@attrs.frozen(repr=False)
class OpenedHello:
    """A Hello whose key1 is known. `head` is the frame until `sealed`, `body` the plaintext."""

    frame: bytes
    key1: bytes
    head: bytes
    body: bytes
    k_mac: bytes

    def field(self, name: str) -> bytes:
        """The encoding of a field of HelloBody, prefix included; nothing if the body is no HelloBody."""
        start, end = spans(HelloBody, self.body).get(name, (0, 0))
        return self.body[start:end]


@attrs.frozen(repr=False)
class OpenedReply:
    """A HelloReply that was opened. `head` is the frame until `sealed`, `body` the plaintext."""

    frame: bytes
    k_reply: bytes
    head: bytes
    body: bytes

    def field(self, name: str) -> bytes:
        """The encoding of a field of ReplyBody."""
        start, end = spans(ReplyBody, self.body).get(name, (0, 0))
        return self.body[start:end]


class Attacker:
    """What it knows, and what it makes of it. Its randomness is the same for the same `seed`."""

    def __init__(self, seed: str = "attacker") -> None:
        self.seen: list[bytes] = []  # frames, for replays, in the order of `see`
        self._draw = Draws(seed)
        self._keys: list[tuple[RSAPrivateKey, bytes]] = []  # ckPriv, and the SPKI of its ck
        self._knocks: list[bytes] = [b""]
        self._hellos: dict[bytes, OpenedHello | None] = {}
        self._x25519: dict[bytes, crypto.X25519Key] = {}  # by share
        self._mlkem: dict[bytes, crypto.MLKEMKey] = {}  # by encapsulation key
        self._encapsulated: dict[bytes, bytes] = {}  # secret by ciphertext

    # ---- knowledge ----

    def own(self, identity: LocalIdentity) -> None:
        """It has this node's encryption key. (Its signature key is given to the methods that sign.)"""
        self.steal(identity.ck_priv)

    def steal(self, ck_priv: RSAPrivateKey) -> None:
        """An encryption key: Hellos for it can be opened from now on, those that were seen before too."""
        self._keys.append((ck_priv, crypto.encode_spki(ck_priv.public_key())))
        self._hellos = {frame: opened for frame, opened in self._hellos.items() if opened is not None}

    def learn_knock(self, knock: bytes) -> None:
        """A cluster's knock."""
        if knock not in self._knocks:
            self._knocks.append(knock)

    def see(self, frame: bytes) -> int:
        """Keep a frame; its number in `seen`."""
        self.seen.append(frame)
        return len(self.seen) - 1

    def x25519_share(self) -> bytes:
        """A new share, 32 bytes, whose private half is known."""
        return self._learn_x25519(self._draw("x25519", 32))

    def mlkem_ek(self) -> bytes:
        """A new encapsulation key, 1,184 bytes, whose private half is known."""
        key = crypto.mlkem_key(self._draw("mlkem_seed", 64))
        ek = crypto.mlkem_ek(key)
        self._mlkem[ek] = key
        return ek

    def _learn_x25519(self, private: bytes) -> bytes:
        key = crypto.x25519_key(private)
        share = crypto.x25519_share(key)
        self._x25519[share] = key
        return share

    # ---- Hello ----

    def hello(
        self,
        to: Destination,
        *,
        role: int,
        purpose: int,
        service: bytes = b"",
        as_: LocalIdentity | None = None,
        **parts: Any,
    ) -> ForgedHello:
        """A Hello with everything right but what `parts` say, which are fields of `forge.HelloParts`.

        `as_` names the initiator and signs; None: neither. The attacker can open what it has made.
        """
        defaults: dict[str, Any] = {
            "ck": to.ck,
            "role": role,
            "purpose": purpose,
            "recipient": to.recipient,
            "cluster": to.cluster,
            "service": service,
            "initiator": as_.node_id.value if as_ else b"",
            "signer": as_.sk_priv if as_ else None,
            "knock": to.knock,
            "x25519": None,
            "mlkem_ek": None,
        }
        values = defaults | parts
        key1 = values.get("key1")
        values["key1"] = self._draw("key1", 32) if key1 is None else key1
        if values["x25519"] is None:
            values["x25519"] = self.x25519_share()
        if values["mlkem_ek"] is None:
            values["mlkem_ek"] = self.mlkem_ek()
        if values.get("kem_ciphertext") is None and not values.get("kem_label"):
            secret = values["key1"] if values.get("kem_secret") is None else values["kem_secret"]
            values["kem_ciphertext"] = REMEMBERED.oaep_encrypt(values["ck"], secret)
        made = HelloParts(**values)
        if _signed_as_it_is(made):  # the library signs, which is fast
            content = forge.signed_content(made)
            assert made.signer is not None
            made = attrs.evolve(made, signature=REMEMBERED.pss_sign(made.signer, Label.HELLO_SIGNATURE, content))
        forged = forge.forge_hello(made, self._draw)
        head = forged.frame[: _HEADER + 4 + len(forged.kem_ciphertext)]
        self._hellos[forged.frame] = OpenedHello(forged.frame, forged.key1, head, forged.body, forged.k_mac)
        self.learn_knock(to.knock)
        return forged

    def open_hello(self, frame: bytes) -> OpenedHello | None:
        """What is in a Hello: one of its own, or for a key that it has."""
        if frame not in self._hellos:
            self._hellos[frame] = self._open_hello(frame)
        return self._hellos[frame]

    def _open_hello(self, frame: bytes) -> OpenedHello | None:
        where = frame_spans(frame)
        if frame[:1] != b"\x01" or "Hello.mac" not in where:
            return None
        start, end = where["Hello.kem_ciphertext"]
        ciphertext, head, sealed = frame[start + 2 : end], frame[:end], frame[end : where["Hello.sealed"][1]]
        mac = frame[slice(*where["Hello.mac"])]
        candidates = [
            (k_mac, mac_of(k_mac, head + sealed)[:_MAC] == mac, ck_priv)
            for ck_priv, spki in self._keys
            if ck_priv.key_size == 8 * len(ciphertext)
            for k_mac in (h("hello-mac", spki, knock) for knock in self._knocks)
        ]
        tried = set()
        for k_mac, _, ck_priv in sorted(candidates, key=lambda one: not one[1]):  # that of the mac, if it is there
            if id(ck_priv) in tried:
                continue
            tried.add(id(ck_priv))
            key1 = crypto.oaep_decrypt(ck_priv, ciphertext, bytes(32))
            try:
                body = crypto.open_sealed(crypto.aead_key(k_hello(key1)), bytes(12), head, sealed)
            except NotOpened:
                continue
            return OpenedHello(frame, key1, head, body, k_mac)
        return None

    def change_hello(
        self, frame: bytes, field: str, encoded: bytes, *, signer: RSAPrivateKey | None = None
    ) -> bytes | None:
        """A Hello that it can open, one field of it changed, sealed and maced again; None if it cannot open it.

        Fields are those of HelloBody, Hello and FrameHeader. The signature stays what it was, unless there is a
        `signer`, who signs what is there then. The length in the header follows, unless that is what was changed.
        """
        opened = self.open_hello(frame)
        if opened is None:
            return None
        head, body = opened.head, opened.body
        cls, _, name = field.partition(".")
        if cls == "HelloBody":
            body = with_field(HelloBody, body, name, encoded)
        elif cls == "Hello" and name in ("version", "kem_ciphertext"):
            start, end = frame_spans(frame)[field]
            head = head[:start] + encoded + head[end:]
        if cls != "FrameHeader":
            head = head[:1] + (len(head) - _HEADER + len(body) + 2 * _MAC).to_bytes(3, "big") + head[_HEADER:]
        else:
            head = with_field(FrameHeader, head[:_HEADER], name, encoded) + head[_HEADER:]
        if signer is not None:
            body = _signed_anew(head, body, signer)
        return self._seal_hello(opened, head, body, field, encoded)

    def reseal_hello(self, frame: bytes, body: bytes, *, signer: RSAPrivateKey | None = None) -> bytes | None:
        """A Hello that it can open with another body, signed again if there is a `signer`, sealed and maced again; None
        if it cannot open it. The length in the header stays what it was."""
        opened = self.open_hello(frame)
        if opened is None:
            return None
        return self._seal_hello(
            opened, opened.head, body if signer is None else _signed_anew(opened.head, body, signer)
        )

    def redirect_hello(self, frame: bytes, to: Destination, *, signer: RSAPrivateKey | None = None) -> bytes | None:
        """A Hello that it can open, sealed for another node: with the same key1 under that one's ck, and all else as it
        was, the recipient too."""
        opened = self.open_hello(frame)
        if opened is None:
            return None
        ciphertext = REMEMBERED.oaep_encrypt(to.ck, opened.key1)
        length = 4 + len(ciphertext) + len(opened.body) + 2 * _MAC
        head = frame[:1] + length.to_bytes(3, "big") + frame[4:6] + len(ciphertext).to_bytes(2, "big") + ciphertext
        body = opened.body if signer is None else _signed_anew(head, opened.body, signer)
        self.learn_knock(to.knock)
        k_mac = h("hello-mac", crypto.encode_spki(to.ck), to.knock)
        return self._seal_hello(attrs.evolve(opened, k_mac=k_mac), head, body)

    def _seal_hello(
        self, opened: OpenedHello, head: bytes, body: bytes, field: str = "", encoded: bytes = b""
    ) -> bytes:
        sealed = sealed_under(k_hello(opened.key1), bytes(12), head, body)
        if field == "Hello.sealed":
            sealed = encoded
        mac = encoded if field == "Hello.mac" else mac_of(opened.k_mac, head + sealed)[:_MAC]
        frame = head + sealed + mac
        self._hellos.setdefault(frame, OpenedHello(frame, opened.key1, head, body, opened.k_mac))
        return frame

    # ---- HelloReply ----

    def reply(self, hello: bytes, **parts: Any) -> ForgedReply | None:
        """An answer to a Hello that it can open, with everything right but what `parts` say: fields of
        `forge.ReplyParts`. None if it cannot open the Hello, or if that has no encapsulation key."""
        opened = self.open_hello(hello)
        if opened is None or not opened.field("mlkem_ek"):
            return None
        defaults: dict[str, Any] = {
            "hello": hello,
            "key1": opened.key1,
            "mlkem_ek": opened.field("mlkem_ek"),
            "keepalive": 15_000,
            "epoch": 1,
        }
        try:
            forged = forge.forge_reply(ReplyParts(**defaults | parts), self._draw_for_reply)
        except NoSecret:
            return None
        self._learn_x25519(forged.x25519_private)
        self._encapsulated.setdefault(forged.mlkem_ciphertext, forged.mlkem_secret)
        return forged

    def _draw_for_reply(self, name: str, size: int) -> bytes:
        """To encapsulate is slow here, and remembered by the key and these bytes: they are always the same."""
        return bytes(size) if name == "mlkem_m" else self._draw(name, size)

    def open_reply(self, hello: bytes, reply: bytes) -> OpenedReply | None:
        """What is in a HelloReply: needs key1 of the Hello."""
        opened = self.open_hello(hello)
        where = frame_spans(reply)
        if opened is None or reply[:1] != b"\x02" or "HelloReply.sealed" not in where:
            return None
        start, end = where["HelloReply.sealed"]
        key = k_reply(hello, reply[slice(*where["HelloReply.salt"])], opened.key1)
        try:
            body = crypto.open_sealed(crypto.aead_key(key), bytes(12), reply[:start], reply[start:end])
        except NotOpened:
            return None
        return OpenedReply(reply, key, reply[:start], body)

    def change_reply(self, hello: bytes, reply: bytes, field: str, encoded: bytes) -> bytes | None:
        """A HelloReply that it can open, one field of it changed, and sealed again; None if it cannot open it.

        Fields are those of ReplyBody, HelloReply and FrameHeader. A changed salt makes another key; the length in the
        header stays what it was.
        """
        opened, known = self.open_reply(hello, reply), self.open_hello(hello)
        if opened is None or known is None:
            return None
        head, body, key = opened.head, opened.body, opened.k_reply
        cls, _, name = field.partition(".")
        if cls == "ReplyBody":
            body = with_field(ReplyBody, body, name, encoded)
        elif cls == "FrameHeader":
            head = with_field(FrameHeader, head[:_HEADER], name, encoded) + head[_HEADER:]
        elif name == "salt":
            head, key = head[:_HEADER] + encoded, k_reply(hello, encoded, known.key1)
        return head + (encoded if field == "HelloReply.sealed" else sealed_under(key, bytes(12), head, body))

    # ---- the session behind it ----

    def secrets(self, hello: bytes, reply: bytes) -> Secrets | None:
        """What the handshake of these two frames ends with; None if it knows too little for that.

        That takes key1, and one private half of each key agreement: its own, in the Hello or in the HelloReply.
        """
        sent, answered = self.open_hello(hello), self.open_reply(hello, reply)
        if sent is None or answered is None:
            return None
        x25519 = self._agreed(sent.field("x25519"), answered.field("x25519"))
        mlkem = self._decapsulated(sent.field("mlkem_ek"), answered.field("mlkem_ciphertext"))
        if x25519 is None or mlkem is None:
            return None
        return forge.secrets_of(hello, reply, answered.field("key2"), sent.key1, x25519, mlkem)

    def _agreed(self, a: bytes, b: bytes) -> bytes | None:
        for ours, theirs in ((a, b), (b, a)):
            if ours in self._x25519:
                try:
                    return crypto.x25519_secret(self._x25519[ours], theirs)
                except NoSecret:
                    return bytes(32)  # what they would have agreed on, whoever accepts it
        return None

    def _decapsulated(self, ek: bytes, ciphertext: bytes) -> bytes | None:
        if ek in self._mlkem:
            return crypto.mlkem_decapsulate(self._mlkem[ek], ciphertext)
        return self._encapsulated.get(ciphertext)

    def peer(self, side: Side, hello: bytes, reply: bytes) -> "RawPeer | None":
        """Its record layer behind this handshake, the attacker being on `side`; None if it lacks the secrets.

        The first record of an initiator is Confirm, and to be made like any other.
        """
        secrets = self.secrets(hello, reply)
        if secrets is None:
            return None
        both = (secrets.i2r, secrets.r2i)
        return RawPeer(*both) if side is Side.INITIATOR else RawPeer(*reversed(both))


def _signed_as_it_is(parts: HelloParts) -> bool:
    """Whether the signature is to be the right one, over the right content."""
    return (
        parts.signer is not None
        and parts.kem_ciphertext is not None
        and parts.signature is None
        and parts.signed is None
        and parts.pss_salt is None
        and not parts.sign_as
        and parts.signed_label == Label.HELLO_SIGNATURE.spelling
        and all(one.point is not forge.Point.SIGNING for one in parts.overwrites)
    )


def _signed_anew(head: bytes, body: bytes, signer: RSAPrivateKey) -> bytes:
    found = spans(HelloBody, body)
    if "signature" not in found:
        return body
    content = head[_HEADER:] + body[: found["signature"][0]]
    return with_field(
        HelloBody, body, "signature", forge.prefixed(REMEMBERED.pss_sign(signer, Label.HELLO_SIGNATURE, content), 2)
    )


def k_hello(key1: bytes) -> bytes:
    """The key that seals HelloBody."""
    return expand(mac_of(bytes(32), key1), "hello")


def k_reply(hello: bytes, salt: bytes, key1: bytes) -> bytes:
    """The key that seals ReplyBody."""
    return expand(mac_of(h("reply-salt", hello, salt), key1), "hello-reply")


# ---- records -----------------------------------------------------------------


class RawPeer:
    """The other side of a session, which keeps no rule but those of keys and nonces: Spec 6.2 to 6.4 once more."""

    def __init__(self, send_secret: bytes, receive_secret: bytes, *, seq: int = 0) -> None:
        self.send_secret, self.send_seq = send_secret, seq
        self.receive_secret, self.receive_seq = receive_secret, 0
        self.earlier_secrets: list[bytes] = []  # of generations in which it has sent
        self._buffer = b""

    def record(self, type_: int, payload: bytes = b"") -> bytes:
        """The frame of the next record."""
        frame = self.forge(type_, payload)
        self.send_seq += 1
        if type_ == RecordType.REKEY:
            self.rekey()
        return frame

    def forge(
        self,
        type_: int,
        payload: bytes = b"",
        *,
        ahead: int = 0,
        generation: int = 0,
        header: bytes | None = None,
        aad: bytes | None = None,
    ) -> bytes:
        """A record that is not the next one, or is wrong: nothing goes on by it.

        `ahead` is added to its sequence number, `generation` to its generation, which may be an earlier or a later one;
        `header` is what the frame begins with and `aad` what is authenticated as that, if not the right ones.
        """
        secret = self.send_secret
        if generation < 0:
            secret = self.earlier_secrets[generation] if -generation <= len(self.earlier_secrets) else bytes(32)
        for _ in range(generation):
            secret = expand(secret, "rekey")
        return forge_record(secret, max(self.send_seq + ahead, 0), type_, payload, header=header, aad=aad)

    def rekey(self) -> None:
        """Go on in the next generation, as after a Rekey that was sent."""
        self.earlier_secrets.append(self.send_secret)
        self.send_secret, self.send_seq = expand(self.send_secret, "rekey"), 0

    def open(self, data: bytes | bytearray) -> list[tuple[int, bytes]]:
        """Type and payload of every record in `data`, which holds whole ones. Raises NotOpened."""
        records = self.feed(data)
        assert not self._buffer, f"{len(self._buffer)} bytes that are no whole record"
        return records

    def feed(self, data: bytes | bytearray) -> list[tuple[int, bytes]]:
        """Type and payload of every record that is whole now; the rest waits. Raises NotOpened."""
        self._buffer += data
        records = []
        while len(self._buffer) >= _HEADER:
            assert self._buffer[0] == 3, f"a frame of kind {self._buffer[0]} where a record is due"
            end = _HEADER + int.from_bytes(self._buffer[1:_HEADER], "big")
            if len(self._buffer) < end:
                break
            frame, self._buffer = self._buffer[:end], self._buffer[end:]
            key, nonce = key_and_nonce(self.receive_secret, self.receive_seq)
            plaintext = crypto.open_sealed(crypto.aead_key(key), nonce, frame[:_HEADER], frame[_HEADER:])
            records.append((plaintext[0], plaintext[1:]))
            self.receive_seq += 1
            if plaintext[0] == RecordType.REKEY:
                self.receive_secret, self.receive_seq = expand(self.receive_secret, "rekey"), 0
        return records

    @property
    def unread(self) -> int:
        """Bytes of a record that is not whole yet."""
        return len(self._buffer)


def error_payload(code: int, text: bytes = b"") -> bytes:
    """The payload of an Error record; nothing checks it."""
    return code.to_bytes(2, "big") + forge.prefixed(text, 2)


def pattern(seed: int, size: int) -> bytes:
    """`size` bytes of data that tell their place: two different seeds, or places, are hardly ever the same."""
    return hashlib.shake_128(seed.to_bytes(8, "big", signed=True)).digest(size)
