"""Deduplicate: exact repeats, then groups of near-duplicates; what is kept of each, and how wrong the verdict is."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dedup import codes as code_bits
from dedup import verdict
from dedup.groups import Groups, choose_keepers, find_groups, grouped, smallest_ids
from dedup.neighbours import distances
from dedup.quality import measure_plants, truth_figures, wilson_interval
from dedup.verdict import Seen
from manifests.schema import GROUPS, LEDGER, MANIFEST, Reason, Status
from manifests.store import Folder
from pipelines.parts import run_task
from pipelines.recipe import DeduplicateSettings
from pipelines.sources import Source
from pipelines.sources.drawn import DrawnSource, planted_table
from pipelines.sources.lsun import LsunSource
from pipelines.stages.context import Context, Counts, frozen_parts, part_name, plants_name

FOLDER = "groups"
MANIFEST_FILE = "manifest.parquet"
QUALITY_FILE = "quality.json"
# Rows of the manifest that are in memory at once.
_MANIFEST_ROWS = 100_000

_DECIDED = pa.schema(
    [MANIFEST.field(name) for name in ("sample_id", "status", "reason", "group_id", "keeper_id", "distance")]
)
"""groups/part-*.parquet: what was decided of each record of the part, in the order of the part."""

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Candidates:
    """Every sample that ingest kept, exact repeats left out, sorted by sample id."""

    sample_ids: npt.NDArray[np.bytes_]
    record_ids: npt.NDArray[np.bytes_]  # the lowest of the records that share the sample
    width: npt.NDArray[np.int32]
    height: npt.NDArray[np.int32]
    size_bytes: npt.NDArray[np.int64]
    seen: Seen


@dataclass(frozen=True)
class Decided:
    """What is known of the candidates once they are grouped."""

    groups: Groups
    keepers: Rows
    group_ids: npt.NDArray[np.bytes_]
    distance: npt.NDArray[np.uint8]  # code bits to the keeper
    in_group: npt.NDArray[np.bool_]  # of two or more


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) steps: groups, the parts' decisions, the manifest."""
    numbers = [part.number for part in frozen_parts(context.run)]
    names = set(context.run.child(FOLDER).names())
    finished = sum(part_name(number) in names for number in numbers)
    return finished + (QUALITY_FILE in names) + context.run.exists(MANIFEST_FILE), len(numbers) + 2


def run(context: Context) -> Counts:
    """Write groups/ and manifest.parquet."""
    numbers = [part.number for part in frozen_parts(context.run)]
    with context.reporter.bar("deduplicate", 2, "steps") as bar:
        counts = _counts(context.run) or run_task(
            write_groups, context.run, context.recipe.sources, context.recipe.deduplicate, numbers
        )
        bar.advance(1)
        run_task(write_manifest, context.run, numbers)
        bar.advance(1)
    return counts


def write_groups(run: Folder, sources: tuple[Source, ...], settings: DeduplicateSettings, numbers: list[int]) -> Counts:
    """Group all samples; write groups.parquet, quality.json, and each part's decisions."""
    candidates = read_candidates(run, numbers)
    decided = decide(candidates, settings.verdict)
    folder = run.child(FOLDER)
    groups = _groups_table(candidates, decided)
    quality = _quality(run, sources, settings, numbers, candidates, decided)
    for number in numbers:
        folder.write_table(part_name(number), _decisions(run, number, candidates, decided))
    folder.write_table("groups.parquet", groups)
    folder.write_json(QUALITY_FILE, quality)
    return _chosen(quality)


def _chosen(quality: dict[str, Any]) -> Counts:
    return {name: quality[name] for name in ("samples", "groups", "removed", "largest_group")}


def _counts(run: Folder) -> Counts:
    """What an earlier start of the stage found; empty where it did not get so far."""
    folder = run.child(FOLDER)
    # Written after all else in the folder.
    return _chosen(folder.read_json(QUALITY_FILE)) if folder.exists(QUALITY_FILE) else {}


def read_candidates(run: Folder, numbers: list[int]) -> Candidates:
    """All kept samples, each once, whatever parts they came in."""
    columns = ["sample_id", "record_id", "width", "height", "size_bytes", "status", "phash", "phash_mirror"]
    tables, packed, flat = [], [], []
    for number in numbers:
        table = run.child("samples").read_table(part_name(number), columns)
        table = table.filter(pc.equal(table["status"], Status.KEPT.value))
        coded = run.child("codes").read_table(part_name(number))
        if coded["sample_id"].to_pylist() != table["sample_id"].to_pylist():
            raise ValueError(f"codes of part {number} don't belong to its samples; run with --redo encode")
        tables.append(_numpy(table))
        packed.append(code_bits.unpack(b"".join(coded["code"].to_pylist())))
        flat.append(np.asarray(coded["flat"].to_numpy(), np.bool_))
    joined = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    # By sample id and then record id: of records that share a sample the lowest comes first, and stays.
    order = np.lexsort((joined["record_id"], joined["sample_id"]))
    ids = joined["sample_id"][order]
    order = order[np.concatenate([[True], ids[1:] != ids[:-1]])] if len(order) else order
    return Candidates(
        sample_ids=joined["sample_id"][order],
        record_ids=joined["record_id"][order],
        width=joined["width"][order],
        height=joined["height"][order],
        size_bytes=joined["size_bytes"][order],
        seen=Seen(
            np.concatenate(packed)[order],
            verdict.looks(joined["phash"][order], joined["phash_mirror"][order]),
            np.concatenate(flat)[order],
        ),
    )


def _numpy(table: pa.Table) -> dict[str, npt.NDArray[Any]]:
    columns = {}
    for name in table.column_names:
        if name.endswith("_id"):
            columns[name] = np.array(table[name].to_pylist(), "S64")
        elif name != "status":
            columns[name] = table[name].to_numpy()
    return columns


def decide(candidates: Candidates, settings: verdict.VerdictSettings) -> Decided:
    """Group the candidates and choose each group's keeper."""
    groups = find_groups(candidates.seen, settings)
    keepers = choose_keepers(
        groups.labels, candidates.width, candidates.height, candidates.size_bytes, candidates.sample_ids
    )
    rows = np.arange(len(keepers))
    return Decided(
        groups=groups,
        keepers=keepers,
        group_ids=smallest_ids(groups.labels, candidates.sample_ids).astype("S64"),
        distance=distances(candidates.seen.codes, rows, keepers),
        in_group=np.isin(rows, grouped(groups.labels)),
    )


def _groups_table(candidates: Candidates, decided: Decided) -> pa.Table:
    """Members of groups of two or more, keeper first, by group."""
    members = np.flatnonzero(decided.in_group)
    keepers = decided.keepers[members]
    removed = keepers != members
    order = np.lexsort((candidates.sample_ids[members], removed, decided.group_ids[members]))
    rows = members[order]
    return pa.table(
        {
            "sample_id": _text(candidates.sample_ids[rows]),
            "group_id": _text(decided.group_ids[rows]),
            "keeper_id": _text(candidates.sample_ids[decided.keepers[rows]]),
            "distance": pa.array(decided.distance[rows].astype(np.int16)),
            "reason": pa.array([Reason.NEAR_DUPLICATE.value if r else None for r in removed[order]], pa.string()),
        },
        schema=GROUPS,
    )


def _text(ids: npt.NDArray[np.bytes_]) -> pa.Array:
    return pa.array(ids.tolist(), pa.binary()).cast(pa.string())


def _decisions(run: Folder, number: int, candidates: Candidates, decided: Decided) -> pa.Table:
    """What was decided of each record of one part, in the order of the part."""
    columns = ["record_id", "sample_id", "status", "reason"]
    rows = run.child("samples").read_table(part_name(number), columns).to_pylist()
    kept = np.array([row["status"] == Status.KEPT for row in rows], dtype=bool)
    ids = np.array([row["sample_id"] if k else "" for row, k in zip(rows, kept, strict=True)], "S64")
    found = np.searchsorted(candidates.sample_ids, ids)
    decisions: list[dict[str, Any]] = []
    for row, place, is_kept in zip(rows, found.tolist(), kept.tolist(), strict=True):
        decision = {name: row.get(name) for name in _DECIDED.names}
        if is_kept:
            repeat = candidates.record_ids[place] != row["record_id"].encode()
            near = decided.keepers[place] != place
            reason = Reason.EXACT_REPEAT if repeat else Reason.NEAR_DUPLICATE if near else None
            if decided.in_group[place]:
                decision["group_id"] = decided.group_ids[place].decode()
            if reason is not None:
                # A repeat stands for the sample that stayed; if that one went too, for what it went for.
                decision |= {
                    "status": Status.DROPPED.value,
                    "reason": reason.value,
                    "keeper_id": candidates.sample_ids[decided.keepers[place]].decode(),
                    "distance": int(decided.distance[place]),
                }
        decisions.append(decision)
    return pa.Table.from_pylist(decisions, schema=_DECIDED)


def _quality(
    run: Folder,
    sources: tuple[Source, ...],
    settings: DeduplicateSettings,
    numbers: list[int],
    candidates: Candidates,
    decided: Decided,
) -> dict[str, Any]:
    """groups/quality.json: what the verdict found, and how wrong it is by what was planted and what is known."""
    labels = decided.groups.labels
    sizes = np.bincount(labels)
    removed = int(np.count_nonzero(decided.keepers != np.arange(len(labels))))
    plants, changes, source_rows = _plants(run, numbers, candidates)
    measured = measure_plants(settings.verdict, plants, changes, source_rows, candidates.seen, labels)
    known = _known(run, sources, numbers)
    ids = [sample.decode() for sample in candidates.sample_ids.tolist()] if known else []
    return {
        "radius": settings.verdict.radius,
        "phash_max": settings.verdict.phash_max,
        "samples": len(labels),
        "groups": int(np.count_nonzero(sizes > 1)),
        "removed": removed,
        "largest_group": int(sizes.max()) if len(sizes) else 0,
        "pairs": decided.groups.pairs,
        "flat": int(np.count_nonzero(candidates.seen.flat)),
        "plants": measured.plants,
        # Of the chances that planted ones had to be taken for another picture; 95 %.
        "wrong_merge_rate": wilson_interval(measured.plants["wrong_merges"], measured.plants["compared_pairs"]),
        "curve": measured.curve,
        "truth": truth_figures(ids, labels, decided.keepers, known) if known else None,
    }


def _plants(run: Folder, numbers: list[int], candidates: Candidates) -> tuple[Seen, list[str], Rows]:
    """The planted near-duplicates, the change of each, and the row of the candidate that it was made of."""
    rows: dict[tuple[str, str], tuple[bytes, bool, int, int]] = {}
    for number in numbers:
        looked = (
            run.child("samples")
            .read_table(plants_name(number), ["sample_id", "change", "phash", "phash_mirror"])
            .to_pylist()
        )
        coded = run.child("codes").read_table(plants_name(number), ["code", "flat"]).to_pylist()
        for look, code in zip(looked, coded, strict=True):
            # Keyed, so that an exact repeat in another part does not plant a second time.
            key = look["sample_id"], look["change"]
            rows[key] = code["code"], code["flat"], look["phash"], look["phash_mirror"]
    ordered = sorted(rows)
    values = [rows[key] for key in ordered]
    seen = Seen(
        code_bits.unpack(b"".join(code for code, _, _, _ in values)),
        np.array([[one, other] for _, _, one, other in values], np.uint64).reshape(-1, 2),
        np.array([is_flat for _, is_flat, _, _ in values], np.bool_),
    )
    source_rows = np.searchsorted(candidates.sample_ids, np.array([sample for sample, _ in ordered], "S64"))
    return seen, [change for _, change in ordered], source_rows.astype(np.int64)


def _known(run: Folder, sources: tuple[Source, ...], numbers: list[int]) -> dict[str, str]:
    """Sample id of each near-duplicate that a source knows of -> that of its origin."""
    origin_of: dict[tuple[str, str], str] = {}
    for source in sources:
        table = _truth(source)
        if table is not None:
            planted = table.filter(pc.is_valid(table["origin_key"])).select(["source_key", "origin_key"]).to_pylist()
            origin_of |= {(source.name, row["source_key"]): row["origin_key"] for row in planted}
    if not origin_of:
        return {}
    sample_of: dict[tuple[str, str], str] = {}
    wanted = pa.array({key for (_, key), origin in origin_of.items() for key in (key, origin)})
    for number in numbers:
        table = run.child("samples").read_table(part_name(number), ["source", "source_key", "sample_id"])
        table = table.filter(pc.is_in(table["source_key"], value_set=wanted))
        sample_of |= {(row["source"], row["source_key"]): row["sample_id"] for row in table.to_pylist()}
    pairs = ((sample_of.get(key), sample_of.get((key[0], origin))) for key, origin in origin_of.items())
    # One whose bytes equal its origin's is an exact repeat, which needs no hash to be found.
    return {variant: origin for variant, origin in pairs if variant and origin and variant != origin}


def _truth(source: Source) -> pa.Table | None:
    if isinstance(source, DrawnSource):
        return planted_table(source)
    if isinstance(source, LsunSource) and source.truth is not None:
        return pq.read_table(source.truth, columns=["source_key", "origin_key"])
    return None


def write_manifest(run: Folder, numbers: list[int]) -> None:
    """Write manifest.parquet: all parts' ledgers with what was decided, sorted by record id.

    Record ids are hashes, so a range of them is an even share of the rows: a range is sorted at a time, and memory
    stays the same however many there are.
    """
    rows = sum(_rows(run.child("samples"), number) for number in numbers)
    ranges = max(1, math.ceil(rows / _MANIFEST_ROWS))
    edges = [f"{i * (1 << 64) // ranges:016x}" for i in range(ranges)]
    with run.write_atomic(MANIFEST_FILE) as file:
        writer = pq.ParquetWriter(
            file, MANIFEST, compression="zstd", use_dictionary=["source", "status", "reason", "format"]
        )
        with writer:
            for low, high in zip(edges, [*edges[1:], "g"], strict=True):
                tables = map(partial(_manifest_range, run, low=low, high=high), numbers)
                writer.write_table(pa.concat_tables(tables).sort_by("record_id"))


def _rows(samples: Folder, number: int) -> int:
    with samples.open_input(part_name(number)) as file:
        return int(pq.read_metadata(file).num_rows)


def _manifest_range(run: Folder, number: int, low: str, high: str) -> pa.Table:
    """The manifest's rows of one part whose record id is in [low, high)."""
    ledger = run.child("samples").read_table(part_name(number), LEDGER.names)
    decided = run.child(FOLDER).read_table(part_name(number))
    joined = {name: decided[name] if name in decided.column_names else ledger[name] for name in MANIFEST.names}
    table = pa.table(joined, schema=MANIFEST)
    inside = pc.and_(pc.greater_equal(table["record_id"], low), pc.less(table["record_id"], high))
    return table.filter(inside)
