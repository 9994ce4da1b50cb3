"""The one way in which a state changes: a table, a state, an event.

A table is a literal dict from (state, event) to (action, next state), one row a line; the row of `ANY` is a state's
default, and every state has one. The same rows stand in the specification's state tables, and the specification check
compares them. Events are facts: whatever has to be verified is verified before the event is named.
"""

import enum
from collections.abc import Mapping
from typing import Literal, TypeVar

State = TypeVar("State", bound=enum.StrEnum)
Event = TypeVar("Event", bound=enum.StrEnum)
Action = TypeVar("Action", bound=enum.StrEnum)


class Default(enum.StrEnum):
    """What stands for every event that a state has no row of its own for."""

    ANY = "any other"


ANY: Literal[Default.ANY] = Default.ANY

Table = Mapping[tuple[State, Event | Literal[Default.ANY]], tuple[Action, State]]


def next_state(table: Table[State, Event, Action], state: State, event: Event) -> tuple[Action, State]:
    """What is to be done about `event` in `state`, and the state after it."""
    row = table.get((state, event))
    return table[state, ANY] if row is None else row
