"""Everything needed to go on with a training run.

Both networks, both optimisers, how many updates were made, the preset and the seed. Random numbers are drawn by counter
and the order of samples is a function of the place, so the number of updates stands for whose turn it is, for the place
in the order and for all draws.
"""

import io
import pickle
import zipfile
from dataclasses import asdict, dataclass
from typing import Any

import torch

from manifests.store import Folder
from training.adversarial import Players
from training.presets import Preset

_FORMAT = 1
_PREFIX, _SUFFIX = "checkpoint-", ".pt"


class DamagedCheckpoint(Exception):
    """A checkpoint file can't be read."""


@dataclass
class Checkpoint:
    """The state of a run after `update` updates. `position` is the next place in the stream of samples."""

    update: int
    images_seen: int
    position: int
    seconds: float
    seed: int
    samples: int
    preset: dict[str, Any]
    generator: dict[str, torch.Tensor]
    discriminator: dict[str, torch.Tensor]
    generator_adam: dict[str, Any]
    discriminator_adam: dict[str, Any]
    format: int = _FORMAT

    @property
    def name(self) -> str:
        """The file's name, such as checkpoint-000012800.pt: images seen, 9 digits."""
        return f"{_PREFIX}{self.images_seen:09d}{_SUFFIX}"


def of_players(players: Players, preset: Preset, seed: int, samples: int, update: int, seconds: float) -> Checkpoint:
    """The checkpoint of a run. It refers to the players' tensors: save it before the next update."""
    images_seen = update * preset.batch_images
    return Checkpoint(
        update=update,
        images_seen=images_seen,
        position=images_seen,
        seconds=seconds,
        seed=seed,
        samples=samples,
        preset=preset.model_dump(),
        generator=players.generator.state_dict(),
        discriminator=players.discriminator.state_dict(),
        generator_adam=players.generator_adam.state_dict(),
        discriminator_adam=players.discriminator_adam.state_dict(),
    )


def check_same_run(checkpoint: Checkpoint, preset: Preset, seed: int, samples: int) -> None:
    """Raise ValueError if going on from the checkpoint would not be the same run."""
    wanted = preset.model_dump() | {"seed": seed, "samples": samples}
    had = checkpoint.preset | {"seed": checkpoint.seed, "samples": checkpoint.samples}
    for key, value in wanted.items():
        if had.get(key) != value:
            raise ValueError(
                f"{checkpoint.name} was trained with {key}={had.get(key)}, now {key}={value}; "
                "set it back, or train into an empty folder"
            )


def restore(checkpoint: Checkpoint, players: Players) -> None:
    """Give the players the checkpoint's weights and optimisers."""
    players.generator.load_state_dict(checkpoint.generator)
    players.discriminator.load_state_dict(checkpoint.discriminator)
    players.generator_adam.load_state_dict(checkpoint.generator_adam)
    players.discriminator_adam.load_state_dict(checkpoint.discriminator_adam)


def names(folder: Folder) -> list[str]:
    """The checkpoints in a folder, oldest first."""
    found = [name for name in folder.names() if name.startswith(_PREFIX) and name.endswith(_SUFFIX)]
    return sorted(found, key=_images_seen)


def _images_seen(name: str) -> int:
    # By number: names of a thousand million images have a digit more.
    digits = name.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    return int(digits) if digits.isdecimal() else -1


def save(folder: Folder, checkpoint: Checkpoint, keep: int) -> None:
    """Write a checkpoint, atomically, and delete all but the last `keep`."""
    buffer = io.BytesIO()
    torch.save(asdict(checkpoint), buffer)
    folder.write_bytes(checkpoint.name, buffer.getvalue())
    for name in names(folder)[:-keep]:
        folder.delete(name)


def load(folder: Folder, name: str) -> Checkpoint:
    """Read a checkpoint; tensors come to the CPU. Nothing but tensors and plain values is unpickled.

    Raises:
        DamagedCheckpoint: the file is cut short or altered; the message names the one before it.
    """
    data = folder.read_bytes(name)
    try:
        _check_members(data)
        return Checkpoint(**torch.load(io.BytesIO(data), map_location="cpu", weights_only=True))
    except (
        RuntimeError,
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
    ) as error:
        before = [other for other in names(folder) if _images_seen(other) < _images_seen(name)]
        advice = f"delete it to go on from {before[-1]}" if before else "delete it to start from the beginning"
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DamagedCheckpoint(f"{folder}/{name} is not a whole checkpoint ({reason}); {advice}") from error


def load_latest(folder: Folder) -> Checkpoint | None:
    """The last checkpoint in a folder; None where there is none."""
    found = names(folder)
    return load(folder, found[-1]) if found else None


def _check_members(data: bytes) -> None:
    """Raise BadZipFile if a member's CRC is wrong: torch itself doesn't look, and would give altered weights."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
