"""The discriminator's features of many images: each of its own image alone, whatever is beside it."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from shard_fixture import draw_images

from training.evaluation import features
from training.evaluation.noise import NoiseSettings, train_on_noise
from training.networks import Discriminator, build, reference_statistics
from training.presets import Preset, resolve

CPU = torch.device("cpu")
SVHN = resolve("svhn-32", width=4, batch_images=16)


def _discriminator(preset: Preset = SVHN) -> Discriminator:
    return build(preset, 3, CPU)[1].eval()


@pytest.mark.parametrize(
    ("preset", "length"), [("imagenet-32", 28_672), ("svhn-32", 7_168), ("mnist-28", 3_072), ("torch-4x4", 15_360)]
)
def test_the_papers_lengths(preset: str, length: int) -> None:
    assert features.feature_count(resolve(preset)) == length


def test_many_images_have_the_features_of_a_plain_loop() -> None:
    discriminator, images = _discriminator(), draw_images(40)
    reference = images[:16]
    found = features.extract(discriminator, images, reference)
    assert found.shape == (40, 16 * (4 + 8 + 16))
    assert found.dtype == np.float32
    plain = []
    with torch.no_grad(), reference_statistics(discriminator, features.as_input(reference, CPU)):
        for image in images:
            layers = discriminator.activations(features.as_input(image[None], CPU))
            plain.append(np.concatenate([F.max_pool2d(x, x.shape[-1] // 4)[0].flatten().numpy() for x in layers]))
    np.testing.assert_allclose(found, np.stack(plain), rtol=0, atol=2e-5)


def test_neighbours_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "CHUNK_IMAGES", 7)
    discriminator, images = _discriminator(), draw_images(30)
    reference = draw_images(16, seed=1)
    whole = features.extract(discriminator, images, reference)
    np.testing.assert_allclose(features.extract(discriminator, images[11:13], reference), whole[11:13], atol=1e-6)
    np.testing.assert_allclose(features.extract(discriminator, images[::-1], reference)[::-1], whole, atol=1e-6)
    other = features.extract(discriminator, images, draw_images(16, seed=2))
    assert np.abs(other - whole).max() > 1e-3, "the reference batch is what they do depend on"


def test_half_the_memory_keeps_three_digits() -> None:
    discriminator, images = _discriminator(), draw_images(5)
    said: list[str] = []
    half = features.extract(discriminator, images, images, said.append, storage="float16")
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, features.extract(discriminator, images, images), rtol=1e-3, atol=1e-3)
    assert said == ["features of 5 of 5 images"]


def test_the_reference_batch_is_drawn_by_the_seed() -> None:
    images = np.arange(50, dtype=np.uint8)[:, None, None, None] * np.ones((50, 2, 2, 1), np.uint8)
    one = features.reference_batch(images, 20, 1)
    np.testing.assert_array_equal(one, features.reference_batch(images, 20, 1))
    assert len(np.unique(one[:, 0, 0, 0])) == 20
    assert not np.array_equal(one, features.reference_batch(images, 20, 2))
    assert len(features.reference_batch(images, 512, 1)) == 50


def test_small_features_are_standard_too_where_less_is_added_to_their_variance() -> None:
    train = np.random.default_rng(0).normal(0, 0.02, (3000, 4)).astype(np.float32)
    features.standardise(train, train[:1].copy(), smallest_variance=1e-6)
    np.testing.assert_allclose(train.std(0, dtype=np.float64), 1, atol=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_standard_features_have_mean_0_and_deviation_1(dtype: type[np.floating]) -> None:
    draw = np.random.default_rng(0)
    train: features.Features = (draw.normal(size=(3000, 6)) * [1, 5, 20, 1, 1, 0] + 3).astype(dtype)
    test = train[:10].copy()
    features.standardise(train, test)
    np.testing.assert_allclose(train.mean(0, dtype=np.float64), 0, atol=2e-3)
    np.testing.assert_allclose(train.std(0, dtype=np.float64), [1, 1, 1, 1, 1, 0], atol=0.01)
    np.testing.assert_array_equal(test, train[:10])


def test_the_mean_squared_norm_is_that_of_numpy() -> None:
    array = np.random.default_rng(0).normal(size=(2500, 7)).astype(np.float32)
    assert features.mean_squared_norm(array) == pytest.approx((array.astype(np.float64) ** 2).sum(1).mean())


# Noise


@pytest.mark.parametrize("alternate", ["alternate", "both"])
def test_noise_teaches_both_networks_the_same_again(alternate: str) -> None:
    preset = resolve("svhn-32", width=2, batch_images=4, alternate=alternate)
    said: list[str] = []
    one = train_on_noise(preset, 3, NoiseSettings(images=400), CPU, said.append).state_dict()
    assert said == ["trained on 400 of 400 images of noise"]
    again = train_on_noise(preset, 3, NoiseSettings(images=400), CPU).state_dict()
    began = build(preset, 3, CPU)[1].state_dict()
    for name, value in one.items():
        torch.testing.assert_close(value, again[name], rtol=0, atol=0)
        assert not torch.equal(value, began[name])


def test_noise_that_tears_the_weights_apart_is_told() -> None:
    preset = resolve("svhn-32", width=4, batch_images=16, learning_rate=1e30)
    with pytest.raises(FloatingPointError, match="leave the row noise out"):
        train_on_noise(preset, 3, NoiseSettings(images=160), CPU)
