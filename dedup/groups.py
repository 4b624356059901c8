"""Pairs to groups, and of each group the one image to keep."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from dedup.neighbours import stream_pairs_within
from dedup.verdict import Seen, VerdictSettings, same

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Groups:
    """Groups of images, int64[N] labels, and how many pairs were judged the same (repeats chained) to make them."""

    labels: Rows
    pairs: int


def find_groups(seen: Seen, settings: VerdictSettings) -> Groups:
    """The groups of images that show the same picture; an image like no other is a group of its own.

    A label is the smallest row of its group. Memory grows with the images, not with the pairs.
    """
    meaningful = np.flatnonzero(~seen.flat)
    images = seen.of(meaningful)
    labels, pairs = np.arange(len(images)), 0
    looks = None if settings.phash_max is None else images.looks
    for nominated in stream_pairs_within(images.codes, settings.radius, looks):
        agreed = same(settings, nominated.distance, images.looks[nominated.first], images.looks[nominated.second])
        pairs += int(np.count_nonzero(agreed))
        labels = merge(labels, nominated.first[agreed], nominated.second[agreed])
    everywhere = np.arange(len(seen))
    everywhere[meaningful] = meaningful[labels]
    return Groups(everywhere, pairs)


def components(images: int, first: Rows, second: Rows) -> Rows:
    """The label of each image, int64[images]: the smallest row that pairs connect it with, by any number of steps.

    first, second: int64[P], the rows of each pair, in any order
    """
    return merge(np.arange(images), first, second)


def merge(labels: Rows, first: Rows, second: Rows) -> Rows:
    """The labels, int64[N], after more pairs; `labels` are those of `components` or of an earlier merge."""
    images = len(labels)
    rows = np.concatenate([np.arange(images), first])
    columns = np.concatenate([labels, second])
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(images, images))
    _, numbers = connected_components(graph, directed=False)
    # numbers come in no promised order; the first row of each is the smallest
    _, smallest, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return smallest[inverse].astype(np.int64)


def choose_keepers(
    labels: Rows,
    width: npt.NDArray[np.integer],
    height: npt.NDArray[np.integer],
    size_bytes: npt.NDArray[np.integer],
    sample_ids: npt.NDArray[np.generic],
) -> Rows:
    """The row to keep of each image's group, int64[N]: largest area, then most bytes, then smallest sample id.

    labels: int64[N]; width, height, size_bytes: whole numbers[N], of the source's image; sample_ids: ASCII strings[N]
    """
    keepers = np.arange(len(labels))
    members = grouped(labels)
    area = width[members].astype(np.int64) * height[members].astype(np.int64)
    ids = sample_ids[members].astype(np.bytes_)
    keepers[members] = _first_of_each(labels, members, (ids, -size_bytes[members].astype(np.int64), -area))
    return keepers


def smallest_ids(labels: Rows, sample_ids: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """The smallest sample id of each image's group: the group's name, whatever order the rows came in."""
    rows = np.arange(len(labels))
    members = grouped(labels)
    rows[members] = _first_of_each(labels, members, (sample_ids[members].astype(np.bytes_),))
    return sample_ids[rows]


def grouped(labels: Rows) -> Rows:
    """The rows that share their group with another, ascending."""
    return np.flatnonzero(np.bincount(labels, minlength=len(labels))[labels] > 1)


def _first_of_each(labels: Rows, members: Rows, keys: tuple[npt.NDArray[np.generic], ...]) -> Rows:
    """For each member, the row of its group that comes first by the keys (as in lexsort, the last key counts most)."""
    order = np.lexsort((*keys, labels[members]))
    ordered = labels[members][order]
    starts = np.concatenate([[True], ordered[1:] != ordered[:-1]]) if len(order) else np.empty(0, np.bool_)
    first = np.empty(len(members), np.int64)
    first[order] = members[order[starts]][np.cumsum(starts) - 1]
    return first
