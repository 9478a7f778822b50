"""Looks at living processes for what they run and which GPUs they hold, without letting a hostile one hold up events or the looks
at others.

What they run is found out by processes that can be killed (:mod:`.walking`). Which GPUs they hold is told by what the kernel has
of their descriptors, in milliseconds; that is read in a thread, for which the caller waits a moment. What comes later is taken
up at the next occasion. All looks together have a share of the time, and one that hangs stops those of its own workload alone.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from modelward_agent.enrich.allowance import Allowance
from modelward_agent.enrich.gpus import held_gpus
from modelward_agent.enrich.proc_files import ProcFiles
from modelward_agent.enrich.process_table import NO_PROGRAM, Key, Program
from modelward_agent.enrich.runtime import Runtime
from modelward_agent.enrich.walking import Walks, kind
from modelward_agent.enrich.workloads import Workload

_PATIENCE_S = 0.05
_HANGING = 32
_BURST_S = 1.0
_SHARE = 0.02
"""Of the time, spent on looks in the long run; as much as ``_BURST_S`` at once."""
_LOOKS = 64
_RARELY_S = 60.0


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look found of a process, and whose process it is. None: nothing new."""

    workload: Workload
    runtime: Runtime | None = None
    gpus: tuple[str, ...] | None = None


class Inspector:
    """Bounded in threads, processes and time. Not for use by several threads."""

    def __init__(self, proc: Path = Path("/proc"), walks: Walks | None = None) -> None:
        """``walks``: who finds out what processes run; by default one of its own."""
        self._proc = proc
        self._files = ProcFiles(proc)
        self._walks = walks or Walks(proc)
        self._answers: queue.SimpleQueue[tuple[Key, Findings]] = queue.SimpleQueue()
        self._threads: dict[str, threading.Thread] = {}
        """The last one of each workload, while it runs."""
        self._allowance = Allowance(_LOOKS, _RARELY_S)
        self._left_s = _BURST_S
        self._counted_at = time.monotonic()

    def look(self, workload: Workload, key: Key, program: Program = NO_PROGRAM, *, ready: bool = False) -> bool:
        """Look at a process of a workload, unless there is no time for that now. ``ready``: it is through with loading."""
        now = time.monotonic()
        self._left_s = min(_BURST_S, self._left_s + (now - self._counted_at) * _SHARE)
        self._counted_at = now
        self._threads = {of: thread for of, thread in self._threads.items() if thread.is_alive()}
        if self._left_s <= 0 or workload.id in self._threads or len(self._threads) >= _HANGING:
            return False
        if not self._allowance.allows(workload.id, now):
            return False
        of = kind(workload, key, program, self._files.mounts(key[0]), ready=ready)
        if not self._walks.ask(workload, of, key, program.asked):
            return False
        self._allowance.take(workload.id, now)
        thread = threading.Thread(target=self._look, args=(workload, key), name="gpus", daemon=True)
        self._threads[workload.id] = thread
        thread.start()
        thread.join(_PATIENCE_S)
        self._left_s -= time.monotonic() - now
        return True

    def found(self) -> list[tuple[Key, Findings]]:
        """What looks found since the last call."""
        found = [(key, Findings(walked.workload, walked.runtime)) for key, walked in self._walks.found()]
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    def close(self) -> None:
        """Nothing is looked at any more."""
        self._walks.close()

    def _look(self, workload: Workload, key: Key) -> None:
        if not self._files.lives(*key):
            return
        gpus = held_gpus(key[0], self._proc)
        # Still the process that was meant: another one may have got its pid in the middle.
        if self._files.lives(*key):
            self._answers.put((key, Findings(workload, gpus=gpus)))
