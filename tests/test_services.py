"""Services by name, the plug-in contract, `echo` and `forward`. Spec 8.1 to 8.5."""

import hashlib
import inspect
import os
import socket
import struct
import sys
import textwrap
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import pytest
import trio
from trio.testing import MockClock, lockstep_stream_pair, wait_all_tasks_blocked

from tests.streams import secure_memory_pair, secure_streams, stream_and_peer, tcp_pair
from xlattice_trio.errors import ErrorCode, PeerError, PeerReported, SessionEnded, Truncated, UsageError, WriteStalled
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.services import forward as forward_module
from xlattice_trio.services import registry
from xlattice_trio.services.echo import IDLE
from xlattice_trio.services.echo import make as make_echo
from xlattice_trio.services.forward import TCPTarget, UnixTarget, parse_target
from xlattice_trio.services.forward import make as make_forward
from xlattice_trio.services.registry import Service, ServiceContext, ServiceSpec, factories, make_services
from xlattice_trio.testing.identities import test_identity
from xlattice_trio.wire.messages import Role

BOTH = frozenset(Port)
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
BYE = 5


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    data = bytearray()
    while chunk := await stream.receive_some():
        data += chunk
    return bytes(data)


def make_context(shutting_down: trio.Event) -> ServiceContext:
    return ServiceContext(
        node_id=test_identity(0).node_id,
        cluster_id=bytes(32),
        port=Port.CLIENT,
        role=Role.ANONYMOUS,
        peer=None,
        service="web",
        shutting_down=shutting_down,
    )


@attrs.define
class Running:
    """A service at work on one stream, and how it ended: None if it returned."""

    scope: trio.CancelScope = attrs.Factory(trio.CancelScope)
    shutting_down: trio.Event = attrs.Factory(trio.Event)
    failure: BaseException | None = None
    ended: trio.Event = attrs.Factory(trio.Event)

    async def run(self, service: Service, stream: SecureStream) -> None:
        """What a listener does with a stream: it expects these errors, and no others."""
        try:
            with self.scope:
                await service(stream, make_context(self.shutting_down))
                await stream.aclose()
        except (PeerError, PeerReported, OSError, trio.BrokenResourceError) as exc:
            self.failure = exc
        finally:
            await trio.aclose_forcefully(stream)
        self.ended.set()


@asynccontextmanager
async def served(service: Service, stream: SecureStream) -> AsyncIterator[Running]:
    """Runs a service beside the block, and waits for its end behind it."""
    running = Running()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(running.run, service, stream)
        yield running


# ---- ServiceSpec -------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "name", "kind", "argument"),
    [
        ("echo", "echo", "echo", ""),
        ("echo:", "echo", "echo", ""),
        ("test=echo", "test", "echo", ""),
        ("forward:127.0.0.1:80", "forward", "forward", "127.0.0.1:80"),
        ("web=forward:[::1]:80", "web", "forward", "[::1]:80"),
        ("db=forward:unix:/run/db=1.sock", "db", "forward", "unix:/run/db=1.sock"),
        ("forward:unix:/run/db=1.sock", "forward", "forward", "unix:/run/db=1.sock"),
        ("größer=echo", "größer", "echo", ""),
        ("a b=echo", "a b", "echo", ""),
    ],
)
def test_a_service_is_read_from_text(text: str, name: str, kind: str, argument: str) -> None:
    spec = ServiceSpec.parse(text, {Port.CLIENT})
    assert spec == ServiceSpec(name, kind, argument, frozenset({Port.CLIENT}))
    assert ServiceSpec.parse(str(spec)) == attrs.evolve(spec, ports=BOTH)


@pytest.mark.parametrize(
    "text", ["", ":", "=", "=echo", "web=", "web=:80", ":80", "\x07=echo", "\ud800=echo", "\x9f=echo"]
)
def test_a_text_that_is_no_service_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        ServiceSpec.parse(text)


@pytest.mark.parametrize(("name", "fine"), [("x" * 64, True), ("x" * 65, False), ("ü" * 32, True), ("ü" * 33, False)])
def test_a_service_name_has_1_to_64_bytes(name: str, fine: bool) -> None:
    if fine:
        assert ServiceSpec(name, "echo").name == name
    else:
        with pytest.raises(UsageError):
            ServiceSpec(name, "echo")


def test_a_service_is_on_some_port() -> None:
    with pytest.raises(UsageError):
        ServiceSpec("echo", "echo", "", frozenset())


# ---- make_services -----------------------------------------------------------


@pytest.mark.spec("SV-6")
def test_services_are_found_by_port_and_name() -> None:
    specs = [
        ServiceSpec.parse("echo"),
        ServiceSpec.parse("web=forward:localhost:80", [Port.CLIENT]),
        ServiceSpec.parse("web=forward:localhost:81", [Port.CLUSTER]),
    ]
    services = make_services(specs)
    assert set(services) == {(port, name) for port in Port for name in ("echo", "web")}
    assert services[Port.CLIENT, "echo"] is services[Port.CLUSTER, "echo"]
    assert services[Port.CLIENT, "web"] is not services[Port.CLUSTER, "web"]


@pytest.mark.spec("SV-5")
def test_two_services_of_one_name_on_one_port_are_refused() -> None:
    with pytest.raises(UsageError):
        make_services([ServiceSpec.parse("echo"), ServiceSpec.parse("echo=forward:localhost:80", [Port.CLIENT])])


@pytest.mark.spec("SV-4")
def test_names_are_compared_by_their_bytes() -> None:
    names = ["é", "e\u0301", "E\u0301", "é "]
    assert len(make_services([ServiceSpec(name, "echo", "", frozenset({Port.CLIENT})) for name in names])) == len(names)


@pytest.mark.parametrize("text", ["nothing", "x=nothing:1", "echo:argument", "forward", "forward:80"])
def test_an_unknown_kind_and_a_wrong_argument_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_services([ServiceSpec.parse(text)])
    assert str(ServiceSpec.parse(text)) in str(caught.value)


# ---- kinds of other packages -------------------------------------------------


def shout_package() -> tuple[ModuleType, EntryPoint]:
    """The example in the contract, as a module, and its entry point."""
    code, toml = (
        textwrap.dedent(text)
        for text in (
            registry.__doc__.partition("`shout.py`:\n\n")[2].partition("\n\nand in")[0],
            registry.__doc__.partition("pyproject.toml:\n\n")[2].partition("\n\nWhen")[0],
        )
    )
    module = ModuleType("shout")
    exec(code, vars(module))
    ((group, entries),) = tomllib.loads(toml)["project"]["entry-points"].items()
    ((name, value),) = entries.items()
    return module, EntryPoint(name, value, group)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> list[EntryPoint]:
    """The entry points that the system has; a test appends to them."""
    entries: list[EntryPoint] = []

    def entry_points(*, group: str) -> list[EntryPoint]:
        return [entry for entry in entries if entry.group == group]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    return entries


async def test_the_example_in_the_contract_works(
    installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    module, entry = shout_package()
    monkeypatch.setitem(sys.modules, "shout", module)
    installed.append(entry)
    service = make_services([ServiceSpec.parse("loud=shout:!")])[Port.CLIENT, "loud"]
    near, far = secure_memory_pair()
    async with served(service, near) as running:
        await far.send_all(b"hello")
        assert await far.receive_some() == b"HELLO!"
        await far.send_eof()
        assert await read_all(far) == b""
    assert running.failure is None
    with pytest.raises(UsageError):
        make_services([ServiceSpec("loud", "shout", "\x07")])


def test_ours_are_there_whether_or_not_the_package_is_installed(installed: list[EntryPoint]) -> None:
    assert list(factories()) == ["echo", "forward"]
    installed += [EntryPoint("echo", "xlattice_trio.services.echo:make", registry.GROUP)]
    assert list(factories()) == ["echo", "forward"]
    assert factories()["echo"]() is make_echo
    assert factories()["forward"]() is make_forward


def test_the_package_declares_what_is_built_in() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    declared = project["entry-points"][registry.GROUP]
    assert declared == {entry.name: entry.value for entry in registry._OURS}


@pytest.mark.parametrize(
    "value",
    ["no_such_module:make", "xlattice_trio.services.echo:no_such_function", "tests.broken_kind:make", "string:digits"],
)
def test_an_entry_point_that_does_not_load_is_named(
    value: str, installed: list[EntryPoint], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "broken_kind.py").write_text("raise RuntimeError('what a module may do')")
    monkeypatch.syspath_prepend(tmp_path)
    value = value.removeprefix("tests.")
    installed.append(EntryPoint("bad", value, registry.GROUP))
    assert "bad" in factories()
    make_services([ServiceSpec.parse("echo")])  # what nobody wants is not loaded
    with pytest.raises(UsageError) as caught:
        make_services([ServiceSpec.parse("bad")])
    assert value in str(caught.value)


def test_a_kind_that_two_packages_have_is_refused(installed: list[EntryPoint]) -> None:
    installed.append(EntryPoint("echo", "elsewhere:make", registry.GROUP))
    with pytest.raises(UsageError) as caught:
        make_services([ServiceSpec.parse("echo")])
    assert "elsewhere:make" in str(caught.value)


def test_an_entry_point_is_named_with_its_package(installed: list[EntryPoint]) -> None:
    class Distribution:
        name = "xlattice-shout"

    entry = EntryPoint("shout", "no_such_module:make", registry.GROUP)
    vars(entry)["dist"] = Distribution
    installed.append(entry)
    with pytest.raises(UsageError) as caught:
        factories()["shout"]()
    assert "xlattice-shout" in str(caught.value)


def test_the_contract_names_the_entry_point_group() -> None:
    assert f'[project.entry-points."{registry.GROUP}"]' in inspect.getdoc(registry)  # type: ignore[operator]


# ---- echo --------------------------------------------------------------------


async def test_echo_sends_everything_back_and_then_says_bye(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    sent = bytes(range(256)) * 1000
    async with served(make_echo(""), near) as running:
        await far.send_all(sent)
        await far.send_eof()
        assert await read_all(far) == sent
    assert running.failure is None
    assert trio.current_time() == 0


async def test_echo_lets_a_broken_stream_pass_as_it_is(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    async with served(make_echo(""), near) as running:
        await trio.aclose_forcefully(far.transport)
    assert type(running.failure) is trio.BrokenResourceError
    assert type(running.failure.__cause__) is Truncated


@pytest.mark.spec("SV-24")
async def test_echo_ends_when_the_node_stops(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    async with served(make_echo(""), near) as running:
        await far.send_all(b"before")
        assert await far.receive_some() == b"before"
        running.shutting_down.set()
        await trio.sleep(0.5 * IDLE)
        await far.send_all(b"on its way")
        assert await far.receive_some() == b"on its way"
        assert await far.receive_some() == b""
        assert trio.current_time() == pytest.approx(1.5 * IDLE)
        await far.aclose()
    assert running.failure is None


@pytest.mark.spec("SV-24")
async def test_echo_does_not_say_bye_to_a_peer_that_is_still_sending(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    async with served(make_echo(""), near) as running:
        running.shutting_down.set()
        for _ in range(100):
            await far.send_all(b"x")
            assert await far.receive_some() == b"x"
            await trio.sleep(0.9 * IDLE)
        await far.send_eof()
        assert await read_all(far) == b""
        await far.aclose()
    assert running.failure is None


async def test_echo_ends_a_stream_that_comes_while_the_node_stops(autojump_clock: MockClock) -> None:
    near, far = secure_memory_pair()
    stopping = trio.Event()
    stopping.set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(make_echo(""), near, make_context(stopping))
        assert await read_all(far) == b""
    assert trio.current_time() == pytest.approx(IDLE)


async def test_echo_does_not_cut_off_a_record_when_the_node_stops(autojump_clock: MockClock) -> None:
    near, far = secure_streams(*lockstep_stream_pair())
    async with served(make_echo(""), near) as running:
        await far.send_all(bytes(1000))
        await wait_all_tasks_blocked()  # echo waits for us to read
        running.shutting_down.set()
        await trio.sleep(2 * IDLE)
        assert await far.receive_some() == bytes(1000)
        assert await far.receive_some() == b""
        await far.aclose()
    assert running.failure is None


# ---- forward: the argument ---------------------------------------------------


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("127.0.0.1:80", TCPTarget("127.0.0.1", 80)),
        ("localhost:1", TCPTarget("localhost", 1)),
        ("my_redis.example:65535", TCPTarget("my_redis.example", 65535)),
        ("[::1]:443", TCPTarget("::1", 443)),
        ("[fe80::1%eth0]:443", TCPTarget("fe80::1%eth0", 443)),
        ("unix:/run/server.sock", UnixTarget("/run/server.sock")),
        ("unix:/a:b c", UnixTarget("/a:b c")),
    ],
)
def test_a_target_is_read_from_text(text: str, target: object) -> None:
    assert parse_target(text) == target
    assert str(target) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "80",
        ":80",
        "localhost",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:http",
        "localhost:+80",
        "localhost:8_0",
        "localhost:٨٠",
        "::1:80",
        "[::1]",
        "[::1:80",
        "[]:80",
        "[localhost]:80",
        "[127.0.0.1]:80",
        "http://localhost:80",
        "user@host:80",
        "a b:80",
        "a..b:80",
        "x" * 64 + ":80",
        "unix:",
        "unix:relative",
        "unix:/a\0b",
    ],
)
def test_a_text_that_is_no_target_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        make_forward(text)


# ---- forward: real servers ---------------------------------------------------

Handler = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def tcp_server(handler: Handler, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """An ordinary server, and the argument that names it."""
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=host)
        nursery.start_soon(trio.serve_listeners, handler, listeners)
        name = f"[{host}]" if ":" in host else host
        yield f"{name}:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def unix_server(handler: Handler, path: Path) -> AsyncIterator[str]:
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, [trio.SocketListener(listening)])
        yield f"unix:{path}"
        nursery.cancel_scope.cancel()


async def backwards(stream: trio.SocketStream) -> None:
    """Reads to the end, then answers: it lives by half-close."""
    async with stream:
        data = await read_all(stream)
        await stream.send_all(data[::-1])


async def ask(stream: SecureStream, question: bytes = b"stressed") -> bytes:
    await stream.send_all(question)
    await stream.send_eof()
    return await read_all(stream)


@pytest.mark.spec("SV-20")
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_a_tcp_server_is_reached_half_close_included(host: str) -> None:
    if host == "::1" and not has_ipv6():
        pytest.skip("this system has no IPv6")
    near, far = secure_memory_pair()
    async with tcp_server(backwards, host) as target, served(make_forward(target), near) as running:
        assert await ask(far) == b"desserts"
    assert running.failure is None


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


async def test_a_server_is_reached_by_name() -> None:
    near, far = secure_memory_pair()
    async with tcp_server(backwards) as target:
        service = make_forward(target.replace("127.0.0.1", "localhost"))
        async with served(service, near) as running:
            assert await ask(far) == b"desserts"
    assert running.failure is None


@pytest.mark.spec("SV-20")
async def test_a_unix_socket_is_reached_half_close_included(tmp_path: Path) -> None:
    near, far = secure_memory_pair()
    async with unix_server(backwards, tmp_path / "s") as target, served(make_forward(target), near) as running:
        assert await ask(far) == b"desserts"
    assert running.failure is None


async def test_a_server_that_closes_first_ends_the_stream_cleanly() -> None:
    async def answer(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"answer")

    near, far = secure_memory_pair()
    async with tcp_server(answer) as target, served(make_forward(target), near) as running:
        await far.send_all(b"question")
        assert await read_all(far) == b"answer"
        await far.aclose()
    assert running.failure is None


async def test_each_stream_has_a_connection_of_its_own() -> None:
    connections = 0

    async def count(stream: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        await backwards(stream)

    async with tcp_server(count) as target:
        service = make_forward(target)
        for _ in range(3):
            near, far = secure_memory_pair()
            async with served(service, near):
                assert await ask(far) == b"desserts"
    assert connections == 3


async def test_much_data_both_ways_at_once_arrives_whole() -> None:
    async def mirror(stream: trio.SocketStream) -> None:
        async with stream:
            while data := await stream.receive_some(1 << 16):
                await stream.send_all(data)

    near, far = secure_streams(*await tcp_pair())
    sent = os.urandom(1 << 20) * 16

    async def send() -> None:
        await far.send_all(sent)
        await far.send_eof()

    async with tcp_server(mirror) as target, served(make_forward(target), near) as running:
        received = hashlib.sha256()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            while data := await far.receive_some():
                received.update(data)
    assert running.failure is None
    assert received.digest() == hashlib.sha256(sent).digest()


# ---- forward: failures -------------------------------------------------------


def reported(caught: pytest.ExceptionInfo[trio.BrokenResourceError]) -> PeerReported:
    cause = caught.value.__cause__
    assert isinstance(cause, PeerReported)
    return cause


@pytest.mark.spec("SV-19", "EL-4")
@pytest.mark.parametrize("target", ["127.0.0.1", "unix:/no/such.sock"])
async def test_a_server_that_is_not_there_is_an_error_for_the_peer(
    target: str, caplog: pytest.LogCaptureFixture
) -> None:
    if target == "127.0.0.1":
        with socket.socket() as probe:
            probe.bind((target, 0))
            target += f":{probe.getsockname()[1]}"
    near, far = secure_memory_pair()
    async with served(make_forward(target), near) as running:
        with pytest.raises(trio.BrokenResourceError) as caught:
            await far.receive_some()
    error = reported(caught)
    assert error.code is ErrorCode.INTERNAL
    assert target not in error.text
    assert running.failure is None
    assert [target in record.getMessage() for record in caplog.records] == [True]


async def test_a_server_that_does_not_answer_is_an_error_for_the_peer(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(host: str, port: int) -> trio.SocketStream:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(trio, "open_tcp_stream", never)
    near, far = secure_memory_pair()
    async with served(make_forward("192.0.2.1:80"), near):
        with pytest.raises(trio.BrokenResourceError) as caught:
            await far.receive_some()
    assert reported(caught).code is ErrorCode.INTERNAL
    assert trio.current_time() == pytest.approx(forward_module.CONNECT_DEADLINE)


@pytest.mark.spec("SV-17", "SV-19", "SV-20")
async def test_a_server_that_resets_is_an_error_for_the_peer(caplog: pytest.LogCaptureFixture) -> None:
    async def reset(stream: trio.SocketStream) -> None:
        await stream.send_all(b"half an ans")
        await stream.receive_some()
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        await stream.aclose()

    near, far = secure_memory_pair()
    async with tcp_server(reset) as target, served(make_forward(target), near) as running:
        assert await far.receive_some() == b"half an ans"
        await far.send_all(b"go on")
        with pytest.raises(trio.BrokenResourceError) as caught:
            await far.receive_some()
    assert reported(caught).code is ErrorCode.INTERNAL
    assert running.failure is None
    assert [target in record.getMessage() for record in caplog.records] == [True]


async def test_a_server_that_stops_reading_and_goes_is_an_error_for_the_peer() -> None:
    async def close(stream: trio.SocketStream) -> None:
        await stream.receive_some(1)
        await stream.aclose()

    near, far = secure_memory_pair()
    async with tcp_server(close) as target, served(make_forward(target), near):
        with pytest.raises(trio.BrokenResourceError) as caught:
            while True:
                await far.send_all(bytes(65536))
                await trio.lowlevel.checkpoint()
    assert reported(caught).code is ErrorCode.INTERNAL


@attrs.define
class Uploads:
    """A server that takes uploads, and whether the last one came to its end."""

    outcome: str = "none"
    arrived: trio.Event = attrs.Factory(trio.Event)
    ended: trio.Event = attrs.Factory(trio.Event)

    async def handle(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await stream.receive_some()
                self.arrived.set()
                await read_all(stream)
                self.outcome = "whole"
            except trio.BrokenResourceError:
                self.outcome = "broken"
        self.ended.set()


@pytest.mark.spec("SV-17", "SV-20")
@pytest.mark.parametrize("how", ["truncated", "error", "grace over", "cancelled", "whole"])
async def test_an_upload_that_the_peer_did_not_finish_is_not_whole_for_the_server(how: str) -> None:
    uploads = Uploads()
    near, far = secure_memory_pair()
    async with tcp_server(uploads.handle) as target, served(make_forward(target), near) as running:
        await far.send_all(b"half an upload")
        await uploads.arrived.wait()
        match how:
            case "truncated":
                await trio.aclose_forcefully(far.transport)
            case "error":
                await far.close_with_error(ErrorCode.INTERNAL)
            case "grace over":
                await near.close_with_error(ErrorCode.SHUTTING_DOWN)
            case "cancelled":
                running.scope.cancel()
            case "whole":
                await far.aclose()
        await uploads.ended.wait()
    assert uploads.outcome == ("whole" if how == "whole" else "broken")
    expected = {"truncated": Truncated, "error": PeerReported, "grace over": trio.BrokenResourceError}
    assert type(running.failure) is expected.get(how, type(None))
    if how == "grace over":
        assert running.failure is not None
        assert type(running.failure.__cause__) is SessionEnded


async def test_a_peer_that_stops_reading_ends_the_service_as_a_listener_expects() -> None:
    async def flood(stream: trio.SocketStream) -> None:
        async with stream:
            with pytest.raises(trio.BrokenResourceError):
                while True:
                    await stream.send_all(bytes(65536))

    near, _ = secure_streams(*lockstep_stream_pair(), write_deadline=0.01)
    async with tcp_server(flood) as target, served(make_forward(target), near) as running:
        pass
    assert type(running.failure) is trio.BrokenResourceError
    assert type(running.failure.__cause__) is WriteStalled


@pytest.mark.spec("SV-24")
async def test_forward_goes_on_while_the_node_stops() -> None:
    near, far = secure_memory_pair()
    async with tcp_server(backwards) as target, served(make_forward(target), near) as running:
        await far.send_all(b"stres")
        running.shutting_down.set()
        await wait_all_tasks_blocked()
        assert await ask(far, b"sed") == b"desserts"
    assert running.failure is None


@pytest.mark.spec("SV-20")
async def test_a_failed_stream_closes_its_unix_socket_too(tmp_path: Path) -> None:
    uploads = Uploads()
    near, peer = stream_and_peer()
    async with unix_server(uploads.handle, tmp_path / "s") as target, served(make_forward(target), near) as running:
        peer.send(2, b"half an upload")
        await uploads.arrived.wait()
        peer.end()
        await uploads.ended.wait()
    assert type(running.failure) is Truncated
    assert BYE not in [type_ for type_, _ in peer.received()]


def test_a_factory_that_fails_or_gives_no_service_is_the_operators_to_hear_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argument: str) -> Any:
        raise ValueError(argument)

    class Shout:
        async def __call__(self, stream: SecureStream, context: ServiceContext) -> None: ...

    kinds: dict[str, Callable[[], Any]] = {
        "failing": lambda: fail,
        "none": lambda: lambda argument: None,
        "blocking": lambda: lambda argument: print,
        "object": lambda: lambda argument: Shout(),
    }
    monkeypatch.setattr(registry, "factories", lambda: kinds)
    for kind in ("failing", "none", "blocking"):
        with pytest.raises(UsageError):
            make_services([ServiceSpec.parse(kind)])
    assert len(make_services([ServiceSpec.parse("object")])) == 2
