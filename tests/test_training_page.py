"""The page's training section: curves, the guard's events, grids of both statistics."""

from pathlib import Path

import numpy as np
from run_fixture import build_run

from manifests.pages import render, training
from manifests.store import Folder


def test_metrics_survive_a_line_cut_short_and_count_an_update_once(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    lines = b'{"update": 1, "images_seen": 8, "loss_d": 9.0}\n{"update": 2, "images_seen": 16, "loss_d": 2.0}\n'
    folder.write_bytes("metrics.jsonl", lines + b'{"update": 1, "images_seen": 8, "loss_d": 1.0}\n{"update": 3, "ima')
    section = training.section(folder)
    assert section is not None
    assert section["last"]["update"] == 2
    assert "D from 1 to 2" in section["curves"][0][1]


def test_the_training_section_shows_curves_settings_and_what_the_guard_saw(tmp_path: Path) -> None:
    build_run(Folder(tmp_path))
    html = render(Folder(tmp_path))
    for words in (
        "Gradient norms over images seen",
        "Sliced Wasserstein distance (times 1,000) over images seen",
        "halves of the real images: 32.3",
        "real images: 0.061",
        "Time spent waiting for data over images seen",
        "learning rate <b>0.0002</b>",
        "batch norm <b>global</b>",
        "after 38,400 images seen: ms_ssim=0.95",
        "&lt;diversity&gt;",
        "64,000 images seen, batch statistics",
        "64,000 images seen, standing statistics",
    ):
        assert words in html


def test_a_guard_that_saw_nothing_is_not_a_guard_that_was_not_there(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    training_folder = run.child("training")
    training_folder.write_bytes("metrics.jsonl", b'{"update": 1, "images_seen": 8, "epoch": 0.1, "loss_g": NaN}\n')
    assert not [words for words in ("What the guard saw", "The guard has seen") if words in render(run)]
    training_folder.write_json("guard.json", [])
    assert "The guard has seen nothing" in render(run)


def test_after_going_back_the_lower_learning_rate_is_shown(tmp_path: Path) -> None:
    build_run(Folder(tmp_path))
    folder = Folder(tmp_path).child("training")
    folder.write_json("summary.json", folder.read_json("summary.json") | {"learning_rate": 0.0001})
    html = render(Folder(tmp_path))
    assert "learning rate <b>0.0001</b>" in html
    assert "preset <b>paper-64</b>" in html


def test_many_grids_are_thinned_evenly_with_the_first_and_the_last(tmp_path: Path) -> None:
    grids = Folder(tmp_path).child("grids")
    for seen in range(100, 4100, 100):
        for statistics in ("batch", "standing"):
            grids.write_bytes(f"grid-{seen:09d}-{statistics}.png", statistics.encode())
    grids.write_bytes("epoch-001-standing.png", b"")
    grids.write_bytes("grid-000000050.png", b"")  # no statistics stand in its name: no grid
    section = training.section(Folder(tmp_path))
    assert section is not None
    shown = [seen for seen, _ in section["grids"]]
    assert section["grids_made"] == 40
    assert len(shown) == training.MOST_GRIDS
    assert (shown[0], shown[-1]) == (100, 4000)
    assert list(section["grids"][0][1]) == ["batch", "standing"]
    assert section["grids"][0][1]["batch"] != section["grids"][0][1]["standing"]
    assert [(epoch, list(pictures)) for epoch, pictures in section["epochs"]] == [(1, ["standing"])]
    assert max(np.diff(shown)) <= 900
