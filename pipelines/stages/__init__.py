"""The stages of a run, in order: each reads finished folders of the run and writes one of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from manifests.store import Folder
from pipelines.recipe import Recipe, TrainSettings, fingerprint
from pipelines.stages import deduplicate, encode, evaluate, fetch, ingest, report, shard, train
from pipelines.stages.context import Context, Counts
from pipelines.stages.earlier import earlier_runs, encoder_sha256, identity

STAGE_FILE = "stage.json"
STARTED_FILE = "started.json"


def _always(recipe: Recipe) -> bool:
    return True


def _never(recipe: Recipe, run: Folder) -> bool:
    return False


def _nothing_to_check(recipe: Recipe, run: Folder) -> None:
    pass


@dataclass(frozen=True)
class Stage:
    """A stage: its name, the folder that it writes, and the settings that its result depends on."""

    name: str
    module: ModuleType
    settings: Callable[[Recipe], Any]
    images: str | None = None  # which of its counts tells how many images went through it
    outside: tuple[str, ...] = ()  # files that it writes at the top of the run
    wanted: Callable[[Recipe], bool] = _always  # whether a recipe has it at all
    check: Callable[[Recipe, Folder], None] = _nothing_to_check  # raises, before any work, what would stop it later
    check_begun: Callable[[Recipe, Folder], None] = _nothing_to_check  # the same of a stage that is to go on, or stay
    is_behind: Callable[[Recipe, Folder], bool] = _never  # whether, though it was done, the recipe asks for more of it

    @property
    def folder(self) -> str:
        """The folder's name in the run."""
        return str(self.module.FOLDER)

    def run(self, context: Context) -> Counts:
        """Do what is left to do."""
        counts: Counts = self.module.run(context)
        return counts

    def progress(self, context: Context) -> tuple[int, int]:
        """(finished, all) pieces of its work."""
        finished, total = self.module.progress(context)
        return int(finished), int(total)


# What of the training's settings moves no weight, and how far it goes: a training can be made longer. What is drawn and
# kept on the way, and so which checkpoint is the best so far, may differ. The precision is held against that of the
# checkpoint.
_NO_OTHER_WEIGHTS = {
    "images",
    "epochs",
    "keep_checkpoints",
    "grid_images",
    "threads",
    "loader",
    "precision",
    "compile",
    "micro_images",
}
# Nor these, as long as the guard only warns: otherwise they decide which rows it sees, and so when it steps in.
_GUARDS_ROWS = {
    "log_every_updates",
    "checkpoint_every_images",
    "grid_every_images",
    "measure_every_images",
    "measure_images",
}


def no_other_training(settings: TrainSettings) -> set[str]:
    """The settings that may change while a training goes on."""
    return _NO_OTHER_WEIGHTS | (_GUARDS_ROWS if settings.guard.action == "warn" else set())


STAGES = (
    Stage(
        "fetch",
        fetch,
        lambda r: [[_identity(s) for s in fetch.url_sources(r)]],
        images="URLs",
        wanted=fetch.is_wanted,
        check=lambda r, run: fetch.check_ready(run),
    ),
    Stage(
        "ingest",
        ingest,
        lambda r: [[_identity(s) for s in r.sources], r.seed, ingest.identity(r.ingest)],
        images="read",
        check=lambda r, run: ingest.check_ready(r.ingest),
    ),
    Stage("encode", encode, lambda r: [r.encode, *map(encoder_sha256, earlier_runs(r))], images="codes"),
    Stage(
        "deduplicate",
        deduplicate,
        # Earlier runs count by what they hold, not by where they lie.
        lambda r: [r.deduplicate.model_dump(mode="json", exclude={"against"}), *map(identity, earlier_runs(r))],
        images="samples",
        outside=(deduplicate.MANIFEST_FILE,),
    ),
    Stage("shard", shard, lambda r: r.shard, images="samples"),
    Stage(
        "train",
        train,
        lambda r: r.train.model_dump(mode="json", exclude=no_other_training(r.train)),
        images="images_seen",
        check_begun=train.check_begun,
        is_behind=train.is_behind,
    ),
    Stage(
        "evaluate",
        evaluate,
        lambda r: None,  # each measurement says what it was taken with, and is taken again by itself
        check=lambda r, run: evaluate.check_ready(r),
        is_behind=evaluate.is_behind,
    ),
    Stage("report", report, lambda r: r.name),
)


def _identity(source: Any) -> dict[str, Any]:
    """What of a source decides the result; the truth beside it only measures."""
    described: dict[str, Any] = source.model_dump(mode="json")
    described.pop("truth", None)
    return described


def stages_of(recipe: Recipe) -> tuple[Stage, ...]:
    """The stages that a recipe has."""
    return tuple(stage for stage in STAGES if stage.wanted(recipe))


def fingerprints(recipe: Recipe) -> dict[str, str]:
    """Each stage's fingerprint: of its settings and of the stage before it."""
    found: dict[str, str] = {}
    before = ""
    for stage in stages_of(recipe):
        settings = stage.settings(recipe)
        plain = [s.model_dump(mode="json") if hasattr(s, "model_dump") else s for s in _listed(settings)]
        before = fingerprint(stage.name, plain, before)
        found[stage.name] = before
    return found


def _listed(settings: Any) -> list[Any]:
    return settings if isinstance(settings, list) else [settings]
