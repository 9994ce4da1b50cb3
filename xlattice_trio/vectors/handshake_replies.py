"""What an initiator refuses: to dial what the protocol does not have, and HelloReplies. Spec 5.6, 5.9."""

from collections.abc import Iterator
from typing import Any

import attrs

from xlattice_trio.testing import forge
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.handshake_valid import play
from xlattice_trio.vectors.model import Case, FailLayer, Json
from xlattice_trio.vectors.plays import OF_LOW_ORDER, Play, Refusing, flipped, low_order


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from _Intents(fixtures).cases()
    yield from _Replies(fixtures).cases()


class _Intents:
    """What an initiator does not begin."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.fixtures = fixtures

    def cases(self) -> Iterator[Case]:
        stream = play(self.fixtures, "member-stream")
        link, client, anonymous = (play(self.fixtures, kind) for kind in ("link", "client", "anonymous"))
        as_link = {"purpose": "link", "service": ""}
        rows: list[tuple[Play, str, str, dict[str, Json]]] = [
            (stream, "member-on-the-client-port", "the port is the client port", {"port": "client"}),
            (link, "link-on-the-client-port", "the port is the client port", {"port": "client"}),
            (
                client,
                "client-on-the-cluster-port",
                "the port is the cluster port",
                {"port": "cluster", "roster": "main"},
            ),
            (client, "client-link", "purpose is link", as_link),
            (
                anonymous,
                "anonymous-on-the-cluster-port",
                "the port is the cluster port",
                {"port": "cluster", "roster": "main"},
            ),
            (anonymous, "anonymous-link", "purpose is link", as_link),
        ]
        for each, name, change, changes in rows:
            given = each.initiate_input([]) | changes
            if "roster" in changes:
                del given["cluster_card"]
            comment = "The table in 5.6 has no such row: no Hello is sent."
            yield each.initiator_declines(f"intent/{name}", change, comment, "HS-16", given)
        comment = "A link is dialled by the member with the lower NodeID: no Hello is sent."
        given = stream.initiate_input([]) | as_link
        yield stream.initiator_declines("intent/link-to-the-lower", "purpose is link", comment, "HS-17", given)


class _Replies:
    """What an initiator refuses in the place of HelloReply."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.fixtures = fixtures
        self.link = play(fixtures, "link")
        self.anonymous = play(fixtures, "anonymous")
        self.hello = self.link.hello()
        self.right = self.link.reply(self.hello)

    def _refused(
        self,
        name: str,
        change: str,
        comment: str,
        refusal: Refusing,
        ids: tuple[str, ...],
        *chunks: bytes,
        where: str | None = None,
    ) -> Case:
        base = self.link.name
        return self.link.initiator_refuses(name, change, comment, refusal, ids, chunks, base=base, where=where)

    def cases(self) -> Iterator[Case]:
        yield from self._frames()
        yield from self._seals()
        yield from self._bodies()
        yield from self._key_shares()

    def _frames(self) -> Iterator[Case]:
        refusal, ids = (FailLayer.FRAME, "HS-47"), ("FR-4", "FR-5", "HS-52")
        at_header = "The header alone has arrived, and is enough to refuse it."
        for kind in (0, 1, 3):
            header = bytes((kind,)) + self.right.frame[1:4]
            yield self._refused(f"frame/kind-{kind}", f"kind is {kind}", at_header, refusal, ids, header)
        for length in (0, 17, 1211, 1213, 0xFFFFFF):
            header = b"\x02" + length.to_bytes(3, "big")
            yield self._refused(f"frame/length-{length}", f"length is {length}", at_header, refusal, ids, header)
        yield self._refused(
            "frame/reflected",
            "the Hello itself comes back",
            "Who holds no key can send back what he got.",
            refusal,
            ids,
            self.hello.frame,
        )
        error = forge.forge_record(drawn("handshake/no key", 32), 0, 6, bytes.fromhex("000100"))
        yield self._refused(
            "frame/record",
            "a record comes",
            "Nothing but HelloReply may come first, no Error either.",
            refusal,
            ids,
            error,
        )
        yield self._refused(
            "frame/http",
            "an HTTP response comes",
            "It is no reason to try another protocol.",
            refusal,
            (*ids, "HS-3"),
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
        )

    def _seals(self) -> Iterator[Case]:
        refusal, ids = (FailLayer.REPLY_AEAD, "HS-48"), ("HS-52", "NO-27")
        hello, link, frame = self.hello, self.link, self.right.frame
        key1, salt = hello.key1, frame[4:36]

        def turned(at: int) -> bytes:
            return frame[:at] + flipped(frame, at) + frame[at + 1 :]

        def reply(**changes: Any) -> bytes:
            return link.reply(hello, **changes).frame

        other = attrs.evolve(link, fixed={"initiator/x25519": drawn("handshake/another hello", 32)}).hello()
        assert other.key1 == key1
        rows: list[tuple[str, str, str, bytes]] = [
            ("bit-salt-first", "a bit of the first byte of salt is turned", "", turned(4)),
            ("bit-salt-last", "a bit of the last byte of salt is turned", "", turned(35)),
            ("bit-first", "a bit of the first byte of sealed is turned", "", turned(36)),
            ("bit-last", "a bit of the last byte of the ciphertext is turned", "", turned(1199)),
            ("bit-tag-first", "a bit of the first byte of the tag is turned", "", turned(1200)),
            ("bit-tag-last", "a bit of the last byte of the tag is turned", "", turned(1215)),
            ("zeros", "sealed is zeros", "", frame[:36] + bytes(1180)),
            ("nonce", "the nonce is 1", "It is zero.", reply(nonce=bytes(11) + b"\x01")),
            ("aad-none", "aad is empty", "", reply(aad=b"")),
            ("aad-without-salt", "aad is the frame header alone", "", reply(aad=frame[:4])),
            ("aad-without-header", "aad is salt alone", "", reply(aad=salt)),
            (
                "another-key1",
                "R has another key1",
                "Who could not decrypt kem_ciphertext cannot answer.",
                reply(key1=drawn("handshake/another key1", 32)),
            ),
            (
                "to-another-hello",
                "R answers another Hello of I, with the same key1",
                "The Hello is part of K_reply.",
                reply(hello=other.frame),
            ),
        ]
        for name, change, comment, data in rows:
            comment = comment or "All else about HelloReply is right."
            yield self._refused(f"sealed/{name}", change, comment, refusal, ids, data)

    def _bodies(self) -> Iterator[Case]:
        refusal = (FailLayer.DECODE, "HS-49")
        for keepalive in (1, 999, 3_600_001, 0xFFFFFFFF):
            data = self.link.reply(self.hello, keepalive=keepalive).frame
            change, comment = f"keepalive is {keepalive}", "0 or 1,000 to 3,600,000 can be there at all."
            where = "ReplyBody.keepalive"
            yield self._refused(f"body/keepalive-{keepalive}", change, comment, refusal, ("NO-18",), data, where=where)
        hello = self.anonymous.hello()
        for keepalive in (999, 3_600_001):
            data = self.anonymous.reply(hello, keepalive=keepalive).frame
            yield self.anonymous.initiator_refuses(
                f"body/anonymous-keepalive-{keepalive}",
                f"keepalive is {keepalive}",
                "0 or 1,000 to 3,600,000 can be there at all.",
                refusal,
                ("NO-18",),
                [data],
                base=self.anonymous.name,
                where="ReplyBody.keepalive",
            )
        for keepalive in (0, 60_001, 3_600_000):
            data = self.link.reply(self.hello, keepalive=keepalive).frame
            change, comment = f"keepalive is {keepalive}", "A stream may have it, a link has 1,000 to 60,000."
            yield self._refused(
                f"keepalive/{keepalive}", change, comment, (FailLayer.DECODE, "HS-50"), ("HS-52",), data
            )

    def _key_shares(self) -> Iterator[Case]:
        hello = self.anonymous.hello()
        for name, change, share in low_order():
            yield self.anonymous.initiator_refuses(
                f"x25519/{name}",
                change,
                OF_LOW_ORDER,
                (FailLayer.DECODE, "HS-51"),
                ("HS-8", "HS-52"),
                [self.anonymous.reply(hello, x25519=share).frame],
                base=self.anonymous.name,
            )
