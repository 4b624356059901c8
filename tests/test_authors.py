"""The authors' networks: arrays in their layout come back as ours, wrong ones are told of, and theirs draws digits."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.signal import convolve2d

from training.authors import AuthorsError, discriminator_weights, generator_weights, read_arrays
from training.evaluation.features import pooled_features
from training.networks import Discriminator, Generator, build
from training.plan import Plan, discriminator_plan, generator_plan
from training.presets import Preset, resolve
from training.samples import fixed_z, to_pixels

CPU = torch.device("cpu")
DATA = Path(__file__).parents[2] / "shared" / "data"
Array = npt.NDArray[np.float32]


def stored(plan: Plan, seed: int = 0) -> dict[str, Array]:
    """Random arrays in the authors' layout: names 01, 02, ...; dense [in, out], kernels [.., .., k, k]."""
    draw, arrays = np.random.default_rng(seed), []
    for layer in plan:
        arrays.append(draw.normal(size=layer.weight_shape[::-1] if layer.kind == "dense" else layer.weight_shape))
        if layer.norm != "none":
            arrays += [draw.normal(size=layer.norm_features) for _ in range(2)]
    return {f"{number:02d}": array.astype(np.float32) for number, array in enumerate(arrays, 1)}


@pytest.mark.parametrize("name", ["svhn-32", "imagenet-32"])
def test_arrays_fill_both_networks(name: str) -> None:
    preset = resolve(name, width=4)
    generator, discriminator = build(preset, 0, CPU)
    generator.load_state_dict(generator_weights(preset, stored(generator_plan(preset))))
    discriminator.load_state_dict(discriminator_weights(preset, stored(discriminator_plan(preset))))
    arrays = stored(generator_plan(preset))
    np.testing.assert_array_equal(generator.get_parameter("dense1.weight").detach(), arrays["01"].T)
    np.testing.assert_array_equal(generator.get_parameter("dense1_norm.weight").detach(), arrays["02"])
    np.testing.assert_array_equal(generator.get_parameter("dense1_norm.bias").detach(), arrays["03"])


def test_arrays_that_numpy_numbered_are_taken_by_number(tmp_path: Path) -> None:
    preset = resolve("imagenet-32", width=4)
    arrays = stored(generator_plan(preset))
    assert len(arrays) == 19
    np.savez(tmp_path / "numbered.npz", *arrays.values())
    found = read_arrays(tmp_path / "numbered.npz")
    assert list(found) == [f"arr_{number}" for number in range(19)]
    expected = generator_weights(preset, arrays)
    for held in (found, dict(sorted(found.items()))):
        weights = generator_weights(preset, held)
        assert all(torch.equal(weights[key], value) for key, value in expected.items())


def test_kernels_are_those_of_true_convolution() -> None:
    preset = resolve("svhn-32", width=1, z_dim=2)
    arrays = stored(discriminator_plan(preset))
    discriminator = Discriminator(preset)
    discriminator.load_state_dict(discriminator_weights(preset, arrays))
    image = np.random.default_rng(1).normal(size=(3, 32, 32))
    with torch.no_grad():
        found = discriminator.get_submodule("conv1")(torch.from_numpy(image[None].astype(np.float32)))[0, 0]
    # scipy's convolution flips kernels, as the authors' library did; theirs is padded by 2 and taken every 2 pixels.
    full = sum(convolve2d(np.pad(image[c], 2), arrays["01"][0, c], mode="valid") for c in range(3))
    assert isinstance(full, np.ndarray)
    np.testing.assert_allclose(found, full[::2, ::2], rtol=1e-4, atol=1e-4)


def saved(tmp_path: Path, arrays: dict[str, Any]) -> Path:
    np.savez(tmp_path / "a.npz", **arrays)
    return tmp_path / "a.npz"


def _without_last(arrays: dict[str, Array]) -> dict[str, Array]:
    return dict(list(arrays.items())[:-1])


def _transposed(arrays: dict[str, Array]) -> dict[str, Array]:
    return arrays | {"04": arrays["04"].swapaxes(0, 1)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_without_last, "expected the 10 arrays of preset svhn-32, got 9; check"),
        (
            _transposed,
            r"array 04 should be deconv2.weight of .* shape \(16, 8, 5, 5\), but has \(8, 16, 5",
        ),
        (
            lambda a: a | {"01": a["01"].T},
            r"array 01 should be dense1.weight .*, shape \(100, 256\), but has",
        ),
    ],
)
def test_arrays_of_another_network_are_refused(
    change: Callable[[dict[str, Array]], dict[str, Array]], message: str
) -> None:
    preset = resolve("svhn-32", width=4)
    with pytest.raises(AuthorsError, match=message):
        generator_weights(preset, change(stored(generator_plan(preset))))


def test_files_are_read_without_pickles_and_damage_is_told_of(tmp_path: Path) -> None:
    arrays = stored(generator_plan(resolve("svhn-32", width=1)))
    path = saved(tmp_path, arrays)
    found = read_arrays(path)
    assert list(found) == sorted(arrays)
    np.testing.assert_array_equal(found["04"], arrays["04"])
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(AuthorsError, match=r"can't be read as an npz without pickles .*; fetch it again"):
        read_arrays(path)
    np.savez(path, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(AuthorsError, match="can't be read as an npz without pickles"):
        read_arrays(path)
    with pytest.raises(AuthorsError, match=r"array 02 .* must hold finite real numbers"):
        read_arrays(saved(tmp_path, arrays | {"02": np.full(3, np.nan)}))
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(AuthorsError, match="holds one array, not the several of an npz"):
        read_arrays(tmp_path / "one.npy")


@pytest.fixture(scope="module")
def theirs() -> tuple[Preset, Generator, Discriminator]:
    """The authors' SVHN networks."""
    preset = resolve("svhn-32")
    generator, discriminator = Generator(preset), Discriminator(preset)
    generator.load_state_dict(generator_weights(preset, read_arrays(DATA / "authors_svhn_gen.npz")))
    discriminator.load_state_dict(discriminator_weights(preset, read_arrays(DATA / "authors_svhn_discrim.npz")))
    return preset, generator, discriminator


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "authors_svhn_gen.npz").exists(), reason="needs the authors' arrays")
def test_theirs_draws_clean_digits_and_tells_them_from_noise(
    theirs: tuple[Preset, Generator, Discriminator],
) -> None:
    preset, generator, discriminator = theirs
    with torch.no_grad():
        images = generator(torch.from_numpy(fixed_z(preset, 0, 128)))
        noise = torch.rand(128, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
        shuffled = images.flatten(2)[:, :, torch.randperm(1024, generator=torch.Generator().manual_seed(0))]
        of_images, of_noise = discriminator(images), discriminator(noise)
        of_shuffled = discriminator(shuffled.view_as(images))
        # In one batch, so with one batch's statistics, too.
        together = discriminator(torch.cat([images[:64], noise[:64]]))
    # Measured: -4.8 +- 2.3 for images, -18.6 +- 2.1 for noise, -12.8 for the images' own pixels in another order.
    assert of_images.mean() - of_noise.mean() > 4 * float(of_images.std() + of_noise.std()) / 2
    assert of_images.mean() > of_shuffled.mean() + 4
    assert together[:64].mean() > together[64:].mean() + 3
    # Digits are smooth, and unlike each other; kernels that are not flipped give patterns of single pixels.
    pixels = to_pixels(images).astype(float)
    neighbours = np.abs(np.diff(pixels, axis=2)).mean()
    others = np.abs(pixels[1:] - pixels[:-1]).mean()
    assert neighbours < 8
    assert others > 4 * neighbours


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "authors_svhn_gen.npz").exists(), reason="needs the authors' arrays")
def test_kernels_left_unflipped_are_noticed_by_their_discriminator(
    theirs: tuple[Preset, Generator, Discriminator],
) -> None:
    preset, generator, discriminator = theirs
    wrong = Generator(preset)
    wrong.load_state_dict({key: w.flip(2, 3) if w.dim() == 4 else w for key, w in generator.state_dict().items()})
    z = torch.from_numpy(fixed_z(preset, 0, 128))
    with torch.no_grad():
        assert discriminator(generator(z)).mean() > discriminator(wrong(z)).mean() + 4


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "authors_svhn_gen.npz").exists(), reason="needs the authors' arrays")
def test_their_features_are_7168(theirs: tuple[Preset, Generator, Discriminator]) -> None:
    preset, generator, discriminator = theirs
    with torch.no_grad():
        images = generator(torch.from_numpy(fixed_z(preset, 0, 16)))
    features = pooled_features(discriminator, images)
    assert features.shape == (16, 7168)
    assert bool(features.std(0).gt(0).float().mean() > 0.99)


def test_features_are_max_pooled_activations_layer_by_layer() -> None:
    discriminator = Discriminator(resolve("imagenet-32", width=2))
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    features = pooled_features(discriminator, images)
    assert (features.dtype, features.shape) == (torch.float32, (3, 16 * (2 + 2 + 4 + 4 + 8 + 8)))
    assert 16 * sum(layer.outside for layer in discriminator_plan(resolve("imagenet-32"))[:-1]) == 28672
    start = 0
    for activation in discriminator.activations(images):
        n, channels, side, _ = activation.shape
        by_field = activation.detach().reshape(n, channels, 4, side // 4, 4, side // 4).amax(dim=(3, 5))
        torch.testing.assert_close(features[:, start : start + 16 * channels], by_field.flatten(1))
        start += 16 * channels
    assert not features.requires_grad
