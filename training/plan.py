"""A preset's networks as lists of layers: the one home of all shapes, parameters and costs."""

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from training.presets import Preset

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Layer:
    """One layer with weights, and the batch norm and nonlinearity after it. A side of 1 px is a vector.

    `name` is the key of its weights: dense1.weight, dense1_norm.weight, dense1_norm.bias.
    """

    name: str
    kind: Literal["dense", "conv", "deconv"]
    inside: int
    outside: int
    in_px: int
    out_px: int
    kernel: int
    stride: int
    norm: Literal["none", "units", "channels"]
    activation: Literal["none", "relu", "leaky_relu", "tanh"]
    labels: int = 0  # values of a one-hot label that join what enters: more values of a vector, more maps of an image

    @property
    def padding(self) -> int:
        """Zeros on each border; none where the whole image becomes one pixel, or grows from one."""
        return 0 if 1 in (self.in_px, self.out_px) else (self.kernel - 1) // 2

    @property
    def output_padding(self) -> int:
        """Rows and columns more that make a deconvolution of stride 2 with an odd kernel exactly double the side."""
        return self.kernel % 2 if self.kind == "deconv" and self.stride == 2 else 0

    @property
    def in_shape(self) -> Shape:
        """The shape of one sample before the layer: (channels,) or (channels, height, width)."""
        return (self.inside,) if self.in_px == 1 else (self.inside, self.in_px, self.in_px)

    @property
    def out_shape(self) -> Shape:
        """The shape of one sample after the layer: (channels,) or (channels, height, width)."""
        return (self.outside,) if self.out_px == 1 else (self.outside, self.out_px, self.out_px)

    @property
    def in_units(self) -> int:
        """Values of one sample before the layer."""
        return self.inside * self.in_px**2

    @property
    def out_units(self) -> int:
        """Values of one sample after the layer."""
        return self.outside * self.out_px**2

    @property
    def entering(self) -> int:
        """What the weights are applied to, with the label: values where it is dense, else channels."""
        return (self.in_units if self.kind == "dense" else self.inside) + self.labels

    @property
    def weight_shape(self) -> Shape:
        """As torch keeps them: dense [out, in], conv [out, in, k, k], deconv [in, out, k, k]."""
        if self.kind == "dense":
            return (self.out_units, self.entering)
        ends = (self.outside, self.entering) if self.kind == "conv" else (self.entering, self.outside)
        return (*ends, self.kernel, self.kernel)

    @property
    def norm_features(self) -> int:
        """How many means and variances the batch norm has; 0 without one."""
        return {"none": 0, "units": self.out_units, "channels": self.outside}[self.norm]

    @property
    def weights(self) -> int:
        """Trained values without batch norm's."""
        first, second, *kernel = self.weight_shape
        return first * second * (kernel[0] ** 2 if kernel else 1)

    @property
    def parameters(self) -> int:
        """Trained values: weights, and batch norm's gains and biases."""
        return self.weights + 2 * self.norm_features

    @property
    def flops(self) -> int:
        """Floating-point operations of the weights, forward, for one sample: 2 for each multiply-add.

        At the borders the products with padding count too; batch norm and nonlinearities don't.
        """
        places = {"dense": 1, "conv": self.out_px**2, "deconv": self.in_px**2}[self.kind]
        return 2 * self.weights * places


Plan = tuple[Layer, ...]


def start_px(preset: Preset) -> int:
    """The side at which the generator begins and the discriminator ends: 4, or 7 for 28 px."""
    return preset.size_px >> len(preset.widths)


def generator_plan(preset: Preset) -> Plan:
    """The generator's layers, from z to the image. Batch norm and ReLU after all but the last, which has tanh.

    Source: Radford et al. 2016, figure 1; the authors' ImageNet code for `stacked`.
    """
    px = start_px(preset)
    first = preset.widths[0]
    vector = preset.architecture == "torch-4x4"
    ends: list[tuple[int, int, int]] = []  # inside, outside, stride
    if preset.architecture == "stacked":
        for inside, outside in pairwise((*preset.widths, preset.image_channels)):
            ends += [(inside, inside, 2), (inside, outside, 1)]
    else:
        ends = [(inside, outside, 2) for inside, outside in pairwise((*preset.widths, preset.image_channels))]
    layers = [
        Layer(
            name="deconv1" if vector else "dense1",
            kind="deconv" if vector else "dense",
            inside=preset.z_dim,
            outside=first,
            in_px=1,
            out_px=px,
            kernel=px if vector else 1,
            stride=1,
            norm=preset.first_norm,
            activation="relu",
        )
    ]
    for number, (inside, outside, stride) in enumerate(ends, 2):
        last = number == len(ends) + 1
        layers.append(
            Layer(
                name=f"deconv{number}",
                kind="deconv",
                inside=inside,
                outside=outside,
                in_px=px,
                out_px=px * stride,
                kernel=preset.kernel,
                stride=stride,
                norm="none" if last else "channels",
                activation="tanh" if last else "relu",
            )
        )
        px *= stride
    return _told(preset, layers)


def discriminator_plan(preset: Preset) -> Plan:
    """The discriminator's layers, from the image to the logits. Batch norm after all but the first and last.

    `mnist` has it after both convolutions, a dense layer of 1024 at width 64, and two outputs, generated and real.

    Source: Radford et al. 2016, section 3; the authors' ImageNet code for `stacked`.
    """
    px: int = preset.size_px
    mnist = preset.architecture == "mnist"
    widths = preset.widths[::-1]
    ends: list[tuple[int, int, int]] = []
    if preset.architecture == "stacked":
        for inside, outside in pairwise((preset.image_channels, *widths)):
            ends += [(inside, outside, 1), (outside, outside, 2)]
    else:
        ends = [(inside, outside, 2) for inside, outside in pairwise((preset.image_channels, *widths))]
    layers = []
    for number, (inside, outside, stride) in enumerate(ends, 1):
        layers.append(
            Layer(
                name=f"conv{number}",
                kind="conv",
                inside=inside,
                outside=outside,
                in_px=px,
                out_px=px // stride,
                kernel=preset.kernel,
                stride=stride,
                norm="channels" if number > 1 or mnist else "none",
                activation="leaky_relu",
            )
        )
        px //= stride
    if mnist:
        hidden = 16 * preset.width
        layers.append(_dense(len(layers) + 1, widths[-1], px, hidden, "leaky_relu"))
        layers.append(_dense(len(layers) + 1, hidden, 1, 2, "none"))
    elif preset.architecture == "torch-4x4":
        number = len(layers) + 1
        layers.append(Layer(f"conv{number}", "conv", widths[-1], 1, px, 1, px, 1, "none", "none"))
    else:
        layers.append(_dense(len(layers) + 1, widths[-1], px, 1, "none"))
    return _told(preset, layers)


def _told(preset: Preset, layers: list[Layer]) -> Plan:
    """The layers, each told the label. Source: the authors' conditional MNIST code."""
    return tuple(replace(layer, labels=preset.classes) for layer in layers)


def _dense(number: int, inside: int, in_px: int, outside: int, activation: Literal["none", "leaky_relu"]) -> Layer:
    return Layer(f"dense{number}", "dense", inside, outside, in_px, 1, 1, 1, "none", activation)
