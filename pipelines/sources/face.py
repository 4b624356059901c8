"""Draws faces of which the truth is known: pose, smile, glasses, hair, skin. NumPy and OpenCV only."""

import colorsys
import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.sources.easel import Colour, Easel, lit, mixed
from pipelines.sources.features import Look, Mouth, draw_eyes, draw_mouth, draw_nose
from pipelines.sources.glasses import draw_arms, draw_rims, drawn_glasses
from pipelines.sources.hair import draw_back, draw_front, drawn_hair
from pipelines.sources.head import MOST_YAW, Head

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
    random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    truth = _truth(random)
    side_px = size_px * max(2, -(-_EASEL_PX // size_px))
    image = _painted(truth, random, side_px)
    small = np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)
    grain = random.integers(-256, 257, (size_px, size_px, 1), dtype=np.int16)
    noisy = small.astype(np.int16) + (grain * int(_NOISE_LEVELS * 2) >> 8)
    return Face(np.clip(noisy, 0, 255).astype(np.uint8), truth)


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
    skin = _skin(random, truth.dark_skin)
    look = _look(random, truth, skin)
    hair = drawn_hair(random, truth.long_hair, _hair_colour(random, truth.dark_hair))
    look_brows = mixed(lit(hair.colour, 0.6), lit(skin, 0.3), 0.35)
    light_x = float(random.choice([-1.0, 1.0])) * random.uniform(0.2, 0.6)
    easel = Easel(side_px, unit_px)
    _draw_background(easel, random)
    draw_back(easel, head, hair, random)
    _draw_shoulders(easel, head, look, random)
    _draw_ears(easel, head, look)
    inside = easel.mask(head.outline())
    _shade(easel, head, look, inside, light_x)
    look = Look(**{**look.__dict__, "brows": look_brows})
    squint = 0.22 * truth.smile
    draw_eyes(easel, head, look, inside, squint)
    draw_nose(easel, head, look, light_x)
    teeth = truth.smile and bool(random.random() < 0.7)
    opening = random.uniform(0.07, 0.13) if teeth else 0.0
    draw_mouth(easel, head, look, Mouth(truth.mouth_curve, opening, teeth))
    glasses = drawn_glasses(random, _frame_colour(random, truth.dark_skin))
    if truth.glasses:
        draw_arms(easel, head, look, glasses)
    draw_front(easel, head, hair, random)
    if truth.glasses:
        draw_rims(easel, head, look, glasses)
    return _lit(easel.image, random, light_x)


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, saturation), min(1.0, value))
    return (255 * red, 255 * green, 255 * blue)


def _skin(random: Generator, dark: bool) -> Colour:
    if dark:
        return _colour(random.uniform(0.045, 0.075), random.uniform(0.48, 0.62), random.uniform(0.36, 0.55))
    return _colour(random.uniform(0.045, 0.085), random.uniform(0.2, 0.36), random.uniform(0.88, 0.98))


def _hair_colour(random: Generator, dark: bool) -> Colour:
    if dark:  # black to dark brown
        return _colour(random.uniform(0.03, 0.09), random.uniform(0.2, 0.6), random.uniform(0.1, 0.24))
    kind = random.random()
    if kind < 0.5:  # blond
        return _colour(random.uniform(0.105, 0.135), random.uniform(0.35, 0.62), random.uniform(0.78, 0.95))
    if kind < 0.75:  # red
        return _colour(random.uniform(0.04, 0.07), random.uniform(0.65, 0.82), random.uniform(0.68, 0.85))
    return _colour(random.uniform(0.08, 0.14), random.uniform(0.02, 0.1), random.uniform(0.68, 0.88))  # grey


def _frame_colour(random: Generator, dark_skin: bool) -> Colour:
    if dark_skin and random.random() < 0.75:  # dark frames hardly show on it
        return (_colour(0.12, 0.6, 0.92), _colour(0.0, 0.0, 0.93), _colour(0.0, 0.8, 0.85), _colour(0.55, 0.5, 0.9))[
            int(random.integers(4))
        ]
    return (_colour(0.0, 0.1, 0.1), _colour(0.05, 0.7, 0.3), _colour(0.62, 0.7, 0.35), _colour(0.98, 0.8, 0.45))[
        int(random.integers(4))
    ]


def _look(random: Generator, truth: FaceTruth, skin: Colour) -> Look:
    red = _colour(random.uniform(0.96, 1.01), random.uniform(0.55, 0.75), random.uniform(0.6, 0.8))
    eyes = ((104, 66, 38), (70, 46, 30), (88, 128, 168), (92, 128, 84), (112, 118, 128))
    return Look(
        skin=skin,
        shade=mixed(lit(skin, 0.55), (120, 40, 30), 0.18),
        lips=mixed(red, skin, random.uniform(0.15, 0.5) if not truth.dark_skin else random.uniform(0.1, 0.35)),
        brows=skin,
        iris=eyes[int(random.integers(len(eyes)))],
        eye_y=random.uniform(-0.07, 0.0),
        eye_x=random.uniform(0.29, 0.325),
        eye_width=random.uniform(0.145, 0.175),
        eye_height=random.uniform(0.07, 0.092),
        nose_y=random.uniform(0.32, 0.39),
        nose_width=random.uniform(0.12, 0.17),
        mouth_y=random.uniform(0.61, 0.66),
        mouth_width=random.uniform(0.31, 0.36) if truth.smile else random.uniform(0.23, 0.27),
        lip_height=random.uniform(0.075, 0.115),
        folds=float(random.choice([0.0, random.uniform(0.3, 1.0)])) if not truth.smile else random.uniform(0.5, 1.0),
    )


def _draw_background(easel: Easel, random: Generator) -> None:
    side = easel.image.shape[0]
    hue, value = random.random(), random.uniform(0.35, 0.95)
    first = _colour(hue, random.uniform(0.08, 0.5), value)
    second = _colour(hue + random.uniform(-0.12, 0.12), random.uniform(0.08, 0.5), value * random.uniform(0.6, 0.95))
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


def _draw_shoulders(easel: Easel, head: Head, look: Look, random: Generator) -> None:
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
    cloth = _colour(random.random(), random.uniform(0.1, 0.75), random.uniform(0.25, 0.9))
    across = np.linspace(-1.9, 1.9, 25)
    collar = random.uniform(0.1, 0.3)
    top = 1.22 + 0.14 * np.abs(across) ** 1.6 + collar * np.exp(-((across / 0.34) ** 4))
    body = np.concatenate([head.flat(lean + across, top), head.flat(lean + np.array([1.9, -1.9]), 3.0)])
    easel.fill(body, cloth)
    ends = np.array([1.3, 1.3, 3.0, 3.0])
    easel.soft(head.flat(lean + np.array([-1.9, -1.0, -1.0, -1.9]), ends), lit(cloth, 0.6), 0.5, 0.2)
    easel.soft(head.flat(lean + np.array([1.0, 1.9, 1.9, 1.0]), ends), lit(cloth, 0.6), 0.5, 0.2)
    easel.line(head.flat(lean + across[8:17], top[8:17]), lit(cloth, 0.7), 0.05)


def _draw_ears(easel: Easel, head: Head, look: Look) -> None:
    angle = np.linspace(0, 2 * math.pi, 16)
    for side in (-1, 1):
        if not head.sees(side * math.radians(84)):
            continue
        x, y = head.at(side * head.width, 0.06)[0]
        for size, colour in ((1.0, lit(look.skin, 0.93)), (0.55, mixed(look.skin, look.shade, 0.6))):
            ear = np.stack([0.105 * np.cos(angle), 0.19 * np.sin(angle)], 1) * size * easel.unit_px
            easel.fill(ear + np.array([x + 0.02 * side * easel.unit_px, y]), colour)


def _shade(easel: Easel, head: Head, look: Look, inside: npt.NDArray[np.uint8], light_x: float) -> None:
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


def _lit(image: npt.NDArray[np.uint8], random: Generator, light_x: float) -> npt.NDArray[np.uint8]:
    """The whole picture a little lighter or darker, warmer or colder, and towards the light."""
    side = image.shape[0]
    grid = np.linspace(-1, 1, 8, dtype=np.float32)[None, :]
    warm = random.uniform(-0.05, 0.05)
    light = random.uniform(0.9, 1.06) * (1 + 0.1 * light_x * grid) * np.ones((8, 1), np.float32)
    colour = light[..., None] * np.array([1 + warm, 1.0, 1 - warm], np.float32)
    scaled = cv2.resize((colour * 128).clip(0, 255).astype(np.uint8), (side, side), interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, scaled, scale=1 / 128), np.uint8)
