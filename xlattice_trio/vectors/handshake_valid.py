"""Handshakes that succeed, or have not ended yet."""

from collections.abc import Callable, Iterator
from typing import Any

import attrs

from xlattice_trio.testing.forge import forge_record
from xlattice_trio.vectors.fixtures import Fixtures, drawn
from xlattice_trio.vectors.model import Case
from xlattice_trio.vectors.plays import Play, byte_by_byte, cut_at

DATA, KEEPALIVE, BYE = 2, 3, 5
ECHO = b"echo"

# The nodes of one size, by bytes of the NodeID and bits of all RSA keys: alpha and beta are members, carol is a client.
SIZES = {
    (32, 2048): ("main", "alpha", "beta", "carol"),
    (32, 3072): ("bits-3072", "alpha-3072", "beta-3072", "carol-3072"),
    (32, 4096): ("bits-4096", "alpha-4096", "beta-4096", "carol-4096"),
    (20, 2048): ("short-ids", "short-alpha", "short-beta", "short-carol"),
    (20, 3072): ("short-ids-3072", "short-alpha-3072", "short-beta-3072", "short-carol-3072"),
    (20, 4096): ("short-ids-4096", "short-alpha-4096", "short-beta-4096", "short-carol-4096"),
}
KINDS = ("link", "member-stream", "client", "anonymous")

# What every vector shows in which keys are made, and what else each side shows.
_KEYS = ("HS-5", "HS-7", "HS-9", "HS-11", "NO-23", "NO-25", "NO-26")
_MADE = (*_KEYS, "HS-12", "HS-13", "HS-15", "HS-54", "ID-16", "SE-28")
_SIGNED = ("HS-14", "ID-12")
_CHECKED = (*_KEYS, "HS-27", "HS-29", "HS-42", "HS-45")


def play(fixtures: Fixtures, kind: str, id_size: int = 32, bits: int = 2048, **changes: Any) -> Play:
    """A handshake of this kind between nodes of this size. Its name is that of its vectors."""
    document, alpha, beta, carol = SIZES[id_size, bits]
    lower, higher = sorted((alpha, beta), key=lambda name: fixtures.nodes[name].node_id)
    parts: dict[str, dict[str, Any]] = {
        "link": {"initiator": lower, "responder": higher, "role": "member", "purpose": "link"},
        "member-stream": {"initiator": higher, "responder": lower, "role": "member", "purpose": "stream"},
        "client": {"initiator": carol, "responder": beta, "role": "client", "purpose": "stream"},
        "anonymous": {"initiator": None, "responder": beta, "role": "anonymous", "purpose": "stream"},
    }
    defaults = {"name": f"{kind}/{id_size}-{bits}", "document": document, **parts[kind]}
    if kind != "link":
        defaults["service"] = ECHO
    return Play(fixtures=fixtures, **defaults | changes)


def cases(fixtures: Fixtures) -> Iterator[Case]:
    yield from _of_all_sizes(fixtures)
    yield from _of_unequal_sizes(fixtures)
    yield from _services(fixtures)
    yield from _keepalives(fixtures)
    yield from _key_shares(fixtures)
    yield from _bytes_of_rsa(fixtures)
    yield from _accepted_cks(fixtures)
    yield from _pieces(fixtures)
    yield from _rosters(fixtures)
    yield from _replays(fixtures)
    yield from _fallbacks(fixtures)


def _initiated(play: Play) -> tuple[str, ...]:
    return _MADE if play.initiator is None else (*_MADE, *_SIGNED)


def _responded(play: Play) -> tuple[str, ...]:
    return (*_CHECKED, "HS-62" if play.initiator is None else "HS-39")


def _both(play: Play, comment: str, *requirements: str) -> Iterator[Case]:
    """Each side of the handshake, as it should be."""
    yield play.initiated(play.name, comment, (*requirements, *_initiated(play)))
    yield play.responded(play.name, comment, (*requirements, *_responded(play)))


# ---- sizes -------------------------------------------------------------------


def _of_all_sizes(fixtures: Fixtures) -> Iterator[Case]:
    what = {
        "link": "The link between two members, dialled by the one with the lower NodeID.",
        "member-stream": "A stream from a member to one with a lower NodeID.",
        "client": "A stream of a client.",
        "anonymous": "A stream of nobody in particular.",
    }
    for kind in KINDS:
        for id_size, bits in SIZES:
            comment = f"{what[kind]} NodeIDs of {id_size} bytes, RSA keys of {bits} bits."
            yield from _both(play(fixtures, kind, id_size, bits), comment)


def _of_unequal_sizes(fixtures: Fixtures) -> Iterator[Case]:
    for name, initiator, responder, role, comment in [
        ("sk-2048-ck-3072", "mixed-alpha", "mixed-beta", "member", "The sk of I has 2048 bits, the ck of R 3072."),
        (
            "sk-4096-ck-4096",
            "mixed-beta",
            "mixed-alpha",
            "member",
            "The sk of I and the ck of R have 4096 bits, the sk of R 2048.",
        ),
        ("sk-3072-ck-4096", "mixed-carol", "mixed-alpha", "client", "The sk of I has 3072 bits, the ck of R 4096."),
    ]:
        yield from _both(
            Play(
                name=f"unequal/{name}",
                fixtures=fixtures,
                initiator=initiator,
                responder=responder,
                document="mixed",
                role=role,
                purpose="stream",
                service=ECHO,
            ),
            comment,
        )


# ---- what a Hello and a HelloReply may hold ----------------------------------


def _services(fixtures: Fixtures) -> Iterator[Case]:
    longest = b"s" * 64
    shortest_pad = Play(
        name="pad/shortest",
        fixtures=fixtures,
        initiator="beta-4096",
        responder="alpha-4096",
        document="bits-4096",
        role="member",
        purpose="stream",
        service=longest,
    )
    yield from _both(shortest_pad, "A service of 64 bytes and a signature of 512: pad has 23 bytes.")
    longest_pad = play(fixtures, "anonymous", 20, 2048, name="pad/longest", service=b"s")
    yield from _both(longest_pad, "No initiator, a NodeID of 20 bytes, a service of one: pad has 642 bytes.")
    for name, service, comment in [
        ("two-byte-characters", "\u00e9" * 32, "A service of 32 characters and 64 bytes."),
        ("not-normalised", "e\u0301\u00e9", "One letter in two ways: text is not normalised."),
        ("blanks", " \u00a0\u2028\ufeff ", "Blanks of all kinds: text is not trimmed, and U+FEFF is a character."),
        ("of-the-other-planes", "\U0001f600\U0010ffff\ufffe", "Characters of four bytes, and two noncharacters."),
        ("like-a-path", "../../etc/passwd", "A service that nobody has: it is no matter of the handshake."),
    ]:
        text = play(fixtures, "client", name=f"service/{name}", service=service.encode())
        yield text.responded(text.name, comment, (*_responded(text), "NO-6", "NO-13", "HS-41"))
    text = play(fixtures, "client", name="service/two-byte-characters", service="\u00e9".encode() * 32)
    yield text.initiated(text.name, "A service of 32 characters and 64 bytes.", (*_initiated(text), "NO-6", "NO-13"))


def _keepalives(fixtures: Fixtures) -> Iterator[Case]:
    for kind, intervals in (("link", (1_000, 60_000)), ("anonymous", (0, 3_600_000))):
        for keepalive in intervals:
            bound = play(fixtures, kind, name=f"keepalive/{kind}-{keepalive}", keepalive=keepalive)
            comment = f"A keepalive of {keepalive} ms, at a bound of what is allowed."
            of_i, of_r = ("HS-50", "HS-44") if kind == "link" else ("HS-49", "NO-21")
            yield bound.initiated(bound.name, comment, (*_initiated(bound), of_i))
            yield bound.responded(bound.name, comment, (*_responded(bound), of_r))
    link = play(fixtures, "link", name="epoch")
    for name, epoch in (("zero", 0), ("greatest", 2**64 - 1)):
        comment = "The epoch in ReplyBody is for information: the initiator decides nothing by it."
        yield link.initiated(f"epoch/{name}", comment, (*_initiated(link), "HS-53"), reply={"epoch": epoch})


_P = 2**255 - 19  # of the field of X25519


def _key_shares(fixtures: Fixtures) -> Iterator[Case]:
    anonymous = play(fixtures, "anonymous", name="x25519")
    hello = anonymous.hello()
    share = bytearray(hello.body[67:99])
    share[31] |= 0x80
    top, over = bytes(share), (_P + 9).to_bytes(32, "little")
    top_comment = "The top bit of the other side's X25519 public key is set: it is ignored."
    over_comment = "The other side's X25519 public key is 2^255 - 10, which stands for 9: such a value is not refused."
    requirements = _responded(anonymous)
    yield anonymous.responded("x25519/top-bit", top_comment, requirements, hello={"x25519": top})
    yield anonymous.responded("x25519/above-the-prime", over_comment, requirements, hello={"x25519": over})
    share = bytearray(anonymous.reply(hello).body[32:64])
    share[31] |= 0x80
    requirements = _initiated(anonymous)
    yield anonymous.initiated("x25519/top-bit", top_comment, requirements, reply={"x25519": bytes(share)})
    yield anonymous.initiated("x25519/above-the-prime", over_comment, requirements, reply={"x25519": over})
    yield anonymous.initiated(
        "mlkem/for-no-such-key",
        "An ML-KEM ciphertext that is for no such key gives another secret, and no failure: Confirm will not open.",
        requirements,
        reply={"mlkem_ciphertext": drawn("handshake/mlkem/for-no-such-key", 1088)},
    )


# ---- RSA ---------------------------------------------------------------------


def searched(play: Play, draw: str, fits: Callable[[Play], bool]) -> Play:
    """The play with the first of a sequence of draws that fits."""
    for i in range(10_000):
        value = drawn(f"handshake/{play.name}/{draw}/{i}", 32)
        candidate = attrs.evolve(play, fixed={draw: value})
        if fits(candidate):
            return candidate
    raise AssertionError(f"{play.name}: no draw fits")


def small_ciphertext(fixtures: Fixtures) -> Play:
    """A Hello whose kem_ciphertext begins with a zero byte."""
    anonymous = play(fixtures, "anonymous", name="rsa/ciphertext-with-leading-zero")
    return searched(anonymous, "initiator/oaep_seed", lambda play: play.hello().kem_ciphertext[0] == 0)


def small_signature(fixtures: Fixtures) -> Play:
    """A Hello whose signature begins with a zero byte."""
    client = play(fixtures, "client", name="rsa/signature-with-leading-zero")
    return searched(client, "initiator/pss_salt", lambda play: play.hello().signature[0] == 0)


def _bytes_of_rsa(fixtures: Fixtures) -> Iterator[Case]:
    yield from _both(
        small_ciphertext(fixtures),
        "kem_ciphertext begins with a zero byte, and is as long as the modulus all the same.",
    )
    yield from _both(
        small_signature(fixtures),
        "The signature begins with a zero byte, and is as long as the modulus all the same.",
        "ID-13",
    )


def _accepted_cks(fixtures: Fixtures) -> Iterator[Case]:
    before = ("RO-49", "HS-25")
    for name, ck, accepted, requirements, comment in [
        (
            "previous",
            "beta-next-ck",
            ["beta-ck", "beta-next-ck"],
            before,
            "The ck that R had before, in its grace time.",
        ),
        ("newest", "beta-ck", ["beta-ck", "beta-next-ck"], (), "The newest of two accepted cks of one size."),
        (
            "previous-of-another-size",
            "beta-next-ck-3072",
            ["beta-ck", "beta-next-ck-3072"],
            before,
            "The ck that R had before, of another size than that in its card.",
        ),
        (
            "prepared",
            "beta-next-ck",
            ["beta-next-ck", "beta-ck"],
            ("RO-53",),
            "A ck that R has prepared and no roster names yet.",
        ),
        (
            "last-of-three",
            "beta-next-ck",
            ["beta-next-ck-3072", "beta-ck", "beta-next-ck"],
            before,
            "One prepared, one in force, one before: the last of them.",
        ),
    ]:
        link = play(fixtures, "link", name=f"accepted/{name}", ck=ck)
        yield link.responded(link.name, comment, (*_responded(link), *requirements), accepted=accepted)
    renewed = play(fixtures, "link", name="accepted/from-the-roster", document="next", ck="beta-next-ck")
    yield renewed.initiated(
        renewed.name,
        "R has another ck in this roster than in others: I takes that of the roster in force.",
        (*_initiated(renewed), "HS-1"),
    )


# ---- pieces ------------------------------------------------------------------


def _pieces(fixtures: Fixtures) -> Iterator[Case]:
    link = play(fixtures, "link", name="pieces")
    comment = "Every byte arrives alone; nothing is sent before the last of a frame."
    yield link.initiated("pieces/bytes", comment, (*_initiated(link), "FR-6", "FR-7"), cut=byte_by_byte)
    yield link.responded("pieces/bytes", comment, (*_responded(link), "FR-6", "FR-7"), cut=byte_by_byte)
    yield link.initiated(
        "pieces/in-the-header", "The header arrives in two pieces.", (*_initiated(link), "FR-7"), cut=cut_at(3)
    )
    yield link.responded(
        "pieces/in-the-header",
        "The header arrives in two pieces.",
        (*_responded(link), "FR-7"),
        cut=cut_at(3, 2216),
    )
    yield link.responded(
        "pieces/across-frames",
        "The first half of Confirm arrives together with the end of Hello.",
        (*_responded(link), "FR-7", "FR-8"),
        cut=cut_at(1000, 2226),
    )
    yield link.waiting_initiator("pieces/nothing-yet", "Nothing has arrived.", _initiated(link), cut=lambda _: [])
    yield link.waiting_initiator(
        "pieces/all-but-one",
        "All but the last byte has arrived.",
        (*_initiated(link), "FR-6"),
        cut=lambda reply: [reply[:4], reply[4:-1]],
    )
    yield link.waiting_responder(
        "pieces/header-alone",
        "The header has arrived, and is due.",
        ("FR-4", "FR-6", "HS-25"),
        cut=lambda hello, _: [hello[:4]],
    )
    yield link.waiting_responder(
        "pieces/all-but-one",
        "All but the last byte of Hello has arrived: nothing is sent or remembered.",
        ("FR-6", "HS-4"),
        cut=lambda hello, _: [hello[:-1]],
    )
    yield link.waiting_responder(
        "pieces/no-confirm-yet",
        "Confirm has not arrived: HelloReply is sent, and nothing after it.",
        (*_responded(link), "HS-46", "SE-1"),
        cut=lambda hello, _: [hello],
    )
    yield link.waiting_responder(
        "pieces/all-but-one-of-confirm",
        "All but the last byte of Confirm has arrived.",
        (*_responded(link), "FR-6", "HS-46", "SE-1"),
        cut=lambda hello, confirm: [hello, confirm[:-1]],
    )
    yield from _behind(fixtures)


def _behind(fixtures: Fixtures) -> Iterator[Case]:
    client = play(fixtures, "client", name="behind")
    requirements = (*_responded(client), "FR-8", "SE-3")
    for name, records, comment in [
        ("data", [(DATA, b"hello")], "A Data record stands behind Confirm, and is left for the session."),
        (
            "three-records",
            [(DATA, b"hello"), (KEEPALIVE, b""), (BYE, b"")],
            "Three records stand behind Confirm, and are left for the session.",
        ),
        ("long-record", [(DATA, bytes(2500))], "A Data record that is longer than a Hello stands behind Confirm."),
    ]:
        yield client.responded(f"behind/{name}", comment, requirements, records=records)
    yield client.responded(
        "behind/part-of-a-header", "Two bytes of a header stand behind Confirm.", requirements, behind=b"\x03\x00"
    )
    yield client.responded(
        "behind/not-due",
        "What stands behind Confirm belongs to the session, whatever it is: the handshake does not look at it.",
        requirements,
        behind=b"\x01\x00\x08\xa4",
    )
    record = forge_record(drawn("handshake/behind", 32), 0, DATA, b"hello")
    yield client.initiated(
        "behind/a-record",
        "What stands behind HelloReply belongs to the session: I keeps it.",
        (*_initiated(client), "FR-8"),
        behind=record,
    )


# ---- rosters, replays, OAEP that fails ---------------------------------------


def removed_member(fixtures: Fixtures) -> Play:
    """A stream from a member that the roster `next` no longer has."""
    return play(fixtures, "member-stream", name="roster/removed-member", initiator="gamma", responder="alpha")


def removed_client(fixtures: Fixtures) -> Play:
    """A stream of a client that the roster `next` no longer has."""
    return play(fixtures, "client", name="roster/removed-client", initiator="dave")


def removed_responder(fixtures: Fixtures) -> Play:
    """A stream to a member that the roster `next` no longer has."""
    return play(fixtures, "member-stream", name="roster/removed-responder", initiator="alpha", responder="gamma")


def _rosters(fixtures: Fixtures) -> Iterator[Case]:
    for removed in (removed_member(fixtures), removed_client(fixtures), removed_responder(fixtures)):
        comment = "Both are in this roster; in the one after it one of them is not."
        yield removed.responded(removed.name, comment, _responded(removed))
    link = play(fixtures, "link", name="roster/changed")
    client = play(fixtures, "client", name="roster/changed-for-client")
    anonymous = play(fixtures, "anonymous", name="roster/changed-for-anonymous")
    for name, changed, at_confirm, comment in [
        ("still-a-member", link, "next", "By Confirm R has a newer roster, with another ck for R itself; I is in it."),
        ("still-a-client", client, "listed", "By Confirm client_access is listed, which is nothing to a client."),
        ("still-anyone", anonymous, "next", "By Confirm R has a newer roster, whose client_access is still anyone."),
    ]:
        requirements = (*_responded(changed), "HS-58")
        yield changed.responded(f"roster/{name}", comment, requirements, roster_at_confirm=at_confirm)
    listed = play(fixtures, "client", name="roster/listed", document="listed")
    yield from _both(listed, "client_access is listed, and the client is.")
    swapped = Play(
        name="roster/great-epoch",
        fixtures=fixtures,
        initiator="alpha",
        responder="carol",
        document="swapped",
        role="client",
        purpose="stream",
        service=ECHO,
    )
    yield from _both(swapped, "The epoch of the roster needs all of its 64 bits.", "NO-3")


def _replays(fixtures: Fixtures) -> Iterator[Case]:
    link = play(fixtures, "link", name="replay")
    others = [drawn(f"handshake/replay/{i}", 32).hex() for i in range(3)]
    yield link.responded(
        "replay/of-others", "The replay cache holds other digests.", (*_responded(link), "HS-28"), replay_cache=others
    )
    first = play(fixtures, "anonymous", name="replay/anonymous")
    again = attrs.evolve(
        first,
        fixed={f"responder/{draw}": drawn(f"handshake/replay/again/{draw}", 32) for draw in ("x25519", "key2", "salt")},
    )
    yield first.responded("replay/anonymous/first", "An anonymous Hello leaves nothing behind.", _responded(first))
    yield again.responded(
        "replay/anonymous/again",
        "The same anonymous Hello once more: it is answered with another salt, so under another key.",
        (*_responded(again), "HS-6", "HS-43"),
    )


def _fallbacks(fixtures: Fixtures) -> Iterator[Case]:
    """Where decryption fails, R goes on with the draw that takes the place of key1: who knows it, can seal under it."""
    anonymous = play(fixtures, "anonymous", name="fallback")
    fallback = anonymous.draws("responder")["oaep_fallback"]
    comment = "Sealed under the random bytes which take the place of key1, so it opens. Nobody could know them."
    for name, what, changes in [
        ("no-oaep", "kem_ciphertext is 1.", {"kem_ciphertext": bytes(255) + b"\1"}),
        ("above-the-modulus", "kem_ciphertext is above the modulus.", {"kem_ciphertext": b"\xff" * 256}),
        ("31-bytes", "kem_ciphertext holds 31 bytes.", {"kem_secret": bytes(31)}),
        ("33-bytes", "kem_ciphertext holds 33 bytes.", {"kem_secret": bytes(33)}),
    ]:
        yield anonymous.responded(
            f"fallback/{name}",
            f"{what} {comment}",
            (*_responded(anonymous), "HS-40", "ID-17"),
            hello={"key1": fallback, **changes},
        )
