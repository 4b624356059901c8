"""What a run would do, without doing any of it."""

import pyarrow.compute as pc

from manifests.store import Folder
from pipelines.inputs import sources_within
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.run import is_done
from pipelines.sources import UrlsSource, list_parts
from pipelines.stages import Stage, fetch, ingest
from pipelines.stages.context import Context


def planned_work(recipe: Recipe, run: Folder, stages: tuple[Stage, ...], reporter: Reporter) -> list[tuple[str, str]]:
    """(stage, what it would do) of every stage, without doing any of it."""
    recipe = recipe.model_copy(update={"sources": sources_within(recipe, run)})
    context = Context(run, recipe, reporter, on_cluster=False)
    fetches = any(stage.name == "fetch" and not is_done(run, stage) for stage in stages)
    planned: list[tuple[str, str]] = []
    outdated = False
    for stage in stages:
        if outdated:
            planned.append((stage.name, "all to do again"))
            continue
        outdated = is_done(run, stage) and stage.is_behind(recipe, run)
        if is_done(run, stage) and not outdated:
            planned.append((stage.name, "done"))
            continue
        if stage.name == "fetch" and not fetch.is_prepared(run):
            urls = fetch.list_urls(recipe, run)
            planned.append((stage.name, f"{len(urls):,} URLs in {pc.max(urls['part']).as_py() + 1:,} parts to do"))
        elif stage.name == "fetch" or ingest.is_prepared(run):
            finished, total = stage.progress(context)
            planned.append((stage.name, f"{total - finished:,} of {total:,} to do" if total else "all to do"))
        elif stage.name in ("ingest", "encode"):
            listed = [source for source in recipe.sources if not (fetches and isinstance(source, UrlsSource))]
            parts = list_parts(listed, recipe.resources.part_images)
            records = sum(part.range.records for part in parts)
            more = " and what is fetched" if fetches else ""
            planned.append((stage.name, f"{len(parts):,} parts of {records:,} records{more} to do"))
        else:
            planned.append((stage.name, "all to do"))
    return planned
