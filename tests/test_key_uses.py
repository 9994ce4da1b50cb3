"""What each private key is used for, found by reading the code: no run of it could show that there is nothing else.

As in `test_never`, the parts that make, read or test texts and vectors are left out: their keys are known to everybody.
"""

import ast
from collections.abc import Iterator

import pytest

from tests.test_never import TREES, loads

# A fuzzer signs what nobody should.
AT_WORK = {name: tree for name, tree in TREES.items() if not name.startswith(("fuzz/", "cli/fuzz.py"))}


def calls(tree: ast.AST, *names: str, inside: str = "") -> Iterator[tuple[str, ast.Call]]:
    """The calls of what has one of these names, however it is reached, with the function that they stand in."""
    for node in ast.iter_child_nodes(tree):
        here = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else inside
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in names:
            yield here, node
        yield from calls(node, *names, inside=here)


def uses(*names: str) -> set[tuple[str, ...]]:
    """Where these are called: module, function, and the arguments as they are written."""
    return {
        (module, function, *(ast.unparse(argument) for argument in [*call.args, *(k.value for k in call.keywords)]))
        for module, tree in AT_WORK.items()
        for function, call in calls(tree, *names)
    }


def mentions(name: str) -> list[tuple[str, str]]:
    """Where a function is named without being called: handed on as a value."""
    found = []
    for module, tree in AT_WORK.items():
        called = {call.func for _, call in calls(tree, name)}
        for node in ast.walk(tree):
            match node:
                case ast.Name(id=found_name, ctx=ast.Load()) | ast.Attribute(attr=found_name, ctx=ast.Load()):
                    if found_name == name and node not in called:
                        found.append((module, ast.unparse(node)))
    return found


# ---- the operations of the library -------------------------------------------


@pytest.mark.spec("ID-6", "ID-7", "ID-8")
def test_the_librarys_operations_with_keys_are_called_in_one_place_each() -> None:
    found = {use[:2] for use in uses("sign", "encrypt", "decrypt", "encrypt_into", "decrypt_into")}
    assert found == {
        ("crypto.py", "pss_sign"),
        ("crypto.py", "oaep_encrypt"),
        ("crypto.py", "oaep_decrypt"),
        # with keys for AES
        ("crypto.py", "seal"),
        ("crypto.py", "seal_into"),
        ("crypto.py", "open_sealed"),
        ("crypto.py", "open_into"),
    }
    assert {use for use in uses("sign") if use[1] == "pss_sign"} == {
        ("crypto.py", "pss_sign", "label.before(content)", "_PSS", "hashes.SHA256()")
    }


# ---- signatures --------------------------------------------------------------


@pytest.mark.spec("ID-6", "ID-7")
def test_a_key_signs_under_its_two_labels_only() -> None:
    assert {use[:4] for use in uses("pss_sign")} == {
        ("identity/card.py", "make_card", "sk_priv", "Label.NODE_CARD"),
        ("handshake/initiator.py", "_make_hello", "intent.identity.sk_priv", "Label.HELLO_SIGNATURE"),
        ("roster.py", "make_roster", "authority_key", "Label.ROSTER"),
        ("roster.py", "make_cluster_card", "authority_key", "Label.CLUSTER_CARD"),
    }
    assert mentions("pss_sign") == [("crypto.py", "pss_sign")]  # as what `Randomised` has by default


@pytest.mark.spec("ID-6", "ID-7")
def test_cards_are_signed_with_a_nodes_key_and_rosters_with_an_authoritys() -> None:
    keys = {
        (module, function, ast.unparse(next(k.value for k in call.keywords if k.arg == "sk_priv")))
        for module, tree in AT_WORK.items()
        for function, call in calls(tree, "make_card")
    }
    assert keys == {
        ("identity/keys.py", "generate_identity", "sk_priv"),
        ("cli/node.py", "_prepare_ck", "identity.sk_priv"),
    }
    assert {use[:3] for use in uses("make_roster", "make_cluster_card")} == {
        ("cli/authority.py", "sign_next", "self.key"),
        ("cli/authority.py", "write_card", "self.key"),
        ("cli/cluster.py", "create", "key"),
        ("cli/demo.py", "make_cluster", "key"),
    }


# ---- encryption --------------------------------------------------------------


@pytest.mark.spec("ID-8")
def test_a_ck_encrypts_key1_only() -> None:
    assert uses("oaep_encrypt") == {("handshake/initiator.py", "_make_hello", "intent.peer.ck", "self._key1")}
    assert mentions("oaep_encrypt") == [("crypto.py", "oaep_encrypt")]  # as what `Randomised` has by default


# ---- random numbers, secrets -------------------------------------------------


@pytest.mark.spec("NO-28")
def test_no_secret_is_drawn_by_a_generator_that_others_can_follow() -> None:
    """What draws with the module `random`: orders, choices and waits."""
    used = {
        (module, ast.unparse(node))
        for module, tree in AT_WORK.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "random"
    }
    assert used == {
        ("client.py", "random.Random"),  # for tests, in the place of
        ("client.py", "random.SystemRandom"),
        ("cluster/links.py", "random.Random"),  # the same
        ("cluster/links.py", "random.SystemRandom"),
        ("cli/loopback.py", "random.SystemRandom"),
        ("cli/connect.py", "random.uniform"),  # the jitter of a back-off
    }


@pytest.mark.spec("NO-29")
def test_macs_are_compared_in_constant_time_only() -> None:
    compared = {
        (module, ast.unparse(node))
        for module, tree in AT_WORK.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare)
        and any(ast.unparse(side).endswith("mac") for side in [node.left, *node.comparators])
    }
    assert compared == set()
    assert ("handshake/responder.py", "_key_of_mac", "mac", "hello.mac") in uses("equal")


# ---- serial ------------------------------------------------------------------


@pytest.mark.spec("ID-24")
def test_the_serial_of_a_card_is_read_by_the_tools_only() -> None:
    readers = {module for module, tree in AT_WORK.items() if list(loads(tree, "serial"))}
    assert readers == {"cli/authority.py", "cli/describe.py", "cli/node.py"}


@pytest.mark.parametrize(
    "source",
    ["pss_sign(key, label, x)", "crypto.pss_sign(k, l, c)", "def f():\n    self._randomised.pss_sign(k, l, c)"],
)
def test_a_use_is_found(source: str) -> None:
    assert list(calls(ast.parse(source), "pss_sign"))
