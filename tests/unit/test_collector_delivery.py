"""What an agent is told of its batches, and what is then in the store: exactly once, late identity, quarantine."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pyarrow as pa
import pytest
from modelward_proto.fields import WIRE_SCHEMA

from tests.batches import Agent, envelope, events, from_rows, identity, now_ns, payload
from tests.running import Collector, collector

MakeAgent = Callable[..., Agent]

RULE = """\
title: A canary file was opened
id: 11111111-2222-4333-8444-555555555555
status: stable
description: Test.
author: Modelward
date: 2026-11-25
logsource: {product: modelward, category: file_open}
detection:
  canary:
    file.path: /srv/canary
  condition: canary
level: high
tags: [attack.t1059, atlas.aml.t0011]
modelward:
  reason: It is a canary.
  next: Look.
  sentence: "{process.executable.path} opened {file.path}"
  tests:
    match:
      - {event.name: file_open, file.path: /srv/canary}
    no_match:
      - {event.name: file_open, file.path: /srv/other}
"""


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collector]:
    folder = tmp_path_factory.mktemp("c")
    (folder / "rules").mkdir()
    (folder / "rules" / "canary.yml").write_text(RULE)
    with collector(folder, rules=folder / "rules") as made:
        yield made


_numbers = itertools.count(1)


@pytest.fixture
def agent(running: Collector) -> MakeAgent:
    """Makes an agent of a host of its own for each test; called again, the same agent with a new stream."""
    number = next(_numbers)

    def make(first_unacked: int = 1) -> Agent:
        return Agent(running.grpc_address, agent_id=number.to_bytes(16, "big"), epoch=number.to_bytes(16, "little"),
                     host=f"host-{number}", first_unacked=first_unacked)

    return make


def of(made: Agent) -> dict[str, str]:
    return {"host": made._hello.host_name}


def stored_rows(running: Collector, made: Agent) -> list[tuple[int, int, int]]:
    """(batch, rows, distinct rows) of one agent's events."""
    found = running.select("SELECT batch, count() AS n, uniqExact(row) AS d FROM events_raw WHERE host_name = {host:String} "
                           "AND event_name != 'loss' GROUP BY batch ORDER BY batch", **of(made))
    return [(r["batch"], r["n"], r["d"]) for r in found]


def canary(number: int, epoch: bytes) -> object:
    return envelope(number, from_rows([{"time": now_ns(), "event.name": "file_open", "file.path": "/srv/canary",
                                        "process.executable.path": "/usr/bin/python3.11",
                                        "workload.id": "host:w", "process.root_id": "root"}]), epoch=epoch)


def test_an_acknowledged_batch_is_in_the_store(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        made.send(envelope(1, events(2000), epoch=made.epoch))
        made.wait_answered(1)
        assert stored_rows(running, made) == [(1, 2000, 2000)]
    assert made.stored == {1}


def test_a_batch_that_was_sent_twice_is_stored_once(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        batch = envelope(1, events(500), epoch=made.epoch)
        made.send(batch, batch)
        made.wait_answered(1)
        made.send(batch, envelope(2, events(10), epoch=made.epoch))
        made.wait_answered(2)
        assert stored_rows(running, made) == [(1, 500, 500), (2, 10, 10)]
        assert not made.quarantined


def test_batches_that_come_out_of_order_are_each_stored_once(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        for number in (5, 2, 4, 1, 3, 2):
            made.send(envelope(number, events(100, seed=number), epoch=made.epoch))
        made.wait_answered(1, 2, 3, 4, 5)
        assert stored_rows(running, made) == [(n, 100, 100) for n in range(1, 6)]


def test_a_stream_that_breaks_before_the_ack_neither_doubles_nor_loses_batches(running: Collector, agent: MakeAgent) -> None:
    batches = None
    for _ in range(4):
        made = agent()
        batches = batches or [envelope(n, events(200, seed=n), epoch=made.epoch) for n in range(1, 9)]
        with made:
            made.wait_welcome()
            made.send(*batches)
            time.sleep(0.05)
            made.cut()
    with agent() as made:
        made.wait_welcome()
        made.send(*batches)
        made.wait_answered(*range(1, 9))
        assert stored_rows(running, made) == [(n, 200, 200) for n in range(1, 9)]


def test_welcome_names_what_is_held(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        assert not made.wait_welcome().held
        made.send(*(envelope(n, events(5), epoch=made.epoch) for n in (1, 2, 3, 7, 8, 10)))
        made.wait_answered(1, 2, 3, 7, 8, 10)
    with agent(first_unacked=2) as made:
        assert [(r.first, r.last) for r in made.wait_welcome().held] == [(2, 3), (7, 8), (10, 10)]
        assert made.welcome is not None
        assert made.welcome.host_name == made._hello.host_name


def test_a_known_name_with_other_content_is_quarantined(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        made.send(envelope(1, events(50), epoch=made.epoch))
        made.wait_answered(1)
        made.send(envelope(1, events(60, seed=2), epoch=made.epoch, checksum=99), envelope(2, events(5), epoch=made.epoch))
        made.wait_answered(2)
        made._wait(lambda: 1 in made.quarantined, 10, "the quarantine")
        assert "checksum" in made.quarantined[1]
        assert stored_rows(running, made) == [(1, 50, 50), (2, 5, 5)]
        [row] = running.select("SELECT batch, checksum, reason, file FROM quarantine WHERE host_name = {host:String}", **of(made))
        assert (row["batch"], row["checksum"]) == (1, 99)
        kept = running.data / "quarantine" / row["file"]
        until = time.monotonic() + 5
        while not kept.exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert pa.ipc.open_stream(kept.read_bytes()).read_all().num_rows == 60


def test_a_detection_stays_one_when_its_batch_comes_again(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        batch = canary(1, made.epoch)
        made.send(batch)
        made.cut()
    for _ in range(2):
        with agent() as made:
            made.wait_welcome()
            made.send(batch, canary(2, made.epoch))
            made.wait_answered(1, 2)
    found = running.select("SELECT rule_name, count() AS n, uniqExact(detection_id) AS d FROM detections "
                           "WHERE host_name = {host:String} AND rule_name = 'canary' GROUP BY rule_name", **of(made))
    assert [(r["n"], r["d"]) for r in found] == [(2, 2)]
    [incident] = running.select("SELECT count, severity, sentence FROM incidents WHERE host_name = {host:String} "
                                "AND rule_name = 'canary'", **of(made))
    assert incident == {"count": 2, "severity": "high", "sentence": "/usr/bin/python3.11 opened /srv/canary"}


def test_an_identity_that_comes_late_names_earlier_events(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        own = events(30, model_instance=77, lifecycle_origin_instance=77)
        made.send(envelope(1, own, epoch=made.epoch), envelope(2, events(10, model_instance=78), epoch=made.epoch))
        made.wait_answered(1, 2)
        made.send(envelope(3, identity(77, "late-model", digest="abc"), epoch=made.epoch))
        made.wait_answered(3)

        def named() -> int:
            [row] = running.select("SELECT count() AS n FROM events WHERE model_id = 'late-model' AND host_name = {host:String} "
                                   "AND lifecycle_origin_model IN ('late-model', '') AND model_digest = 'abc'", **of(made))
            return int(row["n"])

        until = time.monotonic() + 10
        while named() != 31 and time.monotonic() < until:
            time.sleep(0.1)
        assert named() == 31
        [model] = running.select("SELECT instances, hosts, digest, phase FROM models WHERE model_id = 'late-model'")
        assert model["instances"] == 1
        assert model["digest"] == "abc"


def test_one_host_cannot_name_the_instances_of_another(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        made.send(envelope(1, events(3, model_instance=4242), epoch=made.epoch))
        made.wait_answered(1)
    with Agent(running.grpc_address, agent_id=b"X" * 16, epoch=b"Y" * 16, host="liar") as liar:
        liar.wait_welcome()
        liar.send(envelope(1, identity(4242, "trusted-model"), epoch=liar.epoch))
        liar.wait_answered(1)
    time.sleep(0.5)
    found = running.select("SELECT DISTINCT model_id FROM events WHERE host_name = {host:String}", **of(made))
    assert found == [{"model_id": ""}]


def bad_batches(epoch: bytes) -> dict[str, tuple[object, str]]:
    good = events(20)
    control = from_rows([{"time": now_ns(), "file.path": "/tmp/a\x1b[31m"}])
    bidi = from_rows([{"time": now_ns(), "file.path": "/tmp/a‮txt"}])
    old = from_rows([{"time": 5, "file.path": "/tmp/a"}])
    values = pa.array([b"\xff\xfe"], pa.binary())
    index = WIRE_SCHEMA.get_field_index("file_path")
    base = from_rows([{"time": now_ns()}])
    not_utf8 = base.set_column(index, "file_path", pa.Array.from_buffers(pa.string(), 1, values.buffers()))
    day = 86_400 * 10**9
    bomb = pa.record_batch({"file_path": pa.array(["\0" * (1 << 20)] * 220)})
    return {
        "garbage": (envelope(1, good, epoch=epoch, arrow=b"not arrow at all"), "not a readable Arrow"),
        "cut payload": (envelope(1, good, epoch=epoch, arrow=payload(good)[:-900]), "not a readable Arrow"),
        "schema version": (envelope(1, good, epoch=epoch, schema_version=99), "schema version 99"),
        "rows": (envelope(1, good, epoch=epoch, rows=21), "20 rows, the envelope says 21"),
        "events": (envelope(1, good, epoch=epoch, events=999), "the envelope says 999"),
        "control": (envelope(1, control, epoch=epoch), "control characters"),
        "invisible": (envelope(1, bidi, epoch=epoch), "invisible characters"),
        "utf-8": (envelope(1, not_utf8, epoch=epoch), "not a readable Arrow"),
        "row time": (envelope(1, old, epoch=epoch), "time is absurd"),
        "old batch": (envelope(1, good, epoch=epoch, time_ns=now_ns() - 400 * day), "time is absurd"),
        "future batch": (envelope(1, good, epoch=epoch, time_ns=now_ns() + 3 * day), "time is absurd"),
        "bomb": (envelope(1, bomb, epoch=epoch, events=220), "MiB when it is read"),
    }


@pytest.mark.parametrize("case", list(bad_batches(b"E" * 16)))
def test_a_bad_batch_is_set_aside_and_the_next_one_is_stored(running: Collector, agent: MakeAgent, case: str) -> None:
    with agent() as made:
        made.wait_welcome()
        bad, reason = bad_batches(made.epoch)[case]
        made.send(bad, envelope(2, events(5), epoch=made.epoch))
        made.wait_answered(1, 2)
        assert reason in made.quarantined[1]
        assert made.stored == {2}
        assert stored_rows(running, made) == [(2, 5, 5)]
        [row] = running.select("SELECT reason FROM quarantine WHERE host_name = {host:String}", **of(made))
        assert reason in row["reason"]
        assert running.select("SELECT DISTINCT event_name FROM detections WHERE host_name = {host:String}", **of(made)) == [
            {"event_name": "loss"}]


def test_an_agent_of_another_version_is_understood(running: Collector, agent: MakeAgent) -> None:
    """Unknown columns are ignored, missing ones default, plain strings do for dictionaries, unknown values are kept."""
    columns = {
        "time": pa.array([now_ns()] * 2, pa.timestamp("ns", "UTC")),
        "event_name": pa.array(["exec", "gpu_kernel_launch"]),
        "process_pid": pa.array([5, None], pa.int64()),
        "file_path": pa.array(["/a", "/b"], pa.large_string()),
        "of_the_future": pa.array([1.5, 2.5]),
    }
    with agent() as made:
        made.wait_welcome()
        made.send(envelope(1, pa.record_batch(columns), epoch=made.epoch))
        made.wait_answered(1)
        assert not made.quarantined
        found = running.select("SELECT event_name, process_pid, file_path, count, lifecycle_phase FROM events "
                               "WHERE host_name = {host:String} ORDER BY row", **of(made))
        assert [tuple(r.values()) for r in found] == [
            ("exec", 5, "/a", 1, "unknown"), ("gpu_kernel_launch", 0, "/b", 1, "unknown")]


def test_hostile_text_arrives_unchanged(running: Collector, agent: MakeAgent) -> None:
    text = "/tmp/<b>it's \"x\"</b>;--\\x0a\\xff\\x1b[0m ümläut 模型"
    with agent() as made:
        made.wait_welcome()
        made.send(envelope(1, from_rows([{"time": now_ns(), "event.name": "file_open", "file.path": text}]), epoch=made.epoch))
        made.wait_answered(1)
        assert not made.quarantined
        assert running.select("SELECT file_path FROM events WHERE host_name = {host:String} AND file_path = {t:String}",
                              **of(made), t=text) == [{"file_path": text}]


def test_the_ledger_adds_up_and_ignores_an_agents_word_on_our_hops(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        made.heartbeat({("seen", "file_open"): 12, ("ring_dropped", "all"): 2, ("stored", "file_open"): 99, ("no_hop", "x"): 5})
        made.send(envelope(1, from_rows([{"time": now_ns(), "event.name": "file_open", "count": 7}] * 3), epoch=made.epoch),
                  envelope(2, events(3, event_name="exec"), epoch=made.epoch, arrow=b"x"))
        made.wait_answered(1, 2)
        made.heartbeat({("seen", "file_open"): 21}, problems=["the spool is nearly full\x1b[0m"])
        wanted = {("seen", "file_open"): 21, ("ring_dropped", "all"): 2, ("received", "file_open"): 21,
                  ("stored", "file_open"): 21, ("received", "exec"): 3, ("quarantined", "exec"): 3}

        def ledger() -> dict[tuple[str, str], int]:
            return {(r["hop"], r["kind"]): r["count"] for r in running.select(
                "SELECT hop, kind, count FROM ledger WHERE host_name = {host:String} AND count > 0", **of(made))}

        until = time.monotonic() + 10
        while ledger() != wanted and time.monotonic() < until:
            time.sleep(0.1)
        assert ledger() == wanted
        [host] = running.select("SELECT connected, silent, stored, received, lost, problems, kernel_release FROM hosts "
                                "WHERE host_name = {host:String}", **of(made))
        assert host == {"connected": True, "silent": False, "stored": 21, "received": 24, "lost": 5,
                        "problems": ["the spool is nearly full\\x1b[0m"], "kernel_release": "6.18.0"}


def test_a_stream_that_breaks_the_protocol_is_refused_with_a_reason(running: Collector) -> None:
    with Agent(running.grpc_address, agent_id=b"short", epoch=b"E" * 16) as made:
        made.wait_ended()
        assert "16 random bytes" in made.refused
    with Agent(running.grpc_address, host="<script>") as made:
        made.wait_ended()
        assert "host name" in made.refused
    with Agent(running.grpc_address) as made:
        made.wait_welcome()
        made.heartbeat(problems=["x" * (2 << 20)])
        made.wait_ended()
        assert "heartbeat has more than 1 MiB" in made.refused


def test_each_process_writes_its_metrics(running: Collector, agent: MakeAgent) -> None:
    with agent() as made:
        made.wait_welcome()
        made.send(envelope(1, events(11), epoch=made.epoch))
        made.wait_answered(1)
        files = {p.name.partition("_")[0] for p in (running.data / "run" / "metrics").iterdir()}
        assert {"counter", "gauge", "histogram"} <= files


def test_only_the_owner_can_reach_the_store(running: Collector) -> None:
    assert (running.data.stat().st_mode & 0o777) == 0o700
    assert ((running.data / "run" / "store.sock").stat().st_mode & 0o777) == 0o600


def test_another_user_of_this_machine_cannot_speak_as_an_agent(running: Collector) -> None:
    """What a server that was taken over would try; it needs root to become another user, so the test runs as root."""
    code = ("import os, sys; sys.path.insert(0, '.')\n"
            "import grpc._channel  # grpc imports it late, when the tree may lie where that user cannot read\n"
            "from tests.batches import Agent\n"
            "os.setgid(65534); os.setuid(65534)\n"
            f"with Agent({running.grpc_address!r}, host='victim') as agent:\n"
            "    agent.wait_ended(); print(agent.refused)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert "only root and the collector's own user" in done.stdout, done.stderr
    assert running.select("SELECT count() AS n FROM hosts WHERE host_name = 'victim'") == [{"n": 0}]
