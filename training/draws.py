"""Random numbers by counter: the same key and place give the same draw, whoever asks, and in whatever order.

So nothing random has to be kept in a checkpoint or agreed on between workers.
"""

from enum import IntEnum
from typing import Literal

import numpy as np
import numpy.typing as npt

Distribution = Literal["uniform", "normal"]


class Stream(IntEnum):
    """What a draw is for. Streams of one seed share no numbers; a value, once given, never changes."""

    SHARDS = 1
    SAMPLES = 2
    Z = 3
    GRID = 4
    FILL = 5
    WALK = 6
    WEIGHTS = 7
    LIKENESS = 8
    MEASURED = 9
    FEATURES = 10
    LABELLED_DRAWS = 11
    KMEANS = 12
    SEARCH = 13
    NOISE = 14
    ATTRIBUTES = 15
    BOXES = 16
    REMOVAL = 17
    ARITHMETIC = 18
    TURN = 19
    MEMORISATION = 20
    DISTRIBUTION = 21
    FILTERS = 22
    CONDITION = 23


def philox(seed: int, stream: Stream, first: int = 0, second: int = 0) -> np.random.Philox:
    """The Philox generator of a seed and stream, at the place (first, second)."""
    key = np.array([seed % 2**64, int(stream)], dtype=np.uint64)
    return np.random.Philox(key=key, counter=np.array([0, 0, first, second], dtype=np.uint64))


def permutation(length: int, bits: np.random.Philox) -> npt.NDArray[np.int64]:
    """A random order of 0 .. length - 1, from the raw bits, so that it doesn't hang on NumPy's choice of shuffle."""
    return np.argsort(bits.random_raw(length), kind="stable").astype(np.int64, copy=False)


def random_z(bits: np.random.Philox, images: int, z_dim: int, distribution: Distribution) -> npt.NDArray[np.float32]:
    """Latent vectors of `images` pictures.

    Returns:
        z: float32[images, z_dim], uniform in -1..1 or normal with deviation 1.
    """
    draw = np.random.Generator(bits)
    if distribution == "uniform":
        return (draw.random((images, z_dim), dtype=np.float64) * 2.0 - 1.0).astype(np.float32)
    return draw.standard_normal((images, z_dim), dtype=np.float64).astype(np.float32)


def with_labels(z: npt.NDArray[np.float32], labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    """What a generator with classes takes: each z, and after it its label, one-hot.

    z: float32[N, z_dim]; labels: int64[N], 0 .. classes - 1 -> float32[N, z_dim + classes].
    """
    return np.concatenate([z, one_hot(labels, classes)], axis=1)


def one_hot(labels: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.float32]:
    """labels: int64[N], 0 .. classes - 1 -> float32[N, classes]: 1 at the label, else 0."""
    return np.equal.outer(labels, np.arange(classes)).astype(np.float32)


def by_turns(images: int, classes: int) -> npt.NDArray[np.int64]:
    """Labels 0, 1, 2 ... and again 0, as many of each class as can be: int64[images]."""
    return np.arange(images) % classes


def draw_labels(seed: int, update: int, batch_images: int, classes: int) -> npt.NDArray[np.int64]:
    """The labels of the images that are generated in one update, over all workers: each class is as likely.

    Departs: the authors' conditional code gives generated images the labels of the real batch of the same update.

    Returns:
        labels: int64[batch_images], 0 .. classes - 1.
    """
    bits = philox(seed, Stream.CONDITION, update).random_raw(batch_images)
    return (bits % np.uint64(classes)).astype(np.int64)


def draw_z(
    seed: int, update: int, batch_images: int, z_dim: int, distribution: Distribution
) -> npt.NDArray[np.float32]:
    """The latent vectors of one update's global batch; each worker takes the rows of its share.

    Returns:
        z: float32[batch_images, z_dim].
    """
    return random_z(philox(seed, Stream.Z, update), batch_images, z_dim, distribution)
