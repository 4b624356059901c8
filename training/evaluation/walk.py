"""A walk through latent space: does the generator change smoothly between points, or jump between memories?"""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream
from training.evaluation.measured import Measured, Subject
from training.evaluation.paths import Path, Vectors, interpolations, strays
from training.networks import Generator, build, reference_statistics
from training.samples import CHUNK_IMAGES, Images, fixed_z, grid, labelled, to_pixels

Codes = npt.NDArray[np.uint64]
ImageCodes = Callable[[Images], Codes]
Floats = npt.NDArray[np.float64]

_SPHERICAL = (
    "the direction turns evenly along the great circle, the length goes straight from the one point's to the other's"
)


class WalkSettings(BaseModel):
    """How the walk is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    points: int = Field(default=9, ge=2, description="random points to walk through")
    columns: int = Field(default=10, ge=3, description="pictures in a row, from one point to the next, both shown")
    reference_images: int = Field(default=256, ge=16, description="size of the batch whose statistics batch norm uses")
    paths: Literal["linear", "spherical", "both"] = Field(
        default="both", description="linear: straight lines; spherical: along great circles of the latent space"
    )


def latent_walk(subject: Subject, settings: WalkSettings, codes: ImageCodes | None = None) -> Measured:
    """How large the steps of a latent walk are, in pixels and in bits of the code, and pictures of the walk.

    A step is the root mean square difference, 0..255, of two neighbouring pictures in a row, or the Hamming distance of
    their codes; it is given as a share of the same distance of pictures of unrelated z. Two controls: a memoriser,
    which shows a row's first picture up to the middle and its last one from there on; and the same networks with the
    weights that training begins with. `finer` is the largest step of a row with twice the steps, as a share of the
    largest here: about 0.5 where the change is smooth, 1 where it is a jump.

    Batch norm: a row alone would be a batch of look-alikes with statistics of its own. So a reference batch of
    unrelated z (drawn from the seed, not shown) is passed through the generator once, the mean and biased variance that
    it has in every batch norm are kept, and all pictures are made with those. Each picture depends on its own z and the
    reference batch only.

    codes: uint8[N, H, W, C] -> uint64[N, 2], packed; None leaves the distances in bits out.
    Where the preset has classes, each point is of the next one, and labels are interpolated on straight lines.

    Source: Radford et al. 2016, section 6.1, figure 4 (9 random points).
    Departs: the authors' sampling uses the statistics of whatever batch is made, and judges by eye.
    """
    preset = subject.preset
    names: tuple[Path, ...] = ("linear", "spherical") if settings.paths == "both" else (settings.paths,)
    drawn = fixed_z(preset, subject.seed, settings.points + settings.reference_images, Stream.WALK)
    points, reference = drawn[: settings.points], drawn[settings.points :]
    fresh, _ = build(preset, subject.checkpoint.seed, subject.device)
    figures: dict[str, Any] = {}
    pictures, captions = {}, {}
    for name in names:
        subject.say(f"walk: {name} paths between {settings.points} points")
        z = _path(points, 2 * settings.columns - 1, name, preset.z_dim)
        rows, unrelated = _rows(subject.generator, z, reference)
        shown = rows[:, ::2]
        figures[name] = _figures(rows, unrelated, codes)
        figures[name]["random_weights"] = _brief(_figures(*_rows(fresh.eval(), z, reference), codes))
        figures[name] |= strays(z[:, ::2, : preset.z_dim], points[:, : preset.z_dim], preset.z_distribution)
        pictures[f"{name}_walk"] = labelled(
            grid(shown.reshape(-1, *shown.shape[2:]), settings.columns),
            f"{name} paths: each row goes from one random point to the next; steps from left to right",
        )
        captions[f"{name}_walk"] = (
            f"Each row goes on a {name} path from one random point of the latent space to the next."
        )
    if codes is None:
        figures["codes"] = "left out: the autoencoder of a run is needed, and a run was not named"
    if "spherical" in names:
        figures["spherical_means"] = _SPHERICAL
    return Measured(
        says=_sentence(figures[names[0]], names[0]),
        statistics=f"of a reference batch of {settings.reference_images} z",
        figures=figures,
        settings=settings.model_dump(),
        pictures=pictures,
        captions=captions,
        paper="9 random points; smooth, by eye",
    )


def _path(points: Vectors, columns: int, name: Path, z_dim: int) -> Vectors:
    """The path of z, with the labels that follow it, where there are classes, on straight lines."""
    labels = interpolations(points[:, z_dim:], columns)
    return np.concatenate([interpolations(points[:, :z_dim], columns, name), labels], axis=2)


@torch.no_grad()
def _rows(generator: Generator, z: Vectors, reference: Vectors) -> tuple[Images, Images]:
    """Pictures of the rows, uint8[R, columns, H, W, C], and of the reference batch."""
    weight = next(generator.parameters())
    every = np.concatenate([z.reshape(-1, z.shape[2]), reference])
    with reference_statistics(generator, torch.from_numpy(reference).to(weight)):
        chunks = torch.split(torch.from_numpy(every).to(weight), CHUNK_IMAGES)
        images = np.concatenate([to_pixels(generator(chunk)) for chunk in chunks])
    walked = z.shape[0] * z.shape[1]
    return images[:walked].reshape(*z.shape[:2], *images.shape[1:]), images[walked:]


def _figures(rows: Images, unrelated: Images, codes: ImageCodes | None) -> dict[str, Any]:
    figures = {"pixels": _steps(rows, unrelated, _rms)}
    if codes is not None:
        coded = codes(rows.reshape(-1, *rows.shape[2:])).reshape(*rows.shape[:2], -1)
        figures["code"] = _steps(coded, codes(unrelated), _bits)
    return figures


def _steps(
    rows: npt.NDArray[Any], unrelated: npt.NDArray[Any], distance: Callable[[Any, Any], Floats]
) -> dict[str, Any]:
    """The steps of rows [R, 2 * columns - 1, ...] of which every second picture counts; the others are for `finer`."""
    shown = rows[:, ::2]
    steps, halves = distance(shown[:, 1:], shown[:, :-1]), distance(rows[:, 1:], rows[:, :-1])
    ends = distance(shown[:, -1], shown[:, 0])
    between = float(distance(unrelated[1:], unrelated[:-1]).mean())
    largest = float(steps.max())
    return {
        "unrelated": round(between, 4),
        "ends": round(float(ends.mean()), 4),
        "mean_step": round(float(steps.mean()), 4),
        "largest_step": round(largest, 4),
        "mean_step_share": _share(float(steps.mean()), between),
        "largest_step_share": _share(largest, between),
        "largest_step_share_of_a_memoriser": _share(float(ends.max()), between),
        "finer": _share(float(halves.max()), largest),
        "steps": [[round(float(step), 2) for step in row] for row in steps],
    }


def _brief(figures: dict[str, Any]) -> dict[str, Any]:
    """A control's figures: without each single step."""
    return {space: {key: value for key, value in of.items() if key != "steps"} for space, of in figures.items()}


def _sentence(figures: dict[str, Any], name: str) -> str:
    def told(space: str) -> str:
        of, random = figures[space], figures["random_weights"][space]
        return (
            f"{_read(of['largest_step_share'])} of the distance of unrelated samples (a memoriser's: "
            f"{_read(of['largest_step_share_of_a_memoriser'])}; random weights': {_read(random['largest_step_share'])})"
        )

    in_code = f"; in bits of the code {told('code')}" if "code" in figures else ""
    return f"The largest step of the {name} walk is, in pixels, {told('pixels')}{in_code}."


def _read(share: float | None) -> str:
    return "no share" if share is None else f"{share:.2f}"


def _rms(a: Images, b: Images) -> Floats:
    """Root mean square difference over the last three axes: uint8[..., H, W, C] twice -> float64[...]."""
    result: Floats = np.sqrt(np.square(a.astype(np.float64) - b).mean(axis=(-3, -2, -1)))
    return result


def _bits(a: Codes, b: Codes) -> Floats:
    """Hamming distance over the last axis: uint64[..., 2] twice -> float64[...]."""
    return np.asarray(np.bitwise_count(a ^ b).sum(axis=-1), np.float64)


def _share(step: float, whole: float) -> float | None:
    """Null where all pictures are the same."""
    return round(step / whole, 4) if whole > 0 else None
