"""Earlier runs that a run is compared with: what they must hold, what they are known by, and whose their images are."""

import hashlib
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from manifests.schema import CODES, SAMPLES
from manifests.store import Folder
from pipelines.recipe import KeepSettings, Recipe
from pipelines.sources import SourceError
from pipelines.stages.context import frozen_parts, part_name

ENCODER = ("codes", "autoencoder.npz")
_NEEDED = ("recipe.yaml", "/".join(ENCODER), "samples/stage.json", "codes/stage.json", "groups/stage.json")

ELSEWHERE = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("run", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("source_key", pa.string(), nullable=False),
    ]
)
"""groups/against.parquet: the keepers that are of an earlier run, by sample id."""


def earlier_runs(recipe: Recipe) -> tuple[Folder, ...]:
    """The earlier runs, in the recipe's order.

    Raises:
        SourceError: one is no finished run, or was written by another version; or they don't share one encoder.
    """
    runs = tuple(Folder(address) for address in recipe.deduplicate.against)
    for run in runs:
        missing = [name for name in _NEEDED if not run.exists(name)]
        if missing:
            raise SourceError(
                f"deduplicate.against: {run} is no run whose stage deduplicate is done, {', '.join(missing)} is not "
                "there; finish it, or name another"
            )
        first = part_name(frozen_parts(run)[0].number)
        for stage, folder, schema in (("ingest", "samples", SAMPLES), ("encode", "codes", CODES)):
            with run.child(folder).open_input(first) as file:
                if not set(schema.names) <= set(pq.read_schema(file).names):
                    raise SourceError(
                        f"deduplicate.against: {run} was written by another version of this program; do it again with "
                        f"--redo {stage}"
                    )
    for run in runs[1:]:
        if encoder_sha256(run) != encoder_sha256(runs[0]):
            raise SourceError(
                f"deduplicate.against: {runs[0]} and {run} have codes of two encoders, which can't be compared; do "
                "one of them again with the other in its own deduplicate.against"
            )
    return runs


def keep_settings(run: Folder) -> KeepSettings:
    """By which images an earlier run kept those that it kept."""
    described = yaml.safe_load(run.read_bytes("recipe.yaml"))["recipe"]
    return KeepSettings.model_validate(described["deduplicate"]["keep"])


def encoder_sha256(run: Folder) -> str:
    """The sha256 of a run's encoder."""
    folder, name = ENCODER
    return hashlib.sha256(run.child(folder).read_bytes(name)).hexdigest()


def identity(run: Folder) -> dict[str, Any]:
    """What tells that an earlier run is still the same: its settings, and figures that other images would change."""
    prints = {folder: run.child(folder).read_json("stage.json")["fingerprint"] for folder in ("codes", "groups")}
    groups = hashlib.sha256(run.child("groups").read_bytes("groups.parquet")).hexdigest()
    samples = run.child("groups").read_json("quality.json")["samples"]
    return prints | {"encoder": encoder_sha256(run), "groups": groups, "samples": samples}


def whose(runs: Sequence[Folder], record_ids: Sequence[set[str]]) -> pa.Table:
    """Where records of earlier runs come from, as an ELSEWHERE table; `record_ids`: of each run."""
    tables = [ELSEWHERE.empty_table()]
    for run, ids in zip(runs, record_ids, strict=True):
        wanted = pa.array(sorted(ids), pa.string())
        for part in frozen_parts(run) if ids else ():
            columns = ["sample_id", "record_id", "source", "source_key"]
            table = run.child("samples").read_table(part_name(part.number), columns)
            table = table.filter(pc.is_in(table["record_id"], wanted))
            table = table.append_column("run", pa.array([run.address] * len(table), pa.string()))
            tables.append(table.select(ELSEWHERE.names).cast(ELSEWHERE))
    return pa.concat_tables(tables).sort_by("sample_id")
