"""The machines for sessions and for rosters: they find nothing in this package, and find what is put into it.

Faults are put in by exchanging a row, a limit or a function while the machine runs.
"""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.machines import run_briefly
from xlattice_trio import crypto, roster
from xlattice_trio.cluster.rosters import Conflicts
from xlattice_trio.errors import DecodeError, IdentityError, XLatticeError
from xlattice_trio.fuzz import documents, reach
from xlattice_trio.fuzz.documents import CLUSTER_CARD, LASTING, ROSTER, VARIANTS, Plan, rule_of, wrongs
from xlattice_trio.fuzz.machines.base import TargetMachine, with_driver
from xlattice_trio.fuzz.machines.links import MACHINES as LINKS
from xlattice_trio.fuzz.machines.links import DialMachine, LinkMachine, RequestMachine
from xlattice_trio.fuzz.machines.replacement import MACHINES as REPLACEMENT
from xlattice_trio.fuzz.machines.replacement import AdoptionMachine, CardMachine, RosterMachine, Rules
from xlattice_trio.fuzz.machines.session import MACHINES as SESSIONS
from xlattice_trio.fuzz.machines.session import SessionMachine, TableMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.session_model import (
    Maker,
    Record,
    Sending,
    SessionModel,
    error_body,
    held,
    limit,
    row,
    secrets_of,
    states_of,
)
from xlattice_trio.handshake import responder
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.link import backoff, requests
from xlattice_trio.link.transitions import LINK_MESSAGES, MessagesAction, MessagesEvent, MessagesState
from xlattice_trio.machine import next_state
from xlattice_trio.net import stream
from xlattice_trio.roster import InvalidRoster, verify_cluster_card, verify_roster
from xlattice_trio.session import connection, records
from xlattice_trio.session.transitions import SESSION, Action, Event, State
from xlattice_trio.testing.pairs import I2R, R2I, established, raw_peer
from xlattice_trio.wire import framing
from xlattice_trio.wire.codec import decode
from xlattice_trio.wire.messages import ClusterCard, ErrorBody, FrameKind, RecordType, Roster

# ---- nothing is wrong --------------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "examples"),
    [
        (SessionMachine, 20),
        (TableMachine, 5),
        (RosterMachine, 8),
        (CardMachine, 4),
        (AdoptionMachine, 4),
        (LinkMachine, 5),
        (DialMachine, 5),
        (RequestMachine, 5),
    ],
)
def test_nothing_is_found(machine: type[TargetMachine], examples: int) -> None:
    run_briefly(machine, examples)


def test_nothing_is_found_on_trio() -> None:
    run_briefly(with_driver(SessionMachine, Memory), 8)


def test_the_table_machine_takes_every_row_and_tries_what_can_be_tried() -> None:
    with reach.observe() as seen:
        run_briefly(TableMachine, 10)
    assert reach.missing(seen.counts, ["SESSION"], 5) == []
    # The core throws away unopened what arrives after the end, and nobody measures the time of lingering before it.
    opened = {event.value for event in Event if event.value.endswith(("_OPENED", "_MALFORMED"))} | {"VIOLATION"}
    untried = {row for row in reach.defaults("SESSION") if not seen.by_default[row]}
    assert untried <= {
        row
        for row in reach.defaults("SESSION")
        if (row[1] in ("OPEN", "BYE_SENT", "BYE_RECEIVED") and row[2] == "LINGER_PASSED") or row[2] in opened
    }


@pytest.mark.parametrize("info", LINKS, ids=lambda info: info.name)
def test_the_machines_of_links_take_every_row(info: MachineInfo) -> None:
    with reach.observe() as seen:
        run_briefly(info.machine, 20)
    assert reach.missing(seen.counts, info.tables) == []


def test_machines_have_names_of_their_own() -> None:
    names = [info.name for info in (*SESSIONS, *REPLACEMENT, *LINKS)]
    assert len(set(names)) == len(names)
    assert all(set(info.tables) <= set(reach.tables()) for info in (*SESSIONS, *REPLACEMENT, *LINKS))


# ---- what is put in is found -------------------------------------------------


def found(machine: type[TargetMachine], examples: int = 60) -> bool:
    try:
        run_briefly(machine, examples)
    except (AssertionError, ExceptionGroup, XLatticeError):
        return True
    return False


@pytest.mark.parametrize(
    ("machine", "at", "is_now"),
    [
        (TableMachine, (State.BYE_RECEIVED, Event.DATA_OPENED), (Action.DELIVER, State.BYE_RECEIVED)),
        (TableMachine, (State.OPEN, Event.ERROR_MALFORMED), (Action.SEND_VIOLATION, State.FAILING)),
        (SessionMachine, (State.BYE_SENT, Event.TRANSPORT_CLOSED), (Action.CLOSE, State.CLOSED)),
        (SessionMachine, (State.BYE_RECEIVED, Event.SEND_BYE), (Action.SEAL, State.CLOSED)),
    ],
)
def test_a_wrong_row_is_found(
    machine: type[TargetMachine], at: Any, is_now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SESSION, at, is_now)
    assert found(machine)


@pytest.mark.parametrize(
    ("where", "name", "value"),
    [
        (records, "_LAST", 2**20),
        (records, "GENERATION_AGE", 3599),
        (connection, "KEEPALIVE_INTERVALS", 4),
        (connection, "DUE_RECORD", framing.Due(FrameKind.RECORD, range(17, 65_555))),
    ],
)
def test_a_wrong_limit_is_found(where: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(where, name, value)
    assert found(SessionMachine, 150)


def _tag_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    real = crypto.open_into

    def open_anyway(key: Any, nonce: bytes, aad: bytes, sealed: Any, into: bytearray) -> None:
        try:
            real(key, nonce, aad, sealed, into)
        except crypto.NotOpened:
            into[:] = bytes((RecordType.DATA,)) + bytes(len(into) - 1)

    monkeypatch.setattr(records, "open_into", open_anyway)


def _keys_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records.Opener, "erase", lambda self: None)


def _any_byte_is_a_sign_of_life(monkeypatch: pytest.MonkeyPatch) -> None:
    real = connection.Connection.receive_data

    def receive(self: connection.Connection, data: bytes) -> None:
        self._silence = 0.0
        real(self, data)

    monkeypatch.setattr(connection.Connection, "receive_data", receive)


@pytest.mark.parametrize("put_in", [_tag_is_ignored, _keys_are_kept, _any_byte_is_a_sign_of_life])
def test_a_faulty_core_is_found(put_in: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    put_in(monkeypatch)
    assert found(SessionMachine, 150)


@pytest.mark.parametrize(("name", "value"), [("LINGER_BYTES", 2**20 + 1), ("ERROR_LINGER", 2)])
def test_a_faulty_stream_is_found_on_trio(name: str, value: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, name, value)
    assert found(with_driver(SessionMachine, Memory), 200)


def test_a_lower_epoch_that_is_adopted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "_newer", lambda held, offered, highest: offered > held)
    assert found(RosterMachine)


def test_a_wrong_row_of_a_link_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    row_ = (MessagesState.EXCHANGED, MessagesEvent.TRANSFER_DROPPED)
    monkeypatch.setitem(LINK_MESSAGES, row_, (MessagesAction.SEND_VIOLATION, MessagesState.ENDED))
    assert found(LinkMachine)


def test_a_back_off_that_grows_for_ever_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "BACKOFF_MAX", 10_000)
    assert found(DialMachine)


def test_a_peer_without_penalty_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PEER_PENALTY", 0)
    assert found(RequestMachine)


def test_a_check_of_cards_that_is_left_out_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(roster, "_check_keys", lambda document, cards: None)
    assert found(RosterMachine)
    assert found(CardMachine)


def test_a_stranger_who_is_admitted_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from xlattice_trio.fuzz.machines import replacement

    def admits(held: Any, role: Any, initiator: Any) -> bool:
        return initiator is None or responder.admits(held, role, initiator)

    monkeypatch.setattr(replacement, "admits", admits)
    assert found(RosterMachine)


def test_a_conflict_that_is_reported_twice_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Conflicts.report

    def report(self: Conflicts, *args: Any) -> None:
        self._reported.clear()
        real(self, *args)

    monkeypatch.setattr(Conflicts, "report", report)
    assert found(AdoptionMachine)


# ---- what they are held against ----------------------------------------------


def test_the_model_has_the_rows_of_the_specification() -> None:
    assert states_of("Session") == tuple(state.value for state in State)
    for state, event in itertools.product(State, Event):
        action, next_ = next_state(SESSION, state, event)
        assert row("Session", state.value, event.value) == (tuple(action.value.split(", ")), next_.value)
    assert limit("GENERATION_AGE") == 3600


@given(payload=st.binary(max_size=8) | st.binary(max_size=4).map(lambda text: b"\0\1\0" + bytes((len(text),)) + text))
def test_the_model_and_the_decoder_agree_on_errors(payload: bytes) -> None:
    try:
        expected = decode(ErrorBody, payload)
    except DecodeError:
        assert error_body(payload) is None
    else:
        assert error_body(payload) == (expected.code, expected.text.encode())


def test_a_generation_is_as_long_as_it_may_be() -> None:
    data, rekey = Record(2, b"x"), Record(4)
    sending = Sending(2**20 - 2, 0.0)
    assert [len(sending.seal(data, 0.0)), len(sending.seal(data, 0.0)), sending.seq] == [1, 2, 1]
    assert Sending(5, 0.0).seal(data, 3600.0) == [data]
    assert Sending(5, 0.0).seal(data, 3600.5) == [rekey, data]
    assert Sending(0, None).seal(data, 3600.5) == [data]


def test_a_record_opens_in_its_own_place_only() -> None:
    for ahead, generation, state in ((0, 0, "OPEN"), (1, 0, "FAILING"), (0, 1, "FAILING")):
        maker = Maker(raw_peer(Side.RESPONDER))
        model = SessionModel(Side.RESPONDER, 0, maker.made, 0.0)
        model.arrives(maker.ahead(2, b"x", ahead, generation))
        assert model.state == state


def test_what_is_held_is_found_and_what_is_gone_is_not() -> None:
    session = established(Side.RESPONDER)
    sending, receiving = secrets_of(R2I, 0), secrets_of(I2R, 0)
    secret, key, iv, next_secret = sending
    assert set(held(session.sealer, sending)) == {"a key", next_secret.hex(), hex(int.from_bytes(iv, "big"))}
    assert held(session.opener, [secret, key]) == ["a key"]
    session.sealer.erase()
    session.opener.erase()
    assert held(session, [*sending, *receiving]) == []


# ---- documents ---------------------------------------------------------------


def verified(plan: Plan) -> Any:
    if plan.kind == ROSTER:
        return verify_roster(decode(Roster, plan.encoded))
    return verify_cluster_card(decode(ClusterCard, plan.encoded))


@pytest.mark.parametrize("kind", [ROSTER, CLUSTER_CARD])
def test_every_plan_is_a_valid_document_and_says_something_else(kind: str) -> None:
    plain = verified(Plan(kind))
    contents = {Plan(kind).digest}
    for variant in VARIANTS[1:]:
        plan = Plan(kind, variant=variant)
        found_ = verified(plan)
        assert found_ != plain or kind == CLUSTER_CARD
        if kind == ROSTER:
            assert found_.digest == plan.digest
            assert (plan.digest in contents) == (variant == "signature")
        contents.add(plan.digest)
    for lasting in LASTING:
        assert verified(Plan(kind, lasting=lasting)).epoch == 1


@pytest.mark.parametrize("kind", [ROSTER, CLUSTER_CARD])
@pytest.mark.spec(
    "RO-9", "RO-10", "RO-12", "RO-13", "RO-14", "RO-15", "RO-16", "RO-17", "RO-18", "RO-19", "RO-21", "RO-22", "RO-23"
)
def test_everything_that_can_be_wrong_is_refused_for_what_it_is(kind: str) -> None:
    for wrong in wrongs(kind):
        with pytest.raises(XLatticeError) as caught:
            verified(Plan(kind, wrong=wrong))
        assert isinstance(caught.value, DecodeError | IdentityError), wrong
        assert isinstance(caught.value, InvalidRoster) == bool(rule_of(wrong) or "twice:" in wrong), wrong
        if rule_of(wrong):
            assert isinstance(caught.value, InvalidRoster)
            assert caught.value.rule.name == rule_of(wrong), wrong


def test_every_rule_of_rosters_is_broken_alone_but_that_of_ids() -> None:
    broken = {rule_of(wrong) for wrong in documents.WRONG} - {""}
    # Two equal NodeIDs are two equal keys; the cluster is the verifier's affair.
    assert broken == {rule.name for rule in roster.RosterRule} - {"NODE_ID", "CLUSTER"}


def test_a_plan_gives_the_same_bytes_again() -> None:
    plan = Plan(wrong="signature bit", epoch=7)
    assert plan.encoded is Plan(wrong="signature bit", epoch=7).encoded
    assert plan.armoured.startswith(b"-----BEGIN XLATTICE ROSTER-----\n")


@pytest.mark.parametrize(
    ("offered", "override", "verdict"),
    [
        (Plan(epoch=6), False, "nothing"),
        (Plan(epoch=10), False, "nothing"),
        (Plan(epoch=11), False, "adopted"),
        (Plan(epoch=4), False, "nothing"),
        (Plan(epoch=4), True, "adopted"),
        (Plan(epoch=5), True, "nothing"),
        (Plan(epoch=5, variant="signature"), False, "nothing"),
        (Plan(epoch=5, variant="host"), True, "conflict"),
        (Plan(epoch=5, lasting="knock"), False, "conflict"),
        (Plan(epoch=11, lasting="knock"), False, "refused"),
        (Plan(epoch=11, authority=1), True, "refused"),
        (Plan(epoch=11, wrong="ports"), True, "refused"),
    ],
)
def test_the_rules_are_those_of_the_specification(offered: Plan, override: bool, verdict: str) -> None:
    rules = Rules(Plan(epoch=5), 10)
    assert rules.offer(offered, override) == verdict
    assert rules.held == (offered if verdict == "adopted" else Plan(epoch=5))
    assert rules.highest == max(10, offered.epoch if verdict == "adopted" else 0)
