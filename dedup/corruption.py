"""What the autoencoder is shown in place of a thumb: the picture after near-duplicate changes, or with pixels masked.

The changes of `dedup/changes.py` work on whole files; these are their like on 32x32 thumbs, drawn anew for each image
and made for a batch at once.
"""

import math

import torch
from torch.nn import functional

from manifests.schema import THUMB_PX

_PIXELS = THUMB_PX * THUMB_PX
_LUMA = (0.299, 0.587, 0.114)


def changed(pixels: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """The thumbs after changes of every kind at drawn strengths, never mirrored: float32[N, 3072], RGB, 0..255.

    pixels: uint8[N, 3072], RGB, 0..255
    """
    images = _toned(pixels, draw).view(-1, THUMB_PX, THUMB_PX, 3).permute(0, 3, 1, 2)
    images = _covered(_greyed(_moved(images, draw), draw), draw)
    return images.clamp_(0, 255).permute(0, 2, 3, 1).reshape(len(pixels), -1)


def masked(images: torch.Tensor, rate: float, draw: torch.Generator) -> torch.Tensor:
    """The images with whole pixels set to 0, which is what they are taken about, the rest as they are.

    images: float32[N, 3072]
    """
    kept = torch.empty(len(images), _PIXELS, 1).bernoulli_(1 - rate, generator=draw)
    return (images.view(-1, _PIXELS, 3) * kept).view(len(images), -1)


def _toned(pixels: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Other gamma, brightness and contrast."""
    images = len(pixels)
    levels = torch.arange(256) / 255
    gamma = torch.where(_chance(images, 0.4, draw), torch.exp(_between(images, -0.5, 0.5, draw)), 1.0)
    gain, middle = _between(images, 0.75, 1.25, draw), _between(images, 0, 0.6, draw)
    tables = (levels[None] ** gamma[:, None] - middle[:, None]) * gain[:, None] + middle[:, None]
    return (tables * 255).clamp_(0, 255).gather(1, pixels.long())


def _moved(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Cropped, turned, stretched and shifted, all in one sampling."""
    count = len(images)
    zoom = _between(count, 0.88, 1, draw)
    angle = _between(count, -math.radians(5), math.radians(5), draw) * _chance(count, 0.5, draw)
    stretch = torch.exp(_between(count, -0.07, 0.07, draw) * _chance(count, 0.4, draw))
    # Centre crops of pictures that grew at one side are far off the middle: some of the shifts are large.
    across = _between(count, -0.06, 0.06, draw) + _between(count, -0.1, 0.1, draw) * _chance(count, 0.1, draw)
    down = _between(count, -0.03, 0.03, draw)
    cosine, sine = torch.cos(angle), torch.sin(angle)
    wide, high = zoom * stretch, zoom / stretch
    rows = [cosine * wide, -sine * high, across, sine * wide, cosine * high, down]
    places = functional.affine_grid(torch.stack(rows, 1).view(-1, 2, 3), list(images.shape), align_corners=False)
    return functional.grid_sample(images, places, padding_mode="border", align_corners=False)


def _greyed(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Stronger or weaker colours; a fifth of the images lose all of them."""
    colour = _between(len(images), 0.6, 1.4, draw) * ~_chance(len(images), 0.2, draw)
    grey = torch.tensordot(images, torch.tensor(_LUMA), dims=([1], [0])).unsqueeze(1)
    return torch.lerp(grey.expand_as(images), images, colour[:, None, None, None])


def _covered(images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Bars above and below, a caption's bar, a border at one side, a sticker."""
    count, full = len(images), float(THUMB_PX)
    bar = _between(count, 0, 1.6, draw) * _chance(count, 0.3, draw)
    shade = 255.0 * _chance(count, 0.25, draw)
    images = _painted(images, (-1, bar), (-1, full), shade)
    images = _painted(images, (full - bar, full), (-1, full), shade)
    caption = _between(count, 1.5, 3, draw) * _chance(count, 0.3, draw)
    images = _painted(images, (full - caption, full), (-1, full), _between(count, 0, 60, draw))
    border = _between(count, 0, 3.5, draw) * _chance(count, 0.15, draw)
    right = _chance(count, 0.5, draw) * (full - border)
    images = _painted(images, (-1, full), (right, right + border), 255.0 * _chance(count, 0.5, draw))
    side = full * _between(count, 0.2, 0.4, draw) * _chance(count, 0.15, draw)
    top, left = ((full - side) * _between(count, 0, 1, draw) for _ in range(2))
    colour = torch.rand(count, 3, generator=draw) * 255
    return _painted(images, (top, top + side), (left, left + side), colour)


Edge = torch.Tensor | float


def _painted(
    images: torch.Tensor, rows: tuple[Edge, Edge], columns: tuple[Edge, Edge], colour: torch.Tensor
) -> torch.Tensor:
    """With a rectangle of one colour over each; pixels that it covers in part are blended."""
    share = _shares(rows, len(images))[:, None, :, None] * _shares(columns, len(images))[:, None, None, :]
    return torch.lerp(images, colour.view(len(images), -1, 1, 1).expand_as(images), share)


def _shares(edges: tuple[Edge, Edge], images: int) -> torch.Tensor:
    """How much of each of the 32 pixels in a line lies between two places, float32[N, 32]."""
    start, end = (torch.as_tensor(edge, dtype=torch.float32).expand(images)[:, None] for edge in edges)
    place = torch.arange(THUMB_PX)[None]
    return (torch.minimum(place + 1, end) - torch.maximum(place, start)).clamp_(0, 1)


def _between(count: int, low: float, high: float, draw: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=draw) * (high - low) + low


def _chance(count: int, share: float, draw: torch.Generator) -> torch.Tensor:
    return torch.rand(count, generator=draw) < share
