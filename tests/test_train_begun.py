"""A training that was begun: what may change, what is refused before work; and nodes that can not hold it."""

from typing import Any

import pytest
from shard_fixture import draw_images, write_shards

from manifests.store import Folder
from pipelines.cluster import ClusterError, lack, lack_to_measure, session
from pipelines.parts import StageError
from pipelines.recipe import Recipe
from pipelines.resources import Resources
from pipelines.run import check_unchanged
from pipelines.stages import STAGES, STARTED_FILE, fingerprints
from pipelines.stages.train import training_of
from training import loop

TRAIN = STAGES[[stage.name for stage in STAGES].index("train")]


def recipe_of(**train: Any) -> Recipe:
    small = {"size_px": 32, "width": 4, "batch_images": 8}
    how = {"preset": "paper-64-narrow", "overrides": small, "images": 16, "grid_images": 4, "measure_images": 32}
    sources = [{"kind": "drawn", "name": "a", "images": 10}]
    described = {"name": "a", "sources": sources, "ingest": {"image_px": 32}, "train": how | train}
    return Recipe.model_validate(described)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A run whose training on 20 samples is done."""
    run, recipe = Folder(tmp_path_factory.mktemp("run")), recipe_of()
    write_shards(run.child("shards"), draw_images(20))
    holding(run, 20)
    training = training_of(recipe, run)
    loop.train(training.shards, training.out, recipe.train, recipe.seed)
    training.out.write_json(STARTED_FILE, {"stage": "train", "fingerprint": fingerprints(recipe)["train"]})
    return run


def holding(run: Folder, samples: int) -> None:
    run.child("shards").write_json("dataset.json", {"image_px": 32, "samples": {"train": samples}})


def check(run: Folder, recipe: Recipe) -> None:
    check_unchanged(recipe, run, fingerprints(recipe), [TRAIN])


def test_a_longer_training_on_other_shards_is_refused_before_anything_is_deleted(run: Folder) -> None:
    check(run, recipe_of(images=160))
    holding(run, 19)  # as after a takedown
    try:
        check(run, recipe_of())  # what is done stays
        with pytest.raises(StageError, match=r"samples=20, now samples=19; .*, or begin it anew with --redo train"):
            check(run, recipe_of(images=160))
    finally:
        holding(run, 20)


@pytest.mark.parametrize("images", [16, 160])
def test_the_precision_is_that_of_the_checkpoint_where_none_is_chosen(run: Folder, images: int) -> None:
    check(run, recipe_of(images=images, precision="float32", compile=False, grid_every_images=8))
    with pytest.raises(StageError, match=r"precision=float32, now precision=bfloat16.*--redo train"):
        check(run, recipe_of(images=images, precision="bfloat16"))


def node(cpus: float, gpus: float = 0, group: str | None = None, alive: bool = True) -> dict[str, Any]:
    labels = {"ray.io/node-group": group} if group else {}
    return {"Alive": alive, "Resources": {"CPU": cpus, "GPU": gpus}, "Labels": labels}


@pytest.mark.parametrize(
    ("nodes", "resources", "message"),
    [
        ([node(2), node(2)], {}, "need 1 times 4 CPUs, each on one node; the cluster's 2 nodes have room for 0"),
        ([node(8)], {"gpu": True}, "4 CPUs and a GPU.*room for 0; set them down, set resources.gpu=false, or add"),
        ([node(8), node(0, 4)], {"gpu": True}, "2 nodes have room for 0"),
        ([node(5), node(5)], {"train_workers": 3}, "resources.train_workers=3 .*room for 2"),
        ([node(4), node(4, alive=False)], {"train_workers": 2}, "1 nodes have room for 1"),
    ],
)
def test_workers_that_no_node_can_hold_are_refused(
    nodes: list[dict[str, Any]], resources: dict[str, Any], message: str
) -> None:
    with pytest.raises(ClusterError, match=message):
        lack(nodes, Resources(**resources))
    waited_for = lack([*nodes, node(0, group="head")], Resources(**resources))
    assert waited_for is not None
    assert "room for" in waited_for


def test_workers_that_the_nodes_can_hold_are_not_waited_for() -> None:
    assert lack([node(2), node(2)], Resources(train_workers=2, train_cpus=2)) is None
    assert lack([node(8, 2)], Resources(train_workers=(2, 4), gpu=True)) is None


def test_measurements_that_no_node_can_hold_are_refused() -> None:
    told = (
        r"a measurement takes 4 CPUs and a GPU on one node.*2 nodes have room for 0.*resources.gpu=false.*until train"
    )
    wide = Resources(train_workers=3, gpu=True)
    with pytest.raises(ClusterError, match=told):
        lack_to_measure([node(8), node(2, 4)], wide)
    assert lack_to_measure([node(4, 1)], wide) is None, "one rank's worth is enough"
    waited_for = lack_to_measure([node(0, group="head")], wide)
    assert waited_for is not None
    assert "a measurement takes" in waited_for


def test_a_gpu_that_this_machine_lacks_is_refused_before_ray_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with (
        pytest.raises(
            ClusterError, match=r"resources.gpu asks for 1 GPUs, this machine has 0; set resources.gpu=false"
        ),
        session(None, Resources(gpu=True), measures=True),
    ):
        raise AssertionError("Ray was started")
