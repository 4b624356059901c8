"""Sums of concepts: of the mean z of their exemplars, and of the exemplars' pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from training.draws import Stream, philox
from training.evaluation.exemplars import Floats, Numbers, draw_exemplars
from training.samples import Images

# Places of draws beside those of the trials, which count from 0.
_RANDOM_STEP, _VARIANTS = 1 << 32, 2 << 32


@dataclass(frozen=True)
class Sums:
    """The latent vectors of many trials of one sum a - b + c.

    seed, place: what the trials are drawn by; place tells sums of one seed apart
    places: int64[trials, 3, count], of the exemplars of a, b and c; means: float32[trials, 3, z_dim]
    """

    seed: int
    place: int
    places: Numbers
    means: Floats

    @property
    def latent(self) -> Floats:
        """a - b + c, float32[trials, z_dim]; as in the paper, not kept in the range that z was drawn from."""
        return np.asarray(self.means[:, 0] - self.means[:, 1] + self.means[:, 2])

    @property
    def c_alone(self) -> Floats:
        """The mean of c's exemplars, float32[trials, z_dim]."""
        return self.means[:, 2]

    def random_step(self) -> Floats:
        """c and a step in a random direction, as long as the one from b to a; float32[trials, z_dim]."""
        draw = np.random.Generator(philox(self.seed, Stream.ARITHMETIC, self.place, _RANDOM_STEP))
        way = draw.standard_normal(self.c_alone.shape)
        length = np.linalg.norm(self.means[:, 0] - self.means[:, 1], axis=1, keepdims=True)
        return np.asarray(self.c_alone + length * way / np.linalg.norm(way, axis=1, keepdims=True), np.float32)

    def variants(self, count: int, noise: float) -> Floats:
        """Each sum with its neighbours, itself in their middle; float32[trials, count, z_dim].

        Source: Radford et al. 2016, figure 7: uniform noise of +-0.25 added to the sum.
        """
        draw = np.random.Generator(philox(self.seed, Stream.ARITHMETIC, self.place, _VARIANTS))
        added = draw.uniform(-noise, noise, (len(self.means), count, self.means.shape[2]))
        added[:, count // 2] = 0
        return (self.latent[:, None] + added).astype(np.float32)


def latent_sums(z: Floats, pools: Sequence[Numbers], count: int, trials: int, seed: int, place: int) -> Sums:
    """Draw `count` exemplars of each concept for each trial, and take their means.

    z: float32[N, z_dim] of the samples; pools: the places of the candidates of a, b and c.
    """
    drawn = [draw_exemplars(pools, count, philox(seed, Stream.ARITHMETIC, place, trial)) for trial in range(trials)]
    places = np.stack(drawn)
    return Sums(seed, place, places, z[places].mean(axis=2, dtype=np.float64).astype(np.float32))


def pixel_sums(images: Images, places: Numbers) -> Images:
    """The same sums on pixels, cut off at black and white.

    images: uint8[N, H, W, C]; places: int64[trials, 3, count] -> uint8[trials, H, W, C].
    """
    sums = []
    for trial in places:
        a, b, c = (images[concept].mean(axis=0, dtype=np.float64) for concept in trial)
        sums.append(np.clip(np.rint(a - b + c), 0, 255).astype(np.uint8))
    return np.stack(sums)
