"""Every file of a tar becomes one record, whatever it is; a tar that can't be used is one clear error."""

import bz2
import gzip
import io
import lzma
import os
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_images import odd_files

from pipelines.sources import PartRange, Record, SourceError
from pipelines.sources.record import text_key
from pipelines.sources.tar import TarSource

NAMES = st.lists(
    st.text(st.characters(exclude_characters="\0/.", exclude_categories=["Cs"]), min_size=1, max_size=150),
    min_size=1,
    max_size=12,
    unique=True,
)


def tar_source(path: Path) -> TarSource:
    return TarSource(kind="tar", name="photos", path=str(path))


def write_tar(path: Path, files: dict[str, bytes], tar_format: int = tarfile.PAX_FORMAT) -> None:
    with tarfile.open(path, "w", format=tar_format, encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in files.items():
            add(tar, name, data)


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, link, len(data)
    tar.addfile(member, io.BytesIO(data))


def records_of(path: Path, part_images: int = 100) -> list[Record]:
    source = tar_source(path)
    return [record for part in source.ranges(part_images) for record in source.read(part)]


def test_every_file_is_a_record_with_its_bytes(tmp_path: Path) -> None:
    files = {f"within/{name}": data for name, data in odd_files().items()}
    write_tar(tmp_path / "photos.tar", files)
    assert records_of(tmp_path / "photos.tar") == [Record(name, data) for name, data in files.items()]


@settings(max_examples=40)
@given(
    NAMES,
    st.integers(1, 14),
    st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]),
    st.lists(st.binary(max_size=1500), min_size=12, max_size=12),
)
def test_parts_cover_a_tar_once_and_in_order(names: list[str], part_images: int, way: int, data: list[bytes]) -> None:
    files = dict(zip(names, data, strict=False))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "photos.tar"
        write_tar(path, files, way)
        ranges = tar_source(path).ranges(part_images)
        assert [part.records for part in ranges][:-1] == [part_images] * (len(ranges) - 1)
        # Parts are read on their own and in any order.
        read = [record for part in reversed(ranges) for record in reversed(list(tar_source(path).read(part)))][::-1]
        assert [(record.key, record.data) for record in read] == [(text_key(n.encode()), d) for n, d in files.items()]


def test_names_that_are_no_utf8_are_told_apart(tmp_path: Path) -> None:
    names = [b"caf\xe9.jpg", b"caf\\xe9.jpg", "żółć.jpg".encode(), b"x" * 300 + b".jpg", b"new\nline.jpg"]
    files = {name.decode("utf-8", "surrogateescape"): name for name in names}
    for way in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        write_tar(tmp_path / "photos.tar", files, way)
        read = records_of(tmp_path / "photos.tar")
        assert [record.data for record in read] == names
        assert [record.key for record in read] == [text_key(name) for name in names]


def test_what_is_no_file_is_a_record_that_says_so_and_hard_links_are_files(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        add(tar, "folder", kind=tarfile.DIRTYPE)
        add(tar, "folder/a.jpg", b"1")
        add(tar, ".hidden.jpg", b"2")
        add(tar, "folder/._a.jpg", b"3")
        add(tar, "./shown.jpg", b"4")
        add(tar, "again.jpg", kind=tarfile.LNKTYPE, link="folder/a.jpg")
        add(tar, "of_hidden.jpg", kind=tarfile.LNKTYPE, link=".hidden.jpg")
        add(tar, "dangling.jpg", kind=tarfile.LNKTYPE, link="absent.jpg")
        add(tar, "link.jpg", kind=tarfile.SYMTYPE, link="folder/a.jpg")
        add(tar, "pipe.jpg", kind=tarfile.FIFOTYPE)
    read = {record.key: record for record in records_of(tmp_path / "photos.tar", 3)}
    assert {key: record.data for key, record in read.items() if record.data is not None} == {
        "folder/a.jpg": b"1",
        "./shown.jpg": b"4",
        "again.jpg": b"1",
        "of_hidden.jpg": b"2",
    }
    assert {key: record.problem for key, record in read.items() if record.data is None} == dict.fromkeys(
        ("dangling.jpg", "link.jpg", "pipe.jpg"), "neither a file nor a hard link to one"
    )


def test_a_member_that_is_too_large_is_a_record(tmp_path: Path) -> None:
    write_tar(tmp_path / "photos.tar", {"small.jpg": b"1234", "large.jpg": b"12345"})
    source = TarSource(kind="tar", name="photos", path=str(tmp_path / "photos.tar"), largest_file_bytes=4)
    (part,) = source.ranges(10)
    small, large = source.read(part)
    assert small.data == b"1234"
    assert (large.data, large.problem) == (None, "5 bytes, over largest_file_bytes=4")


def test_a_tar_cut_short_is_one_error_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    # A long name has headers of its own before the member's.
    write_tar(path, {"a.jpg": bytes(700), "x" * 300: bytes(5000), "c.jpg": b"1"})
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // tarfile.BLOCKSIZE * tarfile.BLOCKSIZE + tarfile.BLOCKSIZE
    assert len(records_of(path)) == 3
    for length in (*range(1, end, 171), end - 1, end, end + 511):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=rf"source photos: {path} is no whole tar \(.*\); fetch it again"):
            tar_source(path).ranges(10)
    path.write_bytes(whole[: end + 512])
    assert len(records_of(path)) == 3


def test_a_name_that_comes_twice_is_one_error(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("a.jpg", "b.jpg", "a.jpg"):
            add(tar, name, b"1")
    with pytest.raises(SourceError, match=r"photos.tar holds a.jpg twice; .*: unpack the tar and name the folder"):
        tar_source(tmp_path / "photos.tar").ranges(10)


def test_what_is_no_tar_is_no_source(tmp_path: Path) -> None:
    write_tar(tmp_path / "photos.tar", {"a.jpg": b"1" * 2000})
    data = (tmp_path / "photos.tar").read_bytes()
    packed = {"gunzip": gzip.compress(data), "bunzip2": bz2.compress(data), "unxz": lzma.compress(data)}
    for tool, content in packed.items():
        (tmp_path / "packed").write_bytes(content)
        with pytest.raises(SourceError, match=f"packed is compressed, .*; {tool} it and name the .tar"):
            tar_source(tmp_path / "packed").ranges(10)
    (tmp_path / "text").write_bytes(b"no tar at all. " * 1000)
    (tmp_path / "nothing").write_bytes(b"")
    with tarfile.open(tmp_path / "empty", "w") as tar:
        add(tar, "folder", kind=tarfile.DIRTYPE)
    for name, message in (
        ("text", r"text is no whole tar \(.*\); fetch it again"),
        ("nothing", r"nothing is no whole tar \(.*\); fetch it again"),
        ("empty", "empty holds no files; check the path"),
        ("absent", r"absent can't be read \(No such file or directory\); set sources.N.path to a tar"),
        (".", r"can't be read \(Is a directory\); set sources.N.path to a tar"),
    ):
        with pytest.raises(SourceError, match=f"source photos: .*{message}"):
            tar_source(tmp_path / name).ranges(10)
    with pytest.raises(SourceError, match=r"s3://bucket/photos\.tar is a URI; a tar source reads local"):
        TarSource(kind="tar", name="photos", path="s3://bucket/photos.tar").ranges(10)


def test_a_tar_that_changed_after_it_was_listed_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "photos.tar"
    write_tar(path, {"a.jpg": b"1" * 3000, "b.jpg": b"2" * 3000})
    (part,) = tar_source(path).ranges(10)
    whole = path.read_bytes()
    path.write_bytes(whole[:-600])
    with pytest.raises(SourceError, match="changed since the run began"):
        list(tar_source(path).read(part))
    path.write_bytes(b"\1" * len(whole))
    with pytest.raises(SourceError, match="changed since the run began"):
        list(tar_source(path).read(part))
    # What lies beyond the end is no member either.
    path.write_bytes(whole)
    beyond = PartRange(1, part.start, (b"%d 10\0c.jpg" % (len(whole) - 512),))
    with pytest.raises(SourceError, match="changed since the run began"):
        list(tar_source(path).read(beyond))
    path.unlink()
    with pytest.raises(SourceError, match=r"can't be read \(No such file or directory\)"):
        list(tar_source(path).read(part))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    write_tar(tmp_path / "photos.tar", {"a.jpg": b"1"})
    before = len(os.listdir("/proc/self/fd"))
    records_of(tmp_path / "photos.tar")
    assert len(os.listdir("/proc/self/fd")) == before
