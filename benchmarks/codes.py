"""How well codes hold: recall of planted near-duplicates at equal selectivity, for variants of the autoencoder.

    python benchmarks/codes.py --data bedrooms.tar --others cifar10.tar.gz [--sources 300] [--only NAME ...]

Each variant is fitted on one thread on the photos of --data, never on the planted copies. Its radius is the one, by
interpolation, within which 3 in a million pairs of different photos lie; photos with near pHashes are left out, as
repeats. A pair's distance is the least of three: the two codes, and either with the other's mirror image. The columns
at radius 16 are of whole bits. Pairs of --others are those within the radius, true repeats among them, by the encoder
fitted on --data and by one fitted on --others itself. Prints a table in Markdown and a last line of JSON.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

# A script's folder stands first on the path, and the dedup.py in this one would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.planted import decode, encode_change, tar_images
from dedup.autoencoder import PAPER, AutoencoderSettings, Encoder, fit
from dedup.changes import CHANGES, HARD_CHANGES
from dedup.codes import encode, mirrored
from manifests.perceptual import luma, phashes, thumbs

RATE = 3e-6
AT_RADIUS = 16
REPEAT_PHASH = 8

Codes = npt.NDArray[np.uint64]
Thumbs = npt.NDArray[np.uint8]

STANDARD = PAPER.model_copy(update={"standardise": True})
DENOISED = STANDARD.model_copy(update={"changes": True, "noise": 0.0})
DEFAULT = AutoencoderSettings()
VARIANTS: dict[str, AutoencoderSettings] = {
    "the paper's plain form": PAPER,
    "standardised": STANDARD,
    "standardised, dropout 0.5": STANDARD.model_copy(update={"dropout": 0.5}),
    "standardised, balanced": STANDARD.model_copy(update={"balance": True}),
    "changes beside masking": STANDARD.model_copy(update={"changes": True}),
    "changes instead of masking": DENOISED,
    "24 directions": DEFAULT.model_copy(update={"directions": 24}),
    "**32 directions: the default**": DEFAULT,
    "48 directions": DEFAULT.model_copy(update={"directions": 48}),
    "64 directions": DEFAULT.model_copy(update={"directions": 64}),
    "128 directions": DEFAULT.model_copy(update={"directions": 128}),
    "default, whole thumbs": DEFAULT,
    "default, no mirror units": DEFAULT.model_copy(update={"mirror_units": False}),
    "default, not balanced": DEFAULT.model_copy(update={"balance": False}),
    "default, masking 0.2 beside": DEFAULT.model_copy(update={"noise": 0.2}),
    "default, dropout 0": DEFAULT.model_copy(update={"dropout": 0.0}),
    "default, dropout 0.5": DEFAULT.model_copy(update={"dropout": 0.5}),
    "default, 30 epochs": DEFAULT.model_copy(update={"epochs": 30}),
    "default, updates of 400 images": DEFAULT.model_copy(update={"batch_images": 400}),
    "default, fitted on 2,000": DEFAULT.model_copy(update={"fit_images": 2000}),
    "default, fitted on 500": DEFAULT.model_copy(update={"fit_images": 500}),
    "default, fitted on 30": DEFAULT.model_copy(update={"fit_images": 30}),
}


@dataclass(frozen=True)
class Photos:
    """Thumbs of photos and of changed copies of some; source: the photo's row, change: None for a photo itself."""

    centre: Thumbs
    whole: Thumbs
    source: npt.NDArray[np.int64]
    change: list[str]
    photos: int


def planted_photos(data: Path, sources: int, seed: int) -> Photos:
    """All photos of a tar, and `sources` of them in each change, usual and hard."""
    names = [name for name, _ in tar_images(data)]
    chosen = frozenset(sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[:sources])
    of_photos: list[tuple[Thumbs, Thumbs]] = []
    of_copies: list[tuple[Thumbs, Thumbs]] = []
    source: list[int] = []
    change: list[str] = []
    for row, (name, file) in enumerate(tar_images(data)):
        photo = decode(file)
        of_photos.append(thumbs(photo))
        if name in chosen:
            for one in (*CHANGES, *HARD_CHANGES):
                of_copies.append(thumbs(decode(encode_change(photo, one)[1])))
                source.append(row)
                change.append(one)
    centre, whole = (np.stack(side).reshape(len(side), -1) for side in zip(*of_photos, *of_copies, strict=True))
    return Photos(centre, whole, np.array(source), change, len(of_photos))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _bits(a: Any, i: int, b: Any, j: int) -> Any:
    count = np.uint64(0)
    for word in range(2):
        x = a[i, word] ^ b[j, word]
        x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
        x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
        x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
        count += (x * np.uint64(0x0101010101010101)) >> np.uint64(56)
    return count


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _distances(codes: Codes, mirrors: Codes, looks: Codes, most: int) -> npt.NDArray[np.int64]:
    counts = np.zeros(129, np.int64)
    for i in range(len(codes)):
        for j in range(i + 1, len(codes)):
            # As `looks` repeats a 64-bit pHash in both words, its distances are doubled.
            if most and min(_bits(looks[0], i, looks[0], j), _bits(looks[0], i, looks[1], j)) <= 2 * most:
                continue
            direct = _bits(codes, i, codes, j)
            counts[min(direct, _bits(codes, i, mirrors, j), _bits(mirrors, i, codes, j))] += 1
    return counts


def shares_within(codes: Codes, mirrors: Codes, looks: Codes | None = None) -> npt.NDArray[np.float64]:
    """Of all pairs, the share within each radius 0..128; pairs with near pHashes left out, where `looks` are given."""
    images = len(codes)
    counts = _distances(
        codes, mirrors, np.zeros((2, 1, 2), np.uint64) if looks is None else looks, 0 if looks is None else REPEAT_PHASH
    )
    return np.asarray(counts.cumsum() / (images * (images - 1) / 2), np.float64)


def measure(
    encoder: Encoder, photos: Photos, whole: bool, looks: Codes, other_codes: list[tuple[Codes, Codes]]
) -> dict[str, Any]:
    """Recall at equal selectivity and at a fixed radius, by the encoder."""
    pixels = photos.whole if whole else photos.centre
    codes, mirrors = encode(encoder, pixels), encode(encoder, mirrored(pixels))
    n, source = photos.photos, photos.source
    pairs = ((codes[n:], codes[source]), (mirrors[n:], codes[source]), (codes[n:], mirrors[source]))
    distance = np.min([np.bitwise_count(left ^ right).sum(axis=1) for left, right in pairs], axis=0)
    shares = shares_within(codes[:n], mirrors[:n], looks)
    radius = _radius_at(shares)
    hard = np.isin(photos.change, list(HARD_CHANGES))
    others = [shares_within(*both) for both in other_codes]
    return {
        "radius": round(radius, 1),
        "recall": _at(distance[~hard], radius),
        "hard_recall": _at(distance[hard], radius),
        "by_change": {one: _at(distance[np.array(photos.change) == one], radius) for one in (*CHANGES, *HARD_CHANGES)},
        "others_per_1e9": [1e9 * float(np.interp(radius, np.arange(129), share)) for share in others],
        "recall_at_16": float((distance[~hard] <= AT_RADIUS).mean()),
        "hard_recall_at_16": float((distance[hard] <= AT_RADIUS).mean()),
        "rate_at_16": float(shares[AT_RADIUS]),
        "others_per_1e9_at_16": [1e9 * float(share[AT_RADIUS]) for share in others],
        "imbalance": float(np.abs(np.unpackbits(codes[:n].view(np.uint8), axis=1).mean(axis=0) - 0.5).mean()),
    }


def _radius_at(shares: npt.NDArray[np.float64]) -> float:
    radius = max(int(np.searchsorted(shares, RATE, side="right")) - 1, 0)
    low, high = np.log(np.maximum(shares[[radius, radius + 1]], 1e-9))
    return float(radius + np.clip((np.log(RATE) - low) / (high - low), 0, 1))


def _at(distance: npt.NDArray[np.integer], radius: float) -> float:
    return float(np.interp(radius, np.arange(129), [(distance <= whole).mean() for whole in range(129)]))


COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "variant": lambda row: row["variant"],
    "radius": lambda row: f"{row['radius']:.1f}",
    "recall": lambda row: f"{row['recall']:.4f}",
    "hard recall": lambda row: f"{row['hard_recall']:.3f}",
    "pairs per 1e9": lambda row: " / ".join(f"{share:,.0f}" for share in row["others_per_1e9"]),
    "recall at 16": lambda row: f"{row['recall_at_16']:.4f}",
    "hard at 16": lambda row: f"{row['hard_recall_at_16']:.3f}",
    "rate at 16": lambda row: f"{row['rate_at_16']:.0e}",
    "per 1e9 at 16": lambda row: " / ".join(f"{share:,.0f}" for share in row["others_per_1e9_at_16"]),
    "imbalance": lambda row: f"{row['imbalance']:.3f}",
    "fit s": lambda row: f"{row['fit_s']:.1f}",
}


def main() -> None:
    """Measure each variant and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a tar of photos to plant in")
    parser.add_argument("--others", type=Path, required=True, help="a tar of other images, for selectivity")
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--others-images", type=int, default=20_000, help="so many of them, drawn by the seed")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), metavar="NAME")
    options = parser.parse_args()
    photos = planted_photos(options.data, options.sources, options.seed)
    hashes = np.stack(phashes(luma(photos.whole[: photos.photos].reshape(-1, 32, 32, 3))))
    looks = np.ascontiguousarray(np.repeat(hashes[:, :, None], 2, axis=2))
    files = [file for _, file in tar_images(options.others)]
    drawn = np.random.default_rng(options.seed).permutation(len(files))[: options.others_images]
    others = np.stack([thumbs(decode(files[row]))[0] for row in drawn.tolist()]).reshape(len(drawn), -1)
    rows = []
    print("| " + " | ".join(COLUMNS) + " |\n|" + "---|" * len(COLUMNS))
    for name in options.only:
        whole = name.endswith("whole thumbs")
        began = time.process_time()
        pixels = (photos.whole if whole else photos.centre)[: photos.photos]
        encoder = fit(pixels, VARIANTS[name], options.seed, threads=1).encoder
        fit_s = time.process_time() - began
        encoders = (encoder, fit(others, VARIANTS[name], options.seed, threads=1).encoder)
        coded = [(encode(one, others), encode(one, mirrored(others))) for one in encoders]
        rows.append({"variant": name, "fit_s": round(fit_s, 2), **measure(encoder, photos, whole, looks, coded)})
        print("| " + " | ".join(column(rows[-1]) for column in COLUMNS.values()) + " |", flush=True)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
