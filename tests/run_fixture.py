"""A complete run folder made in code: small, quick and with every reason, to try what reads runs on."""

import hashlib
import io
import json
from typing import Any

import imagehash
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import yaml
from PIL import Image, ImageDraw

from manifests.schema import GROUPS, MANIFEST, SAMPLES, SHARD_INDEX, Reason, record_id, sample_id, status_of
from manifests.store import Folder

STAGES = ("ingest", "encode", "deduplicate", "shard", "train", "evaluate")
FOLDERS = dict(zip(STAGES, ("samples", "codes", "groups", "shards", "training", "evaluation"), strict=True))
MARKUP_KEY = 'wedding/<script>alert("x")</script>&<b>.jpg'
LONG_KEY = "sehr/" + "langer-Ordnername-ohne-Ende/" * 20 + "żółć-\u202e-写真.webp"
RADIUS = 14
CORRELATION_MIN = 0.85
WRONG_SHARE_MAX = 0.002
SAMPLES_COMPARED = 330
RECORDS = {"lsun_bedroom": 300, "holiday photos": 100}
UNSEEN = {Reason.EMPTY, Reason.UNREADABLE, Reason.TOO_MANY_BYTES, Reason.NOT_AN_IMAGE, Reason.CORRUPT, Reason.CRASHED}
CRAWL_REASONS = {reason for reason in Reason if reason.startswith(("face_", "no_face"))}
CRAWL_REASONS |= {Reason.NOT_FETCHED, Reason.REFUSED_ADDRESS, Reason.OPTED_OUT, Reason.DENIED}
"""Those of a crawl of faces, which this run is not."""

Row = dict[str, Any]


def build_run(run: Folder, until: str = "evaluate") -> None:
    """Write the folders of all stages up to `until`, each finished."""
    last = STAGES.index(until)
    ingested, groups, manifest = _ledger()
    _write_recipe(run)
    for stage in STAGES[: last + 1]:
        folder = run.child(FOLDERS[stage])
        counts: dict[str, int] = {}
        if stage == "ingest":
            rows = [{**row, "image": row.get("whole_thumb")} for row in ingested]
            for part, start in enumerate(range(0, len(rows), 130)):
                table = pa.Table.from_pylist(rows[start : start + 130], SAMPLES)
                folder.write_table(f"part-{part:05d}.parquet", table)
            listed = {"source": list(RECORDS), "records": list(RECORDS.values())}
            folder.write_table("parts.parquet", pa.table(listed))
            counts = {"read": len(rows), "kept": sum(row["status"] == "kept" for row in rows)}
        elif stage == "deduplicate":
            folder.write_table("groups.parquet", pa.Table.from_pylist(groups, GROUPS))
            folder.write_json("quality.json", _quality(groups))
            run.write_table("manifest.parquet", pa.Table.from_pylist(manifest, MANIFEST))
            counts = {"groups": len({row["group_id"] for row in groups})}
        elif stage == "shard":
            counts = _write_shards(folder, manifest)
        elif stage == "train":
            counts = _write_training(folder)
        elif stage == "evaluate":
            folder.write_json("walk.json", _walk())
            folder.write_bytes("walk.png", _png(_sheet(8, 8, lambda row, step: _room(row * 31 + 5, step / 9))))
        seconds = 3.7 * (STAGES.index(stage) + 1) ** 2
        rate = {"ingest": 812.4, "encode": 5210.0, "deduplicate": 3304.6, "shard": 1450.2, "train": 47.9}.get(stage)
        started = {"stage": stage, "fingerprint": _hex(stage)[:16], "started_at": "2024-01-01T00:00:00+00:00"}
        folder.write_json("stage.json", {**started, "seconds": seconds, "counts": counts, "images_per_s": rate})


def _walk() -> Row:
    return {
        "measurement": "walk",
        "title": "Latent walk",
        "says": "The largest step is 0.112 of the distance between unrelated samples.",
        "paper": "judged by eye",
        "statistics": "standing",
        "figures": {
            "largest_step": 0.112,
            "steps": [0.1, 0.2],
            "by kind": {"line": {"mean": 0.04}, "arc": {"mean": 1}},
        },
        "settings": {"points": 9},
        "seed": 7,
        "preset": "paper-64",
        "checkpoint": "checkpoint-000064000",
        "images_seen": 64000,
        "pictures": [{"file": "walk.png", "caption": "Each row goes from one random point of z to the next"}],
    }


def _ledger() -> tuple[list[Row], list[Row], list[Row]]:
    """The ingested rows, the groups, and the manifest's rows."""
    generator = np.random.default_rng(5)
    reasons = [None] * 28 + [reason for reason in Reason if reason not in CRAWL_REASONS] + [Reason.NEAR_DUPLICATE] * 4
    ingested: list[Row] = []
    repeats: dict[str, str] = {}
    groups: list[Row] = []
    pictures: list[tuple[int, Row]] = []
    for source, records in RECORDS.items():
        for index in range(records):
            reason = reasons[index % len(reasons)] if index >= 8 else None
            key = f"{index:06x}" if source == "lsun_bedroom" else f"2019/IMG_{index:04d}.jpg"
            if source == "holiday photos" and index in (22, 23):
                key, reason = (MARKUP_KEY, Reason.CORRUPT) if index == 22 else (LONG_KEY, Reason.TOO_SMALL)
            row: Row = {"source": source, "source_key": key, "record_id": record_id(source, key)}
            row |= {
                "sha256": _hex(key + source),
                "size_bytes": 20_000 + index,
                "format": "webp" if index % 3 else "jpeg",
            }
            if reason in UNSEEN or reason == Reason.TOO_MANY_PIXELS:
                row |= {"format": None, "detail": f"{reason}: {index * 977} bytes, the limit or the file's end passed"}
                row["sample_id"] = None if reason in (Reason.EMPTY, Reason.UNREADABLE) else sample_id(row["sha256"])
            else:
                seed, strength = index, 0.0
                if reason == Reason.EXACT_REPEAT:
                    seed, kept = pictures[0]
                    row |= {"sha256": kept["sha256"]}
                    repeats[row["record_id"]] = kept["sample_id"]
                elif reason == Reason.NEAR_DUPLICATE:
                    seed, strength = (pictures[len(groups) % 5 if len(groups) < 24 else len(groups) % 17][0], 0.5)
                row["sample_id"] = sample_id(row["sha256"])
                row |= _measured(seed, strength + (index % 7) / 30, generator, source)
                if reason in (Reason.TOO_SMALL, Reason.ASPECT, Reason.ANIMATED):
                    row["detail"] = "shorter side 61 px < 64 px"
                    if reason == Reason.TOO_SMALL:
                        row |= {"width": 80, "height": 61}
                elif reason is None:
                    pictures.append((index, row))
                elif reason == Reason.NEAR_DUPLICATE:
                    keeper = next(found for number, found in pictures if number == seed)
                    distance = int(generator.integers(0, 19))
                    score = round(float(generator.uniform(0, 0.15)), 4)
                    groups.append(_group(row, keeper["sample_id"], distance, score))
                    if not any(group["sample_id"] == keeper["sample_id"] for group in groups):
                        groups.append(_group(keeper, keeper["sample_id"], 0, None))
            late = reason in (Reason.EXACT_REPEAT, Reason.NEAR_DUPLICATE)
            row |= {"reason": None if late else reason, "status": status_of(None if late else reason)}
            ingested.append(row)
    near = {row["sample_id"]: row for row in groups}
    manifest = [dict(row) for row in ingested]
    for row in manifest:
        group = near.get(row["sample_id"])
        if row["record_id"] in repeats:
            row["reason"] = Reason.EXACT_REPEAT
        elif group is not None:
            row |= {name: group[name] for name in ("group_id", "keeper_id", "distance", "score", "reason")}
            if group["score"] is not None:
                turned = "mirrored, " if group["distance"] % 4 == 0 else ""
                edges = f"edges correlate {CORRELATION_MIN + group['score']:.3f}"
                row["detail"] = f"{turned}{edges}, hashes {group['distance']} bits apart"
        row["status"] = status_of(row.get("reason"))
    manifest.sort(key=lambda row: str(row["record_id"]))
    return ingested, groups, manifest


def _group(row: Row, keeper_id: str, distance: int, score: float | None) -> Row:
    reason = None if row["sample_id"] == keeper_id else Reason.NEAR_DUPLICATE
    ids = {"sample_id": row["sample_id"], "group_id": keeper_id, "keeper_id": keeper_id}
    return {**ids, "distance": distance, "score": score, "reason": reason}


def _measured(seed: int, change: float, generator: np.random.Generator, source: str) -> Row:
    """The looks and measures of a drawn room, changed a little."""
    room = Image.fromarray(_room(seed, change))
    whole = room.resize((32, 32), Image.Resampling.BOX)
    mirrored = whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    luma = np.asarray(room.convert("L"), np.float64)
    width, height = (256, 256 + int(generator.integers(0, 2)) * 85)
    if source == "holiday photos":
        height = int(generator.integers(200, 900))
        width = int(height * generator.choice([0.75, 1.0, 1.333, 1.5, 1.778]))
    return {
        "width": width,
        "height": height,
        "mean": float(luma.mean()),
        "deviation": float(luma.std()),
        "sharpness": float(np.exp(generator.normal(5.5, 0.8))),
        "centre_thumb": whole.tobytes(),
        "whole_thumb": whole.tobytes(),
        "phash": int(str(imagehash.phash(whole)), 16),
        "phash_mirror": int(str(imagehash.phash(mirrored)), 16),
    }


def _quality(groups: list[Row]) -> Row:
    changes = ["jpeg60", "resize", "crop5", "brighten", "mirror", "blur", "border"]
    by_change: Row = {
        change: {"planted": 40, "recall": 0.99 - 0.06 * i, "recall_equal": max(0.62 - 0.1 * i, 0.0)}
        for i, change in enumerate(changes)
    }
    removed = sum(row["reason"] is not None for row in groups)
    curve = [
        {"radius": r, "recall": 1 - 0.62 * 0.86**r, "pairs": 40 + 3 * r * r, "wrong_merges": max(0, r - 9) ** 2}
        for r in range(RADIUS + 1)
    ]
    sizes: dict[str, int] = {}
    for row in groups:
        sizes[row["group_id"]] = sizes.get(row["group_id"], 0) + 1
    plants = {"sources": 40, "recall": 0.921, "recall_equal": 0.382, "by_change": by_change, "wrong_merges": 3}
    return {
        "rule": "joint",
        "radius": RADIUS,
        "radius_set_itself": True,
        "correlation_min": CORRELATION_MIN,
        "correlation_raised": False,
        "grouping": "star",
        "samples": SAMPLES_COMPARED,
        "groups": len(sizes),
        "removed": removed,
        "largest_group": max(sizes.values()),
        "pairs": 96,
        "judged": 81,
        "flat": 2,
        "plants": {**plants, "compared_pairs": 78_120},
        "wrong_merge_rate": [1.31e-5, 1.129e-4],
        "curve": curve,
        "bearable_wrong": 0.5,
        "expected": [_expected(images, removed) for images in (SAMPLES_COMPARED, 3_000_000, 100_000_000)],
        "truth": {"variants": 20, "found": 19, "recall": 0.95, "removed": 20, "right": 19, "precision": 0.95},
    }


def _expected(images: int, removed: int) -> Row:
    """Wrong pairs grow with the square of the images, and with the radius; removals with the images."""
    removals = removed * images // SAMPLES_COMPARED
    wrong = [2e-11 * 1.6**radius * images * (images - 1) / 2 for radius in range(RADIUS + 1)]
    within = [radius for radius, pairs in enumerate(wrong) if pairs <= WRONG_SHARE_MAX * (removals + pairs)]
    radius = max(within, default=0)
    rule = {"radius": radius, "correlation_min": CORRELATION_MIN, "recall": 1 - 0.62 * 0.86**radius}
    place = {"images": images, **rule, "removals": removals}
    return {**place, "wrong": wrong[radius], "nominations": 40 * wrong[radius], "wrong_by_radius": wrong}


def _write_shards(folder: Folder, manifest: list[Row]) -> dict[str, int]:
    kept = [row for row in manifest if row["status"] == "kept"]
    splits = {"heldout": kept[: len(kept) // 20], "train": kept[len(kept) // 20 :]}
    index: list[Row] = []
    shards: list[Row] = []
    for split in ("train", "heldout"):
        for number, start in enumerate(range(0, len(splits[split]), 64)):
            rows, name = splits[split][start : start + 64], f"{split}-{number:06d}.tar"
            place = {"split": split, "shard": name, "size_bytes": 900}
            for i, row in enumerate(rows):
                ids = {"sample_id": row["sample_id"], "record_id": row["record_id"], "sha256": row["sha256"]}
                index.append({**ids, **place, "offset": 512 + 2048 * i})
            tar = {"samples": len(rows), "size_bytes": 2048 * len(rows) + 10240, "sha256": _hex(name)}
            shards.append({"name": name, "split": split, **tar})
    folder.write_table("index.parquet", pa.Table.from_pylist(index, SHARD_INDEX))
    numbers = {split: len(rows) for split, rows in splits.items()}
    layout = {"image_px": 64, "image_format": "png", "samples": numbers, "shards": shards}
    folder.write_json("dataset.json", layout)
    return numbers


GUARD_EVENT = {
    "images_seen": 38400,
    "kind": "collapsed",
    "message": "ms_ssim=0.95, the real images' is 0.061: samples have 0.05 of their <diversity>, less than 0.25",
    "action": "warned",
}


def _write_training(folder: Folder) -> dict[str, int]:
    generator = np.random.default_rng(9)
    lines = []
    for update in range(1, 501):
        turn_d, noise = update % 2 == 1, generator.normal(0, 0.08, 4)
        losses = {
            "loss_d": float(0.9 + 0.4 * np.exp(-update / 90) + noise[0]) if turn_d else None,
            "loss_g": None if turn_d else float(1.5 + 0.6 * (1 - np.exp(-update / 120)) + noise[1]),
            "d_real": float(0.65 + noise[2] / 2) if turn_d else None,
            "d_fake": float(0.35 + noise[3] / 2),
        }
        place = {"update": update, "images_seen": update * 128, "epoch": update * 128 / 300}
        speed = {"images_per_s": float(48 + 12 * noise[0]), "seconds": update * 2.7, "data_wait_share": 0.004}
        norms = {
            "grad_d": float(8 + 20 * noise[2]) if turn_d else None,
            "grad_g": None if turn_d else 50 + 90 * float(noise[3]),
        }
        figures: Row = {}
        if update % 20 == 0:
            progress = np.exp(-update / 150)
            figures = {"swd": 60 + 400 * float(progress), "swd_floor": 32.3}
            figures |= {"ms_ssim": 0.08 + 0.7 * float(progress), "ms_ssim_real": 0.061}
        lines.append(json.dumps({**place, **losses, **speed, **norms, **figures}))
    folder.write_bytes("metrics.jsonl", ("\n".join(lines) + "\n").encode())
    for seen in (12800, 25600, 38400, 51200, 64000):
        sheet = _sheet(6, 6, lambda row, column, seen=seen: _room(row * 6 + column, 0.9 * (1 - seen / 64000)))
        for statistics in ("batch", "standing"):
            folder.child("grids").write_bytes(f"grid-{seen:09d}-{statistics}.png", _png(sheet))
    preset = {"name": "paper-64", "width": 128, "learning_rate": 0.0002, "batch_norm": "global", "batch_images": 128}
    folder.write_json("summary.json", {"preset": preset, "images_seen": 64000, "learning_rate": 0.0002})
    folder.write_json("guard.json", [GUARD_EVENT])
    return {"updates": 500, "images_seen": 64000}


def _write_recipe(run: Folder) -> None:
    sources = [{"kind": "lsun", "name": name, "path": f"/data/{name}.lmdb"} for name in RECORDS]
    settings = {
        "name": "rooms & <holidays>",
        "sources": sources,
        "ingest": {"image_px": 64, "image_format": "png", "min_side_px": 64, "max_aspect": 3.0},
        "deduplicate": {"verdict": {"rule": "joint", "radius": "auto", "wrong_share_max": WRONG_SHARE_MAX}},
        "train": {"preset": "paper-64", "batch_images": 128, "learning_rate": 0.0002},
    }
    versions = {"python": "3.11.9", "torch": "2.13.0", "ray": "2.60.0", "numpy": "2.3.1", "opencv": "4.14.0"}
    recipe = {"recipe": settings, "seed": 7, "versions": versions, "commit": "4f1c2d9a7b3e5f60"}
    fingerprints = {stage: _hex(stage)[:16] for stage in STAGES}
    text = yaml.safe_dump({**recipe, "fingerprints": fingerprints}, sort_keys=False, allow_unicode=True)
    run.write_bytes("recipe.yaml", text.encode())


def _room(seed: int, change: float) -> npt.NDArray[np.uint8]:
    """A bedroom: uint8[64, 64, 3], RGB. `change` in 0..1 fades it into noise and shifts it."""
    generator = np.random.default_rng(seed)
    wall, floor, bed, sky = generator.integers(70, 240, (4, 3))
    image = Image.new("RGB", (64, 64), tuple(int(c) for c in wall))
    draw = ImageDraw.Draw(image)
    horizon, left = int(generator.integers(34, 44)), int(generator.integers(6, 26))
    draw.rectangle((0, horizon, 64, 64), tuple(int(c) for c in floor))
    window = int(generator.integers(4, 40))
    draw.rectangle((window, 8, window + 16, 26), tuple(int(c) for c in sky), outline=(250, 250, 250), width=2)
    draw.polygon(((left, 40), (left + 26, 40), (left + 34, 60), (left - 6, 60)), tuple(int(c) for c in bed))
    draw.rectangle((left, 33, left + 26, 41), tuple(int(c * 0.7) for c in bed))
    noise = np.random.default_rng(seed + 1000 + int(change * 1000)).normal(0, 90 * change, (64, 64, 3))
    shifted = np.roll(np.asarray(image, np.float64), int(change * 6), axis=1)
    return np.clip(shifted * (1 - 0.4 * change) + noise + 50 * change, 0, 255).astype(np.uint8)


def _sheet(rows: int, columns: int, draw: Any) -> npt.NDArray[np.uint8]:
    return np.concatenate([np.concatenate([draw(r, c) for c in range(columns)], axis=1) for r in range(rows)])


def _png(image: npt.NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
