"""A run, from its recipe to its report: which stages are done, which settings have changed, what is left to do."""

import contextlib
import fcntl
import platform
import subprocess
import time
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from manifests.store import Folder
from pipelines import cluster
from pipelines.inputs import list_inputs, sources_within
from pipelines.parts import start_workers
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.stages import STAGE_FILE, STAGES, STARTED_FILE, Stage, fetch, fingerprints, stages_of, train
from pipelines.stages.context import Context
from pipelines.trainer import TRAIN_FILE

RECIPE_FILE = "recipe.yaml"
_VERSIONED = ("dcgan-pipeline", "ray", "torch", "numpy", "opencv-python-headless", "pyarrow", "webdataset", "lmdb")


class RunError(Exception):
    """The run can't begin or go on; nothing was done."""


def run_recipe(
    recipe: Recipe,
    run: Folder,
    reporter: Reporter,
    until: str | None = None,
    redo: str | None = None,
    address: str | None = None,
    only: Sequence[str] | None = None,
) -> None:
    """Do all of a recipe's stages that are not done, up to `until`; a run that was cut off goes on where it was.

    `only`: do these stages alone; those left out must be ones that no other of them reads from.

    Raises:
        RunError: a stage's settings changed since it was begun, another process works on this run, or its folder holds
            a recipe.yaml of someone's own.
        SourceError, ClusterError, StageError: as the parts of it say.
    """
    stages = chosen_stages(until, only, stages_of(recipe))
    if run.address in {Folder(address).address for address in recipe.deduplicate.against}:
        raise RunError(f"{run} can't be compared with itself; name another run folder, or other runs to compare with")
    recipe = recipe.model_copy(update={"sources": sources_within(recipe, run)})
    with locked(run):
        if run.exists(RECIPE_FILE):
            read_description(run)  # rather than write over a recipe that someone keeps there
        prints = fingerprints(recipe)
        names = [stage.name for stage in stages]
        for option, name in (("--redo", redo), ("--until", until)):
            if name is not None and name not in [stage.name for stage in stages_of(recipe)]:
                raise RunError(f"{option} {name}: no source of the recipe is of kind urls, so it has no such stage")
        if redo is not None and redo not in names:
            raise RunError(f"--redo {redo} comes after --until {until}; leave one of them out")
        again = stages[names.index(redo) :] if redo is not None else ()
        check_unchanged(recipe, run, prints, [stage for stage in stages if stage not in again])
        context = Context(run, recipe, reporter, cluster.is_cluster(address))
        behind = [stage for stage in stages if is_done(run, stage) and stage.is_behind(recipe, run)]
        outdated = STAGES[STAGES.index(behind[0]) :] if behind else ()
        left = [stage for stage in stages if stage in (*again, *outdated) or not is_done(run, stage)]
        _say_what_is_ahead(recipe, run, stages, reporter)
        if not left:
            reporter.say(f"{run}: all stages up to {stages[-1].name} are done; --redo STAGE does one again")
            return
        # All that may be refused comes before anything is deleted or written.
        for stage in left:
            stage.check(recipe, run)
        lists = list_inputs(recipe, run, left, again, reopened=redo == "fetch" and _is_same(run, "fetch", prints))
        to_do = {stage.name for stage in left}
        with cluster.session(address, recipe.resources, trains="train" in to_do, measures="evaluate" in to_do):
            if redo is not None:
                _clear_from(run, redo, prints)
            _reopen(run, outdated)
            _write_recipe(recipe, run, prints if only is None else {name: prints[name] for name in only})
            if not context.on_cluster and left[0].name in ("fetch", "ingest", "encode", "deduplicate"):
                start_workers(recipe.resources.workers or cluster.cores())
            for stage in left:
                if stage.name in lists:
                    _begin(run, stage, prints[stage.name])
                    lists[stage.name]()
                _do(stage, context, prints[stage.name])


def chosen_stages(
    until: str | None = None, only: Sequence[str] | None = None, among: tuple[Stage, ...] = STAGES
) -> tuple[Stage, ...]:
    """The stages up to one, of those that are wanted at all."""
    names = [stage.name for stage in STAGES]
    last = len(names) if until is None else names.index(until)
    return tuple(stage for stage in among if names.index(stage.name) <= last and (only is None or stage.name in only))


def is_done(run: Folder, stage: Stage) -> bool:
    """Whether a stage is finished."""
    return run.child(stage.folder).exists(STAGE_FILE)


def _begin(run: Folder, stage: Stage, fingerprint: str) -> None:
    folder = run.child(stage.folder)
    if not folder.exists(STARTED_FILE):
        folder.write_json(STARTED_FILE, {"stage": stage.name, "fingerprint": fingerprint})


def _do(stage: Stage, context: Context, fingerprint: str) -> None:
    folder = context.run.child(stage.folder)
    _begin(context.run, stage, fingerprint)
    already, _ = stage.progress(context)
    started_at, began = time.time(), time.perf_counter()
    counts = stage.run(context)
    seconds = time.perf_counter() - began
    images = counts[stage.images] if stage.images else None
    rate = images / seconds if images and not already else None
    folder.write_json(
        STAGE_FILE,
        {
            "stage": stage.name,
            "fingerprint": fingerprint,
            "started_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started_at)),
            "seconds": round(seconds, 2),
            "resumed": bool(already),
            "counts": counts,
            "images_per_s": None if rate is None else round(rate, 1),
        },
    )
    said = ", ".join(f"{value:,} {name}" for name, value in counts.items())
    context.reporter.say(f"{stage.name}: {said}; {seconds:,.1f} s" + (f", {rate:,.0f} images/s" if rate else ""))


def check_unchanged(recipe: Recipe, run: Folder, prints: dict[str, str], stages: Sequence[Stage]) -> None:
    """Compare the fingerprint of every stage that was begun with the recipe's.

    Raises:
        RunError: one differs; the message names the settings and the `--redo` that would do it. Or the folder is that
            of a training of its own.
        StageError: one can't go on with what the recipe says now.
    """
    if run.exists(TRAIN_FILE):
        raise RunError(
            f"{run} is a training of its own, which dcgan train wrote and goes on with; name another folder for a run"
        )
    for stage in stages:
        folder = run.child(stage.folder)
        if folder.exists(STARTED_FILE) and folder.read_json(STARTED_FILE)["fingerprint"] != prints[stage.name]:
            changed = changed_settings(recipe, run)
            unseen = "a run of deduplicate.against was done again, or " if recipe.deduplicate.against else ""
            what = "".join(f"\n  {line}" for line in changed) or f"\n  ({unseen}by another version of this program)"
            raise RunError(
                f"{run}: settings of the stage {stage.name} changed since it was begun:{what}\n"
                f"Do it and all after it again with --redo {stage.name}, set them back, or name a new run folder"
            )
        if folder.exists(STARTED_FILE):
            stage.check_begun(recipe, run)


def read_description(run: Folder) -> dict[str, Any]:
    """What the run's recipe.yaml says: recipe, seed, versions, commit and fingerprints.

    Raises:
        RunError: the file is none that a run wrote.
    """
    try:
        described = yaml.safe_load(run.read_bytes(RECIPE_FILE))
    except yaml.YAMLError:
        described = None
    if not isinstance(described, dict) or not {"recipe", "fingerprints"} <= described.keys():
        raise RunError(f"{run}/{RECIPE_FILE} is none that a run wrote; move it, or name another run folder")
    return described


def read_training(folder: Folder) -> dict[str, Any]:
    """What the train.yaml of a training of its own says.

    Raises:
        RunError: the file is none that such a training wrote.
    """
    try:
        described = yaml.safe_load(folder.read_bytes(TRAIN_FILE))
    except (yaml.YAMLError, UnicodeDecodeError):
        described = None
    parts = {"shards": str, "dataset_sha256": str, "samples": int, "train": dict, "resolved": dict, "seed": int}
    if not isinstance(described, dict) or not all(isinstance(described.get(k), kind) for k, kind in parts.items()):
        raise RunError(f"{folder}/{TRAIN_FILE} is none that a training wrote; move it, or name another folder")
    return described


def recorded_recipe(run: Folder) -> Recipe:
    """The recipe that a run was last started with.

    Raises:
        RunError: the folder is no run's, or its recipe is of another version of this program.
    """
    if not run.exists(RECIPE_FILE):
        raise RunError(
            f"{run} is no run folder: it holds no {RECIPE_FILE}; start one with dcgan run RECIPE --run {run}"
        )
    try:
        return Recipe.model_validate(read_description(run)["recipe"])
    except ValidationError as error:
        raise RunError(
            f"{run}/{RECIPE_FILE} was written by another version of this program, or changed by hand: "
            f"{error.error_count()} settings are not valid; use that version, or undo the change"
        ) from error


def changed_settings(recipe: Recipe, run: Folder) -> list[str]:
    """`key: before -> now` of every setting that differs from the run's recipe."""
    if not run.exists(RECIPE_FILE):
        return []
    before = _flat(read_description(run)["recipe"])
    now = _flat(recipe.model_dump(mode="json"))
    keys = [key for key in before | now if not key.startswith("resources.") and before.get(key) != now.get(key)]
    return [f"{key}: {before.get(key)} -> {now.get(key)}" for key in keys]


def _flat(values: Any, above: str = "") -> dict[str, Any]:
    if isinstance(values, dict | list | tuple) and values:
        items = values.items() if isinstance(values, dict) else enumerate(values)
        return {key: v for name, value in items for key, v in _flat(value, f"{above}{name}.").items()}
    return {above.removesuffix("."): values}


def _is_same(run: Folder, stage_name: str, prints: dict[str, str]) -> bool:
    """Whether a stage was begun with the settings that it has now."""
    (folder,) = (run.child(stage.folder) for stage in STAGES if stage.name == stage_name)
    return folder.exists(STARTED_FILE) and folder.read_json(STARTED_FILE)["fingerprint"] == prints[stage_name]


def _clear_from(run: Folder, redo: str, prints: dict[str, str]) -> None:
    """Delete what a stage and all after it wrote.

    What was fetched with the same settings stays but for what may end better another time: nobody's server should
    have to hand out again what is here.
    """
    place = [stage.name for stage in STAGES].index(redo)
    # From the last to the first, so that a stage is never finished while one before it is not; and the fingerprint of
    # each after all else, so that what a kill leaves here can't be taken for work of another recipe.
    for stage in reversed(STAGES[place:]):
        for name in stage.outside:
            run.delete(name)
        folder = run.child(stage.folder)
        folder.delete(STAGE_FILE)
        if stage.name == "fetch" and "fetch" in prints and _is_same(run, "fetch", prints):
            fetch.reopen(run)
        else:
            folder.delete_all(last=STARTED_FILE)


def _reopen(run: Folder, outdated: Sequence[Stage]) -> None:
    """Let the first of the stages go on where it is, and begin those after it anew."""
    # As in _clear_from: never is a stage finished while one before it is not.
    for stage in reversed(outdated[1:]):
        folder = run.child(stage.folder)
        folder.delete(STAGE_FILE)
        folder.delete_all(last=STARTED_FILE)
    if outdated:
        run.child(outdated[0].folder).delete(STAGE_FILE)


def _say_what_is_ahead(recipe: Recipe, run: Folder, stages: Sequence[Stage], reporter: Reporter) -> None:
    if any(stage.name == "train" and is_done(run, stage) for stage in stages) and train.is_ahead(recipe, run):
        reporter.say("train: more images were seen than the recipe asks for now; the training stays as it is")


def _write_recipe(recipe: Recipe, run: Folder, prints: dict[str, str]) -> None:
    described = {
        "recipe": recipe.model_dump(mode="json"),
        "seed": recipe.seed,
        **origin(),
        "fingerprints": prints,
    }
    run.write_bytes(RECIPE_FILE, yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode())


def origin() -> dict[str, Any]:
    """The versions and the commit of what works here."""
    versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in _installed()}
    return {"versions": versions, "commit": _commit()}


def _installed() -> Iterator[str]:
    for name in _VERSIONED:
        with contextlib.suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            yield name


def _commit() -> str | None:
    """The commit of the checkout that this runs from, with + where files differ; None outside of one."""
    folder = Path(__file__).parent
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None


@contextlib.contextmanager
def locked(run: Folder) -> Iterator[None]:
    """Keep a second process off a local run folder; the lock goes when the process does."""
    path = run.local_path(".lock")
    if path is None:
        yield
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise RunError(f"{run}: another process works on this run; wait for it or end it") from error
        yield
