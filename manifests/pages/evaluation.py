"""The measurements of what the networks learned: for each the sentence, the picture, the figures, and the paper's."""

import json
from typing import Any

from manifests.pages.template import environment, image_uri
from manifests.store import Folder

_LONGEST = 80  # letters of a list in a cell
_NARROW_PX = 500
_MOST_COLUMNS = 12

Table = tuple[str, list[str], list[list[Any]]]  # name, head, rows


def section(folder: Folder) -> list[dict[str, Any]] | None:
    """The measurements in a folder, in order of title; None where there is none."""
    found = []
    for name in folder.names():
        if not name.endswith(".json"):
            continue
        told = folder.read_json(name)
        if isinstance(told, dict) and isinstance(told.get("measurement"), str):
            found.append(_shown(folder, told))
    return sorted(found, key=lambda one: str(one["title"])) or None


def write_page(folder: Folder, title: str) -> None:
    """Write index.html, a page of all measurements in a folder; one file that opens offline."""
    page = environment().get_template("measurements.html").render(title=title, evaluation=section(folder) or [])
    folder.write_bytes("index.html", page.encode("utf-8", "backslashreplace"))


def _shown(folder: Folder, told: dict[str, Any]) -> dict[str, Any]:
    there = folder.names()
    pictures = [
        _picture(folder.read_bytes(one["file"]), one.get("caption") or told["title"])
        for one in told.get("pictures") or []
        if one["file"] in there
    ]
    facts, tables = _laid_out(told.get("figures") or {})
    settings, more = _laid_out(told.get("settings") or {})
    return {
        **{key: told.get(key) for key in ("measurement", "title", "fault", "says", "paper", "statistics", "preset")},
        **{key: told.get(key) for key in ("checkpoint", "images_seen", "seed")},
        "pictures": pictures,
        "facts": facts,
        "tables": tables,
        "settings": settings | {name: json.dumps(rows) for name, _, rows in more},
    }


def _laid_out(values: dict[str, Any], above: str = "") -> tuple[dict[str, Any], list[Table]]:
    """Plain values by their words; and tables. Dictionaries of the same keys share one, a row each."""
    facts: dict[str, Any] = {}
    tables: list[Table] = []
    alike: dict[tuple[str, ...], dict[str, dict[str, Any]]] = {}
    for key, value in values.items():
        name = f"{above} {_cell(key)}".strip()
        if isinstance(value, dict) and value:
            if rows := _like_rows(value):
                tables.append(_table(rows, name))
            elif any(isinstance(inner, dict) for inner in value.values()):
                more, below = _laid_out(value, name)
                facts |= more
                tables += below
            else:
                alike.setdefault(tuple(value), {})[key] = value
        elif isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            columns = _short(value, list(dict.fromkeys(column for row in value for column in row)))
            tables.append((name, _words(columns), [[_cell(row.get(column)) for column in columns] for row in value]))
        else:
            facts[name] = _cell(value)
    return facts, [_table(rows, above) for rows in alike.values()] + tables


def _like_rows(value: dict[str, Any]) -> dict[str, dict[str, Any]] | None:
    """Dictionaries of the same keys, some of them dictionaries again, as rows of one table; None where it is not so."""
    inner = list(value.values())
    if len(inner) < 2 or not all(isinstance(one, dict) for one in inner) or len({tuple(one) for one in inner}) > 1:
        return None
    rows = {key: _flat(one) for key, one in value.items()}
    alike = len({tuple(row) for row in rows.values()}) == 1 and len(next(iter(rows.values()))) <= _MOST_COLUMNS
    return rows if alike and any(isinstance(x, dict) for x in inner[0].values()) else None


def _flat(value: dict[str, Any]) -> dict[str, Any]:
    """Dictionaries within taken apart, one level."""
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= inner if isinstance(inner, dict) and inner else {key: inner}
    return flat


def _table(rows: dict[str, dict[str, Any]], above: str) -> Table:
    """A row for each dictionary; of a single one, a row for each of its values."""
    if len(rows) > 1:
        columns = _short(list(rows.values()), list(next(iter(rows.values()))))
        body = [[_cell(key), *(_cell(row[column]) for column in columns)] for key, row in rows.items()]
        return above, ["", *_words(columns)], body
    ((key, only),) = rows.items()
    return f"{above} {_cell(key)}".strip(), ["", ""], [[_cell(name), _cell(value)] for name, value in only.items()]


def _short(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    """The columns without long lists, which would squeeze the others; the JSON has them."""
    return [column for column in columns if all(_fits(row.get(column)) for row in rows)]


def _fits(value: Any) -> bool:
    return not isinstance(value, list | dict) or len(json.dumps(value)) <= _LONGEST


def _words(names: list[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _cell(value: Any) -> Any:
    """A value that fits into a cell: lists and dictionaries as short text."""
    if isinstance(value, list | dict):
        text = json.dumps(value)
        return text if _fits(value) else f"{text[:60]} … ({len(value)} values)"
    return value.replace("_", " ") if isinstance(value, str) else value


def _picture(png: bytes, caption: str) -> dict[str, Any]:
    """A PNG for the page; one of few pixels is shown at twice its size, since samples of 32 px are hard to see."""
    width_px = int.from_bytes(png[16:20], "big")
    return {"uri": image_uri(png), "caption": caption, "width_px": 2 * width_px if width_px < _NARROW_PX else None}
