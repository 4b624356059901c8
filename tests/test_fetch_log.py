"""The log of a part under torn writes and rot: every whole record stays, and what follows a broken one goes."""

import multiprocessing
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.crawl.log import Log, Tail

BODIES = [b"first" * 9, None, b"\0" * 300, b"last"]


def write(path: Path) -> list[int]:
    """Sizes of the file after each record."""
    sizes = []
    with Log(path) as log:
        for number, body in enumerate(BODIES):
            log.append({"number": number, "detail": "ä\n" * number}, body)
            sizes.append(os.path.getsize(path))  # on the disk, though the log is still open
    return sizes


def test_what_was_appended_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "log")
    with Log(tmp_path / "log") as log:
        assert sorted(log.rows) == [0, 1, 2, 3]
        assert log.rows[2] == {"number": 2, "detail": "ä\nä\n"}
        assert [log.body(number) for number in range(4)] == BODIES
        log.append({"number": 1, "detail": "again"}, b"now with a body")
    with Log(tmp_path / "log") as log:
        assert (log.rows[1]["detail"], log.body(1)) == ("again", b"now with a body")
        assert log.body(0) == BODIES[0]


def test_a_tail_torn_anywhere_is_cut_off_and_written_over(tmp_path: Path) -> None:
    sizes = write(tmp_path / "log")
    data = (tmp_path / "log").read_bytes()
    for cut in range(len(data)):
        torn = tmp_path / "torn"
        torn.write_bytes(data[:cut])
        whole = sum(size <= cut for size in sizes)
        assert Tail(torn).count() == whole
        with Log(torn) as log:
            assert sorted(log.rows) == list(range(whole))
            assert os.path.getsize(torn) == ([0, *sizes])[whole]
            log.append({"number": 9}, b"new")
        with Log(torn) as log:
            assert sorted(log.rows) == [*range(whole), 9]
            assert log.body(9) == b"new"


@given(st.data())
def test_a_changed_byte_is_noticed(data: st.DataObject) -> None:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        path = Path(folder) / "log"
        sizes = write(path)
        stored = bytearray(path.read_bytes())
        at = data.draw(st.integers(0, len(stored) - 1))
        stored[at] ^= data.draw(st.integers(1, 255))
        path.write_bytes(stored)
        with Log(path) as log:
            assert sorted(log.rows) == list(range(sum(size <= at for size in sizes)))


def test_a_tail_counts_what_is_added_meanwhile(tmp_path: Path) -> None:
    tail = Tail(tmp_path / "log")
    assert tail.count() == 0
    with Log(tmp_path / "log") as log:
        for number in range(5):
            log.append({"number": number}, b"x" * number)
            assert tail.count() == number + 1


def _hold(path: Path, opened: "multiprocessing.synchronize.Event", end: "multiprocessing.synchronize.Event") -> None:
    with Log(path) as log:
        log.append({"number": 7})
        opened.set()
        end.wait(30)


def test_a_second_process_waits_for_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spawn = multiprocessing.get_context("spawn")
    opened, end = spawn.Event(), spawn.Event()
    holder = spawn.Process(target=_hold, args=(tmp_path / "log", opened, end))
    holder.start()
    assert opened.wait(30)
    monkeypatch.setattr("pipelines.crawl.log._WAIT_FOR_LOCK_S", 0.2)
    with pytest.raises(BlockingIOError):
        Log(tmp_path / "log")
    holder.kill()
    holder.join()
    with Log(tmp_path / "log") as log:
        assert list(log.rows) == [7]
