"""How far into the state machines a run has come: which rows of which tables it has entered, and how often.

Every change of state goes through `machine.next_state`. While `observe` is open, the modules that call it call a
function that counts in its place; at any other time the package is as it is, and nothing is slower. Rows are named by
table, state and event, that of a default row by "ANY". Which events went by a default row is counted too: that is
every illegal one that was tried.
"""

import contextlib
import functools
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from xlattice_trio import machine
from xlattice_trio.handshake.transitions import INITIATOR, RESPONDER
from xlattice_trio.link.transitions import LINK_ACCEPTER, LINK_DIALLER, LINK_MESSAGES, LINK_REQUEST
from xlattice_trio.machine import Default, Table
from xlattice_trio.session.transitions import SESSION

# Table, state, event. Plain names, so that a report can be stored and read without this package.
Row = tuple[str, str, str]

_TABLES: Mapping[str, Table[Any, Any, Any]] = {
    "INITIATOR": INITIATOR,
    "RESPONDER": RESPONDER,
    "SESSION": SESSION,
    "LINK_DIALLER": LINK_DIALLER,
    "LINK_ACCEPTER": LINK_ACCEPTER,
    "LINK_REQUEST": LINK_REQUEST,
    "LINK_MESSAGES": LINK_MESSAGES,
}
_NAMES = {id(table): name for name, table in _TABLES.items()}

# Who changes states: they are loaded before anything is counted, so that none is missed.
_USERS = (
    "handshake.initiator",
    "handshake.responder",
    "session.connection",
    "link.protocol",
    "link.requests",
    "link.dialling",
)
_PACKAGE = __name__.partition(".")[0] + "."


class Reach:
    """What was counted."""

    def __init__(self) -> None:
        self.counts: Counter[Row] = Counter()  # rows of the tables
        self.by_default: Counter[Row] = Counter()  # what went by a default row: with the event itself

    def count(self, table: Table[Any, Any, Any], state: str, event: str) -> None:
        """A row was entered. A table that is none of the package's is not counted."""
        name = _NAMES.get(id(table))
        if name is None:
            return
        if (state, event) in table:
            self.counts[name, str(state), str(event)] += 1
        else:
            self.counts[name, str(state), Default.ANY.name] += 1
            self.by_default[name, str(state), str(event)] += 1


@contextlib.contextmanager
def observe() -> Iterator[Reach]:
    """Counts what happens in this process while it is open. One may be open within another."""
    reach = Reach()
    for user in _USERS:
        importlib.import_module(_PACKAGE + user)
    replaced = [
        (module, vars(module)["next_state"])
        for name, module in list(sys.modules.items())
        if name.startswith(_PACKAGE) and name != __name__ and "next_state" in vars(module)
    ]
    try:
        for module, function in replaced:
            vars(module)["next_state"] = _counting(function, reach)
        yield reach
    finally:
        for module, function in replaced:
            vars(module)["next_state"] = function


def _counting(function: Callable[..., Any], reach: Reach) -> Callable[..., Any]:
    @functools.wraps(function)
    def counting(table: Table[Any, Any, Any], state: Any, event: Any) -> Any:
        reach.count(table, state, event)
        return function(table, state, event)

    return counting


# ---- what there is to be reached ---------------------------------------------


def tables() -> dict[str, Table[Any, Any, Any]]:
    """Every state table of the package, by name."""
    return dict(_TABLES)


def rows(table: str) -> list[Row]:
    """The rows of a table, in its order."""
    return [
        (table, str(state), Default.ANY.name if event is machine.ANY else str(event)) for state, event in _TABLES[table]
    ]


def defaults(table: str) -> list[Row]:
    """Every state with every event that it has no row of its own for."""
    content = _TABLES[table]
    states = list(dict.fromkeys(state for state, _ in content))
    (events,) = {type(event) for _, event in content if event is not machine.ANY}
    return [(table, str(state), str(event)) for state in states for event in events if (state, event) not in content]


def reachable(table: str) -> list[Row]:
    """The rows that can be entered: a default row needs an event that the state has no row for."""
    states = {state for _, state, _ in defaults(table)}
    return [row for row in rows(table) if row[2] != Default.ANY.name or row[1] in states]


def demanded(names: Iterable[str]) -> set[Row]:
    """All rows of these tables that can be entered."""
    return {row for name in names for row in reachable(name)}


def missing(counts: Mapping[Row, int], names: Iterable[str], at_least: int = 1) -> list[Row]:
    """Those of them that were entered less often, in the order of the tables."""
    return [row for name in names for row in reachable(name) if counts.get(row, 0) < at_least]
