"""The run of updates: resumes to the same bits, ends where asked, draws its grids, and refuses what can't go on."""

import json
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.distributed
from group_fixture import leave_group
from shard_fixture import draw_images, write_shards
from torch.multiprocessing.spawn import spawn

from manifests.store import Folder
from training import checkpoint
from training.endings import Diverged, Interrupted, Stopped
from training.loop import train
from training.metrics import read_rows
from training.networks import build
from training.presets import resolve
from training.reading import DamagedShard
from training.samples import fixed_z, generate, load_generator, sample_grid
from training.settings import TrainingSettings

BATCH = 8
SAMPLES = 36
OVERRIDES = {"width": 4, "size_px": 32, "batch_images": BATCH}
TIMES = {"seconds", "images_per_s", "data_wait_share"}


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("shards"))
    write_shards(folder, draw_images(SAMPLES))
    return folder


def _settings(updates: int, **changes: Any) -> TrainingSettings:
    overrides = OVERRIDES | changes.pop("overrides", {})
    given: dict[str, Any] = {
        "preset": "paper-64",
        "overrides": overrides,
        "images": updates * BATCH,
        "log_every_updates": 4,
        "checkpoint_every_images": 10 * BATCH,
        "grid_every_images": 10 * BATCH,
        "grid_images": 16,
        "measure_images": 32,
        "threads": 1,
        "window_samples": 20,
    }
    return TrainingSettings.model_validate(given | changes)


def _state(out: Folder) -> checkpoint.Checkpoint:
    state = checkpoint.load_latest(out.child("checkpoints"))
    assert state is not None
    return state


def _assert_same(a: Any, b: Any) -> None:
    """The same bits, however deep."""
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            _assert_same(a[key], b[key])
    elif isinstance(a, list):
        for x, y in zip(a, b, strict=True):
            _assert_same(x, y)
    else:
        assert a == b


def _assert_same_run(one: Folder, other: Folder) -> None:
    a, b = vars(_state(one)), vars(_state(other))
    _assert_same({k: v for k, v in a.items() if k != "seconds"}, {k: v for k, v in b.items() if k != "seconds"})
    rows = [[{k: v for k, v in row.items() if k not in TIMES} for row in read_rows(out)] for out in (one, other)]
    assert rows[0] == rows[1]
    grids = [out.child("grids") for out in (one, other)]
    assert grids[0].names() == grids[1].names()
    assert one.read_bytes("epochs.json") == other.read_bytes("epochs.json")
    for name in grids[0].names():
        assert grids[0].read_bytes(name) == grids[1].read_bytes(name)


@pytest.mark.parametrize("alternate", ["alternate", "both"])
def test_a_resumed_run_is_the_uninterrupted_one_to_the_bit(shards: Folder, tmp_path: Path, alternate: str) -> None:
    change = {"overrides": {"alternate": alternate}}
    whole, parts, killed = (Folder(tmp_path / name) for name in ("whole", "parts", "killed"))
    train(shards, whole, _settings(20, **change), 1)
    train(shards, parts, _settings(10, **change), 1)
    train(shards, parts, _settings(20, **change), 1)
    _assert_same_run(whole, parts)

    def kill(row: dict[str, Any]) -> None:
        if row["update"] == 16:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(shards, killed, _settings(20, **change), 1, report=kill)
    assert _state(killed).update == 10
    train(shards, killed, _settings(20, **change), 1)
    _assert_same_run(whole, killed)


def test_another_seed_is_another_run(shards: Folder, tmp_path: Path) -> None:
    one, other = Folder(tmp_path / "one"), Folder(tmp_path / "other")
    train(shards, one, _settings(2), 1)
    train(shards, other, _settings(2), 2)
    assert not torch.equal(_state(one).generator["dense1.weight"], _state(other).generator["dense1.weight"])


def test_a_finished_run_does_nothing(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    summary = train(shards, out, _settings(4), 1)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    rows: list[dict[str, Any]] = []
    assert train(shards, out, _settings(4), 1, report=rows.append) == summary
    assert rows == []
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_what_a_run_writes(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    reported: list[dict[str, Any]] = []
    settings = _settings(1, images=None, epochs=5.0, keep_checkpoints=2)
    summary = train(shards, out, settings, 3, report=reported.append)
    assert summary["updates"] == 23  # 180 images in batches of 8
    assert summary["images_seen"] == 184
    assert summary == out.read_json("summary.json")
    assert summary["grids"] == [
        f"grids/{name}-{statistics}.png"
        for name in ("epoch-001", "epoch-005", "grid-000000080", "grid-000000160", "grid-000000184")
        for statistics in ("batch", "standing")
    ]
    assert checkpoint.names(out.child("checkpoints")) == ["checkpoint-000000160", "checkpoint-000000184"]
    rows = read_rows(out)
    assert [row["update"] for row in rows] == [4, 8, 10, 12, 16, 20, 23]
    assert [{k: v for k, v in row.items() if k != "images_total"} for row in reported] == rows
    assert rows[-1]["epoch"] == pytest.approx(184 / 36, abs=1e-4)
    assert rows[-1]["kimg"] == pytest.approx(0.184)
    assert all(0 < row["d_real"] < 1 and row["loss_d"] > 0 and row["loss_g"] > 0 for row in rows)
    assert all(row["grad_d"] > 0 and row["grad_g"] > 0 and row["learning_rate"] == 2e-4 for row in rows)
    assert all(0 <= row["data_wait_share"] <= 1 for row in rows)
    measured = [row for row in rows if "swd" in row]
    assert [row["update"] for row in measured] == [10, 20, 23]
    best = checkpoint.load_latest(out.child("best"))
    assert best is not None
    least = min(measured, key=lambda row: row["swd"])
    assert summary["best"] == {"images_seen": least["images_seen"], "swd": least["swd"]}
    assert best.images_seen == least["images_seen"]
    events = out.child("tensorboard")
    assert any(b"data_wait_share" in events.read_bytes(name) for name in events.names())

    proofs = out.read_json("epochs.json")
    assert [row["epoch"] for row in proofs] == [1, 2, 3, 4, 5]
    assert all(row["looked_at"] + row["passed_over"] == row["dealt"] == 36 for row in proofs)
    assert 0.3 < sum(row["looked_at"] for row in proofs) / 180 < 0.7  # D has every other turn
    assert len({row["digest"] for row in proofs}) == 5

    name = "grid-000000184-batch.png"
    picture = cv2.imdecode(np.frombuffer(out.child("grids").read_bytes(name), np.uint8), cv2.IMREAD_COLOR_RGB)
    assert picture is not None
    expected = sample_grid(load_generator(_state(out)), 3, 16, "batch")
    assert picture.shape[0] > expected.shape[0] == 4 * 34 + 2  # a strip says what it is
    np.testing.assert_array_equal(picture[-expected.shape[0] :], expected)


def test_rows_are_means_over_their_updates_and_null_for_the_other_turn(shards: Folder, tmp_path: Path) -> None:
    single, paired = Folder(tmp_path / "single"), Folder(tmp_path / "paired")
    train(shards, single, _settings(8, log_every_updates=1), 1)
    train(shards, paired, _settings(8), 1)
    rows = read_rows(single)
    assert [row["loss_d"] is None for row in rows] == [True, False] * 4  # G has the even turns
    assert [row["loss_g"] is None for row in rows] == [False, True] * 4
    assert read_rows(paired)[1]["loss_d"] == pytest.approx((rows[5]["loss_d"] + rows[7]["loss_d"]) / 2, rel=1e-5)


def test_pictures_do_not_depend_on_what_follows_their_chunk() -> None:
    generator, _ = build(resolve("paper-64", **OVERRIDES), 0, torch.device("cpu"))
    z = fixed_z(generator.preset, 1, 200)
    images = generate(generator, z)
    assert images.shape == (200, 32, 32, 3)
    np.testing.assert_array_equal(generate(generator, z[:128]), images[:128])
    np.testing.assert_array_equal(generate(generator, z), images)
    assert generate(generator, z[:1]).std() > 0


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_without_it(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    train(shards, out, _settings(20), 1)
    good = _state(out)
    last = out.child("checkpoints").child("checkpoint-000000160")
    last.write_bytes("generator.safetensors", last.read_bytes("generator.safetensors")[:-7])
    with pytest.raises(checkpoint.DamagedCheckpoint, match="to go on from checkpoint-000000080"):
        train(shards, out, _settings(20), 1)
    checkpoint.delete(out.child("checkpoints"), "checkpoint-000000160")
    train(shards, out, _settings(20), 1)  # its summary stands, yet the work is done again
    _assert_same(_state(out).generator, good.generator)
    assert [row["update"] for row in read_rows(out)] == [4, 8, 10, 12, 16, 20]  # none twice


def test_a_checkpoint_of_another_run_is_refused(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    train(shards, out, _settings(2), 1)
    with pytest.raises(ValueError, match="was trained with width=4, now width=6"):
        train(shards, out, _settings(4, overrides={"width": 6}), 1)
    with pytest.raises(ValueError, match="was trained with precision=float32, now precision=float64"):
        train(shards, out, _settings(4, precision="float64"), 1)
    with pytest.raises(ValueError, match="was trained with another window_samples, or on shards of other sizes"):
        train(shards, out, _settings(4, window_samples=10), 1)


def test_a_precision_that_no_one_chose_stays_as_the_training_was_begun(shards: Folder, tmp_path: Path) -> None:
    begun, chosen = Folder(tmp_path / "begun"), Folder(tmp_path / "chosen")
    for out in (begun, chosen):
        train(shards, out, _settings(2, precision="float64"), 1)
    train(shards, begun, _settings(4), 1)  # on this device a new training would take float32
    train(shards, chosen, _settings(4, precision="float64"), 1)
    assert _state(begun).precision == "float64"
    _assert_same(_state(begun).generator, _state(chosen).generator)


def test_a_run_that_is_asked_to_end_leaves_a_checkpoint_to_go_on_from(shards: Folder, tmp_path: Path) -> None:
    whole, asked = Folder(tmp_path / "whole"), Folder(tmp_path / "asked")
    train(shards, whole, _settings(20), 1)
    rows: list[dict[str, Any]] = []
    with pytest.raises(Interrupted, match="ended after 32 images"):
        train(shards, asked, _settings(20), 1, report=rows.append, stop=lambda: len(rows) >= 1)
    assert _state(asked).update == 4
    train(shards, asked, _settings(20), 1)
    _assert_same_run(whole, asked)


def _alarmed(action: str, **changes: Any) -> TrainingSettings:
    """Settings whose guard takes every D for one that is too sure, after the first checkpoint that may be best."""
    guard = {"action": action, "saturated_rows": 3, "sure_real": 1e-9, "sure_fake": 0.999999} | changes
    return _settings(20, guard=guard, measure_every_images=2 * BATCH, log_every_updates=2)


def test_a_guard_that_warns_lets_the_run_be(shards: Folder, tmp_path: Path) -> None:
    plain, warned = Folder(tmp_path / "plain"), Folder(tmp_path / "warned")
    train(shards, plain, _settings(20, measure_every_images=2 * BATCH, log_every_updates=2), 1)
    summary = train(shards, warned, _alarmed("warn"), 1)
    assert summary["alarms"] == 1
    (event,) = warned.read_json("guard.json")
    assert (event["images_seen"], event["kind"], event["action"]) == (6 * BATCH, "saturated", "warned")
    _assert_same(_state(plain).generator, _state(warned).generator)
    assert plain.read_json("guard.json") == []


def test_a_guard_that_stops_leaves_a_checkpoint(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    with pytest.raises(Stopped, match="D was sure of every image"):
        train(shards, out, _alarmed("stop"), 1)
    assert _state(out).update == 6
    with pytest.raises(Stopped, match=r"stopped at 48 images seen: .*; guard.action=warn goes on all the same"):
        train(shards, out, _alarmed("stop"), 1)
    assert train(shards, out, _alarmed("warn"), 1)["updates"] == 20


def test_a_guard_that_goes_back_takes_smaller_steps_from_the_best(shards: Folder, tmp_path: Path) -> None:
    out, again = Folder(tmp_path / "out"), Folder(tmp_path / "again")
    settings = _alarmed("back", most_backs=2)
    with pytest.raises(Stopped, match="D was sure of every image"):
        train(shards, out, settings, 1)
    events = out.read_json("guard.json")
    assert [event["action"] for event in events] == ["went back", "went back", "stopped"]
    rows = read_rows(out)
    assert rows[-1]["learning_rate"] == pytest.approx(2e-4 / 4)
    best = checkpoint.load_latest(out.child("best"))
    assert best is not None
    assert best.update < 6  # not one at which the guard saw that something was wrong
    updates = [row["update"] for row in rows]
    assert updates == sorted(set(updates))  # those that were taken back are gone
    assert checkpoint.names(out.child("checkpoints"))[-1] == checkpoint.name_of(rows[-1]["images_seen"])

    killed: list[int] = []

    def kill(row: dict[str, Any]) -> None:
        killed.append(row["update"])
        if len(killed) in (2, 5):
            raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train(shards, again, settings, 1, report=kill)
    with pytest.raises(Stopped):
        train(shards, again, settings, 1, report=kill)
    assert [{**event, "message": ""} for event in again.read_json("guard.json")] == [
        {**event, "message": ""} for event in events
    ]
    _assert_same(_state(again).generator, _state(out).generator)
    _assert_same(_state(again).generator_adam, _state(out).generator_adam)


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_shard_ends_the_run_with_its_name(tmp_path: Path, damage: str) -> None:
    folder = Folder(tmp_path / "shards")
    write_shards(folder, draw_images(SAMPLES))
    shard = tmp_path / "shards" / "train-000002.tar"
    data = bytearray(shard.read_bytes())
    if damage == "cut":
        del data[len(data) // 2 :]
    else:
        row = next(r for r in folder.read_table("index.parquet").to_pylist() if r["shard"] == shard.name)
        data[row["offset"] + row["size_bytes"] // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(DamagedShard, match=r"train-000002.tar, sample train-sample-\d+: .*write the shards again"):
        train(folder, Folder(tmp_path / "out"), _settings(20, overrides={"alternate": "both"}), 1)


@pytest.mark.parametrize(("sizes", "batch_images"), [([1] * 5, 2), ([1, 30, 2], 8), ([3], 8), ([2, 1], 16)], ids=str)
def test_uneven_and_tiny_shards_are_dealt_whole(tmp_path: Path, sizes: list[int], batch_images: int) -> None:
    folder, images, done = Folder(tmp_path / "shards"), draw_images(sum(sizes)), 0
    for number, size in enumerate(sizes):
        write_shards(folder, images[done : done + size], per_shard=size, first_shard=number)
        done += size
    overrides = {"alternate": "both", "batch_images": batch_images}
    summary = train(folder, Folder(tmp_path / "out"), _settings(1, images=3 * sum(sizes), overrides=overrides), 1)
    assert summary["epochs_proven"] >= 3
    for row in Folder(tmp_path / "out").read_json("epochs.json"):
        assert (row["dealt"], row["looked_at"]) == (sum(sizes), sum(sizes))


def test_one_image_a_worker_is_too_few_for_its_own_statistics() -> None:
    settings = _settings(2, overrides={"batch_norm": "per_rank"})
    assert settings.share(1, 4).images == 2
    with pytest.raises(ValueError, match="batch_images=8 leaves 8 workers one image each, and batch_norm=per_rank"):
        settings.share(0, 8)


def test_settings_are_checked_before_any_work(shards: Folder, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one of them"):
        TrainingSettings()
    with pytest.raises(ValueError, match="give one of them"):
        TrainingSettings(images=5, epochs=1)
    with pytest.raises(ValueError, match="nearest is 'torch-4x4'"):
        TrainingSettings(preset="torch-4x", images=5)
    with pytest.raises(ValueError, match="'widht'; the nearest is 'width'"):
        TrainingSettings(overrides={"widht": 3}, images=5)
    with pytest.raises(ValueError, match="batch_images=8 does not divide by 3 workers; try batch_images=6 or 9"):
        train(shards, Folder(tmp_path), _settings(2), 1, world=3)
    with pytest.raises(ValueError, match=r"world=2, but torch\.distributed has 1"):
        train(shards, Folder(tmp_path), _settings(2), 1, world=2)
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_no_number_stops_the_run(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    with pytest.raises(Diverged, match=r"=(nan|inf).*must be finite"):
        train(shards, out, _settings(8, overrides={"learning_rate": 1e30}), 1)
    assert not out.exists("checkpoints")
    assert [(event["kind"], event["action"]) for event in out.read_json("guard.json")] == [("nan", "stopped")]


def _worker(rank: int, shards: str, place: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/rendezvous", world_size=2, rank=rank)
    rows: list[dict[str, Any]] = []
    summary = train(Folder(shards), Folder(f"{place}/out"), _settings(20), 1, rank, 2, report=rows.append)
    torch.distributed.barrier()
    try:
        elsewhere = Folder(f"{place}/out" if rank == 0 else f"{place}/elsewhere")
        train(Folder(shards), elsewhere, _settings(28), 1, rank, 2)
        refused = ""
    except ValueError as error:
        refused = str(error)
    with pytest.raises(Diverged):
        train(Folder(shards), Folder(f"{place}/wild"), _settings(8, overrides={"learning_rate": 1e30}), 1, rank, 2)
    with pytest.raises(Stopped, match="D was sure of every image" if rank == 0 else "the guard stopped it: see guard"):
        train(Folder(shards), Folder(f"{place}/stopped"), _alarmed("stop"), 1, rank, 2)
    assert _state(Folder(f"{place}/stopped")).update == 6  # written before any worker ended
    with pytest.raises(Stopped):
        train(Folder(shards), Folder(f"{place}/back"), _alarmed("back", most_backs=1), 1, rank, 2)
    assert [e["action"] for e in Folder(f"{place}/back").read_json("guard.json")] == ["went back", "stopped"]
    Path(f"{place}/rank-{rank}.json").write_text(json.dumps({"rows": rows, "summary": summary, "refused": refused}))
    leave_group()


def test_two_workers_deal_the_same_samples_and_tell_the_same(shards: Folder, tmp_path: Path) -> None:
    alone = Folder(tmp_path)
    train(shards, alone, _settings(20), 1)
    with tempfile.TemporaryDirectory() as place:
        spawn(_worker, (shards.address, place), nprocs=2)  # type: ignore[no-untyped-call]
        out = Folder(f"{place}/out")
        first, second = (json.loads(Path(f"{place}/rank-{rank}.json").read_text()) for rank in (0, 1))
        assert out.read_json("epochs.json") == alone.read_json("epochs.json")
        for a, b, c in zip(first["rows"], second["rows"], read_rows(alone), strict=True):
            assert (a["update"], a["loss_d"], a["loss_g"]) == (b["update"], b["loss_d"], b["loss_g"])
            assert a["loss_d"] == pytest.approx(c["loss_d"], rel=1e-2)  # in float32 sums' order tells
        assert first["summary"]["workers"] == 2
        for told in (first, second):
            assert "workers see different checkpoints" in told["refused"]
