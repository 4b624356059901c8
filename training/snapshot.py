"""The players' state as a checkpoint, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from training.adversarial import Players
from training.checkpoint import Checkpoint, Moments, Weights


def of_players(
    players: Players,
    seed: int,
    samples: int,
    update: int,
    seconds: float,
    state: dict[str, Any] | None = None,
    marks: npt.NDArray[np.uint8] | None = None,
    order: str | None = None,
) -> Checkpoint:
    """The checkpoint of a run: a copy, which later updates leave as it is."""
    return Checkpoint(
        update=update,
        images_seen=update * players.preset.batch_images,
        seconds=seconds,
        seed=seed,
        samples=samples,
        order=order,
        preset=players.preset.model_dump(),
        precision=players.precision,
        generator=_copied(players.generator),
        discriminator=_copied(players.discriminator),
        generator_adam=_moments(players.generator, players.generator_adam),
        discriminator_adam=_moments(players.discriminator, players.discriminator_adam),
        marks=marks,
        state=state or {},
    )


def _copied(network: torch.nn.Module) -> Weights:
    copied = {name: value.detach().to("cpu", copy=True) for name, value in network.state_dict().items()}
    return {name: value.contiguous() for name, value in copied.items()}


def _moments(network: torch.nn.Module, adam: torch.optim.Adam) -> Moments:
    return {
        f"{name}/{key}": value.detach().to("cpu", copy=True).contiguous().numpy()
        for name, parameter in network.named_parameters()
        for key, value in adam.state[parameter].items()
    }


def restore(checkpoint: Checkpoint, players: Players) -> None:
    """Give the players the checkpoint's weights and optimisers."""
    for network, weights, adam, moments in (
        (players.generator, checkpoint.generator, players.generator_adam, checkpoint.generator_adam),
        (players.discriminator, checkpoint.discriminator, players.discriminator_adam, checkpoint.discriminator_adam),
    ):
        network.load_state_dict(weights)
        _restore_moments(network, adam, moments)


def _restore_moments(network: torch.nn.Module, adam: torch.optim.Adam, moments: Moments) -> None:
    by_parameter: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        name, _, moment = key.rpartition("/")
        by_parameter.setdefault(name, {})[moment] = torch.from_numpy(value.copy())
    numbered = {
        number: by_parameter[name]
        for number, (name, _) in enumerate(network.named_parameters())
        if name in by_parameter
    }
    adam.load_state_dict({"state": numbered, "param_groups": adam.state_dict()["param_groups"]})
    # Moments come in the plain layout; a step over two layouts at once would be slow, and round otherwise.
    for parameter, state in adam.state.items():
        for moment, value in state.items():
            if value.shape == parameter.shape:
                state[moment] = torch.empty_like(parameter, requires_grad=False).copy_(value)
