"""dcgan faces: what a recipe finds in some images, drawn on them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import typer
from pydantic import ValidationError
from rich.console import Console

from manifests import images as pictures
from pipelines.detectors import TRAITS
from pipelines.faces import Cut, FaceSettings, cut_faces, decoded_side_px, load_model
from pipelines.progress import Reporter
from pipelines.recipe import load_recipe
from pipelines.written import RecipeError
from pipelines.yunet import SHA256, get_model

_KEPT, _REFUSED = (40, 200, 40), (230, 40, 40)


def faces(
    images: Annotated[list[Path] | None, typer.Argument(help="Images, or folders of them")] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write the drawn-on images to")] = None,
    recipe: Annotated[str | None, typer.Option(help="Take the settings of this recipe's ingest.faces")] = None,
    detector: Annotated[str | None, typer.Option(help=" or ".join(TRAITS))] = None,
    score_min: Annotated[float | None, typer.Option(help="Least score")] = None,
    smallest_px: Annotated[int | None, typer.Option(help="Least box side, source pixels")] = None,
    sharpness_min: Annotated[float | None, typer.Option(help="Least sharpness of the training image")] = None,
    margin: Annotated[float | None, typer.Option(help="Share of the box added on each side")] = None,
    edge: Annotated[str | None, typer.Option(help="drop or shift squares that leave the image")] = None,
    roll: Annotated[bool | None, typer.Option("--roll/--no-roll", help="Turn faces so that the eyes are level")] = None,
    second_check: Annotated[
        bool | None, typer.Option("--second-check/--no-second-check", help="Of haar: drop what has no eye")
    ] = None,
    model: Annotated[str | None, typer.Option(help="YuNet's file; default: the one in the cache")] = None,
    image_px: Annotated[int | None, typer.Option(min=16, help="Side of the training images")] = None,
    get: Annotated[
        bool,
        typer.Option(
            "--get-model", help="Put YuNet's model into the cache and end: from the web, or from the FILE given instead"
        ),
    ] = False,
) -> None:
    """Draw the faces that are found on images: green with their score where kept, red with the reason where not.

    The thin square is what is cut out. Nothing is changed but in --out. To tune a recipe by eye.

    The detector yunet needs a model file: `dcgan faces --get-model` downloads it once into the cache (another address:
    DCGAN_FACE_MODEL_URL), `dcgan faces --get-model FILE` installs a copy of it.
    """
    console = Console(markup=False)
    if get:
        place = get_model(images[0] if images else None)
        console.print(f"{place}: sha256 {SHA256}, as it should be", highlight=False, soft_wrap=True)
        return
    if not images or out is None:
        raise typer.BadParameter("give images and --out DIR, or --get-model")
    given = {
        "detector": detector,
        "score_min": score_min,
        "smallest_px": smallest_px,
        "sharpness_min": sharpness_min,
        "margin": margin,
        "edge": edge,
        "roll": roll,
        "second_check": second_check,
        "model": model,
    }
    settings, size_px = _settings(recipe, {name: value for name, value in given.items() if value is not None})
    loaded = load_model(settings)
    files = list(_files(images))
    out.mkdir(parents=True, exist_ok=True)
    found = kept = 0
    with Reporter(console) as reporter, reporter.bar("faces", len(files)) as bar:
        for number, file in enumerate(files):
            bar.advance(1)
            try:
                drawn, cuts = _looked_at(file, settings, image_px or size_px, loaded)
            except pictures.ImageError as error:
                console.print(f"{file}: {error.reason.value}: {error}", highlight=False, soft_wrap=True)
                continue
            # By number: files of several folders may share a name.
            target = out / f"{number:04d}-{file.stem}.png"
            target.write_bytes(pictures.encode_image(drawn, "png"))
            found, kept = found + len(cuts), kept + sum(cut.reason is None for cut in cuts)
            said = "; ".join(_told(cut) for cut in cuts) or "no face"
            console.print(f"{target.name}: {said}", highlight=False, soft_wrap=True)
    console.print(f"{found:,} faces in {len(files):,} images, {kept:,} kept; drawn in {out}", highlight=False)


def _settings(recipe: str | None, given: dict[str, Any]) -> tuple[FaceSettings, int]:
    ingest = load_recipe(recipe).ingest if recipe is not None else None
    before = ingest.faces.model_dump() if ingest is not None and ingest.faces is not None else {}
    if "detector" in given and given["detector"] != before.get("detector"):
        before.pop("score_min", None)  # the detectors' scores have nothing to do with each other
    try:
        settings = FaceSettings.model_validate(before | given)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {e['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            for e in error.errors(include_url=False)
        )
        raise RecipeError(f"dcgan faces: {faults}") from error
    return settings, 64 if ingest is None else ingest.image_px


def _files(given: list[Path]) -> Iterator[Path]:
    for path in given:
        if path.is_dir():
            yield from sorted(file for file in path.rglob("*") if file.is_file() and not file.name.startswith("."))
        else:
            yield path


def _looked_at(
    file: Path, settings: FaceSettings, image_px: int, model: bytes | None
) -> tuple[npt.NDArray[np.uint8], list[Cut]]:
    data = file.read_bytes()
    header = pictures.read_header(data, pictures.Limits())
    # As ingest decodes it, so that the same is found.
    image = pictures.decode_rgb(data, header, decoded_side_px(header, settings, image_px))
    reduction = round(header.width / image.shape[1])
    cuts = cut_faces(image, settings, image_px, model, reduction)
    drawn = np.ascontiguousarray(image)
    for cut in reversed(cuts):  # the surest on top
        _draw(drawn, cut, reduction)
    return drawn, cuts


def _draw(image: npt.NDArray[np.uint8], cut: Cut, reduction: int) -> None:
    colour = _KEPT if cut.reason is None else _REFUSED
    line = max(1, min(image.shape[:2]) // 250)
    left, top, width, height = (side // reduction for side in cut.box_px)
    cv2.rectangle(image, (left, top), (left + width, top + height), colour, 2 * line)
    corners = cv2.boxPoints(_turned_square(cut, reduction))
    cv2.polylines(image, [np.rint(corners).astype(np.int32)], True, colour, line)
    if cut.landmarks_px is not None:
        for x, y in np.reshape(cut.landmarks_px, (5, 2)) / reduction:
            cv2.circle(image, (round(x), round(y)), line + 1, (40, 120, 255), -1)
    words = f"{cut.score:.2f}" if cut.reason is None else f"{cut.score:.2f} {cut.reason.value}"
    place = (max(0, left), max(12 * line, top - 4))
    for of, thickness in (((0, 0, 0), 3 * line), (colour, line)):
        cv2.putText(image, words, place, cv2.FONT_HERSHEY_SIMPLEX, 0.4 * line, of, thickness, cv2.LINE_AA)


def _turned_square(cut: Cut, reduction: int) -> tuple[tuple[float, float], tuple[float, float], float]:
    left, top, side, _ = (value / reduction for value in cut.crop_px)
    return (left + side / 2, top + side / 2), (side, side), cut.roll_degrees


def _told(cut: Cut) -> str:
    box = ",".join(map(str, cut.box_px))
    return f"{box} score {cut.score:.3g} " + ("kept" if cut.reason is None else f"{cut.reason.value} ({cut.detail})")
