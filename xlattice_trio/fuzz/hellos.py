"""Hellos by an attacker who has everybody's keys but the responder's: with nothing wrong, and with one thing wrong.

HELLOS says of each thing that can be wrong which requirement it tries, which check of Spec 5.7 has to find it, and how
it is made. What is made is deterministic, given the attacker's draws, a number and who comes.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import attrs

from xlattice_trio.crypto import Label, RSAPrivateKey, encode_spki
from xlattice_trio.errors import RefusalReason
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.oracle import CHECKS, LOW_ORDER
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.testing.draws import REMEMBERED
from xlattice_trio.testing.forge import ForgedHello, expand, mac_of, prefixed, sealed_under
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.testing.toolbox import Attacker, Destination, flip, k_hello, put, spans, with_field
from xlattice_trio.wire.messages import ClientAccess, HelloBody, Purpose, Role

R = RefusalReason

CASTS: Mapping[str, Callable[[], Cast]] = {
    "usual": make_cast,
    "listed": lambda: make_cast(client_access=ClientAccess.LISTED, epoch=2**40),
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
SERVICES = ("echo", "x", "a service, ü", "s" * 64, " Echo\u00a0", "\ufeffe\u0301")  # nothing of them is altered [NO-13]


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
    return Comer(role, Purpose.STREAM, stranger(cast))


def stranger(cast: Cast) -> LocalIdentity:
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
    due: Collection[int]  # the lengths of a Hello under an accepted key

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
    member = s.cast.members[0] if s.cast.members else stranger(s.cast)
    client = s.cast.clients[0] if s.cast.clients else stranger(s.cast)
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
            role=1, purpose=2, service=b"echo", as_=s.cast.clients[0] if s.cast.clients else stranger(s.cast)
        )
    return s.hello(role=2, purpose=2, service=b"echo", as_=s.cast.members[0] if s.cast.members else stranger(s.cast))


def _not_listed(s: Scene, number: int) -> bytes:
    """A stranger in the role of those who are listed on this port."""
    role = Role.MEMBER if s.port is Port.CLUSTER else Role.CLIENT
    return s.hello(role=role, purpose=2, service=b"echo", as_=pick(number, stranger(s.cast), *s.cast.strangers))


def _almost_listed(s: Scene, number: int) -> bytes:
    """A NodeID that differs from a listed one by a bit, or by its length."""
    assert s.comer.as_ is not None
    own = s.comer.as_.node_id.value
    name = pick(number, flip(own, number // 3), own[:20] if len(own) == 32 else own + bytes(12), bytes(len(own)))
    return s.hello(purpose=2, service=b"echo", initiator=name)


def _recipient_of_another_size(s: Scene, number: int) -> bytes:
    own = s.to.recipient
    return s.hello(recipient=pick(number, own[:20], own[-20:]) if len(own) == 32 else own + bytes(12))


def _another_recipient(s: Scene, number: int) -> bytes:
    others = [one.node_id.value for one in s.cast.everybody()]
    return s.hello(recipient=pick(number, bytes(len(s.to.recipient)), *others))


def _signature_of_another_size(s: Scene, number: int) -> bytes:
    """What is right stands at the beginning of it, or at the end."""
    right = s.whole.signature
    zeros = bytes(512 - len(right))
    wrong = pick(number, zeros + right, right + zeros) if zeros else pick(number, right[:384], right[-384:])
    return s.field("signature", prefixed(wrong, 2), resign=False)


def _higher(s: Scene, number: int) -> bytes:
    """A link that the member with the higher NodeID dials, or that comes as from the responder itself."""
    who = s.cast.members[-1] if s.cast.members else stranger(s.cast)
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
    """A length that no Hello has, or one for a modulus of a size that no accepted key has."""
    own = 1956 + s.k
    others = [length for length in (1956 + 256, 1956 + 384, 1956 + 512) if length not in s.due]
    length = pick(number, 0, 17, 1212, own - 1, own + 1, own + 64, 0xFFFFFF, own | 1 << 16, *others)
    return bytes(length.to_bytes(3, "big"))


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
    "bit of the recipient": Wrong("HS-31", R.RECIPIENT, lambda s, n: s.hello(recipient=flip(s.to.recipient, n))),
    "last bit of the recipient": Wrong("HS-31", R.RECIPIENT, lambda s, _: s.hello(recipient=flip(s.to.recipient, -1))),
    "recipient of another size": Wrong("HS-31", R.RECIPIENT, _recipient_of_another_size),
    "another recipient": Wrong("HS-31", R.RECIPIENT, _another_recipient),
    "bit of the cluster": Wrong("HS-32", R.CLUSTER, lambda s, n: s.hello(cluster=flip(s.to.cluster, n))),
    "last bit of the cluster": Wrong("HS-32", R.CLUSTER, lambda s, _: s.hello(cluster=flip(s.to.cluster, -1))),
    "cluster of zeros": Wrong("HS-32", R.CLUSTER, lambda s, _: s.hello(cluster=bytes(32))),
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
        lambda s, _: s.hello(role=1, purpose=2, service=b"echo", initiator=s.to.recipient, as_=stranger(s.cast)),
        port=Port.CLUSTER,
        another=True,
    ),
    # check 15
    "bit of the signature": Wrong("HS-37", R.SIGNATURE, lambda s, n: _in_body(s, "signature", n), signed=True),
    "signature of zeros": Wrong(
        "HS-37", R.SIGNATURE, lambda s, _: s.field("signature", prefixed(bytes(256), 2), resign=False), signed=True
    ),
    "signature of another size": Wrong("ID-13", R.SIGNATURE, _signature_of_another_size, signed=True),
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
INITIATORS = [name for name in sorted(HELLOS) if HELLOS[name].reason in (*CHECKS[6:], None)]


def following(names: Sequence[str], first: str, more: int) -> Sequence[str]:
    """This one of the names, and so many more after it, round and round."""
    start = names.index(first)
    return [names[(start + i) % len(names)] for i in range(more + 1)]
