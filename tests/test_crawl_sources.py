"""One crawl in every form gives the same bytes, people, addresses and licences, wherever it lies."""

import os
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs
import pytest
import yaml
from crawl_forms import (
    Photo,
    drawn_crawl,
    tar_crawl,
    write_folder,
    write_parquet,
    write_people_csv,
    write_tars,
    write_warc,
)
from pydantic import TypeAdapter

from manifests.store import Folder
from pipelines.sources import PARTS, Part, Record, Source, SourceError, list_parts, read_part
from pipelines.sources.files import listed_files, opened_file

FORMS = ("folder", "tars", "warc", "warc.gz", "parquet", "parquet nested")


def source_of(**settings: object) -> Source:
    return TypeAdapter[Source](Source).validate_python({"name": "crawl"} | settings)


def records_of(source: Source, part_images: int = 100) -> list[Record]:
    records = []
    # As a run does: through the table of parts, each part on its own.
    for part in through_a_table(list_parts([source], part_images)):
        read = list(read_part([source], part))
        assert len(read) == part.range.records <= max(part_images, 1)
        records += read
    keys = [record.key for record in records]
    assert len(set(keys)) == len(keys), "two records share a key"
    "".join(keys).encode()
    return records


def through_a_table(parts: list[Part]) -> list[Part]:
    table = pa.Table.from_pylist([part.row() for part in parts], schema=PARTS)
    return [Part.from_row(row) for row in table.to_pylist()]


def written(form: str, folder: Path, photos: list[Photo]) -> Source:
    """The photos in one form, as the source that reads them."""
    folder.mkdir(parents=True)
    if form == "folder":
        write_folder(folder / "photos", photos)
        write_people_csv(folder / "people.csv", photos)
        return source_of(kind="folder", path=str(folder / "photos"), people=str(folder / "people.csv"))
    if form == "tars":
        write_tars(folder, photos)
        return source_of(kind="tars", path=str(folder))
    if form.startswith("warc"):
        for number, half in enumerate((photos[::2], photos[1::2])):
            write_warc(folder / f"{number}.{form}", half, packed=form.endswith("gz"))
        write_people_csv(folder / "people.csv", photos, "url")
        return source_of(kind="warc", path=str(folder), people=str(folder / "people.csv"))
    write_parquet(folder / "photos.parquet", photos, nested=form.endswith("nested"))
    return source_of(kind="parquet", path=str(folder))


def known(records: list[Record]) -> Counter[object]:
    return Counter((r.data, r.person, r.url, r.licence) for r in records)


def expected(photos: list[Photo]) -> Counter[object]:
    return Counter((p.data, p.person, p.url, p.licence) for p in photos)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("part_images", [1, 2, 3, 7, 100])
def test_every_form_gives_the_same_however_it_is_cut(form: str, part_images: int, tmp_path: Path) -> None:
    photos = drawn_crawl()
    source = written(form, tmp_path / "crawl", photos)
    records = records_of(source, part_images)
    assert known(records) == expected(photos)
    assert all(record.problem is None for record in records)
    assert [r.key for r in records] == [r.key for r in records_of(source, 100)]


@pytest.mark.data
@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_photos(form: str, tmp_path: Path, data: Path) -> None:
    photos = tar_crawl(data / "genki4k.tar")
    assert len(photos) == 4000
    assert known(records_of(written(form, tmp_path / "crawl", photos), 512)) == expected(photos)


def test_a_folder_may_name_the_person(tmp_path: Path) -> None:
    photos = drawn_crawl()
    write_folder(tmp_path / "photos", photos)
    (tmp_path / "photos" / "Ann_Smith" / "deeper").mkdir()
    (tmp_path / "photos" / "Ann_Smith" / "deeper" / "a.jpg").write_bytes(b"1")
    source = source_of(kind="folder", path=str(tmp_path / "photos"), person="folder")
    found = {record.key: record for record in records_of(source)}
    assert found.pop("Ann_Smith/deeper/a.jpg").person == "Ann_Smith"
    assert Counter((r.data, r.person) for r in found.values()) == Counter((p.data, p.person) for p in photos)
    assert {(r.url, r.licence) for r in found.values()} == {(None, None)}
    unnamed = source_of(kind="folder", path=str(tmp_path / "photos"))
    assert {r.person for r in records_of(unnamed)} == {None}


@pytest.mark.parametrize("form", ["tars", "warc.gz", "parquet"])
def test_crawls_are_read_from_far_filesystems(form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A subtree of the local one is to the sources a filesystem that is not local.
    photos = drawn_crawl()
    source = written(form, tmp_path / "crawl", photos)
    near = records_of(source)
    tree = pa_fs.SubTreeFileSystem(str(tmp_path), pa_fs.LocalFileSystem())
    monkeypatch.setattr(Folder, "_open", lambda folder: (tree, folder.address.split("://")[1]))
    far_settings = {"path": "far://crawl"} | ({"people": "far://crawl/people.csv"} if form == "warc.gz" else {})
    far = source.model_copy(update=far_settings)
    assert not Folder("far://crawl").is_local
    assert records_of(far, 3) == near
    one_file = listed_files("crawl", "far://crawl", (f".{form}" if form != "tars" else ".tar",))[0].name
    assert set(map(str, records_of(far.model_copy(update={"path": f"far://crawl/{one_file}"})))) <= set(map(str, near))


@pytest.mark.parametrize("form", ["tars", "warc", "parquet"])
def test_a_uri_is_taken(form: str, tmp_path: Path) -> None:
    photos = drawn_crawl(3)
    source = written(form, tmp_path / "crawl", photos)
    update = {"path": f"file://{tmp_path}/crawl"}
    assert records_of(source.model_copy(update=update)) == records_of(source)


@pytest.mark.parametrize("form", ["tars", "warc", "parquet"])
def test_what_holds_no_crawl_is_no_source(form: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.jpg").write_bytes(b"1")
    (tmp_path / "other" / ".hidden.tar").write_bytes(b"1")
    for path, message in (
        (tmp_path / "absent", r"can't be listed \(.*\); set sources.N.path"),
        (tmp_path / "empty", r"holds no files named .*\(of 0 files\); check the path"),
        (tmp_path / "other", r"holds no files named .*\(of 1 files\); check the path"),
    ):
        with pytest.raises(SourceError, match=rf"source crawl: {path} {message}"):
            source_of(kind=form, path=str(path)).ranges(10)
    with pytest.raises(SourceError, match="nowhere://x can't be listed"):
        source_of(kind=form, path="nowhere://x").ranges(10)


def test_a_name_that_is_no_utf8_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "crawl").mkdir()
    with open(bytes(tmp_path / "crawl") + b"/caf\xe9.tar", "wb") as file:
        file.write(b"1")
    with pytest.raises(SourceError, match=r"a name below .* is no UTF-8 .*; rename that file"):
        source_of(kind="tars", path=str(tmp_path / "crawl")).ranges(10)


Spoil = Callable[[Path], None]


def _shorter(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize("form", ["tars", "warc", "warc.gz", "parquet"])
@pytest.mark.parametrize(("spoil", "message"), [(_shorter, "changed since"), (Path.unlink, r"can't be read \(No such")])
def test_a_file_that_changed_after_it_was_listed_is_told_of(
    form: str, spoil: Spoil, message: str, tmp_path: Path
) -> None:
    source = written(form, tmp_path / "crawl", drawn_crawl(3))
    (part, *_) = source.ranges(10)
    for path in (tmp_path / "crawl").iterdir():
        spoil(path)
    with pytest.raises(SourceError, match=f"source crawl: .* {message}"):
        list(source.read(part))


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    for form in FORMS:
        source = written(form, tmp_path / form, drawn_crawl(3))
        before = len(os.listdir("/proc/self/fd"))
        records_of(source)
        assert len(os.listdir("/proc/self/fd")) == before


def test_one_file_of_a_crawl_is_a_source_too(tmp_path: Path) -> None:
    write_tars(tmp_path / "crawl", drawn_crawl(), tar_images=5)
    one = records_of(source_of(kind="tars", path=str(tmp_path / "crawl" / "00001.tar")))
    assert [record.key for record in one] == [f"00001.tar/00001000{n}" for n in range(5)]
    with opened_file(str(tmp_path / "crawl" / "00001.tar"), "00001.tar") as file:
        assert file.read(9) == b"000010000"


def test_the_documented_sources_can_be_written_so_and_every_setting_is_documented() -> None:
    page = (Path(__file__).parents[1] / "docs" / "sources.md").read_text("utf-8")
    snippets = [yaml.safe_load(block)["sources"] for block in re.findall(r"^```yaml\n(.*?)^```", page, re.M | re.S)]
    described = [source_of(**settings) for snippet in snippets for settings in snippet]
    assert {source.kind for source in described} == {"folder", "tars", "warc", "parquet", "idx", "drawn_faces"}
    for source in described:
        assert [name for name in type(source).model_fields if f"`{name}`" not in page and f"{name}:" not in page] == []
