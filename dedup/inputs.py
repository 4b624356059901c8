"""What the autoencoder is given: images and corrupted images, as all their pixels or as a few directions."""

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from dedup.directions import cosines, find_directions
from manifests.schema import CODE_BITS, THUMB_BYTES, THUMB_PX

Corrupt = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Pixels, uint8[N, 3072], and what they are taken about, float32[3072], to corrupted network input about it."""

_BATCH_IMAGES = 128  # stays near the processor
_LEAST_LOOKS = 4000
_FEW_IMAGES = 64


class Inputs(Protocol):
    """The images that are fitted on.

    unit_sees: float32[128, K], 1 where a unit may look at an input and 0 where not
    odd: bool[128], whether a unit sees the negative of what it sees in the mirror image
    """

    unit_sees: torch.Tensor
    odd: torch.Tensor

    def __len__(self) -> int:
        """How many pairs an epoch has."""

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """(clean, corrupted), float32[B, K] each, of some images."""

    def folded(self, encode: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Weights float64[128, 3072] and bias float64[128] on network input, from those on K inputs."""


def network_input(pixels: torch.Tensor, standardise: bool) -> torch.Tensor:
    """Pixels, uint8 or float32[N, 3072] in 0..255, at mean 0 and deviation 1 or divided by 255."""
    images = pixels.to(torch.float32, copy=True)
    if not standardise:
        return images.div_(255)
    images.sub_(images.mean(dim=1, keepdim=True))
    return images.div_(images.square().mean(dim=1, keepdim=True).sqrt_().clamp_(min=1e-3))


def medians(weights: npt.NDArray[np.float64], pixels: torch.Tensor, standardise: bool) -> npt.NDArray[np.float64]:
    """The median of each row of `weights @ x` over the images, float64[128]; of few standardised ones nearly 0."""
    columns = torch.from_numpy(weights).float().t().contiguous()
    sums = torch.cat([network_input(batch, standardise) @ columns for batch in _split(pixels)])
    # Of three images one is the median of each row, and its copies would fall to either side.
    trust = len(pixels) ** 2 / (len(pixels) ** 2 + _FEW_IMAGES**2) if standardise else 1.0
    return np.asarray(trust * np.median(sums.numpy().astype(np.float64), axis=0), np.float64)


class AllPixels:
    """All pixels about their mean, corrupted anew at every look."""

    # Inputs about their mean, which is folded into the bias at the end, are the same function, but all-positive ones,
    # as pixels / 255 are, would let the first updates push every ReLU out of reach.
    def __init__(self, pixels: torch.Tensor, standardise: bool, corrupt: Corrupt) -> None:
        self.unit_sees = torch.ones(CODE_BITS, THUMB_BYTES)
        self.odd = torch.zeros(CODE_BITS, dtype=torch.bool)
        self._pixels, self._standardise, self._corrupt = pixels, standardise, corrupt
        self._mean = torch.zeros(THUMB_BYTES)
        for batch in _split(pixels):
            self._mean += network_input(batch, standardise).sum(dim=0) / len(pixels)

    def __len__(self) -> int:
        return len(self._pixels)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pixels = self._pixels[rows]
        return network_input(pixels, self._standardise) - self._mean, self._corrupt(pixels, self._mean)

    def folded(self, encode: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return encode.double(), bias.double() - encode.double() @ self._mean.double()


class InDirections:
    """Coordinates along the directions in which pictures differ most for what corruption does to them.

    Each image is corrupted once, and often where they are few, so that an epoch costs little. Half of the looks are at
    the mirror images.
    """

    def __init__(
        self,
        pixels: torch.Tensor,
        standardise: bool,
        corrupt: Corrupt,
        count: int,
        mirror_units: bool,
        draw: torch.Generator,
    ) -> None:
        frequencies = cosines()
        images = len(pixels)
        pixels = pixels.repeat(math.ceil(_LEAST_LOOKS / images), 1)
        middle = torch.zeros(THUMB_BYTES)
        clean = torch.cat([network_input(batch, standardise) @ frequencies[0] for batch in _split(pixels)])
        seen = torch.cat([corrupt(batch, middle) @ frequencies[0] for batch in _split(pixels)])
        self._directions = find_directions(clean, seen, images, count, frequencies)
        in_frequencies, origin = self._directions.in_frequencies, self._directions.origin
        self._clean, self._seen = clean @ in_frequencies - origin, seen @ in_frequencies - origin
        self._draw = draw
        odd = self._directions.odd
        self.odd = torch.zeros(CODE_BITS, dtype=torch.bool)
        self.unit_sees = torch.ones(CODE_BITS, len(odd))
        self._mirror_units = mirror_units
        if mirror_units:
            # As many bits a direction among the odd ones as among the even ones.
            self.odd[round(CODE_BITS * float((~odd).float().mean())) :] = True
            self.unit_sees = (self.odd[:, None] == odd[None]).float()

    def __len__(self) -> int:
        return len(self._clean)

    def batch(self, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mirror = torch.rand(len(rows), 1, generator=self._draw) < 0.5
        sign = torch.where(mirror & self._directions.odd, -1.0, 1.0)
        return self._clean[rows] * sign, self._seen[rows] * sign

    def folded(self, encode: torch.Tensor, bias: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        encode = encode.double()
        weights = encode @ self._directions.matrix.double().t()
        if self._mirror_units:
            weights = _with_parity(weights, self.odd)
        return weights, bias.double() - encode @ self._directions.origin.double()


def _with_parity(weights: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    """The weights with each row its own mirror image to the last bit, negated where odd."""
    left = weights.view(-1, THUMB_PX, THUMB_PX, 3)[:, :, : THUMB_PX // 2]
    right = left.flip(2) * torch.where(odd, -1.0, 1.0)[:, None, None, None]
    return torch.cat([left, right], dim=2).reshape(weights.shape)


def _split(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    return iter(pixels.split(_BATCH_IMAGES))  # type: ignore[no-untyped-call]
