"""Found by `xlattice fuzz run`: writes on memory, seed 6277507182501924867, example 9.

AssertionError, at fuzz/machines/writes.py:277: not closed a second after a write has failed [SE-83]
"""

from xlattice_trio.fuzz.finding import machine
from xlattice_trio.handshake.outcome import Side


def test_finding() -> None:
    state = machine("writes", "memory")
    try:
        state.fail_a_write(ends=False, reads=False, said='Bye', side=Side.INITIATOR, what='data')
    finally:
        state.teardown()


# What was said, up to the failure:
#
#   0  the application of the session: stop_reading()
#   0  attacker -> session: RECORD, 21 bytes: 03 00 00 11 7a a3 cf 4f a7 23 d2 8c 44 a4 7b 89 1e e2 1d 13 ef
#   0  attacker: takes nothing more from the connection
#   0  the application of the session: send_data(b'x')
#      1 s pass
