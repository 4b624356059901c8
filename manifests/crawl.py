"""What the ledger says of a crawl: people, licences, hosts, what fetching came to, and which faces to look at.

One pass over the ledger, a stretch of rows at a time, so that what is held is a row for each person, licence or host.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from manifests.audit import is_face, ledger_batches
from manifests.schema import MANIFEST, Reason, Status
from manifests.store import Folder

COLUMNS = ["record_id", "status", "reason", "detail", "person", "person_certain", "url", "licence"]
COLUMNS += ["parent_id", "box_px", "face_score", "persons"]
FETCHING = (Reason.OPTED_OUT, Reason.DENIED, Reason.REFUSED_ADDRESS, Reason.NOT_FETCHED)
"""Why a record's bytes were never read: it was not to be, or could not be fetched."""
NUMBERS = ("images", "failed", "faces", "kept", "unsure")
_HOST = r"^[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)*(?P<host>\[[^\]/?#]*\]|[^/?#:@]*)"


@dataclass(frozen=True)
class Crawl:
    """Figures of a crawl.

    `people`, `licences`, `hosts`: a row for each person, licence, host (column `name`, null: of none), with its images,
    those of them that failed, the faces in them, the faces or whole images kept, and the faces of which it is not sure
    that they are the person's.
    """

    people: pa.Table
    licences: pa.Table
    hosts: pa.Table
    outcomes: pa.Table  # reason, detail, count_all: of images that were not fetched
    shared: int  # kept rows that stand for more than one person
    sides: npt.NDArray[np.float64]  # of each face its box's shorter side in source pixels, NaN where there is no box
    statuses: pa.ChunkedArray  # of each face
    random: pa.Table  # kept faces drawn at random: record_id, person, face_score
    lowest: pa.Table  # those kept faces of which the detector was least sure, the least sure first

    @property
    def faces(self) -> int:
        """The number of faces found."""
        return len(self.sides)


def crawl(run: Folder, seed: int, shown: int) -> Crawl:
    """Count a run's ledger; `shown`: how many faces to draw, and how many of the least sure, by the seed."""
    generator = np.random.default_rng(seed)
    tallies: dict[str, list[pa.Table]] = {"person": [], "licence": [], "host": []}
    outcomes: list[pa.Table] = []
    sides: list[npt.NDArray[np.float64]] = []
    statuses: list[pa.ChunkedArray] = []
    shared = 0
    nothing = pa.schema([MANIFEST.field(name) for name in COLUMNS]).empty_table()
    random = lowest = _kept_faces(nothing, generator)
    for rows in chain([nothing], ledger_batches(run, COLUMNS)):
        counted = _counted(rows)
        for key, of in tallies.items():
            of.append(_tally(counted, key))
        outcomes.append(_outcomes(rows))
        faces = rows.filter(is_face(rows))
        sides.append(_box_sides(faces))
        statuses.append(faces["status"])
        kept = rows.filter(pc.equal(rows["status"], Status.KEPT.value))
        shared += pc.sum(pc.greater(pc.list_value_length(kept["persons"]), 1)).as_py() or 0
        drawn = _kept_faces(kept, generator)
        random = _first(random, drawn, "chance", shown)
        lowest = _first(lowest, drawn.filter(drawn["face_score"].is_valid()), "face_score", shown)
    merged = {key: _summed(pa.concat_tables(of), ["name"], NUMBERS) for key, of in tallies.items()}
    return Crawl(
        people=merged["person"],
        licences=merged["licence"],
        hosts=merged["host"],
        outcomes=_summed(pa.concat_tables(outcomes), ["reason", "detail"], ["count_all"]),
        shared=shared,
        sides=np.concatenate(sides),
        statuses=pa.chunked_array([chunk for of in statuses for chunk in of.chunks], pa.string()),
        random=random.drop_columns(["chance"]),
        lowest=lowest.drop_columns(["chance"]),
    )


def faces_per_image(run: Folder) -> npt.NDArray[np.int64]:
    """int64[N]: how many images hold 0, 1, 2 ... faces, of those that faces were looked for in."""
    held = np.zeros(1, np.int64)
    # An image's faces stand in its own part.
    for part in run.child("samples").read_tables("part-", ["parent_id", "reason"]):
        found = part.group_by("parent_id").aggregate([([], "count_all")])
        found = found.filter(found["parent_id"].is_valid())["count_all"].to_numpy()
        numbers = np.bincount(found.astype(np.int64))
        held = np.pad(held, (0, max(0, len(numbers) - len(held))))
        held[: len(numbers)] += numbers
        held[0] += pc.sum(pc.equal(part["reason"], Reason.NO_FACE.value)).as_py() or 0
    return held


def hosts(urls: pa.ChunkedArray) -> pa.ChunkedArray:
    """The host of each address in small letters, as bytes, for it may be no valid text; null where there is none."""
    found = pc.struct_field(pc.extract_regex(urls.cast(pa.binary()), _HOST), "host")
    found = pc.if_else(pc.equal(pc.binary_length(found), 0), pa.scalar(None, pa.binary()), found)
    text = found.cast(options=pc.CastOptions(target_type=pa.string(), allow_invalid_utf8=True))
    return pc.ascii_lower(text).cast(pa.binary())


def _counted(rows: pa.Table) -> pa.Table:
    """The keys to count by, as bytes, and of each row which numbers it adds to."""
    face = is_face(rows)
    image, status = pc.invert(face), rows["status"]
    columns = {
        "images": image,
        "failed": pc.and_(image, pc.equal(status, Status.FAILED.value)),
        "faces": face,
        "kept": pc.equal(status, Status.KEPT.value),
        "unsure": pc.and_(face, pc.fill_null(pc.invert(rows["person_certain"]), False)),
    }
    numbers = {name: of.cast(pa.int64()) for name, of in columns.items()}
    keys = {name: rows[name].cast(pa.binary()) for name in ("person", "licence")}
    return pa.table(keys | {"host": hosts(rows["url"])} | numbers)


def _tally(counted: pa.Table, key: str) -> pa.Table:
    return _summed(counted.select([key, *NUMBERS]).rename_columns(["name", *NUMBERS]), ["name"], NUMBERS)


def _outcomes(rows: pa.Table) -> pa.Table:
    never = rows.filter(pc.is_in(rows["reason"], pa.array([reason.value for reason in FETCHING])))
    found = never.group_by(["reason", "detail"]).aggregate([([], "count_all")])
    return found.select(["reason", "detail", "count_all"])


def _box_sides(faces: pa.Table) -> npt.NDArray[np.float64]:
    width, height = (pc.list_element(faces["box_px"], place) for place in (2, 3))
    sides: npt.NDArray[np.float64] = pc.min_element_wise(width, height).cast(pa.float64()).to_numpy()
    return sides


def _kept_faces(kept: pa.Table, generator: np.random.Generator) -> pa.Table:
    faces = kept.filter(is_face(kept)).select(["record_id", "person", "face_score"])
    return faces.append_column("chance", pa.array(generator.random(len(faces))))


def _first(held: pa.Table, rows: pa.Table, column: str, number: int) -> pa.Table:
    order = [(column, "ascending"), ("record_id", "ascending")]
    return pa.concat_tables([held, rows]).sort_by(order).slice(0, number)


def _summed(table: pa.Table, keys: Sequence[str], numbers: Sequence[str]) -> pa.Table:
    found = table.group_by(keys).aggregate([(name, "sum") for name in numbers])
    return found.select([*keys, *(f"{name}_sum" for name in numbers)]).rename_columns([*keys, *numbers])
