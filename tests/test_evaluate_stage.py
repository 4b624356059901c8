"""The stage evaluate: what can't be measured is written down and stops nothing; what failed is tried again."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_fixture import build_run
from shard_fixture import draw_images, write_shards
from test_evaluate_command import save

from dedup.autoencoder import ENCODER_FILE, AutoencoderSettings, fit, save_encoder
from manifests.pages.evaluation import section
from manifests.schema import THUMB_PX
from manifests.store import Folder
from pipelines import cluster
from pipelines.commands.summary import run_summary
from pipelines.evaluation import faults
from pipelines.parts import StageError
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.stages import evaluate
from pipelines.stages.context import Context

WALK = {"points": 3, "columns": 4, "reference_images": 16}


def recipe_of(**settings: Any) -> Recipe:
    """A recipe with these measurements."""
    return Recipe.model_validate(
        {
            "name": "test",
            "seed": 1,
            "sources": [{"name": "rooms", "kind": "drawn", "images": 20}],
            "evaluate": {"walk": WALK, **settings},
            "resources": {"object_store_gb": 0.1},
        }
    )


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    """What a run holds after its training, on 20 images: too few to tell distributions apart."""
    run = Folder(tmp_path / "run")
    write_shards(run.child("shards"), draw_images(20))
    run.child("shards").write_json("dataset.json", {"image_px": 32, "samples": {"train": 20}})
    save(run.child("training").child("checkpoints"))
    thumbs = draw_images(20, THUMB_PX).reshape(20, -1)
    encoder = fit(thumbs, AutoencoderSettings(epochs=1), 0, 1).encoder
    run.child("codes").write_bytes(ENCODER_FILE, save_encoder(encoder))
    return run


@pytest.fixture(scope="module")
def ray() -> Iterator[None]:
    with cluster.session(None, recipe_of().resources):
        yield


def take(run: Folder, recipe: Recipe) -> dict[str, Any]:
    """The stage's counts."""
    with Reporter(Console(quiet=True)) as reporter:
        return evaluate.run(Context(run, recipe, reporter, on_cluster=False))


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_what_can_not_be_measured_is_written_down_and_stops_nothing(run: Folder) -> None:
    recipe, out = recipe_of(what=["distribution", "walk"]), run.child("evaluation")
    assert evaluate.is_behind(recipe, run)
    assert take(run, recipe) == {"measurements": 1, "not measurable": 1}
    assert faults(out)["distribution"].startswith("10 real images and 10 others")
    assert {"walk.json", "walk.png"} <= set(out.names())
    first, _ = section(out) or []
    assert (first["measurement"], first["fault"]) == ("distribution", faults(out)["distribution"])
    assert not evaluate.is_behind(recipe, run)
    assert evaluate.is_behind(recipe_of(what=["distribution", "walk"], distribution={"images": 100}), run)
    save(run.child("training").child("checkpoints"), 1280, seed=2)
    assert evaluate.is_behind(recipe, run)


@pytest.mark.ray
@pytest.mark.usefixtures("ray")
def test_one_that_fails_leaves_the_others_and_is_tried_again(run: Folder, tmp_path: Path) -> None:
    damaged = str(tmp_path / "damaged")
    Path(damaged).write_text("no pictures")
    labelled = dict.fromkeys(("train", "test", "train_labels", "test_labels"), damaged) | {"kind": "idx"}
    recipe, out = recipe_of(what=["features", "walk"], labelled=labelled), run.child("evaluation")
    for _ in range(2):
        with pytest.raises(StageError, match=rf"^features: {damaged}"):
            take(run, recipe)
        assert "walk.json" in out.names()
        assert "features.json" not in out.names()
        assert evaluate.is_behind(recipe, run)


def test_the_summary_says_what_was_not_measured_and_why(run: Folder) -> None:
    build_run(run)
    fault = {"measurement": "distribution", "fault": "too [few] images"}
    run.child("evaluation").write_json("distribution.json", fault)
    console = Console(record=True, width=200)
    console.print(run_summary(run))
    told = console.export_text()
    assert "Not measurable" in told
    assert "too [few] images" in told
