"""Identifies artifacts in the background: one load at a time, each in a process that may hang or die.

One thread looks at what was loaded and hashes what is small; another hashes what is large (:mod:`.hasher`). Workloads share
both: each has a line of its own with a bound of its own, and next is the first of the line that has had the least time so far
(:mod:`.turns`). One that opens ten thousand artifacts, or whose files hang, makes itself wait: it neither fills the lines of
others nor takes more than its turn.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections import Counter, deque
from pathlib import Path

from modelward_proto.text import escape

from modelward_agent.identity import members
from modelward_agent.identity.artifact import Artifact, Identity
from modelward_agent.identity.composing import Found, compose
from modelward_agent.identity.hasher import Hasher
from modelward_agent.identity.header import Facts
from modelward_agent.identity.known import Content, Known
from modelward_agent.identity.lasting import repeat
from modelward_agent.identity.loading import Load, find, job, read_facts, remember, tell
from modelward_agent.identity.record import identity_record as identity_record
from modelward_agent.identity.turns import Lately, Shares, Turns
from modelward_agent.identity.worker_process import WorkerFailed, WorkerLate, WorkerProcess, WorkerSilent

log = logging.getLogger(__name__)

_WAITING = 1024
_WAITING_EACH = 256
_RESULTS = 4096
_REGISTERED = 4096
_AT_ONCE = 256
_ARTIFACTS = 8192
"""So many artifacts are held of all loads together; of those that are done, the workload that has most loses the oldest."""
_LARGE = 256 << 20
"""More than this is named at once and gets its digest by a second result: hashing takes long."""
_DEADLINE_S = 300.0
"""For one load, what is large apart: a slow file system gives a megabyte a second."""
_SHOWN_PATH = 256
_TOLD_S, _TOLD_EACH, _TOLD_WORKLOADS = 20.0, 32, 256
"""After its last result was taken a load is kept for so long: the drainer has it on disk within a second, unless it is killed,
and then a sender lives for some more."""
_ROUNDS = 3
"""A file may name others, and one of those (an index) again others."""


class Resolver:
    """Takes artifacts and gives identities back; never blocks its caller, never raises over an artifact.

    Artifacts of one instance are one model. What was found in a file is remembered for its (device, inode, size, mtime, ctime):
    the second instance of a model costs no reading, nor does a restart of the agent.
    """

    def __init__(
        self, *, proc: Path = Path("/proc"), bytes_per_s: int = 256 << 20, silence_s: float = 30.0,
        deadline_s: float = _DEADLINE_S, known: Path | None = None, boot_id: str = "", large: int = _LARGE,
    ) -> None:
        """``silence_s``: a worker that says nothing for so long is killed. ``deadline_s``: so long may a load take, apart from
        what the hasher reads. ``known``: file in which digests are kept."""
        self._proc = os.fspath(proc)
        self._bytes_per_s = bytes_per_s
        self._silence_s, self._deadline_s = silence_s, deadline_s
        self._large = large
        self._lock = threading.RLock()
        self._waiting: Turns[Load] = Turns(self._lock, each=_WAITING_EACH, together=_WAITING)
        self._results: Shares[tuple[Artifact, Identity]] = Shares(_RESULTS)
        self._registered: Shares[tuple[int, int]] = Shares(_REGISTERED)
        self._loads: dict[int, Load] = {}
        self._ended: dict[str, dict[int, Load]] = {}
        self._unfinished: dict[int, Load] = {}
        self._done: deque[Load] = deque()
        self._told: Lately[Load] = Lately(_TOLD_S, each=_TOLD_EACH, workloads=_TOLD_WORKLOADS)
        self._held: Counter[str] = Counter()
        self._together = 0
        self._known = Known(known, boot_id)
        self._closing = threading.Event()
        self._worker: WorkerProcess | None = None
        self.refused = 0
        """Artifacts that were turned away, each counted once: too many of their workload waited, or too many together."""
        self.false_names = 0
        """Loads with a file that lay in a cache under the sha256 of other content."""
        self._false_path = ""
        self._hasher = Hasher(self._known, self._lock, self._tell, self._finish, proc=self._proc, bytes_per_s=bytes_per_s,
                              silence_s=silence_s)
        self._thread = threading.Thread(target=self._run, name="identity", daemon=True)
        self._thread.start()

    def submit(self, artifact: Artifact) -> None:
        """Ask for the identity of an artifact's instance. When too many wait already, it gets the one that its path tells."""
        with self._lock:
            load = self._loads.get(artifact.instance)
            if load is None:
                load = self._loads[artifact.instance] = Load([artifact])
                self._hold(load, 1)
                self._unfinished[artifact.instance] = load
                self._forget()
            elif load.overflow or load.covers(artifact):
                return
            else:
                load.artifacts.append(artifact)
                self._hold(load, 1)
            if load.queued:
                return
            load.done = False
            self._ended.get(load.workload, {}).pop(artifact.instance, None)
            self._unfinished[artifact.instance] = load
            self._queue(load)

    def results(self) -> list[tuple[Artifact, Identity]]:
        """Identities found since the last call. One that becomes known bit by bit comes several times: the last one counts."""
        with self._lock:
            found = self._results.take()
            while self._done:
                load = self._done.popleft()
                if load.done and self._unfinished.get(load.first.instance) is load:
                    del self._unfinished[load.first.instance]
                    self._told.add(load.workload, load)
        return found

    def registrations(self) -> list[tuple[int, int]]:
        """Device and inode of files that belong to a model and were not seen opened yet, as far as not given out before."""
        with self._lock:
            return self._registered.take(_AT_ONCE)

    def unfinished(self) -> list[Artifact]:
        """Those of which the last result was not taken yet, in the order in which they were asked for."""
        with self._lock:
            return [artifact for load in self._unfinished.values() for artifact in load.artifacts]

    def to_keep(self) -> list[Artifact]:
        """Those of which a resolver after a crash would have to be asked anew, what can be missed most at the end: before what is
        unfinished, that of which the results were taken a while ago."""
        with self._lock:
            told = {load.first.instance: load for load in self._told if load.done}
            return [artifact for load in (*told.values(), *self._unfinished.values()) for artifact in load.artifacts]

    def close(self) -> None:
        """Stop; what still waits is not identified."""
        self._closing.set()
        if (worker := self._worker) is not None:
            worker.kill()
        with self._lock:
            self._waiting.close()
        self._hasher.close()
        self._thread.join(10)
        if not self._thread.is_alive():
            # What was hashed when it was told to stop.
            self._known.save()

    def problems(self) -> list[str]:
        """What whoever looks after the host should know, in words."""
        found = []
        if self.refused:
            found.append(f"{self.refused} artifacts were not identified when they were opened: too many waited")
        if self._registered.lost:
            found.append(f"{self._registered.lost} files that belong to models were not registered: too many of one workload")
        if self._results.lost:
            found.append(f"{self._results.lost} identities of models were not told: too many of one workload")
        if self.false_names:
            found.append(f"{self.false_names} loads of files that lie in a cache under the sha256 of other content, the last of "
                         f"{self._false_path}: their digest is that of what was read")
        return found

    def _hold(self, load: Load, artifacts: int) -> None:
        self._held[load.workload] += artifacts
        self._together += artifacts

    def _queue(self, load: Load) -> None:
        """It waits to be looked at. Called under the lock."""
        load.queued = True
        if (lost := self._waiting.add(load.workload, load)) is not None:
            self._refuse(lost)

    def _refuse(self, load: Load) -> None:
        """It does not wait any more. Called under the lock."""
        counted = max(load.looked, load.refused)
        self.refused += len(load.artifacts) - counted
        load.refused = len(load.artifacts)
        load.queued = False
        load.problem = "is not read: too many wait"
        self._tell(load)
        self._finish(load)

    def _forget(self) -> None:
        """Bounded, whatever workloads do: loads that are done go first, those of the workload that has most."""
        while self._together > _ARTIFACTS and (ended := [workload for workload, loads in self._ended.items() if loads]):
            loads = self._ended[max(ended, key=self._held.__getitem__)]
            load = self._loads.pop(next(iter(loads)))
            del loads[load.first.instance]
            self._hold(load, -len(load.artifacts))
            if not self._held[load.workload]:
                del self._held[load.workload], self._ended[load.workload]

    def _run(self) -> None:
        repeat(self._next, self._closing)

    def _next(self) -> bool:
        """Look at the load whose turn it is, once there is one. False: at the end."""
        if (taken := self._waiting.take()) is None:
            return False
        _, load = taken
        with self._lock:
            load.queued = False
            load.problem = ""
            load.looked = len(load.artifacts)
        silent = False
        try:
            self._look(load)
        except (WorkerFailed, OSError, ValueError, KeyError, TypeError, IndexError) as e:
            load.problem = str(e) if isinstance(e, WorkerFailed) else f"cannot be read: {e}"
            silent = isinstance(e, WorkerSilent)
        except Exception as e:
            # The next one may be an honest model.
            log.exception("artifact not identified", extra={"path": escape(load.first.path)})
            load.problem = f"cannot be read: {type(e).__name__}"
        if self._closing.is_set():
            return False
        with self._lock:
            to_hash = again = False
            try:
                self._tell(load)
                to_hash = not load.problem and not load.model.problem and bool(load.unread(self._known))
                again = silent and load.may_try_again(self._proc)
            finally:
                if not to_hash and not again:
                    self._finish(load)
            if to_hash:
                self._hasher.add(load)
            elif again and not load.queued:
                self._queue(load)
        self._known.save()
        return True

    def _look(self, load: Load) -> None:
        """Find and put together the files of a load, and hash those that are small.

        Raises:
            WorkerFailed, OSError, KeyError, TypeError, ValueError
        """
        also: list[bytes] = []
        until = time.monotonic() + self._deadline_s
        for left in reversed(range(_ROUNDS)):
            asked = job(load, also, neighbours=True, proc=self._proc, bytes_per_s=self._bytes_per_s)
            if (left_s := until - time.monotonic()) <= 0:
                raise WorkerFailed(f"could not be read within {self._deadline_s:.0f} s")
            worker = self._worker = WorkerProcess(asked, self._silence_s, left_s, of=load.workload, told_s=self._deadline_s)
            try:
                if self._closing.is_set():
                    return
                self._compose(load, worker)
                wanted = [path for path in dict.fromkeys(load.model.wanted) if path not in also][: members.FILES]
                if wanted and left:
                    also += wanted
                    continue
                # What cannot be read in time is read by whoever has more of it.
                with contextlib.suppress(WorkerLate):
                    self._hash_small(load, worker)
                return
            finally:
                self._worker = None
                worker.close()

    def _compose(self, load: Load, worker: WorkerProcess) -> None:
        found = find(worker)
        with self._lock:
            known = [self._known.get(file.stamp) if file.kept else Content() for file in found]
        facts: dict[int, Facts] = {n: content.facts for n, content in enumerate(known) if content.facts}
        # A file that was read before is not opened again: to another agent on this host that would be a load.
        unread = [n for n, file in enumerate(found) if not file.error and self._is_wanted(file, known[n])]
        worker.tell({"open": unread})
        read, errors = read_facts(worker, found)
        facts |= read
        for number, error in errors.items():
            found[number] = _failed(found[number], error)
        model = compose(found, facts)
        if load.overflow:
            model.problem = f"has more than {members.FILES} files"
        with self._lock:
            for number, told in read.items():
                if found[number].kept:
                    self._known.put(found[number].stamp, Content(told, self._known.get(found[number].stamp).digest))
            load.found, load.model = found, model
            for file in load.files():
                if file.artifact < 0 and file.inside and file.device and not file.served:
                    self._registered.add(load.workload, (file.device, file.stamp[1]))

    @staticmethod
    def _is_wanted(file: Found, known: Content) -> bool:
        return known.facts is None or not (known.digest or members.is_side(file.name))

    def _hash_small(self, load: Load, worker: WorkerProcess) -> None:
        with self._lock:
            unread = load.unread(self._known)
        if load.model.problem or sum(file.stamp[2] for file in unread) > self._large:
            unread = []
        worker.tell({"hash": [load.found.index(file) for file in unread]})
        for answer in worker.answers(""):
            if "digest" in answer:
                with self._lock:
                    remember(load, self._known, load.found[int(answer["of"])], str(answer["digest"]))
            elif "error" in answer:
                load.problem = str(answer["error"])

    def _tell(self, load: Load) -> None:
        """Give out what is known, if it is more than was told before. Called under the lock."""
        identity = load.identity(self._known)
        was_false = load.false
        tell(load, identity, self._known)
        if load.false and not was_false:
            self.false_names += 1
            self._false_path = identity.path[:_SHOWN_PATH]
        if identity != load.told:
            load.told = identity
            self._results.add(load.workload, (load.first, identity))

    def _finish(self, load: Load) -> None:
        """Nothing more comes of it for now. Called under the lock."""
        if not load.queued and not load.done:
            load.done = True
            self._ended.setdefault(load.workload, {})[load.first.instance] = load
            self._done.append(load)


def _failed(file: Found, error: str) -> Found:
    return Found(file.path, file.artifact, file.stamp, file.device, file.kept, file.inside, file.served, "", error, file.source)
