"""Probes of the running workloads: attached when a library that they know is mapped, given up when they have no more to tell.

All work is done by a thread of its own, so that draining never waits for it: to give up a probe takes the kernel 40 ms. Functions
that are called once a load are probed in the file, for every process that maps it, now or later; those that run for each token or
launch in one process at a time, until the kernel side says that they have told all, and again when a load begins there.
"""

from __future__ import annotations

import contextlib
import logging
import os
import struct
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from modelward_agent import privileges
from modelward_agent.probes.mappings import mapped
from modelward_agent.probes.table import FAMILIES, Means, numbered
from modelward_agent.sensor import libbpf, uprobes
from modelward_agent.sensor.doors import DoorReport
from modelward_agent.sensor.kernel import Kernel
from modelward_agent.sensor.probing_files import ProbedFile, ProbedFiles

log = logging.getLogger(__name__)

PROBE = "probe:"
"""What the effects of probes begin with in reports."""

PROGRAMS = ("probe_call", "probe_return", "find_libraries")
"""Programs that belong to no door."""
_STEM = 32
_FIRED = _STEM + 6
"""Where ``fired`` stands in ``struct mw_probe``."""
_FIRST = struct.pack("=I", 0)
_SPENT = {Means.INFERENCE: 1, Means.DEVICE: 2}
"""``MW_SPENT_*`` of ``agent/bpf/probed.h``."""
_LOOKS_S = (0.0, 0.05, 0.2, 1.0, 3.0)
"""When maps are read after a library was opened: the linker maps it a moment later."""
_IDLE_S = 1.0
_FILES = 16
"""Of one process: it must not take the places of others by mapping ever new copies."""
_REST, _REST_S = 4.0, 2.0
_STOP_S = 10.0


@dataclass
class _Process:
    """A tracked process that has, or had, such a library."""

    pid: int
    looks: int = 0
    spent: int = 0
    due: list[float] = field(default_factory=list)
    files: dict[tuple[int, int, int], ProbedFile] = field(default_factory=dict)
    hot: dict[tuple[tuple[int, int, int], Means], list[libbpf.Link]] = field(default_factory=dict)

    def close(self) -> None:
        for links in self.hot.values():
            for link in links:
                link.close()
        self.hot.clear()


class Probes:
    """Attached to what is mapped on this host. All methods are for the thread that has the sensor."""

    def __init__(self, kernel: Kernel, *, sees_processes: bool = True, proc: Path = Path("/proc")) -> None:
        """``sees_processes``: false where the agent, in a namespace of its own, numbers processes otherwise than the kernel."""
        self._proc = proc
        self._refused = _refusal(kernel, sees_processes)
        self._reports = _reports(self._refused, [], {}, frozenset())
        self._thread: threading.Thread | None = None
        if self._refused:
            return
        _fill(kernel)
        self._heard = 0
        self._stop = threading.Event()
        self._wake = threading.Event()
        self._news = kernel.map("probe_news")
        self._probed = kernel.map("probed").again()
        self._functions = kernel.map("probes").again()
        programs = {name: kernel.programs[name].again() for name in PROGRAMS}
        self._find = programs.pop("find_libraries")
        many = uprobes.for_many()
        self._rights = privileges.PROBES if many else privileges.PROBES_ONE_BY_ONE
        self._files = ProbedFiles(programs, many=many)
        self._processes: dict[int, _Process] = {}
        self._thread = threading.Thread(target=self._run, name="probes", daemon=True)
        self._thread.start()

    def tick(self) -> None:
        """Wake the thread if there is anything for it. Cheap; to be called every 50 ms."""
        if self._thread is None:
            return
        news = int.from_bytes(self._news.lookup(_FIRST, 8), "little")
        if news != self._heard:
            self._heard = news
            self._wake.set()

    def reports(self) -> list[DoorReport]:
        """One for each family of libraries: how many of its functions are probed, and why others are not."""
        return self._reports

    def close(self) -> None:
        """Give everything up. Before the kernel side is closed."""
        if self._thread is None:
            return
        self._stop.set()
        self._wake.set()
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            log.warning("probes are still being given up")
        self._thread = None

    def _run(self) -> None:
        try:
            with contextlib.suppress(OSError):
                privileges.lower(privileges.DRAINER_AT_WORK)
            with contextlib.suppress(OSError):
                self._find.iterate()
            while not self._stop.is_set():
                began = time.thread_time()
                try:
                    with privileges.borrowed(self._rights):
                        self._work()
                except OSError as e:
                    log.warning("probes cannot be looked after", extra={"reason": str(e)})
                self._reports = _reports("", *self._files.state(), self._fired())
                self._stop.wait(rest(time.thread_time() - began))
                self._wake.wait(self._pause())
                self._wake.clear()
        finally:
            for process in self._processes.values():
                process.close()
            self._files.close()
            os.close(self._find.fd)
            os.close(self._probed.fd)
            os.close(self._functions.fd)

    def _pause(self) -> float:
        due = [process.due[0] for process in self._processes.values() if process.due]
        return max(0.0, min(min(due, default=float("inf")) - time.monotonic(), _IDLE_S))

    def _work(self) -> None:
        now = time.monotonic()
        for pid, (looks, spent) in self._listed().items():
            process = self._processes.setdefault(pid, _Process(pid))
            if looks != process.looks:
                process.looks = looks
                process.due = [now + after for after in _LOOKS_S]
            if spent != process.spent:
                process.spent = spent
                self._arm(process)
        for process in list(self._processes.values()):
            if self._stop.is_set():
                return
            if process.due and process.due[0] <= now:
                process.due = [due for due in process.due if due > now]
                self._look(process)
            elif not process.due and not (self._proc / str(process.pid)).exists():
                self._forget(process)
        self._files.drop_unused()

    def _listed(self) -> dict[int, tuple[int, int]]:
        """What the kernel side says, by process: how often to look, and what is spent."""
        found: dict[int, tuple[int, int]] = {}
        keys = self._probed.keys()
        for key in keys:
            with contextlib.suppress(OSError):
                looks, spent = struct.unpack_from("=II", self._probed.lookup(key, self._probed.value_size))
                found[struct.unpack("=I", key)[0]] = (looks, spent)
        return found

    def _fired(self) -> frozenset[int]:
        """Numbers of the functions that a tracked process called while they were probed."""
        size = self._functions.value_size
        values = self._functions.read_array(size)
        return frozenset(number for number in range(self._functions.max_entries) if values[number * size + _FIRED])

    def _look(self, process: _Process) -> None:
        try:
            found = mapped(process.pid, self._proc)
        except OSError:
            self._forget(process)
            return
        for library in found:
            if len(process.files) >= _FILES:
                return
            file = self._files.take(library, process.pid, self._proc)
            if file is not None and file.key not in process.files:
                process.files[file.key] = file
                self._arm(process)

    def _arm(self, process: _Process) -> None:
        """Probe the hot functions that have something to tell, and no others."""
        for means, spent in _SPENT.items():
            for file in process.files.values():
                if process.spent & spent:
                    for link in process.hot.pop((file.key, means), []):
                        link.close()
                elif (file.key, means) not in process.hot:
                    process.hot[file.key, means] = self._files.attach_hot(file, means, process.pid)

    def _forget(self, process: _Process) -> None:
        process.close()
        self._files.release(process.pid)
        del self._processes[process.pid]
        self._probed.delete(struct.pack("=I", process.pid))


def rest(spent_s: float) -> float:
    """How long to do nothing after so much time of a core: a process with many maps that asks for a look again and again
    must not slow down the drainer, whose interpreter this is."""
    return min(spent_s * _REST, _REST_S)


def _fill(kernel: Kernel) -> None:
    """Tell the kernel side which libraries and functions there are."""
    libraries, functions = kernel.map("libraries"), kernel.map("probes")
    for number, family in enumerate(FAMILIES):
        for stem in family.stems:
            libraries.update(stem.encode().ljust(_STEM, b"\0"), struct.pack("=I", number))
    for number, _, function in numbered():
        name = function.name.encode()
        functions.update(struct.pack("=I", number), struct.pack(
            f"={_STEM}s6B2x", name, len(name), function.means.value, function.result.value, function.model_argument,
            function.what, function.hot))


def _refusal(kernel: Kernel, sees_processes: bool) -> str:
    """Why nothing can be probed; empty when it can."""
    for name in PROGRAMS:
        if name not in kernel.programs:
            return f"{name}: {kernel.about.refused.get(name, 'not in this kernel object')}"
    if not sees_processes:
        return "the agent is in a PID namespace of its own, and cannot find processes by the kernel's numbers"
    return ""


def _reports(refused: str, files: list[ProbedFile], left: dict[int, str], fired: frozenset[int]) -> list[DoorReport]:
    """``proven``: a call was heard."""
    reports = []
    heard = {family.name for number, family, _ in numbered() if number in fired}
    for number, family in enumerate(FAMILIES):
        own = [file for file in files if file.family == number]
        attached = len({name for file in own for name in file.attached})
        problems = list(dict.fromkeys([*(text for file in own for text in file.problems), *filter(None, [left.get(number)])]))
        reason = refused or "; ".join(problems[:3])
        if attached:
            door = f"uprobe: {attached} functions of {', '.join(sorted({file.name for file in own if file.attached})[:3])}"
        else:
            door = "none" if reason else "not mapped"
        reports.append(DoorReport(PROBE + family.name, door, reason or ("first choice" if attached else
                                  "no tracked process has such a library"), family.name in heard, ""))
    return reports
