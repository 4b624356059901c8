"""What a discriminator's features are worth on CIFAR-10, beside their controls, from a checkpoint.

    python benchmarks/features.py RUN/training/checkpoints/checkpoint-006000000 --data cifar10.tar.gz [--curve 6]

--data: a tar that holds train/CLASS/ and test/CLASS/ with images, such as JPEGs, or a folder of the same. Each row of
the table is kept in --out as it is ready, so a script that was stopped goes on where it was when it is run again.
--curve N adds the learning curve over N checkpoints: the named one and others of its folder that came before it.
Prints the table and a last line of JSON: {"accuracy", "accuracy_400", "random", "noise", "kmeans", "pixels",
"supervised", "images_seen"}, null for rows left out.
"""

import argparse
import hashlib
import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

# A script's folder stands first on the path, and the dedup.py in this one would hide the package of that name.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from manifests.store import Folder
from pipelines.commands.checkpoints import read_checkpoint
from pipelines.labelled.classes import LabelledSettings
from pipelines.measurements.features import digest_of, read_split
from training import checkpoint
from training.evaluation.curve import Point, learning_curve
from training.evaluation.linear import Few, Row, Split
from training.evaluation.measured import Measured, Subject
from training.evaluation.table import ROWS, FeaturesSettings, features_table
from training.presets import Preset
from training.samples import png

_SAY = Console(stderr=True, highlight=False, markup=False)
_BEGAN = time.monotonic()


def main() -> None:
    """Measure, say how far it is, and print the figures."""
    options = _options()
    if options.threads:
        torch.set_num_threads(options.threads)
    state = read_checkpoint(options.checkpoint)
    split = _read(options.data, Preset.model_validate(state.preset))
    settings = _settings(options)
    out = Path(options.out or f"features-{state.name}.json")
    kept = _kept(out, _identity(state, split, settings, options.seed))
    subject = Subject(state, options.seed, say=_say)

    def keep_row(row: Row) -> None:
        kept["rows"][row.name] = asdict(row)
        _write(out, kept)

    def keep_point(point: Point) -> None:
        kept["curve"][str(point.images_seen)] = asdict(point)
        _write(out, kept)

    finished = {name: Row.read(plain) for name, plain in kept["rows"].items()}
    measured = features_table(subject, split, settings, finished, keep_row)
    kept["figures"] = dict(measured.figures)
    _write(out, kept)
    _picture(out.with_suffix(".png"), measured)
    _print_table([Row.read(kept["rows"][name]) for name in settings.rows], settings)
    if options.curve:
        points = {int(seen): Point(**plain) for seen, plain in kept["curve"].items()}
        beside = _beside(options.checkpoint, options.curve)
        curve = learning_curve(beside, split, settings, options.seed, say=_say, finished=points, keep=keep_point)
        kept["curve_figures"] = dict(curve.figures)
        _write(out, kept)
        _picture(out.with_name(f"{out.stem}-curve.png"), curve)
        Console(highlight=False, markup=False, soft_wrap=True).print(curve.says)
    figures = measured.figures
    names = ("accuracy", "accuracy_400", "random", "noise", "kmeans", "pixels", "supervised")
    print(json.dumps({name: figures.get(name) for name in names} | {"images_seen": state.images_seen}))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", help="a checkpoint's folder")
    parser.add_argument("--data", required=True, help="cifar10.tar.gz, or a folder that holds train/ and test/")
    parser.add_argument("--out", help="JSON of finished rows; default: features-CHECKPOINT.json here")
    parser.add_argument("--rows", default=",".join(ROWS), help="rows to measure; trained and random always are")
    parser.add_argument("--curve", type=int, default=0, help="checkpoints of a learning curve; 0: none")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, help="torch's; default: one a core")
    parser.add_argument("--train-images", type=int, help="training images; default: all")
    parser.add_argument("--test-images", type=int, help="test images; default: all")
    parser.add_argument("--choose-images", type=int, help="training images that choose C; default: all")
    parser.add_argument("--scaling", choices=("none", "standard"), default="none")
    parser.add_argument("--per-class", type=int, nargs="*", default=[400], help="labels a class where they are few")
    parser.add_argument("--draws", type=int, default=5, help="draws of so few labels")
    parser.add_argument("--units", type=int, default=1600, help="of K-means")
    parser.add_argument("--noise-images", type=int, default=50_000, help="images of noise to train on")
    parser.add_argument("--trials", type=int, default=8, help="of the supervised search")
    parser.add_argument("--search-images", type=int, default=10_000, help="training images of a trial")
    parser.add_argument("--search-epochs", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12, help="of the supervised network on all images")
    parser.add_argument("--few-draws", type=int, default=1, help="supervised networks of few labels; 0: none")
    return parser.parse_args()


def _settings(options: argparse.Namespace) -> FeaturesSettings:
    return FeaturesSettings.model_validate(
        {
            "rows": options.rows.split(","),
            "train_images": options.train_images,
            "test_images": options.test_images,
            "choose_images": options.choose_images,
            "scaling": options.scaling,
            "per_class": options.per_class,
            "draws": options.draws,
            "kmeans": {"units": options.units},
            "noise": {"images": options.noise_images},
            "supervised": {
                "trials": options.trials,
                "search_images": options.search_images,
                "search_epochs": options.search_epochs,
                "epochs": options.epochs,
                "few_draws": options.few_draws,
            },
        }
    )


def _read(data: str, preset: Preset) -> Split:
    split = read_split(LabelledSettings(kind="folders", train=f"{data}/train", test=f"{data}/test"), preset)
    _say(f"{len(split.train):,} training and {len(split.test):,} test images of {len(split.classes)} classes")
    return split


def _identity(state: checkpoint.Checkpoint, split: Split, settings: FeaturesSettings, seed: int) -> dict[str, Any]:
    """What rows must agree in to stand in one table; which rows there are is left out."""
    weights = hashlib.sha256()
    for name, value in sorted(state.discriminator.items()):
        weights.update(name.encode() + value.numpy().tobytes())
    return {
        "checkpoint": state.name,
        "images_seen": state.images_seen,
        "preset": state.preset,
        "discriminator_sha256": weights.hexdigest(),
        "pictures_sha256": digest_of(split),
        "settings": settings.model_dump(mode="json", exclude={"rows"}),
        "seed": seed,
    }


def _kept(out: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """What an earlier run of the same measurement finished."""
    if out.exists():
        kept: dict[str, Any] = json.loads(out.read_text("utf-8"))
        if kept.get("of") == identity:
            _say(f"{out}: goes on after {', '.join(kept['rows']) or 'no rows'}")
            return kept
        other = [key for key, value in identity.items() if kept.get("of", {}).get(key) != value]
        raise SystemExit(f"{out} holds rows with other {', '.join(other)}; name another --out, or delete it")
    return {"of": identity, "rows": {}, "curve": {}}


def _write(out: Path, kept: dict[str, Any]) -> None:
    Folder(out.resolve().parent).write_json(out.name, kept)


def _picture(path: Path, measured: Measured) -> None:
    path.write_bytes(png(next(iter(measured.pictures.values()))))


def _beside(address: str, most: int) -> list[checkpoint.Checkpoint]:
    """Checkpoints in the folder of the one named, it included, spread evenly by number."""
    folder = Folder(str(Path(address).resolve().parent))
    last = checkpoint.images_of(Path(address).name)
    names = [name for name in checkpoint.names(folder) if checkpoint.images_of(name) <= last]
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).round().astype(int))
    return [checkpoint.load(folder, names[place]) for place in places]


def _print_table(rows: list[Row], settings: FeaturesSettings) -> None:
    table = Table("row", "features", "all labels", *(f"{k} a class" for k in settings.per_class), "C", "gradient", "s")
    for row in rows:
        few = [row.few.get(str(k)) for k in settings.per_class]
        table.add_row(
            row.name,
            f"{row.dimensions:,}",
            f"{row.accuracy:.2%}",
            *(_few(x) for x in few),
            "" if row.c is None else f"{row.c:.2g}",
            "" if row.gradient_norm is None else f"{row.gradient_norm:.1e}",
            f"{row.seconds:.0f}",
        )
    Console(highlight=False).print(table)


def _few(few: Few | None) -> str:
    if few is None:
        return ""
    return f"{few.mean:.2%}" + ("" if few.deviation is None else f" +- {few.deviation:.2%}")


def _say(text: str) -> None:
    _SAY.print(f"{time.monotonic() - _BEGAN:7.0f} s  {text}", soft_wrap=True)


if __name__ == "__main__":
    main()
