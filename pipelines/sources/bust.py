"""What bears a drawn face: neck and shoulders, ears, and the bare skin in the light."""

import math

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.sources.easel import Easel, hued, lit, mixed
from pipelines.sources.head import Head
from pipelines.sources.looks import Look

Generator = np.random.Generator


def draw_shoulders(easel: Easel, head: Head, look: Look, random: Generator) -> None:
    """The neck, in the chin's shadow, and shoulders in some cloth."""
    lean = -0.25 * math.sin(head.yaw)
    neck = 0.36 * head.width / 0.72 + random.uniform(-0.02, 0.04)
    heights = np.array([0.45, 0.9, 1.15, 1.3, 1.75])
    half = neck * np.array([1.0, 1.0, 1.06, 1.4, 1.8])
    column = np.concatenate([head.flat(lean - half, heights), head.flat(lean + half, heights)[::-1]])
    easel.fill(column, lit(look.skin, 0.86))
    easel.soft(
        head.flat(0.6 * lean + np.array([-0.45, 0.45, 0.3, -0.3]), np.array([0.7, 0.7, 1.12, 1.12])),
        look.shade,
        0.6,
        0.08,
    )
    cloth = hued(random.random(), random.uniform(0.1, 0.75), random.uniform(0.25, 0.9))
    across = np.linspace(-1.9, 1.9, 25)
    collar = random.uniform(0.1, 0.3)
    top = 1.22 + 0.14 * np.abs(across) ** 1.6 + collar * np.exp(-((across / 0.34) ** 4))
    body = np.concatenate([head.flat(lean + across, top), head.flat(lean + np.array([1.9, -1.9]), 3.0)])
    easel.fill(body, cloth)
    ends = np.array([1.3, 1.3, 3.0, 3.0])
    easel.soft(head.flat(lean + np.array([-1.9, -1.0, -1.0, -1.9]), ends), lit(cloth, 0.6), 0.5, 0.2)
    easel.soft(head.flat(lean + np.array([1.0, 1.9, 1.9, 1.0]), ends), lit(cloth, 0.6), 0.5, 0.2)
    easel.line(head.flat(lean + across[8:17], top[8:17]), lit(cloth, 0.7), 0.05)


def draw_ears(easel: Easel, head: Head, look: Look) -> None:
    """The ears that show."""
    angle = np.linspace(0, 2 * math.pi, 16)
    for side in (-1, 1):
        if not head.sees(side * math.radians(84)):
            continue
        x, y = head.at(side * head.width, 0.06)[0]
        for size, colour in ((1.0, lit(look.skin, 0.93)), (0.55, mixed(look.skin, look.shade, 0.6))):
            ear = np.stack([0.105 * np.cos(angle), 0.19 * np.sin(angle)], 1) * size * easel.unit_px
            easel.fill(ear + np.array([x + 0.02 * side * easel.unit_px, y]), colour)


def draw_skin(easel: Easel, head: Head, look: Look, inside: npt.NDArray[np.uint8], light_x: float) -> None:
    """Light from one side and above on the bare face, and red cheeks."""
    direction = np.array([light_x, -0.45, 0.8]) / math.hypot(light_x, 0.45, 0.8)
    facing = head.light(easel.image.shape[0], (float(direction[0]), float(direction[1]), float(direction[2])))
    side = easel.image.shape[0]
    pixels = np.array(look.skin, np.float32)
    for share, colour in (
        (np.clip(0.78 - facing, 0, 0.75), look.shade),
        (0.9 * np.clip(facing - 0.8, 0, 0.2), mixed(lit(look.skin, 1.15), (255, 250, 240), 0.35)),
    ):
        pixels = pixels + share[..., None] * (np.array(colour, np.float32) - pixels)
    pixels = np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
    easel.lay(np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8), inside)
    angle = np.linspace(0, 2 * math.pi, 14)
    for side in (-1, 1):
        cheek = head.at(side * 0.36 + 0.14 * np.cos(angle), 0.3 + 0.12 * np.sin(angle))
        easel.soft(cheek, mixed(look.skin, (226, 70, 60), 0.55), 0.35, 0.09, inside)
