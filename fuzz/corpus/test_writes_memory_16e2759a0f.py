"""Found by `xlattice fuzz run`: writes on memory, seed 6277507182501924867, example 6.

AssertionError, at fuzz/machines/writes.py:329: not closed a second after a KeepAlive has failed [SE-83]
"""

from xlattice_trio.fuzz.finding import machine
from xlattice_trio.handshake.outcome import Side


def test_finding() -> None:
    state = machine("writes", "memory")
    try:
        state.start()
        state.fail_a_keepalive(breaks=True, reads=False, room=0, side=Side.INITIATOR)
    finally:
        state.teardown()


# What was said, up to the failure:
#
#   0  the application of the session: stop_reading()
#   0  attacker: takes nothing more from the connection
#      1 s pass
#      1 s pass
