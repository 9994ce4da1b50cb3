"""The replay cache: which Hellos were verified here before. Spec 5.11.

Best effort: it forgets its oldest entries when it is full, and everything on a restart [HS-63]. A replay that gets past
it costs one RSA operation and draws a HelloReply that its sender cannot open.
"""

from collections import OrderedDict

from xlattice_trio.errors import UsageError
from xlattice_trio.limits import REPLAY_CACHE_MIN


class ReplayCache:
    """The digests of the last `capacity` Hellos that were verified, 32 bytes each."""

    def __init__(self, capacity: int = REPLAY_CACHE_MIN) -> None:
        if capacity < REPLAY_CACHE_MIN:  # [HS-60] [EL-7]
            raise UsageError(f"a replay cache of {capacity} entries: at least {REPLAY_CACHE_MIN} expected")
        self._capacity = capacity
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def insert(self, digest: bytes) -> bool:
        """Remember `digest`: whether it was new. Check and insert are one step. [HS-39]"""
        if digest in self._digests:
            return False
        if len(self._digests) >= self._capacity:
            self._digests.popitem(last=False)  # [HS-61]
        self._digests[digest] = None
        return True
