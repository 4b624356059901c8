"""keep.txt and remove.csv: what to keep and what to remove, for those who don't read Parquet."""

import csv
import io
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from manifests.schema import Reason, Status
from manifests.store import Folder

KEEP_FILE = "keep.txt"
REMOVE_FILE = "remove.csv"
_COLUMNS = ["source", "source_key", "sample_id", "status", "reason", "detail", "keeper_id", "score"]
_REPEAT = "the same bytes"


def delete_lists(run: Folder) -> None:
    """Delete the lists of an earlier outcome; absent is fine."""
    run.delete(KEEP_FILE)
    run.delete(REMOVE_FILE)


def write_lists(run: Folder) -> None:
    """Write the two lists of a run that is de-duplicated. Images that could not be read stand in neither.

    keep.txt has a line for each image that stays: its source's path and, in it, the file's path, the tar member's name
    or the LMDB's key, as the manifest has it, with line breaks as \\n and \\r. remove.csv has a row for each image to
    remove: its path, its keeper's, the earlier run that the keeper is of (empty: of this one), how sure the verdict was
    (empty: the bytes are equal) and why. Both are in order of path.
    """
    manifest = run.read_table("manifest.parquet", _COLUMNS)
    kept = manifest.filter(pc.equal(manifest["status"], Status.KEPT.value))
    repeats = (Reason.EXACT_REPEAT.value, Reason.NEAR_DUPLICATE.value)
    removed = manifest.filter(pc.is_in(manifest["reason"], pa.array(repeats)))
    lines = (f"{_line(path)}\n" for path in sorted(_paths(run, kept)))
    run.write_bytes(KEEP_FILE, "".join(lines).encode("utf-8", "replace"))
    keepers = kept.filter(pc.is_in(kept["sample_id"], removed["keeper_id"].combine_chunks()))
    keeper_of = _elsewhere(run)
    for sample, path in zip(keepers["sample_id"].to_pylist(), _paths(run, keepers), strict=True):
        keeper_of[sample] = (path, "")
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "keeper", "keeper_run", "score", "why"])
    listed = zip(_paths(run, removed), *(removed[name].to_pylist() for name in _COLUMNS[4:]), strict=True)
    for path, reason, detail, keeper_id, score in sorted(listed, key=lambda row: str(row[0])):
        keeper, of = keeper_of[keeper_id]
        same = _REPEAT if score is None else f"{_REPEAT} as another to remove"
        why = "; ".join(filter(None, [same if reason == Reason.EXACT_REPEAT else None, detail]))
        rows.writerow([path, keeper, of, "" if score is None else f"{score:.4f}", why])
    run.write_bytes(REMOVE_FILE, text.getvalue().encode("utf-8", "replace"))


def _line(path: str) -> str:
    return path.replace("\n", "\\n").replace("\r", "\\r")


def _paths(run: Folder, rows: pa.Table) -> list[str]:
    within = _source_paths(run)
    return [
        f"{within.get(source, source)}/{key}"
        for source, key in zip(rows["source"].to_pylist(), rows["source_key"].to_pylist(), strict=True)
    ]


def _source_paths(run: Folder) -> dict[str, str]:
    """Where each source lies; one that lies nowhere goes by its name."""
    sources: list[dict[str, Any]] = yaml.safe_load(run.read_bytes("recipe.yaml"))["recipe"]["sources"]
    return {source["name"]: str(source.get("path", source["name"])).rstrip("/") for source in sources}


def _elsewhere(run: Folder) -> dict[str, tuple[str, str]]:
    """(path, run) of each keeper that is of an earlier run."""
    groups = run.child("groups")
    if not groups.exists("against.parquet"):
        return {}
    table = groups.read_table("against.parquet")
    found: dict[str, tuple[str, str]] = {}
    for address in table["run"].unique().to_pylist():
        rows = table.filter(pc.equal(table["run"], address))
        names = zip(rows["sample_id"].to_pylist(), _paths(Folder(address), rows), strict=True)
        found |= {sample: (path, address) for sample, path in names}
    return found
