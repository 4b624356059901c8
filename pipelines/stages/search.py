"""The neighbour search as Ray tasks: the hashes once in the object store, a task for each band and range of them."""

from collections.abc import Iterator

import ray

from dedup.bands import Unit, plan
from dedup.neighbours import Codes, Pairs, search_unit
from dedup.nominate import search_here
from pipelines.parts import run_tasks

SMALL_SEARCH_IMAGES = 200_000
"""Up to so many, a search takes about as long as sending its tasks."""


def search_everywhere(queries: Codes, hashes: Codes | None, radius: int, threads: int) -> Iterator[Pairs]:
    """All pairs of a query and a hash within the radius, or of two queries, as `dedup.nominate.search_here` has them.

    `threads` tasks run at once for each node of the cluster.
    """
    if len(queries) <= SMALL_SEARCH_IMAGES:
        yield from search_here(queries, hashes, radius, threads)
        return
    yield from search_as_tasks(queries, hashes, radius, threads * len(ray.nodes()))


def search_as_tasks(queries: Codes, hashes: Codes | None, radius: int, tasks: int) -> Iterator[Pairs]:
    """The same, always as Ray tasks, so many at once."""
    units = plan(queries if hashes is None else hashes, radius, None if hashes is None else queries)
    stored, other = ray.put(queries), None if hashes is None else ray.put(hashes)
    for found in run_tasks(_search, ((stored, other, unit) for unit in units), tasks):
        yield from found


def _search(queries: Codes, hashes: Codes | None, unit: Unit) -> list[Pairs]:
    if hashes is None:
        return list(search_unit(queries, unit))
    return list(search_unit(hashes, unit, queries))
