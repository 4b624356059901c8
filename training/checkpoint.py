"""Everything needed to go on with a training run, in a folder of plain files.

    checkpoint-000012800/    images seen, 9 digits
      generator.safetensors, discriminator.safetensors    weights
      optimisers.npz         Adam's moments and steps; the marks of the epoch at hand
      state.json             all else, and the sha256 of the other files

Random numbers are drawn by counter and the order of samples is a function of the place, so the number of updates stands
for whose turn it is, for the place in the order and for all draws. state.json is written last and deleted first: the
checkpoint exists while it does. Nothing is pickled.
"""

import hashlib
import io
import json
import re
import zipfile
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from safetensors import SafetensorError

from manifests.store import Folder
from training.endings import NotThisTraining
from training.presets import Preset

_FORMAT = 2
_PREFIX = "checkpoint-"
STATE = "state.json"
_WEIGHTS = {"generator": "generator.safetensors", "discriminator": "discriminator.safetensors"}
_ARRAYS = "optimisers.npz"
_MARKS = "marks"

Weights = dict[str, torch.Tensor]
Moments = dict[str, npt.NDArray[Any]]


class DamagedCheckpoint(Exception):
    """A checkpoint can't be read."""


@dataclass
class Checkpoint:
    """The state of a run after `update` updates.

    generator, discriminator: the networks' weights, on the CPU; generator_adam, discriminator_adam: `PARAMETER/step`,
    `PARAMETER/exp_avg`, `PARAMETER/exp_avg_sq`; marks: uint8[samples], of the epoch at hand (`training.proof`);
    order: the identity of the order of samples;
    state: plain values that other parts of a training keep.
    """

    update: int
    images_seen: int
    seconds: float
    seed: int
    samples: int
    preset: dict[str, Any]
    precision: str
    generator: Weights
    discriminator: Weights
    generator_adam: Moments = field(default_factory=dict)
    discriminator_adam: Moments = field(default_factory=dict)
    marks: npt.NDArray[np.uint8] | None = None
    order: str | None = None
    state: dict[str, Any] = field(default_factory=dict)
    format: int = _FORMAT

    @property
    def name(self) -> str:
        """The folder's name, such as checkpoint-000012800: images seen, 9 digits."""
        return name_of(self.images_seen)


_PLAIN = ("update", "images_seen", "seconds", "seed", "samples", "preset", "precision", "order", "state", "format")


def name_of(images_seen: int) -> str:
    """The folder's name of the checkpoint after so many images."""
    return f"{_PREFIX}{images_seen:09d}"


def check_same_run(
    checkpoint: Checkpoint, preset: Preset, precision: str, seed: int, samples: int, order: str | None = None
) -> None:
    """Raise NotThisTraining if going on from the checkpoint would not be the same run.

    `order`: the identity of the order of samples, if it is known.
    """
    wanted = preset.model_dump() | {"precision": precision, "seed": seed, "samples": samples}
    had = checkpoint.preset | {
        "precision": checkpoint.precision,
        "seed": checkpoint.seed,
        "samples": checkpoint.samples,
    }
    for key in wanted | had:
        if had.get(key) != wanted.get(key):
            raise NotThisTraining(
                f"{checkpoint.name} was trained with {key}={had.get(key)}, now {key}={wanted.get(key)}; "
                "set it back, or train into an empty folder"
            )
    if None not in (order, checkpoint.order) and order != checkpoint.order:
        raise NotThisTraining(
            f"{checkpoint.name} was trained with another window_samples, or on shards of other sizes; "
            "set them back, or train into an empty folder"
        )


def names(folder: Folder) -> list[str]:
    """The finished checkpoints in a folder, oldest first."""
    found = [name for name in folder.folders() if images_of(name) >= 0 and folder.child(name).exists(STATE)]
    return sorted(found, key=images_of)


def images_of(name: str) -> int:
    """The images seen that a checkpoint's name says; -1 where it isn't one."""
    # By number: names of a thousand million images have a digit more.
    match = re.fullmatch(rf"{_PREFIX}(\d+)", name)
    return int(match[1]) if match else -1


def save(folder: Folder, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint and delete all but the last `keep`."""
    own = folder.child(checkpoint.name)
    own.delete(STATE)  # where one of the same name is written again, the old one ends before its files change
    plain = json.loads(json.dumps({key: getattr(checkpoint, key) for key in _PLAIN}))  # as it is now
    files = {name: safetensors.torch.save(getattr(checkpoint, key)) for key, name in _WEIGHTS.items()}
    files[_ARRAYS] = _packed(checkpoint)
    for name, data in files.items():
        own.write_bytes(name, data)
    files[STATE] = _canonical(plain)
    own.write_json(STATE, plain | {"sha256": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}})
    for name in [other for other in names(folder) if other != checkpoint.name][: -keep + 1 or None]:
        delete(folder, name)


def _canonical(plain: dict[str, Any]) -> bytes:
    """What the sha256 of state.json is of: it can't be of the file that holds it."""
    return json.dumps(plain, sort_keys=True).encode()


def delete(folder: Folder, name: str) -> None:
    """Delete a checkpoint; it is no checkpoint any more from the first file on."""
    folder.child(name).delete(STATE)
    folder.child(name).delete_all()


def _packed(checkpoint: Checkpoint) -> bytes:
    arrays = {f"generator/{key}": value for key, value in checkpoint.generator_adam.items()}
    arrays |= {f"discriminator/{key}": value for key, value in checkpoint.discriminator_adam.items()}
    if checkpoint.marks is not None:
        arrays[_MARKS] = checkpoint.marks
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def load(folder: Folder, name: str) -> Checkpoint:
    """Read a checkpoint; tensors come to the CPU.

    Raises:
        DamagedCheckpoint: a file is cut short, altered or absent; the message names the checkpoint before it.
    """
    own = folder.child(name)
    try:
        return _read(own)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, zipfile.BadZipFile) as error:
        before = [other for other in names(folder) if images_of(other) < images_of(name)]
        advice = f"delete it to go on from {before[-1]}" if before else "delete it to start from the beginning"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedCheckpoint(f"{own} is not a whole checkpoint ({reason}); {advice}") from error


def _read(own: Folder) -> Checkpoint:
    plain = own.read_json(STATE)
    if plain["format"] != _FORMAT:
        raise ValueError(f"its format is {plain['format']}, this version reads {_FORMAT}")
    digests = plain.pop("sha256")
    files = {}
    for file, sha256 in digests.items():
        files[file] = own.read_bytes(file) if file != STATE else _canonical(plain)
        if hashlib.sha256(files[file]).hexdigest() != sha256:
            raise ValueError(f"{file} has another sha256 than {STATE} says")
    if STATE not in digests:
        raise ValueError(f"{STATE} has no sha256 of itself")
    weights = {key: safetensors.torch.load(files[file]) for key, file in _WEIGHTS.items()}
    moments: dict[str, Moments] = {"generator": {}, "discriminator": {}}
    marks = None
    with np.load(io.BytesIO(files[_ARRAYS]), allow_pickle=False) as arrays:
        for key in arrays.files:
            network, _, rest = key.partition("/")
            if key == _MARKS:
                marks = arrays[key]
            else:
                moments[network][rest] = arrays[key]
    return Checkpoint(
        **plain,
        generator=weights["generator"],
        discriminator=weights["discriminator"],
        generator_adam=moments["generator"],
        discriminator_adam=moments["discriminator"],
        marks=marks,
    )


def preset_of(folder: Folder, name: str) -> Preset:
    """The settings that a checkpoint's networks were built from; its weights are not read.

    Raises:
        DamagedCheckpoint: state.json can't be read.
    """
    try:
        return Preset.model_validate(folder.child(name).read_json(STATE)["preset"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedCheckpoint(f"{folder.child(name)}/{STATE} can't be read ({error}); name another one") from error


def load_latest(folder: Folder) -> Checkpoint | None:
    """The last checkpoint in a folder; None where there is none."""
    found = names(folder)
    return load(folder, found[-1]) if found else None


class CheckpointWriter:
    """Writes checkpoints behind the training's back, one at a time. A context manager: leaving waits for the last.

    An error of writing is raised by the next `save`, or on leaving.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writing: Future[None] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if kind is None:
            self.wait()

    def save(self, folder: Folder, checkpoint: Checkpoint, keep: int) -> None:
        """Begin to write a checkpoint, once the one before is written."""
        self.wait()
        self._writing = self._thread.submit(save, folder, checkpoint, keep)

    def wait(self) -> None:
        """Return when all is written."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()
