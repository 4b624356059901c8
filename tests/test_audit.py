"""The audit: counts against brute force, galleries, and a page that is whole, honest, safe and the same every time."""

import io
import itertools
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from run_fixture import CRAWL_REASONS, LONG_KEY, MARKUP_KEY, RECORDS, build_run

from dedup import verdict
from manifests import audit, charts
from manifests.audit import few
from manifests.distribution import distribution
from manifests.pages import render, write_report
from manifests.pages.duplicates import PHASH_HANDICAP
from manifests.pages.galleries import borderline, details, largest_groups, looks
from manifests.pages.template import number, percent, printable
from manifests.schema import GROUPS, LEDGER, MANIFEST, SAMPLES, Reason, Status, record_id, status_of
from manifests.store import Folder
from pipelines.commands.summary import run_summary

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """The page's tags with their attributes, in order, and its text; tags must close in the order they opened."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open[-1:] != ["style"]:
            self.text += data

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.tags if attribute in attributes]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    run = Folder(tmp_path_factory.mktemp("audit") / "whole")
    build_run(run)
    return run


@pytest.fixture(scope="module")
def html(whole: Folder) -> str:
    return render(whole)


def spaced(html: str) -> str:
    """The page's words, with a space between a table's cells."""
    return " ".join(Page(re.sub("(</t[hd]>)", r"\1 ", html).replace("<small", " <small")).text.split())


def ledger_of(rows: Sequence[tuple[str, str, str | None]], parents: list[str | None] | None = None) -> pa.Table:
    columns = [*zip(*rows, strict=True), parents or [None] * len(rows)]
    return pa.table([pa.array(c, pa.string()) for c in columns], ["source", "status", "reason", "parent_id"])


def write_ledger(run: Folder, rows: list[tuple[str, Reason | None]]) -> None:
    """An ingested run of one part, with these keys and reasons."""
    records = [
        {"record_id": record_id("s", key), "source": "s", "source_key": key, "status": status_of(reason)}
        | {"reason": reason, "width": 10, "height": 20, "mean": 1.0, "sharpness": 5.0}
        for key, reason in rows
    ]
    run.child("samples").write_table("part-00000.parquet", pa.Table.from_pylist(records, SAMPLES))


sources = st.sampled_from(["a", "b"])
reasons = st.one_of(st.none(), st.sampled_from(list(Reason)))


image_rows = st.tuples(sources, st.one_of(st.just(Status.USED), reasons), st.none())
face_rows = st.tuples(
    sources, st.sampled_from([None, *(r for r in Reason if status_of(r) == Status.DROPPED)]), st.just("p")
)


@given(st.lists(st.one_of(image_rows, face_rows), min_size=1, max_size=60))
def test_counts_are_those_of_counting_one_by_one(rows: list[tuple[str, Any, str | None]]) -> None:
    statuses = [said if said is Status.USED else status_of(said) for _, said, _ in rows]
    whys = [None if said is Status.USED else said for _, said, _ in rows]
    told = [(row[0], status, why) for row, status, why in zip(rows, statuses, whys, strict=True)]
    ledger = ledger_of(told, [row[2] for row in rows])
    found = audit.counts(ledger)
    assert audit.contradictions(ledger) == 0
    assert [count.source for count in found] == sorted({source for source, *_ in rows})
    listed = list(zip(rows, statuses, whys, strict=True))
    for count in found:
        images = [(status, why) for row, status, why in listed if row[0] == count.source and row[2] is None]
        faces = [(status, why) for row, status, why in listed if row[0] == count.source and row[2] is not None]
        held = Counter(status for status, _ in images)
        assert (count.kept, count.used, count.dropped, count.failed) == tuple(held[s] for s in Status)
        assert count.read == len(images)
        assert count.reasons == Counter(why for _, why in images if why)
        assert (count.faces.found, count.faces.kept) == (len(faces), sum(s == Status.KEPT for s, _ in faces))
        assert count.faces.dropped == sum(s == Status.DROPPED for s, _ in faces)
        assert count.faces.reasons == Counter(why for _, why in faces if why)
        assert count.reconciles
        assert count.sought_faces == bool(faces or any(s == Status.USED or w == Reason.NO_FACE for s, w in images))
    everything = audit.total(found)
    assert (everything.read, everything.faces.found) == (
        sum(row[2] is None for row in rows),
        sum(row[2] is not None for row in rows),
    )
    assert everything.samples == sum(status == Status.KEPT for status in statuses)


def test_a_row_of_no_known_status_does_not_reconcile() -> None:
    (found,) = audit.counts(ledger_of([("a", "kept", None), ("a", "lost", None), ("a", "failed", "corrupt")]))
    assert (found.read, found.kept, found.dropped, found.failed) == (3, 1, 0, 1)
    assert not found.reconciles


@pytest.mark.parametrize(("status", "reason"), [("failed", "corrupt"), ("used", None), ("lost", None)])
def test_a_face_that_is_neither_kept_nor_dropped_does_not_reconcile(status: str, reason: str | None) -> None:
    (found,) = audit.counts(ledger_of([("a", "used", None), ("a", status, reason)], [None, "p"]))
    assert (found.read, found.used, found.faces.found) == (1, 1, 1)
    assert not found.faces.reconciles
    assert not found.reconciles


def test_a_status_that_contradicts_its_reason_is_counted() -> None:
    rows = [("a", "kept", None), ("a", "kept", "aspect"), ("a", "failed", "aspect"), ("a", "dropped", None)]
    assert audit.contradictions(ledger_of(rows)) == 3
    rows = [("a", "used", None), ("a", "used", "no_face"), ("a", "used", None), ("a", "dropped", "of another version")]
    assert audit.contradictions(ledger_of(rows, [None, None, "p", None])) == 2


def test_shares_of_a_distribution_sum_to_one_and_hold_what_lies_beyond() -> None:
    status = pa.chunked_array([["kept"] * 4 + ["dropped"] * 2 + ["failed"]])
    values = np.array([1.0, 50.0, 50.0, 900.0, 50.0, np.nan, 50.0])
    found = distribution(values, status, limits=(0.0, 100.0))
    assert found is not None
    assert found.numbers == {"kept": 4, "dropped": 1}
    assert found.shares["kept"].sum() == found.shares["dropped"].sum() == 1
    assert found.shares["kept"][-1] == found.shares["kept"][0] == 0.25
    assert found.quantiles["kept"][1] == 50


@pytest.mark.parametrize("log", [False, True])
def test_a_measure_that_all_share_is_one_bar_within_the_axis(log: bool) -> None:
    found = distribution(np.full(3, 96.0), pa.chunked_array([["kept"] * 3]), log=log)
    assert found is not None
    assert found.edges[0] < 96 < found.edges[-1]
    assert np.count_nonzero(found.shares["kept"]) == 1


def test_nothing_measured_is_no_distribution() -> None:
    assert distribution(np.array([np.nan]), pa.chunked_array([["failed"]])) is None


def test_reasons_name_their_first_record_and_come_most_frequent_first(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    rows = [("k", None), ("b", Reason.ASPECT), ("c", Reason.CORRUPT), ("d", Reason.CORRUPT)]
    write_ledger(run, rows)
    found = [(row.reason, row.status, row.count, row.share, row.example_key) for row in audit.reasons(run)]
    assert found == [("corrupt", "failed", 2, 0.5, "c"), ("aspect", "dropped", 1, 0.25, "b")]


def test_galleries_show_the_largest_groups_keeper_first_and_the_least_sure_members() -> None:
    rows = [("a", "k", 0.11), ("k", "k", None), ("c", "k", 0.02), ("x", "x", None), ("y", "x", 0.04), ("b", "k", 0.07)]
    place = [{"sample_id": i, "group_id": f"g{keeper}", "keeper_id": keeper, "score": s} for i, keeper, s in rows]
    table = pa.Table.from_pylist([row | {"distance": 3} for row in place], GROUPS)
    groups = largest_groups(table, limit=1, members=3)
    assert [(size, [member.sample_id for member in members]) for size, members in groups] == [(4, ["k", "a", "b"])]
    assert [member.sample_id for member in borderline(table, 3)] == ["c", "y", "b"]


def test_details_are_those_of_the_near_duplicates_asked_for(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    assert details(run, {"a"}) == {}
    near = Reason.NEAR_DUPLICATE
    rows = [("a", near, "why a"), ("b", near, "why b"), ("c", Reason.CORRUPT, "no"), ("d", None, None)]
    ledger = [
        {"record_id": i, "sample_id": i, "source": "s", "source_key": i, "detail": said}
        | {"reason": reason, "status": status_of(reason)}
        for i, reason, said in rows
    ]
    run.write_table("manifest.parquet", pa.Table.from_pylist(ledger, MANIFEST))
    assert details(run, {"a", "c", "d", "none such"}) == {"a": "why a"}


def test_looks_are_found_in_whatever_part_holds_them(whole: Folder) -> None:
    parts = [part.column(0).drop_null() for part in whole.child("samples").read_tables("part-", ["sample_id"])]
    wanted = {parts[0][0].as_py(), parts[-1][0].as_py()}
    found = looks(whole, {*wanted, "no such sample"})
    assert set(found) == wanted
    assert all(look.picture.startswith("data:image/png;base64,") for look in found.values())


def test_the_page_is_one_file_without_scripts_or_outside_references(html: str) -> None:
    page = Page(html)
    references = page.all("src") + page.all("href") + page.all("xlink:href")
    assert references
    assert all(reference.startswith(("data:image/", "#")) for reference in references)
    assert not {"script", "link", "iframe", "object"} & {tag for tag, _ in page.tags}
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert set(re.findall(r"url\((.)", html)) <= {"#"}


def test_the_page_can_be_read_by_those_who_do_not_see_it(html: str) -> None:
    page = Page(html)
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings[0] == 1
    assert headings.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    targets = [href[1:] for href in page.all("href") + page.all("xlink:href") if href.startswith("#")]
    assert set(targets + page.all("aria-labelledby") + re.findall(r"url\(#([^)]+)\)", html)) <= set(ids)


def test_the_page_says_what_the_run_holds(whole: Folder, html: str) -> None:
    total = audit.total(audit.counts(audit.read_ledger(whole, ["source", "status", "reason", "parent_id"])))
    assert total.read == sum(RECORDS.values())
    text = " ".join(Page(html).text.split())
    assert f"Every count reconciles: {total.read} read = {total.kept} kept + {total.dropped} dropped" in text
    for title in (
        "Funnel",
        "Reasons",
        "Measures",
        "Near-duplicates",
        "Shards",
        "Training",
        "What the networks learned",
    ):
        assert f"{title}</h2>" in html
    assert "This run is not finished" not in text
    places = [text.index(f"{seen} images seen, batch statistics") for seen in ("12,800", "25,600", "64,000")]
    assert places == sorted(places)
    for reason in set(Reason) - CRAWL_REASONS:
        assert reason.replace("_", " ") in text


def quality_page(whole: Folder, tmp_path: Path, **changed: Any) -> str:
    """The words of the page of a copy of the run in which the quality's figures differ."""
    shutil.copytree(whole.path(), tmp_path, dirs_exist_ok=True)
    groups = Folder(tmp_path).child("groups")
    groups.write_json("quality.json", groups.read_json("quality.json") | changed)
    return " ".join(Page(render(Folder(tmp_path))).text.split())


def test_the_page_says_by_what_rule_pictures_are_the_same(html: str) -> None:
    text = " ".join(Page(html).text.split())
    assert "codes differ in at most 14 bits" in text
    assert f"in at most {14 - PHASH_HANDICAP}; either may be mirrored" in text
    assert "must correlate by at least 0.85" in text
    assert "radius of 14 bits set itself" in text
    assert "keep under 0.2 % of removals, or under half an image (upper 95 % limit)" in text
    assert "Groups are stars" in text
    assert "2 samples are too flat for hashes to mean anything, and never joined" in text
    assert "Pairs judged, of those nominated81 of 96" in text
    assert "it merges 3, wrongly: between 13 and 113 in a million (95 % interval)" in text


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"rule": "code", "radius": 0}, ["codes are equal, as in the paper (rule code)."]),
        ({"rule": "code", "radius": 5, "flat": 0}, ["in at most 5 bits (rule code).", "0 samples are too flat"]),
        (
            {"radius": 2, "grouping": "component", "flat": 1},
            [
                "codes differ in at most 2 bits; either may be mirrored.",
                "perhaps through others.",
                "A score below 0 comes of a chain",
                "1 sample is too flat for hashes to mean anything, and never joined.",
            ],
        ),
        (
            {"radius_set_itself": False, "expected": None},
            [
                "The radius of 14 bits was set by the recipe.",
                "larger numbers of images were not measured.",
                "Planted copies: pairs nominated, wrong merges",
            ],
        ),
    ],
)
def test_another_rule_is_said_in_other_words(
    whole: Folder, tmp_path: Path, changed: dict[str, Any], said: list[str]
) -> None:
    text = quality_page(whole, tmp_path, **changed)
    assert [words for words in said if words not in text] == []


def test_the_page_says_what_to_expect_of_more_images(whole: Folder, tmp_path: Path, html: str) -> None:
    # 2e-11 x 1.6^radius of all pairs are wrong in the fixture, and 40 of 330 images are removed.
    assert "330 here 14 0.85 92.5 % 40 0.00078 0.002 %" in spaced(html)
    assert "3,000,000 4 0.85 66.1 % 363,636 590 0.16 %" in spaced(html)
    assert "100,000,000 0 0.85 38.0 % 12,121,212 100,000 0.83 % over the bound" in spaced(html)
    assert spaced(html).count("over the bound") == 2
    assert "at most 0.00078 wrong pairs expected" in spaced(html)
    points = whole.child("groups").read_json("quality.json")["expected"]
    none_removed = [point | {"removals": 0} for point in points]
    assert "Planted copies: pairs nominated" in quality_page(whole, tmp_path, expected=none_removed)


@pytest.mark.parametrize("wrong", [0.0, 0.6])
def test_a_run_of_one_radius_still_has_its_charts(whole: Folder, tmp_path: Path, wrong: float) -> None:
    point = {"images": 330, "radius": 0, "removals": 40, "wrong": wrong, "wrong_by_radius": [wrong]}
    curve = [{"radius": 0, "recall": 0.4, "pairs": 3, "wrong_merges": 0}]
    text = quality_page(whole, tmp_path, radius=0, curve=curve, expected=[point])
    assert "Expected wrong pairs / removals" in text
    assert ("over the bound" in text) == (wrong > 0)


def test_the_bound_of_wrong_pairs_stands_in_the_chart_beside_the_radius(html: str) -> None:
    (chart,) = re.findall(r'<svg class="chart"[^>]*aria-label="Expected wrong pairs.*?</svg>', html, re.DOTALL)
    assert "The bound is 0.2 %." in chart
    assert all(words in chart for words in ("bound: 0.2%", "taken: 14", "330 here", ">3M<", ">100M<"))


def test_pairs_at_the_border_come_with_their_scores_the_least_sure_first(whole: Folder, html: str) -> None:
    gallery = html[html.index("<h3>Borderline</h3>") :]
    shown = [float(score) for score in re.findall(r"score&nbsp;<b>([^<]+)</b>", gallery)]
    rows = [row for row in whole.child("groups").read_table("groups.parquet").to_pylist() if row["reason"]]
    assert shown == [round(score, 3) for score in sorted(row["score"] for row in rows)[: len(shown)]]
    assert len(shown) == min(18, len(rows))
    mirrored = sorted(rows, key=lambda row: row["score"])[: len(shown)]
    assert gallery.count("<br>mirrored") == sum(row["distance"] % 4 == 0 for row in mirrored) > 0
    figures = re.findall(r'<figure class="thumb( keeper)?">', gallery)
    assert figures == [" keeper", ""] * len(shown)


def test_the_bits_that_the_page_names_are_those_of_the_verdict() -> None:
    assert PHASH_HANDICAP == verdict.PHASH_HANDICAP


def test_the_table_at_the_end_of_a_run_says_what_to_expect(whole: Folder) -> None:
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(run_summary(whole))
    said = " ".join(re.sub("[│┃]", " ", console.export_text()).split())
    assert "planted at ingest 92.1% 3 wrong merges 280" in said
    assert "3,000,000 images, radius 4, border 0.85 66.1% at most 590 wrong (0.16%) 363,636 removals" in said
    assert "rule joint, radius 14, border 0.85, which set itself; 96 pairs nominated, 81 judged" in said


@pytest.mark.parametrize(
    ("until", "present", "absent"),
    [
        ("ingest", ["Funnel", "Reasons"], ["Near-duplicates", "Shards", "Training", "What the networks learned"]),
        ("shard", ["Funnel", "Near-duplicates", "Shards"], ["Training", "What the networks learned"]),
    ],
)
def test_an_unfinished_run_shows_what_is_there_and_says_what_is_not(
    tmp_path: Path, until: str, present: list[str], absent: list[str]
) -> None:
    build_run(Folder(tmp_path), until)
    page = render(Folder(tmp_path))
    assert "train</code> is not done" in page
    assert f"{until}</code> is not done" not in page
    assert all(f"{title}</h2>" in page for title in present)
    assert not any(f"{title}</h2>" in page for title in absent)
    assert ("Kept so far" in page) == (until == "ingest")


def test_an_empty_run_folder_still_makes_a_page(tmp_path: Path) -> None:
    run = Folder(tmp_path / "new <run>")
    write_report(run)
    page = run.child("report").read_bytes("index.html").decode()
    assert "new &lt;run&gt;" in page
    assert "ingest</code> is not done" in page


def test_counts_that_do_not_reconcile_are_shouted(whole: Folder, tmp_path: Path) -> None:
    shutil.copytree(whole.path(), tmp_path, dirs_exist_ok=True)
    run = Folder(tmp_path)
    rows = run.read_table("manifest.parquet").to_pylist()
    rows[0]["status"] = "mislaid"
    run.write_table("manifest.parquet", pa.Table.from_pylist(rows[:-2], MANIFEST))
    page = Page(render(run))
    assert "alert" in page.all("role")
    assert "Every count reconciles" not in page.text
    assert "do not reconcile" in page.text
    assert "✗ NO" in page.text
    assert re.search(r"rows of the manifest = rows that ingest wrote:\s+398\s+against\s+400", page.text)


def test_what_comes_from_data_is_escaped_and_shortened(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    write_ledger(run, [(MARKUP_KEY, Reason.CORRUPT), (LONG_KEY, Reason.EMPTY), ("a\nb", Reason.ASPECT)])
    page = render(run)
    assert "<script" not in page
    assert MARKUP_KEY in Page(page).text
    assert LONG_KEY not in page
    assert "\u202e" not in page
    assert r"a\nb" in page


def test_a_key_that_is_not_utf8_shows_as_escapes(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    write_ledger(run, [("key", Reason.CORRUPT)])
    samples = run.child("samples")
    table = samples.read_table("part-00000.parquet")
    broken = pa.array([b"caf\xe9.jpg"], pa.binary()).view(pa.string())
    place = table.column_names.index("source_key")
    samples.write_table("part-00000.parquet", table.set_column(place, LEDGER.field("source_key"), broken))
    write_report(run)
    assert rb"caf\xe9.jpg" in run.child("report").read_bytes("index.html")


def test_the_same_run_gives_the_same_bytes_wherever_it_lies(whole: Folder, html: str, tmp_path: Path) -> None:
    shutil.copytree(whole.path(), tmp_path / "elsewhere")
    assert render(Folder(tmp_path / "elsewhere")) == html


def test_charts_share_no_ids_and_take_their_colours_from_the_page() -> None:
    x = np.array([0.0, 1.0])
    drawn = [charts.lines(name, 'says "x" & <y>', [charts.Curve("$a$", x, x, "kept")], "x") for name in ("one", "two")]
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in drawn]
    assert ids[0]
    assert not set(ids[0]) & set(ids[1])
    assert "var(--kept)" in drawn[0]
    assert not re.search("#[0-9a-f]{6}", drawn[0])
    assert 'aria-label="says &#34;x&#34; &amp; &lt;y&gt;"' in drawn[0]


@pytest.mark.parametrize(("low", "high"), [(48, 96), (95, 97), (1, 20_000), (483.2, 1598.0), (0.003, 0.9)])
def test_a_logarithmic_axis_has_a_few_ticks_within_it(low: float, high: float) -> None:
    ticks = charts.log_ticks(low, high)
    assert 2 <= len(ticks) <= 15
    assert all(low <= tick <= high for tick in ticks)


def test_small_expected_numbers_keep_two_digits() -> None:
    values = (0, 0.00001, 0.000782, 0.0131, 0.5, 9.94, 10.2, 18706.03)
    assert [few(v) for v in values] == ["0", "< 0.0001", "0.00078", "0.013", "0.5", "9.9", "10", "18,706"]


def test_shares_on_an_axis_have_the_digits_they_need() -> None:
    values = (1, 0.5, 0.002, 1e-7, 0.333333)
    assert [charts.short_percent(v) for v in values] == ["100%", "50%", "0.2%", "0.00001%", "33.3%"]


def test_numbers_say_no_more_than_they_know() -> None:
    assert [percent(value) for value in (0, 1, 0.0421)] == ["0\xa0%", "100\xa0%", "4.2\xa0%"]
    assert percent(0.9999) == "> 99.9\xa0%"
    assert percent(1e-6) == "< 0.1\xa0%"
    assert percent(None) == number(float("nan")) == "\N{EN DASH}"
    assert number(1234567) == "1,234,567"
    assert printable("x" * 300) == "x" * 80 + " … " + "x" * 40
