"""A client, or a member that needs another, which dials the members of a cluster, whatever it meets there.

The invariants:
- The members of the card are tried in random order, each once a round, and each round has an order of its own; who was
  tried for its time, connecting included, is given up then, and not before. [SV-30] [SV-31] [SV-34] [SV-36] [HS-76]
- Between rounds passes the time that is due, and after the last one all failures of it are told. [SV-32]
- Whoever is dialled gets a Hello for itself, by the client or by nobody, for that service and no other. [SV-28] [HS-1]
  [HS-12]
- Nobody is dialled any more when there is a session, whatever comes of that. [SV-35] [SV-38]
- Without an identity, a cluster for listed clients is not dialled. [SV-29]

What the attacker says as a member, right and wrong, is what `machines.initiator` does in full.
"""

import functools
import math
import random
from collections.abc import Sequence
from typing import Any

import trio
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from xlattice_trio.client import ClusterClient, NoMemberReachable, open_member_stream
from xlattice_trio.errors import HandshakeRefused, PeerReported, UsageError
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.memory_client import Attempt, Call, MemoryClient
from xlattice_trio.fuzz.registry import MachineInfo
from xlattice_trio.fuzz.session_model import BYE, CONFIRM, DATA, ERROR, KEEPALIVE, error_codes, limit
from xlattice_trio.handshake.outcome import Side
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.roster import (
    VerifiedClusterCard,
    VerifiedRoster,
    make_cluster_card,
    verify_cluster_card,
)
from xlattice_trio.testing.identities import PORTS, test_authority, test_roster
from xlattice_trio.testing.toolbox import RawPeer, error_payload
from xlattice_trio.wire.messages import ClientAccess, Purpose, Role

COUNT = 3
_TICK = 0.125  # seconds
_SLACK = 0.001  # seconds: a round begins at any time, and sums of such times are not exact
_KEEPALIVE = 15_000  # milliseconds: what the attacker asks for as a member
# What a member does that is dialled; the first ones are no connections.
FAILS = ("nobody", "hangs", "slow", "silent", "drips", "closes", "breaks", "no reply", "wrong reply", "half a reply")
ANSWERS = ("answers", "Error", "Bye", "newer")
_WAYS = st.sampled_from((*FAILS, *FAILS, *ANSWERS))


@functools.cache
def _cast(access: ClientAccess) -> Cast:
    return make_cast(COUNT, 1, client_access=access)


@functools.cache
def _roster(access: ClientAccess) -> VerifiedRoster:
    """The cast's, with hosts in its members' places."""
    return test_roster(COUNT, 1, client_access=access, hosts=_hosts())


@functools.cache
def _card(access: ClientAccess) -> VerifiedClusterCard:
    return verify_cluster_card(make_cluster_card(test_authority(), _roster(access)))


def _chance(seed: int) -> random.Random:
    return random.Random(seed)  # noqa: S311 - what depends on it is to be had again


def _hosts() -> list[str]:
    """Of the members."""
    return [f"192.0.2.{number + 1}" for number in range(COUNT)]


class ClientMachine(TargetMachine):
    """Who dials, and the members that the attacker plays."""

    client: MemoryClient

    @initialize(access=st.sampled_from(list(ClientAccess)), deadline=st.sampled_from((10.0, 4.0)))
    def start(self, access: ClientAccess, deadline: float) -> None:
        """A cluster, and what dials it."""
        world: Any = self.driver
        self.access, self.deadline = access, deadline
        self.has_drawn = False  # once in an example
        self.meet(_cast(access))
        responder = _cast(access).responder
        assert responder is not None
        self.attacker.own(responder)
        self.client = world.client()

    def teardown(self) -> None:
        """The network is the machine's again."""
        try:
            super().teardown()
        finally:
            if hasattr(self, "client"):
                self.client.close()

    # ---- what it meets ----

    def meets(self, call: Call, number: int) -> Attempt:
        """The connection of that number is asked for now."""
        attempts = self.client.attempts
        assert len(attempts) == number + 1, f"{len(attempts)} connections are asked for where {number + 1} are due"
        attempt = attempts[-1]
        late = self.driver.now - attempt.at
        assert late < 2 * _TICK, f"{late:g} s ago a connection was asked for, and nobody was told to [SV-34]"
        assert not call.is_done, f"{call.exception!r} before all were tried [SV-34]"
        return attempt

    def hello(self, attempt: Attempt, role: Role, service: str, as_: LocalIdentity | None) -> bytes:
        """The Hello that has come, which has to be right for whom it was sent to."""
        assert attempt.wire is not None
        frame = attempt.wire.received()
        member = next(one for one in _roster(self.access).roster.members if one.host == attempt.host)
        opened = self.attacker.open_hello(frame)
        assert opened is not None, f"what is sent to {attempt.host} is no Hello for it [HS-1]"
        encoded = service.encode()
        expected = {
            "role": bytes((role,)),
            "purpose": bytes((Purpose.STREAM,)),
            "service": bytes((len(encoded),)) + encoded,
            "cluster": _cast(self.access).cluster_id,
        }
        for name, value in expected.items():
            found = opened.field(name)
            assert found == value, f"the Hello has {name} {found.hex()}, not {value.hex()} [HS-12] [SV-28]"
        recipients = [one.node_id.value for one in self.everybody() if one.card.card.ck == member.card.ck]
        assert opened.field("recipient")[1:] in recipients, "the Hello names another recipient [HS-1]"
        assert opened.field("initiator")[1:] == (as_.node_id.value if as_ else b""), (
            "it is of another initiator [HS-12]"
        )
        return frame

    def everybody(self) -> list[LocalIdentity]:
        """The members."""
        cast = _cast(self.access)
        assert cast.responder is not None
        return [*cast.members, cast.responder]

    def gives_up(self, attempt: Attempt, what: str) -> None:
        """A connection on which nothing comes of it any more is given up at its deadline. [HS-76] [SV-36]"""
        count = len(self.client.attempts)
        self.driver.pass_time(attempt.at + self.deadline - _TICK - self.driver.now)
        early = len(self.client.attempts) != count or (attempt.is_over if attempt.wire is None else attempt.wire.closed)
        assert not early, f"who {what} is given up before {self.deadline} s [HS-76]"
        self.driver.pass_time(_TICK + _SLACK)
        late = not attempt.is_over if attempt.wire is None else not attempt.wire.closed
        assert not late, f"who {what} is not given up {self.deadline} s after it was dialled [HS-76] [SV-36]"

    def fail(self, attempt: Attempt, frame: bytes) -> None:
        """It fails, in its way."""
        wire = attempt.wire
        assert wire is not None
        made = self.attacker.reply(frame, epoch=1, keepalive=_KEEPALIVE)
        assert made is not None
        match attempt.way:
            case "silent" | "slow":
                self.gives_up(attempt, "says nothing")
            case "half a reply":
                wire.send(made.frame[:700])
                self.gives_up(attempt, "says half of a HelloReply")
            case "drips":
                for byte in range(3):
                    self.driver.pass_time(1)
                    wire.send(made.frame[byte : byte + 1])
                self.gives_up(attempt, "says a byte now and then")
            case "closes":
                wire.close()
            case "breaks":
                wire.reset()
            case "no reply":
                wire.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            case "wrong reply":
                wire.send(made.frame[:-1] + bytes((made.frame[-1] ^ 1,)))
        assert wire.closed, f"{attempt.way}: and the handshake goes on [HS-52] [HS-78]"

    def answer(self, attempt: Attempt, frame: bytes, call: Call) -> None:
        """It answers, and something comes of the session: nobody else is dialled. [SV-35] [SV-38]"""
        wire, count = attempt.wire, len(self.client.attempts)
        assert wire is not None
        made = self.attacker.reply(frame, epoch=9 if attempt.way == "newer" else 1, keepalive=_KEEPALIVE)
        assert made is not None
        wire.send(made.frame)
        peer = self.attacker.peer(Side.RESPONDER, frame, made.frame)
        assert peer is not None
        assert peer.feed(wire.received()) == [(CONFIRM, b"")], "no Confirm in answer to a HelloReply [HS-54]"
        assert call.stream is not None, f"there is a session, and no stream: {call.exception} [SV-35]"
        match attempt.way:
            case "Error":
                code = error_codes()["unknown_service"]
                wire.send(peer.record(ERROR, error_payload(code)))
                cause = None if call.exception is None else call.exception.__cause__
                assert isinstance(cause, PeerReported), f"{call.exception} where the peer's Error is due [SE-58]"
                assert cause.code == code, f"{cause.code} where unknown_service is due [SE-58]"
            case "Bye":
                wire.send(peer.record(BYE))
                assert peer.feed(wire.received()) == [(BYE, b"")], "no Bye behind the peer's [SE-81]"
            case _:
                self.talk(wire, peer)
        self.driver.pass_time(100)
        assert len(self.client.attempts) == count, "another member is dialled behind a session [SV-35]"

    def talk(self, wire: Any, peer: RawPeer) -> None:
        """Data goes both ways, and a KeepAlive comes when it is time. [SE-31]"""
        wire.send(peer.record(DATA, b"some data"))
        assert peer.feed(wire.received()) == [(DATA, b"some data")], "the stream does not carry data"
        self.driver.pass_time(_KEEPALIVE / 1000 + _SLACK)
        assert peer.feed(wire.received()) == [(KEEPALIVE, b"")], "no KeepAlive when it is time [SE-31]"

    # ---- clients ----

    @rule(
        ways=st.lists(_WAYS, min_size=3, max_size=9),
        listed=st.booleans(),
        seed=st.integers(0, 1000),
        service=st.sampled_from(("web", "s" * 64, "e\u0301")),
        one=st.sampled_from((None, None, 0, 1, 2)),
    )
    def open_stream(self, ways: list[str], listed: bool, seed: int, service: str, one: int | None) -> None:
        """A client calls for a stream, with an identity or without one, from any member or from one."""
        card = _card(self.access)
        identity = _cast(self.access).clients[0] if listed else None
        members = COUNT if one is None else 1
        rounds = len(ways) // members
        make = functools.partial(
            ClusterClient, card, identity, deadline=self.deadline, rounds=rounds, rng=_chance(seed)
        )
        if identity is None and self.access is ClientAccess.LISTED:
            try:
                make()
            except UsageError:
                return
            raise AssertionError("a cluster for listed clients is to be dialled without an identity [SV-29]")
        client = make()
        member = None if one is None else sorted(card.members)[one]

        async def call_for(nursery: trio.Nursery) -> Any:
            return await client.open_stream(service, nursery=nursery, member=member)

        call = self.client.call(ways[: rounds * members], call_for)
        role = Role.CLIENT if listed else Role.ANONYMOUS
        hosts = _hosts() if member is None else [card.members[member].host]
        if self.follow(call, hosts, rounds, PORTS[1], (role, service, identity)):
            return
        exc = call.exception
        assert isinstance(exc, NoMemberReachable), f"{exc!r} where no member was reached"
        last = [attempt.host for attempt in self.client.attempts[-members:]]
        assert [failure.host for failure in exc.failures] == last, "not all failures of the last round are told"

    def follow(
        self, call: Call, hosts: Sequence[str], rounds: int, port: int, said: tuple[Role, str, LocalIdentity | None]
    ) -> bool:
        """All that happens until there is a session, or until all rounds are over: whether there was one. Whoever is
        at `hosts` is tried, at that port."""
        number = 0
        for round_ in range(rounds):
            left = list(hosts)
            while left:
                if len(self.client.attempts) <= number:
                    raise AssertionError(f"only {number} connections are asked for: {call.exception!r} [SV-34]")
                attempt = self.client.attempts[number]
                number += 1
                assert attempt.host in left, f"{attempt.host} is tried where {left} are left [SV-30]"
                assert attempt.port == port, f"port {attempt.port} of {attempt.host}, and {port} is the one (8.6)"
                left.remove(attempt.host)
                if attempt.way == "nobody":
                    continue
                self.meets(call, number - 1)
                if attempt.way == "hangs":
                    self.gives_up(attempt, "cannot be connected to")
                    continue
                if attempt.way == "slow":
                    self.driver.pass_time(3.0)
                frame = self.hello(attempt, *said)
                if attempt.way in ANSWERS:
                    self.answer(attempt, frame, call)
                    return True
                self.fail(attempt, frame)
            if round_ + 1 < rounds:
                self.wait_for_round(number, round_)
        assert call.is_done, "the last round is over, and it goes on"
        assert len(self.client.attempts) == number, (
            f"{len(self.client.attempts)} connections in {rounds} rounds [SV-30]"
        )
        return False

    def wait_for_round(self, number: int, round_: int) -> None:
        """The time between two rounds. [SV-32] [LK-7]"""
        wait = min(limit("BACKOFF_MIN") * 2**round_, limit("BACKOFF_MAX"))
        self.driver.pass_time(wait / 2 - _TICK)
        assert len(self.client.attempts) == number, f"round {round_ + 2} begins too early [SV-32]"
        for _ in range(int(wait / _TICK) + 2):
            if len(self.client.attempts) > number:
                return
            self.driver.pass_time(_TICK)
        raise AssertionError(f"round {round_ + 2} does not begin in {1.5 * wait} s [SV-32]")

    @precondition(lambda self: not self.has_drawn)
    @rule(seed=st.integers(0, 3))
    def draw_orders(self, seed: int) -> None:
        """Of many rounds each order comes in some. [SV-30] [SV-31]"""
        self.has_drawn = True
        rounds = 120  # in which an order is missing once in 500 million times
        client = ClusterClient(_card(ClientAccess.ANYONE), rounds=rounds, rng=_chance(seed))

        async def call_for(nursery: trio.Nursery) -> Any:
            return await client.open_stream("web", nursery=nursery)

        call = self.client.call([], call_for)
        self.driver.pass_time(1.5 * limit("BACKOFF_MAX") * rounds)
        assert call.is_done, f"{len(self.client.attempts)} connections in {rounds} rounds [SV-32] [SV-34]"
        hosts = [attempt.host for attempt in self.client.attempts]
        orders = {tuple(hosts[at : at + COUNT]) for at in range(0, len(hosts), COUNT)}
        assert len(orders) == math.factorial(COUNT), f"of all orders only {sorted(orders)} come [SV-30] [SV-31]"

    # ---- members ----

    @rule(way=_WAYS, own=st.integers(0, COUNT - 1), other=st.integers(1, COUNT - 1))
    def open_member_stream(self, way: str, own: int, other: int) -> None:
        """A member calls for a stream to another, over the cluster port: one try, from its own host."""
        roster, everybody = _roster(self.access), self.everybody()
        identity, member = everybody[own], everybody[(own + other) % COUNT]
        host = roster.members[member.node_id].host

        async def call_for(nursery: trio.Nursery) -> Any:
            return await open_member_stream(
                identity, roster, member.node_id, "web", nursery=nursery, deadline=self.deadline
            )

        call = self.client.call([way], call_for)
        has_session = self.follow(call, [host], 1, PORTS[0], (Role.MEMBER, "web", identity))
        source, own_host = self.client.attempts[0].source, roster.members[identity.node_id].host
        assert source == own_host, f"a member dials from {source}, and its host is {own_host} [HS-71]"
        if not has_session:
            assert isinstance(call.exception, HandshakeRefused | OSError), f"{call.exception!r} where a dial has failed"


CLIENT = MachineInfo(
    "client",
    "who dials a cluster tries each member once a round and for its time, and no other once it has a session",
    ClientMachine,
    drivers=("memory",),
    share=0.5,
)
MACHINES = (CLIENT,)
