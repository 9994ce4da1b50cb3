"""`xlattice cluster`: the authority makes one roster after the other."""

import fcntl
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.commands import save_cards, xlattice
from tests.test_weak_keys import sharing_a_prime
from xlattice_trio.identity.armour import armour
from xlattice_trio.identity.card import make_card
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.storage import (
    load_cluster_card,
    load_roster,
    save_authority,
    save_card,
    save_cluster_card,
    save_identity,
    save_roster,
)
from xlattice_trio.roster import VerifiedRoster, make_cluster_card
from xlattice_trio.testing.identities import test_authority, test_client, test_identity, test_roster
from xlattice_trio.wire.messages import ClientAccess


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """The cards of nodes 0 to 3 and clients 0 and 1."""
    save_cards(tmp_path, members=4, clients=2)
    return tmp_path


@pytest.fixture
def authority(directory: Path) -> Path:
    """An authority with node-0 and node-1 as members, at 127.0.0.1 and 2, and client-0; epoch 7."""
    path = directory / "authority"
    save_authority(path, test_authority())
    write(path, test_roster(2, 1, epoch=7))
    return path


def write(authority: Path, roster: VerifiedRoster) -> None:
    save_roster(authority / "cluster.roster", roster.roster)
    save_cluster_card(authority / "cluster.card", make_cluster_card(test_authority(), roster))


def state(authority: Path) -> dict[str, Any]:
    """What `show` prints of the roster; asserts that the cluster card agrees."""
    roster: dict[str, Any] = json.loads(xlattice("cluster", "show", authority, "--json").stdout)
    card: dict[str, Any] = json.loads(xlattice("cluster", "show", authority / "cluster.card", "--json").stdout)
    assert {name: value for name, value in card.items() if name != "kind"}.items() <= roster.items()
    return roster


def names(nodes: list[dict[str, Any]]) -> set[str]:
    return {node["name"] for node in nodes}


# ---- create ------------------------------------------------------------------


def create(directory: Path, *more: str | Path, members: int = 2, status: int = 0) -> str:
    words: list[str | Path] = ["cluster", "create", directory / "new", "--name", "demo", "--bits", "2048"]
    words += ["--cluster-port", "7771", "--client-port", "7772"]
    for i in range(members):
        words += ["--member", directory / f"node-{i}.card", f"127.0.0.{i + 1}"]
    return xlattice(*words, *more, status=status).output


def test_create_makes_the_first_roster_and_its_card(directory: Path) -> None:
    said = create(directory, "--access", "anyone")
    found = state(directory / "new")
    assert found["cluster_id"] in said
    assert (found["name"], found["epoch"], found["cluster_port"], found["client_port"]) == ("demo", 1, 7771, 7772)
    assert (names(found["members"]), found["clients"], found["client_access"]) == ({"node-0", "node-1"}, [], "anyone")
    assert {"node-0 at 127.0.0.1", "node-1 at 127.0.0.2"} <= {line.strip() for line in said.splitlines()}


@pytest.mark.spec("RO-2")
def test_create_draws_the_knock(directory: Path) -> None:
    create(directory)
    first = load_roster(directory / "new" / "cluster.roster").knock
    (directory / "new").rename(directory / "old")
    create(directory)
    assert load_roster(directory / "new" / "cluster.roster").knock != first


def test_create_lets_only_listed_clients_in_unless_told_otherwise(directory: Path) -> None:
    create(directory)
    assert load_roster(directory / "new" / "cluster.roster").client_access is ClientAccess.LISTED


def test_create_keeps_secrets_to_the_owner(directory: Path) -> None:
    create(directory)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (directory / "new").iterdir()}
    assert modes == {"authority.pem": 0o600, "cluster.roster": 0o600, "cluster.card": 0o644}


def test_create_never_overwrites(directory: Path) -> None:
    create(directory)
    before = {path.name: path.read_bytes() for path in (directory / "new").iterdir()}
    create(directory, status=3)
    assert {path.name: path.read_bytes() for path in (directory / "new").iterdir()} == before


@pytest.mark.parametrize(
    ("more", "status"),
    [
        (["--member", "node-2.card", "127.0.0.300"], 2),
        (["--member", "node-2.card", "Host.Example"], 2),
        (["--member", "node-2.card", "127.0.0.1"], 3),  # a host twice
        (["--member", "node-0.card", "127.0.0.9"], 3),  # a node twice
        (["--member", "missing.card", "127.0.0.9"], 3),
        (["--client-port", "7771"], 3),
        (["--client-port", "0"], 2),
        (["--client-port", "65536"], 2),
        (["--name", "x" * 65], 2),
        (["--access", "nobody"], 2),
    ],
    ids=str,
)
def test_create_writes_nothing_if_something_is_wrong(
    more: list[str], status: int, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(directory)
    create(directory, *more, status=status)
    assert not (directory / "new").exists()


def test_create_encrypts_the_authoritys_key(directory: Path) -> None:
    (directory / "secret").write_text("secret\n")
    (directory / "secret").chmod(0o600)
    create(directory, "--passphrase-file", directory / "secret")
    passphrase = ("--passphrase-file", directory / "secret")
    xlattice("cluster", "add", directory / "new", directory / "node-2.card", "127.0.0.3", *passphrase)
    (directory / "secret").write_text("wrong\n")
    xlattice("cluster", "remove", directory / "new", "node-2", *passphrase, status=3)
    assert state(directory / "new")["epoch"] == 2


# ---- add ---------------------------------------------------------------------


@pytest.mark.spec("RO-44")
def test_add_makes_the_next_epoch(directory: Path, authority: Path) -> None:
    before = load_roster(authority / "cluster.roster")
    said = xlattice("cluster", "add", authority, directory / "node-2.card", "::1")
    found = state(authority)
    after = load_roster(authority / "cluster.roster")
    assert (found["epoch"], names(found["members"])) == (8, {"node-0", "node-1", "node-2"})
    assert {member["host"] for member in found["members"]} == {"127.0.0.1", "127.0.0.2", "::1"}
    assert (after.knock, after.cluster_id, after.cluster_port) == (before.knock, before.cluster_id, before.cluster_port)
    assert (after.client_port, after.client_access, after.name) == (
        before.client_port,
        before.client_access,
        before.name,
    )
    assert after.clients == before.clients
    assert "node-2 at ::1 (new)" in said.stderr
    assert "SIGHUP" in said.stderr


def renewed(directory: Path, i: int, serial: int, name: str | None = None) -> Path:
    """A card of node i with another ck."""
    node, ck = test_identity(i), test_identity(4 + serial).ck_priv.public_key()
    card = make_card(name=name or node.name, sk_priv=node.sk_priv, ck=ck, serial=serial)
    save_card(directory / f"renewed-{i}-{serial}.card", card)
    return directory / f"renewed-{i}-{serial}.card"


@pytest.mark.spec("ID-25")
def test_add_replaces_a_card_by_one_of_a_higher_serial(directory: Path, authority: Path) -> None:
    said = xlattice("cluster", "add", authority, renewed(directory, 0, 3, "renamed"), "127.0.0.1").stdout
    assert "has the card of serial 3, not 1, and is called renamed now" in said
    found = {member["name"]: member["serial"] for member in state(authority)["members"]}
    assert found == {"renamed": 3, "node-1": 1}
    for serial in (3, 2):
        card = renewed(directory, 0, serial, f"again-{serial}")
        said = xlattice("cluster", "add", authority, card, "127.0.0.1", status=3).stderr
        assert "only a higher one replaces it" in said
    assert state(authority)["epoch"] == 8


def test_add_moves_a_member_to_another_host(directory: Path, authority: Path) -> None:
    said = xlattice("cluster", "add", authority, directory / "node-0.card", "127.0.0.9").stdout
    assert "moves from 127.0.0.1 to 127.0.0.9" in said
    assert {member["name"]: member["host"] for member in state(authority)["members"]}["node-0"] == "127.0.0.9"


@pytest.mark.parametrize(
    ("card", "host", "status", "text"),
    [
        ("node-0.card", "127.0.0.1", 3, "already"),
        ("node-2.card", "127.0.0.1", 3, "'127.0.0.1' stands in it twice"),
        ("node-2.card", "127.1", 2, "is no host"),
        ("client-0.card", "127.0.0.3", 3, "is a client"),
        ("missing.card", "127.0.0.3", 3, "no such file"),
        ("authority/cluster.card", "127.0.0.3", 3, "CLUSTER CARD"),
    ],
)
def test_add_refuses(card: str, host: str, status: int, text: str, directory: Path, authority: Path) -> None:
    assert text in xlattice("cluster", "add", authority, directory / card, host, status=status).stderr
    assert state(authority)["epoch"] == 7


def test_add_refuses_a_name_that_is_taken(directory: Path, authority: Path) -> None:
    node = test_identity(2)
    card = make_card(name="node-1", sk_priv=node.sk_priv, ck=node.ck_priv.public_key())
    save_card(directory / "card", card)
    assert "'node-1'" in xlattice("cluster", "add", authority, directory / "card", "127.0.0.3", status=3).stderr


# ---- remove, allow, deny -----------------------------------------------------


@pytest.mark.parametrize("by", ["name", "NodeID"])
def test_remove_takes_a_member_out(by: str, authority: Path) -> None:
    node = "node-1" if by == "name" else str(test_identity(1).node_id)
    said = xlattice("cluster", "remove", authority, node)
    found = state(authority)
    assert (found["epoch"], names(found["members"])) == (8, {"node-0"})
    assert f"node-1 ({test_identity(1).node_id}) is no longer a member" in said.stdout


def test_remove_refuses_the_last_members(authority: Path) -> None:
    assert "at least one" in xlattice("cluster", "remove", authority, "node-0", "node-1", status=2).stderr
    assert state(authority)["epoch"] == 7


def test_remove_names_those_that_there_are(authority: Path) -> None:
    said = xlattice("cluster", "remove", authority, "node-7", status=2).stderr
    assert {"node-0", "node-1"} <= set(said.replace(",", " ").split())
    xlattice("cluster", "remove", authority, "client-0", status=2)
    xlattice("cluster", "remove", authority, "node-1", "node-1", status=2)
    assert state(authority)["epoch"] == 7


def test_a_nodeid_wins_over_a_name(directory: Path, authority: Path) -> None:
    """A node that is called like another's NodeID is not mistaken for it."""
    node, target = test_identity(2), str(test_identity(1).node_id)
    card = make_card(name=target, sk_priv=node.sk_priv, ck=node.ck_priv.public_key())
    save_card(directory / "card", card)
    xlattice("cluster", "add", authority, directory / "card", "127.0.0.3")
    xlattice("cluster", "remove", authority, target)
    assert names(state(authority)["members"]) == {"node-0", target}


def test_allow_and_deny_list_clients(directory: Path, authority: Path) -> None:
    xlattice("cluster", "allow", authority, directory / "client-1.card", directory / "node-2.card")
    assert names(state(authority)["clients"]) == {"client-0", "client-1", "node-2"}
    said = xlattice("cluster", "deny", authority, "client-0", str(test_identity(2).node_id)).stdout
    found = state(authority)
    assert (found["epoch"], names(found["clients"])) == (9, {"client-1"})
    assert "anonymously" in said


@pytest.mark.spec("ID-25")
def test_allow_replaces_a_card_by_one_of_a_higher_serial(directory: Path, authority: Path) -> None:
    client = test_client(0)
    for serial, status in ((1, 3), (2, 0), (2, 3)):
        card = make_card(
            name="client-0", sk_priv=client.sk_priv, ck=test_identity(9).ck_priv.public_key(), serial=serial
        )
        save_card(directory / "card", card)
        xlattice("cluster", "allow", authority, directory / "card", status=status)
    assert [client["serial"] for client in state(authority)["clients"]] == [2]


def test_allow_refuses_a_member(directory: Path, authority: Path) -> None:
    cards = (directory / "client-1.card", directory / "node-0.card")
    assert "is a member" in xlattice("cluster", "allow", authority, *cards, status=3).stderr
    assert state(authority)["epoch"] == 7


def test_deny_says_what_there_is(authority: Path) -> None:
    assert "there are: client-0" in xlattice("cluster", "deny", authority, "nobody", status=2).stderr
    xlattice("cluster", "deny", authority, "client-0")
    assert "there are: none" in xlattice("cluster", "deny", authority, "client-0", status=2).stderr


# ---- the authority's directory -----------------------------------------------


@pytest.mark.spec("RO-44")
def test_changes_wait_for_nobody_and_do_not_collide(directory: Path, authority: Path) -> None:
    descriptor = os.open(authority, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert "another command" in xlattice("cluster", "remove", authority, "node-1", status=3).stderr
    finally:
        os.close(descriptor)
    xlattice("cluster", "remove", authority, "node-1")
    assert state(authority)["epoch"] == 8


@pytest.mark.spec("RO-44")
def test_a_change_that_was_cut_off_has_taken_its_epoch(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("xlattice_trio.cli.authority.save_cluster_card", lambda path, _: full_disk(path))
        xlattice("cluster", "remove", authority, "node-1", status=3)
    cut_off = load_roster(authority / "cluster.roster")
    xlattice("cluster", "deny", authority, "client-0")
    assert (cut_off.epoch, state(authority)["epoch"]) == (8, 9)


def test_a_change_that_was_not_written_has_left_nothing(authority: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path.name: path.read_bytes() for path in authority.iterdir()}
    with monkeypatch.context() as patch:
        patch.setattr("xlattice_trio.cli.authority.save_roster", lambda path, _: full_disk(path))
        xlattice("cluster", "remove", authority, "node-1", status=3)
    assert {path.name: path.read_bytes() for path in authority.iterdir()} == before


def full_disk(path: Path) -> None:
    raise FileRefused(path, FileProblem.UNWRITABLE, "cannot be written: No space left on device")


def put_another_authority(directory: Path) -> None:
    (directory / "authority.pem").unlink()
    save_authority(directory, test_authority(1))


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda path: (path / "authority.pem").unlink(), "authority.pem: there is no such file"),
        (lambda path: (path / "cluster.roster").unlink(), "cluster.roster: there is no such file"),
        (lambda path: (path / "cluster.roster").chmod(0o644), "chmod 600"),
        (lambda path: (path / "authority.pem").chmod(0o640), "chmod 600"),
        (lambda path: (path / "authority.pem").write_bytes(b"what"), "no private key"),
        (put_another_authority, "fits"),
        (lambda path: (path / "cluster.roster").write_bytes(b"what"), "no XLATTICE ROSTER"),
        (lambda path: path.rename(path.with_name("elsewhere")), "the directory of an authority"),
    ],
)
def test_change_needs_the_authoritys_files(spoil: Any, text: str, authority: Path) -> None:
    spoil(authority)
    assert text in xlattice("cluster", "remove", authority, "node-1", status=3).stderr


# ---- show, card --------------------------------------------------------------


@pytest.mark.spec("NO-30")
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_show_never_shows_the_knock(flags: list[str], authority: Path) -> None:
    knock = load_roster(authority / "cluster.roster").knock
    for path in (authority, authority / "cluster.roster", authority / "cluster.card"):
        said = xlattice("cluster", "show", path, *flags).output
        assert knock.hex() not in said.lower()


def test_show_has_every_member_and_client(authority: Path) -> None:
    said = xlattice("cluster", "show", authority).stdout
    roster = load_roster(authority / "cluster.roster")
    for value in (roster.name, roster.cluster_id.hex(), roster.digest.hex(), *roster.members, *roster.clients):
        assert str(value) in said
    assert {"7711", "7712", "127.0.0.1", "127.0.0.2", "2048/2048"} <= set(said.split())


def test_show_reads_a_nodes_directory(tmp_path: Path) -> None:
    save_identity(tmp_path / "node", test_identity(0))
    assert "no such file" in xlattice("cluster", "show", tmp_path / "node", status=3).stderr
    save_roster(tmp_path / "node" / "cluster.roster", test_roster(2).roster)
    assert json.loads(xlattice("cluster", "show", tmp_path / "node", "--json").stdout)["kind"] == "roster"


def test_show_refuses_what_is_neither_roster_nor_cluster_card(directory: Path) -> None:
    assert "a roster or a cluster card" in xlattice("cluster", "show", directory / "node-0.card", status=3).stderr


def test_card_prints_the_cluster_card(authority: Path) -> None:
    assert xlattice("cluster", "card", authority).stdout == (authority / "cluster.card").read_text()


@pytest.mark.parametrize("stopped", ["before the card", "before the next card"])
def test_card_is_made_again_if_the_last_change_was_stopped(stopped: str, directory: Path, authority: Path) -> None:
    if stopped == "before the card":
        (authority / "cluster.card").unlink()
    else:
        save_roster(authority / "cluster.roster", test_roster(3, 1, epoch=8).roster)
    (directory / "copy").write_text(xlattice("cluster", "card", authority).stdout)
    roster = load_roster(authority / "cluster.roster")
    card = load_cluster_card(directory / "copy")
    assert (card.epoch, card.cluster_id, dict(card.members)) == (roster.epoch, roster.cluster_id, dict(roster.members))
    assert armour(card.card) == (authority / "cluster.card").read_bytes()


def test_card_that_is_damaged_is_not_replaced_silently(authority: Path) -> None:
    (authority / "cluster.card").write_bytes(b"what")
    xlattice("cluster", "card", authority, status=3)


# ---- weak keys ---------------------------------------------------------------


@pytest.mark.spec("ID-11")
def test_add_refuses_a_key_that_shares_a_prime(directory: Path, authority: Path) -> None:
    """Keys of the test identities above the first few do."""
    save_card(directory / "weak.card", sharing_a_prime().card)
    for words in (["add", "weak.card", "127.0.0.3"], ["allow", "weak.card"]):
        said = xlattice("cluster", words[0], authority, directory / words[1], *words[2:], status=3).stderr
        assert "has a prime in common with the sk of 'node-0'" in said
    assert state(authority)["epoch"] == 7


@pytest.mark.spec("ID-11")
def test_create_refuses_members_that_share_a_prime(directory: Path) -> None:
    save_card(directory / "weak.card", sharing_a_prime().card)
    assert "in common" in create(directory, "--member", directory / "weak.card", "127.0.0.9", status=3)
    assert not (directory / "new").exists()
