"""A member from its start to its end: services, links, rosters, keys, shutdown. Spec 3.7 to 3.11, 7.9, 7.10, 8."""

import os
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.networks import intent
from tests.nodes import (
    LogWatch,
    ask,
    cluster_card,
    free_ports,
    loopback_roster,
    make_directory,
    on_both_ports,
    running_node,
    watched_log,
    with_card,
    without,
)
from xlattice_trio.client import ClusterClient, NoMemberReachable, open_member_stream
from xlattice_trio.cluster.liveness import Liveness
from xlattice_trio.errors import ErrorCode, IdentityError, PeerReported, StorageError, Truncated, UsageError
from xlattice_trio.handshake.initiator import Initiator
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keys import local_identity
from xlattice_trio.identity.storage import (
    PREVIOUS_CK_FILE,
    load_held_roster,
    load_identity,
    load_next,
    load_previous,
    promote_next,
    save_held_roster,
    save_next,
)
from xlattice_trio.limits import LINK_BYE_DEADLINE
from xlattice_trio.net.listen import PortLimits
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.node import NodeConfig, run_node
from xlattice_trio.services.registry import ServiceContext
from xlattice_trio.testing.identities import test_client, test_identity
from xlattice_trio.wire.messages import ClientAccess, Role

LISTED = ClientAccess.LISTED


async def reported(stream: SecureStream) -> PeerReported:
    """The Error that ends a stream."""
    with pytest.raises(trio.BrokenResourceError) as caught:
        while await stream.receive_some():
            pass
    cause = caught.value.__cause__
    assert isinstance(cause, PeerReported)
    return cause


@pytest.fixture
def log() -> Iterator[LogWatch]:
    with watched_log() as watch:
        yield watch


def reload() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


# ---- services ----------------------------------------------------------------


async def test_anonymous_and_listed_clients_are_served(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster):
        assert await ask(ClusterClient(cluster_card(roster)), nursery) == b"question"
        assert await ask(ClusterClient(cluster_card(roster), test_client(0)), nursery) == b"question"


async def test_a_cluster_for_listed_clients_ignores_all_others(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1, client_access=LISTED)
    async with running_node(tmp_path / "node", roster):
        assert await ask(ClusterClient(cluster_card(roster), test_client(0)), nursery) == b"question"
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(cluster_card(roster), test_client(1)), nursery)
        anyone = cluster_card(loopback_roster((roster.cluster_port, roster.client_port), members=1))
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(anyone), nursery)


async def test_a_member_asks_another_over_the_cluster_port(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports())
    seen = []

    async def who(stream: SecureStream, context: ServiceContext) -> None:
        seen.append((context.role, context.peer and context.peer.node_id, context.service))

    async with running_node(tmp_path / "node", roster, services=on_both_ports(who=who)) as node:
        peer = test_identity(1)
        stream = await open_member_stream(peer, roster, node.identity.node_id, "who", nursery=nursery)
        assert await stream.receive_some() == b""
        await stream.aclose()
    assert seen == [(Role.MEMBER, peer.node_id, "who")]


@pytest.mark.spec("SV-8", "EL-2")
async def test_an_unknown_service_is_answered_with_an_error(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster, services={}):
        stream = await ClusterClient(cluster_card(roster)).open_stream("nothing", nursery=nursery)
        assert (await reported(stream)).code is ErrorCode.UNKNOWN_SERVICE
        await stream.aclose()


# ---- links -------------------------------------------------------------------


@pytest.mark.spec("LK-1", "LK-27", "LK-33", "LK-41", "LK-50", "SV-23")
async def test_a_roster_that_is_loaded_at_one_member_spreads_and_all_part_with_bye(
    tmp_path: Path, log: LogWatch
) -> None:
    ports = free_ports()
    roster = loopback_roster(ports)
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(
                running_node(tmp_path / f"node-{i}", roster, number=i, handle_signals=i == 0, keepalive=0)
            )
            for i in range(3)
        ]
        for _ in nodes:
            await log.until("3 of 3 members live, quorate")
        save_held_roster(nodes[0].directory, loopback_roster(ports, epoch=2), 2)
        reload()
        for _ in nodes:
            await log.until("epoch 2 is in force")
        for node in nodes:
            held = load_held_roster(node.directory)
            assert held is not None
            assert (held.roster.epoch, held.highest) == (2, 2)
        with trio.fail_after(LINK_BYE_DEADLINE / 2):
            nodes[0].stop.set()
            await nodes[0].stopped.wait()
            for _ in range(2):
                await log.until(f"link with {nodes[0].identity.name}: over: the peer said Bye")


@pytest.mark.spec("RO-58", "LK-55", "LK-57")
async def test_a_removed_node_is_told_nothing_and_is_linked_again_when_it_is_back(
    tmp_path: Path, log: LogWatch
) -> None:
    ports = free_ports()
    roster = loopback_roster(ports, members=2)
    async with (
        running_node(tmp_path / "node-0", roster, handle_signals=True) as node,
        running_node(tmp_path / "node-1", roster, number=1) as gone,
    ):
        for _ in range(2):
            await log.until("2 of 2 members live, quorate")
        save_held_roster(node.directory, loopback_roster(ports, members=1, epoch=2), 2)
        reload()
        await log.until("1 of 1 members live, quorate")
        await log.until("1 of 2 members live, not quorate")
        held = load_held_roster(gone.directory)
        assert held is not None
        assert held.roster.epoch == 1
        save_held_roster(node.directory, loopback_roster(ports, members=2, epoch=3), 3)
        reload()
        for _ in range(2):
            await log.until("2 of 2 members live, quorate")


async def test_a_service_learns_who_is_alive(tmp_path: Path, nursery: trio.Nursery, log: LogWatch) -> None:
    seen = []

    async def look(stream: SecureStream, context: ServiceContext) -> None:
        seen.append(context.liveness())

    roster = loopback_roster(free_ports(), members=2)
    services = on_both_ports(look=look)
    async with running_node(tmp_path / "node-0", roster, services=services) as node:
        client = ClusterClient(cluster_card(roster))
        for peers in ((), (test_identity(1).node_id,)):
            async with AsyncExitStack() as stack:
                if peers:
                    await stack.enter_async_context(running_node(tmp_path / "node-1", roster, number=1))
                    await log.until("2 of 2 members live, quorate")
                    await log.until("2 of 2 members live, quorate")
                stream = await client.open_stream("look", nursery=nursery, member=node.identity.node_id)
                assert await stream.receive_some() == b""
                await stream.aclose()
            assert seen[-1] == Liveness(frozenset(peers), 2, True)


@pytest.mark.spec("LK-54", "RO-56", "RO-58")
@pytest.mark.parametrize("removed", ["initiator", "responder"])
async def test_a_handshake_that_a_new_roster_does_not_admit_ends_without_a_word(
    tmp_path: Path, log: LogWatch, removed: str
) -> None:
    ports = free_ports()
    roster = loopback_roster(ports, members=3)
    low, high = sorted((test_identity(0), test_identity(1)), key=lambda identity: identity.node_id)
    number = int(high.name[-1])
    initiator = Initiator(intent(low, roster, high.node_id))
    async with running_node(tmp_path / "node", roster, number=number, handle_signals=True) as node:
        host = roster.members[high.node_id].host
        async with await trio.open_tcp_stream(host, roster.cluster_port) as transport:
            await transport.send_all(initiator.hello())
            reply = bytearray()
            while not initiator.established:
                reply += await transport.receive_some()
                initiator.receive_data(bytes(reply), trio.current_time())
            gone = low if removed == "initiator" else high
            save_held_roster(node.directory, without(roster, gone, epoch=2), 2)
            reload()
            with trio.fail_after(5):  # and not when the handshake's time is over
                assert await transport.receive_some() == b""


# ---- start -------------------------------------------------------------------


async def test_a_node_needs_its_files(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        await run_node(NodeConfig(tmp_path, {}), handle_signals=False)


@pytest.mark.spec("RO-60")
async def test_a_node_that_the_roster_does_not_name_does_not_start(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    with pytest.RaisesGroup(IdentityError, allow_unwrapped=True, flatten_subgroups=True):
        async with running_node(tmp_path / "node", roster, number=2):
            pass


async def test_an_address_that_is_taken_is_the_operators_error(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster):
        with pytest.raises(UsageError):
            await run_node(NodeConfig(tmp_path / "node", {}), handle_signals=False)


async def test_a_node_listens_where_it_is_told_to(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster, listen=["127.0.0.2", "127.0.0.3"]) as node:
        assert node.addresses.client == (("127.0.0.2", roster.client_port), ("127.0.0.3", roster.client_port))
        assert node.addresses.cluster == (("127.0.0.2", roster.cluster_port), ("127.0.0.3", roster.cluster_port))


# ---- stop --------------------------------------------------------------------


@pytest.mark.spec("SV-22", "SV-24")
async def test_a_stopping_node_lets_its_sessions_end_with_bye(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster) as node:
        stream = await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery)
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"hello"
        node.stop.set()
        assert await stream.receive_some() == b""
        await stream.aclose()
        await node.stopped.wait()
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(cluster_card(roster)), nursery)


@pytest.mark.spec("SV-25", "SV-26", "EL-2")
async def test_what_is_left_after_the_grace_time_is_told_that_the_node_stops(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    async def endless(stream: SecureStream, context: ServiceContext) -> None:
        await trio.sleep_forever()

    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster, services=on_both_ports(endless=endless), grace=0.05) as node:
        stream = await ClusterClient(cluster_card(roster)).open_stream("endless", nursery=nursery)
        async with await trio.open_tcp_stream("127.0.0.1", roster.client_port) as in_handshake:
            await wait_all_tasks_blocked()
            node.stop.set()
            assert (await reported(stream)).code is ErrorCode.SHUTTING_DOWN
            assert await in_handshake.receive_some() == b""
        await node.stopped.wait()


async def test_a_cancelled_node_ends_at_once(tmp_path: Path, nursery: trio.Nursery) -> None:
    roster = loopback_roster(free_ports(), members=1)
    client = ClusterClient(cluster_card(roster))
    with trio.CancelScope() as scope:
        async with running_node(tmp_path / "node", roster):
            stream = await client.open_stream("echo", nursery=nursery)
            scope.cancel()
    with pytest.raises(trio.BrokenResourceError) as caught:
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, Truncated)


async def test_signals_stop_a_node(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    for number in (signal.SIGTERM, signal.SIGINT):
        async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
            os.kill(os.getpid(), number)
            await node.stopped.wait()


# ---- rosters and keys --------------------------------------------------------


async def epoch_in_force(client: ClusterClient, nursery: trio.Nursery) -> int:
    async with await client.open_stream("echo", nursery=nursery) as stream:
        return stream.established.epoch


@pytest.mark.spec("RO-55", "RO-57", "EL-2")
async def test_a_new_roster_ends_the_sessions_that_it_does_not_admit_and_no_others(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    ports = free_ports()
    roster = loopback_roster(ports, clients=2)
    client = ClusterClient(cluster_card(roster), test_client(0))
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        member = node.identity.node_id
        staying = await client.open_stream("echo", nursery=nursery, member=member)
        leaving = await ClusterClient(cluster_card(roster), test_client(1)).open_stream(
            "echo", nursery=nursery, member=member
        )
        anonymous = await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery, member=member)
        new = loopback_roster(ports, clients=1, epoch=2, client_access=LISTED)
        save_held_roster(node.directory, new, 2)
        reload()
        for stream in (leaving, anonymous):
            assert (await reported(stream)).code is ErrorCode.NOT_AUTHORIZED
            await stream.aclose()
        await staying.send_all(b"still here")
        assert await staying.receive_some() == b"still here"
        await staying.aclose()
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(cluster_card(roster), test_client(1)), nursery, member=member)


@pytest.mark.spec("RO-58", "RO-59", "EL-2")
async def test_a_removed_node_serves_nothing_until_it_is_back(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    ports = free_ports()
    roster = loopback_roster(ports, members=2)
    number = 1
    card = cluster_card(roster)
    member = test_identity(number).node_id
    async with running_node(tmp_path / "node", roster, number=number, handle_signals=True) as node:
        stream = await ClusterClient(card).open_stream("echo", nursery=nursery, member=member)
        save_held_roster(node.directory, loopback_roster(ports, members=1, epoch=2), 2)
        reload()
        assert (await reported(stream)).code is ErrorCode.SHUTTING_DOWN
        await stream.aclose()
        for _ in range(2):
            await log.until("no longer a member")
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(card), nursery, member=member)
        save_held_roster(node.directory, loopback_roster(ports, members=2, epoch=3), 3)
        reload()
        for _ in range(2):
            await log.until("listens anew")
        assert await ask(ClusterClient(card), nursery, member=member) == b"question"


@pytest.mark.spec("RO-57", "RO-68")
async def test_the_new_place_is_open_before_the_old_one_is_left(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster_port, client_port, other_port = free_ports(3)
    roster = loopback_roster((cluster_port, client_port), members=1)
    old_answered = []
    open_listeners = trio.open_tcp_listeners

    async def open_tcp_listeners(port: int, **options: Any) -> list[trio.SocketListener]:
        listeners = await open_listeners(port, **options)
        if port == other_port:
            old_answered.append(await ask(ClusterClient(cluster_card(roster)), nursery))
        return listeners

    monkeypatch.setattr(trio, "open_tcp_listeners", open_tcp_listeners)
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        new = loopback_roster((cluster_port, other_port), members=1, epoch=2)
        save_held_roster(node.directory, new, 2)
        reload()
        await log.until(f"client port on 127.0.0.1:{other_port}")
        assert old_answered == [b"question"]
        assert await ask(ClusterClient(cluster_card(new)), nursery) == b"question"


async def test_a_new_client_port_is_listened_on_and_sessions_go_on(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    cluster_port, client_port, other_port = free_ports(3)
    roster = loopback_roster((cluster_port, client_port), members=1)
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        stream = await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery)
        new = loopback_roster((cluster_port, other_port), members=1, epoch=2)
        save_held_roster(node.directory, new, 2)
        reload()
        await log.until(f"client port on 127.0.0.1:{other_port}")
        assert await ask(ClusterClient(cluster_card(new)), nursery) == b"question"
        await stream.send_all(b"still here")
        assert await stream.receive_some() == b"still here"
        await stream.aclose()
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(cluster_card(roster)), nursery)


@pytest.mark.spec("RO-42", "RO-43")
async def test_an_override_may_go_back_to_what_was_overridden(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    ports = free_ports()
    old, roster = (loopback_roster(ports, members=1, epoch=epoch) for epoch in (4, 5))
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        for epoch, forced in ((4, old), (5, roster)):
            save_held_roster(node.directory, forced, 5)
            reload()
            await log.until(f"epoch {epoch} is in force")


@pytest.mark.spec("RO-34", "RO-41", "RO-43")
async def test_a_lower_epoch_is_in_force_by_override_only(tmp_path: Path, nursery: trio.Nursery, log: LogWatch) -> None:
    ports = free_ports()
    old, roster = (loopback_roster(ports, members=1, epoch=epoch) for epoch in (4, 5))
    client = ClusterClient(cluster_card(old))
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        save_held_roster(node.directory, old, 4)  # by a hand that says nothing of an override
        reload()
        await log.until("epoch 5, stays")
        assert await epoch_in_force(client, nursery) == 5
        save_held_roster(node.directory, old, 5)
        reload()
        await log.until("epoch 4 is in force")
        assert await epoch_in_force(client, nursery) == 4


@pytest.mark.spec("RO-69")
async def test_a_new_place_that_cannot_be_listened_on_leaves_the_port_where_it_is(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    cluster_port, client_port, taken = free_ports(3)
    roster = loopback_roster((cluster_port, client_port), members=1)
    listeners = await trio.open_tcp_listeners(taken, host="127.0.0.1")
    async with listeners[0], running_node(tmp_path / "node", roster, handle_signals=True) as node:
        stream = await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery)
        save_held_roster(node.directory, loopback_roster((cluster_port, taken), members=1, epoch=2), 2)
        reload()
        await log.until("the client port stays where it is")
        assert await ask(ClusterClient(cluster_card(roster)), nursery) == b"question"
        await stream.send_all(b"still here")
        assert await stream.receive_some() == b"still here"
        await stream.aclose()


async def test_limits_hold_over_a_change_of_the_port(tmp_path: Path, nursery: trio.Nursery, log: LogWatch) -> None:
    cluster_port, client_port, other_port = free_ports(3)
    roster = loopback_roster((cluster_port, client_port), members=1)
    async with running_node(
        tmp_path / "node", roster, handle_signals=True, client_limits=PortLimits(connections=1)
    ) as node:
        stream = await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery)
        new = loopback_roster((cluster_port, other_port), members=1, epoch=2)
        save_held_roster(node.directory, new, 2)
        reload()
        await log.until("listens anew")
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(cluster_card(new)), nursery)
        await stream.aclose()


async def test_a_keepalive_that_the_protocol_does_not_allow_is_the_callers_error(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    directory = make_directory(tmp_path / "node", test_identity(0), roster)
    with pytest.raises(UsageError):
        await run_node(NodeConfig(directory, {}, keepalive=5), handle_signals=False)


async def test_a_previous_ck_that_cannot_be_destroyed_is_not_accepted_all_the_same(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(directory: Path) -> None:
        raise StorageError(directory, "no")

    monkeypatch.setattr("xlattice_trio.identity.keyring.destroy_previous", fail)
    roster = loopback_roster(free_ports(), members=1)
    own, spare = test_identity(0), test_identity(5)
    card = make_card(name=own.name, sk_priv=own.sk_priv, ck=spare.ck_priv.public_key(), serial=2)
    new = with_card(roster, card, epoch=2)
    directory = make_directory(tmp_path / "node", own, roster)
    save_next(directory, local_identity(verify_card(card), own.sk_priv, spare.ck_priv))
    promote_next(directory, now=0)
    save_held_roster(directory, new, 2)
    async with running_node(directory, new):
        await log.until("cannot be destroyed")
        with pytest.raises(NoMemberReachable):
            await ask(ClusterClient(cluster_card(roster)), nursery)
        assert await ask(ClusterClient(cluster_card(new)), nursery) == b"question"


async def test_a_roster_that_is_not_as_it_should_be_changes_nothing(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        (node.directory / "cluster.roster").write_text("garbage")
        reload()
        await log.until("epoch 1, stays: ")
        assert await ask(ClusterClient(cluster_card(roster)), nursery) == b"question"


@pytest.mark.spec("RO-49", "RO-50", "RO-53")
async def test_a_ck_is_accepted_before_and_after_its_roster(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    own, spare = test_identity(0), test_identity(5)
    card = make_card(name=own.name, sk_priv=own.sk_priv, ck=spare.ck_priv.public_key(), serial=2)
    following = local_identity(verify_card(card), own.sk_priv, spare.ck_priv)
    new = with_card(roster, card, epoch=2)
    old_client, new_client = ClusterClient(cluster_card(roster)), ClusterClient(cluster_card(new))
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        with pytest.raises(NoMemberReachable):
            await ask(new_client, nursery)
        save_next(node.directory, following)
        reload()
        await log.until("epoch 1, stays")
        assert await ask(new_client, nursery) == b"question"
        assert await ask(old_client, nursery) == b"question"
        save_held_roster(node.directory, new, 2)
        reload()
        await log.until("epoch 2 is in force")
        assert load_next(node.directory) is None
        assert load_identity(node.directory).card.card.ck == card.ck
        assert await ask(old_client, nursery) == b"question"
        os.utime(node.directory / PREVIOUS_CK_FILE, (0, 0))  # as if it had been replaced in 1970
        reload()
        await log.until("is destroyed")
        assert load_previous(node.directory) is None
        with pytest.raises(NoMemberReachable):
            await ask(old_client, nursery)
        assert await ask(new_client, nursery) == b"question"


async def test_a_ck_that_is_nowhere_is_reported(
    tmp_path: Path, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    own, spare = test_identity(0), test_identity(5)
    card = make_card(name=own.name, sk_priv=own.sk_priv, ck=spare.ck_priv.public_key(), serial=2)
    async with running_node(tmp_path / "node", with_card(roster, card, epoch=2)):
        assert await ask(ClusterClient(cluster_card(roster)), nursery) == b"question"
    assert sum("encryption key" in record.message for record in caplog.records) == 1
