"""Networks: parameter counts, shapes, batch norm's formula, initial weights, activations."""

import numpy as np
import pytest
import torch

from training.draws import by_turns, one_hot
from training.networks import BatchNorm, Discriminator, Generator, build, count_parameters, reference_statistics
from training.presets import PRESETS, Preset, resolve
from training.samples import fixed_z

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


SIDES = [(name, px) for name in PRESETS for px in ((28,) if PRESETS[name].architecture == "mnist" else (32, 64, 128))]


@pytest.mark.parametrize(("name", "size_px"), SIDES)
@pytest.mark.parametrize("channels", [1, 3])
def test_images_have_the_asked_size_and_range(name: str, size_px: int, channels: int) -> None:
    preset = resolve(name, width=4, size_px=size_px, image_channels=channels)
    generator, discriminator = build(preset, 0, CPU)
    images = generator(torch.from_numpy(fixed_z(preset, 0, 5)))
    assert images.shape == (5, channels, size_px, size_px)
    assert images.abs().max() <= 1
    if channels > 1:
        assert images.is_contiguous(memory_format=torch.channels_last)
    assert discriminator(images).shape == (5,)


@pytest.mark.parametrize("name", list(PRESETS))
def test_every_weight_gets_a_gradient(name: str) -> None:
    generator, discriminator = build(resolve(name, width=4), 0, CPU)
    discriminator(generator(torch.from_numpy(fixed_z(generator.preset, 0, 20)))).sum().backward()
    for key, value in (*generator.named_parameters(), *discriminator.named_parameters()):
        assert value.grad is not None, key
        assert bool(value.grad.abs().max() > 0), key


def test_the_cross_entropy_of_two_outputs_is_that_of_their_difference() -> None:
    _, discriminator = build(resolve("mnist-28", width=4), 0, CPU)
    images = torch.rand(7, 1, 28, 28) * 2 - 1
    outputs: list[torch.Tensor] = []
    discriminator.get_submodule("dense4").register_forward_hook(lambda m, i, out: outputs.append(out))
    logits = discriminator(images)
    real = torch.ones(7, dtype=torch.long)
    for label in (real, 1 - real):
        of_two = torch.nn.functional.cross_entropy(outputs[0], label)
        of_one = torch.nn.functional.binary_cross_entropy_with_logits(logits, label.float())
        torch.testing.assert_close(of_one, of_two)


@pytest.mark.parametrize("name", list(PRESETS))
def test_activations_are_what_goes_on_to_the_next_layer(name: str) -> None:
    _, discriminator = build(resolve(name, width=4), 0, CPU)
    preset = discriminator.preset
    images = torch.rand(5, preset.image_channels, preset.size_px, preset.size_px) * 2 - 1
    entered: dict[str, torch.Tensor] = {}
    for key, module in discriminator.named_children():
        module.register_forward_pre_hook(lambda m, inputs, key=key: entered.update({key: inputs[0].clone()}))
    logits = discriminator(images)
    found = discriminator.activations(images)
    convolutions = [layer for layer in discriminator.plan if layer.activation == "leaky_relu" and layer.kind == "conv"]
    assert [tuple(x.shape[1:]) for x in found] == [layer.out_shape for layer in convolutions]
    for after, activation in zip(discriminator.plan[1:], found, strict=False):
        before = entered[after.name][:, : after.entering - after.labels]
        torch.testing.assert_close(activation.reshape(5, -1), before.reshape(5, -1))
    torch.testing.assert_close(discriminator(images), logits)


def test_widths_double_towards_the_small_end() -> None:
    assert resolve("paper-64").widths == (1024, 512, 256, 128)
    assert resolve("paper-64", size_px=128, width=16).widths == (256, 128, 64, 32, 16)


def test_reference_statistics_hold_for_the_discriminator_too() -> None:
    _, discriminator = build(resolve("svhn-32", width=4), 0, CPU)
    images, reference = torch.rand(6, 3, 32, 32), torch.rand(20, 3, 32, 32)
    with torch.no_grad(), reference_statistics(discriminator, reference):
        torch.testing.assert_close(discriminator(images)[:1], discriminator(images[:1]), rtol=1e-4, atol=1e-5)


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
    for first_norm, features in (("units", 32 * 16), ("channels", 32)):
        generator, _ = build(resolve("paper-64", width=4, first_norm=first_norm), 0, CPU)
        assert generator.get_parameter("dense1_norm.weight").numel() == features


def test_batch_norm_is_left_out_where_the_paper_leaves_it_out() -> None:
    for name in ("paper-64", "paper-128", "torch-4x4", "imagenet-32", "svhn-32"):
        generator, discriminator = build(resolve(name, width=4), 0, CPU)
        *inner, last = generator.plan
        assert all(f"{layer.name}_norm.weight" in generator.state_dict() for layer in inner)
        assert f"{last.name}_norm.weight" not in generator.state_dict()
        first, *inner, last = discriminator.plan
        assert all(f"{layer.name}_norm.weight" in discriminator.state_dict() for layer in inner)
        assert not {f"{layer.name}_norm.weight" for layer in (first, last)} & set(discriminator.state_dict())


def test_weights_follow_the_seed_and_the_papers_spread() -> None:
    preset = resolve("paper-64", width=32)
    first, again, other = (build(preset, seed, CPU)[0].state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["dense1.weight"], other["dense1.weight"])
    assert first["dense1.weight"].std() == pytest.approx(0.02, rel=0.01)
    assert first["dense1_norm.weight"].mean() == pytest.approx(1.0, abs=0.002)
    assert first["dense1_norm.weight"].std() == pytest.approx(0.02, rel=0.1)
    assert not first["dense1_norm.bias"].any()


def test_deconvolution_is_the_gradient_of_the_stride_2_convolution() -> None:
    generator, _ = build(resolve("paper-64", width=2), 0, CPU)
    layer = generator.deconv2
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


CONDITIONAL = [(name, 28 if PRESETS[name].architecture == "mnist" else 32) for name in PRESETS if name != "paper-128"]


@pytest.mark.parametrize(("name", "size_px"), CONDITIONAL)
def test_every_layer_is_told_the_label(name: str, size_px: int) -> None:
    plain = resolve(name, width=4, size_px=size_px, classes=0)
    preset = plain.model_copy(update={"classes": 3})
    for network, without in zip(build(preset, 0, CPU), build(plain, 0, CPU), strict=True):
        for layer in network.plan:
            weight, fewer = (of.get_parameter(f"{layer.name}.weight") for of in (network, without))
            more = layer.out_units if layer.kind == "dense" else layer.outside * layer.kernel**2
            assert weight.numel() - fewer.numel() == 3 * more
            assert weight.numel() == layer.weights


@pytest.mark.parametrize(("name", "size_px"), CONDITIONAL)
def test_a_label_joins_as_channels_that_hold_it_everywhere(name: str, size_px: int) -> None:
    preset = resolve(name, width=2, size_px=size_px, classes=3, norm_eps=1e-3)
    generator, discriminator = (network.double() for network in build(preset, 0, CPU))
    z = torch.from_numpy(fixed_z(preset, 0, 6)).double()
    y = z[:, preset.z_dim :]
    images = generator(z)
    torch.testing.assert_close(images, _plainly(generator, z[:, : preset.z_dim], y))
    logits = _plainly(discriminator, images, y).flatten(1)
    torch.testing.assert_close(discriminator(images, y), logits[:, -1] - logits[:, 0] * (logits.shape[1] - 1))
    assert (discriminator(images, y.roll(1, 0)) - discriminator(images, y)).abs().min() > 0
    assert (generator(torch.cat([z[:, : preset.z_dim], y.roll(1, 0)], 1)) - images).abs().amax((1, 2, 3)).min() > 0
    torch.testing.assert_close(discriminator(images), discriminator(images, torch.full_like(y, 1 / 3)))


def _plainly(network: Generator | Discriminator, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The plan, layer by layer, with torch's own operations."""
    for layer in network.plan:
        weight = network.get_parameter(f"{layer.name}.weight")
        if layer.kind == "dense":
            x = torch.cat([x.flatten(1), y], 1) @ weight.t()
        else:
            x = x.view(len(x), layer.inside, layer.in_px, layer.in_px)
            x = torch.cat([x, y.view(*y.shape, 1, 1) * torch.ones(1, 1, layer.in_px, layer.in_px)], 1)
            if layer.kind == "conv":
                x = torch.nn.functional.conv2d(x, weight, stride=layer.stride, padding=layer.padding)
            else:
                x = torch.nn.functional.conv_transpose2d(
                    x, weight, None, layer.stride, layer.padding, layer.output_padding
                )
        if layer.norm == "channels":
            x = x.view(len(x), layer.outside, layer.out_px, layer.out_px)
        if layer.norm != "none":
            gain, bias = (network.get_parameter(f"{layer.name}_norm.{of}") for of in ("weight", "bias"))
            x = torch.nn.functional.batch_norm(x, None, None, gain, bias, training=True, eps=network.preset.norm_eps)
        x = x.view(len(x), layer.outside, layer.out_px, layer.out_px)
        relu = torch.nn.functional.leaky_relu(x, 0.2 if layer.activation == "leaky_relu" else 0.0)
        x = torch.tanh(x) if layer.activation == "tanh" else x if layer.activation == "none" else relu
    return x


def test_a_generator_with_classes_refuses_z_without_a_label() -> None:
    generator, _ = build(resolve("mnist-28-conditional", width=2), 0, CPU)
    with pytest.raises(ValueError, match=r"z has 100 values, but .* takes 100 and a one-hot label of 10; join them"):
        generator(torch.zeros(3, 100))


def test_reference_statistics_are_of_images_with_their_labels() -> None:
    _, discriminator = build(resolve("mnist-28-conditional", width=4), 0, CPU)
    images = torch.rand(20, 1, 28, 28) * 2 - 1
    y = torch.from_numpy(one_hot(by_turns(20, 10), 10))
    with torch.no_grad():
        own = discriminator(images, y)
        with reference_statistics(discriminator, images, y):
            torch.testing.assert_close(discriminator(images[:1], y[:1]), own[:1], rtol=1e-4, atol=1e-5)


def test_networks_without_classes_are_what_they_were() -> None:
    """Of the weights that a seed gives, and the settings that checkpoints and cards hold."""
    preset = resolve("mnist-28", width=2)
    assert "classes" not in preset.model_dump()
    assert "classes" not in preset.model_dump_json()
    assert Preset.model_validate(preset.model_dump()).classes == 0
    conditional = resolve("mnist-28-conditional")
    assert Preset.model_validate(conditional.model_dump()) == conditional
    assert conditional.model_dump()["classes"] == 10
    assert resolve("mnist-28-conditional", classes=0).latent_dim == 100
