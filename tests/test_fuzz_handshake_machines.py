"""The machines for the handshake: they find nothing in this package, and find what is put into it.

Faults are put in by exchanging a row, a limit or a function while the machine runs.
"""

import re
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.machines import run_briefly
from xlattice_trio import crypto
from xlattice_trio.crypto import NoSecret
from xlattice_trio.errors import RefusalReason, XLatticeError
from xlattice_trio.fuzz import oracle, reach
from xlattice_trio.fuzz.cast import make_cast
from xlattice_trio.fuzz.confirms import BEHIND, CONFIRMS, OTHERS
from xlattice_trio.fuzz.hellos import COMERS, HELLOS
from xlattice_trio.fuzz.machines import initiator as initiator_machine
from xlattice_trio.fuzz.machines import responder as responder_machine
from xlattice_trio.fuzz.machines.base import TargetMachine, with_driver
from xlattice_trio.fuzz.machines.initiator import BLIND, KINDS, REPLIES, InitiatorMachine
from xlattice_trio.fuzz.machines.middle import MiddleMachine
from xlattice_trio.fuzz.machines.responder import ResponderClientMachine, ResponderClusterMachine, ResponderMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.fuzz.oracle import LOW_ORDER, Fresh, body_refusal, check_refused, first_refusal, gives_zero, pieces
from xlattice_trio.fuzz.rosters import Listing, encryption_key, first_listing, roster_of
from xlattice_trio.handshake import initiator, key_schedule, responder
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.transitions import INITIATOR, RESPONDER, Action, InitiatorState, ResponderState
from xlattice_trio.machine import ANY
from xlattice_trio.speccheck.tables import find_directory
from xlattice_trio.testing.toolbox import Attacker, with_field
from xlattice_trio.wire import framing
from xlattice_trio.wire.messages import ClientAccess, FrameKind, HelloBody

R = RefusalReason
EVERY_MACHINE = (ResponderClientMachine, ResponderClusterMachine, InitiatorMachine, MiddleMachine)
PORTS = {Port.CLIENT: ResponderClientMachine, Port.CLUSTER: ResponderClusterMachine}


def run(machine: type[TargetMachine], examples: int) -> None:
    """A short run, the same each time."""
    run_briefly(machine, examples, steps=20)


def found(machine: type[TargetMachine], examples: int = 600) -> bool:
    """Whether something is found."""
    try:
        run(machine, examples)
    except (AssertionError, AttributeError, ExceptionGroup, XLatticeError):
        return True
    return False


def responder_at(port: Port, cast: str = "usual") -> ResponderMachine:
    """A machine that has begun."""
    machine = PORTS[port]()
    machine.start(cast, 0, 15_000)
    return machine


# ---- nothing is wrong --------------------------------------------------------


@pytest.mark.parametrize("machine", EVERY_MACHINE)
def test_nothing_is_found(machine: type[TargetMachine]) -> None:
    run(machine, 12)


@pytest.mark.parametrize("machine", EVERY_MACHINE)
def test_nothing_is_found_on_trio(machine: type[TargetMachine]) -> None:
    run(with_driver(machine, Memory), 4)


@pytest.mark.parametrize(
    ("machine", "table"),
    [(ResponderClientMachine, "RESPONDER"), (ResponderClusterMachine, "RESPONDER"), (InitiatorMachine, "INITIATOR")],
)
def test_every_row_of_the_state_table_is_taken(machine: type[TargetMachine], table: str) -> None:
    with reach.observe() as seen:
        run(machine, 80)
    assert reach.missing(seen.counts, [table], 1) == []


# ---- every line of every table, by itself ------------------------------------


@pytest.mark.parametrize("port", list(Port))
@pytest.mark.parametrize("what", sorted(HELLOS))
def test_hello_is_refused_for_what_is_wrong_with_it(what: str, port: Port) -> None:
    machine = responder_at(port)
    for number, who in enumerate(COMERS[port]):
        for more in (0, 1, 5, 77):
            machine.say_wrongly(what, who, number + more, 1000 * number)


@pytest.mark.parametrize("cast", ["usual", "3072 bits", "4096 bits"])
def test_a_length_is_refused_only_if_no_accepted_ck_has_it(cast: str) -> None:
    machine = responder_at(Port.CLIENT, cast)
    machine.adopt(change="ck", number=0)  # of another size, and the one before is accepted too
    for number in range(20):
        machine.say_wrongly("length", "client", number, 1000)


@pytest.mark.parametrize("cast", ["listed", "short ids", "3072 bits", "4096 bits"])
def test_hello_is_refused_for_what_is_wrong_with_it_in_every_cast(cast: str) -> None:
    for port in Port:
        machine = responder_at(port, cast)
        for number, what in enumerate(sorted(HELLOS)):
            machine.say_wrongly(what, COMERS[port][number % 3], number, number)


@pytest.mark.parametrize("port", list(Port))
@pytest.mark.parametrize("what", sorted(CONFIRMS))
def test_first_record_is_refused_for_what_is_wrong_with_it(what: str, port: Port) -> None:
    machine = responder_at(port)
    for number, who in enumerate(COMERS[port]):
        machine.say_confirm_wrongly(what, who, number, number)


@pytest.mark.parametrize("port", list(Port))
def test_other_protocols_and_bytes_behind_a_hello_are_refused(port: Port) -> None:
    machine = responder_at(port)
    for name in OTHERS:
        machine.say_only(name, leave=True)
    for name in BEHIND:
        machine.say_behind(COMERS[port][0], 0, name)


@pytest.mark.parametrize("cast", ["usual", "short ids", "3072 bits", "4096 bits"])
@pytest.mark.parametrize("kind", KINDS)
def test_reply_is_refused_for_what_is_wrong_with_it(kind: str, cast: str) -> None:
    machine = InitiatorMachine()
    machine.start(cast, 0, 15_000)
    for what in REPLIES:
        for number in (0, 3, 6) if cast == "usual" else (0,):
            machine.say_wrongly(what, kind, number, number)
    for what in BLIND:
        machine.answer_blindly(what, kind, 0)


def test_no_two_things_that_are_said_have_one_name() -> None:
    assert not set(OTHERS) & set(BEHIND)


def test_every_requirement_that_a_table_names_is_there() -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in find_directory().glob("*.md"))
    known = set(re.findall(r"^(?:- |\d+\. )\[([A-Z]+-\d+)\]", texts, re.MULTILINE))
    named = {wrong.requirement for table in (HELLOS, CONFIRMS, REPLIES) for wrong in table.values()}
    assert named - known == set()


# ---- what is put in is found -------------------------------------------------


@pytest.mark.parametrize(
    ("machine", "table", "at", "is_now"),
    [
        (ResponderClientMachine, RESPONDER, (ResponderState.IGNORED, ANY), ResponderState.AWAIT_HELLO),
        (ResponderClusterMachine, RESPONDER, (ResponderState.AWAIT_CONFIRM, ANY), ResponderState.AWAIT_CONFIRM),
        (InitiatorMachine, INITIATOR, (InitiatorState.ESTABLISHED, ANY), InitiatorState.FAILED),
        (InitiatorMachine, INITIATOR, (InitiatorState.START, ANY), InitiatorState.START),
    ],
)
def test_a_wrong_row_is_found(
    machine: type[TargetMachine], table: Any, at: Any, is_now: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(table, at, (Action.NOTHING, is_now))
    assert found(machine)


def accept_any_signature(*_: object) -> None:
    """Verifies nothing."""


def zeros_instead(key: Any, ciphertext: bytes, fallback: bytes) -> bytes:
    """What does not decrypt goes on with zeros."""
    return _oaep_decrypt(key, ciphertext, bytes(len(fallback)))


_oaep_decrypt = crypto.oaep_decrypt
_secret = crypto.x25519_secret


def any_secret(key: Any, share: bytes) -> bytes:
    """A secret of zeros is one, too."""
    try:
        return _secret(key, share)
    except NoSecret:
        return bytes(32)


def th_of_hello(hello_frame: bytes, _reply_frame: bytes) -> bytes:
    """A transcript hash without the HelloReply."""
    return crypto.digest(crypto.Label.TRANSCRIPT, hello_frame)


def admits_all(*_: object) -> bool:
    """A roster that everybody is in."""
    return True


def remembers_all(cache: ReplayCache, digest: bytes) -> bool:
    """A replay cache that a look-up changes."""
    return not cache.insert(digest)


@pytest.mark.parametrize(
    ("machine", "where", "name", "value"),
    [
        (ResponderClientMachine, crypto, "pss_verify", accept_any_signature),
        (MiddleMachine, crypto, "pss_verify", accept_any_signature),
        (ResponderClientMachine, crypto, "oaep_decrypt", zeros_instead),
        (ResponderClusterMachine, crypto, "x25519_secret", any_secret),
        (InitiatorMachine, crypto, "x25519_secret", any_secret),
        (MiddleMachine, key_schedule, "th", th_of_hello),
        (ResponderClientMachine, responder, "admits", admits_all),
        (MiddleMachine, responder, "admits", admits_all),
        (ResponderClientMachine, ReplayCache, "__contains__", remembers_all),
        (ResponderClusterMachine, responder, "DUE_CONFIRM", framing.Due(FrameKind.RECORD, range(17, 100))),
        (InitiatorMachine, initiator, "LINK_KEEPALIVE_MAX", 60_001),
        (InitiatorMachine, initiator, "DUE_REPLY", framing.Due(FrameKind.HELLO_REPLY, range(1212, 3000))),
    ],
)
def test_a_wrong_function_or_limit_is_found(
    machine: type[TargetMachine], where: Any, name: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(where, name, value)
    for cached in (responder_machine.check_a_full_cache, responder_machine.check_intervals):
        cached.cache_clear()
    assert found(machine)


def test_an_initiator_that_says_confirm_to_anybody_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "LINK_KEEPALIVE_MAX", 4_000_000_000)
    assert found(InitiatorMachine)
    assert initiator_machine.MACHINES[0].tables == ("INITIATOR",)


# ---- the oracle --------------------------------------------------------------


def test_the_first_check_in_the_order_of_the_specification_counts() -> None:
    assert first_refusal(None, None) is None
    assert first_refusal(R.SIGNATURE, None, R.CLUSTER, R.MEMBERSHIP) is R.CLUSTER


def test_shares_of_low_order_give_nothing_and_others_do() -> None:
    key = crypto.x25519_key(bytes(range(32)))
    for share in LOW_ORDER:
        assert gives_zero(share)
        with pytest.raises(NoSecret):
            crypto.x25519_secret(key, share)
    assert not gives_zero(crypto.x25519_share(key))
    assert len(set(LOW_ORDER)) == 14


def test_encapsulation_keys_are_told_by_their_coefficients() -> None:
    ek = Attacker().mlkem_ek()
    assert oracle.mlkem_ek_is_valid(ek)
    for at, some in ((0, bytes.fromhex("010d")), (1, bytes.fromhex("10d0")), (1149, bytes.fromhex("ffffff"))):
        wrong = bytearray(ek)
        wrong[at : at + len(some)] = some
        assert not oracle.mlkem_ek_is_valid(bytes(wrong))
        with pytest.raises(NoSecret):
            crypto.mlkem_public(bytes(wrong))


@pytest.mark.parametrize(
    ("field", "encoded", "signed", "reason"),
    [
        ("service", b"\x01x", True, None),
        ("service", b"\x01x", False, R.SIGNATURE),
        ("service", b"\0", True, R.HELLO_MALFORMED),
        ("recipient", b"\x14" + bytes(20), True, R.RECIPIENT),
        ("cluster", bytes(32), True, R.CLUSTER),
        ("role", b"\1", True, R.ROLE),
        ("initiator", b"\x20" + bytes(32), True, R.MEMBERSHIP),
        ("x25519", bytes(32), True, R.KEY_SHARE),
        ("mlkem_ek", b"\xff" * 1184, True, R.HELLO_MALFORMED),
        ("pad", b"\0\x01\0", True, R.HELLO_MALFORMED),
    ],
)
def test_a_changed_body_is_judged_by_what_was_changed(
    field: str, encoded: bytes, signed: bool, reason: RefusalReason | None
) -> None:
    machine = responder_at(Port.CLIENT)
    scene = machine.scene("client")
    body = with_field(HelloBody, scene.whole.body, field, encoded)
    admission = first_listing(machine.cast).admission(machine.cast)
    node_id, cluster = machine.cast.card.node_id.value, machine.cast.cluster_id
    found = body_refusal(body, port=Port.CLIENT, node_id=node_id, cluster=cluster, admission=admission, signed=signed)
    assert found is reason


def test_what_comes_twice_is_noticed() -> None:
    fresh = Fresh()
    fresh.add("salt", b"1")
    fresh.add("key2", b"1")
    with pytest.raises(AssertionError, match="salt has come twice"):
        fresh.add("salt", b"1")
    with pytest.raises(AssertionError, match="all zeros"):
        fresh.add("salt", bytes(32))


@attrs.frozen
class Refused:
    """A wire whose target has refused what came."""

    said: bytes = b""
    closed: bool = True
    state: str = "IGNORED"
    refusal: RefusalReason = R.MAC
    established: object = None
    application: object = None

    def received(self) -> bytes:
        return self.said


@pytest.mark.parametrize(
    ("wire", "problem"),
    [
        (Refused(said=b"\0"), "silence is due"),
        (Refused(closed=False), "not closed at once"),
        (Refused(established=1), "yet established"),
        (Refused(application=1), "application"),
        (Refused(state="AWAIT_HELLO"), "state table"),
        (Refused(refusal=R.CLUSTER), "first check"),
    ],
)
def test_a_refusal_that_is_not_one_is_noticed(wire: Any, problem: str) -> None:
    with pytest.raises(AssertionError, match=problem):
        check_refused(wire, R.MAC)


def test_pieces_are_all_there_and_none_is_empty() -> None:
    assert pieces(b"abcdef", []) == [b"abcdef"]
    assert pieces(b"abcdef", [0, 1]) == [b"a", b"bc", b"def"]
    for sizes in ([7, 100, 0], [5], [4, 4, 4]):
        cut = pieces(b"abcdef", sizes)
        assert b"".join(cut) == b"abcdef"
        assert all(cut)


# ---- rosters that follow one another -----------------------------------------


def test_a_roster_says_what_its_listing_says() -> None:
    cast = make_cast(members=3, clients=1)
    listing = Listing(epoch=7, absent=frozenset({cast.members[0].node_id.value}), anyone=False, ck=3, names=2)
    made = roster_of(cast, listing)
    admission = listing.admission(cast)
    assert {node.value for node in made.members} == admission.members
    assert {node.value for node in made.clients} == admission.clients
    assert (made.epoch, made.client_access) == (7, ClientAccess.LISTED)
    own = made.members[cast.card.node_id].card
    assert crypto.encode_spki(own.ck) == crypto.encode_spki(encryption_key(cast, 3).public_key())
    assert own.name == f"{cast.card.name}-2"


@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_encryption_keys_are_many_and_no_two_are_the_same(bits: int) -> None:
    cast = make_cast(bits=bits)
    moduli = [crypto.rsa_modulus(encryption_key(cast, number).public_key()) for number in range(20)]
    assert len(set(moduli)) == 20
    sizes: Callable[[int], int] = lambda number: encryption_key(cast, number).key_size  # noqa: E731
    assert sizes(2) == sizes(0) == bits
    assert sizes(1) != bits
