"""(a) What one open costs with and without the sensor, how many the drainer's core takes, and what peers on the same hook do."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from modelward_agent.drainer import BUSY_WAIT_S
from modelward_agent.sensor.constants import Ring
from modelward_agent.sensor.sensor import Sensor
from modelward_proto.kinds import Kind

from deploy.demo.report import Report
from tests.bench import peers
from tests.bench.progress import say

ROUNDS = 7
OPENS = 100_000
Records = np.ndarray[Any, Any]

_PROBE = """
import os, sys, time
artifact, folder, count, distinct = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "distinct"
if artifact:
    os.close(os.open(artifact, os.O_RDONLY))
names = [f"{folder}/{n}" if distinct else f"{folder}/0" for n in range(count)]
sys.stdin.readline()
begun = time.perf_counter_ns()
for name in names:
    os.close(os.open(name, os.O_RDONLY))
print((time.perf_counter_ns() - begun) / count)
"""


class Watched:
    """What one round with the sensor gave."""

    def __init__(self) -> None:
        self.cost_ns = 0.0
        self.before: list[Records] = []
        """What came before they began."""
        self.records: list[Records] = []
        self.busy_s = 0.0
        """CPU of the rounds in which something was drained."""
        self.cpu_s = 0.0
        """CPU of the whole time, waits and ticks with it."""

    @property
    def received(self) -> int:
        return sum(map(len, self.records))


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    with _files() as (artifact, files):
        bare: list[float] = []
        untracked: list[Watched] = []
        same: list[Watched] = []
        distinct: list[Watched] = []
        others: dict[str, list[tuple[float, peers.Seen]]] = {}
        missing: dict[str, str] = {}
        lost = 0
        for turn in range(ROUNDS):
            say(f"round {turn + 1} of {ROUNDS}: {OPENS:,} opens bare, three times with the sensor, under bcc, under bpftrace")
            bare.append(_probe("", files, "same"))
            sensor = Sensor.open()
            try:
                for into, tracked, mode in ((untracked, "", "same"), (same, str(artifact), "same"),
                                            (distinct, str(artifact), "distinct")):
                    into.append(_watched(sensor, [_start(tracked, files, mode)]))
                lost += _lost(sensor)
            finally:
                sensor.close()
            for name, watch in (("bcc", peers.bcc), ("bpftrace", peers.bpftrace)):
                if name not in missing:
                    try:
                        others.setdefault(name, []).append(_under(watch, files))
                    except peers.PeerError as e:
                        missing[name] = str(e)
                        say(str(e))
        _report_costs(report, bare, {"other process of the host": untracked, "tracked, one path (counted)": same,
                                     "tracked, distinct paths": distinct}, others)
        _report_rates(report, distinct, lost, others, missing)
        _report_overload(report, artifact, files)


def records() -> Records:
    """Small records of one round, from the real kernel."""
    with _files() as (artifact, files):
        sensor = Sensor.open()
        try:
            return np.concatenate(_watched(sensor, [_start(str(artifact), files, "distinct")]).records)
        finally:
            sensor.close()


@contextmanager
def _files() -> Iterator[tuple[Path, Path]]:
    with tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "weights.gguf"
        artifact.write_bytes(b"GGUF")
        files = Path(scratch) / "files"
        files.mkdir()
        for number in range(OPENS):
            (files / str(number)).touch()
        yield artifact, files


def _report_costs(report: Report, bare: list[float], own: dict[str, list[Watched]],
                  others: dict[str, list[tuple[float, peers.Seen]]]) -> None:
    base = statistics.median(bare)
    costs = {name: [one.cost_ns for one in found] for name, found in own.items()}
    costs |= {f"under {name}, distinct paths": [cost for cost, _ in found] for name, found in others.items()}
    for name, values in costs.items():
        value = statistics.median(values)
        report.add(f"open+close, {name}", value, "ns", "", True, peer="nobody watches", peer_value=base, ratio=value / base,
                   spread=_spread(values), counted=f"{OPENS:,} opens in each of {len(values)} rounds")


def _report_rates(report: Report, own: list[Watched], lost: int, others: dict[str, list[tuple[float, peers.Seen]]],
                  missing: dict[str, str]) -> None:
    rates = [one.received / one.busy_s for one in own]
    each = [one.cpu_s / one.received * 1e9 for one in own]
    counted = f"{OPENS:,} records in each of {len(own)} rounds"
    report.add("ring to numpy, per core of the drainer", statistics.median(rates), "records/s", ">= 1,000,000",
               statistics.median(rates) >= 1e6, spread=_spread(rates), counted=counted)
    report.add("records lost by it", float(lost), "records", "0", lost == 0, counted=f"{OPENS * 3 * len(own):,} opens")
    for name, found in others.items():
        theirs = [seen.cpu_s / max(1, seen.received) * 1e9 for _, seen in found]
        value, other = statistics.median(each), statistics.median(theirs)
        report.add(f"CPU of the consumer for one event, beside {name}", value, "ns", "< peer", value < other, peer=name,
                   peer_value=other, ratio=value / other, spread=f"{_spread(each)}; {name} {_spread(theirs)}", counted=counted)
        gone = sum(OPENS - seen.received for _, seen in found)
        told = sum(seen.lost for _, seen in found)
        report.add(f"opens that {name} did not deliver", float(gone), "events", "", True, counted=f"it said {told:,} were lost")
    for name, why in missing.items():
        report.add(f"beside {name}", "not run", "", "", True, counted=why)


def _report_overload(report: Report, artifact: Path, files: Path) -> None:
    """Rings far too small: whatever is lost must be known exactly."""
    say("overload: two processes at once into a ring of 64 KiB")
    sensor = Sensor.open(ring_bytes={Ring.EVENTS: 1 << 16})
    try:
        seen = _watched(sensor, [_start(str(artifact), files, "distinct") for _ in range(2)])
        rest: list[Records] = []
        while True:
            # What others do on this host meanwhile counts too: nothing may happen between the last look at both.
            earlier = sensor.counters()
            rest.append(_drained(sensor))
            counters = sensor.counters()
            if counters == earlier and not len(rest[-1]):
                break
    finally:
        sensor.close()
    whole = np.concatenate(seen.before + seen.records + rest)
    opens = whole[whole["kind"] == Kind.FILE_OPEN]
    happened, merged, dropped = (counters.get((hop, "file_open"), 0) for hop in ("seen", "merged", "ring_dropped"))
    unexplained = happened - merged - dropped - len(opens)
    report.add("overload: opens neither received nor counted as lost", float(abs(unexplained)), "events", "0", unexplained == 0,
               counted=f"{happened:,} opens seen, {len(opens):,} received, {dropped:,} lost in a ring of 64 KiB")


def _spread(values: list[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"


def _start(artifact: str, files: Path, mode: str) -> subprocess.Popen[str]:
    """A process that waits for a line before it begins."""
    return subprocess.Popen([sys.executable, "-c", _PROBE, artifact, str(files), str(OPENS), mode],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _go(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def _cost(child: subprocess.Popen[str]) -> float:
    assert child.stdout is not None
    value = float(child.stdout.read())
    child.communicate()
    return value


def _probe(artifact: str, files: Path, mode: str) -> float:
    child = _start(artifact, files, mode)
    _go(child)
    return _cost(child)


def _under(watch: Callable[[int], AbstractContextManager[peers.Seen]], files: Path) -> tuple[float, peers.Seen]:
    child = _start("", files, "distinct")
    try:
        with watch(child.pid) as seen:
            _go(child)
            cost = _cost(child)
        return cost, seen
    finally:
        child.kill()
        child.wait()


def _watched(sensor: Sensor, children: list[subprocess.Popen[str]]) -> Watched:
    """Let processes run, and drain as the agent does until they ended and nothing is left."""
    found = Watched()
    while len(drained := _drained(sensor)):
        found.before.append(drained)
    for child in children:
        _go(child)
    before = time.process_time()
    while True:
        ended = all(child.poll() is not None for child in children)
        begun = time.process_time()
        drained = _drained(sensor)
        if len(drained):
            found.busy_s += time.process_time() - begun
            found.records.append(drained)
        elif ended:
            break
        time.sleep(BUSY_WAIT_S)
        sensor.tick()
    found.cpu_s = time.process_time() - before
    found.cost_ns = statistics.mean(map(_cost, children))
    return found


def _drained(sensor: Sensor) -> Records:
    drained = sensor.drain()
    sensor.commit(drained.positions)
    return drained.small


def _lost(sensor: Sensor) -> int:
    return sum(n for (hop, _), n in sensor.counters().items() if hop in ("ring_dropped", "missed"))
