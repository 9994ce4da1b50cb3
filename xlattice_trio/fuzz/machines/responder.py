"""The responder, on its client port and on its cluster port, against an attacker who has everybody's keys but its own.

The invariants:
- Not a byte leaves a responder before a genuine Hello for it, by an initiator whom its roster in force admits.
- Such a Hello is answered, with one HelloReply that opens, whose salt, keys and shares never came before.
- Who is established is who signed the Hello, after the Confirm that only the maker of the Hello can make, and not
  before; both sides then have the same keys and see the same.
- A refused input leaves no trace; the one trace of an accepted Hello is one digest, if it was signed.
- Every refusal looks the same from outside: no byte, and the connection closed at once.
- The state is that of the state table Responder after every input, and every exception is a documented one.

What has to happen follows from what was changed. The tables HELLOS and CONFIRMS say of each thing that can be wrong
which check of Spec 5.7 or 5.10 has to find it; of bytes that are changed anywhere it is said by where they are; and a
HelloBody that is changed and sealed again is judged by `oracle.body_refusal`.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from secrets import token_hex
from typing import Any, ClassVar

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from xlattice_trio.crypto import Label, RSAPrivateKey, encode_spki
from xlattice_trio.errors import ErrorCode, HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.oracle import (
    CHECKS,
    DEADLINE,
    LOW_ORDER,
    Fresh,
    View,
    body_refusal,
    body_values,
    check_established,
    check_forgotten,
    check_not_established,
    check_refused,
    check_reply,
    check_session,
    check_silence,
    first_refusal,
    opened,
    pieces,
)
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.rosters import Listing, encryption_key, first_listing, roster_of
from xlattice_trio.fuzz.target import Can, GotData, Remembered, Wire
from xlattice_trio.handshake.outcome import Port, Side
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import AcceptedKey, Responder, Welcome
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import REPLAY_CACHE_MIN
from xlattice_trio.testing.draws import REMEMBERED, Draws
from xlattice_trio.testing.forge import ForgedHello, expand, forge_record, mac_of, prefixed, sealed_under
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.testing.toolbox import (
    DAMAGE,
    Attacker,
    Destination,
    RawPeer,
    damage,
    error_payload,
    field_edge,
    field_names,
    flip,
    k_hello,
    put,
    spans,
    splice,
    with_field,
)
from xlattice_trio.wire.messages import ClientAccess, HelloBody, Purpose, RecordType, Role

R = RefusalReason

CASTS: Mapping[str, Callable[[], Cast]] = {
    "usual": make_cast,
    "listed": lambda: make_cast(client_access=ClientAccess.LISTED),
    "short ids": lambda: make_cast(id_size=20),
    "3072 bits": lambda: make_cast(bits=3072),
    "4096 bits": lambda: make_cast(bits=4096),
}

# ---- who comes ---------------------------------------------------------------


@attrs.frozen
class Comer:
    """Someone who says Hello: as whom, and what for."""

    role: Role
    purpose: Purpose
    as_: LocalIdentity | None = attrs.field(eq=lambda one: None if one is None else one.node_id)

    @property
    def node_id(self) -> bytes | None:
        """Its NodeID; None if it is anonymous."""
        return None if self.as_ is None else self.as_.node_id.value


# As whom the attacker may come to a port in honesty; the last one is in no roster.
COMERS: Mapping[Port, Sequence[str]] = {
    Port.CLUSTER: ("link", "lower", "higher", "stranger"),
    Port.CLIENT: ("client", "anonymous", "stranger"),
}
SERVICES = ("echo", "x", "a service, ü", "s" * 64)


def comer(port: Port, name: str, cast: Cast) -> Comer:
    """One of COMERS; the stranger where the attacker has no such identity."""
    role = Role.MEMBER if port is Port.CLUSTER else Role.CLIENT
    match name:
        case "anonymous":
            return Comer(Role.ANONYMOUS, Purpose.STREAM, None)
        case "client" if cast.clients:
            return Comer(role, Purpose.STREAM, cast.clients[0])
        case "link" if cast.members:
            return Comer(role, Purpose.LINK, cast.members[0])
        case "lower" if cast.members:
            return Comer(role, Purpose.STREAM, cast.members[0])
        case "higher" if cast.members:
            return Comer(role, Purpose.STREAM, cast.members[-1])
    return Comer(role, Purpose.STREAM, _stranger(cast))


def _stranger(cast: Cast) -> LocalIdentity:
    return cast.strangers[0] if cast.strangers else test_identity(30)


@attrs.frozen
class Scene:
    """What a Hello is made from: an attacker, whom it is for, and who comes. What is wrong is made from it too.

    `kept` are Hellos with nothing wrong, which are never sent as they are: most things that are wrong take one of them
    and cost no RSA operation.
    """

    attacker: Attacker
    cast: Cast
    port: Port
    to: Destination
    comer: Comer
    service: bytes
    dropped: RSAPrivateKey  # an encryption key that is not accepted (any more)
    kept: dict[Any, ForgedHello]

    def forged(self, **parts: Any) -> ForgedHello:
        """A Hello with everything right but what `parts` say."""
        role, purpose = parts.pop("role", self.comer.role), parts.pop("purpose", self.comer.purpose)
        service = parts.pop("service", b"" if purpose == Purpose.LINK else self.service)
        as_ = parts.pop("as_", self.comer.as_)
        return self.attacker.hello(self.to, role=role, purpose=purpose, service=service, as_=as_, **parts)

    def hello(self, **parts: Any) -> bytes:
        """The frame of it."""
        return self.forged(**parts).frame

    @property
    def whole(self) -> ForgedHello:
        """A Hello with nothing wrong."""
        by = (self.comer, self.service, encode_spki(self.to.ck))
        if by not in self.kept:
            self.kept[by] = self.forged()
        return self.kept[by]

    @property
    def frame(self) -> bytes:
        """The frame of it."""
        return self.whole.frame

    @property
    def head(self) -> bytes:
        """The beginning of it, until `sealed`."""
        return self.whole.frame[: 8 + self.k]

    @property
    def k(self) -> int:
        """Bytes of the modulus of ck."""
        return self.to.ck.key_size // 8

    def maced(self, unmaced: bytes) -> bytes:
        """The right mac behind these bytes."""
        return unmaced + mac_of(self.whole.k_mac, unmaced)[:16]

    def sealed(self, body: bytes, *, resign: bool = False, **wrong: Any) -> bytes:
        """The whole Hello with another body, sealed and maced again, and signed again if it is to be.

        `wrong` is another `key`, `nonce` or `aad` of the seal.
        """
        if wrong:
            seal = {"key": self.whole.k_hello, "nonce": bytes(12), "aad": self.head} | wrong
            return self.maced(self.head + sealed_under(seal["key"], seal["nonce"], seal["aad"], body))
        signer = self.comer.as_.sk_priv if resign and self.comer.as_ is not None else None
        frame = self.attacker.reseal_hello(self.frame, body, signer=signer)
        assert frame is not None
        return frame

    def field(self, name: str, encoded: bytes, *, resign: bool = True) -> bytes:
        """The whole Hello with another encoding of a field of HelloBody."""
        return self.sealed(with_field(HelloBody, self.whole.body, name, encoded), resign=resign)

    def span(self, name: str) -> tuple[int, int]:
        """Where a field of HelloBody is."""
        return spans(HelloBody, self.whole.body)[name]


# ---- what can be wrong with a Hello ------------------------------------------


@attrs.frozen
class Wrong:
    """One thing that is wrong with a Hello: the requirement that it tries, the check that finds it, and how it is made.

    No reason: nothing is wrong with it, however odd it looks. The number says which bit, value or size, where there are
    several. `signed`: it takes a Hello that is signed. `another`: it comes as somebody else than the comer.
    """

    requirement: str
    reason: RefusalReason | None
    make: Callable[[Scene, int], bytes]
    port: Port | None = None
    signed: bool = False
    another: bool = False


def pick(number: int, *values: Any) -> Any:
    """One of the values."""
    return values[number % len(values)]


def _kem_anew(s: Scene, number: int) -> bytes:
    """What a thief of ckPriv can do: the signed body of somebody else, under another key1."""
    key1 = number.to_bytes(32, "big")
    ciphertext = REMEMBERED.oaep_encrypt(s.to.ck, key1)
    head = s.head[:8] + ciphertext
    return s.maced(head + sealed_under(k_hello(key1), bytes(12), head, s.whole.body))


def _no_oaep(s: Scene, number: int, key1: bytes) -> bytes:
    """Not decrypted: sealed under what a careless responder could go on with."""
    flipped = flip(s.whole.kem_ciphertext, 8 * s.k - 1)
    head = s.head[:8] + pick(number, bytes(s.k), b"\xff" * s.k, bytes(s.k - 1) + b"\1", flipped)
    return s.maced(head + sealed_under(k_hello(key1), bytes(12), head, s.whole.body))


def _secret_of(size: int, s: Scene) -> bytes:
    """OAEP holds a key of another size, and what is sealed is sealed under that."""
    secret = (s.whole.key1 * 3)[:size]
    head = s.head[:8] + REMEMBERED.oaep_encrypt(s.to.ck, secret)
    return s.maced(head + sealed_under(k_hello(secret), bytes(12), head, s.whole.body))


def _in_body(s: Scene, field: str, bit: int, *, resign: bool = False) -> bytes:
    """One bit of a field's value is another."""
    start, end = s.span(field)
    prefix = {"recipient": 1, "service": 1, "initiator": 1, "signature": 2, "pad": 2}.get(field, 0)
    at = 8 * (start + prefix) + bit % (8 * max(end - start - prefix, 1))
    return s.sealed(flip(s.whole.body, at), resign=resign)


def _coefficient(s: Scene, number: int) -> bytes:
    """A coefficient of mlkem_ek that is not below 3,329."""
    start, _ = s.span("mlkem_ek")
    index, value = number % 768, pick(number // 768, 3329, 4095)
    at = start + index // 2 * 3
    b0, b1, b2 = s.whole.body[at : at + 3]
    if index % 2:
        triple = bytes((b0, b1 & 15 | (value & 15) << 4, value >> 4))
    else:
        triple = bytes((value & 255, b1 & 240 | value >> 8, b2))
    return s.sealed(put(s.whole.body, at, triple), resign=True)


def _trailing(s: Scene, number: int) -> bytes:
    """The pad ends before the body does."""
    start, _ = s.span("pad")
    size = pick(number, 1, 2, 16)
    pad = int.from_bytes(s.whole.body[start : start + 2], "big") - size
    return s.sealed(put(s.whole.body, start, pad.to_bytes(2, "big")))


def _not_signed_content(s: Scene, number: int) -> bytes:
    """The initiator's own signature, over another range of bytes."""
    start, end = s.span("signature")
    head, before = s.head, s.whole.body[:start]
    content = pick(
        number,
        before,
        head + before,
        head[4:8] + before,
        head[8:] + before,
        head[4:] + s.whole.body[: s.span("initiator")[0]],
        head[4:] + s.whole.body[: start + 2],
        head[4:] + before + s.whole.body[end:],
    )
    assert s.comer.as_ is not None
    signature = REMEMBERED.pss_sign(s.comer.as_.sk_priv, Label.HELLO_SIGNATURE, content)
    return s.field("signature", prefixed(signature, 2), resign=False)


def _signed_by(s: Scene, number: int) -> bytes:
    assert s.comer.as_ is not None
    others = [one.sk_priv for one in s.cast.everybody() if one.node_id != s.comer.as_.node_id]
    signer = pick(number, s.comer.as_.ck_priv, test_identity(31).sk_priv, *others)
    return s.hello(signer=signer)


def _signature_label(s: Scene, number: int) -> bytes:
    label = pick(number, Label.NODE_CARD, Label.ROSTER, Label.CLUSTER_CARD, Label.HELLO_MAC, Label.HELLO)
    assert s.comer.as_ is not None
    content = s.head[4:] + s.whole.body[: s.span("signature")[0]]
    return s.field("signature", prefixed(REMEMBERED.pss_sign(s.comer.as_.sk_priv, label, content), 2), resign=False)


def _as_another(s: Scene, role: Role, purpose: Purpose) -> bytes:
    """A role and purpose that this port does not have, by one who has that role."""
    member = s.cast.members[0] if s.cast.members else _stranger(s.cast)
    client = s.cast.clients[0] if s.cast.clients else _stranger(s.cast)
    identities = {Role.MEMBER: member, Role.CLIENT: client, Role.ANONYMOUS: None}
    service = b"" if purpose is Purpose.LINK else b"echo"
    return s.hello(role=role, purpose=purpose, service=service, as_=identities[role])


def _another_role(s: Scene, number: int) -> bytes:
    """A role of the other port."""
    roles = (Role.CLIENT, Role.ANONYMOUS) if s.port is Port.CLUSTER else (Role.MEMBER,)
    return _as_another(s, roles[number % len(roles)], Purpose.STREAM if number // 2 % 2 else Purpose.LINK)


def _another_purpose(s: Scene, number: int) -> bytes:
    """A link with a role of the client port."""
    return _as_another(s, Role.ANONYMOUS if number % 2 else Role.CLIENT, Purpose.LINK)


def _of_the_other_list(s: Scene, _: int) -> bytes:
    """A client as a member, or a member as a client."""
    if s.port is Port.CLUSTER:
        return s.hello(
            role=1, purpose=2, service=b"echo", as_=s.cast.clients[0] if s.cast.clients else _stranger(s.cast)
        )
    return s.hello(role=2, purpose=2, service=b"echo", as_=s.cast.members[0] if s.cast.members else _stranger(s.cast))


def _not_listed(s: Scene, number: int) -> bytes:
    """A stranger in the role of those who are listed on this port."""
    role = Role.MEMBER if s.port is Port.CLUSTER else Role.CLIENT
    return s.hello(role=role, purpose=2, service=b"echo", as_=pick(number, _stranger(s.cast), *s.cast.strangers))


def _almost_listed(s: Scene, number: int) -> bytes:
    """A NodeID that differs from a listed one by a bit, or by its length."""
    assert s.comer.as_ is not None
    own = s.comer.as_.node_id.value
    name = pick(number, flip(own, number // 3), own[:20] if len(own) == 32 else own + bytes(12), bytes(len(own)))
    return s.hello(purpose=2, service=b"echo", initiator=name)


def _recipient(s: Scene, number: int) -> bytes:
    own = s.to.recipient
    others = [one.node_id.value for one in s.cast.everybody()]
    resized = own[:20] if len(own) == 32 else own + bytes(12)
    return s.hello(recipient=pick(number, flip(own, number), resized, bytes(len(own)), flip(own, -1), *others))


def _higher(s: Scene, number: int) -> bytes:
    """A link that the member with the higher NodeID dials, or that comes as from the responder itself."""
    who = s.cast.members[-1] if s.cast.members else _stranger(s.cast)
    if number % 2 or who.node_id.value < s.to.recipient:
        return s.hello(role=1, purpose=1, as_=who, initiator=s.to.recipient)
    return s.hello(role=1, purpose=1, as_=who)


def _mac(s: Scene, number: int) -> bytes:
    """A mac by another key, over other bytes, or another part of it."""
    unmaced, key = s.frame[:-16], s.whole.k_mac
    spki = encode_spki(s.to.ck)
    macs = (
        mac_of(key, unmaced)[16:],
        mac_of(key, unmaced[4:])[:16],
        mac_of(key, unmaced[: 8 + s.k])[:16],
        mac_of(spki, unmaced)[:16],
        mac_of(bytes(32), unmaced)[:16],
        bytes(16),
        unmaced[-16:],
    )
    return unmaced + macs[number % len(macs)]


def _half_a_mac(s: Scene, number: int) -> bytes:
    """As many bytes of the mac as the number says are right, and the others are not."""
    right = number % 16
    return s.frame[: len(s.frame) - 16 + right] + bytes(byte ^ 255 for byte in s.frame[len(s.frame) - 16 + right :])


def _knock(s: Scene, number: int) -> bytes:
    """A mac with a knock on the client port, or without the right one on the cluster port."""
    known = s.cast.knock or bytes(range(32))
    others = (bytes(32), flip(known, number)) + ((b"",) if s.port is Port.CLUSTER else (known,))
    return s.hello(knock=pick(number, *others))


def _lengths(s: Scene, number: int) -> bytes:
    """A length that no Hello has."""
    own = 1956 + s.k
    return bytes(pick(number, 0, 17, 1212, own - 1, own + 1, own + 64, 0xFFFFFF, own | 1 << 16).to_bytes(3, "big"))


HELLOS: Mapping[str, Wrong] = {
    # check 3
    "kind": Wrong("HS-25", R.FRAME_HEADER, lambda s, n: put(s.frame, 0, pick(n, b"\0", b"\2", b"\3", b"\4", b"\x81"))),
    "length": Wrong("HS-25", R.FRAME_HEADER, lambda s, n: put(s.frame, 1, _lengths(s, n))),
    # check 4
    "version": Wrong("HS-26", R.VERSION, lambda s, n: s.hello(version=pick(n, 0, 1, 3, 0x102, 0x200, 0xFFFF))),
    "length of kem_ciphertext": Wrong(
        "HS-26",
        R.VERSION,
        lambda s, n: s.maced(put(s.frame, 6, (s.k + pick(n, -1, 1, -128, 128, 256)).to_bytes(2, "big"))[:-16]),
    ),
    # check 5
    "bit of the mac": Wrong("HS-27", R.MAC, lambda s, n: flip(s.frame, 8 * (len(s.frame) - 16) + n % 128)),
    "last byte of the mac": Wrong("HS-27", R.MAC, lambda s, n: flip(s.frame, 8 * len(s.frame) - 1 - n % 8)),
    "half a mac": Wrong("HS-27", R.MAC, _half_a_mac),
    "another mac": Wrong("HS-27", R.MAC, _mac),
    "another knock": Wrong("HS-27", R.MAC, _knock),
    "mac under another ck": Wrong(
        "HS-27", R.MAC, lambda s, _: s.hello(mac_ck=encode_spki(test_identity(31).ck_priv.public_key()))
    ),
    "ck that is not accepted": Wrong("HS-27", R.MAC, lambda s, _: s.hello(ck=s.dropped.public_key())),
    "changed behind the mac": Wrong("HS-27", R.MAC, lambda s, n: flip(s.frame, 64 + n % (8 * (len(s.frame) - 24)))),
    # check 7
    "no OAEP, a key of zeros": Wrong("HS-40", R.HELLO_NOT_OPENED, lambda s, n: _no_oaep(s, n, bytes(32))),
    "no OAEP, another key": Wrong(
        "HS-40",
        R.HELLO_NOT_OPENED,
        lambda s, n: _no_oaep(s, n, pick(n // 4, b"", s.whole.key1, b"\xff" * 32, s.frame[8:40])),
    ),
    "size of key1": Wrong("ID-17", R.HELLO_NOT_OPENED, lambda s, n: _secret_of(pick(n, 0, 1, 16, 31, 33, 64), s)),
    "OAEP with a label": Wrong("ID-16", R.HELLO_NOT_OPENED, lambda s, n: s.hello(kem_label=pick(n, b"x", b"hello"))),
    "bit of kem_ciphertext": Wrong(
        "HS-29", R.HELLO_NOT_OPENED, lambda s, n: s.maced(flip(s.frame[:-16], 64 + n % (8 * s.k)))
    ),
    "bit of sealed": Wrong(
        "HS-29", R.HELLO_NOT_OPENED, lambda s, n: s.maced(flip(s.frame[:-16], 8 * (8 + s.k) + n % (8 * 1936)))
    ),
    "bit of the tag": Wrong(
        "HS-29", R.HELLO_NOT_OPENED, lambda s, n: s.maced(flip(s.frame[:-16], 8 * (len(s.frame) - 32) + n % 128))
    ),
    "key of the seal": Wrong(
        "HS-5",
        R.HELLO_NOT_OPENED,
        lambda s, n: s.sealed(
            s.whole.body,
            key=pick(n, s.whole.key1, bytes(32), expand(mac_of(bytes(32), s.whole.key1), "hello-reply"), k_hello(b"")),
        ),
    ),
    "nonce of the seal": Wrong(
        "HS-11", R.HELLO_NOT_OPENED, lambda s, n: s.sealed(s.whole.body, nonce=(1 << n % 96).to_bytes(12, "big"))
    ),
    "aad of the seal": Wrong(
        "HS-15",
        R.HELLO_NOT_OPENED,
        lambda s, n: s.sealed(
            s.whole.body, aad=pick(n, b"", s.head[4:], s.head[:8], s.head[:4], s.head[:-1], s.head[8:])
        ),
    ),
    # check 8
    "role that is none": Wrong("HS-30", R.HELLO_MALFORMED, lambda s, n: s.field("role", bytes((pick(n, 0, 4, 255),)))),
    "purpose that is none": Wrong(
        "HS-30", R.HELLO_MALFORMED, lambda s, n: s.field("purpose", bytes((pick(n, 0, 3, 255),)))
    ),
    "bit of the pad": Wrong("HS-30", R.HELLO_MALFORMED, lambda s, n: _in_body(s, "pad", n)),
    "last byte of the pad": Wrong("HS-30", R.HELLO_MALFORMED, lambda s, _: s.sealed(s.whole.body[:-1] + b"\1")),
    "bytes behind the pad": Wrong("HS-30", R.HELLO_MALFORMED, _trailing),
    "service of 65 bytes": Wrong("HS-30", R.HELLO_MALFORMED, lambda s, _: s.field("service", b"\x41" + b"x" * 65)),
    "service that is no text": Wrong(
        "HS-30",
        R.HELLO_MALFORMED,
        lambda s, n: s.field(
            "service", prefixed(b"x" + pick(n, b"\xff", b"\0", b"\x7f", b"\xc2\x80", b"\xc0\xaf", b"\xed\xa0\x80"), 1)
        ),
    ),
    "service of a link, or none of a stream": Wrong(
        "HS-30", R.HELLO_MALFORMED, lambda s, _: s.hello(service=b"echo" if s.comer.purpose == Purpose.LINK else b"")
    ),
    "size of the recipient": Wrong(
        "HS-30", R.HELLO_MALFORMED, lambda s, n: s.field("recipient", prefixed(bytes(pick(n, 0, 19, 21, 31, 33)), 1))
    ),
    "size of the initiator": Wrong(
        "HS-30",
        R.HELLO_MALFORMED,
        lambda s, n: s.field("initiator", prefixed(bytes(pick(n, 0, 1, 19, 21, 31, 33)), 1)),
        signed=True,
    ),
    "size of the signature": Wrong(
        "HS-30",
        R.HELLO_MALFORMED,
        lambda s, n: s.field("signature", prefixed(bytes(pick(n, 0, 1, 255, 257, 511)), 2), resign=False),
        signed=True,
    ),
    "anonymous with a name": Wrong(
        "HS-30",
        R.HELLO_MALFORMED,
        lambda s, n: s.hello(
            role=3, purpose=2, service=b"echo", as_=s.comer.as_, **({} if n % 2 else {"signer": None})
        ),
        signed=True,
    ),
    "anonymous with a signature": Wrong(
        "HS-30",
        R.HELLO_MALFORMED,
        lambda s, _: s.hello(role=3, purpose=2, service=b"echo", as_=s.comer.as_, initiator=b""),
        signed=True,
    ),
    "coefficient of mlkem_ek": Wrong("HS-30", R.HELLO_MALFORMED, _coefficient),
    # checks 9 and 10
    "recipient": Wrong("HS-31", R.RECIPIENT, _recipient),
    "cluster": Wrong(
        "HS-32",
        R.CLUSTER,
        lambda s, n: s.hello(cluster=pick(n, flip(s.to.cluster, n), bytes(32), flip(s.to.cluster, -1))),
    ),
    # check 11
    "role of the other port": Wrong("HS-33", R.ROLE, _another_role, another=True),
    "link on the client port": Wrong("HS-33", R.ROLE, _another_purpose, port=Port.CLIENT, another=True),
    # check 12
    "link from above": Wrong("HS-34", R.LINK_ORDER, _higher, port=Port.CLUSTER, another=True),
    # check 13
    "somebody who is not listed": Wrong("HS-35", R.MEMBERSHIP, _not_listed, another=True),
    "somebody of the other list": Wrong("HS-35", R.MEMBERSHIP, _of_the_other_list, another=True),
    "somebody who is almost listed": Wrong("HS-35", R.MEMBERSHIP, _almost_listed, signed=True),
    # check 14
    "as the recipient itself": Wrong(
        "HS-36",
        R.SELF,
        lambda s, _: s.hello(role=1, purpose=2, service=b"echo", initiator=s.to.recipient, as_=_stranger(s.cast)),
        port=Port.CLUSTER,
        another=True,
    ),
    # check 15
    "bit of the signature": Wrong("HS-37", R.SIGNATURE, lambda s, n: _in_body(s, "signature", n), signed=True),
    "signature of zeros": Wrong(
        "HS-37", R.SIGNATURE, lambda s, _: s.field("signature", prefixed(bytes(256), 2), resign=False), signed=True
    ),
    "signature of another size": Wrong(
        "ID-13",
        R.SIGNATURE,
        lambda s, n: s.field(
            "signature", prefixed(bytes(pick(n, 384, 512) - 256) + s.whole.signature[-256:], 2), resign=False
        ),
        signed=True,
    ),
    "signature by another key": Wrong("HS-37", R.SIGNATURE, _signed_by, signed=True),
    "signature with another label": Wrong("NO-23", R.SIGNATURE, _signature_label, signed=True),
    "signature over other bytes": Wrong("HS-14", R.SIGNATURE, _not_signed_content, signed=True),
    "signature with another salt": Wrong(
        "ID-15", R.SIGNATURE, lambda s, n: s.hello(pss_salt=bytes(pick(n, 0, 20, 31, 33, 64))), signed=True
    ),
    "signed body under another key1": Wrong("HS-14", R.SIGNATURE, _kem_anew, signed=True),
    "x25519 that was not signed": Wrong("HS-14", R.SIGNATURE, lambda s, n: _in_body(s, "x25519", n % 255), signed=True),
    "mlkem_ek that was not signed": Wrong(
        "HS-14",
        R.SIGNATURE,
        lambda s, n: s.field("mlkem_ek", s.attacker.mlkem_ek(), resign=False) if n % 2 else _in_body(s, "mlkem_ek", -1),
        signed=True,
    ),
    "service and purpose that were not signed": Wrong(
        "HS-14",
        R.SIGNATURE,
        lambda s, _: s.sealed(with_field(HelloBody, put(s.whole.body, 1, b"\2"), "service", prefixed(b"other", 1))),
        signed=True,
    ),
    # check 16
    "share of low order": Wrong("HS-38", R.KEY_SHARE, lambda s, n: s.hello(x25519=pick(n, *LOW_ORDER))),
    # nothing is wrong
    "top bit of x25519": Wrong("HS-7", None, lambda s, _: s.hello(x25519=flip(s.attacker.x25519_share(), 8 * 31 + 7))),
}


# Those that only the checks from 9 on find, and those with which nothing is wrong.
_INITIATORS = [name for name in sorted(HELLOS) if HELLOS[name].reason in (*CHECKS[6:], None)]


def following(names: Sequence[str], first: str, more: int) -> Sequence[str]:
    """This one of the names, and so many more after it, round and round."""
    start = names.index(first)
    return [names[(start + i) % len(names)] for i in range(more + 1)]


# ---- what can be wrong with a first record -----------------------------------


@attrs.define
class Line:
    """One connection, and what the model knows of it. `state` is that of the state table, and of the session's then."""

    wire: Wire
    port: Port
    opened_at: float
    stands: list["Stand"]  # those in force since it was accepted
    state: str = "AWAIT_HELLO"
    comer: Comer | None = None
    ck: bytes | None = None  # that the Hello is for, if it matters
    service: bytes = b""
    frame: bytes = b""  # the Hello
    unsent: bytes = b""  # what the target has not got of it
    reply: bytes = b""
    view: View | None = None
    peer: RawPeer | None = None


@attrs.frozen
class Stand:
    """What is in force at the responder: a listing, and the numbers of the encryption keys that it accepts."""

    listing: Listing
    accepted: tuple[int, ...]


def _right(line: Line) -> bytes:
    assert line.peer is not None
    return line.peer.forge(RecordType.CONFIRM)


def _forge(line: Line, type_: int, payload: bytes = b"", **wrong: Any) -> bytes:
    assert line.peer is not None
    return line.peer.forge(type_, payload, **wrong)


def _under(secret: Callable[[RawPeer], bytes]) -> Callable[[Line, int], bytes]:
    """Confirm under another secret."""

    def make(line: Line, _number: int) -> bytes:
        assert line.peer is not None
        return forge_record(secret(line.peer), 0, RecordType.CONFIRM)

    return make


@attrs.frozen
class WrongConfirm:
    """One thing that is wrong with what comes behind the HelloReply."""

    requirement: str
    reason: RefusalReason
    make: Callable[[Line, int], bytes]


CONFIRMS: Mapping[str, WrongConfirm] = {
    "kind": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, n: put(_right(x), 0, pick(n, b"\0", b"\1", b"\2", b"\4"))),
    "length": WrongConfirm(
        "HS-56",
        R.FRAME_HEADER,
        lambda x, n: put(_right(x), 1, pick(n, 0, 1, 16, 18, 65_553, 0xFFFFFF).to_bytes(3, "big")),
    ),
    "payload": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, n: _forge(x, 1, bytes(1 + n % 40))),
    "Data": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, _: _forge(x, RecordType.DATA, b"data")),
    "Error": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, n: _forge(x, RecordType.ERROR, error_payload(1 + n % 9))),
    "the Hello again": WrongConfirm("HS-2", R.FRAME_HEADER, lambda x, _: x.frame),
    "the HelloReply": WrongConfirm("HS-56", R.FRAME_HEADER, lambda x, _: x.reply),
    "another type": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: _forge(x, pick(n, 2, 3, 4, 5, 6, 0, 7, 255))),
    "Bye": WrongConfirm("HS-57", R.CONFIRM, lambda x, _: _forge(x, RecordType.BYE)),
    "sequence number": WrongConfirm("SE-7", R.CONFIRM, lambda x, n: _forge(x, 1, ahead=pick(n, 1, 2, 256, 1 << 20))),
    "generation": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: _forge(x, 1, generation=1 + n % 2)),
    "aad": WrongConfirm(
        "SE-8", R.CONFIRM, lambda x, n: _forge(x, 1, aad=pick(n, b"", b"\3\0\0\x12", b"\2\0\0\x11", bytes(4)))
    ),
    "keys of the other direction": WrongConfirm("HS-5", R.CONFIRM, _under(lambda peer: peer.receive_secret)),
    "keys of zeros": WrongConfirm("HS-57", R.CONFIRM, _under(lambda _: bytes(32))),
    "bit": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: flip(_right(x), 32 + n % 136)),
    "last bit": WrongConfirm("HS-57", R.CONFIRM, lambda x, n: flip(_right(x), 8 * 21 - 1 - n % 8)),
    "nothing but zeros": WrongConfirm("HS-57", R.CONFIRM, lambda _x, _: b"\3\0\0\x11" + bytes(17)),
}

# What may come behind a Hello in one piece, before anybody could know what the HelloReply says.
BEHIND: Mapping[str, Callable[[Scene], bytes]] = {
    "a byte": lambda _: b"\3",
    "a header that is due": lambda _: b"\3\0\0\x11",
    "a record that nobody could seal": lambda _: b"\3\0\0\x11" + bytes(17),
    "a longer record": lambda _: b"\3\0\0\x12" + bytes(18),
    "the header of a longer record": lambda _: b"\3\0\0\x12",
    "a HelloReply behind it": lambda _: b"\2\0\4\xbc" + bytes(1212),
    "a Hello": lambda s: s.frame,
    "zeros behind it": lambda _: bytes(4),
}

# What others say to a port that is open.
OTHERS = {
    "nothing": b"",
    "HTTP": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + bytes(190),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a HelloReply": b"\2\0\4\xbc" + bytes(1212),
    "a record": b"\3\0\0\x11" + bytes(17),
    "an endless frame": b"\1\xff\xff\xff" + bytes(4096),
    "zeros": bytes(5000),
}

_NUMBER = st.integers(0, 1 << 16)
_EITHER = st.booleans()
_SIZE = st.integers(0, 4000)
_SIZES = st.lists(_SIZE, max_size=3)
_SIZE_OR_ALL = st.one_of(st.none(), _SIZE)
# A kind of DAMAGE, where, and the bytes for it; where a bit is flipped the number counts bits.
_CHANGE = st.tuples(st.sampled_from(sorted(DAMAGE)), st.integers(0, 8 * 2500), st.binary(min_size=1, max_size=8))
_CASTS = (*("usual",) * 5, *("listed",) * 3, *("short ids",) * 2, "3072 bits", "4096 bits")  # the larger, the slower
_MOST_LINES = 8
_WHO = st.sampled_from(("link", "lower", "higher", "client", "anonymous", "stranger"))


# ---- the machine -------------------------------------------------------------


class ResponderMachine(TargetMachine):
    """A responder's port against an attacker. `port` says which; the other one of the same member is there too."""

    port: ClassVar[Port]

    @initialize(
        cast=st.sampled_from(_CASTS),
        keepalive=st.sampled_from((0, 0, 1000, 3_600_000)),
        link_keepalive=st.sampled_from((15_000, 1000, 60_000)),
    )
    def start(self, cast: str, keepalive: int, link_keepalive: int) -> None:
        """A member opens its ports; nobody has come yet."""
        first = CASTS[cast]()
        if not self.can(Can.ROSTER):  # a live target remembers the Hellos of other runs
            self.attacker = Attacker(token_hex(16))
        self.targets = {
            port: self.driver.responder(port, cast=first, keepalive=keepalive, link_keepalive=link_keepalive)
            for port in (Port if self.can(Can.ROSTER) else (self.port,))
        }
        self.cast = self.meet(self.targets[self.port].cast)
        self.keepalives = {Purpose.STREAM: keepalive, Purpose.LINK: link_keepalive}
        self.stand = Stand(first_listing(self.cast), (0,))
        self.lines: list[Line] = []
        self.digests = 0  # that the replay cache has to hold
        self.clock = 0.0
        self.fresh = Fresh()
        self.kept: dict[Any, ForgedHello] = {}
        self.accepted: list[Line] = []  # whose Hellos were
        self.turned_away: list[Line] = []  # whose Hellos were right, but not admitted

    # ---- what the model knows ----

    def can(self, *needed: Can) -> bool:
        """Whether the driver has all of this."""
        return self.driver.can.issuperset(needed)

    def scene(self, who: str, number: int = 0, *, signed: bool = False, port: Port | None = None) -> Scene:
        """What a Hello is made from. The number chooses among services, and among the keys that are accepted."""
        port = self.port if port is None else port
        names = [name for name in COMERS[port] if not signed or name != "anonymous"]
        to = self.cast.destination(port)
        dropped = test_identity(32, bits=self.cast.card.ck.key_size).ck_priv
        if self.cast.responder is not None:
            to = attrs.evolve(to, ck=encryption_key(self.cast, pick(number, *self.stand.accepted)).public_key())
            gone = [older for older in range(self.stand.listing.ck) if older not in self.stand.accepted]
            dropped = encryption_key(self.cast, gone[-1]) if gone else dropped
        someone = comer(port, who if who in names else names[0], self.cast)
        service = pick(number // 2, *SERVICES) if self.can(Can.APPLICATION) else "echo"
        said = b"" if someone.purpose == Purpose.LINK else service.encode()
        return Scene(self.attacker, self.cast, port, to, someone, said, dropped, self.kept)

    def standing(self, line: Line, stand: Stand) -> RefusalReason | None:
        """Why somebody is not let in who does everything right; None: is let in."""
        if line.port is Port.CLUSTER and self.cast.knock is None:
            return R.MAC
        assert line.comer is not None
        if line.ck is not None and line.ck not in self.accepted_cks(stand):
            return R.MAC
        if stand.listing.admission(self.cast).admits(line.comer.role, line.comer.node_id):
            return None
        return R.ROLE if line.comer.role == Role.ANONYMOUS else R.MEMBERSHIP

    def accepted_cks(self, stand: Stand) -> Sequence[bytes]:
        """The encryption keys that are accepted, as SPKI."""
        if self.cast.responder is None:
            return (encode_spki(self.cast.card.ck),)
        return [encode_spki(encryption_key(self.cast, number).public_key()) for number in stand.accepted]

    def lengths(self) -> set[int]:
        """The lengths of a Hello that are due: those of the accepted keys. [HS-25]"""
        if self.cast.responder is None:
            return {1956 + self.cast.card.ck.key_size // 8}
        return {1956 + encryption_key(self.cast, number).key_size // 8 for number in self.stand.accepted}

    def trace(self) -> Remembered | None:
        """What the target keeps beside its connections, but for the number of these."""
        found = self.targets[self.port].remembered() if self.can(Can.ROSTER) else None
        return None if found is None else attrs.evolve(found, handshakes=0, sessions=0)

    @invariant()
    def keeps_what_it_has_to(self) -> None:
        """The replay cache holds a digest of each signed Hello that was accepted; connections are counted right."""
        if not self.can(Can.ROSTER) or not hasattr(self, "targets"):
            return
        found = self.targets[self.port].remembered()
        assert found is not None
        assert found.replay_entries == self.digests, (
            f"{found.replay_entries} digests in the replay cache, {self.digests} expected [HS-21] [HS-39] [HS-62]"
        )
        assert found.epoch == self.stand.listing.epoch, f"epoch {found.epoch}, {self.stand.listing.epoch} expected"
        handshakes = sum(line.state in ("AWAIT_HELLO", "AWAIT_CONFIRM") for line in self.lines)
        sessions = sum(line.state == "OPEN" for line in self.lines)
        assert (found.handshakes, found.sessions) == (handshakes, sessions), (
            f"{found.handshakes} handshakes and {found.sessions} sessions, {handshakes} and {sessions} expected"
        )

    # ---- what the rules are made of ----

    def open(self, port: Port | None = None) -> Line:
        """A new connection. There are few at a time: the oldest one goes."""
        if len(self.lines) == _MOST_LINES:
            self.leave(self.lines[0])
        port = self.port if port is None else port
        line = Line(self.targets[port].connect(), port, self.clock, [self.stand])
        self.lines.append(line)
        check_silence(line.wire, closed=False)
        check_not_established(line.wire, "AWAIT_HELLO")
        return line

    def come(self, scene: Scene, frame: bytes | None = None, *, ck: bytes | None = None) -> Line:
        """A new connection for a Hello, which is not sent yet: a new one with nothing wrong, if none is given. `ck` is
        the encryption key that it is for, if not that of the scene."""
        line = self.open(scene.port)
        line.comer, line.service = scene.comer, scene.service
        line.frame = scene.hello() if frame is None else frame
        line.ck = encode_spki(scene.to.ck) if ck is None else ck
        return line

    def refused(self, line: Line, reason: RefusalReason | None) -> None:
        """The target has refused what came on a connection, or has given it up."""
        self.lines.remove(line)
        line.state = "IGNORED"
        check_refused(line.wire, reason)
        line.wire.send(b"\3\0\0\x11" + bytes(17))
        check_silence(line.wire, closed=True)

    def leave(self, line: Line, *, reset: bool = False) -> None:
        """The attacker goes."""
        if reset:
            line.wire.reset()
        else:
            line.wire.close()
        if line.state != "OPEN":
            self.refused(line, R.TRANSPORT_CLOSED)
            return
        self.lines.remove(line)

    def offer(
        self,
        frame: bytes,
        scene: Scene,
        reason: RefusalReason | None = None,
        *,
        sizes: Sequence[int] = (),
        another: bool = False,
        ck: bytes | None = None,
    ) -> Line | None:
        """A frame on a connection of its own. `reason` is what is wrong with it; it is refused for that, or for what is
        wrong with the comer, and otherwise answered. `another`: it is not the comer who comes."""
        line = self.come(scene, frame, ck=ck)
        right = reason is None
        if not another:
            reason = first_refusal(reason, self.standing(line, self.stand))
        before = self.trace()
        if reason is R.FRAME_HEADER:
            line.wire.send(frame[:3])
            check_silence(line.wire, closed=False)
            line.wire.send(frame[3:4])  # the body is not waited for [FR-5]
        else:
            *first, last = pieces(frame, sizes)
            for part in first:
                line.wire.send(part)
                check_silence(line.wire, closed=False)
                check_not_established(line.wire, "AWAIT_HELLO")
            line.wire.send(last)
        if reason is None:
            self.answered(line)
            return line
        self.refused(line, reason)
        assert self.trace() == before, "a refused Hello has left a trace [HS-21]"
        if right:
            self.turned_away.append(line)
        return None

    def answered(self, line: Line, behind: bytes = b"") -> None:
        """The target has to have answered a Hello, and everything is as it has to be then."""
        assert line.comer is not None
        self.digests += line.comer.role != Role.ANONYMOUS
        keepalive, epochs = None, None
        if self.can(Can.ROSTER):
            keepalive = self.keepalives[line.comer.purpose]
            epochs = {stand.listing.epoch for stand in line.stands}
        data = line.wire.received()
        secrets = check_reply(self.attacker, line.frame, data, keepalive=keepalive, epochs=epochs, fresh=self.fresh)
        line.state, line.reply = "AWAIT_CONFIRM", data
        self.accepted.append(line)
        if not behind:
            check_silence(line.wire, closed=False)
            check_not_established(line.wire, "AWAIT_CONFIRM")
        if secrets is None:  # of a share whose private half nobody knows
            return
        line.peer = RawPeer(secrets.i2r, secrets.r2i)
        line.view = View(
            side=Side.RESPONDER,
            role=line.comer.role,
            purpose=line.comer.purpose,
            service=line.service,
            cluster=self.cast.cluster_id,
            initiator=line.comer.node_id,
            recipient=self.cast.card.node_id.value,
            keepalive=number_in_reply(self.attacker, line, "keepalive"),
            epoch=number_in_reply(self.attacker, line, "epoch"),
            transcript_hash=secrets.th,
            exporter=secrets.exporter,
        )

    def confirm(self, line: Line, sizes: Sequence[int] = (), *, behind: bool = False) -> None:
        """The right Confirm, and Data behind it in one piece or not: it is established, unless it is not admitted any
        more."""
        assert line.peer is not None
        assert line.view is not None
        *first, last = pieces(line.peer.record(RecordType.CONFIRM), sizes)
        for part in first:
            line.wire.send(part)
            check_silence(line.wire, closed=False)
            check_not_established(line.wire, "AWAIT_CONFIRM")
        data = b"behind Confirm" if behind and self.can(Can.APPLICATION) else b""
        line.wire.send(last + (line.peer.record(RecordType.DATA, data) if data else b""))
        if self.standing(attrs.evolve(line, ck=None), self.stand) is not None:  # [HS-58]
            self.refused(line, R.ROSTER_CHANGED)
            return
        line.state = "OPEN"
        check_established(line.wire, line.view)
        self.check_card(line)
        if data:
            assert line.wire.application is not None
            told = line.wire.application.told()
            assert told == [GotData(data)], f"the application was told {told}, not what came behind Confirm [SE-3]"
        if line.wire.application is not None or line.service:  # a link that nobody commands speaks for itself
            check_session(line.wire, line.peer, seed=len(self.accepted))
        if line.view.keepalive:  # or its clocks would have to be told of here
            self.leave(line)

    def check_card(self, line: Line) -> None:
        """The initiator's card is that of the roster in force now, and no byte that was used is still in a buffer."""
        found = line.wire.established
        if found is None:
            return
        assert line.comer is not None
        if line.comer.as_ is not None and found.initiator is not None:
            names = self.stand.listing.names
            name = line.comer.as_.card.name + (f"-{names}" if names else "")
            assert found.initiator.name == name, f"the card of {found.initiator.name}, not that of {name} in the roster"
        assert found.reader.unread == 0, f"{found.reader.unread} bytes in the buffer that were used [FR-9]"

    def awaiting(self, number: int) -> Line | None:
        """One of the connections that wait for Confirm."""
        waiting = [line for line in self.lines if line.state == "AWAIT_CONFIRM" and line.peer is not None]
        return pick(number, *waiting) if waiting else None

    # ---- control: what is right is answered ----

    @rule(who=_WHO, number=_NUMBER, sizes=_SIZES, confirm_sizes=_SIZES, behind=_EITHER)
    def shake_hands(self, who: str, number: int, sizes: list[int], confirm_sizes: list[int], behind: bool) -> None:
        """Everything is right, in whatever pieces it comes."""
        scene = self.scene(who, number)
        line = self.offer(scene.hello(), scene, sizes=sizes)
        if line is not None:
            self.confirm(line, confirm_sizes, behind=behind)

    @rule(number=_NUMBER, sizes=_SIZES, behind=_EITHER)
    def confirm_one(self, number: int, sizes: list[int], behind: bool) -> None:
        """The Confirm of one that waits for it."""
        line = self.awaiting(number)
        if line is not None:
            self.confirm(line, sizes, behind=behind)

    @rule(who=_WHO, number=_NUMBER, size=_SIZE_OR_ALL)
    def say_hello(self, who: str, number: int, size: int | None) -> None:
        """A Hello with nothing wrong, or the beginning of one; the rest, or Confirm, may come later."""
        scene = self.scene(who, number)
        if size is None:
            self.offer(scene.hello(), scene)
            return
        line = self.come(scene)
        first, line.unsent = pieces(line.frame, [size])
        line.wire.send(first)
        check_silence(line.wire, closed=False)
        check_not_established(line.wire, "AWAIT_HELLO")

    @rule(number=_NUMBER, size=_SIZE_OR_ALL)
    def go_on_with_hello(self, number: int, size: int | None) -> None:
        """More of a Hello that was begun, or all of it."""
        begun = [line for line in self.lines if line.unsent]
        if not begun:
            return
        line = pick(number, *begun)
        first, *rest = pieces(line.unsent, [] if size is None else [size])
        if rest:
            line.unsent = b"".join(rest)
            line.wire.send(first)
            check_silence(line.wire, closed=False)
            check_not_established(line.wire, "AWAIT_HELLO")
        else:
            self.finish_hello(line)

    def finish_hello(self, line: Line) -> None:
        """The rest of a Hello that was begun, perhaps under another roster."""
        before = self.trace()
        line.wire.send(line.unsent)
        line.unsent = b""
        reasons = {self.standing(line, stand) for stand in line.stands}  # one of these rosters decides [HS-22]
        if None in reasons and not (len(reasons) > 1 and line.wire.closed):
            line.stands = [stand for stand in line.stands if self.standing(line, stand) is None]
            self.answered(line)
            return
        self.refused(line, None)
        assert line.wire.refusal in (None, *reasons), f"refused as {line.wire.refusal}, {reasons} expected [HS-22]"
        assert self.trace() == before, "a refused Hello has left a trace [HS-21]"

    # ---- Hellos with something wrong ----

    @rule(what=st.sampled_from(sorted(HELLOS)), more=st.integers(0, 9), who=_WHO, number=_NUMBER, size=_SIZE)
    def say_hello_wrongly(self, what: str, more: int, who: str, number: int, size: int) -> None:
        """A Hello with one thing wrong, then one with the next thing in the table, and so on: the check that is there
        for it finds each of them."""
        for name in following(sorted(HELLOS), what, more):
            self.say_wrongly(name, who, number, size)

    @rule(what=st.sampled_from(_INITIATORS), more=st.integers(0, 7), who=_WHO, number=_NUMBER, size=_SIZE)
    def say_who_wrongly(self, what: str, more: int, who: str, number: int, size: int) -> None:
        """The same of what is wrong in whom it is for, who says it, and how that is proved."""
        for name in following(_INITIATORS, what, more):
            self.say_wrongly(name, who, number, size)

    def say_wrongly(self, what: str, who: str, number: int, size: int) -> None:
        """One of HELLOS."""
        wrong = HELLOS[what]
        if wrong.port not in (None, self.port):
            return
        if self.cast.knock is None and self.port is Port.CLUSTER and wrong.another:
            return
        scene = self.scene(who, number, signed=wrong.signed)
        self.offer(wrong.make(scene, number), scene, wrong.reason, sizes=[size], another=wrong.another)

    @rule(
        field=st.sampled_from(field_names(HelloBody)), number=_NUMBER, more=st.integers(0, 5), who=_WHO, resign=_EITHER
    )
    def change_field(self, field: str, number: int, more: int, who: str, resign: bool) -> None:
        """A field of HelloBody at a bound or beyond it, then at the next: signed again or not, and sealed again."""
        scene = self.scene(who)
        for edge in range(number, number + more + 1):
            self.judge(scene, with_field(HelloBody, scene.whole.body, field[10:], field_edge(field, edge)), resign)

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=4), who=_WHO, resign=_EITHER)
    def change_body(self, changes: list[tuple[str, int, bytes]], who: str, resign: bool) -> None:
        """Some bytes of HelloBody are others, missing, or too many, and its end makes up for that; signed again or not,
        sealed and maced again. Then the next change, of the right body."""
        scene = self.scene(who)
        whole = scene.whole.body
        for kind, at, some in changes:
            changed = damage(whole, kind, at, some)
            self.judge(scene, (changed + bytes(len(whole)))[: len(whole)], resign)

    def judge(self, scene: Scene, body: bytes, resign: bool) -> None:
        """A Hello with this body meets with what the specification says of it."""
        whole = scene.whole.body
        frame = scene.sealed(body, resign=resign)
        resealed = self.attacker.open_hello(frame)
        assert resealed is not None
        body = resealed.body
        if len(body) != len(whole):  # `sealed` has another size, and the frame another length
            return
        values = body_values(body)
        end = scene.span("signature")[1]
        signed = resign and values is not None and values["initiator"] == scene.comer.node_id
        signed |= body[:end] == whole[:end]
        reason = body_refusal(
            body,
            port=self.port,
            node_id=self.cast.card.node_id.value,
            cluster=self.cast.cluster_id,
            admission=self.stand.listing.admission(self.cast),
            signed=signed,
        )
        if self.port is Port.CLUSTER and self.cast.knock is None:
            reason = R.MAC
        said = [line.comer for line in self.accepted if line.frame == frame]
        if any(someone is not None and someone.role != Role.ANONYMOUS for someone in said):
            reason = first_refusal(reason, R.REPLAY_SEEN)
        if reason is None:
            assert values is not None
            changed = Comer(Role(values["role"]), Purpose(values["purpose"]), scene.comer.as_)
            scene = attrs.evolve(scene, comer=changed, service=values["service"].encode())
        line = self.offer(frame, scene, reason, another=True)
        if line is not None and line.peer is not None:
            self.confirm(line)

    @rule(changes=st.lists(_CHANGE, min_size=1, max_size=4), who=_WHO, mac=_EITHER)
    def change_frame(self, changes: list[tuple[str, int, bytes]], who: str, mac: bool) -> None:
        """Some bytes of the frame are others, missing or too many; with the right mac behind them or not. Then the next
        change, of the right frame."""
        scene = self.scene(who)
        for kind, at, some in changes:
            frame = damage(scene.frame, kind, at, some)
            self.offer_changed(scene, scene.maced(frame[:-16]) if mac else frame, maced=mac)

    @rule(who=_WHO, other=_WHO, at=st.integers(0, 2400), mac=_EITHER)
    def splice_frames(self, who: str, other: str, at: int, mac: bool) -> None:
        """The beginning of one Hello and the end of another."""
        scene, second = self.scene(who), self.scene(other, 2)
        end = second.frame if second.frame != scene.frame else second.hello()
        frame = splice(scene.frame, end, at)
        if frame != end:
            self.offer_changed(scene, scene.maced(frame[:-16]) if mac else frame, maced=mac)

    def offer_changed(self, scene: Scene, frame: bytes, *, maced: bool) -> None:
        """What has to become of a frame that is not what it was, by where it was changed."""
        right = scene.frame
        if frame[: len(right)] == right or len(frame) < 4:
            return
        length = int.from_bytes(frame[1:4], "big")
        if frame[0] != 1 or length not in self.lengths():
            reason = R.FRAME_HEADER
        elif len(frame) < 4 + length:
            line = self.open()
            line.wire.send(frame)
            check_silence(line.wire, closed=False)
            self.leave(line)
            return
        elif frame[:8] != right[:8]:
            reason = R.VERSION
        elif maced and len(frame) == len(right) and frame[:-16] != right[:-16]:
            reason = R.HELLO_NOT_OPENED
        else:
            reason = R.MAC
        self.offer(frame, scene, reason)

    @rule(what=st.sampled_from((*sorted(OTHERS), *sorted(BEHIND))), more=st.integers(0, 3), who=_WHO, number=_NUMBER)
    def say_something_else(self, what: str, more: int, who: str, number: int) -> None:
        """Another protocol or a frame that is not due, alone, or in one piece behind a Hello."""
        for name in following((*sorted(OTHERS), *sorted(BEHIND)), what, more):
            if name in OTHERS:
                self.say_only(name, leave=number % 2 == 0)
            else:
                self.say_behind(who, number, name)

    def say_only(self, name: str, *, leave: bool) -> None:
        """One of OTHERS is refused at its header."""
        line = self.open()
        data = OTHERS[name]
        line.wire.send(data)
        if data:
            self.refused(line, R.FRAME_HEADER)
        elif leave:
            self.leave(line)

    def say_behind(self, who: str, number: int, name: str) -> None:
        """One of BEHIND: nobody can make Confirm yet, so it is refused behind the answer."""
        scene = self.scene(who, number)
        line = self.come(scene)
        behind = BEHIND[name](scene)
        line.wire.send(line.frame + behind)
        reason = self.standing(line, self.stand)
        if reason is not None:
            self.refused(line, reason)
            return
        self.answered(line, behind)
        if len(behind) < 4 or behind == b"\3\0\0\x11":
            check_silence(line.wire, closed=False)
            line.peer = None  # its Confirm cannot be right any more
        else:
            self.refused(line, R.CONFIRM if behind[:4] == b"\3\0\0\x11" else R.FRAME_HEADER)

    # ---- replays ----

    @rule(number=_NUMBER, sizes=_SIZES, where=st.sampled_from(("here", "here", "other port", "turned away")))
    def replay(self, number: int, sizes: list[int], where: str) -> None:
        """A Hello that was said before. One that was accepted is refused if it was signed, answered anew if it was
        anonymous, and does not fit the other port; one of somebody who was not admitted was not remembered, and is
        judged as if it were new."""
        said = self.turned_away if where == "turned away" else self.accepted
        if not said:
            return
        line = pick(number, *said)
        if where == "other port" and self.can(Can.ROSTER):
            other = Port.CLUSTER if line.port is Port.CLIENT else Port.CLIENT
            scene = attrs.evolve(self.scene("stranger", port=other), comer=line.comer, service=line.service)
            self.offer(line.frame, scene, R.MAC, another=True)
        else:
            self.say_again(line, sizes)

    def say_again(self, said: Line, sizes: Sequence[int]) -> None:
        assert said.comer is not None
        scene = attrs.evolve(self.scene("stranger", port=said.port), comer=said.comer, service=said.service)
        signed = said.comer.role != Role.ANONYMOUS
        seen = R.REPLAY_SEEN if signed and said.frame in [line.frame for line in self.accepted] else None
        reason = first_refusal(self.standing(said, self.stand), seen)
        line = self.offer(said.frame, scene, reason, sizes=sizes, another=True, ck=said.ck)
        if line is not None and line.peer is not None and self.can(Can.STATE):
            self.confirm(line)

    @rule(who=_WHO, number=_NUMBER, size=_SIZE)
    def race(self, who: str, number: int, size: int) -> None:
        """The same Hello on two connections at once: the first one that is whole is the one that counts."""
        scene = self.scene(who, number)
        frame = scene.hello()
        first, last = pieces(frame, [size])
        lines = [self.come(scene, frame), self.come(scene, frame)]
        for line in lines:
            line.wire.send(first)
            check_silence(line.wire, closed=False)
        reason = self.standing(lines[0], self.stand)
        lines[0].wire.send(last)
        if reason is None:
            self.answered(lines[0])
            reason = R.REPLAY_SEEN if scene.comer.role != Role.ANONYMOUS else None
        else:
            self.refused(lines[0], reason)
        lines[1].wire.send(last)
        if reason is None:
            self.answered(lines[1])
            self.cross(lines)
        else:
            self.refused(lines[1], reason)

    def cross(self, lines: Sequence[Line]) -> None:
        """The Confirm of each goes to the other: it was not made for that HelloReply."""
        records = [_right(line) for line in lines]
        for line, record in zip(lines, reversed(records), strict=True):
            line.wire.send(record)
            self.refused(line, R.CONFIRM)

    @rule(who=_WHO, other=_WHO, number=_NUMBER)
    def cross_confirms(self, who: str, other: str, number: int) -> None:
        """Two handshakes, and the Confirm of each for the other."""
        lines = []
        for scene in (self.scene(who, number), self.scene(other, number)):
            line = self.offer(scene.hello(), scene)
            if line is not None and line.peer is not None:
                lines.append(line)
        if len(lines) == 2:
            self.cross(lines)

    # ---- Confirms with something wrong ----

    @rule(what=st.sampled_from(sorted(CONFIRMS)), more=st.integers(0, 3), who=_WHO, number=_NUMBER, size=_SIZE)
    def confirm_wrongly(self, what: str, more: int, who: str, number: int, size: int) -> None:
        """A first record with one thing wrong, then another with the next thing in the table."""
        for name in following(sorted(CONFIRMS), what, more):
            self.say_confirm_wrongly(name, who, number, size)

    def say_confirm_wrongly(self, what: str, who: str, number: int, size: int) -> None:
        """One of CONFIRMS: it is refused in silence, and nobody is established."""
        line = self.awaiting(number)
        if line is None:
            scene = self.scene(who, number)
            line = self.offer(scene.hello(), scene)
        if line is None or line.peer is None:
            return
        wrong = CONFIRMS[what]
        data = wrong.make(line, number)
        if wrong.reason is R.FRAME_HEADER:
            line.wire.send(data[:4])
        else:
            *first, last = pieces(data, [size])
            for part in first:
                line.wire.send(part)
                check_silence(line.wire, closed=False)
            line.wire.send(last)
        self.refused(line, wrong.reason)

    # ---- time, and ends ----

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(seconds=st.sampled_from((0.4, 3.3, 9.7, 10.1, 60.0)))
    def wait(self, seconds: float) -> None:
        """Time passes: a handshake ends in silence when its deadline has passed, and nothing else happens."""
        self.driver.pass_time(seconds)
        self.clock += seconds
        for line in list(self.lines):
            age = self.clock - line.opened_at
            if line.state == "OPEN" or age < DEADLINE - 0.01:
                check_silence(line.wire, closed=False)
            elif age > DEADLINE + 0.01 or line.wire.closed:
                self.refused(line, R.DEADLINE)

    @precondition(lambda self: self.can(Can.CLOCK))
    @rule(who=_WHO, number=_NUMBER, size=_SIZE, step=st.sampled_from(("Hello", "Confirm")))
    def dawdle(self, who: str, number: int, size: int, step: str) -> None:
        """Bytes come all the time, and the handshake is not done: they do not extend the deadline. [HS-77]"""
        scene = self.scene(who, number)
        line = self.come(scene)
        reason = self.standing(line, self.stand)
        data = line.frame
        if step == "Confirm" and reason is None:
            line.wire.send(data)
            self.answered(line)
            data = b"\3\0\0\x11" + bytes(17)
        at = 1 + size % (len(data) - 4)
        for part in (data[:at], data[at : at + 1], data[at + 1 : at + 2]):
            line.wire.send(part)
            self.wait(4.0)
        assert line.state == "IGNORED", "the deadline has passed, and the handshake goes on [HS-77]"

    @rule(number=_NUMBER, reset=_EITHER)
    def leave_one(self, number: int, reset: bool) -> None:
        """The attacker ends a connection, whatever its state."""
        if self.lines:
            self.leave(pick(number, *self.lines), reset=reset)

    # ---- rosters ----

    @precondition(lambda self: self.can(Can.ROSTER))
    @rule(
        change=st.sampled_from(("who", "who", "access", "ck", "names", "nothing", "old", "responder")), number=_NUMBER
    )
    def adopt(self, change: str, number: int) -> None:
        """Another roster: whom it does not admit is gone at once, and nobody else notices. [RO-55] [RO-56] [RO-57]"""
        held, accepted = self.stand.listing, self.stand.accepted
        listing = attrs.evolve(held, epoch=held.epoch + 1)
        keys = None
        match change:
            case "who":
                somebody = pick(number, *(one.node_id.value for one in (*self.cast.members, *self.cast.clients)))
                listing = attrs.evolve(listing, absent=held.absent ^ {somebody})
            case "access":
                listing = attrs.evolve(listing, anyone=not held.anyone)
            case "ck":
                listing = attrs.evolve(listing, ck=held.ck + 1)
                accepted = (listing.ck, held.ck)
                keys = [encryption_key(self.cast, key) for key in accepted]
            case "names":
                listing = attrs.evolve(listing, names=held.names + 1)
            case "old":
                listing = attrs.evolve(held, epoch=max(held.epoch - 1, 1))
                if listing != held or held == first_listing(self.cast):
                    offered = roster_of(self.cast, listing) if listing != held else self.targets[self.port].roster
                    assert offered is not None
                    assert not self.targets[self.port].adopt(offered), "a roster of no higher epoch is in force [RO-34]"
                return
            case "responder":
                assert self.cast.responder is not None
                own = self.cast.responder.node_id.value
                if all(member.node_id.value in held.absent for member in self.cast.members):
                    return  # a roster has a member
                self.put_in_force(Stand(attrs.evolve(listing, absent=held.absent | {own}), accepted), None)
                listing = attrs.evolve(listing, epoch=listing.epoch + 1)
        self.put_in_force(Stand(listing, accepted), keys)

    @precondition(lambda self: self.can(Can.ROSTER))
    @rule(who=_WHO, number=_NUMBER, size=_SIZE_OR_ALL, back=_EITHER)
    def change_in_between(self, who: str, number: int, size: int | None, back: bool) -> None:
        """The initiator is removed when its Hello is half there, or answered: it is not let in, but may get the answer
        of the former roster. [HS-22] [HS-58] [RO-56]"""
        scene = self.scene(who, number)
        line = self.come(scene)
        reason = self.standing(line, self.stand)
        first, *rest = pieces(line.frame, [] if size is None else [size])
        line.unsent = b"".join(rest)
        line.wire.send(first)
        if size is None:
            if reason is not None:
                self.refused(line, reason)
                return
            self.answered(line)
        someone = scene.comer.as_
        change = frozenset[bytes]()
        if someone in (*self.cast.members, *self.cast.clients):
            change = frozenset({someone.node_id.value})
        changes = {"anyone": not self.stand.listing.anyone} if someone is None else {}
        for _ in range(1 + back):
            listing = self.stand.listing
            listing = attrs.evolve(listing, epoch=listing.epoch + 1, absent=listing.absent ^ change, **changes)
            self.put_in_force(Stand(listing, self.stand.accepted), None)
            changes = {"anyone": not listing.anyone} if changes else {}
        if line.unsent:
            self.finish_hello(line)
        if line.state == "AWAIT_CONFIRM" and line.peer is not None:
            self.confirm(line)

    def put_in_force(self, stand: Stand, keys: Sequence[RSAPrivateKey] | None) -> None:
        """The target adopts what the stand says, and every connection goes on or ends as it has to."""
        target = self.targets[self.port]
        assert target.adopt(roster_of(self.cast, stand.listing), keys), (
            "a roster of a higher epoch is not taken [RO-33]"
        )
        self.stand = stand
        admission = stand.listing.admission(self.cast)
        is_member = self.cast.card.node_id.value in admission.members
        for line in list(self.lines):
            line.stands.append(stand)
            someone = line.comer
            listed = line.state == "AWAIT_HELLO" or someone is None or admission.admits(someone.role, someone.node_id)
            if is_member and listed:
                check_silence(line.wire, closed=False)
            elif line.state == "OPEN":
                assert line.peer is not None
                code = ErrorCode.SHUTTING_DOWN if listed else ErrorCode.NOT_AUTHORIZED
                records = opened(line.peer, line.wire.received())
                found = [(type_, int.from_bytes(payload[:2], "big")) for type_, payload in records]
                assert found == [(RecordType.ERROR, code)], f"{found} to whom the new roster does not admit [RO-55]"
                self.leave(line)
            else:
                self.refused(line, R.ROSTER_CHANGED)

    # ---- the state table ----

    @precondition(lambda self: self.can(Can.STATE))
    @rule(first=st.integers(0, 2), later=_EITHER)
    def tell_the_core(self, first: int, later: bool) -> None:
        """Every event that is no message, in every state: the row of the table, and nothing else."""
        check_a_full_cache()
        check_intervals()
        for state in ("AWAIT_CONFIRM", "IGNORED") if later else ("AWAIT_HELLO", "ESTABLISHED"):
            self.tell_in(state, first)

    def tell_in(self, state: str, first: int) -> None:
        """All events in one state, this one first."""
        if self.cast.roster is None or self.cast.responder is None:
            return
        roster, key = self.cast.roster, AcceptedKey.of(self.cast.responder.ck_priv)
        welcome = Welcome(self.port, self.cast.card.node_id, lambda: roster, lambda: [key], ReplayCache())
        core = Responder(welcome, draw=Draws("core"), randomised=REMEMBERED)
        self.bring(core, state)
        assert core.state == state, f"{core.state}, {state} expected [HS-79]"
        expected = "ESTABLISHED" if state == "ESTABLISHED" else "IGNORED"
        events = [Responder.deadline_passed, Responder.transport_closed, Responder.given_up]
        for event in (*events[first:], *events[:first]):
            event(core)
            assert core.state == expected, f"{core.state} after {event.__name__} in {state}, not {expected} [HS-79]"
        check_forgotten(core)
        try:
            said = core.receive_data(b"\3\0\0\x11" + bytes(17))
        except UsageError:
            return
        raise AssertionError(f"bytes are taken in {core.state}, and answered with {len(said)}")

    @precondition(lambda self: self.can(Can.STATE))
    @rule(change=st.sampled_from(("responder", "initiator", "access", "names", "ck")))
    def confirm_to_the_core(self, change: str) -> None:
        """Another roster is in force when Confirm arrives, and nobody has told the handshake of it. [HS-58] [RO-58]"""
        if self.cast.roster is None or self.cast.responder is None:
            return
        rosters = [self.cast.roster]
        key = AcceptedKey.of(self.cast.responder.ck_priv)
        welcome = Welcome(self.port, self.cast.card.node_id, lambda: rosters[-1], lambda: [key], ReplayCache())
        core = Responder(welcome, draw=Draws("core"), randomised=REMEMBERED)
        confirm = self.confirm_for(core)
        listing = first_listing(self.cast)
        who = comer(self.port, "lower" if self.port is Port.CLUSTER else "client", self.cast)
        absent = {"responder": self.cast.card.node_id.value, "initiator": who.node_id or b""}.get(change)
        listing = attrs.evolve(
            listing,
            epoch=listing.epoch + 1,
            absent=frozenset() if absent is None else frozenset({absent}),
            anyone=listing.anyone ^ (change == "access"),
            ck=int(change == "ck"),
            names=int(change == "names"),
        )
        rosters.append(roster_of(self.cast, listing))
        try:
            core.receive_data(confirm)
        except HandshakeRefused as exc:
            assert absent is not None, f"refused ({exc.reason.name}), though the new roster admits it [HS-58]"
            assert exc.reason is R.ROSTER_CHANGED, f"refused as {exc.reason.name}, not as ROSTER_CHANGED [HS-58]"
            assert core.state == "IGNORED", f"{core.state} after a refusal [HS-79]"
            check_forgotten(core)
        else:
            assert absent is None, f"established under a roster without the {change} [HS-58] [RO-58]"

    def bring(self, core: Responder, state: str) -> None:
        """A core of its own, in this state."""
        if state == "AWAIT_HELLO":
            return
        if state == "IGNORED":
            try:
                core.receive_data(bytes(4))
            except HandshakeRefused:
                return
            raise AssertionError("four zeros are no Hello, and were not refused [HS-25]")
        confirm = self.confirm_for(core)
        if state == "ESTABLISHED":
            said = core.receive_data(confirm)
            assert not said, "Confirm is answered [HS-46]"
            assert core.established is not None, "Confirm was not accepted"

    def confirm_for(self, core: Responder) -> bytes:
        """A core of its own gets a Hello; the Confirm for its HelloReply."""
        who = "lower" if self.port is Port.CLUSTER else "client"
        scene = attrs.evolve(self.scene(who), to=self.cast.destination(self.port))
        reply = core.receive_data(scene.frame)
        assert reply, "a genuine Hello is not answered [HS-79]"
        peer = self.attacker.peer(Side.INITIATOR, scene.frame, reply)
        assert peer is not None
        return peer.record(RecordType.CONFIRM)


@functools.cache
def check_intervals() -> None:
    """No port is opened with a keepalive interval that the protocol does not allow. [HS-44]

    Once in a process is enough, for this and for the next one, if nothing is wrong.
    """
    roster = make_cast().roster
    assert roster is not None
    node_id = next(iter(roster.members))
    for value in (0, 1, 999, 1000, 60_000, 60_001, 3_600_000, 3_600_001):
        for which, least, most in (("keepalive", 1000, 3_600_000), ("link_keepalive", 1000, 60_000)):
            allowed = least <= value <= most or (which == "keepalive" and value == 0)
            intervals = {which: value}
            try:
                Welcome(Port.CLUSTER, node_id, lambda: roster, tuple, ReplayCache(), **intervals)
            except UsageError:
                assert not allowed, f"{which} of {value} ms is refused [HS-44]"
            else:
                assert allowed, f"{which} of {value} ms is taken [HS-44]"


@functools.cache
def check_a_full_cache() -> None:
    """A full replay cache drops what came first, and nothing else. [HS-60] [HS-61]"""
    cache = ReplayCache()
    digests = [number.to_bytes(32, "big") for number in range(REPLAY_CACHE_MIN)]
    assert all(map(cache.insert, digests)), "a digest is taken for another"
    assert not any(map(cache.insert, digests[::1000])), "a digest is taken in twice [HS-39]"
    assert len(cache) == REPLAY_CACHE_MIN, "the cache has no room for what it has to hold [HS-60]"
    assert cache.insert(b"\xff" * 32)
    assert len(cache) == REPLAY_CACHE_MIN, "the cache grows [HS-61]"
    held = [digest for digest in digests if digest in cache]
    assert held == digests[1:], "a full cache does not drop what came first, and that alone [HS-61]"
    assert b"\xff" * 32 in cache


def number_in_reply(attacker: Attacker, line: Line, field: str) -> int:
    """A number that a HelloReply says."""
    found = attacker.open_reply(line.frame, line.reply)
    assert found is not None
    return int.from_bytes(found.field(field), "big")


class ResponderClientMachine(ResponderMachine):
    """The client port."""

    port = Port.CLIENT


class ResponderClusterMachine(ResponderMachine):
    """The cluster port."""

    port = Port.CLUSTER


MACHINES = (
    MachineInfo(
        "responder-client",
        "the client port answers genuine Hellos for it, of whom its roster admits, and nothing else",
        ResponderClientMachine,
        tables=("RESPONDER",),
    ),
    MachineInfo(
        "responder-cluster",
        "the cluster port is silent to strangers, and lets nobody in who is not a member",
        ResponderClusterMachine,
        tables=("RESPONDER",),
    ),
)
