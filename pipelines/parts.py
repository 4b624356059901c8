"""Parts through Ray Data: each part is one work item, which writes one file and returns a short summary."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import ray.data
from ray.data import DataContext
from ray.exceptions import RayError

Item = dict[str, Any]
Work = Callable[[Item], Item]


class StageError(Exception):
    """A stage that can't be finished; what it had finished stays."""


def run_parts(
    work: Work,
    careful_work: Work,
    items: Sequence[Item],
    unfinished: Callable[[], set[int]],
    workers: int | None,
    memory_bytes: int | None = None,
) -> Iterator[Item]:
    """Do `work` on every item as a Ray task of its own; yield what each returns as it ends.

    A part whose process died, or that failed, does not stop the others. Those that `unfinished()` (their numbers)
    still names at the end are done once more by `careful_work`, and then an error is the stage's error.

    `items` have a `number`; `workers` is the most that run at once (None: as many as Ray has room for).

    Raises:
        StageError: a part failed twice; with the error's own words.
    """
    yield from _pass(work, items, workers, memory_bytes, tolerant=True)
    left = unfinished()
    again = [item for item in items if item["number"] in left]
    if again:
        yield from _pass(careful_work, again, workers, memory_bytes, tolerant=False)
    missing = unfinished()
    if missing:
        raise StageError(f"{len(missing)} parts have no file though their tasks ended, the first is {min(missing)}")


def _pass(
    work: Work, items: Sequence[Item], workers: int | None, memory_bytes: int | None, tolerant: bool
) -> Iterator[Item]:
    if not items:
        return
    context = DataContext.get_current()
    context.max_errored_blocks = -1 if tolerant else 0
    options: dict[str, Any] = {"num_cpus": 1, "max_retries": 0 if tolerant else 3}
    if memory_bytes is not None:
        options["memory"] = memory_bytes
    # One block an item, so that each is a task of its own; a crash then takes down one part and no more.
    data = ray.data.from_items(list(items), override_num_blocks=len(items))
    try:
        yield from data.map(work, concurrency=workers, **options).iter_rows()
    except RayError as error:
        if not tolerant:
            raise StageError(own_words(error)) from error
    finally:
        context.max_errored_blocks = 0


def own_words(error: BaseException) -> str:
    """The innermost cause's message, without Ray's frames."""
    seen: BaseException = error
    while True:
        cause = getattr(seen, "cause", None) or seen.__cause__
        if not isinstance(cause, BaseException) or cause is seen:
            break
        seen = cause
    lines = [line for line in str(seen).splitlines() if line.strip()]
    return f"{type(seen).__name__}: {lines[-1] if lines else 'no message'}"
