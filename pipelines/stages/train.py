"""Train: the recipe's preset on the run's shards."""

from manifests.store import Folder
from pipelines.parts import StageError
from pipelines.recipe import Recipe
from pipelines.stages.context import Context, Counts
from pipelines.trainer import Training, run_training
from training.endings import NotThisTraining

FOLDER = "training"


def progress(context: Context) -> tuple[int, int]:
    """(images seen, images to see); all 0 before the data set is known."""
    return training_of(context.recipe, context.run).progress()


def run(context: Context) -> Counts:
    """Train the recipe's preset on the shards, or go on where the last checkpoint stands."""
    training = training_of(context.recipe, context.run)
    summary = run_training(training, context.recipe.resources, context.reporter, context.on_cluster)
    return {name: summary[name] for name in ("images_seen", "updates", "samples")}


def training_of(recipe: Recipe, run: Folder) -> Training:
    """The training of a run."""
    return Training(run.child("shards"), run.child(FOLDER), recipe.train, recipe.seed)


def check_begun(recipe: Recipe, run: Folder) -> None:
    """Raise StageError where the training that was begun can't go on, or stay, with what the recipe says now."""
    try:
        training_of(recipe, run).check_begun()
    except NotThisTraining as error:
        raise StageError(f"train: {error}, or begin it anew with --redo train") from error


def is_behind(recipe: Recipe, run: Folder) -> bool:
    """Whether a training that is done saw fewer images than the recipe asks for now."""
    training = training_of(recipe, run)
    return 0 < training.done_updates() < training.wanted_updates()


def is_ahead(recipe: Recipe, run: Folder) -> bool:
    """Whether a training that is done saw more images than the recipe asks for now."""
    training = training_of(recipe, run)
    return training.done_updates() > 0 and training.wanted_updates() < training.done_updates()
