"""A client of one model server, that counts; and what others see of the server meanwhile."""

from __future__ import annotations

import http.client
import math
import os
import re
import signal
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from deploy.demo.place import ModelServer
from tests.bench.processes import cpu_s

STRACE = ["strace", "-f", "-qq", "-o", "/dev/null"]
CALLS = 100_000
_T = {4: 2.776, 9: 2.262}
"""Student's t for 95 %, by degrees of freedom."""


@dataclass(slots=True)
class Window:
    """Requests of some seconds, one after another on one connection."""

    seconds: float
    cpu_s: float
    """Of the server."""
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of server."""

    name: str
    argv: list[str]
    model: Path
    path: str
    body: str


class Asking:
    """A client of one server."""

    def __init__(self, server: ModelServer, kind: Kind) -> None:
        self._pid = server.pid
        self._kind = kind
        self._connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)

    def window(self, seconds: float) -> Window:
        """Ask for so long."""
        latencies: list[float] = []
        # A server hangs up on a connection that was quiet between two windows.
        self._connection.close()
        before, begun = cpu_s(self._pid), time.perf_counter()
        while (now := time.perf_counter()) - begun < seconds:
            self._connection.request("POST", self._kind.path, self._kind.body, {"content-type": "application/json"})
            answer = self._connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{self._kind.name} answered {answer.status}")
            latencies.append(time.perf_counter() - now)
        return Window(time.perf_counter() - begun, cpu_s(self._pid) - before, latencies)

    def close(self) -> None:
        self._connection.close()


def straced(ask: Asking, pid: int, seconds: float) -> Window:
    tracer = subprocess.Popen([*STRACE, "-p", str(pid)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 10
        while not _traced(pid) and time.monotonic() < until:
            time.sleep(0.05)
        return ask.window(seconds)
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(30)


def _traced(pid: int) -> bool:
    found = re.search(r"^TracerPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.M)
    return found is not None and found[1] != "0"


def calls_per_request(ask: Asking, pid: int, seconds: float) -> float:
    """System calls of the server for one request, as bpftrace counts them."""
    program = f"tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @calls = count(); }} "
    program += 'interval:ms:100 { printf("ready\\n"); }'
    counter = subprocess.Popen(["bpftrace", "-e", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert counter.stdout is not None
    try:
        while (line := counter.stdout.readline()) and line != "ready\n":
            pass
        if not line:
            return math.nan
        requests = len(ask.window(seconds).latencies)
        counter.send_signal(signal.SIGINT)
        found = re.search(r"@calls: (\d+)", counter.communicate(timeout=30)[0])
        return int(found[1]) / requests if found else math.nan
    finally:
        counter.kill()
        counter.wait()


def call_ns() -> float:
    """A system call of a process that nobody watches."""
    call = os.getppid
    best = math.inf
    for _ in range(3):
        begun = time.perf_counter_ns()
        for _ in range(CALLS // 3):
            call()
        best = min(best, (time.perf_counter_ns() - begun) / (CALLS // 3))
    return best


def interval(ratios: list[float]) -> tuple[float, float]:
    """Mean of ratios and half of its 95 % confidence interval."""
    return statistics.mean(ratios), _T[len(ratios) - 1] * statistics.stdev(ratios) / math.sqrt(len(ratios))


def percentile(values: list[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
