"""What a responder refuses in the place of Confirm, each for one reason. Spec 5.10."""

from collections.abc import Iterator

import attrs

from xlattice_trio.testing import forge
from xlattice_trio.testing.forge import ForgedHello, ForgedReply
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.handshake_valid import (
    DATA,
    KEEPALIVE,
    play,
    removed_client,
    removed_member,
    removed_responder,
)
from xlattice_trio.vectors.model import Case, FailLayer, Json
from xlattice_trio.vectors.plays import Play, Refusing, flipped


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from _Confirms(fixtures).cases()


class _Confirms:
    """What a responder refuses in the place of Confirm."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.fixtures = fixtures

    def _refused(
        self,
        play: Play,
        name: str,
        change: str,
        comment: str,
        refusal: Refusing,
        ids: tuple[str, ...],
        record: bytes,
        **given: Json,
    ) -> Case:
        hello = play.hello()
        answered = hello, play.reply(hello)
        chunks = [hello.frame, record]
        ids = (*ids, "HS-59")
        return play.responder_refuses(
            f"confirm/{name}", change, comment, refusal, ids, chunks, base=play.name, answered=answered, **given
        )

    def cases(self) -> Iterator[Case]:
        link = play(self.fixtures, "link")
        hello = link.hello()
        reply = link.reply(hello)
        yield from self._frames(link)
        yield from self._not_opened(link, hello, reply)
        yield from self._not_confirm(link, link.secrets(hello, reply).i2r)
        yield from self._not_admitted()

    def _frames(self, link: Play) -> Iterator[Case]:
        for name, change, header in [
            ("kind-1", "kind is 1", "01000011"),
            ("kind-2", "kind is 2", "02000011"),
            ("length-16", "length is 16", "03000010"),
            ("length-18", "length is 18", "03000012"),
            ("length-0", "length is 0", "03000000"),
            ("another-hello", "a second Hello stands there", "010008a4"),
        ]:
            ids = ("FR-4", "FR-5", "HS-2") if name == "another-hello" else ("FR-4", "FR-5")
            comment = "The header alone has arrived, and is enough to refuse it."
            refusal = (FailLayer.FRAME, "HS-56")
            yield self._refused(link, f"frame/{name}", change, comment, refusal, ids, bytes.fromhex(header))
        hello = link.hello()
        secret = link.secrets(hello, link.reply(hello)).i2r
        yield self._refused(
            link,
            "frame/data",
            "a Data record of 5 bytes stands there",
            "Sealed as the first record.",
            (FailLayer.FRAME, "HS-56"),
            ("FR-4", "FR-5"),
            forge.forge_record(secret, 0, DATA, b"hello"),
        )

    def _not_opened(self, link: Play, hello: ForgedHello, reply: ForgedReply) -> Iterator[Case]:
        secrets = link.secrets(hello, reply)
        confirm = forge.forge_record(secrets.i2r, 0, 1)
        early = attrs.evolve(link, fixed={"responder/salt": drawn("handshake/another salt", 32)})
        other = early.secrets(hello, early.reply(hello))
        key = forge.key_and_nonce(secrets.i2r, 0)[0]

        rows: list[tuple[str, str, bytes]] = [
            ("bit-first", "a bit of the ciphertext is turned", confirm[:4] + flipped(confirm, 4) + confirm[5:]),
            ("bit-last", "a bit of the last byte of the tag is turned", confirm[:-1] + flipped(confirm, -1)),
            ("zeros", "the body is zeros", confirm[:4] + bytes(17)),
            ("seq-1", "it is sealed with seq 1", forge.forge_record(secrets.i2r, 1, 1)),
            (
                "generation-1",
                "it is sealed in generation 1",
                forge.forge_record(forge.expand(secrets.i2r, "rekey"), 0, 1),
            ),
            ("other-direction", "it is sealed for the direction R to I", forge.forge_record(secrets.r2i, 0, 1)),
            ("no-aad", "its aad is empty", forge.forge_record(secrets.i2r, 0, 1, aad=b"")),
            (
                "zero-nonce",
                "its nonce is zeros",
                confirm[:4] + forge.sealed_under(key, bytes(12), confirm[:4], b"\x01"),
            ),
            ("of-another-reply", "it answers another HelloReply to this Hello", forge.forge_record(other.i2r, 0, 1)),
        ]
        for name, change, record in rows:
            refusal = (FailLayer.RECORD, "HS-57")
            comment = "It is as long as Confirm."
            yield self._refused(link, f"sealed/{name}", change, comment, refusal, ("SE-12",), record)

    def _not_confirm(self, link: Play, secret: bytes) -> Iterator[Case]:
        types = {2: "Data", 3: "KeepAlive", 4: "Rekey", 5: "Bye", 6: "Error"}
        for type_, name in types.items():
            yield self._refused(
                link,
                f"type/{name.lower()}",
                f"the record is {name}",
                "It opens, and is as long as Confirm.",
                (FailLayer.SESSION, "HS-57"),
                (),
                forge.forge_record(secret, 0, type_),
            )
        for type_ in (0, 7, 255):
            yield self._refused(
                link,
                f"type/{type_}",
                f"the record is of type {type_}",
                "It opens, and there is no such type.",
                (FailLayer.RECORD, "HS-57"),
                (),
                forge.forge_record(secret, 0, type_),
            )
        anonymous = play(self.fixtures, "anonymous")
        hello = anonymous.hello()
        record = forge.forge_record(anonymous.secrets(hello, anonymous.reply(hello)).i2r, 0, KEEPALIVE)
        comment = "It opens, and is as long as Confirm."
        refusal = (FailLayer.SESSION, "HS-57")
        yield self._refused(
            anonymous, "type/anonymous-keepalive", "the record is KeepAlive", comment, refusal, (), record
        )

    def _not_admitted(self) -> Iterator[Case]:
        fixtures = self.fixtures
        refusal: Refusing = (FailLayer.MEMBERSHIP, "HS-58")
        for each, name, changed, at_confirm in [
            (removed_member(fixtures), "member-removed", "the initiator is in no list", "next"),
            (removed_client(fixtures), "client-removed", "the initiator is in no list", "next"),
            (play(fixtures, "link"), "member-is-client", "the initiator is a client", "swapped"),
            (play(fixtures, "client"), "client-is-member", "the initiator is a member", "swapped"),
            (play(fixtures, "anonymous"), "listed", "client_access is listed", "listed"),
        ]:
            yield self._changed(each, name, changed, refusal, ("RO-56",), at_confirm)
        gone = removed_responder(fixtures)
        yield self._changed(
            gone, "responder-removed", "R itself is no member", (FailLayer.MEMBERSHIP, "RO-58"), (), "next"
        )

    def _changed(
        self, each: Play, name: str, changed: str, refusal: Refusing, ids: tuple[str, ...], at_confirm: str
    ) -> Case:
        hello = each.hello()
        confirm = forge.forge_record(each.secrets(hello, each.reply(hello)).i2r, 0, 1)
        change = f"by Confirm R has a newer roster, in which {changed}"
        comment = "Confirm is right, and too late."
        return self._refused(
            each, f"roster/{name}", change, comment, refusal, ids, confirm, roster_at_confirm=at_confirm
        )
