"""What a run reads: its sources, and what its first stages freeze of them before they begin."""

from collections.abc import Callable, Sequence
from functools import partial

from manifests.store import Folder
from pipelines.recipe import Recipe
from pipelines.sources import Source, UrlsSource, list_parts
from pipelines.stages import Stage, fetch, ingest


def sources_within(recipe: Recipe, run: Folder) -> tuple[Source, ...]:
    """The recipe's sources; those that read what the run fetched know where it lies."""
    return tuple(source.within(run) if isinstance(source, UrlsSource) else source for source in recipe.sources)


def list_inputs(
    recipe: Recipe, run: Folder, left: Sequence[Stage], again: Sequence[Stage], reopened: bool
) -> dict[str, Callable[[], None]]:
    """What the stages that read the sources have to freeze before they begin; the sources are looked at now.

    Only what the stage fetch brings is listed when it is there.

    Raises:
        SourceError: a source can't be used.
    """
    names, part_images = {stage.name for stage in left}, recipe.resources.part_images
    anew = {stage.name for stage in again}
    freeze: dict[str, Callable[[], None]] = {}
    if "fetch" in names and (not fetch.is_prepared(run) or ("fetch" in anew and not reopened)):
        freeze["fetch"] = partial(fetch.prepare, run, fetch.list_urls(recipe, run))
    if "ingest" in names and ("ingest" in anew or not ingest.is_prepared(run)):
        fetched = fetch.url_sources(recipe) if "fetch" in names else ()
        parts = list_parts([source for source in recipe.sources if source not in fetched], part_images)
        freeze["ingest"] = lambda: ingest.prepare(run, recipe, parts + list_parts(fetched, part_images, len(parts)))
    return freeze
