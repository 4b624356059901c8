"""The crawl's sections: faces with their pictures, people, and where the images came from."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from markupsafe import Markup

from manifests import charts
from manifests.audit import texts
from manifests.crawl import NUMBERS, Crawl, crawl, faces_per_image
from manifests.distribution import Distribution, distribution
from manifests.pages.galleries import pictures
from manifests.pages.ledger import MEANINGS
from manifests.schema import Status
from manifests.store import Folder

SHOWN_FACES = 39
SHOWN_NAMES = 15
SHOWN_DETAILS = 12
# Faces an image: from where on they are counted together.
STEPS = (0, 1, 2, 3, 4, 5, 10, 20)
# Of fewer people the outer percentiles would be numbers that nobody has.
FEW_PEOPLE = 40


def sections(run: Folder, recipe: dict[str, Any] | None) -> dict[str, Any]:
    """The sections `faces`, `people` and `origins`; None where the run holds nothing of the kind."""
    found = crawl(run, int((recipe or {}).get("seed") or 0), SHOWN_FACES)
    return {"faces": _faces(run, found, _smallest_px(recipe)), "people": _people(found), "origins": _origins(found)}


def _smallest_px(recipe: dict[str, Any] | None) -> int | None:
    """The shortest side of a box that the recipe takes; None where it does not say."""
    ingest = ((recipe or {}).get("recipe") or {}).get("ingest") or {}
    smallest = (ingest.get("faces") or {}).get("smallest_px")
    return None if smallest is None else int(smallest)


def _faces(run: Folder, found: Crawl, smallest_px: int | None) -> dict[str, Any] | None:
    if not found.faces:
        return None
    per_image = faces_per_image(run)
    uris = pictures(run, {record for of in (found.random, found.lowest) for record in of["record_id"].to_pylist()})
    held = distribution(found.sides, found.statuses, True, _ends(found.sides))
    holding = int(per_image[1:].sum())
    return {
        "found": found.faces,
        "kept": pc.sum(pc.equal(found.statuses, Status.KEPT.value)).as_py(),
        "images": holding,
        "sought": int(per_image.sum()),
        "several": int(per_image[2:].sum()),
        "most": len(per_image) - 1,
        "per_image": _steps(per_image),
        "smallest_px": smallest_px,
        "sides": None if held is None else _sides(held, smallest_px),
        "random": _cards(found.random, uris),
        "lowest": _cards(found.lowest, uris),
    }


def _ends(sides: npt.NDArray[np.float64]) -> tuple[float, float] | None:
    """All of the range: what is dropped for being small lies at its very end."""
    measured = sides[np.isfinite(sides) & (sides > 0)]
    return (float(measured.min()), float(measured.max())) if len(measured) else None


def _steps(per_image: npt.NDArray[np.int64]) -> list[tuple[str, int]]:
    """How many images hold so many faces, large numbers of faces together, with words for each."""
    rows = []
    for low, after in zip(STEPS, [*STEPS[1:], max(len(per_image), STEPS[-1] + 1)], strict=True):
        if low < len(per_image):
            words = "none" if low == 0 else str(low) if after == low + 1 else f"{low} to {after - 1}"
            last = low == STEPS[-1]
            rows.append((f"{low} or more" if last else words, int(per_image[low:after].sum())))
    return rows


def _sides(held: Distribution, smallest_px: int | None) -> dict[str, Any]:
    medians = "; ".join(
        f"{status}: {held.numbers[status]:,}, median {held.quantiles[status][1]:,.4g}" for status in held.shares
    )
    description = f"Histogram of the shorter side of faces' boxes in source pixels. {medians}."
    mark = None
    if smallest_px is not None:
        description += f" The recipe takes {smallest_px} px and more."
        if held.edges[0] <= smallest_px <= held.edges[-1]:
            mark = (float(smallest_px), f"taken from {smallest_px} px")
    shares = {f"{status} ({held.numbers[status]:,})": share for status, share in held.shares.items()}
    chart: Markup = charts.histogram(
        "face-side", description, held.edges, shares, "shorter side of the box, px", True, mark=mark
    )
    return {"chart": chart, "quantiles": held.quantiles}


def _cards(faces: pa.Table, uris: dict[str, str]) -> list[dict[str, Any]]:
    """A picture, whom it may show and the score of each face; one whose picture no part holds any more is left out."""
    rows = zip(faces["record_id"].to_pylist(), _names(faces["person"]), faces["face_score"].to_pylist(), strict=True)
    return [
        {"picture": uris[record], "person": person, "score": score} for record, person, score in rows if record in uris
    ]


def _people(found: Crawl) -> dict[str, Any] | None:
    named = found.people.filter(found.people["name"].is_valid())
    if not len(named):
        return None
    kept = named["kept"].to_numpy()
    few = len(named) < FEW_PEOPLE
    return {
        "total": len(named),
        "kept": int(np.count_nonzero(kept)),
        "quantiles": np.percentile(kept, [0, 50, 100] if few else [5, 50, 95]).tolist(),
        "between": "least to most" if few else "5 % to 95 %",
        "unsure": int(named["unsure"].to_numpy().sum()),
        "shared": found.shared,
        "faces": found.faces > 0,
        "rows": _top(named, ["kept", "faces", "images"]),
        "others": len(named) - SHOWN_NAMES,
        "named": _sums(named),
        "unnamed": _sums(found.people.filter(found.people["name"].is_null())),
    }


def _origins(found: Crawl) -> dict[str, Any] | None:
    has_hosts, has_licences = (bool(pc.any(of["name"].is_valid()).as_py()) for of in (found.hosts, found.licences))
    if not (has_hosts or has_licences or len(found.outcomes)):
        return None
    return {
        "faces": found.faces > 0,
        "images": _sums(found.hosts)["images"],
        "outcomes": _outcomes(found.outcomes),
        "licences": _top(found.licences, ["images", "kept"]) if has_licences else [],
        "more_licences": len(found.licences) - SHOWN_NAMES,
        "hosts": _top(found.hosts, ["images", "kept"]) if has_hosts else [],
        "more_hosts": len(found.hosts) - SHOWN_NAMES,
        "all_hosts": pc.sum(found.hosts["name"].is_valid()).as_py() or 0,
        "total": _sums(found.hosts),
    }


def _outcomes(outcomes: pa.Table) -> list[dict[str, Any]]:
    """Each reason for which images were not fetched: how many, and the commonest words for it with their numbers."""
    sums = outcomes.group_by("reason").aggregate([("count_all", "sum")])
    rows = []
    for row in sums.sort_by([("count_all_sum", "descending"), ("reason", "ascending")]).to_pylist():
        own = outcomes.filter(pc.and_(pc.equal(outcomes["reason"], row["reason"]), outcomes["detail"].is_valid()))
        most = own.sort_by([("count_all", "descending"), ("detail", "ascending")]).slice(0, SHOWN_DETAILS)
        details = list(zip(texts(most["detail"]), most["count_all"].to_pylist(), strict=True))
        meaning = MEANINGS.get(row["reason"], "")
        rows.append({"reason": row["reason"], "meaning": meaning, "count": row["count_all_sum"], "details": details})
    return rows


def _top(table: pa.Table, by: list[str]) -> list[dict[str, Any]]:
    """The rows that come first by some numbers, the largest first, with names as text and None for no name."""
    first = table.sort_by([*((name, "descending") for name in by), ("name", "ascending")]).slice(0, SHOWN_NAMES)
    numbers = first.select(list(NUMBERS)).to_pylist()
    return [{"name": name, **row} for name, row in zip(_names(first["name"]), numbers, strict=True)]


def _names(column: pa.ChunkedArray) -> list[str | None]:
    present = column.is_valid().to_pylist()
    return [text if here else None for text, here in zip(texts(column), present, strict=True)]


def _sums(table: pa.Table) -> dict[str, int]:
    return {name: int(table[name].to_numpy().sum()) for name in NUMBERS}
