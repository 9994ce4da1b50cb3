"""The directory of vectors: what is in which file, and how it is written.

Every file is JSON, written in one way, so that the same vectors are the same bytes. `manifest.json` has the digest of
each file and of each vector in it. `FORMAT.md` is written by people, and left alone.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from xlattice_trio.errors import UsageError
from xlattice_trio.vectors import fixtures
from xlattice_trio.vectors.model import LEVELS, ROLES, Area, FailLayer, Json, Op, Vector
from xlattice_trio.vectors.schema import DEFS, DIALECT, Schema, array, data, integer, map_of, name, obj, one_of

MANIFEST = "manifest.json"
SCHEMAS = "schema"
FORMAT = 1
PROTOCOL = 2

Made = Sequence[tuple[Area, Sequence[Vector]]]


def rendered(value: Json) -> bytes:
    """A file: keys in the order in which they were put in, ASCII, LF at the end."""
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# ---- what is in them ---------------------------------------------------------


def all_files(made: Made) -> dict[str, bytes]:
    """Every file by its name, the manifest too."""
    vectors = {area.file: rendered(area_file(area, found)) for area, found in made}
    others = {fixtures.FILE: rendered(fixtures.make())} | schemas([area for area, _ in made])
    manifest = manifest_of({area.file: (vectors[area.file], found) for area, found in made}, others)
    return {MANIFEST: rendered(manifest), **others, **vectors}


def area_file(area: Area, vectors: Iterable[Vector]) -> Json:
    return {"title": area.title, "vectors": [vector.to_json() for vector in vectors]}


def manifest_of(vectors: Mapping[str, tuple[bytes, Sequence[Vector]]], others: Mapping[str, bytes]) -> Json:
    """The manifest of files of vectors, each as bytes and as what is in it, and of others."""
    return {
        "format": FORMAT,
        "protocol": PROTOCOL,
        "vectors": sum(len(found) for _, found in vectors.values()),
        "files": {
            file: {"sha256": sha256(content), "vectors": {vector.name: vector.digest for vector in found}}
            for file, (content, found) in sorted(vectors.items())
        },
        "others": {file: sha256(content) for file, content in sorted(others.items())},
    }


# ---- schemas -----------------------------------------------------------------

MANIFEST_SCHEMA = obj(
    {
        "format": {"const": FORMAT},
        "protocol": {"const": PROTOCOL},
        "vectors": integer(),
        "files": map_of(obj({"sha256": data(32), "vectors": map_of(data(32))})),
        "others": map_of(data(32)),
    }
)


def schemas(areas: Iterable[Area]) -> dict[str, bytes]:
    """The schema of each file."""
    found = {MANIFEST: MANIFEST_SCHEMA, fixtures.FILE: fixtures.SCHEMA} | {
        area.file: obj({"title": name(), "vectors": array(_any_vector(area))}) for area in areas
    }
    return {f"{SCHEMAS}/{file}": rendered(_with_head(file, schema)) for file, schema in found.items()}


def _with_head(file: str, schema: Schema) -> Schema:
    used = {"$defs": DEFS} if "#/$defs/" in json.dumps(schema) else {}
    return {"$schema": DIALECT, "title": file, **used, **schema}


def _any_vector(area: Area) -> Schema:
    forms = [vector_schema(op_name, op, refused) for op_name, op in area.ops.items() for refused in (False, True)]
    return {"anyOf": [form for form in forms if form is not None]}


def vector_schema(op_name: str, op: Op, refused: bool) -> Schema | None:
    """The schema of a vector of this operation; None if there is none that is not refused."""
    keys: dict[str, Schema] = {
        "name": {"type": "string", "pattern": "^[a-z0-9-]+(/[a-z0-9-]+)+$"},
        "op": {"const": op_name},
        "requirements": array({"type": "string", "pattern": "^[A-Z]{2}-[1-9][0-9]*$"}, 1),
        "level": one_of(*LEVELS),
        "role": one_of(*ROLES),
        "comment": name(),
        "input": op.input,
    }
    output = op.refused_output if refused else op.output
    if output is not None:
        keys["output"] = output
    elif not refused:
        return None
    if refused:
        keys |= {
            "fail_layer": one_of(*(layer.value for layer in FailLayer)),
            "refused_by": {"type": "string", "pattern": "^[A-Z]{2}-[1-9][0-9]*$"},
            "base": {"type": "string", "pattern": "^[a-z0-9-]+(/[a-z0-9-]+)+$"},
            "change": name(),
        }
    return obj(keys)


# ---- writing -----------------------------------------------------------------


def prepare(directory: Path) -> None:
    """Makes the directory, or sees that it is empty. Raises UsageError."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        found = next(iter(sorted(directory.iterdir())), None)
    except OSError as exc:
        raise UsageError(f"{directory}: {exc.strerror}") from exc
    if found is not None:
        raise UsageError(f"{directory} is not empty: {found.name} is there, and nothing is ever overwritten")


def write(directory: Path, files: Mapping[str, bytes]) -> None:
    """Raises UsageError if the system does not let them be written."""
    try:
        (directory / SCHEMAS).mkdir()
        for file, content in files.items():
            (directory / file).write_bytes(content)
    except OSError as exc:
        raise UsageError(f"{directory} cannot be written: {exc.strerror}") from exc
