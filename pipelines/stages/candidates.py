"""The images that are compared, each once, with what is seen of it and its rank; and their groups."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from dedup import codes as code_bits
from dedup.groups import Grouping, Groups, grouped, smallest_ids
from dedup.lumas import StoredLumas, read
from dedup.quality import planted_looks
from dedup.radius import SURE_RADIUS, WIDEST_RADIUS, Chances, Found, choose, measure_chances
from dedup.verdict import Seen, VerdictSettings
from manifests.perceptual import luma
from manifests.schema import THUMB_PX, Status
from manifests.store import Folder
from pipelines.recipe import KeepSettings
from pipelines.stages.context import frozen_parts, part_name, plants_name
from pipelines.stages.earlier import keep_settings
from pipelines.stages.encode import thumb_rows
from pipelines.stages.search import search_everywhere

Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Candidates:
    """Every sample that ingest kept, in this run or an earlier one, exact repeats left out, sorted by sample id.

    runs: int64[N], whose sample it is: the place of the earlier run, or their number for this run
    here: bool[N], whether a record of this run holds it; a sample that an earlier run holds too is that run's
    rank: int64[N], of a group the image of lowest rank is kept
    """

    sample_ids: npt.NDArray[np.bytes_]
    record_ids: npt.NDArray[np.bytes_]  # of the records that share the sample the one that stays
    runs: Rows
    here: Mask
    rank: Rows
    seen: Seen
    earlier: int = 0  # how many earlier runs

    @property
    def own(self) -> Mask:
        """Which are this run's."""
        return np.asarray(self.runs == self.earlier)


@dataclass(frozen=True)
class Plants:
    """The planted near-duplicates of this run's images.

    changes: the change of each; source_rows: int64[P], the candidate that it was made of
    """

    seen: Seen
    changes: list[str]
    source_rows: Rows


@dataclass(frozen=True)
class Decided:
    """What is known of the candidates once they are grouped; `verdict` is the rule as it set itself."""

    verdict: VerdictSettings
    radius: int
    chances: Chances | None  # where the radius set itself
    found: Found | None  # there too
    groups: Groups
    group_ids: npt.NDArray[np.bytes_]
    in_group: Mask  # of two or more


def read_candidates(run: Folder, keep: KeepSettings, numbers: list[int], against: Sequence[Folder] = ()) -> Candidates:
    """All samples to compare, whatever parts they came in; those of earlier runs rank before this run's.

    Those of an earlier run rank among each other as they did in it.
    """
    ledger: list[pa.Table] = []
    ids: dict[str, list[npt.NDArray[np.bytes_]]] = {"sample_id": [], "record_id": []}

    def looks_of_parts() -> Iterator[Seen]:
        for place, folder in enumerate((*against, run)):
            own = place == len(against)
            keep_of = keep if own else keep_settings(folder)
            for number in numbers if own else [part.number for part in frozen_parts(folder)]:
                table, looks = _read_part(folder, number, keep_of)
                for name, of_parts in ids.items():
                    of_parts.append(np.array(table[name].to_pylist(), "S64"))
                table = table.drop_columns(list(ids))
                ledger.append(table.append_column("run", pa.array(np.full(len(table), place))))
                yield looks

    seen = joined(looks_of_parts())
    table = pa.concat_tables(ledger)
    sample_ids, record_ids = (np.concatenate(of_parts) for of_parts in ids.values())
    runs = table["run"].to_numpy()
    here = np.isin(sample_ids, sample_ids[runs == len(against)]) if against else np.ones(len(table), np.bool_)
    # Of records that share a sample one of the earliest run stays, of the source to prefer, of the lowest record id.
    order = np.lexsort((record_ids, table["source"].to_numpy(), runs, sample_ids))
    if len(order):
        in_order = sample_ids[order]
        order = order[np.concatenate([[True], in_order[1:] != in_order[:-1]])]
    return Candidates(
        sample_ids[order],
        record_ids[order],
        runs[order],
        here[order],
        _rank(table.take(order)),
        seen.of(order),
        len(against),
    )


def _read_part(run: Folder, number: int, keep: KeepSettings) -> tuple[pa.Table, Seen]:
    """Ids, area and what else decides the rank of a part's kept samples; and their looks."""
    columns = ["sample_id", "record_id", "source", "width", "height", "size_bytes", "sharpness", "status", "crop_px"]
    table = run.child("samples").read_table(part_name(number), [*columns, "whole_thumb"])
    table = table.filter(pc.equal(table["status"], Status.KEPT.value))
    coded = run.child("codes").read_table(part_name(number))
    if coded["sample_id"].to_pylist() != table["sample_id"].to_pylist():
        raise ValueError(f"{run}: codes of part {number} don't belong to its samples; do it again with --redo encode")
    preferred, sources = keep.prefer_sources, table["source"].to_pylist()
    place = {name: preferred.index(name) if name in preferred else len(preferred) for name in set(sources)}
    ranked = {
        "sample_id": table["sample_id"],
        "record_id": table["record_id"],
        "source": pa.array([place[name] for name in sources], pa.int64()),
        "area": _area(table),
        # Of whole numbers below 2^53, so nothing is lost.
        "then": table["size_bytes" if keep.then == "bytes" else "sharpness"].cast(pa.float64()),
    }
    return pa.table(ranked), looks_of(coded, table["whole_thumb"])


def _area(table: pa.Table) -> pa.ChunkedArray:
    """The pixels that a sample was made of: of a face those that were cut out, not its image's."""
    crop, sides = table["crop_px"], (table["width"], table["height"])
    of_image, of_crop = (
        pc.multiply(*(side.cast(pa.int64()) for side in pair))
        for pair in (sides, (pc.list_element(crop, 2), pc.list_element(crop, 3)))
    )
    return pc.coalesce(of_crop, of_image)


def looks_of(coded: pa.Table, whole_thumbs: pa.ChunkedArray) -> Seen:
    """What is seen of the images of a table of codes, row by row."""
    thumbs = thumb_rows(whole_thumbs).reshape(-1, THUMB_PX, THUMB_PX, 3)
    return Seen(
        code_bits.unpack(b"".join(coded["code"].to_pylist())),
        code_bits.unpack(b"".join(coded["mirror_code"].to_pylist())),
        luma(thumbs),
        np.asarray(coded["flat"].to_numpy(), np.bool_),
    )


def joined(parts: Iterable[Seen]) -> Seen:
    """One after another; thumbs go into a file as they come, so that one part's are in memory at once."""
    codes, mirror_codes, flat = [], [], []

    def lumas() -> Iterator[npt.NDArray[np.uint8]]:
        for part in parts:
            codes.append(part.codes)
            mirror_codes.append(part.mirror_codes)
            flat.append(part.flat)
            yield read(part.lumas, np.arange(len(part)))

    stored = StoredLumas(lumas())
    return Seen(np.concatenate(codes), np.concatenate(mirror_codes), stored, np.concatenate(flat))


def _rank(ledger: pa.Table) -> Rows:
    """int64[N], 0 for the image that is kept before all others; `ledger` is sorted by sample id."""
    run, source, area, then = (ledger[name].to_numpy() for name in ("run", "source", "area", "then"))
    rank = np.empty(len(ledger), np.int64)
    rank[np.lexsort((np.arange(len(ledger)), -then, -area, source, run))] = np.arange(len(ledger))
    return rank


def read_plants(run: Folder, numbers: list[int], candidates: Candidates) -> Plants:
    """What was planted at ingest, each change of an image once."""
    ids, changes, seen = [], [], []
    for number in numbers:
        looked = run.child("samples").read_table(plants_name(number), ["sample_id", "change", "whole_thumb"])
        ids.append(np.array(looked["sample_id"].to_pylist(), "S64"))
        changes.append(np.array(looked["change"].to_pylist(), np.str_))
        seen.append(looks_of(run.child("codes").read_table(plants_name(number)), looked["whole_thumb"]))
    sample_ids, names = np.concatenate(ids), np.concatenate(changes)
    # An exact repeat in another part does not plant a second time.
    order = np.lexsort((names, sample_ids))
    if len(order):
        again = (sample_ids[order][1:] == sample_ids[order][:-1]) & (names[order][1:] == names[order][:-1])
        order = order[np.concatenate([[True], ~again])]
    source_rows = np.searchsorted(candidates.sample_ids, sample_ids[order])
    return Plants(joined(seen).of(order), names[order].tolist(), source_rows.astype(np.int64))


def decide(candidates: Candidates, plants: Plants, settings: VerdictSettings, seed: int, threads: int) -> Decided:
    """Group the candidates, by the rule that the settings name or that sets itself."""

    def begun(verdict: VerdictSettings) -> Grouping:
        return Grouping(candidates.seen, verdict, candidates.rank, threads, search_everywhere)

    grouping, verdict, chances, found = begun(settings), settings, None, None
    if settings.radius == "auto":
        sure = SURE_RADIUS if settings.rule == "joint" else 0
        grouping.extend(sure)
        # Of one image a picture: copies that the verdict only just misses are no different pictures.
        chances = measure_chances(settings, grouping.pictures, seed, threads)
        found = _found(grouping, candidates, plants, settings, threads)
        choice = choose(settings, chances, len(candidates.seen), found)
        verdict, radius = settings.model_copy(update={"correlation_min": choice.border}), choice.radius
        if radius < sure or verdict != settings:
            grouping = begun(verdict)
    else:
        radius = settings.radius
    grouping.extend(radius)
    groups = grouping.groups(radius)
    return Decided(
        verdict=verdict,
        radius=radius,
        chances=chances,
        found=found,
        groups=groups,
        group_ids=smallest_ids(groups.keepers, candidates.sample_ids).astype("S64"),
        in_group=np.isin(np.arange(len(groups.keepers)), grouped(groups.keepers)),
    )


def _found(
    grouping: Grouping, candidates: Candidates, plants: Plants, settings: VerdictSettings, threads: int
) -> Found:
    """What was found so far, and what planted near-duplicates would need to be found."""
    distance, correlation = planted_looks(
        settings, plants.seen, candidates.seen, plants.source_rows, WIDEST_RADIUS, threads
    )
    return Found(grouping.repeats, grouping.joined + np.float32(settings.correlation_min), distance, correlation)
