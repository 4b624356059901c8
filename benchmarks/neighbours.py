"""Seconds of the all-pairs search within a Hamming radius, against FAISS, on the same cores.

    python benchmarks/neighbours.py [--data bedrooms.tar] [--codes 1000000] [--many 3000000] [--radius 15] [--threads 2]

Codes are drawn in two ways, with a near copy of one in a hundred: `uniform`, and `photos`, which has the statistics of
real codes: a normal distribution with the mean and covariance of the encoder's activations on the photos, cut at 0.
Without --data it is `low-rank` instead: 128 sums of 16 normal factors and noise, cut at uneven thresholds, as strongly
tied as codes come. `blank` is uniform, but 10,000 codes differ in 1 to 3 bits from an empty one, so that all of them
are pairs, and 10,000 are equal.

FAISS's IndexBinaryMultiHash(128, 8, 16), nflip 1, is exact at radius 15. It looks up a sample of the codes, and its
seconds are scaled to all of them; filling the index is not counted. Each search runs in a process of its own, whose
peak is its peak of memory; loading or compiling our loops is not counted. `equal` says that we find what FAISS finds
for the sample, and what IndexBinaryFlat finds among 20,000 codes at every radius to 20. Needs: pip install faiss-cpu
"""

import argparse
import json
import os
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# A script's folder stands first on the path, and the dedup.py in this one would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dedup.autoencoder import AutoencoderSettings, fit
from dedup.neighbours import collapse, pairs_within, stream_pairs_within
from manifests import images
from manifests.schema import CODE_BITS, THUMB_PX

FLAT_CODES = 20_000
FLAT_RADIUS = 20
BLANKS = 10_000
_BATCH = 1 << 16

Codes = npt.NDArray[np.uint64]
Found = npt.NDArray[np.int64]
"""int64[P, 3]: query, its neighbour and their distance, sorted; a code is not its own neighbour."""
Draw = Callable[[np.random.Generator, int], npt.NDArray[np.bool_]]


@dataclass(frozen=True)
class Search:
    """What a search took, and what it found: pairs in all, where it searched all, and those of the sample."""

    seconds: float
    pairs: int
    of_sample: Found
    peak_gb: float


def uniform_bits(draw: np.random.Generator, count: int) -> npt.NDArray[np.bool_]:
    """bool[count, 128], each bit a fair coin."""
    return draw.random((count, CODE_BITS), np.float32) < 0.5


def normal_bits(
    mean: npt.NDArray[np.float32], factors: npt.NDArray[np.float32], draw: np.random.Generator, count: int
) -> npt.NDArray[np.bool_]:
    """bool[count, 128]: normal values with the mean and the covariance `factors.T @ factors`, above 0 or not."""
    return draw.standard_normal((count, len(factors)), np.float32) @ factors + mean > 0


def low_rank() -> Draw:
    """Bits that follow 16 factors and a little noise."""
    draw = np.random.default_rng(5)
    noise = 0.5 * np.eye(CODE_BITS)
    factors = np.concatenate([draw.standard_normal((16, CODE_BITS)) / 4, noise]).astype(np.float32)
    return partial(normal_bits, draw.normal(0, 0.4, CODE_BITS).astype(np.float32), factors)


def like_photos(data: str) -> Draw:
    """Bits with the mean and the covariance of the activations of an encoder fitted on a tar's photos."""
    thumbs = []
    with tarfile.open(data) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.name.lower().endswith((".jpg", ".png")) else None
            if file is not None:
                raw = file.read()
                image = images.decode_rgb(raw, images.read_header(raw, images.Limits()), THUMB_PX)
                square = images.centre_square(image)
                thumbs.append(images.resize_area(images.Halvings(square), THUMB_PX).reshape(-1))
    encoder = fit(np.stack(thumbs), AutoencoderSettings(), 0, 1).encoder
    pixels = np.stack(thumbs).astype(np.float64)
    pixels = (pixels - pixels.mean(axis=1, keepdims=True)) / np.maximum(pixels.std(axis=1, keepdims=True), 1e-3)
    activations = pixels @ encoder.weights.T + encoder.bias
    values, axes = np.linalg.eigh(np.cov(activations.T))
    factors = (np.sqrt(np.maximum(values, 0))[:, None] * axes.T).astype(np.float32)
    return partial(normal_bits, activations.mean(axis=0).astype(np.float32), factors)


def draw_codes(bits: Draw, count: int, radius: int, seed: int) -> Codes:
    """uint64[count, 2], all different, in no order; one in a hundred has a copy with 1 to radius + 5 bits turned."""
    draw = np.random.default_rng(seed)
    plain = np.concatenate([_packed(bits(draw, min(_BATCH, count - at))) for at in range(0, count, _BATCH)])
    copied = draw.choice(count, count // 100, replace=False)
    ranks = np.argsort(draw.random((len(copied), CODE_BITS), np.float32), axis=1)
    copies = plain[copied] ^ _packed(ranks < draw.integers(1, radius + 6, (len(copied), 1)))
    codes = np.concatenate([plain, copies])
    return _shuffled(codes[collapse(codes)[0]], draw)[:count]


def with_blanks(codes: Codes, seed: int) -> Codes:
    """The codes, the first of them replaced by 10,000 nearly empty and 10,000 equal ones, in another order."""
    draw = np.random.default_rng(seed)
    ranks = np.argsort(draw.random((BLANKS, CODE_BITS), np.float32), axis=1)
    blanks = _packed(ranks < draw.integers(1, 4, (BLANKS, 1)))
    return _shuffled(np.concatenate([blanks, np.repeat(codes[:1], BLANKS, axis=0), codes[2 * BLANKS :]]), draw)


def our_search(file: Path, radius: int, threads: int, sample: npt.NDArray[np.int64]) -> Search:
    """Find all pairs, chunk after chunk, as whoever groups them does."""
    pairs_within(draw_codes(uniform_bits, 20_000, radius, 0), radius)
    codes = np.load(file)
    sampled = np.zeros(len(codes), np.bool_)
    sampled[sample] = True
    kept, pairs = [np.empty((0, 3), np.int64)], 0
    began = time.perf_counter()
    for found in stream_pairs_within(codes, radius, threads=threads):
        pairs += len(found)
        for query, other in ((found.first, found.second), (found.second, found.first)):
            rows = np.flatnonzero(sampled[query])
            kept.append(np.stack([query[rows], other[rows], found.distance[rows]], axis=1))
    return Search(time.perf_counter() - began, pairs, _sorted(np.concatenate(kept)), _peak_gb())


def faiss_search(file: Path, radius: int, threads: int, sample: npt.NDArray[np.int64]) -> Search:
    """Look up the sample with FAISS's multi-hash; the seconds are those of the sample."""
    faiss = import_module("faiss")
    faiss.omp_set_num_threads(threads)
    codes = np.load(file)
    index = faiss.IndexBinaryMultiHash(CODE_BITS, 8, 16)
    index.nflip = 1
    index.add(codes.view(np.uint8))
    _range_search(index, codes, sample[:200], radius)
    began = time.perf_counter()
    found = _range_search(index, codes, sample, radius)
    return Search(time.perf_counter() - began, 0, found, _peak_gb())


def agrees_with_flat(codes: Codes) -> bool:
    """Whether the pairs at each radius to 20 are those that FAISS finds by comparing all with all."""
    faiss = import_module("faiss")
    index = faiss.IndexBinaryFlat(CODE_BITS)
    index.add(codes.view(np.uint8))
    every = _range_search(index, codes, np.arange(len(codes)), FLAT_RADIUS)
    every = every[every[:, 0] < every[:, 1]]
    for radius in range(FLAT_RADIUS + 1):
        found = pairs_within(codes, radius)
        ours = np.stack([found.first, found.second, found.distance], axis=1)
        if not np.array_equal(ours, every[every[:, 2] <= radius]):
            return False
    return True


def measure(name: str, codes: Codes, options: argparse.Namespace, scratch: Path, faiss: bool) -> dict[str, Any]:
    """Run ours, and FAISS on a sample where asked to; print a line, return the figures."""
    file = scratch / "codes.npy"
    np.save(file, codes)
    sample = np.sort(np.random.default_rng(1).choice(len(codes), min(options.queries, len(codes)), replace=False))
    ours = _alone(our_search, file, options.radius, options.threads, sample)
    figures: dict[str, Any] = {"codes": len(codes), "radius": options.radius, "seconds": ours.seconds}
    line = f"{name:9} {len(codes):9,} codes: {ours.seconds:6.2f} s, {ours.pairs:,} pairs, peak {ours.peak_gb:.2f} GB"
    if faiss:
        theirs = _alone(faiss_search, file, options.radius, options.threads, sample)
        scaled_s = theirs.seconds * len(codes) / len(sample)
        figures["faiss_seconds"], figures["speedup"] = scaled_s, scaled_s / ours.seconds
        figures["equal"] = np.array_equal(ours.of_sample, theirs.of_sample)
        line += f"; FAISS {scaled_s:.0f} s ({len(sample):,} queries scaled), peak {theirs.peak_gb:.2f} GB; "
        line += f"{len(ours.of_sample):,} neighbours of the sample {'equal' if figures['equal'] else 'DIFFER'}"
    print(line, flush=True)
    return figures | {"peak_gb": ours.peak_gb}


def main() -> None:
    """Measure all, print a line for each and the line of JSON, for the slower kind of code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="a tar of photos")
    parser.add_argument("--codes", type=int, default=1_000_000)
    parser.add_argument("--many", type=int, default=3_000_000)
    parser.add_argument("--radius", type=int, default=15)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--queries", type=int, default=5_000, help="codes that FAISS looks up")
    options = parser.parse_args()
    if options.radius > 15:
        parser.error(f"--radius {options.radius} is above 15, where FAISS's 8 hashes and one flip miss pairs; try 15")
    kinds = {"uniform": uniform_bits} | (
        {"photos": like_photos(options.data)} if options.data else {"low-rank": low_rank()}
    )
    measured = []
    with tempfile.TemporaryDirectory(prefix="neighbours-") as folder:
        scratch = Path(folder)
        for name, bits in kinds.items():
            flat = _alone(agrees_with_flat, draw_codes(bits, FLAT_CODES, options.radius, 3))
            verdict = "equal to" if flat else "DIFFERS from"
            print(f"{name:9} {FLAT_CODES:9,} codes: {verdict} IndexBinaryFlat at radius 0..{FLAT_RADIUS}")
            codes = draw_codes(bits, options.codes, options.radius, 1)
            figures = measure(name, codes, options, scratch, faiss=True)
            measured.append(figures | {"equal": figures["equal"] and flat})
        for name, bits in kinds.items():
            measure(name, draw_codes(bits, options.many, options.radius, 2), options, scratch, faiss=False)
        measure(
            "blank", with_blanks(draw_codes(uniform_bits, options.codes, options.radius, 1), 4), options, scratch, False
        )
    slowest = max(measured, key=lambda figures: float(figures["seconds"])) | {
        "equal": all(figures["equal"] for figures in measured),
        "peak_gb": max(figures["peak_gb"] for figures in measured),
    }
    print(json.dumps({name: round(value, 3) if isinstance(value, float) else value for name, value in slowest.items()}))


def _alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, run in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _range_search(index: Any, codes: Codes, queries: npt.NDArray[np.int64], radius: int) -> Found:
    limits, distance, rows = index.range_search(
        codes[queries].view(np.uint8), radius + 1
    )  # leaves the radius itself out
    query = np.repeat(queries, np.diff(limits.astype(np.int64)))
    found = np.stack([query, rows.astype(np.int64), distance.astype(np.int64)], axis=1)
    return _sorted(found[found[:, 0] != found[:, 1]])


def _sorted(found: Found) -> Found:
    return found[np.lexsort([found[:, 1], found[:, 0]])]


def _packed(bits: npt.NDArray[np.bool_]) -> Codes:
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _shuffled(codes: Codes, draw: np.random.Generator) -> Codes:
    return codes[draw.permutation(len(codes))]


def _peak_gb() -> float:
    # Of this program alone: what getrusage tells starts with the parent's.
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(peak.split()[1]) * 1024 / 1e9


if __name__ == "__main__":
    main()
