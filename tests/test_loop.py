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
from shard_fixture import draw_images, write_shards
from torch.multiprocessing.spawn import spawn

from manifests.store import Folder
from training import checkpoint
from training.adversarial import _adam, new_players, pixels_to_unit, update_both
from training.batches import open_batches
from training.draws import draw_z
from training.loop import TrainingSettings, train
from training.metrics import Diverged, read_rows
from training.networks import build
from training.order import SampleOrder, Share
from training.presets import resolve
from training.reading import ShardReader
from training.samples import fixed_z, generate, load_generator, sample_grid

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
    assert not torch.equal(_state(one).generator["project.weight"], _state(other).generator["project.weight"])


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
        f"grids/{name}.png" for name in ("epoch-001", "epoch-005", "grid-000000080", "grid-000000160", "grid-000000184")
    ]
    assert out.child("checkpoints").names() == ["checkpoint-000000160.pt", "checkpoint-000000184.pt"]
    rows = read_rows(out)
    assert [row["update"] for row in rows] == [4, 8, 10, 12, 16, 20, 23]
    assert [{k: v for k, v in row.items() if k != "images_total"} for row in reported] == rows
    assert rows[-1]["epoch"] == pytest.approx(184 / 36, abs=1e-4)
    assert all(0 < row["d_real"] < 1 and row["loss_d"] > 0 and row["loss_g"] > 0 for row in rows)
    assert all(0 <= row["data_wait_share"] <= 1 for row in rows)
    events = out.child("tensorboard")
    assert any(b"data_wait_share" in events.read_bytes(name) for name in events.names())

    picture = cv2.imdecode(np.frombuffer(out.child("grids").read_bytes("grid-000000184.png"), np.uint8), 1)
    assert picture is not None
    generator = load_generator(_state(out))
    np.testing.assert_array_equal(picture[:, :, ::-1], sample_grid(generator, 3, 16))
    assert picture.shape == (4 * 34 + 2, 4 * 34 + 2, 3)


def test_rows_are_means_over_their_updates_and_null_for_the_other_turn(shards: Folder, tmp_path: Path) -> None:
    single, paired = Folder(tmp_path / "single"), Folder(tmp_path / "paired")
    train(shards, single, _settings(8, log_every_updates=1), 1)
    train(shards, paired, _settings(8), 1)
    rows = read_rows(single)
    assert [row["loss_d"] is None for row in rows] == [True, False] * 4  # G has the even turns
    assert [row["loss_g"] is None for row in rows] == [False, True] * 4
    assert read_rows(paired)[1]["loss_d"] == pytest.approx((rows[5]["loss_d"] + rows[7]["loss_d"]) / 2, abs=2e-6)


def test_pictures_do_not_depend_on_what_follows_their_chunk() -> None:
    generator, _ = build(resolve("paper-64", **OVERRIDES), 0, torch.device("cpu"))
    z = fixed_z(generator.preset, 1, 200)
    images = generate(generator, z)
    assert images.shape == (200, 32, 32, 3)
    np.testing.assert_array_equal(generate(generator, z[:128]), images[:128])
    np.testing.assert_array_equal(generate(generator, z), images)
    assert generate(generator, z[:1]).std() > 0


@pytest.mark.parametrize("damage", ["cut", "flipped", "not a checkpoint"])
def test_a_damaged_checkpoint_is_named_with_the_one_before(shards: Folder, tmp_path: Path, damage: str) -> None:
    out = Folder(tmp_path)
    train(shards, out, _settings(20), 1)
    good = _state(out)
    folder, name = out.child("checkpoints"), "checkpoint-000000160.pt"
    data = bytearray(folder.read_bytes(name))
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flipped":
        data[len(data) // 2] ^= 1
    else:
        data = bytearray(b"not a checkpoint")
    folder.write_bytes(name, bytes(data))
    with pytest.raises(checkpoint.DamagedCheckpoint, match=f"{name}.*go on from checkpoint-000000080.pt"):
        train(shards, out, _settings(20), 1)
    folder.delete(name)
    train(shards, out, _settings(20), 1)  # its summary stands, yet the work is done again
    _assert_same(_state(out).generator, good.generator)
    assert [row["update"] for row in read_rows(out)] == [4, 8, 10, 12, 16, 20]  # none twice


def test_a_pickle_that_runs_code_is_not_run(tmp_path: Path) -> None:
    class _Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    torch.save({"update": _Touch()}, tmp_path / "checkpoint-000000001.pt")
    with pytest.raises(checkpoint.DamagedCheckpoint):
        checkpoint.load_latest(Folder(tmp_path))
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_another_run_is_refused(shards: Folder, tmp_path: Path) -> None:
    out = Folder(tmp_path)
    train(shards, out, _settings(2), 1)
    with pytest.raises(ValueError, match="was trained with width=4, now width=6"):
        train(shards, out, _settings(4, overrides={"width": 6}), 1)
    with pytest.raises(ValueError, match="was trained with seed=1, now seed=2"):
        train(shards, out, _settings(4), 2)


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
    with pytest.raises(Diverged, match=r"(nan|inf) at update \d+; lower the preset's learning_rate"):
        train(shards, Folder(tmp_path), _settings(8, overrides={"learning_rate": 1e30}), 1)
    assert not Folder(tmp_path).exists("checkpoints")


def _worker(rank: int, shards: str, place: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/rendezvous", world_size=2, rank=rank)
    preset = resolve("paper-64", **OVERRIDES)
    cpu = torch.device("cpu")
    # Different seeds, which the broadcast of worker 0's weights must even out.
    players = new_players(preset, rank, cpu)
    reader = ShardReader(Folder(shards), 32)
    order = SampleOrder(reader.shard_samples, 1, 20)
    with open_batches(reader, order, range(3), Share(BATCH, rank, 2)) as batches:
        for update, images, _ in batches:
            z = draw_z(1, update, BATCH, 100, "uniform")[rank::2]
            update_both(players, pixels_to_unit(images, cpu), torch.from_numpy(z))
    torch.save([players.generator.state_dict(), players.discriminator.state_dict()], f"{place}/weights-{rank}.pt")

    rows: list[dict[str, Any]] = []
    summary = train(Folder(shards), Folder(f"{place}/out"), _settings(6), 1, rank, 2, report=rows.append)
    torch.distributed.barrier()
    try:
        elsewhere = Folder(f"{place}/out" if rank == 0 else f"{place}/elsewhere")
        train(Folder(shards), elsewhere, _settings(8), 1, rank, 2)
        refused = ""
    except ValueError as error:
        refused = str(error)
    Path(f"{place}/rank-{rank}.json").write_text(json.dumps({"rows": rows, "summary": summary, "refused": refused}))
    torch.distributed.destroy_process_group()


def _two_workers_in_one(shards: Folder, updates: int) -> tuple[torch.nn.Module, torch.nn.Module]:
    """What two workers should reach: each half of every batch by itself, the gradients averaged."""
    preset = resolve("paper-64", **OVERRIDES)
    G, D = build(preset, 1, torch.device("cpu"))
    adam_g, adam_d = _adam(G.parameters(), preset), _adam(D.parameters(), preset)
    reader = ShardReader(shards, 32)
    order = SampleOrder(reader.shard_samples, 1, 20)
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    with open_batches(reader, order, range(updates), Share(BATCH)) as batches:
        for update, images, _ in batches:
            z = torch.from_numpy(draw_z(1, update, BATCH, 100, "uniform"))
            real = images.float() / 127.5 - 1
            G.zero_grad()
            D.zero_grad()
            for half in (slice(0, None, 2), slice(1, None, 2)):
                if update % 2 == 0:
                    logits = D(G(z[half]))
                    loss = bce(logits, torch.ones_like(logits))
                else:
                    of_real, of_fake = D(real[half]), D(G(z[half]).detach())
                    loss = bce(of_real, torch.ones_like(of_real)) + bce(of_fake, torch.zeros_like(of_fake))
                torch.autograd.backward(loss / 2)
            (adam_g if update % 2 == 0 else adam_d).step()
    return G, D


def test_two_workers_average_their_halves_and_stay_equal(shards: Folder) -> None:
    with tempfile.TemporaryDirectory() as place:
        spawn(_worker, (shards.address, place), nprocs=2)  # type: ignore[no-untyped-call]
        weights = [torch.load(f"{place}/weights-{rank}.pt", weights_only=True) for rank in (0, 1)]
        _assert_same(weights[0], weights[1])
        first, second = (json.loads(Path(f"{place}/rank-{rank}.json").read_text()) for rank in (0, 1))
        assert [row["update"] for row in second["rows"]] == [4, 6]
        for a, b in zip(first["rows"], second["rows"], strict=True):
            assert (a["loss_d"], a["loss_g"]) == (b["loss_d"], b["loss_g"])
        assert first["summary"]["workers"] == 2
        for told in (first, second):
            assert "workers see different checkpoints" in told["refused"]
        state = _state(Folder(f"{place}/out"))
    G, D = _two_workers_in_one(shards, 6)
    for network, saved in ((G, state.generator), (D, state.discriminator)):
        for name, value in network.state_dict().items():
            torch.testing.assert_close(saved[name], value, rtol=1e-4, atol=2e-5, msg=f"{name} differs")
