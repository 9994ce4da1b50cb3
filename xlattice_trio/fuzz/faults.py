"""Seeded faults as data: small changes to a correct node, each of which breaks a requirement.

They stand in `fuzz/faults.toml`, which explains its keys. A fault is planted in a fresh process (`worker.plant`),
before anything of the package is imported there: nothing on disk changes.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

import attrs

from xlattice_trio.errors import UsageError
from xlattice_trio.speccheck.requirements import read_items

PACKAGE = Path(__file__).parents[1]
FILE = Path("fuzz", "faults.toml")


@attrs.frozen
class Fault:
    """One of them. `old` stands once in `file`, which is named from the package on, and `new` takes its place."""

    id: str
    title: str
    requirement: str
    file: str
    old: str
    new: str

    def plant(self) -> Mapping[str, str]:
        """What a worker has to be told."""
        return {"file": self.file, "old": self.old, "new": self.new}


def read_faults(path: Path) -> list[Fault]:
    """All faults of a file. Raises UsageError if it is not as it should be, or `old` is not once where it has to be."""
    try:
        with path.open("rb") as file:
            faults = [Fault(**fault) for fault in tomllib.load(file)["fault"]]
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file; the faults are in the source tree") from None
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: {exc}") from exc
    for problem in problems(faults):
        raise UsageError(f"{path}: {problem}")
    return faults


def problems(faults: Iterable[Fault]) -> Iterable[str]:
    """What is wrong with them, a line each."""
    seen: set[str] = set()
    for fault in faults:
        if fault.id in seen:
            yield f"{fault.id}: there are two of this id"
        seen.add(fault.id)
        source = PACKAGE / fault.file
        if not source.is_file():
            yield f"{fault.id}: there is no {fault.file} in the package"
            continue
        count = source.read_text(encoding="utf-8").count(fault.old)
        if count != 1:
            yield f"{fault.id}: what is to be changed is in {fault.file} {count} times, not once"


def without_requirement(faults: Iterable[Fault], spec: Path) -> list[Fault]:
    """Those that name a requirement which the specification does not have."""
    items = read_items(spec)
    return [fault for fault in faults if fault.requirement not in items]
