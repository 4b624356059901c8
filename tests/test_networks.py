"""Networks: parameter counts, shapes, batch norm's formula, initial weights, presets by name."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from training.networks import BatchNorm, build, count_parameters, reference_statistics
from training.presets import PRESETS, Preset, resolve

CPU = torch.device("cpu")


def test_paper_networks_have_the_papers_layers() -> None:
    generator, discriminator = build(PRESETS["paper-64"], 0, CPU)
    ladder = [1024, 512, 256, 128]
    deconvolutions = 25 * (1024 * 512 + 512 * 256 + 256 * 128 + 128 * 3)
    assert count_parameters(generator) == 100 * 16384 + 2 * 16384 + deconvolutions + 2 * sum(ladder[1:])
    convolutions = 25 * (3 * 128 + 128 * 256 + 256 * 512 + 512 * 1024)
    assert count_parameters(discriminator) == convolutions + 2 * (256 + 512 + 1024) + 16384


def test_the_port_has_its_known_number_of_parameters() -> None:
    generator, discriminator = build(PRESETS["torch-4x4"], 0, CPU)
    assert (count_parameters(generator), count_parameters(discriminator)) == (3_576_704, 2_765_568)


@pytest.mark.parametrize("name", list(PRESETS))
@pytest.mark.parametrize("size_px", [32, 64, 128])
def test_images_have_the_asked_size_and_range(name: str, size_px: int) -> None:
    preset = resolve(name, width=4, size_px=size_px)
    generator, discriminator = build(preset, 0, CPU)
    images = generator(torch.randn(5, 100))
    assert images.shape == (5, 3, size_px, size_px)
    assert images.abs().max() <= 1
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert discriminator(images).shape == (5,)


def test_widths_double_towards_the_small_end() -> None:
    assert resolve("paper-64").widths == (1024, 512, 256, 128)
    assert resolve("paper-64", size_px=128, width=16).widths == (256, 128, 64, 32, 16)


@pytest.mark.parametrize("shape", [(7, 3), (7, 3, 4, 4)])
def test_batch_norm_is_the_reference_formula(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64) * 3 + 1
    norm = BatchNorm(3, 1e-3).double()
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
        norm.bias.copy_(torch.tensor([0.0, -1.0, 1.0]))
    by_channel = x.numpy().swapaxes(0, 1).reshape(3, -1)
    mean, variance = by_channel.mean(axis=1), by_channel.var(axis=1)  # ddof=0: biased
    side = (1, 3) + (1,) * (len(shape) - 2)
    expected = (x.numpy() - mean.reshape(side)) / np.sqrt(variance.reshape(side) + 1e-3)
    expected = expected * np.array([1.0, 2.0, 3.0]).reshape(side) + np.array([0.0, -1.0, 1.0]).reshape(side)
    np.testing.assert_allclose(norm(x).detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_the_first_norm_of_the_paper_runs_over_units() -> None:
    assert build(resolve("paper-64", width=4), 0, CPU)[0].first_norm.weight.numel() == 32 * 16
    assert build(resolve("paper-64", width=4, first_norm="channels"), 0, CPU)[0].first_norm.weight.numel() == 32


def test_batch_norm_is_left_out_where_the_paper_leaves_it_out() -> None:
    generator, discriminator = build(resolve("paper-64", width=4), 0, CPU)
    assert sum(isinstance(m, BatchNorm) for m in generator.modules()) == 4
    assert isinstance(generator.layers[-2], torch.nn.ConvTranspose2d)
    assert isinstance(generator.layers[-1], torch.nn.Tanh)
    assert sum(isinstance(m, BatchNorm) for m in discriminator.modules()) == 3
    assert not isinstance(discriminator.layers[1], BatchNorm)


def test_weights_follow_the_seed_and_the_papers_spread() -> None:
    preset = resolve("paper-64", width=32)
    first, again, other = (build(preset, seed, CPU)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["project.weight"], other["project.weight"])
    assert first["project.weight"].std() == pytest.approx(0.02, rel=0.01)
    assert first["first_norm.weight"].mean() == pytest.approx(1.0, abs=0.002)
    assert first["first_norm.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert not first["first_norm.bias"].any()


def test_deconvolution_is_the_gradient_of_the_stride_2_convolution() -> None:
    generator, _ = build(resolve("paper-64", width=2), 0, CPU)
    layer = generator.layers[0]
    assert isinstance(layer, torch.nn.ConvTranspose2d)
    x = torch.randn(2, layer.in_channels, 4, 4)
    image = torch.randn(2, layer.out_channels, 8, 8, requires_grad=True)
    convolved = torch.nn.functional.conv2d(image, layer.weight, stride=2, padding=2)
    (gradient,) = torch.autograd.grad(convolved, image, x)
    torch.testing.assert_close(layer(x), gradient, rtol=1e-4, atol=1e-6)


def test_reference_statistics_make_pictures_independent_of_their_neighbours() -> None:
    generator, _ = build(resolve("paper-64", width=4), 0, CPU)
    z, reference = torch.randn(6, 100), torch.randn(32, 100)
    with torch.no_grad():
        together = generator(torch.cat([z, reference]))[:6]
        with reference_statistics(generator, reference):
            alone, batch, of_reference = generator(z[:1]), generator(z), generator(reference)
        torch.testing.assert_close(alone, batch[:1], rtol=1e-4, atol=1e-5)
        assert (generator(z) - batch).abs().max() > 1e-3
        torch.testing.assert_close(of_reference, generator(reference), rtol=1e-3, atol=1e-4)
    assert (together - batch).abs().max() > 1e-4


def test_presets_are_found_by_name_and_errors_name_the_nearest() -> None:
    assert resolve("paper-64", width=16).width == 16
    with pytest.raises(ValueError, match="nearest is 'paper-64'"):
        resolve("paper64")
    with pytest.raises(ValueError, match="'learning_rat'; the nearest is 'learning_rate'"):
        resolve("paper-64", learning_rat=1)
    with pytest.raises(ValueError, match="size_px"):
        resolve("paper-64", size_px=48)
    with pytest.raises(ValueError, match="first_norm"):
        resolve("torch-4x4", first_norm="units")


def test_paper_settings() -> None:
    paper = PRESETS["paper-64"]
    assert (paper.learning_rate, paper.beta1, paper.batch_images, paper.z_dim) == (2e-4, 0.5, 128, 100)
    assert (paper.alternate, paper.z_distribution, paper.weight_decay) == ("alternate", "uniform", 1e-5)
    assert all(Preset.model_validate(preset.model_dump()) == preset for preset in PRESETS.values())
    assert all(a == 2 * b for a, b in pairwise(paper.widths))
