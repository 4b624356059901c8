"""Ids, statuses and reasons: what other runs and other programs may rely on."""

import hashlib

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests.schema import (
    CODES,
    FAILED_REASONS,
    GROUPS,
    LEDGER,
    MANIFEST,
    PLANTS,
    SAMPLES,
    SHARD_INDEX,
    Reason,
    Status,
    face_record_id,
    record_id,
    sample_id,
    status_of,
)

SOURCES = st.text("abcXYZ019_-", min_size=1, max_size=6)
KEYS = st.text(max_size=8)


def test_ids_never_change() -> None:
    # A change here would orphan every ledger and shard that was ever written.
    assert record_id("rooms", "a/1.jpg") == hashlib.sha256(b"rooms\x00a/1.jpg").hexdigest()
    assert record_id("rooms", "ü") == hashlib.sha256("rooms\0ü".encode()).hexdigest()
    digest = hashlib.sha256(b"bytes").hexdigest()
    assert sample_id(digest) == hashlib.sha256(digest.encode() + b"\0whole").hexdigest()
    assert sample_id(digest, (1, 2, 30, 40)) == hashlib.sha256(digest.encode() + b"\x001,2,30,40").hexdigest()


@given(SOURCES, KEYS, SOURCES, KEYS)
def test_records_share_an_id_only_if_they_are_one(source: str, key: str, other: str, other_key: str) -> None:
    assert (record_id(source, key) == record_id(other, other_key)) == ((source, key) == (other, other_key))


@given(st.tuples(*[st.integers(0, 99)] * 4), st.tuples(*[st.integers(0, 99)] * 4))
def test_each_box_is_a_sample_of_its_own(box: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> None:
    assert (sample_id("0" * 64, box) == sample_id("0" * 64, other)) == (box == other)
    assert sample_id("0" * 64, box) != sample_id("0" * 64)


def test_unreadable_records_fail_and_unwanted_ones_are_dropped() -> None:
    assert status_of(None) is Status.KEPT
    failed = {"empty", "unreadable", "too_many_bytes", "too_many_pixels", "not_an_image", "corrupt", "crashed"}
    failed |= {"not_fetched", "refused_address"}
    assert {reason.value for reason in FAILED_REASONS} == failed
    for reason in Reason:
        assert status_of(reason) is (Status.FAILED if reason.value in failed else Status.DROPPED)


def test_each_face_of_an_image_is_a_row_of_its_own() -> None:
    parent = record_id("crawl", "a.jpg")
    rows = {parent, face_record_id(parent, (0, 0, 9, 9)), face_record_id(parent, (0, 0, 9, 8))}
    rows |= {face_record_id(record_id("crawl", "b.jpg"), (0, 0, 9, 9))}
    assert len(rows) == 4


@pytest.mark.parametrize("schema", [SAMPLES, PLANTS, CODES, GROUPS, MANIFEST, SHARD_INDEX])
def test_every_table_is_joined_by_sample_id(schema: pa.Schema) -> None:
    assert schema.field("sample_id").type == pa.string()
    assert len(set(schema.names)) == len(schema.names)


def test_the_ledger_is_carried_whole_into_the_manifest() -> None:
    for schema in (SAMPLES, MANIFEST):
        assert [schema.field(name) for name in LEDGER.names] == list(LEDGER)
    # A row of a record whose bytes could not even be read needs no more than these.
    assert [field.name for field in LEDGER if not field.nullable] == ["record_id", "source", "source_key", "status"]
    # The manifest is read whole, so no pixels in it.
    assert not any(pa.types.is_binary(field.type) for field in MANIFEST)
