"""Every record becomes one row, whatever its bytes are; whole parts are done here in this process, without Ray."""

import hashlib
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import imagehash
import numpy as np
import pyarrow as pa
import pytest
from drawn_faces import blank, draw_face
from odd_images import COLOURS, EXPECTED, HEIGHT, KNOWN, WIDTH, file_of, odd_files, quarters
from PIL import Image
from rich.console import Console
from shard_fixture import draw_images

from dedup.changes import CHANGES
from manifests.images import Halvings, Limits, resize_area, sharpness
from manifests.perceptual import thumbs
from manifests.schema import (
    LEDGER,
    PLANTS,
    SAMPLES,
    THUMB_BYTES,
    Reason,
    Status,
    face_record_id,
    record_id,
    sample_id,
    status_of,
)
from manifests.store import Folder
from pipelines.faces import FaceSettings
from pipelines.filters import FilterSettings
from pipelines.progress import Reporter
from pipelines.recipe import IngestSettings, Recipe
from pipelines.samples import Looked, Planting, look
from pipelines.sources import Record, SourceError, list_parts
from pipelines.sources.folder import FolderSource
from pipelines.stages import ingest
from pipelines.stages.context import Context
from pipelines.stages.ingest import ingest_part
from pipelines.yunet import ModelError

Row = dict[str, Any]
NONE = Planting(seed=0, share=0.0)
ALL = Planting(seed=0, share=1.0)
ONLY_KEPT = {"mean", "deviation", "sharpness", "centre_thumb", "whole_thumb", "phash", "phash_mirror", "image"}


def ingested(
    photos: Path, out: Path, settings: IngestSettings, planting: Planting = NONE, part_images: int = 100
) -> tuple[list[Row], list[Row]]:
    """The rows, and the rows of the planted near-duplicates, of a folder of photos."""
    sources = (FolderSource(kind="folder", name="photos", path=str(photos)),)
    folder = Folder(out)
    for part in list_parts(sources, part_images):
        done = ingest_part(folder, sources, settings, planting, part.row())
        assert done == {"number": part.number, "records": part.range.records}
    samples, plants = (list(folder.read_tables(prefix)) for prefix in ("part-", "plants-"))
    assert {table.schema for table in samples} == {SAMPLES}
    assert {table.schema for table in plants} == {PLANTS}
    return pa.concat_tables(samples).to_pylist(), pa.concat_tables(plants).to_pylist()


def looked(data: bytes, planting: Planting = NONE, **settings: Any) -> Looked:
    return look("photos", Record("key", data), IngestSettings(**settings), planting)


def pixels(row: Row) -> np.ndarray[Any, np.dtype[np.uint8]]:
    decoded = cv2.imdecode(np.frombuffer(row["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert decoded is not None
    return np.asarray(decoded, np.uint8)


def jpeg_of(width: int, height: int) -> bytes:
    return file_of(quarters(COLOURS).resize((width, height)), "JPEG")


@pytest.fixture(scope="module")
def odd_rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """Rows of a folder of every odd file, of one that can't be read, and of two with the same bytes."""
    photos, out = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("samples")
    for name, data in odd_files().items():
        (photos / name).write_bytes(data)
    (photos / "PLAIN.JPG").write_bytes(odd_files()["plain.jpg"])
    (photos / "loop.jpg").symlink_to("loop.jpg")
    return ingested(photos, out, IngestSettings())[0]


def test_every_odd_file_has_its_reason(odd_rows: list[Row]) -> None:
    expected: dict[str, Reason | None] = EXPECTED | {"PLAIN.JPG": None, "loop.jpg": Reason.UNREADABLE}
    expected |= {name: Reason.ANIMATED for name in expected if name.startswith("animated")}
    assert {row["source_key"]: row["reason"] for row in odd_rows} == expected
    assert len(odd_rows) == len(expected)
    for row in odd_rows:
        assert row["status"] == status_of(expected[row["source_key"]])
        assert (row["detail"] is None) == (row["status"] == Status.KEPT)
        assert row["source"] == "photos"
        assert row["record_id"] == record_id("photos", row["source_key"])
    counted = Counter(row["status"] for row in odd_rows)
    assert sum(counted[status] for status in Status) == len(odd_rows)


def test_ids_come_of_the_bytes(odd_rows: list[Row]) -> None:
    files = odd_files() | {"PLAIN.JPG": odd_files()["plain.jpg"]}
    by_key = {row["source_key"]: row for row in odd_rows}
    for name, data in files.items():
        digest = hashlib.sha256(data).hexdigest()
        row = by_key[name]
        assert (row["sha256"], row["sample_id"], row["size_bytes"]) == (digest, sample_id(digest), len(data))
    unread = by_key["loop.jpg"]
    assert (unread["sha256"], unread["sample_id"], unread["size_bytes"]) == (None, None, None)
    assert unread["detail"] == "Too many levels of symbolic links"
    assert by_key["PLAIN.JPG"]["sample_id"] == by_key["plain.jpg"]["sample_id"]
    assert by_key["PLAIN.JPG"]["record_id"] != by_key["plain.jpg"]["record_id"]


def test_kept_rows_are_whole_and_the_others_hold_no_pixels(odd_rows: list[Row]) -> None:
    for row in odd_rows:
        if row["status"] != Status.KEPT:
            assert {name for name in ONLY_KEPT if row[name] is not None} == set()
            continue
        empty = {name for name in SAMPLES.names if row[name] is None}
        assert empty == {"reason", "detail", "facts", *LEDGER.names[LEDGER.names.index("person") :]}
        assert (row["width"], row["height"]) == (WIDTH, HEIGHT)
        assert len(row["centre_thumb"]) == len(row["whole_thumb"]) == THUMB_BYTES
        thumb = Image.frombytes("RGB", (32, 32), row["whole_thumb"])
        assert f"{row['phash']:016x}" == str(imagehash.phash(thumb))


def test_training_images_show_the_picture(odd_rows: list[Row]) -> None:
    for row in odd_rows:
        if row["status"] == Status.KEPT and row["source_key"] in KNOWN:
            image = pixels(row)
            assert image.shape == (64, 64, 3)
            middles = [image[y, x].tolist() for y in (16, 48) for x in (16, 48)]
            np.testing.assert_allclose(middles, KNOWN[row["source_key"]], atol=6, err_msg=row["source_key"])
            luma = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float64)
            assert row["mean"] == pytest.approx(luma.mean(), rel=1e-5)
            assert row["deviation"] == pytest.approx(luma.std(), rel=1e-5)


def test_animated_files_give_their_first_frame_where_wanted() -> None:
    for name in ("animated.gif", "animated.png", "animated.webp"):
        row = looked(odd_files()[name], filters=FilterSettings(animated=True)).row
        assert row["status"] == Status.KEPT
        np.testing.assert_allclose(pixels(row)[16, 16], KNOWN[name][0], atol=6)


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [
        (63, 100, Reason.TOO_SMALL),
        (100, 63, Reason.TOO_SMALL),
        (64, 192, None),
        (192, 64, None),
        (193, 64, Reason.ASPECT),
        (64, 193, Reason.ASPECT),
        (64, 64, None),
    ],
)
def test_shapes_are_filtered_at_the_limit(width: int, height: int, reason: Reason | None) -> None:
    row = looked(jpeg_of(width, height)).row
    assert (row["reason"], row["status"]) == (reason, status_of(reason))
    assert (row["width"], row["height"]) == (width, height)


def test_limits_are_held_before_decoding() -> None:
    data = jpeg_of(100, 90)
    for limits, reason in (
        (Limits(max_bytes=len(data)), None),
        (Limits(max_bytes=len(data) - 1), Reason.TOO_MANY_BYTES),
        (Limits(max_pixels=9000), None),
        (Limits(max_pixels=8999), Reason.TOO_MANY_PIXELS),
    ):
        assert looked(data, limits=limits).row["reason"] == reason


@pytest.mark.parametrize("image_format", ["png", "jpeg"])
@pytest.mark.parametrize("image_px", [16, 128])
def test_training_images_have_the_recipes_size_and_format(image_format: str, image_px: int) -> None:
    row = looked(jpeg_of(300, 200), image_format=image_format, image_px=image_px).row
    assert pixels(row).shape == (image_px, image_px, 3)
    assert row["image"].startswith(b"\x89PNG" if image_format == "png" else b"\xff\xd8\xff")


def test_the_smallest_images_can_be_kept_and_planted() -> None:
    settings = {"filters": FilterSettings(smallest_side_px=1, largest_aspect=1000)}
    for width, height in ((1, 1), (1, 90), (90, 1), (2, 3), (31, 40), (32, 32), (33, 500)):
        result = looked(file_of(quarters(COLOURS).resize((width, height)), "PNG"), ALL, **settings)
        assert result.row["status"] == Status.KEPT
        # The changes are made for pictures of 32 pixels and more.
        assert len(result.plants) == (len(CHANGES) if min(width, height) >= 32 else 0)


def test_a_detail_is_short() -> None:
    row = looked(b"\x89PNG\r\n\x1a\n" + bytes(5000)).row
    assert row["status"] == Status.FAILED
    assert 0 < len(row["detail"]) <= 300


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 23 drawn pictures, two of them the same, and one text."""
    folder = tmp_path_factory.mktemp("photos")
    for number, image in enumerate(draw_images(22, size_px=80)):
        (folder / f"{number:02d}.png").write_bytes(file_of(Image.fromarray(image), "PNG"))
    (folder / "again.png").write_bytes((folder / "07.png").read_bytes())
    (folder / "text.png").write_bytes(b"no picture")
    return folder


def test_parts_do_not_show_in_what_comes_out(photos: Path, tmp_path: Path) -> None:
    planting = Planting(seed=4, share=0.4)
    outcomes = [
        ingested(photos, tmp_path / str(part_images), IngestSettings(), planting, part_images)
        for part_images in (1, 7, 100)
    ]
    assert outcomes[0] == outcomes[1] == outcomes[2]
    rows, plants = outcomes[0]
    assert len(rows) == 24
    chosen = [row["sample_id"] for row in rows if row["status"] == Status.KEPT and planting.chosen(row["sample_id"])]
    assert 0 < len(chosen) < 23
    assert [(row["sample_id"], row["change"]) for row in plants] == [(s, change) for s in chosen for change in CHANGES]
    # The same files give the same bytes, so a part that is done twice does no harm.
    again = tmp_path / "again"
    ingested(photos, again, IngestSettings(), planting, 7)
    for name in Folder(again).names():
        assert Folder(again).read_bytes(name) == Folder(tmp_path / "7").read_bytes(name)


def test_planting_hangs_on_seed_and_share_alone() -> None:
    ids = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(4000)]
    chosen = {share: {i for i in ids if Planting(1, share).chosen(i)} for share in (0.0, 0.05, 0.5, 1.0)}
    assert [len(chosen[share]) for share in (0.0, 1.0)] == [0, 4000]
    assert len(chosen[0.05]) == pytest.approx(200, abs=5 * 14)  # 5 deviations of a binomial
    assert chosen[0.05] < chosen[0.5]
    assert not chosen[0.05] <= {i for i in ids if Planting(2, 0.5).chosen(i)}


def test_plants_are_the_changed_picture(photos: Path, tmp_path: Path) -> None:
    rows, plants = ingested(photos, tmp_path, IngestSettings(), ALL)
    assert len(plants) == 23 * len(CHANGES)
    row_of = {row["sample_id"]: row for row in rows}
    by_change = {change: [p for p in plants if p["change"] == change] for change in CHANGES}
    for plant in by_change["png"]:  # which changes the file, not the picture
        row = row_of[plant["sample_id"]]
        assert all(plant[name] == row[name] for name in ("centre_thumb", "whole_thumb", "phash", "phash_mirror"))
    for plant in by_change["mirror"]:
        row = row_of[plant["sample_id"]]
        assert (plant["phash"], plant["phash_mirror"]) == (row["phash_mirror"], row["phash"])
    for plant in by_change["jpeg30"]:
        assert plant["whole_thumb"] != row_of[plant["sample_id"]]["whole_thumb"]


def test_a_source_that_changed_since_is_an_error_and_no_part(photos: Path, tmp_path: Path) -> None:
    class Shrunk(FolderSource):
        def read(self, part: Any) -> Any:
            return list(super().read(part))[:-1]

    sources = (Shrunk(kind="folder", name="photos", path=str(photos)),)
    (part,) = list_parts(sources, 100)
    with pytest.raises(SourceError, match="photos, part 0: expected 24 records, got 23; the source changed"):
        ingest_part(Folder(tmp_path), sources, IngestSettings(), NONE, part.row())
    assert Folder(tmp_path).names() == []


def test_the_list_of_parts_is_frozen_at_the_first_run(photos: Path, tmp_path: Path) -> None:
    def context(part_images: int) -> Context:
        source = {"kind": "folder", "name": "photos", "path": str(photos)}
        recipe = Recipe.model_validate(
            {"name": "a", "sources": [source], "resources": {"part_images": part_images}},
        )
        return Context(Folder(tmp_path), recipe, Reporter(Console()), on_cluster=False)

    recipe = context(10).recipe
    ingest.prepare(Folder(tmp_path), recipe, list_parts(recipe.sources, 10))
    assert ingest.is_prepared(Folder(tmp_path))
    assert ingest.progress(context(10)) == (0, 3)
    assert ingest.progress(context(5)) == (0, 3)
    Folder(tmp_path).child("samples").write_bytes("part-00001.parquet", b"")
    assert ingest.progress(context(10)) == (1, 3)


def with_faces(folder: Path) -> Path:
    """A folder of a person: two faces, one, none; the one again; and a text."""
    two, one = blank(560, 260), blank(300, 300)
    draw_face(two, 150, 130, 80)
    draw_face(two, 410, 130, 100)
    draw_face(one, 150, 150, 90)
    for name, image in (("two", two), ("one", one), ("none", blank(200, 200)), ("again", one)):
        (folder / f"{name}.png").write_bytes(file_of(Image.fromarray(image), "PNG"))
    (folder / "text.png").write_bytes(b"no picture")
    return folder


HAAR = FaceSettings(detector="haar")


def test_each_face_is_a_row_of_its_own_beside_its_images(tmp_path: Path) -> None:
    photos = with_faces(tmp_path)
    rows, plants = ingested(photos, tmp_path / "out", IngestSettings(faces=HAAR), ALL)
    by_key = {row["source_key"]: row for row in rows if row["parent_id"] is None}
    assert {key: (row["status"], row["reason"]) for key, row in by_key.items()} == {
        "two.png": (Status.USED, None),
        "one.png": (Status.USED, None),
        "again.png": (Status.USED, None),
        "none.png": (Status.DROPPED, Reason.NO_FACE),
        "text.png": (Status.FAILED, Reason.NOT_AN_IMAGE),
    }
    for image in by_key.values():
        # Of an image that faces are cut out of, only what copies of it are found by.
        hashed = {"phash", "phash_mirror"} if image["status"] == Status.USED else set()
        assert {name for name in ONLY_KEPT if image[name] is not None} == hashed
    found = [row for row in rows if row["parent_id"] is not None]
    assert Counter(row["source_key"] for row in found) == {"two.png": 2, "one.png": 1, "again.png": 1}
    assert len({row["record_id"] for row in rows}) == len(rows)
    for face in found:
        image, crop = by_key[face["source_key"]], tuple(face["crop_px"])
        same = ("source", "source_key", "sha256", "size_bytes", "format", "width", "height", "person", "url", "licence")
        assert [face[name] for name in same] == [image[name] for name in same]
        assert face["parent_id"] == image["record_id"]
        assert face["record_id"] == face_record_id(image["record_id"], crop)
        assert face["sample_id"] == sample_id(image["sha256"], crop)
        assert face["status"] == Status.KEPT
        left, top, side, _ = crop
        source = np.asarray(Image.open(photos / face["source_key"]))[top : top + side, left : left + side]
        np.testing.assert_array_equal(pixels(face), resize_area(Halvings(source), 64))
        assert face["centre_thumb"] == face["whole_thumb"] == thumbs(source)[1].tobytes()
        assert face["phash"] is not None
        assert face["sharpness"] == pytest.approx(sharpness(pixels(face)), rel=1e-6)
    one, again = (next(row for row in found if row["source_key"] == f"{name}.png") for name in ("one", "again"))
    assert one["sample_id"] == again["sample_id"]
    assert [(p["sample_id"], p["change"]) for p in plants] == [(f["sample_id"], c) for f in found for c in CHANGES]


def test_faces_that_are_not_kept_hold_no_pixels_and_say_why(tmp_path: Path) -> None:
    photos = with_faces(tmp_path)
    settings = FaceSettings(detector="haar", score_min=1000)
    rows, plants = ingested(photos, tmp_path / "out", IngestSettings(faces=settings), ALL)
    found = [row for row in rows if row["parent_id"] is not None]
    assert len(found) == 4
    for face in found:
        assert (face["status"], face["reason"]) == (Status.DROPPED, Reason.FACE_UNSURE)
        assert face["detail"]
        assert {name for name in ONLY_KEPT if face[name] is not None} == set()
        assert face["crop_px"] is not None
    assert plants == []


def test_a_person_is_certain_where_no_other_face_is_found(tmp_path: Path) -> None:
    photos = with_faces(tmp_path)
    for name, certain in (("one", True), ("two", False), ("none", True)):
        record = Record("key", (photos / f"{name}.png").read_bytes(), person="Ada", url="http://a", licence="CC0")
        result = look("photos", record, IngestSettings(faces=HAAR), NONE)
        rows = [result.row, *(face.row for face in result.faces)]
        assert len(rows) == {"one": 2, "two": 3, "none": 1}[name]
        for row in rows:
            assert (row["person"], row["url"], row["licence"]) == ("Ada", "http://a", "CC0")
            assert row["person_certain"] is certain
        unnamed = look("photos", Record("key", record.data), IngestSettings(faces=HAAR), NONE)
        assert {one.row["person_certain"] for one in (unnamed, *unnamed.faces)} == {None}


def test_counts_reconcile_for_images_and_for_faces(tmp_path: Path) -> None:
    photos, out = with_faces(tmp_path), Folder(tmp_path / "run")
    sources = (FolderSource(kind="folder", name="photos", path=str(photos)),)
    parts = list_parts(sources, 2)
    for settings, expected in (
        (HAAR, {"read": 5, "used": 3, "dropped": 1, "failed": 1, "faces": 4, "kept": 4}),
        (
            FaceSettings(detector="haar", margin=0.5, edge="drop"),
            {"read": 5, "used": 3, "dropped": 1, "failed": 1, "faces": 4, "kept": 3},
        ),
        (None, {"read": 5, "kept": 4, "dropped": 0, "failed": 1}),
    ):
        for part in parts:
            ingest_part(out, sources, IngestSettings(faces=settings), NONE, part.row())
        counts = ingest.counted(out, [part.number for part in parts], settings is not None)
        assert counts == expected
        assert counts["read"] == sum(counts[name] for name in ("used" if settings else "kept", "dropped", "failed"))


def test_without_faces_a_recipe_is_the_same_work_as_ever() -> None:
    assert "faces" not in ingest.identity(IngestSettings())
    assert ingest.identity(IngestSettings(faces=FaceSettings(model="/elsewhere"))) == ingest.identity(
        IngestSettings(faces=FaceSettings())
    )
    ingest.check_ready(IngestSettings())
    with pytest.raises(ModelError, match="No such file"):
        ingest.check_ready(IngestSettings(faces=FaceSettings(model="/nowhere/model.onnx")))


# A decoder that dies of some bytes, in the process that runs the program and in those that it starts.
_FATAL_DECODER = """
import os, signal
import cv2
_imdecode = cv2.imdecode
def imdecode(data, flags):
    if b"FATAL" in bytes(data):
        os.kill(os.getpid(), signal.SIGSEGV)
    return _imdecode(data, flags)
cv2.imdecode = imdecode
"""
_INGEST = """
import os, sys
from manifests.store import Folder
from pipelines.recipe import IngestSettings
from pipelines.sources import list_parts
from pipelines.sources.folder import FolderSource
from pipelines.samples import Planting
from pipelines.stages.ingest import ingest_part
sources = (FolderSource(kind="folder", name="photos", path=sys.argv[1]),)
(part,) = list_parts(sources, 100)
given = Folder(sys.argv[2]), sources, IngestSettings(), Planting(0, 1.0), part.row()
child = os.fork()
if child == 0:
    ingest_part(*given)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), given[0].names())
ingest_part(*given, isolated=True)
"""


def test_an_image_that_kills_the_decoder_is_named_and_no_other_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = tmp_path / "photos", Folder(tmp_path / "samples")
    photos.mkdir()
    for number in range(7):
        data = jpeg_of(80 + number, 80)
        (photos / f"{number}.jpg").write_bytes(data + b"FATAL" * (number in (2, 6)))
    (photos / "1_text.jpg").write_bytes(b"no picture, FATAL or not")
    (tmp_path / "sitecustomize.py").write_text(_FATAL_DECODER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    program = [sys.executable, "-c", _INGEST, str(photos), out.address]
    ended = subprocess.run(program, timeout=120, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{-signal.SIGSEGV} []\n", "together, the part dies and leaves nothing"

    rows = {row["source_key"]: row for table in out.read_tables("part-") for row in table.to_pylist()}
    reasons = {f"{number}.jpg": Reason.CRASHED if number in (2, 6) else None for number in range(7)}
    assert {key: row["reason"] for key, row in rows.items()} == reasons | {"1_text.jpg": Reason.NOT_AN_IMAGE}
    crashed = rows["2.jpg"]
    assert crashed["sha256"] == hashlib.sha256((photos / "2.jpg").read_bytes()).hexdigest()
    assert (crashed["status"], crashed["image"]) == (Status.FAILED, None)
    # Those that were looked at apart are as they would have been together.
    for number in (2, 6):
        (photos / f"{number}.jpg").unlink()
    together, plants = ingested(photos, tmp_path / "without", IngestSettings(), ALL)
    assert together == [rows[row["source_key"]] for row in together]
    (apart,) = out.read_tables("plants-")
    assert apart.to_pylist() == plants
