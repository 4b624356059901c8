"""Checkpoints: plain files that hold everything, exist only whole, and are never unpickled."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch

from manifests.store import Folder
from training import checkpoint, snapshot
from training.adversarial import Players, new_players, update_both
from training.presets import resolve

CPU = torch.device("cpu")
PRESET = resolve("torch-4x4", width=4, size_px=32, batch_images=8)


def _players(updates: int, seed: int = 1) -> Players:
    players = new_players(PRESET, seed, CPU)
    for update in range(updates):
        _update(players, update)
    return players


def _update(players: Players, update: int) -> None:
    draw = torch.Generator().manual_seed(update)
    update_both(players, torch.rand(8, 3, 32, 32, generator=draw) * 2 - 1, torch.randn(8, 100, generator=draw))


def _state(players: Players, update: int) -> checkpoint.Checkpoint:
    marks = np.arange(5, dtype=np.uint8)
    return snapshot.of_players(players, 1, 5, update, 1.5, {"best": None, "rows": [1]}, marks)


def _assert_same(one: checkpoint.Checkpoint, other: checkpoint.Checkpoint) -> None:
    for key, value in vars(one).items():
        there = getattr(other, key)
        if key in ("generator", "discriminator"):
            assert value.keys() == there.keys()
            assert all(torch.equal(value[name], there[name]) for name in value)
        elif key in ("generator_adam", "discriminator_adam", "marks"):
            np.testing.assert_equal(value, there)
        else:
            assert value == there, key


def test_what_is_saved_is_what_is_loaded_and_goes_on_to_the_same_bits(tmp_path: Path) -> None:
    players = _players(3)
    saved = _state(players, 3)
    kept = copy.deepcopy(saved)
    folder = Folder(tmp_path)
    checkpoint.save(folder, saved, 3)
    _update(players, 3)
    _assert_same(saved, kept)  # later updates leave it as it is
    loaded = checkpoint.load(folder, "checkpoint-000000024")
    _assert_same(loaded, saved)
    other = _players(0, seed=2)
    snapshot.restore(loaded, other)
    _update(other, 3)
    for one, two in ((players.generator, other.generator), (players.discriminator, other.discriminator)):
        for (name, a), b in zip(one.named_parameters(), two.parameters(), strict=True):
            assert torch.equal(a, b), name
            assert a.stride() == b.stride()


def test_the_files_are_what_others_can_read(tmp_path: Path) -> None:
    players = _players(1)
    checkpoint.save(Folder(tmp_path), _state(players, 1), 3)
    own = tmp_path / "checkpoint-000000008"
    assert sorted(path.name for path in own.iterdir()) == [
        "discriminator.safetensors",
        "generator.safetensors",
        "optimisers.npz",
        "state.json",
    ]
    weights = safetensors.numpy.load_file(own / "generator.safetensors")
    for name, value in players.generator.state_dict().items():
        np.testing.assert_array_equal(weights[name], value.numpy())
    with np.load(own / "optimisers.npz", allow_pickle=False) as arrays:
        steps = [key for key in arrays.files if key.endswith("/step")]
        assert len(steps) == len(list(players.generator.parameters())) + len(list(players.discriminator.parameters()))
        assert all(arrays[key] == 1 for key in steps)


def test_only_the_last_ones_stay_in_order_of_number(tmp_path: Path) -> None:
    folder, players = Folder(tmp_path), _players(0)
    (tmp_path / "checkpoint-000000009").mkdir()  # no state.json: not a checkpoint
    for update in (999_999_992 // 8, 1_000_000_000 // 8, 1_000_000_008 // 8):
        checkpoint.save(folder, _state(players, update), 2)
    assert checkpoint.names(folder) == ["checkpoint-1000000000", "checkpoint-1000000008"]
    assert not (tmp_path / "checkpoint-999999992").exists()
    latest = checkpoint.load_latest(folder)
    assert latest is not None
    assert latest.images_seen == 1_000_000_008


@pytest.mark.parametrize("file", ["generator.safetensors", "discriminator.safetensors", "optimisers.npz", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "absent", "empty"])
def test_damage_of_any_file_is_seen(tmp_path: Path, file: str, damage: str) -> None:
    folder, players = Folder(tmp_path), _players(0)
    for update in (1, 2):
        checkpoint.save(folder, _state(players, update), 3)
    path = tmp_path / "checkpoint-000000016" / file
    data = bytearray(path.read_bytes())
    if damage == "absent":
        path.unlink()
    else:
        if damage == "cut":
            del data[len(data) // 2 :]
        elif damage == "empty":
            data.clear()
        else:
            data[len(data) // 3] ^= 1
        path.write_bytes(data)
    if file == "state.json" and damage == "absent":  # it never was
        assert checkpoint.names(folder) == ["checkpoint-000000008"]
        return
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"checkpoint-000000016.*to go on from checkpoint-000000008"):
        checkpoint.load_latest(folder)


def test_the_one_just_written_stays_though_later_ones_are_there(tmp_path: Path) -> None:
    folder, players = Folder(tmp_path), _players(0)
    for update in (1, 3, 2):
        checkpoint.save(folder, _state(players, update), 1)
        assert checkpoint.names(folder) == [checkpoint.name_of(8 * update)]


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class _Touch:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "ran",))

    folder = Folder(tmp_path)
    state = _state(_players(0), 1)
    state.generator_adam["conv/exp_avg"] = np.array([_Touch()], dtype=object)
    with pytest.raises(ValueError, match="pickle"):
        checkpoint.save(folder, state, 3)
    assert checkpoint.names(folder) == []
    state.generator_adam.clear()
    checkpoint.save(folder, state, 3)
    np.savez(tmp_path / state.name / "optimisers.npz", evil=np.array([_Touch()], dtype=object))
    with pytest.raises(checkpoint.DamagedCheckpoint):
        checkpoint.load_latest(folder)
    assert not (tmp_path / "ran").exists()


def test_another_run_is_told_by_what_differs() -> None:
    state = _state(_players(0), 1)
    checkpoint.check_same_run(state, PRESET, "float32", 1, 5)
    for preset, precision, seed, samples, message in (
        (resolve("torch-4x4", width=6, size_px=32, batch_images=8), "float32", 1, 5, "width=4, now width=6"),
        (PRESET, "float64", 1, 5, "precision=float32, now precision=float64"),
        (PRESET, "float32", 2, 5, "seed=1, now seed=2"),
        (PRESET, "float32", 1, 6, "samples=5, now samples=6"),
    ):
        with pytest.raises(ValueError, match=message):
            checkpoint.check_same_run(state, preset, precision, seed, samples)


def test_writing_behind_keeps_order_and_tells_of_errors(tmp_path: Path) -> None:
    players = _players(0)
    with checkpoint.CheckpointWriter() as writer:
        for update in (1, 2, 3):
            writer.save(Folder(tmp_path / "checkpoints"), _state(players, update), 2)
    assert checkpoint.names(Folder(tmp_path / "checkpoints")) == ["checkpoint-000000016", "checkpoint-000000024"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OSError, match="file"), checkpoint.CheckpointWriter() as writer:  # noqa: PT012
        writer.save(Folder(tmp_path / "file"), _state(players, 1), 2)
        writer.save(Folder(tmp_path / "checkpoints"), _state(players, 4), 2)


def test_what_changes_while_a_checkpoint_is_written_is_not_in_it(tmp_path: Path) -> None:
    state = _state(_players(0), 1)

    class Slow(Folder):
        def child(self, name: str) -> Folder:
            return Slow(f"{self.address}/{name}")

        def write_bytes(self, name: str, data: bytes) -> None:
            state.state["rows"].append(2)
            super().write_bytes(name, data)

    checkpoint.save(Slow(tmp_path), state, 1)
    assert checkpoint.load(Folder(tmp_path), state.name).state["rows"] == [1]
