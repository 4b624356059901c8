"""The latent walk: pictures that depend on their z, and figures that tell a smooth generator from one that jumps."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from pydantic import ValidationError
from subjects import subject

from training.draws import Stream
from training.evaluation.measured import Measured
from training.evaluation.paths import interpolations
from training.evaluation.walk import WalkSettings, latent_walk
from training.networks import Generator, build, reference_statistics
from training.presets import resolve
from training.samples import Images, fixed_z, grid, png, to_pixels


def _generator(scale: float = 1.0) -> Generator:
    generator, _ = build(resolve("paper-64", width=4, size_px=32), 0, torch.device("cpu"))
    with torch.no_grad():  # a fresh generator is near grey: stretch what it draws
        last = generator.get_parameter("deconv4.weight")
        last.mul_(10 * scale)
    return generator


def _walk(generator: Generator, seed: int = 1, **settings: Any) -> Measured:
    codes = settings.pop("codes", None)
    return latent_walk(subject(generator, seed=seed), WalkSettings(**{"reference_images": 32, **settings}), codes)


def _top_bits(images: Images) -> npt.NDArray[np.uint64]:
    """A code for tests: which of the first 128 values are above the middle."""
    return np.packbits(images.reshape(len(images), -1)[:, :128] > 127, axis=1, bitorder="little").view(np.uint64)


def test_grey_pictures_walk_too() -> None:
    generator, _ = build(resolve("mnist-28", width=4), 0, torch.device("cpu"))
    measured = _walk(generator, 5, points=3, columns=4)
    assert set(measured.pictures) == set(measured.captions) == {"linear_walk", "spherical_walk"}
    assert png(measured.pictures["linear_walk"]).startswith(b"\x89PNG")
    assert np.isfinite(measured.figures["spherical"]["pixels"]["mean_step"])


def test_the_walk_is_what_a_plain_loop_draws() -> None:
    generator = _generator()
    measured = _walk(generator, 5, points=3, columns=4, paths="linear", codes=_top_bits)
    picture, figures = measured.pictures["linear_walk"], measured.figures["linear"]["pixels"]
    drawn = fixed_z(generator.preset, 5, 35, Stream.WALK)
    rows = interpolations(drawn[:3], 4)
    cells = np.zeros((2, 4, 32, 32, 3), np.uint8)
    below = picture.shape[0] - (2 * 34 + 2)  # the strip with the words
    with reference_statistics(generator, torch.from_numpy(drawn[3:])), torch.no_grad():
        for row in range(2):
            for column in range(4):
                cells[row, column] = to_pixels(generator(torch.from_numpy(rows[row, column][None])))[0]
                top, left = below + 2 + row * 34, 2 + column * 34
                shown = picture[top : top + 32, left : left + 32]
                assert np.abs(shown.astype(int) - cells[row, column]).max() <= 1  # rounding only
    steps = np.sqrt(np.mean(np.diff(cells.astype(float), axis=1) ** 2, axis=(2, 3, 4)))
    np.testing.assert_allclose(figures["steps"], steps, atol=0.3)
    assert figures["largest_step"] == pytest.approx(np.max(figures["steps"]), abs=0.01)
    assert figures["mean_step"] == pytest.approx(np.mean(figures["steps"]), abs=0.01)
    assert figures["mean_step_share"] == pytest.approx(figures["mean_step"] / figures["unrelated"], abs=1e-3)
    bits = np.unpackbits(_top_bits(cells.reshape(8, 32, 32, 3)).view(np.uint8), axis=1).reshape(2, 4, 128)
    changed = np.abs(np.diff(bits.astype(int), axis=1)).sum(axis=2)
    np.testing.assert_allclose(measured.figures["linear"]["code"]["steps"], changed, atol=3)  # a value may round over


def test_a_smooth_generator_takes_small_steps() -> None:
    measured = _walk(_generator(), codes=_top_bits)
    figures = measured.figures["linear"]["pixels"]
    assert len(figures["steps"]) == 8
    assert 0 < figures["mean_step_share"] < 0.3
    assert figures["largest_step_share"] < 0.5
    assert figures["largest_step_share"] < 0.6 * figures["largest_step_share_of_a_memoriser"]
    assert figures["mean_step"] * 9 >= figures["ends"] * 0.99  # the triangle's inequality
    assert 0.45 < figures["finer"] < 0.7
    assert 0 < measured.figures["linear"]["code"]["largest_step_share"] < 1
    assert "steps" not in measured.figures["linear"]["random_weights"]["pixels"]
    assert f"{figures['largest_step_share']:.2f}" in measured.says


def test_a_generator_that_jumps_is_told_from_a_smooth_one() -> None:
    class _Jumps(Generator):
        """Looks at the sign of z alone, as if it had two pictures by heart."""

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.where(z[:, :1] > 0, torch.ones_like(z), -torch.ones_like(z)))

    smooth = _generator()
    jumps = _Jumps(smooth.preset)
    jumps.load_state_dict(smooth.state_dict())
    for figures in (_walk(jumps, reference_images=64).figures[path]["pixels"] for path in ("linear", "spherical")):
        assert figures["largest_step_share"] > 0.9
        assert figures["largest_step_share"] == pytest.approx(figures["largest_step_share_of_a_memoriser"], rel=1e-3)
        assert figures["finer"] == pytest.approx(1)
        assert (np.array(figures["steps"]) == 0).mean() > 0.8


def test_the_same_seed_walks_the_same_way() -> None:
    generator = _generator()
    one, again = _walk(generator, 3, points=3), _walk(generator, 3, points=3)
    assert one.figures == again.figures
    np.testing.assert_array_equal(one.pictures["spherical_walk"], again.pictures["spherical_walk"])
    assert _walk(generator, 4, points=3).figures != one.figures


def test_pictures_all_alike_give_null_not_a_division_by_zero() -> None:
    measured = _walk(_generator(scale=0.0), points=3)
    figures = measured.figures["linear"]["pixels"]
    assert figures["unrelated"] == 0
    assert figures["mean_step_share"] is None
    assert figures["finer"] is None
    assert "no share" in measured.says


def test_only_what_was_asked_for_is_walked_and_what_is_missing_is_said() -> None:
    measured = _walk(_generator(), points=2, columns=3, paths="spherical")
    assert "linear" not in measured.figures
    assert "great circle" in measured.figures["spherical_means"]
    assert "left out" in measured.figures["codes"]
    with pytest.raises(ValidationError, match="paths"):
        WalkSettings.model_validate({"paths": "curved"})


def test_grid_lays_pictures_out_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 6, 3), dtype=np.uint8)
    picture = grid(images, 3, gap_px=1)
    assert picture.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    assert (picture[6:10, 8:14] == 4).all()
    assert (picture[6:10, 15:] == 255).all()
    assert png(picture).startswith(b"\x89PNG")
