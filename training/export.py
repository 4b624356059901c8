"""A checkpoint's networks as files for other programs: plain safetensors, ONNX, and a card that says what they are."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from manifests.store import Folder
from training.checkpoint import Checkpoint
from training.draws import Stream, one_hot
from training.networks import BatchNorm, Discriminator, Generator, reference_statistics
from training.presets import Preset
from training.samples import REFERENCE_IMAGES, Statistics, fixed_z, load_discriminator, load_generator

Measured = dict[str, tuple[Tensor, Tensor]]
"""Mean and biased variance by the name of the batch norm."""

IMPORTED = "imported"  # stands in the state of checkpoints that no training of ours wrote
FILES = ("generator.safetensors", "discriminator.safetensors", "generator.onnx", "discriminator.onnx", "README.md")

_OWN = "batch: each batch's own"
_OF_BATCHES = {
    "generator": "G's batch norm takes the statistics of the batch at hand, as in training: give batches of 64 or "
    "more; what comes out for one z depends on the others.",
    "discriminator": "D's batch norm takes the statistics of the batch at hand, as in training, where real and "
    "generated images came in batches of their own: give batches of 64 or more of one kind; an image's logit depends "
    "on the others.",
}
_STANDING = {
    "generator": "G's batch norm has fixed statistics (`*_norm.running_mean`, `*_norm.running_var`, the biased "
    "variance), so each z is treated by itself. Training used each batch's own.",
    "discriminator": "**D's batch norm has the fixed statistics of real images, which it never had in training:** "
    "there each batch, real or generated, had its own. Logits are not those of training, and what is unlike the real "
    "images, such as noise, may get any logit, also a high one. Compare images like those that D was trained on, and "
    "nothing else; or export with `--statistics batch`.",
}


class ExportError(Exception):
    """A checkpoint that can't be exported as asked."""


def export(
    checkpoint: Checkpoint,
    out: Folder,
    statistics: Statistics,
    real: Tensor | None = None,
    labels: npt.NDArray[np.int64] | None = None,
) -> None:
    """Write both networks as safetensors and ONNX, and README.md, which says how to use them.

    With `standing`, G's batch norm has the statistics of one batch of 512 fixed z, and D's those of `real`. They stand
    in the safetensors as NAME_norm.running_mean and running_var, the biased one, and are constants in ONNX. With
    `batch`, and in D without `real`, primitive operations compute each batch's own in any runtime: fixed to generated
    images, D takes noise for real (on the authors' SVHN networks +40.6, its own samples -5.4; by batches -18.4, -5.5).

    real: float32[N, C, size_px, size_px], -1..1, or None; labels: theirs, int64[N], where the preset has classes.

    Raises:
        ExportError: the package onnx is not installed, or weights are not finite.
    """
    onnx_bytes = _onnx_writer()
    preset = Preset.model_validate(checkpoint.preset)
    generator, discriminator = load_generator(checkpoint).eval(), load_discriminator(checkpoint).eval()
    of_generator: Measured = {}
    of_discriminator: Measured = {}
    if statistics == "standing":
        z = torch.from_numpy(fixed_z(preset, checkpoint.seed, REFERENCE_IMAGES, Stream.FILL))
        of_generator = measured(generator, z)
        told = () if labels is None else (torch.from_numpy(one_hot(labels, preset.classes)),)
        of_discriminator = measured(discriminator, real, *told) if real is not None else {}
    imported = checkpoint.state.get(IMPORTED)
    about = {
        "preset": preset.name,
        "images_seen": f"{checkpoint.images_seen:,}" if imported is None else f"not known: {IMPORTED}",
        "seed": str(checkpoint.seed),
        "generator_statistics": f"standing: of {REFERENCE_IMAGES} z" if of_generator else _OWN,
        "discriminator_statistics": f"standing: of {len(real)} training images"
        if of_discriminator and real is not None
        else _OWN,
        **(imported if isinstance(imported, dict) else {}),
    }
    metadata = {"about": json.dumps(about)}  # one entry: several come in a new order in every file
    networks: tuple[tuple[Generator | Discriminator, Measured], ...] = (
        (generator, of_generator),
        (discriminator, of_discriminator),
    )
    for name, (network, fixed) in zip(("generator", "discriminator"), networks, strict=True):
        tensors = {key: value.to(torch.float32).contiguous() for key, value in network.state_dict().items()}
        for norm, (mean, variance) in fixed.items():
            tensors |= {f"{norm}.running_mean": mean.contiguous(), f"{norm}.running_var": variance.contiguous()}
        strange = [key for key, value in tensors.items() if not value.isfinite().all()]
        if strange:
            raise ExportError(
                f"{checkpoint.name}: {strange[0]} of the {name} is not finite; take an earlier checkpoint"
            )
        out.write_bytes(f"{name}.safetensors", safetensors.torch.save(tensors, metadata=metadata))
        out.write_bytes(f"{name}.onnx", onnx_bytes(network.plan, tensors, preset, about))
    out.write_bytes("README.md", card(preset, about).encode())


def measured(network: Generator | Discriminator, *batch: Tensor) -> Measured:
    """The statistics that `batch` has in the batch norms of a network: see `networks.reference_statistics`."""
    found: Measured = {}
    with torch.no_grad(), reference_statistics(network, *batch):
        for name, module in network.named_modules():
            if isinstance(module, BatchNorm) and module.fixed is not None:
                mean, variance = module.fixed
                found[name] = (mean.clone(), variance.clone())
    return found


def _onnx_writer() -> Any:
    try:
        from training.onnx_graph import onnx_bytes
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != "onnx":
            raise
        raise ExportError(
            "dcgan export writes ONNX with the package onnx, which is not installed; "
            "pip install 'dcgan-pipeline[export]'"
        ) from error
    return onnx_bytes


def card(preset: Preset, about: dict[str, str]) -> str:
    """README.md of the folder."""
    side, channels = preset.size_px, preset.image_channels
    colours = "RGB" if channels == 3 else "grey"
    draw = "torch.rand(64, {0}) * 2 - 1" if preset.z_distribution == "uniform" else "torch.randn(64, {0})"
    numpy_draw = "rng.uniform(-1, 1, (64, {0}))" if preset.z_distribution == "uniform" else "rng.normal(size=(64, {0}))"
    z_range = "uniform in -1..1" if preset.z_distribution == "uniform" else "normal, deviation 1"
    changed = preset.model_dump(exclude={"name"}, exclude_defaults=True)
    settings = ", ".join(f"{key}={value!r}" for key, value in changed.items())
    made = f"float32[N, {channels}, {side}, {side}], {colours}, -1..1"
    origin = "".join(f"| {of} | {about[of]} |\n" for of in ("origin", "licence") if of in about)
    given = f"Preset(name={preset.name!r}{', ' if settings else ''}{settings})"
    z_of_torch, classes = draw.format(preset.z_dim), preset.classes
    told = fed = one_hot_line = y_of_torch = ""
    seen = "images"
    if classes:
        told, fed = f"; labels: int64[N], 0..{classes - 1}", f', "labels": np.arange(64) % {classes}'
        one_hot_line = f"y = torch.nn.functional.one_hot(torch.arange(64) % {classes}, {classes}).float()\n"
        seen = "images, labels"
        z_of_torch, y_of_torch = f"torch.cat([{z_of_torch}, y], 1)", ", y"
    notes = "\n\n".join(
        (_OF_BATCHES if about[f"{of}_statistics"] == _OWN else _STANDING)[of] for of in ("generator", "discriminator")
    )
    return f"""# DCGAN, preset {preset.name}

| | |
|---|---|
| images seen | {about["images_seen"]} |
| seed | {about["seed"]} |
{origin}| G's batch norm | {about["generator_statistics"]}; eps {preset.norm_eps:g} |
| D's batch norm | {about["discriminator_statistics"]}; eps {preset.norm_eps:g} |
| generator | z: float32[N, {preset.z_dim}], {z_range}{told} -> images: {made} |
| discriminator | {seen}, as above -> logits: float32[N]; positive: real. Sigmoid gives D(x) |

{notes}

Source: Radford, Metz, Chintala 2016, arXiv 1511.06434.

## ONNX

```python
import numpy as np, onnxruntime
rng = np.random.default_rng(0)
generator = onnxruntime.InferenceSession("generator.onnx")
(images,) = generator.run(None, {{"z": {numpy_draw.format(preset.z_dim)}.astype(np.float32){fed}}})
discriminator = onnxruntime.InferenceSession("discriminator.onnx")
(logits,) = discriminator.run(None, {{"images": images{fed}}})
```

## safetensors

`training` is a module of dcgan-pipeline, the program that wrote this card; run it where that is installed.

```python
import torch
from safetensors.torch import load_file
from training.networks import Discriminator, Generator
from training.presets import Preset

preset = {given}


def loaded(network, file):
    weights = load_file(file)
    network.load_state_dict({{k: v for k, v in weights.items() if ".running_" not in k}})
    for name, norm in network.named_children():
        if f"{{name}}.running_mean" in weights:
            norm.set_statistics(weights[f"{{name}}.running_mean"], weights[f"{{name}}.running_var"])
    return network.eval()


generator = loaded(Generator(preset), "generator.safetensors")
discriminator = loaded(Discriminator(preset), "discriminator.safetensors")
{one_hot_line}with torch.no_grad():
    images = generator({z_of_torch})
    logits = discriminator(images{y_of_torch})
```
"""
