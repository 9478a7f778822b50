"""Payloads that were damaged or forged: set aside with a reason, never a crash, a panic or a huge allocation."""

from __future__ import annotations

import random
import resource
from functools import cache

import pyarrow as pa
import pytest
from modelward_collector.ingest.judging import _frame
from modelward_collector.ingest.payload import PayloadError, decoded_bytes
from modelward_collector.ingest.validate import STORED_SCHEMA, Checked, Source, check
from modelward_proto.v1.stream_pb2 import Batch

from tests.batches import envelope, events, from_rows, now_ns, payload

SOURCE = Source("gpu-1", b"A" * 16, 30)


@cache
def sound(rows: int) -> Batch:
    return envelope(1, events(rows))


def checked(arrow: bytes, rows: int = 50, **changed: object) -> Checked:
    batch = Batch()
    batch.CopyFrom(sound(rows))
    batch.arrow = arrow
    for name, value in changed.items():
        setattr(batch, name, value)
    return check(batch, SOURCE, now_ns())


@pytest.mark.parametrize("compression", ["zstd", "lz4", None])
def test_a_damaged_payload_is_read_or_refused_and_never_crashes(compression: str | None) -> None:
    chance = random.Random(5)
    whole = payload(events(50), compression)
    outcomes = {"read": 0, "refused": 0}
    for _ in range(700):
        damaged = bytearray(whole)
        for _ in range(chance.choice((1, 2, 8))):
            damaged[chance.randrange(min(len(damaged), chance.choice((400, 14_000, 10**9))))] = chance.choice((0, 127, 255, 1))
        if chance.random() < 0.1:
            del damaged[chance.randrange(len(damaged)) :]
        try:
            found = checked(bytes(damaged))
        except PayloadError:
            outcomes["refused"] += 1
        else:
            # What passes must be safe for all that follows.
            found.events.validate(full=True)
            assert found.events.schema.equals(STORED_SCHEMA)
            assert _frame(found.events).height == 50
            outcomes["read"] += 1
    assert outcomes["refused"] > 100



def test_a_payload_that_claims_gigabytes_is_refused_before_they_are_allocated() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = pa.record_batch({"file_path": pa.array(["\0" * (1 << 20)] * 300)})
    small = payload(table)
    del table
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(small) < 1 << 20
    with pytest.raises(PayloadError, match="takes more than 48 MiB"):
        checked(small, 300)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - max(before, peak) < 64 << 10


def test_the_size_that_is_foretold_is_the_size_that_is_read() -> None:
    for compression in ("zstd", "lz4", None):
        batch = events(500)
        claimed = decoded_bytes(payload(batch, compression), 1 << 30)
        assert batch.nbytes <= claimed <= batch.nbytes * 1.2 + 20_000


def test_two_columns_of_one_name_are_refused() -> None:
    base = from_rows([{"time": now_ns()}])
    doubled = pa.RecordBatch.from_arrays([*base.columns, base.column("file_path")], names=[*base.schema.names, "file_path"])
    with pytest.raises(PayloadError, match="two columns of one name"):
        checked(payload(doubled), 1)


@pytest.mark.parametrize(("column", "array"), [
    ("process_pid", pa.array(["x"])),
    ("time", pa.array([1.5])),
    ("file_path", pa.array([[1, 2]])),
    ("event_name", pa.array([3], pa.int32())),
    ("count", pa.array([-1], pa.int64())),
    ("count", pa.array([1 << 50], pa.uint64())),
    ("user_id", pa.array([1 << 40], pa.int64())),
    ("file_path", pa.array(["x" * 70_000])),
    ("event_name", pa.array(["a\x7f"])),
])
def test_a_column_of_the_wrong_type_or_out_of_range_is_refused_by_name(column: str, array: pa.Array) -> None:
    base = from_rows([{"time": now_ns()}])
    index = base.schema.get_field_index(column)
    wrong = pa.RecordBatch.from_arrays([array if i == index else c for i, c in enumerate(base.columns)], names=base.schema.names)
    with pytest.raises(PayloadError, match=f"{column}|count is absurd"):
        checked(payload(wrong), 1, events=1)


def test_a_column_that_only_the_collector_fills_is_not_taken_from_an_agent() -> None:
    base = from_rows([{"time": now_ns(), "event.name": "exec"}])
    lying = pa.RecordBatch.from_arrays(
        [*base.columns, pa.array(["shell"]), pa.array(["other-host"]), pa.array([99], pa.uint64())],
        names=[*base.schema.names, "process_executable_class", "host_name", "batch"])
    [row] = checked(payload(lying), 1, events=1).events.to_pylist()
    assert (row["process_executable_class"], row["host_name"], row["batch"]) == ("none", "gpu-1", 1)


def test_unknown_values_of_a_closed_field_are_kept_up_to_a_bound() -> None:
    def named(count: int) -> bytes:
        return payload(pa.record_batch({
            "time": pa.array([now_ns()] * count, pa.timestamp("ns", "UTC")),
            "event_name": pa.array([f"kind{i}" for i in range(count)])}))

    found = checked(named(20), 20)
    assert found.kinds == {f"kind{i}": 1 for i in range(20)}
    with pytest.raises(PayloadError, match="values that are unknown"):
        checked(named(60), 60)


def test_nulls_become_the_zero_of_their_type() -> None:
    nulls = pa.record_batch({
        "time": pa.array([now_ns()], pa.timestamp("ns", "UTC")), "event_name": pa.array(["exec"]),
        "file_path": pa.array([None], pa.string()), "count": pa.array([None], pa.uint64()),
        "lifecycle_phase": pa.DictionaryArray.from_arrays(pa.array([None], pa.int8()), pa.array(["load"])),
        "raced": pa.array([None], pa.bool_())})
    [row] = checked(payload(nulls), 1, events=1).events.to_pylist()
    assert (row["file_path"], row["count"], row["lifecycle_phase"], row["raced"]) == ("", 1, "unknown", False)


def test_an_empty_batch_passes() -> None:
    assert checked(payload(events(0)), 0).events.num_rows == 0


def test_sliced_and_offset_buffers_are_checked_where_they_lie() -> None:
    array = pa.array(["bad\x01", "good", "fine"]).slice(1, 2)
    batch = pa.record_batch({"time": pa.array([now_ns()] * 2, pa.timestamp("ns", "UTC")), "file_path": array})
    assert checked(payload(batch), 2).events.column("file_path").to_pylist() == ["good", "fine"]
