"""Report: the audit, one page that opens offline."""

from manifests.pages import write_report
from pipelines.stages.context import Context, Counts

FOLDER = "report"
PAGE = "index.html"


def progress(context: Context) -> tuple[int, int]:
    """(finished, all) pages."""
    return int(context.run.child(FOLDER).exists(PAGE)), 1


def run(context: Context) -> Counts:
    """Write report/index.html from what the run folder holds."""
    write_report(context.run)
    return {"pages": 1}
