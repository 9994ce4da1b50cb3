"""`python -m xlattice_trio`: the same as `xlattice`."""

from xlattice_trio.cli import main

main(prog_name="xlattice")
