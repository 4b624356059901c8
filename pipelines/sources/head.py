"""A head as a stack of ellipses: where places on it show when it is turned, and how light falls on it."""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from pipelines.sources.easel import Points

Floats = npt.NDArray[np.float64]
Numbers = Floats | float

MOST_YAW = math.radians(40)
"""By how much a head of pose 1 is turned."""

_PER_UNIT = 400
_SLICES = np.linspace(-1.0, 1.0, 2 * _PER_UNIT + 1)
# Height, the face's depth in front of the neck's axis, and the skull's behind it.
_FRONT = np.array(
    [[-1, 0.0], [-0.85, 0.42], [-0.6, 0.7], [-0.3, 0.8], [0.1, 0.82], [0.6, 0.84], [0.85, 0.76], [1, 0.5]]
)
_BACK = np.array([[-1, -0.1], [-0.85, -0.62], [-0.5, -0.9], [-0.1, -0.9], [0.25, -0.62], [0.6, -0.2], [1, 0.2]])
_FRONT_DEPTH, _BACK_DEPTH = (np.interp(_SLICES, table[:, 0], table[:, 1]) for table in (_FRONT, _BACK))
_DEPTHS = (np.maximum((_FRONT_DEPTH - _BACK_DEPTH) / 2, 1e-3), (_FRONT_DEPTH + _BACK_DEPTH) / 2)
_LIGHT_GRID = 32


@dataclass(frozen=True)
class Head:
    """A head of height 2, from the crown (y = -1) to the chin (y = 1), in the middle of (x, y) of a picture.

    Places on it: across, from -width to width as seen from before, and down. Lengths of the picture are pixels, all
    others units of half a head's height.
    """

    middle: tuple[float, float]
    unit_px: float
    yaw: float  # radians; above 0 the face looks to the right side of the picture
    roll: float  # radians
    width: float
    jaw: float  # how square: 1.8 pointed, 3 square

    @cached_property
    def _tables(self) -> Floats:
        """float64[3, N]: half width, half depth and middle's depth of every slice."""
        upper = np.sqrt(np.clip(1 - (np.clip(-0.25 - _SLICES, 0, None) / 0.75) ** 2, 0, None))
        lower = np.clip(1 - (np.clip(_SLICES + 0.25, 0, None) / 1.25) ** self.jaw, 0, None) ** (1 / 1.9)
        return np.stack([self.width * np.maximum(upper * lower, 1e-3), *_DEPTHS])

    def _slice(self, y: Numbers) -> Floats:
        """float64[3, ...]: half width, half depth and middle's depth of the slices at heights."""
        return self._tables.take(_row(y), axis=1, mode="clip")

    def flat(self, x: Numbers, y: Numbers) -> Points:
        """The pixels of places in the picture's plane, given as units right of and below the head's middle."""
        cosine, sine = self.unit_px * math.cos(self.roll), self.unit_px * math.sin(self.roll)
        across = np.atleast_1d(self.middle[0] + cosine * x - sine * y)
        points = np.empty((*across.shape, 2))
        points[..., 0] = across
        points[..., 1] = self.middle[1] + sine * x + cosine * y
        return points

    def at(self, across: Numbers, y: Numbers, out: Numbers = 0.0) -> Points:
        """The pixels of places on the face, `out` units before its surface."""
        width, _, _ = self._slice(y)
        return self.around(np.arcsin(np.minimum(np.maximum(across / width, -1), 1)), y, out)

    def around(self, angle: Numbers, y: Numbers, out: Numbers = 0.0) -> Points:
        """The pixels of places on the head, at an angle from its front (left -, right +).

        What is turned away lies on the outline.
        """
        width, depth, centre = self._slice(y)
        most = np.arctan2(width * math.cos(self.yaw), depth * math.sin(self.yaw))
        seen = np.minimum(np.maximum(angle, most - math.pi), most)
        across = (width + out) * np.sin(seen)
        near = centre + (depth + out) * np.cos(seen)
        return self.flat(across * math.cos(self.yaw) + near * math.sin(self.yaw), y)

    def sees(self, angle: float) -> bool:
        """Whether a place at this angle, at the height of the eyes, is on the near side."""
        width, depth, _ = self._slice(0.0)
        most = math.atan2(float(width) * math.cos(self.yaw), float(depth) * math.sin(self.yaw))
        return most - math.pi < angle < most

    def edges(self, y: Floats, out: float = 0.0) -> tuple[Floats, Floats]:
        """The outline's left and right x, in units from the middle, `out` units outside of it."""
        width, depth, centre = self._slice(y)
        half = np.hypot((width + out) * math.cos(self.yaw), (depth + out) * math.sin(self.yaw))
        middle = centre * math.sin(self.yaw)
        return middle - half, middle + half

    def outline(self, top: float = -1.0, bottom: float = 1.0, out: float = 0.0) -> Points:
        """The pixels of the outline between two heights: from the lower left over the top to the lower right."""
        heights = bottom + (top - bottom) * np.sin(np.linspace(0, math.pi / 2, 24))
        left, right = self.edges(heights, out)
        lifted = np.where(heights < 0, heights * (1 + out), heights)
        return np.concatenate([self.flat(left, lifted), self.flat(right, lifted)[::-1]])

    def light(self, side_px: int, direction: tuple[float, float, float]) -> npt.NDArray[np.float32]:
        """How squarely light from a direction (right, down, near) meets the head, -1..1.

        float32[32, 32]: of a picture of side_px in 32 x 32 places. Beside the head it goes on as at its edge.
        """
        grid = (np.arange(_LIGHT_GRID) + 0.5) * side_px / _LIGHT_GRID
        right, down = (grid[None, :] - self.middle[0]) / self.unit_px, (grid[:, None] - self.middle[1]) / self.unit_px
        cosine, sine = math.cos(self.roll), math.sin(self.roll)
        x, y = cosine * right + sine * down, np.clip(cosine * down - sine * right, -0.97, 0.97)
        width, depth, centre = self._slice(y)
        slopes = np.gradient(self._tables, _SLICES, axis=1).take(_row(y), axis=1, mode="clip")
        turn, tilt = math.cos(self.yaw), math.sin(self.yaw)
        # In the head's own axes: the near one of the two places of the slice that show at x.
        half = np.hypot(width * turn, depth * tilt)
        share = np.clip((x - centre * tilt) / half, -0.97, 0.97)
        angle = np.arcsin(share) - np.arctan2(depth * tilt, width * turn)
        sideways, forward = np.sin(angle), np.cos(angle)
        normal_x, normal_z = sideways / width, forward / depth
        normal_y = -(sideways**2 * slopes[0] / width + forward**2 * slopes[1] / depth + forward * slopes[2] / depth)
        length = np.sqrt(normal_x**2 + normal_y**2 + normal_z**2)
        seen_x, seen_z = normal_x * turn + normal_z * tilt, normal_z * turn - normal_x * tilt
        facing = (seen_x * direction[0] + normal_y * direction[1] + seen_z * direction[2]) / length
        return np.asarray(facing, np.float32)


def _row(y: Numbers) -> npt.NDArray[np.int64]:
    """The number of the slice at a height; beyond crown and chin that of none."""
    return np.asarray(np.asarray(y) * _PER_UNIT + (_PER_UNIT + 0.5), np.int64)
