"""The line between sender and drainer when one is killed, stands still or says nonsense: real processes, a scripted sensor.

What registered artifacts and late loads pass through must neither end the drainer nor lose what was said.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from modelward_agent import supervise
from modelward_agent.control import Channel
from modelward_agent.drainer import Drainer
from modelward_agent.sensor.rings import Drained
from modelward_proto.kinds import Kind

from tests.unit.identity_files import artifact, write_gguf
from tests.unit.stream_server import StreamServer
from tests.unit.test_agent_drainer import LISTENING, NOTHING, FakeSensor, records, spooled, turn
from tests.unit.test_agent_drainer import agent as scripted
from tests.unit.test_agent_sender import Agent

__all__ = ["scripted"]

Make = Callable[..., tuple[Drainer, FakeSensor, Any]]

_THEN = """
line.tell("artifacts", [[1, 2]])
line.tell("late", [[3, 4, 5, 6, 7]])
for message in hear(): pass
"""
_GOOD = ["artifacts [(1, 2)]", "late [(3, 4, 5, 6, 7)]"]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_S", 0.01)


def said(sensor: FakeSensor) -> list[str]:
    return [did for did in sensor.did if did.startswith(("artifacts", "late"))]


@pytest.mark.parametrize("raw", [
    pytest.param("b'no json'", id="no json"),
    pytest.param("b'\\xff\\xfe'", id="no text"),
    pytest.param("b'[' * 100000", id="nested"),
    pytest.param("b'{\"a\": 1}'", id="no list"),
    pytest.param("b'[]'", id="nothing"),
    pytest.param("b'[[]]'", id="no word"),
    pytest.param("b'[\"artifacts\", [[1, 2' + b'3' * (1 << 18)", id="longer than a message"),
    pytest.param("b'[\"artifacts\"]'", id="no files"),
    pytest.param("b'[\"artifacts\", 5]'", id="a number for files"),
    pytest.param("b'[\"artifacts\", [[1]]]'", id="half a file"),
    pytest.param("b'[\"artifacts\", [[-1, 2]]]'", id="a number below 0"),
    pytest.param("b'[\"artifacts\", [[1, 99999999999999999999]]]'", id="a number above all"),
    pytest.param("b'[\"late\", [[1, 2, 3, 4]]]'", id="half a load"),
    pytest.param("b'[\"late\", [[1, 2, 3, 4, \"x\"]]]'", id="a text for a group"),
    pytest.param("b'[\"stored\", \"1\", {}]'", id="a text for a batch"),
    pytest.param("b'[\"sent\", 1, {\"file_open\": 1e400}]'", id="no count"),
    pytest.param("b'[\"rm\", \"-rf\"]'", id="no such word"),
])
def test_nonsense_of_the_sender_is_counted_and_what_follows_is_heard(scripted: Make, raw: str) -> None:
    drainer, sensor, writer = scripted(sender=f"{LISTENING}\nline.socket.setblocking(True)\nline.socket.send({raw})\n{_THEN}")
    turn(drainer, lambda: len(said(sensor)) == 2)
    assert said(sensor) == _GOOD
    assert any("what is no message" in problem for problem in drainer.status()["problems"])
    sensor.script.append(Drained(records(3), NOTHING, {2: 7}, {}))
    turn(drainer, lambda: sensor.committed == {2: 7})
    assert sum(len(batch.small) for batch in spooled(writer)) == 3


@pytest.fixture
def drainer(scripted: Make) -> Drainer:
    return scripted()[0]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=8)
_WORDS = ("stream", "reading", "sent", "stored", "quarantined", "corrupt", "artifacts", "late", "canary")


@given(st.lists(st.tuples(st.sampled_from(_WORDS), st.lists(_JSON, max_size=4)), max_size=5))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_message_ends_the_drainer(drainer: Drainer, messages: list[tuple[str, list[Any]]]) -> None:
    drainer._hear([[what, *rest] for what, rest in messages])
    drainer.status()


@pytest.mark.usefixtures("quick")
def test_what_a_killed_sender_said_is_heard_and_the_next_one_goes_on(scripted: Make, tmp_path: Path) -> None:
    mark = tmp_path / "second"
    sender = LISTENING + f"""
import os, signal
first = 0 if not os.path.exists({str(mark)!r}) else 1000
open({str(mark)!r}, "w").close()
for n in range(first, first + 1000):
    line.tell("artifacts", [[1, n]])
while line.backlog:
    line.flush()
if not first:
    os.kill(os.getpid(), signal.SIGKILL)
for message in hear(): pass
"""
    drainer, sensor, _ = scripted(sender=sender)
    turn(drainer, lambda: len(said(sensor)) == 2000)
    assert said(sensor) == [f"artifacts [(1, {n})]" for n in range(2000)]


def test_while_the_drainer_stands_still_what_it_is_told_waits(scripted: Make) -> None:
    sender = LISTENING + """
for n in range(3000):
    line.tell("artifacts", [[n, inode] for inode in range(200)])
while line.backlog:
    line.flush()
    time.sleep(0.001)
""" + _THEN
    drainer, sensor, _ = scripted(sender=sender)
    drainer.step()
    drainer.step()
    time.sleep(1.0)
    turn(drainer, lambda: len(said(sensor)) == 3002)
    assert [did.split(",")[0] for did in said(sensor)[:-2]] == [f"artifacts [({n}" for n in range(3000)]
    assert said(sensor)[-2:] == _GOOD


def test_a_line_that_is_full_neither_blocks_nor_loses(tmp_path: Path) -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    began = time.monotonic()
    for n in range(20_000):
        ours.tell("late", [[1, 2, 3, n, 5]] * 20)
    assert time.monotonic() - began < 10
    heard: list[Any] = []
    while ours.backlog or len(heard) < 20_000:
        ours.flush()
        heard += other.receive()
    assert [message[1][0][3] for message in heard] == list(range(20_000))
    ours.close()
    other.close()


@pytest.fixture
def server() -> Iterator[StreamServer]:
    server = StreamServer().start()
    yield server
    server.cut()


def opens(path: Path, pid: int | None = None) -> np.ndarray[Any, Any]:
    """This process, or another, opened a file, as the kernel tells it."""
    from modelward_agent.sensor.records import SMALL

    of, made = artifact(path, pid=pid), np.zeros(1, SMALL)
    for name, value in {
        "number": 1, "time_ns": time.clock_gettime_ns(time.CLOCK_BOOTTIME), "kind": Kind.FILE_OPEN, "count": 1, "ring": 2,
        "tgid": of.pid, "tid": of.pid, "root_tgid": of.pid, "start_ns": of.start_ns, "root_start_ns": of.start_ns, "group": 77,
        "device": of.device, "inode": of.inode, "access": 1,
    }.items():
        made[name] = value
    start = SMALL.fields["text"][1]  # type: ignore[index]
    made.view(np.uint8)[start : start + len(of.path)] = np.frombuffer(of.path, np.uint8)
    made["seg"][:, 0] = len(of.path)
    return made


def asked_for(path: Path) -> list[str]:
    of = artifact(path)
    return [f"late [({of.pid}, {of.pid}, {of.device}, {of.inode}, 77)]"]


@pytest.mark.usefixtures("quick")
def test_a_sender_finds_a_model_and_after_a_kill_the_next_one_does(server: StreamServer, tmp_path: Path) -> None:
    blob = write_gguf(tmp_path / "blob")
    # What the collector has not stored is read again: a batch that it has is gone, and with it what was not looked into yet.
    server.answer = lambda batch: []
    agent = Agent(tmp_path / "state", server.port)
    try:
        agent.turn(lambda: agent.sender.stream_up)
        agent.feed(opens(blob))
        agent.turn(lambda: len(server.batches) == 1)
        agent.kill_sender()
        agent.turn(lambda: said(agent.sensor) == asked_for(blob))
    finally:
        agent.sender.stop(0.0)
        agent.writer.close()


_DRAINER = """
import os, sys, time
from pathlib import Path
from tests.unit.test_agent_channel_faults import opens
from tests.unit.test_agent_sender import Agent
agent = Agent(Path(sys.argv[1]), int(sys.argv[2]))
agent.turn(lambda: agent.sender.stream_up)
agent.feed(opens(Path(sys.argv[3]), os.getppid()))
print(agent.sender.pid, flush=True)
while True:
    agent.drainer.step()
    time.sleep(0.002)
"""


@pytest.mark.usefixtures("quick")
def test_with_a_killed_drainer_its_sender_ends_and_the_next_agent_finds_the_model(server: StreamServer, tmp_path: Path) -> None:
    blob = write_gguf(tmp_path / "blob")
    server.answer = lambda batch: []
    with subprocess.Popen([sys.executable, "-c", _DRAINER, str(tmp_path / "state"), str(server.port), str(blob)],
                          stdout=subprocess.PIPE, text=True) as drainer:
        assert drainer.stdout is not None
        sender = int(drainer.stdout.readline())
        server.wait_for(lambda: len(server.batches) == 1)
        drainer.kill()
    until = time.monotonic() + 20
    while Path(f"/proc/{sender}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    if Path(f"/proc/{sender}").exists():
        os.kill(sender, signal.SIGKILL)
        pytest.fail("the sender of a killed drainer goes on")
    agent = Agent(tmp_path / "state", server.port)
    try:
        # Its batch lies in the spool still.
        agent.turn(lambda: said(agent.sensor) == asked_for(blob))
    finally:
        agent.sender.stop(0.0)
        agent.writer.close()
