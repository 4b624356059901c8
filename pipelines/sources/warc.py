"""WARC and WARC.GZ files as crawlers write them. A record of ours is one response or resource that is an image.

Which are: what the server called image/*, or what begins as an image does; and every response whose status is not 200,
which is a failed record, so that an address that was not got is told of. Pages, scripts, requests, notes of repeats
(revisit) and all else in the file are left out.
"""

from collections.abc import Iterator
from itertools import islice
from typing import IO, Literal, NamedTuple

import pyarrow as pa
from pydantic import Field

from manifests.schema import Reason
from pipelines.sources import people
from pipelines.sources.exchange import Exchange, exchange
from pipelines.sources.files import File, changed, listed_files, listed_of_each, opened_file, unchanged_file
from pipelines.sources.framing import Place, SeveralRecords, places, record_block
from pipelines.sources.people import Known
from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings

_ENDINGS = (".warc", ".warc.gz")
_SNIFFED_BYTES = 64
_MOST_HEADER_BYTES = 1 << 20
_GOT = 200


class Listed(NamedTuple):
    """A record of a WARC file, as its part keeps it. The address is kept only where it can't be read again."""

    offset: int
    size_bytes: int
    problem: str
    known: Known

    def packed(self) -> bytes:
        """The record as a part keeps it."""
        return b"%d %d\0%s\0%s" % (self.offset, self.size_bytes, self.problem.encode(), people.packed(self.known))

    @classmethod
    def unpacked(cls, packed: bytes) -> "Listed":
        """The record of `packed`."""
        place, problem, known = packed.split(b"\0", 2)
        offset, size_bytes = map(int, place.split())
        return cls(offset, size_bytes, problem.decode(), people.unpacked(known))


class WarcSource(SourceSettings):
    """All images of one WARC file, or of all WARC files below a folder, in the files' order."""

    kind: Literal["warc"]
    path: str = Field(
        description="A WARC or WARC.GZ file, or a folder of them; local, or a URI such as s3://bucket/crawl"
    )
    people: str | None = Field(
        None, description="CSV or Parquet of url -> person, licence; url as the crawler asked for it. Local or a URI"
    )
    largest_file_bytes: int = Field(
        1 << 26, ge=1, description="Larger images, packed or unpacked, are never held in memory"
    )

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` records of one file, from one look through the files."""
        files = listed_files(self.name, self.path, _ENDINGS)
        table = people.read_people(self.name, self.people, "url") if self.people is not None else None
        found = list(listed_of_each(files, self._listed))
        if not any(found):
            raise SourceError(
                f"source {self.name}: the {len(files):,} WARC files of {self.path} hold no images; check the path"
            )
        entries = self._entries([listed for of_file in found for listed in of_file], table)
        ranges = []
        for file, of_file in zip(files, found, strict=True):
            left = len(of_file)
            while left:
                chunk = tuple(islice(entries, min(left, part_images)))
                ranges.append(PartRange(len(chunk), file.packed(), chunk))
                left -= len(chunk)
        return ranges

    def _listed(self, file: File) -> list[Listed]:
        try:
            with opened_file(self.path, file.name) as opened:
                return [listed for place in places(opened) if (listed := _of_place(place)) is not None]
        except SeveralRecords as error:
            raise SourceError(
                f"source {self.name}: {file.name} of {self.path} is compressed as a whole, and records are read by "
                f"where they lie; run: warcio recompress {file.name} NEW.warc.gz"
            ) from error
        except OSError as error:
            raise SourceError(
                f"source {self.name}: {file.name} of {self.path} can't be read ({error}); fetch it again"
            ) from error

    def _entries(self, found: list[Listed], table: pa.Table | None) -> Iterator[bytes]:
        """The records as parts keep them, with what the list says of their addresses."""
        if table is None:
            return (listed._replace(known=_kept(listed, None, None)).packed() for listed in found)
        known, strange = people.known_of(table, "url", [listed.known.url or "" for listed in found])
        if strange == table.num_rows:
            raise SourceError(
                f"source {self.name}: people {self.people}: none of its {strange:,} addresses (such as "
                f"{table['url'][0].as_py()}) is one of {self.path} (such as {found[0].known.url}); check both"
            )
        return (
            listed._replace(known=_kept(listed, said.person, said.licence)).packed()
            for listed, said in zip(found, known, strict=True)
        )

    def told(self, part: PartRange, entry: bytes) -> Record:
        """The key, and what the list says."""
        listed = Listed.unpacked(entry)
        return Record(f"{File.unpacked(part.start).name}#{listed.offset}", None, **listed.known._asdict())

    def read(self, part: PartRange) -> Iterator[Record]:
        """The images; one that was not got, or can't be read, is a record that says why."""
        file = File.unpacked(part.start)
        with unchanged_file(self.name, self.path, file) as opened:
            for entry in part.names:
                try:
                    yield self._record(opened, file.name, Listed.unpacked(entry))
                except ValueError as error:
                    raise changed(self.name, self.path, file) from error

    def _record(self, opened: IO[bytes], name: str, listed: Listed) -> Record:
        """The record whose key says where it lies: `warcio extract FILE OFFSET` shows it."""
        key = f"{name}#{listed.offset}"
        if listed.problem:
            return Record(key, None, listed.problem, **listed.known._asdict())
        found = None
        problem = self._too_large(listed.size_bytes - _MOST_HEADER_BYTES)
        if problem is None:
            found = exchange(record_block(opened, listed.offset, listed.size_bytes), self.largest_file_bytes)
            if found is None:
                raise ValueError("there was a response or a resource")
            problem = _problem(found) or self._too_large(len(found.data or b""))
        url = found.url if found is not None else None
        not_got = found is not None and found.status not in (None, _GOT)
        return Record(
            key,
            found.data if found is not None and problem is None else None,
            problem,
            **listed.known._replace(url=url)._asdict(),
            reason=Reason.NOT_FETCHED if not_got else Reason.UNREADABLE,
        )

    def _too_large(self, size_bytes: int) -> str | None:
        if size_bytes <= self.largest_file_bytes:
            return None
        return f"over largest_file_bytes={self.largest_file_bytes}"


def _of_place(place: Place) -> Listed | None:
    """The record that lies there, with its address; None where it is none of ours."""
    try:
        found = exchange(place.head, _SNIFFED_BYTES) if place.head else None
    except ValueError:
        found = None
    url = found.url if found is not None else None
    listed = Listed(place.offset, place.size_bytes, place.problem or "", Known(url=url))
    # What can't be read is told of, whatever it was.
    return listed if place.problem or (found is not None and _is_ours(found)) else None


def _is_ours(found: Exchange) -> bool:
    answered = found.status is not None and found.status != _GOT
    headless = found.status is None and found.problem is not None
    return answered or headless or found.is_image


def _problem(found: Exchange) -> str | None:
    return f"HTTP status {found.status}" if found.status not in (None, _GOT) else found.problem


def _kept(listed: Listed, person: str | None, licence: str | None) -> Known:
    return Known(person, listed.known.url if listed.problem else None, licence)
