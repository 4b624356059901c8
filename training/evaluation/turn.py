"""The turn vector: does a step along the axis between two concepts turn any sample from the one to the other?"""

from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field
from scipy.stats import rankdata

from training.draws import Stream, philox
from training.evaluation.arithmetic import Draw, Say
from training.evaluation.attributes import AttributeClassifier, ClassifierSettings
from training.evaluation.equations import enlarged
from training.evaluation.exemplars import (
    Chosen,
    Concept,
    Floats,
    Numbers,
    candidates,
    chosen_candidates,
    draw_exemplars,
    shortage,
    sureness,
)
from training.evaluation.measured import Measured, Unmeasurable
from training.samples import Images, grid, labelled

PAPER = "shown by eye: 4 exemplars a side, new samples turn along the axis"


class TurnSettings(BaseModel):
    """How the axis between two concepts is taken."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    start: Concept = Field(Concept(name="turned left", shows={"turned_left": 1}), description="Where the axis begins")
    end: Concept = Field(Concept(name="turned right", shows={"turned_right": 1}), description="Where it ends")
    exemplars: str | None = Field(
        None, description="A file that the page of dcgan exemplars saved; none: a classifier chooses the exemplars"
    )
    per_concept: int = Field(4, ge=1, description="Exemplars whose mean z is an end of the axis")
    axes: int = Field(5, ge=1, description="Draws of exemplars, an axis each")
    samples: int = Field(40, ge=1, description="New samples that each axis is applied to")
    columns: int = Field(9, ge=3, description="Pictures of a strip")
    reach: float = Field(1.0, gt=0, description="A strip goes from -reach to +reach of the axis's length")
    tolerance: float = Field(
        0.05, ge=0, lt=1, description="The score of -1..1 may fall by so much in a step of a strip that is monotone"
    )
    shown: int = Field(6, ge=1, description="Strips in the picture, of the first axis")
    pool: int = Field(4096, ge=64, description="Samples among which the classifier looks for exemplars")
    surest: int = Field(50, ge=1, description="Of a concept's samples only those that show it most surely are drawn")
    classifier: ClassifierSettings = Field(
        default_factory=ClassifierSettings, description="The classifier that chooses and judges"
    )


def strips(z: Floats, axis: Floats, settings: TurnSettings) -> Floats:
    """Steps along the axis from each z, from -reach to +reach; z itself is in the middle where columns are odd.

    z: float32[N, z_dim]; axis: float32[z_dim] -> float32[N, columns, z_dim]. As in the paper, it may leave the range
    that z was drawn from.
    """
    steps = np.linspace(-settings.reach, settings.reach, settings.columns, dtype=np.float32)
    return z[:, None] + steps[None, :, None] * axis


def monotone(scores: npt.NDArray[np.float64], tolerance: float) -> npt.NDArray[np.bool_]:
    """Whether each strip's score rises: no step falls by more than the tolerance, and the whole rises by more than it.

    scores: float64[N, columns] -> bool[N].
    """
    falls = np.diff(scores, axis=1).min(axis=1)
    return np.asarray((falls >= -tolerance) & (scores[:, -1] - scores[:, 0] > tolerance))


def rank_correlations(scores: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Spearman's correlation of each strip's score with the place in it; 0 where the score stands still.

    scores: float64[N, columns] -> float64[N].
    """
    ranks = rankdata(scores, axis=1) - (scores.shape[1] + 1) / 2
    places = np.arange(scores.shape[1]) - (scores.shape[1] - 1) / 2
    spread = np.sqrt(np.square(ranks).sum(axis=1) * np.square(places).sum())
    return np.asarray((ranks @ places) / np.where(spread > 0, spread, 1.0))


def measure_turn(
    draw: Draw,
    z: Floats,
    new: Floats,
    settings: TurnSettings,
    seed: int,
    classifier: AttributeClassifier | None = None,
    chosen: Chosen | None = None,
    say: Say = print,
) -> Measured:
    """How often the score rises all along the axis between two concepts, and along random axes of the same length.

    The score of a picture is how surely it shows the end less how surely it shows the start, -1..1.

    draw: makes pictures of latent vectors, each of its own z alone
    z: float32[N, z_dim], the samples among which exemplars are, in the order of `fixed_z`
    new: float32[samples, z_dim], of the samples that are turned
    classifier: chooses exemplars and judges; without it there are pictures alone, of exemplars chosen by hand
    chosen: exemplars chosen by hand

    Raises:
        Unmeasurable: too few samples show a concept, or it names an attribute that is none.

    Source: Radford et al. 2016, section 6.3.2, figure 8.
    Departs: the paper shows one axis and judges by eye.
    """
    pools = _pools(draw, z, settings, classifier, chosen)
    if missing := shortage((settings.start, settings.end), pools, settings.per_concept):
        raise Unmeasurable(
            f"{missing}; take a checkpoint that shows more, raise turn.pool, lower turn.per_concept, or set turn.start "
            "and turn.end to what it shows"
        )
    # Where a concept has as many exemplars as an axis takes, and the other too, all axes would be the same one.
    axes = 1 if all(len(pool) == settings.per_concept for pool in pools) else settings.axes
    made: dict[str, list[Images]] = {"axis": [], "random": []}
    scores: dict[str, list[npt.NDArray[np.float64]]] = {"axis": [], "random": []}
    for number in range(axes):
        say(f"turn: axis {number + 1} of {axes}, {len(new)} strips")
        places = draw_exemplars(pools, settings.per_concept, philox(seed, Stream.TURN, 1, number))
        means = z[places].mean(axis=1, dtype=np.float64)
        axis = (means[1] - means[0]).astype(np.float32)
        way = np.random.Generator(philox(seed, Stream.TURN, 2, number)).standard_normal(len(axis))
        other = (way * np.linalg.norm(axis) / np.linalg.norm(way)).astype(np.float32)
        for kind, direction in (("axis", axis), ("random", other)):
            images = draw(strips(new, direction, settings).reshape(-1, len(axis)))
            made[kind].append(images[: settings.shown * settings.columns])
            if classifier is not None:
                score = _score(classifier, images, settings).reshape(len(new), settings.columns)
                scores[kind].append(score)
    return _told(made, scores, settings, classifier, chosen)


def _pools(
    draw: Draw, z: Floats, settings: TurnSettings, classifier: AttributeClassifier | None, chosen: Chosen | None
) -> list[Numbers]:
    concepts = (settings.start, settings.end)
    if classifier is not None:
        for end, concept in zip(("start", "end"), concepts, strict=True):
            unknown = sorted(set(concept.shows) - set(classifier.names))
            if unknown or not concept.shows:
                raise Unmeasurable(
                    f"turn.{end} shows {', '.join(concept.shows) or 'no attribute'}, the pictures have "
                    f"{', '.join(classifier.names)}; set turn.start and turn.end, such as {{name: neutral, shows: "
                    "{smile: 0}}"
                )
    if chosen is not None:
        return [chosen_candidates(chosen, concept) for concept in concepts]
    if classifier is None:
        raise Unmeasurable("exemplars are chosen by a classifier, which needs evaluate.attributes, or by hand")
    judged = classifier.probabilities(draw(z))
    return [candidates(judged, classifier.names, concept, settings.surest) for concept in concepts]


def _score(classifier: AttributeClassifier, images: Images, settings: TurnSettings) -> npt.NDArray[np.float64]:
    """float64[N], -1..1."""
    judged = classifier.probabilities(images)
    return sureness(judged, classifier.names, settings.end.shows) - sureness(
        judged, classifier.names, settings.start.shows
    )


def _figures(scores: npt.NDArray[np.float64], tolerance: float) -> dict[str, Any]:
    return {
        "monotone": round(float(monotone(scores, tolerance).mean()), 4),
        "rank_correlation": round(float(rank_correlations(scores).mean()), 4),
        "crosses": round(float(((scores[:, 0] < 0) & (scores[:, -1] > 0)).mean()), 4),
        "mean_score": [round(float(score), 4) for score in scores.mean(axis=0)],
    }


def _told(
    made: dict[str, list[Images]],
    scores: dict[str, list[npt.NDArray[np.float64]]],
    settings: TurnSettings,
    classifier: AttributeClassifier | None,
    chosen: Chosen | None,
) -> Measured:
    names = f"{settings.start.name} to {settings.end.name}"
    blocks = [
        labelled(grid(enlarged(made["axis"][0]), settings.columns), f"{names}: new samples along the axis, a row each"),
        labelled(grid(enlarged(made["random"][0]), settings.columns), "the same samples along a random axis as long"),
    ]
    says = f"Strips along the axis from {names}, of exemplars chosen by hand; there are no attributes to judge them by"
    figures: dict[str, Any] = {}
    if classifier is not None:
        found = {kind: _figures(np.concatenate(rows), settings.tolerance) for kind, rows in scores.items()}
        asked = sorted({*settings.start.shows, *settings.end.shows})
        count = sum(map(len, scores["axis"]))
        figures = {
            **found,
            "monotone_by_axis": [round(float(monotone(rows, settings.tolerance).mean()), 4) for rows in scores["axis"]],
            "strips": count,
            "classifier": {
                "heldout_accuracy": {name: classifier.accuracy[name] for name in asked},
                "pictures": classifier.counts,
            },
        }
        axis, random = found["axis"], found["random"]
        says = (
            f"{names}: the score rises all along {axis['monotone']:.0%} of {count} strips (rank correlation "
            f"{axis['rank_correlation']:.2f}), along random axes as long {random['monotone']:.0%} "
            f"({random['rank_correlation']:.2f}); no step may fall by more than {settings.tolerance} of -1..1"
        )
    return Measured(
        says=says,
        statistics="standing: of 512 other z of the seed, so each picture depends on its own z alone",
        figures=figures,
        settings=settings.model_dump(mode="json") | {"chosen_by": "hand" if chosen else "the classifier"},
        pictures={"strips": np.concatenate(blocks)},
        captions={
            "strips": f"New samples from {settings.reach:g} axis lengths towards {settings.start.name} (left) to as "
            f"many towards {settings.end.name} (right), the sample itself in the middle; below, a random axis."
        },
        paper=PAPER,
    )
