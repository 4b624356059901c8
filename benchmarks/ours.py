"""This project's de-duplication, run on a folder of images as a user would."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import yaml

from benchmarks.scores import Grouping, Rows
from dedup.nominate import nominate
from dedup.verdict import scores
from manifests.store import Folder
from pipelines.recipe import Recipe
from pipelines.stages.candidates import read_candidates

_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Ours:
    """What was found in a folder, and how long it took; run: its run folder, startup_s: of Ray and the imports."""

    grouping: Grouping
    run: Path
    seconds: float
    fit_s: float
    startup_s: float


def run_ours(folder: Path, run: Path, radius: str = "auto") -> Ours:
    """De-duplicate a folder of images in processes of its own."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "pipelines", "dedup", str(folder.resolve()), "--out", str(run), "--radius", radius]
    subprocess.run(command, check=True, stdout=sys.stderr, cwd=_ROOT)
    wall_s = time.perf_counter() - began
    stages = [json.loads((run / name / "stage.json").read_text()) for name in ("samples", "codes", "groups")]
    seconds = sum(stage["seconds"] for stage in stages)
    encoder, begun = run / "codes" / "autoencoder.npz", run / "codes" / "started.json"
    return Ours(
        grouping=_grouping(run),
        run=run,
        seconds=seconds,
        fit_s=encoder.stat().st_mtime - begun.stat().st_mtime,
        startup_s=wall_s - seconds,
    )


def _grouping(run: Path) -> Grouping:
    columns = ["source_key", "sample_id", "group_id", "keeper_id", "status"]
    rows = pq.read_table(run / "manifest.parquet", columns=columns).to_pylist()
    kept = {row["sample_id"]: row["source_key"] for row in rows if row["status"] == "kept"}
    return Grouping(
        {row["source_key"]: row["group_id"] or row["sample_id"] for row in rows},
        {row["source_key"]: kept[row["keeper_id"] or row["sample_id"]] for row in rows if row["status"] != "failed"},
    )


def our_pairs(run: Path, files: Sequence[str]) -> tuple[Rows, Rows]:
    """All pairs of places in `files` that the run's verdict calls the same, also those that no group needed."""
    recipe = Recipe.model_validate(yaml.safe_load((run / "recipe.yaml").read_text())["recipe"])
    settings = recipe.deduplicate.verdict
    radius = json.loads((run / "groups" / "quality.json").read_text())["radius"]
    parts = pq.read_metadata(run / "samples" / "parts.parquet").num_rows
    candidates = read_candidates(Folder(run), recipe.deduplicate.keep, list(range(parts)))
    place = {file: i for i, file in enumerate(files)}
    manifest = pq.read_table(run / "manifest.parquet", columns=["sample_id", "source_key"]).to_pylist()
    place_of = {row["sample_id"]: place[row["source_key"]] for row in manifest}
    places = np.array([place_of[sample.decode()] for sample in candidates.sample_ids.tolist()], np.int64)
    meaningful = ~candidates.seen.flat
    places, seen = places[meaningful], candidates.seen.of(meaningful)
    found: set[tuple[int, int]] = set()
    for pairs, _ in nominate(settings, radius, seen):
        same = scores(settings, radius, pairs, seen, seen) >= 0
        found |= {
            (min(a, b), max(a, b))
            for a, b in zip(places[pairs.first[same]].tolist(), places[pairs.second[same]].tolist(), strict=True)
        }
    rows = np.array(sorted(found), np.int64).reshape(-1, 2)
    return rows[:, 0], rows[:, 1]
