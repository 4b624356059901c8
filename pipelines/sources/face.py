"""Draws faces of which the truth is known: pose, smile, glasses, hair, skin. NumPy and OpenCV only."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.sources.bust import draw_ears, draw_shoulders, draw_skin
from pipelines.sources.easel import Easel, hued
from pipelines.sources.features import Mouth, draw_eyes, draw_mouth, draw_nose
from pipelines.sources.glasses import draw_arms, draw_rims, drawn_glasses
from pipelines.sources.hair import draw_back, draw_front, drawn_hair
from pipelines.sources.head import MOST_YAW, Head
from pipelines.sources.looks import brows_colour, drawn_look, frame_colour, hair_colour, skin_colour

Generator = np.random.Generator

_EASEL_PX = 128
_NOISE_LEVELS = 1.5


@dataclass(frozen=True)
class FaceTruth:
    """What is known of a drawn face. All are drawn independently of one another.

    pose: -1 (looks to the picture's left) .. 1 (to its right): a third each below -0.4, within -0.25..0.25, above 0.4
    mouth_curve: how far the mouth's corners are above its middle, in half heads; 0.12 or more where it smiles
    """

    smile: bool
    glasses: bool
    long_hair: bool
    dark_skin: bool
    dark_hair: bool
    pose: float
    mouth_curve: float


@dataclass(frozen=True)
class Face:
    """A drawn face.

    image: uint8[size, size, 3], RGB
    """

    image: npt.NDArray[np.uint8]
    truth: FaceTruth


def draw_face(seed: int, index: int, size_px: int = 64) -> Face:
    """Face `index` of a seed; the same bytes for the same three numbers. Of another size it is the same face.

    Raises:
        ValueError: size_px is under 16.
    """
    if size_px < 16:
        raise ValueError(f"size_px={size_px} is too small to show a face; use 16 or more")
    random = _random(seed, index)
    truth = _truth(random)
    side_px = size_px * max(2, -(-_EASEL_PX // size_px))
    image = _painted(truth, random, side_px)
    small = np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)
    grain = random.integers(-256, 257, (size_px, size_px, 1), dtype=np.int16)
    noisy = small.astype(np.int16) + (grain * int(_NOISE_LEVELS * 2) >> 8)
    return Face(np.clip(noisy, 0, 255).astype(np.uint8), truth)


def face_truth(seed: int, index: int) -> FaceTruth:
    """What is known of face `index` of a seed, without drawing it."""
    return _truth(_random(seed, index))


def _random(seed: int, index: int) -> Generator:
    return np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))


def _truth(random: Generator) -> FaceTruth:
    smile, glasses, long_hair, dark_skin, dark_hair = (random.random(5) < 0.5).tolist()
    turned = int(random.integers(-1, 2))
    pose = turned * random.uniform(0.4, 1.0) if turned else random.uniform(-0.25, 0.25)
    curve = random.uniform(0.12, 0.19) if smile else random.uniform(-0.005, 0.025)
    return FaceTruth(smile, glasses, long_hair, dark_skin, dark_hair, pose, curve)


def _painted(truth: FaceTruth, random: Generator, side_px: int) -> npt.NDArray[np.uint8]:
    unit_px = side_px * random.uniform(0.285, 0.315)
    yaw = truth.pose * MOST_YAW
    head = Head(
        middle=(side_px * (0.5 + random.uniform(-0.015, 0.015)), side_px * (0.475 + random.uniform(-0.015, 0.015))),
        unit_px=unit_px,
        yaw=yaw,
        roll=math.radians(random.uniform(-5, 5)),
        width=random.uniform(0.68, 0.77),
        jaw=random.uniform(2.1, 3.0),
    )
    look = drawn_look(random, skin_colour(random, truth.dark_skin), truth.smile, truth.dark_skin)
    hair = drawn_hair(random, truth.long_hair, hair_colour(random, truth.dark_hair))
    light_x = float(random.choice([-1.0, 1.0])) * random.uniform(0.2, 0.6)
    easel = Easel(side_px, unit_px)
    _draw_background(easel, random)
    draw_back(easel, head, hair, random)
    draw_shoulders(easel, head, look, random)
    draw_ears(easel, head, look)
    inside = easel.mask(head.outline())
    draw_skin(easel, head, look, inside, light_x)
    draw_eyes(easel, head, look, inside, brows_colour(hair.colour, look.skin), squint=0.22 * truth.smile)
    draw_nose(easel, head, look, light_x)
    teeth = truth.smile and bool(random.random() < 0.7)
    opening = random.uniform(0.07, 0.13) if teeth else 0.0
    draw_mouth(easel, head, look, Mouth(truth.mouth_curve, opening, teeth))
    glasses = drawn_glasses(random, frame_colour(random, truth.dark_skin))
    if truth.glasses:
        draw_arms(easel, head, look, glasses)
    draw_front(easel, head, hair, random)
    if truth.glasses:
        draw_rims(easel, head, look, glasses)
    return _lit(easel.image, random, light_x)


def _draw_background(easel: Easel, random: Generator) -> None:
    side = easel.image.shape[0]
    hue, value = random.random(), random.uniform(0.35, 0.95)
    first = hued(hue, random.uniform(0.08, 0.5), value)
    second = hued(hue + random.uniform(-0.12, 0.12), random.uniform(0.08, 0.5), value * random.uniform(0.6, 0.95))
    angle = random.uniform(0, 2 * math.pi)
    grid = np.linspace(-0.7, 0.7, 16, dtype=np.float32)
    share = np.clip(0.5 + math.cos(angle) * grid[None, :] + math.sin(angle) * grid[:, None], 0, 1)[..., None]
    shown = (1 - share) * np.array(first, np.float32) + share * np.array(second, np.float32)
    if random.random() < 0.5:  # something out of focus
        for _ in range(int(random.integers(2, 5))):
            x, y, spread = random.uniform(0, 15), random.uniform(0, 12), random.uniform(1.5, 3.5)
            place = np.arange(16, dtype=np.float32)
            spot = np.exp(-((place[None, :] - x) ** 2 + (place[:, None] - y) ** 2) / spread**2)[..., None]
            shown += random.uniform(-45, 45) * spot
    easel.image[:] = cv2.resize(np.clip(shown, 0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_CUBIC)


def _lit(image: npt.NDArray[np.uint8], random: Generator, light_x: float) -> npt.NDArray[np.uint8]:
    """The whole picture a little lighter or darker, warmer or colder, and towards the light."""
    side = image.shape[0]
    grid = np.linspace(-1, 1, 8, dtype=np.float32)[None, :]
    warm = random.uniform(-0.05, 0.05)
    light = random.uniform(0.9, 1.06) * (1 + 0.1 * light_x * grid) * np.ones((8, 1), np.float32)
    colour = light[..., None] * np.array([1 + warm, 1.0, 1 - warm], np.float32)
    scaled = cv2.resize((colour * 128).clip(0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, scaled, scale=1 / 128), np.uint8)
