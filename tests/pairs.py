"""Both ends of a handshake and of a session, without I/O, and a second maker of what they send.

A `Scene` is all that a handshake hangs on; a test changes one thing in it. `forge_hello` and `forge_reply` make the
two messages from the byte offsets of Spec 5.5 and 5.8, sharing no code with the package but the primitives, with
everything right but what the test says: signature, seal and mac are made anew over it. `RawPeer` is a peer of the
session that sends and reads whatever records a test likes.
"""

import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import attrs
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from xlattice_trio import crypto
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Established, Port, Side
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Responder, Welcome
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.session.connection import Connection
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.testing.identities import test_client, test_identity, test_roster
from xlattice_trio.wire.framing import FrameReader
from xlattice_trio.wire.messages import Purpose, Role

NOW = 1000.0
LAST_SEQ = 2**20 - 1

# ---- formulas, from Spec 1.4 and 1.5 -----------------------------------------


def label(name: str) -> bytes:
    return b"xlattice2 " + name.encode()


def h(name: str, *content: bytes) -> bytes:
    return hashlib.sha256(label(name) + b"\0" + b"".join(content)).digest()


def mac_of(key: bytes, message: bytes) -> bytes:
    return hmac.new(key, message, hashlib.sha256).digest()


def expand(prk: bytes, name: str, size: int = 32) -> bytes:
    return mac_of(prk, label(name) + b"\x01")[:size]


def prefixed(data: bytes, size: int) -> bytes:
    return len(data).to_bytes(size, "big") + data


# ---- who is there ------------------------------------------------------------


def nodes(count: int = 3, *, bits: int = 2048, id_size: int = 32) -> list[LocalIdentity]:
    """The members of the test roster, the lowest NodeID first."""
    return sorted((test_identity(i, bits=bits, id_size=id_size) for i in range(count)), key=lambda n: n.node_id)


class Draws:
    """Random numbers that are the same in every run, and a list of what was drawn; `fixed` gives some by name."""

    def __init__(self, seed: str, **fixed: bytes) -> None:
        self.seed, self.fixed = seed, fixed
        self.drawn: list[tuple[str, int]] = []

    def __call__(self, name: str, size: int) -> bytes:
        self.drawn.append((name, size))
        seed = f"{self.seed} {name} {self.drawn.count((name, size))}"
        return self.fixed.get(name, hashlib.shake_128(seed.encode()).digest(size))


@attrs.define(kw_only=True)
class Scene:
    """A handshake about to happen: by default a link between two members."""

    roster: VerifiedRoster = attrs.Factory(test_roster)
    port: Port = Port.CLUSTER
    role: Role = Role.MEMBER
    purpose: Purpose = Purpose.LINK
    service: str = ""
    identity: LocalIdentity | None = attrs.Factory(lambda: nodes()[0])
    responder: LocalIdentity = attrs.Factory(lambda: nodes()[1])
    accepted: Sequence[AcceptedKey] | None = None  # default: the responder's ck
    replay: ReplayCache = attrs.Factory(ReplayCache)
    keepalive: int = 0
    link_keepalive: int = 15_000
    initiator_draws: Draws = attrs.Factory(lambda: Draws("initiator"))
    responder_draws: Draws = attrs.Factory(lambda: Draws("responder"))

    @property
    def knock(self) -> bytes:
        return self.roster.knock if self.port is Port.CLUSTER else b""

    def intent(self) -> Intent:
        return Intent(
            peer=self.responder.card,
            cluster_id=self.roster.cluster_id,
            role=self.role,
            purpose=self.purpose,
            service=self.service,
            identity=self.identity,
            knock=self.knock,
        )

    def new_initiator(self) -> Initiator:
        return Initiator(self.intent(), draw=self.initiator_draws)

    def welcome(self) -> Welcome:
        """Asks the scene anew for roster and keys, so that a test can change them on the way."""
        return Welcome(
            port=self.port,
            node_id=self.responder.node_id,
            roster=lambda: self.roster,
            accepted_keys=lambda: [AcceptedKey.of(self.responder.ck_priv)] if self.accepted is None else self.accepted,
            replay=self.replay,
            keepalive=self.keepalive,
            link_keepalive=self.link_keepalive,
        )

    def new_responder(self) -> Responder:
        return Responder(self.welcome(), draw=self.responder_draws)

    def run(self) -> tuple[Initiator, Responder]:
        """Both sides, ESTABLISHED."""
        initiator, responder = self.new_initiator(), self.new_responder()
        confirm = initiator.receive_data(responder.receive_data(initiator.hello()), NOW)
        assert responder.receive_data(confirm) == b""
        return initiator, responder


def link_scene(**changes: Any) -> Scene:
    return Scene(**changes)


def member_stream_scene(**changes: Any) -> Scene:
    defaults: dict[str, Any] = {"purpose": Purpose.STREAM, "service": "echo"}
    return Scene(**defaults | changes)


def client_scene(**changes: Any) -> Scene:
    defaults: dict[str, Any] = {
        "port": Port.CLIENT,
        "role": Role.CLIENT,
        "purpose": Purpose.STREAM,
        "service": "echo",
        "identity": test_client(0),
    }
    return Scene(**defaults | changes)


def anonymous_scene(**changes: Any) -> Scene:
    return client_scene(**{"role": Role.ANONYMOUS, "identity": None} | changes)


SCENES = (link_scene, member_stream_scene, client_scene, anonymous_scene)

# ---- a Hello, byte by byte (Spec 5.5) ----------------------------------------


@attrs.define(kw_only=True)
class HelloParts:
    """What a Hello is made of. None: what is right for the rest."""

    kind: int = 1
    length: int | None = None
    version: int = 2
    ck: crypto.RSAPublicKey
    key1: bytes = b"\x11" * 32
    kem_secret: bytes | None = None  # what OAEP carries
    kem_ciphertext: bytes | None = None
    role: int
    purpose: int
    recipient: bytes
    cluster: bytes
    x25519: bytes = attrs.Factory(lambda: crypto.x25519_share(crypto.x25519_key(b"\x22" * 32)))
    mlkem_ek: bytes = attrs.Factory(lambda: crypto.mlkem_ek(crypto.mlkem_key(b"\x33" * 64)))
    service: bytes
    initiator: bytes
    signer: crypto.RSAPrivateKey | None
    signed_label: str = "hello-signature"
    pss_salt: int = 32
    signed: bytes | None = None
    signature: bytes | None = None
    pad: bytes | None = None
    plaintext: bytes | None = None
    nonce: bytes = bytes(12)
    aad: bytes | None = None
    sealed: bytes | None = None
    mac_ck: bytes | None = None
    knock: bytes
    mac: bytes | None = None


def forge_hello(scene: Scene, **changes: Any) -> bytes:
    """A Hello frame for the scene with some parts of it as told, everything else right for them."""
    defaults: dict[str, Any] = {
        "ck": scene.responder.card.ck,
        "role": scene.role,
        "purpose": scene.purpose,
        "recipient": scene.responder.node_id.value,
        "cluster": scene.roster.cluster_id,
        "service": scene.service.encode(),
        "initiator": scene.identity.node_id.value if scene.identity else b"",
        "signer": scene.identity.sk_priv if scene.identity else None,
        "knock": scene.knock,
    }
    p = HelloParts(**defaults | changes)
    ciphertext = p.kem_ciphertext
    if ciphertext is None:
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        ciphertext = p.ck.encrypt(p.key1 if p.kem_secret is None else p.kem_secret, oaep)
    length = 1956 + len(ciphertext) if p.length is None else p.length
    head = bytes([p.kind]) + length.to_bytes(3, "big") + p.version.to_bytes(2, "big") + prefixed(ciphertext, 2)
    fields = bytes([p.role, p.purpose]) + prefixed(p.recipient, 1) + p.cluster + p.x25519 + p.mlkem_ek
    fields += prefixed(p.service, 1) + prefixed(p.initiator, 1)
    signature = p.signature
    if signature is None and p.signer is not None:
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), p.pss_salt)
        content = head[4:] + fields if p.signed is None else p.signed
        signature = p.signer.sign(label(p.signed_label) + b"\0" + content, pss, hashes.SHA256())
    fields += prefixed(signature or b"", 2)
    plaintext = p.plaintext
    if plaintext is None:
        plaintext = fields + prefixed(bytes(1920 - 2 - len(fields)) if p.pad is None else p.pad, 2)
    k_hello = expand(mac_of(bytes(32), p.key1), "hello")
    sealed = p.sealed or AESGCM(k_hello).encrypt(p.nonce, plaintext, head if p.aad is None else p.aad)
    k_mac = h("hello-mac", crypto.encode_spki(p.ck) if p.mac_ck is None else p.mac_ck, p.knock)
    return head + sealed + (mac_of(k_mac, head + sealed)[:16] if p.mac is None else p.mac)


# ---- a HelloReply, byte by byte (Spec 5.8) -----------------------------------


def forge_reply(hello: bytes, key1: bytes, mlkem_seed: bytes, **changes: Any) -> bytes:
    """A HelloReply frame to a Hello whose secrets are known, with some parts of it as told."""
    parts: dict[str, Any] = {
        "header": bytes.fromhex("020004bc"),
        "salt": b"\x44" * 32,
        "key2": b"\x55" * 32,
        "x25519": crypto.x25519_share(crypto.x25519_key(b"\x66" * 32)),
        "mlkem_ciphertext": crypto.mlkem_encapsulate(
            crypto.mlkem_public(crypto.mlkem_ek(crypto.mlkem_key(mlkem_seed)))
        )[1],
        "keepalive": 15_000,
        "epoch": 1,
        "plaintext": None,
        "aad": None,
        "nonce": bytes(12),
    } | changes
    head = parts["header"] + parts["salt"]
    plaintext = parts["plaintext"]
    if plaintext is None:
        plaintext = parts["key2"] + parts["x25519"] + parts["mlkem_ciphertext"]
        plaintext += parts["keepalive"].to_bytes(4, "big") + parts["epoch"].to_bytes(8, "big")
    k_reply = expand(mac_of(h("reply-salt", hello, parts["salt"]), key1), "hello-reply")
    aad = head if parts["aad"] is None else parts["aad"]
    return bytes(head + AESGCM(k_reply).encrypt(parts["nonce"], plaintext, aad))


# ---- sessions ----------------------------------------------------------------

I2R, R2I = b"\x01" * 32, b"\x02" * 32


def established(side: Side, *, keepalive: int = 0, purpose: Purpose = Purpose.STREAM) -> Established:
    """A handshake's outcome from fixed secrets, with Confirm behind it."""
    sealer, opener = (Sealer(I2R), Opener(R2I)) if side is Side.INITIATOR else (Sealer(R2I), Opener(I2R))
    if side is Side.RESPONDER:
        opener.seq = 1  # Confirm
    return Established(
        side=side,
        role=Role.ANONYMOUS,
        purpose=purpose,
        service="echo",
        cluster_id=bytes(32),
        initiator=None,
        recipient=nodes()[0].node_id,
        keepalive=keepalive,
        epoch=1,
        transcript_hash=bytes(32),
        exporter=bytes(32),
        sealer=sealer,
        opener=opener,
        reader=FrameReader(),
    )


def connection_pair(keepalive: int = 0) -> tuple[Connection, Connection]:
    """Both sides of a session: the initiator's, whose Confirm has been opened, and the responder's."""
    initiator = Connection(established(Side.INITIATOR, keepalive=keepalive), NOW)
    responder = Connection(established(Side.RESPONDER, keepalive=keepalive), NOW)
    initiator._sealer.seq, initiator._sealer._first_sealed_at = 1, NOW
    return initiator, responder


def place_seal(connection: Connection, seq: int) -> None:
    """Go on sealing at `seq`, as if as many records had been sent in this generation."""
    connection._sealer.seq = seq
    if connection._sealer._first_sealed_at is None:
        connection._sealer._first_sealed_at = NOW


def place_open(connection: Connection, seq: int) -> None:
    """Go on opening at `seq`."""
    connection._opener.seq = seq


class RawPeer:
    """The other side of a session, which keeps no rule but those of keys and nonces: Spec 6.2 to 6.4 once more."""

    def __init__(self, send_secret: bytes, receive_secret: bytes, *, seq: int = 0) -> None:
        self.send_secret, self.send_seq = send_secret, seq
        self.receive_secret, self.receive_seq = receive_secret, 0

    @classmethod
    def of(cls, connection: Connection, side: Side) -> "RawPeer":
        """The peer of a new connection on `side`."""
        peer = cls(R2I, I2R) if side is Side.INITIATOR else cls(I2R, R2I, seq=1)
        peer.receive_seq = connection._sealer.seq
        return peer

    def record(self, type_: int, payload: bytes = b"") -> bytes:
        """The frame of the next record."""
        header = b"\x03" + (1 + len(payload) + 16).to_bytes(3, "big")
        key, nonce = key_and_nonce(self.send_secret, self.send_seq)
        self.send_seq += 1
        if type_ == 4:
            self.send_secret, self.send_seq = expand(self.send_secret, "rekey"), 0
        return header + AESGCM(key).encrypt(nonce, bytes([type_]) + payload, header)

    def open(self, data: bytes | bytearray) -> list[tuple[int, bytes]]:
        """Type and payload of every record in `data`, which holds whole ones."""
        records = []
        while data:
            assert data[0] == 3
            end = 4 + int.from_bytes(data[1:4], "big")
            key, nonce = key_and_nonce(self.receive_secret, self.receive_seq)
            plaintext = AESGCM(key).decrypt(nonce, bytes(data[4:end]), bytes(data[:4]))
            records.append((plaintext[0], plaintext[1:]))
            self.receive_seq += 1
            if plaintext[0] == 4:
                self.receive_secret, self.receive_seq = expand(self.receive_secret, "rekey"), 0
            data = data[end:]
        return records


def key_and_nonce(secret: bytes, seq: int) -> tuple[bytes, bytes]:
    iv = expand(secret, "iv", 12)
    return expand(secret, "key"), bytes(a ^ b for a, b in zip(iv, seq.to_bytes(12, "big"), strict=True))
