"""The store's calls for operators and outputs, on the real engine: exceptions, cursors, labels and mode of a host."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from modelward_collector.data_folder import DataFolder
from modelward_collector.ingest.judging import conform
from modelward_collector.settings import CollectorSettings
from modelward_collector.store.embedded import EmbeddedStore
from modelward_collector.store.encode import ipc
from modelward_collector.store.hosts import labels_of
from modelward_proto.field import arrow_schema
from modelward_proto.fields import DETECTION_FIELDS, STORED
from modelward_proto.v1.store_pb2 import AdvanceRequest, AppendRequest, ExceptionRequest, ReportRequest, SelectRequest
from modelward_proto.v1.stream_pb2 import MODE_PAUSED, Heartbeat, Hello

from tests.batches import now_ns, zero

AGENT, EPOCH = b"A" * 16, b"E" * 16


@asynccontextmanager
async def opened(root: Path) -> AsyncIterator[EmbeddedStore]:
    folder = DataFolder(root)
    folder.create()
    store = await EmbeddedStore.open(folder, CollectorSettings(data=root, min_free_bytes=0))
    try:
        yield store
    finally:
        await store.close()


async def rows(store: EmbeddedStore, sql: str) -> list[list[Any]]:
    reply = await store.select(SelectRequest(sql=sql, format="JSONCompactEachRow"))
    assert not reply.error, reply.error
    return [json.loads(line) for line in reply.data.splitlines()]


def detected(*names: str) -> AppendRequest:
    """A batch without events and with detections, which is all that these tests look at."""
    found = [{f.column: zero(f) for f in DETECTION_FIELDS} | {
        "detection_id": name, "time": now_ns(), "detected_at": now_ns(), "host_name": "a", "rule_name": "r",
        "process_executable_path": "/bin/x"} for name in names]
    table = pa.table({f.column: pa.array([d[f.column] for d in found], pa.string() if f.type == "closed" else f.arrow)
                      for f in DETECTION_FIELDS})
    return AppendRequest(agent_id=AGENT, epoch=EPOCH, number=now_ns(), batch_time_ns=now_ns(), host="a",
                         events=ipc(arrow_schema(STORED).empty_table()), detections=ipc(conform(table, DETECTION_FIELDS)))


def test_detections_are_stored_behind_an_output_that_read_while_the_clock_was_ahead(tmp_path: Path) -> None:
    async def go() -> None:
        ahead = now_ns() + 3600 * 10**9
        async with opened(tmp_path) as store:
            assert not (await store.advance(AdvanceRequest(output="siem", stored_at_ns=ahead, detection_id="gone"))).error
            await store.append(detected("new"))
            assert await rows(store, "SELECT behind FROM outputs") == [["1"]]

    asyncio.run(go())


def test_detections_are_stamped_in_the_order_of_their_insert_even_when_the_clock_goes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = time.time_ns

    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.append(detected("c", "b"))
            monkeypatch.setattr("modelward_collector.store.following.time.time_ns", lambda: clock() - 3600 * 10**9)
            await store.append(detected("a"))
        async with opened(tmp_path) as store:
            await store.append(detected("d"))
            assert await rows(store, "SELECT detection_id FROM detections ORDER BY stored_at") == [["c"], ["b"], ["a"], ["d"]]
            assert await rows(store, "SELECT uniqExact(stored_at) FROM detections") == [["4"]]

    asyncio.run(run())


def test_a_cursor_is_kept_and_says_how_far_its_output_is_behind(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            await store.append(detected("a", "b", "c"))
            [[first]] = await rows(store, "SELECT toString(toUnixTimestamp64Nano(min(stored_at))) FROM detections")
            reply = await store.advance(AdvanceRequest(output="siem", stored_at_ns=int(first), detection_id="a"))
            assert not reply.error
            await store.advance(AdvanceRequest(output="pager", stored_at_ns=int(first) + 10**9, detection_id="c"))
            await store.advance(AdvanceRequest(output="pager", stored_at_ns=int(first) + 1, detection_id="b"))
        async with opened(tmp_path) as store:
            assert await rows(store, "SELECT output, detection_id, behind FROM outputs ORDER BY output") == [
                ["pager", "b", "1"], ["siem", "a", "2"]]
            assert (await store.advance(AdvanceRequest(output="a b", stored_at_ns=1))).error
            assert (await store.advance(AdvanceRequest(output="x", stored_at_ns=2**63))).error

    asyncio.run(run())


def test_an_exception_counts_when_the_call_returns_and_after_a_restart(tmp_path: Path) -> None:
    async def run() -> None:
        asked = ExceptionRequest(id="a" * 16, rule_name="r", executable_path="/bin/x", reason="known", author="ann",
                                 expires_ns=now_ns() + 10**12)
        async with opened(tmp_path) as store:
            await store.append(detected("a"))
            assert not (await store.make_exception(asked)).error
            assert await rows(store, "SELECT silenced_by FROM detections") == [["a" * 16]]
            assert "reason" in (await store.make_exception(ExceptionRequest(id="b" * 16, rule_name="r", executable_path="x",
                                                                            expires_ns=now_ns() + 10**12))).error
        async with opened(tmp_path) as store:
            assert await rows(store, "SELECT silenced_by FROM detections") == [["a" * 16]]
            assert not (await store.make_exception(ExceptionRequest(id="a" * 16, revoked=True))).error
            assert await rows(store, "SELECT silenced_by FROM detections") == [[""]]
            asked = SelectRequest(sql="SELECT id, active, hits FROM exceptions", format="CSV")
            assert (await store.ask(asked)).data == b'"aaaaaaaaaaaaaaaa",false,0\n'

    asyncio.run(run())


def test_labels_and_mode_of_a_host_are_shown_and_hostile_ones_are_not(tmp_path: Path) -> None:
    async def run() -> None:
        async with opened(tmp_path) as store:
            hello = Hello(labels=["env=prod", "team=a b", "Bad=1", "env=test", "x=\u202e"])
            await store.report(ReportRequest(host="a", agent_id=AGENT, epoch=EPOCH, hello=hello))
            await store.report(ReportRequest(host="a", agent_id=AGENT, epoch=EPOCH, heartbeat=Heartbeat(
                mode=MODE_PAUSED, mode_reason="paused by ann\n")))
            await store.append(detected("a"))
            until = time.monotonic() + 20
            while not (shown := await rows(store, "SELECT host_labels FROM detections"))[0][0]:
                assert time.monotonic() < until
                await asyncio.sleep(0.1)
            assert shown == [[["env=prod", "team=a b"]]]
            assert await rows(store, "SELECT labels, mode, mode_reason FROM hosts") == [
                [["env=prod", "team=a b"], "paused", "paused by ann\\x0a"]]

    asyncio.run(run())


def test_labels_are_bounded() -> None:
    assert labels_of([f"n{i:02d}=v" for i in range(40)]) == [f"n{i:02d}=v" for i in range(16)]
    assert labels_of(["a=" + "v" * 64, "b" * 33 + "=v", "novalue", "ok="]) == ["ok="]
