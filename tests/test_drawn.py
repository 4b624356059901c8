"""Drawn rooms and faces as sources and LMDBs: the same however they are cut, with what was planted and the truth."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dedup.changes import CHANGES
from pipelines.recipe import IngestSettings
from pipelines.samples import Planting, look
from pipelines.sources import Record, Source
from pipelines.sources.bedroom import Room
from pipelines.sources.drawn import (
    DrawnFaceSettings,
    DrawnFacesSource,
    DrawnSource,
    RoomSettings,
    draw_all,
    encoded,
    planted,
    planted_table,
    truth_table,
)
from pipelines.sources.face import FaceTruth, draw_face, face_truth
from pipelines.sources.lsun import LsunSource, write_lmdb


def all_records(source: Source, part_images: int = 100) -> list[Record]:
    return [record for part in source.ranges(part_images) for record in source.read(part)]


# Drawn rooms


def drawn_source(**changes: object) -> DrawnSource:
    return DrawnSource.model_validate({"kind": "drawn", "name": "rooms", "images": 30, "planted_share": 0.3} | changes)


def test_drawn_rooms_are_the_same_however_they_are_cut() -> None:
    whole = all_records(drawn_source(), 100)
    assert all_records(drawn_source(), 7) == whole
    assert len({record.key for record in whole}) == 30
    # Further pictures and other names leave those before as they are.
    assert all_records(drawn_source(images=31, name="other"), 100)[:30] == whole
    other = all_records(drawn_source(seed=1), 100)
    assert not {record.key for record in other} & {record.key for record in whole}
    assert not {record.data for record in other} & {record.data for record in whole}


@given(st.integers(0, 1 << 40), st.floats(0, 0.5), st.integers(1, 5000))
def test_a_planted_room_comes_of_an_earlier_one_that_is_none(seed: int, share: float, index: int) -> None:
    described = RoomSettings(images=6000, seed=seed, planted_share=share)
    plant = planted(described, index)
    assert planted(described, 0) is None
    if plant is not None:
        assert 0 <= plant.origin < index
        assert planted(described, plant.origin) is None
        assert plant.change in CHANGES


def test_as_many_are_planted_as_was_asked_for() -> None:
    plants = [planted(RoomSettings(images=10_000, planted_share=0.1), index) for index in range(10_000)]
    changes = [plant.change for plant in plants if plant is not None]
    assert len(changes) == pytest.approx(1000, abs=5 * 30)  # 5 deviations of a binomial
    assert set(changes) == set(CHANGES)


def test_the_truth_says_what_was_drawn() -> None:
    described = RoomSettings(images=30, planted_share=0.3)
    drawn = list(draw_all(described, workers=1))
    records = all_records(drawn_source())
    assert [(key, data) for key, data, _ in drawn] == [(record.key, record.data) for record in records]
    rows = truth_table(described, [room for _, _, room in drawn]).to_pylist()
    assert [row["source_key"] for row in rows] == [record.key for record in records]
    bare = truth_table(described).to_pylist()
    columns = ("source_key", "origin_key", "change")
    assert [[row[c] for c in columns] for row in bare] == [[row[c] for c in columns] for row in rows]
    assert {row["windows"] for row in bare} == {None}
    for index, row in enumerate(rows):
        plant = planted(described, index)
        if plant is None:
            _, room = encoded(described, index)
            assert isinstance(room, Room)
            assert (row["origin_key"], row["change"]) == (None, None)
            assert [tuple(window.values()) for window in row["windows"]] == [tuple(box) for box in room.windows]
            assert tuple(row["bed"].values()) == tuple(room.bed)
        else:
            assert row["origin_key"] == rows[plant.origin]["source_key"]
            assert (row["change"], row["windows"], row["bed"]) == (plant.change, None, None)
    assert any(row["change"] for row in rows)


# Drawn faces


def test_drawn_faces_are_the_same_however_they_are_cut_and_packed(tmp_path: Path) -> None:
    described: dict[str, Any] = {"images": 24, "seed": 4, "size_px": 32, "planted_share": 0.3}
    source = DrawnFacesSource.model_validate({"kind": "drawn_faces", "name": "faces", **described})
    records = all_records(source, 100)
    assert all_records(source, 7) == records
    assert [record.facts for record in records] == [{"face": index} for index in range(24)]
    rooms = all_records(drawn_source(images=24, seed=4))
    assert not {record.key for record in records} & {record.key for record in rooms}
    settings = DrawnFaceSettings.model_validate(described)
    write_lmdb(tmp_path / "faces.lmdb", ((key, data) for key, data, _ in draw_all(settings, workers=1)))
    packed = all_records(LsunSource(kind="lsun", name="faces", path=str(tmp_path / "faces.lmdb")))
    assert {record.key: record.data for record in packed} == {record.key: record.data for record in records}


def test_the_truth_of_faces_says_what_was_drawn() -> None:
    settings = DrawnFaceSettings(images=40, seed=4, size_px=32, planted_share=0.3)
    rows = truth_table(settings, [encoded(settings, index)[1] for index in range(40)]).to_pylist()
    names = list(FaceTruth.__dataclass_fields__)
    planted_rows = [row for row in rows if row["change"]]
    assert 4 < len(planted_rows) < 36
    for index, row in enumerate(rows):
        known = {name: row[name] for name in names}
        plant = planted(settings, index)
        if plant is None:
            assert known == pytest.approx(asdict(face_truth(4, index)))
        else:
            assert row["origin_key"] == rows[plant.origin]["source_key"]
            assert set(known.values()) == {None}
    assert planted_table(settings)["source_key"].to_pylist() == [row["source_key"] for row in planted_rows]


def test_an_unplanted_face_is_ingested_as_it_was_drawn() -> None:
    source = DrawnFacesSource(kind="drawn_faces", name="faces", images=5, size_px=64, planted_share=0)
    settings = IngestSettings(image_px=64)
    for index, record in enumerate(all_records(source)):
        looked = look("faces", record, settings, Planting(seed=0, share=0.0))
        assert looked.row["status"] == "kept"
        stored = cv2.imdecode(np.frombuffer(looked.row["image"], np.uint8), cv2.IMREAD_COLOR_RGB)
        np.testing.assert_array_equal(stored, draw_face(0, index, 64).image)
