"""The page of measurements: figures as facts and tables, pictures of its own folder only, no markup from outside."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from manifests.pages.evaluation import section, write_page
from manifests.store import Folder
from training.samples import png

MARKUP = '<script>alert("x")</script>'


def told(**figures: Any) -> dict[str, Any]:
    return {
        "measurement": "walk",
        "title": f"Walk {MARKUP}",
        "says": f"It is 0.5 {MARKUP}",
        "paper": None,
        "statistics": "standing",
        "figures": figures,
        "settings": {"points": 9, "formulas": [{"name": "a", "shows": {"smile": 1}}]},
        "seed": 7,
        "preset": "paper-64",
        "checkpoint": "checkpoint-000064000",
        "images_seen": 64000,
        "pictures": [{"file": "walk.png", "caption": MARKUP}, {"file": "../secret.png", "caption": "not its own"}],
    }


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "measured")
    picture = png(np.zeros((4, 4, 3), np.uint8))
    folder.write_bytes("walk.png", picture)
    Folder(tmp_path).write_bytes("secret.png", picture)
    return folder


def test_figures_become_facts_and_tables(folder: Folder) -> None:
    lines = {"pixels": {"mean": 1.5, "steps": [1, 2]}, "code": {"mean": 2.5, "steps": [3]}, "length": 0.7}
    folder.write_json(
        "walk.json", told(lines=lines, share=None, rows=[{"name": "trained", "c": 0.1}, {"name": "random"}])
    )
    (one,) = section(folder) or []
    assert one["facts"] == {"lines length": 0.7, "share": None}
    assert one["tables"] == [
        ("lines", ["", "mean", "steps"], [["pixels", 1.5, "[1, 2]"], ["code", 2.5, "[3]"]]),
        ("rows", ["name", "c"], [["trained", 0.1], ["random", None]]),
    ]


def test_rows_that_hold_dictionaries_again_are_one_table(folder: Folder) -> None:
    sets = {"samples": {"patches": {"swd": 1, "swd_16": 2}, "precision": 0.5}}
    sets["noise"] = {"patches": {"swd": 3, "swd_16": 4}, "precision": 0.0}
    folder.write_json("walk.json", told(sets=sets))
    (one,) = section(folder) or []
    assert one["tables"] == [
        ("sets", ["", "swd", "swd 16", "precision"], [["samples", 1, 2, 0.5], ["noise", 3, 4, 0.0]])
    ]
    assert one["facts"] == {}


def test_long_lists_are_no_columns(folder: Folder) -> None:
    long, short = [[0.5] * 9] * 8, [1]
    folder.write_json(
        "walk.json", told(lines={"a": {"x": 1, "steps": long}, "b": {"x": 2, "steps": short}}, rows=[{"y": long}])
    )
    (one,) = section(folder) or []
    assert one["tables"] == [("lines", ["", "x"], [["a", 1], ["b", 2]]), ("rows", [], [[]])]


def test_a_single_dictionary_is_a_table_of_its_values(folder: Folder) -> None:
    folder.write_json("walk.json", told(detector={"recall": 0.9, "kind_of": "a_b"}))
    (one,) = section(folder) or []
    assert one["tables"] == [("detector", ["", ""], [["recall", 0.9], ["kind of", "a b"]])]


def test_the_page_shows_its_own_pictures_and_no_markup(folder: Folder) -> None:
    folder.write_json("walk.json", told(share=0.25))
    folder.write_json("other.json", {"no": "measurement"})
    write_page(folder, MARKUP)
    page = folder.read_bytes("index.html").decode()
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 1
    assert 'style="width: 8px"' in page
    assert "paper <b>no figure</b>" in page
    assert re.search(r"<dt>share</dt><dd>0.25</dd>", page)


def test_an_empty_folder_has_no_section(tmp_path: Path) -> None:
    assert section(Folder(tmp_path / "nothing")) is None
