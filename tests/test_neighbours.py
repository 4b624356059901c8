"""Pairs within a Hamming radius, against comparing all with all."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.neighbours import (
    MOST_RADIUS,
    Pairs,
    distances,
    pairs_between,
    pairs_within,
    stream_pairs_within,
)

Codes = npt.NDArray[np.uint64]


def words(bits: npt.NDArray[np.bool_]) -> Codes:
    return np.packbits(bits, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def planted_codes(seed: int, images: int, skew: float, correlated: bool) -> Codes:
    """Random codes, a third of them copies of others with 0 to 26 bits turned."""
    rng = np.random.default_rng(seed)
    chances = rng.beta(skew, skew, 128)
    bits = rng.random((images, 128)) < chances
    if correlated:  # eight bits follow each of sixteen
        bits = np.repeat(bits[:, :16], 8, axis=1) ^ (rng.random((images, 128)) < 0.1)
    for row in range(images - images // 3, images):
        bits[row] = bits[rng.integers(images - images // 3)]
        turned = rng.choice(128, rng.integers(27), replace=False)
        bits[row, turned] = ~bits[row, turned]
    return words(bits[rng.permutation(images)])


def all_distances(left: Codes, right: Codes) -> npt.NDArray[np.uint8]:
    return np.asarray(np.bitwise_count(left[:, None] ^ right[None]).sum(axis=2), np.uint8)


def triples(pairs: Pairs) -> list[tuple[int, int, int]]:
    return list(zip(pairs.first.tolist(), pairs.second.tolist(), pairs.distance.tolist(), strict=True))


def brute_within(codes: Codes, radius: int) -> list[tuple[int, int, int]]:
    between = all_distances(codes, codes)
    first, second = np.nonzero(np.triu(between <= radius, 1))
    return list(zip(first.tolist(), second.tolist(), between[first, second].tolist(), strict=True))


@pytest.mark.parametrize("skew", [0.3, 1.0, 20.0])
@pytest.mark.parametrize("correlated", [False, True])
def test_every_radius_agrees_with_comparing_all(skew: float, correlated: bool) -> None:
    # Above 1,500 codes the bands are at work; below, all are compared.
    codes = np.unique(planted_codes(7, 2600, skew, correlated), axis=0)
    assert len(codes) > 1700
    everything = brute_within(codes, MOST_RADIUS)
    assert {distance for _, _, distance in everything} == set(range(1, MOST_RADIUS + 1))
    for radius in range(MOST_RADIUS + 1):
        expected = [pair for pair in everything if pair[2] <= radius]
        assert triples(pairs_within(codes, radius)) == expected, f"radius {radius}"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), images=st.integers(0, 60), radius=st.integers(0, MOST_RADIUS))
def test_few_codes_agree_with_comparing_all(seed: int, images: int, radius: int) -> None:
    codes = np.unique(planted_codes(seed, images, 1.0, False), axis=0)
    assert triples(pairs_within(codes, radius)) == brute_within(codes, radius)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), radius=st.integers(0, MOST_RADIUS))
def test_pairs_between_agree_with_comparing_all(seed: int, radius: int) -> None:
    # Repeats on both sides: between plants and samples none is chained.
    codes = planted_codes(seed, 3000, 0.5, True)
    queries = planted_codes(seed + 1, 700, 0.5, True)
    queries[:300] = codes[np.random.default_rng(seed).integers(0, 3000, 300)]
    queries[:150, 1] ^= np.uint64(1 << 63 | 1 << 31 | 7)
    codes[:40], queries[:10] = codes[50], codes[50]
    between = all_distances(queries, codes)
    first, second = np.nonzero(between <= radius)
    expected = list(zip(first.tolist(), second.tolist(), between[first, second].tolist(), strict=True))
    assert triples(pairs_between(queries, codes, radius)) == expected


def test_the_order_of_rows_does_not_change_the_pairs() -> None:
    codes = np.unique(planted_codes(3, 2500, 0.4, True), axis=0)
    order = np.random.default_rng(1).permutation(len(codes))
    moved = pairs_within(codes[order], 15)
    back = sorted(
        (*sorted((int(order[first]), int(order[second]))), distance) for first, second, distance in triples(moved)
    )
    assert back == triples(pairs_within(codes, 15))


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


def test_chunks_are_small_and_together_all_the_pairs() -> None:
    rng = np.random.default_rng(5)
    bits = np.zeros((1800, 128), np.bool_)
    bits[:, :24] = rng.random((1800, 24)) < 0.5
    codes = np.unique(words(bits), axis=0)  # all within 24 bits of each other: 1.6 million pairs
    chunks = list(stream_pairs_within(codes, MOST_RADIUS, chunk_pairs=5000))
    assert max(len(chunk) for chunk in chunks) < 5000 + len(codes)
    together = sorted(triple for chunk in chunks for triple in triples(chunk))
    assert len(together) == len(codes) * (len(codes) - 1) // 2
    assert together == triples(pairs_within(codes, MOST_RADIUS))


def test_distances_of_pairs() -> None:
    codes = np.array([[0, 0], [2**63, 1], [2**64 - 1, 2**64 - 1]], np.uint64)
    found = distances(codes, np.array([0, 0, 1]), np.array([1, 2, 1]))
    np.testing.assert_array_equal(found, [2, 128, 0])


def test_no_codes_have_no_pairs() -> None:
    nothing, one = np.empty((0, 2), np.uint64), np.ones((1, 2), np.uint64)
    assert len(pairs_within(nothing, 14)) == len(pairs_within(one, 14)) == 0
    assert len(pairs_between(nothing, one, 14)) == len(pairs_between(one, nothing, 14)) == 0


def test_what_is_no_code_or_no_radius_is_refused() -> None:
    codes = np.zeros((3, 2), np.uint64)
    with pytest.raises(ValueError, match=r"radius=25 is not in 0\.\.24; try 24"):
        pairs_within(codes, 25)
    with pytest.raises(ValueError, match=r"int64\[3, 2\]"):
        pairs_between(codes, codes.astype(np.int64), 3)
    with pytest.raises(ValueError, match="2 looks are not one for each of 3 codes"):
        pairs_within(codes, 3, codes[:2])
