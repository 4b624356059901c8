"""Ingest: every record is read and decoded once, and all that later stages need of it is made while it is in hand."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import get_context
from typing import Any

import cv2
import pyarrow as pa
import pyarrow.compute as pc

from manifests.denied import NOTHING_DENIED, DenyList, read_denied
from manifests.schema import Reason
from manifests.store import Folder
from pipelines import faces
from pipelines.denied import taken_down, without_copies
from pipelines.parts import Item, run_parts
from pipelines.recipe import IngestSettings, Recipe
from pipelines.samples import Looked, Planting, bare_row, look, tables
from pipelines.sources import PARTS, Part, Record, Source, SourceError, read_part, without_denied
from pipelines.stages.context import (
    PARTS_FILE,
    Context,
    Counts,
    frozen_parts,
    part_name,
    part_progress,
    part_tables,
    plants_name,
    unfinished_parts,
)

FOLDER = "samples"


def is_prepared(run: Folder) -> bool:
    """Whether the list of parts is frozen."""
    return run.child(FOLDER).exists(PARTS_FILE)


def prepare(run: Folder, recipe: Recipe, parts: list[Part]) -> None:
    """Freeze the list of parts, so that it is the same however often the run is taken up again.

    What was taken down is not named in it.
    """
    denied = read_denied([run], recipe.ingest.deny)
    rows = [without_denied(recipe.sources, part, denied).row() for part in parts]
    table = pa.Table.from_pylist(rows, schema=PARTS)
    run.child(FOLDER).write_table(PARTS_FILE, table)


def check_ready(settings: IngestSettings) -> None:
    """Return where ingest has all that it needs besides its sources.

    Raises:
        ModelError: the face detector's model is missing, or is another one; the message names what mends it.
        DenyListError: a deny list can't be read.
    """
    if settings.faces is not None:
        faces.check_ready(settings.faces)
    read_denied((), settings.deny)


def identity(settings: IngestSettings) -> dict[str, Any]:
    """What of the settings decides the result: not where a model lies, and nothing of faces where none are cut."""
    described: dict[str, Any] = settings.model_dump(mode="json", exclude={"faces", "deny"})
    if settings.deny:
        # By what they hold, not by where they lie.
        described["deny"] = read_denied((), settings.deny).fingerprint
    if settings.faces is not None:
        described["faces"] = faces.identity(settings.faces)
    return described


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) parts."""
    return part_progress(context, FOLDER)


def run(context: Context) -> Counts:
    """Read every record of every source and write samples/part-*.parquet."""
    parts = frozen_parts(context.run)
    folder = context.run.child(FOLDER)
    settings = context.recipe.ingest
    total = sum(part.range.records for part in parts)
    planting = Planting(context.recipe.seed, min(1.0, settings.plant_sources / max(1, total)))
    # The model's bytes travel with the work, so that other nodes need no file of it.
    model = None if settings.faces is None else faces.load_model(settings.faces)
    denied = read_denied([context.run], settings.deny)
    work = partial(ingest_part, folder, context.recipe.sources, settings, planting, model=model, denied=denied)
    left = unfinished_parts(folder, [part.number for part in parts])
    items = [part.row() for part in parts if part.number in left]
    already = total - sum(item["records"] for item in items)
    with context.reporter.bar("ingest", total, done=already) as bar:
        apart = partial(work, isolated=True)
        for done in run_parts(work, items, folder, context.recipe.resources.workers, careful_work=apart):
            bar.advance(done["records"])
    return counted(folder, [part.number for part in parts], settings.faces is not None)


def counted(folder: Folder, numbers: list[int], with_faces: bool) -> Counts:
    """How many records and faces of these parts ended how: read = kept + used + dropped + failed, of images."""
    images_of: Counter[str] = Counter()
    faces_of: Counter[str] = Counter()
    for table in part_tables(folder, numbers, ["status", "parent_id"]):
        is_face = pc.is_valid(table["parent_id"])
        faces_of.update(table.filter(is_face)["status"].to_pylist())
        images_of.update(table.filter(pc.invert(is_face))["status"].to_pylist())
    if not with_faces:
        return {"read": images_of.total(), **{status: images_of[status] for status in ("kept", "dropped", "failed")}}
    return {
        "read": images_of.total(),
        **{status: images_of[status] for status in ("used", "dropped", "failed")},
        "faces": faces_of.total(),
        "kept": faces_of["kept"],
    }


def ingest_part(
    folder: Folder,
    sources: tuple[Source, ...],
    settings: IngestSettings,
    planting: Planting,
    item: Item,
    isolated: bool = False,
    model: bytes | None = None,
    denied: DenyList = NOTHING_DENIED,
) -> Item:
    """Write the file of one part, and that of its planted near-duplicates.

    `isolated`: look at the images in a process of their own, so that one which kills it can be named. `model`: of the
    face detector, as `faces.load_model` gives it. `denied`: what is left out.

    Raises:
        SourceError: the source no longer holds what the list of parts says.
    """
    cv2.setNumThreads(1)
    part = Part.from_row(item)
    look_at = partial(look, settings=settings, planting=planting, model=model)
    records = (taken_down(part.source, record, denied) for record in read_part(sources, part))
    looked = list(
        _look_apart(records, part.source, look_at) if isolated else (look_at(part.source, r) for r in records)
    )
    if len(looked) != part.range.records:
        raise SourceError(
            f"source {part.source}, part {part.number}: expected {part.range.records} records, got {len(looked)}; "
            "the source changed since the run began: start a new run folder"
        )
    samples, plants = tables(without_copies(part.source, looked, denied))
    # The part's own file comes last: it says that the part is finished.
    folder.write_table(plants_name(part.number), plants)
    folder.write_table(part_name(part.number), samples)
    return {"number": part.number, "records": len(looked)}


def _look_apart(records: Iterable[Record], source: str, look_at: "partial[Looked]") -> Iterator[Looked]:
    """Look at each record in a child process. One that kills it is a failed record, and a new child goes on."""
    pool = _child()
    try:
        for record in records:
            # Twice: a child may also have died of something else, such as a lack of memory.
            for _ in range(2):
                try:
                    looked = pool.submit(look_at, source, record).result()
                    break
                except BrokenProcessPool:
                    pool.shutdown()
                    pool = _child()
            else:
                died = "the decoder's process died of these bytes, twice"
                looked = Looked(bare_row(source, record, Reason.CRASHED, died), [])
            yield looked
    finally:
        pool.shutdown()


def _child() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,))
