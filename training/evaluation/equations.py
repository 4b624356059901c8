"""The pictures of vector arithmetic: a sum of concepts as in the paper's figure 7, and a curve over exemplars."""

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from training.evaluation.formulas import Formula
from training.samples import Images, grid, labelled

_LEAST_PX = 112  # of a picture, so that words above it can be read
_MOST_EXEMPLARS = 3  # of each concept that are shown
_SIGN_PX = 28
_GAP_PX = 12  # between sums
_CONTROL_NAMES = {"pixels": "the same sum on pixels", "c_alone": "c alone", "random": "c and a random step as long"}


def enlarged(images: Images) -> Images:
    """Small pictures enlarged by a whole number, so that words above them have room. uint8[N, H, W, C]."""
    times = max(1, -(-_LEAST_PX // images.shape[2]))
    return images.repeat(times, axis=1).repeat(times, axis=2)


def equation(
    formula: Formula, exemplars: Images, means: Images, variants: Images, controls: Mapping[str, Images]
) -> Images:
    """One sum as a picture: exemplars of each concept above their mean, signs between, variants, controls.

    exemplars: uint8[3, count, H, W, C]; means: uint8[3, H, W, C], pictures of the mean z; variants: uint8[V, H, W, C],
    the result in the middle; controls: uint8[H, W, C] each -> uint8[height, width, C].

    Source: Radford et al. 2016, figure 7.
    """
    texts = [concept.name for concept in formula.concepts]
    blocks: list[Images] = []
    for shown, mean in zip(exemplars, means, strict=True):
        column = grid(enlarged(shown[:_MOST_EXEMPLARS]), 1)
        blocks.append(np.concatenate([column, labelled(grid(enlarged(mean[None]), 1), "mean z")]))
    texts.append(f"{formula.name}: the sum in the middle of its variants")
    blocks.append(grid(enlarged(variants), max(1, round(len(variants) ** 0.5))))
    first, *others = controls
    texts.append(_CONTROL_NAMES.get(first, first))
    below = [labelled(grid(enlarged(controls[name][None]), 1), _CONTROL_NAMES.get(name, name)) for name in others]
    blocks.append(np.concatenate([grid(enlarged(controls[first][None]), 1), *below]))
    parts: list[Images] = []
    for part, sign in zip(_labelled_alike(blocks, texts), ("-", "+", "=", "", None), strict=True):
        parts.append(part)
        if sign is not None:
            parts.append(_sign(sign, part.shape[2]))
    return labelled(_side_by_side(parts), f"{formula.text} = {formula.name}")


def stacked(pictures: Sequence[Images]) -> Images:
    """Pictures below each other, the narrower ones filled up with white. uint8[H, W, C] each."""
    width = max(picture.shape[1] for picture in pictures)
    wide = [np.pad(p, ((0, _GAP_PX), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(wide)


def curve_chart(curves: Mapping[str, Mapping[str, Mapping[str, float] | None]]) -> Images:
    """The share of sums that show all that they should, by exemplars a concept, a panel for each formula.

    curves: formula -> exemplars -> way -> share, None where there were too few -> uint8[H, W, 3].
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # much memory, for few who import this module
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.4 * len(curves), 2.8), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    panels: Any = figure.subplots(1, len(curves), sharey=True, squeeze=False)
    styles = {"latent": ("latent sum", "#0b6b66", "o-"), "pixels": ("on pixels", "#a8510a", "s--")}
    styles["random"] = ("random step", "#59616c", "^:")
    for panel, (name, curve) in zip(panels[0], curves.items(), strict=True):
        known = {int(count): shares for count, shares in curve.items() if shares is not None}
        for way, (words, colour, line) in styles.items():
            panel.plot([*known], [shares[way] for shares in known.values()], line, color=colour, label=words)
        panel.set_title(name, fontsize=9)
        panel.set_xlabel("exemplars a concept", fontsize=8)
        panel.set_xscale("log")
        panel.set_xticks([*known], [str(count) for count in known])
        panel.minorticks_off()
        panel.set_ylim(-0.03, 1.03)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("share that shows all it should", fontsize=8)
    panels[0][0].legend(fontsize=7)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _labelled_alike(blocks: Sequence[Images], texts: Sequence[str]) -> list[Images]:
    """Each block below its words, with strips of one height, so that the blocks begin at the same place."""
    parts = [labelled(block, text) for block, text in zip(blocks, texts, strict=True)]
    strip = max(part.shape[0] - block.shape[0] for part, block in zip(parts, blocks, strict=True))
    spare = [strip + block.shape[0] - part.shape[0] for part, block in zip(parts, blocks, strict=True)]
    return [
        np.pad(part, ((above, 0), (0, 0), (0, 0)), constant_values=255)
        for part, above in zip(parts, spare, strict=True)
    ]


def _sign(text: str, channels: int) -> Images:
    strip = np.full((_SIGN_PX, _SIGN_PX if text else _SIGN_PX // 2, channels), 255, np.uint8)
    cv2.putText(strip, text, (5, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (0,) * channels, 2, cv2.LINE_AA)
    return strip


def _side_by_side(parts: Sequence[Images]) -> Images:
    """Pictures beside each other, in the middle of the highest, on white."""
    height = max(part.shape[0] for part in parts)
    padded = []
    for part in parts:
        spare = height - part.shape[0]
        above = spare // 2 if part.shape[0] == _SIGN_PX else 0
        padded.append(np.pad(part, ((above, spare - above), (0, 0), (0, 0)), constant_values=255))
    return np.concatenate(padded, axis=1)
