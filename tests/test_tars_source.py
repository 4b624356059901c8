"""Every sample of a tar is one record; what it lacks, or says of itself, is told."""

import gzip
import json
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from crawl_forms import add_member, drawn_crawl, write_tars
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.schema import Reason
from pipelines.sources.record import Record, SourceError
from pipelines.sources.tars import TarsSource

NAMES = st.text(st.characters(exclude_characters="\0/", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: not name.startswith(".")
)


def tars_source(path: Path, **settings: Any) -> TarsSource:
    return TarsSource(kind="tars", name="crawl", path=str(path), **settings)


def write_tar(path: Path, files: dict[str, bytes]) -> None:
    with tarfile.open(path, "w", encoding="utf-8", errors="surrogateescape") as tar:
        for name, data in files.items():
            add_member(tar, name, data)


def records_of(source: TarsSource, part_images: int = 100) -> dict[str, Record]:
    records = [record for part in source.ranges(part_images) for record in source.read(part)]
    found = {record.key: record for record in records}
    assert len(found) == len(records), "two records share a key"
    "".join(found).encode()
    return found


def facts(**said: Any) -> bytes:
    return json.dumps({"status": "success"} | said).encode()


def test_keys_are_the_tars_and_the_samples(tmp_path: Path) -> None:
    write_tars(tmp_path / "crawl" / "b", drawn_crawl(3), tar_images=2)
    write_tars(tmp_path / "crawl" / "a", drawn_crawl(1))
    found = records_of(tars_source(tmp_path / "crawl"))
    assert list(found) == [
        "a/00000.tar/000000000",
        "b/00000.tar/000000000",
        "b/00000.tar/000000001",
        "b/00001.tar/000010000",
    ]
    assert {json.dumps(record.facts) for record in found.values()} == {
        '{"original_width": 500, "original_height": 600}'
    }


def test_names_with_dots_are_samples_of_their_own(tmp_path: Path) -> None:
    files = {f"x.y/a.{n}.{ending}": f"{n}".encode() for n in range(3) for ending in ("jpg", "txt")}
    files |= {f"x.y/a.{n}.json": facts(person=f"Ann {n}") for n in range(3)}
    write_tar(tmp_path / "a.tar", files)
    found = records_of(tars_source(tmp_path / "a.tar"))
    assert {(key, record.data, record.person) for key, record in found.items()} == {
        (f"a.tar/x.y/a.{n}", f"{n}".encode(), f"Ann {n}") for n in range(3)
    }


def test_what_a_sample_lacks_is_told(tmp_path: Path) -> None:
    files = {
        "0.JPG": b"0",  # nothing is known of it
        "1.json": facts(person="Ann", url="http://a/"),
        "2.txt": b"words",
        "3.jpg": b"3",
        "3.png": b"3",
        "3.webp": b"3",
        "README": b"read me",
        ".hidden.jpg": b"h",
        "._0.jpg": b"h",
        "4.jpg": b"four",
        "5.jpg": b"fifty",
    }
    write_tar(tmp_path / "a.tar", files)
    found = records_of(tars_source(tmp_path / "a.tar", largest_file_bytes=4), 2)
    assert {key.removeprefix("a.tar/"): (record.data, record.problem) for key, record in found.items()} == {
        "0": (b"0", None),
        "1": (None, "the sample holds no image"),
        "2": (None, "the sample holds no image"),
        "3": (None, "the sample holds several images: which is meant is not known"),
        "README": (None, "the sample holds no image"),
        "4": (b"four", None),
        "5": (None, "5 bytes, over largest_file_bytes=4"),
    }
    assert (found["a.tar/1"].person, found["a.tar/1"].url) == ("Ann", "http://a/")


def test_what_a_json_says_counts(tmp_path: Path) -> None:
    said: dict[str, Any] = {
        "person": {"person": "Ann_Smith", "url": "http://a/", "license": "CC0"},
        "failed": {"status": "failed_to_download", "error_message": "HTTP Error 404: \ud83d", "url": "http://a/"},
        "resize": {"status": "failed_to_resize"},
        "odd": {"status": ["so"]},
        "number": {"person": 7, "url": ""},
        "surrogate": {"person": "half \ud83d", "url": None},
        "sizes": {"original_width": 5, "original_height": "6"},
    }
    files = {f"{key}.json": facts(**value) for key, value in said.items()}
    write_tar(
        tmp_path / "a.tar", {name: data for key in said for name, data in ((f"{key}.jpg", key.encode()),)} | files
    )
    found = {key.removeprefix("a.tar/"): record for key, record in records_of(tars_source(tmp_path / "a.tar")).items()}
    assert found["person"] == Record("a.tar/person", b"person", person="Ann_Smith", url="http://a/", licence="CC0")
    assert found["failed"].problem == "status failed_to_download: HTTP Error 404: \\ud83d"
    assert (found["failed"].reason, found["failed"].url) == (Reason.NOT_FETCHED, "http://a/")
    assert (found["resize"].problem, found["resize"].reason) == ("status failed_to_resize", Reason.UNREADABLE)
    assert found["odd"].problem == "status ['so']"
    assert {key for key, record in found.items() if record.data is None} == {"failed", "resize", "odd"}
    assert (found["number"].person, found["number"].url) == ("7", None)
    assert (found["surrogate"].person, found["surrogate"].url) == ("half \\ud83d", None)
    assert found["sizes"].facts == {"original_width": 5}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"{", "its .json can't be read (Expecting property name"),
        (b"", "its .json can't be read (Expecting value"),
        (b"\xff{}", "its .json can't be read ("),
        (b"[" * 100_000, "its .json can't be read ("),
        (b'{"url": ' + b"9" * 10_000 + b"}", "its .json can't be read ("),
        (b"[1]", "its .json holds no keys and values, but a list"),
        (b'{"person": ["Ann", "Ben"]}', "its .json holds a list as person, not text"),
        (b'{"person": true}', "its .json holds a bool as person, not text"),
    ],
)
def test_an_image_of_unknown_origin_does_not_slip_in(text: bytes, problem: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.jpg": b"0", "0.json": text, "1.jpg": b"1"})
    found = records_of(tars_source(tmp_path / "a.tar"))
    assert found["a.tar/0"].data is None
    assert str(found["a.tar/0"].problem).startswith(problem)
    assert found["a.tar/1"].data == b"1"


def test_the_fields_may_be_named(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.jpg": b"0", "0.json": facts(caption="Ann", source="http://a/", rights="CC0")})
    source = tars_source(tmp_path, person_field="caption", url_field="source", licence_field="rights")
    (record,) = records_of(source).values()
    assert (record.person, record.url, record.licence) == ("Ann", "http://a/", "CC0")


@settings(max_examples=40)
@given(st.lists(NAMES, unique=True, min_size=1, max_size=10), st.integers(1, 5))
def test_every_member_belongs_to_one_record(names: list[str], part_images: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.tar"
        write_tar(path, {name: name.encode() for name in names})
        records = records_of(tars_source(path), part_images)
        stems = {name.rpartition(".")[0] if "." in name else name for name in names}
        assert len(records) == len(stems)
        images = [name for name in names if name.lower().endswith((".jpg", ".png"))]
        assert all(record.data is None or record.data.decode() in images for record in records.values())


def test_names_that_are_no_utf8_are_told_apart(tmp_path: Path) -> None:
    names = [b"caf\xe9", b"caf\\xe9", "żółć".encode()]
    write_tar(tmp_path / "a.tar", {f"{n.decode('utf-8', 'surrogateescape')}.jpg": n for n in names})
    assert [record.data for record in records_of(tars_source(tmp_path)).values()] == names


def test_a_tar_cut_short_stops_before_any_work_at_any_length(tmp_path: Path) -> None:
    write_tars(tmp_path, drawn_crawl(6), tar_images=3)
    path = tmp_path / "00001.tar"
    whole = path.read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for length in (*range(0, end, 1171), end - 1, end, end + 511):
        path.write_bytes(whole[:length])
        with pytest.raises(SourceError, match=rf"00001.tar of {tmp_path} is no whole tar \(.*\); fetch it again"):
            tars_source(tmp_path).ranges(10)


def test_what_is_no_tar_of_images_is_no_source(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"a.jpg": b"1"})
    (tmp_path / "b.tar.gz").write_bytes(gzip.compress((tmp_path / "a.tar").read_bytes()))
    with pytest.raises(SourceError, match=r"b.tar.gz of .* is compressed, .*; gunzip it and name the .tar"):
        tars_source(tmp_path).ranges(10)
    (tmp_path / "b.tar.gz").unlink()
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for _ in range(2):
            add_member(tar, "a.jpg", b"1")
    with pytest.raises(SourceError, match=r"a.tar of .* holds a.jpg twice"):
        tars_source(tmp_path).ranges(10)
    write_tar(tmp_path / "a.tar", {})
    with pytest.raises(SourceError, match="hold no files; check the path"):
        tars_source(tmp_path).ranges(10)


def test_links_are_files_where_they_can_be(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        add_member(tar, "a.jpg", b"1")
        for name, kind, target in (
            ("b.jpg", tarfile.LNKTYPE, "a.jpg"),
            ("c.jpg", tarfile.SYMTYPE, "a.jpg"),
            ("d.json", tarfile.SYMTYPE, "a.jpg"),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    found = records_of(tars_source(tmp_path))
    assert found["a.tar/b"].data == b"1"
    assert found["a.tar/c"].problem == "neither a file nor a hard link to one"
    assert found["a.tar/d"].problem == "its .json is neither a file nor a hard link to one"
