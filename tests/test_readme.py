"""What the README and the docs tell people to type works."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import typer
import yaml
from typer.testing import CliRunner

from manifests.store import Folder
from pipelines.__main__ import app
from pipelines.recipe import load_recipe, ready_recipes
from pipelines.sources.bedroom import draw_room

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMES = tuple(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def code_lines(text: str) -> list[str]:
    """Lines of code blocks, fenced or indented, with continuations joined."""
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.M | re.S)
    indented = re.findall(r"^    (.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M)
    lines = [line for block in fenced for line in block.splitlines()] + indented
    return "\n".join(line.strip() for line in lines).replace("\\\n", " ").splitlines()


def commands_of(text: str) -> list[list[str]]:
    """The words of every `dcgan ...` and `python -m pipelines ...`, wherever they stand in a line of code."""
    found = []
    for line in code_lines(text):
        match = re.search(rf"(?:\bdcgan|python3? -m pipelines) +((?:{'|'.join(NAMES)}) .*)$", line)
        if match:
            found.append(shlex.split(match.group(1), comments=True))
    return found


RECIPE_TEXTS = [re.sub(r"^#", "", text, flags=re.M) for text in ready_recipes().values()]
COMMANDS = [c for page in PAGES for c in commands_of(page.read_text())] + [
    c for text in RECIPE_TEXTS for c in commands_of(text)
]


def test_there_are_commands_of_every_kind() -> None:
    assert {command[0] for command in COMMANDS} == set(NAMES)
    # What draws the demo's rooms is make's to call.
    assert {command[0] for command in commands_of((ROOT / "README.md").read_text())} == set(NAMES) - {"draw"}


def test_the_readme_leads_to_every_page() -> None:
    text = (ROOT / "README.md").read_text()
    linked = {page.name for page in PAGES[1:] if f"](docs/{page.name})" in text}
    assert {page.name for page in PAGES[1:]} - linked == {"codes.md"}, "which deduplication.md leads to"
    assert [name for name in ready_recipes() if f"`{name}`" not in text] == []


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] == "describe"], ids=" ".join)
def test_a_documented_preset_is_described(words: list[str]) -> None:
    result = CliRunner().invoke(app, words)
    assert result.exception is None, result.output


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_documented_command_has_such_options_and_arguments(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while hasattr(command, "commands"):
        command = command.commands[words[0]]
        words = words[1:]
    names = {option: p for p in command.params for option in (*p.opts, *p.secondary_opts)}
    given = [word.partition("=")[0] for word in words if word.startswith("--")]
    assert [option for option in given if option not in names] == []


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] == "run"], ids=" ".join)
def test_a_documented_recipe_loads_with_its_settings(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    changes = [words[i + 1] for i, word in enumerate(words) if word == "--set"]
    load_recipe(words[1], changes)


def test_the_checkpoint_that_is_named_is_the_one_that_the_recipe_ends_with() -> None:
    train = load_recipe("folder").train
    images = train.updates(1) * train.resolved().batch_images
    assert f"runs/mine/training/checkpoints/checkpoint-{images:09d} " in (ROOT / "README.md").read_text()


def test_documented_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {t for page in PAGES for t in re.findall(r"\bmake ([a-z-]+)", "\n".join(code_lines(page.read_text())))}
    named |= set(re.findall(r"`make ([a-z-]+)`", (ROOT / "README.md").read_text()))
    assert {"demo", "test", "test-slow", "help"} <= named
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in named)


def test_links_and_named_files_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_readme_word_for_word(tmp_path: Path) -> None:
    """Its commands in their order, on a folder of pictures; only paths and the amount of training are set."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in range(150):
        cv2.imwrite(str(photos / f"{index}.jpg"), draw_room(9, index).image[..., ::-1])
    for index in range(10):
        cv2.imwrite(str(photos / f"mirrored-{index}.jpg"), draw_room(9, index).image[:, ::-1, ::-1])
    small = {
        "train.images=1280",
        "train.overrides={width: 4, batch_images: 64}",
        "train.checkpoint_every_images=640",
        "encode.autoencoder.epochs=2",
        "shard.shard_images=64",
        "shard.heldout_share=0.45",
    }
    (tmp_path / "names.csv").write_text('"name","birthDate"\n"Ann Smith","1961-02-03"\n"Bo Lind","1949-12-31"\n')
    every = commands_of((ROOT / "README.md").read_text())
    commands = [c for c in every if "mine" in " ".join(c) or c[0] in ("pack", "dedup", "review", "names")]
    assert len(commands) >= 4
    for words in commands:
        words = [word.replace("/my/photos", str(photos)).replace("000200064", "000001280") for word in words]
        if words[0] == "run":
            words += [word for change in sorted(small) for word in ("--set", change)]
            words = [word for word in words if word not in ("--until", "shard")]
        if words[0] == "train":
            words = [word.replace("2000000", "640") for word in words]
            words += ["--set", "width=4", "--set", "batch_images=64", "--set", "loader.loaders=1"]
        answer = subprocess.run(
            [sys.executable, "-m", "pipelines", *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
    assert cv2.imread(str(tmp_path / "grid.png")) is not None
    assert (tmp_path / "photos.lmdb" / "data.mdb").exists()
    assert len((tmp_path / "queries.csv").read_text().splitlines()) == 2
    assert len((tmp_path / "runs" / "dedup" / "remove.csv").read_text().splitlines()) > 10
    assert (tmp_path / "runs" / "dedup" / "review" / "review.html").exists()
    assert (tmp_path / "exported" / "generator.onnx").exists()
    assert {"walk.json", "filters.json"} <= set(Folder(tmp_path / "runs" / "mine-measured").names())
    assert "<script>" in (tmp_path / "exemplars.html").read_text()
    assert Folder(tmp_path / "runs" / "first" / "training").read_json("summary.json")["images_seen"] == 640
    run = Folder(tmp_path / "runs" / "mine")
    assert run.child("report").exists("index.html")
    assert yaml.safe_load(run.read_bytes("recipe.yaml"))["recipe"]["sources"][0]["path"] == str(photos)
