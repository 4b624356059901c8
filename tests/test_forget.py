"""What was taken down is in no file of the run, all else is as it was, and it does not come back."""

import base64
import csv
import gc
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq
import pytest
import webdataset
import yaml
from rich.console import Console
from typer.testing import CliRunner

from manifests.forget import read_samples
from manifests.schema import record_id
from manifests.shards import Split, write_shard
from manifests.store import Folder
from pipelines.__main__ import app
from pipelines.progress import Reporter
from pipelines.recipe import Recipe
from pipelines.run import RunError, run_recipe
from pipelines.sources.bedroom import draw_room
from pipelines.stages import fingerprints
from pipelines.takedown import Asked, Plan, plan, take_down

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

PERSON = "Zora_Quill"
STAGES = ("ingest", "encode", "deduplicate", "shard", "report")
URL = "https://pics.example/urda-7.jpg?size=large"
ZORAS = 7
COPIES = {"Milo_Brandt/copied.jpg", "Milo_Brandt/smaller.jpg"}  # of pictures 0 and 1 of hers
IMAGE = "Otto_Stein/0003.jpg"
ONE = "Otto_Stein/0005.jpg"
CASES = ("person", "url", "image", "id")


def jpeg(seed: int, side_px: int = 96, quality: int = 92) -> bytes:
    picture = draw_room(5, seed).image
    picture = cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_AREA).astype(np.uint8)
    return cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders: of persons by folder, and of files that a list names."""
    root = tmp_path_factory.mktemp("photos")
    people = {PERSON: range(ZORAS), "Milo_Brandt": range(20, 50), "Otto_Stein": range(60, 90)}
    for person, numbers in people.items():
        (root / "named" / person).mkdir(parents=True)
        for place, number in enumerate(numbers):
            (root / "named" / person / f"{place:04d}.jpg").write_bytes(jpeg(number))
    (root / "named" / "Milo_Brandt" / "copied.jpg").write_bytes(jpeg(0))
    (root / "named" / "Milo_Brandt" / "smaller.jpg").write_bytes(jpeg(1, 80, 80))
    (root / "listed").mkdir()
    with (root / "people.csv").open("w") as file:
        write = csv.writer(file)
        write.writerow(["file", "person", "url", "licence"])
        for number in range(12):
            (root / "listed" / f"urda-{number}.jpg").write_bytes(jpeg(100 + number))
            write.writerow([f"urda-{number}.jpg", "Urda Vane", URL.replace("-7.", f"-{number}."), "CC0"])
    return root


def recipe_of(photos: Path, **ingest: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "name": "takedown",
            "seed": 3,
            "sources": [
                {"name": "named", "kind": "folder", "path": str(photos / "named"), "person": "folder"},
                {
                    "name": "listed",
                    "kind": "folder",
                    "path": str(photos / "listed"),
                    "people": str(photos / "people.csv"),
                },
            ],
            "ingest": {"plant_sources": 30, "filters": {"smallest_side_px": 16}, **ingest},
            "encode": {"autoencoder": {"epochs": 2}, "fit_threads": 1},
            "shard": {"shard_images": 12, "heldout_share": 0.1},
            "resources": {"part_images": 30, "workers": 2, "object_store_gb": 0.2},
        }
    )


def finish(recipe: Recipe, run: Path, **options: Any) -> Folder:
    with Reporter(Console(quiet=True)) as reporter:
        run_recipe(recipe, Folder(run), reporter, only=STAGES, **options)
    return Folder(run)


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    found = finish(recipe_of(photos), tmp_path_factory.mktemp("run") / "run")
    for folder in ("checkpoints", "best"):
        found.child("training").child(folder).child("checkpoint-000000320").write_bytes("state.json", b"{}")
    # As a process that was killed while it wrote a part leaves it.
    for part in (name for name in found.child("samples").names() if name.startswith("part-")):
        shutil.copy(found.child("samples").path(part), found.child("samples").path(f".{part}.{'0' * 32}"))
    return found


def asked_of(case: str) -> Asked:
    return {
        "person": Asked(person="zora  QUILL"),
        "url": Asked(url=URL),
        "image": Asked(image=jpeg(63, 80, 85)),
        "id": Asked(id=record_id("named", ONE)),
    }[case]


def keys_of(case: str) -> set[tuple[str, str]]:
    """Source and key of what a takedown has to reach."""
    of_person = {f"{PERSON}/{n:04d}.jpg" for n in range(ZORAS)} | COPIES
    keys = {"person": of_person, "image": {IMAGE}, "id": {ONE}}
    return {("listed", "urda-7.jpg")} if case == "url" else {("named", key) for key in keys[case]}


def forget(run: Folder, case: str, folder: Path, *options: str) -> str:
    asked = asked_of(case)
    value = asked.person or asked.url or asked.id
    if asked.image is not None:
        value = str(folder / "asked.jpg")
        Path(value).write_bytes(asked.image)
    assert value is not None
    answer = CliRunner().invoke(app, ["forget", run.path(), f"--{case}", value, *options], env={"COLUMNS": "200"})
    assert answer.exit_code == 0, answer.output + repr(answer.exception)
    return answer.output


def copy_of(run: Folder, folder: Path) -> Folder:
    shutil.copytree(run.path(), folder / "copy")
    return Folder(folder / "copy")


@pytest.fixture(scope="module", params=CASES)
def taken(request: pytest.FixtureRequest, run: Folder, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Folder]:
    """A case, and the run after it."""
    folder = tmp_path_factory.mktemp("taken")
    copied = copy_of(run, folder)
    forget(copied, request.param, folder)
    return request.param, copied


def files_of(run: Folder) -> dict[str, bytes]:
    root = Path(run.path())
    files = (path for path in root.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(files)}


def rows_of(run: Folder) -> list[dict[str, Any]]:
    return [row for table in run.child("samples").read_tables("part-") for row in table.to_pylist()]


def denied_rows(run: Folder, case: str) -> list[dict[str, Any]]:
    return [row for row in rows_of(run) if (row["source"], row["source_key"]) in keys_of(case)]


# Every byte of the run


def _leaves(value: Any) -> Iterator[bytes]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list | tuple):
        for one in value:
            yield from _leaves(one)
    elif isinstance(value, bytes):
        yield value
    elif isinstance(value, str):
        yield value.encode()


def blobs(run: Folder) -> Iterator[bytes]:
    """The bytes of every file, of each value of tables, each member of tars, each picture and text of pages."""
    root = Path(run.path())
    for path in (path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        yield str(path.relative_to(root)).encode()
        yield data
        if data.startswith(b"PAR1"):
            yield from _leaves(pq.read_table(path).to_pylist())
        elif path.suffix == ".tar":
            with tarfile.open(path) as tar:
                for member in tar:
                    file = tar.extractfile(member)
                    assert file is not None
                    yield file.read()
        for uri in re.findall(rb"base64,([A-Za-z0-9+/=]+)", data):
            yield base64.b64decode(uri)


def needles(run: Folder, case: str) -> dict[str, bytes]:
    """What must not be there after: names, addresses, keys and pixels, of the run as it was before."""
    found: dict[str, bytes] = {}
    for row in denied_rows(run, case):
        for name in ("source_key", "url", "image", "centre_thumb", "whole_thumb"):
            if row[name] is not None:
                found[f"{row['source_key']} {name}"] = row[name] if isinstance(row[name], bytes) else row[name].encode()
    return found | ({"name": PERSON.encode()} if case == "person" else {})


def holding(run: Folder, wanted: dict[str, bytes]) -> set[str]:
    everything = b"\xff\0\xff".join(blobs(run))
    return {name for name, needle in wanted.items() if needle in everything}


def test_the_search_finds_all_before(run: Folder) -> None:
    for case in CASES:
        wanted = needles(run, case)
        assert len(denied_rows(run, case)) == len(keys_of(case))
        assert holding(run, wanted) == wanted.keys()


def test_no_file_holds_pixels_names_urls_or_keys(run: Folder, taken: tuple[str, Folder]) -> None:
    case, after = taken
    assert holding(after, needles(run, case)) == set()


def _small(data: bytes) -> npt.NDArray[np.float64] | None:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return None if picture is None else cv2.resize(picture, (16, 16), interpolation=cv2.INTER_AREA).astype(np.float64)


def shown(page: bytes, images: list[bytes]) -> int:
    """How many pictures of a page look like one of these images."""
    pictures = [_small(base64.b64decode(uri)) for uri in re.findall(rb"base64,([A-Za-z0-9+/=]+)", page)]
    wanted = [small for image in images if (small := _small(image)) is not None]
    return sum(
        any(np.abs(picture - small).mean() < 4 for small in wanted) for picture in pictures if picture is not None
    )


def test_the_page_shows_none_of_it_and_says_how_many(run: Folder, taken: tuple[str, Folder]) -> None:
    case, after = taken
    images = [row["image"] for row in denied_rows(run, case)]
    page = after.child("report").read_bytes("index.html")
    if case == "person":
        assert shown(run.child("report").read_bytes("index.html"), images)
    assert not shown(page, images)
    text = page.decode()
    assert "does not hold" not in text
    assert re.search(rf"<b>{len(keys_of(case))}</b> [a-z]+ (was|were) taken down", text)
    assert "taken down" not in run.child("report").read_bytes("index.html").decode()


# What is left


def test_other_tars_are_the_same_and_a_rewritten_one_is_as_if_written_without(
    run: Folder, taken: tuple[str, Folder], tmp_path: Path
) -> None:
    case, after = taken
    denied = {row["sample_id"] for row in denied_rows(run, case)}
    shards, before = after.child("shards"), run.child("shards")
    changed = 0
    for name in (name for name in before.names() if name.endswith(".tar")):
        samples = list(read_samples(before, name))
        left = [sample for sample in samples if sample.sample_id not in denied]
        if left == samples:
            assert shards.read_bytes(name) == before.read_bytes(name)
            continue
        changed += 1
        if not left:
            assert not shards.exists(name)
            continue
        split: Split = "train" if name.startswith("train") else "heldout"
        write_shard(Folder(tmp_path), split, int(name[-10:-4]), reversed(left), "png", 3)
        assert shards.read_bytes(name) == (tmp_path / name).read_bytes()
    assert changed


def test_index_summary_plan_and_manifest_agree(run: Folder, taken: tuple[str, Folder]) -> None:
    case, after = taken
    shards = after.child("shards")
    index, dataset = shards.read_table("index.parquet").to_pylist(), shards.read_json("dataset.json")
    tars = {name for name in shards.names() if name.endswith(".tar")}
    assert {entry["name"] for entry in dataset["shards"]} == tars == {row["shard"] for row in index}
    for entry in dataset["shards"]:
        data = shards.read_bytes(entry["name"])
        assert (entry["sha256"], entry["size_bytes"]) == (hashlib.sha256(data).hexdigest(), len(data))
        assert entry["samples"] == sum(row["shard"] == entry["name"] for row in index)
    for row in index:
        data = shards.read_bytes(row["shard"])[row["offset"] : row["offset"] + row["size_bytes"]]
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
    assert shards.read_json("plan.json")["samples"] == {e["name"]: e["samples"] for e in dataset["shards"]}
    assert sum(dataset["samples"].values()) == len(index)
    manifest, before = (of.read_table("manifest.parquet").to_pylist() for of in (after, run))
    assert [row["record_id"] for row in manifest] == [row["record_id"] for row in before]
    assert {row["sample_id"] for row in manifest if row["status"] == "kept"} == {row["sample_id"] for row in index}
    denied = {record_id(*key) for key in keys_of(case)}
    assert {row["record_id"] for row in manifest if row["reason"] == "denied"} == denied
    untouched = [(now, then) for now, then in zip(manifest, before, strict=True) if now["record_id"] not in denied]
    assert all(now == then for now, then in untouched)
    for row in manifest:
        if row["record_id"] in denied:
            told = {name for name, value in row.items() if value is not None}
            assert told == {"record_id", "source", "source_key", "status", "reason"}
        for name in ("persons", "urls"):
            assert case != "person" or PERSON not in (row[name] or ())
            assert case != "url" or URL not in (row[name] or ())


# webdataset leaves closing its tars to the garbage collector, which is asked for here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_what_is_left(taken: tuple[str, Folder]) -> None:
    shards = taken[1].child("shards")
    tars = [shards.path(name) for name in shards.names() if name.endswith(".tar")]
    samples = [sample["__key__"] for sample in webdataset.WebDataset(tars, shardshuffle=False)]
    assert sorted(samples) == sorted(shards.read_table("index.parquet")["sample_id"].to_pylist())
    gc.collect()


# The command


def test_a_dry_run_says_it_all_and_changes_no_byte(run: Folder, tmp_path: Path) -> None:
    before = files_of(run)
    for case in CASES:
        told = forget(run, case, tmp_path, "--dry-run")
        assert "Would be taken down" in told
        assert re.search(r"checkpoints trained on it *. *[02]\b", told)
        copies = len(COPIES) if case == "person" else 0
        assert re.search(rf"copies of them *. *{copies}\b", told)
        assert re.search(rf"images asked for *. *{len(keys_of(case)) - copies}\b", told)
    assert files_of(run) == before


def test_what_the_run_does_not_hold_is_denied_for_later(run: Folder, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    for option in (("--person", "Nobody Here"), ("--url", "https://elsewhere.example/1.jpg")):
        answer = CliRunner().invoke(app, ["forget", copied.path(), *option])
        assert answer.exit_code == 0
        assert "holds nothing of it" in answer.output
    told = b"\0".join(blobs(copied))
    assert b"Nobody" not in told
    assert b"elsewhere.example" not in told
    assert len(copied.read_table("denied.parquet")) == 2
    assert {n: d for n, d in files_of(copied).items() if n.startswith("shards/")} == {
        n: d for n, d in files_of(run).items() if n.startswith("shards/")
    }


def test_twice_is_once(taken: tuple[str, Folder], tmp_path: Path) -> None:
    case, after = taken
    copied = copy_of(after, tmp_path)
    forget(copied, case, tmp_path)
    assert files_of(copied) == files_of(after)


def test_a_review_and_old_logs_go_with_what_they_showed(run: Folder, photos: Path, tmp_path: Path) -> None:
    recipe, copied = recipe_of(photos), copy_of(run, tmp_path)
    copied.child("review").write_bytes("review.html", b"pictures")
    # A log that a kill left beside its finished part.
    copied.child("fetched").write_bytes("log-00003.bin", b"pictures")
    nobody = plan(copied, recipe, Asked(person="Nobody Here"))
    take_down(copied, recipe, nobody)
    assert (nobody.affected.images, nobody.encoder, nobody.checkpoints) == (0, False, [])
    assert copied.child("review").exists("review.html")
    assert copied.child("fetched").names() == []
    one = plan(copied, recipe, asked_of("id"))
    take_down(copied, recipe, one)
    assert one.encoder
    assert not copied.exists("review")


def test_what_is_asked_for_wrongly_is_one_error(run: Folder, photos: Path) -> None:
    recipe = recipe_of(photos)
    with pytest.raises(RunError, match="no image, face or sample of the id 12ab"):
        plan(run, recipe, Asked(id="12ab"))
    for options in ([], ["--person", "A", "--url", "b"]):
        answer = CliRunner().invoke(app, ["forget", run.path(), *options])
        assert isinstance(answer.exception, RunError)
        assert "takes one of --person, --url, --image, --id" in str(answer.exception)
    answer = CliRunner().invoke(app, ["forget", str(photos), "--person", "A"])
    assert isinstance(answer.exception, RunError)
    assert "no run folder" in str(answer.exception)


def test_an_unfinished_fetch_is_refused_before_anything_is_done(run: Folder, photos: Path, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    copied.child("fetched").write_bytes("plan-00000.parquet", b"")
    before = files_of(copied)
    with pytest.raises(RunError, match="not done with fetching"):
        plan(copied, recipe_of(photos), asked_of("person"))
    assert files_of(copied) == before


def test_tars_of_an_unfinished_stage_are_deleted(run: Folder, photos: Path, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    for name in ("stage.json", "dataset.json", "index.parquet"):
        copied.child("shards").delete(name)
    forget(copied, "person", tmp_path)
    assert copied.child("shards").names() == ["started.json"]
    assert holding(copied, needles(run, "person")) == set()


# Cut off


class Cut(BaseException):
    """The end of a process, as far as the files that it leaves are concerned."""


@contextmanager
def cut_after(writes: int) -> Iterator[list[str]]:
    """Let no more than so many files be written or deleted."""
    done: list[str] = []
    write, delete = Folder.write_atomic, Folder.delete

    def counted(folder: Folder, name: str) -> None:
        if len(done) >= writes:
            raise Cut
        done.append(f"{folder.address}/{name}")

    def write_counted(self: Folder, name: str) -> Any:
        counted(self, name)
        return write(self, name)

    def delete_counted(self: Folder, name: str) -> None:
        counted(self, name)
        delete(self, name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Folder, "write_atomic", write_counted)
        patch.setattr(Folder, "delete", delete_counted)
        yield done


@pytest.mark.parametrize("case", ["person", pytest.param("id", marks=pytest.mark.slow)])
def test_cut_off_at_any_file_the_same_command_completes_it(
    case: str, run: Folder, photos: Path, tmp_path: Path
) -> None:
    recipe, asked = recipe_of(photos), asked_of(case)
    whole = copy_of(run, tmp_path)
    with cut_after(1000) as writes:
        take_down(whole, recipe, plan(whole, recipe, asked))
    assert len(writes) > 10
    expected = files_of(whole)
    for after in range(0, len(writes), 1 if case == "id" else len(writes) // 3):
        folder = tmp_path / f"{after}"
        folder.mkdir()
        copied = copy_of(run, folder)
        with cut_after(after), pytest.raises(Cut):
            take_down(copied, recipe, plan(copied, recipe, asked))
        take_down(copied, recipe, plan(copied, recipe, asked))
        assert files_of(copied) == expected, after
        shutil.rmtree(folder)


def test_cut_off_as_a_tar_is_deleted(run: Folder, photos: Path, tmp_path: Path) -> None:
    """All samples of a tar are taken down one by one; with the last of them the tar goes."""
    recipe = recipe_of(photos)
    index = run.child("shards").read_table("index.parquet").to_pylist()
    tars = [row["shard"] for row in index]
    name = min(sorted(set(tars)), key=tars.count)
    copied = copy_of(run, tmp_path)
    ids = [row["sample_id"] for row in index if row["shard"] == name]
    for one in ids[:-1]:
        take_down(copied, recipe, plan(copied, recipe, Asked(id=one)))
    assert copied.child("shards").exists(name)
    last = Asked(id=ids[-1])
    for after in range(1, 6):
        (tmp_path / f"{after}").mkdir()
        _check_tar_goes(copy_of(copied, tmp_path / f"{after}"), recipe, name, last, after)


def _check_tar_goes(copied: Folder, recipe: Recipe, name: str, last: Asked, after: int) -> None:
    with cut_after(after), pytest.raises(Cut):
        take_down(copied, recipe, plan(copied, recipe, last))
    take_down(copied, recipe, plan(copied, recipe, last))
    shards = copied.child("shards")
    assert not shards.exists(name)
    assert name not in {entry["name"] for entry in shards.read_json("dataset.json")["shards"]}
    assert name not in shards.read_json("plan.json")["samples"]
    assert {row["shard"] for row in shards.read_table("index.parquet").to_pylist()} == {
        entry["name"] for entry in shards.read_json("dataset.json")["shards"]
    }
    assert copied.exists("manifest.parquet")
    assert copied.child("report").exists("index.html")


KILLED = """
import os, signal, sys
from manifests.store import Folder
from pipelines.__main__ import main
left = int(sys.argv.pop(1))
replace = os.replace
def counted(*paths):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*paths)
os.replace = counted
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [0, 3, 9])
def test_killed_as_it_writes_the_same_command_completes_it(run: Folder, after: int, tmp_path: Path) -> None:
    whole = copy_of(run, tmp_path)
    forget(whole, "person", tmp_path)
    expected = files_of(whole)
    shutil.rmtree(whole.path())
    copied = copy_of(run, tmp_path)
    words = [sys.executable, "-c", KILLED, str(after), "forget", copied.path(), "--person", "zora quill"]
    killed = subprocess.run(words, capture_output=True, check=False, cwd=Path(__file__).parents[1], env=os.environ)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert files_of(copied) != expected
    forget(copied, "person", tmp_path)
    assert files_of(copied) == expected


# Later runs


@pytest.mark.slow
def test_neither_a_rerun_nor_another_run_brings_it_back(run: Folder, photos: Path, tmp_path: Path) -> None:
    copied = copy_of(run, tmp_path)
    wanted: dict[str, bytes] = {}
    for case in CASES:
        wanted |= needles(run, case)
        forget(copied, case, tmp_path)
    # Copies elsewhere in the source: encoded anew, scaled, mirrored.
    source = tmp_path / "photos"
    shutil.copytree(photos, source)
    mirrored = draw_room(5, 63).image[:, ::-1, ::-1]
    again = {"new-1.jpg": jpeg(2, 64, 70), "new-2.jpg": cv2.imencode(".png", mirrored)[1].tobytes(), "new-3": jpeg(107)}
    for name, data in again.items():
        (source / "named" / "Milo_Brandt" / name).write_bytes(data)
    described = yaml.safe_load(copied.read_bytes("recipe.yaml"))
    assert described["recipe"]["sources"][0]["path"] == str(photos / "named")
    expected = {record_id("named", f"Milo_Brandt/{name}") for name in again}
    expected |= {record_id(*key) for case in CASES for key in keys_of(case)}

    shutil.copytree(copied.path(), tmp_path / "redone")
    redone = finish(recipe_of(source), tmp_path / "redone", redo="ingest")
    denying = recipe_of(source, deny=[copied.path("denied.parquet")])
    other = finish(denying, tmp_path / "other")
    assert fingerprints(denying)["ingest"] != fingerprints(recipe_of(source))["ingest"]
    for found in (redone, other):
        ledger = found.read_table("manifest.parquet").to_pylist()
        assert {row["record_id"] for row in ledger if row["reason"] == "denied"} == expected
        assert holding(found, wanted) == set()
        assert len(found.child("shards").read_table("index.parquet")) == len(
            copied.child("shards").read_table("index.parquet")
        )


def test_a_plan_names_the_networks_that_learned_from_it(run: Folder, photos: Path) -> None:
    found: Plan = plan(run, recipe_of(photos), asked_of("person"))
    assert found.checkpoints == ["checkpoints/checkpoint-000000320", "best/checkpoint-000000320"]
    assert any(name.startswith("train") for name in found.shards)
