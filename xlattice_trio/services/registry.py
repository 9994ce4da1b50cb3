"""Services by name, and how a package adds a kind of its own.

A node offers *services*, by name, on either port or both. A service is of a *kind*; which kinds there are is decided by
what is installed. A kind is a `Factory`: a function that takes the text that the operator wrote behind the kind's name
and returns a `Service`: an async function that is called once for each stream and talks to its peer until the stream's
end. That is the whole contract. A package that adds the kind `shout`, complete, in `shout.py`:

    from xlattice_trio.errors import UsageError
    from xlattice_trio.net.stream import SecureStream
    from xlattice_trio.services.registry import Service, ServiceContext

    def make(argument: str) -> Service:
        if not argument.isprintable():
            raise UsageError(f"shout ends each piece with {argument!r}, which cannot be printed")

        async def shout(stream: SecureStream, context: ServiceContext) -> None:
            while data := await stream.receive_some():
                await stream.send_all(data.upper() + argument.encode())
            await stream.send_eof()

        return shout

and in its pyproject.toml:

    [project.entry-points."xlattice_trio.services"]
    shout = "shout:make"

When it is installed beside this package, an operator writes `shout`, `shout:!` or `loud=shout:!`.

What the factory has to know:

* It is called once for each service, when the node starts, before Trio runs. It raises UsageError if the argument is
  wrong, and the operator reads the text. The argument is empty if none was given.

What the service has to know:

* It is called after the handshake, in a task of its own, with a stream that nobody else reads or writes. `context`
  says who the peer is; believe that, and nothing in the data.
* An operator can restrict it, to some peers and to a number of streams (`Restricted`): who is not let in never reaches
  it. It may be stricter: for a peer who may not, `await stream.close_with_error(ErrorCode.NOT_AUTHORIZED)` and return;
  ErrorCode.OVER_CAPACITY if there is no room; in this order, and before anything is read.
* `receive_some` gives b"" when the peer has said all that it had to say, and only then. A stream that broke raises
  trio.BrokenResourceError, whose `__cause__` says why: PeerReported, Truncated and so on. Let it pass.
* `send_eof` ends its own direction; reading goes on. When the service returns, the node ends the stream with Bye, and
  waits a while for the peer's.
* If the service fails, the peer has to be told: `await stream.close_with_error(ErrorCode.INTERNAL, text)`, and return
  or raise. `text` reaches the peer: no paths, no addresses, no secrets.
* It may raise PeerError, PeerReported, OSError and trio.BrokenResourceError: the node logs one line and ends the
  session with Error(internal). *Any other exception is a bug and ends the node.* That
  holds for an ExceptionGroup too: what a service runs in a nursery of its own, it has to catch there.
* It must let itself be cancelled, at any time, and must not block the event loop: slow work belongs into
  `trio.to_thread`.
* `context.shutting_down` is set when the node begins to stop. A service that never ends by itself waits for it beside
  its stream, and ends. What goes on is ended with Error(shutting_down) after the node's grace time.
* Streams are independent, and nothing is deduplicated: what must be done only once is for the service to know.
* `stream.exporter` is a secret that both ends of this stream have and nobody else: what authenticates users inside the
  stream can bind that to it.

Spec 8.1 to 8.5.
"""

import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from typing import cast

import attrs
import trio

from xlattice_trio.cluster.liveness import Liveness, alone
from xlattice_trio.errors import ErrorCode, IdentityError, UsageError
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.limits import SERVICE_MAX
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.wire.codec import encode_text
from xlattice_trio.wire.messages import Role

GROUP = "xlattice_trio.services"

# Ours are there even if this package is not installed but only on the path.
_OURS = (
    EntryPoint("echo", "xlattice_trio.services.echo:make", GROUP),
    EntryPoint("forward", "xlattice_trio.services.forward:make", GROUP),
)


@attrs.frozen
class ServiceContext:
    """What a service gets to know beside its stream: who the peer is was proven by the handshake. [SV-12] [SV-13]

    `node_id` is our own, `cluster_id` 32 bytes. `peer` is the card of the member or client in the roster in force when
    the stream was opened, None if it is anonymous. `service` is the name that the peer asked for. `liveness` says which
    members are alive, as this node sees it at the time of the call. Spec 7.11.
    """

    node_id: NodeID
    cluster_id: bytes = attrs.field(repr=bytes.hex)
    port: Port
    role: Role
    peer: VerifiedCard | None
    service: str
    shutting_down: trio.Event
    liveness: Callable[[], Liveness] = alone


Service = Callable[[SecureStream, ServiceContext], Awaitable[None]]
Factory = Callable[[str], Service]


# ---- kinds -------------------------------------------------------------------


def factories() -> Mapping[str, Callable[[], Factory]]:
    """Every kind that is installed, and what loads its factory.

    A loader raises UsageError if the kind does not load, or if two packages have one of that name.
    """
    kinds: dict[str, list[EntryPoint]] = {}
    for entry in (*_OURS, *entry_points(group=GROUP)):
        same_name = kinds.setdefault(entry.name, [])
        if entry.value not in [other.value for other in same_name]:
            same_name.append(entry)
    return {kind: partial(_load, kind, entries) for kind, entries in sorted(kinds.items())}


def _load(kind: str, entries: list[EntryPoint]) -> Factory:
    entry, *others = entries
    if others:
        raise UsageError(
            f"the kind {kind!r} stands for several things: {', '.join(map(_origin, entries))}; "
            "uninstall the packages that are not meant"
        )
    try:
        factory = entry.load()
    except Exception as exc:  # whatever a stranger's module does while it is imported
        raise UsageError(f"the kind {kind!r}, {_origin(entry)}, does not load: {type(exc).__name__}: {exc}") from exc
    if not callable(factory):
        raise UsageError(f"the kind {kind!r}, {_origin(entry)}, is no function but {factory!r}")
    return cast("Factory", factory)


def _origin(entry: EntryPoint) -> str:
    return f"{entry.value} of the package {entry.dist.name}" if entry.dist else entry.value


# ---- who may use a service, and how many at once -----------------------------

# Everybody of a role, one node, or the node that has this name in the roster in force.
Whom = Role | NodeID | str


def parse_whom(text: str) -> Whom:
    """Reads `member`, `client`, `anonymous`, a NodeID, or a node's name. Raises UsageError if it is empty."""
    for role in Role:
        if text == role.name.lower():
            return role
    try:
        return NodeID.parse(text)
    except IdentityError:
        if not text:
            raise UsageError("nobody is named: member, client, anonymous, a NodeID or a node's name") from None
        return text


@attrs.define
class Restricted:
    """A service for some only, or for so many streams at once. It is a service itself.

    `allowed` None is everybody whom the port lets in, `max_streams` None as many as come. A stream counts until it is
    closed. That there is a service of this name has been decided before: so the order is name, authorisation, room.
    [SV-11]
    """

    service: "Service"
    allowed: frozenset[Whom] | None = None
    max_streams: int | None = None
    _streams: int = attrs.field(default=0, init=False)

    async def __call__(self, stream: SecureStream, context: ServiceContext) -> None:
        if self.allowed is not None and self.allowed.isdisjoint(_is_whom(context)):  # [SV-9] [SV-12]
            await stream.close_with_error(ErrorCode.NOT_AUTHORIZED, "this service is not for you")
            return
        if self._streams == self.max_streams:  # [SV-10]
            await stream.close_with_error(ErrorCode.OVER_CAPACITY, "this service has no room for another stream")
            return
        self._streams += 1
        try:
            await self.service(stream, context)
            await stream.aclose()
        finally:
            self._streams -= 1


def _is_whom(context: ServiceContext) -> set[Whom]:
    if context.peer is None:
        return {context.role}
    return {context.role, context.peer.node_id, context.peer.name}


# ---- services ----------------------------------------------------------------


@attrs.frozen
class ServiceSpec:
    """A service as the operator wants it: its name, its kind, the kind's argument, on which ports, and for whom.

    `allowed` and `max_streams` are as in `Restricted`. Raises UsageError for a name that no peer can ask for, and for a
    service that is on no port.
    """

    name: str
    kind: str
    argument: str = ""
    ports: frozenset[Port] = frozenset(Port)  # [SV-6]
    allowed: frozenset[Whom] | None = None
    max_streams: int | None = None

    def __attrs_post_init__(self) -> None:
        if not self.ports:
            raise UsageError(f"the service {self.name!r} is on no port")
        encode_text(self.name, 1, SERVICE_MAX, "the service name")

    @classmethod
    def parse(cls, text: str, ports: Iterable[Port] = Port) -> "ServiceSpec":
        """Reads `KIND`, `KIND:ARGUMENT`, `NAME=KIND` or `NAME=KIND:ARGUMENT`. Without NAME, KIND is the name.

        An equals sign behind the first colon belongs to the argument. Raises UsageError.
        """
        head, _, argument = text.partition(":")
        name, named, kind = head.partition("=")
        if not named:
            kind = name
        if not kind or not name:
            raise UsageError(f"{text!r} is no service: NAME=KIND:ARGUMENT, NAME=KIND, KIND:ARGUMENT or KIND expected")
        return cls(name, kind, argument, frozenset(ports))

    def __str__(self) -> str:
        return f"{self.name}={self.kind}" + (f":{self.argument}" if self.argument else "")


def restrict(specs: Iterable[ServiceSpec], allow: Iterable[str], max_streams: Iterable[str]) -> list[ServiceSpec]:
    """The same services, restricted: `allow` are texts `NAME=WHO`, several for one NAME add up, and `max_streams` are
    texts `NAME=N`. A restriction holds for all services of its name. Raises UsageError.
    """
    allowed: dict[str, set[Whom]] = {}
    for text in allow:
        name, _, whom = text.partition("=")
        allowed.setdefault(name, set()).add(parse_whom(whom))
    most: dict[str, int] = {}
    for text in max_streams:
        name, _, number = text.partition("=")
        if not (number.isascii() and number.isdecimal()) or int(number) < 1 or name in most:
            raise UsageError(f"{text!r}: NAME=N expected, once for each service, with a number of streams from 1 up")
        most[name] = int(number)
    specs = list(specs)
    for name in allowed.keys() | most.keys():
        if name not in [spec.name for spec in specs]:
            raise UsageError(f"no service {name!r} is offered that could be restricted")
    return [
        attrs.evolve(
            spec,
            allowed=frozenset(allowed[spec.name]) if spec.name in allowed else None,
            max_streams=most.get(spec.name),
        )
        for spec in specs
    ]


def make_services(specs: Iterable[ServiceSpec]) -> Mapping[tuple[Port, str], Service]:
    """The services by port and name: their factories are called here.

    Raises UsageError for a kind that is unknown or does not load, for an argument that the kind refuses, and for two
    services of one name on one port.
    """
    kinds = factories()
    services: dict[tuple[Port, str], Service] = {}
    for spec in specs:
        load = kinds.get(spec.kind)
        if load is None:
            raise UsageError(
                f"the service {str(spec)!r}: no kind {spec.kind!r} is installed; there is {', '.join(kinds)}"
            )
        try:
            service = load()(spec.argument)
        except UsageError as exc:
            raise UsageError(f"the service {str(spec)!r}: {exc}") from exc
        except Exception as exc:  # of a stranger's factory
            raise UsageError(f"the service {str(spec)!r} cannot be made: {type(exc).__name__}: {exc}") from exc
        if not callable(service) or not any(map(inspect.iscoroutinefunction, (service, type(service).__call__))):
            raise UsageError(f"the service {str(spec)!r}: its kind gave no async function but {service!r}")
        if spec.allowed is not None or spec.max_streams is not None:
            service = Restricted(service, spec.allowed, spec.max_streams)
        for port in spec.ports:
            if (port, spec.name) in services:  # [SV-5]
                raise UsageError(f"two services named {spec.name!r} on the {port.value} port")
            services[port, spec.name] = service
    return services
