"""Lists: CSV and Parquet files of text, of which some columns matter."""

import io
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from manifests.store import Folder

TEXT = pa.large_string()
"""As a whole a column of addresses may pass the 2 GB that plain strings can hold."""

_PARQUET = b"PAR1"


class UnreadableList(Exception):
    """A list that can't be read, with the reason in one line."""


def read_list(address: str, names: Sequence[str]) -> tuple[pa.Table, list[str]]:
    """Those of the columns `names` that a list has, as text of which empty values are null; and all its columns' names.

    The first bytes tell Parquet from CSV, whatever the file is called.

    Raises:
        UnreadableList: it can't be opened, is neither, is no valid text, or has a column twice.
    """
    try:
        table = _read(address, names)
        columns = {name: _text(table, name) for name in dict.fromkeys(names) if name in table.column_names}
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise UnreadableList(str(error).splitlines()[0]) from error
    return pa.table(columns), table.column_names


def _read(address: str, names: Sequence[str]) -> pa.Table:
    folder = Folder(address)
    with folder.filesystem.open_input_file(folder.path()) as file:
        is_parquet = file.read(len(_PARQUET)) == _PARQUET
        file.seek(0)
        if is_parquet:
            return pq.read_table(file)
        return pa_csv.read_csv(
            io.BytesIO(file.read()),
            parse_options=pa_csv.ParseOptions(newlines_in_values=True),
            # People are called Null and NA: only an empty value is none.
            convert_options=pa_csv.ConvertOptions(column_types=dict.fromkeys(names, TEXT), strings_can_be_null=False),
        )


def _text(table: pa.Table, name: str) -> pa.ChunkedArray:
    if table.column_names.count(name) > 1:
        raise pa.ArrowInvalid(f"it has the column {name} twice")
    text = table[name].cast(TEXT)
    text.validate(full=True)
    return pc.if_else(pc.equal(text, ""), pa.scalar(None, TEXT), text)
