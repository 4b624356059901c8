"""Images a second of training: our loop, from shards to metrics.jsonl, against the usual 4x4 port's, on equal images.

    python benchmarks/training.py [--configs 64px-w64 ...] [--rounds 3] [--threads 2]

Both have the same layers, losses, batches, threads and allocator settings, and update both networks on each batch. Each
measurement is a process of its own, by turns, loader and logging included, without the first updates; figures are
medians over rounds. bare_port is the port without its loader, all images in memory: its best case.

gemm_share: the operations of an update that cannot be left out, times updates a second, of those a second that products
of large matrices reach on the same threads, measured between the rounds. wait_share: of the time, waiting for images.
Prints tables by layer and a last line of JSON.
"""

import argparse
import functools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import torch
from rich.console import Console
from rich.table import Table

# A script's folder stands first on the path, and the dedup.py in this one would hide the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks import layers, usual_port
from manifests.shards import ShardSample, dataset_summary, write_shard
from manifests.store import Folder
from pipelines.memory import KEEPING
from training import adversarial, loop
from training.metrics import read_rows
from training.networks import count_parameters
from training.presets import Preset, resolve
from training.settings import TrainingSettings

_SHARD_IMAGES = 256
_SEED = 1
_SAY = Console(stderr=True)


@dataclass(frozen=True)
class Config:
    """What is trained: `warm` updates, then `updates` that are measured; updates divide by warm."""

    size_px: int
    width: int
    batch_images: int
    warm: int
    updates: int

    @property
    def images(self) -> int:
        """Images of one measurement, warm-up included, and those of the row that is left out at our end: one epoch."""
        return (2 * self.warm + self.updates) * self.batch_images

    def preset(self) -> Preset:
        """The same as settings of our networks."""
        return resolve("torch-4x4", **self.overrides())

    def overrides(self) -> dict[str, Any]:
        """What our preset is told."""
        return {"size_px": self.size_px, "width": self.width, "batch_images": self.batch_images}


CONFIGS = {
    "64px-w64": Config(size_px=64, width=64, batch_images=128, warm=3, updates=9),
    "64px-w128": Config(size_px=64, width=128, batch_images=64, warm=1, updates=3),
    "32px-w64": Config(size_px=32, width=64, batch_images=128, warm=3, updates=15),
}


def draw_images(config: Config, scratch: Path) -> None:
    """Draw the images of one measurement: shards in scratch/shards, the same PNGs in scratch/folder/images."""
    draw = np.random.default_rng(_SEED)
    (scratch / "folder" / "images").mkdir(parents=True)
    samples = []
    for number in range(config.images):
        patches = cv2.resize(draw.integers(0, 256, (8, 8, 3), np.uint8), (config.size_px,) * 2)
        noisy = patches + draw.normal(0, 6, patches.shape)  # PNGs of smooth pictures would be smaller than photos'
        png = cv2.imencode(".png", np.clip(noisy, 0, 255).astype(np.uint8))[1].tobytes()
        (scratch / "folder" / "images" / f"{number:06d}.png").write_bytes(png)
        samples.append(ShardSample(f"{number:032x}", f"record-{number}", png, {}))
    shards = Folder(scratch / "shards")
    parts = [samples[start : start + _SHARD_IMAGES] for start in range(0, len(samples), _SHARD_IMAGES)]
    written = [write_shard(shards, "train", number, part, "png", _SEED) for number, part in enumerate(parts)]
    shards.write_table("index.parquet", pa.concat_tables([rows for _, rows in written]))
    shards.write_json("dataset.json", dataset_summary([entry for entry, _ in written], config.size_px, "png"))


def train_ours(config: Config, scratch: Path) -> dict[str, float]:
    """Our loop's own figures, of the rows between the first and the last.

    The last update of a training or an epoch, as one in some hundreds before it, also draws grids, measures samples
    and writes a checkpoint: in a measurement of a few updates it would count for far more than in a training.
    """
    with tempfile.TemporaryDirectory(dir=scratch, prefix="run-") as out:
        settings = TrainingSettings(
            preset="torch-4x4",
            overrides=config.overrides(),
            images=config.images,
            log_every_updates=config.warm,
            threads=torch.get_num_threads(),
        )
        loop.train(Folder(scratch / "shards"), Folder(out), settings, _SEED)
        rows = read_rows(Folder(out))[1:-1]
    each = [1 / row["images_per_s"] for row in rows]  # all rows average over the same number of images
    waited = sum(row["data_wait_share"] * seconds for row, seconds in zip(rows, each, strict=True))
    return {"images_per_s": len(each) / sum(each), "data_wait_share": waited / sum(each)}


def train_port(config: Config, scratch: Path, loads: bool = True) -> dict[str, float]:
    """The same figures of the port's loop, which stand for the same updates."""
    sizes = config.size_px, config.width, config.batch_images, config.warm, config.updates
    return usual_port.train(scratch / "folder", *sizes, loads=loads)


def train_bare_port(config: Config, scratch: Path) -> dict[str, float]:
    """The port's loop with all images in memory, without a loader."""
    return train_port(config, scratch, loads=False)


def look_at_layers(config: Config) -> dict[str, Any]:
    """Operations of an update; and of each layer its operations and seconds, with the machine's speed beside them.

    Raises SystemExit if both sides' networks have not as many parameters.
    """
    preset = config.preset()
    players = adversarial.new_players(preset, _SEED, torch.device("cpu"))
    ours = [count_parameters(network) for network in (players.generator, players.discriminator)]
    theirs = [count_parameters(network) for network in usual_port.networks(config.size_px, config.width)]
    if ours != theirs:
        raise SystemExit(f"ours has {ours} parameters in G and D, the port {theirs}; they must be equal")
    found = layers.layers_of(players, preset)
    rows, speeds = [], []
    for layer in found:
        speeds.append(layers.sgemm_flops(repeats=1))
        seconds = layers.layer_seconds(layer)
        passes = {"forward": layer.forward, "data": layer.data, "weights": layer.weights}
        rows.append({"name": layer.name, "flops": layer.flops, "passes": passes, "seconds": seconds})
    return {
        "flops": sum(layer.flops * layer.passes for layer in found),
        "layers": rows,
        "sgemm_flops": max(speeds),
        "kinds": layers.update_seconds(players, preset),
    }


def alone(threads: int, work: Callable[..., Any], *arguments: Any) -> Any:
    """What `work` returns in a fresh process with so many threads."""
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        return pool.submit(work, *arguments).result()


def measure(name: str, rounds: int, threads: int) -> dict[str, float]:
    """Ours and the port's by turns; the table by layer is printed."""
    config = CONFIGS[name]
    in_process = functools.partial(alone, threads)
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "port": [], "bare_port": []}
    shares = []
    looked = in_process(look_at_layers, config)
    print_layers(name, config, looked)
    with tempfile.TemporaryDirectory(prefix="training-") as scratch:
        draw_images(config, Path(scratch))
        before = in_process(layers.sgemm_flops)
        for round_ in range(rounds):
            for side, train in (("ours", train_ours), ("port", train_port), ("bare_port", train_bare_port)):
                began = time.perf_counter()
                sides[side].append(in_process(train, config, Path(scratch)))
                _SAY.print(
                    f"{name}, round {round_ + 1} of {rounds}, {side}: {sides[side][-1]['images_per_s']:.2f} images/s "
                    f"({time.perf_counter() - began:.0f} s)"
                )
                if side == "ours":
                    after = in_process(layers.sgemm_flops)
                    updates_per_s = sides[side][-1]["images_per_s"] / config.batch_images
                    shares.append(looked["flops"] * updates_per_s / statistics.mean((before, after)))
            before = in_process(layers.sgemm_flops)
    ours, port, bare = (statistics.median(m["images_per_s"] for m in measured) for measured in sides.values())
    return {
        "ours": round(ours, 2),
        "port": round(port, 2),
        "ratio": round(ours / port, 3),
        "bare_port": round(bare, 2),
        "bare_ratio": round(ours / bare, 3),
        "gemm_share": round(statistics.median(shares), 3),
        "wait_share": round(statistics.median(m["data_wait_share"] for m in sides["ours"]), 4),
    }


def print_layers(name: str, config: Config, looked: dict[str, Any]) -> None:
    """Tables on stdout: each layer's passes, and what an update's other work takes."""
    speed = looked["sgemm_flops"]
    table = Table(title=f"{name}, {config.batch_images} images; sgemm: {speed / 1e9:.0f} GFLOP/s")
    for column in ("layer", "GFLOP a pass", "pass", "an update", "ms", "GFLOP/s", "of sgemm"):
        table.add_column(column, justify="right")
    total_s = 0.0
    for layer in looked["layers"]:
        for pass_, seconds in layer["seconds"].items():
            times, rate = layer["passes"][pass_], layer["flops"] / seconds
            total_s += times * seconds
            if times:
                cells = (f"{layer['flops'] / 1e9:.2f}", pass_, f"{times} x", f"{seconds * 1e3:.1f}")
                table.add_row(layer["name"], *cells, f"{rate / 1e9:.0f}", f"{rate / speed:.2f}")
    whole = looked["flops"]
    rate = whole / total_s
    table.add_row(
        "all", f"{whole / 1e9:.1f}", "", "", f"{total_s * 1e3:.0f}", f"{rate / 1e9:.0f}", f"{rate / speed:.2f}"
    )
    out = Console(width=110)
    out.print(table)
    kinds = Table(title=f"{name}: one update under the profiler")
    kinds.add_column("work")
    kinds.add_column("ms", justify="right")
    for kind, seconds in looked["kinds"].items():
        kinds.add_row(kind, f"{seconds * 1e3:.1f}")
    out.print(kinds)


def main() -> None:
    """Measure each configuration and print the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configs", nargs="+", choices=list(CONFIGS), default=list(CONFIGS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="torch's, on both sides")
    options = parser.parse_args()
    os.environ.update(KEEPING)  # as our workers have it: for both sides
    print(json.dumps({name: measure(name, options.rounds, options.threads) for name in options.configs}))


if __name__ == "__main__":
    main()
