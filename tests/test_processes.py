"""Loader processes that are killed, interrupted or left alone: one clear error, and nothing that goes on by itself."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from shard_fixture import draw_images, write_shards

from manifests.store import Folder
from training.batches import LoaderSettings, open_batches
from training.order import SampleOrder, Share
from training.processes import LoaderDied
from training.reading import ShardReader

pytestmark = pytest.mark.timeout(60)

# A trainer of its own: prints the loaders' process ids once they work, then waits in the way that is asked for.
TRAINER = """
    import os, signal, sys, time
    from manifests.store import Folder
    from training.batches import LoaderSettings, open_batches
    from training.order import SampleOrder, Share
    from training.reading import ShardReader

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background jobs are started without
    reader = ShardReader(Folder(sys.argv[1]), 32)
    order = SampleOrder(reader.shard_samples, 1, 20)
    try:
        with open_batches(reader, order, range(10**9), Share(8), LoaderSettings(loaders=2)) as batches:
            next(batches)
            if sys.argv[2] == "fork" and os.fork() == 0:
                time.sleep(30)  # holds copies of all that is open, as a worker of somebody's pool does
                os._exit(0)
            print(*(process.pid for process in batches._loaders._processes), flush=True)
            for _ in batches:
                time.sleep(0.001 if sys.argv[2] == "busy" else 30)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("shards"))
    write_shards(folder, draw_images(47))
    return folder


def _start(shards: Folder, how: str) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    command = [sys.executable, "-c", textwrap.dedent(TRAINER), shards.address, how]
    root = Path(__file__).parent.parent
    trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True)
    assert trainer.stdout is not None
    return trainer, [psutil.Process(int(pid)) for pid in trainer.stdout.readline().split()]


def _gone(processes: list[psutil.Process], within_s: float) -> bool:
    until = time.monotonic() + within_s
    # An orphan that ended stays a zombie until whoever has adopted it looks.
    while any(p.is_running() and p.status() != psutil.STATUS_ZOMBIE for p in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("how", ["busy", "waiting", "fork"])
def test_loaders_end_with_a_trainer_that_is_killed(shards: Folder, how: str) -> None:
    trainer, loaders = _start(shards, how)
    children = psutil.Process(trainer.pid).children(recursive=True)
    try:
        assert len(loaders) == 2
        assert not _gone(loaders, 0.5)
        trainer.kill()
        trainer.communicate() if how != "fork" else trainer.wait()
        assert _gone(loaders, 15)
    finally:
        for process in children:
            if process.is_running():
                process.kill()
        if trainer.stdout:
            trainer.stdout.close()


def test_an_interrupt_from_the_keyboard_ends_the_loaders(shards: Folder) -> None:
    trainer, loaders = _start(shards, "busy")
    os.killpg(trainer.pid, signal.SIGINT)  # as a terminal does, to all of the group
    out, _ = trainer.communicate(timeout=30)
    assert out == "interrupted\n"
    assert trainer.returncode == 0
    assert _gone(loaders, 5)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("asked", ["before", "while waiting"])
def test_a_loader_that_dies_is_one_clear_error(shards: Folder, sent: signal.Signals, asked: str) -> None:
    reader = ShardReader(shards, 32)
    order = SampleOrder(reader.shard_samples, 1, 20)
    with open_batches(reader, order, range(10**9), Share(8), LoaderSettings(loaders=2)) as batches:
        if asked == "before":
            next(batches)
        first, second = batches._loaders._processes
        if asked == "while waiting":
            # It can't have answered: it isn't running.
            second.send_signal(signal.SIGSTOP)
            killer = subprocess.Popen(
                ["sh", "-c", f"sleep 0.5; kill -{sent.value} {second.pid}; kill -CONT {second.pid}"]
            )
        else:
            second.send_signal(sent)
        with pytest.raises(LoaderDied, match=rf"loader process 2 of 2 was killed by {sent.name}; if memory ran out"):
            for _ in batches:
                pass
        if asked == "while waiting":
            killer.wait()
    assert first.returncode == 0
    assert second.returncode == -sent


def test_a_loader_that_cannot_start_is_one_clear_error(shards: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    reader = ShardReader(shards, 32)
    order = SampleOrder(reader.shard_samples, 1, 20)
    with (
        open_batches(reader, order, range(9), Share(8)) as batches,
        pytest.raises(LoaderDied, match="loader process 1 of 1 ended with status 1"),
    ):
        next(batches)


def test_loaders_import_little(shards: Folder) -> None:
    code = "import sys, training.loader; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    root = Path(__file__).parent.parent
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root).stdout
    assert "cv2" in out.split()
    assert not {"torch", "ray", "pyarrow", "pydantic", "pandas"} & set(out.split())
