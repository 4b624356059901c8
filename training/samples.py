"""Pictures from a generator, and grids of them."""

import contextlib
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt
import torch

from training.checkpoint import Checkpoint
from training.draws import Stream, by_turns, philox, random_z, with_labels
from training.networks import Discriminator, Generator, reference_statistics
from training.presets import Preset

Images = npt.NDArray[np.uint8]
Statistics = Literal["batch", "standing"]
CHUNK_IMAGES = 128
REFERENCE_IMAGES = 512  # in the batch whose statistics stand
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_FONT_SCALE = 0.4
_LINE_PX = 16
_MARGIN_PX = 4


def load_generator(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Generator:
    """The generator of a checkpoint, in evaluation mode."""
    generator = Generator(Preset.model_validate(checkpoint.preset))
    generator.load_state_dict(checkpoint.generator)
    generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator.eval()


def load_discriminator(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Discriminator:
    """The discriminator of a checkpoint, in evaluation mode."""
    discriminator = Discriminator(Preset.model_validate(checkpoint.preset))
    discriminator.load_state_dict(checkpoint.discriminator)
    discriminator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return discriminator.eval()


def fixed_z(
    preset: Preset,
    seed: int,
    images: int,
    stream: Stream = Stream.GRID,
    labels: npt.NDArray[np.int64] | None = None,
) -> npt.NDArray[np.float32]:
    """The same latent vectors whenever the seed is the same; the first ones don't depend on how many are asked for.

    labels: int64[images], where the preset has classes; without them each class has its turn: 0, 1, 2 ...

    Returns:
        z: float32[images, latent_dim]: where there are classes, each with its one-hot label after it.
    """
    return latents(preset, philox(seed, stream), images, labels)


def latents(
    preset: Preset, bits: np.random.Philox, images: int, labels: npt.NDArray[np.int64] | None = None
) -> npt.NDArray[np.float32]:
    """What the preset's generator takes for `images` pictures, drawn from `bits`: see `fixed_z`."""
    z = random_z(bits, images, preset.z_dim, preset.z_distribution)
    if not preset.classes:
        return z
    return with_labels(z, by_turns(images, preset.classes) if labels is None else labels, preset.classes)


def to_pixels(images: torch.Tensor) -> Images:
    """images: float32[N, C, H, W], -1..1 -> uint8[N, H, W, C], RGB or grey, rounded."""
    scaled = images.add(1.0).mul(127.5).round().clamp(0, 255)
    return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def generate(
    generator: Generator, z: npt.NDArray[np.float32], statistics: Statistics = "batch", seed: int = 0
) -> Images:
    """Pictures of latent vectors.

    With `batch` statistics, batch norm uses each chunk's own mean and variance, so a picture depends, a little, on the
    others in its chunk. Chunks are always of 128: z[0:128], z[128:256], ..., the last filled up with z drawn from seed
    0 whose pictures are left out. So the same array z gives the same pictures. With `standing` statistics it uses those
    of one batch of 512 z of the seed, so a picture depends on its own z alone.

    z: float32[N, latent_dim] -> images: uint8[N, size_px, size_px, C], RGB or grey.

    Source: Radford et al. 2016, the authors' code, which uses batch statistics.
    """
    weight = next(generator.parameters())
    fill = fixed_z(generator.preset, 0, -len(z) % CHUNK_IMAGES, Stream.FILL)
    whole = torch.from_numpy(np.concatenate([z, fill])).to(weight)
    with contextlib.ExitStack() as stack:
        if statistics == "standing":
            reference = fixed_z(generator.preset, seed, REFERENCE_IMAGES, Stream.FILL)
            stack.enter_context(reference_statistics(generator, torch.from_numpy(reference).to(weight)))
        images = np.concatenate([to_pixels(generator(chunk)) for chunk in torch.split(whole, CHUNK_IMAGES)])
    return images[: len(z)]


def grid(images: Images, columns: int, gap_px: int = 2) -> Images:
    """Pictures side by side, row by row, on white.

    images: uint8[N, H, W, C], RGB or grey -> picture: uint8[rows * (H + gap) + gap, columns * (W + gap) + gap, C].
    """
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    shape = (rows * (height + gap_px) + gap_px, columns * (width + gap_px) + gap_px, channels)
    picture = np.full(shape, 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top = gap_px + place // columns * (height + gap_px)
        left = gap_px + place % columns * (width + gap_px)
        picture[top : top + height, left : left + width] = image
    return picture


def labelled(picture: Images, text: str) -> Images:
    """A picture with words on a white strip above it, in as many lines as its width asks for.

    A word wider than the picture is drawn smaller. The picture itself is unchanged below the strip.

    picture: uint8[H, W, C], RGB or grey -> uint8[H + strip, W, C].
    """
    _, width, channels = picture.shape
    lines = _wrapped(text, width - 2 * _MARGIN_PX)
    strip = np.full((len(lines) * _LINE_PX + _MARGIN_PX, width, channels), 255, dtype=np.uint8)
    for row, line in enumerate(lines):
        scale = _FONT_SCALE * min(1.0, (width - 2 * _MARGIN_PX) / max(_text_px(line), 1))
        place = (_MARGIN_PX, (row + 1) * _LINE_PX - _MARGIN_PX)
        cv2.putText(strip, line, place, _FONT, scale, (0,) * channels, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def _wrapped(text: str, width_px: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and _text_px(f"{lines[-1]} {word}") <= width_px:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _text_px(text: str) -> int:
    return int(cv2.getTextSize(text, _FONT, _FONT_SCALE, 1)[0][0])


def png(picture: Images) -> bytes:
    """A picture as the bytes of a PNG file. picture: uint8[H, W, C], RGB or grey."""
    if picture.ndim != 3 or picture.shape[2] not in (1, 3):
        raise ValueError(
            f"a picture of shape {picture.shape} can't be written as PNG; it must be uint8[H, W, 3] or [H, W, 1]"
        )
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR) if picture.shape[2] == 3 else picture)
    if not done:
        raise ValueError(f"OpenCV can't write a picture of shape {picture.shape} as PNG")
    return data.tobytes()


def sample_grid(
    generator: Generator,
    seed: int,
    images: int,
    statistics: Statistics = "batch",
    labels: npt.NDArray[np.int64] | None = None,
) -> Images:
    """A square-ish grid of pictures from the seed's fixed z; where the preset has classes, a row for each.

    Rows have as many pictures as make about `images` together. With labels, int64[images], it is square-ish again.

    Returns:
        picture: uint8[H, W, C], RGB or grey.
    """
    preset = generator.preset
    columns = max(1, round(images**0.5))
    if preset.classes and labels is None:
        columns = grid_columns(images, preset.classes)
        labels = np.repeat(np.arange(preset.classes), columns)
    z = fixed_z(preset, seed, images if labels is None else len(labels), labels=labels)
    return grid(generate(generator, z, statistics, seed), columns)


def grid_columns(images: int, classes: int) -> int:
    """Pictures of each class in a grid of about so many."""
    return max(1, round(images / classes))
