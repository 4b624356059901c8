"""The latent walk: straight lines between the points, pictures that depend on their z, figures from the pictures."""

import numpy as np
import pytest
import torch

from training.draws import Stream
from training.evaluation.walk import WalkSettings, interpolations, latent_walk
from training.networks import Generator, build, reference_statistics
from training.presets import resolve
from training.samples import fixed_z, grid, png, to_pixels


def _generator(scale: float = 1.0) -> Generator:
    generator, _ = build(resolve("paper-64", width=4, size_px=32), 0, torch.device("cpu"))
    with torch.no_grad():  # a fresh generator is near grey: stretch what it draws
        last = generator.get_parameter("deconv4.weight")
        last.mul_(10 * scale)
    return generator


def test_grey_pictures_walk_too() -> None:
    generator, _ = build(resolve("mnist-28", width=4), 0, torch.device("cpu"))
    measures, picture = latent_walk(generator, 5, WalkSettings(points=3, columns=4, reference_images=32))
    assert png(picture).startswith(b"\x89PNG")
    assert np.isfinite(measures["mean_step_rms"])


def test_lines_are_straight_and_end_in_the_points() -> None:
    points = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    z = interpolations(points, 4)
    assert z.shape == (4, 4, 7)
    np.testing.assert_array_equal(z[:, 0], points[:-1])
    np.testing.assert_array_equal(z[:, -1], points[1:])
    np.testing.assert_allclose(z[2, 1], points[2] + (points[3] - points[2]) / 3, rtol=1e-5, atol=1e-6)


def test_the_walk_is_what_a_plain_loop_draws() -> None:
    generator = _generator()
    settings = WalkSettings(points=3, columns=4, reference_images=32)
    measures, picture = latent_walk(generator, 5, settings)
    drawn = fixed_z(generator.preset, 5, 35, Stream.WALK)
    rows = interpolations(drawn[:3], 4)
    cells = np.zeros((2, 4, 32, 32, 3))
    with reference_statistics(generator, torch.from_numpy(drawn[3:])), torch.no_grad():
        for row in range(2):
            for column in range(4):
                cells[row, column] = to_pixels(generator(torch.from_numpy(rows[row, column][None])))[0]
                shown = picture[2 + row * 34 : 34 + row * 34, 2 + column * 34 : 34 + column * 34]
                assert np.abs(shown.astype(int) - cells[row, column]).max() <= 1  # rounding only
    for row in range(2):
        for column in range(3):
            step = np.sqrt(np.mean((cells[row, column + 1] - cells[row, column]) ** 2))
            assert measures["steps_rms"][row][column] == pytest.approx(step, abs=0.3)
    assert measures["largest_step_rms"] == max(map(max, measures["steps_rms"]))
    assert measures["mean_step_rms"] == pytest.approx(np.mean(measures["steps_rms"]), abs=1e-3)
    assert measures["mean_step_share"] == pytest.approx(measures["mean_step_rms"] / measures["unrelated_rms"], abs=1e-3)


def test_a_smooth_generator_takes_small_steps() -> None:
    measures, picture = latent_walk(_generator(), 1)
    assert picture.shape == (8 * 34 + 2, 10 * 34 + 2, 3)
    assert len(measures["steps_rms"]) == 8
    assert 0 < measures["mean_step_share"] < 0.3
    assert measures["largest_step_share"] < 0.5
    assert measures["mean_step_rms"] * 9 >= measures["ends_rms"] * 0.99  # the triangle's inequality


def test_a_generator_that_jumps_is_told_from_a_smooth_one() -> None:
    class _Jumps(Generator):
        """Looks at the signs of z alone, as if it had a few pictures by heart."""

        def forward(self, z: torch.Tensor) -> torch.Tensor:
            return super().forward(torch.where(z[:, :1] > 0, torch.ones_like(z), -torch.ones_like(z)))

    smooth = _generator()
    jumps = _Jumps(smooth.preset)
    jumps.load_state_dict(smooth.state_dict())
    measures, _ = latent_walk(jumps, 1, WalkSettings(reference_images=64))
    assert measures["largest_step_share"] > 0.9
    steps = np.array(measures["steps_rms"])
    assert (steps == 0).mean() > 0.8


def test_the_same_seed_walks_the_same_way() -> None:
    generator = _generator()
    one, picture = latent_walk(generator, 3)
    again, same = latent_walk(generator, 3)
    assert one == again
    np.testing.assert_array_equal(picture, same)
    assert latent_walk(generator, 4)[0] != one


def test_pictures_all_alike_give_null_not_a_division_by_zero() -> None:
    measures, _ = latent_walk(_generator(scale=0.0), 1)
    assert measures["unrelated_rms"] == 0
    assert measures["mean_step_share"] is None


def test_grid_lays_pictures_out_row_by_row() -> None:
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 4, 6, 3), dtype=np.uint8)
    picture = grid(images, 3, gap_px=1)
    assert picture.shape == (2 * 5 + 1, 3 * 7 + 1, 3)
    assert (picture[6:10, 8:14] == 4).all()
    assert (picture[6:10, 15:] == 255).all()
    assert png(picture).startswith(b"\x89PNG")
