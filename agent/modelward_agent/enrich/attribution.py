"""Who did it: each run of rows of one process under the same programs becomes one set of texts.

The rows of a batch are cut at every exec. Between two execs no program changes, so a process needs one
look, however many rows it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from modelward_proto.text import escape, quote_arguments

from modelward_agent.enrich.containers import HOST, Container, parse_cgroups
from modelward_agent.enrich.inspection import Inspector
from modelward_agent.enrich.proc_files import ProcFiles, same_start
from modelward_agent.enrich.process_table import IMAGE, NO_KEY, READY, Key, Process, ProcessTable, Program
from modelward_agent.enrich.redact import redact
from modelward_agent.enrich.runtime import Runtime, guess
from modelward_agent.enrich.text_columns import clip
from modelward_agent.enrich.workloads import Workload, Workloads

# What is repeated on every row is bounded; the exec row has it whole.
_PATH = 1024
_LINE = 1024
_CACHED_CGROUPS = 4096

# Programs that copy, check or show a file and cannot run a model. Only where the system keeps programs: a
# workload may name its own file so.
_READERS = frozenset((
    "b2sum", "base64", "cat", "cksum", "cmp", "cp", "dd", "diff", "du", "file", "find", "grep", "gzip", "head", "hexdump",
    "install", "ln", "ls", "lz4", "md5sum", "mv", "od", "pigz", "rclone", "restic", "rsync", "s3cmd", "s5cmd", "scp",
    "sha1sum", "sha256sum", "sha512sum", "shred", "split", "stat", "strings", "sum", "tail", "tar", "wc", "xxd", "xz",
    "zip", "zstd",
))
_SYSTEM = ("/usr/bin/", "/bin/", "/usr/sbin/", "/sbin/", "/usr/local/bin/")


SERVER, ENTERED, READER, CHILD = range(4)
"""Indices of ``process.entry``'s values."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A process as the records of one run of rows name it."""

    key: Key
    parent: Key
    root: Key
    group: int
    cgroup: int
    is_root: bool
    is_server: bool
    time_ns: int
    ready: bool = False
    """Some row of the run is of a phase in which libraries and models are loaded: warmup or serve."""


@dataclass(frozen=True, slots=True)
class Who:
    """What every row of a sighting says of its process. All texts escaped and bounded."""

    entity_id: str = ""
    parent_id: str = ""
    root_id: str = ""
    path: str = ""
    command_line: str = ""
    parent_path: str = ""
    chain: str = ""
    entry: int = SERVER
    container: Container = HOST
    workload_id: str = ""
    runtime: str = ""
    runtime_version: str = ""
    gpus: str = ""
    workload: Workload | None = None


class Attribution:
    """Process table, workloads and containers of one boot of the host."""

    def __init__(self, boot_id: str, proc: Path | None, *, limit: int = 65536) -> None:
        """``proc`` is None for records of an earlier boot: /proc says nothing of them."""
        self.boot_id = boot_id
        self.table = ProcessTable(limit=limit)
        self.workloads = Workloads()
        self._proc = ProcFiles(proc) if proc is not None else None
        self._inspector = Inspector(proc) if proc is not None else None
        self._containers: dict[int, Container] = {}

    def close(self) -> None:
        """Nothing is asked of /proc any more."""
        if self._inspector is not None:
            self._inspector.close()

    def entity_id(self, key: Key) -> str:
        """The process key as text; empty for no process."""
        return f"{self.boot_id[:8]}-{key[0]}-{key[1]}" if key != NO_KEY else ""

    def executed(self, sighting: Sighting, path: bytes, arguments: Sequence[bytes], asked: bytes = b"") -> str:
        """A process runs another program from now on, by the name ``asked`` for. Returns its whole command line, secrets
        redacted."""
        process = self._process(sighting, ask_proc=False)
        line = quote_arguments(redact(arguments))
        program = self._program(sighting.time_ns, path, arguments, line)
        # A root is a server of the list, or was there when it opened an artifact: what it executes after that
        # is neither.
        process.run(replace(program, replaced_root=_is_root(sighting) and not sighting.is_server, asked=asked[:_PATH]))
        process.looked = 0
        return line

    def forked(self, parent: Sighting, child: Key) -> None:
        """A process made another one."""
        self.table.forked(child, self._process(parent), parent.time_ns)

    def knows(self, sighting: Sighting) -> bool:
        """Whether a process is known, or a parent in its group, whose program it runs until it execs."""
        parent = self.table.get(sighting.parent)
        of_group = parent is not None and parent.group == sighting.group != 0
        return of_group or self.table.get(sighting.key) is not None

    def who(self, sighting: Sighting, *, will_exec: bool = False) -> Who:
        """Everything that is said of a process at the time of a sighting.

        Args:
            will_exec: a later record says that it execs, so /proc may already show what it does not run yet.
        """
        if sighting.key == NO_KEY:
            return Who()
        at = sighting.time_ns
        process = self._process(sighting, ask_proc=not will_exec)
        program = process.program(at)
        parent = self._ancestor(sighting.parent)
        workload = self.workloads.of(sighting.group, sighting.root)
        self._settle(workload, process, sighting)
        if _is_root(sighting) or sighting.is_server:
            workload.runs(Runtime(program.runtime, program.runtime_rank))
        if self._inspector is not None and not will_exec:
            self._inspect(self._inspector, workload, process, program, sighting)
        return Who(
            entity_id=self.entity_id(process.key),
            parent_id=self.entity_id(sighting.parent),
            root_id=self.entity_id(sighting.root),
            path=program.path,
            command_line=program.command_line,
            parent_path=parent.program(at).path if parent is not None else "",
            chain=self.table.chain(process, at, lambda of: self._ancestor(of.parent)),
            entry=_entry(process, program, sighting),
            container=process.container or workload.container,
            workload_id=workload.id,
            runtime=workload.runtime,
            runtime_version=workload.runtime_version,
            gpus=workload.gpus,
            workload=workload,
        )

    def _inspect(
        self, inspector: Inspector, workload: Workload, process: Process, program: Program, sighting: Sighting
    ) -> None:
        """Look at a server's process once its program runs, and again once that is through with loading; at others that may run
        a model of it, once they are."""
        leading = _is_root(sighting) or sighting.is_server
        wanted = (IMAGE if leading else 0) | (READY if sighting.ready else 0)
        worth = leading or program.runtime_rank > 0
        due = sighting.group and worth and not process.exited_ns and wanted & ~process.looked
        if due and inspector.look(workload, process.key, program, ready=sighting.ready):
            process.looked |= wanted
        for key, findings in inspector.found():
            if findings.runtime is not None:
                findings.workload.runs(findings.runtime)
            if findings.gpus is not None:
                findings.workload.holds(key, findings.gpus, self._alive)

    def _alive(self, key: Key) -> bool:
        process = self.table.get(key)
        return process is not None and not process.exited_ns

    def _process(self, sighting: Sighting, *, ask_proc: bool = True) -> Process:
        process = self.table.get(sighting.key)
        if process is None:
            process = self._first_sight(sighting, ask_proc)
        process.root, process.group = sighting.root, sighting.group
        if process.parent == NO_KEY or (process.parent[0] == sighting.parent[0] and not process.parent_exact):
            process.parent, process.parent_exact = sighting.parent, True
        unknown = process.container is None and not process.container_sought
        if unknown or (sighting.cgroup and sighting.cgroup != process.cgroup):
            process.container = self._container(process.key, sighting.cgroup) or process.container
            process.container_sought = process.container is None
            process.cgroup = sighting.cgroup
        return process

    def _first_sight(self, sighting: Sighting, ask_proc: bool) -> Process:
        """A process of which no fork was recorded: a root, or one from before the agent, or the record is lost."""
        process = Process(sighting.key, parent=sighting.parent, parent_exact=True)
        parent = self.table.get(sighting.parent)
        if ask_proc:
            self._ask_proc(process)
        if not process.programs and parent is not None and parent.programs:
            process.programs.append(parent.program(sighting.time_ns))
        # Others than roots have their group from a parent in it: they came from inside, whoever is their parent now.
        if _is_root(sighting) and self._proc is not None:
            process.entered = self._proc.entered(sighting.key, sighting.parent)
        return self.table.add(process)

    def _ancestor(self, key: Key) -> Process | None:
        """A process that is known only as somebody's parent."""
        if key == NO_KEY or key[0] == 0:
            return None
        process = self.table.get(key) or self.table.near(key, same_start)
        if process is None:
            process = Process(key)
            self._ask_proc(process)
            self.table.add(process)
        return process

    def _ask_proc(self, process: Process) -> None:
        seen = self._proc.process(*process.key) if self._proc is not None else None
        if seen is None or self._proc is None:
            return
        line = quote_arguments(redact(seen.arguments))
        process.programs.append(self._program(process.key[1], seen.path, seen.arguments, line))
        if process.parent == NO_KEY:
            process.parent = self._proc.key(seen.parent_pid)
            process.parent_exact = False

    def _program(self, since_ns: int, path: bytes, arguments: Sequence[bytes], line: str) -> Program:
        text = escape(path)
        runtime, rank = guess(text, arguments)
        return Program(since_ns, clip(text, _PATH), clip(line, _LINE), runtime, rank)

    def _settle(self, workload: Workload, process: Process, sighting: Sighting) -> None:
        """Decide once what the workload is called: by its container, else by its first process."""
        if workload.id and workload.settled:
            return
        container = None if workload.root_sought else self._container(workload.root, 0)
        workload.root_sought = True
        container = container or process.container
        if container is not None:
            workload.container, workload.settled = container, True
        if sighting.group:
            found = f"container:{container.short}" if container and container.id else ""
            workload.id = found or f"host:{self.entity_id(workload.root)}"

    def _container(self, key: Key, cgroup: int) -> Container | None:
        """The container a process is in; None when it is gone and its cgroup was never seen."""
        if cgroup in self._containers:
            return self._containers[cgroup]
        text = self._proc.cgroups(*key) if self._proc is not None else None
        if text is None:
            return None
        container = parse_cgroups(text)
        unified = b"\n".join(line for line in text.splitlines() if line.startswith(b"0::"))
        # Where the unified hierarchy alone names the container, its cgroup id does so for processes
        # that are gone.
        if cgroup and container.id and parse_cgroups(unified) == container:
            if len(self._containers) >= _CACHED_CGROUPS:
                del self._containers[next(iter(self._containers))]
            self._containers[cgroup] = container
        return container


def _is_root(sighting: Sighting) -> bool:
    return sighting.is_root or sighting.key == sighting.root != NO_KEY


def _entry(process: Process, program: Program, sighting: Sighting) -> int:
    if sighting.is_server:
        return SERVER
    if process.entered:
        return ENTERED
    if not _is_root(sighting) or program.replaced_root:
        return CHILD
    return READER if program.path.startswith(_SYSTEM) and program.name in _READERS else SERVER
