"""Files appear whole or not at all, on a local path, under its URI, and on a filesystem that is not local."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pa_fs
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.schema import CODES
from manifests.store import Folder

TABLE = pa.table(
    {
        "sample_id": [f"{n:064x}" for n in range(3000)],
        "source": ["a", "b", None] * 1000,
        "image": [bytes([n % 251]) * 40 for n in range(3000)],
        "width": pa.array([None, 5, 7] * 1000, pa.int32()),
    }
)


@pytest.fixture(params=["path", "uri", "remote"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """An absent folder. `mock:` is a filesystem of pyarrow's own, held in memory, which is not local."""
    addresses = {"path": f"{tmp_path}/run", "uri": f"file://{tmp_path}/run", "remote": "mock:///runs/1"}
    return Folder(addresses[request.param])


def everything(folder: Folder) -> list[str]:
    """Names of all files in the folder, hidden ones too."""
    selector = pa_fs.FileSelector(folder.path(), allow_not_found=True)
    return sorted(info.base_name for info in folder.filesystem.get_file_info(selector))


def test_what_is_written_is_read_again(folder: Folder) -> None:
    assert not folder.exists()
    assert folder.names() == []
    folder.write_bytes("b.bin", b"\0\xff" * 1000)
    folder.write_json("a.json", {"ü": [1, None, 0.5]})
    folder.write_table("c.parquet", TABLE)
    assert folder.names() == ["a.json", "b.bin", "c.parquet"]
    assert folder.read_bytes("b.bin") == b"\0\xff" * 1000
    assert folder.read_json("a.json") == {"ü": [1, None, 0.5]}
    assert folder.read_table("c.parquet").equals(TABLE)
    assert folder.read_table("c.parquet", ["width", "source"]).equals(TABLE.select(["width", "source"]))
    assert folder.size_bytes("b.bin") == 2000
    with folder.open_input("b.bin") as file:
        assert file.read_at(3, 1) == b"\xff\0\xff"


def test_a_write_that_fails_leaves_what_was_there(folder: Folder) -> None:
    folder.write_bytes("kept", b"before")

    def fail(name: str, error: type[BaseException]) -> None:
        with folder.write_atomic(name) as file:
            file.write(b"half")
            assert name == "kept" or not folder.exists(name)
            raise error

    for error in (RuntimeError, KeyboardInterrupt):
        for name in ("kept", "new"):
            with pytest.raises(error):
                fail(name, error)
    assert everything(folder) == ["kept"]
    assert folder.read_bytes("kept") == b"before"


def test_values_that_are_no_json_leave_nothing(folder: Folder) -> None:
    with pytest.raises(ValueError, match="JSON"):
        folder.write_json("a.json", {"loss": float("nan")})
    assert not folder.exists("a.json")


def test_a_file_is_replaced_and_deleted(folder: Folder) -> None:
    folder.write_bytes("a", b"long before")
    folder.write_bytes("a", b"now")
    assert folder.read_bytes("a") == b"now"
    folder.delete("a")
    folder.delete("a")
    folder.delete("never there")
    assert folder.names() == []
    with pytest.raises(FileNotFoundError):
        folder.size_bytes("a")
    with pytest.raises(FileNotFoundError):
        folder.read_bytes("a")


def test_folders_and_hidden_files_are_not_listed(folder: Folder) -> None:
    folder.write_bytes(".begun", b"")
    folder.write_bytes("z", b"")
    folder.write_bytes("a", b"")
    folder.filesystem.create_dir(folder.path("within"))
    assert folder.names() == ["a", "z"]
    folder.delete_all()
    assert not folder.exists()
    folder.delete_all()


def test_tables_come_in_order_of_name(folder: Folder) -> None:
    for number in (10, 2, 1):
        folder.write_table(f"part-{number:05d}.parquet", pa.table({"number": [number]}))
    folder.write_table(".part-00000.parquet", pa.table({"number": [0]}))
    folder.write_table("plants-00001.parquet", pa.table({"number": [-1]}))
    folder.write_bytes("part-notes.txt", b"")
    read = [table["number"].to_pylist() for table in folder.read_tables("part-")]
    assert read == [[1], [2], [10]]


def test_the_same_table_has_the_same_bytes(folder: Folder) -> None:
    for name in ("one", "two"):
        folder.write_table(name, TABLE)
    assert folder.read_bytes("one") == folder.read_bytes("two")


def test_a_name_with_an_equals_sign_adds_no_column(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "seed=1" / "part=2")
    folder.write_table("a.parquet", TABLE)
    assert folder.read_table("a.parquet").column_names == TABLE.column_names


def test_images_are_stored_as_they_are_and_thumbs_are_packed(tmp_path: Path) -> None:
    rows = TABLE.append_column("whole_thumb", TABLE["image"])
    Folder(tmp_path).write_table("part.parquet", rows)
    group = pq.read_metadata(tmp_path / "part.parquet").row_group(0)
    compression = {group.column(i).path_in_schema: group.column(i).compression for i in range(group.num_columns)}
    assert compression.pop("image") == "UNCOMPRESSED"
    assert set(compression.values()) == {"ZSTD"}


_CODE = st.binary(min_size=16, max_size=16)


@given(st.lists(st.tuples(st.text(max_size=5), _CODE, _CODE, st.booleans()), max_size=20))
def test_any_rows_come_back(rows: list[tuple[str, bytes, bytes, bool]]) -> None:
    table = pa.Table.from_pylist([dict(zip(CODES.names, row, strict=True)) for row in rows], schema=CODES)
    folder = Folder("mock:///any")
    folder.write_table("rows", table)
    assert folder.read_table("rows").equals(table)


def test_only_the_address_travels(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "run")
    folder.write_bytes("a", b"1")
    for of in (folder, Folder("s3://bucket/runs/1/")):
        again = pickle.loads(pickle.dumps(of))
        assert again.address == of.address
    assert pickle.loads(pickle.dumps(folder)).read_bytes("a") == b"1"
    assert Folder("s3://bucket/runs/1/").child("groups").address == "s3://bucket/runs/1/groups"


def test_a_relative_folder_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Folder("runs/1")
    folder.write_bytes("a", b"")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert folder.exists("a")
    assert folder.address == f"{tmp_path}/runs/1"


def test_paths_are_of_this_machine_only_where_they_are(tmp_path: Path) -> None:
    assert Folder(tmp_path).local_path("a") == tmp_path / "a"
    assert Folder(f"file://{tmp_path}").local_path("a") == tmp_path / "a"
    remote = Folder("mock:///runs/1")
    assert remote.local_path("a") is None
    assert not remote.is_local


def test_a_killed_writer_leaves_what_was_there(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write_bytes("kept", b"before")
    program = """
import sys, time
from manifests.store import Folder
folder = Folder(sys.argv[1])
with folder.write_atomic("kept") as one, folder.write_atomic("new") as other:
    for file in (one, other):
        file.write(bytes(1 << 20))
        file.flush()
    print("half", flush=True)
    time.sleep(60)
"""
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE)
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"half\n"
        writer.send_signal(signal.SIGKILL)
    assert len(os.listdir(tmp_path)) == 3  # the two temporary files are there
    assert folder.names() == ["kept"]
    assert folder.read_bytes("kept") == b"before"
    folder.write_bytes("new", b"now")
    assert folder.read_bytes("new") == b"now"


def test_writers_of_one_name_never_mix(tmp_path: Path) -> None:
    folder, ended = Folder(tmp_path), threading.Event()
    folder.write_bytes("a", b"0" * 100_000)
    seen: set[bytes] = set()

    def read() -> None:
        while not ended.is_set():
            seen.add(folder.read_bytes("a"))

    def write(digit: bytes) -> None:
        for _ in range(10):
            folder.write_bytes("a", digit * 100_000)

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(digit,)) for digit in (b"1", b"2")]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    ended.set()
    reader.join()
    assert seen <= {digit * 100_000 for digit in (b"0", b"1", b"2")}
    assert everything(folder) == ["a"]
