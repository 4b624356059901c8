"""An IDX file's images are records, each once and as it was; files that are not whole stop the run."""

import gzip
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources import list_parts, read_part
from pipelines.sources.idx import IdxSource
from pipelines.sources.record import Record, SourceError

DATA = Path(__file__).parents[2] / "shared" / "data"


def idx_bytes(values: npt.NDArray[np.uint8]) -> bytes:
    """The format as it is described: 0, 0, type, dimensions, sizes (big-endian), values."""
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.tobytes()


def digits(images: int, height: int = 28, width: int = 28) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(images).integers(0, 256, (images, height, width), dtype=np.uint8)


def source_of(path: Path, **settings: Any) -> IdxSource:
    return IdxSource(kind="idx", name="digits", path=str(path), **settings)


def records_of(source: IdxSource, part_images: int) -> list[Record]:
    parts = list_parts([source], part_images)
    # Parts are read on their own, in any order.
    return [record for part in reversed(parts) for record in reversed(list(read_part([source], part)))][::-1]


@settings(max_examples=30)
@given(st.integers(1, 20), st.integers(1, 9), st.integers(1, 9), st.integers(1, 25), st.booleans())
def test_every_image_is_a_record_as_it_was(
    images: int, height: int, width: int, part_images: int, packed: bool
) -> None:
    values = digits(images, height, width)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "images"
        path.write_bytes(gzip.compress(idx_bytes(values)) if packed else idx_bytes(values))
        records = records_of(source_of(path), part_images)
    assert [record.key for record in records] == [str(number) for number in range(images)]
    for record, value in zip(records, values, strict=True):
        decoded = cv2.imdecode(np.frombuffer(record.data or b"", np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded, value)
        assert record.facts == {}


def test_labels_are_facts_of_their_images(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx_bytes(digits(7)))
    (tmp_path / "labels.gz").write_bytes(gzip.compress(idx_bytes(np.arange(7, dtype=np.uint8) * 3 % 10)))
    records = records_of(source_of(tmp_path / "images", labels=str(tmp_path / "labels.gz")), 3)
    assert [record.facts for record in records] == [{"label": number * 3 % 10} for number in range(7)]


WHOLE = idx_bytes(digits(5))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is no IDX file of images: it begins with , not 00000803; check the path"),
        (idx_bytes(np.zeros(5, np.uint8)), "is no IDX file of images: it begins with 00000801, not 00000803"),
        (b"\0\0\x0d\3" + WHOLE[4:], "is no IDX file of images: it begins with 00000d03"),
        (WHOLE[:9], "is cut short in its header; fetch it again"),
        (WHOLE[:-1], "is not whole: its header says 3920 bytes of images, it has 3919; fetch it again"),
        (WHOLE + b"\0", "is not whole: its header says 3920 bytes of images, it has more; fetch it again"),
        (idx_bytes(digits(0)), r"holds no images \(its sizes are 0x28x28\); check the path"),
        (
            WHOLE[:4] + b"\xff" * 12,
            "would unpack to 79228162458924105385300197375 bytes, over largest_bytes=1073741824",
        ),
        (gzip.compress(WHOLE)[:-20], "is damaged or cut short"),
        (gzip.compress(WHOLE)[:40] + b"\xff" * 60 + gzip.compress(WHOLE)[100:], "is damaged or cut short"),
        (gzip.compress(WHOLE[:-3]), "is not whole: its header says 3920 bytes of images, it has 3917"),
    ],
)
def test_files_that_are_not_whole_stop_the_run(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "images").write_bytes(data)
    with pytest.raises(SourceError, match=f"source digits: .*/images {message}"):
        list_parts([source_of(tmp_path / "images")], 3)


def test_files_that_do_not_fit_stop_the_run(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(WHOLE)
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    with pytest.raises(SourceError, match=r"has 4 labels, .* has 5 images; name the two files"):
        source_of(tmp_path / "images", labels=str(tmp_path / "labels")).ranges(3)
    with pytest.raises(SourceError, match="is no IDX file of labels: it begins with 00000803, not 00000801"):
        source_of(tmp_path / "images", labels=str(tmp_path / "images")).ranges(3)
    with pytest.raises(SourceError, match="over largest_bytes=100; set that higher"):
        source_of(tmp_path / "images", largest_bytes=100).ranges(3)
    with pytest.raises(SourceError, match=r"absent can't be read \(No such file"):
        source_of(tmp_path / "absent").ranges(3)
    with pytest.raises(SourceError, match="is a URI; an idx source reads local"):
        IdxSource(kind="idx", name="digits", path="s3://bucket/images").ranges(3)


def test_a_file_that_changed_since_the_run_began_is_told_of(tmp_path: Path) -> None:
    source = source_of(tmp_path / "images")
    (tmp_path / "images").write_bytes(WHOLE)
    parts = list_parts([source], 3)
    (tmp_path / "images").write_bytes(idx_bytes(digits(4)))
    with pytest.raises(SourceError, match=r"changed since the run began \(was 5x28x28\)"):
        list(read_part([source], parts[0]))


def test_labels_that_changed_since_the_run_began_are_told_of(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(WHOLE)
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    source = source_of(tmp_path / "images", labels=str(tmp_path / "labels"))
    parts = list_parts([source], 3)
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(4, np.uint8)))
    for part in parts:  # the first, too, for which there would be enough
        with pytest.raises(SourceError, match=r"labels changed since the run began \(had 5 labels, has 4\); put it"):
            list(read_part([source], part))


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "t10k-images-idx3-ubyte.gz").exists(), reason="needs MNIST")
def test_mnist_is_read() -> None:
    images, labels = DATA / "t10k-images-idx3-ubyte.gz", DATA / "t10k-labels-idx1-ubyte.gz"
    source = source_of(images, labels=str(labels))
    parts = list_parts([source], 4096)
    assert [part.range.records for part in parts] == [4096, 4096, 1808]
    first = next(iter(read_part([source], parts[0])))
    assert first.facts == {"label": 7}
