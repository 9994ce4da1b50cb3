"""A process that runs batches, one after the other. Run as a file, not as a module: `Worker` in `campaign` does.

It begins with the standard library alone: to plant a fault, the source of one module is changed before anything of the
package is imported. Jobs come in as JSON, a line each; lines go out for what has happened so far, and one for the end.
"""

import json
import logging
import os
import resource
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import CodeType, ModuleType
from typing import Any

_PACKAGE = "xlattice_trio"
_MEMORY = 4 << 30  # bytes: what the target is given with the machine


class _FaultyLoader(SourceFileLoader):
    """Loads a module from its changed source; no cached bytecode is read or written."""

    def __init__(self, fullname: str, path: str, old: str, new: str) -> None:
        super().__init__(fullname, path)
        self._old, self._new = old, new

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        source = self.get_data(self.path).decode("utf-8")
        if source.count(self._old) != 1:
            raise ImportError(f"{self.path}: what is to be changed is in it {source.count(self._old)} times, not once")
        return compile(source.replace(self._old, self._new), self.path, "exec", dont_inherit=True)


class _FaultyFinder(MetaPathFinder):
    """Finds the one module that is changed."""

    def __init__(self, module: str, old: str, new: str) -> None:
        self._module, self._old, self._new = module, old, new

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._module:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _FaultyLoader(fullname, spec.origin, self._old, self._new)
        return spec


def plant(file: str, old: str, new: str) -> None:
    """Have `file` of the package, when it is imported, with `new` in the place of `old`."""
    module = f"{_PACKAGE}.{file.removesuffix('.py').replace('/', '.')}"
    if any(name == _PACKAGE or name.startswith(f"{_PACKAGE}.") for name in sys.modules):
        raise RuntimeError("the package has been imported already")
    sys.meta_path.insert(0, _FaultyFinder(module, old, new))


def main() -> None:
    """Plant the fault that the argument is, if there is one; then do jobs until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)  # whatever prints, prints no answer
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    if len(sys.argv) > 1:
        plant(**json.loads(sys.argv[1]))
    from xlattice_trio.fuzz import batch

    logging.getLogger().addHandler(logging.NullHandler())  # what the target logs is no output of ours

    def answer(kind: str, value: dict[str, Any]) -> None:
        answers.write(json.dumps({kind: value}) + "\n")

    answer("ready", {})
    for line in sys.stdin:
        batch.do_job(json.loads(line), answer)


if __name__ == "__main__":
    main()
