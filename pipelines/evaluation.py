"""Taking measurements: which networks, with what beside them, and where figures and pictures go."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from manifests.store import Folder
from pipelines.measurements import MEASUREMENTS, Given, Readiness
from pipelines.recipe import EvaluateSettings, MeasurementName, fingerprint
from training import checkpoint
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.presets import Preset
from training.samples import png

CHECKPOINTS = "checkpoints"
_DATASET = "dataset.json"


@dataclass(frozen=True)
class Evaluation:
    """The networks of one checkpoint, and what they are measured with.

    folder, name: where the checkpoint lies
    shards, codes: a run's folders of these names, or shards alone, or neither
    seed: of all that measurements draw by chance
    """

    folder: Folder
    name: str
    settings: EvaluateSettings
    seed: int
    shards: Folder | None = None
    codes: Folder | None = None
    gpu: bool = False

    def check(self, preset: Preset, names: Sequence[MeasurementName]) -> None:
        """Raise Unmeasurable, with every fault, where something that a measurement needs isn't there."""
        ready = Readiness(preset, self.settings, self.shards is not None, self.codes is not None)
        faults = []
        for name in names:
            try:
                MEASUREMENTS[name].check(ready)
            except Unmeasurable as fault:
                faults.append(f"{name}: {fault}")
        if faults:
            raise Unmeasurable("\n".join(faults))

    def left(self, out: Folder, names: Sequence[MeasurementName]) -> list[MeasurementName]:
        """Those of the measurements that `out` doesn't hold yet.

        Raises:
            Unmeasurable: it holds one of other networks, shards, settings or seed.
        """
        done = finished(out, names)
        others = [name for name in done if out.read_json(_file(name)).get("identity") != self.identity(name)]
        if others:
            raise Unmeasurable(
                f"{out} holds {', '.join(others)} of another checkpoint, seed, shards or settings; "
                "name another folder, or take them again with --redo"
            )
        return [name for name in names if name not in done]

    def identity(self, name: MeasurementName) -> str:
        """What a measurement's figures depend on: the weights, the shards, the settings and the seed."""
        weights = self.folder.child(self.name).read_json(checkpoint.STATE).get("sha256")
        shards = self.shards.read_json(_DATASET) if self.shards is not None and self.shards.exists(_DATASET) else None
        fields = {name, *MEASUREMENTS[name].reads}
        settings = self.settings.model_dump(mode="json", include=fields)
        return fingerprint(name, weights, shards, settings, self.seed)

    def take(self, name: MeasurementName, out: Folder, say: Callable[[str], None]) -> str:
        """Take one measurement, write its files, and return a sentence with what came out and the time."""
        state = checkpoint.load(self.folder, self.name)
        began = time.perf_counter()
        subject = Subject(state, self.seed, torch.device("cuda" if self.gpu else "cpu"), say)
        measured = MEASUREMENTS[name].take(Given(subject, self.settings, self.shards, self.codes))
        write(out, name, measured, subject, self.identity(name))
        return f"{measured.says} ({time.perf_counter() - began:,.1f} s)"


def write(out: Folder, name: MeasurementName, measured: Measured, subject: Subject, identity: str) -> None:
    """Write a measurement's pictures, NAME.png and NAME-KEY.png, and then NAME.json, which says that it is finished."""
    files: dict[str, str] = {}
    for key, picture in measured.pictures.items():
        files[key] = f"{name}-{key}.png" if files else f"{name}.png"
        out.write_bytes(files[key], png(picture))
    told = _described(name, measured, subject, files)
    out.write_json(_file(name), told | {"identity": identity})


def _described(name: MeasurementName, measured: Measured, subject: Subject, files: dict[str, str]) -> dict[str, Any]:
    return {
        "measurement": name,
        "title": MEASUREMENTS[name].title,
        "says": measured.says,
        "paper": measured.paper,
        "statistics": measured.statistics,
        "figures": dict(measured.figures),
        "settings": dict(measured.settings),
        "seed": subject.seed,
        "preset": subject.preset.name,
        "checkpoint": subject.checkpoint.name,
        "images_seen": subject.checkpoint.images_seen,
        "pictures": [{"file": file, "caption": measured.captions.get(key)} for key, file in files.items()],
    }


def finished(out: Folder, names: Sequence[MeasurementName]) -> list[MeasurementName]:
    """Those of the measurements whose files are written."""
    there = set(out.names())
    return [name for name in names if _file(name) in there]


def latest_preset(training: Folder) -> tuple[str, Preset] | None:
    """Name and preset of a training's last checkpoint; None where there is none. No weights are read."""
    folder = training.child(CHECKPOINTS)
    names = checkpoint.names(folder)
    return (names[-1], checkpoint.preset_of(folder, names[-1])) if names else None


def _file(name: MeasurementName) -> str:
    return f"{name}.json"
