"""Draws bedrooms of which the truth is known: where the windows and the bed are. NumPy and OpenCV only."""

import colorsys
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.sources.interior import Canvas, Colour, Generator, draw_bed, draw_extras, draw_lamp, draw_picture, shade
from pipelines.sources.perspective import EDGE, Camera, Point

Box = tuple[int, int, int, int]

_SUPERSAMPLE = 2
_NOISE_LEVELS = 2.2
_SEEN_SHARE = 0.25  # a window of which less is seen, behind a wardrobe or a headboard, is none


@dataclass(frozen=True)
class Room:
    """A drawn bedroom.

    image: uint8[size, size, 3], RGB
    windows, bed: (left, top, width, height) in pixels, inside the picture, of the whole thing: what stands before it is
    not cut out. Windows that can hardly be seen are left out.
    """

    image: npt.NDArray[np.uint8]
    windows: tuple[Box, ...]
    bed: Box


@dataclass(frozen=True)
class _Palette:
    wall: Colour
    side: Colour
    accent: Colour
    ceiling: Colour
    floor: Colour
    wood: Colour
    cloth: Colour
    sheet: Colour


def draw_room(seed: int, index: int, size_px: int = 96) -> Room:
    """Room `index` of a seed; the same bytes for the same three numbers.

    Raises:
        ValueError: size_px is under 32.
    """
    if size_px < 32:
        raise ValueError(f"size_px={size_px} is too small to show a room; use 32 or more")
    random = np.random.Generator(np.random.Philox(key=np.array([seed, index], np.uint64)))
    side_px = size_px * _SUPERSAMPLE
    camera = _camera(random, side_px)
    palette = _palette(random)
    evening = bool(random.random() < 0.3)
    canvas = Canvas(side_px)
    _draw_shell(canvas, camera, palette, random)
    windows = _draw_windows(canvas, camera, palette, random, evening)
    painted = [canvas.seen(mark) for mark in range(1, len(windows) + 1)]
    free = _picture_places(random, windows)
    for left, top, width, height in free:
        draw_picture(canvas, camera, (left, top, width, height), palette.accent, random)
    draw_extras(canvas, camera, palette.wood, palette.accent, random)
    bed_points, bed_left, bed_right = draw_bed(canvas, camera, palette.wood, palette.cloth, palette.sheet, random)
    glow = draw_lamp(canvas, camera, bed_left, bed_right, palette.wood, random, evening)
    visible = [w for i, w in enumerate(windows) if canvas.seen(i + 1) >= _SEEN_SHARE * max(1, painted[i])]
    image = _lit(np.ascontiguousarray(canvas.image), camera, random, evening, windows, glow)
    small = np.asarray(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA), np.uint8)
    grain = random.integers(-256, 257, (size_px, size_px, 1), dtype=np.int16)
    noisy = small.astype(np.int16) + (grain * int(_NOISE_LEVELS * 2) >> 8)
    pixels = np.clip(noisy, 0, 255).astype(np.uint8)
    boxes = [_box([camera.at(*corner) for corner in corners], size_px) for corners in visible]
    return Room(pixels, tuple(box for box in boxes if box is not None), _box(bed_points, size_px) or (0, 0, 1, 1))


def _camera(random: Generator, side_px: int) -> Camera:
    width, height = random.uniform(0.42, 0.68), random.uniform(0.4, 0.58)
    left = random.uniform(0.06, 0.94 - width)
    top = random.uniform(0.08, 0.72 - height)
    vanishing = (left + width * random.uniform(0.2, 0.8), top + height * random.uniform(0.3, 0.6))
    return Camera(side_px, (left, top, width, height), vanishing, bool(random.random() < 0.5))


def _colour(hue: float, saturation: float, value: float) -> Colour:
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, saturation), min(1.0, value))
    return (round(255 * red), round(255 * green), round(255 * blue))


def _palette(random: Generator) -> _Palette:
    hue = random.random()
    other = hue + float(random.choice([0.08, -0.08, 0.5, 0.33, -0.33]))
    bright = random.uniform(0.45, 0.95)
    tint = random.uniform(0.03, 0.4)
    wood_value = random.uniform(0.25, 0.8)
    return _Palette(
        wall=_colour(hue, tint, bright),
        side=_colour(hue, tint * 0.9, bright * random.uniform(0.72, 0.95)),
        accent=_colour(other, random.uniform(0.2, 0.55), random.uniform(0.35, 0.9)),
        ceiling=_colour(hue, tint * 0.2, random.uniform(0.85, 0.98)),
        floor=_colour(random.uniform(0.04, 0.12), random.uniform(0.1, 0.65), random.uniform(0.25, 0.85)),
        wood=_colour(random.uniform(0.04, 0.1), random.uniform(0.2, 0.75), wood_value),
        cloth=_colour(other + random.uniform(-0.1, 0.1), random.uniform(0.05, 0.5), random.uniform(0.3, 0.9)),
        sheet=_colour(hue, random.uniform(0.0, 0.12), random.uniform(0.85, 1.0)),
    )


def _draw_shell(canvas: Canvas, camera: Camera, palette: _Palette, random: Generator) -> None:
    """Ceiling, floor, three walls, what they are papered and laid with, skirting and cornice."""
    quads: list[tuple[list[Point], Colour]] = [
        ([(0, 0, 0), (1, 0, 0), (1, 0, EDGE), (0, 0, EDGE)], palette.ceiling),
        ([(0, 1, 0), (1, 1, 0), (1, 1, EDGE), (0, 1, EDGE)], palette.floor),
        ([(0, 0, 0), (0, 1, 0), (0, 1, EDGE), (0, 0, EDGE)], palette.side),
        ([(1, 0, 0), (1, 1, 0), (1, 1, EDGE), (1, 0, EDGE)], shade(palette.side, 0.93)),
        ([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], palette.wall),
    ]
    for points, colour in quads:
        canvas.fill(camera, points, colour)
    paper = random.random()
    if paper < 0.3:  # stripes
        stripes = int(random.integers(5, 15))
        for i in range(0, stripes, 2):
            x0, x1 = i / stripes, (i + 1) / stripes
            canvas.fill(camera, [(x0, 0, 0), (x1, 0, 0), (x1, 1, 0), (x0, 1, 0)], shade(palette.wall, 0.9))
            for x in (0, 1):
                canvas.fill(camera, [(x, 0, x0), (x, 0, x1), (x, 1, x1), (x, 1, x0)], shade(palette.side, 0.9))
    elif paper < 0.6:  # panelling
        rail = random.uniform(0.5, 0.75)
        lower = palette.accent if random.random() < 0.5 else shade(palette.wall, 0.8)
        canvas.fill(camera, [(0, rail, 0), (1, rail, 0), (1, 1, 0), (0, 1, 0)], lower)
        for x in (0, 1):
            canvas.fill(camera, [(x, rail, 0), (x, rail, EDGE), (x, 1, EDGE), (x, 1, 0)], shade(lower, 0.85))
    boards = int(random.integers(6, 14))
    if random.random() < 0.6:
        for i in range(boards):
            tone = random.uniform(0.88, 1.1)
            x0, x1 = i / boards, (i + 1) / boards
            canvas.fill(camera, [(x0, 1, 0), (x1, 1, 0), (x1, 1, EDGE), (x0, 1, EDGE)], shade(palette.floor, tone))
    if random.random() < 0.5:  # a rug
        x0, z0 = random.uniform(0.1, 0.5), random.uniform(0.3, 0.5)
        x1, z1 = x0 + random.uniform(0.3, 0.5), z0 + random.uniform(0.2, 0.35)
        canvas.fill(camera, [(x0, 1, z0), (x1, 1, z0), (x1, 1, z1), (x0, 1, z1)], palette.accent)
        e = 0.04
        inner: list[Point] = [(x0 + e, 1, z0 + e), (x1 - e, 1, z0 + e), (x1 - e, 1, z1 - e), (x0 + e, 1, z1 - e)]
        canvas.fill(camera, inner, shade(palette.accent, 1.25))
    for y0, y1 in ((0.0, 0.025), (0.95, 1.0)):
        canvas.fill(camera, [(0, y0, 0), (1, y0, 0), (1, y1, 0), (0, y1, 0)], shade(palette.ceiling, 0.97))
        for x in (0, 1):
            canvas.fill(camera, [(x, y0, 0), (x, y0, EDGE), (x, y1, EDGE), (x, y1, 0)], shade(palette.ceiling, 0.88))


def _draw_windows(
    canvas: Canvas, camera: Camera, palette: _Palette, random: Generator, evening: bool
) -> list[list[Point]]:
    """Zero to two windows, each on the back wall or a side wall; the corners of each."""
    count = int(random.choice([0, 1, 1, 1, 2, 2]))
    walls = random.permutation([0, 0, 1, 2])[:count].tolist()
    if count == 2 and walls == [0, 0]:
        places = [(random.uniform(0.06, 0.12), 0.3), (random.uniform(0.6, 0.66), 0.3)]
    else:
        places = [(random.uniform(0.08, 0.45), random.uniform(0.3, 0.48)) for _ in walls]
    made: list[list[Point]] = []
    for wall, (start, width) in zip(walls, places, strict=True):
        top = random.uniform(0.1, 0.22)
        bottom = top + random.uniform(0.3, 0.42)
        if wall == 0:
            rectangle = (start, start + width, top, bottom)
            corners: list[Point] = [
                (start, top, 0),
                (start + width, top, 0),
                (start + width, bottom, 0),
                (start, bottom, 0),
            ]
        else:
            x, z0 = float(wall - 1), random.uniform(0.08, 0.2)
            z1 = z0 + random.uniform(0.22, 0.34)
            rectangle = (z0, z1, top, bottom)
            corners = [(x, top, z0), (x, top, z1), (x, bottom, z1), (x, bottom, z0)]
        made.append(corners)
        canvas.mark = len(made)
        _draw_window(canvas, camera, wall, rectangle, palette, random, evening)
        canvas.mark = 0
    return made


def _draw_window(
    canvas: Canvas,
    camera: Camera,
    wall: int,
    rectangle: tuple[float, float, float, float],
    palette: _Palette,
    random: Generator,
    evening: bool,
) -> None:
    a0, a1, y0, y1 = rectangle

    def on_wall(u0: float, u1: float, v0: float, v1: float) -> list[Point]:
        p0, p1 = a0 + (a1 - a0) * u0, a0 + (a1 - a0) * u1
        q0, q1 = y0 + (y1 - y0) * v0, y0 + (y1 - y0) * v1
        if wall == 0:
            return [(p0, q0, 0), (p1, q0, 0), (p1, q1, 0), (p0, q1, 0)]
        x = float(wall - 1)
        return [(x, q0, p0), (x, q0, p1), (x, q1, p1), (x, q1, p0)]

    frame = (245, 243, 238) if random.random() < 0.7 else shade(palette.wood, 0.8)
    canvas.fill(camera, on_wall(0, 1, 0, 1), frame)
    high = _colour(0.62, 0.75, 0.25) if evening else _colour(random.uniform(0.53, 0.6), random.uniform(0.15, 0.5), 1.0)
    low = _colour(0.07, 0.55, 0.55) if evening else _colour(0.55, 0.08, 1.0)
    steps = 6
    for i in range(steps):
        share = i / (steps - 1)
        sky = tuple(round(h * (1 - share) + o * share) for h, o in zip(high, low, strict=True))
        canvas.fill(camera, on_wall(0.06, 0.94, 0.05 + 0.9 * i / steps, 0.05 + 0.9 * (i + 1) / steps), sky)  # type: ignore[arg-type]
    if random.random() < 0.6:  # trees or roofs outside
        line = random.uniform(0.55, 0.8)
        canvas.fill(
            camera, on_wall(0.06, 0.94, line, 0.95), _colour(random.uniform(0.22, 0.4), 0.45, 0.2 if evening else 0.5)
        )
    panes = int(random.integers(1, 4))
    for i in range(1, panes):
        canvas.fill(camera, on_wall(i / panes - 0.025, i / panes + 0.025, 0, 1), frame)
    if random.random() < 0.6:
        canvas.fill(camera, on_wall(0, 1, 0.47, 0.52), frame)
    if random.random() < 0.65:
        drape = random.uniform(0.1, 0.26)
        colour = palette.accent if random.random() < 0.6 else palette.sheet
        for u0, u1 in ((0.0, drape), (1 - drape, 1.0)):
            folds = 3
            for i in range(folds):
                f0, f1 = u0 + (u1 - u0) * i / folds, u0 + (u1 - u0) * (i + 1) / folds
                canvas.fill(camera, on_wall(f0, f1, 0, 1), shade(colour, 1.0 if i % 2 else 0.86))


def _picture_places(random: Generator, windows: list[list[Point]]) -> list[tuple[float, float, float, float]]:
    """Places on the back wall, clear of its windows, as (left, top, width, height) of the wall."""
    taken = [(w[0][0], w[1][0]) for w in windows if w[0][2] == 0 and w[1][2] == 0]
    places = []
    for _ in range(int(random.integers(0, 4))):
        width, height = random.uniform(0.08, 0.2), random.uniform(0.1, 0.24)
        left, top = random.uniform(0.04, 0.94 - width), random.uniform(0.12, 0.3)
        if all(left + width < x0 - 0.02 or left > x1 + 0.02 for x0, x1 in taken):
            places.append((left, top, width, height))
            taken.append((left, left + width))
    return places


def _lit(
    image: npt.NDArray[np.uint8],
    camera: Camera,
    random: Generator,
    evening: bool,
    windows: list[list[Point]],
    glow: tuple[float, float] | None,
) -> npt.NDArray[np.uint8]:
    """The picture under the room's light: a fall-off from one side, darker corners, the lamp's glow.

    The light is put together on a coarse grid and scaled up: it is smooth.
    """
    grid = 24
    y, x = np.mgrid[0:grid, 0:grid].astype(np.float32) / (grid - 1)
    angle = random.uniform(0, 2 * np.pi)
    light = 1.0 + random.uniform(0.1, 0.35) * (np.cos(angle) * (x - 0.5) + np.sin(angle) * (y - 0.5))
    light -= 0.25 * ((x - 0.5) ** 2 + (y - 0.5) ** 2)
    if windows and not evening:
        corner = camera.at(*windows[0][2])
        cx, cy = corner[0] / camera.side_px, corner[1] / camera.side_px
        light += 0.18 * np.exp(-((x - cx) ** 2 + (y - cy - 0.25) ** 2) / 0.05)
    light *= 0.62 if evening else random.uniform(0.85, 1.08)
    colour = np.repeat(light[..., None], 3, axis=2)
    if glow is not None:
        gx, gy = glow[0] / camera.side_px, glow[1] / camera.side_px
        halo = np.exp(-((x - gx) ** 2 + (y - gy) ** 2) / 0.035)[..., None]
        colour += halo * np.array([0.75, 0.55, 0.25], np.float32) * (1.0 if evening else 0.3)
    size = (camera.side_px, camera.side_px)
    scaled = cv2.resize((colour * 128).clip(0, 255).astype(np.uint8), size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(cv2.multiply(image, scaled, scale=1 / 128), np.uint8)


def _box(points: list[tuple[float, float]], size_px: int) -> Box | None:
    """The box around points of the supersampled picture, in pixels of the picture; None where it lies outside."""
    xs, ys = zip(*points, strict=True)
    # OpenCV paints the outermost pixels of a polygon too, and one more where its edge falls between two.
    left, top = (max(0, min(size_px, round(min(v)) // _SUPERSAMPLE)) for v in (xs, ys))
    right, bottom = (max(0, min(size_px, (round(max(v)) + 1) // _SUPERSAMPLE + 1)) for v in (xs, ys))
    if right <= left or bottom <= top:
        return None
    return left, top, right - left, bottom - top
