"""The training section: curves, what the guard saw, and sample grids in order of images seen."""

import json
import math
import re
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from manifests import charts
from manifests.pages.template import image_uri
from manifests.store import Folder

MOST_GRIDS = 6
MOST_POINTS = 300
STATISTICS = ("batch", "standing")
_SETTINGS = {
    "name": "preset",
    "size_px": "side, px",
    "width": "width",
    "batch_images": "images a batch",
    "learning_rate": "learning rate",
    "alternate": "turns",
    "loss": "loss",
    "batch_norm": "batch norm",
    "precision": "precision",
}


class _Chart(NamedTuple):
    """One chart of the metrics: a label and a colour for each column that it draws."""

    name: str
    title: str
    columns: dict[str, tuple[str, str]]
    limits: tuple[float, float] | None = None
    percent: bool = False
    level: tuple[str, str] | None = None  # a column whose last value gets a flat line, with its words


_CHARTS = (
    _Chart("losses", "Losses", {"loss_d": ("D", "kept"), "loss_g": ("G", "second")}),
    _Chart("outputs", "What D says", {"d_real": ("D(real)", "kept"), "d_fake": ("D(fake)", "second")}, (0.0, 1.0)),
    _Chart("gradients", "Gradient norms", {"grad_d": ("D", "kept"), "grad_g": ("G", "second")}),
    _Chart(
        "distance",
        "Sliced Wasserstein distance (times 1,000)",
        {"swd": ("samples", "kept")},
        level=("swd_floor", "halves of the real images"),
    ),
    _Chart(
        "similarity",
        "Similarity of pairs (MS-SSIM)",
        {"ms_ssim": ("samples", "kept")},
        (0.0, 1.0),
        level=("ms_ssim_real", "real images"),
    ),
    _Chart("waiting", "Time spent waiting for data", {"data_wait_share": ("share", "kept")}, percent=True),
)


def section(folder: Folder) -> dict[str, Any] | None:
    """Curves, the guard's events and sample grids of the training so far; None before it has begun."""
    metrics = _metrics(folder)
    grids = _grids(folder.child("grids"), "grid")
    if not metrics and not grids:
        return None
    return {
        "curves": _curves(metrics),
        "last": metrics[-1] if metrics else None,
        "speed": _middle([row.get("images_per_s") for row in metrics]),
        "settings": _settings(folder),
        "guard": folder.read_json("guard.json") if folder.exists("guard.json") else None,
        "statistics": STATISTICS,
        "grids": _pictures(folder.child("grids"), _evenly(grids, MOST_GRIDS)),
        "grids_made": len(grids),
        "epochs": _pictures(folder.child("grids"), _grids(folder.child("grids"), "epoch")),
    }


def _metrics(folder: Folder) -> list[dict[str, Any]]:
    """The logged updates in order. An update logged twice, before a kill and after, counts as its last line says."""
    if not folder.exists("metrics.jsonl"):
        return []
    rows: dict[int, dict[str, Any]] = {}
    for line in folder.read_bytes("metrics.jsonl").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # the line that was being written when the run was killed
        rows[row["update"]] = row
    return [rows[update] for update in sorted(rows)]


def _settings(folder: Folder) -> dict[str, Any]:
    """The settings that matter most, by their words; none before the run has a summary."""
    summary = folder.read_json("summary.json") if folder.exists("summary.json") else {}
    # The summary's own come last: after going back its learning rate is lower than the preset's.
    known = {**(summary.get("preset") or {}), **summary}
    return {words: known[name] for name, words in _SETTINGS.items() if known.get(name) is not None}


def _curves(metrics: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    cards = []
    for chart in _CHARTS:
        curves = [curve for column, look in chart.columns.items() if (curve := _curve(metrics, column, *look))]
        if not curves:
            continue
        ends = ", ".join(f"{curve.label} from {curve.y[0]:.3g} to {curve.y[-1]:.3g}" for curve in curves)
        description = f"{chart.title} over images seen: {ends}."
        level = _level(metrics, *chart.level) if chart.level else None
        if level:
            description += f" {level[1]}: {level[0]:.3g}."
        svg = charts.lines(
            f"training-{chart.name}",
            description,
            curves,
            "images seen",
            y_limits=chart.limits,
            percent=chart.percent,
            level=level,
        )
        cards.append((chart.title, svg))
    return cards


def _level(metrics: list[dict[str, Any]], column: str, words: str) -> tuple[float, str] | None:
    known = [row[column] for row in metrics if row.get(column) is not None]
    return (float(known[-1]), words) if known else None


def _curve(metrics: list[dict[str, Any]], column: str, label: str, colour: str) -> charts.Curve | None:
    """One metric over images seen, as means of at most MOST_POINTS stretches of equal numbers of updates."""
    points = [(row["images_seen"], row[column]) for row in metrics if _finite(row.get(column))]
    if not points:
        return None
    values, stretch = np.array(points, np.float64), math.ceil(len(points) / MOST_POINTS)
    means = np.array([values[start : start + stretch].mean(axis=0) for start in range(0, len(values), stretch)])
    return charts.Curve(label, means[:, 0], means[:, 1], colour)


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _grids(folder: Folder, kind: str) -> list[tuple[int, dict[str, str]]]:
    """Of the sample grids of a kind (`grid`, `epoch`): images seen or epoch, and file names by statistics, in order."""
    found: dict[int, dict[str, str]] = {}
    for name in folder.names():
        if match := re.fullmatch(rf"{kind}-(\d+)-({'|'.join(STATISTICS)})\.png", name):
            found.setdefault(int(match[1]), {})[match[2]] = name
    return sorted(found.items())


def _pictures(folder: Folder, grids: list[tuple[int, dict[str, str]]]) -> list[tuple[int, dict[str, str]]]:
    return [
        (place, {kind: image_uri(folder.read_bytes(names[kind])) for kind in STATISTICS if kind in names})
        for place, names in grids
    ]


def _evenly(items: list[tuple[int, dict[str, str]]], limit: int) -> list[tuple[int, dict[str, str]]]:
    """The first, the last and evenly spaced ones between."""
    if len(items) <= limit:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def _middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
