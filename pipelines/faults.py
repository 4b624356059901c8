"""What is wrong with settings: pydantic's errors as lines, each with its key path and a hint."""

import difflib
import types
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

Location = Sequence[int | str]


def told(error: ValidationError, root: type[BaseModel]) -> list[str]:
    """A line for each fault of the values that a `root` was to be made of.

    A value that may be of several types has an error for each, which are one fault.
    """
    found = error.errors(include_url=False)
    # A list without its faulty items may seem too short: the items' own faults are what there is to mend.
    inner = {e["loc"][:depth] for e in found for depth in range(len(e["loc"]))}
    lines: dict[str, str] = {}
    for one in (e for e in found if e["loc"] == () or e["loc"] not in inner):
        key, line = _key_path(one["loc"], root), _fault(one, root)
        if key in lines and len(key.split(".")) < len(one["loc"]):
            first = lines[key].rsplit(" (got ", 1)[0]
            lines[key] = f"{first}, or: {line.removeprefix(f'{key}: ')}"
        else:
            lines[key if key not in lines else line] = line
    return list(lines.values())


def _fault(error: Any, root: type[BaseModel]) -> str:
    place = [str(p) for p in error["loc"]]
    if error["type"] == "extra_forbidden":
        return f"{_key_path(error['loc'], root)}: no such setting; {_hint(place[-1], _valid_names(error['loc'], root))}"
    if error["type"] in ("union_tag_invalid", "union_tag_not_found"):
        given = error["ctx"].get("tag")
        what = "Field required" if given is None else f"no such kind (got {given!r})"
        kinds = [str(_kind(model)) for model in _tagged(error["loc"], root)]
        return f"{_key_path(error['loc'], root)}.kind: {what}; {_hint(str(given), kinds)}"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = "" if isinstance(given, dict | list | tuple) or error["type"] == "missing" else f" (got {given!r})"
    return f"{_key_path(error['loc'], root) or 'settings'}: {message}{shown}"


def _tagged(location: Location, root: type[BaseModel]) -> list[type[BaseModel]]:
    """The models of the union that lies at a place."""
    current: Any = root
    for step in location:
        current = _below(current, step)[0]
    return _models(current)


def _hint(given: str, names: list[str]) -> str:
    near = difflib.get_close_matches(given, names, 1, cutoff=0.5)
    return f"did you mean {near[0]}?" if near else f"valid here: {', '.join(names)}"


def _steps(location: Location, root: type[BaseModel]) -> Iterator[tuple[int | str, Any]]:
    """The steps of an error's place that are keys of the file, each with the model it is a key of."""
    current: Any = root
    for step in location:
        current, is_key, owner = _below(current, step)
        if is_key:
            yield step, owner


def _below(annotation: Any, step: int | str) -> tuple[Any, bool, Any]:
    """(what lies at `step`, whether the step is a key of the file, the model that it was a key of)."""
    if get_origin(annotation) is Annotated:
        return _below(get_args(annotation)[0], step)
    models = _models(annotation)
    if isinstance(step, int):
        return next(iter(get_args(annotation)), Any), True, None
    for model in models:
        if step in model.model_fields:
            return model.model_fields[step].annotation, True, model
    kinds = {_kind(model): model for model in models}
    if len(models) > 1 and step in kinds:  # pydantic's mark of which member of a union it tried
        return kinds[step], False, None
    if not models and get_origin(annotation) in (Union, types.UnionType):
        return Any, False, None
    return Any, True, models[0] if len(models) == 1 else None


def _models(annotation: Any) -> list[type[BaseModel]]:
    if get_origin(annotation) is Annotated:
        return _models(get_args(annotation)[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for member in get_args(annotation) for model in _models(member)]
    return []


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    return get_args(field.annotation)[0] if field is not None else None


def _valid_names(location: Location, root: type[BaseModel]) -> list[str]:
    owners = [owner for _, owner in _steps(location, root)]
    return sorted(owners[-1].model_fields) if owners and owners[-1] is not None else []


def _key_path(location: Location, root: type[BaseModel]) -> str:
    return ".".join(str(step) for step, _ in _steps(location, root))
