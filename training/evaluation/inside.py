"""Which of a generator's maps tell the inside of an object from the outside: a logistic regression on activations."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.draws import Stream, permutation, philox
from training.evaluation.boxes import Boxes, covered
from training.evaluation.logistic import fit_logistic
from training.evaluation.measured import Unmeasurable
from training.networks import Generator
from training.samples import generate

Values = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

_PARTS, _OUTSIDE, _MOST = 16, 17, 18  # places in the stream of random numbers


@dataclass(frozen=True)
class Inside:
    """The regression.

    weights: float64[maps], of activations in units of their deviation: the probability of being inside rises with the
        activations of maps whose weight is positive
    accuracy: balanced, the mean of the shares of places inside and outside that are told right, on held-out samples;
        0.5 is chance; None where these have no place of one of the two
    places: how many it was fitted on
    energy: float64[maps], mean square of what each map adds to the next layer
    """

    weights: Values
    accuracy: float | None
    places: int
    energy: Values


@contextmanager
def looking(generator: Generator, layer: int, look: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Inside the block, what a layer hands on goes through `look`: float32[N, maps, side, side], after its ReLU.

    layer: counted from the picture among those that hand maps on: 1 is the last before it.
    """
    module = getattr(generator, generator.plan[-layer].name)
    handle = module.register_forward_pre_hook(lambda _, inputs: (look(inputs[0]),))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def without_maps(generator: Generator, layer: int, maps: Numbers) -> Iterator[None]:
    """Inside the block, these maps of a layer are zero everywhere."""
    # A label that joins the maps comes after them, and stays.
    kept = torch.ones(generator.plan[-layer].entering, device=next(generator.parameters()).device)
    kept[torch.from_numpy(maps)] = 0.0
    with looking(generator, layer, lambda x: x * kept[:, None, None]):
        yield


def tell_inside(
    generator: Generator,
    layer: int,
    z: npt.NDArray[np.float32],
    boxes: Mapping[int, Boxes],
    seed: int,
    *,
    most_places: int,
    held_out_share: float,
    c: float,
) -> Inside:
    """A logistic regression that tells places inside of boxes from others in the same samples.

    A place is inside where its middle is in a box. As many places outside are drawn by chance, and as many of both are
    used, at most, as asked for. Batch norm is used as the caller has set it.

    z: float32[N, z_dim]; boxes: float32[K, 4] of each sample that was looked at, by its number; c: inverse of the L2
    penalty, as scikit-learn has it.

    Raises:
        Unmeasurable: the samples that it is fitted on have no place inside, or none outside.

    Source: Radford et al. 2016, section 6.3.1.
    Departs: features are divided by their deviation, so that the penalty is the same for all; whole samples are held
    out, for neighbouring places are alike.
    """
    side, maps = generator.plan[-1 - layer].out_px, generator.plan[-1 - layer].outside
    places, inside = _places(boxes, generator.preset.size_px, side, seed, most_places)
    numbers = np.array(sorted(boxes), np.int64)
    held = numbers[permutation(len(numbers), philox(seed, Stream.REMOVAL, _PARTS))]
    judged = np.isin(places[:, 0], held[: max(1, round(len(held) * held_out_share))])
    fitted_inside, fitted = int(inside[~judged].sum()), int((~judged).sum())
    if fitted_inside in (0, fitted):
        raise Unmeasurable(
            f"of {fitted} places of layer {layer} to be fitted on, {fitted_inside} lie inside of boxes; "
            "a regression needs both: look at more samples, or hold out a smaller share of them"
        )
    features = np.zeros((len(places), maps), np.float32)
    squares = torch.zeros(maps, dtype=torch.float64)
    start = 0

    def look(x: Tensor) -> Tensor:
        nonlocal start
        own = slice(*np.searchsorted(places[:, 0], [start, start + len(x)]))
        image, row, column = torch.from_numpy(places[own] - [start, 0, 0]).T
        features[own] = x.permute(0, 2, 3, 1)[image, row, column, :maps].cpu().numpy()
        squares.add_(x[: len(z) - start, :maps].to(torch.float64).square().sum(dim=(0, 2, 3)).cpu())
        start += len(x)
        return x

    with looking(generator, layer, look):
        generate(generator, z)
    weight = getattr(generator, generator.plan[-layer].name).weight.detach()[:maps]
    handed_on = weight.to(torch.float64).square().flatten(1).sum(dim=1).cpu().numpy()
    energy = squares.numpy() / (len(z) * side**2) * handed_on
    deviation = features.std(axis=0, dtype=np.float64)
    scaled = features / np.where(deviation > 0, deviation, 1.0)
    model = fit_logistic(scaled[~judged], inside[~judged], c)
    accuracy = balanced(model.predict(scaled[judged]), inside[judged])
    return Inside(model.weights, accuracy, fitted, energy)


def balanced(said: npt.NDArray[np.bool_], true: npt.NDArray[np.bool_]) -> float | None:
    """The mean of the shares of each kind that are told right; None where there is none of one kind."""
    if true.all() or not true.any():
        return None
    return float((said[true].mean() + (~said[~true]).mean()) / 2)


def _places(
    boxes: Mapping[int, Boxes], size_px: int, cells: int, seed: int, most: int
) -> tuple[Numbers, npt.NDArray[np.bool_]]:
    """int64[P, 3], sample, row and column of places, in order; bool[P], whether they are inside, half of them."""
    every, inside = [], []
    for number in sorted(boxes):
        mask = covered(boxes[number], size_px, cells)
        rows, columns = np.indices(mask.shape)
        every.append(np.stack([np.full(mask.size, number), rows.ravel(), columns.ravel()], axis=1))
        inside.append(mask.ravel())
    places, is_in = np.concatenate(every).astype(np.int64), np.concatenate(inside)
    within, without = np.flatnonzero(is_in), np.flatnonzero(~is_in)
    each = min(len(within), len(without), max(1, most // 2))
    within = within[permutation(len(within), philox(seed, Stream.REMOVAL, _MOST))[:each]]
    without = without[permutation(len(without), philox(seed, Stream.REMOVAL, _OUTSIDE))[:each]]
    chosen = np.sort(np.concatenate([within, without]))
    return places[chosen], is_in[chosen]
