"""What the discriminator's features are worth to a linear classifier, in a table with its controls."""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
from pydantic import Field, field_validator

from training.draws import Stream, philox
from training.evaluation import supervised, svhn
from training.evaluation.bars import bar_chart
from training.evaluation.copies import equal_to
from training.evaluation.features import Features, extract, reference_batch, standardise
from training.evaluation.kmeans import KMeansSettings, fit_patches
from training.evaluation.linear import Few, LinearSettings, Row, Split, check_choosing, classify, few_of
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.evaluation.noise import NoiseSettings, train_on_noise
from training.evaluation.paper import published
from training.evaluation.protocol import ProtocolSettings
from training.evaluation.supervised import SupervisedSettings
from training.networks import Discriminator, build
from training.samples import Images

RowName = Literal["trained", "random", "noise", "kmeans", "pixels", "supervised"]
ROWS: tuple[RowName, ...] = get_args(RowName)

_LEAST_VARIANCE = 1e-6  # random weights' features deviate by hundredths: Coates's 0.01 would leave them small
_SAYS = {
    "trained": "D's features",
    "random": "D with the random weights that its training began with",
    "noise": "D trained on noise",
    "kmeans": "one layer of K-means on patches",
    "pixels": "raw pixels",
    "supervised": "D's convolutions trained on the labels",
}


class FeaturesSettings(LinearSettings):
    """How the discriminator's features, and what they are set against, are measured."""

    rows: tuple[RowName, ...] = Field(default=ROWS, description="rows of the table; trained and random always are")
    train_images: int | None = Field(
        default=None, ge=20, description="labelled training images to use, drawn by the seed; none: all"
    )
    test_images: int | None = Field(default=None, ge=1, description="test images to use, likewise; none: all")
    reference_images: int = Field(
        default=512, ge=16, description="training images whose statistics the batch norm of every feature uses"
    )
    scaling: Literal["none", "standard"] = Field(
        default="none",
        description="of the discriminator's features: none, as the paper's; standard: each to mean 0 and deviation 1",
    )
    storage: Literal["float32", "float16"] = Field(
        default="float32", description="of the discriminator's features in memory: 60,000 x 28,672 are 6.9 or 3.4 GB"
    )
    curve_images: int = Field(default=10_000, ge=20, description="training images for each point of a learning curve")
    kmeans: KMeansSettings = Field(default_factory=KMeansSettings, description="The row kmeans")
    noise: NoiseSettings = Field(default_factory=NoiseSettings, description="The row noise")
    supervised: SupervisedSettings = Field(default_factory=SupervisedSettings, description="The row supervised")
    svhn: ProtocolSettings | None = Field(
        default_factory=ProtocolSettings,
        description="The paper's procedure on SVHN, for the rows trained and random of labelled.kind=svhn; none: not",
    )

    @field_validator("rows")
    @classmethod
    def _with_control(cls, rows: tuple[RowName, ...]) -> tuple[RowName, ...]:
        if missing := {"trained", "random"} - set(rows):
            raise ValueError(f"rows={list(rows)} leaves out {', '.join(sorted(missing))}; trained and random stay")
        return tuple(name for name in ROWS if name in rows)


def features_table(
    subject: Subject,
    split: Split,
    settings: FeaturesSettings,
    finished: Mapping[str, Row] | None = None,
    keep: Callable[[Row], None] | None = None,
) -> Measured:
    """How well a linear SVM tells classes apart by the discriminator's features, and by what they are set against.

    finished: rows of an earlier, interrupted measurement of the same; they are not measured again
    keep: is given each row as it is ready

    Raises:
        Unmeasurable: the pictures are not of the network's size, or too few for `per_class` or SVHN's procedure.

    Source: Radford et al. 2016, section 5.1, table 1; the controls but K-means and supervised are ours.
    """
    labelled = split.train
    split = split.part(settings.train_images, settings.test_images, subject.seed)
    _check(subject, split, settings)
    repeated = int(equal_to(split.test, labelled).sum())
    if repeated == len(split.test):
        raise Unmeasurable(
            f"all {repeated} test images are training images too, so nothing would be tested; set "
            "evaluate.labelled.test to others"
        )
    done = dict(finished or {})
    for name in settings.rows:
        if name not in done:
            began = time.monotonic()
            done[name] = replace(_row(name, subject, split, settings), seconds=round(time.monotonic() - began, 1))
            if keep is not None:
                keep(done[name])
    return _measured([done[name] for name in settings.rows], subject, split, settings, repeated)


def _check(subject: Subject, split: Split, settings: FeaturesSettings) -> None:
    preset = subject.preset
    wanted = (preset.size_px, preset.size_px, preset.image_channels)
    for images in (split.train, split.test):
        if images.shape[1:] != wanted:
            raise Unmeasurable(f"the labelled pictures are {images.shape[1:]}, the network takes {wanted}")
    most = max(settings.per_class, default=2)
    if split.fewest < max(most, 2):
        raise Unmeasurable(
            f"per_class={most} asks for more labels of a class than the smallest has, {split.fewest}; "
            "set features.per_class lower, or features.train_images higher"
        )
    check_choosing(split, settings, subject.seed)
    if split.known == "svhn" and settings.svhn is not None:
        svhn.check_procedure(split, settings.svhn, subject.seed)


def _row(name: RowName, subject: Subject, split: Split, settings: FeaturesSettings) -> Row:
    if name == "supervised":
        return _supervised(subject, split, settings)
    train, test = _features(name, subject, split, settings)
    row = classify(name, _SAYS[name], train, test, split, settings, subject.seed, subject.say)
    if split.known != "svhn" or settings.svhn is None or name not in svhn.ROWS:
        return row
    subject.say(f"{name}: the paper's procedure with {settings.svhn.labels:,} labels")
    return replace(row, procedure=svhn.by_procedure(train, test, split, settings.svhn, subject.seed))


def _features(name: RowName, subject: Subject, split: Split, settings: FeaturesSettings) -> tuple[Features, Features]:
    if name == "pixels":
        train, test = (x.reshape(len(x), -1).astype(np.float32) / 127.5 - 1 for x in (split.train, split.test))
        return train, test
    if name == "kmeans":
        patches = fit_patches(split.train, settings.kmeans, subject.seed, subject.say)
        train, test = patches.features(split.train, subject.say), patches.features(split.test, subject.say)
        standardise(train, test)  # as its source does
        return train, test
    return discriminator_features(_discriminator(name, subject, settings), split, settings, subject.seed, subject.say)


def _discriminator(name: RowName, subject: Subject, settings: FeaturesSettings) -> Discriminator:
    if name == "trained":
        return subject.discriminator
    seed = subject.checkpoint.seed  # the weights that the training began with
    device = subject.device
    if name == "noise":
        return train_on_noise(subject.preset, seed, settings.noise, device, subject.say)
    return build(subject.preset, seed, device)[1].eval()


def discriminator_features(
    discriminator: Discriminator, split: Split, settings: FeaturesSettings, seed: int, say: Callable[[str], None]
) -> tuple[Features, Features]:
    """The pooled features of a split's training and test images, scaled as set.

    Batch norm has the statistics of some training images, drawn by the seed, in both.
    """
    reference = reference_batch(split.train, settings.reference_images, seed)
    train = extract(discriminator, split.train, reference, say, settings.storage)
    test = extract(discriminator, split.test, reference, say, settings.storage)
    if settings.scaling == "standard":
        standardise(train, test, smallest_variance=_LEAST_VARIANCE)
    return train, test


def _supervised(subject: Subject, split: Split, settings: FeaturesSettings) -> Row:
    own, classes, preset = settings.supervised, len(split.classes), subject.preset
    device = subject.device
    reference = reference_batch(split.train, settings.reference_images, subject.seed)
    found = supervised.search(
        preset,
        split.train,
        split.train_labels,
        classes,
        own,
        settings.validation_share,
        subject.seed,
        device,
        subject.say,
    )

    def tested(images: Images, labels: supervised.Labels, epochs: int, seed: int) -> float:
        network = supervised.train(preset, images, labels, classes, found.best, epochs, seed, device, subject.say)
        return supervised.accuracy(network, split.test, split.test_labels, reference)

    accuracy = tested(split.train, split.train_labels, own.epochs, subject.seed)
    few: dict[str, Few] = {}
    for k in settings.per_class if own.few_draws else ():
        reached = []
        for number in range(own.few_draws):
            draw = np.random.Generator(philox(subject.seed, Stream.SEARCH, 5, number))
            rows = [draw.choice(np.flatnonzero(split.train_labels == x), k, replace=False) for x in range(classes)]
            drawn = np.concatenate(rows)
            reached.append(tested(split.train[drawn], split.train_labels[drawn], own.few_epochs, subject.seed + number))
        few[str(k)] = few_of(np.array(reached), chosen_with=len(split.train) // classes)
    return Row(
        "supervised", _SAYS["supervised"], supervised.last_units(preset), round(accuracy, 4), few, trials=found.tried
    )


def _measured(rows: list[Row], subject: Subject, split: Split, settings: FeaturesSettings, repeated: int) -> Measured:
    by_name, paper = {row.name: row for row in rows}, published(split.known)
    words = _SAYS | {"noise": f"D trained on {settings.noise.images:,} images of noise"}
    others = [f"{words[row.name]} {row.accuracy:.1%}" for row in rows if row.name != "trained"]
    told = ". D was told classes in its training; here each image is equally of all" if subject.preset.classes else ""
    by_procedure = {row.name: row.procedure for row in rows if row.procedure}
    told += svhn.told(rows, settings.scaling == "standard")
    undone = [row.name for row in rows if row.converged is False]
    told += f". The fit of {', '.join(undone)} did not converge: the figure may be too low" if undone else ""
    gain = 100 * (by_name["trained"].accuracy - by_name["random"].accuracy)
    figures: dict[str, Any] = {row.name: row.accuracy for row in rows if row.name != "trained"}
    figures = {
        "accuracy": by_name["trained"].accuracy,
        **{f"accuracy_{k}": few.mean for k, few in by_name["trained"].few.items()},
        **figures,
        "points_over_random": round(gain, 2),
        "chance": round(float(np.bincount(split.test_labels).max() / len(split.test_labels)), 4),
        "train_images": len(split.train),
        "test_images": len(split.test),
        "test_images_in_training": repeated,
        "rows": [row.figures() for row in rows],
        **({} if paper is None else {"paper": dict(paper.figures)}),
        **({"svhn_procedure": by_procedure} if by_procedure else {}),
    }
    return Measured(
        says=f"A linear SVM on D's features, after {subject.checkpoint.images_seen:,} images seen, puts "
        f"{by_name['trained'].accuracy:.1%} of {len(split.test):,} test images into their class; "
        f"{', '.join(others)}{told}",
        statistics=f"of {min(settings.reference_images, len(split.train))} labelled training images, for every D alike",
        figures=figures,
        settings=settings.model_dump(mode="json"),
        pictures={"features": bar_chart(rows, split)},
        captions={
            "features": "Test accuracy of a linear classifier on each kind of features; of few labels the mean of the "
            "draws with their deviation, where C was chosen by twice as many labels, and the settings of the row "
            "supervised by all of them. Dashed: the paper's figures"
        },
        paper=None if paper is None else paper.words,
    )
