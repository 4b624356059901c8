"""What is known of stored pictures beforehand: by the folders that they lie in, or by a table."""

from collections.abc import Mapping, Sequence

from pipelines.sources.lists import UnreadableList, read_list
from pipelines.sources.record import SourceError

Said = Mapping[str, Sequence[float]]
"""File -> a value for each attribute; nan: unknown."""

_UNKNOWN = float("nan")
_VALUES = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0, "": _UNKNOWN}
_LISTED = 5


def folders_say(path: str, files: Sequence[str], positive: str) -> Said:
    """1 for each file in the folder `positive`, 0 for those in the other one. Files beside the folders are left out.

    The two folders may lie in others, as in a tar of their parent.

    Raises:
        SourceError: there are not two folders, or `positive` is none of them.
    """
    above = {file: file.split("/")[:-1] for file in files}
    levels = [set(level) for level in zip(*(steps for steps in above.values() if steps), strict=False)]
    depth = next((depth for depth, names in enumerate(levels) if len(names) > 1), len(levels))
    folder_of = {file: steps[depth] for file, steps in above.items() if len(steps) > depth}
    folders = sorted(set(folder_of.values()))
    if len(folders) != 2 or positive not in folders:
        found = ", ".join(folders[:_LISTED]) + (" ..." if len(folders) > _LISTED else "")
        raise SourceError(
            f"{path} holds pictures in {len(folders)} folders side by side ({found or 'none'}); it must be two, one of "
            f"them positive={positive}: name the folder that holds these two"
        )
    return {file: (float(folder == positive),) for file, folder in folder_of.items()}


def table_says(table: str, path: str, files: Sequence[str]) -> tuple[tuple[str, ...], Said]:
    """The attributes of a CSV or Parquet file, and the values of each file that it has a row of.

    Raises:
        SourceError: it can't be read, has no attributes, has a value that is none of 0, 1 and empty, has a file twice
            or names one that is not there.
    """
    try:
        _, columns = read_list(table, ["file"])
        names = tuple(name for name in columns if name != "file")
        listed, _ = read_list(table, columns)
    except UnreadableList as error:
        raise SourceError(
            f"{table} can't be read ({error}); name a CSV with a header line, in UTF-8, or a Parquet file, with the "
            "column file and one for each attribute"
        ) from error
    if "file" not in columns or not names:
        raise SourceError(
            f"{table} has the columns {', '.join(columns) or 'none'}; it needs file, and one for each attribute"
        )
    rows = dict(zip(listed["file"].to_pylist(), range(listed.num_rows), strict=True))
    strange = [file for file in rows if file not in set(files)]
    if len(rows) < listed.num_rows or strange:
        told = (
            f"{listed.num_rows - len(rows):,} rows name a file that another row names"
            if not strange
            else f"{len(strange):,} files are not below {path} (such as {strange[0] or 'one without a name'}; one that "
            f"is there: {files[0]})"
        )
        raise SourceError(f"{table}: {told}; file is the path below it, and has one row: mend or remove these rows")
    values = {name: listed[name].to_pylist() for name in names}
    said = {file: tuple(_value(table, file, name, values[name][row]) for name in names) for file, row in rows.items()}
    return names, said


def _value(table: str, file: str, name: str, text: str | None) -> float:
    value = _VALUES.get(text.strip().lower() if text else "")
    if value is None:
        raise SourceError(
            f"{table}: {file} has {name}={text}; values are 0, 1, or empty where unknown: mend it, or leave the column "
            "out"
        )
    return value
