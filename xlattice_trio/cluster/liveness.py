"""Who is alive, as one node sees it: for services and operators. No message depends on it. Spec 7.11."""

import attrs

from xlattice_trio.identity.node_id import NodeID


@attrs.frozen
class Liveness:
    """What a node knows at a moment. `live` are its live peers, without itself; `members` counts all members."""

    live: frozenset[NodeID]
    members: int
    is_member: bool

    @property
    def quorate(self) -> bool:
        """Whether this node is a member, and it and its live peers are more than half of the members. [LK-59]"""
        return self.is_member and 2 * (len(self.live) + 1) > self.members

    def __str__(self) -> str:
        alive = len(self.live) + self.is_member
        return f"{alive} of {self.members} members live, {'quorate' if self.quorate else 'not quorate'}"


def alone() -> Liveness:
    """What the only member of a cluster knows."""
    return Liveness(frozenset(), 1, is_member=True)
