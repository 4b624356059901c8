"""One list of photos written in each form in which a crawl may arrive."""

import csv
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

_TYPES = {"jpg": "image/jpeg", "jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
_PAGE = b"<html><body>a page on which the photo stands</body></html>"


class Photo(NamedTuple):
    """A photo of a crawl. `name` is a file name, such as 000012.jpg; None: not known."""

    person: str | None
    url: str | None
    licence: str | None
    name: str
    data: bytes


def drawn_crawl(images: int = 12) -> list[Photo]:
    """Drawn photos of a few people, as JPEG, PNG and WebP; some without a person, a url or a licence."""
    generator = np.random.default_rng(5)
    people = ["Ann_Smith", "Zoë 100%", "Null", None]
    photos = []
    for number in range(images):
        ending = ("jpg", "png", "webp")[number % 3]
        picture = cv2.resize(generator.integers(0, 256, (6, 5, 3), np.uint8), (50, 60))
        data = cv2.imencode(f".{ending}", picture)[1].tobytes()
        person = people[number % len(people)]
        url = f"https://photos.example/{number}/a%20b?size=large&n=é"
        photos.append(
            Photo(person, url, ["CC0", None, "all, rights\nreserved"][number % 3], f"{number:06d}.{ending}", data)
        )
    return photos


def tar_crawl(path: Path, most: int | None = None) -> list[Photo]:
    """The photos of a tar of folders: the folder is the person, address and licence are made up."""
    photos: list[Photo] = []
    with tarfile.open(path) as tar:
        for member in tar:
            file = tar.extractfile(member)
            if file is None:
                continue
            person, _, name = member.name.removeprefix("./").partition("/")
            url = f"https://photos.example/{person}/{name}"
            photos.append(Photo(person, url, "CC BY 4.0" if len(photos) % 2 else None, f"{person}_{name}", file.read()))
            if len(photos) == most:
                break
    return photos


def write_folder(folder: Path, photos: Iterable[Photo]) -> None:
    """Files in a folder for each person; those without one at the top."""
    for photo in photos:
        path = folder / file_path(photo)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.data)


def file_path(photo: Photo) -> str:
    """Where `write_folder` puts a photo, below its folder."""
    return f"{photo.person}/{photo.name}" if photo.person else photo.name


def write_people_csv(path: Path, photos: Iterable[Photo], key: Literal["file", "url"] = "file") -> None:
    """The list that goes with a folder (key: file) or with WARC files (key: url). Photos of which nothing is known have
    no row."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["file", "person", "url", "licence"] if key == "file" else ["url", "person", "licence"])
        for photo in photos:
            said = [photo.person or "", photo.url or "", photo.licence or ""]
            if key == "file":
                rows.writerow([file_path(photo), *said])
            elif photo.url:
                rows.writerow([photo.url, said[0], said[2]])


def write_tars(folder: Path, photos: Sequence[Photo], tar_images: int = 5) -> None:
    """WebDataset tars with a .json and a .txt for each image, and beside each tar what img2dataset writes there."""
    folder.mkdir(parents=True, exist_ok=True)
    for start in range(0, len(photos), tar_images):
        shard = start // tar_images
        with tarfile.open(folder / f"{shard:05d}.tar", "w") as tar:
            for number, photo in enumerate(photos[start : start + tar_images]):
                key = f"{shard:05d}{number:04d}"
                for ending, data in sample_files(photo, key).items():
                    add_member(tar, f"{key}.{ending}", data)
        (folder / f"{shard:05d}_stats.json").write_text("{}")
        (folder / f"{shard:05d}.parquet").write_bytes(b"")


def sample_files(photo: Photo, key: str) -> dict[str, bytes]:
    """The files of a sample as img2dataset writes them: ending -> bytes."""
    said = {"person": photo.person, "url": photo.url, "license": photo.licence}
    caption = f"a photo of {photo.person}"
    facts = {name: value for name, value in said.items() if value is not None} | {
        "caption": caption,
        "key": key,
        "status": "success",
        "error_message": None,
        "width": 50,
        "height": 60,
        "original_width": 500,
        "original_height": 600,
        "exif": "{}",
        "sha256": hashlib.sha256(photo.data).hexdigest(),
    }
    ending = photo.name.rpartition(".")[2]
    return {ending: photo.data, "json": json.dumps(facts, indent=4).encode(), "txt": caption.encode()}


def add_member(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file to a tar."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def write_warc(path: Path, photos: Iterable[Photo], packed: bool = False) -> None:
    """A WARC (or WARC.GZ) as a crawler writes it: requests, responses, pages between the photos.

    Bodies come plain, chunked, gzip and both, by turns; a photo in four is a resource, without an HTTP exchange.
    """
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=packed)
        note = io.BytesIO(b"software: tests\r\n")
        writer.write_record(writer.create_warc_record("", "warcinfo", note, 17))
        for number, photo in enumerate(photos):
            url = photo.url or ""
            request = StatusAndHeaders("GET / HTTP/1.1", [("Host", "photos.example")], is_http_request=True)
            writer.write_record(writer.create_warc_record(url, "request", http_headers=request))
            content_type = _TYPES[photo.name.rpartition(".")[2]]
            if number % 4 == 3:
                write_resource(writer, url, photo.data, content_type)
            else:
                write_response(writer, url, photo.data, content_type, packed=number % 2 == 1, chunked=number % 4 > 1)
            write_response(writer, f"https://photos.example/page/{number}", _PAGE, "text/html; charset=utf-8")


def write_response(
    writer: WARCWriter,
    url: str,
    body: bytes,
    content_type: str,
    status: str = "200 OK",
    packed: bool = False,
    chunked: bool = False,
) -> None:
    """Add a response, its body gzip'd or in chunks as asked."""
    headers = [("Content-Type", content_type)]
    if packed:
        body = gzip.compress(body)
        headers.append(("Content-Encoding", "gzip"))
    if chunked:
        steps = [body[i : i + 700] for i in range(0, len(body), 700)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(step), step) for step in steps) + b"0\r\n\r\n"
        headers.append(("Transfer-Encoding", "chunked"))
    http = StatusAndHeaders(status, headers, protocol="HTTP/1.1")
    # With its length, as warcio else leaves a temporary file open.
    sent = io.BytesIO(body)
    writer.write_record(writer.create_warc_record(url, "response", sent, len(body), http_headers=http))


def write_resource(writer: WARCWriter, url: str, data: bytes, content_type: str) -> None:
    """Add bytes without an HTTP exchange."""
    held = io.BytesIO(data)
    writer.write_record(writer.create_warc_record(url, "resource", held, len(data), warc_content_type=content_type))


def write_parquet(path: Path, photos: Sequence[Photo], group_rows: int = 5, nested: bool = False) -> None:
    """Parquet with an image column: plain bytes, or `nested` as Hugging Face's data sets have it."""
    images = [{"bytes": p.data, "path": p.name} if nested else p.data for p in photos]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())]) if nested else pa.binary()
    table = pa.table(
        {
            "image": pa.array(images, kind),
            "file": [p.name for p in photos],
            "person": pa.array([p.person for p in photos], pa.string()),
            "url": pa.array([p.url for p in photos], pa.string()),
            "license": pa.array([p.licence for p in photos], pa.string()),
        }
    )
    pq.write_table(table, path, row_group_size=group_rows)
