"""An authority's directory, as the commands of `xlattice cluster` change it.

Every change is one transaction, under a lock: two at once would sign two rosters of one epoch. The roster is written
before the cluster card; if something stops in between, the next command that needs the card makes it again.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import click

from xlattice_trio.cli.common import command, say, shown, who, with_passphrase
from xlattice_trio.crypto import RSAPrivateKey, encode_spki
from xlattice_trio.errors import IdentityError, StorageError, UsageError
from xlattice_trio.identity.card import VerifiedCard
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.host import parse_host
from xlattice_trio.identity.node_id import NodeID
from xlattice_trio.identity.storage import (
    AUTHORITY_FILE,
    CLUSTER_CARD_FILE,
    ROSTER_FILE,
    load_authority,
    load_cluster_card,
    load_roster,
    save_cluster_card,
    save_roster,
)
from xlattice_trio.roster import (
    VerifiedClusterCard,
    VerifiedMember,
    VerifiedRoster,
    make_cluster_card,
    make_roster,
    verify_cluster_card,
    verify_roster,
)
from xlattice_trio.wire.messages import Member


@attrs.frozen
class Authority:
    """An authority at work: its directory is locked."""

    directory: Path
    key: RSAPrivateKey = attrs.field(repr=False)
    roster: VerifiedRoster

    def change(
        self, members: Mapping[NodeID, VerifiedMember], clients: Mapping[NodeID, VerifiedCard], what: Iterable[str]
    ) -> None:
        """Signs the next epoch, says what was done, and what the operator does next."""
        roster = self.sign_next(members, clients)
        for line in what:
            click.echo(line)
        say_next(self.directory, self.roster, roster)

    def sign_next(
        self, members: Mapping[NodeID, VerifiedMember], clients: Mapping[NodeID, VerifiedCard]
    ) -> VerifiedRoster:
        """The roster of the next epoch, and its cluster card, signed and written. [RO-44]"""
        held = self.roster.roster
        roster = verify_roster(
            make_roster(
                self.key,
                name=held.name,
                epoch=held.epoch + 1,
                cluster_port=held.cluster_port,
                client_port=held.client_port,
                knock=held.knock,
                client_access=held.client_access,
                members=[as_message(member) for member in members.values()],
                clients=[card.card for card in clients.values()],
            )
        )
        save_roster(self.directory / ROSTER_FILE, roster.roster)
        self.write_card(roster)
        return roster

    def write_card(self, roster: VerifiedRoster) -> VerifiedClusterCard:
        """The cluster card of a roster that is written already."""
        card = verify_cluster_card(make_cluster_card(self.key, roster))
        save_cluster_card(self.directory / CLUSTER_CARD_FILE, card.card)
        return card


@contextlib.contextmanager
def open_authority(directory: Path, passphrase_file: Path | None) -> Iterator[Authority]:
    """The authority in `directory`. Raises FileRefused, StorageError if another command is at work there."""
    with contextlib.ExitStack() as stack:
        _lock(directory, stack)
        key = with_passphrase(lambda passphrase: load_authority(directory, passphrase), passphrase_file)
        roster = load_roster(directory / ROSTER_FILE)
        if encode_spki(key.public_key()) != roster.roster.authority:
            raise FileRefused(
                directory / ROSTER_FILE,
                FileProblem.MISMATCH,
                f"it is signed by another authority than the {AUTHORITY_FILE} beside it: put back what fits",
            )
        yield Authority(directory, key, roster)


def _lock(directory: Path, stack: contextlib.ExitStack) -> None:
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, descriptor)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        raise StorageError(directory, "another command is changing this cluster: try again when it has ended") from exc
    except OSError as exc:
        raise StorageError(directory, f"the directory of an authority is expected: {exc.strerror}") from exc


def load_own_cluster_card(directory: Path, passphrase_file: Path | None) -> VerifiedClusterCard:
    """The cluster card of the roster in `directory`; made again if the last change was stopped before that."""
    roster = load_roster(directory / ROSTER_FILE)
    try:
        card = load_cluster_card(directory / CLUSTER_CARD_FILE)
        if (card.cluster_id, card.epoch) == (roster.cluster_id, roster.epoch):
            return card
    except FileRefused as exc:
        if exc.problem is not FileProblem.MISSING:
            raise
    with open_authority(directory, passphrase_file) as authority:
        return authority.write_card(authority.roster)


# ---- members, clients --------------------------------------------------------


def member_at(card: VerifiedCard, host: str) -> VerifiedMember:
    """Raises UsageError if `host` is none."""
    try:
        parse_host(host)
    except IdentityError as exc:
        raise UsageError(str(exc)) from exc
    return VerifiedMember(card, host)


def as_message(member: VerifiedMember) -> Member:
    return Member(member.card.card, member.host)


def replaced(old: VerifiedCard, new: VerifiedCard) -> str:
    """What to say of a card that replaces another of the same node. Raises IdentityError if it must not. [ID-25]"""
    if new.card.serial <= old.card.serial:
        raise IdentityError(
            f"{who(old)} is listed with the card of serial {old.card.serial}; this one is of serial "
            f"{new.card.serial}, and only a higher one replaces it: `xlattice node card --new-ck` makes one"
        )
    renamed = "" if old.name == new.name else f", and is called {shown(new.name)} now"
    return f"{who(old)} has the card of serial {new.card.serial}, not {old.card.serial}{renamed}"


# ---- what comes next ---------------------------------------------------------


def say_next(directory: Path, before: VerifiedRoster | None, roster: VerifiedRoster) -> None:
    """What the operator does with what was written. [RO-61]"""
    say(f"wrote epoch {roster.epoch}: {directory / ROSTER_FILE} (secret, for members), {directory / CLUSTER_CARD_FILE}")
    if before is None:
        say("next: bring the roster to every member, on a way that keeps it secret, and give it to the node there:")
    else:
        say("next: bring the roster, on a way that keeps it secret, to every member whose card or host is another now,")
        say("and to one that is running: the rest get it from that one. Give it to the node there:")
    say(f"  {command('node', 'load', 'NODE-DIRECTORY', ROSTER_FILE)}")
    say("then start the node (xlattice node run) or, if it is running, send it SIGHUP. The members are:")
    for member in roster.members.values():
        new = " (new)" if before is not None and member.node_id not in before.members else ""
        say(f"  {shown(member.name)} at {member.host}{new}")
    say(f"clients get {directory / CLUSTER_CARD_FILE}, which is public")
