"""Daemons kept running as systemd would keep them: one that ends unasked is started again after a pause."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

RESTART_S = 0.3
"""``RestartSec=`` of a unit."""

STOP_S = 45.0
_WITH_US = ("setpriv", "--pdeathsig", "KILL", "--")
"""No daemon outlives a test that was killed; it gives way to the program, so that the process id is the daemon's."""


class Unit:
    """One daemon with its log; :meth:`stop` is the only way to end it for good."""

    def __init__(self, argv: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.argv = list(argv)
        self.environment = dict(environment or {})
        self.starts = 0
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._wanted = False
        self._changed = threading.Condition()
        self._keeper: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The daemon's process; 0 between two of them."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else 0

    def start(self) -> None:
        """Start it, and again whenever it ends."""
        self._wanted = True
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and leave it so; its exit status."""
        with self._changed:
            self._wanted = False
            self._changed.notify_all()
        process = self._process
        if process is None:
            return 0
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            status = process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if self._keeper is not None:
            self._keeper.join()
        self._process = None
        return status

    def children(self, module: str) -> list[int]:
        """Direct children that run a module, such as ``modelward_agent.sender``."""
        return [pid for pid in children(self.pid) if module.encode() in command(pid)] if self.pid else []

    def words(self, lines: int = 15) -> str:
        """The end of the log."""
        try:
            return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""

    def _keep(self) -> None:
        while self._wanted:
            with self._log.open("ab") as output:
                self._process = subprocess.Popen(
                    [*_WITH_US, *self.argv], env=os.environ | self.environment, stdin=subprocess.DEVNULL, stdout=output,
                    stderr=subprocess.STDOUT, start_new_session=True)
            self.starts += 1
            self._process.wait()
            with self._changed:
                self._changed.wait_for(lambda: not self._wanted, RESTART_S)


def children(parent: int) -> list[int]:
    """Direct children of a process."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def command(pid: int) -> bytes:
    """The command line of a process; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def wait_for(check: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait until ``check()`` is true.

    Raises:
        TimeoutError: it was not in that time.
    """
    until = time.monotonic() + timeout_s
    while not check():
        if time.monotonic() > until:
            raise TimeoutError(f"waited {timeout_s:.0f} s for {what}")
        time.sleep(0.05)
