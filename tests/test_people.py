"""A list of who is shown is checked whole before any work, and says of each record what its row says."""

import csv
import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.sources.folder import FolderSource
from pipelines.sources.people import Known, known_of, packed, read_people, unpacked
from pipelines.sources.record import SourceError

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
ROWS = st.dictionaries(TEXTS.filter(bool), st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=12)


def fault(path: Path, key: str = "file") -> str:
    with pytest.raises(SourceError) as raised:
        read_people("photos", str(path), key)
    return str(raised.value)


def list_of(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@settings(max_examples=50)
@given(ROWS, st.lists(TEXTS, max_size=12, unique=True), st.randoms(use_true_random=False), st.booleans())
def test_each_record_gets_its_row(
    rows: dict[str, tuple[str, str, str]], others: list[str], chance: random.Random, as_parquet: bool
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "people"
        columns = ["file", *Known._fields]
        if as_parquet:
            lines = [dict(zip(columns, (k, *v), strict=True)) for k, v in rows.items()]
            pq.write_table(pa.Table.from_pylist(lines), path)
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                csv.writer(file, quoting=csv.QUOTE_ALL).writerows([columns, *((k, *v) for k, v in rows.items())])
        records = [*rows, *(o for o in others if o not in rows)]
        chance.shuffle(records)
        asked = records[: len(records) // 2 + 1]
        known, strange = known_of(read_people("photos", str(path), "file"), "file", asked)
        said = [Known(*(value or None for value in rows.get(record, ("", "", "")))) for record in asked]
        assert list(known) == said
        assert strange == len(rows.keys() - set(asked))
        assert [unpacked(packed(one)) for one in said] == said


def test_only_an_empty_value_is_none(tmp_path: Path) -> None:
    text = '\ufefffile,person,note\r\na.jpg,NA,1\r\nb.jpg,null,2\r\nc.jpg,,3\r\n"d,\n.jpg","""Ann"" ",4\r\n'
    known, strange = known_of(
        read_people("photos", str(list_of(tmp_path / "p.csv", text)), "file"),
        "file",
        ["a.jpg", "b.jpg", "c.jpg", "d,\n.jpg", "e.jpg"],
    )
    assert [one.person for one in known] == ["NA", "null", None, '"Ann" ', None]
    assert strange == 0


def test_columns_of_other_kinds_of_text_are_taken(tmp_path: Path) -> None:
    table = pa.table({"file": ["a.jpg"], "person": pa.array(["Ann"]).dictionary_encode(), "licence": pa.nulls(1)})
    pq.write_table(table, tmp_path / "p.parquet")
    known, _ = known_of(read_people("photos", f"file://{tmp_path}/p.parquet", "file"), "file", ["a.jpg"])
    assert list(known) == [Known("Ann")]


def test_what_is_no_list_is_one_error(tmp_path: Path) -> None:
    absent = tmp_path / "absent.csv"
    assert fault(absent).startswith(f"source photos: people {absent} can't be read (")
    for name, content in (
        ("empty", b""),
        ("latin1", b"file,person\na.jpg,Jos\xe9\n"),
        ("ragged", b"file,person\na.jpg,Ann,more\n"),
        ("twice", b"file,file,person\na.jpg,b.jpg,Ann\n"),
        ("cut.parquet", b"PAR1 and no more"),
        ("picture", b"\xff\xd8\xff\xe0" + bytes(range(256)) * 20),
    ):
        (tmp_path / name).write_bytes(content)
        message = fault(tmp_path / name)
        assert message.startswith(f"source photos: people {tmp_path / name} "), name
        assert message.endswith("the columns file, person and, if known, url and licence"), message
    assert fault(tmp_path / "twice").startswith(
        f"source photos: people {tmp_path / 'twice'} can't be read (it has the column file twice)"
    )


def test_missing_columns_are_named(tmp_path: Path) -> None:
    path = list_of(tmp_path / "p.csv", "File,name\na.jpg,Ann\n")
    assert fault(path).endswith("has no column file and no column person; it has File, name")
    pq.write_table(pa.table({"url": ["a"]}), tmp_path / "p.parquet")
    assert fault(tmp_path / "p.parquet", "url").endswith("has no column person; it has url")


def test_rows_without_a_file_and_files_of_two_rows_are_counted(tmp_path: Path) -> None:
    path = list_of(tmp_path / "p.csv", "file,person\na,1\na,2\nb,3\n,4\n,5\nb,3\nb,3\nc,6\n")
    assert fault(path).endswith(
        ": 2 of 8 rows have no file; 2 files stand in more than one row (such as a); give each file one row"
    )


def test_rows_that_name_no_file_are_counted(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    (tmp_path / "photos" / "b.jpg").write_bytes(b"2")
    path = list_of(tmp_path / "p.csv", "file,person\nb.jpg,Ann\n./a.jpg,Ben\nc.jpg,Ann\n")
    source = FolderSource(kind="folder", name="photos", path=str(tmp_path / "photos"), people=str(path))
    with pytest.raises(SourceError) as raised:
        source.ranges(10)
    assert str(raised.value) == (
        f"source photos: people {path}: 2 of 3 rows name no file below {tmp_path / 'photos'} (such as ./a.jpg); file "
        "is the path below it, as in a.jpg: mend or remove these rows"
    )
    list_of(path, "file,person\nb.jpg,Ann\n")
    (part,) = source.ranges(10)
    assert [(record.data, record.person) for record in source.read(part)] == [(b"1", None), (b"2", "Ann")]
    # What was listed stays, whatever becomes of the list.
    path.unlink()
    assert [record.person for record in source.read(part)] == [None, "Ann"]


def test_names_of_files_are_those_of_the_ledger(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in (b"caf\xe9.jpg", b"caf\\xe9.jpg"):
        with open(bytes(tmp_path / "photos") + b"/" + name, "wb") as file:
            file.write(name)
    path = list_of(tmp_path / "p.csv", "file,person\ncaf\\xe9.jpg,Ann\ncaf\\\\xe9.jpg,Ben\n")
    source = FolderSource(kind="folder", name="photos", path=str(tmp_path / "photos"), people=str(path))
    found = {r.data: (r.key, r.person) for part in source.ranges(10) for r in source.read(part)}
    assert found == {b"caf\xe9.jpg": ("caf\\xe9.jpg", "Ann"), b"caf\\xe9.jpg": ("caf\\\\xe9.jpg", "Ben")}


def test_a_file_that_can_t_be_read_keeps_its_person(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").symlink_to("nowhere")
    path = list_of(tmp_path / "p.csv", "file,person,url\na.jpg,Ann,http://a/\n")
    source = FolderSource(kind="folder", name="photos", path=str(tmp_path / "photos"), people=str(path))
    (record,) = source.read(source.ranges(10)[0])
    assert (record.data, record.problem) == (None, "No such file or directory")
    assert (record.person, record.url, record.licence) == ("Ann", "http://a/", None)


def test_list_and_folder_don_t_both_name_the_person() -> None:
    with pytest.raises(ValidationError, match=r"people=p.csv and person=folder: both would name the person; give one"):
        FolderSource(kind="folder", name="photos", path=".", people="p.csv", person="folder")
