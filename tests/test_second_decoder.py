"""The decoder made from the specification's tables against the one made from the code: same value or same refusal."""

import ast
import contextlib
import functools
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlattice_trio.errors import DecodeError
from xlattice_trio.limits import ROSTER_MAX
from xlattice_trio.speccheck import decoder as decoder_module
from xlattice_trio.speccheck import tables as tables_module
from xlattice_trio.speccheck.decoder import Decoder, TableDecodeError
from xlattice_trio.speccheck.tables import find_directory, read_specification
from xlattice_trio.testing.edges import edges
from xlattice_trio.testing.edges import examples as examples_of
from xlattice_trio.testing.strategies import damaged, messages
from xlattice_trio.wire.codec import decode, encode, encode_before
from xlattice_trio.wire.messages import MESSAGES, NodeCard, Roster

every_message = pytest.mark.parametrize("cls", MESSAGES, ids=lambda cls: cls.__name__)


@functools.cache
def second_decoder() -> Decoder:
    return Decoder(read_specification(find_directory()))


def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def plain(value: Any) -> Any:
    """What a decoded message is for the second decoder: dicts and lists."""
    if attrs.has(type(value)):
        return {field.name: plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    return [plain(element) for element in value] if isinstance(value, tuple) else value


def outcome(cls: type, data: bytes) -> dict[str, Any] | None:
    """What the two decoders agree on: the value, or None for a refusal."""
    first = second = None
    with contextlib.suppress(DecodeError):
        first = plain(decode(cls, data))
    with contextlib.suppress(TableDecodeError):
        second = second_decoder().decode(cls.__name__, data)
    assert first == second
    return first


@every_message
def test_decoders_agree_on_what_the_encoder_makes(cls: type) -> None:
    @examples(50)
    @given(messages(cls))
    def agree(message: Any) -> None:
        assert outcome(cls, encode(message)) == plain(message)

    agree()


@every_message
def test_decoders_agree_on_both_sides_of_every_bound(cls: type) -> None:
    refused = [outcome(cls, data) is None for _, data in edges(cls)]
    assert any(refused)
    assert not all(refused)


@every_message
def test_decoders_agree_on_damaged_messages(cls: type) -> None:
    @examples(100)
    @given(damaged(cls))
    def agree(data: bytes) -> None:
        outcome(cls, data)

    agree()


@every_message
def test_decoders_agree_on_arbitrary_bytes(cls: type) -> None:
    @examples(60)
    @given(st.binary(max_size=100))
    def agree(data: bytes) -> None:
        outcome(cls, data)

    agree()


@pytest.mark.parametrize("beyond", [0, 1])
def test_decoders_agree_on_the_greatest_roster(beyond: int) -> None:
    """As many bytes as a roster may have, and one more: cards of the greatest size, and two that fill it up."""
    least = next(examples_of(Roster))
    greatest = NodeCard(name="x" * 64, id_size=32, sk=bytes(1024), ck=bytes(1024), serial=0, signature=bytes(512))
    missing = ROSTER_MAX + beyond - len(encode(least))
    clients = [greatest] * (missing // len(encode(greatest)) - 1)
    missing -= len(clients) * len(encode(greatest))
    small = attrs.evolve(greatest, sk=bytes(1), ck=bytes(1))
    for share in (missing // 2, missing - missing // 2):
        fill = share - len(encode(small))
        clients.append(attrs.evolve(small, sk=bytes(1 + fill // 2), ck=bytes(1 + fill - fill // 2)))
    roster = attrs.evolve(least, clients=tuple(clients))
    data = encode_before(roster, "signature") + b"\1\0" + roster.signature
    assert len(data) == ROSTER_MAX + beyond
    assert (outcome(Roster, data) is None) is bool(beyond)


def test_decoders_know_the_same_messages() -> None:
    assert set(second_decoder().messages) == {cls.__name__ for cls in MESSAGES}


@pytest.mark.parametrize("module", [decoder_module, tables_module], ids=["decoder", "tables"])
def test_second_decoder_shares_no_code_with_the_first(module: Any) -> None:
    allowed = {"xlattice_trio.speccheck.tables", "xlattice_trio.errors"}
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        assert {name for name in names if name.startswith("xlattice_trio")} <= allowed
