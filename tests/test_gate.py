"""The source address check: who is worth listening to on the cluster port. Spec 5.12."""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from xlattice_trio.net.gate import RESOLVE_INTERVAL, SourceGate, normalize
from xlattice_trio.testing.identities import test_roster


class Resolver(trio.abc.HostnameResolver):
    """Knows the names that a test tells it."""

    def __init__(self, **names: Iterable[str]) -> None:
        self.names: dict[str, Iterable[str]] = dict(names)
        self.asked: list[str] = []

    async def getaddrinfo(self, host: bytes | None, *args: Any, **kwargs: Any) -> list[Any]:
        await trio.lowlevel.checkpoint()
        name = (host or b"").decode()
        self.asked.append(name)
        if name not in self.names:
            raise trio.socket.gaierror("not known")
        return [(0, 0, 0, "", (address, 0)) for address in self.names[name]]

    async def getnameinfo(self, *args: Any, **kwargs: Any) -> tuple[str, str]:
        raise NotImplementedError


@pytest.mark.spec("HS-66")
@pytest.mark.parametrize(
    ("address", "same"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("::", "::"),
    ],
)
def test_an_address_is_compared_without_its_zone_and_unmapped(address: str, same: str) -> None:
    assert normalize(address) == ip_address(same)


def test_what_is_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="node"):
        normalize("node.example")


@pytest.mark.spec("HS-67")
@pytest.mark.parametrize(
    ("address", "admitted"),
    [
        ("192.0.2.1", True),
        ("::ffff:192.0.2.1", True),
        ("2001:db8::1", True),
        ("192.0.2.2", False),
        ("2001:db8::2", False),
        ("::ffff:192.0.2.2", False),
    ],
)
async def test_only_members_addresses_are_admitted(address: str, admitted: bool) -> None:
    gate = SourceGate(test_roster(2, hosts=["192.0.2.1", "2001:db8::1"]))
    assert gate.admits(normalize(address)) is admitted


@pytest.mark.spec("HS-68", "HS-69")
async def test_a_name_admits_nobody_until_it_was_resolved(autojump_clock: MockClock) -> None:
    resolver = Resolver()
    trio.socket.set_custom_hostname_resolver(resolver)
    gate = SourceGate(test_roster(2, hosts=["192.0.2.1", "node.example"]))
    address = normalize("192.0.2.9")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.run)
        await trio.sleep(1)
        assert resolver.asked == ["node.example"]
        assert not gate.admits(address)
        resolver.names["node.example"] = ["192.0.2.9", "2001:db8::9"]
        await trio.sleep(RESOLVE_INTERVAL)
        assert gate.admits(address)
        assert gate.admits(normalize("2001:db8::9"))
        assert len(resolver.asked) == 2  # by the task alone: to ask the gate resolves nothing
        nursery.cancel_scope.cancel()


@pytest.mark.spec("HS-68", "HS-70")
async def test_the_last_good_answer_stays_and_a_new_one_replaces_it(autojump_clock: MockClock) -> None:
    resolver = Resolver(**{"node.example": ["192.0.2.9"]})
    trio.socket.set_custom_hostname_resolver(resolver)
    gate = SourceGate(test_roster(2, hosts=["192.0.2.1", "node.example"]))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.run)
        await trio.sleep(1)
        del resolver.names["node.example"]
        await trio.sleep(5 * RESOLVE_INTERVAL)
        assert gate.admits(normalize("192.0.2.9"))
        resolver.names["node.example"] = ["192.0.2.10"]
        await trio.sleep(RESOLVE_INTERVAL)
        assert not gate.admits(normalize("192.0.2.9"))
        assert gate.admits(normalize("192.0.2.10"))
        nursery.cancel_scope.cancel()


@pytest.mark.spec("HS-67")
async def test_the_hosts_of_the_roster_before_count_for_the_grace_time(autojump_clock: MockClock) -> None:
    gate = SourceGate(test_roster(3, hosts=["192.0.2.1", "192.0.2.2", "192.0.2.3"]), grace=100)
    gate.adopt(test_roster(2, epoch=2, hosts=["192.0.2.1", "192.0.2.12"]))  # one moved, one was removed
    old, new, removed = map(normalize, ("192.0.2.2", "192.0.2.12", "192.0.2.3"))
    assert gate.admits(old)
    assert gate.admits(new)
    assert not gate.admits(removed)
    await trio.sleep(99)
    assert gate.admits(old)
    await trio.sleep(1)
    assert not gate.admits(old)
    assert gate.admits(new)


@pytest.mark.spec("HS-70")
async def test_the_names_of_a_new_roster_are_resolved_at_once_and_old_ones_forgotten(autojump_clock: MockClock) -> None:
    resolver = Resolver(**{"old.example": ["192.0.2.8"], "new.example": ["192.0.2.9"]})
    trio.socket.set_custom_hostname_resolver(resolver)
    gate = SourceGate(test_roster(2, hosts=["192.0.2.1", "old.example"]), grace=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(gate.run)
        await wait_all_tasks_blocked()
        assert gate.admits(normalize("192.0.2.8"))
        gate.adopt(test_roster(2, epoch=2, hosts=["192.0.2.1", "new.example"]))
        await wait_all_tasks_blocked()
        assert gate.admits(normalize("192.0.2.9"))
        assert gate.admits(normalize("192.0.2.8"))
        await trio.sleep(RESOLVE_INTERVAL + 1)
        assert not gate.admits(normalize("192.0.2.8"))
        assert gate._resolved.keys() == {"new.example"}
        nursery.cancel_scope.cancel()
