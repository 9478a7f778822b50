"""What /proc says of one process, read with bounds and checked against pid reuse."""

from __future__ import annotations

import os
import queue
import threading
from dataclasses import dataclass
from pathlib import Path

_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_MOST = 65536
_ARGUMENTS = 4096
_PATIENCE_S = 0.25
_HANGING, _HANGING_EACH = 32, 4


def same_start(one_ns: int, other_ns: int) -> bool:
    """Whether two start times are the same as far as /proc can tell."""
    return one_ns // _TICK_NS == other_ns // _TICK_NS


@dataclass(frozen=True, slots=True)
class Seen:
    """A living process as /proc showed it."""

    path: bytes
    arguments: tuple[bytes, ...]
    parent_pid: int


class ProcFiles:
    """Reads /proc/PID. Answers are None when the process is gone or its pid belongs to another one now."""

    def __init__(self, root: Path, *, may_hang: bool = False) -> None:
        """``may_hang``: the caller is a process that somebody kills when it hangs, so nothing is given up early."""
        self._root = os.fspath(root)
        self._may_hang = may_hang
        self._hanging: list[tuple[bytes, threading.Thread]] = []
        """Threads that were left behind, and the cgroup of whose command line they wait for."""

    def process(self, pid: int, start_ns: int) -> Seen | None:
        """Program and arguments of the process with that start time, to the clock tick."""
        before = self._stat(pid)
        if before is None or before[0] != start_ns // _TICK_NS:
            return None
        path = self.program(pid)
        line = self._command_line(pid)
        after = self._stat(pid)
        if not (path or line) or after is None or after[0] != before[0]:
            return None
        arguments = tuple(line.rstrip(b"\0").split(b"\0")) if line else ()
        return Seen(path.removesuffix(b" (deleted)"), arguments, before[1])

    def cgroups(self, pid: int, start_ns: int) -> bytes | None:
        """/proc/PID/cgroup."""
        return self.text(pid, start_ns, "cgroup", _MOST)

    def text(self, pid: int, start_ns: int, name: str, most: int) -> bytes | None:
        """The start of a file of the process' folder in /proc."""
        text = self._read(pid, name, most)
        started = self._stat(pid)
        if text is None or started is None or started[0] != start_ns // _TICK_NS:
            return None
        return text

    def working_folder(self, pid: int) -> bytes:
        """Its path; empty when the process is gone."""
        return self._link(pid, "cwd")

    def program(self, pid: int) -> bytes:
        """Path of the program that it runs; empty when it is gone, or a thread of the kernel's."""
        return self._link(pid, "exe")

    def lives(self, pid: int, start_ns: int) -> bool:
        """Whether the process with that start time is there, to the clock tick."""
        stat = self._stat(pid)
        return stat is not None and stat[0] == start_ns // _TICK_NS

    def mounts(self, pid: int) -> str:
        """Which mount namespace it is in; empty when the process is gone."""
        try:
            return os.readlink(f"{self._root}/{pid}/ns/mnt")
        except OSError:
            return ""

    def entered(self, key: tuple[int, int], parent: tuple[int, int]) -> bool:
        """Whether a process was put into a pid namespace from outside, as ``docker exec`` and probes do.

        Its parent lives in an outer namespace, and it is not the namespace's first process. A workload cannot come
        to look like that: within a namespace, orphans go to the namespace's first process.
        """
        own, above = self._pids(key), self._pids(parent)
        return 0 < len(above) < len(own) and own[-1] != b"1"

    def _pids(self, key: tuple[int, int]) -> list[bytes]:
        """Pids of a process in each namespace it is in, from the outermost on; none when it is gone."""
        status = self._read(key[0], "status", _MOST) or b""
        started = self._stat(key[0])
        at = status.find(b"\nNSpid:")
        if at < 0 or started is None or started[0] != key[1] // _TICK_NS:
            return []
        return status[at + 7 : status.find(b"\n", at + 1)].split()

    def key(self, pid: int) -> tuple[int, int]:
        """Pid and start time rounded down to a clock tick; (0, 0) when it is gone."""
        stat = self._stat(pid)
        return (pid, stat[0] * _TICK_NS) if stat else (0, 0)

    def _command_line(self, pid: int) -> bytes:
        """/proc/PID/cmdline is read from the process's memory, and a process can arrange for that to hang.

        So a thread waits for it, for a while. A few that hang are left behind; then no command line is read of their cgroup, nor
        any when there are many.
        """
        if self._may_hang:
            return self._read(pid, "cmdline", _ARGUMENTS) or b""
        self._hanging = [(owner, thread) for owner, thread in self._hanging if thread.is_alive()]
        owner = (self._read(pid, "cgroup", _MOST) or b"") if self._hanging else b""
        if len(self._hanging) >= _HANGING or sum(each == owner for each, _ in self._hanging) >= _HANGING_EACH:
            return b""
        answer: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        thread = threading.Thread(target=lambda: answer.put(self._read(pid, "cmdline", _ARGUMENTS)), name="cmdline", daemon=True)
        thread.start()
        try:
            return answer.get(timeout=_PATIENCE_S) or b""
        except queue.Empty:
            self._hanging.append((owner or self._read(pid, "cgroup", _MOST) or b"", thread))
            return b""

    def _link(self, pid: int, name: str) -> bytes:
        try:
            return os.readlink(f"{self._root}/{pid}/{name}".encode())
        except OSError:
            return b""

    def _stat(self, pid: int) -> tuple[int, int] | None:
        text = self._read(pid, "stat", 4096)
        if not text:
            return None
        # The name stands in parentheses and may hold any byte, parentheses too: the last one ends it.
        members = text[text.rfind(b")") + 1 :].split()
        try:
            return int(members[19]), int(members[1])
        except (IndexError, ValueError):
            return None

    def _read(self, pid: int, name: str, most: int) -> bytes | None:
        if pid <= 0:
            return None
        try:
            fd = os.open(f"{self._root}/{pid}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        parts: list[bytes] = []
        try:
            while most > 0 and (part := os.read(fd, most)):
                parts.append(part)
                most -= len(part)
        except OSError:
            return None
        finally:
            os.close(fd)
        return b"".join(parts)
