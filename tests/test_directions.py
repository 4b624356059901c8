"""Directions: against scipy's generalised eigenvectors, and what they do with mirror images and few pictures."""

import numpy as np
import scipy.linalg
import torch

from dedup.directions import Directions, cosines, find_directions
from dedup.inputs import InDirections, medians, network_input


def test_the_frequencies_are_orthogonal_and_know_what_mirroring_does() -> None:
    waves, odd, strength = cosines()
    gram = waves[:, :300].t() @ waves[:, :300]  # 24 * 25 / 2 of luma
    weight = 0.299**2 + 0.587**2 + 0.114**2
    torch.testing.assert_close(gram, weight * torch.eye(300), atol=1e-5, rtol=0)
    turned = waves.view(32, 32, 3, -1).flip(1).reshape(waves.shape)
    torch.testing.assert_close(turned, waves * torch.where(odd, -1.0, 1.0), atol=1e-5, rtol=0)
    assert float(strength.min()) > 0
    assert int(strength.argmax()) == 0


def drawn_amounts(images: int) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    _, _, strength = cosines()
    clean = torch.randn(images, len(strength), generator=draw) * strength.sqrt() * 20
    return clean, clean + torch.randn(clean.shape, generator=draw) * torch.linspace(0.5, 2, len(strength))


def found_in(clean: torch.Tensor, seen: torch.Tensor, images: int, count: int = 40) -> Directions:
    return find_directions(clean, seen, images, count, cosines())


def test_directions_are_fishers_discriminants() -> None:
    clean, seen = drawn_amounts(20_000)
    directions = found_in(clean, seen, len(clean))
    odd = cosines()[1]
    within = np.cov((seen - clean).numpy().T)
    total = np.cov((clean - clean.mean(dim=0)).numpy().T)
    parity = np.equal.outer(odd.numpy(), odd.numpy())  # mirror images are pictures too
    expected = scipy.linalg.eigh(total * parity, within * parity, eigvals_only=True)[::-1][:40]
    axes = directions.in_frequencies.double().numpy()
    np.testing.assert_allclose(np.diag(axes.T @ total @ axes) / np.diag(axes.T @ within @ axes), expected, rtol=0.05)
    np.testing.assert_allclose(np.diag(axes.T @ within @ axes), 1, rtol=0.05)  # changes move by 1
    assert not directions.odd.all()
    assert directions.odd.any()


def test_a_few_pictures_give_as_many_directions() -> None:
    for images in (1, 2, 30):
        clean, seen = (amounts[:images].repeat(-(-600 // images), 1) for amounts in drawn_amounts(600))
        directions = found_in(clean, seen + 0.1 * torch.randn(seen.shape), images, count=128)
        assert torch.isfinite(directions.matrix).all()
        assert int(torch.linalg.matrix_rank(directions.matrix)) == 128
    nothing = torch.zeros(5, len(cosines()[1]))
    assert torch.isfinite(found_in(nothing, nothing, 5).matrix).all()


def test_folded_weights_see_in_pixels_what_units_see_in_directions() -> None:
    rng = np.random.default_rng(1)
    pixels = torch.from_numpy(rng.integers(0, 256, (300, 3072), np.uint8))
    draw = torch.Generator().manual_seed(0)

    def corrupt(batch: torch.Tensor, middle: torch.Tensor) -> torch.Tensor:
        return network_input(batch, True) - middle + 0.1 * torch.randn(batch.shape, generator=draw)

    inputs = InDirections(pixels, True, corrupt, count=24, mirror_units=True, draw=draw)
    encode = torch.randn(128, 24, generator=draw) * inputs.unit_sees
    weights, bias = inputs.folded(encode, torch.zeros(128))
    rows = weights.view(128, 32, 32, 3)
    sign = torch.where(inputs.odd, -1.0, 1.0)
    assert torch.equal(rows.flip(2), rows * sign[:, None, None, None])
    clean, _ = inputs.batch(torch.arange(300))
    on_pixels = network_input(pixels, True).double() @ weights.t() + bias
    in_directions = clean.double() @ encode.double().t()
    # Half of the looks are at mirror images: units that see the negative then, and those that see the same.
    straight, turned = (in_directions - on_pixels).abs(), (in_directions - on_pixels * sign).abs()
    off = torch.minimum(straight[:, inputs.odd].amax(dim=1), turned[:, inputs.odd].amax(dim=1))
    assert float(off.max()) < 1e-2
    assert float(straight[:, ~inputs.odd].max()) < 1e-2


def test_medians_of_few_standardised_images_fade() -> None:
    rng = np.random.default_rng(2)
    weights = rng.normal(0, 0.02, (128, 3072))
    pixels = torch.from_numpy(rng.integers(0, 256, (2001, 3072), np.uint8))
    for standardise in (True, False):
        for images in (2001, 1):
            inputs = network_input(pixels[:images], standardise).numpy()
            faded = 1 / 4097 if standardise and images == 1 else 1.0
            expected = faded * np.median(inputs @ weights.T, axis=0)
            found = medians(weights, pixels[:images], standardise)
            np.testing.assert_allclose(found, expected, rtol=0.01, atol=1e-3)
