"""Shortages that pass, and a sender that dies over a model: neither costs a batch or a name."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelward_agent import drainer as drainer_module
from modelward_agent import supervise
from modelward_agent.identity.artifact import Artifact
from modelward_agent.identity.resolver import Resolver
from modelward_agent.identity.unfinished import Unfinished
from modelward_agent.sensor.constants import Flag
from modelward_agent.sensor.records import OBJECT
from modelward_agent.spool.reader import SpoolBusy, SpoolReader

from tests.unit.stream_server import StreamServer
from tests.unit.test_agent_sender import Agent, opens, rows_of

pytestmark = pytest.mark.skipif(not OBJECT.exists(), reason="needs the kernel object for its record layout: run 'make bpf'")


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


def artifact(instance: int = 7, path: bytes = b"/srv/m.gguf") -> Artifact:
    return Artifact(instance, 1, 2, path, b"", 3, 4, 5, header=b"\x00\xff")


def loads(path: Path, instance: int) -> np.ndarray[Any, Any]:
    """The open of a model file that is really there, as the kernel reports it."""
    made = opens(1)
    about = path.stat()
    made["flags"] = Flag.ARTIFACT
    made["instance"], made["inode"] = instance, about.st_ino
    made["device"] = os.major(about.st_dev) << 20 | os.minor(about.st_dev)
    raw, start = made.view(np.uint8), made.dtype.fields["text"][1]
    name = os.fsencode(path)
    raw[start : start + len(name)] = np.frombuffer(name, np.uint8)
    made["seg"][:, 0] = len(name)
    return made


def readers(sender: int) -> list[int]:
    """Processes that read an artifact for this sender."""
    found = []
    for thread in Path(f"/proc/{sender}/task").iterdir():
        # A thread may have ended.
        with contextlib.suppress(OSError):
            found += [int(pid) for pid in (thread / "children").read_text().split()]
    return found


def test_batch_that_cannot_be_read_for_want_of_descriptors_waits(agent: Agent) -> None:
    agent.feed(opens(3))
    while agent.writer.last_number == 0:
        agent.drainer.step()
    reader = SpoolReader(agent.writer.folder, agent.writer.layout)
    number = reader.next()
    assert number == 1
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        with pytest.raises(SpoolBusy):
            reader.claim(number)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert reader.next() == number
    batch = reader.claim(number)
    assert batch is not None
    assert len(batch.small) == 3


def test_model_whose_batch_is_stored_is_named_by_the_sender_that_comes_after_a_crash(
    agent: Agent, server: StreamServer, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"GGUF" + bytes(1 << 20))
    agent.turn(lambda: agent.sender.stream_up)
    agent.feed(loads(path, 4711))
    first = agent.sender.pid
    assert first is not None

    def held() -> bool:
        for pid in readers(first):
            os.kill(pid, signal.SIGSTOP)
        return bool(readers(first))

    agent.turn(held, timeout_s=120)
    agent.turn(lambda: agent.writer.ledger.count("stored", "file_open") == 1)
    stopped = readers(first)
    agent.kill_sender()
    for pid in stopped:
        os.kill(pid, signal.SIGKILL)

    def named() -> list[dict[str, Any]]:
        rows = [row for batch in list(server.batches) for row in rows_of(batch).to_pylist()]
        return [row for row in rows if row["event_name"] == "model_identity" and row["model_instance"] == 4711]

    agent.turn(lambda: bool(named()), timeout_s=120)
    assert {row["model_path"] for row in named()} == {str(path)}
    until = time.monotonic() + 60
    kept = agent.writer.folder.path / "unfinished"
    agent.turn(lambda: json.loads(kept.read_text())["artifacts"] == [] or time.monotonic() > until, timeout_s=120)
    assert json.loads(kept.read_text())["artifacts"] == []


def test_what_is_still_to_be_identified_comes_back_as_it_was(tmp_path: Path) -> None:
    clock = [0.0]
    kept = Unfinished(tmp_path / "unfinished", "boot", Artifact, now=lambda: clock[0])
    assert kept.load() == []
    both = [artifact(7), artifact(8, b"/srv/\xff\n.gguf")]
    kept.save(both)
    assert Unfinished(tmp_path / "unfinished", "boot", Artifact).load() == both
    assert Unfinished(tmp_path / "unfinished", "another boot", Artifact).load() == []
    clock[0] = 5.0
    kept.save([artifact(instance) for instance in range(1000)])
    assert [each.instance for each in Unfinished(tmp_path / "unfinished", "boot", Artifact).load()] == list(range(744, 1000))


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b'{"boot_id": "boot"}', b'{"boot_id": "boot", "artifacts": [{}]}', b"\xff" * 100, b"[" * 100_000,
    b'{"boot_id": "boot", "artifacts": [{"instance": "x"}]}', b'{"boot_id": "boot", "artifacts": {"a": 1}}',
    *(b'{"boot_id": "boot", "artifacts": [{"instance": %s, "pid": %s, "start_ns": 1, "path": "", "asked": "", "device": 1, '
      b'"inode": 1, "time_ns": 1, "header": ""}]}' % (instance, pid) for instance, pid in (
          (b"1e400", b"1"), (b"-1", b"1"), (b"18446744073709551616", b"1"), (b"1", b"4294967296"))),
])
def test_damaged_file_of_the_unfinished_is_forgotten(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "unfinished").write_bytes(content)
    assert Unfinished(tmp_path / "unfinished", "boot", Artifact).load() == []


def test_resolver_knows_what_it_has_not_answered_and_takes_an_instance_once(tmp_path: Path) -> None:
    resolver = Resolver()
    wanted = artifact(7, os.fsencode(tmp_path / "nowhere.gguf"))
    resolver.submit(wanted)
    resolver.submit(wanted)
    assert resolver.unfinished() == [wanted]
    found, until = [], time.monotonic() + 120
    while resolver.unfinished() and time.monotonic() < until:
        found += resolver.results()
        time.sleep(0.01)
    assert [each.instance for each, _ in found] == [7]
    resolver.close()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def kept(tmp_path: Path, clock: list[float]) -> Unfinished[Artifact]:
    return Unfinished(tmp_path / "unfinished", "boot", Artifact, now=lambda: clock[0])


def test_what_is_unfinished_is_written_once_a_second_and_at_the_end(kept: Unfinished[Artifact], clock: list[float]) -> None:
    kept.save([artifact(1)])
    for instance in range(2, 30):
        kept.save([artifact(instance)])
    assert [each.instance for each in kept.load()] == [1]
    clock[0] = 1.5
    kept.save([artifact(30)])
    assert [each.instance for each in kept.load()] == [30]
    kept.save([artifact(31)], last=True)
    assert [each.instance for each in kept.load()] == [31]


def test_a_disk_that_refuses_is_left_alone_for_a_minute(
    kept: Unfinished[Artifact], clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def full(path: Path, text: str) -> None:
        tried.append(clock[0])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    for second in range(100):
        clock[0] = float(second)
        kept.save([artifact(second)], last=True)
    assert tried == [0.0, 60.0]


def test_long_paths_of_one_workload_take_a_bounded_file_and_no_place_of_anothers(
    kept: Unfinished[Artifact], tmp_path: Path
) -> None:
    greedy = [artifact(instance, b"/" + b"x" * 4000) for instance in range(2, 300)]
    kept.save([dataclasses.replace(artifact(1), workload="honest"), *greedy])
    assert (tmp_path / "unfinished").stat().st_size < 300 << 10
    found = kept.load()
    assert (found[0].workload, found[-1].instance) == ("honest", 299)
    assert len(found) > 20


def test_a_name_that_was_asked_for_as_it_is_is_written_once(kept: Unfinished[Artifact], tmp_path: Path) -> None:
    both = [dataclasses.replace(artifact(1, b"/srv/model"), asked=asked) for asked in (b"/srv/model", b"", b"/srv/link")]
    kept.save(both)
    assert kept.load() == both
    assert (tmp_path / "unfinished").read_text().count(b"/srv/model".hex()) == 3
