"""What all tests share. Nothing here starts Ray, or imports it."""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import settings

from pipelines import exits

# Before any test imports Ray: nothing is reported to anyone, and no bars between the test results.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")

# Two cores shared with other work make single examples slow now and then, which says nothing of the code.
settings.register_profile("dcgan", deadline=None, print_blob=True)
settings.load_profile("dcgan")

ROOT = Path(__file__).parent.parent
_NOBODY = 65534
_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Keep the status for the end; a usage error is told only after it, and no test has run."""
    if exitstatus != pytest.ExitCode.USAGE_ERROR:
        session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End as the command line does where a test used Ray, whose threads would now and then crash a plain exit."""
    if exits.is_needed() and _STATUS in config.stash:
        exits.leave(config.stash[_STATUS])


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Small networks gain nothing from more threads, and lose much where other work has the cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real photos; the test is skipped where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: no real photos to test with")
    return folder


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """An empty folder that every user of the machine can reach; pytest's own are closed to others."""
    with TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def unprivileged() -> Callable[[], AbstractContextManager[None]]:
    """Gives, for the time of a block, the rights of an ordinary user: root may read whatever permissions forbid."""
    return _as_nobody


@contextmanager
def _as_nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(_NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
