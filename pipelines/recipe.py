"""recipe.yaml -> typed settings. Everything that a run does is said here; each setting's model sits beside its code."""

import difflib
import hashlib
import json
import math
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from dedup.autoencoder import AutoencoderSettings
from dedup.verdict import VerdictSettings
from manifests.images import Limits
from pipelines.faces import FaceSettings
from pipelines.faults import told
from pipelines.filters import FilterSettings
from pipelines.labelled.attributes import AttributesSettings
from pipelines.labelled.boxes import BoxesSettings
from pipelines.labelled.classes import LabelledSettings
from pipelines.sources import Source
from training.evaluation.arithmetic import ArithmeticSettings
from training.evaluation.distribution import DistributionSettings
from training.evaluation.filters import FiltersSettings
from training.evaluation.memorisation import MemorisationSettings
from training.evaluation.nearest import NearestSettings
from training.evaluation.removal import RemovalSettings
from training.evaluation.table import FeaturesSettings
from training.evaluation.turn import TurnSettings
from training.evaluation.walk import WalkSettings
from training.settings import TrainingSettings

Settings = TypeVar("Settings", bound=BaseModel)

_LARGER_BATCH = 8


class RecipeError(Exception):
    """A recipe that can't be run; the message lists every fault."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class IngestSettings(_Settings):
    """What is made of every record."""

    image_px: int = Field(64, ge=16, le=1024, description="Side of the training images")
    image_format: Literal["png", "jpeg"] = Field("png", description="How training images are stored")
    jpeg_quality: int = Field(95, ge=1, le=100, description="Quality where image_format is jpeg")
    limits: Limits = Field(default_factory=Limits, description="Refused before decoding")
    filters: FilterSettings = Field(default_factory=FilterSettings, description="What is kept")
    faces: FaceSettings | None = Field(None, description="Cut faces out of the images; none: whole images")
    deny: tuple[str, ...] = Field(
        (), description="Deny lists that dcgan forget wrote in other runs; this run's own always counts"
    )
    plant_sources: int = Field(
        300, ge=0, description="Images of which near-duplicates are planted, to measure the hash"
    )


class EncodeSettings(_Settings):
    """The hash."""

    autoencoder: AutoencoderSettings = Field(default_factory=AutoencoderSettings, description="How it is fitted")
    fit_threads: int = Field(1, ge=1, description="Threads of the fit; sums, and so codes, depend on them")


class KeepSettings(_Settings):
    """Which image of a group is kept: of a source named first, then the largest, then by `then`, then by sample id.

    Of exact repeats the record of a source named first, then the one of lowest record id.
    """

    prefer_sources: tuple[str, ...] = Field((), description="Names of sources whose images are kept before others'")
    then: Literal["bytes", "sharpness"] = Field("bytes", description="What decides between images of equal area")


class DeduplicateSettings(_Settings):
    """What counts as the same picture."""

    verdict: VerdictSettings = Field(default_factory=VerdictSettings, description="When two images are the same")
    keep: KeepSettings = Field(default_factory=KeepSettings, description="Which image of a group is kept")
    against: tuple[str, ...] = Field(
        (),
        description="Folders of earlier runs: their images are compared too and stay, their encoder makes the codes",
    )


class ShardSettings(_Settings):
    """How kept samples are put into tars."""

    shard_images: int = Field(4096, ge=1, description="Images a shard, about")
    heldout_share: float = Field(0.02, ge=0, lt=1, description="Share of groups that is held out of training")


class TrainSettings(TrainingSettings):
    """The training run: what is trained. How many workers do it stands under `resources`."""


MeasurementName = Literal[
    "walk",
    "features",
    "filters",
    "removal",
    "arithmetic",
    "turn",
    "memorisation",
    "distribution",
    "nearest",
]


class EvaluateSettings(_Settings):
    """The measurements."""

    what: tuple[MeasurementName, ...] = Field(
        ("walk",), min_length=1, description="Which measurements are taken, in this order"
    )
    labelled: LabelledSettings | None = Field(None, description="Pictures with classes, for features and nearest")
    attributes: AttributesSettings | None = Field(None, description="Pictures with attributes, for arithmetic and turn")
    boxes: BoxesSettings | None = Field(None, description="Pictures with boxes around an object, for removal")
    walk: WalkSettings = Field(default_factory=WalkSettings, description="The latent walk")
    features: FeaturesSettings = Field(default_factory=FeaturesSettings, description="The discriminator's features")
    filters: FiltersSettings = Field(default_factory=FiltersSettings, description="What the filters see")
    removal: RemovalSettings = Field(default_factory=RemovalSettings, description="The removal of an object")
    arithmetic: ArithmeticSettings = Field(default_factory=ArithmeticSettings, description="Sums of concepts")
    turn: TurnSettings = Field(default_factory=TurnSettings, description="The axis between two concepts")
    memorisation: MemorisationSettings = Field(default_factory=MemorisationSettings, description="Learnt by heart?")
    distribution: DistributionSettings = Field(
        default_factory=DistributionSettings, description="Samples against real pictures, as distributions"
    )
    nearest: NearestSettings = Field(default_factory=NearestSettings, description="Nearest-neighbour classification")

    @field_validator("what")
    @classmethod
    def _once_each(cls, what: tuple[MeasurementName, ...]) -> tuple[MeasurementName, ...]:
        twice = [name for name in what if what.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is named twice; name each measurement once")
        return what


Count = Annotated[int, Field(ge=1)]


class Resources(_Settings):
    """Where and how widely the run works. Nothing here changes what comes out of the data stages."""

    workers: int | None = Field(None, ge=1, description="Cores that a data stage uses; none: all there are")
    part_images: int = Field(2048, ge=1, description="Records of a part, the unit of work and of resume")
    train_workers: Count | tuple[Count, Count] = Field(
        1, description="Ranks of the training; [least, most]: as many of these as the cluster has room for at the time"
    )
    train_cpus: int | None = Field(None, ge=1, description="CPUs of a rank; none: this machine's cores by the ranks")
    gpu: bool = Field(False, description="One GPU a rank")
    train_failures: int = Field(3, ge=0, description="How often a training that lost a worker goes on")
    object_store_gb: float = Field(1.0, ge=0.08, description="Object store of an embedded Ray")

    @model_validator(mode="after")
    def _in_order(self) -> "Resources":
        least, most = self.train_range
        if least > most:
            raise ValueError(f"train_workers=[{least}, {most}] begins above its end; write [{most}, {least}]")
        return self

    @property
    def train_range(self) -> tuple[int, int]:
        """The fewest and the most ranks of the training."""
        workers = self.train_workers
        return (workers, workers) if isinstance(workers, int) else workers


class WorkerNames(NamedTuple):
    """What a user calls the settings of the training's workers."""

    workers: str = "resources.train_workers"
    span: str = "[{}, {}]"
    cpus: str = "resources.train_cpus"
    gpu: str = "resources.gpu"
    no_gpu: str = "set resources.gpu=false"
    before: str = " (dcgan run --until shard stops before the training)"


IN_A_RECIPE = WorkerNames()


class Recipe(_Settings):
    """All of a run."""

    name: str = Field(min_length=1, max_length=100, description="Title of the run, as the audit shows it")
    seed: int = Field(0, ge=0, lt=1 << 63, description="Seed of everything that is drawn by chance")
    sources: Annotated[tuple[Source, ...], Field(min_length=1, description="Where the images come from")]
    ingest: IngestSettings = Field(default_factory=IngestSettings)
    encode: EncodeSettings = Field(default_factory=EncodeSettings)
    deduplicate: DeduplicateSettings = Field(default_factory=DeduplicateSettings)
    shard: ShardSettings = Field(default_factory=ShardSettings)
    train: TrainSettings = Field(default_factory=lambda: TrainSettings(epochs=5))
    evaluate: EvaluateSettings = Field(default_factory=EvaluateSettings)
    resources: Resources = Field(default_factory=Resources)

    @model_validator(mode="after")
    def _checked(self) -> "Recipe":
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"sources share the name {', '.join(twice)}; give each its own, record ids are made of it")
        strange = sorted(set(self.deduplicate.keep.prefer_sources) - set(names))
        if strange:
            raise ValueError(
                f"deduplicate.keep.prefer_sources names {', '.join(strange)}, which is no source; sources are "
                f"{', '.join(names)}"
            )
        against = self.deduplicate.against
        again = sorted({run for run in against if against.count(run) > 1})
        if again:
            raise ValueError(f"deduplicate.against names {', '.join(again)} twice; name each run once")
        size_px = self.train.resolved().size_px
        if size_px != self.ingest.image_px:
            raise ValueError(
                f"ingest.image_px={self.ingest.image_px}, but the preset {self.train.preset} trains on {size_px}; "
                f"set ingest.image_px={size_px} or train.overrides.size_px={self.ingest.image_px}"
            )
        classes = self.train.resolved().classes
        unlabelled = [source.name for source in self.sources if getattr(source, "labels", None) is None]
        if classes and unlabelled:
            raise ValueError(
                f"the preset {self.train.preset} has classes={classes}, but no labels are known of the images of "
                f"{', '.join(unlabelled)}; name them (an idx source's labels), or set train.overrides.classes=0"
            )
        check_workers(self.train, self.resources)
        return self


def check_workers(settings: TrainSettings, resources: Resources, names: WorkerNames = IN_A_RECIPE) -> None:
    """Check that the batch can be dealt out evenly to any number of workers that there may be.

    Raises:
        ValueError: it can't, or a worker's part of it does not divide by micro_images.
    """
    preset, (least, most) = settings.resolved(), resources.train_range
    block = preset.ghost_images or 1
    batch_images, worlds = preset.batch_images, range(least, most + 1)
    unfit = [world for world in worlds if batch_images % (world * block)]
    if not unfit:
        for world in worlds:
            settings.share(0, world)
        return
    shares = math.lcm(*worlds) * block
    above = -(-batch_images // shares) * shares
    batches = " or ".join(str(batch) for batch in (above - shares, above) if batch)
    # A batch that suits all of a wide range would be another training altogether.
    larger = f"batch_images={batches}, or " if above <= _LARGER_BATCH * batch_images else ""
    fit = [world for world in range(1, batch_images // block + 1) if batch_images % (world * block) == 0]
    given = least if least == most else names.span.format(least, most)
    raise ValueError(
        f"batch_images={batch_images} does not divide by {' or '.join(map(str, unfit))} workers"
        f"{f' in blocks of {block}' if block > 1 else ''}, and {names.workers}={given}; "
        f"try {larger}workers: {', '.join(map(str, fit)) or 'none fit this batch'}"
    )


def ready_recipes() -> dict[str, str]:
    """The recipes that come with the project: name -> YAML text."""
    folder = resources.files("pipelines") / "recipes"
    return {
        item.name.removesuffix(".yaml"): item.read_text("utf-8")
        for item in sorted(folder.iterdir(), key=lambda i: i.name)
        if item.name.endswith(".yaml")
    }


def load_recipe(path: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML file, with `key=value` changes (as of `--set`) laid over it.

    `path` may also be the bare name of a ready recipe.

    Raises:
        RecipeError: with every fault of the file, each with its key path and, for unknown keys, the nearest valid name.
    """
    return made_recipe(_read_yaml(path), changes, path)


def made_recipe(values: Any, changes: Sequence[str], origin: str) -> Recipe:
    """The recipe of plain values, with `key=value` changes laid over them; errors begin with `origin`.

    Raises:
        RecipeError: as `load_recipe` says.
    """
    return made_settings(Recipe, values, changes, origin)


def made_settings(model: type[Settings], values: Any, changes: Sequence[str], origin: str) -> Settings:
    """The settings `model` of plain values, with `key=value` changes laid over them; errors begin with `origin`.

    Raises:
        RecipeError: with every fault, each with its key path and, for unknown keys, the nearest valid name.
    """
    faults = []
    for change in changes:
        try:
            values = _changed(values, change)
        except RecipeError as error:
            faults.append(str(error))
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        faults += told(error, model)
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError(f"{origin}: {count}; mend and run again:\n{lines}")
    return settings


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice; plain YAML keeps the last one in silence."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key, (key_node, _) in zip(keys, node.value, strict=True):
        if keys.count(key) > 1:
            raise yaml.MarkedYAMLError(problem=f"{key} is given twice", problem_mark=key_node.start_mark)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def _read_yaml(path: str) -> Any:
    ready = ready_recipes()
    if not Path(path).is_file() and path not in ready:
        near = difflib.get_close_matches(Path(path).stem, ready, 1)
        hint = f"did you mean {near[0]}?" if near else f"ready recipes: {', '.join(ready)}"
        raise RecipeError(f"{path}: no such recipe; {hint}")
    try:
        text = Path(path).read_text("utf-8") if Path(path).is_file() else ready[path]
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected keys and values at the top, got {type(values).__name__}")
    return values


def _changed(values: Any, change: str) -> Any:
    """`values` with `a.0.b=value` laid over them; what it leads to is checked with all else."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected key=value, such as ingest.image_px=32")
    try:
        value = yaml.load(text, Loader=_Loader) if text else None  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: {text} is not valid YAML") from error
    return _laid(values, key.split("."), value, change)


def _laid(values: Any, keys: list[str], value: Any, change: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(values, list):
        if not key.isdecimal() or int(key) > len(values):
            raise RecipeError(f"--set {change}: {key} is no place in a list of {len(values)}; places count from 0")
        changed = list(values)
        laid = _laid(values[int(key)] if int(key) < len(values) else {}, rest, value, change)
        changed[int(key) : int(key) + 1] = [laid]
        return changed
    if values is not None and not isinstance(values, dict):
        raise RecipeError(f"--set {change}: {key} reaches into {values!r}, which holds no keys")
    below = (values or {}).get(key)
    return {**(values or {}), key: _laid(below, rest, value, change)}


def fingerprint(*parts: Any) -> str:
    """sha256 of settings (models or plain values), 64 hex digits: equal settings, equal fingerprint."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
