"""Rosters for tests of links, and one side of a link with a peer that says whatever a test likes."""

import functools
from typing import Any

from xlattice_trio.link.protocol import Holding, LinkEvent, LinkExchange, SendBye, SendData
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.identities import test_roster
from xlattice_trio.wire.codec import decode, encode
from xlattice_trio.wire.messages import RosterOffer

NOW = 1000.0


@functools.cache
def roster_of(epoch: int, **changes: Any) -> VerifiedRoster:
    """The test roster at an epoch; made once, so that its signature is always the same."""
    return test_roster(epoch=epoch, **changes)


@functools.cache
def other_roster_of(epoch: int) -> VerifiedRoster:
    """Another roster of that epoch: it has no clients."""
    return test_roster(clients=0, epoch=epoch)


def message(type_: int, body: bytes = b"", length: int | None = None) -> bytes:
    """A link message by its bytes, whatever they mean: Spec 7.5 once more."""
    return bytes([type_]) + (len(body) if length is None else length).to_bytes(3, "big") + body


def offer(roster: VerifiedRoster) -> bytes:
    return message(1, roster.epoch.to_bytes(8, "big") + roster.digest)


def offer_of(epoch: int, digest: bytes = b"\xd1" * 32) -> bytes:
    """An offer of a roster that nobody has seen."""
    return message(1, epoch.to_bytes(8, "big") + digest)


REQUEST = message(2)


def transfer(roster: VerifiedRoster) -> bytes:
    return message(3, encode(roster.roster))


def sent(exchange: LinkExchange, now: float = NOW, size: int = 65_536) -> bytes:
    """All that an exchange has to write, up to a Bye."""
    data = bytearray()
    while isinstance(piece := exchange.next_piece(now, size), SendData):
        assert 1 <= len(piece.data) <= size
        data += piece.data
    assert not isinstance(piece, SendBye)
    return bytes(data)


def messages_in(data: bytes) -> list[tuple[int, bytes]]:
    """Type and body of each link message in `data`, which holds whole ones."""
    found = []
    while data:
        end = 4 + int.from_bytes(data[1:4], "big")
        assert len(data) >= end
        found.append((data[0], data[4:end]))
        data = data[end:]
    return found


def take(exchange: LinkExchange, data: bytes, now: float = NOW) -> LinkEvent:
    """What the exchange makes of bytes that arrive: the first event."""
    exchange.receive_data(data, now)
    return exchange.next_event()


def exchanged(own: VerifiedRoster, peer: VerifiedRoster | bytes) -> LinkExchange:
    """A link on which both sides have offered."""
    exchange = LinkExchange(Holding(own))
    assert messages_in(sent(exchange)) == [(1, own.epoch.to_bytes(8, "big") + own.digest)]
    theirs = peer if isinstance(peer, bytes) else offer(peer)
    take(exchange, theirs)
    assert exchange.peer_offer == decode(RosterOffer, theirs[4:])
    return exchange
