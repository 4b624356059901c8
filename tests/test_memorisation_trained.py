"""Memorisation of generators that were trained: one made to learn 200 pictures by heart, and one that saw 2,000."""

from functools import cache

import cv2
import numpy as np
import pytest
import torch
from subjects import subject

from pipelines.sources.bedroom import draw_room
from training.evaluation.memorisation import MemorisationSettings, memorisation
from training.networks import Generator, build
from training.presets import resolve
from training.samples import Images

PRESET = resolve("mnist-28", width=32)
LEARNT = 200
BATCH_IMAGES = 200
UPDATES = 500


def _rooms(count: int, seed: int) -> Images:
    """Drawn rooms, grey: uint8[count, 28, 28, 1]."""
    large = [cv2.cvtColor(draw_room(seed, index, 56).image, cv2.COLOR_RGB2GRAY) for index in range(count)]
    small = [cv2.resize(room, (28, 28), interpolation=cv2.INTER_AREA) for room in large]
    return np.asarray(np.stack(small)[..., None], np.uint8)


def _pulled_to(images: Images) -> Generator:
    """A generator each of whose samples was pulled to the nearest of 200 images, and each of these to a sample.

    The 200 are drawn anew from the images at each update; of 200 images they are always the same.
    """
    generator, _ = build(PRESET, 0, torch.device("cpu"))
    wanted = torch.from_numpy(images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1)
    draw = torch.Generator().manual_seed(0)
    adam = torch.optim.Adam(generator.parameters(), lr=5e-3, betas=(0.5, 0.99))
    fall = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 1e-3, UPDATES)
    for _ in range(UPDATES):
        z = torch.rand(BATCH_IMAGES, PRESET.z_dim, generator=draw) * 2 - 1
        chosen = wanted[torch.randperm(len(wanted), generator=draw)[:LEARNT]]
        distances = torch.cdist(generator(z).flatten(1), chosen).square() / wanted.shape[1]
        loss = distances.amin(dim=1).mean() + distances.amin(dim=0).mean()
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()
        fall.step()
    return generator


@cache
def _memoriser() -> Generator:
    return _pulled_to(_rooms(LEARNT, 1))


SETTINGS = MemorisationSettings(samples=400, copies=50, neighbours=20, reference_images=128)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_generator_made_to_memorise_200_images_is_found() -> None:
    measured = memorisation(subject(_memoriser()), _rooms(LEARNT, 1), _rooms(500, 2), SETTINGS)
    assert measured.figures["verdict"] == "memorised"
    assert measured.figures["spaces"]["pixels"]["verdict"] == "memorised"
    assert measured.figures["spaces"]["pixels"]["matched"]["share_below_5"] > 0.5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_same_generator_against_pictures_it_never_saw_is_not() -> None:
    measured = memorisation(subject(_memoriser()), _rooms(LEARNT, 3), _rooms(500, 2), SETTINGS)
    assert measured.figures["verdict"] == "not"
    assert measured.figures["spaces"]["pixels"]["verdict"] == "not"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_generator_trained_alike_on_2000_images_is_not() -> None:
    images = np.concatenate([_rooms(LEARNT, 1), _rooms(1800, 4)])
    measured = memorisation(subject(_pulled_to(images)), images, _rooms(500, 2), SETTINGS)
    assert measured.figures["verdict"] == "not"
    assert measured.figures["spaces"]["pixels"]["verdict"] == "not"
