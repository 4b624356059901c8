"""A crawl of faces made in code: drawn faces, everything that can become of an image or a face, and names that bite.

Only what ingest would have left is written by hand; later stages' own functions make the rest of the run.
"""

import hashlib
import io
import itertools
import json
from typing import Any

import imagehash
import numpy as np
import pyarrow as pa
import yaml
from PIL import Image, ImageDraw

from manifests.schema import PLANTS, SAMPLES, Reason, face_record_id, record_id, sample_id, status_of
from manifests.shards import dataset_summary
from manifests.store import Folder
from pipelines.recipe import DeduplicateSettings, EncodeSettings, ShardSettings
from pipelines.sources import PARTS
from pipelines.stages import deduplicate, encode, manifest, shard
from pipelines.stages.context import part_name, plants_name

SOURCE = "people & <photos>"
IMAGES = 260
PART_IMAGES = 70
SMALLEST_PX = 48
SEED = 11
HOSTILE = (
    '<script>alert("p")</script>',
    "line\nbreak\tand \x00 nul",
    "right\u202eto left",
    "a very long name " * 40,
    "محمد علي",
    "{{ 7 * 7 }} & 'quoted'",
    "",
)
PEOPLE = ("Person A", "Person B", None, *HOSTILE, *(f"Person {letter}" for letter in "CDEFGHIJKLMNOPQRSTUV"))
HOSTS = ("photos.example", "WWW.News.example:8080", "u:p@img.example", "[2001:db8::1]:80", "xn--bcher-kva.example")
LICENCES = ("CC BY 4.0", "CC0", "all rights reserved", "<b>licence</b>", None)
UNFETCHED = (Reason.OPTED_OUT, Reason.DENIED, Reason.REFUSED_ADDRESS, Reason.NOT_FETCHED)
OTHERS = (Reason.NO_FACE, Reason.CORRUPT, Reason.TOO_SMALL, *UNFETCHED)
FACE_REASONS = (
    Reason.FACE_TOO_SMALL,
    Reason.FACE_UNSURE,
    Reason.FACE_FALSE,
    Reason.FACE_AT_EDGE,
    Reason.FACE_BLURRED,
)
DETAILS = {
    Reason.OPTED_OUT: ("robots.txt", "X-Robots-Tag: noai"),
    Reason.REFUSED_ADDRESS: ("127.0.0.1 is a loopback address",),
    Reason.NOT_FETCHED: ("404", "404", "503, after 4 tries", "<i>reset</i> by the other side"),
    Reason.DENIED: ("taken down",),
}
STAGES = {"fetch": "fetched", "ingest": "samples", "encode": "codes", "deduplicate": "groups", "shard": "shards"}
AUTOENCODER = {"epochs": 1, "fit_images": 200}

Row = dict[str, Any]


def crawl_rows(images: int = IMAGES, seed: int = SEED) -> list[Row]:
    """The ledger's rows with what was seen of each face: images, each before the faces in it."""
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for number in range(images):
        person = PEOPLE[min(int(generator.exponential(7)), len(PEOPLE) - 1)]
        key = f"{number:05d}.jpg"
        photo = number - 1 if number % 20 == 7 else number  # the same photo at another address
        image: Row = dict.fromkeys(SAMPLES.names) | {"source": SOURCE, "source_key": key}
        image |= {"record_id": record_id(SOURCE, key), "person": person, "licence": LICENCES[number // 3 % 5]}
        image |= {"url": f"https://{HOSTS[int(generator.integers(5))]}/{photo}.jpg?a=b@c" if number % 9 else None}
        reason = OTHERS[number // 5 % len(OTHERS)] if number % 5 == 3 else None
        if reason is not None:
            details = DETAILS.get(reason, (None,))
            image |= {"status": status_of(reason), "reason": reason, "detail": details[number // 5 % len(details)]}
        if reason not in UNFETCHED:
            image |= {"sha256": _hex(photo), "sample_id": sample_id(_hex(photo)), "size_bytes": 9000 + photo}
            image |= {"format": "jpeg", "width": 640 + photo % 3 * 200, "height": 480}
        boxes = [] if reason is not None else _boxes(photo)
        if reason is None:
            image |= {"status": "used", "person_certain": None if person is None else len(boxes) == 1}
        rows.append(image)
        rows.extend(_face(image, photo, place, box) for place, box in enumerate(boxes))
    return rows


def _boxes(photo: int) -> list[tuple[int, int, int, int]]:
    generator = np.random.default_rng([photo, 1])
    number = 1 if photo % 4 else 12 if photo == 100 else int(generator.integers(2, 7))
    sides = np.exp(generator.normal(4.6, 0.5, number)).astype(int) + 12
    return [(20 + 9 * place, 30, int(side), int(side * 1.2)) for place, side in enumerate(sides)]


def _face(image: Row, photo: int, place: int, box: tuple[int, int, int, int]) -> Row:
    generator = np.random.default_rng([photo, place, 2])
    left, top, width, height = box
    crop = (left - 5, top - 5, height + 10, height + 10)
    reason = Reason.FACE_TOO_SMALL if width < SMALLEST_PX else None
    if reason is None and generator.random() < 0.15:
        reason = FACE_REASONS[int(generator.integers(1, len(FACE_REASONS)))]
    face = image | {"record_id": face_record_id(image["record_id"], crop), "parent_id": image["record_id"]}
    face |= {"sample_id": sample_id(image["sha256"], crop), "status": status_of(reason), "reason": reason}
    face |= {"box_px": list(box), "crop_px": list(crop), "roll_degrees": 0.0}
    face |= {"face_score": float(generator.uniform(0.3, 0.7) if reason else 1 - generator.exponential(0.06))}
    picture = draw_face(photo * 50 + place)
    thumb = picture.resize((32, 32), Image.Resampling.BOX)
    luma = np.asarray(picture.convert("L"), np.float64)
    face |= {"mean": luma.mean(), "deviation": luma.std(), "sharpness": float(np.exp(generator.normal(5, 0.7)))}
    if reason is None:
        face |= {"centre_thumb": thumb.tobytes(), "whole_thumb": thumb.tobytes(), "image": _png(picture)}
        mirrored = thumb.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        face |= {"phash": int(str(imagehash.phash(thumb)), 16), "phash_mirror": int(str(imagehash.phash(mirrored)), 16)}
    return face


def draw_face(seed: int) -> Image.Image:
    """A face that nobody has, 64 px a side."""
    generator = np.random.default_rng([seed, 3])
    wall, skin, hair, eyes = (tuple(int(c) for c in generator.integers(low, high, 3)) for low, high in _TONES)
    noise = generator.integers(-14, 15, (64, 64, 3))
    image = Image.new("RGB", (64, 64), wall)
    draw = ImageDraw.Draw(image)
    x, y, wide, high = (int(generator.integers(low, high)) for low, high in ((26, 39), (30, 37), (15, 22), (20, 27)))
    draw.ellipse((x - wide - 3, y - high - 6, x + wide + 3, y + high - 6), hair)
    draw.ellipse((x - wide, y - high, x + wide, y + high), skin)
    for side in (-1, 1):
        eye = x + side * wide // 2
        draw.ellipse((eye - 4, y - 7, eye + 4, y - 1), (245, 245, 245))
        draw.ellipse((eye - 2, y - 6, eye + 2, y - 2), eyes)
    smile = int(generator.integers(2, 9))
    draw.arc((x - 8, y + 10 - smile, x + 8, y + 10 + smile), 20, 160, (140, 30, 40), 2)
    return Image.fromarray(np.clip(np.asarray(image, np.int64) + noise, 0, 255).astype(np.uint8))


_TONES = ((40, 250), (120, 235), (10, 120), (0, 110))


def write_samples(run: Folder, rows: list[Row]) -> list[int]:
    """Write samples/ as ingest leaves it, a part for every PART_IMAGES images; the numbers of the parts."""
    samples = run.child("samples")
    images = [number for number, row in enumerate(rows) if row["parent_id"] is None]
    starts = [*images[::PART_IMAGES], len(rows)]
    parts = [rows[start:end] for start, end in itertools.pairwise(starts)]
    frozen = []
    for number, part in enumerate(parts):
        samples.write_table(part_name(number), pa.Table.from_pylist(part, SAMPLES))
        samples.write_table(plants_name(number), PLANTS.empty_table())
        records = sum(row["parent_id"] is None for row in part)
        frozen.append({"number": number, "source": SOURCE, "records": records, "start": b"", "names": []})
    samples.write_table("parts.parquet", pa.Table.from_pylist(frozen, schema=PARTS))
    return list(range(len(parts)))


def build_crawl(run: Folder, rows: list[Row]) -> None:
    """A run of these rows up to its shards."""
    settings = {"name": "people", "sources": [{"kind": "urls", "name": SOURCE}]}
    ingest = {"faces": {"smallest_px": SMALLEST_PX}}
    recipe = {"seed": SEED, "recipe": {**settings, "ingest": ingest}, "fingerprints": dict.fromkeys(STAGES, "0")}
    run.write_bytes("recipe.yaml", yaml.safe_dump(recipe).encode())
    numbers = write_samples(run, rows)
    encode_settings = EncodeSettings.model_validate({"autoencoder": AUTOENCODER, "fit_threads": 1})
    encode.fit_encoder(run.child("samples"), run.child("codes"), encode_settings, SEED, numbers)
    for number in numbers:
        encode.encode_part(run.child("samples"), run.child("codes"), {"number": number, "records": 0})
    verdict = {"verdict": {"rule": "code", "radius": 18}}
    deduplicate.write_groups(run, (), DeduplicateSettings.model_validate(verdict), SEED, numbers, 1)
    manifest.write_manifest(run, numbers)
    write_shards(run, numbers)
    for stage, folder in STAGES.items():
        run.child(folder).write_json("stage.json", {"stage": stage, "seconds": 9.1, "counts": {}, "images_per_s": 88.0})


def write_shards(run: Folder, numbers: list[int]) -> None:
    """One tar of each split, by the stage's own functions."""
    folder, names = run.child("shards"), {"train-000000.tar", "heldout-000000.tar"}
    plan = {"train": 1, "heldout": 1}
    batch = pa.table({"number": numbers})
    routed = shard.route_part(run, ShardSettings(heldout_share=0.1), SEED, plan, batch, names)
    entries, tables = [], []
    for name in sorted(names):
        rows = routed.filter(pa.compute.equal(routed["shard"], name))
        shard.write_group(folder, "png", SEED, rows)
        table = folder.read_table(name.replace(".tar", ".parquet"))
        entries.append(json.loads(table.schema.metadata[b"dataset.json"]))
        tables.append(table.replace_schema_metadata(None))
        folder.delete(name.replace(".tar", ".parquet"))
    folder.write_table("index.parquet", pa.concat_tables(tables))
    folder.write_json("dataset.json", dataset_summary(entries, 64, "png"))


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _hex(*of: object) -> str:
    return hashlib.sha256(repr(of).encode()).hexdigest()
