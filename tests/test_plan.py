"""Plans: the layers that the papers and codes name, and what they cost."""

from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from training.networks import build, count_parameters
from training.plan import Plan, discriminator_plan, generator_plan
from training.presets import PRESETS, resolve
from training.samples import fixed_z

CPU = torch.device("cpu")


def steps(plan: Plan) -> list[tuple[str, int, int, int]]:
    """(what, channels, side, stride) after each layer."""
    return [(layer.kind, layer.outside, layer.out_px, layer.stride) for layer in plan]


def test_the_imagenet_networks_are_the_authors() -> None:
    preset = PRESETS["imagenet-32"]
    assert steps(discriminator_plan(preset)) == [
        ("conv", 128, 32, 1),
        ("conv", 128, 16, 2),
        ("conv", 256, 16, 1),
        ("conv", 256, 8, 2),
        ("conv", 512, 8, 1),
        ("conv", 512, 4, 2),
        ("dense", 1, 1, 1),
    ]
    assert discriminator_plan(preset)[-1].in_units == 8192
    assert steps(generator_plan(preset)) == [
        ("dense", 512, 4, 1),
        ("deconv", 512, 8, 2),
        ("deconv", 256, 8, 1),
        ("deconv", 256, 16, 2),
        ("deconv", 128, 16, 1),
        ("deconv", 128, 32, 2),
        ("deconv", 3, 32, 1),
    ]
    assert all(layer.kernel == 3 for layer in (*generator_plan(preset)[1:], *discriminator_plan(preset)[:-1]))


def test_paper_128_is_a_side_more() -> None:
    preset = PRESETS["paper-128"]
    sides = [(1024, 4), (512, 8), (256, 16), (128, 32), (64, 64), (3, 128)]
    assert [(layer.outside, layer.out_px) for layer in generator_plan(preset)] == sides
    assert [(layer.inside, layer.in_px) for layer in discriminator_plan(preset)] == [*sides[::-1][:5], (1024, 4)]


def test_mnist_ends_in_a_hidden_layer_and_two_outputs() -> None:
    preset = PRESETS["mnist-28"]
    assert steps(generator_plan(preset)) == [("dense", 128, 7, 1), ("deconv", 64, 14, 2), ("deconv", 1, 28, 2)]
    assert steps(discriminator_plan(preset)) == [
        ("conv", 64, 14, 2),
        ("conv", 128, 7, 2),
        ("dense", 1024, 1, 1),
        ("dense", 2, 1, 1),
    ]
    assert generator_plan(preset)[0].norm_features == 7 * 7 * 128


@pytest.mark.parametrize("name", list(PRESETS))
def test_layers_join_and_the_networks_hold_what_the_plan_counts(name: str) -> None:
    preset = resolve(name, width=4)
    for network, plan in zip(build(preset, 0, CPU), (generator_plan(preset), discriminator_plan(preset)), strict=True):
        for before, after in pairwise(plan):
            assert before.out_units == after.in_units
        assert count_parameters(network) == sum(layer.parameters for layer in plan)
        kept = network.state_dict()
        assert [tuple(kept[f"{layer.name}.weight"].shape) for layer in plan] == [layer.weight_shape for layer in plan]
        assert {key.partition(".")[0].removesuffix("_norm") for key in kept} == {layer.name for layer in plan}


@pytest.mark.parametrize("name", list(PRESETS))
def test_operations_are_those_that_torch_counts(name: str) -> None:
    preset = resolve(name, width=4)
    generator, discriminator = build(preset, 0, CPU)
    images = 3
    for network, plan, batch in (
        (generator, generator_plan(preset), torch.from_numpy(fixed_z(preset, 0, images))),
        (
            discriminator,
            discriminator_plan(preset),
            torch.randn(images, preset.image_channels, preset.size_px, preset.size_px),
        ),
    ):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            network(batch)
        assert counter.get_total_flops() == images * sum(layer.flops for layer in plan)
