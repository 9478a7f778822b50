"""How groups are written: Arrow streams for the engine, times and column names as it reads them."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from modelward_proto.field import Field, arrow_schema


def timestamp(ns: int) -> str:
    """A time as the engine reads it in JSON, UTC, nanoseconds."""
    seconds, rest = divmod(ns, 10**9)
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds)) + f".{rest:09d}"


def columns_of(fields: tuple[Field, ...]) -> tuple[str, ...]:
    """Columns of fields."""
    return tuple(f.column for f in fields)


def span(events: pa.Table) -> tuple[int, int]:
    """Times of the earliest and the latest row, in nanoseconds."""
    if not events.num_rows:
        return 0, 0
    found = pc.min_max(events.column("time"))
    return found["min"].value, found["max"].value


def ipc(table: pa.Table, *, compressed: bool = False) -> bytes:
    """A table as an Arrow IPC stream of one batch. Compressed where many wait at a time."""
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="lz4" if compressed else None, use_threads=False)
    with pa.ipc.new_stream(sink, table.schema, options=options) as stream:
        stream.write_table(table.combine_chunks())
    data: bytes = sink.getvalue().to_pybytes()
    return data


def write_ipc(table: pa.Table, path: Path) -> None:
    """A table into a file, as an Arrow IPC stream of one batch: no copy of it as bytes."""
    options = pa.ipc.IpcWriteOptions(use_threads=False)
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, table.schema, options=options) as stream:
        stream.write_table(table.combine_chunks())


def without_zeros(table: pa.Table) -> pa.Table:
    """The columns that hold something beside the zero of their type: the engine fills in the others at a third of the cost.

    Closed columns stay: their zero is the first of their values, and the engine's is the empty text.
    """
    return table.select([name for name, column in zip(table.column_names, table.columns, strict=True) if not _is_zero(column)])


def _is_zero(column: pa.ChunkedArray) -> bool:
    return not column.null_count and all(_is_zero_array(chunk) for chunk in column.chunks)


def _is_zero_array(array: pa.Array) -> bool:
    if pa.types.is_string(array.type):
        offsets = np.frombuffer(array.buffers()[1] or b"", np.int32)[array.offset : array.offset + len(array) + 1]
        return not len(offsets) or bool(offsets[0] == offsets[-1])
    if pa.types.is_boolean(array.type):
        return int(array.true_count) == 0
    if pa.types.is_integer(array.type) or pa.types.is_floating(array.type):
        return not array.to_numpy(zero_copy_only=False).any()
    return False


def joined(parts: Iterable[bytes], fields: tuple[Field, ...]) -> bytes:
    """One Arrow IPC stream with the rows of all, empty when there are none."""
    schema = arrow_schema(fields)
    tables = [pa.ipc.open_stream(part).read_all().select(schema.names).cast(schema) for part in parts if part]
    if not tables:
        return b""
    return ipc(pa.concat_tables(tables).unify_dictionaries().combine_chunks())
