"""The machine for whoever dials a cluster: it finds nothing in this package, and finds what is put into it."""

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any

import pytest
import trio

from tests.machines import run_briefly
from xlattice_trio import client
from xlattice_trio.client import ClusterClient
from xlattice_trio.fuzz.batch import Job
from xlattice_trio.fuzz.batch import run as run_batch
from xlattice_trio.fuzz.machines.base import with_driver
from xlattice_trio.fuzz.machines.clients import ANSWERS, COUNT, FAILS, ClientMachine
from xlattice_trio.fuzz.memory import Memory
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.link.backoff import Backoff
from xlattice_trio.net import dial
from xlattice_trio.wire.messages import ClientAccess, Role

NAME = "xlattice_trio.fuzz.machines.clients:CLIENT"
Patch = pytest.MonkeyPatch


def run(examples: int) -> None:
    """A short run, the same each time."""
    run_briefly(with_driver(ClientMachine, Memory), examples, steps=10)


@contextmanager
def began(access: ClientAccess = ClientAccess.ANYONE) -> Iterator[ClientMachine]:
    """A machine that has begun."""
    state = with_driver(ClientMachine, Memory)()
    try:
        state.start(access=access, deadline=10.0)
        yield state
    finally:
        state.teardown()


# ---- nothing is wrong --------------------------------------------------------


def test_nothing_is_found() -> None:
    run(20)


@pytest.mark.parametrize("way", [*FAILS, *ANSWERS])
@pytest.mark.spec("SV-28", "SV-30", "SV-32", "SV-34", "SV-35", "SV-36", "HS-76")
def test_whatever_a_member_does(way: str) -> None:
    with began() as state:
        state.open_stream(ways=[way, way, way, way, "answers", way], listed=True, seed=0, service="web", one=None)
        state.open_stream(ways=[way, way, "answers"], listed=False, seed=0, service="web", one=1)
        state.open_member_stream(way=way, own=0, other=1)


@pytest.mark.parametrize("access", ClientAccess)
@pytest.mark.spec("SV-29", "SV-31")
def test_rounds_have_their_orders(access: ClientAccess) -> None:
    with began(access) as state:
        state.open_stream(ways=["nobody"] * 9, listed=False, seed=0, service="web", one=None)
        state.draw_orders(seed=3)


def test_a_batch_can_be_had_again() -> None:
    results = [
        run_batch(Job(machine=NAME, driver="memory", seed=5, examples=3, seconds=60.0, processor_time=True))
        for _ in range(2)
    ]
    assert [(result.failure, result.reached) for result in results] == [(None, results[0].reached)] * 2
    assert results[0].steps == results[1].steps


def test_the_network_is_what_it_was_again() -> None:
    before = trio.open_tcp_stream
    with began():
        assert trio.open_tcp_stream is not before
    assert trio.open_tcp_stream is before


# ---- something is ------------------------------------------------------------


def one_order(patch: Patch) -> None:
    class Chance(random.Random):
        def shuffle(self, x: Any) -> None:
            if not hasattr(self, "was"):
                super().shuffle(x)
            self.was = True

    patch.setattr("xlattice_trio.fuzz.machines.clients._chance", Chance)


def rotation(patch: Patch) -> None:
    class Chance(random.Random):
        def shuffle(self, x: Any) -> None:
            at = self.randrange(len(x))
            x[:] = x[at:] + x[:at]

    patch.setattr("xlattice_trio.fuzz.machines.clients._chance", Chance)


def no_wait(patch: Patch) -> None:
    patch.setattr(Backoff, "next_delay", lambda self: 0.01)


def equal_waits(patch: Patch) -> None:
    patch.setattr(Backoff, "next_delay", lambda self: 1.0)


async def _connected_in_its_own_time(host: str, port: int, intent: Intent, *, deadline: float, **rest: Any) -> Any:
    transport = await trio.open_tcp_stream(host, port)
    stream = await dial.initiate(transport, intent, deadline=deadline)
    rest["keepalive_nursery"].start_soon(stream.keep_alive)
    return stream


def connecting_not_counted(patch: Patch) -> None:
    patch.setattr(client, "open_secure_stream", _connected_in_its_own_time)


def no_keepalives(patch: Patch) -> None:
    open_secure_stream = dial.open_secure_stream

    async def opened(*args: Any, keepalive_nursery: Any, **rest: Any) -> Any:
        return await open_secure_stream(*args, **rest)

    patch.setattr(client, "open_secure_stream", opened)


def intent_with(change: Callable[[dict[str, Any]], None]) -> Callable[..., Intent]:
    """What makes an Intent with something else in it."""

    def made(**values: Any) -> Intent:
        change(values)
        return Intent(**values)

    return made


def always_anonymous(patch: Patch) -> None:
    patch.setattr(client, "Intent", intent_with(lambda v: v.update(role=Role.ANONYMOUS, identity=None, knock=b"")))


def shorter_service(patch: Patch) -> None:
    patch.setattr(client, "Intent", intent_with(lambda v: v.update(service=v["service"][:63])))


def another_try(patch: Patch) -> None:
    open_stream = ClusterClient.open_stream

    async def opened(self: Any, service: str, *, nursery: trio.Nursery, **rest: Any) -> Any:
        stream = await open_stream(self, service, nursery=nursery, **rest)
        nursery.start_soon(try_again, partial(open_stream, self, service, nursery=nursery, **rest))
        return stream

    async def try_again(function: Callable[[], Any]) -> None:
        with suppress(client.NoMemberReachable):
            await function()

    patch.setattr(ClusterClient, "open_stream", opened)


def fewer_failures(patch: Patch) -> None:
    made = client.NoMemberReachable.__init__

    def init(self: Any, cluster: str, failures: Sequence[Any]) -> None:
        made(self, cluster, failures[-1:] if len(failures) == COUNT else failures)

    patch.setattr(client.NoMemberReachable, "__init__", init)


@pytest.mark.parametrize(
    "fault",
    [
        one_order,
        rotation,
        no_wait,
        equal_waits,
        connecting_not_counted,
        no_keepalives,
        always_anonymous,
        shorter_service,
        another_try,
        fewer_failures,
    ],
)
def test_fault_is_found(fault: Callable[[Patch], None], monkeypatch: Patch) -> None:
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        run(30)
