"""What measurements are tried on: smooth drawn pictures, and generators that show what the test gives them."""

import cv2
import numpy as np
import numpy.typing as npt
import torch

from training.checkpoint import Checkpoint
from training.evaluation.measured import Subject
from training.networks import Discriminator, Generator, build
from training.presets import Preset, resolve
from training.samples import Images

SMALL = resolve("mnist-28", width=4)


def fields(count: int, seed: int, side_px: int = 28, sigma_px: float = 3.0, channels: int = 1) -> Images:
    """Smooth grey pictures with edges, unlike each other: uint8[count, side, side, channels]."""
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, side_px, side_px, channels)).astype(np.float32)
    smooth = np.stack([cv2.GaussianBlur(image, (0, 0), sigma_px).reshape(image.shape) for image in noise])
    smooth /= smooth.std(axis=(1, 2, 3), keepdims=True)
    return np.asarray(np.clip(np.rint(128 + 60 * np.tanh(smooth) + 30 * (smooth > 1)), 0, 255), np.uint8)


class Shows(Generator):
    """A generator that shows pictures from a bank, chosen by the first value of z; batch norm has no part in it.

    bank: uint8[N, H, W, C].
    """

    def __init__(self, preset: Preset, bank: Images) -> None:
        super().__init__(preset)
        self.bank = torch.from_numpy(bank.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """z: float32[N, z_dim], uniform -> float32[N, C, H, W]."""
        return self.bank[((z[:, 0] + 1) / 2 * len(self.bank)).long().clamp(0, len(self.bank) - 1)]


def checkpoint_of(preset: Preset, weights: int = 0, seed: int = 0, images_seen: int = 128) -> Checkpoint:
    """A checkpoint of networks that learned nothing, as they are built by the seed `weights`."""
    generator, discriminator = build(preset, weights, torch.device("cpu"))
    return Checkpoint(
        update=images_seen // preset.batch_images,
        images_seen=images_seen,
        seconds=1.0,
        seed=seed,
        samples=20,
        preset=preset.model_dump(),
        precision="float32",
        generator={name: value.contiguous() for name, value in generator.state_dict().items()},
        discriminator={name: value.contiguous() for name, value in discriminator.state_dict().items()},
    )


def subject(generator: Generator, discriminator: Discriminator | None = None, seed: int = 0) -> Subject:
    """A subject with these networks, as if they had been loaded; without a discriminator a fresh one."""
    fresh = build(generator.preset, 0, torch.device("cpu"))[1] if discriminator is None else discriminator
    made = Subject(checkpoint_of(generator.preset), seed=seed)
    made.__dict__["generator"] = generator.eval()
    made.__dict__["discriminator"] = fresh.eval()
    return made


def top_bits(images: Images) -> npt.NDArray[np.uint64]:
    """A code of 128 bits: which cells of an 11x12 net are brighter than the picture's middle."""
    small = [
        cv2.resize(image, (12, 11), interpolation=cv2.INTER_AREA).reshape(11, 12, -1).mean(axis=2) for image in images
    ]
    cells = np.stack(small).reshape(len(images), -1)[:, :128]
    return np.packbits(cells > np.median(cells, axis=1, keepdims=True), axis=1, bitorder="little").view(np.uint64)
