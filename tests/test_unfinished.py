"""A measurement that was interrupted goes on: rows that were kept stand, and what comes out is the same."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from test_evaluate_command import save

from manifests.store import Folder
from pipelines.evaluation import Evaluation
from pipelines.measurements.unfinished import Unfinished
from pipelines.recipe import EvaluateSettings

LAST = "checkpoint-000000640"


def test_pieces_are_those_of_one_identity_and_under_no_final_name(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    kept = Unfinished(folder, "features", "one")
    assert kept.pieces() == {}
    kept.keep("trained", {"accuracy": 0.5})
    kept.keep("random", {"accuracy": 0.25})
    assert kept.pieces() == {"trained": {"accuracy": 0.5}, "random": {"accuracy": 0.25}}
    assert folder.names() == []
    other = Unfinished(folder, "features", "two")
    assert other.pieces() == {}
    other.keep("trained", {"accuracy": 0.75})
    assert other.pieces() == {"trained": {"accuracy": 0.75}}
    assert kept.pieces() == {}
    other.delete()
    other.delete()
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    """Features of networks that learned nothing, of pictures of two classes."""
    random = np.random.default_rng(0)
    for part, count in (("train", 16), ("test", 8)):
        for number, of_class in enumerate(("dark", "light")):
            (tmp_path / part / of_class).mkdir(parents=True)
            for place in range(count):
                image = random.integers(number * 90, number * 90 + 160, (32, 32, 3), dtype=np.uint8)
                cv2.imwrite(str(tmp_path / part / of_class / f"{place}.png"), image)
    checkpoints = Folder(tmp_path / "checkpoints")
    save(checkpoints)
    values = {
        "labelled": {"kind": "folders", "train": str(tmp_path / "train"), "test": str(tmp_path / "test")},
        "features": {"rows": ["trained", "random", "pixels"], "per_class": [], "c": [1.0], "reference_images": 16},
    }
    return Evaluation(checkpoints, LAST, EvaluateSettings.model_validate(values), 0)


def interrupt(evaluation: Evaluation, out: Folder) -> None:
    """Take features until the rows trained and random are kept."""
    keep = Unfinished.keep

    def keep_and_die(self: Unfinished, name: str, piece: Any) -> None:
        keep(self, name, piece)
        if name == "random":
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Unfinished, "keep", keep_and_die)
        with pytest.raises(KeyboardInterrupt):
            evaluation.take("features", out, print)


def test_features_go_on_where_they_were_interrupted(evaluation: Evaluation, tmp_path: Path) -> None:
    whole, out = Folder(tmp_path / "whole"), Folder(tmp_path / "out")
    evaluation.take("features", whole, print)
    interrupt(evaluation, out)
    assert out.names() == []
    said: list[str] = []
    evaluation.take("features", out, said.append)
    assert "features: measured already: trained, random" in said
    assert out.names() == whole.names()
    assert all(out.read_bytes(name) == whole.read_bytes(name) for name in whole.names())
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".")]


def test_rows_of_other_pictures_are_measured_again(evaluation: Evaluation, tmp_path: Path) -> None:
    identity, unfinished = evaluation.identity("features"), Folder(tmp_path / "out")
    interrupt(evaluation, unfinished)
    one, other = (tmp_path / "test" / "dark" / f"{number}.png" for number in (0, 1))
    one.write_bytes(other.read_bytes())
    assert evaluation.identity("features") == identity, "a folder counts by its name"
    said: list[str] = []
    evaluation.take("features", unfinished, said.append)
    assert not [line for line in said if "measured already" in line]
