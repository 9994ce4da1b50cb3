"""The initiator's side of the handshake, without I/O: bytes in, bytes out.

An `Initiator` makes one Hello, takes one HelloReply, and ends with an `Established` or with HandshakeRefused. It knows
no clock and no socket: whoever drives it says when the deadline has passed or the connection has ended. Nothing of a
failed handshake is kept. Spec 5.5, 5.6, 5.9, 5.10.
"""

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import SYSTEM_RANDOMISED, Draw, Label, NoSecret, NotOpened, Randomised, system_draw
from xlattice_trio.errors import DecodeError, HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.handshake import key_schedule
from xlattice_trio.handshake.outcome import (
    PERMITTED,
    Established,
    Port,
    SessionSecrets,
    Side,
    refuse,
    signed_content,
)
from xlattice_trio.handshake.transitions import INITIATOR
from xlattice_trio.handshake.transitions import InitiatorEvent as Event
from xlattice_trio.handshake.transitions import InitiatorState as State
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import (
    HELLO_BODY_SIZE,
    KEEPALIVE_MIN,
    KEY_SIZE,
    LINK_KEEPALIVE_MAX,
    MAC_SIZE,
    SERVICE_MAX,
    X25519_SIZE,
)
from xlattice_trio.machine import next_state
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.wire.codec import decode, encode, encode_before, encode_text
from xlattice_trio.wire.framing import DUE_REPLY, HEADER_SIZE, FrameReader, encode_frame, frame_header, hello_length
from xlattice_trio.wire.messages import FrameKind, Hello, HelloBody, HelloReply, Purpose, RecordType, ReplyBody, Role

_PAD_PREFIX = 2
_VERSION = 2
_MLKEM_SEED_SIZE = 64


@attrs.frozen
class Intent:
    """Whom to dial, as whom, and what for.

    `identity` is None for an anonymous client. `knock` is the roster's, 32 bytes, for the cluster port, and empty for
    the client port; it decides which port this is for. `service` is 1 to 64 bytes of UTF-8 for a stream and empty for
    a link. Raises UsageError for a combination that the protocol does not have, EncodeError for a service name that it
    does not have.
    """

    peer: VerifiedCard
    cluster_id: bytes
    role: Role
    purpose: Purpose = Purpose.STREAM
    service: str = ""
    identity: LocalIdentity | None = None
    knock: bytes = attrs.field(default=b"", repr=False)

    def __attrs_post_init__(self) -> None:
        port = Port.CLUSTER if self.knock else Port.CLIENT
        if (port, self.role, self.purpose) not in PERMITTED:  # [HS-16]
            raise UsageError(
                f"a {self.purpose.name.lower()} as {self.role.name.lower()} on the {port.value} port: "
                "members come with the knock to the cluster port, everybody else without it to the client port"
            )
        if (self.identity is None) != (self.role is Role.ANONYMOUS):
            state = "without" if self.identity is None else "with"
            raise UsageError(f"role {self.role.name.lower()} {state} an identity")
        if (not self.service) != (self.purpose is Purpose.LINK):
            raise UsageError("a stream is for a named service; a link is for none")
        encode_text(self.service, 0, SERVICE_MAX, "the service name")
        if self.identity is not None:
            own, peer = self.identity.node_id, self.peer.node_id
            if own == peer:  # [HS-17]
                raise UsageError(f"a node does not dial itself ({own})")
            if self.purpose is Purpose.LINK and own > peer:  # [HS-17]
                raise UsageError("the member with the lower NodeID dials a link")


class Initiator:
    """One handshake, as initiator.

    `hello()` once; then `receive_data` with whatever arrives until it returns the Confirm to send, after which
    `established` is set and further bytes belong to the session. Nothing else is sent. [HS-4] [SE-4] Randomness comes
    from `draw`: key1 (32 bytes), x25519 (32), mlkem_seed (64); that of RSA from `randomised`.
    """

    def __init__(self, intent: Intent, *, draw: Draw = system_draw, randomised: Randomised = SYSTEM_RANDOMISED) -> None:
        self.intent = intent
        self.state = State.START
        self.established: Established | None = None
        self._randomised = randomised
        self._reader = FrameReader()
        self._key1 = draw("key1", KEY_SIZE)  # [HS-6]
        self._x25519 = crypto.x25519_key(draw("x25519", X25519_SIZE))
        self._mlkem = crypto.mlkem_key(draw("mlkem_seed", _MLKEM_SEED_SIZE))
        self._hello_frame = b""

    def hello(self) -> bytes:
        """The Hello frame, to be sent first. Raises UsageError if it was made before."""
        if self.state is not State.START:
            raise UsageError("a handshake has one Hello")  # [HS-2]
        self._hello_frame = self._make_hello()
        self._step(Event.HELLO_MADE)
        return self._hello_frame

    def receive_data(self, data: bytes, now: float) -> bytes:
        """Take bytes that arrived; returns what is to be sent: nothing, or Confirm, which ends the handshake.

        `now` is in seconds, of any clock that the session goes on with.

        Raises HandshakeRefused, after which nothing is sent and the connection is closed. [HS-52]
        """
        if self.state is not State.AWAIT_REPLY:
            raise UsageError(f"no bytes are taken in state {self.state}")
        self._reader.feed(data)
        try:
            frame = self._reader.next_frame(DUE_REPLY)  # [HS-47]
            if frame is None:
                return b""
            established = self._verify_reply(bytes(frame))
        except (DecodeError, HandshakeRefused) as exc:
            self._step(Event.REPLY_REFUSED)
            refuse(exc)
        confirm = established.sealer.seal(RecordType.CONFIRM, b"", now)  # [HS-54] [SE-28] [SE-29]
        self._step(Event.REPLY_VERIFIED)
        self.established = established
        return bytes(confirm)

    def deadline_passed(self) -> HandshakeRefused:
        """The handshake took too long: the error to raise. [HS-3] [HS-76]"""
        self._step(Event.DEADLINE_PASSED)
        return HandshakeRefused(RefusalReason.DEADLINE)

    def transport_closed(self) -> HandshakeRefused:
        """The connection ended: the error to raise. [HS-3]"""
        self._step(Event.TRANSPORT_CLOSED)
        return HandshakeRefused(RefusalReason.TRANSPORT_CLOSED)

    def _step(self, event: Event) -> None:
        before, (_, self.state) = self.state, next_state(INITIATOR, self.state, event)
        if self.state is not before and self.state in (State.ESTABLISHED, State.FAILED):  # [HS-10] [SE-75]
            self._key1 = b""
            del self._x25519, self._mlkem

    # ---- Hello (Spec 5.5) ----

    def _make_hello(self) -> bytes:
        intent = self.intent
        ciphertext = self._randomised.oaep_encrypt(intent.peer.ck, self._key1)  # [ID-8]
        prefix = (
            frame_header(FrameKind.HELLO, hello_length(len(ciphertext)))
            + _VERSION.to_bytes(2, "big")
            + len(ciphertext).to_bytes(2, "big")
            + ciphertext
        )
        body = HelloBody(
            role=intent.role,
            purpose=intent.purpose,
            recipient=intent.peer.node_id.value,  # [HS-12]
            cluster=intent.cluster_id,
            x25519=crypto.x25519_share(self._x25519),
            mlkem_ek=crypto.mlkem_ek(self._mlkem),
            service=intent.service,
            initiator=intent.identity.node_id.value if intent.identity else b"",  # [HS-12]
            signature=b"",
            pad=b"",
        )
        if intent.identity is not None:
            content = signed_content(prefix, encode_before(body, "signature"))  # [HS-14]
            signature = self._randomised.pss_sign(intent.identity.sk_priv, Label.HELLO_SIGNATURE, content)  # [ID-6]
            body = attrs.evolve(body, signature=signature)
        body = attrs.evolve(body, pad=bytes(HELLO_BODY_SIZE - _PAD_PREFIX - len(encode_before(body, "pad"))))  # [HS-13]
        key = crypto.aead_key(key_schedule.k_hello(self._key1))
        sealed = crypto.seal(key, crypto.ZERO_NONCE, prefix, encode(body))  # [HS-11]
        mac_key = key_schedule.k_mac(intent.peer.card.ck, intent.knock)
        mac = crypto.hmac_sha256(mac_key, prefix + sealed)[:MAC_SIZE]  # [HS-15]
        return encode_frame(FrameKind.HELLO, encode(Hello(_VERSION, ciphertext, sealed, mac)))

    # ---- HelloReply (Spec 5.9) ----

    def _verify_reply(self, frame: bytes) -> Established:
        reply = decode(HelloReply, frame[HEADER_SIZE:])
        key = crypto.aead_key(key_schedule.k_reply(self._hello_frame, reply.salt, self._key1))
        aad = frame[: HEADER_SIZE + len(reply.salt)]
        try:
            plaintext = crypto.open_sealed(key, crypto.ZERO_NONCE, aad, reply.sealed)  # [HS-48]
        except NotOpened:
            raise HandshakeRefused(RefusalReason.REPLY_NOT_OPENED) from None
        try:
            body = decode(ReplyBody, plaintext)  # [HS-49]
        except DecodeError as exc:
            raise HandshakeRefused(RefusalReason.REPLY_MALFORMED, str(exc)) from exc
        intent = self.intent
        if intent.purpose is Purpose.LINK and not KEEPALIVE_MIN <= body.keepalive <= LINK_KEEPALIVE_MAX:  # [HS-50]
            raise HandshakeRefused(RefusalReason.KEEPALIVE, f"{body.keepalive} ms")
        try:
            x25519_secret = crypto.x25519_secret(self._x25519, body.x25519)  # [HS-51]
        except NoSecret:
            raise HandshakeRefused(RefusalReason.KEY_SHARE) from None
        mlkem_secret = crypto.mlkem_decapsulate(self._mlkem, body.mlkem_ciphertext)  # [HS-9]
        th = key_schedule.th(self._hello_frame, frame)
        secrets = SessionSecrets.of(key_schedule.prk(th, body.key2, self._key1, x25519_secret, mlkem_secret))
        return Established(
            side=Side.INITIATOR,
            role=intent.role,
            purpose=intent.purpose,
            service=intent.service,
            cluster_id=intent.cluster_id,
            initiator=intent.identity.card if intent.identity else None,
            recipient=intent.peer.node_id,
            keepalive=body.keepalive,
            epoch=body.epoch,  # [HS-53]
            transcript_hash=th,
            exporter=secrets.exporter,
            sealer=Sealer(secrets.i2r),
            opener=Opener(secrets.r2i),
            reader=self._reader,
        )
