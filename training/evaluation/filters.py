"""What the discriminator's last convolution answers to, beside the same network with random weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from training.evaluation.guided import GuidedDiscriminator, convolutions, guided_gradients, receptive_field
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.networks import Discriminator, build, reference_statistics
from training.samples import REFERENCE_IMAGES, Images, grid, labelled

Values = npt.NDArray[np.float64]

LEAST_IMAGES = 16
_CHUNK = 128
_BUSIEST = 0.05  # the part of a field whose share of the gradient is given
_RARE = 0.95
_TWIN = "the same network with random weights"
_SHOWN_PX = 60  # smaller patches are shown larger


class FiltersSettings(BaseModel):
    """How filters are shown."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    features: int = Field(default=6, ge=1, description="How many of the last convolution's maps are shown")
    patches: int = Field(default=4, ge=1, description="Pictures shown of each: those that it answers to most strongly")
    images: int = Field(default=2000, ge=LEAST_IMAGES, description="Held-out pictures that are looked through, at most")


@dataclass(frozen=True)
class Answers:
    """What one network's last convolution answers.

    strongest: float64[maps, N], in each picture; places: int64[maps, N, 2], the row and column of it
    selectivity: float64[maps], nan for a map that never answers; concentration: float64[maps], likewise
    """

    network: GuidedDiscriminator
    strongest: Values
    places: npt.NDArray[np.int64]
    selectivity: Values
    concentration: Values


def filters(subject: Subject, images: Images, settings: FiltersSettings) -> Measured:
    """The patches that each map of the last convolution answers to most strongly, and the guided gradients there.

    Selectivity, of each map: 1 - mean(r)^2 / mean(r^2), where r is its strongest answer in a picture, 0 where it is
    negative: 0 where all pictures are the same to it, towards 1 where few pictures have all of its answer. The control
    is the same network with random weights. It can't say what a map answers to, nor whether that is a thing in a room:
    a map of brightness can be as selective as one of beds; for that there are the patches.

    images: uint8[N, size_px, size_px, C], RGB or grey, never trained on.

    Raises:
        Unmeasurable: there are too few pictures.

    Source: Radford et al. 2016, section 6.2, figure 5; guided backpropagation: Springenberg et al. 2015; selectivity:
    Vinje and Gallant 2000.
    """
    if len(images) < LEAST_IMAGES:
        raise Unmeasurable(
            f"{len(images)} held-out pictures are too few to find what filters answer to; {LEAST_IMAGES} or more are "
            "needed: shard with a larger heldout_share"
        )
    subject.say(f"filters: looking through {len(images):,} held-out pictures")
    trained = answers(subject.discriminator, images)
    twin = build(subject.preset, subject.checkpoint.seed, subject.device)[1].eval()
    random = answers(twin, images)
    field = receptive_field(subject.discriminator.plan)
    share = float((trained.selectivity > _edge(random.selectivity)).mean())  # a silent map, nan, is not
    figures: dict[str, Any] = {
        "layer": convolutions(subject.discriminator.plan)[-1].name,
        "maps": len(trained.strongest),
        "field_px": field.side,
        "images": len(images),
        "selectivity": _quartiles(trained.selectivity),
        "selectivity_random": _quartiles(random.selectivity),
        "over_95_percent_of_random": round(share, 4),
        "over_95_percent_of_random_by_chance": round(1 - _RARE, 4),
        "gradient_in_busiest_twentieth": _quartiles(trained.concentration),
        "gradient_in_busiest_twentieth_random": _quartiles(random.concentration),
        "silent_maps": int(np.isnan(trained.selectivity).sum()),
        "silent_maps_random": int(np.isnan(random.selectivity).sum()),
    }
    halves = [
        labelled(_rows(one, images, settings), f"{words}: strongest patches, guided gradients")
        for words, one in (("Trained", trained), ("Random weights", random))
    ]
    return Measured(
        says=f"{share:.0%} of the last convolution's maps are more selective among held-out pictures than 95 % of "
        f"those of {_TWIN}; by chance it would be 5 %",
        statistics=f"of the first {min(len(images), REFERENCE_IMAGES)} of the pictures, fixed; each network's own",
        figures=figures,
        settings=settings.model_dump(mode="json"),
        pictures={"filters": _beside(*halves)},
        captions={
            "filters": f"A row for each of the first {settings.features} maps of the last convolution: the "
            f"{settings.patches} held-out pictures that it answers to most strongly, cut to the {field.side} px that "
            f"it sees, and the guided gradients there, each scaled to its own range; left trained, right {_TWIN}"
        },
        paper="by eye: maps answer to typical parts of a bedroom, such as beds and windows; random filters to nothing",
    )


def answers(discriminator: Discriminator, images: Images) -> Answers:
    """What the last convolution answers to each picture; images: uint8[N, size_px, size_px, C]."""
    network = GuidedDiscriminator(discriminator)
    device = next(network.parameters()).device
    with reference_statistics(network, _scaled(images[:REFERENCE_IMAGES], device)):
        strongest, places = [], []
        for start in range(0, len(images), _CHUNK):
            with torch.no_grad():
                last = network.activations(_scaled(images[start : start + _CHUNK], device))[-1]
            best, place = last.flatten(2).max(dim=2)
            strongest.append(best.cpu().numpy())
            places.append(torch.stack([place // last.shape[3], place % last.shape[3]], dim=2).cpu().numpy())
        most = np.concatenate(strongest).T.astype(np.float64)
        where = np.concatenate(places).transpose(1, 0, 2)
        maps = np.arange(len(most))
        first = most.argmax(axis=1)
        gradients = _gradients(network, images[first], maps, where[maps, first])
    return Answers(network, most, where, selectivity(most), _concentration(gradients, network))


def selectivity(strongest: Values) -> Values:
    """1 - mean(r)^2 / mean(r^2) over pictures, r the answers above 0.

    strongest: float64[maps, N] -> float64[maps], nan for a map that never answers.
    """
    above = strongest.clip(0)
    squares = np.square(above).mean(axis=1)
    return np.where(squares > 0, 1 - np.square(above.mean(axis=1)) / np.where(squares > 0, squares, 1.0), np.nan)


def _gradients(
    network: GuidedDiscriminator, images: Images, maps: npt.NDArray[np.int64], places: npt.NDArray[np.int64]
) -> npt.NDArray[np.float32]:
    """float32[N, H, W, C]: the guided gradient of a map at a place for each picture, statistics as they are fixed."""
    device = next(network.parameters()).device
    made = []
    for start in range(0, len(images), _CHUNK):
        part = slice(start, start + _CHUNK)
        of_maps, of_places = (torch.from_numpy(np.ascontiguousarray(own[part])).to(device) for own in (maps, places))
        gradient = guided_gradients(network, _scaled(images[part], device), of_maps, of_places)
        made.append(gradient.permute(0, 2, 3, 1).cpu().numpy())
    return np.concatenate(made)


def _concentration(gradients: npt.NDArray[np.float32], network: Discriminator) -> Values:
    """The share of each gradient's squares in the busiest twentieth of the field's pixels; nan where it is all 0."""
    energy = np.sort(np.square(gradients.astype(np.float64)).sum(axis=3).reshape(len(gradients), -1), axis=1)
    pixels = max(1, round(_BUSIEST * receptive_field(network.plan).side ** 2))
    total = energy.sum(axis=1)
    return np.where(total > 0, energy[:, -pixels:].sum(axis=1) / np.where(total > 0, total, 1.0), np.nan)


def _rows(one: Answers, images: Images, settings: FiltersSettings) -> Images:
    """The patches and the gradients of the first maps, a row for each, as a grid."""
    field, cells = receptive_field(one.network.plan), []
    statistics = _scaled(images[:REFERENCE_IMAGES], next(one.network.parameters()).device)
    with reference_statistics(one.network, statistics):
        for number in range(min(settings.features, len(one.strongest))):
            top = np.argsort(-one.strongest[number], kind="stable")[: settings.patches]
            places = one.places[number, top]
            gradients = _gradients(one.network, images[top], np.full(len(top), number, np.int64), places)
            largest = np.abs(gradients).max(axis=(1, 2, 3), keepdims=True)
            seen = np.round(127.5 + 127.5 * gradients / np.where(largest > 0, largest, 1.0)).astype(np.uint8)
            corners = (places * field.step + field.first).tolist()
            for pictures in (images[top], seen):
                cells += [cut(image, corner, field.side) for image, corner in zip(pictures, corners, strict=True)]
    times = max(1, round(_SHOWN_PX / field.side))
    return grid(np.stack(cells).repeat(times, axis=1).repeat(times, axis=2), 2 * min(settings.patches, len(images)))


def cut(image: Images, corner: Sequence[int], side: int) -> Images:
    """A square of a picture from a corner (row, column), grey outside of it: uint8[H, W, C] -> uint8[side, side, C]."""
    row, column = corner
    padded = np.pad(image, ((side, side), (side, side), (0, 0)), constant_values=128)
    return padded[row + side : row + 2 * side, column + side : column + 2 * side]


def _beside(first: Images, second: Images) -> Images:
    height = max(len(first), len(second))
    halves = [np.pad(one, ((height - len(one), 0), (0, 0), (0, 0)), constant_values=255) for one in (first, second)]
    gap = np.full((height, 12, first.shape[2]), 255, np.uint8)
    return np.concatenate([halves[0], gap, halves[1]], axis=1)


def _scaled(images: Images, device: torch.device) -> Tensor:
    x = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2)
    return x.to(torch.float32).div(127.5).sub(1.0).contiguous(memory_format=torch.channels_last)


def _known(values: Values) -> Values:
    return values[~np.isnan(values)] if not np.isnan(values).all() else np.zeros(1)


def _edge(values: Values) -> float:
    return float(np.quantile(_known(values), _RARE))


def _quartiles(values: Values) -> dict[str, float]:
    low, middle, high = np.quantile(_known(values), [0.25, 0.5, 0.75])
    return {"quarter": round(float(low), 4), "median": round(float(middle), 4), "three_quarters": round(float(high), 4)}
