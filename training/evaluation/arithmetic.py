"""Vector arithmetic: does the sum of concepts' mean z show what the sum of the concepts should?

Each trial draws exemplars of three concepts, and makes the picture of mean a - mean b + mean c. The same is done on
pixels; and what comes of c alone, and of c with a random step as long as the one from b to a, says how often the
wanted attribute is there without any arithmetic.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from training.draws import Stream, philox
from training.evaluation.attributes import AttributeClassifier, ClassifierSettings
from training.evaluation.equations import curve_chart, equation
from training.evaluation.exemplars import (
    Chosen,
    Floats,
    Numbers,
    candidates,
    chosen_candidates,
    draw_exemplars,
    seen,
    shortage,
    sureness,
)
from training.evaluation.formulas import Formula, check_formulas, ready_formulas
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.strangeness import Strangeness
from training.samples import Images

Draw = Callable[[Floats], Images]
Say = Callable[[str], None]

PAPER = "shown by eye: three exemplars a concept, sums look as they should; on pixels they don't"
_MOST_FORMULAS = 50


class ArithmeticSettings(BaseModel):
    """How sums of concepts are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    formulas: tuple[Formula, ...] | None = Field(
        None, max_length=_MOST_FORMULAS, description="The sums; none: those of faces that the attributes allow"
    )
    exemplars: str | None = Field(
        None, description="A file that the page of dcgan exemplars saved; none: a classifier chooses the exemplars"
    )
    per_concept: int = Field(3, ge=1, description="Exemplars whose mean z stands for a concept")
    curve: tuple[int, ...] = Field((1, 3, 10), description="Other numbers of exemplars to try the same with")
    trials: int = Field(100, ge=1, description="Draws of exemplars, a sum each")
    variants: int = Field(9, ge=1, description="Pictures of a sum: itself and others with noise added to their z")
    noise: float = Field(0.25, ge=0, description="The noise is uniform in -noise..noise")
    pool: int = Field(4096, ge=64, description="Samples among which the classifier looks for exemplars")
    surest: int = Field(50, ge=1, description="Of a concept's samples only those that show it most surely are drawn")
    classifier: ClassifierSettings = Field(
        default_factory=ClassifierSettings, description="The classifier that chooses and judges"
    )

    @field_validator("curve")
    @classmethod
    def _counts(cls, curve: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < 1 for count in curve):
            raise ValueError(f"curve={list(curve)} has a number below 1; a concept needs an exemplar")
        return tuple(sorted(set(curve)))


@dataclass(frozen=True)
class Sums:
    """The latent vectors of many trials of one formula.

    places: int64[trials, 3, count], of the exemplars of a, b and c; means: float32[trials, 3, z_dim]
    """

    places: Numbers
    means: Floats

    @property
    def latent(self) -> Floats:
        """a - b + c, float32[trials, z_dim]; as in the paper, not kept in the range that z was drawn from."""
        return np.asarray(self.means[:, 0] - self.means[:, 1] + self.means[:, 2])

    @property
    def c_alone(self) -> Floats:
        """The mean of c's exemplars, float32[trials, z_dim]."""
        return self.means[:, 2]

    def random_step(self, seed: int, place: int) -> Floats:
        """c and a step in a random direction, as long as the one from b to a; float32[trials, z_dim]."""
        draw = np.random.Generator(philox(seed, Stream.ARITHMETIC, place, 1 << 32))
        way = draw.standard_normal(self.c_alone.shape)
        length = np.linalg.norm(self.means[:, 0] - self.means[:, 1], axis=1, keepdims=True)
        step = length * way / np.linalg.norm(way, axis=1, keepdims=True)
        return np.asarray(self.c_alone + step, np.float32)


def latent_sums(z: Floats, pools: Sequence[Numbers], count: int, trials: int, seed: int, place: int) -> Sums:
    """Draw exemplars for each trial and take their means. `place` tells formulas apart.

    z: float32[N, z_dim] of the samples; pools: the places of the candidates of a, b and c.
    """
    drawn = [draw_exemplars(pools, count, philox(seed, Stream.ARITHMETIC, place, trial)) for trial in range(trials)]
    places = np.stack(drawn)
    return Sums(places, z[places].mean(axis=2, dtype=np.float64).astype(np.float32))


def pixel_sums(images: Images, places: Numbers) -> Images:
    """The same sum on pixels, cut off at black and white.

    images: uint8[N, H, W, C]; places: int64[trials, 3, count] -> uint8[trials, H, W, C].
    """
    sums = []
    for trial in places:
        a, b, c = (images[concept].mean(axis=0, dtype=np.float64) for concept in trial)
        sums.append(np.clip(np.rint(a - b + c), 0, 255).astype(np.uint8))
    return np.stack(sums)


def variants(z: Floats, settings: ArithmeticSettings, seed: int, place: int) -> Floats:
    """Each z with its neighbours, itself in their middle.

    z: float32[trials, z_dim] -> float32[trials, variants, z_dim].

    Source: Radford et al. 2016, figure 7: uniform noise of +-0.25 added to the sum.
    """
    draw = np.random.Generator(philox(seed, Stream.ARITHMETIC, place, 2 << 32))
    noise = draw.uniform(-settings.noise, settings.noise, (len(z), settings.variants, z.shape[1]))
    noise[:, settings.variants // 2] = 0
    return (z[:, None] + noise).astype(np.float32)


def measure_arithmetic(
    draw: Draw,
    z: Floats,
    settings: ArithmeticSettings,
    seed: int,
    classifier: AttributeClassifier | None = None,
    real: Images | None = None,
    chosen: Chosen | None = None,
    say: Say = print,
) -> Measured:
    """How often sums of concepts show what they should, beside the controls, and pictures of the sums.

    draw: makes pictures of latent vectors, each of its own z alone
    z: float32[N, z_dim], the samples among which exemplars are, in the order of `fixed_z`
    classifier: chooses exemplars and judges; without it there are pictures alone, of exemplars chosen by hand
    real: uint8[M, H, W, C], pictures known to be good, against which strangeness is measured
    chosen: exemplars chosen by hand

    Raises:
        Unmeasurable: no formula has enough samples that show its concepts, or names an attribute that is none.

    Source: Radford et al. 2016, section 6.3.2.
    Departs: the paper judges by eye, one sum each, of exemplars chosen by eye.
    """
    formulas = _formulas(settings, classifier)
    say(f"arithmetic: {len(z):,} samples to choose exemplars among")
    images = draw(z)
    sure = None if classifier is None else classifier.probabilities(images)
    strange = None if classifier is None or real is None else Strangeness(classifier, real, images)
    found: dict[str, Any] = {}
    equations: list[Images] = []
    for place, formula in enumerate(formulas, 1):
        concepts = (formula.a, formula.b, formula.c)
        if chosen is not None:
            pools = [chosen_candidates(chosen, concept) for concept in concepts]
        else:
            assert classifier is not None
            assert sure is not None
            pools = [candidates(sure, classifier.names, concept, settings.surest) for concept in concepts]
        figures: dict[str, Any] = {
            "sum": formula.text,
            "wanted": formula.wanted,
            "kept": formula.kept,
            "candidates": {concept.name: len(pool) for concept, pool in zip(concepts, pools, strict=True)},
        }
        found[formula.name] = figures
        if missing := shortage(concepts, pools, settings.per_concept):
            figures["unmeasured"] = missing
            continue
        # Where the exemplars are given, all of them, there is one sum to make.
        trials = 1 if chosen and all(len(pool) == settings.per_concept for pool in pools) else settings.trials
        figures["trials"] = trials
        say(f"arithmetic: {formula.text}, trials: {trials}")
        sums = latent_sums(z, pools, settings.per_concept, trials, seed, place)
        near = draw(variants(sums.latent, settings, seed, place).reshape(-1, z.shape[1]))
        near = near.reshape(trials, settings.variants, *near.shape[1:])
        ways = {
            "latent": near[:, settings.variants // 2],
            "pixels": pixel_sums(images, sums.places),
            "c_alone": draw(sums.c_alone),
            "random": draw(sums.random_step(seed, place)),
        }
        means = draw(sums.means[0])
        equations.append(equation(formula, images[sums.places[0]], means, near[0], {w: ways[w][0] for w in _CONTROLS}))
        if classifier is None:
            continue
        figures |= {way: _shares(classifier, made, formula, strange) for way, made in ways.items()}
        figures["variants"] = _shares(classifier, near.reshape(-1, *near.shape[2:]), formula, None)
        figures["by_exemplars"] = {}
        for count in sorted({*settings.curve, settings.per_concept}):
            figures["by_exemplars"][str(count)] = _by_count(
                draw, z, images, pools, count, formula, classifier, settings, seed, place
            )
    done = [figures for figures in found.values() if "unmeasured" not in figures]
    if not done:
        told = "; ".join(f"{name}: {figures['unmeasured']}" for name, figures in found.items())
        raise Unmeasurable(
            f"no sum has exemplars enough ({told}); take a checkpoint that shows more, raise arithmetic.pool, lower "
            "arithmetic.per_concept, or set arithmetic.formulas to what it shows"
        )
    return _told(found, done, equations, settings, classifier, chosen)


_CONTROLS = ("pixels", "c_alone", "random")


def _formulas(settings: ArithmeticSettings, classifier: AttributeClassifier | None) -> Sequence[Formula]:
    if classifier is None:
        if settings.formulas is None:
            raise Unmeasurable(
                "there are no attributes to make sums of; set arithmetic.formulas to sums of the concepts in the file "
                "of exemplars, such as {name: N, a: {name: A}, b: {name: B}, c: {name: C}}"
            )
        return settings.formulas
    formulas = settings.formulas or ready_formulas(classifier.names)
    check_formulas(formulas, classifier.names)
    return formulas


def _shares(
    classifier: AttributeClassifier, images: Images, formula: Formula, strange: Strangeness | None
) -> dict[str, Any]:
    """The share of pictures that show what is wanted, what is kept, and both; how surely; and how strange they are."""
    judged, names = classifier.probabilities(images), classifier.names
    both = {**formula.wanted, **formula.kept}
    figures: dict[str, Any] = {
        "wanted": round(float(seen(judged, names, formula.wanted).mean()), 4),
        "kept": round(float(seen(judged, names, formula.kept).mean()), 4) if formula.kept else None,
        "both": round(float(seen(judged, names, both).mean()), 4),
        "sureness": round(float(sureness(judged, names, both).mean()), 4),
    }
    if strange is not None:
        figures["strangeness"] = round(strange.of(images), 4)
    return figures


def _by_count(
    draw: Draw,
    z: Floats,
    images: Images,
    pools: Sequence[Numbers],
    count: int,
    formula: Formula,
    classifier: AttributeClassifier,
    settings: ArithmeticSettings,
    seed: int,
    place: int,
) -> dict[str, float] | None:
    """The share of trials that show all that they should with another number of exemplars; None: too few."""
    if shortage((formula.a, formula.b, formula.c), pools, count):
        return None
    sums = latent_sums(z, pools, count, settings.trials, seed, place)
    shows = {**formula.wanted, **formula.kept}

    def share(made: Images) -> float:
        return round(float(seen(classifier.probabilities(made), classifier.names, shows).mean()), 4)

    made = draw(np.concatenate([sums.latent, sums.random_step(seed, place)]))
    return {
        "latent": share(made[: settings.trials]),
        "pixels": share(pixel_sums(images, sums.places)),
        "random": share(made[settings.trials :]),
    }


def _mean(figures: Sequence[Mapping[str, Any]], way: str, what: str) -> float:
    return float(np.mean([each[way][what] for each in figures]))


def _told(
    found: Mapping[str, Any],
    done: Sequence[Mapping[str, Any]],
    equations: Sequence[Images],
    settings: ArithmeticSettings,
    classifier: AttributeClassifier | None,
    chosen: Chosen | None,
) -> Measured:
    figures: dict[str, Any] = {"formulas": found}
    pictures = {"arithmetic": _stacked(equations)}
    captions = {
        "arithmetic": f"{settings.per_concept} exemplars of each concept above the picture of their mean z, and the "
        "sum of the means among its variants; beside it the same sum on pixels, c's mean alone, and c with a random "
        "step as long. The first trial of each, not the best."
    }
    says = f"Pictures of {len(done)} sums of exemplars chosen by hand; there are no attributes to judge them by"
    if classifier is not None:
        asked = sorted({name for each in done for name in (*each["wanted"], *each["kept"])})
        accuracy = {name: classifier.accuracy[name] for name in asked}
        ways = ("latent", "variants", *_CONTROLS)
        figures["all"] = {way: {what: round(_mean(done, way, what), 4) for what in ("wanted", "both")} for way in ways}
        figures["classifier"] = {"heldout_accuracy": accuracy, "pictures": classifier.counts}
        wanted = {way: f"{figures['all'][way]['wanted']:.0%}" for way in ways}
        says = (
            f"The wanted attribute is seen in {wanted['latent']} of {sum(each['trials'] for each in done)} latent sums "
            f"({wanted['variants']} of their variants); on pixels in {wanted['pixels']}, in c alone in "
            f"{wanted['c_alone']}, after a random step in {wanted['random']}; the classifier is right in "
            f"{min(accuracy.values()):.0%} or more of held-out pictures"
        )
        pictures["arithmetic_exemplars"] = curve_chart({name: f["by_exemplars"] for name, f in _measured(found)})
        captions["arithmetic_exemplars"] = "Share of sums that show all that they should, by exemplars a concept."
    return Measured(
        says=says,
        statistics="standing: of 512 other z of the seed, so each picture depends on its own z alone",
        figures=figures,
        settings=settings.model_dump(mode="json") | {"chosen_by": "hand" if chosen else "the classifier"},
        pictures=pictures,
        captions=captions,
        paper=PAPER,
    )


def _measured(found: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, figures) for name, figures in found.items() if "unmeasured" not in figures]


def _stacked(pictures: Sequence[Images]) -> Images:
    """Pictures below each other, the narrower ones filled up with white."""
    width = max(picture.shape[1] for picture in pictures)
    wide = [
        np.pad(picture, ((0, 12), (0, width - picture.shape[1]), (0, 0)), constant_values=255) for picture in pictures
    ]
    return np.concatenate(wide)
