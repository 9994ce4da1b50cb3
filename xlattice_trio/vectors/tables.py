"""The state tables, row by row: what every state does about every event. Spec 5.15, 6.12, 7.2, 7.3, 7.7, 7.8.

What comes out are the tables of the code, through the function by which every state changes; what is expected are
those of the specification's text.
"""

import enum
from collections.abc import Iterator
from typing import Any

import attrs

from xlattice_trio.handshake import transitions as handshake
from xlattice_trio.link import transitions as link
from xlattice_trio.machine import ANY, Table, next_state
from xlattice_trio.session import transitions as session
from xlattice_trio.speccheck.tables import find_directory, read_specification
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Area, Case, Json, Op
from xlattice_trio.vectors.schema import array, name, obj, one_of


@attrs.frozen
class _Machine:
    """A state table, whose it is, and what asks for it."""

    table: Table[Any, Any, Any]
    states: type[enum.StrEnum]
    events: type[enum.StrEnum]
    role: str
    requirements: tuple[str, ...]


_MACHINES = {
    "Initiator": _Machine(
        handshake.INITIATOR, handshake.InitiatorState, handshake.InitiatorEvent, "initiator", ("HS-78",)
    ),
    "Responder": _Machine(
        handshake.RESPONDER, handshake.ResponderState, handshake.ResponderEvent, "responder", ("HS-79",)
    ),
    "Session": _Machine(session.SESSION, session.State, session.Event, "both", ("SE-72",)),
    "LinkDialler": _Machine(link.LINK_DIALLER, link.DiallerState, link.DiallerEvent, "member", ("LK-13",)),
    "LinkAccepter": _Machine(link.LINK_ACCEPTER, link.AccepterState, link.AccepterEvent, "member", ("LK-16",)),
    "LinkRequest": _Machine(link.LINK_REQUEST, link.RequestState, link.RequestEvent, "member", ("LK-32", "LK-33")),
    "LinkMessages": _Machine(link.LINK_MESSAGES, link.MessagesState, link.MessagesEvent, "member", ("LK-51",)),
}


def _state_table(given: Json, _fixtures: Fixtures) -> Json:
    machine = _MACHINES[given["table"]]
    rows = []
    for event in given["events"]:
        action, after = next_state(machine.table, machine.states(given["state"]), machine.events(event))
        rows.append({"action": action.value, "next": after.value})
    return {"rows": rows}


OPS = {
    "state_table": Op(
        _state_table,
        obj({"table": one_of(*_MACHINES), "state": name(), "events": array(name(), 1)}),
        obj({"rows": array(obj({"action": name(), "next": name()}))}),
    )
}


def cases(_fixtures: Fixtures) -> Iterator[Case]:
    written = {
        table.name: {(row["state"], row["event"]): {"action": row["action"], "next": row["next"]} for row in table.rows}
        for table in read_specification(find_directory()).of_kind("State table")
    }
    for title, machine in _MACHINES.items():
        rows = written[title]
        for state in machine.states:
            found = [rows.get((state.value, event.value), rows[state.value, ANY.value]) for event in machine.events]
            slug = state.value.lower().replace("_", "-")
            yield Case(
                name=f"tables/{title.lower()}/{slug}",
                op="state_table",
                requirements=machine.requirements,
                comment=f"What the state {state.value} of the table {title} does about each event.",
                role=machine.role,
                input={"table": title, "state": state.value, "events": [event.value for event in machine.events]},
                expected={"rows": found},
            )


AREA = Area("tables", "The state tables, row by row (5.15, 6.12, 7.2, 7.3, 7.7, 7.8)", OPS, cases)
