"""One update of each network, against the losses and Adam written out plainly in float64."""

import copy
from typing import get_args

import pytest
import torch

from training import losses
from training.adversarial import (
    Players,
    new_players,
    pixels_to_unit,
    update_both,
    update_discriminator,
    update_generator,
)
from training.presets import Preset, resolve

CPU = torch.device("cpu")
# norm_eps away from zero: a tiny network's units may have no variance at all.
TINY = resolve("paper-64", width=2, size_px=32, norm_eps=1e-3, weight_decay=1e-2)


def _players(preset: Preset = TINY, seed: int = 0) -> Players:
    return new_players(preset, seed, CPU, "float64")


def _batch(seed: int, images: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    real = torch.rand(images, 3, 32, 32, generator=draw, dtype=torch.float64) * 2 - 1
    return real, torch.rand(images, 100, generator=draw, dtype=torch.float64) * 2 - 1


class _PlainAdam:
    """Kingma and Ba 2015, algorithm 1, with L2 added to the gradient."""

    def __init__(self, parameters: list[torch.Tensor], preset: Preset) -> None:
        self.parameters, self.preset, self.steps = parameters, preset, 0
        self.first = [torch.zeros_like(p) for p in parameters]
        self.second = [torch.zeros_like(p) for p in parameters]

    def step(self, loss: torch.Tensor) -> None:
        p = self.preset
        self.steps += 1
        gradients = torch.autograd.grad(loss, self.parameters)
        for i, (value, gradient) in enumerate(zip(self.parameters, gradients, strict=True)):
            gradient = gradient + p.weight_decay * value.detach()
            self.first[i] = p.beta1 * self.first[i] + (1 - p.beta1) * gradient
            self.second[i] = p.beta2 * self.second[i] + (1 - p.beta2) * gradient**2
            mean = self.first[i] / (1 - p.beta1**self.steps)
            square = self.second[i] / (1 - p.beta2**self.steps)
            value.data -= p.learning_rate * mean / (square.sqrt() + p.adam_eps)


def _assert_equal_networks(one: torch.nn.Module, other: torch.nn.Module) -> None:
    for (name, a), b in zip(one.named_parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=f"{name} differs")


@pytest.mark.parametrize("both", [False, True])
def test_updates_are_the_papers_losses_and_adam(both: bool) -> None:
    players = _players()
    G, D = copy.deepcopy(players.generator), copy.deepcopy(players.discriminator)
    adam_g, adam_d = _PlainAdam(list(G.parameters()), TINY), _PlainAdam(list(D.parameters()), TINY)
    for turn in range(3):
        real, z = _batch(turn)
        fake = G(z).detach()
        loss_d = -torch.log(torch.sigmoid(D(real))).mean() - torch.log(1 - torch.sigmoid(D(fake))).mean()
        adam_d.step(loss_d)
        z_of_g = z if both else _batch(turn + 100)[1]
        loss_g = -torch.log(torch.sigmoid(D(G(z_of_g)))).mean()
        adam_g.step(loss_g)

        if both:
            measures = update_both(players, real, z)
        else:
            measures = update_discriminator(players, real, z) | update_generator(players, z_of_g)
        torch.testing.assert_close(measures["loss_d"], loss_d.detach())
        torch.testing.assert_close(measures["loss_g"], loss_g.detach())
        _assert_equal_networks(players.discriminator, D)
        _assert_equal_networks(players.generator, G)


def test_measures_are_mean_probabilities() -> None:
    players = _players()
    real, z = _batch(0)
    with torch.no_grad():
        d_real = torch.sigmoid(players.discriminator(real)).mean()
        d_fake = torch.sigmoid(players.discriminator(players.generator(z))).mean()
    measures = update_discriminator(players, real, z)
    torch.testing.assert_close(measures["d_real"], d_real)
    torch.testing.assert_close(measures["d_fake"], d_fake)


def test_each_update_leaves_the_other_network_alone() -> None:
    players = _players()
    real, z = _batch(0)
    before = copy.deepcopy(players.discriminator)
    update_generator(players, z)
    _assert_equal_networks(players.discriminator, before)
    assert all(p.grad is None and p.requires_grad for p in players.discriminator.parameters())
    weights = copy.deepcopy(players.generator)
    update_discriminator(players, real, z)
    _assert_equal_networks(players.generator, weights)


def test_real_and_generated_images_are_not_joined_in_one_batch() -> None:
    players = _players()
    D = copy.deepcopy(players.discriminator)
    real, z = _batch(0)
    fake = players.generator(z).detach()
    joined = D(torch.cat([real, fake]))
    loss = -torch.log(torch.sigmoid(joined[:6])).mean() - torch.log(1 - torch.sigmoid(joined[6:])).mean()
    assert abs(float(update_discriminator(players, real, z)["loss_d"] - loss.detach())) > 1e-4


def test_discriminator_learns_to_tell_and_the_generator_to_fool() -> None:
    players = _players(resolve("paper-64", width=4, size_px=32, learning_rate=2e-3))
    real, z = _batch(0, 16)
    losses = [float(update_discriminator(players, real, z)["loss_d"]) for _ in range(15)]
    assert losses[-1] < 0.5 * losses[0]
    fooling = [float(update_generator(players, z)["loss_g"]) for _ in range(15)]
    assert fooling[-1] < 0.7 * fooling[0]


def test_pixels_become_minus_one_to_one() -> None:
    images = torch.tensor([0, 255, 127], dtype=torch.uint8).view(1, 3, 1, 1)
    torch.testing.assert_close(pixels_to_unit(images, CPU).flatten(), torch.tensor([-1.0, 1.0, 127 / 127.5 - 1]))


def test_gradient_norms_are_over_all_parameters() -> None:
    players = _players()
    measures = update_both(players, *_batch(0))
    for network, name in ((players.generator, "grad_g"), (players.discriminator, "grad_d")):
        squares = sum(float(p.grad.square().sum()) for p in network.parameters() if p.grad is not None)
        assert float(measures[name]) == pytest.approx(squares**0.5, rel=1e-9)


def test_bfloat16_computes_near_float32_and_keeps_its_weights() -> None:
    preset = resolve("paper-64", width=4, size_px=32)
    long, short = new_players(preset, 0, CPU), new_players(preset, 0, CPU, "bfloat16")
    real, z = (values.float() for values in _batch(0, 16))
    exact, rough = update_both(long, real, z), update_both(short, real, z)
    for name, value in exact.items():
        assert float(rough[name]) == pytest.approx(float(value), rel=0.1), name
        assert float(rough[name]) != float(value), name
    assert all(p.dtype == torch.float32 for p in short.generator.parameters())


def test_a_learning_rate_is_what_both_networks_step_by() -> None:
    players = _players()
    before = copy.deepcopy(players.generator), copy.deepcopy(players.discriminator)
    players.set_learning_rate(0.0)
    update_both(players, *_batch(0))
    _assert_equal_networks(players.generator, before[0])
    _assert_equal_networks(players.discriminator, before[1])


_LOGITS = torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("loss", "of_real", "of_fake", "of_generator"),
    [
        ("bce", 0.956221, 1.289554, 0.956221),
        ("minimax", 0.956221, 1.289554, -1.289554),
        ("hinge", (3 + 1 + 0) / 3, (0 + 1 + 4) / 3, -1 / 3),
        ("least-squares", (9 + 1 + 4) / 6, (4 + 0 + 9) / 6, (9 + 1 + 4) / 6),
    ],
)
def test_losses(loss: losses.Loss, of_real: float, of_fake: float, of_generator: float) -> None:
    assert float(losses.of_real(loss, _LOGITS)) == pytest.approx(of_real, abs=1e-6)
    assert float(losses.of_fake(loss, _LOGITS)) == pytest.approx(of_fake, abs=1e-6)
    assert float(losses.of_generator(loss, _LOGITS)) == pytest.approx(of_generator, abs=1e-6)


def test_no_loss_overflows_where_the_discriminator_is_sure() -> None:
    sure = torch.tensor([-1e4, 1e4], dtype=torch.float32)
    for loss in get_args(losses.Loss):
        for of in (losses.of_real, losses.of_fake, losses.of_generator):
            assert torch.isfinite(of(loss, sure)), (loss, of)
