"""Errors that a user can mend, said in one message instead of a traceback."""

import contextlib
import sys
from collections.abc import Iterator

from rich.console import Console

from manifests.denied import DenyListError
from pipelines.cluster import ClusterError
from pipelines.commands.checkpoints import NoCheckpoint
from pipelines.parts import StageError
from pipelines.run import RunError
from pipelines.sources import SourceError
from pipelines.written import RecipeError
from pipelines.yunet import ModelError
from training.authors import AuthorsError
from training.checkpoint import DamagedCheckpoint
from training.evaluation.measured import Unmeasurable
from training.export import ExportError
from training.presets import PresetError

MENDABLE = (
    RecipeError,
    RunError,
    SourceError,
    StageError,
    ClusterError,
    DamagedCheckpoint,
    NoCheckpoint,
    PresetError,
    AuthorsError,
    ExportError,
    Unmeasurable,
    ModelError,
    DenyListError,
    OSError,
)


@contextlib.contextmanager
def expected_errors() -> Iterator[None]:
    """End the program with status 2 and the error's own words where it is one that a user can mend."""
    try:
        yield
    except MENDABLE as error:
        Console(stderr=True, soft_wrap=True).print(f"error: {error}", style="bold red", highlight=False, markup=False)
        sys.exit(2)
