"""A camera in a room and a canvas to paint on: corners in metres become filled polygons.

Pixels must be the same on every machine. So chance comes from Philox's raw output, geometry uses only the operations that IEEE 754
rounds exactly (no sine or logarithm), and OpenCV fills polygons with whole numbers, without antialiasing: a picture is
painted at twice its size and halved.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Point = tuple[float, float, float]
Colour = tuple[float, float, float]

NEAR_M = 0.1
SUBPIXEL_BITS = 3
FAR_PX = 1 << 20


class Dice:
    """Chance that depends on (seed, index, part) alone, with one independent stream for every part of a picture."""

    def __init__(self, seed: int, index: int, part: int) -> None:
        # The output of a NumPy bit generator is fixed for good; that of Generator's methods may change with a release.
        self._bits = np.random.Philox(
            key=np.array([seed, index], dtype=np.uint64), counter=np.array([0, 0, part, 0], dtype=np.uint64)
        )
        self._numbers = self._draw()

    def _draw(self) -> Iterator[float]:
        while True:
            yield from ((self._bits.random_raw(256) >> np.uint64(11)) * 2.0**-53).tolist()

    def between(self, low: float, high: float) -> float:
        """A number from low up to high, high left out."""
        return low + (high - low) * next(self._numbers)

    def chance(self, share: float) -> bool:
        """True in this share of calls."""
        return next(self._numbers) < share

    def count(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(next(self._numbers) * (high - low + 1))

    def pick[Item](self, items: Sequence[Item]) -> Item:
        """One of the items, each as likely."""
        return items[int(next(self._numbers) * len(items))]

    def bytes(self, count: int) -> npt.NDArray[np.uint8]:
        """uint8[count], uniform."""
        words = self._bits.random_raw((count + 7) // 8).astype("<u8")
        return words.view(np.uint8)[:count]


def unit(x: float, z: float) -> tuple[float, float]:
    """The direction (x, z) at length 1."""
    length = (x * x + z * z) ** 0.5
    return x / length, z / length


def mix(one: Colour, other: Colour, share: float) -> Colour:
    """The colour that lies `share` of the way from one to the other."""
    return (
        one[0] + (other[0] - one[0]) * share,
        one[1] + (other[1] - one[1]) * share,
        one[2] + (other[2] - one[2]) * share,
    )


def tone(colour: Colour, factor: float) -> Colour:
    """The colour, darker (factor < 1) or lighter."""
    return (colour[0] * factor, colour[1] * factor, colour[2] * factor)


@dataclass(frozen=True, slots=True)
class Wall:
    """A wall as axes to place things by: metres along it, up from the floor, and out into the room."""

    side: Literal["left", "back", "right"]
    width_m: float
    depth_m: float

    @property
    def length_m(self) -> float:
        """How far `along` goes: left to right on the back wall, from the camera's end to the back on the others."""
        return self.width_m if self.side == "back" else self.depth_m

    def at(self, along: float, up: float, out: float = 0.0) -> Point:
        """The point in the room: (x to the right, y up, z away)."""
        if self.side == "back":
            return (along, up, self.depth_m - out)
        return (out if self.side == "left" else self.width_m - out, up, along)

    def place(self, x: float, z: float) -> tuple[float, float]:
        """(along, out) of a point in the room."""
        if self.side == "back":
            return x, self.depth_m - z
        return z, x if self.side == "left" else self.width_m - x

    def quad(self, along: tuple[float, float], up: tuple[float, float], out: float = 0.0) -> list[Point]:
        """A rectangle that hangs parallel to the wall."""
        return [self.at(along[0], up[0], out), self.at(along[1], up[0], out),
                self.at(along[1], up[1], out), self.at(along[0], up[1], out)]  # fmt: skip

    def flat(self, along: tuple[float, float], out: tuple[float, float], up: float) -> list[Point]:
        """A rectangle that lies parallel to the floor."""
        return [self.at(along[0], up, out[0]), self.at(along[1], up, out[0]),
                self.at(along[1], up, out[1]), self.at(along[0], up, out[1])]  # fmt: skip

    def facings(self) -> tuple[str, str, str]:
        """Where the faces of a box against this wall look: its near end along, its far end along, its front."""
        return {"back": ("-x", "+x", "-z"), "left": ("-z", "+z", "+x"), "right": ("-z", "+z", "-x")}[self.side]


@dataclass(frozen=True, slots=True)
class Camera:
    """A level camera: verticals stay vertical. `focal`, `centre_u` and `centre_v` are in picture sides."""

    x: float
    y: float
    z: float
    ahead: tuple[float, float]
    focal: float
    centre_u: float
    centre_v: float

    def see(self, points: Sequence[Point]) -> list[tuple[float, float]]:
        """Where a convex polygon's corners fall in the picture (0..1 inside it), cut at the near plane."""
        ahead_x, ahead_z = self.ahead
        seen = []
        behind = False
        for x, y, z in points:
            dx, dz = x - self.x, z - self.z
            depth = ahead_x * dx + ahead_z * dz
            behind = behind or depth < NEAR_M
            seen.append((ahead_z * dx - ahead_x * dz, y - self.y, depth))
        if behind:
            seen = _cut_near(seen)
        focal, u, v = self.focal, self.centre_u, self.centre_v
        return [(u + focal * right / depth, v - focal * up / depth) for right, up, depth in seen]


def _cut_near(seen: list[Point]) -> list[Point]:
    kept = []
    for before, here in zip(seen[-1:] + seen[:-1], seen, strict=True):
        if (before[2] < NEAR_M) != (here[2] < NEAR_M):
            share = (NEAR_M - before[2]) / (here[2] - before[2])
            kept.append((
                before[0] + (here[0] - before[0]) * share,
                before[1] + (here[1] - before[1]) * share,
                NEAR_M,
            ))  # fmt: skip
        if here[2] >= NEAR_M:
            kept.append(here)
    return kept


class Canvas:
    """A picture being painted, at twice its size, with a fourth channel that says which object each pixel shows."""

    def __init__(self, camera: Camera, size_px: int, shades: dict[str, float]) -> None:
        self.camera = camera
        self.size_px = size_px
        self.shades = shades
        self.pixels = np.zeros((2 * size_px, 2 * size_px, 4), dtype=np.uint8)
        self.mark = 0
        self._scale = 2 * size_px * (1 << SUBPIXEL_BITS)

    def fill(self, points: Sequence[Point], colour: Colour) -> None:
        """Paint a convex polygon of the room."""
        self._paint(self.pixels, self.camera.see(points), self._scale, (*colour, self.mark))

    def light(self, light: npt.NDArray[np.uint8], points: Sequence[Point], colour: Colour) -> None:
        """Paint a convex polygon of the room into a map of light (uint8[size, size, 4], 128 is unchanged)."""
        self._paint(light, self.camera.see(points), self._scale // 2, (*colour, 128))

    def _paint(
        self,
        target: npt.NDArray[np.uint8],
        seen: list[tuple[float, float]],
        scale: int,
        colour: tuple[float, float, float, int],
    ) -> None:
        if len(seen) < 3:
            return
        # A pixel's centre is at the whole number; the picture's edge lies half a pixel before it.
        half = 1 << (SUBPIXEL_BITS - 1)
        corners = [
            (
                max(-FAR_PX, min(FAR_PX, round(u * scale) - half)),
                max(-FAR_PX, min(FAR_PX, round(v * scale) - half)),
            )
            for u, v in seen
        ]
        cv2.fillConvexPoly(target, np.array(corners, dtype=np.int32), colour, cv2.LINE_8, SUBPIXEL_BITS)

    def strip(self, points: Sequence[Point], first: Colour, last: Colour, strips: int) -> None:
        """Paint a rectangle whose colour runs from its first edge (corners 0 and 1) to its last (corners 3 and 2)."""
        a, b, c, d = points
        for i in range(strips):
            # Each strip runs to the far edge, so that no gap shows between two of them.
            share = i / strips
            self.fill([_along(a, d, share), _along(b, c, share), c, d], mix(first, last, (i + 0.5) / strips))

    def box(
        self,
        wall: Wall,
        along: tuple[float, float],
        up: tuple[float, float],
        out: tuple[float, float],
        colour: Colour,
        fade: float = 0.8,
    ) -> None:
        """Paint the faces of a box that the camera sees; its sides darken towards the floor by `fade`."""
        eye_along, eye_out = wall.place(self.camera.x, self.camera.z)
        near, far, front = wall.facings()
        at, shades = wall.at, self.shades
        steps = 2 if up[1] - up[0] < 0.25 else 4
        for facing, seen, end in ((near, eye_along < along[0], along[0]), (far, eye_along > along[1], along[1])):
            if seen:
                face = tone(colour, shades[facing])
                corners = [
                    at(end, up[1], out[0]),
                    at(end, up[1], out[1]),
                    at(end, up[0], out[1]),
                    at(end, up[0], out[0]),
                ]
                self.strip(corners, face, tone(face, fade), steps)
        if eye_out > out[1]:
            face = tone(colour, shades[front])
            self.strip(wall.quad(along, (up[1], up[0]), out[1]), face, tone(face, fade), steps)
        if self.camera.y > up[1]:
            self.fill(wall.flat(along, out, up[1]), tone(colour, shades["+y"]))
        elif self.camera.y < up[0]:
            self.fill(wall.flat(along, out, up[0]), tone(colour, 0.55))

    def standing(self, at: Point, outline: Sequence[tuple[float, float]], colour: Colour) -> None:
        """Paint a convex outline of (right, up) metres that stands at a point and faces the camera."""
        right_x, right_z = self.camera.ahead[1], -self.camera.ahead[0]
        x, y, z = at
        self.fill([(x + dx * right_x, y + dy, z + dx * right_z) for dx, dy in outline], colour)


def _along(one: Point, other: Point, share: float) -> Point:
    return (
        one[0] + (other[0] - one[0]) * share,
        one[1] + (other[1] - one[1]) * share,
        one[2] + (other[2] - one[2]) * share,
    )


CIRCLE = (
    (1.0, 0.0), (0.924, 0.383), (0.707, 0.707), (0.383, 0.924), (0.0, 1.0), (-0.383, 0.924), (-0.707, 0.707), (-0.924, 0.383),
    (-1.0, 0.0), (-0.924, -0.383), (-0.707, -0.707), (-0.383, -0.924), (0.0, -1.0), (0.383, -0.924), (0.707, -0.707), (0.924, -0.383),
)  # fmt: skip
"""A circle's outline, as written numbers: a sine's last digit differs between machines."""
