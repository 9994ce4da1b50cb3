"""XLattice cluster protocol 2 on Trio: the reference implementation.

The names that a program needs which serves or uses a cluster; everything else is in the modules. What is written on
the wire, and why, stands in the specification that comes with this package.
"""

from xlattice_trio.client import ClusterClient, NoMemberReachable, open_member_stream
from xlattice_trio.cluster.liveness import Liveness
from xlattice_trio.errors import (
    DecodeError,
    ErrorCode,
    HandshakeRefused,
    IdentityError,
    KeepaliveTimeout,
    PeerError,
    PeerReported,
    RecordError,
    RefusalReason,
    RosterConflict,
    SessionEnded,
    StorageError,
    Truncated,
    UsageError,
    WriteStalled,
    XLatticeError,
)
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.handshake.responder import Welcome
from xlattice_trio.identity.card import VerifiedCard, make_card, verify_card
from xlattice_trio.identity.keys import LocalIdentity, generate_identity, local_identity
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.identity.storage import load_card, load_cluster_card, load_identity, load_roster, save_identity
from xlattice_trio.net.dial import initiate, open_secure_stream
from xlattice_trio.net.listen import PortLimits, respond, serve_secure_listeners, serve_secure_tcp
from xlattice_trio.net.relay import LocalSideBroken, relay
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.node import NodeAddresses, NodeConfig, run_node
from xlattice_trio.roster import (
    VerifiedClusterCard,
    VerifiedMember,
    VerifiedRoster,
    make_cluster_card,
    make_roster,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.services.registry import Factory, Service, ServiceContext, ServiceSpec, make_services
from xlattice_trio.wire.messages import ClientAccess, Purpose, Role

__version__ = "0.1.0"

__all__ = [
    "ClientAccess",
    "ClusterClient",
    "DecodeError",
    "ErrorCode",
    "Factory",
    "HandshakeRefused",
    "IdentityError",
    "Intent",
    "KeepaliveTimeout",
    "Liveness",
    "LocalIdentity",
    "LocalSideBroken",
    "NoMemberReachable",
    "NodeAddresses",
    "NodeConfig",
    "NodeID",
    "PeerError",
    "PeerReported",
    "Port",
    "PortLimits",
    "Purpose",
    "RecordError",
    "RefusalReason",
    "Role",
    "RosterConflict",
    "SecureStream",
    "Service",
    "ServiceContext",
    "ServiceSpec",
    "SessionEnded",
    "StorageError",
    "Truncated",
    "UsageError",
    "VerifiedCard",
    "VerifiedClusterCard",
    "VerifiedMember",
    "VerifiedRoster",
    "Welcome",
    "WriteStalled",
    "XLatticeError",
    "__version__",
    "generate_identity",
    "initiate",
    "load_card",
    "load_cluster_card",
    "load_identity",
    "load_roster",
    "local_identity",
    "make_card",
    "make_cluster_card",
    "make_roster",
    "make_services",
    "open_member_stream",
    "open_secure_stream",
    "relay",
    "respond",
    "run_node",
    "save_identity",
    "serve_secure_listeners",
    "serve_secure_tcp",
    "verify_card",
    "verify_cluster_card",
    "verify_roster",
]
