"""What drawn faces are painted on: fills, lines and soft shadows in a picture larger than the one that is wanted."""

import colorsys
import math

import cv2
import numpy as np
import numpy.typing as npt

Colour = tuple[float, float, float]
"""RGB, 0..255."""

Points = npt.NDArray[np.float64]
"""float64[N, 2]: x and y in pixels of the easel."""

_FRACTION_BITS = 4


class Easel:
    """A square picture, RGB, painted on with anti-aliased shapes.

    image: uint8[side_px, side_px, 3]
    unit_px: how many pixels the unit is that widths and blurs are given in
    """

    def __init__(self, side_px: int, unit_px: float) -> None:
        self.image: npt.NDArray[np.uint8] = np.zeros((side_px, side_px, 3), np.uint8)
        self.unit_px = unit_px

    def fill(self, points: Points, colour: Colour) -> None:
        """Fill a polygon."""
        cv2.fillPoly(self.image, [_fixed(points)], colour, cv2.LINE_AA, _FRACTION_BITS)

    def line(self, points: Points, colour: Colour, width: float, closed: bool = False) -> None:
        """Draw a line through points, `width` units wide."""
        thick = max(1, round(width * self.unit_px))
        cv2.polylines(self.image, [_fixed(points)], closed, colour, thick, cv2.LINE_AA, _FRACTION_BITS)

    def ring(self, outer: Points, inner: Points, colour: Colour) -> None:
        """Fill what lies between two polygons."""
        cv2.fillPoly(self.image, [_fixed(outer), _fixed(inner)], colour, cv2.LINE_AA, _FRACTION_BITS)

    def mask(self, points: Points) -> npt.NDArray[np.uint8]:
        """uint8[side_px, side_px]: 255 inside a polygon, 0 outside."""
        drawn = np.zeros(self.image.shape[:2], np.uint8)
        cv2.fillPoly(drawn, [_fixed(points)], 255.0, cv2.LINE_AA, _FRACTION_BITS)
        return drawn

    def soft(
        self,
        points: Points,
        colour: Colour,
        strength: float,
        blur: float,
        within: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        """Tint a polygon's place by `strength` (0..1), its edge blurred over `blur` units, only where `within` is."""
        sigma = max(0.5, blur * self.unit_px)
        reach = math.ceil(2.5 * sigma) + 1
        side = self.image.shape[0]
        left, top = (max(0, math.floor(v) - reach) for v in points.min(axis=0))
        right, bottom = (min(side, math.ceil(v) + reach + 1) for v in points.max(axis=0))
        if left >= right or top >= bottom:
            return
        place = np.zeros((bottom - top, right - left), np.uint8)
        cv2.fillPoly(place, [_fixed(points - [left, top])], 255.0, cv2.LINE_AA, _FRACTION_BITS)
        place = np.asarray(cv2.GaussianBlur(place, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.uint8)
        part = self.image[top:bottom, left:right]
        if within is not None:
            place = np.asarray(cv2.multiply(place, within[top:bottom, left:right], scale=1 / 255), np.uint8)
        tint = np.empty_like(part)
        tint[:] = _pixel(colour)
        _blend(part, tint, np.asarray(cv2.convertScaleAbs(place, alpha=strength), np.uint8))

    def copy(self) -> "Easel":
        """Another easel with the same picture, to paint what is laid over this one."""
        other = Easel(self.image.shape[0], self.unit_px)
        other.image[:] = self.image
        return other

    def lay(self, layer: npt.NDArray[np.uint8], within: npt.NDArray[np.uint8], strength: float = 1.0) -> None:
        """Lay a picture, uint8[side_px, side_px, 3], over this one by `strength` (0..1), only where `within` is."""
        left, top, width, height = cv2.boundingRect(within)
        part = (slice(top, top + height), slice(left, left + width))
        share = np.asarray(cv2.convertScaleAbs(within[part], alpha=strength), np.uint8)
        _blend(self.image[part], layer[part], share)


def _pixel(colour: Colour) -> npt.NDArray[np.uint8]:
    return np.clip(np.rint(colour), 0, 255).astype(np.uint8)


def _blend(under: npt.NDArray[np.uint8], over: npt.NDArray[np.uint8], share: npt.NDArray[np.uint8]) -> None:
    """Mix `over` into `under`, both uint8[H, W, 3], by `share: uint8[H, W]`, 0..255."""
    shares = cv2.merge([share, share, share])
    mixed_in = cv2.multiply(over, shares, scale=1 / 255)
    under[:] = cv2.add(cv2.multiply(under, cv2.bitwise_not(shares), scale=1 / 255), mixed_in)


def hued(hue: float, saturation: float, value: float) -> Colour:
    """The colour of a hue (around the circle: 0..1), a saturation and a value, both 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(1.0, saturation), min(1.0, value))
    return (255 * red, 255 * green, 255 * blue)


def mixed(first: Colour, second: Colour, share: float) -> Colour:
    """The colour at `share` of the way from the first to the second."""
    a, b, c = ((1 - share) * one + share * other for one, other in zip(first, second, strict=True))
    return (a, b, c)


def lit(colour: Colour, factor: float) -> Colour:
    """A colour lighter or darker by a factor."""
    red, green, blue = (min(255.0, factor * part) for part in colour)
    return (red, green, blue)


def _fixed(points: Points) -> npt.NDArray[np.int32]:
    return np.rint(points * (1 << _FRACTION_BITS)).astype(np.int32)
