"""Which URLs are fetched in which part. All URLs of a host are in one group, and a group is one worker's."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from manifests.store import Folder
from pipelines.crawl.addresses import host_of, parsed_url
from pipelines.crawl.rows import PLANNED

_PREFIX = "plan-"


@dataclass(slots=True)
class Wanted:
    """A URL to fetch."""

    number: int
    source: str
    url: str
    target: str
    hops: int = 0
    listed: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Group:
    """The parts of a plan that one worker does, one after another."""

    number: int
    source: str
    plan: str  # the file
    place: int  # row group of the file
    parts: tuple[int, ...]
    urls: tuple[int, ...]  # how many in each part


def wanted_urls(source: str, table: pa.Table, first_number: int = 0) -> list[Wanted]:
    """The distinct URLs of a list (columns url, person, licence), in order; each with the rows that name it.

    The record of a URL has the URL itself for a key; of further people in it the URL and the name.
    """
    found: dict[str, Wanted] = {}
    for row in table.to_pylist():
        parsed = parsed_url(row["url"])
        url = row["url"].strip() if parsed is None else str(parsed)
        wanted = found.get(url)
        if wanted is None:
            wanted = found[url] = Wanted(first_number + len(found), source, url, url)
        _add_listed(wanted, row)
    return list(found.values())


def _add_listed(wanted: Wanted, row: dict[str, Any]) -> None:
    """Join a row of the list to those that name the URL already; one without a person says no more than the others."""
    for listed in wanted.listed:
        if row["person"] is None or listed["person"] in (None, row["person"]):
            listed["person"] = listed["person"] or row["person"]
            listed["licence"] = listed["licence"] or row["licence"]
            return
    key = wanted.url if not wanted.listed else f"{wanted.url} ({row['person']})"
    wanted.listed.append({"key": key, **row})


def planned(urls: Iterable[Wanted], part_urls: int, first_group: int = 0, first_part: int = 0) -> pa.Table:
    """A PLANNED table: hosts of many URLs are groups of several parts, of hosts of few several share one."""
    hosts: dict[tuple[str, str], list[Wanted]] = {}
    for wanted in urls:
        parsed = parsed_url(wanted.target)
        hosts.setdefault((wanted.source, "" if parsed is None else host_of(parsed)), []).append(wanted)
    # Those that take longest begin first, so that no worker is left alone with them at the end.
    groups: list[list[Wanted]] = []
    open_groups: dict[str, list[Wanted]] = {}
    for (source, _), of_host in sorted(hosts.items(), key=lambda item: -len(item[1])):
        group = open_groups.get(source)
        if group is None or len(group) + len(of_host) > part_urls:
            group = open_groups[source] = []
            groups.append(group)
        group += of_host
    rows: list[dict[str, Any]] = []
    part = first_part
    for number, group in enumerate(groups, first_group):
        for start in range(0, len(group), part_urls):
            rows += [_row(number, part, wanted) for wanted in group[start : start + part_urls]]
            part += 1
    return pa.Table.from_pylist(rows, PLANNED)


def _row(group: int, part: int, wanted: Wanted) -> dict[str, Any]:
    return {
        "group": group,
        "part": part,
        "number": wanted.number,
        "source": wanted.source,
        "url": wanted.url,
        "target": wanted.target,
        "hops": wanted.hops,
        "listed": wanted.listed,
    }


def write_plan(folder: Folder, table: pa.Table) -> None:
    """Write the next plan; a group is a row group of the file."""
    name = f"{_PREFIX}{len(plan_names(folder)):05d}.parquet"
    groups = table["group"].to_pylist()
    starts = [at for at, group in enumerate(groups) if at == 0 or group != groups[at - 1]]
    with folder.write_atomic(name) as file, pq.ParquetWriter(file, PLANNED, compression="zstd") as writer:
        for start, stop in zip(starts, [*starts[1:], len(table)], strict=True):
            writer.write_table(table.slice(start, stop - start), row_group_size=stop - start)


def plan_names(folder: Folder) -> list[str]:
    """The plans that were made so far."""
    return [name for name in folder.names() if name.startswith(_PREFIX)]


def read_groups(folder: Folder, names: Sequence[str] | None = None) -> list[Group]:
    """All groups of some plans; None: of all."""
    found: list[Group] = []
    for name in plan_names(folder) if names is None else names:
        with folder.open_input(name) as file:
            plan = pq.ParquetFile(file)
            for place in range(plan.num_row_groups):
                table = plan.read_row_group(place, columns=["group", "part", "source"])
                parts: dict[int, int] = {}
                for part in table["part"].to_pylist():
                    parts[part] = parts.get(part, 0) + 1
                first = table.slice(0, 1).to_pylist()[0]
                sizes = tuple(parts.values())
                found.append(Group(first["group"], first["source"], name, place, tuple(parts), sizes))
    return found


def read_group(folder: Folder, plan: str, place: int) -> list[dict[str, Any]]:
    """The rows of a group."""
    with folder.open_input(plan) as file:
        rows: list[dict[str, Any]] = pq.ParquetFile(file).read_row_group(place).to_pylist()
    return rows
