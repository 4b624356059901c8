"""How much each de-duplicator finds, how much of it is wrong, and how fast: ours and its peers, on the same photos.

    python benchmarks/dedup.py --data bedrooms.tar [--set cifar10.tar.gz] [--second genki4k.tar] [--peers-venv DIR]
    python benchmarks/dedup.py --data bedrooms.tar --growth [25000 50000 ...] [--radius 12] [--plot growth.png]

recall: variants that end in their photo's group. precision: removed images whose keeper shows the same photo, true
repeats in the photos (true_repeats.json, judged by eye) counted right. hard recall: of the hard changes; for a peer the
best among the distances, up to its own, that keep our precision ("hard own" is at its own distance). wrong_per_1e9: of
1e9 pairs of `--set`, those called the same that are no true repeats. seconds_at_100000: by what was measured, encoding
in proportion to the images, a peer's search to their square. Each system runs alone, on the same cores; Ray's start-up
and a peer's imports are left out.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

# A script's folder stands first on the path, and this file would hide the package of its name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.ours import our_pairs, run_ours
from benchmarks.peers import PEERS, near_pairs, run_peer
from benchmarks.planted import planted_set, random_views
from benchmarks.scores import hard_recall, read_true_repeats, score, score_peer, true_origins, wrong_per_1e9
from dedup.changes import CHANGES, HARD_CHANGES


def measure(data: Path, scratch: Path, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Ours and every peer on the planted set and the hard set of one tar of photos: name -> figures."""
    repeats = read_true_repeats()
    usual = planted_set(data, scratch / "usual", seed, options.sources, list(CHANGES))
    hard = planted_set(data, scratch / "hard", seed, options.sources, list(HARD_CHANGES))
    origins, hard_origins = true_origins(usual, repeats), true_origins(hard, repeats)
    figures: dict[str, Any] = {}
    ours = run_ours(usual.folder, scratch / "run-usual")
    ours_hard = run_ours(hard.folder, scratch / "run-hard")
    figures["ours"] = score(usual, ours.grouping, origins) | {
        "images_per_s": len(usual) / (ours.seconds - ours.fit_s),
        "images_per_s_with_fit": len(usual) / ours.seconds,
        "seconds_at_100000": ours.fit_s + (ours.seconds - ours.fit_s) * 100_000 / len(usual),
        "startup_s": ours.startup_s,
    }
    hard_score = score(hard, ours_hard.grouping, hard_origins)
    figures["ours"] |= _hard_figures(hard_score) | {"hard_recall": hard_score["recall"]}
    for name in PEERS:
        found = run_peer(name, usual.folder, options.peers_venv)
        found_hard = run_peer(name, hard.folder, options.peers_venv)
        if found is None or found_hard is None:
            continue
        seconds, times = found.encode_s + found.search_s, 100_000 / len(usual)
        figures[name] = score_peer(name, usual, found, origins) | {
            "images_per_s": len(usual) / seconds,
            "images_per_s_with_fit": len(usual) / seconds,
            # Encoding grows with the images, comparing all with all with their square.
            "seconds_at_100000": found.encode_s * times + found.search_s * times**2,
        }
        hard_score = score_peer(name, hard, found_hard, hard_origins)
        at_precision = hard_recall(name, hard, found_hard, hard_origins, figures["ours"]["hard_precision"])
        figures[name] |= _hard_figures(hard_score) | {"hard_recall": at_precision}
    return figures


def _hard_figures(scored: dict[str, Any]) -> dict[str, Any]:
    return {
        "hard_recall_own": scored["recall"],
        "hard_precision": scored["precision"],
        "hard_by_change": scored["by_change"],
    }


def measure_wrong(data: Path, scratch: Path, options: argparse.Namespace) -> dict[str, tuple[float, list[Any]]]:
    """Wrong pairs of 1e9, and these pairs, of ours and of every peer that has hashes, on one set of photos."""
    repeats = read_true_repeats()
    photos = planted_set(data, scratch / "set", 0, 0, [])
    ours = run_ours(photos.folder, scratch / "run-set")
    wrong = {"ours": wrong_per_1e9(photos, *our_pairs(ours.run, photos.files), repeats)}
    place = {file: i for i, file in enumerate(photos.files)}
    for name, peer in PEERS.items():
        found = run_peer(name, photos.folder, options.peers_venv, hashes_only=True) if peer.has_hashes else None
        if found is not None:
            places = np.array([place[file] for file in found.files])
            first, second, _ = near_pairs(found.hashes, int(peer.largest_distance))
            wrong[name] = wrong_per_1e9(photos, places[first], places[second], repeats)
    return wrong


def show(title: str, figures: dict[str, Any], console: Console) -> None:
    """Print the tables of one set: a line a system, then recall by change."""
    table = Table(
        "system", "recall", "precision", "wrong", "largest", "hard", "hard own", "its prec.", "img/s", "with fit"
    )
    table.title = title
    for name, of in figures.items():
        shares = [f"{of[key]:.4f}" for key in ("recall", "precision")]
        counts = [f"{len(of['wrong'])} of {of['removed']}", str(of["largest_group"])]
        hard = [f"{of[key]:.4f}" for key in ("hard_recall", "hard_recall_own", "hard_precision")]
        speeds = [f"{of[key]:,.0f}" for key in ("images_per_s", "images_per_s_with_fit")]
        table.add_row(name, *shares, *counts, *hard, *speeds)
    console.print(table)
    changes = Table("change", *figures, title=f"{title}: recall by change")
    for group in ("by_change", "hard_by_change"):
        for change in figures["ours"][group]:
            changes.add_row(change, *(f"{of[group][change]:.3f}" for of in figures.values()))
    console.print(changes)


def growth(
    data: Path, scratch: Path, sizes: Sequence[int], plot: Path | None, radius: str
) -> list[dict[str, float | int]]:
    """Seconds of ours at each number of images, made of the photos by random crops and colour; drawn to `plot`."""
    points = []
    for images_ in sorted(sizes):
        random_views(data, scratch / "views", images_, seed=1)
        ours = run_ours(scratch / "views", scratch / f"run-{images_}", radius)
        found = json.loads((ours.run / "groups" / "quality.json").read_text())
        points.append(
            {
                "images": images_,
                "seconds": ours.seconds,
                "fit_s": ours.fit_s,
                "startup_s": ours.startup_s,
                "radius": found["radius"],
                "removed": found["removed"],
            }
        )
        print(json.dumps({"growth": points[-1]})[1:-1], flush=True)
    if plot is not None:
        _draw(points, plot)
    return points


def _draw(points: Sequence[dict[str, float]], plot: Path) -> None:
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    counts = np.array([point["images"] for point in points])
    seconds = np.array([point["seconds"] for point in points])
    axes.loglog(counts, seconds, "o-", label="measured, fitting included")
    axes.loglog(counts, seconds[-1] * counts / counts[-1], "--", color="grey", label="proportional to the images")
    axes.set(xlabel="images", ylabel="seconds", title="De-duplication of photos' random views")
    axes.set_xticks(counts, [f"{count:,}" for count in counts.tolist()], minor=False)
    axes.minorticks_off()
    axes.legend()
    figure.savefig(plot, dpi=120)


def main() -> None:
    """Measure, print the tables and the line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a tar of photos")
    parser.add_argument("--second", type=Path, help="another, with another seed")
    parser.add_argument("--set", type=Path, help="a tar of many images, to count wrong pairs in")
    parser.add_argument("--sources", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--peers-venv", type=Path, help="where the peers' environments are, or are to be made and kept")
    parser.add_argument("--wrong", type=Path, help="write the wrong removals and pairs here, to be looked at")
    parser.add_argument("--growth", type=int, nargs="*", help="measure seconds at these numbers of images instead")
    parser.add_argument("--radius", default="auto", help="the radius to measure growth at")
    parser.add_argument("--plot", type=Path, help="draw the growth here")
    options = parser.parse_args()
    console = Console(width=150)
    with tempfile.TemporaryDirectory(prefix="dedup-") as held:
        scratch = Path(held)
        if options.growth is not None:
            sizes = options.growth or [25_000, 50_000, 100_000, 200_000, 400_000]
            print(json.dumps({"growth": growth(options.data, scratch, sizes, options.plot, options.radius)}))
            return
        options.peers_venv = options.peers_venv or scratch / "peers"
        figures = measure(options.data, scratch / "first", options.seed, options)
        show(options.data.name, figures, console)
        if options.second:
            second = measure(options.second, scratch / "second", options.seed + 1, options)
            show(options.second.name, second, console)
        wrong = measure_wrong(options.set, scratch, options) if options.set else {}
    for name, (rate, pairs) in wrong.items():
        console.print(f"{options.set.name}, {name}: {len(pairs):,} wrong pairs, {rate:,.1f} of 1e9")
    if options.wrong:
        removals = {name: of["wrong"] for name, of in figures.items()}
        removals |= {f"{name}, second": of["wrong"] for name, of in second.items()} if options.second else {}
        pairs_of = {name: pairs for name, (_, pairs) in wrong.items()}
        options.wrong.write_text(json.dumps({"removals": removals, "pairs": pairs_of}))
    lines = {name: of | {"wrong_per_1e9": wrong[name][0] if name in wrong else None} for name, of in figures.items()}
    ours = lines.pop("ours")
    print(json.dumps({**_line(ours), "peers": {name: _line(of) for name, of in lines.items()}}))


_KEYS = ("recall", "precision", "largest_group", "hard_recall", "wrong_per_1e9", "by_change", "images_per_s")
_MORE_KEYS = ("images_per_s_with_fit", "hard_recall_own", "hard_precision", "hard_by_change", "seconds_at_100000")


def _line(figures: dict[str, Any]) -> dict[str, Any]:
    return {key: _rounded(figures[key]) for key in (*_KEYS, *_MORE_KEYS)}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main()
