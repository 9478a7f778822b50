"""The real sender process between a real spool and a real gRPC server; only the sensor is scripted."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from modelward_agent import drainer as drainer_module
from modelward_agent import supervise
from modelward_agent.drainer import Drainer
from modelward_agent.proving import Proof
from modelward_agent.sensor.records import OBJECT
from modelward_agent.sensor.rings import Drained
from modelward_agent.settings import AgentSettings
from modelward_agent.spool.batch import Layout
from modelward_agent.spool.writer import SpoolWriter
from modelward_agent.supervise import SenderProcess
from modelward_proto.fields import WIRE_SCHEMA
from modelward_proto.kinds import Kind
from modelward_proto.v1 import stream_pb2 as pb

from tests.unit.stream_server import StreamServer, ack
from tests.unit.test_agent_drainer import FakeSensor

BOOT_ID = Path("/proc/sys/kernel/random/boot_id").read_text().strip()

pytestmark = pytest.mark.skipif(not OBJECT.exists(), reason="needs the kernel object for its record layout: run 'make bpf'")


def opens(n: int, first: int = 0) -> np.ndarray[Any, Any]:
    """File opens of one tracked process, each of a path of its own, in the kernel's layout."""
    from modelward_agent.sensor.records import SMALL

    made = np.zeros(n, SMALL)
    made["number"] = np.arange(first + 1, first + n + 1)
    made["time_ns"] = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    made["kind"], made["count"], made["ring"] = Kind.FILE_OPEN, 1, 2
    made["tgid"] = made["tid"] = made["root_tgid"] = 4_000_000
    made["start_ns"] = made["root_start_ns"] = 5_000_000_000
    made["group"] = 77
    start = SMALL.fields["text"][1]  # type: ignore[index]
    raw = made.view(np.uint8).reshape(n, SMALL.itemsize)
    for row in range(n):
        path = b"/srv/%09d" % (first + row)
        raw[row, start : start + len(path)] = np.frombuffer(path, np.uint8)
    made["seg"][:, 0] = len(b"/srv/000000000")
    return made


class Agent:
    """A drainer in this process, with a real sender beside it."""

    def __init__(self, state: Path, port: int) -> None:
        from modelward_agent.sensor.records import LARGE, SMALL

        layout = Layout(SMALL, LARGE)
        self.sensor = FakeSensor(layout=layout)
        self.writer = SpoolWriter(state / "spool", layout, limit_bytes=1 << 28, boot_id=BOOT_ID)
        settings = AgentSettings(collector=f"127.0.0.1:{port}", state=str(state), host_name="testhost", log_level="warning")
        begin: dict[str, Any] = {
            "settings": asdict(settings), "agent_id": "0" * 32, "epoch": self.writer.folder.epoch.hex(),
            "spool": str(self.writer.folder.path), "boot_id": BOOT_ID,
        }
        self.sender = SenderProcess(begin)
        self.drainer = Drainer(self.sensor, self.writer, self.sender, Proof(("true",)))
        begin["status"] = self.drainer.status()

    def feed(self, records: np.ndarray[Any, Any]) -> None:
        self.sensor.script.append(Drained(records, np.empty(0, self.sensor.layout.large), {}, {}))

    def turn(self, until: Callable[[], bool], timeout_s: float = 30.0) -> None:
        end = time.monotonic() + timeout_s
        while not until():
            assert time.monotonic() < end, "the agent did not do in time what the test waits for"
            self.drainer.step()
            time.sleep(0.002)

    def kill_sender(self) -> None:
        self.turn(lambda: self.sender.pid is not None)
        os.kill(self.sender.pid, signal.SIGKILL)  # type: ignore[arg-type]


@pytest.fixture
def server() -> Iterator[StreamServer]:
    server = StreamServer().start()
    yield server
    server.cut()


@pytest.fixture
def agent(tmp_path: Path, server: StreamServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_S", 0.01)
    monkeypatch.setattr(drainer_module, "LATE_AFTER_S", 0.2)
    agent = Agent(tmp_path, server.port)
    yield agent
    agent.sender.stop(0.0)
    agent.writer.close()


def rows_of(batch: pb.Batch) -> pa.Table:
    with pa.ipc.open_stream(batch.arrow) as stream:
        return stream.read_all()


def paths(server: StreamServer) -> list[str]:
    """Paths of all batches, each batch once, as a store would keep them."""
    first = {batch.number: batch for batch in reversed(server.batches)}
    return [path for number in sorted(first) for path in rows_of(first[number])["file_path"].to_pylist()]


def test_records_become_rows_on_the_wire(agent: Agent, server: StreamServer) -> None:
    agent.turn(lambda: agent.sender.stream_up)
    agent.feed(opens(50))
    agent.turn(lambda: agent.writer.ledger.count("stored") == 50)
    (batch,) = server.batches
    rows = rows_of(batch)
    assert rows.schema.equals(WIRE_SCHEMA)
    assert rows["file_path"].to_pylist() == [f"/srv/{n:09d}" for n in range(50)]
    assert (batch.rows, batch.events, dict(batch.kinds), batch.lane) == (50, 50, {"file_open": 50}, pb.LANE_LIVE)
    (hello,) = server.hellos
    assert (hello.epoch, hello.host_name, hello.boot_id) == (agent.writer.folder.epoch, "testhost", BOOT_ID)
    assert [door.effect for door in hello.doors] == ["exec"]


def test_heartbeat_carries_the_ledger_of_every_hop(agent: Agent, server: StreamServer) -> None:
    agent.sensor.totals = {("seen", "file_open"): 9, ("merged", "file_open"): 2}
    agent.feed(opens(7))
    agent.turn(lambda: agent.writer.ledger.count("stored") == 7)
    agent.drainer._status_at = 0.0
    agent.turn(lambda: any(count.hop == "stored" for beat in server.heartbeats for count in beat.ledger))
    last = {(count.hop, count.kind): count.count for count in server.heartbeats[-1].ledger}
    assert last == {
        ("seen", "file_open"): 9, ("merged", "file_open"): 2, ("drained", "file_open"): 7, ("spooled", "file_open"): 7,
        ("sent", "file_open"): 7, ("stored", "file_open"): 7,
    }


def test_killed_senders_and_an_outage_lose_no_row_and_count_each_once(agent: Agent, server: StreamServer) -> None:
    for part in range(40):
        agent.feed(opens(500, part * 500))
        agent.turn(lambda: not agent.sensor.script)
        if part in (8, 16):
            agent.turn(lambda: agent.sender.stream_up)
            agent.kill_sender()
        if part == 24:
            server.cut()
        if part == 34:
            server.start()
        time.sleep(0.02)
    agent.turn(lambda: agent.writer.ledger.count("stored") == 20_000)
    assert paths(server) == [f"/srv/{n:09d}" for n in range(20_000)]
    assert agent.writer.ledger.count("sent") == 20_000
    assert len({(b.number, b.checksum) for b in server.batches}) == len({b.number for b in server.batches})
    agent.turn(lambda: not list(agent.writer.folder.path.glob("*-*")))


def test_what_was_spooled_in_an_outage_comes_late_and_says_so(agent: Agent, server: StreamServer) -> None:
    agent.turn(lambda: agent.sender.stream_up)
    server.cut()
    agent.turn(lambda: agent.drainer._late)
    agent.feed(opens(5))
    agent.turn(lambda: agent.writer.last_number == 1)
    server.start()
    agent.turn(lambda: agent.writer.ledger.count("stored") == 5)
    assert server.batches[-1].lane == pb.LANE_BACKFILL
    assert set(rows_of(server.batches[-1])["late"].to_pylist()) == {True}


def test_corrupt_batch_is_counted_and_told_and_the_rest_is_sent(agent: Agent, server: StreamServer) -> None:
    server.cut()
    for part in range(3):
        agent.feed(opens(10, 10 * part))
        agent.turn(lambda part=part: agent.writer.last_number == part + 1)  # type: ignore[misc]
    (bad,) = agent.writer.folder.path.glob("*2-*.new")
    raw = bytearray(bad.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    bad.write_bytes(raw)
    server.start()
    agent.turn(lambda: agent.writer.ledger.count("stored", "file_open") == 20)
    agent.turn(lambda: agent.writer.ledger.count("evicted", "file_open") == 10)
    assert "batch 2" in agent.writer.damage
    agent.feed(opens(1))
    agent.turn(lambda: agent.writer.ledger.count("stored", "file_open") == 21)
    lost = [row for b in server.batches for row in rows_of(b).to_pylist() if row["event_name"] == "loss"]
    assert [(row["loss_hop"], row["loss_kind"], row["count"]) for row in lost] == [("evicted", "file_open", 10)]


def test_batches_that_the_collector_holds_are_counted_as_stored_and_not_sent(agent: Agent, server: StreamServer) -> None:
    server.answer = lambda batch: []
    agent.feed(opens(10))
    agent.turn(lambda: len(server.batches) == 1)
    server.held = [(1, 1)]
    server.answer = lambda batch: [ack(batch.epoch, batch.number)]
    agent.kill_sender()
    agent.turn(lambda: agent.writer.ledger.count("stored") == 10)
    assert server.numbers() == [1]
    assert agent.writer.ledger.count("sent") == 10


def test_batch_of_which_the_collector_holds_another_content_is_sent_and_said_to_be_a_copy(
    agent: Agent, server: StreamServer
) -> None:
    server.answer = lambda batch: []
    agent.feed(opens(10))
    agent.turn(lambda: len(server.batches) == 1)
    server.held, server.checksums = [(1, 1)], [server.batches[0].checksum ^ 1]
    server.answer = lambda batch: [pb.CollectorMessage(quarantine=pb.Quarantine(
        epoch=batch.epoch, number=batch.number, reason="another checksum"))]
    agent.kill_sender()
    agent.turn(lambda: agent.writer.ledger.count("quarantined") == 10)
    assert server.numbers() == [1, 1]
    assert agent.writer.ledger.count("stored") == 0
    assert any("copy of this state folder" in problem for problem in agent.drainer.status()["problems"])


def test_batch_that_waits_for_credit_is_no_batch_that_the_sender_hangs_in(
    agent: Agent, server: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "MAX_READING_S", 0.5)
    server.answer, server.credit_bytes = lambda batch: [], 1
    agent.turn(lambda: agent.sender.stream_up)
    for part in range(3):
        agent.feed(opens(10, 10 * part))
        agent.turn(lambda part=part: agent.writer.last_number == part + 1)  # type: ignore[misc]
    agent.turn(lambda: server.numbers() == [1])
    sender, until = agent.sender.pid, time.monotonic() + 1.5
    agent.turn(lambda: time.monotonic() > until)
    assert agent.sender.pid == sender
    server.answer = lambda batch: [ack(batch.epoch, batch.number)]
    server.push(ack(server.batches[0].epoch, 1))
    agent.turn(lambda: agent.writer.ledger.count("stored") == 30)
    assert server.numbers() == [1, 2, 3]


def test_word_of_a_batch_that_the_sender_missed_is_made_up_for_by_the_next(
    agent: Agent, server: StreamServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.turn(lambda: agent.sender.stream_up)
    with monkeypatch.context() as busy:
        busy.setattr(agent.sender, "tell", lambda *message: None)
        agent.feed(opens(10))
        agent.turn(lambda: agent.writer.last_number == 1)
    agent.feed(opens(10, 10))
    agent.turn(lambda: agent.writer.ledger.count("stored") == 20)


def test_stop_delivers_the_last_events(agent: Agent, server: StreamServer) -> None:
    agent.turn(lambda: agent.sender.stream_up)
    agent.feed(opens(3))
    agent.drainer.run(lambda: True)
    assert agent.writer.ledger.count("stored") == 3
    assert len(server.batches) == 1
    assert agent.sender.pid is None


def test_processes_forgotten_early_are_told_to_the_operator(agent: Agent, server: StreamServer) -> None:
    many = opens(70_000)
    many["tgid"] = many["tid"] = 4_000_000 + np.arange(len(many))
    for begin in range(0, len(many), 7_000):
        agent.feed(many[begin : begin + 7_000])
    agent.turn(lambda: any("forgotten early" in problem for beat in server.heartbeats for problem in beat.problems), 60)
