"""A crawl's figures against counting one by one, its sections of the page, and faces through the later stages."""

import base64
import html as html_module
import io
import itertools
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pytest
from crawl_fixture import FACE_REASONS, HOSTILE, IMAGES, SMALLEST_PX, SOURCE, UNFETCHED, build_crawl, crawl_rows
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from run_fixture import build_run
from test_audit import Page

from manifests import audit
from manifests.crawl import FETCHING, NUMBERS, crawl, faces_per_image, hosts
from manifests.pages import render
from manifests.pages.galleries import PICTURE_PX, pictures
from manifests.pages.people import FEW_PEOPLE, SHOWN_FACES, SHOWN_NAMES
from manifests.pages.template import printable
from manifests.schema import MANIFEST, SAMPLES, Reason, Status, status_of
from manifests.store import Folder
from pipelines.commands.summary import funnel

Row = dict[str, Any]


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return crawl_rows()


@pytest.fixture(scope="module")
def run(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    folder = Folder(tmp_path_factory.mktemp("crawl") / "run")
    build_crawl(folder, rows)
    return folder


@pytest.fixture(scope="module")
def html(run: Folder) -> str:
    return render(run)


# Figures


def counted(rows: list[Row], key: str) -> dict[Any, dict[str, int]]:
    """The numbers of each value of a key, one row at a time."""
    found: dict[Any, dict[str, int]] = {}
    for row in rows:
        of = found.setdefault(row[key], dict.fromkeys(NUMBERS, 0))
        face = row["parent_id"] is not None
        of["images"] += not face
        of["failed"] += not face and row["status"] == "failed"
        of["faces"] += face
        of["kept"] += row["status"] == "kept"
        of["unsure"] += face and row["person_certain"] is False
    return found


def as_counted(table: pa.Table) -> dict[Any, dict[str, int]]:
    names = [None if name is None else name.decode() for name in table["name"].to_pylist()]
    assert len(names) == len(set(names))
    return dict(zip(names, table.select(list(NUMBERS)).to_pylist(), strict=True))


def write_manifest(run: Folder, rows: list[Row]) -> None:
    filled = [dict.fromkeys(MANIFEST.names) | row for row in rows]
    run.write_table("manifest.parquet", pa.Table.from_pylist(filled, MANIFEST))


@st.composite
def ledgers(draw: st.DrawFn) -> list[Row]:
    """Rows of images, each before those of its faces, of few names, licences and hosts."""
    names = st.sampled_from([None, "Ann", "Bob", "\u202eeve\n", ""])
    rows: list[Row] = []
    for number in range(draw(st.integers(0, 25))):
        url, host = draw(st.sampled_from([(None, None), ("http://A.example/x", "a.example"), ("https://b/", "b")]))
        image: Row = {"record_id": f"{number:04d}", "source": "s", "source_key": "k", "parent_id": None, "url": url}
        image |= {"host": host, "licence": draw(st.sampled_from([None, "CC0"])), "person": draw(names), "persons": None}
        reason = draw(st.sampled_from([None, *FETCHING, Reason.CORRUPT, Reason.NO_FACE]))
        detail = draw(st.sampled_from([None, "404", "robots.txt"]))
        status = Status.USED if reason is None else status_of(reason)
        image |= {"reason": reason, "status": status, "detail": detail, "person_certain": None, "face_score": None}
        rows.append(image | {"box_px": None})
        for face in range(draw(st.integers(1, 4)) if reason is None else 0):
            why = draw(st.sampled_from([None, None, Reason.FACE_TOO_SMALL]))
            box = draw(st.sampled_from([None, [0, 0, 30, 40], [5, 5, 70, 60]]))
            score = draw(st.one_of(st.none(), st.sampled_from([0.5, 0.75, 0.9])))
            certain = draw(st.sampled_from([None, True, False]))
            own: Row = {"record_id": f"{number:04d}-{face}", "parent_id": f"{number:04d}", "status": status_of(why)}
            own |= {"reason": why, "box_px": box, "face_score": score, "person_certain": certain}
            several = draw(st.sampled_from([None, ["x"], ["x", "y"]]))
            rows.append(image | own | {"persons": several if why is None else None})
    return rows


@given(rows=ledgers(), batch_rows=st.integers(1, 40), shown=st.integers(1, 9))
def test_figures_are_those_of_counting_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], batch_rows: int, shown: int
) -> None:
    run = Folder(tmp_path_factory.mktemp("run"))
    write_manifest(run, [{name: row[name] for name in row if name != "host"} for row in rows])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(audit, "BATCH_ROWS", batch_rows)
        found = crawl(run, 3, shown)
    for table, key in ((found.people, "person"), (found.licences, "licence"), (found.hosts, "host")):
        assert as_counted(table) == counted(rows, key)
    outcomes = Counter((row["reason"], row["detail"]) for row in rows if row["reason"] in FETCHING)
    listed = {(row["reason"], row["detail"]): row["count_all"] for row in found.outcomes.to_pylist()}
    assert (listed, len(listed)) == (outcomes, len(found.outcomes))
    assert found.shared == sum(len(row["persons"] or []) > 1 for row in rows)
    faces = [row for row in rows if row["parent_id"] is not None]
    sides = [min(row["box_px"][2:]) if row["box_px"] else float("nan") for row in faces]
    np.testing.assert_array_equal(found.sides, np.array(sides, np.float64))
    assert found.statuses.to_pylist() == [row["status"] for row in faces]
    kept = [row for row in faces if row["status"] == "kept"]
    scored = sorted((row["face_score"], row["record_id"]) for row in kept if row["face_score"] is not None)
    assert found.lowest["record_id"].to_pylist() == [record for _, record in scored[:shown]]
    drawn = found.random["record_id"].to_pylist()
    assert len(drawn) == len(set(drawn)) == min(shown, len(kept))
    assert set(drawn) <= {row["record_id"] for row in kept}
    assert crawl(run, 3, shown).random.equals(found.random), "rows at a time must not show"


def test_another_seed_shows_other_faces(run: Folder) -> None:
    one, other = (set(crawl(run, seed, 20).random["record_id"].to_pylist()) for seed in (1, 2))
    assert len(one) == len(other) == 20
    assert one != other


def host_of(url: str | None) -> str | None:
    host = urlsplit(url).hostname if url else None
    return f"[{host}]" if host and ":" in host else host or None


@given(
    st.lists(
        st.builds(
            "{}{}{}{}{}".format,
            st.sampled_from(["http://", "HTTPS://", "ftp://", "//", "", "s3+x://", "3://", "data:"]),
            st.sampled_from(["", "u@", "u:p@", "a@b@", "@"]),
            st.one_of(st.sampled_from(["", "[::1]", "Ex-Ample.COM", "xn--a.b."]), st.text("abZ9.-_", max_size=9)),
            st.sampled_from(["", ":80", ":"]),
            st.sampled_from(["", "/x?y@z", "?a://b", "#c@d", "/\n@"]),
        )
    )
)
def test_hosts_are_those_that_a_parser_of_addresses_finds(urls: list[str]) -> None:
    found = hosts(pa.chunked_array([pa.array([*urls, None], pa.string())])).to_pylist()
    schemes = [bool(re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", url)) for url in urls]
    expected = [host_of(url) if known else None for url, known in zip(urls, schemes, strict=True)]
    assert [None if host is None else host.decode() for host in found] == [*expected, None]


def test_a_host_that_is_no_text_does_no_harm() -> None:
    broken = pa.array([b"http://h\xe9.example/", b"\xff\xfe"], pa.binary()).view(pa.string())
    assert hosts(pa.chunked_array([broken])).to_pylist() == [b"h\xe9.example", None]


def test_faces_an_image_count_those_in_which_none_was_found(run: Folder, rows: list[Row]) -> None:
    in_each = Counter(row["parent_id"] for row in rows if row["parent_id"] is not None)
    numbers = Counter(in_each.values())
    numbers[0] = sum(row["reason"] == Reason.NO_FACE for row in rows)
    found = faces_per_image(run)
    assert found.tolist() == [numbers[number] for number in range(len(found))]
    assert found[-1] == numbers[12] == 1


# The later stages


def test_only_kept_faces_reach_the_shards_each_with_its_own_picture(run: Folder, rows: list[Row]) -> None:
    manifest = run.read_table("manifest.parquet").to_pylist()
    kept = {row["sample_id"]: row for row in manifest if row["status"] == "kept"}
    assert all(row["parent_id"] and row["reason"] is None for row in kept.values())
    image_of = {row["record_id"]: row["image"] for row in rows}
    index = run.child("shards").read_table("index.parquet").to_pylist()
    assert {row["sample_id"] for row in index} == kept.keys()
    for row in index:
        data = run.child("shards").read_bytes(row["shard"])[row["offset"] : row["offset"] + row["size_bytes"]]
        assert data == image_of[kept[row["sample_id"]]["record_id"]]
        assert row["record_id"] == kept[row["sample_id"]]["record_id"]


def test_what_was_no_face_to_keep_is_as_ingest_left_it(run: Folder, rows: list[Row]) -> None:
    left = {row["record_id"]: row for row in rows if row["status"] != "kept"}
    manifest = {row["record_id"]: row for row in run.read_table("manifest.parquet").to_pylist()}
    assert manifest.keys() == {row["record_id"] for row in rows}
    for record, row in left.items():
        assert (manifest[record]["status"], manifest[record]["reason"]) == (row["status"], row["reason"])
        assert manifest[record]["keeper_id"] is manifest[record]["persons"] is manifest[record]["urls"] is None
    codes = sum(len(part) for part in run.child("codes").read_tables("part-", ["sample_id"]))
    assert codes == len(rows) - len(left)


def test_a_kept_face_has_the_names_and_addresses_of_all_that_it_stands_for(run: Folder) -> None:
    manifest = run.read_table("manifest.parquet").to_pylist()
    went = [row for row in manifest if row["keeper_id"] is not None]
    assert {row["reason"] for row in went} == {Reason.EXACT_REPEAT, Reason.NEAR_DUPLICATE}
    for row in manifest:
        if row["status"] == "kept":
            stands_for = [row, *(other for other in went if other["keeper_id"] == row["sample_id"])]
            for listed, column in (("persons", "person"), ("urls", "url")):
                values = {other[column] for other in stands_for} - {None}
                assert row[listed] == (sorted(values) or None)


# The page


def words_of(html: str) -> str:
    """What the page says, with a space wherever a tag stands."""
    return " ".join(Page(html.replace("<", " <")).text.split())


def section(html: str, name: str) -> str:
    (found,) = re.findall(rf'<section aria-labelledby="{name}">.*?</section>', html, re.DOTALL)
    return str(found)


def test_the_headline_counts_images_and_faces_apart(run: Folder, html: str) -> None:
    (source,) = audit.counts(audit.read_ledger(run, ["source", "status", "reason", "parent_id"]))
    assert (source.read, source.kept, source.reconciles) == (IMAGES, 0, True)
    text = " ".join(Page(html).text.split())
    faces = source.faces
    assert (
        f"Every count reconciles: {source.read} images read = {source.used} used + {source.dropped} dropped + "
        f"{source.failed} failed; {faces.found} faces found = {faces.kept} kept + {faces.dropped} dropped."
    ) in text
    assert f"{SOURCE}: read = kept + used + dropped + failed" in text
    assert f"{SOURCE}: faces found = kept + dropped {faces.found} = {faces.kept} + {faces.dropped}" in text
    assert f"kept = samples in the shards {faces.kept} = {faces.kept}" in text
    reasons = words_of(section(html, "reasons"))
    for reason in (*FACE_REASONS, Reason.EXACT_REPEAT, Reason.NEAR_DUPLICATE):
        assert f"{reason.replace('_', ' ')} dropped face:" in reasons
    for reason in (*UNFETCHED, Reason.NO_FACE):
        assert f"{reason.replace('_', ' ')} {status_of(reason)} image:" in reasons


def test_the_funnel_ends_in_what_is_kept(run: Folder, html: str) -> None:
    (source,) = audit.counts(audit.read_ledger(run, ["source", "status", "reason", "parent_id"]))
    steps = words_of(section(html, "funnel"))
    barred, absent = (
        sum(source.reasons[reason] for reason in UNFETCHED if status_of(reason) == status)
        for status in (Status.DROPPED, Status.FAILED)
    )
    left = source.read - barred
    assert f"Permitted {left} \N{MINUS SIGN}{barred} opted out or denied" in steps
    assert f"Fetched {left - absent} \N{MINUS SIGN}{absent} not fetched" in steps
    assert f"With a face {source.used} \N{MINUS SIGN}{source.reasons['no_face']} without Faces in them Found" in steps
    assert f"Kept {source.faces.kept} \N{MINUS SIGN}{source.faces.reasons['near_duplicate']} near-duplicates" in steps


def test_faces_without_a_used_image_are_shouted(run: Folder, tmp_path: Path) -> None:
    shutil.copytree(run.path(), tmp_path, dirs_exist_ok=True)
    manifest = Folder(tmp_path).read_table("manifest.parquet").to_pylist()
    used = next(row for row in manifest if row["status"] == "used")
    used |= {"status": "dropped", "reason": "no_face"}
    write_manifest(Folder(tmp_path), manifest)
    text = " ".join(Page(render(Folder(tmp_path))).text.split())
    number = sum(row["status"] == "used" for row in manifest)
    assert "do not reconcile" in text
    assert f"images used = images that faces were found in: {number} against {number + 1}" in text


def test_faces_are_shown_by_number_by_size_and_as_pictures(run: Folder, rows: list[Row], html: str) -> None:
    faces = section(html, "faces")
    words = words_of(faces)
    found = [row for row in rows if row["parent_id"] is not None]
    per_image = faces_per_image(run).tolist()
    assert f"{len(found)} faces in {sum(per_image[1:])} of {sum(per_image)} images that were looked at" in words
    assert f"none {per_image[0]} " in words
    assert f"5 to 9 {sum(per_image[5:10])} " in words
    assert f"taken from {SMALLEST_PX} px" in faces
    assert faces.count('<img src="data:image/jpeg;base64,') == 2 * SHOWN_FACES
    scores = re.findall(r"<figcaption><b>([^<]+)</b>", faces)
    kept = [row for row in run.read_table("manifest.parquet").to_pylist() if row["status"] == "kept"]
    lowest = sorted(row["face_score"] for row in kept)[:SHOWN_FACES]
    assert scores[SHOWN_FACES:] == [f"{score:.3f}" for score in lowest]


def test_people_are_listed_by_what_is_kept_with_their_total(run: Folder, html: str) -> None:
    manifest = run.read_table("manifest.parquet").to_pylist()
    named = {name: of for name, of in counted(manifest, "person").items() if name is not None}
    words = words_of(section(html, "people"))
    first = sorted(named, key=lambda name: (-named[name]["kept"], -named[name]["faces"], -named[name]["images"], name))
    for name in first[:SHOWN_NAMES]:
        of = named[name]
        shown = " ".join(printable(name, 60).split()) or "blank"
        assert f"{shown} {of['images']} {of['faces']} {of['kept']} " in words
    sums = {number: sum(of[number] for of in named.values()) for number in NUMBERS}
    assert f"all {len(named)} {sums['images']} {sums['faces']} {sums['kept']}" in words
    assert f"{len(named) - SHOWN_NAMES} more stand in the manifest" in words
    shared = sum(len(row["persons"] or []) > 1 for row in manifest)
    assert shared > 0
    assert f"Kept under several names {shared} " in words
    assert f"Uncertain faces {sums['unsure']}" in words
    numbers = [of["kept"] for of in named.values()]
    assert len(numbers) < FEW_PEOPLE
    assert f"least to most: {min(numbers)} to {max(numbers)} " in words


def test_origins_say_on_what_terms_from_where_and_what_was_left_alone(run: Folder, html: str) -> None:
    manifest = run.read_table("manifest.parquet").to_pylist()
    words = words_of(section(html, "origins"))
    for row in manifest:
        row["host"] = host_of(row["url"])
    for key, nobody, columns in (
        ("licence", "not given", ("images", "faces", "kept")),
        ("host", "no address", ("images", "failed", "faces", "kept")),
    ):
        for name, of in counted(manifest, key).items():
            assert f"{name or nobody} {' '.join(str(of[column]) for column in columns)} " in words
    for reason in UNFETCHED:
        assert f"{sum(row['reason'] == reason for row in manifest)} " in words[words.index(reason.replace("_", " ")) :]
    assert re.search(r"not found|404", words)
    assert "<i>reset</i> by the other side" in words


def test_names_that_bite_do_no_harm(html: str) -> None:
    assert "<script" not in html
    assert "\u202e" not in html
    assert "\x00" not in html
    assert html_module.escape(HOSTILE[0]).replace("&#x27;", "&#39;").replace("&quot;", "&#34;") in html
    assert "{{ 7 * 7 }}" in Page(html).text
    assert HOSTILE[3] not in html
    assert '<bdi class="key">محمد علي</bdi>' in html


def test_a_crawls_page_is_one_file_that_can_be_read_by_all(html: str) -> None:
    page = Page(html)
    assert all(reference.startswith(("data:image/", "#")) for reference in page.all("src") + page.all("href"))
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all(attributes.get("aria-label") for tag, attributes in page.tags if tag == "svg")
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    headings = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(headings))


def test_the_same_crawl_gives_the_same_bytes(run: Folder, html: str, tmp_path: Path) -> None:
    shutil.copytree(run.path(), tmp_path / "run")
    assert render(Folder(tmp_path / "run")) == html


def test_a_run_of_whole_images_without_names_has_no_such_sections(tmp_path: Path) -> None:
    build_run(Folder(tmp_path), "ingest")
    page = render(Folder(tmp_path))
    assert not re.search('aria-labelledby="(faces|people|origins)"', page)
    assert "faces found" not in page
    assert "<code>fetch</code>" not in page


def test_whole_images_with_names_are_counted_by_person_alone(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    kept: Row = {"source": "s", "status": "kept", "width": 9, "height": 9, "mean": 1.0, "sharpness": 1.0}
    records = [kept | {"record_id": str(i), "source_key": str(i), "person": "Ann" if i else None} for i in range(3)]
    filled = [dict.fromkeys(SAMPLES.names) | row for row in records]
    run.child("samples").write_table("part-00000.parquet", pa.Table.from_pylist(filled, SAMPLES))
    page = render(run)
    words = words_of(section(page, "people"))
    assert "Person Images Kept Ann 2 2 all 1 2 2" in words
    assert not re.search('aria-labelledby="(faces|origins)"', page)


def test_of_many_people_the_outliers_are_left_out(tmp_path: Path) -> None:
    run = Folder(tmp_path)
    kept: Row = {"source": "s", "status": "kept", "width": 9, "height": 9, "mean": 1.0, "sharpness": 1.0}
    people = [*range(1, FEW_PEOPLE), *[0] * 100]  # one image each, but of one person 100
    records = [kept | {"record_id": str(i), "source_key": str(i), "person": f"P{p}"} for i, p in enumerate(people)]
    filled = [dict.fromkeys(SAMPLES.names) | row for row in records]
    run.child("samples").write_table("part-00000.parquet", pa.Table.from_pylist(filled, SAMPLES))
    assert "Kept a person, median 1 5 % to 95 %: 1 to 1 " in words_of(section(render(run), "people"))


def test_before_deduplication_the_page_says_what_is_known(run: Folder, tmp_path: Path) -> None:
    shutil.copytree(run.path(), tmp_path, dirs_exist_ok=True)
    for name in ("codes", "groups", "shards"):
        Folder(tmp_path).child(name).delete_all()
    Folder(tmp_path).delete("manifest.parquet")
    Folder(tmp_path).child("fetched").delete_all()
    page = render(Folder(tmp_path))
    assert "<code>fetch</code> is not done: images are still to be fetched" in page
    assert "Faces kept so far" in page
    assert "Kept under several names" not in page
    assert section(page, "faces").count("<img") == 2 * SHOWN_FACES


def test_pictures_are_small_and_of_the_rows_asked_for(run: Folder, rows: list[Row]) -> None:
    kept = [row for row in rows if row["status"] == "kept"]
    wanted = {kept[0]["record_id"], kept[-1]["record_id"], "none such"}
    found = pictures(run, wanted)
    assert found.keys() == wanted - {"none such"}
    assert pictures(run, set()) == {}
    for uri in found.values():
        with Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))) as image:
            assert (image.format, max(image.size)) == ("JPEG", PICTURE_PX)


def test_the_tables_of_the_command_line_count_faces_too(run: Folder) -> None:
    (source,) = audit.counts(audit.read_ledger(run, ["source", "status", "reason", "parent_id"]))
    console = Console(width=140, record=True, file=io.StringIO(), markup=False)
    console.print(funnel(run))
    said = " ".join(re.sub("[│┃]", " ", console.export_text()).split())
    faces = source.faces
    assert f"{SOURCE} {source.read} {source.failed} {source.dropped} {source.used} {source.kept} yes" in said
    assert f"{SOURCE} {faces.found} {faces.dropped} {faces.kept} yes" in said
