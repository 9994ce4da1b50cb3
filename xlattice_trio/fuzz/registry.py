"""What a machine is called, what it attacks, and which drivers it runs with: what campaigns choose from."""

from collections.abc import Callable

import attrs

from xlattice_trio.fuzz.machines.base import TargetMachine, with_driver
from xlattice_trio.fuzz.target import Driver


@attrs.frozen
class MachineInfo:
    """One machine. `name` is that of `--machine`, `title` the invariant that it attacks, in a line.

    `drivers` are those that it runs with. `share` is how many examples its batches have, beside those of others: more
    where an example costs little, or much can be wrong in what it attacks. Of each row of the state `tables`, by their
    names in `reach`, it is demanded that the machine takes it, if it is given the steps.
    """

    name: str
    title: str
    machine: type[TargetMachine]
    drivers: tuple[str, ...] = ("sansio", "memory", "live")
    tables: tuple[str, ...] = ()
    share: float = 1.0

    def make(self, driver: Callable[[], Driver]) -> type[TargetMachine]:
        """The machine with this driver."""
        return with_driver(self.machine, driver)
