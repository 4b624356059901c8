"""The authors' released networks, as arrays in the order of their layers, turned into ours."""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from training.plan import Layer, Plan, discriminator_plan, generator_plan
from training.presets import Preset

ORIGIN = "arrays that the paper's authors released with their code, https://github.com/Newmu/dcgan_code"
LICENCE = "MIT, as the authors' code"

Array = npt.NDArray[np.float32]


class AuthorsError(ValueError):
    """A file that doesn't hold the arrays of a preset's network."""


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of an npz file by name, in order of name, numbers within names by value; nothing is unpickled.

    Raises:
        AuthorsError: it is no npz, is damaged, or holds something other than finite real numbers.
    """
    arrays: dict[str, Array] = {}
    try:
        with open(path, "rb") as file:
            held = np.load(file, allow_pickle=False)
            if not isinstance(held, np.lib.npyio.NpzFile):
                raise AuthorsError(f"{path} holds one array, not the several of an npz; save them with numpy.savez")
            for name in sorted(held.files, key=_by_number):
                arrays[name] = np.asarray(held[name])
    except AuthorsError:
        raise
    except (ValueError, EOFError, OSError, zipfile.BadZipFile) as error:
        raise AuthorsError(f"{path} can't be read as an npz without pickles ({error}); fetch it again") from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise AuthorsError(f"{path}: array {name} ({array.dtype}) must hold finite real numbers; fetch it again")
    return arrays


def generator_weights(preset: Preset, arrays: Mapping[str, Array], origin: str = "generator") -> dict[str, Tensor]:
    """The state of `networks.Generator(preset)` from the authors' arrays.

    Raises:
        AuthorsError: the arrays' number or shapes are not the preset's.
    """
    return _weights(preset, generator_plan(preset), arrays, origin)


def discriminator_weights(
    preset: Preset, arrays: Mapping[str, Array], origin: str = "discriminator"
) -> dict[str, Tensor]:
    """The state of `networks.Discriminator(preset)` from the authors' arrays.

    Raises:
        AuthorsError: the arrays' number or shapes are not the preset's.
    """
    return _weights(preset, discriminator_plan(preset), arrays, origin)


def _weights(preset: Preset, plan: Plan, arrays: Mapping[str, Array], origin: str) -> dict[str, Tensor]:
    """By layer: the weights, then the gains and the biases of its batch norm, if it has one."""
    wanted: list[tuple[str, Layer, tuple[int, ...]]] = []
    for layer in plan:
        stored = layer.weight_shape[::-1] if layer.kind == "dense" else layer.weight_shape
        wanted.append((f"{layer.name}.weight", layer, stored))
        if layer.norm != "none":
            wanted += [(f"{layer.name}_norm.{of}", layer, (layer.norm_features,)) for of in ("weight", "bias")]
    if len(arrays) != len(wanted):
        raise AuthorsError(
            f"{origin}: expected the {len(wanted)} arrays of preset {preset.name}, got {len(arrays)}; "
            "check the file and the preset"
        )
    state = {}
    for (name, array), (key, layer, shape) in zip(_in_order(arrays), wanted, strict=True):
        if array.shape != shape:
            raise AuthorsError(
                f"{origin}: array {name} should be {key} of preset {preset.name}, shape {shape}, but has "
                f"{array.shape}; check the file, the preset and the order of the two files"
            )
        state[key] = torch.from_numpy(_as_torch(layer, array))
    return state


def _in_order(arrays: Mapping[str, Array]) -> list[tuple[str, Array]]:
    return [(name, arrays[name]) for name in sorted(arrays, key=_by_number)]


def _by_number(name: str) -> tuple[list[str | int], str]:
    """numpy.savez names arrays arr_0 ... arr_10, which as text comes before arr_2."""
    parts = re.split(r"(\d+)", name)  # text and numbers by turns, so like is compared with like
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def _as_torch(layer: Layer, array: Array) -> Array:
    """Dense weights are stored as [in, out]; kernels for true convolution, which torch's is not: both sides flipped."""
    if array.ndim == 2 and layer.kind == "dense":
        array = array.T
    if array.ndim == 4:
        array = array[:, :, ::-1, ::-1]
    return np.ascontiguousarray(array, dtype=np.float32)
