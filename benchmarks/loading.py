"""Samples a second of loaders of shuffled batches, and their seconds to go on at 90 % of an epoch: ours and its peers.

    python benchmarks/loading.py --data bedrooms.tar [--samples 40960] [--rounds 3] [--peers-venv DIR]

Photos become 64x64 PNGs, several views of each, in tars with an index; LitData and Streaming get the same bytes in
their own formats. Every loader shuffles and decodes with the same call of OpenCV in two processes and gives batches of
128 as uint8[N, 64, 64, 3]. Loaders take turns, each in a process of its own and alone on the machine, from the second
batch of an epoch to its end; the median of the rounds counts. In the first round an epoch's pixels are added up, and
must be the same for all. The floor is OpenCV's decoding alone, from memory, in two processes. To go on at 90 %: ours is
sent there; WebDataset and Ray Data pass over what is before; LitData and Streaming take up their own state.
"""

import argparse
import hashlib
import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.progress import track
from rich.table import Table

# A script's folder stands first on the path, and its files would hide what is called like them.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.loader_data import WORKERS, decode
from benchmarks.loaders import BATCH, LOADERS, WITH_OWN_FORMAT
from benchmarks.peers import environment_python
from manifests.images import encode_image
from manifests.shards import ShardSample, write_shard
from manifests.store import Folder

SIDE = 64
SHARD_SAMPLES = 1_024
_INSTALLS = ("torch>=2.9,<2.14 litdata mosaicml-streaming opencv-python-headless>=4.12,<5 webdataset>=1.0",)


def write_tars(data: Path, folder: Folder, samples: int) -> None:
    """Write views of a tar's photos as shards with an index: `samples` PNGs of 64x64."""
    with tarfile.open(data) as tar:
        photos = [
            file.read()
            for member in tar
            if member.name.lower().endswith((".jpg", ".jpeg", ".png")) and (file := tar.extractfile(member))
        ]
    views = -(-samples // len(photos))
    pool = ProcessPoolExecutor(WORKERS, get_context("spawn"))
    with pool:
        work = pool.map(_views, photos, range(len(photos)), [views] * len(photos), chunksize=32)
        pngs = [png for found in track(work, "views of the photos", total=len(photos)) for png in found][:samples]
    rows = []
    for shard, start in enumerate(range(0, samples, SHARD_SAMPLES)):
        part = [
            ShardSample(f"{hashlib.sha256(png).hexdigest()[:32]}-{i}", str(i), png, {"view": i})
            for i, png in enumerate(pngs[start : start + SHARD_SAMPLES], start)
        ]
        rows.append(write_shard(folder, "train", shard, part, "png", 0)[1])
    folder.write_table("index.parquet", pa.concat_tables(rows))


def _views(photo: bytes, number: int, views: int) -> list[bytes]:
    """Random crops and flips of a photo."""
    cv2.setNumThreads(1)
    image = decode(photo)
    rng, side = np.random.default_rng(number), min(image.shape[:2]) * 3 // 4
    found = []
    for _ in range(views):
        top, left = (int(rng.integers(0, size - side + 1)) for size in image.shape[:2])
        view = image[top : top + side, left : left + side, :]
        view = view[:, ::-1] if rng.random() < 0.5 else view
        small = cv2.resize(np.ascontiguousarray(view), (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        found.append(encode_image(small.astype(np.uint8), "png"))
    return found


def run(name: str, python: str, folder: Path, *arguments: str) -> dict[str, Any] | None:
    """What a loader measured in a process of its own; None, and a line on stderr, where it failed.

    Raises:
        SystemExit: it is ours or the floor, which all others are compared with.
    """
    script = Path(__file__).resolve().with_name("loaders.py")
    command = [python, str(script), name, str(folder), *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False, cwd=folder)
    if done.returncode and name in ("ours", "floor"):
        raise SystemExit(f"{name} failed, and all others are compared with it: mend what is said above, then run again")
    if done.returncode:
        print(f"{name} failed; it is left out", file=sys.stderr)
        return None
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
    return found


def measure(folder: Path, pythons: dict[str, str], rounds: int, console: Console) -> dict[str, dict[str, Any]]:
    """Figures of every loader, and of the floor, over rounds in which each runs once."""
    speeds: dict[str, list[float]] = {"floor": []}
    figures: dict[str, dict[str, Any]] = {}
    left = dict(pythons)
    for number in range(rounds):
        for name in [*left, "floor"]:
            more = ["--check", "--resume"] if number == 0 and name != "floor" else []
            found = run(name, left.get(name, sys.executable), folder, *more)
            if found is None:
                left.pop(name)
                figures.pop(name, None)
                continue
            figures.setdefault(name, {}).update({key: value for key, value in found.items() if key != "samples_per_s"})
            speeds.setdefault(name, []).append(found["samples_per_s"])
            extra = f", resumes in {found['resume_s']:.3f} s" if "resume_s" in found else ""
            console.print(f"round {number + 1} of {rounds}: {name}: {found['samples_per_s']:,.0f} samples/s{extra}")
    for name, of in figures.items():
        of["samples_per_s"] = statistics.median(speeds[name])
        of["rounds"] = speeds[name]
    return figures


def show(figures: dict[str, dict[str, Any]], console: Console) -> None:
    """Print the table."""
    table = Table("loader", "samples/s", "lowest to highest", "ours is", "of the floor", "resume_s", "same pixels")
    ours, floor = figures["ours"], figures["floor"]["samples_per_s"]
    for name, of in figures.items():
        speed, rounds = of["samples_per_s"], of["rounds"]
        same = "yes" if of.get("checksum") == ours["checksum"] and of["samples"] == ours["samples"] else "NO"
        table.add_row(
            name,
            f"{speed:,.0f}",
            f"{min(rounds):,.0f} to {max(rounds):,.0f}",
            f"{ours['samples_per_s'] / speed:.2f}x",
            f"{speed / floor:.2f}",
            f"{of['resume_s']:.3f}" if "resume_s" in of else "",
            "" if name == "floor" else same,
        )
    console.print(table)


def main() -> None:
    """Write the data, measure, print the table and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a tar of photos")
    parser.add_argument("--samples", type=int, default=40_960, help=f"samples of an epoch; a multiple of {2 * BATCH}")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loaders", nargs="*", choices=LOADERS, default=list(LOADERS), help="those to measure")
    parser.add_argument("--peers-venv", type=Path, help="where the peers' environment is, or is to be made and kept")
    parser.add_argument("--scratch", type=Path, help="where the data is, or is to be written and kept")
    options = parser.parse_args()
    if options.samples % (2 * BATCH):
        parser.error(f"--samples {options.samples} must be a multiple of {2 * BATCH}: a whole batch for each process")
    console = Console(width=130)
    with tempfile.TemporaryDirectory(prefix="loading-") as held:
        scratch: Path = (options.scratch or Path(held)).resolve()
        folder = scratch / f"{options.samples}"
        tars = Folder(folder / "tars")
        if not tars.exists("index.parquet"):
            write_tars(options.data, tars, options.samples)
        pythons = {name: sys.executable for name in options.loaders if name not in WITH_OWN_FORMAT}
        own = [name for name in options.loaders if name in WITH_OWN_FORMAT]
        python = environment_python("loading", _INSTALLS, options.peers_venv or scratch / "peers") if own else None
        for name in own if python else []:
            assert python is not None
            if (folder / name).exists() or run(name, python, folder, "--write") is not None:
                pythons[name] = python
        figures = measure(folder, {"ours": sys.executable} | pythons, options.rounds, console)
    show(figures, console)
    checksum = figures["ours"]["checksum"]
    different = [name for name, of in figures.items() if of.get("checksum", checksum) != checksum]
    if different:
        console.print(f"other pixels than ours in an epoch: {', '.join(different)}")
    line = {
        name: {key: round(of[key], 4) for key in ("samples_per_s", "resume_s") if key in of}
        for name, of in figures.items()
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
