"""Handshakes between nodes of the fixtures, by the second maker of messages: what `testing.forge` gets for a vector.

A `Play` says who speaks with whom, as what; its draws follow from its name. It makes what the other side of a vector
sends, and says all that has to come out of this side.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import Draw
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing import forge
from xlattice_trio.testing.forge import ForgedHello, ForgedReply, HelloParts, ReplyParts, Secrets
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Case, FailLayer, Json, Refusal

INITIATOR_DRAWS = {"key1": 32, "x25519": 32, "mlkem_seed": 64, "oaep_seed": 32, "pss_salt": 32}
RESPONDER_DRAWS = {"oaep_fallback": 32, "x25519": 32, "key2": 32, "salt": 32, "mlkem_m": 32}
_CONFIRM = 1

_ROLES = {"member": 1, "client": 2, "anonymous": 3}
_PURPOSES = {"link": 1, "stream": 2}


def whole(*parts: bytes) -> list[bytes]:
    """Each of these in a piece of its own."""
    return list(parts)


def byte_by_byte(*parts: bytes) -> list[bytes]:
    """All of these, each byte in a piece of its own."""
    return [bytes((byte,)) for byte in b"".join(parts)]


def cut_at(*offsets: int) -> Callable[..., list[bytes]]:
    """All of these, cut at these offsets from the beginning."""

    def cut(*parts: bytes) -> list[bytes]:
        everything = b"".join(parts)
        return [everything[start:end] for start, end in zip((0, *offsets), (*offsets, None), strict=True)]

    return cut


Refusing = tuple[FailLayer, str]  # what refuses, and the id of the requirement for which it does

_P = 2**255 - 19  # the prime of X25519
OF_LOW_ORDER = "The secret would be 32 zero bytes, whatever one's own key is."


def flipped(data: bytes, at: int) -> bytes:
    """The byte at `at` with its lowest bit turned."""
    return bytes((data[at] ^ 1,))


def low_order() -> Iterator[tuple[str, str, bytes]]:
    """Every X25519 public key that gives a secret of zeros, with the top bit clear; and one with it set."""
    order_8 = (
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
    values = {
        "zero": (0, "0"),
        "one": (1, "1"),
        "order-8": (order_8[0], "a point of order 8"),
        "order-8-too": (order_8[1], "the other point of order 8"),
        "minus-one": (_P - 1, "2^255 - 20, which is -1"),
        "prime": (_P, "2^255 - 19, which stands for 0"),
        "prime-and-one": (_P + 1, "2^255 - 18, which stands for 1"),
        "zero-with-top-bit": (1 << 255, "0 with the top bit set"),
    }
    for name, (value, words) in values.items():
        yield name, f"x25519 is {words}", value.to_bytes(32, "little")


@attrs.frozen(kw_only=True)
class Play:
    """Two nodes and what one wants of the other.

    `document` is the name of the roster, and of the cluster card that the initiator has if it is no member. `fixed`
    are draws that do not follow from `name`, as "initiator/oaep_seed".
    """

    name: str
    fixtures: Fixtures = attrs.field(repr=False)
    initiator: str | None
    responder: str
    document: str
    role: str
    purpose: str
    service: bytes = b""
    keepalive: int = 15_000
    ck: str | None = None  # the name of ck_R, if it is not that of the responder's card
    fixed: Mapping[str, bytes] = attrs.Factory(dict)

    @property
    def port(self) -> str:
        return "cluster" if self.role == "member" else "client"

    @property
    def roster(self) -> VerifiedRoster:
        return self.fixtures.rosters[self.document]

    @property
    def knock(self) -> bytes:
        return self.roster.knock if self.port == "cluster" else b""

    @property
    def initiating(self) -> LocalIdentity | None:
        return None if self.initiator is None else self.fixtures.nodes[self.initiator]

    @property
    def responding(self) -> LocalIdentity:
        return self.fixtures.nodes[self.responder]

    @property
    def ck_name(self) -> str:
        return self.ck or self.fixtures.key_name(self.responding.ck_priv)

    # ---- draws ----

    def draws(self, side: str) -> dict[str, bytes]:
        """All draws of a side, by name."""
        sizes = INITIATOR_DRAWS if side == "initiator" else RESPONDER_DRAWS
        return {
            name: self.fixed.get(f"{side}/{name}") or drawn(f"handshake/{self.name}/{side}/{name}", size)
            for name, size in sizes.items()
        }

    def _draw(self, side: str) -> Draw:
        values = self.draws(side)
        return lambda name, _size: values[name]

    # ---- messages ----

    def hello(self, **changes: Any) -> ForgedHello:
        """The Hello, with some parts of it as told."""
        node = self.initiating
        parts: dict[str, Any] = {
            "ck": self.fixtures.keys[self.ck_name].public_key(),
            "role": _ROLES[self.role],
            "purpose": _PURPOSES[self.purpose],
            "recipient": self.responding.node_id.value,
            "cluster": self.roster.cluster_id,
            "service": self.service,
            "initiator": node.node_id.value if node else b"",
            "signer": node.sk_priv if node else None,
            "knock": self.knock,
        }
        return forge.forge_hello(HelloParts(**parts | changes), self._draw("initiator"))

    def reply(self, hello: ForgedHello, /, **changes: Any) -> ForgedReply:
        """The HelloReply to it, with some parts of it as told."""
        parts: dict[str, Any] = {
            "hello": hello.frame,
            "key1": hello.key1,
            "mlkem_ek": _mlkem_ek(hello),
            "keepalive": self.keepalive,
            "epoch": self.roster.epoch,
        }
        return forge.forge_reply(ReplyParts(**parts | changes), self._draw("responder"))

    def secrets(self, hello: ForgedHello, reply: ForgedReply) -> Secrets:
        """The session's secrets as the responder has them."""
        x25519 = x25519_secret(hello, reply)
        return forge.secrets_of(hello.frame, reply.frame, reply.key2, hello.key1, x25519, reply.mlkem_secret)

    # ---- inputs ----

    def initiate_input(self, chunks: Sequence[bytes]) -> Json:
        draws = self.draws("initiator")
        if self.initiator is None:
            del draws["pss_salt"]
        return {
            "self": self.initiator,
            ("roster" if self.port == "cluster" else "cluster_card"): self.document,
            "peer": self.responder,
            "port": self.port,
            "role": self.role,
            "purpose": self.purpose,
            "service": self.service.hex(),
            "draws": _hex(draws),
            "chunks": [chunk.hex() for chunk in chunks],
        }

    def respond_input(self, chunks: Sequence[bytes], **changes: Json) -> Json:
        given: Json = {"self": self.responder, "accepted": [self.ck_name], "roster": self.document}
        if "roster_at_confirm" in changes:
            given["roster_at_confirm"] = changes["roster_at_confirm"]
        given |= {
            "port": self.port,
            "keepalive": self.keepalive,
            "replay_cache": [],
            "draws": _hex(self.draws("responder")),
            "chunks": [chunk.hex() for chunk in chunks],
        }
        return given | changes

    # ---- cases that are accepted ----

    def initiated(
        self,
        name: str,
        comment: str,
        requirements: tuple[str, ...],
        *,
        cut: Callable[..., list[bytes]] = whole,
        behind: bytes = b"",
        reply: Mapping[str, Any] | None = None,
    ) -> Case:
        """The initiator gets this HelloReply, cut like this, and is ESTABLISHED."""
        hello = self.hello()
        answer = self.reply(hello, **reply or {})
        secrets = forge.open_reply(hello, answer.frame)
        chunks = cut(answer.frame + behind)
        confirm = forge.forge_record(secrets.i2r, 0, _CONFIRM)
        return Case(
            name=f"handshake/initiate/{name}",
            op="initiate",
            requirements=requirements,
            role="initiator",
            comment=comment,
            input=self.initiate_input(chunks),
            expected=self._initiate_output(hello)
            | {
                "sent": _sent(chunks, len(answer.frame), confirm),
                "state": "ESTABLISHED",
                "session": _session(answer.body, secrets, behind),
            },
        )

    def waiting_initiator(
        self, name: str, comment: str, requirements: tuple[str, ...], cut: Callable[..., list[bytes]]
    ) -> Case:
        """The initiator gets of the HelloReply what is left by `cut`, which is not all of it."""
        hello = self.hello()
        chunks = cut(self.reply(hello).frame)
        return Case(
            name=f"handshake/initiate/{name}",
            op="initiate",
            requirements=requirements,
            role="initiator",
            comment=comment,
            input=self.initiate_input(chunks),
            expected=self._initiate_output(hello) | {"sent": [""] * len(chunks), "state": "AWAIT_REPLY"},
        )

    def responded(
        self,
        name: str,
        comment: str,
        requirements: tuple[str, ...],
        *,
        cut: Callable[..., list[bytes]] = whole,
        records: Sequence[tuple[int, bytes]] = (),
        behind: bytes = b"",
        hello: Mapping[str, Any] | None = None,
        **given: Json,
    ) -> Case:
        """The responder gets this Hello and Confirm with these records behind it, and is ESTABLISHED."""
        greeting = self.hello(**hello or {})
        answer = self.reply(greeting)
        secrets = self.secrets(greeting, answer)
        confirm = forge.forge_record(secrets.i2r, 0, _CONFIRM)
        for seq, (type_, payload) in enumerate(records, 1):
            behind += forge.forge_record(secrets.i2r, seq, type_, payload)
        chunks = cut(greeting.frame, confirm + behind)
        inserted = [] if self.initiator is None else [forge.h("hello-digest", greeting.frame).hex()]
        return Case(
            name=f"handshake/respond/{name}",
            op="respond",
            requirements=requirements,
            role="responder",
            comment=comment,
            input=self.respond_input(chunks, **given),
            expected={
                "made": self._respond_made(greeting, answer),
                "sent": _sent(chunks, len(greeting.frame), answer.frame),
                "inserted": inserted,
                "state": "ESTABLISHED",
                "session": _session(answer.body, secrets, behind)
                | {
                    "role": self.role,
                    "purpose": self.purpose,
                    "service": self.service.hex(),
                    "initiator": self.initiating and str(self.initiating.node_id),
                },
            },
        )

    def waiting_responder(
        self, name: str, comment: str, requirements: tuple[str, ...], cut: Callable[..., list[bytes]]
    ) -> Case:
        """The responder gets of Hello and Confirm what is left by `cut`, which is not all of it."""
        greeting = self.hello()
        answer = self.reply(greeting)
        chunks = cut(greeting.frame, forge.forge_record(self.secrets(greeting, answer).i2r, 0, _CONFIRM))
        answered = len(b"".join(chunks)) >= len(greeting.frame)
        expected: Json = {"sent": _sent(chunks, len(greeting.frame), answer.frame)}
        expected |= {"inserted": [forge.h("hello-digest", greeting.frame).hex()] if answered else []}
        expected |= {"state": "AWAIT_CONFIRM" if answered else "AWAIT_HELLO"}
        if answered:
            expected["made"] = self._respond_made(greeting, answer)
        return Case(
            name=f"handshake/respond/{name}",
            op="respond",
            requirements=requirements,
            role="responder",
            comment=comment,
            input=self.respond_input(chunks),
            expected=expected,
        )

    # ---- cases that are refused ----

    def initiator_refuses(
        self,
        name: str,
        change: str,
        comment: str,
        refusal: Refusing,
        requirements: tuple[str, ...],
        chunks: Sequence[bytes],
        *,
        base: str,
        where: str | None = None,
    ) -> Case:
        """The initiator gets these chunks, and refuses the last."""
        layer, by = refusal
        hello = self.hello()
        return Case(
            name=f"handshake/initiate/{name}",
            op="initiate",
            requirements=requirements,
            role="initiator",
            comment=comment,
            input=self.initiate_input(chunks),
            refusal=Refusal(layer=layer, by=by, base=f"handshake/initiate/{base}", change=change, where=where),
            expected={
                "made": {"kem_ciphertext": hello.kem_ciphertext.hex(), "signature": hello.signature.hex()},
                "hello": hello.frame.hex(),
                "sent": [""] * len(chunks),
                "state": "FAILED",
            },
        )

    def initiator_declines(self, name: str, change: str, comment: str, by: str, given: Json) -> Case:
        """The initiator makes no Hello for this input."""
        base = f"handshake/initiate/{self.name}"
        return Case(
            name=f"handshake/initiate/{name}",
            op="initiate",
            requirements=(),
            role="initiator",
            comment=comment,
            input=given,
            refusal=Refusal(layer=FailLayer.ROLE, by=by, base=base, change=change),
            expected={"sent": []},
        )

    def responder_refuses(
        self,
        name: str,
        change: str,
        comment: str,
        refusal: Refusing,
        requirements: tuple[str, ...],
        chunks: Sequence[bytes],
        *,
        base: str,
        where: str | None = None,
        answered: tuple[ForgedHello, ForgedReply] | None = None,
        **given: Json,
    ) -> Case:
        """The responder gets these chunks, and refuses the last. `answered` is what it answered before."""
        layer, by = refusal
        expected: Json = {"sent": [""] * len(chunks), "inserted": [], "state": "IGNORED"}
        if answered is not None:
            hello, answer = answered
            made = {"mlkem_ciphertext": answer.mlkem_ciphertext, "mlkem_secret": answer.mlkem_secret}
            expected["made"] = _hex(made)
            expected["sent"] = _sent(chunks, len(hello.frame), answer.frame)
            expected["inserted"] = [] if self.initiator is None else [forge.h("hello-digest", hello.frame).hex()]
        return Case(
            name=f"handshake/respond/{name}",
            op="respond",
            requirements=requirements,
            role="responder",
            comment=comment,
            input=self.respond_input(chunks, **given),
            refusal=Refusal(layer=layer, by=by, base=f"handshake/respond/{base}", change=change, where=where),
            expected=expected,
        )

    # ---- outputs ----

    def _initiate_output(self, hello: ForgedHello) -> dict[str, Json]:
        made = {
            "kem_ciphertext": hello.kem_ciphertext,
            "signature": hello.signature,
            "signed": hello.signed,
            "hello_body": hello.body,
            "k_hello": hello.k_hello,
            "k_mac": hello.k_mac,
        }
        return {"made": _hex(made), "hello": hello.frame.hex()}

    def _respond_made(self, hello: ForgedHello, reply: ForgedReply) -> Json:
        return _hex(
            {
                "hello_body": hello.body,
                "mlkem_ciphertext": reply.mlkem_ciphertext,
                "mlkem_secret": reply.mlkem_secret,
                "x25519_secret": x25519_secret(hello, reply),
                "reply_body": reply.body,
                "k_reply": reply.k_reply,
            }
        )


def _hex(values: Mapping[str, bytes]) -> dict[str, str]:
    return {name: value.hex() for name, value in values.items()}


def x25519_secret(hello: ForgedHello, reply: ForgedReply) -> bytes:
    """As the responder has it."""
    at = 35 + hello.body[2]
    return crypto.x25519_secret(crypto.x25519_key(reply.x25519_private), hello.body[at : at + 32])


def _mlkem_ek(hello: ForgedHello) -> bytes:
    at = 67 + hello.body[2]
    return hello.body[at : at + 1184]


def _sent(chunks: Sequence[bytes], size: int, answer: bytes) -> list[str]:
    """What is sent at each chunk: `answer` at that which completes the first `size` bytes."""
    sent, arrived = [], 0
    for chunk in chunks:
        before, arrived = arrived, arrived + len(chunk)
        sent.append(answer.hex() if before < size <= arrived else "")
    return sent


def _session(reply_body: bytes, secrets: Secrets, unread: bytes) -> dict[str, Json]:
    return {
        "keepalive": int.from_bytes(reply_body[1152:1156], "big"),
        "epoch": reply_body[1156:].hex(),
        "transcript_hash": secrets.th.hex(),
        "exporter": secrets.exporter.hex(),
        "i2r": secrets.i2r.hex(),
        "r2i": secrets.r2i.hex(),
        "unread": unread.hex(),
    }
