"""Found by the machine members on memory.

AssertionError, at fuzz/members_model.py: 0 has a session with 1, 20 s after it adopted epoch 2, which is without one
of them [RO-55] [RO-58]
"""

from xlattice_trio.fuzz.finding import machine


def test_finding() -> None:
    state = machine("members", "memory")
    try:
        state.begin(rogue=1, anchor=0, way='deaf', twice=False, work=0.0, luck=0)
        state.rogue_dials(whom=0)
        state.adopt(change='rogue', whom=0, where=0, then='go on')
        state.wait(seconds=20)
        state.holds()
    finally:
        state.teardown()


# What was said, up to the failure:
#
#      1 s pass
#      1 s pass
#      1 s pass
#      20 s pass
