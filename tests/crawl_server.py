"""A web server on loopback addresses that does all that servers do to a crawler, and remembers who asked for what.

The first step of a path says what becomes of it: /good/7.png is a picture, /drip/7.jpg never ends. Each address of
127.0.0.0/8 that it listens at is a host of its own.
"""

import asyncio
import gzip
import socket
import struct
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

ROBOTS = b"User-agent: *\nDisallow: /forbidden/\n"
TDMREP = b'[{"location": "/reserved/*", "tdm-reservation": 1}, {"location": "/", "tdm-reservation": 0}]'
BOMB_BYTES = 100 * 2**20
_EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * 3000


@lru_cache(512)
def picture(name: str) -> bytes:
    """A small PNG, another for each name."""
    random = np.random.default_rng(zlib.crc32(name.encode()))
    image = np.kron(random.integers(0, 256, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    return bytes(cv2.imencode(".png", image)[1])


@lru_cache(1)
def bomb() -> bytes:
    pack = zlib.compressobj(9, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    parts = [pack.compress(b"\xff\xd8\xff\xe0" + bytes(1020))]
    parts += [pack.compress(bytes(2**20)) for _ in range(BOMB_BYTES >> 20)]
    return b"".join([*parts, pack.flush()])


@dataclass
class Asked:
    """One request."""

    host: str
    path: str
    at_s: float
    connection: int
    headers: dict[str, str]


@dataclass
class CrawlServer:
    """What was asked, and how widely; `paths` may be given other answers than those of their first step."""

    port: int = 0
    asked: list[Asked] = field(default_factory=list)
    connections: Counter[str] = field(default_factory=Counter)
    most_at_once: Counter[str] = field(default_factory=Counter)
    files: dict[str, bytes | int] = field(default_factory=dict)  # path or host + path -> body, or status
    hold_s: float = 0.0  # before each picture
    _now: defaultdict[str, set[asyncio.StreamReader]] = field(default_factory=lambda: defaultdict(set))
    _times: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    _numbers: int = 0

    def url(self, path: str, host: str = "127.0.0.2") -> str:
        return f"http://{host}:{self.port}{path}"

    def paths(self, host: str | None = None) -> list[str]:
        return [asked.path for asked in list(self.asked) if host in (None, asked.host)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        self._numbers += 1
        number = self._numbers
        self.connections[host] += 1
        try:
            while (request := await _request(reader)) is not None:
                path, headers = request
                self.asked.append(Asked(host, path, time.monotonic(), number, headers))
                self._now[host].add(reader)
                # Of one that hung up the server may learn before its answer is stopped.
                served = sum(not (other.at_eof() or other.exception()) for other in self._now[host])
                self.most_at_once[host] = max(self.most_at_once[host], served)
                try:
                    # Whoever hangs up is no longer served, so that it is not counted as being so.
                    answering = asyncio.create_task(self._answer(host, path, writer))
                    gone = asyncio.create_task(_gone(reader))
                    await asyncio.wait([answering, gone], return_when=asyncio.FIRST_COMPLETED)
                    for task in (answering, gone):
                        task.cancel()
                    results = await asyncio.gather(answering, gone, return_exceptions=True)
                finally:
                    self._now[host].discard(reader)
                if results[0] is not True:
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(self, host: str, path: str, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        kind = path.split("/")[1]
        self._times[host + path] += 1
        first = self._times[host + path] == 1
        given = self.files.get(host + path, self.files.get(path))
        if given is not None:
            return await _send(writer, *((given, b"") if isinstance(given, int) else (200, given)))
        if path == "/robots.txt":
            return await _send(writer, 200, ROBOTS)
        if path == "/.well-known/tdmrep.json":
            return await _send(writer, 200, TDMREP)
        image = picture(path)
        if kind in ("good", "forbidden", "reserved"):
            await asyncio.sleep(self.hold_s)
            return await _send(writer, 200, image, "Content-Type: image/png")
        if kind == "missing":
            return await _send(writer, 404, b"<html>nothing here</html>")
        if kind == "slow-down" and first:
            return await _send(writer, 429, b"", "Retry-After: 1")
        if kind == "stumble" and first:
            return await _send(writer, 500, b"oh")
        if kind in ("slow-down", "stumble"):
            return await _send(writer, 200, image)
        if kind == "broken":
            return await _send(writer, 503, b"")
        if kind == "later":
            return await _send(writer, 429, b"", "Retry-After: 86400")
        if kind == "html":
            return await _send(writer, 200, b"<!DOCTYPE html><html>" + b"x" * 4000, "Content-Type: image/jpeg")
        if kind == "empty":
            return await _send(writer, 200, b"", "Content-Type: image/jpeg")
        if kind == "packed":
            return await _send(writer, 200, gzip.compress(image), "Content-Encoding: gzip")
        if kind == "odd-packing":
            return await _send(writer, 200, image, "Content-Encoding: br")
        if kind == "bomb":
            return await _send(writer, 200, bomb(), "Content-Encoding: gzip", "Content-Type: image/jpeg")
        if kind == "noai":
            return await _send(writer, 200, image, "X-Robots-Tag: noindex, NoAI")
        if kind == "noai-other":
            return await _send(writer, 200, image, "X-Robots-Tag: otherbot: noai")
        if kind == "tdm":
            return await _send(writer, 200, image, "TDM-Reservation: 1")
        if kind == "loop":
            return await _send(writer, 302, b"", f"Location: {path}")
        if kind == "to":  # /to/HOST/PATH; the port is ours where the host is loopback
            _, _, target, rest = unquote(path).split("/", 3)
            port = f":{self.port}" if target.startswith("127.") else ""
            return await _send(writer, 301, b"", f"Location: http://{target}{port}/{rest}")
        return await self._bad(kind, image, writer)

    async def _bad(self, kind: str, image: bytes, writer: asyncio.StreamWriter) -> bool:
        head = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n"
        if kind == "short":
            writer.write(head + b"Content-Length: %d\r\n\r\n" % (len(image) + 50) + image)
        elif kind == "long":
            writer.write(head + b"Content-Length: %d\r\n\r\n" % (len(image) - 20) + image)
        elif kind == "odd-type":
            writer.write(head.replace(b"image/", b"image/\xff"))
            writer.write(b"Content-Length: %d\r\n\r\n" % len(image) + image)
        elif kind == "odd-words":
            writer.write(b"HTTP/1.1 404 no\xff\xfe\r\nContent-Length: 0\r\n\r\n")
        elif kind == "reset":
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(image) + image[: len(image) // 2])
            await writer.drain()
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif kind == "no-http":
            writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        elif kind == "drip":
            writer.write(head + b"Content-Length: 1000000\r\n\r\n" + image[:16])
            while True:
                await writer.drain()
                await asyncio.sleep(0.05)
                writer.write(b"x")
        elif kind == "silent":
            await asyncio.sleep(600)
        elif kind == "endless":
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"40\r\n" + image[:64] + b"\r\n")
            while True:
                writer.write(b"4000\r\n" + bytes(0x4000) + b"\r\n")
                await writer.drain()
        elif kind in ("tail", "hollow"):
            # A packed image with no end of bytes after it, or blocks without end of which each is empty.
            pieces = {"tail": (gzip.compress(image), bytes(0x4000)), "hollow": (gzip.compress(b"")[:10], _EMPTY_BLOCKS)}
            piece, again = pieces[kind]
            writer.write(head + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                writer.write(b"%x\r\n" % len(piece) + piece + b"\r\n")
                await writer.drain()
                piece = again
        else:
            raise AssertionError(f"the test server knows no {kind}")
        await writer.drain()
        return False


async def _request(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]] | None:
    line = await reader.readline()
    if not line:
        return None
    headers = {}
    while (header := (await reader.readline()).decode("latin-1").strip()) != "":
        name, _, value = header.partition(":")
        headers[name.lower()] = value.strip()
    return line.split()[1].decode(), headers


async def _gone(reader: asyncio.StreamReader) -> None:
    """Wait for the client to hang up. A client that waits for its answer sends nothing, so nothing is eaten."""
    while not (reader.at_eof() or reader.exception()):
        await asyncio.sleep(0.005)


async def _send(writer: asyncio.StreamWriter, status: int, body: bytes, *headers: str) -> bool:
    lines = [f"HTTP/1.1 {status} Said so", f"Content-Length: {len(body)}", *headers, "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    await writer.drain()
    return True


@contextmanager
def crawl_server(hosts: list[str] | None = None) -> Iterator[CrawlServer]:
    """A server that listens at all hosts, at one port, in a thread of its own."""
    server = CrawlServer()
    bomb()  # takes a while to make, so not while someone waits for it
    loop = asyncio.new_event_loop()
    opened: list[asyncio.Server] = []

    async def begin() -> None:
        for host in hosts or ["127.0.0.2"]:
            opened.append(await asyncio.start_server(server.serve, host, server.port, limit=1 << 20))
            server.port = opened[-1].sockets[0].getsockname()[1]

    async def end() -> None:
        for listening in opened:
            listening.close()
        mine = asyncio.current_task()
        others = [task for task in asyncio.all_tasks() if task is not mine]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    loop.run_until_complete(begin())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def is_outside(address: object) -> bool:
    """Whether a TCP address is another machine's."""
    if not isinstance(address, tuple):
        return False
    import psutil

    own = {str(a.address).partition("%")[0] for of in psutil.net_if_addrs().values() for a in of}
    host = str(address[0]).partition("%")[0]
    return not (host.startswith("127.") or host in own)


@contextmanager
def nothing_leaves() -> Iterator[list[object]]:
    """Connections to other machines fail, whoever asks for them; what was asked for is listed."""
    reached: list[object] = []
    connect: Callable[..., None] = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if self.type == socket.SOCK_STREAM and is_outside(address):
            reached.append(address)
            raise PermissionError(f"the test keeps {address} from being connected to")
        connect(self, address)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", guarded)
        yield reached
