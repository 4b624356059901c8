"""Trials of dropping maps: which are dropped, by weight or by chance, and what becomes of the same samples."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from training.draws import Stream, permutation, philox
from training.evaluation.boxes import Boxes
from training.evaluation.inside import Numbers, Values, without_maps
from training.evaluation.measured import Unmeasurable
from training.evaluation.outcomes import FACTOR, Outcome, compared, outcome
from training.networks import Generator
from training.samples import Images, generate

Find = Callable[[Images], tuple[Boxes, ...]]

_RANDOM, _SAME_ENERGY, _CHOOSING = 32, 33, 34  # places in the stream of random numbers
_CHOOSING_DRAWS = 8


class Trial:
    """Some samples, and what is found in them with and without some maps of a layer.

    Batch norm is used as the caller has set it.
    """

    def __init__(
        self, generator: Generator, layer: int, z: npt.NDArray[np.float32], find: Find, energy: Values, seed: int
    ) -> None:
        """`energy`: of each map of the layer, as `inside.Inside` has it."""
        self._generator, self._layer, self._z, self._find = generator, layer, z, find
        self._energy, self._seed = energy, seed
        self.before = generate(generator, z)
        self.boxes = find(self.before)

    @property
    def objects(self) -> float:
        """How many are found in a sample with all maps."""
        return float(np.mean([len(own) for own in self.boxes]))

    def without(self, maps: Numbers) -> tuple[Outcome, Images]:
        """What dropping some maps does, and the samples after it: uint8[N, H, W, C]."""
        with without_maps(self._generator, self._layer, maps):
            after = generate(self._generator, self._z)
        share = float(self._energy[maps].sum() / max(self._energy.sum(), 1e-12))
        return outcome(self.before, self.boxes, after, self._find(after), len(maps), share), after

    def against_chance(self, dropped: Numbers, draws: int) -> tuple[dict[str, Any], Images, Images]:
        """Dropping these maps against dropping others drawn by chance: as many, and of as much energy.

        Returns:
            figures: plain values for JSON.
            after, by_chance: uint8[N, H, W, C], without these maps, and without the first as many drawn by chance.
        """
        removed, after = self.without(dropped)
        random, same_energy, by_chance = [], [], after
        wanted = float(self._energy[dropped].sum())
        for draw in range(draws):
            one, pictures = self.without(of_number(len(self._energy), len(dropped), self._seed, draw))
            by_chance = by_chance if draw else pictures
            random.append(one)
            same_energy.append(self.without(of_energy(self._energy, wanted, self._seed, draw))[0])
        figures = {"dropped": sorted(dropped.tolist()), **compared(self.objects, removed, random, same_energy)}
        return figures, after, by_chance

    def best_number(self, ordered: Numbers) -> tuple[int, list[dict[str, Any]]]:
        """How many of these maps, the first ones, lower the count most beyond three times what as many by chance do.

        All are tried, a half, a quarter ..., one. The largest number alone would lower it most, and leave no room.

        Returns:
            number: of maps; by_number: what was found without each number of them, plain values for JSON.
        """
        tried: list[dict[str, Any]] = []
        number = len(ordered)
        while number:
            found = self.without(ordered[:number])[0].objects
            chance = [
                self.without(of_number(len(self._energy), number, self._seed, draw, _CHOOSING))[0].objects
                for draw in range(_CHOOSING_DRAWS)
            ]
            tried.append({"maps": number, "found": round(found, 4), "found_random": round(float(np.mean(chance)), 4)})
            number //= 2
        best = max(tried, key=lambda one: FACTOR * (one["found_random"] - self.objects) - (one["found"] - self.objects))
        return int(best["maps"]), tried[::-1]


def of_weight(weights: Values) -> Numbers:
    """The maps of positive weight, the largest first.

    Raises:
        Unmeasurable: there are none.
    """
    order = np.argsort(-weights, kind="stable")[: int((weights > 0).sum())]
    if not len(order):
        raise Unmeasurable("no map has a positive weight: nothing tells the inside of a box; train further")
    return order


def of_number(maps: int, number: int, seed: int, draw: int, place: int = _RANDOM) -> Numbers:
    """So many maps of a layer, drawn by chance."""
    return permutation(maps, philox(seed, Stream.REMOVAL, place, draw))[:number]


def of_energy(energy: Values, wanted: float, seed: int, draw: int) -> Numbers:
    """Maps in random order, as many as bring the sum of their energies nearest to the wanted one; at least one."""
    order = permutation(len(energy), philox(seed, Stream.REMOVAL, _SAME_ENERGY, draw))
    return order[: int(np.abs(np.cumsum(energy[order]) - wanted).argmin()) + 1]
