"""Counting handshakes: every value is new, and the two that are compared are measured in turn."""

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner

from xlattice_trio import crypto
from xlattice_trio.cli import main
from xlattice_trio.fuzz import rate
from xlattice_trio.fuzz.rate import ROLES, Rate, measure, table
from xlattice_trio.testing import draws
from xlattice_trio.wire.messages import Role


@pytest.mark.parametrize("driver", ["sansio", "memory"])
def test_each_role_is_measured(driver: str) -> None:
    found = list(measure(driver, bits=2048, seconds=0.01))
    assert [one.role for one in found] == list(ROLES)
    for one in found:
        assert one.handshakes % rate.BLOCK == 0
        assert 0 < one.a_second < one.limit


def test_no_encryption_and_no_signature_is_remembered_from_another_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, list[Any]] = {"oaep_encrypt": [], "pss_sign": []}

    def counted(name: str, function: Callable[..., bytes]) -> Callable[..., bytes]:
        def count(*args: Any) -> bytes:
            calls[name].append(args[1:])
            return function(*args)

        return count

    for name in calls:
        monkeypatch.setattr(crypto, name, counted(name, getattr(crypto, name)))
    monkeypatch.setattr(rate, "_rsa_alone", lambda *_: sum(range(10_000)))
    draws._oaep.cache_clear()  # what other tests have left
    draws._signatures.clear()
    found = list(measure("sansio", bits=3072, seconds=0.01))
    handshakes = sum(one.handshakes + rate.BLOCK for one in found)  # each role begins with a block that is not counted
    signed = sum(one.handshakes + rate.BLOCK for one in found if one.role is Role.MEMBER)
    assert len(calls["oaep_encrypt"]) == handshakes
    assert len(calls["pss_sign"]) == signed


def test_a_line_says_how_close_it_comes() -> None:
    assert table([Rate(Role.MEMBER, 100, 0.25, 0.1)]) == [
        "member: 400 handshakes a second of one core, 40% of the 1,000 that their RSA operations alone allow"
    ]


def test_the_command_prints_a_line_for_each_role() -> None:
    result = CliRunner().invoke(main, ["fuzz", "rate", "--time", "0.1s"])
    assert result.exit_code == 0, result.output
    assert [line.partition(":")[0] for line in result.stdout.splitlines()] == ["member", "anonymous"]
