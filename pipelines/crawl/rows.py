"""What is kept of every URL that was fetched, or was not."""

from dataclasses import asdict, dataclass, fields
from typing import Any

import pyarrow as pa

from manifests.schema import Reason

LISTED = pa.list_(
    pa.field(
        "element",
        pa.struct(
            [
                pa.field("key", pa.string(), nullable=False),  # source key of the record
                pa.field("url", pa.string(), nullable=False),  # as the list has it
                pa.field("person", pa.string()),
                pa.field("licence", pa.string()),
            ]
        ),
    )
)
"""The rows of the list that name a URL: one for each person, or a single one without."""

PLANNED = pa.schema(
    [
        pa.field("group", pa.int32(), nullable=False),
        pa.field("part", pa.int32(), nullable=False),
        pa.field("number", pa.int64(), nullable=False),  # of the URL in the run
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),  # of the list, in its one normal form
        pa.field("target", pa.string(), nullable=False),  # what to ask for: the same, or where redirects led
        pa.field("hops", pa.int32(), nullable=False),  # redirects that led there
        pa.field("listed", LISTED, nullable=False),
    ]
)
"""fetched/plan-*.parquet: what is to be fetched, in which part. Redirects to hosts of other parts make new plans."""

_OUTCOME = [
    pa.field("hops", pa.int32(), nullable=False),  # redirects that were followed
    pa.field("final_url", pa.string()),  # the last that was asked for; null where nothing was
    pa.field("moved_to", pa.string()),  # a host of another part: another row tells how it ended
    pa.field("status", pa.int16()),  # of the last answer; null where there was none
    pa.field("reason", pa.string()),  # why there is no image; null where there is one
    pa.field("detail", pa.string()),
    pa.field("may_retry", pa.bool_(), nullable=False),  # it may end better another time
    pa.field("attempts", pa.int32(), nullable=False),  # requests for images, without robots.txt and its like
    pa.field("fetched_at", pa.string(), nullable=False),  # UTC, when it ended
    pa.field("seconds", pa.float32(), nullable=False),  # from the first request to the end
    pa.field("content_type", pa.string()),  # as the server says
    pa.field("format", pa.string()),  # as the content says
    pa.field("size_bytes", pa.int64()),  # of the body, as far as it was read
    pa.field("sha256", pa.string()),  # of the whole body
]

FETCHED = pa.schema(
    [
        pa.field("number", pa.int64(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("url", pa.string(), nullable=False),
        pa.field("listed", LISTED, nullable=False),
        *_OUTCOME,
        pa.field("image", pa.binary()),  # the body, where it is an image
    ]
)
"""fetched/part-*.parquet. Of the rows of one URL all but one have `moved_to`."""


@dataclass(slots=True)
class Outcome:
    """How a URL ended; the columns of FETCHED by these names."""

    hops: int = 0
    final_url: str | None = None
    moved_to: str | None = None
    status: int | None = None
    reason: str | None = None
    detail: str | None = None
    may_retry: bool = False
    attempts: int = 0
    fetched_at: str = ""
    seconds: float = 0.0
    content_type: str | None = None
    format: str | None = None
    size_bytes: int | None = None
    sha256: str | None = None

    def row(self) -> dict[str, Any]:
        """Its columns."""
        return asdict(self)

    def clean(self) -> None:
        """Make valid text, of one line each, of what servers say: headers may hold any bytes."""
        for column in fields(self):
            value = getattr(self, column.name)
            if isinstance(value, str):
                setattr(self, column.name, _plain(value))


def _plain(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text.encode("utf-8", "replace").decode())


class Failed(Exception):
    """A URL that gives no image: the reason for the ledger, and whether it may end better another time."""

    def __init__(self, reason: Reason, detail: str, may_retry: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.may_retry = may_retry
