"""The parent's side of a worker: starts it, talks to it with bounds, kills it when it is silent.

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
from collections.abc import Iterator
from typing import Any

_READ = 1 << 16
_LINE = 1 << 20
_KEPT = ("PATH", "PYTHONPATH", "LANG")
_DYING_S = 2.0
_MOST_STUCK = 32
_MOST_STUCK_EACH = 2

_stuck: list[tuple[str, subprocess.Popen[bytes]]] = []
"""Workers that were killed and do not end, and whose files they read."""
_stuck_lock = threading.Lock()


class WorkerFailed(Exception):
    """A worker died, was silent, or said what is no answer. The message continues a sentence on the file."""


class WorkerProcess:
    """One worker and its one job. Whatever happens to it, :meth:`close` leaves nothing behind that can be ended."""

    def __init__(
        self, job: dict[str, Any], silence_s: float, *, of: str = "", module: str = "modelward_agent.identity.worker"
    ) -> None:
        """Start it.

        Args:
            silence_s: so long it may take for each thing that it says.
            of: the workload whose files it reads.
            module: what it runs.

        Raises:
            WorkerFailed: too many before it cannot be ended. OSError: it cannot be started.
        """
        if _hang(of):
            raise WorkerFailed("is not read: too many readers hang in a file system")
        self._of = of
        self._silence_s = silence_s
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
        )
        assert self._process.stdout is not None
        self._lines = _lines(self._process.stdout.fileno(), silence_s)
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
        try:
            status = self._process.wait(self._silence_s)
        except subprocess.TimeoutExpired as e:
            raise WorkerFailed("made the worker hang") from e
        if status != 0 or until:
            raise WorkerFailed(f"made the worker end with status {status}")

    def kill(self) -> None:
        """End it at once; answers that are being waited for end too. May be called from another thread."""
        self._process.kill()

    def close(self) -> None:
        """End it and give back what it held."""
        self._process.kill()
        try:
            self._process.wait(_DYING_S)
        except subprocess.TimeoutExpired:
            # The kernel ends it when the file system lets go of it.
            with _stuck_lock:
                _stuck.append((self._of, self._process))
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _hang(of: str) -> bool:
    """Whether too many of a workload's workers are left behind, or of all."""
    with _stuck_lock:
        _stuck[:] = [(owner, process) for owner, process in _stuck if process.poll() is None]
        return len(_stuck) >= _MOST_STUCK or sum(owner == of for owner, _ in _stuck) >= _MOST_STUCK_EACH


def _lines(fd: int, silence_s: float) -> Iterator[bytes]:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            if not selector.select(silence_s):
                raise WorkerFailed(f"could not be read: nothing came for {silence_s:g} s")
            data = os.read(fd, _READ)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LINE:
                raise WorkerFailed("made the worker say what is no answer")
            yield from lines
