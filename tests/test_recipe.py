"""A recipe is checked whole before anything is done, and says exactly which stage a change concerns."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from manifests.schema import CODES, SAMPLES
from manifests.store import Folder
from pipelines.recipe import Recipe, load_recipe
from pipelines.run import RunError, changed_settings, check_unchanged
from pipelines.sources import PARTS, Source, SourceError
from pipelines.sources.drawn import DrawnSource
from pipelines.sources.folder import FolderSource
from pipelines.stages import STAGES as ALL_STAGES
from pipelines.stages import STARTED_FILE, fingerprints
from pipelines.written import RecipeError, ready_recipes

STAGES = tuple(stage for stage in ALL_STAGES if stage.name != "fetch")  # of a recipe that lists no URLs
NAMES = [stage.name for stage in STAGES]
KINDS = "lsun, folder, tar, tars, warc, parquet, idx, urls, drawn, drawn_faces"
BASE: dict[str, Any] = {"name": "rooms", "sources": [{"kind": "drawn", "name": "a", "images": 10}]}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A recipe that is right."""
    return written(tmp_path, yaml.safe_dump(BASE))


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return path


def faults(path: Path, *changes: str) -> list[str]:
    """The lines of the message, one a fault, which it counts."""
    with pytest.raises(RecipeError) as raised:
        load_recipe(str(path), changes)
    first, *lines = str(raised.value).splitlines()
    number = "1 fault" if len(lines) == 1 else f"{len(lines)} faults"
    assert first == f"{path}: {number}; mend and run again:"
    return [line.removeprefix("  ") for line in lines]


def recipe_of(**changes: Any) -> Recipe:
    return Recipe.model_validate(BASE | changes)


# Loading


def test_a_recipe_needs_little(file: Path) -> None:
    recipe = load_recipe(str(file))
    assert recipe == recipe_of()
    assert recipe.sources == (DrawnSource(kind="drawn", name="a", images=10),)
    assert recipe.train.epochs == 5


@pytest.mark.parametrize("name", ready_recipes())
def test_ready_recipes_load_by_name_and_as_files(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert load_recipe(str(written(tmp_path, ready_recipes()[name]))) == recipe
    # What a run keeps of it is the same recipe again.
    assert Recipe.model_validate(yaml.safe_load(yaml.safe_dump(recipe.model_dump(mode="json")))) == recipe
    # Its head says which command it is for.
    head = [line for line in ready_recipes()[name].splitlines() if line.startswith("#")]
    assert any(f"pipelines/recipes/{name}.yaml" in line for line in head)


def test_these_are_the_ready_recipes() -> None:
    assert list(ready_recipes()) == [
        "cifar10",
        "demo",
        "drawn_faces",
        "drawn_rooms",
        "faces",
        "folder",
        "imagenet_32",
        "lsun_bedroom",
        "mnist",
        "mnist_conditional",
    ]
    paper = load_recipe("lsun_bedroom").train.resolved()
    assert (paper.size_px, paper.batch_images, paper.width) == (64, 128, 128)


def test_every_fault_is_told_at_once_with_its_place(tmp_path: Path) -> None:
    text = """
nme: rooms
seed: -1
sources:
  - {kind: lsun, name: a, pth: x}
  - {kind: lsnu, name: b, path: x}
  - {name: c, path: x}
  - 5
  - {kind: folder, name: "d d", path: 7}
ingest:
  image_px: large
  image_formt: png
  filters: {smalest_side_px: 2, largest_aspect: 0.5}
deduplicate: {verdict: {radius: 99}}
encode: [1]
train: {preset: paper-46, epochs: 1}
resources: {workers: 0, gpu: maybe}
"""
    found = {line.partition(": ")[0]: line.partition(": ")[2] for line in faults(written(tmp_path, text))}
    assert found.pop("train").startswith("there is no preset 'paper-46'; the nearest is 'paper-64'")
    assert found == {
        "name": "Field required",
        "nme": "no such setting; did you mean name?",
        "seed": "Input should be greater than or equal to 0 (got -1)",
        "sources.0.path": "Field required",
        "sources.0.pth": "no such setting; did you mean path?",
        "sources.1.kind": "no such kind (got 'lsnu'); did you mean lsun?",
        "sources.2.kind": f"Field required; valid here: {KINDS}",
        "sources.3": "Input should be a valid dictionary or object to extract fields from (got 5)",
        "sources.4.name": "String should match pattern '^[A-Za-z0-9_-]{1,64}$' (got 'd d')",
        "sources.4.path": "Input should be a valid string (got 7)",
        "ingest.image_px": "Input should be a valid integer, unable to parse string as an integer (got 'large')",
        "ingest.image_formt": "no such setting; did you mean image_format?",
        "ingest.filters.smalest_side_px": "no such setting; did you mean smallest_side_px?",
        "ingest.filters.largest_aspect": "Input should be greater than or equal to 1 (got 0.5)",
        "deduplicate.verdict.radius": "Input should be less than or equal to 24, or: Input should be 'auto' (got 99)",
        "encode": "Input should be a valid dictionary or instance of EncodeSettings",
        "resources.workers": "Input should be greater than or equal to 1 (got 0)",
        "resources.gpu": "Input should be a valid boolean, unable to interpret input (got 'maybe')",
    }


def test_a_name_like_no_other_gets_the_list(file: Path) -> None:
    (fault,) = faults(file, "shard.xyzzy=1")
    assert fault == "shard.xyzzy: no such setting; valid here: heldout_share, shard_images"
    (fault,) = faults(file, "sources.0.xyzzy=1")
    assert fault == (
        "sources.0.xyzzy: no such setting; valid here: image_format, images, kind, name, planted_share, seed, size_px"
    )
    (fault,) = faults(file, "sources.0.kind=xyzzy")
    assert fault == f"sources.0.kind: no such kind (got 'xyzzy'); valid here: {KINDS}"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["sources.1={kind: folder, name: a, path: x}"], "sources share the name a; give each its own"),
        (["sources=[]"], "sources: Tuple should have at least 1 item"),
        (["ingest.image_px=32"], "trains on 64; set ingest.image_px=64 or train.overrides.size_px=32"),
        (
            ["resources.train_workers=3"],
            "batch_images=128 does not divide by 3 workers, and resources.train_workers=3; "
            "try batch_images=126 or 129, or workers: 1, 2, 4, 8, 16, 32, 64, 128$",
        ),
        (
            ["resources.train_workers=[2,6]"],
            r"does not divide by 3 or 5 or 6 workers, and resources.train_workers=\[2, 6\]; try batch_images=120",
        ),
        (
            ["train={images: 9, overrides: {batch_norm: ghost, ghost_images: 32}}", "resources.train_workers=[1,8]"],
            "does not divide by 3 or 5 or 6 or 7 or 8 workers in blocks of 32, .*; try workers: 1, 2, 4$",
        ),
        (["resources.train_workers=[2,64]"], r"train_workers=\[2, 64\]; try workers: 1, 2, 4, 8, 16, 32, 64, 128$"),
        (
            [
                "train={images: 9, micro_images: 128, overrides: {batch_norm: ghost, ghost_images: 32}}",
                "resources.train_workers=[1,2]",
            ],
            "part of 64 images does not divide by micro_images=128; try micro_images=32",
        ),
        (["train={epochs: .inf}"], r"train.epochs: Input should be a finite number \(got inf\)"),
        (["train={epochs: 1, overrides: {learning_rate: .inf}}"], "learning_rate=inf: Input should be a finite number"),
        (["train={epochs: 1, overrides: {name: mine}}"], "presets have no setting 'name'"),
        (["resources.train_workers=[4,2]"], r"train_workers=\[4, 2\] begins above its end; write \[2, 4\]"),
        (["deduplicate.keep.prefer_sources=[b, a]"], "prefer_sources names b, which is no source; sources are a$"),
        (
            ["deduplicate.against=[runs/a, runs/b, runs/a]"],
            "deduplicate.against names runs/a twice; name each run once",
        ),
        (["train.images=5", "train.epochs=5"], "images=5 and epochs=5.0: give one of them"),
        (
            ["train.images=5", "train.overrides.bach_images=8"],
            "'bach_images'; the nearest is 'batch_images'",
        ),
    ],
)
def test_settings_must_fit_together(file: Path, changes: list[str], message: str) -> None:
    (fault,) = faults(file, *changes)
    assert re.search(message, fault)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: a\nname: b\n", "name is given twice"),
        ("name: a\ningest: {image_px: 64, image_px: 32}\n", "image_px is given twice"),
        ("sources: [\n", "not valid YAML"),
        ("? [a]\n: 1\n", "not valid YAML"),
        ("a: &x [*x]\n", "not valid YAML"),
        ("!!python/object/apply:os.system ['true']\n", "not valid YAML"),
        ("", "expected keys and values at the top, got NoneType"),
        ("- 1\n", "expected keys and values at the top, got list"),
    ],
)
def test_what_is_no_recipe_is_said_to_be_none(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(RecipeError, match=rf"^{path}: [\s\S]*{message}"):
        load_recipe(str(path))


def test_a_photo_is_no_recipe(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(str(tmp_path / "a.jpg"))


def test_a_recipe_that_is_absent_gets_the_nearest_name(tmp_path: Path) -> None:
    for name in ("dmo", "recipes/demo.yml", "demos.yaml"):
        with pytest.raises(RecipeError, match=f"^{name}: no such recipe; did you mean demo"):
            load_recipe(name)
    with pytest.raises(RecipeError, match="no such recipe; ready recipes: cifar10, demo, drawn_faces, drawn_rooms"):
        load_recipe(str(tmp_path))


# --set


def test_changes_reach_any_place(file: Path) -> None:
    recipe = load_recipe(
        str(file),
        [
            "ingest.filters.smallest_side_px=5",
            "deduplicate.verdict.radius=7",
            "deduplicate.keep.prefer_sources=[photos]",
            "sources.0.images=20",
            "sources.1={kind: folder, name: photos, path: /a=b.c}",
            "sources.2.kind=drawn",
            "sources.2.name=more",
            "sources.2.images=3",
            "train.overrides.width=8",
            "train.images=100",
            "name='1.0'",
            "seed=3",
            "seed=4",
        ],
    )
    assert recipe.ingest.filters.smallest_side_px == 5
    assert recipe.deduplicate.verdict.radius == 7
    assert recipe.deduplicate.keep.prefer_sources == ("photos",)
    assert recipe.sources == (
        DrawnSource(kind="drawn", name="a", images=20),
        FolderSource(kind="folder", name="photos", path="/a=b.c"),
        DrawnSource(kind="drawn", name="more", images=3),
    )
    assert recipe.train.resolved().width == 8
    assert (recipe.name, recipe.seed) == ("1.0", 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "--set seed: expected key=value, such as ingest.image_px=32"),
        ("=3", "--set =3: expected key=value, such as ingest.image_px=32"),
        ("seed.deep=3", "--set seed.deep=3: deep reaches into 7, which holds no keys"),
        ("sources.2.name=x", "--set sources.2.name=x: 2 is no place in a list of 1; places count from 0"),
        ("sources.-1.name=x", "--set sources.-1.name=x: -1 is no place in a list of 1; places count from 0"),
        ("sources.path=x", "--set sources.path=x: path is no place in a list of 1; places count from 0"),
        ("seed=[1", "--set seed=[1: [1 is not valid YAML"),
        ("seed=", "seed: Input should be a valid integer (got None)"),
        ("seed=1.5", "seed: Input should be a valid integer, got a number with a fractional part (got 1.5)"),
        ("sources.0.images=many", "sources.0.images: Input should be a valid integer, unable to parse"),
        ("sources=3", "sources: Input should be a valid tuple (got 3)"),
    ],
)
def test_a_change_that_is_wrong_is_told_of(tmp_path: Path, change: str, message: str) -> None:
    (fault,) = faults(written(tmp_path, yaml.safe_dump(BASE | {"seed": 7})), change)
    assert fault.startswith(message)


PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
KEYS = st.sampled_from(["name", "kind", "images", "sources", "train", "overrides", "verdict", "x"]) | PLAIN
VALUES = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3))
SECTIONS = st.dictionaries(st.sampled_from([*Recipe.model_fields, "x"]) | st.integers(), VALUES, max_size=4)


@given(SECTIONS)
def test_whatever_a_file_holds_it_is_a_recipe_or_its_faults(tmp_path_factory: Any, sections: dict[Any, Any]) -> None:
    path = written(tmp_path_factory.getbasetemp(), yaml.safe_dump(BASE | sections))
    with contextlib.suppress(RecipeError):
        load_recipe(str(path))


# Fingerprints


def leaves(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Key paths of all settings of a model."""
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from leaves(field.annotation, f"{above}{name}.")
        else:
            yield f"{above}{name}"


# Another valid value of each setting, by its key path, where 'a bit more' would not be one.
FORMULA = {
    "name": "smiling, short hair",
    "a": {"name": "smiling", "shows": {"smile": 1}},
    "b": {"name": "neutral", "shows": {"smile": 0}},
    "c": {"name": "neutral, short hair", "shows": {"smile": 0}},
}
OTHER_VALUES: dict[str, Any] = {
    "name": "other",
    "seed": 1,
    "sources": [{"kind": "drawn", "name": "b", "images": 10}],
    "encode.fit_threads": 2,
    "encode.autoencoder.noise": 0.1,
    "deduplicate.verdict.rule": "code",
    "deduplicate.verdict.radius": 3,
    "deduplicate.verdict.grouping": "component",
    "deduplicate.keep.prefer_sources": ["a"],
    "deduplicate.keep.then": "sharpness",
    "ingest.faces": {"detector": "haar"},
    "ingest.image_px": 32,
    "ingest.image_format": "jpeg",
    "train.preset": "torch-4x4",
    "train.overrides": {"width": 8},
    "train.threads": 1,
    "train.precision": "float64",
    "train.compile": True,
    "train.micro_images": 8,
    "train.measure_every_images": 1000,
    "train.guard.action": "stop",
    "train.guard.above_chance": 2.0,
    "train.loader.loaders": 1,
    "train.loader.cache_folder": "/tmp",
    "evaluate.what": ["walk", "turn"],
    "evaluate.labelled": {"kind": "folders", "train": "a", "test": "b"},
    "evaluate.attributes": {"kind": "drawn_faces"},
    "evaluate.boxes": {"kind": "drawn_rooms"},
    "evaluate.walk.paths": "linear",
    "evaluate.features.rows": ["trained", "random"],
    "evaluate.features.train_images": 100,
    "evaluate.features.test_images": 100,
    "evaluate.features.choose_images": 100,
    "evaluate.features.scaling": "standard",
    "evaluate.features.svhn": None,
    "evaluate.features.storage": "float16",
    "evaluate.features.supervised.few_draws": 1,
    "evaluate.features.per_class": [10],
    "evaluate.features.c": [1.0],
    "evaluate.removal.layer": 3,
    "evaluate.removal.maps": 5,
    "evaluate.removal.drawn": "boxes.json",
    "evaluate.removal.thing": "door",
    "evaluate.arithmetic.formulas": [FORMULA],
    "evaluate.arithmetic.exemplars": "exemplars.json",
    "evaluate.arithmetic.curve": [1, 3],
    "evaluate.turn.start.name": "left",
    "evaluate.turn.start.shows": {"smile": 1},
    "evaluate.turn.end.name": "right",
    "evaluate.turn.end.shows": {"smile": 0},
    "evaluate.turn.exemplars": "exemplars.json",
    "evaluate.memorisation.train_images": 500,
    "evaluate.memorisation.spaces": ["pixels"],
    "evaluate.distribution.inception_weights": "weights.pth",
    "evaluate.nearest.per_class": [100],
    "evaluate.nearest.statistics": "standing",
    "resources.workers": 1,
    "resources.train_workers": 2,
    "resources.train_cpus": 1,
}
WITH: dict[str, dict[str, Any]] = {
    "ingest.image_px": {"train": {"epochs": 5, "overrides": {"size_px": 32}}},
    "train.micro_images": {
        "train": {"epochs": 5, "micro_images": None, "overrides": {"batch_norm": "ghost", "ghost_images": 8}}
    },
    "encode.autoencoder.changes": {
        "encode": {"autoencoder": {"changes": True, "directions": 0, "mirror_units": False}}
    },
}
_FREE = ("images", "epochs", "keep_checkpoints", "grid_images", "threads")
_HOW = ("loader.", "precision", "compile", "micro_images")
NO_OTHER_TRAINING = tuple(f"train.{name}" for name in _FREE + _HOW)
_EVERY = ("checkpoint_every_images", "grid_every_images", "measure_every_images")
GUARDS_ROWS = ("log_every_updates", *_EVERY, "measure_images")
FIRST_STAGE = {"sources": "ingest", "seed": "ingest", "name": "report"}


def other_value(now: Any, key: str) -> Any:
    if key in OTHER_VALUES:
        return OTHER_VALUES[key]
    if isinstance(now, bool):
        return not now
    return now * 0.5 if isinstance(now, float) else now - 1


@pytest.mark.parametrize("key", [key for key in leaves(Recipe) if key not in ("deduplicate.against", "ingest.deny")])
def test_a_setting_changes_its_own_stage_and_those_after_it(key: str) -> None:
    base = recipe_of(train={"epochs": 4}).model_dump(mode="json")
    if key == "train.images":
        base["train"] |= {"images": 100, "epochs": None}
    if key == "train.micro_images":
        base |= WITH[key]
    changed = Recipe.model_validate(base).model_dump(mode="json") | WITH.get(key, {})
    *above, last = key.split(".")
    inner = changed
    for step in above:
        inner = inner[step]
    inner[last] = other_value(inner[last], key)
    before, after = (fingerprints(Recipe.model_validate(values)) for values in (base, changed))
    differ = [name for name in NAMES if before[name] != after[name]]
    if key.startswith(("resources.", "evaluate.", *NO_OTHER_TRAINING)) or key.removeprefix("train.") in GUARDS_ROWS:
        assert differ == []
    else:
        first = FIRST_STAGE.get(key, key.split(".")[0])
        assert differ == NAMES[NAMES.index(first) :]


@pytest.mark.parametrize("name", GUARDS_ROWS)
@pytest.mark.parametrize("action", ["warn", "stop", "back"])
def test_what_decides_which_rows_the_guard_sees_counts_where_it_may_step_in(name: str, action: str) -> None:
    one, other = (
        fingerprints(recipe_of(train={"epochs": 4, "guard": {"action": action}, name: value})) for value in (50, 60)
    )
    assert (one["train"] != other["train"]) == (action != "warn")


def finished(folder: Path, encoder: bytes = b"weights") -> Folder:
    """What is looked at of a run that others are compared with."""
    run = Folder(folder)
    run.write_bytes("recipe.yaml", b"")
    for stage in ("samples", "codes", "groups"):
        run.child(stage).write_json("stage.json", {"stage": stage, "fingerprint": f"of {stage}"})
    run.child("codes").write_bytes("autoencoder.npz", encoder)
    run.child("codes").write_table("part-00000.parquet", CODES.empty_table())
    run.child("samples").write_table("part-00000.parquet", SAMPLES.empty_table())
    run.child("groups").write_json("quality.json", {"samples": 5})
    run.child("groups").write_bytes("groups.parquet", b"groups")
    parts = [{"number": 0, "source": "a", "records": 5, "start": b"", "names": []}]
    run.child("samples").write_table("parts.parquet", pa.Table.from_pylist(parts, schema=PARTS))
    return run


def test_earlier_runs_count_by_what_they_hold(tmp_path: Path) -> None:
    def prints_of(*runs: str) -> dict[str, str]:
        return fingerprints(recipe_of(deduplicate={"against": [str(tmp_path / run) for run in runs]}))

    alone, one, two = fingerprints(recipe_of()), finished(tmp_path / "one"), finished(tmp_path / "two")
    prints = prints_of("one")
    assert [name for name in NAMES if prints[name] != alone[name]] == NAMES[NAMES.index("encode") :]
    # One that was moved is the same run still.
    assert prints_of("two") == prints
    assert prints_of("one", "two")["encode"] != prints["encode"]
    two.child("groups").write_json("quality.json", {"samples": 6})
    assert [name for name in NAMES if prints_of("two")[name] != prints[name]] == NAMES[NAMES.index("deduplicate") :]
    assert prints_of("one", "two")["deduplicate"] != prints_of("two", "one")["deduplicate"]
    one.child("codes").write_json("stage.json", {"stage": "encode", "fingerprint": "of other settings"})
    assert prints_of("one")["deduplicate"] != prints["deduplicate"]
    one.child("codes").write_bytes("autoencoder.npz", b"other weights")
    assert prints_of("one")["encode"] != prints["encode"]


def test_an_earlier_run_that_changed_is_noticed(tmp_path: Path) -> None:
    earlier = finished(tmp_path / "earlier")
    recipe = recipe_of(deduplicate={"against": [str(earlier)]})
    run = begun(tmp_path / "run", recipe, "ingest", "encode", "deduplicate")
    check_unchanged(recipe, run, fingerprints(recipe), STAGES)
    earlier.child("groups").write_json("quality.json", {"samples": 6})
    with pytest.raises(RunError, match=r"stage deduplicate changed[\s\S]*a run of deduplicate.against was done again"):
        check_unchanged(recipe, run, fingerprints(recipe), STAGES)


def test_what_can_not_be_compared_with_is_one_error(tmp_path: Path) -> None:
    finished(tmp_path / "good")
    finished(tmp_path / "other", b"other weights")
    finished(tmp_path / "begun").child("groups").delete("stage.json")
    old = CODES.empty_table().drop_columns(["mirror_code"])
    finished(tmp_path / "old").child("codes").write_table("part-00000.parquet", old)
    older = SAMPLES.empty_table().drop_columns(["crop_px"])
    finished(tmp_path / "older").child("samples").write_table("part-00000.parquet", older)
    for names, message in (
        (
            ["absent"],
            r"absent is no run whose stage deduplicate is done, recipe.yaml, codes/autoencoder.npz, .* finish it",
        ),
        (["good", "begun"], r"begun is no run .* done, groups/stage.json is not there; finish it, or name another"),
        (
            ["good", "other"],
            r"good and .*other have codes of two encoders, which can't be compared; do one of them again",
        ),
        (["old"], r"old was written by another version of this program; do it again with --redo encode"),
        (["older"], r"older was written by another version of this program; do it again with --redo ingest"),
    ):
        with pytest.raises(SourceError, match=rf"^deduplicate.against: {tmp_path}/{message}"):
            fingerprints(recipe_of(deduplicate={"against": [str(tmp_path / name) for name in names]}))


def test_a_source_counts_by_all_but_the_truth_beside_it() -> None:
    source = {"kind": "lsun", "name": "a", "path": "/a"}
    prints = fingerprints(recipe_of(sources=[source]))
    assert fingerprints(recipe_of(sources=[source | {"truth": "/truth.parquet"}])) == prints
    for change in ({"path": "/b"}, {"first": 5}, {"name": "b"}):
        assert fingerprints(recipe_of(sources=[source | change]))["ingest"] != prints["ingest"]


def test_each_stage_has_a_fingerprint_of_its_own() -> None:
    prints = fingerprints(recipe_of())
    assert list(prints) == NAMES
    assert len(set(prints.values())) == len(NAMES)
    assert all(re.fullmatch("[0-9a-f]{64}", value) for value in prints.values())
    # A default that is written out is the same setting.
    assert fingerprints(recipe_of(ingest={"image_px": 64}, train={"epochs": 5.0})) == prints


# A run that was begun


def begun(folder: Path, recipe: Recipe, *stages: str) -> Folder:
    run = Folder(folder)
    described = {"recipe": recipe.model_dump(mode="json"), "fingerprints": fingerprints(recipe)}
    run.write_bytes("recipe.yaml", yaml.safe_dump(described).encode())
    for stage in STAGES:
        if stage.name in stages:
            started = {"stage": stage.name, "fingerprint": fingerprints(recipe)[stage.name]}
            run.child(stage.folder).write_json(STARTED_FILE, started)
    return run


def test_a_stage_that_was_begun_must_stay_as_it_was(tmp_path: Path) -> None:
    run = begun(tmp_path, recipe_of(), "ingest", "encode", "deduplicate")
    changed = recipe_of(deduplicate={"verdict": {"radius": 3}}, resources={"workers": 1})
    with pytest.raises(RunError) as raised:
        check_unchanged(changed, run, fingerprints(changed), STAGES)
    message = str(raised.value)
    assert message.startswith(f"{tmp_path}: settings of the stage deduplicate changed since it was begun:\n")
    assert "  deduplicate.verdict.radius: auto -> 3\n" in message
    assert "--redo deduplicate" in message
    assert "workers" not in message
    # Stages before it, and those that were not begun, may be done.
    check_unchanged(changed, run, fingerprints(changed), STAGES[:2])
    check_unchanged(recipe_of(shard={"shard_images": 5}), run, fingerprints(recipe_of()), STAGES)
    check_unchanged(recipe_of(), Folder(tmp_path / "new"), fingerprints(recipe_of()), STAGES)


def test_the_first_stage_that_changed_is_named(tmp_path: Path) -> None:
    run = begun(tmp_path, recipe_of(), *NAMES)
    changed = recipe_of(seed=2, deduplicate={"verdict": {"radius": 3}})
    with pytest.raises(RunError, match=r"stage ingest changed[\s\S]* seed: 0 -> 2\n[\s\S]*--redo ingest"):
        check_unchanged(changed, run, fingerprints(changed), STAGES)


def test_another_version_of_the_program_is_told_of(tmp_path: Path) -> None:
    run = begun(tmp_path, recipe_of(), "ingest")
    run.child("samples").write_json(STARTED_FILE, {"stage": "ingest", "fingerprint": "of another version"})
    with pytest.raises(RunError, match="by another version of this program"):
        check_unchanged(recipe_of(), run, fingerprints(recipe_of()), STAGES)


def test_changed_settings_are_listed_by_key(tmp_path: Path) -> None:
    run = begun(tmp_path, recipe_of())
    assert changed_settings(recipe_of(), run) == []
    assert changed_settings(recipe_of(), Folder(tmp_path / "new")) == []
    changed = recipe_of(
        name="other",
        sources=[*BASE["sources"], {"kind": "folder", "name": "b", "path": "/b"}],
        train={"images": 100, "overrides": {"width": 8}},
    )
    listed = set(changed_settings(changed, run))
    assert {
        "name: rooms -> other",
        "sources.1.path: None -> /b",
        "train.images: None -> 100",
        "train.epochs: 5.0 -> None",
        "train.overrides.width: None -> 8",
    } <= listed
    assert not any("ingest" in line or "sources.0" in line for line in listed)


def test_a_recipe_of_someones_own_is_no_run(tmp_path: Path) -> None:
    for text in (yaml.safe_dump(BASE), "a: [\n", "[]", ""):
        (tmp_path / "recipe.yaml").write_text(text)
        with pytest.raises(RunError, match=r"recipe.yaml is none that a run wrote; move it, or name another"):
            changed_settings(recipe_of(), Folder(tmp_path))


def test_every_setting_says_what_it_is() -> None:
    def bare(model: type[BaseModel], above: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from bare(field.annotation, f"{above}{name}.")
            elif not field.description and name != "kind":
                yield f"{above}{name}"

    (union, _) = get_args(Source)
    sections = {"": Recipe} | {f"{model.__name__}.": model for model in get_args(union)}
    assert not [key for above, model in sections.items() for key in bare(model, above)]
