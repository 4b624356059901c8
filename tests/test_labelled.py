"""Labelled pictures come in as they were written, whatever they are stored in; what isn't whole is told of."""

import gzip
import logging
import pickle
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
from pydantic import ValidationError
from test_idx_source import idx_bytes

from pipelines.labelled.cifar import CLASSES
from pipelines.labelled.class_folders import read_class_folders
from pipelines.labelled.classes import Labelled, LabelledSettings, read_labelled
from pipelines.sources.record import SourceError

DATA = Path(__file__).parents[2] / "shared" / "data"

Images = npt.NDArray[np.uint8]


def noise(images: int, height: int, width: int, seed: int = 0) -> Images:
    return np.random.default_rng(seed).integers(0, 256, (images, height, width, 3), dtype=np.uint8)


def read(kind: str, train: Path | str, test: Path | str, px: int = 32, channels: int = 3, **more: Any) -> Any:
    settings = LabelledSettings.model_validate({"kind": kind, "train": str(train), "test": str(test), **more})
    return read_labelled(settings, px, channels)


def png(image: Images) -> bytes:
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def write_tar(path: Path, files: dict[str, bytes], mode: Any = "w:gz") -> None:
    with tarfile.open(path, mode) as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


# CIFAR-10


def cifar_rows(images: Images, labels: list[int]) -> bytes:
    """A label, then the red, the green and the blue plane, row by row."""
    return b"".join(
        bytes([label]) + b"".join(image[:, :, plane].tobytes() for plane in range(3))
        for image, label in zip(images, labels, strict=True)
    )


IMAGES = noise(9, 32, 32)
LABELS = [3, 0, 9, 1, 1, 2, 8, 7, 0]
CIFAR = {
    "cifar-10-batches-bin/batches.meta.txt": b"airplane\n",
    "cifar-10-batches-bin/data_batch_2.bin": cifar_rows(IMAGES[4:7], LABELS[4:7]),
    "cifar-10-batches-bin/data_batch_1.bin": cifar_rows(IMAGES[:4], LABELS[:4]),
    "cifar-10-batches-bin/test_batch.bin": cifar_rows(IMAGES[7:], LABELS[7:]),
}


def test_cifar_from_a_folder_and_its_tar(tmp_path: Path) -> None:
    write_files(tmp_path, CIFAR)
    write_tar(tmp_path / "cifar-10-binary.tar.gz", CIFAR)
    for path in (tmp_path / "cifar-10-batches-bin", tmp_path / "cifar-10-binary.tar.gz"):
        train, test = read("cifar10", path, path)
        np.testing.assert_array_equal(train.images, IMAGES[:7])
        np.testing.assert_array_equal(test.images, IMAGES[7:])
        assert (train.labels.tolist(), test.labels.tolist()) == (LABELS[:7], LABELS[7:])
        assert [train.classes[label] for label in LABELS[:3]] == ["cat", "airplane", "truck"]
        assert train.labels.dtype == np.int64
    batches = tmp_path / "cifar-10-batches-bin"
    train, _ = read("cifar10", batches / "data_batch_1.bin", batches / "test_batch.bin")
    np.testing.assert_array_equal(train.images, IMAGES[:4])


def test_size_and_colour_are_as_asked(tmp_path: Path) -> None:
    write_files(tmp_path, CIFAR)
    train, test = read("cifar10", tmp_path, tmp_path, 16, 1)
    assert train.images.shape == (7, 16, 16, 1)
    halves = IMAGES.reshape(9, 16, 2, 16, 2, 3).mean(axis=(2, 4)) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(train.images[..., 0], halves[:7], atol=1.5)
    np.testing.assert_allclose(test.images[..., 0], halves[7:], atol=1.5)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "sprung",))

    trap = pickle.dumps(Trap())
    files = {f"cifar-10-batches-py/{name}": trap for name in ("data_batch_1", "data_batch_2", "test_batch")}
    write_files(tmp_path, files)
    write_tar(tmp_path / "cifar-10-python.tar.gz", files)
    for path in ("cifar-10-batches-py", "cifar-10-python.tar.gz", "cifar-10-batches-py/data_batch_1"):
        with pytest.raises(SourceError, match=r"pickles, .* never read here; fetch the binary version"):
            read("cifar10", tmp_path / path, tmp_path / path)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (CIFAR["cifar-10-batches-bin/test_batch.bin"][:-1], "has 6,145 bytes, which is no multiple of CIFAR-10's 3073"),
        (b"", "has 0 bytes"),
        (cifar_rows(IMAGES[:1], [10]), r"has a label 10, and CIFAR-10's are 0\.\.9"),
    ],
)
def test_batches_that_are_not_whole_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    write_files(tmp_path, {"data_batch_1.bin": data})
    with pytest.raises(SourceError, match=message):
        read("cifar10", tmp_path, tmp_path)


def test_cifar_that_is_not_there_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "readme").write_text("none")
    with pytest.raises(SourceError, match=r"holds no data_batch_\*\.bin \(of 1 files\)"):
        read("cifar10", tmp_path, tmp_path)
    with pytest.raises(SourceError, match=r"absent\.tar\.gz can't be read \(No such file"):
        read("cifar10", tmp_path / "absent.tar.gz", tmp_path)
    write_tar(tmp_path / "cut.tar.gz", CIFAR)
    data = (tmp_path / "cut.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(SourceError, match=r"cut\.tar\.gz is no whole tar"):
        read("cifar10", tmp_path / "cut.tar.gz", tmp_path)


# SVHN


def write_svhn(path: Path, images: Images, digits: list[int], **more: Any) -> None:
    labels = np.array(digits, np.uint8)[:, None]
    scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": labels, **more})


def test_svhn_and_its_ten_that_is_zero(tmp_path: Path) -> None:
    write_svhn(tmp_path / "train.mat", IMAGES[:5], [10, 1, 9, 10, 5])
    write_svhn(tmp_path / "test.mat", IMAGES[5:6], [2])
    train, test = read("svhn", tmp_path / "train.mat", tmp_path / "test.mat")
    np.testing.assert_array_equal(train.images, IMAGES[:5])
    np.testing.assert_array_equal(test.images, IMAGES[5:6])
    assert (train.labels.tolist(), test.labels.tolist()) == ([0, 1, 9, 0, 5], [2])
    assert train.classes == tuple("0123456789")
    grey, _ = read("svhn", tmp_path / "train.mat", tmp_path / "test.mat", 28, 1)
    assert grey.images.shape == (5, 28, 28, 1)


def test_svhn_that_is_none_is_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.mat"
    write_svhn(good, IMAGES[:3], [1, 2, 3])

    def refused(message: str) -> None:
        with pytest.raises(SourceError, match=message):
            read("svhn", tmp_path / "bad.mat", good)

    refused(r"bad\.mat is not there")
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    (tmp_path / "bad.mat").write_bytes(header + b"\x89HDF\r\n\x1a\n" + bytes(400))
    refused("is a MATLAB 7.3 file .* save it in MATLAB with -v7")
    (tmp_path / "bad.mat").write_bytes(b"no such thing" * 50)
    refused("can't be read as a MATLAB file")
    (tmp_path / "bad.mat").write_bytes(good.read_bytes()[:900])
    refused("can't be read as a MATLAB file")
    (tmp_path / "bad.mat").write_bytes(b"")
    refused("can't be read as a MATLAB file")
    scipy.io.savemat(tmp_path / "bad.mat", {"images": 1})
    refused("holds no X and no y")
    write_svhn(tmp_path / "bad.mat", IMAGES[:3], [1, 2])
    refused("has 2 labels for 3 pictures")
    write_svhn(tmp_path / "bad.mat", IMAGES[:3], [0, 1, 2])
    refused(r"y holds 0, and SVHN's labels are 1\.\.10")
    scipy.io.savemat(tmp_path / "bad.mat", {"X": np.zeros((32, 32, 3, 2)), "y": np.ones((2, 1))})
    refused(r"X is float64\[32, 32, 3, 2\]")
    write_svhn(tmp_path / "bad.mat", IMAGES[:3], [7, 7, 7])
    refused("holds pictures of one class only, 7; a classifier needs two")


# MNIST


def test_idx_is_read_and_enlarged(tmp_path: Path) -> None:
    digits = IMAGES[:6, :28, :28, 0]
    write_files(
        tmp_path,
        {
            "train": idx_bytes(np.ascontiguousarray(digits)),
            "labels": gzip.compress(idx_bytes(np.array([0, 1, 2, 3, 1, 0], np.uint8))),
            "test_labels": idx_bytes(np.array([0, 1, 2, 3, 4, 0], np.uint8)),
        },
    )
    files = (tmp_path / "train", tmp_path / "train")
    own = {"train_labels": str(tmp_path / "labels"), "test_labels": str(tmp_path / "labels")}
    train, _ = read("idx", *files, 28, 1, **own)
    np.testing.assert_array_equal(train.images[..., 0], digits)
    assert (train.labels.tolist(), train.classes) == ([0, 1, 2, 3, 1, 0], ("0", "1", "2", "3"))
    coloured, _ = read("idx", *files, 32, 3, **own)
    assert coloured.images.shape == (6, 32, 32, 3)
    np.testing.assert_array_equal(coloured.images[..., 0], coloured.images[..., 2])
    with pytest.raises(SourceError, match="has a label 4, and the training labels end at 3"):
        read("idx", *files, 28, 1, **(own | {"test_labels": str(tmp_path / "test_labels")}))
    with pytest.raises(SourceError, match="train is no IDX file of labels"):
        read("idx", *files, 28, 1, **(own | {"train_labels": str(tmp_path / "train")}))


def test_labels_belong_to_idx_alone() -> None:
    with pytest.raises(ValidationError, match="kind=idx: the labels are files of their own"):
        LabelledSettings(kind="idx", train="a", test="b")
    with pytest.raises(ValidationError, match="kind=svhn: labels come with the pictures"):
        LabelledSettings(kind="svhn", train="a", test="b", train_labels="c")


# Folders


def class_files(part: str) -> dict[str, bytes]:
    """Three classes, a picture of another size in one, and what is no picture beside and among them."""
    return {
        f"{part}/bird/1.png": png(IMAGES[0]),
        f"{part}/bird/deep/2.png": png(IMAGES[1]),
        f"{part}/ant/1.png": png(IMAGES[2]),
        f"{part}/cow/.hidden.png": png(IMAGES[3]),
        f"{part}/cow/1.JPEG": png(noise(1, 96, 64)[0]),
        f"{part}/readme.txt": b"beside the classes",
    }


def check_classes(found: Labelled) -> None:
    assert found.classes == ("ant", "bird", "cow")
    assert found.labels.tolist() == [0, 1, 1, 2]
    np.testing.assert_array_equal(found.images[:3], IMAGES[[2, 0, 1]])
    middle = noise(1, 96, 64)[0, 16:80].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(found.images[3], middle, atol=1)
    assert found.left_out == ()


def test_folders_with_and_without_the_parts_name(tmp_path: Path) -> None:
    write_files(tmp_path, class_files("train") | class_files("val"))
    for train, test in ((tmp_path, tmp_path), (tmp_path / "train", tmp_path / "val")):
        for found in read("folders", train, test):
            check_classes(found)


@pytest.mark.parametrize(("name", "mode"), [("photos.tar", "w"), ("photos.tar.gz", "w:gz")])
def test_tars_with_and_without_the_parts_name(tmp_path: Path, name: str, mode: str) -> None:
    files = dict(sorted((class_files("./train") | class_files("test")).items(), key=lambda file: file[0].lower()))
    write_tar(tmp_path / name, files, mode)
    for train, test in ((name, name), (f"{name}/train", f"{name}/test")):
        for found in read("folders", tmp_path / train, tmp_path / test):
            check_classes(found)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    files = {"train/1.png": png(IMAGES[0]), "plane/1.png": png(IMAGES[1])}
    write_files(tmp_path / "photos", files)
    write_tar(tmp_path / "photos.tar", files, "w")
    for path in ("photos", "photos.tar"):
        train, _ = read("folders", tmp_path / path, tmp_path / path)
        assert sorted(train.classes[label] for label in train.labels) == ["plane", "train"]


def test_bad_pictures_are_left_out_and_told_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"cat/1.png": png(IMAGES[0]), "dog/1.png": png(IMAGES[1]), "dog/2.png": png(IMAGES[2])[:-400]}
    write_files(tmp_path, files | {"cat/2.txt": b"notes", "cat/3.jpg": b""})
    with caplog.at_level(logging.WARNING):
        train, test = read("folders", tmp_path, tmp_path)
    assert train.labels.tolist() == [0, 1]
    assert [said.partition(":")[0] for said in train.left_out] == ["cat/2.txt", "cat/3.jpg", "dog/2.png"]
    assert test.left_out == train.left_out
    assert caplog.text.count("3 of 5 files are left out: cat/2.txt: starts with") == 2


def test_folders_without_two_classes_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path / "one", {"cat/1.png": png(IMAGES[0])})
    write_files(tmp_path / "two", {"cat/1.png": png(IMAGES[0]), "dog/1.png": png(IMAGES[1])})
    write_files(tmp_path / "none", {"cat/1.png": b"", "dog/1.png": b""})
    write_files(tmp_path / "flat", {"1.png": png(IMAGES[0])})
    one, two = tmp_path / "one", tmp_path / "two"
    with pytest.raises(SourceError, match="one holds pictures of one class only, cat"):
        read("folders", one, two)
    for bad, files in (("none", 2), ("flat", 0)):
        with pytest.raises(SourceError, match=rf"holds no pictures in class folders, .* \({files} files gave none\)"):
            read("folders", tmp_path / bad, two)
    write_files(tmp_path / "more", {"cow/1.png": png(IMAGES[0])})
    with pytest.raises(SourceError, match=r"cow/1\.png is of class cow, of which the training part has no"):
        read("folders", two, tmp_path / "more")
    with pytest.raises(SourceError, match=r"absent can't be read \(No such file"):
        read("folders", tmp_path / "absent", two)
    with pytest.raises(SourceError, match="is a URI"):
        read("folders", "s3://bucket/photos", two)
    # A test part may lack a class.
    assert read("folders", two, one)[1].labels.tolist() == [0]


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "cifar10.tar.gz").exists(), reason="needs the JPEG CIFAR-10")
def test_the_jpeg_cifar_is_read_whole() -> None:
    test = read_class_folders(str(DATA / "cifar10.tar.gz"), "test", 32, 3)
    assert test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(test.labels).tolist() == [1000] * 10
    assert test.classes == CLASSES
    assert test.left_out == ()
