"""Names and Error texts of others, through everything that the command line says: none moves a cursor or turns a line.

A name may hold every character but the control characters: the text of it may be written from right to left, have no
width, or look like a markup. Hosts are checked before, and have nothing of that. Spec 10.5.
"""

import json
from functools import partial
from pathlib import Path

import pytest
import trio
from click.testing import CliRunner

from tests.commands import PATIENCE, command_line, connect_to, environment, read_all
from tests.nodes import HOSTS, on_both_ports
from xlattice_trio.cli import main
from xlattice_trio.cli.children import open_children
from xlattice_trio.cli.loopback import find_ports
from xlattice_trio.errors import ErrorCode
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.identity.storage import (
    save_authority,
    save_card,
    save_cluster_card,
    save_held_roster,
    save_identity,
    save_roster,
)
from xlattice_trio.net.stream import SecureStream
from xlattice_trio.node import NodeConfig, run_node
from xlattice_trio.roster import VerifiedRoster, make_cluster_card, make_roster, verify_roster
from xlattice_trio.services.registry import ServiceContext
from xlattice_trio.testing.identities import KNOCK, test_authority, test_client, test_identity
from xlattice_trio.wire.codec import encode
from xlattice_trio.wire.messages import ClientAccess, ErrorBody, Member, RecordType

# right-to-left override and isolate, no width, a separator of lines, a tag, a private and an unassigned character
HOSTILE = "\u202e\u2067\u200b\u2028\U000e0041\ue000\u0378"
# what is markup somewhere
MARKUP = "[red]<b>%s"


def named(identity: LocalIdentity, name: str, serial: int = 1) -> LocalIdentity:
    card = make_card(name=name, sk_priv=identity.sk_priv, ck=identity.ck_priv.public_key(), serial=serial)
    return local_identity(verify_card(card), identity.sk_priv, identity.ck_priv)


def assert_harmless(said: str, *names: str) -> None:
    """Nothing but printable characters, and yet what these names begin with and what follows, escaped."""
    assert [c for c in said if not (c.isprintable() or c == "\n")] == []
    for name in names:
        assert f"{name}\\u202e" in said


@pytest.fixture
def hostile(tmp_path: Path) -> VerifiedRoster:
    """Directories node, client, authority and files of a cluster whose every name is hostile."""
    node = named(test_identity(0), f"node{HOSTILE}{MARKUP}")
    other = named(test_identity(1), f"other{HOSTILE}")
    client = named(test_client(0), f"client{HOSTILE}")
    ports = find_ports(HOSTS[:2], 2)
    roster = verify_roster(
        make_roster(
            test_authority(),
            name=f"cluster{HOSTILE}{MARKUP}",
            epoch=1,
            cluster_port=ports[0],
            client_port=ports[1],
            knock=KNOCK,
            client_access=ClientAccess.ANYONE,
            members=[Member(node.card.card, HOSTS[0]), Member(other.card.card, HOSTS[1])],
            clients=[client.card.card],
        )
    )
    save_identity(tmp_path / "node", node)
    save_identity(tmp_path / "client", client)
    save_held_roster(tmp_path / "node", roster, 1)
    save_authority(tmp_path / "authority", test_authority())
    save_roster(tmp_path / "authority" / "cluster.roster", roster.roster)
    for directory in (tmp_path, tmp_path / "authority"):
        save_cluster_card(directory / "cluster.card", make_cluster_card(test_authority(), roster))
    save_card(tmp_path / "new.card", named(test_identity(2), f"new{HOSTILE}").card.card)
    save_card(tmp_path / "renamed.card", named(test_identity(0), f"renamed{HOSTILE}", 2).card.card)
    save_card(tmp_path / "client-1.card", named(test_client(1), f"second{HOSTILE}").card.card)
    return roster


COMMANDS = [
    (["node", "init", "made", "--name", f"made{HOSTILE}", "--no-passphrase"], 0, ["made"]),
    (["node", "init", "made", "--name", f"made{HOSTILE}", "--no-passphrase", "--json"], 0, ["made"]),
    (["node", "card", "node", "--json"], 0, ["node"]),
    (["node", "load", "node", "authority/cluster.roster"], 0, []),
    (["node", "load", "client", "authority/cluster.roster"], 3, ["client"]),
    (["node", "run", "client"], 3, []),
    (["cluster", "show", "authority"], 0, ["cluster", "node", "other", "client"]),
    (["cluster", "show", "authority", "--json"], 0, ["cluster", "node", "other", "client"]),
    (["cluster", "show", "cluster.card"], 0, ["cluster", "node"]),
    (["cluster", "add", "authority", "new.card", HOSTS[2]], 0, ["new"]),
    (["cluster", "add", "authority", "renamed.card", HOSTS[2]], 0, ["node", "renamed"]),
    (["cluster", "remove", "authority", "nobody"], 2, ["node", "other"]),
    (["cluster", "remove", "authority", f"other{HOSTILE}"], 0, ["other"]),
    (["cluster", "allow", "authority", "client-1.card"], 0, ["second"]),
    (["cluster", "allow", "authority", "new.card", "new.card"], 3, ["new"]),
    (["cluster", "deny", "authority", f"client{HOSTILE}"], 0, ["client"]),
    (["connect", "--cluster", "cluster.card", "--state", "state", "echo"], 4, ["cluster", "node", "other"]),
    (["connect", "--cluster", "cluster.card", "--state", "state", "--member", "nobody", "echo"], 2, ["node", "other"]),
    (["connect", "-v", "--cluster", "cluster.card", "--state", "state", f"echo{HOSTILE}"], 4, ["node"]),
]


@pytest.mark.spec("SC-3")
@pytest.mark.parametrize(("words", "status", "names"), COMMANDS)
def test_no_command_shows_a_name_that_does_something_to_a_terminal(
    words: list[str],
    status: int,
    names: list[str],
    hostile: VerifiedRoster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, words)
    assert result.exit_code == status, result.output
    assert_harmless(result.stdout + result.stderr, *names)
    if "--json" in words:
        assert HOSTILE in json.dumps(json.loads(result.stdout), ensure_ascii=False)  # and yet it is all there


@pytest.mark.spec("SC-3")
async def test_no_process_shows_a_text_of_its_peers_that_does_something_to_a_terminal(
    hostile: VerifiedRoster, tmp_path: Path
) -> None:
    said = f"no{HOSTILE}{MARKUP}"

    async def refuse(stream: SecureStream, context: ServiceContext) -> None:
        # `close_with_error` cleans its text: a peer that is hostile does not
        connection = stream._connection
        body = encode(ErrorBody(ErrorCode.INTERNAL, said))
        await stream.transport.send_all(connection._sealer.seal(RecordType.ERROR, body, trio.current_time()))
        await read_all(stream.transport)

    as_client = ["--cluster", tmp_path / "cluster.card", "--identity", tmp_path / "client"]
    async with trio.open_nursery() as nursery, open_children(tmp_path, environment(tmp_path)) as children:
        config = NodeConfig(tmp_path / "node", on_both_ports(refuse=refuse))
        await nursery.start(partial(run_node, config, handle_signals=False))
        with trio.fail_after(PATIENCE):
            ended = await trio.run_process(
                command_line("connect", *as_client, "refuse"),
                stdin=b"",
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env=environment(tmp_path),
            )
            forward = await children.start("forward", command_line("forward", *as_client, "refuse"))
            line = await forward.wait_for("listening on ")
            async with await connect_to(line.removeprefix("listening on ")) as stream:
                with pytest.raises(trio.BrokenResourceError):
                    await stream.receive_some()
            await forward.wait_for("a connection ended")
        nursery.cancel_scope.cancel()
    assert ended.returncode == 5
    for text in (ended.stderr.decode(), "\n".join(forward.lines)):
        assert_harmless(text)
        assert "internal: no\\u202e" in text
        assert MARKUP in text


@pytest.mark.spec("SC-3")
async def test_no_member_logs_a_name_that_does_something_to_a_terminal(hostile: VerifiedRoster, tmp_path: Path) -> None:
    as_client = ["--cluster", tmp_path / "cluster.card", "--identity", tmp_path / "client", "--member"]
    async with open_children(tmp_path, environment(tmp_path)) as children:
        member = await children.start("member", command_line("node", "run", "-vv", tmp_path / "node"))
        await member.wait_for("ready: ", seconds=PATIENCE)
        ended = await trio.run_process(
            command_line("connect", "-vv", *as_client, f"node{HOSTILE}{MARKUP}", f"nothing{HOSTILE}"),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
            env=environment(tmp_path),
        )
        await member.wait_for("client\\u202e", seconds=PATIENCE)
        await member.stop()
    assert ended.returncode == 5
    assert_harmless("\n".join(member.lines), "node", "cluster")
    assert_harmless(ended.stderr.decode())
