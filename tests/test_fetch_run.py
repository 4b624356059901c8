"""The stage fetch in whole runs, on a real embedded Ray, against a real server on loopback."""

import asyncio
import csv
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from crawl_server import CrawlServer, crawl_server, picture
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from manifests.denied import DENIED, DenyList, add_denied, denied_id, denied_key, person_sha256, read_denied, url_sha256
from manifests.schema import Reason, Status, record_id
from manifests.store import Folder
from pipelines import takedown
from pipelines.__main__ import app
from pipelines.crawl.denied import purge_fetched
from pipelines.crawl.log import Log
from pipelines.crawl.parts import fetch_parts, log_path, reopen
from pipelines.crawl.plan import plan_names, planned, read_group, read_groups, wanted_urls, write_plan
from pipelines.inputs import list_inputs
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.run import RunError, _clear_from, run_recipe
from pipelines.samples import Planting
from pipelines.sources import SourceError, list_parts, read_part
from pipelines.sources.urls import UrlsSource
from pipelines.stages import STAGE_FILE, fetch, fingerprints, ingest, stages_of
from pipelines.stages.context import Context, frozen_parts
from pipelines.stages.fetch import _follow_up

pytestmark = [pytest.mark.ray, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[1]
HOSTS = [f"127.0.0.{number}" for number in range(1, 42)]
ALLOWED = HOSTS[1:]

# Every process imports this before anything else: what is no loopback or own address is not connected to, and of what
# we ask for it is noted. (Ray itself asks for a cloud's metadata as it starts.)
GUARD = f"""
import os, socket, sys, traceback
sys.path.insert(0, {str(ROOT / "tests")!r})
from crawl_server import is_outside
_connect = socket.socket.connect
def connect(self, address):
    if self.type == socket.SOCK_STREAM and is_outside(address):
        if any("/pipelines/" in frame.filename for frame in traceback.extract_stack()):
            with open(os.environ["CRAWL_GUARD"], "a") as file:
                file.write(f"{{address}}\\n")
        raise PermissionError(f"the test keeps {{address}} from being connected to")
    return _connect(self, address)
socket.socket.connect = connect
"""


@pytest.fixture
def guarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(GUARD)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.setenv("CRAWL_GUARD", str(tmp_path / "reached"))
    yield
    assert not (tmp_path / "reached").exists(), (tmp_path / "reached").read_text()


def recipe_of(listed: Path, **fetch: Any) -> Recipe:
    quick = {
        "user_agent": "testbot/1.0 (+mailto:nobody@example.com)",
        "per_host_delay_s": 0,
        "idle_s": 1.5,
        "total_s": 2.5,
        "backoff_s": 0.05,
        "largest_bytes": 200_000,
        "allow_hosts": ALLOWED,
    }
    return Recipe.model_validate(
        {
            "name": "crawl",
            "sources": [{"name": "web", "kind": "urls", "list": str(listed), "fetch": quick | fetch}],
            "ingest": {"plant_sources": 0, "filters": {"smallest_side_px": 16}},
            "resources": {"part_images": 150, "workers": 2, "object_store_gb": 0.2},
        }
    )


def write_list(path: Path, urls: list[str]) -> Path:
    path.write_text("url\n" + "".join(f'"{url}"\n' for url in urls))
    return path


def finish(recipe: Recipe, run: Path, **options: Any) -> Folder:
    with Reporter(Console(quiet=True)) as reporter:
        run_recipe(recipe, Folder(run), reporter, **options)
    return Folder(run)


def fetched(run: Folder) -> dict[str, dict[str, Any]]:
    """The row of every URL that says how it ended."""
    found: dict[str, dict[str, Any]] = {}
    for table in run.child("fetched").read_tables("part-"):
        for row in table.to_pylist():
            if row["moved_to"] is None:
                assert row["url"] not in found
                found[row["url"]] = row
    return found


def records(run: Folder) -> dict[str, dict[str, Any]]:
    return {row["source_key"]: row for table in run.child("samples").read_tables("part-") for row in table.to_pylist()}


KINDS: dict[str, tuple[str | None, bool]] = {
    # What becomes of a path: the reason, and whether another time may be better.
    "good": (None, False),
    "packed": (None, False),
    "noai-other": (None, False),
    "stumble": (None, False),
    "slow-down": (None, False),
    "missing": (Reason.NOT_FETCHED, False),
    "broken": (Reason.NOT_FETCHED, True),
    "reset": (Reason.NOT_FETCHED, True),
    "short": (Reason.NOT_FETCHED, True),
    "drip": (Reason.NOT_FETCHED, True),
    "no-http": (Reason.NOT_FETCHED, False),
    "endless": (Reason.TOO_MANY_BYTES, False),
    "bomb": (Reason.TOO_MANY_BYTES, False),
    "html": (Reason.NOT_AN_IMAGE, False),
    "empty": (Reason.EMPTY, False),
    "loop": (Reason.NOT_FETCHED, False),
    "noai": (Reason.OPTED_OUT, False),
    "tdm": (Reason.OPTED_OUT, False),
    "forbidden": (Reason.OPTED_OUT, False),
    "reserved": (Reason.OPTED_OUT, False),
}


def crawl_list(server: CrawlServer, count: int) -> dict[str, tuple[str | None, bool]]:
    """URL -> what is expected of it; most are good, on 40 hosts of very different sizes."""
    expected: dict[str, tuple[str | None, bool]] = {}
    faults = [kind for kind in KINDS if kind != "good"]
    for number in range(count):
        # A fifth of all lies on one host; of the others each has as many as its number says.
        host = ALLOWED[0] if number % 5 == 0 else ALLOWED[1 + int((number * 37 % 780 * 2 + 0.25) ** 0.5) % 39]
        fault = number % 4 == 1
        kind = faults[number // 4 % len(faults)] if fault else "good"
        path = f"/{kind}/{number}.jpg"
        if number % 50 == 3:
            path = f"/to/127.0.0.1/good/{number}.jpg"
        elif number % 50 == 13:
            path = f"/to/169.254.169.254/latest/{number}"
        elif number % 50 == 23:
            path = f"/to/{ALLOWED[-1 - number % 7]}/good/{number}.jpg"
        expected[server.url(path, host)] = KINDS[kind]
        if path.startswith("/to/1"):
            refused = "/to/127.0.0.1/" in path or "169.254" in path
            expected[server.url(path, host)] = (Reason.REFUSED_ADDRESS if refused else None, False)
    for number in range(10):
        expected[f"http://127.0.0.{200 + number}:1/{number}.jpg"] = (Reason.REFUSED_ADDRESS, False)
        expected[f"http://127.0.0.2:{server.port + 1 if server.port < 65000 else 1024}/{number}.jpg"] = (
            Reason.NOT_FETCHED,
            True,
        )
    return expected


def start(recipe: Path, run: Path, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "pipelines", "run", str(recipe), "--run", str(run), *options]
    return subprocess.Popen(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def ended_so_far(run: Folder) -> dict[str, bool]:
    """URL -> whether it is to be tried again, of all that is on the disk now: in logs and in sealed parts."""
    folder = run.child("fetched")
    urls = {row["number"]: row["url"] for g in read_groups(folder) for row in read_group(folder, g.plan, g.place)}
    found: dict[str, bool] = {}
    for group in read_groups(folder):
        for part in group.parts:
            if log_path(folder, part).exists():
                with Log(log_path(folder, part)) as log:
                    found |= {urls[number]: row["may_retry"] for number, row in log.rows.items()}
            elif folder.exists(f"part-{part:05d}.parquet"):
                table = folder.read_table(f"part-{part:05d}.parquet", ["url", "may_retry"])
                found |= dict(zip(table["url"].to_pylist(), table["may_retry"].to_pylist(), strict=True))
    return found


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_two_thousand_urls_with_all_faults_killed_and_taken_up_again(tmp_path: Path) -> None:
    with crawl_server(HOSTS) as server:
        expected = crawl_list(server, 2000)
        recipe = recipe_of(write_list(tmp_path / "list.csv", list(expected)))
        (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
        run = Folder(tmp_path / "run")
        asked_before: list[int] = []
        done_before: list[dict[str, bool]] = []
        for wanted in (150, 700, 1300):
            process = start(tmp_path / "recipe.yaml", tmp_path / "run", "--until", "fetch")
            while len(server.asked) - (asked_before[-1] if asked_before else 0) < 200 or len(server.asked) < wanted:
                assert process.poll() is None, process.communicate()[0]
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.communicate()
            time.sleep(3)  # its workers die with it
            asked_before.append(len(server.asked))
            done_before.append(ended_so_far(run))
            assert not run.child("fetched").exists(STAGE_FILE)
        process = start(tmp_path / "recipe.yaml", tmp_path / "run", "--until", "ingest")
        said, _ = process.communicate(timeout=280)
        assert process.returncode == 0, said

    rows = fetched(run)
    assert rows.keys() == expected.keys()
    assert {url: (row["reason"], row["may_retry"]) for url, row in rows.items()} == expected
    for url, row in rows.items():
        if row["reason"] is None and "/to/" not in url:
            image = picture("/" + url.split("/", 3)[3])
            assert (row["image"], row["sha256"], row["size_bytes"]) == (
                image,
                hashlib.sha256(image).hexdigest(),
                len(image),
            )
        assert row["fetched_at"].endswith("Z")
        assert row["image"] is None or row["reason"] is None

    # What had ended well before a kill was never asked for again; it had, in each of three kills, in some parts.
    assert all(sum(not retry for retry in done.values()) > 100 for done in done_before)
    for done, first in zip(done_before, asked_before, strict=True):
        after = {server.url(asked.path, asked.host) for asked in server.asked[first:]}
        assert not after & {url for url, retry in done.items() if not retry}
    # What was refused was never connected to, and no host was asked more widely than it may be.
    assert server.connections["127.0.0.1"] == 0
    assert set(server.most_at_once) == set(ALLOWED)
    assert max(server.most_at_once.values()) == 2
    # No image of a part was asked for that robots.txt or tdmrep.json keep back.
    assert not [path for path in server.paths() if path.startswith(("/forbidden/", "/reserved/"))]

    # The ledger has a row for each, with its reason; all images are read.
    ledger = records(run)
    assert ledger.keys() == expected.keys()
    assert {url: row["reason"] for url, row in ledger.items()} == {url: reason for url, (reason, _) in expected.items()}
    assert {row["url"] for row in ledger.values()} == expected.keys()
    counts = run.child("fetched").read_json(STAGE_FILE)["counts"]
    kinds = Counter(reason for reason, _ in expected.values())
    assert (counts["URLs"], counts["images"], counts["opted out"], counts["refused"]) == (
        len(expected),
        kinds[None],
        kinds[Reason.OPTED_OUT],
        kinds[Reason.REFUSED_ADDRESS],
    )
    assert counts["of them to try again"] == sum(retry for _, retry in expected.values())
    assert not [name for name in os.listdir(run.child("fetched").path()) if name.startswith("log-")]


@pytest.mark.usefixtures("guarded")
def test_a_crawl_is_ingested_with_people_and_licences_and_done_again_only_where_it_may_end_better(
    tmp_path: Path,
) -> None:
    listed = tmp_path / "list.csv"
    with crawl_server(HOSTS[:4]) as server:
        good, missing, broken, moved = (
            server.url(path) for path in ("/good/1.png", "/missing/1.png", "/broken/1.png", "/to/127.0.0.3/good/3.png")
        )
        with listed.open("w") as file:
            write = csv.writer(file)
            write.writerow(["person", "url", "licence", "rank"])
            write.writerows([["Ada", good, "CC0", 1], ["", missing, "", 2], ["Bo, B", good + "#x", "", 3]])
            write.writerows([["Ada", good, "", 4], ["Cy", broken, "", 5], ["Di", moved, "CC BY 4.0", 6]])
        recipe = recipe_of(listed, retries=0)
        run = finish(recipe, tmp_path / "run", until="ingest")
        assert fetched(run).keys() == {good, missing, broken, moved}
        assert server.paths().count("/good/1.png") == 1
        ledger = records(run)
        assert {key: (row["person"], row["url"], row["licence"], row["reason"]) for key, row in ledger.items()} == {
            good: ("Ada", good, "CC0", None),
            f"{good} (Bo, B)": ("Bo, B", good + "#x", None, None),
            missing: (None, missing, None, Reason.NOT_FETCHED),
            broken: ("Cy", broken, None, Reason.NOT_FETCHED),
            moved: ("Di", moved, "CC BY 4.0", None),
        }
        assert ledger[good]["sha256"] == hashlib.sha256(picture("/good/1.png")).hexdigest()
        assert ledger[good]["record_id"] == record_id("web", good)
        assert ledger[missing]["detail"] == "404 Said so"
        assert ledger[missing]["status"] == Status.FAILED
        assert json.loads(ledger[moved]["facts"]) == {
            "final_url": server.url("/good/3.png", "127.0.0.3"),
            "status": 200,
        }

        # Nothing is to do; then only what may end better is done again, and this time it does.
        asked = len(server.asked)
        finish(recipe, tmp_path / "run", until="ingest")
        assert len(server.asked) == asked
        server.files["/broken/1.png"] = picture("/good/9.png")
        for part in (part for group in read_groups(run.child("fetched")) for part in group.parts):
            log_path(run.child("fetched"), part).write_bytes(b"left by a kill")
        finish(recipe, tmp_path / "run", until="ingest", redo="fetch")
        assert not [name for name in os.listdir(run.child("fetched").path()) if "log-" in name]
        assert [path for path in server.paths()[asked:] if not path.startswith(("/robots", "/.well"))] == [
            "/broken/1.png"
        ]
        again = records(run)
        assert again[broken]["sha256"] == hashlib.sha256(picture("/good/9.png")).hexdigest()
        assert {key: row for key, row in again.items() if key != broken} == {
            key: row for key, row in ledger.items() if key != broken
        }
        status = CliRunner().invoke(app, ["status", run.path()], env={"COLUMNS": "200"})
        assert status.exit_code == 0
        assert "fetch" in status.stdout
        assert "4 URLs" in status.stdout

        # Other settings: all of it again.
        changed = recipe_of(listed, retries=1)
        with pytest.raises(RunError, match=r"sources\.0\.fetch\.retries: 0 -> 1[\s\S]*--redo fetch"):
            finish(changed, tmp_path / "run", until="ingest")
        _clear_from(run, "fetch", fingerprints(changed))
        assert not run.child("fetched").exists()
        assert not run.child("samples").exists()


def test_what_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text, why in (
        ("person\nAda\n", "has no column url, only person"),
        ("url\n", "lists no URLs"),
        ("url,person\nhttp://a.test/1,\n ,Ada\n", "row 2 of .* has no URL"),
    ):
        (tmp_path / "list.csv").write_text(text)
        with pytest.raises(SourceError, match=why):
            finish(recipe_of(tmp_path / "list.csv"), tmp_path / "run")
    with pytest.raises(SourceError, match=r"absent.csv can't be read .* set sources.N.list to a CSV"):
        finish(recipe_of(tmp_path / "absent.csv"), tmp_path / "run")
    listed = write_list(tmp_path / "list.csv", ["http://a.test/1"])
    monkeypatch.setattr(Folder, "is_local", property(lambda self: False))
    with pytest.raises(SourceError, match="is not local: what is fetched is appended to files"):
        finish(recipe_of(listed), tmp_path / "run")
    monkeypatch.undo()
    folder = Recipe.model_validate({"name": "r", "sources": [{"name": "d", "kind": "drawn", "images": 1}]})
    for options in ({"redo": "fetch"}, {"until": "fetch"}):
        with pytest.raises(RunError, match=r"fetch: no source of the recipe is of kind urls"):
            finish(folder, tmp_path / "run", **options)
    # Another source that can't be used stops the run before anything is fetched.
    both = recipe_of(listed).model_dump(mode="json")
    both["sources"].append({"name": "gone", "kind": "folder", "path": str(tmp_path / "gone")})
    with pytest.raises(SourceError, match="gone can't be listed"):
        finish(Recipe.model_validate(both), tmp_path / "run")
    assert not (tmp_path / "run" / "fetched").exists()


def test_a_recipe_without_urls_knows_nothing_of_the_stage(tmp_path: Path) -> None:
    plain = Recipe.model_validate({"name": "r", "sources": [{"name": "d", "kind": "drawn", "images": 1}]})
    assert next(iter(fingerprints(plain))) == "ingest"
    listed = write_list(tmp_path / "list.csv", ["http://a.test/1", "http://b.test/1"])
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(listed).model_dump(mode="json")))
    assert list(fingerprints(recipe_of(listed)))[:2] == ["fetch", "ingest"]
    shown = CliRunner().invoke(
        app, ["run", str(tmp_path / "recipe.yaml"), "--run", str(tmp_path / "run"), "--dry-run"], env={"COLUMNS": "200"}
    )
    assert shown.exit_code == 0
    words = " ".join(shown.stdout.replace("│", " ").split())
    assert "fetch 2 URLs in 1 parts to do" in words
    assert "ingest 0 parts of 0 records and what is fetched to do" in words
    assert not (tmp_path / "run").exists()


def test_what_a_list_is_its_first_bytes_tell(tmp_path: Path) -> None:
    expected = [{"url": "http://a.test/1", "person": "NA", "licence": None}]
    pq.write_table(pa.table({"url": [" http://a.test/1 "], "person": ["NA"]}), tmp_path / "parquet.csv")
    (tmp_path / "csv.parquet").write_text("url,person,licence\nhttp://a.test/1,NA,\n")
    for name in ("parquet.csv", "csv.parquet"):
        source = UrlsSource.model_validate(recipe_of(tmp_path / name).sources[0].model_dump())
        assert source.table().to_pylist() == expected
    odd = pa.array([b"http://a.test/\xff"]).view(pa.string())
    pq.write_table(pa.table({"url": odd}), tmp_path / "odd.parquet")
    (tmp_path / "twice.csv").write_text("url,url\n1,2\n")
    for name, why in (("odd.parquet", "Invalid UTF8"), ("twice.csv", "it has the column url twice")):
        with pytest.raises(SourceError, match=rf"{name} can't be read \(.*{why}.*\); set sources.N.list"):
            UrlsSource.model_validate(recipe_of(tmp_path / name).sources[0].model_dump()).table()


def test_lists_in_parquet_and_spellings_of_one_url(tmp_path: Path) -> None:
    urls = ["http://A.test/1", "http://a.test:80/1#x", "http://a.test/2"]
    table = pa.table({"url": urls, "person": ["Ada", None, "7"], "size": [1, 2, 3]})
    pq.write_table(table, tmp_path / "list.parquet")
    source = UrlsSource.model_validate(recipe_of(tmp_path / "list.parquet").sources[0].model_dump())
    assert source.table().to_pylist() == [
        {"url": "http://A.test/1", "person": "Ada", "licence": None},
        {"url": "http://a.test:80/1#x", "person": None, "licence": None},
        {"url": "http://a.test/2", "person": "7", "licence": None},
    ]
    one, two = wanted_urls("web", source.table())
    assert one.listed == [{"key": "http://a.test/1", "url": "http://A.test/1", "person": "Ada", "licence": None}]
    assert [(wanted.number, wanted.url) for wanted in (one, two)] == [(0, "http://a.test/1"), (1, "http://a.test/2")]


def crawled(server: CrawlServer, folder: Folder, table: pa.Table, **fetch: Any) -> UrlsSource:
    """What the stage does with a list, without Ray."""
    source = UrlsSource.model_validate(recipe_of(Path("list.csv"), **fetch).sources[0].model_dump())
    if not plan_names(folder):
        write_plan(folder, planned(wanted_urls("web", table), 7))
    groups = read_groups(folder)
    while groups:
        for group in groups:
            asyncio.run(fetch_parts(folder, source.fetch, read_group(folder, group.plan, group.place)))
        groups = _follow_up(folder, 7)
    return source


def list_of(urls: list[str], people: Sequence[str | None]) -> pa.Table:
    return pa.table({"url": urls, "person": people, "licence": pa.nulls(len(urls), pa.string())})


@pytest.mark.parametrize("part_images", [1, 3, 100])
def test_ranges_of_what_was_fetched_hold_every_record_once(
    tmp_path: Path, part_images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.crawl.parts._ROW_GROUP_BYTES", 2000)
    with crawl_server(HOSTS[1:3]) as server:
        urls = [server.url(f"/{'missing' if n % 5 == 0 else 'good'}/{n}.png", HOSTS[1 + n % 2]) for n in range(20)]
        table = list_of([*urls, *urls[3:6]], ["Ada"] * 20 + ["Bo"] * 3)
        source = crawled(server, Folder(tmp_path).child("fetched"), table).within(Folder(tmp_path))
    ranges = source.ranges(part_images)
    read = [list(source.read(part)) for part in ranges]
    assert [len(of_range) for of_range in read] == [part.records for part in ranges]
    assert max(len(of_range) for of_range in read) <= part_images
    by_key = {record.key: record for of_range in read for record in of_range}
    assert sum(map(len, read)) == len(by_key) == 23
    assert by_key.keys() == {*urls, *(f"{url} (Bo)" for url in urls[3:6])}
    for key, record in by_key.items():
        path = "/" + key.split("/", 3)[3].removesuffix(" (Bo)")
        assert record.data == (None if path.startswith("/missing") else picture(path))


def test_a_part_goes_on_from_the_whole_records_of_its_log(tmp_path: Path) -> None:
    folder = Folder(tmp_path).child("fetched")
    with crawl_server(HOSTS[1:3]) as server:
        paths = [f"/{'broken' if n == 2 else 'good'}/{n}.png" for n in range(6)]
        table = list_of([server.url(path) for path in paths], [None] * 6)
        crawled(server, folder, table, retries=0)
        assert reopen(folder, 0)
        path = log_path(folder, 0)
        with Log(path) as log:
            assert sorted(log.rows) == [0, 1, 3, 4, 5]
            assert log.body(3) == picture("/good/3.png")
        path.write_bytes(path.read_bytes()[:-1])  # as a kill in the middle of a write leaves it
        asked = len(server.asked)
        crawled(server, folder, table, retries=0)
        assert sorted(p for p in server.paths()[asked:] if p.count("/") == 2 and "well-known" not in p) == [
            "/broken/2.png",
            "/good/5.png",
        ]
        (sealed,) = folder.read_tables("part-")
        assert [row["image"] for row in sealed.to_pylist()] == [
            None if n == 2 else picture(f"/good/{n}.png") for n in range(6)
        ]
        assert not path.exists()
        # Of what ended well there is nothing to open again.
        server.files["/broken/2.png"] = picture("/x")
        assert reopen(folder, 0)
        crawled(server, folder, table)
        assert not reopen(folder, 0)
        assert folder.exists("part-00000.parquet")


def asked_for(server: CrawlServer, first: int) -> list[str]:
    return sorted(path for path in server.paths()[first:] if not path.startswith(("/robots", "/.well")))


def test_a_log_beside_its_sealed_part_goes_and_what_was_to_be_tried_again_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(tmp_path).child("fetched")
    path = log_path(folder, 0)
    with crawl_server(HOSTS[1:3]) as server:
        paths = [f"/{'broken' if n == 2 else 'good'}/{n}.png" for n in range(6)]
        table = list_of([server.url(path) for path in paths], [None] * 6)
        crawled(server, folder, table, retries=0)
        (sealed,) = folder.read_tables("part-")
        # Killed after the part was sealed: the log is whole.
        with Log(path) as log:
            for row in sealed.to_pylist():
                image = row.pop("image")
                log.append({name: row[name] for name in row if name not in ("source", "url", "listed")}, image)
        path.with_name(f".{path.name}").write_bytes(b"half made")
        asked = len(server.asked)
        crawled(server, folder, table, retries=0)
        assert asked_for(server, asked) == []
        assert sorted(os.listdir(folder.path())) == folder.names()
        assert next(folder.read_tables("part-")).equals(sealed)
        # Killed as it was opened again, with the sealed part still there; and that changed before the next start.
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "delete", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                reopen(folder, 0)
        assert path.exists()
        purge_fetched(folder, denying(url_sha256=url_sha256(server.url(paths[4]))))
        server.files["/broken/2.png"] = picture("/good/2.png")
        crawled(server, folder, table, retries=0)
        assert asked_for(server, asked) == ["/broken/2.png"]
        assert sorted(os.listdir(folder.path())) == folder.names()
        (again,) = folder.read_tables("part-")
        assert [row["image"] for row in again.to_pylist()] == [
            None if n == 4 else picture(f"/good/{n}.png") for n in range(6)
        ]


def _interrupted(self: Folder, name: str) -> None:
    raise KeyboardInterrupt


def denying(**held: str) -> DenyList:
    return DenyList(pa.Table.from_pylist([dict.fromkeys(DENIED.names) | {"record_id": "one"} | held], DENIED))


def test_headers_of_any_bytes_are_sealed(tmp_path: Path) -> None:
    folder = Folder(tmp_path).child("fetched")
    with crawl_server(HOSTS[1:3]) as server:
        urls = [server.url(f"/odd-{what}/1.png") for what in ("type", "words")]
        crawled(server, folder, list_of(urls, [None, None]))
    (sealed,) = folder.read_tables("part-")
    assert sealed["content_type"].to_pylist() == ["image/?png", None]
    assert sealed["detail"].to_pylist() == [None, "404 no??"]


@pytest.mark.parametrize("by", ["person", "url", "bytes"])
def test_a_redirect_to_another_host_is_one_record_still_once_it_was_taken_down(tmp_path: Path, by: str) -> None:
    folder = Folder(tmp_path).child("fetched")
    with crawl_server(HOSTS[1:4]) as server:
        urls = [server.url(f"/good/{n}.png", HOSTS[1 + n % 2]) for n in range(8)]
        urls.append(server.url("/to/127.0.0.3/good/moved.png"))
        source = crawled(server, folder, list_of(urls, [*["Ada"] * 8, "Zora"])).within(Folder(tmp_path))
    rows = [row for table in folder.read_tables("part-") for row in table.to_pylist() if row["url"] == urls[-1]]
    assert [row["moved_to"] is None for row in rows] == [False, True]
    digest = hashlib.sha256(picture("/good/moved.png")).hexdigest()
    held = {
        "person": {"person_sha256": person_sha256("zora")},
        "url": {"url_sha256": url_sha256(urls[-1])},
        "bytes": {"sha256": digest},
    }
    purge_fetched(folder, denying(**held[by]))
    ranges = source.ranges(100)
    read = [record for part in ranges for record in source.read(part)]
    assert sum(part.records for part in ranges) == len(read) == 9
    hidden = denied_key(record_id("web", urls[-1]))
    assert {record.key for record in read} == {*urls[:-1], hidden}
    assert [record.reason for record in read if record.key == hidden] == [Reason.DENIED]
    assert _follow_up(folder, 7) == []
    said = repr([table.to_pylist() for name in folder.names() for table in [folder.read_table(name)]])
    assert "moved.png" not in said
    assert "Zora" not in said
    assert repr(picture("/good/moved.png")) not in said
    # A second takedown leaves it as it is.
    before = [folder.read_bytes(name) for name in folder.names()]
    purge_fetched(folder, denying(**held[by]))
    assert [folder.read_bytes(name) for name in folder.names()] == before


def test_of_a_key_that_is_hidden_already_no_other_is_made(tmp_path: Path) -> None:
    folder = Folder(tmp_path).child("fetched")
    with crawl_server(HOSTS[1:3]) as server:
        url = server.url("/good/1.png")
        source = crawled(server, folder, list_of([url, url], ["Zora", "Milo"])).within(Folder(tmp_path))
    purge_fetched(folder, denying(person_sha256=person_sha256("Zora")))
    purge_fetched(folder, denying(sha256=hashlib.sha256(picture("/good/1.png")).hexdigest()))
    found = [denied_id(record.key) for part in source.ranges(9) for record in source.read(part)]
    assert found == [record_id("web", url), record_id("web", f"{url} (Milo)")]


def test_the_stage_settles_logs_first_keeps_to_deny_lists_and_leaves_no_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Folder(tmp_path / "run")
    folder, path = run.child("fetched"), log_path(run.child("fetched"), 0)
    recipe = recipe_of(tmp_path / "list.csv", retries=0)
    monkeypatch.setattr("pipelines.stages.fetch.run_parts", lambda work, items, *_: map(work, items))

    def whole_stage() -> dict[str, Any]:
        with Reporter(Console(quiet=True)) as reporter:
            return fetch.run(Context(run, recipe, reporter, on_cluster=False))

    with crawl_server(HOSTS[1:4]) as server:
        add_denied(run, denying(url_sha256=url_sha256(server.url("/good/2.png", "127.0.0.3"))).table.to_pylist())
        urls = [server.url(path) for path in ("/good/1.png", "/broken/1.png", "/to/127.0.0.3/good/2.png")]
        fetch.prepare(run, planned(wanted_urls("web", list_of(urls, [None] * 3)), 9))
        counts = whole_stage()
        assert (counts["URLs"], counts["images"], counts["of them to try again"]) == (3, 1, 1)
        assert server.paths("127.0.0.3") == []
        rows = {row["url"]: row["reason"] for table in folder.read_tables("part-") for row in table.to_pylist()}
        assert rows == {urls[0]: None, urls[1]: Reason.NOT_FETCHED, urls[2]: Reason.DENIED}
        # Killed as the part was opened again, when no group has a part that is not sealed.
        with monkeypatch.context() as patch:
            patch.setattr(Folder, "delete", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                reopen(folder, 0)
        server.files["/broken/1.png"] = picture("/good/9.png")
        counts = whole_stage()
        assert (counts["images"], counts["of them to try again"]) == (2, 0)
        path.write_bytes(b"left by a kill")
        whole_stage()
        assert sorted(os.listdir(folder.path())) == folder.names()
        assert not path.exists()


def ingested(run: Folder, recipe: Recipe, source: UrlsSource) -> dict[str, dict[str, Any]]:
    """What the stage ingest does with what was fetched, without Ray: the ledger by key."""
    ingest.prepare(run, recipe, list_parts([source], 4))
    for part in frozen_parts(run):
        denied = read_denied([run])
        ingest.ingest_part(run.child("samples"), (source,), recipe.ingest, Planting(0, 0.0), part.row(), denied=denied)
    return records(run)


def test_a_whole_run_is_left_without_who_is_taken_down(tmp_path: Path) -> None:
    run = Folder(tmp_path / "run")
    fetch_folder = run.child("fetched")
    recipe = recipe_of(tmp_path / "list.csv")
    with crawl_server(HOSTS[:4]) as server:
        urls = [server.url(f"/good/{n}.png", HOSTS[1 + n % 2]) for n in range(8)]
        urls.append(server.url("/to/127.0.0.3/good/moved.png"))
        # The same bytes at another address, listed without a name.
        urls.append(server.url("/good/copy.png"))
        server.files["/good/copy.png"] = picture("/good/moved.png")
        source = crawled(server, fetch_folder, list_of(urls, [*["Ada"] * 8, "Zora", None])).within(run)
    fetch_folder.write_json(STAGE_FILE, {})
    assert set(ingested(run, recipe, source)) == set(urls)
    took = takedown.plan(run, recipe, takedown.Asked(person="zora"))
    takedown.take_down(run, recipe, took)
    for name in fetch_folder.names():
        if name.endswith(".parquet"):
            said = repr(fetch_folder.read_table(name).to_pylist())
            assert not [word for word in ("Zora", "moved.png", repr(picture("/good/moved.png"))) if word in said]
    hidden = {denied_key(record_id("web", url)) for url in urls[8:]}
    read = [record for part in frozen_parts(run) for record in read_part((source,), part)]
    assert sorted(record.key for record in read) == sorted({*urls[:8], *hidden})
    ledger = records(run)
    assert ledger.keys() == {*urls[:8], *hidden}
    # Nor does reading it again bring anything back.
    again = ingested(run, recipe, source)
    assert again == ledger
    assert {key for key, row in again.items() if row["reason"] == Reason.DENIED} == hidden


def test_a_start_that_got_no_further_than_its_fingerprint_is_planned_anew(tmp_path: Path) -> None:
    recipe = recipe_of(write_list(tmp_path / "list.csv", ["http://a.test/1"]))
    for redo in (False, True):
        stages = stages_of(recipe)[:2]
        lists = list_inputs(recipe, Folder(tmp_path / "run"), stages, stages if redo else (), reopened=redo)
        assert list(lists) == ["fetch", "ingest"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), min_size=1, max_size=80), st.integers(1, 12))
def test_a_host_is_never_in_two_groups_and_no_part_is_too_large(named: list[tuple[int, int]], part_urls: int) -> None:
    urls = [f"http://{host}.test/{number}" for host, number in named]
    rows = planned(wanted_urls("web", list_of(urls, [None] * len(urls))), part_urls, 5, 7).to_pylist()
    assert sorted(row["url"] for row in rows) == sorted(set(urls))
    groups: dict[str, set[int]] = {}
    for row in rows:
        groups.setdefault(row["url"].split("/")[2], set()).add(row["group"])
    assert all(len(of_host) == 1 for of_host in groups.values())
    parts = Counter(row["part"] for row in rows)
    assert max(parts.values()) <= part_urls
    assert sorted(parts) == list(range(7, 7 + len(parts)))
    assert sorted({row["group"] for row in rows}) == list(range(5, 5 + len({row["group"] for row in rows})))
    assert [(row["group"], row["part"]) for row in rows] == sorted((row["group"], row["part"]) for row in rows)
