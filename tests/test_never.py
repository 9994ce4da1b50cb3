"""What the program never does, found by reading its code: no run of it could show that.

Left out are the parts that make, read or test texts and vectors, and carry no session.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import xlattice_trio
from xlattice_trio.cli import main

PACKAGE = Path(xlattice_trio.__file__).parent
NOT_AT_WORK = ("speccheck/", "testing/", "vectors/", "fuzz/", "cli/spec.py", "cli/vectors.py", "cli/fuzz.py")
FILES = {
    name: path
    for path in sorted(PACKAGE.rglob("*.py"))
    if not (name := path.relative_to(PACKAGE).as_posix()).startswith(NOT_AT_WORK)
}
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in FILES.items()}


def loads(tree: ast.AST, attribute: str) -> Iterator[ast.Attribute]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr == attribute and isinstance(node.ctx, ast.Load):
            yield node


# ---- an Error's text decides nothing -----------------------------------------


def deciding(tree: ast.AST) -> Iterator[ast.AST]:
    """The expressions that something hangs on: conditions, comparisons, keys, what is matched."""
    for node in ast.walk(tree):
        match node:
            case ast.If(test=test) | ast.While(test=test) | ast.IfExp(test=test) | ast.Assert(test=test):
                yield test
            case ast.Match(subject=subject):
                yield subject
            case ast.comprehension(ifs=conditions):
                yield from conditions
            case ast.Subscript(slice=key):
                yield key
            case ast.Compare() | ast.BoolOp() | ast.MatchClass():
                yield node


def decisions_by_text(tree: ast.AST) -> list[str]:
    """Every place where something hangs on the text of an exception: its `text`, its `args`, or what `str` gives."""
    caught = {node.name for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler)} - {None}
    found = []
    for expression in deciding(tree):
        for node in ast.walk(expression):
            match node:
                case ast.Attribute(attr="text" | "args"):
                    found.append(ast.unparse(expression))
                case ast.Call(func=ast.Name("str" | "repr"), args=[ast.Name(name)]) if name in caught:
                    found.append(ast.unparse(expression))
                case ast.MatchClass(kwd_attrs=names) if {"text", "args"} & set(names):
                    found.append(ast.unparse(expression))
    return found


@pytest.mark.parametrize("name", FILES)
@pytest.mark.spec("SE-64")
def test_nothing_hangs_on_the_text_of_an_error(name: str) -> None:
    assert decisions_by_text(TREES[name]) == []


@pytest.mark.parametrize(
    "source",
    [
        "if exc.text == 'full': pass",
        "while 'full' in error.text: pass",
        "x = 1 if exc.text else 2",
        "x = table[exc.text]",
        "x = exc.text.startswith('f') or y",
        "match exc.text:\n    case 'full': pass",
        "match exc:\n    case PeerReported(text='full'): pass",
        "try: pass\nexcept E as exc:\n    if 'full' in str(exc): pass",
        "x = [e for e in errors if e.text]",
    ],
)
def test_a_decision_by_text_is_found(source: str) -> None:
    assert decisions_by_text(ast.parse(source))


# ---- the exporter is for the application -------------------------------------


@pytest.mark.spec("SE-74")
def test_the_exporter_is_made_handed_on_and_used_for_nothing() -> None:
    uses = [(name, ast.unparse(node)) for name, tree in TREES.items() for node in loads(tree, "exporter")]
    assert uses == [
        ("handshake/initiator.py", "secrets.exporter"),
        ("handshake/outcome.py", "key_schedule.exporter"),
        ("handshake/responder.py", "secrets.exporter"),
        ("net/stream.py", "self.established.exporter"),
    ]


# ---- nothing turns a verification off ----------------------------------------

# Every switch that there is, and why none of them turns off the verification of a mac, tag, signature or roster.
SWITCHES = {
    "check_source": "the source address check, which authenticates nothing",
    "exact": "how the specification writes a field",
    "handle_signals": "who stops the node",
    "limit_loopback": "the limits per source",
    "override": "the order of epochs, of a roster that was verified",
    "secret": "what a repr shows",
}
FLAGS = {
    "--discard-next",
    "--help",
    "--json",
    "--new-ck",
    "--next",
    "--no-passphrase",
    "--no-source-check",
    "--override",
    "--version",
}


def switches(tree: ast.AST) -> Iterator[str]:
    """Parameters, and fields of frozen classes, that are True or False unless somebody says otherwise."""
    for node in ast.walk(tree):
        match node:
            case ast.arguments(posonlyargs=first, args=then, kwonlyargs=last, defaults=defaults, kw_defaults=others):
                positional = [*first, *then]
                pairs = [*zip(positional[len(positional) - len(defaults) :], defaults, strict=True)]
                pairs += [(arg, value) for arg, value in zip(last, others, strict=True) if value is not None]
                yield from (arg.arg for arg, value in pairs if _is_bool(value))
            case ast.ClassDef(decorator_list=decorators, body=body) if "frozen" in map(_name, decorators):
                for field in body:
                    match field:
                        case ast.AnnAssign(target=ast.Name(name), value=ast.expr() as value) if _is_bool(value):
                            yield name


def _name(decorator: ast.expr) -> str:
    return ast.unparse(decorator).partition("(")[0].rpartition(".")[2]


def _is_bool(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):  # attrs.field(default=False)
        return any(keyword.arg == "default" and _is_bool(keyword.value) for keyword in value.keywords)
    return isinstance(value, ast.Constant) and isinstance(value.value, bool)


def flags(command: click.Command) -> Iterator[str]:
    for parameter in command.get_params(click.Context(command)):
        if isinstance(parameter, click.Option) and parameter.is_flag:
            yield parameter.opts[-1]
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            if f"cli/{name}.py" not in NOT_AT_WORK:
                yield from flags(inner)


@pytest.mark.spec("SC-2")
def test_no_switch_turns_a_verification_off() -> None:
    assert {switch for tree in TREES.values() for switch in switches(tree)} == set(SWITCHES)
    assert set(flags(main)) == FLAGS


@pytest.mark.spec("SC-2")
def test_no_environment_variable_turns_a_verification_off() -> None:
    read = {
        name: sorted(ast.unparse(node) for attribute in ("environ", "getenv") for node in loads(tree, attribute))
        for name, tree in TREES.items()
    }
    # the demonstration's processes get what it has itself, and where to keep their state
    assert {name: found for name, found in read.items() if found} == {
        "cli/demo.py": ["os.environ"],
        "cli/held.py": ["os.environ"],
    }
    assert "XDG_STATE_HOME" in FILES["cli/held.py"].read_text()


@pytest.mark.parametrize(
    "source",
    [
        "def verify(card, check=True): pass",
        "def verify(card, *, strict: bool = False): pass",
        "@attrs.frozen\nclass Config:\n    verify_macs: bool = True",
        "@attrs.frozen(kw_only=True)\nclass Config:\n    verify_macs: bool = attrs.field(default=True)",
    ],
)
def test_a_switch_is_found(source: str) -> None:
    assert list(switches(ast.parse(source)))
