"""`xlattice node init`, `card` and `load`."""

import binascii
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest

from tests.commands import command_line, environment, xlattice
from xlattice_trio.cli.common import read_passphrase
from xlattice_trio.crypto import Label, encode_spki, pss_sign, rsa_size
from xlattice_trio.identity.storage import (
    load_card,
    load_held_roster,
    load_identity,
    load_next,
    save_card,
    save_identity,
    save_roster,
)
from xlattice_trio.testing.identities import test_authority, test_identity, test_roster
from xlattice_trio.wire.codec import encode_before
from xlattice_trio.wire.messages import Roster

# ---- node init ---------------------------------------------------------------


def test_init_makes_an_identity(tmp_path: Path) -> None:
    result = xlattice("node", "init", tmp_path / "a", "--name", "älpha")
    identity = load_identity(tmp_path / "a")
    assert identity.name == "älpha"
    assert str(identity.node_id) in result.stdout
    assert (rsa_size(identity.card.sk), rsa_size(identity.card.ck)) == (256, 256)
    assert len(identity.node_id.value) == 32


def test_init_takes_sizes(tmp_path: Path) -> None:
    result = xlattice("node", "init", tmp_path / "a", "--name", "a", "--bits", "3072", "--id-size", "20", "--json")
    identity = load_identity(tmp_path / "a")
    assert json.loads(result.stdout) == {
        "directory": str(tmp_path / "a"),
        "encrypted": False,
        "name": "a",
        "node_id": str(identity.node_id),
        "serial": 1,
        "sk_bits": 3072,
        "ck_bits": 3072,
    }
    assert len(identity.node_id.value) == 20


def test_init_never_overwrites(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0))
    assert "none is ever overwritten" in xlattice("node", "init", tmp_path / "a", "--name", "b", status=3).stderr
    assert load_identity(tmp_path / "a").name == "node-0"


def test_init_refuses_a_name_that_no_card_can_carry(tmp_path: Path) -> None:
    xlattice("node", "init", tmp_path / "a", "--name", "x" * 65, status=2)
    xlattice("node", "init", tmp_path / "a", "--name", "", status=2)
    assert not (tmp_path / "a").exists()


def test_init_encrypts_with_the_first_line_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("correct horse\nsecond line\n")
    (tmp_path / "secret").chmod(0o600)
    xlattice("node", "init", tmp_path / "a", "--name", "a", "--passphrase-file", tmp_path / "secret")
    assert load_identity(tmp_path / "a", b"correct horse").name == "a"
    assert "ENCRYPTED" in (tmp_path / "a" / "sk.pem").read_text()


@pytest.mark.parametrize(
    ("content", "status", "text"),
    [
        (None, 3, "No such file"),
        (b"\nx\n", 2, "its first line is empty"),
        (b"\r\nx\r\n", 2, "its first line is empty"),
        (b"\xff\n", 2, "not UTF-8"),
    ],
)
@pytest.mark.spec("ID-36")
def test_passphrase_file_has_to_hold_one(content: bytes | None, status: int, text: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "secret").write_bytes(content)
        (tmp_path / "secret").chmod(0o600)
    result = xlattice(
        "node", "init", tmp_path / "a", "--name", "a", "--passphrase-file", tmp_path / "secret", status=status
    )
    assert text in result.stderr
    assert not (tmp_path / "a").exists()


@pytest.mark.spec("ID-36")
@pytest.mark.parametrize(
    ("content", "passphrase"),
    [
        (b"secret", b"secret"),
        (b"secret\n", b"secret"),
        (b"secret\r\n", b"secret"),
        (b"secret\nmore\n", b"secret"),
        (b" secret \n", b" secret "),
        ("p\u00e4ss\n".encode(), "p\u00e4ss".encode()),
        ("pa\u0308ss\n".encode(), "pa\u0308ss".encode()),
        ("\ufeffx\n".encode(), "\ufeffx".encode()),
    ],
)
def test_passphrase_is_the_first_line_of_its_file_as_it_is(content: bytes, passphrase: bytes, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(content)
    assert read_passphrase(tmp_path / "secret") == passphrase


def test_passphrase_file_that_others_can_read_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    result = xlattice("node", "init", tmp_path / "a", "--name", "a", "--passphrase-file", tmp_path / "secret")
    assert f"chmod 600 {tmp_path / 'secret'}" in result.stderr


def test_nothing_that_is_printed_is_private(tmp_path: Path) -> None:
    outputs = [
        xlattice("node", "init", tmp_path / "a", "--name", "a").output,
        xlattice("node", "card", tmp_path / "a").output,
        xlattice("node", "card", tmp_path / "a", "--json").output,
        xlattice("node", "card", tmp_path / "a", "--new-ck").output,
    ]
    prepared = load_next(tmp_path / "a")
    assert prepared is not None
    keys = [load_identity(tmp_path / "a").ck_priv, prepared.sk_priv, prepared.ck_priv]
    secrets = [prime for key in keys for prime in (key.private_numbers().p, key.private_numbers().q)]
    for output in outputs:
        content = b"".join(binascii.a2b_base64(line) for line in output.splitlines() if len(line) == 64)
        for secret in secrets:
            assert f"{secret:x}" not in output.lower()
            assert secret.to_bytes(128, "big") not in content


# ---- passphrases at a terminal -----------------------------------------------


# A process of its own makes the terminal: to fork this one, which has threads, would not be safe.
SPAWN = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def at_a_terminal(words: list[str], answers: list[str | bytes], directory: Path) -> tuple[int, str]:
    """Run a command with a terminal of its own; each answer is typed when the text ends with ': '."""
    said, waiting = b"", list(answers)
    env = environment(directory) | {"TERM": "dumb"}
    spawn = [sys.executable, "-c", SPAWN, *words]
    with subprocess.Popen(spawn, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, bufsize=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        while data := process.stdout.read(4096):
            said += data
            if said.endswith(b": ") and waiting:
                answer = waiting.pop(0)
                process.stdin.write((answer if isinstance(answer, bytes) else answer.encode()) + b"\n")
                said += b"\n"
    return process.returncode, said.decode()


@pytest.mark.spec("ID-36")
def test_init_asks_for_a_passphrase_twice(tmp_path: Path) -> None:
    words = command_line("node", "init", tmp_path / "a", "--name", "a")
    status, said = at_a_terminal(words, ["pass wörd", "pass wörd"], tmp_path)
    assert status == 0, said
    assert "wörd" not in said
    assert load_identity(tmp_path / "a", "pass wörd".encode()).name == "a"


def test_init_makes_nothing_if_the_two_passphrases_differ(tmp_path: Path) -> None:
    words = command_line("node", "init", tmp_path / "a", "--name", "a")
    status, said = at_a_terminal(words, ["one", "two"], tmp_path)
    assert (status, (tmp_path / "a").exists()) == (2, False), said


@pytest.mark.spec("ID-36")
def test_init_makes_nothing_if_what_is_typed_is_no_text(tmp_path: Path) -> None:
    words = command_line("node", "init", tmp_path / "a", "--name", "a")
    status, said = at_a_terminal(words, [b"p\xff"], tmp_path)
    assert (status, (tmp_path / "a").exists()) == (2, False), said
    assert "Traceback" not in said


@pytest.mark.parametrize(("flags", "answers"), [([], [""]), (["--no-passphrase"], [])], ids=["empty", "flag"])
def test_init_without_a_passphrase_does_not_encrypt(
    flags: list[str], answers: list[str | bytes], tmp_path: Path
) -> None:
    words = command_line("node", "init", tmp_path / "a", "--name", "a", *flags)
    status, said = at_a_terminal(words, answers, tmp_path)
    assert (status, load_identity(tmp_path / "a").name) == (0, "a"), said


def test_passphrase_is_asked_for_when_it_is_needed(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0), b"secret")
    words = command_line("node", "card", tmp_path / "a", "--new-ck")
    assert at_a_terminal(words, ["wrong"], tmp_path)[0] == 3
    assert at_a_terminal(words, ["secret"], tmp_path)[0] == 0
    assert load_next(tmp_path / "a", b"secret") is not None


def test_without_a_terminal_a_passphrase_has_to_come_from_a_file(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0), b"secret")
    words = command_line("node", "card", tmp_path / "a", "--new-ck")
    ended = subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment(tmp_path),
        start_new_session=True,
        check=False,
    )
    assert ended.returncode == 3
    assert b"--passphrase-file" in ended.stderr


# ---- node card ---------------------------------------------------------------


def test_card_prints_the_file_that_the_authority_takes(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0))
    (tmp_path / "copy").write_text(xlattice("node", "card", tmp_path / "a").stdout)
    assert load_card(tmp_path / "copy") == test_identity(0).card


def test_card_json_has_the_fields(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0))
    assert json.loads(xlattice("node", "card", tmp_path / "a", "--json").stdout) == {
        "name": "node-0",
        "node_id": str(test_identity(0).node_id),
        "serial": 1,
        "sk_bits": 2048,
        "ck_bits": 2048,
    }


def test_new_ck_is_prepared_with_a_card_of_the_next_serial(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0))
    (tmp_path / "next").write_text(xlattice("node", "card", tmp_path / "a", "--new-ck").stdout)
    card, prepared = load_card(tmp_path / "next"), load_next(tmp_path / "a")
    assert prepared is not None
    assert card == prepared.card
    assert (card.node_id, card.card.serial) == (test_identity(0).node_id, 2)
    assert encode_spki(prepared.ck_priv.public_key()) != test_identity(0).card.card.ck
    assert load_identity(tmp_path / "a").card == test_identity(0).card
    assert xlattice("node", "card", tmp_path / "a", "--next").stdout == (tmp_path / "next").read_text()


def test_new_ck_is_not_prepared_twice(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0))
    first = xlattice("node", "card", tmp_path / "a", "--new-ck").stdout
    assert "--discard-next" in xlattice("node", "card", tmp_path / "a", "--new-ck", status=3).stderr
    assert xlattice("node", "card", tmp_path / "a", "--next").stdout == first
    xlattice("node", "card", tmp_path / "a", "--discard-next")
    assert load_next(tmp_path / "a") is None
    xlattice("node", "card", tmp_path / "a", "--next", status=3)
    assert xlattice("node", "card", tmp_path / "a", "--new-ck").stdout != first


def test_options_of_card_exclude_each_other(tmp_path: Path) -> None:
    xlattice("node", "card", tmp_path / "a", "--next", "--new-ck", status=2)


def test_card_of_a_directory_without_an_identity_is_refused(tmp_path: Path) -> None:
    assert "node.card" in xlattice("node", "card", tmp_path, status=3).stderr


# ---- node load ---------------------------------------------------------------


def given_roster(directory: Path, epoch: int, members: int = 2) -> Path:
    path = directory / f"roster-{epoch}-{members}"
    save_roster(path, test_roster(members, epoch=epoch).roster)
    return path


def held_epoch(directory: Path) -> tuple[int, int] | None:
    """The epoch that is held, and the highest."""
    held = load_held_roster(directory)
    return None if held is None else (held.roster.epoch, held.highest)


def test_load_gives_a_node_its_roster(tmp_path: Path) -> None:
    node = tmp_path / "a"
    save_identity(node, test_identity(0))
    first = xlattice("node", "load", node, given_roster(tmp_path, 1))
    assert held_epoch(node) == (1, 1)
    assert test_roster().cluster_id.hex() in first.stderr  # [RO-62]
    second = xlattice("node", "load", node, given_roster(tmp_path, 3))
    assert "ClusterID" not in second.stderr
    assert held_epoch(node) == (3, 3)
    assert "already" in xlattice("node", "load", node, given_roster(tmp_path, 3)).stderr


@pytest.mark.spec("RO-34", "RO-41", "RO-43")
def test_load_takes_an_older_roster_by_override_only(tmp_path: Path) -> None:
    node = tmp_path / "a"
    save_identity(node, test_identity(0))
    xlattice("node", "load", node, given_roster(tmp_path, 3))
    assert "--override" in xlattice("node", "load", node, given_roster(tmp_path, 2), status=3).stderr
    assert held_epoch(node) == (3, 3)
    xlattice("node", "load", node, given_roster(tmp_path, 2), "--override")
    assert held_epoch(node) == (2, 3)
    xlattice("node", "load", node, given_roster(tmp_path, 3), status=3)
    xlattice("node", "load", node, given_roster(tmp_path, 4))
    assert held_epoch(node) == (4, 4)


def with_other_knock(roster: Roster) -> Roster:
    changed = attrs.evolve(roster, knock=bytes(32))
    content = encode_before(changed, "signature")
    return attrs.evolve(changed, signature=pss_sign(test_authority(), Label.ROSTER, content))


@pytest.mark.spec("RO-42")
@pytest.mark.parametrize(
    "spoil",
    [
        lambda roster: attrs.evolve(roster, signature=bytes(256)),
        lambda roster: attrs.evolve(roster, name="another"),
        with_other_knock,
        lambda roster: test_roster(2, epoch=1, id_size=20).roster,
        lambda roster: test_roster(2, epoch=1, ports=(1, 7712)).roster,
    ],
    ids=["unsigned", "changed", "knock", "id_size", "cluster_port"],
)
def test_load_forces_no_roster_for_anything_but_its_epoch(spoil: Callable[[Roster], Roster], tmp_path: Path) -> None:
    node = tmp_path / "a"
    save_identity(node, test_identity(0))
    xlattice("node", "load", node, given_roster(tmp_path, 3))
    save_roster(tmp_path / "spoilt", spoil(test_roster(2, epoch=1).roster))
    xlattice("node", "load", node, tmp_path / "spoilt", "--override", status=3)
    assert held_epoch(node) == (3, 3)


@pytest.mark.spec("RO-45")
def test_load_refuses_another_roster_of_the_same_epoch(tmp_path: Path) -> None:
    node = tmp_path / "a"
    save_identity(node, test_identity(0))
    xlattice("node", "load", node, given_roster(tmp_path, 1, 2))
    xlattice("node", "load", node, given_roster(tmp_path, 1, 3), "--override", status=3)
    assert len(load_held_roster(node).roster.members) == 2  # type: ignore[union-attr]


def test_load_refuses_a_first_roster_without_this_node(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(5))
    assert "no member" in xlattice("node", "load", tmp_path / "a", given_roster(tmp_path, 1), status=3).stderr
    assert held_epoch(tmp_path / "a") is None


def test_load_says_that_the_node_is_removed(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(1))
    xlattice("node", "load", tmp_path / "a", given_roster(tmp_path, 1, 2))
    assert "no longer a member" in xlattice("node", "load", tmp_path / "a", given_roster(tmp_path, 2, 1)).stderr
    assert held_epoch(tmp_path / "a") == (2, 2)


def test_load_refuses_what_is_no_roster(tmp_path: Path) -> None:
    save_identity(tmp_path / "a", test_identity(0))
    save_card(tmp_path / "card", test_identity(0).card.card)
    (tmp_path / "card").chmod(0o600)
    assert "NODE CARD" in xlattice("node", "load", tmp_path / "a", tmp_path / "card", status=3).stderr
