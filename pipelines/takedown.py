"""Takedown of a run: who is meant, and every place of the run folder without them."""

import hashlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow.fs import FileSelector, FileType

from dedup.autoencoder import ENCODER_FILE
from manifests.denied import (
    ALIKE_BITS,
    add_denied,
    copies_hashes,
    is_flat,
    person_sha256,
    read_denied,
    url_sha256,
)
from manifests.forget import Affected, find_affected, purge_tables, rewrite_shards, touched_shards
from manifests.pages import write_report
from manifests.perceptual import VIEWS
from manifests.store import Folder
from pipelines import evaluation, faces
from pipelines.crawl.denied import purge_fetched
from pipelines.crawl.plan import plan_names
from pipelines.denied import look_like
from pipelines.lists import KEEP_FILE, write_lists
from pipelines.measurements import MEASUREMENTS
from pipelines.recipe import Recipe
from pipelines.run import RunError
from pipelines.samples import Looked, Planting, look
from pipelines.sources import PARTS, Record, without_denied
from pipelines.stages import STAGE_FILE, STARTED_FILE, evaluate
from pipelines.stages.context import PARTS_FILE, frozen_parts
from pipelines.stages.manifest import MANIFEST_FILE, write_manifest
from training import checkpoint
from training.outputs import BEST, CHECKPOINTS

Mask = npt.NDArray[np.bool_]
_REVIEW = "review"
# Temporary names of files that are written, and logs of parts that are fetched: none of them is in use any more.
_HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}|\.?log-\d+\.bin")


@dataclass(frozen=True)
class Asked:
    """What is to be taken down; one of these."""

    person: str | None = None
    url: str | None = None
    image: bytes | None = None
    id: str | None = None


@dataclass(frozen=True)
class Plan:
    """What a takedown reaches, by count; shards by name.

    checkpoints: of networks that were trained on an image of it; encoder: whether the hash's network may have been
    """

    affected: Affected
    shards: list[str]
    checkpoints: list[str]
    encoder: bool


def plan(run: Folder, recipe: Recipe, asked: Asked) -> Plan:
    """What would be taken down.

    Raises:
        RunError: the run has no such id, or is not done with what it fetches.
    """
    _check_fetched(run)
    if not run.child("samples").exists(PARTS_FILE):
        raise RunError(f"{run} holds no images yet; take down what it holds once ingest is done")
    shown = None if asked.image is None else _looks(asked.image, recipe)

    def names(table: pa.Table) -> Mask:
        return _asked(table, asked, shown)

    affected = find_affected(run, names, asked.person)
    if not affected.rows and _is_denied(run, asked, shown):
        affected = Affected([], 0, 0, 0, frozenset())  # what a takedown that was cut off left is still to be done
    elif not affected.rows:
        if asked.id is not None:
            raise RunError(f"{run} holds no image, face or sample of the id {asked.id}; ids stand in manifest.parquet")
        affected = Affected([_unknown(asked, shown)], 0, 0, 0, frozenset())
    shards = touched_shards(run, affected.kept)
    trained = any(name.startswith("train") for name in shards)
    training = run.child("training")
    checkpoints = [
        f"{folder}/{name}"
        for folder in (CHECKPOINTS, BEST)
        for name in checkpoint.names(training.child(folder))
        if trained
    ]
    encoder = bool(affected.images) and run.child("codes").exists(ENCODER_FILE)
    return Plan(affected, shards, checkpoints, encoder)


def _is_denied(run: Folder, asked: Asked, shown: list[Looked] | None) -> bool:
    """Whether the run's own list holds what is asked for already."""
    denied = read_denied([run])
    if asked.id is not None:
        return asked.id in denied.record_ids or asked.id in denied.sample_ids
    digest = None if asked.image is None else hashlib.sha256(asked.image).hexdigest()
    if denied.holds("", digest, asked.url, asked.person):
        return True
    hashes = np.array(_hashes(shown or []), np.uint64).reshape(-1, 2 * len(VIEWS))
    return len(look_like(hashes, denied)) > 0


def _check_fetched(run: Folder) -> None:
    folder = run.child("fetched")
    if plan_names(folder) and not folder.exists(STAGE_FILE):
        raise RunError(f"{run} is not done with fetching; finish the stage fetch first (dcgan run --until fetch)")


def _looks(data: bytes, recipe: Recipe) -> list[Looked]:
    """The image, and the faces in it, as the run would have seen them."""
    settings = recipe.ingest
    model = None if settings.faces is None else faces.load_model(settings.faces)
    seen = look("asked", Record("asked", data), settings, Planting(0, 0.0), model)
    return [one for one in (seen, *seen.faces) if one.row["whole_thumb"] is not None or one.row["phash"] is not None]


def _asked(table: pa.Table, asked: Asked, shown: list[Looked] | None) -> Mask:
    """Which rows are asked for, bool[N]."""
    if asked.person is not None:
        named = person_sha256(asked.person)
        names = pc.unique(table["person"]).to_pylist()
        wanted = [name for name in names if name is not None and person_sha256(name) == named]
        return _mask(pc.is_in(table["person"], pa.array(wanted, pa.string())))
    if asked.url is not None:
        return _mask(pc.equal(table["url"], asked.url.strip()))
    if asked.id is not None:
        return _mask(pc.or_kleene(pc.equal(table["record_id"], asked.id), pc.equal(table["sample_id"], asked.id)))
    assert asked.image is not None
    assert shown is not None
    same = _mask(pc.equal(table["sha256"], hashlib.sha256(asked.image).hexdigest()))
    phashes = pc.fill_null(table["phash"], 0).to_numpy()
    alike = np.zeros(len(table), np.bool_)
    for of_view in _hashes(shown):
        alike |= np.bitwise_count(phashes ^ np.uint64(of_view)) <= ALIKE_BITS
    return same | (alike & _mask(pc.is_valid(table["phash"])))


def _mask(found: pa.ChunkedArray) -> Mask:
    return np.asarray(pc.fill_null(found, False).to_numpy(), np.bool_)


def _hashes(shown: list[Looked]) -> list[int]:
    """What copies of what is shown may hash like."""
    found: list[int] = []
    for one in shown:
        thumb, straight, mirrored = (one.row[name] for name in ("whole_thumb", "phash", "phash_mirror"))
        if thumb is not None and not is_flat(thumb):
            found += copies_hashes(thumb[None]).ravel().tolist()
        elif thumb is None:
            found += [straight, mirrored] * len(VIEWS)
    return found


def _unknown(asked: Asked, shown: list[Looked] | None) -> dict[str, Any]:
    """The row of the deny list of what the run does not hold."""
    digest = None if asked.image is None else hashlib.sha256(asked.image).hexdigest()
    named = None if asked.person is None else person_sha256(asked.person)
    url = None if asked.url is None else url_sha256(asked.url)
    return {
        # No record's: it only has to be one of a kind.
        "record_id": hashlib.sha256(f"asked\0{digest}\0{named}\0{url}".encode()).hexdigest(),
        "sample_id": None,
        "sha256": digest,
        "url_sha256": url,
        "person_sha256": named,
        "phashes": None if shown is None else _hashes(shown[:1]) or None,
    }


def take_down(run: Folder, recipe: Recipe, planned: Plan) -> list[str]:
    """Take all of it out of the run, after the deny list holds it; return the names of the tars written anew.

    What was left undone by one that was cut off is done too.
    """
    _check_fetched(run)
    denied = add_denied(run, planned.affected.rows)
    _delete_leftovers(run)
    if run.child("shards").exists(STAGE_FILE):
        rewritten = rewrite_shards(run, denied, recipe.ingest.image_format, recipe.ingest.image_px, recipe.seed)
    else:
        rewritten = _drop_unfinished_shards(run)
    if planned.affected.images:
        # Its pairs are of other groups than there are now, and its page may show what is taken down.
        run.child(_REVIEW).delete_all()
        for name, measurement in MEASUREMENTS.items():
            if measurement.shards:  # its pictures show images of the shards; the run takes it again
                evaluation.delete(run.child(evaluate.FOLDER), name)
    # The page shows thumbs of samples, so it is made anew once they are gone; until then there is none.
    had_report = any(run.child("report").exists(name) for name in ("index.html", STAGE_FILE))
    run.child("report").delete("index.html")
    run.delete(MANIFEST_FILE)
    purge_fetched(run.child("fetched"), denied)
    parts = frozen_parts(run)
    left = [without_denied(recipe.sources, part, denied) for part in parts]
    if left != parts:
        table = pa.Table.from_pylist([part.row() for part in left], schema=PARTS)
        run.child("samples").write_table(PARTS_FILE, table)
    purge_tables(run, denied)
    if run.child("groups").exists("quality.json"):
        write_manifest(run, [part.number for part in parts])
        if run.exists(KEEP_FILE):
            write_lists(run)
    if had_report:
        write_report(run)
    return rewritten


def _delete_leftovers(run: Folder) -> None:
    """Delete what processes that were killed had half written: it may hold any image, and no one reads it."""
    for info in run.filesystem.get_file_info(FileSelector(run.path(), recursive=True)):
        if info.type == FileType.File and _HALF_WRITTEN.fullmatch(info.base_name):
            run.filesystem.delete_file(info.path)


def _drop_unfinished_shards(run: Folder) -> list[str]:
    """Delete the tars of a stage that is not done, and its plan: it has no index to find what they hold by."""
    folder = run.child("shards")
    for name in folder.names():
        if name != STARTED_FILE:
            folder.delete(name)
    return []
