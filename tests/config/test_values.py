import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshproxy.config.values import Address, parse_duration


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("[::1]:80", "::1", 80),
        ("[0:0::1]:80", "::1", 80),
        ("Pricing.shop.svc:65535", "pricing.shop.svc", 65535),
        ("my_service:1", "my_service", 1),
    ],
)
def test_addresses_to_connect_to(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    [
        "", ":", "pricing", "pricing:", "pricing:0", "pricing:65536", "pricing:http", ":8080",
        "http://pricing:8080", "::1:8080", "[::1]", "[::1]8080", "[::1:8080", "[pricing]:80",
        "256.1.1.1:80", "1.2.3:80", "-a:80", "a b:80", "a..b:80", "a:8\n", "a:٣", "é:80", "a:-1",
    ],
)  # fmt: skip
def test_what_is_no_address_to_connect_to(text: str) -> None:
    with pytest.raises(ValueError, match=r"port|host|URL|IPv6"):
        Address.parse(text)


def test_a_listener_may_take_all_addresses_and_any_port() -> None:
    assert Address.parse_listen(":15006") == Address("", 15006)
    assert Address.parse_listen("127.0.0.1:0") == Address("127.0.0.1", 0)


@given(
    st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str),
    st.integers(min_value=1, max_value=65535),
)
def test_an_address_survives_its_text(host: str, port: int) -> None:
    address = Address(host, port)
    assert Address.parse(str(address)) == address
    assert address.is_loopback == ipaddress.ip_address(host).is_loopback


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_loopback(text: str) -> None:
    assert Address.parse(text).is_loopback


@pytest.mark.parametrize("text", ["0.0.0.0:1", "[::]:1", ":1"])
def test_wildcard(text: str) -> None:
    address = Address.parse_listen(text)
    assert address.is_wildcard
    assert not address.is_loopback


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("127.0.0.1:80", "127.0.0.1:80", True),
        ("127.0.0.1:80", "127.0.0.1:81", False),
        ("127.0.0.1:80", "127.0.0.2:80", False),
        ("0.0.0.0:80", "127.0.0.1:80", True),
        ("0.0.0.0:80", "[::1]:80", False),
        ("[::]:80", "[::1]:80", True),
        (":80", "[::1]:80", True),
        (":80", "127.0.0.1:80", True),
        ("localhost:80", "127.0.0.1:80", True),
        ("localhost:80", "[::1]:80", True),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_overlap_is_mutual(one: str, other: str, overlap: bool) -> None:
    first, second = Address.parse_listen(one), Address.parse_listen(other)
    assert first.overlaps(second) is overlap
    assert second.overlaps(first) is overlap


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("5m", 300.0), ("1h", 3600.0), ("1h30m", 5400.0), ("1.5", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5 s", "s", "-5s", "5d", "1e3", "5s ", "٥s", "5s\n", "."])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(text)
