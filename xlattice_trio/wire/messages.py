"""Every message, in the specification's order: one line per field, as its table has it.

A message knows its shape and nothing else. Signing, sealing and sorting are elsewhere; what needs a hash, such as the
order of a roster's members, is checked where rosters are verified. A secret field's repr shows its length only.
"""

import enum

import attrs

from xlattice_trio import limits
from xlattice_trio.wire.layout import (
    EmptyIff,
    Lengths,
    MessageSize,
    Zeros,
    fixed,
    list_of,
    nested,
    opaque,
    rest,
    u8,
    u16,
    u24,
    u32,
    u64,
    utf8,
)

# ---- enumerations ------------------------------------------------------------


class FrameKind(enum.IntEnum):
    """Spec 4.1."""

    HELLO = 1
    HELLO_REPLY = 2
    RECORD = 3


class Role(enum.IntEnum):
    """As whom the initiator comes. Spec 5.2."""

    MEMBER = 1
    CLIENT = 2
    ANONYMOUS = 3


class Purpose(enum.IntEnum):
    """What the session is for. Spec 5.2."""

    LINK = 1
    STREAM = 2


class ClientAccess(enum.IntEnum):
    """Who may use the client port. Spec 3.1."""

    ANYONE = 1
    LISTED = 2


class RecordType(enum.IntEnum):
    """Spec 6.2."""

    CONFIRM = 1
    DATA = 2
    KEEPALIVE = 3
    REKEY = 4
    BYE = 5
    ERROR = 6


class LinkType(enum.IntEnum):
    """Spec 7.5."""

    ROSTER_OFFER = 1
    ROSTER_REQUEST = 2
    ROSTER_TRANSFER = 3


_NODE_ID_SIZES = (limits.NODE_ID_SHORT, limits.NODE_ID_LONG)
_RSA_SIZES = (256, 384, 512)  # bytes of a modulus of 2048, 3072, 4096 bits

# ---- identity (Spec 2, 3) ----------------------------------------------------


@attrs.frozen
class NodeCard:
    """Who a node is: its name and its two public keys, signed by itself. Spec 2.5."""

    name: str = utf8(1, limits.NAME_MAX)
    id_size: int = u8(*_NODE_ID_SIZES)  # bytes of the NodeID
    sk: bytes = opaque(1, limits.PUBLIC_KEY_MAX)
    ck: bytes = opaque(1, limits.PUBLIC_KEY_MAX)
    serial: int = u64()  # for the tools that make cards and rosters: nothing else looks at it [ID-24]
    signature: bytes = opaque(256, 512, Lengths(_RSA_SIZES))


@attrs.frozen
class Member:
    """A member of a roster: its card, and where it listens. Spec 3.1."""

    card: NodeCard = nested(NodeCard)
    host: str = utf8(1, limits.HOST_MAX)


@attrs.frozen
class Roster:
    """The private document: who is in, on which ports. Signed by the authority. Spec 3.1."""

    authority: bytes = opaque(1, limits.PUBLIC_KEY_MAX)
    name: str = utf8(1, limits.NAME_MAX)
    epoch: int = u64((1, None))
    cluster_port: int = u16((1, 65535))
    client_port: int = u16((1, 65535))
    knock: bytes = fixed(limits.KNOCK_SIZE, secret=True)
    client_access: ClientAccess = u8(enum=ClientAccess)
    members: tuple[Member, ...] = list_of(Member, 1, limits.MEMBERS_MAX)
    clients: tuple[NodeCard, ...] = list_of(NodeCard, 0, limits.CLIENTS_MAX)
    signature: bytes = opaque(256, 512, Lengths(_RSA_SIZES), MessageSize(limits.ROSTER_MAX, exact=False))


@attrs.frozen
class ClusterCard:
    """The public extract of a roster, for clients. Signed by the authority. Spec 3.5."""

    authority: bytes = opaque(1, limits.PUBLIC_KEY_MAX)
    name: str = utf8(1, limits.NAME_MAX)
    epoch: int = u64((1, None))
    client_port: int = u16((1, 65535))
    client_access: ClientAccess = u8(enum=ClientAccess)
    members: tuple[Member, ...] = list_of(Member, 1, limits.MEMBERS_MAX)
    signature: bytes = opaque(256, 512, Lengths(_RSA_SIZES))


# ---- frames and handshake (Spec 4, 5) ----------------------------------------


@attrs.frozen
class FrameHeader:
    """Before every body. Spec 4.1."""

    kind: FrameKind = u8(enum=FrameKind)
    length: int = u24()  # bytes of the body


@attrs.frozen
class Hello:
    """The body of the first frame. Spec 5.2."""

    version: int = u16(2)  # [FR-2]
    kem_ciphertext: bytes = opaque(256, 512, Lengths(_RSA_SIZES))
    sealed: bytes = fixed(limits.HELLO_BODY_SIZE + limits.TAG_SIZE)
    mac: bytes = fixed(limits.MAC_SIZE)


@attrs.frozen
class HelloBody:
    """What a Hello holds sealed. Spec 5.2."""

    role: Role = u8(enum=Role)
    purpose: Purpose = u8(enum=Purpose)
    recipient: bytes = opaque(20, 32, Lengths(_NODE_ID_SIZES))
    cluster: bytes = fixed(limits.CLUSTER_ID_SIZE)
    x25519: bytes = fixed(limits.X25519_SIZE)
    mlkem_ek: bytes = fixed(limits.MLKEM_EK_SIZE)
    service: str = utf8(0, limits.SERVICE_MAX, EmptyIff("purpose", Purpose.LINK))
    initiator: bytes = opaque(0, 32, Lengths((0, *_NODE_ID_SIZES)), EmptyIff("role", Role.ANONYMOUS))
    signature: bytes = opaque(0, 512, Lengths((0, *_RSA_SIZES)), EmptyIff("role", Role.ANONYMOUS))
    pad: bytes = opaque(23, 643, Zeros(), MessageSize(limits.HELLO_BODY_SIZE))


@attrs.frozen
class HelloReply:
    """The body of the second frame. Spec 5.3."""

    salt: bytes = fixed(limits.SALT_SIZE)
    sealed: bytes = fixed(limits.REPLY_BODY_SIZE + limits.TAG_SIZE)


@attrs.frozen
class ReplyBody:
    """What a HelloReply holds sealed, 1,164 bytes. Spec 5.3."""

    key2: bytes = fixed(limits.KEY_SIZE, secret=True)
    x25519: bytes = fixed(limits.X25519_SIZE)
    mlkem_ciphertext: bytes = fixed(limits.MLKEM_CIPHERTEXT_SIZE)
    keepalive: int = u32(0, (limits.KEEPALIVE_MIN, limits.KEEPALIVE_MAX))  # milliseconds; 0: none
    epoch: int = u64()


# ---- session (Spec 6) --------------------------------------------------------


@attrs.frozen
class RecordPlaintext:
    """What a record holds sealed. Spec 6.2."""

    type: RecordType = u8(enum=RecordType)
    payload: bytes = rest(0, limits.RECORD_PAYLOAD_MAX)


@attrs.frozen
class ErrorBody:
    """The payload of an Error record. Spec 6.9."""

    code: int = u16()
    text: str = utf8(0, limits.ERROR_TEXT_MAX)


# ---- links (Spec 7) ----------------------------------------------------------


@attrs.frozen
class LinkHeader:
    """Before every link message. Spec 7.5."""

    type: LinkType = u8(enum=LinkType)
    length: int = u24()  # bytes of the body


@attrs.frozen
class RosterOffer:
    """Which roster the sender holds. Spec 7.5."""

    epoch: int = u64((1, None))
    digest: bytes = fixed(limits.DIGEST_SIZE)


@attrs.frozen
class RosterRequest:
    """Send what you last offered. Spec 7.5."""


@attrs.frozen
class RosterTransfer:
    """A roster, in answer to a request. Spec 7.5."""

    roster: Roster = nested(Roster)


MESSAGES: tuple[type, ...] = (
    NodeCard,
    Member,
    Roster,
    ClusterCard,
    FrameHeader,
    Hello,
    HelloBody,
    HelloReply,
    ReplyBody,
    RecordPlaintext,
    ErrorBody,
    LinkHeader,
    RosterOffer,
    RosterRequest,
    RosterTransfer,
)
