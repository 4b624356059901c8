"""What is in a drawn face: eyes and brows, nose, mouth."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipelines.sources.easel import Colour, Easel, Points, lit, mixed
from pipelines.sources.head import Floats, Head
from pipelines.sources.looks import Look

_BLACK: Colour = (22, 16, 16)
_WHITE: Colour = (250, 248, 244)
_CORNER = np.array([[-1, -0.5], [1, -0.5], [0, 1]])
_ROUND = np.linspace(0, 2 * math.pi, 16, endpoint=False)


@dataclass(frozen=True)
class Mouth:
    """How a mouth is held: how far its corners are lifted above its middle, and how far it is open."""

    curve: float
    open: float
    teeth: bool


def draw_eyes(
    easel: Easel, head: Head, look: Look, inside: npt.NDArray[np.uint8], brows: Colour, squint: float
) -> None:
    """Both eyes with their sockets, lids and brows; `squint`: by how much of its height a lid is lifted."""
    gaze = 0.03 * math.sin(head.yaw)
    for side in (-1, 1):
        if not head.sees(side * math.asin(min(1.0, look.eye_x / head.width))):
            continue
        x, y, a, b = side * look.eye_x, look.eye_y, look.eye_width, look.eye_height
        socket = head.at(x + 1.35 * a * np.cos(_ROUND), y - 0.3 * b + 1.9 * b * np.sin(_ROUND))
        easel.soft(socket, look.shade, 0.4, 0.06, inside)
        upper = np.sin(np.linspace(0, math.pi, 12))
        across = np.linspace(-a, a, 12)
        tilt = -0.12 * across * side
        top = head.at(x + across, y + tilt - b * upper**0.8)
        lower = head.at(x + across[::-1], y + tilt[::-1] + b * (0.75 - squint) * upper)
        white = np.concatenate([top, lower])
        easel.fill(white, (243, 240, 236))
        radius = min(0.088, 1.12 * b)
        ball = easel.copy()
        for share, colour in ((1.0, lit(look.iris, 0.6)), (0.8, look.iris), (0.48, _BLACK)):
            across_ball = x + gaze + share * radius * np.cos(_ROUND)
            ball.fill(head.at(across_ball, y - 0.08 * b + share * radius * np.sin(_ROUND)), colour)
        easel.lay(ball.image, easel.mask(white))
        glint = head.at(x + gaze - 0.025 + 0.02 * np.cos(_ROUND), y - 0.3 * b + 0.02 * np.sin(_ROUND))
        easel.fill(glint, _WHITE)
        easel.line(top, mixed(_BLACK, look.shade, 0.2), 0.034)
        easel.line(lower, mixed(look.shade, _BLACK, 0.15), 0.014)
        brow = np.linspace(-1.25 * a, 1.25 * a, 10)
        arch = y - 2.6 * b - 0.035 * np.cos(1.1 * brow / a) + 0.05 * np.clip(side * brow / a, 0, None) ** 2
        thick = 0.034 * np.cos(0.95 * brow / a) + 0.008
        shape = np.concatenate([head.at(x + brow, arch - thick), head.at(x + brow[::-1], arch[::-1] + thick[::-1])])
        easel.soft(shape, brows, 0.92, 0.008)


def draw_nose(easel: Easel, head: Head, look: Look, light_x: float) -> None:
    """The nose, shaded on the side away from the light."""
    y, wide = look.nose_y, look.nose_width
    top = look.eye_y + 0.02
    turn = math.sin(head.yaw)
    # The far side's outline when turned; from before, the side away from the light.
    away = math.copysign(1.0, turn) if abs(turn) > 0.25 else -math.copysign(1.0, light_x)
    bridge = np.linspace(0, 1, 8)
    tip_out = 0.05 + 0.2 * bridge**1.5
    ridge = head.at(np.zeros(8), top + (y - 0.04 - top) * bridge, tip_out)
    side = head.at(away * (0.07 + (wide - 0.07) * bridge**1.5), top + (y - top) * bridge, 0.02)
    base = head.at(np.array([away * wide * 0.6, 0.0]), np.array([y + 0.05, y + 0.06]), np.array([0.05, 0.14]))
    easel.soft(np.concatenate([ridge, base[::-1], side[::-1]]), look.shade, 0.55, 0.018)
    near = head.at(-away * (0.05 + (wide - 0.05) * bridge**1.5), top + (y - top) * bridge, 0.02)
    easel.soft(np.concatenate([ridge, base[1:], near[::-1]]), lit(look.skin, 1.1), 0.35, 0.02)
    tip = head.at(0.055 * np.cos(_ROUND), y - 0.05 + 0.05 * np.sin(_ROUND), 0.22)
    easel.soft(tip, lit(look.skin, 1.22), 0.6, 0.02)
    under = head.at(np.linspace(-wide, wide, 9), y + 0.035 + 0.035 * np.cos(np.linspace(-1.57, 1.57, 9)), 0.1)
    easel.line(under, mixed(look.shade, _BLACK, 0.18), 0.02)
    for nostril in (-1, 1):
        hole = head.at(nostril * 0.055 + 0.03 * np.cos(_ROUND), y + 0.045 + 0.018 * np.sin(_ROUND), 0.12)
        easel.soft(hole, mixed(look.shade, _BLACK, 0.55), 0.85, 0.006)


def mouth_line(look: Look, mouth: Mouth, across: Floats) -> Floats:
    """How far down a closed mouth's line runs at places across it."""
    return np.asarray(look.mouth_y + mouth.curve * (0.45 - (across / look.mouth_width) ** 2), np.float64)


def draw_mouth(easel: Easel, head: Head, look: Look, mouth: Mouth) -> None:
    """Lips, what shows between them, the shadow below, and the folds beside them."""
    wide = look.mouth_width
    across = np.linspace(-wide, wide, 17)
    line = mouth_line(look, mouth, across)
    arch = np.clip(1 - (across / wide) ** 2, 0, 1)
    bow = arch * (1 - 0.25 * np.exp(-((across / (0.16 * wide)) ** 2)))
    upper, lower = line - 0.62 * look.lip_height * bow, line + mouth.open * arch**0.8
    below = lower + look.lip_height * arch**0.75
    out = 0.03 * arch

    def band(high: Floats, low: Floats) -> Points:
        return np.concatenate([head.at(across, high, out), head.at(across[::-1], low[::-1], out)])

    chin = head.at(0.6 * across, below + 0.07 * arch, out)
    easel.soft(np.concatenate([chin, chin[::-1] + np.array([0, 0.03 * easel.unit_px])]), look.shade, 0.5, 0.03)
    if look.folds > 0:
        for side in (-1, 1):
            start = np.array([0.2 + 0.02 * look.nose_width, 0.27, wide + 0.06])
            down = np.array([look.nose_y - 0.01, look.nose_y + 0.08, look.mouth_y - 0.4 * mouth.curve])
            fold = head.at(side * start, down)
            easel.line(fold, mixed(look.skin, look.shade, 0.75 * look.folds), 0.02)
    easel.fill(band(upper, line), lit(look.lips, 0.86))
    easel.fill(band(lower, below), look.lips)
    if mouth.open > 0.02:
        easel.fill(band(line, lower), (92, 30, 34))
        if mouth.teeth:
            easel.fill(band(line, line + 0.78 * (lower - line)), _WHITE)
    else:
        easel.line(head.at(across, line, out), mixed(look.lips, _BLACK, 0.6), 0.022)
    gleam = head.at(0.45 * across, (lower + 0.55 * look.lip_height * arch)[8] + 0.0 * across, out)
    easel.line(gleam, mixed(look.lips, _WHITE, 0.3), 0.02)
    for end in (across[:1], across[-1:]):
        corner = head.at(end + 0.04 * _CORNER[:, 0], mouth_line(look, mouth, end) + 0.04 * _CORNER[:, 1])
        easel.soft(corner, mixed(look.shade, _BLACK, 0.4), 0.7, 0.012)
