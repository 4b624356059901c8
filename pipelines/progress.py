"""Progress of long work on the terminal: bars with rate and time left, or a line now and then where there is none."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

_LINE_EVERY_S = 15.0
_LOOK_EVERY_S = 1.0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:,.0f}/s", style="progress.data.speed")


class Bar:
    """One piece of work under way."""

    def __init__(self, reporter: "Reporter", title: str, total: int, unit: str, done: int) -> None:
        self._reporter = reporter
        self._title, self._unit = title, unit
        self._total, self._done, self._begun_at = total, done, done
        self._started_s = self._said_s = time.monotonic()
        self._task = reporter.live.add_task(f"{title}", total=total, completed=done, unit=unit)

    def advance(self, count: int) -> None:
        """So many more are done."""
        self.reach(self._done + count)

    def reach(self, done: int) -> None:
        """So many are done in all. A count that falls, as of work that goes on from before, begins the rate anew."""
        now = time.monotonic()
        if done < self._done:
            self._begun_at, self._started_s = done, now
            self._reporter.live.reset(self._task, completed=done)
        self._done = done
        self._reporter.live.update(self._task, completed=done)
        if not self._reporter.console.is_terminal and now - self._said_s >= _LINE_EVERY_S:
            self._said_s = now
            rate = (self._done - self._begun_at) / (now - self._started_s) if now > self._started_s else 0
            left = f", {(self._total - self._done) / rate:,.0f} s left" if rate > 0 else ""
            self._reporter.console.print(
                f"{self._title}: {self._done:,} of {self._total:,} {self._unit}, {rate:,.0f}/s{left}", highlight=False
            )


class Reporter:
    """What the command line says while it works."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.live = Progress(
            TextColumn("{task.description:<12}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            _Rate(),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> "Reporter":
        self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self.console.print(text, highlight=False, soft_wrap=True)

    @contextmanager
    def bar(self, title: str, total: int, unit: str = "images", done: int = 0) -> Iterator[Bar]:
        """A bar for the time of the block."""
        yield Bar(self, title, total, unit, done)


@contextmanager
def watched(bar: Bar, count: Callable[[], int]) -> Iterator[None]:
    """Move the bar to what is counted, every second while the block lasts: for work that others do."""
    with _every_second(lambda: bar.reach(count())):
        yield


@contextmanager
def heard(reporter: Reporter, last: Callable[[], str]) -> Iterator[None]:
    """Say each new line that others leave, as seen every second while the block lasts; an empty one is none."""
    before = ""

    def look() -> None:
        nonlocal before
        line = last()
        if line and line != before:
            reporter.say(line)
            before = line

    with _every_second(look):
        yield


@contextmanager
def _every_second(look: Callable[[], None]) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_LOOK_EVERY_S):
            look()

    watcher = threading.Thread(target=watch, name="progress", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()
