"""The handshake's invariants as functions: what every machine calls after what it did.

None of them asks the code under test what is right. What a message has to be is read from its bytes, at the offsets of
Spec 5.5 and 5.8, with the formulas of `testing.forge`; whether a HelloBody decodes, the decoder says that is made from
the specification's tables; and who may come, the rules here say once more, in the order of Spec 5.7. An assertion that
fails names the requirement that was broken.
"""

import functools
import traceback
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import attrs

from xlattice_trio.crypto import AEADKey, MLKEMKey, NotOpened, RSAPublicKey, X25519Key, encode_spki
from xlattice_trio.errors import HandshakeRefused, RefusalReason
from xlattice_trio.fuzz.target import GotData, Outcome, Wire
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Established, Port, Side
from xlattice_trio.handshake.responder import Responder
from xlattice_trio.speccheck.decoder import Decoder, TableDecodeError
from xlattice_trio.speccheck.tables import find_directory, read_specification
from xlattice_trio.testing.forge import Secrets, h, mac_of
from xlattice_trio.testing.toolbox import Attacker, RawPeer, pattern
from xlattice_trio.wire.messages import Purpose, RecordType, Role

REPLY_SIZE = 1216
CONFIRM_SIZE = 21
DEADLINE = 10  # seconds: [HS-76] [HS-77]
DEADLINES = (DEADLINE, DEADLINE, 3, 30)  # ... unless configured

# ---- order of the responder's checks (Spec 5.7) ------------------------------

CHECKS = (
    RefusalReason.FRAME_HEADER,
    RefusalReason.VERSION,
    RefusalReason.MAC,
    RefusalReason.REPLAY_SEEN,
    RefusalReason.HELLO_NOT_OPENED,
    RefusalReason.HELLO_MALFORMED,
    RefusalReason.RECIPIENT,
    RefusalReason.CLUSTER,
    RefusalReason.ROLE,
    RefusalReason.LINK_ORDER,
    RefusalReason.MEMBERSHIP,
    RefusalReason.SELF,
    RefusalReason.SIGNATURE,
    RefusalReason.KEY_SHARE,
)


def first_refusal(*reasons: RefusalReason | None) -> RefusalReason | None:
    """Of several things that are wrong with a Hello, the one whose check comes first; None if nothing is."""
    return min((reason for reason in reasons if reason is not None), key=CHECKS.index, default=None)


@attrs.frozen
class Admission:
    """What a roster says about who may come. Members and clients are NodeIDs."""

    epoch: int
    members: Collection[bytes]
    clients: Collection[bytes]
    anyone: bool

    def admits(self, role: int, initiator: bytes | None) -> bool:
        """Whether it admits a handshake or session of this initiator. Spec 3.11."""
        if role == Role.ANONYMOUS:
            return self.anyone
        return initiator in (self.members if role == Role.MEMBER else self.clients)


_ROWS = {(Port.CLUSTER, 1, 1), (Port.CLUSTER, 1, 2), (Port.CLIENT, 2, 2), (Port.CLIENT, 3, 2)}  # Spec 5.6


def body_refusal(
    body: bytes, *, port: Port, node_id: bytes, cluster: bytes, admission: Admission, signed: bool
) -> RefusalReason | None:
    """Checks 8 to 16 once more, for a HelloBody that opened. `signed`: its signature is the right one."""
    values = body_values(body)
    if values is None or not mlkem_ek_is_valid(values["mlkem_ek"]):
        return RefusalReason.HELLO_MALFORMED
    role, purpose, initiator = values["role"], values["purpose"], values["initiator"]
    if values["recipient"] != node_id:
        return RefusalReason.RECIPIENT
    if values["cluster"] != cluster:
        return RefusalReason.CLUSTER
    if (port, role, purpose) not in _ROWS or (role == Role.ANONYMOUS and not admission.anyone):
        return RefusalReason.ROLE
    if purpose == Purpose.LINK and initiator >= node_id:
        return RefusalReason.LINK_ORDER
    if role != Role.ANONYMOUS:
        if not admission.admits(role, initiator):
            return RefusalReason.MEMBERSHIP
        if initiator == node_id:
            return RefusalReason.SELF
        if not signed:
            return RefusalReason.SIGNATURE
    return RefusalReason.KEY_SHARE if gives_zero(values["x25519"]) else None


@functools.cache
def _tables() -> Decoder:
    return Decoder(read_specification(find_directory()))


def body_values(body: bytes) -> dict[str, Any] | None:
    """The fields of a HelloBody, by the specification's table; None if it is none."""
    try:
        return _tables().decode("HelloBody", body)
    except TableDecodeError:
        return None


def reply_values(body: bytes) -> dict[str, Any] | None:
    """The fields of a ReplyBody, by the specification's table; None if it is none."""
    try:
        return _tables().decode("ReplyBody", body)
    except TableDecodeError:
        return None


@functools.lru_cache(256)  # most Hellos that are changed have the same one
def mlkem_ek_is_valid(ek: bytes) -> bool:
    """The check of FIPS 203, section 7.2, as Spec 5.7 words it."""
    triples = (ek[at : at + 3] for at in range(0, 1152, 3))
    return all((b0 | (b1 & 15) << 8) < 3329 and ((b1 >> 4) | b2 << 4) < 3329 for b0, b1, b2 in triples)


_P = 2**255 - 19
# Every u-coordinate, below 2^255, of a point whose order divides 8: with any private key the secret is 32 zero bytes.
_LOW_ORDER = (
    0,
    1,
    325606250916557431795983626356110631294008115727848805560023387167927233504,
    39382357235489614581723060781553021112529911719440698176882885853963445705823,
    _P - 1,
    _P,
    _P + 1,
)
LOW_ORDER = tuple((u | top << 255).to_bytes(32, "little") for u in _LOW_ORDER for top in (0, 1))


def gives_zero(share: bytes) -> bool:
    """Whether an X25519 secret with this share is 32 zero bytes."""
    return share in LOW_ORDER


# ---- silence -----------------------------------------------------------------


def check_silence(wire: Wire, *, closed: bool) -> None:
    """Not a byte has come, and the connection is closed, or is not."""
    said = wire.received()
    assert not said, f"{len(said)} bytes where silence is due: {said[:32].hex(' ')}"
    if closed:
        assert wire.closed, "what was refused is not closed at once [HS-19] [FR-5]"
    else:
        assert not wire.closed, "closed, though nothing was wrong so far"


def check_refused(wire: Wire, reason: RefusalReason | None, state: str = "IGNORED") -> None:
    """It was refused: silence, closed, nobody established, nobody behind it. The reason is local, and known to some."""
    check_silence(wire, closed=True)
    assert wire.established is None, "refused, and yet established"
    assert wire.application is None, "refused, and yet an application is behind it"
    if wire.state is not None:
        assert wire.state == state, f"{wire.state} after a refusal, {state} by the state table [HS-78] [HS-79]"
        assert wire.refusal is not None, "closed without a reason"
        if reason is not None:
            assert wire.refusal is reason, (
                f"refused as {wire.refusal.name}, where {reason.name} is the first check that fails [HS-18]"
            )


# ---- what must never come twice ----------------------------------------------


class Fresh:
    """Values that have to be new each time, by what they are. [HS-6]"""

    def __init__(self) -> None:
        self._seen: set[tuple[str, bytes]] = set()

    def add(self, what: str, value: bytes) -> None:
        """A value has come."""
        assert any(value), f"{what} is all zeros [HS-6]"
        assert (what, value) not in self._seen, f"{what} has come twice [HS-6]"
        self._seen.add((what, value))


# ---- HelloReply --------------------------------------------------------------


def check_reply(
    attacker: Attacker,
    hello: bytes,
    data: bytes,
    *,
    keepalive: int | None,
    epochs: Collection[int] | None,
    fresh: Fresh,
) -> Secrets | None:
    """The answer to a Hello of the attacker's is one HelloReply, and as Spec 5.8 has it; what the handshake gives.

    `keepalive` and `epochs` are None where they are not known. The result is None if the attacker does not have the
    private half of the Hello's shares.
    """
    assert data, "a genuine Hello by an allowed initiator is not answered [HS-79]"
    assert len(data) == REPLY_SIZE, f"{len(data)} bytes in answer to a Hello, {REPLY_SIZE} expected [HS-42] [HS-46]"
    assert data[:4] == bytes.fromhex("020004bc"), f"a HelloReply with the header {data[:4].hex()}"
    opened = attacker.open_reply(hello, data)
    assert opened is not None, "the HelloReply does not open under K_reply [HS-5] [HS-11] [HS-42]"
    values = reply_values(opened.body)
    assert values is not None, "the HelloReply holds no ReplyBody [HS-42]"
    found, epoch = values["keepalive"], values["epoch"]
    assert keepalive in (None, found), f"a keepalive of {found}, not {keepalive} [HS-44] [SE-79]"
    assert epochs is None or epoch in epochs, f"epoch {epoch}, not one of {sorted(epochs)} [HS-45]"
    for what, value in (
        ("the salt of HelloReply [HS-43]", data[4:36]),
        ("key2", values["key2"]),
        ("the responder's x25519", values["x25519"]),
        ("K_reply, under which a nonce is used once,", opened.k_reply),
    ):
        fresh.add(what, value)
    secrets = attacker.secrets(hello, data)
    if secrets is None:
        return None
    fresh.add("secret_0, I to R,", secrets.i2r)
    fresh.add("secret_0, R to I,", secrets.r2i)
    assert secrets.i2r != secrets.r2i
    return secrets


# ---- who is established ------------------------------------------------------


@attrs.frozen
class View:
    """What one side has to see of a session."""

    side: Side
    role: int
    purpose: int
    service: bytes
    cluster: bytes
    initiator: bytes | None  # its NodeID; None: anonymous
    recipient: bytes
    keepalive: int
    epoch: int
    transcript_hash: bytes
    exporter: bytes

    @classmethod
    def of(cls, found: Established) -> "View":
        """What a side sees."""
        return cls(
            found.side,
            int(found.role),
            int(found.purpose),
            found.service.encode(),
            found.cluster_id,
            None if found.initiator is None else found.initiator.node_id.value,
            found.recipient.value,
            found.keepalive,
            found.epoch,
            found.transcript_hash,
            found.exporter,
        )


def check_established(wire: Wire, expected: View) -> None:
    """The target is established, and sees what it has to see. Nothing if the driver does not know."""
    assert not wire.closed, f"closed, where it has to be established: {wire.refusal}"
    if wire.state is None:
        return
    found = wire.established
    assert found is not None, f"not established, but {wire.state}: {wire.refusal}"
    assert wire.state == "OPEN", f"established, and yet {wire.state}"
    check_view(View.of(found), expected)


def check_view(found: View, expected: View) -> None:
    """Two views are the same."""
    for field in attrs.fields(View):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        assert a == b, f"{field.name} of a session is {_shown(a)}, {_shown(b)} expected"


def check_forgotten(core: Initiator | Responder, *secrets: bytes) -> None:
    """A core whose handshake is over holds no key of it but those of the session, and none if it failed. [HS-10]"""
    for name, value in vars(core).items():
        assert value not in secrets, f"{name} still holds a secret of the handshake [HS-10]"
        assert not isinstance(value, X25519Key | MLKEMKey), f"{name} still is an ephemeral key [HS-10]"
        if name != "established":
            assert not isinstance(value, Established), f"{name} still holds the keys of a session [HS-10]"


def check_refusal_forgets(exc: HandshakeRefused) -> None:
    """What a core has raised holds no key of the handshake in the calls that it came through. [HS-10]"""
    found: BaseException | None = exc
    while found is not None:
        for frame, _ in traceback.walk_tb(found.__traceback__):
            where = Path(frame.f_code.co_filename)
            if where.parent.name != "handshake" and where.name != "crypto.py":
                continue
            for name, value in frame.f_locals.items():
                is_key = isinstance(value, AEADKey | X25519Key | MLKEMKey | Established)
                assert not is_key, f"{name} of {frame.f_code.co_name} is a key that a refusal still holds [HS-10]"
                is_secret = name in ("key1", "x25519_secret", "mlkem_secret", "prk") and value is not None
                assert not is_secret, f"{name} of {frame.f_code.co_name} is still held by a refusal [HS-10]"
        found = found.__cause__ or found.__context__


def check_agreement(initiator: Established, responder: Established) -> None:
    """Both sides see the same of one session."""
    assert initiator.side is Side.INITIATOR
    assert responder.side is Side.RESPONDER
    check_view(attrs.evolve(View.of(responder), side=Side.INITIATOR), View.of(initiator))


def check_meant(found: Established, intent: Intent) -> None:
    """A session is what its initiator meant."""
    meant = attrs.evolve(
        View.of(found),
        role=intent.role,
        purpose=intent.purpose,
        service=intent.service.encode(),
        cluster=intent.cluster_id,
        initiator=None if intent.identity is None else intent.identity.node_id.value,
        recipient=intent.peer.node_id.value,
    )
    check_view(View.of(found), meant)


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def check_not_established(wire: Wire, state: str) -> None:
    """Nobody is established yet, and the state is this one."""
    assert wire.established is None, f"established in {state}"
    assert wire.application is None, f"an application in {state}"
    assert wire.state in (None, state), f"{wire.state}, {state} by the state table [HS-78] [HS-79]"


def check_session(wire: Wire, peer: RawPeer, *, seed: int = 0) -> None:
    """The session behind the handshake carries data, both ways, under the keys of both sides."""
    data, application = pattern(seed, 7), wire.application
    if application is None:  # it echoes
        wire.send(peer.record(RecordType.DATA, data))
        echoed = b"".join(payload for type_, payload in opened(peer, wire.received()) if type_ == RecordType.DATA)
        assert echoed == data, "the echo is not what was sent"
        return
    wire.send(peer.record(RecordType.DATA, data))
    told = application.told()
    assert told == [GotData(data)], f"the application was told {told}"
    assert application.send_data(data) is Outcome.DONE
    records = opened(peer, wire.received())
    assert records == [(RecordType.DATA, data)], f"{records} where Data is due"


# ---- Hello -------------------------------------------------------------------


@attrs.frozen
class Meant:
    """Whom an initiator means, and how."""

    ck: RSAPublicKey
    recipient: bytes
    cluster: bytes
    knock: bytes
    role: int
    purpose: int
    service: bytes
    initiator: bytes | None
    verify: Callable[[bytes, bytes], None] | None  # content and signature; raises if it is none of its sk


def check_hello(attacker: Attacker, frame: bytes, meant: Meant, fresh: Fresh) -> None:
    """A Hello is one of Spec 5.5; what is sealed in it is looked at where the attacker can open it."""
    k = meant.ck.key_size // 8
    assert len(frame) == 1960 + k, f"{len(frame)} bytes of Hello, {1960 + k} expected [HS-15]"
    expected = b"\x01" + (1956 + k).to_bytes(3, "big") + b"\0\x02" + k.to_bytes(2, "big")
    assert frame[:8] == expected, f"a Hello that begins with {frame[:8].hex()}, not {expected.hex()} [HS-15]"
    k_mac = h("hello-mac", encode_spki(meant.ck), meant.knock)
    assert frame[-16:] == mac_of(k_mac, frame[:-16])[:16], "a wrong mac [HS-5] [HS-15]"
    fresh.add("kem_ciphertext", frame[8 : 8 + k])
    opened = attacker.open_hello(frame)
    if opened is None:
        return
    assert opened.k_mac == k_mac, "a Hello for the key of another node [HS-12]"
    values = body_values(opened.body)
    assert values is not None, "what is sealed in a Hello is no HelloBody [HS-13] [HS-15]"
    for field, value in (
        ("role", meant.role),
        ("purpose", meant.purpose),
        ("recipient", meant.recipient),
        ("cluster", meant.cluster),
        ("service", meant.service.decode()),
        ("initiator", meant.initiator or b""),
    ):
        assert values[field] == value, (
            f"{field} of a Hello is {_shown(values[field])}, {_shown(value)} expected [HS-12]"
        )
    for what, fresh_value in (("key1", opened.key1), ("x25519", values["x25519"]), ("mlkem_ek", values["mlkem_ek"])):
        fresh.add(what, fresh_value)
    assert mlkem_ek_is_valid(values["mlkem_ek"])
    if meant.verify is not None:
        signature = values["signature"]
        before = len(opened.body) - len(values["pad"]) - 2 - len(signature) - 2
        meant.verify(opened.head[4:] + opened.body[:before], signature)


# ---- Confirm -----------------------------------------------------------------


def check_confirm(peer: RawPeer | None, data: bytes) -> None:
    """What an initiator sends when it has accepted a HelloReply: Confirm, and nothing else. [HS-54]"""
    assert data, "a right HelloReply is not answered with Confirm [HS-54]"
    assert len(data) == CONFIRM_SIZE, f"{len(data)} bytes in answer to a HelloReply, {CONFIRM_SIZE} expected [HS-54]"
    assert data[:4] == bytes.fromhex("03000011"), f"a Confirm with the header {data[:4].hex()}"
    if peer is not None:
        records = opened(peer, data)
        assert records == [(RecordType.CONFIRM, b"")], f"{records} where Confirm is due [HS-54]"


def opened(peer: RawPeer, data: bytes) -> list[tuple[int, bytes]]:
    """The records in some bytes of the target's, by their types and payloads."""
    try:
        return peer.feed(data)
    except NotOpened:
        raise AssertionError("a record does not open: the keys of the two sides are not the same [HS-5]") from None


def pieces(data: bytes, sizes: Sequence[int]) -> list[bytes]:
    """Cut at these sizes, each taken modulo what is left: no piece is empty, and the last is what is left."""
    found = []
    for size in sizes:
        if len(data) < 2:
            break
        size = 1 + size % (len(data) - 1)
        found.append(data[:size])
        data = data[size:]
    return [*found, data]
