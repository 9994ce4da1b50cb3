"""The cluster cards that a client has used, over restarts: which it takes, and which never again. Spec 3.5."""

from pathlib import Path
from typing import Any

import attrs
import pytest

from xlattice_trio.cli.held import load_card_to_use
from xlattice_trio.crypto import Label, encode_spki, pss_sign
from xlattice_trio.errors import IdentityError, RosterConflict
from xlattice_trio.identity.storage import HIGHEST_SUFFIX, load_held_cluster_card, save_cluster_card
from xlattice_trio.roster import make_cluster_card
from xlattice_trio.testing.identities import test_authority, test_roster
from xlattice_trio.wire.codec import encode_before
from xlattice_trio.wire.messages import ClusterCard


def cluster_card(epoch: int, **changes: Any) -> ClusterCard:
    return make_cluster_card(test_authority(), test_roster(epoch=epoch, **changes))


class Client:
    """A program that is started anew for each card that it is given."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def take(self, card: ClusterCard | int, *, override: bool = False) -> int:
        """The epoch that it goes by when it was given this card, or one of this epoch."""
        given = self.directory / "given.card"
        save_cluster_card(given, cluster_card(card) if isinstance(card, int) else card)
        return load_card_to_use(given, self.directory / "state", override=override).epoch

    def refuses(self, card: ClusterCard | int, *, override: bool = False) -> bool:
        before = self.held
        with pytest.raises(IdentityError):
            self.take(card, override=override)
        return self.held == before

    @property
    def held(self) -> tuple[int, int]:
        """The epoch of the card that it holds, and the highest epoch that it has verified."""
        (path,) = (p for p in (self.directory / "state").iterdir() if p.suffix != HIGHEST_SUFFIX)
        held = load_held_cluster_card(path)
        assert held is not None
        return held.card.epoch, held.highest


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


@pytest.mark.spec("RO-28", "RO-29")
def test_an_older_card_is_refused_and_a_newer_one_taken(client: Client) -> None:
    assert [client.take(epoch) for epoch in (3, 3, 5)] == [3, 3, 5]
    for epoch in (1, 3, 4):
        assert client.refuses(epoch)
    assert client.take(5) == 5
    assert client.take(6) == 6
    assert client.held == (6, 6)


@pytest.mark.spec("RO-29", "RO-63")
def test_an_override_takes_an_older_card_and_leaves_the_highest_epoch(client: Client) -> None:
    client.take(5)
    assert client.take(3, override=True) == 3
    assert client.held == (3, 5)
    assert client.take(2, override=True) == 2
    assert client.held == (2, 5)


@pytest.mark.spec("RO-64")
def test_after_an_override_every_other_card_needs_another_or_a_higher_epoch(client: Client) -> None:
    client.take(5)
    client.take(3, override=True)
    for epoch in (1, 2, 4, 5):
        assert client.refuses(epoch)
    assert client.take(3) == 3  # the one that it holds
    assert client.take(5, override=True) == 5
    client.take(3, override=True)
    assert client.take(6) == 6
    assert client.held == (6, 6)
    assert client.refuses(3)


@pytest.mark.spec("RO-28")
def test_an_override_for_a_newer_card_changes_nothing(client: Client) -> None:
    client.take(3)
    assert client.take(5, override=True) == 5
    assert client.held == (5, 5)
    assert client.refuses(4)


@pytest.mark.spec("RO-30", "RO-65")
@pytest.mark.parametrize("override", [False, True])
def test_another_card_of_the_epoch_that_is_held_is_refused_over_restarts(client: Client, override: bool) -> None:
    client.take(3)
    other = cluster_card(3, ports=(7711, 99))
    with pytest.raises(RosterConflict):
        client.take(other, override=override)
    client.take(5)
    client.take(3, override=True)
    with pytest.raises(RosterConflict):
        client.take(other, override=override)
    assert client.held == (3, 5)


@pytest.mark.spec("RO-30")
def test_a_card_that_differs_in_its_signature_only_is_the_same(client: Client) -> None:
    client.take(3)
    assert client.take(cluster_card(3)) == 3  # PSS is randomised


@pytest.mark.spec("RO-27")
def test_a_card_of_another_cluster_replaces_none(client: Client) -> None:
    client.take(5)
    (before,) = (client.directory / "state").iterdir()
    card = attrs.evolve(cluster_card(1), authority=encode_spki(test_authority(1).public_key()))
    content = encode_before(card, "signature")
    card = attrs.evolve(card, signature=pss_sign(test_authority(1), Label.CLUSTER_CARD, content))
    assert client.take(card) == 1
    held = load_held_cluster_card(before)
    assert held is not None
    assert held.highest == 5
    assert [client.take(epoch) for epoch in (5, 6)] == [5, 6]
