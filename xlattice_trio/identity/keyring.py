"""A node's keys while it runs: which encryption keys it accepts, and until when. Spec 3.10.

A `KeyRing` follows the roster in force. All that it does blocks: call it in a thread where that matters.
"""

import logging
import math
import time
from pathlib import Path

from xlattice_trio.crypto import RSAPrivateKey, encode_spki
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.storage import (
    PreviousCk,
    destroy_previous,
    load_identity,
    load_next,
    load_previous,
    promote_next,
    renew_previous,
)
from xlattice_trio.limits import CK_GRACE
from xlattice_trio.roster import VerifiedRoster

log = logging.getLogger(__name__)


class KeyRing:
    """The keys in a node's directory. `grace` is the ck grace time, in seconds. Raises StorageError, as `load` does."""

    identity: LocalIdentity

    def __init__(self, directory: Path, passphrase: bytes | None = None, grace: float = CK_GRACE) -> None:
        self._directory = directory
        self._passphrase = passphrase
        self._grace = grace
        self._next: LocalIdentity | None = None
        self._previous: PreviousCk | None = None
        self._named = b""  # the ck, as SPKI, that the roster in force names for this node
        self.load()

    def load(self) -> None:
        """Read the keys anew: one may have been prepared. Raises StorageError, and then nothing has changed."""
        directory, passphrase = self._directory, self._passphrase
        found = (
            load_identity(directory, passphrase),
            load_next(directory, passphrase),
            load_previous(directory, passphrase),
        )
        self.identity, self._next, self._previous = found

    def follow(self, roster: VerifiedRoster) -> None:
        """`roster` is in force: if it names the prepared ck, that becomes the node's own. [RO-49]

        A roster that names a ck which is not here is reported in the log. [RO-54] Raises StorageError.
        """
        member = roster.members.get(self.identity.node_id)
        if member is None:
            return
        before, self._named = self._named, member.card.card.ck
        if before == self._previous_spki() != self._named:  # it was in force again, and is replaced again [RO-49]
            renew_previous(self._directory, now=time.time())
            self.load()
        if self._next is not None and self._next.card.card.ck == self._named:
            promote_next(self._directory, now=time.time())
            self.load()
        if self._named not in (self.identity.card.card.ck, self._previous_spki()):
            log.warning(
                "the roster names an encryption key that is not in %s: peers with this roster cannot reach this node; "
                "give the authority the card that `xlattice node card` prints",
                self._directory,
            )

    def accepted(self) -> list[RSAPrivateKey]:
        """Newest first: prepared, in force, previous. [RO-53] [HS-27]"""
        keys = [] if self._next is None else [self._next.ck_priv]
        keys.append(self.identity.ck_priv)
        if self._previous is not None and time.time() < self.previous_ends_at:
            keys.append(self._previous.ck_priv)
        return keys

    @property
    def previous_ends_at(self) -> float:
        """When the previous ck is to be destroyed, in seconds since 1970.

        Infinity if there is none, or if the roster in force names it again. [RO-50]
        """
        if self._previous is None or self._previous_spki() == self._named:
            return math.inf
        return self._previous.since + self._grace

    def _previous_spki(self) -> bytes | None:
        return None if self._previous is None else encode_spki(self._previous.ck_priv.public_key())

    def destroy_previous(self) -> None:
        """Its time is over. [RO-50]"""
        self._previous = None
        destroy_previous(self._directory)
