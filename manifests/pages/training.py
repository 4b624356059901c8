"""The training sections: curves, sample grids in order of images seen, and the latent walk."""

import base64
import json
import math
import re
from typing import Any

import numpy as np
from markupsafe import Markup

from manifests import charts
from manifests.store import Folder

MOST_GRIDS = 12
MOST_POINTS = 300


def section(folder: Folder) -> dict[str, Any] | None:
    """Curves and sample grids of the training so far; None before it has begun."""
    metrics = _metrics(folder)
    found = _grids(folder.child("grids"))
    if not metrics and not found:
        return None
    chosen = _evenly(found, MOST_GRIDS)
    return {
        "curves": _curves(metrics),
        "last": metrics[-1] if metrics else None,
        "speed": _middle([row.get("images_per_s") for row in metrics]),
        "grids": [(seen, _png_uri(folder.child("grids").read_bytes(name))) for seen, name in chosen],
        "grids_made": len(found),
        "epochs": _epoch_grids(folder.child("grids")),
    }


def walk(folder: Folder) -> dict[str, Any] | None:
    """The latent walk's picture and figures; None before it was taken."""
    if not folder.exists("walk.png"):
        return None
    figures = folder.read_json("walk.json") if folder.exists("walk.json") else {}
    shown = {name.replace("_", " "): value for name, value in figures.items() if isinstance(value, int | float | str)}
    return {"picture": _png_uri(folder.read_bytes("walk.png")), "figures": shown}


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


def _curves(metrics: list[dict[str, Any]]) -> list[tuple[str, Markup]]:
    cards = []
    for name, title, columns, limits in (
        ("losses", "Losses", {"loss_d": ("D", "kept"), "loss_g": ("G", "second")}, None),
        ("outputs", "What D says", {"d_real": ("D(real)", "kept"), "d_fake": ("D(fake)", "second")}, (0.0, 1.0)),
        ("speed", "Images a second", {"images_per_s": ("images/s", "kept")}, None),
    ):
        curves = [
            curve for column, (label, colour) in columns.items() if (curve := _curve(metrics, column, label, colour))
        ]
        if curves:
            ends = ", ".join(f"{curve.label} from {curve.y[0]:.3g} to {curve.y[-1]:.3g}" for curve in curves)
            description = f"{title} over images seen: {ends}."
            chart = charts.lines(f"training-{name}", description, curves, "images seen", y_limits=limits)
            cards.append((title, chart))
    return cards


def _curve(metrics: list[dict[str, Any]], column: str, label: str, colour: str) -> charts.Curve | None:
    """One metric over images seen, as means of at most MOST_POINTS stretches of equal numbers of updates."""
    points = [(row["images_seen"], row[column]) for row in metrics if row.get(column) is not None]
    if not points:
        return None
    values, stretch = np.array(points, np.float64), math.ceil(len(points) / MOST_POINTS)
    means = np.array([values[start : start + stretch].mean(axis=0) for start in range(0, len(values), stretch)])
    return charts.Curve(label, means[:, 0], means[:, 1], colour)


def _grids(folder: Folder) -> list[tuple[int, str]]:
    """Images seen and file name of each sample grid, in order of images seen."""
    named = ((re.fullmatch(r"grid-(\d+)\.png", name), name) for name in folder.names())
    return sorted((int(match[1]), name) for match, name in named if match)


def _epoch_grids(folder: Folder) -> list[tuple[int, str]]:
    """Epoch and picture of the grids that the paper shows: after epochs 1 and 5."""
    named = ((re.fullmatch(r"epoch-(\d+)\.png", name), name) for name in folder.names())
    return sorted((int(match[1]), _png_uri(folder.read_bytes(name))) for match, name in named if match)


def _evenly(items: list[tuple[int, str]], limit: int) -> list[tuple[int, str]]:
    """The first, the last and evenly spaced ones between."""
    if len(items) <= limit:
        return items
    return [items[i] for i in np.linspace(0, len(items) - 1, limit).round().astype(int)]


def _middle(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None


def _png_uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()
