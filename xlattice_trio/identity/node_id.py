"""NodeID: the name of a node that nobody can take from it, a hash of its signing key. Spec 2.4."""

import re

import attrs

from xlattice_trio.crypto import Label, digest
from xlattice_trio.errors import IdentityError
from xlattice_trio.limits import NODE_ID_LONG, NODE_ID_SHORT

NODE_ID_SIZES = (NODE_ID_SHORT, NODE_ID_LONG)

_HEX = re.compile("[0-9a-f]*")


def _check_size(_node_id: object, _field: object, value: bytes) -> None:
    if len(value) not in NODE_ID_SIZES:
        raise IdentityError(f"a NodeID of {len(value)} bytes: it has {NODE_ID_SHORT} or {NODE_ID_LONG}")


@attrs.frozen(order=True)
class NodeID:
    """20 or 32 bytes, ordered as unsigned bytes [NO-1]. Any other length raises IdentityError."""

    value: bytes = attrs.field(validator=_check_size, repr=bytes.hex)

    @classmethod
    def of(cls, sk_spki: bytes, size: int) -> "NodeID":
        """The NodeID of the node whose sk has this DER SubjectPublicKeyInfo; `size` is 20 or 32 bytes.

        Raises IdentityError if `size` is neither.
        """
        if size not in NODE_ID_SIZES:
            raise IdentityError(f"a NodeID of {size} bytes: it has {NODE_ID_SHORT} or {NODE_ID_LONG}")
        return cls(digest(Label.NODE_ID, sk_spki)[:size])  # [ID-18]

    @classmethod
    def parse(cls, text: str) -> "NodeID":
        """The NodeID that `str` gave: 40 or 64 lower-case hexadecimal digits. Raises IdentityError."""
        if len(text) not in {2 * size for size in NODE_ID_SIZES} or not _HEX.fullmatch(text):  # [ID-19]
            raise IdentityError(f"{text[:80]!r} is no NodeID: that is 40 or 64 lower-case hexadecimal digits")
        return cls(bytes.fromhex(text))

    def __str__(self) -> str:
        return self.value.hex()

    @property
    def short(self) -> str:
        """The first eight digits, for logs."""
        return self.value[:4].hex()
