"""What a machine is called, what it attacks, and which drivers it runs with: what campaigns choose from."""

from collections.abc import Callable

import attrs

from xlattice_trio.fuzz.machines.base import TargetMachine, with_driver
from xlattice_trio.fuzz.target import Driver


@attrs.frozen
class MachineInfo:
    """One machine. `name` is that of `--machine`, `title` the invariant that it attacks, in a line.

    `drivers` are those that it runs with. Of each row of the state `tables`, by their names in `reach`, it is demanded
    that the machine takes it, if it is given the steps.
    """

    name: str
    title: str
    machine: type[TargetMachine]
    drivers: tuple[str, ...] = ("sansio", "memory", "live")
    tables: tuple[str, ...] = ()

    def make(self, driver: Callable[[], Driver]) -> type[TargetMachine]:
        """The machine with this driver."""
        return with_driver(self.machine, driver)
