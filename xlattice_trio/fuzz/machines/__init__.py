"""The state machines, each a module that begins with the invariants which it attacks and ends with its `MACHINES`.

A new module is named in `_MODULES`, and that is all.
"""

import functools
import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from xlattice_trio.errors import UsageError

if TYPE_CHECKING:
    from xlattice_trio.fuzz.registry import MachineInfo

_MODULES = (
    "initiator",
    "responder",
    "middle",
    "session",
    "writes",
    "ports",
    "replacement",
    "links",
    "members",
    "node",
    "clients",
)


@functools.cache
def machines() -> "Mapping[str, MachineInfo]":
    """All machines of this package, by name."""
    found = [info for name in _MODULES for info in importlib.import_module(f"{__name__}.{name}").MACHINES]
    assert len({info.name for info in found}) == len(found), "two machines of one name"
    return {info.name: info for info in found}


def find_machine(name: str) -> "MachineInfo":
    """The machine of this name; `module:NAME` is a MachineInfo in any other module. Raises UsageError."""
    module, colon, attribute = name.partition(":")
    if not colon:
        if name not in machines():
            raise UsageError(f"there is no machine {name!r}: there are {', '.join(machines())}, and module:NAME")
        return machines()[name]
    from xlattice_trio.fuzz.registry import MachineInfo  # which imports the machines' base, in this package

    try:
        info = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as exc:
        raise UsageError(f"there is no machine {name!r}: {exc}") from exc
    if not isinstance(info, MachineInfo):
        raise UsageError(f"{name} is a {type(info).__name__}: the name of a MachineInfo is expected")
    return info
