"""Shortages that pass, and a sender that dies over a model: neither costs a batch or a name."""

from __future__ import annotations

import contextlib
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
    kept = Unfinished(tmp_path / "unfinished", "boot", Artifact)
    assert kept.load() == []
    both = [artifact(7), artifact(8, b"/srv/\xff\n.gguf")]
    kept.save(both)
    assert Unfinished(tmp_path / "unfinished", "boot", Artifact).load() == both
    assert Unfinished(tmp_path / "unfinished", "another boot", Artifact).load() == []
    kept.save([artifact(instance) for instance in range(1000)])
    assert [each.instance for each in Unfinished(tmp_path / "unfinished", "boot", Artifact).load()] == list(range(744, 1000))


@pytest.mark.parametrize("content", [
    b"", b"{", b"[]", b'{"boot_id": "boot"}', b'{"boot_id": "boot", "artifacts": [{}]}', b"\xff" * 100, b"[" * 100_000,
    b'{"boot_id": "boot", "artifacts": [{"instance": "x"}]}', b'{"boot_id": "boot", "artifacts": {"a": 1}}',
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
