"""Training with classes: labels from the shards' index to the updates, to the same bits however the work is cut."""

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
import torch.distributed
from group_fixture import leave_group
from shard_fixture import draw_images, write_shards
from torch.multiprocessing.spawn import spawn
from typer.testing import CliRunner

from manifests.denied import DENIED, DenyList
from manifests.forget import rewrite_shards
from manifests.schema import LABEL, SHARD_INDEX
from manifests.shards import ShardSample, join_rows, read_labels, write_shard
from manifests.store import Folder
from pipelines.__main__ import app
from pipelines.recipe import made_recipe
from pipelines.run import RunError
from pipelines.stages.shard import write_group
from pipelines.written import RecipeError
from training import checkpoint, snapshot
from training.adversarial import new_players
from training.batches import open_batches
from training.draws import Stream, with_labels
from training.endings import NotThisTraining, Untrainable
from training.evaluation.measured import Subject
from training.evaluation.noise import NoiseSettings, train_on_noise
from training.evaluation.walk import WalkSettings, latent_walk
from training.loop import train
from training.metrics import read_rows
from training.networks import build, reference_statistics
from training.order import SampleOrder, Share
from training.presets import resolve
from training.reading import ShardReader
from training.samples import fixed_z, generate, sample_grid, to_pixels
from training.settings import TrainingSettings

CLASSES, SAMPLES, BATCH = 3, 36, 8
LABELS = [number * 7 % CLASSES for number in range(SAMPLES)]
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("shards"))
    write_shards(folder, draw_images(9, seed=1), split="heldout", labels=[2] * 9)
    write_shards(folder, draw_images(SAMPLES), labels=LABELS)
    return folder


def _settings(updates: int, **changes: Any) -> TrainingSettings:
    overrides = {"width": 4, "size_px": 32, "batch_images": BATCH, "classes": CLASSES} | changes.pop("overrides", {})
    given: dict[str, Any] = {
        "preset": "paper-64",
        "overrides": overrides,
        "images": updates * BATCH,
        "log_every_updates": 2,
        "checkpoint_every_images": 4 * BATCH,
        "grid_images": 9,
        "measure_images": 32,
        "threads": 1,
        "window_samples": 20,
        "loader": {"loaders": 1},
    }
    return TrainingSettings.model_validate(given | changes)


def _weights(out: Folder) -> dict[str, torch.Tensor]:
    state = checkpoint.load_latest(out.child("checkpoints"))
    assert state is not None
    return {f"G.{k}": v for k, v in state.generator.items()} | {f"D.{k}": v for k, v in state.discriminator.items()}


def _sample(number: int, facts: object) -> ShardSample:
    data = cv2.imencode(".png", draw_images(1, seed=number)[0])[1].tobytes()
    return ShardSample(f"{number:064x}", f"{number:064d}", data, {"source": "digits", "facts": facts})


# From the sources to the index


@pytest.mark.parametrize(
    ("facts", "label"),
    [
        ('{"label": 7}', 7),
        ('{"label": 0}', 0),
        (None, None),
        ("{}", None),
        ('{"label": "7"}', None),
        ('{"label": true}', None),
        ('{"label": -1}', None),
        ('{"label": 3000000000}', None),
        ("[3]", None),
    ],
)
def test_a_label_is_what_a_source_says(facts: str | None, label: int | None) -> None:
    _, rows = write_shard(Folder("mock:///label"), "train", 0, [_sample(1, facts)], "png", 0)
    assert rows.schema.names == [*SHARD_INDEX.names, *([LABEL.name] if label is not None else [])]
    assert rows.to_pylist()[0].get("label") == label


def test_an_index_has_labels_where_any_shard_has_and_is_as_it_was_where_none_has(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    named = [_sample(n, json.dumps({"label": n})) for n in range(5)]
    plain = [_sample(n, None) for n in range(5, 9)]
    (_, first), (_, last) = (write_shard(folder, "train", i, s, "png", 0) for i, s in enumerate((plain, named)))
    assert join_rows([first]).schema == SHARD_INDEX
    folder.write_table("index.parquet", join_rows([first]))
    assert read_labels(folder, "index.parquet", "train") is None
    for tables in ([first, last], [last, first]):
        index = join_rows(tables)
        assert index.schema == SHARD_INDEX.append(LABEL)
        assert {row["sample_id"]: row["label"] for row in index.to_pylist()} == {
            **{sample.sample_id: number for number, sample in enumerate(named)},
            **{sample.sample_id: None for sample in plain},
        }
        folder.write_table("index.parquet", index)
        labels = read_labels(folder, "index.parquet", "train")
        assert labels is not None
        by_place = sorted(index.to_pylist(), key=lambda row: (row["shard"], row["offset"]))
        assert labels.to_pylist() == [row["label"] for row in by_place]


def test_the_stage_shard_and_a_takedown_keep_labels(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "shards")
    samples = [_sample(n, None) for n in range(12)]
    tables = []
    for shard in range(2):
        rows = [
            {
                "shard": f"train-{shard:06d}.tar",
                "sample_id": sample.sample_id,
                "record_id": sample.record_id,
                "image": sample.image,
                # As the ledger has it: JSON of the source's own.
                "facts": json.dumps({"record_id": sample.record_id, "facts": json.dumps({"label": number})}),
            }
            for number, sample in enumerate(samples)
            if number % 2 == shard
        ]
        assert write_group(folder, "png", 3, pa.Table.from_pylist(rows))["samples"].to_pylist() == [6]
        tables.append(folder.read_table(f"train-{shard:06d}.parquet"))
    index = join_rows([table.replace_schema_metadata(None) for table in tables])
    entries = [json.loads(table.schema.metadata[b"dataset.json"]) for table in tables]
    labels = {sample.sample_id: number for number, sample in enumerate(samples)}
    assert {row["sample_id"]: row["label"] for row in index.to_pylist()} == labels
    for kept in (index, index.drop_columns(["label"])):  # the second of a run of before labels were kept
        folder.write_table("index.parquet", kept)
        folder.write_json("dataset.json", {"shards": entries})
        row = {"record_id": samples[4].record_id, "sample_id": samples[4].sample_id}
        denied = DenyList(pa.Table.from_pylist([row], DENIED))
        assert rewrite_shards(Folder(tmp_path), denied, "png", 32, 3) == ["train-000000.tar"]
        left = folder.read_table("index.parquet")
        assert left.schema == kept.schema
        told = labels if "label" in kept.column_names else dict.fromkeys(labels)
        assert {row["sample_id"]: row.get("label") for row in left.to_pylist()} == {
            sample: label for sample, label in told.items() if sample != samples[4].sample_id
        }


# From the index to the updates


def test_batches_labels_are_those_of_their_images(shards: Folder) -> None:
    reader = ShardReader(shards, 32)
    labels, images = reader.labels(CLASSES), draw_images(SAMPLES)
    order = SampleOrder(reader.shard_samples, 5, 20)
    with open_batches(reader, order, range(6), Share(BATCH)) as batches:
        for _, pixels, samples in batches:
            for image, label in zip(pixels.permute(0, 2, 3, 1).numpy(), labels[samples], strict=True):
                (number,) = np.flatnonzero((images == image).all((1, 2, 3)))
                assert label == LABELS[number]
    assert ShardReader(shards, 32, split="heldout").labels(CLASSES).tolist() == [2] * 9


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (None, r"classes=3, but .*index.parquet has no labels of its samples; name the labels in the recipe .* --redo"),
        ([0, None, 1, None], r"has no labels of 2 of 4 samples; name the labels in the recipe"),
        ([0, 1, 5, 2], r"classes=3, but .*index.parquet has labels up to 5; set classes=6"),
    ],
)
def test_without_the_labels_it_asks_for_a_training_is_refused(
    tmp_path: Path, labels: list[int | None] | None, message: str
) -> None:
    folder = Folder(tmp_path / "shards")
    write_shards(folder, draw_images(4), labels=labels)
    with pytest.raises(Untrainable, match=message):
        train(folder, Folder(tmp_path / "out"), _settings(4), 1)
    assert not (tmp_path / "out").exists()
    dataset = {"image_px": 32, "image_format": "png", "samples": {"train": 4, "heldout": 0}, "shards": []}
    folder.write_json("dataset.json", dataset)
    words = ["train", folder.path(), "--run", str(tmp_path / "run"), "--set", "size_px=32", "--set", "classes=3"]
    with pytest.raises(RunError, match=message):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_recipe_with_classes_names_its_labels() -> None:
    values = {
        "name": "digits",
        "sources": [{"name": "digits", "kind": "idx", "path": "images"}],
        "ingest": {"image_px": 28},
        "train": {"preset": "mnist-28-conditional", "epochs": 1},
    }
    with pytest.raises(RecipeError, match=r"classes=10, but no labels are known of the images of digits; name them"):
        made_recipe(values, (), "test")
    assert made_recipe(values, ("sources.0.labels=labels",), "test").train.resolved().classes == 10
    assert made_recipe(values, ("train.overrides.classes=0",), "test").train.resolved().classes == 0


@pytest.mark.parametrize("alternate", ["alternate", "both"])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(shards: Folder, tmp_path: Path, alternate: str) -> None:
    change = {"overrides": {"alternate": alternate}}
    whole, parts = Folder(tmp_path / "whole"), Folder(tmp_path / "parts")
    train(shards, whole, _settings(8, **change), 1)
    train(shards, parts, _settings(4, **change), 1)
    train(shards, parts, _settings(8, **change), 1)
    one, other = _weights(whole), _weights(parts)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["loss_d"] for row in read_rows(whole)] == [row["loss_d"] for row in read_rows(parts)]
    name = f"grid-{8 * BATCH:09d}-batch.png"
    assert whole.child("grids").read_bytes(name) == parts.child("grids").read_bytes(name)
    with pytest.raises(NotThisTraining, match="was trained with classes=3, now classes=None"):
        train(shards, parts, _settings(9, overrides={"alternate": alternate, "classes": 0}), 1)


def test_the_networks_learn_from_the_labels(shards: Folder, tmp_path: Path) -> None:
    other = Folder(tmp_path / "shards")
    write_shards(other, draw_images(SAMPLES), labels=[(label + 1) % CLASSES for label in LABELS])
    found = []
    for number, folder in enumerate((shards, other)):
        train(folder, Folder(tmp_path / str(number)), _settings(2), 1)
        found.append(_weights(Folder(tmp_path / str(number))))
    # G's turn came first; D's was on the same images, with other labels.
    assert torch.equal(found[0]["G.dense1.weight"], found[1]["G.dense1.weight"])
    assert not torch.equal(found[0]["D.conv1.weight"][:, 3:], found[1]["D.conv1.weight"][:, 3:])


def _worker(rank: int, shards: str, place: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/rendezvous", world_size=2, rank=rank)
    settings = _settings(4, precision="float64", overrides={"alternate": "both", "width": 2})
    train(Folder(shards), Folder(f"{place}/out"), settings, 1, rank, 2)
    leave_group()


def test_two_workers_learn_what_one_does(shards: Folder, tmp_path: Path) -> None:
    settings = _settings(4, precision="float64", overrides={"alternate": "both", "width": 2})
    train(shards, Folder(tmp_path), settings, 1)
    with tempfile.TemporaryDirectory() as place:
        spawn(_worker, (shards.address, place), nprocs=2)  # type: ignore[no-untyped-call]
        theirs = _weights(Folder(f"{place}/out"))
    for name, value in _weights(Folder(tmp_path)).items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-9, msg=f"{name} differs")


# Pictures


def test_a_grid_has_a_row_for_each_class_and_labels_have_their_turns() -> None:
    preset = resolve("mnist-28-conditional", width=4)
    generator, _ = build(preset, 0, CPU)
    z = fixed_z(preset, 3, 25)
    np.testing.assert_array_equal(z[:, 100:].argmax(1), np.arange(25) % 10)
    np.testing.assert_array_equal(fixed_z(preset, 3, 7), z[:7])
    plain = fixed_z(resolve("mnist-28"), 3, 40)
    np.testing.assert_array_equal(z[:, :100], plain[:25])
    picture = sample_grid(generator, 3, 41)  # four of each
    assert picture.shape == (10 * 30 + 2, 4 * 30 + 2, 1)
    rows = generate(generator, with_labels(plain, np.arange(40) // 4, 10), "batch", 3)
    np.testing.assert_array_equal(picture[2 + 3 * 30 : 30 + 3 * 30, 2 + 30 : 30 + 30], rows[13])
    sevens = sample_grid(generator, 3, 9, "standing", np.full(9, 7))
    assert sevens.shape == (3 * 30 + 2, 3 * 30 + 2, 1)
    wanted = generate(generator, with_labels(plain[:9], np.full(9, 7), 10), "standing", 3)
    np.testing.assert_array_equal(sevens[2:30, 2:30], wanted[0])


def test_dcgan_sample_takes_a_label(tmp_path: Path) -> None:
    for name, preset in (("told", "mnist-28-conditional"), ("plain", "mnist-28")):
        players = new_players(resolve(preset, width=4), 1, CPU)
        state = snapshot.of_players(players, seed=1, samples=100, update=7, seconds=1.0)
        checkpoint.save(Folder(tmp_path / name), state, keep=1)
    where = [str(tmp_path / name / "checkpoint-000000896") for name in ("told", "plain")]
    out = str(tmp_path / "out.png")
    told = CliRunner().invoke(app, ["sample", where[0], "--out", out, "--images", "18"], catch_exceptions=False).output
    assert "20 pictures after" in told
    told = CliRunner().invoke(app, ["sample", where[0], "--out", out, "--images", "18", "--label", "3"]).output
    assert "18 pictures after" in told
    for place, words in ((where[0], "has the classes 0 to 9"), (where[1], "was trained without classes")):
        ended = CliRunner().invoke(app, ["sample", place, "--out", out, "--label", "10"], env={"COLUMNS": "300"})
        assert ended.exit_code == 2
        assert words in ended.output


def _subject() -> Subject:
    players = new_players(resolve("mnist-28-conditional", width=2, batch_images=10), 1, CPU)
    return Subject(snapshot.of_players(players, seed=1, samples=100, update=7, seconds=1.0), 5)


def test_a_walk_goes_from_class_to_class() -> None:
    subject = _subject()
    measured = latent_walk(subject, WalkSettings(points=4, columns=4, reference_images=32))
    picture = measured.pictures["linear_walk"]
    assert picture.shape[1:] == (4 * 30 + 2, 1)
    z = fixed_z(subject.preset, 5, 36, Stream.WALK)
    with torch.no_grad(), reference_statistics(subject.generator, torch.from_numpy(z[4:])):
        ends = to_pixels(subject.generator(torch.from_numpy(z[:4])))  # of the classes 0 to 3
    cells = picture[-(3 * 30) :, 2:].reshape(3, 30, 4, 30, 1).swapaxes(1, 2)[:, :, :28, :28].astype(int)
    assert np.abs(cells[:, 0] - ends[:3]).max() <= 1
    assert np.abs(cells[:, 3] - ends[1:]).max() <= 1


@pytest.mark.parametrize("alternate", ["alternate", "both"])
def test_networks_with_classes_train_on_noise(alternate: str) -> None:
    preset = resolve("mnist-28-conditional", width=2, batch_images=10, alternate=alternate)
    trained = train_on_noise(preset, 0, NoiseSettings(images=40), CPU)
    _, begun = build(preset, 0, CPU)
    assert (trained.get_parameter("dense4.weight")[:, -10:] != begun.get_parameter("dense4.weight")[:, -10:]).all()
