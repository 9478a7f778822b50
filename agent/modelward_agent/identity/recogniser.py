"""Finds models among the files that workloads open and that nothing but their content tells for models.

A thread looks at them through workers that may hang or die (:mod:`.recognition_worker`), some files of one workload at a time.
What a workload may ask for is bounded: a burst, then a few files a second; one that opens a hundred thousand goes without for
most of them, which is counted, and others wait no longer than a worker may take. A file is read once for what it holds: again
when its size or times have changed, which is looked for after a while, or as soon as it was seen opened for writing.
"""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from modelward_proto.text import escape

from modelward_agent.identity.lasting import repeat
from modelward_agent.identity.turns import Lately, Shares, Turns
from modelward_agent.identity.worker_process import WorkerFailed, WorkerProcess

log = logging.getLogger(__name__)

_MODULE = "modelward_agent.identity.recognition_worker"
_BURST, _PER_S = 1024, 8.0
"""Files of one workload: a server opens some hundreds while it starts."""
_AT_ONCE = 64
_DEADLINE_S = 180.0
"""For a worker that looks at so many."""
_GATHER_S = 0.1
_REST, _REST_S = 3.0, 1.0
"""After a worker nothing is done for so many times as long as it took, at most so long."""
_WORKLOADS = 4096
_KEPT_EACH, _KEPT = 4096, 65536
_SETTLED_S = 300.0
_FOUND = 4096
_SAME = 64
"""Openers of one file that is being looked at."""
_SHOWN = 256
_TOLD_S, _TOLD_EACH, _TOLD_WORKLOADS = 600.0, 64, 128
"""So long at most a model that was given back is kept until the load that begins with it was seen: some begin none."""

File = tuple[int, int]
"""Device, as the kernel numbers it, and inode."""


@dataclass(frozen=True, slots=True)
class Opened:
    """A file that a tracked process opened for reading, and that is no artifact as far as the kernel side knows."""

    pid: int
    tid: int
    start_ns: int
    group: int
    path: bytes
    asked: bytes
    device: int
    inode: int
    """0: the kernel did not say which file it was, only its absolute name."""
    workload: str

    @property
    def file(self) -> tuple[int, int, bytes]:
        """What tells it from others."""
        return self.device, self.inode, b"" if self.inode else self.path


@dataclass(slots=True)
class _Looked:
    """What a file held when it was looked at."""

    stamp: list[int]
    format: str
    settled_until: float
    device: int
    inode: int


@dataclass(slots=True)
class _Workload:
    tokens: float = _BURST
    counted_at: float = field(default_factory=time.monotonic)
    openers: OrderedDict[tuple[int, int, bytes], list[Opened]] = field(default_factory=OrderedDict)
    """Of files that wait, or are being looked at."""
    waiting: deque[tuple[int, int, bytes]] = field(default_factory=deque)
    looked: OrderedDict[tuple[int, int, bytes], _Looked] = field(default_factory=OrderedDict)
    queued: bool = False

    def may_ask(self, now: float) -> bool:
        """Take one of its share."""
        self.tokens = min(_BURST, self.tokens + (now - self.counted_at) * _PER_S)
        self.counted_at = now
        if self.tokens < 1.0:
            return False
        self.tokens -= 1.0
        return True


class Recogniser:
    """Takes what was opened, and gives back what is a model; never blocks its caller, never raises over a file."""

    def __init__(self, *, proc: Path = Path("/proc"), silence_s: float = 20.0, now: Callable[[], float] = time.monotonic) -> None:
        """``silence_s``: a worker that says nothing for so long is killed; beside servers that use every core, one of the lowest
        priority takes seconds to start. ``now``: a clock."""
        self._proc = os.fspath(proc)
        self._silence_s = silence_s
        self._now = now
        self._lock = threading.RLock()
        self._line: Turns[_Workload] = Turns(self._lock, each=1, together=_WORKLOADS)
        self._workloads: OrderedDict[str, _Workload] = OrderedDict()
        self._found: Shares[Opened] = Shares(_FOUND)
        self._told: Lately[Opened] = Lately(_TOLD_S, each=_TOLD_EACH, workloads=_TOLD_WORKLOADS, now=now)
        self._kept = 0
        self._lookers: dict[File, set[str]] = {}
        """Workloads for which something is kept of a file, unless it is known by its name alone."""
        self._closing = threading.Event()
        self._worker: WorkerProcess | None = None
        self.passed_over = 0
        """Files that were not looked at: their workload opened too many."""
        self.unread = 0
        """Files that could not be read to tell: their worker hung or died."""
        self.looks = 0
        """Files of which the content was looked at."""
        self._thread = threading.Thread(target=self._run, name="recognition", daemon=True)
        self._thread.start()

    def submit(self, opened: Iterable[Opened]) -> None:
        """Look at these, unless that was done; :meth:`found` gives them back if they are models."""
        with self._lock:
            for each in opened:
                self._submit(each)

    def written(self, files: Iterable[File]) -> None:
        """These were opened for writing: what they held says nothing any more."""
        with self._lock:
            for device, inode in files:
                for name in tuple(self._lookers.get((device, inode), ())):
                    del self._workloads[name].looked[device, inode, b""]
                    self._unkeep(name, (device, inode, b""))

    def found(self) -> list[Opened]:
        """What was found to be a model since the last call, with the device and inode of each."""
        with self._lock:
            found = self._found.take()
            for opened in found:
                self._told.add(opened.workload, opened)
            return found

    def begun(self, workload: str, group: int, file: File, pid: int) -> None:
        """The load that begins with a model that was given back was seen."""
        with self._lock:
            self._told.drop(workload, lambda told: (told.group, (told.device, told.inode), told.pid) == (group, file, pid))

    def unfinished(self) -> list[Opened]:
        """Of what was submitted, that for which a recogniser after a crash would have to be asked anew: the latest of each
        workload, and what surely is a model at the end, where what is left out comes last."""
        with self._lock:
            busy = [workload for workload in self._workloads.values() if workload.openers]
            each = max(1, _SHOWN // max(1, len(busy)))
            waiting = [opened for workload in busy for opened in _last(workload.openers, each)]
            return [*waiting, *self._found, *self._told]

    def problems(self) -> list[str]:
        """What whoever looks after the host should know, in words."""
        found = []
        if self.passed_over:
            found.append(f"{self.passed_over} opened files were not looked at, whether they are models: too many of one workload")
        if self._found.lost:
            found.append(f"{self._found.lost} files that are models began no load: too many of one workload")
        if self.unread:
            found.append(f"{self.unread} opened files could not be read to see whether they are models")
        return found

    def pass_over(self, count: int) -> None:
        """So many more were not even submitted."""
        self.passed_over += count

    def close(self) -> None:
        """Stop; what still waits is not looked at."""
        self._closing.set()
        if (worker := self._worker) is not None:
            worker.kill()
        with self._lock:
            self._line.close()
        self._thread.join(10)

    def _submit(self, opened: Opened) -> None:
        now = self._now()
        workload = self._workloads.get(opened.workload)
        if workload is None:
            workload = self._workloads[opened.workload] = _Workload(counted_at=now)
            self._forget_workloads()
        self._workloads.move_to_end(opened.workload)
        if (openers := workload.openers.get(opened.file)) is not None:
            if opened in openers:
                return
            # Each may begin a load, as one of another file would.
            if len(openers) < _SAME and workload.may_ask(now):
                openers.append(opened)
            else:
                self.passed_over += 1
            return
        looked = workload.looked.get(opened.file)
        settled = looked is not None and now < looked.settled_until
        if settled and looked is not None and not looked.format:
            return
        if not workload.may_ask(now):
            self.passed_over += 1
        elif settled and looked is not None:
            self._found.add(opened.workload, replace(opened, device=looked.device, inode=looked.inode))
        else:
            workload.openers[opened.file] = [opened]
            workload.waiting.append(opened.file)
            self._queue(opened.workload, workload)

    def _queue(self, name: str, workload: _Workload) -> None:
        if workload.queued or not workload.waiting:
            return
        lost = self._line.add(name, workload)
        workload.queued = lost is not workload
        if lost is not None:
            lost.queued = False
            self.passed_over += len(lost.waiting)
            for file in lost.waiting:
                lost.openers.pop(file, None)
            lost.waiting.clear()

    def _forget_workloads(self) -> None:
        """The one that opened nothing for longest goes; but not while something of it waits."""
        if len(self._workloads) <= _WORKLOADS:
            return
        for name, workload in self._workloads.items():
            if not workload.openers:
                for file in workload.looked:
                    self._unkeep(name, file)
                del self._workloads[name]
                return

    def _run(self) -> None:
        repeat(self._next, self._closing)

    def _next(self) -> bool:
        """Look at some files of the workload whose turn it is, once there is one. False: at the end."""
        if (taken := self._line.take()) is None:
            return False
        # Files are opened in bursts, and a worker costs more than a file.
        if self._closing.wait(_GATHER_S):
            return False
        name, workload = taken
        with self._lock:
            workload.queued = False
            asked = [(workload.openers[file][0], workload.looked.get(file))
                     for file in (workload.waiting.popleft() for _ in range(min(len(workload.waiting), _AT_ONCE)))]
        began = time.monotonic()
        answered: set[tuple[int, int, bytes]] = set()
        try:
            self._look(name, workload, asked, answered)
        except (WorkerFailed, OSError, ValueError, KeyError, TypeError, IndexError) as e:
            log.warning("opened files are not looked at", extra={"workload": name, "reason": str(e)[:200]})
        finally:
            with self._lock:
                for opened, _ in asked:
                    # One that was answered may be asked for anew by now.
                    if opened.file not in answered and opened.file in workload.openers:
                        del workload.openers[opened.file]
                        self.unread += 1
                self._queue(name, workload)
        return not self._closing.wait(min((time.monotonic() - began) * _REST, _REST_S))

    def _look(
        self, name: str, workload: _Workload, asked: list[tuple[Opened, _Looked | None]], answered: set[tuple[int, int, bytes]],
    ) -> None:
        """Raises WorkerFailed, OSError, ValueError, KeyError, TypeError, IndexError."""
        job = {"proc": self._proc, "files": [
            {"pid": opened.pid, "start_ns": opened.start_ns, "path": opened.path.hex(), "asked": opened.asked.hex(),
             "device": opened.device, "inode": opened.inode, "stamp": looked.stamp if looked else [],
             "format": looked.format if looked else ""} for opened, looked in asked]}
        worker = self._worker = WorkerProcess(job, self._silence_s, _DEADLINE_S, of=name, module=_MODULE)
        try:
            if self._closing.is_set():
                return
            for answer in worker.answers(""):
                opened, _ = asked[int(answer["of"])]
                if opened.file not in answered:
                    with self._lock:
                        answered.add(opened.file)
                        self._take(workload, opened, answer)
        finally:
            self._worker = None
            worker.close()

    def _take(self, workload: _Workload, opened: Opened, answer: dict[str, Any]) -> None:
        """One file was looked at."""
        openers = workload.openers.pop(opened.file)
        stamp = [int(each) for each in answer["stamp"]]
        if not stamp:
            # It is gone, or another one by now: whoever opens it again has it looked at.
            return
        before = workload.looked.get(opened.file)
        self.looks += before is None or before.stamp != stamp
        if before is None:
            self._keep(opened.workload, opened.file)
        looked = _Looked(stamp, str(answer["format"])[:32], self._now() + _SETTLED_S, int(answer["device"]), int(answer["inode"]))
        workload.looked[opened.file] = looked
        workload.looked.move_to_end(opened.file)
        if len(workload.looked) > _KEPT_EACH:
            self._unkeep(opened.workload, workload.looked.popitem(last=False)[0])
        if self._kept > _KEPT:
            most, greedy = max(self._workloads.items(), key=lambda each: len(each[1].looked))
            self._unkeep(most, greedy.looked.popitem(last=False)[0])
        if looked.format and looked.inode:
            log.info("a file is a model by its content", extra={
                "workload": opened.workload, "format": escape(looked.format.encode("utf-8", "surrogateescape")),
                "path": escape(opened.path)})
            for each in openers:
                self._found.add(each.workload, replace(each, device=looked.device, inode=looked.inode))

    def _keep(self, name: str, file: tuple[int, int, bytes]) -> None:
        """Something is kept of a file for this workload."""
        self._kept += 1
        if file[1]:
            self._lookers.setdefault(file[:2], set()).add(name)

    def _unkeep(self, name: str, file: tuple[int, int, bytes]) -> None:
        """Nothing is any more."""
        self._kept -= 1
        if file[1]:
            self._lookers[file[:2]].discard(name)
            if not self._lookers[file[:2]]:
                del self._lookers[file[:2]]


def _last(openers: OrderedDict[tuple[int, int, bytes], list[Opened]], most: int) -> list[Opened]:
    """So many, in their order."""
    latest = itertools.islice(itertools.chain.from_iterable(map(reversed, reversed(openers.values()))), most)
    return [*latest][::-1]
