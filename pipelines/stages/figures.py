"""groups/quality.json: what the verdict found, and how wrong it is by what was planted, drawn at random and known."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from dedup.quality import TruthFigures, measure_plants, truth_figures, wilson_interval
from dedup.radius import BEARABLE_WRONG, WIDEST_RADIUS, Choice, choose
from dedup.verdict import VerdictSettings
from manifests.store import Folder
from pipelines.sources import Source
from pipelines.sources.drawn import DrawnSettings, planted_table
from pipelines.sources.lsun import LsunSource
from pipelines.stages.candidates import Candidates, Decided, Plants, Rows
from pipelines.stages.context import part_name

# LSUN's bedrooms, and a crawl: what the page says to expect beyond this run.
_LARGER = (3_000_000, 100_000_000)


def quality(
    run: Folder,
    sources: tuple[Source, ...],
    settings: VerdictSettings,
    numbers: list[int],
    candidates: Candidates,
    plants: Plants,
    decided: Decided,
    against: Sequence[Folder],
    threads: int,
) -> dict[str, Any]:
    """The figures of a run. Samples, removals and groups are of this run's images; pairs are of all that were compared.

    So is what to expect: of all images, those of earlier runs too.
    """
    keepers, own = decided.groups.keepers, np.flatnonzero(candidates.own)
    kept = keepers[own]
    sizes = np.bincount(keepers, minlength=1)
    rule, radius = decided.verdict, decided.radius
    measured = measure_plants(
        rule, radius, plants.seen, plants.changes, plants.source_rows, candidates.seen, keepers, threads
    )
    keepers_run = candidates.runs[kept]
    return {
        "rule": settings.rule,
        "radius": radius,
        "radius_set_itself": settings.radius == "auto",
        "correlation_min": rule.correlation_min if rule.rule == "joint" else None,
        "correlation_raised": rule.correlation_min > settings.correlation_min,
        "grouping": settings.grouping,
        "samples": len(own),
        "groups": len(np.unique(kept[decided.in_group[own]])),
        "removed": int(np.count_nonzero(kept != own)),
        "largest_group": int(sizes[kept].max(initial=0)),
        "pairs": decided.groups.nominated,
        "judged": decided.groups.judged,
        "flat": int(np.count_nonzero(candidates.seen.flat[own])),
        "plants": measured.plants,
        # Of the chances that planted ones had to be taken for another picture; 95 %.
        "wrong_merge_rate": wilson_interval(measured.plants["wrong_merges"], measured.plants["compared_pairs"]),
        "curve": measured.curve,
        "bearable_wrong": BEARABLE_WRONG,
        "expected": _expected(settings, decided),
        "truth": _truth_figures(_known(run, sources, numbers), candidates, keepers),
        "against": [
            {
                "run": folder.address,
                "samples": int(np.count_nonzero(candidates.runs == place)),
                "repeated": int(np.count_nonzero(candidates.here & (candidates.runs == place))),
                "removed": int(np.count_nonzero(keepers_run == place)),
            }
            for place, folder in enumerate(against)
        ],
    }


def _expected(settings: VerdictSettings, decided: Decided) -> list[dict[str, Any]] | None:
    """Expected wrong pairs at this number of images and at larger ones, each by the rule that would then be taken."""
    if decided.chances is None or decided.found is None:
        return None
    chances, found = decided.chances, decided.found
    images, removed = len(decided.groups.keepers), len(decided.groups.removed)
    points = []
    for number in (images, *(larger for larger in _LARGER if larger > images)):
        times = number / max(1, images)
        here = Choice(decided.radius, decided.verdict.correlation_min)
        choice = here if number == images else choose(settings, chances, number, found, times)
        # What a stricter border removes of what was removed here.
        share = found.removed(choice.border) / max(1, found.removed(here.border))
        points.append(
            {
                "images": number,
                "radius": choice.radius,
                "correlation_min": choice.border if settings.rule == "joint" else None,
                "recall": found.recall(choice.radius, choice.border) if len(found.planted_distance) else None,
                "removals": int(removed * times * min(1.0, share)),
                "wrong": chances.wrong(choice.radius, choice.border, number),
                "nominations": chances.nominations(choice.radius, number),
                "wrong_by_radius": [
                    chances.wrong(at, choice.border, number) for at in range(max(decided.radius, WIDEST_RADIUS) + 1)
                ],
            }
        )
    return points


def _truth_figures(known: dict[str, str], candidates: Candidates, keepers: Rows) -> TruthFigures | None:
    """The figures of known near-duplicates, of the images whose keeper is this run's: of others nothing is known."""
    if not known:
        return None
    rows = np.flatnonzero(candidates.own & candidates.own[keepers])
    ids = [sample.decode() for sample in candidates.sample_ids[rows].tolist()]
    return truth_figures(ids, np.searchsorted(rows, keepers[rows]), known)


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
        table = run.child("samples").read_table(part_name(number), ["source", "source_key", "sample_id", "parent_id"])
        # A face shares its image's key.
        table = table.filter(pc.and_(pc.is_in(table["source_key"], value_set=wanted), pc.is_null(table["parent_id"])))
        sample_of |= {(row["source"], row["source_key"]): row["sample_id"] for row in table.to_pylist()}
    pairs = ((sample_of.get(key), sample_of.get((key[0], origin))) for key, origin in origin_of.items())
    # One whose bytes equal its origin's is an exact repeat, which needs no hash to be found.
    return {variant: origin for variant, origin in pairs if variant and origin and variant != origin}


def _truth(source: Source) -> pa.Table | None:
    if isinstance(source, DrawnSettings):
        return planted_table(source)
    if isinstance(source, LsunSource) and source.truth is not None:
        return pq.read_table(source.truth, columns=["source_key", "origin_key"])
    return None
