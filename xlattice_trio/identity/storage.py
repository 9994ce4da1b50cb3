"""Files: a node's directory, an authority's directory, and cards and rosters wherever they are. Spec 2.6, 2.7, 3.7.

    node directory        sk.pem  ck.pem  node.card          who the node is
                          ck-next.pem  node-next.card        a ck that it has prepared, and the card that has it
                          ck-previous.pem                    the ck before, for the grace time; its time is the change's
                          cluster.roster                     the roster in force
                          cluster.roster.highest             the highest epoch, if an override went below it
    authority directory   authority.pem  cluster.roster  cluster.card

This is the only module of its layer that touches files, and all that it does blocks: call it in a thread where that
matters (a passphrase costs a tenth of a second or more). What it promises:

- What is replaced is replaced whole: new file, flush, rename, flush the directory. Whatever the moment of a loss of
  power, the old content is there or the new.
- Of an identity nothing is ever overwritten. `promote_next` moves files only, in an order in which each state in
  between can be loaded and finished.
- Files with secrets (private keys; rosters, which hold the knock) are made with mode 0600, and refused if they are not
  ours or if others have any access. So is the directory of a node or an authority if every user can write in it and it
  is not sticky.
- Every refusal is a FileRefused, which says which file, what was found, what was expected and what to do.

Which of two files are there says how far a next ck has come:

    ck-next.pem   node-next.card
    missing       missing          none is prepared
    missing       there            one was being prepared or destroyed: counts as none
    there         there            one is prepared
    there         missing          it is promoted but for the last rename: ck-next.pem is the node's ck
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import attrs

from xlattice_trio.crypto import (
    PassphraseNeeded,
    RSAPrivateKey,
    encode_spki,
    load_private_key_pem,
    private_key_pem,
)
from xlattice_trio.errors import IdentityError, StorageError, UsageError
from xlattice_trio.identity.armour import (
    LABELS,
    Armoured,
    ArmourError,
    ArmourProblem,
    armour,
    armour_label,
    armour_size,
    unarmour,
)
from xlattice_trio.identity.card import VerifiedCard, verify_card
from xlattice_trio.identity.files import (
    PRIVATE,
    PUBLIC,
    FileProblem,
    FileRefused,
    already_there,
    check_directory,
    create_file,
    flush_directory,
    if_there,
    make_directory,
    read_file,
    reading,
    remove_file,
    replace_file,
    writing,
)
from xlattice_trio.identity.keys import LocalIdentity, local_identity
from xlattice_trio.limits import ROSTER_MAX
from xlattice_trio.roster import VerifiedClusterCard, VerifiedRoster, verify_cluster_card, verify_roster
from xlattice_trio.wire.messages import ClusterCard, NodeCard, Roster

T = TypeVar("T")

SK_FILE = "sk.pem"
CK_FILE = "ck.pem"
CARD_FILE = "node.card"
NEXT_CK_FILE = "ck-next.pem"
NEXT_CARD_FILE = "node-next.card"
PREVIOUS_CK_FILE = "ck-previous.pem"
AUTHORITY_FILE = "authority.pem"
ROSTER_FILE = "cluster.roster"
CLUSTER_CARD_FILE = "cluster.card"
HIGHEST_SUFFIX = ".highest"


_PEM_MAX = 65_536
_HIGHEST_MAX = 64
_PEM_LABELS = ("PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
_EPOCH_MAX = 2**64 - 1
_EPOCH = re.compile(rb"[1-9][0-9]{0,19}\n")


# ---- a node's identity -------------------------------------------------------


def save_identity(directory: Path, identity: LocalIdentity, passphrase: bytes | None = None) -> None:
    """Writes a new node's keys and card into `directory`, which is made (mode 0700) if it is not there.

    Raises FileRefused; with EXISTS if one of the three files is there: an identity is never overwritten.
    Raises UsageError if the passphrase is empty.
    """
    sk_pem, ck_pem = _pem(identity.sk_priv, passphrase), _pem(identity.ck_priv, passphrase)
    make_directory(directory)
    for name in (SK_FILE, CK_FILE, CARD_FILE):
        if os.path.lexists(directory / name):
            raise already_there(directory / name)
    create_file(directory / SK_FILE, sk_pem)
    create_file(directory / CK_FILE, ck_pem)
    save_card(directory / CARD_FILE, identity.card.card)  # last: without it there is no identity


def load_identity(directory: Path, passphrase: bytes | None = None) -> LocalIdentity:
    """The identity in `directory`, its key pairs checked against the card. Raises FileRefused."""
    check_directory(directory)
    card = load_card(directory / CARD_FILE)
    sk_priv = _load_key(directory / SK_FILE, passphrase)
    if encode_spki(sk_priv.public_key()) != card.card.sk:
        raise _mismatch(directory / SK_FILE, card)
    # While promote_next moves files, or after it was cut off, the card's key has another name for a moment.
    for name in (CK_FILE, NEXT_CK_FILE, PREVIOUS_CK_FILE):
        ck_priv = if_there(functools.partial(_load_key, directory / name, passphrase))
        if ck_priv is not None and encode_spki(ck_priv.public_key()) == card.card.ck:
            return local_identity(card, sk_priv, ck_priv)
    ck_priv = _load_key(directory / CK_FILE, passphrase)  # again: it may have been moved there meanwhile
    if encode_spki(ck_priv.public_key()) != card.card.ck:
        raise _mismatch(directory / CK_FILE, card)
    return local_identity(card, sk_priv, ck_priv)


def _mismatch(path: Path, card: VerifiedCard) -> FileRefused:
    return FileRefused(
        path,
        FileProblem.MISMATCH,
        f"this private key does not belong to the card of {card.name!r} beside it: put back the key and the card "
        f"that were made together",
    )


# ---- the next ck, and the previous one (Spec 3.10) ---------------------------


def save_next(directory: Path, following: LocalIdentity, passphrase: bytes | None = None) -> None:
    """Writes a prepared ck, and the card that has it, beside the node's identity.

    Raises FileRefused; with EXISTS if one is prepared already. Raises IdentityError if `following` has another sk
    than the node's card, or the same ck.
    """
    ck_pem = _pem(following.ck_priv, passphrase)
    current = load_card(directory / CARD_FILE)
    if following.card.card.sk != current.card.sk:
        raise IdentityError(
            f"{following.name!r} is {following.node_id}, the node in {directory} is {current.node_id}: "
            f"a next ck needs a card of the same sk"
        )
    if following.card.card.ck == current.card.ck:
        raise IdentityError(f"the ck in the next card of {following.name!r} is the one that it has: make another")
    match _next_files(directory):
        case (True, True):
            raise already_there(directory / NEXT_CK_FILE)
        case (True, False):
            _finish_promotion(directory)
    save_card(directory / NEXT_CARD_FILE, following.card.card)
    replace_file(directory / NEXT_CK_FILE, ck_pem, PRIVATE)


def load_next(directory: Path, passphrase: bytes | None = None) -> LocalIdentity | None:
    """The identity that the node will have with its prepared ck, or None if none is prepared. Raises FileRefused."""
    if _next_files(directory) != (True, True):
        return None
    card = load_card(directory / NEXT_CARD_FILE)
    sk_priv = _load_key(directory / SK_FILE, passphrase)
    ck_priv = _load_key(directory / NEXT_CK_FILE, passphrase)
    try:
        return local_identity(card, sk_priv, ck_priv)
    except IdentityError as exc:
        raise FileRefused(directory / NEXT_CARD_FILE, FileProblem.MISMATCH, str(exc)) from exc


def promote_next(directory: Path, *, now: float) -> None:
    """Makes the prepared ck and its card the node's own, and its ck the previous one. [RO-51]

    To be called when a roster that names the prepared ck is adopted. `now`, seconds since 1970, is the time of that
    and is kept with the previous ck. A ck that was the previous one is destroyed. Needs no passphrase. If it is cut
    off, the identity can be loaded, and calling it again finishes it. Raises FileRefused; with MISSING if nothing is
    prepared.
    """
    match _next_files(directory):
        case (True, False):
            _finish_promotion(directory)
            return
        case (False, _):
            raise FileRefused(directory / NEXT_CK_FILE, FileProblem.MISSING, "no next ck is prepared")
    previous = directory / PREVIOUS_CK_FILE
    link = directory / f".{PREVIOUS_CK_FILE}.link"
    with writing(previous):
        link.unlink(missing_ok=True)
        link.hardlink_to(directory / CK_FILE)
        os.utime(link, (now, now))  # [RO-52]
        link.replace(previous)
        link.unlink(missing_ok=True)  # rename does nothing if both are one file already
        flush_directory(directory)
    with writing(directory / CARD_FILE):
        (directory / NEXT_CARD_FILE).replace(directory / CARD_FILE)  # from here on the next ck is the node's
        flush_directory(directory)
    _finish_promotion(directory)


def _finish_promotion(directory: Path) -> None:
    with writing(directory / CK_FILE):
        (directory / NEXT_CK_FILE).replace(directory / CK_FILE)
        flush_directory(directory)


def destroy_next(directory: Path) -> None:
    """Removes a prepared ck and its card, if there are any. Raises FileRefused."""
    _, card = _next_files(directory)
    if card:  # without it, ck-next.pem is the node's own
        remove_file(directory / NEXT_CK_FILE)
        remove_file(directory / NEXT_CARD_FILE)


def _next_files(directory: Path) -> tuple[bool, bool]:
    """Whether ck-next.pem and node-next.card are there."""
    return os.path.lexists(directory / NEXT_CK_FILE), os.path.lexists(directory / NEXT_CARD_FILE)


@attrs.frozen
class PreviousCk:
    """The ck that a node had before, which it accepts for the grace time."""

    ck_priv: RSAPrivateKey = attrs.field(eq=False, repr=False)
    since: float  # seconds since 1970: when it was replaced


def load_previous(directory: Path, passphrase: bytes | None = None) -> PreviousCk | None:
    """The previous ck and when it was replaced, or None if there is none. Raises FileRefused.

    If `promote_next` was cut off before it changed anything, the previous ck is the node's own.
    """
    path = directory / PREVIOUS_CK_FILE

    def load() -> PreviousCk:
        ck_priv = _load_key(path, passphrase)
        with reading(path):
            return PreviousCk(ck_priv, path.stat().st_mtime)

    return if_there(load)


def renew_previous(directory: Path, *, now: float) -> None:
    """Counts the grace time of the previous ck from `now`, seconds since 1970: it was in force again until then.

    Raises FileRefused.
    """
    path = directory / PREVIOUS_CK_FILE
    with writing(path):
        os.utime(path, (now, now))
        flush_directory(directory)


def destroy_previous(directory: Path) -> None:
    """Removes the previous ck, if there is one. [RO-50] Raises FileRefused.

    The file is gone; that the medium forgets it nobody can promise, and overwriting it would promise no more.
    """
    remove_file(directory / PREVIOUS_CK_FILE)


# ---- an authority ------------------------------------------------------------


def save_authority(directory: Path, authority_key: RSAPrivateKey, passphrase: bytes | None = None) -> None:
    """Writes a new authority's key into `directory`, which is made (mode 0700) if it is not there.

    Raises FileRefused; with EXISTS if one is there. Raises UsageError if the passphrase is empty.
    """
    pem = _pem(authority_key, passphrase)
    make_directory(directory)
    create_file(directory / AUTHORITY_FILE, pem)


def load_authority(directory: Path, passphrase: bytes | None = None) -> RSAPrivateKey:
    """The authority's key in `directory`. Raises FileRefused."""
    check_directory(directory)
    return _load_key(directory / AUTHORITY_FILE, passphrase)


# ---- cards and rosters, wherever they are ------------------------------------


def save_card(path: Path, card: NodeCard) -> None:
    """Writes a node card, or replaces it. Raises FileRefused."""
    replace_file(path, armour(card), PUBLIC)


def load_card(path: Path) -> VerifiedCard:
    """The node card in a file, verified. Raises FileRefused."""
    with _verifying(path):
        return verify_card(_load(path, NodeCard, private=False))


def save_roster(path: Path, roster: Roster) -> None:
    """Writes a roster, or replaces it, with mode 0600. Raises FileRefused."""
    replace_file(path, armour(roster), PRIVATE)


def load_roster(path: Path) -> VerifiedRoster:
    """The roster in a file, verified. Raises FileRefused."""
    with _verifying(path):
        return verify_roster(_load(path, Roster, private=True))  # [RO-32]


def save_cluster_card(path: Path, card: ClusterCard) -> None:
    """Writes a cluster card, or replaces it. Raises FileRefused."""
    replace_file(path, armour(card), PUBLIC)


def load_cluster_card(path: Path) -> VerifiedClusterCard:
    """The cluster card in a file, verified. Raises FileRefused."""
    with _verifying(path):
        return verify_cluster_card(_load(path, ClusterCard, private=False))


# ---- what is held, with the highest epoch (Spec 3.5, 3.7, 3.8) ---------------


@attrs.frozen
class HeldRoster:
    """The roster in force as it was stored, and the highest epoch that was ever adopted."""

    roster: VerifiedRoster
    highest: int


def save_held_roster(directory: Path, roster: VerifiedRoster, highest: int) -> None:
    """Stores durably, in a node's directory, the roster to put in force and the highest epoch. [RO-36] [RO-43]

    Raises FileRefused: then it must not be adopted. [RO-37]
    """
    path = directory / ROSTER_FILE
    _save_highest(path, roster.epoch, highest)
    save_roster(path, roster.roster)


def load_held_roster(directory: Path) -> HeldRoster | None:
    """What `save_held_roster` stored last, or None if there is nothing. [RO-39] Raises FileRefused."""
    check_directory(directory)
    path = directory / ROSTER_FILE
    roster = if_there(lambda: load_roster(path))
    return None if roster is None else HeldRoster(roster, _load_highest(path, roster.epoch))


@attrs.frozen
class HeldClusterCard:
    """The cluster card that a client goes by, and the highest epoch that it has verified."""

    card: VerifiedClusterCard
    highest: int


def save_held_cluster_card(path: Path, card: VerifiedClusterCard, highest: int) -> None:
    """Stores durably the cluster card that a client goes by from now on, and the highest epoch. [RO-28]

    Raises FileRefused.
    """
    _save_highest(path, card.epoch, highest)
    save_cluster_card(path, card.card)


def load_held_cluster_card(path: Path) -> HeldClusterCard | None:
    """What `save_held_cluster_card` stored last, or None if there is nothing. Raises FileRefused."""
    card = if_there(lambda: load_cluster_card(path))
    return None if card is None else HeldClusterCard(card, _load_highest(path, card.epoch))


def _save_highest(path: Path, epoch: int, highest: int) -> None:
    """Before the document itself: whenever power is lost, the greater of the two epochs is the highest."""
    if highest > epoch:
        replace_file(_highest_path(path), b"%d\n" % highest, PRIVATE)


def _load_highest(path: Path, epoch: int) -> int:
    path = _highest_path(path)
    text = if_there(lambda: read_file(path, _HIGHEST_MAX, private=True))
    if text is None:
        return epoch
    if not _EPOCH.fullmatch(text) or int(text) > _EPOCH_MAX:
        raise FileRefused(
            path, FileProblem.DAMAGED, "it should hold one epoch, in decimal, and nothing else: write that into it"
        )
    return max(epoch, int(text))


def _highest_path(path: Path) -> Path:
    return path.with_name(path.name + HIGHEST_SUFFIX)


# ---- contents ----------------------------------------------------------------


def _pem(key: RSAPrivateKey, passphrase: bytes | None) -> bytes:
    if passphrase == b"":
        raise UsageError("an empty passphrase protects nothing: give one, or None for a key file that is not encrypted")
    return private_key_pem(key, passphrase)  # [ID-26] [ID-28]


def _load_key(path: Path, passphrase: bytes | None) -> RSAPrivateKey:
    pem = read_file(path, _PEM_MAX, private=True)
    label = armour_label(pem)
    if label is None:
        raise FileRefused(path, FileProblem.DAMAGED, "no private key: a PKCS#8 PEM file is expected")
    if label not in _PEM_LABELS:
        raise FileRefused(
            path,
            FileProblem.WRONG_KIND,
            f"its first line says {label}, a private key in PKCS#8 ({' or '.join(_PEM_LABELS)}) is expected",
            label,
        )
    try:
        return load_private_key_pem(pem, passphrase)
    except PassphraseNeeded as exc:
        problem = FileProblem.PASSPHRASE_WRONG if passphrase else FileProblem.PASSPHRASE_NEEDED
        raise FileRefused(path, problem, str(exc), label) from exc
    except IdentityError as exc:
        raise FileRefused(path, FileProblem.DAMAGED, f"{exc}: restore it from a copy", label) from exc


_ARMOUR_PROBLEMS = {
    ArmourProblem.NO_ARMOUR: FileProblem.DAMAGED,
    ArmourProblem.WRONG_LABEL: FileProblem.WRONG_KIND,
    ArmourProblem.NOT_STRICT: FileProblem.DAMAGED,
    ArmourProblem.CONTENT: FileProblem.DAMAGED,
}


def _load(path: Path, cls: type[Armoured], *, private: bool) -> Armoured:
    try:
        # The longest of all kinds, so that a file of another kind is called what it is. [ID-40]
        text = read_file(path, armour_size(ROSTER_MAX), private=private)
    except FileRefused as exc:
        if exc.problem is not FileProblem.OPEN_TO_OTHERS:
            raise
        text = read_file(path, armour_size(ROSTER_MAX), private=False)
        if armour_label(text) == LABELS[cls]:
            raise
    try:
        return unarmour(cls, text)
    except ArmourError as exc:
        raise FileRefused(path, _ARMOUR_PROBLEMS[exc.problem], str(exc), exc.found) from exc


@contextlib.contextmanager
def _verifying(path: Path) -> Iterator[None]:
    """Gives the error of a verification its file."""
    try:
        yield
    except StorageError:
        raise
    except IdentityError as exc:
        raise FileRefused(path, FileProblem.INVALID, str(exc)) from exc
