"""A batch's rows as the message that goes over the wire."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from modelward_proto.fields import SCHEMA_VERSION, WIRE_SCHEMA
from modelward_proto.v1 import stream_pb2 as pb

from modelward_agent.spool.batch import SpooledBatch

MAX_PAYLOAD_BYTES = 40 << 20
"""A collector sets a longer one aside, and one that is much longer ends the stream, each time it is sent."""

_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")


def message(batch: SpooledBatch, rows: pa.RecordBatch) -> pb.Batch:
    """What is sent of a batch, whose rows these are.

    Raises:
        ValueError: it would be too long.
    """
    arrow = to_ipc(rows)
    if len(arrow) > MAX_PAYLOAD_BYTES:
        raise ValueError(f"it takes {len(arrow)} bytes on the wire")
    kinds = count_rows(rows)
    return pb.Batch(
        number=batch.number, epoch=batch.epoch, schema_version=SCHEMA_VERSION,
        batch_time_ns=batch.batch_time_ns, checksum=batch.checksum, rows=rows.num_rows,
        events=sum(kinds.values()), kinds=kinds, arrow=arrow,
        lane=pb.LANE_BACKFILL if batch.late else pb.LANE_LIVE,
    )


def count_rows(rows: pa.RecordBatch) -> dict[str, int]:
    """Events by event name: the sum of ``count``."""
    names = rows.column("event_name")
    sums = np.bincount(names.indices.to_numpy(), weights=rows.column("count").to_numpy(), minlength=0)
    return {name: int(n) for name, n in zip(names.dictionary.to_pylist(), sums, strict=False) if n}


def to_ipc(rows: pa.RecordBatch) -> bytes:
    """An Arrow IPC stream of one record batch, buffers compressed."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, WIRE_SCHEMA, options=_COMPRESSED) as writer:
        writer.write_batch(rows)
    return bytes(sink.getvalue())
