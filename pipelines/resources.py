"""Where and how widely a run works, and whether a training's batch can be dealt out to its workers."""

import math
from typing import Annotated, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.settings import TrainingSettings

_LARGER_BATCH = 8

Count = Annotated[int, Field(ge=1)]


class Resources(BaseModel):
    """Where and how widely the run works. Nothing here changes what comes out of the data stages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    workers: int | None = Field(None, ge=1, description="Cores that a data stage uses; none: all there are")
    part_images: int = Field(2048, ge=1, description="Records of a part, the unit of work and of resume")
    train_workers: Count | tuple[Count, Count] = Field(
        1, description="Ranks of the training; [least, most]: as many of these as the cluster has room for at the time"
    )
    train_cpus: int | None = Field(None, ge=1, description="CPUs of a rank; none: this machine's cores by the ranks")
    gpu: bool = Field(False, description="One GPU a rank")
    train_failures: int = Field(3, ge=0, description="How often a training that lost a worker goes on")
    object_store_gb: float = Field(1.0, ge=0.08, description="Object store of an embedded Ray")

    @model_validator(mode="after")
    def _in_order(self) -> "Resources":
        least, most = self.train_range
        if least > most:
            raise ValueError(f"train_workers=[{least}, {most}] begins above its end; write [{most}, {least}]")
        return self

    @property
    def train_range(self) -> tuple[int, int]:
        """The fewest and the most ranks of the training."""
        workers = self.train_workers
        return (workers, workers) if isinstance(workers, int) else workers


class WorkerNames(NamedTuple):
    """What a user calls the settings of the training's workers."""

    workers: str = "resources.train_workers"
    span: str = "[{}, {}]"
    cpus: str = "resources.train_cpus"
    gpu: str = "resources.gpu"
    no_gpu: str = "set resources.gpu=false"
    before: str = " (dcgan run --until shard stops before the training)"


IN_A_RECIPE = WorkerNames()


def check_workers(settings: TrainingSettings, resources: Resources, names: WorkerNames = IN_A_RECIPE) -> None:
    """Check that the batch can be dealt out evenly to any number of workers that there may be.

    Raises:
        ValueError: it can't, or a worker's part of it does not divide by micro_images.
    """
    preset, (least, most) = settings.resolved(), resources.train_range
    block = preset.ghost_images or 1
    batch_images, worlds = preset.batch_images, range(least, most + 1)
    unfit = [world for world in worlds if batch_images % (world * block)]
    if not unfit:
        for world in worlds:
            settings.share(0, world)
        return
    shares = math.lcm(*worlds) * block
    above = -(-batch_images // shares) * shares
    batches = " or ".join(str(batch) for batch in (above - shares, above) if batch)
    # A batch that suits all of a wide range would be another training altogether.
    larger = f"batch_images={batches}, or " if above <= _LARGER_BATCH * batch_images else ""
    fit = [world for world in range(1, batch_images // block + 1) if batch_images % (world * block) == 0]
    given = least if least == most else names.span.format(least, most)
    raise ValueError(
        f"batch_images={batch_images} does not divide by {' or '.join(map(str, unfit))} workers"
        f"{f' in blocks of {block}' if block > 1 else ''}, and {names.workers}={given}; "
        f"try {larger}workers: {', '.join(map(str, fit)) or 'none fit this batch'}"
    )
