"""A plan and its weights as an ONNX graph of few, old operations, with a free number of samples.

Written from the plan, not traced from torch: needs the package onnx alone, and gives the same bytes every time.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from training.plan import Layer, Plan
from training.presets import Preset

_OPSET = 17
_IR_VERSION = 8  # the first that opset 17 may be in, so that old runtimes read it
_AXES = {2: [0], 4: [0, 2, 3]}


def onnx_bytes(plan: Plan, tensors: Mapping[str, Tensor], preset: Preset, about: Mapping[str, str]) -> bytes:
    """The bytes of an ONNX file: z -> images of a generator's plan, images -> logits of a discriminator's.

    Where the preset has classes, both take labels too, int64[N].
    Batch norms with NAME.running_mean and NAME.running_var in `tensors` are fixed, others take each batch's statistics.
    """
    data: bytes = onnx_model(plan, tensors, preset, about).SerializeToString(deterministic=True)
    return data


def onnx_model(plan: Plan, tensors: Mapping[str, Tensor], preset: Preset, about: Mapping[str, str]) -> onnx.ModelProto:
    """The graph that `onnx_bytes` serialises, checked."""
    first, last = plan[0], plan[-1]
    generates = last.activation == "tanh"
    given, made = ("z", "images") if generates else ("images", "logits")
    graph = _Graph(tensors, preset)
    x = given
    inputs = [helper.make_tensor_value_info(given, TensorProto.FLOAT, ["batch", *first.in_shape])]
    y = None
    if preset.classes:
        inputs.append(helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch"]))
        depth = graph.constant("classes", np.array(preset.classes, np.int64))
        y = graph.add("OneHot", ["labels", depth, graph.constant("off_on", np.array([0, 1], np.float32))], axis=-1)
    for layer in plan:
        x = graph.add_layer(layer, x, y, of_two=layer is last and layer.out_units == 2)
    if not generates:
        x = graph.add("Reshape", [x, graph.constant("one_logit", np.array([-1], np.int64))])
    graph.add("Identity", [x], made)
    shape: list[str | int | None] = ["batch", *last.out_shape] if generates else ["batch"]
    proto = helper.make_graph(
        graph.nodes,
        f"{preset.name} {'generator' if generates else 'discriminator'}",
        inputs,
        [helper.make_tensor_value_info(made, TensorProto.FLOAT, shape)],
        graph.constants,
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    helper.set_model_props(model, dict(about))
    onnx.checker.check_model(model, full_check=True)
    return model


class _Graph:
    """Nodes and constants as they are added; every value is named after the layer that makes it."""

    def __init__(self, tensors: Mapping[str, Tensor], preset: Preset) -> None:
        self.tensors, self.preset = tensors, preset
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, operation: str, inputs: list[str], name: str | None = None, **attributes: Any) -> str:
        made = name or f"{operation.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, inputs, [made], name=made, **attributes))
        return made

    def constant(self, name: str, value: Any) -> str:
        if not any(held.name == name for held in self.constants):
            self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def weights(self, name: str) -> Any:
        return self.tensors[name].detach().cpu().numpy().astype(np.float32)

    def add_layer(self, layer: Layer, x: str, y: str | None, of_two: bool) -> str:
        norm = layer.norm
        if layer.kind == "dense" and layer.in_px > 1:
            x = self.add("Flatten", [x], axis=1)
        if y is not None:
            x = self.add_label(layer, x, y)
        if layer.kind == "dense":
            weights = self.weights(f"{layer.name}.weight").T
            if of_two:  # the logit of two outputs, generated and real, is their difference
                weights = weights[:, 1:] - weights[:, :1]
            x = self.add("MatMul", [x, self.constant(f"{layer.name}.weight", weights)])
            if norm == "units":
                x, norm = self.add_norm(layer, x, 2), "none"
            if layer.out_px > 1:
                x = self.add_reshape(f"{layer.name}.shape", x, layer.out_shape)
        else:
            if layer.in_px == 1:
                x = self.add_reshape(f"{layer.name}.shape", x, (layer.entering, 1, 1))
            x = self.add_convolution(layer, x)
        if norm != "none":
            x = self.add_norm(layer, x, 2 if layer.out_px == 1 else 4)
        return self.add_activation(layer, x)

    def add_label(self, layer: Layer, x: str, y: str) -> str:
        if layer.kind != "dense" and layer.in_px > 1:
            side = self.constant(f"{layer.name}.side", np.array([1, 1, layer.in_px, layer.in_px], np.int64))
            y = self.add("Expand", [self.add_reshape("label.shape", y, (layer.labels, 1, 1)), side])
        return self.add("Concat", [x, y], axis=1)

    def add_reshape(self, name: str, x: str, shape: tuple[int, ...]) -> str:
        return self.add("Reshape", [x, self.constant(name, np.array([-1, *shape], np.int64))])

    def add_convolution(self, layer: Layer, x: str) -> str:
        weights = self.constant(f"{layer.name}.weight", self.weights(f"{layer.name}.weight"))
        attributes: dict[str, Any] = {
            "kernel_shape": [layer.kernel] * 2,
            "strides": [layer.stride] * 2,
            "pads": [layer.padding] * 4,
        }
        if layer.kind == "deconv":
            attributes["output_padding"] = [layer.output_padding] * 2
        return self.add("Conv" if layer.kind == "conv" else "ConvTranspose", [x, weights], **attributes)

    def add_norm(self, layer: Layer, x: str, axes: int) -> str:
        key = f"{layer.name}_norm"
        if f"{key}.running_mean" in self.tensors:
            names = [f"{key}.{of}" for of in ("weight", "bias", "running_mean", "running_var")]
            held = [self.constant(name, self.weights(name)) for name in names]
            return self.add("BatchNormalization", [x, *held], epsilon=self.preset.norm_eps)
        shape = (-1,) + (1,) * (axes - 2)
        gain = self.constant(f"{key}.weight", self.weights(f"{key}.weight").reshape(shape))
        bias = self.constant(f"{key}.bias", self.weights(f"{key}.bias").reshape(shape))
        eps = self.constant("norm_eps", np.array(self.preset.norm_eps, np.float32))
        mean = self.add("ReduceMean", [x], axes=_AXES[axes], keepdims=1)
        centred = self.add("Sub", [x, mean])
        variance = self.add("ReduceMean", [self.add("Mul", [centred, centred])], axes=_AXES[axes], keepdims=1)
        deviation = self.add("Sqrt", [self.add("Add", [variance, eps])])
        scaled = self.add("Mul", [self.add("Div", [centred, deviation]), gain])
        return self.add("Add", [scaled, bias])

    def add_activation(self, layer: Layer, x: str) -> str:
        if layer.activation == "relu":
            return self.add("Relu", [x])
        if layer.activation == "leaky_relu":
            return self.add("LeakyRelu", [x], alpha=self.preset.leak)
        return self.add("Tanh", [x]) if layer.activation == "tanh" else x
