"""What settings name and use, asked before any work begins: files that are not there are refused."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel

from training.evaluation.measured import Unmeasurable


def check_there(named: Mapping[str, str | None], inside_tar: bool = False, hint: str = "check the path") -> None:
    """Check what settings name, by the setting's name; None is nothing to look for.

    inside_tar: a path may go on inside a tar, as in cifar10.tar.gz/train
    hint: what to do about one that isn't there

    Raises:
        Unmeasurable: a path is a URI, or isn't there; with every such fault.
    """
    faults = []
    for setting, path in named.items():
        if path is None:
            continue
        at = Path(path)
        if "://" in path:
            faults.append(
                f"{setting}={path} is a URI, and measurements read local or mounted files: copy it, and name the copy"
            )
        elif not at.exists() and not (inside_tar and any(above.is_file() for above in at.parents)):
            faults.append(f"{setting}={path} is not there; {hint}")
    if faults:
        raise Unmeasurable("; ".join(faults))


def not_default(settings: BaseModel, names: Sequence[str]) -> list[str]:
    """Those of the settings that are not left as they are: a recipe that a run wrote names all of them."""
    return [name for name in names if getattr(settings, name) != type(settings).model_fields[name].default]
