"""Connections to addresses that were checked, and to no others."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pipelines.crawl.addresses import is_literal, refusal_of_address
from pipelines.crawl.settings import FetchSettings

Lookup = Callable[[str], Awaitable[list[str]]]


class RefusedAddress(Exception):
    """A host whose addresses may not be connected to."""


async def system_lookup(host: str) -> list[str]:
    """A host's addresses, as the system's resolver gives them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class CheckedResolver(AbstractResolver):
    """Looks hosts up, and hands on only addresses that may be connected to; the connection goes to just these."""

    def __init__(self, allow_hosts: tuple[str, ...], lookup: Lookup) -> None:
        self._allow_hosts = allow_hosts
        self._lookup = lookup
        self._checked: set[str] = {host for host in allow_hosts if is_literal(host)}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host that may be connected to.

        Raises:
            RefusedAddress: there are none among them.
            OSError: the host has no address.
        """
        addresses = await self._lookup(host)
        if not addresses:
            raise OSError(f"{host} has no address")
        refusals: list[str] = []
        if host.lower().rstrip(".") not in self._allow_hosts:
            checked = {address: refusal_of_address(address) for address in addresses}
            refusals = [why for why in checked.values() if why is not None]
            addresses = [address for address, why in checked.items() if why is None]
        if not addresses:
            raise RefusedAddress("; ".join(refusals[:3]))
        self._checked.update(addresses)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=socket.IPPROTO_TCP,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held open."""

    def open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for an address: the last look at where a connection goes, however it came by its address.

        Raises:
            RefusedAddress: it is neither public nor one that `resolve` handed on.
        """
        family, kind, protocol, _, address = info
        text = str(address[0])
        refusal = refusal_of_address(text)
        if refusal is not None and text not in self._checked:
            raise RefusedAddress(refusal)
        return socket.socket(family, kind, protocol)


@asynccontextmanager
async def opened_session(settings: FetchSettings, lookup: Lookup) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that connects to checked addresses only, checks certificates, and keeps no cookies."""
    resolver = CheckedResolver(settings.allow_hosts, lookup)
    connector = aiohttp.TCPConnector(
        limit=0,  # counted by us, host by host
        resolver=resolver,
        # A second look-up might give another address than the one that was checked, so what is looked up is used once.
        use_dns_cache=False,
        socket_factory=resolver.open_socket,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        headers={"User-Agent": settings.user_agent, "Accept-Encoding": "identity"},
        timeout=aiohttp.ClientTimeout(
            total=settings.total_s, connect=settings.connect_s, sock_read=settings.idle_s, ceil_threshold=1e9
        ),
        auto_decompress=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
    ) as session:
        yield session
