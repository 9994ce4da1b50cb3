"""The responder's side of the handshake, without I/O: bytes in, bytes out.

A `Responder` stays silent until it has verified everything that a Hello claims: each of the checks of Spec 5.7 raises
HandshakeRefused with a reason that stays here, and all of them look the same from outside. Everything is computed on
locals; the one thing that a Hello leaves behind is its digest in the replay cache, put there by the last check. It
knows no clock and no socket. Source addresses and limits, checks 1 and 2, are `net.listen`'s. Spec 5.7, 5.8, 5.10.
[HS-18] [HS-21]
"""

from collections.abc import Callable, Sequence

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import SYSTEM_RANDOMISED, Draw, Label, NoSecret, NotOpened, Randomised, system_draw
from xlattice_trio.errors import DecodeError, HandshakeRefused, IdentityError, RecordError, RefusalReason, UsageError
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
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.transitions import RESPONDER
from xlattice_trio.handshake.transitions import ResponderEvent as Event
from xlattice_trio.handshake.transitions import ResponderState as State
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import (
    KEEPALIVE_MAX,
    KEEPALIVE_MIN,
    KEY_SIZE,
    LINK_KEEPALIVE_MAX,
    MAC_SIZE,
    SALT_SIZE,
    X25519_SIZE,
)
from xlattice_trio.machine import next_state
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.session.records import Opener, Sealer
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.framing import (
    DUE_CONFIRM,
    HEADER_SIZE,
    REPLY_LENGTH,
    Due,
    FrameReader,
    encode_frame,
    frame_header,
    hello_length,
)
from xlattice_trio.wire.messages import (
    ClientAccess,
    FrameKind,
    Hello,
    HelloBody,
    HelloReply,
    Purpose,
    RecordType,
    ReplyBody,
    Role,
)


@attrs.frozen
class AcceptedKey:
    """An encryption key that a Hello may be for. `spki` is the DER of its public half."""

    ck_priv: crypto.RSAPrivateKey = attrs.field(repr=False)
    spki: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, ck_priv: crypto.RSAPrivateKey) -> "AcceptedKey":
        return cls(ck_priv, crypto.encode_spki(ck_priv.public_key()))

    @property
    def size(self) -> int:
        """Bytes of the modulus."""
        return self.ck_priv.key_size // 8


def _check_stream_keepalive(_: object, __: object, value: int) -> None:
    if value and not KEEPALIVE_MIN <= value <= KEEPALIVE_MAX:
        raise UsageError(f"a keepalive of {value} ms: 0, or {KEEPALIVE_MIN} to {KEEPALIVE_MAX} expected")


def _check_link_keepalive(_: object, __: object, value: int) -> None:
    if not KEEPALIVE_MIN <= value <= LINK_KEEPALIVE_MAX:  # [HS-44]
        raise UsageError(f"a keepalive of {value} ms on links: {KEEPALIVE_MIN} to {LINK_KEEPALIVE_MAX} expected")


@attrs.frozen
class Welcome:
    """What a port answers with: who we are, and who may come. One for all connections of a port.

    `roster` and `accepted_keys` (newest first) are asked anew by every handshake; `replay` is shared by both ports.
    `keepalive` and `link_keepalive` are in milliseconds. Raises UsageError for intervals that the protocol does not
    allow.
    """

    port: Port
    node_id: NodeID
    roster: Callable[[], VerifiedRoster]
    accepted_keys: Callable[[], Sequence[AcceptedKey]]
    replay: ReplayCache
    keepalive: int = attrs.field(default=0, validator=_check_stream_keepalive)
    link_keepalive: int = attrs.field(default=15_000, validator=_check_link_keepalive)  # [SE-79]


@attrs.frozen
class _VerifiedHello:
    """A Hello that passed every check, and what the reply is made of."""

    frame: bytes
    body: HelloBody
    key1: bytes = attrs.field(repr=False)
    initiator: VerifiedCard | None
    mlkem: crypto.MLKEMPublicKey
    x25519_share: bytes
    x25519_secret: bytes = attrs.field(repr=False)


class Responder:
    """One handshake, as responder.

    `receive_data` takes whatever arrives and returns what is to be sent: nothing, or the HelloReply. [HS-4] [HS-46]
    [SE-1] [SE-4] When Confirm has opened, `established` is set and further bytes belong to the session. [SE-3]
    Randomness comes from `draw`: oaep_fallback, x25519, key2, salt (32 bytes each); that of ML-KEM from `randomised`.
    """

    def __init__(
        self, welcome: Welcome, *, draw: Draw = system_draw, randomised: Randomised = SYSTEM_RANDOMISED
    ) -> None:
        self.welcome = welcome
        self.state = State.AWAIT_HELLO
        self.established: Established | None = None
        self._draw = draw
        self._randomised = randomised
        self._reader = FrameReader()
        self._roster: VerifiedRoster | None = None
        self._accepted: Sequence[AcceptedKey] = ()
        self._pending: Established | None = None

    def receive_data(self, data: bytes) -> bytes:
        """Take bytes that arrived; returns the HelloReply to send, or nothing.

        When a HelloReply has been written, it is to be called with no bytes: what came behind the Hello is judged then,
        and not when more arrives. [FR-5] Raises HandshakeRefused, after which nothing is sent and the connection is
        closed. [HS-19] [HS-20] [HS-59]
        """
        if self.state not in (State.AWAIT_HELLO, State.AWAIT_CONFIRM):
            raise UsageError(f"no bytes are taken in state {self.state}")
        self._reader.feed(data)
        if self.state is State.AWAIT_HELLO:
            return self._receive_hello()
        self._receive_confirm()
        return b""

    def deadline_passed(self) -> HandshakeRefused:
        """The handshake took too long: the error to raise. [HS-77]"""
        self._step(Event.DEADLINE_PASSED)
        return HandshakeRefused(RefusalReason.DEADLINE)

    def transport_closed(self) -> HandshakeRefused:
        """The connection ended: the error to raise."""
        self._step(Event.TRANSPORT_CLOSED)
        return HandshakeRefused(RefusalReason.TRANSPORT_CLOSED)

    @property
    def is_admitted(self) -> bool:
        """Whether the roster in force admits this handshake, as far as it is known whose it is. [RO-56]"""
        roster, pending = self.welcome.roster(), self._pending
        if self.welcome.node_id not in roster.members:
            return False
        return pending is None or admits(roster, pending.role, pending.initiator)

    def given_up(self) -> HandshakeRefused:
        """The roster in force does not admit it: the error to raise."""
        self._step(Event.TRANSPORT_CLOSED)
        return HandshakeRefused(RefusalReason.ROSTER_CHANGED)

    def _step(self, event: Event) -> None:
        _, self.state = next_state(RESPONDER, self.state, event)
        if self.state is State.IGNORED:
            self._pending = None  # [HS-10]

    def _receive_hello(self) -> bytes:
        if self._roster is None:  # [HS-22]
            self._roster, self._accepted = self.welcome.roster(), self.welcome.accepted_keys()
        lengths = {hello_length(key.size) for key in self._accepted}
        try:
            frame = self._reader.next_frame(Due(FrameKind.HELLO, lengths))  # [HS-25]
            if frame is None:
                return b""
            hello = self._verify_hello(bytes(frame), self._roster)
        except (DecodeError, HandshakeRefused) as exc:
            self._step(Event.HELLO_REFUSED)
            refuse(exc)
        reply, self._pending = self._make_reply(hello, self._roster)  # what `hello` holds ends here [HS-10] [SE-75]
        self._step(Event.HELLO_VERIFIED)
        return reply

    def _receive_confirm(self) -> None:
        assert self._pending is not None
        try:
            frame = self._reader.next_frame(DUE_CONFIRM)  # [HS-56]
            if frame is None:
                return
            established = self._verify_confirm(frame, self._pending)
        except (DecodeError, HandshakeRefused) as exc:
            self._step(Event.CONFIRM_REFUSED)
            refuse(exc)
        self._step(Event.CONFIRM_OPENED)
        self.established, self._pending = established, None

    # ---- the checks of Spec 5.7, in its order; 3, the frame header, is above ----

    def _verify_hello(self, frame: bytes, roster: VerifiedRoster) -> _VerifiedHello:
        welcome = self.welcome

        # 4. version and form
        try:
            hello = decode(Hello, frame[HEADER_SIZE:])  # [HS-26]
        except DecodeError as exc:
            raise HandshakeRefused(RefusalReason.VERSION, str(exc)) from exc

        # 5. mac, under each accepted key of this size, newest first
        key = self._key_of_mac(frame, hello, roster)  # [HS-27]

        # 6. replay, look-up only
        digest = key_schedule.hello_digest(frame)
        if digest in welcome.replay:  # [HS-28]
            raise HandshakeRefused(RefusalReason.REPLAY_SEEN)

        # 7. RSA and AEAD: what does not decrypt goes on with a random key1
        prefix = frame[: -len(hello.sealed) - len(hello.mac)]
        key1 = crypto.oaep_decrypt(key.ck_priv, hello.kem_ciphertext, self._draw("oaep_fallback", KEY_SIZE))  # [HS-40]
        try:
            sealing_key = crypto.aead_key(key_schedule.k_hello(key1))
            plaintext = crypto.open_sealed(sealing_key, crypto.ZERO_NONCE, prefix, hello.sealed)  # [HS-29]
        except NotOpened:
            raise HandshakeRefused(RefusalReason.HELLO_NOT_OPENED) from None

        # 8. decoding
        try:
            body = decode(HelloBody, plaintext)  # [HS-30]
            mlkem = crypto.mlkem_public(body.mlkem_ek)
        except DecodeError as exc:
            raise HandshakeRefused(RefusalReason.HELLO_MALFORMED, str(exc)) from exc
        except NoSecret:
            raise HandshakeRefused(RefusalReason.HELLO_MALFORMED, "HelloBody.mlkem_ek: not an ML-KEM-768 key") from None

        # 9 to 12. for us, here, and in a role that this port serves
        if body.recipient != welcome.node_id.value:  # [HS-31]
            raise HandshakeRefused(RefusalReason.RECIPIENT, body.recipient.hex())
        if body.cluster != roster.cluster_id:  # [HS-32]
            raise HandshakeRefused(RefusalReason.CLUSTER, body.cluster.hex())
        if (welcome.port, body.role, body.purpose) not in PERMITTED or not _anonymous_admitted(body, roster):  # [HS-33]
            raise HandshakeRefused(RefusalReason.ROLE, f"{body.purpose.name.lower()} as {body.role.name.lower()}")
        if body.purpose is Purpose.LINK and body.initiator >= body.recipient:  # [HS-34]
            raise HandshakeRefused(RefusalReason.LINK_ORDER)

        # 13 to 15. who it is
        initiator = None
        if body.role is not Role.ANONYMOUS:
            initiator = _listed(body.role, body.initiator, roster)
            if initiator is None:  # [HS-35]
                raise HandshakeRefused(RefusalReason.MEMBERSHIP, body.initiator.hex())
            if body.initiator == body.recipient:  # [HS-36]
                raise HandshakeRefused(RefusalReason.SELF)
            content = signed_content(prefix, encode_before(body, "signature"))
            try:
                crypto.pss_verify(initiator.sk, Label.HELLO_SIGNATURE, content, body.signature)  # [HS-37]
            except IdentityError as exc:
                raise HandshakeRefused(RefusalReason.SIGNATURE, str(exc)) from exc

        # 16. key share
        x25519 = crypto.x25519_key(self._draw("x25519", X25519_SIZE))
        try:
            x25519_secret = crypto.x25519_secret(x25519, body.x25519)  # [HS-38]
        except NoSecret:
            raise HandshakeRefused(RefusalReason.KEY_SHARE) from None

        # 17. replay, check and insert in one; the only trace of a Hello, and the last thing that can refuse it
        if initiator is not None and not welcome.replay.insert(digest):  # [HS-39] [HS-62]
            raise HandshakeRefused(RefusalReason.REPLAY_RACED)
        return _VerifiedHello(frame, body, key1, initiator, mlkem, crypto.x25519_share(x25519), x25519_secret)

    def _key_of_mac(self, frame: bytes, hello: Hello, roster: VerifiedRoster) -> AcceptedKey:
        knock = roster.knock if self.welcome.port is Port.CLUSTER else b""
        for key in self._accepted:
            if key.size == len(hello.kem_ciphertext):
                mac_key = key_schedule.k_mac(key.spki, knock)
                mac = crypto.hmac_sha256(mac_key, memoryview(frame)[:-MAC_SIZE])[:MAC_SIZE]
                if crypto.equal(mac, hello.mac):  # [NO-29]
                    return key
        raise HandshakeRefused(RefusalReason.MAC)

    # ---- HelloReply (Spec 5.8) ----

    def _make_reply(self, hello: _VerifiedHello, roster: VerifiedRoster) -> tuple[bytes, Established]:
        welcome = self.welcome
        mlkem_secret, mlkem_ciphertext = self._randomised.mlkem_encapsulate(hello.mlkem)  # [HS-9]
        body = ReplyBody(
            key2=self._draw("key2", KEY_SIZE),  # [HS-6]
            x25519=hello.x25519_share,
            mlkem_ciphertext=mlkem_ciphertext,
            keepalive=welcome.link_keepalive if hello.body.purpose is Purpose.LINK else welcome.keepalive,
            epoch=roster.epoch,  # [HS-45]
        )
        salt = self._draw("salt", SALT_SIZE)  # [HS-43]
        key = crypto.aead_key(key_schedule.k_reply(hello.frame, salt, hello.key1))
        header = frame_header(FrameKind.HELLO_REPLY, REPLY_LENGTH)
        sealed = crypto.seal(key, crypto.ZERO_NONCE, header + salt, encode(body))  # [HS-42]
        frame = encode_frame(FrameKind.HELLO_REPLY, encode(HelloReply(salt, sealed)))
        th = key_schedule.th(hello.frame, frame)
        prk = key_schedule.prk(th, body.key2, hello.key1, hello.x25519_secret, mlkem_secret)
        secrets = SessionSecrets.of(prk)
        return frame, Established(
            side=Side.RESPONDER,
            role=hello.body.role,
            purpose=hello.body.purpose,
            service=hello.body.service,  # [HS-41]
            cluster_id=roster.cluster_id,
            initiator=hello.initiator,
            recipient=welcome.node_id,
            keepalive=body.keepalive,
            epoch=roster.epoch,
            transcript_hash=th,
            exporter=secrets.exporter,
            sealer=Sealer(secrets.r2i),
            opener=Opener(secrets.i2r),
            reader=self._reader,
        )

    # ---- Confirm (Spec 5.10) ----

    def _verify_confirm(self, frame: memoryview, pending: Established) -> Established:
        try:
            type_, _ = pending.opener.open(frame)  # [HS-57]
        except RecordError as exc:
            raise HandshakeRefused(RefusalReason.CONFIRM, str(exc)) from exc
        if type_ is not RecordType.CONFIRM:  # [HS-57]
            raise HandshakeRefused(RefusalReason.CONFIRM, type_.name)
        roster = self.welcome.roster()
        if self.welcome.node_id not in roster.members:  # [RO-58] [HS-58]
            raise HandshakeRefused(RefusalReason.ROSTER_CHANGED, "this node is no longer a member")
        if not admits(roster, pending.role, pending.initiator):  # [HS-58] [RO-56]
            raise HandshakeRefused(RefusalReason.ROSTER_CHANGED)
        if pending.initiator is None:
            return pending
        card = _listed(pending.role, pending.initiator.node_id.value, roster)  # its name may be another one now
        return attrs.evolve(pending, initiator=card)


def admits(roster: VerifiedRoster, role: Role, initiator: VerifiedCard | None) -> bool:
    """Whether `roster` admits a handshake or session of this initiator: same NodeID, same sk. [HS-58] [RO-57]

    A NodeID is a hash of sk, so that the one implies the other, but for 160 bits and the key's own owner.
    """
    if initiator is None:
        return roster.client_access is ClientAccess.ANYONE
    listed = _listed(role, initiator.node_id.value, roster)
    return listed is not None and listed.card.sk == initiator.card.sk


def _listed(role: Role, node_id: bytes, roster: VerifiedRoster) -> VerifiedCard | None:
    if role is Role.MEMBER:
        member = roster.members.get(NodeID(node_id))
        return member.card if member else None
    return roster.clients.get(NodeID(node_id))


def _anonymous_admitted(body: HelloBody, roster: VerifiedRoster) -> bool:
    return body.role is not Role.ANONYMOUS or roster.client_access is ClientAccess.ANYONE
