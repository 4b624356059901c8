"""What the discriminator's features gain with the images it has seen, checkpoint by checkpoint."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from training.checkpoint import Checkpoint
from training.evaluation.linear import Split, classify
from training.evaluation.measured import Measured
from training.evaluation.table import FeaturesSettings, discriminator_features
from training.networks import build
from training.presets import Preset
from training.samples import Images, labelled, load_discriminator


@dataclass(frozen=True)
class Point:
    """Test accuracy of a linear SVM on the features that a discriminator had after so many images."""

    images_seen: int
    accuracy: float
    c: float | None = None


def learning_curve(
    checkpoints: Iterable[Checkpoint],
    split: Split,
    settings: FeaturesSettings,
    seed: int = 0,
    device: torch.device | None = None,
    say: Callable[[str], None] | None = None,
    finished: Mapping[int, Point] | None = None,
    keep: Callable[[Point], None] | None = None,
) -> Measured:
    """Accuracy over images seen, from the random weights on, and what a doubling of the images has brought of late.

    Each point has `settings.curve_images` training images, so it lies below the table's figure for all of them; all
    have the same images, and choose C by the same validation part.

    checkpoints: of one training, in any order
    finished, keep: points of an earlier, interrupted measurement; and what is given each point as it is ready
    """
    say, device = say or (lambda text: None), device or torch.device("cpu")
    part = split.part(settings.curve_images, settings.test_images, seed)
    alone = settings.model_copy(update={"per_class": ()})
    points = dict(finished or {})
    for checkpoint in checkpoints:
        preset = Preset.model_validate(checkpoint.preset)
        beginning = (0, lambda p=preset, c=checkpoint: build(p, c.seed, device)[1].eval())
        here = (checkpoint.images_seen, lambda c=checkpoint: load_discriminator(c, device))
        for images_seen, network in (beginning, here):
            if images_seen not in points:
                train, test = discriminator_features(network(), part, alone, seed, say)
                name = f"after {images_seen:,} images"
                row = classify(name, name, train, test, part, alone, seed, say)
                points[images_seen] = Point(images_seen, row.accuracy, row.c)
                if keep is not None:
                    keep(points[images_seen])
    ordered = [points[seen] for seen in sorted(points)]
    slope = per_doubling(ordered)
    figures: dict[str, Any] = {
        "train_images": len(part.train),
        "test_images": len(part.test),
        "points": [{"images_seen": p.images_seen, "accuracy": p.accuracy, "c": p.c} for p in ordered],
        "points_per_doubling": None if slope is None else round(100 * slope, 2),
    }
    last, first = ordered[-1], ordered[0]
    promise = "" if slope is None else f"; a doubling of the images has lately brought {100 * slope:+.1f} points"
    return Measured(
        says=f"With {len(part.train):,} labels a linear SVM on D's features puts {last.accuracy:.1%} into their class "
        f"after {last.images_seen:,} images seen, {first.accuracy:.1%} after {first.images_seen:,}{promise}",
        statistics=f"of {min(settings.reference_images, len(part.train))} labelled training images, for every D alike",
        figures=figures,
        settings=alone.model_dump(mode="json", exclude={"rows", "kmeans", "noise", "supervised", "svhn"}),
        pictures={"curve": _chart(ordered)},
        captions={"curve": "Test accuracy over the images that the discriminator had seen; dotted: its random weights"},
    )


def per_doubling(points: list[Point]) -> float | None:
    """How much accuracy a doubling of the images seen brought, by least squares over the later half of the points.

    It tells the trend of what was measured; what comes after need not follow it. None for fewer than two points of
    trained networks.
    """
    trained = [p for p in points if p.images_seen > 0]
    late = trained[-max(2, -(-len(trained) // 2)) :]
    if len(late) < 2:
        return None
    doublings = np.log2([p.images_seen for p in late])
    return float(np.polyfit(doublings, [p.accuracy for p in late], 1)[0])


def _chart(points: list[Point]) -> Images:
    """Accuracy over images seen: uint8[H, W, 3], RGB."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # much memory, for few who import this module
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    trained = [p for p in points if p.images_seen > 0]
    axes.plot([p.images_seen for p in trained], [100 * p.accuracy for p in trained], marker="o", markersize=4)
    for p in points:
        if p.images_seen == 0:
            axes.axhline(100 * p.accuracy, linestyle=":", color="0.4", label=f"random weights {p.accuracy:.1%}")
            axes.legend(frameon=False, fontsize=8)
    axes.set_xlim(left=0)
    axes.set_xlabel("images seen in training")
    axes.set_ylabel("test images put into their class, %")
    canvas.draw()
    picture = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return labelled(picture, "Linear SVM on the discriminator's features over the images that it had seen")
