"""Every row of a Parquet file is a record, whatever its row groups are; a damaged one is told of."""

import itertools
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from crawl_forms import drawn_crawl, write_parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.sources.parquet import ParquetSource
from pipelines.sources.record import Record, SourceError


def parquet_source(path: Path, **settings: Any) -> ParquetSource:
    return ParquetSource(kind="parquet", name="crawl", path=str(path), **settings)


def records_of(source: ParquetSource, part_images: int = 100) -> list[Record]:
    records = [record for part in source.ranges(part_images) for record in source.read(part)]
    assert len({record.key for record in records}) == len(records), "two records share a key"
    "".join(record.key for record in records).encode()
    return records


def write(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def fault(source: ParquetSource) -> str:
    with pytest.raises(SourceError) as raised:
        source.ranges(10)
    return str(raised.value)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any), st.integers(1, 12))
def test_parts_cover_every_row_once_and_in_order(groups: list[int], part_images: int) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.parquet"
        data = [b"%d" % number for number in range(sum(groups))]
        left = iter(data)
        with pq.ParquetWriter(path, pa.schema([("image", pa.binary())])) as writer:
            for size in groups:
                writer.write_table(pa.table({"image": pa.array(itertools.islice(left, size), pa.binary())}))
        source = parquet_source(path)
        ranges = source.ranges(part_images)
        assert all(1 <= part.records <= part_images for part in ranges)
        # Whole row groups that fit together are not read apart.
        assert len(ranges) <= len(groups) + sum(size // part_images for size in groups)
        # Parts are read on their own and in any order.
        read = [record for part in reversed(ranges) for record in reversed(list(source.read(part)))][::-1]
        assert [record.data for record in read] == data
        assert [record.key for record in read] == [f"a.parquet#{number}" for number in range(len(data))]


def test_many_batches_of_a_row_group_are_one_after_the_other(tmp_path: Path) -> None:
    data = [b"%d" % number for number in range(1000)]
    write(tmp_path / "a.parquet", image=data)
    for part_images in (7, 64, 99, 1000):
        assert [record.data for record in records_of(parquet_source(tmp_path), part_images)] == data


def test_rows_without_bytes_and_large_ones_are_told_of(tmp_path: Path) -> None:
    nested = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [{"bytes": b"1", "path": "a"}, None, {"bytes": None, "path": "b"}, {"bytes": b"12345"}, {"bytes": b""}]
    for image in (pa.array(rows, nested), pa.array([row and row["bytes"] for row in rows], pa.large_binary())):
        write(tmp_path / "a.parquet", image=image, person=["0", "1", "2", "", None])
        found = records_of(parquet_source(tmp_path, largest_file_bytes=4))
        assert [record.data for record in found] == [b"1", None, None, None, b""]
        lost = "the row holds no bytes, a file's name at most"
        large = "5 bytes, over largest_file_bytes=4"
        assert [record.problem for record in found] == [None, lost, lost, large, None]
        assert [record.person for record in found] == ["0", "1", "2", None, None]


def test_columns_may_be_named(tmp_path: Path) -> None:
    columns = {"jpg": [b"1", b"2"], "who": ["Ann", "Ben"], "source": ["u", "v"], "rights": ["CC0", None]}
    write(tmp_path / "a.parquet", **columns, person=[[1], [2]], id=[7, 9])
    named = {"person_column": "who", "url_column": "source", "licence_column": "rights", "key_column": "id"}
    source = parquet_source(tmp_path, image_column="jpg", **named)
    assert records_of(source) == [
        Record("7", b"1", person="Ann", url="u", licence="CC0"),
        Record("9", b"2", person="Ben", url="v"),
    ]
    assert "its column person holds list<" in fault(parquet_source(tmp_path, image_column="jpg"))
    without = parquet_source(tmp_path, image_column="jpg", person_column="", url_column="rights")
    assert [(record.person, record.url) for record in records_of(without)] == [(None, "CC0"), (None, None)]


def test_usual_columns_are_found(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=[b"1"], licence=["CC0"], license=["other"], url=pa.nulls(1))
    write(tmp_path / "b.parquet", image=[b"2"], license=["CC BY"], person=pa.array(["Ann"]).dictionary_encode())
    said = [(record.person, record.url, record.licence) for record in records_of(parquet_source(tmp_path))]
    assert said == [(None, None, "CC0"), ("Ann", None, "CC BY")]


def test_keys_must_tell_all_rows_of_all_files_apart(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=[b"1", b"2", b"3"], id=["x", "\\", None])
    write(tmp_path / "b.parquet", image=[b"4", b"5"], id=["x", "x"])
    assert fault(parquet_source(tmp_path, key_column="id")) == (
        f"source crawl: of 5 rows of {tmp_path}, 1 have no id and 2 have that of a row before; name a column that "
        "tells all rows apart, or leave key_column out"
    )
    write(tmp_path / "b.parquet", image=[b"4"], id=["y"])
    write(tmp_path / "a.parquet", image=[b"1", b"2"], id=["x", "\\"])
    assert [record.key for record in records_of(parquet_source(tmp_path, key_column="id"))] == ["x", "\\\\", "y"]


def test_text_that_is_no_utf8_stays_text(tmp_path: Path) -> None:
    text = pa.array([b"caf\xe9", b"caf\\xe9"]).view(pa.string())
    write(tmp_path / "a.parquet", image=[b"1", b"2"], person=text, id=text)
    found = records_of(parquet_source(tmp_path, key_column="id"))
    assert [record.key for record in found] == ["caf\\xe9", "caf\\\\xe9"]
    assert found[0].person == "caf\\xe9"


def test_wrong_columns_stop_before_any_work(tmp_path: Path) -> None:
    write(tmp_path / "a.parquet", image=["words"], other=[b"1"], odd=[1.5])
    label = f"source crawl: a.parquet of {tmp_path}"
    assert fault(parquet_source(tmp_path, image_column="img")) == (
        f"{label} has 0 columns img, and needs one; it has image, other, odd: name one of these"
    )
    assert (
        fault(parquet_source(tmp_path)) == f"{label}: its column image holds string, not bytes; name the right column"
    )
    for wrong in ({"person_column": "other"}, {"url_column": "odd"}, {"key_column": "odd"}):
        assert "neither text nor whole numbers; name another" in fault(
            parquet_source(tmp_path, image_column="other", **wrong)
        )
    assert "has 0 columns who" in fault(parquet_source(tmp_path, image_column="other", licence_column="who"))


def test_a_file_cut_short_stops_before_any_work_at_any_length(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_parquet(path, drawn_crawl())
    whole = path.read_bytes()
    for length in (*range(0, len(whole), 997), len(whole) - 1):
        path.write_bytes(whole[:length])
        assert fault(parquet_source(path)).endswith("; fetch it again"), length
    pq.write_table(pa.table({"image": pa.array([], pa.binary())}), path)
    assert fault(parquet_source(path)).endswith("hold no rows; check the path")


def test_a_damaged_row_group_loses_its_own_rows_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    data = [bytes([number]) * 3000 for number in range(200)]
    table = pa.table({"image": data, "person": [str(number) for number in range(200)]})
    pq.write_table(table, path, row_group_size=100, compression="zstd", use_dictionary=False)
    with pq.ParquetFile(path) as parquet:
        column = parquet.metadata.row_group(0).column(0)
    damaged = bytearray(path.read_bytes())
    at, size = column.data_page_offset, column.total_compressed_size
    damaged[at : at + size] = b"\xff" * size
    path.write_bytes(damaged)
    source = parquet_source(path)
    for part_images in (30, 100, 200):
        found = records_of(source, part_images)
        assert [record.person for record in found] == [str(number) for number in range(200)]
        assert {record.data for record in found[:100]} == {None}
        assert all(record.problem for record in found[:100])
        if part_images <= 100:
            assert [record.data for record in found[100:]] == data[100:]
