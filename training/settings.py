"""How long a preset is trained, and what is written on the way. Progress is counted in images."""

import math
from typing import Any, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.adversarial import Precision
from training.batches import LoaderSettings
from training.endings import Untrainable
from training.guard import GuardSettings
from training.order import Share
from training.presets import Preset, resolve


class TrainingSettings(BaseModel):
    """How long a preset is trained and what is written on the way."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    preset: str = Field(default="paper-64", description="name of the networks and their training: see dcgan describe")
    overrides: dict[str, Any] = Field(default_factory=dict, description="settings of the preset to replace")
    images: int | None = Field(default=None, ge=1, description="images to see in all; give this or epochs")
    epochs: float | None = Field(default=None, gt=0, description="times to see each image; give this or images")
    precision: Precision | None = Field(
        default=None,
        description="of the arithmetic; bfloat16: autocast; none: as the training was begun; on a GPU bfloat16, "
        "on CPUs float32",
    )
    compile: bool | None = Field(
        default=None, description="let torch.compile make the networks' kernels; none: on a GPU, not on CPUs"
    )
    micro_images: int | None = Field(
        default=None,
        ge=2,
        description="images of a worker that go through a network at a time, gradients added up: less memory; only "
        "with batch_norm=ghost, where it changes nothing",
    )
    log_every_updates: int = Field(default=50, ge=1, description="updates that a row of metrics.jsonl averages over")
    checkpoint_every_images: int = Field(default=100_000, ge=1, description="images from one checkpoint to the next")
    grid_every_images: int = Field(default=100_000, ge=1, description="images from one sample grid to the next")
    grid_images: int = Field(default=64, ge=1, description="pictures in a sample grid, of each class as many")
    measure_every_images: int | None = Field(
        default=None,
        ge=1,
        description="images from one measurement of the samples to the next; none: as grid_every_images",
    )
    measure_images: int = Field(default=512, ge=32, description="samples, and real images, that are measured")
    keep_checkpoints: int = Field(
        default=3, ge=1, description="checkpoints that stay, beside the best; older ones are deleted"
    )
    guard: GuardSettings = Field(default_factory=GuardSettings, description="When a training has gone wrong, and then?")
    threads: int | None = Field(
        default=None, ge=1, description="torch's threads in each worker; none: as many as the worker has CPUs"
    )
    loader: LoaderSettings = Field(default_factory=LoaderSettings, description="How images are read ahead")
    window_samples: int = Field(default=65_536, ge=1, description="samples that are shuffled together, in whole shards")

    @model_validator(mode="after")
    def _valid(self) -> "TrainingSettings":
        if (self.images is None) == (self.epochs is None):
            raise ValueError(f"images={self.images} and epochs={self.epochs}: give one of them")
        preset = self.resolved()
        if self.micro_images is not None and (preset.ghost_images is None or self.micro_images % preset.ghost_images):
            raise ValueError(
                f"micro_images={self.micro_images} with batch_norm={preset.batch_norm} and ghost_images="
                f"{preset.ghost_images}: gradients can be added up only where batch norm looks at whole ghost batches; "
                "set batch_norm=ghost and micro_images to a multiple of ghost_images"
            )
        return self

    def resolved(self) -> Preset:
        """The preset with the overrides."""
        return resolve(self.preset, **self.overrides)

    def updates(self, samples: int) -> int:
        """Updates in all, for so many samples: the fewest that see as many images as were asked for."""
        images = self.images if self.images is not None else math.ceil((self.epochs or 0) * samples)
        return -(-images // self.resolved().batch_images)

    def share(self, rank: int = 0, world: int = 1) -> Share:
        """A worker's share of the global batches.

        Raises:
            Untrainable: the batch doesn't divide by the workers, or their part by micro_images.
        """
        preset = self.resolved()
        share = Share(preset.batch_images, rank, world, preset.ghost_images or 1)
        share.check()
        if preset.batch_norm == "per_rank" and share.images < 2:
            raise Untrainable(
                f"batch_images={preset.batch_images} leaves {world} workers one image each, and batch_norm=per_rank "
                "takes statistics of two or more; raise batch_images or set batch_norm=global"
            )
        if self.micro_images is not None and share.images % self.micro_images:
            raise Untrainable(
                f"a worker's part of {share.images} images does not divide by micro_images={self.micro_images}; "
                f"try micro_images={preset.ghost_images}"
            )
        return share

    def precision_on(self, device: torch.device, had: str | None = None) -> Precision:
        """The precision on a device, of a training whose checkpoint `had` one."""
        own = cast(Precision | None, had) or ("bfloat16" if device.type == "cuda" else "float32")
        return self.precision or own

    def compiled_on(self, device: torch.device) -> bool:
        """Whether the networks are compiled on a device."""
        return self.compile if self.compile is not None else device.type == "cuda"
