"""Every item of a source becomes one record, whatever it is; a source that can't be used is one clear error."""

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from tempfile import TemporaryDirectory

import lmdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_images import odd_files
from pydantic import ValidationError

from pipelines.sources import PARTS, Part, PartRange, Record, SourceError, list_parts, read_part
from pipelines.sources.folder import FolderSource
from pipelines.sources.lsun import LsunSource, lsun_key, write_lmdb
from pipelines.sources.record import text_key

AsNobody = Callable[[], AbstractContextManager[None]]
ITEMS = st.dictionaries(st.binary(min_size=1, max_size=12), st.binary(max_size=40), min_size=1, max_size=30)


def folder_source(path: Path) -> FolderSource:
    return FolderSource(kind="folder", name="photos", path=str(path))


def lsun_source(path: Path, first: int | None = None) -> LsunSource:
    return LsunSource(kind="lsun", name="rooms", path=str(path), first=first)


def all_records(source: FolderSource | LsunSource, part_images: int = 100) -> list[Record]:
    return [record for part in source.ranges(part_images) for record in source.read(part)]


def by_key(path: Path) -> dict[str, Record]:
    records = all_records(folder_source(path))
    found = {record.key: record for record in records}
    assert len(found) == len(records), "two records share a key"
    for key in found:
        key.encode()  # valid UTF-8
    return found


# A folder


def test_every_file_is_a_record_with_its_bytes(tmp_path: Path) -> None:
    files = odd_files()
    for place in ("", "within", "within/deeper"):
        (tmp_path / place).mkdir(exist_ok=True)
        for name, data in files.items():
            (tmp_path / place / name).write_bytes(data)
    found = by_key(tmp_path)
    expected = {f"{place}{name}": data for place in ("", "within/", "within/deeper/") for name, data in files.items()}
    assert {key: record.data for key, record in found.items()} == expected
    assert found["empty.jpg"] == Record("empty.jpg", b"")


def test_names_of_every_kind_are_told_apart(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    names = [
        "写真/żółć \u202e.webp".encode(),
        b"Photo.jpg",
        b"photo.JPG",
        b"photo.jpg",
        b"caf\xe9.jpg",  # Latin-1
        b"caf\\xe9.jpg",  # what the name before must not turn into
        b"new\nline.jpg",
        b"x" * 251 + b".jpg",
        b" .jpg",
    ]
    for name in names:
        os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
        with open(os.path.join(root, name), "wb") as file:
            file.write(name)
    found = by_key(tmp_path)
    assert {record.data for record in found.values()} == set(names)
    assert {"写真/żółć \u202e.webp", "caf\\xe9.jpg", "caf\\\\xe9.jpg"} <= found.keys()


@given(st.lists(st.binary(max_size=6), unique=True, max_size=20))
def test_keys_of_different_bytes_differ(names: list[bytes]) -> None:
    keys = [text_key(name) for name in names]
    assert len(set(keys)) == len(names)
    "".join(keys).encode()


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    for name in (".hidden.jpg", ".git/a.jpg", "shown.jpg"):
        (tmp_path / name).write_bytes(b"1")
    assert by_key(tmp_path).keys() == {"shown.jpg"}


def test_links_to_files_are_read_and_links_to_folders_are_not(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").write_bytes(b"1")
    (tmp_path / "to_file").symlink_to("sub/a.jpg")
    (tmp_path / "to_folder").symlink_to("sub")
    (tmp_path / "sub" / "to_parent").symlink_to("..")
    (tmp_path / "to_itself").symlink_to("to_itself")
    (tmp_path / "one").symlink_to("other")
    (tmp_path / "other").symlink_to("one")
    (tmp_path / "dangling").symlink_to("nowhere")
    descriptors = len(os.listdir("/proc/self/fd"))
    found = by_key(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert {key: record.data for key, record in found.items() if record.data is not None} == {
        "sub/a.jpg": b"1",
        "to_file": b"1",
    }
    problems = {key: record.problem for key, record in found.items() if record.data is None}
    assert problems == {
        "to_folder": "not a regular file",
        "sub/to_parent": "not a regular file",
        "to_itself": "Too many levels of symbolic links",
        "one": "Too many levels of symbolic links",
        "other": "Too many levels of symbolic links",
        "dangling": "No such file or directory",
    }


@pytest.mark.timeout(30)
def test_what_is_no_file_is_a_record_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        # A socket's path may hold 108 bytes only.
        here = os.getcwd()
        os.chdir(tmp_path)
        try:
            listener.bind("socket.jpg")
        finally:
            os.chdir(here)
        found = by_key(tmp_path)
    assert found["pipe.jpg"].problem == "not a regular file"
    assert found["socket.jpg"].data is None


def test_what_may_not_be_read_is_a_record_that_says_so(public_folder: Path, unprivileged: AsNobody) -> None:
    for name in ("closed", "unlisted", "listed"):
        (public_folder / name).mkdir()
        (public_folder / name / "a.jpg").write_bytes(b"1")
    (public_folder / "private.jpg").write_bytes(b"1")
    (public_folder / "open.jpg").write_bytes(b"2")
    (public_folder / "private.jpg").chmod(0)
    modes = {"closed": 0o000, "unlisted": 0o111, "listed": 0o444}
    for name, mode in modes.items():
        (public_folder / name).chmod(mode)
    with unprivileged():
        found = by_key(public_folder)
    for name in modes:
        (public_folder / name).chmod(0o755)
    assert found.pop("open.jpg") == Record("open.jpg", b"2")
    assert found.keys() == {"closed", "unlisted", "listed/a.jpg", "private.jpg"}
    assert {(record.data, record.problem) for record in found.values()} == {(None, "Permission denied")}


def test_a_folder_that_may_not_be_listed_is_no_source(public_folder: Path, unprivileged: AsNobody) -> None:
    (public_folder / "photos").mkdir(0o700)
    (public_folder / "photos" / "a.jpg").write_bytes(b"1")
    with unprivileged(), pytest.raises(SourceError, match=r"photos can't be listed \(Permission denied\); set sources"):
        folder_source(public_folder / "photos").ranges(10)


def test_folders_may_lie_deeper_than_calls_may_nest(tmp_path: Path) -> None:
    def nest(top: Path, name: str, depth: int) -> None:
        top.mkdir()
        at = os.open(top, os.O_RDONLY)
        for _ in range(depth):
            os.mkdir(name, dir_fd=at)
            below = os.open(name, os.O_RDONLY, dir_fd=at)
            os.close(at)
            at = below
        os.close(os.open("a.jpg", os.O_CREAT | os.O_WRONLY, dir_fd=at))
        os.close(at)

    try:
        nest(tmp_path / "deep", "d", 1200)
        assert by_key(tmp_path / "deep") == {"d/" * 1200 + "a.jpg": Record("d/" * 1200 + "a.jpg", b"")}
        nest(tmp_path / "long", "l" * 250, 20)  # its path is longer than the system takes
        (record,) = by_key(tmp_path / "long").values()
        assert (record.data, record.problem) == (None, "File name too long")
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "deep", tmp_path / "long"], check=True)


def test_a_file_that_is_gone_or_too_large_is_a_record(tmp_path: Path) -> None:
    (tmp_path / "gone.jpg").write_bytes(b"1")
    (tmp_path / "large.jpg").write_bytes(b"12345")
    source = FolderSource(kind="folder", name="photos", path=str(tmp_path), largest_file_bytes=4)
    (part,) = source.ranges(10)
    (tmp_path / "gone.jpg").unlink()
    gone, large = source.read(part)
    assert (gone.data, gone.problem) == (None, "No such file or directory")
    assert large.data is None
    assert large.problem == "5 bytes, over largest_file_bytes=4"


@given(st.integers(1, 12), st.integers(1, 14))
def test_parts_cover_a_folder_once(files: int, part_images: int) -> None:
    with TemporaryDirectory() as name:
        for number in range(files):
            (Path(name) / f"{number:02d}").write_bytes(b"%d" % number)
        ranges = folder_source(Path(name)).ranges(part_images)
        assert [part.records for part in ranges][:-1] == [part_images] * (len(ranges) - 1)
        records = all_records(folder_source(Path(name)), part_images)
        assert [record.key for record in records] == [f"{number:02d}" for number in range(files)]


def test_a_folder_that_holds_nothing_or_is_none_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "empty" / ".hidden").mkdir(parents=True)
    (tmp_path / "file").write_bytes(b"")
    for path, message in (
        (tmp_path / "empty", "holds no files; check the path"),
        (tmp_path / "file", "can't be listed"),
        (tmp_path / "absent", "can't be listed"),
    ):
        with pytest.raises(SourceError, match=rf"source photos: {path} {message}"):
            folder_source(path).ranges(10)
    with pytest.raises(SourceError, match="s3://bucket/photos is a URI; a folder source reads local"):
        FolderSource(kind="folder", name="photos", path="s3://bucket/photos").ranges(10)


# An LMDB


@settings(max_examples=30)
@given(ITEMS, st.integers(1, 35), st.one_of(st.none(), st.integers(1, 35)))
def test_key_ranges_cover_every_key_once(items: dict[bytes, bytes], part_images: int, first: int | None) -> None:
    with TemporaryDirectory() as name:
        with lmdb.open(name) as environment, environment.begin(write=True) as transaction:
            for key, value in items.items():
                transaction.put(key, value)
        source = lsun_source(Path(name), first)
        ranges = source.ranges(part_images)
        expected = sorted(items.items())[:first]
        assert [part.records for part in ranges][:-1] == [part_images] * (len(ranges) - 1)
        assert sum(part.records for part in ranges) == len(expected)
        # Parts are read on their own and in any order.
        records = [record for part in reversed(ranges) for record in reversed(list(source.read(part)))][::-1]
        assert [(record.key, record.data) for record in records] == [(text_key(k), v) for k, v in expected]
        assert len({record.key for record in records}) == len(records)


def test_what_is_written_is_read_in_order_of_key(tmp_path: Path) -> None:
    items = {lsun_key(str(n)): os.urandom(n * 7) for n in range(2500)}
    assert write_lmdb(tmp_path / "rooms", items.items()) == 2500
    assert sorted(os.listdir(tmp_path)) == ["rooms"]
    assert os.listdir(tmp_path / "rooms") == ["data.mdb"]
    records = all_records(lsun_source(tmp_path / "rooms"), 999)
    assert [(record.key, record.data) for record in records] == sorted(items.items())
    # The file by itself will do too, as some copies of LSUN come.
    assert all_records(lsun_source(tmp_path / "rooms" / "data.mdb"), 999) == records
    # Nothing was written beside it, such as a cache of keys.
    assert os.listdir(tmp_path / "rooms") == ["data.mdb"]


def test_keys_are_40_hex_digits() -> None:
    # They go into record ids, so they may never change.
    assert lsun_key("a.jpg") == "56ceeb905c2d3070cd9f26b4d60ce7ef1e86e26d"
    assert lsun_key("ü") == hashlib.sha1("ü".encode()).hexdigest()


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[tuple[str, bytes]]:
        for number in range(3000):
            yield lsun_key(str(number)), bytes(1000)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        write_lmdb(tmp_path / "rooms", broken())
    with pytest.raises(SourceError, match="key a comes twice"):
        write_lmdb(tmp_path / "rooms", [("a", b"1"), ("a", b"2")])
    assert os.listdir(tmp_path) == []
    (tmp_path / "rooms").mkdir()
    with pytest.raises(FileExistsError, match="rooms is there already"):
        write_lmdb(tmp_path / "rooms", [("a", b"1")])
    assert os.listdir(tmp_path) == ["rooms"]


# Each length in turn; in a process of its own, since what must not happen would kill it.
_READ_TRUNCATED = """
import os, sys
from pathlib import Path
from pipelines.sources.lsun import LsunSource
from pipelines.sources.record import SourceError
whole = Path(sys.argv[1], "data.mdb").read_bytes()
for length in map(int, sys.argv[2:]):
    folder = Path(sys.argv[1] + f".{length}")
    folder.mkdir()
    (folder / "data.mdb").write_bytes(whole[:length])
    source = LsunSource(kind="lsun", name="rooms", path=str(folder))
    try:
        print(length, sum(len(list(source.read(part))) for part in source.ranges(7)), flush=True)
    except SourceError as error:
        print(length, error, flush=True)
"""


def test_a_truncated_lmdb_is_one_error_at_any_length(tmp_path: Path) -> None:
    # Values larger than a page lie in pages of their own, at the end of the file too.
    write_lmdb(tmp_path / "rooms", [(lsun_key(str(n)), bytes([n]) * (n * 400)) for n in range(40)])
    size = (tmp_path / "rooms" / "data.mdb").stat().st_size
    edges = [0, 1, 16, 40, 100, 152, 153, 4095, 4096, 4097, 4200, 4248, 8191, 8192, 8193, size - 4096, size - 1]
    lengths = sorted({*edges, *range(5000, size, size // 40)})
    program = [sys.executable, "-c", _READ_TRUNCATED, str(tmp_path / "rooms"), *map(str, lengths), str(size)]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")
    said = dict(line.split(" ", 1) for line in ended.stdout.splitlines())
    assert said.pop(str(size)) == "40"
    assert said.keys() == {str(length) for length in lengths}
    for length, message in said.items():
        assert message.startswith("source rooms: ")
        assert message.endswith("fetch it again")
        if int(length) > 8192:
            assert f"is cut short: expected {size} bytes, got {length}" in message


def test_what_is_no_lmdb_is_no_source(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "data.mdb").write_bytes(b"no LMDB at all. " * 1000)
    (tmp_path / "nothing").mkdir()
    lmdb.open(str(tmp_path / "empty")).close()
    for name, message in (
        ("text", r"text/data.mdb is no LMDB .*; fetch it again"),
        ("nothing", r"nothing/data.mdb can't be read \(No such file or directory\); set sources.N.path"),
        ("absent", r"absent can't be read \(No such file or directory\); set sources.N.path"),
        ("empty", "empty holds no records; check the path"),
    ):
        with pytest.raises(SourceError, match=rf"source rooms: .*{message}"):
            lsun_source(tmp_path / name).ranges(10)
    with pytest.raises(SourceError, match="s3://bucket/rooms is a URI; an LMDB is memory-mapped and must be local"):
        LsunSource(kind="lsun", name="rooms", path="s3://bucket/rooms").ranges(10)


def test_an_lmdb_of_another_version_is_no_source(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "rooms", [("a", b"1")])
    pages = bytearray((tmp_path / "rooms" / "data.mdb").read_bytes())
    for page in (0, 4096):
        pages[page + 20] = 99
    (tmp_path / "rooms" / "data.mdb").write_bytes(pages)
    with pytest.raises(SourceError, match=r"source rooms: .*rooms can't be read as an LMDB \(.*format v99"):
        lsun_source(tmp_path / "rooms").ranges(10)


def test_an_lmdb_that_lost_records_is_told_of(tmp_path: Path) -> None:
    write_lmdb(tmp_path / "rooms", [(lsun_key(str(n)), b"1") for n in range(5)])
    source = lsun_source(tmp_path / "rooms")
    (part,) = source.ranges(10)
    for wrong in (PartRange(6, part.start), PartRange(5, b"no such key")):
        with pytest.raises(SourceError, match=rf"expected {wrong.records} records .* changed since the run began"):
            list(source.read(wrong))


# Lists of parts


def test_parts_are_numbered_over_all_sources_and_survive_a_file(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in (b"a.jpg", b"caf\xe9.jpg", b"z.jpg"):
        with open(os.path.join(os.fsencode(tmp_path / "photos"), name), "wb") as file:
            file.write(name)
    write_lmdb(tmp_path / "rooms", [(lsun_key(str(n)), b"%d" % n) for n in range(5)])
    sources = (folder_source(tmp_path / "photos"), lsun_source(tmp_path / "rooms"))
    parts = list_parts(sources, 2)
    assert [(part.number, part.source, part.range.records) for part in parts] == [
        (0, "photos", 2),
        (1, "photos", 1),
        (2, "rooms", 2),
        (3, "rooms", 2),
        (4, "rooms", 1),
    ]
    table = pa.Table.from_pylist([part.row() for part in parts], schema=PARTS)
    assert [Part.from_row(row) for row in table.to_pylist()] == parts
    read = [record.data for part in parts for record in read_part(sources, part)]
    assert sorted(read, key=str) == sorted(
        [b"a.jpg", b"caf\xe9.jpg", b"z.jpg", *(b"%d" % n for n in range(5))], key=str
    )


def test_a_source_needs_a_name_that_ids_can_be_made_of() -> None:
    for name in ("", "a b", "a\0b", "x" * 65, "é", "a\n"):
        with pytest.raises(ValidationError, match="name"):
            FolderSource(kind="folder", name=name, path=".")
