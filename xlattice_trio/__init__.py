"""XLattice cluster protocol 2 on Trio: the reference implementation."""

__version__ = "0.1.0"
