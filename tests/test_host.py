"""Hosts: which texts are one, and that each address has one text only. Spec 3.3."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xlattice_trio.errors import IdentityError
from xlattice_trio.identity.host import DNSName, parse_host

V4, V6 = IPv4Address, IPv6Address

LONGEST_NAME = ".".join(["a" * 63] * 3 + ["a" * 61])  # 253 bytes

ACCEPTED = {
    "0.0.0.0": V4("0.0.0.0"),
    "10.0.0.1": V4("10.0.0.1"),
    "255.255.255.255": V4("255.255.255.255"),
    "224.0.0.1": V4("224.0.0.1"),
    "::": V6("::"),
    "::1": V6("::1"),
    "1::": V6("1::"),
    "2001:db8::1:0:0:1": V6("2001:db8:0:0:1:0:0:1"),
    "2001:db8:0:1:1:1:1:1": V6("2001:db8:0:1:1:1:1:1"),
    "::102:304": V6("::1.2.3.4"),
    "::fffe:102:304": V6("::fffe:102:304"),
    "::ffff:0:102:304": V6("::ffff:0:102:304"),
    "64:ff9b::102:304": V6("64:ff9b::1.2.3.4"),
    "fe80::1": V6("fe80::1"),
    "ff02::1": V6("ff02::1"),
    "localhost": DNSName("localhost"),
    "a": DNSName("a"),
    "a.example": DNSName("a.example"),
    "1.2.x3": DNSName("1.2.x3"),
    "0.a": DNSName("0.a"),
    "a--b.example": DNSName("a--b.example"),
    "xn--bcher-kva.example": DNSName("xn--bcher-kva.example"),
    "a" * 63: DNSName("a" * 63),
    "1" * 63 + ".a": DNSName("1" * 63 + ".a"),
    LONGEST_NAME: DNSName(LONGEST_NAME),
}

REFUSED_IPV4 = [
    "010.0.0.1", "10.0.0", "10.0.0.0.1", "10.0.0.256", "10.0.0.-1", "10.0.0.+1", "10.0.0.1 ", " 10.0.0.1",
    "10.0.0.1\n", "10.0.0.", "10..0.1", "1", "4294967295", "0x7f000001", "0x7f.0.0.1", "1.2.3", "1.2.3.00",
    "1.2.3.4/32", "\u0661.2.3.4", "1.2.3.4%eth0", "1e1.2.3.4",
]  # fmt: skip

REFUSED_IPV6 = [
    "2001:DB8::1", "2001:db8:0:0:1::1", "2001:0db8::1", "::1.2.3.4", "::ffff:102:304", "::ffff:1.2.3.4",
    "::ffff:0:0", "::ffff:ffff:ffff", "fe80::1%eth0", "fe80::1%", "[::1]", "1::3:4:5:6:7:8", "1:2:3:4:5:6:7::",
    "0::", "0:0:0:0:0:0:0:0", "::0", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1::2::3", ":", ":::", "::g", "::1 ",
    "::1\n", " ::1", "::00001", "::01", "1:", "::1/128", "2001:db8::0:1", "a.example:80", "1.2.3.4:80",
]  # fmt: skip

REFUSED_NAMES = [
    "", ".", "a.1", "a.1a", "a.example.", ".a", "a..b", "-a.example", "a-.example", "a.-b", "a.b-", "-", "a_b.example",
    "A.example", "a.exAmple", "a example", "a.example\n", "a.example ", "b\u00fccher.example", "\u0430.example",
    "a" * 64, "a." + "b" * 64, "b" * 64 + ".a", "a" * 64 + ".b", LONGEST_NAME + "a", "a/b", "a\0", "*.example",
]  # fmt: skip


@pytest.mark.spec("RO-4", "RO-5", "RO-7", "RO-8")
@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted_is(text: str) -> None:
    assert parse_host(text) == ACCEPTED[text]
    assert str(parse_host(text)) == text


@pytest.mark.spec("RO-4")
@pytest.mark.parametrize("text", REFUSED_IPV4)
def test_ipv4_is_refused_unless_four_plain_decimals(text: str) -> None:
    with pytest.raises(IdentityError):
        parse_host(text)


@pytest.mark.spec("RO-5", "RO-6")
@pytest.mark.parametrize("text", REFUSED_IPV6)
def test_ipv6_is_refused_unless_as_rfc_5952_writes_it(text: str) -> None:
    with pytest.raises(IdentityError):
        parse_host(text)


@pytest.mark.spec("RO-7")
@pytest.mark.parametrize("text", REFUSED_NAMES)
def test_name_is_refused(text: str) -> None:
    with pytest.raises(IdentityError):
        parse_host(text)


# ---- every IPv6 address, spelled by a second implementation of RFC 5952, section 4 ----


def rfc_5952(groups: tuple[int, ...]) -> str:
    runs: list[tuple[int, int]] = []  # start and length of each run of zero groups
    for i, group in enumerate(groups):
        if group == 0:
            if runs and sum(runs[-1]) == i:
                runs[-1] = (runs[-1][0], runs[-1][1] + 1)
            else:
                runs.append((i, 1))
    start, length = max(runs, key=lambda run: run[1], default=(0, 0))  # the first of equally long ones
    texts = [f"{group:x}" for group in groups]
    if length < 2:
        return ":".join(texts)
    return f"{':'.join(texts[:start])}::{':'.join(texts[start + length :])}"


def is_mapped(groups: tuple[int, ...]) -> bool:
    return groups[:6] == (0, 0, 0, 0, 0, 0xFFFF)


GROUPS = st.tuples(*[st.sampled_from([0, 0, 0, 1, 0xA, 0xFFFF]) | st.integers(0, 0xFFFF)] * 8)


@pytest.mark.spec("RO-5", "RO-6")
@given(GROUPS)
@example((0, 0, 0, 0, 0, 0xFFFF, 0x102, 0x304))
@example((1, 0, 0, 2, 0, 0, 3, 4))
def test_ipv6_has_one_text_unless_it_is_mapped(groups: tuple[int, ...]) -> None:
    text = rfc_5952(groups)
    if is_mapped(groups):
        with pytest.raises(IdentityError):
            parse_host(text)
    else:
        value = int.from_bytes(b"".join(group.to_bytes(2, "big") for group in groups), "big")
        assert parse_host(text) == IPv6Address(value)


def spellings(groups: tuple[int, ...]) -> list[str]:
    """Other texts that mean the same address to somebody."""
    full = [f"{group:04x}" for group in groups]
    short = [f"{group:x}" for group in groups]
    tail = ".".join(str(byte) for group in groups[6:] for byte in group.to_bytes(2, "big"))
    return [
        ":".join(full),
        ":".join(short),
        ":".join(short).upper(),
        ":".join([*short[:6], tail]),
        rfc_5952(groups).upper(),
        f"{rfc_5952(groups)}%1",
        f"[{rfc_5952(groups)}]",
        *(
            f"{':'.join(short[:start])}::{':'.join(short[end:])}"
            for start in range(8)
            for end in range(start + 1, 9)
            if not any(groups[start:end])
        ),
    ]


@pytest.mark.spec("RO-5")
@given(GROUPS)
@example((0x2001, 0xDB8, 0, 0, 1, 0, 0, 1))
@example((1, 0, 3, 4, 5, 6, 7, 8))
def test_any_other_spelling_of_an_ipv6_address_is_refused(groups: tuple[int, ...]) -> None:
    for text in set(spellings(groups)) - {rfc_5952(groups)}:
        with pytest.raises(IdentityError):
            parse_host(text)


@given(st.text(alphabet="0123456789abcdefxA:.-%[] \n_", max_size=24) | st.text(max_size=24))
def test_whatever_is_accepted_is_its_own_text(text: str) -> None:
    try:
        host = parse_host(text)
    except IdentityError:
        return
    assert str(host) == text
