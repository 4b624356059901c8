"""What drawn people look like besides what is known of them: colours and proportions, drawn by chance."""

from dataclasses import dataclass

import numpy as np

from pipelines.sources.easel import Colour, hued, lit, mixed

Generator = np.random.Generator


@dataclass(frozen=True)
class Look:
    """What a face looks like besides its truth: sizes in units of half a head's height, and colours."""

    skin: Colour
    shade: Colour
    lips: Colour
    iris: Colour
    eye_y: float
    eye_x: float
    eye_width: float
    eye_height: float
    nose_y: float
    nose_width: float
    mouth_y: float
    mouth_width: float
    lip_height: float
    folds: float  # how deep the lines beside the mouth are, 0..1


def drawn_look(random: Generator, skin: Colour, smile: bool, dark_skin: bool) -> Look:
    """A face's colours and proportions, on a skin of this colour."""
    red = hued(random.uniform(0.96, 1.01), random.uniform(0.55, 0.75), random.uniform(0.6, 0.8))
    eyes = ((104, 66, 38), (70, 46, 30), (88, 128, 168), (92, 128, 84), (112, 118, 128))
    return Look(
        skin=skin,
        shade=mixed(lit(skin, 0.55), (120, 40, 30), 0.18),
        lips=mixed(red, skin, random.uniform(0.15, 0.5) if not dark_skin else random.uniform(0.1, 0.35)),
        iris=eyes[int(random.integers(len(eyes)))],
        eye_y=random.uniform(-0.07, 0.0),
        eye_x=random.uniform(0.29, 0.325),
        eye_width=random.uniform(0.145, 0.175),
        eye_height=random.uniform(0.07, 0.092),
        nose_y=random.uniform(0.32, 0.39),
        nose_width=random.uniform(0.12, 0.17),
        mouth_y=random.uniform(0.61, 0.66),
        mouth_width=random.uniform(0.31, 0.36) if smile else random.uniform(0.23, 0.27),
        lip_height=random.uniform(0.075, 0.115),
        folds=float(random.choice([0.0, random.uniform(0.3, 1.0)])) if not smile else random.uniform(0.5, 1.0),
    )


def skin_colour(random: Generator, dark: bool) -> Colour:
    """A dark or a light skin."""
    if dark:
        return hued(random.uniform(0.045, 0.075), random.uniform(0.48, 0.62), random.uniform(0.36, 0.55))
    return hued(random.uniform(0.045, 0.085), random.uniform(0.2, 0.36), random.uniform(0.88, 0.98))


def hair_colour(random: Generator, dark: bool) -> Colour:
    """A dark or a light hair."""
    if dark:  # black to dark brown
        return hued(random.uniform(0.03, 0.09), random.uniform(0.2, 0.6), random.uniform(0.1, 0.24))
    kind = random.random()
    if kind < 0.5:  # blond
        return hued(random.uniform(0.105, 0.135), random.uniform(0.35, 0.62), random.uniform(0.78, 0.95))
    if kind < 0.75:  # red
        return hued(random.uniform(0.04, 0.07), random.uniform(0.65, 0.82), random.uniform(0.68, 0.85))
    return hued(random.uniform(0.08, 0.14), random.uniform(0.02, 0.1), random.uniform(0.68, 0.88))  # grey


def brows_colour(hair: Colour, skin: Colour) -> Colour:
    """Brows that go with the hair and show on the skin."""
    return mixed(lit(hair, 0.6), lit(skin, 0.3), 0.35)


def frame_colour(random: Generator, dark_skin: bool) -> Colour:
    """The frame of glasses, such that it mostly shows on the skin."""
    if dark_skin and random.random() < 0.75:  # dark frames hardly show on it
        return (hued(0.12, 0.6, 0.92), hued(0.0, 0.0, 0.93), hued(0.0, 0.8, 0.85), hued(0.55, 0.5, 0.9))[
            int(random.integers(4))
        ]
    return (hued(0.0, 0.1, 0.1), hued(0.05, 0.7, 0.3), hued(0.62, 0.7, 0.35), hued(0.98, 0.8, 0.45))[
        int(random.integers(4))
    ]
