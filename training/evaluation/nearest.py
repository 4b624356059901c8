"""How well generated pictures stand in for the training images of a nearest-neighbour classifier."""

from collections.abc import Iterable, Iterator
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream, permutation, philox
from training.evaluation.measured import Measured, Subject
from training.samples import Images, Statistics, generate, grid, labelled, latents

Labels = npt.NDArray[np.int64]
Count = Annotated[int, Field(ge=1)]

PAPER = "as remembered of its appendix: 2.98 % with 50,000 samples, 1.48 % with 10 million, 3.1 % with real ones"
_CHUNK_IMAGES = 6_400  # generated at a time
_TILE = 2_048  # pictures on each side of a product
_EXACT_VALUES = 1_024  # of which the products of numbers in -128..127 sum up to 2^24 at most: exact in float32
_SHORT_VALUES = 40_000  # of which three times that sum is below 2^31
_SHOWN = 3  # test pictures of each class
_Z, _REAL, _SHUFFLED = 1, 2, 3  # draws of the stream, apart from those of trainings


class NearestSettings(BaseModel):
    """How the nearest neighbour classifies."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    per_class: tuple[Count, ...] = Field(
        default=(100, 1_000, 5_000),
        min_length=1,
        description="generated pictures of each class that stand in for the training images: an error for each number",
    )
    statistics: Statistics = Field(
        default="batch",
        description="of the generator's batch norm. batch: of 128 pictures of all classes, as in training; standing: "
        "of 512 others",
    )


class Nearest:
    """The nearest of ever more pictures to each of some fixed ones: the least squared distance of pixels, exactly.

    distances: int64[N], squared; labels: int64[N], of the nearest; numbers: int64[N], its place among all that were
    added; images: uint8[N, H, W, C], the nearest itself. Of several that are as near, the first that was added.
    """

    def __init__(self, images: Images, device: torch.device | str = "cpu") -> None:
        self._own = _centred(images, device)
        self._best = torch.full((len(images),), torch.iinfo(torch.int64).min, device=device)
        self._squares = self._own.double().square().sum(1).long()
        self.added = 0
        self.labels = np.full(len(images), -1, np.int64)
        self.numbers = np.full(len(images), -1, np.int64)
        self.images = np.zeros_like(images)

    @property
    def distances(self) -> npt.NDArray[np.int64]:
        """Of each picture to its nearest, squared."""
        return np.asarray((self._squares - self._best).cpu().numpy(), np.int64)

    @torch.no_grad()
    def add(self, images: Images, labels: Labels) -> None:
        """Compare with more pictures. images: uint8[M, H, W, C]; labels: int64[M]."""
        for first in range(0, len(images), _TILE):
            others = _centred(images[first : first + _TILE], self._own.device)
            squares = others.double().square().sum(1).long()
            for row in range(0, len(self._own), _TILE):
                rows = slice(row, row + _TILE)
                # |a - b|^2 = |a|^2 - (2 a.b - |b|^2): the nearest has the largest of what is in brackets.
                products = _products(self._own[rows], others)
                nearness, column = products.mul_(2).sub_(squares.to(products.dtype)).max(1)
                better = torch.nonzero(nearness > self._best[rows])[:, 0]
                self._best[rows][better] = nearness[better].long()
                mine, theirs = better.cpu().numpy() + row, column[better].cpu().numpy() + first
                self.labels[mine], self.numbers[mine] = labels[theirs], theirs + self.added
                self.images[mine] = images[theirs]
        self.added += len(images)


def _centred(images: Images, device: torch.device | str) -> torch.Tensor:
    """uint8[N, H, W, C] -> float32[N, H * W * C], -128..127: small whole numbers."""
    return torch.from_numpy(images.reshape(len(images), -1).astype(np.float32)).to(device).sub_(128)


def _products(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """float32[N, F] and [M, F] of whole numbers in -128..127 -> whole numbers[N, M], the products of rows, exact."""
    kind = torch.int32 if a.shape[1] <= _SHORT_VALUES else torch.int64
    total = torch.zeros(len(a), len(b), dtype=kind, device=a.device)
    for first in range(0, a.shape[1], _EXACT_VALUES):
        part = slice(first, first + _EXACT_VALUES)
        total += (a[:, part] @ b[:, part].t()).to(kind)
    return total


def errors(
    pictures: Iterable[tuple[Images, Labels]], counts: Iterable[int], test: Images, truth: Labels, nearest: Nearest
) -> dict[int, float]:
    """The share of test pictures whose nearest is of another class, among the first so many pictures.

    pictures: in parts, (images: uint8[M, H, W, C], labels: int64[M]); what is found is kept in `nearest`.
    """
    left, found = sorted(set(counts)), {}
    for images, labels in pictures:
        done = 0
        while left and done < len(images):
            more = min(len(images) - done, left[0] - nearest.added)
            nearest.add(images[done : done + more], labels[done : done + more])
            done += more
            if nearest.added == left[0]:
                found[left.pop(0)] = float((nearest.labels != truth).mean())
    return found


def generated(subject: Subject, images: int, statistics: Statistics) -> Iterator[tuple[Images, Labels]]:
    """Generated pictures and their labels, each class in turn, in parts; the seed's first are always the same.

    Yields:
        (images: uint8[M, size_px, size_px, C], labels: int64[M])
    """
    preset = subject.preset
    for number, first in enumerate(range(0, images, _CHUNK_IMAGES)):
        labels = np.arange(first, min(first + _CHUNK_IMAGES, images)) % preset.classes
        bits = philox(subject.seed, Stream.CONDITION, number, _Z)
        z = latents(preset, bits, len(labels), labels)
        yield generate(subject.generator, z, statistics, subject.seed), labels
        subject.say(f"nearest: {first + len(labels):,} of {images:,} pictures generated and compared")


def nearest_classification(
    subject: Subject,
    train: tuple[Images, Labels],
    test: tuple[Images, Labels],
    classes: tuple[str, ...],
    settings: NearestSettings,
) -> Measured:
    """The test error of a nearest-neighbour classifier whose training images were generated.

    Controls: as many real training images, all of them, the mean image of each class, and generated ones with their
    labels shuffled.

    train, test: (images: uint8[N, H, W, C], labels: int64[N]), real.

    Source: Radford et al. 2016, appendix on MNIST.
    Departs: generated labels are balanced exactly, and pixels rounded to 0..255.
    """
    images, labels = train
    shown, truth = test
    counts = [each * len(classes) for each in sorted(set(settings.per_class))]
    ours, real = (Nearest(shown, subject.device) for _ in range(2))
    found = errors(generated(subject, counts[-1], settings.statistics), counts, shown, truth, ours)
    order = permutation(len(images), philox(subject.seed, Stream.CONDITION, 0, _REAL))
    subject.say(f"nearest: {len(images):,} real pictures")
    of_real = errors(
        [(images[order], labels[order])], [n for n in counts if n < len(images)] + [len(images)], shown, truth, real
    )
    figures = {
        "generated": {str(n): round(error, 6) for n, error in found.items()},
        "real": {str(n): round(error, 6) for n, error in of_real.items()},
        "class_means": round(_error_of_means(images, labels, shown, truth, len(classes)), 6),
        "shuffled_labels": round(_error_of_shuffled(ours, truth, len(classes), subject.seed), 6),
        "generated_by_class": {
            name: round(float((ours.labels != truth)[truth == number].mean()), 6)
            for number, name in enumerate(classes)
            if (truth == number).any()
        },
        "standard_error": round((found[counts[-1]] * (1 - found[counts[-1]]) / len(truth)) ** 0.5, 6),
        "real_images": len(images),
        "test_images": len(truth),
    }
    picture, caption = _shown(shown, truth, ours, real, classes)
    as_many = min(counts[-1], len(images))
    return Measured(
        says=f"{found[counts[-1]]:.2%} of {len(truth):,} test images have their nearest of {counts[-1]:,} generated "
        f"pictures in another class; of {as_many:,} real ones: {of_real[as_many]:.2%}, of all {len(images):,}: "
        f"{of_real[len(images)]:.2%}",
        statistics="of 128 pictures of all classes" if settings.statistics == "batch" else "of 512 z of all classes",
        figures=figures,
        settings=settings.model_dump(mode="json"),
        pictures={"nearest": picture},
        captions={"nearest": caption},
        paper=PAPER,
    )


def _error_of_means(images: Images, labels: Labels, test: Images, truth: Labels, classes: int) -> float:
    known = [number for number in range(classes) if (labels == number).any()]
    means = np.stack([images[labels == number].mean(0).round().astype(np.uint8) for number in known])
    nearest = Nearest(test)
    nearest.add(means, np.array(known, np.int64))
    return float((nearest.labels != truth).mean())


def _error_of_shuffled(nearest: Nearest, truth: Labels, classes: int, seed: int) -> float:
    """Of the same neighbours, each with the label of another: what labels by chance are worth."""
    labels = permutation(nearest.added, philox(seed, Stream.CONDITION, 0, _SHUFFLED)) % classes
    return float((labels[nearest.numbers] != truth).mean())


def _shown(test: Images, truth: Labels, ours: Nearest, real: Nearest, classes: tuple[str, ...]) -> tuple[Images, str]:
    """A row for each class: test pictures, each before its nearest generated and its nearest real one."""
    rows = [np.flatnonzero(truth == number)[:_SHOWN] for number in range(len(classes))]
    blank = np.full_like(test[0], 255)
    cells = [
        cell
        for row in rows
        for place in [*row, *[None] * (_SHOWN - len(row))]
        for cell in ([blank] * 3 if place is None else [test[place], ours.images[place], real.images[place]])
    ]
    caption = "test, nearest generated, nearest real picture; three times"
    return labelled(grid(np.stack(cells), 3 * _SHOWN), caption), f"A row for each class: {caption}."
