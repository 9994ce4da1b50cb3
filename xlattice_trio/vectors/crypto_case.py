"""How the vectors of crypto.json are said."""

from xlattice_trio.crypto import Label
from xlattice_trio.vectors.model import Case, FailLayer, Json, Refusal

LABELS = {label.spelling: label for label in Label}


def labels_for(use: str) -> list[str]:
    """The names of the labels with this use: signed, hashed or expanded."""
    return [label.spelling for label in Label if label.use == use]


def case(what: str, op: str, requirements: tuple[str, ...], comment: str, given: Json, expected: Json = None) -> Case:
    return Case(
        name=f"crypto/{what}",
        op=op,
        requirements=requirements,
        comment=comment,
        input=given,
        expected={} if expected is None else expected,
    )


def refused(
    what: str, op: str, layer: FailLayer, by: str, base: str, change: str, given: Json, *requirements: str
) -> Case:
    return Case(
        name=f"crypto/{what}",
        op=op,
        requirements=requirements,
        comment=f"Refused: {change}.",
        input=given,
        refusal=Refusal(layer=layer, by=by, base=f"crypto/{base}", change=change),
    )


def flipped(message: bytes, at: int, bits: int) -> bytes:
    changed = bytearray(message)
    changed[at] ^= bits
    return bytes(changed)
