"""Finds out what one process runs, in a process of its own: ``python -m modelward_agent.enrich.inspection_worker``.

A job comes as a line of JSON on standard input: ``pid``, ``start_ns``, ``proc``, and ``asked``, the name given to execve as hex.
The answer is a line on standard output: ``runtime``, the members of a :class:`~modelward_agent.enrich.runtime.Runtime`, None when
the process is gone; or ``failed``. Whatever it reads may hang: who started it kills it then.

While it is privileged it reads what the kernel says of the process, and opens folders and files below that process's root. What
lies in them is read after it has given up its privileges.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from modelward_agent.confinement import confine, end_with_starter
from modelward_agent.enrich.packages import MAPS_BYTES, look_up, mapped_files
from modelward_agent.enrich.proc_files import ProcFiles, Seen
from modelward_agent.enrich.runtime import Runtime, guess, is_spawned, recognise
from modelward_agent.identity.low_priority import yield_to_all
from modelward_agent.identity.opening import places

_LINE = 1 << 16
_MEMORY = 1 << 30
_CPU_S = 20
_SPAWNS = 3


def main() -> int:
    """Do one job. Exit status 0 even when nothing was found."""
    end_with_starter()
    yield_to_all()
    line = sys.stdin.buffer.readline(_LINE)
    if not line:
        # Who asked is gone.
        return 0
    job = json.loads(line)
    try:
        runtime = _runtime((job["pid"], job["start_ns"]), Path(job["proc"]), bytes.fromhex(job["asked"]))
        answer: dict[str, object] = {"runtime": asdict(runtime) if runtime else None}
    except OSError as e:
        answer = {"failed": f"cannot be looked at: {e.strerror}"}
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()
    return 0


def _runtime(key: tuple[int, int], proc: Path, asked: bytes) -> Runtime | None:
    files = ProcFiles(proc, may_hang=True)
    seen = files.process(*key)
    maps = files.text(*key, "maps", MAPS_BYTES)
    if seen is None or maps is None:
        return None
    path = seen.path.decode("utf-8", "replace")
    starter = _starter(files, seen)
    known = max(guess(path, seen.arguments), guess(path, starter.arguments), key=lambda found: found[1])
    found = places(*key, proc)
    if len(found) < 2:
        return None
    used = look_up(found[0], mapped_files(maps), seen.path, starter.arguments, files.working_folder(key[0]), asked, _confined)
    return recognise(known, path, used)


def _confined(opened: Sequence[int]) -> None:
    confine(opened, memory=_MEMORY, cpu_s=_CPU_S)


def _starter(files: ProcFiles, seen: Seen) -> Seen:
    """Whose script a process of Python's multiprocessing runs; any other process itself."""
    for _ in range(_SPAWNS):
        if not is_spawned(seen.arguments):
            return seen
        above = files.process(*files.key(seen.parent_pid))
        if above is None:
            return seen
        seen = above
    return seen


if __name__ == "__main__":
    sys.exit(main())
