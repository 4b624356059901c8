"""Where a preset leaves the paper's text, setting by setting, and whose choice it is then."""

from typing import Any, NamedTuple

from training.presets import PRESETS, Preset

# Every setting's value in the paper, for LSUN and faces; where it is silent, in its authors' code.
_PAPER: dict[str, Any] = {name: getattr(PRESETS["paper-64"], name) for name in Preset.model_fields if name != "name"}
_SILENT_WHY = {
    "first_norm": "the authors' code normalises each unit of G's first layer by itself",
    "norm_eps": "the authors' code",
    "adam_eps": "the usual value, as in the authors' code",
    "beta2": "Adam's usual value; the paper changes beta1 alone",
    "alternate": "the authors' code: even updates train G, odd ones D, each on a fresh batch",
    "weight_decay": "the authors' code adds L2 to the gradients of all parameters",
}
# What a choice is, or whose, whoever makes it; of what is not listed, that it was set so. Numbers are not in it: that
# of a user's own setting is another's by chance at most.
_WHOSE: dict[tuple[str, Any], str] = {
    ("size_px", 28): "MNIST's own side, as a slide review of the paper has it",
    ("size_px", 32): "the paper's side for ImageNet and SVHN",
    ("size_px", 128): "one side more, each as in the paper",
    ("image_channels", 1): "grey images",
    ("z_distribution", "normal"): "the authors' SVHN code, and the widespread port",
    ("architecture", "torch-4x4"): "the widespread port: 4x4 convolutions in place of the dense ends",
    ("architecture", "stacked"): "the authors' ImageNet code: a convolution of stride 1 beside each of stride 2",
    (
        "architecture",
        "mnist",
    ): "a slide review: a hidden dense layer in D, which the paper's guidelines leave out, batch "
    "norm after D's first layer too, and two outputs",
    ("kernel", 3): "the authors' ImageNet code",
    ("kernel", 4): "the widespread port",
    ("first_norm", "channels"): "the widespread port; small batches measure channels better than units",
    ("batch_norm", "per_rank"): "cheaper for many workers; changes D's gradient",
    ("batch_norm", "ghost"): "statistics of a fixed number of images, whatever the batch",
    ("loss", "minimax"): "Goodfellow et al. 2014, equation 1: G's gradient vanishes where D is sure",
    ("loss", "hinge"): "Lim and Ye 2017",
    ("loss", "least-squares"): "Mao et al. 2017",
    ("alternate", "both"): "the widespread ports: D and G learn from each batch",
}
_FOR_TIME = "a small machine's time; fewer channels or images cost less"
_WHOSE_OF_PRESET: dict[tuple[str, str], str] = {
    ("paper-64-narrow", "width"): _FOR_TIME,
    ("paper-64-narrow", "batch_images"): _FOR_TIME,
    ("paper-64-narrow", "learning_rate"): "few updates are made; a larger step shows rooms sooner",
    ("torch-4x4", "width"): "the widespread port",
    ("paper-128", "width"): "so that G begins with the paper's 1024 channels",
    ("torch-4x4", "norm_eps"): "torch's default, as in the widespread port",
    ("torch-4x4", "weight_decay"): "the widespread port",
    ("imagenet-32", "z_dim"): "the authors' ImageNet code",
    ("svhn-32", "width"): "the authors' SVHN code",
    ("svhn-32", "learning_rate"): "the authors' SVHN code",
    ("svhn-32", "batch_images"): "the authors' SVHN code",
    ("mnist-28", "width"): "the review's 64 and 128 channels",
    ("mnist-28-conditional", "width"): "the review's 64 and 128 channels; so has the authors' conditional MNIST code",
    ("mnist-28-conditional", "weight_decay"): "the authors' conditional MNIST code",
}


class Departure(NamedTuple):
    """A setting, its value here and in the paper (None: the paper is silent), and why or whose it is."""

    setting: str
    value: Any
    paper: Any
    why: str


def departures(preset: Preset) -> list[Departure]:
    """Where the preset's settings are not the paper's, or, where the paper is silent, not its authors' code's."""
    found = []
    for setting, paper in _PAPER.items():
        value = getattr(preset, setting)
        if value != paper:
            said = None if setting in _SILENT_WHY else paper
            found.append(Departure(setting, value, said, _why(preset, setting, value)))
    return found


def answers(preset: Preset) -> list[Departure]:
    """What the paper doesn't say and the preset takes from its authors' code."""
    fixed = [
        Departure(
            "batch norm's gains", f"N(1, {preset.deviation:g})", None, "the authors' code; the paper has only weights"
        ),
        Departure("biases", "none beside weights", None, "the authors' code; batch norm has its own, from 0"),
    ]
    return fixed + [
        Departure(setting, value, None, why)
        for setting, why in _SILENT_WHY.items()
        if (value := getattr(preset, setting)) == _PAPER[setting]
    ]


def _why(preset: Preset, setting: str, value: Any) -> str:
    # A preset that stands under its name as it was has reasons of its own; what a user set has none of these.
    own = PRESETS.get(preset.name)
    if own is not None and getattr(own, setting) == value and (preset.name, setting) in _WHOSE_OF_PRESET:
        return _WHOSE_OF_PRESET[preset.name, setting]
    if setting == "classes":
        return (
            "as the paper's appendix on MNIST: the one-hot label joins what enters each layer of both networks. There "
            "G has a dense layer of 1024 more, D one output, no first batch norm and one in its hidden layer, none has "
            "gains and biases, and generated images have the real ones' labels"
        )
    if setting == "ghost_images":
        return "the images of a ghost batch"
    return _WHOSE.get((setting, value), "set so; neither the paper's nor its authors' code's")
