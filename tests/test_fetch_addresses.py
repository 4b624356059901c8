"""Which addresses and URLs are never connected to, held against the standard library's registry."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.crawl.addresses import host_of, parsed_url, refusal_of_address, refusal_of_url

REFUSED_V4 = """
0.0.0.0 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1 127.255.255.254 168.63.129.16
169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.192 192.0.2.1 192.168.0.1 198.18.0.1 198.51.100.1 203.0.113.9
224.0.0.1 239.1.2.3 240.0.0.1 255.255.255.255 192.88.99.1
"""
REFUSED_V6 = """
:: ::1 ::127.0.0.1 ::ffff:127.0.0.1 ::ffff:a00:1 ::ffff:169.254.169.254 64:ff9b::7f00:1 64:ff9b::10.0.0.1
64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:7f00:1::1 2002:0a00:0001::1 3fff::1 5f00::1 fc00::1 fd00:ec2::254
fe80::1 fe80::1%eth0 fec0::1 ff02::1
"""
REFUSED = [*REFUSED_V4.split(), *REFUSED_V6.split(), "1234", "localhost"]
ALLOWED_V4 = "1.1.1.1 93.184.216.34 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1"
ALLOWED_V6 = "2606:4700::1111 2a00::1 64:ff9b::101:101 ::ffff:1.1.1.1"


@pytest.mark.parametrize("address", REFUSED)
def test_refused_addresses(address: str) -> None:
    refusal = refusal_of_address(address)
    assert refusal is not None
    assert refusal.startswith(address)


@pytest.mark.parametrize("address", [*ALLOWED_V4.split(), *ALLOWED_V6.split()])
def test_public_addresses(address: str) -> None:
    assert refusal_of_address(address) is None


@given(st.integers(0, 2**32 - 1))
def test_what_is_allowed_is_global_by_the_standard_library_too(number: int) -> None:
    address = IPv4Address(number)
    if refusal_of_address(str(address)) is None:
        assert address.is_global
        assert not any((address.is_private, address.is_multicast, address.is_reserved, address.is_loopback))


@given(st.integers(0, 2**128 - 1) | st.integers(0x20010000 << 96, (0x20020000 << 96) + 2**100))
def test_what_is_allowed_of_ipv6_is_global_too(number: int) -> None:
    address = IPv6Address(number)
    if refusal_of_address(str(address)) is None and address.ipv4_mapped is None:
        assert address.is_global
        assert not any((address.is_private, address.is_multicast, address.is_reserved, address.is_link_local))


@given(st.integers(0, 2**32 - 1))
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_itself(number: int) -> None:
    plain = refusal_of_address(str(IPv4Address(number))) is None
    for prefix in (0xFFFF << 32, 0x64FF9B << 96):
        assert (refusal_of_address(str(IPv6Address(prefix | number))) is None) == plain


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("ftp://a.test/x", "ftp: only http and https"),
        ("file:///etc/passwd", "file: only http and https"),
        ("data:image/png;base64,AAAA", "data: only http and https"),
        ("a.test/x.jpg", "no scheme: only http"),
        ("http:///x", "no host"),
        ("http://me@a.test/x", "credentials"),
        ("http://me:word@a.test/x", "credentials"),
        ("http://a.test:22/x", "port 22"),
        ("https://a.test:0/x", "port 0"),
        ("http://10.0.0.1/x", "10.0.0.1 is private"),
        ("http://[::1]/x", "::1 is loopback"),
        ("http://[fe80::1%25eth0]/", "link-local"),
        ("http://2130706433/", "no address"),
        ("http://127.1/", "no address"),
        ("http://0x7f.0.0.1/", "no address"),
        ("http://127.0.0.1./", "loopback"),
    ],
)
def test_refused_urls(text: str, why: str) -> None:
    url = parsed_url(text)
    assert url is not None
    assert why in (refusal_of_url(url) or "")


def test_urls_that_may_be_asked_for() -> None:
    for text in (
        "http://a.test/x",
        "HTTPS://A.test:443",
        "http://a.test:8080/x?y#z",
        "http://1.1.1.1/",
        "http://ä.test/",
    ):
        url = parsed_url(text)
        assert url is not None
        assert refusal_of_url(url) is None
    private = parsed_url("http://127.0.0.2:8080/x")
    assert private is not None
    assert refusal_of_url(private) is not None
    assert refusal_of_url(private, ("127.0.0.2",)) is None
    assert refusal_of_url(private, ("127.0.0.3",)) is not None


def test_spellings_of_one_url_and_of_one_host_are_one() -> None:
    same = {
        str(parsed_url(text)) for text in ("http://A.test:80/x y", " http://a.test/x%20y#top", "http://a.test/x%20y")
    }
    assert same == {"http://a.test/x%20y"}
    hosts = {host_of(url) for url in map(parsed_url, ("http://A.test./x", "https://a.test:8443")) if url is not None}
    assert hosts == {"a.test"}


@pytest.mark.parametrize("text", ["http://[half/x", "http://a.test:port/", "http://a.test:99999999/"])
def test_what_is_no_url(text: str) -> None:
    url = parsed_url(text)
    assert url is None or refusal_of_url(url) is not None


@given(st.text(max_size=60) | st.text(max_size=60).map(lambda rest: f"http://{rest}"))
@example("0://A.\u00a1")
@example("0://[]@")
@example("0:// #")
def test_no_text_breaks_the_check(text: str) -> None:
    url = parsed_url(text)
    if url is not None:
        refusal_of_url(url)
        assert parsed_url(str(url)) in (url, None)
