"""The deny list: what it holds does not come back, in whatever form, and nothing else is left out."""

import asyncio
import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from crawl_forms import write_response
from crawl_server import crawl_server, picture
from hypothesis import given
from hypothesis import strategies as st
from warcio.warcwriter import WARCWriter

from manifests.denied import (
    DENIED,
    DenyList,
    DenyListError,
    add_denied,
    copies_hashes,
    denied_id,
    denied_key,
    emptied,
    is_flat,
    person_sha256,
    read_denied,
    url_sha256,
)
from manifests.schema import SAMPLES, Reason, record_id
from manifests.store import Folder
from pipelines.crawl.denied import purge_fetched
from pipelines.crawl.denied import without_denied as wanted_without_denied
from pipelines.crawl.parts import fetch_parts, read_sealed, reopen, sealed_name
from pipelines.crawl.plan import planned, read_group, read_groups, wanted_urls, write_plan
from pipelines.crawl.rows import FETCHED
from pipelines.crawl.settings import FetchSettings
from pipelines.denied import taken_down, without_copies
from pipelines.recipe import IngestSettings, Recipe
from pipelines.samples import Looked, Planting, look
from pipelines.sources import Part, Record, Source, SourceError, list_parts, read_part, without_denied
from pipelines.sources.bedroom import draw_room
from pipelines.sources.folder import FolderSource
from pipelines.sources.tar import TarSource
from pipelines.sources.tars import TarsSource
from pipelines.sources.warc import WarcSource
from pipelines.stages import ingest
from pipelines.stages.context import frozen_parts

Rgb = npt.NDArray[np.uint8]
DENIED_ROOMS, OTHER_ROOMS = range(12), range(100, 300)


def deny_list(*rows: dict[str, Any]) -> DenyList:
    return DenyList(pa.Table.from_pylist([{"record_id": str(n), **row} for n, row in enumerate(rows)], DENIED))


def room(number: int) -> Rgb:
    return draw_room(8, number).image


def png(picture: Rgb) -> bytes:
    return cv2.imencode(".png", picture[..., ::-1])[1].tobytes()


def looked(key: str, data: bytes) -> Looked:
    return look("photos", Record(key, data), IngestSettings(), Planting(0, 0.0))


# By what is known


def test_a_record_is_held_by_id_bytes_address_or_person() -> None:
    denied = deny_list(
        {"record_id": record_id("photos", "a.jpg")},
        {"sha256": hashlib.sha256(b"bytes").hexdigest()},
        {"url_sha256": url_sha256("https://a.example/1.jpg")},
        {"person_sha256": person_sha256("Zoë Quill")},
    )
    held = {
        "id": Record("a.jpg", b"1"),
        "bytes": Record("b.jpg", b"bytes"),
        "address": Record("c.jpg", b"2", url=" https://a.example/1.jpg"),
        "person": Record("d.jpg", None, person="zoe\u0308_QUILL", reason=Reason.NOT_FETCHED),
    }
    for record in held.values():
        left = taken_down("photos", record, denied)
        assert left == Record(denied_key(record_id("photos", record.key)), None, reason=Reason.DENIED)
        row = look("photos", left, IngestSettings(), Planting(0, 0.0)).row
        assert (row["record_id"], row["status"], row["reason"]) == (
            record_id("photos", record.key),
            "dropped",
            "denied",
        )
        assert row == emptied(row)
    others = [
        Record("a.jpg2", b"bytes2", url="https://a.example/2.jpg", person="Zoë Quil"),
        Record("b.jpg", None),
    ]
    for record in others:
        assert taken_down("photos", record, denied) is record
    assert taken_down("elsewhere", held["id"], denied) is held["id"]


@pytest.mark.parametrize(
    "name", ["Ada Lovelace", "ada lovelace", "ADA_LOVELACE", "  Ada   Lovelace ", "\uff21da Lovelace"]
)
def test_spellings_of_a_name_are_one(name: str) -> None:
    assert person_sha256(name) == person_sha256("Ada Lovelace")
    assert person_sha256(name) != person_sha256("Ada Lovelaces")


@given(st.text())
def test_any_text_has_hashes(text: str) -> None:
    assert len(person_sha256(text)) == len(url_sha256(text)) == 64
    assert denied_id(denied_key(person_sha256(text))) == person_sha256(text)
    assert denied_id(text) is None


def test_a_denied_row_keeps_its_id_and_nothing_else() -> None:
    row = {name: f"secret {name}" for name in SAMPLES.names}
    left = emptied(row)
    assert left.keys() == row.keys()
    told = {name: value for name, value in left.items() if value is not None}
    assert {name for name, value in told.items() if "secret" in value} <= {
        "record_id",
        "source",
        "parent_id",
        "source_key",
    }
    assert told["source_key"] == denied_key("secret parent_id")
    assert (told["status"], told["reason"]) == ("dropped", "denied")


# By what it looks like


@pytest.fixture(scope="module")
def rooms_denied() -> DenyList:
    thumbs = np.stack([looked("x", png(room(number))).row["whole_thumb"] for number in DENIED_ROOMS])
    return deny_list(*({"phashes": hashes} for hashes in copies_hashes(thumbs).tolist()))


def changed(picture: Rgb, change: str) -> bytes:
    height, width = picture.shape[:2]
    if change == "jpeg":
        return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
    if change == "smaller":
        return png(
            cv2.resize(picture, (width * 3 // 4, height * 3 // 4), interpolation=cv2.INTER_AREA).astype(np.uint8)
        )
    if change == "double":
        return png(cv2.resize(picture, (width * 2, height * 2), interpolation=cv2.INTER_CUBIC).astype(np.uint8))
    return png(np.ascontiguousarray(picture[:, ::-1]))


@pytest.mark.parametrize("change", ["jpeg", "smaller", "double", "mirrored"])
def test_copies_are_found_and_other_rooms_are_not(rooms_denied: DenyList, change: str) -> None:
    copies = [looked(f"{number}", changed(room(number), change)) for number in DENIED_ROOMS]
    others = [looked(f"{number}", png(room(number))) for number in OTHER_ROOMS]
    left = without_copies("photos", [*others, *copies], rooms_denied)
    reasons = [one.row["reason"] for one in left]
    assert reasons[len(others) :] == ["denied"] * len(copies)
    # Drawn rooms are more alike than photos are, so of these a few do hash alike.
    mistaken = [number for number, reason in zip(OTHER_ROOMS, reasons, strict=False) if reason is not None]
    assert len(mistaken) <= len(others) * 0.02, mistaken
    assert all(now is then for now, then, reason in zip(left, others, reasons, strict=False) if reason is None)
    assert [one.row["record_id"] for one in left[len(others) :]] == [one.row["record_id"] for one in copies]
    for one in left[len(others) :]:
        assert one.row == emptied(one.row)
        assert not one.plants


def test_flat_pictures_are_never_copies(rooms_denied: DenyList) -> None:
    flat = [looked(f"{value}", png(np.full((64, 64, 3), value, np.uint8))) for value in (0, 90, 255)]
    assert all(is_flat(one.row["whole_thumb"]) for one in flat)
    everything = deny_list(
        *({"phashes": hashes} for hashes in copies_hashes(np.stack([o.row["whole_thumb"] for o in flat])).tolist())
    )
    assert without_copies("photos", flat, everything) == flat
    assert without_copies("photos", flat, rooms_denied) == flat


# The file


def test_rows_are_joined_by_record_and_none_is_lost(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    assert len(read_denied([run])) == 0
    bare = dict.fromkeys(DENIED.names)
    add_denied(run, [bare | {"record_id": "b", "sha256": "1"}, bare | {"record_id": "a", "phashes": [1, 2**64 - 1]}])
    first = run.read_bytes("denied.parquet")
    add_denied(run, [bare | {"record_id": "b", "sha256": "1"}])
    assert run.read_bytes("denied.parquet") == first
    joined = add_denied(run, [bare | {"record_id": "b", "person_sha256": "p"}, bare | {"record_id": "a"}])
    assert joined.table.to_pylist() == read_denied([run]).table.to_pylist()
    assert joined.table.to_pylist() == [
        bare | {"record_id": "a", "phashes": [1, 2**64 - 1]},
        bare | {"record_id": "b", "sha256": "1", "person_sha256": "p"},
    ]
    other = Folder(tmp_path / "other")
    add_denied(other, [bare | {"record_id": "c", "url_sha256": "u"}])
    both = read_denied([run], [other.path("denied.parquet")])
    assert both.record_ids == {"a", "b", "c"}
    assert [set(held) for held in (both.sha256, both.urls, both.persons)] == [{"1"}, {"u"}, {"p"}]


def test_a_list_that_is_none_is_one_error(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    Folder(tmp_path).write_table("other.parquet", pa.table({"record_id": ["a"]}))
    for name, words in (("gone", "can't be read"), ("text", "can't be read"), ("other", "is no deny list")):
        with pytest.raises(DenyListError, match=words):
            read_denied((), [str(tmp_path / f"{name}.parquet")])
        with pytest.raises(DenyListError, match=words):
            ingest.check_ready(IngestSettings(deny=(str(tmp_path / f"{name}.parquet"),)))


# Parts


def add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    tar.addfile(info, io.BytesIO(data))


def source_of(kind: str, root: Path) -> Source:
    images = {f"Zora_Quill/{n}.jpg" if n % 3 == 1 else f"Milo/{n}.jpg": png(room(n)) for n in range(8)}
    if kind == "folder":
        for name, data in images.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_bytes(data)
        return FolderSource(kind="folder", name="s", path=str(root), person="folder")
    if kind in ("tar", "tars"):
        with tarfile.open(root / "a.tar", "w") as tar:
            for name, data in images.items():
                add(tar, name, data)
            # A sample of neither an image nor a .json
            add(tar, "lone.txt", b"text")
        if kind == "tar":
            return TarSource(kind="tar", name="s", path=str(root / "a.tar"))
        return TarsSource(kind="tars", name="s", path=str(root))
    with (root / "a.warc.gz").open("wb") as file:
        warc = WARCWriter(file, gzip=True)
        for name, data in images.items():
            write_response(warc, f"https://pics.example/{name}", data, "image/png")
    people = root.with_name("people.csv")
    known = (f"https://pics.example/{name},{name.partition('/')[0]}\n" for name in images)
    people.write_text("url,person\n" + "".join(known))
    return WarcSource(kind="warc", name="s", path=str(root), people=str(people))


@pytest.mark.parametrize("kind", ["folder", "tar", "tars", "warc"])
def test_a_part_without_denied_entries_yields_the_others_as_they_were(kind: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    sources = (source_of(kind, tmp_path / "source"),)
    parts = list_parts(sources, 5)
    before = [list(read_part(sources, part)) for part in parts]
    everything = [record for records in before for record in records]
    chosen = {record.key for n, record in enumerate(everything) if n in (0, 3, 4, len(everything) - 1)}
    denied = deny_list(*({"record_id": record_id("s", key)} for key in chosen))
    left = [without_denied(sources, part, denied) for part in parts]
    # As it is stored and read again; and once more changes nothing.
    left = [Part.from_row(part.row()) for part in left]
    assert [without_denied(sources, part, denied) for part in left] == left
    for records, part in zip(before, left, strict=True):
        now = list(read_part(sources, part))
        assert part.range.records == len(now) == len(records)
        for record, after in zip(records, now, strict=True):
            if record.key in chosen:
                assert after == Record(denied_key(record_id("s", record.key)), None, reason=Reason.DENIED)
            else:
                assert after == record
    assert [without_denied(sources, part, deny_list({"record_id": "none"})) for part in parts] == parts


@pytest.mark.parametrize("kind", ["folder", "warc"])
def test_a_part_is_without_what_its_list_says_of_the_denied(kind: str, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    source = source_of(kind, tmp_path / "source")
    zora = [f"https://pics.example/Zora_Quill/{n}.jpg" for n in (1, 4, 7)]
    denied = [{"person_sha256": person_sha256("zora quill")}, *({"url_sha256": url_sha256(url)} for url in zora)]
    run = Folder(tmp_path / "run")
    bare = dict.fromkeys(DENIED.names)
    add_denied(run, [bare | {"record_id": f"{n}"} | row for n, row in enumerate(denied)])
    recipe = Recipe.model_validate({"name": "r", "sources": [source.model_dump()]})
    parts = list_parts(recipe.sources, 3)
    ingest.prepare(run, recipe, parts)
    frozen = frozen_parts(run)
    assert [part.range.records for part in frozen] == [part.range.records for part in parts]
    told = b"\n".join(name for part in frozen for name in part.range.names)
    assert b"Zora" in b"\n".join(name for part in parts for name in part.range.names)
    assert b"Zora" not in told
    assert b"Milo" in told
    records = [record for part in frozen for record in read_part(recipe.sources, part)]
    assert sum(record.reason is Reason.DENIED for record in records) == 3
    assert sum(record.data is not None for record in records) == 5


def test_a_source_that_lost_files_since_is_still_told_of(tmp_path: Path) -> None:
    source = source_of("tar", tmp_path)
    (part,) = list_parts((source,), 100)
    first = next(iter(read_part((source,), part)))
    left = without_denied((source,), part, deny_list({"record_id": record_id("s", first.key)}))
    (tmp_path / "a.tar").unlink()
    with pytest.raises(SourceError, match="can't be read"):
        list(read_part((source,), left))


# What was fetched


def listed_urls() -> pa.Table:
    rows = [
        ("https://a.example/1.jpg", "Zora Quill"),
        ("https://a.example/2.jpg", "Milo"),
        ("https://a.example/both.jpg", "Zora Quill"),
        ("https://a.example/both.jpg", "Milo"),
        ("https://b.example/copy-of-2.jpg", "Otto"),
    ]
    return pa.Table.from_pylist([{"url": url, "person": person, "licence": None} for url, person in rows])


def write_fetched(folder: Folder) -> None:
    write_plan(folder, planned(wanted_urls("web", listed_urls()), 10))
    for group in read_groups(folder):
        rows = read_group(folder, group.plan, group.place)
        for part in group.parts:
            sealed = []
            for row in (row for row in rows if row["part"] == part):
                image = b"image of 2" if row["url"].endswith("2.jpg") else row["url"].encode()
                of_plan = {name: row[name] for name in ("number", "source", "url", "listed", "hops")}
                sealed.append(
                    of_plan
                    | {"final_url": row["url"], "status": 200, "may_retry": False, "attempts": 1, "seconds": 0.1}
                    | {"fetched_at": "2024", "sha256": hashlib.sha256(image).hexdigest(), "image": image}
                )
            folder.write_table(sealed_name(part), pa.Table.from_pylist(sealed, FETCHED))


def fetched_rows(folder: Folder) -> dict[int, dict[str, Any]]:
    parts = [part for group in read_groups(folder) for part in group.parts]
    return {row["number"]: row for part in parts for table in read_sealed(folder, part) for row in table.to_pylist()}


def test_what_was_fetched_is_left_without_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write_fetched(folder)
    before = fetched_rows(folder)
    purge_fetched(folder, deny_list({"record_id": "none"}))
    assert fetched_rows(folder) == before
    denied = deny_list(
        {"person_sha256": person_sha256("zora quill")}, {"sha256": hashlib.sha256(b"image of 2").hexdigest()}
    )
    purge_fetched(folder, denied)
    after = fetched_rows(folder)
    assert before.keys() == after.keys()
    images = {number: row["image"] for number, row in after.items()}
    assert images == {0: None, 1: None, 2: b"https://a.example/both.jpg", 3: None}
    assert [after[number]["reason"] for number in range(4)] == ["denied", "denied", None, "denied"]
    plans = [row for group in read_groups(folder) for row in read_group(folder, group.plan, group.place)]
    told = repr((after, plans))
    assert "Zora" not in told
    assert "Otto" not in told
    assert "1.jpg" not in told
    both = [entry["person"] for entry in after[2]["listed"]]
    assert both == [None, "Milo"]
    assert [denied_id(entry["key"]) for entry in after[2]["listed"]] == [
        record_id("web", "https://a.example/both.jpg"),
        None,
    ]
    # Keys of records stay, so that the same rows are denied when ingest reads them again.
    assert denied_id(after[0]["listed"][0]["key"]) == record_id("web", "https://a.example/1.jpg")


def test_a_denied_address_is_not_asked_for() -> None:
    denied = deny_list({"url_sha256": url_sha256("https://a.example/2.jpg")})
    left = [wanted_without_denied(wanted, denied) for wanted in wanted_urls("web", listed_urls())]
    assert [denied_id(wanted.target) is not None for wanted in left] == [False, True, False, False]
    assert "2.jpg" not in repr(left[1])


def test_what_was_purged_is_not_asked_for_when_a_part_is_opened_again(tmp_path: Path) -> None:
    fetched = Folder(tmp_path)
    agent = {"user_agent": "testbot/1.0 (+mailto:nobody@example.com)", "per_host_delay_s": 0, "retries": 0}
    settings = FetchSettings.model_validate(agent | {"allow_hosts": ["127.0.0.2"]})

    def fetch_all() -> None:
        for group in read_groups(fetched):
            asyncio.run(fetch_parts(fetched, settings, read_group(fetched, group.plan, group.place)))

    with crawl_server(["127.0.0.2"]) as server:
        paths = ["/good/1.png", "/broken/2.png", "/broken/3.png", "/good/4.png"]
        rows = [{"url": server.url(path), "person": f"Person {path}", "licence": None} for path in paths]
        write_plan(fetched, planned(wanted_urls("web", pa.Table.from_pylist(rows)), 10))
        fetch_all()
        assert {row["image"] is not None for row in fetched_rows(fetched).values()} == {True, False}
        purge_fetched(fetched, deny_list(*({"url_sha256": url_sha256(server.url(path))} for path in paths[:2])))
        assert reopen(fetched, 0)
        asked = len(server.asked)
        fetch_all()
        again = [path for path in server.paths()[asked:] if not path.startswith(("/robots", "/.well"))]
    assert again == ["/broken/3.png"]
    after = fetched_rows(fetched)
    assert [after[number]["reason"] for number in range(4)] == ["denied", "denied", "not_fetched", None]
    data = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert picture("/good/1.png") not in data
    assert picture("/good/4.png") in data
    for path in paths[:2]:
        assert path not in repr(after)
