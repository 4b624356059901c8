"""What an image file says of itself, read without decoding a pixel, and held against limits.

JPEG, PNG and WebP by parsers of their own, which take 2 to 5 us; Pillow reads the headers of the rest, and takes 17.
"""

import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from pydantic import BaseModel, ConfigDict, Field

from manifests.schema import Reason


class Limits(BaseModel):
    """How large a file may be before it is refused undecoded."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_bytes: int = Field(64 * 2**20, gt=0, description="Largest file that is read, in bytes.")
    max_pixels: int = Field(100_000_000, gt=0, description="Largest width x height that is decoded.")


class ImageError(Exception):
    """A file that gives no picture: `reason` for the ledger, the message says what is wrong with it."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Header:
    """What a file says of itself. Width and height are those after EXIF rotation."""

    format: str
    width: int
    height: int
    animated: bool
    plain: bool  # cv2.imdecode gets it right; the others need Pillow
    complete: bool = True  # its end marker is there, its declared length too
    orientation: int = 1  # EXIF, 1 to 8: still to be undone after decoding


def read_header(data: bytes, limits: Limits) -> Header:
    """The header of a JPEG, PNG, WebP, GIF, BMP, TIFF or PPM file, known by its content. No pixel is decoded.

    Raises:
        ImageError: EMPTY, TOO_MANY_BYTES, TOO_MANY_PIXELS, NOT_AN_IMAGE, or CORRUPT (a broken header, no pixels).
    """
    if not data:
        raise ImageError(Reason.EMPTY, "0 bytes")
    if len(data) > limits.max_bytes:
        raise ImageError(Reason.TOO_MANY_BYTES, f"{len(data)} bytes, limit max_bytes={limits.max_bytes}")
    image_format = _format_of(data)
    if image_format is None:
        raise ImageError(Reason.NOT_AN_IMAGE, f"starts with {data[:12]!r}, which no known image format does")
    try:
        own_reader = _OWN_READERS.get(image_format)
        header = own_reader(data) if own_reader else _read_with_pillow(data, image_format)
    except (IndexError, ValueError, struct.error) as error:
        raise ImageError(Reason.CORRUPT, f"broken {image_format} header: {error}") from error
    size = f"{header.width}x{header.height}"
    if header.width < 1 or header.height < 1:
        raise ImageError(Reason.CORRUPT, f"{size} has no pixels")
    if header.width * header.height > limits.max_pixels:
        raise ImageError(Reason.TOO_MANY_PIXELS, f"{size}, limit max_pixels={limits.max_pixels}")
    return header


_BMP_HEADER_SIZES = (12, 40, 52, 56, 64, 108, 124)
_PILLOW_FILES: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "gif": GifImagePlugin.GifImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "ppm": PpmImagePlugin.PpmImageFile,
}
_EIGHT_BIT_MODES = frozenset({"1", "L", "P", "LA", "La", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr"})
SIXTEEN_BIT_MODES = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def _format_of(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "tiff"
    # Two letters are not much of a signature, and text may start with them: look further.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    if data[:1] == b"P" and data[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6") and data[2:3].isspace():
        return "ppm"
    return None


def _read_jpeg(data: bytes) -> Header:
    width = height = orientation = 0
    plain = False
    at = 2
    while True:
        at = data.index(b"\xff", at)  # as libjpeg does, over any rubbish between segments
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # stuffing, fill bytes, markers without a body
            at += 1 if marker == 0xFF else 2
            continue
        if marker in (0xD9, 0xDA):  # the entropy-coded data start here
            break
        (length,) = struct.unpack_from(">H", data, at + 2)
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            precision, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            plain = marker <= 0xC2 and precision == 8 and components in (1, 3)
        elif marker == 0xE1 and not orientation and data[at + 4 : at + 10] == b"Exif\0\0":
            orientation = _exif_orientation(data[at + 10 : at + 2 + length])
        at += 2 + length
    complete = data.rfind(b"\xff\xd9") > at  # an embedded preview has an end marker too, so look behind the header
    return _header("jpeg", width, height, plain=plain, complete=complete, orientation=orientation or 1)


def _read_png(data: bytes) -> Header:
    if data[12:16] != b"IHDR":
        raise ValueError("no IHDR chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", data, 16)
    kinds = {kind: (start, stop) for kind, start, stop in png_chunks(data)}
    start, stop = kinds.get(b"eXIf", (0, 0))
    animated = b"acTL" in kinds
    plain = depth == 8 and colour in (0, 2) and not animated and b"tRNS" not in kinds
    orientation = _exif_orientation(data[start:stop])
    complete = b"IEND" in kinds
    return _header("png", width, height, animated=animated, plain=plain, complete=complete, orientation=orientation)


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and stop of the body of each whole chunk."""
    at = 8
    while (stop := at + 8 + int.from_bytes(data[at : at + 4], "big")) + 4 <= len(data):
        kind = data[at + 4 : at + 8]
        yield kind, at + 8, stop
        if kind == b"IEND":
            return
        at = stop + 4


def _read_webp(data: bytes) -> Header:
    complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    kind = data[12:16]
    if kind == b"VP8 ":
        start_code, width, height = struct.unpack_from("<3sHH", data, 23)
        if start_code != b"\x9d\x01\x2a":
            raise ValueError("no VP8 key frame")
        return _header("webp", width & 0x3FFF, height & 0x3FFF, complete=complete)
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise ValueError("no VP8L signature")
        plain = not bits >> 28 & 1  # the bit that says alpha
        return _header("webp", (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, plain=plain, complete=complete)
    if kind != b"VP8X":
        raise ValueError(f"first chunk is {kind!r}")
    flags = data[20]
    width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
    animated, has_exif, has_alpha = (bool(flags & bit) for bit in (0x02, 0x08, 0x10))
    orientation = 1
    at = 12
    while has_exif and at + 8 <= len(data):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            orientation = _exif_orientation(data[at + 8 : at + 8 + size])
            break
        at += 8 + size + size % 2
    plain = not (animated or has_alpha)
    return _header("webp", width, height, animated=animated, plain=plain, complete=complete, orientation=orientation)


def _exif_orientation(exif: bytes) -> int:
    """1 to 8; 1 where there is none or it makes no sense, as viewers do."""
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (table,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, table)
        for at in range(table + 2, table + 2 + 12 * entries, 12):
            tag, _, _, value = struct.unpack_from(order + "HHIH", exif, at)
            if tag == 0x0112:
                return value if 1 <= value <= 8 else 1
    except struct.error:
        return 1
    return 1


def _header(
    image_format: str,
    width: int,
    height: int,
    *,
    animated: bool = False,
    plain: bool = True,
    complete: bool = True,
    orientation: int = 1,
) -> Header:
    if orientation >= 5:  # a quarter turn
        width, height = height, width
    return Header(image_format, width, height, animated, plain, complete, orientation)


_OWN_READERS: dict[str, Callable[[bytes], Header]] = {"jpeg": _read_jpeg, "png": _read_png, "webp": _read_webp}


def _read_with_pillow(data: bytes, image_format: str) -> Header:
    with opened(data, image_format) as image:
        known = image.mode in _EIGHT_BIT_MODES | SIXTEEN_BIT_MODES or (image_format == "ppm" and image.mode == "I")
        if not known:
            detail = f"{image_format} of mode {image.mode} has no known range of values; convert it to 8 or 16 bits"
            raise ImageError(Reason.NOT_AN_IMAGE, detail)
        width, height = image.size
        animated = isinstance(image, GifImagePlugin.GifImageFile) and image.is_animated
        return _header(image_format, width, height, animated=animated, plain=False)


@contextmanager
def opened(data: bytes, image_format: str) -> Iterator[ImageFile.ImageFile]:
    """The file opened by Pillow's reader of this one format: `Image.open` would warn of sizes by limits of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with _PILLOW_FILES[image_format](BytesIO(data)) as image:
                yield image
        except ImageError:
            raise
        except Image.DecompressionBombError as error:
            raise ImageError(Reason.TOO_MANY_PIXELS, str(error)) from error
        except Exception as error:  # damaged files make Pillow raise nearly anything
            raise ImageError(Reason.CORRUPT, f"{type(error).__name__}: {error}") from error
