"""The forest of joined rows, against SciPy's connected components."""

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from dedup import forest

Rows = npt.NDArray[np.int64]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[int, Rows, Rows]:
    rows = draw(st.integers(1, 30))
    pairs = draw(st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, rows - 1)), max_size=40))
    both = np.array(pairs, np.int64).reshape(-1, 2)
    return rows, both[:, 0].copy(), both[:, 1].copy()


def smallest_of_component(rows: int, first: Rows, second: Rows) -> list[int]:
    links = coo_matrix((np.ones(len(first)), (first, second)), shape=(rows, rows))
    _, labels = connected_components(links, directed=False)
    return [int(np.flatnonzero(labels == label)[0]) for label in labels]


@given(graphs())
def test_roots_are_the_smallest_rows_of_components(graph: tuple[int, Rows, Rows]) -> None:
    rows, first, second = graph
    parents = np.arange(rows)
    forest.join(parents, first, second)
    expected = smallest_of_component(rows, first, second)
    assert forest.roots(parents).tolist() == expected
    everyone = np.arange(rows)
    apart = forest.apart(parents, np.repeat(everyone, rows), np.tile(everyone, rows)).reshape(rows, rows)
    assert np.array_equal(apart, np.not_equal.outer(expected, expected))


@given(graphs(), st.integers(0, 40))
def test_pairs_are_joined_in_any_order_and_in_parts(graph: tuple[int, Rows, Rows], cut: int) -> None:
    rows, first, second = graph
    parents = np.arange(rows)
    forest.join(parents, second[cut:], first[cut:])
    forest.join(parents, first[:cut][::-1].copy(), second[:cut][::-1].copy())
    assert forest.roots(parents).tolist() == smallest_of_component(rows, first, second)


@given(graphs(), st.integers(0, 40))
def test_needed_are_the_pairs_that_join_two_trees_and_nothing_is_changed(
    graph: tuple[int, Rows, Rows], cut: int
) -> None:
    rows, first, second = graph
    parents = np.arange(rows)
    forest.join(parents, first[:cut], second[:cut])
    before = parents.copy()
    found = forest.needed(parents, first[cut:], second[cut:])
    np.testing.assert_array_equal(parents, before)
    expected = []
    for one, other in zip(first[cut:], second[cut:], strict=True):
        pair = np.array([one]), np.array([other])
        expected.append(bool(forest.apart(parents, *pair)[0]))
        forest.join(parents, *pair)
    assert found.tolist() == expected


def test_a_chain_of_a_hundred_thousand_is_one_tree() -> None:
    rows = np.arange(100_000)
    for order in (slice(None), slice(None, None, -1)):
        parents = rows.copy()
        first, second = rows[:-1][order].copy(), rows[1:][order].copy()
        assert forest.needed(parents, first, second).all()
        forest.join(parents, first, second)
        assert not forest.roots(parents).any()
        assert not forest.needed(parents, first, second).any()
