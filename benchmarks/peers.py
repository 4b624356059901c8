"""The other de-duplicators, each as its users run it, in a process and (where it needs one) an environment of its own.

    python benchmarks/peers.py PEER FOLDER OUT.npz    what a process of its own does; OUT gets its pairs

imagededup imports torch and torchvision when it is imported, though its hashes use neither: where they are absent, as
in the environment that is made for it here, that process gets empty stand-ins instead of gigabytes.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

# Only NumPy and the standard library up here: a peer's environment has none of ours.

Hashes = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class Found:
    """What a peer found in a folder.

    first, second: int64[P], places in `files`; distance: float64[P], as the peer has it, smaller is nearer
    hashes: uint64[N, K] of the files, where the peer has such, as it is and (K = 2) mirrored
    encode_s, search_s: from the files to what is compared, and from that to pairs
    """

    files: list[str]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    hashes: Hashes
    encode_s: float
    search_s: float


@dataclass(frozen=True)
class Peer:
    """How a peer is installed and used.

    installs: arguments of `pip install`, one after the other; none where our own environment has all it needs
    largest_distance: of a pair that it calls the same, by its default or its documentation
    has_hashes: whether what it compares are hashes of 64 bits
    """

    installs: Sequence[str]
    environment: str
    largest_distance: float
    has_hashes: bool
    find: Callable[[Path, bool], Found]


def _imagededup(method: str, folder: Path, hashes_only: bool) -> Found:
    sys.meta_path.append(StandIns("torch", "torchvision"))
    from imagededup import methods  # type: ignore[import-not-found, unused-ignore]

    hasher, workers = getattr(methods, method)(verbose=False), _cores()
    began = time.perf_counter()
    encoded = hasher.encode_images(folder, num_enc_workers=workers)
    encode_s = time.perf_counter() - began
    began = time.perf_counter()
    # Its own search is a loop of Python over all files for every file: hours for 60,000.
    near = (
        {}
        if hashes_only
        else hasher.find_duplicates(
            encoding_map=encoded, max_distance_threshold=10, scores=True, num_dist_workers=workers
        )
    )
    search_s = time.perf_counter() - began
    files = sorted(encoded)
    place = {file: i for i, file in enumerate(files)}
    pairs = [(place[a], place[b], score) for a, found in near.items() for b, score in found if place[a] < place[b]]
    hashes = np.array([[int(encoded[file], 16)] for file in files], np.uint64)
    return _found(files, pairs, hashes, encode_s, search_s)


def _fastdup(folder: Path, hashes_only: bool) -> Found:
    if hashes_only:
        raise SystemExit("fastdup has no hashes; only its own search can be run")
    os.environ["SENTRY_OPT_OUT"] = "1"
    import fastdup  # type: ignore[import-not-found, unused-ignore]

    with tempfile.TemporaryDirectory(prefix="fastdup-") as work:
        began = time.perf_counter()
        dataset = fastdup.create(work_dir=work, input_dir=str(folder))
        dataset.run(ccthreshold=0.96, overwrite=True)
        seconds = time.perf_counter() - began
        near = dataset.similarity()
        rows = zip(near["filename_from"], near["filename_to"], near["distance"], strict=True)
        files = sorted(path.name for path in folder.iterdir())
        place = {file: i for i, file in enumerate(files)}
        pairs = [(place[Path(a).name], place[Path(b).name], 1 - similarity) for a, b, similarity in rows]
    return _found(files, pairs, np.empty((len(files), 0), np.uint64), seconds, 0.0)


def _mirrored_phash(folder: Path, hashes_only: bool) -> Found:
    from multiprocessing import get_context

    files = sorted(path.name for path in folder.iterdir())
    began = time.perf_counter()
    with get_context("fork").Pool(_cores()) as pool:
        hashes = np.array(pool.map(_phash_both_ways, [folder / file for file in files], 100), np.uint64)
    encode_s = time.perf_counter() - began
    began = time.perf_counter()
    first, second, distance = near_pairs(hashes, -1 if hashes_only else 8)
    search_s = time.perf_counter() - began
    return Found(files, first, second, distance.astype(np.float64), hashes, encode_s, search_s)


def _phash_both_ways(path: Path) -> tuple[int, int]:
    import imagehash
    import PIL.Image

    with PIL.Image.open(path) as opened:
        image = opened.convert("RGB")
    mirrored = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return int(str(imagehash.phash(image)), 16), int(str(imagehash.phash(mirrored)), 16)


def _phash(folder: Path, hashes_only: bool) -> Found:
    return _imagededup("PHash", folder, hashes_only)


def _dhash(folder: Path, hashes_only: bool) -> Found:
    return _imagededup("DHash", folder, hashes_only)


_IMAGEDEDUP = ("--no-deps imagededup==0.3.3", "pillow numpy scipy scikit-learn PyWavelets matplotlib tqdm")

PEERS: Mapping[str, Peer] = {
    "imagededup pHash <= 10": Peer(_IMAGEDEDUP, "imagededup", 10, True, _phash),
    "imagededup dHash <= 10": Peer(_IMAGEDEDUP, "imagededup", 10, True, _dhash),
    "mirrored pHash <= 8": Peer((), "", 8, True, _mirrored_phash),
    "fastdup >= 0.96": Peer(("fastdup==2.54",), "fastdup", 0.04, False, _fastdup),
}


def run_peer(name: str, folder: Path, environments: Path, hashes_only: bool = False) -> Found | None:
    """What the peer finds in a folder of images; None, and a line on stderr, where it can't be installed.

    environments: where each peer's own environment is, or is made. `hashes_only` leaves out its search.
    """
    python = _python(PEERS[name], environments)
    if python is None:
        return None
    with tempfile.TemporaryDirectory(prefix="peer-") as scratch:
        out = Path(scratch) / "found.npz"
        command = [python, str(Path(__file__).resolve()), name, str(folder.resolve()), str(out)]
        subprocess.run([*command, *["--hashes-only"] * hashes_only], check=True, stdout=sys.stderr, cwd=scratch)
        with np.load(out) as held:
            return Found(
                held["files"].tolist(),
                *(held[column] for column in ("first", "second", "distance", "hashes")),
                *held["seconds"].tolist(),
            )


def near_pairs(hashes: Hashes, most: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """(first, second, distance) of all pairs of rows at most `most` bits apart, by comparing all with all.

    hashes: uint64[N, K]. A pair's distance is that of the first's hash from the nearest of the second's K.
    """
    columns = [np.ascontiguousarray(column) for column in hashes.T]
    none = np.empty(0, np.int64)
    found: list[tuple[npt.NDArray[Any], ...]] = [(none, none, none)]
    for row in range(len(hashes) if most >= 0 else 0):
        apart = np.bitwise_count(columns[0][row] ^ columns[0][row + 1 :])
        for column in columns[1:]:
            apart = np.minimum(apart, np.bitwise_count(columns[0][row] ^ column[row + 1 :]))
        near = np.flatnonzero(apart <= most)
        if len(near):
            found.append((np.full(len(near), row), near + row + 1, apart[near].astype(np.int64)))
    first, second, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, distance


def _found(files: list[str], pairs: list[tuple[int, int, float]], hashes: Hashes, *seconds: float) -> Found:
    columns = np.array(pairs, np.float64).reshape(-1, 3).T
    return Found(files, columns[0].astype(np.int64), columns[1].astype(np.int64), columns[2], hashes, *seconds)


def _cores() -> int:
    return len(os.sched_getaffinity(0))


def _python(peer: Peer, environments: Path) -> str | None:
    """The interpreter to run a peer with; its environment is made where there is none yet."""
    if not peer.installs:
        return sys.executable
    return environment_python(peer.environment, peer.installs, environments)


def environment_python(name: str, installs: Sequence[str], environments: Path) -> str | None:
    """The interpreter of the environment `name`, made where there is none yet; None where something can't be installed.

    installs: arguments of `pip install`, one after the other
    """
    environment = environments / name
    python, installed = environment / "bin" / "python", environment / "installed"
    if not installed.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(environment)], check=True)
        for arguments in installs:
            command = [str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", *arguments.split()]
            if subprocess.run(command, stdout=sys.stderr, check=False).returncode:
                print(f"{name} can't be installed here; it is left out", file=sys.stderr)
                return None
        installed.write_text("\n".join(installs))
    return str(python)


class StandIns(MetaPathFinder, Loader):
    """Empty modules in place of those that can't be imported, of whatever names are asked of them."""

    def __init__(self, *names: str) -> None:
        """`names`: of top modules; those that are there are left as they are."""
        self._names = [name for name in names if not _importable(name)]

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        """A specification of the module, where it is one of these or below one."""
        return ModuleSpec(fullname, self, is_package=True) if fullname.split(".")[0] in self._names else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """The empty module."""
        return _EmptyModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing is run."""


class _AnyName(type):
    def __getattr__(cls, name: str) -> Any:
        return _any(name)


class _Anything(metaclass=_AnyName):
    """Can be called, inherited from and asked for any attribute."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __call__(self, *_: object, **__: object) -> "_Anything":
        return self

    def __getattr__(self, name: str) -> Any:
        return _any(name)


class _EmptyModule(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _any(name)


def _any(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    return _Anything


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a stand-in already
        return False


def main() -> None:
    """Run one peer on one folder, in this process, and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--hashes-only", action="store_true", help="leave out its search for pairs")
    options = parser.parse_args()
    found = PEERS[options.peer].find(options.folder, options.hashes_only)
    np.savez(
        options.out,
        files=np.array(found.files),
        first=found.first,
        second=found.second,
        distance=found.distance,
        hashes=found.hashes,
        seconds=np.array([found.encode_s, found.search_s]),
    )


if __name__ == "__main__":
    main()
