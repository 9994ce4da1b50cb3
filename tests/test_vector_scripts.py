"""The scripted vectors reach every row of their tables that can be reached from outside, and notice what is changed."""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from xlattice_trio.link import protocol, requests
from xlattice_trio.link.transitions import LINK_MESSAGES, LINK_REQUEST
from xlattice_trio.machine import ANY, Table, next_state
from xlattice_trio.session import connection
from xlattice_trio.session import records as sealing
from xlattice_trio.session.transitions import SESSION
from xlattice_trio.vectors import link, records, run, session
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Area, FailLayer, Json

# Nobody asks for a Rekey where nothing else is sent, and what arrives there is thrown away unopened ([SE-50]).
UNREACHABLE_IN_SESSION = {
    ("DRAINING", "SEND_REKEY"),
    ("DRAINING", ANY),
    ("FAILING", "SEND_REKEY"),
    ("FAILING", ANY),
}
# The code raises no event for which these are: it asks in QUIET alone, and lets a request end in ASKING alone.
UNREACHABLE_IN_REQUESTS = {("QUIET", ANY), ("ASKING", ANY)}


@pytest.fixture(scope="module")
def fixtures() -> Fixtures:
    return run.new_runner().fixtures


def outputs(area: Area, fixtures: Fixtures) -> Iterator[tuple[Json, FailLayer | None]]:
    """What comes out of every case, done anew, and what refuses it."""
    runner = run.Runner(fixtures)
    for case in area.cases(fixtures):
        result = runner.result(case.op, area.ops[case.op], case.input)
        yield result.output, result.refused.layer if result.refused else None


# ---- what they reach ---------------------------------------------------------


def looked_up(monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> list[tuple[Table[Any, Any, Any], str, str]]:
    """The rows that these modules look up from now on: table, state and event."""
    rows: list[tuple[Table[Any, Any, Any], str, str]] = []

    def look(table: Table[Any, Any, Any], state: Any, event: Any) -> tuple[Any, Any]:
        rows.append((table, state, event if (state, event) in table else ANY))
        return next_state(table, state, event)

    for module in modules:
        monkeypatch.setattr(module, "next_state", look)
    return rows


def missing(table: Table[Any, Any, Any], rows: list[tuple[Table[Any, Any, Any], str, str]]) -> set[tuple[str, str]]:
    return set(table) - {(state, event) for which, state, event in rows if which is table}


def test_session_vectors_reach_every_row(fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = looked_up(monkeypatch, connection)
    assert len(list(outputs(session.AREA, fixtures))) > 200
    assert missing(SESSION, rows) == UNREACHABLE_IN_SESSION


def test_link_vectors_reach_every_row(fixtures: Fixtures, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = looked_up(monkeypatch, protocol, requests)
    assert len(list(outputs(link.AREA, fixtures))) > 100
    assert missing(LINK_MESSAGES, rows) == set()
    assert missing(LINK_REQUEST, rows) == UNREACHABLE_IN_REQUESTS


# ---- what they notice --------------------------------------------------------


@pytest.mark.parametrize(
    ("area", "module", "limit", "value"),
    [
        (records, sealing, "_LAST", 1 << 20),
        (session, sealing, "_LAST", 1 << 20),
        (session, sealing, "GENERATION_AGE", 3600.001),
        (session, sealing, "GENERATION_AGE", 3599.999),
        (session, connection, "KEEPALIVE_INTERVALS", 2),
        (session, connection, "KEEPALIVE_INTERVALS", 4),
        (session, connection, "ERROR_TEXT_MAX", 1023),
        (link, protocol, "LINK_BYE_DEADLINE", 9.875),
        (link, protocol, "LINK_BYE_DEADLINE", 10.125),
        (link, requests, "TRANSFER_IDLE_DEADLINE", 14.875),
        (link, requests, "TRANSFER_IDLE_DEADLINE", 15.125),
        (link, requests, "TRANSFER_DEADLINE", 119.875),
        (link, requests, "TRANSFER_DEADLINE", 120.125),
    ],
)
def test_vectors_notice_a_limit_that_is_another(
    area: ModuleType,
    module: ModuleType,
    limit: str,
    value: float,
    fixtures: Fixtures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = list(outputs(area.AREA, fixtures))
    monkeypatch.setattr(module, limit, value)
    assert list(outputs(area.AREA, fixtures)) != before
