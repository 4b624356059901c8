"""Lumas in a file are the lumas in memory."""

import gc
import os
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from textures import frames, lumas_of, seen_of

from dedup.groups import find_groups
from dedup.lumas import StoredLumas, blocks, read
from dedup.verdict import Seen, VerdictSettings


def drawn(count: int, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32), np.uint8)


def test_rows_of_rows_are_read_as_from_memory() -> None:
    lumas = drawn(9000)
    stored = StoredLumas([lumas[:1], lumas[1:5000], lumas[:0], lumas[5000:]])
    assert stored.shape == lumas.shape
    np.testing.assert_array_equal(np.concatenate(list(blocks(stored))), lumas)
    rows = np.random.default_rng(1).permutation(9000)[:500]
    kept = rows % 3 == 0
    np.testing.assert_array_equal(stored[rows][kept].read(), lumas[rows][kept])
    np.testing.assert_array_equal(read(stored[rows], np.array([7, 7, 0])), lumas[rows[[7, 7, 0]]])
    assert list(blocks(StoredLumas([]))) == []


def test_threads_read_at_once() -> None:
    lumas = drawn(2000)
    stored = StoredLumas([lumas])
    turns = [np.random.default_rng(seed).permutation(2000) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        for rows, found in zip(turns, pool.map(lambda rows: read(stored, rows), turns), strict=True):
            np.testing.assert_array_equal(found, lumas[rows])


def test_the_file_goes_with_its_last_reader() -> None:
    def open_files() -> int:
        gc.collect()
        return sum(os.path.realpath(f"/proc/self/fd/{name}").startswith(folder) for name in os.listdir("/proc/self/fd"))

    folder = tempfile.gettempdir()
    before = open_files()
    stored = StoredLumas([drawn(3)])
    some = stored[np.array([2])]
    del stored
    np.testing.assert_array_equal(some.read(), drawn(3)[2:])
    assert open_files() == before + 1
    del some
    assert open_files() == before


def test_groups_of_stored_thumbs_are_those_of_thumbs_in_memory() -> None:
    rows = np.random.default_rng(2).integers(0, 60, 200)
    here = seen_of(frames(range(60))[rows])
    stored = Seen(here.codes, here.mirror_codes, StoredLumas([lumas_of(here)[:90], lumas_of(here)[90:]]), here.flat)
    settings, rank = VerdictSettings(), np.arange(200)
    one, other = (find_groups(seen, settings, 14, rank) for seen in (here, stored))
    np.testing.assert_array_equal(one.keepers, other.keepers)
    np.testing.assert_array_equal(one.score, other.score)
    assert len(one.removed) > 50
