"""Both ends of a handshake and of a session, without I/O, and a second maker of what they send.

A `Scene` is all that a handshake hangs on; a test changes one thing in it. `forge_hello` and `forge_reply` make the
two messages for a scene by `testing.forge`, the second maker, with everything right but what the test says. `RawPeer`
is a peer of the session that sends and reads whatever records a test likes.
"""

from collections.abc import Sequence
from typing import Any

import attrs

from xlattice_trio import crypto
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Established, Port, Side
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Responder, Welcome
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.session.connection import Connection
from xlattice_trio.testing import forge, pairs, toolbox
from xlattice_trio.testing.draws import Draws as Draws
from xlattice_trio.testing.forge import HelloParts, ReplyParts
from xlattice_trio.testing.identities import test_client, test_identity, test_roster
from xlattice_trio.testing.pairs import I2R as I2R
from xlattice_trio.testing.pairs import R2I as R2I
from xlattice_trio.wire.messages import Purpose, Role

NOW = 1000.0
LAST_SEQ = 2**20 - 1

# ---- who is there ------------------------------------------------------------


def nodes(count: int = 3, *, bits: int = 2048, id_size: int = 32) -> list[LocalIdentity]:
    """The members of the test roster, the lowest NodeID first."""
    return sorted((test_identity(i, bits=bits, id_size=id_size) for i in range(count)), key=lambda n: n.node_id)


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

# ---- messages by the second maker --------------------------------------------

FORGER = {"key1": b"\x11" * 32, "x25519": b"\x22" * 32, "mlkem_seed": b"\x33" * 64}
FORGED_REPLY = {"salt": b"\x44" * 32, "key2": b"\x55" * 32, "x25519": b"\x66" * 32}


def hello_parts(scene: Scene, **changes: Any) -> HelloParts:
    """The parts of a Hello for the scene, some of them as told."""
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
    return HelloParts(**defaults | changes)


def forge_hello(scene: Scene, **changes: Any) -> bytes:
    """A Hello frame for the scene with some parts of it as told, everything else right for them."""
    return forge.forge_hello(hello_parts(scene, **changes), Draws("forger", **FORGER)).frame


def forge_reply(hello: bytes, key1: bytes, mlkem_seed: bytes, **changes: Any) -> bytes:
    """A HelloReply frame to a Hello whose secrets are known, with some parts of it as told."""
    defaults: dict[str, Any] = {
        "hello": hello,
        "key1": key1,
        "mlkem_ek": crypto.mlkem_ek(crypto.mlkem_key(mlkem_seed)),
        "keepalive": 15_000,
        "epoch": 1,
    }
    return forge.forge_reply(ReplyParts(**defaults | changes), Draws("forger", **FORGED_REPLY)).frame


# ---- sessions ----------------------------------------------------------------


def established(side: Side, *, keepalive: int = 0, purpose: Purpose = Purpose.STREAM) -> Established:
    """A handshake's outcome from fixed secrets, with Confirm behind it."""
    return pairs.established(side, keepalive=keepalive, purpose=purpose, recipient=nodes()[0].node_id)


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


class RawPeer(toolbox.RawPeer):
    """The other side of a session, which keeps no rule but those of keys and nonces."""

    @classmethod
    def of(cls, connection: Connection, side: Side) -> "RawPeer":
        """The peer of a new connection on `side`."""
        peer = cls(R2I, I2R) if side is Side.INITIATOR else cls(I2R, R2I, seq=1)
        peer.receive_seq = connection._sealer.seq
        return peer
