"""Hosts: the one text that each address and each name has. Spec 3.3.

A host is dialled and compared by its bytes, so that two spellings of one address must not both be allowed, and a name
must not be one that some system reads as an address.
"""

import re
from ipaddress import AddressValueError, IPv4Address, IPv6Address

import attrs

from xlattice_trio.errors import IdentityError
from xlattice_trio.limits import HOST_MAX

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_LAST_LABEL = "[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME = re.compile(rf"(?:{_LABEL}\.)*{_LAST_LABEL}")


@attrs.frozen
class DNSName:
    """A host that has to be resolved."""

    name: str

    def __str__(self) -> str:
        return self.name


Host = IPv4Address | IPv6Address | DNSName


def parse_host(text: str) -> Host:
    """The address or name that a host is. Raises IdentityError unless `text` is its one spelling.

    IPv4 is four decimal numbers; IPv6 as RFC 5952, section 4, writes it, in hexadecimal groups only, without a zone,
    and no IPv4-mapped one; a DNS name is of lower-case labels, the last of which begins with a letter. What it is the
    address or name of does not matter. [RO-8]
    """
    if ":" in text:
        return _parse_ipv6(text)
    if len(text) <= HOST_MAX and _DNS_NAME.fullmatch(text):  # [RO-7]
        return DNSName(text)
    try:
        return IPv4Address(text)  # [RO-4]
    except AddressValueError:
        raise IdentityError(
            f"{text!r} is no host: an IPv4 address (192.0.2.1), an IPv6 address (2001:db8::1) or a DNS name in lower "
            f"case whose last label begins with a letter (node1.example.org) is expected"
        ) from None


def _parse_ipv6(text: str) -> IPv6Address:
    try:
        address = IPv6Address(text)
    except AddressValueError as exc:
        raise IdentityError(f"{text!r} is no IPv6 address: {exc}") from None
    if address.scope_id is not None:
        raise IdentityError(f"{text!r} names a zone, which means something on one machine only: leave it out")
    if address.ipv4_mapped is not None:  # [RO-6]
        raise IdentityError(f"{text!r} is an IPv4-mapped address: write {address.ipv4_mapped}")
    if str(address) != text:  # [RO-5]
        raise IdentityError(f"{text!r} is not how RFC 5952 writes this address: write {address}")
    return address
