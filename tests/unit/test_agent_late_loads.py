"""What user space finds of models reaches the kernel side fairly, and what does not is told."""

from __future__ import annotations

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from modelward_agent import supervise, unbegun
from modelward_agent.drainer import Drainer
from modelward_agent.unbegun import Load, Unbegun

from tests.unit.identity_files import write_gguf
from tests.unit.stream_server import StreamServer
from tests.unit.test_agent_care_passing import readers
from tests.unit.test_agent_channel_faults import asked_for, opens, said
from tests.unit.test_agent_drainer import LISTENING, FakeSensor, turn
from tests.unit.test_agent_drainer import agent as scripted
from tests.unit.test_agent_sender import Agent

__all__ = ["scripted"]


class Kernel:
    """A fake: takes so many at each tick, as the sensor does while others wait there."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.taken: list[Load] = []

    def take(self, found: Iterable[Load]) -> int:
        taken = [*found][: self.room]
        self.taken += taken
        return len(taken)


def load(thread: int, group: int, inode: int = 1) -> Load:
    return (thread, thread, 1, inode, group)


def test_a_workload_with_thousands_of_late_loads_does_not_hold_up_one_with_a_few() -> None:
    waiting, kernel = Unbegun(), Kernel()
    waiting.add(load(thread, 7) for thread in range(4000))
    waiting.add(load(thread, 8) for thread in range(5000, 5010))
    waiting.give(kernel.take)
    assert Counter(each[4] for each in kernel.taken) == {7: unbegun._AT_ONCE - 10, 8: 10}


def test_many_workloads_take_turns() -> None:
    waiting, kernel = Unbegun(), Kernel()
    for group in range(100):
        waiting.add(load(1000 * group + thread, group) for thread in range(3))
    for _ in range(5):
        waiting.give(kernel.take)
    assert len(kernel.taken) == 300
    assert {each[4] for each in kernel.taken[:100]} == set(range(100))


def test_a_thread_that_loads_many_files_is_given_one_at_a_time_and_fills_no_line() -> None:
    waiting, kernel = Unbegun(), Kernel()
    waiting.add(load(5, 7, inode) for inode in range(200))
    waiting.add([load(6, 8)])
    waiting.give(kernel.take)
    assert sorted(kernel.taken) == [load(5, 7, 0), load(6, 8)]
    for _ in range(199):
        waiting.give(kernel.take)
    assert Counter(each[4] for each in kernel.taken) == {7: 200, 8: 1}
    assert waiting.lost == 0


def test_what_finds_no_room_is_counted_and_is_of_the_workload_that_has_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unbegun, "_MOST", 100)
    waiting, kernel = Unbegun(), Kernel()
    waiting.add([load(1, 8)])
    waiting.add(load(thread, 7) for thread in range(2, 202))
    assert waiting.lost == 101
    for _ in range(3):
        waiting.give(kernel.take)
    assert Counter(each[4] for each in kernel.taken) == {7: 99, 8: 1}


def test_what_was_not_looked_into_when_the_sender_was_killed_is_looked_into_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its batch is stored by then, and nobody reads it again."""
    monkeypatch.setattr(supervise, "FIRST_BACKOFF_S", 0.01)
    blob, server = write_gguf(tmp_path / "blob"), StreamServer().start()
    agent = Agent(tmp_path / "state", server.port)
    stopped: set[int] = set()
    try:
        agent.turn(lambda: agent.sender.stream_up)
        first = agent.sender.pid
        assert first is not None

        def held() -> bool:
            for pid in readers(first):
                if b"recognition_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                    os.kill(pid, signal.SIGSTOP)
                    stopped.add(pid)
            return agent.writer.ledger.count("stored", "file_open") == 1 and bool(stopped)

        agent.feed(opens(blob))
        agent.turn(held, timeout_s=120)
        agent.kill_sender()
        assert said(agent.sensor) == []
        agent.turn(lambda: said(agent.sensor) == asked_for(blob), timeout_s=120)
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        agent.sender.stop(0.0)
        agent.writer.close()
        server.cut()


TELLING = LISTENING + """
line.tell("late", [[n, n, 4, 5, 6] for n in range(1, 11)])
line.tell("artifacts", [[1, 2], [3, 4], [5, 6]])
for message in hear(): pass
"""


class Full(FakeSensor):
    def register_artifacts(self, found: Iterable[tuple[int, int]]) -> int:
        super().register_artifacts(found)
        return 1

    def late_loads(self, found: Iterable[Load]) -> int:
        super().late_loads(found)
        return 3


def test_what_the_kernel_side_does_not_take_is_said_in_the_heartbeat(scripted: Callable[..., Any]) -> None:
    drainer: Drainer
    drainer, sensor, _ = scripted(sender=TELLING, sensor=Full())
    turn(drainer, lambda: any(did.startswith("late") for did in sensor.did))
    told = " ".join(drainer.status()["problems"])
    assert "7 loads of models that their content told were not begun" in told
    assert "2 files that belong to models were not told to the kernel side" in told


def test_without_hooks_nothing_is_said_of_what_nobody_could_take(scripted: Callable[..., Any]) -> None:
    drainer, sensor, _ = scripted(sender=TELLING, sensor=Full())
    drainer._mode = "paused"
    turn(drainer, lambda: any(did.startswith("late") for did in sensor.did))
    assert not [problem for problem in drainer.status()["problems"] if "models" in problem]
