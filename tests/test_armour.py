"""Armour: each message has one text, and every other text is refused. Spec 2.7."""

import contextlib
from base64 import b64decode, b64encode
from typing import Any

import attrs
import pytest

from xlattice_trio.identity.armour import (
    ArmourError,
    ArmourProblem,
    armour,
    armour_label,
    armour_size,
    unarmour,
)
from xlattice_trio.limits import ROSTER_MAX
from xlattice_trio.roster import make_cluster_card
from xlattice_trio.testing.identities import test_authority as authority
from xlattice_trio.testing.identities import test_identity as identity
from xlattice_trio.testing.identities import test_roster as a_roster
from xlattice_trio.wire.codec import encode
from xlattice_trio.wire.messages import ClusterCard, NodeCard, Roster

MESSAGES: dict[str, Any] = {
    "XLATTICE NODE CARD": identity(0).card.card,
    "XLATTICE ROSTER": a_roster().roster,
    "XLATTICE CLUSTER CARD": make_cluster_card(authority(), a_roster()),
}
CARD = identity(0).card.card
TEXT = armour(CARD)
FIRST, *BODY, LAST = TEXT.decode().splitlines()


def text_of(data: bytes, label: str = "XLATTICE NODE CARD", width: int = 64) -> bytes:
    characters = b64encode(data).decode()
    lines = [characters[i : i + width] for i in range(0, len(characters), width)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


@pytest.mark.spec("ID-31", "ID-32", "ID-33")
@pytest.mark.parametrize("label", MESSAGES)
def test_armour_is_the_label_and_base64_in_lines_of_64(label: str) -> None:
    message = MESSAGES[label]
    text = armour(message)
    first, *body, last, end = text.decode("ascii").split("\n")
    assert (first, last, end) == (f"-----BEGIN {label}-----", f"-----END {label}-----", "")
    assert {len(line) for line in body[:-1]} == {64}
    assert 1 <= len(body[-1]) <= 64
    assert b64decode("".join(body), validate=True) == encode(message)
    assert unarmour(type(message), text) == message
    assert armour_label(text) == label


@pytest.mark.parametrize("length", range(64 * 3))
def test_card_of_any_length_goes_there_and_back(length: int) -> None:
    """The last line has every length, and one to three padding forms."""
    card = attrs.evolve(CARD, name="n" * (1 + length % 64), ck=CARD.ck + bytes(length // 64))
    text = armour(card)
    assert unarmour(NodeCard, text) == card
    assert text == text_of(encode(card))


@pytest.mark.spec("ID-31", "ID-34")
def test_every_truncation_is_refused() -> None:
    for size in range(len(TEXT)):
        with pytest.raises(ArmourError) as caught:
            unarmour(NodeCard, TEXT[:size])
        first_line_is_there = size >= len(FIRST)
        assert caught.value.problem is (ArmourProblem.NOT_STRICT if first_line_is_there else ArmourProblem.NO_ARMOUR)


@pytest.mark.spec("ID-34")
def test_every_changed_byte_is_refused_or_changes_the_content() -> None:
    for i in range(len(TEXT)):
        for byte in (TEXT[i] ^ 1, 0x0A, 0x20, 0x00, 0x3D, 0x41):
            changed = bytearray(TEXT)
            changed[i] = byte
            if changed == TEXT:
                continue
            with contextlib.suppress(ArmourError):
                assert unarmour(NodeCard, bytes(changed)) != CARD


@pytest.mark.spec("ID-34")
def test_every_inserted_white_space_is_refused() -> None:
    for i in range(len(TEXT) + 1):
        for extra in (b"\n", b" ", b"\r", b"\t", b"-", b"="):
            with pytest.raises(ArmourError):
                unarmour(NodeCard, TEXT[:i] + extra + TEXT[i:])


def lines(*parts: str) -> bytes:
    return "".join(f"{part}\n" for part in parts).encode()


SPARE = text_of(encode(CARD) + bytes(-len(encode(CARD)) % 3 + 1))  # ends with "=="

NOT_STRICT = {
    "CR LF": TEXT.replace(b"\n", b"\r\n"),
    "lines of 76": text_of(encode(CARD), width=76),
    "lines of 63": text_of(encode(CARD), width=63),
    "one line": text_of(encode(CARD), width=10_000),
    "a header": lines(FIRST, "Name: node-0", "", *BODY, LAST),
    "an empty line before": lines(FIRST, "", *BODY, LAST),
    "an empty line after": lines(FIRST, *BODY, "", LAST),
    "text after": TEXT + b"more\n",
    "twice": TEXT + TEXT,
    "no last line": lines(FIRST, *BODY),
    "another last line": lines(FIRST, *BODY, "-----END XLATTICE ROSTER-----"),
    "no final newline": TEXT[:-1],
    "two final newlines": TEXT + b"\n",
    "a space after the first line": lines(FIRST + " ", *BODY, LAST),
    "a comment": lines(FIRST, *BODY[:3], "# comment", *BODY[3:], LAST),
    "lines exchanged with other characters": lines(FIRST, *BODY[:-1], "*" + BODY[-1], LAST),
    "no padding": SPARE.replace(b"==\n-----END", b"\n-----END"),
    "more padding": SPARE.replace(b"==\n-----END", b"===\n-----END"),
    "unused bits": SPARE.replace(b"A==\n-----END", b"B==\n-----END"),
    "URL alphabet": text_of(b"\xfb\xff" * 30).replace(b"+", b"-").replace(b"/", b"_"),
}

NO_ARMOUR = {
    "empty": b"",
    "a newline before": b"\n" + TEXT,
    "text before": b"Subject: card\n" + TEXT,
    "a byte order mark": b"\xef\xbb\xbf" + TEXT,
    "four hyphens": TEXT[1:],
    "lower case": TEXT.replace(b"BEGIN", b"begin"),
    "the content alone": encode(CARD),
    "no label": b"-----BEGIN -----\n-----END -----\n",
}

WRONG_LABEL = {
    "a roster": (armour(a_roster().roster), "XLATTICE ROSTER"),
    "a key": (b"-----BEGIN PRIVATE KEY-----\n", "PRIVATE KEY"),
    "a card with another label": (text_of(encode(CARD), "XLATTICE NODE CARDS"), "XLATTICE NODE CARDS"),
    "a label in lower case": (text_of(encode(CARD), "xlattice node card"), "xlattice node card"),
}


def test_text_without_padding_is_the_base_of_the_cases_about_padding() -> None:
    assert b"A==\n-----END" in SPARE
    for name in ("no padding", "more padding", "unused bits"):
        assert NOT_STRICT[name] != SPARE
    with pytest.raises(ArmourError) as caught:
        unarmour(NodeCard, SPARE)  # strict, but with bytes left over in the content
    assert caught.value.problem is ArmourProblem.CONTENT


@pytest.mark.spec("ID-31", "ID-32", "ID-33", "ID-34")
@pytest.mark.parametrize("case", NOT_STRICT)
def test_armour_is_refused_for(case: str) -> None:
    with pytest.raises(ArmourError) as caught:
        unarmour(NodeCard, NOT_STRICT[case])
    assert (caught.value.problem, caught.value.found) == (ArmourProblem.NOT_STRICT, "XLATTICE NODE CARD")


@pytest.mark.spec("ID-31")
@pytest.mark.parametrize("case", NO_ARMOUR)
def test_text_is_no_armour_when_it_begins_with(case: str) -> None:
    with pytest.raises(ArmourError) as caught:
        unarmour(NodeCard, NO_ARMOUR[case])
    assert (caught.value.problem, caught.value.found) == (ArmourProblem.NO_ARMOUR, None)
    assert armour_label(NO_ARMOUR[case]) is None


@pytest.mark.parametrize("case", WRONG_LABEL)
def test_armour_is_refused_when_it_is_of(case: str) -> None:
    text, found = WRONG_LABEL[case]
    with pytest.raises(ArmourError) as caught:
        unarmour(NodeCard, text)
    assert (caught.value.problem, caught.value.found) == (ArmourProblem.WRONG_LABEL, found)


@pytest.mark.spec("ID-20", "RO-9")
@pytest.mark.parametrize("data", [b"", b"\0", encode(CARD)[:-1], encode(CARD) + b"\0"], ids=len)
def test_armour_is_refused_when_its_content_does_not_decode(data: bytes) -> None:
    classes: dict[str, Any] = {
        "XLATTICE NODE CARD": NodeCard,
        "XLATTICE ROSTER": Roster,
        "XLATTICE CLUSTER CARD": ClusterCard,
    }
    for label, cls in classes.items():
        with pytest.raises(ArmourError) as caught:
            unarmour(cls, text_of(data, label))
        assert (caught.value.problem, caught.value.found) == (ArmourProblem.CONTENT, label)


@pytest.mark.parametrize("size", [1, 2, 3, 47, 48, 49, 96, 97, 1000, ROSTER_MAX])
def test_armour_size_is_that_of_the_longest_label(size: int) -> None:
    assert armour_size(size) == len(text_of(bytes(size), "XLATTICE CLUSTER CARD"))
