"""Why a connection could not be opened, in few words."""

import os
import socket
from collections.abc import Iterator


def reason(exc: BaseException) -> str:
    """The text of an error for one line of a log or a message.

    For an OSError the operating system's words. If several addresses were tried, which `trio.open_tcp_stream` reports
    as one error with a group behind it, those of each, once.
    """
    return ", ".join(dict.fromkeys(_texts(exc)))


def _texts(exc: BaseException) -> Iterator[str]:
    if isinstance(exc, BaseExceptionGroup):
        # An OSError without a number is Trio's word for an address that ours cannot reach, which explains nothing.
        telling = [inner for inner in exc.exceptions if not isinstance(inner, OSError) or inner.errno]
        for inner in telling or exc.exceptions:
            yield from _texts(inner)
    elif isinstance(exc, OSError) and isinstance(exc.__cause__, OSError | BaseExceptionGroup):
        yield from _texts(exc.__cause__)
    elif isinstance(exc, OSError) and exc.errno and not isinstance(exc, socket.gaierror):
        yield os.strerror(exc.errno)  # Trio has put the address into `strerror`, as Python writes it
    elif isinstance(exc, OSError) and exc.strerror:
        yield exc.strerror
    else:
        yield str(exc) or type(exc).__name__
