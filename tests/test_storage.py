"""Files: who may read them, what is refused, and that nothing is lost when power is. Spec 2.6, 2.7, 3.5, 3.7, 3.10."""

import errno
import os
import shutil
import stat
from base64 import b64decode
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from xlattice_trio.crypto import encode_spki, private_key_pem
from xlattice_trio.errors import IdentityError, StorageError, UsageError
from xlattice_trio.identity import files, storage
from xlattice_trio.identity.armour import armour, armour_size
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.limits import PBKDF2_ROUNDS_MIN, ROSTER_MAX
from xlattice_trio.roster import VerifiedClusterCard, VerifiedRoster, make_cluster_card, verify_cluster_card
from xlattice_trio.testing.identities import test_authority as authority
from xlattice_trio.testing.identities import test_identity as identity
from xlattice_trio.testing.identities import test_roster as a_roster

NODE = identity(0)
PASSPHRASE = "correct horse b\u00e4ttery".encode()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def snapshot(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def cluster_card(epoch: int = 1) -> VerifiedClusterCard:
    return verify_cluster_card(make_cluster_card(authority(), a_roster(epoch=epoch)))


@pytest.fixture
def node_dir(tmp_path: Path) -> Path:
    directory = tmp_path / "node"
    storage.save_identity(directory, NODE)
    return directory


@pytest.fixture
def few_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """A passphrase costs its full price only in the test that looks at it."""
    monkeypatch.setattr("xlattice_trio.crypto.PBKDF2_ROUNDS_MIN", 65_536)


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=lambda umask: f"umask {umask:03o}")
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def refused(problem: FileProblem, path: Path, call: Callable[[], object], found: str | None = None) -> None:
    with pytest.raises(FileRefused) as caught:
        call()
    assert (caught.value.problem, caught.value.path, caught.value.found) == (problem, path, found)
    assert isinstance(caught.value, StorageError)


# ---- a node's identity -------------------------------------------------------


@pytest.mark.parametrize("id_size", [20, 32])
@pytest.mark.parametrize("bits", [2048, 3072, 4096])
def test_identity_is_loaded_as_it_was_saved(tmp_path: Path, bits: int, id_size: int) -> None:
    node = identity(0, bits=bits, id_size=id_size)
    storage.save_identity(tmp_path / "node", node)
    loaded = storage.load_identity(tmp_path / "node")
    assert loaded == node
    assert loaded.sk_priv.private_numbers() == node.sk_priv.private_numbers()
    assert loaded.ck_priv.private_numbers() == node.ck_priv.private_numbers()


@pytest.mark.spec("ID-26", "ID-27")
@pytest.mark.usefixtures("any_umask")
def test_private_keys_are_their_owners_alone(tmp_path: Path) -> None:
    directory = tmp_path / "a" / "b"
    storage.save_identity(directory, NODE)
    assert names(directory) == {"sk.pem", "ck.pem", "node.card"}
    assert mode(directory) == 0o700
    assert {name: mode(directory / name) for name in names(directory)} == {
        "sk.pem": 0o600,
        "ck.pem": 0o600,
        "node.card": 0o644,
    }
    assert (directory / "sk.pem").read_bytes().startswith(b"-----BEGIN PRIVATE KEY-----\n")


@pytest.mark.spec("ID-27")
@pytest.mark.usefixtures("any_umask")
def test_private_key_is_its_owners_alone_from_its_creation_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = os.fchmod

    def fchmod(fd: int, bits: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(fd).st_mode))
        real(fd, bits)

    monkeypatch.setattr(os, "fchmod", fchmod)
    storage.save_identity(tmp_path / "node", NODE)
    storage.save_roster(tmp_path / "roster", a_roster().roster)
    assert len(seen) == 4
    assert all(m & 0o077 == 0 for m in seen)


def test_directory_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    (tmp_path / "notes.txt").write_text("mine")
    storage.save_identity(tmp_path, NODE)
    assert mode(tmp_path) == 0o755
    assert names(tmp_path) == {"sk.pem", "ck.pem", "node.card", "notes.txt"}


@pytest.mark.parametrize("name", ["sk.pem", "ck.pem", "node.card"])
@pytest.mark.parametrize("dangling", [False, True])
def test_identity_is_never_overwritten(tmp_path: Path, name: str, dangling: bool) -> None:
    if dangling:
        (tmp_path / name).symlink_to("nowhere")
    else:
        (tmp_path / name).write_bytes(b"precious")
    refused(FileProblem.EXISTS, tmp_path / name, lambda: storage.save_identity(tmp_path, NODE))
    assert names(tmp_path) == {name}
    assert dangling or (tmp_path / name).read_bytes() == b"precious"


def test_identity_is_not_overwritten_that_appears_at_the_last_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sk.pem").write_bytes(b"precious")
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    refused(FileProblem.EXISTS, tmp_path / "sk.pem", lambda: storage.save_identity(tmp_path, NODE))
    assert snapshot(tmp_path) == {"sk.pem": b"precious"}


def test_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "node").write_bytes(b"")
    refused(FileProblem.EXISTS, tmp_path / "node", lambda: storage.save_identity(tmp_path / "node", NODE))
    refused(FileProblem.UNWRITABLE, tmp_path / "node/sub", lambda: storage.save_identity(tmp_path / "node/sub", NODE))


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_nothing_is_left_of_a_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save_card(tmp_path / "card", NODE.card.card)
    before = snapshot(tmp_path)
    monkeypatch.setattr(os, "fsync", full_disk)
    refused(
        FileProblem.UNWRITABLE, tmp_path / "authority.pem", lambda: files.create_file(tmp_path / "authority.pem", b"x")
    )
    refused(FileProblem.UNWRITABLE, tmp_path / "card", lambda: storage.save_card(tmp_path / "card", NODE.card.card))
    assert snapshot(tmp_path) == before


# ---- passphrases -------------------------------------------------------------


@pytest.mark.spec("ID-26", "ID-28")
def test_passphrase_encrypts_with_600000_rounds(tmp_path: Path) -> None:
    storage.save_authority(tmp_path, authority(), PASSPHRASE)
    pem = (tmp_path / "authority.pem").read_bytes()
    assert pem.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n")
    der = serialization_der(pem)
    assert PBKDF2_ROUNDS_MIN == 600_000
    assert bytes.fromhex("0203") + (600_000).to_bytes(3, "big") in der
    for oid in ("06092a864886f70d01050d", "06092a864886f70d01050c", "06082a864886f70d0209", "060960864801650304012a"):
        assert bytes.fromhex(oid) in der
    loaded = storage.load_authority(tmp_path, PASSPHRASE)
    assert loaded.private_numbers() == authority().private_numbers()


def serialization_der(pem: bytes) -> bytes:
    return b64decode(b"".join(pem.splitlines()[1:-1]))


@pytest.mark.usefixtures("few_rounds")
def test_identity_with_a_passphrase_is_loaded_with_that_one_only(tmp_path: Path) -> None:
    storage.save_identity(tmp_path, NODE, PASSPHRASE)
    assert storage.load_identity(tmp_path, PASSPHRASE) == NODE
    label = "ENCRYPTED PRIVATE KEY"
    for missing in (None, b""):
        refused(
            FileProblem.PASSPHRASE_NEEDED,
            tmp_path / "sk.pem",
            partial(storage.load_identity, tmp_path, missing),
            label,
        )
    refused(FileProblem.PASSPHRASE_WRONG, tmp_path / "sk.pem", lambda: storage.load_identity(tmp_path, b"wrong"), label)
    (tmp_path / "sk.pem").write_bytes(private_key_pem(NODE.sk_priv, None))
    refused(FileProblem.PASSPHRASE_WRONG, tmp_path / "ck.pem", lambda: storage.load_identity(tmp_path, b"wrong"), label)


def test_passphrase_is_not_asked_of_a_key_that_has_none(node_dir: Path) -> None:
    assert storage.load_identity(node_dir, PASSPHRASE) == NODE


def test_empty_passphrase_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        storage.save_identity(tmp_path / "new", NODE, b"")
    with pytest.raises(UsageError):
        storage.save_authority(tmp_path / "new", authority(), b"")
    assert not (tmp_path / "new").exists()
    storage.save_identity(tmp_path, NODE)
    with pytest.raises(UsageError):
        storage.save_next(tmp_path, FOLLOWING, b"")
    assert names(tmp_path) == {"sk.pem", "ck.pem", "node.card"}


# ---- files that are refused --------------------------------------------------


@pytest.mark.parametrize("name", ["sk.pem", "ck.pem", "node.card"])
@pytest.mark.parametrize("dangling", [False, True])
def test_identity_is_refused_when_a_file_is_missing(node_dir: Path, name: str, dangling: bool) -> None:
    (node_dir / name).unlink()
    if dangling:
        (node_dir / name).symlink_to("nowhere")
    refused(FileProblem.MISSING, node_dir / name, lambda: storage.load_identity(node_dir))


@pytest.mark.parametrize("name", ["sk.pem", "ck.pem"])
def test_identity_is_loaded_through_a_symbolic_link(node_dir: Path, tmp_path: Path, name: str) -> None:
    (node_dir / name).rename(tmp_path / "elsewhere")
    (node_dir / name).symlink_to(tmp_path / "elsewhere")
    assert storage.load_identity(node_dir) == NODE


@pytest.mark.spec("ID-30")
@pytest.mark.parametrize("name", ["sk.pem", "ck.pem"])
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o644, 0o777])
def test_private_key_is_refused_when_others_have_access(node_dir: Path, name: str, bits: int) -> None:
    (node_dir / name).chmod(bits)
    refused(FileProblem.OPEN_TO_OTHERS, node_dir / name, lambda: storage.load_identity(node_dir))


@pytest.mark.parametrize("bits", [0o777, 0o702, 0o2707])
def test_directory_is_refused_where_every_user_can_replace_the_files(node_dir: Path, bits: int) -> None:
    storage.save_held_roster(node_dir, a_roster(), 1)
    node_dir.chmod(bits)
    calls: list[Callable[[], object]] = [
        lambda: storage.load_identity(node_dir),
        lambda: storage.load_held_roster(node_dir),
        lambda: storage.load_authority(node_dir),
        lambda: storage.save_identity(node_dir, NODE),
        lambda: storage.save_authority(node_dir, authority()),
    ]
    before = names(node_dir)
    for call in calls:
        refused(FileProblem.OPEN_TO_OTHERS, node_dir, call)
    assert names(node_dir) == before


@pytest.mark.parametrize("bits", [0o700, 0o500, 0o755, 0o1777, 0o1733])
def test_directory_is_used_where_only_its_owner_can_replace_the_files(
    node_dir: Path, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    node_dir.chmod(bits)
    assert storage.load_identity(node_dir) == NODE
    assert not caplog.records


@pytest.mark.parametrize("bits", [0o770, 0o2775])
def test_directory_where_its_group_can_replace_the_files_is_warned_of_once(
    node_dir: Path, bits: int, caplog: pytest.LogCaptureFixture
) -> None:
    node_dir.chmod(bits)
    for _ in range(2):
        assert storage.load_identity(node_dir) == NODE
    (record,) = caplog.records
    assert str(node_dir) in record.getMessage()


def test_directory_without_modes_is_used(node_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node_dir.chmod(0o777)
    monkeypatch.setattr(files, "_HAS_MODES", False)
    assert storage.load_identity(node_dir) == NODE


@pytest.mark.parametrize("bits", [0o600, 0o400, 0o700])
def test_private_key_is_loaded_when_only_its_owner_has_access(node_dir: Path, bits: int) -> None:
    (node_dir / "sk.pem").chmod(bits)
    assert storage.load_identity(node_dir) == NODE


@pytest.mark.parametrize("bits", [0o600, 0o644, 0o666])
def test_card_is_loaded_whoever_can_read_it(node_dir: Path, bits: int) -> None:
    (node_dir / "node.card").chmod(bits)
    assert storage.load_card(node_dir / "node.card") == NODE.card


def test_file_with_a_secret_is_refused_when_it_is_not_ours(node_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage.save_roster(node_dir / "cluster.roster", a_roster().roster)
    storage.save_cluster_card(node_dir / "cluster.card", cluster_card().card)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    refused(FileProblem.NOT_OURS, node_dir / "sk.pem", lambda: storage.load_identity(node_dir))
    refused(FileProblem.NOT_OURS, node_dir / "cluster.roster", lambda: storage.load_roster(node_dir / "cluster.roster"))
    assert storage.load_card(node_dir / "node.card") == NODE.card
    assert storage.load_cluster_card(node_dir / "cluster.card").name == "test-cluster"


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize("name", ["sk.pem", "ck.pem", "node.card"])
@pytest.mark.parametrize("make", [Path.mkdir, make_fifo], ids=["directory", "fifo"])
def test_identity_is_refused_when_a_file_is_no_file(node_dir: Path, name: str, make: Callable[[Path], None]) -> None:
    (node_dir / name).unlink()
    make(node_dir / name)
    refused(FileProblem.NOT_A_FILE, node_dir / name, lambda: storage.load_identity(node_dir))


def test_file_is_refused_when_the_system_does_not_give_it(node_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", deny)
    refused(FileProblem.UNREADABLE, node_dir / "node.card", lambda: storage.load_identity(node_dir))
    refused(FileProblem.UNREADABLE, node_dir / "cluster.roster", lambda: storage.load_held_roster(node_dir))
    refused(FileProblem.UNREADABLE, node_dir / "ck-previous.pem", lambda: storage.load_previous(node_dir))
    refused(FileProblem.UNREADABLE, node_dir / "x.card", lambda: storage.load_held_cluster_card(node_dir / "x.card"))


KEY_PEM = private_key_pem(NODE.sk_priv, None)
TRADITIONAL_PEM = NODE.sk_priv.private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
PUBLIC_PEM = NODE.card.sk.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
CURVE_PEM = ec.generate_private_key(ec.SECP256R1()).private_bytes(
    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
)

BAD_KEY_FILES: dict[str, tuple[bytes, FileProblem, str | None]] = {
    "nothing": (b"", FileProblem.DAMAGED, None),
    "noise": (bytes(range(256)), FileProblem.DAMAGED, None),
    "a node card": (armour(NODE.card.card), FileProblem.WRONG_KIND, "XLATTICE NODE CARD"),
    "a roster": (armour(a_roster().roster), FileProblem.WRONG_KIND, "XLATTICE ROSTER"),
    "a key in PKCS#1": (TRADITIONAL_PEM, FileProblem.WRONG_KIND, "RSA PRIVATE KEY"),
    "a public key": (PUBLIC_PEM, FileProblem.WRONG_KIND, "PUBLIC KEY"),
    "half a key": (KEY_PEM[: len(KEY_PEM) // 2], FileProblem.DAMAGED, "PRIVATE KEY"),
    "a key on an elliptic curve": (CURVE_PEM, FileProblem.DAMAGED, "PRIVATE KEY"),
    "a label alone": (b"-----BEGIN PRIVATE KEY-----\n", FileProblem.DAMAGED, "PRIVATE KEY"),
    "too much": (KEY_PEM + bytes(65_537 - len(KEY_PEM)), FileProblem.DAMAGED, None),
}


@pytest.mark.spec("ID-26")
@pytest.mark.parametrize("name", ["sk.pem", "ck.pem"])
@pytest.mark.parametrize("case", BAD_KEY_FILES)
def test_private_key_file_is_refused_when_it_holds(node_dir: Path, case: str, name: str) -> None:
    content, problem, found = BAD_KEY_FILES[case]
    (node_dir / name).write_bytes(content)
    refused(problem, node_dir / name, lambda: storage.load_identity(node_dir), found)


def test_file_of_the_greatest_size_is_read_and_a_larger_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1000)
    assert files.read_file(path, 1000, private=False) == b"x" * 1000
    refused(FileProblem.DAMAGED, path, lambda: files.read_file(path, 999, private=False))


MORE_THAN_A_KEY = {
    "a line before": b"key of node-0\n" + KEY_PEM,
    "an empty line before": b"\n" + KEY_PEM,
    "a byte order mark": b"\xef\xbb\xbf" + KEY_PEM,
    "a line after": KEY_PEM + b"key of node-0\n",
    "an empty line after": KEY_PEM + b"\n",
    "a space after": KEY_PEM[:-1] + b" \n",
    "the key twice": KEY_PEM + KEY_PEM,
    "another key after": KEY_PEM + private_key_pem(identity(1).sk_priv, None),
    "its card after": KEY_PEM + armour(NODE.card.card),
    "a header": KEY_PEM.replace(b"KEY-----\n", b"KEY-----\nName: node-0\n\n", 1),
    "another last line": KEY_PEM.replace(b"END PRIVATE", b"END ENCRYPTED PRIVATE"),
    "no last line": KEY_PEM[: KEY_PEM.index(b"-----END")],
}


@pytest.mark.spec("ID-35")
@pytest.mark.parametrize("case", MORE_THAN_A_KEY)
def test_private_key_file_is_refused_when_it_does_not_hold_one_key_alone(node_dir: Path, case: str) -> None:
    (node_dir / "sk.pem").write_bytes(MORE_THAN_A_KEY[case])
    with pytest.raises(FileRefused) as caught:
        storage.load_identity(node_dir)
    assert (caught.value.problem, caught.value.path) == (FileProblem.DAMAGED, node_dir / "sk.pem")


@pytest.mark.spec("ID-35")
@pytest.mark.usefixtures("few_rounds")
@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_private_key_file_is_written_with_one_key_alone(tmp_path: Path, passphrase: bytes | None) -> None:
    storage.save_identity(tmp_path, NODE, passphrase)
    label = "PRIVATE KEY" if passphrase is None else "ENCRYPTED PRIVATE KEY"
    for name in ("sk.pem", "ck.pem"):
        first, *body, last, end = (tmp_path / name).read_text().split("\n")
        assert (first, last, end) == (f"-----BEGIN {label}-----", f"-----END {label}-----", "")
        assert b64decode("".join(body), validate=True)[0] == 0x30


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_private_key_file_is_loaded_whatever_its_line_ends(node_dir: Path, end: bytes) -> None:
    pem = KEY_PEM.removesuffix(b"\n")
    (node_dir / "sk.pem").write_bytes((pem.replace(b"\n", end) if end == b"\r\n" else pem) + end)
    assert storage.load_identity(node_dir) == NODE


@pytest.mark.spec("ID-29")
@pytest.mark.parametrize(("name", "found"), [("sk.pem", "sk.pem"), ("ck.pem", "ck.pem"), ("node.card", "sk.pem")])
def test_identity_is_refused_when_a_file_is_another_nodes(
    node_dir: Path, tmp_path: Path, name: str, found: str
) -> None:
    storage.save_identity(tmp_path / "other", identity(1))
    shutil.copy(tmp_path / "other" / name, node_dir / name)
    refused(FileProblem.MISMATCH, node_dir / found, lambda: storage.load_identity(node_dir))


ROSTER = a_roster()
CARDS = cluster_card()
TEXTS: dict[str, tuple[Callable[[Path], object], bytes, Any]] = {
    "XLATTICE NODE CARD": (storage.load_card, armour(NODE.card.card), NODE.card.card),
    "XLATTICE ROSTER": (storage.load_roster, armour(ROSTER.roster), ROSTER.roster),
    "XLATTICE CLUSTER CARD": (storage.load_cluster_card, armour(CARDS.card), CARDS.card),
}


def write_private(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    path.chmod(0o600)


@pytest.mark.spec("ID-23", "RO-12", "RO-26", "RO-32", "ID-20", "RO-9", "ID-40")
@pytest.mark.parametrize("label", TEXTS)
def test_armoured_file_is_refused_when_it_is_damaged_or_wrong(tmp_path: Path, label: str) -> None:
    load, text, message = TEXTS[label]
    path = tmp_path / "file"
    other = next(name for name in TEXTS if name != label)
    unsigned = attrs.evolve(message, signature=bytes(len(message.signature)))
    huge = text.replace(b"-----\n", b"-----\n" + b"A" * 6_000_000, 1)
    cases: list[tuple[bytes, FileProblem, str | None]] = [
        (b"", FileProblem.DAMAGED, None),
        (text[:-1], FileProblem.DAMAGED, label),
        (text.replace(b"\n", b"\r\n"), FileProblem.DAMAGED, label),
        (f"-----BEGIN {label}-----\n-----END {label}-----\n".encode(), FileProblem.DAMAGED, label),
        (huge, FileProblem.DAMAGED, None),
        (TEXTS[other][1], FileProblem.WRONG_KIND, other),
        (KEY_PEM, FileProblem.WRONG_KIND, "PRIVATE KEY"),
        (armour(unsigned), FileProblem.INVALID, None),
    ]
    for content, problem, found in cases:
        write_private(path, content)
        refused(problem, path, lambda: load(path), found)
    path.unlink()
    refused(FileProblem.MISSING, path, lambda: load(path))


def test_largest_roster_is_small_enough_to_be_read() -> None:
    assert armour_size(ROSTER_MAX) < 6_000_000


# ---- an authority ------------------------------------------------------------


@pytest.mark.usefixtures("any_umask")
def test_authority_is_loaded_as_it_was_saved_and_never_overwritten(tmp_path: Path) -> None:
    directory = tmp_path / "authority"
    storage.save_authority(directory, authority())
    before = snapshot(directory)
    assert (mode(directory), mode(directory / "authority.pem")) == (0o700, 0o600)
    assert storage.load_authority(directory).private_numbers() == authority().private_numbers()
    refused(FileProblem.EXISTS, directory / "authority.pem", lambda: storage.save_authority(directory, authority(1)))
    assert snapshot(directory) == before


@pytest.mark.spec("ID-30")
def test_authority_is_refused_when_others_have_access(tmp_path: Path) -> None:
    storage.save_authority(tmp_path, authority())
    (tmp_path / "authority.pem").chmod(0o640)
    refused(FileProblem.OPEN_TO_OTHERS, tmp_path / "authority.pem", lambda: storage.load_authority(tmp_path))


# ---- cards and rosters -------------------------------------------------------


@pytest.mark.spec("RO-3")
@pytest.mark.usefixtures("any_umask")
def test_cards_are_public_and_rosters_are_not(tmp_path: Path) -> None:
    storage.save_card(tmp_path / "n", NODE.card.card)
    storage.save_roster(tmp_path / "r", ROSTER.roster)
    storage.save_cluster_card(tmp_path / "c", CARDS.card)
    assert (mode(tmp_path / "n"), mode(tmp_path / "r"), mode(tmp_path / "c")) == (0o644, 0o600, 0o644)
    assert storage.load_card(tmp_path / "n") == NODE.card
    assert storage.load_roster(tmp_path / "r") == ROSTER
    assert storage.load_cluster_card(tmp_path / "c") == CARDS
    (tmp_path / "r").chmod(0o644)
    refused(FileProblem.OPEN_TO_OTHERS, tmp_path / "r", lambda: storage.load_roster(tmp_path / "r"))


def test_document_is_replaced_whole_and_with_the_mode_it_should_have(tmp_path: Path) -> None:
    path = tmp_path / "cluster.roster"
    path.write_bytes(b"x" * 100_000)
    path.chmod(0o644)
    storage.save_roster(path, ROSTER.roster)
    assert path.read_bytes() == armour(ROSTER.roster)
    assert mode(path) == 0o600
    assert names(tmp_path) == {"cluster.roster"}


def test_document_is_not_written_where_there_is_no_directory(tmp_path: Path) -> None:
    path = tmp_path / "none" / "node.card"
    refused(FileProblem.UNWRITABLE, path, lambda: storage.save_card(path, NODE.card.card))


# ---- loss of power -----------------------------------------------------------


class PowerCut(BaseException):
    """Nothing that the system is asked after this is done."""


STEPS = ("open", "fsync", "fchmod", "replace", "link", "unlink", "utime")


def cut_power(run: Callable[[], object], after: int) -> bool:
    """Runs until the system has done `after` steps; the next one, and all that follow, fail. False if that was all."""
    done = 0
    off = False

    def step(real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            nonlocal done, off
            off = off or done == after
            if off:
                raise PowerCut
            done += 1
            return real(*args, **kwargs)

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for name in STEPS:
            patch.setattr(os, name, step(getattr(os, name)))
        try:
            run()
        except PowerCut:
            return True
    return False


def every_cut(run: Callable[[Path], object], start: Path, tmp_path: Path) -> Iterator[Path]:
    """Copies of a directory in which `run` was cut off after each number of steps, the last time after all of them."""
    after = 0
    cut = True
    while cut:
        directory = tmp_path / f"cut-{after}"
        shutil.copytree(start, directory)
        cut = cut_power(partial(run, directory), after)
        yield directory
        after += 1
    assert after > 5


@pytest.mark.spec("RO-36")
def test_roster_is_the_old_or_the_new_one_whenever_power_is_lost(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    storage.save_held_roster(start, a_roster(epoch=1), 1)
    epochs = []
    for directory in every_cut(lambda path: storage.save_held_roster(path, a_roster(epoch=2), 2), start, tmp_path):
        held = storage.load_held_roster(directory)
        assert held is not None
        assert held.highest == held.roster.epoch
        epochs.append(held.roster.epoch)
    assert epochs == sorted(epochs)
    assert set(epochs) == {1, 2}


@pytest.mark.spec("RO-36", "RO-43")
def test_highest_epoch_is_kept_whenever_power_is_lost(tmp_path: Path) -> None:
    start = tmp_path / "start"
    start.mkdir()
    storage.save_held_roster(start, a_roster(epoch=5), 5)
    epochs = []
    for directory in every_cut(lambda path: storage.save_held_roster(path, a_roster(epoch=3), 5), start, tmp_path):
        held = storage.load_held_roster(directory)
        assert held is not None
        assert held.highest == 5
        epochs.append(held.roster.epoch)
    assert set(epochs) == {5, 3}


def test_replacement_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.save_roster(tmp_path / "cluster.roster", ROSTER.roster)
    before = snapshot(tmp_path)
    monkeypatch.setattr(os, "replace", full_disk)
    refused(
        FileProblem.UNWRITABLE,
        tmp_path / "cluster.roster",
        lambda: storage.save_held_roster(tmp_path, a_roster(epoch=2), 2),
    )
    assert snapshot(tmp_path) == before


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is flushed and renamed, in order."""
    seen: list[str] = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(fd: int) -> None:
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode):
            seen.append("flush directory")
        else:
            seen.append("flush file" if status.st_size else "flush nothing")
        real_fsync(fd)

    def replace(source: Path, target: Path) -> None:
        seen.append("rename")
        real_replace(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return seen


def test_new_content_is_flushed_before_it_is_named_and_the_directory_after(tmp_path: Path, events: list[str]) -> None:
    storage.save_roster(tmp_path / "cluster.roster", ROSTER.roster)
    assert events == ["flush file", "rename", "flush directory"]
    events.clear()
    storage.save_authority(tmp_path / "new", authority())
    assert events == ["flush directory", "flush file", "flush directory"]


def test_each_step_of_a_promotion_is_durable_before_the_next(prepared: Path, events: list[str]) -> None:
    events.clear()
    storage.promote_next(prepared, now=NOW)
    assert events == ["rename", "flush directory"] * 3
    events.clear()
    storage.destroy_previous(prepared)
    assert events == ["flush directory"]


# ---- what is held ------------------------------------------------------------


@pytest.mark.spec("RO-39")
def test_nothing_is_held_at_first(tmp_path: Path) -> None:
    assert storage.load_held_roster(tmp_path) is None
    assert storage.load_held_cluster_card(tmp_path / "cluster.card") is None


@pytest.mark.spec("RO-28", "RO-36", "RO-39", "RO-43")
@pytest.mark.parametrize(
    ("saved", "highest"),
    [
        ([(4, 4)], 4),
        ([(4, 4), (6, 6)], 6),
        ([(6, 6), (4, 6)], 6),
        ([(6, 6), (4, 6), (5, 6)], 6),
        ([(6, 6), (4, 6), (7, 7)], 7),
        ([(6, 6), (4, 6), (7, 7), (5, 7)], 7),
        ([(4, 2**64 - 1)], 2**64 - 1),
        ([(4, 3)], 4),
    ],
)
def test_roster_and_highest_epoch_are_held_over_restarts(
    tmp_path: Path, saved: list[tuple[int, int]], highest: int
) -> None:
    rosters: dict[int, VerifiedRoster] = {epoch: a_roster(epoch=epoch) for epoch, _ in saved}
    for epoch, top in saved:
        storage.save_held_roster(tmp_path, rosters[epoch], top)
    last = saved[-1][0]
    assert storage.load_held_roster(tmp_path) == storage.HeldRoster(rosters[last], highest)
    assert all(mode(path) == 0o600 for path in tmp_path.iterdir())

    path = tmp_path / "client.card"
    cards = {epoch: cluster_card(epoch) for epoch, _ in saved}
    for epoch, top in saved:
        storage.save_held_cluster_card(path, cards[epoch], top)
    assert storage.load_held_cluster_card(path) == storage.HeldClusterCard(cards[last], highest)


@pytest.mark.parametrize("text", [b"", b"5", b"05\n", b"0\n", b"5\n\n", b" 5\n", b"5 \n", b"-5\n", b"x\n",
                                  b"%d\n" % 2**64, b"1" * 65])  # fmt: skip
def test_highest_epoch_is_refused_when_it_is_damaged(tmp_path: Path, text: bytes) -> None:
    storage.save_held_roster(tmp_path, a_roster(epoch=4), 5)
    path = tmp_path / "cluster.roster.highest"
    assert path.read_bytes() == b"5\n"
    path.write_bytes(text)
    refused(FileProblem.DAMAGED, path, lambda: storage.load_held_roster(tmp_path))


def test_highest_epoch_is_refused_when_others_could_have_changed_it(tmp_path: Path) -> None:
    storage.save_held_roster(tmp_path, a_roster(epoch=4), 5)
    path = tmp_path / "cluster.roster.highest"
    path.chmod(0o622)
    refused(FileProblem.OPEN_TO_OTHERS, path, lambda: storage.load_held_roster(tmp_path))


# ---- the next ck and the previous one ----------------------------------------


def with_ck_of(node: LocalIdentity, serial: int, name: str = "node-0") -> LocalIdentity:
    """NODE with the ck of another."""
    card = make_card(name=name, sk_priv=NODE.sk_priv, ck=node.card.ck, serial=serial)
    return local_identity(verify_card(card), NODE.sk_priv, node.ck_priv)


FOLLOWING = with_ck_of(identity(1), 2)
THIRD = with_ck_of(identity(2), 3)
NOW = 1_700_000_000.5


@pytest.fixture
def prepared(node_dir: Path) -> Path:
    storage.save_next(node_dir, FOLLOWING)
    return node_dir


def ck_of(private: Any) -> bytes:
    return encode_spki(private.public_key())


def test_next_ck_is_loaded_as_it_was_saved(prepared: Path) -> None:
    assert storage.load_next(prepared) == FOLLOWING
    assert storage.load_identity(prepared) == NODE
    assert storage.load_previous(prepared) is None
    assert mode(prepared / "ck-next.pem") == 0o600
    assert mode(prepared / "node-next.card") == 0o644


def test_no_next_ck_is_loaded_when_none_is_prepared(node_dir: Path) -> None:
    assert storage.load_next(node_dir) is None
    refused(FileProblem.MISSING, node_dir / "ck-next.pem", lambda: storage.promote_next(node_dir, now=NOW))
    storage.destroy_next(node_dir)
    assert names(node_dir) == {"sk.pem", "ck.pem", "node.card"}


def test_next_ck_is_not_overwritten(prepared: Path) -> None:
    before = snapshot(prepared)
    refused(FileProblem.EXISTS, prepared / "ck-next.pem", lambda: storage.save_next(prepared, THIRD))
    assert snapshot(prepared) == before


@pytest.mark.parametrize(
    "following", [identity(1), NODE, with_ck_of(NODE, 2, "renamed")], ids=["another sk", "itself", "the same ck"]
)
def test_next_ck_is_refused_when_it_is_none(node_dir: Path, following: LocalIdentity) -> None:
    with pytest.raises(IdentityError):
        storage.save_next(node_dir, following)
    assert names(node_dir) == {"sk.pem", "ck.pem", "node.card"}


@pytest.mark.usefixtures("few_rounds")
def test_next_ck_is_encrypted_as_the_others_are(tmp_path: Path) -> None:
    storage.save_identity(tmp_path, NODE, PASSPHRASE)
    storage.save_next(tmp_path, FOLLOWING, PASSPHRASE)
    assert storage.load_next(tmp_path, PASSPHRASE) == FOLLOWING
    refused(
        FileProblem.PASSPHRASE_NEEDED,
        tmp_path / "sk.pem",
        lambda: storage.load_next(tmp_path),
        "ENCRYPTED PRIVATE KEY",
    )
    storage.promote_next(tmp_path, now=NOW)
    assert storage.load_identity(tmp_path, PASSPHRASE) == FOLLOWING
    previous = storage.load_previous(tmp_path, PASSPHRASE)
    assert previous is not None
    assert ck_of(previous.ck_priv) == NODE.card.card.ck


def test_next_ck_is_refused_when_its_files_do_not_belong_together(prepared: Path) -> None:
    write_private(prepared / "ck-next.pem", private_key_pem(identity(3).ck_priv, None))
    refused(FileProblem.MISMATCH, prepared / "node-next.card", lambda: storage.load_next(prepared))


@pytest.mark.spec("RO-49", "RO-52")
def test_promoted_ck_is_the_nodes_and_its_ck_the_previous_one(prepared: Path) -> None:
    storage.promote_next(prepared, now=NOW)
    assert names(prepared) == {"sk.pem", "ck.pem", "node.card", "ck-previous.pem"}
    assert storage.load_identity(prepared) == FOLLOWING
    assert storage.load_next(prepared) is None
    previous = storage.load_previous(prepared)
    assert previous is not None
    assert ck_of(previous.ck_priv) == NODE.card.card.ck
    assert previous.since == pytest.approx(NOW, abs=1e-3)
    assert mode(prepared / "ck-previous.pem") == 0o600
    assert "ck_priv" not in repr(previous)


@pytest.mark.spec("RO-51")
def test_only_one_previous_ck_is_kept(prepared: Path) -> None:
    storage.promote_next(prepared, now=NOW)
    storage.save_next(prepared, THIRD)
    storage.promote_next(prepared, now=NOW + 5)
    assert storage.load_identity(prepared) == THIRD
    previous = storage.load_previous(prepared)
    assert previous is not None
    assert ck_of(previous.ck_priv) == FOLLOWING.card.card.ck
    assert previous.since == pytest.approx(NOW + 5, abs=1e-3)
    assert names(prepared) == {"sk.pem", "ck.pem", "node.card", "ck-previous.pem"}


@pytest.mark.spec("RO-50")
def test_previous_ck_is_gone_once_destroyed(prepared: Path) -> None:
    storage.promote_next(prepared, now=NOW)
    for _ in range(2):
        storage.destroy_previous(prepared)
        assert storage.load_previous(prepared) is None
        assert names(prepared) == {"sk.pem", "ck.pem", "node.card"}
    assert storage.load_identity(prepared) == FOLLOWING


def test_next_ck_is_gone_once_destroyed(prepared: Path) -> None:
    storage.destroy_next(prepared)
    assert names(prepared) == {"sk.pem", "ck.pem", "node.card"}
    storage.save_next(prepared, THIRD)
    assert storage.load_next(prepared) == THIRD


def test_promotion_can_be_cut_off_anywhere(prepared: Path, tmp_path: Path) -> None:
    own = []
    for directory in every_cut(lambda path: storage.promote_next(path, now=NOW), prepared, tmp_path):
        loaded = storage.load_identity(directory)
        own.append(loaded.card.card.serial)
        if loaded == FOLLOWING:
            previous = storage.load_previous(directory)
            assert previous is not None
            assert ck_of(previous.ck_priv) == NODE.card.card.ck
            assert storage.load_next(directory) is None
        else:
            assert loaded == NODE
            assert storage.load_next(directory) == FOLLOWING
        if (directory / "ck-next.pem").exists():  # not finished: so the node, started again, promotes again
            storage.promote_next(directory, now=NOW)
        assert names(directory) == {"sk.pem", "ck.pem", "node.card", "ck-previous.pem"}
        assert storage.load_identity(directory) == FOLLOWING
        previous = storage.load_previous(directory)
        assert previous is not None
        assert ck_of(previous.ck_priv) == NODE.card.card.ck
    assert own == sorted(own)
    assert set(own) == {1, 2}


def test_preparation_can_be_cut_off_anywhere(node_dir: Path, tmp_path: Path) -> None:
    found = []
    for directory in every_cut(lambda path: storage.save_next(path, FOLLOWING), node_dir, tmp_path):
        assert storage.load_identity(directory) == NODE
        following = storage.load_next(directory)
        found.append(following is not None)
        if following is None:
            refused(FileProblem.MISSING, directory / "ck-next.pem", partial(storage.promote_next, directory, now=NOW))
            storage.save_next(directory, THIRD)
            assert storage.load_next(directory) == THIRD
        else:
            assert following == FOLLOWING
    assert set(found) == {False, True}


def test_destruction_of_the_next_ck_can_be_cut_off_anywhere(prepared: Path, tmp_path: Path) -> None:
    for directory in every_cut(storage.destroy_next, prepared, tmp_path):
        assert storage.load_identity(directory) == NODE
        assert storage.load_next(directory) in (FOLLOWING, None)
        storage.destroy_next(directory)
        assert names(directory) == {"sk.pem", "ck.pem", "node.card"}


@pytest.fixture
def unfinished(prepared: Path) -> Path:
    """Promoted but for the last rename."""
    after = 0
    copy = prepared.with_name("copy")
    while True:
        shutil.copytree(prepared, copy)
        assert cut_power(lambda: storage.promote_next(copy, now=NOW), after)
        if not (copy / "node-next.card").exists():
            return copy
        shutil.rmtree(copy)
        after += 1


def test_next_ck_can_be_prepared_when_a_promotion_was_cut_off(unfinished: Path) -> None:
    assert storage.load_identity(unfinished) == FOLLOWING
    storage.save_next(unfinished, THIRD)
    assert storage.load_identity(unfinished) == FOLLOWING
    assert storage.load_next(unfinished) == THIRD


def test_nodes_ck_is_not_destroyed_when_a_promotion_was_cut_off(unfinished: Path) -> None:
    storage.destroy_next(unfinished)
    storage.destroy_previous(unfinished)
    assert storage.load_identity(unfinished) == FOLLOWING


@pytest.mark.parametrize("before", range(1, 6))
@pytest.mark.parametrize("card_is_moved", [False, True])
def test_identity_is_loaded_while_another_process_promotes(
    prepared: Path, monkeypatch: pytest.MonkeyPatch, card_is_moved: bool, before: int
) -> None:
    """The other process does all that is left to do between two reads of this one."""
    if card_is_moved:
        with monkeypatch.context() as patch:
            patch.setattr(storage, "_finish_promotion", lambda _: None)
            storage.promote_next(prepared, now=NOW)
    real = files.read_file
    reads = 0

    def read(path: Path, limit: int, *, private: bool) -> bytes:
        nonlocal reads
        if reads == before:
            storage.promote_next(prepared, now=NOW)
        reads += 1
        return real(path, limit, private=private)

    monkeypatch.setattr(storage, "read_file", read)
    assert storage.load_identity(prepared) == (FOLLOWING if card_is_moved else NODE)


def test_file_of_another_kind_is_not_taken_for_a_secret_that_others_can_read(tmp_path: Path) -> None:
    storage.save_card(tmp_path / "card", NODE.card.card)
    path = tmp_path / "card"
    refused(FileProblem.WRONG_KIND, path, lambda: storage.load_roster(path), "XLATTICE NODE CARD")
    (tmp_path / "text").write_text("anything")
    with pytest.raises(FileRefused) as caught:
        storage.load_roster(tmp_path / "text")
    assert caught.value.problem is not FileProblem.OPEN_TO_OTHERS
