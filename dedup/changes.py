"""The near-duplicate changes: what becomes of a photo on its way through the web.

Each change keeps the picture and alters its pixels. They are planted to measure the hash with, corrupt the images that
the autoencoder is fitted on, and make the repeats among drawn pictures.
"""

import difflib
import functools
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image

Image = npt.NDArray[np.uint8]
Change = Callable[[Image], Image]

SMALLEST_PX = 32
BLUR_SIGMA_AT_256 = 1.2
LETTERBOX_PERCENT = 4
CAPTION = "CAPTION: BEDROOM 2015"


def apply_change(image: Image, name: str) -> Image:
    """A changed copy of the image; the same input always gives the same output on one build of OpenCV.

    image: uint8[H, W, 3], RGB, 0..255, both sides at least 32 px. The result may have another size.

    Raises: ValueError where the name is none of CHANGES and HARD_CHANGES, or the array is no such image.
    """
    change = CHANGES.get(name) or HARD_CHANGES.get(name)
    if change is None:
        names = [*CHANGES, *HARD_CHANGES]
        nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.0)[0]
        raise ValueError(f"change {name!r} is none of {', '.join(names)}; try {nearest!r}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or min(image.shape[:2]) < SMALLEST_PX:
        raise ValueError(
            f"image {image.dtype}{list(image.shape)} is not uint8[H, W, 3] with sides of at least {SMALLEST_PX} px; "
            "convert it to RGB and resize it first"
        )
    return change(np.ascontiguousarray(image))


def _uint8(pixels: npt.NDArray[np.generic] | cv2.typing.MatLike | None) -> Image:
    return np.ascontiguousarray(pixels, dtype=np.uint8)


def _recode(image: Image, extension: str, quality_flag: int, quality: int) -> Image:
    encoded = cv2.imencode(extension, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [quality_flag, quality])[1]
    return _decoded(_uint8(encoded))


def _decoded(data: Image) -> Image:
    return _uint8(cv2.cvtColor(_uint8(cv2.imdecode(data, cv2.IMREAD_COLOR)), cv2.COLOR_BGR2RGB))


def _jpeg(image: Image, quality: int) -> Image:
    return _recode(image, ".jpg", cv2.IMWRITE_JPEG_QUALITY, quality)


def _webp(image: Image) -> Image:
    # Pillow's encoder for its effort setting: OpenCV's takes 5 ms where this takes 1.
    buffer = io.BytesIO()
    PIL.Image.fromarray(image).save(buffer, "WEBP", quality=50, method=0)
    return _decoded(np.frombuffer(buffer.getvalue(), np.uint8))


def _png(image: Image) -> Image:
    # Lossless, so only the file's bytes would change; the pixels are what every later stage looks at.
    return image.copy()


def _scale(image: Image, percent: int) -> Image:
    height, width = (max(1, (side * percent + 50) // 100) for side in image.shape[:2])
    return _uint8(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA))


def _crop(image: Image, percent: int) -> Image:
    """The middle of the picture, without so much of its area."""
    # (1 - p)^(1/2) is close to 1 - p / 2 for the small shares that are cut off.
    cut_y, cut_x = (max(1, (side * percent + 100) // 200) for side in image.shape[:2])
    top, left = cut_y // 2, cut_x // 2
    return image[top : top + image.shape[0] - cut_y, left : left + image.shape[1] - cut_x].copy()


def _table(image: Image, gain: float, middle: float) -> Image:
    levels = np.clip(np.rint((np.arange(256) - middle) * gain + middle), 0, 255)
    return _uint8(cv2.LUT(image, levels.astype(np.uint8)))


def _saturation(image: Image) -> Image:
    return _uint8(cv2.addWeighted(image, 1.4, _grey(image), -0.4, 0))


def _blur(image: Image) -> Image:
    sigma = BLUR_SIGMA_AT_256 * min(image.shape[:2]) / 256
    return _uint8(cv2.GaussianBlur(image, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE))


def _grey(image: Image) -> Image:
    return _uint8(cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB))


def _caption(image: Image) -> Image:
    """White text on a black bar over the bottom fourteenth."""
    out = image.copy()
    height, width = out.shape[:2]
    bar = max(4, height // 14)
    out[height - bar :] = 16
    # The Hershey face stands 22 px tall at scale 1.
    scale = 0.6 * bar / 22
    text_width = cv2.getTextSize(CAPTION, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)[0][0]
    at = (max(1, (width - text_width) // 2), height - max(1, bar // 4))
    cv2.putText(out, CAPTION, at, cv2.FONT_HERSHEY_SIMPLEX, scale, (240, 240, 240), 1, cv2.LINE_AA)
    return out


def _rotate(image: Image, degrees: float) -> Image:
    height, width = image.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return _uint8(cv2.warpAffine(image, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _letterbox(image: Image) -> Image:
    """Black bars painted over the top and the bottom, LETTERBOX_PERCENT of the height each; the frame keeps its size.

    Bars down to a full 16:9 would hide 44 % of a square picture, which is no longer a near-duplicate by any hash.
    """
    out = image.copy()
    bar = max(1, (out.shape[0] * LETTERBOX_PERCENT + 50) // 100)
    out[:bar] = 0
    out[-bar:] = 0
    return out


def _mirror(image: Image) -> Image:
    return _uint8(cv2.flip(image, 1))


def _stretch(image: Image, percent: int) -> Image:
    """Wider, and no taller."""
    height, width = image.shape[0], (image.shape[1] * percent + 50) // 100
    return _uint8(cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR))


def _border(image: Image, percent: int) -> Image:
    """A white bar added at the left: the picture is whole, and no longer in the middle."""
    bar = max(1, (image.shape[1] * percent + 50) // 100)
    return _uint8(cv2.copyMakeBorder(image, 0, 0, bar, 0, cv2.BORDER_CONSTANT, value=(255, 255, 255)))


def _sticker(image: Image, percent: int) -> Image:
    """An opaque chequered patch over so much of the area, right of the middle and above it."""
    out = image.copy()
    height, width = (max(1, round(side * (percent / 100) ** 0.5)) for side in out.shape[:2])
    top, left = (out.shape[0] - height) // 5, (out.shape[1] - width) * 4 // 5
    # Six squares either way: coarse enough to be seen at the size that hashes look at.
    rows, columns = np.arange(height)[:, None] * 6 // height, np.arange(width) * 6 // width
    dark = ((rows + columns) % 2 == 1)[..., None]
    out[top : top + height, left : left + width] = np.where(dark, (200, 24, 40), (250, 220, 40))
    return out


def _gamma(image: Image, gamma: float) -> Image:
    levels = np.rint(255 * (np.arange(256) / 255) ** gamma).astype(np.uint8)
    return _uint8(cv2.LUT(image, levels))


def _crop_jpeg_caption(image: Image) -> Image:
    return _caption(_jpeg(_crop(image, percent=10), quality=40))


CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "jpeg60": functools.partial(_jpeg, quality=60),
        "jpeg30": functools.partial(_jpeg, quality=30),
        "webp": _webp,
        "png": _png,
        "scale75": functools.partial(_scale, percent=75),
        "scale50": functools.partial(_scale, percent=50),
        "crop2": functools.partial(_crop, percent=2),
        "crop5": functools.partial(_crop, percent=5),
        "crop10": functools.partial(_crop, percent=10),
        "bright_up": functools.partial(_table, gain=1.15, middle=0),
        "bright_down": functools.partial(_table, gain=0.85, middle=0),
        "contrast": functools.partial(_table, gain=1.25, middle=128),
        "saturation": _saturation,
        "blur": _blur,
        "grey": _grey,
        "caption": _caption,
        "rotate2": functools.partial(_rotate, degrees=2.0),
        "letterbox": _letterbox,
        "mirror": _mirror,
    }
)
"""Every change by name, in fixed order. Each takes and gives uint8[H, W, 3] RGB."""

HARD_CHANGES: Mapping[str, Change] = MappingProxyType(
    {
        "crop20": functools.partial(_crop, percent=21),  # by _crop's approximation, 20 % of the area
        "rotate5": functools.partial(_rotate, degrees=5.0),
        "aspect115": functools.partial(_stretch, percent=115),
        "border10": functools.partial(_border, percent=10),
        "sticker15": functools.partial(_sticker, percent=15),
        "jpeg10": functools.partial(_jpeg, quality=10),
        "gamma16": functools.partial(_gamma, gamma=1.6),
        "crop_jpeg_caption": _crop_jpeg_caption,
    }
)
"""Heavier changes by name, in fixed order: to measure with, never planted in a run."""
