"""Finds out what processes run, from their memory maps and from folders and files of their own roots, in processes that may hang.

Whatever a workload maps or mounts can hang whoever reads it, for as long as it wants. So one process is started for each look
(:mod:`.inspection_worker`) and killed when it says nothing. There is one at a time, and workloads take turns; one whose look
hung waits longer each time. Those of one workload that cannot be ended are few, and cost no other its looks.

Starting one costs some 60 ms of CPU at the lowest priority. So processes of one kind are looked at once when they start and once
when they have loaded: the same program, command line (numbers in it aside, which are ports, pipes and tokens) and mount
namespace, the workload's first process apart from others. And of a workload only some kinds, then one a minute: what was found
of a kind in one group of a container holds for its other groups, too, for a while.
"""

from __future__ import annotations

import json
import logging
import queue
import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelward_agent.enrich.allowance import Allowance
from modelward_agent.enrich.process_table import Key, Program
from modelward_agent.enrich.runtime import Runtime
from modelward_agent.enrich.runtime_names import FRAMEWORKS
from modelward_agent.enrich.workloads import Kind, Workload
from modelward_agent.identity.lasting import repeat
from modelward_agent.identity.turns import Turns
from modelward_agent.identity.worker_process import WorkerFailed, WorkerProcess

log = logging.getLogger(__name__)

_MODULE = "modelward_agent.enrich.inspection_worker"
_SILENCE_S = 20.0
"""A worker of the lowest priority may take long to start on a busy host."""
_DEADLINE_S = 120.0
_WAITING, _WAITING_EACH = 256, 4
_WALKS = 8
_RARELY_S = 60.0
_KINDS = 256
_FOUND, _FOUND_S = 4096, 600.0
_BURST, _EVERY_S = 64, 2.0
"""So many looks at once, and in the long run one in so many seconds."""
_PAUSE_S, _LONGEST_PAUSE_S = 60.0, 3600.0
_PAUSED = 1024
_ENDING_S = 3.0
_TEXT = 64
_NUMBERS = re.compile(r"\d+")
_LABELS = frozenset(label for label, _, _ in FRAMEWORKS)


def kind(workload: Workload, key: Key, program: Program, mounts: str, *, ready: bool) -> Kind:
    """What a process has in common with those that run the same. ``ready``: it is through with loading."""
    return program.path, _NUMBERS.sub("0", program.command_line), mounts, ready, key == workload.root


@dataclass(frozen=True, slots=True)
class Walked:
    """What a look found; ``runtime`` is None when it found nothing, and processes of its kind may be looked at again."""

    workload: Workload
    kind: Kind
    runtime: Runtime | None


@dataclass(frozen=True, slots=True)
class _Walk:
    workload: Workload
    owner: str
    kind: Kind
    key: Key
    asked: bytes


class Walks:
    """A thread that has workers look. All methods are for one thread."""

    def __init__(self, proc: Path, silence_s: float = _SILENCE_S) -> None:
        """``silence_s``: a look that takes longer is ended."""
        self._proc = str(proc)
        self._silence_s = silence_s
        self._lock = threading.RLock()
        self._turns: Turns[_Walk] = Turns(self._lock, each=_WAITING_EACH, together=_WAITING)
        self._answers: queue.SimpleQueue[tuple[str, Key, Walked]] = queue.SimpleQueue()
        """With the name by which the workload was asked for."""
        self._allowance = Allowance(_WALKS, _RARELY_S)
        self._asked: set[tuple[str, Kind]] = set()
        """What is being looked for."""
        self._found: OrderedDict[tuple[str, Kind], tuple[Runtime, float]] = OrderedDict()
        """What processes of a kind run, and when that was found."""
        self._paused: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Of workloads whose looks hung: until when none is begun, and how long that is."""
        self._thread: threading.Thread | None = None
        self._worker: WorkerProcess | None = None
        self._closing = threading.Event()
        self._left = float(_BURST)
        self._counted_at = time.monotonic()

    def ask(self, workload: Workload, of: Kind, key: Key, asked: bytes) -> bool:
        """Have it found out what a process runs. False: not now. ``asked``: the name given to execve."""
        if of in workload.kinds:
            return True
        now = time.monotonic()
        self._left = min(float(_BURST), self._left + (now - self._counted_at) / _EVERY_S)
        self._counted_at = now
        known = self._found.get((workload.id, of))
        if known is not None and now - known[1] < _FOUND_S:
            self._remember(workload, of)
            self._answers.put((workload.id, key, Walked(workload, of, known[0])))
            return True
        if (workload.id, of) in self._asked or not self._allowance.allows(workload.id, now):
            return False
        with self._lock:
            if self._left < 1 or now < self._paused.get(workload.id, (0.0, 0.0))[0]:
                return False
            walk = _Walk(workload, workload.id, of, key, asked)
            lost = self._turns.add(workload.id, walk)
        if lost is walk:
            return False
        if lost is not None:
            self._answers.put((lost.owner, lost.key, Walked(lost.workload, lost.kind, None)))
        self._left -= 1
        self._allowance.take(workload.id, now)
        self._asked.add((workload.id, of))
        self._remember(workload, of)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="inspection", daemon=True)
            self._thread.start()
        return True

    def found(self) -> list[tuple[Key, Walked]]:
        """What was found since the last call, and of which processes."""
        found: list[tuple[Key, Walked]] = []
        while not self._answers.empty():
            owner, key, walked = self._answers.get()
            of = (owner, walked.kind)
            if walked.runtime is None:
                walked.workload.kinds.pop(walked.kind, None)
            else:
                found.append((key, walked))
                if of in self._asked:
                    self._found[of] = walked.runtime, time.monotonic()
                    self._found.move_to_end(of)
                    if len(self._found) > _FOUND:
                        self._found.popitem(last=False)
            self._asked.discard(of)
        return found

    @staticmethod
    def _remember(workload: Workload, of: Kind) -> None:
        workload.kinds[of] = None
        if len(workload.kinds) > _KINDS:
            del workload.kinds[next(iter(workload.kinds))]

    def close(self) -> None:
        """End it; what waits is not looked at."""
        self._closing.set()
        with self._lock:
            self._turns.close()
        if (worker := self._worker) is not None:
            worker.kill()
        if self._thread is not None:
            self._thread.join(_ENDING_S)

    def _run(self) -> None:
        repeat(self._next, self._closing)

    def _next(self) -> bool:
        """Look at the process whose turn it is, once there is one. False: at the end."""
        if (taken := self._turns.take()) is None:
            return False
        owner, walk = taken
        runtime = None
        try:
            runtime = self._look(walk, owner)
            with self._lock:
                self._paused.pop(owner, None)
        except WorkerFailed as e:
            if self._closing.is_set():
                return False
            self._pause(owner, str(e))
        except (OSError, ValueError, KeyError, TypeError) as e:
            log.debug("a process is not looked at", extra={"reason": str(e)[:200]})
        finally:
            self._answers.put((owner, walk.key, Walked(walk.workload, walk.kind, runtime)))
        return True

    def _look(self, walk: _Walk, owner: str) -> Runtime | None:
        """Raises WorkerFailed, OSError, KeyError, TypeError, ValueError."""
        pid, start_ns = walk.key
        asked = {"pid": pid, "start_ns": start_ns, "proc": self._proc, "asked": walk.asked.hex()}
        worker = self._worker = WorkerProcess(asked, self._silence_s, _DEADLINE_S, of=owner, module=_MODULE)
        try:
            for answer in worker.answers(""):
                return told_runtime(answer["runtime"]) if answer["runtime"] is not None else None
            return None
        finally:
            self._worker = None
            worker.close()

    def _pause(self, owner: str, reason: str) -> None:
        with self._lock:
            before = self._paused.pop(owner, (0.0, _PAUSE_S / 2))[1]
            pause_s = min(_LONGEST_PAUSE_S, 2 * before)
            self._paused[owner] = time.monotonic() + pause_s, pause_s
            if len(self._paused) > _PAUSED:
                self._paused.popitem(last=False)
        log.warning("what a workload runs cannot be found out: the look at it %s", reason, extra={
            "workload": owner, "again_in_s": pause_s})


def told_runtime(told: Any) -> Runtime:
    """A runtime as a worker told it, which had read what the workload wrote.

    Raises:
        ValueError, TypeError, KeyError: it is none.
    """
    frameworks = [(str(label), _text(version)) for label, version in told["frameworks"]]
    if int(told["rank"]) not in range(4) or not _LABELS.issuperset(label for label, _ in frameworks):
        raise ValueError(f"no runtime: {json.dumps(told)[:100]}")
    return Runtime(_text(told["name"]), int(told["rank"]), _text(told["version"]), tuple(dict(frameworks).items()))


def _text(told: object) -> str:
    text = str(told)
    if len(text) > _TEXT or not text.isascii() or (text and not text.isprintable()):
        raise ValueError("no name or version")
    return text
