"""What a grouping of a planted set is worth: recall, precision and pairs that are wrong, by known truth."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from benchmarks.peers import PEERS, Found
from benchmarks.planted import Planted
from manifests import images

TRUE_REPEATS = Path(__file__).with_name("true_repeats.json")

Rows = npt.NDArray[np.int64]
Repeats = Mapping[str, str]
"""The first 16 hex digits of a file's sha256 -> a name for the picture, of all files that show one with others."""

_DIGITS = 16


@dataclass(frozen=True)
class Grouping:
    """What a system made of a folder: the group of each file, and of each file the one that stays for it."""

    group_of: dict[str, str]
    keeper_of: dict[str, str]


def group_pairs(planted: Planted, found: Found, largest_distance: float) -> Grouping:
    """The connected components of a peer's pairs; of each the file of most pixels, then bytes, then first name stays.

    Peers leave it to their user which to keep, so they get the rule that ours goes by.
    """
    near = found.distance <= largest_distance
    edges = (np.ones(int(near.sum()), np.bool_), (found.first[near], found.second[near]))
    count, labels = connected_components(coo_array(edges, shape=(len(found.files),) * 2), directed=False)
    keepers: dict[int, tuple[int, int, str]] = {}
    in_group = np.bincount(labels, minlength=count)[labels] > 1
    for file, label, shared in zip(found.files, labels.tolist(), in_group.tolist(), strict=True):
        rank = (*_size(planted.folder / file), file) if shared else (0, 0, file)
        keepers[label] = min(keepers.get(label, rank), rank)
    group_of = {file: str(label) for file, label in zip(found.files, labels.tolist(), strict=True)}
    return Grouping(group_of, {file: keepers[int(label)][2] for file, label in group_of.items()})


def _size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    header = images.read_header(data, images.Limits())
    return -header.width * header.height, -len(data)


def true_origins(planted: Planted, repeats: Repeats) -> dict[str, str]:
    """The photo that each file shows; of photos that are true repeats of each other, the first."""
    photo_of: dict[str, str] = {}
    digest_of = dict(zip(planted.files, planted.sha256, strict=True))
    return {
        file: photo_of.setdefault(picture_of(digest_of[source], repeats), source)
        for file, source in zip(planted.files, planted.sources, strict=True)
    }


def picture_of(sha256: str, repeats: Repeats) -> str:
    """A name for the picture that a file of these bytes shows; true repeats have the same."""
    return repeats.get(sha256[:_DIGITS], sha256)


def score(planted: Planted, grouping: Grouping, origins: Mapping[str, str]) -> dict[str, Any]:
    """recall, precision, largest_group and by_change of one grouping of a planted set; `wrong`: the wrong removals."""
    found: Counter[str] = Counter()
    of_change = Counter(change for change in planted.changes if change is not None)
    for file, source, change in zip(planted.files, planted.sources, planted.changes, strict=True):
        group = grouping.group_of.get(file)
        if change is not None and group is not None and group == grouping.group_of.get(source):
            found[change] += 1
    removed = [(file, keeper) for file, keeper in grouping.keeper_of.items() if file != keeper]
    wrong = [[file, keeper] for file, keeper in removed if origins[file] != origins[keeper]]
    return {
        "recall": found.total() / max(1, of_change.total()),
        "precision": 1 - len(wrong) / max(1, len(removed)),
        "largest_group": max(Counter(grouping.group_of.values()).values()),
        "by_change": {change: found[change] / number for change, number in of_change.items()},
        "removed": len(removed),
        "wrong": wrong,
    }


def score_peer(name: str, planted: Planted, found: Found, origins: Mapping[str, str]) -> dict[str, Any]:
    """The figures of a peer at its own distance."""
    return score(planted, group_pairs(planted, found, PEERS[name].largest_distance), origins)


def hard_recall(name: str, planted: Planted, found: Found, origins: Mapping[str, str], precision: float) -> float:
    """The best recall of a peer among the distances, up to its own, that keep the precision; 0 where none does."""
    steps = np.unique(found.distance[found.distance <= PEERS[name].largest_distance])
    # A peer of whole bits has a dozen distances; of one with thousands, twenty spread over its pairs are tried.
    tried = steps if len(steps) <= 20 else np.quantile(steps, np.linspace(0, 1, 20))
    scores = [score(planted, group_pairs(planted, found, float(step)), origins) for step in tried]
    return max((s["recall"] for s in scores if s["precision"] >= precision), default=0.0)


def wrong_per_1e9(photos: Planted, first: Rows, second: Rows, repeats: Repeats) -> tuple[float, list[tuple[str, str]]]:
    """Pairs that are no true repeats, of 1e9 pairs; and these pairs."""
    pictures, count = [picture_of(digest, repeats) for digest in photos.sha256], len(photos)
    wrong = [
        (photos.files[a], photos.files[b])
        for a, b in zip(first.tolist(), second.tolist(), strict=True)
        if pictures[a] != pictures[b]
    ]
    return len(wrong) / (count * (count - 1) / 2) * 1e9, wrong


def read_true_repeats() -> Repeats:
    """All files that were judged to show one picture, of any data set.

    What stands under `same_scene` there, a second shot of the same thing, counts as another picture.
    """
    judged = json.loads(TRUE_REPEATS.read_text())["same_picture"]
    return {digits: group[0] for groups in judged.values() for group in groups for digits in group}
