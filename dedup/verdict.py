"""Same picture or not: hashes nominate a pair, and its aligned thumbs decide."""

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import numba
import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from dedup.alignment import correlations, edge_pixels
from dedup.bands import MOST_RADIUS
from dedup.lumas import Lumas, blocks, read
from manifests.perceptual import VIEWS, phashes
from manifests.schema import THUMB_PX

Rows = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]

PHASH_HANDICAP = 4
"""A pHash of 64 bits nominates about as many different pictures as a code of 128 bits that may differ in 4 more."""

_PAIRS_AT_ONCE = 4096  # whose thumbs are in memory
FEWEST_EDGE_PIXELS = 32
"""Of photos one in 2,000 has fewer than 44 in its 32x32 thumb; a dot on white has 12, a short line 21."""


class VerdictSettings(BaseModel):
    """When two images count as the same picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: Literal["joint", "code"] = Field(
        "joint",
        description="joint: codes and pHashes nominate, aligned thumbs decide; code: the 128-bit code alone decides",
    )
    radius: Annotated[int, Field(ge=0, le=MOST_RADIUS)] | Literal["auto"] = Field(
        "auto",
        description="code bits that two images may differ in, and 4 more than the bits of a pHash; auto: what finds "
        "most and keeps wrong_share_max; with rule code, 0 is the paper's rule, equal codes",
    )
    correlation_min: float = Field(
        0.85,
        gt=0,
        lt=1,
        description="what the edges of two aligned thumbs must correlate, at the lower limit of 3 standard errors "
        "(rule joint); with radius auto the least: it is raised where a wider radius then finds more",
    )
    wrong_share_max: float = Field(
        0.002, gt=0, lt=1, description="share of removals that may be wrong, upper 95 % limit (radius auto)"
    )
    grouping: Literal["star", "component"] = Field(
        "star",
        description="star: each image is the same as the one kept for it; component: or as one that is, and so on",
    )


@dataclass(frozen=True)
class Seen:
    """What de-duplication sees of N images.

    codes, mirror_codes: uint64[N, 2], of the centre thumb and of its mirror image
    lumas: uint8[N, 32, 32], of the whole thumb; in memory, or stored
    flat: bool[N], too flat for hashes to mean anything; such images are never judged the same as another
    """

    codes: Hashes
    mirror_codes: Hashes
    lumas: Lumas
    flat: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        shapes = self.codes.shape, self.mirror_codes.shape, self.lumas.shape, self.flat.shape
        images = len(self.flat)
        if shapes != ((images, 2), (images, 2), (images, THUMB_PX, THUMB_PX), (images,)):
            raise ValueError(
                f"codes, mirror_codes, lumas and flat are {shapes}, not (N, 2), (N, 2), "
                f"(N, {THUMB_PX}, {THUMB_PX}) and (N,); read them from the same rows"
            )

    def __len__(self) -> int:
        return len(self.flat)

    def of(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Seen":
        """The same of some rows: their numbers, or a mask. Hashes that were made already are not made again."""
        some = Seen(self.codes[rows], self.mirror_codes[rows], self.lumas[rows], self.flat[rows])
        for name, made in self._made():
            some.__dict__[name] = made[:, :, rows] if name == "views" else made[rows]
        return some

    def _made(self) -> list[tuple[str, npt.NDArray[Any]]]:
        """Name and value of the cached properties that were asked for."""
        return [(name, self.__dict__[name]) for name in ("bare", "views", "fingerprints") if name in self.__dict__]

    @cached_property
    def bare(self) -> npt.NDArray[np.bool_]:
        """bool[N], flat, or with edges in so few places that any two such pictures could be laid over each other."""
        edges = [np.empty(0, np.float32), *(edge_pixels(block) for block in blocks(self.lumas))]
        return self.flat | np.asarray(np.concatenate(edges) < FEWEST_EDGE_PIXELS)

    @cached_property
    def views(self) -> Hashes:
        """uint64[V, 2, N]: the pHash of each view of VIEWS, as it is and mirrored."""
        found = np.empty((len(VIEWS), 2, len(self)), np.uint64)
        start = 0
        for block in blocks(self.lumas):
            for number, view in enumerate(VIEWS):
                found[number, :, start : start + len(block)] = phashes(block, view)
            start += len(block)
        return found

    @cached_property
    def fingerprints(self) -> Hashes:
        """uint64[N, 2]: equal for equal lumas, and for others by a chance of 2^-128."""
        prints = [_fingerprints(np.ascontiguousarray(block)) for block in blocks(self.lumas)]
        return np.concatenate([np.empty((0, 2), np.uint64), *prints])


@dataclass(frozen=True)
class Pairs:
    """Pairs that hashes nominate, and how: the first looks like a view of the second, or of its mirror image.

    first, second: int64[P], rows; distance: uint8[P], code bits, or pHash bits and PHASH_HANDICAP
    mirrored: bool[P]; view: uint8[P], number of a view of VIEWS
    """

    first: Rows
    second: Rows
    distance: npt.NDArray[np.uint8]
    mirrored: npt.NDArray[np.bool_]
    view: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """All arrays, in the order of the fields."""
        return self.first, self.second, self.distance, self.mirrored, self.view

    def of(self, rows: npt.NDArray[np.integer] | npt.NDArray[np.bool_]) -> "Pairs":
        """Some of them."""
        return Pairs(*(column[rows] for column in self.columns))


def unfit(settings: VerdictSettings, seen: Seen) -> npt.NDArray[np.bool_]:
    """Which images are never judged the same as another, bool[N]: flat ones; with rule joint, bare ones too."""
    return seen.bare if settings.rule == "joint" else seen.flat


def scores(settings: VerdictSettings, radius: int, pairs: Pairs, left: Seen, right: Seen) -> npt.NDArray[np.float32]:
    """How sure it is that each pair shows the same picture, float32[P]; the same from 0 on.

    pairs: nominated, or closest(), `first` rows of left and `second` rows of right

    Joint: the correlation of the aligned thumbs' edges, less correlation_min. Code: the bits left up to the radius.

    Radford et al. 2016, section 4.1.1, calls images with equal codes duplicates.
    Departs: hashes only nominate. Pairs of different pictures with near hashes grow with the square of the images;
    aligned edges part nearly all of them from true copies, so that the hashes may be looser and find more.
    """
    if settings.rule == "code":
        return np.float32(radius) - pairs.distance.astype(np.float32)
    found = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        some = pairs.of(np.arange(start, min(start + _PAIRS_AT_ONCE, len(pairs))))
        ones, first = np.unique(some.first, return_inverse=True)
        others, second = np.unique(some.second, return_inverse=True)
        thumbs = read(left.lumas, ones), read(right.lumas, others)
        found[start : start + len(some)] = correlations(*thumbs, first, second, some.mirrored, some.view)
    return found - np.float32(settings.correlation_min)


def closest(
    settings: VerdictSettings, left: Seen, right: Seen, first: Rows, second: Rows, than: Pairs | None = None
) -> tuple[Pairs, Rows]:
    """Given pairs as the nearest hashes would nominate them; and int64[P], 1 where a pair was turned round.

    first, second: int64[P], rows of left and of right. A pair that was turned round has its `first` in right.
    than: the same pairs as nominated before; now the nearest of other views, or of the other orientation
    """
    count = len(first)
    nearest = Pairs(
        first.copy(), second.copy(), np.full(count, 255, np.uint8), np.zeros(count, np.bool_), np.zeros(count, np.uint8)
    )
    turned = np.zeros(count, np.int64)

    def offer(bits: npt.NDArray[np.uint8], mirrored: bool, view: int, turn: int) -> None:
        nearer = bits < nearest.distance
        if than is not None:
            nearer &= (than.mirrored != mirrored) | (than.view != view)
        nearest.distance[nearer], nearest.mirrored[nearer], nearest.view[nearer] = bits[nearer], mirrored, view
        turned[nearer] = turn

    offer(np.bitwise_count(left.codes[first] ^ right.codes[second]).sum(axis=1, dtype=np.uint8), False, 0, 0)
    if settings.rule == "code":
        return nearest, turned
    offer(np.bitwise_count(left.codes[first] ^ right.mirror_codes[second]).sum(axis=1, dtype=np.uint8), True, 0, 0)
    handicap = np.uint8(PHASH_HANDICAP)
    for view in range(len(VIEWS)):
        for mirrored in (0, 1):
            bits = np.bitwise_count(left.views[0, 0, first] ^ right.views[view, mirrored, second])
            offer(bits + handicap, bool(mirrored), view, 0)
            if view:
                bits = np.bitwise_count(right.views[0, 0, second] ^ left.views[view, mirrored, first])
                offer(bits + handicap, bool(mirrored), view, 1)
    around = turned == 1
    nearest.first[around], nearest.second[around] = second[around], first[around]
    return nearest, turned


def closest_scores(
    settings: VerdictSettings,
    radius: int,
    left: Seen,
    right: Seen,
    first: Rows,
    second: Rows,
    reach_bits: int = 255,
) -> tuple[Pairs, npt.NDArray[np.float32]]:
    """The pairs as `closest` has them, and the score of each, float32[P].

    A pair that does not pass as the nearest hashes have it is looked at once more as the next nearest do. Pairs whose
    hashes are further apart than `reach_bits` are given -1 without a look.
    """
    pairs, turned = closest(settings, left, right, first, second)
    found = _scored(settings, radius, left, right, pairs, turned, np.flatnonzero(pairs.distance <= reach_bits))
    if settings.rule == "code":
        return pairs, found
    failed = np.flatnonzero((found < 0) & (pairs.distance <= reach_bits))
    again, turned = closest(settings, left, right, first[failed], second[failed], than=pairs.of(failed))
    second_look = _scored(
        settings, radius, left, right, again, turned, np.flatnonzero(again.distance <= min(reach_bits, radius))
    )
    better = second_look >= 0
    for of_all, of_some in zip(pairs.columns, again.columns, strict=True):
        of_all[failed[better]] = of_some[better]
    found[failed[better]] = second_look[better]
    return pairs, found


def _scored(
    settings: VerdictSettings, radius: int, left: Seen, right: Seen, pairs: Pairs, turned: Rows, wanted: Rows
) -> npt.NDArray[np.float32]:
    """The scores of the pairs that are wanted, and -1 for the others."""
    found = np.full(len(pairs), -1, np.float32)
    for turn, (one, other) in enumerate(((left, right), (right, left))):
        rows = wanted[turned[wanted] == turn]
        found[rows] = scores(settings, radius, pairs.of(rows), one, other)
    return found


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fingerprints(lumas: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """uint64[N, 2]: equal for equal thumbs, and for others by a chance of 2^-128 (FNV-1a, Fowler, Noll, Vo, twice)."""
    prints = np.empty((len(lumas), 2), np.uint64)
    for row in range(len(lumas)):
        one, other = np.uint64(0xCBF29CE484222325), np.uint64(0x9AE16A3B2F90404F)
        for value in lumas[row].ravel():
            one = (one ^ np.uint64(value)) * np.uint64(0x100000001B3)
            other = (other + np.uint64(value) + np.uint64(1)) * np.uint64(0xC2B2AE3D27D4EB4F)
            other ^= other >> np.uint64(29)
        prints[row, 0], prints[row, 1] = one, other
    return prints
