"""The near-duplicates' section: the rule, what it finds and misses, and groups to look at."""

from typing import Any

import numpy as np
from markupsafe import Markup

from manifests import charts
from manifests.pages.galleries import Look, Member, borderline, largest_groups, looks, phash_distance
from manifests.store import Folder

LARGEST = 6
MEMBERS = 12
BORDERLINE = 18


def section(run: Folder) -> dict[str, Any] | None:
    """What deduplicate found and how well it measured; None before it has run."""
    folder = run.child("groups")
    if not folder.exists("groups.parquet"):
        return None
    quality = folder.read_json("quality.json") if folder.exists("quality.json") else {}
    groups = folder.read_table("groups.parquet", ["sample_id", "group_id", "keeper_id", "distance"])
    largest = largest_groups(groups, LARGEST, MEMBERS)
    furthest = borderline(groups, BORDERLINE)
    shown = [*furthest, *(member for _, members in largest for member in members)]
    pictures = looks(run, {name for member in shown for name in (member.sample_id, member.keeper_id)})
    return {
        "quality": quality,
        "plants": quality.get("plants") or None,
        "truth": quality.get("truth") or None,
        "changes": _changes(quality),
        "curves": _curves(quality),
        "largest": [
            {"size": size, "members": [_card(member, pictures) for member in members], "more": size - len(members)}
            for size, members in largest
        ],
        "borderline": [(_card(_keeper_of(member), pictures), _card(member, pictures)) for member in furthest],
    }


def _keeper_of(member: Member) -> Member:
    return Member(member.keeper_id, member.keeper_id, 0)


def _card(member: Member, pictures: dict[str, Look]) -> dict[str, Any]:
    """What a thumbnail and its caption need. A picture that no part holds any more is shown as missing."""
    look, keeper = pictures.get(member.sample_id), pictures.get(member.keeper_id)
    is_keeper = member.sample_id == member.keeper_id
    card: dict[str, Any] = {"look": look, "keeper": is_keeper, "distance": member.distance, "phash": None}
    if look is not None and keeper is not None and not is_keeper:
        card["phash"], card["mirrored"] = phash_distance(look, keeper)
    return card


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


def _curves(quality: dict[str, Any]) -> list[tuple[str, Markup]]:
    """Recall, and pairs and wrong merges, over the Hamming radius."""
    points = quality.get("curve") or []
    if not points:
        return []
    columns = {
        name: np.array([np.nan if point.get(name) is None else point[name] for point in points], np.float64)
        for name in ("radius", "recall", "pairs", "wrong_merges")
    }
    radius = quality.get("radius")
    mark = None if radius is None else (float(radius), f"used: {radius}")
    x, recall = columns["radius"], columns["recall"]
    at = f"At the radius used, {radius}: {_at(points, radius)}." if radius is not None else ""
    return [
        (
            "Recall by radius, code alone",
            charts.lines(
                "radius-recall",
                f"Recall of planted changes by the code alone, over the Hamming radius in bits. {at}",
                [charts.Curve("recall", x, recall, "kept")],
                "Hamming radius, bits of 128",
                y_limits=(0, 1.02),
                percent=True,
                mark=mark,
            ),
        ),
        (
            "Pairs and wrong merges, code alone",
            charts.lines(
                "radius-pairs",
                f"Pairs within the radius and wrong merges by the code alone, over the Hamming radius in bits. {at}",
                [
                    charts.Curve("pairs", x, columns["pairs"], "second"),
                    charts.Curve("wrong merges", x, columns["wrong_merges"], "failed", dashed=True),
                ],
                "Hamming radius, bits of 128",
                log=True,
                mark=mark,
            ),
        ),
    ]


def _at(points: list[dict[str, Any]], radius: int) -> str:
    for point in points:
        if point["radius"] == radius:
            return ", ".join(
                f"{name.replace('_', ' ')} {value:.4g}" for name, value in point.items() if value is not None
            )
    return "not measured"
