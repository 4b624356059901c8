"""Of a WARC file every image is a record, and every address that was not got; damage loses only what lies after it."""

import contextlib
import gzip
import io
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crawl_forms import drawn_crawl, write_resource, write_response, write_warc
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.archiveiterator import ArchiveIterator
from warcio.warcwriter import WARCWriter

from manifests.schema import Reason
from pipelines.sources.exchange import exchange, looks_like_image
from pipelines.sources.framing import places
from pipelines.sources.record import Record, SourceError
from pipelines.sources.warc import WarcSource

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 8
PAGE = b"<html>no image</html>"
Write = Callable[[WARCWriter], None]


def warc_source(path: Path, **settings: Any) -> WarcSource:
    return WarcSource(kind="warc", name="crawl", path=str(path), **settings)


def records_of(source: WarcSource) -> list[Record]:
    records = [record for part in source.ranges(3) for record in source.read(part)]
    assert len({record.key for record in records}) == len(records), "two records share a key"
    return records


def warc_of(path: Path, write: Write) -> Path:
    with path.open("wb") as file:
        write(WARCWriter(file, gzip=path.name.endswith("gz")))
    return path


@pytest.fixture(params=["a.warc", "a.warc.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where a WARC file, packed or not, is to be written."""
    return tmp_path / str(request.param)


def test_what_is_a_record_and_what_is_none(path: Path) -> None:
    def write(warc: WARCWriter) -> None:
        write_response(warc, "http://a/0", JPEG, "image/jpeg")
        write_response(warc, "http://a/1", JPEG, "text/html")  # an image, whatever the server says
        write_response(warc, "http://a/2", PAGE, "image/jpeg")  # none, but called one
        write_response(warc, "http://a/3", PAGE, "text/html")
        write_response(warc, "http://a/4", PAGE, "text/html", status="404 Not Found")
        write_response(warc, "http://a/5", b"", "image/png", status="301 Moved")
        write_response(warc, "http://a/6", JPEG, "image/jpeg", status="206 Partial Content")
        write_response(warc, "http://a/7", b"", "image/jpeg")
        write_resource(warc, "urn:x:8", JPEG, "application/octet-stream")
        write_resource(warc, "urn:x:9", PAGE, "text/html")
        write_resource(warc, "", JPEG, "image/jpeg")
        write_response(warc, "dns:a", b"20240101\na. 1 IN A 1.2.3.4\n", "text/dns")

    found = records_of(warc_source(warc_of(path, write)))
    assert [(record.url, record.data, record.problem) for record in found] == [
        ("http://a/0", JPEG, None),
        ("http://a/1", JPEG, None),
        ("http://a/2", PAGE, None),
        ("http://a/4", None, "HTTP status 404"),
        ("http://a/5", None, "HTTP status 301"),
        ("http://a/6", None, "HTTP status 206"),
        ("http://a/7", b"", None),
        ("urn:x:8", JPEG, None),
        (None, JPEG, None),
    ]
    assert {record.reason for record in found if record.problem} == {Reason.NOT_FETCHED}


def test_a_key_says_where_the_record_lies(path: Path) -> None:
    write_warc(path, drawn_crawl(5), packed=path.name.endswith("gz"))
    for record in records_of(warc_source(path.parent)):
        name, _, offset = record.key.rpartition("#")
        with (path.parent / name).open("rb") as file:
            file.seek(int(offset))
            records = ArchiveIterator(file)
            assert next(records).rec_headers.get_header("WARC-Target-URI") == record.url
            records.close()


def test_what_is_read_is_what_warcio_reads(path: Path) -> None:
    write_warc(path, drawn_crawl(20), packed=path.name.endswith("gz"))
    with path.open("rb") as file:
        theirs = [
            (record.rec_headers.get_header("WARC-Target-URI"), record.content_stream().read())
            for record in ArchiveIterator(file)
            if record.rec_type in ("response", "resource")
        ]
    ours = [(record.url, record.data) for record in records_of(warc_source(path))]
    assert ours == [(url, data) for url, data in theirs if looks_like_image(data)]
    assert len(ours) == 20


def test_the_same_address_twice_is_two_records(path: Path) -> None:
    def write(warc: WARCWriter) -> None:
        for data in (JPEG, JPEG, JPEG + b"1"):
            write_response(warc, "http://a/", data, "image/jpeg")

    assert [r.data for r in records_of(warc_source(warc_of(path, write)))] == [JPEG, JPEG, JPEG + b"1"]


def raw_record(headers: str, body: bytes) -> bytes:
    return f"WARC/1.0\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n"


def raw_response(http: bytes) -> bytes:
    return raw_record(
        "WARC-Type: response\r\nWARC-Target-URI: <http://a/>\r\nContent-Type: application/http; msgtype=response", http
    )


@pytest.mark.parametrize(
    ("http", "data", "problem"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Type: IMAGE/JPEG\r\n\r\n" + JPEG, JPEG, None),
        (b"HTTP/2 200\r\ncontent-type: image/jpeg\r\n\r\n" + JPEG, JPEG, None),
        (b"HTTP/1.1 200\nContent-Type: image/jpeg\n\n" + JPEG, JPEG, None),
        # Unpacked by the crawler, its headers left as they were.
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + JPEG, JPEG, None),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\n\r\n" + JPEG, JPEG, None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + JPEG, JPEG, None),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\n" + JPEG[:4] + b"\r\n0\r\n\r\n", JPEG[:4], None),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zlib.compress(JPEG), JPEG, None),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate\r\n\r\n" + zlib.compress(JPEG)[2:-4], JPEG, None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Encoding: br\r\n\r\nxyz",
            None,
            "Content-Encoding br is not unpacked here",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Encoding: gzip\r\n\r\nxyz",
            None,
            "its gzip body can't be unpacked (Error -3 while decompressing data: incorrect header check)",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(JPEG)[:-9],
            None,
            "its gzip body is cut short",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Encoding: deflate\r\n\r\n"
            + zlib.compress(JPEG)[:-5],
            None,
            "its deflate body is cut short",
        ),
        (
            b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Encoding: deflate\r\n\r\n"
            + zlib.compress(JPEG)[2:-5],
            None,
            "its deflate body is cut short",
        ),
        (b"HTTP/1.1 OK\r\n\r\n" + JPEG, None, "its HTTP headers can't be read"),
        (b"", None, "its HTTP headers can't be read"),
    ],
)
def test_bodies_come_out_of_their_wrapping(http: bytes, data: bytes | None, problem: str | None, path: Path) -> None:
    record = raw_response(http)
    path.write_bytes(gzip.compress(record) if path.name.endswith("gz") else record)
    (found,) = records_of(warc_source(path))
    assert (found.url, found.data, found.problem) == ("http://a/", data, problem)


def test_what_is_too_large_is_never_unpacked(path: Path) -> None:
    bomb = gzip.compress(bytes(50_000_000))

    def write(warc: WARCWriter) -> None:
        write_response(warc, "http://a/0", JPEG, "image/jpeg")
        write_response(warc, "http://a/1", bytes(5_000_000), "image/jpeg")
        write_response(warc, "http://a/2", JPEG, "image/jpeg", packed=True)

    def packed_bomb(warc: WARCWriter) -> None:
        write(warc)
        warc.out.write(gzip.compress(raw) if path.name.endswith("gz") else raw)

    raw = raw_response(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Encoding: gzip\r\n\r\n" + bomb)
    found = records_of(warc_source(warc_of(path, packed_bomb), largest_file_bytes=3000))
    assert [record.data for record in found] == [JPEG, None, JPEG, None]
    assert {record.problem for record in found if record.data is None} == {"over largest_file_bytes=3000"}


def test_a_file_cut_short_keeps_the_records_before(path: Path) -> None:
    write_warc(path, drawn_crawl(6), packed=path.name.endswith("gz"))
    whole = path.read_bytes()
    all_records = records_of(warc_source(path))
    with path.open("rb") as file:
        found = list(places(file))
    starts = [place.offset for place in found]
    # A packed record ends with its member, a plain one before the blank lines that follow it.
    ends = [place.offset + place.size_bytes for place in found]
    if path.name.endswith("gz"):
        ends = [*starts[1:], len(whole)]
    edges = {length for end in ends for length in (end - 1, end, end + 1) if length <= len(whole)}
    for length in sorted({*range(1, len(whole), 613), *edges}):
        path.write_bytes(whole[:length])
        whole_before = {start for start, end in zip(starts, ends, strict=True) if end <= length}
        before = [record for record in all_records if int(record.key.rpartition("#")[2]) in whole_before]
        read: list[Record] = []
        with contextlib.suppress(SourceError):  # where no image is left
            read = records_of(warc_source(path))
        assert read[: len(before)] == before
        rest = read[len(before) :]
        # Whatever the cut went through is told of.
        assert len(rest) == any(start < length < end for start, end in zip(starts, ends, strict=True))
        for record in rest:
            assert record.data is None
            assert str(record.problem).startswith(("cut short", "no WARC record begins"))


def test_a_damaged_member_loses_what_lies_after_it(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    write_warc(path, drawn_crawl(6), packed=True)
    all_records = records_of(warc_source(path))
    damaged = bytearray(path.read_bytes())
    at = int(all_records[3].key.rpartition("#")[2])
    damaged[at + 400] ^= 0xFF
    path.write_bytes(damaged)
    *before, rest = records_of(warc_source(path))
    assert before == all_records[:3]
    assert str(rest.problem).startswith("its gzip member is damaged: ")
    assert str(rest.problem).endswith(f"; the {len(damaged) - at} bytes from there on are lost")
    # Zeros that fill up a block are none.
    path.write_bytes(bytes(damaged[:at]) + bytes(512))
    assert records_of(warc_source(path)) == all_records[:3]
    path.write_bytes(bytes(damaged[:at]) + b"something else")
    assert str(records_of(warc_source(path))[-1].problem).startswith("no gzip member begins there; the 14 bytes")


def test_a_wrong_length_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    good = raw_response(b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n" + JPEG)
    long = good[:-4] + b"more of it\r\n\r\n"
    path.write_bytes(b"".join(map(gzip.compress, (good, long, good, good[:-300]))))
    found = records_of(warc_source(path))
    assert [record.data for record in found] == [JPEG, None, JPEG, None]
    assert found[1].problem == "10 bytes more than its Content-Length says"
    assert str(found[3].problem).startswith("cut short: ")
    assert {record.url for record in found} == {"http://a/"}


def test_a_file_packed_as_a_whole_is_one_error(tmp_path: Path) -> None:
    write_warc(tmp_path / "a.warc", drawn_crawl(2))
    (tmp_path / "b.warc.gz").write_bytes(gzip.compress((tmp_path / "a.warc").read_bytes()))
    with pytest.raises(SourceError, match=r"b.warc.gz of .* is compressed as a whole, .*; run: warcio recompress"):
        warc_source(tmp_path).ranges(10)


def test_files_without_images_are_one_error(path: Path) -> None:
    warc_of(path, lambda warc: write_response(warc, "http://a/", PAGE, "text/html"))
    for content in (path.read_bytes(), b""):
        path.write_bytes(content)
        with pytest.raises(SourceError, match=r"the 1 WARC files of .* hold no images; check the path"):
            warc_source(path).ranges(10)


def test_what_is_no_warc_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"no WARC at all. " * 100)
    (found,) = records_of(warc_source(tmp_path))
    assert found.problem == "no WARC record begins there; the 1600 bytes from there on are lost"


def test_a_list_that_is_of_other_addresses_is_one_error(path: Path) -> None:
    write_warc(path, drawn_crawl(2), packed=path.name.endswith("gz"))
    (path.parent / "people.csv").write_text("url,person\nhttp://b/,Ann\nhttp://c/,Ben\n")
    source = warc_source(path, people=str(path.parent / "people.csv"))
    with pytest.raises(SourceError, match=r"none of its 2 addresses \(such as http://b/\) is one of .* \(such as http"):
        source.ranges(10)


def test_what_failed_keeps_its_person(path: Path) -> None:
    def write(warc: WARCWriter) -> None:
        write_response(warc, "http://a/0", PAGE, "text/html", status="404 Not Found")
        write_response(warc, "http://a/1", JPEG, "image/jpeg")

    data = warc_of(path, write).read_bytes()
    path.write_bytes(data[:-40])
    (path.parent / "people.csv").write_text("url,person\nhttp://a/0,Ann\nhttp://a/1,Ben\nhttp://a/2,Cleo\n")
    lost, cut = records_of(warc_source(path, people=str(path.parent / "people.csv")))
    assert (lost.url, lost.person, lost.problem) == ("http://a/0", "Ann", "HTTP status 404")
    assert (cut.url, cut.person, cut.data) == ("http://a/1", "Ben", None)


@settings(max_examples=200)
@given(st.binary(max_size=300), st.integers(0, 400), st.integers(0, 255))
def test_no_bytes_are_more_than_a_problem(noise: bytes, at: int, value: int) -> None:
    record = bytearray(
        raw_response(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n\r\n5\r\n" + noise)
    )
    record[at % len(record)] = value
    for block in (noise, bytes(record)):
        with contextlib.suppress(ValueError):
            exchange(block, 1000)
        for content in (block, gzip.compress(block), gzip.compress(block) + noise):
            found = list(places(io.BytesIO(content)))
            assert all(place.offset < len(content) for place in found)
