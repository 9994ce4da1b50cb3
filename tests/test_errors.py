"""The tree of exceptions: whose fault it is, and what each one carries."""

from pathlib import Path

import pytest

from xlattice_trio import errors
from xlattice_trio.errors import ErrorCode, RefusalReason

PARENTS = {
    errors.UsageError: errors.XLatticeError,
    errors.EncodeError: errors.UsageError,
    errors.IdentityError: errors.XLatticeError,
    errors.StorageError: errors.IdentityError,
    errors.RosterConflict: errors.IdentityError,
    errors.PeerError: errors.XLatticeError,
    errors.DecodeError: errors.PeerError,
    errors.RecordError: errors.PeerError,
    errors.HandshakeRefused: errors.PeerError,
    errors.Truncated: errors.PeerError,
    errors.KeepaliveTimeout: errors.PeerError,
    errors.PeerReported: errors.XLatticeError,
    errors.SessionEnded: errors.XLatticeError,
    errors.WriteStalled: errors.XLatticeError,
}


@pytest.mark.parametrize(("cls", "parent"), list(PARENTS.items()), ids=lambda cls: cls.__name__)
def test_every_exception_has_its_place(cls: type, parent: type) -> None:
    assert cls.__mro__[1] is parent


def test_exceptions_carry_what_they_are_about() -> None:
    decode_error = errors.DecodeError("Hello.mac", 7, "short")
    assert (decode_error.where, decode_error.offset) == ("Hello.mac", 7)
    assert decode_error.code is ErrorCode.PROTOCOL_VIOLATION
    storage_error = errors.StorageError(Path("sk.pem"), "missing")
    assert storage_error.path == Path("sk.pem")
    assert "sk.pem" in str(storage_error)
    assert errors.RosterConflict(9).epoch == 9
    timeout = errors.KeepaliveTimeout(4.5)
    assert (timeout.silence, timeout.code) == (4.5, ErrorCode.KEEPALIVE_TIMEOUT)
    reported = errors.PeerReported(ErrorCode.OVER_CAPACITY, "full")
    assert (reported.code, reported.text) == (ErrorCode.OVER_CAPACITY, "full")
    assert "full" in str(reported)
    ended = errors.SessionEnded(ErrorCode.SHUTTING_DOWN, "soon")
    assert (ended.code, ended.text) == (ErrorCode.SHUTTING_DOWN, "soon")
    assert "soon" in str(ended)
    assert errors.WriteStalled(300).deadline == 300
    assert errors.HandshakeRefused(RefusalReason.MAC).reason is RefusalReason.MAC
    assert "detail" in str(errors.HandshakeRefused(RefusalReason.MAC, "detail"))


@pytest.mark.spec("EL-1")
def test_error_codes_are_those_of_the_specification() -> None:
    names = [
        "protocol_violation",
        "unknown_service",
        "not_authorized",
        "shutting_down",
        "internal",
        "keepalive_timeout",
        "roster_conflict",
        "over_capacity",
    ]
    assert [(code.value, code.name.lower()) for code in ErrorCode] == list(enumerate(names, 1))
