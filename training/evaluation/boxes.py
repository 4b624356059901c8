"""Boxes around objects: which places they cover, and which of them are the same.

A box is left, top, width, height in pixels; boxes of a picture are float32[K, 4].
"""

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


def covered(boxes: Boxes, size_px: int, cells: int, share: float = 1.0) -> Mask:
    """Which cells of a picture have their middle in a box, or in the middle `share` of its width and height.

    A box in which no cell has its middle covers the one that its own middle lies in.

    Returns:
        mask: bool[cells, cells].
    """
    middles = (np.arange(cells) + 0.5) * (size_px / cells)
    mask = np.zeros((cells, cells), np.bool_)
    for left, top, width, height in boxes.tolist():
        x, y = left + width / 2, top + height / 2
        rows = np.abs(middles - y) <= height * share / 2
        columns = np.abs(middles - x) <= width * share / 2
        for hit, middle in ((rows, y), (columns, x)):
            if not hit.any():
                hit[min(cells - 1, max(0, int(middle * cells / size_px)))] = True
        mask |= rows[:, None] & columns[None]
    return mask


def mirrored(boxes: Boxes, size_px: int) -> Boxes:
    """The boxes of the picture mirrored left to right."""
    turned = boxes.copy()
    turned[:, 0] = size_px - boxes[:, 0] - boxes[:, 2]
    return turned


def overlaps(first: Boxes, second: Boxes) -> npt.NDArray[np.float64]:
    """The shared area of each two boxes over the area of both together: float64[len(first), len(second)], 0..1."""
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    starts = np.maximum(a[..., :2], b[..., :2])
    ends = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:])
    shared = (ends - starts).clip(0).prod(axis=-1)
    both = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - shared
    return np.asarray(shared / np.maximum(both, 1e-12))


def matches(found: Boxes, true: Boxes, least: float) -> int:
    """How many boxes are found: pairs with an overlap of `least` or more, best first, each box in one pair at most."""
    overlap, pairs = overlaps(found, true), 0
    while overlap.size and overlap.max() >= least:
        row, column = np.unravel_index(int(overlap.argmax()), overlap.shape)
        overlap[row], overlap[:, column] = -1.0, -1.0
        pairs += 1
    return pairs
