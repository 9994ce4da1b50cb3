"""Drivers by name, and the live one's target as a worker is told of it."""

import functools
from collections.abc import Mapping
from pathlib import Path

from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz.live import Live, cast_of_card
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.sansio import SansIO
from xlattice_trio.fuzz.target import Driver
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.storage import load_cluster_card, load_identity

DRIVERS = ("sansio", "memory", "live")


def make_driver(name: str, live: Mapping[str, str] | None = None) -> Driver:
    """A new driver. `live` has `target`, HOST:PORT, `card`, a file, and maybe `member`, a name, and `identity`, the
    directory of a node without passphrase. Raises UsageError, IdentityError.
    """
    match name:
        case "sansio":
            return SansIO()
        case "memory":
            return Memory()
        case "live" if live is not None:
            return _live(tuple(sorted(live.items())))()
    raise UsageError(f"there is no driver {name!r}: there are {', '.join(DRIVERS)}, the last one with a target")


def address_of(target: str) -> tuple[str, int]:
    """HOST and PORT of HOST:PORT. Raises UsageError."""
    host, _, port = target.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise UsageError(f"{target!r} is no target: HOST:PORT is expected")
    return host.strip("[]"), int(port)


@functools.cache  # the files are read once
def _live(given: tuple[tuple[str, str], ...]) -> "functools.partial[Live]":
    live = dict(given)
    identity = load_identity(Path(live["identity"]), None) if "identity" in live else None
    cast = cast_of_card(load_cluster_card(Path(live["card"])), live.get("member"), identity)
    return functools.partial(Live, {Port.CLIENT: address_of(live["target"])}, cast)
