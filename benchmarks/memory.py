"""Private memory (USS) of the driver and the workers, and the object store's peak, at two numbers of drawn images.

    python benchmarks/memory.py [--images 20000 100000]

Runs the data stages, from drawing to shards, as `dcgan run` does, and looks at every process three times a second.
"""

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

_MB = 1e6
_LOOK_EVERY_S = 0.3
_RECIPE = """
name: memory benchmark
sources: [{{name: rooms, kind: drawn, images: {images}, image_format: jpeg}}]
encode: {{autoencoder: {{fit_images: 10000, epochs: 2}}}}
shard: {{shard_images: 2048}}
"""


def store_bytes() -> int:
    """Bytes of shared memory in use on this machine; what Ray's object store has touched stays in use."""
    return psutil.disk_usage("/dev/shm").used


def private_bytes(process: psutil.Process) -> int:
    """A process's USS without what it has mapped of the object store; 0 where it has just ended.

    Pages of the store that no second process has touched yet count as private in USS, though they are the store's.
    """
    with contextlib.suppress(psutil.Error):
        maps = process.memory_maps(grouped=False)
        return sum(m.private_clean + m.private_dirty for m in maps if not m.path.startswith("/dev/shm"))
    return 0


def measure(images: int, scratch: Path) -> dict[str, float]:
    """Run the data stages on so many drawn images; peaks in MB, and seconds."""
    recipe = scratch / f"{images}.yaml"
    recipe.write_text(_RECIPE.format(images=images))
    store_before = store_bytes()
    began = time.perf_counter()
    command = [sys.executable, "-m", "pipelines", "run", str(recipe), "--run", str(scratch / f"run-{images}")]
    driver = subprocess.Popen([*command, "--until", "shard"], stdout=sys.stderr)
    watched = psutil.Process(driver.pid)
    driver_peak = workers_peak = store_peak = 0
    worker_peak = (0, "")
    while driver.poll() is None:
        driver_peak = max(driver_peak, private_bytes(watched))
        workers = [(private_bytes(process), task) for process, task in _workers(watched)]
        worker_peak = max([worker_peak, *workers])
        workers_peak = max(workers_peak, sum(size for size, _ in workers))
        store_peak = max(store_peak, store_bytes() - store_before)
        time.sleep(_LOOK_EVERY_S)
    if driver.returncode:
        raise SystemExit(f"the run of {images} images ended with {driver.returncode}")
    print(f"{images:,} images: the largest worker was at {worker_peak[1]}", file=sys.stderr)
    return {
        "driver_uss_mb": driver_peak / _MB,
        "worker_uss_mb": worker_peak[0] / _MB,
        "all_workers_uss_mb": workers_peak / _MB,
        "object_store_mb": store_peak / _MB,
        "seconds": time.perf_counter() - began,
    }


def _workers(driver: psutil.Process) -> list[tuple[psutil.Process, str]]:
    """Ray's workers, each with the name of what it is at."""
    found = []
    with contextlib.suppress(psutil.Error):
        for process in driver.children(recursive=True):
            with contextlib.suppress(psutil.Error):
                tasks = [word.strip() for word in process.cmdline() if word.startswith("ray::")]
                if tasks:
                    found.append((process, tasks[0]))
    return found


def main() -> None:
    """Measure at each number of images and print the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[20_000, 100_000])
    options = parser.parse_args()
    figures: dict[str, object] = {"images": options.images}
    with tempfile.TemporaryDirectory(prefix="memory-") as scratch:
        measured = [measure(images, Path(scratch)) for images in options.images]
    for name in measured[0]:
        figures[name] = [round(of[name], 1) for of in measured]
    for name in ("driver_uss_mb", "worker_uss_mb"):
        figures[name.replace("_mb", "_growth")] = round(measured[-1][name] / measured[0][name] - 1, 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
