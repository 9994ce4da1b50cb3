"""A finding: a program of steps that fails, kept as a test for pytest and, where it can be, as a vector candidate.

The test is red while the fault is there and green when it is mended. It begins with what failed and with what was said
on the wires; where a machine holds both ends of a conversation, with both transcripts up to the first difference.
`replay` runs such a file again, or a candidate, and tells the story.
"""

import ast
import builtins
import hashlib
import json
import re
import sys
import textwrap
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from xlattice_trio import crypto
from xlattice_trio.errors import UsageError
from xlattice_trio.fuzz import drivers
from xlattice_trio.fuzz.batch import Failure
from xlattice_trio.fuzz.campaign import Found
from xlattice_trio.fuzz.machines import find_machine
from xlattice_trio.fuzz.machines.base import TargetMachine
from xlattice_trio.fuzz.recording import Connection, Happening, Recording
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.identity.keys import LocalIdentity
from xlattice_trio.limits import HANDSHAKE_DEADLINE
from xlattice_trio.roster import VerifiedRoster
from xlattice_trio.testing.draws import Draws
from xlattice_trio.testing.pairs import HandshakePair, SessionPair, first_difference
from xlattice_trio.vectors.fixtures import Fixtures
from xlattice_trio.vectors.model import Refused
from xlattice_trio.vectors.run import AREAS, difference
from xlattice_trio.wire.codec import encode

Json = Any

VECTOR_SUFFIX = ".vector.json"
_WIDTH = 118

_keeping: ContextVar[list[tuple[TargetMachine, Recording]] | None] = ContextVar("_keeping", default=None)


def machine(name: str, driver: str, live: dict[str, str] | None = None) -> TargetMachine:
    """A machine for a program of steps, as kept findings begin. Its `teardown` is to be called. Raises UsageError."""
    recordings: list[Recording] = []

    def make() -> Any:
        recordings.append(Recording(drivers.make_driver(driver, live)))
        return recordings[-1]

    made = find_machine(name).make(make)()
    kept = _keeping.get()
    if kept is not None:
        kept.append((made, recordings[0]))
    return made


# ---- writing -----------------------------------------------------------------


def keep(found: Found, directory: Path) -> list[Path]:
    """Write a finding into a directory: the test, and a vector candidate if there can be one. Raises OSError."""
    source = test_of(found)
    by = re.sub("[^a-z0-9]+", "_", f"{found.job.machine} {found.job.driver}".lower()).strip("_")
    name = f"test_{by}_{digest_of(found.failure)}"
    path = directory / f"{name}.py"
    story, candidate = story_of(source)
    directory.mkdir(parents=True, exist_ok=True)
    path.write_text(_with_story(source, story), encoding="utf-8")
    if candidate is None:
        return [path]
    beside = path.with_name(name + VECTOR_SUFFIX)
    beside.write_text(json.dumps(candidate, indent=1) + "\n", encoding="utf-8")
    return [path, beside]


def digest_of(failure: Failure) -> str:
    """What a finding is called by: the same program has the same name."""
    content = "\n".join(failure.program) or failure.where + failure.message
    return hashlib.sha256(content.encode()).hexdigest()[:10]


def test_of(found: Found) -> str:
    """The finding as a test, without its story."""
    job, failure = found.job, found.failure
    name, driver = json.dumps(job.machine), json.dumps(job.driver)
    about = [
        f"Found by `xlattice fuzz run`: {job.machine} on {job.driver}, seed {job.seed}, example {failure.example}.",
        f"{failure.error}, at {failure.where}: {failure.message}",
    ]
    text = "\n\n".join(textwrap.fill(" ".join(part.split()), _WIDTH) for part in about)
    head = f'"""{_quoted(text)}\n"""\n\n'
    if not _is_program(failure.program):  # it could not be had again, or not be printed: the batch is the program
        settings = f"machine={name}, driver={driver}, seed={job.seed}, examples={job.examples}"
        return (
            f"{head}from xlattice_trio.fuzz.batch import Job, run\n\n\n"
            f"def test_finding() -> None:\n    result = run(Job({settings}, seconds=600.0))\n"
            f"    assert result.failure is None, result.failure.traceback\n"
        )
    steps = list(failure.program[1:])
    if steps and steps[-1].startswith("state.teardown("):
        steps.pop()
    names = sorted(_imports("\n".join(steps), find_machine(job.machine).machine))
    arguments = [name, driver, *([json.dumps(dict(job.live))] if job.live else [])]
    imports = sorted([*names, "from xlattice_trio.fuzz.finding import machine"])
    body = "\n".join(f"        {line}" for line in steps)
    return (
        f"{head}" + "\n".join(imports) + "\n\n\n"
        f"def test_finding() -> None:\n"
        f"    state = machine({', '.join(arguments)})\n"
        f"    try:\n{body or '        pass'}\n"
        f"    finally:\n        state.teardown()\n"
    )


test_of.__test__ = False  # type: ignore[attr-defined]


def _is_program(lines: Sequence[str]) -> bool:
    try:
        ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return bool(lines)


def _imports(program: str, found: type[TargetMachine]) -> Iterator[str]:
    """An import for every name that the program uses and does not make, from where the machine's module has it."""
    tree = ast.parse(program)
    made = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    module = sys.modules[found.__module__]
    for name in used - made - {"state"} - set(dir(builtins)):
        value = getattr(module, name, None)
        home = getattr(value, "__module__", module.__name__)
        yield f"from {home if hasattr(sys.modules.get(home), name) else module.__name__} import {name}"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')


def _with_story(source: str, story: Sequence[str]) -> str:
    if not story:
        return source
    comment = "\n".join(f"# {line}"[:_WIDTH].rstrip() for line in story)
    return f"{source}\n\n# What was said, up to the failure:\n#\n{comment}\n"


# ---- running -----------------------------------------------------------------


def story_of(source: str) -> tuple[list[str], Json | None]:
    """What is said while a finding's test runs, and the vector candidate that can be made of it."""
    token = _keeping.set([])
    try:
        _run_test(source, "<finding>")
        kept = _keeping.get() or []
    finally:
        _keeping.reset(token)
    story = [line for made, recording in kept for line in (*recording.story(), *_transcripts(made, recording))]
    candidates = [found for _, recording in kept if (found := candidate_of(recording)) is not None]
    return story, candidates[-1] if candidates else None


def _run_test(source: str, name: str) -> BaseException | None:
    """Run the tests in a file; what they raise."""
    space: dict[str, Any] = {"__name__": "finding", "__file__": name}
    exec(compile(source, name, "exec"), space)  # noqa: S102 - a finding is a program
    for test in [value for key, value in space.items() if key.startswith("test_") and callable(value)]:
        try:
            test()
        except Exception as exc:
            return exc
    return None


def _transcripts(made: TargetMachine, recording: Recording) -> Iterator[str]:
    """Of conversations in whose middle the machine is: both transcripts of each direction, up to where they part."""
    for name, value in vars(made).items():
        if isinstance(value, HandshakePair | SessionPair):
            for side, flow in value.flows.items():
                yield from _parted(f"{name}, {side.value}", flow.sent, flow.delivered)
    ends: dict[str, list[int]] = {"initiator": [], "responder": []}
    for number, connection in enumerate(recording.connections):
        ends.setdefault(connection.kind, []).append(number)
    for initiator, responder in zip(ends["initiator"], ends["responder"], strict=False):
        said = [(recording.said(initiator, "received"), recording.said(responder, "sent"))]
        said.append((recording.said(responder, "received"), recording.said(initiator, "sent")))
        for end, (sent, delivered) in zip(("initiator", "responder"), said, strict=True):
            yield from _parted(f"connections {initiator} and {responder}, {end}", sent, delivered)


def _parted(what: str, sent: bytes, delivered: bytes) -> Iterator[str]:
    parted = first_difference(sent, delivered)
    yield ""
    yield f"{what}: what it sent (a), and what arrived (b){'' if parted else ': the same bytes'}"
    yield from parted.splitlines()


def replay(path: Path, say: Callable[[str], None]) -> bool:
    """Run a kept finding again and tell its story; whether it still fails. Raises UsageError, OSError."""
    if path.name.endswith(".json"):
        return _replay_vector(path, say)
    if path.suffix != ".py":
        raise UsageError(f"{path}: a finding is a Python file, or a candidate for a vector ({VECTOR_SUFFIX})")
    token = _keeping.set([])
    try:
        failed = _run_test(path.read_text(encoding="utf-8"), str(path))
        kept = _keeping.get() or []
    except SyntaxError as exc:
        raise UsageError(f"{path}: {exc}") from exc
    finally:
        _keeping.reset(token)
    for made, recording in kept:
        for line in (*recording.story(), *_transcripts(made, recording)):
            say(line)
    if failed is None:
        say("It does not fail any more.")
        return False
    for line in traceback.format_exception(failed):
        say(line.rstrip("\n"))
    return True


# ---- vectors -----------------------------------------------------------------


def candidate_of(recording: Recording) -> Json | None:
    """The last conversation as a vector of FORMAT.md, if one of its operations can ask for it.

    Asked is `respond`, up to the HelloReply (behind it everything hangs on the randomness of ML-KEM, which no draw
    gives), or `session`. `observed` is what this program gives: what it should give has to be found out. `fixtures` are
    those that it needs besides.
    """
    for number, connection in reversed(list(enumerate(recording.connections))):
        said = [one for one in recording.happened if one.wire in (number, None)]
        given: Json | None = None
        fixtures: Json = {"keys": {}, "nodes": {}, "rosters": {}, "cluster_cards": {}}
        if not any(one.what == "sent" or connection.kind == "session" for one in said):
            continue
        if connection.kind == "responder":
            given = _respond_input(connection, said, fixtures)
        elif connection.kind == "session":
            given = _session_input(connection, said)
        if given is None:
            continue
        op = {"responder": "respond", "session": "session"}[connection.kind]
        vector = {
            "name": f"candidate/{op}/{hashlib.sha256(json.dumps(given).encode()).hexdigest()[:10]}",
            "op": op,
            "requirements": [],
            "level": "MUST",
            "role": "responder" if op == "respond" else "both",
            "comment": "Found by fuzzing. To be completed: requirements, output or refusal.",
            "input": given,
        }
        return {"vector": vector, "fixtures": fixtures, "observed": _observed(op, given, fixtures)}
    return None


def _respond_input(connection: Connection, said: Sequence[Happening], fixtures: Json) -> Json | None:
    cast, port, roster = connection.given["cast"], connection.given["port"], connection.given["roster"]
    draw = getattr(getattr(connection.wire, "_core", None), "_draw", None)
    if cast.responder is None or roster is None or not isinstance(draw, Draws):
        return None
    if any(one.what not in ("sent", "received") for one in said):
        return None  # time, or an end of the connection: no action of this operation
    chunks = []
    for one in said:
        if one.what == "received":
            break
        chunks.append(one.data.hex())
    drawn = Draws(draw.seed, **draw.fixed)
    fixtures["nodes"]["responder"] = _node(cast.responder, fixtures)
    fixtures["rosters"]["in-force"] = _roster(roster)
    return {
        "self": "responder",
        "accepted": ["responder-ck"],
        "roster": "in-force",
        "port": "cluster" if port is Port.CLUSTER else "client",
        "keepalive": connection.given.get("keepalive", 0),
        "replay_cache": [],
        "draws": {
            **{name: drawn(name, 32).hex() for name in ("oaep_fallback", "x25519", "key2", "salt")},
            "mlkem_m": bytes(32).hex(),
        },
        "chunks": chunks,
    }


def _session_input(connection: Connection, said: Sequence[Happening]) -> Json | None:
    given = connection.given
    steps: list[Json] = []
    for one in said:
        match one.what, one.detail:
            case "received", _:
                continue
            case "sent", _:
                steps.append({"do": "receive", "bytes": one.data.hex()})
            case "closed", _:
                steps.append({"do": "transport_closed"})
            case "waited", seconds:
                steps.append({"do": "wait", "ms": round(seconds * 1000)})
            case "commanded", ("send_data", args, _) if args and 1 <= len(args[0]) <= 65_536:
                steps.append({"do": "send_data", "payload": args[0].hex()})
            case "commanded", ("send_bye", _, _):
                steps.append({"do": "send_bye"})
            case "commanded", ("send_error", args, _) if args:
                text = args[1] if len(args) > 1 else ""
                steps.append({"do": "send_error", "code": args[0].name.lower(), "text": text.encode().hex()})
            case _:
                return None  # not an action of this operation
    return {
        "side": given["side"].value,
        "keepalive": given["keepalive"],
        "handshake_deadline": HANDSHAKE_DEADLINE * 1000,
        "i2r": given["i2r"].hex(),
        "r2i": given["r2i"].hex(),
        "steps": steps,
    }


def _node(identity: LocalIdentity, fixtures: Json) -> Json:
    for which, key in (("responder-sk", identity.sk_priv), ("responder-ck", identity.ck_priv)):
        numbers = key.private_numbers()
        fixtures["keys"][which] = {
            "bits": key.key_size,
            "p": f"{numbers.p:x}".zfill(key.key_size // 8),
            "q": f"{numbers.q:x}".zfill(key.key_size // 8),
            "spki": crypto.encode_spki(key.public_key()).hex(),
        }
    return {
        "sk": "responder-sk",
        "ck": "responder-ck",
        "node_id": str(identity.node_id),
        "card": encode(identity.card.card).hex(),
    }


def _roster(roster: VerifiedRoster) -> Json:
    return {
        "bytes": encode(roster.roster).hex(),
        "cluster_id": roster.cluster_id.hex(),
        "digest": roster.digest.hex(),
        "knock": roster.knock.hex(),
    }


def _observed(op: str, given: Json, fixtures: Json) -> Json:
    """What this program gives: its output, its refusal, or the exception that nobody has documented."""
    found = [area.ops[op] for area in AREAS if op in area.ops]
    if not found:
        raise UsageError(f"there is no operation {op!r}")
    try:
        return {"output": found[0].run(given, Fixtures.read(fixtures))}
    except Refused as exc:
        return {"fail_layer": exc.layer.value, "output": exc.output}
    except Exception as exc:
        return {"exception": type(exc).__name__, "text": str(exc)}


def _replay_vector(path: Path, say: Callable[[str], None]) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        vector, before = content["vector"], content["observed"]
        now = json.loads(json.dumps(_observed(vector["op"], vector["input"], content["fixtures"])))
    except (ValueError, KeyError, TypeError) as exc:
        raise UsageError(f"{path}: no candidate for a vector: {exc}") from exc
    say(f"{vector['name']}, operation {vector['op']}")
    for key, value in vector["input"].items():
        say(f"  {key}: {textwrap.shorten(json.dumps(value), _WIDTH - 4 - len(key))}")
    if now != before:
        say(f"It gives something else now, at {difference('observed', before, now)}:")
        say(textwrap.shorten(json.dumps(now), 2000))
        return False
    say("It gives the same as when it was found:")
    say(textwrap.shorten(json.dumps(now), 2000))
    return True
