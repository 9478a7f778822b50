"""(b) Rows a second on one core from spooled record to Arrow, beside the same work done event by event in Python."""

from __future__ import annotations

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
from modelward_proto.text import escape

from deploy.demo.report import Report
from tests.bench import opens
from tests.bench.progress import say

ROUNDS = 7
ROWS = 50_000
PEER_ROWS = 2_000


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    say(f"agent: {ROWS:,} records of a real kernel to compressed Arrow, {ROUNDS} rounds")
    records = np.resize(opens.records(), ROWS)
    batch = SimpleNamespace(
        epoch=bytes(16), number=1, batch_time_ns=time.time_ns(), wall_offset_ns=time.time_ns() - time.monotonic_ns(),
        small=records, large=np.zeros(0, LARGE), losses=(), late=False, checksum=0, boot_id="0" * 36, kinds={},
    )
    enricher = Enricher(boot_id="0" * 36)

    def encode() -> None:
        made = enricher.enrich(batch)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, made.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
            writer.write_batch(made)

    fast, slow = [], []
    for _ in range(ROUNDS):
        fast.append(rate(ROWS, encode))
        slow.append(rate(PEER_ROWS, lambda: _one_by_one(records[:PEER_ROWS])))
    value, peer = statistics.median(fast), statistics.median(slow)
    report.add("record to compressed Arrow", value, "rows/s per core", ">= 300,000", value >= 300_000,
               peer="one by one, no Arrow", peer_value=peer, ratio=value / peer,
               spread=f"{min(fast):,.0f} to {max(fast):,.0f}", counted=f"{ROWS:,} rows in each of {ROUNDS} rounds")


def rate(rows: int, work: Callable[[], Any]) -> float:
    """Rows a second of CPU, all threads."""
    begun = time.process_time()
    work()
    return rows / (time.process_time() - begun)


def _one_by_one(records: np.ndarray[Any, Any]) -> list[dict[str, Any]]:
    """What a loop over events would do at the least: members to a dict, text escaped."""
    made = []
    for record in records:
        row = {key: record[key].item() for key in ("time_ns", "tgid", "tid", "kind", "phase", "inode", "access", "count")}
        row["path"] = escape(bytes(record["text"])[: int(record["seg"][0])])
        row["folder"] = str(Path(row["path"]).parent)
        made.append(row)
    return made
