"""One host that makes up agents takes neither room nor place from the others."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from modelward_collector.ingest.quarantine import QuarantineFolder
from modelward_collector.store import hosts
from modelward_collector.store.names import file_name
from modelward_proto.v1.store_pb2 import ReportRequest


def report(host: str, number: int) -> ReportRequest:
    return ReportRequest(host=host, agent_id=number.to_bytes(16, "big"), epoch=bytes(15) + b"\1")


def test_a_host_with_ever_new_agents_leaves_room_for_other_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosts, "MOST_AGENTS", 12)
    monkeypatch.setattr(hosts, "MOST_OF_A_HOST", 4)
    known = hosts.Hosts()
    known.take(report("honest-1", 1))
    for number in range(100):
        known.take(report("hostile", number))
        known.take(report("hostile", 0))
    known.take(report("honest-2", 1))
    written, _ = known.changes()
    assert [row["host_name"] for row in written if row["host_name"] != "hostile"] == ["honest-1", "honest-2"]
    assert len(written) == 6
    assert report("hostile", 99).agent_id.hex() in {row["agent_id"] for row in written}


def test_what_ever_new_agents_leave_in_quarantine_is_bounded(tmp_path: Path) -> None:
    folder = QuarantineFolder(tmp_path, 40)
    for number in range(30):
        folder.keep(file_name(os.urandom(16), bytes(16), number, 0), b"0123456789")
    assert len(list(tmp_path.iterdir())) == len(list(tmp_path.glob("*/*"))) == 4
