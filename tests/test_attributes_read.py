"""Pictures with attributes: drawn ones, two folders on disk or in a tar, and tables with gaps and mistakes."""

import logging
import shutil
import tarfile
from pathlib import Path
from typing import Any

import cv2
import drawn_faces
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from odd_images import EXPECTED, odd_files
from pydantic import ValidationError

from pipelines.labelled.attributes import DRAWN_NAMES, AttributesSettings, read_attributed
from pipelines.sources.face import draw_face, face_truth
from pipelines.sources.record import SourceError
from pipelines.yunet import FILE_NAME


def given(**changes: Any) -> AttributesSettings:
    return AttributesSettings.model_validate(changes)


def write_picture(path: Path, level: int, width: int = 48, height: int = 40) -> None:
    """A plain picture of one grey level, which says which file was read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), level, np.uint8))


@pytest.fixture
def smiles(tmp_path: Path) -> Path:
    """Three pictures in Smile, two in not_Smile; none is square."""
    root = tmp_path / "photos"
    for name, level in (("Smile/b", 40), ("Smile/a", 20), ("Smile/c", 60), ("not_Smile/a", 120), ("not_Smile/z", 140)):
        write_picture(root / f"{name}.png", level)
    return root


def levels(images: Any) -> list[int]:
    return [int(image.mean().round()) for image in images]


# Drawn


def test_drawn_faces_come_with_their_truth() -> None:
    read = read_attributed(given(kind="drawn_faces", images=40, seed=5), 32, 3)
    assert read.names == DRAWN_NAMES
    assert read.images.shape == (40, 32, 32, 3)
    assert read.values.shape == (40, 8)
    for index in range(40):
        truth, known = face_truth(5, index), dict(zip(read.names, read.values[index].tolist(), strict=True))
        for name in ("smile", "glasses", "long_hair", "dark_skin", "dark_hair"):
            assert known[name] == float(getattr(truth, name))
        assert known["pose"] == pytest.approx(truth.pose)
        assert known["turned_left"] == (truth.pose < -0.4)
        assert known["turned_right"] == (truth.pose > 0.4)
    np.testing.assert_array_equal(read.images[7], draw_face(5, 7, 32).image)


def test_drawn_faces_are_grey_where_they_are_wanted_so() -> None:
    colour, grey = (read_attributed(given(kind="drawn_faces", images=20), 28, channels) for channels in (3, 1))
    assert grey.images.shape == (20, 28, 28, 1)
    np.testing.assert_allclose(grey.images[..., 0], colour.images @ [0.299, 0.587, 0.114], atol=1)
    np.testing.assert_array_equal(grey.values, colour.values)


# Folders


@pytest.mark.parametrize("form", ["folder", "above", "tar", "tar with a root"])
def test_two_folders_are_one_attribute(smiles: Path, tmp_path: Path, form: str) -> None:
    path = smiles
    if form == "above":
        path = tmp_path
    elif form.startswith("tar"):
        path = tmp_path / "photos.tar"
        with tarfile.open(path, "w") as tar:
            tar.add(smiles, "genki" if form == "tar with a root" else ".")
        shutil.rmtree(smiles)
    read = read_attributed(given(kind="folders", path=str(path), positive="Smile"), 16, 3)
    assert read.names == ("smile",)
    assert read.images.shape == (5, 16, 16, 3)
    assert dict(zip(levels(read.images), read.values[:, 0].tolist(), strict=True)) == {
        20: 1.0,
        40: 1.0,
        60: 1.0,
        120: 0.0,
        140: 0.0,
    }
    assert read.left_out == ()


def test_either_folder_may_be_the_positive_one_and_the_attribute_has_a_name(smiles: Path) -> None:
    chosen = given(kind="folders", path=str(smiles), positive="not_Smile", attribute="earnest")
    read = read_attributed(chosen, 16, 1)
    assert read.names == ("earnest",)
    assert read.images.shape == (5, 16, 16, 1)
    assert sorted(zip(levels(read.images), read.values[:, 0].tolist(), strict=True))[3:] == [(120, 1.0), (140, 1.0)]


def test_bad_pictures_are_left_out_and_counted(smiles: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, data in odd_files().items():
        (smiles / "Smile" / f"odd-{name}").write_bytes(data)
    write_picture(smiles / "beside.png", 250)
    bad = {f"Smile/odd-{name}" for name, reason in EXPECTED.items() if reason is not None}
    assert len(bad) > 5
    with caplog.at_level(logging.WARNING):
        read = read_attributed(given(kind="folders", path=str(smiles), positive="Smile"), 16, 3)
    assert {told.partition(": ")[0] for told in read.left_out} == bad
    assert len(read.images) == len(read.values) == 5 + len(EXPECTED) - len(bad)
    assert f"{len(bad)} of {5 + len(EXPECTED)} files are left out: Smile/odd-" in caplog.text
    assert 250 not in levels(read.images)


def test_folders_that_are_not_two_are_refused(smiles: Path) -> None:
    with pytest.raises(SourceError, match=r"2 folders side by side \(Smile, not_Smile\); it must be two.* positive=Sm"):
        read_attributed(given(kind="folders", path=str(smiles), positive="Smiling"), 16, 3)
    with pytest.raises(SourceError, match=r"in 0 folders side by side \(none\)"):
        read_attributed(given(kind="folders", path=str(smiles / "Smile"), positive="Smile"), 16, 3)
    write_picture(smiles / "other" / "a.png", 1)
    with pytest.raises(SourceError, match=r"in 3 folders side by side \(Smile, not_Smile, other\)"):
        read_attributed(given(kind="folders", path=str(smiles), positive="Smile"), 16, 3)
    with pytest.raises(SourceError, match=r"nowhere: no such folder or tar"):
        read_attributed(given(kind="folders", path=str(smiles / "nowhere"), positive="Smile"), 16, 3)


def test_where_nothing_can_be_read_it_says_so(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "note.txt").write_text("no picture")
    with pytest.raises(SourceError, match=r"none of 2 files gave a picture \(such as a/note\.txt: .*\); check"):
        read_attributed(given(kind="folders", path=str(tmp_path), positive="a"), 16, 3)


@pytest.mark.parametrize("detector", ["haar", pytest.param("yunet", marks=pytest.mark.data)])
def test_faces_are_cut_out_of_photos(tmp_path: Path, detector: str, request: pytest.FixtureRequest) -> None:
    """Photos with one face give it; of those with two it could be either's, and those with none give nothing."""
    places = {"Smile/one": [(120, 110)], "no/one": [(230, 120)], "no/two": [(90, 110), (250, 110)], "no/none": []}
    for name, faces in places.items():
        photo = drawn_faces.blank(340, 240)
        for x, y in faces:
            drawn_faces.draw_face(photo, x, y, 90)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"{name}.png"), photo[..., ::-1])
    faces_given: Any = {"detector": detector}
    if detector == "yunet":
        faces_given["model"] = str(request.getfixturevalue("data") / FILE_NAME)
    read = read_attributed(given(kind="folders", path=str(tmp_path), positive="Smile", faces=faces_given), 32, 3)
    assert sorted(read.values[:, 0].tolist()) == [0.0, 1.0]
    skin = np.abs(read.images[:, 14:20, 8:24].reshape(2, -1, 3).mean(1) - drawn_faces.SKIN).max()
    assert skin < 60  # a face fills it
    assert [told.partition(" ")[0] for told in read.left_out] == ["no/none.png:", "no/two.png:"]
    assert "2 faces, and what is said could be of any" in read.left_out[1]


# Tables


def test_a_table_says_what_is_known_of_each_file(smiles: Path, tmp_path: Path) -> None:
    table = tmp_path / "known.csv"
    table.write_text("smile,file,glasses\n1,Smile/a.png,\n0,not_Smile/z.png,1\n,Smile/c.png,TRUE\n")
    read = read_attributed(given(kind="table", path=str(smiles), table=str(table)), 16, 3)
    assert read.names == ("smile", "glasses")
    known = dict(zip(levels(read.images), read.values.tolist(), strict=True))
    np.testing.assert_equal(known, {20: [1.0, np.nan], 60: [np.nan, 1.0], 140: [0.0, 1.0]})


@pytest.mark.parametrize("values", [[1, 0], [1.0, 0.0], [True, False], ["1", "0"]])
def test_parquet_may_hold_numbers_of_any_kind(smiles: Path, tmp_path: Path, values: list[Any]) -> None:
    columns = {"file": ["Smile/a.png", "Smile/b.png"], "hat": values, "beard": [values[0], None]}
    pq.write_table(pa.table(columns), tmp_path / "known.parquet")
    chosen = given(kind="table", path=str(smiles), table=str(tmp_path / "known.parquet"))
    read = read_attributed(chosen, 16, 3)
    np.testing.assert_array_equal(read.values, [[1.0, 1.0], [0.0, np.nan]])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,smile\nSmile/a.png,2\n", r"Smile/a\.png has smile=2; values are 0, 1, or empty where unknown"),
        ("file,smile\nSmile/a.png,-1\n", r"Smile/a\.png has smile=-1"),
        ("file,smile\nSmile/a.png,1\nSmile/a.png,1\n", r"1 rows name a file that another row names"),
        ("file,smile\nSmile/q.png,1\n", r"1 files are not below .*\(such as Smile/q\.png; one that is there: Smile/a"),
        ("file,smile\n,1\n", r"such as one without a name"),
        ("file\nSmile/a.png\n", r"has the columns file; it needs file, and one for each attribute"),
        ("name,smile\nSmile/a.png,1\n", r"has the columns name, smile; it needs file"),
        ("", r"can't be read .*; name a CSV with a header line"),
    ],
)
def test_tables_with_mistakes_are_refused(smiles: Path, tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "known.csv"
    table.write_text(text)
    with pytest.raises(SourceError, match=said):
        read_attributed(given(kind="table", path=str(smiles), table=str(table)), 16, 3)


# Settings


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kind": "folders"}, "kind=folders needs path and positive; set both"),
        ({"kind": "table", "path": "p"}, "kind=table needs table; set it"),
        ({"kind": "drawn_faces", "faces": True}, "kind=drawn_faces does not use faces"),
        ({"kind": "table", "path": "p", "table": "t", "positive": "a"}, "kind=table does not use positive"),
        ({"kind": "drawn_faces", "images": 3}, "greater than or equal to 20"),
    ],
)
def test_settings_that_do_not_fit_their_kind_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        given(**changes)


def test_faces_may_be_said_in_one_word() -> None:
    plain = {"kind": "folders", "path": "p", "positive": "a"}
    assert given(**plain, faces=False).faces is None
    cut = given(**plain, faces=True).faces
    assert cut is not None
    assert cut == given(**plain, faces={}).faces
    assert cut.detector == "yunet"
