"""Ingest: every record is read and decoded once, and all that later stages need of it is made while it is in hand."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from dedup.changes import CHANGES, SMALLEST_PX
from manifests import images, perceptual
from manifests.schema import PLANTS, SAMPLES, THUMB_PX, Reason, record_id, sample_id, status_of
from manifests.store import Folder
from pipelines import filters
from pipelines.parts import Item, run_parts
from pipelines.recipe import IngestSettings
from pipelines.sources import PARTS, Part, Record, Source, SourceError, read_part
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

_NO_VALUES: dict[str, Any] = dict.fromkeys(SAMPLES.names)

Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Planting:
    """Which samples get planted near-duplicates: those whose hash is below the share."""

    seed: int
    share: float

    def chosen(self, sample: str) -> bool:
        """Whether the sample is one of the few; comes of seed and id alone."""
        digest = hashlib.sha256(f"plant\0{self.seed}\0{sample}".encode()).digest()
        return int.from_bytes(digest[:7], "big") < self.share * (1 << 56)


@dataclass(slots=True)
class Looked:
    """A record that was looked at: its row but for the pHashes, which are made for a whole part at once."""

    row: dict[str, Any]
    plants: list[tuple[str, Rgb, Rgb]]  # change, centre thumb, whole thumb


def is_prepared(run: Folder) -> bool:
    """Whether the list of parts is frozen."""
    return run.child(FOLDER).exists(PARTS_FILE)


def prepare(run: Folder, parts: list[Part]) -> None:
    """Freeze the list of parts, so that it is the same however often the run is taken up again."""
    table = pa.Table.from_pylist([part.row() for part in parts], schema=PARTS)
    run.child(FOLDER).write_table(PARTS_FILE, table)


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
    work = partial(ingest_part, folder, context.recipe.sources, settings, planting)
    left = unfinished_parts(folder, [part.number for part in parts])
    items = [part.row() for part in parts if part.number in left]
    already = total - sum(item["records"] for item in items)
    with context.reporter.bar("ingest", total, done=already) as bar:
        apart = partial(work, isolated=True)
        for done in run_parts(work, items, folder, context.recipe.resources.workers, careful_work=apart):
            bar.advance(done["records"])
    return _counts(folder, [part.number for part in parts])


def _counts(folder: Folder, numbers: list[int]) -> Counts:
    counted: Counter[str] = Counter()
    for table in part_tables(folder, numbers, ["status"]):
        counted.update(table["status"].to_pylist())
    return {"read": counted.total(), **{status: counted[status] for status in ("kept", "dropped", "failed")}}


def ingest_part(
    folder: Folder,
    sources: tuple[Source, ...],
    settings: IngestSettings,
    planting: Planting,
    item: Item,
    isolated: bool = False,
) -> Item:
    """Write the file of one part, and that of its planted near-duplicates.

    `isolated`: look at the images in a process of their own, so that one which kills it can be named.

    Raises:
        SourceError: the source no longer holds what the list of parts says.
    """
    cv2.setNumThreads(1)
    part = Part.from_row(item)
    look_at = partial(look, settings=settings, planting=planting)
    records = read_part(sources, part)
    looked = list(
        _look_apart(records, part.source, look_at) if isolated else (look_at(part.source, r) for r in records)
    )
    if len(looked) != part.range.records:
        raise SourceError(
            f"source {part.source}, part {part.number}: expected {part.range.records} records, got {len(looked)}; "
            "the source changed since the run began: start a new run folder"
        )
    samples, plants = _tables(looked)
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
                looked = Looked(_bare_row(source, record, Reason.CRASHED, died), [])
            yield looked
    finally:
        pool.shutdown()


def _child() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=cv2.setNumThreads, initargs=(1,))


def _bare_row(source: str, record: Record, reason: Reason | None, detail: str | None) -> dict[str, Any]:
    row: dict[str, Any] = _NO_VALUES | {
        "record_id": record_id(source, record.key),
        "source": source,
        "source_key": record.key,
        "status": status_of(reason).value,
        "reason": reason.value if reason else None,
        "detail": detail,
        "facts": json.dumps(record.facts, sort_keys=True) if record.facts else None,
        "person": record.person,
        "person_certain": None if record.person is None else True,
        "url": record.url,
        "licence": record.licence,
    }
    if record.data is not None:
        digest = hashlib.sha256(record.data).hexdigest()
        row |= {"sha256": digest, "sample_id": sample_id(digest), "size_bytes": len(record.data)}
    return row


def look(source: str, record: Record, settings: IngestSettings, planting: Planting) -> Looked:
    """Everything that is made of one record. Whatever its bytes are, it is a row; a bad image is one with a reason."""
    if record.data is None:
        return Looked(_bare_row(source, record, record.reason, record.problem), [])
    row = _bare_row(source, record, None, None)
    try:
        header = images.read_header(record.data, settings.limits)
        row |= {"format": header.format, "width": header.width, "height": header.height}
        refused = filters.refuse(header, settings.filters)
        if refused is not None:
            return Looked(row | _refusal(*refused), [])
        image = images.decode_rgb(record.data, header, settings.image_px)
    except images.ImageError as error:
        return Looked(row | _refusal(error.reason, str(error)), [])
    square = images.Halvings(images.centre_square(image))
    crop = images.resize_area(square, settings.image_px)
    centre, whole = perceptual.thumbs(image, square)
    mean, deviation = images.mean_deviation(crop)
    row |= {
        "mean": mean,
        "deviation": deviation,
        "sharpness": images.sharpness(crop),
        "centre_thumb": centre,
        "whole_thumb": whole,
        "image": images.encode_image(crop, settings.image_format, settings.jpeg_quality),
    }
    plants = []
    if planting.chosen(row["sample_id"]) and min(image.shape[:2]) >= SMALLEST_PX:
        plants = [(name, *perceptual.thumbs(change(image))) for name, change in CHANGES.items()]
    return Looked(row, plants)


def _refusal(reason: Reason, detail: str) -> dict[str, Any]:
    # Whatever a decoder says, the ledger stays readable.
    return {"status": status_of(reason).value, "reason": reason.value, "detail": detail[:300]}


def _tables(looked: list[Looked]) -> tuple[pa.Table, pa.Table]:
    """The part's table and its plants' table."""
    rows = [entry.row for entry in looked]
    plants = [
        {"sample_id": entry.row["sample_id"], "change": change, "centre_thumb": centre, "whole_thumb": whole}
        for entry in looked
        for change, centre, whole in entry.plants
    ]
    for of in (rows, plants):
        _add_phashes([row for row in of if row["whole_thumb"] is not None])
    plants = [dict.fromkeys(PLANTS.names) | row for row in plants]
    return pa.Table.from_pylist(rows, schema=SAMPLES), pa.Table.from_pylist(plants, schema=PLANTS)


def _add_phashes(rows: list[dict[str, Any]]) -> None:
    """Fill in the pHashes of rows with thumbs, and turn the thumbs into bytes."""
    if not rows:
        return
    thumbs = np.stack([row["whole_thumb"] for row in rows]).reshape(-1, THUMB_PX, THUMB_PX, 3)
    straight, mirrored = perceptual.phashes(perceptual.luma(thumbs))
    for row, one, other in zip(rows, straight.tolist(), mirrored.tolist(), strict=True):
        row |= {
            "phash": one,
            "phash_mirror": other,
            "centre_thumb": row["centre_thumb"].tobytes(),
            "whole_thumb": row["whole_thumb"].tobytes(),
        }
