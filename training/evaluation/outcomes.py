"""What dropping maps did to samples: how many objects are found, and what changed elsewhere; figures and pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from training.evaluation.boxes import Boxes, covered
from training.samples import Images, grid, labelled

FACTOR = 3.0  # by how much more removal has to lower the count than chance does
LEAST_LOWERED = 0.1  # and of all that was found before
_MARK = (255, 40, 40)


@dataclass(frozen=True)
class Outcome:
    """What dropping some maps did.

    objects: found in a sample; elsewhere_rms, inside_rms: root mean square change, 0..255, of pixels outside and inside
    of the boxes found before; maps: how many were dropped; energy_share: how much of what the layer hands on was theirs
    """

    objects: float
    elsewhere_rms: float
    inside_rms: float
    maps: int
    energy_share: float


def outcome(
    before: Images,
    boxes_before: Sequence[Boxes],
    after: Images,
    boxes_after: Sequence[Boxes],
    maps: int,
    energy_share: float,
) -> Outcome:
    """before, after: uint8[N, H, W, C], the same samples with all maps and without some; boxes: float32[K, 4] each."""
    size_px = before.shape[1]
    squares = np.square(after.astype(np.float32) - before).mean(axis=3)
    inside = np.stack([covered(own, size_px, size_px) for own in boxes_before])
    return Outcome(
        objects=float(np.mean([len(own) for own in boxes_after])),
        elsewhere_rms=_root(squares[~inside]),
        inside_rms=_root(squares[inside]),
        maps=maps,
        energy_share=energy_share,
    )


def _root(squares: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt(squares.mean(dtype=np.float64))) if squares.size else 0.0


def compared(
    before: float, removal: Outcome, random: Sequence[Outcome], same_energy: Sequence[Outcome]
) -> dict[str, Any]:
    """Plain values for JSON: removal beside both controls. before: objects in a sample with all maps."""
    kinds = {"": [removal], "_random": random, "_same_energy": same_energy}
    figures: dict[str, Any] = {}
    for name, attribute in (
        ("found_after", "objects"),
        ("change_elsewhere_rms", "elsewhere_rms"),
        ("change_inside_rms", "inside_rms"),
        ("energy_share_dropped", "energy_share"),
        ("maps_dropped", "maps"),
    ):
        for kind, outcomes in kinds.items():
            values = np.array([getattr(one, attribute) for one in outcomes], np.float64)
            figures[name + kind] = _spread(values) if kind else round(float(values[0]), 4)
    figures["maps_dropped"] = removal.maps
    figures["lowered_by"] = round(before - removal.objects, 4)
    for kind in ("random", "same_energy"):
        found = np.array([one.objects for one in kinds[f"_{kind}"]], np.float64)
        by_chance = before - float(found.mean())
        error = float(found.std(ddof=1)) / len(found) ** 0.5
        figures[f"lowered_by_{kind}"] = round(by_chance, 4)
        figures[f"times_{kind}"] = round((before - removal.objects) / by_chance, 2) if by_chance > 0 else None
        # By more than chance may have been measured wrong, and enough to be seen: or nothing beats less than nothing.
        beyond = FACTOR * max(by_chance, 0.0) + 2 * error
        figures[f"over_3_times_{kind}"] = bool(before - removal.objects > max(beyond, LEAST_LOWERED * before))
    return figures


def _spread(values: npt.NDArray[np.float64]) -> dict[str, Any]:
    return {
        "mean": round(float(values.mean()), 4),
        "deviation": round(float(values.std(ddof=1)), 4),
        "draws": len(values),
    }


def rows_picture(rows: Sequence[tuple[str, Images]], boxes: Sequence[Boxes], columns: int) -> Images:
    """Rows of the same samples, each under its words: those that had an object, in order, as many as columns.

    rows: words and uint8[N, H, W, C]; boxes: what was found in each of the N with all maps.
    """
    with_object = [number for number, own in enumerate(boxes) if len(own)][:columns]
    return np.concatenate([labelled(grid(images[with_object], columns), words) for words, images in rows])


def marked_picture(images: Images, boxes: Sequence[Boxes], columns: int, words: str) -> Images:
    """Samples with frames around what was found in them, twice as large, so that the frames hide little."""
    large = []
    for image, own in zip(images, boxes, strict=True):
        shown = image.repeat(2, axis=0).repeat(2, axis=1)
        for left, top, width, height in (2 * own).round().astype(int).tolist():
            colour = _MARK[: image.shape[2]]
            shown = cv2.rectangle(shown, (left, top), (left + width - 1, top + height - 1), colour, 1)
        large.append(shown.reshape(2 * image.shape[0], 2 * image.shape[1], -1))
    return labelled(grid(np.stack(large), columns), words)
