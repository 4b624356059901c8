"""Taking measurements: which networks, with what beside them, and where figures and pictures go."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from dedup.autoencoder import ENCODER_FILE
from manifests.store import Folder
from pipelines.measurements import MEASUREMENTS, Given, Readiness
from pipelines.measurements.given import DATASET
from pipelines.measurements.unfinished import Unfinished
from pipelines.recipe import EvaluateSettings, MeasurementName, fingerprint
from pipelines.sources import SourceError
from pipelines.yunet import ModelError
from training import checkpoint
from training.evaluation.measured import Measured, Subject, Unmeasurable
from training.presets import Preset
from training.reading import DamagedShard
from training.samples import png

# What keeps one measurement from being taken, and no other.
FAULTS = (Unmeasurable, SourceError, ModelError, DamagedShard)
CHECKPOINTS = "checkpoints"
_LARGE_BYTES = 64 << 20  # of larger files, such as tars of pictures, the size counts alone


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
        """Raise Unmeasurable, with every fault, where something that a measurement needs isn't there.

        Without a name of a checkpoint, which is still to be trained, nothing is compared with it.
        """
        state = (lambda: self._state) if self.name else None
        ready = Readiness(preset, self.settings, self.shards is not None, self.codes is not None, self.seed, state)
        faults = []
        for name in names:
            try:
                MEASUREMENTS[name].check(ready)
            except Unmeasurable as fault:
                faults.append(f"{name}: {fault}")
        if faults:
            raise Unmeasurable("\n".join(faults))

    def finished(self, out: Folder) -> list[MeasurementName]:
        """The measurements that `out` holds, or says can't be taken, of these networks, shards, settings and seed."""
        told = {name: out.read_json(_file(name)) for name in found(out)}
        return [name for name, one in told.items() if one.get("identity") == self.identity(name, one.get("files", {}))]

    def left(self, out: Folder, names: Sequence[MeasurementName], redo: bool = False) -> list[MeasurementName]:
        """Those of the measurements that are to be taken: all with `redo`, else those that `out` doesn't hold yet.

        Raises:
            Unmeasurable: `out` holds, of any name, one of other networks or seed; or of these names one with other
                settings, files or shards.
        """
        strange = [name for name in found(out) if out.read_json(_file(name)).get("subject") != self.subject_identity]
        if strange:
            raise Unmeasurable(f"{out} holds {', '.join(strange)} of another checkpoint or seed; name another folder")
        if redo:
            return list(names)
        done = self.finished(out)
        changed = [name for name in found(out) if name in names and name not in done]
        if changed:
            raise Unmeasurable(
                f"{out} holds {', '.join(changed)} taken with other settings, files or shards; take them "
                "again with --redo, or name another folder"
            )
        return [name for name in names if name not in done]

    @cached_property
    def subject_identity(self) -> str:
        """What all measurements depend on: the weights and the seed."""
        weights = self.folder.child(self.name).read_json(checkpoint.STATE).get("sha256")
        return fingerprint(weights, self.seed)

    def identity(self, name: MeasurementName, before: Mapping[str, str] | None = None) -> str:
        """What figures depend on: the subject, the settings, the files that these name, and the run's.

        before: what files held when a measurement was taken, by path; of one that isn't there any more it counts
        """
        measurement = MEASUREMENTS[name]
        settings, contents = self._used(name), [held for _, held in self._files(name, before)]
        encoder = self._encoder if measurement.codes else None
        shards = self._dataset if measurement.shards else None
        return fingerprint(name, self.subject_identity, settings, contents, encoder, shards)

    def _used(self, name: MeasurementName) -> dict[str, Any]:
        return self.settings.model_dump(mode="json", include={name, *MEASUREMENTS[name].reads})

    def _files(self, name: MeasurementName, before: Mapping[str, str] | None = None) -> list[tuple[str, str]]:
        return list(_contents(self._used(name), before or {}))

    @cached_property
    def _dataset(self) -> Any:
        return self.shards.read_json(DATASET) if self.shards is not None and self.shards.exists(DATASET) else None

    @cached_property
    def _encoder(self) -> str | None:
        there = self.codes is not None and self.codes.exists(ENCODER_FILE)
        return _sha256(self.codes.read_bytes(ENCODER_FILE)) if there and self.codes is not None else None

    @cached_property
    def _state(self) -> checkpoint.Checkpoint:
        # Once: a training that goes on may delete it while the first measurement is taken.
        return checkpoint.load(self.folder, self.name)

    def take(self, name: MeasurementName, out: Folder, say: Callable[[str], None]) -> str:
        """Take one measurement, write its files, and return a sentence with what came out and the time.

        Raises:
            Unmeasurable: the networks or what was given don't permit it, and never will; that is written down in the
                place of figures, and counts as finished.
            SourceError, ModelError, DamagedShard: a file can't be read; nothing is written.
        """
        began, identity = time.perf_counter(), self.identity(name)
        subject = Subject(self._state, self.seed, torch.device("cuda" if self.gpu else "cpu"), say)
        unfinished = Unfinished(out, name, identity)
        of = {"identity": identity, "subject": self.subject_identity, "files": dict(self._files(name))}
        try:
            measured = MEASUREMENTS[name].take(Given(subject, self.settings, self.shards, self.codes, unfinished))
        except Unmeasurable as fault:
            write_fault(out, name, str(fault), subject, of)
            raise
        write(out, name, measured, subject, of)
        unfinished.delete()
        return f"{measured.says} ({time.perf_counter() - began:,.1f} s)"


def write(out: Folder, name: MeasurementName, measured: Measured, subject: Subject, of: Mapping[str, Any]) -> None:
    """Write a measurement's pictures, NAME.png and NAME-KEY.png, and then NAME.json, which says that it is finished.

    Those of an earlier take are deleted first: with other settings it may have had more pictures.

    of: what the figures depend on, as `Evaluation` says it.
    """
    delete(out, name)
    files: dict[str, str] = {}
    for key, picture in measured.pictures.items():
        files[key] = f"{name}-{key}.png" if files else f"{name}.png"
        out.write_bytes(files[key], png(picture))
    told = {
        "says": measured.says,
        "paper": measured.paper,
        "statistics": measured.statistics,
        "figures": dict(measured.figures),
        "settings": dict(measured.settings),
        "pictures": [{"file": file, "caption": measured.captions.get(key)} for key, file in files.items()],
    }
    out.write_json(_file(name), _described(name, subject) | told | dict(of))


def write_fault(out: Folder, name: MeasurementName, fault: str, subject: Subject, of: Mapping[str, Any]) -> None:
    """Write a NAME.json that says why a measurement can't be taken, in the place of any that was."""
    delete(out, name)
    out.write_json(_file(name), _described(name, subject) | {"fault": fault} | dict(of))


def _described(name: MeasurementName, subject: Subject) -> dict[str, Any]:
    return {
        "measurement": name,
        "title": MEASUREMENTS[name].title,
        "seed": subject.seed,
        "preset": subject.preset.name,
        "checkpoint": subject.checkpoint.name,
        "images_seen": subject.checkpoint.images_seen,
    }


def found(out: Folder) -> list[MeasurementName]:
    """The measurements whose files are in a folder."""
    there = set(out.names())
    return [name for name in MEASUREMENTS if _file(name) in there]


def faults(out: Folder) -> dict[MeasurementName, str]:
    """Those in a folder that can't be taken, each with why."""
    told = {name: out.read_json(_file(name)) for name in found(out)}
    return {name: one["fault"] for name, one in told.items() if one.get("fault")}


def delete(out: Folder, name: MeasurementName) -> None:
    """Delete a measurement's files; the JSON, which says that it is finished, first."""
    out.delete(_file(name))
    for file in out.names():
        if file == f"{name}.png" or (file.startswith(f"{name}-") and file.endswith(".png")):
            out.delete(file)


def _contents(settings: Any, before: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Path and sha256 of each file that settings name: lists, tables and choices of one's own, which are small.

    before: what one held that isn't there, so that figures stay finished once their sources are put away
    """
    if isinstance(settings, dict | list):
        for value in settings.values() if isinstance(settings, dict) else settings:
            yield from _contents(value, before)
    elif isinstance(settings, str) and os.path.isfile(settings):
        size_bytes = os.path.getsize(settings)
        large = size_bytes > _LARGE_BYTES
        yield settings, f"{size_bytes} bytes" if large else _sha256(Path(settings).read_bytes())
    elif isinstance(settings, str) and settings in before and not os.path.exists(settings):
        yield settings, before[settings]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def latest_preset(training: Folder) -> tuple[str, Preset] | None:
    """Name and preset of a training's last checkpoint; None where there is none. No weights are read."""
    folder = training.child(CHECKPOINTS)
    names = checkpoint.names(folder)
    return (names[-1], checkpoint.preset_of(folder, names[-1])) if names else None


def _file(name: MeasurementName) -> str:
    return f"{name}.json"
