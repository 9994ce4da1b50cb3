"""The specification's tables as the code has them: names and cells from the live objects, lines from the sources.

`Entry` and `Group` are the common form in which `check` compares the two sides. Nothing here knows what the
specification says.
"""

import ast
import enum
import functools
import inspect
import io
import tokenize
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import attrs

from xlattice_trio import crypto, errors, limits
from xlattice_trio.handshake import transitions as handshake
from xlattice_trio.link import transitions as link
from xlattice_trio.session import transitions as session
from xlattice_trio.speccheck.tables import Place
from xlattice_trio.wire import messages
from xlattice_trio.wire.layout import fields_of

# The units that a comment in limits.py can begin with. Any other comment, and none, means bytes.
UNITS = (
    "clients",
    "connections",
    "connections a second",
    "digests",
    "intervals",
    "members",
    "milliseconds",
    "per cent",
    "records",
    "requests",
    "rounds",
    "seconds",
    "transfers",
)

_STATE_TABLES = {
    "Initiator": (handshake, "INITIATOR"),
    "Responder": (handshake, "RESPONDER"),
    "Session": (session, "SESSION"),
    "LinkDialler": (link, "LINK_DIALLER"),
    "LinkAccepter": (link, "LINK_ACCEPTER"),
    "LinkRequest": (link, "LINK_REQUEST"),
    "LinkMessages": (link, "LINK_MESSAGES"),
}


@attrs.frozen
class Entry:
    """A row of a table: what it is known by, its other cells by column, and where it is."""

    key: tuple[str, ...]
    label: str  # how its side writes it
    cells: Mapping[str, str]
    place: Place


@attrs.frozen
class Group:
    """A table. The order of the rows means something only if it is `ordered`."""

    title: str
    place: Place
    entries: tuple[Entry, ...]
    ordered: bool = False


def enum_key(name: str) -> tuple[str, ...]:
    """By what an enumeration's names are compared: `HelloReply` is HELLO_REPLY, `KeepAlive` KEEPALIVE."""
    return (name.replace("_", "").lower(),)


def groups() -> dict[str, Group]:
    """Every table that the code has, by title."""
    found = [_message(message) for message in messages.MESSAGES]
    found += [_enum(enumeration) for enumeration in _enumerations()]
    found += [_states(title, module, name) for title, (module, name) in _STATE_TABLES.items()]
    found += [_labels(), _limits()]
    return {group.title: group for group in found}


# ---- one function per kind of table ------------------------------------------


def _message(message: type) -> Group:
    lines = _members(message)
    entries = (
        Entry(
            key=(field.name,),
            label=f"{message.__name__}.{field.name}",
            cells={"type": str(field.type), "bounds": field.bounds_text},
            place=lines.get(field.name, _place(message)),
        )
        for field in fields_of(message)
    )
    return Group(f"Message {message.__name__}", _place(message), tuple(entries), ordered=True)


def _enumerations() -> Iterator[type[enum.IntEnum]]:
    for value in vars(messages).values():
        if isinstance(value, type) and issubclass(value, enum.IntEnum):
            yield value
    yield errors.ErrorCode


def _enum(enumeration: type[enum.IntEnum]) -> Group:
    lines = _members(enumeration)
    entries = (
        Entry(
            key=enum_key(member.name),
            label=f"{enumeration.__name__}.{member.name}",
            cells={"value": str(member.value)},
            place=lines.get(member.name, _place(enumeration)),
        )
        for member in enumeration
    )
    return Group(f"Enum {enumeration.__name__}", _place(enumeration), tuple(entries))


def _states(title: str, module: ModuleType, name: str) -> Group:
    table = getattr(module, name)
    lines = _dict_keys(module, name)
    if len(lines) != len(table):  # not the literal of the source: no line of its own for a row
        lines = [_assignments(module)[name]] * len(table)
    entries = (
        Entry(
            key=(state.value, event.value),
            label=f"{title} {state.value}, {event.value}",
            cells={"action": action.value, "next": after.value},
            place=place,
        )
        for ((state, event), (action, after)), place in zip(table.items(), lines, strict=True)
    )
    return Group(f"State table {title}", _assignments(module)[name], tuple(entries))


def _labels() -> Group:
    lines = _members(crypto.Label)
    entries = (
        Entry(
            key=(label.spelling,),
            label=f"label {label.spelling}",
            cells={"use": label.use},
            place=lines.get(label.name, _place(crypto.Label)),
        )
        for label in crypto.Label
    )
    return Group("Labels", _place(crypto.Label), tuple(entries))


def _limits() -> Group:
    lines, comments = _assignments(limits), _comments(limits)
    top = Place(_path(limits), 1)
    entries = (
        Entry(
            key=(name,),
            label=f"limit {name}",
            cells={"value": str(value), "unit": unit_of(comments.get(lines.get(name, top).line, ""))},
            place=lines.get(name, top),
        )
        for name, value in vars(limits).items()
        if name.isupper() and not name.startswith("_")
    )
    return Group("Limits", top, tuple(entries))


def unit_of(comment: str) -> str:
    """The unit that a comment in limits.py begins with."""
    fitting = [unit for unit in UNITS if f"{comment} ".replace(",", " ").replace(":", " ").startswith(f"{unit} ")]
    return max(fitting, key=len, default="bytes")


# ---- where it stands ---------------------------------------------------------


def _path(of: ModuleType | type) -> Path:
    return Path(inspect.getsourcefile(of) or "?")


@functools.cache
def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _class(cls: type) -> ast.ClassDef | None:
    nodes = ast.walk(_tree(_path(cls)))
    return next((node for node in nodes if isinstance(node, ast.ClassDef) and node.name == cls.__name__), None)


def _place(cls: type) -> Place:
    node = _class(cls)
    return Place(_path(cls), node.lineno if node else 1)


def _members(cls: type) -> dict[str, Place]:
    """Where the class assigns its names."""
    node = _class(cls)
    return _targets(node.body, _path(cls)) if node else {}


def _assignments(module: ModuleType) -> dict[str, Place]:
    """Where the module assigns its names."""
    return _targets(_tree(_path(module)).body, _path(module))


def _targets(body: list[ast.stmt], path: Path) -> dict[str, Place]:
    places: dict[str, Place] = {}
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        places |= {target.id: Place(path, node.lineno) for target in targets if isinstance(target, ast.Name)}
    return places


def _dict_keys(module: ModuleType, name: str) -> list[Place]:
    """Where the rows of the literal dict `name` stand, in its order."""
    path = _path(module)
    for node in _tree(path).body:
        value = getattr(node, "value", None)
        if name in _targets([node], path) and isinstance(value, ast.Dict):
            return [Place(path, key.lineno) for key in value.keys if key is not None]
    return []


def _comments(module: ModuleType) -> dict[int, str]:
    """The comments of a module by line, without their #."""
    tokens = tokenize.generate_tokens(io.StringIO(inspect.getsource(module)).readline)
    return {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
