"""The table of features as bars."""

import numpy as np

from training.evaluation.linear import Few, Row, Split
from training.evaluation.paper import published
from training.samples import Images, labelled


def bar_chart(rows: list[Row], split: Split) -> Images:
    """The rows' accuracies as bars, with the paper's figures as lines where it has some for these pictures.

    Returns:
        picture: uint8[H, W, 3], RGB.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # much memory, for few who import this module
    from matplotlib.figure import Figure

    paper = published(split.known)
    columns = ["", *dict.fromkeys(k for row in rows for k in row.few)]
    figure = Figure(figsize=(7.2, 0.5 + 0.22 * len(rows) * (len(columns) + 1)), dpi=100, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.subplots()
    for number, k in enumerate(columns):
        places, values, errors = [], [], []
        for place, row in enumerate(rows):
            if not k or k in row.few:
                few = row.few[k] if k else Few(row.accuracy, None, 1)
                places.append(place + (number - (len(columns) - 1) / 2) * 0.8 / len(columns))
                values.append(100 * few.mean)
                errors.append(100 * (few.deviation or 0.0))
        label = f"{k} labels a class" if k else f"all {len(split.train):,} labels"
        bars = axes.barh(places, values, 0.75 / len(columns), xerr=errors, label=label, color=f"C{number}")
        axes.bar_label(bars, fmt="%.1f", padding=3, fontsize=8)
        line = None if paper is None else paper.figures.get(f"accuracy_{k}" if k else "accuracy")
        if line is not None:
            axes.axvline(100 * line, color=f"C{number}", linestyle="--", label=f"the paper's {100 * line:.1f} %")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.set_xlabel("test images put into their class, %")
    axes.legend(fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(columns), frameon=False)
    canvas.draw()
    picture = np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])
    return labelled(picture, f"Linear classifiers of {len(split.classes)} classes on features of the rows, by labels")
