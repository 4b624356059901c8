"""Odd and broken image files, built in code, and what should become of each."""

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from manifests.schema import Reason

WIDTH, HEIGHT = 96, 64
RED, GREEN, BLUE, YELLOW = (200, 30, 40), (30, 160, 60), (40, 60, 190), (230, 210, 90)
COLOURS = (RED, GREEN, BLUE, YELLOW)
"""Of the quarters of the picture: top left, top right, bottom left, bottom right."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)
GREYS = (10, 90, 170, 250)

EXIF_FORMATS = {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}
# What undoes the turn that EXIF asks for.
_STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

EXPECTED: dict[str, Reason | None] = {
    "empty.jpg": Reason.EMPTY,
    "text.jpg": Reason.NOT_AN_IMAGE,
    "truncated.jpg": Reason.CORRUPT,
    "truncated_preview.jpg": Reason.CORRUPT,
    "header_only.jpg": Reason.CORRUPT,
    "truncated.png": Reason.CORRUPT,
    "truncated.webp": Reason.CORRUPT,
    "truncated.gif": Reason.CORRUPT,
    "bad_checksum.png": Reason.CORRUPT,
    "bomb.png": Reason.TOO_MANY_PIXELS,
    "no_pixels.png": Reason.CORRUPT,
    "float.tif": Reason.NOT_AN_IMAGE,
    "plain.jpg": None,
    "png_named.jpg": None,
    "grey.jpg": None,
    "cmyk.jpg": None,
    "cmyk_not_adobe.jpg": None,
    "ycck.jpg": None,
    "plain.png": None,
    "grey.png": None,
    "one_bit.png": None,
    "grey_alpha.png": None,
    "alpha.png": None,
    "palette.png": None,
    "palette_transparent.png": None,
    "colour_key.png": None,
    "grey16.png": None,
    "grey16_alpha.png": None,
    "rgb16.png": None,
    "animated.png": None,
    "plain.webp": None,
    "lossless.webp": None,
    "alpha.webp": None,
    "animated.webp": None,
    "plain.gif": None,
    "transparent.gif": None,
    "animated.gif": None,
    "plain.bmp": None,
    "plain.ppm": None,
    "grey16.pgm": None,
    "plain.tif": None,
    "grey16.tif": None,
    "turned.tif": None,
    **{f"exif_{turn}.{ending}": None for ending in EXIF_FORMATS for turn in range(1, 9)},
}
"""Why a file gives no picture; None where it comes out right (of the animated ones the first frame)."""


def odd_files() -> dict[str, bytes]:
    """The bytes of each file by its name. Those that come out right show `KNOWN[name]`, each WIDTH x HEIGHT."""
    picture = quarters(COLOURS)
    grey = Image.fromarray(np.asarray(quarters([(v, v, v) for v in GREYS]))[:, :, 0])
    jpeg = file_of(picture, "JPEG", quality=98, subsampling=0)
    png, webp, gif = file_of(picture, "PNG"), file_of(picture, "WEBP", quality=95), file_of(picture, "GIF")
    frames = {"save_all": True, "append_images": [quarters(COLOURS[::-1])], "duration": 100}
    clear = picture.copy()
    clear.putalpha(Image.fromarray(np.asarray(quarters([BLACK, WHITE, BLACK, (128, 128, 128)]))[:, :, 0]))
    cmyk = np.asarray(_cmyk(picture))
    palette = picture.quantize(4)
    red_at = palette.getpixel((0, 0))
    assert isinstance(red_at, int)
    deep = (np.asarray(grey).astype(np.uint16) << 8) | 0x55
    deep_rgb = (np.asarray(picture).astype(np.uint16) << 8) | 0x55
    turned = picture.transpose(_STORED_AS[6])
    preview = Image.Exif()
    preview[0x010E] = "\xff\xd9 in a preview".encode("latin-1")
    with_preview = file_of(picture, "JPEG", exif=preview.tobytes())
    files = {
        "empty.jpg": b"",
        "text.jpg": b"<html><body>404 Not Found</body></html>\n" * 20,
        "truncated.jpg": jpeg[: len(jpeg) * 2 // 3],
        "truncated_preview.jpg": with_preview[:-40],
        "header_only.jpg": jpeg[:30],
        "truncated.png": png[: len(png) * 2 // 3],
        "truncated.webp": webp[: len(webp) * 2 // 3],
        "truncated.gif": gif[: len(gif) - 80],
        "bad_checksum.png": png[:-17] + bytes([png[-17] ^ 0xFF]) + png[-16:],
        "bomb.png": png_file(50_000, 50_000, 8, 2, [(b"IDAT", zlib.compress(bytes(1_000_000)))]),
        "no_pixels.png": png_file(0, HEIGHT, 8, 2, [(b"IDAT", zlib.compress(bytes(HEIGHT)))]),
        "float.tif": file_of(Image.fromarray(np.asarray(grey).astype(np.float32) / 255), "TIFF"),
        "plain.jpg": jpeg,
        "png_named.jpg": png,
        "grey.jpg": file_of(grey, "JPEG", quality=98),
        "cmyk.jpg": file_of(Image.fromarray(cmyk, "CMYK"), "JPEG", quality=98),
        "cmyk_not_adobe.jpg": _without_adobe(file_of(Image.fromarray(255 - cmyk, "CMYK"), "JPEG", quality=98)),
        "ycck.jpg": _ycck(cmyk),
        "plain.png": png,
        "grey.png": file_of(grey, "PNG"),
        "one_bit.png": file_of(grey.point(lambda v: 255 * (v > 128)).convert("1"), "PNG"),
        "grey_alpha.png": file_of(Image.merge("LA", (grey, clear.getchannel("A"))), "PNG"),
        "alpha.png": file_of(clear, "PNG"),
        "palette.png": file_of(palette, "PNG"),
        "palette_transparent.png": file_of(palette, "PNG", transparency=red_at),
        "colour_key.png": file_of(picture, "PNG", transparency=RED),
        "grey16.png": file_of(Image.fromarray(deep), "PNG"),
        "grey16_alpha.png": _png16(4, np.dstack([deep, np.where(deep < 0x2000, 0, 0xFFFF).astype(np.uint16)])),
        "rgb16.png": _png16(2, deep_rgb),
        "animated.png": file_of(picture, "PNG", **frames),
        "plain.webp": webp,
        "lossless.webp": file_of(picture, "WEBP", lossless=True),
        "alpha.webp": file_of(clear, "WEBP", lossless=True, exact=True),
        "animated.webp": file_of(picture, "WEBP", lossless=True, **frames),
        "plain.gif": gif,
        "transparent.gif": file_of(palette, "GIF", transparency=red_at),
        "animated.gif": file_of(picture, "GIF", **frames),
        "plain.bmp": file_of(picture, "BMP"),
        "plain.ppm": file_of(picture, "PPM"),
        "grey16.pgm": b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + deep.astype(">u2").tobytes(),
        "plain.tif": file_of(picture, "TIFF", compression="tiff_lzw"),
        "grey16.tif": file_of(Image.fromarray(deep), "TIFF"),
        "turned.tif": file_of(turned, "TIFF", tiffinfo={0x0112: 6}),
    }
    for ending, image_format in EXIF_FORMATS.items():
        for turn in range(1, 9):
            files[f"exif_{turn}.{ending}"] = exif_file(picture, image_format, turn)
    assert files.keys() == EXPECTED.keys()
    return files


Colours = tuple[tuple[int, int, int], ...]
_OF_GREY: Colours = tuple((v, v, v) for v in GREYS)
_OVER_WHITE: Colours = (WHITE, GREEN, WHITE, (242, 232, 172))
KNOWN: dict[str, Colours] = {name: COLOURS for name, reason in EXPECTED.items() if reason is None} | {
    "grey.jpg": _OF_GREY,
    "grey.png": _OF_GREY,
    "grey16.png": _OF_GREY,
    "grey16.pgm": _OF_GREY,
    "grey16.tif": _OF_GREY,
    "grey16_alpha.png": (WHITE, *_OF_GREY[1:]),
    "one_bit.png": (BLACK, BLACK, WHITE, WHITE),
    "grey_alpha.png": (WHITE, _OF_GREY[1], WHITE, (252, 252, 252)),
    "alpha.png": _OVER_WHITE,
    "alpha.webp": _OVER_WHITE,
    "palette_transparent.png": (WHITE, *COLOURS[1:]),
    "colour_key.png": (WHITE, *COLOURS[1:]),
    "transparent.gif": (WHITE, *COLOURS[1:]),
}
"""The colours in the middle of the quarters of each file that comes out right."""


def quarters(colours: Iterable[tuple[int, int, int]]) -> Image.Image:
    """The picture of four quarters, in these colours."""
    four = np.array(list(colours), np.uint8).reshape(2, 2, 3)
    return Image.fromarray(np.kron(four, np.ones((HEIGHT // 2, WIDTH // 2, 1), np.uint8)))


def file_of(image: Image.Image, image_format: str, **options: object) -> bytes:
    """The image saved by Pillow."""
    file = BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def exif_file(upright: Image.Image, image_format: str, turn: int) -> bytes:
    """A file that shows `upright` once it is turned as its EXIF orientation says."""
    exif = Image.Exif()
    exif[0x0112] = turn
    stored = upright.transpose(_STORED_AS[turn]) if turn in _STORED_AS else upright
    options: dict[str, object] = {"quality": 98, "subsampling": 0} if image_format == "JPEG" else {"lossless": True}
    return file_of(stored, image_format, exif=exif.tobytes(), **options)


def png_file(width: int, height: int, depth: int, colour: int, chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG of these chunks, with IHDR, IEND and right checksums."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (header, *chunks, (b"IEND", b""))
    )
    return b"\x89PNG\r\n\x1a\n" + body


def _png16(colour: int, samples: npt.NDArray[np.uint16]) -> bytes:
    height, width = samples.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    return png_file(width, height, 16, colour, [(b"IDAT", zlib.compress(rows))])


def _cmyk(picture: Image.Image) -> Image.Image:
    """With black ink at work, so that leaving it out shows."""
    ink = 255 - np.asarray(picture).astype(np.int32)
    black = ink.min(axis=2, keepdims=True)
    rest = np.rint(255 * (ink - black) / (255 - black)).astype(np.int32)
    return Image.fromarray(np.dstack([rest, black]).astype(np.uint8), "CMYK")


def _without_adobe(jpeg: bytes) -> bytes:
    at = jpeg.index(b"\xff\xee")
    return jpeg[:at] + jpeg[at + 2 + int.from_bytes(jpeg[at + 2 : at + 4], "big") :]


def _ycck(cmyk: npt.NDArray[np.uint8]) -> bytes:
    """Adobe's inverted CMYK, its colours turned to luma and chroma: Photoshop's usual way."""
    colours = np.asarray(Image.fromarray(np.ascontiguousarray(cmyk[:, :, :3])).convert("YCbCr"))
    stored = np.dstack([colours, 255 - cmyk[:, :, 3]])
    jpeg = file_of(Image.fromarray(255 - stored, "CMYK"), "JPEG", quality=98)  # Pillow inverts what it stores
    transform_at = jpeg.index(b"Adobe") + 11
    return jpeg[:transform_at] + b"\x02" + jpeg[transform_at + 1 :]
