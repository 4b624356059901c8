"""Pictures from a generator, and grids of them."""

import cv2
import numpy as np
import numpy.typing as npt
import torch

from training.checkpoint import Checkpoint
from training.draws import Stream, philox, random_z
from training.networks import Generator
from training.presets import Preset

Images = npt.NDArray[np.uint8]
CHUNK_IMAGES = 128


def load_generator(checkpoint: Checkpoint, device: torch.device | str = "cpu") -> Generator:
    """The generator of a checkpoint."""
    generator = Generator(Preset.model_validate(checkpoint.preset))
    generator.load_state_dict(checkpoint.generator)
    generator.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return generator


def fixed_z(preset: Preset, seed: int, images: int, stream: Stream = Stream.GRID) -> npt.NDArray[np.float32]:
    """The same latent vectors whenever the seed is the same; the first ones don't depend on how many are asked for.

    Returns:
        z: float32[images, z_dim].
    """
    return random_z(philox(seed, stream), images, preset.z_dim, preset.z_distribution)


def to_pixels(images: torch.Tensor) -> Images:
    """images: float32[N, 3, H, W], -1..1 -> uint8[N, H, W, 3], RGB, rounded."""
    scaled = images.add(1.0).mul(127.5).round().clamp(0, 255)
    return np.ascontiguousarray(scaled.to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy())


@torch.no_grad()
def generate(generator: Generator, z: npt.NDArray[np.float32]) -> Images:
    """Pictures of latent vectors, with batch statistics.

    Batch norm uses each chunk's own mean and variance, so a picture depends, a little, on the others in its chunk.
    Chunks are always of 128: z[0:128], z[128:256], ..., the last filled up with z drawn from seed 0 whose pictures are
    left out. So the same array z gives the same pictures. For pictures that depend on their own z alone, use
    `networks.reference_statistics`.

    z: float32[N, z_dim] -> images: uint8[N, size_px, size_px, 3], RGB.

    Source: Radford et al. 2016, the authors' code.
    """
    fill = fixed_z(generator.preset, 0, -len(z) % CHUNK_IMAGES, Stream.FILL)
    device = next(generator.parameters()).device
    whole = torch.from_numpy(np.concatenate([z, fill])).to(device)
    images = np.concatenate([to_pixels(generator(chunk)) for chunk in torch.split(whole, CHUNK_IMAGES)])
    return images[: len(z)]


def grid(images: Images, columns: int, gap_px: int = 2) -> Images:
    """Pictures side by side, row by row, on white.

    images: uint8[N, H, W, 3] -> picture: uint8[rows * (H + gap) + gap, columns * (W + gap) + gap, 3].
    """
    count, height, width, _ = images.shape
    rows = -(-count // columns)
    picture = np.full((rows * (height + gap_px) + gap_px, columns * (width + gap_px) + gap_px, 3), 255, dtype=np.uint8)
    for place, image in enumerate(images):
        top = gap_px + place // columns * (height + gap_px)
        left = gap_px + place % columns * (width + gap_px)
        picture[top : top + height, left : left + width] = image
    return picture


def png(picture: Images) -> bytes:
    """A picture as the bytes of a PNG file. picture: uint8[H, W, 3], RGB."""
    done, data = cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    if not done:
        raise ValueError(f"a picture of shape {picture.shape} can't be written as PNG; it must be uint8[H, W, 3]")
    return data.tobytes()


def sample_grid(generator: Generator, seed: int, images: int) -> Images:
    """A square-ish grid of pictures from the seed's fixed z, with batch statistics.

    Returns:
        picture: uint8[H, W, 3], RGB.
    """
    columns = max(1, round(images**0.5))
    return grid(generate(generator, fixed_z(generator.preset, seed, images)), columns)
