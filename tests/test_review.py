"""The blind review: the pairs that are asked about, a page that does not give them away, and figures known by hand."""

import base64
import json
import math
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_fixture import build_run

from dedup.changes import CHANGES
from dedup.quality import wilson_interval
from manifests import images
from manifests.pages import render
from manifests.pages.review import review_page
from manifests.review import (
    LEAST_APART_BITS,
    Answer,
    Kind,
    Pair,
    Picture,
    Review,
    ReviewError,
    choose_pairs,
    figures,
    read_answers,
    unsureness,
)
from manifests.schema import GROUPS, SAMPLES
from manifests.store import Folder
from pipelines.__main__ import main
from pipelines.commands.review import CONTROL_CHANGES, picture_pairs


class Ended(NamedTuple):
    """How a command ended: its status, and what it said."""

    status: int
    out: str
    err: str


Dcgan = Callable[..., Ended]


@pytest.fixture
def dcgan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dcgan:
    """The command, called in this process."""

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["dcgan", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        status = ended.value.code
        assert status is None or isinstance(status, int)
        return Ended(status or 0, *capsys.readouterr())

    return call


def write_images(run: Folder) -> None:
    """Give each sample of the fixture a true training image: what its thumb shows."""
    samples = run.child("samples")
    for name in samples.names():
        if name.startswith("part-"):
            table = samples.read_table(name)
            thumbs = [None if t is None else np.frombuffer(t, np.uint8) for t in table["whole_thumb"].to_pylist()]
            encoded = [None if t is None else images.encode_image(t.reshape(32, 32, 3), "png") for t in thumbs]
            place = SAMPLES.get_field_index("image")
            samples.write_table(name, table.set_column(place, SAMPLES.field("image"), pa.array(encoded, pa.binary())))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    run = Folder(tmp_path_factory.mktemp("review") / "run")
    build_run(run, "deduplicate")
    write_images(run)
    return run


@pytest.fixture
def run(built: Folder, tmp_path: Path) -> Folder:
    """A copy of the run that a test may change."""
    shutil.copytree(built.path(), tmp_path / "run")
    return Folder(tmp_path / "run")


def removed_of(run: Folder) -> dict[str, dict[str, Any]]:
    rows = run.child("groups").read_table("groups.parquet").to_pylist()
    return {row["sample_id"]: row for row in rows if row["sample_id"] != row["keeper_id"]}


def kept_looks(run: Folder) -> dict[str, tuple[int, int]]:
    """The two pHashes of every sample that stays."""
    gone = removed_of(run)
    rows = [row for table in run.child("samples").read_tables("part-") for row in table.to_pylist()]
    return {
        row["sample_id"]: (row["phash"], row["phash_mirror"])
        for row in rows
        if row["status"] == "kept" and row["sample_id"] not in gone
    }


def bits_apart(one: tuple[int, int], other: tuple[int, int]) -> int:
    return min((a ^ b).bit_count() for a in one for b in other)


# What is asked


def test_half_are_the_least_sure_removals_beside_their_keepers(built: Folder) -> None:
    removed = removed_of(built)
    review = choose_pairs(built, 40, 3, CONTROL_CHANGES)
    assert Counter(pair.kind for pair in review.pairs) == {Kind.BORDER: 20, Kind.SAME: 10, Kind.DIFFERENT: 10}
    assert review.removed == len(removed) > 20
    border = [pair for pair in review.pairs if pair.kind == Kind.BORDER]
    shown: list[float] = []
    for pair in border:
        names = {pair.left.sample_id, pair.right.sample_id}
        (gone,) = names & removed.keys()
        assert names == {gone, removed[gone]["keeper_id"]}
        assert pair.left.change is pair.right.change is None
        shown.append(removed[gone]["score"])
    assert sorted(shown) == sorted(row["score"] for row in removed.values())[:20]
    # Neither side is the keeper's side, nor the changed copy's.
    assert {pair.left.sample_id in removed for pair in border} == {True, False}
    assert {pair.left.change is None for pair in review.pairs if pair.kind == Kind.SAME} == {True, False}


def test_controls_are_what_they_are_called_and_the_different_ones_are_hard(built: Folder) -> None:
    looks = kept_looks(built)
    review = choose_pairs(built, 40, 3, CONTROL_CHANGES)
    controls = [pair for pair in review.pairs if pair.kind != Kind.BORDER]
    distances = []
    for pair in controls:
        if pair.kind == Kind.SAME:
            assert pair.left.sample_id == pair.right.sample_id
            changes = {pair.left.change, pair.right.change}
            assert None in changes
            assert changes - {None} <= set(CONTROL_CHANGES)
            assert len(changes) == 2
        else:
            assert pair.left.change is pair.right.change is None
            distances.append(bits_apart(looks[pair.left.sample_id], looks[pair.right.sample_id]))
    used = [name for pair in controls for name in {pair.left.sample_id, pair.right.sample_id}]
    assert set(used) <= looks.keys()
    assert len(used) == len(set(used))
    names = sorted(looks)
    nearest = min(
        apart
        for place, one in enumerate(names)
        for other in names[place + 1 :]
        if (apart := bits_apart(looks[one], looks[other])) >= LEAST_APART_BITS
    )
    assert min(distances) == nearest
    assert max(distances) <= nearest + 2


def test_the_seed_decides_the_review(built: Folder) -> None:
    first, again, other = (choose_pairs(built, 20, seed, CONTROL_CHANGES) for seed in (1, 1, 2))
    assert first == again
    assert first.id == again.id != other.id
    assert [pair.kind for pair in first.pairs] != [pair.kind for pair in other.pairs]
    assert Review.model_validate_json(first.model_dump_json()).id == first.id
    assert re.fullmatch("[0-9a-f]{16}", first.id)


def test_where_less_was_removed_than_asked_for_all_of_it_is_shown(run: Folder) -> None:
    groups = run.child("groups").read_table("groups.parquet")
    keeper = groups["keeper_id"][0].as_py()
    run.child("groups").write_table("groups.parquet", groups.filter(pc.equal(groups["keeper_id"], keeper)))
    removed = removed_of(run)
    review = choose_pairs(run, 40, 0, CONTROL_CHANGES)
    assert 0 < len(removed) == len(review.numbers(Kind.BORDER)) == review.removed < 20
    assert len(review.numbers(Kind.SAME)) == len(review.numbers(Kind.DIFFERENT)) == 10


def test_a_score_counts_for_more_than_the_distance(run: Folder) -> None:
    groups = run.child("groups").read_table("groups.parquet")
    scores = np.random.default_rng(4).normal(2, 3, len(groups)).astype(np.float32)
    scored = groups.set_column(GROUPS.get_field_index("score"), GROUPS.field("score"), pa.array(scores))
    run.child("groups").write_table("groups.parquet", scored)
    removed = {row["sample_id"]: row["score"] for row in scored.to_pylist() if row["sample_id"] != row["keeper_id"]}
    review = choose_pairs(run, 20, 0, CONTROL_CHANGES)
    shown = [review.pairs[number - 1] for number in review.numbers(Kind.BORDER)]
    border = {picture.sample_id for pair in shown for picture in (pair.left, pair.right)}
    assert border & removed.keys() == set(sorted(removed, key=lambda name: removed[name])[:10])


def test_unsureness_orders_by_score_or_distance_and_puts_the_unscored_first() -> None:
    table = pa.table({"distance": pa.array([3, 0, 14], pa.int16())})
    assert unsureness(table).argsort().tolist() == [1, 0, 2]
    table = table.append_column("score", pa.array([0.5, None, -2.0], pa.float32()))
    assert unsureness(table).argsort().tolist() == [0, 2, 1]


def test_samples_that_look_alike_make_no_control_that_is_known_different(run: Folder) -> None:
    samples = run.child("samples")
    for name in samples.names():
        if name.startswith("part-"):
            table = samples.read_table(name)
            for column in ("phash", "phash_mirror"):
                same = pa.array([None if v is None else 77 for v in table[column].to_pylist()], pa.uint64())
                table = table.set_column(SAMPLES.get_field_index(column), SAMPLES.field(column), same)
            samples.write_table(name, table)
    review = choose_pairs(run, 40, 0, CONTROL_CHANGES)
    assert review.numbers(Kind.DIFFERENT) == []
    assert len(review.numbers(Kind.SAME)) == 10


# What is shown


@pytest.mark.parametrize("side_px", [16, 28, 64])
def test_a_changed_copy_has_the_size_of_its_image_and_is_not_equal_to_it(tmp_path: Path, side_px: int) -> None:
    generator = np.random.default_rng(side_px)
    coarse = generator.integers(0, 256, (4, 4, 3), np.uint8)
    image = np.kron(coarse, np.ones((side_px // 4, side_px // 4, 1), np.uint8))
    row = {"record_id": "r", "sample_id": "s", "source": "a", "source_key": "k", "status": "kept"}
    encoded = images.encode_image(image, "jpeg")
    table = pa.Table.from_pylist([row | {"image": encoded}], SAMPLES)
    Folder(tmp_path).child("samples").write_table("part-00000.parquet", table)
    plain, changed = Picture(sample_id="s"), [Picture(sample_id="s", change=name) for name in CONTROL_CHANGES]
    pairs = tuple(Pair(kind=Kind.SAME, left=plain, right=picture) for picture in changed)
    stored = images.decode_rgb(encoded, images.read_header(encoded, images.Limits()))
    for left, right in picture_pairs(Folder(tmp_path), Review(seed=0, groups_sha256="", removed=1, pairs=pairs)):
        seen, other = (base64.b64decode(uri.removeprefix("data:image/png;base64,")) for uri in (left, right))
        headers = [images.read_header(data, images.Limits()) for data in (seen, other)]
        assert {(header.format, header.width, header.height) for header in headers} == {("png", side_px, side_px)}
        assert np.array_equal(images.decode_rgb(seen, headers[0]), stored)
        assert not np.array_equal(images.decode_rgb(other, headers[1]), stored)
    assert set(CHANGES) - set(CONTROL_CHANGES) == {"png"}


def test_an_image_that_is_not_there_is_named(run: Folder) -> None:
    pair = Pair(kind=Kind.SAME, left=Picture(sample_id="lost"), right=Picture(sample_id="lost", change="blur"))
    with pytest.raises(ReviewError, match="no image of 1 of 1 samples, such as lost; do the run again"):
        list(picture_pairs(run, Review(seed=0, groups_sha256="", removed=1, pairs=(pair,))))


def pairs_shown(html: str) -> list[list[str]]:
    found = re.search(r'<script type="application/json" id="pairs">(.*?)</script>', html, re.S)
    assert found
    shown: list[list[str]] = json.loads(found[1])
    return shown


def test_the_page_holds_pictures_and_nothing_else_of_the_pairs(built: Folder) -> None:
    reviews = [choose_pairs(built, 20, seed, CONTROL_CHANGES) for seed in (1, 2)]
    pages = [review_page(review.id, list(picture_pairs(built, review)), "/runs/a b") for review in reviews]
    bare = []
    for review, html in zip(reviews, pages, strict=True):
        shown = pairs_shown(html)
        assert shown == [list(pair) for pair in picture_pairs(built, review)]
        assert all(uri.startswith("data:image/png;base64,") for pair in shown for uri in pair)
        without = html.replace(json.dumps(shown), "PAIRS").replace(review.id, "ID")
        assert "PAIRS" in without
        bare.append(without)
    # Whatever the pairs are and in whatever order they come, all else is the same.
    assert bare[0] == bare[1]
    assert not re.search("[0-9a-f]{16}", bare[0])


def test_the_page_is_one_file_that_loads_nothing(built: Folder) -> None:
    review = choose_pairs(built, 4, 0, CONTROL_CHANGES)
    html = review_page(review.id, list(picture_pairs(built, review)), "s3://bucket/<run>")
    assert "default-src 'none'; img-src data:" in html
    assert not re.search(r"https?:|@import|url\(|<link|<iframe|\bsrc=|fetch\(|XMLHttp", html)
    assert "dcgan review &#39;s3://bucket/&lt;run&gt;&#39; --answers" in html


# What the answers say


def known_review(border: int, same: int, different: int) -> Review:
    kinds = [Kind.BORDER] * border + [Kind.SAME] * same + [Kind.DIFFERENT] * different
    picture = Picture(sample_id="s")
    pairs = tuple(Pair(kind=kind, left=picture, right=picture) for kind in kinds)
    return Review(seed=0, groups_sha256="", removed=100, pairs=pairs)


def truly(review: Review) -> dict[int, Answer]:
    """Answers that are right, with every removal judged right to remove."""
    return {n: "different" if pair.kind == Kind.DIFFERENT else "same" for n, pair in enumerate(review.pairs, 1)}


def test_figures_of_known_answers() -> None:
    review = known_review(border=12, same=6, different=6)
    answers = truly(review) | {3: "different", 13: "different", 24: "same"}
    del answers[1], answers[2], answers[23]
    found = figures(review, answers, wilson_interval)
    # 1 of 10 by Wilson, worked out by hand with z = 1.959964.
    assert found["border"].pop("interval") == pytest.approx((0.017876, 0.404150), abs=1e-6)  # type: ignore[misc]
    assert found == {
        "removed": 100,
        "left_open": 3,
        "border": {"pairs": 12, "judged": 10, "different": 1, "rate": 0.1},
        "same": {"pairs": 6, "judged": 6, "right": 5},
        "different": {"pairs": 6, "judged": 5, "right": 4},
        "trusted": False,
    }


def test_none_wrong_leaves_the_interval_that_the_number_judged_allows() -> None:
    review = known_review(border=381, same=1, different=1)
    found = figures(review, truly(review), wilson_interval)
    z = 1.959964
    assert found["border"]["rate"] == 0
    assert found["border"]["interval"] == pytest.approx((0, z * z / (381 + z * z)))
    assert found["border"]["interval"][1] < 0.01  # the fewest with which the paper's claim can be made
    assert wilson_interval(0, 380)[1] > 0.01


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20))
def test_answers_are_trusted_where_nine_controls_in_ten_are_right(same: int, different: int, wrong: int) -> None:
    review = known_review(1, same, different)
    answers = truly(review)
    controls = range(2, 2 + same + different)
    for number in controls[:wrong]:
        answers[number] = "same" if answers[number] == "different" else "different"
    right = len(controls) - len(controls[:wrong])
    trusted = figures(review, answers, wilson_interval)["trusted"]
    assert trusted == (len(controls) > 0 and 10 * right >= 9 * len(controls))


def test_no_answer_is_no_rate() -> None:
    found = figures(known_review(3, 1, 1), {}, wilson_interval)
    assert found["left_open"] == 5
    assert found["border"] == {"pairs": 3, "judged": 0, "different": 0, "rate": None, "interval": (0.0, 1.0)}
    assert not found["trusted"]


REVIEW = known_review(2, 1, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no answers of a review page .the file: Invalid JSON"),
        ("\xff", "no answers of a review page"),
        ("[1]", "no answers of a review page .the file"),
        ('{"answers": {}}', "review: Field required"),
        ('{"review": "ID", "answers": {"1": "maybe"}}', "answers.1: Input should be 'same' or 'different'"),
        ('{"review": "ID", "answers": {"first": "same"}}', "answers.first"),
        ('{"review": "ID", "answers": {"5": "same"}}', "answer to pair 5, the review has pairs 1 to 4"),
        ('{"review": "ID", "answers": {"0": "same"}}', "answer to pair 0"),
        ('{"review": "0123456789abcdef", "answers": {}}', "of the review 0123456789abcdef, the run's is ID"),
    ],
)
def test_answers_that_are_none_are_refused(text: str, message: str) -> None:
    data = text.replace("ID", REVIEW.id).encode("latin-1")
    with pytest.raises(ReviewError, match=message.replace("ID", REVIEW.id)):
        read_answers(data, REVIEW)


def test_answers_are_read_by_number_and_open_ones_are_absent() -> None:
    text = f'\n{{"review": "{REVIEW.id}", "answers": {{"4": "different", "1": "same"}}}}\n'
    assert read_answers(text.encode(), REVIEW) == {1: "same", 4: "different"}


# The command


def saved(run: Folder, change: dict[int, Answer] | None = None) -> Path:
    """A file of right answers to the run's review, some of them changed."""
    review = Review.model_validate(run.child("review").read_json("pairs.json"))
    file = Path(run.path("saved.json"))
    file.write_text(json.dumps({"review": review.id, "answers": truly(review) | (change or {})}))
    return file


def test_a_page_is_written_and_its_answers_reach_the_audit(run: Folder, tmp_path: Path, dcgan: Dcgan) -> None:
    run.child("report").write_bytes("index.html", b"old")
    ended = dcgan("review", run, "--pairs", 20, "--out", tmp_path / "elsewhere" / "page.html")
    assert ended.status == 0, ended.err
    assert f"20 pairs: the 10 least sure of {len(removed_of(run))} removals, and 10 controls" in ended.out
    assert len(pairs_shown((tmp_path / "elsewhere" / "page.html").read_text())) == 20
    assert "Judged by eye" not in render(run)
    ended = dcgan("review", run, "--answers", saved(run))
    assert ended.status == 0, ended.err
    # 0 of 10 by Wilson: z^2 / (10 + z^2)
    assert "0 of 10 removals at the border judged different: false-positive rate 0.0%" in ended.out
    assert "95 % interval 0.0% to 27.8%" in ended.out
    assert "upper bound" in ended.out
    html = run.child("report").read_bytes("index.html").decode()
    assert "Judged by eye" in html
    assert "27.8\N{NO-BREAK SPACE}%" in html
    assert "not to be trusted" not in html + ended.out
    assert run.child("review").names() == ["answers.json", "pairs.json"]


def test_a_reviewer_who_fails_the_controls_is_not_believed(run: Folder, dcgan: Dcgan) -> None:
    assert dcgan("review", run, "--pairs", 20).status == 0
    review = Review.model_validate(run.child("review").read_json("pairs.json"))
    everything_same: dict[int, Answer] = dict.fromkeys(review.numbers(Kind.DIFFERENT), "same")
    ended = dcgan("review", run, "--answers", saved(run, everything_same))
    assert "5 of 5 known same, 0 of 5 known different" in ended.out
    assert "not to be trusted" in ended.out
    assert "not to be trusted" in render(run)
    assert not run.exists("report")


def test_answers_do_not_outlive_the_groups_that_they_are_about(run: Folder, dcgan: Dcgan) -> None:
    assert dcgan("review", run, "--pairs", 8).status == 0
    answers = saved(run)
    assert dcgan("review", run, "--answers", answers).status == 0
    groups = run.child("groups").read_table("groups.parquet")
    run.child("groups").write_table("groups.parquet", groups.slice(0, len(groups) - 1))
    assert "say nothing of these groups" in render(run)
    ended = dcgan("review", run, "--answers", answers)
    assert ended.status == 2
    assert "de-duplicated again since its review was drawn" in ended.err
    assert dcgan("review", run, "--pairs", 12).status == 0


def test_pairs_that_someone_may_be_judging_are_not_replaced(run: Folder, dcgan: Dcgan) -> None:
    assert dcgan("review", run, "--pairs", 8, "--seed", 1).status == 0
    page = run.child("review").read_bytes("review.html")
    ended = dcgan("review", run, "--pairs", 8, "--seed", 2)
    assert ended.status == 2
    assert "a review of 8 pairs with seed 1 whose answers are not read yet; read them with --answers" in ended.err
    assert run.child("review").read_bytes("review.html") == page
    assert dcgan("review", run, "--pairs", 8, "--seed", 1).status == 0
    assert run.child("review").read_bytes("review.html") == page
    assert dcgan("review", run, "--answers", saved(run)).status == 0
    assert dcgan("review", run, "--pairs", 8, "--seed", 2).status == 0


def test_what_can_not_be_reviewed_is_said(run: Folder, tmp_path: Path, dcgan: Dcgan) -> None:
    (tmp_path / "answers.json").write_text("{}")
    assert (
        "has no review to answer; make its page first"
        in dcgan("review", run, "--answers", tmp_path / "answers.json").err
    )
    assert dcgan("review", run, "--pairs", 4).status == 0
    assert "no answers of a review page" in dcgan("review", run, "--answers", tmp_path / "answers.json").err
    run.child("review").write_bytes("pairs.json", b'{"seed": 0}')
    assert "written by another version" in dcgan("review", run).err
    run.child("groups").write_table("groups.parquet", pa.Table.from_pylist([], GROUPS))
    run.child("review").delete_all()
    assert "removed no near-duplicate, so there is nothing to review" in dcgan("review", run).err
    ended = dcgan("review", tmp_path / "empty")
    assert ended.status == 2
    assert "has no groups/groups.parquet to review; do its stages up to deduplicate first" in ended.err
    assert not (tmp_path / "empty").exists()


# The browser

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """Headless Chromium with its own new profile and no network; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("there is no Chromium with its chromedriver here")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chromium = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=driver))
    try:
        chromium.execute_cdp_cmd("Network.enable", {})
        chromium.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": -1, "uploadThroughput": -1},
        )
        yield chromium
    finally:
        chromium.quit()


def requested(browser: Any) -> set[str]:
    """The schemes of all that the browser's tab asked for."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return {params["request"]["url"].partition(":")[0] for params in sent}


@pytest.mark.timeout(120)
def test_twenty_pairs_judged_by_keyboard_alone(run: Folder, tmp_path: Path, dcgan: Dcgan, browser: Any) -> None:
    """One removal of ten judged different: the interval on the audit page is the one worked out by hand."""
    keys = pytest.importorskip("selenium.webdriver").Keys
    run.child("report").write_bytes("index.html", b"old")
    assert dcgan("review", run, "--pairs", 20, "--seed", 7).status == 0
    review = Review.model_validate(run.child("review").read_json("pairs.json"))
    wanted = truly(review) | {review.numbers(Kind.BORDER)[4]: "different"}
    browser.get(Path(run.path("review/review.html")).as_uri())

    def press(*what: str) -> None:
        for key in what:
            browser.switch_to.active_element.send_keys(key)

    def count() -> str:
        return str(browser.find_element("id", "count").text)

    def pictures() -> list[str]:
        return [browser.find_element("id", side).get_attribute("src") for side in ("left", "right")]

    shown = pairs_shown(run.child("review").read_bytes("review.html").decode())
    for number, answer in wanted.items():
        assert count() == f"Pair {number} of 20"
        assert pictures() == shown[number - 1]
        letter, arrow = ("s", keys.ARROW_LEFT) if answer == "same" else ("D", keys.ARROW_RIGHT)
        if number == 3:  # a slip, taken back
            press("d" if answer == "same" else "s", keys.BACKSPACE)
            assert count() == "Pair 3 of 20"
        if number == 5:  # a key that is held down judges nothing more
            browser.execute_script("document.dispatchEvent(new KeyboardEvent('keydown', {key: 's', repeat: true}))")
        if number == 8:  # what was judged survives a reload
            browser.refresh()
            assert count() == "Pair 8 of 20"
        if number == 12:  # left open, and judged after going back: goes on where it was
            press("u", keys.BACKSPACE)
            assert count() == "Pair 12 of 20"
        press(letter if number % 2 else arrow)
    assert browser.find_element("id", "outcome").text == "All 20 pairs judged"
    assert browser.switch_to.active_element.get_attribute("id") == "save"
    press("d")  # too many by one: the end takes no answers
    text = browser.find_element("id", "text").get_attribute("value")
    assert json.loads(text) == {"review": review.id, "answers": {str(n): answer for n, answer in wanted.items()}}
    press(keys.ENTER)
    file = tmp_path / "downloads" / f"answers-{review.id}.json"
    wait_for(file.exists)
    assert file.read_text() == text + "\n"
    assert f"--answers {file.name}" in browser.find_element("id", "command").text
    assert [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    asked = requested(browser)
    assert {"file", "data"} <= asked
    assert not asked & {"http", "https", "ws", "wss"}

    ended = dcgan("review", run, "--answers", file)
    assert ended.status == 0, ended.err
    browser.get(Path(run.path("report/index.html")).as_uri())
    said = " ".join(browser.find_element("tag name", "body").text.split())
    z, n, p = 1.959964, 10, 0.1
    spread = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    low, high = ((p + z * z / (2 * n) + sign * spread) / (1 + z * z / n) for sign in (-1, 1))
    assert (round(low, 4), round(high, 4)) == (0.0179, 0.4042)
    assert "1 of the 10 judged are different pictures: a false-positive rate of 10.0 %" in said
    assert "with a 95 % interval (Wilson) of 1.8 % to 40.4 %." in said
    assert "Of 10 controls judged, 10 were judged rightly (5 of 5 known same, 5 of 5 known different)." in said


def wait_for(ready: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until it is so; fail where it takes too long."""
    until = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < until, "nothing came in time"
        time.sleep(0.05)
