"""Where records come from. A source is cut into parts; a part yields its records, each with the bytes of one item.

A part is the unit of work and of resume. The list of parts is made once, at the first run, and frozen.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pyarrow as pa
from pydantic import Field

from manifests.denied import DenyList, denied_id, denied_key
from manifests.schema import Reason, record_id
from pipelines.sources.drawn import DrawnFacesSource, DrawnSource
from pipelines.sources.folder import FolderSource
from pipelines.sources.idx import IdxSource
from pipelines.sources.lsun import LsunSource
from pipelines.sources.parquet import ParquetSource
from pipelines.sources.record import PartRange, Record, SourceError
from pipelines.sources.tar import TarSource
from pipelines.sources.tars import TarsSource
from pipelines.sources.urls import UrlsSource
from pipelines.sources.warc import WarcSource

__all__ = [
    "PARTS",
    "Part",
    "PartRange",
    "Record",
    "Source",
    "SourceError",
    "UrlsSource",
    "list_parts",
    "read_part",
    "without_denied",
]

Source = Annotated[
    LsunSource
    | FolderSource
    | TarSource
    | TarsSource
    | WarcSource
    | ParquetSource
    | IdxSource
    | UrlsSource
    | DrawnSource
    | DrawnFacesSource,
    Field(discriminator="kind"),
]

_TAKEN_DOWN = b"\0\0"

PARTS = pa.schema(
    [
        pa.field("number", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("records", pa.int64(), nullable=False),
        pa.field("start", pa.binary(), nullable=False),
        pa.field("names", pa.list_(pa.binary()), nullable=False),
    ]
)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of one source: its number in the run, and the range of the source that it covers."""

    number: int
    source: str
    range: PartRange

    def row(self) -> dict[str, Any]:
        """The part as a row of PARTS."""
        return {
            "number": self.number,
            "source": self.source,
            "records": self.range.records,
            "start": self.range.start,
            "names": list(self.range.names),
        }

    @classmethod
    def from_row(cls, row: dict[str, Any]) -> "Part":
        """The part that a row of PARTS describes."""
        return cls(
            int(row["number"]),
            str(row["source"]),
            PartRange(int(row["records"]), bytes(row["start"]), tuple(bytes(n) for n in row["names"])),
        )


def list_parts(sources: Sequence[Source], part_images: int, first: int = 0) -> list[Part]:
    """All parts of all sources, numbered in order from `first` on.

    Raises:
        SourceError: a source is not there, is damaged or holds nothing.
    """
    parts: list[Part] = []
    for source in sources:
        for part_range in source.ranges(part_images):
            parts.append(Part(first + len(parts), source.name, part_range))
    return parts


def read_part(sources: Sequence[Source], part: Part) -> Iterator[Record]:
    """The records of a part, in the source's order; of entries that were taken down a record without anything."""
    source = next(s for s in sources if s.name == part.source)
    taken = [_taken_down(entry) for entry in part.range.names]
    if not any(taken):
        yield from source.read(part.range)
        return
    left = tuple(entry for entry, key in zip(part.range.names, taken, strict=True) if key is None)
    records = source.read(PartRange(len(left), part.range.start, left))
    for key in taken:
        yield next(records) if key is None else Record(key, None, reason=Reason.DENIED)


def without_denied(sources: Sequence[Source], part: Part, denied: DenyList) -> Part:
    """The part without the names of what the list denies, as far as a source's entries tell of single records."""
    source = next(s for s in sources if s.name == part.source)
    if not len(denied) or len(part.range.names) != part.range.records:
        return part
    names = tuple(
        entry if _taken_down(entry) else _without_denied(source, part.range, entry, denied)
        for entry in part.range.names
    )
    return replace(part, range=replace(part.range, names=names))


def _without_denied(source: Source, part: PartRange, entry: bytes, denied: DenyList) -> bytes:
    told = source.told(part, entry)
    if told is None:
        return entry
    record = record_id(source.name, told.key)
    return _TAKEN_DOWN + denied_key(record).encode() if denied.holds(record, None, told.url, told.person) else entry


def _taken_down(entry: bytes) -> str | None:
    """The key of an entry that was taken down; None of any other, which may begin with null bytes too."""
    if not entry.startswith(_TAKEN_DOWN):
        return None
    key = entry.removeprefix(_TAKEN_DOWN).decode("utf-8", "replace")
    return key if denied_id(key) is not None else None
