"""Encode: fit the autoencoder once, on a seeded sample of the thumbs, and write the code of every sample."""

import hashlib
import heapq
import time
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup import autoencoder, codes
from dedup.autoencoder import ENCODER_FILE
from manifests.schema import CODES, THUMB_BYTES, Status
from manifests.store import Folder
from pipelines.parts import Item, run_parts, run_task
from pipelines.recipe import EncodeSettings
from pipelines.stages.context import (
    Context,
    Counts,
    frozen_parts,
    part_name,
    part_progress,
    part_tables,
    plants_name,
    unfinished_parts,
)
from pipelines.stages.earlier import earlier_runs

FOLDER = "codes"
FIT_FILE = "fit.json"
PLANT_CODES = pa.schema([*CODES, pa.field("change", pa.string(), nullable=False)])


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) parts."""
    return part_progress(context, FOLDER)


def run(context: Context) -> Counts:
    """Fit the autoencoder, or take that of the earlier runs to compare with, and write codes/part-*.parquet."""
    samples, folder = context.run.child("samples"), context.run.child(FOLDER)
    settings = context.recipe.encode
    parts = frozen_parts(context.run)
    numbers = [part.number for part in parts]
    against = earlier_runs(context.recipe)
    if against and not folder.exists(ENCODER_FILE):
        folder.write_json(FIT_FILE, {"images": 0, "losses": [], "seconds": 0.0, "taken_from": against[0].address})
        folder.write_bytes(ENCODER_FILE, against[0].child(FOLDER).read_bytes(ENCODER_FILE))
    if not folder.exists(ENCODER_FILE):
        context.reporter.say("encode: fitting the autoencoder")
        run_task(fit_encoder, samples, folder, settings, context.recipe.seed, numbers)
    left = unfinished_parts(folder, numbers)
    items = [{"number": part.number, "records": part.range.records} for part in parts if part.number in left]
    total = sum(part.range.records for part in parts)
    work = partial(encode_part, samples, folder)
    with context.reporter.bar("encode", total, done=total - sum(item["records"] for item in items)) as bar:
        for done in run_parts(work, items, folder, context.recipe.resources.workers):
            bar.advance(done["records"])
    counts = folder.read_json(FIT_FILE)
    return {"codes": sum(len(table) for table in part_tables(folder, numbers, ["flat"])), "fitted_on": counts["images"]}


def fit_encoder(samples: Folder, folder: Folder, settings: EncodeSettings, seed: int, numbers: list[int]) -> None:
    """Fit the autoencoder on the samples whose hash is smallest, so that parts and their order don't matter.

    Raises:
        ValueError: no image was kept, so there is nothing to fit on.
    """
    began = time.perf_counter()
    wanted = _smallest_hashes(samples, numbers, seed, settings.autoencoder.fit_images)
    if not wanted:
        raise ValueError(
            "no image was kept by ingest, so there is nothing to fit the autoencoder on; "
            "look at the reasons in samples/, loosen ingest.filters and run with --redo ingest"
        )
    place = {sample: i for i, sample in enumerate(wanted)}
    thumbs = np.empty((len(wanted), THUMB_BYTES), np.uint8)
    value_set = pa.array(wanted)
    for table in part_tables(samples, numbers, ["sample_id", "status", "centre_thumb"]):
        chosen = table.filter(pc.and_(_kept(table), pc.is_in(table["sample_id"], value_set=value_set)))
        for sample, thumb in zip(chosen["sample_id"].to_pylist(), thumb_rows(chosen["centre_thumb"]), strict=True):
            thumbs[place[sample]] = thumb
    fitted = autoencoder.fit(thumbs, settings.autoencoder, seed=seed, threads=settings.fit_threads)
    seconds = round(time.perf_counter() - began, 2)
    folder.write_json(FIT_FILE, {"images": len(wanted), "losses": fitted.losses, "seconds": seconds})
    # Last: it says that the fit is finished.
    folder.write_bytes(ENCODER_FILE, autoencoder.save_encoder(fitted.encoder))


def _smallest_hashes(samples: Folder, numbers: list[int], seed: int, count: int) -> list[str]:
    """Ids of the `count` kept samples of smallest hash, in order of it."""
    # A heap of negated hashes: memory is bounded by `count`, however many samples there are.
    heap: list[tuple[int, str]] = []
    held: set[str] = set()
    for table in part_tables(samples, numbers, ["sample_id", "status"]):
        for sample in table.filter(_kept(table))["sample_id"].to_pylist():
            digest = hashlib.sha256(f"fit\0{seed}\0{sample}".encode()).digest()
            entry = (-int.from_bytes(digest[:8], "big"), sample)
            if sample in held or (len(heap) == count and entry <= heap[0]):
                continue
            held.add(sample)
            if len(heap) < count:
                heapq.heappush(heap, entry)
            else:
                held.discard(heapq.heappushpop(heap, entry)[1])
    return [sample for _, sample in sorted(heap, reverse=True)]


def _kept(table: pa.Table) -> Any:
    return pc.equal(table["status"], Status.KEPT.value)


def thumb_rows(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """A thumb column without nulls as uint8[N, 3072]."""
    if len(column) == 0:
        return np.empty((0, THUMB_BYTES), np.uint8)
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(len(column), THUMB_BYTES)


def encode_part(samples: Folder, folder: Folder, item: Item) -> Item:
    """Write the codes of one part's kept samples, and of its planted near-duplicates."""
    encoder = autoencoder.load_encoder(folder.read_bytes(ENCODER_FILE))
    number = item["number"]
    plants = samples.read_table(plants_name(number), ["sample_id", "change", "centre_thumb"])
    table = samples.read_table(part_name(number), ["sample_id", "status", "centre_thumb"])
    table = table.filter(_kept(table))
    folder.write_table(plants_name(number), _coded(encoder, plants, PLANT_CODES))
    folder.write_table(part_name(number), _coded(encoder, table, CODES))
    return {"number": number, "records": item["records"]}


def _coded(encoder: autoencoder.Encoder, table: pa.Table, schema: pa.Schema) -> pa.Table:
    thumbs = thumb_rows(table["centre_thumb"])
    coded = codes.encode(encoder, thumbs)
    turned = codes.mirror_bits(encoder)
    mirrored = codes.encode(encoder, codes.mirrored(thumbs)) if turned is None else coded ^ turned
    columns: dict[str, Any] = {
        "sample_id": table["sample_id"],
        "code": pa.array(codes.pack(coded), pa.binary(16)),
        "mirror_code": pa.array(codes.pack(mirrored), pa.binary(16)),
        "flat": pa.array(codes.flat(thumbs)),
    }
    if "change" in schema.names:
        columns["change"] = table["change"]
    return pa.table({name: columns[name] for name in schema.names}, schema=schema)
