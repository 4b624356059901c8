"""Pictures from a generator: statistics, grids, labels, PNG."""

from types import SimpleNamespace
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from training.checkpoint import Checkpoint
from training.draws import Stream
from training.networks import Discriminator, Generator, build
from training.presets import Preset
from training.samples import (
    REFERENCE_IMAGES,
    fixed_z,
    generate,
    grid,
    labelled,
    load_discriminator,
    load_generator,
    png,
    sample_grid,
    to_pixels,
)

PRESET = Preset(name="tiny", size_px=32, width=2, z_dim=8)


@pytest.fixture(scope="module")
def networks() -> tuple[Generator, Discriminator]:
    """Both networks with weights large enough that pictures differ."""
    generator, discriminator = build(PRESET, 1, torch.device("cpu"))
    with torch.no_grad():
        for parameter in generator.parameters():
            if parameter.dim() > 1:
                parameter.mul_(20)
    return generator, discriminator


def test_to_pixels_rounds_and_keeps_grey() -> None:
    values = torch.tensor([-1.0, 0.0, 1.0, 2.0]).reshape(1, 1, 2, 2)
    np.testing.assert_array_equal(to_pixels(values)[0, :, :, 0], [[0, 128], [255, 255]])
    assert to_pixels(torch.zeros(2, 3, 4, 4)).shape == (2, 4, 4, 3)


def test_with_batch_statistics_a_picture_depends_on_its_neighbours_with_standing_ones_not(
    networks: tuple[Generator, Discriminator],
) -> None:
    generator, _ = networks
    z = fixed_z(PRESET, 3, 6)
    for statistics, depends in (("batch", True), ("standing", False)):
        whole = generate(generator, z, statistics, 3)  # type: ignore[arg-type]
        others = generate(generator, np.concatenate([z[:1], -z[1:] * 0.5]), statistics, 3)  # type: ignore[arg-type]
        assert np.array_equal(whole[0], others[0]) is not depends
    generate(generator, z, "standing")
    assert generate(generator, z).tobytes() == generate(generator, z).tobytes()
    assert generate(generator, z).tobytes() != generate(generator, z, "standing").tobytes()


def test_standing_statistics_are_those_of_512_z_of_the_seed(networks: tuple[Generator, Discriminator]) -> None:
    generator, _ = networks
    reference = fixed_z(PRESET, 3, REFERENCE_IMAGES, Stream.FILL)
    with torch.no_grad():
        alike = to_pixels(generator(torch.from_numpy(reference)))  # the reference batch is its own batch
    standing = generate(generator, reference[:5], "standing", 3)
    assert np.abs(standing.astype(int) - alike[:5]).max() <= 1
    assert generate(generator, reference[:5], "standing", 4).tobytes() != standing.tobytes()


@pytest.mark.parametrize("statistics", ["batch", "standing"])
def test_a_sample_grid_holds_the_seeds_fixed_z(networks: tuple[Generator, Discriminator], statistics: Any) -> None:
    generator, _ = networks
    picture = sample_grid(generator, 3, 9, statistics)
    assert picture.shape == (3 * 34 + 2, 3 * 34 + 2, 3)
    wanted = generate(generator, fixed_z(PRESET, 3, 9), statistics, 3)
    np.testing.assert_array_equal(picture[2:34, 36:68], wanted[1])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_runs_row_by_row_on_white(channels: int) -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 6, channels), np.uint8)
    picture = grid(images, 3)
    assert picture.shape == (2 * 6 + 2, 3 * 8 + 2, channels)
    assert (picture[2:6, 10:16] == 1).all()
    assert (picture[8:12, 2:8] == 3).all()
    assert (picture[:2] == 255).all()
    assert (picture[8:, 18:] == 255).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_png_gives_the_picture_back(channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, channels), dtype=np.uint8)
    read = cv2.imdecode(np.frombuffer(png(picture), np.uint8), cv2.IMREAD_UNCHANGED)
    assert read is not None
    found = read[:, :, None] if channels == 1 else read[:, :, ::-1]
    np.testing.assert_array_equal(found, picture)


def test_what_is_no_picture_is_refused() -> None:
    for shape in ((4, 4), (4, 4, 2), (1, 4, 4, 3)):
        with pytest.raises(ValueError, match="it must be uint8"):
            png(np.zeros(shape, np.uint8))


def ink(strip: npt.NDArray[np.uint8]) -> int:
    return int((strip < 128).any(axis=-1).sum())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("width", [34, 70, 140, 560])
def test_a_label_stands_above_the_unchanged_picture_and_is_not_cut(width: int, channels: int) -> None:
    picture = np.random.default_rng(1).integers(0, 256, (40, width, channels), dtype=np.uint8)
    text = "80,000 images seen, batch statistics"
    found = labelled(picture, text)
    strip = found[: len(found) - 40]
    np.testing.assert_array_equal(found[-40:], picture)
    assert found.shape[1:] == picture.shape[1:]
    assert (strip[:, :2] == 255).all()
    assert (strip[:, -2:] == 255).all()  # nothing runs over the edge
    assert (strip[:1] == 255).all()
    assert ink(strip) > 40


def test_a_narrow_pictures_label_wraps_and_loses_no_ink() -> None:
    text = "80,000 images seen, batch statistics"
    wide, narrow = (labelled(np.zeros((10, width, 3), np.uint8), text)[:-10] for width in (600, 90))
    assert len(narrow) > 2 * len(wide)
    assert ink(narrow) == pytest.approx(ink(wide), rel=0.1)
    assert (
        labelled(np.zeros((10, 90, 3), np.uint8), text).tobytes()
        != labelled(np.zeros((10, 90, 3), np.uint8), text.replace("batch", "standing")).tobytes()
    )


def test_both_networks_of_a_checkpoint_come_back(networks: tuple[Generator, Discriminator]) -> None:
    generator, discriminator = networks
    state = cast(
        Checkpoint,
        SimpleNamespace(
            preset=PRESET.model_dump(), generator=generator.state_dict(), discriminator=discriminator.state_dict()
        ),
    )
    z, images = torch.from_numpy(fixed_z(PRESET, 0, 4)), torch.rand(4, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(load_generator(state)(z), generator(z), rtol=0, atol=0)
        torch.testing.assert_close(load_discriminator(state)(images), discriminator(images), rtol=0, atol=0)


def test_networks_of_a_checkpoint_look_at_the_batch_at_hand_whatever_they_were_trained_with() -> None:
    preset = PRESET.model_copy(update={"batch_norm": "ghost", "ghost_images": 4, "batch_images": 8})
    generator, discriminator = build(preset, 1, torch.device("cpu"))
    generator.eval()
    given = SimpleNamespace(
        preset=preset.model_dump(), generator=generator.state_dict(), discriminator=discriminator.state_dict()
    )
    loaded = load_generator(cast(Checkpoint, given))
    z = torch.from_numpy(fixed_z(preset, 3, 8))
    with torch.no_grad():
        torch.testing.assert_close(loaded(z), generator(z))
        assert (generator.train()(z) - loaded(z)).abs().max() > 1e-4
    assert not load_discriminator(cast(Checkpoint, given)).training
