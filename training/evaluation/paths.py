"""Paths between points of the latent space, and what they do to vectors that G was not trained on."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from training.draws import Distribution

Path = Literal["linear", "spherical"]
Vectors = npt.NDArray[np.float32]


def interpolations(points: Vectors, columns: int, path: Path = "linear") -> Vectors:
    """Paths between consecutive points, in equal steps.

    linear: straight lines.
    spherical: the direction turns evenly along the great circle, the length goes in a straight line from the one
    point's to the other's. Straight lines between random points pass nearer to 0 than random z ever are; these don't.

    points: float32[P, z_dim] -> z: float32[P - 1, columns, z_dim]; z[i, 0] is points[i], z[i, -1] is points[i + 1].

    Source: Shoemake 1985; for latent vectors White 2016, "Sampling generative networks", which leaves the lengths as
    they come.
    """
    share = np.linspace(0.0, 1.0, columns, dtype=np.float32)[None, :, None]
    if path == "linear":
        return np.asarray(points[:-1, None] * (1 - share) + points[1:, None] * share, np.float32)
    lengths = np.linalg.norm(points.astype(np.float64), axis=1)[:, None]
    directions = points / np.maximum(lengths, np.finfo(np.float64).tiny)
    start, end = directions[:-1, None], directions[1:, None]
    angle = np.arccos(np.clip((start * end).sum(axis=2, keepdims=True), -1.0, 1.0))
    # Of equal directions there is no circle to go along, and of opposite ones there are many: the line stands in.
    arc = np.sin(angle) > 1e-6
    sine = np.where(arc, np.sin(angle), 1.0)
    first = np.where(arc, np.sin((1 - share) * angle) / sine, 1 - share)
    second = np.where(arc, np.sin(share * angle) / sine, share)
    length = lengths[:-1, None] * (1 - share) + lengths[1:, None] * share
    z: Vectors = ((first * start + second * end) * length).astype(np.float32)
    z[:, 0], z[:, -1] = points[:-1], points[1:]  # to the bit, whatever arccos and sin round
    return np.asarray(z, np.float32)


def strays(z: Vectors, points: Vectors, distribution: Distribution) -> dict[str, Any]:
    """How unlike the latent vectors of the training those of the paths are.

    length_in_the_middle: of the paths' middles, as a share of the points' own lengths
    outside_the_cube: share of the paths' values beyond -1..1, which uniform z never has; None for normal z

    z: float32[P - 1, columns, z_dim]; points: float32[P, z_dim].
    """
    columns = z.shape[1]
    middle = z[:, (columns - 1) // 2 : columns // 2 + 1].mean(axis=1)
    length = float(np.linalg.norm(middle, axis=1).mean() / np.linalg.norm(points, axis=1).mean())
    outside = round(float((np.abs(z) > 1).mean()), 4) if distribution == "uniform" else None
    return {"length_in_the_middle": round(length, 4), "outside_the_cube": outside}
