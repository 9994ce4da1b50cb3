"""Found by `xlattice fuzz run`: writes on memory, seed 6277507182501924867, example 9.

AssertionError, at fuzz/machines/writes.py:299: the application was told [GotEnd()], not [GotEnd(),
GotFailure(error='PeerReported', code=<ErrorCode.OVER_CAPACITY: 8>, reason=None)] [SE-59] [SE-65] [SE-66] [SE-68]
"""

from xlattice_trio.fuzz.finding import machine
from xlattice_trio.handshake.outcome import Side


def test_finding() -> None:
    state = machine("writes", "memory")
    try:
        state.fail_a_write(ends=False, reads=False, said='Bye, Error', side=Side.INITIATOR, what='data')
    finally:
        state.teardown()


# What was said, up to the failure:
#
#   0  the application of the session: stop_reading()
#   0  attacker -> session: RECORD, 21 bytes: 03 00 00 11 7a a3 cf 4f a7 23 d2 8c 44 a4 7b 89 1e e2 1d 13 ef
#   0  attacker -> session: RECORD, 25 bytes: 03 00 00 15 e5 fa 34 af 01 fc a6 58 5d 32 7b e2 e5 b2 de d4 15 a9 31 d9
#   0  attacker: takes nothing more from the connection
#   0  the application of the session: send_data(b'x')
#      1 s pass
#   0  the application of the session: send_data(b'x')
#   0  the application of the session: send_bye()
#   0  the application of the session: read_again()
