"""Cards, rosters and cluster cards as text: the strict form of RFC 7468. Spec 2.7.

For each content there is exactly one text. The reader decodes leniently, encodes again and compares, so that no rule
of the text is written down twice.
"""

import binascii
import enum
import re
from base64 import b64encode
from typing import TypeVar

from xlattice_trio.errors import DecodeError, IdentityError
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.messages import ClusterCard, NodeCard, Roster

Armoured = TypeVar("Armoured", NodeCard, Roster, ClusterCard)

LINE = 64  # characters

LABELS: dict[type, str] = {
    NodeCard: "XLATTICE NODE CARD",
    Roster: "XLATTICE ROSTER",
    ClusterCard: "XLATTICE CLUSTER CARD",
}

_FIRST_LINE = re.compile(rb"-----BEGIN ([ -~]{1,64}?)-----")


class ArmourProblem(enum.Enum):
    """What is wrong with a text."""

    NO_ARMOUR = "it is no armoured text"
    WRONG_LABEL = "it holds something else"
    NOT_STRICT = "it is not the one armoured text of its content"
    CONTENT = "its content does not decode"


class ArmourError(IdentityError):
    """A text is not the armour of the message that it should hold.

    `problem` says why; `found` is the label of the first line, if there is one.
    """

    def __init__(self, problem: ArmourProblem, found: str | None, message: str) -> None:
        super().__init__(message)
        self.problem = problem
        self.found = found


def armour_label(text: bytes) -> str | None:
    """The label in the first line of an armoured text or PEM file, or None if it does not begin with one."""
    match = _FIRST_LINE.match(text)
    return match[1].decode("ascii") if match else None


def armour(message: NodeCard | Roster | ClusterCard) -> bytes:
    """The text of a message, ASCII, with its final newline. Raises EncodeError."""
    return _wrap(LABELS[type(message)], encode(message))


def unarmour(cls: type[Armoured], text: bytes) -> Armoured:
    """The message of class `cls` whose one text this is, decoded and not yet verified. Raises ArmourError."""
    expected = LABELS[cls]
    found = armour_label(text)
    if found is None:
        raise ArmourError(
            ArmourProblem.NO_ARMOUR, None, f"no {expected}: the first line should be {_first_line(expected)}"
        )
    if found != expected:
        raise ArmourError(
            ArmourProblem.WRONG_LABEL, found, f"its first line says {found}, where {expected} is expected"
        )
    data = _unwrap(expected, text)
    if data is None:
        raise ArmourError(
            ArmourProblem.NOT_STRICT,
            found,
            f"a damaged {expected}: cut off, altered or reformatted; it has to be exactly as it was written, "
            f"with nothing before or after it",
        )
    try:
        return decode(cls, data)  # [ID-20] [RO-9] [RO-26]
    except DecodeError as exc:
        raise ArmourError(ArmourProblem.CONTENT, found, f"an {expected} whose content is damaged: {exc}") from exc


def armour_size(size: int) -> int:
    """Bytes of the longest text that `size` bytes of content have."""
    characters = (size + 2) // 3 * 4
    return characters + (characters + LINE - 1) // LINE + max(len(_wrap(label, b"")) for label in LABELS.values())


def _first_line(label: str) -> str:
    return f"-----BEGIN {label}-----"


def _last_line(label: str) -> str:
    return f"-----END {label}-----"


def _wrap(label: str, data: bytes) -> bytes:
    characters = b64encode(data).decode("ascii")
    lines = [characters[i : i + LINE] for i in range(0, len(characters), LINE)]  # [ID-33]
    return "\n".join([_first_line(label), *lines, _last_line(label), ""]).encode("ascii")  # [ID-31] [ID-32]


def _unwrap(label: str, text: bytes) -> bytes | None:
    """The content whose text this is, or None if there is none."""
    body = text.removeprefix(_first_line(label).encode()).removesuffix(f"{_last_line(label)}\n".encode())
    try:
        data = binascii.a2b_base64(body)
    except binascii.Error:
        return None
    return data if _wrap(label, data) == text else None  # [ID-34]
