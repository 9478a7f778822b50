"""Asks a worker where functions are in a file, and remembers what it said."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Sequence

_ANSWER = 1 << 16
_KEPT = ("PATH", "PYTHONPATH", "LANG")
_REMEMBERED = 256
_PATIENCE_S = 20.0
_DYING_S = 2.0


class LocateError(Exception):
    """A file's functions cannot be told. The message continues a sentence on it."""


class Locator:
    """Offsets by file, as it is now."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, ...], dict[str, int] | str] = OrderedDict()

    def functions(self, fd: int, names: Sequence[str]) -> dict[str, int]:
        """Offsets of those functions that the file has.

        Raises:
            LocateError: the file cannot be understood, or kills or holds up whoever tries.
        """
        about = os.fstat(fd)
        stamp = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns, hash(tuple(names)))
        known = self._known.get(stamp)
        if known is None:
            try:
                known = _ask(fd, names)
            except LocateError as e:
                known = str(e)
            self._known[stamp] = known
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        if isinstance(known, str):
            raise LocateError(known)
        return known


def _ask(fd: int, names: Sequence[str]) -> dict[str, int]:
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "modelward_agent.probes.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", pass_fds=(fd,),
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
    )
    try:
        answer = json.loads(_converse(worker, json.dumps({"fd": fd, "names": list(names)}).encode()))
        if "error" in answer:
            raise LocateError(str(answer["error"]))
        return {str(name): int(offset) for name, offset in answer["functions"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise LocateError("made its reader say what is no answer") from e
    finally:
        worker.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # The kernel ends it when the file system lets go of it.
            worker.wait(_DYING_S)
        for pipe in (worker.stdin, worker.stdout):
            if pipe is not None:
                pipe.close()


def _converse(worker: subprocess.Popen[bytes], job: bytes) -> bytes:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        worker.stdin.write(job)
        worker.stdin.close()
    except BrokenPipeError as e:
        raise LocateError("was not read: its reader ended before it began") from e
    answer = b""
    with selectors.DefaultSelector() as selector:
        selector.register(worker.stdout.fileno(), selectors.EVENT_READ)
        while not answer.endswith(b"\n"):
            if not selector.select(_PATIENCE_S):
                raise LocateError("made its reader hang")
            data = os.read(worker.stdout.fileno(), _ANSWER)
            answer += data
            if not data or len(answer) > _ANSWER:
                raise LocateError("made its reader end without an answer")
    return answer
