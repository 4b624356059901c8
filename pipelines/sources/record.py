"""What every source deals in: a record, a range of records, and the error of a source that can't be used."""

from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from manifests.schema import Reason


class SourceError(Exception):
    """A source that can't be used at all: it stops the run before any work begins."""


def text_key(raw: bytes) -> str:
    r"""A path or an LMDB's key as valid UTF-8: other bytes become `\xNN`, and `\` becomes `\\`, so that no two meet."""
    return raw.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def plain_text(text: str) -> str:
    r"""The text as valid UTF-8: JSON and headers may hold halves of a character, which become `\uNNNN`."""
    return text.encode("utf-8", "backslashreplace").decode()


@dataclass(frozen=True, slots=True)
class Record:
    """One item of a source. `data` is None where its bytes could not be had; `problem` and `reason` then say why."""

    key: str
    data: bytes | None
    problem: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    person: str | None = None
    url: str | None = None
    licence: str | None = None
    reason: Reason = Reason.UNREADABLE


@dataclass(frozen=True, slots=True)
class PartRange:
    """Which records of a source a part covers: `records` from `start` on, or those that `names` lists."""

    records: int
    start: bytes = b""
    names: tuple[bytes, ...] = ()


SourceName = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Name of the source: part of every record id, so renaming it makes new ids",
    ),
]


class SourceSettings(BaseModel):
    """What all sources are told."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SourceName

    def told(self, part: "PartRange", entry: bytes) -> "Record | None":
        """What an entry of `part.names` says by itself of its record, without bytes; None where it is no one record."""
        return None
