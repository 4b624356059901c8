"""The discriminator's architecture trained on labels: what its convolutions reach when they are told the classes."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.draws import Stream, permutation, philox
from training.evaluation.features import CHUNK_IMAGES, as_input, reference_batch
from training.networks import build, reference_statistics
from training.plan import discriminator_plan
from training.presets import Preset
from training.samples import Images

Labels = npt.NDArray[np.int64]


class SupervisedSettings(BaseModel):
    """How the discriminator's architecture is trained on labels."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    trials: int = Field(default=8, ge=1, description="draws of the random search; the paper's for SVHN had 64")
    search_images: int | None = Field(
        default=10_000, ge=1, description="training images that a trial learns from, at most; none: all"
    )
    search_epochs: int = Field(default=5, ge=1, description="times that a trial sees each of them")
    epochs: int = Field(
        default=12, ge=1, description="times that the best trial's settings then see all training images"
    )
    few_draws: int = Field(
        default=0,
        ge=0,
        description="draws of per_class labels that networks are trained on with the best trial's settings; 0: none",
    )
    few_epochs: int = Field(default=30, ge=1, description="times that such a network sees each of its images")


@dataclass(frozen=True)
class Trial:
    """One draw of the random search."""

    learning_rate: float
    beta1: float
    weight_decay: float
    dropout: float
    batch_images: int


def last_units(preset: Preset) -> int:
    """Values that the discriminator's last convolution gives of an image."""
    return [x.out_units for x in discriminator_plan(preset) if x.kind == "conv" and x.activation != "none"][-1]


class Classifier(nn.Module):
    """The discriminator's convolutions with initial weights of the seed, dropout, and one linear layer of classes.

    images: float32[N, C, H, W], -1..1 -> logits: float32[N, classes].
    """

    def __init__(self, preset: Preset, classes: int, dropout: float, seed: int, device: torch.device) -> None:
        super().__init__()
        self.convolutions = build(preset, seed, device)[1]
        self.dropout = dropout
        units = last_units(preset)
        self.classes = nn.Linear(units, classes, device=device)
        with torch.no_grad():
            draw = np.random.Generator(philox(seed, Stream.SEARCH, 1))
            weights = draw.normal(0.0, preset.deviation, (classes, units))
            self.classes.weight.copy_(torch.from_numpy(weights))
            self.classes.bias.zero_()

    def forward(self, images: Tensor, keep: Tensor | None = None) -> Tensor:
        """keep: of the flattened features, float32[N, units], 0 where one is dropped; None: all are kept."""
        x = self.convolutions.activations(images)[-1].flatten(1)
        return self.classes(x if keep is None else x * keep)  # type: ignore[no-any-return]


def draw_trials(settings: SupervisedSettings, seed: int) -> list[Trial]:
    """The trials of the random search; the first ones don't depend on how many are asked for."""
    draw = np.random.Generator(philox(seed, Stream.SEARCH))
    return [
        Trial(
            learning_rate=round(math.exp(draw.uniform(math.log(1e-4), math.log(3e-3))), 6),
            beta1=round(draw.uniform(0.5, 0.95), 3),
            weight_decay=round(math.exp(draw.uniform(math.log(1e-6), math.log(1e-2))), 8),
            dropout=round(draw.uniform(0.0, 0.6), 3),
            batch_images=int(draw.choice([32, 64, 128])),
        )
        for _ in range(settings.trials)
    ]


@dataclass(frozen=True)
class Search:
    """The best trial by the validation part, and all trials with their accuracies on it."""

    best: Trial
    accuracy: float
    tried: list[dict[str, float]]


def search(
    preset: Preset,
    images: Images,
    labels: Labels,
    classes: int,
    settings: SupervisedSettings,
    validation_share: float,
    seed: int,
    device: torch.device,
    say: Callable[[str], None] | None = None,
) -> Search:
    """Train once with each draw of settings on a part of the training images, and look at the validation part.

    images: uint8[N, H, W, C]; labels: int64[N], of the training images alone.

    Source: Radford et al. 2016, section 5.2: a random search over settings of the supervised network.
    """
    order = permutation(len(images), philox(seed, Stream.SEARCH, 2))
    held = max(1, round(validation_share * len(images)))
    validation, rest = order[:held], order[held:][: settings.search_images]
    reached: list[tuple[float, Trial]] = []
    for number, trial in enumerate(draw_trials(settings, seed)):
        network = train(preset, images[rest], labels[rest], classes, trial, settings.search_epochs, seed, device)
        found = accuracy(network, images[validation], labels[validation], reference_batch(images[rest], 512, seed))
        reached.append((found, trial))
        if say is not None:
            say(f"supervised trial {number + 1} of {settings.trials}: {found:.1%} of the validation part")
    best = max(reached, key=lambda pair: pair[0])
    tried = [asdict(trial) | {"validation": round(found, 4)} for found, trial in reached]
    return Search(best[1], best[0], tried)


def train(
    preset: Preset,
    images: Images,
    labels: Labels,
    classes: int,
    trial: Trial,
    epochs: int,
    seed: int,
    device: torch.device,
    say: Callable[[str], None] | None = None,
) -> Classifier:
    """A classifier trained with Adam and cross-entropy, its step falling evenly to nothing; in evaluation mode.

    images: uint8[N, H, W, C]; labels: int64[N]. No augmentation. What doesn't fill a batch waits for another epoch.
    """
    network = Classifier(preset, classes, trial.dropout, seed, device).train()
    taught = [p for name, p in network.named_parameters() if not name.startswith("convolutions.dense")]
    adam = torch.optim.Adam(
        taught, lr=trial.learning_rate, betas=(trial.beta1, 0.999), weight_decay=trial.weight_decay, fused=True
    )
    batch_images = min(trial.batch_images, len(images))
    per_epoch = len(images) // batch_images
    for update in range(epochs * per_epoch):
        epoch, place = divmod(update, per_epoch)
        if place == 0:
            order = permutation(len(images), philox(seed, Stream.SEARCH, 3, epoch))
        rows = order[place * batch_images : (place + 1) * batch_images]
        for group in adam.param_groups:
            group["lr"] = trial.learning_rate * (1 - update / (epochs * per_epoch))
        adam.zero_grad(set_to_none=True)
        logits = network(as_input(images[rows], device), _kept(network, len(rows), seed, update, device))
        F.cross_entropy(logits, torch.from_numpy(labels[rows]).to(device)).backward()  # type: ignore[no-untyped-call]
        adam.step()
        if say is not None and place == per_epoch - 1:
            say(f"supervised: epoch {epoch + 1} of {epochs}")
    return network.eval()


def _kept(network: Classifier, images: int, seed: int, update: int, device: torch.device) -> Tensor | None:
    if not network.dropout:
        return None
    draw = np.random.Generator(philox(seed, Stream.SEARCH, 4, update))
    kept = draw.random((images, network.classes.in_features), dtype=np.float32) >= network.dropout
    return torch.from_numpy(kept).to(device, torch.float32).div_(1 - network.dropout)


@torch.no_grad()
def accuracy(network: Classifier, images: Images, labels: Labels, reference: Images) -> float:
    """The share of images that are put into their class; batch norm has the statistics of the `reference` images."""
    device = network.classes.weight.device
    right = 0
    with reference_statistics(network.convolutions, as_input(reference, device)):
        for first in range(0, len(images), CHUNK_IMAGES):
            said = network(as_input(images[first : first + CHUNK_IMAGES], device)).argmax(1).cpu().numpy()
            right += int((said == labels[first : first + CHUNK_IMAGES]).sum())
    return right / len(images)
