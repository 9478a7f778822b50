"""What one open costs with and without the sensor, and how many the drainer's core takes."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from modelward_agent.drainer import BUSY_WAIT_S
from modelward_agent.sensor.sensor import Sensor

from deploy.demo.report import Report

ROUNDS = 7
OPENS = 100_000
Records = np.ndarray[Any, Any]

_PROBE = """
import os, sys, time
artifact, folder, count, distinct = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "distinct"
if artifact:
    os.close(os.open(artifact, os.O_RDONLY))
names = [f"{folder}/{n}" if distinct else f"{folder}/0" for n in range(count)]
begun = time.perf_counter_ns()
for name in names:
    os.close(os.open(name, os.O_RDONLY))
print((time.perf_counter_ns() - begun) / count)
"""


def measure(report: Report) -> Records:
    """Adds the rows of this part; returns one round's records, for the parts behind."""
    with tempfile.TemporaryDirectory() as scratch:
        artifact = Path(scratch) / "weights.gguf"
        artifact.write_bytes(b"GGUF")
        files = Path(scratch) / "files"
        files.mkdir()
        for number in range(OPENS):
            (files / str(number)).touch()
        bare, untracked, same, distinct, rates, lost, kept = [], [], [], [], [], 0, []
        for _ in range(ROUNDS):
            bare.append(_probe("", files, "same"))
            sensor = Sensor.open()
            try:
                for into, tracked, mode in ((untracked, "", "same"), (same, str(artifact), "same"),
                                            (distinct, str(artifact), "distinct")):
                    cost, records, busy, gaps = _watched(sensor, tracked, files, mode)
                    into.append(cost)
                    lost += gaps
                    if mode == "distinct":
                        rates.append(sum(map(len, records)) / busy)
                        kept = records
            finally:
                sensor.close()
    base = statistics.median(bare)
    for name, values in (("open+close, other process of the host", untracked),
                         ("open+close, tracked, one path (counted)", same),
                         ("open+close, tracked, distinct paths", distinct)):
        report.add(name, statistics.median(values), "ns", _spread(values), True, peer="no agent", peer_value=base,
                   ratio=statistics.median(values) / base)
    report.add("ring to numpy, per core of the drainer", statistics.median(rates), "records/s",
               "1,000,000; " + _spread(rates), statistics.median(rates) >= 1e6)
    report.add("records lost in the rings", float(lost), "records", "0", lost == 0)
    return np.concatenate(kept)


def _spread(values: list[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f} in {len(values)} rounds"


def _command(artifact: str, files: Path, mode: str) -> list[str]:
    return [sys.executable, "-c", _PROBE, artifact, str(files), str(OPENS), mode]


def _probe(artifact: str, files: Path, mode: str) -> float:
    return float(subprocess.run(_command(artifact, files, mode), check=True, capture_output=True, text=True).stdout)


def _watched(sensor: Sensor, artifact: str, files: Path, mode: str) -> tuple[float, list[Records], float, int]:
    """Cost of an open in ns, the records, CPU seconds of draining them, records missing."""
    child = subprocess.Popen(_command(artifact, files, mode), stdout=subprocess.PIPE, text=True)
    records: list[Records] = []
    busy = 0.0
    gaps = 0
    while True:
        ended = child.poll() is not None
        begun = time.process_time()
        drained = sensor.drain()
        sensor.commit(drained.positions)
        if len(drained.small):
            busy += time.process_time() - begun
            records.append(drained.small)
        gaps += sum(drained.gaps.values())
        if ended and not len(drained.small):
            break
        time.sleep(BUSY_WAIT_S)
        sensor.tick()
    assert child.stdout is not None
    return float(child.stdout.read()), records, max(busy, 1e-9), gaps
