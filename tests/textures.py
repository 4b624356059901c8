"""Pictures drawn for tests that lay one over another, smooth with edges as photos are; and what hashes make of them."""

from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from dedup.lumas import read
from dedup.verdict import PHASH_HANDICAP, Seen, VerdictSettings
from manifests.perceptual import VIEWS

Pixels = npt.NDArray[np.uint8]
Nominated = list[tuple[int, int, int, bool, int]]  # first, second, distance, mirrored, view

SIDE_PX = 128
_MARGIN_PX = 32


@cache
def canvas(seed: int) -> Pixels:
    """A picture, uint8[192, 192], of which `taken` takes the middle, so that no small warp meets a border."""
    rng = np.random.default_rng(seed)
    side = SIDE_PX + 2 * _MARGIN_PX
    picture = np.full((side, side), 128.0)
    for sigma, contrast in ((24, 30), (10, 20), (5, 12)):
        picture += contrast * _field(rng, side, sigma)
    for _ in range(6):
        picture[_field(rng, side, 12) > 0.8] += rng.uniform(-60, 60)
    drawn = np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)
    drawn.flags.writeable = False  # it is drawn once for all tests
    return drawn


def _field(rng: np.random.Generator, side: int, sigma: float) -> npt.NDArray[np.float64]:
    small = max(1, int(sigma // 4))  # a smooth field is drawn small and enlarged
    noise = rng.standard_normal((side // small, side // small))
    field = cv2.resize(cv2.GaussianBlur(noise, (0, 0), sigma / small), (side, side), interpolation=cv2.INTER_CUBIC)
    return np.asarray((field - field.mean()) / field.std(), np.float64)


def taken(
    picture: Pixels, turn_deg: float = 0, across: float = 1, down: float = 1, right: float = 0, below: float = 0
) -> Pixels:
    """What stands in a frame on the canvas, uint8[128, 128]: turned, of other sides, or off by so many."""
    turn = np.deg2rad(turn_deg)
    matrix = np.array([[np.cos(turn) * across, -np.sin(turn) * down], [np.sin(turn) * across, np.cos(turn) * down]])
    middle = (len(picture) - 1) / 2 + SIDE_PX * np.array([right, below])
    warp = np.column_stack([matrix, middle - matrix @ np.full(2, (SIDE_PX - 1) / 2)])
    sampled = cv2.warpAffine(picture, warp, (SIDE_PX, SIDE_PX), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return np.asarray(sampled, np.uint8)


def thumb(picture: Pixels) -> Pixels:
    """uint8[32, 32], by area."""
    return np.asarray(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA), np.uint8)


def frames(seeds: range, **warp: float) -> Pixels:
    """Thumbs of the frames on these canvases, uint8[N, 32, 32]; see `taken`."""
    return np.stack([thumb(taken(canvas(seed), **warp)) for seed in seeds])


def seen_of(lumas: Pixels, flat: npt.NDArray[np.bool_] | None = None) -> Seen:
    """What de-duplication sees of the pictures; codes are signs of random waves over them, near for near pictures."""
    return Seen(
        _codes(lumas),
        _codes(lumas[:, :, ::-1]),
        np.ascontiguousarray(lumas),
        np.zeros(len(lumas), np.bool_) if flat is None else flat,
    )


def _codes(lumas: Pixels) -> npt.NDArray[np.uint64]:
    rng = np.random.default_rng(0)
    waves = np.stack([cv2.GaussianBlur(wave, (0, 0), 3.0) for wave in rng.standard_normal((128, 32, 32))])
    waves -= waves.mean(axis=(1, 2), keepdims=True)
    # Sums of whole numbers: the same for a picture wherever it stands among others.
    weights = np.rint(waves * 2**16).reshape(128, -1).astype(np.int64)
    weights[:, 0] -= weights.sum(axis=1)
    bits = lumas.reshape(len(lumas), 32 * 32).astype(np.int64) @ weights.T > 0
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def bits(left: npt.NDArray[np.uint64], right: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """int64[N, M]: Hamming distances of uint64[N, W] and uint64[M, W]."""
    return np.asarray(np.bitwise_count(left[:, None] ^ right[None]).sum(axis=2), np.int64)


def every_nomination(
    settings: VerdictSettings, radius: int, left: Seen, right: Seen | None = None, repeats: bool = True
) -> tuple[Nominated, Nominated]:
    """All pairs that hashes nominate, by comparing all with all: as they are, and turned round.

    repeats: whether a row whose thumb an earlier row of its set has is paired by pHash with others than that row
    """
    straight: Nominated = []
    turned: Nominated = []
    other = left if right is None else right
    first_alike = first_rows(lumas_of(left)) if right is None and not repeats else np.arange(len(left))
    alone = first_alike == np.arange(len(left))

    def add(distance: npt.NDArray[np.int64], mirrored: bool, view: int, once: bool = False) -> None:
        for first, second in np.argwhere(distance <= radius).tolist():
            if right is not None or first < second or (first != second and not once):
                straight.append((first, second, int(distance[first, second]), mirrored, view))

    add(bits(left.codes, other.codes), False, 0, once=True)
    if settings.rule == "code":
        return sorted(straight), turned
    add(bits(left.codes, other.mirror_codes), True, 0)
    if radius >= PHASH_HANDICAP:
        straight += [(int(first_alike[row]), row, PHASH_HANDICAP, False, 0) for row in np.flatnonzero(~alone).tolist()]
    beyond = np.where(alone[:, None] & (alone[None] if right is None else True), 0, 1000)
    for view in range(len(VIEWS)):
        for mirrored in (False, True):
            theirs = other.views[view, int(mirrored)][:, None]
            near = bits(left.views[0, 0][:, None], theirs) + PHASH_HANDICAP + beyond
            add(near, mirrored, view, once=not view and not mirrored)
            if view and right is not None:
                near = bits(right.views[0, 0][:, None], left.views[view, int(mirrored)][:, None]) + PHASH_HANDICAP
                turned += [(i, j, int(near[i, j]), mirrored, view) for i, j in np.argwhere(near <= radius).tolist()]
    return sorted(straight), sorted(turned)


def first_rows(lumas: Pixels) -> npt.NDArray[np.int64]:
    """int64[N]: the first row with the same pixels as each."""
    first_like: dict[bytes, int] = {}
    return np.array([first_like.setdefault(luma.tobytes(), row) for row, luma in enumerate(lumas)], np.int64)


def lumas_of(seen: Seen) -> npt.NDArray[np.uint8]:
    """The thumbs of images, uint8[N, 32, 32], wherever they are kept."""
    return read(seen.lumas, np.arange(len(seen)))
