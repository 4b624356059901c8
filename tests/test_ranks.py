"""Two workers are one: synchronised and ghost batch norm, averaged gradients, and equality that is checked."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed
from group_fixture import leave_group
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from training.adversarial import Players, new_players, update_both, update_discriminator, update_generator
from training.norms import BatchNorm
from training.order import Share
from training.presets import Preset, resolve
from training.proof import Proof
from training.ranks import RanksDiffer, check_equal, largest_of_workers, rows_of_workers, sum_of_workers

BATCH, UPDATES = 16, 6
CPU = torch.device("cpu")
CASES: dict[str, dict[str, Any]] = {
    "alternate": {"preset": "paper-64", "size_px": 32},
    "both": {"preset": "torch-4x4", "size_px": 32},
    "grey": {"preset": "mnist-28", "loss": "hinge"},
    "stacked": {"preset": "imagenet-32", "loss": "least-squares"},
    "ghost": {"preset": "paper-64", "size_px": 32, "batch_norm": "ghost", "ghost_images": 4},
    "conditional": {"preset": "mnist-28-conditional"},
    "ghost, both": {"preset": "torch-4x4", "size_px": 32, "batch_norm": "ghost", "ghost_images": 4},
    "ghost, conditional": {
        "preset": "mnist-28-conditional",
        "alternate": "both",
        "batch_norm": "ghost",
        "ghost_images": 4,
    },
}


def _preset(case: str) -> Preset:
    changes = dict(CASES[case])
    return resolve(changes.pop("preset"), width=4, batch_images=BATCH, **changes)


def _players(case: str, seed: int = 1, micro_images: int | None = None) -> Players:
    return new_players(_preset(case), seed, CPU, "float64", micro_images=micro_images)


def _update(players: Players, update: int, rank: int, world: int) -> None:
    preset = players.preset
    draw = torch.Generator().manual_seed(update)
    rows = torch.from_numpy(Share(BATCH, rank, world, preset.ghost_images or 1).rows())
    shape = (BATCH, preset.image_channels, preset.size_px, preset.size_px)
    real = torch.rand(shape, generator=draw, dtype=torch.float64)[rows] * 2 - 1
    z = torch.randn((BATCH, preset.z_dim), generator=draw, dtype=torch.float64)[rows]
    told = None
    if preset.classes:
        of_fake, told = torch.eye(preset.classes, dtype=torch.float64)[
            torch.randint(preset.classes, (2, BATCH), generator=draw)[:, rows]
        ]
        z = torch.cat([z, of_fake], 1)
    if preset.alternate == "both":
        update_both(players, real, z, told)
    elif update % 2:
        update_discriminator(players, real, z, told)
    else:
        update_generator(players, z)


def _weights(players: Players) -> dict[str, Tensor]:
    return {
        f"{letter}.{name}": value
        for letter, network in (("G", players.generator), ("D", players.discriminator))
        for name, value in network.state_dict().items()
    }


def _worker(rank: int, place: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{place}/rendezvous", world_size=2, rank=rank)
    for case in CASES:
        players = _players(case, seed=1 + rank)  # worker 0's initial weights are to win
        for update in range(UPDATES):
            _update(players, update, rank, 2)
        check_equal(_weights(players).items())
        torch.save(_weights(players), f"{place}/{case}.pt")
    told: dict[str, Any] = {
        "rows": rows_of_workers(torch.tensor([rank + 1.0, 5.0])).tolist(),
        "sum": sum_of_workers(torch.tensor(rank + 1.0)).item(),
        "largest": largest_of_workers(torch.tensor(rank)).item(),
        "differ": "",
    }
    if rank == 1:  # a single bit
        next(players.discriminator.parameters()).data.view(torch.int64)[0, 0, 0, 3] ^= 1
    try:
        check_equal(_weights(players).items())
    except RanksDiffer as error:
        told["differ"] = str(error)
    proof = Proof(6, CPU)
    share = Share(4, rank, 2)
    for update in range(2):
        positions = share.positions(update)
        proof.deal(positions, (positions * 5) % 6, looked_at=update == 0)
    told["proof"] = proof.end_epochs(8)
    told["state"] = proof.state()[1].tolist()
    told["again"] = proof.state()[1].tolist()  # taking it changes nothing
    torch.save(told, f"{place}/told-{rank}.pt")
    leave_group()


@pytest.fixture(scope="module")
def place() -> Any:
    with tempfile.TemporaryDirectory() as folder:
        spawn(_worker, (folder,), nprocs=2)  # type: ignore[no-untyped-call]
        yield Path(folder)


@pytest.mark.parametrize("case", list(CASES))
def test_two_workers_learn_what_one_does(place: Path, case: str) -> None:
    players = _players(case)
    started = {name: value.clone() for name, value in _weights(players).items()}
    for update in range(UPDATES):
        _update(players, update, 0, 1)
    theirs = torch.load(place / f"{case}.pt", weights_only=True)
    for name, value in _weights(players).items():
        torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-9, msg=f"{name} differs")
        assert not torch.equal(value, started[name]), name


@pytest.mark.parametrize("rank", [0, 1])
def test_what_workers_tell_each_other(place: Path, rank: int) -> None:
    told = torch.load(place / f"told-{rank}.pt", weights_only=True)
    assert told["rows"] == [[1.0, 5.0], [2.0, 5.0]]
    assert (told["sum"], told["largest"]) == (3.0, 1)
    assert "D.conv1.weight differs between the 2 workers, as do 0 tensors more" in told["differ"]
    (row,) = told["proof"]
    assert (row["epoch"], row["dealt"], row["looked_at"], row["passed_over"]) == (1, 6, 4, 2)
    assert told["state"] == told["again"] == [16, 0, 0, 0, 0, 16]  # places 0 and 1 of epoch 2 are samples 0 and 5


def test_the_digest_of_an_epoch_does_not_depend_on_the_workers(place: Path) -> None:
    alone, swapped = Proof(6, CPU), Proof(6, CPU)
    for update in range(2):
        positions = Share(4).positions(update)
        alone.deal(positions, (positions * 5) % 6, looked_at=update == 0)
        swapped.deal(positions, (positions * 5 + 1) % 6, looked_at=update == 0)
    rows = alone.end_epochs(8)
    assert rows == torch.load(place / "told-0.pt", weights_only=True)["proof"]
    assert swapped.end_epochs(8)[0]["digest"] != rows[0]["digest"]


@pytest.mark.parametrize("case", ["ghost", "ghost, both", "ghost, conditional"])
@pytest.mark.parametrize("micro_images", [4, 8])
def test_gradients_added_up_over_ghost_batches_are_those_of_the_whole(case: str, micro_images: int) -> None:
    whole, parts = _players(case), _players(case, micro_images=micro_images)
    for update in range(UPDATES):
        _update(whole, update, 0, 1)
        _update(parts, update, 0, 1)
    for name, value in _weights(whole).items():
        torch.testing.assert_close(_weights(parts)[name], value, rtol=0, atol=1e-9, msg=f"{name} differs")


def test_ghost_batches_have_their_own_statistics() -> None:
    norm = BatchNorm(3, 1e-5, "ghost", 4).double()
    x = torch.randn(12, 3, 5, 5, dtype=torch.float64) * torch.arange(1, 13).view(-1, 1, 1, 1)
    y = norm(x)
    for start in (0, 4, 8):
        torch.testing.assert_close(y[start : start + 4].mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64))
        alone = BatchNorm(3, 1e-5).double()(x[start : start + 4])
        torch.testing.assert_close(y[start : start + 4], alone)
    norm.eval()  # pictures are made with the statistics of the batch at hand
    torch.testing.assert_close(norm(x), BatchNorm(3, 1e-5).double()(x))
