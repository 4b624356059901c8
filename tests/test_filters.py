"""What filters see: guided gradients against a plain loop, fields against probing, figures of known answers."""

import json

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from subjects import checkpoint_of
from torch import Tensor

from pipelines.measurements import filters as measurement
from pipelines.measurements.given import Given, Readiness
from pipelines.recipe import EvaluateSettings
from training.evaluation.filters import FiltersSettings, answers, cut, filters, selectivity
from training.evaluation.guided import GuidedDiscriminator, convolutions, guided_gradients, receptive_field
from training.evaluation.measured import Subject, Unmeasurable
from training.networks import Discriminator, build, reference_statistics
from training.presets import Preset, resolve

_PAPER = resolve("paper-64", size_px=32, width=4)
_PRESETS = [_PAPER, resolve("svhn-32", width=4), resolve("mnist-28", width=4), resolve("imagenet-32", width=4)]


def _discriminator(preset: Preset, seed: int = 0) -> Discriminator:
    return build(preset, seed, torch.device("cpu"))[1].eval()


def _images(preset: Preset, images: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    shape = (images, preset.size_px, preset.size_px, preset.image_channels)
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def _tensor(images: npt.NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def _subject(preset: Preset, seed: int = 0) -> Subject:
    return Subject(checkpoint_of(preset, weights=7, seed=7), seed)


def _plain_guided(discriminator: Discriminator, image: Tensor, number: int, place: tuple[int, int]) -> Tensor:
    """Guided backpropagation, layer by layer backwards, each by torch's own gradient of that layer alone."""
    x, steps = image[None], []
    for layer in convolutions(discriminator.plan):
        weight = discriminator.get_parameter(f"{layer.name}.weight").detach()
        convolved = F.conv2d(x, weight, stride=layer.stride, padding=layer.padding)
        gain = torch.ones(layer.outside)
        if layer.norm != "none":
            norm = discriminator.get_submodule(f"{layer.name}_norm")
            mean, variance = norm.fixed  # type: ignore[misc]
            gain = norm.weight.detach() / torch.sqrt(variance + norm.eps)  # type: ignore[operator]
            convolved = (convolved - mean[:, None, None]) * gain[:, None, None]
            convolved = convolved + norm.bias.detach()[:, None, None]  # type: ignore[operator]
        steps.append((layer, weight, gain, x, convolved))
        x = torch.where(convolved > 0, convolved, discriminator.preset.leak * convolved)
    gradient = torch.zeros_like(x)
    gradient[0, number, place[0], place[1]] = 1.0
    for layer, weight, gain, before, convolved in reversed(steps):
        gradient = gradient.clamp(min=0) * (convolved > 0) * gain[:, None, None]
        height, width = before.shape[2:]
        more = [side - (out - 1) * layer.stride + 2 * layer.padding - layer.kernel for side, out in
                ((height, gradient.shape[2]), (width, gradient.shape[3]))]  # fmt: skip
        gradient = F.conv_transpose2d(
            gradient, weight, stride=layer.stride, padding=layer.padding, output_padding=tuple(more)
        )
    return gradient[0]


@pytest.mark.parametrize("preset", _PRESETS, ids=lambda preset: preset.name)
def test_guided_gradients_are_those_of_a_plain_loop(preset: Preset) -> None:
    discriminator = _discriminator(preset)
    guided = GuidedDiscriminator(discriminator)
    images = _tensor(_images(preset, 6))
    with reference_statistics(guided, images):
        last = guided.activations(images)[-1]
        best, flat = last.flatten(2).max(dim=2)
        maps = torch.tensor([0, 1, 2, 3, 0, 1])
        flat = flat[torch.arange(6), maps]
        places = torch.stack([flat // last.shape[3], flat % last.shape[3]], dim=1)
        found = guided_gradients(guided, images, maps, places)
        for row in range(6):
            number, place = int(maps[row]), (int(places[row, 0]), int(places[row, 1]))
            plain = _plain_guided(guided, images[row], number, place)
            torch.testing.assert_close(found[row], plain, rtol=1e-4, atol=1e-7)
        assert (best[torch.arange(6), maps] > 0).all()
        assert found.abs().amax(dim=(1, 2, 3)).min() > 0
    assert guided.get_parameter("conv1.weight").grad is None


def test_a_unit_that_does_not_answer_has_no_guided_gradient() -> None:
    guided = GuidedDiscriminator(_discriminator(_PAPER))
    images = _tensor(_images(_PAPER, 8))
    with reference_statistics(guided, images):
        last = guided.activations(images)[-1]
        row, number, y, x = (last < 0).nonzero()[0].tolist()
        found = guided_gradients(guided, images[row : row + 1], torch.tensor([number]), torch.tensor([[y, x]]))
    assert (found == 0).all()


@pytest.mark.parametrize("preset", _PRESETS, ids=lambda preset: preset.name)
def test_it_answers_as_the_discriminator_does(preset: Preset) -> None:
    discriminator = _discriminator(preset)
    images = _tensor(_images(preset, 4))
    with torch.no_grad():
        torch.testing.assert_close(GuidedDiscriminator(discriminator)(images), discriminator(images))


@pytest.mark.parametrize("preset", _PRESETS, ids=lambda preset: preset.name)
def test_a_unit_sees_its_field_and_nothing_else(preset: Preset) -> None:
    discriminator = _discriminator(preset)
    field = receptive_field(discriminator.plan)
    image = _tensor(_images(preset, 1)).requires_grad_()
    with reference_statistics(discriminator, _tensor(_images(preset, 16, seed=1))):
        last = discriminator.activations(image)[-1]
        for row, column in ((0, 0), (1, 2), (last.shape[2] - 1, last.shape[3] - 1)):
            (gradient,) = torch.autograd.grad(last[0, :, row, column].sum(), image, retain_graph=True)
            seen = np.argwhere((gradient[0] != 0).any(dim=0).numpy())
            for axis, place in enumerate((row, column)):
                start = field.first + place * field.step
                limit = preset.size_px - 1
                assert seen[:, axis].min() == max(0, start)
                assert seen[:, axis].max() == min(limit, start + field.side - 1)


def test_cuts_are_grey_outside_of_the_picture() -> None:
    image = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    np.testing.assert_array_equal(cut(image, (2, 3), 4), image[2:6, 3:7])
    corner = cut(image, (-2, 5), 5)
    np.testing.assert_array_equal(corner[2:, :3], image[:3, 5:])
    assert (corner[:2] == 128).all()
    assert (corner[:, 3:] == 128).all()


def test_selectivity_is_0_for_all_alike_and_near_1_for_one_alone() -> None:
    alike, alone, half = np.ones(100), np.eye(100)[3], np.repeat([1.0, -5.0], 50)
    found = selectivity(np.stack([alike, alone, half, -alike]))
    assert found[:3].tolist() == pytest.approx([0, 0.99, 0.5])
    assert np.isnan(found[3])


@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=30), st.floats(0.1, 10))
def test_selectivity_does_not_hang_on_the_scale(values: list[float], scale: float) -> None:
    one = np.array([values])
    assert selectivity(one)[0] == pytest.approx(selectivity(one * scale)[0], abs=1e-9)
    assert -1e-12 <= selectivity(one)[0] < 1


def test_the_strongest_answers_are_found_where_they_are() -> None:
    discriminator = _discriminator(_PAPER)
    images = _images(_PAPER, 20)
    told = answers(discriminator, images)
    with torch.no_grad(), reference_statistics(discriminator, _tensor(images)):
        last = discriminator.activations(_tensor(images))[-1].numpy()
    for number in range(last.shape[1]):
        for row in range(20):
            y, x = told.places[number, row]
            assert last[row, number, y, x] == pytest.approx(told.strongest[number, row], rel=1e-4, abs=1e-5)
            assert told.strongest[number, row] == pytest.approx(last[row, number].max(), rel=1e-4, abs=1e-5)
    assert ((told.concentration > 0.05) & (told.concentration <= 1)).all()


@pytest.mark.parametrize("preset", [_PAPER, _PRESETS[2]], ids=lambda preset: preset.name)
def test_the_measurement_is_the_same_each_time_grey_too(preset: Preset) -> None:
    images, settings = _images(preset, 20), FiltersSettings(features=3, patches=2)
    measured, again = (filters(_subject(preset), images, settings) for _ in range(2))
    assert json.dumps(measured.figures) == json.dumps(again.figures)
    np.testing.assert_array_equal(measured.pictures["filters"], again.pictures["filters"])
    picture, field = measured.pictures["filters"], receptive_field(_discriminator(preset).plan)
    assert picture.shape[2] == preset.image_channels
    times = max(1, round(60 / field.side))
    assert picture.shape[1] == 2 * (4 * (field.side * times + 2) + 2) + 12
    assert set(measured.captions) == {"filters"}


def test_random_weights_are_no_more_selective_than_random_weights() -> None:
    preset = resolve("paper-64", size_px=32, width=32)
    measured = filters(_subject(preset, seed=1), _images(preset, 64), FiltersSettings(features=1))
    # 5 % in the long run; of 128 maps, of which many look alike, seldom over 20 %.
    assert measured.figures["over_95_percent_of_random"] <= 0.2
    assert measured.figures["silent_maps"] == 0


def test_a_map_that_never_answers_is_counted_and_shown_as_nothing() -> None:
    subject = _subject(_PAPER)
    with torch.no_grad():
        subject.discriminator.get_parameter("conv3_norm.weight")[0] = 0.0
        subject.discriminator.get_parameter("conv3_norm.bias")[0] = -1.0
    measured = filters(subject, _images(_PAPER, 16), FiltersSettings(features=1, patches=2))
    assert measured.figures["silent_maps"] == 1
    side = receptive_field(subject.discriminator.plan).side
    times = round(60 / side)
    gradients = measured.pictures["filters"][-side * times - 2 : -2, 2 * (side * times + 2) + 2 :]
    assert (gradients[:, : side * times] == 128).all()


def test_what_is_missing_is_said() -> None:
    settings = EvaluateSettings()
    with pytest.raises(Unmeasurable, match="--shards"):
        measurement.check(Readiness(_PAPER, settings, has_shards=False, has_codes=False))
    measurement.check(Readiness(_PAPER, settings, has_shards=True, has_codes=False))
    with pytest.raises(Unmeasurable, match="--shards"):
        measurement.take(Given(_subject(_PAPER), settings))
    with pytest.raises(Unmeasurable, match="15 held-out pictures are too few"):
        filters(_subject(_PAPER), _images(_PAPER, 15), FiltersSettings())
