"""A classifier of attributes, such as smile and glasses: the judge of pictures that a generator makes.

It is trained on pictures whose attributes are known, and shares no weight with the discriminator, so what is judged
has no part in the judgement.
"""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from training.draws import Stream, permutation, philox
from training.samples import Images

Floats = npt.NDArray[np.float32]

_SIDED = re.compile(r"(?<![a-z])(left|right)(?![a-z])")
_LAST_PX = 4
_CHUNK_IMAGES = 256
_MOST_WEIGHT = 10.0


class ClassifierSettings(BaseModel):
    """How the classifier of attributes is trained."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    width: int = Field(default=16, ge=1, description="channels of the first convolution; they double up to four times")
    hidden: int = Field(default=64, ge=2, description="units of the layer before the last")
    epochs: int = Field(default=20, ge=1, description="times that each picture is seen")
    batch_images: int = Field(default=64, ge=2, description="pictures in a batch")
    learning_rate: float = Field(default=2e-3, gt=0, description="Adam's step size at the start; it falls to 0")
    shift_px: int = Field(default=2, ge=0, description="pictures are shifted by up to so many pixels in training")
    noise: float = Field(default=0.05, ge=0, description="deviation of noise added in training; pictures are -1..1")
    heldout_share: float = Field(
        default=0.15,
        gt=0,
        lt=0.5,
        description="share kept out of training to measure accuracy on, and as much again to set thresholds by",
    )


class AttributeClassifier:
    """What a picture shows, as a probability for each attribute.

    names: of the attributes, in the order of the columns
    accuracy: of each attribute on pictures kept out of training, the mean of both classes' (balanced accuracy)
    counts: pictures trained on, used for the thresholds, and held out
    """

    def __init__(self, network: nn.Module, names: Sequence[str], thresholds: Floats) -> None:
        self.network, self.names, self.thresholds = network, tuple(names), thresholds
        self.accuracy: dict[str, float] = {}
        self.counts: dict[str, int] = {}

    def probabilities(self, images: Images) -> Floats:
        """How surely each picture shows each attribute; above 0.5 it is seen.

        images: uint8[N, H, W, C], RGB or grey -> float32[N, A], 0..1.
        """
        shifted = torch.from_numpy(_outputs(self.network, images) - self.thresholds)
        return np.asarray(torch.sigmoid(shifted).numpy())

    def features(self, images: Images) -> Floats:
        """The activations before the last layer, in which pictures that look alike to the classifier are near.

        images: uint8[N, H, W, C], RGB or grey -> float32[N, hidden].
        """
        return _outputs(self.network[:-1], images)  # type: ignore[index]


def binary_attributes(values: Floats, names: Sequence[str]) -> tuple[Floats, tuple[str, ...]]:
    """The attributes whose known values are 0 and 1 and no others, without measures such as a pose.

    values: float32[N, A], nan where unknown -> float32[N, B] and their names.
    """
    columns = [column for column in range(len(names)) if _is_binary(values[:, column], both=True)]
    return values[:, columns], tuple(names[column] for column in columns)


def mirrors(names: Sequence[str]) -> bool:
    """Whether a mirrored picture has the same attributes: no name says left or right."""
    return not any(_SIDED.search(name.lower()) for name in names)


def fit_attributes(
    images: Images,
    values: Floats,
    names: Sequence[str],
    settings: ClassifierSettings | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> AttributeClassifier:
    """A classifier of all attributes at once, a sigmoid for each, trained on pictures whose attributes are known.

    Two parts of the pictures are kept out of training. On one the threshold of each attribute is set, where the mean of
    both classes' accuracies is greatest; on the other that mean is measured. The same arguments give the same
    classifier, with the same number of torch's threads.

    images: uint8[N, H, W, C], RGB or grey; values: float32[N, A], 0 or 1, nan where unknown.

    Raises:
        ValueError: the arrays don't fit each other, a value is neither 0, 1 nor nan, or one of the parts shows an
            attribute in all of its pictures or in none.
    """
    settings = settings or ClassifierSettings()
    _check(images, values, names)
    order = permutation(len(images), philox(seed, Stream.ATTRIBUTES))
    size = int(len(images) * settings.heldout_share)
    parts = {"heldout": order[:size], "thresholds": order[size : 2 * size], "train": order[2 * size :]}
    for part, rows in parts.items():
        _check_classes(values[rows], names, part)
    # Torch's own draws (weights, noise) come of the seed too, and leave no trace outside.
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(int(philox(seed, Stream.ATTRIBUTES).random_raw()) >> 1)
        network = _network(images.shape[1:], len(names), settings).to(device)
        _train(network, images, values, parts["train"], settings, seed, mirrors(names))
    found = _outputs(network, images[parts["thresholds"]])
    known = values[parts["thresholds"]]
    thresholds = np.array([best_threshold(found[:, a], known[:, a]) for a in range(len(names))], np.float32)
    classifier = AttributeClassifier(network, names, thresholds)
    seen = classifier.probabilities(images[parts["heldout"]]) > 0.5
    for column, name in enumerate(names):
        truth = values[parts["heldout"], column]
        rates = [(seen[truth == value, column] == value).mean() for value in (0, 1)]
        classifier.accuracy[name] = round(float(np.mean(rates)), 4)
    classifier.counts = {part: len(rows) for part, rows in parts.items()}
    return classifier


def best_threshold(scores: Floats, truth: Floats) -> float:
    """The threshold above which `scores` tell 1 from 0 best, by the mean of both classes' accuracies.

    Where several do as well, the middle one. scores, truth: float32[N]; rows of truth that are nan count nothing.
    """
    known = ~np.isnan(truth)
    order = np.argsort(scores[known], kind="stable")
    sorted_scores, positive = scores[known][order].astype(np.float64), truth[known][order] > 0.5
    # Cut k has k rows below it.
    missed = np.concatenate([[0], np.cumsum(positive)]) / max(positive.sum(), 1)
    passed = np.concatenate([[0], np.cumsum(~positive)]) / max((~positive).sum(), 1)
    ends = np.concatenate([[sorted_scores[0] - 1], sorted_scores, [sorted_scores[-1] + 1]])
    gain = passed - missed
    gain[1:-1][sorted_scores[1:] == sorted_scores[:-1]] = -np.inf  # equal scores can't be told apart
    best = np.flatnonzero(gain >= gain.max() - 1e-12)
    middle = best[len(best) // 2]
    return float((ends[middle] + ends[middle + 1]) / 2)


def _is_binary(column: Floats, both: bool = False) -> bool:
    """Whether what is known is 0 or 1; with `both`, whether there are some of each."""
    known = {*column[~np.isnan(column)].tolist()}
    return known == {0.0, 1.0} if both else known <= {0.0, 1.0}


def _check(images: Images, values: Floats, names: Sequence[str]) -> None:
    if values.shape != (len(images), len(names)):
        raise ValueError(
            f"values of shape {values.shape} are not those of {len(images)} pictures and {len(names)} attributes; "
            f"give float32[{len(images)}, {len(names)}]"
        )
    for column, name in enumerate(names):
        if not _is_binary(values[:, column]):
            raise ValueError(f"{name} has values other than 0, 1 and nan; leave it out (binary_attributes does)")


def _check_classes(values: Floats, names: Sequence[str], part: str) -> None:
    for column, name in enumerate(names):
        present, absent = ((values[:, column] == value).sum() for value in (1, 0))
        if not present or not absent:
            raise ValueError(
                f"of {len(values)} pictures for {part}, {present} show {name} and {absent} do not; both are needed; "
                f"give more pictures, or leave {name} out"
            )


def _network(shape: tuple[int, ...], attributes: int, settings: ClassifierSettings) -> nn.Sequential:
    """Convolutions of stride 2 down to about 4x4, a hidden layer, and a logit for each attribute.

    The last layer stands alone at the end, so that what is before it gives the features.
    """
    height, width, inside = shape
    layers: list[nn.Module] = []
    outside, kernel = settings.width, 5
    while max(height, width) > _LAST_PX:
        layers += [nn.Conv2d(inside, outside, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        inside, outside, kernel = outside, min(outside * 2, settings.width * 4), 3
        height, width = -(-height // 2), -(-width // 2)
    layers += [nn.Flatten(), nn.Linear(inside * height * width, settings.hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(settings.hidden, attributes))


def _train(
    network: nn.Sequential,
    images: Images,
    values: Floats,
    rows: npt.NDArray[np.int64],
    settings: ClassifierSettings,
    seed: int,
    mirrored: bool,
) -> None:
    device = next(network.parameters()).device
    known = values[rows]
    present, absent = np.nansum(known, axis=0), np.nansum(1 - known, axis=0)
    weight = torch.from_numpy(np.clip(absent / present, 1 / _MOST_WEIGHT, _MOST_WEIGHT).astype(np.float32)).to(device)
    batches = max(1, len(rows) // settings.batch_images)
    adam = torch.optim.Adam(network.parameters(), settings.learning_rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(adam, settings.epochs * batches)
    network.train()
    for epoch in range(settings.epochs):
        draw = np.random.Generator(philox(seed, Stream.ATTRIBUTES, epoch + 1))
        order = rows[permutation(len(rows), philox(seed, Stream.ATTRIBUTES, epoch + 1, 1))]
        for part in np.array_split(order, batches):
            x = _scaled(_moved(images[part], settings.shift_px, mirrored, draw), device)
            x += settings.noise * torch.randn(x.shape).to(device)
            truth = torch.from_numpy(values[part]).to(device)
            is_known = ~truth.isnan()
            each = F.binary_cross_entropy_with_logits(
                network(x), truth.nan_to_num(), pos_weight=weight, reduction="none"
            )
            loss = (each * is_known).sum() / is_known.sum().clamp_min(1)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            falling.step()
    network.eval()


def _moved(images: Images, shift_px: int, mirrored: bool, draw: np.random.Generator) -> Images:
    """Each picture shifted by up to `shift_px` both ways, its edge repeated, and half of them mirrored."""
    count, height, width, _ = images.shape
    down, across = draw.integers(-shift_px, shift_px + 1, (2, count, 1))
    rows = np.clip(np.arange(height) + down, 0, height - 1)
    columns = np.clip(np.arange(width) + across, 0, width - 1)
    if mirrored:
        columns = np.where(draw.random((count, 1)) < 0.5, width - 1 - columns, columns)
    return np.asarray(images[np.arange(count)[:, None, None], rows[:, :, None], columns[:, None, :]])


def _scaled(images: Images, device: torch.device) -> Tensor:
    return torch.tensor(images, device=device).permute(0, 3, 1, 2).to(torch.float32).div_(127.5).sub_(1.0)


@torch.no_grad()
def _outputs(network: nn.Module, images: Images) -> Floats:
    device = next(network.parameters()).device
    chunks = [images[start : start + _CHUNK_IMAGES] for start in range(0, max(len(images), 1), _CHUNK_IMAGES)]
    return np.concatenate([network(_scaled(chunk, device)).cpu().numpy() for chunk in chunks])
