"""Does the generator show training images again? Samples against held-out images, and against changed copies."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from training.draws import Stream, permutation, philox
from training.evaluation.copies import CHANGES
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.evaluation.nearer import (
    NEAR,
    Rule,
    Verdict,
    below,
    compared,
    equally_weighted,
    floor_of,
    least_share,
    overall,
)
from training.evaluation.neighbours import Codes, Nearest, relative
from training.evaluation.pairs import cumulative_chart, pair_sheet
from training.evaluation.spaces import Space, code_space, feature_space, pixel_space
from training.samples import Images, fixed_z, generate

LEAST_HELDOUT = 20
RULE = (
    "memorised in a space: of the samples, more than {times:g} times as many as of matched held-out images are "
    "relatively nearer than the nearest 5 % of these, by a chance under {significance:g} if they were alike "
    "(precedence test); no power: not so, but changed copies of training images aren't called memorised either, or "
    f"fewer than {round(1 / NEAR)} held-out images, equally weighted, stand for those like the samples. In all: "
    "memorised where more than half of the spaces with power say so, no power where none has any, else not"
)
FARTHER = (
    "samples lie farther from training images than held-out ones do, as bad pictures would: that proves nothing either "
    "way"
)
_CAPTIONS = {
    "nearest_pairs": "The samples nearest to a training image, each above it, and the same of held-out images; an "
    "image counts as near to its mirror image too, and each training image is shown once.",
    "distances": "How distances to the nearest training image are spread, as shares of that to a farther one.",
}
_COPIES, _REFERENCE = 1, 2

SpaceName = Literal["pixels", "code", "features"]


class MemorisationSettings(BaseModel):
    """How memorisation is tested."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    samples: int = Field(default=1000, ge=50, description="samples of the generator")
    heldout: int = Field(default=1000, ge=LEAST_HELDOUT, description="held-out images to set them against, at most")
    train_images: int | None = Field(
        default=None, ge=100, description="training images to search, drawn by the seed; none: all"
    )
    copies: int = Field(default=200, ge=50, description="changed copies of training images, of each kind, to be found")
    spaces: tuple[SpaceName, ...] = Field(
        default=("pixels", "code", "features"), min_length=1, description="in what distances are taken"
    )
    side_px: int = Field(default=32, ge=8, description="side to which larger images are reduced for pixel distances")
    neighbours: int = Field(
        default=50, ge=2, description="a distance is relative to that of the so-many-th nearest training image"
    )
    matched: int = Field(
        default=10, ge=1, description="held-out images that stand for a sample's neighbourhood: the nearest ones to it"
    )
    significance: float = Field(default=0.001, gt=0, lt=0.5, description="chance under which samples count as nearer")
    times: float = Field(default=2.0, ge=1, description="how many times as many near samples as by chance it takes")
    pairs: int = Field(default=12, ge=1, le=50, description="nearest pairs to show")
    reference_images: int = Field(
        default=512, ge=16, description="training images whose statistics the discriminator's batch norm uses"
    )


def memorisation(
    subject: Subject,
    train: Images,
    heldout: Images,
    settings: MemorisationSettings,
    codes: Callable[[Images], Codes] | None = None,
) -> Measured:
    """Whether samples lie nearer to training images than pictures do that the networks have not seen.

    A picture with little in it, or a blurred one, is near to many training images, learnt by heart or not; a copy is
    near to one. So distances are judged as shares of the distance to the `neighbours`-th nearest training image, and
    against held-out images of the same kind: those nearest to the samples, each counted as often as it is one of the
    `matched` nearest. Otherwise who draws nothing but the simplest of the pictures would be taken for a memoriser.
    Plain distances and all held-out images are reported beside. Controls: held-out images are the floor; copies of
    training images, shifted, mirrored, or brighter or darker, have to be called memorised, or there is no power.

    train, heldout: uint8[N, H, W, C]; codes: uint8[N, H, W, C] -> uint64[N, 2], None leaves that space out.

    Raises:
        Unmeasurable: too few held-out or training images.

    Source: relative distances as in Carlini et al. 2023, section 5; held-out controls as in Meehan et al. 2020.
    Departs: Radford et al. 2016 argue from learning curves and walks, and show no neighbours.
    """
    if len(heldout) < LEAST_HELDOUT or len(train) <= settings.neighbours:
        raise Unmeasurable(
            f"{len(train)} training and {len(heldout)} held-out images are too few; memorisation takes more than "
            f"{settings.neighbours} and {LEAST_HELDOUT} or more: raise shard.heldout_share, or add images"
        )
    z = fixed_z(subject.preset, subject.seed, settings.samples, Stream.MEMORISATION)
    queries = {"samples": generate(subject.generator, z, "standing", subject.seed), "held-out": heldout}
    queries |= _changed(train, settings.copies, subject.seed)
    rule = Rule(settings.times, settings.significance)
    figures: dict[str, Any] = {}
    found: dict[str, dict[str, Nearest]] = {}
    with contextlib.ExitStack() as stack:
        for space in _spaces(subject, train, settings, codes, stack):
            said = f"{sum(map(len, queries.values())):,} images against {len(train):,} training images"
            subject.say(f"memorisation: {space.name}, {said}")
            forms = space.forms(np.concatenate([*queries.values()]))
            found[space.name] = _split(queries, space.nearest(forms, train, settings.neighbours))
            like = _split(queries, space.nearest(forms, heldout, min(settings.matched, len(heldout))))
            figures[space.name] = _figures(found[space.name], like, rule) | {"means": space.means}
    verdict = overall([of["verdict"] for of in figures.values()])
    farther = all(of["plain"]["nearer"] < 0.5 for of in figures.values())
    return Measured(
        says=_sentence(verdict, figures) + (f" Note: {FARTHER}." if farther else ""),
        statistics=f"G: standing, of 512 z; D: of {min(settings.reference_images, len(train))} training images",
        figures={
            "verdict": verdict,
            "rule": RULE.format(times=settings.times, significance=settings.significance, least=round(1 / NEAR)),
            "samples_lie_farther": farther,
            "samples": settings.samples,
            "heldout": len(heldout),
            "train": len(train),
            "nearest_is_the_same_image_in_all_spaces": _agreement(found),
            "spaces": figures,
            "left_out": _left_out(settings, codes),
        },
        settings=settings.model_dump(mode="json"),
        pictures=_pictures(queries, found, train, settings.pairs),
        captions=_CAPTIONS,
        paper="argued from learning curves and walks; no nearest neighbours shown",
    )


def _figures(found: Mapping[str, Nearest], like: Mapping[str, Nearest], rule: Rule) -> dict[str, Any]:
    """A space's figures, from the nearest training images and the nearest held-out ones of all that was looked for."""
    heldout, samples = relative(found["held-out"]), relative(found["samples"])

    def weights(kind: str) -> npt.NDArray[np.int64]:
        return np.bincount(like[kind].rows.ravel(), minlength=len(heldout))

    controls: dict[str, Any] = {}
    for kind in CHANGES:
        copies, floor = relative(found[kind]), floor_of(heldout, weights=weights(kind))
        controls[kind] = {
            "share_below_5": None if floor is None else round(floor.share(copies), 4),
            "memorised": floor is not None and rule.met(copies, floor),
        }
    floor = floor_of(heldout, weights=weights("samples"))
    verdict: Verdict = "no power"
    needed, shares = float("inf"), [control["share_below_5"] for control in controls.values()]
    if floor is not None:
        able = all(control["memorised"] for control in controls.values())
        verdict = "memorised" if rule.met(samples, floor) else "not" if able else "no power"
        if None not in shares:
            chance = floor.rank / floor.count
            needed = (rule.needed(len(samples), floor) / len(samples) - chance) / max(min(shares) - chance, 1e-9)
    return {
        "verdict": verdict,
        "matched": ({} if floor is None else below(samples, floor, "5"))
        | {"heldout_equally_weighted": equally_weighted(weights("samples"))},
        "relative": compared(samples, heldout),
        "plain": compared(found["samples"].distances[:, 0], found["held-out"].distances[:, 0]),
        "copies": controls,
        "least_share_of_copies_called_memorised": round(needed, 4) if needed <= 1 else None,
        "training_images_nearest_to_a_sample": len(np.unique(found["samples"].rows[:, 0])),
        "training_images_nearest_to_a_heldout": len(np.unique(found["held-out"].rows[:, 0])),
    }


def _agreement(found: Mapping[str, Mapping[str, Nearest]]) -> dict[str, float] | None:
    """Of each kind, the share whose nearest training image is the same in all spaces, as a copy's is."""
    if len(found) < 2:
        return None
    first, *others = found.values()
    kinds = {kind: [of[kind].rows[:, 0] == first[kind].rows[:, 0] for of in others] for kind in first}
    return {kind: round(float(np.logical_and.reduce(same).mean()), 4) for kind, same in kinds.items()}


def _spaces(
    subject: Subject,
    train: Images,
    settings: MemorisationSettings,
    codes: Callable[[Images], Codes] | None,
    stack: contextlib.ExitStack,
) -> Iterator[Space]:
    """The spaces that were asked for; the discriminator's statistics stand until the stack is closed."""
    if "pixels" in settings.spaces:
        yield pixel_space(settings.side_px, subject.device)
    if "code" in settings.spaces and codes is not None:
        yield code_space(codes)
    if "features" in settings.spaces:
        order = permutation(len(train), philox(subject.seed, Stream.MEMORISATION, _REFERENCE))
        reference = train[np.sort(order[: settings.reference_images])]
        yield stack.enter_context(feature_space(subject.discriminator, reference))


def _left_out(settings: MemorisationSettings, codes: object) -> dict[str, str]:
    if "code" in settings.spaces and codes is None:
        return {"code": "the autoencoder of a run is needed, and a run was not named"}
    return {}


def _changed(train: Images, copies: int, seed: int) -> dict[str, Images]:
    bits = philox(seed, Stream.MEMORISATION, _COPIES)
    chosen = train[np.sort(permutation(len(train), bits)[:copies])]
    random = np.random.Generator(bits)
    return {kind: change(chosen, random) for kind, change in CHANGES.items()}


def _split(queries: Mapping[str, Images], nearest: Nearest) -> dict[str, Nearest]:
    ends = np.cumsum([len(images) for images in queries.values()])[:-1]
    parts = zip(np.split(nearest.distances, ends), np.split(nearest.rows, ends), strict=True)
    return {kind: Nearest(*part) for kind, part in zip(queries, parts, strict=True)}


def _sentence(verdict: Verdict, figures: Mapping[str, Any]) -> str:
    def told(name: str) -> str:
        of = figures[name]
        if "share_below_5" not in of["matched"]:
            return f"{name}: unknown, too few are like them"
        shares = [control["share_below_5"] for control in of["copies"].values()]
        copies = "unknown" if None in shares else f"{min(shares):.1%} or more"
        return f"{name}: {of['matched']['share_below_5']:.1%} (copies: {copies})"

    head = {"memorised": "Memorised", "not": "Not memorised", "no power": "No verdict, the test has no power"}[verdict]
    seen = least_share([(of["verdict"], of["least_share_of_copies_called_memorised"]) for of in figures.values()])
    limit = "" if seen is None else f" Copies that are fewer than {seen:.0%} of the samples would pass."
    return (
        f"{head}. Samples nearer to a training image than the nearest 5 % of held-out images like them: "
        f"{'; '.join(told(name) for name in figures)}.{limit if verdict == 'not' else ''}"
    )


def _pictures(
    queries: Mapping[str, Images], found: Mapping[str, Mapping[str, Nearest]], train: Images, pairs: int
) -> dict[str, Images]:
    blocks = []
    for name, nearest in found.items():
        for kind in ("samples", "held-out"):
            order = np.argsort(relative(nearest[kind]), kind="stable")
            _, once = np.unique(nearest[kind].rows[order, 0], return_index=True)  # each training image is shown once
            first = order[np.sort(once)[:pairs]]
            words = f"{name}: {kind} nearest to training images (top), and these (below); nearest first"
            blocks.append((words, queries[kind][first], train[nearest[kind].rows[first, 0]]))
    panels = {name: {kind: relative(of) for kind, of in nearest.items()} for name, nearest in found.items()}
    title = "Distance to the nearest training image: samples, held-out images, and changed copies of training images"
    chart = cumulative_chart(panels, "share of a farther neighbour's distance", title)
    return {"nearest_pairs": pair_sheet(blocks), "distances": chart}
