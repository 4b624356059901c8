"""Pairs within a Hamming radius, against comparing all with all."""

import pickle
import threading
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.bands import Unit, plan, probes
from dedup.neighbours import (
    MOST_RADIUS,
    Pairs,
    collapse,
    distances,
    pairs_between,
    pairs_within,
    search_unit,
    stream_pairs_between,
    stream_pairs_within,
)

Codes = npt.NDArray[np.uint64]
Triples = list[tuple[int, int, int]]


def words(bits: npt.NDArray[np.bool_]) -> Codes:
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def planted_codes(seed: int, images: int, skew: float, correlated: bool, width: int = 128) -> Codes:
    """Random codes, a third of them copies of others with 0 to 26 bits turned."""
    rng = np.random.default_rng(seed)
    chances = rng.beta(skew, skew, width)
    bits = rng.random((images, width)) < chances
    if correlated:  # eight bits follow each of the first
        bits = np.repeat(bits[:, : width // 8], 8, axis=1) ^ (rng.random((images, width)) < 0.1)
    for row in range(images - images // 3, images):
        bits[row] = bits[rng.integers(images - images // 3)]
        turned = rng.choice(width, rng.integers(27), replace=False)
        bits[row, turned] = ~bits[row, turned]
    return words(bits[rng.permutation(images)])


def all_distances(left: Codes, right: Codes) -> npt.NDArray[np.uint8]:
    return np.asarray(np.bitwise_count(left[:, None] ^ right[None]).sum(axis=2), np.uint8)


def triples(pairs: Pairs) -> Triples:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True))


def brute_within(codes: Codes, radius: int) -> Triples:
    between = all_distances(codes, codes)
    first, second = np.nonzero(np.triu(between <= radius, 1))
    return list(zip(first.tolist(), second.tolist(), between[first, second].tolist(), strict=True))


def brute_between(queries: Codes, codes: Codes, radius: int) -> Triples:
    between = all_distances(queries, codes)
    first, second = np.nonzero(between <= radius)
    return list(zip(first.tolist(), second.tolist(), between[first, second].tolist(), strict=True))


def searched(codes: Codes, units: list[Unit], queries: Codes | None = None, chunk_pairs: int = 1 << 20) -> Triples:
    """What the units find, one after the other; not made unique, so a pair that two units find shows."""
    return sorted(
        triple
        for unit in units
        for found in search_unit(codes, unit, queries, chunk_pairs)
        for triple in triples(found)
    )


@pytest.mark.parametrize("width", [64, 128])
@pytest.mark.parametrize(("skew", "correlated"), [(0.3, False), (20.0, False), (1.0, True)])
def test_every_radius_and_number_of_bands_agrees_with_comparing_all(width: int, skew: float, correlated: bool) -> None:
    codes = planted_codes(7, 450, skew, correlated, width)  # with repeats: units chain none
    everything = brute_within(codes, MOST_RADIUS)
    assert {distance for _, _, distance in everything} == set(range(MOST_RADIUS + 1))
    for radius in range(MOST_RADIUS + 1):
        expected = [pair for pair in everything if pair[2] <= radius]
        for bands in {0, 1 + radius // 4, 1 + radius // 2, 1 + radius}:
            if bands and radius // bands > 3:
                continue  # tens of thousands of keys to look up for each code
            assert searched(codes, plan(codes, radius, bands=bands)) == expected, f"radius {radius}, {bands} bands"


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(0, 250),
    others=st.none() | st.integers(0, 250),
    width=st.sampled_from([64, 128]),
    radius=st.integers(0, 20),
    bands=st.integers(0, 21),
    shares=st.integers(1, 4),
)
def test_units_in_any_order_find_each_pair_once(
    seed: int, images: int, others: int | None, width: int, radius: int, bands: int, shares: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = planted_codes(seed, images, 0.8, bool(seed % 2), width)
    queries = None if others is None else planted_codes(seed + 1, others, 0.8, bool(seed % 2), width)
    if queries is not None and len(codes) and len(queries):
        queries[::2] = codes[rng.integers(len(codes), size=len(queries[::2]))]
    for array in (codes, queries):
        if array is not None:
            array.flags.writeable = False  # as arrays are that processes share
    bands = 0 if bands and radius // bands > 2 else min(bands, radius + 1)
    units = [
        replace(unit, share=share, shares=shares)
        for unit in plan(codes, radius, queries, bands)
        for share in range(shares)
    ]
    units = pickle.loads(pickle.dumps([units[number] for number in rng.permutation(len(units))]))
    expected = brute_within(codes, radius) if queries is None else brute_between(queries, codes, radius)
    assert searched(codes, units, queries) == expected


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    images=st.integers(0, 60),
    radius=st.integers(0, MOST_RADIUS),
    width=st.sampled_from([64, 128]),
)
def test_pairs_within_agree_with_comparing_all(seed: int, images: int, radius: int, width: int) -> None:
    codes = np.unique(planted_codes(seed, images, 1.0, False, width), axis=0)
    assert triples(pairs_within(codes, radius)) == brute_within(codes, radius)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.integers(0, MOST_RADIUS), width=st.sampled_from([64, 128]))
def test_pairs_between_agree_with_comparing_all(seed: int, radius: int, width: int) -> None:
    # Repeats on both sides: between plants and samples none is chained.
    codes = planted_codes(seed, 600, 0.5, True, width)
    queries = planted_codes(seed + 1, 300, 0.5, True, width)
    queries[:200] = codes[np.random.default_rng(seed).integers(0, 600, 200)]
    queries[:100, -1] ^= np.uint64(1 << 63 | 1 << 31 | 7)
    codes[:40], queries[:10] = codes[50], codes[50]
    expected = brute_between(queries, codes, radius)
    assert triples(pairs_between(queries, codes, radius)) == expected
    streamed = [triple for found in stream_pairs_between(queries, codes, radius, 50, 2) for triple in triples(found)]
    assert sorted(streamed) == expected


@pytest.mark.parametrize("width", [64, 128])
def test_many_codes_are_searched_in_bands_and_found_as_by_comparing_all(width: int) -> None:
    codes = planted_codes(3, 18_000, 1.0, True, width)
    codes = codes[collapse(codes)[0]]
    radius = 8 if width == 64 else 15
    units = plan(codes, radius)
    assert len(units) > 1
    assert all(unit.bands[-1].bits for unit in units)
    found = pairs_within(codes, radius)
    assert triples(found) == searched(codes, plan(codes, radius, bands=0))
    assert len(found) > 500
    order = np.random.default_rng(1).permutation(len(codes))
    moved = pairs_within(codes[order], radius, threads=2)
    back = sorted(
        (*sorted((int(order[first]), int(order[second]))), distance) for first, second, distance in triples(moved)
    )
    assert back == triples(found)


@pytest.mark.filterwarnings("ignore:builtin type .wig:DeprecationWarning")
def test_agrees_with_faiss() -> None:
    faiss = pytest.importorskip("faiss")
    codes = planted_codes(11, 4000, 2.0, True)
    queries = planted_codes(12, 500, 2.0, True)
    queries[:300] = codes[:300] ^ np.uint64(1 << 40)
    index = faiss.IndexBinaryMultiHash(128, 8, 16)
    index.nflip = 1
    index.add(codes.view(np.uint8))
    for radius in (0, 7, 15):
        limits, distance, rows = index.range_search(queries.view(np.uint8), radius + 1)  # FAISS leaves the radius out
        first = np.repeat(np.arange(len(queries)), np.diff(limits.astype(np.int64)))
        expected = sorted(zip(first.tolist(), rows.tolist(), distance.astype(int).tolist(), strict=True))
        assert radius == 0 or expected
        assert triples(pairs_between(queries, codes, radius)) == expected


@settings(max_examples=60, deadline=None)
@given(data=st.data(), rows=st.integers(0, 30), columns=st.integers(1, 2), looks=st.integers(0, 2))
def test_repeats_are_chained_to_the_first_like_them(data: st.DataObject, rows: int, columns: int, looks: int) -> None:
    values = st.integers(0, 2)
    table = data.draw(st.lists(st.lists(values, min_size=4, max_size=4), min_size=rows, max_size=rows))
    both = np.array(table, np.uint64).reshape(rows, 4)[:, : columns + looks]
    first_rows, repeats = collapse(both[:, :columns], both[:, columns:] if looks else None)
    seen: dict[tuple[int, ...], int] = {}
    expected = [(seen.setdefault(tuple(row), number), number, 0) for number, row in enumerate(both.tolist())]
    assert triples(repeats) == [pair for pair in expected if pair[0] != pair[1]]
    assert first_rows.tolist() == list(seen.values())


def test_ten_thousand_copies_are_chained_to_the_first() -> None:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 2**64, (10_002, 2), np.uint64)
    codes[1:10_001] = codes[1]
    codes[10_001] = codes[1] ^ np.uint64(1)
    found = pairs_within(codes, 14)
    assert len(found) == 9_999 + 1
    assert (found.first == 1).all()
    np.testing.assert_array_equal(found.second, np.arange(2, 10_002))
    np.testing.assert_array_equal(found.distance, [0] * 9_999 + [2])  # both words' lowest bit was turned


def test_equal_codes_with_other_looks_are_compared_one_by_one() -> None:
    codes = np.zeros((5, 2), np.uint64)
    looks = np.array([[1, 2], [3, 4], [1, 2], [3, 4], [5, 6]], np.uint64)
    assert triples(pairs_within(codes, 0)) == [(0, 1, 0), (0, 2, 0), (0, 3, 0), (0, 4, 0)]
    assert triples(pairs_within(codes, 0, looks)) == [(0, 1, 0), (0, 2, 0), (0, 4, 0), (1, 3, 0), (1, 4, 0)]


@pytest.mark.parametrize("threads", [1, 3])
def test_chunks_are_small_and_together_all_the_pairs(threads: int) -> None:
    rng = np.random.default_rng(5)
    bits = np.zeros((900, 128), np.bool_)
    bits[:, :24] = rng.random((900, 24)) < 0.5
    codes = np.unique(words(bits), axis=0)  # all within 24 bits of each other
    chunks = list(stream_pairs_within(codes, MOST_RADIUS, chunk_pairs=5000, threads=threads))
    assert max(len(chunk) for chunk in chunks) < 5000 + len(codes)
    together = sorted(triple for chunk in chunks for triple in triples(chunk))
    assert len(together) == len(codes) * (len(codes) - 1) // 2
    assert together == triples(pairs_within(codes, MOST_RADIUS))
    banded = plan(codes, 12, bands=6)
    assert searched(codes, banded, chunk_pairs=100) == brute_within(codes, 12)


def test_a_stream_that_is_left_early_stops() -> None:
    before = threading.active_count()
    codes = np.random.default_rng(0).integers(0, 2**64, (8500, 2), np.uint64)
    stream = stream_pairs_within(np.concatenate([codes, codes ^ np.uint64(1)]), 15, chunk_pairs=10, threads=2)
    assert len(next(stream))
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_long_work_is_cut_into_shares_that_cover_it() -> None:
    codes = np.random.default_rng(0).integers(0, 2**64, (150_000, 1), np.uint64)
    units = plan(codes, MOST_RADIUS)  # nearly all with all
    assert len(units) > len({unit.bands for unit in units})
    for unit in units:
        assert sorted(other.share for other in units if other.bands == unit.bands) == list(range(unit.shares))


def test_probes_are_all_keys_within_so_many_bits() -> None:
    for flips in range(5):
        found = probes(9, flips).tolist()
        assert found[0] == 0
        assert sorted(found) == [key for key in range(1 << 9) if key.bit_count() <= flips]


def test_distances_of_pairs() -> None:
    codes = np.array([[0, 0], [2**63, 1], [2**64 - 1, 2**64 - 1]], np.uint64)
    found = distances(codes, np.array([0, 0, 1]), np.array([1, 2, 1]))
    np.testing.assert_array_equal(found, [2, 128, 0])


def test_no_codes_have_no_pairs() -> None:
    nothing, one = np.empty((0, 2), np.uint64), np.ones((1, 2), np.uint64)
    assert len(pairs_within(nothing, 14)) == len(pairs_within(one, 14)) == 0
    assert len(pairs_between(nothing, one, 14)) == len(pairs_between(one, nothing, 14)) == 0
    assert plan(nothing, 14) == plan(one, 14) == plan(one, 14, nothing) == []


def test_what_is_no_code_or_no_radius_is_refused() -> None:
    codes = np.zeros((3, 2), np.uint64)
    with pytest.raises(ValueError, match=r"radius=25 is not in 0\.\.24; try 24"):
        pairs_within(codes, 25)
    with pytest.raises(ValueError, match=r"int64\[3, 2\]"):
        pairs_between(codes, codes.astype(np.int64), 3)
    with pytest.raises(ValueError, match=r"uint64\[3, 3\]"):
        pairs_within(np.zeros((3, 3), np.uint64), 3)
    with pytest.raises(ValueError, match="queries of 64 bits and codes of 128"):
        pairs_between(codes[:, :1], codes, 3)
    with pytest.raises(ValueError, match=r"bands=5 is not in 0\.\.4"):
        plan(codes, 3, bands=5)
    with pytest.raises(ValueError, match="2 looks are not one for each of 3 codes"):
        pairs_within(codes, 3, codes[:2])
