"""The neighbour search as Ray tasks: the hashes once in the object store, a task for each band and range of them."""

from collections.abc import Iterator
from itertools import islice

import ray
from ray import ObjectRef

from dedup.bands import Unit, plan
from dedup.neighbours import Codes, Pairs, search_unit
from dedup.nominate import search_here

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
    units = iter(plan(queries if hashes is None else hashes, radius, None if hashes is None else queries))
    stored = ray.put(queries)
    other = None if hashes is None else ray.put(hashes)
    work = ray.remote(num_cpus=1, max_retries=-1)(_search)
    running: list[ObjectRef[list[Pairs]]] = [work.remote(stored, other, unit) for unit in islice(units, tasks)]
    try:
        while running:
            ended, running = ray.wait(running)
            running += [work.remote(stored, other, unit) for unit in islice(units, 1)]
            yield from ray.get(ended[0])
    finally:
        for left in running:
            ray.cancel(left)


def _search(queries: Codes, hashes: Codes | None, unit: Unit) -> list[Pairs]:
    if hashes is None:
        return list(search_unit(queries, unit))
    return list(search_unit(hashes, unit, queries))
