"""Groups and the manifest against brute force, and the same bytes however the records were cut into parts.

The stage's own functions are called in this process, on parts that are written here.
"""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.schema import (
    CODES,
    FAILED_REASONS,
    GROUPS,
    MANIFEST,
    PLANTS,
    SAMPLES,
    THUMB_BYTES,
    Reason,
    Status,
    face_record_id,
    record_id,
    sample_id,
    status_of,
)
from manifests.store import Folder
from pipelines.recipe import DeduplicateSettings, KeepSettings
from pipelines.sources import PARTS
from pipelines.sources.drawn import TRUTH
from pipelines.sources.lsun import LsunSource
from pipelines.stages import deduplicate
from pipelines.stages import manifest as manifest_stage
from pipelines.stages.context import part_name, plants_name
from pipelines.stages.earlier import ELSEWHERE
from pipelines.stages.encode import PLANT_CODES

Row = dict[str, Any]
# The code alone decides, so that an oracle can say what is the same.
RADIUS = 14
SETTINGS = DeduplicateSettings.model_validate({"verdict": {"rule": "code", "radius": RADIUS}})
CHAINED = DeduplicateSettings.model_validate({"verdict": {"rule": "code", "radius": RADIUS, "grouping": "component"}})
CHANGES = ("blur", "mirror")
PERSONS = (None, "Ann", "Bo\nB", "\u202eeve", "Z" * 300, "\U0001f600", "\uffee")
THUMB = bytes(range(256)) * (THUMB_BYTES // 256)


def hexed(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()


def flipped(value: int, bits: int, width: int, rng: np.random.Generator) -> int:
    for bit in rng.choice(width, size=bits, replace=False).tolist():
        value ^= 1 << bit
    return value


def drawn_records(seed: int, count: int = 90) -> list[Row]:
    """Records of a few pictures: copies near and far of each, exact repeats, flat ones, and some that were not kept."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(count):
        key = f"{number:03d}"
        row: Row = dict.fromkeys(SAMPLES.names) | {"source": "rooms", "source_key": key}
        row |= {"record_id": record_id("rooms", key), "status": "kept"}
        person, url = (PERSONS[int(rng.integers(len(PERSONS)))], rng.integers(6))
        row |= {"person": person, "url": f"https://h.example/{url}" if url else None}
        kept = [r for r in rows if r["status"] == "kept"]
        chance = rng.random()
        if chance < 0.15:
            reason = list(Reason)[int(rng.integers(len(Reason) - 2))]
            row |= {"reason": reason.value, "status": status_of(reason).value, "detail": "as ingest said"}
            if reason not in (Reason.EMPTY, Reason.UNREADABLE):
                row["sample_id"] = sample_id(hexed(seed, number))
        elif chance < 0.3 and kept:
            origin = kept[int(rng.integers(len(kept)))]
            row |= {n: v for n, v in origin.items() if n not in ("record_id", "source_key", "person", "url")}
        else:
            row |= {"sample_id": sample_id(hexed(seed, number)), "flat": bool(rng.random() < 0.1)}
            if chance < 0.75 and kept:
                origin = kept[int(rng.integers(len(kept)))]
                code = flipped(origin["code"], int(rng.integers(0, RADIUS + 3)), 128, rng)
            else:
                code = int.from_bytes(rng.bytes(16), "big")
            row |= {"code": code, "mirror_code": int.from_bytes(rng.bytes(16), "big"), "whole_thumb": THUMB}
            # Few values each, so that keepers are decided by bytes and by ids too.
            row |= {"width": int(rng.choice([64, 128])), "height": int(rng.choice([64, 128]))}
            row |= {"size_bytes": int(rng.choice([1000, 2000])), "image": b"pixels"}
        rows.append(row)
    return rows


def plants_of(records: list[Row], seed: int) -> list[Row]:
    """Two changes of every fourth sample, alike however often the sample occurs."""
    plants = []
    for row in records:
        if row["status"] == "kept" and int(row["sample_id"], 16) % 4 == 0:
            for change in CHANGES:
                rng = np.random.default_rng([seed, int(row["sample_id"][:8], 16), len(change)])
                plant = {"sample_id": row["sample_id"], "change": change, "flat": False}
                plant["code"] = flipped(row["code"], int(rng.integers(0, RADIUS + 5)), 128, rng)
                plants.append(plant | {"mirror_code": row["mirror_code"], "whole_thumb": THUMB})
    return plants


def write_parts(run: Folder, parts: list[list[Row]], seed: int = 0) -> list[int]:
    """What ingest and encode would have left of these records; the numbers of the parts."""
    samples, codes = run.child("samples"), run.child("codes")
    for number, rows in enumerate(parts):
        kept = [_coded(row) for row in rows if row["status"] == "kept"]
        plants = plants_of(rows, seed)
        samples.write_table(part_name(number), _table(rows, SAMPLES))
        samples.write_table(plants_name(number), _table(plants, PLANTS))
        codes.write_table(part_name(number), _table(kept, CODES))
        codes.write_table(plants_name(number), _table([_coded(plant) for plant in plants], PLANT_CODES))
    frozen = [
        {"number": i, "source": "rooms", "records": len(rows), "start": b"", "names": []}
        for i, rows in enumerate(parts)
    ]
    samples.write_table("parts.parquet", pa.Table.from_pylist(frozen, schema=PARTS))
    return list(range(len(parts)))


def _coded(row: Row) -> Row:
    # Bit b stands in byte b // 8, at place b % 8: as a little-endian whole number.
    return row | {name: row[name].to_bytes(16, "little") for name in ("code", "mirror_code")}


def _table(rows: list[Row], schema: pa.Schema) -> pa.Table:
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def cut(records: list[Row], part_images: int) -> list[list[Row]]:
    return [records[start : start + part_images] for start in range(0, len(records), part_images)]


def same(one: Row, other: Row) -> bool:
    """The verdict, said as plainly as can be."""
    return not (one["flat"] or other["flat"]) and (one["code"] ^ other["code"]).bit_count() <= RADIUS


def expected_keepers(samples: dict[str, Row], order: list[str], settings: DeduplicateSettings) -> dict[str, str]:
    """The keeper of each sample, by trying all pairs: chains first, then of each the best with all that equal it."""
    chain_of = {sample: {sample} for sample in samples}
    for one in samples:
        for other in samples:
            if one < other and same(samples[one], samples[other]) and chain_of[one] is not chain_of[other]:
                chain_of[one] |= chain_of[other]
                for member in chain_of[other]:
                    chain_of[member] = chain_of[one]
    keepers: dict[str, str] = {}
    for best in order:
        if best not in keepers:
            for member in chain_of[best] - keepers.keys():
                if member == best or settings is CHAINED or same(samples[best], samples[member]):
                    keepers[member] = best
    return keepers


def listed(rows: list[Row], column: str) -> list[str] | None:
    return sorted({row[column] for row in rows if row[column] is not None}) or None


def expected_manifest(
    records: list[Row],
    settings: DeduplicateSettings = SETTINGS,
    earlier: tuple[tuple[Folder, list[Row]], ...] = (),
) -> list[Row]:
    """The manifest by brute force; `earlier`: each earlier run with its records."""
    samples: dict[str, Row] = {}
    lowest: dict[str, str] = {}
    rank: dict[str, tuple[Any, ...]] = {}
    run_of: dict[str, Folder | None] = {}
    for place, (run, of) in enumerate((*earlier, (None, records))):
        for row in sorted(of, key=lambda r: str(r["record_id"])):
            sample = row["sample_id"]
            if row["status"] == "kept" and sample not in samples:
                samples[sample], lowest[sample], run_of[sample] = row, row["record_id"], run
                rank[sample] = (place, -row["width"] * row["height"], -row["size_bytes"], sample)
    keepers = expected_keepers(samples, sorted(samples, key=lambda sample: rank[sample]), settings)
    group_of = defaultdict(set)
    for sample, keeper in keepers.items():
        group_of[keeper].add(sample)
    rows = []
    for record in records:
        row = {name: record.get(name) for name in MANIFEST.names}
        if record["status"] == "kept":
            sample, keeper = record["sample_id"], keepers[record["sample_id"]]
            if len(group_of[keeper]) > 1:
                row["group_id"] = min(group_of[keeper])
            repeat, near = record["record_id"] != lowest[sample] or run_of[sample] is not None, keeper != sample
            if repeat or near:
                distance = (samples[sample]["code"] ^ samples[keeper]["code"]).bit_count()
                why = [f"code {distance} bits from its keeper's"] if near else []
                why += [f"its keeper is of the run {run_of[keeper]}"] if run_of[keeper] is not None else []
                reason = Reason.EXACT_REPEAT if repeat else Reason.NEAR_DUPLICATE
                row |= {"status": "dropped", "reason": reason, "keeper_id": keeper, "distance": distance}
                row |= {"detail": "; ".join(why) or None}
                if near:
                    # Ends of a chain that are further apart are not looked at.
                    row["score"] = float(RADIUS - distance) if distance <= 32 else -1.0
        rows.append(row)
    for row in rows:
        if row["status"] == "kept":
            stands_for = [row, *(other for other in rows if other["keeper_id"] == row["sample_id"])]
            row |= {"persons": listed(stands_for, "person"), "urls": listed(stands_for, "url")}
    return sorted(rows, key=lambda r: str(r["record_id"]))


def deduplicated(
    run: Folder,
    parts: list[list[Row]],
    *sources: LsunSource,
    settings: DeduplicateSettings = SETTINGS,
    against: tuple[Folder, ...] = (),
) -> tuple[Row, Row, list[Row]]:
    """The stage's counts, quality.json and the manifest's rows."""
    numbers = write_parts(run, parts)
    run.write_bytes(
        "recipe.yaml", yaml.safe_dump({"recipe": {"deduplicate": settings.model_dump(mode="json")}}).encode()
    )
    counts = deduplicate.write_groups(run, sources, settings, 0, numbers, 1, against)
    manifest_stage.write_manifest(run, numbers)
    manifest = run.read_table("manifest.parquet")
    assert manifest.schema == MANIFEST
    return counts, run.child("groups").read_json("quality.json"), manifest.to_pylist()


@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 32), how=st.sampled_from([SETTINGS, CHAINED]))
def test_the_manifest_is_that_of_brute_force(
    tmp_path_factory: pytest.TempPathFactory, seed: int, how: DeduplicateSettings
) -> None:
    records = drawn_records(seed)
    run = Folder(tmp_path_factory.mktemp("run"))
    counts, quality, manifest = deduplicated(run, cut(records, 25), settings=how)
    expected = expected_manifest(records, how)
    assert manifest == expected
    # Every record is there once, and what became of it adds up.
    assert sorted(row["record_id"] for row in manifest) == sorted(row["record_id"] for row in records)
    for row in manifest:
        assert row["status"] == status_of(Reason(row["reason"]) if row["reason"] else None)
    groups: dict[str, set[str]] = defaultdict(set)
    for row in manifest:
        if row["group_id"]:
            groups[row["group_id"]].add(row["sample_id"])
    samples = {row["sample_id"] for row in records if row["status"] == "kept"}
    kept = [row for row in manifest if row["status"] == Status.KEPT]
    assert len(kept) == len(samples) - sum(len(group) - 1 for group in groups.values())
    assert counts == {
        "samples": len(samples),
        "groups": len(groups),
        "removed": len(samples) - len(kept),
        "largest_group": max(map(len, groups.values()), default=1),
    }
    assert counts.items() <= quality.items()


@settings(max_examples=8)
@given(seed=st.integers(0, 1 << 32), data=st.data())
def test_cuts_and_order_of_parts_do_not_show(
    tmp_path_factory: pytest.TempPathFactory, seed: int, data: st.DataObject
) -> None:
    records = drawn_records(seed, 40)
    shuffled = data.draw(st.permutations(records))
    cuts = [cut(records, 100), cut(shuffled, data.draw(st.integers(1, 39)))]
    runs = [Folder(tmp_path_factory.mktemp("run")) for _ in cuts]
    for run, parts in zip(runs, cuts, strict=True):
        deduplicated(run, parts)
    for folder, name in (("", "manifest.parquet"), ("groups", "groups.parquet"), ("groups", "quality.json")):
        one, other = ((run.child(folder) if folder else run).read_bytes(name) for run in runs)
        assert one == other, name


def test_groups_list_their_members_keeper_first(tmp_path: Path) -> None:
    run, records = Folder(tmp_path), drawn_records(5)
    deduplicated(run, cut(records, 30))
    table = run.child("groups").read_table("groups.parquet")
    assert table.schema == GROUPS
    rows = table.to_pylist()
    members = {row["sample_id"] for row in expected_manifest(records) if row["group_id"]}
    assert len(rows) == len(members) > 5
    assert {row["sample_id"] for row in rows} == members
    assert [row["group_id"] for row in rows] == sorted(row["group_id"] for row in rows)
    for before, row in zip([None, *rows], rows, strict=False):
        first = before is None or before["group_id"] != row["group_id"]
        assert (row["sample_id"] == row["keeper_id"]) == first
        assert row["reason"] == (None if first else Reason.NEAR_DUPLICATE)
        assert row["distance"] == 0 or not first


def test_decisions_stand_in_the_order_of_their_part(tmp_path: Path) -> None:
    run, records = Folder(tmp_path), drawn_records(6)
    parts = cut(records, 17)
    _, _, manifest = deduplicated(run, parts)
    of = {row["record_id"]: row for row in manifest}
    for number, rows in enumerate(parts):
        decided = run.child("groups").read_table(part_name(number)).to_pylist()
        assert decided == [{name: of[row["record_id"]][name] for name in decided[0]} for row in rows]


def test_a_manifest_sorted_range_by_range_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = drawn_records(7)
    whole = deduplicated(Folder(tmp_path / "whole"), cut(records, 40))[2]
    monkeypatch.setattr(manifest_stage, "_ROWS", 4)  # 23 ranges
    assert deduplicated(Folder(tmp_path / "ranges"), cut(records, 40))[2] == whole


def test_planted_recall_is_that_of_brute_force(tmp_path: Path) -> None:
    run, records = Folder(tmp_path), drawn_records(8, 150)
    _, quality, _ = deduplicated(run, cut(records, 50))
    kept = {row["sample_id"]: row for row in records if row["status"] == "kept"}
    plants = {(p["sample_id"], p["change"]): p for p in plants_of(records, 0)}
    assert len(plants_of(records, 0)) > len(plants), "a repeat in another part plants again, and must not count"
    assert quality["plants"]["sources"] == len({sample for sample, _ in plants})
    for change in CHANGES:
        own = [(plant, kept[sample]) for (sample, of), plant in plants.items() if of == change]
        figures = quality["plants"]["by_change"][change]
        assert figures["planted"] == len(own)
        assert figures["recall"] == pytest.approx(sum(same(*pair) for pair in own) / len(own))
        equal = sum(plant["code"] == source["code"] and not source["flat"] for plant, source in own)
        assert figures["recall_equal"] == pytest.approx(equal / len(own))
    assert quality["truth"] is None


def test_known_near_duplicates_are_counted(tmp_path: Path) -> None:
    run, records = Folder(tmp_path / "run"), drawn_records(9)
    kept = [row for row in records if row["status"] == "kept"]
    failed = next(row for row in records if row["reason"] in {reason.value for reason in FAILED_REASONS})
    repeats = [row for row in kept if row["sample_id"] == next(_repeated(kept))]
    # Each says that it was made of the first; of the failed one nothing can be said, and a repeat needs no hash.
    origin = repeats[0]
    known = {row["source_key"]: origin["source_key"] for row in [*kept[-20:], failed, repeats[1]]}
    known.pop(origin["source_key"], None)
    truth = [
        {"source_key": row["source_key"], "origin_key": known.get(row["source_key"]), "change": None, "windows": None}
        for row in records
    ]
    Folder(tmp_path).write_table("truth.parquet", _table(truth, TRUTH))
    source = LsunSource(kind="lsun", name="rooms", path="/not/opened", truth=str(tmp_path / "truth.parquet"))
    _, quality, manifest = deduplicated(run, cut(records, 40), source)
    group = {row["sample_id"]: row["group_id"] or row["sample_id"] for row in manifest if row["sample_id"]}
    by_key = {row["source_key"]: row for row in kept}
    variants = {by_key[key]["sample_id"] for key in known if key in by_key} - {origin["sample_id"]}
    found = sum(group[variant] == group[origin["sample_id"]] for variant in variants)
    assert quality["truth"]["variants"] == len(variants)
    assert quality["truth"]["found"] == found
    assert quality["truth"]["removed"] == quality["removed"]


# Earlier runs


@settings(max_examples=12)
@given(seed=st.integers(0, 1 << 32), how=st.sampled_from([SETTINGS, CHAINED]), data=st.data())
def test_against_earlier_runs_is_as_one_run_over_all_that_ranks_them_first(
    tmp_path_factory: pytest.TempPathFactory, seed: int, how: DeduplicateSettings, data: st.DataObject
) -> None:
    records = data.draw(st.permutations(drawn_records(seed)))
    own, *others = records[:30], records[30:60], records[60:]
    earlier: tuple[tuple[Folder, list[Row]], ...] = ()
    for number, of in enumerate(others):
        folder = Folder(tmp_path_factory.mktemp("earlier"))
        # The second was itself compared with the first, or not.
        chained = earlier if number and data.draw(st.booleans()) else ()
        manifest = deduplicated(folder, cut(of, 20), settings=how, against=tuple(run for run, _ in chained))[2]
        assert manifest == expected_manifest(of, how, chained)
        earlier = (*earlier, (folder, of))
    run, runs = Folder(tmp_path_factory.mktemp("run")), tuple(folder for folder, _ in earlier)
    counts, quality, manifest = deduplicated(run, cut(own, 20), settings=how, against=runs)
    assert manifest == expected_manifest(own, how, earlier)
    # What is said of the run is of its own images.
    held = {row["sample_id"] for _, of in earlier for row in of if row["status"] == "kept"}
    new = {row["sample_id"] for row in own if row["status"] == "kept"} - held
    removed = {row["sample_id"] for row in manifest if row["reason"] == Reason.NEAR_DUPLICATE}
    assert (counts["samples"], counts["removed"]) == (len(new), len(removed))
    assert sum(of["samples"] for of in quality["against"]) == len(held)
    _check_keepers_elsewhere(run, own, new, dict(zip((str(of) for of in runs), others, strict=True)))


def _check_keepers_elsewhere(run: Folder, own: list[Row], new: set[str], others: dict[str, list[Row]]) -> None:
    """groups.parquet lists new images and keepers, and against.parquet says of which run the other keepers are."""
    groups = run.child("groups").read_table("groups.parquet").to_pylist()
    assert {row["sample_id"] for row in groups if row["reason"]} <= new
    assert {row["keeper_id"] for row in groups} <= {row["sample_id"] for row in groups}
    table = run.child("groups").read_table("against.parquet")
    assert table.schema == ELSEWHERE
    listed = {row["sample_id"]: row for row in table.to_pylist()}
    manifest = run.read_table("manifest.parquet").to_pylist()
    keepers = {row["keeper_id"] for row in manifest if row["keeper_id"]}
    assert listed.keys() == keepers - new
    for sample, row in listed.items():
        of = [r for r in others[row["run"]] if r["sample_id"] == sample and r["status"] == "kept"]
        assert row["source_key"] == min(of, key=lambda r: str(r["record_id"]))["source_key"]
    assert all(row["sample_id"] in {r["sample_id"] for r in own} | listed.keys() for row in groups)


def test_an_earlier_run_of_the_same_source_makes_all_of_it_repeats(tmp_path: Path) -> None:
    records = drawn_records(12)
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    before = deduplicated(old, cut(records, 30))[2]
    counts, quality, manifest = deduplicated(new, cut(records, 20), against=(old,))
    assert counts == {"samples": 0, "groups": 0, "removed": 0, "largest_group": 0}
    kept = {row["record_id"] for row in records if row["status"] == "kept"}
    assert {row["record_id"] for row in manifest if row["reason"] == Reason.EXACT_REPEAT} == kept
    # What stood for a record then still does.
    assert [row["keeper_id"] or row["sample_id"] for row in before] == [
        row["keeper_id"] or row["sample_id"] for row in manifest
    ]
    samples = len({row["sample_id"] for row in records if row["status"] == "kept"})
    assert quality["against"] == [{"run": str(old), "samples": samples, "repeated": samples, "removed": 0}]
    assert new.child("groups").read_table("groups.parquet").num_rows == 0


def one_of(source: str, **changes: Any) -> Row:
    """A record of a picture that all of them show."""
    names = {"source": source, "source_key": source, "record_id": record_id(source, source)}
    looks = {"status": "kept", "width": 64, "height": 64, "code": 5, "mirror_code": 6, "flat": False}
    seen = {"whole_thumb": THUMB, "sharpness": 1.0, "size_bytes": 20, "sample_id": sample_id(hexed(source))}
    return dict.fromkeys(SAMPLES.names) | looks | seen | names | changes


def preferring(*sources: str) -> DeduplicateSettings:
    return SETTINGS.model_copy(update={"keep": KeepSettings(prefer_sources=sources)})


@pytest.mark.parametrize("first", ["a", "b", "c"])
def test_a_source_to_prefer_keeps_its_images_and_its_records_of_repeats(tmp_path: Path, first: str) -> None:
    records = [one_of(source, sample_id=sample_id(hexed("shared"))) for source in ("a", "b")]
    records.append(one_of("c", size_bytes=10))
    _, _, manifest = deduplicated(Folder(tmp_path), [records], settings=preferring(first, "b"))
    (kept,) = (row for row in manifest if row["status"] == Status.KEPT)
    assert kept["source"] == first
    reasons = {row["source"]: row["reason"] for row in manifest}
    shared = {"a", "b"} - {first if first != "c" else "b"}
    assert {source for source, reason in reasons.items() if reason == Reason.EXACT_REPEAT} == shared


def test_what_an_earlier_run_kept_first_ranks_first_still(tmp_path: Path) -> None:
    good, large = one_of("good", size_bytes=10), one_of("large", size_bytes=20)
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    deduplicated(old, [[good, large]], settings=preferring("good"))
    _, _, (row,) = deduplicated(new, [[one_of("newest", size_bytes=90, width=640)]], against=(old,))
    assert (row["reason"], row["keeper_id"]) == (Reason.NEAR_DUPLICATE, good["sample_id"])


def test_known_near_duplicates_of_earlier_images_are_not_counted(tmp_path: Path) -> None:
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    records = drawn_records(13)
    first, rest = records[:30], records[30:]
    deduplicated(old, [first])
    kept = [row for row in rest if row["status"] == "kept"]
    truth = [{"source_key": row["source_key"], "origin_key": kept[0]["source_key"]} for row in kept[1:]]
    Folder(tmp_path).write_table("truth.parquet", _table(truth, TRUTH))
    source = LsunSource(kind="lsun", name="rooms", path="/not/opened", truth=str(tmp_path / "truth.parquet"))
    _, quality, manifest = deduplicated(new, [rest], source, against=(old,))
    here = {row["sample_id"] for row in kept} - {row["sample_id"] for row in first if row["status"] == "kept"}
    own = [row for row in manifest if row["reason"] == Reason.NEAR_DUPLICATE and row["keeper_id"] in here]
    assert quality["truth"]["removed"] == len(own)
    assert quality["removed"] > len(own), "images of the earlier run should take some"


def _repeated(rows: list[Row]) -> Any:
    seen: set[str] = set()
    for row in rows:
        if row["sample_id"] in seen:
            yield row["sample_id"]
        seen.add(row["sample_id"])


def test_nothing_kept_is_no_error_yet(tmp_path: Path) -> None:
    records = [row for row in drawn_records(10) if row["status"] != "kept"]
    counts, quality, manifest = deduplicated(Folder(tmp_path), cut(records, 5))
    assert counts == {"samples": 0, "groups": 0, "removed": 0, "largest_group": 0}
    assert quality["plants"]["recall"] is None
    assert manifest == expected_manifest(records)


def test_codes_of_other_samples_are_refused(tmp_path: Path) -> None:
    run, records = Folder(tmp_path), drawn_records(11)
    numbers = write_parts(run, cut(records, 30))
    codes = run.child("codes")
    codes.write_table(part_name(1), codes.read_table(part_name(0)))
    with pytest.raises(ValueError, match="codes of part 1 don't belong to its samples; do it again with --redo encode"):
        deduplicate.write_groups(run, (), SETTINGS, 0, numbers, 1)
    assert run.child("groups").names() == []


# Faces


def faces_of(key: str, image: str, boxes: list[tuple[int, int, int, int]], **changes: Any) -> list[Row]:
    """The rows of an image and of faces in it; the code of a face is of its box alone, so equal boxes look the same."""
    names = {"source": "crawl", "source_key": key, "url": f"https://h.example/{key}", "person": f"person of {key}"}
    of_image = {"sha256": hexed(image), "size_bytes": 20, "width": 640, "height": 480, "format": "jpeg"}
    row: Row = dict.fromkeys(SAMPLES.names) | names | of_image | {"record_id": record_id("crawl", key)}
    row |= {"status": "used", "sample_id": sample_id(row["sha256"]), "person_certain": len(boxes) == 1} | changes
    rows = [row]
    for box in boxes:
        face = row | {"record_id": face_record_id(row["record_id"], box), "parent_id": row["record_id"]}
        face |= {"sample_id": sample_id(row["sha256"], box), "crop_px": list(box), "box_px": list(box)}
        face |= {"status": "kept", "code": int(hexed(box[:2])[:32], 16), "mirror_code": 7, "flat": False}
        rows.append(face | {"whole_thumb": THUMB, "image": b"pixels", "sharpness": 1.0})
    return rows


def test_faces_of_one_photo_under_two_urls_are_repeats_face_by_face(tmp_path: Path) -> None:
    boxes = [(0, 0, 50, 50), (100, 0, 60, 60)]
    rows = [*faces_of("a", "photo", boxes), *faces_of("b", "photo", boxes), *faces_of("c", "other", [])]
    rows[-1] |= {"status": "dropped", "reason": "no_face", "person_certain": None}
    counts, _, manifest = deduplicated(Folder(tmp_path), [rows[:3], rows[3:]])
    assert counts["samples"] == 2
    images = {row["source_key"]: row for row in manifest if row["parent_id"] is None}
    assert {key: row["status"] for key, row in images.items()} == {"a": "used", "b": "used", "c": "dropped"}
    assert all(row["keeper_id"] is row["persons"] is row["urls"] is None for row in images.values())
    for box in boxes:
        first, second = (row for row in manifest if row["crop_px"] == list(box))  # by record id
        assert (first["status"], second["status"], second["reason"]) == ("kept", "dropped", "exact_repeat")
        assert second["keeper_id"] == first["sample_id"] == second["sample_id"]
        assert (first["persons"], second["persons"]) == (["person of a", "person of b"], None)
        assert (first["urls"], second["urls"]) == (["https://h.example/a", "https://h.example/b"], None)


def test_of_faces_that_look_the_same_the_one_cut_from_most_pixels_stays(tmp_path: Path) -> None:
    """Though its image has fewer than the others', and is of nobody known."""
    small = faces_of("large image", "one", [(7, 7, 50, 50)], width=4000, height=3000)
    large = faces_of("small image", "two", [(7, 7, 90, 90)], width=100, height=100)
    for row in large:
        row |= {"person": None, "person_certain": None}
    again = faces_of("small image again", "two", [(7, 7, 90, 90)], width=100, height=100)
    manifest = deduplicated(Folder(tmp_path), [small, [*large, *again]])[2]
    (kept,) = (row for row in manifest if row["status"] == Status.KEPT)
    assert kept["crop_px"] == [7, 7, 90, 90]
    assert kept["persons"] == ["person of large image", "person of small image again"]
    assert len(kept["urls"]) == 3


def test_a_name_that_an_earlier_runs_face_stands_for_is_in_no_list(tmp_path: Path) -> None:
    old, new = Folder(tmp_path / "old"), Folder(tmp_path / "new")
    deduplicated(old, [faces_of("a", "photo", [(0, 0, 50, 50)])])
    rows = [*faces_of("b", "photo", [(0, 0, 50, 50)]), *faces_of("c", "other", [(9, 9, 50, 50)])]
    manifest = deduplicated(new, [rows], against=(old,))[2]
    assert [row["persons"] for row in manifest if row["status"] == Status.KEPT] == [["person of c"]]
    assert sum(row["persons"] is not None for row in manifest) == 1
