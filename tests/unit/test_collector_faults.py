"""What breaks and must not matter: killed and stalled processes, restarts, stops, two collectors at once, silent hosts."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from modelward_collector.data_folder import DataFolder
from modelward_collector.store import engine
from modelward_collector.store.ddl.migrations import migrate

from tests.batches import Agent, envelope, events, from_rows, now_ns
from tests.running import Collector, collector
from tests.unit.test_collector_delivery import RULE


def test_systemd_is_told_when_all_is_ready_and_when_it_stops(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(10)
        with collector(tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}):
            assert manager.recv(64) == b"READY=1"
        assert manager.recv(64) == b"STOPPING=1"


def eventually(check: Callable[[], bool], timeout_s: float = 30) -> bool:
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        if check():
            return True
        time.sleep(0.1)
    return check()


def test_a_store_killed_during_inserts_neither_loses_nor_doubles_rows_and_detections(tmp_path: Path) -> None:
    chance = random.Random(3)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "canary.yml").write_text(RULE)
    canary = {"event.name": "file_open", "file.path": "/srv/canary", "workload.id": "w", "process.root_id": "r"}
    with collector(tmp_path, rules=tmp_path / "rules") as running, Agent(running.grpc_address) as agent:
        agent.wait_welcome()
        number = 0
        for _ in range(5):
            [victim] = running.children("store.process")
            until = time.monotonic() + chance.uniform(0.05, 0.8)
            while time.monotonic() < until:
                agent.send(envelope(number + 1, events(300, seed=number)),
                           envelope(number + 2, from_rows([{"time": now_ns()} | canary])))
                number += 2
                time.sleep(0.05)
            seen = len(running.log)
            os.kill(victim, signal.SIGKILL)
            running.wait_log("started again", after=seen)
            assert eventually(lambda dead=victim: running.children("store.process") not in ([], [dead]))
            eventually((running.data / "run" / "store.sock").exists)
        agent.wait_answered(*range(1, number + 1), timeout_s=60)
        assert not agent.quarantined
        rows = running.select("SELECT batch, count() AS n, uniqExact(row) AS d FROM events_raw GROUP BY batch ORDER BY batch")
        assert [(r["batch"], r["n"], r["d"]) for r in rows] == [
            (n, 300, 300) if n % 2 else (n, 1, 1) for n in range(1, number + 1)]
        [found] = running.select("SELECT count() AS n, uniqExact(detection_id) AS d FROM detections WHERE rule_name = 'canary'")
        assert found == {"n": number // 2, "d": number // 2}
        assert not list((running.data / "journal").iterdir())


def test_a_stalled_store_pauses_agents_and_loses_nothing(tmp_path: Path) -> None:
    with collector(tmp_path) as running, Agent(running.grpc_address) as agent:
        agent.wait_welcome()
        [stalled] = running.children("store.process")
        os.kill(stalled, signal.SIGSTOP)
        try:
            agent.send(envelope(1, events(100)))
            agent.wait_credit(False)
            assert not agent.stored
            assert agent.ended is None, "the stream stays open"
        finally:
            os.kill(stalled, signal.SIGCONT)
        agent.wait_answered(1)
        agent.wait_credit(True)
        assert running.select("SELECT count() AS n FROM events_raw") == [{"n": 100}]


def test_a_nearly_full_disk_pauses_agents(tmp_path: Path) -> None:
    with collector(tmp_path, min_free_bytes=1 << 60) as running, Agent(running.grpc_address) as agent:
        agent.wait_welcome()
        agent.send(envelope(1, events(10)))
        agent.wait_credit(False)
        assert not agent.stored
        assert "nearly full" in running.wait_log("takes no batches")["reason"]


def test_a_receiver_that_is_killed_is_started_again_and_batches_come_through(tmp_path: Path) -> None:
    with collector(tmp_path, receivers=2) as running:
        with Agent(running.grpc_address) as agent:
            agent.wait_welcome()
            for receiver in running.children("ingest.receiver"):
                os.kill(receiver, signal.SIGKILL)
            agent.send(envelope(1, events(50)))
            agent.wait_ended()
        assert eventually(lambda: len(running.children("ingest.receiver")) == 2)
        with Agent(running.grpc_address) as agent:
            agent.wait_welcome()
            agent.send(envelope(1, events(50)))
            agent.wait_answered(1)
        assert running.select("SELECT count() AS n FROM events_raw") == [{"n": 50}]


def test_no_process_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        children = running.children("modelward_collector")
        assert len(children) >= 2
        running.process.kill()
        running.process.wait()
        assert eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_a_stop_answers_what_arrived_and_a_restart_knows_it(tmp_path: Path) -> None:
    with collector(tmp_path) as running, Agent(running.grpc_address) as agent:
        agent.wait_welcome()
        agent.send(*(envelope(n, events(500, seed=n)) for n in range(1, 6)))
        agent.wait_answered(1)
        agent.send(*(envelope(n, events(500, seed=n)) for n in range(6, 9)))
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(45) == 0
        agent.wait_ended()
        answered = set(agent.stored)
    with collector(tmp_path) as running, Agent(running.grpc_address) as agent:
        held = {n for r in agent.wait_welcome().held for n in range(r.first, r.last + 1)}
        assert answered <= held
        agent.send(*(envelope(n, events(500, seed=n)) for n in range(1, 9)))
        agent.wait_answered(*range(1, 9))
        [row] = running.select("SELECT count() AS n, uniqExact(batch, row) AS d FROM events_raw")
        assert row == {"n": 4000, "d": 4000}
        [total] = running.select("SELECT sum(arrayElement(totals, 1)) AS n FROM batches WHERE notEmpty(kinds)")
        assert total["n"] > 0


def run_second(running: Collector, data: Path, listen: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "modelward_collector.cli", "run", "--data", str(data), "--listen", listen,
         "--http", "127.0.0.1:0"],
        capture_output=True, text=True, timeout=30, check=False)


def test_a_second_collector_is_refused_the_same_folder_and_the_same_port(tmp_path: Path) -> None:
    with collector(tmp_path) as running:
        same_folder = run_second(running, running.data, "127.0.0.1:0")
        assert same_folder.returncode == 4
        assert f"in use by another collector (process {running.process.pid})" in same_folder.stderr
        same_port = run_second(running, tmp_path / "other", running.grpc_address)
        assert same_port.returncode == 2
        assert "another program may be serving there" in same_port.stderr


def test_a_store_of_a_newer_version_ends_the_collector_with_the_reason(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path)
    folder.create()
    lane = engine.Lane("test", folder.engine)
    lane.call(lambda c: migrate(c, 30))
    lane.call(lambda c: engine.execute(c, "INSERT INTO modelward.schema_migrations VALUES (9999, 'future', 'x', now())"))
    lane.close()
    done = subprocess.run(
        [sys.executable, "-m", "modelward_collector.cli", "run", "--data", str(tmp_path), "--listen", "127.0.0.1:0",
         "--http", "127.0.0.1:0"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "written by a newer collector" in done.stderr


def test_a_host_that_falls_silent_is_detected_once_for_each_silence(tmp_path: Path) -> None:
    with collector(tmp_path, silent_after_s=2) as running:
        def silences() -> list[int]:
            return [r["n"] for r in running.select(
                "SELECT count() AS n FROM detections WHERE event_name = 'agent_silent' AND host_name = 'quiet' "
                "GROUP BY detection_id")]

        for times in (1, 2):
            with Agent(running.grpc_address, host="quiet") as agent:
                agent.wait_welcome()
                agent.heartbeat()
                # Not silent while its stream is open and heartbeats come.
                time.sleep(0.5)
            assert eventually(lambda n=times: silences() == [1] * n), silences()
        [row] = running.select("SELECT count() AS n, uniqExact(batch) AS d FROM events WHERE event_name = 'agent_silent'")
        assert row == {"n": 2, "d": 2}
        [host] = running.select("SELECT connected, silent FROM hosts WHERE host_name = 'quiet'")
        assert host == {"connected": False, "silent": True}
        with Agent(running.grpc_address, host="quiet") as agent:
            agent.wait_welcome()
            # It hangs: the stream stays open and nothing comes.
            assert eventually(lambda: silences() == [1, 1, 1]), silences()
        assert running.select("SELECT count() AS n FROM ledger WHERE kind = 'agent_silent'") == [{"n": 0}]
