"""What the loaders of loaders.py read, in each one's format, and the floor: its decoding alone.

Imported in environments of the peers', which have NumPy and OpenCV and none of ours.
"""

import importlib
import importlib.util
import itertools
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

WORKERS = 2


def decode(data: bytes) -> Any:
    """uint8[side, side, 3], RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def write_litdata(encoded: Iterator[bytes], folder: Path) -> None:
    """Write images in LitData's format."""
    from litdata.streaming.writer import BinaryWriter  # type: ignore[import-not-found, import-untyped, unused-ignore]

    folder.mkdir()
    writer = BinaryWriter(str(folder), chunk_bytes="16MB")
    for number, data in enumerate(encoded):
        writer[number] = data
    writer.done()
    writer.merge()


def write_streaming(encoded: Iterator[bytes], folder: Path) -> None:
    """Write images in MosaicML Streaming's format."""
    without_torchvision()
    from streaming import MDSWriter  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with MDSWriter(out=str(folder), columns={"image": "bytes"}, size_limit=16 << 20) as writer:
        for data in encoded:
            writer.write({"image": data})


def encoded(folder: Path) -> Iterator[bytes]:
    """The PNGs of the tars in a folder, in order."""
    import tarfile

    for path in sorted((folder / "tars").glob("train-*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                if member.name.endswith(".png"):
                    file = tar.extractfile(member)
                    assert file is not None
                    yield file.read()


def _decode_all(images: list[bytes]) -> float:
    cv2.setNumThreads(1)
    began = time.perf_counter()
    for data in images:
        decode(data)
    return len(images) / (time.perf_counter() - began)


def floor(folder: Path) -> dict[str, float]:
    """Samples a second of nothing but decoding, from memory, in two processes."""
    images = list(itertools.islice(encoded(folder), 16_384))
    with multiprocessing.get_context("fork").Pool(WORKERS) as pool:
        return {"samples_per_s": sum(pool.map(_decode_all, [images[k::WORKERS] for k in range(WORKERS)], 1))}


def without_torchvision() -> None:
    """Let Streaming import its data sets of torchvision's, which are not used, where torchvision is not there."""
    from benchmarks.peers import StandIns

    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.append(StandIns("torchvision"))
        datasets: Any = importlib.import_module("torchvision.datasets")
        datasets.VisionDataset = type("VisionDataset", (), {})  # a base class there
