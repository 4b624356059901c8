"""What stands in a drawn bedroom: the bed, the lamp on its table, pictures, a wardrobe, a plant."""

import cv2
import numpy as np
import numpy.typing as npt

from pipelines.sources.perspective import Camera, Point

Colour = tuple[int, int, int]
Generator = np.random.Generator

_SHIFT = 4  # coordinates are given to OpenCV in sixteenths of a pixel


class Canvas:
    """A square RGB picture that is painted back to front; a fourth channel keeps the mark of what is seen where."""

    def __init__(self, side_px: int) -> None:
        self._painted: npt.NDArray[np.uint8] = np.zeros((side_px, side_px, 4), np.uint8)
        self.mark = 0

    @property
    def image(self) -> npt.NDArray[np.uint8]:
        """The picture, uint8[side, side, 3], a view."""
        return self._painted[..., :3]

    def seen(self, mark: int) -> int:
        """How many pixels show what was painted under a mark."""
        return int(np.count_nonzero(self._painted[..., 3] == mark))

    def polygon(self, pixels: list[tuple[float, float]], colour: Colour) -> None:
        """Fill a polygon given in pixels."""
        limit = 1 << 12  # far outside points would overflow OpenCV's fixed-point arithmetic
        clipped = np.clip(np.asarray(pixels), -limit, limit)
        points = np.rint(clipped * (1 << _SHIFT)).astype(np.int32)
        cv2.fillConvexPoly(self._painted, points, (*colour, self.mark), cv2.LINE_8, _SHIFT)

    def fill(self, camera: Camera, points: list[Point], colour: Colour) -> None:
        """Fill a polygon given by places in the room."""
        self.polygon([camera.at(*point) for point in points], colour)

    def ellipse(self, centre: tuple[float, float], axes: tuple[float, float], angle: float, colour: Colour) -> None:
        """Fill an ellipse given in pixels and degrees."""
        at = (round(centre[0] * (1 << _SHIFT)), round(centre[1] * (1 << _SHIFT)))
        size = (max(1, round(axes[0] * (1 << _SHIFT))), max(1, round(axes[1] * (1 << _SHIFT))))
        cv2.ellipse(self._painted, at, size, angle, 0, 360, (*colour, self.mark), -1, cv2.LINE_8, _SHIFT)


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter."""
    red, green, blue = (max(0, min(255, round(channel * factor))) for channel in colour)
    return (red, green, blue)


def draw_block(canvas: Canvas, camera: Camera, low: Point, high: Point, colour: Colour) -> None:
    """A box between two corners (low: smaller x, y, z): its top, its visible side, its front."""
    (x0, y0, z0), (x1, y1, z1) = low, high
    x = x1 if camera.sees_right_side((x0 + x1) / 2) else x0
    canvas.fill(camera, [(x, y0, z0), (x, y0, z1), (x, y1, z1), (x, y1, z0)], shade(colour, 0.68))
    canvas.fill(camera, [(x0, y0, z0), (x1, y0, z0), (x1, y0, z1), (x0, y0, z1)], shade(colour, 1.12))
    canvas.fill(camera, [(x0, y0, z1), (x1, y0, z1), (x1, y1, z1), (x0, y1, z1)], shade(colour, 0.86))


def draw_bed(
    canvas: Canvas, camera: Camera, wood: Colour, cloth: Colour, sheet: Colour, random: Generator
) -> tuple[list[tuple[float, float]], float, float]:
    """A bed with its head at the back wall; the pixels of its corners, and the x of its two sides."""
    width = random.uniform(0.34, 0.6)
    left = random.uniform(0.04, 0.92 - width)
    right = left + width
    length = random.uniform(0.48, 0.68)
    top = random.uniform(0.7, 0.8)
    head = random.uniform(0.42, 0.62)
    canvas.fill(  # its shadow on the floor
        camera,
        [(left - 0.04, 1, 0), (right + 0.04, 1, 0), (right + 0.05, 1, length + 0.03), (left - 0.05, 1, length + 0.03)],
        shade(wood, 0.5),
    )
    draw_block(canvas, camera, (left - 0.02, head, 0), (right + 0.02, 1, 0.03), wood)
    if random.random() < 0.5:  # an upholstered headboard
        inset: list[Point] = [
            (left + 0.02, head + 0.04, 0.03),
            (right - 0.02, head + 0.04, 0.03),
            (right - 0.02, 0.9, 0.03),
            (left + 0.02, 0.9, 0.03),
        ]
        canvas.fill(camera, inset, shade(cloth, 0.75))
    draw_block(canvas, camera, (left, 0.88, 0.03), (right, 0.97, length), wood)
    draw_block(canvas, camera, (left, top, 0.03), (right, 0.9, length), sheet)
    fold = random.uniform(0.14, 0.28)
    over = top - 0.012
    draw_block(canvas, camera, (left - 0.012, over, fold), (right + 0.012, 0.93, length + 0.012), cloth)
    stripes = int(random.integers(0, 7))
    across = bool(random.random() < 0.5)
    pattern = shade(cloth, float(random.choice([0.78, 1.3])))
    for i in range(stripes):
        a, b = (i + 0.25) / stripes, (i + 0.65) / stripes
        if across:
            z0, z1 = fold + (length - fold) * a, fold + (length - fold) * b
            canvas.fill(camera, [(left, over, z0), (right, over, z0), (right, over, z1), (left, over, z1)], pattern)
        else:
            x0, x1 = left + width * a, left + width * b
            canvas.fill(camera, [(x0, over, fold), (x1, over, fold), (x1, over, length), (x0, over, length)], pattern)
            canvas.fill(
                camera, [(x0, over, length), (x1, over, length), (x1, 0.93, length), (x0, 0.93, length)], pattern
            )
    turned: list[Point] = [(left - 0.012, over, fold), (right + 0.012, over, fold), (right + 0.012, over, fold + 0.05)]
    canvas.fill(camera, [*turned, (left - 0.012, over, fold + 0.05)], shade(sheet, 0.95))
    pillows = 2 if width > 0.42 else 1
    for i in range(pillows):
        x0 = left + width * (i + 0.1) / pillows
        x1 = left + width * (i + 0.9) / pillows
        draw_block(canvas, camera, (x0, top - 0.05, 0.05), (x1, top, min(fold, 0.15)), shade(sheet, 0.97))
        if random.random() < 0.4:
            draw_block(canvas, camera, (x0 + 0.03, top - 0.04, 0.1), (x1 - 0.03, top, fold), shade(cloth, 1.15))
    corners = [(x, y, z) for x in (left - 0.02, right + 0.02) for y, z in ((head, 0), (1.0, 0), (1.0, length))]
    corners += [(x, over, length) for x in (left - 0.012, right + 0.012)]
    return [camera.at(*corner) for corner in corners], left, right


def draw_lamp(
    canvas: Canvas, camera: Camera, bed_left: float, bed_right: float, wood: Colour, random: Generator, evening: bool
) -> tuple[float, float] | None:
    """A bedside table with a lamp, where there is room beside the bed; the pixel of its light if it is on."""
    gaps = [(0.02, bed_left - 0.03), (bed_right + 0.03, 0.98)]
    wide = [gap for gap in gaps if gap[1] - gap[0] >= 0.1]
    if not wide:
        return None
    start, end = wide[int(random.integers(len(wide)))]
    size = min(0.18, end - start)
    x0 = start if start > bed_left else end - size
    table = random.uniform(0.74, 0.82)
    draw_block(canvas, camera, (x0, table, 0.02), (x0 + size, 0.99, 0.16), shade(wood, 0.9))
    middle, height = x0 + size / 2, random.uniform(0.12, 0.2)
    z = 0.09
    canvas.fill(
        camera,
        [
            (middle - 0.01, table - height, z),
            (middle + 0.01, table - height, z),
            (middle + 0.012, table, z),
            (middle - 0.012, table, z),
        ],
        shade(wood, 0.5),
    )
    lit = evening or random.random() < 0.4
    colour: Colour = (255, 236, 180) if lit else (214, 200, 178)
    narrow, broad = size * 0.22, size * 0.42
    shade_top, shade_bottom = table - height - 0.08, table - height + 0.02
    canvas.fill(
        camera,
        [
            (middle - narrow, shade_top, z),
            (middle + narrow, shade_top, z),
            (middle + broad, shade_bottom, z),
            (middle - broad, shade_bottom, z),
        ],
        colour,
    )
    return camera.at(middle, shade_bottom, z) if lit else None


def draw_picture(
    canvas: Canvas, camera: Camera, place: tuple[float, float, float, float], colour: Colour, random: Generator
) -> None:
    """A framed picture on the back wall."""
    left, top, width, height = place

    def inside(edge: float) -> list[Point]:
        x0, x1, y0, y1 = left + edge, left + width - edge, top + edge, top + height - edge
        return [(x0, y0, 0), (x1, y0, 0), (x1, y1, 0), (x0, y1, 0)]

    canvas.fill(camera, inside(0.0), (40, 34, 30) if random.random() < 0.6 else (226, 214, 190))
    canvas.fill(camera, inside(0.012), (238, 234, 226))
    canvas.fill(camera, inside(0.026), shade(colour, random.uniform(0.6, 1.3)))
    x, y = camera.at(left + width * random.uniform(0.35, 0.65), top + height * random.uniform(0.35, 0.65), 0)
    reach = camera.side_px * camera.wall[2] * min(width, height) * 0.22
    canvas.ellipse((x, y), (reach, reach * random.uniform(0.5, 1.0)), 0, shade(colour, random.uniform(0.4, 1.6)))


def draw_extras(canvas: Canvas, camera: Camera, wood: Colour, accent: Colour, random: Generator) -> None:
    """A wardrobe or a chest at a side wall, and a plant, each now and then."""
    if random.random() < 0.5:
        deep, z0 = random.uniform(0.1, 0.2), random.uniform(0.0, 0.25)
        z1, top = z0 + random.uniform(0.18, 0.34), random.uniform(0.15, 0.65)
        x0, x1 = (0.0, deep) if random.random() < 0.5 else (1.0 - deep, 1.0)
        draw_block(canvas, camera, (x0, top, z0), (x1, 1.0, z1), shade(wood, random.uniform(0.8, 1.2)))
        x = x1 if x0 == 0.0 else x0
        middle = (z0 + z1) / 2
        canvas.fill(
            camera,
            [(x, top, middle - 0.004), (x, top, middle + 0.004), (x, 0.98, middle + 0.004), (x, 0.98, middle - 0.004)],
            shade(wood, 0.4),
        )
    if random.random() < 0.35:
        x, z = float(random.choice([0.06, 0.94])), random.uniform(0.02, 0.1)
        draw_block(canvas, camera, (x - 0.035, 0.88, z), (x + 0.035, 1.0, z + 0.06), shade(accent, 0.7))
        cx, cy = camera.at(x, 0.78, z + 0.03)
        size = camera.side_px * camera.wall[3] * 0.1
        for _ in range(7):
            angle = random.uniform(-70, 70)
            lean = np.deg2rad(angle)
            at = (cx + np.sin(lean) * size, cy - np.cos(lean) * size * 0.6)
            green: Colour = (
                round(random.uniform(30, 90)),
                round(random.uniform(95, 160)),
                round(random.uniform(40, 80)),
            )
            canvas.ellipse(at, (size * 0.28, size * 0.95), angle, green)
