"""What every machine begins with: a driver, an attacker, and an end that leaves nothing behind."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

from hypothesis.stateful import RuleBasedStateMachine

from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.sansio import SansIO
from xlattice_trio.fuzz.target import Driver
from xlattice_trio.testing.toolbox import Attacker

M = TypeVar("M", bound="TargetMachine")


class TargetMachine(RuleBasedStateMachine):
    """A machine that drives a target through a driver, and knows nothing else of it.

    `make_driver` is the class's to be replaced: a campaign runs the same rules with each driver (`with_driver`). The
    attacker has the keys of everybody but the responder.
    """

    make_driver: ClassVar[Callable[[], Driver]] = SansIO

    def __init__(self) -> None:
        super().__init__()
        self.driver: Driver = type(self).make_driver()
        self.attacker = Attacker()

    def meet(self, cast: Cast | None = None) -> Cast:
        """The attacker gets the keys of everybody in the cast, the default one if None, and the knock."""
        cast = make_cast() if cast is None else cast
        for identity in cast.everybody():
            self.attacker.own(identity)
        if cast.knock is not None:
            self.attacker.learn_knock(cast.knock)
        return cast

    def teardown(self) -> None:
        """Ends the target, after a failure too."""
        self.driver.close()


def with_driver(machine: type[M], make_driver: Callable[[], Driver]) -> type[M]:
    """The same machine with another driver."""
    return type(machine.__name__, (machine,), {"make_driver": staticmethod(make_driver), "__doc__": machine.__doc__})
