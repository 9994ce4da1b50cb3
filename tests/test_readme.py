"""What the README shows works as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.nodes import cluster_card, free_ports, loopback_roster, running_node
from xlattice_trio.cli.common import ExitCode
from xlattice_trio.client import ClusterClient
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.storage import save_cluster_card

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
CLIENT, MEMBER = (compile(code, "README.md", "exec") for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL))


async def test_the_client_example(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roster = loopback_roster(free_ports(), members=1)
    save_cluster_card(tmp_path / "cluster.card", cluster_card(roster).card)
    monkeypatch.chdir(tmp_path)
    async with running_node(tmp_path / "node", roster):
        await trio.to_thread.run_sync(exec, CLIENT, {})
    assert capsys.readouterr().out == "hello\n"


async def test_the_member_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nursery: trio.Nursery) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(trio, "run", lambda *args: ran.extend(args))
    exec(MEMBER, {})
    _, config = ran
    assert set(config.services) == {(Port.CLIENT, "shout")}
    roster = loopback_roster(free_ports(), members=1)
    client = ClusterClient(cluster_card(roster))
    async with (
        running_node(tmp_path / "node", roster, services=config.services),
        await client.open_stream("shout", nursery=nursery) as stream,
    ):
        await stream.send_all(b"hello")
        assert await stream.receive_some() == b"HELLO"


def test_the_exit_codes() -> None:
    assert re.findall(r"^\| (\d+) \|", README, re.MULTILINE) == [str(code.value) for code in ExitCode]
