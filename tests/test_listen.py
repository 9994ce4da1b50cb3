"""Handshakes over streams, and ports: limits, gate, handlers, silence. Spec 5.12 to 5.14."""

import errno
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Any

import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, memory_stream_pair, wait_all_tasks_blocked

from tests.pairs import Scene, anonymous_scene, client_scene, member_stream_scene
from tests.streams import read_all, tcp_pair
from tests.test_responder import FAULTS, faulty
from xlattice_trio import limits
from xlattice_trio.errors import ErrorCode, HandshakeRefused, PeerReported, RefusalReason, UsageError
from xlattice_trio.net.dial import initiate, open_secure_stream
from xlattice_trio.net.gate import SourceGate
from xlattice_trio.net.listen import (
    PortLimits,
    Slots,
    respond,
    serve_secure_listeners,
    serve_secure_tcp,
)
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.testing.identities import test_roster

# ---- one handshake -----------------------------------------------------------


async def shake_hands(scene: Scene, a: trio.abc.Stream, b: trio.abc.Stream) -> tuple[SecureStream, SecureStream]:
    streams: dict[str, SecureStream] = {}

    async def dial() -> None:
        streams["initiator"] = await initiate(a, scene.intent())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(dial)
        streams["responder"] = await respond(b, scene.welcome())
    return streams["initiator"], streams["responder"]


@pytest.mark.spec("SE-73")
@pytest.mark.parametrize("scene", [member_stream_scene, client_scene, anonymous_scene])
@pytest.mark.parametrize("make", [memory_stream_pair, lockstep_stream_pair])
async def test_both_sides_agree_on_everything(
    scene: Callable[[], Scene], make: Callable[[], Any], autojump_clock: MockClock
) -> None:
    a, b = await shake_hands(scene(), *make())
    ours, theirs = a.established, b.established
    for field in ("role", "purpose", "service", "cluster_id", "recipient", "transcript_hash", "exporter", "epoch"):
        assert getattr(ours, field) == getattr(theirs, field)
    assert a.exporter == b.exporter
    assert (a.initiator and a.initiator.node_id) == (b.initiator and b.initiator.node_id)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(a.send_all, b"hello")
        assert await b.receive_some() == b"hello"


@pytest.mark.spec("HS-76")
async def test_an_initiator_gives_up_at_its_deadline(autojump_clock: MockClock) -> None:
    a, b = memory_stream_pair()
    with pytest.raises(HandshakeRefused) as caught:
        await initiate(a, client_scene().intent())
    assert caught.value.reason is RefusalReason.DEADLINE
    assert trio.current_time() == pytest.approx(limits.HANDSHAKE_DEADLINE)
    with pytest.raises(trio.ClosedResourceError):
        await a.send_all(b"x")
    await b.aclose()


@pytest.mark.spec("HS-77")
async def test_bytes_that_trickle_in_do_not_extend_the_responders_deadline(autojump_clock: MockClock) -> None:
    a, b = memory_stream_pair()
    scene = client_scene()

    async def trickle() -> None:
        for byte in scene.new_initiator().hello():
            await a.send_all(bytes((byte,)))
            await trio.sleep(1)

    async def expecting_break(call: Callable[[], Awaitable[None]]) -> None:
        with pytest.raises(trio.BrokenResourceError):
            await call()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expecting_break, trickle)
        with pytest.raises(HandshakeRefused) as caught:
            await respond(b, scene.welcome(), deadline=5)
    assert caught.value.reason is RefusalReason.DEADLINE


@pytest.mark.spec("HS-3")
async def test_a_hello_that_is_not_answered_is_a_failure_and_nothing_else_is_tried() -> None:
    scene = client_scene()
    heard: list[bytes] = []

    async def hear(stream: trio.SocketStream) -> None:
        async with stream:
            heard.append(bytes(await stream.receive_some(scene_hello_size)))

    scene_hello_size = len(scene.new_initiator().hello())
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, hear, 0, host="127.0.0.1"))
        with pytest.raises(HandshakeRefused) as caught:
            await open_secure_stream("127.0.0.1", listeners[0].socket.getsockname()[1], scene.intent())
        assert caught.value.reason is RefusalReason.TRANSPORT_CLOSED
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert [(hello[0], hello[4:6], len(hello)) for hello in heard] == [(1, b"\0\2", scene_hello_size)]


class Clogged(trio.abc.Stream):
    """A transport on which the write of that number fails, or never ends."""

    def __init__(self, transport: trio.abc.Stream, number: int, how: str) -> None:
        self.transport, self.number, self.how = transport, number, how
        self.writes = 0
        self.closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.writes += 1
        if self.writes - 1 != self.number:
            await self.transport.send_all(data)
        elif self.how == "breaks":
            raise trio.BrokenResourceError
        else:
            await trio.sleep_forever()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self.transport.receive_some(max_bytes)

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.closed = True
        await self.transport.aclose()


@pytest.mark.spec("HS-83", "HS-76", "HS-77")
@pytest.mark.parametrize(("how", "reason"), [("breaks", "TRANSPORT_CLOSED"), ("never ends", "DEADLINE")])
@pytest.mark.parametrize("what", ["Hello", "HelloReply", "Confirm"])
async def test_a_message_of_the_handshake_that_cannot_be_written_fails_it(
    what: str, how: str, reason: str, autojump_clock: MockClock
) -> None:
    a, b = memory_stream_pair()
    scene = client_scene()
    clogged = Clogged(b if what == "HelloReply" else a, 1 if what == "Confirm" else 0, how)
    failures: dict[str, RefusalReason] = {}

    async def run(side: str) -> None:
        try:
            if side == "initiator":
                await initiate(a if what == "HelloReply" else clogged, scene.intent(), deadline=5)
            else:
                await respond(clogged if what == "HelloReply" else b, scene.welcome(), deadline=7)
        except HandshakeRefused as exc:
            failures[side] = exc.reason

    async with trio.open_nursery() as nursery:
        nursery.start_soon(run, "initiator")
        nursery.start_soon(run, "responder")
    assert set(failures) == {"initiator", "responder"}
    assert failures["responder" if what == "HelloReply" else "initiator"] is RefusalReason[reason]
    assert clogged.closed


@pytest.mark.spec("HS-4", "HS-52", "SE-4")
@pytest.mark.parametrize("reply", [b"\2\0\4\xbc" + bytes(1212), b"\3\0\0\x11" + bytes(17)])
async def test_an_initiator_says_nothing_about_a_reply_that_it_refuses(reply: bytes) -> None:
    transport = Watched(reply)
    with pytest.raises(HandshakeRefused):
        await initiate(transport, client_scene().intent())
    assert transport.calls == ["send_all", "receive_some", "aclose"]


@pytest.mark.spec("HS-76", "SV-36")
async def test_one_deadline_covers_all_addresses_of_a_host_and_the_handshake(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = memory_stream_pair()

    async def slow(*_args: object, **_options: object) -> trio.abc.Stream:
        await trio.sleep(6)  # for the addresses that do not answer
        return ours

    monkeypatch.setattr(trio, "open_tcp_stream", slow)
    with pytest.raises(HandshakeRefused) as caught:
        await open_secure_stream("node.example", 1, client_scene().intent())
    assert caught.value.reason is RefusalReason.DEADLINE
    assert trio.current_time() == limits.HANDSHAKE_DEADLINE


@pytest.mark.spec("FR-5", "FR-7", "HS-46", "HS-56", "HS-59")
@pytest.mark.parametrize("together", [True, False])
async def test_a_bad_header_behind_hello_ends_the_handshake_behind_the_reply_at_once(
    together: bool, autojump_clock: MockClock
) -> None:
    a, b = memory_stream_pair()
    scene = client_scene()
    hello, behind = scene.new_initiator().hello(), b"\x03\0\0\x12"
    said = b""

    async def talk() -> None:
        nonlocal said
        await a.send_all(hello + behind if together else hello)
        said += await a.receive_some()
        if not together:
            await a.send_all(behind)
        said += await read_all(a)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(talk)
        with pytest.raises(HandshakeRefused) as caught:
            await respond(b, scene.welcome())
    assert caught.value.reason is RefusalReason.FRAME_HEADER
    assert (len(said), said[0]) == (1216, 2)  # the same, however the bytes were cut
    assert trio.current_time() < 1


async def test_the_end_of_the_connection_fails_the_handshake_on_either_side() -> None:
    scene = client_scene()
    handshakes: list[Callable[[trio.abc.Stream], Awaitable[SecureStream]]] = [
        lambda transport: initiate(transport, scene.intent()),
        lambda transport: respond(transport, scene.welcome()),
    ]
    for handshake in handshakes:
        a, b = memory_stream_pair()
        await b.send_eof()
        with pytest.raises(HandshakeRefused) as caught:
            await handshake(a)
        assert caught.value.reason is RefusalReason.TRANSPORT_CLOSED


@pytest.mark.parametrize("side", [initiate, respond])
async def test_a_connection_that_breaks_fails_the_handshake(side: Any) -> None:
    scene = client_scene()
    ours, theirs = await tcp_pair()
    theirs.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    await theirs.aclose()
    with pytest.raises(HandshakeRefused) as caught:
        await side(ours, scene.intent() if side is initiate else scene.welcome())
    assert caught.value.reason is RefusalReason.TRANSPORT_CLOSED


# ---- ports -------------------------------------------------------------------


async def echo(stream: SecureStream) -> None:
    while data := await stream.receive_some():
        await stream.send_all(data)


@asynccontextmanager
async def served(
    scene: Scene, handler: Callable[[SecureStream], Awaitable[None]] = echo, **options: Any
) -> AsyncIterator[int]:
    """The scene's responder on a port of the loopback interface."""
    async with trio.open_nursery() as nursery:

        async def serve(task_status: Any) -> None:
            await serve_secure_tcp(handler, 0, scene.welcome(), host="127.0.0.1", task_status=task_status, **options)

        listeners = await nursery.start(serve)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def ask(port: int, scene: Scene, question: bytes = b"question") -> bytes:
    stream = await open_secure_stream("127.0.0.1", port, scene.intent())
    async with stream:
        await stream.send_all(question)
        await stream.send_eof()
        return await read_all(stream)


async def test_a_served_port_answers(autojump_clock: MockClock) -> None:
    scene = anonymous_scene()
    async with served(scene) as port:
        assert await ask(port, scene) == b"question"


async def test_keepalives_are_sent_beside_the_handler() -> None:
    scene = anonymous_scene(keepalive=1000)
    async with trio.open_nursery() as nursery, served(scene) as port:
        stream = await open_secure_stream("127.0.0.1", port, scene.intent(), keepalive_nursery=nursery)
        assert stream.keepalive == 1
        await stream.aclose()


OTHER_PROTOCOLS = {
    "a HelloReply": b"\x02\0\0\0",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": bytes.fromhex("16030100c4010000c00303") + bytes(190),
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n",
    "protocol 1": bytes.fromhex("7a41") + bytes(range(254)),  # an RSA ciphertext of 256 bytes, and nothing around it
    "protocol 1 in a frame": bytes.fromhex("010008a4") + bytes.fromhex("7a41") + bytes(2210),
    "version 1": bytes.fromhex("010008a400010100") + bytes(2208),
}


@pytest.mark.spec("HS-19", "FR-2")
@pytest.mark.parametrize("make", [client_scene, member_stream_scene])
@pytest.mark.parametrize("protocol", OTHER_PROTOCOLS)
async def test_what_is_no_hello_gets_no_byte(
    make: Callable[[], Scene], protocol: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = OTHER_PROTOCOLS[protocol]
    caplog.set_level(logging.INFO)
    async with served(make()) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as transport:
            await transport.send_all(data)
            assert await read_all(transport) == b""
        await wait_all_tasks_blocked()
    assert len([record for record in caplog.records if "ignored" in record.message]) == 1


class Watched(trio.abc.Stream):
    """A transport that brings one message, and what is done with it."""

    def __init__(self, message: bytes) -> None:
        self.message = message
        self.calls: list[str] = []

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        self.calls.append("receive_some")
        await trio.lowlevel.checkpoint()
        message, self.message = self.message, b""
        return message

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        self.calls.append("send_all")
        await trio.lowlevel.checkpoint()

    async def wait_send_all_might_not_block(self) -> None:
        raise NotImplementedError

    async def aclose(self) -> None:
        self.calls.append("aclose")
        await trio.lowlevel.checkpoint_if_cancelled()


COMPLETE = [(reason, fault) for reason, fault in FAULTS if reason is not RefusalReason.FRAME_HEADER]


@pytest.mark.spec("HS-4", "HS-19", "HS-20", "SE-4")
@pytest.mark.parametrize(("reason", "fault"), COMPLETE, ids=lambda x: x.name if isinstance(x, RefusalReason) else "")
async def test_whichever_check_a_whole_hello_fails_the_same_is_done_about_it(
    reason: RefusalReason, fault: dict[str, Any], autojump_clock: MockClock
) -> None:
    scene, hello = faulty(fault)
    transport = Watched(hello)
    began = trio.current_time()
    with pytest.raises(HandshakeRefused) as caught:
        await respond(transport, scene.welcome(), draw=scene.responder_draws)
    assert caught.value.reason is reason
    assert transport.calls == ["receive_some", "aclose"]
    assert trio.current_time() == began


@pytest.mark.spec("HS-19", "HS-20")
@pytest.mark.parametrize(("reason", "fault"), COMPLETE, ids=lambda x: x.name if isinstance(x, RefusalReason) else "")
async def test_whichever_check_a_whole_hello_fails_its_sender_sees_the_same_end(
    reason: RefusalReason, fault: dict[str, Any]
) -> None:
    scene, hello = faulty(fault)
    ours, theirs = await tcp_pair()
    async with trio.open_nursery() as nursery:

        async def refuse() -> None:
            with pytest.raises(HandshakeRefused):
                await respond(ours, scene.welcome(), draw=scene.responder_draws)

        nursery.start_soon(refuse)
        await theirs.send_all(hello)
        assert await read_all(theirs) == b""  # an end, no reset
    await theirs.aclose()


@pytest.mark.spec("HS-23", "HS-64")
async def test_the_gate_closes_strangers_before_they_say_anything() -> None:
    scene = member_stream_scene(roster=test_roster(hosts=["127.0.0.2", "127.0.0.3", "127.0.0.4"]))
    async with served(scene, gate=SourceGate(scene.roster)) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as transport:
            assert await read_all(transport) == b""
        stream = await open_secure_stream("127.0.0.1", port, scene.intent(), local_address="127.0.0.2")
        await stream.aclose()
    async with served(scene, gate=None) as port:
        stream = await open_secure_stream("127.0.0.1", port, scene.intent())
        await stream.aclose()


@pytest.mark.spec("HS-74")
async def test_a_connection_that_is_closed_for_its_source_or_a_limit_counts_for_nothing() -> None:
    scene = member_stream_scene(roster=test_roster(hosts=["127.0.0.2", "127.0.0.3", "127.0.0.4"]))
    slots = Slots(PortLimits(limit_loopback=True, handshakes_per_source=1))
    async with served(scene, gate=SourceGate(scene.roster), slots=slots) as port:
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stranger:
                assert await read_all(stranger) == b""
        assert (slots._connections, slots._handshakes, slots._buckets) == (0, 0, {})
        async with await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2") as first:
            await wait_all_tasks_blocked()
            (bucket,) = slots._buckets.values()
            tokens = bucket.tokens
            async with await trio.open_tcp_stream("127.0.0.1", port, local_address="127.0.0.2") as second:
                assert await read_all(second) == b""
            (bucket,) = slots._buckets.values()
            assert (slots._connections, slots._handshakes, bucket.tokens) == (1, 1, tokens)
            await first.send_eof()
            assert await read_all(first) == b""


@pytest.mark.spec("HS-24", "HS-72")
async def test_connections_above_the_limits_are_closed_and_the_others_served() -> None:
    scene = anonymous_scene()
    async with served(scene, slots=Slots(PortLimits(handshakes=2))) as port:
        waiting = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(2)]
        async with await trio.open_tcp_stream("127.0.0.1", port) as refused:
            assert await read_all(refused) == b""
        for transport in waiting:
            await transport.aclose()
        while True:  # until the server has seen that they are gone
            try:
                assert await ask(port, scene) == b"question"
                break
            except HandshakeRefused:
                continue


async def test_established_connections_do_not_count_as_handshakes() -> None:
    scene = anonymous_scene()
    async with served(scene, slots=Slots(PortLimits(handshakes=1, burst=100))) as port:
        streams = [await open_secure_stream("127.0.0.1", port, scene.intent()) for _ in range(5)]
        for stream in streams:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"
            await stream.aclose()


async def test_what_a_peer_does_wrong_ends_its_session_only() -> None:
    scene = anonymous_scene()
    async with served(scene) as port:
        stream = await open_secure_stream("127.0.0.1", port, scene.intent())
        await stream.transport.send_all(b"\x03\0\0\x11" + bytes(17))
        with pytest.raises(trio.BrokenResourceError) as caught:
            await stream.receive_some()
        assert isinstance(caught.value.__cause__, PeerReported)
        assert await ask(port, scene) == b"question"


@pytest.mark.spec("SV-19")
async def test_a_handler_that_fails_is_an_error_for_the_peer() -> None:
    scene = anonymous_scene()

    async def fail(stream: SecureStream) -> None:
        raise trio.BrokenResourceError("the other end of what it does broke")

    async with served(scene, fail) as port:
        async with await open_secure_stream("127.0.0.1", port, scene.intent()) as stream:
            with pytest.raises(trio.BrokenResourceError) as caught:
                await stream.receive_some()
        cause = caught.value.__cause__
        assert isinstance(cause, PeerReported)
        assert cause.code is ErrorCode.INTERNAL


async def test_a_bug_in_a_handler_ends_the_listener() -> None:
    class Bug(Exception):
        pass

    scene = anonymous_scene()

    async def fail(stream: SecureStream) -> None:
        raise Bug

    with pytest.RaisesGroup(Bug, flatten_subgroups=True, allow_unwrapped=True):
        async with served(scene, fail) as port, await open_secure_stream("127.0.0.1", port, scene.intent()):
            await trio.sleep_forever()


async def test_running_out_of_descriptors_is_logged_and_waited_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    scene = anonymous_scene()
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    failures = [OSError(errno.EMFILE, "too many open files"), OSError(errno.ENFILE, "file table overflow")]
    accept = listener.accept

    async def failing_accept() -> trio.SocketStream:
        await trio.lowlevel.checkpoint()
        if failures:
            raise failures.pop()
        return await accept()

    listener.accept = failing_accept  # type: ignore[method-assign]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_secure_listeners, echo, [listener], scene.welcome())
        assert await ask(port, scene) == b"question"
        nursery.cancel_scope.cancel()
    assert sum("accept" in record.message for record in caplog.records) == 2


# ---- limits ------------------------------------------------------------------


@pytest.mark.spec("HS-72")
def test_a_source_is_an_ipv4_address_or_an_ipv6_64() -> None:
    slots = Slots(PortLimits())
    assert slots.source_of(ip_address("192.0.2.1")) == ip_address("192.0.2.1")
    assert slots.source_of(ip_address("2001:db8:1:2:3:4:5:6")) == IPv6Network("2001:db8:1:2::/64")
    assert slots.source_of(None) is None


@pytest.mark.spec("HS-80")
@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1"])
def test_the_limits_per_source_are_not_for_loopback_addresses_unless_wanted(address: str) -> None:
    slots = Slots(PortLimits())
    source = slots.source_of(ip_address(address))
    for _ in range(limits.HANDSHAKES_MAX):
        assert slots.refusal(source, 0.0) is None
        slots.enter(source, 0.0)
    assert slots.refusal(source, 0.0) is not None
    assert Slots(PortLimits(limit_loopback=True)).source_of(ip_address(address)) is not None


A, B = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


@pytest.mark.spec("HS-73", "HS-74")
def test_a_burst_and_then_the_rate() -> None:
    slots = Slots(PortLimits(rate=10, burst=3, handshakes=1000, handshakes_per_source=1000))
    for _ in range(3):
        assert slots.refusal(A, 0.0) is None
        slots.enter(A, 0.0)
    assert slots.refusal(A, 0.0) is not None
    assert slots.refusal(A, 0.05) is not None
    assert slots.refusal(B, 0.0) is None
    assert slots.refusal(A, 0.1001) is None
    slots.enter(A, 0.1001)
    assert slots.refusal(A, 0.1001) is not None
    assert slots.refusal(A, 100.0) is None
    for _ in range(3):  # no more than a burst is saved up
        slots.enter(A, 100.0)
    assert slots.refusal(A, 100.0) is not None


@pytest.mark.spec("HS-72")
def test_handshakes_are_bounded_per_source_and_over_all() -> None:
    slots = Slots(PortLimits(handshakes=3, handshakes_per_source=2, burst=100))
    first = slots.enter(A, 0.0)
    slots.enter(A, 0.0)
    assert slots.refusal(A, 0.0) is not None
    assert slots.refusal(B, 0.0) is None
    slots.enter(B, 0.0)
    assert slots.refusal(B, 0.0) is not None
    first.established()
    assert slots.refusal(A, 0.0) is None
    first.leave()
    first_again = slots.enter(A, 0.0)
    assert slots.refusal(B, 0.0) is not None
    first_again.leave()
    assert slots.refusal(B, 0.0) is None


@pytest.mark.spec("HS-72")
def test_connections_are_bounded_established_ones_included() -> None:
    slots = Slots(PortLimits(connections=2))
    first = slots.enter(A, 0.0)
    first.established()
    slots.enter(A, 0.0).established()
    assert slots.refusal(B, 0.0) is not None
    first.leave()
    assert slots.refusal(B, 0.0) is None


@pytest.mark.spec("HS-75")
def test_sources_are_forgotten_when_they_say_nothing_any_more() -> None:
    slots = Slots(PortLimits(handshakes=10**6))
    for i in range(10_000):
        slots.enter(IPv4Address(i), i * 0.001).leave()
    assert len(slots._buckets) < 3000


def test_an_intent_that_the_protocol_does_not_have_is_the_callers_error() -> None:
    with pytest.raises(UsageError):
        client_scene(port=member_stream_scene().port).intent()


async def test_dialling_nobody_is_an_oserror() -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    port = listener.socket.getsockname()[1]
    await listener.aclose()
    with pytest.raises(OSError, match="all attempts"):
        await open_secure_stream("127.0.0.1", port, client_scene().intent())


async def test_open_secure_stream_gives_up_at_its_deadline(autojump_clock: MockClock) -> None:
    listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
    async with listener:
        with pytest.raises(HandshakeRefused) as caught:
            await open_secure_stream("127.0.0.1", listener.socket.getsockname()[1], client_scene().intent(), deadline=3)
    assert caught.value.reason is RefusalReason.DEADLINE
    await wait_all_tasks_blocked()
