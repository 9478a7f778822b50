"""Hashes what is large, one load at a time, in the order in which somebody waits for it.

Each load comes when it would be over if only its own workload had loads: one that has hundreds does not hold up another's. One
of a process that is gone comes a minute later: nobody may wait for it any more, but whoever looks back at an attack does. Where a
workload's files are read far more slowly than files should be, that time is worked out anew from what was measured. What comes
later gives way at once to what comes first; a file that was hashed to its end is not read again. Nothing waits without end: what
comes later than a load has a later time.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from modelward_proto.text import escape

from modelward_agent.identity.composing import Found
from modelward_agent.identity.known import Known
from modelward_agent.identity.lasting import repeat
from modelward_agent.identity.loading import Load, find, job, read_facts, remember
from modelward_agent.identity.opening import lives
from modelward_agent.identity.worker_process import WorkerFailed, WorkerProcess, WorkerSilent

log = logging.getLogger(__name__)

_WAITING = 256
_LOOK_S = 0.5
_SLOW, _SLOW_AFTER_S = 16 << 20, 60.0
"""Bytes a second that any file should give in the long run; how far behind a load may be before what it gives is counted with."""
_SLOWEST, _DEADLINE_S = 1 << 20, 600.0
"""Less than that is not waited for."""
_GONE_S = 60.0
"""So much later comes what a process loaded that is gone."""

_Call = Callable[[Load], None]


class Hasher:
    """A thread with a list of loads. ``tell`` and ``finish`` are called under ``lock``."""

    def __init__(
        self, known: Known, lock: threading.RLock, tell: _Call, finish: _Call, *, proc: str, bytes_per_s: int, silence_s: float
    ) -> None:
        self._known = known
        self._changed = threading.Condition(lock)
        self._tell, self._finish = tell, finish
        self._proc, self._bytes_per_s, self._silence_s = proc, bytes_per_s, silence_s
        self._loads: list[Load] = []
        self._closing = threading.Event()
        self._worker: WorkerProcess | None = None
        self._thread = threading.Thread(target=self._run, name="identity-hash", daemon=True)
        self._thread.start()

    def add(self, load: Load) -> None:
        """Hash what nobody hashed of it. When too many wait, the workload that has most gives up its last."""
        with self._changed:
            if load not in self._loads:
                self._place(load)
                self._loads.append(load)
            if len(self._loads) > _WAITING:
                [(most, _)] = Counter(waiting.workload for waiting in self._loads).most_common(1)
                last = max((waiting for waiting in self._loads if waiting.workload == most), key=self._order)
                self._loads.remove(last)
                last.problem = "is not read: too many wait"
                self._tell(last)
                self._finish(last)
            self._changed.notify()

    def close(self) -> None:
        """Stop."""
        with self._changed:
            self._closing.set()
            if self._worker is not None:
                self._worker.kill()
            self._changed.notify()
        self._thread.join(10)

    def _place(self, load: Load) -> None:
        """As if its workload were alone: a huge or endless file holds up nobody who comes before that could be over, and
        hundreds of small ones make each other wait."""
        takes_s = self._size(load) / self._bytes_per_s
        now = time.monotonic()
        load.placed, load.alone, load.due = now, now + takes_s, now
        for other in self._loads:
            if other.workload == load.workload and other.alone <= load.alone:
                load.due = max(load.due, other.due)
            elif other.workload == load.workload:
                other.due += takes_s
        load.due += takes_s

    def _size(self, load: Load) -> int:
        return sum(file.stamp[2] for file in load.unread(self._known))

    def _order(self, load: Load) -> float:
        alive = lives(load.first.pid, load.first.start_ns, Path(self._proc))
        return load.due + (0.0 if alive else _GONE_S)

    def _run(self) -> None:
        repeat(self._next, self._closing)

    def _next(self) -> bool:
        """Hash the load that comes first, once there is one. False: at the end."""
        with self._changed:
            while not self._loads and not self._closing.is_set():
                self._changed.wait()
            if self._closing.is_set():
                return False
            load = min(self._loads, key=self._order)
        ended, problem, silent = True, "", False
        try:
            ended = self._hash(load)
        except (WorkerFailed, OSError, ValueError, KeyError, TypeError, IndexError) as e:
            problem = str(e) if isinstance(e, WorkerFailed) else f"cannot be read: {e}"
            silent = isinstance(e, WorkerSilent)
        except Exception as e:
            # The next one may be an honest model.
            log.exception("artifact not hashed", extra={"path": escape(load.first.path)})
            problem = f"cannot be read: {type(e).__name__}"
        with self._changed:
            if self._closing.is_set():
                # What failed may have been ended for that.
                return False
            if not ended or load not in self._loads:
                return True
            if silent and load.may_try_again(self._proc):
                self._place(load)
                return True
            load.problem = problem or load.problem
            if not load.problem and not load.model.problem and load.unread(self._known):
                # Files joined it while it was being hashed: they come when they would as a load of their own.
                self._place(load)
                return True
            self._loads.remove(load)
            try:
                self._tell(load)
            finally:
                self._finish(load)
        return True

    def _hash(self, load: Load) -> bool:
        """Hash a load's files. False: it gave way to another before its end.

        Raises:
            WorkerFailed, OSError, KeyError, TypeError, ValueError
        """
        with self._changed:
            if self._closing.is_set():
                # Nobody would end a worker that began now.
                return False
            unread = load.unread(self._known)
            if not unread or load.problem:
                return True
            asked = job(load, [file.path for file in unread if file.artifact < 0], neighbours=False, proc=self._proc,
                        bytes_per_s=self._bytes_per_s)
            size = sum(file.stamp[2] for file in unread)
            worker = self._worker = WorkerProcess(asked, self._silence_s, _DEADLINE_S + size / _SLOWEST, of=load.workload)
        try:
            found = find(worker)
            numbers = _matching(found, unread)
            worker.tell({"open": numbers})
            read_facts(worker, found)
            worker.tell({"hash": numbers})
            ended = self._take(load, found, worker)
            if ended and any(not load.content(file, self._known) for file in unread):
                raise WorkerFailed("was not read to its end")
            return ended
        finally:
            with self._changed:
                self._worker = None
            worker.close()

    def _take(self, load: Load, found: list[Found], worker: WorkerProcess) -> bool:
        began = looked = time.monotonic()
        hashed = read = 0
        for answer in worker.answers(""):
            if "read" in answer:
                read = int(answer["read"])
            elif "digest" in answer:
                hashed, read = hashed + read, 0
                with self._changed:
                    remember(load, self._known, found[int(answer["of"])], str(answer["digest"]))
                self._known.save()
            elif "error" in answer:
                raise WorkerFailed(str(answer["error"]))
            if time.monotonic() - looked > _LOOK_S:
                looked = time.monotonic()
                with self._changed:
                    if looked - began > _SLOW_AFTER_S + (hashed + read) / _SLOW:
                        self._is_slow(load.workload, max(1.0, (hashed + read) / (looked - began)))
                    if min(self._loads, key=self._order) is not load:
                        return False
        return True

    def _is_slow(self, workload: str, bytes_per_s: float) -> None:
        """What else waits of it is as slow, or it could take as long again and again. From when each was asked for: one that gave
        way and begins anew is no later for that. Called under the lock."""
        over = 0.0
        for load in sorted((each for each in self._loads if each.workload == workload), key=lambda each: each.due):
            over = max(over, load.placed) + self._size(load) / bytes_per_s
            load.due = max(load.due, over)


def _matching(found: list[Found], unread: list[Found]) -> list[int]:
    """Numbers under which a worker found these files again.

    Raises:
        WorkerFailed: one of them is not what it was.
    """
    numbers = {file.stamp: number for number, file in enumerate(found) if not file.error}
    for file in unread:
        if file.stamp not in numbers:
            raise WorkerFailed("changed before it was read")
    return [numbers[file.stamp] for file in unread]
