"""The last word of each agent: not lost with a write that failed, and not held up by a clock that was set back."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from modelward_collector.store import engine, hosts
from modelward_collector.store.ddl.migrations import migrate
from modelward_collector.store.encode import timestamp
from modelward_collector.store.held import EpochKey, Held
from modelward_proto.v1.store_pb2 import ReportRequest
from modelward_proto.v1.stream_pb2 import Count, Heartbeat

HOUR_NS = 3600 * 10**9


def report(seen: int) -> ReportRequest:
    return ReportRequest(host="h", agent_id=b"A" * 16, epoch=b"E" * 16, heartbeat=Heartbeat(
        ledger=[Count(hop="seen", kind="exec", count=seen)]))


def test_counts_that_a_full_disk_refused_are_written_later() -> None:
    known = hosts.Hosts()
    known.take(report(5))
    refused = known.changes()
    assert known.changes() == ([], [])
    known.unwritten(*refused)
    lines, ledger = known.changes()
    assert [row["host_name"] for row in lines] == ["h"]
    assert [(cell["hop"], cell["kind"], cell["count"]) for cell in ledger] == [("seen", "exec", 5)]


def test_a_loss_that_does_not_grow_is_written_again_before_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(hosts.time, "monotonic", lambda: now[0])
    known = hosts.Hosts()
    known.take(report(5))
    known.changes()
    days = []
    for _ in range(4):
        now[0] += hosts.AGAIN_S / 2
        known.take(report(5))
        days.append(len(known.changes()[1]))
    assert days in ([1, 0, 1, 0], [0, 1, 0, 1])


def test_what_was_quarantined_counts_after_its_rows_have_expired(tmp_path: Path) -> None:
    lane, key = engine.Lane("test", tmp_path), EpochKey("h", "a", "e")
    at = timestamp(time.time_ns())[:23]
    row = {"host_name": "h", "agent_id": "a", "epoch": "e", "at": at}
    left = {"batch": 9, "checksum": 1, "kinds": ["exec", "connect"], "counts": [5, 2]}
    try:
        lane.call(lambda c: migrate(c, 30))
        lane.call(lambda c: hosts.flush(c, [], [
            row | {"hop": "quarantined", "kind": "exec", "count": 100},
            row | {"hop": "stored", "kind": "exec", "count": 900}]))
        lane.call(lambda c: engine.insert_json(c, "quarantine", [row | left], "t"))
        assert lane.call(lambda c: Held().epoch(c, key)).quarantined == {"exec": 100, "connect": 2}
    finally:
        lane.close()


def test_a_clock_that_is_set_back_hides_no_later_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lane, true_ns = engine.Lane("test", tmp_path), time.time_ns
    ahead = HOUR_NS
    monkeypatch.setattr(hosts.time, "time_ns", lambda: true_ns() + ahead)

    def seen(known: hosts.Hosts, count: int) -> int:
        known.take(report(count))
        lines, ledger = known.changes()
        lane.call(lambda c: hosts.flush(c, lines, ledger))
        [[found]] = lane.call(lambda c: engine.rows(c, "SELECT count FROM modelward.ledger"))
        return int(found)

    try:
        lane.call(lambda c: migrate(c, 30))
        known = hosts.Hosts()
        assert seen(known, 1) == 1
        ahead = 0
        assert seen(known, 2) == 2
        restarted = hosts.Hosts()
        lane.call(restarted.load)
        assert seen(restarted, 3) == 3
    finally:
        lane.close()
