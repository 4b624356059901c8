"""dcgan names: a saved DBpedia answer to a list of queries, one for each person."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from pipelines.sources.names import read_names, write_queries
from pipelines.sources.record import SourceError


def names(
    file: Annotated[
        Path,
        typer.Argument(
            metavar="NAMES.csv", help="A SPARQL answer saved as CSV, with the columns name and birthDate", exists=True
        ),
    ],
    out: Annotated[Path, typer.Option(help="The CSV of person and query to write")],
    born_after: Annotated[
        int | None, typer.Option(metavar="YEAR", help="Only people born in a later year; none: all, dated or not")
    ] = None,
) -> None:
    """Turn a saved DBpedia answer into a list of image queries, one for each person. Nothing is asked of the web."""
    found = read_names(file, born_after)
    left_out = (
        f"{found.without_name:,} without a name, {found.without_date:,} without a date, {found.too_early:,} too early, "
        f"{found.repeats:,} repeats"
    )
    if not found.persons:
        raise SourceError(f"{file}: none of its {found.rows:,} rows names a person to search for ({left_out})")
    write_queries(out, found.persons)
    Console(markup=False).print(
        f"{len(found.persons):,} people of {found.rows:,} rows ({left_out}): {out}", highlight=False, soft_wrap=True
    )
