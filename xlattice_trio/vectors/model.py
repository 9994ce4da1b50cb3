"""What a test vector is, and what an area of them is made of.

An area is a file of vectors: its operations, each with the schema of what goes in and out and a function that does it
with this implementation; and its cases, which say everything of a vector but what comes out. `run` brings the two
together. What a case says of a refusal, its author wrote from the specification: the implementation has to agree.

Everything that stands in a file is JSON from the beginning: byte strings are lower-case hexadecimal.
"""

import enum
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import attrs

from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.schema import Schema

Json = Any

_NAME = re.compile(r"[a-z0-9-]+(/[a-z0-9-]+)+")

ROLES = ("initiator", "responder", "both", "member", "client", "authority")
LEVELS = ("MUST", "SHOULD", "MAY")  # the strongest first


class FailLayer(enum.Enum):
    """What refuses a vector. The list is closed."""

    FRAME = "frame"
    VERSION = "version"
    DECODE = "decode"
    MAC = "mac"
    REPLAY = "replay"
    OAEP = "oaep"
    HELLO_AEAD = "hello_aead"
    RECIPIENT = "recipient"
    ROLE = "role"
    MEMBERSHIP = "membership"
    SIGNATURE = "signature"
    REPLY_AEAD = "reply_aead"
    RECORD = "record"
    SESSION = "session"
    LINK = "link"


# ---- operations --------------------------------------------------------------


class Refused(Exception):
    """An operation refuses its input.

    `by` are the ids of the requirements for which the implementation's reason stands; none if it gives no reason.
    `where` is the field of a message that it names, and `output` what can be seen of the refusal.
    """

    def __init__(
        self, layer: FailLayer, *by: str, where: str | None = None, output: Json = None, problem: str = ""
    ) -> None:
        super().__init__(f"refused by {layer.value}" + (f": {problem}" if problem else ""))
        self.layer = layer
        self.by = by
        self.where = where
        self.output = output


@attrs.frozen
class Op:
    """An operation: `run` gives its output, or raises Refused.

    `output` is None if it is always refused. `refused_output` is the schema of what can be seen of a refusal, None if
    nothing can.
    """

    run: Callable[[Json, Fixtures], Json]
    input: Schema
    output: Schema | None
    refused_output: Schema | None = None


# ---- cases -------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Refusal:
    """Why a case has to be refused: what the author of the case says.

    `base` is the name of the valid vector, and `change` the one thing that was changed. `where` is not published: it
    is compared with the field that the implementation names.
    """

    layer: FailLayer
    by: str
    base: str
    change: str
    where: str | None = None


@attrs.frozen(kw_only=True)
class Case:
    """A vector without what comes out.

    `requirements` need not repeat the one that refuses. `expected` is what was computed in another way, as far as it
    was: keys and values of the output.
    """

    name: str
    op: str
    requirements: tuple[str, ...]
    comment: str
    input: Json
    role: str = "both"
    refusal: Refusal | None = None
    expected: Mapping[str, Json] = attrs.field(factory=dict)


@attrs.frozen
class Area:
    """One file of vectors. `title` is for people."""

    name: str
    title: str
    ops: Mapping[str, Op]
    cases: Callable[[Fixtures], Iterator[Case]]

    @property
    def file(self) -> str:
        return f"{self.name}.json"

    @property
    def prefix(self) -> str:
        """What the names of its vectors begin with."""
        return self.name.replace("_", "-") + "/"


# ---- vectors -----------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Vector:
    """A vector as it stands in its file, whose keys and their order are these."""

    name: str
    op: str
    requirements: tuple[str, ...]
    level: str
    role: str
    comment: str
    input: Json
    output: Json = None
    fail_layer: str | None = None
    refused_by: str | None = None
    base: str | None = None
    change: str | None = None

    @classmethod
    def of_json(cls, value: Json) -> "Vector":
        return cls(**value | {"requirements": tuple(value["requirements"])})

    def to_json(self) -> dict[str, Json]:
        values = attrs.asdict(self, recurse=False) | {"requirements": list(self.requirements)}
        return {key: value for key, value in values.items() if value is not None}

    @property
    def digest(self) -> str:
        """SHA-256 of its canonical JSON, in hexadecimal."""
        return hashlib.sha256(canonical(self.to_json())).hexdigest()

    @property
    def question(self) -> bytes:
        """What is asked: no two vectors ask the same."""
        return canonical([self.op, self.input])


def canonical(value: Json) -> bytes:
    """The one JSON text of a value: keys sorted, no white space, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def is_name(name: str) -> bool:
    """Whether a vector may have this name."""
    return _NAME.fullmatch(name) is not None
