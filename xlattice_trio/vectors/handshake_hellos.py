"""Hellos that a responder refuses, each for one reason. Spec 5.7.

Rows are a name, what was changed, a comment, and the parts of the Hello that are other than in the base; the second
maker of messages signs, seals and macs anew over them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from xlattice_trio import crypto
from xlattice_trio.testing import forge
from xlattice_trio.testing.forge import Overwrite, Point
from xlattice_trio.vectors import deterministic
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.handshake_valid import (
    ECHO,
    play,
    removed_client,
    removed_member,
    small_ciphertext,
    small_signature,
)
from xlattice_trio.vectors.model import Case, FailLayer, Json
from xlattice_trio.vectors.plays import OF_LOW_ORDER, Play, Refusing, flipped, low_order

Row = tuple[str, str, str, Mapping[str, Any]]

_K = 256  # the modulus of all plays here, but where it is said
_SEALED = 8 + _K
_MAC = _SEALED + 1936

# What every refused Hello shows: nothing is sent, and nothing remembered.
_SILENCE = ("HS-19", "HS-21")

# What is to be said of the vectors that a requirement refuses, if nothing else is.
_COMMENTS = {
    "HS-27": "All else is right; nothing of it is looked at before the mac.",
    "HS-29": "The mac is right for it, and all that is sealed.",
    "HS-30": "It is sealed and maced as it is, and signed as far as it can be.",
    "HS-31": "It is signed, sealed and maced as it is.",
    "HS-32": "It is signed, sealed and maced as it is.",
    "HS-33": "The table in 5.6 has no such row.",
    "HS-34": "A link is dialled by the member with the lower NodeID.",
    "HS-35": "It is signed with the initiator's own sk.",
    "HS-37": "It is sealed and maced as it is, and the initiator is in the roster.",
}


def cases(fixtures: Fixtures) -> Iterator[Case]:
    hellos = _Hellos(fixtures)
    yield from hellos.frames()
    yield from hellos.versions()
    yield from hellos.forms()
    yield from hellos.macs()
    yield from hellos.replays()
    yield from hellos.ciphertexts()
    yield from hellos.seals()
    yield from hellos.bodies()
    yield from hellos.recipients()
    yield from hellos.ports()
    yield from hellos.orders()
    yield from hellos.memberships()
    yield from hellos.selves()
    yield from hellos.signatures()
    yield from hellos.key_shares()


class _Hellos:
    """Hellos that are refused, in the order of the checks."""

    def __init__(self, fixtures: Fixtures) -> None:
        self.fixtures = fixtures
        self.link = play(fixtures, "link")
        self.stream = play(fixtures, "member-stream")
        self.client = play(fixtures, "client")
        self.anonymous = play(fixtures, "anonymous")

    def _refused(
        self,
        play: Play,
        group: str,
        refusal: Refusing,
        requirements: tuple[str, ...],
        rows: Iterable[Row],
        **given: Json,
    ) -> Iterator[Case]:
        """For each row the Hello of the play with these parts. A part `where` is the field that is wrong."""
        for name, change, comment, parts in rows:
            hello = play.hello(**{key: value for key, value in parts.items() if key != "where"}).frame
            yield play.responder_refuses(
                f"{group}/{name}",
                change,
                comment or _COMMENTS[refusal[1]],
                refusal,
                (*requirements, *_SILENCE),
                [hello],
                base=play.name,
                where=parts.get("where"),
                **given,
            )

    # ---- 3 ----

    def frames(self) -> Iterator[Case]:
        at_header = "The header alone has arrived, and is enough to refuse it."
        for kind in (0, 2, 3, 255):
            header = bytes((kind,)) + bytes.fromhex("0008a4")
            yield self._frame(self.link, f"kind-{kind}", f"kind is {kind}", at_header, header)
        for length in (0, 17, 1212, 2211, 2213, 2340, 2468, 0xFFFFFF):
            header = b"\x01" + length.to_bytes(3, "big")
            yield self._frame(self.link, f"length-{length}", f"length is {length}", at_header, header)
        for bits, length in ((3072, 2212), (3072, 2468), (4096, 2212), (4096, 2340)):
            large = play(self.fixtures, "link", bits=bits)
            comment = f"A length that a Hello can have, but not for a ck of {bits} bits."
            header = b"\x01" + length.to_bytes(3, "big")
            yield self._frame(large, f"{bits}-length-{length}", f"length is {length}", comment, header)
        for name, what, data in [
            ("http", "an HTTP request", b"GET / HTTP/1.1\r\n\r\n"),
            ("tls", "the beginning of TLS", bytes.fromhex("160301020001")),
        ]:
            comment = "A port speaks no other protocol."
            yield self._frame(self.link, name, f"instead of a Hello, {what} arrives", comment, data, "FR-2")
        comment = "A Hello with nothing else wrong: aad and mac are over this kind."
        whole = self.link.hello(kind=3).frame
        yield self._frame(self.link, "whole-hello-of-kind-3", "kind is 3", comment, whole)

    def _frame(self, play: Play, name: str, change: str, comment: str, data: bytes, *requirements: str) -> Case:
        return play.responder_refuses(
            f"frame/{name}",
            change,
            comment,
            (FailLayer.FRAME, "HS-25"),
            ("FR-4", "FR-5", *requirements, *_SILENCE),
            [data],
            base=play.name,
        )

    # ---- 4 ----

    def versions(self) -> Iterator[Case]:
        rows = [
            (
                f"{version}",
                f"version is {version}",
                "It is right everywhere: in signature, aad and mac.",
                {"version": version},
            )
            for version in (0, 1, 3, 0x0200, 0xFFFF)
        ]
        for each in (self.link, self.anonymous):
            some = rows if each is self.link else rows[1:3]
            group = f"version/{each.name.partition('/')[0]}"
            yield from self._refused(each, group, (FailLayer.VERSION, "HS-26"), ("NO-18",), some)

    def forms(self) -> Iterator[Case]:
        refusal = (FailLayer.DECODE, "HS-26")
        rows: list[Row] = [
            (
                f"ciphertext-of-{size}",
                f"the length prefix of kem_ciphertext is {size}",
                "The mac is right. What follows does not fit the length of the frame.",
                {
                    "overwrites": [Overwrite(Point.MACING, 6, size.to_bytes(2, "big"))],
                    "where": "Hello.kem_ciphertext" if size in (0, 255, 257, 513) else None,
                },
            )
            for size in (0, 255, 257, 384, 512, 513)
        ]
        yield from self._refused(self.link, "form", refusal, ("NO-15", "NO-17", "NO-18"), rows)
        right = self.link.hello()
        sealed = right.frame[_SEALED:_MAC] + bytes(128)
        rows = [
            (
                "shorter-ciphertext-than-the-frame-says",
                "length is that for a ck of 3072 bits, and 128 bytes stand between sealed and mac",
                "R accepts a ck of each size: kem_ciphertext has to be as long as the frame's length says.",
                {"length": 2340, "sealed": sealed},
            )
        ]
        accepted = ["beta-ck", "beta-next-ck-3072"]
        yield from self._refused(self.link, "form", refusal, ("NO-16",), rows, accepted=accepted)

    # ---- 5 ----

    def macs(self) -> Iterator[Case]:
        refusal = (FailLayer.MAC, "HS-27")
        right = self.link.hello()
        for name, at, what in [
            ("ciphertext-first", 8, "the first byte of kem_ciphertext"),
            ("ciphertext-last", _SEALED - 1, "the last byte of kem_ciphertext"),
            ("sealed-first", _SEALED, "the first byte of sealed"),
            ("sealed-last", _MAC - 1, "the last byte of sealed"),
            ("mac-first", _MAC, "the first byte of mac"),
            ("mac-last", _MAC + 15, "the last byte of mac"),
        ]:
            turned = [Overwrite(Point.SENDING, at, flipped(right.frame, at))]
            rows: list[Row] = [
                (f"bit-{name}", f"a bit of {what} is turned", "The mac covers it.", {"overwrites": turned})
            ]
            yield from self._refused(self.link, "mac", refusal, (), rows)
        before, whole_mac = right.frame[:_MAC], forge.mac_of(right.k_mac, right.frame[:_MAC])
        nodes = self.fixtures.nodes

        rows = [
            ("zeros", "mac is zeros", "", {"mac": bytes(16)}),
            ("last-half", "mac is the last 16 bytes of the HMAC", "The first 16 are due.", {"mac": whole_mac[16:]}),
            (
                "without-header",
                "the frame header is not under the mac",
                "The whole frame before the mac is.",
                {"mac": forge.mac_of(right.k_mac, before[4:])[:16]},
            ),
            (
                "sealed-alone",
                "sealed alone is under the mac",
                "The whole frame before the mac is.",
                {"mac": forge.mac_of(right.k_mac, before[_SEALED:])[:16]},
            ),
            (
                "own-sk",
                "K_mac is made of the sk of R",
                "Its ck is due.",
                {"mac_ck": self.link.responding.card.card.sk},
            ),
            (
                "ck-of-another",
                "K_mac is made of the ck of another member",
                "A Hello for another member comes to nothing here.",
                {"mac_ck": nodes["gamma"].card.card.ck},
            ),
            (
                "ck-not-accepted",
                "K_mac is made of a ck of R that it does not accept",
                "Such as one whose grace time is over.",
                {"mac_ck": nodes["beta-next"].card.card.ck},
            ),
            (
                "other-knock",
                "K_mac is made of another knock",
                "Who does not have the roster cannot make the mac.",
                {"knock": drawn("handshake/another knock", 32)},
            ),
            ("zero-knock", "K_mac is made of a knock of zeros", "", {"knock": bytes(32)}),
            ("no-knock", "K_mac is made without a knock", "The port is the cluster port.", {"knock": b""}),
        ]
        yield from self._refused(self.link, "mac", refusal, (), rows)
        with_knock = {"knock": self.anonymous.roster.knock}
        rows = [
            ("knock-on-the-client-port", "K_mac is made with the knock", "The port is the client port.", with_knock)
        ]
        yield from self._refused(self.anonymous, "mac", refusal, (), rows)

    # ---- 6 ----

    def replays(self) -> Iterator[Case]:
        comment = "The digest is in the replay cache, and nothing is decrypted."
        for each in (self.link, self.stream, self.client, self.anonymous):
            name = each.name.partition("/")[0]
            digest = forge.h("hello-digest", each.hello().frame).hex()
            row: Row = (name, "the Hello was verified here before", comment, {})
            refusal = (FailLayer.REPLAY, "HS-28")
            yield from self._refused(each, "replay", refusal, (), [row], replay_cache=[digest])

    # ---- 7 ----

    def ciphertexts(self) -> Iterator[Case]:
        refusal, requirements = (FailLayer.OAEP, "HS-29"), ("HS-40", "ID-17")
        draws = self.anonymous.draws("initiator")
        key1, seed = draws["key1"], draws["oaep_seed"]
        ck = self.fixtures.keys[self.anonymous.ck_name].public_key()
        n = crypto.rsa_modulus(ck)
        right = self.anonymous.hello().kem_ciphertext

        def number(value: int) -> bytes:
            return value.to_bytes(_K, "big")

        def raw(block: bytes) -> bytes:
            return deterministic.rsa_public(ck, block)

        def oaep(seed: bytes, **hashes: str) -> bytes:
            return raw(deterministic.eme_oaep(key1, seed, b"", _K, **hashes))

        block = deterministic.eme_oaep(key1, seed, b"", _K)
        filler = bytes(byte or 1 for byte in drawn("handshake/pkcs1", _K - 3 - len(key1)))
        sealed_for = "Everything else is right for the key1 that a careless decryption would give."
        rows: list[Row] = [
            ("zero", "kem_ciphertext is 0", "", {"kem_ciphertext": number(0)}),
            ("one", "kem_ciphertext is 1", "", {"kem_ciphertext": number(1)}),
            ("modulus", "kem_ciphertext is the modulus", "Not below the modulus.", {"kem_ciphertext": number(n)}),
            ("below-the-modulus", "kem_ciphertext is the modulus less 1", "", {"kem_ciphertext": number(n - 1)}),
            ("greatest", "kem_ciphertext is bytes ff", "Not below the modulus.", {"kem_ciphertext": b"\xff" * _K}),
            (
                "first-bit",
                "a bit of the last byte of kem_ciphertext is turned",
                "aad and mac are over it as it is.",
                {"kem_ciphertext": right[:-1] + flipped(right, -1)},
            ),
            ("label", "OAEP has a label", f"The label is empty. {sealed_for}", {"kem_label": b"xlattice2"}),
            (
                "sha-1",
                "OAEP with SHA-1",
                f"The default of many libraries. {sealed_for}",
                {"kem_ciphertext": oaep(seed[:20], hash_name="sha1", mgf_hash="sha1")},
            ),
            (
                "mgf1-with-sha-1",
                "MGF1 with SHA-1",
                f"The default of some libraries where OAEP has SHA-256. {sealed_for}",
                {"kem_ciphertext": oaep(seed, mgf_hash="sha1")},
            ),
            (
                "first-byte",
                "the first byte of the OAEP block is 01",
                f"It has to be 00. {sealed_for}",
                {"kem_ciphertext": raw(b"\x01" + block[1:])},
            ),
            (
                "pkcs1",
                "PKCS #1 v1.5 instead of OAEP",
                sealed_for,
                {"kem_ciphertext": raw(b"\x00\x02" + filler + b"\x00" + key1)},
            ),
            ("no-padding", "key1 without OAEP", sealed_for, {"kem_ciphertext": raw(bytes(_K - 32) + key1)}),
            (
                "for-another-node",
                "kem_ciphertext is for the ck of another member",
                "mac and all else are for R.",
                {"kem_ciphertext": deterministic.oaep_encrypt(self.fixtures.keys["gamma-ck"].public_key(), key1, seed)},
            ),
            *(
                (
                    f"{size}-bytes",
                    f"kem_ciphertext holds {size} bytes",
                    f"32 are due. {sealed_for}",
                    {"key1": drawn("handshake/long key1", size)},
                )
                for size in (0, 31, 33, 64)
            ),
        ]
        yield from self._refused(self.anonymous, "oaep", refusal, requirements, rows)
        small = small_ciphertext(self.fixtures)
        value = int.from_bytes(small.hello().kem_ciphertext, "big") + n
        rows = [
            (
                "plus-the-modulus",
                "the modulus is added to kem_ciphertext",
                "RSA alone would give the same key1: who does not compare with the modulus accepts it.",
                {"kem_ciphertext": number(value)},
            )
        ]
        yield from self._refused(small, "oaep", refusal, requirements, rows)
        mac_ck = self.fixtures.nodes["beta"].card.card.ck
        rows = [
            (
                "for-another-accepted-ck",
                "mac is that for the newer of two accepted cks, kem_ciphertext is for the older",
                "The first ck whose mac fits is ck_R for all that follows.",
                {"mac_ck": mac_ck},
            )
        ]
        previous = play(self.fixtures, "link", name="accepted/previous", ck="beta-next-ck")
        accepted = ["beta-ck", "beta-next-ck"]
        yield from self._refused(previous, "oaep", refusal, ("HS-27", *requirements), rows, accepted=accepted)

    def seals(self) -> Iterator[Case]:
        refusal = (FailLayer.HELLO_AEAD, "HS-29")
        right = self.link.hello()
        head = right.frame[:_SEALED]
        rows: list[Row] = [
            (
                f"bit-{name}",
                f"a bit of {what} is turned",
                "The mac is right.",
                {"overwrites": [Overwrite(Point.MACING, at, flipped(right.frame, at))]},
            )
            for name, at, what in [
                ("first", _SEALED, "the first byte of the ciphertext"),
                ("last", _SEALED + 1919, "the last byte of the ciphertext"),
                ("tag-first", _SEALED + 1920, "the first byte of the tag"),
                ("tag-last", _SEALED + 1935, "the last byte of the tag"),
            ]
        ]
        rows += [
            ("zeros", "sealed is zeros", "", {"sealed": bytes(1936)}),
            ("aad-none", "aad is empty", "", {"aad": b""}),
            ("aad-without-header", "aad is without the frame header", "", {"aad": head[4:]}),
            ("aad-header-alone", "aad is the frame header alone", "", {"aad": head[:4]}),
            ("aad-without-prefix", "aad has no length prefix of kem_ciphertext", "", {"aad": head[:6] + head[8:]}),
            (
                "aad-other-version",
                "aad has version 1",
                "The version of the frame is right.",
                {"aad": head[:5] + b"\x01" + head[6:]},
            ),
            ("nonce", "the nonce is 1", "It is zero.", {"nonce": bytes(11) + b"\x01"}),
            (
                "another-key1",
                "kem_ciphertext holds another key1",
                "Its decryption succeeds.",
                {"kem_secret": drawn("handshake/another key1", 32)},
            ),
        ]
        yield from self._refused(self.link, "sealed", refusal, ("NO-27",), rows)

    # ---- 8 ----

    def bodies(self) -> Iterator[Case]:
        refusal = (FailLayer.DECODE, "HS-30")
        yield from self._refused(self.link, "body", refusal, ("NO-19",), self._enumerations())
        yield from self._refused(self.link, "body", refusal, ("NO-17", "NO-18"), self._lengths())
        yield from self._refused(self.stream, "body/service", refusal, ("NO-6", "NO-11", "NO-12"), self._texts())
        yield from self._refused(self.link, "body/pad", refusal, ("NO-15", "NO-16", "NO-18"), self._pads())
        yield from self._refused(self.link, "body/mlkem-ek", refusal, (), self._encapsulation_keys())
        node = self.link.initiating
        assert node is not None
        iff = ("NO-18",)
        rows: list[Row] = [
            (
                "initiator",
                "initiator is a NodeID",
                "It is empty if and only if role is anonymous.",
                {"initiator": node.node_id.value, "where": "HelloBody.initiator"},
            ),
            (
                "signature",
                "there is a signature",
                "It is empty if and only if role is anonymous.",
                {"signature": bytes(256), "where": "HelloBody.signature"},
            ),
        ]
        yield from self._refused(self.anonymous, "body/anonymous-with", refusal, iff, rows)
        rows = [
            (
                "link-with-service",
                "service has one byte",
                "It is empty if and only if purpose is link.",
                {"service": b"x", "where": "HelloBody.service"},
            )
        ]
        yield from self._refused(self.link, "body", refusal, iff, rows)

    def _enumerations(self) -> Iterator[Row]:
        for role in (0, 4, 255):
            yield f"role-{role}", f"role is {role}", "", {"role": role, "where": "HelloBody.role"}
        for purpose in (0, 3, 255):
            yield f"purpose-{purpose}", f"purpose is {purpose}", "", {"purpose": purpose, "where": "HelloBody.purpose"}

    def _lengths(self) -> Iterator[Row]:
        recipient = self.link.responding.node_id.value
        initiator = self.link.hello().body[1285:1317]
        signature = self.link.hello().signature
        for field, value, sizes in [
            ("recipient", recipient, (0, 19, 21, 31, 33)),
            ("initiator", initiator, (0, 1, 19, 21, 33)),
            ("signature", signature, (0, 1, 255, 257, 513)),
        ]:
            for size in sizes:
                resized = (value + bytes(size))[:size]
                comment = "pad makes up the size."
                parts = {field: resized, "where": f"HelloBody.{field}"}
                yield f"{field}-of-{size}", f"{field} has {size} bytes", comment, parts

    def _texts(self) -> Iterator[Row]:
        for name, change, service in [
            ("empty", "service is empty", b""),
            ("65-bytes", "service has 65 bytes", b"s" * 65),
            ("not-utf8", "service is the byte ff", b"\xff"),
            ("overlong", "service is an overlong form of /", b"\xc0\xaf"),
            ("surrogate", "service is a surrogate", b"\xed\xa0\x80"),
            ("above-10ffff", "service is above U+10FFFF", b"\xf4\x90\x80\x80"),
            ("cut-off", "service ends within a character", b"\xc3"),
            ("zero-byte", "service is echo and U+0000", b"echo\x00"),
            ("new-line", "service is echo and a line end", b"echo\n"),
            ("delete", "service is U+007F", b"\x7f"),
            ("c1-control", "service is U+0085", b"\xc2\x85"),
        ]:
            yield name, change, "", {"service": service, "where": "HelloBody.service"}

    def _pads(self) -> Iterator[Row]:
        body = self.link.hello().body
        size = len(body) - 1577  # pad begins there: r = i = 32, s = 0, g = 256
        assert body[1575:1577] == size.to_bytes(2, "big")
        first, last = b"\x01" + bytes(size - 1), bytes(size - 1) + b"\x80"
        yield "first", "the first byte of pad is 01", "pad is zeros.", {"pad": first, "where": "HelloBody.pad"}
        yield "last", "the last byte of pad is 80", "pad is zeros.", {"pad": last, "where": "HelloBody.pad"}
        yield "ones", "pad is bytes ff", "pad is zeros.", {"pad": b"\xff" * size, "where": "HelloBody.pad"}
        for what, announced in (("too-short", size - 1), ("too-long", size + 1), ("none", 0), ("644", 644)):
            overwrites = [Overwrite(Point.SEALING, _SEALED + 1575, announced.to_bytes(2, "big"))]
            change = f"the length prefix of pad is {announced}"
            comment = f"{size} bytes are there, and make up 1,920."
            yield what, change, comment, {"overwrites": overwrites}

    def _encapsulation_keys(self) -> Iterator[Row]:
        ek = self.link.hello().body[99:1283]
        for name, change, start, coefficients in [
            ("first-coefficient", "the first coefficient is 3,329", 0, (3329, None)),
            ("second-coefficient", "the second coefficient is 3,329", 0, (None, 3329)),
            ("last-coefficient", "the last coefficient is 3,329", 1149, (None, 3329)),
            ("greatest-coefficient", "a coefficient is 4,095", 600, (4095, None)),
        ]:
            low = ek[start] | (ek[start + 1] & 15) << 8 if coefficients[0] is None else coefficients[0]
            high = ek[start + 1] >> 4 | ek[start + 2] << 4 if coefficients[1] is None else coefficients[1]
            changed = ek[:start] + (low | high << 12).to_bytes(3, "little") + ek[start + 3 :]
            yield name, change, "FIPS 203's modulus check: each is below 3,329.", {"mlkem_ek": changed}

    # ---- 9, 10 ----

    def recipients(self) -> Iterator[Case]:
        refusal = (FailLayer.RECIPIENT, "HS-31")
        own = self.stream.responding.node_id.value
        another: Row = (
            "another-member",
            "recipient is another member",
            "kem_ciphertext and mac are for R.",
            {"recipient": self.fixtures.nodes["gamma"].node_id.value},
        )
        rows: list[Row] = [
            another,
            (
                "20-bytes",
                "recipient is the first 20 bytes of R's NodeID",
                "NodeIDs have 32 bytes here.",
                {"recipient": own[:20]},
            ),
            (
                "first-bit",
                "a bit of the first byte of recipient is turned",
                "",
                {"recipient": flipped(own, 0) + own[1:]},
            ),
            (
                "last-bit",
                "a bit of the last byte of recipient is turned",
                "",
                {"recipient": own[:-1] + flipped(own, -1)},
            ),
        ]
        yield from self._refused(self.stream, "recipient/member-stream", refusal, (), rows)
        yield from self._refused(self.anonymous, "recipient/anonymous", refusal, (), [another])
        short = play(self.fixtures, "client", 20)
        rows = [
            (
                "32-bytes-of-20",
                "recipient is 32 bytes that begin with R's NodeID",
                "NodeIDs have 20 bytes here.",
                {"recipient": short.responding.node_id.value + bytes(12)},
            )
        ]
        yield from self._refused(short, "recipient/client", refusal, (), rows)
        cluster = self.link.roster.cluster_id
        rows = [
            (
                "another",
                "cluster is another cluster",
                "kem_ciphertext and mac are for R.",
                {"cluster": self.fixtures.rosters["other-cluster"].cluster_id},
            ),
            ("zeros", "cluster is zeros", "", {"cluster": bytes(32)}),
            (
                "last-bit",
                "a bit of the last byte of cluster is turned",
                "",
                {"cluster": cluster[:-1] + flipped(cluster, -1)},
            ),
        ]
        for each in (self.link, self.anonymous):
            group = f"cluster/{each.name.partition('/')[0]}"
            some = rows if each is self.link else rows[:1]
            yield from self._refused(each, group, (FailLayer.RECIPIENT, "HS-32"), (), some)

    # ---- 11 to 14 ----

    def _as(self, name: str | None) -> dict[str, Any]:
        if name is None:
            return {"initiator": b"", "signer": None}
        node = self.fixtures.nodes[name]
        return {"initiator": node.node_id.value, "signer": node.sk_priv}

    def ports(self) -> Iterator[Case]:
        refusal = (FailLayer.ROLE, "HS-33")
        link, stream = {"purpose": 1, "service": b""}, {"purpose": 2, "service": ECHO}
        cluster_rows: list[Row] = [
            ("client-stream", "role is client", "A client of the roster.", {"role": 2, **stream, **self._as("carol")}),
            ("anonymous-stream", "role is anonymous", "", {"role": 3, **stream, **self._as(None)}),
        ]
        yield from self._refused(self.stream, "port/cluster", refusal, (), cluster_rows)
        cluster_rows = [
            ("client-link", "role is client", "A client of the roster.", {"role": 2, **link, **self._as("carol")}),
            ("anonymous-link", "role is anonymous", "", {"role": 3, **link, **self._as(None)}),
        ]
        yield from self._refused(self.link, "port/cluster", refusal, (), cluster_rows)
        client_rows: list[Row] = [
            ("member-stream", "role is member", "A member of the roster.", {"role": 1, **self._as("alpha")}),
            ("client-link", "purpose is link", "", link),
        ]
        yield from self._refused(self.client, "port/client", refusal, (), client_rows)
        client_rows = [
            ("anonymous-link", "purpose is link", "", link),
            (
                "member-link",
                "role is member, purpose is link",
                "A member of the roster.",
                {"role": 1, **link, **self._as("alpha")},
            ),
        ]
        yield from self._refused(self.anonymous, "port/client", refusal, (), client_rows)
        listed: Row = ("anonymous-listed", "client_access is listed", "", {})
        yield from self._refused(self.anonymous, "port/client", refusal, (), [listed], roster="listed")

    def orders(self) -> Iterator[Case]:
        refusal = (FailLayer.ROLE, "HS-34")
        rows: list[Row] = [
            (
                "from-the-higher",
                "purpose is link",
                "The stream is allowed; a link is dialled by the member with the lower NodeID.",
                {"purpose": 1, "service": b""},
            )
        ]
        yield from self._refused(self.stream, "order", refusal, (), rows)
        rows = [
            (
                "to-itself",
                "initiator is R",
                "Equal is not lower. Check 14 would refuse it as well.",
                self._as(self.link.responder),
            )
        ]
        yield from self._refused(self.link, "order", refusal, (), rows)
        short = play(self.fixtures, "member-stream", 20)
        rows = [("from-the-higher-of-20-bytes", "purpose is link", "", {"purpose": 1, "service": b""})]
        yield from self._refused(short, "order", refusal, (), rows)

    def memberships(self) -> Iterator[Case]:
        refusal = (FailLayer.MEMBERSHIP, "HS-35")
        gamma = self.fixtures.nodes["gamma"]
        rows: list[Row] = [
            ("outsider", "initiator is in no roster", "It signed with its own key.", self._as("outsider")),
            ("of-another-cluster", "initiator is a member of another cluster", "", self._as("other-alpha")),
            ("client-as-member", "initiator is a client of the roster", "", self._as("carol")),
            (
                "20-bytes",
                "initiator is the first 20 bytes of a member's NodeID",
                "NodeIDs have 32 bytes here.",
                {"initiator": gamma.node_id.value[:20], "signer": gamma.sk_priv},
            ),
        ]
        yield from self._refused(self.stream, "membership/stream", refusal, (), rows)
        rows = [("client-as-member", "initiator is a client of the roster", "Its NodeID is lower.", self._as("carol"))]
        yield from self._refused(self.link, "membership/link", refusal, (), rows)
        rows = [
            ("outsider", "initiator is in no roster", "It signed with its own key.", self._as("outsider")),
            ("member-as-client", "initiator is a member of the roster", "", self._as("alpha")),
        ]
        yield from self._refused(self.client, "membership/client", refusal, (), rows)
        removed: Row = ("removed", "R has a newer roster, without the initiator", "", {})
        for each, group in ((removed_member(self.fixtures), "stream"), (removed_client(self.fixtures), "client")):
            yield from self._refused(each, f"membership/{group}", refusal, (), [removed], roster="next")
        swapped: Row = ("now-a-client", "R has a newer roster, with the initiator as a client", "", {})
        yield from self._refused(self.link, "membership/link", refusal, (), [swapped], roster="swapped")
        swapped = ("now-a-member", "R has a newer roster, with the initiator as a member", "", {})
        yield from self._refused(self.client, "membership/client", refusal, (), [swapped], roster="swapped")

    def selves(self) -> Iterator[Case]:
        rows: list[Row] = [("stream", "initiator is R", "It is a member, and signed.", self._as(self.stream.responder))]
        yield from self._refused(self.stream, "self", (FailLayer.ROLE, "HS-36"), (), rows)

    # ---- 15 ----

    def signatures(self) -> Iterator[Case]:
        refusal = (FailLayer.SIGNATURE, "HS-37")
        yield from self._refused(self.stream, "signature/over-another", refusal, (), self._signed_over())
        signed = self._signed_otherwise(self.stream)
        yield from self._refused(self.stream, "signature", refusal, ("NO-23",), signed)
        rows: list[Row] = [
            (
                f"salt-of-{size}",
                f"the salt has {size} bytes",
                "32 are due.",
                {"pss_salt": drawn("handshake/salt", size)},
            )
            for size in (0, 20, 31, 33, 222)
        ]
        yield from self._refused(self.stream, "signature", refusal, ("ID-15",), rows)
        right = self.stream.hello().signature
        rows = [
            (
                f"{size}-bytes",
                f"zeros before the signature make it {size} bytes long",
                "The number is the same.",
                {"signature": bytes(size - 256) + right},
            )
            for size in (384, 512)
        ]
        large = play(self.fixtures, "member-stream", bits=3072)
        row = (
            "256-bytes-of-384",
            "the signature has the last 256 bytes alone",
            "As long as another sk's.",
            {"signature": large.hello().signature[-256:]},
        )
        yield from self._refused(self.stream, "signature", refusal, ("ID-13",), rows)
        yield from self._refused(large, "signature", refusal, ("ID-13",), [row])
        small = small_signature(self.fixtures)
        assert small.initiating is not None
        n = crypto.rsa_modulus(small.initiating.card.sk)
        value = int.from_bytes(small.hello().signature, "big") + n
        row = (
            "plus-the-modulus",
            "the modulus is added to the signature",
            "RSA alone would verify it: who does not compare with the modulus accepts it.",
            {"signature": value.to_bytes(256, "big")},
        )
        yield from self._refused(small, "signature", refusal, ("ID-14",), [row])
        for each in (self.link, self.client):
            rows = [
                (
                    "by-another",
                    "another node signed",
                    "initiator is not who signed.",
                    {"signer": self._as("gamma")["signer"]},
                )
            ]
            group = f"signature/{each.name.partition('/')[0]}"
            yield from self._refused(each, group, refusal, (), rows)

    def _signed_over(self) -> Iterator[Row]:
        other_ek = crypto.mlkem_ek(crypto.mlkem_key(drawn("handshake/another mlkem_seed", 64)))
        other_share = crypto.x25519_share(crypto.x25519_key(drawn("handshake/another x25519", 32)))
        other_ck = self.fixtures.keys["gamma-ck"].public_key()
        ciphertext = deterministic.oaep_encrypt(other_ck, self.stream.hello().key1, drawn("handshake/another seed", 32))
        comment = "What is signed here, was meant otherwise."
        for field, value in {
            "version": 1,
            "kem_ciphertext": ciphertext,
            "role": 2,
            "purpose": 1,
            "recipient": self.fixtures.nodes["gamma"].node_id.value,
            "cluster": self.fixtures.rosters["other-cluster"].cluster_id,
            "x25519": other_share,
            "mlkem_ek": other_ek,
            "service": b"echo2",
            "initiator": self.fixtures.nodes["gamma"].node_id.value,
        }.items():
            yield field.replace("_", "-"), f"another {field} is signed", comment, {"sign_as": {field: value}}

    def _signed_otherwise(self, play: Play) -> Iterator[Row]:
        right = play.hello()
        node = play.initiating
        assert node is not None
        content, salt = right.signed[26:], play.draws("initiator")["pss_salt"]
        header, head = right.frame[:4], 4 + _K
        prefix = forge.label("hello-signature") + b"\0"

        def signed(message: bytes) -> dict[str, bytes]:
            return {"signature": deterministic.pss_sign_message(node.sk_priv, message, salt)}

        yield "zeros", "the signature is zeros", "", {"signature": bytes(256)}
        yield "by-another", "another member signed", "", {"signer": self._as("gamma")["signer"]}
        yield "by-ck", "the initiator's ck signed", "", {"signer": node.ck_priv}
        yield "label-node-card", "the label is node-card", "", {"signed_label": "node-card"}
        yield "no-label", "there is no label", "", signed(content)
        yield "no-zero-byte", "no zero byte is behind the label", "", signed(prefix[:-1] + content)
        yield (
            "hashed-before",
            "the hash of the message is signed as a message",
            "",
            signed(hashlib.sha256(right.signed).digest()),
        )
        yield "with-header", "the frame header is signed too", "", {"signed": header + content}
        yield "hello-alone", "the Hello body's part alone is signed", "", {"signed": content[:head]}
        yield "body-alone", "the HelloBody's part alone is signed", "", {"signed": content[head:]}
        yield "with-empty-signature", "an empty signature is signed too", "", {"signed": content + bytes(2)}
        block = deterministic.emsa_pss(right.signed, salt, _K, mgf_hash="sha1")
        comment = "The default of some libraries where the hash is SHA-256."
        signature = deterministic.rsa_private(node.sk_priv, block)
        yield "mgf1-with-sha-1", "MGF1 with SHA-1", comment, {"signature": signature}
        block = bytes.fromhex("3031300d060960864801650304020105000420") + hashlib.sha256(right.signed).digest()
        block = b"\x00\x01" + b"\xff" * (_K - len(block) - 3) + b"\x00" + block
        signature = deterministic.rsa_private(node.sk_priv, block)
        yield "pkcs1", "PKCS #1 v1.5 instead of PSS", "", {"signature": signature}

    # ---- 16 ----

    def key_shares(self) -> Iterator[Case]:
        refusal, requirements = (FailLayer.DECODE, "HS-38"), ("HS-7", "HS-8")
        rows: list[Row] = [(name, change, OF_LOW_ORDER, {"x25519": share}) for name, change, share in low_order()]
        yield from self._refused(self.anonymous, "x25519/anonymous", refusal, requirements, rows)
        yield from self._refused(self.link, "x25519/link", refusal, requirements, rows[:1])
