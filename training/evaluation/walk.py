"""A walk through latent space: does the generator change smoothly between points, or jump between memories?"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream
from training.networks import Generator, reference_statistics
from training.samples import CHUNK_IMAGES, Images, fixed_z, grid, to_pixels


class WalkSettings(BaseModel):
    """How the walk is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int = Field(default=9, ge=2, description="random points to walk through")
    columns: int = Field(default=10, ge=3, description="pictures in a row, from one point to the next, both shown")
    reference_images: int = Field(default=256, ge=16, description="size of the batch whose statistics batch norm uses")


def interpolations(points: npt.NDArray[np.float32], columns: int) -> npt.NDArray[np.float32]:
    """Straight lines between consecutive points.

    points: float32[P, z_dim] -> z: float32[P - 1, columns, z_dim]; z[i, 0] is points[i], z[i, -1] is points[i + 1].
    """
    share = np.linspace(0.0, 1.0, columns, dtype=np.float32)[None, :, None]
    return points[:-1, None] * (1 - share) + points[1:, None] * share


def latent_walk(generator: Generator, seed: int, settings: WalkSettings | None = None) -> tuple[dict[str, Any], Images]:
    """How large the steps of a latent walk are, in pixels, and a picture of the walk.

    A step is the root mean square difference, 0..255, of two neighbouring pictures in a row; it is set against the same
    distance of pictures of unrelated z. A generator that had learnt pictures by heart would stand still and then
    jump by the whole distance.

    Batch norm: a row alone would be a batch of look-alikes with statistics of its own. So a reference batch of
    unrelated z (drawn from the seed, not shown) is passed through the generator once, the mean and biased variance that
    it has in every batch norm are kept, and all pictures are made with those. Each picture depends on its own z and the
    reference batch only.

    Where the preset has classes, each point is of the next one, and labels are interpolated as z is.

    Returns:
        measures: plain values for JSON.
        picture: uint8[H, W, 3], RGB, a row for each pair of consecutive points.

    Source: Radford et al. 2016, section 6.1, figure 4 (9 random points).
    Departs: the authors' sampling uses the statistics of whatever batch is made, and judges by eye.
    """
    settings = settings or WalkSettings()
    preset = generator.preset
    device = next(generator.parameters()).device
    drawn = fixed_z(preset, seed, settings.points + settings.reference_images, Stream.WALK)
    points, reference = drawn[: settings.points], drawn[settings.points :]
    z = interpolations(points, settings.columns).reshape(-1, preset.latent_dim)
    with torch.no_grad(), reference_statistics(generator, torch.from_numpy(reference).to(device)):
        chunks = torch.split(torch.from_numpy(np.concatenate([z, reference])).to(device), CHUNK_IMAGES)
        made = [to_pixels(generator(chunk)) for chunk in chunks]
    images = np.concatenate(made)
    walk, unrelated = images[: len(z)], images[len(z) :]
    rows = walk.reshape(settings.points - 1, settings.columns, *walk.shape[1:])
    steps = _distance(rows[:, 1:], rows[:, :-1])
    ends = _distance(rows[:, -1], rows[:, 0])
    between = float(_distance(unrelated[1:], unrelated[:-1]).mean())
    measures = {
        "points": settings.points,
        "columns": settings.columns,
        "seed": seed,
        "statistics": f"of a reference batch of {settings.reference_images}",
        "unrelated_rms": round(between, 4),
        "ends_rms": round(float(ends.mean()), 4),
        "mean_step_rms": round(float(steps.mean()), 4),
        "largest_step_rms": round(float(steps.max()), 4),
        "mean_step_share": _share(float(steps.mean()), between),
        "largest_step_share": _share(float(steps.max()), between),
        "steps_rms": [[round(float(step), 4) for step in row] for row in steps],
    }
    return measures, grid(walk, settings.columns)


def _distance(a: Images, b: Images) -> npt.NDArray[np.float64]:
    """Root mean square difference over the last three axes: uint8[..., H, W, 3] twice -> float64[...]."""
    difference = a.astype(np.float64) - b
    result: npt.NDArray[np.float64] = np.sqrt(np.square(difference).mean(axis=(-3, -2, -1)))
    return result


def _share(step: float, whole: float) -> float | None:
    """Null where all pictures are the same."""
    return round(step / whole, 4) if whole > 0 else None
