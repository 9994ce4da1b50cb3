"""Clients, and members that ask members: whom they dial, in which order, and when they stop. Spec 8.6, 5.12."""

import itertools
import logging
import random
import socket
from collections import Counter
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from tests.nodes import ask, cluster_card, free_ports, loopback_roster, on_both_ports, running_node, with_card
from xlattice_trio import client as client_module
from xlattice_trio import limits
from xlattice_trio.client import ClusterClient, Failure, NoMemberReachable, open_member_stream, source_address
from xlattice_trio.errors import (
    EncodeError,
    ErrorCode,
    HandshakeRefused,
    PeerReported,
    RefusalReason,
    UsageError,
)
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.identity.card import make_card
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedClusterCard
from xlattice_trio.services.echo import echo
from xlattice_trio.services.registry import ServiceContext
from xlattice_trio.testing.identities import test_client, test_identity, test_roster
from xlattice_trio.wire.messages import ClientAccess, Role

REFUSED = ConnectionRefusedError(111, "Connection refused")
IGNORED = HandshakeRefused(RefusalReason.TRANSPORT_CLOSED)


def card_of(members: int = 3, **changes: Any) -> VerifiedClusterCard:
    return cluster_card(test_roster(members, **changes))


@attrs.define
class Dialled:
    """What was asked of `open_secure_stream`."""

    host: str
    port: int
    intent: Intent
    options: dict[str, Any]
    at: float


@attrs.define
class Network:
    """Answers dials in the place of the net. `answer` is given the number of the dial, from 0, and the host."""

    answer: Callable[[int, str], Exception | int] = lambda _number, _host: REFUSED
    dialled: list[Dialled] = attrs.Factory(list)

    async def open_secure_stream(self, host: str, port: int, intent: Intent, **options: Any) -> SecureStream:
        number = len(self.dialled)
        self.dialled.append(Dialled(host, port, intent, options, trio.current_time()))
        await trio.lowlevel.checkpoint()
        answer = self.answer(number, host)
        if isinstance(answer, Exception):
            raise answer
        return cast("SecureStream", SimpleNamespace(established=SimpleNamespace(epoch=answer), host=host))

    @property
    def hosts(self) -> list[str]:
        return [dialled.host for dialled in self.dialled]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setattr(client_module, "open_secure_stream", network.open_secure_stream)
    return network


HOSTS = {"127.0.0.1", "127.0.0.2", "127.0.0.3"}

# ---- who dials ---------------------------------------------------------------


@pytest.mark.spec("HS-1", "SV-28")
@pytest.mark.parametrize(
    ("identity", "access", "role"),
    [
        (None, ClientAccess.ANYONE, Role.ANONYMOUS),
        (test_client(0), ClientAccess.ANYONE, Role.CLIENT),
        (test_client(0), ClientAccess.LISTED, Role.CLIENT),
    ],
)
async def test_it_dials_as_client_with_an_identity_and_anonymously_without(
    identity: Any, access: ClientAccess, role: Role, network: Network, nursery: trio.Nursery
) -> None:
    card = card_of(client_access=access)
    network.answer = lambda _number, _host: 1
    await ClusterClient(card, identity, deadline=3).open_stream("web", nursery=nursery)
    (dialled,) = network.dialled
    assert dialled.port == card.client_port
    assert dialled.intent.role is role
    assert dialled.intent.identity is identity
    assert dialled.intent.service == "web"
    assert dialled.intent.cluster_id == card.cluster_id
    member = card.members[dialled.intent.peer.node_id]
    assert dialled.host == member.host
    assert dialled.intent.peer is member.card
    assert dialled.options == {"deadline": 3, "keepalive_nursery": nursery}


@pytest.mark.spec("SV-29")
def test_it_does_not_dial_anonymously_where_clients_are_listed() -> None:
    with pytest.raises(UsageError):
        ClusterClient(card_of(client_access=ClientAccess.LISTED))


def test_a_member_is_no_client() -> None:
    with pytest.raises(UsageError):
        ClusterClient(card_of(), test_identity(0))


@pytest.mark.parametrize("rounds", [0, -1])
def test_it_tries_at_least_once(rounds: int) -> None:
    with pytest.raises(UsageError):
        ClusterClient(card_of(), rounds=rounds)


@pytest.mark.parametrize("service", ["", "x" * 65])
async def test_a_service_name_that_no_service_can_have_is_the_callers_fault(
    service: str, network: Network, nursery: trio.Nursery
) -> None:
    with pytest.raises(UsageError):
        await ClusterClient(card_of()).open_stream(service, nursery=nursery)
    assert network.dialled == []


# ---- whom, in which order ----------------------------------------------------


@pytest.mark.spec("SV-30", "SV-34")
@pytest.mark.parametrize("failure", [REFUSED, IGNORED, socket.gaierror(-2, "Name or service not known")])
async def test_it_goes_on_to_the_next_member_after_a_failure(
    failure: Exception, network: Network, nursery: trio.Nursery
) -> None:
    network.answer = lambda number, _host: 1 if number == 2 else failure
    stream = await ClusterClient(card_of()).open_stream("web", nursery=nursery)
    assert len(network.hosts) == 3
    assert set(network.hosts) == HOSTS
    assert cast("Any", stream).host == network.hosts[-1]


@pytest.mark.spec("SV-35")
async def test_it_stops_at_the_first_member_that_answers(network: Network, nursery: trio.Nursery) -> None:
    network.answer = lambda _number, _host: 1
    await ClusterClient(card_of()).open_stream("web", nursery=nursery)
    assert len(network.hosts) == 1


async def test_a_fault_that_no_other_member_can_mend_is_raised_at_once(network: Network, nursery: trio.Nursery) -> None:
    network.answer = lambda _number, _host: EncodeError("what")
    with pytest.raises(EncodeError):
        await ClusterClient(card_of()).open_stream("web", nursery=nursery)
    assert len(network.hosts) == 1


@pytest.mark.spec("SV-30", "SV-31")
async def test_each_round_has_every_member_once_and_an_order_of_its_own(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    client = ClusterClient(card_of(), rounds=300, rng=random.Random(1))
    with pytest.raises(NoMemberReachable):
        await client.open_stream("web", nursery=nursery)
    rounds = [tuple(network.hosts[start : start + 3]) for start in range(0, 900, 3)]
    assert all(set(each) == HOSTS for each in rounds)
    orders = Counter(rounds)
    assert len(orders) == 6
    assert min(orders.values()) > 25  # of 300, in 6 orders


async def test_orders_and_waits_are_those_of_its_random_numbers(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    runs = []
    for seed in (7, 7, 8):
        network.dialled.clear()
        began = trio.current_time()
        with pytest.raises(NoMemberReachable):
            await ClusterClient(card_of(), rounds=4, rng=random.Random(seed)).open_stream("web", nursery=nursery)
        runs.append([(dialled.host, round(dialled.at - began, 6)) for dialled in network.dialled])
    assert runs[0] == runs[1] != runs[2]


async def test_a_member_that_is_asked_for_is_the_only_one_dialled(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    card = card_of()
    node_id = test_identity(1).node_id
    with pytest.raises(NoMemberReachable) as caught:
        await ClusterClient(card, rounds=2).open_stream("web", nursery=nursery, member=node_id)
    assert network.hosts == [card.members[node_id].host] * 2
    assert [failure.member for failure in caught.value.failures] == ["node-1"]


async def test_a_member_that_the_card_does_not_list_cannot_be_asked_for(
    network: Network, nursery: trio.Nursery
) -> None:
    with pytest.raises(UsageError):
        await ClusterClient(card_of()).open_stream("web", nursery=nursery, member=test_identity(9).node_id)


# ---- how long ----------------------------------------------------------------


@pytest.mark.spec("SV-33")
async def test_when_all_have_failed_the_error_names_each(network: Network, nursery: trio.Nursery) -> None:
    ignored = HandshakeRefused(RefusalReason.DEADLINE)
    network.answer = lambda _number, host: ignored if host == "127.0.0.2" else REFUSED
    with pytest.raises(NoMemberReachable) as caught:
        await ClusterClient(card_of()).open_stream("web", nursery=nursery)
    assert sorted((failure.member, failure.host, failure.exception) for failure in caught.value.failures) == [
        ("node-0", "127.0.0.1", REFUSED),
        ("node-1", "127.0.0.2", ignored),
        ("node-2", "127.0.0.3", REFUSED),
    ]
    for text in ("node-0 at 127.0.0.1: Connection refused", "node-1 at 127.0.0.2", RefusalReason.DEADLINE.value):
        assert text in str(caught.value)


class Middle(random.Random):
    """No jitter."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


@pytest.mark.spec("SV-32", "LK-7")
async def test_between_rounds_it_waits_longer_each_time(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    with pytest.raises(NoMemberReachable):
        await ClusterClient(card_of(1), rounds=9, rng=Middle()).open_stream("web", nursery=nursery)
    times = [dialled.at for dialled in network.dialled]
    waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60])
    assert trio.current_time() == times[-1]  # no wait behind the last round


@pytest.mark.spec("SV-32")
async def test_each_stream_begins_with_the_shortest_wait(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    client = ClusterClient(card_of(1), rounds=3, rng=Middle())
    for _ in range(2):
        began = trio.current_time()
        with pytest.raises(NoMemberReachable):
            await client.open_stream("web", nursery=nursery)
        assert trio.current_time() - began == pytest.approx(3)


async def test_without_a_number_of_rounds_it_goes_on_until_one_answers(
    network: Network, nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    network.answer = lambda number, _host: REFUSED if number < 300 else 1
    await ClusterClient(card_of(), rounds=None).open_stream("web", nursery=nursery)
    assert len(network.hosts) == 301
    assert trio.current_time() > 90 * limits.BACKOFF_MAX / 2


# ---- an old card -------------------------------------------------------------


@pytest.mark.spec("SV-37", "SV-38")
@pytest.mark.parametrize(("epoch", "told"), [(4, False), (5, False), (6, True)])
async def test_it_tells_its_user_that_the_card_is_old(
    epoch: int, told: bool, network: Network, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    network.answer = lambda _number, _host: epoch
    client = ClusterClient(card_of(epoch=5))
    await client.open_stream("web", nursery=nursery)
    warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == told
    assert client.card.epoch == 5


# ---- with real members -------------------------------------------------------


@pytest.mark.spec("SV-28", "SV-34")
@pytest.mark.parametrize("identity", [None, test_client(0)])
async def test_the_one_member_that_is_up_is_found(identity: Any, tmp_path: Path) -> None:
    roster = loopback_roster(free_ports())
    async with running_node(tmp_path / "1", roster, number=1), trio.open_nursery() as nursery:
        client = ClusterClient(cluster_card(roster), identity)
        for _ in range(5):
            assert await ask(client, nursery) == b"question"


@pytest.mark.spec("SV-35", "SV-8")
async def test_a_refused_service_is_reported_and_no_other_member_is_asked(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports())
    asked = 0

    async def full(stream: SecureStream, _context: ServiceContext) -> None:
        nonlocal asked
        asked += 1
        await stream.close_with_error(ErrorCode.OVER_CAPACITY)

    services = on_both_ports(full=full)
    async with (
        running_node(tmp_path / "0", roster, number=0, services=services),
        running_node(tmp_path / "1", roster, number=1, services=services),
        running_node(tmp_path / "2", roster, number=2, services=services),
        trio.open_nursery() as nursery,
    ):
        client = ClusterClient(cluster_card(roster))
        for name, code in (("full", ErrorCode.OVER_CAPACITY), ("nothing", ErrorCode.UNKNOWN_SERVICE)):
            stream = await client.open_stream(name, nursery=nursery)
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some()
            assert isinstance(caught.value.__cause__, PeerReported)
            assert caught.value.__cause__.code is code
            await stream.aclose()
    assert asked == 1


async def test_a_client_that_the_roster_does_not_list_is_ignored_by_all(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1, client_access=ClientAccess.LISTED)
    async with running_node(tmp_path / "0", roster), trio.open_nursery() as nursery:
        with pytest.raises(NoMemberReachable) as caught:
            await ask(ClusterClient(cluster_card(roster), test_client(1)), nursery)
        (failure,) = caught.value.failures
        assert isinstance(failure.exception, HandshakeRefused)
        assert await ask(ClusterClient(cluster_card(roster), test_client(0)), nursery) == b"question"


async def test_keepalives_are_sent_for_as_long_as_the_stream_lives(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "0", roster, keepalive=1000), trio.open_nursery() as nursery:
        stream = await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery)
        assert len(nursery.child_tasks) == 1
        await stream.aclose()
    # the nursery's block has ended, and so has the task


@pytest.mark.spec("SV-36")
async def test_a_member_that_says_nothing_costs_one_deadline() -> None:
    async with trio.open_nursery() as nursery:
        (silent,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        roster = loopback_roster((1, silent.socket.getsockname()[1]), members=1)
        with pytest.raises(NoMemberReachable) as caught:
            await ClusterClient(cluster_card(roster), deadline=0.05).open_stream("echo", nursery=nursery)
        await silent.aclose()
    (failure,) = caught.value.failures
    assert isinstance(failure.exception, HandshakeRefused)
    assert failure.exception.reason is RefusalReason.DEADLINE


def test_a_failure_is_one_line() -> None:
    assert str(Failure("node-0", "127.0.0.1", REFUSED)) == "node-0 at 127.0.0.1: Connection refused"


# ---- a member asks a member --------------------------------------------------


@pytest.mark.spec("HS-71", "SV-6", "SV-12")
async def test_a_member_asks_another_over_the_cluster_port(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports())
    met: list[ServiceContext] = []

    async def meet(stream: SecureStream, context: ServiceContext) -> None:
        met.append(context)
        await echo(stream, context)

    a, b = test_identity(0), test_identity(1)
    async with (
        running_node(tmp_path / "1", roster, number=1, services=on_both_ports(meet=meet)),
        trio.open_nursery() as nursery,
        await open_member_stream(a, roster, b.node_id, "meet", nursery=nursery) as stream,
    ):
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
    (context,) = met
    assert context.role is Role.MEMBER
    assert context.peer is not None
    assert context.peer.node_id == a.node_id


@pytest.mark.spec("HS-1")
async def test_a_member_is_dialled_by_its_card_in_the_roster_in_force(network: Network, nursery: trio.Nursery) -> None:
    own, peer, spare = test_identity(0), test_identity(1), test_identity(5)
    card = make_card(name=peer.name, sk_priv=peer.sk_priv, ck=spare.ck_priv.public_key(), serial=2)
    roster = with_card(test_roster(), card, epoch=2)
    network.answer = lambda _number, _host: 2
    await open_member_stream(own, roster, peer.node_id, "echo", nursery=nursery)
    (dialled,) = network.dialled
    assert dialled.intent.peer.card == card != peer.card.card
    assert dialled.intent.knock == roster.knock


async def test_a_member_that_is_down_is_an_os_error(nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports())
    with pytest.raises(OSError):
        await open_member_stream(test_identity(0), roster, test_identity(1).node_id, "echo", nursery=nursery)


@pytest.mark.parametrize(("dialler", "dialled"), [(0, 9), (9, 0), (0, 0)])
async def test_both_have_to_be_members_and_not_the_same(dialler: int, dialled: int, nursery: trio.Nursery) -> None:
    roster = test_roster()
    with pytest.raises(UsageError):
        await open_member_stream(
            test_identity(dialler), roster, test_identity(dialled).node_id, "echo", nursery=nursery
        )


async def test_the_deadline_covers_looking_up_names(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    async def never(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(trio.socket, "getaddrinfo", never)
    roster = test_roster(hosts=["127.0.0.1", "node1.example", "127.0.0.3"])
    with pytest.raises(HandshakeRefused) as caught:
        await open_member_stream(
            test_identity(0), roster, test_identity(1).node_id, "echo", nursery=nursery, deadline=7
        )
    assert caught.value.reason is RefusalReason.DEADLINE
    assert trio.current_time() == pytest.approx(7)


# ---- from where --------------------------------------------------------------

NAMES = {
    "both.example": ["2001:db8::1", "192.0.2.1"],
    "four.example": ["192.0.2.1"],
    "six.example": ["2001:db8::1"],
    "debian.example": ["127.0.1.1"],
    "mapped.example": ["::ffff:192.0.2.1"],
    "zone.example": ["fe80::1%eth0"],
}
LOCAL = {"192.0.2.1", "2001:db8::1", "127.0.0.1", "127.0.0.2", "127.0.1.1", "::1"}


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    async def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        await trio.lowlevel.checkpoint()
        if host not in NAMES:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(0, 0, 0, "", (address, 0)) for address in NAMES[host]]

    monkeypatch.setattr(trio.socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(client_module, "_is_local", lambda address: str(address) in LOCAL)


@pytest.mark.spec("HS-71")
@pytest.mark.parametrize(
    ("own", "peer", "source"),
    [
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("198.51.100.9", "198.51.100.1", None),  # translated on the way: not an address of this machine
        ("192.0.2.1", "2001:db8::9", None),
        ("2001:db8::1", "2001:db8::9", "2001:db8::1"),
        ("four.example", "198.51.100.1", "192.0.2.1"),
        ("six.example", "198.51.100.1", None),
        ("both.example", "198.51.100.1", "192.0.2.1"),
        ("both.example", "2001:db8::9", "2001:db8::1"),
        ("four.example", "both.example", "192.0.2.1"),
        ("both.example", "both.example", "2001:db8::1"),
        ("mapped.example", "198.51.100.1", "192.0.2.1"),
        ("zone.example", "2001:db8::9", None),
        ("127.0.0.1", "127.0.0.2", "127.0.0.1"),
        ("192.0.2.1", "127.0.0.2", "192.0.2.1"),
        ("debian.example", "198.51.100.1", None),
        ("debian.example", "127.0.0.1", "127.0.1.1"),
        ("unknown.example", "198.51.100.1", None),
    ],
)
async def test_a_member_dials_from_an_address_of_its_own_host(
    own: str, peer: str, source: str | None, names: None, autojump_clock: MockClock
) -> None:
    assert await source_address(own, peer) == source


async def test_a_peer_whose_name_is_unknown_cannot_be_dialled(names: None) -> None:
    with pytest.raises(OSError):
        await source_address("192.0.2.1", "unknown.example")


def test_only_addresses_of_this_machine_are_local() -> None:
    assert client_module._is_local(ip_address("127.0.0.1"))
    assert not client_module._is_local(ip_address("192.0.2.1"))
    assert not client_module._is_local(ip_address("2001:db8::1"))
