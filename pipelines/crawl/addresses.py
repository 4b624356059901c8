"""Which URLs and which addresses are not connected to: all that is not the public web."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from yarl import URL

_REFUSED_V4 = {
    IPv4Network("0.0.0.0/8"): "this network",
    IPv4Network("10.0.0.0/8"): "private",
    IPv4Network("100.64.0.0/10"): "carrier-grade NAT",
    IPv4Network("127.0.0.0/8"): "loopback",
    IPv4Network("168.63.129.16/32"): "a cloud's metadata",  # Azure's, at a public address
    IPv4Network("169.254.0.0/16"): "link-local",  # most clouds' metadata lie here
    IPv4Network("172.16.0.0/12"): "private",
    IPv4Network("192.0.0.0/24"): "reserved",
    IPv4Network("192.0.2.0/24"): "reserved",
    IPv4Network("192.88.99.0/24"): "reserved",
    IPv4Network("192.168.0.0/16"): "private",
    IPv4Network("198.18.0.0/15"): "reserved",
    IPv4Network("198.51.100.0/24"): "reserved",
    IPv4Network("203.0.113.0/24"): "reserved",
    IPv4Network("224.0.0.0/4"): "multicast",
    IPv4Network("240.0.0.0/4"): "reserved",
}
_REFUSED_V6 = {
    IPv6Network("::1/128"): "loopback",
    IPv6Network("::/128"): "unspecified",
    IPv6Network("fc00::/7"): "private",
    IPv6Network("fe80::/10"): "link-local",
    IPv6Network("ff00::/8"): "multicast",
    IPv6Network("2001::/23"): "reserved",  # Teredo among them, which holds an IPv4 address
    IPv6Network("2001:db8::/32"): "reserved",
    IPv6Network("2002::/16"): "6to4",  # holds an IPv4 address; given up in 2015
    IPv6Network("3fff::/20"): "reserved",
}
_GLOBAL_V6 = IPv6Network("2000::/3")
_NAT64 = IPv6Network("64:ff9b::/96")
_MOST_PARSED = 5
_LOWEST_FREE_PORT = 1024


def refusal_of_address(text: str) -> str | None:
    """Why an address is not connected to, None where it may be. IPv6 addresses that hold an IPv4 one count as that."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return f"{text} is no address"
    inner = address
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            inner = address.ipv4_mapped
        elif address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
    kind = _kind(inner)
    return None if kind is None else f"{text} is {kind}"


def _kind(address: IPv4Address | IPv6Address) -> str | None:
    if isinstance(address, IPv4Address):
        return next((kind for network, kind in _REFUSED_V4.items() if address in network), None)
    kind = next((kind for network, kind in _REFUSED_V6.items() if address in network), None)
    return kind or (None if address in _GLOBAL_V6 else "reserved")


def parsed_url(text: str) -> URL | None:
    """The URL without its fragment, in its one normal form; None where it is none."""
    try:
        # More than once: a host that is partly ASCII keeps its capitals the first time, and blanks come to its end.
        for _ in range(_MOST_PARSED):
            url = URL(text.strip()).with_fragment(None)
            url.raw_host, url.port  # noqa: B018 - a bad port shows only when it is asked for
            if str(url) == text:
                return url
            text = str(url)
    except (ValueError, TypeError, IndexError):  # yarl looks for the first character of an empty host
        pass
    return None


def host_of(url: URL) -> str:
    """The name or address of a URL's host, in the form by which hosts are told apart; without port."""
    return (url.raw_host or "").lower().rstrip(".")


def refusal_of_url(url: URL, allow_hosts: tuple[str, ...] = ()) -> str | None:
    """Why a URL is not asked for, None where it may be. What a host's name stands for is looked up later.

    Ports below 1024 other than 80 and 443 belong to other services than the web's.
    """
    host = host_of(url)
    if url.scheme not in ("http", "https"):
        return f"{url.scheme or 'no scheme'}: only http and https are fetched"
    if not host:
        return "no host"
    if url.raw_user is not None or url.raw_password is not None:
        return "it holds credentials"
    if url.port is None or not (url.port in (80, 443) or _LOWEST_FREE_PORT <= url.port < 1 << 16):
        return f"port {url.port}: only 80, 443 and those from {_LOWEST_FREE_PORT} on are fetched from"
    if host in allow_hosts:
        return None
    return refusal_of_address(host) if is_literal(host) else None


def is_literal(host: str) -> bool:
    """Whether a host is an address, or would be taken for one: 127.1, 0x7f.0.0.1 and 2130706433 are loopback."""
    return ":" in host or host.replace(".", "").isdecimal() or host.startswith("0x")
