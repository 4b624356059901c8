"""URLs that were taken down: they are not asked for, and nothing of them but a hash is kept."""

from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from manifests.denied import DenyList, denied_id, denied_key, url_sha256
from manifests.schema import Reason, record_id
from manifests.store import Folder, part_name
from pipelines.crawl.plan import Wanted, plan_names, read_groups
from pipelines.crawl.rows import FETCHED

Row = dict[str, Any]

_KEPT = ("number", "source", "hops", "may_retry", "attempts", "fetched_at", "seconds", "status")


def without_denied(wanted: Wanted, denied: DenyList) -> Wanted:
    """The URL to fetch; where it is denied, or each person that it is listed with is, one that is not asked for."""
    row = {"source": wanted.source, "url": wanted.url, "listed": wanted.listed}
    left = _emptied(row, denied)
    return wanted if left is row else replace(wanted, url=left["url"], target=left["target"], listed=left["listed"])


def _emptied(row: Row, denied: DenyList) -> Row:
    """The row of a plan or of what was fetched, without what is denied; itself where nothing is."""
    if not len(denied):
        return row
    listed = [_listed(row["source"], entry, denied) for entry in row["listed"]]
    if listed == row["listed"]:
        return row
    left: Row = row | {"listed": listed}
    if any(entry["url"] for entry in listed):
        return left  # it is an image of someone else too
    hidden = denied_key(url_sha256(row["url"]))
    return left | {"url": hidden, "target": hidden}


def _listed(source: str, entry: Row, denied: DenyList) -> Row:
    held = denied.holds(record_id(source, entry["key"]), None, entry["url"], entry["person"])
    return _hidden(source, entry) if held else entry


def _hidden(source: str, entry: Row) -> Row:
    return {"key": hidden_key(source, entry["key"]), "url": "", "person": None, "licence": None}


def hidden_key(source: str, key: str) -> str:
    """The key of a record of which nothing else is kept; the key itself where it is one already."""
    return denied_key(record_id(source, key)) if denied_id(key) is None else key


def purge_fetched(folder: Folder, denied: DenyList) -> None:
    """Take what is denied out of the plans and the parts that are sealed."""
    parts = [part_name(part) for group in read_groups(folder) for part in group.parts]
    numbers: set[int] = set()
    for name in parts:
        table = folder.read_table(name, ["number", "sha256"])
        found = pc.is_in(table["sha256"], pa.array(sorted(denied.sha256), pa.string()))
        numbers.update(table.filter(found)["number"].to_pylist())
    # The plans come first: what was fetched of a URL, only the parts say.
    for name in [*plan_names(folder), *parts]:
        _purge(folder, name, denied, frozenset(numbers))


def _purge(folder: Folder, name: str, denied: DenyList, numbers: frozenset[int]) -> None:
    with folder.open_input(name) as file:
        table = pq.ParquetFile(file)
        columns = ["number", "source", "url", "listed"]
        touched = any(
            _purged(row, denied, numbers) is not row
            for place in range(table.num_row_groups)
            for row in table.read_row_group(place, columns=columns).to_pylist()
        )
        if not touched:
            return
        with folder.write_atomic(name) as out, pq.ParquetWriter(out, table.schema_arrow, compression="zstd") as writer:
            for place in range(table.num_row_groups):
                rows = [_purged(row, denied, numbers) for row in table.read_row_group(place).to_pylist()]
                group = pa.Table.from_pylist(rows, table.schema_arrow)
                writer.write_table(group, row_group_size=max(1, len(group)))


def _purged(row: Row, denied: DenyList, numbers: frozenset[int]) -> Row:
    """The row without what is denied; of URLs of these numbers it was an image of denied bytes."""
    if row["number"] in numbers and denied_id(row["url"]) is None:
        row = row | {"listed": [_hidden(row["source"], entry) for entry in row["listed"]]}
        hidden = denied_key(url_sha256(row["url"]))
        return _nothing_of(row | {"url": hidden, "target": hidden})
    left = _emptied(row, denied)
    return left if left is row or left["url"] == row["url"] else _nothing_of(left)


def _nothing_of(row: Row) -> Row:
    """What is left of a row whose URL is hidden. One that moved still says so: another row tells how it ended."""
    if "image" not in row:
        return row
    of_none = dict.fromkeys(name for name in FETCHED.names if name not in (*_KEPT, "url", "listed"))
    moved_to = None if row["moved_to"] is None else row["url"]
    return row | of_none | {"moved_to": moved_to, "reason": Reason.DENIED.value, "detail": "taken down"}
