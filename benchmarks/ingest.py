"""Images per second of the ingest stage, against a bare process pool that only decodes, resizes and encodes.

    python benchmarks/ingest.py --data bedrooms.tar [--records 50000] [--workers 2]

The photos are stored as WebP in an LSUN-format LMDB, repeated under new keys up to the number of records. The floor
reads the same LMDB with as many processes; half of it runs before the stage and half after, since machines drift.
Both are warm: starting the pool, and starting Ray with its workers, is reported apart.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from rich.console import Console

# Run as a script, this folder comes first on the path, and its dedup.py would stand in for the package.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from manifests import images
from manifests.store import Folder
from pipelines import cluster
from pipelines.parts import start_workers
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.sources import Source, list_parts
from pipelines.sources.lsun import LsunSource, lsun_key, write_lmdb
from pipelines.sources.record import PartRange
from pipelines.stages import ingest
from pipelines.stages.context import Context


def floor_part(source: Source, image_px: int, part: PartRange) -> int:
    """Decode, resize and encode the records of a part, and nothing else; returns how many."""
    cv2.setNumThreads(1)
    for record in source.read(part):
        assert record.data is not None
        header = images.read_header(record.data, images.Limits())
        image = images.decode_rgb(record.data, header, image_px)
        crop = cv2.resize(images.centre_square(image), (image_px, image_px), interpolation=cv2.INTER_AREA)
        images.encode_image(np.asarray(crop, np.uint8), "png")
    return part.records


def measure_floor(pool: ProcessPoolExecutor, source: Source, image_px: int, parts: list[PartRange]) -> float:
    """Seconds that the pool takes for the parts."""
    began = time.perf_counter()
    sum(pool.map(partial(floor_part, source, image_px), parts))
    return time.perf_counter() - began


def measure_ingest(recipe: Recipe, run: Folder) -> tuple[float, float]:
    """(seconds of the stage, seconds that Ray and its workers took to start)."""
    began = time.perf_counter()
    with cluster.session(None, recipe.resources), Reporter(Console(stderr=True)) as reporter:
        start_workers(recipe.resources.workers or cluster.cores())
        startup_s = time.perf_counter() - began
        context = Context(run, recipe, reporter, on_cluster=False)
        ingest.prepare(run, recipe, list_parts(recipe.sources, recipe.resources.part_images))
        began = time.perf_counter()
        ingest.run(context)
        return time.perf_counter() - began, startup_s


def main() -> None:
    """Run both and print the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="a tar or folder of photos")
    parser.add_argument("--records", type=int, default=50_000)
    parser.add_argument("--workers", type=int, default=cluster.cores())
    parser.add_argument("--lmdb", help="an LMDB to use instead of making one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ingest-") as scratch:
        lmdb = options.lmdb or _packed(options.data, options.records, Path(scratch))
        recipe = Recipe.model_validate(
            {
                "name": "ingest benchmark",
                "sources": [{"name": "photos", "kind": "lsun", "path": lmdb, "first": options.records}],
                "resources": {"workers": options.workers},
            }
        )
        source = recipe.sources[0]
        parts = [part.range for part in list_parts([source], recipe.resources.part_images)]
        records = sum(part.records for part in parts)
        half = len(parts) // 2
        _read_through(Path(lmdb))
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            measure_floor(pool, source, recipe.ingest.image_px, [_few(part) for part in parts[:4]])
            before_s = measure_floor(pool, source, recipe.ingest.image_px, parts[:half])
        seconds, startup_s = measure_ingest(recipe, Folder(Path(scratch) / "run"))
        with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
            measure_floor(pool, source, recipe.ingest.image_px, [_few(part) for part in parts[:4]])
            after_s = measure_floor(pool, source, recipe.ingest.image_px, parts[half:])
        rate, floor = records / seconds, records / (before_s + after_s)
    print(
        f"{records:,} records, {options.workers} workers; floor {before_s:.1f} + {after_s:.1f} s, stage {seconds:.1f} s"
    )
    figures = {"images_per_s": rate, "floor_images_per_s": floor, "ratio": rate / floor, "startup_s": startup_s}
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


def _read_through(lmdb: Path) -> None:
    """Bring the photos into the page cache, so that none of the three pays for the disk."""
    for file in lmdb.rglob("*") if lmdb.is_dir() else (lmdb,):
        with file.open("rb") as data:
            while data.read(1 << 24):
                pass


def _few(part: PartRange) -> PartRange:
    return PartRange(min(32, part.records), part.start)


def _packed(data: str, records: int, scratch: Path) -> str:
    """An LMDB of at least so many WebP records, made of the photos."""
    lmdb = scratch / "photos.lmdb"
    once = [sys.executable, "-m", "pipelines", "pack", data, str(lmdb), "--webp", "90"]
    subprocess.run(once, check=True, stdout=sys.stderr)
    photos = sum(
        part.range.records for part in list_parts([LsunSource(name="p", kind="lsun", path=str(lmdb))], 1 << 20)
    )
    repeats = -(-records // photos)
    if repeats == 1:
        return str(lmdb)
    source = LsunSource(name="photos", kind="lsun", path=str(lmdb))
    every = (record for part in source.ranges(1 << 20) for record in source.read(part))
    copies = ((lsun_key(f"{r.key}#{n}"), r.data) for r in every for n in range(repeats) if r.data is not None)
    repeated = scratch / "repeated.lmdb"
    write_lmdb(repeated, copies)
    return str(repeated)


if __name__ == "__main__":
    main()
