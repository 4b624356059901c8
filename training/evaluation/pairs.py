"""Pictures of nearest pairs, and of how distances are spread."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import numpy.typing as npt

from training.samples import Images, grid, labelled

_LEAST_PX = 48  # smaller pictures are shown enlarged
_GAP_PX = 2


def pair_sheet(blocks: Sequence[tuple[str, Images, Images]]) -> Images:
    """Rows of pairs, one above the other: an image and below it its nearest, with words above each block.

    blocks: (words, images: uint8[P, H, W, C], their nearest: uint8[P, H, W, C]).
    """
    return stacked([labelled(grid(_enlarged(np.concatenate(pair)), len(pair[0])), words) for words, *pair in blocks])


def stacked(pictures: Sequence[Images]) -> Images:
    """Pictures one below the other, on white, left-aligned: uint8[H, W, C] each."""
    width = max(picture.shape[1] for picture in pictures)
    sides = [((0, 3 * _GAP_PX), (0, width - picture.shape[1]), (0, 0)) for picture in pictures]
    return np.concatenate([np.pad(p, side, constant_values=255) for p, side in zip(pictures, sides, strict=True)])


def cumulative_chart(panels: Mapping[str, Mapping[str, npt.NDArray[np.float64]]], label: str, title: str) -> Images:
    """For each panel, which share of each set lies below a value.

    panels: by title, values by the name of their set.

    Returns:
        picture: uint8[H, W, 3], RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # much memory, for few who import this module
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4 * len(panels), 3.6), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=10)
    for axes, (name, sets) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for place, (kind, values) in enumerate(sets.items()):
            style = "-" if place < 2 else "--"
            axes.step(np.sort(values), np.arange(1, len(values) + 1) / len(values), style, where="post", label=kind)
        axes.set(title=name, xlabel=label, ylabel="share below", ylim=(0, 1))
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[:, :, :3])


def _enlarged(images: Images) -> Images:
    times = -(-_LEAST_PX // images.shape[1])
    if times == 1:
        return images
    larger = [cv2.resize(x, None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST) for x in images]
    return np.stack(larger).reshape(len(images), *(times * side for side in images.shape[1:3]), images.shape[3])
