"""Every type of the notation, on both sides of each bound. Spec 1.2, 1.3."""

import re
from collections.abc import Iterator, Sequence

import attrs

from xlattice_trio.testing.edges import NO_TEXT, TEXT
from xlattice_trio.vectors.codec_values import prefixed_length
from xlattice_trio.vectors.fixtures import drawn
from xlattice_trio.vectors.model import Case, FailLayer, Json, Refusal


@attrs.frozen
class _Type:
    """The vectors of one type, by its notation."""

    text: str

    @property
    def slug(self) -> str:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", self.text).lower()
        return "codec/type/" + re.sub(r"[^a-z0-9]+", "-", words).strip("-")

    def good(self, what: str, given: Json, expected: bytes, comment: str, *requirements: str) -> Case:
        return Case(
            name=f"{self.slug}/{what}",
            op="type",
            requirements=requirements,
            comment=comment,
            input={"type": self.text, "value": given},
            expected={"bytes": expected.hex()},
        )

    def bad(self, what: str, encoded: bytes, by: str, base: str, change: str, *requirements: str) -> Case:
        return Case(
            name=f"{self.slug}/{what}",
            op="type_decode",
            requirements=requirements,
            comment=f"{self.text}: {change}.",
            input={"type": self.text, "bytes": encoded.hex()},
            refusal=Refusal(layer=FailLayer.DECODE, by=by, base=f"{self.slug}/{base}", change=change),
        )


def type_cases() -> Iterator[Case]:
    yield from _integer_cases()
    yield from _fixed_cases()
    for least, most in ((0, 255), (0, 256), (20, 32), (256, 512), (0, 70000), (3, 3)):
        yield from _opaque_cases(least, most, (least, min(least + 1, most), most))
    yield from _opaque_cases(0, 65535, (0, 1, 300))
    yield from _prefix_cases()
    yield from _text_cases()
    yield from _rest_cases()
    yield from _list_cases()
    yield from _nested_cases()


def _integer_cases() -> Iterator[Case]:
    for size in (1, 2, 3, 4, 8):
        kind = _Type(f"u{8 * size}")
        ascending = bytes(range(1, size + 1))
        yield kind.good("zero", "00" * size, bytes(size), "The least value.", "NO-3")
        yield kind.good("most", "ff" * size, b"\xff" * size, "The greatest value.", "NO-3")
        yield kind.good("ascending", ascending.hex(), ascending, "Most significant byte first.", "NO-3")
        yield kind.bad("empty", b"", "NO-15", "zero", "there are no bytes")
        if size > 1:
            yield kind.bad("short", ascending[:-1], "NO-15", "ascending", "the last byte is missing")
        yield kind.bad("long", ascending + b"\0", "NO-16", "ascending", "one byte more follows")


def _fixed_cases() -> Iterator[Case]:
    for size in (1, 12, 32):
        kind = _Type(f"opaque[{size}]")
        content = drawn(f"codec/fixed/{size}", size)
        yield kind.good("bytes", content.hex(), content, "No prefix.", "NO-4")
        yield kind.bad("empty", b"", "NO-15", "bytes", "there are no bytes")
        if size > 1:
            yield kind.bad("short", content[:-1], "NO-15", "bytes", "the last byte is missing")
        yield kind.bad("long", content + b"\0", "NO-16", "bytes", "one byte more follows")
        yield kind.bad("prefixed", bytes([size]) + content, "NO-16", "bytes", "a length stands before it", "NO-4")


def _opaque_cases(least: int, most: int, lengths: Sequence[int]) -> Iterator[Case]:
    kind = _Type(f"opaque<{least}..{most}>")
    for length in sorted(set(lengths)):
        content = drawn(f"codec/opaque/{length}", length)
        yield kind.good(
            f"{length}-bytes", content.hex(), prefixed_length(length, most) + content, f"A length of {length}.", "NO-5"
        )
    base = f"{most}-bytes"
    longer = drawn(f"codec/opaque/{most + 1}", most + 1)
    if most + 1 < 1 << (8 * len(prefixed_length(0, most))):
        yield kind.bad(
            "over",
            prefixed_length(most + 1, most) + longer,
            "NO-17",
            base,
            f"{most + 1} bytes, and a length that says so",
            "NO-5",
        )
    if least:
        short = prefixed_length(least - 1, most) + longer[: least - 1]
        yield kind.bad(
            "under", short, "NO-17", f"{least}-bytes", f"{least - 1} bytes, and a length that says so", "NO-5"
        )
    yield kind.bad("empty", b"", "NO-15", f"{least}-bytes", "there are no bytes, not even of a length")
    length = max(least, 1)
    one = prefixed_length(length, most)
    base = f"{least if least else min(1, most)}-bytes"
    if len(one) > 1:
        yield kind.bad("short-prefix", one[:-1], "NO-15", base, "it ends within the length")
    yield kind.bad("no-content", one, "NO-15", base, "it ends behind the length")
    content = drawn(f"codec/opaque/{length}", length)
    yield kind.bad("long", one + content + b"\0", "NO-16", base, "one byte more follows")
    if length > 1:
        yield kind.bad("short", one + content[:-1], "NO-15", base, "the last byte is missing")


def _prefix_cases() -> Iterator[Case]:
    """A length of another size than its type has. The bytes are such that no other rule refuses them before."""
    content = bytes(20)
    kind = _Type("opaque<0..512>")
    yield kind.good(
        "20-bytes", content.hex(), b"\0\x14" + content, "The prefix depends on the type, not on the length.", "NO-5"
    )
    yield kind.bad("u8-prefix", b"\x14" + content, "NO-17", "20-bytes", "the length is a u8", "NO-5")
    yield kind.bad("u24-prefix", b"\0\0\x14" + content, "NO-16", "20-bytes", "the length is a u24", "NO-5")
    yield kind.bad("little-endian", b"\x14\0" + content, "NO-17", "20-bytes", "the length is little-endian", "NO-5")
    kind = _Type("opaque<1..20>")
    yield kind.good("20-bytes", content.hex(), b"\x14" + content, "A length of one byte.", "NO-5")
    yield kind.bad("u16-prefix", b"\0\x14" + content, "NO-17", "20-bytes", "the length is a u16", "NO-5")
    kind = _Type("opaque<1..70000>")
    yield kind.good("20-bytes", content.hex(), b"\0\0\x14" + content, "A length of three bytes.", "NO-5")
    yield kind.bad("u16-prefix", b"\0\x14" + content, "NO-15", "20-bytes", "the length is a u16", "NO-5")


_CONTROLS = [text for text in NO_TEXT if text in {b"\0", b"\x1f", b"\x7f"} or text[:1] == b"\xc2"]
_TEXT_COMMENTS = {
    " ": "A space, also alone: nothing is trimmed.",
    "~": "The last before DEL.",
    "\u00a0": "U+00A0, the first behind the C1 controls.",
    "\u2028": "U+2028, a line separator, is no control.",
    "\ud7ff": "U+D7FF, the last before the surrogates.",
    "\ue000": "U+E000, the first behind the surrogates.",
    "\ufeff": "U+FEFF in first place is a character as any other, and stays.",
    "\ufffe": "U+FFFE, a noncharacter.",
    "\uffff": "U+FFFF, a noncharacter, the last of three bytes.",
    "\U00010000": "U+10000, the first of four bytes.",
    "\U0010ffff": "U+10FFFF, the last of all.",
}
_NO_TEXT_CHANGES = {
    "00": "U+0000",
    "1f": "U+001F, the last C0 control",
    "7f": "U+007F",
    "c280": "U+0080, the first C1 control",
    "c285": "U+0085, a C1 control that is a line end",
    "c29f": "U+009F, the last C1 control",
    "c080": "an overlong form of U+0000",
    "c0af": "an overlong form of two bytes of U+002F",
    "e080af": "an overlong form of three bytes of U+002F",
    "f08080af": "an overlong form of four bytes of U+002F",
    "eda080": "the first surrogate, U+D800",
    "edbfbf": "the last surrogate, U+DFFF",
    "f4908080": "U+110000",
    "f5808080": "a first byte f5, of what is above U+10FFFF",
    "c3": "the first byte of two alone",
    "e282": "the first two bytes of three alone",
    "80": "a continuation byte alone",
    "ff": "a byte that is never in UTF-8",
}


def _text_cases() -> Iterator[Case]:
    kind = _Type("utf8<1..64>")
    yield kind.good("x", b"x".hex(), b"\x01x", "One byte.", "NO-6")
    yield kind.good("most", (b"x" * 64).hex(), b"\x40" + b"x" * 64, "64 bytes.", "NO-6")
    wide = "\u20ac".encode() * 21 + b"x"
    yield kind.good("most-wide", wide.hex(), b"\x40" + wide, "64 bytes that are 22 characters.", "NO-6")
    for text in TEXT:
        character = text.decode()
        what = f"u-{ord(character):04x}"
        comment = _TEXT_COMMENTS[character]
        yield kind.good(what, text.hex(), bytes([len(text)]) + text, comment, "NO-11", "NO-12", "NO-13")
    for what, other, comment in (
        ("nfc", "\u00e9", "One character, composed."),
        ("nfd", "e\u0301", "The same to the eye, decomposed: another text, and it stays as it is."),
        ("upper", "A", "Upper case stays."),
        ("spaces", " a ", "Spaces at both ends stay."),
        ("right-to-left", "\u202eabc", "U+202E, which turns what follows, is allowed."),
    ):
        raw = other.encode()
        yield kind.good(what, raw.hex(), bytes([len(raw)]) + raw, comment, "NO-13")
    for text in NO_TEXT:
        by = "NO-12" if text in _CONTROLS else "NO-11"
        change = _NO_TEXT_CHANGES[text.hex()]
        yield kind.bad(f"no-{text.hex()}", bytes([len(text)]) + text, by, "x", change)
        if len(text) < 4:
            inside = b"ab" + text + b"c"
            yield kind.bad(f"no-{text.hex()}-inside", bytes([len(inside)]) + inside, by, "x", f"inside it, {change}")
    over = "\u20ac".encode() * 21 + b"xx"
    yield kind.bad("over", b"\x41" + b"x" * 65, "NO-17", "most", "65 bytes")
    yield kind.bad("over-wide", b"\x41" + over, "NO-17", "most-wide", "65 bytes that are 23 characters", "NO-6")
    yield kind.bad("under", b"\0", "NO-17", "x", "no bytes")
    yield kind.bad("cut-character", b"\x02\xe2\x82\xac", "NO-11", "most-wide", "the length ends within a character")
    empty = _Type("utf8<0..255>")
    yield empty.good("empty", "", b"\0", "No text at all.", "NO-6")
    yield empty.good("newline-free", b"a b".hex(), b"\x03a b", "With a space.", "NO-6")
    yield empty.bad("newline", b"\x03a\nb", "NO-12", "newline-free", "a line feed in the place of the space")
    yield empty.bad("tab", b"\x03a\tb", "NO-12", "newline-free", "a tab in the place of the space")
    long = _Type("utf8<0..1024>")
    yield long.good("most", (b"x" * 1024).hex(), b"\x04\0" + b"x" * 1024, "A length of two bytes.", "NO-6")
    yield long.bad("over", b"\x04\x01" + b"x" * 1025, "NO-17", "most", "1,025 bytes")


def _rest_cases() -> Iterator[Case]:
    kind = _Type("rest<0..3>")
    for length in (0, 1, 3):
        content = b"\xab" * length
        yield kind.good(f"{length}-bytes", content.hex(), content, "No prefix: up to the end.", "NO-8")
    yield kind.bad("over", b"\xab" * 4, "NO-17", "3-bytes", "4 bytes", "NO-8")
    kind = _Type("rest<2..3>")
    yield kind.good("2-bytes", "abab", b"\xab\xab", "The least.", "NO-8")
    yield kind.bad("under", b"\xab", "NO-17", "2-bytes", "one byte", "NO-8")


def _list_cases() -> Iterator[Case]:
    kind = _Type("list<LinkHeader, 0..2048>")
    element, fields = b"\x01\x00\x00\x28", {"type": "01", "length": "000028"}
    for count in (0, 1, 2, 2048):
        encoded = count.to_bytes(2, "big") + element * count
        yield kind.good(f"{count}-elements", [fields] * count, encoded, f"A count of {count}.", "NO-7", "NO-10")
    yield kind.bad("over", b"\x08\x01" + element * 2049, "NO-17", "2048-elements", "2,049 elements", "NO-7")
    yield kind.bad(
        "missing-element", b"\0\x02" + element, "NO-15", "2-elements", "the second element is missing", "NO-7"
    )
    cut = b"\0\x02" + element + element[:3]
    yield kind.bad("cut-element", cut, "NO-15", "2-elements", "the last byte is missing", "NO-7")
    yield kind.bad("surplus", b"\0\x01" + element * 2, "NO-16", "2-elements", "the count is one less", "NO-7")
    yield kind.bad("empty", b"", "NO-15", "0-elements", "there are no bytes, not even of a count", "NO-7")
    yield kind.bad("half-count", b"\0", "NO-15", "0-elements", "it ends within the count", "NO-7")
    yield kind.bad(
        "unfilled", b"\x08\0" + element, "NO-15", "2048-elements", "only one element follows", "NO-7", "NO-22"
    )
    broken = b"\0\x02" + element + b"\x00" + element[1:]
    yield kind.bad("bad-element", broken, "NO-19", "2-elements", "the type of the second element is 0", "NO-20")
    yield kind.bad(
        "u8-count", b"\x01" + element, "NO-15", "1-elements", "the count is a u8, and so reads as 257", "NO-7"
    )
    kind = _Type("list<RosterOffer, 1..3>")
    offer = bytes(7) + b"\x01" + bytes(range(32))
    fields = {"epoch": "0000000000000001", "digest": bytes(range(32)).hex()}
    yield kind.good("1-element", [fields], b"\0\x01" + offer, "The least.", "NO-7", "NO-10")
    yield kind.good("3-elements", [fields] * 3, b"\0\x03" + offer * 3, "The most.", "NO-7", "NO-10")
    yield kind.bad("under", b"\0\0", "NO-17", "1-element", "no elements", "NO-7")
    yield kind.bad("over", b"\0\x04" + offer * 4, "NO-17", "3-elements", "4 elements", "NO-7")
    prefixed = b"\0\x01" + b"\x28" + offer
    yield kind.bad("prefixed-element", prefixed, "NO-16", "1-element", "a length stands before the element", "NO-10")
    kind = _Type("list<RosterRequest, 0..4>")
    yield kind.good("4-elements", [{}] * 4, b"\0\x04", "Elements of no bytes: the count is all there is.", "NO-7")
    yield kind.bad("over", b"\0\x05", "NO-17", "4-elements", "5 elements of no bytes", "NO-7")


def _nested_cases() -> Iterator[Case]:
    kind = _Type("ErrorBody")
    fields = {"code": "0001", "text": b"no".hex()}
    yield kind.good("in-place", fields, b"\0\x01\0\x02no", "A message in a message has no prefix.", "NO-9", "NO-10")
    yield kind.bad("prefixed", b"\x06\0\x01\0\x02no", "NO-15", "in-place", "a length stands before it", "NO-10")
    kind = _Type("RosterRequest")
    yield kind.good("empty", {}, b"", "A message without fields has no bytes.", "NO-9")
    yield kind.bad("long", b"\0", "NO-16", "empty", "one byte")
