"""Charts as inline SVG: text stays text, and colours are the page's CSS variables, so they follow light and dark."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

Floats = npt.NDArray[np.float64]

# matplotlib can't write var(--kept), so each CSS variable is drawn in a colour nobody would choose and swapped after.
_COLOURS = {
    "ink": "#000101",
    "muted": "#000202",
    "line": "#000303",
    "kept": "#000404",
    "dropped": "#000505",
    "failed": "#000606",
    "second": "#000707",
}
_STYLE: Any = {
    "svg.fonttype": "none",
    "font.size": 10,
    "text.color": _COLOURS["ink"],
    "axes.labelcolor": _COLOURS["muted"],
    "axes.edgecolor": _COLOURS["line"],
    "xtick.color": _COLOURS["line"],
    "ytick.color": _COLOURS["line"],
    "xtick.labelcolor": _COLOURS["muted"],
    "ytick.labelcolor": _COLOURS["muted"],
    "grid.color": _COLOURS["line"],
    "grid.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 10,
    "axes.axisbelow": True,
}
_WIDTH_IN = 300 / 72


class Curve(NamedTuple):
    """One line of a chart, in a colour of the page (`kept`, `dropped`, `failed`, `second`)."""

    label: str
    x: Floats
    y: Floats
    colour: str
    dashed: bool = False


def histogram(
    name: str,
    description: str,
    edges: Floats,
    shares: Mapping[str, Floats],
    x_label: str,
    log: bool = False,
    ticks: Mapping[float, str] | None = None,
    mark: tuple[float, str] | None = None,
) -> Markup:
    """A histogram as SVG: the kept filled, the dropped as a line over it, each as a share of its own number.

    `shares` maps a legend label to the share in each bin; the first is filled. `mark` is an x value, with its words,
    that gets an upright line.
    """
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.5)
        for index, (label, share) in enumerate(shares.items()):
            colour = _COLOURS["dropped" if index else "kept"]
            if index == 0:
                axes.stairs(share, edges, fill=True, color=colour, alpha=0.28)
            axes.stairs(share, edges, color=colour, linewidth=1.6, label=label)
        if log:
            axes.set_xscale("log")
            ticks = ticks or {tick: short_number(tick) for tick in log_ticks(edges[0], edges[-1])}
        if ticks is not None:
            axes.set_xticks(list(ticks), labels=list(ticks.values()))
            axes.minorticks_off()
        axes.set_xlim(edges[0], edges[-1])
        axes.set_ylim(bottom=0)
        axes.set_xlabel(x_label)
        axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:.0%}" if value >= 0.01 or value == 0 else f"{value:.1%}")
        )
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
        if mark is not None:
            axes.axvline(mark[0], color=_COLOURS["ink"], linewidth=1, linestyle=":", label=mark[1])
        _legend(axes, columns=2)
        return _svg(figure, name, description)


def lines(
    name: str,
    description: str,
    curves: Sequence[Curve],
    x_label: str,
    *,
    y_limits: tuple[float, float] | None = None,
    percent: bool = False,
    log: bool = False,
    mark: tuple[float, str] | None = None,
    level: tuple[float, str] | None = None,
) -> Markup:
    """Lines as SVG; `mark` is an x value, with its words, that gets an upright line, `level` a y value, a flat one."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(2.5)
        for curve in curves:
            style = "--" if curve.dashed else "-"
            dot = "o" if len(curve.x) == 1 else None
            axes.plot(
                curve.x, curve.y, style, color=_COLOURS[curve.colour], linewidth=1.6, label=curve.label, marker=dot
            )
        positive = all(np.all(curve.y > 0) for curve in curves)
        if log:
            axes.set_yscale("log") if positive else axes.set_yscale("symlog", linthresh=1)
            axes.yaxis.set_minor_formatter(NullFormatter())
        if y_limits is not None:
            axes.set_ylim(*y_limits)
        elif all(np.all(curve.y >= 0) for curve in curves) and not (log and positive):
            axes.set_ylim(bottom=0)
        number = (lambda value, _: short_percent(value)) if percent else (lambda value, _: short_number(value))
        axes.yaxis.set_major_formatter(FuncFormatter(number))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.set_xlabel(x_label)
        if level is not None:
            axes.axhline(level[0], color=_COLOURS["failed"], linewidth=1.2, linestyle="-.", label=level[1])
        if mark is not None:
            axes.axvline(mark[0], color=_COLOURS["ink"], linewidth=1, linestyle=":", label=mark[1])
        _legend(axes, columns=3)
        return _svg(figure, name, description)


def recall_bars(
    name: str, description: str, labels: Sequence[str], rule: Floats, equal: Floats, names: tuple[str, str]
) -> Markup:
    """Recall of two rules by planted change as SVG: a dot each, joined, the first rule's figure written beside it."""
    with matplotlib.rc_context(_STYLE):
        figure, axes = _figure(0.75 + 0.27 * len(labels))
        rows = np.arange(len(labels))[::-1]
        axes.hlines(rows, np.minimum(rule, equal), np.maximum(rule, equal), color=_COLOURS["line"], linewidth=3)
        axes.plot(rule, rows, "o", color=_COLOURS["kept"], markersize=7, label=names[0], clip_on=False)
        axes.plot(
            equal,
            rows,
            "o",
            markerfacecolor="none",
            markeredgewidth=1.6,
            color=_COLOURS["second"],
            markersize=6,
            label=names[1],
            clip_on=False,
        )
        axes.set_yticks(rows, labels=[_plain(label) for label in labels])
        axes.tick_params(axis="y", labelcolor=_COLOURS["ink"])
        axes.set_ylim(-0.6, len(labels) - 0.4)
        axes.set_xlim(-0.03, 1)  # so that a dot at 0 stays clear of its label
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
        axes.grid(visible=False, axis="y")
        axes.grid(visible=True, axis="x")
        _legend(axes, columns=2)
        return _svg(figure, name, description)


def short_number(value: float) -> str:
    """A number for an axis: 950, 12.8k, 3M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def short_percent(value: float) -> str:
    """A share for an axis, without needless digits: 50%, 0.2%, 0.00001%."""
    return np.format_float_positional(100 * value, precision=3, fractional=False, trim="-") + "%"


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers for a logarithmic axis: 1, 2, 5, 10 ..., or where those are under three, evenly spaced ones."""
    decades = np.arange(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(step * 10.0**decade) for decade in decades for step in (1, 2, 5)]
    if sum(low <= tick <= high for tick in ticks) < 3:
        ticks = [float(tick) for tick in MaxNLocator(4).tick_values(low, high)]
    return [tick for tick in ticks if low <= tick <= high]


def shortened(text: str, limit: int = 22) -> str:
    """A label short enough for an axis."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _figure(height_in: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(_WIDTH_IN, height_in), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.grid(visible=True, axis="y")
    return figure, axes


def _legend(axes: Axes, columns: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        borderaxespad=0,
        borderpad=0.3,
        handlelength=1.2,
        handletextpad=0.5,
        columnspacing=1.2,
        labelcolor=_COLOURS["ink"],
    )


def _plain(text: str) -> str:
    """Text that matplotlib does not take for mathematics."""
    return text.replace("$", r"\$")


def _svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure's SVG element: no metadata, no namespace addresses, ids that no other chart of the page shares."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": name}):
        empty = {"Date": None, "Creator": None, "Format": None, "Type": None}
        figure.savefig(buffer, format="svg", metadata=empty, facecolor="none")
    text = buffer.getvalue().decode()
    text = text[text.index("<svg") :]
    view_box = re.search(r'viewBox="([^"]+)"', text)
    assert view_box is not None
    body = text[text.index(">") + 1 :]
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace('href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    for variable, colour in _COLOURS.items():
        body = body.replace(colour, f"var(--{variable})")
    head = f'<svg class="chart" viewBox="{view_box[1]}" role="img" aria-label="{escape(description)}">'
    # matplotlib escapes the words it draws, and the description is escaped above.
    return Markup(head + body.strip())  # noqa: S704
