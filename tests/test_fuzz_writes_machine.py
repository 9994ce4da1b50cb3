"""The machine for writes: it finds nothing in this package, and finds what is put into `net.stream`.

Each rule is a story, and so every one of them is also told alone, with every word that it can have.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import trio

from tests.machines import run_briefly
from xlattice_trio.fuzz.machines.base import with_driver
from xlattice_trio.fuzz.machines.writes import _SAID, WritesMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.target import TargetCrashed
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.net import stream
from xlattice_trio.net.stream import SecureStream

OnTrio = with_driver(WritesMachine, Memory)


def told(rule: str, **words: Any) -> None:
    """A story, with each combination of these words."""
    for chosen in itertools.product(*words.values()):
        machine = OnTrio()
        try:
            getattr(machine, rule)(**dict(zip(words, chosen, strict=True)))
        finally:
            machine.teardown()


STORIES: dict[str, dict[str, Any]] = {
    "cross_byes": {"side": Side, "room": (0, 20), "said": ("Bye", "data, Bye"), "takes": (True, False)},
    "say_bye_behind_data": {"side": Side, "size": (1, 200_000), "room": (0, 20), "said": ("", "data", "Bye")},
    "fail_while_writing": {
        "side": (Side.RESPONDER,),
        "size": (1, 70_000),
        "room": (0, 20),
        "how": ("own", "violation", "empty"),
        "takes": (True, False),
    },
    "close_while_nothing_is_taken": {"side": Side, "room": (0, 20), "early": (True, False), "seconds": (0.0, 30.0)},
    "close_while_writing": {"side": Side, "size": (1, 70_000), "room": (0, 20)},
    "close_with_data_that_was_not_taken": {"side": Side, "size": (2, 65_536)},
    "cancel_a_write": {
        "side": (Side.INITIATOR,),
        "what": ("data", "Bye"),
        "size": (70_000,),
        "room": (5,),
        "said": sorted(_SAID),
        "then": ("", "data", "error", "close"),
    },
    "fail_a_write": {
        "side": (Side.INITIATOR,),
        "said": sorted(_SAID),
        "what": ("data", "Bye"),
        "reads": (True, False),
        "ends": (True, False),
    },
    "fail_a_keepalive": {"side": Side, "room": (0, 20), "breaks": (True, False), "reads": (True, False)},
    "hold_back_reading": {
        "side": Side,
        "keepalive": (1000, 15_000),
        "waited": (0.0, 2.5),
        "held": (1.0, 100.0),
        "said": (True, False),
    },
    "keep_alive_behind_a_write": {"side": Side, "size": (1, 200_000), "room": (0, 20)},
}


@pytest.mark.parametrize("story", STORIES)
@pytest.mark.spec(
    "SE-17", "SE-18", "SE-36", "SE-37", "SE-47", "SE-52", "SE-63", "SE-68", "SE-70", "SE-80", "SE-83", "SE-84"
)
def test_every_story_ends_well(story: str) -> None:
    told(story, **STORIES[story])


def test_there_is_a_story_for_every_rule() -> None:
    rules = {name for name, value in vars(WritesMachine).items() if hasattr(value, "hypothesis_stateful_rule")}
    assert rules == set(STORIES)


# ---- what is put in is found -------------------------------------------------


def found(examples: int = 60) -> bool:
    """Whether a short run, the same each time, finds something."""
    try:
        run_briefly(OnTrio, examples)
    except (AssertionError, TargetCrashed):
        return True
    return False


def test_nothing_is_found() -> None:
    assert not found(10)


@pytest.mark.parametrize(
    ("name", "value"), [("ERROR_LINGER", 2), ("ERROR_LINGER", 0.5), ("BYE_LINGER", 4), ("WRITE_DEADLINE", 200)]
)
def test_a_wrong_clock_is_found(name: str, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "WRITE_DEADLINE":
        defaults = SecureStream.__init__.__kwdefaults__
        assert defaults is not None
        monkeypatch.setitem(defaults, "write_deadline", value)
    else:
        monkeypatch.setattr(stream, name, value)
    assert found()


def _writes_after_a_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SecureStream, "_set_cut_off", lambda self, exc: None)


def _does_not_read_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    async def explain(self: SecureStream) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(SecureStream, "_explain", explain)


def _closes_under_its_own_bye(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLock:
        async def __aexit__(self, *args: object) -> None:
            await trio.lowlevel.checkpoint()

        async def __aenter__(self) -> None:
            await trio.lowlevel.checkpoint()

    monkeypatch.setattr(trio, "StrictFIFOLock", NoLock)


@pytest.mark.parametrize(
    "put_in",
    [
        _writes_after_a_cut,
        _does_not_read_after_a_failure,
        _closes_under_its_own_bye,
    ],
)
def test_a_faulty_stream_is_found(
    put_in: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_in(monkeypatch)
    assert found()
