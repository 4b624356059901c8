"""A saved DBpedia answer (names and birth dates) -> distinct names -> a list of queries. Nothing here asks the web.

The query that gives such an answer stands in docs/sources.md.

Source: Radford et al. 2016, section 4.2 (names from DBpedia, with a birth date that makes them people of our time).
"""

import csv
import io
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from manifests.store import Folder
from pipelines.sources.record import SourceError

NAME_COLUMNS = ("name", "label", "person")
BIRTH_COLUMNS = ("birthdate", "birth_date", "birth", "dateofbirth")
_DATE = re.compile(r"([+-]?\d{1,9})(?:-\d{1,2}(?:-\d{1,2})?)?(?:T[\d:.]*)?(?:Z|[+-]\d\d:?\d\d)?")
# A literal as Turtle and the TSV of a SPARQL answer write it: "Ann"@en, "1980-05-01"^^xsd:date.
_LITERAL = re.compile(r'"(?P<quoted>.*)"(?:@[A-Za-z]+(?:-[A-Za-z0-9]+)*|\^\^\S+)?', re.DOTALL)
_TAGGED = re.compile(r"(?P<bare>.*[^\s@])@[a-z]{2,3}(?:-[A-Za-z0-9]+)*", re.DOTALL)
_ADDRESS = re.compile(r"<?https?://\S+?[/#](?P<last>[^/#\s>]+)/?>?")


@dataclass(frozen=True)
class Names:
    """The names that were chosen, sorted; and what became of all rows."""

    persons: tuple[str, ...]
    rows: int
    without_name: int
    without_date: int
    too_early: int
    repeats: int


def read_names(path: str | Path, born_after: int | None = None) -> Names:
    """The distinct names in a SPARQL answer saved as CSV; with `born_after`, of those born in a later year.

    A person with several birth dates counts as born in the latest. Rows that serve nothing are counted, not errors.

    Raises:
        SourceError: the file can't be read, or has no column of names, or none of the birth dates that are asked for.
    """
    rows = _rows(path)
    header = [column.strip().lstrip("?$").lower() for column in rows[0]]
    name_at = _column(path, header, NAME_COLUMNS)
    birth_at = _column(path, header, BIRTH_COLUMNS) if born_after is not None else None
    without_name = without_date = too_early = taken = 0
    persons: set[str] = set()
    for row in rows[1:]:
        name = clean_name(row[name_at]) if name_at < len(row) else ""
        if not name:
            without_name += 1
            continue
        if birth_at is not None and born_after is not None:
            year = birth_year(row[birth_at]) if birth_at < len(row) else None
            if year is None or year <= born_after:
                without_date += year is None
                too_early += year is not None
                continue
        taken += 1
        persons.add(name)
    return Names(
        tuple(sorted(persons)), len(rows) - 1, without_name, without_date, too_early, repeats=taken - len(persons)
    )


def _rows(path: str | Path) -> list[list[str]]:
    try:
        text = Path(path).read_text("utf-8-sig")
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(
            f"{path} can't be read as a CSV in UTF-8 ({error}); save the SPARQL answer as CSV again"
        ) from error
    if not rows:
        raise SourceError(f"{path} is empty; save the SPARQL answer as CSV again")
    return rows


def _column(path: str | Path, header: list[str], names: tuple[str, ...]) -> int:
    for name in names:
        if name in header:
            return header.index(name)
    raise SourceError(
        f"{path} has no column {' or '.join(names)}; it has {', '.join(header)}: name it so in the SELECT of the query"
    )


def clean_name(text: str) -> str:
    """A name without quotes, language tag or address around it, its blanks single, in Unicode's composed form."""
    name = _literal(text)
    address = _ADDRESS.fullmatch(name)
    if address:
        # The last step of a resource's address is the name, with _ for blanks.
        name = unquote(address["last"], errors="replace").replace("_", " ")
    return " ".join(unicodedata.normalize("NFC", name).split())


def birth_year(text: str) -> int | None:
    """The year of a date such as 1980-05-01, 1980 or -0043-03-15; None where it is none, such as --05-01."""
    date = _DATE.fullmatch(_literal(text))
    return int(date[1]) if date else None


def _literal(text: str) -> str:
    text = text.strip()
    literal = _LITERAL.fullmatch(text)
    if literal:
        return literal["quoted"].strip()
    tagged = _TAGGED.fullmatch(text)
    return tagged["bare"].strip() if tagged else text


def write_queries(path: str | Path, persons: tuple[str, ...]) -> None:
    """Write the list of queries: a CSV of person and query, one query for each person."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["person", "query"])
    lines.writerows((person, person) for person in persons)
    Folder(Path(path).parent).write_bytes(Path(path).name, text.getvalue().encode())
