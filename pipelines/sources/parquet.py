"""Parquet files with a column of image bytes, also as Hugging Face's data sets have it: {bytes, path}."""

import json
from collections.abc import Iterator
from typing import IO, Any, Literal, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import Field

from pipelines.sources.files import File, changed, listed_files, listed_of_each, opened_file, unchanged_file
from pipelines.sources.record import PartRange, Record, SourceError, SourceSettings, text_key

_ENDINGS = (".parquet",)
_BATCH_ROWS = 64
_READ_BYTES = 1 << 20
_NO_BYTES = "the row holds no bytes, a file's name at most"
_TEXTS = {"person": ("person",), "url": ("url",), "licence": ("licence", "license")}


class Rows(NamedTuple):
    """Rows of a file: the first of them, counted in the file; the row groups that hold them; what lies before them."""

    first: int
    groups: tuple[int, ...]
    skipped: int
    size: int


class ParquetSource(SourceSettings):
    """All rows of one Parquet file, or of all Parquet files below a folder, in the files' order."""

    kind: Literal["parquet"]
    path: str = Field(description="A Parquet file, or a folder of them; local, or a URI such as s3://bucket/photos")
    image_column: str = Field("image", description="Column of the images' bytes: binary, or {bytes, path}")
    key_column: str | None = Field(
        None, description="Column of text or whole numbers that tells all rows apart; none: the row's number"
    )
    person_column: str | None = Field(
        None, description="Column that names the person; none: person, where there is one; empty: no column"
    )
    url_column: str | None = Field(
        None, description="Column of the image's address; none: url, where there is one; empty: no column"
    )
    licence_column: str | None = Field(
        None, description="Column that names the licence; none: licence or license; empty: no column"
    )
    largest_file_bytes: int = Field(1 << 30, ge=1, description="Larger images are left out")

    def ranges(self, part_images: int) -> list[PartRange]:
        """Ranges of whole row groups of one file, at most `part_images` rows or one group; larger groups are cut."""
        files = listed_files(self.name, self.path, _ENDINGS)
        ranges: list[PartRange] = []
        keys: list[pa.ChunkedArray] = []
        for file, (groups, column) in zip(files, listed_of_each(files, self._listed), strict=True):
            ranges += [
                PartRange(rows.size, file.packed(), (json.dumps(rows).encode(),)) for rows in _cut(groups, part_images)
            ]
            keys += [column] if column is not None else []
        if not ranges:
            raise SourceError(f"source {self.name}: the Parquet files of {self.path} hold no rows; check the path")
        if keys:
            self._check_keys(pa.chunked_array([chunk for column in keys for chunk in column.chunks], keys[0].type))
        return ranges

    def _listed(self, file: File) -> tuple[list[int], pa.ChunkedArray | None]:
        """The rows of each row group, and the column of keys."""
        try:
            with opened_file(self.path, file.name) as opened, pq.ParquetFile(opened) as parquet:
                self._check_columns(file, parquet.schema_arrow)
                groups = [parquet.metadata.row_group(n).num_rows for n in range(parquet.num_row_groups)]
                if self.key_column is None:
                    return groups, None
                return groups, _raw(parquet.read(columns=[self.key_column], use_threads=False)[self.key_column])
        except (OSError, pa.ArrowException) as error:
            raise SourceError(
                f"source {self.name}: {file.name} of {self.path} is no whole Parquet file "
                f"({str(error).splitlines()[0]}); fetch it again"
            ) from error

    def _check_columns(self, file: File, schema: pa.Schema) -> None:
        label = f"source {self.name}: {file.name} of {self.path}"
        columns = self._columns(schema)
        for column in (self.image_column, *([self.key_column] if self.key_column else []), *columns.values()):
            if schema.names.count(column) != 1:
                raise SourceError(
                    f"{label} has {schema.names.count(column)} columns {column}, and needs one; it has "
                    f"{', '.join(schema.names)}: name one of these"
                )
        kind = schema.field(self.image_column).type
        if pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            kind = kind.field("bytes").type
        if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind)):
            raise SourceError(f"{label}: its column {self.image_column} holds {kind}, not bytes; name the right column")
        for column in (*columns.values(), *([self.key_column] if self.key_column else [])):
            if not _is_text(schema.field(column).type):
                raise SourceError(
                    f"{label}: its column {column} holds {schema.field(column).type}, neither text nor whole numbers; "
                    "name another"
                )

    def _columns(self, schema: pa.Schema) -> dict[str, str]:
        """Which column says what: those that were named, and those of the usual names that are there."""
        named = {"person": self.person_column, "url": self.url_column, "licence": self.licence_column}
        usual = {what: next((n for n in names if n in schema.names), "") for what, names in _TEXTS.items()}
        columns = {what: usual[what] if column is None else column for what, column in named.items()}
        return {what: column for what, column in columns.items() if column}

    def _check_keys(self, keys: pa.ChunkedArray) -> None:
        empty = keys.null_count
        again = len(keys) - empty - len(pc.unique(keys.drop_null()))
        if empty or again:
            raise SourceError(
                f"source {self.name}: of {len(keys):,} rows of {self.path}, {empty:,} have no {self.key_column} and "
                f"{again:,} have that of a row before; name a column that tells all rows apart, or leave key_column out"
            )

    def read(self, part: PartRange) -> Iterator[Record]:
        """The rows' images; one that is null or can't be read is a record that says so."""
        file = File.unpacked(part.start)
        rows = Rows(*json.loads(part.names[0]))
        with unchanged_file(self.name, self.path, file) as opened:
            try:
                texts = self._texts(opened, file, rows)
            except (OSError, pa.ArrowException, UnicodeDecodeError, IndexError) as error:
                raise changed(self.name, self.path, file) from error
            opened.seek(0)
            images = _images(opened, self.image_column, rows)
            for number, said in enumerate(texts):
                data, problem = next(images, (None, "the rows before it can't be read"))
                if data is not None and len(data) > self.largest_file_bytes:
                    problem = f"{len(data)} bytes, over largest_file_bytes={self.largest_file_bytes}"
                key = said.pop("key", f"{file.name}#{rows.first + number}")
                yield Record(key, data if problem is None else None, problem, **said)

    def _texts(self, opened: IO[bytes], file: File, rows: Rows) -> list[dict[str, Any]]:
        """What each row says but for its image: the key where one is named, person, url and licence."""
        with pq.ParquetFile(opened) as parquet:
            columns = self._columns(parquet.schema_arrow)
            wanted = [*columns.values(), *([self.key_column] if self.key_column else [])]
            read = parquet.read_row_groups(list(rows.groups), columns=list(dict.fromkeys(wanted)), use_threads=False)
            table = read.slice(rows.skipped, rows.size)
            if read.num_rows < rows.skipped + rows.size:
                raise IndexError(f"expected {rows.skipped + rows.size} rows, got {read.num_rows}")
            values = {
                what: [
                    raw.decode("utf-8", "backslashreplace") if raw else None for raw in _raw(table[column]).to_pylist()
                ]
                for what, column in columns.items()
            }
            if self.key_column:
                values["key"] = [text_key(key) for key in _raw(table[self.key_column]).to_pylist()]
            return [{what: of[number] for what, of in values.items()} for number in range(rows.size)]


def _cut(groups: list[int], part_images: int) -> Iterator[Rows]:
    """Neighbouring row groups together as long as they fit into a part; a larger one in pieces."""
    first = 0
    held: list[int] = []
    held_rows = 0
    for number, size in enumerate(groups):
        if held_rows and held_rows + size > part_images:
            yield Rows(first, tuple(held), 0, held_rows)
            first, held, held_rows = first + held_rows, [], 0
        if size > part_images:
            for skipped in range(0, size, part_images):
                yield Rows(first + skipped, (number,), skipped, min(part_images, size - skipped))
            first += size
        elif size:
            held, held_rows = [*held, number], held_rows + size
    if held_rows:
        yield Rows(first, tuple(held), 0, held_rows)


def _images(opened: IO[bytes], column: str, rows: Rows) -> Iterator[tuple[bytes | None, str | None]]:
    """(bytes, problem) of each row; ends early, with the problem, where the file is damaged."""
    left, skip = rows.size, rows.skipped
    try:
        # Nothing is read ahead: a row group may be larger than the memory.
        parquet = pq.ParquetFile(opened, buffer_size=_READ_BYTES, pre_buffer=False)
        for batch in parquet.iter_batches(_BATCH_ROWS, list(rows.groups), columns=[column], use_threads=False):
            values = batch.column(0).slice(skip, left)
            skip = max(0, skip - len(batch))
            left -= len(values)
            if pa.types.is_struct(values.type):
                values = pc.struct_field(values, "bytes")
            for value in values:
                yield value.as_py(), None if value.is_valid else _NO_BYTES
            if not left:
                return
    except (OSError, pa.ArrowException) as error:
        yield None, f"its column chunk is damaged ({str(error).splitlines()[0]})"[:300]


def _raw(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Text, which need not be UTF-8, or whole numbers as bytes."""
    return column.cast(pa.large_string()).cast(pa.large_binary())


def _is_text(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_null)
    return any(is_kind(kind) for is_kind in kinds)
