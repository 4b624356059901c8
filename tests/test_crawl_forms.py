"""The same crawl gives the same faces, byte for byte, in whichever form it arrives; done here, without Ray."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pyarrow as pa
import pytest
from crawl_forms import (
    Photo,
    file_path,
    tar_crawl,
    write_folder,
    write_parquet,
    write_people_csv,
    write_tars,
    write_warc,
)
from crawl_server import CrawlServer, crawl_server, nothing_leaves
from drawn_faces import blank, draw_face

from manifests.schema import SAMPLES, Reason, Status
from manifests.store import Folder
from pipelines import yunet
from pipelines.crawl.plan import read_groups
from pipelines.faces import load_model
from pipelines.inputs import sources_within
from pipelines.recipe import Recipe
from pipelines.samples import Planting
from pipelines.sources import list_parts
from pipelines.stages import fetch
from pipelines.stages.ingest import ingest_part

FORMS = ("folder", "people", "tars", "warc", "warc.gz", "parquet", "urls")
HOSTS = tuple(f"127.0.0.{number}" for number in range(2, 6))
# Where a photo lay is all that its form may show in; of people in folders neither address nor licence is known.
PLACES = {"source_key", "record_id", "parent_id", "facts"}
UNTOLD = {"folder": {"url", "licence"}}
HAAR = {"detector": "haar", "smallest_px": 40}

Row = dict[str, Any]
Faces = Counter[tuple[Any, ...]]


def write_form(form: str, folder: Path, photos: Sequence[Photo]) -> Row:
    """Write the crawl in this form; what a recipe says of it."""
    folder.mkdir()
    listed = folder / "people.csv"
    if form == "folder":
        write_folder(folder / "photos", photos)
        return {"kind": "folder", "path": str(folder / "photos"), "person": "folder"}
    if form == "people":
        write_folder(folder / "photos", photos)
        write_people_csv(listed, photos)
        return {"kind": "folder", "path": str(folder / "photos"), "people": str(listed)}
    if form == "tars":
        write_tars(folder / "tars", photos, tar_images=60)
        return {"kind": "tars", "path": str(folder / "tars")}
    if form == "parquet":
        write_parquet(folder / "photos.parquet", photos, group_rows=45)
        return {"kind": "parquet", "path": str(folder / "photos.parquet")}
    write_people_csv(listed, photos, key="url")
    if form == "urls":
        quick = {"user_agent": "testbot/1.0 (+mailto:nobody@example.com)", "per_host_delay_s": 0}
        return {"kind": "urls", "list": str(listed), "fetch": quick | {"allow_hosts": HOSTS}}
    write_warc(folder / f"photos.{form}", photos, packed=form == "warc.gz")
    return {"kind": "warc", "path": str(folder / f"photos.{form}"), "people": str(listed)}


def ingested(source: Row, folder: Path, faces: Row, part_images: int) -> list[Row]:
    """The rows of a crawl of faces, images and the faces in them, fetched first where it is one of URLs."""
    run = Folder(folder)
    recipe = Recipe.model_validate(
        {
            "name": "forms",
            "sources": [source | {"name": "crawl"}],
            "ingest": {"faces": faces},
            "resources": {"part_images": part_images},
        }
    )
    for one in fetch.url_sources(recipe):
        fetch.prepare(run, fetch.list_urls(recipe, run))
        for group in read_groups(run.child(fetch.FOLDER)):
            item = {"number": group.number, "plan": group.plan, "place": group.place}
            fetch.fetch_group(run.child(fetch.FOLDER), one.fetch, item)
    sources = sources_within(recipe, run)
    assert recipe.ingest.faces is not None
    model = load_model(recipe.ingest.faces)
    samples = run.child("samples")
    for part in list_parts(sources, part_images):
        ingest_part(samples, sources, recipe.ingest, Planting(seed=0, share=0.0), part.row(), model=model)
    rows: list[Row] = pa.concat_tables(samples.read_tables("part-")).to_pylist()
    return rows


def ledger(rows: Sequence[Row], untold: set[str]) -> Faces:
    """All that rows say but where their photos lay; pixels and thumbs are bytes in it."""
    names = [name for name in SAMPLES.names if name not in PLACES | untold]
    return Counter(
        tuple(str(row[name]) if isinstance(row[name], list) else row[name] for name in names) for row in rows
    )


def kept_faces(rows: Sequence[Row]) -> Faces:
    """The kept faces: id, person, and the encoded training image."""
    kept = [row for row in rows if row["status"] == Status.KEPT]
    assert all(row["parent_id"] is not None for row in kept)
    return Counter((row["sample_id"], row["person"], row["image"]) for row in kept)


@pytest.fixture(scope="module")
def server() -> Iterator[CrawlServer]:
    with crawl_server(list(HOSTS)) as running, nothing_leaves() as reached:
        yield running
        assert reached == []


def served(server: CrawlServer, photos: Sequence[Photo], name: str) -> list[Photo]:
    """The photos with addresses at which the server has them."""
    found = []
    for number, photo in enumerate(photos):
        path, host = quote(f"/{name}/{file_path(photo)}"), HOSTS[number % len(HOSTS)]
        server.files[host + path] = photo.data
        found.append(photo._replace(url=server.url(path, host)))
    return found


@cache
def drawn_photos() -> tuple[Photo, ...]:
    """Drawn faces: one or two to a photo, photos without any, a repeat, one that ends too soon, some without person."""
    photos = []
    for number in range(16):
        generator = np.random.default_rng(number)
        image = blank(260, 200)
        for place in range((1, 1, 2, 0)[number % 4]):
            draw_face(image, 75 + 115 * place, 100, 70 + number, roll_degrees=float(generator.uniform(-5, 5)))
        image = np.clip(image + generator.integers(-6, 7, image.shape), 0, 255).astype(np.uint8)
        ending = ("jpg", "png", "webp")[number % 3]
        data = cv2.imencode(f".{ending}", image[..., ::-1])[1].tobytes()
        person = ("Ann_Smith", "Zoë 100%", None)[number // 2 % 3]
        photos.append(Photo(person, None, ["CC0", None][number % 2], f"{number:06d}.{ending}", data))
    repeat = photos[0]._replace(name="000100.jpg", person="Somebody_Else")
    cut_short = photos[3]._replace(name="000101.jpg", data=photos[3].data[:900])
    return (*photos, repeat, cut_short)


@pytest.fixture(scope="module")
def drawn(server: CrawlServer) -> list[Photo]:
    return served(server, drawn_photos(), "drawn")


@pytest.fixture(scope="module")
def drawn_rows(drawn: list[Photo], tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Those of the folder with a list of people, with which all forms are compared."""
    folder = tmp_path_factory.mktemp("drawn")
    return ingested(write_form("people", folder / "crawl", drawn), folder / "run", HAAR, 100)


def test_the_drawn_crawl_has_faces_kept_and_dropped_and_images_of_every_end(drawn_rows: list[Row]) -> None:
    ends = Counter((row["parent_id"] is None, row["status"], row["reason"]) for row in drawn_rows)
    assert ends[True, Status.USED, None] >= 10
    assert ends[True, Status.DROPPED, Reason.NO_FACE] >= 3
    assert ends[True, Status.FAILED, Reason.CORRUPT] == 1
    kept = kept_faces(drawn_rows)
    assert kept.total() == ends[False, Status.KEPT, None] >= 12
    assert {person for _, person, _ in kept} == {"Ann_Smith", "Zoë 100%", None, "Somebody_Else"}
    assert {row["person_certain"] for row in drawn_rows if row["status"] == Status.KEPT} == {True, False, None}


@pytest.mark.parametrize("form", FORMS)
def test_drawn_faces_are_the_same_in_every_form(
    form: str, drawn: list[Photo], drawn_rows: list[Row], tmp_path: Path
) -> None:
    rows = ingested(write_form(form, tmp_path / "crawl", drawn), tmp_path / "run", HAAR, 7)
    assert kept_faces(rows) == kept_faces(drawn_rows)
    untold = UNTOLD.get(form, set())
    assert ledger(rows, untold) == ledger(drawn_rows, untold)


def forms_of_photos(server: CrawlServer, data: Path, tmp_path: Path, most: int | None) -> None:
    photos = served(server, tar_crawl(data / "genki4k.tar", most), "photos")
    faces = {"detector": "yunet", "model": str(data / yunet.FILE_NAME), "sharpness_min": 40}
    expected: Faces | None = None
    for form in FORMS:
        rows = ingested(write_form(form, tmp_path / form, photos), tmp_path / f"run-{form}", faces, 128)
        found = kept_faces(rows)
        # A crawl of photos of people that gave few faces would show nothing.
        assert found.total() > 0.8 * len(photos)
        assert {person for _, person, _ in found} <= {"Smile", "not_Smile"}
        expected = found if expected is None else expected
        assert found == expected, form


@pytest.mark.data
def test_faces_of_photos_are_the_same_in_every_form(server: CrawlServer, data: Path, tmp_path: Path) -> None:
    forms_of_photos(server, data, tmp_path, most=150)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_faces_of_all_photos_are_the_same_in_every_form(server: CrawlServer, data: Path, tmp_path: Path) -> None:
    forms_of_photos(server, data, tmp_path, most=None)
