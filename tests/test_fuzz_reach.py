"""What is counted of the state machines: every table, every row, and what went by a default row."""

from pathlib import Path

import pytest

import xlattice_trio
from tests.pairs import connection_pair
from xlattice_trio import machine
from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz import reach
from xlattice_trio.link.dialling import Accepter, Dialler
from xlattice_trio.link.transitions import AccepterEvent, DiallerEvent
from xlattice_trio.session import connection
from xlattice_trio.session.transitions import SESSION, Event, State
from xlattice_trio.speccheck.tables import find_directory, read_specification


def test_rows_that_are_entered_are_counted() -> None:
    a, _ = connection_pair()
    with reach.observe() as seen:
        a.send_data(b"x", 0.0)
        a.send_data(b"x", 0.0)
        a.send_bye(0.0)
    assert seen.counts == {("SESSION", "OPEN", "SEND_DATA"): 2, ("SESSION", "OPEN", "SEND_BYE"): 1}
    assert not seen.by_default


def test_an_illegal_event_is_counted_with_the_default_row_and_by_itself() -> None:
    a, _ = connection_pair()
    with reach.observe() as seen:
        a.given_up(0.0)
        with pytest.raises(UsageError):
            a.send_data(b"x", 0.0)
    assert seen.counts["SESSION", "FAILED", "ANY"] == 1
    assert seen.by_default == {("SESSION", "FAILED", "SEND_DATA"): 1}


def test_links_are_counted_too() -> None:
    with reach.observe() as seen:
        Dialler(lambda a, b: a).happens(DiallerEvent.PEER_ADDED, 0.0)
        Accepter().happens(AccepterEvent.LINK_ENDED)
    assert seen.counts == {("LINK_DIALLER", "STOPPED", "PEER_ADDED"): 1, ("LINK_ACCEPTER", "NONE", "ANY"): 1}


def test_nothing_is_counted_before_and_after() -> None:
    before = vars(connection)["next_state"]
    with reach.observe() as outer:
        with reach.observe() as inner:
            connection_pair()[0].send_bye(0.0)
        connection_pair()[0].send_bye(0.0)
    assert vars(connection)["next_state"] is before is machine.next_state
    connection_pair()[0].send_bye(0.0)
    assert (sum(inner.counts.values()), sum(outer.counts.values())) == (1, 2)


def test_it_ends_where_the_observed_fails() -> None:
    with pytest.raises(ZeroDivisionError), reach.observe():
        raise ZeroDivisionError
    assert vars(connection)["next_state"] is machine.next_state


def test_a_table_of_somebody_else_is_not_counted() -> None:
    with reach.observe() as seen:
        vars(connection)["next_state"](dict(SESSION), State.OPEN, Event.SEND_BYE)
    assert not seen.counts


def test_every_module_that_changes_states_is_observed() -> None:
    package = Path(xlattice_trio.__file__).parent
    users = {
        ".".join(path.relative_to(package).with_suffix("").parts)
        for path in package.rglob("*.py")
        if "from xlattice_trio.machine import next_state" in path.read_text(encoding="utf-8")
    }
    users = {
        user for user in users if not user.startswith(("vectors.", "testing.", "fuzz."))
    }  # which ask the tables only
    assert users == set(reach._USERS)


def test_the_tables_are_all_that_the_specification_has() -> None:
    tables = read_specification(find_directory()).of_kind("State table")
    names = {title.upper() for title in (name.replace("_", "") for name in reach.tables())}
    assert names == {table.name.upper() for table in tables}
    rows = {table.name.upper(): len(table.rows) for table in tables}
    assert {name: len(reach.rows(name)) for name in reach.tables()} == {
        name: rows[name.replace("_", "")] for name in reach.tables()
    }


def test_rows_and_defaults_are_every_state_with_every_event() -> None:
    rows, defaults = set(reach.rows("SESSION")), set(reach.defaults("SESSION"))
    assert ("SESSION", "CLOSED", "ANY") in rows
    assert ("SESSION", "CLOSED", "SEND_DATA") in defaults
    assert not rows & defaults
    own = {row for row in rows if row[2] != "ANY"}
    assert own | defaults == {("SESSION", state.value, event.value) for state in State for event in Event}


def test_a_default_row_that_no_event_is_left_for_is_not_demanded() -> None:
    row = ("LINK_ACCEPTER", "LINKED", "ANY")
    assert row in reach.rows("LINK_ACCEPTER")
    assert reach.demanded(["LINK_ACCEPTER"]) == {*reach.rows("LINK_ACCEPTER")} - {row}
    assert row not in reach.missing({}, ["LINK_ACCEPTER"])


def test_what_is_missing_is_said_in_the_order_of_the_table() -> None:
    demanded = reach.demanded(["SESSION", "LINK_REQUEST"])
    assert demanded == {*reach.rows("SESSION"), *reach.rows("LINK_REQUEST")}
    counts = dict.fromkeys(demanded, 2)
    assert reach.missing(counts, ["SESSION", "LINK_REQUEST"], 2) == []
    assert reach.missing(counts, ["SESSION"], 3) == reach.rows("SESSION")
    del counts["SESSION", "FAILED", "ANY"]
    counts["LINK_REQUEST", "QUIET", "ANY"] = 0
    assert reach.missing(counts, ["SESSION", "LINK_REQUEST"]) == [
        ("SESSION", "FAILED", "ANY"),
        ("LINK_REQUEST", "QUIET", "ANY"),
    ]
