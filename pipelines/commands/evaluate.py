"""dcgan evaluate: the measurements of what a checkpoint's networks learned."""

import re
from collections.abc import Sequence
from typing import Annotated

import torch
import typer
from rich.console import Console

from manifests.pages.evaluation import write_page
from manifests.store import Folder
from pipelines.commands.checkpoints import read_checkpoint
from pipelines.evaluation import CHECKPOINTS, FAULTS, Evaluation, faults, found, latest_preset
from pipelines.measurements import MEASUREMENTS
from pipelines.progress import Reporter
from pipelines.recipe import EvaluateSettings, MeasurementName
from pipelines.run import RECIPE_FILE, RunError, locked, read_training, recorded_recipe
from pipelines.stages import STARTED_FILE
from pipelines.stages.train import FOLDER
from pipelines.trainer import TRAIN_FILE
from pipelines.written import made_settings
from training import checkpoint
from training.evaluation.measured import Unmeasurable
from training.presets import Preset


def evaluate(
    subject: Annotated[
        str,
        typer.Argument(metavar="RUN|CHECKPOINT", help="A run, whose last checkpoint is measured, or a checkpoint"),
    ],
    out: Annotated[str, typer.Option(help="The folder to write to: a path or a URI")],
    what: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help=f"A measurement to take, of {', '.join(MEASUREMENTS)}; again for more. "
            "Default: those of the run's recipe, else the walk",
        ),
    ] = None,
    shards: Annotated[
        str | None, typer.Option(help="Shards that the networks were trained on. Default: the run's")
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=(1 << 63) - 1,
            help="Seed of all that is drawn by chance. Default: that of the training, as in a run's own stage",
        ),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the recipe's `evaluate`"),
    ] = None,
    gpu: Annotated[bool, typer.Option("--gpu", help="Compute on this machine's GPU")] = False,
    redo: Annotated[bool, typer.Option("--redo", help="Take again what --out holds already")] = False,
) -> None:
    """Measure what the networks learned: a JSON and pictures for each measurement, and a page of them all.

    The same command again takes only what is missing. Where one can't be taken the others are.
    """
    if gpu and not torch.cuda.is_available():
        raise RunError("--gpu: torch finds no GPU on this machine; leave it out to compute on the CPU")
    evaluation, preset = _evaluation(subject, what, shards, seed, changes or [], gpu)
    names = list(evaluation.settings.what)
    _check_used(names, changes or [], shards)
    evaluation.check(preset, names)
    folder = Folder(out)
    if folder.exists(STARTED_FILE):
        raise RunError(f"--out {out} is the folder of a run's stage, which takes its own; name another")
    with locked(folder), Reporter(Console(markup=False)) as reporter:
        left = evaluation.left(folder, names, redo)
        failed = []
        for name in [name for name in names if name not in left]:
            if (fault := faults(folder).get(name)) is None:
                reporter.say(f"{name}: taken already; --redo takes it again")
            else:
                failed.append(f"{name}: {fault} (as it was before; --redo tries again)")
        with reporter.bar("evaluate", len(names), "measurements", done=len(names) - len(left)) as bar:
            for name in left:
                reporter.say(f"{MEASUREMENTS[name].title} ...")
                try:
                    reporter.say(f"{name}: {evaluation.take(name, folder, reporter.say)}")
                except FAULTS as error:
                    failed.append(f"{name}: {error}")
                    continue
                bar.advance(1)
        if found(folder):
            write_page(folder, f"{preset.name}, {checkpoint.images_of(evaluation.name):,} images seen")
            reporter.say(f"page: {folder}/index.html")
    if failed:
        raise Unmeasurable("\n".join(failed))


def _check_used(names: Sequence[MeasurementName], changes: Sequence[str], shards: str | None) -> None:
    """Raise RunError where something is given that none of the measurements looks at."""
    used = {"what", *names, *(setting for name in names for setting in MEASUREMENTS[name].reads)}
    for change in changes:
        key = re.split(r"[.=]", change, maxsplit=1)[0]
        if key not in used:
            raise RunError(
                f"--set {change}: {', '.join(names)} does not use {key}; add the measurement that does with --what, "
                "or leave it out"
            )
    if shards is not None and not any(MEASUREMENTS[name].shards for name in names):
        raise RunError(f"--shards {shards}: {', '.join(names)} looks at no shards; leave it out")


def _evaluation(
    subject: str, what: list[str] | None, shards: str | None, seed: int | None, changes: list[str], gpu: bool
) -> tuple[Evaluation, Preset]:
    run = Folder(subject)
    if run.exists(RECIPE_FILE) or run.exists(TRAIN_FILE):
        training = run.child(FOLDER)
        last = latest_preset(training)
        if last is None:
            raise RunError(f"{run} has no checkpoint yet; train first: dcgan run or dcgan train")
        name, preset, checkpoints = *last, training.child(CHECKPOINTS)
    else:
        state = read_checkpoint(subject)
        name, preset = state.name, Preset.model_validate(state.preset)
        checkpoints = Folder(_parent(run.address))
        run = Folder(_parent(_parent(checkpoints.address)))
    values, own_shards, codes = _beside(run)
    if what:
        values = values | {"what": what}
    settings = made_settings(EvaluateSettings, values, changes, "dcgan evaluate")
    given = Folder(shards) if shards is not None else own_shards
    if given is not None and not given.exists("index.parquet"):
        if shards is not None:
            raise RunError(f"--shards {shards}: it holds no index.parquet; name the shards of a run, RUN/shards")
        given = None
    if seed is None:
        seed = int(checkpoints.child(name).read_json(checkpoint.STATE)["seed"])
    return Evaluation(checkpoints, name, settings, seed, given, codes, gpu), preset


def _beside(run: Folder) -> tuple[dict[str, object], Folder | None, Folder | None]:
    """The evaluate settings, shards and codes of the run that a checkpoint lies in, as far as there are any."""
    if run.exists(RECIPE_FILE):
        values = recorded_recipe(run).evaluate.model_dump(mode="json")
        return values, run.child("shards"), run.child("codes") if run.child("codes").names() else None
    if run.exists(TRAIN_FILE):
        shards = Folder(read_training(run)["shards"])
        codes = Folder(_parent(shards.address)).child("codes")
        return {}, shards, codes if _has(codes) else None
    return {}, None, None


def _has(folder: Folder) -> bool:
    return folder.exists() and bool(folder.names())


def _parent(address: str) -> str:
    return address.rstrip("/").rpartition("/")[0] or "/"
