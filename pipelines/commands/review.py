"""dcgan review: pairs of images to judge by eye, blind, and what the answers say of the de-duplication."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import typer
from pydantic import ValidationError
from rich.console import Console

from dedup.changes import CHANGES, SMALLEST_PX, apply_change
from dedup.quality import wilson_interval
from manifests import images
from manifests.pages import write_report
from manifests.pages.review import answers_command, review_page
from manifests.pages.template import image_uri
from manifests.review import (
    ANSWERS_FILE,
    FOLDER,
    PAIRS_FILE,
    TRUSTED_SHARE,
    Figures,
    Kind,
    Picture,
    Review,
    ReviewError,
    choose_pairs,
    figures,
    groups_sha256,
    read_answers,
)
from manifests.store import Folder
from pipelines.run import RunError

PAGE_FILE = "review.html"
# Shown beside its own image, a PNG of the same pixels would be no test of the reviewer.
CONTROL_CHANGES = [name for name in CHANGES if name != "png"]
_BATCH_ROWS = 1024  # that are in memory with their images


def review(
    run: Annotated[str, typer.Argument(help="The run folder")],
    pairs: Annotated[
        int, typer.Option(min=4, max=2000, help="How many pairs: half removed images, half controls")
    ] = 40,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same pairs in the same order")] = 0,
    out: Annotated[Path | None, typer.Option(help="The page to write; default: RUN/review/review.html")] = None,
    answers: Annotated[
        Path | None,
        typer.Option(help="Read what the page saved into the run and its audit", exists=True, dir_okay=False),
    ] = None,
) -> None:
    """Write a page of image pairs to judge by eye, or read its answers with --answers.

    Half of the pairs are removed images beside their keepers, those that the verdict was least sure of; half are
    controls whose answer is known. The page does not tell which. It works offline and by keyboard alone.
    """
    folder = Folder(run)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    try:
        lines = _write_page(folder, pairs, seed, out) if answers is None else _read_back(folder, answers)
        for line in lines:
            console.print(line)
    except (ReviewError, images.ImageError) as error:
        raise RunError(str(error)) from error


def _write_page(run: Folder, pairs: int, seed: int, out: Path | None) -> Iterator[str]:
    chosen = choose_pairs(run, pairs, seed, CONTROL_CHANGES)
    folder = run.child(FOLDER)
    _keep_unread(run, chosen)
    page = review_page(chosen.id, list(picture_pairs(run, chosen)), run.address)
    home, name = (folder, PAGE_FILE) if out is None else (Folder(out.parent), out.name)
    folder.write_json(PAIRS_FILE, chosen.model_dump(mode="json"))
    home.write_bytes(name, page.encode())
    border = len(chosen.numbers(Kind.BORDER))
    yield (
        f"{len(chosen.pairs):,} pairs: the {border:,} least sure of {chosen.removed:,} removals, and "
        f"{len(chosen.pairs) - border:,} controls"
    )
    yield f"page: {home.path(name)}"
    yield f"Open it in a browser, judge, save, then: {answers_command(run.address, chosen.id)}"


def _keep_unread(run: Folder, chosen: Review) -> None:
    """Refuse to draw other pairs while a person may be judging the run's."""
    folder = run.child(FOLDER)
    before = _review_of(run) if folder.exists(PAIRS_FILE) else None
    if before is None or before.id == chosen.id or before.groups_sha256 != chosen.groups_sha256:
        return
    read = folder.read_json(ANSWERS_FILE)["review"] if folder.exists(ANSWERS_FILE) else None
    if read != before.id:
        raise ReviewError(
            f"{run} has a review of {len(before.pairs)} pairs with seed {before.seed} whose answers are not read yet; "
            f"read them with --answers FILE, or delete {folder.path(PAIRS_FILE)} to give them up"
        )


def _review_of(run: Folder) -> Review:
    """The review that the run's page shows.

    Raises: ReviewError where there is none.
    """
    folder = run.child(FOLDER)
    if not folder.exists(PAIRS_FILE):
        raise ReviewError(f"{run} has no review to answer; make its page first: dcgan review {run}")
    try:
        return Review.model_validate_json(folder.read_bytes(PAIRS_FILE))
    except ValidationError as error:
        raise ReviewError(
            f"{folder.path(PAIRS_FILE)} was written by another version of this program, or changed by hand; delete it "
            "and make a new page"
        ) from error


def _read_back(run: Folder, file: Path) -> Iterator[str]:
    asked = _review_of(run)
    if not run.child("groups").exists("groups.parquet") or groups_sha256(run) != asked.groups_sha256:
        raise ReviewError(
            f"{run} was de-duplicated again since its review was drawn, so the answers are about other groups; "
            "make a new page and judge that"
        )
    said = read_answers(file.read_bytes(), asked)
    found = figures(asked, said, wilson_interval)
    run.child(FOLDER).write_json(
        ANSWERS_FILE,
        {
            "review": asked.id,
            "groups_sha256": asked.groups_sha256,
            "figures": found,
            "answers": {str(number): said[number] for number in sorted(said)},
        },
    )
    if run.child("report").exists("index.html"):
        write_report(run)
    yield from _told(found)
    if run.child("report").exists("index.html"):
        yield f"audit page: {run.child('report').path('index.html')}"


def _told(found: Figures) -> Iterator[str]:
    border, same, different = found["border"], found["same"], found["different"]
    low, high = border["interval"]
    if border["judged"]:
        yield (
            f"{border['different']:,} of {border['judged']:,} removals at the border judged different: false-positive "
            f"rate {border['rate']:.1%}, 95 % interval {low:.1%} to {high:.1%}"
        )
        if border["judged"] < found["removed"]:
            yield f"the least sure of {found['removed']:,} removals, so over all of them an upper bound"
    else:
        yield "no removal was judged, so there is no false-positive rate"
    yield (
        f"controls judged rightly: {same['right']:,} of {same['judged']:,} known same, "
        f"{different['right']:,} of {different['judged']:,} known different"
    )
    if not found["trusted"]:
        yield f"fewer than {TRUSTED_SHARE:.0%} of the controls were judged rightly: these answers are not to be trusted"
    if found["left_open"]:
        yield f"left open, and not counted: {found['left_open']:,} of the pairs"


def picture_pairs(run: Folder, chosen: Review) -> Iterator[tuple[str, str]]:
    """Left and right of each pair as PNG data URIs, all encoded alike and each pair of one size."""
    wanted = {picture.sample_id for pair in chosen.pairs for picture in (pair.left, pair.right)}
    stored = _stored_images(run, wanted)
    for pair in chosen.pairs:
        yield _uri(_pixels(stored, pair.left)), _uri(_pixels(stored, pair.right))


def _stored_images(run: Folder, sample_ids: set[str]) -> dict[str, bytes]:
    """The encoded training images of some samples; reads images only of parts that hold one of them."""
    found: dict[str, bytes] = {}
    wanted = pa.array(sorted(sample_ids), pa.string())
    samples = run.child("samples")
    for name in samples.names():
        if not name.startswith("part-") or len(found) == len(sample_ids):
            continue
        ids = samples.read_table(name, ["sample_id"])["sample_id"]
        if not pc.any(pc.is_in(ids, wanted)).as_py():
            continue
        with samples.open_input(name) as file:
            for batch in pq.ParquetFile(file).iter_batches(_BATCH_ROWS, columns=["sample_id", "image"]):
                rows = pa.table(batch).filter(pc.is_in(batch.column("sample_id"), wanted)).drop_null()
                found |= zip(rows["sample_id"].to_pylist(), rows["image"].to_pylist(), strict=True)
    if missing := sample_ids - found.keys():
        raise ReviewError(
            f"{run}/samples holds no image of {len(missing):,} of {len(sample_ids):,} samples, such as {min(missing)}; "
            "do the run again with --redo ingest"
        )
    return found


def _pixels(stored: dict[str, bytes], picture: Picture) -> npt.NDArray[np.uint8]:
    """uint8[H, W, 3], RGB, of the size of the stored image."""
    data = stored[picture.sample_id]
    image = images.decode_rgb(data, images.read_header(data, images.Limits()))
    if picture.change is None:
        return image
    height, width = image.shape[:2]
    # Large enough that what is left of it after a change can be changed.
    larger = max(1.0, 2 * SMALLEST_PX / min(height, width))
    changed = apply_change(_resized(image, round(width * larger), round(height * larger)), picture.change)
    return _resized(changed, width, height)


def _resized(image: npt.NDArray[np.uint8], width: int, height: int) -> npt.NDArray[np.uint8]:
    if image.shape[:2] == (height, width):
        return image
    shrinks = image.shape[0] > height
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=way), np.uint8)


def _uri(image: npt.NDArray[np.uint8]) -> str:
    return image_uri(images.encode_image(image, "png"))
