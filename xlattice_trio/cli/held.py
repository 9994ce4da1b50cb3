"""The cluster cards that a client has used: it goes by the newest, and an old one does not come back unnoticed.

Kept in a directory of the user's, one file for each cluster, over restarts. Spec 3.5.
"""

import os
from pathlib import Path

from xlattice_trio.errors import IdentityError
from xlattice_trio.identity.files import FileProblem, FileRefused
from xlattice_trio.identity.storage import load_cluster_card, load_held_cluster_card, save_held_cluster_card
from xlattice_trio.roster import VerifiedClusterCard, cluster_card_replaces


def default_state() -> Path:
    """Where a user's programs keep what they have seen."""
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state") / "xlattice"


def load_card_to_use(path: Path, state: Path, *, override: bool) -> VerifiedClusterCard:
    """The cluster card in a file, unless a newer one of its cluster was used before. [SV-27] [RO-28]

    With `override` an older one is taken all the same; what was the highest epoch stays known. [RO-63] Raises
    FileRefused, IdentityError.
    """
    card = load_cluster_card(path)
    _make(state)
    store = state / f"{card.cluster_id.hex()}.card"
    held = load_held_cluster_card(store)
    if held is not None and not cluster_card_replaces(held.card, card, highest=held.highest, override=override):
        if card.epoch == held.card.epoch:
            return card  # the same one, else RosterConflict was raised [RO-30]
        raise IdentityError(  # [RO-29] [RO-64]
            f"{path}: it is of epoch {card.epoch}, and one of epoch {held.highest} was used before: ask for the newer "
            f"one, or take this one with --override"
        )
    save_held_cluster_card(store, card, max(card.epoch, held.highest if held else 0))  # [RO-65]
    return card


def _make(state: Path) -> None:
    try:
        state.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise FileRefused(
            state,
            FileProblem.UNWRITABLE,
            f"a client keeps here which cluster cards it has used, and it cannot be made ({exc.strerror}): choose "
            f"another directory with --state",
        ) from exc
