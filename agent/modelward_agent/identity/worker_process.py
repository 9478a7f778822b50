"""The parent's side of a worker: starts it, reads its answers with bounds, kills it when it is silent."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

_LINE = 1 << 16
_KEPT = ("PATH", "PYTHONPATH", "LANG")


class WorkerFailed(Exception):
    """A worker died, was silent, or said what is no answer. The message continues a sentence on the file."""


class WorkerProcess:
    """One worker and its one job. Whatever happens to it, :meth:`close` leaves nothing behind."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "modelward_agent.identity.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
        )
        self._job = json.dumps(job).encode()

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def answers(self, silence_s: float) -> Iterator[dict[str, Any]]:
        """Give it its job and take its answers, each within ``silence_s`` of the one before.

        Raises:
            WorkerFailed
        """
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(self._job)
            process.stdin.close()
        except BrokenPipeError as e:
            raise WorkerFailed("was not read: the worker ended before it began") from e
        for line in _lines(process.stdout.fileno(), silence_s):
            try:
                answer = json.loads(line)
            except (ValueError, RecursionError) as e:
                raise WorkerFailed("made the worker say what is no answer") from e
            if isinstance(answer, dict):
                yield answer
        try:
            status = process.wait(silence_s)
        except subprocess.TimeoutExpired as e:
            raise WorkerFailed("made the worker hang") from e
        if status != 0:
            raise WorkerFailed(f"made the worker end with status {status}")

    def kill(self) -> None:
        """End it at once; answers that are being waited for end too. May be called from another thread."""
        self._process.kill()

    def close(self) -> None:
        """End it and give back what it held."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def _lines(fd: int, silence_s: float) -> Iterator[bytes]:
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(fd, selectors.EVENT_READ)
        while True:
            if not selector.select(silence_s):
                raise WorkerFailed(f"could not be read: nothing came for {silence_s:g} s")
            data = os.read(fd, _LINE)
            if not data:
                return
            *lines, rest = (rest + data).split(b"\n")
            if len(rest) > _LINE:
                raise WorkerFailed("made the worker say what is no answer")
            yield from lines
