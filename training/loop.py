"""The run of updates, from shards to a trained generator. Reports through a callback; knows nothing of Ray.

To resume, run the same call again: it goes on from the last checkpoint, and a finished run does nothing.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from manifests.store import Folder
from training import checkpoint
from training.endings import Untrainable
from training.order import SampleOrder
from training.outputs import CHECKPOINTS, SUMMARY, Outputs
from training.ranks import workers
from training.reading import ShardReader
from training.session import Report, Session, latest_of_all
from training.settings import TrainingSettings


def train(
    shards: Folder,
    out: Folder,
    settings: TrainingSettings,
    seed: int,
    rank: int = 0,
    world: int = 1,
    device: torch.device | str = "cpu",
    report: Report = lambda row: None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train, or go on training, and return the run's summary, which is also written to summary.json.

    With several workers, each calls this with its rank, inside an initialised torch.distributed group; `out` must lie
    on storage that all share. All make the same number of updates; rank 0 writes. `report` is called in every worker
    with each row of metrics.jsonl, extended by images_total. Once `stop` says so in any worker, all end with a
    checkpoint after the next row.

    Raises:
        Untrainable: the batch doesn't divide by the workers, or the checkpoint in `out` is of another run.
        DamagedShard, DamagedCheckpoint: a file is damaged.
        Diverged: a figure is not finite. Stopped: the guard's settings say so. Interrupted: `stop` did.
        RanksDiffer, OrderBroken: what must never be.

    Source: Radford et al. 2016, section 4.
    """
    device = torch.device(device)
    settings.share(rank, world)
    if workers() != world:
        raise Untrainable(f"world={world}, but torch.distributed has {workers()}; initialise its group first")
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    preset = settings.resolved()
    reader = ShardReader(shards, preset.size_px, verify=settings.loader.verify, channels=preset.image_channels)
    order = SampleOrder(reader.shard_samples, seed, settings.window_samples)
    state = latest_of_all(out.child(CHECKPOINTS), device)
    # What no one chose stays as it was begun: a training may move from CPUs to a GPU, and back.
    precision = settings.precision_on(device, state.precision if state else None)
    settings = settings.model_copy(update={"precision": precision})
    if state is not None:
        checkpoint.check_same_run(state, preset, precision, seed, len(reader), order.identity)
    total = max(settings.updates(len(reader)), state.update if state else 0)  # a run that was longer stays as it is
    if state is not None and state.update == total and out.exists(SUMMARY):
        summary: dict[str, Any] = out.read_json(SUMMARY)
        if summary["updates"] == total:
            return summary
    with contextlib.ExitStack() as stack:
        update = state.update if state else 0
        outputs = stack.enter_context(Outputs(out, settings, seed, reader, update)) if rank == 0 else None
        training = Session(out, settings, seed, reader, order, rank, world, device, outputs, report)
        if state is not None:
            training.take(state)
        training.begin()
        while training.update < total:
            training.go_on(total, stop)
        return training.summarise()
