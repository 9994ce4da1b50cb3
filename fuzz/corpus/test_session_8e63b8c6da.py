"""Found by `xlattice fuzz run`: session on memory, seed 18132818527589928411, example 3.

AssertionError, at fuzz/machines/session.py:610: the target is in FAILED, not in FAILING
"""

from xlattice_trio.fuzz.finding import machine
from xlattice_trio.handshake.outcome import Side


def test_finding() -> None:
    state = machine("session", "memory")
    try:
        state.begin(side=Side.INITIATOR, keepalive=0, start='OPEN', at=0)
        state.begin_with(keepalive=1500, side=Side.INITIATOR, words=['byte comes', 'it closes', 'a linger'])
    finally:
        state.teardown()


# What was said, up to the failure:
#
#   0  attacker: reset the connection
#   1  attacker -> session: RECORD, 22 bytes: 03 00 00 12 7d b4 52 f2 23 8d bc d3 91 ae d1 67 97 c6 ad 23 97 0d
#   1  the application of the session: close()
#   1  attacker <- session: RECORD, 21 bytes: 03 00 00 11 d6 a1 e9 06 e9 57 a9 ef e8 54 b8 0c f5 8b f5 26 54
#      5 s pass
#   1  attacker <- session: RECORD, 21 bytes: 03 00 00 11 59 fd c6 9b 20 c9 eb 31 27 77 fd 11 58 56 ab 70 ec
#   1  attacker <- session: RECORD, 21 bytes: 03 00 00 11 7f 15 92 93 3f 2c 5e c7 c4 a2 e0 69 46 e5 37 ae e1
#   1  attacker <- session: RECORD, 25 bytes: 03 00 00 15 f5 00 9a 91 9c 37 e9 ce 3a 26 29 b3 fe 82 52 d8 5b ed b4 91
