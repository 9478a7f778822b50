"""(e) From the kernel's hook to a detection that can be read: at rest, and while another server makes 20,000 events a second."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from deploy.demo.report import Report
from tests.bench.asking import percentile
from tests.bench.hosts import fresh
from tests.bench.progress import say
from tests.running import select

COUNT = 60
EVERY_S = 0.3
LOOK_S = 0.02
PATIENCE_S = 30.0
GOAL_S = 1.0
FLOOD = 20_000

# A load that starts a shell again and again; that is critical wherever it happens.
_LOADER = """
import os, subprocess, sys, time
artifact, count, every = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
with open(artifact, "rb", buffering=0) as model:
    for number in range(count):
        until = time.monotonic() + every
        while time.monotonic() < until:
            model.seek(0)
            model.read(4)
            time.sleep(0.02)
        subprocess.run(["/bin/sh", "-c", f": {number}"])
"""

_FLOOD = """
import os, sys, time
artifact, folder, rate, files = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
os.close(os.open(artifact, os.O_RDONLY))
number, begun = 0, time.monotonic()
while True:
    for _ in range(rate // 100):
        number += 1
        os.close(os.open(f"{folder}/{number % files}", os.O_RDONLY))
    time.sleep(max(0.0, begun + number / rate - time.monotonic()))
"""
FILES = 200_000


def measure(report: Report) -> None:
    """Adds the rows of this part."""
    with fresh() as host:
        folder, stack = host.folder, host.stack
        stack.start()
        say(f"{COUNT} shells started by a load, at rest")
        _report(report, folder, "at rest")
        say(f"the same while another process makes {FLOOD:,} events a second")
        # In memory: making so many on a disk takes longer than the measuring.
        files = Path(host.opened.enter_context(tempfile.TemporaryDirectory(prefix="modelward-bench-", dir="/dev/shm")))
        for number in range(FILES):
            (files / str(number)).touch()
        artifact = folder / "flood.gguf"
        artifact.write_bytes(b"GGUF")
        flood = subprocess.Popen([sys.executable, "-c", _FLOOD, str(artifact), str(files), str(FLOOD), str(FILES)])
        try:
            time.sleep(2)
            before, begun = _opens(folder, files), time.monotonic()
            _report(report, folder, f"at {FLOOD:,} events/s")
            happened, took = _opens(folder, files) - before, time.monotonic() - begun
        finally:
            flood.kill()
            flood.wait()
        report.add("events stored a second meanwhile", happened / took, "events/s", f">= {FLOOD * 9 // 10:,}",
                   happened / took >= FLOOD * 0.9, counted=f"{happened:,} opens of the flood in {took:.0f} s")


def _opens(folder: Path, files: Path) -> int:
    sql = "SELECT sum(count) AS n FROM modelward.events_raw WHERE event_name = 'file_open' AND startsWith(file_path, {f:String})"
    return int(select(folder / "collector", sql, f=f"{files}/")[0]["n"])


def _report(report: Report, folder: Path, when: str) -> None:
    artifact = folder / f"load-{time.time_ns()}.gguf"
    artifact.write_bytes(b"GGUF" * 64)
    loader = subprocess.Popen([sys.executable, "-c", _LOADER, str(artifact), str(COUNT), str(EVERY_S)])
    try:
        delays = _delays(folder / "collector", loader.pid)
    finally:
        loader.kill()
        loader.wait()
    for percent in (50, 99):
        value = percentile(delays, percent) if delays else float("inf")
        good = value < GOAL_S and len(delays) == COUNT
        report.add(f"hook to stored detection, p{percent}, {when}", value, "s", f"< {GOAL_S:.0f} s", good,
                   spread=f"{min(delays, default=0):.2f} to {max(delays, default=0):.2f}",
                   counted=f"{len(delays)} of {COUNT} detections; a look each {LOOK_S * 1e3:.0f} ms")


def _delays(data: Path, root: int) -> list[float]:
    """Seconds from each shell's exec, by the kernel's clock, to the look that first found its detection."""
    sql = """SELECT detection_id, toUnixTimestamp64Nano(time) AS at FROM modelward.detections_raw
        WHERE rule_name = 'shell_in_load' AND process_root_id LIKE {root:String}"""
    seen: dict[str, float] = {}
    until = time.monotonic() + COUNT * EVERY_S + PATIENCE_S
    pause = threading.Event()
    while len(seen) < COUNT and time.monotonic() < until:
        rows = select(data, sql, root=f"%-{root}-%")
        now = time.time_ns()
        for row in rows:
            seen.setdefault(row["detection_id"], (now - row["at"]) / 1e9)
        pause.wait(LOOK_S)
    return list(seen.values())
