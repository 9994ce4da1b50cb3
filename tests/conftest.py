"""What every test is protected from: the traces of the ones before."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def unconfigured_log() -> Iterator[None]:
    """The command line sets up the package's logger for the whole process; a test gets it as it is at first."""
    yield
    logger = logging.getLogger("xlattice_trio")
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
