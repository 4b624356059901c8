"""The search as Ray tasks finds what the search in one process finds."""

import numpy as np
import numpy.typing as npt
import pytest

from dedup.nominate import search_here
from pipelines import cluster
from pipelines.resources import Resources
from pipelines.stages.search import search_as_tasks

Codes = npt.NDArray[np.uint64]


def drawn_codes(count: int, words: int, seed: int) -> Codes:
    """Codes of which a tenth lie within a few bits of another."""
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 1 << 64, (count, words), np.uint64)
    copies = rng.integers(0, count, count // 10)
    flips = np.uint64(1) << rng.integers(0, 64, (count // 10, words), np.uint64)
    codes[rng.permutation(count)[: count // 10]] = codes[copies] ^ flips
    return codes


@pytest.mark.ray
def test_tasks_find_the_pairs_that_one_process_finds() -> None:
    # So many that the search takes more than one band; fewer are compared all with all.
    with cluster.session(None, Resources(workers=2, object_store_gb=0.2)):
        for words, other in ((1, None), (2, None), (1, drawn_codes(30_000, 1, 3))):
            queries = drawn_codes(40_000, words, 1)
            here: set[tuple[int, int, int]] = set()
            there: set[tuple[int, int, int]] = set()
            for found in search_here(queries, other, 6, 1):
                here |= set(zip(found.first.tolist(), found.second.tolist(), found.distance.tolist(), strict=True))
            for found in search_as_tasks(queries, other, 6, 2):
                chunk = list(zip(found.first.tolist(), found.second.tolist(), found.distance.tolist(), strict=True))
                assert not there & set(chunk)
                there |= set(chunk)
            assert here == there
            assert len(here) > 1000 or other is not None
