"""What processes use, as /proc says: CPU seconds and memory of a process with all that it started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Family:
    """A process and its descendants, by what each of them runs."""

    members: dict[int, str]

    @classmethod
    def of(cls, pid: int) -> Family:
        """Look who is there now."""
        parents: dict[int, int] = {}
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, ValueError, IndexError):
                continue
        found, wanted = [pid], [pid]
        while wanted:
            wanted = [child for child, parent in parents.items() if parent in wanted]
            found += wanted
        return cls({one: _runs(one) for one in found})

    def cpu_s(self, what: str = "") -> float:
        """CPU seconds so far, of those whose command line holds ``what``, with what children of theirs used that have ended."""
        return sum(cpu_s(pid) for pid, runs in self.members.items() if what in runs)

    def pss_bytes(self, without: Iterable[str] = ()) -> int:
        """Proportional memory; mappings whose name holds one of ``without`` left out."""
        return sum(_pss(pid, tuple(without)) for pid in self.members)


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, all threads, with those of its ended children; to a hundredth."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    # utime, stime, cutime, cstime: what a child used goes to its parent when it ends, so that a sum over a family never falls.
    return sum(int(field) for field in fields[11:15]) / _TICKS


def _runs(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
    except OSError:
        return ""


def _pss(pid: int, without: tuple[str, ...]) -> int:
    total, counts = 0, True
    try:
        lines = Path(f"/proc/{pid}/smaps").read_text(errors="replace").splitlines()
    except OSError:
        return 0
    for line in lines:
        if line[:1] in "0123456789abcdef":
            counts = not any(word in line for word in without)
        elif counts and line.startswith("Pss:"):
            total += int(line.split()[1]) << 10
    return total
