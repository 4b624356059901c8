"""Presets: found by name, changed by settings, and refused where settings don't fit together."""

import itertools
from itertools import pairwise
from typing import Any

import pytest
import torch

from training.networks import build
from training.presets import PRESETS, Preset, PresetError, resolve


def test_presets_are_found_by_name_and_errors_name_the_nearest() -> None:
    assert resolve("paper-64", width=16).width == 16
    with pytest.raises(ValueError, match="nearest is 'paper-64'"):
        resolve("paper64")
    with pytest.raises(ValueError, match="'learning_rat'; the nearest is 'learning_rate'"):
        resolve("paper-64", learning_rat=1)
    with pytest.raises(ValueError, match="size_px=48: Input should be 28, 32, 64 or 128"):
        resolve("paper-64", size_px=48)
    with pytest.raises(ValueError, match="first_norm"):
        resolve("torch-4x4", first_norm="units")


def test_paper_settings() -> None:
    paper = PRESETS["paper-64"]
    assert (paper.learning_rate, paper.beta1, paper.batch_images, paper.z_dim) == (2e-4, 0.5, 128, 100)
    assert (paper.alternate, paper.z_distribution, paper.weight_decay) == ("alternate", "uniform", 1e-5)
    assert all(Preset.model_validate(preset.model_dump()) == preset for preset in PRESETS.values())
    assert all(a == 2 * b for a, b in pairwise(paper.widths))


def test_the_authors_other_networks() -> None:
    imagenet, svhn, mnist = (PRESETS[name] for name in ("imagenet-32", "svhn-32", "mnist-28"))
    assert (imagenet.z_dim, imagenet.z_distribution, imagenet.kernel, imagenet.widths) == (
        256,
        "uniform",
        3,
        (512, 256, 128),
    )
    assert (svhn.z_dim, svhn.z_distribution, svhn.kernel, svhn.widths) == (100, "normal", 5, (256, 128, 64))
    assert (svhn.learning_rate, svhn.batch_images) == (5e-4, 64)
    assert (mnist.z_dim, mnist.z_distribution, mnist.image_channels, mnist.size_px) == (100, "uniform", 1, 28)
    assert PRESETS["paper-128"].widths == (1024, 512, 256, 128, 64)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("mnist-28", {"size_px": 32}, "architecture=mnist makes images of 28 px, not size_px=32; set size_px=28"),
        ("paper-64", {"size_px": 28}, "size_px=28 .* architecture=paper needs; set architecture=mnist, or size_px"),
        ("imagenet-32", {"kernel": 4}, "kernel=4 .* architecture=stacked does; set kernel to 3 or 5"),
        ("torch-4x4", {"first_norm": "units"}, "first_norm=units needs a dense first layer"),
        ("paper-64", {"batch_norm": "ghost"}, "batch_norm=ghost needs ghost_images"),
        ("paper-64", {"ghost_images": 32}, "ghost_images=32 is of batch_norm=ghost only, not of global; leave it out"),
        (
            "paper-64",
            {"batch_norm": "ghost", "ghost_images": 48},
            "batch_images=128 does not divide into ghost batches of 48; try ghost_images=(32|64)",
        ),
        ("paper-64", {"classes": 1}, "classes=1 tells the networks nothing; set classes=0, or 2 or more"),
        ("paper-64", {"classes": -1}, "classes=-1: Input should be greater than or equal to 0"),
        ("paper-64", {"batch_images": 1}, "batch_images=1: Input should be greater than or equal to 2"),
        (
            "paper-64",
            {"kernel": 7, "leak": -1},
            "kernel=7: Input should be 3, 4 or 5; leak=-1: Input should be greater",
        ),
        ("paper-64", {"size_px": 28, "ghost_images": 2}, "size_px=28 .*; ghost_images=2 is of"),
    ],
)
def test_settings_that_do_not_fit_are_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(PresetError, match=message):
        resolve(name, **changes)


def test_ghost_batches_that_divide_the_batch_are_accepted() -> None:
    assert resolve("paper-64", batch_norm="ghost", ghost_images=32).ghost_images == 32


SHAPES = list(
    itertools.product(
        ("paper", "torch-4x4", "stacked", "mnist"), (28, 32, 64, 128), (3, 4, 5), ("units", "channels"), (1, 3)
    )
)


def test_every_combination_is_refused_or_makes_networks_that_fit() -> None:
    accepted = set()
    for architecture, size_px, kernel, first_norm, channels in SHAPES:
        settings = {"architecture": architecture, "size_px": size_px, "kernel": kernel, "first_norm": first_norm}
        try:
            preset = resolve("paper-64", width=1, z_dim=2, image_channels=channels, **settings)
        except PresetError:
            continue
        generator, discriminator = build(preset, 0, torch.device("cpu"))
        images = generator(torch.randn(2, 2))
        assert images.shape == (2, channels, size_px, size_px), preset
        assert discriminator(images).shape == (2,), preset
        accepted.add((architecture, size_px, kernel, first_norm))
    assert ("stacked", 64, 5, "channels") in accepted
    assert len(accepted) == 3 * 3 * 2 + 3 * 3 + 3 * 2 * 2 + 3 * 2
