"""The paper's networks as settings, and how a preset is found by name and changed."""

import difflib
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from training.draws import Distribution


class PresetError(ValueError):
    """There is no such preset or setting, or the settings don't fit together."""


class Preset(BaseModel):
    """A pair of networks and how it is trained. The defaults are the paper's, for 64x64 images.

    Source: Radford et al. 2016, sections 3 and 4; the authors' code where the paper is silent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    name: str = Field(description="the preset's name")
    size_px: Literal[28, 32, 64, 128] = Field(default=64, description="side of the images")
    image_channels: Literal[1, 3] = Field(default=3, description="3: RGB; 1: grey")
    z_dim: int = Field(default=100, ge=1, description="length of the latent vector z")
    z_distribution: Distribution = Field(default="uniform", description="uniform in -1..1, or normal with deviation 1")
    architecture: Literal["paper", "torch-4x4", "stacked", "mnist"] = Field(
        default="paper",
        description="paper: dense ends, stride-2 convolutions between; torch-4x4: convolutions at both ends, as in the "
        "widespread port; stacked: two convolutions at each side, as the authors' ImageNet networks; mnist: two "
        "convolutions, a dense layer and two outputs in D, for 28 px",
    )
    kernel: Literal[3, 4, 5] = Field(default=5, description="side of the kernels")
    width: int = Field(
        default=128, ge=1, description="channels next to the image; they double with each halving of the side"
    )
    first_norm: Literal["units", "channels"] = Field(
        default="units",
        description="what the generator's first batch norm runs over: each unit by itself, or channels",
    )
    norm_eps: float = Field(default=1e-8, gt=0, description="added to the variance in batch norm")
    leak: float = Field(default=0.2, ge=0, description="slope of LeakyReLU below zero")
    batch_norm: Literal["global", "per_rank", "ghost"] = Field(
        default="global",
        description="whose statistics: the global batch's, each worker's part's, or those of ghost_images at a time",
    )
    ghost_images: int | None = Field(default=None, ge=2, description="images of a ghost batch; only with ghost")
    loss: Literal["bce", "minimax", "hinge", "least-squares"] = Field(
        default="bce",
        description="bce: cross-entropy, G's that does not saturate (the paper's); minimax: G's that does; hinge; "
        "least-squares",
    )
    deviation: float = Field(
        default=0.02, gt=0, description="deviation of the initial weights and of batch norm's gains"
    )
    alternate: Literal["alternate", "both"] = Field(
        default="alternate",
        description="alternate: even updates G, odd updates D, a fresh batch and z each; both: D and G on each batch",
    )
    batch_images: int = Field(default=128, ge=2, description="images in a global batch, over all workers")
    learning_rate: float = Field(default=2e-4, gt=0, description="Adam's step size")
    beta1: float = Field(default=0.5, ge=0, lt=1, description="Adam's decay of the mean gradient")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="Adam's decay of the mean squared gradient")
    adam_eps: float = Field(default=1e-8, gt=0, description="added to Adam's divisor")
    weight_decay: float = Field(
        default=1e-5, ge=0, description="L2 added to the gradient of all parameters (not AdamW)"
    )
    classes: int = Field(
        default=0,
        ge=0,
        description="classes of images; both networks are told an image's, at each layer. 0: there are none",
    )

    @model_serializer(mode="wrap")
    def _plain(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What has no classes is written as it was before there were any, so that its files stay the same.
        plain: dict[str, Any] = dump(self)
        if not self.classes:
            plain.pop("classes", None)
        return plain

    @model_validator(mode="after")
    def _settings_fit(self) -> "Preset":
        faults = list(self._faults())
        if faults:
            raise ValueError("; ".join(faults))
        return self

    def _faults(self) -> Iterator[str]:
        """Settings that can't stand together, each with what to set instead."""
        if self.architecture == "mnist" and self.size_px != 28:
            yield f"architecture=mnist makes images of 28 px, not size_px={self.size_px}; set size_px=28"
        if self.architecture != "mnist" and self.size_px == 28:
            yield (
                f"size_px=28 is no power of two, which architecture={self.architecture} needs; "
                "set architecture=mnist, or size_px to 32, 64 or 128"
            )
        if self.architecture == "stacked" and self.kernel == 4:
            yield (
                "kernel=4 can't keep the side at stride 1, as architecture=stacked does; "
                "set kernel to 3 or 5, or architecture=paper"
            )
        if self.architecture == "torch-4x4" and self.first_norm == "units":
            yield "first_norm=units needs a dense first layer; set first_norm=channels or architecture=paper"
        if self.batch_norm == "ghost" and self.ghost_images is None:
            yield "batch_norm=ghost needs ghost_images, images that share statistics; set one that divides the batch"
        if self.batch_norm != "ghost" and self.ghost_images is not None:
            yield (
                f"ghost_images={self.ghost_images} is of batch_norm=ghost only, not of {self.batch_norm}; "
                "leave it out, or set batch_norm=ghost"
            )
        if self.ghost_images is not None and self.batch_images % self.ghost_images:
            fitting = [n for n in range(2, self.batch_images + 1) if self.batch_images % n == 0]
            yield (
                f"batch_images={self.batch_images} does not divide into ghost batches of {self.ghost_images}; "
                f"try ghost_images={min(fitting, key=lambda n: abs(n - (self.ghost_images or 0)))}"
            )
        if self.classes == 1:
            yield "classes=1 tells the networks nothing; set classes=0, or 2 or more"

    @property
    def latent_dim(self) -> int:
        """Values that the generator takes for an image: z, and the one-hot label where there are classes."""
        return self.z_dim + self.classes

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at each side from 4 px (7 for 28) up to size_px / 2, such as 1024, 512, 256, 128."""
        halvings = (self.size_px // 4).bit_length() - 1
        return tuple(self.width << i for i in reversed(range(halvings)))


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(name="paper-64"),
        # Small enough to show rooms after minutes on two cores.
        # Departs: both networks learn from each batch (12 % more pairs of updates a second), small batches, a larger
        # step, and the first batch norm over channels, which small batches can measure.
        Preset(
            name="paper-64-narrow",
            width=16,
            alternate="both",
            batch_images=32,
            learning_rate=5e-4,
            first_norm="channels",
        ),
        Preset(
            name="torch-4x4",
            architecture="torch-4x4",
            kernel=4,
            width=64,
            first_norm="channels",
            norm_eps=1e-5,
            z_distribution="normal",
            alternate="both",
            weight_decay=0.0,
        ),
        # As paper-64 with a side more: G 1024@4, 512@8, 256@16, 128@32, 64@64, 3@128; D mirrors it.
        Preset(name="paper-128", size_px=128, width=64),
        # The network whose features the paper measures: 28,672 of them, max-pooled from six layers.
        Preset(name="imagenet-32", architecture="stacked", size_px=32, kernel=3, z_dim=256),
        Preset(name="svhn-32", size_px=32, width=64, z_distribution="normal", learning_rate=5e-4, batch_images=64),
        Preset(name="mnist-28", architecture="mnist", size_px=28, image_channels=1, width=64),
        # Told which digit, as the networks of the paper's appendix.
        Preset(
            name="mnist-28-conditional",
            architecture="mnist",
            size_px=28,
            image_channels=1,
            width=64,
            weight_decay=2.5e-5,
            classes=10,
        ),
    )
}


def _nearest(word: str, words: list[str]) -> str:
    found = difflib.get_close_matches(word, words, n=1, cutoff=0.0)
    return found[0]


def resolve(name: str, /, **overrides: Any) -> Preset:
    """The preset called `name`, with some settings replaced.

    Raises:
        PresetError: no preset or setting has that name (the nearest one is given), a value is out of range, or values
            don't fit together.
    """
    if name not in PRESETS:
        raise PresetError(
            f"there is no preset {name!r}; the nearest is {_nearest(name, list(PRESETS))!r}, of {', '.join(PRESETS)}"
        )
    settings = [field for field in Preset.model_fields if field != "name"]
    for key in overrides:
        if key not in settings:
            raise PresetError(f"presets have no setting {key!r}; the nearest is {_nearest(key, settings)!r}")
    try:
        return Preset.model_validate(PRESETS[name].model_dump() | overrides)
    except ValidationError as error:
        told = [_fault(fault["loc"], fault["msg"], fault["input"]) for fault in error.errors(include_url=False)]
        raise PresetError(f"preset {name}: {'; '.join(told)}") from error


def _fault(place: tuple[int | str, ...], message: str, given: Any) -> str:
    said = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))}={given!r}: {said}" if place else said
