"""Evaluate: the measurements of what the networks learned, each one JSON file and its pictures."""

from functools import partial

import torch

from manifests.store import Folder
from pipelines.cluster import train_cpus
from pipelines.evaluation import CHECKPOINTS, Evaluation, finished, latest_preset
from pipelines.parts import StageError, run_task
from pipelines.progress import heard
from pipelines.recipe import MeasurementName, Recipe
from pipelines.stages import train
from pipelines.stages.context import Context, Counts
from training.evaluation.measured import Unmeasurable

FOLDER = "evaluation"
_SAID = ".said"


def check_ready(recipe: Recipe) -> None:
    """Raise StageError where the recipe doesn't give what a measurement needs."""
    settings = recipe.evaluate
    run = Folder("/")  # not looked into: a run that came so far has shards and codes
    evaluation = Evaluation(run, "", settings, recipe.seed, run, run)
    try:
        evaluation.check(recipe.train.resolved(), settings.what)
    except Unmeasurable as fault:
        raise StageError(f"evaluate can't be done:\n{fault}") from fault


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) measurements."""
    names = context.recipe.evaluate.what
    return len(finished(context.run.child(FOLDER), names)), len(names)


def is_behind(recipe: Recipe, run: Folder) -> bool:
    """Whether the recipe names measurements that have not been taken."""
    return len(finished(run.child(FOLDER), recipe.evaluate.what)) < len(recipe.evaluate.what)


def run(context: Context) -> Counts:
    """Write evaluation/NAME.json and its pictures for each measurement, from the last checkpoint."""
    recipe, run, out = context.recipe, context.run, context.run.child(FOLDER)
    found = latest_preset(run.child(train.FOLDER))
    if found is None:
        raise StageError(f"{run}/{train.FOLDER} holds no checkpoint; run with --redo train")
    evaluation = Evaluation(
        run.child(train.FOLDER).child(CHECKPOINTS),
        found[0],
        recipe.evaluate,
        recipe.seed,
        run.child("shards"),
        run.child("codes"),
        recipe.resources.gpu,
    )
    names = recipe.evaluate.what
    done = finished(out, names)
    with context.reporter.bar("evaluate", len(names), "measurements", done=len(done)) as bar:
        for name in [name for name in names if name not in done]:
            cpus, gpus = train_cpus(recipe.resources, context.on_cluster), int(recipe.resources.gpu)
            with heard(context.reporter, partial(_last_said, out)):
                said = run_task(_take, evaluation, name, out, cpus, cpus=cpus, gpus=gpus)
            context.reporter.say(f"{name}: {said}")
            out.delete(_SAID)
            bar.advance(1)
    return {"measurements": len(names)}


def _take(evaluation: Evaluation, name: MeasurementName, out: Folder, threads: int) -> str:
    torch.set_num_threads(threads)
    return evaluation.take(name, out, lambda line: out.write_note(_SAID, f"{name}: {line}".encode()))


def _last_said(out: Folder) -> str:
    try:
        return out.read_bytes(_SAID).decode("utf-8", "replace")
    except OSError:
        return ""
