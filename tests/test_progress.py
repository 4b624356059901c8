"""Progress on the terminal: a count that falls begins the rate anew, in lines and in bars."""

from io import StringIO
from types import SimpleNamespace

import pytest
from rich.console import Console

from pipelines import progress
from pipelines.progress import Reporter


def test_a_count_that_falls_begins_the_rate_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))
    said = StringIO()
    # The last progress of a training that was cut off, and then its last checkpoint, from which it goes on.
    with Reporter(Console(file=said, width=200)) as reporter, reporter.bar("train", 10_000, done=6400) as bar:
        now += 20
        bar.reach(5120)
        now += 20
        bar.reach(5320)
    fallen, gone_on = said.getvalue().splitlines()
    assert fallen == "train: 5,120 of 10,000 images, 0/s"
    assert gone_on == "train: 5,320 of 10,000 images, 10/s, 468 s left"


def test_the_bar_of_a_terminal_forgets_what_fell() -> None:
    console = Console(file=StringIO(), force_terminal=True)
    with Reporter(console) as reporter, reporter.bar("train", 10_000, done=1000) as bar:
        (task,) = reporter.live.tasks
        speeds = []
        for done in (6400, 6500, 5120):
            bar.reach(done)
            speeds.append(task.speed)
    assert speeds[1]
    assert speeds[2] is None
    assert task.completed == 5120
