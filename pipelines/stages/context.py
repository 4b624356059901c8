"""What a stage is given, and what all stages share of the run folder: names of files, and which are finished."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from manifests.store import Folder
from manifests.store import part_name as part_name  # stages take it from here
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.sources import Part

Counts = dict[str, Any]


@dataclass(frozen=True)
class Context:
    """The run that a stage works on."""

    run: Folder
    recipe: Recipe
    reporter: Reporter
    on_cluster: bool


def plants_name(number: int) -> str:
    """The file of a part's planted near-duplicates."""
    return f"plants-{number:05d}.parquet"


def unfinished_parts(folder: Folder, numbers: list[int]) -> set[int]:
    """Those of the part numbers that have no finished file in the folder."""
    finished = set(folder.names())
    return {number for number in numbers if part_name(number) not in finished}


def part_tables(folder: Folder, numbers: list[int], columns: list[str]) -> Iterator[pa.Table]:
    """Columns of every part's table. By number, not by listing: a listing may lag behind on a network file system."""
    for number in numbers:
        yield folder.read_table(part_name(number), columns)


PARTS_FILE = "parts.parquet"


def frozen_parts(run: Folder) -> list[Part]:
    """The list of parts that was made at the first run."""
    table = run.child("samples").read_table(PARTS_FILE)
    return [Part.from_row(row) for row in table.to_pylist()]


def part_progress(context: Context, folder: str) -> tuple[int, int]:
    """(finished, all) parts of a stage that keeps a file a part."""
    numbers = [part.number for part in frozen_parts(context.run)]
    return len(numbers) - len(unfinished_parts(context.run.child(folder), numbers)), len(numbers)
