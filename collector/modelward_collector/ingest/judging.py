"""Check, classify and judge one batch: the CPU-heavy part, on a thread of its own so that streams stay live."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
from modelward_proto.field import Field, arrow_schema
from modelward_proto.fields import BY_COLUMN, DETECTION_FIELDS
from modelward_proto.v1.stream_pb2 import Batch

from modelward_collector import metrics
from modelward_collector.ingest.payload import PayloadError
from modelward_collector.ingest.validate import STORED_SCHEMA, Checked, Source, bindings, check
from modelward_collector.rules.judge import BatchName, Judge
from modelward_collector.store.encode import ipc

_log = logging.getLogger(__name__)

RELOAD_PERIOD_S = 2.0
CLASSES = ("process_executable_class", "file_class", "destination_class")
"""The columns that only the collector fills."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What the store is given for one batch: Arrow IPC streams, empty when there is nothing."""

    events: bytes
    detections: bytes
    bindings: bytes
    kinds: dict[str, int]
    decoded_bytes: int


class Judging:
    """The judge and its thread. Batches are judged in the order in which they are given."""

    def __init__(self, rules: Sequence[Path]) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")
        self._judge = self._thread.submit(Judge, rules).result()
        self._reloaded = 0.0
        metrics.BROKEN_RULES.set(len(self._judge.problems()))

    async def judge(self, batch: Batch, source: Source) -> Judged:
        """Check and judge a batch of an agent.

        Raises:
            PayloadError: why it must be set aside.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, batch, source)

    async def judge_own(self, events: pa.Table, name: BatchName) -> Judged:
        """Judge rows that the collector made itself."""
        return await asyncio.get_running_loop().run_in_executor(
            self._thread, lambda: self._judged(Checked(events, {}), name))

    def close(self) -> None:
        """Let the work under way end."""
        self._thread.shutdown(cancel_futures=True)

    def _work(self, batch: Batch, source: Source) -> Judged:
        started = time.monotonic()
        checked = check(batch, source, time.time_ns())
        metrics.ROWS.inc(checked.events.num_rows)
        if started - self._reloaded > RELOAD_PERIOD_S:
            self._reloaded = started
            if self._judge.reload():
                metrics.BROKEN_RULES.set(len(self._judge.problems()))
        name = BatchName(source.host, source.agent_id.hex(), batch.epoch.hex(), batch.number)
        judged = self._judged(checked, name)
        metrics.JUDGE_SECONDS.observe(time.monotonic() - started)
        return judged

    def _judged(self, checked: Checked, name: BatchName) -> Judged:
        events, found = checked.events, b""
        try:
            if events.num_rows:
                frame = self._judge.classify(_frame(events))
                events = _with_classes(events, frame)
                detections = self._judge.judge(frame, name)
                metrics.JUDGED.inc(events.num_rows)
                if detections.height:
                    found = ipc(conform(detections.to_arrow(), DETECTION_FIELDS), compressed=True)
                    for severity, count in detections["severity"].value_counts().iter_rows():
                        metrics.DETECTIONS.labels(str(severity)).inc(count)
        except pl.exceptions.PanicException as e:
            # A panic is not an Exception: without this the thread would die with the batch unanswered.
            raise PayloadError("the rules' engine failed on this batch") from e
        bound = bindings(events)
        return Judged(
            ipc(events, compressed=True), found, ipc(bound) if bound is not None else b"", checked.kinds, events.nbytes)


def _frame(events: pa.Table) -> pl.DataFrame:
    frame = pl.from_arrow(events)
    if not isinstance(frame, pl.DataFrame):
        raise TypeError("a table makes a data frame")
    return frame


def _with_classes(events: pa.Table, frame: pl.DataFrame) -> pa.Table:
    for column in CLASSES:
        if column in frame.columns:
            array = closed(frame[column].cast(pl.String).fill_null("none").to_arrow(), BY_COLUMN[column])
            index = STORED_SCHEMA.get_field_index(column)
            events = events.set_column(index, STORED_SCHEMA.field(index), array)
    return events


def closed(array: pa.Array, field: Field) -> pa.Array:
    """Texts as a closed column; what is not one of its values becomes the first."""
    places = pc.fill_null(pc.index_in(array.cast(pa.string()), pa.array(field.values)), 0)
    return pa.DictionaryArray.from_arrays(places.cast(pa.int8()), pa.array(field.values))


def conform(table: pa.Table, fields: tuple[Field, ...]) -> pa.Table:
    """A table with exactly the columns and types of ``fields``."""
    table = table.combine_chunks()
    arrays = []
    for field in fields:
        column = table.column(field.column)
        array = column.chunk(0) if column.num_chunks else pa.array([], column.type)
        arrays.append(closed(array, field) if field.type == "closed" else array.cast(field.arrow))
    return pa.Table.from_arrays(arrays, schema=arrow_schema(fields))
