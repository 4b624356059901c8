"""Fetch: URLs to bytes, politely; a row for each, whatever becomes of it. Only where a source lists URLs."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial

import pyarrow as pa
import pyarrow.compute as pc

from manifests.denied import NOTHING_DENIED, DenyList, read_denied
from manifests.schema import Reason
from manifests.store import Folder
from pipelines.crawl.denied import without_denied
from pipelines.crawl.log import Tail
from pipelines.crawl.parts import drop_log, fetch_parts, log_path, read_sealed, sealed_name, settle
from pipelines.crawl.parts import reopen as reopen_part
from pipelines.crawl.plan import Group, Wanted, plan_names, planned, read_group, read_groups, wanted_urls, write_plan
from pipelines.crawl.settings import FetchSettings
from pipelines.parts import Item, StageError, run_parts
from pipelines.progress import watched
from pipelines.recipe import Recipe
from pipelines.sources import SourceError, UrlsSource
from pipelines.sources.urls import FETCHED_FOLDER
from pipelines.stages.context import Context, Counts

FOLDER = FETCHED_FOLDER


def url_sources(recipe: Recipe) -> tuple[UrlsSource, ...]:
    """The sources whose URLs are to be fetched."""
    return tuple(source for source in recipe.sources if isinstance(source, UrlsSource))


def is_wanted(recipe: Recipe) -> bool:
    """Whether the recipe has anything to fetch."""
    return bool(url_sources(recipe))


def check_ready(run: Folder) -> None:
    """Raise SourceError where the run folder can't be appended to."""
    if not run.is_local:
        raise SourceError(
            f"{run} is not local: what is fetched is appended to files, record by record; run the stage fetch in a "
            "local or mounted folder, and copy it where it is wanted"
        )


def list_urls(recipe: Recipe, run: Folder) -> pa.Table:
    """The first plan: all URLs of all lists, in groups and parts; of those that were taken down only that they were.

    Raises:
        SourceError: a list can't be read.
    """
    denied = read_denied([run], recipe.ingest.deny)
    urls: list[Wanted] = []
    for source in url_sources(recipe):
        urls += [without_denied(wanted, denied) for wanted in wanted_urls(source.name, source.table(), len(urls))]
    return planned(urls, recipe.resources.part_images)


def is_prepared(run: Folder) -> bool:
    """Whether the first plan is made."""
    return bool(plan_names(run.child(FOLDER)))


def prepare(run: Folder, plan: pa.Table) -> None:
    """Freeze the first plan."""
    write_plan(run.child(FOLDER), plan)


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) URLs."""
    folder = context.run.child(FOLDER)
    groups = read_groups(folder)
    return _Watch(folder, groups).count(), sum(sum(group.urls) for group in groups)


def reopen(run: Folder) -> None:
    """Make what may end better another time be fetched again, and nothing else."""
    folder = run.child(FOLDER)
    sealed = set(folder.names())
    for part in _parts(read_groups(folder)):
        if sealed_name(part) in sealed:
            reopen_part(folder, part)


def run(context: Context) -> Counts:
    """Fetch every URL and write fetched/part-*.parquet."""
    folder = context.run.child(FOLDER)
    groups = read_groups(folder)
    for part in _parts(groups):
        settle(folder, part)
    denied = read_denied([context.run], context.recipe.ingest.deny)
    while groups:
        for source in url_sources(context.recipe):
            # One source after another: they may share hosts.
            work = partial(fetch_group, folder, source.fetch, denied=denied)
            _fetch_groups(context, folder, work, [group for group in groups if group.source == source.name])
        groups = _follow_up(folder, context.recipe.resources.part_images)
    # Images are in logs too, and no one looks there once the stage is done.
    for part in _parts(read_groups(folder)):
        drop_log(folder, part)
    return _counts(folder)


def _parts(groups: list[Group]) -> Iterator[int]:
    return (part for group in groups for part in group.parts)


def _fetch_groups(context: Context, folder: Folder, work: Callable[[Item], Item], groups: list[Group]) -> None:
    sealed = set(folder.names())
    left = [group for group in groups if not {sealed_name(part) for part in group.parts} <= sealed]
    if not left:
        return
    watch = _Watch(folder, groups)
    total = sum(sum(group.urls) for group in groups)
    items = [{"number": group.number, "plan": group.plan, "place": group.place} for group in left]
    with context.reporter.bar("fetch", total, unit="URLs", done=watch.count()) as bar, watched(bar, watch.count):
        for _ in run_parts(work, items, folder, context.recipe.resources.workers):
            bar.reach(watch.count())


def fetch_group(folder: Folder, settings: FetchSettings, item: Item, denied: DenyList = NOTHING_DENIED) -> Item:
    """Fetch and seal what is left of one group, but for what is denied."""
    rows = read_group(folder, item["plan"], item["place"])
    try:
        asyncio.run(fetch_parts(folder, settings, rows, denied=denied))
    except BlockingIOError as error:
        raise StageError(f"{folder}: another process still fetches for this run; end it and run again") from error
    except ExceptionGroup as group:
        # What URLs do is an outcome each; this is the disk's doing, or ours. One of many alike says it all.
        raise group.exceptions[0] from group
    return {"number": item["number"], "urls": len(rows)}


def _follow_up(folder: Folder, part_urls: int) -> list[Group]:
    """Plan the redirects that led to hosts of other parts, where all URLs of such a host are together again."""
    groups = read_groups(folder)
    moved: list[Wanted] = []
    known: set[tuple[int, int]] = set()
    for group in groups:
        if group.plan != "plan-00000.parquet":
            known |= {(row["number"], row["hops"]) for row in read_group(folder, group.plan, group.place)}
    columns = ["number", "source", "url", "listed", "hops", "moved_to"]
    for table in _sealed_tables(folder, groups, columns):
        for row in table.filter(pc.is_valid(table["moved_to"])).to_pylist():
            if (row["number"], row["hops"]) not in known:
                target = row.pop("moved_to")
                moved.append(Wanted(target=target, **row))
    if not moved:
        return []
    parts = 1 + max(part for group in groups for part in group.parts)
    write_plan(folder, planned(moved, part_urls, 1 + max(group.number for group in groups), parts))
    return read_groups(folder, plan_names(folder)[-1:])


def _sealed_tables(folder: Folder, groups: list[Group], columns: list[str]) -> Iterator[pa.Table]:
    for part in _parts(groups):
        yield from read_sealed(folder, part, columns)


def _counts(folder: Folder) -> Counts:
    reasons: Counter[str | None] = Counter()
    retry = 0
    for table in _sealed_tables(folder, read_groups(folder), ["reason", "may_retry", "moved_to"]):
        table = table.filter(pc.is_null(table["moved_to"]))
        reasons.update(table["reason"].to_pylist())
        retry += pc.sum(table["may_retry"]).as_py() or 0
    return {
        "URLs": reasons.total(),
        "images": reasons.pop(None, 0),
        "opted out": reasons.pop(Reason.OPTED_OUT.value, 0),
        "refused": reasons.pop(Reason.REFUSED_ADDRESS.value, 0),
        "failed": reasons.total(),
        "of them to try again": retry,
    }


class _Watch:
    """How many URLs of some groups have ended, by the files that their workers write."""

    def __init__(self, folder: Folder, groups: list[Group]) -> None:
        self._folder = folder
        self._urls = {part: urls for group in groups for part, urls in zip(group.parts, group.urls, strict=True)}
        self._tails = {part: Tail(log_path(folder, part)) for part in self._urls}

    def count(self) -> int:
        """How many there are by now; one that is tried again may count twice, but none beyond its part's number."""
        sealed = set(self._folder.names())
        return sum(
            urls if sealed_name(part) in sealed else min(urls, self._tails[part].count())
            for part, urls in self._urls.items()
        )
