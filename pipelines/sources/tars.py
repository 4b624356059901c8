"""WebDataset tars as img2dataset writes them: of each sample an image, a `.json` with what is known of it, a `.txt`.

Departs: a member's key is its name up to the last dot, where WebDataset takes the first dot of the file's name: images
called `a.1.jpg` and `a.2.jpg` are two samples here, and not one of which an image is lost.
"""

import json
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO, Any, Literal, NamedTuple

from pydantic import Field

from manifests.schema import Reason
from pipelines.sources.files import File, changed, listed_files, listed_of_each, opened_file, unchanged_file
from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings, plain_text, text_key
from pipelines.sources.tar import DamagedTar, listed_members, member_bytes

# Compressed ones are listed too, to be refused by name instead of left out in silence.
_ENDINGS = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
_IMAGES = {b"jpg", b"jpeg", b"png", b"webp", b"gif", b"bmp", b"tif", b"tiff", b"avif", b"heic", b"jxl", b"jp2"}
_LARGEST_JSON_BYTES = 1 << 24
_NOTHING = b"- "
_NOT_FETCHED = "failed_to_download"  # one of img2dataset's own words for a status; another is failed_to_resize
_SIZES = ("original_width", "original_height")


class Sample(NamedTuple):
    """Where the members of a sample lie: `offset size`, or `- problem`; empty where there is none."""

    key: bytes
    image: bytes
    facts: bytes

    def packed(self) -> bytes:
        """The sample as a part keeps it."""
        return b"\0".join((self.image, self.facts, self.key))

    @classmethod
    def unpacked(cls, packed: bytes) -> "Sample":
        """The sample of `packed`."""
        image, facts, key = packed.split(b"\0", 2)
        return cls(key, image, facts)


class TarsSource(SourceSettings):
    """All samples of one tar, or of all tars below a folder, in the tars' order; hidden files are left out."""

    kind: Literal["tars"]
    path: str = Field(description="A tar, or a folder of tars, not compressed; local, or a URI such as s3://bucket/a")
    person_field: str = Field(
        "person", min_length=1, description="Key of a sample's .json that names the person; caption serves too"
    )
    url_field: str = Field("url", min_length=1, description="Key of a sample's .json that holds the image's address")
    licence_field: str = Field("license", min_length=1, description="Key of a sample's .json that names the licence")
    largest_file_bytes: int = Field(1 << 30, ge=1, description="Larger images are never read into memory")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of at most `part_images` samples of one tar, from one look at the tars' headers."""
        files = listed_files(self.name, self.path, _ENDINGS)
        ranges = [
            PartRange(len(chunk), file.packed(), tuple(chunk))
            for file, entries in zip(files, listed_of_each(files, self._entries), strict=True)
            for chunk in (entries[i : i + part_images] for i in range(0, len(entries), part_images))
        ]
        if not ranges:
            raise SourceError(f"source {self.name}: the tars of {self.path} hold no files; check the path")
        return ranges

    def _entries(self, file: File) -> list[bytes]:
        try:
            with opened_file(self.path, file.name) as opened:
                members = listed_members(opened, f"source {self.name}: {file.name} of {self.path}")
                return [sample.packed() for sample in _samples(members)]
        except OSError as error:
            raise SourceError(
                f"source {self.name}: {file.name} of {self.path} can't be read ({error}); fetch it again"
            ) from error

    def told(self, part: PartRange, entry: bytes) -> Record:
        """The key; what else is known, its .json says."""
        return Record(_key(File.unpacked(part.start), Sample.unpacked(entry)), None)

    def read(self, part: PartRange) -> Iterator[Record]:
        """The samples' images; one that has none, or whose .json says that it failed, is a record that says so."""
        file = File.unpacked(part.start)
        with unchanged_file(self.name, self.path, file) as opened:
            for entry in part.names:
                try:
                    yield self._record(opened, file, Sample.unpacked(entry))
                except DamagedTar as error:
                    raise changed(self.name, self.path, file) from error

    def _record(self, opened: IO[bytes], file: File, sample: Sample) -> Record:
        key = _key(file, sample)
        try:
            facts = _facts(opened, sample.facts)
            person, url, licence = (
                _text(facts, field) for field in (self.person_field, self.url_field, self.licence_field)
            )
        except ValueError as error:
            # An image of which it is not known whose it is must not slip in.
            return Record(key, None, problem=f"its .json {error}")
        sizes = {name: facts[name] for name in _SIZES if isinstance(facts.get(name), int)}
        of_sample = partial(Record, key, facts=sizes, person=person, url=url, licence=licence)
        status = facts.get("status", "success")
        if status != "success":
            words = plain_text(": ".join(str(word) for word in (status, facts.get("error_message")) if word))
            reason = Reason.NOT_FETCHED if status == _NOT_FETCHED else Reason.UNREADABLE
            return of_sample(data=None, problem=f"status {words}"[:300], reason=reason)
        if sample.image.startswith(_NOTHING):
            return of_sample(data=None, problem=sample.image.removeprefix(_NOTHING).decode())
        offset, size_bytes = map(int, sample.image.split())
        if size_bytes > self.largest_file_bytes:
            return of_sample(
                data=None, problem=f"{size_bytes} bytes, over largest_file_bytes={self.largest_file_bytes}"
            )
        return of_sample(data=member_bytes(opened, offset, size_bytes))


def _key(file: File, sample: Sample) -> str:
    return text_key(file.name.encode() + b"/" + sample.key)


def _samples(members: Iterable[tuple[bytes, bytes]]) -> Iterator[Sample]:
    """The samples that members make up, in order of their first members."""
    found: dict[bytes, Sample] = {}
    for name, place in members:
        folder, slash, file = name.rpartition(b"/")
        stem, dot, ending = file.rpartition(b".")
        key = folder + slash + (stem if dot else file)
        sample = found.get(key, Sample(key, b"", b""))
        if dot and ending.lower() in _IMAGES:
            several = _NOTHING + b"the sample holds several images: which is meant is not known"
            sample = sample._replace(image=several if sample.image else place)
        elif dot and ending == b"json":
            sample = sample._replace(facts=place)
        found[key] = sample
    for sample in found.values():
        yield sample if sample.image else sample._replace(image=_NOTHING + b"the sample holds no image")


def _facts(opened: IO[bytes], place: bytes) -> dict[str, Any]:
    """What a sample's .json says; nothing where there is none. Raises ValueError where it can't be read."""
    if not place:
        return {}
    if place.startswith(_NOTHING):
        raise ValueError(f"is {place.removeprefix(_NOTHING).decode()}")
    offset, size_bytes = map(int, place.split())
    if size_bytes > _LARGEST_JSON_BYTES:
        raise ValueError(f"has {size_bytes} bytes, over {_LARGEST_JSON_BYTES}")
    try:
        facts = json.loads(member_bytes(opened, offset, size_bytes))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"can't be read ({plain_text(str(error))[:200]})") from error
    if not isinstance(facts, dict):
        raise ValueError(f"holds no keys and values, but a {type(facts).__name__}")
    return facts


def _text(facts: dict[str, Any], field: str) -> str | None:
    """A value as text; None where there is none. Raises ValueError where it is neither text nor a number."""
    value = facts.get(field)
    if value is None or value == "":
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"holds a {type(value).__name__} as {field[:100]}, not text")
    return plain_text(str(value))
