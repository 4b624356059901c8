"""Glasses of drawn faces."""

import math
from dataclasses import dataclass

import numpy as np

from pipelines.sources.easel import Colour, Easel
from pipelines.sources.head import Floats, Head
from pipelines.sources.looks import Look

Generator = np.random.Generator

_OUT = 0.07  # how far before the face they sit


@dataclass(frozen=True)
class Glasses:
    """What glasses look like. Sizes in units of half a head's height."""

    frame: Colour
    width: float
    height: float
    power: float  # 1: round; lower: squarer
    line: float
    tint: float


def drawn_glasses(random: Generator, frame: Colour) -> Glasses:
    """Glasses, drawn by chance."""
    power = float(random.choice([1.0, 0.75, 0.5]))
    height = random.uniform(0.17, 0.21) * (1.0 if power == 1 else 0.88)
    return Glasses(
        frame=frame,
        width=random.uniform(0.235, 0.265),
        height=height,
        power=power,
        line=random.uniform(0.06, 0.08),
        tint=random.uniform(0.06, 0.2),
    )


def draw_arms(easel: Easel, head: Head, look: Look, glasses: Glasses) -> None:
    """The arms to the ears, on each side that shows."""
    first = math.asin(min(1.0, (look.eye_x + glasses.width) / head.width))
    arm = np.linspace(first, math.radians(86), 8)
    height = look.eye_y + 0.02 - 0.3 * glasses.height
    for side in (-1, 1):
        if head.sees(float(side * arm[2])):
            easel.line(head.around(side * arm, height, 0.04), glasses.frame, 0.8 * glasses.line)


def draw_rims(easel: Easel, head: Head, look: Look, glasses: Glasses) -> None:
    """Both rims with what the glass reflects, and the bridge between them."""
    angle = np.linspace(0, 2 * math.pi, 28, endpoint=False)
    x, y = 0.98 * look.eye_x, look.eye_y + 0.02
    for side in (-1, 1):
        outer, inner = (
            head.at(
                side * x + (glasses.width + rim) * _squared(np.cos(angle), glasses.power),
                y + (glasses.height + rim) * _squared(np.sin(angle), glasses.power),
                _OUT,
            )
            for rim in (glasses.line / 2, -glasses.line / 2)
        )
        easel.soft(outer, (214, 228, 240), glasses.tint, 0.01)
        shine = np.array([[-0.12, -0.1], [-0.05, -0.12], [-0.11, 0.06], [-0.16, 0.05]])
        easel.soft(head.at(side * x + shine[:, 0], y + shine[:, 1], _OUT), (255, 255, 255), 0.3, 0.012)
        easel.ring(outer, inner, glasses.frame)
    gap = np.linspace(-1.0, 1.0, 7) * max(0.03, x - glasses.width)
    arch = y - 0.25 * glasses.height - 0.04 * np.cos(np.linspace(-1.5, 1.5, 7))
    easel.line(head.at(gap, arch, _OUT + 0.04), glasses.frame, 0.9 * glasses.line)


def _squared(value: Floats, power: float) -> Floats:
    return np.asarray(np.sign(value) * np.abs(value) ** power, np.float64)
