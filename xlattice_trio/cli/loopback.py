"""Addresses of this machine alone, for several members on it: the same ports on each."""

import random
import socket
from collections.abc import Sequence

from xlattice_trio.cli.common import CheckFailed

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")

# Below the ports that systems give to outgoing connections.
_PORTS = range(20_000, 32_768)


def find_hosts() -> Sequence[str]:
    """127.0.0.1 to 127.0.0.3, or, where the system has not all of them, those of 127.0.0.1 and ::1 that it has."""
    hosts = HOSTS if all(can_bind(host) for host in HOSTS) else (HOSTS[0], "::1")
    return [host for host in hosts if can_bind(host)]


def find_ports(hosts: Sequence[str], count: int) -> Sequence[int]:
    """Ports that are free on all of `hosts`."""
    for _ in range(100):
        ports = random.SystemRandom().sample(_PORTS, count)
        if all(can_bind(host, port) for host in hosts for port in ports):
            return ports
    raise CheckFailed(f"no {count} ports are free on {', '.join(hosts)}")


def can_bind(host: str, port: int = 0) -> bool:
    """Whether a server could listen there; port 0 is any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, port))
    except OSError:
        return False
    return True
