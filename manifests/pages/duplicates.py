"""The near-duplicates' section: the rule, what it finds and misses, what to expect, and groups to look at."""

from typing import Any

import numpy as np
import numpy.typing as npt
import yaml
from markupsafe import Markup

from manifests import charts
from manifests.audit import few
from manifests.pages import review
from manifests.pages.galleries import Look, Member, borderline, details, largest_groups, looks
from manifests.store import Folder

LARGEST = 6
MEMBERS = 12
BORDERLINE = 18
PHASH_HANDICAP = 4
"""How many bits less than two codes two pHashes may differ in: dedup's own figure, which this package can't import."""


def section(run: Folder) -> dict[str, Any] | None:
    """What deduplicate found and how well it measured; None before it has run."""
    folder = run.child("groups")
    if not folder.exists("groups.parquet"):
        return None
    quality = folder.read_json("quality.json") if folder.exists("quality.json") else {}
    groups = folder.read_table("groups.parquet", ["sample_id", "group_id", "keeper_id", "distance", "score"])
    largest = largest_groups(groups, LARGEST, MEMBERS)
    unsure = borderline(groups, BORDERLINE)
    shown = [*unsure, *(member for _, members in largest for member in members)]
    names = {name for member in shown for name in (member.sample_id, member.keeper_id)}
    pictures, why = looks(run, names), details(run, names)
    bound = _bound(run) if quality.get("radius_set_itself") else None
    return {
        "quality": quality,
        "phash_bits": None if quality.get("radius") is None else quality["radius"] - PHASH_HANDICAP,
        "score_digits": 0 if quality.get("rule") == "code" else 3,
        "plants": quality.get("plants") or None,
        "wrong_per_million": [few(1e6 * end) for end in quality.get("wrong_merge_rate") or []],
        "truth": quality.get("truth") or None,
        "review": review.section(run),
        "changes": _changes(quality),
        "bound": None if bound is None else few(100 * bound),
        "expected": _expected(quality, bound),
        "curves": _curves(quality, bound),
        "largest": [
            {"size": size, "members": [_card(member, pictures, why) for member in members], "more": size - len(members)}
            for size, members in largest
        ],
        "borderline": [(_card(_keeper_of(member), pictures, why), _card(member, pictures, why)) for member in unsure],
    }


def _bound(run: Folder) -> float | None:
    """The share of removals that may be wrong where the radius sets itself, by the recipe."""
    if not run.exists("recipe.yaml"):
        return None
    settings = (yaml.safe_load(run.read_bytes("recipe.yaml")) or {}).get("recipe") or {}
    verdict = (settings.get("deduplicate") or {}).get("verdict") or {}
    share = verdict.get("wrong_share_max")
    return None if share is None else float(share)


def _keeper_of(member: Member) -> Member:
    return Member(member.keeper_id, member.keeper_id, 0, None)


def _card(member: Member, pictures: dict[str, Look], why: dict[str, str]) -> dict[str, Any]:
    """What a thumbnail and its caption need. A picture that no part holds any more is shown as missing."""
    said = why.get(member.sample_id, "")
    return {
        "look": pictures.get(member.sample_id),
        "keeper": member.sample_id == member.keeper_id,
        "distance": member.distance,
        "score": member.score,
        "why": said,
        "mirrored": "mirrored" in said,
    }


def _changes(quality: dict[str, Any]) -> dict[str, Any] | None:
    """Recall by planted change, the best found first: the rows and their chart."""
    by_change = (quality.get("plants") or {}).get("by_change") or {}
    rows = [
        (change, row["planted"], row["recall"], row["recall_equal"])
        for change, row in by_change.items()
        if row.get("recall") is not None
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: (-row[2], row[0]))
    names, _, rule, equal = zip(*rows, strict=True)
    words = "; ".join(f"{name} {found:.0%} against {same:.0%}" for name, _, found, same in rows)
    description = f"Recall by planted change, the rule used against equal codes: {words}."
    as_floats = (np.array(rule, np.float64), np.array([value or 0.0 for value in equal], np.float64))
    labels = [charts.shortened(name) for name in names]
    chart = charts.recall_bars("recall", description, labels, *as_floats, ("rule used", "equal codes (paper)"))
    return {"rows": rows, "chart": chart}


def _expected(quality: dict[str, Any], bound: float | None) -> list[dict[str, Any]]:
    """What to expect at this number of images and at larger ones, as words; empty where it was not measured."""
    return [
        {
            "images": point["images"],
            "radius": point["radius"],
            "correlation_min": point.get("correlation_min"),
            "recall": point.get("recall"),
            "removals": point["removals"],
            "wrong": few(point["wrong"]),
            "share": few(100 * point["wrong"] / point["removals"]) if point["removals"] else None,
            "over": bound is not None
            and point["wrong"] > max(bound * (point["removals"] + point["wrong"]), quality["bearable_wrong"]),
        }
        for point in quality.get("expected") or []
    ]


def _curves(quality: dict[str, Any], bound: float | None) -> list[tuple[str, Markup]]:
    """Recall over the radius; beside it expected wrong pairs, or where there are none, planted ones."""
    points = quality.get("curve") or []
    if not points:
        return []
    columns = {
        name: np.array([np.nan if point.get(name) is None else point[name] for point in points], np.float64)
        for name in ("radius", "recall", "pairs", "wrong_merges")
    }
    radius = quality.get("radius")
    mark = None if radius is None else (float(radius), f"taken: {radius}")
    x = columns["radius"]
    at = f"At the radius taken, {radius}: {_at(points, radius)}." if radius is not None else ""
    recall = charts.lines(
        "radius-recall",
        f"Recall of planted changes over the radius in bits. {at}",
        [charts.Curve("recall", x, columns["recall"], "kept")],
        "radius, bits of a code",
        y_limits=(0, 1.02),
        percent=True,
        mark=mark,
    )
    wrong = _wrong_curve(quality, bound, mark)
    if wrong is None:
        merges = charts.lines(
            "radius-pairs",
            f"Pairs of a planted copy and a sample that hashes nominate, and wrong merges, over the radius. {at}",
            [
                charts.Curve("nominated", x, columns["pairs"], "second"),
                charts.Curve("wrong merges", x, columns["wrong_merges"], "failed", dashed=True),
            ],
            "radius, bits of a code",
            log=True,
            mark=mark,
        )
        wrong = ("Planted copies: pairs nominated, wrong merges", merges)
    return [("Recall by radius", recall), wrong]


def _wrong_curve(
    quality: dict[str, Any], bound: float | None, mark: tuple[float, str] | None
) -> tuple[str, Markup] | None:
    """Expected wrong pairs a removal by radius, at this number of images and at larger ones."""
    points = [point for point in quality.get("expected") or [] if point["removals"]]
    if not points:
        return None
    curves = []
    for point, colour in zip(points, ("kept", "second", "dropped"), strict=False):
        wrong = np.array(point["wrong_by_radius"], np.float64) / point["removals"]
        here = point["images"] == quality.get("samples")
        label = charts.short_number(point["images"]) + (" here" if here else "")
        curves.append(charts.Curve(label, np.arange(len(wrong), dtype=np.float64), wrong, colour, dashed=not here))
    words = "; ".join(f"{point['images']:,} images: {_ends(point)}" for point in points)
    description = f"Expected wrong pairs as a share of removals, upper 95 % limit, over the radius. {words}."
    if bound is not None:
        description += f" The bound is {few(100 * bound)} %."
    chart = charts.lines(
        "radius-wrong",
        description,
        curves,
        "radius, bits of a code",
        percent=True,
        log=True,
        y_limits=_limits([curve.y for curve in curves], bound),
        mark=mark,
        level=None if bound is None else (bound, f"bound: {few(100 * bound)}%"),
    )
    return "Expected wrong pairs / removals", chart


def _ends(point: dict[str, Any]) -> str:
    shares = [few(100 * wrong / point["removals"]) for wrong in point["wrong_by_radius"]]
    return f"{shares[0]} % at radius 0, {shares[-1]} % at {len(shares) - 1}"


def _limits(shares: list[npt.NDArray[np.float64]], bound: float | None) -> tuple[float, float]:
    """The chart's lower and upper end: at most 100 %, with the bound well inside."""
    every = np.concatenate([*shares, [] if bound is None else [bound]])
    low = float(every[every > 0].min()) if (every > 0).any() else 1e-6
    return low / 2, min(1.0, max(float(every.max()) * 2, low * 100))


def _at(points: list[dict[str, Any]], radius: int) -> str:
    for point in points:
        if point["radius"] == radius:
            return ", ".join(
                f"{name.replace('_', ' ')} {value:.4g}" for name, value in point.items() if value is not None
            )
    return "not measured"
