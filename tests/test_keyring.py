"""Which encryption keys a node accepts while rosters come and go. Spec 3.10."""

import math
import time
from pathlib import Path

import pytest

from tests.nodes import make_directory, with_card
from xlattice_trio.identity.card import make_card, verify_card
from xlattice_trio.identity.keyring import KeyRing
from xlattice_trio.identity.keys import local_identity
from xlattice_trio.identity.storage import PREVIOUS_CK_FILE, load_previous, renew_previous, save_next
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.identities import test_identity, test_roster

OWN, SPARE = test_identity(0), test_identity(5)
CARD = make_card(name=OWN.name, sk_priv=OWN.sk_priv, ck=SPARE.ck_priv.public_key(), serial=2)
OLD = test_roster(1)
NEW = with_card(OLD, CARD, epoch=2)


@pytest.fixture
def ring(tmp_path: Path) -> KeyRing:
    """A node that has changed over from the ck of OLD to that of NEW."""
    directory = make_directory(tmp_path / "node", OWN, OLD)
    save_next(directory, local_identity(verify_card(CARD), OWN.sk_priv, SPARE.ck_priv))
    ring = KeyRing(directory, grace=100)
    ring.follow(OLD)
    assert _accepted(ring) == ["new", "old"]
    ring.follow(NEW)
    assert _accepted(ring) == ["new", "old"]
    return ring


def _accepted(ring: KeyRing) -> list[str]:
    names = {
        OWN.ck_priv.private_numbers(): "old",
        SPARE.ck_priv.private_numbers(): "new",
    }
    return [names[key.private_numbers()] for key in ring.accepted()]


def in_grace(ring: KeyRing) -> float:
    """Seconds that the previous ck has left, rounded."""
    return round(ring.previous_ends_at - time.time(), -1)


@pytest.mark.spec("RO-49")
def test_the_grace_time_counts_from_the_change(ring: KeyRing, tmp_path: Path) -> None:
    assert in_grace(ring) == 100
    renew_previous(tmp_path / "node", now=time.time() - 200)
    ring.load()
    ring.follow(NEW)
    assert _accepted(ring) == ["new"]


@pytest.mark.spec("RO-50")
def test_a_previous_ck_that_is_in_force_again_is_accepted_without_end(ring: KeyRing, tmp_path: Path) -> None:
    renew_previous(tmp_path / "node", now=time.time() - 200)
    ring.load()
    ring.follow(OLD)
    assert ring.previous_ends_at == math.inf
    assert _accepted(ring) == ["new", "old"]


@pytest.mark.spec("RO-49")
def test_the_grace_time_begins_anew_when_it_is_replaced_again(ring: KeyRing, tmp_path: Path) -> None:
    renew_previous(tmp_path / "node", now=time.time() - 200)
    ring.load()
    ring.follow(OLD)
    ring.follow(NEW)
    assert in_grace(ring) == 100
    previous = load_previous(tmp_path / "node")
    assert previous is not None
    assert time.time() - previous.since < 50  # kept over a restart


@pytest.mark.spec("RO-54")
@pytest.mark.parametrize("roster", [NEW, OLD])
def test_a_ck_that_is_here_is_not_reported(
    ring: KeyRing, roster: VerifiedRoster, caplog: pytest.LogCaptureFixture
) -> None:
    ring.follow(roster)
    assert not caplog.records


def test_a_roster_without_this_node_changes_nothing(ring: KeyRing) -> None:
    ring.follow(test_roster(1, hosts=["192.0.2.1"], clients=0, id_size=20))
    assert _accepted(ring) == ["new", "old"]


def test_a_destroyed_key_is_gone(ring: KeyRing, tmp_path: Path) -> None:
    ring.destroy_previous()
    assert _accepted(ring) == ["new"]
    assert not (tmp_path / "node" / PREVIOUS_CK_FILE).exists()
    assert ring.previous_ends_at == math.inf
