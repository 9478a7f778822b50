"""Programs that the demo starts, and a promise that none of them outlives it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from modelward_proto.text import escape

_PR_SET_CHILD_SUBREAPER = 36

_WITH_US = ("setpriv", "--pdeathsig", "TERM", "--")
"""Starts a program that gets SIGTERM when we are killed and cannot stop it ourselves; it gives way to the program."""


class DemoError(Exception):
    """Something that the demo needs did not happen; the message says what, and ends with the program's last
    words.
    """


class Processes:
    """Starts programs, each in a session of its own, so that Ctrl-C reaches the demo alone and the demo stops
    them in order.

    The calling process becomes a subreaper: what a program leaves behind, a daemon of an attack for example,
    comes back as a child and is ended by :meth:`close`.
    """

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        logs.mkdir(parents=True, exist_ok=True)
        self._running: list[subprocess.Popen[bytes]] = []
        self._log_of: dict[int, Path] = {}
        self._before = _children()
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def start(
        self,
        name: str,
        argv: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a program; what it prints goes to ``NAME.log``."""
        log = self._logs / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [*_WITH_US, *(str(part) for part in argv)],
                env=None if env is None else dict(env),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._running.append(process)
        self._log_of[process.pid] = log
        return process

    def last_words(self, process: subprocess.Popen[bytes], lines: int = 12) -> str:
        """The end of a program's log, made harmless for a terminal."""
        raw = self._log_of[process.pid].read_bytes().splitlines()[-lines:]
        return "\n".join("    " + escape(line) for line in raw)

    def stop(self, process: subprocess.Popen[bytes], *, patience_s: float = 15.0) -> int:
        """End a program with SIGTERM, and whatever is left of its session with SIGKILL. Gives its exit
        status.
        """
        if process.poll() is None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience_s)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        status = process.wait()
        if process in self._running:
            self._running.remove(process)
        return status

    def close(self) -> None:
        """Stop all programs, the last started first, then every orphan they left."""
        for process in reversed(self._running[:]):
            self.stop(process)
        deadline = time.monotonic() + 5
        while (left := _children() - self._before) and time.monotonic() < deadline:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _children() -> set[int]:
    """Direct children of this process, orphans that came back to it included."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = status.read_bytes().rpartition(b")")[2].split()[1]
            if int(parent) == os.getpid():
                found.add(int(status.parent.name))
    return found


def free_port(preferred: int = 0) -> int:
    """A TCP port of the loopback address that nothing listens on now: the preferred one, if it can be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", preferred))
        except OSError:
            return free_port()
        return int(probe.getsockname()[1])
