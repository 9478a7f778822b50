"""Which program a process ran at a time, and which programs stand between it and its workload's root.

A process is its key (thread group id, start time), so a reused pid is another process. The table is fed in
time order by exec, fork and
exit records, and from /proc for processes that were there before. An exited process stays 10 minutes, for
the sake of what it started.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from modelward_agent.enrich.containers import Container
from modelward_agent.enrich.text_columns import clip

Key = tuple[int, int]
"""(tgid, start_ns)"""

NO_KEY: Key = (0, 0)
KEEP_EXITED_NS = 600_000_000_000
IMAGE, READY = 1, 2
"""When a process is looked at: once its program runs, and once it is through with loading."""
_PROGRAMS = 8
_CHAIN = 12
_NAME = 64
_GAP = "…"


@dataclass(frozen=True, slots=True)
class Program:
    """What a process runs from a time on. Texts are escaped and bounded."""

    since_ns: int
    path: str
    command_line: str
    runtime: str = ""
    runtime_rank: int = 0
    replaced_root: bool = False
    """It took the place of the program for whose sake its process is tracked."""
    asked: bytes = b""
    """The name given to execve, where that was seen."""

    @property
    def name(self) -> str:
        """Base name for a chain. ``>`` in a name cannot forge a link of it."""
        name = self.path.rsplit("/", 1)[-1] or self.path
        return clip(name, _NAME).replace(">", "\\x3e") or "?"


NO_PROGRAM = Program(0, "", "")


@dataclass(slots=True)
class Process:
    """One process, alive or exited."""

    key: Key
    parent: Key = NO_KEY
    parent_exact: bool = False
    """False when the parent's start time is known at the resolution of /proc only."""
    root: Key = NO_KEY
    group: int = 0
    cgroup: int = 0
    container: Container | None = None
    container_sought: bool = False
    """/proc was asked in vain: it is gone, and will not come back."""
    entered: bool = False
    """Started from outside its container's pid namespace, and not as its first process."""
    exited_ns: int = 0
    looked: int = 0
    """For what it was already looked at in /proc (``IMAGE``, ``READY``)."""
    programs: list[Program] = field(default_factory=list)

    def program(self, at_ns: int) -> Program:
        """The program that ran at a time; the earliest known for times before that."""
        for program in reversed(self.programs):
            if program.since_ns <= at_ns:
                return program
        return self.programs[0] if self.programs else NO_PROGRAM

    def run(self, program: Program) -> None:
        """From now on (or from then on, when told late) it runs this program."""
        at = len(self.programs)
        while at and self.programs[at - 1].since_ns > program.since_ns:
            at -= 1
        if at and self.programs[at - 1].since_ns == program.since_ns:
            self.programs[at - 1] = program
        else:
            self.programs.insert(at, program)
        del self.programs[:-_PROGRAMS]


def _same(one: Key, other: Key) -> bool:
    """Keys of one process; one of them may come from /proc, which counts in hundredths of a second."""
    return one[0] == other[0] and abs(one[1] - other[1]) <= 10_000_000


class ProcessTable:
    """Bounded: when full, the longest exited goes first, then the longest unused; ``evicted`` counts
    those."""

    def __init__(self, *, limit: int = 65536) -> None:
        self._limit = limit
        self._processes: OrderedDict[Key, Process] = OrderedDict()
        self._exited: deque[tuple[int, Key]] = deque()
        self._latest: dict[int, Key] = {}
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._processes)

    def get(self, key: Key) -> Process | None:
        """A known process; using it keeps it from being evicted."""
        process = self._processes.get(key)
        if process is not None:
            self._processes.move_to_end(key)
        return process

    def near(self, key: Key, same: Callable[[int, int], bool]) -> Process | None:
        """The latest process of that pid, if its start time is the same at a coarser resolution."""
        latest = self._latest.get(key[0])
        return self.get(latest) if latest is not None and same(latest[1], key[1]) else None

    def add(self, process: Process) -> Process:
        """Take in a process; one already known by that key stays."""
        known = self._processes.setdefault(process.key, process)
        self._processes.move_to_end(process.key)
        self._latest[process.key[0]] = process.key
        while len(self._processes) > self._limit:
            self._evict()
        return known

    def forked(self, child: Key, parent: Process, at_ns: int) -> Process:
        """A child runs its parent's program until it execs. If it is known already, only what was unknown
        is filled in."""
        process = self._processes.get(child)
        if process is None:
            program = parent.program(at_ns)
            programs = [program] if program is not NO_PROGRAM else []
            process = self.add(Process(child, programs=programs, looked=parent.looked & IMAGE))
        process.parent, process.parent_exact = parent.key, True
        process.root = process.root if process.root != NO_KEY else parent.root
        process.group = process.group or parent.group
        if process.container is None:
            process.container, process.cgroup = parent.container, parent.cgroup
        process.entered = False
        return process

    def exited(self, key: Key, at_ns: int) -> None:
        """Start the 10 minutes for which an exited process is kept."""
        process = self._processes.get(key)
        if process is not None and not process.exited_ns:
            process.exited_ns = at_ns
            self._exited.append((at_ns, key))

    def expire(self, now_ns: int) -> None:
        """Forget who exited more than 10 minutes ago."""
        while self._exited and self._exited[0][0] < now_ns - KEEP_EXITED_NS:
            self._forget(self._exited.popleft()[1])

    def chain(self, process: Process, at_ns: int, parent_of: Callable[[Process], Process | None]) -> str:
        """``root > … > process``: the program that each ran at that time, at most 12 names.

        Args:
            parent_of: finds the parent of a process that this table may not hold yet.
        """
        names: list[str] = []
        walked: set[Key] = set()
        current: Process | None = process
        complete = process.root == NO_KEY or process.entered
        while current is not None and current.key not in walked and len(walked) < 256:
            if names and not current.programs and current.parent == NO_KEY:
                break
            names.append(current.program(at_ns).name)
            walked.add(current.key)
            if _same(current.key, process.root):
                complete = True
                break
            current = parent_of(current)
        names.reverse()
        if not complete:
            root = self._processes.get(process.root)
            names[:0] = [root.program(at_ns).name, _GAP] if root is not None else [_GAP]
        if len(names) > _CHAIN:
            names[4 : len(names) - (_CHAIN - 5)] = [_GAP]
        return " > ".join(names)

    def living(self) -> Iterable[Process]:
        """Processes of workloads not known to have exited."""
        return (process for process in self._processes.values() if process.group and not process.exited_ns)

    def _evict(self) -> None:
        self.evicted += 1
        while self._exited:
            if self._forget(self._exited.popleft()[1]):
                return
        self._forget(next(iter(self._processes)))

    def _forget(self, key: Key) -> bool:
        if self._latest.get(key[0]) == key:
            del self._latest[key[0]]
        return self._processes.pop(key, None) is not None
