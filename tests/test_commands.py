"""The command line: every command has help, what a user can mend is one message, and a dry run does nothing."""

import fcntl
import io
import re
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pytest
import ray
import torch
import typer.main
import yaml
from odd_images import EXPECTED, HEIGHT, WIDTH, file_of, odd_files
from PIL import Image
from shard_fixture import draw_images
from typer.testing import CliRunner

from manifests.store import Folder
from pipelines.__main__ import app, main
from pipelines.recipe import load_recipe
from pipelines.run import check_unchanged
from pipelines.samples import Planting
from pipelines.sources import PARTS, list_parts
from pipelines.sources.drawn import DrawnFaceSettings, DrawnSource, RoomSettings, encoded, truth_table
from pipelines.sources.lsun import LsunSource, lsun_key, write_lmdb
from pipelines.stages import STAGE_FILE, STAGES, STARTED_FILE, fingerprints
from pipelines.stages.ingest import ingest_part
from pipelines.written import ready_recipes
from training import checkpoint, snapshot
from training.adversarial import new_players
from training.plan import discriminator_plan, generator_plan
from training.presets import resolve


class Ended(NamedTuple):
    """How a command ended: its status, and what it said, each run of blanks and frames as one space."""

    status: int
    out: str
    err: str


Dcgan = Callable[..., Ended]


@pytest.fixture
def dcgan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Dcgan:
    """The command, called in this process."""
    monkeypatch.setenv("COLUMNS", "240")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def call(*words: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["dcgan", *map(str, words)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ray.is_initialized()
        status = ended.value.code
        assert status is None or isinstance(status, int)
        return Ended(status or 0, *(re.sub(r"[\s│┃]+", " ", text) for text in capsys.readouterr()))

    return call


def everything(folder: Path) -> dict[str, int]:
    """All that lies in the folder, with when it was changed."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of 10 drawn pictures and one text."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, image in enumerate(draw_images(10, size_px=80)):
        (folder / f"{number}.png").write_bytes(file_of(Image.fromarray(image), "PNG"))
    (folder / "text.png").write_bytes(b"no picture")
    return folder


# Help


def commands(command: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*words, name))


COMMANDS = dict(commands(typer.main.get_command(app)))


def test_these_are_the_commands() -> None:
    data = ["run", "dedup", "status", "review", "pack", "draw", "faces", "names", "forget"]
    networks = ["train", "sample", "describe", "import-authors", "export", "evaluate", "exemplars"]
    alone = {(name,) for name in data + networks}
    assert set(COMMANDS) == {(), *alone, ("draw", "rooms"), ("draw", "faces")}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_help(words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.output
    command = COMMANDS[words]
    assert command.help
    for parameter in command.params:
        assert getattr(parameter, "help", None), f"{parameter.name} has no help"


def test_the_stages_and_ready_recipes_stand_in_the_help() -> None:
    run = COMMANDS[("run",)]
    assert f"Stages: {', '.join(stage.name for stage in STAGES)}." in (run.help or "")
    (recipe,) = (p for p in run.params if p.name == "recipe")
    named = set(re.findall(r"\w+", getattr(recipe, "help", "").partition("ready one:")[2]))
    assert named == set(ready_recipes())


def test_no_command_shows_the_help(dcgan: Dcgan) -> None:
    ended = dcgan()
    assert "Usage: dcgan" in ended.out + ended.err
    assert ended.status == 2 or "Commands" in ended.out


# What a user can mend


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("run dmo --run RUN", "error: dmo: no such recipe; did you mean demo?"),
        ("run demo --run RUN --set ingest.image_pix=3", "ingest.image_pix: no such setting; did you mean image_px?"),
        (
            "run demo --run RUN --set resources.workers=0",
            "resources.workers: .* greater than or equal to 1 \\(got 0\\)",
        ),
        ("run demo --run RUN --set seed", "--set seed: expected key=value, such as ingest.image_px=32"),
        (
            "run demo --run RUN --until trian",
            "no stage 'trian'; stages are fetch, ingest, encode, deduplicate, shard",
        ),
        ("run demo --run RUN --redo tran", "no stage 'tran'; stages are fetch, ingest, encode"),
        ("run demo", "Missing option '--run'"),
        (
            "run folder --run RUN --set sources.0.path=RUN/absent",
            "RUN/absent can't be listed .*; set sources.N.path to",
        ),
        ("run folder --run RUN --set sources.0.path=s3://b/x", "s3://b/x is a URI; a folder source reads local or"),
        ("run demo --run RUN --set sources.0.path=RUN/absent", "RUN/absent can't be read .*; set sources.N.path to"),
        ("run demo --run RUN --set sources.0.path=gs://b/x", "gs://b/x is a URI; an LMDB is .* must be local"),
        ("status RUN", "RUN is no run folder: it holds no recipe.yaml; start one with dcgan run RECIPE --run RUN"),
        ("pack RUN/absent OUT", "absent' does not exist"),
        ("pack EMPTY OUT", "EMPTY holds no files; check the path"),
        ("pack TEXT OUT", "TEXT is neither a folder nor a whole tar .*; name a folder or tar of images"),
        ("pack PHOTOS EMPTY", "EMPTY is there already; delete it or name another"),
        ("pack PHOTOS OUT --webp 101", "Invalid value for '--webp'"),
        ("draw rooms OUT --images 0", "Invalid value for '--images'"),
        ("draw rooms OUT --size 10", "Invalid value for '--size'"),
        ("draw faces OUT --images 0", "Invalid value for '--images'"),
        ("draw faces OUT --size 31", "Invalid value for '--size'"),
        ("draw rooms EMPTY --images 1 --workers 1", "EMPTY is there already; delete it or name another"),
        ("sample RUN/absent --out OUT", "RUN/absent is no checkpoint, "),
        ("sample TEXT --out OUT", "TEXT is no checkpoint, "),
        ("sample EMPTY --out OUT", "EMPTY is no checkpoint, .* there is none in it or beside it; name one"),
        ("sample EMPTY --out OUT --images 0", "Invalid value for '--images'"),
        ("export EMPTY --out OUT", "EMPTY is no checkpoint, .* there is none in it or beside it; name one"),
        ("export EMPTY --out PHOTOS", "PHOTOS is there already; delete it or name another"),
        ("export EMPTY --out OUT --statistics running", "Invalid value for '--statistics'"),
        ("export EMPTY --out OUT --statistics batch --images RUN", "only --statistics standing takes statistics"),
        ("describe paper64", "no preset 'paper64'; the nearest is 'paper-64'"),
        ("describe paper-64 --set widht=1", "presets have no setting 'widht'; the nearest is 'width'"),
        ("import-authors TEXT TEXT --out OUT", "TEXT can't be read as an npz without pickles .*; fetch it again"),
        ("import-authors TEXT TEXT --out OUT --preset svhn", "no preset 'svhn'; the nearest is 'svhn-32'"),
    ],
)
def test_bad_settings_stop_with_a_message(tmp_path: Path, photos: Path, dcgan: Dcgan, words: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").write_bytes(b"no tar and no checkpoint")
    places = {"RUN": "run", "OUT": "out", "EMPTY": "empty", "TEXT": "text", "PHOTOS": "photos"}
    for name, place in places.items():
        words = words.replace(name, str(tmp_path / place))
        message = message.replace(name, str(tmp_path / place))
    ended = dcgan(*words.split())
    assert ended.status == 2
    assert re.search(message, ended.err), ended.err
    assert "Traceback" not in ended.err
    # Nothing was begun.
    assert {path.name for path in tmp_path.iterdir()} <= {"empty", "text", "photos", "run"}
    assert {path.name for path in (tmp_path / "run").glob("*")} <= {".lock"}


def test_all_faults_are_told_at_once(tmp_path: Path, dcgan: Dcgan) -> None:
    (tmp_path / "mine.yaml").write_text("nme: a\nsources: [{kind: lsnu, name: a}]\ningest: {image_pix: 1}\n")
    ended = dcgan("run", tmp_path / "mine.yaml", "--run", tmp_path / "run", "--set", "shard.heldout_share=2")
    assert ended.status == 2
    assert "mine.yaml: 5 faults; mend and run again: " in ended.err
    for fault in ("nme: ", "name: Field required", "sources.0.kind: ", "ingest.image_pix: ", "shard.heldout_share: "):
        assert fault in ended.err


def test_a_changed_setting_names_the_stage_to_do_again(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    words = ["run", "folder", "--run", tmp_path / "run", "--set", f"sources.0.path={photos}"]
    begun(tmp_path / "run", photos)
    for dry in ([], ["--dry-run"]):
        ended = dcgan(*words, "--set", "encode.autoencoder.epochs=3", *dry)
        assert ended.status == 2
        assert "settings of the stage encode changed since it was begun: " in ended.err
        assert "encode.autoencoder.epochs: 12 -> 3" in ended.err
        assert "--redo encode" in ended.err


def test_a_run_that_another_process_works_on_is_left_alone(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    (tmp_path / "run").mkdir()
    with open(tmp_path / "run" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ended = dcgan("run", "folder", "--run", tmp_path / "run", "--set", f"sources.0.path={photos}")
    assert ended.status == 2
    assert "another process works on this run; wait for it or end it" in ended.err


def test_a_recipe_of_someones_own_is_not_written_over(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    own = ready_recipes()["folder"].replace("path: photos", f"path: {photos}")
    (tmp_path / "recipe.yaml").write_text(own)
    for words in (["run", tmp_path / "recipe.yaml", "--run", tmp_path], ["status", tmp_path]):
        ended = dcgan(*words)
        assert ended.status == 2
        assert "recipe.yaml is none that a run wrote; move it, or name another run folder" in ended.err
    assert (tmp_path / "recipe.yaml").read_text() == own


# run --dry-run and status


def begun(folder: Path, photos: Path) -> Folder:
    """A run whose ingest is done and whose encode was begun, in four parts of which two are finished."""
    recipe = load_recipe("folder", [f"sources.0.path={photos}", "resources.part_images=3"])
    prints, run = fingerprints(recipe), Folder(folder)
    run.write_bytes(
        "recipe.yaml", yaml.safe_dump({"recipe": recipe.model_dump(mode="json"), "fingerprints": prints}).encode()
    )
    samples, codes = run.child("samples"), run.child("codes")
    parts = list_parts(recipe.sources, 3)
    samples.write_table("parts.parquet", pa.Table.from_pylist([p.row() for p in parts], schema=PARTS))
    for part in parts:
        ingest_part(samples, recipe.sources, recipe.ingest, Planting(0, 0.0), part.row())
    for stage, of in (("ingest", samples), ("encode", codes)):
        of.write_json(STARTED_FILE, {"stage": stage, "fingerprint": prints[stage]})
    samples.write_json(STAGE_FILE, {"stage": "ingest", "counts": {"read": 11, "kept": 10}, "seconds": 1.5})
    for number in (0, 2):
        codes.write_bytes(f"part-{number:05d}.parquet", b"")
    check_unchanged(recipe, run, prints, STAGES)
    return run


def test_a_dry_run_of_a_new_recipe_says_all_and_does_nothing(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    before = everything(tmp_path)
    words = ["--set", f"sources.0.path={photos}", "--set", "resources.part_images=3", "--dry-run"]
    ended = dcgan("run", "folder", "--run", tmp_path / "run", *words)
    assert (ended.status, ended.err) == (0, "")
    assert everything(tmp_path) == before
    assert f"path: {photos}" in ended.out
    assert "ingest 4 parts of 11 records to do" in ended.out
    assert "fetch" not in ended.out.split()
    for stage in STAGES[3:]:
        assert f"{stage.name} all to do" in ended.out


def test_the_recipe_of_a_dry_run_is_one_that_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Neither a narrow terminal nor what rich takes for markup changes a letter of it.
    monkeypatch.setenv("COLUMNS", "40")
    photos = tmp_path / "photos [bold] of a long name with more than forty letters"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"1")
    words = ["run", "folder", "--run", str(tmp_path / "run"), "--set", f"sources.0.path={photos}", "--dry-run"]
    shown = CliRunner().invoke(app, words).output
    text, _, table = shown.partition("\n\n")
    (tmp_path / "shown.yaml").write_text(text)
    assert load_recipe(str(tmp_path / "shown.yaml")) == load_recipe("folder", [f"sources.0.path={photos}"])
    assert "would do" in table


def test_a_dry_run_of_a_begun_run_says_what_is_left(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    begun(tmp_path / "run", photos)
    before = everything(tmp_path)
    words = ["run", "folder", "--run", tmp_path / "run", "--set", f"sources.0.path={photos}", "--dry-run"]
    ended = dcgan(*words)
    assert (ended.status, ended.err) == (0, "")
    assert "ingest done" in ended.out
    assert "encode 2 of 4 to do" in ended.out
    assert "deduplicate 6 of 6 to do" in ended.out
    until = dcgan(*words, "--until", "encode").out
    assert "encode 2 of 4 to do" in until
    assert "deduplicate 6 of 6" not in until
    redo = dcgan(*words, "--redo", "encode").out
    assert "ingest done" in redo
    assert "encode all again (--redo)" in redo
    assert everything(tmp_path) == before


def test_status_says_what_is_done_and_that_counts_reconcile(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    begun(tmp_path / "run", photos)
    before = everything(tmp_path)
    ended = dcgan("status", tmp_path / "run")
    assert (ended.status, ended.err) == (0, "")
    assert "A folder of images: " in ended.out
    assert "ingest done all 11 read, 10 kept 1.5 " in ended.out
    assert "encode begun 2 of 4 " in ended.out
    assert "train to do " in ended.out
    # source, read, failed, dropped, kept, reconciles
    assert "photos 11 1 0 10 yes " in ended.out
    assert everything(tmp_path) == before


def test_status_of_another_version_is_told_of(tmp_path: Path, photos: Path, dcgan: Dcgan) -> None:
    run = begun(tmp_path / "run", photos)
    described = yaml.safe_load(run.read_bytes("recipe.yaml"))
    described["recipe"]["ingest"]["of_another_version"] = 1
    run.write_bytes("recipe.yaml", yaml.safe_dump(described).encode())
    ended = dcgan("status", tmp_path / "run")
    assert ended.status == 2
    assert "recipe.yaml was written by another version of this program" in ended.err


# pack


def packed(path: Path) -> dict[str, bytes]:
    source = LsunSource(kind="lsun", name="rooms", path=str(path))
    return {record.key: record.data or b"" for part in source.ranges(7) for record in source.read(part)}


def test_pack_leaves_bytes_as_they_are(tmp_path: Path, dcgan: Dcgan) -> None:
    files = odd_files()
    (tmp_path / "photos" / "within").mkdir(parents=True)
    for name, data in files.items():
        (tmp_path / "photos" / "within" / name).write_bytes(data)
    (tmp_path / "photos" / "loop.jpg").symlink_to("loop.jpg")
    ended = dcgan("pack", tmp_path / "photos", tmp_path / "rooms.lmdb")
    assert ended.status == 0
    assert "left out loop.jpg: Too many levels of symbolic links" in ended.out
    assert f"{len(files)} images in {tmp_path}/rooms.lmdb, 1 left out" in ended.out
    assert packed(tmp_path / "rooms.lmdb") == {lsun_key(f"within/{name}"): data for name, data in files.items()}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_pack_reads_tars_with_any_names(tmp_path: Path, dcgan: Dcgan, mode: str) -> None:
    names = ["a/1.jpg", "żółć.jpg", b"caf\xe9.jpg".decode("utf-8", "surrogateescape"), "x" * 300 + ".jpg"]
    # Latin-1, as old tars have it; a link and a folder are no images.
    with tarfile.open(tmp_path / "photos.tar", mode, encoding="utf-8", errors="surrogateescape") as tar:  # type: ignore[call-overload]
        for number, name in enumerate(names):
            member = tarfile.TarInfo(name)
            member.size = number + 1
            tar.addfile(member, io.BytesIO(b"%d" % number * (number + 1)))
        for kind, name in ((tarfile.DIRTYPE, "folder"), (tarfile.SYMTYPE, "link")):
            member = tarfile.TarInfo(name)
            member.type = kind
            tar.addfile(member)
    ended = dcgan("pack", tmp_path / "photos.tar", tmp_path / "rooms.lmdb")
    assert (ended.status, ended.err) == (0, "")
    assert sorted(packed(tmp_path / "rooms.lmdb").values()) == [b"0", b"11", b"222", b"3333"]
    assert lsun_key("caf\\xe9.jpg") in packed(tmp_path / "rooms.lmdb")


def test_pack_of_a_damaged_tar_writes_nothing(tmp_path: Path, dcgan: Dcgan) -> None:
    with tarfile.open(tmp_path / "photos.tar", "w") as tar:
        for name in ("a.jpg", "b.jpg", "a.jpg"):
            member = tarfile.TarInfo(name)
            member.size = 5000
            tar.addfile(member, io.BytesIO(bytes(5000)))
    whole = (tmp_path / "photos.tar").read_bytes()
    ended = dcgan("pack", tmp_path / "photos.tar", tmp_path / "rooms.lmdb")
    assert (ended.status, "comes twice; every image needs a name of its own" in ended.err) == (2, True)
    for length in (300, 3000, 5632, 5700, 6144, 6145, 16896):
        (tmp_path / "photos.tar").write_bytes(whole[:length])
        ended = dcgan("pack", tmp_path / "photos.tar", tmp_path / "rooms.lmdb")
        assert (ended.status, "is neither a folder nor a whole tar" in ended.err) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["photos.tar"]


def test_pack_as_webp_names_what_is_no_image(tmp_path: Path, dcgan: Dcgan) -> None:
    (tmp_path / "photos").mkdir()
    files = {name: data for name, data in odd_files().items() if not name.startswith("exif")}
    for name, data in files.items():
        (tmp_path / "photos" / name).write_bytes(data)
    ended = dcgan("pack", tmp_path / "photos", tmp_path / "rooms.lmdb", "--webp", "90")
    assert (ended.status, ended.err) == (0, "")
    good = {lsun_key(name) for name in files if EXPECTED[name] is None}
    bad = [name for name in files if EXPECTED[name] is not None]
    found = packed(tmp_path / "rooms.lmdb")
    assert found.keys() == good
    for data in found.values():
        assert data[8:12] == b"WEBP"
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        assert image is not None
        assert image.shape == (HEIGHT, WIDTH, 3)
    assert f"{len(good)} images in {tmp_path}/rooms.lmdb, {len(bad)} left out" in ended.out
    for name in bad:
        assert f"left out {name}: " in ended.out


# draw and sample


def test_drawn_rooms_are_an_lmdb_with_its_truth(tmp_path: Path, dcgan: Dcgan) -> None:
    words = ["--images", 12, "--seed", 3, "--planted-share", 0.4, "--workers", 1]
    ended = dcgan("draw", "rooms", tmp_path / "out" / "rooms.lmdb", *words)
    assert (ended.status, ended.err) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["rooms.lmdb", "truth.parquet"]
    source = DrawnSource(kind="drawn", name="rooms", images=12, seed=3, planted_share=0.4)
    (part,) = source.ranges(100)
    assert packed(tmp_path / "out" / "rooms.lmdb") == {record.key: record.data for record in source.read(part)}
    truth = Folder(tmp_path / "out").read_table("truth.parquet")
    assert truth.schema == truth_table(RoomSettings(images=1)).schema
    known = truth_table(RoomSettings(images=12, seed=3, planted_share=0.4))
    columns = ["source_key", "origin_key", "change"]
    assert truth.select(columns).equals(known.select(columns))
    assert truth["change"].null_count < 12


def test_drawn_faces_are_an_lmdb_with_its_truth(tmp_path: Path, dcgan: Dcgan) -> None:
    words = ["--images", 12, "--seed", 3, "--size", 32, "--planted-share", 0.4, "--workers", 1]
    ended = dcgan("draw", "faces", tmp_path / "out" / "faces.lmdb", *words)
    assert (ended.status, ended.err) == (0, "")
    assert "12 faces in" in ended.out
    settings = DrawnFaceSettings(images=12, seed=3, size_px=32, planted_share=0.4)
    drawn = [encoded(settings, index) for index in range(12)]
    known = truth_table(settings, [drawing for _, drawing in drawn])
    assert Folder(tmp_path / "out").read_table("truth.parquet").equals(known)
    keys = known["source_key"].to_pylist()
    assert packed(tmp_path / "out" / "faces.lmdb") == {key: data for key, (data, _) in zip(keys, drawn, strict=True)}
    again = dcgan("draw", "faces", tmp_path / "out" / "more.lmdb", "--images", 1)
    assert (again.status, "is there already, the truth of another LMDB" in again.err) == (2, True)


def test_pictures_come_of_checkpoint_and_seed(tmp_path: Path, dcgan: Dcgan) -> None:
    preset = resolve("paper-64", width=4, size_px=32)
    state = snapshot.of_players(new_players(preset, 1, torch.device("cpu")), seed=1, samples=100, update=7, seconds=1.0)
    checkpoint.save(Folder(tmp_path), state, keep=1)
    grids = []
    for name, seed in (("a.png", 1), ("b.png", 1), ("c.png", 2)):
        ended = dcgan("sample", tmp_path / state.name, "--out", tmp_path / "new" / name, "--images", 6, "--seed", seed)
        assert (ended.status, ended.err) == (0, "")
        assert f"6 pictures after {state.images_seen} images seen, batch statistics: {tmp_path}/new/{name}" in ended.out
        grids.append((tmp_path / "new" / name).read_bytes())
    assert grids[0] == grids[1] != grids[2]
    picture = Image.open(io.BytesIO(grids[0]))
    assert min(picture.size) > 2 * 32
    words = ["--out", tmp_path / "d.png", "--images", 6, "--seed", 1, "--statistics", "standing"]
    assert dcgan("sample", tmp_path / state.name, *words).status == 0
    assert (tmp_path / "d.png").read_bytes() != grids[0]


@pytest.mark.parametrize("command", ["sample", "export"])
def test_what_is_no_checkpoint_is_told_with_those_nearby_and_without_deleting(
    tmp_path: Path, dcgan: Dcgan, command: str
) -> None:
    preset = resolve("paper-64", width=4, size_px=32)
    state = snapshot.of_players(new_players(preset, 1, torch.device("cpu")), seed=1, samples=100, update=7, seconds=1.0)
    made = tmp_path / "run" / "training" / "checkpoints"
    checkpoint.save(Folder(made), state, keep=1)
    (made / "checkpoint-000000128").mkdir()  # begun, and never finished
    (tmp_path / "run" / "state.json").write_text("{}")
    words = ["--out", tmp_path / "out"]
    above = [tmp_path / "run", tmp_path / "run" / "training", made, made / "checkpoint-000000128", made / "absent"]
    for wrong in [*above, made / state.name / "state.json"]:
        ended = dcgan(command, wrong, *words)
        assert ended.status == 2
        assert f"{wrong} is no checkpoint, " in ended.err
        assert "delete" not in ended.err
    for wrong in above:
        assert f"those here are {made}/{state.name}" in dcgan(command, wrong, *words).err
    assert "there is none in it or beside it; name one of RUN" in dcgan(command, tmp_path / "new" / "no", *words).err
    assert not (tmp_path / "out").exists()
    ended = dcgan(command, f"file://{made}/{state.name}", *words)  # a URI as of any other filesystem
    assert (ended.status, ended.err) == (0, "")


def test_the_authors_arrays_become_a_checkpoint_that_is_exported(tmp_path: Path, dcgan: Dcgan) -> None:
    preset = resolve("svhn-32")
    for name, plan in (("gen", generator_plan(preset)), ("discrim", discriminator_plan(preset))):
        draw, arrays = np.random.default_rng(0), []
        for layer in plan:
            shape = layer.weight_shape[::-1] if layer.kind == "dense" else layer.weight_shape
            arrays.append(draw.normal(0, 0.02, shape).astype(np.float32))
            if layer.norm != "none":
                arrays += [np.ones(layer.norm_features, np.float32), np.zeros(layer.norm_features, np.float32)]
        named: dict[str, Any] = {f"{number:02d}": array for number, array in enumerate(arrays, 1)}
        np.savez(tmp_path / f"{name}.npz", **named)
    words = [tmp_path / "gen.npz", tmp_path / "discrim.npz", "--out", tmp_path / "theirs"]
    ended = dcgan("import-authors", *words)
    assert (ended.status, ended.err) == (0, "")
    (made,) = checkpoint.names(Folder(tmp_path / "theirs"))
    assert f"10 and 8 arrays of svhn-32: {tmp_path}/theirs/{made}" in ended.out
    (tmp_path / "theirs" / "checkpoint-000012800").mkdir()
    before = everything(tmp_path / "theirs")
    again = dcgan("import-authors", *words)
    assert (again.status, f"{tmp_path}/theirs is there already; delete it or name another" in again.err) == (2, True)
    assert everything(tmp_path / "theirs") == before
    swapped = dcgan("import-authors", words[1], words[0], "--out", tmp_path / "swapped")
    assert "discrim.npz: expected the 10 arrays of preset svhn-32, got 8; check the file" in swapped.err
    for command in ("sample", "export"):
        ended = dcgan(command, tmp_path / "theirs" / made, "--out", tmp_path / command)
        assert (ended.status, ended.err) == (0, "")
    card = (tmp_path / "export" / "README.md").read_text()
    assert "not known: imported" in card
    assert "| origin | arrays that the paper's authors released" in card
    assert "| licence | MIT, as the authors' code |" in card
    assert checkpoint.load(Folder(tmp_path / "theirs"), made).state["imported"]["licence"].startswith("MIT")


def test_a_truncated_lmdb_is_one_error_before_work_begins(tmp_path: Path, dcgan: Dcgan) -> None:
    write_lmdb(tmp_path / "rooms", [(lsun_key(str(n)), bytes(5000)) for n in range(20)])
    data = (tmp_path / "rooms" / "data.mdb").read_bytes()
    (tmp_path / "rooms" / "data.mdb").write_bytes(data[: len(data) // 2])
    ended = dcgan("run", "demo", "--run", tmp_path / "run", "--set", f"sources.0.path={tmp_path}/rooms")
    assert ended.status == 2
    assert f"is cut short: expected {len(data)} bytes, got {len(data) // 2}; fetch it again" in ended.err
