"""Work through Ray: parts, each one work item that writes one file and returns a short summary, and single tasks."""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from importlib import import_module
from itertools import islice
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError

from manifests.store import Folder
from pipelines.memory import leave_imports_uncollected
from pipelines.sources.record import SourceError

Item = dict[str, Any]
Work = Callable[[Item], Item]
Result = TypeVar("Result")

# Ray does a task whose process died again without end; one that dies this often does so for a reason of its own.
_MOST_ATTEMPTS = 4


class StageError(Exception):
    """A stage that can't be finished; what it had finished stays."""


def start_workers(count: int) -> None:
    """Start so many workers and let them import what stages need, so that it is in no stage's seconds."""
    ray.get([ray.remote(num_cpus=1)(_import_stages).remote() for _ in range(count)])


def _import_stages() -> None:
    # torch's first optimiser imports the second: a second's worth.
    for name in ("pipelines.stages", "torch._dynamo"):
        import_module(name)
    time.sleep(0.1)  # or one worker might do the work of all


def run_task(work: Callable[..., Result], *given: Any, cpus: int = 1, gpus: int = 0) -> Result:
    """Do one piece of work as a Ray task of so many CPUs and GPUs, and return what it returns.

    Raises:
        StageError: it failed, with the error's own words.
    """
    try:
        result: Result = ray.get(ray.remote(num_cpus=cpus, num_gpus=gpus)(work).remote(*given))
    except RayError as error:
        raise StageError(own_words(error)) from error
    return result


def run_parts(
    work: Work, items: Sequence[Item], folder: Folder, workers: int | None, careful_work: Work | None = None
) -> Iterator[Item]:
    """Do `work` on every item as a Ray task of its own; yield what each returns as it ends.

    `items` have a `number`; `workers` is the most that run at once (None: one a core). A part that
    was begun and not ended, since its process died, now or in an earlier run, is done by `careful_work`, which should
    name what kills it. `folder` keeps the notes of which parts were begun.

    Raises:
        StageError: a part failed, with the error's own words; or killed its process over and over.
    """
    attempt = ray.put(partial(_attempt, work, careful_work or work, folder, uuid.uuid4().hex))
    try:
        yield from run_tasks(_work_on_part, ((attempt, item) for item in items), workers)
    except RayError as error:
        raise StageError(own_words(error)) from error


def run_tasks(work: Callable[..., Result], calls: Iterable[tuple[Any, ...]], most: int | None) -> Iterator[Result]:
    """Do the work with each call's arguments as a Ray task, `most` at once; yield what each returns as it ends.

    Ray does again, wherever there is room, what went down with its process or its node. What still runs when the caller
    stops is cancelled.
    """
    task = ray.remote(num_cpus=1, max_retries=-1)(work)
    waiting = iter(calls)
    running = [task.remote(*call) for call in islice(waiting, most)]
    try:
        while running:
            ended, running = ray.wait(running)
            running += [task.remote(*call) for call in islice(waiting, 1)]
            yield ray.get(ended[0])
    finally:
        for left in running if ray.is_initialized() else ():
            ray.cancel(left)


def _work_on_part(attempt: Work, item: Item) -> Item:
    leave_imports_uncollected()
    return attempt(item)


def _attempt(work: Work, careful_work: Work, folder: Folder, session: str, item: Item) -> Item:
    note = f".begun-{item['number']:05d}"
    attempts, begun_in = _read_note(folder, note)
    if begun_in == session and attempts >= _MOST_ATTEMPTS:
        folder.delete(note)
        raise StageError(
            f"part {item['number']} killed its process {attempts} times, though each image was looked at apart; "
            "is there enough memory? lower resources.workers, or look at the kernel's log"
        )
    folder.write_note(note, f"{attempts + 1 if begun_in == session else 1} {session}".encode())
    try:
        return (careful_work if attempts else work)(item)
    finally:
        # Whether it ended well or with an error: only a death leaves the note behind.
        folder.delete(note)


def _read_note(folder: Folder, note: str) -> tuple[int, str | None]:
    if not folder.exists(note):
        return 0, None
    words = folder.read_bytes(note).decode().split()
    # A process that died while it wrote the note leaves an empty one, which is a note all the same.
    return (int(words[0]), words[1]) if len(words) == 2 else (1, None)


def own_words(error: BaseException) -> str:
    """The innermost cause's message, without Ray's frames; with its kind where it was not meant for a user."""
    seen: BaseException = error
    while True:
        cause = getattr(seen, "cause", None) or seen.__cause__
        if not isinstance(cause, BaseException) or cause is seen:
            break
        seen = cause
    if isinstance(seen, StageError | SourceError | ValueError):
        return str(seen)
    lines = [line for line in str(seen).splitlines() if line.strip()]
    return f"{type(seen).__name__}: {lines[-1] if lines else 'no message'}"
