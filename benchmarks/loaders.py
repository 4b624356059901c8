"""Loaders of shuffled batches, each as its users run it, in a process of its own; see loading.py.

    python benchmarks/loaders.py LOADER FOLDER ...     one line of JSON

Each gives uint8[N, side, side, 3], RGB, decoded by the same call of OpenCV in two processes of its own.
"""

import argparse
import atexit
import itertools
import json
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

# A script's folder stands first on the path, and its files would hide what is called like them.
sys.path[0] = str(Path(__file__).resolve().parents[1])

# Only NumPy and OpenCV up here: an environment of a peer's has none of ours.
from benchmarks.loader_data import WORKERS, decode, encoded, floor, without_torchvision, write_litdata, write_streaming

BATCH = 128
SHUFFLED = 1_000  # samples in the shuffle buffers of those that have one: the size of their documentation

Batches = Iterator[Any]


class Loader(NamedTuple):
    """A loader that is ready.

    epoch: the batches of the next epoch; resume: seconds from one that works to the first batch at a place in an epoch
    """

    epoch: Callable[[], Batches]
    resume: Callable[[int], float]


def _alone() -> None:
    cv2.setNumThreads(1)


def ours(folder: Path) -> Loader:
    """Our loader processes."""
    from manifests.store import Folder
    from training.batches import Batches as OurBatches
    from training.batches import LoaderSettings
    from training.order import SampleOrder, Share
    from training.reading import ShardReader

    reader = ShardReader(Folder(folder / "tars"), 64)
    order = SampleOrder(reader.shard_samples, 1, 65_536)
    updates = order.samples // BATCH
    batches = OurBatches(reader, order, (), Share(BATCH), LoaderSettings(loaders=WORKERS))
    atexit.register(batches.close)
    epochs = itertools.count()

    def epoch(begin: int = 0) -> Batches:
        first = next(epochs) * updates
        batches.seek(range(first + begin, first + updates))
        for batch in batches:
            yield batch.images.permute(0, 2, 3, 1)

    return Loader(epoch, lambda begin: _seconds_to_first(epoch(begin)))


def webdataset(folder: Path) -> Loader:
    """WebDataset's shuffle buffer in the processes of a WebLoader."""
    import webdataset as wds

    tars = sorted(str(path) for path in (folder / "tars").glob("train-*.tar"))
    dataset = (
        wds.WebDataset(tars, shardshuffle=len(tars), empty_check=False)
        .shuffle(SHUFFLED)
        .to_tuple("png")
        .map_tuple(decode)
        .batched(BATCH, collation_fn=lambda rows: np.stack([row[0] for row in rows]))
    )
    loader = wds.WebLoader(
        dataset, batch_size=None, num_workers=WORKERS, persistent_workers=True, worker_init_fn=_in_worker
    )
    return _passing_over(lambda: iter(loader))


def ray_data(folder: Path) -> Loader:
    """Ray Data's read_webdataset on two CPUs, with a local shuffle buffer."""
    import logging

    import ray
    import ray.data

    root = str(Path(__file__).resolve().parents[1])  # where its workers find the decoder
    ray.init(
        num_cpus=WORKERS,
        logging_level=logging.ERROR,
        include_dashboard=False,
        runtime_env={"env_vars": {"PYTHONPATH": root}},
    )
    ray.data.DataContext.get_current().enable_progress_bars = False
    tars = sorted(str(path) for path in (folder / "tars").glob("train-*.tar"))

    def decoder(sample: dict[str, Any]) -> dict[str, Any]:
        cv2.setNumThreads(1)
        return {"png": decode(sample["png"])}

    dataset = ray.data.read_webdataset(tars, suffixes=["png"], decoder=decoder, shuffle="files")

    def batches() -> Batches:
        shuffled = dataset.iter_batches(
            batch_size=BATCH, batch_format="numpy", local_shuffle_buffer_size=SHUFFLED, prefetch_batches=4
        )
        return (batch["png"] for batch in shuffled)

    return _passing_over(batches)


def litdata(folder: Path) -> Loader:
    """LitData's StreamingDataLoader, on its own format."""
    import litdata as ld  # type: ignore[import-not-found, import-untyped, unused-ignore]

    class Images(ld.StreamingDataset):  # type: ignore[misc, unused-ignore]
        def __getitem__(self, index: Any) -> Any:
            return decode(super().__getitem__(index))

    def loader() -> Any:
        dataset = Images(str(folder / "litdata"), shuffle=True, drop_last=False, seed=1)
        return ld.StreamingDataLoader(
            dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=_stacked, persistent_workers=True
        )

    return _by_state(loader)


def mosaicml_streaming(folder: Path) -> Loader:
    """MosaicML's StreamingDataLoader, on its own format."""
    without_torchvision()
    import streaming  # type: ignore[import-not-found, import-untyped, unused-ignore]

    class Images(streaming.StreamingDataset):  # type: ignore[misc, unused-ignore]
        def __getitem__(self, index: Any) -> Any:
            return decode(super().__getitem__(index)["image"])

    def loader() -> Any:
        streaming.base.util.clean_stale_shared_memory()
        dataset = Images(local=str(folder / "streaming"), shuffle=True, batch_size=BATCH, shuffle_seed=1)
        return streaming.StreamingDataLoader(
            dataset, batch_size=BATCH, num_workers=WORKERS, collate_fn=_stacked, persistent_workers=True
        )

    return _by_state(loader)


LOADERS: dict[str, Callable[[Path], Loader]] = {
    "ours": ours,
    "webdataset": webdataset,
    "ray data": ray_data,
    "litdata": litdata,
    "streaming": mosaicml_streaming,
}
WITH_OWN_FORMAT = ("litdata", "streaming")


def _stacked(images: list[Any]) -> Any:
    import torch

    return torch.from_numpy(np.stack(images))


def _in_worker(_: int) -> None:
    cv2.setNumThreads(1)


def _seconds_to_first(batches: Batches) -> float:
    began = time.perf_counter()
    next(batches)
    return time.perf_counter() - began


def _passing_over(batches: Callable[[], Batches]) -> Loader:
    """A loader that can only begin at the beginning."""
    return Loader(batches, lambda begin: _seconds_to_first(itertools.islice(batches(), begin, None)))


def _by_state(loader: Callable[[], Any]) -> Loader:
    """A loader that gives its state and takes it up; made anew for it, as after a restart."""
    kept = loader()

    def resume(begin: int) -> float:
        before = loader()
        for _ in itertools.islice(before, begin):
            pass
        state = before.state_dict()
        del before
        after = loader()
        began = time.perf_counter()
        after.load_state_dict(state)
        next(iter(after))
        return time.perf_counter() - began

    return Loader(lambda: iter(kept), resume)


def measure(name: str, folder: Path, check: bool, resume: bool) -> dict[str, Any]:
    """Samples a second of an epoch after its first batch; what was in one; seconds to the first batch at 90 %."""
    loader, found = LOADERS[name](folder), dict[str, Any]()
    if check:
        sums = [(len(batch), sum(zlib.crc32(i.tobytes()) for i in np.asarray(batch))) for batch in loader.epoch()]
        found["samples"], found["checksum"] = (sum(column) for column in zip(*sums, strict=True))
    timed = iter(loader.epoch())
    next(timed)
    began, samples, batches = time.perf_counter(), 0, 1
    for batch in timed:
        samples += len(batch)
        batches += 1
    found["samples_per_s"] = samples / (time.perf_counter() - began)
    if resume:
        found["resume_s"] = loader.resume(batches * 9 // 10)
    return found


def main() -> None:
    """Measure one loader, in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loader", choices=[*LOADERS, "floor"])
    parser.add_argument("folder", type=Path, help="what loading.py wrote")
    parser.add_argument("--write", action="store_true", help="write the loader's own format, nothing else")
    parser.add_argument("--check", action="store_true", help="add up the pixels of an epoch too")
    parser.add_argument("--resume", action="store_true", help="time the way to 90 %% of an epoch too")
    options = parser.parse_args()
    _alone()
    if options.write:
        write = {"litdata": write_litdata, "streaming": write_streaming}[options.loader]
        write(encoded(options.folder), options.folder / options.loader)
        return
    if options.loader == "floor":
        found: dict[str, Any] = floor(options.folder)
    else:
        found = measure(options.loader, options.folder, options.check, options.resume)
    print(json.dumps(found))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
