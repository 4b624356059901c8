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

from training.evaluation.attributes import AttributeClassifier, ClassifierSettings
from training.evaluation.equations import curve_chart, equation, stacked
from training.evaluation.exemplars import (
    Chosen,
    Floats,
    Numbers,
    candidates,
    chosen_candidates,
    shortage,
)
from training.evaluation.formulas import Formula, check_formulas, ready_formulas
from training.evaluation.measured import Measured, Unmeasurable
from training.evaluation.shares import CONTROLS, averages, sentence, shares
from training.evaluation.strangeness import Strangeness
from training.evaluation.sums import latent_sums, pixel_sums
from training.samples import Images

Draw = Callable[[Floats], Images]
Say = Callable[[str], None]

PAPER = "shown by eye: three exemplars a concept, sums look as they should; on pixels they don't"
_MOST_FORMULAS = 50


class ArithmeticSettings(BaseModel):
    """How sums of concepts are made."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    formulas: tuple[Formula, ...] | None = Field(
        None,
        min_length=1,
        max_length=_MOST_FORMULAS,
        description="The sums; none: those of faces that the attributes allow, else one for each attribute",
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

    @field_validator("formulas")
    @classmethod
    def _named_apart(cls, formulas: tuple[Formula, ...] | None) -> tuple[Formula, ...] | None:
        names = [formula.name for formula in formulas or ()]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{', '.join(twice)} names two sums; give each its own name")
        return formulas

    @field_validator("curve")
    @classmethod
    def _counts(cls, curve: tuple[int, ...]) -> tuple[int, ...]:
        if any(count < 1 for count in curve):
            raise ValueError(f"curve={list(curve)} has a number below 1; a concept needs an exemplar")
        return tuple(sorted(set(curve)))


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
        Unmeasurable: no formula has enough samples that show its concepts, or one names an attribute that is none.

    Source: Radford et al. 2016, section 6.3.2.
    Departs: the paper judges by eye, one sum each, of exemplars chosen by eye.
    """
    formulas = _formulas(settings, classifier)
    say(f"arithmetic: {len(z):,} samples to choose exemplars among")
    images = draw(z)
    judged = None if classifier is None else classifier.probabilities(images)
    strange = None if classifier is None or real is None else Strangeness(classifier, real, images)
    made = _Made(draw, z, images, settings, seed, classifier, strange)
    found: dict[str, Any] = {}
    equations: list[Images] = []
    for place, formula in enumerate(formulas, 1):
        if chosen is not None:
            pools = [chosen_candidates(chosen, concept) for concept in formula.concepts]
        else:
            assert classifier is not None
            assert judged is not None
            pools = [candidates(judged, classifier.names, c, settings.surest) for c in formula.concepts]
        figures: dict[str, Any] = {
            "sum": formula.text,
            "wanted": formula.wanted,
            "kept": formula.kept,
            "candidates": {c.name: len(pool) for c, pool in zip(formula.concepts, pools, strict=True)},
        }
        found[formula.name] = figures
        if missing := shortage(formula.concepts, pools, settings.per_concept):
            figures["unmeasured"] = missing
            continue
        # Where there are as many exemplars as a sum takes, and no more, there is one sum to make.
        trials = 1 if all(len(pool) == settings.per_concept for pool in pools) else settings.trials
        say(f"arithmetic: {formula.text}, trials: {trials}")
        figures["trials"] = trials
        equations.append(made.measured(formula, pools, trials, place, figures))
    if not equations:
        told = "; ".join(f"{name}: {figures['unmeasured']}" for name, figures in found.items())
        raise Unmeasurable(
            f"no sum has exemplars enough ({told}); take a checkpoint that shows more, raise arithmetic.pool, lower "
            "arithmetic.per_concept, or set arithmetic.formulas to what it shows"
        )
    return _told(found, equations, settings, classifier, chosen)


def _formulas(settings: ArithmeticSettings, classifier: AttributeClassifier | None) -> Sequence[Formula]:
    if classifier is None:
        if settings.formulas is None:
            raise Unmeasurable(
                "there are no attributes to make sums of; set arithmetic.formulas to sums of the concepts in the file "
                "of exemplars, such as [{name: N, a: {name: A}, b: {name: B}, c: {name: C}}]"
            )
        return settings.formulas
    formulas = settings.formulas or ready_formulas(classifier.names)
    check_formulas(formulas, classifier.names)
    return formulas


@dataclass(frozen=True)
class _Made:
    """What all sums of a measurement share. images: uint8[N, H, W, C], those of z."""

    draw: Draw
    z: Floats
    images: Images
    settings: ArithmeticSettings
    seed: int
    classifier: AttributeClassifier | None
    strange: Strangeness | None

    def measured(
        self, formula: Formula, pools: Sequence[Numbers], trials: int, place: int, figures: dict[str, Any]
    ) -> Images:
        """Add a formula's figures, where there is a classifier; the picture of its first trial."""
        settings = self.settings
        sums = latent_sums(self.z, pools, settings.per_concept, trials, self.seed, place)
        flat = self.draw(sums.variants(settings.variants, settings.noise).reshape(-1, self.z.shape[1]))
        near = flat.reshape(trials, settings.variants, *flat.shape[1:])
        ways = {
            "latent": near[:, settings.variants // 2],
            "pixels": pixel_sums(self.images, sums.places),
            "c_alone": self.draw(sums.c_alone),
            "random": self.draw(sums.random_step()),
        }
        if self.classifier is not None:
            figures |= {way: shares(self.classifier, shown, formula, self.strange) for way, shown in ways.items()}
            figures["variants"] = shares(self.classifier, flat, formula, None)
            figures["by_exemplars"] = {
                str(count): self._by_count(self.classifier, formula, pools, count, trials, place)
                for count in sorted({*settings.curve, settings.per_concept})
            }
        first = {way: ways[way][0] for way in CONTROLS}
        return equation(formula, self.images[sums.places[0]], self.draw(sums.means[0]), near[0], first)

    def _by_count(
        self,
        classifier: AttributeClassifier,
        formula: Formula,
        pools: Sequence[Numbers],
        count: int,
        trials: int,
        place: int,
    ) -> dict[str, float] | None:
        """The share of trials that show all that they should with `count` exemplars; None: there are too few."""
        if shortage(formula.concepts, pools, count):
            return None
        sums = latent_sums(self.z, pools, count, trials, self.seed, place)
        made = self.draw(np.concatenate([sums.latent, sums.random_step()]))
        ways = {"latent": made[:trials], "pixels": pixel_sums(self.images, sums.places), "random": made[trials:]}
        return {way: shares(classifier, shown, formula, None)["both"] for way, shown in ways.items()}


def _told(
    found: Mapping[str, Any],
    equations: Sequence[Images],
    settings: ArithmeticSettings,
    classifier: AttributeClassifier | None,
    chosen: Chosen | None,
) -> Measured:
    figures: dict[str, Any] = {"formulas": found}
    pictures = {"sums": stacked(equations)}
    captions = {
        "sums": f"{settings.per_concept} exemplars of each concept above the picture of their mean z, and the "
        "sum of the means among its variants; beside it the same sum on pixels, c's mean alone, and c with a random "
        "step as long. The first trial of each, not the best."
    }
    says = f"Pictures of {len(equations)} sums of exemplars chosen by hand; there are no attributes to judge them by"
    if classifier is not None:
        done = {name: each for name, each in found.items() if "unmeasured" not in each}
        asked = sorted({name for each in done.values() for name in (*each["wanted"], *each["kept"])})
        figures["all"] = averages([*done.values()])
        figures["classifier"] = {
            "heldout_accuracy": {name: classifier.accuracy[name] for name in asked},
            "pictures": classifier.counts,
        }
        says = sentence(figures, sum(each["trials"] for each in done.values()))
        pictures["exemplars"] = curve_chart({name: each["by_exemplars"] for name, each in done.items()})
        captions["exemplars"] = "Share of sums that show all that they should, by exemplars a concept."
    return Measured(
        says=says,
        statistics="standing: of 512 other z of the seed, so each picture depends on its own z alone",
        figures=figures,
        settings=settings.model_dump(mode="json") | {"chosen_by": "hand" if chosen else "the classifier"},
        pictures=pictures,
        captions=captions,
        paper=PAPER,
    )
