"""The command `dcgan`: joins the commands, and turns errors that a user can mend into one message."""

import os

# Before anything imports Ray: nothing is reported to anyone.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import typer

from pipelines import exits
from pipelines.commands import (
    dedup,
    describe,
    draw,
    evaluate,
    exemplars,
    export,
    faces,
    forget,
    import_authors,
    names,
    pack,
    review,
    run,
    sample,
    status,
    train,
)
from pipelines.commands.failure import expected_errors

app = typer.Typer(
    name="dcgan",
    help="LSUN LMDBs or a folder of photos to de-duplicated WebDataset shards, an audit, and a DCGAN trained on them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("run")(run.run)
app.command("dedup")(dedup.dedup)
app.command("train")(train.train)
app.command("status")(status.status)
app.command("review")(review.review)
app.command("pack")(pack.pack)
app.command("faces")(faces.faces)
app.command("forget")(forget.forget)
app.command("evaluate")(evaluate.evaluate)
app.command("sample")(sample.sample)
app.command("describe")(describe.describe)
app.command("import-authors")(import_authors.import_authors)
app.command("export")(export.export)
app.command("exemplars")(exemplars.exemplars)
app.command("names")(names.names)
app.add_typer(draw.app, name="draw")


def main() -> None:
    """Run the command line; errors that a user can mend end it with status 2 and one message."""
    with expected_errors():
        app(prog_name="dcgan")


def command() -> None:
    """Run the command line as all that this process does."""
    try:
        main()
    except SystemExit as ended:
        if exits.is_needed() and isinstance(ended.code, int | None):
            exits.leave(ended.code or 0)
        raise


if __name__ == "__main__":
    command()
