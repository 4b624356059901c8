"""Files of every kind come out right or with a reason, and nothing else ever comes out."""

import struct
import tracemalloc
import zlib
from io import BytesIO

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_images import (
    COLOURS,
    EXIF_FORMATS,
    EXPECTED,
    HEIGHT,
    KNOWN,
    WIDTH,
    exif_file,
    file_of,
    odd_files,
    png_file,
    quarters,
)
from PIL import Image, ImageOps
from pydantic import ValidationError

from manifests.images import (
    Halvings,
    Header,
    ImageError,
    Limits,
    centre_square,
    decode_rgb,
    encode_image,
    mean_deviation,
    read_header,
    resize_area,
    sharpness,
)
from manifests.schema import Reason

Pixels = npt.NDArray[np.uint8]
FILES = odd_files()
GOOD = sorted(name for name, reason in EXPECTED.items() if reason is None)
SMALL = Limits(max_bytes=1_000_000, max_pixels=1_000_000)


def decoded(data: bytes, limits: Limits = SMALL) -> Pixels:
    return decode_rgb(data, read_header(data, limits))


def outcome(data: bytes) -> Reason | tuple[int, ...]:
    """The shape of the picture, or why there is none; any other exception fails the test."""
    try:
        header = read_header(data, SMALL)
        image = decode_rgb(data, header)
    except ImageError as error:
        return error.reason
    assert image.dtype == np.uint8
    assert image.shape == (header.height, header.width, 3)
    return image.shape


def smooth(height: int, width: int, seed: int = 0) -> Pixels:
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("name", sorted(name for name, reason in EXPECTED.items() if reason is not None))
def test_bad_file_gives_its_reason(name: str) -> None:
    with pytest.raises(ImageError) as caught:
        decoded(FILES[name])
    assert caught.value.reason is EXPECTED[name]
    assert len(str(caught.value)) > 5


@pytest.mark.parametrize("name", GOOD)
def test_odd_file_comes_out_right(name: str) -> None:
    header = read_header(FILES[name], SMALL)
    image = decode_rgb(FILES[name], header)
    assert (header.width, header.height) == (WIDTH, HEIGHT)
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert image.dtype == np.uint8
    middles = image[HEIGHT // 4 :: HEIGHT // 2, WIDTH // 4 :: WIDTH // 2].reshape(4, 3).astype(int)
    tolerance = 4 if name.endswith((".jpg", "plain.webp", ".gif")) else 1
    assert np.abs(middles - KNOWN[name]).max() <= tolerance
    # The whole quarter, not its middle alone: half-decoded pictures fail here.
    assert np.abs(image[HEIGHT // 2 + 4 :, WIDTH // 2 + 4 :].astype(int) - KNOWN[name][3]).max() <= tolerance + 2


def test_headers_say_format_by_content_and_animation() -> None:
    formats = {name: read_header(FILES[name], SMALL).format for name in GOOD}
    assert formats["png_named.jpg"] == "png"
    assert {formats[name] for name in ("grey16.pgm", "plain.ppm")} == {"ppm"}
    assert formats["plain.tif"] == "tiff"
    animated = {name for name in GOOD if read_header(FILES[name], SMALL).animated}
    assert animated == {"animated.png", "animated.webp", "animated.gif"}


def test_plain_says_which_files_opencv_decodes_right() -> None:
    plain = {name for name in GOOD if read_header(FILES[name], SMALL).plain}
    turned = {f"exif_{turn}.{ending}" for ending in EXIF_FORMATS for turn in range(1, 9)}
    simple = {"plain.jpg", "png_named.jpg", "grey.jpg", "plain.png", "grey.png", "plain.webp", "lossless.webp"}
    assert plain == simple | turned


@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    mode=st.sampled_from(["RGB", "L", "RGBA", "LA", "P", "1"]),
    image_format=st.sampled_from(["JPEG", "PNG", "WEBP"]),
    turn=st.integers(0, 9),
    option=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=250, deadline=None)
def test_own_headers_and_plain_decoding_agree_with_pillow(
    width: int, height: int, mode: str, image_format: str, turn: int, option: bool, seed: int
) -> None:
    image = Image.fromarray(smooth(height, width, seed)).convert(mode)
    if image_format == "JPEG" and mode not in ("RGB", "L"):
        image = image.convert("RGB")
    exif = Image.Exif()
    if turn:
        exif[0x010F] = "Some maker"
        exif[0x0112] = turn
    options: dict[str, object] = {"exif": exif.tobytes()} if turn else {}
    options |= {"JPEG": {"progressive": option}, "PNG": {}, "WEBP": {"lossless": option}}[image_format]
    data = file_of(image, image_format, **options)
    header = read_header(data, SMALL)
    with Image.open(BytesIO(data)) as opened:
        upright = ImageOps.exif_transpose(opened)
        assert (header.width, header.height) == upright.size
        assert header.format == str(opened.format).lower()
        assert header.plain == (opened.mode in ("RGB", "RGBX", "L"))
        if header.plain:
            difference = np.abs(decode_rgb(data, header).astype(int) - np.asarray(upright.convert("RGB")))
            assert difference.max() <= (3 if image_format == "JPEG" else 1)


@given(data=st.binary(max_size=300), start=st.sampled_from([b"", *{data[:40] for data in FILES.values()}]))
@settings(max_examples=400, deadline=None)
def test_random_bytes_give_a_picture_or_an_image_error(data: bytes, start: bytes) -> None:
    assert outcome(start + data) is not Reason.EMPTY or not start + data


@given(
    name=st.sampled_from(sorted(set(EXPECTED) - {"bomb.png"})),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=4),
    kept=st.one_of(st.just(1.0), st.floats(0, 1)),
)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_damaged_files_give_a_picture_or_an_image_error(
    name: str, changes: list[tuple[float, int]], kept: float
) -> None:
    data = bytearray(FILES[name][: int(len(FILES[name]) * kept)])
    for place, value in changes:
        if data:
            # Headers are short and bodies long: half of the changes go to the first bytes.
            at = int(place * 2 * min(len(data), 120)) if place < 0.5 else int(place * len(data))
            data[min(at, len(data) - 1)] = value
    assert outcome(bytes(data)) is not Reason.UNREADABLE


@pytest.mark.parametrize("name", ["plain.jpg", "grey.jpg", "plain.png", "plain.webp", "alpha.webp", "exif_6.jpg"])
def test_every_truncation_is_corrupt(name: str) -> None:
    data = FILES[name]
    for size in range(12, len(data) - 1, 7):
        with pytest.raises(ImageError) as caught:
            decoded(data[:size])
        assert caught.value.reason is Reason.CORRUPT, size


def test_rubbish_after_the_end_does_no_harm() -> None:
    for name in ("plain.jpg", "plain.png", "plain.webp", "exif_6.webp"):
        assert np.array_equal(decoded(FILES[name] + b"\0" * 500), decoded(FILES[name]))


def test_every_flipped_byte_of_png_pixels_is_noticed() -> None:
    data = file_of(Image.fromarray(smooth(16, 16)), "PNG")
    start = data.index(b"IDAT")
    for at in range(start, len(data) - 16, 5):
        with pytest.raises(ImageError) as caught:
            decoded(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert caught.value.reason is Reason.CORRUPT


@pytest.mark.parametrize("image_format", ["PNG", "WEBP", "JPEG", "GIF", "BMP", "PPM", "TIFF"])
def test_limits_hold_to_the_pixel_and_byte(image_format: str) -> None:
    data = file_of(quarters(COLOURS), image_format)
    assert read_header(data, Limits(max_pixels=WIDTH * HEIGHT, max_bytes=len(data))).width == WIDTH
    with pytest.raises(ImageError, match=str(WIDTH * HEIGHT - 1)) as caught:
        read_header(data, Limits(max_pixels=WIDTH * HEIGHT - 1))
    assert caught.value.reason is Reason.TOO_MANY_PIXELS
    with pytest.raises(ImageError, match=str(len(data) - 1)) as caught:
        read_header(data, Limits(max_bytes=len(data) - 1))
    assert caught.value.reason is Reason.TOO_MANY_BYTES


def test_bombs_are_refused_from_their_first_bytes() -> None:
    bombs = [
        FILES["bomb.png"],
        FILES["bomb.png"][:33],
        b"GIF89a"
        + struct.pack("<HHBBB", 9, 9, 0, 0, 0)
        + b","
        + struct.pack("<HHHHBB", 0, 0, 12000, 12000, 0, 8)
        + b"\0",
        b"P6 60000 60000 255\n" + bytes(100),
        b"BM" + struct.pack("<IIIIiiHHIIIIII", 154, 0, 54, 40, 60000, 60000, 1, 24, 0, 0, 0, 0, 0, 0) + bytes(100),
        b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<II", 10, 0) + b"\xff\x3f\0\xff\x3f\0" + bytes(8),
    ]
    tracemalloc.start()
    for bomb in bombs:
        with pytest.raises(ImageError) as caught:
            read_header(bomb, Limits())
        assert caught.value.reason is Reason.TOO_MANY_PIXELS
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_raised_limit_lets_large_pictures_in() -> None:
    data = b"P6 20000 20000 255\n" + bytes(100)
    assert read_header(data, Limits(max_pixels=400_000_000)).width == 20_000


def test_large_jpeg_comes_reduced_but_never_below_twice_the_side() -> None:
    picture = smooth(600, 801) // 2 + 60  # away from 0 and 255: clipping there commutes with no reduction
    data = file_of(Image.fromarray(picture), "JPEG", quality=95)
    header = read_header(data, SMALL)
    for side, shape in ((37, (75, 101)), (64, (150, 201)), (75, (150, 201)), (76, (300, 401)), (151, (600, 801))):
        image = decode_rgb(data, header, side)
        assert image.shape == (*shape, 3)
        expected = cv2.resize(picture, shape[::-1], interpolation=cv2.INTER_AREA)
        assert np.abs(image[1:-1, 1:-1].astype(int) - expected[1:-1, 1:-1]).max() <= 8
    turned = exif_file(Image.fromarray(picture), "JPEG", 6)
    assert decode_rgb(turned, read_header(turned, SMALL), 64).shape == (150, 201, 3)


def test_decoded_size_must_be_the_headers() -> None:
    header = read_header(FILES["plain.png"], SMALL)
    wrong = Header(header.format, header.width + 1, header.height, header.animated, header.plain)
    with pytest.raises(ImageError, match="its header says"):
        decode_rgb(FILES["plain.png"], wrong)


@pytest.mark.parametrize(
    ("bits", "photometric", "samples", "greys"),
    [(12, 1, "ff0800", (255, 128)), (16, 1, "00ff0080", (255, 128)), (16, 0, "00ff0080", (0, 127))],
)
def test_grey_tiff_is_scaled_by_its_own_range(bits: int, photometric: int, samples: str, greys: tuple[int]) -> None:
    pixels = bytes.fromhex(samples)
    tags = {256: 2, 257: 1, 258: bits, 259: 1, 262: photometric, 273: 200, 277: 1, 278: 1, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in tags.items())
    data = (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries).ljust(200, b"\0") + pixels
    assert decoded(data)[0].tolist() == [[grey] * 3 for grey in greys]


def test_sixteen_bit_grey_with_a_transparent_value_is_white_there() -> None:
    rows = b"\0" + struct.pack(">HHH", 0x1200, 0x1234, 0xFFFF)
    data = png_file(3, 1, 16, 0, [(b"tRNS", b"\x12\x34"), (b"IDAT", zlib.compress(rows))])
    assert decoded(data)[0, :, 0].tolist() == [0x12, 255, 255]


def test_exif_that_makes_no_sense_turns_nothing() -> None:
    picture = quarters(COLOURS)
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"Exif\0\0rubbish"):
        assert decoded(file_of(picture, "JPEG", exif=exif)).shape == (HEIGHT, WIDTH, 3)


def test_centre_square_is_a_view_of_the_middle() -> None:
    image = np.arange(5 * 9 * 3, dtype=np.uint8).reshape(5, 9, 3)
    square = centre_square(image)
    assert np.array_equal(square, image[:, 2:7])
    assert np.shares_memory(square, image)
    assert centre_square(image.transpose(1, 0, 2)).shape == (5, 5, 3)


def test_resize_area_is_the_mean_of_blocks() -> None:
    image = np.random.default_rng(1).integers(0, 256, (96, 160, 3), np.uint8)
    blocks = image.reshape(32, 3, 32, 5, 3).mean(axis=(1, 3))
    assert np.abs(resize_area(Halvings(image), 32) - blocks).max() <= 0.5001
    assert resize_area(Halvings(image[:7, :5]), 32).shape == (32, 32, 3)


def test_resize_area_by_halving_is_the_mean_but_for_rounding() -> None:
    image = np.random.default_rng(2).integers(0, 256, (256, 512, 3), np.uint8)
    blocks = image.reshape(64, 4, 64, 8, 3).mean(axis=(1, 3))
    assert np.abs(resize_area(Halvings(image), 64) - blocks).max() <= 1.5


def test_png_loses_nothing_and_repeats_its_bytes() -> None:
    image = smooth(64, 64)
    data = encode_image(image, "png")
    assert np.array_equal(np.asarray(Image.open(BytesIO(data))), image)
    assert encode_image(image.copy(), "png") == data


def test_jpeg_quality_is_obeyed_and_colour_kept_sharp() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, ::2] = (255, 0, 0)
    image[:, 1::2] = (0, 130, 0)  # columns that halved chroma would mix
    best, worse = encode_image(image, "jpeg"), encode_image(image, "jpeg", jpeg_quality=50)
    assert len(worse) < len(best)
    assert np.abs(np.asarray(Image.open(BytesIO(best))).astype(int) - image).mean() < 8
    assert encode_image(image.copy(), "jpeg") == best


def test_mean_and_deviation_of_known_pictures() -> None:
    assert mean_deviation(np.full((8, 8, 3), 77, np.uint8)) == (77.0, 0.0)
    halves = np.zeros((8, 8, 3), np.uint8)
    halves[:4] = 200
    assert mean_deviation(halves) == (100.0, 100.0)


def test_sharpness_falls_with_blur_and_is_0_where_flat() -> None:
    image = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    sharp = [sharpness(np.asarray(cv2.GaussianBlur(image, (0, 0), s), np.uint8)) for s in (0.5, 1.0, 2.0, 4.0)]
    assert sharp == sorted(sharp, reverse=True)
    assert sharpness(np.full((9, 9, 3), 50, np.uint8)) == 0
    dot = np.zeros((9, 9, 3), np.uint8)
    dot[4, 4] = 100  # Laplacian -400 once and 100 four times, over 81 pixels
    assert sharpness(dot) == pytest.approx((400**2 + 4 * 100**2) / 81)


def test_limits_refuse_nonsense() -> None:
    with pytest.raises(ValidationError):
        Limits(max_pixels=0)
    with pytest.raises(ValidationError):
        Limits.model_validate({"max_pixel": 5})
