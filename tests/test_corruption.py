"""Corrupted thumbs: the same picture, each of its copies another, and the same each time."""

import cv2
import numpy as np
import torch
from torch.nn import functional

from dedup.corruption import changed


def smooth(images: int) -> torch.Tensor:
    rng = np.random.default_rng(0)
    small = rng.uniform(40, 215, (images, 4, 4, 3)).astype(np.float32)
    large = np.stack([cv2.resize(image, (32, 32)) for image in small]).astype(np.uint8)
    return torch.from_numpy(large.reshape(images, -1))


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_same_draw_gives_the_same_pixels_within_their_range() -> None:
    pixels = smooth(200)
    once = changed(pixels, drawn(1))
    assert once.shape == (200, 3072)
    assert once.dtype == torch.float32
    assert float(once.min()) >= 0
    assert float(once.max()) <= 255
    assert torch.equal(changed(pixels, drawn(1)), once)
    assert not torch.equal(changed(pixels, drawn(2)), once)
    assert torch.equal(pixels, smooth(200))


def test_each_copy_is_another_and_most_still_look_like_their_picture() -> None:
    picture = smooth(1).repeat(300, 1)
    copies = changed(picture, drawn(3))
    assert len(torch.unique(copies, dim=0)) == 300
    alike = correlations(copies, picture.float())
    assert float(alike.median()) > 0.7
    assert float((alike < 0.95).float().mean()) > 0.3
    turned = picture.view(300, 32, 32, 3).flip(2).reshape(300, -1).float()
    assert float((correlations(copies, turned) > alike).float().mean()) < 0.05  # never mirrored


def test_every_kind_of_change_is_drawn() -> None:
    white_left = torch.full((2000, 32, 32, 3), 200, dtype=torch.uint8)
    white_left[:, :, 16:] = torch.tensor([40, 120, 60], dtype=torch.uint8)
    copies = changed(white_left.view(2000, -1), drawn(4)).view(2000, 32, 32, 3)
    colourless = (copies.amax(dim=3) - copies.amin(dim=3)).flatten(1).amax(dim=1) < 1
    assert 0.1 < float(colourless.float().mean()) < 0.25  # 20 %, less those that got a sticker
    dark_rows = copies[:, 31].flatten(1).amax(dim=1) < 61
    assert 0.2 < float(dark_rows.float().mean()) < 0.6  # captions and bars
    edges = (copies[:, 12, 1:, 0] - copies[:, 12, :-1, 0]).argmin(dim=1)
    assert float(edges.float().std()) > 0.5  # the border between the halves is moved
    assert 14 < float(edges.float().median()) < 17


def correlations(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    a, b = (x - x.mean(dim=1, keepdim=True) for x in (a, b))
    return functional.cosine_similarity(a, b, dim=1)
