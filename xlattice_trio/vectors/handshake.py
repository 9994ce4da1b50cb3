"""Whole handshakes, one side at a time: what the other side sends is given.

`initiate` and `respond` do them with this implementation. What it does not show, the intermediate values, is computed
from the bytes that it sent and from its draws, and held against what it does show. The cases are in `handshake_valid`
(all that succeed), `handshake_hellos`, `handshake_confirms` and `handshake_replies` (all that are refused); they say
beforehand what the second maker of messages, `testing.forge`, gets.
"""

from collections.abc import Iterator, Mapping

from xlattice_trio import crypto
from xlattice_trio.crypto import Draw, Label, NotOpened
from xlattice_trio.errors import DecodeError, HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.handshake import key_schedule as ks
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import PERMITTED, Established, Port, SessionSecrets, Side, signed_content
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Responder, Welcome
from xlattice_trio.handshake.transitions import InitiatorState, ResponderState
from xlattice_trio.limits import KEEPALIVE_MIN, KEY_SIZE, LINK_KEEPALIVE_MAX, MAC_SIZE, SALT_SIZE
from xlattice_trio.session.records import Sealer
from xlattice_trio.vectors import handshake_confirms, handshake_hellos, handshake_replies, handshake_valid
from xlattice_trio.vectors.deterministic import mlkem_encapsulate, randomised
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Area, Case, FailLayer, Json, Op, Refused
from xlattice_trio.vectors.schema import Schema, any_of, array, data, epoch, integer, name, obj, one_of, or_null
from xlattice_trio.wire.codec import decode, encode_before
from xlattice_trio.wire.framing import HEADER_SIZE, REPLY_LENGTH
from xlattice_trio.wire.messages import Hello, HelloBody, Purpose, RecordType, ReplyBody, Role

_NOW = 0.0
_REPLY_SIZE = HEADER_SIZE + REPLY_LENGTH
_CONFIRM_SIZE = 21
_SALT = slice(HEADER_SIZE, HEADER_SIZE + SALT_SIZE)

# Why each side refuses, but for the reasons that stand for several things: those are told apart below.
_RESPONDER: Mapping[RefusalReason, tuple[FailLayer, str]] = {
    RefusalReason.MAC: (FailLayer.MAC, "HS-27"),
    RefusalReason.REPLAY_SEEN: (FailLayer.REPLAY, "HS-28"),
    RefusalReason.HELLO_MALFORMED: (FailLayer.DECODE, "HS-30"),
    RefusalReason.RECIPIENT: (FailLayer.RECIPIENT, "HS-31"),
    RefusalReason.CLUSTER: (FailLayer.RECIPIENT, "HS-32"),
    RefusalReason.ROLE: (FailLayer.ROLE, "HS-33"),
    RefusalReason.LINK_ORDER: (FailLayer.ROLE, "HS-34"),
    RefusalReason.MEMBERSHIP: (FailLayer.MEMBERSHIP, "HS-35"),
    RefusalReason.SELF: (FailLayer.ROLE, "HS-36"),
    RefusalReason.SIGNATURE: (FailLayer.SIGNATURE, "HS-37"),
    RefusalReason.KEY_SHARE: (FailLayer.DECODE, "HS-38"),
}
_INITIATOR: Mapping[RefusalReason, tuple[FailLayer, str]] = {
    RefusalReason.FRAME_HEADER: (FailLayer.FRAME, "HS-47"),
    RefusalReason.REPLY_NOT_OPENED: (FailLayer.REPLY_AEAD, "HS-48"),
    RefusalReason.REPLY_MALFORMED: (FailLayer.DECODE, "HS-49"),
    RefusalReason.KEEPALIVE: (FailLayer.DECODE, "HS-50"),
    RefusalReason.KEY_SHARE: (FailLayer.DECODE, "HS-51"),
}


# What is needed of `made` by who cannot give every draw. The rest is in the base, where nothing has gone wrong yet.
_MADE_IF_REFUSED = {"initiate": ("kem_ciphertext", "signature"), "respond": ("mlkem_ciphertext", "mlkem_secret")}


def _draw_of(given: Json) -> Draw:
    def draw(name: str, size: int) -> bytes:
        value = bytes.fromhex(given[name])
        assert len(value) == size
        return value

    return draw


def _chunks(given: Json) -> list[bytes]:
    return [bytes.fromhex(chunk) for chunk in given["chunks"]]


def _where(exc: HandshakeRefused) -> str | None:
    return exc.__cause__.where if isinstance(exc.__cause__, DecodeError) else None


# ---- initiate ----------------------------------------------------------------


def initiate(given: Json, fixtures: Fixtures) -> Json:
    """The initiator's side. If it does not dial like this at all, nothing is sent, and nothing else is there to see."""
    draw = _draw_of(given["draws"])
    intent = _intent(given, fixtures)
    initiator = Initiator(intent, draw=draw, randomised=randomised(draw))
    hello = initiator.hello()
    output: Json = {"made": _made_of_hello(intent, hello, draw("key1", KEY_SIZE)), "hello": hello.hex(), "sent": []}
    refused = None
    for chunk in _chunks(given):
        assert refused is None
        if initiator.established is not None:
            initiator.established.reader.feed(chunk)
            output["sent"].append("")
            continue
        try:
            output["sent"].append(initiator.receive_data(chunk, _NOW).hex())
        except HandshakeRefused as exc:
            output["sent"].append("")
            refused = exc
    output["state"] = initiator.state.value
    if refused is not None:
        output["made"] = {name: output["made"][name] for name in _MADE_IF_REFUSED["initiate"]}
        layer, by = _INITIATOR[refused.reason]
        raise Refused(layer, by, where=_where(refused), output=output, problem=str(refused))
    if initiator.established is not None:
        received = b"".join(_chunks(given))
        secrets = _initiator_secrets(hello, received[:_REPLY_SIZE], draw)
        output["session"] = _session(initiator.established, secrets, received)
    return output


def _intent(given: Json, fixtures: Fixtures) -> Intent:
    document = fixtures.rosters[given["roster"]] if "roster" in given else fixtures.cluster_cards[given["cluster_card"]]
    port, role, purpose = Port(given["port"]), Role[given["role"].upper()], Purpose[given["purpose"].upper()]
    try:
        return Intent(
            peer=document.members[fixtures.nodes[given["peer"]].node_id].card,
            cluster_id=document.cluster_id,
            role=role,
            purpose=purpose,
            service=bytes.fromhex(given["service"]).decode(),
            identity=None if given["self"] is None else fixtures.nodes[given["self"]],
            knock=fixtures.rosters[given["roster"]].knock if port is Port.CLUSTER else b"",
        )
    except UsageError as exc:
        by = "HS-17" if (port, role, purpose) in PERMITTED else "HS-16"
        raise Refused(FailLayer.ROLE, by, output={"sent": []}, problem=str(exc)) from exc


def _made_of_hello(intent: Intent, frame: bytes, key1: bytes) -> Json:
    prefix, ciphertext, plaintext = _opened(frame, key1)
    body = decode(HelloBody, plaintext)
    signed = Label.HELLO_SIGNATURE.before(signed_content(prefix, encode_before(body, "signature")))
    return {
        "kem_ciphertext": ciphertext.hex(),
        "signature": body.signature.hex(),
        "signed": signed.hex() if body.signature else "",
        "hello_body": plaintext.hex(),
        "k_hello": ks.k_hello(key1).hex(),
        "k_mac": ks.k_mac(intent.peer.card.ck, intent.knock).hex(),
    }


def _opened(frame: bytes, key1: bytes) -> tuple[bytes, bytes, bytes]:
    """Of a Hello: the frame up to `sealed`, kem_ciphertext, and what `sealed` holds. Raises NotOpened."""
    hello = decode(Hello, frame[HEADER_SIZE:])
    prefix = frame[: -len(hello.sealed) - len(hello.mac)]
    key = crypto.aead_key(ks.k_hello(key1))
    return prefix, hello.kem_ciphertext, crypto.open_sealed(key, crypto.ZERO_NONCE, prefix, hello.sealed)


def _opened_reply(k_reply: bytes, frame: bytes) -> bytes:
    """What `sealed` of a HelloReply holds."""
    aad, sealed = frame[: _SALT.stop], frame[_SALT.stop :]
    return crypto.open_sealed(crypto.aead_key(k_reply), crypto.ZERO_NONCE, aad, sealed)


def _initiator_secrets(hello: bytes, reply: bytes, draw: Draw) -> tuple[bytes, SessionSecrets]:
    """th, and what prk gives."""
    key1 = draw("key1", 32)
    body = decode(ReplyBody, _opened_reply(ks.k_reply(hello, reply[_SALT], key1), reply))
    x25519 = crypto.x25519_secret(crypto.x25519_key(draw("x25519", 32)), body.x25519)
    mlkem = crypto.mlkem_decapsulate(crypto.mlkem_key(draw("mlkem_seed", 64)), body.mlkem_ciphertext)
    th = ks.th(hello, reply)
    return th, SessionSecrets.of(ks.prk(th, body.key2, key1, x25519, mlkem))


def _session(established: Established, found: tuple[bytes, SessionSecrets], received: bytes) -> Json:
    """What `session` has on both sides, once the implementation was seen to have these secrets."""
    th, secrets = found
    assert established.transcript_hash == th
    assert established.exporter == secrets.exporter
    i2r, r2i = Sealer(secrets.i2r), Sealer(secrets.r2i)
    i2r.seal(RecordType.CONFIRM, b"", _NOW)
    own, other = (i2r, r2i) if established.side is Side.INITIATOR else (r2i, i2r)
    record = RecordType.KEEPALIVE, b"", _NOW
    assert established.sealer.seal(*record) == own.seal(*record)
    with memoryview(other.seal(*record)) as frame:
        established.opener.open(frame)
    return {
        "keepalive": established.keepalive,
        "epoch": f"{established.epoch:016x}",
        "transcript_hash": th.hex(),
        "exporter": secrets.exporter.hex(),
        "i2r": secrets.i2r.hex(),
        "r2i": secrets.r2i.hex(),
        "unread": received[len(received) - established.reader.unread :].hex(),
    }


# ---- respond -----------------------------------------------------------------


def respond(given: Json, fixtures: Fixtures) -> Json:
    """The responder's side."""
    return _Respond(given, fixtures).output()


class _Respond:
    """One run of a `Responder`."""

    def __init__(self, given: Json, fixtures: Fixtures) -> None:
        self.draw = _draw_of(given["draws"])
        self.roster = fixtures.rosters[given["roster"]]
        self.roster_at_confirm = fixtures.rosters[given.get("roster_at_confirm", given["roster"])]
        self.known = [bytes.fromhex(digest) for digest in given["replay_cache"]]
        self.accepted = [AcceptedKey.of(fixtures.keys[key]) for key in given["accepted"]]
        self.chunks = _chunks(given)
        self.received = b"".join(self.chunks)
        self.hello = self.received[: HEADER_SIZE + int.from_bytes(self.received[1:HEADER_SIZE], "big")]
        keepalive = given["keepalive"]
        for_links: dict[str, int] = {}
        if KEEPALIVE_MIN <= keepalive <= LINK_KEEPALIVE_MAX:
            for_links["link_keepalive"] = keepalive
        self.replay = ReplayCache()
        for digest in self.known:
            self.replay.insert(digest)
        self.welcome = Welcome(
            port=Port(given["port"]),
            node_id=fixtures.nodes[given["self"]].node_id,
            roster=lambda: self.roster,
            accepted_keys=lambda: self.accepted,
            replay=self.replay,
            keepalive=keepalive,
            **for_links,
        )
        self.responder = Responder(self.welcome, draw=self.draw, randomised=randomised(self.draw))
        self.sent: list[bytes] = []
        self.secrets: tuple[bytes, SessionSecrets] | None = None

    def output(self) -> Json:
        refused, state = None, self.responder.state
        for chunk in self.chunks:
            assert refused is None
            state = self.responder.state
            try:
                self.sent.append(self._receive(chunk))
            except HandshakeRefused as exc:
                refused = exc
                self.sent.append(b"")
        output: Json = {}
        reply = b"".join(self.sent)
        if reply:
            output["made"] = self._made(reply)
        output |= {
            "sent": [one.hex() for one in self.sent],
            "inserted": self._inserted(),
            "state": self.responder.state.value,
        }
        if refused is not None:
            if reply:
                output["made"] = {name: output["made"][name] for name in _MADE_IF_REFUSED["respond"]}
            layer, by = self._reason(refused.reason, state)
            raise Refused(layer, by, where=_where(refused), output=output, problem=str(refused))
        established = self.responder.established
        if established is not None:
            assert self.secrets is not None
            output["session"] = _session(established, self.secrets, self.received) | {
                "role": established.role.name.lower(),
                "purpose": established.purpose.name.lower(),
                "service": established.service.encode().hex(),
                "initiator": established.initiator and str(established.initiator.node_id),
            }
        return output

    def _receive(self, chunk: bytes) -> bytes:
        if self.responder.established is not None:
            self.responder.established.reader.feed(chunk)
            return b""
        reply = self.responder.receive_data(chunk)
        if reply:
            self.roster = self.roster_at_confirm
        return reply

    def _inserted(self) -> list[str]:
        digest = ks.hello_digest(self.hello)
        if len(self.replay) == len(self.known):
            return []
        assert digest in self.replay
        assert len(self.replay) == len(self.known) + 1
        return [digest.hex()]

    def _ck(self) -> AcceptedKey:
        """The accepted ck that the mac of the Hello fits."""
        knock = self.roster.knock if self.welcome.port is Port.CLUSTER else b""
        mac = self.hello[-MAC_SIZE:]
        size = len(decode(Hello, self.hello[HEADER_SIZE:]).kem_ciphertext)
        return next(
            key
            for key in self.accepted
            if key.size == size
            and crypto.hmac_sha256(ks.k_mac(key.spki, knock), self.hello[:-MAC_SIZE])[:MAC_SIZE] == mac
        )

    def _decrypted(self, fallback: bytes) -> bytes:
        ciphertext = decode(Hello, self.hello[HEADER_SIZE:]).kem_ciphertext
        return crypto.oaep_decrypt(self._ck().ck_priv, ciphertext, fallback)

    def _made(self, reply: bytes) -> Json:
        key1 = self._decrypted(self.draw("oaep_fallback", KEY_SIZE))
        _, _, hello_body = _opened(self.hello, key1)
        body = decode(HelloBody, hello_body)
        x25519 = crypto.x25519_secret(crypto.x25519_key(self.draw("x25519", KEY_SIZE)), body.x25519)
        mlkem, ciphertext = mlkem_encapsulate(body.mlkem_ek, self.draw("mlkem_m", KEY_SIZE))
        k_reply = ks.k_reply(self.hello, reply[_SALT], key1)
        th = ks.th(self.hello, reply)
        self.secrets = th, SessionSecrets.of(ks.prk(th, self.draw("key2", KEY_SIZE), key1, x25519, mlkem))
        values = {
            "hello_body": hello_body,
            "mlkem_ciphertext": ciphertext,
            "mlkem_secret": mlkem,
            "x25519_secret": x25519,
            "reply_body": _opened_reply(k_reply, reply),
            "k_reply": k_reply,
        }
        return {name: value.hex() for name, value in values.items()}

    def _reason(self, reason: RefusalReason, state: ResponderState) -> tuple[FailLayer, str]:
        """The implementation's reason, and which of several it was where its reason stands for several."""
        match reason:
            case RefusalReason.FRAME_HEADER:
                return FailLayer.FRAME, "HS-25" if state is ResponderState.AWAIT_HELLO else "HS-56"
            case RefusalReason.VERSION:
                right = self.hello[HEADER_SIZE : HEADER_SIZE + 2] == b"\x00\x02"
                return FailLayer.DECODE if right else FailLayer.VERSION, "HS-26"
            case RefusalReason.HELLO_NOT_OPENED:
                decrypted = self._decrypted(bytes(KEY_SIZE)) == self._decrypted(b"\xff" * KEY_SIZE)
                return FailLayer.HELLO_AEAD if decrypted else FailLayer.OAEP, "HS-29"
            case RefusalReason.CONFIRM:
                return FailLayer.SESSION if self._first_record_opens() else FailLayer.RECORD, "HS-57"
            case RefusalReason.ROSTER_CHANGED:
                return FailLayer.MEMBERSHIP, "HS-58" if self.welcome.node_id in self.roster.members else "RO-58"
        return _RESPONDER[reason]

    def _first_record_opens(self) -> bool:
        """Whether what stands in the place of Confirm opens, and is of a known type."""
        assert self.secrets is not None
        keys = ks.generation(self.secrets[1].i2r)
        record = self.received[len(self.hello) :][:_CONFIRM_SIZE]
        aad, sealed = record[:HEADER_SIZE], record[HEADER_SIZE:]
        try:
            plaintext = crypto.open_sealed(crypto.aead_key(keys.key), keys.iv, aad, sealed)
        except NotOpened:
            return False
        return plaintext[0] in list(RecordType)


# ---- the area ----------------------------------------------------------------

_SESSION = {
    "keepalive": integer(),
    "epoch": epoch(),
    "transcript_hash": data(32),
    "exporter": data(32),
    "i2r": data(32),
    "r2i": data(32),
    "unread": data(),
}
_INITIATE_MADE = {
    "kem_ciphertext": data(),
    "signature": data(),
    "signed": data(),
    "hello_body": data(1920),
    "k_hello": data(32),
    "k_mac": data(32),
}
_RESPOND_MADE = {
    "hello_body": data(1920),
    "mlkem_ciphertext": data(1088),
    "mlkem_secret": data(32),
    "x25519_secret": data(32),
    "reply_body": data(1164),
    "k_reply": data(32),
}
_INITIATE_OUTPUT = {"hello": data(), "sent": array(data()), "state": one_of(*InitiatorState)}
_RESPOND_OUTPUT = {"sent": array(data()), "inserted": array(data(32)), "state": one_of(*ResponderState)}


def _if_refused(op: str, made: dict[str, Schema]) -> Schema:
    return obj({name: made[name] for name in _MADE_IF_REFUSED[op]})


OPS = {
    "initiate": Op(
        initiate,
        input=obj(
            {
                "self": or_null(name()),
                "peer": name(),
                "port": one_of("cluster", "client"),
                "role": one_of("member", "client", "anonymous"),
                "purpose": one_of("link", "stream"),
                "service": data(),
                "draws": obj(
                    {"key1": data(32), "x25519": data(32), "mlkem_seed": data(64), "oaep_seed": data(32)},
                    {"pss_salt": data(32)},
                ),
                "chunks": array(data()),
            },
            {"roster": name(), "cluster_card": name()},
        ),
        output=obj({"made": obj(_INITIATE_MADE), **_INITIATE_OUTPUT}, {"session": obj(_SESSION)}),
        refused_output=any_of(
            obj({"made": _if_refused("initiate", _INITIATE_MADE), **_INITIATE_OUTPUT}), obj({"sent": array(data())})
        ),
    ),
    "respond": Op(
        respond,
        input=obj(
            {
                "self": name(),
                "accepted": array(name(), 1),
                "roster": name(),
                "port": one_of("cluster", "client"),
                "keepalive": integer(),
                "replay_cache": array(data(32)),
                "draws": obj(
                    {
                        "oaep_fallback": data(32),
                        "x25519": data(32),
                        "key2": data(32),
                        "salt": data(32),
                        "mlkem_m": data(32),
                    }
                ),
                "chunks": array(data()),
            },
            {"roster_at_confirm": name()},
        ),
        output=obj(
            _RESPOND_OUTPUT,
            {
                "made": obj(_RESPOND_MADE),
                "session": obj(
                    {
                        **_SESSION,
                        "role": one_of("member", "client", "anonymous"),
                        "purpose": one_of("link", "stream"),
                        "service": data(),
                        "initiator": or_null(data()),
                    }
                ),
            },
        ),
        refused_output=obj(_RESPOND_OUTPUT, {"made": _if_refused("respond", _RESPOND_MADE)}),
    ),
}


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from handshake_valid.cases(fixtures)
    yield from handshake_hellos.cases(fixtures)
    yield from handshake_confirms.cases(fixtures)
    yield from handshake_replies.cases(fixtures)


AREA = Area("handshake", "One side of a handshake, from its draws and what arrives", OPS, cases)
