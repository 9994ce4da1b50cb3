"""The numbers of the specification: those that nobody changes, those that an operator may, and all of them in force.

That each limit holds where it should is tested beside what it limits.
"""

import ast
import re
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.commands import xlattice
from tests.nodes import make_directory
from tests.test_key_uses import AT_WORK
from tests.test_never import loads
from xlattice_trio import limits
from xlattice_trio import node as node_module
from xlattice_trio.cli import node as node_command
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.net.listen import PortLimits, Slots
from xlattice_trio.node import NodeAddresses, NodeConfig
from xlattice_trio.speccheck.tables import find_directory, read_specification
from xlattice_trio.testing.identities import test_identity, test_roster

SPEC = read_specification(find_directory())
TABLES = {table.name: {row["name"]: int(row["value"]) for row in table.rows} for table in SPEC.of_kind("Limits")}
SIZES = TABLES["Sizes"] | TABLES["Rosters"]  # section 9.2
TIMES = {
    name: value for title, table in TABLES.items() if title not in ("Sizes", "Rosters") for name, value in table.items()
}


def named_in(requirement: str) -> set[str]:
    """The limits that a requirement names."""
    (text,) = (r.text for r in SPEC.requirements if r.id == requirement)
    return set(re.findall(r"\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b", text))


MAY_CHANGE, LEAST = named_in("EL-6"), named_in("EL-7")


# ---- the values, and who may change them -------------------------------------


@pytest.mark.spec("EL-5", "EL-8")
def test_every_number_is_that_of_the_tables() -> None:
    ours = {name: value for name, value in vars(limits).items() if name.isupper()}
    assert ours == SIZES | TIMES


@pytest.mark.spec("EL-5", "EL-8")
def test_every_number_is_used_by_its_name() -> None:
    names = {
        node.attr if isinstance(node, ast.Attribute) else node.id
        for module, tree in AT_WORK.items()
        if module != "limits.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert (SIZES.keys() | TIMES.keys()) - names == {"REQUESTS_MAX"}  # 1: `link.requests` has room for one


def defaults(tree: ast.AST) -> Iterator[str]:
    """The names that stand as the default of a parameter or of a field: what a caller, or a setting, can change."""
    for node in ast.walk(tree):
        values: list[ast.expr | None] = []
        match node:
            case ast.arguments(defaults=positional, kw_defaults=by_keyword):
                values = [*positional, *by_keyword]
            case ast.ClassDef(body=body):
                values = [field.value for field in body if isinstance(field, ast.AnnAssign)]
        for value in values:
            match value:
                case ast.Name(name) | ast.Attribute(attr=name):
                    yield name


@pytest.mark.spec("EL-6", "EL-7", "EL-8")
def test_only_the_numbers_that_an_operator_may_change_are_defaults() -> None:
    changeable = {name for module, tree in AT_WORK.items() for name in defaults(tree)}
    cluster_port = {"CLUSTER_SOURCE_RATE", "CLUSTER_SOURCE_BURST"}  # `PortLimits` too, in `CLUSTER_PORT_LIMITS`
    assert cluster_port < MAY_CHANGE
    assert changeable & TIMES.keys() == MAY_CHANGE - cluster_port | {"REPLAY_CACHE_MIN"}
    assert {"REPLAY_CACHE_MIN", "PBKDF2_ROUNDS_MIN"} == LEAST


# ---- in force when nothing is configured -------------------------------------

OUTSIDE = IPv4Address("192.0.2.1")


def admitted(slots: Slots, *, sources: int = 1, established: bool = False) -> int:
    """How many connections a port takes at one moment, from so many sources in turn, before it refuses one."""
    count = 0
    while slots.refusal(source := slots.source_of(OUTSIDE + count % sources), 0.0) is None:
        slot = slots.enter(source, 0.0)
        if established:
            slot.established()
        count += 1
    return count


def check_limits(slots: list[Slots], *, burst: int, rate: int) -> None:
    """Each limit in a port of its own, all of them with the same settings."""
    assert admitted(slots[0]) == 16
    assert admitted(slots[1], established=True) == burst
    assert admitted(slots[2], sources=1000) == 256
    assert admitted(slots[3], sources=5000, established=True) == 4096
    source = slots[1].source_of(OUTSIDE)
    assert slots[1].refusal(source, 0.9 / rate) is not None
    assert slots[1].refusal(source, 1.1 / rate) is None


@pytest.mark.spec("EL-9")
@pytest.mark.parametrize(
    ("port", "check_source", "burst", "rate"),
    [
        (Port.CLIENT, True, 20, 10),
        (Port.CLIENT, False, 20, 10),
        (Port.CLUSTER, True, 200, 100),
        (Port.CLUSTER, False, 20, 10),
    ],
)
def test_a_node_holds_every_limit_of_its_ports(
    port: Port, check_source: bool, burst: int, rate: int, tmp_path: Path
) -> None:
    directory = make_directory(tmp_path / "node", test_identity(0), test_roster())
    config = NodeConfig(directory, {}, check_source=check_source)
    check_limits([node_module._Node(config)._slots[port] for _ in range(4)], burst=burst, rate=rate)


@pytest.mark.spec("EL-9")
def test_a_nodes_times_are_those_of_the_tables(tmp_path: Path) -> None:
    config = NodeConfig(make_directory(tmp_path / "node", test_identity(0), test_roster()), {})
    assert (config.handshake_deadline, config.write_deadline, config.ck_grace) == (10, 300, 604_800)
    node = node_module._Node(config)
    assert node._replay._capacity == 65_536
    assert (node._keys._grace, node._gate._grace) == (604_800, 604_800)


@pytest.mark.spec("EL-9")
def test_the_command_runs_a_node_with_every_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = make_directory(tmp_path / "node", test_identity(0), test_roster())
    given: list[NodeConfig] = []

    async def run(config: NodeConfig, *, task_status: trio.TaskStatus[Any]) -> None:
        given.append(config)
        task_status.started(NodeAddresses((), ()))

    monkeypatch.setattr(node_command, "run_node", run)
    xlattice("node", "run", directory, "--service", "echo")
    (config,) = given
    plain = NodeConfig(directory, config.services)
    assert config.client_limits == PortLimits()
    for name in ("cluster_limits", "check_source", "handshake_deadline", "write_deadline", "ck_grace"):
        assert getattr(config, name) == getattr(plain, name)


# ---- time --------------------------------------------------------------------


@pytest.mark.spec("NO-2")
def test_the_wall_clock_is_asked_only_for_what_outlives_the_process() -> None:
    asked = {
        module
        for module, tree in AT_WORK.items()
        for name in ("time", "time_ns", "localtime", "gmtime", "now", "utcnow", "today")
        for node in loads(tree, name)
        if ast.unparse(node.value) in ("time", "datetime", "datetime.datetime", "date")
    }
    assert asked == {"identity/keyring.py", "cluster/rosters.py"}  # the ck grace time [RO-52]
