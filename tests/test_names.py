"""A saved SPARQL answer becomes distinct names, whatever odd rows it holds; the command writes one query for each."""

import csv
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.__main__ import main
from pipelines.sources.names import Names, birth_year, clean_name, read_names, write_queries
from pipelines.sources.record import SourceError

ANSWER = """name,birthDate
"Ann Smith",1980-05-01
"Ben  Ferreira ",1975-01-01T00:00:00Z
Ann Smith,1980-05-01
"""


def answer(folder: Path, text: str) -> Path:
    path = folder / "names.csv"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Ann Smith", "Ann Smith"),
        (" Ann \t Smith\n", "Ann Smith"),
        ('"Ann Smith"@en', "Ann Smith"),
        ("Ann Smith@en-GB", "Ann Smith"),
        ('"Ann ""Smith"', 'Ann ""Smith'),
        ('"Ann"^^<http://www.w3.org/2001/XMLSchema#string>', "Ann"),
        ("http://dbpedia.org/resource/Ann_Smith_(actor)", "Ann Smith (actor)"),
        ("<http://dbpedia.org/resource/Zo%C3%AB_O%27Hara>", "Zoë O'Hara"),
        ("https://www.wikidata.org/wiki/Q42", "Q42"),
        ("Zoe\u0308", "Zoë"),
        ("@en", "@en"),
        ("", ""),
        ('""@en', ""),
    ],
)
def test_names_come_without_their_wrapping(text: str, name: str) -> None:
    assert clean_name(text) == name


@pytest.mark.parametrize(
    ("text", "year"),
    [
        ("1980-05-01", 1980),
        ("1980", 1980),
        ("1980-05", 1980),
        ("1980-05-01T00:00:00.000+02:00", 1980),
        ("1980-05-01Z", 1980),
        ('"1980-05-01"^^xsd:date', 1980),
        ('"1980-05-01"^^<http://www.w3.org/2001/XMLSchema#date>', 1980),
        ("-0043-03-15", -43),
        ("+12345-01-01", 12345),
        ("0000-00-00", 0),
        ("--05-01", None),
        ("", None),
        ("circa 1980", None),
        ("http://dbpedia.org/resource/1980", None),
        ("t1234", None),
    ],
)
def test_years_are_read_from_dates_of_every_kind(text: str, year: int | None) -> None:
    assert birth_year(text) == year


def test_rows_are_chosen_and_counted(tmp_path: Path) -> None:
    rows = [
        ("Ann Smith", "1980-05-01"),
        ('"Ann Smith"@en', "1980"),  # a repeat
        ("http://dbpedia.org/resource/Ann_Smith", "1900"),  # too early, though the other rows are not
        ("Cleo", "-0069-01-01"),
        ("Dan", ""),
        ("Eve", "--05-01"),
        ("", "1990-01-01"),
        ("Ferdinand", "1950-12-31"),
        ("Gus", "1951-01-01"),
    ]
    path = answer(tmp_path, "")
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([("?name", "?birthDate"), *rows])
    assert read_names(path, born_after=1950) == Names(("Ann Smith", "Gus"), 9, 1, 2, 3, 1)
    everyone = read_names(path)
    assert everyone.persons == ("Ann Smith", "Cleo", "Dan", "Eve", "Ferdinand", "Gus")
    assert (everyone.without_name, everyone.without_date, everyone.too_early, everyone.repeats) == (1, 0, 0, 2)


def test_short_rows_and_empty_lines_are_no_errors(tmp_path: Path) -> None:
    path = answer(tmp_path, "birthDate,name\n\n1980\n1980-01-01,Ann,more\n,\n")
    assert read_names(path, 1900) == Names(("Ann",), 3, 2, 0, 0, 0)
    assert read_names(answer(tmp_path, "label\nAnn\n")).persons == ("Ann",)


def test_what_is_no_answer_is_one_error(tmp_path: Path) -> None:
    for text, message in (
        ("", "is empty; save the SPARQL answer as CSV again"),
        ("who,when\nAnn,1980\n", "has no column name or label or person; it has who, when: name it so"),
        ("name\nAnn\n", "has no column birthdate or birth_date or birth or dateofbirth; it has name: name it so"),
        ('name,birthDate\n"Ann,1980\n', "can't be read as a CSV in UTF-8"),
    ):
        with pytest.raises(SourceError, match=message):
            read_names(answer(tmp_path, text), 1950)
    (tmp_path / "latin1.csv").write_bytes(b"name\nJos\xe9\n")
    for path in (tmp_path / "latin1.csv", tmp_path / "absent.csv", tmp_path):
        with pytest.raises(SourceError, match="can't be read as a CSV in UTF-8"):
            read_names(path)


@given(st.text(max_size=20))
def test_any_text_is_a_name_with_single_blanks_or_none(text: str) -> None:
    name = clean_name(text)
    assert name == " ".join(name.split())
    birth_year(text)


def test_queries_are_a_row_for_each_person(tmp_path: Path) -> None:
    persons = ("Ann Smith", 'Ben, "the" Third', "Zoë")
    write_queries(tmp_path / "out" / "queries.csv", persons)
    with (tmp_path / "out" / "queries.csv").open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["person", "query"], *([person, person] for person in persons)]


def test_the_command_writes_the_list_and_says_what_was_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["dcgan", "names", str(answer(tmp_path, ANSWER)), "--out", str(tmp_path / "queries.csv")]
    monkeypatch.setattr(sys, "argv", [*words, "--born-after", "1970"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert capsys.readouterr().out.strip() == (
        f"2 people of 3 rows (0 without a name, 0 without a date, 0 too early, 1 repeats): {tmp_path / 'queries.csv'}"
    )
    lines = (tmp_path / "queries.csv").read_text("utf-8").splitlines()
    assert lines == ["person,query", "Ann Smith,Ann Smith", "Ben Ferreira,Ben Ferreira"]
    (tmp_path / "queries.csv").unlink()
    monkeypatch.setattr(sys, "argv", [*words, "--born-after", "2000"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "none of its 3 rows names a person to search for (0 without a name" in capsys.readouterr().err
    assert not (tmp_path / "queries.csv").exists()
