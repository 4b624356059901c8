"""The imports are what the architecture allows: read from the source, so that an unused path counts too."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("manifests", "dedup", "training", "pipelines")
MAY_IMPORT = {
    "manifests": {"manifests"},
    "dedup": {"dedup", "manifests"},
    "training": {"training", "manifests"},
    "pipelines": set(PACKAGES),
}
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
VAGUE = {"utils", "util", "helpers", "helper", "common", "manager", "managers", "base", "misc", "tools", "stuff"}


def imported(source: str, module: str) -> Iterator[str]:
    """Full names of what a module imports, wherever in it the import stands. `module` is its own full name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = module.split(".")[: -node.level] if node.level else []
            origin = ".".join([*above, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{name.name}" for name in node.names)
        elif isinstance(node, ast.Call) and _called(node) in ("__import__", "import_module") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield name.value


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def _module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    # A package's own name has one level more, so that `from .` inside it means the package itself.
    return ".".join(parts)


def _top_levels(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imported(path.read_text("utf-8"), _module_name(path)) if name}


def test_every_way_to_import_is_seen() -> None:
    source = """
import a.b as c, d
from e.f import g
def later():
    from . import h
    from ..i import j
    import_module("k.l")
if False:
    import importlib; importlib.import_module("m"); __import__("n")
"""
    found = set(imported(source, "pipelines.stages.train"))
    assert {"a.b", "d", "e.f", "e.f.g", "pipelines.stages.h", "pipelines.i.j", "k.l", "m", "n"} <= found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_those_below_it(package: str) -> None:
    wrong = {}
    for path in MODULES:
        if path.relative_to(ROOT).parts[0] == package:
            siblings = _top_levels(path) & {*PACKAGES, "tests", "benchmarks"} - MAY_IMPORT[package]
            if siblings:
                wrong[str(path.relative_to(ROOT))] = sorted(siblings)
    assert not wrong


def test_ray_is_imported_by_pipelines_alone() -> None:
    users = {path.relative_to(ROOT).parts[0] for path in MODULES if "ray" in _top_levels(path)}
    assert users == {"pipelines"}


def test_nothing_unpickles() -> None:
    modules = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    calls: set[str] = set()
    for path in MODULES:
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call):
                function = ast.unparse(node.func)
                if function.split(".")[0] in modules:
                    calls.add(f"{path.relative_to(ROOT)}: {function}")
                named = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                if function == "torch.load" and named.get("weights_only") != "True":
                    calls.add(f"{path.relative_to(ROOT)}: torch.load without weights_only=True")
                if function in ("np.load", "numpy.load") and named.get("allow_pickle", "False") != "False":
                    calls.add(f"{path.relative_to(ROOT)}: {function} that unpickles")
    assert not calls


def test_modules_are_named_after_what_they_hold() -> None:
    names = {path.stem for path in MODULES} | {part for path in MODULES for part in path.relative_to(ROOT).parts[:-1]}
    assert not names & VAGUE


def test_tests_hide_no_package() -> None:
    # A folder tests/dedup/ would be imported in place of the package dedup.
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir()}
    files = {path.stem for path in (ROOT / "tests").glob("*.py")}
    assert not (folders | files) & set(PACKAGES)


def test_settings_are_read_without_what_draws_and_reads_for_measurements() -> None:
    # Every process of a run imports the recipe: what it loads beside is memory many times over.
    asked = "import sys, pipelines.recipe; print(*{'matplotlib', 'scipy.io'} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stdout.split() == []
