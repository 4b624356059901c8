"""Deduplicate: exact repeats, then groups of near-duplicates; what is kept of each, and how wrong the verdict is."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import ray

from dedup.groups import Groups
from dedup.verdict import VerdictSettings
from manifests.schema import GROUPS, Reason, Status
from manifests.store import Folder
from pipelines.parts import run_task
from pipelines.recipe import DeduplicateSettings
from pipelines.sources import Source
from pipelines.stages.candidates import Candidates, Decided, decide, read_candidates, read_plants
from pipelines.stages.context import Context, Counts, frozen_parts, part_name
from pipelines.stages.earlier import earlier_runs, whose
from pipelines.stages.figures import quality
from pipelines.stages.manifest import DECIDED, write_manifest
from pipelines.stages.manifest import MANIFEST_FILE as MANIFEST_FILE

FOLDER = "groups"
QUALITY_FILE = "quality.json"
AGAINST_FILE = "against.parquet"


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
        recipe, threads = context.recipe, _threads(context.recipe.resources.workers)
        against = earlier_runs(recipe)
        given = (context.run, recipe.sources, recipe.deduplicate, recipe.seed, numbers, threads, against)
        counts = _counts(context.run) or run_task(write_groups, *given, cpus=threads)
        bar.advance(1)
        run_task(write_manifest, context.run, numbers)
        bar.advance(1)
    return counts


def _threads(workers: int | None) -> int:
    """As many as the recipe says, but no more than a node has CPUs: Ray would wait for such a node for ever."""
    largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
    return max(1, min(workers or largest, largest))


def write_groups(
    run: Folder,
    sources: tuple[Source, ...],
    settings: DeduplicateSettings,
    seed: int,
    numbers: list[int],
    threads: int,
    against: Sequence[Folder] = (),
) -> Counts:
    """Group all samples; write groups.parquet, quality.json, and each part's decisions."""
    candidates = read_candidates(run, settings.keep, numbers, against)
    plants = read_plants(run, numbers, candidates)
    decided = decide(candidates, plants, settings.verdict, seed, threads)
    folder = run.child(FOLDER)
    figures = quality(run, sources, settings.verdict, numbers, candidates, plants, decided, against, threads)
    for number in numbers:
        decisions = _decisions(run, number, candidates, decided, against)
        folder.write_table(part_name(number), decisions)
    folder.write_table("groups.parquet", _groups_table(candidates, decided))
    if against:
        folder.write_table(AGAINST_FILE, whose(against, _keepers_elsewhere(candidates, decided)))
    folder.write_json(QUALITY_FILE, figures)
    return _chosen(figures)


def _chosen(figures: dict[str, Any]) -> Counts:
    return {name: figures[name] for name in ("samples", "groups", "removed", "largest_group")}


def _counts(run: Folder) -> Counts:
    """What an earlier start of the stage found; empty where it did not get so far."""
    folder = run.child(FOLDER)
    # Written after all else in the folder.
    return _chosen(folder.read_json(QUALITY_FILE)) if folder.exists(QUALITY_FILE) else {}


def _keepers_elsewhere(candidates: Candidates, decided: Decided) -> list[set[str]]:
    """Of each earlier run, the records of samples that are the keepers of images of this one."""
    keepers = np.unique(decided.groups.keepers[candidates.here])
    return [
        {record.decode() for record in candidates.record_ids[keepers[candidates.runs[keepers] == place]].tolist()}
        for place in range(candidates.earlier)
    ]


def _groups_table(candidates: Candidates, decided: Decided) -> pa.Table:
    """This run's members of groups of two or more, by group, after the group's keeper, whosever that is."""
    own, groups = np.flatnonzero(decided.in_group & candidates.own), decided.groups
    members = np.union1d(own, groups.keepers[own])
    removed = groups.keepers[members] != members
    order = np.lexsort((candidates.sample_ids[members], removed, decided.group_ids[members]))
    rows, removed = members[order], removed[order]
    return pa.table(
        {
            "sample_id": _text(candidates.sample_ids[rows]),
            "group_id": _text(decided.group_ids[rows]),
            "keeper_id": _text(candidates.sample_ids[groups.keepers[rows]]),
            "distance": pa.array(groups.distance[rows].astype(np.int16)),
            "score": pa.array(groups.score[rows], mask=~removed),
            "reason": pa.array([Reason.NEAR_DUPLICATE.value if r else None for r in removed], pa.string()),
        },
        schema=GROUPS,
    )


def _text(ids: npt.NDArray[np.bytes_]) -> pa.Array:
    return pa.array(ids.tolist(), pa.binary()).cast(pa.string())


def _decisions(
    run: Folder,
    number: int,
    candidates: Candidates,
    decided: Decided,
    against: Sequence[Folder],
) -> pa.Table:
    """What was decided of each record of one part, in the order of the part."""
    columns = ["record_id", "sample_id", "status", "reason", "detail"]
    rows = run.child("samples").read_table(part_name(number), columns).to_pylist()
    kept = np.array([row["status"] == Status.KEPT for row in rows], dtype=bool)
    ids = np.array([row["sample_id"] if k else "" for row, k in zip(rows, kept, strict=True)], "S64")
    found = np.searchsorted(candidates.sample_ids, ids)
    groups, own = decided.groups, candidates.own
    decisions: list[dict[str, Any]] = []
    for row, place, is_kept in zip(rows, found.tolist(), kept.tolist(), strict=True):
        decision = {name: row.get(name) for name in DECIDED.names}
        if is_kept:
            keeper = int(groups.keepers[place])
            repeat = not own[place] or candidates.record_ids[place] != row["record_id"].encode()
            near = keeper != place
            reason = Reason.EXACT_REPEAT if repeat else Reason.NEAR_DUPLICATE if near else None
            if decided.in_group[place]:
                decision["group_id"] = decided.group_ids[place].decode()
            why = [_why(decided.verdict, groups, place)] if near else []
            if not own[keeper]:
                why.append(f"its keeper is of the run {against[candidates.runs[keeper]]}")
            if reason is not None:
                # A repeat stands for the sample that stayed; if that one went too, for what it went for.
                decision |= {
                    "status": Status.DROPPED.value,
                    "reason": reason.value,
                    "detail": "; ".join(why) or None,
                    "keeper_id": candidates.sample_ids[keeper].decode(),
                    "distance": int(groups.distance[place]),
                }
            if near:
                decision["score"] = float(groups.score[place])
        decisions.append(decision)
    return pa.Table.from_pylist(decisions, schema=DECIDED)


def _why(settings: VerdictSettings, groups: Groups, place: int) -> str:
    """Why an image was removed, for the ledger."""
    distance = f"{groups.distance[place]} bits"
    if settings.rule == "code":
        return f"code {distance} from its keeper's"
    turned = "mirrored, " if groups.mirrored[place] else ""
    return f"{turned}edges correlate {groups.score[place] + settings.correlation_min:.3f}, hashes {distance} apart"
