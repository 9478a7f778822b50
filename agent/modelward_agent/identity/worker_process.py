"""The parent's side of a worker: starts it, talks to it with bounds, kills it when it hangs.

Workers have the lowest priority: on a busy host one may wait for a CPU for longer than an honest file takes to be read. So
silence counts only while a worker neither runs nor waits for a CPU; what it computes is bounded by a limit of its own, and by six
times the silence. All that it does has a deadline: a file system may well say something every few seconds.

A killed one does not end while a file system holds it in the kernel, and some file systems are a workload's own. So few of one
workload are left behind, and then no more are started for it; others go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

_READ = 1 << 16
_LINE = 1 << 20
_KEPT = ("PATH", "PYTHONPATH", "LANG")
_DYING_S = 2.0
_MOST_STUCK = 32
_MOST_STUCK_EACH = 2
_LOOKS = 8
"""So often a silent worker is looked at before its silence is too long."""
_PATIENCE = 6
"""One that runs, or waits for a CPU, may be silent for so many times as long."""

_stuck: list[tuple[str, subprocess.Popen[bytes]]] = []
"""Workers that were killed and do not end, and whose files they read."""
_stuck_lock = threading.Lock()


class WorkerFailed(Exception):
    """A worker died, was silent, or said what is no answer. The message continues a sentence on the file."""


class WorkerSilent(WorkerFailed):
    """It said nothing for too long: it hangs, or the host was too busy for it."""


class WorkerLate(WorkerFailed):
    """It was not done in time."""


class WorkerProcess:
    """One worker and its one job. Whatever happens to it, :meth:`close` leaves nothing behind that can be ended."""

    def __init__(
        self, job: dict[str, Any], silence_s: float, deadline_s: float, *, of: str = "",
        module: str = "modelward_agent.identity.worker", told_s: float = 0.0,
    ) -> None:
        """Start it.

        Args:
            silence_s: so long it may take for each thing that it says, not counted while it runs or waits for a CPU.
            deadline_s: so long it may take for its whole job.
            of: the workload whose files it reads.
            module: what it runs.
            told_s: the deadline as it is told of, where others had a part of it before; 0: ``deadline_s``.

        Raises:
            WorkerFailed: too many before it cannot be ended. OSError: it cannot be started.
        """
        if _hang(of):
            raise WorkerFailed("is not read: too many readers hang in a file system")
        self._of = of
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
        )
        assert self._process.stdout is not None
        self._patience = _Patience(self._process.pid, silence_s, deadline_s, told_s or deadline_s)
        self._lines = _lines(self._process.stdout.fileno(), self._patience)
        self._job: dict[str, Any] | None = job

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def tell(self, message: dict[str, Any]) -> None:
        """Raises WorkerFailed: it ended before it heard this."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError) as e:
            raise WorkerFailed("was not read: the worker ended before it began") from e

    def answers(self, until: str) -> Iterator[dict[str, Any]]:
        """What it says, up to the answer that has a member of this name, or to its end where that is empty.

        Raises:
            WorkerFailed
        """
        if self._job is not None:
            job, self._job = self._job, None
            self.tell(job)
        for line in self._lines:
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError) as e:
                raise WorkerFailed("made the worker say what is no answer") from e
            if not isinstance(answer, dict):
                continue
            if "failed" in answer:
                raise WorkerFailed(str(answer["failed"]))
            if until and until in answer:
                return
            yield answer
        status = self._ended()
        if status != 0 or until:
            raise WorkerFailed(f"made the worker end with status {status}")

    def kill(self) -> None:
        """End it at once; answers that are being waited for end too. May be called from another thread."""
        self._process.kill()

    def close(self) -> None:
        """End it and give back what it held."""
        self._process.kill()
        for _ in range(_PATIENCE):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_DYING_S)
                break
            if _progress(self._process.pid)[0] != b"R":
                break
        if self._process.poll() is None:
            # The kernel ends it when the file system lets go of it.
            with _stuck_lock:
                _stuck.append((self._of, self._process))
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _ended(self) -> int:
        """Its exit status; it has said its last. Raises WorkerFailed."""
        self._patience.begin()
        while True:
            try:
                return self._process.wait(self._patience.step_s)
            except subprocess.TimeoutExpired:
                self._patience.look()


class _Patience:
    """Tells a worker that hangs from one that computes, or waits for a CPU."""

    def __init__(self, pid: int, silence_s: float, deadline_s: float, told_s: float) -> None:
        self._pid = pid
        self._silence_s = silence_s
        self._told_s = told_s
        self._until = time.monotonic() + deadline_s
        self._asleep, self._ticks, self._began = 0, 0, time.monotonic()

    def begin(self) -> None:
        """It is going to say something. Raises WorkerFailed: it is too late for that."""
        self._asleep = 0
        self._ticks = _progress(self._pid)[1]
        self._began = time.monotonic()
        self._be_in_time()

    @property
    def step_s(self) -> float:
        """So long to wait for a word of it, before each :meth:`look`."""
        return max(0.0, min(self._silence_s / _LOOKS, self._until - time.monotonic()))

    def look(self) -> None:
        """It said nothing for another step. Raises WorkerFailed: it hangs, or takes too long."""
        self._be_in_time()
        state, ticks = _progress(self._pid)
        self._asleep += state != b"R" and ticks == self._ticks
        self._ticks = ticks
        # Steps are counted, not the time: this thread may have waited for a CPU, too.
        if self._asleep >= _LOOKS:
            raise WorkerSilent(f"could not be read: nothing came for {self._silence_s:g} s")
        if time.monotonic() - self._began > _PATIENCE * self._silence_s:
            raise WorkerSilent(f"could not be read: its reader had no result after {_PATIENCE * self._silence_s:g} s")

    def _be_in_time(self) -> None:
        if time.monotonic() >= self._until:
            raise WorkerLate(f"could not be read within {self._told_s:.0f} s")


def _progress(pid: int) -> tuple[bytes, int]:
    """Of a child: its state as proc(5) names it, and the clock ticks for which it ran; empty and 0 where that cannot be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read(4096).rpartition(b")")[2].split()
        return fields[0], int(fields[11]) + int(fields[12])
    except (OSError, IndexError, ValueError):
        return b"", 0


def _hang(of: str) -> bool:
    """Whether too many of a workload's workers are left behind, or of all."""
    with _stuck_lock:
        _stuck[:] = [(owner, process) for owner, process in _stuck if process.poll() is None]
        return len(_stuck) >= _MOST_STUCK or sum(owner == of for owner, _ in _stuck) >= _MOST_STUCK_EACH


def _lines(fd: int, patience: _Patience) -> Iterator[bytes]:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            patience.begin()
            while not selector.select(patience.step_s):
                patience.look()
            data = os.read(fd, _READ)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LINE:
                raise WorkerFailed("made the worker say what is no answer")
            yield from lines
