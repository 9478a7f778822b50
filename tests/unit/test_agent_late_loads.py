"""What user space finds of models reaches the kernel side fairly, and what does not is told."""

from __future__ import annotations

import contextlib
import os
import signal
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from modelward_agent import supervise, unbegun
from modelward_agent.drainer import Drainer
from modelward_agent.sensor import loads as loads_module
from modelward_agent.sensor.loads import Loads
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


def test_what_is_not_taken_is_offered_again_for_a_while_and_then_counted() -> None:
    clock, kernel = [0.0], Kernel(room=0)
    waiting = Unbegun(now=lambda: clock[0])
    waiting.add([load(1, 7), load(2, 8)])
    waiting.give(kernel.take)
    kernel.room = 1
    waiting.give(kernel.take)
    assert kernel.taken == [], "a moment later it is as full"
    clock[0] = unbegun._AGAIN_S
    waiting.give(lambda loads: kernel.take(loads) if loads[0][4] == 7 else 0)
    assert (kernel.taken, waiting.lost) == ([load(1, 7)], 0)
    clock[0] = unbegun._OFFERED_S + 1
    waiting.give(lambda loads: 0)
    assert waiting.lost == 1
    clock[0] += unbegun._OFFERED_S
    waiting.give(kernel.take)
    assert kernel.taken == [load(1, 7)]


def test_a_group_of_which_no_more_are_taken_costs_others_nothing() -> None:
    waiting, taken = Unbegun(), []

    def take(loads: list[Load]) -> int:
        took = [each for each in loads if each[4] != 7]
        taken.extend(took)
        return len(took)

    waiting.add(load(thread, 7) for thread in range(500))
    waiting.add(load(1000 + thread, 8) for thread in range(200))
    for _ in range(8):
        waiting.give(take)
    assert Counter(each[4] for each in taken) == {8: 200}
    assert waiting.lost == 0


class Map(dict[bytes, bytes]):
    """A map of the kernel, a fake."""

    value_size = 4

    def update(self, key: bytes, value: bytes) -> None:  # type: ignore[override]
        self[key] = value

    def add(self, key: bytes, value: bytes) -> None:
        self.setdefault(key, value)

    def lookup(self, key: bytes, size: int) -> bytes:
        return self[key][:size]

    def delete(self, key: bytes) -> None:
        self.pop(key, None)


class Begins:
    """A kernel side, a fake: begins a load on each thread that is alive, or refuses all."""

    def __init__(self) -> None:
        self.maps = {"late": Map(), "artifacts": Map()}
        self.programs = {"late_load": self}
        self.begun: list[tuple[int, int]] = []
        self.alive = range(0)
        self.refuses = False

    def map(self, name: str) -> Map:
        return self.maps[name]

    def iterate(self) -> None:
        if self.refuses:
            raise OSError(12, "Cannot allocate memory")
        for key, value in self.maps["late"].items():
            [tid] = struct.unpack("=I", key)
            if tid in self.alive:
                self.begun.append((tid, struct.unpack("=QII", value)[2]))
                self.maps["late"][key] = bytes(16)


@pytest.fixture
def side() -> Begins:
    return Begins()


def test_a_group_whose_threads_have_ended_fills_no_line_of_the_kernel_side(side: Begins) -> None:
    loads = Loads(side)  # type: ignore[arg-type]
    side.alive = range(1, 3)
    for first in range(0, 1200, 64):
        loads.ask((1, 10_000 + n, 5, n + 1, 7) for n in range(first, first + 64))
        loads.begin_late()
    assert len(loads._late) <= loads_module._LATE_EACH
    assert loads.ask([(2, 2, 5, 1, 8)]) == 1
    loads.begin_late()
    assert (2, 8) in side.begun
    assert loads._late_of == Counter(each.group for each in loads._late)


def test_what_the_kernel_refuses_to_begin_is_begun_later_and_no_more_is_taken_on(
    side: Begins, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [10.0]
    monkeypatch.setattr(loads_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    loads = Loads(side)  # type: ignore[arg-type]
    side.alive, side.refuses = range(10), True
    assert loads.ask([(1, 1, 5, 1, 7), (2, 2, 5, 1, 8)]) == 2
    loads.begin_late()
    assert not side.maps["late"]
    side.refuses = False
    assert loads.ask([(3, 3, 5, 1, 7)]) == 0
    loads.begin_late()
    assert side.begun == []
    clock[0] += loads_module._AGAIN_S
    loads.begin_late()
    assert side.begun == [(1, 7), (2, 8)]
    assert loads.ask([(3, 3, 5, 1, 7)]) == 1


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


def test_what_the_kernel_side_does_not_take_is_said_in_the_heartbeat(
    scripted: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unbegun, "_OFFERED_S", 0.0)
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
    drainer._mode = "watching"
    assert not [problem for problem in drainer.status()["problems"] if "models" in problem], "what came before counts neither"
