"""The DCGAN loop that most PyTorch code descends from, for 64 or 32 px, as those who use it run it.

    python benchmarks/usual_port.py FOLDER [--size-px 64] [--width 64] [--batch-images 128] [--updates 5]

4x4 convolutions in both networks, memory as NCHW, D's weights free in the generator's turn, plain Adam, figures printed
at each update, and images decoded by Pillow in two loader processes. FOLDER holds class folders of images.
"""

import argparse
import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

_LOADER_PROCESSES = 2


class Pictures(Dataset[tuple[Tensor, int]]):
    """The images below a folder of class folders, each float32[3, H, W] in -1..1, and the number of its class."""

    def __init__(self, folder: Path) -> None:
        self.files = [(file, i) for i, name in enumerate(sorted(folder.iterdir())) for file in sorted(name.iterdir())]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        path, label = self.files[row]
        with path.open("rb") as file:
            picture = Image.open(file).convert("RGB")
        # What the usual transforms do, ToTensor and then Normalize; the images have the right size already.
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().to(torch.float32).div(255)
        mean, deviation = torch.full((3, 1, 1), 0.5), torch.full((3, 1, 1), 0.5)
        return pixels.clone().sub_(mean).div_(deviation), label


def networks(size_px: int, width: int, z_dim: int = 100) -> tuple[nn.Sequential, nn.Sequential]:
    """(generator, discriminator), each one nn.Sequential; the discriminator ends in a sigmoid."""
    widths = [width << i for i in range((size_px // 4).bit_length() - 1)]
    generator: list[nn.Module] = [nn.ConvTranspose2d(z_dim, widths[-1], 4, 1, 0, bias=False)]
    for inside, outside in zip(widths[:0:-1], widths[-2::-1], strict=True):
        generator += [nn.BatchNorm2d(inside), nn.ReLU(True), nn.ConvTranspose2d(inside, outside, 4, 2, 1, bias=False)]
    generator += [nn.BatchNorm2d(width), nn.ReLU(True), nn.ConvTranspose2d(width, 3, 4, 2, 1, bias=False), nn.Tanh()]
    discriminator: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1, bias=False), nn.LeakyReLU(0.2, inplace=True)]
    for inside, outside in pairwise(widths):
        discriminator += [nn.Conv2d(inside, outside, 4, 2, 1, bias=False), nn.BatchNorm2d(outside)]
        discriminator += [nn.LeakyReLU(0.2, inplace=True)]
    discriminator += [nn.Conv2d(widths[-1], 1, 4, 1, 0, bias=False), nn.Sigmoid()]
    pair = nn.Sequential(*generator), nn.Sequential(*discriminator)
    for network in pair:
        network.apply(_initialise)
    return pair


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)


def train(
    folder: Path, size_px: int, width: int, batch_images: int, warm: int, updates: int, loads: bool = True
) -> dict[str, float]:
    """Train for `warm` + `updates` updates of both networks; images_per_s and data_wait_share of the latter.

    `loads`: with the loader; else every batch is in memory before the clock runs, which no real training has.
    """
    loader = DataLoader(
        Pictures(folder), batch_size=batch_images, shuffle=True, num_workers=_LOADER_PROCESSES if loads else 0
    )
    G, D = networks(size_px, width)
    criterion = nn.BCELoss()
    adam_d = torch.optim.Adam(D.parameters(), lr=2e-4, betas=(0.5, 0.999))
    adam_g = torch.optim.Adam(G.parameters(), lr=2e-4, betas=(0.5, 0.999))
    batches = iter(loader if loads else list(loader))
    began = waited_s = 0.0
    for update in range(warm + updates):
        if update == warm:
            began, waited_s = time.perf_counter(), 0.0
        asked = time.perf_counter()
        real, _ = next(batches)
        waited_s += time.perf_counter() - asked

        D.zero_grad()
        truth = torch.full((len(real),), 1.0)
        judged = D(real).view(-1)
        loss_real = criterion(judged, truth)
        loss_real.backward()
        d_real = judged.mean().item()
        fake = G(torch.randn(len(real), 100, 1, 1))
        truth.fill_(0.0)
        judged = D(fake.detach()).view(-1)
        loss_fake = criterion(judged, truth)
        loss_fake.backward()
        d_fake = judged.mean().item()
        adam_d.step()

        G.zero_grad()
        truth.fill_(1.0)
        judged = D(fake).view(-1)
        loss_g = criterion(judged, truth)
        loss_g.backward()
        d_fooled = judged.mean().item()
        adam_g.step()
        print(
            f"[{update}] loss_d {(loss_real + loss_fake).item():.4f} loss_g {loss_g.item():.4f} "
            f"D(x) {d_real:.4f} D(G(z)) {d_fake:.4f} / {d_fooled:.4f}",
            file=sys.stderr,
        )
    seconds = time.perf_counter() - began
    return {"images_per_s": updates * batch_images / seconds, "data_wait_share": waited_s / seconds}


def main() -> None:
    """Train on a folder and print the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder of class folders of images, all of one size")
    parser.add_argument("--size-px", type=int, choices=(32, 64), default=64)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--batch-images", type=int, default=128)
    parser.add_argument("--warm", type=int, default=1, help="updates before the clock runs")
    parser.add_argument("--updates", type=int, default=5)
    options = parser.parse_args()
    measured = train(
        options.folder, options.size_px, options.width, options.batch_images, options.warm, options.updates
    )
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
