"""An object removed from what the generator draws: the maps that make windows are found, and left out."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream, philox
from training.evaluation.boxes import Boxes
from training.evaluation.detector import DetectorSettings, fit_detector
from training.evaluation.inside import tell_inside
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.evaluation.outcomes import marked_picture, rows_picture
from training.evaluation.trials import Find, Trial, of_weight
from training.networks import Generator, reference_statistics
from training.samples import REFERENCE_IMAGES, Images, fixed_z, generate, grid, labelled, latents

_LEAST_BOXES, _LEAST_SAMPLES = 10, 5
_COLUMNS = 10  # of the picture of all samples
_SAMPLES, _NEW = 0, 1  # places in the stream of random numbers


class RemovalSettings(BaseModel):
    """How objects are removed."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: int = Field(
        default=500, ge=20, description="Samples that the regression looks at, and as many new ones (paper: 150)"
    )
    layer: int = Field(
        default=2,
        ge=1,
        description="Whose maps are dropped, the last before the picture being 1 (paper: second-highest)",
    )
    maps: int | None = Field(
        default=None,
        ge=1,
        description="How many of the largest weights are dropped, beside a trial of all positive ones (paper); none: "
        "as many as do best beyond chance in the samples that the regression looked at",
    )
    random_draws: int = Field(default=10, ge=2, description="How often as many maps are drawn by chance, as a control")
    places: int = Field(default=100_000, ge=100, description="Most places that the regression is fitted on")
    held_out_share: float = Field(
        default=0.2, gt=0, lt=1, description="Part of the samples that the regression is judged on, not fitted"
    )
    c: float = Field(default=1.0, gt=0, description="Inverse of the regression's L2 penalty")
    shown: int = Field(default=10, ge=1, description="Pictures in a row of the figure")
    drawn: str | None = Field(
        default=None,
        description="JSON of {number of the sample: [[left, top, width, height], ...]}, drawn by hand, to fit the "
        "regression with in place of the boxes found; [] where there is none",
    )
    thing: str = Field(default="window", min_length=1, description="What the boxes are around, for the words")
    detector: DetectorSettings = Field(default_factory=DetectorSettings, description="What finds and counts objects")


def removal(
    subject: Subject,
    images: Images,
    boxes: Sequence[Boxes],
    settings: RemovalSettings,
    drawn: Mapping[int, Boxes] | None = None,
) -> Measured:
    """Objects in samples before and after the maps that make them are dropped, and after maps drawn by chance are.

    images: uint8[N, size_px, size_px, C], RGB or grey, and boxes: float32[K, 4] for each, which the detector learns
    from; drawn: boxes by hand on some of the samples, by number, to fit the regression with.

    Raises:
        Unmeasurable: too few pictures or boxes to train a detector, hardly any objects to remove, or the settings
            don't fit the network.
    """
    subject.say(f"removal: training a detector on {len(images):,} pictures")
    try:
        detector = fit_detector(images, boxes, settings.detector, subject.seed, subject.say)
    except ValueError as error:
        raise Unmeasurable(f"evaluate.boxes: {error}") from error
    figures, pictures = remove(subject.generator, detector.find, settings, subject.seed, drawn, subject.say)
    thing, few, every = settings.thing, figures["some_maps"], figures["all_positive"]
    return Measured(
        says=f"{figures['found_before']:.2f} {thing}s a sample; without {few['maps_dropped']} of {figures['maps']} "
        f"maps {few['found_after']:.2f}, without as many drawn by chance {few['found_after_random']['mean']:.2f}; "
        f"without all {every['maps_dropped']} of positive weight {every['found_after']:.2f}, without as many by chance "
        f"{every['found_after_random']['mean']:.2f}",
        statistics=f"of a batch of {REFERENCE_IMAGES} z of the whole network, fixed; the same where maps are dropped",
        figures=figures | {"detector": detector.figures},
        settings=settings.model_dump(mode="json"),
        pictures=pictures,
        captions={
            "removal": f"New samples with a {thing}: with all maps, without those that tell {thing}s best, without all "
            "of positive weight, and without as many as the first drawn by chance",
            "detected": f"The {thing}s that the detector found in the first new samples, in frames",
            "samples": "The samples that the regression was fitted on, by number, for boxes of one's own",
        },
        paper="windows mostly gone or made into other things, by eye: 52 boxes in 150 samples, about 200 maps dropped",
    )


def remove(
    generator: Generator,
    find: Find,
    settings: RemovalSettings,
    seed: int,
    drawn: Mapping[int, Boxes] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[dict[str, Any], dict[str, Images]]:
    """The figures and pictures of `removal`, with `find` as the detector.

    A place is inside where its middle is in a box; as many places outside are drawn by chance from the same samples.
    The maps of a positive weight are set to zero everywhere, in samples of new z. All batch norms keep the statistics
    of the network with all its maps, so that what changes comes of the maps alone.

    In a narrow network those are too many for anything to stand: so the same is done with those of the largest weights,
    as many as `best_number` finds in the samples that the regression looked at, not in the new ones.

    The controls: as many maps drawn by chance from the whole layer; and maps drawn by chance until they add as much to
    the next layer as the dropped ones, however many that takes.

    Source: Radford et al. 2016, section 6.3.1. The second-highest layer is taken for the second that hands on maps: the
    last one has 128, of which the paper's 200 could not have been dropped.
    Departs: counts windows by a detector and against chance, where the paper judges by eye, without a control.
    """
    plan, layer = generator.plan, settings.layer
    if layer >= len(plan):
        raise Unmeasurable(f"removal.layer={layer}: {len(plan) - 1} layers hand on maps; give 1 to {len(plan) - 1}")
    with _standing(generator, seed):
        z = _z(generator, seed, _SAMPLES, settings.samples)
        looked_at = generate(generator, z)
        known = _known(looked_at, find, settings, drawn)
        fitted = tell_inside(
            generator,
            layer,
            z,
            known,
            seed,
            most_places=settings.places,
            held_out_share=settings.held_out_share,
            c=settings.c,
        )
        ordered = of_weight(fitted.weights)
        say(f"removal: {len(ordered)} of {len(fitted.weights)} maps have a positive weight")
        number, by_number = settings.maps, None
        if number is None:
            number, by_number = Trial(generator, layer, z, find, fitted.energy, seed).best_number(ordered)
        trial = Trial(generator, layer, _z(generator, seed, _NEW, settings.samples), find, fitted.energy, seed)
        if not trial.objects:
            raise Unmeasurable(f"{len(trial.boxes)} new samples show no {settings.thing}; set removal.samples higher")
        say(f"removal: without {min(number, len(ordered))} maps, and as many by chance")
        some, without_some, by_chance = trial.against_chance(ordered[:number], settings.random_draws)
        say(f"removal: without {len(ordered)} maps, and as many by chance")
        every, without_all, _ = trial.against_chance(ordered, settings.random_draws)
    figures = {
        "layer": plan[-1 - layer].name,
        "maps": len(fitted.weights),
        "samples": settings.samples,
        "boxes": sum(map(len, known.values())),
        "boxes_by": "the detector" if drawn is None else "hand",
        "regression_places": fitted.places,
        "regression_balanced_accuracy": None if fitted.accuracy is None else round(fitted.accuracy, 4),
        "regression_accuracy_by_chance": 0.5,
        "found_before": round(trial.objects, 4),
        "all_positive": every,
        "some_maps": some,
        "by_number": by_number,
    }
    number = some["maps_dropped"]
    rows = [
        ("New samples, all maps", trial.before),
        (f"Without the {number} of {len(fitted.weights)} maps that tell {settings.thing}s best", without_some),
        (f"Without all {every['maps_dropped']} maps of positive weight", without_all),
        (f"Without {number} maps drawn by chance", by_chance),
    ]
    few = min(settings.samples, 3 * settings.shown)
    return figures, {
        "removal": rows_picture(rows, trial.boxes, settings.shown),
        "detected": marked_picture(trial.before[:few], trial.boxes[:few], settings.shown, "Found in new samples"),
        "samples": labelled(grid(looked_at, _COLUMNS), f"Samples 0 to {len(looked_at) - 1}, {_COLUMNS} in a row"),
    }


def _known(
    looked_at: Images, find: Find, settings: RemovalSettings, drawn: Mapping[int, Boxes] | None
) -> Mapping[int, Boxes]:
    """The boxes of each sample that was looked at, by its number."""
    known = dict(enumerate(find(looked_at))) if drawn is None else dict(drawn)
    strange = [number for number in known if not 0 <= number < len(looked_at)]
    if strange:
        raise Unmeasurable(
            f"removal.drawn names sample {strange[0]}; samples are numbered from 0 to {len(looked_at) - 1}: mend it, "
            "or set removal.samples higher"
        )
    boxes, with_boxes = sum(map(len, known.values())), sum(1 for own in known.values() if len(own))
    if boxes < _LEAST_BOXES or with_boxes < _LEAST_SAMPLES:
        raise Unmeasurable(
            f"{boxes} {settings.thing}s in {with_boxes} of {len(known)} samples are too few to learn from; "
            f"{_LEAST_BOXES} in {_LEAST_SAMPLES} or more are needed: set removal.samples higher, or measure a "
            "generator that was trained further"
        )
    return known


def _z(generator: Generator, seed: int, what: int, images: int) -> npt.NDArray[np.float32]:
    return latents(generator.preset, philox(seed, Stream.REMOVAL, what), images)


@contextmanager
def _standing(generator: Generator, seed: int) -> Iterator[None]:
    reference = torch.from_numpy(fixed_z(generator.preset, seed, REFERENCE_IMAGES, Stream.FILL))
    with reference_statistics(generator, reference.to(next(generator.parameters()))):
        yield
