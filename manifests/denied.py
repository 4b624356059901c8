"""The deny list: what was taken down, as hashes alone, so that nothing of it is kept and later runs leave it out."""

import hashlib
import json
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from manifests.perceptual import VIEWS, luma, phashes
from manifests.schema import LEDGER, THUMB_PX, Reason, Status
from manifests.store import Folder

DENIED_FILE = "denied.parquet"
ALIKE_BITS = 8
"""pHashes that differ in no more bits are taken for those of one picture; of pairs of photos one in a million does."""

DENIED = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("sample_id", pa.string()),
        pa.field("sha256", pa.string()),  # of the bytes
        pa.field("url_sha256", pa.string()),
        pa.field("person_sha256", pa.string()),  # where the whole person was taken down
        pa.field("phashes", pa.list_(pa.field("element", pa.uint64()))),  # of the views, each as it is and mirrored
    ]
)
"""One row for every image and every face that was taken down."""

Hashes = npt.NDArray[np.uint64]
# Pictures with less to see hash alike, whatever they show; deviation of the luma, 0..255.
_FLAT_DEVIATION = 4.0
_KEY = "denied:"
_ID_DIGITS = 64


@dataclass(frozen=True)
class DenyList:
    """What is not to come back, by hashes."""

    table: pa.Table

    @cached_property
    def record_ids(self) -> frozenset[str]:
        """Of images and of faces."""
        return self._strings("record_id")

    @cached_property
    def sample_ids(self) -> frozenset[str]:
        """Of whole images and of faces."""
        return self._strings("sample_id")

    @cached_property
    def sha256(self) -> frozenset[str]:
        """Of the bytes of images."""
        return self._strings("sha256")

    @cached_property
    def urls(self) -> frozenset[str]:
        """Their sha256."""
        return self._strings("url_sha256")

    @cached_property
    def persons(self) -> frozenset[str]:
        """Their sha256, of those who were taken down by name."""
        return self._strings("person_sha256")

    @cached_property
    def hashes(self) -> Hashes:
        """uint64[K, 2 V]: of each denied picture that is not flat, those of its views."""
        found = [hashes for hashes in self.table["phashes"].to_pylist() if hashes]
        return np.array(found, np.uint64).reshape(-1, 2 * len(VIEWS))

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of all that it holds, in whatever order, as 64 hex digits."""
        rows = sorted(json.dumps(row, sort_keys=True) for row in self.table.to_pylist())
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self.table)

    def _strings(self, column: str) -> frozenset[str]:
        return frozenset(value for value in self.table[column].to_pylist() if value is not None)

    def holds(self, record_id: str, sha256: str | None, url: str | None, person: str | None) -> bool:
        """Whether a record is denied by what is known of it before it is looked at."""
        return bool(
            record_id in self.record_ids
            or (sha256 is not None and sha256 in self.sha256)
            or (url is not None and self.urls and url_sha256(url) in self.urls)
            or (person is not None and self.persons and person_sha256(person) in self.persons)
        )


NOTHING_DENIED = DenyList(DENIED.empty_table())


class DenyListError(ValueError):
    """A deny list that can't be read: it stops the run before any work begins."""


def url_sha256(url: str) -> str:
    """sha256 of a URL, as 64 hex digits."""
    return hashlib.sha256(url.strip().encode("utf-8", "surrogateescape")).hexdigest()


def person_sha256(person: str) -> str:
    """sha256 of a name, however it is spelt in capitals, composed accents and spaces; 64 hex digits."""
    plain = " ".join(unicodedata.normalize("NFKC", person).casefold().replace("_", " ").split())
    return hashlib.sha256(plain.encode("utf-8", "surrogateescape")).hexdigest()


def copies_hashes(thumbs: npt.NDArray[np.uint8]) -> Hashes:
    """uint64[N, 2 V]: the pHashes of each view of each picture, as it is and mirrored.

    thumbs: uint8[N, 32, 32, 3], RGB, of the whole picture
    """
    lumas = luma(thumbs.reshape(-1, THUMB_PX, THUMB_PX, 3))
    return np.concatenate([np.stack(phashes(lumas, view), axis=1) for view in VIEWS], axis=1)


def read_denied(folders: Iterable[Folder], names: Iterable[str] = ()) -> DenyList:
    """The deny lists of these run folders, and those of these paths, as one; empty where there is none.

    Raises:
        DenyListError: a path of `names` holds none.
    """
    tables = [DENIED.empty_table()]
    tables += [folder.read_table(DENIED_FILE) for folder in folders if folder.exists(DENIED_FILE)]
    for name in names:
        folder, slash, file = name.rpartition("/")
        try:
            tables.append(Folder(folder or slash or ".").read_table(file))
        except (OSError, pa.ArrowInvalid) as error:
            raise DenyListError(
                f"deny list {name} can't be read ({error}); name a file that dcgan forget wrote"
            ) from error
        if not set(DENIED.names) <= set(tables[-1].column_names):
            raise DenyListError(f"{name} is no deny list: it has no {', '.join(DENIED.names)}; name a denied.parquet")
    return DenyList(pa.concat_tables([table.select(DENIED.names).cast(DENIED) for table in tables]))


def add_denied(run: Folder, rows: list[dict[str, Any]]) -> DenyList:
    """Add rows to the run's own deny list, each record once."""
    before = read_denied([run]).table.to_pylist()
    merged: dict[str, dict[str, Any]] = {}
    for row in (*before, *rows):
        held = merged.setdefault(row["record_id"], row)
        merged[row["record_id"]] = {name: held[name] if held[name] is not None else row[name] for name in DENIED.names}
    table = pa.Table.from_pylist([merged[key] for key in sorted(merged)], schema=DENIED)
    if len(table) > len(before) or any(merged[row["record_id"]] != row for row in before):
        run.write_table(DENIED_FILE, table)
    return DenyList(table)


def is_flat(thumb: npt.NDArray[np.uint8]) -> bool:
    """Whether a thumb, uint8[32, 32, 3], shows too little for its hash to mean anything."""
    return float(luma(thumb).std()) < _FLAT_DEVIATION


def denied_key(record_id: str) -> str:
    """The source key that stands for a denied record's, which may have told whom it shows."""
    return _KEY + record_id


def denied_id(key: str) -> str | None:
    """The id of the record that a key of `denied_key` stands for; None for any other key."""
    found = key.removeprefix(_KEY)
    return found if key.startswith(_KEY) and len(found) == _ID_DIGITS else None


def emptied(row: dict[str, Any]) -> dict[str, Any]:
    """What stays of a denied record's row: its id, so that counts reconcile, and nothing that tells what it was."""
    kept = {name: row.get(name) for name in ("record_id", "source", "parent_id")}
    bare = dict.fromkeys(row) | dict.fromkeys(LEDGER.names)
    return {
        **bare,
        **kept,
        "source_key": denied_key(row.get("parent_id") or row["record_id"]),
        "status": Status.DROPPED.value,
        "reason": Reason.DENIED.value,
    }
