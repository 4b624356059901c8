"""recipe.yaml -> typed settings. Everything that a run does is said here; each setting's model sits beside its code."""

import hashlib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dedup.autoencoder import AutoencoderSettings
from dedup.verdict import VerdictSettings
from manifests.images import Limits
from pipelines.faces import FaceSettings
from pipelines.filters import FilterSettings
from pipelines.labelled.attributes import AttributesSettings
from pipelines.labelled.boxes import BoxesSettings
from pipelines.labelled.classes import LabelledSettings
from pipelines.resources import Resources, check_workers
from pipelines.sources import Source
from pipelines.written import made_settings, read_yaml
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


def load_recipe(path: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML file, with `key=value` changes (as of `--set`) laid over it.

    `path` may also be the bare name of a ready recipe.

    Raises:
        RecipeError: with every fault of the file, each with its key path and, for unknown keys, the nearest valid name.
    """
    return made_recipe(read_yaml(path), changes, path)


def made_recipe(values: Any, changes: Sequence[str], origin: str) -> Recipe:
    """The recipe of plain values, with `key=value` changes laid over them; errors begin with `origin`.

    Raises:
        RecipeError: as `load_recipe` says.
    """
    return made_settings(Recipe, values, changes, origin)


def fingerprint(*parts: Any) -> str:
    """sha256 of settings (models or plain values), 64 hex digits: equal settings, equal fingerprint."""
    plain = [p.model_dump(mode="json") if isinstance(p, BaseModel) else p for p in parts]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
