"""Hair of drawn heads: what hangs behind them, and what covers the skull down to the hairline."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.sources.easel import Colour, Easel, Points, lit, mixed
from pipelines.sources.head import Head

Generator = np.random.Generator


@dataclass(frozen=True)
class Hair:
    """How hair is worn. Sizes in units of half a head's height."""

    colour: Colour
    long: bool
    volume: float  # how far it stands off the skull
    line: float  # how far down the forehead it comes
    parting: float  # where it is parted, -1 left .. 1 right
    fringe: float  # how far a fringe hangs below the hairline
    length: float  # how far down it hangs, where it is long
    waves: float
    curls: bool


def drawn_hair(random: Generator, long: bool, colour: Colour) -> Hair:
    """A style, drawn by chance."""
    fringe = float(random.choice([0.0, 0.0, random.uniform(0.08, 0.24)]))
    curls = bool(random.random() < 0.3)
    return Hair(
        colour=colour,
        long=long,
        volume=random.uniform(0.1, 0.16) + (0.06 if curls else 0.0),
        line=random.uniform(-0.66, -0.54),
        parting=float(random.choice([-0.45, 0.0, 0.45])) + random.uniform(-0.12, 0.12),
        fringe=fringe,
        length=random.uniform(1.15, 1.65),
        waves=random.uniform(0.0, 0.05),
        curls=curls,
    )


def draw_back(easel: Easel, head: Head, hair: Hair, random: Generator) -> None:
    """What is behind the head and the neck."""
    shade = lit(hair.colour, 0.62)
    if not hair.long:
        easel.fill(head.outline(-1.0, 0.42, 0.6 * hair.volume), shade)
        return
    easel.fill(_curtain(head, hair, 0.0), shade)
    _strands(easel, head, hair, random, shade)


def _curtain(head: Head, hair: Hair, inset: float) -> Points:
    """The outline of long hair: off the skull, down past the chin, waved."""
    heights = np.linspace(-0.3, hair.length, 18)
    left, right = head.edges(np.minimum(heights, 0.15), hair.volume)
    spread = (0.14 - inset) * np.clip(heights, 0, None)
    wave = hair.waves * np.sin(7.5 * heights)
    lean = -0.12 * math.sin(head.yaw) * np.clip(heights, 0, None)
    ends = 0.08 * np.array([1.0, 0.3])
    lower = np.array([hair.length + ends[1], hair.length + ends[0]])
    hem_left = head.flat(left[-1] + spread[-1] * -1 + lean[-1] + np.array([0.2, 0.35]), lower)
    hem_right = head.flat(right[-1] + spread[-1] + lean[-1] - np.array([0.35, 0.2]), lower[::-1])
    return np.concatenate(
        [
            head.flat(left - spread + lean + wave, heights)[::-1],
            head.outline(-1.0, -0.32, hair.volume),
            head.flat(right + spread + lean - wave, heights),
            hem_right[::-1],
            hem_left[::-1],
        ]
    )


def _strands(easel: Easel, head: Head, hair: Hair, random: Generator, colour: Colour) -> None:
    heights = np.linspace(0.1, hair.length, 9)
    left, right = head.edges(np.minimum(heights, 0.15), hair.volume)
    spread = 0.14 * np.clip(heights, 0, None)
    lean = -0.12 * math.sin(head.yaw) * np.clip(heights, 0, None)
    wave = hair.waves * np.sin(7.5 * heights)
    for _ in range(16):
        share = random.uniform(0.03, 0.3)
        tone = lit(colour, random.uniform(0.8, 1.4))
        if random.random() < 0.5:
            path = head.flat(left - spread + wave + lean + share * (right - left), heights)
        else:
            path = head.flat(right + spread - wave + lean - share * (right - left), heights)
        easel.line(path, tone, 0.025)


def draw_front(easel: Easel, head: Head, hair: Hair, random: Generator) -> None:
    """What covers the skull, down to the hairline, with its strands and its gleam."""
    line = _hairline(head, hair)
    top = head.outline(-1.0, 0.15 if hair.long else 0.02, hair.volume)
    if hair.curls:
        top = _curled(head, top)
    cap = np.concatenate([top, line])
    easel.fill(cap, hair.colour)
    inside = easel.mask(cap)
    _comb(easel, head, hair, random, inside)
    gleam_angle = np.linspace(-1.1, 1.1, 12)
    upper = head.around(gleam_angle, -0.86 + 0.06 * gleam_angle**2, hair.volume)
    lower = head.around(gleam_angle[::-1], -0.76 + 0.08 * gleam_angle[::-1] ** 2, hair.volume)
    easel.soft(np.concatenate([upper, lower]), mixed(hair.colour, (255, 250, 240), 0.5), 0.4, 0.05, inside)
    if hair.long:
        _locks(easel, head, hair)


def _comb(easel: Easel, head: Head, hair: Hair, random: Generator, inside: npt.NDArray[np.uint8]) -> None:
    """Strands from the parting down to where the hair ends."""
    start = hair.parting * head.width * 0.6
    angle = random.uniform(-1.9, 1.9, (26, 1))
    end = np.where(
        np.abs(angle) > 0.9, random.uniform(-0.45, 0.1, (26, 1)), hair.line + random.uniform(-0.1, 0.06, (26, 1))
    )
    share = np.linspace(0, 1, 7)
    paths = head.around(start + (angle - start) * share**0.7, -1.0 + (end + 1.0) * share**1.6, 0.8 * hair.volume)
    layer = easel.copy()
    for path, tone in zip(paths, random.uniform(0.72, 1.35, 26).tolist(), strict=True):
        layer.line(path, lit(hair.colour, tone), 0.035)
    easel.lay(layer.image, inside, 0.6)


def _hairline(head: Head, hair: Hair) -> Points:
    """From the right ear over the forehead to the left one, with the fringe."""
    degrees = np.array([150.0, 122, 104, 96, 88, 76, 62])
    down = np.array([0.42, 0.36, 0.1, -0.16, 0.04, 0.06, -0.22])
    if hair.long:
        down = np.array([0.5, 0.5, 0.5, 0.45, 0.4, 0.25, -0.15])
    side = np.radians(degrees)
    front = np.radians(np.linspace(50, -50, 21))
    arch = hair.line + 0.12 * (front / front[0]) ** 2 - 0.1 * np.exp(-(((front - hair.parting) / 0.3) ** 2))
    arch += hair.fringe * np.clip(1.1 - (front / 0.95) ** 4, 0, 1) * (1 + 0.12 * np.sin(13 * front))
    return np.concatenate(
        [head.around(side, down, 0.03), head.around(front, arch, 0.05), head.around(-side[::-1], down[::-1], 0.03)]
    )


def _curled(head: Head, path: Points) -> Points:
    """A path about the head, in small waves."""
    place = np.linspace(0, len(path) - 1, 120)
    fine = np.stack([np.interp(place, np.arange(len(path)), path[:, axis]) for axis in (0, 1)], axis=1)
    middle = head.flat(0.0, -0.1)
    length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(fine, axis=0).T))]) / head.unit_px
    return np.asarray(middle + (fine - middle) * (1 + 0.03 * np.sin(18 * length))[:, None], np.float64)


def _locks(easel: Easel, head: Head, hair: Hair) -> None:
    """Long hair in front of the ears and shoulders, on both sides."""
    for side in (-1, 1):
        heights = np.linspace(-0.25, hair.length, 14)
        edge = head.edges(np.minimum(heights, 0.15), hair.volume)[(side + 1) // 2]
        grown = np.clip(heights, 0, None)
        outer = edge + side * 0.14 * grown - side * hair.waves * np.sin(7.5 * heights)
        lean = -0.12 * math.sin(head.yaw) * grown
        width = 0.16 + 0.16 * np.clip(heights + 0.25, 0, 1) - 0.1 * np.clip(heights - 0.7, 0, None)
        path = np.concatenate([head.flat(outer + lean, heights), head.flat(outer + lean - side * width, heights)[::-1]])
        easel.fill(path, hair.colour)
        layer = easel.copy()
        for share, tone in ((0.2, 0.78), (0.45, 1.22), (0.7, 0.85), (0.93, 0.66)):
            layer.line(head.flat(outer + lean - side * share * width, heights), lit(hair.colour, tone), 0.04)
        easel.lay(layer.image, easel.mask(path), 0.6)
