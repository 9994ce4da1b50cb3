"""How many handshakes a driver does in a second of one core, beside what their RSA operations alone would allow.

Both sides of each handshake are the node's own, and every value in it is new. In turn with each block of handshakes the
RSA operations of as many are done and nothing else, with the same keys: OAEP there and back and, where the initiator
signs, PSS there and back. The two are of one process and one moment, so that their ratio says something on any machine.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from xlattice_trio import crypto
from xlattice_trio.crypto import Label
from xlattice_trio.fuzz.cast import Cast, make_cast
from xlattice_trio.fuzz.drivers import make_driver
from xlattice_trio.fuzz.oracle import check_agreement
from xlattice_trio.fuzz.target import Driver
from xlattice_trio.handshake.initiator import Intent
from xlattice_trio.handshake.outcome import Port
from xlattice_trio.limits import KEY_SIZE
from xlattice_trio.wire.messages import Purpose, Role

BLOCK = 20  # handshakes
ROLES = (Role.MEMBER, Role.ANONYMOUS)


@attrs.frozen
class Rate:
    """What was measured for one role. Seconds are of processor time; `rsa_seconds` are those of RSA alone."""

    role: Role
    handshakes: int
    seconds: float
    rsa_seconds: float

    @property
    def a_second(self) -> float:
        """Handshakes in a second of one core, both sides."""
        return self.handshakes / self.seconds

    @property
    def limit(self) -> float:
        """How many there could be if nothing but RSA cost time."""
        return self.handshakes / self.rsa_seconds


def measure(name: str, *, bits: int, seconds: float) -> Iterator[Rate]:
    """Measure each of ROLES for `seconds` of processor time, with RSA keys of `bits` bits. Raises UsageError."""
    cast = make_cast(bits=bits)
    driver = make_driver(name)  # one for all: another would draw the same once more
    try:
        for role in ROLES:
            _shake_hands(driver, cast, role)  # what is made once is made before
            handshakes, spent, rsa_spent = 0, 0.0, 0.0
            while spent + rsa_spent < seconds:
                spent += _time(_shake_hands, driver, cast, role)
                rsa_spent += _time(_rsa_alone, cast, role)
                handshakes += BLOCK
            yield Rate(role, handshakes, spent, rsa_spent)
    finally:
        driver.close()


def _time(function: Callable[..., None], *args: Any) -> float:
    began = time.process_time()
    function(*args)
    return time.process_time() - began


def _shake_hands(driver: Driver, cast: Cast, role: Role) -> None:
    port = Port.CLUSTER if role is Role.MEMBER else Port.CLIENT
    target, dialler = driver.responder(port, cast=cast), driver.initiator()
    knock = (cast.knock or b"") if role is Role.MEMBER else b""
    identity = cast.members[0] if role is Role.MEMBER else None
    intent = Intent(cast.card, cast.cluster_id, role, Purpose.STREAM, "echo", identity, knock)
    for _ in range(BLOCK):
        ours, theirs = dialler.dial(intent), target.connect()
        theirs.send(ours.received())
        ours.send(theirs.received())
        theirs.send(ours.received())
        assert ours.established is not None
        assert theirs.established is not None
        check_agreement(ours.established, theirs.established)
        ours.reset()
        theirs.reset()


def _rsa_alone(cast: Cast, role: Role) -> None:
    assert cast.responder is not None
    ck_priv, ck, sk_priv = cast.responder.ck_priv, cast.card.ck, cast.members[0].sk_priv
    sk = sk_priv.public_key()
    for number in range(BLOCK):
        secret = number.to_bytes(KEY_SIZE, "big")
        crypto.oaep_decrypt(ck_priv, crypto.oaep_encrypt(ck, secret), bytes(KEY_SIZE))
        if role is not Role.ANONYMOUS:
            crypto.pss_verify(
                sk, Label.HELLO_SIGNATURE, secret, crypto.pss_sign(sk_priv, Label.HELLO_SIGNATURE, secret)
            )


def table(rates: Sequence[Rate]) -> list[str]:
    """A line for each role, for people."""
    return [
        f"{one.role.name.lower()}: {one.a_second:,.0f} handshakes a second of one core, "
        f"{one.a_second / one.limit:.0%} of the {one.limit:,.0f} that their RSA operations alone allow"
        for one in rates
    ]
