"""Evaluate: the measurements of what the networks learned, each one JSON file and its pictures."""

from functools import partial

import ray
import torch

from manifests.store import Folder
from pipelines.cluster import cores, lack_to_measure, train_cpus
from pipelines.evaluation import CHECKPOINTS, Evaluation, delete, faults, found, latest_preset
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
    return len(names) - len(_left(context.recipe, context.run)), len(names)


def is_behind(recipe: Recipe, run: Folder) -> bool:
    """Whether the recipe names measurements that were not taken, or not so."""
    return bool(_left(recipe, run))


def run(context: Context) -> Counts:
    """Write evaluation/NAME.json and its pictures for each measurement, from the last checkpoint.

    Where the networks or the data don't permit one, NAME.json says why, and the stage finishes without it.

    Raises:
        StageError: there is no checkpoint, or a measurement failed, such as for a file that can't be read; the others
            are taken first.
        ClusterError: no nodes of the cluster can ever hold one.
    """
    recipe, out = context.recipe, context.run.child(FOLDER)
    evaluation = _evaluation(recipe, context.run)
    if evaluation is None:
        raise StageError(f"{context.run}/{train.FOLDER} holds no checkpoint; run with --redo train")
    names, left = recipe.evaluate.what, _left(recipe, context.run)
    if left and context.on_cluster and (lacking := lack_to_measure(ray.nodes(), recipe.resources)):
        context.reporter.say(f"evaluate: {lacking}; waiting for nodes that it starts")
    for name in found(out):
        if name in left or name not in names:
            delete(out, name)
    cpus = train_cpus(recipe.resources, True) if context.on_cluster else cores()
    failed = []
    with context.reporter.bar("evaluate", len(names), "measurements", done=len(names) - len(left)) as bar:
        for name in left:
            out.delete(_SAID)
            try:
                with heard(context.reporter, partial(_last_said, out)):
                    said = run_task(_take, evaluation, name, out, cpus, cpus=cpus, gpus=int(recipe.resources.gpu))
            except StageError as fault:
                failed.append(f"{name}: {fault}")
                continue
            finally:
                out.delete(_SAID)
            context.reporter.say(f"{name}: {said}")
            bar.advance(1)
    if failed:
        raise StageError("\n".join(failed))
    impossible = len(faults(out))
    counts = {"measurements": len(names) - impossible}
    return counts | ({"not measurable": impossible} if impossible else {})


def _evaluation(recipe: Recipe, run: Folder) -> Evaluation | None:
    """None before there is a checkpoint."""
    training = run.child(train.FOLDER)
    last = latest_preset(training)
    if last is None:
        return None
    return Evaluation(
        training.child(CHECKPOINTS),
        last[0],
        recipe.evaluate,
        recipe.seed,
        run.child("shards"),
        run.child("codes"),
        recipe.resources.gpu,
    )


def _left(recipe: Recipe, run: Folder) -> list[MeasurementName]:
    evaluation = _evaluation(recipe, run)
    done = evaluation.finished(run.child(FOLDER)) if evaluation is not None else []
    return [name for name in recipe.evaluate.what if name not in done]


def _take(evaluation: Evaluation, name: MeasurementName, out: Folder, threads: int) -> str:
    torch.set_num_threads(threads)
    try:
        return evaluation.take(name, out, lambda line: out.write_note(_SAID, f"{name}: {line}".encode()))
    except Unmeasurable as fault:  # which is written down: it would be the same another time
        return f"can't be measured: {fault}"


def _last_said(out: Folder) -> str:
    try:
        return out.read_bytes(_SAID).decode("utf-8", "replace")
    except OSError:
        return ""
