"""Whether the files that settings name are there: asked before any work begins."""

from collections.abc import Mapping
from pathlib import Path

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
