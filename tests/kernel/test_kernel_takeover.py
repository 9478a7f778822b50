"""Hooks count on while no agent runs, and whoever comes next goes on where the last one got to, be it of a newer version."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from modelward_agent.sensor import Sensor, kernel, records
from modelward_agent.sensor.constants import Ring, Trigger
from modelward_agent.spool.batch import Layout, SpooledBatch
from modelward_agent.spool.folder import Folder
from modelward_agent.spool.reader import SpoolReader
from modelward_agent.spool.state import SpoolState
from modelward_proto.kinds import EVENT_NAMES, Kind

from .doomed_drainer import POINTS

pytestmark = pytest.mark.kernel

_LAYOUT = Layout(records.SMALL, records.LARGE)
_OPENER = """
import os, sys
artifact, folder = sys.argv[1:]
held = os.open(artifact, os.O_RDONLY)
root = os.open(folder, os.O_RDONLY)
print("ready", flush=True)
number = 0
for line in sys.stdin:
    for _ in range(int(line)):
        os.close(os.open(f"f{number % 500}", os.O_WRONLY | os.O_CREAT, dir_fd=root))
        os.close(os.open("same", os.O_WRONLY | os.O_CREAT, dir_fd=root))
        number += 1
    print(2 * number, flush=True)
"""


class Opener:
    """A tracked program that opens files on command, and says how many it has opened for writing."""

    def __init__(self, artifact: Path, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-S", "-c", _OPENER, str(artifact), str(folder)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.opened = 0
        self._line()

    def _line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def open(self, times: int) -> None:
        assert self.process.stdin
        self.process.stdin.write(f"{times}\n")
        self.process.stdin.flush()
        self.opened = int(self._line())

    def end(self) -> None:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        assert self.process.wait(30) == 0
        self.process.stdout.close()


@pytest.fixture
def opener(artifact: Path, tmp_path: Path) -> Iterator[Callable[[], Opener]]:
    made: list[Opener] = []

    def make() -> Opener:
        made.append(Opener(artifact, tmp_path / "opened"))
        return made[-1]

    yield make
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()


def _written(parts: list[np.ndarray[Any, Any]], pid: int) -> int:
    """How many opens for writing of a process these records stand for."""
    total = 0
    for part in parts:
        chosen = part[(part["tgid"] == pid) & (part["kind"] == Kind.FILE_OPEN) & (part["access"] == 2)]
        total += int(chosen["count"].sum())
    return total


def _read(sensor: Sensor) -> list[np.ndarray[Any, Any]]:
    """Everything that a source has now, committed."""
    parts = []
    for drained in (sensor.drain(), sensor.swap_repeats()):
        parts += [drained.small, drained.large]
        sensor.keep(sensor.progress().after(drained.positions, {}, {}))
        sensor.commit(drained.positions)
    return parts


def test_hooks_count_on_after_an_agent_left_and_the_next_reads_on(root: Path, opener: Callable[[], Opener]) -> None:
    first = Sensor.open(pins=root)
    program = opener()
    program.open(300)
    before = _read(first)
    program.open(300)
    first.leave()
    program.open(300)
    second = Sensor.open(pins=root)
    try:
        assert [d for d in second.doors() if ":" not in d.effect] == [d for d in first.doors() if ":" not in d.effect]
        assert second.predecessors() == []
        after = _read(second)
        program.open(300)
        rest = _read(second)
        program.end()
    finally:
        second.close()
    assert _written(before, program.process.pid) == 600
    assert _written(after, program.process.pid) == 1200
    assert _written([*before, *after, *rest], program.process.pid) == program.opened == 2400
    numbers = np.concatenate([p[["ring", "cpu", "number"]].astype([("ring", "u1"), ("cpu", "u2"), ("number", "u8")])
                              for p in (*before, *after) if len(p)])
    for cpu in np.unique(numbers["cpu"]):
        found = np.sort(numbers["number"][(numbers["ring"] == Ring.EVENTS) & (numbers["cpu"] == cpu)])
        assert (np.diff(found) == 1).all()


def test_a_detached_sensor_hears_nothing_and_its_rings_are_read_to_the_end(root: Path, opener: Callable[[], Opener]) -> None:
    sensor = Sensor.open(pins=root)
    try:
        program = opener()
        program.open(100)
        sensor.detach()
        program.open(100)
        parts = _read(sensor)
        assert _written(parts, program.process.pid) == 200
        kinds = {kind: sum(int(p["count"][p["kind"] == kind].sum()) for p in parts) for kind in (1, 2, 3, 16, 48)}
        seen = {kind: sensor.counters().get(("seen", EVENT_NAMES[kind]), 0) for kind in kinds}
        assert kinds == seen
    finally:
        sensor.close()


def _drainer(root: Path, spool: Path, point: str, hits: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.kernel.doomed_drainer", str(root), str(spool), point, str(hits)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def _stopped(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    assert process.stdout
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def _spooled(spool: Path) -> list[SpooledBatch]:
    reader, found = SpoolReader(Folder.open(spool), _LAYOUT), []
    while (number := reader.next()) is not None:
        if (batch := reader.claim(number)) is not None:
            found.append(batch)
    return found


def _law(spool: Path) -> dict[str, tuple[int, int]]:
    """By kind: what the hooks saw, and what of it is spooled or counted as lost."""
    rows = {(hop, kind): n for hop, kind, n in SpoolState.load(spool / "state.json", "").ledger}
    made = {EVENT_NAMES[kind] for kind in (Kind.MODEL_IDENTITY, Kind.HOST_LOSS)}
    kinds = {kind for _, kind in rows} - made
    return {kind: (rows.get(("seen", kind), 0), rows.get(("drained", kind), 0) + rows.get(("ring_dropped", kind), 0))
            for kind in kinds}


def test_a_drainer_killed_at_any_point_spools_nothing_twice_and_loses_nothing(
    root: Path, opener: Callable[[], Opener], tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    program: Opener | None = None
    for hits, point in enumerate(POINTS, 1):
        process = _drainer(root, spool, point, 1 + hits % 3)
        program = program or opener()
        while process.poll() is None:
            program.open(50)
        _stopped(process)
        program.open(50)
    assert program is not None
    _stopped(_drainer(root, spool, "never", 0))
    batches = _spooled(spool)
    assert _written([part for b in batches for part in (b.small, b.large)], program.process.pid) == program.opened
    assert all(seen == settled for seen, settled in _law(spool).values()), _law(spool)


def test_a_new_spool_begins_with_what_nobody_had_taken(root: Path, opener: Callable[[], Opener], tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    process = _drainer(root, spool, "committed", 4)
    program = opener()
    while process.poll() is None:
        program.open(50)
    _stopped(process)
    first = spool.rename(tmp_path / "first")
    program.open(50)
    _stopped(_drainer(root, spool, "never", 0))
    parts = [part for folder in (first, spool) for b in _spooled(folder) for part in (b.small, b.large)]
    assert _written(parts, program.process.pid) == program.opened
    assert all(seen == settled for seen, settled in _law(spool).values()), _law(spool)


@pytest.fixture
def other_layout(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From now on the object says that it keeps the lifecycle in another layout."""
    about_object = kernel.about_object

    def change() -> None:
        monkeypatch.setattr(kernel, "about_object", lambda *a: replace(about_object(*a), state="other"))

    return change


@pytest.mark.parametrize("kept", [True, False], ids=["state kept", "state rebuilt"])
def test_an_upgrade_leaves_no_gap_and_doubles_nothing(
    kept: bool, root: Path, opener: Callable[[], Opener], artifact: Path, other_layout: Callable[[], None]
) -> None:
    old = Sensor.open(pins=root, without=["on_signal"])
    program = opener()
    program.open(10)
    before = _read(old)
    program.open(100)
    old.leave()
    if not kept:
        other_layout()
    # Opens go on while the hooks are handed over.
    assert program.process.stdin
    program.process.stdin.write("20000\n")
    program.process.stdin.flush()
    new = Sensor.open(pins=root)
    try:
        [predecessor] = new.predecessors()
        rest = _read(predecessor)
        rest += _read(predecessor)
        predecessor.close()
        program.opened = int(program._line())
        program.open(10)
        after = _read(new)
        after += _read(new)
    finally:
        new.close()
    program.end()
    pid = program.process.pid
    assert {d.effect: d.door for d in new.doors()}["stop"] != "none"
    assert _written([*before, *rest, *after], pid) == program.opened
    groups = {int(g) for p in (*before, *rest, *after) for g in p["group"][p["tgid"] == pid]}
    assert len(groups) == (1 if kept else 2)


def test_what_the_doors_missed_before_an_upgrade_is_not_told_again_after_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missed = [7]
    monkeypatch.setattr("modelward_agent.sensor.attaching.Hooks.skipped", lambda hooks: missed[0])
    old = Sensor.open(pins=root, without=["on_signal"])
    old.keep(old.progress().after({}, {}, {("missed", "all"): 7}))
    old.leave()
    missed[0] = 9
    new = Sensor.open(pins=root)
    try:
        assert new.progress().told == {("missed", "all"): 7}
        assert new.progress().baseline() == {("missed", "all"): 7}
        assert new.counters()["missed", "all"] == 9
    finally:
        new.close()


def test_a_program_that_an_upgrade_does_without_hears_no_more(root: Path) -> None:
    Sensor.open(pins=root).leave()
    new = Sensor.open(pins=root, without=["on_signal"])
    try:
        assert not [path.name for path in (root / "doors").iterdir() if "signal" in path.name]
        assert {d.effect: d.door for d in new.doors()}["stop"] == "none"
        for old in new.predecessors():
            old.close()
        assert [path.name for path in root.iterdir() if path.name.isdigit()] == ["00000002"]
    finally:
        new.close()


def test_an_adopted_server_stays_adopted_over_a_restart(root: Path, artifact: Path) -> None:
    program = "import sys, time; f = open(sys.argv[1], 'rb'); f.read(10); print('ready', flush=True); sys.stdin.read()"
    server = subprocess.Popen([sys.executable, "-S", "-c", program, str(artifact)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert server.stdout
    server.stdout.readline()
    told: list[int] = []
    for _ in range(2):
        sensor = Sensor.open(pins=root)
        small = sensor.drain().small
        sensor.commit(sensor.drain().positions)
        chosen = (small["root_tgid"] == server.pid) & (small["kind"] == Kind.LIFECYCLE)
        told.append(int((small["trigger"][chosen] == Trigger.ADOPTED).sum()))
        sensor.leave()
    server.kill()
    server.wait()
    assert told[0] > 0
    assert told[1] == 0
