"""Evaluate: the measurements of what the generator learned, each one JSON file and one picture."""

from manifests.store import Folder
from pipelines.parts import StageError, run_task
from pipelines.recipe import EvaluateSettings
from pipelines.stages.context import Context, Counts
from training import checkpoint
from training.evaluation.walk import latent_walk
from training.samples import load_generator, png

FOLDER = "evaluation"
MEASUREMENTS = ("walk",)


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) measurements."""
    names = context.run.child(FOLDER).names()
    return sum(f"{name}.json" in names for name in MEASUREMENTS), len(MEASUREMENTS)


def run(context: Context) -> Counts:
    """Write evaluation/walk.json and walk.png from the last checkpoint."""
    with context.reporter.bar("evaluate", len(MEASUREMENTS), "measurements") as bar:
        run_task(measure_walk, context.run, context.recipe.evaluate, context.recipe.seed)
        bar.advance(1)
    return {"measurements": len(MEASUREMENTS)}


def measure_walk(run: Folder, settings: EvaluateSettings, seed: int) -> None:
    """Take the latent walk of the run's last checkpoint."""
    state = checkpoint.load_latest(run.child("training").child("checkpoints"))
    if state is None:
        raise StageError(f"{run}/training holds no checkpoint; run with --redo train")
    figures, picture = latent_walk(load_generator(state), seed, settings.walk)
    folder = run.child(FOLDER)
    folder.write_bytes("walk.png", png(picture))
    # The figures come last: they say that the measurement is finished.
    folder.write_json("walk.json", figures | {"checkpoint": state.name, "images_seen": state.images_seen})
