"""One-point perspective: places in a room to places in its picture."""

from dataclasses import dataclass

Point = tuple[float, float, float]
"""A place in the room: x from the left wall (0) to the right (1), y from the ceiling (0) to the floor (1), z from the
back wall (0) towards the camera (1)."""

EDGE = 1.3
"""A z so near that walls which reach it fill the picture to its edge."""

_NEAREST = 0.72  # how much of the way to the camera z = 1 is


@dataclass(frozen=True)
class Camera:
    """Where the back wall (left, top, width, height) and the vanishing point lie, as shares of the picture's side."""

    side_px: int
    wall: tuple[float, float, float, float]
    vanishing: tuple[float, float]
    mirrored: bool

    def at(self, x: float, y: float, z: float) -> tuple[float, float]:
        """The pixel that shows a place in the room."""
        left, top, width, height = self.wall
        nearer = 1.0 / (1.0 - _NEAREST * z)
        across = self.vanishing[0] + (left + width * x - self.vanishing[0]) * nearer
        down = self.vanishing[1] + (top + height * y - self.vanishing[1]) * nearer
        if self.mirrored:
            across = 1.0 - across
        return across * self.side_px, down * self.side_px

    def sees_right_side(self, x: float) -> bool:
        """Whether of a thing at x its right side (towards x = 1) is seen, rather than its left."""
        left, _, width, _ = self.wall
        return left + width * x < self.vanishing[0]
