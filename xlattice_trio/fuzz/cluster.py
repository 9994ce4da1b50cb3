"""A cluster in memory, for the memory driver: members whose links run as in a node, and a rogue member beside them.

A `Node` is what `node` makes of `cluster.links` and `cluster.rosters`: the cluster port (`net.listen`), dialling
(`net.dial`), the roster in force and its store, all tasks as they are there; only the sockets are those of a `Network`,
and the keys have no files. A `Cluster` can cut, delay and break what lies between two of them, stop them in three ways
and start them anew. Nothing here judges what they do.
"""

import math
import random
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import trio

from xlattice_trio.cluster.links import Links
from xlattice_trio.cluster.rosters import Rosters
from xlattice_trio.errors import ErrorCode, HandshakeRefused, RefusalReason, UsageError
from xlattice_trio.fuzz.cluster_cast import (
    COUNT,
    KEEPALIVE,
    PORT,
    first_roster,
    host,
    identities,
    link_intent,
    number_of,
    peer_of,
)
from xlattice_trio.fuzz.rogue import Rogue
from xlattice_trio.fuzz.standins import KeysWithoutFiles, StandIns
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.handshake.replay import ReplayCache
from xlattice_trio.handshake.responder import Welcome
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.identity.storage import save_held_roster
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.net.dial import initiate
from xlattice_trio.net.listen import Handshakes, serve_secure_listeners
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.roster import VerifiedMember, VerifiedRoster
from xlattice_trio.testing.network import MemoryConnection, Network

STOPS = ("stops", "crashes", "vanishes")
_BUFFER = 4096  # bytes that a direction of a connection holds: less than a roster

# ---- one member --------------------------------------------------------------


class Luck(random.Random):
    """Chance that can be had again, and that is never against the same one for long: of several, none is chosen three
    times in a row. So there is a time in which everybody has had a turn."""

    def __init__(self, seed: str) -> None:
        super().__init__(seed)
        self._chosen: list[Any] = []

    def choice(self, seq: Any) -> Any:
        others = [one for one in seq if [one, one] != self._chosen]
        self._chosen = [*self._chosen[-1:], super().choice(others or seq)]
        return self._chosen[-1]


@attrs.define(eq=False)
class Dial:
    """A dial: whom, when, and at which epoch; whether another one to the same was under way."""

    peer: int
    at: float
    epoch: int
    is_double: bool
    is_over: bool = False


@attrs.define(eq=False)
class Node:
    """A member. Its directory outlives its runs. `dials` and `sessions` are those of this run, `adoptions` (when, and
    which epoch) those of all."""

    cluster: "Cluster"
    number: int
    directory: Path
    adoptions: list[tuple[float, int]] = attrs.Factory(list)
    runs: int = 0
    since: float = 0.0  # of this run
    dials: list[Dial] = attrs.Factory(list)
    sessions: list[SecureStream] = attrs.Factory(list)
    rosters: Rosters = attrs.field(init=False)
    links: Links = attrs.field(init=False)
    _handshakes: Handshakes = attrs.field(init=False)
    _scope: trio.CancelScope = attrs.field(init=False)
    _accepting: trio.CancelScope = attrs.field(init=False)
    _is_stopping: bool = False
    _ended: trio.Event = attrs.field(init=False)

    @property
    def is_running(self) -> bool:
        """Whether its run has not ended."""
        return not self._ended.is_set()

    @property
    def identity(self) -> LocalIdentity:
        """Its keys."""
        return identities()[self.number]

    @property
    def epoch(self) -> int:
        """Of the roster in force."""
        return self.rosters.roster.epoch

    def session_with(self, peer: int) -> list[SecureStream]:
        """Its sessions with a member, by number: those that are not about to end."""
        return [one for one in self.sessions if peer_of(one) == peer and not (one._ending or one._over.is_set())]

    # ---- its life ----

    def prepare(self) -> None:
        """Begin a run, with what is stored."""
        self.runs, self.since = self.runs + 1, trio.current_time()
        self.dials, self.sessions = [], []
        self.rosters = Rosters(self.directory, KeysWithoutFiles(self.directory, self.identity))
        self.rosters.on_adoption = self._adopted
        rng = Luck(f"{self.cluster.luck} {self.number} {self.runs}")
        self.links = Links(self.identity.node_id, self.rosters, self._dial, self._tracked, rng)
        self._handshakes = Handshakes()
        self._scope, self._accepting, self._is_stopping = trio.CancelScope(), trio.CancelScope(), False
        self._ended = trio.Event()

    async def run(self) -> None:
        """A run. As `_Node` in `node` has it."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.rosters.run)
                await nursery.start(self.links.run)
                with self._accepting:
                    await self._listen(nursery)
                await trio.sleep_forever()
        self._ended.set()

    async def stop(self, how: str) -> None:
        """End the run, politely or not. A node that vanishes tells nobody: no end of a connection arrives."""
        streams = list(self.sessions)
        if how == "stops":
            self._is_stopping = True
            self._accepting.cancel()
            await self.links.stop()
        transports = [stream.transport for stream in streams if isinstance(stream.transport, MemoryConnection)]
        for transport in transports if how == "vanishes" else ():
            transport.outgoing.delay = math.inf
            transport.incoming.unwant(swallow=True)
        self._scope.cancel()
        await self._ended.wait()
        for transport in transports if how == "vanishes" else ():
            transport.incoming.unwant(swallow=True)

    async def _listen(self, nursery: trio.Nursery) -> None:
        """The cluster port is open while the node is a member. [RO-58] [RO-59]"""
        welcome = Welcome(
            port=Port.CLUSTER,
            node_id=self.identity.node_id,
            roster=lambda: self.rosters.roster,
            accepted_keys=lambda: self.rosters.accepted,
            replay=ReplayCache(),
            link_keepalive=KEEPALIVE,
        )
        while True:
            changed = self.rosters.changed
            if self.rosters.is_member:
                listeners: Any = [self.cluster.network.listen(host(self.number), PORT)]
                serve = partial(serve_secure_listeners, handshakes=self._handshakes, handler_nursery=nursery)
                async with trio.open_nursery() as accepting:
                    await accepting.start(serve, self._serve, listeners, welcome)
                    while self.rosters.is_member:
                        await changed.wait()
                        changed = self.rosters.changed
                    accepting.cancel_scope.cancel()
            else:
                await changed.wait()

    async def _serve(self, stream: SecureStream) -> None:
        with self._tracked(stream):
            if self._is_stopping:
                await stream.close_with_error(ErrorCode.SHUTTING_DOWN, "this member is stopping")
            else:
                await self.links.accept(stream)

    async def _dial(self, roster: VerifiedRoster, peer: VerifiedMember) -> SecureStream:
        """As `dial_link` in `cluster.links`."""
        to = number_of(peer.node_id)
        is_double = any(dial.peer == to and not dial.is_over for dial in self.dials)
        dial = Dial(to, trio.current_time(), roster.epoch, is_double)
        self.dials.append(dial)
        try:
            with trio.move_on_after(HANDSHAKE_DEADLINE):
                connection = await self.cluster.network.dial(peer.host, roster.cluster_port, source=host(self.number))
                return await initiate(connection, link_intent(self.number, roster, to))
            raise HandshakeRefused(RefusalReason.DEADLINE)
        finally:
            dial.is_over = True

    @contextmanager
    def _tracked(self, stream: SecureStream) -> Iterator[None]:
        self.sessions.append(stream)
        try:
            yield
        finally:
            self.sessions.remove(stream)

    def _adopted(self) -> None:
        self.adoptions.append((trio.current_time(), self.epoch))
        self._handshakes.recheck()
        self.links.adopted()


# ---- all of them -------------------------------------------------------------


class Cluster:
    """Members, all with the roster of epoch 1, that run, and a rogue member: the one of that number.

    `driver` is a `Memory`. `work` are the seconds that a thread takes, `luck` is for the nodes' random choices. To be
    closed before the driver is.
    """

    def __init__(self, driver: Any, *, rogue: int, way: str, work: float = 0.0, luck: int = 0) -> None:
        self.network = Network(buffer=_BUFFER)
        self.luck = luck
        self._driver = driver
        self._stand_ins = StandIns(work)
        try:
            self._begin(rogue, way)
        except BaseException:
            self.close()
            raise

    def _begin(self, rogue: int, way: str) -> None:
        self.rogue = Rogue(self.network, rogue, way)
        self._driver.start(self.rogue.run)
        self.nodes: dict[int, Node] = {}
        for number in reversed([number for number in range(COUNT) if number != rogue]):  # nobody is dialled in vain
            node = self.nodes[number] = Node(self, number, self._stand_ins.directory / str(number))
            node.directory.mkdir(mode=0o700)
            save_held_roster(node.directory, first_roster(), 1)
            self.start(number)

    # ---- nodes ----

    def start(self, number: int) -> None:
        """A node begins to run."""
        node = self.nodes[number]
        self._do(node.prepare)
        self._driver.start(node.run)

    def stop(self, number: int, how: str, away: float) -> None:
        """A node's run ends, in one of STOPS, and it is away for so many seconds from then on."""
        self._driver.start(self.nodes[number].stop, how)
        self._driver.pass_time(away)
        for _ in range(100):
            if not self.nodes[number].is_running:
                return
            self._driver.pass_time(0.25)
        raise AssertionError("a node that is stopped does not end")

    def load(self, number: int, roster: VerifiedRoster) -> None:
        """What an operator does: store a roster in the node's directory, and tell the node."""
        save_held_roster(self.nodes[number].directory, roster, roster.epoch)
        self._driver.start(self.nodes[number].rosters.reload)

    def rogue_does(self, what: Callable[[], object]) -> None:
        """The rogue does something that waits for nothing."""
        self._do(what)

    # ---- the network ----

    def disturb(self, pair: Iterable[int], how: str) -> None:
        """Something happens between two hosts: cut, heal, slow, too slow, reset."""
        a, b = map(host, pair)
        network, delays = self.network, {"slow": 0.5, "too slow": 3.0, "heal": 0.0}

        def act() -> None:
            if how == "cut":
                network.cut(a, b)
            elif how == "reset":
                network.reset(a, b)
            else:
                network.set_delay(a, b, delays[how])
            if how == "heal":
                network.heal(a, b)

        self._do(act)

    def _do(self, function: Callable[[], object]) -> None:
        """Do it in the run of Trio."""

        async def do() -> None:
            function()

        self._driver.run(do)

    def close(self) -> None:
        """Threads are threads again, and the files are gone."""
        try:
            with suppress(UsageError):  # the target has crashed
                self._do(self._stand_ins.hurry.set)
        finally:
            self._stand_ins.close()
