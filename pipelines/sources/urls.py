"""A list of URLs, which the stage fetch fetches; ingest reads what came of them."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field, PrivateAttr

from manifests.schema import Reason
from manifests.store import Folder
from pipelines.crawl.denied import hidden_key
from pipelines.crawl.parts import read_sealed
from pipelines.crawl.plan import read_groups
from pipelines.crawl.rows import FETCHED
from pipelines.crawl.settings import FetchSettings
from pipelines.sources.lists import TEXT, UnreadableList, read_list
from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings

FETCHED_FOLDER = "fetched"
"""The folder of the stage fetch, in the run."""

_COLUMNS = ("url", "person", "licence")


class UrlsSource(SourceSettings):
    """Images by URL. One that is listed twice is fetched once, and is a record for each person it is listed with."""

    kind: Literal["urls"]
    list: str = Field(
        description="CSV or Parquet file (a path or URI) with a column url and, if known, person and licence"
    )
    fetch: FetchSettings = Field(description="How they are fetched")
    _fetched: Folder | None = PrivateAttr(default=None)

    def within(self, run: Folder) -> "UrlsSource":
        """The same source, with what a run fetched of it."""
        bound = self.model_copy()
        bound._fetched = run.child(FETCHED_FOLDER)
        return bound

    def table(self) -> pa.Table:
        """The list: columns url, person and licence, all text; empty people and licences are null.

        Raises:
            SourceError: it can't be read, has no column url, or a row of it has no URL.
        """
        try:
            table, names = read_list(self.list, _COLUMNS)
        except UnreadableList as error:
            raise SourceError(
                f"source {self.name}: {self.list} can't be read ({error}); set sources.N.list to a CSV or Parquet file"
            ) from error
        if "url" not in names:
            raise SourceError(
                f"source {self.name}: {self.list} has no column url, only {', '.join(names)}; name one so"
            )
        found = {name: _trimmed(table, name) for name in _COLUMNS}
        if not len(table):
            raise SourceError(f"source {self.name}: {self.list} lists no URLs; check the file")
        if found["url"].null_count:
            row = pc.index(pc.is_null(found["url"]), True).as_py() + 1
            raise SourceError(f"source {self.name}: row {row} of {self.list} has no URL; take it out")
        return pa.table(found)

    def ranges(self, part_images: int) -> Sequence[PartRange]:
        """Ranges of at most `part_images` records of what was fetched.

        Raises:
            SourceError: nothing was fetched yet.
        """
        if self._fetched is None:
            raise SourceError(f"source {self.name}: its URLs are not fetched yet; do the stage fetch first")
        found = []
        for group in read_groups(self._fetched):
            for part in group.parts if group.source == self.name else ():
                records = 0
                for table in read_sealed(self._fetched, part, ["listed", "moved_to"]):
                    ended = table.filter(pc.is_null(table["moved_to"]))
                    records += pc.sum(pc.list_value_length(ended["listed"])).as_py() or 0
                for first in range(0, records, part_images):
                    found.append(PartRange(min(part_images, records - first), b"%d:%d" % (part, first)))
        return found

    def read(self, part: PartRange) -> Iterator[Record]:
        """What was fetched; a URL of which there is no image is a record that says why."""
        assert self._fetched is not None
        number, first = map(int, part.start.split(b":"))
        at = 0
        for table in read_sealed(self._fetched, number, FETCHED.names):
            for row in table.filter(pc.is_null(table["moved_to"])).to_pylist():
                for listed in row["listed"]:
                    if first <= at < first + part.records:
                        yield _record(self.name, row, listed)
                    at += 1
                if at >= first + part.records:
                    return


def _record(source: str, row: dict[str, Any], listed: dict[str, Any]) -> Record:
    if row["reason"] == Reason.DENIED:
        return Record(hidden_key(source, listed["key"]), None, reason=Reason.DENIED)
    facts = {"status": row["status"], "final_url": row["final_url"]}
    return Record(
        listed["key"],
        row["image"],
        problem=row["detail"],
        facts={name: value for name, value in facts.items() if value is not None},
        person=listed["person"],
        url=listed["url"],
        licence=listed["licence"],
        reason=Reason.UNREADABLE if row["reason"] is None else Reason(row["reason"]),
    )


def _trimmed(table: pa.Table, name: str) -> pa.ChunkedArray:
    if name not in table.column_names:
        return pa.chunked_array([pa.nulls(len(table), TEXT)])
    text = pc.utf8_trim_whitespace(table[name])
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, TEXT), text)
