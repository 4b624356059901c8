"""Small shards of drawn images, written with nothing but tarfile."""

import hashlib
import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manifests.schema import LABEL, SHARD_INDEX
from manifests.store import Folder


class Elsewhere(Folder):
    """A folder that gives no local paths, as one in an object store; says of each file opened that it was."""

    def __init__(self, address: str | Path) -> None:
        super().__init__(address)
        self.opened: list[str] = []

    def local_path(self, name: str = "") -> Path | None:
        """None."""
        return None

    def open_input(self, name: str) -> pa.NativeFile:
        """A file opened for random access."""
        self.opened.append(name)
        return super().open_input(name)


def draw_images(count: int, size_px: int = 32, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Random smooth pictures, each different: uint8[count, size_px, size_px, 3], RGB."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return np.stack([cv2.resize(image, (size_px, size_px), interpolation=cv2.INTER_CUBIC) for image in small])


def write_shards(
    folder: Folder,
    images: npt.NDArray[np.uint8],
    per_shard: int = 10,
    split: str = "train",
    suffix: str = ".png",
    first_shard: int = 0,
    labels: Sequence[int | None] | None = None,
) -> None:
    """Write images as tars of `per_shard` samples, and add them to index.parquet (sample_id: the image's number).

    labels: of each image, where the index is to have any.
    """
    rows = folder.read_table("index.parquet").to_pylist() if folder.exists("index.parquet") else []
    for start in range(0, len(images), per_shard):
        name = f"{split}-{first_shard + start // per_shard:06d}.tar"
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            for number in range(start, min(start + per_shard, len(images))):
                data = cv2.imencode(suffix, images[number][:, :, ::-1])[1].tobytes()
                member = tarfile.TarInfo(f"{number:06d}{suffix}")
                member.size = len(data)
                rows.append(
                    {
                        "sample_id": f"{split}-sample-{number}",
                        "record_id": f"record-{number}",
                        "split": split,
                        "shard": name,
                        "offset": buffer.tell() + tarfile.BLOCKSIZE,
                        "size_bytes": len(data),
                        "sha256": hashlib.sha256(data).hexdigest(),
                        **({"label": labels[number]} if labels is not None else {}),
                    }
                )
                tar.addfile(member, io.BytesIO(data))
        folder.write_bytes(name, buffer.getvalue())
    schema = SHARD_INDEX.append(LABEL) if any("label" in row for row in rows) else SHARD_INDEX
    folder.write_table("index.parquet", pa.Table.from_pylist(rows, schema=schema))
