"""Streams at a member: who gets in at which port, and that each stream stands alone. Spec 5.12, 8.1 to 8.3."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.nodes import (
    LogWatch,
    cluster_card,
    free_ports,
    loopback_roster,
    on_both_ports,
    running_node,
    watched_log,
)
from xlattice_trio.client import ClusterClient, open_member_stream
from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerReported
from xlattice_trio.handshake.initiator import Initiator, Intent
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.card import make_card
from xlattice_trio.identity.storage import save_held_roster
from xlattice_trio.net.dial import open_secure_stream
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import make_roster, verify_roster
from xlattice_trio.services.registry import ServiceContext
from xlattice_trio.testing.identities import test_authority, test_client, test_identity
from xlattice_trio.wire.messages import Member, RecordType, Role

PATIENCE = 30  # seconds


@pytest.fixture
def log() -> Iterator[LogWatch]:
    with watched_log() as watch:
        yield watch


@attrs.define
class Recorder:
    """A service that keeps what each stream brings, says that it has it, and fails at the word."""

    received: list[bytes] = attrs.Factory(list)

    async def __call__(self, stream: SecureStream, context: ServiceContext) -> None:
        async for data in stream:
            self.received.append(bytes(data))
            if data == b"fail":
                raise OSError("as it was told to")
            await stream.send_all(b"ok")


async def code_of(stream: SecureStream) -> ErrorCode:
    """The code of the Error that ends a stream."""
    with pytest.raises(trio.BrokenResourceError) as caught, trio.fail_after(PATIENCE):
        while await stream.receive_some():
            pass
    assert isinstance(caught.value.__cause__, PeerReported)
    return caught.value.__cause__.code


# ---- from where --------------------------------------------------------------


@pytest.mark.spec("HS-64", "HS-65")
@pytest.mark.parametrize("check", [True, False])
async def test_the_source_address_is_checked_on_the_cluster_port_and_never_on_the_client_port(
    check: bool, tmp_path: Path, nursery: trio.Nursery
) -> None:
    roster = loopback_roster(free_ports(), members=2, hosts=["127.0.0.2", "127.0.0.3"])
    node, dialler = test_identity(0), test_identity(1)
    intent = Intent(
        peer=node.card,
        cluster_id=roster.cluster_id,
        role=Role.MEMBER,
        service="echo",
        identity=dialler,
        knock=roster.knock,
    )
    async with running_node(tmp_path / "node", roster, check_source=check):
        stranger = "127.0.0.1"  # no member's
        if check:
            with pytest.raises(HandshakeRefused):
                await open_secure_stream("127.0.0.2", roster.cluster_port, intent, local_address=stranger)
        else:
            async with await open_secure_stream(
                "127.0.0.2", roster.cluster_port, intent, local_address=stranger
            ) as stream:
                assert stream.established.role is Role.MEMBER
        async with await open_member_stream(dialler, roster, node.node_id, "echo", nursery=nursery) as stream:
            assert stream.transport.socket.getsockname()[0] == "127.0.0.3"  # type: ignore[attr-defined]
        anonymous = attrs.evolve(intent, role=Role.ANONYMOUS, identity=None, knock=b"")
        async with await open_secure_stream(
            "127.0.0.2", roster.client_port, anonymous, local_address=stranger
        ) as stream:
            assert stream.established.role is Role.ANONYMOUS


@pytest.mark.spec("HS-81")
@pytest.mark.parametrize(("host", "address"), [("127.0.0.3", "127.0.0.3"), ("localhost", None)])
async def test_a_member_listens_at_its_host_on_both_ports_and_everywhere_if_that_is_a_name(
    host: str, address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[int, str | None]] = []
    open_tcp_listeners = trio.open_tcp_listeners

    async def recorded(port: int, *, host: str | None = None) -> list[trio.SocketListener]:
        asked.append((port, host))
        return await open_tcp_listeners(port, host=host or "127.0.0.1")  # no test is open to the network

    monkeypatch.setattr(trio, "open_tcp_listeners", recorded)
    roster = loopback_roster(free_ports(), members=1, hosts=[host])
    async with running_node(tmp_path / "node", roster):
        assert asked == [(roster.cluster_port, address), (roster.client_port, address)]


@pytest.mark.spec("SE-79")
async def test_a_members_streams_have_a_keepalive_of_a_minute_unless_its_operator_wants_another(
    tmp_path: Path, nursery: trio.Nursery
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    client = ClusterClient(cluster_card(roster))
    for options, seconds in (({}, 60), ({"keepalive": 5000}, 5), ({"keepalive": 0}, 0)):
        async with (
            running_node(tmp_path / "node", roster, **options),  # type: ignore[arg-type]
            await client.open_stream("echo", nursery=nursery) as stream,
        ):
            assert stream.keepalive == seconds


# ---- each stream stands alone ------------------------------------------------


@pytest.mark.spec("SV-1", "SV-2", "SV-3", "EL-2")
@pytest.mark.parametrize("identity", [None, test_client(0)])
async def test_streams_that_are_alike_are_streams_of_their_own(
    identity: object, tmp_path: Path, nursery: trio.Nursery
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    client = ClusterClient(cluster_card(roster), identity)  # type: ignore[arg-type]
    recorder = Recorder()
    async with running_node(tmp_path / "node", roster, services=on_both_ports(record=recorder)):
        streams = [await client.open_stream("record", nursery=nursery) for _ in range(4)]
        for stream in streams:
            await stream.send_all(b"the same")
            assert await stream.receive_some() == b"ok"
        assert recorder.received == [b"the same"] * 4
        assert len({stream.transport.socket.getsockname() for stream in streams}) == 4  # type: ignore[attr-defined]
        assert len({stream.established.transcript_hash for stream in streams}) == 4
        failing, violating, leaving, staying = streams
        await failing.send_all(b"fail")
        assert await code_of(failing) is ErrorCode.INTERNAL
        await violating.transport.send_all(b"\3\0\0\x11" + bytes(17))
        assert await code_of(violating) is ErrorCode.PROTOCOL_VIOLATION
        await trio.aclose_forcefully(leaving)
        await staying.send_all(b"still here")
        assert await staying.receive_some() == b"ok"
        await staying.aclose()
    assert recorder.received == [b"the same"] * 4 + [b"fail", b"still here"]  # and nothing was repeated


# ---- when it is decided ------------------------------------------------------


@pytest.mark.spec("SV-7")
async def test_no_service_is_asked_or_given_a_byte_before_the_session_is_established(tmp_path: Path) -> None:
    roster = loopback_roster(free_ports(), members=1)
    recorder = Recorder()
    initiator = Initiator(Intent(test_identity(0).card, roster.cluster_id, Role.ANONYMOUS, service="record"))
    async with (
        running_node(tmp_path / "node", roster, services=on_both_ports(record=recorder)),
        await trio.open_tcp_stream("127.0.0.1", roster.client_port) as transport,
    ):
        await transport.send_all(initiator.hello())
        reply = b""
        while len(reply) < 1216:
            reply += await transport.receive_some()
        confirm = initiator.receive_data(reply, 0)
        assert initiator.established is not None
        data = initiator.established.sealer.seal(RecordType.DATA, b"early", 0)
        await transport.send_all(confirm[:-1])
        await wait_all_tasks_blocked()
        assert recorder.received == []
        await transport.send_all(confirm[-1:] + data)
        assert await transport.receive_some()
        assert recorder.received == [b"early"]


@pytest.mark.spec("SV-4", "SV-8", "SV-14", "SV-15", "NO-14", "EL-2")
@pytest.mark.parametrize("service", ["nothing", "Record", "record ", "r\u0065\u0301cord"])
async def test_data_for_a_service_that_is_not_there_reaches_none(
    service: str, tmp_path: Path, nursery: trio.Nursery
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    recorder = Recorder()
    services = on_both_ports(record=recorder) | {(Port.CLUSTER, "nothing"): recorder, (Port.CLIENT, "récord"): recorder}
    async with running_node(tmp_path / "node", roster, services=services):
        stream = await ClusterClient(cluster_card(roster)).open_stream(service, nursery=nursery)
        await stream.send_all(b"lost")
        assert await code_of(stream) is ErrorCode.UNKNOWN_SERVICE
        await stream.aclose()
    assert recorder.received == []


# ---- a new roster ------------------------------------------------------------


@pytest.mark.spec("RO-57")
async def test_a_session_goes_on_when_host_name_ck_and_port_of_its_peer_and_its_own_have_changed(
    tmp_path: Path, nursery: trio.Nursery, log: LogWatch
) -> None:
    cluster_port, client_port, other_port = free_ports(3)
    roster = loopback_roster((cluster_port, client_port), members=2)
    own, peer, spare = test_identity(0), test_identity(1), test_identity(5)
    renamed = make_card(name="renamed", sk_priv=peer.sk_priv, ck=spare.ck_priv.public_key(), serial=2)
    new = verify_roster(
        make_roster(
            test_authority(),
            name=roster.name,
            epoch=2,
            cluster_port=cluster_port,
            client_port=other_port,
            knock=roster.knock,
            client_access=roster.client_access,
            members=[Member(own.card.card, "127.0.0.3"), Member(renamed, "127.0.0.2")],
        )
    )
    async with running_node(tmp_path / "node", roster, handle_signals=True) as node:
        streams = [
            await open_member_stream(peer, roster, own.node_id, "echo", nursery=nursery),
            await ClusterClient(cluster_card(roster)).open_stream("echo", nursery=nursery, member=own.node_id),
        ]
        save_held_roster(node.directory, new, 2)
        os.kill(os.getpid(), signal.SIGHUP)
        for _ in Port:
            await log.until("listens anew")
        for stream in streams:
            await stream.send_all(b"still here")
            assert await stream.receive_some() == b"still here"
            await stream.aclose()
