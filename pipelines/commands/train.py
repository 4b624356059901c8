"""dcgan train: a training on shards that are there already."""

import difflib
import hashlib
import re
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.table import Table

from manifests.store import Folder
from pipelines.cluster import check_machine, is_cluster, session
from pipelines.commands.address import Address
from pipelines.progress import Reporter
from pipelines.recipe import TrainSettings
from pipelines.resources import Resources, WorkerNames, check_workers
from pipelines.run import RECIPE_FILE, RunError, locked, origin, read_training
from pipelines.stages import no_other_training
from pipelines.stages.train import FOLDER
from pipelines.trainer import TRAIN_FILE, Training, run_training
from pipelines.written import RecipeError, made_settings
from training.endings import NotThisTraining, Untrainable
from training.outputs import newest_grid
from training.presets import Preset
from training.reading import read_classes

_EPOCHS = 5.0
_NAMES = WorkerNames("--workers", "{}-{}", "--cpus", "--gpu", "leave --gpu out", before="")


def train(
    shards: Annotated[str, typer.Argument(help="A folder of shards, such as RUN/shards of any run")],
    run: Annotated[str, typer.Option("--run", help="The folder of this training: a path or a URI")],
    preset: Annotated[str, typer.Option(help="The networks and their training; see dcgan describe")] = "paper-64",
    images: Annotated[int | None, typer.Option(help="Images to see in all; default: 5 epochs")] = None,
    epochs: Annotated[float | None, typer.Option(help="Times to see each image")] = None,
    workers: Annotated[
        str, typer.Option(metavar="N|MIN-MAX", help="Workers; a range: as many of these as there is room for")
    ] = "1",
    gpu: Annotated[bool, typer.Option("--gpu", help="One GPU a worker")] = False,
    cpus: Annotated[
        int | None, typer.Option(min=1, help="CPUs a worker; default: its part of this machine's cores; 4 on a cluster")
    ] = None,
    failures: Annotated[
        int, typer.Option(min=0, help="How often a training that lost a worker goes on")
    ] = Resources.model_fields["train_failures"].default,
    seed: Annotated[int, typer.Option(min=0, max=(1 << 63) - 1, help="Seed of all that is drawn by chance")] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a setting of the training or the preset"),
    ] = None,
    address: Address = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and do nothing")] = False,
) -> None:
    """Train a DCGAN on shards, without the stages before.

    The same command again goes on where it stopped; with more images or epochs it makes a training longer.
    """
    console = Console(markup=False)
    settings = _settings(preset, images, epochs, changes or [])
    resources = Resources(train_workers=_workers(workers), train_cpus=cpus, gpu=gpu, train_failures=failures)
    folder, dataset = Folder(run), _dataset(Folder(shards))
    training = Training(Folder(shards), folder.child(FOLDER), settings, seed)
    if folder.exists(RECIPE_FILE):
        raise RunError(
            f"{folder} is a whole run, which trains by its recipe: dcgan run RECIPE --run {run}; "
            "for a training of its own name another folder"
        )
    try:
        check_workers(settings, resources, _NAMES)
    except ValueError as error:
        raise RunError(str(error)) from error
    _check_fits(dataset, settings.resolved(), Folder(shards))
    described = _described(training, dataset, resources)
    _check_unchanged(folder, described, settings)
    try:
        training.check_begun()
    except NotThisTraining as error:
        raise RunError(f"{folder}: {error}") from error
    if not is_cluster(address):
        check_machine(resources, _NAMES)
    if dry_run:
        console.print(_planned(training, dataset, resources))
        return
    wanted, done = training.wanted_updates(), training.done_updates()
    if done >= wanted:
        seen = done * settings.resolved().batch_images
        console.print(f"{folder} has seen {seen:,} images; it stays as it is. More --images or --epochs make it longer")
        return
    with locked(folder), Reporter(console) as reporter:
        folder.write_bytes(TRAIN_FILE, yaml.safe_dump(described, sort_keys=False, allow_unicode=True).encode())
        with session(address, resources, True, _NAMES):
            summary = run_training(training, resources, reporter, is_cluster(address), _NAMES)
    _show(console, folder, summary)


def _settings(preset: str, images: int | None, epochs: float | None, changes: list[str]) -> TrainSettings:
    ours, nets = TrainSettings.model_fields, [name for name in Preset.model_fields if name != "name"]
    laid = []
    for change in changes:
        key = re.split(r"[.=]", change, maxsplit=1)[0]
        if key not in ours and key not in nets:
            near = difflib.get_close_matches(key, [*ours, *nets], 1)
            hint = f"did you mean {near[0]}?" if near else f"valid: {', '.join([*ours, *nets])}"
            raise RecipeError(f"--set {change}: neither the training nor its preset has a setting {key}; {hint}")
        laid.append(change if key in ours else f"overrides.{change}")
    lengths = {re.split("=", change)[0] for change in changes} & {"images", "epochs"}
    values: dict[str, Any] = {"preset": preset, "images": images, "epochs": epochs}
    if images is None and epochs is None and not lengths:
        values["epochs"] = _EPOCHS
    return made_settings(TrainSettings, values, laid, "dcgan train")


def _workers(text: str) -> int | tuple[int, int]:
    found = re.fullmatch(r"([1-9]\d*)(?:-([1-9]\d*))?", text)
    if found is None:
        raise RunError(f"--workers {text}: expected a number such as 4, or a range such as 1-2")
    least, most = int(found[1]), int(found[2] or found[1])
    if least > most:
        raise RunError(f"--workers {text} begins above its end; write {most}-{least}")
    return (least, most) if found[2] else least


def _dataset(shards: Folder) -> dict[str, Any]:
    missing = [name for name in ("index.parquet", "dataset.json") if not shards.exists(name)]
    if missing:
        raise RunError(
            f"{shards} is no folder of finished shards: it has no {' and no '.join(missing)}; "
            "make one with dcgan run RECIPE --run RUN --until shard, and name RUN/shards"
        )
    try:
        dataset: dict[str, Any] = shards.read_json("dataset.json")
        whole = isinstance(dataset["samples"].get("train", 0), int) and isinstance(dataset["image_px"], int)
    except (ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise RunError(
            f"{shards}/dataset.json does not say how many samples of how many pixels there are; "
            "write the shards again: dcgan run RECIPE --run RUN --redo shard"
        )
    if not dataset["samples"].get("train"):
        raise RunError(f"{shards} has no training samples; make shards with a smaller shard.heldout_share")
    return dataset


def _check_fits(dataset: dict[str, Any], preset: Preset, shards: Folder) -> None:
    if dataset["image_px"] != preset.size_px:
        raise RunError(
            f"{shards} holds images of {dataset['image_px']} px, the preset {preset.name} trains on {preset.size_px}; "
            f"take another preset, --set size_px={dataset['image_px']}, or shards made with "
            f"ingest.image_px={preset.size_px}"
        )
    if preset.classes:
        try:
            read_classes(shards, preset.classes)
        except Untrainable as error:
            raise RunError(str(error)) from error


def _described(training: Training, dataset: dict[str, Any], resources: Resources) -> dict[str, Any]:
    return {
        "shards": training.shards.address,
        "dataset_sha256": hashlib.sha256(training.shards.read_bytes("dataset.json")).hexdigest(),
        "samples": dataset["samples"]["train"],
        "train": training.settings.model_dump(mode="json"),
        "resolved": training.settings.resolved().model_dump(mode="json"),
        "seed": training.seed,
        "resources": resources.model_dump(mode="json"),
        **origin(),
    }


def _check_unchanged(folder: Folder, now: dict[str, Any], settings: TrainSettings) -> None:
    """Raise RunError where a training that was begun was one of other settings or other shards."""
    if not folder.exists(TRAIN_FILE):
        return
    before = read_training(folder)
    # What is replaced of the preset, and which of the two was named, shows in `resolved`.
    left_out = {*no_other_training(settings), "overrides"}
    compared = [("", "seed"), ("", "dataset_sha256")]
    compared += [("resolved", name) for name in now["resolved"] | before["resolved"]]
    compared += [("train", name) for name in now["train"] if name not in left_out]
    changed = []
    for part, name in compared:
        had, has = ((said[part] if part else said).get(name) for said in (before, now))
        if had != has:
            changed.append(f"{name}: {had} -> {has}")
    if changed:
        lines = "".join(f"\n  {line}" for line in changed)
        raise RunError(f"{folder}: changed since this training was begun:{lines}\nSet it back, or name another folder")


def _planned(training: Training, dataset: dict[str, Any], resources: Resources) -> Table:
    preset, (least, most) = training.settings.resolved(), resources.train_range
    wanted, samples = training.wanted_updates(), dataset["samples"]["train"]
    seen, worlds = training.seen(), range(least, most + 1)
    shares = [f"{training.settings.share(0, world).images} a worker" for world in worlds]
    if len(worlds) > 1:
        shares = [f"{share} of {world}" for share, world in zip(shares, worlds, strict=True)]
    table = Table("what", "value", title=f"{training.out}", title_justify="left")
    rows = {
        "preset": f"{preset.name}, {preset.size_px} px, width {preset.width}",
        "samples": f"{samples:,} of {training.shards}",
        "batch": f"{preset.batch_images} images; {', '.join(shares)}",
        "workers": f"{least}" if least == most else f"{least} to {most}",
        "updates": f"{wanted:,}",
        "images to see": f"{wanted * preset.batch_images:,}, {wanted * preset.batch_images / samples:,.2f} epochs",
        "images seen": f"{seen:,}",
        "updates left": f"{max(0, wanted - seen // preset.batch_images):,}",
    }
    for what, value in rows.items():
        table.add_row(what, value)
    return table


def _show(console: Console, folder: Folder, summary: dict[str, Any]) -> None:
    table = Table("what", "value", title="Trained", title_justify="left")
    for name in ("images_seen", "updates", "epochs", "samples", "workers", "seconds", "images_per_s", "alarms"):
        table.add_row(name.replace("_", " "), f"{summary.get(name):,}" if summary.get(name) is not None else "-")
    console.print(table)
    training = folder.child(FOLDER)
    grid = newest_grid(training)
    if grid:
        console.print(f"sample grid: {training.child(grid)}", soft_wrap=True)
    console.print(f"checkpoint: {training.child(summary['checkpoint'])}", soft_wrap=True)
