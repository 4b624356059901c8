"""One WARC record -> what a server sent: address, status, and the image's bytes without their transfer's wrapping."""

import io
import zlib
from typing import NamedTuple

from warcio.bufferedreaders import ChunkedDataReader
from warcio.statusandheaders import StatusAndHeaders, StatusAndHeadersParser, StatusAndHeadersParserException

from pipelines.sources.record import plain_text

KINDS = ("response", "resource")
_VERSIONS = ["WARC/1.1", "WARC/1.0", "WARC/0.17", "WARC/0.18"]


class Exchange(NamedTuple):
    """What a record tells. `status` is None where it is of no HTTP exchange; `problem` says why there is no data."""

    url: str | None
    status: int | None
    content_type: str
    data: bytes | None
    problem: str | None = None

    @property
    def is_image(self) -> bool:
        """Whether the server called it an image, or the bytes are one's."""
        return self.content_type.startswith("image/") or (self.data is not None and looks_like_image(self.data))


def warc_headers(block: bytes) -> tuple[StatusAndHeaders, int, int]:
    """A record's WARC headers, how many bytes they take, and how many the record's content takes.

    Raises:
        ValueError: the block does not begin with a WARC record's headers.
    """
    stream = io.BytesIO(block)
    try:
        headers = StatusAndHeadersParser(_VERSIONS).parse(stream)
        content_bytes = int(headers.get_header("Content-Length") or "")
    except (StatusAndHeadersParserException, EOFError, ValueError) as error:
        raise ValueError("no WARC record begins there") from error
    if content_bytes < 0:
        raise ValueError(f"a WARC record of Content-Length {content_bytes} begins there")
    return headers, stream.tell(), content_bytes


def exchange(block: bytes, largest_bytes: int) -> Exchange | None:
    """What the record in `block` tells; None where it is neither a response nor a resource.

    `block` may be only the record's beginning: then so is the data.

    Raises:
        ValueError: the block does not begin with a WARC record's headers.
    """
    headers, start, content_bytes = warc_headers(block)
    if headers.get_header("WARC-Type") not in KINDS:
        return None
    # wget wrote addresses in angle brackets for a while.
    url = plain_text((headers.get_header("WARC-Target-URI") or "").removeprefix("<").removesuffix(">")) or None
    content_type = (headers.get_header("Content-Type") or "").strip().lower()
    body = block[start : start + content_bytes]
    if headers.get_header("WARC-Type") == "resource" or not content_type.startswith("application/http"):
        return Exchange(url, None, content_type, body)
    return _response(url, body, largest_bytes, is_whole=len(body) == content_bytes)


def _response(url: str | None, message: bytes, largest_bytes: int, is_whole: bool) -> Exchange:
    stream = io.BytesIO(message)
    try:
        headers = StatusAndHeadersParser([], verify=False).parse(stream)
        status = int(headers.statusline.split(" ", 1)[0])
    except (EOFError, ValueError):
        return Exchange(url, None, "", None, "its HTTP headers can't be read")
    content_type = (headers.get_header("Content-Type") or "").strip().lower()
    body = message[stream.tell() :]
    if (headers.get_header("Transfer-Encoding") or "").strip().lower().endswith("chunked"):
        body = ChunkedDataReader(io.BytesIO(body)).read()
    encoding = (headers.get_header("Content-Encoding") or "").strip().lower()
    # Some crawlers unpack what they store and leave the header as it was.
    if encoding in ("", "identity", "none") or looks_like_image(body):
        return Exchange(url, status, content_type, body)
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return Exchange(url, status, content_type, None, f"Content-Encoding {encoding[:50]} is not unpacked here")
    try:
        data, ended = _unpacked(body, encoding, largest_bytes)
    except zlib.error as error:
        return Exchange(url, status, content_type, None, f"its {encoding} body can't be unpacked ({error})")
    if is_whole and not ended and len(data) <= largest_bytes:
        return Exchange(url, status, content_type, None, f"its {encoding} body is cut short")
    return Exchange(url, status, content_type, data)


def _unpacked(body: bytes, encoding: str, largest_bytes: int) -> tuple[bytes, bool]:
    """The body unpacked, but for what goes over one byte more than `largest_bytes`; and whether that is its end."""
    if encoding != "deflate":
        return _all_of(zlib.decompressobj(16 + zlib.MAX_WBITS), body, largest_bytes)
    try:
        return _all_of(zlib.decompressobj(), body, largest_bytes)
    except zlib.error:
        # Deflate without zlib's wrapping, as some servers understand the word.
        return _all_of(zlib.decompressobj(-zlib.MAX_WBITS), body, largest_bytes)


def _all_of(unpack: "zlib._Decompress", body: bytes, largest_bytes: int) -> tuple[bytes, bool]:
    return unpack.decompress(body, largest_bytes + 1), unpack.eof


def looks_like_image(data: bytes) -> bool:
    """Whether the first bytes are those of a JPEG, PNG, GIF, WebP, TIFF, BMP, AVIF or HEIC file."""
    if data[:4] == b"RIFF":
        return data[8:12] == b"WEBP"
    if data[4:8] == b"ftyp":
        return data[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
    if data[:2] == b"BM":
        return data[6:10] == bytes(4)  # reserved, where text has letters
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"))
