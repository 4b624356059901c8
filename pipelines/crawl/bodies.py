"""The body of an answer, counted as it comes and as it unpacks."""

import zlib
from collections.abc import Callable

import aiohttp

_CHUNK_BYTES = 1 << 16
_ENOUGH_TO_TELL = 512  # bytes by which a format is known


class TooLarge(Exception):
    """A body over the limit; `start` is what was read of it."""

    def __init__(self, why: str, start: bytes) -> None:
        super().__init__(why)
        self.start = start


class Unwanted(Exception):
    """A body of which enough was seen; `seen_bytes` of it were read."""

    def __init__(self, why: str, seen_bytes: int) -> None:
        super().__init__(why)
        self.seen_bytes = seen_bytes


class Undecodable(Exception):
    """A body in an encoding that was not asked for and can't be undone."""


async def read_body(
    response: aiohttp.ClientResponse, largest_bytes: int, look: Callable[[bytes], str | None] | None = None
) -> bytes:
    """The whole body, unpacked where the server packed it unasked; neither form may be over `largest_bytes`.

    `look` is shown the first bytes and says why the rest is not wanted, or None.

    Raises:
        TooLarge, Unwanted, Undecodable: as these say.
    """
    packed = response.headers.get("Content-Encoding", "identity").strip().lower()
    if packed not in ("identity", "", "gzip", "x-gzip", "deflate"):
        raise Undecodable(f"the body came packed as {packed[:40]}, which was not asked for")
    unpack = None if packed in ("identity", "") else zlib.decompressobj(zlib.MAX_WBITS | 32)
    body = bytearray()
    came_bytes = 0
    looked = look is None
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        came_bytes += len(chunk)
        if unpack is not None and unpack.eof:
            raise Undecodable(f"more comes after the end of the {packed} stream")
        # One byte over the limit is enough to know; of a bomb no more than that is ever unpacked.
        body += chunk if unpack is None else _unpacked(unpack, chunk, largest_bytes + 1 - len(body))
        # What comes counts too: a stream may go on without end and unpack to nothing.
        if max(len(body), came_bytes) > largest_bytes:
            raise TooLarge(f"more than {largest_bytes} bytes, limit largest_bytes={largest_bytes}", bytes(body))
        if not looked and look is not None and len(body) >= _ENOUGH_TO_TELL:
            looked = True
            why = look(bytes(body[:_ENOUGH_TO_TELL]))
            if why is not None:
                raise Unwanted(why, len(body))
    if unpack is not None and not unpack.eof:
        raise Undecodable(f"the {packed} stream is cut short")
    if unpack is not None and unpack.unused_data:
        raise Undecodable(f"more comes after the end of the {packed} stream")
    return bytes(body)


def _unpacked(unpack: "zlib._Decompress", chunk: bytes, most: int) -> bytes:
    try:
        return unpack.decompress(chunk, most)
    except zlib.error as error:
        raise Undecodable(f"the body is not what its Content-Encoding says ({error})") from error
