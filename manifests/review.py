"""The blind review: which pairs a person is asked about, and what their answers say of the de-duplication.

Half of the pairs are removals about which the verdict was least sure, each image beside its keeper. The other half are
controls with a known answer, which measure the reviewer.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, ValidationError

from manifests.schema import Status
from manifests.store import Folder

FOLDER = "review"
PAIRS_FILE = "pairs.json"
ANSWERS_FILE = "answers.json"
TRUSTED_SHARE = 0.9
# pHash bits, of 64, that controls known to be different are apart: nearer ones may be repeats that the verdict missed.
LEAST_APART_BITS = 16
_POOL_SAMPLES = 2048  # that controls are drawn from; all pairs of them are compared
_ID_DIGITS = 16

Answer = Literal["same", "different"]
Interval = Callable[[int, int], tuple[float, float]]


class ReviewError(Exception):
    """The run can't be reviewed, or the answers are none of its review."""


class Kind(StrEnum):
    """What a pair is; the page never tells."""

    BORDER = "border"
    SAME = "same"
    DIFFERENT = "different"


class Picture(BaseModel):
    """A sample's training image, or a changed copy of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample_id: str
    change: str | None = None


class Pair(BaseModel):
    """Two pictures side by side."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    left: Picture
    right: Picture


class Review(BaseModel):
    """The pairs in the order in which they are shown, and what they were drawn from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int
    groups_sha256: str  # of groups/groups.parquet
    removed: int
    pairs: tuple[Pair, ...]

    @property
    def id(self) -> str:
        """16 hex digits of what the review is made of, which don't tell what it is."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]

    def numbers(self, kind: Kind) -> list[int]:
        """The numbers, from 1, of the pairs of a kind."""
        return [number for number, pair in enumerate(self.pairs, 1) if pair.kind == kind]


class Controls(TypedDict):
    """How the reviewer did on pairs with a known answer."""

    pairs: int
    judged: int
    right: int


class Border(TypedDict):
    """How many of the least sure removals were judged different, and the 95 % interval of their share."""

    pairs: int
    judged: int
    different: int
    rate: float | None
    interval: tuple[float, float]


class Figures(TypedDict):
    """What the answers say; `trusted` where nearly all controls were judged rightly."""

    removed: int
    left_open: int
    border: Border
    same: Controls
    different: Controls
    trusted: bool


def unsureness(groups: pa.Table) -> npt.NDArray[np.float64]:
    """How unsure the verdict was of each row of the groups, float64[rows]; more is less sure."""
    if "score" in groups.column_names:
        unsure = -groups["score"].to_numpy().astype(np.float64)
        unsure[np.isnan(unsure)] = np.inf  # a row without a score was never judged itself
    else:
        unsure = groups["distance"].to_numpy().astype(np.float64)
    return np.asarray(unsure, np.float64)


def choose_pairs(run: Folder, pairs: int, seed: int, changes: Sequence[str]) -> Review:
    """Draw a review: half the pairs at the border, the least sure first, a quarter known same, a quarter different.

    Known same is a kept sample beside a copy of it with one of the `changes`; known different are two kept samples
    whose perceptual hashes are as near as two pictures' can be without suspicion. The same run and seed give the same
    review. Where the run has too few samples for so many controls, there are fewer.

    Raises: ReviewError where the run has no groups yet, or removed nothing.
    """
    if not run.child("groups").exists("groups.parquet"):
        raise ReviewError(f"{run} has no groups/groups.parquet to review; do its stages up to deduplicate first")
    generator = np.random.default_rng(seed)
    groups = run.child("groups").read_table("groups.parquet")
    removed = groups.filter(pc.not_equal(groups["sample_id"], groups["keeper_id"])).sort_by("sample_id")
    if not len(removed):
        raise ReviewError(
            f"{run} removed no near-duplicate, so there is nothing to review; a recipe with a wider radius removes more"
        )
    # Of a keeper in an earlier run there is no image here.
    shown = removed.filter(pc.is_in(removed["keeper_id"], _held(run, removed["keeper_id"])))
    if not len(shown):
        raise ReviewError(f"{run} removed near-duplicates of images of earlier runs alone, which it has no images of")
    # Distances are whole numbers, so many are as unsure as each other: the seed draws among those.
    order = np.lexsort((generator.random(len(shown)), -unsureness(shown)))
    border = shown.take(order[: pairs - pairs // 2])
    both = list(zip(border["sample_id"].to_pylist(), border["keeper_id"].to_pylist(), strict=True))
    chosen = [(Kind.BORDER, Picture(sample_id=one), Picture(sample_id=other)) for one, other in both]
    pool, looks = _pool(
        run, set(removed["sample_id"].to_pylist()), {name for names in both for name in names}, generator
    )
    apart = _far_enough_pairs(looks, pairs // 4, generator)
    chosen += [(Kind.DIFFERENT, Picture(sample_id=pool[a]), Picture(sample_id=pool[b])) for a, b in apart]
    taken = {row for rows in apart for row in rows}
    for name in [name for row, name in enumerate(pool) if row not in taken][: pairs // 2 - pairs // 4]:
        change = changes[int(generator.integers(len(changes)))]
        chosen.append((Kind.SAME, Picture(sample_id=name), Picture(sample_id=name, change=change)))
    drawn = []
    for place in generator.permutation(len(chosen)).tolist():
        kind, *sides = chosen[place]
        if generator.random() < 0.5:
            sides.reverse()
        drawn.append(Pair(kind=kind, left=sides[0], right=sides[1]))
    return Review(seed=seed, groups_sha256=groups_sha256(run), removed=len(shown), pairs=tuple(drawn))


def _held(run: Folder, sample_ids: pa.ChunkedArray) -> pa.Array:
    """Those of the sample ids that the run has images of."""
    wanted = sample_ids.unique()
    held = [pa.array([], pa.string())]
    for table in run.child("samples").read_tables("part-", ["sample_id"]):
        held.append(wanted.filter(pc.is_in(wanted, table["sample_id"].combine_chunks())))
    return pa.concat_arrays(held)


def groups_sha256(run: Folder) -> str:
    """The sha256 of groups/groups.parquet: answers count only for the groups that they were asked about."""
    return hashlib.sha256(run.child("groups").read_bytes("groups.parquet")).hexdigest()


def _pool(
    run: Folder, removed: set[str], shown: set[str], generator: np.random.Generator
) -> tuple[list[str], npt.NDArray[np.uint64]]:
    """Kept samples drawn by their ids, those already shown last, and their two pHashes, uint64[N, 2]."""
    salt = int(generator.integers(1 << 63))
    held: dict[str, tuple[int, int, int, int]] = {}
    columns = ["sample_id", "status", "phash", "phash_mirror"]
    for table in run.child("samples").read_tables("part-", columns):
        kept = table.filter(pc.and_(pc.equal(table["status"], Status.KEPT.value), pc.is_valid(table["phash"])))
        for name, _, phash, mirrored in zip(*(kept[column].to_pylist() for column in columns), strict=True):
            if name not in removed:
                # Sample ids are hashes, so the lowest after xor are an even draw, whatever part they came in.
                held[name] = (name in shown, int(name[:16], 16) ^ salt, phash, mirrored)
        if len(held) > _POOL_SAMPLES:
            held = dict(sorted(held.items(), key=lambda item: item[1])[:_POOL_SAMPLES])
    ordered = sorted(held.items(), key=lambda item: item[1])
    looks = np.array([[look[2], look[3]] for _, look in ordered], np.uint64).reshape(-1, 2)
    return [name for name, _ in ordered], looks


def _far_enough_pairs(
    looks: npt.NDArray[np.uint64], limit: int, generator: np.random.Generator
) -> list[tuple[int, int]]:
    """The nearest pairs of rows that are at least LEAST_APART_BITS apart, no row twice, equally near ones drawn.

    looks: uint64[N, 2], pHash and that of the mirror image. No pair where all are nearer than that.
    """
    straight, mirrored = looks[:, :1], looks[:, 1:]
    both_ways = [straight ^ straight.T, straight ^ mirrored.T, mirrored ^ straight.T, mirrored ^ mirrored.T]
    apart = np.min([np.bitwise_count(difference) for difference in both_ways], axis=0)
    first, second = np.triu_indices(len(looks), 1)
    far = np.flatnonzero(apart[first, second] >= LEAST_APART_BITS)
    far = generator.permutation(far)
    far = far[np.argsort(apart[first[far], second[far]], kind="stable")]
    found: list[tuple[int, int]] = []
    taken: set[int] = set()
    for a, b in zip(first[far].tolist(), second[far].tolist(), strict=True):
        if len(found) == limit:
            break
        if not {a, b} & taken:
            found.append((a, b))
            taken |= {a, b}
    return found


class _Answers(BaseModel):
    """The file that the page saves."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    review: str
    answers: dict[int, Answer]


def read_answers(data: bytes, review: Review) -> dict[int, Answer]:
    """The answer of each judged pair, by its number from 1; pairs left open are absent.

    Raises: ReviewError where the bytes are no answers, or those of another review.
    """
    try:
        said = _Answers.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ReviewError(
            f"these are no answers of a review page ({place}: {first['msg']}); give the file that the page saved, "
            "or the whole text that it shows at its end"
        ) from error
    if said.review != review.id:
        raise ReviewError(
            f"these answers are of the review {said.review}, the run's is {review.id}; give those of its own page, or "
            "make a new page and judge that"
        )
    if unknown := sorted(said.answers.keys() - set(range(1, len(review.pairs) + 1))):
        raise ReviewError(f"there is an answer to pair {unknown[0]}, the review has pairs 1 to {len(review.pairs)}")
    return said.answers


def figures(review: Review, answers: Mapping[int, Answer], interval: Interval) -> Figures:
    """What the answers say. `interval` gives the interval of a share from successes and trials."""
    border = [answers[number] for number in review.numbers(Kind.BORDER) if number in answers]
    different = border.count("different")
    controls = {kind: _controls(review, answers, kind) for kind in (Kind.SAME, Kind.DIFFERENT)}
    judged = sum(of["judged"] for of in controls.values())
    right = sum(of["right"] for of in controls.values())
    return Figures(
        removed=review.removed,
        left_open=len(review.pairs) - len(answers),
        border=Border(
            pairs=len(review.numbers(Kind.BORDER)),
            judged=len(border),
            different=different,
            rate=different / len(border) if border else None,
            interval=interval(different, len(border)),
        ),
        same=controls[Kind.SAME],
        different=controls[Kind.DIFFERENT],
        trusted=judged > 0 and right >= TRUSTED_SHARE * judged,
    )


def _controls(review: Review, answers: Mapping[int, Answer], kind: Kind) -> Controls:
    numbers = review.numbers(kind)
    said = [answers[number] for number in numbers if number in answers]
    return Controls(pairs=len(numbers), judged=len(said), right=sum(answer == kind for answer in said))
