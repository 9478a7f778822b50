"""(b) What a row costs the collector: received, checked, judged by a hundred rules, stored; stage by stage and as a whole."""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa
from modelward_collector.data_folder import DataFolder
from modelward_collector.ingest.judging import Judging
from modelward_collector.ingest.validate import Source, check
from modelward_collector.rules.judge import BatchName, Judge
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.encode import without_zeros
from modelward_collector.store.engine import Lane, insert_table
from modelward_proto.v1.stream_pb2 import Batch

from deploy.demo.report import Report
from tests.batches import Agent, envelope, now_ns
from tests.bench import rules, workload
from tests.bench.columns import rate
from tests.bench.processes import Family
from tests.bench.progress import say
from tests.running import collector

RULES = 100
ROWS = 10_000
"""In one batch: what an agent sends when it has much to send."""
ROUNDS = 9
AGENTS = 3
EACH = 30
"""Batches of each agent in the whole run."""
GOAL = 300_000
SETTLE_S = 15.0
PEER_ROWS = 300


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    with tempfile.TemporaryDirectory(prefix="modelward-bench-") as temporary:
        folder = Path(temporary)
        rules.write(folder / "rules", RULES - len(Judge([]).rules()))
        say("making rows")
        tables = [workload.batch(ROWS, seed, now_ns()) for seed in range(ROUNDS)]
        _stages(report, folder, tables)
        _whole(report, folder, tables)


def later(table: pa.RecordBatch, by_ns: int) -> pa.RecordBatch:
    """The same rows, as if they had happened later."""
    place = table.schema.get_field_index("time")
    times = pa.array(table.column("time").cast(pa.int64()).to_numpy() + by_ns).cast(table.schema.field("time").type)
    return table.set_column(place, table.schema.field("time"), times)


def _stages(report: Report, folder: Path, tables: list[pa.RecordBatch]) -> None:
    """Each stage alone, in this process."""
    say(f"collector, stage by stage: {ROUNDS} batches of {ROWS:,} rows, {RULES} rules")
    judge = Judge([folder / "rules"])
    judging = Judging([folder / "rules"])
    source, name = Source("host", b"A" * 16, 30), BatchName("host", "a", "e", 1)
    place = DataFolder(folder / "stages")
    place.create()
    lane = Lane("bench", place.engine)
    lane.call(lambda c: migrate(c, 30))
    found: dict[str, list[float]] = {}
    peers: list[float] = []
    try:
        for turn, table in enumerate([tables[-1], *tables]):
            wire = envelope(turn + 1, table)
            checked = check(wire, source, now_ns())
            frame = pl.from_arrow(checked.events)
            assert isinstance(frame, pl.DataFrame)
            classified = judge.classify(frame)
            stages: dict[str, Callable[[], object]] = {
                "decode and check": partial(check, wire, source, now_ns()),
                "classify": partial(judge.classify, frame),
                f"judge by {RULES} rules": partial(judge.judge, classified, name),
                "receiver: all of these, and encode for the store": partial(_received, judging, wire, source),
                "insert, as one part": partial(_inserted, lane, checked.events, f"t{turn}", place.scratch),
            }
            for stage, work in stages.items():
                value = rate(ROWS, work)
                # The first round makes plans and caches.
                if turn:
                    found.setdefault(stage, []).append(value)
            if turn:
                peers.append(rate(PEER_ROWS, partial(_row_by_row, judge, classified[:PEER_ROWS], name)))
    finally:
        lane.close()
        judging.close()
    peer = statistics.median(peers)
    for stage, values in found.items():
        value = statistics.median(values)
        alone = stage.startswith("judge")
        report.add(f"collector, {stage}", value, "rows/s per core", "", True, peer="the same, row by row" if alone else "",
                   peer_value=peer if alone else None, ratio=value / peer if alone else None,
                   spread=f"{min(values):,.0f} to {max(values):,.0f}", counted=f"{ROUNDS} batches of {ROWS:,} rows")


def _received(judging: Judging, wire: Batch, source: Source) -> None:
    asyncio.run(judging.judge(wire, source))


def _inserted(lane: Lane, events: pa.Table, token: str, scratch: Path) -> None:
    lane.call(lambda c: insert_table(c, "events_raw", without_zeros(events), token, scratch))


def _row_by_row(judge: Judge, events: pl.DataFrame, name: BatchName) -> None:
    """Each event judged when it comes, without batches."""
    for index in range(events.height):
        judge.judge(events[index : index + 1], name)


def _whole(report: Report, folder: Path, tables: list[pa.RecordBatch]) -> None:
    """Real streams into a real collector; its processes' CPU as /proc says."""
    rows = AGENTS * EACH * ROWS
    say(f"collector as a whole: {rows:,} rows by {AGENTS} streams")
    with collector(folder, rules=[folder / "rules"]) as running:
        agents = [Agent(running.grpc_address, agent_id=bytes([65 + n]) * 16, host=f"gpu-{n}") for n in range(AGENTS)]
        for agent in agents:
            agent.__enter__()
            agent.wait_welcome()
        try:
            _send(agents, tables, 1, 2)
            family = Family.of(running.process.pid)
            batches = _prepared(tables, 3, EACH)
            before = {part: family.cpu_s(part) for part in ("ingest.receiver", "store.process", "")}
            begun = time.monotonic()
            for agent in agents:
                agent.send(*batches)
            for agent in agents:
                agent.wait_answered(*range(3, 3 + EACH), timeout_s=300)
            took = time.monotonic() - begun
            used = {part: family.cpu_s(part) - was for part, was in before.items()}
            say(f"waiting {SETTLE_S:.0f} s for the merges of what was stored")
            time.sleep(SETTLE_S)
            merged = family.cpu_s("store.process") - before["store.process"] - used["store.process"]
            stored = int(running.select("SELECT count() AS n FROM modelward.events_raw")[0]["n"]) - AGENTS * 2 * ROWS
        finally:
            for agent in agents:
                agent.close()
    both = used["ingest.receiver"] + used["store.process"]
    counted = f"{rows:,} rows in {took:.1f} s, {stored:,} stored"
    report.add("collector: received, judged, stored", rows / both, "rows/s per core", f">= {GOAL:,}",
               rows / both >= GOAL and stored == rows, counted=counted)
    parts = {"receiver (receive, check, judge)": "ingest.receiver", "store (insert, and merges meanwhile)": "store.process"}
    for name, part in parts.items():
        report.add(f"of it: {name}", used[part] / rows * 1e6, "us a row", "", True, counted=f"{used[part]:.1f} s of CPU")
    report.add("merges after the last answer", merged / rows * 1e6, "us a row", "", True, counted=f"within {SETTLE_S:.0f} s")
    report.add("collector: rows stored in a second, on all cores", rows / took, "rows/s", "", True, counted=counted)


def _send(agents: list[Agent], tables: list[pa.RecordBatch], first: int, count: int) -> None:
    for agent in agents:
        agent.send(*_prepared(tables, first, count))
    for agent in agents:
        agent.wait_answered(*range(first, first + count), timeout_s=120)


def _prepared(tables: list[pa.RecordBatch], first: int, count: int) -> list[Batch]:
    """Batches that follow one another in time."""
    return [envelope(n, later(tables[n % len(tables)], n * 10**9)) for n in range(first, first + count)]
