"""Bytes of a file -> RGB pixels, and what is done with pixels: crops, area resizing, encoding, simple measurements.

The header is read first and held against limits, so that nothing large is ever decoded by surprise. Plain files, which
are nearly all of them, go through OpenCV; the odd ones (alpha, palette, CMYK, 16 bits, animated ...) through Pillow.
ICC profiles are ignored. Callers that run many processes set `cv2.setNumThreads(1)`: OpenCV's own threads would only
get in each other's way.
"""

import zlib
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFile, TiffImagePlugin

from manifests.headers import SIXTEEN_BIT_MODES, Header, ImageError, Limits, opened, png_chunks, read_header
from manifests.schema import Reason

__all__ = [
    "Halvings",
    "Header",
    "ImageError",
    "Limits",
    "centre_square",
    "decode_rgb",
    "encode_image",
    "mean_deviation",
    "read_header",
    "resize_area",
    "sharpness",
]

Pixels = npt.NDArray[np.uint8]


def decode_rgb(data: bytes, header: Header, smallest_side_px: int | None = None) -> Pixels:
    """The picture, upright, over white where it is transparent, the first frame where it is animated.

    image: uint8[H, W, 3], RGB, 0..255. `smallest_side_px` is the shorter side that the caller will reduce the picture
    to: a JPEG much larger than that comes at 1/2, 1/4 or 1/8 of its size, never below twice that side.

    Raises:
        ImageError: CORRUPT, for truncated or damaged files.
    """
    if not header.complete:
        raise ImageError(Reason.CORRUPT, f"the {header.format} file is cut short")
    if header.format == "png":
        _check_png_sums(data)
    reduction = 1
    if header.plain and header.format == "jpeg" and smallest_side_px is not None:
        shorter = min(header.width, header.height)
        reduction = next((by for by in (8, 4, 2) if shorter // by >= 2 * smallest_side_px), 1)
    image = _decode_plain(data, reduction) if header.plain else _decode_with_pillow(data, header.format)
    image = _upright(image, header.orientation)
    expected = (-(-header.height // reduction), -(-header.width // reduction), 3)
    if image.shape != expected:
        raise ImageError(Reason.CORRUPT, f"decodes to {image.shape}, its header says {expected}")
    return image


def centre_square(image: Pixels) -> Pixels:
    """The largest square in the middle of `image: uint8[H, W, 3]`, as a view."""
    height, width = image.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]


class Halvings:
    """A picture, its half, its quarter ... by area, each made when it is first asked for, and then kept.

    The crop and the thumbs of a picture begin with the same ones. OpenCV halves faster than it reduces by any other
    ratio. A side that is odd gets its last row or column twice, so its half is half a pixel wider than its true part.
    """

    def __init__(self, image: Pixels) -> None:
        """`image`: uint8[H, W, 3]."""
        self._steps = [image]

    def reduced(self, times: int) -> Pixels:
        """uint8[ceil(H / 2^times), ceil(W / 2^times), 3]: the picture, halved so many times."""
        while len(self._steps) <= times:
            self._steps.append(_halved(self._steps[-1]))
        return self._steps[times]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of the picture."""
        height, width = self._steps[0].shape[:2]
        return height, width


def resize_area(picture: Halvings, size_px: int) -> Pixels:
    """`picture` squeezed to uint8[size_px, size_px, 3], each pixel the mean of the area it covers.

    Sides that are even multiples are halved first: the same means, but for rounding at each, in a third of the time
    (256 to 64 px: 21 us for 58).
    """
    times = 0
    while all(side % (size_px << (times + 1)) == 0 for side in picture.shape):
        times += 1
    image = picture.reduced(times)
    if image.shape[:2] == (size_px, size_px):
        return image
    return _uint8(cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_AREA))


def encode_image(image: Pixels, image_format: Literal["png", "jpeg"], jpeg_quality: int = 95) -> bytes:
    """`image: uint8[H, W, 3], RGB` as a PNG (lossless) or JPEG file: same pixels, same bytes."""
    settings = _PNG_SETTINGS if image_format == "png" else [*_JPEG_SETTINGS, cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]
    _, encoded = cv2.imencode(f".{image_format}", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), settings)
    return encoded.tobytes()


def mean_deviation(image: Pixels) -> tuple[float, float]:
    """Mean and standard deviation, 0..255, of the luma of `image: uint8[H, W, 3], RGB`."""
    mean, deviation = cv2.meanStdDev(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    return float(mean[0, 0]), float(deviation[0, 0])


def sharpness(image: Pixels) -> float:
    """Variance of the Laplacian of the luma of `image: uint8[H, W, 3], RGB`: low where it is blurred."""
    edges = cv2.Laplacian(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.CV_16S)
    return float(cv2.meanStdDev(edges)[1][0, 0]) ** 2


# A 64x64 bedroom by RLE with Paeth: 169 us, 7,716 bytes; level 1 alone: 269 us, 7,956; level 9 alone: 554 us, 7,693.
# In this order: OpenCV sets the strategy back when it is given a level.
_PNG_SETTINGS = [
    *(cv2.IMWRITE_PNG_COMPRESSION, 1),
    *(cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_RLE),
    *(cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_PAETH),
]
# Colour at full resolution: at 64 pixels its usual halving shows.
_JPEG_SETTINGS = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]


def _uint8(image: npt.NDArray[np.integer | np.floating]) -> Pixels:
    return np.asarray(image, dtype=np.uint8)


def _halved(image: Pixels) -> Pixels:
    rows, columns = image.shape[:2]
    if rows % 2 or columns % 2:
        image = _uint8(cv2.copyMakeBorder(image, 0, rows % 2, 0, columns % 2, cv2.BORDER_REPLICATE))
    half = ((columns + 1) // 2, (rows + 1) // 2)
    return _uint8(cv2.resize(image, half, interpolation=cv2.INTER_AREA))


def _check_png_sums(data: bytes) -> None:
    for kind, start, stop in png_chunks(data):
        # Capital first letter: a chunk that the pixels depend on.
        if kind[:1].isupper() and zlib.crc32(data[start - 4 : stop]) != int.from_bytes(data[stop : stop + 4], "big"):
            raise ImageError(Reason.CORRUPT, f"checksum of PNG chunk {kind!r} at byte {start - 8} is wrong")


def _decode_plain(data: bytes, reduction: int) -> Pixels:
    flags = {
        1: cv2.IMREAD_COLOR_RGB,
        2: cv2.IMREAD_REDUCED_COLOR_2,
        4: cv2.IMREAD_REDUCED_COLOR_4,
        8: cv2.IMREAD_REDUCED_COLOR_8,
    }[reduction]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        raise ImageError(Reason.CORRUPT, f"OpenCV: {error.err}") from error
    if image is None:
        raise ImageError(Reason.CORRUPT, "its pixels cannot be decoded")
    return _uint8(image if reduction == 1 else cv2.cvtColor(image, cv2.COLOR_BGR2RGB))


def _decode_with_pillow(data: bytes, image_format: str) -> Pixels:
    with opened(data, image_format) as image:
        image.load()
        if image.mode in SIXTEEN_BIT_MODES or image.mode == "I":
            return _from_sixteen_bits(image)
        if image_format == "jpeg" and image.mode == "CMYK" and "adobe" not in image.info:
            # Pillow takes every CMYK JPEG for one of Adobe's, which store ink inverted.
            return np.array(Image.fromarray(255 - np.asarray(image), "CMYK").convert("RGB"))
        if image.has_transparency_data:
            rgba = image.convert("RGBA")
            white = Image.new("RGB", rgba.size, "white")
            white.paste(rgba, mask=rgba.getchannel("A"))
            return np.array(white)
        return np.array(image.convert("RGB"))


def _from_sixteen_bits(image: ImageFile.ImageFile) -> Pixels:
    values = np.asarray(image)
    bits, white_is_zero = 16, False
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
        white_is_zero = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    grey = (values >> (bits - 8)).astype(np.uint8)
    if white_is_zero:  # Pillow minds it for 8 bits only
        grey = 255 - grey
    grey[values == image.info.get("transparency", -1)] = 255
    return _uint8(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB))


def _upright(image: Pixels, orientation: int) -> Pixels:
    """The picture turned as EXIF says: 2, 4, 5 and 7 mirror it, 5 to 8 swap its sides."""
    if orientation in (2, 4):
        return _uint8(cv2.flip(image, 1 if orientation == 2 else 0))
    if orientation in (5, 7):
        transposed = cv2.transpose(image)
        return _uint8(transposed if orientation == 5 else cv2.flip(transposed, -1))
    turns = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return _uint8(cv2.rotate(image, turns[orientation])) if orientation in turns else image
