"""What the deny list holds is left out of ingest: by id, bytes, address or name, and copies by what they hash like."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dedup.neighbours import stream_pairs_between
from manifests.denied import ALIKE_BITS, DenyList, Hashes, copies_hashes, denied_key, is_flat
from manifests.schema import Reason, record_id
from pipelines.samples import Looked, bare_row
from pipelines.sources import Record


def taken_down(source: str, record: Record, denied: DenyList) -> Record:
    """The record, or where the list holds it one of which nothing is left but an id."""
    if not len(denied):
        return record
    named = record_id(source, record.key)
    digest = None if record.data is None else hashlib.sha256(record.data).hexdigest()
    return _nothing_of(named) if denied.holds(named, digest, record.url, record.person) else record


def without_copies(source: str, looked: Sequence[Looked], denied: DenyList) -> list[Looked]:
    """The records but for those that look like a denied picture, or of which a face does: of these an id is left.

    A picture looks like another where the pHash of either is near that of a view of the other; flat ones never do.
    """
    if not len(denied.hashes):
        return list(looked)
    rows = [(place, one.row) for place, record in enumerate(looked) for one in (record, *record.faces)]
    thumbs = [(place, row["whole_thumb"]) for place, row in rows if row["whole_thumb"] is not None]
    seen = [(place, thumb) for place, thumb in thumbs if not is_flat(thumb)]
    # Of an image that faces are cut out of, no more is kept than the hashes of either orientation.
    hashed = [(place, [row["phash"], row["phash_mirror"]]) for place, row in rows if row["phash"] is not None]
    alike: set[int] = set()
    for found in (seen, hashed):
        if found:
            places, looks = zip(*found, strict=True)
            hashes = copies_hashes(np.stack(looks)) if found is seen else np.array(looks, np.uint64)
            alike |= {places[row] for row in look_like(hashes, denied).tolist()}
    return [
        Looked(bare_row(source, _nothing_of(record.row["record_id"]), Reason.DENIED, None), [])
        if place in alike
        else record
        for place, record in enumerate(looked)
    ]


def look_like(hashes: Hashes, denied: DenyList) -> npt.NDArray[np.int64]:
    """Which pictures look like a denied one; ascending rows.

    hashes: uint64[N, K], pHashes of the whole picture, its mirror image, and views of it if known
    """
    if not len(hashes) or not len(denied.hashes):
        return np.empty(0, np.int64)
    found = [np.empty(0, np.int64)]
    of_row = np.repeat(np.arange(len(hashes)), hashes.shape[1])
    views, wholes = np.unique(denied.hashes)[:, None], np.unique(denied.hashes[:, 0])[:, None]
    for pairs in stream_pairs_between(np.ascontiguousarray(hashes[:, :1]), views, ALIKE_BITS):
        found.append(pairs.first)
    for pairs in stream_pairs_between(hashes.reshape(-1, 1), wholes, ALIKE_BITS):
        found.append(of_row[pairs.first])
    return np.unique(np.concatenate(found))


def _nothing_of(record: str) -> Record:
    return Record(denied_key(record), None, reason=Reason.DENIED)
