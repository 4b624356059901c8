"""The paper's 3072-128-3072 denoising autoencoder: how it is fitted, and the encoder that is left of it."""

import io
import math
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch.nn import functional

from dedup.corruption import changed, masked
from dedup.inputs import AllPixels, InDirections, Inputs, medians, network_input
from manifests.schema import CODE_BITS, THUMB_BYTES

GRID = 2.0**-14
"""Weights are whole multiples of this, so that sums of uint8 times weight are exact in float64 in any order."""

ENCODER_FILE = "autoencoder.npz"
"""What the file of an encoder is called in a run's codes."""

_EXACT_BELOW = 2.0**53  # float64 holds every whole number up to here
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)


class AutoencoderSettings(BaseModel):
    """How the autoencoder is fitted."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    standardise: bool = Field(True, description="bring each image to mean 0 and deviation 1; false: pixels / 255")
    fit_images: int = Field(5_000, ge=1, description="images to fit on at most, drawn by the seed")
    epochs: int = Field(12, ge=1, description="passes over the images that are fitted on")
    batch_images: int = Field(100, ge=1, description="images in an update")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate, falling to 0 along a half cosine")
    dropout: float = Field(0.2, ge=0, lt=1, description="share of hidden units silenced in an update")
    noise: float = Field(0.0, ge=0, lt=1, description="share of pixels masked in the input, all three channels at once")
    changes: bool = Field(True, description="show near-duplicate changes of the images, and ask for the images back")
    directions: int = Field(
        32,
        ge=0,
        le=CODE_BITS,
        description="look at so many directions in which images differ most for what changes do to them; 0: at all "
        "pixels. More tell more images apart, and put copies at a larger radius",
    )
    mirror_units: bool = Field(True, description="a mirrored image has the same bits, but for fixed ones that flip")
    balance: bool = Field(True, description="move each bit's threshold to the middle of the images that are fitted on")

    @model_validator(mode="after")
    def _together(self) -> "AutoencoderSettings":
        if self.mirror_units and not self.directions:
            raise ValueError("mirror_units=true needs directions; set directions=32, or mirror_units=false")
        if self.directions and not self.changes:
            raise ValueError("directions are found by the changes; set changes=true, or directions=0")
        return self


PAPER = AutoencoderSettings(
    standardise=False, fit_images=30_000, noise=0.2, changes=False, directions=0, mirror_units=False, balance=False
)
"""The paper's plain form: pixels, masked at random, and nothing else."""


@dataclass(frozen=True)
class Encoder:
    """The half of the autoencoder that makes codes: a unit's activation is `weights @ x + bias`.

    weights: float64[128, 3072], whole multiples of 2^-14
    bias: float64[128], whole multiples of 2^-14
    standardise: whether x is the image at mean 0 and deviation 1, or pixels / 255

    Raises ValueError where shapes are wrong, a value is off the grid, or weights are so large that sums would round.
    """

    weights: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    standardise: bool

    def __post_init__(self) -> None:
        if self.weights.shape != (CODE_BITS, THUMB_BYTES) or self.bias.shape != (CODE_BITS,):
            raise ValueError(
                f"weights {self.weights.shape} and bias {self.bias.shape} are not {(CODE_BITS, THUMB_BYTES)} and "
                f"{(CODE_BITS,)}; fit the autoencoder again"
            )
        for name, values in (("weights", self.weights), ("bias", self.bias)):
            if not np.array_equal(np.rint(values / GRID) * GRID, values):
                raise ValueError(f"{name} hold values that are no multiples of 2^-14; round them with on_grid() first")
        # The largest figures on the way to a code are 3072 (weights @ p) and sum(p) sum(weights), subtracted.
        largest = (
            2 * THUMB_BYTES * 255 * (float(np.abs(self.weights).sum(axis=1).max()) + float(np.abs(self.bias).max()))
        )
        if not largest / GRID < _EXACT_BELOW:
            raise ValueError(
                f"weights reach sums of {largest / GRID:.3g} grid steps, exact only below 2^53; "
                "fit with a lower learning_rate or fewer epochs"
            )


@dataclass(frozen=True)
class Fitted:
    """A fitted encoder, and the mean squared error of each epoch."""

    encoder: Encoder
    losses: list[float]


def on_grid(values: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
    """The values rounded to whole multiples of 2^-14."""
    # Adding 0.0 turns -0.0 into 0.0, so equal values have equal bytes.
    return np.asarray(np.rint(values.astype(np.float64) / GRID) * GRID + 0.0, np.float64)


def fit(
    thumbs: npt.NDArray[np.uint8],
    settings: AutoencoderSettings,
    seed: int,
    threads: int,
    on_epoch: Callable[[int, float], None] | None = None,
) -> Fitted:
    """Fit the autoencoder on 32x32 centre thumbs; the same bytes again for the same set of thumbs, seed and threads.

    thumbs: uint8[N, 3072], RGB, 0..255; more than `fit_images` are cut to a drawn subset. Their order does not matter.
    on_epoch: called with (epoch counted from 1, its mean squared error).

    Raises ValueError where there is nothing to fit on, or the fit ran away.

    Radford et al. 2016, section 4.1.1: "a 3072-128-3072 de-noising dropout regularized RELU autoencoder".
    Departs: by default images are standardised, since a code of plain pixels turns with the brightness; the noise is
    what near-duplicates undergo; and inputs are the directions that it disturbs least, folded into the weights at the
    end. The paper states neither noise nor rates. PAPER is its plain form.
    """
    if thumbs.ndim != 2 or thumbs.shape[1] != THUMB_BYTES or not len(thumbs):
        raise ValueError(f"thumbs {thumbs.shape} are not (1 or more, {THUMB_BYTES}); keep at least one image")
    with _torch_threads(threads):
        draw = torch.Generator().manual_seed(seed)
        # Pixels stay uint8 until their batch's turn: as float32 they would take four times the memory.
        pixels = torch.from_numpy(_subset(thumbs, settings.fit_images, draw))
        inputs = _inputs(pixels, settings, draw)
        encode, hidden_bias, losses = _train(inputs, settings, draw, on_epoch)
        exact_weights, exact_bias = inputs.folded(encode, hidden_bias)
        # A unit's scale leaves its bit alone; with the largest weight at 1, rounding to the grid loses least.
        scale = exact_weights.abs().amax(dim=1, keepdim=True).clamp_(min=1e-30)
        weights, bias = on_grid((exact_weights / scale).numpy()), on_grid((exact_bias / scale[:, 0]).numpy())
        if settings.balance:
            bias = on_grid(-medians(weights, pixels, settings.standardise))
        bias[inputs.odd.numpy()] = 0  # the mirror images balance them
        return Fitted(encoder=Encoder(weights=weights, bias=bias, standardise=settings.standardise), losses=losses)


def save_encoder(encoder: Encoder) -> bytes:
    """The encoder as the bytes of an .npz file; equal encoders give equal bytes."""
    arrays = {
        "weights": np.rint(encoder.weights / GRID).astype("<i4"),
        "bias": np.rint(encoder.bias / GRID).astype("<i4"),
        "standardise": np.array(encoder.standardise),
    }
    out = io.BytesIO()
    # Written by hand because np.savez stamps the time into the zip.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, version=(1, 0), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", _ZIP_TIME), member.getvalue())
    return out.getvalue()


def load_encoder(data: bytes) -> Encoder:
    """The encoder that `save_encoder` wrote.

    Raises ValueError where the bytes are no such file. Nothing in them is unpickled.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            weights, bias, standardise = arrays["weights"], arrays["bias"], arrays["standardise"]
    except (KeyError, TypeError, EOFError, zipfile.BadZipFile, ValueError) as error:
        raise ValueError(f"not an encoder file ({error}); run the encode stage again with --redo encode") from error
    return Encoder(weights=weights * GRID, bias=bias * GRID, standardise=bool(standardise))


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _subset(thumbs: npt.NDArray[np.uint8], most: int, draw: torch.Generator) -> npt.NDArray[np.uint8]:
    # Byte order first: which rows are drawn, and into which batch, then hangs on the pixels alone.
    order = np.argsort(np.ascontiguousarray(thumbs).view(f"S{THUMB_BYTES}").ravel(), kind="stable")
    drawn: npt.NDArray[np.int64] = order[torch.randperm(len(order), generator=draw)[:most].numpy()]
    return np.asarray(thumbs[drawn], np.uint8)


def _inputs(pixels: torch.Tensor, settings: AutoencoderSettings, draw: torch.Generator) -> Inputs:
    def corrupt(batch: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        images = network_input(changed(batch, draw) if settings.changes else batch, settings.standardise) - middle
        return masked(images, settings.noise, draw) if settings.noise else images

    if not settings.directions:
        return AllPixels(pixels, settings.standardise, corrupt)
    return InDirections(pixels, settings.standardise, corrupt, settings.directions, settings.mirror_units, draw)


def _train(
    inputs: Inputs,
    settings: AutoencoderSettings,
    draw: torch.Generator,
    on_epoch: Callable[[int, float], None] | None,
) -> tuple[torch.Tensor, torch.Tensor, list[float]]:
    """Weights and bias of the hidden units, and the error of each epoch."""
    sees, images = inputs.unit_sees, len(inputs)
    encode = torch.empty(sees.shape).normal_(0, 1 / math.sqrt(sees.shape[1]), generator=draw).mul_(sees)
    decode = torch.empty(sees.shape).normal_(0, 1 / math.sqrt(sees.shape[1]), generator=draw).t().contiguous()
    hidden_bias, output_bias = torch.zeros(CODE_BITS), torch.zeros(sees.shape[1])
    parameters = [tensor.requires_grad_() for tensor in (encode, hidden_bias, decode, output_bias)]
    adam = torch.optim.Adam(parameters, lr=settings.learning_rate, fused=True)
    updates = settings.epochs * math.ceil(images / settings.batch_images)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, T_max=updates)
    losses: list[float] = []
    for epoch in range(1, settings.epochs + 1):
        total = 0.0
        for rows in torch.randperm(images, generator=draw).split(settings.batch_images):  # type: ignore[no-untyped-call]
            clean, seen = inputs.batch(rows)
            hidden = functional.linear(seen, encode * sees, hidden_bias * ~inputs.odd).relu()
            hidden = hidden * _kept(hidden.shape, settings.dropout, draw)
            loss = functional.mse_loss(functional.linear(hidden, decode, output_bias), clean)
            adam.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            fall.step()
            total += float(loss.detach()) * len(rows)
        losses.append(total / images)
        if not math.isfinite(losses[-1]):
            raise ValueError(
                f"the autoencoder's error is {losses[-1]} in epoch {epoch}; "
                f"lower learning_rate={settings.learning_rate}"
            )
        if on_epoch is not None:
            on_epoch(epoch, losses[-1])
    return (encode * sees).detach(), (hidden_bias * ~inputs.odd).detach(), losses


def _kept(shape: torch.Size, rate: float, draw: torch.Generator) -> torch.Tensor:
    """1 / (1 - rate) where a value stays, 0 where it is dropped; means stay what they are without dropout."""
    return torch.empty(shape).bernoulli_(1 - rate, generator=draw).div_(1 - rate)
