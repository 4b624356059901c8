"""Samples against real images as distributions: patches, variety, manifolds, and Inception's features where given."""

from typing import Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from training.draws import Stream, philox
from training.evaluation.inception import NOT_GIVEN, frechet_and_kernel
from training.evaluation.manifolds import PrecisionRecall, precision_recall
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.evaluation.pairs import stacked
from training.evaluation.spaces import feature_space
from training.likeness import Yardstick
from training.networks import Discriminator, build
from training.samples import Images, fixed_z, generate, grid, labelled

LEAST_IMAGES = 64
SPACES = {
    "fresh": "of an untrained discriminator: its convolutions with the weights that training begins with",
    "own": "of the trained discriminator, which learnt to tell such samples from real images and so judges them hard",
}
_NOISE = 1
_SHOWN = 12


class DistributionSettings(BaseModel):
    """How distributions are compared."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    images: int = Field(default=1000, ge=LEAST_IMAGES, description="samples, and real images of each set, at most")
    neighbours: int = Field(default=3, ge=1, description="k of the manifolds of precision and recall")
    reference_images: int = Field(
        default=512, ge=16, description="real images whose statistics the discriminator's batch norm uses"
    )
    inception_weights: str | None = Field(
        default=None, description="file with torch-fidelity's Inception weights for FID and KID; none: left out"
    )


def distribution(
    subject: Subject, real: Images, control: Images, settings: DistributionSettings, control_is: str = "held-out images"
) -> Measured:
    """How far the distribution of samples is from that of real images, beside sets that are known to be near or far.

    Four sets of equally many images are held against the same real ones: samples; other real images, as good as samples
    can be; these blurred; and noise. Of each: the sliced Wasserstein distance of patches at each scale, how alike pairs
    are at several scales, precision and recall in two spaces of features, and FID and KID where weights are given.
    Precision says nothing without recall: smooth pictures lie in the middle of photos, within many of the balls that
    reach out to the odd ones, so photos blurred are more precise than photos, and recall none of them.

    real, control: uint8[N, H, W, C], N the same and 64 or more; control_is: what they are, in a few words.

    Raises:
        Unmeasurable: too few images, not equally many, or FID was asked for and can't be had.

    Source: Karras et al. 2018 (patches); Odena et al. 2017 (pairs); Kynkaanniemi et al. 2019 (precision, recall).
    Departs: precision and recall there are in the features of a VGG that was trained on photos; Naeem et al. 2020 find
    those of networks with random weights as telling where pictures are unlike photos, and those need no download.
    """
    if len(real) != len(control) or len(real) < LEAST_IMAGES:
        raise Unmeasurable(
            f"{len(real)} real images and {len(control)} others: distribution takes equally many, {LEAST_IMAGES} or "
            "more; name a run with more images"
        )
    images = len(real)
    z = fixed_z(subject.preset, subject.seed, images, Stream.DISTRIBUTION)
    sets = {
        "samples": generate(subject.generator, z, "standing", subject.seed),
        "control": control,
        "blurred": _blurred(control),
        "noise": _noise(control.shape, subject.seed),
    }
    subject.say(f"distribution: patches and pairs of {images:,} images")
    yardstick = Yardstick(real, subject.seed)
    measured = {name: yardstick.measure(pictures) for name, pictures in sets.items()}
    figures: dict[str, dict[str, Any]] = {}
    for name, found in measured.items():
        levels = {key: round(found[key], 4) for key in found if key.startswith("swd")}
        of_real = {key: levels.pop(key) for key in ("swd_floor", "swd_flat")}
        of_real["pair_similarity"] = round(found["ms_ssim_real"], 4)
        figures[name] = {"sliced_wasserstein": levels, "pair_similarity": round(found["ms_ssim"], 4)}
    _, fresh = build(subject.preset, subject.checkpoint.seed, subject.device)
    for space, discriminator in (("fresh", fresh.eval()), ("own", subject.discriminator)):
        subject.say(f"distribution: precision and recall, features {SPACES[space]}")
        for name, both in _overlaps(discriminator, real, sets, settings).items():
            figures[name][f"precision_{space}"] = round(both.precision, 4)
            figures[name][f"recall_{space}"] = round(both.recall, 4)
    left_out = {}
    if settings.inception_weights is None:
        left_out = {"fid": NOT_GIVEN, "kid": NOT_GIVEN}
    else:
        for name, pictures in sets.items():
            subject.say(f"distribution: FID and KID, {name}")
            figures[name] |= frechet_and_kernel(
                pictures, real, settings.inception_weights, subject.device, subject.seed
            )
    return Measured(
        says=_sentence(figures, control_is),
        statistics=f"G: standing, of 512 z; D: of {min(settings.reference_images, images)} real images",
        figures={
            "sets": figures,
            "real": of_real,
            "images": images,
            "control": control_is,
            "spaces": SPACES,
            "left_out": left_out,
        },
        settings=settings.model_dump(mode="json"),
        pictures={"sets": _sheet(sets, figures, control_is)},
        captions={"sets": f"Samples, other real images ({control_is}), these blurred, and noise: what is compared."},
        paper=None,
    )


def _overlaps(
    discriminator: Discriminator, real: Images, sets: dict[str, Images], settings: DistributionSettings
) -> dict[str, PrecisionRecall]:
    with feature_space(discriminator, real[: settings.reference_images]) as space:

        def features(images: Images) -> Tensor:
            seen = space.see(images)
            assert isinstance(seen, Tensor)
            return seen

        truth = features(real)
        return {name: precision_recall(truth, features(images), settings.neighbours) for name, images in sets.items()}


def _blurred(images: Images) -> Images:
    """Smoothed by a Gaussian of a 16th of the side: what a generator without detail would show."""
    sigma = images.shape[1] / 16
    return np.stack([cv2.GaussianBlur(image, (0, 0), sigma).reshape(image.shape) for image in images])


def _noise(shape: tuple[int, ...], seed: int) -> Images:
    draw = np.random.Generator(philox(seed, Stream.DISTRIBUTION, _NOISE))
    return draw.integers(0, 256, shape, dtype=np.uint8)


def _sheet(sets: dict[str, Images], figures: dict[str, dict[str, Any]], control_is: str) -> Images:
    blocks = []
    for name, images in sets.items():
        of = figures[name]
        words = (
            f"{control_is if name == 'control' else name}: patches {of['sliced_wasserstein']['swd']:.1f} off, "
            f"precision {of['precision_fresh']:.2f}, recall {of['recall_fresh']:.2f}"
        )
        blocks.append(labelled(grid(images[:_SHOWN], _SHOWN), words))
    return stacked(blocks)


def _sentence(figures: dict[str, dict[str, Any]], control_is: str) -> str:
    def told(*keys: str, digits: int) -> str:
        found = []
        for name in ("samples", "control", "blurred", "noise"):
            value: Any = figures[name]
            for key in keys:
                value = value[key]
            found.append(f"{value:.{digits}f}")
        return f"{found[0]} ({control_is} {found[1]}, these blurred {found[2]}, noise {found[3]})"

    said = (
        f"Sliced Wasserstein distance {told('sliced_wasserstein', 'swd', digits=1)}; in the features of an untrained "
        f"discriminator precision {told('precision_fresh', digits=2)}, recall {told('recall_fresh', digits=2)}"
    )
    return said + (f"; FID {told('fid', digits=1)}." if "fid" in figures["samples"] else ".")
