"""Settings as they are written: YAML with `key=value` changes laid over it, checked as typed settings."""

import difflib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipelines.faults import told

Settings = TypeVar("Settings", bound=BaseModel)


class RecipeError(Exception):
    """A recipe that can't be run; the message lists every fault."""


def ready_recipes() -> dict[str, str]:
    """The recipes that come with the project: name -> YAML text."""
    folder = resources.files("pipelines") / "recipes"
    return {
        item.name.removesuffix(".yaml"): item.read_text("utf-8")
        for item in sorted(folder.iterdir(), key=lambda i: i.name)
        if item.name.endswith(".yaml")
    }


def made_settings(model: type[Settings], values: Any, changes: Sequence[str], origin: str) -> Settings:
    """The settings `model` of plain values, with `key=value` changes laid over them; errors begin with `origin`.

    Raises:
        RecipeError: with every fault, each with its key path and, for unknown keys, the nearest valid name.
    """
    faults = []
    for change in changes:
        try:
            values = _changed(values, change)
        except RecipeError as error:
            faults.append(str(error))
    try:
        settings = model.model_validate(values)
    except ValidationError as error:
        faults += told(error, model)
    if faults:
        lines = "\n".join(f"  {fault}" for fault in faults)
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise RecipeError(f"{origin}: {count}; mend and run again:\n{lines}")
    return settings


class _Loader(yaml.SafeLoader):
    """YAML that refuses a key given twice; plain YAML keeps the last one in silence."""


def _unique_mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    keys = [loader.construct_object(key) for key, _ in node.value]
    for key, (key_node, _) in zip(keys, node.value, strict=True):
        if keys.count(key) > 1:
            raise yaml.MarkedYAMLError(problem=f"{key} is given twice", problem_mark=key_node.start_mark)
    return dict(loader.construct_mapping(node, deep=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_mapping)


def read_yaml(path: str) -> Any:
    ready = ready_recipes()
    if not Path(path).is_file() and path not in ready:
        near = difflib.get_close_matches(Path(path).stem, ready, 1)
        hint = f"did you mean {near[0]}?" if near else f"ready recipes: {', '.join(ready)}"
        raise RecipeError(f"{path}: no such recipe; {hint}")
    try:
        text = Path(path).read_text("utf-8") if Path(path).is_file() else ready[path]
        values = yaml.load(text, Loader=_Loader)  # noqa: S506 - a subclass of SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: expected keys and values at the top, got {type(values).__name__}")
    return values


def _changed(values: Any, change: str) -> Any:
    """`values` with `a.0.b=value` laid over them; what it leads to is checked with all else."""
    key, equals, text = change.partition("=")
    if not equals or not key:
        raise RecipeError(f"--set {change}: expected key=value, such as ingest.image_px=32")
    try:
        value = yaml.load(text, Loader=_Loader) if text else None  # noqa: S506 - a subclass of SafeLoader
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {change}: {text} is not valid YAML") from error
    return _laid(values, key.split("."), value, change)


def _laid(values: Any, keys: list[str], value: Any, change: str) -> Any:
    if not keys:
        return value
    key, rest = keys[0], keys[1:]
    if isinstance(values, list):
        if not key.isdecimal() or int(key) > len(values):
            raise RecipeError(f"--set {change}: {key} is no place in a list of {len(values)}; places count from 0")
        changed = list(values)
        laid = _laid(values[int(key)] if int(key) < len(values) else {}, rest, value, change)
        changed[int(key) : int(key) + 1] = [laid]
        return changed
    if values is not None and not isinstance(values, dict):
        raise RecipeError(f"--set {change}: {key} reaches into {values!r}, which holds no keys")
    below = (values or {}).get(key)
    return {**(values or {}), key: _laid(below, rest, value, change)}
