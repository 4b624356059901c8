"""Drawn bedrooms: the same bytes every time, and boxes that hold what they say."""

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests import perceptual
from pipelines.sources import bedroom
from pipelines.sources.bedroom import Room, draw_room
from pipelines.sources.drawn import RoomSettings, drawn_key, encoded, planted, truth_table
from pipelines.sources.interior import Canvas


def test_the_same_numbers_give_the_same_bytes() -> None:
    first, again = draw_room(7, 3), draw_room(7, 3)
    assert first.image.tobytes() == again.image.tobytes()
    assert (first.windows, first.bed) == (again.windows, again.bed)
    others = [draw_room(7, 4), draw_room(8, 3)]
    assert all(other.image.tobytes() != first.image.tobytes() for other in others)


@given(st.integers(0, 2**64 - 1), st.integers(0, 10**9), st.sampled_from([32, 96, 160]))
@settings(max_examples=60, deadline=None)
def test_boxes_lie_inside_the_picture_and_the_bed_is_seen(seed: int, index: int, size_px: int) -> None:
    drawn = draw_room(seed, index, size_px)
    assert drawn.image.shape == (size_px, size_px, 3)
    assert drawn.image.dtype == np.uint8
    assert len(drawn.windows) <= 2
    for left, top, width, height in (*drawn.windows, drawn.bed):
        assert min(left, top) >= 0
        assert min(width, height) > 0
        assert max(left + width, top + height) <= size_px
    assert drawn.bed[2] * drawn.bed[3] >= 0.02 * size_px**2


def test_every_number_of_windows_occurs() -> None:
    counts = [len(draw_room(0, index).windows) for index in range(200)]
    assert all(counts.count(number) >= 20 for number in (0, 1, 2))


def test_windows_are_where_the_boxes_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Painting the windows pure red changes the picture inside their boxes, and nowhere else."""
    drawn = [draw_room(1, index) for index in range(60)]
    paint = bedroom._draw_window

    painted = 0

    def red(canvas: Canvas, *rest: Any) -> None:
        nonlocal painted
        painted += 1
        before = canvas.image.copy()
        paint(canvas, *rest)
        canvas.image[(canvas.image != before).any(axis=2)] = (255, 0, 0)

    monkeypatch.setattr(bedroom, "_draw_window", red)
    shown = 0
    for index, room in enumerate(drawn):
        painted = 0
        changed = np.abs(draw_room(1, index).image.astype(int) - room.image).max(axis=2) > 8
        if painted != len(room.windows):
            continue  # one hides behind furniture, and is not listed
        inside = np.zeros_like(changed)
        for left, top, width, height in room.windows:
            inside[top : top + height, left : left + width] = True
        assert not (changed & ~inside).any(), index
        if changed.any():
            shown += 1
            # Boxes are tight: what is painted reaches close to each of their sides, unless something stands before it.
            assert changed.sum() >= 0.15 * inside.sum(), index
    assert shown > 25


def test_different_rooms_are_no_near_duplicates() -> None:
    thumbs = np.stack([perceptual.thumbs(draw_room(2, index).image)[1] for index in range(400)])
    straight, mirrored = perceptual.phashes(perceptual.luma(thumbs))
    for other in (straight, mirrored):
        distance = np.bitwise_count(straight[:, None] ^ other[None, :])
        pairs = distance[np.triu_indices(400, 1)]
        assert (pairs <= 6).mean() < 1e-4


def test_planted_ones_are_changes_of_pictures_that_are_none_themselves() -> None:
    chosen = RoomSettings(images=2000, seed=5, planted_share=0.1)
    plants = {index: planted(chosen, index) for index in range(chosen.images)}
    found = {index: plant for index, plant in plants.items() if plant is not None}
    assert 140 < len(found) < 260
    assert all(plant.origin < index and plants[plant.origin] is None for index, plant in found.items())
    assert len({plant.change for plant in found.values()}) == 19


def test_truth_table_says_what_was_drawn() -> None:
    chosen = RoomSettings(images=60, seed=1, planted_share=0.2)
    rooms = [encoded(chosen, index)[1] for index in range(chosen.images)]
    table = truth_table(chosen, rooms).to_pylist()
    assert [row["source_key"] for row in table] == [drawn_key(chosen, index) for index in range(60)]
    for index, row in enumerate(table):
        plant = planted(chosen, index)
        room = rooms[index]
        if plant is None:
            assert isinstance(room, Room)
            assert row["origin_key"] is None
            assert [tuple(box.values()) for box in row["windows"]] == list(room.windows)
            assert tuple(row["bed"].values()) == room.bed
        else:
            assert row["origin_key"] == drawn_key(chosen, plant.origin)
            assert (row["change"], row["windows"], row["bed"]) == (plant.change, None, None)


@pytest.mark.parametrize("image_format", ["webp", "jpeg", "png"])
def test_encoded_pictures_repeat_to_the_byte(image_format: str) -> None:
    chosen = RoomSettings.model_validate({"images": 10, "seed": 2, "image_format": image_format})
    digests = {hashlib.sha256(encoded(chosen, index)[0]).hexdigest() for index in (1, 2, 3)}
    again = {hashlib.sha256(encoded(chosen, index)[0]).hexdigest() for index in (3, 2, 1)}
    assert digests == again
    assert len(digests) == 3
