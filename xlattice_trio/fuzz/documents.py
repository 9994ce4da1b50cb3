"""Rosters and cluster cards made from byte offsets, with one thing in them wrong, and signed all the same. Spec 3.

A second maker, as `testing.forge` is for the handshake: it shares no code with the package but the RSA operation, and
it keeps no rule. `Plan` says in plain values what a document is to say; the same plan gives the same bytes within a
process. What a valid one has to be verified as stands beside it, computed here.
"""

import base64
import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import RSAPrivateKey
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.testing.forge import h, label, prefixed
from xlattice_trio.testing.identities import KNOCK, test_authority, test_client, test_identity

ROSTER, CLUSTER_CARD = "roster", "cluster-card"
MEMBERS, CLIENTS = 3, 2  # nodes of the test identities; the ones behind them are in no document
VARIANTS = ("", "name", "client_port", "access", "host", "card", "names", "client", "members", "clients", "signature")
LASTING = ("knock", "id_size", "cluster_port")  # what no roster may change

# ---- what a document is made of ----------------------------------------------


@attrs.define
class _Card:
    name: str
    id_size: int
    sk: bytes
    ck: bytes
    signer: RSAPrivateKey
    serial: int = 1
    label: str = "node-card"
    damage: bool = False

    @property
    def node_id(self) -> bytes:
        return h("node-id", self.sk)[: self.id_size]

    def encoded(self) -> bytes:
        content = (
            prefixed(self.name.encode(), 1)
            + bytes((self.id_size,))
            + prefixed(self.sk, 2)
            + prefixed(self.ck, 2)
            + self.serial.to_bytes(8, "big")
        )
        signature = sign(self.signer, self.label, content)
        return content + prefixed(_flipped(signature) if self.damage else signature, 2)


@attrs.define
class _Parts:
    authority: bytes
    name: bytes
    epoch: int
    ports: list[int]  # cluster port, client port
    knock: bytes
    access: int
    members: list[tuple[_Card, bytes]]  # card and host
    clients: list[_Card]
    signer: RSAPrivateKey
    label: str

    def content(self) -> bytes:
        whole = self.label == ROSTER
        members = b"".join(card.encoded() + prefixed(host, 1) for card, host in self.members)
        clients = b"".join(card.encoded() for card in self.clients)
        return (
            prefixed(self.authority, 2)
            + prefixed(self.name, 1)
            + self.epoch.to_bytes(8, "big")
            + (self.ports[0].to_bytes(2, "big") if whole else b"")
            + self.ports[1].to_bytes(2, "big")
            + (self.knock if whole else b"")
            + bytes((self.access,))
            + len(self.members).to_bytes(2, "big")
            + members
            + (len(self.clients).to_bytes(2, "big") + clients if whole else b"")
        )


@attrs.frozen
class Plan:
    """What a document says. `variant` is what is another in it than in the plain one of its epoch; `lasting` what it
    changes though no roster may; `wrong`, one of WRONG, what is wrong with it. `authority` 0 is the cluster's."""

    kind: str = ROSTER
    epoch: int = 1
    authority: int = 0
    variant: str = ""
    lasting: str = ""
    wrong: str = ""

    @property
    def digest(self) -> bytes:
        """What tells two documents of an epoch apart: everything but the signature."""
        return h("roster-digest", _made(self)[0])

    @property
    def cluster_id(self) -> bytes:
        """The ClusterID that its authority gives."""
        return h("cluster-id", _spki(test_authority(self.authority)))

    @property
    def encoded(self) -> bytes:
        """Its bytes."""
        return _made(self)[1]

    @property
    def armoured(self) -> bytes:
        """Its file."""
        title = "XLATTICE ROSTER" if self.kind == ROSTER else "XLATTICE CLUSTER CARD"
        text = base64.b64encode(self.encoded).decode("ascii")
        lines = [text[i : i + 64] for i in range(0, len(text), 64)]
        return "\n".join([f"-----BEGIN {title}-----", *lines, f"-----END {title}-----", ""]).encode("ascii")

    def ids(self, whose: str) -> list[bytes]:
        """NodeIDs of `members` or `clients`, in their order."""
        parts = _parts(self)
        cards = [card for card, _ in parts.members] if whose == "members" else parts.clients
        return [card.node_id for card in cards]

    @property
    def anyone(self) -> bool:
        """Whether it admits anonymous initiators."""
        return _parts(self).access == 1


# ---- making ------------------------------------------------------------------


def sign(key: RSAPrivateKey, name: str, content: bytes) -> bytes:
    """A signature under the label of this name."""
    return _sign(crypto.rsa_modulus(key.public_key()), _Key(key), label(name) + b"\0" + content)


@attrs.frozen(eq=False)
class _Key:
    key: RSAPrivateKey

    def __eq__(self, other: object) -> bool:  # the modulus stands beside it
        return isinstance(other, _Key)

    def __hash__(self) -> int:
        return 0


class _Message:
    """What `crypto.pss_sign` takes for a label: here it is in front of the content already."""

    def __init__(self, name: bytes) -> None:
        self.name = name

    def before(self, content: bytes) -> bytes:
        return content


@functools.lru_cache(8192)
def _sign(_modulus: int, key: _Key, message: bytes) -> bytes:
    return crypto.pss_sign(key.key, cast(Any, _Message(b"")), message)


def _spki(key: RSAPrivateKey) -> bytes:
    return crypto.encode_spki(key.public_key())


def _flipped(data: bytes) -> bytes:
    return data[:-1] + bytes((data[-1] ^ 1,))


def _card(node: LocalIdentity, name: str, id_size: int) -> _Card:
    return _Card(name, id_size, _spki(node.sk_priv), _spki(node.ck_priv), node.sk_priv)


def _parts(plan: Plan) -> _Parts:
    id_size = 20 if plan.lasting == "id_size" else 32
    members = [(_card(test_identity(i), f"node-{i}", id_size), f"127.0.0.{i + 1}".encode()) for i in range(MEMBERS)]
    clients = [_card(test_client(i), f"client-{i}", id_size) for i in range(CLIENTS)]
    key = test_authority(plan.authority)
    parts = _Parts(
        authority=_spki(key),
        name=b"test-cluster",
        epoch=plan.epoch,
        ports=[7711, 7712],
        knock=KNOCK,
        access=1,
        members=members,
        clients=clients,
        signer=key,
        label=plan.kind,
    )
    _vary(parts, plan.variant or plan.lasting)
    parts.members.sort(key=lambda member: member[0].node_id)
    parts.clients.sort(key=lambda card: card.node_id)
    return parts


def _vary(parts: _Parts, variant: str) -> None:
    match variant:
        case "name":
            parts.name = b"another name"
        case "client_port":
            parts.ports[1] = 7713
        case "access":
            parts.access = 2
        case "host":
            parts.members[1] = (parts.members[1][0], b"a.example")
        case "card":
            parts.members[2][0].serial = 2
        case "names":  # that differ in one byte are two names
            parts.members[1][0].name, parts.members[2][0].name = "A node", "a node"
        case "client":
            parts.clients[0].serial = 2
        case "members":
            del parts.members[0]
        case "clients":
            del parts.clients[0]
        case "knock":
            parts.knock = bytes(32)
        case "cluster_port":
            parts.ports[0] = 7714


@functools.lru_cache(8192)
def _made(plan: Plan) -> tuple[bytes, bytes]:
    """The content that is signed, and the document."""
    parts = _parts(plan)
    wrong = WRONG.get(plan.wrong)
    if isinstance(wrong, _Before):
        wrong.change(parts)
    content = parts.content()
    signature = sign(parts.signer, parts.label, content)
    if plan.variant == "signature":
        signature = crypto.pss_sign(parts.signer, cast(Any, _Message(b"")), label(parts.label) + b"\0" + content)
    if isinstance(wrong, _Behind):
        content, signature, behind = wrong.change(parts, content, signature)
        return content, content + prefixed(signature, 2) + behind
    return content, content + prefixed(signature, 2)


# ---- what can be wrong -------------------------------------------------------


@attrs.frozen
class _Before:
    """Something that is signed as it is."""

    change: Callable[[_Parts], object]
    rule: str = ""  # of RosterRule, the one that is broken
    of_rosters_only: bool = False


@attrs.frozen
class _Behind:
    """Something that is wrong with the signature, or was changed under it: content, signature, and what follows."""

    change: Callable[[_Parts, bytes, bytes], tuple[bytes, bytes, bytes]]
    rule: str = ""
    of_rosters_only: bool = False


def _host(host: bytes) -> _Before:
    def change(parts: _Parts) -> None:
        parts.members[1] = (parts.members[1][0], host)

    return _Before(change, "HOST")


def _same_host(parts: _Parts) -> None:
    parts.members[1] = (parts.members[1][0], parts.members[0][1])


def _resorted(parts: _Parts) -> None:
    parts.members.sort(key=lambda member: member[0].node_id)
    parts.clients.sort(key=lambda card: card.node_id)


def _another_size(which: str) -> _Before:
    def change(parts: _Parts) -> None:
        card = parts.members[-1][0] if which == "member" else parts.clients[-1]
        card.id_size = 20
        _resorted(parts)

    return _Before(change, "ID_SIZE", which == "client")


def _key_twice(which: str) -> _Before:
    def change(parts: _Parts) -> None:
        first, second = parts.members[0][0], parts.members[1][0]
        match which:
            case "ck and ck":
                second.ck = first.ck
            case "sk and ck":
                second.ck = first.sk
            case "ck of a client":
                parts.clients[0].ck = first.ck
            case "ck of clients":
                parts.clients[1].ck = parts.clients[0].ck
            case "authority and ck":
                second.ck = parts.authority
            case "authority and sk":
                second.sk, second.signer = parts.authority, parts.signer
                _resorted(parts)

    return _Before(change, "MODULUS", "client" in which)


def _swapped(which: str) -> _Before:
    def change(parts: _Parts) -> None:
        if which == "first":
            parts.members[0], parts.members[1] = parts.members[1], parts.members[0]
        elif which == "last":
            parts.members[-1], parts.members[-2] = parts.members[-2], parts.members[-1]
        else:
            parts.clients[0], parts.clients[1] = parts.clients[1], parts.clients[0]

    return _Before(change, "CLIENT_ORDER" if which == "clients" else "MEMBER_ORDER", which == "clients")


def _node_twice(which: str) -> _Before:
    def change(parts: _Parts) -> None:
        if which == "member":
            parts.members.insert(1, (parts.members[0][0], b"127.0.0.9"))
        elif which == "client":
            parts.clients.insert(1, parts.clients[0])
        else:  # with another name, ck and serial
            other = _Card(
                "another", 32, parts.members[0][0].sk, _spki(test_identity(9).ck_priv), test_identity(9).sk_priv
            )
            other.signer = next(
                node.sk_priv for node in map(test_identity, range(MEMBERS)) if _spki(node.sk_priv) == other.sk
            )
            parts.clients.append(other)
            _resorted(parts)

    return _Before(change, "", which != "member")


def _name_twice(which: str) -> _Before:
    def change(parts: _Parts) -> None:
        cards = [card for card, _ in parts.members] + parts.clients
        one, other = {"members": (0, 1), "both": (0, -1), "clients": (-2, -1)}[which]
        cards[other].name = cards[one].name

    return _Before(change, "NAME", which != "members")


def _bad_card(which: str) -> _Before:
    def change(parts: _Parts) -> None:
        card = parts.clients[-1] if which.startswith("client") else parts.members[-1][0]
        match which.split()[-1]:
            case "signature":
                card.damage = True
            case "label":
                card.label = "roster"
            case "signer":
                card.signer = test_identity(9).sk_priv
            case "ck":
                card.ck = card.ck[:-1]
            case "modulus":  # of 2,047 bits
                card.ck = card.ck[:-261] + bytes((card.ck[-261] & 0x7F,)) + card.ck[-260:]
            case "exponent":  # 65,539
                card.ck = card.ck[:-1] + b"\3"

    return _Before(change, "CARD", which.startswith("client"))


def _unsigned(change: Callable[[_Parts], object], of_rosters_only: bool = False) -> _Behind:
    """Changed when it was signed already."""

    def changed(parts: _Parts, _: bytes, signature: bytes) -> tuple[bytes, bytes, bytes]:
        change(parts)
        return parts.content(), signature, b""

    return _Behind(changed, "SIGNATURE", of_rosters_only)


def _set(**values: Any) -> Callable[[_Parts], None]:
    def change(parts: _Parts) -> None:
        for name, value in values.items():
            setattr(parts, name, value)

    return change


def _unsigned_bad_card(parts: _Parts) -> None:
    parts.members[-1][0].damage = True


_BAD_HOSTS = (
    b"010.0.0.1",
    b"10.0.0",
    b"10.0.0.256",
    b"0x7f000001",
    b"1.2.3",
    b"a.1",
    b"a.example.",
    b"-a.example",
    b"a-.example",
    b"a_b.example",
    b"A.example",
    b"a..b",
    b"x" * 64 + b".example",
    b"2001:DB8::1",
    b"2001:db8:0:0:1::1",
    b"2001:0db8::1",
    b"::1.2.3.4",
    b"::ffff:102:304",
    b"fe80::1%eth0",
    b"[::1]",
    b"1::3:4:5:6:7:8",
    "ä.example".encode(),
    b" a.example",
)

WRONG: Mapping[str, _Before | _Behind] = {
    # what does not decode
    "a byte behind it": _Behind(lambda _parts, content, signature: (content, signature, b"\0")),
    "cut off": _Behind(lambda _parts, content, signature: (content[:-1], signature, b"")),
    "short signature": _Behind(lambda _parts, content, signature: (content, signature[:-1], b"")),
    "epoch 0": _Before(_set(epoch=0)),
    "port 0": _Before(lambda parts: parts.ports.__setitem__(1, 0)),
    "cluster port 0": _Before(lambda parts: parts.ports.__setitem__(0, 0), "", True),
    "access 0": _Before(_set(access=0)),
    "access 3": _Before(_set(access=3)),
    "no members": _Before(_set(members=[])),
    "no name": _Before(_set(name=b"")),
    "long name": _Before(_set(name=b"x" * 65)),
    "name that is no text": _Before(_set(name=b"\xff")),
    "name with a line end": _Before(_set(name=b"a\nb")),
    "no host": _Before(lambda parts: parts.members.__setitem__(1, (parts.members[1][0], b""))),
    # authority and signature
    "authority that is no key": _Before(_set(authority=b"no key"), "AUTHORITY"),
    "authority and a byte": _Before(lambda parts: setattr(parts, "authority", parts.authority + b"\0"), "AUTHORITY"),
    "signature bit": _Behind(lambda _parts, content, signature: (content, _flipped(signature), b""), "SIGNATURE"),
    "signature of zeros": _Behind(lambda _parts, content, _: (content, bytes(256), b""), "SIGNATURE"),
    "signature of ones": _Behind(lambda _parts, content, _: (content, b"\xff" * 256, b""), "SIGNATURE"),
    "signature and zeros": _Behind(
        lambda _parts, content, signature: (content, signature + bytes(128), b""), "SIGNATURE"
    ),
    "signed by another": _Before(_set(signer=test_authority(1)), "SIGNATURE"),
    "signed by a member": _Before(lambda parts: setattr(parts, "signer", parts.members[0][0].signer), "SIGNATURE"),
    "label": _Behind(
        lambda parts, content, _: (
            content,
            sign(parts.signer, CLUSTER_CARD if parts.label == ROSTER else ROSTER, content),
            b"",
        ),
        "SIGNATURE",
    ),
    "no label": _Behind(lambda parts, content, _: (content, sign(parts.signer, "", content), b""), "SIGNATURE"),
    "unsigned name": _unsigned(_set(name=b"not signed")),
    "unsigned epoch": _unsigned(lambda parts: setattr(parts, "epoch", parts.epoch % 2**63 + 1)),
    "unsigned cluster port": _unsigned(lambda parts: parts.ports.__setitem__(0, 99), True),
    "unsigned client port": _unsigned(lambda parts: parts.ports.__setitem__(1, 99)),
    "unsigned knock": _unsigned(_set(knock=b"\1" * 32), True),
    "unsigned access": _unsigned(lambda parts: setattr(parts, "access", 3 - parts.access)),
    "unsigned member": _unsigned(lambda parts: parts.members.pop()),
    "unsigned host": _unsigned(lambda parts: parts.members.__setitem__(0, (parts.members[0][0], b"127.0.0.99"))),
    "unsigned client": _unsigned(lambda parts: parts.clients.pop(), True),
    "unsigned card that is invalid": _unsigned(_unsigned_bad_card),
    # what it says
    "ports": _Before(_set(ports=[7712, 7712]), "PORTS", True),
    "hosts": _Before(_same_host, "HOST_TWICE"),
    **{f"host {host.decode()}": _host(host) for host in _BAD_HOSTS},
    **{f"size of a {which}": _another_size(which) for which in ("member", "client")},
    **{
        f"key twice: {which}": _key_twice(which)
        for which in (
            "ck and ck",
            "sk and ck",
            "ck of a client",
            "ck of clients",
            "authority and ck",
            "authority and sk",
        )
    },
    **{f"order: {which}": _swapped(which) for which in ("first", "last", "clients")},
    **{f"twice: {which}": _node_twice(which) for which in ("member", "client", "both")},
    **{f"name twice: {which}": _name_twice(which) for which in ("members", "both", "clients")},
    **{
        f"card: {which}": _bad_card(which)
        for which in (
            "member signature",
            "member label",
            "member signer",
            "member ck",
            "member modulus",
            "member exponent",
            "client signature",
            "client ck",
            "client modulus",
        )
    },
}


def rule_of(wrong: str) -> str:
    """The RosterRule that is broken by it, if it is one that can be told."""
    return WRONG[wrong].rule


def wrongs(kind: str) -> list[str]:
    """What can be wrong with a roster, or with a cluster card."""
    return [name for name, wrong in WRONG.items() if kind == ROSTER or not wrong.of_rosters_only]
