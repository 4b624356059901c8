"""dcgan dedup: what to keep and what to remove, by itself and against what an earlier one saw."""

import csv
import hashlib
import io
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner, Result

from dedup.changes import apply_change
from manifests.schema import Reason, Status
from manifests.store import Folder
from pipelines.__main__ import app
from pipelines.commands.dedup import recipe_values, source_of
from pipelines.recipe import Recipe
from pipelines.run import RunError
from pipelines.samples import Planting
from pipelines.sources import SourceError, list_parts
from pipelines.sources.drawn import DrawnSource
from pipelines.sources.lsun import lsun_key, write_lmdb
from pipelines.stages import STAGE_FILE, deduplicate, encode, ingest
from pipelines.stages.manifest import write_manifest
from pipelines.written import RecipeError

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

OLD, NEW = 400, 40
CHANGES = ("jpeg30", "crop5", "mirror", "grey")
SMALL = (
    "--workers",
    "2",
    "--set",
    "resources.object_store_gb=0.2",
    "--set",
    "ingest.plant_sources=20",
    "--set",
    "encode.autoencoder.epochs=4",
)

Row = dict[str, Any]


def dcgan(*words: object) -> Result:
    """The command, in this process; errors come as they are."""
    return CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False, env={"COLUMNS": "200"})


def rooms(count: int, seed: int) -> list[bytes]:
    source = DrawnSource(kind="drawn", name="rooms", images=count, seed=seed, planted_share=0.1, image_format="jpeg")
    (part,) = source.ranges(count)
    return [record.data or b"" for record in source.read(part)]


def encoded(image: np.ndarray[Any, Any], extension: str = ".png") -> bytes:
    return bytes(cv2.imencode(extension, np.ascontiguousarray(image[..., ::-1]))[1])


def decoded(data: bytes) -> np.ndarray[Any, Any]:
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    assert image is not None
    return image


@pytest.fixture(scope="module")
def old_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: drawn rooms, some of them near-duplicates of others."""
    folder = tmp_path_factory.mktemp("images") / "old photos"
    (folder / "within").mkdir(parents=True)
    for number, data in enumerate(rooms(OLD, 1)):
        (folder / "within" / f"{number:03d}.jpg").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def new_images(old_images: Path) -> Path:
    """A tar: other rooms, changed copies and exact ones of old rooms, images of odd sizes, and a text."""
    path = old_images.parent / "new.images.tar"
    olds = [file.read_bytes() for file in sorted((old_images / "within").iterdir())]
    files = {f"{number:02d}.jpg": data for number, data in enumerate(rooms(NEW, 2))}
    files |= {f"{change}.png": encoded(apply_change(decoded(olds[50 + i]), change)) for i, change in enumerate(CHANGES)}
    files |= {f"exact{number}.jpg": olds[number] for number in (7, 8, 9)}
    files |= {"again.jpg": files["03.jpg"], "line\nbreak, and comma.jpg": encoded(decoded(files["05.jpg"]))}
    small = decoded(files["06.jpg"])
    files |= {"one.png": encoded(small[:1, :1]), "line.png": encoded(small[:1]), "small.png": encoded(small[::6, ::6])}
    files |= {"text.jpg": b"no picture"}
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def old(old_images: Path) -> Folder:
    """The run of the folder."""
    run = Folder(old_images.parent / "old")
    assert dcgan("dedup", old_images, "--out", run, *SMALL).exit_code == 0
    return run


def contents(run: Folder) -> dict[str, str]:
    """All files but the lock, with what they hold and when they were written."""
    files = [path for path in Path(run.path()).rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}" for path in files}


@pytest.fixture(scope="module")
def compared(old: Folder, new_images: Path) -> tuple[Folder, str, dict[str, str]]:
    """The run of the tar against that of the folder, what was said, and the other run's files before it."""
    run, before = Folder(new_images.parent / "new"), contents(old)
    ended = dcgan("dedup", new_images, "--out", run, "--against", old, *SMALL)
    assert ended.exit_code == 0
    return run, ended.output, before


@pytest.fixture(scope="module")
def new(compared: tuple[Folder, str, dict[str, str]]) -> Folder:
    return compared[0]


def manifest_of(run: Folder) -> dict[str, Row]:
    return {row["source_key"]: row for row in run.read_table("manifest.parquet").to_pylist()}


def removals(run: Folder) -> dict[str, Row]:
    text = run.read_bytes("remove.csv").decode()
    return {row["path"]: row for row in csv.DictReader(io.StringIO(text))}


def kept_paths(run: Folder) -> list[str]:
    return run.read_bytes("keep.txt").decode().splitlines()


# What comes out


def test_every_image_is_to_keep_or_to_remove_for_one_that_is_kept(old: Folder, old_images: Path) -> None:
    files = sorted(str(file) for file in (old_images / "within").iterdir())
    kept, removed = kept_paths(old), removals(old)
    assert kept == sorted(kept)
    assert sorted([*kept, *removed]) == files
    assert len(removed) > OLD * 0.05
    for row in removed.values():
        assert row["keeper"] in kept
        assert row["keeper_run"] == ""
        assert ("the same bytes" in row["why"]) == (row["score"] == "")
        assert row["score"] == "" or float(row["score"]) >= 0


def test_what_was_removed_for_earlier_images_says_so(new: Folder, old: Folder, old_images: Path) -> None:
    removed, path = removals(new), f"{new.path().removesuffix('new')}new.images.tar"
    for number in (7, 8, 9):
        row = removed[f"{path}/exact{number}.jpg"]
        keeper = removals(old).get(f"{old_images}/within/00{number}.jpg", {"keeper": None})["keeper"]
        assert row["keeper"] == (keeper or f"{old_images}/within/00{number}.jpg")
        assert row["keeper_run"] == old.path()
        assert row["why"].startswith("the same bytes")
    for number, change in enumerate(CHANGES):
        row = removed[f"{path}/{change}.png"]
        assert Path(row["keeper"]).parent == old_images / "within"
        assert row["keeper"] in kept_paths(old)
        assert row["why"].endswith(f"its keeper is of the run {old}")
        assert ("mirrored" in row["why"]) == (change == "mirror"), number
    # The two of one picture stay in one run.
    pair = {f"{path}/line\nbreak, and comma.jpg", f"{path}/05.jpg"}
    assert len(pair & removed.keys()) == 1
    assert {row["keeper_run"] for name, row in removed.items() if name in pair} == {""}
    assert f"{path}/again.jpg" in removed or f"{path}/03.jpg" in removed


def test_images_of_any_size_are_compared_and_what_is_none_is_in_no_list(new: Folder) -> None:
    manifest = manifest_of(new)
    assert len(manifest) == NEW + 13
    for name in ("one.png", "line.png", "small.png"):
        assert manifest[name]["status"] != Status.FAILED
    assert [name for name, row in manifest.items() if row["status"] == Status.FAILED] == ["text.jpg"]
    listed = len(kept_paths(new)) + len(removals(new))
    assert listed == len(manifest) - 1
    assert any("line\\nbreak" in line for line in kept_paths(new)) or any("line\nbreak" in p for p in removals(new))


def test_the_figures_are_told(compared: tuple[Folder, str, dict[str, str]], old: Folder) -> None:
    run, said, _ = compared
    quality = run.child("groups").read_json("quality.json")
    manifest = manifest_of(run).values()
    repeats = sum(row["reason"] == Reason.EXACT_REPEAT for row in manifest)
    near = {row["sample_id"] for row in manifest if row["reason"] == Reason.NEAR_DUPLICATE}
    (of,) = quality["against"]
    words = " ".join(said.replace("│", " ").split())
    for line in (
        f"images {NEW + 13} 1 could not be read",
        f"exact repeats {repeats}",
        f"near-duplicates removed {len(near)} joint, radius {quality['radius']}, set by itself",
        f"recall on planted changes {quality['plants']['recall']:.1%}",
        f"expected wrong {quality['expected'][0]['wrong']:.2g}",
        f"of them for an image of {of['removed'] + of['repeated']} {old} ({of['samples']} images)",
        f"keep: {run}/keep.txt remove: {run}/remove.csv",
    ):
        assert line in words, line
    assert "images/s" in words
    assert (of["samples"], of["repeated"]) == (len({r["sample_id"] for r in manifest_of(old).values()}), 3)
    page = run.child("report").read_bytes("index.html").decode()
    assert "De-duplication of new" in page


# Against an earlier run


def test_the_earlier_run_is_left_alone_and_not_encoded_again(
    compared: tuple[Folder, str, dict[str, str]], old: Folder
) -> None:
    run, _, before = compared
    assert contents(old) == before
    codes = [row["sample_id"] for table in run.child("codes").read_tables("part-") for row in table.to_pylist()]
    readable = [row["sample_id"] for row in manifest_of(run).values() if row["status"] != Status.FAILED]
    assert sorted(codes) == sorted(readable)
    assert run.child("codes").read_bytes("autoencoder.npz") == old.child("codes").read_bytes("autoencoder.npz")
    assert run.child("codes").read_json("fit.json")["images"] == 0


def test_it_is_as_one_run_over_both_with_the_same_encoder(
    new: Folder, old: Folder, old_images: Path, new_images: Path, tmp_path: Path
) -> None:
    values = recipe_values([old_images, new_images], [], "auto", "joint", ["old-photos", "new"], 0, 2)
    recipe, run = Recipe.model_validate(values), Folder(tmp_path)
    parts = list_parts(recipe.sources, 500)
    ingest.prepare(run, recipe, parts)
    samples, codes = run.child("samples"), run.child("codes")
    codes.write_bytes("autoencoder.npz", old.child("codes").read_bytes("autoencoder.npz"))
    for part in parts:
        ingest.ingest_part(samples, recipe.sources, recipe.ingest, Planting(0, 0.0), part.row())
        encode.encode_part(samples, codes, part.row())
    numbers = [part.number for part in parts]
    deduplicate.write_groups(run, recipe.sources, recipe.deduplicate, 0, numbers, 2)
    write_manifest(run, numbers)
    radii = {of.child("groups").read_json("quality.json")["radius"] for of in (new, run)}
    assert len(radii) == 1
    both, own = manifest_of(run), manifest_of(new)
    names = ("status", "reason", "group_id", "keeper_id", "distance", "score")
    for key, row in own.items():
        assert [row[name] for name in names] == [both[key][name] for name in names], key


def test_status_and_review_work_on_it(new: Folder) -> None:
    said = dcgan("status", new)
    assert said.exit_code == 0
    assert "NO" not in said.output.split()
    said = dcgan("review", new, "--pairs", 8)
    assert said.exit_code == 0
    own = [row for row in manifest_of(new).values() if row["reason"] == Reason.NEAR_DUPLICATE]
    here = {row["sample_id"] for row in manifest_of(new).values()}
    shown = {row["sample_id"] for row in own if row["keeper_id"] in here}
    assert 0 < len(shown) < len(own)
    assert f"of {len(shown)} removals" in said.output


def test_a_run_whose_removals_are_all_for_earlier_images_has_none_to_review(old: Folder, tmp_path: Path) -> None:
    run = Folder(tmp_path / "run")
    groups = old.child("groups").read_table("groups.parquet")
    run.child("groups").write_table("groups.parquet", groups)
    run.child("samples").write_table("part-00000.parquet", old.child("samples").read_table("part-00000.parquet")[:0])
    with pytest.raises(RunError, match="removed near-duplicates of images of earlier runs alone"):
        dcgan("review", run)


# The same command again


def test_done_again_it_does_nothing_and_writes_the_same(new: Folder, old: Folder, new_images: Path) -> None:
    before = contents(new)
    lists = {str(Path(new.path(name))) for name in ("keep.txt", "remove.csv")}
    said = dcgan("dedup", new_images, "--out", new, "--against", old, *SMALL)
    assert "are done; --redo STAGE does one again" in said.output
    after = contents(new)
    assert {name: text for name, text in after.items() if name not in lists} == {
        name: text for name, text in before.items() if name not in lists
    }
    assert all(after[name].split()[0] == before[name].split()[0] for name in lists)


def test_other_options_stop_it_and_name_what_to_do(new: Folder, old: Folder, new_images: Path) -> None:
    before = contents(new)
    words = ["dedup", new_images, "--out", new, *SMALL]
    for more, message in (
        (["--against", old, "--radius", 3], r"radius: auto -> 3\n[\s\S]*--redo deduplicate"),
        (["--against", old, "--rule", "code", "--dry-run"], r"rule: joint -> code\n[\s\S]*--redo deduplicate"),
        ([], r"deduplicate.against.0: .*old -> None\n[\s\S]*--redo encode"),
        (["--against", new], "can't be compared with itself"),
    ):
        with pytest.raises(RunError, match=message):
            dcgan(*words, *more)
    with pytest.raises(SourceError, match=r"deduplicate.against: .*absent is no run whose stage deduplicate is done"):
        dcgan(*words, "--against", new.path("absent"))
    assert contents(new) == before


# Without Ray


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--radius", "99"], r"^dcgan dedup: 1 fault[\s\S]*deduplicate.verdict.radius: .* less than or equal to 24"),
        (["--radius", "wide"], r"deduplicate.verdict.radius: .* valid integer.*, or: Input should be 'auto'"),
        (["--rule", "paper"], r"deduplicate.verdict.rule: Input should be 'joint' or 'code' \(got 'paper'\)"),
        (["--keep-first", "b"], r"prefer_sources names b, which is no source; sources are photos$"),
        (["--set", "ingest.image_pix=3"], r"ingest.image_pix: no such setting; did you mean image_px\?"),
        (["--against", "x", "--against", "x"], r"deduplicate.against names .*/x twice; name each run once"),
    ],
)
def test_bad_options_are_one_message_before_work(tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    with pytest.raises(RecipeError, match=message):
        dcgan("dedup", tmp_path / "photos", "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_and_stages_that_are_none_are_refused(tmp_path: Path) -> None:
    ended = dcgan("dedup", tmp_path / "absent", "--out", tmp_path / "out")
    assert (ended.exit_code, "does not exist" in ended.output) == (2, True)
    ended = dcgan("dedup", tmp_path, "--out", tmp_path / "out", "--redo", "train")
    assert (ended.exit_code, "no stage 'train'; stages are ingest, encode, deduplicate, report" in ended.output) == (
        2,
        True,
    )
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_all_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"1")
    ended = dcgan("dedup", tmp_path / "photos", "--out", tmp_path / "out", "--radius", 7, "--dry-run")
    assert ended.exit_code == 0
    text, _, table = ended.output.partition("\n\n")
    recipe = Recipe.model_validate(yaml.safe_load(text))
    assert recipe.deduplicate.verdict.radius == 7
    assert recipe.ingest.filters.smallest_side_px == 1
    assert [stage for stage in ("ingest", "encode", "deduplicate", "shard", "report") if stage in table] == [
        "ingest",
        "encode",
        "deduplicate",
        "report",
    ]
    assert not (tmp_path / "out").exists()


def test_a_path_is_a_source_by_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my photos.d").mkdir()
    write_lmdb(tmp_path / "rooms.lmdb", [(lsun_key("a"), b"1")])
    (tmp_path / "photos.tar").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    of = partial(source_of, taken=set())
    assert of(Path("my photos.d")) == {"name": "my-photos-d", "kind": "folder", "path": f"{tmp_path}/my photos.d"}
    assert of(Path("rooms.lmdb")) == {"name": "rooms", "kind": "lsun", "path": f"{tmp_path}/rooms.lmdb"}
    assert of(Path("rooms.lmdb/data.mdb"))["kind"] == "lsun"
    assert of(Path("photos.tar"))["kind"] == "tar"
    assert of(Path("."))["name"] == tmp_path.name
    assert source_of(Path("photos.tar"), {"photos"})["name"] == "photos-2"
    assert source_of(Path("photos.tar"), {"photos", "photos-2"})["name"] == "photos-3"


def test_a_stage_file_stands_for_each_of_its_stages_and_no_other(new: Folder) -> None:
    folders = {path.parent.name for path in Path(new.path()).glob(f"*/{STAGE_FILE}")}
    assert folders == {"samples", "codes", "groups", "report"}
    assert yaml.safe_load(new.read_bytes("recipe.yaml"))["fingerprints"].keys() == {
        "ingest",
        "encode",
        "deduplicate",
        "report",
    }
