"""Rows a second on one core from spooled record to judged row, beside the same work done event by event in Python."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
from modelward_agent.enrich.enricher import Enricher
from modelward_agent.sensor.records import LARGE
from modelward_collector.ingest.judging import Judged, Judging
from modelward_collector.ingest.validate import Source
from modelward_collector.rules.judge import Judge
from modelward_proto.fields import SCHEMA_VERSION
from modelward_proto.text import escape
from modelward_proto.v1.stream_pb2 import Batch

from deploy.demo.report import Report

ROUNDS = 7
ROWS = 50_000
PEER_ROWS = 2_000


def measure(report: Report, records: np.ndarray[Any, Any]) -> None:
    """Adds the rows of this part. ``records``: small records from a real kernel."""
    records = np.resize(records, ROWS)
    batch = SimpleNamespace(
        epoch=bytes(16), number=1, batch_time_ns=time.time_ns(), wall_offset_ns=time.time_ns() - time.monotonic_ns(),
        small=records, large=np.zeros(0, LARGE), losses=(), late=False, checksum=0, boot_id="0" * 36, kinds={},
    )
    enricher = Enricher(boot_id="0" * 36)
    judging = Judging([])

    def encode() -> bytes:
        made = enricher.enrich(batch)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, made.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(made)
        return bytes(sink.getvalue().to_pybytes())

    wire = Batch(number=1, epoch=bytes(16), schema_version=SCHEMA_VERSION, batch_time_ns=batch.batch_time_ns,
                 rows=ROWS, events=int(records["count"].sum()), arrow=encode())

    def judged() -> Judged:
        return asyncio.run(judging.judge(wire, Source("host", bytes(16), 30)))

    fast, slow, rules = [], [], []
    for _ in range(ROUNDS):
        fast.append(_rate(ROWS, encode))
        slow.append(_rate(PEER_ROWS, lambda: _one_by_one(records[:PEER_ROWS])))
        rules.append(_rate(ROWS, judged))
    _add(report, "record to compressed Arrow", fast, slow, "one by one, no Arrow")
    _add(report, f"Arrow to checked and judged, {len(Judge([]).rules())} rules", rules, slow, "one by one, no rules")


def _rate(rows: int, work: Callable[[], Any]) -> float:
    begun = time.process_time()
    work()
    return rows / (time.process_time() - begun)


def _add(report: Report, measure: str, values: list[float], peer: list[float], peer_name: str) -> None:
    value, other = statistics.median(values), statistics.median(peer)
    report.add(measure, value, "rows/s", f"300,000; {min(values):,.0f} to {max(values):,.0f}", value >= 300_000,
               peer=peer_name, peer_value=other, ratio=value / other)


def _one_by_one(records: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """What a loop over events would do at the least: members to a dict, text escaped."""
    made = []
    for record in records:
        row = {key: record[key].item() for key in ("time_ns", "tgid", "tid", "kind", "phase", "inode", "access", "count")}
        row["path"] = escape(bytes(record["text"])[: int(record["seg"][0])])
        row["folder"] = str(Path(row["path"]).parent)
        made.append(row)
    return made
