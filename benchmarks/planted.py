"""A set of photos with known near-duplicates: all photos of a tar, and changed copies of a chosen few.

    python benchmarks/planted.py --data bedrooms.tar --out DIR [--sources 300] [--seed 1] [--hard]

Writes DIR/images/, one flat folder, and DIR/truth.parquet: a row a file, with the photo it was made from and how.
"""

import argparse
import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq

# A script's folder stands first on the path, and the dedup.py in this one would hide the package of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dedup.changes import CHANGES, HARD_CHANGES, apply_change
from manifests import images

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
TRUTH_FILE = "truth.parquet"
SAVED_AGAIN_QUALITY = 95


@dataclass(frozen=True)
class Planted:
    """A set on disk: its images, and of each file the photo it shows (itself, where it is one) and the change.

    sha256: of the file's bytes; change: None where the file is a photo of the tar
    """

    folder: Path
    files: list[str]
    sources: list[str]
    changes: list[str | None]
    sha256: list[str]

    def __len__(self) -> int:
        return len(self.files)


def planted_set(data: Path, out: Path, seed: int, sources: int, changes: Sequence[str]) -> Planted:
    """All photos of the tar `data`, byte for byte, and `sources` of them changed in each way, under `out`.

    The sources are chosen by a hash of the seed and the name. What changes pixels is saved as JPEG of quality 95, as
    by one who edits a photo and saves it again; JPEG, WebP and PNG changes are the bytes that such a file has.

    Raises ValueError where `out` holds a set already, or the tar has fewer photos than sources.
    """
    if (out / TRUTH_FILE).exists():
        raise ValueError(f"{out} holds a planted set already; name another folder")
    names = [name for name, _ in tar_images(data)]
    if len(names) < sources:
        raise ValueError(f"{data} holds {len(names)} photos, not {sources}; ask for fewer sources")
    chosen = frozenset(sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())[:sources])
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str, str | None, str]] = []
    for name, data_of in tar_images(data):
        file = name.replace("/", "_")
        rows.append((file, file, None, _write(folder / file, data_of)))
        if name in chosen:
            photo = decode(data_of)
            for change in changes:
                suffix, changed = encode_change(photo, change)
                variant = f"{Path(file).stem}+{change}{suffix}"
                rows.append((variant, file, change, _write(folder / variant, changed)))
    columns = [list(column) for column in zip(*rows, strict=True)]
    pq.write_table(pa.table(dict(zip(_COLUMNS, columns, strict=True))), out / TRUTH_FILE)
    return read_planted(out)


_COLUMNS = ("file", "source", "change", "sha256")


def read_planted(out: Path) -> Planted:
    """The set that `planted_set` wrote to `out`."""
    truth = pq.read_table(out / TRUTH_FILE)
    return Planted(out / "images", *(truth[column].to_pylist() for column in _COLUMNS))


def tar_images(data: Path) -> Iterator[tuple[str, bytes]]:
    """(name, bytes) of every image file in a tar, compressed or not, in its order."""
    with tarfile.open(data) as tar:
        for member in tar:
            if member.isfile() and member.name.lower().endswith(IMAGE_SUFFIXES):
                file = tar.extractfile(member)
                assert file is not None
                yield member.name.removeprefix("./"), file.read()


def random_views(data: Path, folder: Path, count: int, seed: int) -> None:
    """Fill `folder` up to `count` images: random crops of the photos of the tar `data`, in random light and colour.

    128x128 JPEGs of quality 85, in folders of 5,000; the first n are the same for any count.
    """
    photos = [
        images.decode_rgb(data_of, images.read_header(data_of, images.Limits())) for _, data_of in tar_images(data)
    ]
    for number in range(count):
        path = folder / f"{number // 5000:04d}" / f"{number:07d}.jpg"
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng((seed, number))
        photo = photos[draw.integers(len(photos))]
        side = int(min(photo.shape[:2]) * draw.uniform(0.3, 0.7))
        top, left = (draw.integers(extent - side + 1) for extent in photo.shape[:2])
        view = cv2.resize(photo[top : top + side, left : left + side], (128, 128), interpolation=cv2.INTER_AREA)
        light = np.clip(view * draw.uniform(0.6, 1.4, 3) + draw.uniform(-30, 30), 0, 255)
        path.write_bytes(images.encode_image(light.astype(np.uint8), "jpeg", 85))


def encode_change(photo: npt.NDArray[np.uint8], change: str) -> tuple[str, bytes]:
    """(suffix, bytes) of the changed photo as a file; `photo`: uint8[H, W, 3], RGB, 0..255."""
    if change == "png":
        return ".png", images.encode_image(photo, "png")
    if change == "webp":
        buffer = io.BytesIO()
        PIL.Image.fromarray(photo).save(buffer, "WEBP", quality=50, method=0)
        return ".webp", buffer.getvalue()
    if change.startswith("jpeg"):
        quality = int(change.removeprefix("jpeg"))
        bgr = cv2.cvtColor(photo, cv2.COLOR_RGB2BGR)
        return ".jpg", cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    return ".jpg", images.encode_image(apply_change(photo, change), "jpeg", SAVED_AGAIN_QUALITY)


def decode(data: bytes) -> npt.NDArray[np.uint8]:
    """The picture of a file's bytes, uint8[H, W, 3], RGB."""
    return images.decode_rgb(data, images.read_header(data, images.Limits()))


def _write(path: Path, data: bytes) -> str:
    if path.exists():
        raise ValueError(f"{path.name} would be written twice; two names in the tar differ in / and _ alone")
    path.write_bytes(data)
    return hashlib.sha256(data).hexdigest()


def main() -> None:
    """Write the set and say what it holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a tar of photos")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hard", action="store_true", help="the hard changes instead of the usual")
    options = parser.parse_args()
    changes = list(HARD_CHANGES if options.hard else CHANGES)
    planted = planted_set(options.data, options.out, options.seed, options.sources, changes)
    print(f"{len(planted):,} images in {planted.folder}, {options.sources} x {len(changes)} of them planted")


if __name__ == "__main__":
    main()
