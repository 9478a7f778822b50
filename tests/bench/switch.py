"""The agent on and off, and what the kernel and /proc say that it used."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.bench.processes import Family

_STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


class Switch:
    """The agent, on and off: its hooks are attached or not, the process stays."""

    def __init__(self, pid: int, state: Path) -> None:
        self.pid = pid
        self._state = state

    def on(self) -> None:
        self._say("resume")
        self.wait_proven()

    def off(self) -> None:
        self._say("pause")

    def wait_proven(self) -> None:
        """The canary that proves the hooks is work of the start, not of watching. It begins a moment after they are attached."""
        until = time.monotonic() + 30
        quiet = 0
        while time.monotonic() < until and quiet < 5:
            time.sleep(0.1)
            proving = any("cli check" in runs for runs in Family.of(self.pid).members.values())
            quiet = 0 if proving else quiet + 1

    def cpu_s(self) -> float:
        return Family.of(self.pid).cpu_s()

    def kernel_s(self) -> float:
        """Run time of the agent's programs in the kernel so far, while statistics were on."""
        times: dict[str, int] = {}
        for info in Path(f"/proc/{self.pid}/fdinfo").iterdir():
            with suppress(OSError):
                text = info.read_text()
                found, program = re.search(r"^run_time_ns:\s*(\d+)", text, re.M), re.search(r"^prog_id:\s*(\d+)", text, re.M)
                if found and program:
                    times[program[1]] = int(found[1])
        return sum(times.values()) / 1e9

    def _say(self, word: str) -> None:
        command = [str(Path(sys.executable).parent / "modelward-agent"), word, "--state", str(self._state)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"modelward-agent {word}: {done.stdout}{done.stderr}")


@contextmanager
def statistics_on() -> Iterator[None]:
    """The kernel counts the run time of programs: at a price of its own, so never while something is timed."""
    was = _STATS.read_text()
    _STATS.write_text("1")
    try:
        yield
    finally:
        _STATS.write_text(was)
