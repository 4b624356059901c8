"""Where the records of a WARC file lie. Its whole length is looked at once, without keeping more than a record's head.

warcio iterates over records too, but takes a file that is cut short for one that ends there, and says nothing.
"""

import os
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from pipelines.sources.exchange import warc_headers

GZIP = b"\x1f\x8b"
# Headers of more than this are only of records that are no images.
_HEAD_BYTES = 1 << 16
_STEP_BYTES = 1 << 18
_BLANKS = b"\r\n"
_RECORD_END = b"\r\n\r\n"


class SeveralRecords(Exception):
    """A gzip member that holds more than one record: they can't be read one by one."""


class Place(NamedTuple):
    """A record: where it begins in the file, its bytes once unpacked, and the first of them.

    `problem` says why it can't be read; a place with a problem and no head stands for all that lies after it.
    """

    offset: int
    size_bytes: int
    head: bytes
    problem: str | None = None


def places(file: IO[bytes]) -> Iterator[Place]:
    """The places of a file's records, WARC or WARC.GZ, in order.

    Raises:
        SeveralRecords: it is compressed as a whole, not record by record.
    """
    packed = file.read(2) == GZIP
    file.seek(0)
    return _packed_places(file) if packed else _plain_places(file)


def _plain_places(file: IO[bytes]) -> Iterator[Place]:
    size_bytes = file.seek(0, os.SEEK_END)
    offset = 0
    while offset < size_bytes:
        file.seek(offset)
        head = file.read(_HEAD_BYTES)
        blanks = len(head) - len(head.lstrip(_BLANKS))
        if blanks:
            offset += blanks
            continue
        try:
            _, header_bytes, content_bytes = warc_headers(head)
        except ValueError as error:
            yield _rest(offset, size_bytes, str(error))
            return
        end = offset + header_bytes + content_bytes
        if end > size_bytes:
            yield Place(offset, end - offset, head, f"cut short: {size_bytes - offset} of {end - offset} bytes")
            return
        yield Place(offset, end - offset, head)
        offset = end


def _packed_places(file: IO[bytes]) -> Iterator[Place]:
    size_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    offset, data = 0, file.read(_STEP_BYTES)
    while data:
        if not data.startswith(GZIP[: len(data)]):
            # Some tools fill up the last block with zeros.
            if data.strip(b"\0"):
                yield _rest(offset, size_bytes, "no gzip member begins there")
            return
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        head, unpacked_bytes, read_bytes = b"", 0, 0
        try:
            while not member.eof and data:
                read_bytes += len(data)
                for piece in _pieces(member, data):
                    unpacked_bytes += len(piece)
                    head += piece[: _HEAD_BYTES - len(head)]
                data = member.unused_data or file.read(_STEP_BYTES)
        except zlib.error as error:
            yield _rest(offset, size_bytes, f"its gzip member is damaged: {error}")
            return
        yield _packed_place(offset, head, unpacked_bytes, member.eof)
        # What was read beyond the member is the next one's beginning.
        offset += read_bytes - len(member.unused_data)


def _pieces(member: "zlib._Decompress", data: bytes) -> Iterator[bytes]:
    """What the data unpacks to, a step at a time: a bomb may unpack to a thousand times its size."""
    while data and not member.eof:
        yield member.decompress(data, _STEP_BYTES)
        data = member.unconsumed_tail


def _packed_place(offset: int, head: bytes, unpacked_bytes: int, is_whole: bool) -> Place:
    try:
        _, header_bytes, content_bytes = warc_headers(head)
    except ValueError as error:
        if not is_whole:
            return Place(offset, unpacked_bytes, b"", "cut short within a record's headers")
        return Place(offset, unpacked_bytes, b"", str(error))
    expected_bytes = header_bytes + content_bytes
    more_bytes = unpacked_bytes - expected_bytes - len(_RECORD_END)
    if not is_whole or unpacked_bytes < expected_bytes:
        return Place(offset, expected_bytes, head, f"cut short: {unpacked_bytes} of {expected_bytes} bytes, unchecked")
    if more_bytes > 0:
        if head[expected_bytes:].lstrip(_BLANKS).startswith(b"WARC/"):
            raise SeveralRecords
        return Place(offset, expected_bytes, head, f"{more_bytes} bytes more than its Content-Length says")
    return Place(offset, expected_bytes, head)


def _rest(offset: int, size_bytes: int, problem: str) -> Place:
    return Place(offset, size_bytes - offset, b"", f"{problem}; the {size_bytes - offset} bytes from there on are lost")


def record_block(file: IO[bytes], offset: int, size_bytes: int) -> bytes:
    """The unpacked bytes of a record that was listed.

    Raises:
        ValueError: it is not there any more.
    """
    file.seek(offset)
    start = file.read(2)
    file.seek(offset)
    if start != GZIP:
        block = file.read(size_bytes)
    else:
        member = zlib.decompressobj(16 + zlib.MAX_WBITS)
        pieces: list[bytes] = []
        missing = size_bytes
        try:
            while missing and not member.eof and (data := member.unconsumed_tail or file.read(_STEP_BYTES)):
                pieces.append(member.decompress(data, missing))
                missing -= len(pieces[-1])
        except zlib.error as error:
            raise ValueError(str(error)) from error
        block = b"".join(pieces)
    if len(block) != size_bytes:
        raise ValueError(f"expected {size_bytes} bytes, got {len(block)}")
    return block
