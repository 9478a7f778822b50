"""Looks at living processes in /proc for what they run and which GPUs they hold, without letting a hostile one hold up events.

A look takes milliseconds; reading a process' maps can hang as long as that process wants. So each runs in a thread, for which
the caller waits a moment: what comes later is taken up at the next occasion, and all looks together have a share of the time.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from modelward_agent.enrich.gpus import held_gpus
from modelward_agent.enrich.packages import MAPS_BYTES, look_up, mapped_files
from modelward_agent.enrich.proc_files import ProcFiles, Seen
from modelward_agent.enrich.process_table import Key
from modelward_agent.enrich.runtime import Runtime, guess, is_spawned, recognise
from modelward_agent.enrich.runtime_names import VERSION_FILES
from modelward_agent.enrich.workloads import Workload
from modelward_agent.identity.opening import places

_PATIENCE_S = 0.05
_HANGING = 4
_BURST_S = 1.0
_SHARE = 0.02
"""Of the time, spent on looks in the long run; as much as ``_BURST_S`` at once."""
_LOOKS = 64
_RARELY_S = 60.0
_SPAWNS = 3


@dataclass(frozen=True, slots=True)
class Findings:
    """What a look found, and of which workload."""

    workload: Workload
    runtime: Runtime
    gpus: tuple[str, ...]


class Inspector:
    """Bounded in threads and time. Not for use by several threads."""

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._files = ProcFiles(proc)
        self._answers: queue.SimpleQueue[tuple[Key, Findings]] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._left_s = _BURST_S
        self._counted_at = time.monotonic()

    def look(self, workload: Workload, key: Key, asked: bytes = b"") -> bool:
        """Look at a process of a workload, unless there is no time for that now. ``asked``: the name given to execve."""
        now = time.monotonic()
        self._left_s = min(_BURST_S, self._left_s + (now - self._counted_at) * _SHARE)
        self._counted_at = now
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if self._left_s <= 0 or len(self._threads) >= _HANGING or now < workload.look_at:
            return False
        workload.looks += 1
        if workload.looks >= _LOOKS:
            workload.look_at = now + _RARELY_S
        thread = threading.Thread(target=self._look, args=(workload, key, asked), name="inspection", daemon=True)
        self._threads.append(thread)
        thread.start()
        thread.join(_PATIENCE_S)
        self._left_s -= time.monotonic() - now
        return True

    def found(self) -> list[tuple[Key, Findings]]:
        """What looks found since the last call."""
        found: list[tuple[Key, Findings]] = []
        while not self._answers.empty():
            found.append(self._answers.get())
        return found

    def _look(self, workload: Workload, key: Key, asked: bytes) -> None:
        seen = self._files.process(*key)
        if seen is None:
            return
        runtime = self._runtime(key, seen, asked)
        gpus = held_gpus(key[0], self._proc)
        # Still the process that was meant: another one may have got its pid in the middle.
        if self._files.key(key[0])[1] and self._files.process(*key) is not None:
            self._answers.put((key, Findings(workload, runtime, gpus)))

    def _runtime(self, key: Key, seen: Seen, asked: bytes) -> Runtime:
        maps = self._files.text(*key, "maps", MAPS_BYTES) or b""
        path = seen.path.decode("utf-8", "replace")
        own = guess(path, seen.arguments)
        starter = self._starter(seen)
        known = max(own, guess(path, starter.arguments), key=lambda found: found[1])
        found = places(*key, self._proc)
        try:
            if len(found) < 2:
                return Runtime(*known)
            cwd = self._files.working_folder(key[0])
            runtime = recognise(known, path, look_up(found[0], mapped_files(maps), seen.path, starter.arguments, cwd, asked))
            if not runtime.version and (file := VERSION_FILES.get(runtime.name)):
                version = found[0].read(file, 64).decode("ascii", "replace").strip()
                runtime = Runtime(runtime.name, runtime.rank, version if version.isprintable() else "", runtime.frameworks)
            return runtime
        finally:
            for place in found:
                place.close()

    def _starter(self, seen: Seen) -> Seen:
        """Whose script a process of Python's multiprocessing runs; any other process itself."""
        for _ in range(_SPAWNS):
            if not is_spawned(seen.arguments):
                return seen
            above = self._files.process(*self._files.key(seen.parent_pid))
            if above is None:
                return seen
            seen = above
        return seen
