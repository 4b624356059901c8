"""dcgan export: a checkpoint's networks as safetensors and ONNX, with a card."""

from typing import Annotated

import cv2
import numpy as np
import pyarrow.compute as pc
import torch
import typer
from rich.console import Console

from manifests.shards import read_image
from manifests.store import Folder
from pipelines.commands.checkpoints import CheckpointName, check_empty, read_checkpoint
from training.endings import Untrainable
from training.export import FILES, ExportError
from training.export import export as write_files
from training.presets import Preset
from training.reading import read_classes
from training.samples import REFERENCE_IMAGES, Statistics


def export(
    folder: CheckpointName,
    out: Annotated[str, typer.Option(help="The folder to write, a path or a URI; it must be new or empty")],
    statistics: Annotated[
        Statistics,
        typer.Option(
            help="Of batch norm. standing: in G fixed, of one batch of 512, in D so with --images alone, else each "
            "batch's own; batch: each batch's own in both, as in training"
        ),
    ] = "standing",
    images: Annotated[
        str | None,
        typer.Option(
            metavar="SHARDS",
            help="Shards whose first 512 images give D fixed statistics; without them D keeps each batch's own",
        ),
    ] = None,
) -> None:
    """Write G and D as plain safetensors and as ONNX, with a README.md that says how to load them."""
    check_empty(Folder(out))
    if images is not None and statistics == "batch":
        raise ExportError(f"--images {images}: only --statistics standing takes statistics of images; leave one out")
    state = read_checkpoint(folder)
    preset = Preset.model_validate(state.preset)
    real = None if images is None else first_images(Folder(images), preset)
    labels = None
    if images is not None and real is not None and preset.classes:
        try:
            labels = read_classes(Folder(images), preset.classes)[: len(real)]
        except Untrainable as error:
            raise ExportError(str(error)) from error
    write_files(state, Folder(out), statistics, real, labels)
    Console(markup=False).print(f"{', '.join(FILES)}: {out}", highlight=False, soft_wrap=True)


def first_images(shards: Folder, preset: Preset) -> torch.Tensor:
    """The first training images of a data set, by shard and place.

    Returns:
        images: float32[N, C, size_px, size_px], -1..1, N up to 512.

    Raises:
        ExportError: there are no shards, or their images are not of the preset's size.
    """
    if not shards.exists("index.parquet"):
        raise ExportError(f"{shards} holds no index.parquet; name a run's shards, such as RUN/shards")
    index = shards.read_table("index.parquet", ["shard", "offset", "size_bytes", "split"])
    rows = index.filter(pc.field("split") == "train").sort_by([("shard", "ascending"), ("offset", "ascending")])
    grey = preset.image_channels == 1
    found = []
    for row in rows.slice(0, REFERENCE_IMAGES).to_pylist():
        data = np.frombuffer(read_image(shards, row["shard"], row["offset"], row["size_bytes"]), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR_RGB)
        if image is None or image.shape[:2] != (preset.size_px, preset.size_px):
            side = "no image" if image is None else f"{image.shape[1]}x{image.shape[0]}"
            raise ExportError(f"{shards}/{row['shard']}: an image is {side}, the checkpoint's are {preset.size_px} px")
        found.append(image.reshape(preset.size_px, preset.size_px, preset.image_channels))
    if len(found) < 2:
        raise ExportError(f"{shards} holds {len(found)} training images; statistics need 2 or more")
    pixels = torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)
    return pixels.to(torch.float32).div_(127.5).sub_(1.0)
