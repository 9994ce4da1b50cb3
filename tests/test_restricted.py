"""Services that are for some only, or for so many streams at once. Spec 8.3."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.streams import secure_memory_pair, stream_and_peer
from xlattice_trio.errors import ErrorCode, PeerReported, UsageError
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.services.registry import (
    Restricted,
    ServiceContext,
    ServiceSpec,
    Whom,
    make_services,
    parse_whom,
    restrict,
)
from xlattice_trio.testing.identities import test_client, test_identity
from xlattice_trio.wire.messages import Role

MEMBER, CLIENT, OTHER = test_identity(1).card, test_client(0).card, test_client(1).card


def context(role: Role, *, service: str = "x") -> ServiceContext:
    return ServiceContext(
        node_id=test_identity(0).node_id,
        cluster_id=bytes(32),
        port=Port.CLUSTER if role is Role.MEMBER else Port.CLIENT,
        role=role,
        peer={Role.MEMBER: MEMBER, Role.CLIENT: CLIENT, Role.ANONYMOUS: None}[role],
        service=service,
        shutting_down=trio.Event(),
    )


@attrs.define
class Recorder:
    """A service that keeps whatever it is given, and ends when the peer has."""

    began: int = 0
    received: bytearray = attrs.Factory(bytearray)

    async def __call__(self, stream: SecureStream, context: ServiceContext) -> None:
        self.began += 1
        async for data in stream:
            self.received += data


async def code_of(stream: SecureStream) -> ErrorCode:
    """The code of the Error that ends a stream."""
    with pytest.raises(trio.BrokenResourceError) as caught, trio.fail_after(30):
        await stream.receive_some()
    assert isinstance(caught.value.__cause__, PeerReported)
    return caught.value.__cause__.code


@asynccontextmanager
async def asking(service: Restricted, role: Role) -> AsyncIterator[SecureStream]:
    """A stream to the service, as the peer has it."""
    near, far = secure_memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(service, near, context(role))
        yield far


# ---- authorisation -----------------------------------------------------------


@pytest.mark.spec("SV-9", "SV-12", "SV-13", "EL-2")
@pytest.mark.parametrize(
    ("allowed", "roles"),
    [
        (None, set(Role)),
        ({Role.MEMBER}, {Role.MEMBER}),
        ({Role.CLIENT}, {Role.CLIENT}),
        ({Role.ANONYMOUS}, {Role.ANONYMOUS}),
        ({Role.CLIENT, Role.ANONYMOUS}, {Role.CLIENT, Role.ANONYMOUS}),
        ({CLIENT.node_id}, {Role.CLIENT}),
        ({MEMBER.node_id, CLIENT.name}, {Role.MEMBER, Role.CLIENT}),
        ({MEMBER.name}, {Role.MEMBER}),
        ({OTHER.node_id, OTHER.name, "x", "127.0.0.1"}, set()),  # x is what the service is called
        (set(), set()),
    ],
)
async def test_a_service_is_for_those_who_are_allowed(
    allowed: set[Whom] | None, roles: set[Role], autojump_clock: MockClock
) -> None:
    for role in Role:
        recorder = Recorder()
        restricted = Restricted(recorder, None if allowed is None else frozenset(allowed))
        async with asking(restricted, role) as stream:
            if role in roles:
                await stream.send_all(b"hello")
                await stream.send_eof()
                assert await stream.receive_some() == b""
                assert recorder.received == b"hello"
            else:
                assert await code_of(stream) is ErrorCode.NOT_AUTHORIZED
                assert recorder.began == 0


@pytest.mark.parametrize("name", ["member", "client", str(MEMBER.node_id)])
async def test_a_name_is_nobody_elses_role_or_node_id(name: str, autojump_clock: MockClock) -> None:
    restricted = Restricted(Recorder(), frozenset({parse_whom(name)}))
    named = attrs.evolve(OTHER, card=attrs.evolve(OTHER.card, name=name))
    near, far = secure_memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(restricted, near, attrs.evolve(context(Role.ANONYMOUS), peer=named))
        assert await code_of(far) is ErrorCode.NOT_AUTHORIZED


@pytest.mark.spec("SV-13")
def test_a_service_is_told_of_the_peer_what_the_handshake_has_proved_and_nothing_else() -> None:
    about_us = {"node_id", "cluster_id", "shutting_down", "liveness"}
    assert {field.name for field in attrs.fields(ServiceContext)} - about_us == {"port", "role", "peer", "service"}


@pytest.mark.spec("SV-14", "SV-15", "EL-2")
@pytest.mark.parametrize("refused_for", ["authorisation", "room"])
async def test_data_for_a_refused_stream_reaches_nobody(refused_for: str, autojump_clock: MockClock) -> None:
    recorder = Recorder()
    restricted = Restricted(recorder, frozenset({Role.CLIENT}) if refused_for == "authorisation" else None, 1)
    role = Role.ANONYMOUS
    stream, peer = stream_and_peer()
    first, _ = stream_and_peer()
    async with trio.open_nursery() as nursery:
        if refused_for == "room":
            nursery.start_soon(restricted, first, context(role))
            await wait_all_tasks_blocked()
        peer.send(2, b"before")
        nursery.start_soon(restricted, stream, context(role))
        await wait_all_tasks_blocked()
        code = ErrorCode.OVER_CAPACITY if refused_for == "room" else ErrorCode.NOT_AUTHORIZED
        ((type_, payload),) = peer.received()
        assert (type_, int.from_bytes(payload[:2], "big")) == (6, code)
        peer.send(2, b"after")
        await wait_all_tasks_blocked()
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert recorder.received == b""
    assert recorder.began == (refused_for == "room")
    assert stream._pending == b""


# ---- room --------------------------------------------------------------------


@pytest.mark.spec("SV-10")
@pytest.mark.parametrize("end", ["clean", "broken"])
async def test_a_service_that_is_full_has_room_again_when_a_stream_is_over(end: str, autojump_clock: MockClock) -> None:
    restricted = Restricted(Recorder(), max_streams=2)
    streams = [secure_memory_pair() for _ in range(4)]

    async def serve(number: int) -> None:
        try:
            await restricted(streams[number][0], context(Role.ANONYMOUS))
        except trio.BrokenResourceError:
            assert end == "broken"

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(serve, number)
            await wait_all_tasks_blocked()
        assert await code_of(streams[2][1]) is ErrorCode.OVER_CAPACITY
        if end == "clean":
            await streams[0][1].aclose()
        else:
            await trio.aclose_forcefully(streams[0][1].transport)
        await wait_all_tasks_blocked()
        nursery.start_soon(serve, 3)
        for _, far in (streams[1], streams[3]):
            await far.send_eof()
            assert await far.receive_some() == b""


@pytest.mark.spec("SV-11")
async def test_who_may_not_use_a_service_is_not_told_that_it_is_full(autojump_clock: MockClock) -> None:
    restricted = Restricted(Recorder(), frozenset({Role.CLIENT}), 1)
    async with asking(restricted, Role.CLIENT) as first:
        await wait_all_tasks_blocked()
        for role, code in (
            (Role.CLIENT, ErrorCode.OVER_CAPACITY),
            (Role.ANONYMOUS, ErrorCode.NOT_AUTHORIZED),
            (Role.MEMBER, ErrorCode.NOT_AUTHORIZED),
        ):
            async with asking(restricted, role) as other:
                assert await code_of(other) is code
        await first.aclose()


# ---- what the operator writes ------------------------------------------------


@pytest.mark.parametrize(
    ("text", "whom"),
    [
        ("member", Role.MEMBER),
        ("client", Role.CLIENT),
        ("anonymous", Role.ANONYMOUS),
        ("Member", "Member"),
        (str(MEMBER.node_id), MEMBER.node_id),
        ("carol", "carol"),
        ("a=b", "a=b"),
    ],
)
def test_who_is_read_as_role_node_id_or_name(text: str, whom: Whom) -> None:
    assert parse_whom(text) == whom
    assert type(parse_whom(text)) is type(whom)


def test_restrictions_hold_for_all_services_of_a_name_and_add_up() -> None:
    specs = [
        ServiceSpec.parse("a=echo", [Port.CLIENT]),
        ServiceSpec.parse("a=forward:localhost:1", [Port.CLUSTER]),
        ServiceSpec.parse("b=echo"),
        ServiceSpec.parse("c=echo"),
    ]
    restricted = restrict(specs, ["a=member", "a=carol", "b=client"], ["a=3"])
    assert [(spec.allowed, spec.max_streams) for spec in restricted] == [
        ({Role.MEMBER, "carol"}, 3),
        ({Role.MEMBER, "carol"}, 3),
        ({Role.CLIENT}, None),
        (None, None),
    ]
    services = make_services(restricted)
    kinds = {key: isinstance(service, Restricted) for key, service in services.items()}
    assert kinds == {(port, name): name != "c" for port in Port for name in "abc"}
    assert services[Port.CLIENT, "b"] is services[Port.CLUSTER, "b"]  # one room for both


@pytest.mark.parametrize(
    ("allow", "max_streams"),
    [
        (["b=member"], []),
        (["a"], []),
        (["a="], []),
        ([], ["b=1"]),
        ([], ["a"]),
        ([], ["a="]),
        ([], ["a=0"]),
        ([], ["a=-1"]),
        ([], ["a=x"]),
        ([], ["a=٣"]),
        ([], ["a=1", "a=2"]),
    ],
)
def test_a_restriction_that_means_nothing_is_refused(allow: list[str], max_streams: list[str]) -> None:
    with pytest.raises(UsageError):
        restrict([ServiceSpec.parse("a=echo")], allow, max_streams)
